//! Engine and control in two processes: what holds where one of them is killed, missed something,
//! or is not who it should be. (That conversations are the same in two processes is shown by their
//! own cases, which run on both.)

use crate::chat::{device, relate, text};
use crate::client::Client;
use crate::groups;
use crate::http::Answer;
use crate::people::{self, call, log_in, person, token};
use crate::server::{LINK_KEY, Server};
use crate::tokens::{config, plain};
use crate::{DEADLINE, Io, On, Store, Wire};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use uproar_proto::error::Code;
use uproar_proto::v1::{self, client_frame, server_frame::Body};

/// A store that outlives its process, for one test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(on: On, name: &str) -> Folder {
        let name = format!("e2e-{name}-{}-{}", std::process::id(), on.io.name());
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    /// A configuration with it.
    pub(crate) fn config(&self) -> String {
        let url = format!("sqlite:{}/chat.db", self.0.display());
        let accounts = "[accounts]\nregistration_open = true\nhash_memory_kib = 64\n\
            account_burst = 1000\naddress_burst = 100000\n";
        format!("{}guests = true\n[store]\nurl = \"{url}\"\n{accounts}", config())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0); // a leftover does no harm
    }
}

impl Client {
    /// Sends until it is stored, as a good client does; its seq.
    fn stores(&mut self, send: &v1::Send) -> u64 {
        let end = Instant::now() + DEADLINE;
        loop {
            let sent = self.sends(send.clone());
            assert!(Instant::now() < end, "it is never stored: {sent:?}");
            if !sent.retry {
                assert_eq!(sent.code, 0, "{sent:?}");
                return sent.seq;
            }
            assert!(sent.retry_after_ms > 0, "{sent:?}");
            std::thread::sleep(Duration::from_millis(u64::from(sent.retry_after_ms)));
        }
    }

    /// Waits until it is told to sync.
    fn is_told_to_sync(&mut self) {
        self.take("a resync", |body| matches!(body, Body::Resync(_)).then_some(()));
    }
}

fn seqs(messages: &[v1::StoredMessage]) -> Vec<u64> {
    messages.iter().map(|message| message.seq).collect()
}

/// Messages of one round: more than are stored before the kill.
const SENDS: u32 = 50;

pub(crate) fn control_is_killed_under_load_and_nothing_acknowledged_is_lost(on: On) {
    let folder = Folder::new(on, "killed");
    let mut control = Server::control(&folder.config());
    relate(&control, json!({"user": "alice", "peer": "bob", "friends": true}));
    relate(&control, json!({"user": "carol", "peer": "bob", "friends": true}));
    let engine = control.engine(on.io, &folder.config());
    let (mut alice, mut bob) = (device(&engine, on.wire, "alice"), device(&engine, on.wire, "bob"));
    bob.syncs("");
    let (mut viewer, _) = Client::viewer(&engine, on.wire, "stage");
    let (mut speaker, _) = Client::viewer(&engine, on.wire, "stage");
    let mut acknowledged = 0;
    for round in 0..3_u32 {
        let first = u128::from(round * SENDS) + 1;
        let sends: Vec<v1::Send> =
            (first..first + u128::from(SENDS)).map(|id| text("bob", id, "x")).collect();
        for send in &sends {
            alice.send(client_frame::Body::Send(send.clone()));
        }
        // Some are answered, some are under way when it is killed.
        for send in &sends[..20] {
            let seq = alice.answer(send);
            assert_eq!(seq, Ok(acknowledged + 1));
            acknowledged += 1;
        }
        control.kill();
        let mut refused = Vec::new();
        for send in &sends[20..] {
            // Stored before the kill, or refused: tried again, with the same id, it is known which.
            if let Err(code) = alice.answer(send) {
                assert!(code.retry(), "{code:?}");
                refused.push(send);
            }
        }
        // A live room has no need of control.
        let id = format!("live-{round}");
        let seq = speaker.is_accepted("stage", &id, "the show goes on");
        assert_eq!(viewer.messages("stage", 1)[0].seq, seq);
        Client::viewer(&engine, on.wire, "stage").0.ping();
        // Who connects now is welcome, and told to try again later.
        let mut carol = device(&engine, on.wire, "carol");
        let hello = text("bob", 900 + u128::from(round), "hello?");
        let sent = carol.sends(hello.clone());
        assert_eq!((sent.code, sent.retry), (Code::StoreDown.number(), true), "{sent:?}");
        control = control.start_in_its_place();
        engine.is_linked(round + 2);
        // Nothing of a conversation passes before what was refused first has come again.
        refused.iter().for_each(|send| assert!(alice.stores(send) > acknowledged));
        for (send, seq) in sends.iter().zip(u64::from(round * SENDS) + 1..) {
            assert_eq!(alice.stores(send), seq, "each exactly once, in order");
        }
        acknowledged = u64::from((round + 1) * SENDS);
        assert_eq!(carol.stores(&hello), u64::from(round) + 1);
        bob.is_told_to_sync();
    }
    let state = bob.syncs("").conversations;
    let alices = state.iter().find(|state| state.conversation == "user:alice").unwrap();
    assert_eq!(alices.head_seq, 3 * u64::from(SENDS));
    for round in 0..3 {
        let (from, to) = (round * u64::from(SENDS) + 1, (round + 1) * u64::from(SENDS));
        assert_eq!(seqs(&bob.pulls("user:alice", from, to)), (from..=to).collect::<Vec<_>>());
    }
}

