//! Messages of live rooms that a platform's receiver decides about before anybody sees them.

use crate::client::Client;
use crate::receiver::{Receiver, Reply, Request, SECRET, address, events};
use crate::server::Server;
use crate::tokens::{claims, config, hs256};
use crate::{DEADLINE, On, Wire};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use uproar_proto::error::Code;
use uproar_proto::v1::{self, message::Content};

/// A configuration whose rooms ask the receiver at this address.
fn asking(address: SocketAddr, setting: &str, wait_ms: u32) -> String {
    format!(
        "{}guests = true\n[engine.rooms]\nbefore_publish_ms = {wait_ms}\n\
         [engine.rooms.defaults]\nbefore_publish = \"{setting}\"\n[[webhooks]]\n\
         name = \"platform\"\nurl = \"http://{address}/hook?of=uproar\"\nsecret = \"{SECRET}\"\n\
         events = [\"publish.before\"]\ntimeout_ms = 20000\n",
        config()
    )
}

/// Decides by what is said.
fn decides(request: &Request) -> Reply {
    let answer = |event: &Value| {
        let id = &event["id"];
        match event["message"]["text"].as_str().unwrap_or_default() {
            "spam" => json!({"id": id, "allow": false, "code": "MUTED", "text": "calm down"}),
            "damn" => json!({"id": id, "allow": true, "replace": "d***"}),
            "long" => json!({"id": id, "allow": true, "replace": "x".repeat(5_000)}),
            _ => json!({"id": id, "allow": true}),
        }
    };
    let answers: Vec<Value> = request.events().iter().map(answer).collect();
    Reply::Answer(200, json!({"answers": answers}).to_string())
}

fn texts(messages: &[v1::Message]) -> Vec<&str> {
    messages.iter().map(said).collect()
}

fn said(message: &v1::Message) -> &str {
    match &message.content {
        Some(Content::Text(text)) => text,
        other => panic!("{other:?}"),
    }
}

fn code(code: Code) -> u32 {
    code.number()
}

pub(crate) fn what_the_platform_says_is_what_a_room_sees(on: On) {
    let receiver = Receiver::start();
    receiver.answers(decides);
    // It needs no store.
    let more = format!("{}[store]\nurl = \"\"\n", asking(receiver.address, "closed", 5_000));
    let server = Server::start(on.io, &more);
    let (mut viewer, _) = Client::viewer(&server, on.wire, "stage");
    let (mut speaker, _) = Client::viewer(&server, on.wire, "stage");
    assert_eq!(speaker.is_accepted("stage", "1", "hello"), 1);
    assert_eq!(speaker.is_accepted("stage", "2", "damn"), 2);
    speaker.say("stage", "3", "spam");
    let refused = speaker.verdict("3"); // S-59
    assert_eq!((refused.code, refused.text.as_str()), (code(Code::Muted), "calm down"));
    assert_eq!((refused.outcome(), refused.retry_after_ms), (v1::Outcome::Refused, 0));
    // A text that nobody could have said is no decision.
    let (undecided, retry_after_ms) = speaker.is_refused("stage", "4", "long");
    assert_eq!((undecided, retry_after_ms), (code(Code::HookDown), 1_000)); // S-60
    // Moderators, backends and likes are the room's own business.
    let token = hs256(&claims("mod", json!({"moderate": true})));
    let mut moderator = Client::user(&server, on.wire, &token);
    moderator.join("stage");
    assert_eq!(moderator.is_accepted("stage", "5", "spam"), 3); // S-61
    speaker.like("stage", 2);
    let said = server.publish("stage", &json!({"user": "host", "class": "chat", "text": "damn"}));
    assert_eq!(said["outcome"], "ACCEPTED");
    let seen = viewer.messages("stage", 4);
    assert_eq!(texts(&seen), ["hello", "d***", "spam", "damn"]);
    let asked = receiver.until_events(4);
    let first = &asked[0];
    assert_eq!(
        (&first["type"], &first["conversation"]["kind"]),
        (&json!("publish.before"), &json!("room"))
    );
    assert_eq!(first["conversation"]["id"], "stage");
    assert_eq!(
        (&first["message"]["text"], &first["message"]["class"]),
        (&json!("hello"), &json!("chat"))
    );
    assert!(first["message"]["user"].as_str().unwrap().starts_with("guest-"));
    for (name, counted) in
        [("asked", 4.0), ("allowed", 1.0), ("replaced", 1.0), ("refused", 1.0), ("closed", 1.0)]
    {
        let figure = format!("uproar_publish_before_{name}_total");
        server.eventually(name, |server| server.metric(&figure, "") == counted);
    }
    assert_eq!(server.metric("uproar_webhook_publish_total", "\"rewritten\""), 2.0);
    assert_eq!(server.metric("uproar_publish_before_seconds_count", ""), 4.0);
}

/// How long it takes to say something.
fn time<T>(say: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    let said = say();
    (said, begun.elapsed())
}

