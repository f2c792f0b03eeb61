//! Presence: friends are seen to come and go, and nobody else is.

use crate::client::Client;
use crate::people::{call, device, person, token};
use crate::server::Server;
use crate::{DEADLINE, On, people};
use serde_json::Value;
use std::time::{Duration, Instant};
use uproar_proto::error::Code;
use uproar_proto::v1::{self, client_frame, server_frame::Body};

/// Makes two people friends.
fn befriend(server: &Server, one: (&str, &Value), other: (&str, &Value)) {
    let ask = call(server, token(one.1), "PUT", &format!("/v1/friends/{}", other.0), &Value::Null);
    assert_eq!(ask.0, 200, "{}", ask.1);
    let path = format!("/v1/friend-requests/{}", one.0);
    assert_eq!(call(server, token(other.1), "PUT", &path, &Value::Null).0, 200);
}

fn watch(client: &mut Client, users: &[&str]) -> Vec<v1::UserPresence> {
    let users = users.iter().map(|user| (*user).to_owned()).collect();
    client.send(client_frame::Body::Watch(v1::Watch { users }));
    told(client)
}

/// The next presence frame.
fn told(client: &mut Client) -> Vec<v1::UserPresence> {
    client.take("presence", |body| match body {
        Body::Presence(presence) => Some(presence.users.clone()),
        _ => None,
    })
}

fn states(users: &[v1::UserPresence]) -> Vec<(&str, bool)> {
    users.iter().map(|user| (user.user.as_str(), user.online)).collect()
}

pub(crate) fn friends_are_seen_to_come_and_go(on: On) {
    let server = people::server(on);
    let (ann, bob) = (person(&server, "ann"), person(&server, "bob"));
    let (cleo, dan) = (person(&server, "cleo"), person(&server, "dan"));
    befriend(&server, ("ann", &ann), ("bob", &bob));
    befriend(&server, ("ann", &ann), ("dan", &dan));
    assert_eq!(call(&server, token(&dan), "PUT", "/v1/blocks/ann", &Value::Null).0, 200);
    let mut phone = device(&server, on.wire, &ann);
    let _stranger = device(&server, on.wire, &cleo);
    let _blocker = device(&server, on.wire, &dan);
    // Neither a stranger nor one who blocks is told of, nor that anybody of that name exists.
    let first = watch(&mut phone, &["bob", "cleo", "dan", "nobody"]);
    assert_eq!(states(&first), [("bob", false)]);
    let desk = device(&server, on.wire, &bob);
    assert_eq!(states(&told(&mut phone)), [("bob", true)]);
    // A reconnect within the debounce is told to nobody: the next word is that bob is gone.
    drop(desk);
    let desk = device(&server, on.wire, &bob);
    let gone = Instant::now();
    drop(desk);
    let last = told(&mut phone);
    assert_eq!(states(&last), [("bob", false)]);
    // The server counts whole milliseconds.
    let debounce = Duration::from_millis(4_999);
    assert!((debounce..DEADLINE / 2).contains(&gone.elapsed()), "{:?}", gone.elapsed());
    assert!(last[0].last_seen_ms > 0);
    // It is still known to a device that asks later.
    let mut tablet = device(&server, on.wire, &ann);
    assert_eq!(watch(&mut tablet, &["bob"]), last);
}

pub(crate) fn who_is_a_friend_no_more_is_not_seen(on: On) {
    let server = people::server(on);
    let (ann, bob) = (person(&server, "ann"), person(&server, "bob"));
    let cleo = person(&server, "cleo");
    befriend(&server, ("ann", &ann), ("bob", &bob));
    befriend(&server, ("ann", &ann), ("cleo", &cleo));
    let mut phone = device(&server, on.wire, &ann);
    assert_eq!(states(&watch(&mut phone, &["bob", "cleo"])), [("bob", false), ("cleo", false)]);
    assert_eq!(call(&server, token(&bob), "DELETE", "/v1/friends/ann", &Value::Null).0, 200);
    let _desk = device(&server, on.wire, &bob);
    let _other = device(&server, on.wire, &cleo);
    // Bob came first and would be told with cleo or before.
    assert_eq!(states(&told(&mut phone)), [("cleo", true)]);
    assert_eq!(states(&watch(&mut phone, &["bob", "cleo"])), [("cleo", true)]);
}

pub(crate) fn a_watch_has_a_bound_and_needs_an_inbox(on: On) {
    let server = people::server(on);
    let ann = person(&server, "ann");
    let mut phone = device(&server, on.wire, &ann);
    let names: Vec<String> = (0..1_001).map(|n| format!("u{n}")).collect();
    phone.send(client_frame::Body::Watch(v1::Watch { users: names[..1_000].to_vec() }));
    assert_eq!(states(&told(&mut phone)), []);
    phone.send(client_frame::Body::Watch(v1::Watch { users: names }));
    let refused = |client: &mut Client| {
        client.take("an error", |body| match body {
            Body::Error(error) => Some(error.code),
            _ => None,
        })
    };
    assert_eq!(refused(&mut phone), Code::LimitReached.number());
    let mut viewer = Client::user(&server, on.wire, token(&ann));
    viewer.send(client_frame::Body::Watch(v1::Watch { users: vec!["bob".into()] }));
    assert_eq!(refused(&mut viewer), Code::InboxRequired.number());
    assert!((server.metric("uproar_users_online", "") - 1.0).abs() < 0.1);
}
