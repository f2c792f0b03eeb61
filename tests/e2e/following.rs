//! Rooms in which followers alone may chat: who follows, for how long, and who begins to.

use crate::On;
use crate::client::Client;
use crate::people::{self, call, person};
use crate::server::Server;
use crate::tokens::{claims, config, hs256, unix_s};
use serde_json::{Value, json};
use uproar_proto::v1::{Class, Outcome, Renew, client_frame, publish, server_frame::Body};

const FOLLOWERS_ONLY: u32 = 2035;

fn token(user: &str, more: Value) -> String {
    hs256(&claims(user, more))
}

pub(crate) fn only_who_follows_for_long_enough_may_chat(on: On) {
    let server = Server::start(on.io, &format!("{}guests = true\n", config()));
    let room = json!({"room": "stage", "followers_only_s": 600, "allowed": ["bot"]});
    server.post("/v1/rooms", &room);
    let since = |long_s: u64| json!({"follows": {"other": 1, "stage": unix_s() - long_s}});
    let user = |more| Client::user(&server, on.wire, &token("ann", more));
    let mut long = user(since(3_600));
    assert_eq!(long.join("stage").followers_only_s, Some(600)); // S-64
    long.is_accepted("stage", "1", "I was here before");
    let mut short = user(since(60));
    short.join("stage");
    let (code, retry_after_ms) = short.is_refused("stage", "2", "so was I");
    assert_eq!(code, FOLLOWERS_ONLY);
    assert!((530_000..=540_000).contains(&retry_after_ms), "{retry_after_ms}");
    let (mut stranger, _) = Client::viewer(&server, on.wire, "stage");
    assert_eq!(stranger.is_refused("stage", "3", "hello"), (FOLLOWERS_ONLY, 0));
    stranger.like("stage", 3);
    let may_gift = json!({"publish": ["chat", "gift"]});
    let mut giver = Client::user(&server, on.wire, &token("gus", may_gift));
    giver.join("stage");
    let rose = Some(publish::Content::Text("a rose".into()));
    giver.publish("stage", Class::Gift, "4", rose);
    assert_eq!(giver.verdict("4").outcome(), Outcome::Accepted, "a gift is no chat");
    assert_eq!(giver.is_refused("stage", "5", "did you see?").0, FOLLOWERS_ONLY);
    for (name, more) in [("mod", json!({"moderate": true})), ("bot", Value::Null)] {
        let mut exempt = Client::user(&server, on.wire, &token(name, more));
        exempt.join("stage");
        exempt.is_accepted("stage", name, "I always may");
    }
    server.says("stage", "so may the platform");
    // Any follower; and everybody again.
    let set = |value: Value| {
        let body = json!({"followers_only_s": value});
        let answer = server.request("PATCH", "/v1/rooms/stage", &body);
        assert_eq!(answer.status, 200, "{}", answer.body);
    };
    set(json!(0));
    short.is_accepted_soon("stage", "6", "may I now?", FOLLOWERS_ONLY);
    assert_eq!(stranger.is_refused("stage", "7", "and I?").0, FOLLOWERS_ONLY);
    set(Value::Null);
    stranger.is_accepted_soon("stage", "8", "may I now?", FOLLOWERS_ONLY);
    server.eventually("it is told to who joins", |server| {
        Client::viewer(server, on.wire, "stage").1.followers_only_s.is_none()
    });
}

pub(crate) fn who_begins_to_follow_renews_its_token_in_place(on: On) {
    let server = Server::start(on.io, &config());
    server.post("/v1/rooms", &json!({"room": "stage", "followers_only_s": 0}));
    let mut ann = Client::user(&server, on.wire, &token("ann", Value::Null));
    ann.join("stage");
    assert_eq!(ann.is_refused("stage", "1", "hello").0, FOLLOWERS_ONLY);
    let mut renew = |more: Value| {
        let token = token("ann", more);
        ann.send(client_frame::Body::Renew(Renew { token }));
        ann.take("the answer", |body| match body {
            Body::Renewed(_) => Some(Ok(())),
            Body::Error(error) => Some(Err(error.name.clone())),
            _ => None,
        })
    };
    let many: Value = (0..257).map(|n| (format!("r{n}"), json!(1))).collect();
    assert_eq!(renew(json!({"follows": many})), Err("TOKEN_INVALID".into())); // S-65
    assert_eq!(renew(json!({"follows": {"stage": unix_s()}})), Ok(()));
    ann.is_accepted("stage", "2", "hello");
}

pub(crate) fn an_account_follows_a_room_through_its_owner(on: On) {
    let server = people::server(on);
    server.post("/v1/rooms", &json!({"room": "stage", "followers_only_s": 0}));
    let [mut ann, bob, mut cleo] = ["ann", "bob", "cleo"].map(|name| person(&server, name));
    let owner = server.request("PUT", "/v1/rooms/stage/roles/bob", &json!({"role": "owner"}));
    assert_eq!(owner.status, 204, "{}", owner.body);
    let enter = |who: &Value| {
        let mut client = Client::user(&server, on.wire, people::token(who));
        client.join("stage");
        client
    };
    let (mut phone, mut tablet) = (enter(&ann), enter(&cleo));
    assert_eq!(phone.is_refused("stage", "1", "hello").0, FOLLOWERS_ONLY);
    let follow = |who: &Value, method: &str| {
        let answer = call(&server, people::token(who), method, "/v1/follows/bob", &Value::Null);
        assert_eq!(answer.0, 200, "{}", answer.1);
    };
    follow(&ann, "PUT");
    // S-70
    assert_eq!(phone.is_refused("stage", "2", "now?").0, FOLLOWERS_ONLY, "its token says no");
    let renew = |who: &mut Value, client: &mut Client| {
        let used = json!({"refresh_token": who["refresh_token"]});
        let (status, body) = call(&server, "", "POST", "/v1/sessions/refresh", &used);
        assert_eq!(status, 200, "{body}");
        *who = body;
        let token = people::token(who).to_owned();
        client.send(client_frame::Body::Renew(Renew { token }));
        client.take("the answer", |body| matches!(body, Body::Renewed(_)).then_some(()));
    };
    renew(&mut ann, &mut phone);
    phone.is_accepted("stage", "3", "hello");
    renew(&mut cleo, &mut tablet);
    assert_eq!(tablet.is_refused("stage", "4", "and I?").0, FOLLOWERS_ONLY);
    // Whoever has a role is there for its followers.
    let mut desk = enter(&people::log_in(&server, "bob"));
    desk.is_accepted("stage", "5", "welcome");
    assert_eq!(enter(&bob).is_refused("stage", "6", "before").0, FOLLOWERS_ONLY);
    follow(&ann, "DELETE");
    phone.is_accepted("stage", "7", "until the next token");
    renew(&mut ann, &mut phone);
    assert_eq!(phone.is_refused("stage", "8", "no more").0, FOLLOWERS_ONLY);
}