pub(crate) fn a_receiver_that_hangs_or_is_gone_ends_as_the_room_has_declared(on: On) {
    let wait = Duration::from_millis(700);
    let receiver = Receiver::start();
    receiver.answers(|_| Reply::Hang);
    let server =
        Server::start(on.io, &asking(receiver.address, "open", 700).replace("= 20000", "= 1000"));
    server.post("/v1/rooms", &json!({"room": "strict", "before_publish": "closed"}));
    let (mut viewer, _) = Client::viewer(&server, on.wire, "free");
    let mut speaker = Client::guest(&server, on.wire);
    ["free", "strict"].iter().for_each(|room| drop(speaker.join(room)));
    let (seq, took) = time(|| speaker.is_accepted("free", "1", "x"));
    assert!(seq == 1 && took >= wait, "{took:?}");
    let (refused, took) = time(|| speaker.is_refused("strict", "2", "x"));
    assert!(refused == (code(Code::HookDown), 1_000) && took >= wait, "{took:?}");
    // All that many say at once wait together, and keep their order.
    for id in 10..14 {
        speaker.say("free", &id.to_string(), &format!("line {id}"));
    }
    let seqs: Vec<u64> = (10..14).map(|id| speaker.verdict(&id.to_string()).seq).collect();
    assert_eq!(seqs, [2, 3, 4, 5]);
    assert_eq!(
        texts(&viewer.messages("free", 5)),
        ["x", "line 10", "line 11", "line 12", "line 13"]
    );
    assert!(events(&receiver.came()).len() >= 3, "it was asked");
    // One that answers again is heard again.
    receiver.answers(decides);
    server.eventually("what hangs is given up", |server| {
        server.metric("uproar_webhook_failed_total", "\"timeout\"") >= 1.0
    });
    let end = Instant::now() + DEADLINE;
    let mut late = 20..;
    let mut said = || {
        let id = late.next().unwrap_or(0).to_string();
        speaker.say("strict", &id, "spam");
        speaker.verdict(&id).text
    };
    while said() != "calm down" {
        assert!(Instant::now() < end, "never");
    }
    drop(server);
    // Nobody listens: that is known at once, and nobody waits.
    let server = Server::start(on.io, &asking(address(), "open", 5_000));
    let (mut speaker, _) = Client::viewer(&server, on.wire, "free");
    let (seq, took) = time(|| speaker.is_accepted("free", "1", "x"));
    assert!(seq == 1 && took < Duration::from_secs(4), "{took:?}");
    server.eventually("it is counted", |server| {
        server.metric("uproar_publish_before_open_total", "") == 1.0
            && server.metric("uproar_webhook_publish_total", "\"undecided\"") == 1.0
    });
}

pub(crate) fn where_control_is_gone_a_room_does_as_it_has_declared(on: On) {
    let receiver = Receiver::start();
    receiver.answers(decides);
    let config = asking(receiver.address, "closed", 5_000);
    let mut control = Server::control(&config);
    let engine = control.engine(on.io, &config);
    let mut speaker = Client::guest(&engine, on.wire);
    speaker.join("stage");
    assert_eq!(speaker.is_accepted("stage", "1", "damn"), 1);
    assert_eq!(texts(&speaker.messages("stage", 1)), ["d***"]);
    control.kill();
    // While the link is not known to be cut, the room's time passes; then nobody waits.
    assert_eq!(speaker.is_refused("stage", "2", "x").0, code(Code::HookDown));
    engine.eventually("it knows", |engine| engine.metric("uproar_link_up", "") == 0.0);
    let (refused, took) = time(|| speaker.is_refused("stage", "3", "x"));
    assert_eq!(refused.0, code(Code::HookDown));
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert!(engine.metric("uproar_link_unasked_total", "") >= 1.0);
    let _control = control.start_in_its_place();
    engine.is_linked(2);
    assert_eq!(speaker.is_accepted("stage", "4", "y"), 2);
}

#[test]
fn a_room_may_ask_though_others_do_not() {
    let receiver = Receiver::start();
    receiver.answers(decides);
    let server = Server::start(crate::Io::Epoll, &asking(receiver.address, "off", 5_000));
    let (mut speaker, _) = Client::viewer(&server, Wire::Tcp, "stage");
    assert_eq!(speaker.is_accepted("stage", "1", "spam"), 1);
    let set = server.request("PATCH", "/v1/rooms/stage", &json!({"before_publish": "open"}));
    assert_eq!((set.status, &set.json()["settings"]["before_publish"]), (200, &json!("open")));
    assert_eq!(speaker.is_refused("stage", "2", "spam").0, code(Code::Muted));
    let set = server.request("PATCH", "/v1/rooms/stage", &json!({"before_publish": "maybe"}));
    assert_eq!(set.status, 400, "{}", set.body);
    server.request("PATCH", "/v1/rooms/stage", &json!({"before_publish": "off"}));
    assert_eq!(speaker.is_accepted("stage", "3", "spam"), 2);
    assert_eq!(receiver.until_events(1).len(), 1);
}
