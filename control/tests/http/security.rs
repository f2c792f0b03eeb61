//! Who may call what, and what happens to requests that are not what they should be.

use crate::client::{KEY, SECRET, Server};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};
use uproar_control::Config;
use uproar_control::tokens::hs256_bytes;
use uproar_proto::token::Claims;

const JSON: &str = "Content-Type: application/json\r\n";

/// Every route under /v1 that asks for the key.
fn guarded(server: &Server) -> Vec<(String, String)> {
    let document = server.raw("GET", "/v1/openapi.json", "", "").json();
    let mut routes = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, about) in methods.as_object().unwrap() {
            let keys = about["security"].as_array().into_iter().flatten();
            if keys.filter_map(|key| key.as_object()).any(|key| key.contains_key("api_key")) {
                let path = path.replace("{room}", "stage").replace("{user}", "bob");
                let path = path.replace("{group}", "00000000deadbeef");
                routes.push((method.to_uppercase(), path));
            }
        }
    }
    assert_eq!(routes.len(), 60, "{routes:?}");
    routes
}

#[test]
fn nothing_under_v1_is_open_without_the_key() {
    let server = Server::keyed();
    for (method, path) in guarded(&server) {
        let none = server.raw(&method, &path, "", "");
        none.error(401, "TOKEN_REQUIRED");
        assert!(none.head.contains("www-authenticate: bearer"), "{}", none.head);
        for wrong in ["Bearer wrong", "Bearer ", "Basic abc", KEY, &format!("Bearer {KEY}x")] {
            let headers = format!("Authorization: {wrong}\r\n");
            let answer = server.raw(&method, &path, &headers, "");
            answer.error(401, "TOKEN_INVALID");
            assert!(!answer.body.contains(KEY));
        }
    }
    // A refused request is refused before anything in it is looked at.
    server.raw("POST", "/v1/rooms", JSON, "{").error(401, "TOKEN_REQUIRED");
}

#[test]
fn the_scheme_of_the_key_has_no_case() {
    let server = Server::keyed();
    let headers = format!("authorization: BEARER {KEY}\r\n");
    assert_eq!(server.raw("GET", "/v1/node", &headers, "").status, 200);
}

#[test]
fn metrics_can_be_closed() {
    let open = Server::keyed();
    assert_eq!(open.raw("GET", "/metrics", "", "").status, 200);
    let config = Config { api_key: KEY.into(), metrics_open: false, ..Config::default() };
    let closed = Server::with(config);
    closed.raw("GET", "/metrics", "", "").error(401, "TOKEN_REQUIRED");
    assert_eq!(closed.call("GET", "/metrics", "").status, 200);
    assert_eq!(closed.raw("GET", "/healthz", "", "").status, 200);
    assert_eq!(closed.raw("GET", "/readyz", "", "").status, 200);
}

