//! What backends and operators see over HTTP.

use crate::client::Client;
use crate::server::Server;
use crate::tokens::config;
use crate::{On, Wire};
use serde_json::{Value, json};
use uproar_proto::v1::{Class, message::Content};

pub(crate) fn rooms_are_created_read_changed_listed_and_closed(on: On) {
    let server = Server::start(on.io, "[engine.rooms]\nauto_create = false\n");
    let stage = json!({"room": "stage", "attributes": {"title": "Live"}, "rate_per_s": 50});
    let made = server.request("POST", "/v1/rooms", &stage);
    assert_eq!(made.status, 201, "{}", made.body);
    assert_eq!(made.json()["settings"]["rate_per_s"], 50);
    assert_eq!(server.request("POST", "/v1/rooms", &stage).status, 409);
    for room in ["aisle", "balcony"] {
        server.post("/v1/rooms", &json!({"room": room}));
    }
    let read = server.get("/v1/rooms/stage").json();
    assert_eq!(
        (&read["settings"]["attributes"]["title"], &read["seq"]),
        (&json!("Live"), &json!(0))
    );
    let change = json!({"attributes": {"title": "Encore"}});
    let changed = server.request("PATCH", "/v1/rooms/stage", &change);
    assert_eq!(changed.status, 200, "{}", changed.body);
    assert_eq!(changed.json()["settings"]["rate_per_s"], 50, "what is left out stays");
    let (_viewer, joined) = Client::viewer(&server, Wire::Json, "stage");
    assert_eq!(joined.attributes["title"], "Encore");
    // Two pages.
    let page = server.get("/v1/rooms?limit=2").json();
    let names = |page: &Value| -> Vec<String> {
        let rooms = page["rooms"].as_array().unwrap();
        rooms.iter().map(|room| room["room"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&page), ["aisle", "balcony"]);
    let next = page["next"].as_str().expect("there is more");
    let page = server.get(&format!("/v1/rooms?limit=2&after={next}")).json();
    assert_eq!((names(&page), &page["next"]), (vec!["stage".to_owned()], &Value::Null));
    assert_eq!(server.request("DELETE", "/v1/rooms/aisle", &Value::Null).status, 204);
    for (method, path) in [("GET", "/v1/rooms/aisle"), ("DELETE", "/v1/rooms/aisle")] {
        let gone = server.request(method, path, &Value::Null);
        assert_eq!((gone.status, &gone.json()["error"]["name"]), (404, &json!("ROOM_NOT_FOUND")));
    }
    let wrong = server.request("POST", "/v1/rooms", &json!({"room": "no spaces"}));
    assert_eq!((wrong.status, &wrong.json()["error"]["code"]), (400, &json!(2001)));
    let unknown = server.request("POST", "/v1/rooms", &json!({"room": "x", "rate": 1}));
    assert_eq!(unknown.status, 400, "{}", unknown.body);
    assert!(unknown.body.contains("rate_per_s"), "it tells what is allowed: {}", unknown.body);
}

pub(crate) fn a_backend_publishes_one_and_many(on: On) {
    let server = Server::start(on.io, "");
    let mut clients = [Wire::Tcp, Wire::Json].map(|wire| {
        let mut client = Client::guest(&server, wire);
        client.join("a");
        client.join("b");
        client
    });
    let one = json!({"user": "host", "class": "gift", "text": "a rocket", "client_msg_id": "r1"});
    let verdict = server.publish("a", &one);
    assert_eq!((&verdict["outcome"], &verdict["seq"]), (&json!("ACCEPTED"), &json!(1)));
    let many = json!({"messages": [
        {"room": "b", "user": "host", "text": "first in b"},
        {"room": "a", "user": "host", "class": "system", "data": "AP8="},
        {"room": "nowhere", "user": "host", "text": "lost"},
        {"room": "b", "user": "other", "text": "second in b"},
        {"room": "b", "user": "host", "text": ""},
    ]});
    let results = server.post("/v1/publish", &many)["results"].clone();
    assert_eq!(results[0]["seq"], 1, "{results}");
    assert_eq!(results[1]["seq"], 2, "{results}");
    assert_eq!(results[2]["error"]["name"], "ROOM_NOT_FOUND", "{results}");
    assert_eq!(results[3]["seq"], 2, "{results}");
    assert_eq!(results[4]["error"]["name"], "EMPTY", "{results}");
    for client in &mut clients {
        let a = client.messages("a", 2);
        assert_eq!((a[0].class(), a[0].user.as_str()), (Class::Gift, "host"));
        assert_eq!(a[0].client_msg_id, "r1");
        assert_eq!(a[1].content, Some(Content::Data(bytes::Bytes::from_static(b"\0\xff"))));
        let b = client.messages("b", 2);
        assert_eq!(b[1].content, Some(Content::Text("second in b".into())));
    }
    let missing = server.request("POST", "/v1/rooms/nowhere/publish", &one);
    assert_eq!(missing.status, 404, "{}", missing.body);
    let large = json!({"user": "host", "text": "x".repeat(20_000)});
    assert_eq!(server.request("POST", "/v1/rooms/a/publish", &large).status, 413);
    let refused = server.publish("a", &json!({"user": "host", "text": "x".repeat(5_000)}));
    assert_eq!((&refused["outcome"], &refused["name"]), (&json!("REFUSED"), &json!("TOO_LARGE")));
}

pub(crate) fn the_api_key_is_asked_for(on: On) {
    let config = "[http]\napi_key = \"a-key-of-20-letters!\"\nmetrics_open = false\n";
    let server = Server::start(on.io, config);
    let ask = |headers: &str, path: &str| server.request_as(headers, "GET", path, &Value::Null);
    for path in ["/v1/rooms", "/v1/node", "/metrics"] {
        assert_eq!(ask("", path).status, 401, "{path}");
        let wrong = ask("Authorization: Bearer another-key-of-letters\r\n", path);
        assert_eq!(wrong.status, 401, "{path}");
        assert!(!wrong.body.contains("a-key-of-20"), "{}", wrong.body);
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    for path in ["/healthz", "/readyz", "/v1/openapi.json"] {
        assert_eq!(ask("", path).status, 200, "{path}");
    }
}

pub(crate) fn tokens_from_the_backend_open_the_door(on: On) {
    let keyed = format!("{}[http]\napi_key = \"a-key-of-20-letters!\"\n", config());
    let server = Server::start(on.io, &keyed);
    let body = json!({"user": "alice", "rooms": ["stage"], "publish": ["gift"], "ttl_s": 60});
    let minted = server.post("/v1/tokens", &body);
    let mut client = Client::user(&server, Wire::WebSocket, minted["token"].as_str().unwrap());
    client.join("stage");
    assert_eq!(client.is_refused("stage", "1", "gifts alone").0, 2011, "FORBIDDEN");
    client.ask_to_join("other", None);
    assert_eq!(client.room_error("other"), "FORBIDDEN");
}

pub(crate) fn health_and_openapi_are_open(on: On) {
    let server = Server::start(on.io, "");
    assert_eq!(server.get("/healthz").json()["ok"], true);
    assert_eq!(server.get("/readyz").json()["ready"], true);
    let node = server.get("/v1/node").json();
    assert_eq!((&node["io"], &node["shards"]), (&json!(on.io.name()), &json!(2)));
    let openapi = server.get("/v1/openapi.json").json();
    assert!(openapi["openapi"].as_str().is_some_and(|v| v.starts_with("3.")), "{openapi}");
    for path in ["/v1/rooms", "/v1/rooms/{room}/publish", "/v1/publish", "/metrics", "/healthz"] {
        assert!(openapi["paths"][path].is_object(), "{path} is not described");
    }
    assert_eq!(server.get("/nothing").status, 404);
}

pub(crate) fn metrics_count_what_happened(on: On) {
    let server = Server::start(on.io, "");
    let wires = [Wire::Tcp, Wire::WebSocket, Wire::Json];
    let mut clients = wires.map(|wire| Client::viewer(&server, wire, "stage").0);
    clients[0].is_accepted("stage", "1", "count me");
    for client in &mut clients {
        client.messages("stage", 1);
    }
    server.eventually("deliveries are counted", |server| {
        server.metric("uproar_connections", "") == 3.0
            && server.metric("uproar_members", "") == 3.0
            && server.metric("uproar_joins_total", "") == 3.0
            && server.metric("uproar_deliveries_total", "\"sent\"") == 3.0
            && server.metric("uproar_messages_total", "\"admitted\"") == 1.0
            && server.metric("uproar_socket_writes_total", "") >= 9.0
    });
    let [first, ..] = clients;
    first.hang_up();
    server.eventually("a close by the peer is counted", |server| {
        server.metric("uproar_closes_total", "PEER") == 1.0
            && server.metric("uproar_connections", "") == 2.0
    });
    assert_eq!(server.metric("uproar_io_driver", on.io.name()), 1.0);
    assert!(server.metric("uproar_shard_cpu_seconds_total", "") > 0.0);
    assert!(server.metric("uproar_shard_user_bytes", "") > 0.0);
    let text = server.get("/metrics").body;
    for name in ["uproar_batch_window_seconds_bucket", "uproar_sweep_cpu_seconds_count"] {
        assert!(text.contains(name), "{name} is missing");
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let value = line.rsplit(' ').next().unwrap();
        assert!(value.parse::<f64>().is_ok_and(|v| v >= 0.0), "{line}");
    }
}
