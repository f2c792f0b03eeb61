//! Moments that never go back, whatever the clock does, not even over a restart.
//!
//! Owns the newest moment that was given out, and the bound that is remembered: no moment beyond it
//! is in the store or was told to a client. So a start reads one row, and no table for its newest.
//! The bound is written ahead of the time, before what needs it: a start may be ahead of the clock
//! by [`AHEAD_MS`] at most.

use std::sync::atomic::{AtomicI64, Ordering};
use tokio::sync::{Mutex, MutexGuard};

/// How far ahead the bound is written: at most one write a second for it while others write, none
/// while nobody does.
const AHEAD_MS: i64 = 2_000;
/// Where less than this is left, one writer writes the next bound beside its own work, so that
/// nobody waits for it.
const SOON_MS: i64 = 1_000;

/// Whether the next bound is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    No,
    /// By one, some time.
    Soon,
    /// Before anything with the newest moment is written.
    Now,
}

/// See the module.
pub(super) struct Moments {
    newest_ms: AtomicI64,
    bound_ms: AtomicI64,
    writing: Mutex<()>,
}

impl Moments {
    /// Those of a store that remembers this bound.
    pub(super) fn of(bound_ms: i64) -> Moments {
        let (newest_ms, bound_ms) = (AtomicI64::new(bound_ms), AtomicI64::new(bound_ms));
        Moments { newest_ms, bound_ms, writing: Mutex::new(()) }
    }

    /// The moment when the clock shows this.
    pub(super) fn at(&self, clock_ms: i64) -> i64 {
        self.newest_ms.fetch_max(clock_ms, Ordering::SeqCst).max(clock_ms)
    }

    pub(super) fn due(&self) -> Due {
        let left_ms = self.bound_ms.load(Ordering::SeqCst) - self.newest_ms.load(Ordering::SeqCst);
        match left_ms {
            ..0 => Due::Now,
            0..SOON_MS => Due::Soon,
            SOON_MS.. => Due::No,
        }
    }

    /// The next bound, and the right to write it; `None`: somebody else has it.
    pub(super) fn try_next(&self) -> Option<(MutexGuard<'_, ()>, i64)> {
        Some((self.writing.try_lock().ok()?, self.next()))
    }

    /// The same, once whoever writes one has done so; `None`: that one is enough.
    pub(super) async fn next_due(&self) -> Option<(MutexGuard<'_, ()>, i64)> {
        let writing = self.writing.lock().await;
        (self.due() == Due::Now).then(|| (writing, self.next()))
    }

    fn next(&self) -> i64 {
        self.newest_ms.load(Ordering::SeqCst).saturating_add(AHEAD_MS)
    }

    /// It is remembered.
    pub(super) fn kept(&self, bound_ms: i64) {
        self.bound_ms.fetch_max(bound_ms, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_written_before_it_is_needed_and_by_one() {
        let moments = Moments::of(5_000);
        assert_eq!(moments.at(1), 5_000, "a clock that was set back");
        assert_eq!(moments.due(), Due::Soon);
        let (writing, bound_ms) = moments.try_next().unwrap();
        assert_eq!(bound_ms, 7_000);
        assert!(moments.try_next().is_none(), "one is enough");
        moments.kept(bound_ms);
        drop(writing);
        assert_eq!(moments.due(), Due::No);
        assert_eq!(moments.at(6_001), 6_001);
        assert_eq!(moments.due(), Due::Soon);
        moments.at(7_000);
        assert_eq!(moments.due(), Due::Soon, "up to the bound itself");
        moments.at(7_001);
        assert_eq!(moments.due(), Due::Now);
    }
}
