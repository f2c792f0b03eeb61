//! Frames about conversations whose fields have the wrong type, or texts that are no text: the
//! connection ends with the documented code, and nothing was stored or pushed.

use crate::chat::{device, relate, text};
use crate::client::varint;
use crate::server::Server;
use crate::tokens::config;
use crate::{On, Wire};
use serde_json::json;

/// A field of protobuf with a length.
fn field(number: usize, content: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(content.len()), content.to_vec()].concat()
}

/// A field of protobuf that is a number.
fn number(number: usize, value: usize) -> Vec<u8> {
    [varint(number << 3), varint(value)].concat()
}

/// Frames in protobuf and in JSON, each with one thing that is wrong.
fn wrong() -> Vec<(Vec<u8>, String)> {
    let id = [7; 16];
    let send = |rest: Vec<u8>| field(6, &[field(1, b"user:bob"), field(2, &id), rest].concat());
    let json_send = |rest: &str| {
        let id = "BwcHBwcHBwcHBwcHBwcHBw==";
        format!(r#"{{"send":{{"conversation":"user:bob","client_msg_id":"{id}",{rest}}}}}"#)
    };
    let frame = |kind: usize, body: Vec<u8>, json: &str| (field(kind, &body), json.to_owned());
    let mut all = vec![
        // A number for a text, a text for a number, and what JSON has beside those.
        frame(6, number(1, 7), r#"{"send":{"conversation":7}}"#),
        (send(number(4, 7)), json_send(r#""text":7"#)),
        (send(number(5, 7)), json_send(r#""data":[1,2]"#)),
        (send(field(7, b"1")), json_send(r#""text":"x","target_seq":"1""#)),
        (send(field(3, b"edit")), json_send(r#""text":"x","kind":{}"#)),
        (send(number(6, 1)), json_send(r#""file":"https://a""#)),
        (send(field(6, &number(1, 1))), json_send(r#""file":{"url":1}"#)),
        (send(field(6, &field(2, b"1"))), json_send(r#""file":{"url":"https://a","bytes":-1}"#)),
        (send(vec![0x0f]), json_send(r#""text":null"#)),
        frame(7, field(2, b"5"), r#"{"sync":{"limit":"5"}}"#),
        frame(7, number(1, 5), r#"{"sync":{"cursor":5}}"#),
        frame(8, number(2, 5), r#"{"pull":{"id":1,"ranges":{"conversation":"user:bob"}}}"#),
        frame(8, field(2, &field(2, b"1")), r#"{"pull":{"ranges":[{"from_seq":"1"}]}}"#),
        frame(8, field(2, &number(1, 1)), r#"{"pull":{"ranges":[["user:bob",1,2]]}}"#),
        frame(9, number(1, 1), r#"{"mark":{"marks":null}}"#),
        frame(9, field(1, &field(2, b"1")), r#"{"mark":{"marks":[{"read_seq":-1}]}}"#),
        frame(9, field(1, &field(3, b"1")), r#"{"mark":{"marks":[{"delivered_seq":1.5}]}}"#),
        frame(10, number(2, 1), r#"{"signal":{"name":true}}"#),
        frame(12, number(1, 1), r#"{"watch":{"users":["bob",7]}}"#),
        frame(13, field(2, b"1"), r#"{"react":{"seq":"1"}}"#),
        frame(13, number(3, 1), r#"{"react":{"reaction":1}}"#),
        frame(13, field(4, b"1"), r#"{"react":{"remove":"yes"}}"#),
        (number(13, 1), r#"{"react":[]}"#.to_owned()),
        (number(6, 1), r#"{"send":{"text":"a"},"sync":{}}"#.to_owned()),
    ];
    // What is no UTF-8, and in JSON half a surrogate pair.
    let broken =
        [&b"\xff\xfe"[..], b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"a\xe2\x82"];
    let halves = ["\\ud800", "\\udc00x", "\\ud800\\ud800", "\\u12", "\\x41"];
    for (bytes, half) in broken.into_iter().zip(halves) {
        all.push((send(field(4, bytes)), json_send(&format!(r#""text":"{half}""#))));
        let json = format!(r#"{{"send":{{"conversation":"user:{half}"}}}}"#);
        all.push((field(6, &field(1, &[b"user:", bytes].concat())), json));
        let json = format!(r#"{{"react":{{"conversation":"user:bob","reaction":"{half}"}}}}"#);
        all.push((field(13, &[field(1, b"user:bob"), field(3, bytes)].concat()), json));
    }
    all
}

pub(crate) fn what_is_no_frame_ends_the_connection_and_stores_nothing(on: On) {
    let server = Server::start(on.io, &config());
    relate(&server, json!({"user": "alice", "peer": "bob", "friends": true}));
    let mut bob = device(&server, on.wire, "bob");
    bob.syncs("");
    for (protobuf, json_text) in wrong() {
        let mut alice = device(&server, on.wire, "alice");
        alice.send_content(&protobuf, &json_text);
        let ended = alice.ended();
        let shown = if on.wire == Wire::Json { json_text } else { format!("{protobuf:02x?}") };
        assert_eq!(ended.error.as_deref(), Some("BAD_FRAME"), "{shown}");
    }
    let mut alice = device(&server, on.wire, "alice");
    assert_eq!(alice.is_stored(text("bob", 1, "good")), 1, "the first that is stored");
    assert_eq!(bob.pushed().1.text, "good", "and the first that is pushed");
}
