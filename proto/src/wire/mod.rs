//! Wire variants: how a frame is delimited, encoded and compressed.

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
