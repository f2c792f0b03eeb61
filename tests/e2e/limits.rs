//! What is refused before a session begins: strange first bytes, crowded addresses, full servers.

use crate::client::{Client, dial, read_to_end, tcp_error};
use crate::server::Server;
use crate::{On, Wire};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Instant;
use uproar_proto::v1::server_frame::Body;

/// What a connection is told that opens with these bytes.
fn told(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let mut socket = dial(server.clients);
    socket.write_all(bytes).unwrap();
    read_to_end(&mut socket)
}

pub(crate) fn first_bytes_of_nothing_known_are_refused(on: On) {
    let server = Server::start(on.io, "");
    for bytes in [&b"SSH-2.0-x\r\n"[..], b"\x16\x03\x01\x02\x00", b"UPR2", b"\0", b"get / HTTP/1.1"]
    {
        assert_eq!(tcp_error(told(&server, bytes)), "BAD_HANDSHAKE", "{bytes:?}");
    }
    // Refused at the first wrong byte: nobody waits for more.
    assert_eq!(tcp_error(told(&server, b"UX")), "BAD_HANDSHAKE");
    let rest = [&b"Q"[..], &[0; 100_000]].concat();
    let mut socket = dial(server.clients);
    let _ = socket.write_all(&rest); // the server may have closed within it
    let mut answer = [0; 4];
    socket.read_exact(&mut answer).expect("unread input does not destroy the error frame");
    Client::guest(&server, Wire::Tcp).ping();
}

pub(crate) fn a_request_that_is_never_ended_is_answered_in_http(on: On) {
    let server = Server::start(on.io, "[engine]\nhandshake_ms_max = 1500\n");
    for begun in [&b"GET / HTTP/1.1\r\nHost: x\r\n"[..], b"G"] {
        let answer = told(&server, begun);
        let text = String::from_utf8_lossy(&answer).into_owned();
        assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
        assert!(text.contains("HANDSHAKE_TIMEOUT"), "{text}");
    }
}

/// A connection that speaks for a client of this address, through a proxy.
pub(crate) fn proxied(server: &Server, source: Ipv4Addr) -> TcpStream {
    let mut socket = dial(server.clients);
    socket.write_all(&proxy_header(source)).unwrap();
    socket
}

/// PROXY protocol version 2, IPv4, with a TLV nobody asked for (the specification, section 2.2).
fn proxy_header(source: Ipv4Addr) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11".to_vec();
    header.extend(16u16.to_be_bytes());
    header.extend(source.octets());
    header.extend([127, 0, 0, 1, 0x30, 0x39, 0x1c, 0xe8]);
    header.extend([0x04, 0x00, 0x01, 0x00]); // PP2_TYPE_NOOP
    header
}

pub(crate) fn an_address_holds_so_many_connections(on: On) {
    let server = Server::start_one_shard(on.io, "[engine]\nconnections_per_address_max = 2\n");
    let mut first = Client::guest(&server, Wire::Tcp);
    let second = Client::guest(&server, Wire::Json);
    assert_eq!(tcp_error(told(&server, b"")), "ADDRESS_LIMIT");
    drop(second);
    eventually_guest(&server);
    first.ping();
    server.eventually("the refusal is counted", |s| {
        s.metric("uproar_closes_total", "ADDRESS_LIMIT") >= 1.0
    });
}

pub(crate) fn an_address_makes_so_many_handshakes_a_second(on: On) {
    let server = Server::start_one_shard(on.io, "[engine]\nhandshakes_per_address_per_s = 5\n");
    // Within one second or spread over two: thirty are beyond it, unless they take six seconds.
    let begun = Instant::now();
    let mut refused = 0;
    for _ in 0..30 {
        let mut socket = dial(server.clients);
        let _ = socket.write_all(b"UPR1\x02\x0a\x00"); // it may be refused before
        let mut first = [0; 2];
        socket.read_exact(&mut first).unwrap();
        refused += usize::from(first[1] == 0x3a); // field 7 of the server's frame: error
    }
    let seconds = begun.elapsed().as_secs() as usize + 2;
    assert!(refused >= 30usize.saturating_sub(5 * seconds), "{refused} in {seconds} s");
    server.eventually("refusals are counted", |s| {
        s.metric("uproar_closes_total", "ADDRESS_LIMIT") == refused as f64
    });
    eventually_guest(&server).ping();
}

