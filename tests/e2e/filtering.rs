//! Words and rules: what hits is refused on every wire, seen by nobody and kept nowhere, and a list
//! changes under way.

use crate::client::Client;
use crate::server::Server;
use crate::tokens::{claims, config, hs256, plain};
use crate::{DEADLINE, Io, On, Wire};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use uproar_proto::v1::{self, message, publish};

const FILTERED: u32 = 2034;

impl Server {
    /// Puts a list in the place of the one before, and waits until every shard has it.
    fn filters(&self, at: &Server, words: &Value, regexes: &Value) {
        let body = json!({"words": words, "regexes": regexes});
        let answer = at.request("PUT", "/v1/filter", &body);
        assert_eq!(answer.status, 200, "{}", answer.body);
        let version = answer.json()["version"].as_f64().unwrap();
        self.has_list(version);
    }

    fn has_list(&self, version: f64) {
        self.eventually("every shard has the list", |server| {
            server.metric("uproar_filter_version", "") == 2.0 * version
        });
    }
}

fn text(message: &v1::Message) -> &str {
    match message.content.as_ref().unwrap() {
        message::Content::Text(text) => text,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn a_hit_is_refused_and_seen_by_nobody(on: On) {
    let server = Server::start(on.io, &format!("{}guests = true\n", config()));
    server.filters(&server, &json!(["加微信", "spam"]), &json!([r"https?://"]));
    server.post("/v1/rooms", &json!({"room": "free", "filter": false}));
    let mut alice = Client::user(&server, on.wire, &plain("alice"));
    let mut viewers: Vec<Client> =
        (0..4).map(|_| Client::viewer(&server, on.wire, "free").0).collect();
    for client in viewers.iter_mut().chain([&mut alice]) {
        client.join("stage");
    }
    alice.join("free");
    let bad = ["快 加\u{200b}微、信", "ＳＰＡＭ!", "s p a m", "see HTTP://x"];
    for (number, bad) in bad.iter().enumerate() {
        let (code, retry_after_ms) = alice.is_refused("stage", &format!("bad-{number}"), bad);
        assert_eq!((code, retry_after_ms), (FILTERED, 0), "{bad}"); // S-58
    }
    let data = Some(publish::Content::Data("spam".into()));
    alice.publish("stage", v1::Class::Chat, "data", data);
    assert_eq!(alice.verdict("data").code, FILTERED);
    let gift = json!({"user": "shop", "class": "gift", "gift": "ＳＰＡＭ"});
    assert_eq!(server.post("/v1/rooms/stage/publish", &gift)["code"], FILTERED);
    let seq = alice.is_accepted("stage", "good", "spammers are no spam1");
    assert_eq!(seq, 1, "what was refused has no place in the order");
    for viewer in &mut viewers {
        let seen = viewer.messages("stage", 1);
        assert_eq!((seen[0].seq, text(&seen[0])), (1, "spammers are no spam1"));
    }
    alice.is_accepted("free", "free", "spam is free here");
    viewers[0].messages("free", 1);
    // The history has what viewers saw.
    let (_, joined) = Client::viewer(&server, on.wire, "stage");
    let texts: Vec<&str> = joined.messages.iter().map(text).collect();
    assert_eq!(texts, ["spammers are no spam1"]);
    // A backend's, but for what the platform itself says.
    let say = |class: &str| {
        let body = json!({"user": "host", "class": class, "text": "no spam please"});
        server.publish("stage", &body)
    };
    let refused = json!({"outcome": "REFUSED", "code": FILTERED, "name": "FILTERED"});
    assert_eq!(say("chat"), refused);
    assert_eq!(say("gift"), refused);
    assert_eq!(say("system")["outcome"], "ACCEPTED");
    let hits = bad.len() as f64 + 4.0;
    server.eventually("books balance", |server| {
        let outcome =
            |name: &str| server.metric("uproar_messages_total", &format!("outcome=\"{name}\""));
        server.metric("uproar_filter_hits_total", "") == hits
            && outcome("refused") == hits
            && outcome("offered") == hits + 3.0
            && outcome("admitted") == 3.0
    });
}

/// A store that outlives its process: its folder, and a configuration with it.
fn stored(name: &str) -> (PathBuf, String) {
    let name = format!("e2e-filter-{name}-{}", std::process::id());
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let url = format!("sqlite:{}/filter.db", folder.display());
    (folder, format!("{}[store]\nurl = \"{url}\"\n", config()))
}

/// Words that nobody says, 100,000 of them.
fn many(round: usize) -> Value {
    let word = |n: usize| format!("词{n}x{round}");
    Value::from((0..100_000).map(word).collect::<Vec<_>>())
}

pub(crate) fn a_list_is_swapped_while_people_write(on: On) {
    let server = Server::start(on.io, &format!("{}guests = true\n", config()));
    let room = json!({"room": "stage", "rate_per_s": 10_000, "user_rate_per_s": 1_000});
    server.post("/v1/rooms", &room);
    let moderator = hs256(&claims("mod", json!({"moderate": true})));
    let mut writer = Client::user(&server, on.wire, &moderator);
    writer.join("stage");
    let (mut viewer, joined) = Client::viewer(&server, on.wire, "stage");
    let is_over = AtomicBool::new(false);
    let (written, slowest) = std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let (mut written, mut slowest) = (0_usize, Duration::ZERO);
            while !is_over.load(Ordering::SeqCst) || written <= 10 {
                let begun = Instant::now();
                writer.is_accepted("stage", &written.to_string(), "词0x 你好");
                slowest = slowest.max(begun.elapsed());
                written += 1;
                std::thread::sleep(Duration::from_millis(10)); // half of what a connection may send
            }
            (written, slowest)
        });
        for round in 0..2 {
            server.filters(&server, &many(round), &json!([]));
        }
        is_over.store(true, Ordering::SeqCst);
        writing.join().unwrap()
    });
    assert!(slowest < DEADLINE / 2, "{slowest:?}");
    assert_eq!(viewer.seqs_from(&joined, written).len(), written, "none is lost");
    assert_eq!(writer.is_refused("stage", "hit", "词99999x1").0, FILTERED);
    writer.is_accepted("stage", "old", "词99999x0");
    assert_eq!(server.metric("uproar_filter_words", ""), 100_000.0);
    assert!(server.metric("uproar_filter_rebuild_seconds", "") > 0.0);
}

