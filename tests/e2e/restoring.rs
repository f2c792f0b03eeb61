//! A store that is copied while it serves, lost, and restored: what its clients see.
//!
//! The clients keep the contract of `proto/src/inbox.rs`, over sockets that are killed with the
//! server.

use crate::chat::{device, relate, text};
use crate::client::Client;
use crate::server::Server;
use crate::tokens::{config, plain};
use crate::{DEADLINE, Io, Wire};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use uproar_proto::inbox::{Inbox, Said};
use uproar_proto::v1::{self, client_frame, server_frame::Body};

/// A place for a store of one test alone, gone after it.
pub(crate) struct Database {
    url: String,
    folder: PathBuf,
    server: Option<(String, String)>,
}

impl Database {
    fn folder(kind: &str) -> PathBuf {
        let name = format!("uproar-restoring-{kind}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    pub(crate) fn sqlite() -> Database {
        let folder = Database::folder("sqlite");
        let url = format!("sqlite:{}/chat.db", folder.display());
        Database { url, folder, server: None }
    }

    /// `None` where no server is named.
    pub(crate) fn mysql() -> Option<Database> {
        let server = std::env::var("UPROAR_TEST_MYSQL").ok()?;
        let name = format!("uproar_e2e_{}", std::process::id());
        tell(&server, format!("CREATE DATABASE {name}"));
        let url = format!("{}/{name}", server.trim_end_matches('/'));
        Some(Database { url, folder: Database::folder("mysql"), server: Some((server, name)) })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder); // a leftover does no harm
        if let Some((server, name)) = &self.server {
            tell(server, format!("DROP DATABASE {name}"));
        }
    }
}

fn tell(server: &str, statement: String) {
    sqlx::any::install_default_drivers();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let pool = sqlx::AnyPool::connect(server).await.expect("UPROAR_TEST_MYSQL is reachable");
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&pool).await.unwrap();
        pool.close().await;
    });
}

/// A connection with an inbox, and its welcome.
fn connected(server: &Server, user: &str) -> (Client, Body) {
    let mut client = Client::open(server, Wire::Tcp);
    let connect = v1::Connect { token: plain(user), inbox: true, ..v1::Connect::default() };
    client.send(client_frame::Body::Connect(connect));
    let welcome =
        client.take("welcome", |body| matches!(body, Body::Welcome(_)).then(|| body.clone()));
    (client, welcome)
}

/// A device with its inbox.
struct Device {
    user: &'static str,
    client: Client,
    inbox: Inbox,
    begun: Instant,
    /// seq and text of what was handed on since it connected.
    messages: Vec<(u64, String)>,
    stored: Vec<u64>,
    caught_up: bool,
}

impl Device {
    fn new(server: &Server, user: &'static str) -> Device {
        let (client, welcome) = connected(server, user);
        let mut device = Device {
            user,
            client,
            inbox: Inbox::default(),
            begun: Instant::now(),
            messages: Vec::new(),
            stored: Vec::new(),
            caught_up: false,
        };
        device.greet(&welcome);
        device
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap()
    }

    /// Another socket, the same device.
    fn connect_again(&mut self, server: &Server) {
        let (client, welcome) = connected(server, self.user);
        self.client = client;
        self.messages.clear();
        self.stored.clear();
        self.greet(&welcome);
    }

    fn greet(&mut self, welcome: &Body) {
        self.caught_up = false;
        self.hear(welcome);
        let frames = self.inbox.due(self.now_ms());
        self.send(frames);
        self.until("it has caught up", |device| device.caught_up);
    }

    fn send(&mut self, frames: Vec<client_frame::Body>) {
        frames.into_iter().for_each(|frame| self.client.send(frame));
    }

    fn say(&mut self, to: &str, id: u128, words: &str) {
        let now_ms = self.now_ms();
        let frames = self.inbox.send(text(to, id, words), now_ms);
        self.send(frames);
    }

    /// Takes in what has come, and sends what is due.
    fn turn(&mut self) {
        self.client.send(client_frame::Body::Ping(v1::Ping {}));
        loop {
            let frame = self.client.next();
            if matches!(frame, Body::Pong(_)) {
                break;
            }
            self.hear(&frame);
            let frames = self.inbox.due(self.now_ms());
            self.send(frames);
        }
        let frames = self.inbox.due(self.now_ms());
        self.send(frames);
    }

    fn hear(&mut self, frame: &Body) {
        for said in self.inbox.receive(frame, self.now_ms()) {
            match said {
                Said::Message(_, message) => self.messages.push((message.seq, message.text)),
                Said::Stored(_, _, seq) => self.stored.push(seq),
                Said::Refused(_, id, code) => panic!("{id:?} is refused: {code}"),
                Said::CaughtUp => self.caught_up = true,
                Said::Anew => self.messages.clear(),
                Said::Reacted(_) | Said::Related(_) | Said::Settings(_) => {}
            }
        }
    }

