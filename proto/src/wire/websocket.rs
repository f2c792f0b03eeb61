//! WebSocket frames (RFC 6455 section 5): headers, masks, control frames, close codes.
//!
//! Owns single frames. Never knows what is in a message, nor that messages are split
//! (`stream.rs` does).

use super::Variant;
use crate::error::Code;

/// Which end sent a frame: clients mask, servers do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    Client,
    Server,
}

/// The opcodes there are; the others are reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    Continuation = 0x0,
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xa,
}

impl Opcode {
    fn of(bits: u8) -> Option<Opcode> {
        Some(match bits {
            0x0 => Opcode::Continuation,
            0x1 => Opcode::Text,
            0x2 => Opcode::Binary,
            0x8 => Opcode::Close,
            0x9 => Opcode::Ping,
            0xa => Opcode::Pong,
            _ => return None,
        })
    }

    pub(crate) fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// Longest payload of a control frame (RFC 6455 section 5.5).
pub(crate) const CONTROL_BYTES_MAX: usize = 125;

/// A frame's header, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) fin: bool,
    pub(crate) compressed: bool,
    pub(crate) opcode: Opcode,
    pub(crate) mask: Option<[u8; 4]>,
    pub(crate) header_bytes: usize,
    pub(crate) payload_bytes: u64,
}

/// Reads a header; `None` while it is incomplete. Every rule is checked as soon as the byte it
/// stands in is there.
///
/// # Errors
/// `BadFrame` for a header that breaks a rule of RFC 6455 or 7692.
pub(crate) fn header(input: &[u8], sender: Sender, deflated: bool) -> Result<Option<Header>, Code> {
    let Some(&first) = input.first() else { return Ok(None) };
    let fin = first & 0x80 != 0;
    let compressed = first & 0x40 != 0;
    let opcode = Opcode::of(first & 0x0f).ok_or(Code::BadFrame)?; // W-22
    if first & 0x30 != 0 {
        return Err(Code::BadFrame); // W-22: RSV2 and RSV3 are of no extension here
    }
    let data_start = matches!(opcode, Opcode::Text | Opcode::Binary);
    if compressed && !(deflated && data_start) {
        return Err(Code::BadFrame); // W-22: RSV1 is of a compressed message's first frame only
    }
    if opcode.is_control() && !fin {
        return Err(Code::BadFrame); // W-23
    }
    let Some(&second) = input.get(1) else { return Ok(None) };
    let masked = second & 0x80 != 0;
    if masked != (sender == Sender::Client) {
        return Err(Code::BadFrame); // W-21
    }
    let short = second & 0x7f;
    if opcode.is_control() && usize::from(short) > CONTROL_BYTES_MAX {
        return Err(Code::BadFrame); // W-23
    }
    let (length_bytes, length_min) = match short {
        126 => (2, 126),
        127 => (8, 1 << 16),
        _ => (0, 0),
    };
    let header_bytes = 2 + length_bytes + if masked { 4 } else { 0 };
    let Some(length) = input.get(2..2 + length_bytes) else { return Ok(None) };
    let payload_bytes = match length_bytes {
        0 => u64::from(short),
        _ => length.iter().fold(0, |n, b| n << 8 | u64::from(*b)),
    };
    if payload_bytes < length_min || payload_bytes >> 63 != 0 {
        return Err(Code::BadFrame); // W-22: the shortest form of a length
    }
    let Some(mask) = input.get(2 + length_bytes..header_bytes) else { return Ok(None) };
    let mask = mask.try_into().ok();
    Ok(Some(Header { fin, compressed, opcode, mask, header_bytes, payload_bytes }))
}

/// Applies a mask, or takes it off.
pub(crate) fn mask(payload: &mut [u8], key: [u8; 4]) {
    let wide = u64::from_ne_bytes([key[0], key[1], key[2], key[3], key[0], key[1], key[2], key[3]]);
    let mut chunks = payload.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let bytes: [u8; 8] = (&*chunk).try_into().expect("chunks of 8");
        chunk.copy_from_slice(&(u64::from_ne_bytes(bytes) ^ wide).to_ne_bytes());
    }
    for (byte, key) in chunks.into_remainder().iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

/// Appends a whole frame.
pub(crate) fn write(
    opcode: Opcode,
    compressed: bool,
    payload: &[u8],
    mask_key: Option<[u8; 4]>,
    out: &mut Vec<u8>,
) {
    out.reserve(14 + payload.len());
    out.push(0x80 | if compressed { 0x40 } else { 0 } | opcode as u8);
    let mask_bit = if mask_key.is_some() { 0x80 } else { 0 };
    match payload.len() {
        n @ 0..=125 => out.push(mask_bit | u8::try_from(n).expect("at most 125")),
        n @ 126..=0xffff => {
            out.push(mask_bit | 126);
            out.extend_from_slice(&u16::try_from(n).expect("at most 65535").to_be_bytes());
        }
        n => {
            out.push(mask_bit | 127);
            out.extend_from_slice(&(n as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask_key.unwrap_or_default()[..if mask_key.is_some() { 4 } else { 0 }]);
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = mask_key {
        mask(&mut out[start..], key);
    }
}

/// The code of a close frame's payload; `None` where it has none.
///
/// # Errors
/// `BadFrame` for a payload of one byte or a code that may not be sent, `BadUtf8` for the reason.
pub(crate) fn close_code(payload: &[u8]) -> Result<Option<u16>, Code> {
    let [high, low, reason @ ..] = payload else {
        return if payload.is_empty() { Ok(None) } else { Err(Code::BadFrame) }; // W-24
    };
    let code = u16::from_be_bytes([*high, *low]);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Code::BadFrame); // W-24
    }
    match std::str::from_utf8(reason) {
        Ok(_) => Ok(Some(code)),
        Err(_) => Err(Code::BadUtf8), // W-24
    }
}

/// The opcode of a variant's messages.
pub(crate) fn data_opcode(variant: Variant) -> Opcode {
    if variant.is_json() { Opcode::Text } else { Opcode::Binary }
}
