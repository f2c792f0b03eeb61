//! Being in a room: what a join brings, what a leave ends, who is counted.

use crate::On;
use crate::client::Client;
use crate::server::Server;
use serde_json::json;
use std::time::Duration;
use uproar_proto::v1::{Cursor, message::Content, server_frame::Body};

pub(crate) fn a_join_gets_the_snapshot(on: On) {
    let server = Server::start(on.io, "[engine.rooms]\nsnapshot_messages_max = 3\n");
    let attributes = json!({"title": "Live", "emoji": "\u{1f389} \"quoted\"\n"});
    server.post("/v1/rooms", &json!({"room": "stage", "attributes": attributes, "slow_mode_s": 7}));
    let seqs: Vec<u64> = (0..5).map(|n| server.says("stage", &format!("message {n}"))).collect();
    let (mut client, joined) = Client::viewer(&server, on.wire, "stage");
    let texts: Vec<_> = joined.messages.iter().map(|m| m.content.clone()).collect();
    let last_three =
        (2..5).map(|n| Some(Content::Text(format!("message {n}")))).collect::<Vec<_>>();
    assert_eq!(texts, last_three, "the last messages, oldest first");
    assert_eq!(joined.seq, seqs[4]);
    assert_eq!(joined.messages.iter().map(|m| m.seq).collect::<Vec<_>>(), seqs[2..]);
    assert!(joined.epoch != 0 && !joined.resumed && joined.viewers >= 1, "{joined:?}");
    assert_eq!(joined.slow_mode_s, 7);
    assert_eq!(joined.attributes["emoji"], "\u{1f389} \"quoted\"\n");
    assert_eq!(joined.attributes.len(), 2);
    let next = server.says("stage", "after the snapshot");
    assert_eq!(client.messages("stage", 1)[0].seq, next);
    assert_eq!(next, joined.seq + 1, "the stream goes on where the snapshot ends");
}

pub(crate) fn who_leaves_hears_nothing_more(on: On) {
    let server = Server::start(on.io, "");
    let (mut stays, _) = Client::viewer(&server, on.wire, "stage");
    let (mut leaves, _) = Client::viewer(&server, on.wire, "stage");
    leaves.leave("stage");
    let left = leaves.left();
    assert_eq!((left.room.as_str(), left.code), ("stage", 0));
    let seq = server.says("stage", "for those who stayed");
    stays.messages("stage", 1);
    leaves.ping();
    assert!(!leaves.has_unread(|body| matches!(body, Body::Batch(_))));
    leaves.say("stage", "1", "am I heard?");
    assert_eq!(leaves.room_error("stage"), "NOT_MEMBER");
    leaves.leave("stage");
    assert_eq!(leaves.room_error("stage"), "NOT_MEMBER");
    let again = leaves.join("stage");
    assert_eq!(leaves.seqs_from(&again, 1), [seq], "who comes back is told what was said");
}

pub(crate) fn wrong_joins_are_errors_about_the_room(on: On) {
    let config = "[engine]\nrooms_per_connection_max = 2\n[engine.rooms]\nauto_create = false\n";
    let server = Server::start(on.io, config);
    for room in ["a", "b", "c"] {
        server.post("/v1/rooms", &json!({"room": room}));
    }
    let mut client = Client::guest(&server, on.wire);
    client.join("a");
    let mut ask = |room: &str| {
        client.ask_to_join(room, None);
        client.room_error(room)
    };
    assert_eq!(ask("nowhere"), "ROOM_NOT_FOUND");
    assert_eq!(ask("a"), "ALREADY_JOINED");
    assert_eq!(ask("no spaces"), "BAD_ROOM");
    assert_eq!(ask(""), "BAD_ROOM");
    client.join("b");
    client.ask_to_join("c", None);
    assert_eq!(client.room_error("c"), "TOO_MANY_JOINS");
    client.leave("b");
    client.left();
    client.join("c");
}

