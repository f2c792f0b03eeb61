//! From the first byte to a live session, and how a session ends for the client's own doing.

use crate::client::{Client, dial};
use crate::server::Server;
use crate::{On, Wire};
use serde_json::json;
use std::time::{Duration, Instant};
use uproar_proto::v1::{self, client_frame, server_frame::Body};

pub(crate) fn a_guest_is_welcomed_and_its_pings_are_answered(on: On) {
    let server =
        Server::start(on.io, "[engine]\nping_every_s = 45\nrooms_per_connection_max = 9\n");
    let mut client = Client::open(&server, on.wire);
    let welcome = client.hello("");
    assert!(welcome.guest && welcome.user.starts_with("guest-"), "{welcome:?}");
    assert!(!welcome.session.is_empty(), "{welcome:?}");
    assert_eq!(welcome.ping_every_s, 45);
    assert_eq!(welcome.rooms_max, 9);
    assert_eq!(welcome.payload_bytes_max, 16_384);
    let now_ms = crate::tokens::unix_s() * 1000;
    assert!(welcome.server_time_ms.abs_diff(now_ms) < 60_000, "{welcome:?}");
    for _ in 0..3 {
        client.ping();
    }
    let second = Client::open(&server, on.wire).hello("");
    assert!(second.session != welcome.session && second.user != welcome.user, "{second:?}");
}

pub(crate) fn bytes_may_arrive_one_by_one(on: On) {
    let server = Server::start(on.io, "");
    let mut client = Client::over(dial(server.clients), on.wire, 1);
    client.hello("");
    client.join("stage");
    let seq = client.is_accepted("stage", "1", "in single bytes");
    let heard = client.messages("stage", 1);
    assert_eq!(heard[0].seq, seq);
}

pub(crate) fn everything_may_travel_in_one_packet(on: On) {
    let server = Server::start(on.io, "");
    let mut client = Client::open(&server, on.wire);
    let join = |room: &str| v1::Join { room: room.into(), resume: None };
    let connect = v1::Connect {
        device: "phone".into(),
        agent: "e2e/1".into(),
        join: vec![join("a"), join("b")],
        ..v1::Connect::default()
    };
    // Sent without waiting for any answer; a small packet gathers them.
    client.link().socket.set_nodelay(false).unwrap();
    client.send(client_frame::Body::Connect(connect));
    client.ask_to_join("c", None);
    client.send(client_frame::Body::Ping(v1::Ping {}));
    assert!(matches!(client.next(), Body::Welcome(_)), "welcome comes before anything else");
    for room in ["a", "b", "c"] {
        client.joined(room);
    }
    client.take("pong", |body| matches!(body, Body::Pong(_)).then_some(()));
    for room in ["a", "b", "c"] {
        client.is_accepted(room, room, "here too");
    }
}