impl Client {
    /// The answer to a send that is under way.
    fn answer(&mut self, send: &v1::Send) -> Result<u64, Code> {
        let id = send.client_msg_id.clone();
        let sent = self.take("an acknowledgement", |body| match body {
            Body::Sent(sent) if sent.client_msg_id == id => Some(sent.clone()),
            _ => None,
        });
        match sent.code {
            0 => Ok(sent.seq),
            code => Err(Code::from_number(code).unwrap()),
        }
    }
}

pub(crate) fn an_engine_is_killed_and_comes_back(on: On) {
    let folder = Folder::new(on, "engine");
    let control = Server::control(&folder.config());
    relate(&control, json!({"user": "alice", "peer": "bob", "friends": true}));
    let mut engine = control.engine(on.io, &folder.config());
    for round in 0..2 {
        let (mut alice, mut bob) =
            (device(&engine, on.wire, "alice"), device(&engine, on.wire, "bob"));
        bob.syncs("");
        let seq = round + 1;
        assert_eq!(alice.is_stored(text("bob", u128::from(seq), "x")), seq);
        assert_eq!(bob.pushed().1.seq, seq);
        engine.kill();
        engine = engine.start_in_its_place();
        engine.is_linked(1);
        // It has the place of the one that died.
        assert_eq!(control.metric("uproar_link_node_up", ""), 1.0);
        assert_eq!(control.metric("uproar_link_anew_total", ""), f64::from(round as u32) + 2.0);
    }
    let mut bob = device(&engine, on.wire, "bob");
    assert_eq!(seqs(&bob.pulls("user:alice", 1, 9)), [1, 2]);
}

pub(crate) fn two_engines_share_one_control(on: On) {
    let folder = Folder::new(on, "two");
    let control = Server::control(&folder.config());
    let (one, two) =
        (control.engine(on.io, &folder.config()), control.engine(on.io, &folder.config()));
    let (ann, bob) = (person(&control, "ann"), person(&control, "bob"));
    person(&control, "eve");
    relate(&control, json!({"user": "ann", "peer": "bob", "friends": true}));
    let (mut phone, mut desk) =
        (people::device(&one, on.wire, &ann), people::device(&two, on.wire, &bob));
    let mut tablet = people::device(&two, on.wire, &ann);
    for device in [&mut phone, &mut desk, &mut tablet] {
        device.syncs("");
    }
    assert_eq!(phone.is_stored(text("bob", 1, "over there?")), 1);
    assert_eq!(desk.pushed().1.text, "over there?");
    assert_eq!(tablet.pushed().1.user, "ann");
    // Presence, and its leases, tell the nodes apart.
    phone.send(client_frame::Body::Watch(v1::Watch { users: vec!["bob".into()] }));
    let online = |client: &mut Client| {
        client.take("presence", |body| match body {
            Body::Presence(presence) => Some(presence.users[0].online),
            _ => None,
        })
    };
    assert!(online(&mut phone));
    // The emptier one is named first.
    let _more: Vec<Client> = (0..3).map(|_| Client::guest(&one, on.wire)).collect();
    let expected = [two.clients.to_string(), one.clients.to_string()];
    control.eventually("the emptier one comes first", |control| {
        let nodes = log_in(control, "eve")["nodes"].as_array().unwrap().clone();
        let order: Vec<&str> = nodes.iter().map(|node| node["address"].as_str().unwrap()).collect();
        assert_eq!(order.len(), 2, "{nodes:?}");
        order == expected && nodes[1]["connections"] == 4 && nodes[0]["closed"] == false
    });
    // One that drains comes last, whatever its load.
    two.signal("TERM");
    control.eventually("it comes last", |control| {
        let nodes = log_in(control, "eve")["nodes"].as_array().unwrap().clone();
        nodes.len() == 2 && nodes[1]["address"] == expected[0] && nodes[1]["closed"] == true
    });
    // What is bob's is closed where he is.
    assert_eq!(call(&control, token(&bob), "DELETE", "/v1/sessions", &Value::Null).0, 204);
    desk.ends_with("SESSION_REVOKED", 1008);
    phone.ping();
}

