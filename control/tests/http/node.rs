//! Health, node, metrics, the description, and how the server ends.

use crate::client::{KEY, Server};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

#[test]
fn health_tells_of_the_process_and_readiness_of_the_node() {
    let server = Server::keyed();
    let ask = |path: &str| server.raw("GET", path, "", "");
    assert_eq!(ask("/healthz").status, 200);
    assert_eq!((ask("/readyz").status, ask("/readyz").json()["ready"].clone()), (200, json!(true)));
    server.engine.ready.store(false, Ordering::SeqCst);
    server.engine.draining.store(true, Ordering::SeqCst);
    let drained = ask("/readyz");
    assert_eq!((drained.status, drained.json()), (503, json!({"ready": false, "draining": true})));
    assert_eq!(ask("/healthz").status, 200, "a draining process lives");
    assert_eq!(server.raw("HEAD", "/healthz", "", "").status, 200);
}

#[test]
fn the_node_is_described() {
    let server = Server::keyed();
    server.call("POST", "/v1/rooms", r#"{"room":"a"}"#);
    assert_eq!(
        server.call("GET", "/v1/node", "").json(),
        json!({
            "version": "0.1.0-test", "io": "epoll", "io_reason": "asked for", "shards": 2,
            "connections": 3, "connections_max": 1000, "rooms": 1, "draining": false, "uptime_s": 7
        })
    );
}

#[test]
fn metrics_hold_the_engines_the_processs_and_the_servers_figures() {
    let server = Server::keyed();
    server.call("GET", "/v1/rooms/none", "");
    server.call("GET", "/v1/rooms/other", "");
    server.raw("GET", "/not/there", "", "");
    let answer = server.raw("GET", "/metrics", "", "");
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{}", answer.head);
    let text = answer.body;
    for line in [
        "# TYPE uproar_closes_total counter",
        "uproar_closes_total{reason=\"IDLE_TIMEOUT\"} 2",
        "uproar_closes_total{reason=\"a \\\"quoted\\\" one\"} 1",
        "uproar_rooms 0",
        "uproar_http_requests_total{route=\"/v1/rooms/{room}\",method=\"GET\",status=\"404\"} 2",
        "uproar_http_requests_total{route=\"other\",method=\"GET\",status=\"404\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is missing in:\n{text}");
    }
    for name in [
        "process_resident_memory_bytes",
        "process_resident_anon_bytes",
        "process_cpu_seconds_total",
        "process_open_fds",
        "process_start_time_seconds",
    ] {
        let line = text.lines().find(|l| l.starts_with(&format!("{name} ")));
        let line = line.unwrap_or_else(|| panic!("{name} is missing in:\n{text}"));
        let value: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        assert!(value >= 0.0 && (value > 0.0 || name.contains("cpu")), "{line}");
    }
    // Each family has one head, and its samples follow it.
    let mut heads = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            heads.push(rest.split(' ').next().unwrap().to_owned());
        } else if !line.starts_with('#') {
            let family = heads.last().unwrap();
            assert!(line.starts_with(family.as_str()), "{line} stands under {family}");
        }
    }
    let count = heads.len();
    heads.sort();
    heads.dedup();
    assert_eq!(heads.len(), count, "a family with two heads");
}

