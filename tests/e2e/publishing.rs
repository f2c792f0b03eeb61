//! From a publish to every screen: verdicts, order, content, limits, likes.

use crate::client::Client;
use crate::server::Server;
use crate::{On, Wire};
use serde_json::json;
use uproar_proto::v1::{self, Outcome, client_frame, message, publish, server_frame::Body};

const WIRES: [Wire; 3] = [Wire::Tcp, Wire::WebSocket, Wire::Json];

pub(crate) fn a_message_reaches_every_wire_with_one_seq(on: On) {
    let server = Server::start(on.io, "");
    let (mut publisher, joined) = Client::viewer(&server, on.wire, "stage");
    // Two of each: on either shard somebody has each of the wires, as good as always.
    let mut viewers: Vec<Client> = [WIRES, WIRES]
        .concat()
        .into_iter()
        .map(|wire| Client::viewer(&server, wire, "stage").0)
        .collect();
    let text = "h\u{e9}llo \u{1f44b} \"quotes\" \\ </script> \u{0} \u{2028}";
    let seq = publisher.is_accepted("stage", "my-id", text);
    assert_eq!(seq, joined.seq + 1);
    let own = publisher.messages("stage", 1).remove(0);
    assert_eq!(own.client_msg_id, "my-id", "a sender knows its own message");
    assert_eq!(own.content, Some(message::Content::Text(text.into())));
    assert_eq!((own.seq, own.class()), (seq, v1::Class::Chat));
    assert!(own.time_ms.abs_diff(crate::tokens::unix_s() * 1000) < 60_000, "{own:?}");
    for viewer in &mut viewers {
        assert_eq!(viewer.messages("stage", 1), vec![own.clone()], "all viewers see the same");
    }
}

pub(crate) fn bytes_stay_bytes(on: On) {
    let server = Server::start(on.io, "");
    let mut viewers = WIRES.map(|wire| Client::viewer(&server, wire, "stage").0);
    let (mut publisher, _) = Client::viewer(&server, on.wire, "stage");
    let every_byte: Vec<u8> = (0..=255).collect();
    let data = bytes::Bytes::from(every_byte.repeat(4));
    let content = Some(publish::Content::Data(data.clone()));
    publisher.publish("stage", v1::Class::Chat, "\u{0}\u{1}id", content);
    assert_eq!(publisher.verdict("\u{0}\u{1}id").outcome(), Outcome::Accepted);
    for viewer in &mut viewers {
        let heard = viewer.messages("stage", 1).remove(0);
        assert_eq!(heard.content, Some(message::Content::Data(data.clone())));
        assert_eq!(heard.client_msg_id, "\u{0}\u{1}id");
    }
}

pub(crate) fn what_cannot_be_published_is_refused_and_told_why(on: On) {
    let server = Server::start(on.io, "");
    server.post("/v1/rooms", &json!({"room": "small", "payload_bytes_max": 10}));
    server.post("/v1/rooms", &json!({"room": "quiet", "guests_publish": false}));
    let mut client = Client::guest(&server, on.wire);
    client.join("small");
    client.join("quiet");
    client.is_accepted("small", "fits", "0123456789");
    assert_eq!(client.is_refused("small", "1", "0123456789a").0, 2007, "TOO_LARGE");
    assert_eq!(client.is_refused("small", "2", "").0, 2008, "EMPTY");
    client.publish("small", v1::Class::Chat, "3", None);
    assert_eq!(client.verdict("3").code, 2008, "EMPTY");
    assert_eq!(client.is_refused("small", "", "no id").0, 2009, "BAD_ID");
    assert_eq!(client.is_refused("quiet", "4", "psst").0, 2011, "FORBIDDEN");
    let text = Some(publish::Content::Text("gift".into()));
    client.publish("small", v1::Class::Gift, "5", text);
    assert_eq!(client.verdict("5").code, 2011, "FORBIDDEN");
    client.say("elsewhere", "6", "hello");
    assert_eq!(client.room_error("elsewhere"), "NOT_MEMBER");
    // None of it was seen: the next message has the next seq.
    client.messages("small", 1);
    let seq = client.is_accepted("small", "7", "fits too");
    assert_eq!(client.messages("small", 1)[0].seq, seq);
    assert_eq!(seq, 2);
}

