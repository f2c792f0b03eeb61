//! What goes over a wire, and nothing that moves it.
//!
//! Owns the messages of `uproar.v1`, the three wire codecs, the table of error codes, the claims
//! of a token, whose tokens are taken, networks of addresses and who is kept out by them, and the
//! traits by which engine and control know each other.
//! No socket, no clock, no thread: bytes in, messages out.
#![forbid(unsafe_code)]

pub mod blocks;
pub mod control;
pub mod error;
pub mod ids;
pub mod inbox;
pub mod issuers;
pub mod lanes;
pub mod names;
pub mod networks;
pub mod token;
pub mod wire;

/// The messages of protocol version 1, generated from `uproar/v1/uproar.proto`.
#[allow(missing_docs)] // documented in the .proto file, whose comments the generator copies
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/uproar.v1.rs"));
}