/// Every route, by method.
const ROUTES: [&str; 121] = [
    "DELETE /v1/admin/blocks",
    "DELETE /v1/admin/groups/{group}",
    "DELETE /v1/admin/groups/{group}/members/{user}",
    "DELETE /v1/admin/session",
    "DELETE /v1/admin/users/{user}",
    "DELETE /v1/admin/users/{user}/ban",
    "DELETE /v1/admin/users/{user}/sessions",
    "DELETE /v1/blocks/{user}",
    "DELETE /v1/follows/{user}",
    "DELETE /v1/friend-requests/{user}",
    "DELETE /v1/friends/{user}",
    "DELETE /v1/groups/{group}",
    "DELETE /v1/groups/{group}/links/{link}",
    "DELETE /v1/groups/{group}/members/{user}",
    "DELETE /v1/groups/{group}/requests/{user}",
    "DELETE /v1/rooms/{room}",
    "DELETE /v1/rooms/{room}/bans/{user}",
    "DELETE /v1/rooms/{room}/pin",
    "DELETE /v1/rooms/{room}/polls/{poll}",
    "DELETE /v1/rooms/{room}/roles/{user}",
    "DELETE /v1/sessions",
    "DELETE /v1/sessions/{session}",
    "GET /healthz",
    "GET /metrics",
    "GET /readyz",
    "GET /v1/account/settings",
    "GET /v1/admin/blocks",
    "GET /v1/admin/groups",
    "GET /v1/admin/groups/{group}",
    "GET /v1/admin/groups/{group}/members",
    "GET /v1/admin/messages",
    "GET /v1/admin/session",
    "GET /v1/admin/users",
    "GET /v1/admin/users/{user}",
    "GET /v1/admin/users/{user}/erasure",
    "GET /v1/admin/users/{user}/export",
    "GET /v1/admin/users/{user}/sessions",
    "GET /v1/audit",
    "GET /v1/blocks",
    "GET /v1/connect",
    "GET /v1/conversations/{conversation}/messages/{seq}/reactions",
    "GET /v1/filter",
    "GET /v1/followers",
    "GET /v1/follows",
    "GET /v1/friend-requests",
    "GET /v1/friends",
    "GET /v1/friends/{user}",
    "GET /v1/group-links/{link}",
    "GET /v1/groups",
    "GET /v1/groups/{group}",
    "GET /v1/groups/{group}/links",
    "GET /v1/groups/{group}/members",
    "GET /v1/groups/{group}/messages/{seq}/receipts",
    "GET /v1/groups/{group}/receipts",
    "GET /v1/groups/{group}/requests",
    "GET /v1/node",
    "GET /v1/openapi.json",
    "GET /v1/quality",
    "GET /v1/quality/alarms",
    "GET /v1/quality/heatmap",
    "GET /v1/rooms",
    "GET /v1/rooms/{room}",
    "GET /v1/rooms/{room}/bans",
    "GET /v1/rooms/{room}/danmaku",
    "GET /v1/rooms/{room}/danmaku/{recording}/{segment}",
    "GET /v1/rooms/{room}/members",
    "GET /v1/rooms/{room}/polls/{poll}",
    "GET /v1/rooms/{room}/roles",
    "GET /v1/sessions",
    "GET /v1/videos/{video}/danmaku",
    "GET /v1/videos/{video}/danmaku/{segment}",
    "OPTIONS /v1/quality/reports",
    "PATCH /v1/account/settings",
    "PATCH /v1/conversations/{conversation}",
    "PATCH /v1/filter",
    "PATCH /v1/groups/{group}",
    "PATCH /v1/groups/{group}/members/{user}",
    "PATCH /v1/rooms/{room}",
    "PATCH /v1/rooms/{room}/attributes",
    "POST /v1/accounts",
    "POST /v1/admin/messages/recall",
    "POST /v1/admin/session",
    "POST /v1/broadcast",
    "POST /v1/filter/check",
    "POST /v1/group-links/{link}",
    "POST /v1/groups",
    "POST /v1/groups/{group}/links",
    "POST /v1/groups/{group}/members",
    "POST /v1/groups/{group}/requests",
    "POST /v1/node/drain",
    "POST /v1/publish",
    "POST /v1/quality/reports",
    "POST /v1/rooms",
    "POST /v1/rooms/{room}/danmaku/recall",
    "POST /v1/rooms/{room}/kick",
    "POST /v1/rooms/{room}/moderation",
    "POST /v1/rooms/{room}/mute",
    "POST /v1/rooms/{room}/polls",
    "POST /v1/rooms/{room}/publish",
    "POST /v1/rooms/{room}/recall",
    "POST /v1/sessions",
    "POST /v1/sessions/refresh",
    "POST /v1/tokens",
    "POST /v1/videos/{video}/danmaku",
    "POST /v1/videos/{video}/danmaku/recall",
    "PUT /v1/account/password",
    "PUT /v1/admin/blocks",
    "PUT /v1/admin/groups/{group}/owner",
    "PUT /v1/admin/users/{user}/ban",
    "PUT /v1/blocks/{user}",
    "PUT /v1/filter",
    "PUT /v1/follows/{user}",
    "PUT /v1/friend-requests/{user}",
    "PUT /v1/friends/{user}",
    "PUT /v1/groups",
    "PUT /v1/groups/{group}/owner",
    "PUT /v1/groups/{group}/requests/{user}",
    "PUT /v1/relations",
    "PUT /v1/rooms/{room}/pin",
    "PUT /v1/rooms/{room}/roles/{user}",
    "PUT /v1/users",
];

#[test]
fn every_route_of_the_description_is_served_and_none_is_missing_from_it() {
    let server = Server::keyed();
    let answer = server.raw("GET", "/v1/openapi.json", "", "");
    assert_eq!(answer.status, 200, "the description needs no key");
    let document = answer.json();
    let mut described = Vec::new();
    for (template, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let method = method.to_uppercase();
            let examples = [
                ("{room}", "stage"),
                ("{user}", "bob"),
                ("{session}", "1"),
                ("{group}", "00000000deadbeef"),
                ("{seq}", "1"),
                ("{link}", "abc"),
                ("{poll}", "1"),
            ];
            let path = examples
                .iter()
                .fold(template.clone(), |path, (name, example)| path.replace(name, example));
            let there = server.call(&method, &path, "");
            assert_ne!(there.status, 405, "{method} {path}");
            let is_unknown_path = there.body.contains("there is nothing at");
            assert!(!is_unknown_path, "{method} {path} is described and not served");
            described.push(format!("{method} {template}"));
        }
    }
    described.sort();
    assert_eq!(described, ROUTES);
}

