//! Golden bytes: `vectors/*.txt`, for this codec and for anybody else's.

mod common;

use common::{BYTES_MAX, Sent, at_every_split, received, sent};
use prost::Message as _;
use uproar_proto::v1::{self, client_frame, server_frame};
use uproar_proto::wire::{
    Incoming, Variant, decode_client, decode_server, encode_client, encode_server,
};

fn bytes(hex: &str) -> Vec<u8> {
    hex.split_whitespace().map(|b| u8::from_str_radix(b, 16).expect("two digits a byte")).collect()
}

/// The pairs of lines `json ...` and `hex ...`, comments left out.
fn frames(file: &str) -> Vec<(&str, Vec<u8>)> {
    let lines: Vec<&str> = file.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).collect();
    lines
        .chunks(2)
        .map(|l| {
            let json = l[0].strip_prefix("json ").expect("a line of JSON");
            (json, bytes(l[1].strip_prefix("hex ").expect("a line of hex")))
        })
        .collect()
}

/// The payload of a JSON frame as this codec writes it.
fn json_of(whole: &[u8], masked: bool) -> String {
    let length = match whole[1] & 0x7f {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    let header = length + if masked { 4 } else { 0 };
    String::from_utf8(whole[header..].to_vec()).unwrap()
}

fn client_body(json: &str) -> client_frame::Body {
    let body = decode_client(Variant::WsJson, json.as_bytes(), false, BYTES_MAX);
    body.unwrap_or_else(|e| panic!("{e:?}: {json}")).unwrap_or_else(|| panic!("unknown: {json}"))
}

fn server_body(json: &str) -> server_frame::Body {
    let body = decode_server(Variant::WsJson, json.as_bytes(), false, BYTES_MAX);
    body.unwrap_or_else(|e| panic!("{e:?}: {json}")).unwrap_or_else(|| panic!("unknown: {json}"))
}

#[test]
fn client_frames_are_these_bytes_and_this_json() {
    let vectors = frames(include_str!("vectors/client.txt"));
    assert!(vectors.len() >= 12);
    for (json, hex) in vectors {
        let body = client_body(json);
        let decoded = decode_client(Variant::WsProto, &hex, false, BYTES_MAX);
        assert_eq!(decoded, Ok(Some(body.clone())), "{json}");
        let frame = v1::ClientFrame { body: Some(body.clone()) };
        assert_eq!(frame.encode_to_vec(), hex, "{json}");
        let mut whole = Vec::new();
        encode_client(&body, Variant::WsJson, [0; 4], &mut whole);
        assert_eq!(json_of(&whole, true), json);
    }
}

#[test]
fn server_frames_are_these_bytes_and_this_json() {
    let vectors = frames(include_str!("vectors/server.txt"));
    assert!(vectors.len() >= 16);
    for (json, hex) in vectors {
        let body = server_body(json);
        let decoded = decode_server(Variant::WsProto, &hex, false, BYTES_MAX);
        assert_eq!(decoded, Ok(Some(body.clone())), "{json}");
        let frame = v1::ServerFrame { body: Some(body.clone()) };
        assert_eq!(frame.encode_to_vec(), hex, "{json}");
        let mut whole = Vec::new();
        encode_server(&body, Variant::WsJson, &mut whole);
        assert_eq!(json_of(&whole, false), json);
    }
}

fn variant(name: &str) -> Variant {
    match name {
        "tcp" => Variant::Tcp,
        "ws-proto" => Variant::WsProto,
        "ws-json" => Variant::WsJson,
        "ws-proto-deflate" => Variant::WsProtoDeflate,
        "ws-json-deflate" => Variant::WsJsonDeflate,
        other => panic!("no variant {other}"),
    }
}

#[test]
fn streams_are_read_as_told_and_written_the_same_where_one_way_is_the_only_one() {
    // W-4
    let text = include_str!("vectors/streams.txt");
    let lines = text.lines().filter(|l| !l.is_empty() && !l.starts_with('#'));
    let mut streams: Vec<(&str, Variant, Vec<u8>, Vec<&str>)> = Vec::new();
    for line in lines {
        match line.split_once(' ').unwrap() {
            (who @ ("client" | "server"), name) => {
                streams.push((who, variant(name), Vec::new(), Vec::new()));
            }
            ("hex", hex) => streams.last_mut().unwrap().2 = bytes(hex),
            ("out", out) => streams.last_mut().unwrap().3.push(out),
            other => panic!("{other:?}"),
        }
    }
    assert!(streams.len() >= 15);
    for (who, variant, hex, outs) in streams {
        // A mask this codec is told to use, and one way to write: frames alone, not compressed.
        let compressed = variant.is_websocket() && hex[0] & 0x40 != 0;
        let exact = !compressed && outs.iter().all(|o| o.starts_with('{'));
        let mut written = Vec::new();
        if who == "client" {
            let expected: Vec<_> = outs.iter().map(|o| incoming(o)).collect();
            at_every_split(&hex, |pieces| {
                assert_eq!(received(variant, BYTES_MAX, pieces).as_ref(), Ok(&expected));
            });
            for out in outs.iter().filter(|_| exact) {
                let mask = [0x37, 0xfa, 0x21, 0x3d];
                encode_client(&client_body(out), variant, mask, &mut written);
            }
        } else {
            let expected: Vec<_> = outs.iter().map(|o| outgoing(o)).collect();
            at_every_split(&hex, |pieces| {
                assert_eq!(sent(variant, BYTES_MAX, pieces).as_ref(), Ok(&expected));
            });
            for out in outs.iter().filter(|_| exact) {
                encode_server(&server_body(out), variant, &mut written);
            }
        }
        assert!(!exact || written == hex, "{outs:?} is written as {written:02x?}");
    }
}

fn incoming(out: &str) -> Incoming {
    match out.split_once(' ') {
        Some(("ping", hex)) => {
            let digits: Vec<char> = hex.chars().collect();
            let pairs: Vec<String> = digits.chunks(2).map(|p| p.iter().collect()).collect();
            Incoming::Ping(bytes(&pairs.join(" ")).into())
        }
        Some(("close", code)) => Incoming::Close { code: code.parse().ok() },
        _ => Incoming::Frame(client_body(out)),
    }
}

fn outgoing(out: &str) -> Sent {
    match out.strip_prefix("close ") {
        Some(code) => Sent::Close(code.parse().ok()),
        None => Sent::Frame(Some(Box::new(server_body(out)))),
    }
}