#[test]
fn without_a_key_a_page_of_another_site_cannot_call() {
    let server = Server::with(Config::default());
    assert_eq!(server.raw("GET", "/v1/rooms", "", "").status, 200);
    // Its own name resolved to this machine.
    let rebound = server.raw("GET", "/v1/rooms", "Host: evil.example:7480\r\n", "");
    assert!(rebound.error(403, "FORBIDDEN").contains("http.api_key"));
    // A form needs no permission to be sent across sites; JSON does.
    let form = "Content-Type: text/plain\r\n";
    let answer = server.raw("POST", "/v1/rooms", form, r#"{"room":"a"}"#);
    assert!(answer.error(415, "BAD_REQUEST").contains("application/json"));
    assert_eq!(server.raw("POST", "/v1/rooms", JSON, r#"{"room":"a"}"#).status, 201);
}

#[test]
fn bad_json_tells_where() {
    let server = Server::keyed();
    let text = server.call("POST", "/v1/rooms", "{\"room\":\n}").error(400, "BAD_REQUEST");
    assert!(text.contains("line 2 column 1"), "{text}");
    let text = server.call("POST", "/v1/rooms", r#"{"room":5}"#).error(400, "BAD_REQUEST");
    assert!(text.contains("room") && text.contains("expected a string"), "{text}");
    let text = server.call("POST", "/v1/rooms", r#"{"room":"a","rate":1}"#);
    let text = text.error(400, "BAD_REQUEST");
    assert!(text.contains("unknown field `rate`") && text.contains("`rate_per_s`"), "{text}");
    let text = server.call("PATCH", "/v1/rooms/a", r#"{"rate_per_s":-1}"#);
    assert!(text.error(400, "BAD_REQUEST").contains("rate_per_s"));
    server.call("POST", "/v1/rooms", r#"{"room":"a"} trailing"#).error(400, "BAD_REQUEST");
    for list in [r#"["alice","correct horse"]"#, r#" ["alice"]"#, "[", "[]"] {
        for path in ["/v1/accounts", "/v1/rooms"] {
            let text = server.call("POST", path, list).error(400, "BAD_REQUEST");
            assert_eq!(text, "the body is a list; it must be an object");
        }
    }
}

#[test]
fn a_body_is_bounded() {
    let config = Config { api_key: KEY.into(), body_bytes_max: 1_024, ..Config::default() };
    let server = Server::with(config);
    let padding = "x".repeat(1_100);
    let body = format!(r#"{{"room":"a","attributes":{{"t":"{padding}"}}}}"#);
    let text = server.call("POST", "/v1/rooms", &body).error(413, "TOO_LARGE");
    assert!(text.contains("body_bytes_max"), "{text}");
    // The same without a declared length.
    let answer = server.bytes(&format!(
        "POST /v1/rooms HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n{JSON}\
         Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    ));
    answer.error(413, "TOO_LARGE");
}

#[test]
fn unknown_paths_and_methods_are_errors_in_the_same_shape() {
    let server = Server::keyed();
    let text = server.call("GET", "/v1/room", "").error(404, "BAD_REQUEST");
    assert!(text.contains("/v1/room") && text.contains("openapi.json"), "{text}");
    let answer = server.call("PUT", "/v1/rooms/a", "{}");
    answer.error(405, "BAD_REQUEST");
    assert!(answer.head.contains("allow: "), "{}", answer.head);
}

#[test]
fn a_token_is_minted_for_who_holds_the_key() {
    let server = Server::keyed();
    let body = json!({
        "user": "alice", "rooms": ["stage", "back-*"], "publish": ["chat", "gift"],
        "moderate": true, "ttl_s": 600
    });
    let answer = server.call("POST", "/v1/tokens", &body.to_string());
    assert_eq!(answer.status, 201, "{}", answer.body);
    let answer: Value = answer.json();
    let key = DecodingKey::from_secret(&hs256_bytes(SECRET).unwrap());
    let rules = Validation::new(Algorithm::HS256);
    let token = answer["token"].as_str().unwrap();
    let claims = jsonwebtoken::decode::<Claims>(token, &key, &rules).unwrap().claims;
    assert_eq!(claims.sub, "alice");
    assert_eq!(claims.rooms.unwrap(), ["stage", "back-*"]);
    assert_eq!(claims.publish.unwrap(), ["chat", "gift"]);
    assert!(claims.moderate);
    assert_eq!(answer["expires_unix_s"], claims.exp);
    let left_s = claims.exp - jsonwebtoken::get_current_timestamp();
    assert!((595..=600).contains(&left_s), "{left_s}");
}

#[test]
fn a_token_that_breaks_a_rule_is_not_minted() {
    let server = Server::keyed();
    let mint = |body: &str| server.call("POST", "/v1/tokens", body);
    let text = mint(r#"{"user":"a","ttl_s":2592001}"#).error(400, "BAD_REQUEST");
    assert!(text.contains("allowed is 1 to 2592000"), "{text}");
    mint(r#"{"user":"a","ttl_s":0}"#).error(400, "BAD_REQUEST");
    mint(r#"{"user":""}"#).error(400, "BAD_REQUEST");
    mint(r#"{"user":"a","publish":["shout"]}"#).error(400, "BAD_REQUEST");
    mint(r#"{"user":"a","admin":true}"#).error(400, "BAD_REQUEST");
    let keyless = Server::with(Config::default());
    let text = keyless.raw("POST", "/v1/tokens", JSON, r#"{"user":"a"}"#).error(403, "FORBIDDEN");
    assert!(text.contains("http.api_key"), "{text}");
}
