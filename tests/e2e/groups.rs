//! Groups: what members are pushed and may read, from their joining to their leaving, and who has
//! read what.

use crate::chat::{device, relate};
use crate::client::Client;
use crate::server::Server;
use crate::tokens::{claims, config, hs256, plain, unix_s};
use crate::{DEADLINE, On};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use uproar_proto::error::Code;
use uproar_proto::v1::{self, Kind, client_frame, server_frame::Body};

/// A server where alice has a group with bob, and carol is alice's friend; the group's id.
fn server(on: On) -> (Server, String) {
    let server = on.server(&config());
    for peer in ["bob", "carol"] {
        relate(&server, json!({"user": "alice", "peer": peer, "friends": true}));
    }
    let made = json!({"name": "Hikers", "members": ["bob"]});
    let group = call(&server, "alice", "POST", "/v1/groups", &made, 201);
    let id = group["group"].as_str().unwrap().to_owned();
    (server, id)
}

/// A request of a user.
pub(crate) fn call(
    server: &Server,
    user: &str,
    method: &str,
    path: &str,
    body: &Value,
    status: u16,
) -> Value {
    let header = format!("Authorization: Bearer {}\r\n", plain(user));
    let answer = server.request_as(&header, method, path, body);
    assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
    if answer.body.is_empty() { Value::Null } else { answer.json() }
}

pub(crate) fn text(group: &str, id: u128, text: &str) -> v1::Send {
    let to = crate::chat::text("", id, text);
    v1::Send { conversation: format!("group:{group}"), ..to }
}

/// A device that has synced.
fn member(server: &Server, on: On, user: &str) -> Client {
    let mut client = device(server, on.wire, user);
    client.syncs("");
    client
}

impl Client {
    /// Waits for the push of a group's message with this seq.
    pub(crate) fn hears(&mut self, seq: u64) -> v1::StoredMessage {
        self.take("a group's message", |body| match body {
            Body::Stored(stored) => stored.messages.iter().find(|m| m.seq == seq).cloned(),
            _ => None,
        })
    }

    fn marks(&mut self, group: &str, read_seq: u64) {
        let conversation = format!("group:{group}");
        let marks = vec![v1::Marked { conversation, read_seq, delivered_seq: 0 }];
        self.send(client_frame::Body::Mark(v1::Mark { marks }));
    }

    /// Waits until the newest count of each of these messages is this.
    fn sees_readers(&mut self, expected: &[(u64, u32)]) -> usize {
        let mut counts = std::collections::BTreeMap::new();
        let mut frames = 0;
        while !expected.iter().all(|(seq, readers)| counts.get(seq) == Some(readers)) {
            let receipts = self.take("receipts", |body| match body {
                Body::Receipts(receipts) => Some(receipts.clone()),
                _ => None,
            });
            frames += 1;
            counts.extend(receipts.counts.iter().map(|count| (count.seq, count.readers)));
        }
        frames
    }
}

pub(crate) fn a_member_hears_and_reads_from_its_joining_to_its_leaving(on: On) {
    let (server, group) = server(on);
    let name = format!("group:{group}");
    let (mut alice, mut bob, mut carol) =
        (member(&server, on, "alice"), member(&server, on, "bob"), member(&server, on, "carol"));
    assert_eq!(alice.is_stored(text(&group, 1, "hello")), 2, "after the notice of its making");
    assert_eq!(bob.hears(2).text, "hello");
    carol.is_told(text(&group, 1, "me too"), Code::NotMember);
    let members = format!("/v1/groups/{group}/members");
    call(&server, "bob", "POST", &members, &json!({"users": ["carol"]}), 200);
    // Bob and carol are no friends: she is not let in.
    carol.is_told(text(&group, 2, "me too"), Code::NotMember);
    call(&server, "alice", "POST", &members, &json!({"users": ["carol"]}), 200);
    let notice = bob.hears(3);
    let said = notice.notice.as_deref().unwrap();
    assert_eq!((notice.kind(), &*notice.user, &*said.what), (Kind::Notice, "alice", "joined"));
    assert_eq!(said.users, ["carol"]);
    carol.take("a resync", |body| matches!(body, Body::Resync(_)).then_some(()));
    let state = carol.syncs("").conversations.remove(0);
    assert_eq!((&*state.conversation, state.floor_seq, state.head_seq), (&*name, 2, 3));
    let about = state.group.unwrap();
    assert_eq!((&*about.name, about.members, &*about.role), ("Hikers", 3, "member"));
    let seqs =
        |messages: Vec<v1::StoredMessage>| messages.iter().map(|m| m.seq).collect::<Vec<_>>();
    assert_eq!(seqs(carol.pulls(&name, 1, 9)), [3]);
    assert_eq!(carol.is_stored(text(&group, 3, "now")), 4);
    assert_eq!(bob.hears(4).user, "carol");
    call(&server, "alice", "DELETE", &format!("{members}/carol"), &Value::Null, 204);
    assert_eq!(carol.hears(5).notice.unwrap().what, "removed");
    carol.is_told(text(&group, 4, "still here?"), Code::NotMember);
    assert_eq!(alice.is_stored(text(&group, 5, "she is gone")), 6);
    assert_eq!(bob.hears(6).text, "she is gone");
    // What came after her leaving would have come before these answers.
    let state = carol.syncs("").conversations.remove(0);
    assert_eq!((state.head_seq, state.left), (5, true));
    assert_eq!(seqs(carol.pulls(&name, 1, 9)), [3, 4, 5]);
    assert!(!carol.was_pushed(6), "nothing after it");
    // Nor on a device that connects later.
    let mut later = member(&server, on, "carol");
    assert_eq!(alice.is_stored(text(&group, 6, "really")), 7);
    assert_eq!(bob.hears(7).text, "really");
    assert_eq!(seqs(later.pulls(&name, 1, 9)), [3, 4, 5]);
    assert!(!later.was_pushed(7));
}

