//! Roles in rooms, what they permit, and the audit log.

use crate::accounts::{World, unhurried};
use crate::client::Answer;
use serde_json::{Value, json};

fn minted(world: &World, user: &str) -> String {
    let answer = world.server.call("POST", "/v1/tokens", &json!({"user": user}).to_string());
    let token = answer.json()["token"].as_str().unwrap().to_owned();
    // Its first request makes it known.
    assert_eq!(world.with_token(&token, "GET", "/v1/friends", "").status, 200);
    token
}

/// A room with an owner and a moderator: their tokens, and that of somebody else.
fn staffed(world: &World) -> [String; 3] {
    let tokens = ["olga", "mo", "bob"].map(|name| minted(world, name));
    let server = &world.server;
    assert_eq!(server.call("POST", "/v1/rooms", r#"{"room":"stage"}"#).status, 201);
    assert_eq!(server.call("POST", "/v1/rooms", r#"{"room":"other"}"#).status, 201);
    let role = |user: &str, role: &str| {
        let path = format!("/v1/rooms/stage/roles/{user}");
        server.call("PUT", &path, &json!({"role": role}).to_string())
    };
    assert_eq!(role("olga", "owner").status, 204);
    assert_eq!(role("mo", "moderator").status, 204);
    tokens
}

impl World {
    fn post(&self, token: &str, path: &str, body: &Value) -> Answer {
        self.with_token(token, "POST", path, &body.to_string())
    }
}

#[test]
fn a_role_permits_what_it_says_in_its_own_room_alone() {
    let world = World::with(unhurried());
    let [olga, mo, bob] = staffed(&world);
    let mute = |user: &str| json!({"user": user, "mute_s": 60});
    let path = "/v1/rooms/stage/mute";
    assert_eq!(world.post(&mo, path, &mute("guest-1")).status, 204, "nobody the store knows");
    assert_eq!(world.post(&mo, path, &mute("bob")).status, 204);
    assert_eq!(world.post(&olga, path, &mute("mo")).status, 204);
    for (token, path, user) in [
        (&bob, path, "guest-1"),
        (&mo, "/v1/rooms/other/mute", "bob"),
        (&mo, path, "olga"),
        (&mo, path, "mo"),
        (&olga, path, "olga"),
    ] {
        world.post(token, path, &mute(user)).error(403, "FORBIDDEN");
    }
    world.post(&mo, "/v1/rooms/stage/kick", &json!({"user": "olga"})).error(403, "FORBIDDEN");
    let kick = json!({"user": "olga", "ban_s": 5});
    assert_eq!(world.server.call("POST", "/v1/rooms/stage/kick", &kick.to_string()).status, 200);
    // Owners make and unmake moderators, nobody else does; owners are the platform's to make.
    let role = |token: &str, method: &str, user: &str, role: &str| {
        let body = if method == "PUT" { json!({"role": role}).to_string() } else { String::new() };
        world.with_token(token, method, &format!("/v1/rooms/stage/roles/{user}"), &body)
    };
    assert_eq!(role(&olga, "PUT", "bob", "moderator").status, 204);
    assert_eq!(world.post(&bob, path, &mute("guest-1")).status, 204, "at once");
    for (token, method, user, to) in [
        (&mo, "PUT", "bob", "moderator"),
        (&mo, "DELETE", "bob", ""),
        (&olga, "PUT", "bob", "owner"),
        (&olga, "PUT", "olga", "moderator"),
        (&olga, "DELETE", "olga", ""),
    ] {
        role(token, method, user, to).error(403, "FORBIDDEN");
    }
    assert_eq!(role(&olga, "DELETE", "bob", "").status, 204);
    world.post(&bob, path, &mute("guest-1")).error(403, "FORBIDDEN");
    let list = world.with_token(&mo, "GET", "/v1/rooms/stage/roles", "").json();
    let ann = |user: &str, role: &str| json!({"user": user, "role": role});
    assert_eq!(list, json!({"roles": [ann("mo", "moderator"), ann("olga", "owner")]}));
    // No role opens anything else.
    world.with_token(&olga, "GET", "/v1/audit", "").error(401, "TOKEN_INVALID");
    let settings = world.with_token(&olga, "PATCH", "/v1/rooms/stage", r#"{"slow_mode_s":1}"#);
    settings.error(401, "TOKEN_INVALID");
}

#[test]
fn a_ban_is_listed_and_ended_by_whoever_may_ban() {
    let world = World::with(unhurried());
    let [olga, mo, bob] = staffed(&world);
    let server = &world.server;
    for user in ["bob", "bob", "guest-1"] {
        server.engine.join("stage", user);
    }
    let path = "/v1/rooms/stage/kick";
    let ban = json!({"user": "bob", "ban_s": 60, "devices": true, "addresses": true});
    let banned = world.post(&mo, path, &ban).json();
    assert_eq!(banned, json!({"connections": 2, "devices": 2, "addresses": 2}));
    let kicked = world.post(&mo, path, &json!({"user": "guest-1"})).json();
    assert_eq!(kicked, json!({"connections": 1}), "what was not asked is not told");
    let text = world.post(&mo, path, &json!({"user": "bob", "devices": true}));
    assert!(text.error(400, "BAD_REQUEST").contains("ban_s is 0"));
    let mute = json!({"action": "mute", "users": ["bob"], "seconds": 5, "addresses": true});
    let text = world.post(&mo, "/v1/rooms/stage/moderation", &mute);
    assert!(text.error(400, "BAD_REQUEST").contains("no ban"));
    let many = json!({"action": "ban", "users": ["guest-2"], "seconds": 5, "devices": true});
    let many = world.post(&mo, "/v1/rooms/stage/moderation", &many).json();
    let one = json!({"user": "guest-2", "connections": 0, "devices": 0});
    assert_eq!(many["results"], json!([one]));
    let list = |query: &str| {
        let path = format!("/v1/rooms/stage/bans{query}");
        world.with_token(&mo, "GET", &path, "").json()
    };
    let page = list("?limit=1");
    let of_bob = json!({"user": "bob", "until_unix_ms": 60_000, "devices": 2, "addresses": 2});
    assert_eq!(page, json!({"bans": [of_bob], "next": "bob"}));
    assert_eq!(list("?after=bob")["bans"][0]["user"], "guest-2");
    let lift = |token: &str, user: &str| {
        world.with_token(token, "DELETE", &format!("/v1/rooms/stage/bans/{user}"), "")
    };
    world.with_token(&bob, "GET", "/v1/rooms/stage/bans", "").error(403, "FORBIDDEN");
    lift(&bob, "bob").error(403, "FORBIDDEN");
    lift(&mo, "olga").error(403, "FORBIDDEN");
    for _ in 0..2 {
        assert_eq!(lift(&olga, "bob").status, 204);
    }
    assert_eq!(list("")["bans"].as_array().unwrap().len(), 1);
    let limit = world.with_token(&mo, "GET", "/v1/rooms/stage/bans?limit=1001", "");
    assert!(limit.error(400, "BAD_REQUEST").contains("1 to 1000"));
    let audit = server.call("GET", "/v1/audit?room=stage", "").json();
    let entries = audit["entries"].as_array().unwrap();
    let unbans = entries.iter().filter(|entry| entry["what"] == "unban");
    let unbans: Vec<&Value> = unbans.map(|entry| &entry["whom"]).collect();
    assert_eq!(unbans, ["bob"], "the second time there was none");
    let ban = entries.iter().find(|entry| entry["what"] == "ban" && entry["whom"] == "bob");
    assert_eq!(ban.unwrap()["detail"], "seconds=60 devices=true addresses=true");
}

#[test]
fn many_are_moderated_in_one_call_with_a_result_each() {
    let world = World::with(unhurried());
    let [_, mo, _] = staffed(&world);
    for user in ["guest-1", "bob", "bob"] {
        world.server.engine.join("stage", user);
    }
    let path = "/v1/rooms/stage/moderation";
    let kick = json!({"action": "kick", "users": ["bob", "olga", "guest-1", "nobody"]});
    let results = world.post(&mo, path, &kick).json()["results"].clone();
    let removed = |user: &str, many: u32| json!({"user": user, "connections": many});
    assert_eq!(
        [&results[0], &results[2], &results[3]],
        [&removed("bob", 2), &removed("guest-1", 1), &removed("nobody", 0)]
    );
    assert_eq!(results[1]["error"]["name"], "FORBIDDEN");
    let nowhere = json!({"action": "mute", "users": ["bob"], "seconds": 5});
    let answer = world.server.call("POST", "/v1/rooms/none/moderation", &nowhere.to_string());
    assert_eq!(answer.json()["results"][0]["error"]["name"], "ROOM_NOT_FOUND");
    let many: Vec<String> = (0..101).map(|n| format!("u{n}")).collect();
    for (body, told) in [
        (json!({"action": "mute", "users": many, "seconds": 5}), "allowed are 1 to 100"),
        (json!({"action": "mute", "users": [], "seconds": 5}), "allowed are 1 to 100"),
        (json!({"action": "ban", "users": ["bob"]}), "a ban lasts from 1 on"),
        (json!({"action": "mute", "users": ["bob"], "reason": "x".repeat(257)}), "257 characters"),
    ] {
        let text = world.post(&mo, path, &body).error(400, "BAD_REQUEST");
        assert!(text.contains(told), "{text}");
    }
    let many: Vec<String> = (0..100).map(|n| format!("u{n}")).collect();
    let mute = json!({"action": "mute", "users": many, "seconds": 5});
    let results = world.post(&mo, path, &mute).json()["results"].as_array().unwrap().clone();
    assert!(results.len() == 100 && results.iter().all(|one| one.get("error").is_none()));
}

#[test]
fn a_role_permits_what_is_shown_beside_the_messages() {
    let world = World::with(unhurried());
    let [olga, mo, bob] = staffed(&world);
    let poll = json!({"question": "who wins?", "options": ["red", "blue"], "duration_s": 60});
    for (method, path, body, status) in [
        ("POST", "recall", json!({"user": "bob"}), 200),
        ("PATCH", "attributes", json!({"set": {"score": "2:1"}}), 200),
        ("PUT", "pin", json!({"user": "mo", "text": "welcome"}), 204),
        ("DELETE", "pin", Value::Null, 204),
        ("POST", "polls", poll, 201),
        ("GET", "polls/1", Value::Null, 200),
        ("DELETE", "polls/1", Value::Null, 200),
    ] {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let path = format!("/v1/rooms/stage/{path}");
        world.with_token(&bob, method, &path, &body).error(403, "FORBIDDEN");
        assert_eq!(world.with_token(&mo, method, &path, &body).status, status, "{method} {path}");
    }
    let under_another = json!({"user": "olga", "text": "send coins"}).to_string();
    let pinned = world.with_token(&mo, "PUT", "/v1/rooms/stage/pin", &under_another);
    pinned.error(403, "FORBIDDEN");
    let of = |user: &str| json!({"user": user});
    world.post(&mo, "/v1/rooms/stage/recall", &of("olga")).error(403, "FORBIDDEN");
    assert_eq!(world.post(&olga, "/v1/rooms/stage/recall", &of("mo")).status, 200);
    // By seq too: no line of somebody with an equal or a greater role, but one's own.
    for user in ["olga", "mo", "bob"] {
        let body = json!({"user": user, "text": "x"}).to_string();
        assert_eq!(world.server.call("POST", "/v1/rooms/stage/publish", &body).status, 200);
    }
    let recall = |token: &str, seqs: &[u64]| {
        world.post(token, "/v1/rooms/stage/recall", &json!({"seqs": seqs}))
    };
    let text = recall(&mo, &[1, 3]).error(403, "FORBIDDEN");
    assert!(text.contains("equal or a greater role") && text.contains("nothing was"), "{text}");
    assert_eq!(recall(&olga, &[1, 2, 3]).json(), json!({"seqs": [1, 2, 3]}));
    assert_eq!(recall(&mo, &[3]).json(), json!({"seqs": [3]}));
    // What steers the server is the owner's to change.
    let attributes = |token: &str, body: Value| {
        world.with_token(token, "PATCH", "/v1/rooms/stage/attributes", &body.to_string())
    };
    for body in [json!({"set": {"danmaku": "on"}}), json!({"remove": ["danmaku"]})] {
        let text = attributes(&mo, body.clone()).error(403, "FORBIDDEN");
        assert!(text.contains("danmaku"), "{text}");
        assert_eq!(attributes(&olga, body).status, 200);
    }
    let audit = world.server.call("GET", "/v1/audit?room=stage", "").json();
    let mut told: Vec<String> = audit["entries"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["who"] == "user:mo")
        .map(|entry| entry["what"].as_str().unwrap().to_owned())
        .collect();
    told.sort(); // entries of one moment have no order
    assert_eq!(told, ["attributes", "pin", "poll.end", "poll.open", "recall", "recall", "unpin"]);
}

#[test]
fn whatever_was_done_stands_in_the_audit_log() {
    let world = World::with(unhurried());
    let [_, mo, _] = staffed(&world);
    let server = &world.server;
    let ban = json!({"user": "bob", "ban_s": 60, "reason": "spam"});
    assert_eq!(world.post(&mo, "/v1/rooms/stage/kick", &ban).status, 200);
    server.call("POST", "/v1/rooms/none/kick", r#"{"user":"bob"}"#).error(404, "ROOM_NOT_FOUND");
    let unmute = json!({"user": "bob", "mute_s": 0});
    assert_eq!(world.post(&mo, "/v1/rooms/stage/mute", &unmute).status, 204);
    assert_eq!(server.call("PATCH", "/v1/rooms/other", r#"{"slow_mode_s":3}"#).status, 200);
    assert_eq!(server.call("DELETE", "/v1/rooms/other", "").status, 204);
    assert_eq!(server.call("PATCH", "/v1/filter", r#"{"add_words":["spam"]}"#).status, 200);
    assert_eq!(server.call("DELETE", "/v1/rooms/stage/roles/mo", "").status, 204);
    let read = |query: &str| {
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let page = server.call("GET", &format!("/v1/audit?limit=3{query}{after}"), "").json();
            seen.extend(page["entries"].as_array().unwrap().clone());
            let Some(next) = page.get("next") else { return seen };
            after = format!("&after={}", next.as_str().unwrap());
        }
    };
    let what = |entries: &[Value]| -> Vec<String> {
        let told = |e: &Value| format!("{} {} {}", e["who"], e["what"], e["whom"]).replace('"', "");
        let mut all: Vec<String> = entries.iter().map(told).collect();
        all.sort();
        all
    };
    let all = read("");
    assert_eq!(
        what(&all),
        [
            "key filter.change ",
            "key role.remove mo",
            "key role.set mo",
            "key role.set olga",
            "key room.close ",
            "key room.create ",
            "key room.create ",
            "key room.update ",
            "user:mo ban bob",
            "user:mo unmute bob",
        ]
    );
    let ban = all.iter().find(|entry| entry["what"] == "ban").unwrap();
    assert_eq!((&ban["reason"], &ban["detail"]), (&json!("spam"), &json!("seconds=60")));
    assert_eq!((&ban["room"], &ban["from"]), (&json!("stage"), &json!("127.0.0.1")));
    assert!(
        all.windows(2).all(|two| two[0]["at_unix_ms"].as_i64() >= two[1]["at_unix_ms"].as_i64())
    );
    let of_room = read("&room=other");
    assert_eq!(what(&of_room), ["key room.close ", "key room.create ", "key room.update "]);
    let update = of_room.iter().find(|entry| entry["what"] == "room.update").unwrap();
    assert!(update["detail"].as_str().unwrap().contains("\"slow_mode_s\":3"), "{update}");
    let text = server.call("GET", "/v1/audit?after=x", "").error(400, "BAD_REQUEST");
    assert!(text.contains("after"), "{text}");
    let text = server.raw("GET", "/metrics", "", "").body;
    let lost = text.lines().find(|line| line.starts_with("uproar_audit_lost_total ")).unwrap();
    assert_eq!(lost, "uproar_audit_lost_total 0");
}

#[test]
fn who_is_erased_has_no_role_and_no_name_in_the_log() {
    let world = World::with(unhurried());
    let [_, mo, _] = staffed(&world);
    let server = &world.server;
    let ban = json!({"user": "bob", "ban_s": 60});
    assert_eq!(world.post(&mo, "/v1/rooms/stage/kick", &ban).status, 200);
    for user in ["mo", "bob"] {
        let erased = server.call("DELETE", &format!("/v1/admin/users/{user}"), "");
        assert!((200..300).contains(&erased.status), "{}", erased.body);
    }
    let told = server.call("GET", "/v1/audit", "").body;
    assert!(!told.contains("user:mo\"") && !told.contains("\"bob\""), "{told}");
    assert!(told.contains("@erased"));
    let roles = server.call("GET", "/v1/rooms/stage/roles", "").json();
    assert_eq!(roles, json!({"roles": [{"user": "olga", "role": "owner"}]}));
}

#[test]
fn what_a_role_shows_is_held_against_the_list_and_what_the_platform_shows_is_not() {
    let world = World::with(unhurried());
    let [_, mo, _] = staffed(&world);
    let server = &world.server;
    let list = json!({"words": ["spam"], "regexes": ["https?://"]}).to_string();
    assert_eq!(server.call("PUT", "/v1/filter", &list).status, 200);
    let pin = |text: &str| json!({"user": "mo", "text": text});
    let poll = |question: &str, option: &str| {
        let options = ["red", option];
        json!({"question": question, "options": options, "duration_s": 60})
    };
    let set = |text: &str| json!({"set": {"title": "fine", "more": text}});
    for (method, path, bad, good, status) in [
        ("PUT", "pin", pin("s p a m"), pin("welcome"), 204),
        ("POST", "polls", poll("which?", "http://x"), poll("which?", "that one"), 201),
        ("PATCH", "attributes", set("buy ｓｐａｍ"), set("hello"), 200),
    ] {
        let (of_stage, bad) = (format!("/v1/rooms/stage/{path}"), bad.to_string());
        let refused = world.with_token(&mo, method, &of_stage, &bad);
        refused.error(403, "FILTERED");
        let taken = world.with_token(&mo, method, &of_stage, &good.to_string());
        assert_eq!(taken.status, status, "{method} {path}: {}", taken.body);
        // The platform's own words are its own business, and so is a room without the filter.
        let platforms = server.call(method, &of_stage, &bad);
        assert!(!platforms.body.contains("FILTERED"), "{method} {path}: {}", platforms.body);
    }
    let question = poll("more S.P.A.M?", "blue").to_string();
    let refused = world.with_token(&mo, "POST", "/v1/rooms/stage/polls", &question);
    refused.error(403, "FILTERED");
    let off = server.call("PATCH", "/v1/rooms/stage", r#"{"filter":false}"#);
    assert_eq!(off.status, 200, "{}", off.body);
    let pinned = world.with_token(&mo, "PUT", "/v1/rooms/stage/pin", &pin("spam").to_string());
    assert_eq!(pinned.status, 204, "{}", pinned.body);
    let text = server.raw("GET", "/metrics", "", "").body;
    assert!(text.lines().any(|line| line == "uproar_filter_role_hits_total 4"), "{text}");
    // Nothing of what was refused stands in the audit log.
    let told = server.call("GET", "/v1/audit?room=stage", "").json();
    let entries = told["entries"].as_array().unwrap();
    let of_mo = entries.iter().filter(|entry| entry["who"] == "user:mo");
    assert_eq!(of_mo.count(), 4);
}
