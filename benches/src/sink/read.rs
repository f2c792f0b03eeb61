//! What a viewer makes of the bytes it gets: until it has joined every viewer reads, afterwards
//! only the sampled ones. Bounded: a frame above [`FRAME_BYTES_MAX`] is a fault of the server.

use crate::server::STAMP_BYTES;
use prost::Message as _;
use uproar_proto::v1::{ServerFrame, message::Content, server_frame::Body};

/// The largest frame that is waited for.
pub const FRAME_BYTES_MAX: usize = 8 << 20;

/// How frames are delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Any bytes are the answer that lets a viewer in.
    Answer,
    /// Messages of this many bytes, a stamp at the head of each.
    Stamped(usize),
    /// Varint length, then the frame.
    Tcp,
    /// An HTTP answer, then WebSocket messages.
    Ws,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The HTTP answer is 101.
    Upgraded,
    /// The server let this viewer into the room.
    Joined,
    /// A frame with messages; stamps are read one by one before it is reported.
    Messages(u32),
    /// A message was stamped with this time.
    Stamp(u64),
    /// The server told a gap.
    Gap,
    /// An answer to this viewer's own publishes: accepted, and not accepted.
    Verdicts(u32, u32),
    /// Some other frame.
    Other,
    /// The server refused, or sent what cannot be read: why.
    Refused(String),
}

/// Bytes of one viewer that do not make a frame yet.
#[derive(Debug)]
pub struct Reader {
    framing: Framing,
    upgraded: bool,
    bytes: Vec<u8>,
}

impl Reader {
    /// Nothing read yet.
    #[must_use]
    pub fn new(framing: Framing) -> Reader {
        Reader { framing, upgraded: false, bytes: Vec::new() }
    }

    /// Takes bytes and tells what they complete, in order. After `Refused` nothing is told.
    pub fn push(&mut self, bytes: &[u8], mut tell: impl FnMut(Found)) {
        self.bytes.extend_from_slice(bytes);
        let mut from = 0;
        loop {
            match self.next(&self.bytes[from..], &mut tell) {
                Ok(0) => break,
                Ok(used) => from += used,
                Err(why) => {
                    tell(Found::Refused(why));
                    from = self.bytes.len();
                    break;
                }
            }
            self.upgraded = true;
        }
        self.bytes.drain(..from);
    }

    /// One unit at the head of `bytes`: how long it is, 0 where it is not complete.
    fn next(&self, bytes: &[u8], tell: &mut impl FnMut(Found)) -> Result<usize, String> {
        match self.framing {
            Framing::Answer => {
                if !bytes.is_empty() {
                    tell(Found::Joined);
                }
                Ok(bytes.len())
            }
            Framing::Stamped(length) => {
                if bytes.len() < length {
                    return Ok(0);
                }
                tell(Found::Stamp(stamp_of(bytes)));
                tell(Found::Messages(1));
                Ok(length)
            }
            Framing::Ws if !self.upgraded => {
                let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else {
                    return Ok(0);
                };
                if !bytes.starts_with(b"HTTP/1.1 101") {
                    let line = bytes.split(|&b| b == b'\r').next().unwrap_or_default();
                    return Err(String::from_utf8_lossy(line).into_owned());
                }
                tell(Found::Upgraded);
                Ok(end + 4)
            }
            Framing::Tcp => delimited(bytes, varint(bytes)?, tell),
            Framing::Ws => delimited(bytes, ws_header(bytes), tell),
        }
    }
}

fn delimited(
    bytes: &[u8],
    header: Option<(usize, usize)>,
    tell: &mut impl FnMut(Found),
) -> Result<usize, String> {
    let Some((head, length)) = header else { return Ok(0) };
    if length > FRAME_BYTES_MAX {
        return Err(format!("a frame of {length} bytes"));
    }
    let Some(frame) = bytes.get(head..head + length) else { return Ok(0) };
    read_frame(frame, tell)?;
    Ok(head + length)
}

/// (bytes of the length, the length) of a varint; `None` where it is not complete.
fn varint(bytes: &[u8]) -> Result<Option<(usize, usize)>, String> {
    let mut value = 0_usize;
    for (i, byte) in bytes.iter().enumerate().take(5) {
        value |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Ok(Some((i + 1, value)));
        }
    }
    if bytes.len() < 5 { Ok(None) } else { Err("a length of more than 5 bytes".to_owned()) }
}

/// (bytes of the header, length of the payload) of an unmasked WebSocket message.
fn ws_header(bytes: &[u8]) -> Option<(usize, usize)> {
    match bytes.get(1)? & 0x7f {
        126 => Some((4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)))),
        127 => {
            let length = u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?);
            Some((10, usize::try_from(length).ok()?))
        }
        length => Some((2, usize::from(length))),
    }
}

