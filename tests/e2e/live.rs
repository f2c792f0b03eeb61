//! What a room is for its crowd beside messages, over real sockets: recalls, what may be said,
//! state that is told as it changes, polls.

use crate::client::Client;
use crate::server::Server;
use crate::tokens::{claims, config, hs256, plain};
use crate::{DEADLINE, On};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use uproar_proto::v1::{self, client_frame, server_frame::Body};

/// A frame about the room's state that fits.
fn told<T>(client: &mut Client, what: &str, fits: impl Fn(&Body) -> Option<T>) -> T {
    client.take(what, fits)
}

/// A user in the room.
fn member(server: &Server, on: On, user: &str) -> (Client, v1::Joined) {
    let mut client = Client::user(server, on.wire, &plain(user));
    let joined = client.join("stage");
    (client, joined)
}

fn recalled(client: &mut Client) -> Vec<u64> {
    told(client, "a recall", |body| match body {
        Body::Recalled(recalled) => Some(recalled.seqs.clone()),
        _ => None,
    })
}

fn vote(client: &mut Client, poll: u64, option: u32) {
    let vote = v1::Vote { room: "stage".into(), poll: poll as u32, option };
    client.send(client_frame::Body::Vote(vote));
}

/// What became of an answer.
fn voted(client: &mut Client) -> u32 {
    told(client, "what became of an answer", |body| match body {
        Body::Voted(voted) => Some(voted.code),
        _ => None,
    })
}

pub(crate) fn what_is_recalled_leaves_every_screen(on: On) {
    let server = Server::start(on.io, &config());
    let mut viewers: Vec<Client> =
        (0..4).map(|n| member(&server, on, &format!("viewer-{n}")).0).collect();
    let (mut mallory, _) = member(&server, on, "mallory");
    server.says("stage", "one");
    mallory.is_accepted("stage", "1", "two");
    mallory.is_accepted("stage", "2", "three");
    viewers.iter_mut().for_each(|viewer| assert_eq!(viewer.messages("stage", 3).len(), 3));
    let begun = Instant::now();
    let answer = server.post("/v1/rooms/stage/recall", &json!({"user": "mallory"}));
    assert_eq!(answer, json!({"seqs": [2, 3]}));
    viewers.iter_mut().for_each(|viewer| assert_eq!(recalled(viewer), [2, 3]));
    assert!(begun.elapsed() < DEADLINE / 3, "{:?}", begun.elapsed());
    server.post("/v1/rooms/stage/recall", &json!({"seqs": [1, 77]}));
    assert_eq!(recalled(&mut viewers[0]), [1]);
    let (_, late) = member(&server, on, "late");
    let seen: Vec<(u64, bool)> = late.messages.iter().map(|m| (m.seq, m.gone)).collect();
    assert_eq!(seen, [(1, true), (2, true), (3, true)], "no hole, and nothing in it");
    assert!(late.messages.iter().all(|message| message.content.is_none()));
    // Who comes back has seen one of them.
    let mut back = Client::user(&server, on.wire, &plain("back"));
    back.ask_to_join("stage", Some(v1::Cursor { epoch: late.epoch, seq: 2 }));
    let joined = back.joined("stage");
    let blank: Vec<u64> = joined.messages.iter().filter(|m| m.gone).map(|m| m.seq).collect();
    assert_eq!((joined.resumed, &joined.recalled[..], &blank[..]), (true, &[2, 1][..], &[3][..]));
}

pub(crate) fn a_muted_room_hears_its_list_alone_and_no_text_twice(on: On) {
    let server = Server::start(on.io, &config());
    server.post("/v1/rooms", &json!({"room": "stage", "slow_mode_s": 600, "allowed": ["host"]}));
    let [mut host, mut ann] = ["host", "ann"].map(|user| member(&server, on, user).0);
    host.is_accepted("stage", "1", "welcome");
    host.is_accepted("stage", "2", "no slow mode for me");
    ann.is_accepted("stage", "1", "hello");
    assert_eq!(ann.is_refused("stage", "2", "hello?").0, 1002, "SLOW_MODE");
    let change = |body: Value| {
        let answer = server.request("PATCH", "/v1/rooms/stage", &body);
        assert_eq!(answer.status, 200, "{}", answer.body);
    };
    change(json!({"mute_all": true, "slow_mode_s": 0}));
    assert_eq!(ann.is_refused("stage", "3", "may I?").0, 2024, "ROOM_MUTED");
    host.is_accepted("stage", "3", "I may");
    server.says("stage", "and so may the backend");
    change(json!({"mute_all": false, "unique_s": 60}));
    ann.is_accepted_soon("stage", "4", "666", 2024);
    for client in [&mut host, &mut ann] {
        let (code, retry_after_ms) = client.is_refused("stage", "5", "666");
        assert_eq!(code, 2025, "DUPLICATE");
        assert!((50_000..=60_000).contains(&retry_after_ms), "{retry_after_ms}");
    }
    ann.is_accepted("stage", "6", "6666");
}