pub(crate) fn a_busy_user_is_told_to_slow_down(on: On) {
    let server = Server::start(on.io, "");
    server.post("/v1/rooms", &json!({"room": "stage", "user_rate_per_s": 1, "rate_per_s": 1000}));
    let (mut client, _) = Client::viewer(&server, on.wire, "stage");
    let (mut other, _) = Client::viewer(&server, on.wire, "stage");
    // A second's worth may be saved up; ten lines at once are beyond it on the slowest machine.
    for n in 0..10 {
        client.say("stage", &n.to_string(), "at once");
    }
    let verdicts: Vec<v1::Verdict> = (0..10).map(|n| client.verdict(&n.to_string())).collect();
    assert_eq!(verdicts[0].outcome(), Outcome::Accepted);
    let refused: Vec<_> = verdicts.iter().filter(|v| v.outcome() == Outcome::Refused).collect();
    assert!(!refused.is_empty(), "{verdicts:?}");
    for verdict in refused {
        assert_eq!(verdict.code, 1001, "SLOW_DOWN");
        assert!((1..=1000).contains(&verdict.retry_after_ms), "{verdict:?}");
    }
    other.is_accepted("stage", "1", "I said nothing yet");
}

pub(crate) fn a_busy_room_sheds_and_the_books_balance(on: On) {
    let server = Server::start(on.io, "");
    let rates = json!({"room": "stage", "rate_per_s": 5, "user_rate_per_s": 1000});
    server.post("/v1/rooms", &rates);
    let mut talkers: Vec<Client> =
        (0..20).map(|_| Client::viewer(&server, on.wire, "stage").0).collect();
    for round in 0..5 {
        for talker in &mut talkers {
            talker.say("stage", &format!("{round}"), "me me me");
        }
        // What is never shed passes in the middle of it.
        server.says("stage", "please be quiet");
    }
    let (mut accepted, mut shed) = (0, 0);
    for talker in &mut talkers {
        for round in 0..5 {
            let verdict = talker.verdict(&format!("{round}"));
            match verdict.outcome() {
                Outcome::Accepted => accepted += 1,
                Outcome::Shed => {
                    assert_eq!(verdict.code, 1003, "ROOM_BUSY: {verdict:?}");
                    shed += 1;
                }
                // One candidate per sender: a later line of the same window takes its place.
                Outcome::Merged => shed += 1,
                other => panic!("{other:?}: {verdict:?}"),
            }
        }
    }
    assert_eq!(accepted + shed, 100, "each publish gets one verdict");
    assert!(accepted >= 1 && shed > 50, "{accepted} accepted, {shed} shed");
    // Everybody saw exactly the accepted ones, and the five of the host.
    for talker in &mut talkers {
        talker.messages("stage", accepted + 5);
    }
    server.eventually("the books balance", |server| {
        let of = |outcome: &str| server.metric("uproar_messages_total", &format!("\"{outcome}\""));
        let sides = of("refused") + of("admitted") + of("merged") + of("shed") + of("expired");
        let expected = server.metric("uproar_deliveries_total", "\"expected\"");
        of("offered") == 105.0
            && sides == 105.0
            && of("admitted") == (accepted + 5) as f64
            && expected == (accepted + 5) as f64 * 20.0
            && server.metric("uproar_deliveries_total", "\"sent\"") == expected
    });
}

pub(crate) fn likes_are_added_up_exactly(on: On) {
    let server = Server::start(on.io, "[engine.rooms]\nlikes_every_ms = 100\n");
    let (mut watcher, _) = Client::viewer(&server, on.wire, "stage");
    let mut fans: Vec<Client> =
        (0..3).map(|_| Client::viewer(&server, on.wire, "stage").0).collect();
    for _ in 0..20 {
        for (fan, count) in fans.iter_mut().zip([0, 1, 50]) {
            fan.like("stage", count);
        }
    }
    // 0 counts as 1.
    let total = 20 * (1 + 1 + 50);
    watcher.count("all likes", |count| {
        assert!(count.likes.unwrap_or(0) <= total, "never more than were given: {count:?}");
        count.likes == Some(total)
    });
    for fan in &mut fans {
        fan.ping();
        assert!(!fan.has_unread(|body| matches!(body, Body::Verdicts(_))), "likes get no verdict");
    }
    server.eventually("snapshots have them", |server| {
        let (_, joined) = Client::viewer(server, on.wire, "stage");
        assert_eq!(joined.seq, 0, "a count has no seq");
        joined.likes == total
    });
    // An id and content with a like change nothing.
    fans[0].send(client_frame::Body::Publish(v1::Publish {
        room: "stage".into(),
        class: v1::Class::Like.into(),
        client_msg_id: bytes::Bytes::from_static(b"x"),
        count: 7,
        ..v1::Publish::default()
    }));
    watcher.count("seven more", |count| count.likes == Some(total + 7));
    // One frame stands for so many and no more: a refused one is counted, and adds nothing.
    fans[0].like("stage", 101);
    fans[0].like("stage", 100);
    watcher.count("a hundred more", |count| count.likes == Some(total + 107));
    let refused = "class=\"like\",outcome=\"refused\"";
    server.eventually("it is in the books", |s| s.metric("uproar_messages_total", refused) == 1.0);
}