#[test]
fn the_description_names_what_the_server_really_sends() {
    let server = Server::keyed();
    let document = server.raw("GET", "/v1/openapi.json", "", "").json();
    let described = |schema: &str| -> Vec<String> {
        let properties = document["components"]["schemas"][schema]["properties"].as_object();
        let properties = properties.unwrap_or_else(|| panic!("no schema {schema}: {document}"));
        properties.keys().cloned().collect()
    };
    let keys =
        |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    let sorted = |mut list: Vec<String>| {
        list.sort();
        list
    };
    let room = server.call("POST", "/v1/rooms", r#"{"room":"a"}"#).json();
    assert_eq!(sorted(keys(&room)), sorted(described("Room")));
    assert_eq!(sorted(keys(&room["settings"])), sorted(described("Settings")));
    let node = server.call("GET", "/v1/node", "").json();
    assert_eq!(sorted(keys(&node)), sorted(described("Node")));
    let error = server.call("GET", "/v1/rooms/none", "").json();
    assert_eq!(sorted(keys(&error["error"])), sorted(described("ErrorFields")));
}

#[test]
fn an_engine_that_does_not_answer_is_503_and_unknown() {
    let config =
        uproar_control::Config { api_key: KEY.into(), reply_ms_max: 50, ..Default::default() };
    let server = Server::with(config);
    server.engine.stalled.store(true, Ordering::SeqCst);
    let answer = server.call("GET", "/v1/rooms/a", "");
    let text = answer.error(503, "INTERNAL");
    assert!(text.contains("within 50 ms") && text.contains("unknown"), "{text}");
    assert_eq!(answer.json()["error"]["retry"], true);
}

#[test]
fn a_request_whose_body_never_comes_is_given_up() {
    let config = uproar_control::Config {
        api_key: KEY.into(),
        reply_ms_max: 50,
        request_ms_max: 200,
        ..Default::default()
    };
    let server = Server::with(config);
    let answer = server.bytes(&format!(
        "POST /v1/rooms HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n\
         Content-Type: application/json\r\nConnection: close\r\nContent-Length: 100\r\n\r\n{{"
    ));
    assert!(answer.error(408, "REQUEST_TIMEOUT").contains("200 ms"));
}

#[test]
fn a_connection_that_sends_no_request_is_closed_and_others_are_served_meanwhile() {
    let config = uproar_control::Config { header_ms_max: 300, ..Default::default() };
    let server = Server::with(config);
    let mut idle = server.connect();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: loc").unwrap();
    assert_eq!(server.raw("GET", "/healthz", "", "").status, 200);
    let mut rest = Vec::new();
    let started = Instant::now();
    let _ = idle.read_to_end(&mut rest); // returns only because the server closes
    assert!(started.elapsed() < Duration::from_secs(15), "closed by the header deadline");
    assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
}

#[test]
fn the_server_serves_at_most_its_bound_of_connections_and_then_goes_on() {
    let config = uproar_control::Config { connections_max: 1, ..Default::default() };
    let server = Server::with(config);
    let mut first = server.connect();
    first.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut byte = [0; 1];
    first.read_exact(&mut byte).unwrap(); // it is being served, and stays open
    let mut second = server.connect();
    second.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    second.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(second.read_exact(&mut byte).is_err(), "the second waits");
    drop(first);
    second.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    second.read_exact(&mut byte).unwrap();
}

/// A connection from 127.0.0.9.
fn from_elsewhere(server: &Server) -> std::net::TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 9], 0).into()).unwrap();
        socket.connect(server.address).await.unwrap().into_std().unwrap()
    })
}

#[test]
fn whoever_sends_half_of_many_requests_keeps_nobody_away() {
    let config = uproar_control::Config {
        connections_max: 100,
        connections_per_address_max: 24,
        ..Default::default()
    };
    let server = Server::with(config);
    let mut half: Vec<std::net::TcpStream> = Vec::new();
    for _ in 0..110 {
        let mut one = from_elsewhere(&server);
        let _ = one.write_all(b"GET /healthz HTTP/1.1\r\nHost: loc"); // perhaps closed by now
        half.push(one);
    }
    let begun = Instant::now();
    assert_eq!(server.raw("GET", "/healthz", "", "").status, 200);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    let metrics = server.raw("GET", "/metrics", "", "").body;
    assert!(metrics.contains("uproar_http_crowded_total 86\n"), "{metrics}");
    drop(half);
}

#[test]
fn a_server_that_is_told_to_end_ends_with_an_idle_connection_open() {
    let server = Server::keyed();
    let mut kept = server.connect();
    kept.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut byte = [0; 1];
    kept.read_exact(&mut byte).unwrap();
    let address = server.address;
    server.stop();
    assert!(std::net::TcpStream::connect(address).is_err(), "nobody listens any more");
}
