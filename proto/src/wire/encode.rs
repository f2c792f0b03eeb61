//! Frames to bytes, for both ends and all variants.
//!
//! Owns the choice of whether a message is compressed. Never keeps anything between two calls.

use super::websocket::{self, Opcode};
use super::{Variant, deflate, json};
use crate::error::Code;
use crate::v1::{self, client_frame, server_frame};

/// Shorter messages go uncompressed on a deflate variant: the saving would be a few bytes, the
/// cost of deflate is paid by every reader.
const COMPRESS_BYTES_MIN: usize = 128;

/// Appends a server frame as a variant's connections are to receive it: the same bytes for all.
pub fn encode_server(body: &server_frame::Body, variant: Variant, out: &mut Vec<u8>) {
    if variant.is_json() {
        message(variant, None, out, |payload| json::write(body, payload));
    } else {
        binary(variant, None, body.encoded_len(), out, |payload| body.encode(payload));
    }
}

/// Appends a client frame; `mask` is drawn anew for each (RFC 6455 section 10.3), unused on TCP.
pub fn encode_client(
    body: &client_frame::Body,
    variant: Variant,
    mask: [u8; 4],
    out: &mut Vec<u8>,
) {
    if variant.is_json() {
        message(variant, Some(mask), out, |payload| json::write(body, payload));
    } else {
        binary(variant, Some(mask), body.encoded_len(), out, |payload| body.encode(payload));
    }
}

/// A protobuf frame of a known length: behind its length on TCP, else as a WebSocket message.
fn binary(
    variant: Variant,
    mask: Option<[u8; 4]>,
    length: usize,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>),
) {
    if variant.is_websocket() {
        return message(variant, mask, out, write);
    }
    out.reserve(length + 4);
    prost::encode_length_delimiter(length, out).expect("a Vec takes every byte"); // W-4
    write(out);
}

/// A WebSocket message of one frame.
fn message(
    variant: Variant,
    mask: Option<[u8; 4]>,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>),
) {
    let mut payload = Vec::new();
    write(&mut payload);
    let mut compressed = false;
    if variant.is_deflated() && payload.len() >= COMPRESS_BYTES_MIN {
        // W-26: compressed only where that is shorter.
        let mut small = Vec::new();
        deflate::compress(&payload, &mut small);
        if small.len() < payload.len() {
            payload = small;
            compressed = true;
        }
    }
    websocket::write(websocket::data_opcode(variant), compressed, &payload, mask, out);
}

/// Appends a server's WebSocket close; nothing on TCP. Code 1005 writes a close without a code;
/// a reason is cut to the 123 bytes there are, between two characters.
pub fn close_frame(variant: Variant, code: u16, reason: &str, out: &mut Vec<u8>) {
    if !variant.is_websocket() {
        return;
    }
    if code == 1005 {
        return websocket::write(Opcode::Close, false, &[], None, out);
    }
    let reason = &reason.as_bytes()[..reason.floor_char_boundary(123)];
    let payload = [&code.to_be_bytes(), reason].concat();
    websocket::write(Opcode::Close, false, &payload, None, out);
}

/// Appends a server's WebSocket ping of at most 125 bytes.
///
/// # Panics
/// Where the payload is longer.
pub fn ping_frame(payload: &[u8], out: &mut Vec<u8>) {
    control(Opcode::Ping, payload, out);
}

/// Appends a server's WebSocket pong: the answer to a ping, with its bytes.
///
/// # Panics
/// Where the payload is longer than 125 bytes, which no decoded ping is.
pub fn pong_frame(payload: &[u8], out: &mut Vec<u8>) {
    control(Opcode::Pong, payload, out);
}

fn control(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    assert!(payload.len() <= websocket::CONTROL_BYTES_MAX, "a control frame holds 125 bytes");
    websocket::write(opcode, false, payload, None, out);
}

/// The error frame of a code, about nothing in particular.
#[must_use]
pub fn error_body(code: Code) -> server_frame::Body {
    server_frame::Body::Error(v1::Error {
        code: code.number(),
        name: code.name().to_owned(),
        text: code.text().to_owned(),
        retry: code.retry(),
        ..v1::Error::default()
    })
}
