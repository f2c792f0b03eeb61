//! Coarse deadlines of connections: one wheel a shard, no timer per connection.
//!
//! Owns intrusive lists of connection slots, one list for each quarter of a second. A deadline is
//! never moved when a peer speaks: the slot fires at its old place, the caller looks at when the
//! peer was last heard, and inserts it again. Never decides what a deadline means.

use crate::seam::{ConnSlot, Tick};

/// No slot.
const NONE: u32 = u32::MAX;

/// Microseconds of one place of the wheel: handshake and idle deadlines are seconds, so a quarter
/// of a second is exact enough and an idle shard wakes four times a second.
pub const QUARTER_US: u64 = 250_000;

/// Places: 1024 quarters are 256 s, more than two missed heartbeats of a minute. A later deadline
/// fires early and is inserted again.
const PLACES: usize = 1024;

/// The links of one slot: 8 bytes, kept by the wheel in chunks that never move.
#[derive(Clone, Copy)]
struct Links {
    next: u32,
    prev: u32,
}

/// Marks `prev` of a list's first slot: the place's number is in the low bits.
const HEAD: u32 = 1 << 31;
const CHUNK: usize = 1024;

/// The wheel.
pub struct IdleWheel {
    heads: Vec<u32>,
    links: Vec<Box<[Links; CHUNK]>>,
    /// The quarter up to which everything has fired.
    fired: u64,
    used: usize,
}

impl IdleWheel {
    /// An empty wheel whose time begins at `now`.
    #[must_use]
    pub fn new(now: Tick) -> IdleWheel {
        IdleWheel {
            heads: vec![NONE; PLACES],
            links: Vec::new(),
            fired: now.0 / QUARTER_US,
            used: 0,
        }
    }

    /// Tells an empty wheel the time: it does not turn while nothing is in it.
    pub fn catch_up(&mut self, now: Tick) {
        if self.used == 0 {
            self.fired = now.0 / QUARTER_US;
        }
    }

    /// Puts a slot that is not in the wheel where it fires at or up to a quarter after `at`.
    pub fn insert(&mut self, conn: ConnSlot, at: Tick) {
        let wanted = at.0.div_ceil(QUARTER_US).max(self.fired + 1);
        let quarter = wanted.min(self.fired + PLACES as u64 - 1);
        let place = (quarter % PLACES as u64) as usize;
        while self.links.len() * CHUNK <= conn.0 as usize {
            self.links.push(Box::new([Links { next: NONE, prev: NONE }; CHUNK]));
        }
        assert!(self.link(conn.0).prev == NONE, "a slot is in the wheel at most once");
        let old = self.heads[place];
        *self.link(conn.0) = Links { next: old, prev: HEAD | place as u32 };
        if old != NONE {
            self.link(old).prev = conn.0;
        }
        self.heads[place] = conn.0;
        self.used += 1;
    }

    /// Takes a slot out; nothing where it is not in.
    pub fn remove(&mut self, conn: ConnSlot) {
        if (conn.0 as usize) >= self.links.len() * CHUNK || self.link(conn.0).prev == NONE {
            return;
        }
        let Links { next, prev } = *self.link(conn.0);
        if prev & HEAD != 0 {
            self.heads[(prev & !HEAD) as usize] = next;
        } else {
            self.link(prev).next = next;
        }
        if next != NONE {
            self.link(next).prev = prev;
        }
        *self.link(conn.0) = Links { next: NONE, prev: NONE };
        self.used -= 1;
    }

    /// Takes out one slot whose time has come; `None` when there is none left.
    pub fn fire(&mut self, now: Tick) -> Option<ConnSlot> {
        let due = now.0 / QUARTER_US;
        while self.fired < due {
            let place = ((self.fired + 1) % PLACES as u64) as usize;
            let first = self.heads[place];
            if first != NONE {
                self.remove(ConnSlot(first));
                return Some(ConnSlot(first));
            }
            self.fired += 1;
            if self.used == 0 {
                self.fired = due;
            }
        }
        None
    }

    /// When it wants to be asked again.
    #[must_use]
    pub fn next_due(&self) -> Tick {
        if self.used == 0 { Tick::NEVER } else { Tick((self.fired + 1) * QUARTER_US) }
    }

    /// Bytes of its tables.
    #[must_use]
    pub fn bytes_used(&self) -> usize {
        self.heads.len() * 4 + self.links.len() * CHUNK * size_of::<Links>()
    }

    fn link(&mut self, slot: u32) -> &mut Links {
        &mut self.links[slot as usize / CHUNK][slot as usize % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_slot_fires_once_at_its_quarter() {
        let mut wheel = IdleWheel::new(Tick(0));
        wheel.insert(ConnSlot(7), Tick(1_000_000));
        assert_eq!(wheel.fire(Tick(999_999)), None);
        assert_eq!(wheel.fire(Tick(1_000_000)), Some(ConnSlot(7)));
        assert_eq!(wheel.fire(Tick(9_000_000)), None);
        assert_eq!(wheel.next_due(), Tick::NEVER);
    }

    #[test]
    fn a_deadline_past_the_wheel_fires_early_and_may_be_inserted_again() {
        let mut wheel = IdleWheel::new(Tick(0));
        wheel.insert(ConnSlot(0), Tick(10_000 * 1_000_000));
        let fired = (1..2_000).find(|q| wheel.fire(Tick(q * QUARTER_US)).is_some());
        assert_eq!(fired, Some(PLACES as u64 - 1));
    }

    #[test]
    fn an_empty_wheel_that_slept_for_long_does_not_fire_the_next_slot_at_once() {
        let mut wheel = IdleWheel::new(Tick(0));
        let hour = Tick(3_600 * 1_000_000);
        wheel.catch_up(hour);
        wheel.insert(ConnSlot(1), hour.after_ms(5_000));
        assert_eq!(wheel.fire(hour.after_ms(4_000)), None);
        assert_eq!(wheel.fire(hour.after_ms(5_000)), Some(ConnSlot(1)));
    }

    proptest! {
        #[test]
        fn the_wheel_agrees_with_a_sorted_map(
            steps in prop::collection::vec((0u32..40, 0u64..30_000_000, 0u8..4), 1..400)
        ) {
            let mut wheel = IdleWheel::new(Tick(0));
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            let mut now = 0;
            for (slot, delta, what) in steps {
                match what {
                    0 | 1 => {
                        wheel.remove(ConnSlot(slot));
                        wheel.insert(ConnSlot(slot), Tick(now + delta));
                        let quarter = (now + delta).div_ceil(QUARTER_US).max(now / QUARTER_US + 1);
                        model.insert(slot, quarter);
                    }
                    2 => {
                        wheel.remove(ConnSlot(slot));
                        model.remove(&slot);
                    }
                    _ => {
                        now += delta;
                        let mut fired = Vec::new();
                        while let Some(conn) = wheel.fire(Tick(now)) {
                            fired.push(conn.0);
                        }
                        fired.sort_unstable();
                        let due: Vec<u32> = model
                            .iter()
                            .filter(|(_, quarter)| **quarter <= now / QUARTER_US)
                            .map(|(slot, _)| *slot)
                            .collect();
                        for slot in &due {
                            model.remove(slot);
                        }
                        prop_assert_eq!(fired, due);
                    }
                }
            }
        }
    }
}
