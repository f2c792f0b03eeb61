//! Chance and hashes: seeded, so that a run can be repeated.
//!
//! Owns the generator and the digest of a message's content. Never used for anything secret.

/// SplitMix64: small, fast, good enough to spread load.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Uniform in `0..bound`; 0 where the bound is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.next()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// Uniform in `0.0..1.0`.
    pub(crate) fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Spreads the bits of a word: bijective.
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A 64-bit digest of bytes; every byte, their order and their number count.
pub(crate) fn digest(seed: u64, bytes: &[u8]) -> u64 {
    let mut state = mix(seed ^ (bytes.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let word = u64::from_le_bytes(word.try_into().expect("chunks of 8"));
        state = mix(state ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
    }
    let mut tail = [0; 8];
    tail[..words.remainder().len()].copy_from_slice(words.remainder());
    mix(state ^ u64::from_le_bytes(tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_tells_content_length_and_order_apart() {
        let all = [
            digest(1, b""),
            digest(1, b"\0"),
            digest(1, b"abcdefgh"),
            digest(1, b"abcdefghi"),
            digest(1, b"abcdefgh\0"),
            digest(1, b"hgfedcba"),
            digest(2, b"abcdefgh"),
        ];
        for (i, a) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|b| a != b), "digest {i} is met twice");
        }
    }

    #[test]
    fn dice_are_uniform_enough_and_repeatable() {
        let mut dice = Dice::new(7);
        let mut counts = [0u32; 10];
        for _ in 0..10_000 {
            counts[usize::try_from(dice.below(10)).expect("below 10")] += 1;
        }
        assert!(counts.iter().all(|n| (850..1150).contains(n)), "{counts:?}");
        assert_eq!(Dice::new(3).next(), Dice::new(3).next());
        let share = dice.share();
        assert!((0.0..1.0).contains(&share));
    }
}
