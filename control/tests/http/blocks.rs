//! Devices and networks that the platform keeps out, over HTTP.

use crate::accounts::{World, access, unhurried};
use crate::client::{KEY, Server};
use crate::contract;
use crate::documented::sample;
use serde_json::{Value, json};
use uproar_control::{AccountSettings, Config};
use uproar_proto::blocks::{BlockKind, BlockList};
use uproar_proto::control::Tell;

const BLOCKS: &str = "/v1/admin/blocks";

fn put(server: &Server, blocks: &Value, status: u16) -> Value {
    let answer = server.call("PUT", BLOCKS, &json!({"blocks": blocks}).to_string());
    assert_eq!(answer.status, status, "{}", answer.body);
    answer.json()
}

/// The list of this version, as the engine was told.
fn told(server: &Server, version: u64) -> BlockList {
    server.engine.wait_for("the blocks", |tell| match tell {
        Tell::Blocks(list) if list.version == version => Some((**list).clone()),
        _ => None,
    })
}

#[test]
fn what_is_blocked_is_kept_in_one_form_told_and_listed_by_pages() {
    let world = World::with(unhurried());
    let server = &world.server;
    let of = |kind: &str, value: &str| json!({"kind": kind, "value": value, "reason": "spam"});
    let blocks = json!([
        of("address", "203.0.113.9/24"),
        of("address", "2001:DB8::1"),
        of("device", "phone-7"),
        {"kind": "device", "value": "tablet", "until_s": 4_000_000_000_u64},
    ]);
    let kept = put(server, &blocks, 200);
    assert_eq!(kept["kept"], true);
    let list = told(server, 1);
    let mut values: Vec<&str> = list.blocks.iter().map(|block| block.value.as_str()).collect();
    values.sort_unstable();
    assert_eq!(values, ["2001:db8::/64", "203.0.113.0/24", "phone-7", "tablet"]);
    let tablet = list.blocks.iter().find(|block| block.value == "tablet").unwrap();
    assert_eq!((tablet.kind, tablet.until_s), (BlockKind::Device, 4_000_000_000));
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = server.call("GET", &format!("{BLOCKS}?limit=3{after}"), "").json();
        let values = page["blocks"].as_array().unwrap().iter();
        seen.extend(values.map(|block| block["value"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(seen, ["phone-7", "tablet", "2001:db8::/64", "203.0.113.0/24"]);
    // As it was given, or as it is kept.
    for which in ["kind=address&value=2001:DB8::7", "kind=device&value=tablet"] {
        for _ in 0..2 {
            assert_eq!(server.call("DELETE", &format!("{BLOCKS}?{which}"), "").status, 204);
        }
    }
    assert_eq!(told(server, 3).blocks.len(), 2, "the second time nothing was left to do");
    let text = server.raw("GET", "/metrics", "", "").body;
    for line in ["uproar_blocks{kind=\"device\"} 1", "uproar_blocks{kind=\"address\"} 1"] {
        assert!(text.lines().any(|l| l == line), "{line} is missing in:\n{text}");
    }
    let audit = server.call("GET", "/v1/audit", "").json();
    let told = audit["entries"].as_array().unwrap().iter();
    let told = told.map(|e| format!("{} {}", e["what"], e["detail"]).replace('"', ""));
    let mut told: Vec<String> = told.collect();
    told.sort(); // entries of one moment have no order
    assert_eq!(
        told,
        [
            "block address=2001:db8::/64 until_s=0",
            "block address=203.0.113.0/24 until_s=0",
            "block device=phone-7 until_s=0",
            "block device=tablet until_s=4000000000",
            "unblock address=2001:db8::/64",
            "unblock device=tablet",
        ]
    );
}

#[test]
fn a_bad_block_changes_nothing_and_is_told_what_is_wrong() {
    let world = World::with(unhurried());
    let server = &world.server;
    let long = "x".repeat(257);
    for (blocks, told) in [
        (json!([]), "allowed are 1 to 100"),
        (json!([{"kind": "address", "value": "here"}]), "no address or network"),
        (json!([{"kind": "address", "value": "10.0.0.0/7"}]), "allowed is /8 to /32"),
        (json!([{"kind": "address", "value": "2001:db8::/65"}]), "allowed is /16 to /64"),
        (json!([{"kind": "device", "value": ""}]), "1 to 64 bytes"),
        (json!([{"kind": "device", "value": "x", "until_s": 5}]), "it is"),
        (json!([{"kind": "device", "value": "x", "reason": long}]), "257 characters"),
        // One that is good does not go in with one that is not.
        (json!([{"kind": "device", "value": "x"}, {"kind": "device", "value": ""}]), "1 to 64"),
    ] {
        let error = put(server, &blocks, 400)["error"].clone();
        assert!(error["text"].as_str().unwrap().contains(told), "{error}");
    }
    assert_eq!(server.call("GET", BLOCKS, "").json()["blocks"], json!([]));
    let after = server.call("GET", &format!("{BLOCKS}?after=x"), "");
    assert!(after.error(400, "BAD_REQUEST").contains("after"));
}

#[test]
fn nobody_logs_in_or_registers_from_where_nobody_may() {
    let world = World::with(unhurried());
    let server = &world.server;
    world.enter("ann");
    let json = "Content-Type: application/json\r\n";
    let log_in = |device: &str| {
        let body = json!({"user": "ann", "password": "correct horse", "device": device});
        server.raw("POST", "/v1/sessions", json, &body.to_string())
    };
    let register = || {
        let body = json!({"user": "new", "password": "correct horse"});
        server.raw("POST", "/v1/accounts", json, &body.to_string())
    };
    put(server, &json!([{"kind": "device", "value": "stolen"}]), 200);
    log_in("stolen").error(403, "BANNED");
    let fine = log_in("mine").status;
    assert_ne!(fine, 403, "another device");
    put(server, &json!([{"kind": "address", "value": "127.0.0.0/8"}]), 200);
    log_in("mine").error(403, "BANNED");
    register().error(403, "BANNED");
    let which = format!("{BLOCKS}?kind=address&value=127.0.0.0/8");
    assert_eq!(server.call("DELETE", &which, "").status, 204);
    assert_eq!(register().status, 201);
    let text = server.raw("GET", "/metrics", "", "").body;
    let refused = text.lines().find(|l| l.starts_with("uproar_blocked_requests_total")).unwrap();
    assert_eq!(refused, "uproar_blocked_requests_total 3");
}

/// Routes that people call without a token.
const OPEN_TO_PEOPLE: [(&str, &str); 4] = [
    ("post", "/v1/accounts"),
    ("post", "/v1/sessions"),
    ("post", "/v1/sessions/refresh"),
    ("post", "/v1/quality/reports"),
];

#[test]
fn from_a_blocked_address_no_user_is_served_and_everything_else_is() {
    let world = World::with(unhurried());
    let server = &world.server;
    let token = access(&world.enter("ann")).to_owned();
    put(server, &json!([{"kind": "address", "value": "127.0.0.0/8"}]), 200);
    let (mut users, mut others) = (0, 0);
    for operation in contract::operations() {
        let (path, body) = sample(&operation);
        let method = operation.method.to_uppercase();
        let ask = |who: &str| {
            let json = "Content-Type: application/json\r\n";
            server.raw(&method, &path, &format!("Authorization: Bearer {who}\r\n{json}"), &body)
        };
        let is_open = OPEN_TO_PEOPLE.contains(&(operation.method, operation.template));
        if is_open || operation.needs("access_token") {
            let text = ask(&token).error(403, "BANNED");
            assert_eq!(text, "this address is blocked", "{method} {path}");
            users += 1;
        }
        // The drain would end it, and the last of these lets everybody in again.
        if !operation.template.starts_with("/v1/admin") && !operation.template.ends_with("/drain") {
            let answer = ask(KEY);
            let is_refused = answer.status == 403 && answer.body.contains("BANNED");
            assert!(!is_refused, "{method} {path}: {}", answer.body);
            others += 1;
        }
    }
    assert!(users > 50 && others > 90, "{users} of users, {others} of others");
    let log_in = json!({"user": "ann", "password": "correct horse"});
    world.open("POST", "/v1/sessions", &log_in).error(403, "BANNED");
    // Before anything of a request is looked at.
    let nonsense = server.raw("POST", "/v1/sessions", "", "{");
    nonsense.error(403, "BANNED");
    let which = format!("{BLOCKS}?kind=address&value=127.0.0.0/8");
    assert_eq!(server.call("DELETE", &which, "").status, 204);
    assert_eq!(world.with_token(&token, "GET", "/v1/friends", "").status, 200);
}

#[test]
fn where_no_key_is_set_who_blocks_this_machine_still_lets_it_in_again() {
    let world = World::built(Config::default(), unhurried(), true);
    let ask = |method: &str, path: &str, token: &str, body: &Value| {
        let bearer = format!("Authorization: Bearer {token}\r\n");
        let bearer = if token.is_empty() { "" } else { &bearer };
        let headers = format!("{bearer}Content-Type: application/json\r\n");
        world.server.raw(method, path, &headers, &body.to_string())
    };
    let token = access(&world.enter("ann")).to_owned();
    let blocks = json!({"blocks": [{"kind": "address", "value": "127.0.0.1"}]});
    assert_eq!(ask("PUT", BLOCKS, "", &blocks).status, 200);
    let roles = "/v1/rooms/stage/roles";
    ask("GET", roles, &token, &Value::Null).error(403, "BANNED");
    assert_eq!(ask("GET", roles, "", &Value::Null).status, 200, "no user's request");
    let which = format!("{BLOCKS}?kind=address&value=127.0.0.1");
    assert_eq!(ask("DELETE", &which, "", &Value::Null).status, 204);
    ask("GET", roles, &token, &Value::Null).error(403, "FORBIDDEN");
}

#[test]
fn the_address_is_the_one_that_a_trusted_proxy_tells() {
    let trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    let world = World::with(AccountSettings { trusted_proxies, ..unhurried() });
    let server = &world.server;
    let token = access(&world.enter("ann")).to_owned();
    let until_s = 4_000_000_000_u64;
    let block = json!([{"kind": "address", "value": "203.0.113.0/24", "until_s": until_s}]);
    put(server, &block, 200);
    let from = |address: &str| {
        let headers = format!("Authorization: Bearer {token}\r\nX-Forwarded-For: {address}\r\n");
        server.raw("GET", "/v1/friends", &headers, "")
    };
    let text = from("198.51.100.7, 203.0.113.9").error(403, "BANNED");
    assert_eq!(text, format!("this address is blocked until {until_s} (seconds since 1970)"));
    assert_eq!(from("203.0.113.9, 198.51.100.7").status, 200, "the last one is the caller");
    // Who is trusted by nobody says nothing of where it comes from.
    let plain = World::with(unhurried());
    put(&plain.server, &block, 200);
    let token = access(&plain.enter("ann")).to_owned();
    let headers = format!("Authorization: Bearer {token}\r\nX-Forwarded-For: 203.0.113.9\r\n");
    assert_eq!(plain.server.raw("GET", "/v1/friends", &headers, "").status, 200);
}

#[test]
fn a_session_of_a_blocked_device_rests_until_the_device_is_let_in_again() {
    World::each(&unhurried(), |world| {
        let server = &world.server;
        // By the device "phone".
        let session = world.enter("ann");
        put(server, &json!([{"kind": "device", "value": "phone"}]), 200);
        let ask = || world.with_token(access(&session), "GET", "/v1/friends", "");
        let refresh = || {
            let body = json!({"refresh_token": session["refresh_token"]});
            world.open("POST", "/v1/sessions/refresh", &body)
        };
        assert_eq!(ask().error(403, "BANNED"), "this device is blocked");
        for _ in 0..3 {
            assert_eq!(refresh().error(403, "BANNED"), "this device is blocked");
        }
        let desk = json!({"user": "ann", "password": "correct horse", "device": "desk"});
        let desk = world.open("POST", "/v1/sessions", &desk);
        assert_eq!(desk.status, 201, "{}", desk.body);
        let which = format!("{BLOCKS}?kind=device&value=phone");
        assert_eq!(server.call("DELETE", &which, "").status, 204);
        assert_eq!((ask().status, refresh().status), (200, 200), "its token was not used up");
    });
}

#[test]
fn without_a_store_blocks_are_kept_in_memory_and_say_so() {
    let server = Server::keyed();
    let kept = put(&server, &json!([{"kind": "device", "value": "phone"}]), 200);
    assert_eq!(kept["kept"], false);
    assert_eq!(told(&server, 1).blocks[0].value, "phone");
    let bearer = "Authorization: Bearer nobody\r\n";
    assert_ne!(KEY, "nobody");
    server.raw("GET", BLOCKS, bearer, "").error(401, "TOKEN_INVALID");
}
