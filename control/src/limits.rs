//! How often somebody may try: token buckets by key, in memory of a fixed size.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicI64, Ordering};

/// Buckets of one table (512 KiB). Two keys in one bucket only slow each other down, and nobody
/// outside can tell which ones share.
const BUCKETS: usize = 65_536;

/// Token buckets: `burst` attempts at once, then one every `every_ms`.
///
/// A bucket is one number: the moment at which it is full again (GCRA). An attempt moves it by
/// `every_ms`, and is refused where that would be more than `burst * every_ms` ahead of now.
pub(crate) struct Limits {
    every_ms: i64,
    burst: i64,
    full_at_ms: Box<[AtomicI64]>,
    hasher: RandomState,
}

impl Limits {
    pub(crate) fn new(burst: u32, every_ms: u32) -> Limits {
        let full_at_ms = (0..BUCKETS).map(|_| AtomicI64::new(0)).collect();
        let (burst, every_ms) = (i64::from(burst), i64::from(every_ms));
        Limits { every_ms, burst, full_at_ms, hasher: RandomState::new() }
    }

    /// Takes one attempt of `key`, or tells in how many milliseconds there is one.
    pub(crate) fn take(&self, key: impl Hash, now_ms: i64) -> Result<(), u32> {
        // The remainder is below the table's length, so it fits.
        let bucket = usize::try_from(self.hasher.hash_one(key) % BUCKETS as u64).unwrap_or(0);
        let latest = now_ms + self.burst * self.every_ms;
        let taken = |full_at: i64| {
            let next = full_at.max(now_ms) + self.every_ms;
            (next <= latest).then_some(next)
        };
        let order = Ordering::Relaxed;
        match self.full_at_ms[bucket].fetch_update(order, order, taken) {
            Ok(_) => Ok(()),
            Err(full_at) => {
                let wait_ms = full_at.max(now_ms) + self.every_ms - latest;
                Err(u32::try_from(wait_ms).unwrap_or(u32::MAX).max(1))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_one_at_a_time() {
        let limits = Limits::new(3, 1_000);
        for _ in 0..3 {
            limits.take("alice", 50_000).unwrap();
        }
        assert_eq!(limits.take("alice", 50_000), Err(1_000));
        assert_eq!(limits.take("alice", 50_400), Err(600), "a refused attempt costs nothing");
        limits.take("alice", 51_000).unwrap();
        assert_eq!(limits.take("alice", 51_000), Err(1_000));
        for _ in 0..3 {
            limits.take("alice", 60_000).unwrap();
        }
        assert!(limits.take("alice", 60_000).is_err(), "a long rest fills it to the burst only");
    }

    #[test]
    fn another_key_is_not_slowed_down() {
        let limits = Limits::new(1, 1_000);
        let passed = (0..1_000).filter(|key| limits.take(key, 1_000).is_ok()).count();
        assert!(passed > 950, "{passed}: only keys that share a bucket wait");
    }
}
