//! Lanes behind a failed send: what a client sent first is never stored behind what it sent later.
//!
//! A lane is one connection's sends, or those to one conversation. Where one of them fails in a way
//! that a retry may mend, everything behind it fails too, until that very message comes again. Owns
//! which message each lane waits for; reads no clock.

use crate::control::ConnectionId;
use bytes::Bytes;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// A broken lane heals by itself after this long: its client has gone or given up.
const BROKEN_MAX: Duration = Duration::from_secs(30);
/// Broken lanes remembered. Reached: the oldest are forgotten.
const BROKEN_LANES_MAX: usize = 65_536;

/// The broken ones.
pub struct Lanes<L = ConnectionId> {
    broken: HashMap<L, (Bytes, Instant)>,
}

impl<L> Default for Lanes<L> {
    fn default() -> Lanes<L> {
        Lanes { broken: HashMap::new() }
    }
}

impl<L: Hash + Eq> Lanes<L> {
    /// Whether a send must fail for what failed before it; the awaited one mends its lane.
    pub fn stops(&mut self, lane: &L, client_msg_id: &Bytes, now: Instant) -> bool {
        match self.broken.get(lane) {
            None => false,
            Some((awaited, since)) if awaited == client_msg_id || now - *since > BROKEN_MAX => {
                self.broken.remove(lane);
                false
            }
            Some(_) => true,
        }
    }

    /// A send has failed: its lane waits for it, unless it waits for an earlier one.
    pub fn breaks(&mut self, lane: L, client_msg_id: &Bytes, now: Instant) {
        if self.broken.len() >= BROKEN_LANES_MAX {
            self.broken.retain(|_, (_, since)| now - *since <= BROKEN_MAX / 2);
        }
        self.broken.entry(lane).or_insert_with(|| (client_msg_id.clone(), now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behind_a_failed_send_nothing_passes_until_it_comes_again() {
        let one = ConnectionId { node: 0, shard: 0, conn: 1, serial: 1 };
        let other = ConnectionId { serial: 2, ..one };
        let [a, b] = [b"a", b"b"].map(|id| Bytes::from_static(id));
        let now = Instant::now();
        let mut lanes = Lanes::default();
        assert!(!lanes.stops(&one, &a, now));
        lanes.breaks(one, &a, now);
        lanes.breaks(one, &b, now);
        assert!(lanes.stops(&one, &b, now), "it waits for the first that failed");
        assert!(!lanes.stops(&other, &b, now), "another connection is another lane");
        assert!(!lanes.stops(&one, &a, now));
        assert!(!lanes.stops(&one, &b, now), "mended");
    }

    #[test]
    fn a_lane_whose_client_gave_up_heals() {
        let one = ConnectionId { node: 0, shard: 0, conn: 1, serial: 1 };
        let [a, b] = [b"a", b"b"].map(|id| Bytes::from_static(id));
        let now = Instant::now();
        let mut lanes = Lanes::default();
        lanes.breaks(one, &a, now);
        assert!(lanes.stops(&one, &b, now + BROKEN_MAX));
        assert!(!lanes.stops(&one, &b, now + BROKEN_MAX + Duration::from_millis(1)));
    }
}
