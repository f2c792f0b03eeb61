//! Bans and mutes that outlive the life of their room, and the process that has it.

use crate::On;
use crate::client::Client;
use crate::server::Server;
use crate::split::Folder;
use crate::tokens::plain;
use serde_json::{Value, json};

/// A configuration whose rooms end soon after the last one has gone.
fn short_lived(folder: &Folder) -> String {
    format!("{}[engine.rooms]\nempty_ms_max = 500\n", folder.config())
}

/// Keeps mallory out for ten minutes, and silences bob.
fn decide(engine: &Server) {
    engine.post("/v1/rooms/stage/kick", &json!({"user": "mallory", "ban_s": 600}));
    engine.post("/v1/rooms/stage/mute", &json!({"user": "bob", "mute_s": 600}));
}

/// Waits until so many decisions are in the store.
fn are_stored(control: &Server, decisions: u32) {
    control.eventually("they are stored", |control| {
        control.metric("uproar_kept_penalties_stored_total", "") >= f64::from(decisions)
    });
}

/// Who is banned, as soon as the room that just began is told.
fn bans(engine: &Server) -> Value {
    engine.eventually("the room was told", |engine| {
        engine.metric("uproar_room_kept_held_total", "") >= 2.0
    });
    let bans = engine.get("/v1/rooms/stage/bans").json()["bans"].clone();
    bans.as_array().unwrap().iter().map(|ban| ban["user"].clone()).collect()
}

/// A room that began just now knows what was decided before: mallory does not get in, bob watches.
fn they_hold(engine: &Server, on: On) {
    let mut alice = Client::user(engine, on.wire, &plain("alice"));
    alice.join("stage");
    assert_eq!(bans(engine), json!(["mallory"]));
    let mut mallory = Client::user(engine, on.wire, &plain("mallory"));
    mallory.ask_to_join("stage", None);
    assert_eq!(mallory.room_error("stage"), "BANNED");
    let mut bob = Client::user(engine, on.wire, &plain("bob"));
    bob.join("stage");
    let (code, retry_after_ms) = bob.is_refused("stage", "1", "hello?");
    assert_eq!(code, 2013, "MUTED");
    assert!((1..=600_000).contains(&retry_after_ms), "{retry_after_ms}");
    alice.is_accepted("stage", "1", "all others may");
}

/// Nothing is held against them any more, and the next life knows that too.
fn they_are_over(engine: &Server, on: On) {
    let mut mallory = Client::user(engine, on.wire, &plain("mallory"));
    mallory.join("stage");
    let mut bob = Client::user(engine, on.wire, &plain("bob"));
    bob.join("stage");
    bob.is_accepted("stage", "1", "at last");
    mallory.is_accepted("stage", "1", "so am I");
}

fn end_them(engine: &Server) {
    engine.post("/v1/rooms/stage/mute", &json!({"user": "bob", "mute_s": 0}));
    let lifted = engine.request("DELETE", "/v1/rooms/stage/bans/mallory", &Value::Null);
    assert_eq!(lifted.status, 204, "{}", lifted.body);
}

// S-71
pub(crate) fn they_outlive_the_room_and_a_kill(on: On) {
    let folder = Folder::new(on, "kept");
    let mut server = Server::start_alone(on.io, &short_lived(&folder));
    let mut alice = Client::user(&server, on.wire, &plain("alice"));
    alice.join("stage");
    decide(&server);
    are_stored(&server, 2);
    alice.leave("stage");
    server.eventually("the room ends", |server| server.get("/v1/rooms/stage").status == 404);
    they_hold(&server, on);
    server.kill();
    server = server.start_in_its_place();
    they_hold(&server, on);
    let mut viewer = Client::user(&server, on.wire, &plain("alice"));
    viewer.join("stage");
    end_them(&server);
    are_stored(&server, 2);
    they_are_over(&server, on);
    server.kill();
    server = server.start_in_its_place();
    they_are_over(&server, on);
    assert_eq!(server.metric("uproar_room_kept_held_total", ""), 0.0);
}

// S-71
pub(crate) fn they_outlive_an_engine_and_what_it_decides_without_control(on: On) {
    let folder = Folder::new(on, "kept-split");
    let mut control = Server::control(&short_lived(&folder));
    let mut engine = control.engine(on.io, &short_lived(&folder));
    let mut alice = Client::user(&engine, on.wire, &plain("alice"));
    alice.join("stage");
    decide(&engine);
    are_stored(&control, 2);
    engine.kill();
    engine = engine.start_in_its_place();
    engine.is_linked(1);
    they_hold(&engine, on);
    // What is decided while control is away waits for it.
    control.kill();
    engine.eventually("it knows", |engine| engine.metric("uproar_link_up", "") == 0.0);
    let mut alice = Client::user(&engine, on.wire, &plain("alice"));
    alice.join("stage");
    end_them(&engine);
    control = control.start_in_its_place();
    engine.is_linked(2);
    are_stored(&control, 2);
    engine.kill();
    engine = engine.start_in_its_place();
    engine.is_linked(1);
    they_are_over(&engine, on);
}
