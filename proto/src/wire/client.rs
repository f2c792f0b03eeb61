//! The client's side of a connection: for the load tester, the tests, and clients in Rust.
//!
//! Owns the upgrade as a client sees it, and server frames as they come. They are handed out
//! undecoded first: a crowd of viewers receives the same bytes, and decodes them once.

use super::http::{Head, NoHead};
use super::opening::{SUBPROTOCOL_JSON, SUBPROTOCOL_PROTO, accept_key};
use super::server::{plain, text};
use super::stream::{RawFrame, Stream};
use super::websocket::Sender;
use super::{Variant, json};
use crate::error::Code;
use crate::v1::{self, server_frame};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message as _;

/// The partial input of one connection to a server.
#[derive(Debug)]
pub struct ClientDecoder {
    stream: Stream,
}

impl ClientDecoder {
    /// For the bytes after the opening (nothing on TCP, the 101 response on WebSocket).
    /// `frame_bytes_max` bounds a frame as it comes; a new decoder allocates nothing.
    #[must_use]
    pub fn new(variant: Variant, frame_bytes_max: usize) -> ClientDecoder {
        ClientDecoder { stream: Stream::new(variant, Sender::Server, frame_bytes_max) }
    }

    /// Takes in the bytes of one receive. Call `next_raw` until it gives `None` before the next.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.stream.feed(bytes);
    }

    /// The next thing the server sent, not decoded; `None` until more bytes come, and for ever
    /// after a close.
    ///
    /// # Errors
    /// What rule the server broke. Every later call gives the same.
    pub fn next_raw(&mut self) -> Result<Option<RawFrame<'_>>, Code> {
        self.stream.next()
    }

    /// Whether nothing is kept: it may be dropped, and made anew when more bytes come.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.stream.is_idle()
    }

    /// Bytes kept now; bounded as the server's `Decoder`.
    #[must_use]
    pub fn bytes_used(&self) -> usize {
        self.stream.bytes_used()
    }
}

/// Decodes a server frame as `next_raw` gave it; `None` for a kind this version does not know.
///
/// # Errors
/// `BadCompression`, `FrameTooLarge` (inflated past `frame_bytes_max`), `BadUtf8`, `BadFrame`.
pub fn decode_server(
    variant: Variant,
    payload: &[u8],
    compressed: bool,
    frame_bytes_max: usize,
) -> Result<Option<server_frame::Body>, Code> {
    plain(payload, compressed, frame_bytes_max, |payload| {
        if variant.is_json() {
            json::read_server(text(payload)?)
        } else {
            let frame = v1::ServerFrame::decode(payload).map_err(|_| Code::BadFrame)?;
            Ok(frame.body)
        }
    })
}

/// An upgrade request. `nonce` is drawn anew for each; the check of the answer needs it again.
#[must_use]
pub fn upgrade_request(
    host: &str,
    path: &str,
    subprotocol: Option<&str>,
    deflate: bool,
    nonce: [u8; 16],
) -> Vec<u8> {
    let key = STANDARD.encode(nonce);
    let mut request = format!(
        "GET {path} HTTP/1.1\r\n\
         Host: {host}\r\n\
         Upgrade: websocket\r\n\
         Connection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\n\
         Sec-WebSocket-Version: 13\r\n"
    );
    if let Some(name) = subprotocol {
        request.push_str(&format!("Sec-WebSocket-Protocol: {name}\r\n"));
    }
    if deflate {
        request.push_str(
            "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; \
             client_no_context_takeover\r\n",
        );
    }
    request.push_str("\r\n");
    request.into_bytes()
}

/// Reads the answer to an upgrade request of the same nonce: how many bytes it takes (frames
/// follow), and the variant that was agreed. `None` while it is incomplete.
///
/// # Errors
/// In words, why the connection is not a WebSocket of this protocol.
pub fn upgrade_reply(input: &[u8], nonce: [u8; 16]) -> Result<Option<(usize, Variant)>, String> {
    let head = match Head::parse(input) {
        Ok(head) => head,
        Err(NoHead::NeedMore) => return Ok(None),
        Err(NoHead::TooLarge) => return Err("the response head is over 8192 bytes".to_owned()),
        Err(NoHead::Malformed) => return Err("the response is not valid HTTP/1.1".to_owned()),
    };
    if !head.first_line.starts_with("HTTP/1.1 101") {
        let body = String::from_utf8_lossy(&input[head.bytes..]);
        return Err(format!("the server answered {:?}: {}", head.first_line, body.trim_end()));
    }
    if !head.lists("upgrade", "websocket") || !head.lists("connection", "upgrade") {
        return Err("the response lacks Upgrade: websocket or Connection: Upgrade".to_owned());
    }
    let expected = accept_key(&STANDARD.encode(nonce));
    if head.one("sec-websocket-accept") != Some(&expected) {
        return Err("Sec-WebSocket-Accept does not answer this request".to_owned());
    }
    let json = match head.one("sec-websocket-protocol") {
        Some(SUBPROTOCOL_PROTO) => false,
        Some(SUBPROTOCOL_JSON) => true,
        None if head.all("sec-websocket-protocol").next().is_none() => true,
        other => return Err(format!("the server chose the subprotocol {other:?}")),
    };
    let deflated = match head.list("sec-websocket-extensions").next() {
        None => false,
        Some(extension) if both_without_context(extension) => true,
        Some(other) => return Err(format!("the server chose the extension {other:?}")),
    };
    Ok(Some((head.bytes, Variant::websocket(json, deflated))))
}

/// Whether an answer is permessage-deflate with no context takeover on either side.
fn both_without_context(extension: &str) -> bool {
    let parts: Vec<&str> = extension.split(';').map(str::trim).collect();
    parts[0] == "permessage-deflate"
        && parts.contains(&"server_no_context_takeover")
        && parts.contains(&"client_no_context_takeover")
}
