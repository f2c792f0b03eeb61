//! One connection's stream: short sends are told exactly, and the last frame arrives.

use crate::puppet::{Order, Seen, Stage};
use crate::{on_each_driver, serving};
use bytes::Bytes;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;
use uproar_engine::seam::{Action, Event};

fn connected(stage: &Stage) -> TcpStream {
    let stream =
        TcpStream::connect(stage.running.listen().expect("an address")).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    stream
}

fn frame(number: u32, bytes: usize) -> Bytes {
    (0..bytes).map(|at| (at as u32 ^ (at as u32 >> 8) ^ number.wrapping_mul(97)) as u8).collect()
}

#[test]
fn a_short_send_is_told_exactly() {
    on_each_driver(|io| {
        let stage = Stage::new(serving(io, 1, "127.0.0.1"));
        let mut peer = connected(&stage);
        let conn = stage.accepted();

        // The peer does not read: sooner or later a frame goes out in part or not at all.
        let mut expected = Vec::new();
        let mut rest = None;
        for number in 0..1000 {
            let bytes = frame(number, 300_000);
            expected.extend_from_slice(&bytes);
            stage.order(Order::Send(conn, bytes.clone()));
            let seen = stage.settle();
            if let [Seen::Event(Event::SendShort { conn: of, action, sent_bytes })] = seen[..] {
                assert_eq!((of, action), (conn, 0));
                assert!((sent_bytes as usize) < bytes.len(), "a whole send is not told");
                rest = Some(bytes.slice(sent_bytes as usize..));
                break;
            }
            assert_eq!(seen, [], "a send that was taken whole tells nothing");
        }
        let mut rest = rest.expect("a socket that nobody reads is full in the end");

        // From now on the peer reads; the remainder is sent as the socket takes it.
        let total = expected.len();
        let reading = std::thread::spawn(move || {
            let mut got = vec![0; total];
            peer.read_exact(&mut got).expect("everything arrives");
            (got, peer)
        });
        while !rest.is_empty() {
            stage.act(Action::ArmWritable { conn });
            assert_eq!(stage.event(), Event::Writable { conn });
            stage.order(Order::Send(conn, rest.clone()));
            rest = match stage.settle()[..] {
                [] => Bytes::new(),
                [Seen::Event(Event::SendShort { sent_bytes, .. })] => {
                    rest.slice(sent_bytes as usize..)
                }
                ref other => panic!("{other:?} was not expected"),
            };
        }
        let (got, _peer) = reading.join().expect("no panic");
        assert!(got == expected, "the stream is intact");
        assert!(stage.running.figures(0).short_sends > 0);
        stage.finish();
    });
}

#[test]
fn an_error_frame_arrives_before_the_close() {
    on_each_driver(|io| {
        let stage = Stage::new(serving(io, 1, "127.0.0.1"));
        let mut peer = connected(&stage);
        let conn = stage.accepted();
        // The peer talks all the time; closing with unread input would destroy the frame.
        let mut talker = peer.try_clone().expect("a clone");
        let talking = std::thread::spawn(move || {
            for _ in 0..200 {
                if talker.write_all(&[b'x'; 4000]).is_err() {
                    return false;
                }
            }
            talker.shutdown(Shutdown::Write).is_ok()
        });
        stage.order(Order::SendAnd(
            conn,
            Bytes::from_static(b"FRAME_TOO_LARGE"),
            Action::ShutdownWrite { conn },
        ));
        let mut text = String::new();
        peer.read_to_string(&mut text).expect("frame and end, no reset");
        assert_eq!(text, "FRAME_TOO_LARGE");
        assert!(talking.join().expect("no panic"), "input is discarded, not refused");
        let mut discarded = 0;
        loop {
            match stage.next() {
                Seen::Bytes(_, bytes) => discarded += bytes.len(),
                Seen::Event(Event::Eof { errno, .. }) => break assert_eq!(errno, 0),
                other => panic!("{other:?} was not expected"),
            }
        }
        assert_eq!(discarded, 800_000);
        stage.act(Action::Close { conn });
        assert_eq!(stage.event(), Event::Closed { conn });
        stage.finish();
    });
}

