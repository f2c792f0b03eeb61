//! Seeded hashing: for tables, for rendezvous placement, for sample keys. Not for secrets.
//!
//! SipHash-1-3 of the standard library keyed by a seed that the configuration gives: random in
//! production, fixed in the simulator.

use std::hash::{BuildHasher, Hasher};

/// Builds hashers from a seed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seeded(pub u64);

#[expect(deprecated, reason = "the one SipHasher of std that takes a key")]
impl BuildHasher for Seeded {
    type Hasher = std::hash::SipHasher;

    fn build_hasher(&self) -> std::hash::SipHasher {
        std::hash::SipHasher::new_with_keys(self.0, self.0.rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15)
    }
}

/// The seeded hash of some bytes.
#[must_use]
pub fn hash_bytes(seed: u64, bytes: &[u8]) -> u64 {
    let mut hasher = Seeded(seed).build_hasher();
    hasher.write(bytes);
    hasher.finish()
}

/// One step of SplitMix64 (Steele, Lea, Flood 2014): turns a counter or an id into a key that
/// looks random. Bijective, so distinct inputs give distinct keys.
#[must_use]
pub fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A small seeded generator (SplitMix64): reconnect spreads, epochs, session names.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Equal seeds give equal sequences.
    #[must_use]
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let out = mix(self.0);
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        out
    }

    /// Uniform below `bound` (0 for bound 0); the bias is under 2^-32 for bounds under 2^32.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }
}
