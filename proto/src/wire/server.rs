//! The server's side of a connection: bytes of a client in, client frames out.
//!
//! Owns what has come in but is not yet a frame. Never answers: a ping or a close is handed to
//! the caller, who writes `pong_frame` or `close_frame`.

use super::stream::{RawFrame, Stream};
use super::websocket::Sender;
use super::{Variant, deflate, json};
use crate::error::Code;
use crate::v1::{self, client_frame};
use bytes::Bytes;
use prost::Message as _;

/// One thing a client sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// A frame.
    Frame(client_frame::Body),
    /// A frame of a kind this version does not know: ignored.
    Unknown,
    /// A WebSocket ping: answer with `pong_frame` of the same bytes (at most 125).
    Ping(Bytes),
    /// A WebSocket pong nobody asked for, or an answer: a sign of life.
    Pong,
    /// A WebSocket close: answer with `close_frame` of the same code (1005 for none), then close.
    Close {
        /// Why, where the client says.
        code: Option<u16>,
    },
}

/// The partial input of one connection. A new one allocates nothing, so a server keeps one only
/// for connections in the middle of a frame.
#[derive(Debug)]
pub struct Decoder {
    stream: Stream,
}

impl Decoder {
    /// For the bytes after the opening (`UPR1` or the upgrade request). `frame_bytes_max` bounds a
    /// frame on the wire, a message of several fragments, and what a message inflates to.
    #[must_use]
    pub fn new(variant: Variant, frame_bytes_max: usize) -> Decoder {
        Decoder { stream: Stream::new(variant, Sender::Client, frame_bytes_max) }
    }

    /// Takes in the bytes of one receive. Call `next` until it gives `None` before feeding more:
    /// then at most one frame and a header are kept.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.stream.feed(bytes);
    }

    /// The next thing the client sent; `None` until more bytes come, and for ever after a close.
    ///
    /// # Errors
    /// The code to end the connection with. Every later call gives the same.
    #[expect(clippy::should_implement_trait, reason = "fallible, and ends only for now")]
    pub fn next(&mut self) -> Result<Option<Incoming>, Code> {
        let (variant, bytes_max) = (self.stream.variant(), self.stream.frame_bytes_max());
        let decoded = match self.stream.next()? {
            None => return Ok(None),
            Some(RawFrame::Message { payload, compressed }) => {
                decode_client(variant, payload, compressed, bytes_max)
            }
            Some(RawFrame::Ping(payload)) => {
                return Ok(Some(Incoming::Ping(Bytes::copy_from_slice(payload)))); // W-25
            }
            Some(RawFrame::Pong) => return Ok(Some(Incoming::Pong)),
            Some(RawFrame::Close { code }) => return Ok(Some(Incoming::Close { code })),
        };
        match decoded {
            Ok(Some(body)) => Ok(Some(Incoming::Frame(body))),
            Ok(None) => Ok(Some(Incoming::Unknown)), // W-12
            Err(code) => {
                self.stream.end(Err(code));
                Err(code)
            }
        }
    }

    /// Whether nothing is kept: it may be dropped, and made anew when more bytes come.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.stream.is_idle()
    }

    /// Bytes kept now. Between a `next` that gave `None` and the next `feed` at most
    /// `frame_bytes_max` and two headers; the memory behind them is at most twice that.
    #[must_use]
    pub fn bytes_used(&self) -> usize {
        self.stream.bytes_used()
    }
}

/// Decodes one client frame as it came off the wire; `None` for a kind this version does not know.
///
/// # Errors
/// `BadCompression`, `FrameTooLarge` (inflated past `frame_bytes_max`), `BadUtf8`, `BadFrame`.
pub fn decode_client(
    variant: Variant,
    payload: &[u8],
    compressed: bool,
    frame_bytes_max: usize,
) -> Result<Option<client_frame::Body>, Code> {
    plain(payload, compressed, frame_bytes_max, |payload| {
        if variant.is_json() {
            json::read_client(text(payload)?)
        } else {
            let frame = v1::ClientFrame::decode(payload).map_err(|_| Code::BadFrame)?;
            Ok(frame.body)
        }
    })
}

/// Runs `decode` on the payload, inflated where it is compressed.
pub(crate) fn plain<T>(
    payload: &[u8],
    compressed: bool,
    frame_bytes_max: usize,
    decode: impl FnOnce(&[u8]) -> Result<T, Code>,
) -> Result<T, Code> {
    if !compressed {
        return decode(payload);
    }
    let mut inflated = Vec::new();
    deflate::inflate(payload, frame_bytes_max, &mut inflated)?;
    decode(&inflated)
}

/// A text message is UTF-8.
pub(crate) fn text(payload: &[u8]) -> Result<&str, Code> {
    std::str::from_utf8(payload).map_err(|_| Code::BadUtf8) // W-16
}
