//! `uproar admin`: what operators do, from a terminal, over the server's HTTP interface.
//!
//! Owns the subcommands and what each asks for. The API key comes from the environment or the
//! configuration, never from the command line, where others on the machine would see it.

mod call;
mod show;
mod when;

use crate::{ConfigArgs, Failure};
use call::{Api, segment};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use show::Out;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// How often an erasure that is waited for is asked about.
const ERASURE_LOOK: Duration = Duration::from_millis(500);

/// Entries a list shows where nobody says.
const LIMIT_DEFAULT: usize = 100;
/// Entries one request of a list asks for.
const PAGE: usize = 200;

#[derive(Args, Clone, Debug)]
#[command(after_help = "The key is read from UPROAR_API_KEY, or is http.api_key of the \
    configuration.\nExit codes: 0 done, 1 failed (cannot be reached, refused, not found), 2 wrong \
    command line or configuration.")]
pub(crate) struct AdminArgs {
    /// Where the server's HTTP interface is; without it, http.listen of the configuration.
    #[arg(long, value_name = "URL", env = "UPROAR_API", global = true)]
    api: Option<String>,
    /// Print JSON, one object a line, as the server answered.
    #[arg(long, global = true)]
    json: bool,
    /// The configuration file (TOML) of the server: its address and its key.
    #[arg(long, value_name = "FILE", env = "UPROAR_CONFIG", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: AdminCommand,
}

#[derive(Subcommand, Clone, Debug)]
enum AdminCommand {
    /// List, show, create, ban, export and erase users; end their sessions.
    #[command(subcommand)]
    Users(UsersCommand),
    /// List, show, change and end groups.
    #[command(subcommand)]
    Groups(GroupsCommand),
    /// Look for messages by time, and take them back.
    #[command(subcommand)]
    Messages(MessagesCommand),
    /// Print all data of a user, one JSON object a line; as `users export`.
    Export { user: String },
}

