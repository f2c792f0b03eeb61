//! What a connection may open with, what was agreed, and how the rest is refused.

mod common;

use common::at_every_split;
use uproar_proto::error::Code;
use uproar_proto::v1::server_frame;
use uproar_proto::wire::opening::{OPENING_BYTES_MAX, Opening, Upgrade, http_refusal, open};
use uproar_proto::wire::{Variant, upgrade_reply, upgrade_request};

/// RFC 6455 section 1.3.
const NONCE: [u8; 16] = *b"the sample nonce";

fn upgraded(request: &[u8]) -> Upgrade {
    match open(request) {
        Opening::WebSocket { consumed, upgrade } => {
            assert_eq!(consumed, request.len());
            upgrade
        }
        other => panic!("{other:?} for {}", String::from_utf8_lossy(request)),
    }
}

/// The status and the code a request is refused with, and the text of the error in its body.
fn refused(request: &[u8]) -> (u16, Code, String) {
    match open(request) {
        Opening::Refused { reply, code } => {
            let reply = String::from_utf8(reply).unwrap();
            let (head, body) = reply.split_once("\r\n\r\n").unwrap();
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            let length = format!("Content-Length: {}", body.len());
            assert!(head.contains(&length), "{head}");
            assert!(head.contains("Connection: close"), "{head}");
            // W-32: the body is the error frame in JSON.
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(body["error"]["code"], code.number());
            assert_eq!(body["error"]["name"], code.name());
            (status, code, body["error"]["text"].as_str().unwrap().to_owned())
        }
        other => panic!("{other:?} for {}", String::from_utf8_lossy(request)),
    }
}

/// A good request with some lines replaced ("Name: value") or taken out ("Name:").
fn request(changes: &[&str]) -> Vec<u8> {
    let mut lines = vec![
        "GET /live HTTP/1.1".to_owned(),
        "Host: live.example".to_owned(),
        "Upgrade: websocket".to_owned(),
        "Connection: keep-alive, Upgrade".to_owned(),
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==".to_owned(),
        "Sec-WebSocket-Version: 13".to_owned(),
    ];
    for change in changes {
        let name = change.split(':').next().unwrap();
        lines.retain(|l| !l.starts_with(name));
        if !change.ends_with(':') {
            lines.push((*change).to_owned());
        }
    }
    format!("{}\r\n\r\n", lines.join("\r\n")).into_bytes()
}

fn header<'a>(reply: &'a str, name: &str) -> Option<&'a str> {
    reply.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(": "))
}

#[test]
fn binary_tcp_opens_with_four_bytes_and_frames_may_follow_at_once() {
    // W-1, W-3
    for cut in 0..4 {
        assert_eq!(open(&b"UPR1"[..cut]), Opening::NeedMore);
    }
    assert_eq!(open(b"UPR1"), Opening::Tcp { consumed: 4 });
    assert_eq!(open(b"UPR1\x02\x2a\x00"), Opening::Tcp { consumed: 4 });
}

#[test]
fn anything_else_is_answered_with_an_error_frame_at_its_first_wrong_byte() {
    // W-2
    let tls = [0x16, 0x03, 0x01];
    for bytes in [&b"x"[..], b"UPR2", b"UX", b"GEX", b"get / HTTP/1.1\r\n\r\n", b"\0", &tls] {
        let Opening::Refused { reply, code } = open(bytes) else {
            panic!("{bytes:02x?} passed");
        };
        assert_eq!(code, Code::BadHandshake);
        let frames = common::sent(Variant::Tcp, 1000, &[&reply]).unwrap();
        let [common::Sent::Frame(Some(body))] = &frames[..] else { panic!("{frames:?}") };
        let server_frame::Body::Error(error) = &**body else { panic!("{body:?}") };
        assert_eq!(error.code, code.number());
    }
}

#[test]
fn other_http_methods_are_answered_in_http() {
    // W-2
    assert_eq!(open(b"POS"), Opening::NeedMore);
    for method in ["POST", "HEAD", "PUT", "OPTIONS", "DELETE", "PATCH", "CONNECT", "TRACE"] {
        let (status, code, _) = refused(format!("{method} / HTTP/1.1\r\n\r\n").as_bytes());
        assert_eq!((status, code), (405, Code::BadHandshake), "{method}");
    }
}

