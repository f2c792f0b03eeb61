//! The WebSocket codec against tungstenite, an implementation by other people: as its server and
//! as its client, at every split point.

mod common;

use common::{BYTES_MAX, Sent, at_every_split, received, sent};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use tungstenite::handshake::HandshakeError;
use tungstenite::handshake::client::generate_key;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame, FrameHeader};
use tungstenite::protocol::{Role, WebSocket};
use tungstenite::{Message, Utf8Bytes};
use uproar_proto::error::Code;
use uproar_proto::v1::{self, client_frame, server_frame};
use uproar_proto::wire::opening::{Opening, open};
use uproar_proto::wire::{
    Incoming, Variant, close_frame, encode_client, encode_server, error_body, ping_frame,
    pong_frame, upgrade_reply, upgrade_request,
};

/// A socket in memory: tungstenite reads what we put in and we take what it writes.
#[derive(Debug, Default)]
struct Pipe {
    to_peer: VecDeque<u8>,
    from_peer: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.to_peer.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.to_peer.read(buf)
    }
}

impl Write for Pipe {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.from_peer.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn peer(role: Role) -> WebSocket<Pipe> {
    WebSocket::from_raw_socket(Pipe::default(), role, None)
}

/// The bytes tungstenite writes for these messages, masked where it is the client.
fn written(role: Role, messages: Vec<Message>) -> Vec<u8> {
    let mut peer = peer(role);
    for message in messages {
        peer.send(message).unwrap();
    }
    std::mem::take(&mut peer.get_mut().from_peer)
}

/// What tungstenite makes of our bytes, up to the first that is no message.
fn read_by(role: Role, bytes: &[u8]) -> (Vec<Message>, Option<tungstenite::Error>) {
    let mut peer = peer(role);
    peer.get_mut().to_peer.extend(bytes);
    let mut all = Vec::new();
    loop {
        match peer.read() {
            Ok(message) => all.push(message),
            Err(tungstenite::Error::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => {
                return (all, None);
            }
            Err(error) => return (all, Some(error)),
        }
    }
}

const JSON: &str = concat!(
    r#"{"publish":{"room":"a","class":"chat","client_msg_id":"AQ==","#,
    r#""text":"gr\u00fc\u00dfe \ud83d\ude00 grüße"}}"#
);

fn publish() -> client_frame::Body {
    client_frame::Body::Publish(v1::Publish {
        room: "a".to_owned(),
        class: 0,
        client_msg_id: bytes::Bytes::from_static(&[1]),
        count: 0,
        content: Some(v1::publish::Content::Text("grüße 😀 grüße".to_owned())),
        ..v1::Publish::default()
    })
}

fn fragment(opcode: Data, fin: bool, payload: &[u8]) -> Message {
    Message::Frame(Frame::message(payload.to_vec(), OpCode::Data(opcode), fin))
}

#[test]
fn frames_of_a_tungstenite_client_are_read_at_every_split() {
    let mut proto = Vec::new();
    encode_client(&publish(), Variant::WsProto, [0; 4], &mut proto);
    let proto = proto.split_off(6); // two bytes of header, four of mask
    for (variant, message) in
        [(Variant::WsJson, Message::text(JSON)), (Variant::WsProto, Message::binary(proto))]
    {
        let bytes = written(
            Role::Client,
            vec![
                message.clone(),
                Message::Ping("are you there".into()), // W-25
                message.clone(),
                Message::Pong("".into()),
                Message::Close(Some(CloseFrame { code: CloseCode::Away, reason: "bye".into() })),
            ],
        );
        let expected = vec![
            Incoming::Frame(publish()),
            Incoming::Ping("are you there".into()),
            Incoming::Frame(publish()),
            Incoming::Pong,
            Incoming::Close { code: Some(1001) },
        ];
        at_every_split(&bytes, |pieces| {
            assert_eq!(received(variant, BYTES_MAX, pieces).as_ref(), Ok(&expected));
        });
    }
}

#[test]
fn fragments_with_control_frames_between_them_are_one_message() {
    // W-23: cut inside a character, which is legal: UTF-8 is of the message, not of its frames.
    let umlaut = JSON.find('ü').unwrap() + 1;
    let (head, tail) = JSON.as_bytes().split_at(umlaut);
    let bytes = written(
        Role::Client,
        vec![
            fragment(Data::Text, false, head),
            Message::Ping("1".into()),
            fragment(Data::Continue, false, b""),
            fragment(Data::Continue, false, &tail[..4]),
            Message::Pong("2".into()),
            fragment(Data::Continue, true, &tail[4..]),
            Message::text(JSON),
            fragment(Data::Text, false, head),
            fragment(Data::Continue, true, tail),
        ],
    );
    let expected = vec![
        Incoming::Ping("1".into()),
        Incoming::Pong,
        Incoming::Frame(publish()),
        Incoming::Frame(publish()),
        Incoming::Frame(publish()), // nothing of the first is left in the last
    ];
    at_every_split(&bytes, |pieces| {
        let got = common::received_by_one(Variant::WsJson, BYTES_MAX, pieces);
        assert_eq!(got.as_ref(), Ok(&expected));
        assert_eq!(received(Variant::WsJson, BYTES_MAX, pieces).as_ref(), Ok(&expected));
    });
}

#[test]
fn the_bound_of_a_message_is_over_all_its_fragments() {
    // W-5
    let half = [b' '; 600];
    let bytes = written(
        Role::Client,
        vec![fragment(Data::Text, false, &half), fragment(Data::Continue, true, &half)],
    );
    assert_eq!(received(Variant::WsJson, 1199, &[&bytes]), Err(Code::FrameTooLarge));
    assert_eq!(received(Variant::WsJson, 1200, &[&bytes]), Err(Code::BadFrame), "no JSON");
}

/// A frame as tungstenite formats it, whatever rule it breaks.
fn frame(header: FrameHeader, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Frame::from_payload(header, payload.to_vec().into()).format(&mut bytes).unwrap();
    bytes
}

fn text_header() -> FrameHeader {
    FrameHeader {
        is_final: true,
        rsv1: false,
        rsv2: false,
        rsv3: false,
        opcode: OpCode::Data(Data::Text),
        mask: Some([1, 2, 3, 4]),
    }
}

#[test]
fn what_breaks_a_rule_of_websocket_ends_the_connection_with_its_code() {
    let control = |opcode| FrameHeader { opcode: OpCode::Control(opcode), ..text_header() };
    let data = |opcode| FrameHeader { opcode: OpCode::Data(opcode), ..text_header() };
    let text = text_header;
    let ping = b"{\"ping\":{}}";
    for (name, bytes, code) in [
        ("not masked", frame(FrameHeader { mask: None, ..text() }, ping), Code::BadFrame), // W-21
        ("RSV1", frame(FrameHeader { rsv1: true, ..text() }, ping), Code::BadFrame),       // W-22
        ("RSV2", frame(FrameHeader { rsv2: true, ..text() }, ping), Code::BadFrame),       // W-22
        ("RSV3", frame(FrameHeader { rsv3: true, ..text() }, ping), Code::BadFrame),       // W-22
        ("opcode 3", frame(data(Data::Reserved(3)), ping), Code::BadFrame),                // W-22
        ("opcode 11", frame(control(Control::Reserved(11)), b""), Code::BadFrame),         // W-22
        ("length 5 in 2 bytes", vec![0x81, 0xfe, 0, 5], Code::BadFrame),                   // W-22
        ("length 5 in 8 bytes", vec![0x81, 0xff, 0, 0, 0, 0, 0, 0, 0, 5], Code::BadFrame), // W-22
        ("length 2^63", vec![0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], Code::BadFrame),      // W-22
        ("length 2^62", [&[0x81, 0xff, 0x40][..], &[0; 11]].concat(), Code::FrameTooLarge), // W-5
        ("binary to JSON", frame(data(Data::Binary), ping), Code::BadFrame),               // W-17
        ("continues nothing", frame(data(Data::Continue), ping), Code::BadFrame),          // W-23
        (
            "a second start",
            frame(FrameHeader { is_final: false, ..text() }, b"{").repeat(2),
            Code::BadFrame, // W-23
        ),
        (
            "half a ping",
            frame(FrameHeader { is_final: false, ..control(Control::Ping) }, b""),
            Code::BadFrame, // W-23
        ),
        ("a ping of 126 bytes", frame(control(Control::Ping), &[0; 126]), Code::BadFrame), // W-23
        ("not UTF-8", frame(text(), b"{\"dance\":\"\xff\"}"), Code::BadUtf8),              // W-16
        ("half a character", frame(text(), b"\xc3"), Code::BadUtf8),                       // W-16
        ("a surrogate", frame(text(), b"\xed\xa0\x80"), Code::BadUtf8),                    // W-16
        ("a close of one byte", frame(control(Control::Close), &[3]), Code::BadFrame),     // W-24
        (
            "a close that is not UTF-8",
            frame(control(Control::Close), b"\x03\xe8\xff"),
            Code::BadUtf8,
        ),
    ] {
        at_every_split(&bytes, |pieces| {
            assert_eq!(received(Variant::WsJson, BYTES_MAX, pieces), Err(code), "{name}");
        });
    }
    let text_to_proto = frame(text_header(), ping);
    assert_eq!(received(Variant::WsProto, BYTES_MAX, &[&text_to_proto]), Err(Code::BadFrame));
}

#[test]
fn close_codes_are_those_that_may_be_sent() {
    // W-24: RFC 6455 section 7.4, and the registry since.
    for code in (0..5100).chain([u16::MAX]) {
        let header = FrameHeader { opcode: OpCode::Control(Control::Close), ..text_header() };
        let bytes = frame(header, &code.to_be_bytes());
        let got = received(Variant::WsJson, BYTES_MAX, &[&bytes]);
        if CloseCode::from(code).is_allowed() && !(2000..3000).contains(&code) {
            assert_eq!(got, Ok(vec![Incoming::Close { code: Some(code) }]));
        } else if code == 1014 {
            assert_eq!(got, Ok(vec![Incoming::Close { code: Some(1014) }]), "registered since");
        } else {
            assert_eq!(got, Err(Code::BadFrame), "{code}");
        }
    }
    let header = FrameHeader { opcode: OpCode::Control(Control::Close), ..text_header() };
    let got = received(Variant::WsJson, BYTES_MAX, &[&frame(header, b"")]);
    assert_eq!(got, Ok(vec![Incoming::Close { code: None }]));
}

#[test]
fn nothing_after_a_close_is_read() {
    // W-29
    let header = FrameHeader { opcode: OpCode::Control(Control::Close), ..text_header() };
    let bytes = [frame(header, b""), vec![0xff; 50]].concat();
    at_every_split(&bytes, |pieces| {
        let got = common::received_by_one(Variant::WsJson, BYTES_MAX, pieces);
        assert_eq!(got, Ok(vec![Incoming::Close { code: None }]));
    });
}

#[test]
fn a_tungstenite_client_reads_what_our_server_sends() {
    for size in [0, 1, 70, 125, 126, 200, 65_000, 66_000] {
        for variant in [Variant::WsProto, Variant::WsJson] {
            let joined = v1::Joined { room: "ü".repeat(size / 2), ..v1::Joined::default() };
            let body = server_frame::Body::Joined(joined);
            let mut bytes = Vec::new();
            encode_server(&body, variant, &mut bytes);
            ping_frame(b"p", &mut bytes);
            pong_frame(b"q", &mut bytes);
            close_frame(variant, Code::Draining.websocket_close(), "DRAINING", &mut bytes);
            let (messages, error) = read_by(Role::Client, &bytes);
            assert!(error.is_none(), "{error:?}");
            let [message, Message::Ping(ping), Message::Pong(pong), Message::Close(Some(close))] =
                &messages[..]
            else {
                panic!("{messages:?}");
            };
            assert_eq!((&ping[..], &pong[..]), (&b"p"[..], &b"q"[..]));
            assert_eq!((u16::from(close.code), close.reason.as_str()), (1012, "DRAINING"));
            assert_eq!(message.is_text(), variant.is_json());
            let payload = message.clone().into_data();
            let decoded =
                uproar_proto::wire::decode_server(variant, &payload, false, payload.len());
            assert_eq!(decoded, Ok(Some(body)));
        }
    }
}

#[test]
fn every_close_code_of_the_table_may_be_sent() {
    for code in Code::ALL {
        let mut bytes = Vec::new();
        encode_server(&error_body(*code), Variant::WsJson, &mut bytes);
        close_frame(Variant::WsJson, code.websocket_close(), code.name(), &mut bytes);
        let (messages, error) = read_by(Role::Client, &bytes);
        assert!(error.is_none(), "{error:?}");
        let Some(Message::Close(Some(close))) = messages.last() else { panic!("{messages:?}") };
        assert_eq!(u16::from(close.code), code.websocket_close());
    }
}

#[test]
fn a_tungstenite_server_reads_what_our_client_sends() {
    for variant in [Variant::WsProto, Variant::WsJson] {
        for mask in [[0; 4], [0xff, 1, 0x80, 7]] {
            let mut bytes = Vec::new();
            encode_client(&publish(), variant, mask, &mut bytes);
            encode_client(&publish(), variant, mask, &mut bytes);
            let (messages, error) = read_by(Role::Server, &bytes);
            assert!(error.is_none() && messages.len() == 2, "{messages:?} {error:?}");
            let payload = messages[0].clone().into_data();
            let decoded =
                uproar_proto::wire::decode_client(variant, &payload, false, payload.len());
            assert_eq!(decoded, Ok(Some(publish())));
        }
    }
}

#[test]
fn our_client_reads_what_a_tungstenite_server_sends_at_every_split() {
    let mut error = Vec::new();
    encode_server(&error_body(Code::Kicked), Variant::WsJson, &mut error);
    let json = Utf8Bytes::try_from(error.split_off(2)).unwrap();
    assert_eq!(error[1], u8::try_from(json.len()).unwrap(), "a header of two bytes");
    let (head, tail) = json.as_bytes().split_at(30);
    let bytes = written(
        Role::Server,
        vec![
            Message::Text(json.clone()),
            fragment(Data::Text, false, head),
            Message::Ping("p".into()),
            fragment(Data::Continue, true, tail),
            Message::Pong("".into()),
            Message::Close(None),
        ],
    );
    let body = Sent::Frame(Some(Box::new(error_body(Code::Kicked))));
    let expected =
        vec![body.clone(), Sent::Ping(b"p".to_vec()), body, Sent::Pong, Sent::Close(None)];
    at_every_split(&bytes, |pieces| {
        assert_eq!(sent(Variant::WsJson, BYTES_MAX, pieces).as_ref(), Ok(&expected));
    });
}

#[test]
fn a_masked_server_frame_is_no_server_frame() {
    // W-21
    let bytes = frame(text_header(), b"{}");
    assert_eq!(sent(Variant::WsJson, BYTES_MAX, &[&bytes]), Err(Code::BadFrame));
}

#[test]
fn a_tungstenite_client_agrees_with_our_server() {
    for (subprotocol, variant) in [
        (None, Variant::WsJson),
        (Some("uproar.v1.proto"), Variant::WsProto),
        (Some("uproar.v1.json"), Variant::WsJson),
    ] {
        let mut request = tungstenite::http::Request::get("ws://live.example/")
            .header("Host", "live.example")
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", generate_key());
        if let Some(name) = subprotocol {
            request = request.header("Sec-WebSocket-Protocol", name);
        }
        let started = tungstenite::client(request.body(()).unwrap(), Pipe::default());
        let Err(HandshakeError::Interrupted(mut waiting)) = started else {
            panic!("no answer was given yet");
        };
        let pipe = waiting.get_mut().get_mut();
        let Opening::WebSocket { consumed, upgrade } = open(&pipe.from_peer) else {
            panic!("{}", String::from_utf8_lossy(&pipe.from_peer));
        };
        assert_eq!((consumed, upgrade.variant), (pipe.from_peer.len(), variant));
        pipe.from_peer.clear();
        pipe.to_peer.extend(&upgrade.reply);
        let mut frame = Vec::new();
        encode_server(&error_body(Code::Empty), variant, &mut frame);
        pipe.to_peer.extend(&frame);
        let (mut socket, _) = waiting.handshake().unwrap();
        assert_eq!(socket.read().unwrap().is_text(), variant.is_json());
        socket.send(Message::Ping("x".into())).unwrap();
        let got = received(variant, BYTES_MAX, &[&socket.get_ref().from_peer]);
        assert_eq!(got, Ok(vec![Incoming::Ping("x".into())]));
    }
}

#[test]
fn our_client_agrees_with_a_tungstenite_server() {
    let nonce = [9; 16];
    let mut pipe = Pipe::default();
    pipe.to_peer.extend(upgrade_request("live.example:7400", "/", None, true, nonce));
    let Ok(mut socket) = tungstenite::accept(pipe) else { panic!("refused") };
    socket.send(Message::text("{\"pong\":{}}")).unwrap();
    let bytes = &socket.get_ref().from_peer;
    let Ok(Some((consumed, variant))) = upgrade_reply(bytes, nonce) else {
        panic!("{:?}", upgrade_reply(bytes, nonce));
    };
    assert_eq!(variant, Variant::WsJson, "it knows no compression");
    let pong = Sent::Frame(Some(Box::new(server_frame::Body::Pong(v1::Pong {}))));
    assert_eq!(sent(variant, BYTES_MAX, &[&bytes[consumed..]]), Ok(vec![pong]));
}

#[test]
fn compressed_messages_may_be_fragmented_and_are_bounded_while_inflating() {
    // W-27: 16 MiB of zeros as flate2 writes them, in two fragments; RSV1 is on the first only.
    let bomb = deflated(&vec![0; 16 << 20]);
    assert!(bomb.len() < BYTES_MAX);
    let (head, tail) = bomb.split_at(bomb.len() / 2);
    let first = FrameHeader {
        is_final: false,
        rsv1: true,
        opcode: OpCode::Data(Data::Binary),
        ..text_header()
    };
    let last = FrameHeader { opcode: OpCode::Data(Data::Continue), ..text_header() };
    let bytes = [frame(first.clone(), head), frame(last.clone(), tail)].concat();
    let got = received(Variant::WsProtoDeflate, BYTES_MAX, &[&bytes]);
    assert_eq!(got, Err(Code::FrameTooLarge));

    let json = format!("{{\"publish\":{{\"text\":\"{}\"}}}}", "la".repeat(5000));
    let small = deflated(json.as_bytes());
    let (head, tail) = small.split_at(small.len() / 2);
    let first = FrameHeader { opcode: OpCode::Data(Data::Text), ..first };
    let bytes = [frame(first, head), frame(last.clone(), tail)].concat();
    at_every_split(&bytes, |pieces| {
        let got = received(Variant::WsJsonDeflate, json.len(), pieces).unwrap();
        assert!(matches!(&got[..], [Incoming::Frame(client_frame::Body::Publish(_))]));
        let got = received(Variant::WsJsonDeflate, json.len() - 1, pieces);
        assert_eq!(got, Err(Code::FrameTooLarge));
    });

    // W-22: RSV1 on a later fragment or on a control frame.
    let later = FrameHeader { rsv1: true, ..last };
    let start = FrameHeader { is_final: false, ..text_header() };
    let bytes = [frame(start, b"{"), frame(later, b"}")].concat();
    assert_eq!(received(Variant::WsJsonDeflate, BYTES_MAX, &[&bytes]), Err(Code::BadFrame));
    let ping = FrameHeader { rsv1: true, opcode: OpCode::Control(Control::Ping), ..text_header() };
    let got = received(Variant::WsJsonDeflate, BYTES_MAX, &[&frame(ping, b"")]);
    assert_eq!(got, Err(Code::BadFrame));
}

#[test]
fn what_is_marked_compressed_and_is_not_is_bad_compression() {
    // W-28
    let header = FrameHeader { rsv1: true, ..text_header() };
    let got = received(Variant::WsJsonDeflate, BYTES_MAX, &[&frame(header, &[0xff; 200])]);
    assert_eq!(got, Err(Code::BadCompression));
}

/// A message's payload as RFC 7692 section 7.2.1 says, written by flate2.
fn deflated(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(plain).unwrap();
    encoder.flush().unwrap();
    let mut bytes = encoder.get_ref().clone();
    assert!(bytes.ends_with(&[0, 0, 0xff, 0xff]));
    bytes.truncate(bytes.len() - 4);
    bytes
}