pub(crate) fn a_rooms_state_is_told_as_it_changes(on: On) {
    let server = Server::start(on.io, "");
    let (mut viewer, joined) = Client::viewer(&server, on.wire, "stage");
    assert_eq!((joined.attributes_version, joined.pinned), (0, None));
    let patch = |body: Value| {
        let answer = server.request("PATCH", "/v1/rooms/stage/attributes", &body);
        (answer.status, answer.json()["version"].as_u64())
    };
    assert_eq!(patch(json!({"set": {"title": "one", "n": "1"}, "if_version": 0})), (200, Some(1)));
    assert_eq!(patch(json!({"set": {"title": "two"}, "if_version": 0})), (409, Some(1)));
    assert_eq!(patch(json!({"remove": ["n"], "if_version": 1})), (200, Some(2)));
    let mut known = std::collections::BTreeMap::new();
    let mut version = 0;
    while version < 2 {
        let change = told(&mut viewer, "a change", |body| match body {
            Body::Attributes(change) => Some(change.clone()),
            _ => None,
        });
        assert_eq!(change.from_version, version, "no hole");
        change.removed.iter().for_each(|key| drop(known.remove(key)));
        known.extend(change.set);
        version = change.version;
    }
    assert_eq!(known.into_iter().collect::<Vec<_>>(), [("title".into(), "one".into())]);
    server.says("stage", "look here");
    let pin = |method: &str, body: &Value| {
        let answer = server.request(method, "/v1/rooms/stage/pin", body);
        assert_eq!(answer.status, 204, "{}", answer.body);
    };
    let pinned = |client: &mut Client| {
        told(client, "a pin", |body| match body {
            Body::Pinned(pinned) => Some(pinned.message.as_ref().map(|message| message.seq)),
            _ => None,
        })
    };
    pin("PUT", &json!({"seq": 1}));
    assert_eq!(pinned(&mut viewer), Some(1));
    let (_, late) = Client::viewer(&server, on.wire, "stage");
    assert_eq!((late.attributes_version, late.attributes.len()), (2, 1));
    assert_eq!(late.pinned.map(|message| message.user), Some("host".into()));
    pin("PUT", &json!({"text": "at nine", "user": "host"}));
    assert_eq!(pinned(&mut viewer), Some(0));
    pin("DELETE", &Value::Null);
    assert_eq!(pinned(&mut viewer), None);
}

