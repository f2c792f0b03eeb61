//! A store that is away: a full disk, a MariaDB that does not answer, a COMMIT whose answer is
//! lost. Whoever waits is told in time, live rooms go on, and what was acknowledged stands.

use crate::chat::{device, relate, text};
use crate::client::Client;
use crate::maria::{Cut, Line, Maria};
use crate::server::Server;
use crate::stores::{Database, Rows, mariadb};
use crate::tokens::{config, plain};
use crate::{DEADLINE, Io, Wire};
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use uproar_proto::error::Code;
use uproar_proto::v1::{self, client_frame, server_frame::Body};

/// A server with this store, and alice and bob who are friends.
fn server(store: &str) -> Server {
    let engine = "[engine]\nframes_per_s_max = 30000\n";
    let rooms = "[engine.rooms.defaults]\nguests_publish = true\n";
    let config = format!("{engine}{}guests = true\n{rooms}[store]\nurl = \"{store}\"\n", config());
    let server = Server::start_alone(Io::Epoll, &config);
    relate(&server, json!({"user": "alice", "peer": "bob", "friends": true}));
    server
}

fn synced(server: &Server, user: &str) -> Client {
    let mut client = device(server, Wire::Tcp, user);
    client.syncs("");
    client
}

impl Client {
    /// Waits for the push of the message with this seq.
    fn is_pushed(&mut self, seq: u64) -> v1::StoredMessage {
        self.take("a pushed message", |body| match body {
            Body::Stored(stored) => stored.messages.iter().find(|m| m.seq == seq).cloned(),
            _ => None,
        })
    }

    /// Waits for the answer to a message: its seq, or why it has none and whether it may be sent
    /// again.
    fn stored_or_why(&mut self, id: u128) -> Result<u64, (u32, bool)> {
        let id = id.to_be_bytes();
        let sent = self.take("an answer", |body| match body {
            Body::Sent(sent) if sent.client_msg_id == id.as_slice() => Some(sent.clone()),
            _ => None,
        });
        if sent.code == 0 { Ok(sent.seq) } else { Err((sent.code, sent.retry)) }
    }

    fn begins(&mut self, send: v1::Send) {
        self.send(client_frame::Body::Send(send));
    }

    /// Sends until it is stored.
    fn sends_until_stored(&mut self, send: &v1::Send) -> u64 {
        let end = std::time::Instant::now() + DEADLINE;
        let id = u128::from_be_bytes(send.client_msg_id[..].try_into().unwrap());
        loop {
            self.begins(send.clone());
            match self.stored_or_why(id) {
                Ok(seq) => return seq,
                Err((code, retry)) => assert!(retry && std::time::Instant::now() < end, "{code}"),
            }
            std::thread::sleep(std::time::Duration::from_millis(100)); // as it was told
        }
    }
}

const AWAY: Result<u64, (u32, bool)> = Err((1007, true));

/// A live room with a viewer and a publisher.
struct Room {
    viewer: Client,
    publisher: Client,
    said: u32,
}

impl Room {
    fn open(server: &Server) -> Room {
        let (viewer, _) = Client::viewer(server, Wire::Tcp, "stage");
        let (publisher, _) = Client::viewer(server, Wire::Tcp, "stage");
        Room { viewer, publisher, said: 0 }
    }

    /// A message is on the screen.
    fn goes_on(&mut self) {
        self.said += 1;
        let said = self.said.to_string();
        self.publisher.is_accepted("stage", &said, &said);
        assert_eq!(self.viewer.messages("stage", 1)[0].client_msg_id, said);
    }
}

/// Of a store: how often a message stands.
fn rows_of(store: &str, id: u128) -> i64 {
    let rows = Rows::open(store);
    let (high, low) = ((id >> 64) as i64, id as i64);
    let count = "SELECT COUNT(*) FROM message_index WHERE id_high =";
    rows.read::<(i64,)>(&format!("{count} {high} AND id_low = {low}"))[0].0
}

