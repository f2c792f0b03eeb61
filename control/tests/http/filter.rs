//! The filter list over HTTP.

use crate::accounts::{World, access, unhurried};
use crate::client::{Answer, KEY, Server};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use uproar_proto::control::Tell;

const FILTER: &str = "/v1/filter";

#[track_caller]
fn put(server: &Server, body: &Value, if_match: &str, status: u16) -> Answer {
    let headers =
        format!("Authorization: Bearer {KEY}\r\nContent-Type: application/json\r\n{if_match}");
    let answer = server.raw("PUT", FILTER, &headers, &body.to_string());
    assert_eq!(answer.status, status, "{}", answer.body);
    answer
}

fn told(server: &Server, version: u64) -> (String, String) {
    server.engine.wait_for("the list", |tell| match tell {
        Tell::Filter(list) if list.version == version => {
            Some((list.words.clone(), list.regexes.clone()))
        }
        _ => None,
    })
}

#[test]
fn a_list_is_replaced_changed_tried_out_and_told() {
    let world = World::with(unhurried());
    let server = &world.server;
    assert_eq!(told(server, 0), Default::default(), "there is none yet");
    let made =
        put(server, &json!({"words": ["spam", " 加微信 ", "spam"], "regexes": ["v\\d+"]}), "", 200);
    assert_eq!(made.json(), json!({"version": 1, "words": 2, "regexes": 1}));
    assert_eq!(told(server, 1), ("spam\n加微信".into(), "v\\d+".into()));
    let plain = "Content-Type: text/plain; charset=utf-8\r\nIf-Match: \"1\"\r\n";
    let headers = format!("Authorization: Bearer {KEY}\r\n{plain}");
    let words = server.raw("PUT", FILTER, &headers, "\u{feff}赌博\r\nspam\r\n\r\n");
    assert_eq!((words.status, words.header("etag")), (200, Some("\"2\"")), "{}", words.body);
    let stale = put(server, &json!({"words": []}), "If-Match: \"1\"\r\n", 412);
    assert!(stale.error(412, "CONFLICT").contains("version 2"), "{}", stale.body);
    let change = json!({"add_words": ["vx"], "remove_words": ["spam", "nobody"]});
    let changed = server.call("PATCH", FILTER, &change.to_string());
    assert_eq!(changed.json(), json!({"version": 3, "words": 2, "regexes": 1}));
    let list = server.call("GET", FILTER, "");
    assert_eq!(
        (list.json(), list.header("etag")),
        (json!({"version": 3, "words": ["vx", "赌博"], "regexes": ["v\\d+"]}), Some("\"3\""))
    );
    let plain = format!("Authorization: Bearer {KEY}\r\nAccept: text/plain\r\n");
    assert_eq!(server.raw("GET", FILTER, &plain, "").body, "vx\n赌博");
    assert_eq!(told(server, 3).0, "vx\n赌博");
    let tried =
        |text: &str| server.call("POST", "/v1/filter/check", &json!({"text": text}).to_string());
    assert_eq!(
        tried("Ｖ.Ｘ 赌-博!V123").json(),
        json!({"hit": true, "words": ["vx", "赌博"], "regexes": ["v\\d+"], "version": 3,
            "normal": "vx赌博v123", "folded": "v.x 赌-博!v123"})
    );
    assert_eq!(tried("hello").json()["hit"], false);
    let text = server.raw("GET", "/metrics", "", "").body;
    for line in ["uproar_filter_list_version 3", "uproar_filter_list_words 2"] {
        assert!(text.lines().any(|l| l == line), "{line} is missing in:\n{text}");
    }
}

#[test]
fn a_bad_list_changes_nothing_and_is_told_what_is_wrong() {
    let world = World::with(unhurried());
    let server = &world.server;
    put(server, &json!({"words": ["spam"], "regexes": []}), "", 200);
    for (words, regexes, told) in [
        (vec!["!!"], vec![], "has no letter"),
        (vec!["a\nb"], vec![], "more than one line"),
        (vec![], vec!["("], "is no regular expression"),
        (vec![], vec!["(?:ab){0,9}"], "every message"),
        (vec![], vec![r"\w{300}"], "compiles to more"),
    ] {
        let answer = put(server, &json!({"words": words, "regexes": regexes}), "", 400);
        assert!(answer.error(400, "BAD_REQUEST").contains(told), "{}", answer.body);
    }
    let many: Vec<String> = (0..=200_000).map(|n| format!("w{n}")).collect();
    let answer = put(server, &json!({"words": many}), "", 400);
    assert!(answer.error(400, "BAD_REQUEST").contains("200001 words"), "{}", answer.body);
    let answer = put(server, &json!({"words": []}), "If-Match: 7\r\n", 400);
    assert!(answer.error(400, "BAD_REQUEST").contains("If-Match"));
    assert_eq!(server.call("GET", FILTER, "").json()["version"], 1);
}

#[test]
fn a_line_for_a_video_is_held_against_the_list() {
    let folder = std::env::temp_dir().join(format!("uproar-filtered-{}", std::process::id()));
    let world = World::keeping(&folder);
    let server = &world.server;
    put(server, &json!({"words": ["加微信"]}), "", 200);
    let ann = access(&world.enter("ann")).to_owned();
    let write = |text: &str| {
        let body = json!({"text": text, "offset_ms": 1}).to_string();
        world.with_token(&ann, "POST", "/v1/videos/v1/danmaku", &body)
    };
    let refused = write("快加 微 信");
    assert_eq!(refused.error(403, "FILTERED"), "the text is not allowed here");
    assert_eq!(write("hello").status, 201);
    let index = server.raw("GET", "/v1/videos/v1/danmaku", "", "").json();
    assert_eq!(index["segments"][0]["lines"], 1, "{index}");
    drop(world);
    // Its last segment may be written a moment after the server has ended.
    let end = Instant::now() + Duration::from_secs(10);
    while std::fs::remove_dir_all(&folder).is_err() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
}