pub(crate) fn a_full_room_takes_nobody_on_any_shard(on: On) {
    let server = Server::start(on.io, "[engine.rooms]\ncount_every_ms = 100\n");
    server.post("/v1/rooms", &json!({"room": "small", "viewers_max": 2}));
    let (mut first, _) = Client::viewer(&server, on.wire, "small");
    let (mut second, _) = Client::viewer(&server, on.wire, "small");
    // Shards learn of each other's viewers from the counts: until then the bound is soft.
    for client in [&mut first, &mut second] {
        client.count("two viewers", |count| count.viewers == Some(2));
    }
    let mut late: Vec<Client> = (0..6).map(|_| Client::guest(&server, on.wire)).collect();
    for client in &mut late {
        client.ask_to_join("small", None);
        assert_eq!(client.room_error("small"), "ROOM_FULL");
    }
    drop(first);
    second.count("one viewer", |count| count.viewers == Some(1));
    server.eventually("there is room again", |_| {
        let mut client = Client::guest(&server, on.wire);
        client.ask_to_join("small", None);
        client.take("an answer", |body| match body {
            Body::Joined(_) => Some(true),
            Body::Error(error) if error.name == "ROOM_FULL" => Some(false),
            _ => None,
        })
    });
}

pub(crate) fn an_empty_room_ends_and_begins_anew(on: On) {
    let server = Server::start(on.io, "[engine.rooms]\nempty_ms_max = 100\n");
    server.post("/v1/rooms", &json!({"room": "made"}));
    let (client, first) = Client::viewer(&server, on.wire, "lobby");
    server.says("lobby", "of the first life");
    client.hang_up();
    server.eventually("it ends", |s| s.get("/v1/rooms/lobby").status == 404);
    let (_client, second) = Client::viewer(&server, on.wire, "lobby");
    assert!(second.epoch != first.epoch && second.messages.is_empty(), "{second:?}");
    assert_eq!(server.get("/v1/rooms/made").status, 200, "what was created stays");
}

pub(crate) fn old_messages_leave_the_history(on: On) {
    let server = Server::start(on.io, "[engine.rooms]\nhistory_ms_max = 3000\n");
    let (mut keeper, joined) = Client::viewer(&server, on.wire, "stage");
    let old = server.says("stage", "soon forgotten");
    std::thread::sleep(Duration::from_millis(3_200)); // older than the bound by now
    let new = server.says("stage", "what came after");
    keeper.messages("stage", 2);
    let (_, snapshot) = Client::viewer(&server, on.wire, "stage");
    assert_eq!(snapshot.messages.iter().map(|m| m.seq).collect::<Vec<_>>(), [new]);
    let mut client = Client::guest(&server, on.wire);
    client.ask_to_join("stage", Some(Cursor { epoch: joined.epoch, seq: 0 }));
    let Body::Gap(gap) = client.next() else { panic!("a gap comes first") };
    assert_eq!((gap.from_seq, gap.to_seq), (old, old));
    assert!(!client.joined("stage").resumed);
}

pub(crate) fn several_rooms_do_not_mix(on: On) {
    let server = Server::start(on.io, "");
    let mut both = Client::guest(&server, on.wire);
    let (a, b) = (both.join("a"), both.join("b"));
    assert!(a.epoch != b.epoch, "an epoch is one life of one room");
    let (mut only_a, _) = Client::viewer(&server, on.wire, "a");
    let in_a: Vec<u64> = (0..3).map(|n| server.says("a", &format!("a {n}"))).collect();
    let in_b: Vec<u64> = (0..2).map(|n| server.says("b", &format!("b {n}"))).collect();
    for (room, seqs) in [("a", &in_a), ("b", &in_b)] {
        let heard = both.messages(room, seqs.len());
        assert_eq!(heard.iter().map(|m| m.seq).collect::<Vec<_>>(), *seqs);
    }
    only_a.messages("a", 3);
    only_a.ping();
    assert!(!only_a.has_unread(|body| matches!(body, Body::Batch(_))));
}

pub(crate) fn viewers_are_counted(on: On) {
    let server = Server::start(on.io, "[engine.rooms]\ncount_every_ms = 100\n");
    let (mut first, _) = Client::viewer(&server, on.wire, "stage");
    let others: Vec<Client> = (0..4).map(|_| Client::viewer(&server, on.wire, "stage").0).collect();
    let five = first.count("five viewers", |count| count.viewers == Some(5));
    assert_eq!(five.room, "stage");
    drop(others);
    first.count("one viewer", |count| count.viewers == Some(1));
    let room = server.get("/v1/rooms/stage").json();
    assert_eq!(room["viewers"], 1, "{room}");
}