#[test]
fn a_hit_is_in_no_recording() {
    let config = format!("{}\n[danmaku]\nenabled = true\nsegment_s = 3600\n", config());
    let server = Server::start(Io::Epoll, &config);
    server.filters(&server, &json!(["spam"]), &json!([]));
    server.post("/v1/rooms", &json!({"room": "stage"}));
    let mut alice = Client::user(&server, Wire::Tcp, &plain("alice"));
    alice.join("stage");
    assert_eq!(alice.is_refused("stage", "1", "spam").0, FILTERED);
    alice.is_accepted("stage", "2", "hello");
    server.eventually("a line is recorded", |server| {
        let index = server.get("/v1/rooms/stage/danmaku").json();
        index["recordings"][0]["segments"][0]["lines"] == 1
    });
}

#[test]
fn a_restart_keeps_the_list_and_holds_the_first_message_against_it() {
    let (folder, config) = stored("restart");
    let mut server = Server::start_alone(Io::Epoll, &config);
    server.filters(&server, &json!(["spam"]), &json!([]));
    server.kill();
    let again = server.start_in_its_place();
    let mut alice = Client::user(&again, Wire::Tcp, &plain("alice"));
    alice.join("stage");
    assert_eq!(alice.is_refused("stage", "1", "spam").0, FILTERED);
    drop((server, again));
    let _ = std::fs::remove_dir_all(folder); // a leftover does no harm
}

#[test]
fn an_engine_apart_gets_the_list_and_keeps_it_while_control_is_away() {
    let (folder, config) = stored("apart");
    let mut control = Server::control(&config);
    let first = control.engine(Io::Epoll, &config);
    first.filters(&control, &json!(["spam"]), &json!([]));
    let mut alice = Client::user(&first, Wire::Tcp, &plain("alice"));
    alice.join("stage");
    assert_eq!(alice.is_refused("stage", "1", "spam").0, FILTERED);
    control.kill();
    first.eventually("the breaker is open", |engine| engine.metric("uproar_link_up", "") == 0.0);
    assert_eq!(alice.is_refused("stage", "2", "spam").0, FILTERED, "it keeps what it has");
    let control = control.start_in_its_place();
    first.is_linked(2);
    // Kept over the restart, and told to whoever comes.
    let second = control.engine(Io::Epoll, &config);
    second.has_list(1.0);
    first.filters(&control, &json!(["eggs"]), &json!([]));
    second.has_list(2.0);
    for (number, engine) in [&first, &second].into_iter().enumerate() {
        let mut bob = Client::user(engine, Wire::Json, &plain(&format!("bob-{number}")));
        bob.join("stage");
        assert_eq!(bob.is_refused("stage", "1", "eggs").0, FILTERED);
        bob.is_accepted("stage", "2", "spam");
    }
    let elsewhere = first.get("/v1/filter");
    assert_eq!(elsewhere.status, 421, "{}", elsewhere.body);
    drop((first, second, control));
    let _ = std::fs::remove_dir_all(folder); // a leftover does no harm
}
