//! When each connection pings next: one coarse wheel, no timer per connection.
//!
//! Owns who is due in which tenth of a second. Never looks at a connection: an entry of one that
//! has ended meanwhile is told apart by its caller.

use uproar_engine::seam::Tick;

/// One step of the wheel.
const STEP_US: u64 = 100_000;
/// 409.6 s: beyond any heartbeat a server would ask for; longer waits are cut to this.
const STEPS: usize = 4096;

/// Connections by the step they are due in.
#[derive(Debug)]
pub(crate) struct Wheel {
    steps: Vec<Vec<u32>>,
    start: Tick,
    /// The first step that has not been taken.
    next: u64,
}

impl Wheel {
    pub(crate) fn new(start: Tick) -> Wheel {
        Wheel { steps: (0..STEPS).map(|_| Vec::new()).collect(), start, next: 0 }
    }

    /// When the next step is due.
    pub(crate) fn due(&self) -> Tick {
        Tick(self.start.0 + self.next * STEP_US)
    }

    /// Puts a connection in; returns the step by which it will be recognised.
    pub(crate) fn put(&mut self, conn: u32, at: Tick) -> u32 {
        let step =
            (at.since_us(self.start) / STEP_US).clamp(self.next + 1, self.next + STEPS as u64 - 1);
        self.steps[(step % STEPS as u64) as usize].push(conn);
        u32::try_from(step).unwrap_or(u32::MAX)
    }

    /// Takes the next step if it has come: its number and who is in it.
    pub(crate) fn take(&mut self, now: Tick) -> Option<(u32, Vec<u32>)> {
        if self.due() > now {
            return None;
        }
        let step = self.next;
        self.next += 1;
        let due = std::mem::take(&mut self.steps[(step % STEPS as u64) as usize]);
        Some((u32::try_from(step).unwrap_or(u32::MAX), due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_due_once_and_not_before_time() {
        let mut wheel = Wheel::new(Tick(1000));
        let at = |s: u64| Tick(1000 + s * 1_000_000);
        let steps: Vec<u32> = (1..=300).map(|s| wheel.put(s, at(u64::from(s)))).collect();
        let mut taken = Vec::new();
        for s in 0..=301 {
            while let Some((step, due)) = wheel.take(at(s)) {
                for conn in due {
                    assert!(u64::from(conn) <= s, "conn {conn} is due at {conn} s, not {s}");
                    assert_eq!(steps[conn as usize - 1], step);
                    taken.push(conn);
                }
            }
        }
        assert_eq!(taken, (1..=300).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_due_already_comes_with_the_next_step() {
        let mut wheel = Wheel::new(Tick(0));
        while wheel.take(Tick(5_000_000)).is_some() {}
        wheel.put(1, Tick(0));
        wheel.put(2, Tick::NEVER);
        let mut taken = Vec::new();
        while let Some((_, due)) = wheel.take(Tick(5_300_000)) {
            taken.extend(due);
        }
        assert_eq!(taken, [1]);
    }
}
