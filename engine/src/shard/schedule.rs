//! When rooms and homes want their next tick: a heap of due times with lazy removal.
//!
//! For hundreds or thousands of slots, not for connections (those have the wheel).

use crate::seam::Tick;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Due times by slot number.
#[derive(Default)]
pub struct Schedule {
    heap: BinaryHeap<Reverse<(Tick, u32)>>,
    due: Vec<Tick>,
}

impl Schedule {
    /// Sets when a slot is due; `Tick::NEVER` takes it out.
    pub fn set(&mut self, slot: u32, at: Tick) {
        if self.due.len() <= slot as usize {
            self.due.resize(slot as usize + 1, Tick::NEVER);
        }
        if self.due[slot as usize] != at {
            self.due[slot as usize] = at;
            if at != Tick::NEVER {
                self.heap.push(Reverse((at, slot)));
            }
        }
    }

    /// Takes out one slot that is due; the caller sets it again.
    pub fn pop(&mut self, now: Tick) -> Option<u32> {
        while let Some(Reverse((at, slot))) = self.heap.peek().copied() {
            let stale = self.due[slot as usize] != at;
            if !stale && at > now {
                return None;
            }
            self.heap.pop();
            if !stale {
                self.due[slot as usize] = Tick::NEVER;
                return Some(slot);
            }
        }
        None
    }

    /// When the first slot is due (or an earlier time, never a later one).
    #[must_use]
    pub fn next_due(&self) -> Tick {
        self.heap.peek().map_or(Tick::NEVER, |Reverse((at, _))| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_due_time_of_a_slot_counts() {
        let mut schedule = Schedule::default();
        schedule.set(3, Tick(50));
        schedule.set(1, Tick(10));
        schedule.set(3, Tick(20));
        assert_eq!(schedule.pop(Tick(5)), None);
        assert_eq!(schedule.pop(Tick(60)), Some(1));
        assert_eq!(schedule.pop(Tick(60)), Some(3));
        assert_eq!(schedule.pop(Tick(60)), None);
        schedule.set(1, Tick(70));
        schedule.set(1, Tick::NEVER);
        assert_eq!(schedule.pop(Tick(100)), None);
        assert_eq!(schedule.next_due(), Tick::NEVER);
    }
}