#[test]
fn an_upgrade_is_agreed_once_its_head_is_whole_and_not_before() {
    // W-7
    let bytes = request(&["Origin: https://live.example"]);
    for cut in 0..bytes.len() {
        assert_eq!(open(&bytes[..cut]), Opening::NeedMore, "cut at {cut}");
    }
    let upgrade = upgraded(&bytes);
    assert_eq!(upgrade.variant, Variant::WsJson);
    assert_eq!(upgrade.origin.as_deref(), Some("https://live.example"));
    assert_eq!(upgrade.path, "/live");
    let reply = String::from_utf8(upgrade.reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{reply}");
    assert!(reply.ends_with("\r\n\r\n"));
    // W-8: the example of RFC 6455 section 1.3.
    assert_eq!(header(&reply, "Sec-WebSocket-Accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(header(&reply, "Sec-WebSocket-Protocol"), None); // W-10
    let and_a_frame = [&bytes[..], &[0x89, 0x80, 0, 0, 0, 0]].concat();
    let Opening::WebSocket { consumed, .. } = open(&and_a_frame) else { panic!("refused") };
    assert_eq!(consumed, bytes.len());
}

#[test]
fn the_first_known_subprotocol_of_the_clients_list_is_agreed() {
    // W-9
    for (offered, variant, agreed) in [
        ("uproar.v1.proto", Variant::WsProto, "uproar.v1.proto"),
        ("uproar.v1.json", Variant::WsJson, "uproar.v1.json"),
        ("uproar.v9.proto, uproar.v1.json,uproar.v1.proto", Variant::WsJson, "uproar.v1.json"),
    ] {
        let upgrade = upgraded(&request(&[&format!("Sec-WebSocket-Protocol: {offered}")]));
        assert_eq!(upgrade.variant, variant);
        let reply = String::from_utf8(upgrade.reply).unwrap();
        assert_eq!(header(&reply, "Sec-WebSocket-Protocol"), Some(agreed));
    }
}

#[test]
fn only_unknown_subprotocols_are_refused_with_what_is_allowed() {
    // W-10
    let (status, code, text) =
        refused(&request(&["Sec-WebSocket-Protocol: graphql-ws, Uproar.v1.json"]));
    assert_eq!((status, code), (400, Code::BadHandshake));
    assert!(text.contains("uproar.v1.proto") && text.contains("uproar.v1.json"), "{text}");
}

#[test]
fn compression_is_agreed_without_context_on_either_side_or_not_at_all() {
    // W-11
    const AGREED: &str =
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    const AGREED_15: &str = "permessage-deflate; server_no_context_takeover; \
                             client_no_context_takeover; server_max_window_bits=15";
    for (offer, agreed) in [
        ("permessage-deflate", Some(AGREED)),
        ("permessage-deflate; client_max_window_bits", Some(AGREED)), // every browser
        ("permessage-deflate; client_max_window_bits=10", Some(AGREED)),
        ("Permessage-Deflate;Server_No_Context_Takeover", Some(AGREED)),
        ("permessage-deflate; server_max_window_bits=15", Some(AGREED_15)),
        ("permessage-deflate; server_max_window_bits=\"15\"", Some(AGREED_15)),
        ("permessage-deflate; server_max_window_bits=14", None),
        ("permessage-deflate; server_max_window_bits=9, permessage-deflate", Some(AGREED)),
        ("permessage-deflate; server_max_window_bits", None),
        ("permessage-deflate; client_max_window_bits=7", None),
        ("permessage-deflate; client_max_window_bits=08", None),
        ("permessage-deflate; server_no_context_takeover=1", None),
        ("permessage-deflate; server_no_context_takeover; server_no_context_takeover", None),
        ("permessage-deflate; turbo", None),
        ("x-webkit-deflate-frame", None),
        ("permessage-bzip2, permessage-deflate", Some(AGREED)),
    ] {
        let upgrade = upgraded(&request(&[&format!("Sec-WebSocket-Extensions: {offer}")]));
        let reply = String::from_utf8(upgrade.reply).unwrap();
        assert_eq!(header(&reply, "Sec-WebSocket-Extensions"), agreed, "{offer}");
        assert_eq!(upgrade.variant.is_deflated(), agreed.is_some(), "{offer}");
    }
}

#[test]
fn a_request_that_is_no_good_upgrade_is_refused_with_its_reason() {
    for (changes, status, says) in [
        (&["Upgrade:"][..], 426, "WebSocket"),                    // W-7
        (&["Connection: keep-alive"], 426, "WebSocket"),          // W-7
        (&["Host:"], 400, "Host"),                                // W-7
        (&["Content-Length: 5"], 400, "body"),                    // W-7
        (&["Transfer-Encoding: chunked"], 400, "body"),           // W-7
        (&["Sec-WebSocket-Version: 8"], 426, "13"),               // W-8
        (&["Sec-WebSocket-Key:"], 400, "Sec-WebSocket-Key"),      // W-8
        (&["Sec-WebSocket-Key: AAAA"], 400, "Sec-WebSocket-Key"), // W-8
        (&["Bad Name: x"], 400, "HTTP/1.1"),
        (&[" folded: x"], 400, "HTTP/1.1"),
        (&["X: a\nb"], 400, "HTTP/1.1"),
        (&["X: a\u{fc}b"], 400, "HTTP/1.1"),
        (&["X: a\rb"], 400, "HTTP/1.1"),
        (&["Origin: a\r\nOrigin: b"], 400, "Origin"),
    ] {
        let (got, code, text) = refused(&request(changes));
        assert_eq!((got, code), (status, Code::BadHandshake), "{changes:?}");
        assert!(text.contains(says), "{changes:?}: {text}");
    }
    for (line, status) in [
        ("GET / HTTP/1.0", 505),
        ("GET  / HTTP/1.1", 400),
        ("GET /", 400),
        ("GET / a HTTP/1.1", 400),
    ] {
        let request = String::from_utf8(request(&[])).unwrap();
        let request = request.replace("GET /live HTTP/1.1", line);
        assert_eq!(refused(request.as_bytes()).0, status, "{line}");
    }
}

#[test]
fn a_426_says_what_to_upgrade_to() {
    // W-7
    let Opening::Refused { reply, .. } = open(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") else {
        panic!("passed");
    };
    let reply = String::from_utf8(reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 426 Upgrade Required\r\n"), "{reply}");
    assert_eq!(header(&reply, "Upgrade"), Some("websocket"));
    assert_eq!(header(&reply, "Sec-WebSocket-Version"), Some("13"));
}

#[test]
fn a_head_is_bounded() {
    // W-6
    let mut bytes = b"GET / HTTP/1.1\r\nX: ".to_vec();
    bytes.resize(OPENING_BYTES_MAX - 1, b'a');
    assert_eq!(open(&bytes), Opening::NeedMore);
    bytes.push(b'a');
    let (status, code, _) = refused(&bytes);
    assert_eq!((status, code), (431, Code::FrameTooLarge));
    // A head of exactly the bound is read.
    let room = OPENING_BYTES_MAX - request(&["X: "]).len();
    let exact = request(&[&format!("X: {}", "a".repeat(room))]);
    assert_eq!(exact.len(), OPENING_BYTES_MAX);
    upgraded(&exact);
}

#[test]
fn a_refused_origin_gets_403_and_the_error() {
    // W-32
    let reply = String::from_utf8(http_refusal(403, Code::OriginRefused)).unwrap();
    assert!(reply.starts_with("HTTP/1.1 403 Forbidden\r\n"));
    assert!(reply.contains(r#""name":"ORIGIN_REFUSED""#), "{reply}");
}

#[test]
fn our_client_and_our_server_agree_at_every_split() {
    for (subprotocol, deflate, variant) in [
        (None, false, Variant::WsJson),
        (Some("uproar.v1.json"), true, Variant::WsJsonDeflate),
        (Some("uproar.v1.proto"), false, Variant::WsProto),
        (Some("uproar.v1.proto"), true, Variant::WsProtoDeflate),
    ] {
        let upgrade = upgraded(&upgrade_request("x:7400", "/", subprotocol, deflate, NONCE));
        assert_eq!(upgrade.variant, variant);
        at_every_split(&upgrade.reply, |pieces| {
            let mut held = Vec::new();
            for (i, piece) in pieces.iter().enumerate() {
                held.extend_from_slice(piece);
                let last = i + 1 == pieces.len();
                let expected = last.then_some((upgrade.reply.len(), variant));
                assert_eq!(upgrade_reply(&held, NONCE), Ok(expected));
            }
        });
    }
}

#[test]
fn our_client_believes_no_answer_but_the_one_to_its_request() {
    let good = upgraded(&upgrade_request("x", "/", None, false, NONCE)).reply;
    let good = String::from_utf8(good).unwrap();
    assert!(upgrade_reply(good.as_bytes(), NONCE).is_ok());
    for (reply, says) in [
        (good.clone(), "Accept"), // of another nonce
        (good.replace("101", "200"), "200"),
        (good.replace("websocket", "h2c"), "Upgrade"),
        (good.replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"), "mqtt"),
        (
            good.replace("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"),
            "permessage-deflate",
        ),
        ("SSH-2.0-OpenSSH\r\n\r\n".to_owned(), "SSH"),
    ] {
        let nonce = if says == "Accept" { [0; 16] } else { NONCE };
        let error = upgrade_reply(reply.as_bytes(), nonce).unwrap_err();
        assert!(error.contains(says), "{error}");
    }
    let refusal = http_refusal(503, Code::ServerFull);
    assert!(upgrade_reply(&refusal, NONCE).unwrap_err().contains("SERVER_FULL"));
}
