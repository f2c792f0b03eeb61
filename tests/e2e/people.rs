//! People with accounts of their own: from registering to a message, and out again.

use crate::chat::text;
use crate::client::Client;
use crate::server::Server;
use crate::tokens::config;
use crate::{DEADLINE, On, Wire};
use serde_json::{Value, json};
use std::time::Instant;
use uproar_proto::error::Code;
use uproar_proto::v1::{self, client_frame, server_frame::Body};

pub(crate) fn server(on: On) -> Server {
    let open = "[accounts]\nregistration_open = true\nhash_memory_kib = 64\n";
    on.server(&format!("{}{open}", config()))
}

/// A request of a person, by access token.
pub(crate) fn call(
    server: &Server,
    token: &str,
    method: &str,
    path: &str,
    body: &Value,
) -> (u16, Value) {
    let header =
        if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    let answer = server.request_as(&header, method, path, body);
    let body = if answer.body.is_empty() { Value::Null } else { answer.json() };
    (answer.status, body)
}

/// A new account, logged in: its tokens.
pub(crate) fn person(server: &Server, name: &str) -> Value {
    let account = json!({"user": name, "password": "correct horse"});
    let (status, body) = call(server, "", "POST", "/v1/accounts", &account);
    assert_eq!(status, 201, "{body}");
    log_in(server, name)
}

pub(crate) fn log_in(server: &Server, name: &str) -> Value {
    let login = json!({"user": name, "password": "correct horse", "device": "phone"});
    let (status, body) = call(server, "", "POST", "/v1/sessions", &login);
    assert_eq!(status, 201, "{body}");
    body
}

pub(crate) fn token(session: &Value) -> &str {
    session["access_token"].as_str().unwrap()
}

