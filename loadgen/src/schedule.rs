//! When things are due: an open loop, which never waits for the server.
//!
//! Owns the arithmetic of due times and the pacing of connects. A message is due when it is due,
//! whatever became of the one before: latency counts from then, so a stall of the server (or of
//! this tester) shows in every message it held up, not only in the first.

use uproar_engine::seam::Tick;

/// Evenly spaced moments, from `start` (included) to `end` (excluded).
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    start: Tick,
    end: Tick,
    per_s: f64,
    next: u64,
}

impl Schedule {
    /// `per_s` moments a second; none where it is 0.
    pub(crate) fn new(start: Tick, end: Tick, per_s: f64) -> Schedule {
        Schedule { start, end, per_s, next: 0 }
    }

    /// The next moment, whether past or to come; `NEVER` after the end.
    pub(crate) fn due(&self) -> Tick {
        if self.per_s <= 0.0 {
            return Tick::NEVER;
        }
        // Computed from the start each time: rounding does not add up.
        let after_us = (self.next as f64 * 1e6 / self.per_s) as u64;
        let due = Tick(self.start.0.saturating_add(after_us));
        if due < self.end { due } else { Tick::NEVER }
    }

    /// Takes the next moment if it has come: its number and when it was due.
    pub(crate) fn take(&mut self, now: Tick) -> Option<(u64, Tick)> {
        let due = self.due();
        if due > now || due == Tick::NEVER {
            return None;
        }
        self.next += 1;
        Some((self.next - 1, due))
    }
}

/// How many connects may have begun by now.
#[derive(Clone, Debug)]
pub(crate) struct Ramp {
    start: Tick,
    per_s: f64,
    begun: u64,
}

impl Ramp {
    /// `per_s` connects a second; 0: without pace (the number under way is bounded elsewhere).
    pub(crate) fn new(start: Tick, per_s: f64) -> Ramp {
        Ramp { start, per_s, begun: 0 }
    }

    /// When the next connect may begin.
    pub(crate) fn due(&self) -> Tick {
        if self.per_s <= 0.0 {
            return self.start;
        }
        Tick(self.start.0.saturating_add((self.begun as f64 * 1e6 / self.per_s) as u64))
    }

    /// Counts one that begins.
    pub(crate) fn begin(&mut self) {
        self.begun += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_times_do_not_depend_on_when_they_are_taken() {
        let mut late = Schedule::new(Tick(1_000_000), Tick(2_000_000), 20.0);
        assert_eq!(late.take(Tick(999_999)), None);
        assert_eq!(late.take(Tick(1_000_000)), Some((0, Tick(1_000_000))));
        // A stall of 180 ms: the messages of that time are due when they were due.
        let caught_up: Vec<u64> =
            std::iter::from_fn(|| late.take(Tick(1_190_000))).map(|(_, due)| due.0).collect();
        assert_eq!(caught_up, [1_050_000, 1_100_000, 1_150_000]);
        assert_eq!(late.due(), Tick(1_200_000));
    }

    #[test]
    fn a_schedule_has_exactly_rate_times_duration_moments_without_drift() {
        for (rate, seconds) in [(20.0, 20), (3.0, 7), (7.5, 100), (1000.0, 3)] {
            let end = Tick(5 + seconds * 1_000_000);
            let mut schedule = Schedule::new(Tick(5), end, rate);
            let mut taken = 0.0;
            while schedule.take(Tick::NEVER).is_some() {
                taken += 1.0;
            }
            assert!(
                (taken - rate * seconds as f64).abs() <= 1.0,
                "{rate}/s for {seconds} s: {taken}"
            );
            assert_eq!(schedule.due(), Tick::NEVER);
        }
        assert_eq!(Schedule::new(Tick(0), Tick(10), 0.0).due(), Tick::NEVER);
    }

    #[test]
    fn a_ramp_begins_as_many_as_its_pace_allows() {
        let mut ramp = Ramp::new(Tick(0), 1000.0);
        let mut begun = 0;
        while ramp.due() <= Tick(100_000) {
            ramp.begin();
            begun += 1;
        }
        assert_eq!(begun, 101);
        let mut free = Ramp::new(Tick(7), 0.0);
        free.begin();
        assert_eq!(free.due(), Tick(7));
    }
}
