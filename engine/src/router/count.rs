//! Counters that are pushed now and then: viewers and likes. Exact, and never more often than
//! configured.

use crate::seam::Tick;

/// One counter.
#[derive(Clone, Copy, Debug)]
pub struct Counter {
    value: u64,
    /// What viewers were last told, and when.
    told: u64,
    told_at: Option<Tick>,
    every_us: u64,
}

impl Counter {
    /// At 0, which needs no telling.
    #[must_use]
    pub fn new(every_ms: u32) -> Counter {
        Counter { value: 0, told: 0, told_at: None, every_us: u64::from(every_ms) * 1000 }
    }

    /// The value now.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.value
    }

    /// The value viewers were last told: what a snapshot shows, so that the next push (or none)
    /// fits it.
    #[must_use]
    pub fn told(&self) -> u64 {
        self.told
    }

    /// Sets it.
    pub fn set(&mut self, value: u64) {
        self.value = value;
    }

    /// Adds to it; stays at the largest number there is.
    pub fn add(&mut self, n: u64) {
        self.value = self.value.saturating_add(n);
    }

    /// When it may be pushed; `NEVER` where viewers know it.
    #[must_use]
    pub fn due(&self) -> Tick {
        self.due_spaced(0)
    }

    /// As [`Counter::due`], with at least so many microseconds since the last push.
    #[must_use]
    pub fn due_spaced(&self, space_us: u64) -> Tick {
        if self.value == self.told {
            return Tick::NEVER;
        }
        self.told_at.map_or(Tick(0), |at| Tick(at.0 + self.every_us.max(space_us)))
    }

    /// The value to push now, if it is due; counts as pushed.
    pub fn take(&mut self, now: Tick) -> Option<u64> {
        if self.due() > now {
            return None;
        }
        (self.told, self.told_at) = (self.value, Some(now));
        Some(self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_pushed_when_it_changed_and_not_too_often() {
        let mut likes = Counter::new(1_000);
        assert_eq!(likes.take(Tick(0)), None);
        likes.add(3);
        assert_eq!(likes.take(Tick(0)), Some(3));
        likes.add(2);
        assert_eq!((likes.take(Tick(999_999)), likes.due()), (None, Tick(1_000_000)));
        assert_eq!(likes.due_spaced(5_000_000), Tick(5_000_000));
        assert_eq!(likes.take(Tick(1_000_000)), Some(5));
        assert_eq!(likes.due(), Tick::NEVER);
    }
}