/// A server whose MariaDB is at the end of a line that may break.
fn behind_a_line() -> Option<(Database, Line, Server)> {
    let maria = mariadb()?;
    let database = Database::create(&maria);
    let line = Line::to(maria.rsplit('@').next()?.parse().unwrap());
    let name = database.url().rsplit('/').next()?.to_owned();
    let server = server(&format!("mysql://root@{}/{name}", line.address()));
    Some((database, line, server))
}

/// A commit that was not answered is looked up by the ids of its messages: the sender is told where
/// they stand, and who is to have them is pushed them.
pub(crate) fn a_commit_that_was_not_answered_is_looked_up() {
    let Some((database, line, server)) = behind_a_line() else { return };
    let (mut alice, mut bob) = (synced(&server, "alice"), synced(&server, "bob"));
    let cuts = [Cut::BeforeIt, Cut::BeforeItsAnswer].into_iter().cycle();
    for (seq, cut) in (1..=6_u64).zip(cuts) {
        line.cut(cut);
        // The first one opens the conversation.
        let id = u128::from(seq);
        assert_eq!(alice.is_stored(text("bob", id, "is it there?")), seq, "{cut:?}");
        assert!(line.has_cut(), "{cut:?}");
        assert_eq!(bob.is_pushed(seq).user, "alice", "{cut:?}");
        assert_eq!(rows_of(&database.url(), id), 1, "{cut:?}");
        assert_eq!(alice.is_stored(text("bob", id, "is it there?")), seq, "the same answer");
    }
    // Many at once, and one of them refused by a rule.
    line.cut(Cut::BeforeItsAnswer);
    for id in 7..=40 {
        alice.begins(text("bob", id, "is it there?"));
    }
    alice.begins(text("nobody", 41, "is it there?"));
    for id in 7..=40 {
        assert_eq!(alice.stored_or_why(id), Ok(id as u64));
    }
    assert_eq!(alice.stored_or_why(41), Err((Code::NotFound.number(), false)));
    bob.is_pushed(40);
    let all = bob.pulls("user:alice", 1, 99);
    assert_eq!(all.iter().map(|m| m.seq).collect::<Vec<_>>(), (1..=40).collect::<Vec<u64>>());
}

/// Nobody waits for the answer of a commit that never comes: the sender is told to come again, and
/// who is to have the message is pushed it once it was found, whether the sender comes or not.
pub(crate) fn a_commit_that_is_never_answered_keeps_nobody_waiting() {
    let Some((database, line, server)) = behind_a_line() else { return };
    let (mut alice, mut bob) = (synced(&server, "alice"), synced(&server, "bob"));
    assert_eq!(alice.is_stored(text("bob", 1, "hello")), 1);
    line.cut(Cut::ForEver);
    alice.begins(text("bob", 2, "are you there?"));
    assert_eq!(alice.stored_or_why(2), AWAY);
    // Behind it nothing passes, and nobody waits either.
    alice.begins(text("bob", 3, "hello?"));
    assert!(matches!(alice.stored_or_why(3), Err((_, true))));
    assert_eq!((bob.is_pushed(1).seq, bob.is_pushed(2).text), (1, "are you there?".to_owned()));
    assert_eq!(alice.sends_until_stored(&text("bob", 2, "are you there?")), 2);
    assert_eq!(alice.sends_until_stored(&text("bob", 3, "hello?")), 3);
    assert_eq!(rows_of(&database.url(), 2), 1);
}

