//! Publishing and moderation over HTTP.

use crate::client::{PAYLOAD_BYTES_MAX, Server};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use uproar_proto::control::Content;
use uproar_proto::v1;

fn server_with_room(settings: &str) -> Server {
    let server = Server::keyed();
    let body = format!(r#"{{"room":"stage"{settings}}}"#);
    assert_eq!(server.call("POST", "/v1/rooms", &body).status, 201);
    server
}

#[test]
fn a_message_reaches_its_room_as_it_was_sent() {
    let server = server_with_room("");
    let text = r#"{"user":"host","class":"system","text":"welcome","client_msg_id":"m1"}"#;
    let answer = server.call("POST", "/v1/rooms/stage/publish", text);
    assert_eq!((answer.status, answer.json()), (200, json!({"outcome": "ACCEPTED", "seq": 1})));
    let data = r#"{"user":"shop","class":"gift","data":"AAH/"}"#;
    assert_eq!(server.call("POST", "/v1/rooms/stage/publish", data).json()["seq"], 2);
    let plain = r#"{"user":"ann","text":"hi"}"#;
    assert_eq!(server.call("POST", "/v1/rooms/stage/publish", plain).json()["seq"], 3);

    let got = server.engine.messages("stage");
    assert_eq!((got[0].user.as_str(), got[0].class), ("host", v1::Class::System));
    assert_eq!(got[0].content, Content::Text("welcome".into()));
    assert_eq!(&got[0].client_msg_id[..], b"m1");
    assert_eq!(got[1].class, v1::Class::Gift);
    assert_eq!(got[1].content, Content::Data(vec![0, 1, 255].into()));
    assert_eq!(got[2].class, v1::Class::Chat, "chat where nothing is said");
    for made in [&got[1].client_msg_id, &got[2].client_msg_id] {
        assert!((1..=16).contains(&made.len()));
    }
    assert_ne!(got[1].client_msg_id, got[2].client_msg_id);
}

#[test]
fn a_gift_with_a_name_needs_no_content_and_one_that_breaks_a_rule_is_told_which() {
    let server = server_with_room("");
    let publish = |body: Value| server.call("POST", "/v1/rooms/stage/publish", &body.to_string());
    let gift = json!({"user": "ann", "class": "gift", "gift": "rose", "count": 3});
    assert_eq!(publish(gift.clone()).status, 200);
    let bulk = json!({"messages": [{"room": "stage", "user": "ann", "class": "gift",
        "gift": "car", "text": "for you"}]});
    server.call("POST", "/v1/publish", &bulk.to_string());
    let got = server.engine.messages("stage");
    assert_eq!((got[0].gift.as_deref(), got[0].count, got[0].content.len()), (Some("rose"), 3, 0));
    assert_eq!((got[1].gift.as_deref(), got[1].count, got[1].content.len()), (Some("car"), 0, 7));
    let long = "x".repeat(33);
    for (key, value, said) in [
        ("class", json!("chat"), "gift is set; allowed is that with class gift alone"),
        ("gift", json!(""), "gift has 0 bytes; allowed are 1 to 32"),
        ("gift", json!(long), "gift has 33 bytes; allowed are 1 to 32"),
        ("gift", json!("a\u{7}"), "without characters that show nothing or turn the text"),
        ("gift", json!("\u{202e}esor"), "without characters that show nothing or turn the text"),
        ("gift", json!(null), "count is set without gift"),
        ("count", json!(1_000_001), "count is 1000001; allowed is up to 1000000"),
    ] {
        let mut body = gift.clone();
        body[key] = value;
        let text = publish(body).error(400, "BAD_REQUEST");
        assert!(text.contains(said), "{text}");
    }
}

#[test]
fn a_shed_message_is_an_answer_and_not_an_error() {
    let server = server_with_room(r#","rate_per_s":1"#);
    let body = r#"{"user":"ann","text":"hi"}"#;
    server.call("POST", "/v1/rooms/stage/publish", body);
    let shed = server.call("POST", "/v1/rooms/stage/publish", body);
    assert_eq!(shed.status, 200);
    let expected =
        json!({"outcome": "SHED", "code": 1003, "name": "ROOM_BUSY", "retry_after_ms": 250});
    assert_eq!(shed.json(), expected);
}

#[test]
fn a_message_that_breaks_a_rule_is_not_offered() {
    let server = server_with_room("");
    let publish = |body: &str| server.call("POST", "/v1/rooms/stage/publish", body);
    publish(r#"{"user":"a"}"#).error(400, "EMPTY");
    publish(r#"{"user":"a","text":""}"#).error(400, "EMPTY");
    let both = publish(r#"{"user":"a","text":"x","data":"AA=="}"#).error(400, "BAD_REQUEST");
    assert!(both.contains("both"), "{both}");
    publish(r#"{"user":"a","data":"%%"}"#).error(400, "BAD_REQUEST");
    publish(r#"{"user":"","text":"x"}"#).error(400, "BAD_REQUEST");
    let long = "u".repeat(65);
    publish(&format!(r#"{{"user":"{long}","text":"x"}}"#)).error(400, "BAD_REQUEST");
    publish(r#"{"user":"a","text":"x","client_msg_id":"12345678901234567"}"#).error(400, "BAD_ID");
    publish(r#"{"user":"a","text":"x","client_msg_id":""}"#).error(400, "BAD_ID");
    let large = "x".repeat(PAYLOAD_BYTES_MAX as usize + 1);
    publish(&format!(r#"{{"user":"a","text":"{large}"}}"#)).error(413, "TOO_LARGE");
    let like = publish(r#"{"user":"a","text":"x","class":"like"}"#).error(400, "BAD_REQUEST");
    assert!(like.contains("like") && like.contains("`gift`"), "{like}");
    assert!(server.engine.messages("stage").is_empty());
    let nowhere = server.call("POST", "/v1/rooms/none/publish", r#"{"user":"a","text":"x"}"#);
    nowhere.error(404, "ROOM_NOT_FOUND");
}

#[test]
fn a_bulk_answers_each_message_in_its_place() {
    let server = server_with_room(r#","rate_per_s":2"#);
    server.call("POST", "/v1/rooms", r#"{"room":"other"}"#);
    let body = json!({"messages": [
        {"room": "stage", "user": "a", "text": "s1"},
        {"room": "other", "user": "a", "text": "o1"},
        {"room": "nowhere", "user": "a", "text": "n"},
        {"room": "bad name", "user": "a", "text": "b"},
        {"room": "stage", "user": "a"},
        {"room": "stage", "user": "a", "text": "s2"},
        {"room": "stage", "user": "a", "text": "s3"},
        {"room": "other", "user": "a", "text": "o2"},
    ]});
    let answer = server.call("POST", "/v1/publish", &body.to_string());
    assert_eq!(answer.status, 200, "{}", answer.body);
    let answer = answer.json();
    let results = answer["results"].as_array().unwrap();
    let told: Vec<Value> = results
        .iter()
        .map(|r| match r.get("error") {
            Some(error) => error["name"].clone(),
            None => json!([r["outcome"], r["seq"]]),
        })
        .collect();
    assert_eq!(
        told,
        [
            json!(["ACCEPTED", 1]),
            json!(["ACCEPTED", 1]),
            json!("ROOM_NOT_FOUND"),
            json!("BAD_ROOM"),
            json!("EMPTY"),
            json!(["ACCEPTED", 2]),
            json!(["SHED", null]),
            json!(["ACCEPTED", 2]),
        ]
    );
    let texts: Vec<_> = server.engine.messages("stage").into_iter().map(|m| m.content).collect();
    assert_eq!(texts, [Content::Text("s1".into()), Content::Text("s2".into())], "in order");
}

#[test]
fn a_bulk_is_bounded() {
    let server = server_with_room(r#","rate_per_s":10000"#);
    let message = r#"{"room":"stage","user":"a","text":"x"}"#;
    let bulk = |count: usize| {
        let messages = vec![message; count].join(",");
        server.call("POST", "/v1/publish", &format!(r#"{{"messages":[{messages}]}}"#))
    };
    for count in [0, 1001] {
        let text = bulk(count).error(400, "BAD_REQUEST");
        assert_eq!(text, format!("messages holds {count}; allowed is 1 to 1000"));
    }
    assert!(server.engine.messages("stage").is_empty(), "a refused bulk offers nothing");
    let full = bulk(1000);
    assert_eq!(full.json()["results"].as_array().unwrap().len(), 1000);
    assert_eq!(full.json()["results"][999]["seq"], 1000);
}

#[test]
fn a_mistake_in_a_bulk_is_shown_with_its_place() {
    let server = server_with_room("");
    let body = r#"{"messages":[{"room":"stage","user":"a","text":"x"},
        {"room":"stage","user":"a","txt":"x"}]}"#;
    let text = server.call("POST", "/v1/publish", body).error(400, "BAD_REQUEST");
    assert!(text.contains("messages[1]") && text.contains("txt"), "{text}");
    assert!(text.contains("line 2"), "{text}");
    assert!(server.engine.messages("stage").is_empty());
}

#[test]
fn a_stalled_engine_fails_the_whole_bulk_within_one_deadline() {
    let config = uproar_control::Config {
        api_key: crate::client::KEY.into(),
        reply_ms_max: 400,
        ..Default::default()
    };
    let server = Server::with(config);
    server.engine.stalled.store(true, Ordering::SeqCst);
    let messages: Vec<Value> =
        (0..50).map(|i| json!({"room": format!("r{i}"), "user": "a", "text": "x"})).collect();
    let started = std::time::Instant::now();
    let answer = server.call("POST", "/v1/publish", &json!({"messages": messages}).to_string());
    assert!(started.elapsed().as_millis() < 15_000, "not one deadline for each of 50 rooms");
    let answer = answer.json();
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), 50);
    assert!(results.iter().all(|r| r["error"]["name"] == "INTERNAL"), "{answer}");
}

#[test]
fn a_kicked_user_loses_every_connection_and_a_muted_one_its_voice() {
    let server = server_with_room("");
    server.engine.join("stage", "mallory");
    server.engine.join("stage", "ann");
    server.engine.join("stage", "mallory");
    let kicked = server.call("POST", "/v1/rooms/stage/kick", r#"{"user":"mallory","ban_s":60}"#);
    assert_eq!((kicked.status, kicked.json()), (200, json!({"connections": 2})));
    assert_eq!(server.call("GET", "/v1/rooms/stage", "").json()["viewers"], 1);

    let mute = |s: u32| format!(r#"{{"user":"bob","mute_s":{s}}}"#);
    assert_eq!(server.call("POST", "/v1/rooms/stage/mute", &mute(60)).status, 204);
    let body = r#"{"user":"bob","text":"hi"}"#;
    let muted = server.call("POST", "/v1/rooms/stage/publish", body).json();
    assert_eq!(muted, json!({"outcome": "REFUSED", "code": 2013, "name": "MUTED"}));
    assert_eq!(server.call("POST", "/v1/rooms/stage/mute", &mute(0)).status, 204);
    let again = server.call("POST", "/v1/rooms/stage/publish", body).json();
    assert_eq!(again["outcome"], "ACCEPTED");
}

#[test]
fn moderation_checks_what_it_is_given() {
    let server = server_with_room("");
    let text = server.call("POST", "/v1/rooms/stage/mute", r#"{"user":"bob"}"#);
    assert!(text.error(400, "BAD_REQUEST").contains("mute_s"));
    let text = server.call("POST", "/v1/rooms/stage/kick", r#"{"user":"b","ban_s":40000000}"#);
    assert!(text.error(400, "BAD_REQUEST").contains("allowed is 0 to 31536000"));
    let text = server.call("POST", "/v1/rooms/stage/kick", r#"{"user":""}"#);
    assert!(text.error(400, "BAD_REQUEST").contains("1 to 64"));
    server.call("POST", "/v1/rooms/none/kick", r#"{"user":"b"}"#).error(404, "ROOM_NOT_FOUND");
    server
        .call("POST", "/v1/rooms/none/mute", r#"{"user":"b","mute_s":1}"#)
        .error(404, "ROOM_NOT_FOUND");
}
