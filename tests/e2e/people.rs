//! People with accounts of their own: from registering to a message, and out again.

use crate::chat::text;
use crate::client::Client;
use crate::server::Server;
use crate::tokens::config;
use crate::{On, Wire};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use uproar_proto::error::Code;
use uproar_proto::v1::{self, client_frame, server_frame::Body};

fn server(on: On) -> Server {
    let open = "[accounts]\nregistration_open = true\nhash_memory_kib = 64\n";
    Server::start(on.io, &format!("{}{open}", config()))
}

/// A request of a person, by access token.
fn call(server: &Server, token: &str, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let header =
        if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    let answer = server.request_as(&header, method, path, body);
    let body = if answer.body.is_empty() { Value::Null } else { answer.json() };
    (answer.status, body)
}

/// A new account, logged in: its tokens.
fn person(server: &Server, name: &str) -> Value {
    let account = json!({"user": name, "password": "correct horse"});
    let (status, body) = call(server, "", "POST", "/v1/accounts", &account);
    assert_eq!(status, 201, "{body}");
    log_in(server, name)
}

fn log_in(server: &Server, name: &str) -> Value {
    let login = json!({"user": name, "password": "correct horse", "device": "phone"});
    let (status, body) = call(server, "", "POST", "/v1/sessions", &login);
    assert_eq!(status, 201, "{body}");
    body
}

fn token(session: &Value) -> &str {
    session["access_token"].as_str().unwrap()
}

fn device(server: &Server, wire: Wire, session: &Value) -> Client {
    let mut client = Client::open(server, wire);
    let token = token(session).to_owned();
    let connect = v1::Connect { token, inbox: true, ..v1::Connect::default() };
    client.send(client_frame::Body::Connect(connect));
    client.take("welcome", |body| matches!(body, Body::Welcome(_)).then_some(()));
    client
}

pub(crate) fn strangers_become_friends_and_write(on: On) {
    let server = server(on);
    let (ann, bob) = (person(&server, "ann"), person(&server, "bob"));
    let (mut phone, mut desk) = (device(&server, on.wire, &ann), device(&server, on.wire, &bob));
    phone.is_told(text("bob", 1, "hello"), Code::NotFriend);
    let none = Value::Null;
    let ask = call(&server, token(&ann), "PUT", "/v1/friends/bob", &none);
    assert_eq!(ask.0, 200, "{}", ask.1);
    phone.is_told(text("bob", 2, "hello"), Code::NotFriend);
    let accept = call(&server, token(&bob), "PUT", "/v1/friend-requests/ann", &none);
    assert_eq!(accept.0, 200, "{}", accept.1);
    assert_eq!(phone.is_stored(text("bob", 3, "hello")), 1);
    let pushed = desk.take("the message", |body| match body {
        Body::Stored(stored) => Some(stored.messages[0].text.clone()),
        _ => None,
    });
    assert_eq!(pushed, "hello");
    // Refused at once after an unfriend, on connections that stand.
    assert_eq!(call(&server, token(&bob), "DELETE", "/v1/friends/ann", &none).0, 200);
    phone.is_told(text("bob", 4, "still there?"), Code::NotFriend);
    assert_eq!(phone.is_stored(text("bob", 3, "hello")), 1, "a retry is still answered");
    assert_eq!(call(&server, token(&bob), "PUT", "/v1/blocks/ann", &none).0, 200);
    phone.is_told(text("bob", 5, "hey"), Code::Blocked);
    desk.is_told(text("ann", 6, "go away"), Code::Blocked);
}

pub(crate) fn a_log_out_closes_its_connections_and_no_others(on: On) {
    let server = server(on);
    let (one, two) = (person(&server, "ann"), log_in(&server, "ann"));
    let bob = person(&server, "bob");
    let mut phone = device(&server, on.wire, &one);
    // In rooms alone, without an inbox: a session is a session.
    let mut viewer = Client::user(&server, on.wire, token(&one));
    let (mut desk, mut other) = (device(&server, on.wire, &two), device(&server, on.wire, &bob));
    let path = format!("/v1/sessions/{}", one["session"].as_str().unwrap());
    let begun = Instant::now();
    assert_eq!(call(&server, token(&one), "DELETE", &path, &Value::Null).0, 204);
    phone.ends_with("SESSION_REVOKED", 1008);
    viewer.ends_with("SESSION_REVOKED", 1008);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    desk.ping();
    assert_eq!(call(&server, token(&two), "DELETE", "/v1/sessions", &Value::Null).0, 204);
    desk.ends_with("SESSION_REVOKED", 1008);
    other.ping();
}