pub(crate) fn a_poll_counts_each_user_once(on: On) {
    let server = Server::start(on.io, &config());
    let mut viewers: Vec<Client> =
        (0..8).map(|n| member(&server, on, &format!("viewer-{n}")).0).collect();
    let body = json!({"question": "who?", "options": ["red", "blue"], "duration_s": 60});
    let poll = server.post("/v1/rooms/stage/polls", &body)["poll"].as_u64().unwrap();
    for viewer in &mut viewers {
        let asked = told(viewer, "the question", |body| match body {
            Body::Poll(poll) => Some(poll.options.clone()),
            _ => None,
        });
        assert_eq!(asked, ["red", "blue"]);
        vote(viewer, poll, 1);
    }
    viewers.iter_mut().for_each(|viewer| assert_eq!(voted(viewer), 0));
    for (option, code) in [(0, 2027), (2, 2015)] {
        vote(&mut viewers[0], poll, option);
        assert_eq!(voted(&mut viewers[0]), code, "ALREADY_VOTED, then BAD_REQUEST");
    }
    vote(&mut viewers[0], poll, 1_000);
    let far = told(&mut viewers[0], "what became of it", |body| match body {
        Body::Voted(voted) => Some((voted.option, voted.code)),
        _ => None,
    });
    assert_eq!(far, (1_000, 2015), "as it was sent");
    // One user by several connections, on whatever shards they are.
    for (place, code) in [0, 2027, 2027, 2027].into_iter().enumerate() {
        let (mut ann, joined) = member(&server, on, "ann");
        assert_eq!(joined.polls[0].question, "who?");
        vote(&mut ann, poll, 0);
        assert_eq!(voted(&mut ann), code, "connection {place}");
    }
    let ended = server.request("DELETE", &format!("/v1/rooms/stage/polls/{poll}"), &Value::Null);
    assert_eq!(ended.status, 200, "{}", ended.body);
    for viewer in &mut viewers {
        let last = told(viewer, "the last word", |body| match body {
            Body::Poll(poll) if poll.over => Some(poll.votes.clone()),
            _ => None,
        });
        assert_eq!(last, [1, 8]);
    }
    vote(&mut viewers[1], poll, 0);
    assert_eq!(voted(&mut viewers[1]), 2026, "POLL_OVER");
    let info = server.get(&format!("/v1/rooms/stage/polls/{poll}")).json();
    let votes: Vec<&Value> =
        info["options"].as_array().unwrap().iter().map(|option| &option["votes"]).collect();
    assert_eq!((&info["over"], votes), (&json!(true), vec![&json!(1), &json!(8)]));
}

pub(crate) fn gifts_of_a_name_are_one_line_that_counts_up(on: On) {
    let server = Server::start(on.io, &config());
    let (mut viewer, _) = member(&server, on, "viewer");
    let token = hs256(&claims("ann", json!({"publish": ["chat", "gift"]})));
    // One user by two connections, on whatever shards they are.
    let mut ann = [(); 2].map(|()| Client::user(&server, on.wire, &token));
    ann.iter_mut().for_each(|ann| drop(ann.join("stage")));
    let give = |ann: &mut Client, id: u32, gift: &str, count: u32| {
        ann.send(client_frame::Body::Publish(v1::Publish {
            room: "stage".into(),
            class: v1::Class::Gift.into(),
            client_msg_id: bytes::Bytes::copy_from_slice(id.to_string().as_bytes()),
            count,
            gift: gift.into(),
            content: None,
        }));
    };
    for id in 0..100 {
        give(&mut ann[id as usize % 2], id, "rose", 2);
    }
    for id in 0..100_u32 {
        let outcome = ann[id as usize % 2].verdict(&id.to_string()).outcome();
        assert!(matches!(outcome, v1::Outcome::Accepted | v1::Outcome::Merged), "{outcome:?}");
    }
    let (mut counted, mut messages) = (0, 0);
    let combo = loop {
        let message = viewer.messages("stage", 1).remove(0);
        assert_eq!((message.class(), &message.content), (v1::Class::Gift, &None));
        let combo = message.combo.expect("a gift with a name is of a combo");
        (counted, messages) = (counted + combo.count, messages + 1);
        assert_eq!((combo.gift.as_str(), combo.total), ("rose", counted));
        if counted == 200 {
            break combo.combo;
        }
    };
    assert!(messages < 20, "{messages} messages");
    // A backend's are of the user that it names, and the history has them.
    let body = json!({"user": "ann", "class": "gift", "gift": "rose", "text": "for you"});
    server.post("/v1/rooms/stage/publish", &body);
    let (_, late) = member(&server, on, "late");
    let last = late.messages.last().unwrap();
    assert_eq!(last.content, Some(v1::message::Content::Text("for you".into())));
    let last = last.combo.as_ref().unwrap();
    assert_eq!((last.combo, last.count, last.total), (combo, 1, 201));
    for (id, gift, count, code) in [
        (100, "x".repeat(33), 1, 2015),
        (101, "a\u{7}".into(), 1, 2015),
        (102, "x".into(), 1_001, 2023),
        (103, "\u{202e}esor".into(), 1, 2015),
    ] {
        give(&mut ann[0], id, &gift, count);
        assert_eq!(ann[0].verdict(&id.to_string()).code, code, "BAD_REQUEST or LIMIT_REACHED");
    }
}

