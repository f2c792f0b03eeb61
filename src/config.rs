//! The configuration of the whole process, and the layers it is put together from.
//!
//! Owns the order (defaults, file, environment, flags), the checks between sections, and how it
//! is shown. What a key of a section means is the section's own business.

use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fmt;
use toml::{Table, Value};
use uproar_control::tokens;
use uproar_proto::control::BeforePublish;
use uproar_proto::issuers::Issuers;

/// Everything that can be set; `uproar.toml` documents every key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Shards, rooms, tokens, limits of clients.
    pub(crate) engine: uproar_engine::config::Config,
    /// The interface for backends and operators.
    pub(crate) http: uproar_control::Config,
    /// What a browser is served.
    pub(crate) pages: uproar_control::PagesConfig,
    /// Who may look at /admin.
    pub(crate) admin: uproar_control::AdminConfig,
    /// Users, relationships and conversations.
    pub(crate) store: uproar_control::StoreConfig,
    /// People who log in with a password.
    pub(crate) accounts: uproar_control::AccountSettings,
    /// Devices and networks that are kept out.
    pub(crate) blocks: uproar_control::BlocksConfig,
    /// How large groups may be.
    pub(crate) groups: uproar_control::GroupsConfig,
    /// Reports of the quality of streams.
    pub(crate) quality: uproar_control::QualityConfig,
    /// Lines of rooms and videos, for replay.
    pub(crate) danmaku: uproar_control::DanmakuConfig,
    /// How a control process and its engines meet.
    pub(crate) link: uproar_link::Config,
    /// Who is told of what happens, and asked.
    pub(crate) webhooks: Vec<uproar_control::WebhookSettings>,
    /// What is logged.
    pub(crate) log: Log,
}

/// Which process a configuration is for. What does not concern a process is no error there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Any of them: a file that is checked.
    Any,
    /// `uproar serve`.
    Serve,
    /// `uproar control`.
    Control,
    /// `uproar engine`.
    Engine,
}

/// Section `[log]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    /// `error`, `warn`, `info`, `debug` or `trace`, also by module: `warn,uproar_engine=debug`.
    pub(crate) filter: String,
}

impl Default for Log {
    fn default() -> Log {
        Log { filter: "info".into() }
    }
}

/// Where a single setting came from: shown in its error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    shown: String,
    path: Vec<String>,
}

/// What names of variables that set a key begin with; two underscores stand for a dot. (A single
/// one would meet the variables that container platforms set for a service called `uproar`.)
const VARIABLE_PREFIX: &str = "UPROAR__";

/// Keys that are shown only when asked for.
const SECRETS: [&[&str]; 8] = [
    &["danmaku", "s3", "secret_access_key"],
    &["engine", "tokens", "issuers", "key"],
    &["engine", "tokens", "hs256_secret"],
    &["http", "api_key"],
    &["http", "eddsa_private_key"],
    &["store", "url"],
    &["link", "key"],
    &["webhooks", "secret"],
];

impl Origin {
    /// `--set key=...`.
    pub(crate) fn flag(key: &str) -> Origin {
        let path = key.split('.').map(str::to_owned).collect();
        Origin { shown: format!("--set {key}"), path }
    }

