//! permessage-deflate (RFC 7692) without context takeover: every message stands alone.
//!
//! Owns the compressor and inflater, one of each per thread and reset before every message, so
//! that a connection costs nothing for having negotiated compression. Never decides whether a
//! message is compressed; the bound on what is inflated is the caller's.

use crate::error::Code;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use std::cell::RefCell;

/// What a sync flush ends with, and what RFC 7692 section 7.2.1 takes off each message.
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// Output grows by this much at a time: an honest message of a chat fits in one step, a bomb is
/// found out before it costs more than its bound.
const STEP_BYTES: usize = 4096;

thread_local! {
    // Level 6: compressed once a batch and variant, not once a member.
    static COMPRESS: RefCell<Compress> = RefCell::new(Compress::new(Compression::new(6), false));
    static INFLATE: RefCell<Decompress> = RefCell::new(Decompress::new(false));
}

/// Appends `payload` compressed, as the payload of one message.
pub(crate) fn compress(payload: &[u8], out: &mut Vec<u8>) {
    COMPRESS.with_borrow_mut(|deflate| {
        deflate.reset();
        let mut taken = 0;
        loop {
            out.reserve(STEP_BYTES.max((payload.len() - taken) / 2));
            let before = deflate.total_in();
            deflate
                .compress_vec(&payload[taken..], out, FlushCompress::Sync)
                .expect("a fresh compressor takes any bytes");
            taken += usize::try_from(deflate.total_in() - before).expect("no more than was given");
            // Room left over means that the flush came to its end.
            if taken == payload.len() && out.len() < out.capacity() {
                break;
            }
        }
    });
    assert!(out.ends_with(&TAIL), "a sync flush ends with an empty stored block");
    out.truncate(out.len() - TAIL.len());
}

/// Inflates the payload of one message into `out` (emptied first), never past `bytes_max`.
///
/// # Errors
/// `FrameTooLarge` as soon as more than `bytes_max` come out, `BadCompression` for what is not
/// deflate data. (A message cut short may pass as a shorter one; the frame in it will not decode.)
pub(crate) fn inflate(payload: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Result<(), Code> {
    out.clear();
    INFLATE.with_borrow_mut(|inflate| {
        inflate.reset(false);
        let mut rest = payload;
        let mut tail = &TAIL[..];
        loop {
            if out.len() == out.capacity() {
                // One byte above the bound tells a message that breaks it from one that fits.
                let target = (out.len() * 2).max(STEP_BYTES).min(bytes_max + 1);
                out.reserve_exact(target - out.len());
            }
            let (taken_before, made_before) = (inflate.total_in(), out.len());
            let status = inflate
                .decompress_vec(rest, out, FlushDecompress::Sync)
                .map_err(|_| Code::BadCompression)?; // W-28
            let taken = usize::try_from(inflate.total_in() - taken_before).expect("within rest");
            rest = &rest[taken..];
            if out.len() > bytes_max {
                return Err(Code::FrameTooLarge); // W-27: while inflating, not after
            }
            if status == Status::StreamEnd {
                // A final block; RFC 7692 section 7.2.3.4 lets one zero byte follow it.
                let ended = tail.is_empty() || matches!(rest, [] | [0]);
                return if ended { Ok(()) } else { Err(Code::BadCompression) };
            }
            if !rest.is_empty() {
                if taken == 0 && out.len() == made_before {
                    return Err(Code::BadCompression);
                }
            } else if out.len() < out.capacity() {
                // Room left over means that nothing more is waiting to come out.
                if tail.is_empty() {
                    return Ok(());
                }
                rest = std::mem::take(&mut tail);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inflated(payload: &[u8], bytes_max: usize) -> Result<Vec<u8>, Code> {
        let mut out = Vec::new();
        inflate(payload, bytes_max, &mut out)?;
        Ok(out)
    }

    #[test]
    fn what_is_compressed_inflates_to_itself_at_every_size_around_a_step() {
        let mut noise = 1_u32;
        for size in (0..300).chain(4000..4200).chain([65_535, 65_536, 70_000]) {
            let mut noisy = Vec::new();
            for _ in 0..size {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                noisy.push((noise >> 24) as u8);
            }
            for payload in [vec![b'a'; size], noisy] {
                let mut small = Vec::new();
                compress(&payload, &mut small);
                assert_eq!(inflated(&small, size), Ok(payload), "size {size}");
            }
        }
    }

    #[test]
    fn the_examples_of_rfc_7692_inflate() {
        // Section 7.2.3.1 to 7.2.3.6: one block, stored, final block, two blocks.
        for hex in [
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..],
            &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
            &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
        ] {
            assert_eq!(inflated(hex, 5).as_deref(), Ok(&b"Hello"[..]), "{hex:02x?}");
        }
    }

    #[test]
    fn a_bomb_is_found_out_at_its_bound_and_not_after() {
        let mut bomb = Vec::new();
        compress(&vec![0; 16 << 20], &mut bomb);
        assert!(bomb.len() < 20_000, "16 MiB of zeros are {} bytes", bomb.len());
        let mut out = Vec::new();
        assert_eq!(inflate(&bomb, 65_536, &mut out), Err(Code::FrameTooLarge));
        assert!(out.capacity() <= 65_537, "no more memory than the bound: {}", out.capacity());
        assert_eq!(inflated(&bomb, 16 << 20).map(|o| o.len()), Ok(16 << 20));
        assert_eq!(inflated(&bomb, (16 << 20) - 1), Err(Code::FrameTooLarge));
    }

    #[test]
    fn what_is_not_deflate_is_an_error() {
        assert_eq!(inflated(&[0xff; 16], 1000), Err(Code::BadCompression));
        let after_the_end = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x41, 0x42];
        assert_eq!(inflated(&after_the_end, 1000), Err(Code::BadCompression));
        assert_eq!(inflated(&[], 0).as_deref(), Ok(&b""[..]));
    }
}