/// Does something at a control process that the engine cannot hear: another one on the same store,
/// while the engine's own is away. Then that one is back.
fn unheard(
    control: Server,
    engine: &Server,
    folder: &Folder,
    what: impl FnOnce(&Server),
) -> Server {
    let mut control = control;
    control.kill();
    engine.eventually("it knows", |engine| engine.metric("uproar_link_up", "") == 0.0);
    let mut other = Server::control(&folder.config());
    what(&other);
    other.signal("TERM");
    assert_eq!(other.exit_code(), 0);
    control = control.start_in_its_place();
    engine.is_linked(2);
    control
}

pub(crate) fn who_was_removed_unheard_hears_nothing_more(on: On) {
    let folder = Folder::new(on, "removed");
    let control = Server::control(&folder.config());
    for peer in ["bob", "carol"] {
        relate(&control, json!({"user": "alice", "peer": peer, "friends": true}));
    }
    let engine = control.engine(on.io, &folder.config());
    let made = json!({"name": "Hikers", "members": ["bob", "carol"]});
    let group = groups::call(&control, "alice", "POST", "/v1/groups", &made, 201);
    let group = group["group"].as_str().unwrap().to_owned();
    let [mut alice, mut bob, mut carol] =
        ["alice", "bob", "carol"].map(|user| device(&engine, on.wire, user));
    for device in [&mut alice, &mut bob, &mut carol] {
        device.syncs("");
    }
    assert_eq!(alice.is_stored(groups::text(&group, 1, "all here?")), 2);
    assert_eq!((bob.hears(2).seq, carol.hears(2).seq), (2, 2));
    let path = format!("/v1/groups/{group}/members/carol");
    let _control = unheard(control, &engine, &folder, |other| {
        groups::call(other, "alice", "DELETE", &path, &Value::Null, 204);
    });
    for device in [&mut alice, &mut bob, &mut carol] {
        device.is_told_to_sync();
    }
    assert_eq!(alice.stores(&groups::text(&group, 2, "without her")), 4);
    assert_eq!(bob.hears(4).text, "without her");
    carol.is_told(groups::text(&group, 3, "still here?"), Code::NotMember);
    // What was pushed to the group would have come before this answer.
    let state = carol.syncs("").conversations.remove(0);
    assert_eq!((state.head_seq, state.left), (3, true));
    assert!(!carol.was_pushed(4), "nothing after it");
}

pub(crate) fn who_was_logged_out_unheard_is_closed(on: On) {
    let folder = Folder::new(on, "logged-out");
    let control = Server::control(&folder.config());
    let engine = control.engine(on.io, &folder.config());
    let (one, two) = (person(&control, "ann"), log_in(&control, "ann"));
    let (mut phone, mut desk) =
        (people::device(&engine, on.wire, &one), people::device(&engine, on.wire, &two));
    phone.syncs("");
    desk.syncs("");
    let path = format!("/v1/sessions/{}", one["session"].as_str().unwrap());
    let _control = unheard(control, &engine, &folder, |other| {
        assert_eq!(call(other, token(&one), "DELETE", &path, &Value::Null).0, 204);
    });
    phone.ends_with("SESSION_REVOKED", 1008);
    desk.is_told_to_sync();
    desk.syncs("");
}