/// The stamp at the head of a message; 0 where it is too short to carry one.
fn stamp_of(data: &[u8]) -> u64 {
    data.first_chunk::<STAMP_BYTES>().map_or(0, |stamp| u64::from_le_bytes(*stamp))
}

fn read_frame(frame: &[u8], tell: &mut impl FnMut(Found)) -> Result<(), String> {
    let frame = ServerFrame::decode(frame).map_err(|e| e.to_string())?;
    match frame.body {
        Some(Body::Joined(_)) => tell(Found::Joined),
        Some(Body::Batch(batch)) => {
            for message in &batch.messages {
                if let Some(Content::Data(data)) = &message.content {
                    tell(Found::Stamp(stamp_of(data)));
                }
            }
            tell(Found::Messages(batch.messages.len() as u32));
        }
        Some(Body::Gap(_)) => tell(Found::Gap),
        Some(Body::Verdicts(verdicts)) => {
            let all = verdicts.verdicts.len() as u32;
            let accepted = verdicts.verdicts.iter().filter(|v| v.outcome == 0).count() as u32;
            tell(Found::Verdicts(accepted, all - accepted));
        }
        Some(Body::Error(e)) => return Err(format!("{} {}: {}", e.code, e.name, e.text)),
        _ => tell(Found::Other),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use uproar_proto::v1::{Batch, Error, Joined, Message};

    fn all(framing: Framing, bytes: &[u8], step: usize) -> Vec<Found> {
        let (mut reader, mut found) = (Reader::new(framing), Vec::new());
        for part in bytes.chunks(step) {
            reader.push(part, |f| found.push(f));
        }
        found
    }

    fn stamped(stamp: u64) -> Message {
        let mut data = stamp.to_le_bytes().to_vec();
        data.resize(40, b'x');
        Message { content: Some(Content::Data(data.into())), ..Message::default() }
    }

    fn frames() -> Vec<ServerFrame> {
        let batch = Batch { messages: vec![stamped(5), stamped(6)], ..Batch::default() };
        [Body::Joined(Joined::default()), Body::Batch(batch)]
            .map(|body| ServerFrame { body: Some(body) })
            .to_vec()
    }

    const EXPECTED: [Found; 4] =
        [Found::Joined, Found::Stamp(5), Found::Stamp(6), Found::Messages(2)];

    #[test]
    fn frames_are_read_however_the_bytes_are_cut() {
        let bytes: Vec<u8> =
            frames().iter().flat_map(prost::Message::encode_length_delimited_to_vec).collect();
        for step in 1..=bytes.len() {
            assert_eq!(all(Framing::Tcp, &bytes, step), EXPECTED, "in steps of {step}");
        }
    }

    #[test]
    fn websocket_frames_are_read_behind_the_answer() {
        let mut bytes = b"HTTP/1.1 101 Switching Protocols\r\nA: b\r\n\r\n".to_vec();
        for frame in frames() {
            let payload = frame.encode_to_vec();
            bytes.extend([0x82, payload.len() as u8]);
            bytes.extend(payload);
        }
        let mut expected = vec![Found::Upgraded];
        expected.extend(EXPECTED);
        for step in 1..=bytes.len() {
            assert_eq!(all(Framing::Ws, &bytes, step), expected, "in steps of {step}");
        }
        let refused = all(Framing::Ws, b"HTTP/1.1 403 Forbidden\r\n\r\n", 100);
        assert_eq!(refused, [Found::Refused("HTTP/1.1 403 Forbidden".to_owned())]);
        assert_eq!(ws_header(&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]), Some((10, 65_536)));
    }

    #[test]
    fn stamped_messages_are_cut_at_their_length() {
        let mut bytes = Vec::new();
        for stamp in [7_u64, 8] {
            bytes.extend(stamp.to_le_bytes());
            bytes.extend([b'u'; 12]);
        }
        let expected = [Found::Stamp(7), Found::Messages(1), Found::Stamp(8), Found::Messages(1)];
        assert_eq!(all(Framing::Stamped(20), &bytes, 7), expected);
    }

    #[test]
    fn any_answer_lets_a_viewer_of_the_bare_server_in() {
        assert_eq!(all(Framing::Answer, b"uuuu", 4), [Found::Joined]);
    }

    #[test]
    fn a_server_that_refuses_is_quoted() {
        let error = Error { code: 1001, name: "SLOW_DOWN".into(), ..Error::default() };
        let frame = ServerFrame { body: Some(Body::Error(error)) };
        let found = all(Framing::Tcp, &frame.encode_length_delimited_to_vec(), 1000);
        assert_eq!(found, [Found::Refused("1001 SLOW_DOWN: ".to_owned())]);
        let found = all(Framing::Tcp, &[0xff; 10], 10);
        assert!(matches!(found[..], [Found::Refused(_)]), "{found:?}");
    }
}