pub(crate) fn device(server: &Server, wire: Wire, session: &Value) -> Client {
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

/// The next word on what others are to this user.
fn related(client: &mut Client) -> v1::RelationState {
    let mut users = client.take("relations", |body| match body {
        Body::Relations(relations) => Some(relations.users.clone()),
        _ => None,
    });
    assert_eq!(users.len(), 1, "{users:?}");
    users.remove(0)
}

pub(crate) fn relationships_are_told_as_they_change(on: On) {
    let server = server(on);
    let (ann, bob) = (person(&server, "ann"), person(&server, "bob"));
    let (mut phone, mut desk) = (device(&server, on.wire, &ann), device(&server, on.wire, &bob));
    let away = {
        let mut tablet = device(&server, on.wire, &ann);
        tablet.syncs("").cursor
    };
    let act = |who: &Value, method: &str, path: &str| {
        let answer = call(&server, token(who), method, path, &Value::Null);
        assert_eq!(answer.0, 200, "{method} {path}: {}", answer.1);
    };
    // Both have their inbox open.
    phone.syncs("");
    desk.syncs("");
    act(&ann, "PUT", "/v1/friends/bob");
    assert!(related(&mut phone).asked);
    let asking = related(&mut desk);
    assert!(asking.asking && asking.user == "ann", "a request is seen at once: {asking:?}");
    act(&bob, "PUT", "/v1/friend-requests/ann");
    assert!(related(&mut phone).friend && related(&mut desk).friend);
    act(&ann, "PUT", "/v1/follows/bob");
    assert!(related(&mut phone).follows);
    let mut tablet = device(&server, on.wire, &ann);
    let synced = tablet.syncs(&away).relations;
    assert!(synced.len() == 1 && synced[0].friend && synced[0].follows, "{synced:?}");
    act(&bob, "PUT", "/v1/blocks/ann");
    let over = related(&mut phone);
    let nothing = v1::RelationState {
        user: "bob".into(),
        changed_ms: over.changed_ms,
        ..v1::RelationState::default()
    };
    assert_eq!(over, nothing, "it is over, and nobody says why");
    assert!(related(&mut desk).blocks);
    let mut tablet = device(&server, on.wire, &ann);
    assert_eq!(tablet.syncs(&away).relations, [nothing], "also to who was away");
    assert!(!desk.has_unread(|body| matches!(body, Body::Relations(_))), "a follow is nobody's");
}

pub(crate) fn what_is_read_in_private_stays_with_its_reader(on: On) {
    let server = server(on);
    let (ann, bob) = (person(&server, "ann"), person(&server, "bob"));
    let none = Value::Null;
    assert_eq!(call(&server, token(&ann), "PUT", "/v1/friends/bob", &none).0, 200);
    assert_eq!(call(&server, token(&bob), "PUT", "/v1/friend-requests/ann", &none).0, 200);
    let (mut phone, mut desk) = (device(&server, on.wire, &ann), device(&server, on.wire, &bob));
    let mut tablet = device(&server, on.wire, &bob);
    for client in [&mut phone, &mut desk, &mut tablet] {
        client.syncs("");
    }
    assert_eq!(phone.is_stored(text("bob", 1, "hello")), 1);
    let path = "/v1/account/settings";
    let off = json!({"private_read": false, "hide_last_seen": false});
    assert_eq!(call(&server, token(&bob), "GET", path, &none), (200, off));
    let set = call(&server, token(&bob), "PATCH", path, &json!({"private_read": true}));
    assert_eq!(set, (200, json!({"private_read": true, "hide_last_seen": false})));
    let settings = |client: &mut Client| {
        client.take("settings", |body| match body {
            Body::Settings(settings) => Some(*settings),
            _ => None,
        })
    };
    assert!(settings(&mut desk).private_read && settings(&mut tablet).private_read);
    let mut read = |read_seq, delivered_seq| {
        let conversation = "user:ann".to_owned();
        let marks = vec![v1::Marked { conversation, read_seq, delivered_seq }];
        desk.send(client_frame::Body::Mark(v1::Mark { marks }));
    };
    read(1, 1);
    let cursor = |client: &mut Client| {
        client.take("cursors", |body| match body {
            Body::Cursors(cursors) => {
                Some((cursors.users[0].read_seq, cursors.users[0].delivered_seq))
            }
            _ => None,
        })
    };
    assert_eq!(cursor(&mut tablet), (1, 1), "its own devices know");
    assert_eq!(cursor(&mut phone), (0, 1), "the other one knows that it arrived");
    assert_eq!(phone.syncs("").conversations[0].peer_read_seq, 0);
    let wrong = call(&server, token(&bob), "PATCH", path, &json!({"private": true}));
    assert_eq!((wrong.0, &wrong.1["error"]["name"]), (400, &json!("BAD_REQUEST")));
    let wrong = call(&server, token(&bob), "PATCH", path, &json!({"private_read": "yes"}));
    assert_eq!(wrong.0, 400);
    // A quiet conversation is quiet on all devices.
    let quiet = "/v1/conversations/user%3Aann";
    assert_eq!(call(&server, token(&bob), "PATCH", quiet, &json!({"silent": true})).0, 204);
    tablet.take("a resync", |body| matches!(body, Body::Resync(_)).then_some(()));
    let synced = tablet.syncs("");
    assert!(synced.conversations[0].silent);
    assert!(synced.settings.is_some_and(|settings| settings.private_read));
    let stranger = "/v1/conversations/user%3Anobody";
    assert_eq!(call(&server, token(&bob), "PATCH", stranger, &json!({"silent": true})).0, 404);
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
    // Told, not found out by the next ping or the end of the token.
    assert!(begun.elapsed() < DEADLINE / 2, "{:?}", begun.elapsed());
    desk.ping();
    assert_eq!(call(&server, token(&two), "DELETE", "/v1/sessions", &Value::Null).0, 204);
    desk.ends_with("SESSION_REVOKED", 1008);
    other.ping();
}

pub(crate) fn the_token_of_a_login_that_has_ended_opens_no_inbox(on: On) {
    let server = server(on);
    let (one, two) = (person(&server, "ann"), log_in(&server, "ann"));
    let path = format!("/v1/sessions/{}", one["session"].as_str().unwrap());
    assert_eq!(call(&server, token(&one), "DELETE", &path, &Value::Null).0, 204);
    // Its signature is good for minutes; its login is over.
    let mut phone = device(&server, on.wire, &one);
    phone.ends_with("SESSION_REVOKED", 1008);
    let mut desk = device(&server, on.wire, &two);
    desk.syncs("");
    // Nor does a connection that stands go on with it.
    let old = token(&one).to_owned();
    desk.send(client_frame::Body::Renew(v1::Renew { token: old }));
    desk.ends_with("SESSION_REVOKED", 1008);
    // In rooms alone a token is good until it expires.
    Client::user(&server, on.wire, token(&one)).ping();
}
