//! Settings and reactions as an app asks for them.

use crate::accounts::{World, access};
use serde_json::json;

#[test]
fn settings_are_off_until_they_are_set_and_one_at_a_time() {
    let world = World::new();
    let alice = world.enter("alice");
    let alice = access(&alice);
    let path = "/v1/account/settings";
    let get = || world.with_token(alice, "GET", path, "").json();
    assert_eq!(get(), json!({"private_read": false, "hide_last_seen": false}));
    let hidden = world.with_token(alice, "PATCH", path, r#"{"hide_last_seen":true}"#);
    assert_eq!(hidden.json(), json!({"private_read": false, "hide_last_seen": true}));
    world.with_token(alice, "PATCH", path, r#"{"private_read":true}"#);
    assert_eq!(get(), json!({"private_read": true, "hide_last_seen": true}));
    world.with_token(alice, "PATCH", path, "{}");
    world.with_token(alice, "PATCH", path, r#"{"hide_last_seen":false}"#);
    assert_eq!(get(), json!({"private_read": true, "hide_last_seen": false}));
    for wrong in ["", "[]", "[true,true]", r#"{"private_read":1}"#, r#"{"private":true}"#] {
        let answer = world.with_token(alice, "PATCH", path, wrong);
        assert!(matches!(answer.status, 400 | 415), "{wrong}: {} {}", answer.status, answer.body);
    }
    world.with_token("no token", "GET", path, "").error(401, "TOKEN_INVALID");
    // Another user's are another user's.
    let bob = world.enter("bob");
    let bobs = world.with_token(access(&bob), "GET", path, "").json();
    assert_eq!(bobs, json!({"private_read": false, "hide_last_seen": false}));
}

#[test]
fn a_conversation_is_named_as_on_the_wire_and_must_be_ones_own() {
    let world = World::new();
    let (alice, bob) = (world.enter("alice"), world.enter("bob"));
    let (alice, _) = (access(&alice), access(&bob));
    let quiet = r#"{"silent":true}"#;
    let about = |name: &str| format!("/v1/conversations/{name}");
    for (name, status, error) in [
        ("user%3Abob", 403, "NOT_MEMBER"), // they have none
        ("user%3Anobody", 404, "NOT_FOUND"),
        ("bob", 400, "BAD_CONVERSATION"),
        ("group%3A0000000000000001", 403, "NOT_MEMBER"),
        ("group%3Aone", 400, "BAD_CONVERSATION"),
        ("user%3A'%20OR%20''%3D'", 404, "NOT_FOUND"),
    ] {
        world.with_token(alice, "PATCH", &about(name), quiet).error(status, error);
        let reactions = format!("{}/messages/1/reactions", about(name));
        world.with_token(alice, "GET", &reactions, "").error(status, error);
    }
    let made = world.with_token(alice, "POST", "/v1/groups", r#"{"name":"Hikers"}"#);
    let group = format!("group%3A{}", made.json()["group"].as_str().unwrap());
    assert_eq!(world.with_token(alice, "PATCH", &about(&group), quiet).status, 204);
    let reactions =
        |of: &str| world.with_token(alice, "GET", &format!("{}/messages/{of}", about(&group)), "");
    let none = json!({"totals": [], "own": [], "users": []});
    assert_eq!(reactions("1/reactions").json(), none);
    reactions("2/reactions").error(404, "NOT_FOUND");
    for wrong in ["0/reactions", "x/reactions", "1/reactions?limit=0", "1/reactions?after=x"] {
        reactions(wrong).error(400, "BAD_REQUEST");
    }
}
