//! RFC 6455 from the other side: upgrades, fragments, control frames, and every rule broken once.

use crate::client::{Client, Heard, dial, read_to_end};
use crate::server::Server;
use crate::{On, Wire};
use std::io::Write as _;
use uproar_proto::v1::server_frame::Body;

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const FIN: u8 = 0x80;

/// One frame as a client sends it: first byte, masked payload.
pub(crate) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = header(first, 0x80, payload.len());
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

fn header(first: u8, mask_bit: u8, length: usize) -> Vec<u8> {
    let mut header = vec![first];
    match length {
        0..=125 => header.push(mask_bit | length as u8),
        126..=0xffff => {
            header.push(mask_bit | 126);
            header.extend((length as u16).to_be_bytes());
        }
        _ => {
            header.push(mask_bit | 127);
            header.extend((length as u64).to_be_bytes());
        }
    }
    header
}

/// The opcode of this wire's messages, and a connect and a ping in its form.
pub(crate) fn forms(wire: Wire) -> (u8, &'static [u8], &'static [u8]) {
    match wire {
        Wire::Json => (TEXT, br#"{"connect":{"device":"h\u00e9"}}"#, br#"{"ping":{}}"#),
        _ => (BINARY, &[0x0a, 0x03, 0x12, 0x01, b'd'], &[0x2a, 0x00]),
    }
}

fn send_raw(client: &mut Client, bytes: &[u8]) {
    client.link().write_all(bytes).unwrap();
}

pub(crate) fn a_message_may_come_in_fragments_with_a_ping_between(on: On) {
    let server = Server::start(on.io, "");
    let mut client = Client::open(&server, on.wire);
    let (opcode, connect, ping) = forms(on.wire);
    send_raw(&mut client, &masked(opcode, &connect[..2]));
    send_raw(&mut client, &masked(0, b""));
    send_raw(&mut client, &masked(FIN | PING, b"still there?"));
    send_raw(&mut client, &masked(FIN, &connect[2..]));
    assert!(matches!(client.hear("a pong"), Heard::Pong(bytes) if bytes == b"still there?"));
    assert!(matches!(client.next(), Body::Welcome(_)));
    // One byte a fragment.
    for (n, byte) in ping.iter().enumerate() {
        let first = if n == 0 { opcode } else { 0 };
        let fin = if n + 1 == ping.len() { FIN } else { 0 };
        send_raw(&mut client, &masked(fin | first, &[*byte]));
    }
    assert!(matches!(client.next(), Body::Pong(_)));
    send_raw(&mut client, &masked(FIN | PING, &[7; 125]));
    assert!(matches!(client.hear("a pong"), Heard::Pong(bytes) if bytes == [7; 125]));
    // A pong nobody asked for is a sign of life, no more.
    send_raw(&mut client, &masked(FIN | 10, b"unasked"));
    client.ping();
}

pub(crate) fn a_close_is_answered_with_its_code(on: On) {
    let server = Server::start(on.io, "");
    let reason = |code: u16, text: &str| [&code.to_be_bytes()[..], text.as_bytes()].concat();
    for (payload, code) in [
        (reason(1000, ""), 1000),
        (reason(3001, "bye \u{1f44b}"), 3001),
        (reason(4999, ""), 4999),
        (Vec::new(), 1000),
    ] {
        let mut client = Client::guest(&server, on.wire);
        send_raw(&mut client, &masked(FIN | CLOSE, &payload));
        // What follows a close is not read.
        send_raw(&mut client, &masked(FIN | 3, b"reserved"));
        let ended = client.ended();
        assert_eq!((ended.error, ended.close), (None, Some(code)));
    }
    // As a browser does it: tungstenite's own handshake.
    let mut client = Client::guest(&server, on.wire);
    let frame =
        tungstenite::protocol::CloseFrame { code: 1001.into(), reason: "tab closed".into() };
    client.websocket().close(Some(frame)).unwrap();
    assert_eq!(client.ended().close, Some(1001));
}

pub(crate) fn text_that_is_not_utf8_is_refused(on: On) {
    let server = Server::start(on.io, "");
    let mut client = Client::guest(&server, on.wire);
    if on.wire == Wire::Json {
        // A character may be split between fragments; half of one may not be left over.
        let text = "{\"ping\":{},\"later\":\"\u{1f389}\"}".as_bytes();
        let middle = text.len() - 4;
        send_raw(&mut client, &masked(TEXT, &text[..middle]));
        send_raw(&mut client, &masked(FIN, &text[middle..]));
        assert!(matches!(client.next(), Body::Pong(_)));
        for bad in [&b"{\"ping\":{},\"x\":\"\xff\"}"[..], b"{\"ping\":{},\"x\":\"\xed\xa0\x80\"}"] {
            let mut client = Client::guest(&server, on.wire);
            send_raw(&mut client, &masked(FIN | TEXT, bad));
            client.ends_with("BAD_UTF8", 1007);
        }
    }
    send_raw(&mut client, &masked(FIN | CLOSE, b"\x03\xe8\xc3\x28"));
    client.ends_with("BAD_UTF8", 1007);
}

pub(crate) fn what_breaks_the_rules_of_frames_is_refused(on: On) {
    let server = Server::start(on.io, "");
    let (opcode, _, ping) = forms(on.wire);
    let unmasked = [&header(FIN | opcode, 0, ping.len())[..], ping].concat();
    let two_messages = [masked(opcode, b"{"), masked(FIN | opcode, ping)].concat();
    let long_form = [&[FIN | opcode, 0x80 | 126, 0, 2, 0, 0, 0, 0][..], &ping[..2]].concat();
    let rules: [(&str, Vec<u8>); 12] = [
        ("a client masks", unmasked),
        ("RSV1 was not negotiated", masked(FIN | 0x40 | opcode, ping)),
        ("RSV2 is reserved", masked(FIN | 0x20 | opcode, ping)),
        ("RSV3 is reserved", masked(FIN | 0x10 | opcode, ping)),
        ("opcode 3 is reserved", masked(FIN | 3, ping)),
        ("opcode 11 is reserved", masked(FIN | 11, b"")),
        ("nothing to continue", masked(FIN, ping)),
        ("fragments of two messages", two_messages),
        ("a control frame is whole", masked(PING, b"half")),
        ("a control frame is short", masked(FIN | PING, &[0; 126])),
        ("a length in its shortest form", long_form),
        ("a close code of one byte", masked(FIN | CLOSE, &[3])),
    ];
    for (rule, bytes) in rules {
        let mut client = Client::guest(&server, on.wire);
        send_raw(&mut client, &bytes);
        let ended = client.ended();
        assert_eq!(ended.error.as_deref(), Some("BAD_FRAME"), "{rule}");
        assert_eq!(ended.close, Some(1002), "{rule}");
    }
    for code in [0u16, 999, 1004, 1005, 1006, 1015, 2999, 5000] {
        let mut client = Client::guest(&server, on.wire);
        send_raw(&mut client, &masked(FIN | CLOSE, &code.to_be_bytes()));
        client.ends_with("BAD_FRAME", 1002);
    }
    Client::guest(&server, on.wire).ping();
}

pub(crate) fn all_fragments_together_have_one_bound(on: On) {
    let server = Server::start(
        on.io,
        "[engine]\nframe_bytes_max = 4096\npayload_bytes_max = 1024\n\
        [engine.rooms.defaults]\npayload_bytes_max = 1024\n",
    );
    let mut client = Client::guest(&server, on.wire);
    let (opcode, ..) = forms(on.wire);
    send_raw(&mut client, &masked(opcode, &[b' '; 2000]));
    send_raw(&mut client, &masked(0, &[b' '; 2000]));
    send_raw(&mut client, &masked(0, &[b' '; 97]));
    client.ends_with("FRAME_TOO_LARGE", 1009);
    // A length of 2^62 is refused as soon as it is read.
    let mut client = Client::guest(&server, on.wire);
    send_raw(&mut client, &[FIN | opcode, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]);
    client.ends_with("FRAME_TOO_LARGE", 1009);
}

pub(crate) fn the_other_kind_of_message_is_refused(on: On) {
    let server = Server::start(on.io, "");
    let mut client = Client::guest(&server, on.wire);
    let (opcode, _, ping) = forms(on.wire);
    let other = if opcode == TEXT { BINARY } else { TEXT };
    send_raw(&mut client, &masked(FIN | other, ping));
    client.ends_with("BAD_FRAME", 1002);
}

/// An upgrade request with these lines between the usual ones, and the answer's head and body.
pub(crate) fn upgrade(server: &Server, lines: &str) -> (std::net::TcpStream, String) {
    let mut socket = dial(server.clients);
    let request = format!(
        "GET /anything?x=1 HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
         Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Version: 13\r\n{lines}\r\n"
    );
    socket.write_all(request.as_bytes()).unwrap();
    let head = read_head(&mut socket);
    (socket, head)
}

/// Reads to the empty line and not a byte further.
fn read_head(socket: &mut std::net::TcpStream) -> String {
    use std::io::Read as _;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

pub(crate) fn the_first_known_subprotocol_is_agreed(on: On) {
    let server = Server::start(on.io, "");
    let answer = |lines: &str| upgrade(&server, lines).1.to_lowercase();
    let plain = answer("");
    assert!(plain.starts_with("http/1.1 101 "), "{plain}");
    // The example of RFC 6455, section 1.3.
    assert!(plain.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{plain}");
    assert!(!plain.contains("sec-websocket-protocol"), "not asked for, not answered: {plain}");
    for (asked, agreed) in [
        ("chat, uproar.v1.proto, uproar.v1.json", "uproar.v1.proto"),
        ("uproar.v1.json,uproar.v1.proto", "uproar.v1.json"),
        ("uproar.v9.proto\r\nSec-WebSocket-Protocol: uproar.v1.proto", "uproar.v1.proto"),
    ] {
        let head = answer(&format!("Sec-WebSocket-Protocol: {asked}\r\n"));
        assert!(head.contains(&format!("sec-websocket-protocol: {agreed}\r\n")), "{head}");
    }
    let (mut socket, head) = upgrade(&server, "Sec-WebSocket-Protocol: chat\r\n");
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    let body: serde_json::Value = serde_json::from_slice(&read_to_end(&mut socket)).unwrap();
    assert_eq!(body["error"]["name"], "BAD_HANDSHAKE");
    assert!(body["error"]["text"].as_str().unwrap().contains("uproar.v1.json"), "{body}");
    // Without a subprotocol the connection speaks JSON.
    let (mut socket, _) = upgrade(&server, "");
    socket.write_all(&masked(FIN | TEXT, br#"{"connect":{}}"#)).unwrap();
    let mut first = [0; 13];
    std::io::Read::read_exact(&mut socket, &mut first[..2]).unwrap();
    assert_eq!(first[0], FIN | TEXT);
    let skipped = if first[1] == 126 { 2 } else { 0 };
    std::io::Read::read_exact(&mut socket, &mut first[..skipped]).unwrap();
    std::io::Read::read_exact(&mut socket, &mut first).unwrap();
    assert_eq!(&first[..12], br#"{"welcome":{"#);
}

pub(crate) fn requests_that_are_no_upgrade_are_answered_in_http(on: On) {
    let server = Server::start(on.io, "");
    let told = |request: &str| {
        let mut socket = dial(server.clients);
        socket.write_all(request.as_bytes()).unwrap();
        let answer = String::from_utf8(read_to_end(&mut socket)).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let body: serde_json::Value = serde_json::from_str(body).expect("the error frame in JSON");
        let status = head.split(' ').nth(1).unwrap().to_owned();
        (status, body["error"]["name"].as_str().unwrap().to_owned())
    };
    let bad = |status: &str| (status.to_owned(), "BAD_HANDSHAKE".to_owned());
    assert_eq!(told("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), bad("426"));
    assert_eq!(told("GET / HTTP/1.0\r\nHost: x\r\n\r\n"), bad("505"));
    assert_eq!(told("POST / HTTP/1.1\r\nHost: x\r\n\r\n"), bad("405"));
    assert_eq!(told("GET / HTTP/1.1\r\nno colon\r\n\r\n"), bad("400"));
    let lines = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n";
    let key = "Sec-WebSocket-Key: c2hvcnQ=\r\n";
    assert_eq!(told(&format!("GET / HTTP/1.1\r\nHost: x\r\n{lines}{key}\r\n")), bad("400"));
    assert_eq!(told(&format!("GET / HTTP/1.1\r\n{lines}\r\n")), bad("400"), "no Host");
    let long = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(9_000));
    assert_eq!(told(&long), ("431".to_owned(), "FRAME_TOO_LARGE".to_owned()));
    Client::guest(&server, Wire::Json).ping();
}

pub(crate) fn pages_of_other_origins_are_refused(on: On) {
    let server = Server::start(on.io, "[engine]\norigins = [\"https://live.example\"]\n");
    for origin in ["https://evil.example", "http://live.example", "null"] {
        let (mut socket, head) = upgrade(&server, &format!("Origin: {origin}\r\n"));
        assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
        let body: serde_json::Value = serde_json::from_slice(&read_to_end(&mut socket)).unwrap();
        assert_eq!(body["error"]["name"], "ORIGIN_REFUSED");
    }
    let (_socket, head) = upgrade(&server, "Origin: https://live.example\r\n");
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    // Clients that are no browser name no origin.
    for wire in [Wire::Tcp, Wire::WebSocket, Wire::Json] {
        Client::guest(&server, wire).ping();
    }
}