/// The same of a change of a group: whoever was taken out gets nothing more.
pub(crate) fn a_change_whose_commit_was_not_answered_is_looked_up() {
    let Some((_database, line, server)) = behind_a_line() else { return };
    let (mut alice, mut bob) = (synced(&server, "alice"), synced(&server, "bob"));
    let call = |method: &str, path: &str, body: &Value, status: u16| {
        let header = format!("Authorization: Bearer {}\r\n", plain("alice"));
        let answer = server.request_as(&header, method, path, body);
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        answer
    };
    for cut in [Cut::BeforeIt, Cut::BeforeItsAnswer] {
        line.cut(cut);
        let made = json!({"name": "Hikers", "members": ["bob"]});
        let made = call("POST", "/v1/groups", &made, 201).json();
        assert!(line.has_cut());
        assert_eq!(made["joined"], json!(["alice", "bob"]), "{made}");
        let group = made["group"].as_str().unwrap();
        bob.take("a resync", |body| matches!(body, Body::Resync(_)).then_some(()));
        let to_group =
            |id: u128| v1::Send { conversation: format!("group:{group}"), ..text("", id, "hello") };
        assert_eq!(alice.is_stored(to_group(1)), 2);
        assert_eq!(bob.is_pushed(2).text, "hello");
        line.cut(cut);
        call("DELETE", &format!("/v1/groups/{group}/members/bob"), &Value::Null, 204);
        assert!(line.has_cut());
        assert_eq!(bob.is_pushed(3).notice.unwrap().what, "removed");
        assert_eq!(alice.is_stored(to_group(2)), 4);
        // What was pushed to him would have come before this.
        bob.syncs("");
        assert!(!bob.was_pushed(4), "{cut:?}");
        call("DELETE", &format!("/v1/groups/{group}"), &Value::Null, 204);
    }
}

/// While the database hangs, whoever sends or reads is told to come again, however much comes, and
/// live rooms go on; afterwards everything has its place, once.
pub(crate) fn a_mariadb_that_hangs_delays_nobody_for_long() {
    let Some(maria) = Maria::start() else { return };
    let store = maria.database("hangs");
    let server = server(&store);
    let (mut alice, mut bob) = (synced(&server, "alice"), synced(&server, "bob"));
    let mut room = Room::open(&server);
    assert_eq!(alice.is_stored(text("bob", 1, "before")), 1);
    assert_eq!(bob.is_pushed(1).text, "before");
    maria.signal("STOP");
    // It is not continued before all of these are answered.
    for round in 0..3 {
        let ids = 2 + round * 100..102 + round * 100;
        for id in ids.clone() {
            alice.begins(text("bob", id, "meanwhile"));
        }
        room.goes_on();
        for id in ids {
            let answer = alice.stored_or_why(id);
            // Behind the first one the lane is closed.
            assert!(answer == AWAY || answer == Err((1001, true)), "{id}: {answer:?}");
        }
    }
    bob.send(client_frame::Body::Sync(v1::Sync { cursor: String::new(), limit: 0 }));
    let told = bob.take("an answer", |body| match body {
        Body::Error(error) => Some(error.name.clone()),
        Body::Synced(_) => Some("it is not away".to_owned()),
        _ => None,
    });
    assert_eq!(told, "STORE_DOWN");
    room.goes_on();
    maria.signal("CONT");
    for id in 2..302_u64 {
        assert_eq!(alice.sends_until_stored(&text("bob", id.into(), "meanwhile")), id);
    }
    bob.is_pushed(301);
    let rows = Rows::open(&store);
    assert_eq!(rows.read::<(i64,)>("SELECT COUNT(*) FROM message_index")[0].0, 301);
    room.goes_on();
}

/// A disk that holds two megabytes; `None` where none may be mounted here.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount() -> Option<SmallDisk> {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("small-disk-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mount = ["-t", "tmpfs", "-o", "size=2m", "none"];
        let mounted = Command::new("mount").args(mount).arg(&folder).output();
        let is_mounted = mounted.is_ok_and(|done| done.status.success());
        if !is_mounted {
            let reason = "no tmpfs may be mounted here";
            let _ = writeln!(std::io::stderr(), "\nSKIPPED: a full disk; {reason}");
        }
        is_mounted.then_some(SmallDisk(folder))
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.filler()).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l".as_ref(), self.0.as_os_str()]).output();
        let _ = std::fs::remove_dir(&self.0); // a leftover does no harm
    }
}

