//! Tokens: who gets in as whom, and for how long.

use crate::On;
use crate::client::Client;
use crate::server::Server;
use crate::tokens::{claims, config, eddsa, hs256, hs256_by, plain, unix_s};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use uproar_proto::v1;

pub(crate) fn a_token_names_its_user(on: On) {
    let server = Server::start(on.io, &config());
    for token in [plain("alice"), eddsa(&claims("alice", Value::Null))] {
        let mut client = Client::open(&server, on.wire);
        let welcome = client.hello(&token);
        assert_eq!((welcome.user.as_str(), welcome.guest), ("alice", false));
        client.join("stage");
        client.is_accepted("stage", "1", "who am I?");
        assert_eq!(client.messages("stage", 1)[0].user, "alice");
    }
}

pub(crate) fn an_expired_token_is_refused(on: On) {
    let server = Server::start(on.io, &config());
    let expired = claims("alice", json!({"exp": unix_s() - 1}));
    for token in [hs256(&expired), eddsa(&expired)] {
        let mut client = Client::open(&server, on.wire);
        client.connect(&token);
        client.ends_with("TOKEN_EXPIRED", 1008);
    }
}

pub(crate) fn a_token_that_expires_ends_its_session(on: On) {
    let server = Server::start(on.io, &config());
    let expires_s = unix_s() + 3;
    let brief = hs256(&claims("alice", json!({"exp": expires_s})));
    let (mut alice, mut bob) = (Client::open(&server, on.wire), Client::open(&server, on.wire));
    alice.hello(&brief);
    bob.hello(&plain("bob"));
    alice.join("stage");
    bob.join("stage");
    let begun = Instant::now();
    alice.ends_with("TOKEN_EXPIRED", 1008);
    assert!(unix_s() >= expires_s, "not before its time");
    assert!(begun.elapsed() < Duration::from_secs(10), "and not long after it");
    bob.is_accepted("stage", "1", "I am still here");
}

pub(crate) fn tokens_of_others_are_refused(on: On) {
    let server = Server::start(on.io, &config());
    let good = plain("alice");
    let parts: Vec<&str> = good.split('.').collect();
    // {"alg":"none"} and no signature; another user under a good signature.
    let unsigned = format!("eyJhbGciOiJub25lIn0.{}.", parts[1]);
    let mallory = plain("mallory");
    let swapped = format!("{}.{}.{}", parts[0], mallory.split('.').nth(1).unwrap(), parts[2]);
    let endless = hs256(&json!({"sub": "alice"}));
    let nameless = hs256(&json!({"exp": unix_s() + 60}));
    let long = plain(&"a".repeat(65));
    let stranger = hs256_by(b"somebody else's secret, as long!", &claims("alice", Value::Null));
    for token in [&unsigned, &swapped, &endless, &nameless, &long, &stranger, "a.b.c", "x"] {
        let mut client = Client::open(&server, on.wire);
        client.connect(token);
        client.ends_with("TOKEN_INVALID", 1008);
    }
}

pub(crate) fn guests_need_permission_where_keys_are_set(on: On) {
    let server = Server::start(on.io, &config());
    let mut client = Client::open(&server, on.wire);
    client.connect("");
    client.ends_with("TOKEN_REQUIRED", 1008);
    let open = Server::start(on.io, &format!("{}guests = true\n", config()));
    Client::guest(&open, on.wire);
}

pub(crate) fn a_token_opens_its_rooms_and_classes_alone(on: On) {
    let server = Server::start(on.io, &config());
    let more = json!({"rooms": ["lobby", "vip-*"], "publish": ["chat", "gift"]});
    let mut client = Client::user(&server, on.wire, &hs256(&claims("alice", more)));
    client.join("lobby");
    client.join("vip-7");
    client.ask_to_join("stage", None);
    assert_eq!(client.room_error("stage"), "FORBIDDEN");
    let text = |text: &str| Some(v1::publish::Content::Text(text.into()));
    client.publish("lobby", v1::Class::Gift, "g", text("a rocket"));
    assert_eq!(client.verdict("g").outcome(), v1::Outcome::Accepted);
    client.publish("lobby", v1::Class::System, "s", text("an order"));
    let verdict = client.verdict("s");
    assert_eq!((verdict.outcome(), verdict.code), (v1::Outcome::Refused, 2011), "FORBIDDEN");
    let heard = client.messages("lobby", 1);
    assert_eq!(heard[0].class(), v1::Class::Gift);
}
