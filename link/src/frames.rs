//! Frames of the stream: each behind its length, written into chunks and read from whatever pieces
//! arrive.

use crate::v1::Told;
use bytes::{Buf, Bytes, BytesMut};
use prost::Message as _;

/// The largest frame: what a client may be sent at once (snapshots and pages are well below it).
/// Larger: the stream is broken.
const FRAME_BYTES_MAX: usize = 64 << 20;

/// Appends a frame.
pub(crate) fn write(seq: u64, tell: &Bytes, chunk: &mut Vec<u8>) {
    let told = Told { seq, tell: tell.clone() };
    chunk.reserve(told.encoded_len() + 10);
    // A Vec grows: there is always room.
    told.encode_length_delimited(chunk).expect("a vector has room");
}

/// A heartbeat.
pub(crate) fn beat() -> Bytes {
    let mut chunk = Vec::new();
    write(0, &Bytes::new(), &mut chunk);
    chunk.into()
}

/// Puts pieces together.
#[derive(Default)]
pub(crate) struct Reader {
    bytes: BytesMut,
}

impl Reader {
    /// Takes the next piece in.
    pub(crate) fn feed(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
    }

    /// The next whole frame; `None`: it has not arrived yet.
    ///
    /// # Errors
    /// What is wrong with the stream; nothing behind it can be read.
    pub(crate) fn next(&mut self) -> Result<Option<Told>, String> {
        let mut rest = &self.bytes[..];
        let length = match prost::encoding::decode_varint(&mut rest) {
            Ok(length) => usize::try_from(length).unwrap_or(usize::MAX),
            Err(_) if self.bytes.len() < 10 => return Ok(None),
            Err(error) => return Err(format!("a length of the stream: {error}")),
        };
        if length > FRAME_BYTES_MAX {
            return Err(format!("a frame of the stream has {length} bytes"));
        }
        if rest.len() < length {
            return Ok(None);
        }
        let start = self.bytes.len() - rest.len();
        self.bytes.advance(start);
        let frame = self.bytes.split_to(length).freeze();
        Told::decode(frame).map(Some).map_err(|e| format!("a frame of the stream: {e}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_whole_whatever_pieces_they_arrive_in() {
        let tells: Vec<Bytes> =
            [0, 1, 200, 70_000].iter().map(|length| Bytes::from(vec![7; *length])).collect();
        let mut stream = Vec::new();
        for (seq, tell) in (1..).zip(&tells) {
            write(seq, tell, &mut stream);
        }
        stream.extend_from_slice(&beat());
        for piece in [1, 2, 3, 1000, stream.len()] {
            let (mut reader, mut read) = (Reader::default(), Vec::new());
            for piece in stream.chunks(piece) {
                reader.feed(piece);
                while let Some(told) = reader.next().unwrap() {
                    read.push((told.seq, told.tell));
                }
            }
            assert_eq!(read.pop(), Some((0, Bytes::new())), "a heartbeat");
            assert_eq!(read, (1..).zip(tells.clone()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_is_no_frame_breaks_the_stream() {
        for junk in [&[0xff; 11][..], &[0xff, 0xff, 0xff, 0xff, 0x7f], &[2, 0xff, 0xff]] {
            let mut reader = Reader::default();
            reader.feed(junk);
            assert!(reader.next().is_err(), "{junk:?}");
        }
    }
}
