//! What a test message says about itself: who sent it, which one it is, when it was due, and a
//! checksum over all of it.
//!
//! Text, because that is what a room carries; fixed-width hexadecimal, so that the length is the
//! one asked for. Owns writing and reading. Never decides when a message is due.

use crate::dice::{Dice, digest};
use uproar_engine::seam::Tick;

/// The smallest payload: the header with its checksum.
pub(crate) const PAYLOAD_BYTES_MIN: usize = 64;

const MAGIC: &[u8] = b"uproar:";
const CHECKSUM_BYTES: usize = 16;

/// What a message carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Tells runs apart: other testers may be in the same room.
    pub(crate) run: u32,
    /// The publisher's number within the run.
    pub(crate) publisher: u32,
    /// The message's number within its publisher.
    pub(crate) number: u32,
    /// Sent after the warm-up: counts in every figure.
    pub(crate) measured: bool,
    /// When it was due to be sent.
    pub(crate) due: Tick,
}

/// What a message's content turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// One of this run's, intact.
    Ours(Stamp),
    /// Of another sender or another run.
    Foreign,
    /// It claims to be of this run and is damaged.
    Damaged,
}

/// Writes a payload of exactly `bytes` bytes (at least [`PAYLOAD_BYTES_MIN`]).
pub(crate) fn write(stamp: &Stamp, bytes: usize) -> String {
    let measured = if stamp.measured { 'm' } else { 'w' };
    let mut text = format!(
        "uproar:{:08x}{:06x}{:08x}{measured}{:015x}",
        stamp.run, stamp.publisher, stamp.number, stamp.due.0
    );
    let mut dice = Dice::new(u64::from(stamp.run) << 32 ^ u64::from(stamp.number));
    while text.len() + CHECKSUM_BYTES < bytes {
        // Letters, digits and a few more: what people type, and not compressible to nothing.
        let letters = b"abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ";
        text.push(char::from(letters[(dice.next() & 63) as usize]));
    }
    let sum = digest(0, text.as_bytes());
    text.push_str(&format!("{sum:016x}"));
    text
}

/// Reads a payload back and checks it.
pub(crate) fn read(run: u32, bytes: &[u8]) -> Read {
    let claimed = bytes.strip_prefix(MAGIC).and_then(|rest| hex(rest.get(..8)?));
    if claimed != Some(u64::from(run)) {
        return Read::Foreign;
    }
    parse(bytes).map_or(Read::Damaged, Read::Ours)
}

fn parse(bytes: &[u8]) -> Option<Stamp> {
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM_BYTES)?)?;
    if hex(sum)? != digest(0, body) {
        return None;
    }
    let field = |at: usize, len: usize| hex(body.get(at..at + len)?);
    let measured = match body.get(29)? {
        b'm' => true,
        b'w' => false,
        _ => return None,
    };
    Some(Stamp {
        run: u32::try_from(field(7, 8)?).ok()?,
        publisher: u32::try_from(field(15, 6)?).ok()?,
        number: u32::try_from(field(21, 8)?).ok()?,
        measured,
        due: Tick(field(30, 15)?),
    })
}

fn hex(digits: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok()?;
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp() -> Stamp {
        Stamp {
            run: 0xdead_beef,
            publisher: 19,
            number: 400,
            measured: true,
            due: Tick(123_456_789),
        }
    }

    #[test]
    fn a_payload_has_the_length_asked_for_and_reads_back() {
        for bytes in [PAYLOAD_BYTES_MIN, 65, 256, 4096] {
            let text = write(&stamp(), bytes);
            assert_eq!(text.len(), bytes);
            assert_eq!(read(0xdead_beef, text.as_bytes()), Read::Ours(stamp()));
        }
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let text = write(&stamp(), 128).into_bytes();
        for place in 15..text.len() {
            let mut damaged = text.clone();
            damaged[place] ^= 1;
            assert_eq!(read(0xdead_beef, &damaged), Read::Damaged, "byte {place}");
        }
        assert_eq!(read(0xdead_beef, &text[..127]), Read::Damaged, "a cut end");
    }

    #[test]
    fn other_runs_and_other_senders_are_foreign() {
        assert_eq!(read(1, write(&stamp(), 64).as_bytes()), Read::Foreign);
        assert_eq!(read(1, b"hello"), Read::Foreign);
        assert_eq!(read(1, b""), Read::Foreign);
    }
}
