//! permessage-deflate, which tungstenite does not have: a client written out here over a plain
//! socket, with flate2 on its side.

use crate::server::Server;
use crate::websocket::{BINARY, TEXT, forms, masked, upgrade};
use crate::{On, Wire, json};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use prost::Message as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use uproar_proto::v1::{self, client_frame, message, server_frame::Body};

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;

/// A client that negotiated compression.
struct Deflater {
    socket: TcpStream,
    wire: Wire,
    /// Messages that came compressed.
    compressed: usize,
}

impl Deflater {
    fn open(server: &Server, wire: Wire) -> Deflater {
        let subprotocol = if wire == Wire::Json { "uproar.v1.json" } else { "uproar.v1.proto" };
        let (socket, head) = upgrade(
            server,
            &format!(
                "Sec-WebSocket-Protocol: {subprotocol}\r\n\
                 Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
            ),
        );
        let head = head.to_lowercase();
        let line = head.lines().find_map(|l| l.strip_prefix("sec-websocket-extensions: "));
        let agreed = line.unwrap_or_else(|| panic!("compression is agreed: {head}"));
        assert!(agreed.starts_with("permessage-deflate"), "{agreed}");
        for takeover in ["server_no_context_takeover", "client_no_context_takeover"] {
            assert!(agreed.contains(takeover), "{agreed}");
        }
        Deflater { socket, wire, compressed: 0 }
    }

    fn welcomed(server: &Server, wire: Wire) -> Deflater {
        let mut client = Deflater::open(server, wire);
        let (_, connect, _) = forms(wire);
        client.send_compressed(connect);
        assert!(matches!(client.next(), Body::Welcome(_)));
        client
    }

    fn opcode(&self) -> u8 {
        if self.wire == Wire::Json { TEXT } else { BINARY }
    }

    fn send_compressed(&mut self, payload: &[u8]) {
        let frame = masked(FIN | RSV1 | self.opcode(), &deflated(payload));
        self.socket.write_all(&frame).unwrap();
    }

    fn send_plain(&mut self, payload: &[u8]) {
        self.socket.write_all(&masked(FIN | self.opcode(), payload)).unwrap();
    }

    fn content(&self, body: client_frame::Body) -> Vec<u8> {
        match self.wire {
            Wire::Json => json::write(&body).into_bytes(),
            _ => v1::ClientFrame { body: Some(body) }.encode_to_vec(),
        }
    }

    /// The next message, inflated where it is compressed.
    fn next(&mut self) -> Body {
        let (first, payload) = self.frame();
        assert_eq!(first & 0x8f, FIN | self.opcode(), "a whole message of this wire's kind");
        assert_eq!(first & 0x30, 0, "other reserved bits are clear");
        let payload = if first & RSV1 == 0 {
            payload
        } else {
            self.compressed += 1;
            inflated(&payload)
        };
        if self.wire == Wire::Json {
            json::read(std::str::from_utf8(&payload).expect("text is UTF-8"))
        } else {
            v1::ServerFrame::decode(&payload[..]).unwrap().body.unwrap()
        }
    }

    /// First byte and payload of a frame; the server's are unmasked.
    fn frame(&mut self) -> (u8, Vec<u8>) {
        let [first, second] = self.read();
        assert_eq!(second & 0x80, 0, "a server does not mask");
        let length = match second {
            126 => usize::from(u16::from_be_bytes(self.read())),
            127 => usize::try_from(u64::from_be_bytes(self.read())).unwrap(),
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        self.socket.read_exact(&mut payload).unwrap();
        (first, payload)
    }

    fn read<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.socket.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// The next batch's messages, whatever comes between.
    fn batch(&mut self) -> Vec<v1::Message> {
        loop {
            if let Body::Batch(batch) = self.next() {
                return batch.messages;
            }
        }
    }

    /// The error, the close code and the end.
    fn ends_with(&mut self, name: &str, code: u16) {
        let error = loop {
            if let Body::Error(error) = self.next() {
                break error;
            }
        };
        assert_eq!(error.name, name);
        let (first, payload) = self.frame();
        assert_eq!((first, &payload[..2]), (FIN | 8, &code.to_be_bytes()[..]));
        assert_eq!(self.socket.read(&mut [0; 1]).unwrap(), 0, "nothing follows");
    }
}

/// One message by RFC 7692, section 7.2.1, from a fresh window.
fn deflated(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 64);
    let mut compress = Compress::new(Compression::best(), false);
    compress.compress_vec(payload, &mut out, FlushCompress::Sync).unwrap();
    assert_eq!(compress.total_in(), payload.len() as u64, "the buffer was large enough");
    assert!(out.ends_with(&[0, 0, 0xff, 0xff]));
    out.truncate(out.len() - 4);
    out
}

