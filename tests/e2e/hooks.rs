//! Webhooks: what a platform's server is told of what happened, whatever happens to it or to us.

use crate::chat::{device, relate, text};
use crate::receiver::{Receiver, Reply, SECRET, address, events};
use crate::server::Server;
use crate::tokens::{config, plain};
use crate::{Io, Wire};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use uproar_proto::v1;

/// The configuration of a server with one webhook.
pub(crate) fn with_hook(address: SocketAddr, more: &str) -> String {
    format!(
        "{}\n[[webhooks]]\nname = \"platform\"\nurl = \"http://{address}/hook?of=uproar\"\n\
         secret = \"{SECRET}\"\n{more}\n",
        config()
    )
}

const AFTER: &str = "events = [\"message.after\", \"group.changed\"]";

/// A server where alice and bob are friends.
pub(crate) fn server(config: &str) -> Server {
    let server = Server::start(Io::Epoll, config);
    relate(&server, json!({"user": "alice", "peer": "bob", "friends": true}));
    server
}

fn seqs(events: &[Value], conversation: &str) -> Vec<u64> {
    let of = events.iter().filter(|event| event["conversation"]["id"] == conversation);
    of.map(|event| event["message"]["seq"].as_u64().unwrap()).collect()
}

/// Seqs in the order of their first coming, by conversation.
fn by_conversation(events: &[Value]) -> BTreeMap<String, Vec<u64>> {
    let mut by: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for event in events {
        let conversation = event["conversation"]["id"].as_str().unwrap().to_owned();
        by.entry(conversation).or_default().push(event["message"]["seq"].as_u64().unwrap());
    }
    by
}

/// Makes a group of alice and bob; its id.
fn group(server: &Server) -> String {
    let header = format!("Authorization: Bearer {}\r\n", plain("alice"));
    let body = json!({"name": "Hikers", "members": ["bob"]});
    let made = server.request_as(&header, "POST", "/v1/groups", &body);
    assert_eq!(made.status, 201, "{}", made.body);
    made.json()["group"].as_str().unwrap().to_owned()
}

fn to_group(group: &str, id: u128, said: &str) -> v1::Send {
    v1::Send { conversation: format!("group:{group}"), ..text("", id, said) }
}

#[test]
fn what_was_stored_is_told_signed_and_in_order() {
    let receiver = Receiver::start();
    let server = server(&with_hook(receiver.address, AFTER));
    let group = group(&server);
    let mut alice = device(&server, Wire::Tcp, "alice");
    for id in 1..=20 {
        alice.is_stored(text("bob", id, "to bob \u{1f44b}"));
        alice.is_stored(to_group(&group, id, "to all"));
    }
    let told = receiver.until_events(41);
    assert_eq!(seqs(&told, &group), (1..=21).collect::<Vec<u64>>());
    let notice = &told.iter().find(|event| event["type"] == "group.changed").unwrap()["message"];
    assert_eq!((&notice["kind"], &notice["notice"]["what"]), (&json!("notice"), &json!("created")));
    assert_eq!(notice["notice"]["users"], json!(["bob"]));
    let direct = told.iter().find(|event| event["conversation"]["kind"] == "user").unwrap();
    assert_eq!(direct["conversation"]["users"], json!(["alice", "bob"]));
    let message = &direct["message"];
    assert_eq!((&message["user"], &message["seq"]), (&json!("alice"), &json!(1)));
    assert_eq!(message["text"], "to bob \u{1f44b}");
    assert_eq!(message["client_msg_id"], "AAAAAAAAAAAAAAAAAAAAAQ==");
    for request in receiver.came() {
        let types = &request.headers["uproar-event"];
        let of: Vec<&Value> = request.events().iter().map(|event| &event["type"]).collect();
        assert!(types.split(", ").all(|one| of.iter().any(|of| *of == one)), "{types} {of:?}");
        assert_eq!(
            (&request.body["hook"], request.body["generation"].as_str().unwrap().len()),
            (&json!("platform"), 16)
        );
    }
    server.eventually("nothing waits any more", |server| {
        server.metric("uproar_webhook_waiting", "platform") == 0.0
            && server.metric("uproar_webhook_delivered_total", "platform") == 41.0
    });
}

