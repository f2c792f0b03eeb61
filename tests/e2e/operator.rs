//! Operators at work on a server that people use: what they do reaches devices within a second, and
//! the terminal does what HTTP does.

use crate::chat::{device as inbox, relate, text};
use crate::client::Client;
use crate::people::{call, device, person, token};
use crate::server::Server;
use crate::tokens::{config, plain};
use crate::{DEADLINE, On, Wire};
use serde_json::{Value, json};
use std::process::{Command, Output, Stdio};
use std::time::Instant;
use uproar_proto::error::Code;
use uproar_proto::v1::{self, Kind, client_frame, server_frame::Body};

const KEY: &str = "a-key-of-20-letters!";

fn server(on: On) -> Server {
    let accounts = "[accounts]\nregistration_open = true\nhash_memory_kib = 64\n";
    Server::start(on.io, &format!("[http]\napi_key = \"{KEY}\"\n{accounts}{}", config()))
}

/// `uproar admin` with the key in its environment; `input` is its standard input.
fn admin_with(server: &Server, key: &str, args: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_uproar"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("UPROAR") {
            command.env_remove(name); // this machine's own settings
        }
    }
    let api = format!("http://{}", server.http);
    // One that is named on the command line goes before this one.
    command.arg("admin").args(args).env("UPROAR_API", api).env("UPROAR_API_KEY", key);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// What it prints, where it must go well.