pub(crate) fn unknown_frames_and_fields_are_ignored(on: On) {
    let server = Server::start(on.io, "");
    let mut client = Client::open(&server, on.wire);
    // A kind 99 of a later version, before the connect and after it.
    let unknown = (&[0x9a, 0x06, 0x02, 0x08, 0x01][..], r#"{"later":{"field":[1,null]}}"#);
    client.send_content(unknown.0, unknown.1);
    // connect {device: "d", a field 99}.
    let connect = [0x0a, 0x07, 0x12, 0x01, b'd', 0x9a, 0x06, 0x01, b'x'];
    client.send_content(&connect, r#"{"connect":{"device":"d","later":{"x":1}}}"#);
    assert!(matches!(client.next(), Body::Welcome(_)));
    client.send_content(unknown.0, unknown.1);
    // An empty protobuf frame has no kind either.
    client.send_content(&[], "{}");
    client.ping();
}

pub(crate) fn the_first_frame_is_connect_and_there_is_one(on: On) {
    let server = Server::start(on.io, "");
    let mut early = Client::open(&server, on.wire);
    early.ask_to_join("stage", None);
    early.ends_with("PROTOCOL_ORDER", 1002);
    let mut twice = Client::guest(&server, on.wire);
    twice.connect("");
    twice.ends_with("PROTOCOL_ORDER", 1002);
}

pub(crate) fn without_a_connect_the_handshake_ends(on: On) {
    let server = Server::start(on.io, "[engine]\nhandshake_ms_max = 3000\n");
    let begun = Instant::now();
    let mut client = Client::open(&server, on.wire);
    client.ends_with("HANDSHAKE_TIMEOUT", 1008);
    assert!(begun.elapsed() >= Duration::from_secs(3), "not before its time");
    let mut in_time = Client::guest(&server, on.wire);
    // Well beyond the deadline: who said hello is not under it.
    let mut witness = Client::open(&server, on.wire);
    witness.ends_with("HANDSHAKE_TIMEOUT", 1008);
    in_time.ping();
    server.eventually("the reason is counted", |s| {
        s.metric("uproar_closes_total", "HANDSHAKE_TIMEOUT") >= 2.0
    });
}

pub(crate) fn silence_ends_a_session_and_pings_keep_it(on: On) {
    let server = Server::start(on.io, "[engine]\nping_every_s = 2\n");
    let begun = Instant::now();
    let mut silent = Client::guest(&server, on.wire);
    let mut lively = Client::guest(&server, on.wire);
    let beat = std::thread::spawn(move || {
        // Longer than the silence that ends the other one.
        for _ in 0..12 {
            std::thread::sleep(Duration::from_millis(500)); // the client's heartbeat
            lively.ping();
        }
    });
    silent.ends_with("IDLE_TIMEOUT", 1001);
    assert!(begun.elapsed() >= Duration::from_secs(4), "after twice the time, not before");
    beat.join().expect("the pings keep the session");
}

pub(crate) fn a_malformed_frame_closes_that_connection_alone(on: On) {
    let server = Server::start_one_shard(on.io, "");
    let (mut healthy, _) = Client::viewer(&server, on.wire, "stage");
    let (mut broken, _) = Client::viewer(&server, on.wire, "stage");
    // A length-delimited field that is longer than the frame.
    broken.send_content(&[0x0a, 0x7f, 0x01], r#"{"ping":{"#);
    broken.ends_with("BAD_FRAME", 1002);
    let mut again = Client::open(&server, on.wire);
    again.send_content(&[0xff; 12], r#"{"ping":{},"join":{"room":"stage"}}"#);
    again.ends_with("BAD_FRAME", 1002);
    let seq = healthy.is_accepted("stage", "1", "nothing happened to me");
    assert_eq!(healthy.messages("stage", 1)[0].seq, seq);
}

pub(crate) fn a_frame_beyond_the_bound_is_refused(on: On) {
    let server = Server::start(
        on.io,
        "[engine]\nframe_bytes_max = 2048\npayload_bytes_max = 1024\n\
        [engine.rooms.defaults]\npayload_bytes_max = 1024\n",
    );
    let (mut client, _) = Client::viewer(&server, on.wire, "stage");
    client.is_accepted("stage", "1", &"x".repeat(1024));
    let mut publish = json!({"publish": {"room": "stage", "text": "x".repeat(4096)}}).to_string();
    publish.push(' ');
    client.send_content(&[0x22; 4096], &publish);
    client.ends_with("FRAME_TOO_LARGE", 1009);
    if on.wire == Wire::Tcp {
        // The length alone is enough: nobody waits for bytes that would not be taken.
        let mut client = Client::guest(&server, on.wire);
        use std::io::Write as _;
        client.link().write_all(&[0xff, 0xff, 0xff, 0x7f]).unwrap();
        client.ends_with("FRAME_TOO_LARGE", 1009);
    }
}

pub(crate) fn a_flood_of_frames_is_ended(on: On) {
    let server = Server::start(on.io, "[engine]\nframes_per_s_max = 50\n");
    let mut calm = Client::guest(&server, on.wire);
    let mut flooding = Client::guest(&server, on.wire);
    // 1 hello, then three times what two seconds may hold: some windows of two seconds may begin
    // in the middle of it, none can hold so much.
    for _ in 0..300 {
        flooding.send(client_frame::Body::Ping(v1::Ping {}));
    }
    flooding.ends_with("FLOODING", 1008);
    calm.ping();
}