pub(crate) fn the_muted_are_told_and_a_group_that_ended_is_none(on: On) {
    let (server, group) = server(on);
    let mut bob = member(&server, on, "bob");
    let path = format!("/v1/groups/{group}");
    let muted = json!({"mute_s": 3600});
    call(&server, "alice", "PATCH", &format!("{path}/members/bob"), &muted, 204);
    bob.is_told(text(&group, 1, "x"), Code::Muted);
    call(&server, "alice", "PATCH", &format!("{path}/members/bob"), &json!({"mute_s": 0}), 204);
    assert_eq!(bob.is_stored(text(&group, 1, "x")), 4);
    call(&server, "alice", "PATCH", &path, &json!({"muted_all": true}), 200);
    bob.is_told(text(&group, 2, "x"), Code::Muted);
    // A token that is over stores nothing: the connection ends with it.
    let mut brief = Client::open(&server, on.wire);
    let token = hs256(&claims("alice", json!({"exp": unix_s() + 5})));
    brief.send(client_frame::Body::Connect(v1::Connect {
        token,
        inbox: true,
        ..Default::default()
    }));
    brief.take("welcome", |body| matches!(body, Body::Welcome(_)).then_some(()));
    let ended = brief.ended();
    assert_eq!(ended.error.as_deref(), Some("TOKEN_EXPIRED"));
    call(&server, "alice", "DELETE", &path, &Value::Null, 204);
    bob.is_told(text(&group, 3, "x"), Code::NotMember);
    let state = bob.syncs("").conversations.remove(0);
    assert_eq!((state.head_seq, state.left), (6, true), "the notice of its end is the last");
    let mut alice = member(&server, on, "alice");
    alice.is_told(text(&group, 9, "x"), Code::NotMember);
}

pub(crate) fn a_sender_learns_how_many_have_read_and_who(on: On) {
    let (server, group) = server(on);
    let members = format!("/v1/groups/{group}/members");
    call(&server, "alice", "POST", &members, &json!({"users": ["carol"]}), 200);
    let (mut alice, mut bob, mut carol) =
        (member(&server, on, "alice"), member(&server, on, "bob"), member(&server, on, "carol"));
    for (id, seq) in [(1, 3), (2, 4), (3, 5)] {
        assert_eq!(alice.is_stored(text(&group, id, "x")), seq);
    }
    bob.marks(&group, 4);
    alice.sees_readers(&[(3, 1), (4, 1)]);
    carol.marks(&group, 3);
    bob.marks(&group, 2); // a lower one changes nothing
    alice.sees_readers(&[(3, 2)]);
    // Who writes has read what was there.
    assert_eq!(carol.is_stored(text(&group, 4, "y")), 6);
    alice.sees_readers(&[(4, 2), (5, 1)]);
    let path = format!("/v1/groups/{group}/messages/5/receipts");
    let names = |side: &str| {
        let page = call(&server, "alice", "GET", &format!("{path}?side={side}"), &Value::Null, 200);
        let users = page["users"].as_array().unwrap().clone();
        let names: Vec<Value> = users.into_iter().map(|user| user["user"].clone()).collect();
        (page["read"].as_i64(), page["unread"].as_i64(), names)
    };
    assert_eq!(names("read"), (Some(1), Some(1), vec!["carol".into()]));
    assert_eq!(names("unread"), (Some(1), Some(1), vec!["bob".into()]));
    call(&server, "bob", "GET", &path, &Value::Null, 403);
    let counts =
        call(&server, "alice", "GET", &format!("/v1/groups/{group}/receipts"), &Value::Null, 200);
    let readers: Vec<&Value> =
        counts["counts"].as_array().unwrap().iter().map(|count| &count["readers"]).collect();
    assert_eq!(readers, [2, 2, 1]);
    // Many marks at once are few frames, and the last one says all.
    for (id, seq) in (10..110).zip(7..) {
        assert_eq!(alice.is_stored(text(&group, id, "z")), seq);
    }
    let begun = Instant::now();
    for seq in 7..=106 {
        bob.marks(&group, seq);
    }
    let frames = alice.sees_readers(&[(7, 1), (60, 1), (106, 1)]);
    let took = begun.elapsed();
    assert!(took < DEADLINE / 2, "{took:?}");
    let allowed = 2 + (took.as_millis() / 500) as usize;
    assert!(frames <= allowed, "{frames} frames in {took:?}");
    assert!(Duration::from_millis(1) < took);
}
