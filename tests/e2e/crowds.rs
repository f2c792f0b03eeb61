//! Many viewers: everybody gets everything in order, and who cannot keep up is told.

use crate::client::Client;
use crate::server::Server;
use crate::{On, Wire};
use serde_json::{Value, json};
use std::net::TcpStream;
use uproar_proto::v1::{GapReason, message, server_frame::Body};

/// A room that admits what these tests offer.
fn open_room(server: &Server, payload_bytes_max: u32) {
    server.post(
        "/v1/rooms",
        &json!({
            "room": "stage", "rate_per_s": 10_000, "user_rate_per_s": 1_000,
            "payload_bytes_max": payload_bytes_max,
        }),
    );
}

/// Publishes this many texts in one request, all accepted; the last seq.
fn say_many(server: &Server, from: usize, count: usize, text: &str) -> u64 {
    let messages: Vec<Value> = (from..from + count)
        .map(|n| {
            let user = format!("host-{}", n % 100); // each within a user's rate
            json!({"room": "stage", "user": user, "class": "gift", "text": format!("{n} {text}")})
        })
        .collect();
    let results = server.post("/v1/publish", &json!({"messages": messages}));
    let results = results["results"].as_array().unwrap();
    assert_eq!(results.len(), count);
    for result in results {
        assert_eq!(result["outcome"], "ACCEPTED", "{result}");
    }
    results[count - 1]["seq"].as_u64().unwrap()
}

pub(crate) fn everyone_gets_everything_in_order(on: On) {
    let server = Server::start(on.io, "");
    open_room(&server, 4096);
    let wires = [on.wire, Wire::Tcp, on.wire, Wire::Json, on.wire, Wire::WebSocket];
    let mut viewers: Vec<Client> =
        (0..36).map(|n| Client::viewer(&server, wires[n % wires.len()], "stage").0).collect();
    for round in 0..10 {
        say_many(&server, round * 20, 20, "to everybody");
    }
    for viewer in &mut viewers {
        let heard = viewer.messages("stage", 200);
        for (n, message) in heard.iter().enumerate() {
            let text = format!("{n} to everybody");
            assert_eq!(message.content, Some(message::Content::Text(text)));
            assert_eq!(message.seq, n as u64 + 1);
        }
        viewer.ping();
        assert!(!viewer.has_unread(|body| matches!(body, Body::Batch(_))), "and nothing twice");
    }
}

pub(crate) fn a_slow_viewer_gets_a_gap_and_delays_nobody(on: On) {
    // Small buffers and a short history: the slow one is overtaken after a few megabytes.
    let config = "[engine]\nsend_buffer_bytes = 16384\n\
        [engine.rooms]\nwindow = 0\nhistory_messages_max = 50\n";
    let server = Server::start_one_shard(on.io, config);
    open_room(&server, 16_384);
    let mut slow = Client::over(narrow_socket(&server), on.wire, usize::MAX);
    slow.hello("");
    slow.join("stage");
    let (mut fast, _) = Client::viewer(&server, on.wire, "stage");
    let text = "x".repeat(8_000);
    let (rounds, a_round) = (30, 20);
    let mut last = 0;
    for round in 0..rounds {
        last = say_many(&server, round * a_round, a_round, &text);
        // The healthy one has each round before the next begins.
        let heard = fast.messages("stage", a_round);
        assert_eq!(heard[a_round - 1].seq, last);
    }
    // The slow one wakes up: an unbroken account of every seq, part of it as gaps.
    let mut expected = 1;
    let mut gaps = 0;
    while expected <= last {
        match slow.next() {
            Body::Batch(batch) => {
                for message in batch.messages {
                    assert_eq!(message.seq, expected, "a jump of seq without a gap");
                    expected += 1;
                }
            }
            Body::Gap(gap) => {
                assert_eq!((gap.from_seq, gap.reason()), (expected, GapReason::Slow));
                expected = gap.to_seq + 1;
                gaps += 1;
            }
            // Who was overtaken is told anew what the room shows beside its messages.
            Body::Attributes(_) | Body::Pinned(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(gaps >= 1, "so many megabytes do not fit its buffers");
    // It is a viewer like any other again.
    let next = server.says("stage", "good morning");
    assert_eq!(slow.messages("stage", 1)[0].seq, next);
    assert!(server.metric("uproar_gaps_total", "") >= 1.0);
}

pub(crate) fn who_does_not_read_its_replies_is_closed(on: On) {
    let config = "[engine]\nreply_bytes_max = 16384\nsend_buffer_bytes = 16384\n\
        frames_per_s_max = 30000\n";
    let server = Server::start_one_shard(on.io, config);
    let notice = "x".repeat(15_000);
    server.post("/v1/rooms", &json!({"room": "stage", "attributes": {"notice": notice}}));
    let (mut reads, _) = Client::viewer(&server, on.wire, "stage");
    let mut does_not = Client::over(narrow_socket(&server), on.wire, usize::MAX);
    does_not.hello("");
    server.eventually("it is closed", |server| {
        // Each join is answered with the notice; none of it is read.
        for _ in 0..20 {
            let _ = does_not.try_to_join_and_leave("stage"); // it may be closed by now
        }
        server.metric("uproar_closes_total", "TOO_SLOW") == 1.0
    });
    let seq = reads.is_accepted("stage", "1", "I do read");
    assert_eq!(reads.messages("stage", 1)[0].seq, seq);
}

/// A socket whose receive buffer is fixed: what is not read stays at the server.
pub(crate) fn narrow_socket(server: &Server) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(8_192).unwrap();
    socket.connect(&server.clients.into()).unwrap();
    socket.into()
}