    fn until(&mut self, what: &str, holds: impl Fn(&Device) -> bool) {
        let end = Instant::now() + DEADLINE;
        loop {
            self.turn();
            if holds(self) {
                return;
            }
            assert!(Instant::now() < end, "never: {what}; {:?}", self.messages);
            std::thread::sleep(Duration::from_millis(5)); // between two looks
        }
    }
}

fn uproar(database: &Database, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_uproar"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("UPROAR") {
            command.env_remove(name); // this machine's own settings
        }
    }
    command.current_dir(&database.folder).args(args);
    command.args(["--set", &format!("store.url={}", database.url), "--set", "log.filter=off"]);
    command
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn ends_well(out: &Output) -> String {
    assert_eq!(out.status.code(), Some(0), "{}", text_of(&out.stderr));
    text_of(&out.stdout)
}

fn fails(out: &Output, why: &str) {
    let error = text_of(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{error}");
    assert!(error.starts_with("error: ") && error.contains(why), "{why:?} is not in {error}");
}

/// seqs rising by one from this one on.
fn contiguous(messages: &[(u64, String)], from: u64) -> bool {
    messages.iter().zip(from..).all(|((seq, _), expected)| *seq == expected)
}

/// Kills the server and restores: not while it serves, and not over what is there unless told to.
fn is_restored(database: &Database, server: &mut Server) {
    let restore = |args: &[&str]| {
        uproar(database, &[&["restore", "backup"], args].concat()).output().unwrap()
    };
    fails(&restore(&["--force"]), "in use by a server");
    server.kill();
    // The lock has gone with the process. (A server notices a moment later.)
    let end = Instant::now() + DEADLINE;
    let told = loop {
        let out = restore(&[]);
        let told = text_of(&out.stderr);
        if !told.contains("in use by a server") {
            break out;
        }
        assert!(Instant::now() < end, "{told}");
    };
    fails(&told, "not empty");
    let told = ends_well(&restore(&["--force"]));
    assert!(told.contains("restored") && told.contains("new generation"), "{told}");
}

pub(crate) fn a_restored_store_is_another_life(database: Database) {
    let store = format!("{}[store]\nurl = \"{}\"\n", config(), database.url);
    let mut server = Server::start_alone(Io::Epoll, &store);
    relate(&server, json!({"user": "alice", "peer": "bob", "friends": true}));
    let (mut alice, mut bob) = (Device::new(&server, "alice"), Device::new(&server, "bob"));
    let mut sent = 0_u64;
    let mut say = |alice: &mut Device| {
        sent += 1;
        alice.say("bob", u128::from(sent), &format!("message {sent}"));
        alice.until("it is stored", |alice| alice.stored.last() == Some(&sent));
        sent
    };
    for _ in 0..20 {
        say(&mut alice);
    }
    // Copied while messages are written.
    let file = database.folder.join("backup");
    let mut backup = uproar(&database, &["backup", "backup"]);
    let mut backup = backup.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while backup.try_wait().unwrap().is_none() {
        say(&mut alice);
    }
    let told = ends_well(&backup.wait_with_output().unwrap());
    assert!(told.starts_with("backup: ") && told.contains(" rows of "), "{told}");
    let told = ends_well(&uproar(&database, &["restore", "--check", "backup"]).output().unwrap());
    assert!(told.starts_with("backup: a good backup"), "{told}");
    for _ in 0..10 {
        say(&mut alice);
    }
    let before = say(&mut alice);
    bob.until("he has all", |bob| bob.messages.len() as u64 == before);
    assert!(contiguous(&bob.messages, 1));
    let generation = device(&server, Wire::Tcp, "bob").syncs("").generation;
    is_restored(&database, &mut server);
    server = server.start_in_its_place();
    // Bob's device knows more than there is now; it sees the other generation and begins anew.
    bob.connect_again(&server);
    let kept = bob.messages.len() as u64;
    assert!((20..before).contains(&kept), "{kept} of {before}");
    assert!(contiguous(&bob.messages, 1), "{:?}", bob.messages);
    assert_ne!(device(&server, Wire::Tcp, "bob").syncs("").generation, generation);
    alice.connect_again(&server);
    for id in 1..=5_u64 {
        alice.say("bob", u128::from(1_000 + id), &format!("new {id}"));
    }
    alice.until("all are stored", |alice| alice.stored.len() == 5);
    assert_eq!(alice.stored, (kept + 1..=kept + 5).collect::<Vec<u64>>(), "used before");
    bob.until("he has the new ones", |bob| bob.messages.len() as u64 == kept + 5);
    let new = &bob.messages[usize::try_from(kept).unwrap()..];
    assert!(contiguous(new, kept + 1), "{new:?}");
    assert!(new.iter().all(|(_, text)| text.starts_with("new ")), "{new:?}");
    assert!(Path::new(&file).exists() && !database.folder.join("backup.tmp").exists());
    drop(server); // before its store
}