#[test]
fn a_server_that_was_killed_tells_what_it_had_acknowledged() {
    let address = address(); // where nobody listens yet
    let folder = std::env::temp_dir().join(format!("uproar-e2e-hooks-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let store = format!("[store]\nurl = \"sqlite:{}/chat.db\"\n", folder.display());
    let config = format!("{}{store}", with_hook(address, AFTER));
    let mut server = Server::start_alone(Io::Epoll, &config);
    relate(&server, json!({"user": "alice", "peer": "bob", "friends": true}));
    let group = group(&server);
    let mut alice = device(&server, Wire::Tcp, "alice");
    for id in 1..=10 {
        alice.is_stored(text("bob", id, "x"));
        alice.is_stored(to_group(&group, id, "y"));
    }
    server.kill();
    let receiver = Receiver::start_at(address);
    receiver.answers(|_| Reply::Answer(200, "fine".into()));
    assert!(receiver.came().is_empty());
    let mut server = server.start_in_its_place();
    let told = receiver.until_events(21);
    assert_eq!(seqs(&told, &group), (1..=11).collect::<Vec<u64>>());
    // Killed while the receiver has the events, and nobody has heard that it took them.
    server.eventually("nothing waits any more", |server| {
        server.metric("uproar_webhook_waiting", "platform") == 0.0
    });
    receiver.answers(|_| Reply::Hang);
    let mut alice = device(&server, Wire::Tcp, "alice");
    alice.is_stored(text("bob", 11, "z"));
    let came = receiver.until("it is told", |came| events(came).len() == 22);
    let id = events(&came)[21]["id"].clone();
    server.kill();
    receiver.always(200);
    let server = server.start_in_its_place();
    let again = |event: &Value| event["id"] == id;
    receiver.until("it is told again, under the same id", |came| {
        came.iter().flat_map(|request| request.events()).filter(|event| again(event)).count() == 2
    });
    server.eventually("it is gone", |server| {
        server.metric("uproar_webhook_delivered_total", "platform") == 1.0
    });
    drop(server);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_receiver_that_was_away_gets_everything_in_order() {
    let address = address();
    let server = server(&with_hook(address, AFTER));
    let group = group(&server);
    let mut alice = device(&server, Wire::Tcp, "alice");
    let mut bob = device(&server, Wire::Tcp, "bob");
    let mut says = |ids: std::ops::RangeInclusive<u128>| {
        for id in ids {
            alice.is_stored(text("bob", id, "a"));
            bob.is_stored(text("alice", id, "b"));
            bob.is_stored(to_group(&group, id, "c"));
        }
    };
    says(1..=20);
    server.eventually("it was tried", |server| {
        server.metric("uproar_webhook_failed_total", "unreachable") >= 3.0
            && server.metric("uproar_webhook_waiting", "platform") == 61.0
    });
    assert!(server.log().contains("a webhook's receiver is down"), "{}", server.log());
    let receiver = Receiver::start_at(address);
    says(21..=30);
    let told = receiver.until_events(91);
    for (_, seqs) in by_conversation(&told) {
        assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<u64>>());
    }
}

#[test]
fn a_receiver_that_holds_requests_holds_up_no_message() {
    let receiver = Receiver::start();
    let released = Arc::new((Mutex::new(false), Condvar::new()));
    let held = Arc::clone(&released);
    receiver.answers(move |_| {
        let is_released = held.0.lock().unwrap();
        drop(held.1.wait_while(is_released, |is_released| !*is_released).unwrap());
        Reply::Answer(200, String::new())
    });
    let server = server(&with_hook(receiver.address, &format!("{AFTER}\ntimeout_ms = 30000")));
    let mut alice = device(&server, Wire::Tcp, "alice");
    alice.is_stored(text("bob", 1, "x"));
    receiver.until("the first is told, and held", |came| came.len() == 1);
    // Not one answer has come from the receiver when all of these are acknowledged.
    for id in 2..=200 {
        assert_eq!(u128::from(alice.is_stored(text("bob", id, "x"))), id);
    }
    assert_eq!(receiver.came().len(), 1, "one request of a conversation at a time");
    assert_eq!(server.metric("uproar_webhook_delivered_total", "platform"), 0.0);
    *released.0.lock().unwrap() = true;
    released.1.notify_all();
    let told = receiver.until_events(200);
    let seqs: Vec<u64> = by_conversation(&told).into_values().flatten().collect();
    assert_eq!(seqs, (1..=200).collect::<Vec<u64>>());
}

#[test]
fn a_hostile_receiver_costs_its_own_events_alone() {
    let elsewhere = Receiver::start();
    let receiver = Receiver::start();
    let more = format!("{AFTER}\ntimeout_ms = 300\nevents_per_request_max = 1");
    let server = server(&with_hook(receiver.address, &more));
    let mut alice = device(&server, Wire::Tcp, "alice");
    let location = format!("http://{}/hook?of=uproar", elsewhere.address);
    let redirect = format!("HTTP/1.1 307 Go\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
    let huge = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(4 << 20));
    type Attack = Box<dyn Fn() -> Reply + Send + Sync>;
    let attacks: Vec<(&str, Attack)> = vec![
        ("status", Box::new(move || Reply::Raw(redirect.clone().into_bytes()))),
        ("status", Box::new(|| Reply::Endless("HTTP/1.1 500 No\r\n\r\n"))),
        ("unreachable", Box::new(|| Reply::Raw(b"SSH-2.0-x\r\n\r\n".to_vec()))),
        ("unreachable", Box::new(|| Reply::Raw(b"HTTP/1.1 9999 ?\r\n\r\n".to_vec()))),
        ("unreachable", Box::new(|| Reply::Raw(Vec::new()))),
        ("unreachable", Box::new(move || Reply::Raw(huge.clone().into_bytes()))),
        ("timeout", Box::new(|| Reply::Hang)),
    ];
    let mut id = 0;
    for (reason, attack) in attacks {
        let before = server.metric("uproar_webhook_failed_total", reason);
        receiver.answers(move |_| attack());
        id += 1;
        assert_eq!(u128::from(alice.is_stored(text("bob", id, "x"))), id);
        server.eventually("the attack failed", |server| {
            server.metric("uproar_webhook_failed_total", reason) > before
        });
        // Once it behaves, it gets what it did not take.
        receiver.always(200);
        server.eventually("it is taken", |server| {
            server.metric("uproar_webhook_waiting", "platform") == 0.0
        });
    }
    assert!(elsewhere.came().is_empty(), "no redirect is followed");
    // An answer without an end is a good one, as far as it was asked for.
    receiver.answers(|_| Reply::Endless("HTTP/1.1 200 OK\r\n\r\n"));
    alice.is_stored(text("bob", id + 1, "x"));
    server.eventually("nothing waits any more", |server| {
        server.metric("uproar_webhook_waiting", "platform") == 0.0
    });
    let seqs: Vec<u64> =
        by_conversation(&events(&receiver.came())).into_values().flatten().collect();
    assert_eq!(seqs, (1..=8).collect::<Vec<u64>>());
}

#[test]
fn a_receiver_that_asks_for_a_pause_gets_it() {
    let receiver = Receiver::start();
    let asked = Arc::new(AtomicBool::new(false));
    let first = Arc::clone(&asked);
    receiver.answers(move |_| match first.swap(true, Ordering::SeqCst) {
        false => {
            Reply::Raw(b"HTTP/1.1 429 Wait\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n".to_vec())
        }
        true => Reply::Answer(200, String::new()),
    });
    let server = server(&with_hook(receiver.address, AFTER));
    let mut alice = device(&server, Wire::Tcp, "alice");
    let begun = std::time::Instant::now();
    alice.is_stored(text("bob", 1, "x"));
    receiver.until("it is told again", |came| came.len() == 2);
    assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[test]
fn who_comes_and_goes_is_told() {
    let receiver = Receiver::start();
    let server = server(&with_hook(receiver.address, "events = [\"presence\"]"));
    let states = || {
        let mut states = BTreeMap::new();
        for event in events(&receiver.came()) {
            assert_eq!(event["type"], "presence");
            for state in event["users"].as_array().unwrap() {
                let user = state["user"].as_str().unwrap().to_owned();
                states.insert(user, state["online"].as_bool().unwrap());
            }
        }
        states
    };
    let alice = device(&server, Wire::Tcp, "alice");
    let _bob = device(&server, Wire::Tcp, "bob");
    receiver.until("both are here", |came| {
        let users = events(came);
        let users = users.iter().flat_map(|event| event["users"].as_array().unwrap());
        users.count() >= 2
    });
    assert_eq!(states(), [("alice".into(), true), ("bob".into(), true)].into());
    drop(alice);
    let came = receiver.came().len();
    receiver.until("one has gone", |all| all.len() > came);
    assert_eq!(states(), [("alice".into(), false), ("bob".into(), true)].into());
    // What a receiver does not take is dropped and counted, and has no row.
    receiver.always(500);
    let _alice = device(&server, Wire::Tcp, "alice");
    server.eventually("it is dropped", |server| {
        server.metric("uproar_webhook_dropped_total", "\"presence\"") == 1.0
    });
    assert_eq!(server.metric("uproar_webhook_waiting", "platform"), 0.0);
}