    /// A variable, where its name is one that sets a key.
    fn variable(name: &str) -> Option<Origin> {
        let key = name.strip_prefix(VARIABLE_PREFIX)?;
        let path = key.split("__").map(str::to_lowercase).collect();
        Some(Origin { shown: name.to_owned(), path })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// The settings among these variables, by name.
pub(crate) fn from_environment(
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Vec<(Origin, String)> {
    let mut settings: Vec<(Origin, String)> = variables
        .filter_map(|(name, value)| {
            let origin = Origin::variable(name.to_str()?)?;
            Some((origin, value.to_string_lossy().into_owned()))
        })
        .collect();
    settings.sort_by(|a, b| a.0.path.cmp(&b.0.path));
    settings
}

/// The names of all sections, as variables spell them.
fn sections() -> Vec<String> {
    // The defaults have a form in TOML: `uproar config show` is tested to print them.
    let table = Table::try_from(Config::default()).unwrap_or_default();
    table.keys().map(|section| section.to_uppercase()).collect()
}

/// A warning for each variable that looks like a setting and, for want of an underscore, is none.
/// (No error: `UPROAR_HTTP_SERVICE_HOST` may be a container platform's own.)
pub(crate) fn misspelt(variables: impl Iterator<Item = (OsString, OsString)>) -> Vec<String> {
    let sections = sections();
    let warning = |name: &str| {
        let rest = name.strip_prefix("UPROAR_").filter(|rest| !rest.starts_with('_'))?;
        let after = |section: &String| rest.strip_prefix(section.as_str());
        let (section, key) = sections.iter().find_map(|s| Some((s, after(s)?)))?;
        let meant = match key.trim_start_matches('_') {
            "" => format!("{VARIABLE_PREFIX}{section}"),
            key => format!("{VARIABLE_PREFIX}{section}__{key}"),
        };
        let alike = key.is_empty() || key.starts_with('_');
        let told = format!("{name} sets nothing; two underscores stand for a dot, as in {meant}");
        alike.then_some(told)
    };
    let mut warnings: Vec<String> =
        variables.filter_map(|(name, _)| warning(name.to_str()?)).collect();
    warnings.sort();
    warnings
}

/// The defaults, under a file (name and text), under single settings in their order.
///
/// # Errors
/// Which key is wrong, where it was set, what is allowed.
pub(crate) fn layered(
    file: Option<(&str, &str)>,
    settings: Vec<(Origin, String)>,
) -> Result<Config, String> {
    let mut table = Table::new();
    if let Some((name, text)) = file {
        // Read as the whole configuration first: only then does an error know its line.
        toml::from_str::<Config>(text).map_err(|e| format!("{name}: {e}"))?;
        table = text.parse().map_err(|e| format!("{name}: {e}"))?;
    }
    for (origin, text) in settings {
        table = overlay(table, &origin, &text).map_err(|e| format!("{origin}: {e}"))?;
    }
    table.try_into().map_err(|e: toml::de::Error| e.to_string())
}

/// Sets one key to what `text` means there: a TOML value, else a list without its brackets, else
/// plain text, whichever the key takes.
fn overlay(table: Table, origin: &Origin, text: &str) -> Result<Table, String> {
    let mut first_error = None;
    let readings =
        [toml_value(text), toml_value(&format!("[{text}]")), Some(Value::String(text.to_owned()))];
    for value in readings.into_iter().flatten() {
        let mut table = table.clone();
        insert(&mut table, &origin.path, value)?;
        match table.clone().try_into::<Config>() {
            Ok(_) => return Ok(table),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    Err(first_error.map_or_else(|| "it has no value".into(), |e| e.to_string().trim().to_owned()))
}

fn toml_value(text: &str) -> Option<Value> {
    let mut table: Table = format!("value = {text}").parse().ok()?;
    let value = table.remove("value");
    value.filter(|_| table.is_empty()) // more keys: the text was more than a value
}

fn insert(table: &mut Table, path: &[String], value: Value) -> Result<(), String> {
    let Some((last, sections)) = path.split_last() else {
        return Err("a key is missing".into());
    };
    let mut place = table;
    for section in sections {
        let next = place.entry(section.as_str()).or_insert_with(|| Value::Table(Table::new()));
        place = next.as_table_mut().ok_or_else(|| format!("{section} is not a section"))?;
    }
    place.insert(last.clone(), value);
    Ok(())
}

impl Config {
    /// The first rule the configuration breaks: which key, what it is, what is allowed.
    ///
    /// # Errors
    /// The sentence to show.
    pub(crate) fn check(&self, role: Role) -> Result<(), String> {
        self.engine.check().map_err(|e| format!("engine.{e}"))?;
        self.http.check().map_err(|e| format!("http.{e}"))?;
        self.pages.check().map_err(|e| format!("pages.{e}"))?;
        self.admin.check().map_err(|e| format!("admin.{e}"))?;
        self.store.check().map_err(|e| format!("store.{e}"))?;
        self.accounts.check().map_err(|e| format!("accounts.{e}"))?;
        self.blocks.check().map_err(|e| format!("blocks.{e}"))?;
        self.groups.check().map_err(|e| format!("groups.{e}"))?;
        self.quality.check().map_err(|e| format!("quality.{e}"))?;
        self.danmaku.check().map_err(|e| format!("danmaku.{e}"))?;
        uproar_control::check_webhooks(&self.webhooks)?;
        self.check_keys()?;
        if role != Role::Control {
            self.check_admission()?;
        }
        self.check_link(role)?;
        if role != Role::Engine {
            self.check_names(role)?;
        }
        let filter = tracing_subscriber::EnvFilter::builder();
        filter.parse(&self.log.filter).map_err(|e| {
            format!("log.filter is {:?}: {e}; an example is \"info\"", self.log.filter)
        })?;
        Ok(())
    }

    fn check_link(&self, role: Role) -> Result<(), String> {
        if role != Role::Serve {
            self.link.check().map_err(|e| format!("link.{e}"))?;
        }
        if matches!(role, Role::Control | Role::Engine) {
            self.link.check_linked().map_err(|e| format!("link.{e}"))?;
        }
        if role == Role::Control && self.store.url.is_empty() {
            return Err("store.url is empty: a control process keeps accounts and conversations, \
                        and must have a store"
                .into());
        }
        if role == Role::Control && !self.has_token_key() {
            return Err("no token key is set, so nobody has a name to use the store with; set \
                        engine.tokens.hs256_secret (uproar token --generate-secret makes one), as \
                        for the engines"
                .into());
        }
        Ok(())
    }

    /// Webhooks tell of users and what they store; an account is a user with a password.
    fn check_names(&self, role: Role) -> Result<(), String> {
        let (store, tokens) = (&self.store, &self.engine.tokens);
        let signs = !tokens.hs256_secret.is_empty() || !self.http.eddsa_private_key.is_empty();
        let lacks = |has_key: bool, which: &'static str| match (store.url.is_empty(), has_key) {
            (true, _) => Some("store.url is empty".to_owned()),
            (false, false) => Some(format!("no {which} is set")),
            (false, true) => None,
        };
        if self.webhooks.iter().any(uproar_control::WebhookSettings::needs_store)
            && let Some(missing) =
                lacks(self.has_token_key(), "token key (engine.tokens.hs256_secret or another one)")
        {
            return Err(format!(
                "webhooks has entries with more than \"publish.before\", but {missing}: nothing \
                 would be told"
            ));
        }
        self.check_decider(role)?;
        let key = "key that signs tokens (engine.tokens.hs256_secret or http.eddsa_private_key)";
        if self.accounts.registration_open
            && let Some(missing) = lacks(signs, key)
        {
            let name = "accounts.registration_open";
            return Err(format!("{name} is true, but {missing}: nobody could have an account"));
        }
        Ok(())
    }

    /// A room that asks before it shows anything needs somebody to ask. In a process of its own
    /// control knows no rooms.
    fn check_decider(&self, role: Role) -> Result<(), String> {
        let asks = self.engine.rooms.defaults.before_publish != BeforePublish::Off;
        let decides = |hook: &uproar_control::WebhookSettings| hook.decides_about_rooms();
        if role == Role::Serve && asks && !self.webhooks.iter().any(decides) {
            return Err("engine.rooms.defaults.before_publish is not \"off\", but no entry of \
                        webhooks has the event \"publish.before\": nobody would decide"
                .into());
        }
        Ok(())
    }

    fn check_keys(&self) -> Result<(), String> {
        let rules = &self.engine.tokens;
        if !rules.hs256_secret.is_empty() {
            tokens::hs256_bytes(&rules.hs256_secret)
                .map_err(|e| format!("engine.tokens.hs256_secret: {e}"))?;
        }
        if !rules.eddsa_public_key.is_empty() {
            tokens::check_eddsa_public(&rules.eddsa_public_key)
                .map_err(|e| format!("engine.tokens.eddsa_public_key: {e}"))?;
        }
        Issuers::new(&rules.issuers).map_err(|e| format!("engine.tokens.{e}"))?;
        if !self.http.eddsa_private_key.is_empty() {
            tokens::SigningKey::eddsa(&self.http.eddsa_private_key)
                .map_err(|e| format!("http.eddsa_private_key: {e}"))?;
        }
        Ok(())
    }

    /// Whether somebody could connect to the shards, and not everybody by mistake.
    fn check_admission(&self) -> Result<(), String> {
        let rules = &self.engine.tokens;
        let listen = self.engine.listen;
        match (self.has_token_key(), rules.guests) {
            (false, None) if !listen.ip().is_loopback() => Err(format!(
                "engine.listen is {listen}, which other machines reach, but no token key is set; \
                 set engine.tokens.hs256_secret (uproar token --generate-secret makes one) or \
                 engine.tokens.eddsa_public_key, or admit everybody: engine.tokens.guests = true"
            )),
            (false, Some(false)) => Err(
                "engine.tokens.guests is false and no token key is set: nobody could connect; set \
                 engine.tokens.hs256_secret (uproar token --generate-secret makes one) or \
                 engine.tokens.eddsa_public_key"
                    .into(),
            ),
            _ => Ok(()),
        }
    }

    /// Whether any token can be verified.
    pub(crate) fn has_token_key(&self) -> bool {
        let rules = &self.engine.tokens;
        !rules.hs256_secret.is_empty()
            || !rules.eddsa_public_key.is_empty()
            || !rules.issuers.is_empty()
    }

    /// Whether connections without a token are admitted.
    pub(crate) fn guests(&self) -> bool {
        self.engine.tokens.guests.unwrap_or(!self.has_token_key())
    }

    /// The key that signs tokens; `None` where none is set.
    ///
    /// # Errors
    /// What is wrong with the key that is set.
    pub(crate) fn signing_key(&self) -> Result<Option<tokens::SigningKey>, String> {
        if !self.http.eddsa_private_key.is_empty() {
            return tokens::SigningKey::eddsa(&self.http.eddsa_private_key)
                .map(Some)
                .map_err(|e| format!("http.eddsa_private_key: {e}"));
        }
        if !self.engine.tokens.hs256_secret.is_empty() {
            return tokens::SigningKey::hs256(&self.engine.tokens.hs256_secret)
                .map(Some)
                .map_err(|e| format!("engine.tokens.hs256_secret: {e}"));
        }
        Ok(None)
    }

    /// As TOML; secrets are replaced by their length unless asked for.
    ///
    /// # Errors
    /// Where a value has no form in TOML.
    pub(crate) fn show(&self, secrets: bool) -> Result<String, String> {
        let mut table =
            Table::try_from(self).map_err(|e| format!("it cannot be shown as TOML: {e}"))?;
        if !secrets {
            for path in SECRETS {
                hide(&mut table, path);
            }
        }
        toml::to_string(&table)
            .map(|text| text.trim_end().to_owned())
            .map_err(|e| format!("it cannot be shown as TOML: {e}"))
    }
}

fn hide(table: &mut Table, path: &[&str]) {
    let Some((last, sections)) = path.split_last() else { return };
    let mut place = table;
    for (at, section) in sections.iter().enumerate() {
        match place.get_mut(*section) {
            Some(Value::Table(next)) => place = next,
            Some(Value::Array(list)) => {
                let tables = list.iter_mut().filter_map(Value::as_table_mut);
                return tables.for_each(|table| hide(table, &path[at + 1..]));
            }
            _ => return,
        }
    }
    if let Some(Value::String(text)) = place.get_mut(*last)
        && !text.is_empty()
    {
        *text = format!("(set, {} characters; --secrets shows it)", text.len());
    }
}

#[cfg(test)]
mod tests;