/// Status and body of a request on the link's port.
fn on_link(control: &Server, key: &str, path: &str, body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(control.clients).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {key}\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a whole answer");
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    Answer { status, body: body.to_owned() }
}

pub(crate) fn another_key_or_version_is_refused(on: On) {
    let control = Server::control(&config());
    let other =
        format!("{}guests = true\n[link]\nkey = \"another-key-of-32-characters-here\"\n", config());
    let engine = control.unlinked_engine(on.io, &other);
    engine.eventually("it is told why", |engine| engine.log().contains("link.key is not the one"));
    control.eventually("so is control", |control| control.log().contains("has another link.key"));
    assert_eq!(engine.metric("uproar_link_up", ""), 0.0);
    assert_eq!(control.metric("uproar_link_node_up", ""), 0.0);
    for log in [engine.log(), control.log()] {
        assert!(!log.contains("another-key-of-32") && !log.contains(LINK_KEY), "{log}");
    }
    // Rooms are open all the same, and who wants an inbox is told that it is not there.
    Client::viewer(&engine, on.wire, "stage").0.ping();
    device(&engine, on.wire, "ann").is_told(text("bob", 1, "x"), Code::StoreDown);
    // Hello, version 99, of uproar 9.9.
    let hello = b"\x08\x63\x12\x039.9";
    assert_eq!(on_link(&control, "no-key", "/link/hello", hello).status, 401);
    let refused = on_link(&control, LINK_KEY, "/link/hello", hello);
    assert_eq!(refused.status, 409);
    for part in ["version 99", "uproar 9.9", "version 6"] {
        assert!(refused.body.contains(part), "{part:?} is missing in: {}", refused.body);
    }
}

pub(crate) fn each_process_tells_where_the_rest_is(on: On) {
    let control = Server::control(&config());
    let rooms = control.get("/v1/rooms");
    assert_eq!(rooms.status, 421);
    assert!(rooms.body.contains("no engine is linked now"), "{}", rooms.body);
    let engine = control.engine(on.io, &config());
    for (method, path) in [
        ("GET", "/v1/rooms"),
        ("POST", "/v1/rooms"),
        ("GET", "/v1/rooms/stage"),
        ("POST", "/v1/rooms/stage/publish"),
        ("POST", "/v1/rooms/stage/kick"),
        ("POST", "/v1/publish"),
    ] {
        let answer = control.request(method, path, &json!({}));
        assert_eq!(answer.status, 421, "{method} {path}: {}", answer.body);
        assert!(answer.body.contains(&format!("http://{}", engine.http)), "{}", answer.body);
    }
    for (method, path) in [
        ("POST", "/v1/accounts"),
        ("GET", "/v1/friends"),
        ("PUT", "/v1/relations"),
        ("GET", "/v1/groups"),
    ] {
        let body = json!({"user": "ann", "password": "correct horse", "relations": []});
        let body = match path {
            "/v1/accounts" => json!({"user": "ann", "password": "correct horse"}),
            "/v1/relations" => json!({"relations": []}),
            _ => body,
        };
        let answer = engine.request(method, path, &body);
        assert_eq!(answer.status, 421, "{method} {path}: {}", answer.body);
        assert!(answer.body.contains(&format!("http://{}", control.clients)), "{}", answer.body);
    }
    assert_eq!(engine.post("/v1/rooms", &json!({"room": "stage"}))["room"], "stage");
    let closed = json!({"before_publish": "closed"});
    let silent = engine.request("PATCH", "/v1/rooms/stage", &closed);
    assert_eq!(silent.status, 400, "control has no webhook that decides: {}", silent.body);
    engine.says("stage", "here");
    assert_eq!(control.get("/v1/node").json()["shards"], 0);
    assert_eq!(engine.get("/v1/node").json()["shards"], 2);
    for server in [&control, &engine] {
        assert_eq!((server.get("/healthz").status, server.get("/readyz").status), (200, 200));
    }
}