#[derive(Subcommand, Clone, Debug)]
enum UsersCommand {
    /// List users by name.
    List {
        /// Only names that begin so.
        #[arg(long)]
        prefix: Option<String>,
        /// Of this issuer; `erased` lists users that were erased.
        #[arg(long)]
        issuer: Option<String>,
        /// Entries at most; 0: all.
        #[arg(long, default_value_t = LIMIT_DEFAULT)]
        limit: usize,
    },
    /// Show a user.
    Show { user: String },
    /// Make users. Those that are there stay as they are.
    Create {
        #[arg(required = true)]
        users: Vec<String>,
        /// Read the password of the one user from standard input.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Keep a user out: sessions end, connections close.
    Ban {
        user: String,
        /// For so long: 90s, 15m, 1h, 7d. Without it: until it is lifted.
        #[arg(long = "for", value_name = "TIME", value_parser = crate::token::seconds)]
        ban_s: Option<u64>,
        /// For operators; the user is not told.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Lift a ban.
    Unban { user: String },
    /// List the sessions of a user.
    Sessions { user: String },
    /// End all sessions of a user; its connections close.
    Revoke { user: String },
    /// Print all data of a user, one JSON object a line.
    Export { user: String },
    /// Erase a user, for ever.
    Erase {
        user: String,
        /// It is meant.
        #[arg(long)]
        yes: bool,
        /// Return when nothing of it is left.
        #[arg(long)]
        wait: bool,
    },
    /// Show how far an erasure is.
    Erasure { user: String },
}

#[derive(Subcommand, Clone, Debug)]
enum GroupsCommand {
    /// List groups.
    List {
        /// Entries at most; 0: all.
        #[arg(long, default_value_t = LIMIT_DEFAULT)]
        limit: usize,
    },
    /// Show a group.
    Show { group: String },
    /// List the members of a group.
    Members {
        group: String,
        /// Entries at most; 0: all.
        #[arg(long, default_value_t = LIMIT_DEFAULT)]
        limit: usize,
    },
    /// Hand a group on to another member.
    Transfer { group: String, user: String },
    /// Remove a member.
    Remove { group: String, user: String },
    /// End a group.
    End { group: String },
}

/// Where messages stand.
#[derive(Args, Clone, Debug, Default)]
struct WhereArgs {
    /// In this group.
    #[arg(long)]
    group: Option<String>,
    /// With --peer: between the two. Else: by this user.
    #[arg(long)]
    user: Option<String>,
    /// The other one of two.
    #[arg(long, requires = "user")]
    peer: Option<String>,
}

#[derive(Subcommand, Clone, Debug)]
enum MessagesCommand {
    /// Look for messages: a scan along a conversation, not an index of words.
    Search {
        #[command(flatten)]
        place: WhereArgs,
        /// Not before: 2026-11-23, 2026-11-23T10:00:00Z (UTC), or 2h ago as 2h.
        #[arg(long, value_name = "TIME", value_parser = when::moment)]
        from: Option<i64>,
        /// Not after.
        #[arg(long, value_name = "TIME", value_parser = when::moment)]
        to: Option<i64>,
        /// A part of the text, whatever its case.
        #[arg(long, value_name = "TEXT")]
        contains: Option<String>,
        /// The oldest first.
        #[arg(long)]
        oldest: bool,
        /// Messages at most; 0: all.
        #[arg(long, default_value_t = LIMIT_DEFAULT)]
        limit: usize,
    },
    /// Take a message back, for everybody.
    Recall {
        #[command(flatten)]
        place: WhereArgs,
        /// The message's.
        seq: u64,
    },
}

/// Carries out a subcommand.
pub(crate) fn admin(args: AdminArgs) -> Result<ExitCode, Failure> {
    let AdminArgs { api, json, config, command } = args;
    let config = ConfigArgs { config, set: Vec::new() }.load()?;
    let mut work = Work { api: Api::new(api, &config)?, out: Out { json } };
    match command {
        AdminCommand::Users(command) => work.users(command),
        AdminCommand::Groups(command) => work.groups(command),
        AdminCommand::Messages(command) => work.messages(command),
        AdminCommand::Export { user } => work.export(&user),
    }
}

struct Work {
    api: Api,
    out: Out,
}

type Done = Result<ExitCode, Failure>;

const USER: [&str; 4] = ["user", "created_unix_ms", "has_password", "erased"];
const GROUP: [&str; 5] = ["group", "name", "owner", "members", "ended"];
const MEMBER: [&str; 3] = ["user", "role", "muted_until_unix_ms"];
const SESSION: [&str; 5] =
    ["session", "device", "created_unix_ms", "used_unix_ms", "expires_unix_ms"];
const MESSAGE: [&str; 7] = ["time_unix_ms", "group", "between", "seq", "user", "kind", "text"];

impl Work {
    fn users(&mut self, command: UsersCommand) -> Done {
        match command {
            UsersCommand::List { prefix, issuer, limit } => {
                let query = [("prefix", prefix), ("issuer", issuer)];
                self.list(("/v1/admin/users", "users"), &query, &USER, limit)
            }
            UsersCommand::Show { user } => self.show(&of_user(&user, "")),
            UsersCommand::Create { users, password_stdin } => self.create(users, password_stdin),
            UsersCommand::Ban { user, ban_s, reason } => {
                let body = json!({"ban_s": ban_s, "reason": reason});
                let ban = self.api.call("PUT", &of_user(&user, "/ban"), &body)?;
                self.out.object(&ban)
            }
            UsersCommand::Unban { user } => self.quiet("DELETE", &of_user(&user, "/ban")),
            UsersCommand::Sessions { user } => {
                let found = self.api.call("GET", &of_user(&user, "/sessions"), &Value::Null)?;
                self.out.list(&entries(&found, "sessions"), &SESSION)
            }
            UsersCommand::Revoke { user } => self.quiet("DELETE", &of_user(&user, "/sessions")),
            UsersCommand::Export { user } => self.export(&user),
            UsersCommand::Erase { user, yes, wait } => self.erase(&user, yes, wait),
            UsersCommand::Erasure { user } => self.show(&of_user(&user, "/erasure")),
        }
    }

    fn groups(&mut self, command: GroupsCommand) -> Done {
        let path = |group: &str, rest: &str| format!("/v1/admin/groups/{}{rest}", segment(group));
        match command {
            GroupsCommand::List { limit } => {
                self.list(("/v1/admin/groups", "groups"), &[], &GROUP, limit)
            }
            GroupsCommand::Show { group } => self.show(&path(&group, "")),
            GroupsCommand::Members { group, limit } => {
                self.list((&path(&group, "/members"), "members"), &[], &MEMBER, limit)
            }
            GroupsCommand::Transfer { group, user } => {
                let body = json!({"user": user});
                let group = self.api.call("PUT", &path(&group, "/owner"), &body)?;
                self.out.object(&group)
            }
            GroupsCommand::Remove { group, user } => {
                self.quiet("DELETE", &path(&group, &format!("/members/{}", segment(&user))))
            }
            GroupsCommand::End { group } => self.quiet("DELETE", &path(&group, "")),
        }
    }

    fn messages(&mut self, command: MessagesCommand) -> Done {
        match command {
            MessagesCommand::Search { place, from, to, contains, oldest, limit } => {
                let query = [
                    ("group", place.group),
                    ("user", place.user),
                    ("peer", place.peer),
                    ("from_unix_ms", from.map(|moment| moment.to_string())),
                    ("to_unix_ms", to.map(|moment| moment.to_string())),
                    ("contains", contains),
                    ("order", oldest.then(|| "oldest".to_owned())),
                ];
                self.list(("/v1/admin/messages", "messages"), &query, &MESSAGE, limit)
            }
            MessagesCommand::Recall { place, seq } => {
                let WhereArgs { group, user, peer } = place;
                let mut body = Map::new();
                for (name, value) in [("group", group), ("user", user), ("peer", peer)] {
                    body.extend(value.map(|value| (name.to_owned(), Value::String(value))));
                }
                body.insert("seq".into(), Value::String(seq.to_string()));
                let path = "/v1/admin/messages/recall";
                let recalled = self.api.call("POST", path, &Value::Object(body))?;
                self.out.object(&recalled)
            }
        }
    }

    fn show(&mut self, path: &str) -> Done {
        let found = self.api.call("GET", path, &Value::Null)?;
        self.out.object(&found)
    }

    /// A change that answers nothing.
    fn quiet(&mut self, method: &str, path: &str) -> Done {
        self.api.call(method, path, &Value::Null)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Page after page of a list, until it ends or shows `limit` entries.
    fn list(
        &mut self,
        (path, of): (&str, &str),
        query: &[(&str, Option<String>)],
        columns: &[&str],
        limit: usize,
    ) -> Done {
        let mut found = Vec::new();
        let mut after: Option<String> = None;
        let limit = if limit == 0 { usize::MAX } else { limit };
        loop {
            let many = PAGE.min(limit - found.len());
            let mut parts = vec![format!("limit={many}")];
            let given = query.iter().map(|(name, value)| (*name, value.as_deref()));
            for (name, value) in given.chain([("after", after.as_deref())]) {
                parts.extend(value.map(|value| format!("{name}={}", segment(value))));
            }
            let page = format!("{path}?{}", parts.join("&"));
            let page = self.api.call("GET", &page, &Value::Null)?;
            let entries = entries(&page, of);
            if self.out.json {
                // As they come: a long list is not held.
                self.out.list(&entries, columns)?;
            }
            found.extend(entries);
            after = page["next"].as_str().map(str::to_owned);
            if after.is_none() || found.len() >= limit {
                break;
            }
        }
        if after.is_some() {
            eprintln!("there are more; --limit 0 shows all of them");
        }
        if self.out.json { Ok(ExitCode::SUCCESS) } else { self.out.list(&found, columns) }
    }

    fn create(&mut self, users: Vec<String>, password_stdin: bool) -> Done {
        let mut password = None;
        if password_stdin {
            if users.len() != 1 {
                let text = "--password-stdin is for one user at a time";
                return Err(Failure::Usage(text.into()));
            }
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|e| Failure::Failed(format!("standard input cannot be read: {e}")))?;
            password = Some(text.trim_end_matches(['\r', '\n']).to_owned());
        }
        let user = |user: String| match &password {
            Some(password) => json!({"user": user, "password": password}),
            None => json!({"user": user}),
        };
        let body = json!({"users": users.into_iter().map(user).collect::<Vec<_>>()});
        let made = self.api.call("PUT", "/v1/users", &body)?;
        self.out.list(&entries(&made, "users"), &["user", "user_id", "created"])
    }

    fn erase(&mut self, user: &str, yes: bool, wait: bool) -> Done {
        if !yes {
            let text = format!("erasing {user:?} cannot be undone; --yes says that it is meant");
            return Err(Failure::Usage(text));
        }
        let mut erasure = self.api.call("DELETE", &of_user(user, ""), &Value::Null)?;
        while wait && erasure["state"] == "running" {
            std::thread::sleep(ERASURE_LOOK);
            erasure = self.api.call("GET", &of_user(user, "/erasure"), &Value::Null)?;
        }
        self.out.object(&erasure)
    }

    fn export(&mut self, user: &str) -> Done {
        self.api.export(&of_user(user, "/export"))
    }
}

fn of_user(user: &str, rest: &str) -> String {
    format!("/v1/admin/users/{}{rest}", segment(user))
}

fn entries(page: &Value, of: &str) -> Vec<Value> {
    page[of].as_array().cloned().unwrap_or_default()
}