/// The reverse, also from a fresh window: it fails where the server used an earlier message.
fn inflated(payload: &[u8]) -> Vec<u8> {
    let input = [payload, &[0, 0, 0xff, 0xff]].concat();
    let mut out = Vec::with_capacity(1 << 20);
    let mut decompress = Decompress::new(false);
    decompress.decompress_vec(&input, &mut out, FlushDecompress::Sync).expect("deflate data");
    assert_eq!(decompress.total_in(), input.len() as u64, "the whole message");
    out
}

fn join() -> client_frame::Body {
    client_frame::Body::Join(v1::Join { room: "stage".into(), resume: None })
}

fn say(id: &'static str, text: &str) -> client_frame::Body {
    client_frame::Body::Publish(v1::Publish {
        room: "stage".into(),
        client_msg_id: id.into(),
        content: Some(v1::publish::Content::Text(text.into())),
        ..v1::Publish::default()
    })
}

pub(crate) fn messages_are_compressed_both_ways(on: On) {
    let server = Server::start(on.io, "");
    let mut client = Deflater::welcomed(&server, on.wire);
    let (mut plain, _) = crate::client::Client::viewer(&server, on.wire, "stage");
    let content = client.content(join());
    client.send_compressed(&content);
    while !matches!(client.next(), Body::Joined(_)) {}
    let text = "the same words again and again ".repeat(40);
    let content = client.content(say("1", &text));
    client.send_compressed(&content);
    let before = client.compressed;
    let heard = client.batch();
    assert_eq!(heard[0].content, Some(message::Content::Text(text)));
    assert!(client.compressed > before, "a long message that repeats itself is compressed");
    assert_eq!(plain.messages("stage", 1), heard, "who did not ask for it gets it as it is");
    // Either end may send a message as it is, and in fragments.
    let (opcode, _, ping) = forms(on.wire);
    client.send_plain(ping);
    while !matches!(client.next(), Body::Pong(_)) {}
    let squeezed = deflated(ping);
    client.socket.write_all(&masked(RSV1 | opcode, &squeezed[..1])).unwrap();
    client.socket.write_all(&masked(FIN, &squeezed[1..])).unwrap();
    while !matches!(client.next(), Body::Pong(_)) {}
}

pub(crate) fn each_message_stands_alone(on: On) {
    let server = Server::start(on.io, "[engine.rooms]\nwindow = 0\n");
    let mut client = Deflater::welcomed(&server, on.wire);
    let content = client.content(join());
    client.send_compressed(&content);
    while !matches!(client.next(), Body::Joined(_)) {}
    // The same text: with a window kept from message to message the second would be tiny, and
    // `inflated` could not read it.
    let text = "a line that every message repeats, word for word, to the end ".repeat(4);
    let before = client.compressed;
    for _ in 0..4 {
        server.says("stage", &text);
        assert_eq!(client.batch()[0].content, Some(message::Content::Text(text.clone())));
    }
    assert_eq!(client.compressed - before, 4);
}

pub(crate) fn a_bomb_and_garbage_are_refused(on: On) {
    let server = Server::start(on.io, "");
    let mut bomber = Deflater::welcomed(&server, on.wire);
    // 4 MiB of nothing in 4 KiB.
    bomber.send_compressed(&vec![b' '; 4 << 20]);
    bomber.ends_with("FRAME_TOO_LARGE", 1009);
    let mut garbage = Deflater::welcomed(&server, on.wire);
    let frame = masked(FIN | RSV1 | garbage.opcode(), &[0xff; 20]);
    garbage.socket.write_all(&frame).unwrap();
    garbage.ends_with("BAD_COMPRESSION", 1002);
    // RSV1 belongs on the first fragment alone, and never on a control frame.
    for frame in [masked(FIN | RSV1 | 9, b"x"), masked(FIN | RSV1, b"x")] {
        let mut client = Deflater::welcomed(&server, on.wire);
        client.socket.write_all(&frame).unwrap();
        client.ends_with("BAD_FRAME", 1002);
    }
    let mut healthy = Deflater::welcomed(&server, on.wire);
    let (.., ping) = forms(on.wire);
    healthy.send_compressed(ping);
    assert!(matches!(healthy.next(), Body::Pong(_)));
}

pub(crate) fn offers_that_cost_a_window_are_declined(on: On) {
    let server = Server::start(on.io, "");
    let agreed = |offers: &str| {
        let (_, head) = upgrade(&server, &format!("Sec-WebSocket-Extensions: {offers}\r\n"));
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        head.to_lowercase().contains("sec-websocket-extensions: permessage-deflate")
    };
    assert!(agreed("permessage-deflate"));
    assert!(agreed("permessage-deflate; server_no_context_takeover; client_max_window_bits=10"));
    assert!(agreed("permessage-deflate; server_max_window_bits=15"));
    assert!(!agreed("permessage-deflate; server_max_window_bits=10"));
    assert!(!agreed("permessage-deflate; unheard_of"));
    assert!(!agreed("x-webkit-deflate-frame"));
    assert!(agreed("permessage-deflate; server_max_window_bits=9, permessage-deflate"));
}
