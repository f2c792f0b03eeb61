//! Rooms over HTTP.

use crate::client::Server;
use crate::engine::ROOMS_MAX;
use serde_json::json;
use std::sync::atomic::Ordering;

#[test]
fn a_room_is_created_shown_changed_and_closed() {
    let server = Server::keyed();
    let created = server.call("POST", "/v1/rooms", r#"{"room":"stage","rate_per_s":50}"#);
    assert_eq!(created.status, 201, "{}", created.body);
    let shown = server.call("GET", "/v1/rooms/stage", "");
    assert_eq!((shown.status, shown.json()), (200, created.json()));
    assert_eq!(
        shown.json(),
        json!({
            "room": "stage", "epoch": "00000000000000ab", "seq": 0, "viewers": 0, "likes": 0,
            "shards": 0, "attributes_version": 0,
            "settings": {
                "attributes": {}, "rate_per_s": 50, "user_rate_per_s": 5, "slow_mode_s": 0,
                "payload_bytes_max": 4096, "viewers_max": 0, "guests_publish": true,
                "filter": true,
                "mute_all": false, "allowed": [], "unique_s": 0, "delay_ms": 0,
                "enter_events": false,
                "before_publish": "off",
                "followers_only_s": null
            }
        })
    );
    let changed = server.call("PATCH", "/v1/rooms/stage", r#"{"slow_mode_s":3}"#);
    assert_eq!(changed.status, 200, "{}", changed.body);
    assert_eq!(changed.json()["settings"]["slow_mode_s"], 3);
    assert_eq!(changed.json()["settings"]["rate_per_s"], 50, "what is left out stays");
    let closed = server.call("DELETE", "/v1/rooms/stage", "");
    assert_eq!((closed.status, closed.body.as_str()), (204, ""));
    server.call("GET", "/v1/rooms/stage", "").error(404, "ROOM_NOT_FOUND");
    server.call("DELETE", "/v1/rooms/stage", "").error(404, "ROOM_NOT_FOUND");
    server.call("PATCH", "/v1/rooms/stage", "{}").error(404, "ROOM_NOT_FOUND");
}

#[test]
fn attributes_are_replaced_whole() {
    let server = Server::keyed();
    let body = r#"{"room":"a","attributes":{"title":"one","host":"ann"}}"#;
    assert_eq!(server.call("POST", "/v1/rooms", body).status, 201);
    let changed = server.call("PATCH", "/v1/rooms/a", r#"{"attributes":{"title":"two"}}"#);
    assert_eq!(changed.json()["settings"]["attributes"], json!({"title": "two"}));
    let kept = server.call("PATCH", "/v1/rooms/a", r#"{"rate_per_s":9}"#);
    assert_eq!(kept.json()["settings"]["attributes"], json!({"title": "two"}));
}

#[test]
fn concurrent_changes_of_different_settings_are_all_kept() {
    let server = Server::keyed();
    server.call("POST", "/v1/rooms", r#"{"room":"a"}"#);
    server.engine.slow.store(true, Ordering::SeqCst); // all of them are under way together
    let bodies = [
        r#"{"rate_per_s":77}"#,
        r#"{"user_rate_per_s":78}"#,
        r#"{"slow_mode_s":79}"#,
        r#"{"viewers_max":80}"#,
        r#"{"payload_bytes_max":81}"#,
        r#"{"guests_publish":false}"#,
        r#"{"filter":false}"#,
        r#"{"mute_all":true}"#,
        r#"{"allowed":["ann"]}"#,
        r#"{"unique_s":82}"#,
        r#"{"delay_ms":83}"#,
        r#"{"enter_events":true}"#,
        r#"{"before_publish":"closed"}"#,
        r#"{"followers_only_s":84}"#,
    ];
    std::thread::scope(|scope| {
        for body in bodies {
            scope.spawn(|| assert_eq!(server.call("PATCH", "/v1/rooms/a", body).status, 200));
        }
    });
    assert_eq!(
        server.call("GET", "/v1/rooms/a", "").json()["settings"],
        json!({
            "attributes": {}, "rate_per_s": 77, "user_rate_per_s": 78, "slow_mode_s": 79,
            "viewers_max": 80, "payload_bytes_max": 81, "guests_publish": false,
            "filter": false,
            "mute_all": true, "allowed": ["ann"], "unique_s": 82, "delay_ms": 83,
            "enter_events": true,
            "before_publish": "closed",
            "followers_only_s": 84
        })
    );
}

#[test]
fn a_room_asks_nobody_where_no_webhook_decides() {
    let server = Server::keyed();
    server.engine.decides.store(false, Ordering::SeqCst);
    for setting in ["open", "closed"] {
        let body = json!({"room": "a", "before_publish": setting}).to_string();
        let text = server.call("POST", "/v1/rooms", &body).error(400, "BAD_REQUEST");
        assert!(text.contains("no webhook has the event \"publish.before\""), "{text}");
    }
    let off = r#"{"room":"a","before_publish":"off"}"#;
    assert_eq!(server.call("POST", "/v1/rooms", off).status, 201);
    let set = || server.call("PATCH", "/v1/rooms/a", r#"{"before_publish":"closed"}"#);
    assert!(set().error(400, "BAD_REQUEST").contains("before_publish is \"closed\""));
    assert_eq!(server.call("PATCH", "/v1/rooms/a", r#"{"rate_per_s":9}"#).status, 200);
    server.engine.decides.store(true, Ordering::SeqCst);
    assert_eq!(set().status, 200);
}

#[test]
fn what_may_be_off_is_set_by_a_number_and_unset_by_null() {
    let server = Server::keyed();
    let body = r#"{"room":"a","followers_only_s":0}"#;
    let created = server.call("POST", "/v1/rooms", body);
    assert_eq!(created.json()["settings"]["followers_only_s"], 0, "{}", created.body);
    let set = |body: &str| server.call("PATCH", "/v1/rooms/a", body);
    assert_eq!(set(r#"{"rate_per_s":9}"#).json()["settings"]["followers_only_s"], 0);
    let off = set(r#"{"followers_only_s":null}"#).json();
    assert_eq!(off["settings"]["followers_only_s"], json!(null));
    let long = set(r#"{"followers_only_s":31536001}"#).error(400, "BAD_REQUEST");
    assert!(long.contains("followers_only_s is 31536001"), "{long}");
}

#[test]
fn a_room_is_not_created_twice_nor_beyond_the_nodes_bound() {
    let server = Server::keyed();
    for i in 0..ROOMS_MAX {
        let created = server.call("POST", "/v1/rooms", &format!(r#"{{"room":"r{i}"}}"#));
        assert_eq!(created.status, 201);
    }
    server.call("POST", "/v1/rooms", r#"{"room":"r0"}"#).error(409, "ALREADY_EXISTS");
    let full = server.call("POST", "/v1/rooms", r#"{"room":"one-more"}"#);
    full.error(503, "TOO_MANY_ROOMS");
    assert_eq!(full.json()["error"]["retry"], true);
    assert!(full.head.contains("retry-after: 1"), "{}", full.head);
}

#[test]
fn a_bad_name_or_setting_tells_what_is_allowed() {
    let server = Server::keyed();
    let text = server.call("POST", "/v1/rooms", r#"{"room":"a b"}"#).error(400, "BAD_ROOM");
    assert!(text.contains("\"a b\"") && text.contains("1 to 64 bytes"), "{text}");
    server.call("GET", "/v1/rooms/a%20b", "").error(400, "BAD_ROOM");
    let zero = server.call("POST", "/v1/rooms", r#"{"room":"a","rate_per_s":0}"#);
    assert_eq!(zero.error(400, "BAD_REQUEST"), "rate_per_s is 0; allowed is 1 to 10000");
    server.call("POST", "/v1/rooms", r#"{"room":"a"}"#);
    let large = server.call("PATCH", "/v1/rooms/a", r#"{"payload_bytes_max":16385}"#);
    assert!(large.error(400, "BAD_REQUEST").contains("allowed is 1 to 16384"));
    let now = server.call("GET", "/v1/rooms/a", "").json();
    assert_eq!(now["settings"]["payload_bytes_max"], 4096, "a refused change changes nothing");
}

#[test]
fn pages_hold_every_room_once_and_end() {
    let server = Server::keyed();
    for i in 0..7 {
        server.call("POST", "/v1/rooms", &format!(r#"{{"room":"r{i}"}}"#));
    }
    let mut seen = Vec::new();
    let mut path = "/v1/rooms?limit=3".to_owned();
    let pages = loop {
        let page = server.call("GET", &path, "").json();
        let rooms = page["rooms"].as_array().unwrap();
        assert!(rooms.len() <= 3 && seen.len() < 10);
        seen.extend(rooms.iter().map(|room| room["room"].as_str().unwrap().to_owned()));
        match page.get("next") {
            Some(next) => path = format!("/v1/rooms?limit=3&after={}", next.as_str().unwrap()),
            None => break seen,
        }
    };
    assert_eq!(pages, ["r0", "r1", "r2", "r3", "r4", "r5", "r6"]);
    let exact = server.call("GET", "/v1/rooms?limit=7", "").json();
    assert!(exact.get("next").is_none(), "a full last page has no next: {exact}");
}

#[test]
fn a_page_is_bounded_and_its_query_is_checked() {
    let server = Server::keyed();
    for limit in ["0", "1001"] {
        let answer = server.call("GET", &format!("/v1/rooms?limit={limit}"), "");
        assert!(answer.error(400, "BAD_REQUEST").contains("allowed is 1 to 1000"));
    }
    let text = server.call("GET", "/v1/rooms?limit=x", "").error(400, "BAD_REQUEST");
    assert!(text.contains("limit"), "{text}");
    let text = server.call("GET", "/v1/rooms?lmit=3", "").error(400, "BAD_REQUEST");
    assert!(text.contains("lmit") && text.contains("limit"), "{text}");
}