pub(crate) fn both_processes_end_when_told_to(on: On) {
    let folder = Folder::new(on, "ends");
    let mut control = Server::control(&folder.config());
    relate(&control, json!({"user": "alice", "peer": "bob", "friends": true}));
    let mut engine = control.engine(on.io, &folder.config());
    let mut alice = device(&engine, on.wire, "alice");
    assert_eq!(alice.is_stored(text("bob", 1, "x")), 1);
    control.signal("TERM");
    assert_eq!(control.exit_code(), 0);
    engine.eventually("it knows", |engine| engine.metric("uproar_link_up", "") == 0.0);
    alice.ping();
    assert!(engine.is_running());
    engine.signal("TERM");
    alice.take("reconnect", |body| matches!(body, Body::Reconnect(_)).then_some(()));
    drop(alice);
    assert_eq!(engine.exit_code(), 0);
}

/// Whether whoever says so is told that it is filtered.
fn is_filtered(engine: &Server, id: &str) -> bool {
    let mut alice = Client::user(engine, Wire::Tcp, &plain("alice"));
    alice.join("stage");
    alice.publish("stage", v1::Class::Chat, id, Some(v1::publish::Content::Text("spam".into())));
    alice.verdict(id).code == Code::Filtered.number()
}

/// How a guest on this device is received.
fn hello_from(engine: &Server, device: &str) -> Body {
    let mut client = Client::open(engine, Wire::Tcp);
    let connect = v1::Connect { device: device.into(), ..v1::Connect::default() };
    client.send(client_frame::Body::Connect(connect));
    client.next()
}

pub(crate) fn an_engine_that_starts_without_control_holds_what_it_was_told() {
    let on = On { io: Io::Epoll, wire: Wire::Tcp, store: Store::Split };
    let folder = Folder::new(on, "known");
    let known = folder.0.join("engine.known");
    let link = format!("[link]\nkey = \"{LINK_KEY}\"\nknown_file = \"{}\"\n", known.display());
    let config = format!("{}{link}", folder.config());
    let mut control = Server::control(&config);
    let mut engine = control.engine(on.io, &config);
    let filter = json!({"words": ["spam"], "regexes": []});
    assert_eq!(control.request("PUT", "/v1/filter", &filter).status, 200);
    let block = json!({"kind": "device", "value": "stolen"});
    let blocked = control.request("PUT", "/v1/admin/blocks", &json!({"blocks": [block]}));
    assert_eq!(blocked.status, 200, "{}", blocked.body);
    let kept = |what: &[u8]| {
        let file = std::fs::read(&known).unwrap_or_default();
        file.windows(what.len()).any(|part| part == what)
    };
    engine.eventually("both lists are kept", |_| kept(b"spam") && kept(b"stolen"));
    control.kill();
    engine.kill();
    engine = engine.start_in_its_place();
    assert_eq!(engine.get("/readyz").json(), json!({"ready": true, "draining": false}));
    assert!(matches!(hello_from(&engine, "stolen"), Body::Error(_)), "it is blocked");
    assert!(matches!(hello_from(&engine, "bought"), Body::Welcome(_)));
    assert!(is_filtered(&engine, "1"));
    // A file that is damaged counts as none: nobody is sent here before control is reached.
    engine.kill();
    std::fs::write(&known, &std::fs::read(&known).unwrap()[1..]).unwrap();
    engine = engine.start_in_its_place();
    assert!(engine.log().contains("it is damaged"), "{}", engine.log());
    let reason = "filter and blocks are not known yet: control was never reached";
    let ready = engine.get("/readyz");
    let expected = json!({"ready": false, "draining": false, "reason": reason});
    assert_eq!((ready.status, ready.json()), (503, expected));
    assert_eq!(engine.get("/healthz").status, 200);
    assert_eq!(engine.metric("uproar_link_known", ""), 0.0);
    let _control = control.start_in_its_place();
    engine.eventually("it is ready", |engine| engine.get("/readyz").status == 200);
    engine.eventually("it filters", |engine| engine.metric("uproar_filter_words", "") == 1.0);
    assert!(is_filtered(&engine, "2"));
}
