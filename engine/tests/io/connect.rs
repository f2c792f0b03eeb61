//! Opening connections, as the load tester does.

use crate::accept::refuses_soon;
use crate::puppet::{Seen, Stage};
use crate::{launch_of, on_each_driver};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use uproar_engine::config::IoChoice;
use uproar_engine::io::Launch;
use uproar_engine::seam::{Action, ConnSlot, Event};

fn dialling(io: IoChoice, target: SocketAddr) -> Stage {
    Stage::new(Launch { targets: vec![target], receive_buffer_bytes: 8192, ..launch_of(io, 1) })
}

fn connect(conn: u32, source: u32, manual_read: bool) -> Action {
    Action::Connect { conn: ConnSlot(conn), source, target: 0, manual_read }
}

#[test]
fn a_connection_comes_from_the_address_it_was_given() {
    on_each_driver(|io| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let stage = dialling(io, listener.local_addr().expect("an address"));
        let source = Ipv4Addr::new(127, 0, 7, 9);
        stage.act(connect(1500, source.to_bits(), false));
        let (mut peer, from) = listener.accept().expect("accepted");
        assert_eq!(from.ip(), source);
        let conn = ConnSlot(1500);
        assert_eq!(stage.event(), Event::Connected { conn, errno: 0 });
        peer.write_all(b"hello").expect("written");
        assert_eq!(stage.next(), Seen::Bytes(conn, b"hello".to_vec()));
        drop(peer);
        assert_eq!(stage.event(), Event::Eof { conn, errno: 0 });
        stage.act(Action::Close { conn });
        assert_eq!(stage.event(), Event::Closed { conn });
        // The slot is the machine's: it may be used again once Closed was seen.
        stage.act(connect(1500, 0, false));
        assert_eq!(stage.event(), Event::Connected { conn, errno: 0 });
        stage.finish();
    });
}

#[test]
fn a_closed_port_gives_its_errno_and_the_slot_back() {
    on_each_driver(|io| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        refuses_soon(address);
        let stage = dialling(io, address);
        let baseline = stage.descriptors();
        let conn = ConnSlot(3);
        for _ in 0..3 {
            stage.act(connect(3, 0, false));
            assert_eq!(stage.event(), Event::Connected { conn, errno: libc::ECONNREFUSED });
            assert_eq!(stage.event(), Event::Closed { conn });
        }
        // An address that is not ours fails before there is a connection.
        stage.act(connect(3, Ipv4Addr::new(203, 0, 113, 5).to_bits(), false));
        assert_eq!(stage.event(), Event::Connected { conn, errno: libc::EADDRNOTAVAIL });
        assert_eq!(stage.event(), Event::Closed { conn });
        assert_eq!(stage.descriptors(), baseline);
        stage.finish();
    });
}

#[test]
fn a_manual_connection_reads_only_when_told() {
    on_each_driver(|io| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let stage = dialling(io, listener.local_addr().expect("an address"));
        stage.act(connect(0, 0, true));
        let (mut peer, _) = listener.accept().expect("accepted");
        let conn = ConnSlot(0);
        assert_eq!(stage.event(), Event::Connected { conn, errno: 0 });
        let sent: Vec<u8> = (0..50_000_u32).map(|at| ((at * 7) >> 3) as u8).collect();
        let copy = sent.clone();
        let writing = std::thread::spawn(move || {
            peer.write_all(&copy).expect("written");
            drop(peer);
        });
        assert!(stage.quiet_for(100), "nothing is read unasked");
        let mut got = Vec::new();
        loop {
            stage.act(Action::Read { conn });
            match stage.next() {
                Seen::Bytes(_, bytes) => got.extend(bytes),
                Seen::Event(Event::Eof { errno: 0, .. }) => break,
                other => panic!("{other:?} was not expected"),
            }
            if got.len() < 10_000 {
                assert!(stage.quiet_for(10), "one read brings one piece");
            }
        }
        assert!(got == sent, "the stream is intact");
        writing.join().expect("no panic");
        stage.act(Action::Close { conn });
        assert_eq!(stage.event(), Event::Closed { conn });
        stage.finish();
    });
}

#[test]
fn a_manual_connection_can_be_closed_while_it_reads_and_while_it_does_not() {
    on_each_driver(|io| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let stage = dialling(io, listener.local_addr().expect("an address"));
        let baseline = stage.descriptors();
        for (conn, reads) in [(ConnSlot(0), false), (ConnSlot(1), true)] {
            stage.act(connect(conn.0, 0, true));
            let (mut peer, _) = listener.accept().expect("accepted");
            assert_eq!(stage.event(), Event::Connected { conn, errno: 0 });
            if reads {
                stage.act(Action::Read { conn });
            }
            stage.act(Action::Close { conn });
            assert_eq!(stage.event(), Event::Closed { conn });
            assert_eq!(peer.read(&mut [0; 1]).expect("an end"), 0);
        }
        assert_eq!(stage.descriptors(), baseline);
        stage.finish();
    });
}

#[test]
fn a_connect_under_way_can_be_closed() {
    on_each_driver(|io| {
        // A listener with a full backlog drops handshakes, so connects stay under way.
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)
            .expect("a socket");
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("bound");
        listener.listen(1).expect("listening");
        let target = listener.local_addr().expect("an address").as_socket().expect("an address");
        let stage = dialling(io, target);
        let baseline = stage.descriptors();
        let mut connected = Vec::new();
        for slot in 0..8 {
            stage.act(connect(slot, 0, false));
        }
        while !stage.quiet_for(200) {
            connected.push(());
        }
        assert!(connected.len() < 8, "some connects are under way");
        for slot in 0..8 {
            stage.act(Action::Close { conn: ConnSlot(slot) });
        }
        let mut closed: Vec<_> = (0..8).map(|_| stage.event()).collect();
        closed.sort_by_key(|event| format!("{event:?}"));
        let expected: Vec<_> = (0..8).map(|slot| Event::Closed { conn: ConnSlot(slot) }).collect();
        assert_eq!(closed, expected);
        assert_eq!(stage.descriptors(), baseline);
        stage.finish();
    });
}