pub(crate) fn with_a_delay_moderators_see_first(on: On) {
    // A machine that is too busy for the shortest delay has time within a longer one.
    let is_seen = |delay_s| moderators_see_first(on, Duration::from_secs(delay_s));
    assert!([1, 2, 5].into_iter().any(is_seen), "the machine is too slow for this test");
}

/// Whether there was time enough to hold it all against that delay.
fn moderators_see_first(on: On, delay: Duration) -> bool {
    let server = Server::start(on.io, &config());
    server.post("/v1/rooms", &json!({"room": "stage", "delay_ms": delay.as_millis() as u64}));
    let token = hs256(&claims("mod", json!({"moderate": true})));
    let mut moderator = Client::user(&server, on.wire, &token);
    moderator.join("stage");
    let (mut viewer, _) = member(&server, on, "viewer");
    let begun = Instant::now();
    let seq = viewer.is_accepted("stage", "1", "to be taken back");
    viewer.is_accepted("stage", "2", "to be seen");
    let held = told(&mut moderator, "what is held", |body| match body {
        Body::Held(held) => Some(held.messages[0].clone()),
        _ => None,
    });
    assert_eq!((held.seq, held.gone, held.content.is_some()), (seq, false, true));
    let answer = server.post("/v1/rooms/stage/recall", &json!({"seqs": [seq]}));
    if begun.elapsed() >= delay {
        return false;
    }
    assert_eq!(answer, json!({"seqs": [seq]}));
    for client in [&mut viewer, &mut moderator] {
        let seen = client.messages("stage", 2);
        let blank: Vec<(bool, bool)> = seen.iter().map(|m| (m.gone, m.content.is_some())).collect();
        assert_eq!(blank, [(true, false), (false, true)]);
        assert!(begun.elapsed() >= delay, "{:?}", begun.elapsed());
    }
    viewer.ping();
    assert!(!viewer.has_unread(|body| matches!(body, Body::Held(_))));
    true
}

pub(crate) fn a_room_tells_who_is_in_it(on: On) {
    let server = Server::start(on.io, &config());
    let _crowd: Vec<Client> =
        (0..12).map(|n| member(&server, on, &format!("viewer-{}", n % 6)).0).collect();
    let present = server.get("/v1/rooms/stage/members").json();
    let mut users: Vec<&str> =
        present["users"].as_array().unwrap().iter().map(|user| user.as_str().unwrap()).collect();
    users.sort_unstable();
    let all: Vec<String> = (0..6).map(|n| format!("viewer-{n}")).collect();
    assert_eq!((&present["connections"], users), (&json!(12), all.iter().map(|u| &**u).collect()));
    let few = server.get("/v1/rooms/stage/members?limit=2").json();
    assert_eq!((&few["connections"], few["users"].as_array().unwrap().len()), (&json!(12), 2));
    assert_eq!(server.get("/v1/rooms/stage/members?limit=301").status, 400);
}

pub(crate) fn who_comes_in_is_told_and_an_announcement_reaches_everybody_once(on: On) {
    let server = Server::start(on.io, &config());
    server.post("/v1/rooms", &json!({"room": "stage", "enter_events": true}));
    let (mut host, _) = member(&server, on, "host");
    let mut crowd: Vec<Client> =
        (0..5).map(|n| member(&server, on, &format!("viewer-{n}")).0).collect();
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 5 {
        let entered = told(&mut host, "who has come in", |body| match body {
            Body::Entered(entered) => Some(entered.users.clone()),
            _ => None,
        });
        seen.extend(entered.into_iter().filter(|user| user.starts_with("viewer-")));
    }
    let mut outside = Client::user(&server, on.wire, &plain("outside"));
    crowd[0].join("other");
    let announcement = json!({"user": "uproar", "text": "back at nine"});
    let answer = server.request("POST", "/v1/broadcast", &announcement);
    assert_eq!(answer.status, 202, "{}", answer.body);
    let is_it = |body: &Body| match body {
        Body::Announced(announced) => announced.message.as_ref().map(|m| m.user.clone()),
        _ => None,
    };
    for client in &mut crowd {
        assert_eq!(told(client, "the announcement", is_it), "uproar");
        client.ping();
        assert!(!client.has_unread(|body| is_it(body).is_some()), "once, in two rooms too");
    }
    outside.ping();
    assert!(!outside.has_unread(|body| is_it(body).is_some()), "it is in no room");
}
