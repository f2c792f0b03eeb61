//! The wire: how a connection opens, and how a frame is delimited, encoded and compressed.
//!
//! Owns every codec, for both ends, without I/O: bytes in, messages out, bounded. Never reads a
//! socket or a clock, never answers by itself: what is to be sent back is returned to the caller.
//! The rules are those of `PROTOCOL.md`; a line that carries one out names it (`// W-12`).

mod client;
mod deflate;
mod encode;
mod http;
pub(crate) mod json;
pub mod opening;
pub mod proxy;
mod server;
mod stream;
mod websocket;

pub use client::{ClientDecoder, decode_server, upgrade_reply, upgrade_request};
pub use encode::{close_frame, encode_client, encode_server, error_body, ping_frame, pong_frame};
pub use server::{Decoder, Incoming, decode_client};
pub use stream::RawFrame;

/// How frames of a connection are written. One encoding of a batch serves every member of the
/// same variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Variant {
    /// Varint length, then the protobuf frame.
    Tcp = 0,
    /// WebSocket binary messages, one protobuf frame each.
    WsProto = 1,
    /// WebSocket text messages, one JSON frame each.
    WsJson = 2,
    /// As `WsProto`, with permessage-deflate.
    WsProtoDeflate = 3,
    /// As `WsJson`, with permessage-deflate.
    WsJsonDeflate = 4,
}

/// How many variants there are.
pub const VARIANTS: usize = 5;

impl Variant {
    /// Every variant, each at its [`index`](Variant::index).
    pub const ALL: [Variant; 5] = [
        Variant::Tcp,
        Variant::WsProto,
        Variant::WsJson,
        Variant::WsProtoDeflate,
        Variant::WsJsonDeflate,
    ];

    /// Its place in tables kept per variant: 0 to 4.
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    /// The variant at a place; `None` from 5 on.
    #[must_use]
    pub fn from_index(index: usize) -> Option<Variant> {
        Variant::ALL.get(index).copied()
    }

    /// Whether frames travel in WebSocket messages.
    #[must_use]
    pub fn is_websocket(self) -> bool {
        self != Variant::Tcp
    }

    /// Whether frames are JSON; otherwise they are protobuf.
    #[must_use]
    pub fn is_json(self) -> bool {
        matches!(self, Variant::WsJson | Variant::WsJsonDeflate)
    }

    /// Whether permessage-deflate was negotiated.
    #[must_use]
    pub fn is_deflated(self) -> bool {
        matches!(self, Variant::WsProtoDeflate | Variant::WsJsonDeflate)
    }

    /// The WebSocket variant of a negotiation.
    pub(crate) fn websocket(json: bool, deflated: bool) -> Variant {
        match (json, deflated) {
            (false, false) => Variant::WsProto,
            (true, false) => Variant::WsJson,
            (false, true) => Variant::WsProtoDeflate,
            (true, true) => Variant::WsJsonDeflate,
        }
    }
}