fn admin(server: &Server, args: &[&str]) -> String {
    let out = admin_with(server, KEY, args, "");
    assert_eq!(out.status.code(), Some(0), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn lines(printed: &str) -> Vec<Value> {
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The next message that is pushed in a conversation and is of this kind.
fn pushed(client: &mut Client, conversation: &str, kind: Kind) -> v1::StoredMessage {
    client.take("a pushed message", |body| match body {
        Body::Stored(stored) if stored.conversation == conversation => {
            stored.messages.iter().find(|message| message.kind() == kind).cloned()
        }
        _ => None,
    })
}

pub(crate) fn a_banned_user_is_closed_at_once_and_stays_out(on: On) {
    let server = server(on);
    let (ann, bob) = (person(&server, "ann"), person(&server, "bob"));
    let (mut phone, mut other) = (device(&server, on.wire, &ann), device(&server, on.wire, &bob));
    // In rooms alone, without an inbox.
    let mut viewer = Client::user(&server, on.wire, token(&ann));
    let begun = Instant::now();
    admin(&server, &["users", "ban", "ann", "--for", "1h", "--reason", "spam"]);
    phone.ends_with("BANNED", 1008);
    viewer.ends_with("BANNED", 1008);
    assert!(begun.elapsed() < DEADLINE / 3, "{:?}", begun.elapsed());
    other.ping();
    let log_in = json!({"user": "ann", "password": "correct horse"});
    let refused = call(&server, "", "POST", "/v1/sessions", &log_in);
    assert_eq!((refused.0, &refused.1["error"]["name"]), (403, &json!("BANNED")));
    // A token of the platform, signed before: its inbox stays closed.
    let mut late = Client::open(&server, on.wire);
    let connect = v1::Connect { token: plain("ann"), inbox: true, ..v1::Connect::default() };
    late.send(client_frame::Body::Connect(connect));
    late.ends_with("BANNED", 1008);
    let shown = admin(&server, &["users", "show", "ann"]);
    assert!(shown.contains("reason spam"), "{shown}");
    admin(&server, &["users", "unban", "ann"]);
    assert_eq!(call(&server, "", "POST", "/v1/sessions", &log_in).0, 201);
    inbox(&server, on.wire, "ann").syncs("");
}

pub(crate) fn an_erased_user_is_gone_for_whoever_is_online_and_whoever_comes_later(on: On) {
    let server = server(on);
    let ann = person(&server, "ann");
    relate(&server, json!({"user": "ann", "peer": "bob", "friends": true}));
    let (mut phone, mut bob) = (device(&server, on.wire, &ann), inbox(&server, on.wire, "bob"));
    bob.syncs("");
    assert_eq!(phone.is_stored(text("bob", 1, "a secret")), 1);
    assert_eq!(bob.is_stored(text("ann", 1, "an answer")), 2);
    assert_eq!(phone.is_stored(text("bob", 2, "another")), 3);
    let begun = Instant::now();
    let erased = admin(&server, &["users", "erase", "ann", "--yes", "--wait", "--json"]);
    phone.ends_with("SESSION_REVOKED", 1008);
    assert!(begun.elapsed() < DEADLINE, "{:?}", begun.elapsed());
    let called = lines(&erased)[0]["user"].as_str().unwrap().to_owned();
    // Whoever is online learns it in the conversation it knows.
    let recalls = bob.take("the recalls", |body| match body {
        Body::Stored(stored) if stored.conversation == "user:ann" => {
            let is_recall = stored.messages.iter().any(|m| m.kind() == Kind::Recall);
            is_recall.then(|| stored.messages.clone())
        }
        _ => None,
    });
    let targets: Vec<u64> = recalls.iter().map(|message| message.target_seq).collect();
    assert_eq!(targets, [1, 3]);
    bob.is_told(text("ann", 9, "are you there?"), Code::NotFound);
    bob.is_told(text(&called, 9, "are you there?"), Code::NotFound);
    // Whoever comes later finds the conversation under the name it has now, and nothing of hers.
    let mut late = inbox(&server, on.wire, "bob");
    let states = late.syncs("").conversations;
    assert_eq!(states.len(), 1);
    assert_eq!(states[0].conversation, format!("user:{called}"));
    let pulled = late.pulls(&states[0].conversation, 1, 9);
    let seen = |m: &v1::StoredMessage| (m.user == called, m.gone, m.text.clone());
    let seen: Vec<_> = pulled.iter().take(3).map(seen).collect();
    let gone = (true, true, String::new());
    assert_eq!(seen, [gone.clone(), (false, false, "an answer".into()), gone]);
    // The identity is nobody's any more, whatever token comes with it.
    let mut back = Client::open(&server, on.wire);
    let connect = v1::Connect { token: plain("ann"), inbox: true, ..v1::Connect::default() };
    back.send(client_frame::Body::Connect(connect));
    back.ends_with("TOKEN_INVALID", 1008);
}

pub(crate) fn an_erasure_that_was_cut_off_is_finished_after_a_restart(on: On) {
    let folder =
        std::env::temp_dir().join(format!("uproar-e2e-erase-{}-{:?}", std::process::id(), on.io));
    std::fs::create_dir_all(&folder).unwrap();
    let store = format!("[store]\nurl = \"sqlite:{}/chat.db\"\n", folder.display());
    let http = format!("[engine]\nframes_per_s_max = 10000\n[http]\napi_key = \"{KEY}\"\n");
    let mut server = Server::start_alone(on.io, &format!("{http}{store}{}", config()));
    relate(&server, json!({"user": "ann", "peer": "bob", "friends": true}));
    let mut phone = inbox(&server, Wire::Tcp, "ann");
    for batch in 0..20_u128 {
        for id in 1..=25 {
            phone.send(client_frame::Body::Send(text("bob", batch * 25 + id, "mine")));
        }
        let last = u64::try_from(batch * 25 + 25).unwrap();
        phone.take("the last acknowledgement of a batch", |body| match body {
            Body::Sent(sent) if sent.seq == last => Some(()),
            _ => None,
        });
    }
    let begun = server.request("DELETE", "/v1/admin/users/ann", &Value::Null);
    assert_eq!(begun.status, 202, "{}", begun.body);
    server.kill();
    let server = server.start_in_its_place();
    server.eventually("the erasure is done", |server| {
        let now = server.get("/v1/admin/users/ann/erasure").json();
        now["state"] == "done"
    });
    let mut bob = inbox(&server, Wire::Tcp, "bob");
    let state = bob.syncs("").conversations.remove(0);
    assert_eq!(state.head_seq, 1_000, "each of 500 messages was recalled once");
    let pulled = bob.pulls(&state.conversation, 1, 400);
    assert!(pulled.iter().all(|message| message.gone && message.text.is_empty()));
    drop(server);
    std::fs::remove_dir_all(&folder).unwrap();
}

pub(crate) fn the_terminal_does_what_http_does(on: On) {
    let server = server(on);
    let printed = admin(&server, &["users", "create", "ann", "bob"]);
    assert!(printed.starts_with("USER"), "{printed}");
    // A name that a platform brought steers no terminal.
    relate(&server, json!({"user": "ann", "peer": "c\u{1b}[2J"}));
    let printed = admin(&server, &["users", "list"]);
    assert!(!printed.contains('\u{1b}') && printed.contains("c\\u{1b}[2J"), "{printed}");
    let args = ["users", "create", "dan", "--password-stdin"];
    let out = admin_with(&server, KEY, &args, "correct horse\n");
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    let log_in = json!({"user": "dan", "password": "correct horse"});
    let session = call(&server, "", "POST", "/v1/sessions", &log_in).1;
    let sessions = admin(&server, &["users", "sessions", "dan"]);
    assert!(sessions.contains(session["session"].as_str().unwrap()), "{sessions}");
    let mut phone = device(&server, on.wire, &session);
    admin(&server, &["users", "revoke", "dan"]);
    phone.ends_with("SESSION_REVOKED", 1008);
    let all = lines(&admin(&server, &["--json", "users", "list", "--limit", "0"]));
    assert_eq!(all.len(), 4);
    let some = admin_with(&server, KEY, &["users", "list", "--prefix", "a", "--limit", "1"], "");
    assert!(String::from_utf8_lossy(&some.stdout).contains("\nann "), "{some:?}");
    // A group and what is said in it.
    let friends = json!({"user": "ann", "peer": "bob", "friends": true});
    relate(&server, friends);
    let group = json!({"key": "h", "name": "Hikers", "owner": "ann", "members": ["bob", "dan"]});
    let made = server.request("PUT", "/v1/groups", &json!({"groups": [group]}));
    let id = made.json()["groups"][0]["group"].as_str().unwrap().to_owned();
    let (mut ann, mut bob) = (inbox(&server, on.wire, "ann"), inbox(&server, on.wire, "bob"));
    bob.syncs("");
    let hello = v1::Send { conversation: format!("group:{id}"), ..text("", 1, "hello all") };
    let seq = ann.is_stored(hello).to_string();
    let found = admin(&server, &["messages", "search", "--group", &id, "--from", "1h"]);
    assert!(found.contains("hello all"), "{found}");
    let found = ["--json", "messages", "search", "--user", "ann", "--contains", "HELLO"];
    assert_eq!(lines(&admin(&server, &found))[0]["seq"], json!(seq));
    admin(&server, &["messages", "recall", "--group", &id, &seq]);
    assert_eq!(pushed(&mut bob, &format!("group:{id}"), Kind::Recall).target_seq.to_string(), seq);
    admin(&server, &["groups", "transfer", &id, "bob"]);
    admin(&server, &["groups", "remove", &id, "dan"]);
    let members = admin(&server, &["groups", "members", &id]);
    assert_eq!(members.lines().count(), 3, "{members}");
    assert!(admin(&server, &["groups", "show", &id]).contains("bob"));
    admin(&server, &["groups", "end", &id]);
    let groups = lines(&admin(&server, &["groups", "list", "--json"]));
    assert_eq!(groups[0]["ended"], json!(true));
    let export = lines(&admin(&server, &["export", "ann"]));
    assert_eq!(export[0]["user"], "ann");
    assert_eq!(export.last().unwrap()["type"], "end");
    assert_eq!(admin(&server, &["users", "export", "ann"]).lines().count(), export.len());
    wrong_use(&server);
}

/// What goes wrong is told in words, with the exit code that the help names.
fn wrong_use(server: &Server) {
    let fails = |key: &str, args: &[&str], code: i32, what: &str| {
        let out = admin_with(server, key, args, "");
        let error = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(code), "{args:?}: {error}");
        assert!(error.contains(what), "{args:?}: {error}");
        assert!(!error.contains(key) || key.is_empty(), "no error shows the key: {error}");
        assert!(out.stdout.is_empty(), "{args:?}");
    };
    fails(KEY, &["users", "show", "nobody"], 1, "there is no user of this name");
    fails(KEY, &["groups", "end", "00000000deadbeef"], 1, "NOT_FOUND");
    fails(KEY, &["users", "erase", "ann"], 2, "--yes");
    fails(KEY, &["users", "create", "a", "b", "--password-stdin"], 2, "one user at a time");
    fails(KEY, &["messages", "search", "--from", "yesterday", "--user", "ann"], 2, "is no time");
    fails(KEY, &["messages", "search", "--peer", "ann"], 2, "--user");
    fails("wrong-key-0123456789", &["users", "list"], 1, "does not take this key");
    fails("", &["users", "list"], 1, "asks for a key");
    fails("two\nlines-of-a-key!!", &["users", "list"], 2, "what a header cannot carry");
    fails(KEY, &["--api", "ftp://x", "users", "list"], 2, "--api is");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let api = format!("http://{nobody}");
    fails(KEY, &["--api", &api, "users", "list"], 1, "could not be reached");
}
