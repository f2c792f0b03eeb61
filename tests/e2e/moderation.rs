//! What moderators and rooms forbid: slow mode, mutes, kicks, bans, closed rooms.

use crate::On;
use crate::client::Client;
use crate::server::Server;
use crate::tokens::{claims, config, hs256, plain};
use serde_json::{Value, json};
use uproar_proto::v1::server_frame::Body;

pub(crate) fn slow_mode_holds_for_a_user_on_all_connections(on: On) {
    let server = Server::start(on.io, &config());
    server.post("/v1/rooms", &json!({"room": "stage", "slow_mode_s": 600}));
    let token = plain("alice");
    let mut devices: Vec<Client> = (0..3).map(|_| Client::user(&server, on.wire, &token)).collect();
    for device in &mut devices {
        assert_eq!(device.join("stage").slow_mode_s, 600);
    }
    devices[0].is_accepted("stage", "1", "once");
    for device in &mut devices {
        let (code, retry_after_ms) = device.is_refused("stage", "2", "and again");
        assert_eq!(code, 1002, "SLOW_MODE");
        assert!((500_000..=600_000).contains(&retry_after_ms), "{retry_after_ms}");
    }
    let moderator = hs256(&claims("mod", json!({"moderate": true})));
    let mut moderator = Client::user(&server, on.wire, &moderator);
    moderator.join("stage");
    moderator.is_accepted("stage", "1", "moderators are exempt");
    moderator.is_accepted("stage", "2", "twice");
    let answer = server.request("PATCH", "/v1/rooms/stage", &json!({"slow_mode_s": 0}));
    assert_eq!(answer.status, 200, "{}", answer.body);
    devices[1].is_accepted("stage", "3", "slow mode is over");
}

pub(crate) fn a_muted_user_watches_and_does_not_speak(on: On) {
    let server = Server::start(on.io, &config());
    let mut alice = Client::user(&server, on.wire, &plain("alice"));
    let mut bob = Client::user(&server, on.wire, &plain("bob"));
    alice.join("stage");
    bob.join("stage");
    server.post("/v1/rooms/stage/mute", &json!({"user": "alice", "mute_s": 60}));
    let (code, retry_after_ms) = alice.is_refused("stage", "1", "hello?");
    assert_eq!(code, 2013, "MUTED");
    assert!((1..=60_000).contains(&retry_after_ms), "{retry_after_ms}");
    bob.is_accepted("stage", "1", "hello");
    alice.messages("stage", 1);
    server.post("/v1/rooms/stage/mute", &json!({"user": "alice", "mute_s": 0}));
    alice.is_accepted("stage", "2", "I may again");
}

pub(crate) fn a_kicked_user_may_come_back_and_a_banned_one_not(on: On) {
    let server = Server::start(on.io, &config());
    let token = plain("mallory");
    let (mut phone, mut desktop) =
        (Client::user(&server, on.wire, &token), Client::user(&server, on.wire, &token));
    let mut witness = Client::user(&server, on.wire, &plain("alice"));
    for client in [&mut phone, &mut desktop, &mut witness] {
        client.join("stage");
        client.join("other");
    }
    let kick = |ban_s: u32| {
        let body = json!({"user": "mallory", "ban_s": ban_s});
        server.post("/v1/rooms/stage/kick", &body)["connections"].as_u64()
    };
    assert_eq!(kick(0), Some(2), "both devices");
    for client in [&mut phone, &mut desktop] {
        let left = client.left();
        assert_eq!((left.room.as_str(), left.code), ("stage", 3005), "KICKED");
    }
    phone.join("stage");
    assert_eq!(kick(60), Some(1));
    assert_eq!(phone.left().code, 3006, "BANNED");
    for client in [&mut phone, &mut desktop] {
        client.ask_to_join("stage", None);
        assert_eq!(client.room_error("stage"), "BANNED");
    }
    phone.is_accepted("other", "1", "elsewhere I may");
    [&mut phone, &mut desktop].iter_mut().for_each(|client| drop(client.messages("other", 1)));
    let mut again = Client::user(&server, on.wire, &token);
    again.ask_to_join("stage", None);
    assert_eq!(again.room_error("stage"), "BANNED", "a new connection is no way around");
    witness.ping();
    assert!(!witness.has_unread(|body| matches!(body, Body::Left(_))));
    let nobody = server.post("/v1/rooms/stage/kick", &json!({"user": "nobody"}));
    assert_eq!(nobody["connections"], 0);
}

pub(crate) fn a_ban_holds_where_the_room_was_not_yet_open(on: On) {
    let server = Server::start(on.io, &config());
    server.post("/v1/rooms", &json!({"room": "stage"}));
    // Nobody is in the room on any shard: only its home knows of the ban.
    server.post("/v1/rooms/stage/kick", &json!({"user": "mallory", "ban_s": 60}));
    for _ in 0..4 {
        let mut mallory = Client::user(&server, on.wire, &plain("mallory"));
        mallory.ask_to_join("stage", None);
        assert_eq!(mallory.room_error("stage"), "BANNED");
    }
    let mut alice = Client::user(&server, on.wire, &plain("alice"));
    alice.join("stage");
}

pub(crate) fn a_closed_room_tells_its_viewers(on: On) {
    let server = Server::start(on.io, "[engine.rooms]\nauto_create = false\n");
    server.post("/v1/rooms", &json!({"room": "stage"}));
    let mut viewers: Vec<Client> =
        (0..4).map(|_| Client::viewer(&server, on.wire, "stage").0).collect();
    let epoch = server.get("/v1/rooms/stage").json()["epoch"].clone();
    assert_eq!(server.request("DELETE", "/v1/rooms/stage", &Value::Null).status, 204);
    for viewer in &mut viewers {
        let left = viewer.left();
        assert_eq!((left.room.as_str(), left.code), ("stage", 2012), "ROOM_CLOSED");
        viewer.ask_to_join("stage", None);
        assert_eq!(viewer.room_error("stage"), "ROOM_NOT_FOUND");
    }
    server.post("/v1/rooms", &json!({"room": "stage"}));
    viewers[0].join("stage");
    assert_ne!(server.get("/v1/rooms/stage").json()["epoch"], epoch, "another life");
}