/// On a full disk sends are refused for now, what was acknowledged can be read, live rooms go on,
/// and with room again it goes on where it was, whether it was killed meanwhile or not.
pub(crate) fn a_full_disk_takes_nothing_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount() else { return };
    let store = format!("sqlite:{}/chat.db", disk.0.display());
    let mut server = server(&store);
    let mut stored: u64 = 0;
    for killed in [false, true] {
        let (mut alice, mut bob) = (synced(&server, "alice"), synced(&server, "bob"));
        let mut room = Room::open(&server);
        stored += 1;
        assert_eq!(alice.is_stored(text("bob", stored.into(), "before")), stored);
        disk.fill();
        // The log may hold some more, where it begins anew.
        let refused = loop {
            let next = u128::from(stored + 1);
            alice.begins(text("bob", next, &"x".repeat(16_000)));
            match alice.stored_or_why(next) {
                Ok(seq) => stored = seq,
                Err(answer) => break answer,
            }
            assert!(stored < 400, "it is never full");
        };
        assert_eq!(Err(refused), AWAY);
        room.goes_on();
        let all = pulled(&mut bob, stored);
        assert_eq!(all, (1..=stored).collect::<Vec<u64>>(), "what was acknowledged is there");
        if killed {
            server.kill();
        }
        std::fs::remove_file(disk.filler()).unwrap();
        if killed {
            server = server.start_in_its_place();
            (alice, bob) = (synced(&server, "alice"), synced(&server, "bob"));
        } else {
            room.goes_on();
        }
        stored += 1;
        let again = text("bob", stored.into(), &"x".repeat(16_000));
        assert_eq!(alice.sends_until_stored(&again), stored);
        assert_eq!(pulled(&mut bob, stored), (1..=stored).collect::<Vec<u64>>());
    }
}

/// Pulls in pieces that fit into one answer.
fn pulled(bob: &mut Client, to_seq: u64) -> Vec<u64> {
    let two = |from| bob.pulls("user:alice", from, (from + 1).min(to_seq));
    (1..=to_seq).step_by(2).flat_map(two).map(|message| message.seq).collect()
}

/// What is wrong with a store is told at the start, in words, and nothing is begun.
pub(crate) fn a_store_that_cannot_be_is_told_at_the_start() {
    let folder =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("no-store-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("chat.db");
    let start = |url: &str| {
        let config = format!("{}[store]\nurl = \"{url}\"\n", config());
        Server::try_start(Io::Epoll, &config, &["--shards", "1"])
    };
    let fails = |url: &str, words: &[&str]| {
        let log = start(url).err().unwrap_or_else(|| panic!("{url}: it starts"));
        for word in ["store.url"].iter().chain(words) {
            assert!(log.contains(word), "{url}: {word:?} is missing in: {log}");
        }
        assert!(!log.contains("panicked"), "{log}");
    };
    let url = |file: &Path| format!("sqlite:{}", file.display());
    fails(&url(&folder.join("missing/chat.db")), &["No such file"]);
    drop(start(&url(&file)).unwrap());
    fails(&format!("{}?mode=ro", url(&file)), &["cannot be written", "readonly"]);
    // Its log is there, and it is not: what was acknowledged is somewhere else.
    std::fs::rename(&file, folder.join("moved.db")).unwrap();
    std::fs::write(folder.join("chat.db-wal"), [7; 4096]).unwrap();
    fails(&url(&file), &["chat.db-wal", "chat.db is missing"]);
    std::fs::write(&file, [7; 8192]).unwrap();
    std::fs::remove_file(folder.join("chat.db-wal")).unwrap();
    fails(&url(&file), &["not a database"]);
    fails("mysql://u:secret@127.0.0.1:1/chat", &["mysql://u:***@127.0.0.1:1", "refused"]);
    std::fs::remove_dir_all(&folder).unwrap();
}