#[test]
fn a_close_ends_an_open_connection_and_is_its_last_word() {
    on_each_driver(|io| {
        let stage = Stage::new(serving(io, 1, "127.0.0.1"));
        let baseline = stage.descriptors();
        let mut peer = connected(&stage);
        let conn = stage.accepted();
        // Full, so it is watched for reading and writing while it is closed.
        loop {
            stage.order(Order::SendAnd(conn, frame(1, 64 << 20), Action::ArmWritable { conn }));
            assert!(matches!(stage.event(), Event::SendShort { .. }), "64 MiB fit no socket");
            if stage.quiet_for(200) {
                break;
            }
        }
        stage.act(Action::Close { conn });
        assert_eq!(stage.event(), Event::Closed { conn });
        assert!(stage.quiet_for(50), "nothing follows Closed");
        assert_eq!(stage.descriptors(), baseline);
        let mut got = Vec::new();
        let _ = peer.read_to_end(&mut got); // ends; a reset is fine
        stage.finish();
    });
}

#[test]
fn nothing_but_closed_follows_a_close() {
    on_each_driver(|io| {
        let stage = Stage::new(serving(io, 1, "127.0.0.1"));
        // A short send of the same turn.
        let _first = connected(&stage);
        let conn = stage.accepted();
        stage.order(Order::SendAnd(conn, frame(1, 64 << 20), Action::Close { conn }));
        assert_eq!(stage.event(), Event::Closed { conn });
        // Bytes and an end that came during the turn.
        let mut second = connected(&stage);
        let conn = stage.accepted();
        stage.order(Order::After(Duration::from_millis(1_000), Action::Close { conn }));
        assert_eq!(stage.next(), Seen::Busy);
        second.write_all(&[1; 5000]).expect("written");
        second.shutdown(Shutdown::Write).expect("half closed");
        assert_eq!(stage.event(), Event::Closed { conn });
        assert_eq!(stage.settle(), []);
        stage.finish();
    });
}

#[test]
fn a_send_to_a_peer_that_reset_is_short_and_the_end_is_told_once() {
    on_each_driver(|io| {
        let stage = Stage::new(serving(io, 1, "127.0.0.1"));
        let mut peer = connected(&stage);
        let conn = stage.accepted();
        stage.order(Order::Send(conn, Bytes::from_static(b"unread")));
        peer.read_exact(&mut [0]).expect("the frame arrived");
        drop(peer); // with unread input: a reset
        assert!(matches!(stage.event(), Event::Eof { .. }));
        stage.order(Order::Send(conn, Bytes::from_static(b"into the void")));
        assert_eq!(stage.event(), Event::SendShort { conn, action: 0, sent_bytes: 0 });
        assert!(stage.quiet_for(50), "Eof is told once");
        stage.act(Action::Close { conn });
        assert_eq!(stage.event(), Event::Closed { conn });
        stage.finish();
    });
}

#[test]
fn a_half_closed_peer_still_gets_its_bytes() {
    on_each_driver(|io| {
        let stage = Stage::new(serving(io, 1, "127.0.0.1"));
        let mut peer = connected(&stage);
        let conn = stage.accepted();
        peer.write_all(b"last words").expect("written");
        peer.shutdown(Shutdown::Write).expect("half closed");
        assert_eq!(stage.next(), Seen::Bytes(conn, b"last words".to_vec()));
        assert_eq!(stage.event(), Event::Eof { conn, errno: 0 });
        let turns = stage.running.figures(0).turns;
        std::thread::sleep(Duration::from_millis(50));
        assert!(
            stage.running.figures(0).turns <= turns + 1,
            "a half-closed peer keeps nobody busy"
        );
        stage.order(Order::SendAnd(conn, Bytes::from_static(b"answer"), Action::Close { conn }));
        let mut answer = String::new();
        peer.read_to_string(&mut answer).expect("read to the end");
        assert_eq!((answer.as_str(), stage.event()), ("answer", Event::Closed { conn }));
        stage.finish();
    });
}
