//! A stream of bytes cut into messages, for both ends and all variants.
//!
//! Owns the bytes that are not yet a whole message, and their bound. Never looks into a message:
//! it is handed on as it came, compressed where it came compressed.

use super::Variant;
use super::websocket::{self, Opcode, Sender};
use crate::error::Code;

/// One unit of a stream, not decoded. Borrowed from the decoder: use it before the next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawFrame<'a> {
    /// A frame of the protocol: protobuf or JSON, deflated where `compressed`.
    Message {
        /// The bytes, without length or WebSocket header, unmasked, fragments joined.
        payload: &'a [u8],
        /// Whether they are deflated.
        compressed: bool,
    },
    /// A WebSocket ping: to be answered with `pong_frame` of the same bytes.
    Ping(&'a [u8]),
    /// A WebSocket pong.
    Pong,
    /// A WebSocket close, checked. Nothing follows.
    Close {
        /// Why, where it says.
        code: Option<u16>,
    },
}

/// The bytes of one direction of one connection. Empty, it owns no memory.
#[derive(Debug)]
pub(crate) struct Stream {
    variant: Variant,
    sender: Sender,
    frame_bytes_max: usize,
    /// Bytes as they came; those before `start` are used up.
    buf: Vec<u8>,
    start: usize,
    /// The payload of a message whose last fragment is still to come.
    fragments: Vec<u8>,
    /// Whether that message is compressed; `None` where there is none.
    fragmented: Option<bool>,
    /// The fragments were handed out as a message and are to be dropped.
    handed_out: bool,
    /// A close came, or an error was found: the rest of the stream means nothing.
    ended: Option<Result<(), Code>>,
}

/// Where the next unit lies: computed before anything is borrowed.
enum Unit {
    Whole { payload: std::ops::Range<usize>, compressed: bool },
    Joined { compressed: bool },
    Ping(std::ops::Range<usize>),
    Pong,
    Close(Option<u16>),
}

impl Stream {
    pub(crate) fn new(variant: Variant, sender: Sender, frame_bytes_max: usize) -> Stream {
        Stream {
            variant,
            sender,
            frame_bytes_max,
            buf: Vec::new(),
            start: 0,
            fragments: Vec::new(),
            fragmented: None,
            handed_out: false,
            ended: None,
        }
    }

    pub(crate) fn variant(&self) -> Variant {
        self.variant
    }

    pub(crate) fn frame_bytes_max(&self) -> usize {
        self.frame_bytes_max
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        if self.ended.is_some() {
            return; // W-29
        }
        if self.start > 0 {
            self.buf.drain(..self.start);
            self.start = 0;
        }
        self.buf.extend_from_slice(bytes);
    }

    pub(crate) fn is_idle(&self) -> bool {
        let partial = self.fragmented.is_some() && !self.handed_out;
        self.start == self.buf.len() && !partial && self.ended.is_none()
    }

    pub(crate) fn bytes_used(&self) -> usize {
        let fragments = if self.handed_out { 0 } else { self.fragments.len() };
        self.buf.len() - self.start + fragments
    }