/// Connects until it works: a connection that was closed is counted until its shard has seen it.
fn eventually_guest(server: &Server) -> Client {
    let end = Instant::now() + crate::DEADLINE;
    loop {
        let mut socket = dial(server.clients);
        socket.write_all(b"UPR1\x02\x0a\x00").unwrap(); // connect {}
        let mut first = [0; 2];
        // Field 1 of the server's frame is welcome; a refusal is field 7.
        if socket.read_exact(&mut first).is_ok() && first[1] == 0x0a {
            let mut rest = vec![0; usize::from(first[0]) - 1];
            socket.read_exact(&mut rest).unwrap();
            return Client::welcomed(socket);
        }
        assert!(Instant::now() < end, "nobody is let in again");
        std::thread::sleep(std::time::Duration::from_millis(10)); // between two attempts
    }
}

pub(crate) fn a_proxy_speaks_for_its_clients(on: On) {
    let config = "[engine]\nconnections_per_address_max = 1\nproxy_from = [\"127.0.0.1\"]\n";
    let server = Server::start_one_shard(on.io, config);
    let (one, two) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
    let mut clients = Vec::new();
    for (source, wire) in [(one, Wire::Tcp), (two, Wire::WebSocket)] {
        let mut client = Client::over(proxied(&server, source), wire, usize::MAX);
        client.hello("");
        clients.push(client);
    }
    let mut third = proxied(&server, one);
    assert_eq!(tcp_error(read_to_end(&mut third)), "ADDRESS_LIMIT");
    // Byte by byte, with what follows it.
    let mut socket = dial(server.clients);
    let bytes = [&proxy_header(Ipv4Addr::new(192, 0, 2, 3))[..], b"UPR1\x02\x0a\x00"].concat();
    for byte in bytes {
        socket.write_all(&[byte]).unwrap();
    }
    let mut first = [0; 2];
    socket.read_exact(&mut first).unwrap();
    assert_eq!(first[1], 0x0a, "welcome");
    // LOCAL: the proxy's own health check names no client.
    let mut local = dial(server.clients);
    local.write_all(b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00UPR1\x02\x0a\x00").unwrap();
    local.read_exact(&mut first).unwrap();
    assert_eq!(first[1], 0x0a, "welcome");
    for client in &mut clients {
        client.ping();
    }
}

pub(crate) fn a_bad_proxy_header_is_refused(on: On) {
    let server = Server::start(on.io, "[engine]\nproxy_from = [\"127.0.0.1\"]\n");
    for bytes in
        [&b"UPR1"[..], b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", b"\r\n\r\n\0\r\nQUIT\n\x31"]
    {
        let mut padded = bytes.to_vec();
        padded.resize(16, 0);
        assert_eq!(tcp_error(told(&server, &padded)), "BAD_PROXY_HEADER", "{bytes:?}");
    }
    let not_trusted = Server::start(on.io, "[engine]\nproxy_from = [\"127.0.0.2\"]\n");
    let header = proxy_header(Ipv4Addr::new(192, 0, 2, 1));
    assert_eq!(tcp_error(told(&not_trusted, &header)), "BAD_HANDSHAKE");
}

pub(crate) fn a_full_server_takes_nobody_until_somebody_goes(on: On) {
    let server = Server::start_one_shard(on.io, "[engine]\nconnections_per_shard_max = 3\n");
    let mut clients: Vec<Client> = (0..3).map(|_| Client::guest(&server, Wire::Tcp)).collect();
    // Refused with an error, or not accepted at all: never welcomed.
    for _ in 0..3 {
        let Ok(mut socket) = TcpStream::connect(server.clients) else { continue };
        socket.set_read_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
        let _ = socket.write_all(b"UPR1\x02\x0a\x00"); // it may be closed already
        let mut answer = Vec::new();
        if socket.read_to_end(&mut answer).is_ok() && !answer.is_empty() {
            assert_eq!(tcp_error(answer), "SERVER_FULL");
        }
    }
    for client in &mut clients {
        client.ping();
    }
    clients.pop();
    let mut late = eventually_guest(&server);
    late.ping();
    clients[0].ping();
}

pub(crate) fn a_node_holds_so_many_rooms(on: On) {
    let server = Server::start(on.io, "[engine.rooms]\nrooms_per_shard_max = 2\n");
    let mut client = Client::guest(&server, Wire::Tcp);
    let mut refused = 0;
    for n in 0..6 {
        let room = format!("room-{n}");
        client.ask_to_join(&room, None);
        refused += client.take("an answer", |body| match body {
            Body::Joined(joined) if joined.room == room => Some(0),
            Body::Error(error) if error.room == room => {
                assert_eq!(error.name, "TOO_MANY_ROOMS");
                Some(1)
            }
            _ => None,
        });
    }
    assert!(refused >= 2, "two shards hold four rooms");
    server.eventually("four rooms at most", |s| s.metric("uproar_rooms", "") <= 4.0);
}