    pub(crate) fn next(&mut self) -> Result<Option<RawFrame<'_>>, Code> {
        if let Some(ended) = self.ended {
            return ended.map(|()| None);
        }
        if self.handed_out {
            self.handed_out = false;
            self.fragmented = None;
            self.fragments.clear();
        }
        let found = if self.variant.is_websocket() { self.websocket() } else { self.tcp() };
        match found {
            Ok(None) => Ok(None),
            Ok(Some(Unit::Whole { payload, compressed })) => {
                Ok(Some(RawFrame::Message { payload: &self.buf[payload], compressed }))
            }
            Ok(Some(Unit::Joined { compressed })) => {
                self.handed_out = true;
                Ok(Some(RawFrame::Message { payload: &self.fragments, compressed }))
            }
            Ok(Some(Unit::Ping(payload))) => Ok(Some(RawFrame::Ping(&self.buf[payload]))),
            Ok(Some(Unit::Pong)) => Ok(Some(RawFrame::Pong)),
            Ok(Some(Unit::Close(code))) => {
                self.end(Ok(()));
                Ok(Some(RawFrame::Close { code }))
            }
            Err(code) => {
                self.end(Err(code));
                Err(code)
            }
        }
    }

    /// Drops every byte: what comes after a close or an error is not read.
    pub(crate) fn end(&mut self, how: Result<(), Code>) {
        self.ended = Some(how);
        self.buf = Vec::new();
        self.start = 0;
        self.fragments = Vec::new();
        self.fragmented = None;
    }

    fn tcp(&mut self) -> Result<Option<Unit>, Code> {
        let input = &self.buf[self.start..];
        let Some((length, length_bytes)) = length_prefix(input)? else { return Ok(None) };
        if length > self.frame_bytes_max {
            return Err(Code::FrameTooLarge); // W-5
        }
        let end = length_bytes + length;
        if input.len() < end {
            return Ok(None);
        }
        let payload = self.start + length_bytes..self.start + end;
        self.start += end;
        Ok(Some(Unit::Whole { payload, compressed: false }))
    }

    fn websocket(&mut self) -> Result<Option<Unit>, Code> {
        loop {
            let input = &self.buf[self.start..];
            let deflated = self.variant.is_deflated();
            let Some(header) = websocket::header(input, self.sender, deflated)? else {
                return Ok(None);
            };
            let data = !header.opcode.is_control();
            if data {
                self.check_order(header.opcode)?;
            }
            // The bound is on the whole message, whatever number of fragments carries it.
            let held = if data { self.fragments.len() } else { 0 };
            let length = usize::try_from(header.payload_bytes).map_err(|_| Code::FrameTooLarge)?;
            if length.saturating_add(held) > self.frame_bytes_max {
                return Err(Code::FrameTooLarge); // W-5
            }
            let end = header.header_bytes + length;
            if input.len() < end {
                return Ok(None);
            }
            let payload = self.start + header.header_bytes..self.start + end;
            self.start += end;
            if let Some(key) = header.mask {
                websocket::mask(&mut self.buf[payload.clone()], key);
            }
            match header.opcode {
                Opcode::Ping => return Ok(Some(Unit::Ping(payload))),
                Opcode::Pong => return Ok(Some(Unit::Pong)),
                Opcode::Close => {
                    return websocket::close_code(&self.buf[payload]).map(|c| Some(Unit::Close(c)));
                }
                Opcode::Text | Opcode::Binary if header.fin => {
                    return Ok(Some(Unit::Whole { payload, compressed: header.compressed }));
                }
                Opcode::Text | Opcode::Binary => self.fragmented = Some(header.compressed),
                Opcode::Continuation => {}
            }
            self.fragments.extend_from_slice(&self.buf[payload]);
            if header.fin {
                let compressed = self.fragmented.unwrap_or(false);
                return Ok(Some(Unit::Joined { compressed }));
            }
        }
    }

    /// A message's frames follow each other, and are of the one type the variant has.
    fn check_order(&self, opcode: Opcode) -> Result<(), Code> {
        let continues = opcode == Opcode::Continuation;
        if continues != self.fragmented.is_some() {
            return Err(Code::BadFrame); // W-23
        }
        if !continues && opcode != websocket::data_opcode(self.variant) {
            return Err(Code::BadFrame); // W-17
        }
        Ok(())
    }
}

/// The length before a frame and its own length; `None` while it is incomplete.
fn length_prefix(input: &[u8]) -> Result<Option<(usize, usize)>, Code> {
    let mut length = 0;
    for (i, byte) in input.iter().take(LENGTH_BYTES_MAX).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Ok(Some((length, i + 1)));
        }
    }
    // W-5: a fifth byte would announce more than any bound allows.
    if input.len() >= LENGTH_BYTES_MAX { Err(Code::FrameTooLarge) } else { Ok(None) }
}

/// Four bytes of seven bits: 256 MiB, above every bound a server can be given.
const LENGTH_BYTES_MAX: usize = 4;
