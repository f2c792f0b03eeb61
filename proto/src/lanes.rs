//! Lanes behind a failed send: what a client sent first is never stored behind what it sent later.
//!
//! A lane is what one connection sends to one conversation. Where one of its sends fails in a way
//! that a retry may mend, everything behind it fails too, until that very message comes again. Owns
//! which message each lane waits for, within a fixed room; reads no clock.
//!
//! Where the room is used up, a further lane that breaks cannot be remembered, nor which message it
//! waits for. To forget another lane instead would let what is on its way there overtake what
//! failed; and to let the new one on as soon as there is room would do the same in the middle of a
//! batch, whose first half has failed. So such a lane is closed by its hash alone, together with
//! the few that share it, until nothing of them has come for [`BROKEN_MAX`]: whatever was on its
//! way behind the failed send has come by then, which is what a remembered lane counts on too. Each
//! of these refusals says to come back later than that ([`Stop::retry_after_ms`]), at moments that
//! are spread, and is counted.

use crate::control::{ConnectionId, RETRY_AFTER_MS, refusal};
use crate::error::Code;
use crate::v1::{Send, client_frame, server_frame};
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A broken lane heals by itself after this long: its client has gone or given up.
const BROKEN_MAX: Duration = Duration::from_secs(30);
/// Broken lanes remembered. Reached: a further one is closed by its hash, see the module.
const BROKEN_LANES_MAX: usize = 65_536;
/// Hashes by which lanes are closed: 1 MiB, once there is one.
const CLOSED_MAX: usize = 65_536;
/// Lanes that healed by themselves are looked for this often at most, where there is no room.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A closed lane's client is told to come again after [`BROKEN_MAX`] and a second, and at most this
/// much later: those that share a hash must not keep each other out for ever.
const SPREAD_MS: u64 = 30_000;

/// A connection, and the hash of a conversation's name: it needs no room for names, and it is as
/// unlikely to be another's as 64 random bits are.
type Lane = (ConnectionId, u64);

/// What a broken lane waits for.
struct Awaited {
    /// The hash of a `client_msg_id`: one that is kept itself would keep the frame it came in.
    id: u64,
    since: Instant,
}

/// A send must fail for what failed before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// When its client is to send it again.
    pub retry_after_ms: u32,
}

impl Stop {
    /// What its client is told.
    #[must_use]
    pub fn refusal(self, body: &client_frame::Body) -> server_frame::Body {
        let mut told = refusal(body, Code::SlowDown);
        if let server_frame::Body::Sent(sent) = &mut told {
            sent.retry_after_ms = self.retry_after_ms;
        }
        told
    }
}

/// The broken ones.
pub struct Lanes {
    broken: HashMap<Lane, Awaited>,
    broken_max: usize,
    looked: Option<Instant>,
    /// By hash: until when nothing passes. Empty: none was ever closed.
    closed: Vec<Option<Instant>>,
    /// Counts lanes that could not be remembered, and sends that fail for it.
    unremembered: Arc<AtomicU64>,
}

impl Default for Lanes {
    fn default() -> Lanes {
        Lanes::counting(Arc::default())
    }
}

impl Lanes {
    /// None is broken; lanes that there is no room to remember, and sends that fail for it, are
    /// counted here.
    #[must_use]
    pub fn counting(unremembered: Arc<AtomicU64>) -> Lanes {
        let (broken, closed) = (HashMap::new(), Vec::new());
        Lanes { broken, broken_max: BROKEN_LANES_MAX, looked: None, closed, unremembered }
    }

    /// Whether a send must fail for what failed before it; the awaited one mends its lane.
    pub fn stops(&mut self, from: ConnectionId, send: &Send, now: Instant) -> Option<Stop> {
        // The rule, where nothing has failed: it costs no hash.
        if self.broken.is_empty() && self.closed.is_empty() {
            return None;
        }
        let lane = self.lane(from, send);
        match self.broken.get(&lane) {
            Some(awaited) if awaited.id != self.id(send) && now - awaited.since <= BROKEN_MAX => {
                Some(Stop { retry_after_ms: RETRY_AFTER_MS })
            }
            Some(_) => {
                self.broken.remove(&lane);
                None
            }
            None if self.is_closed(lane, now) => Some(self.close(lane, send, now)),
            None => None,
        }
    }

    /// A send has failed: its lane waits for it, unless it waits for an earlier one.
    pub fn breaks(&mut self, from: ConnectionId, send: &Send, now: Instant) {
        let lane = self.lane(from, send);
        if self.broken.contains_key(&lane) {
            return;
        }
        let looks = self.looked.is_none_or(|looked| now - looked >= LOOK_EVERY);
        if self.broken.len() >= self.broken_max && looks {
            self.looked = Some(now);
            self.broken.retain(|_, awaited| now - awaited.since <= BROKEN_MAX);
        }
        // A closed lane stays so: nobody knows what it waits for.
        if self.broken.len() >= self.broken_max || self.is_closed(lane, now) {
            self.close(lane, send, now);
        } else {
            let id = self.id(send);
            self.broken.insert(lane, Awaited { id, since: now });
        }
    }

    fn lane(&self, from: ConnectionId, send: &Send) -> Lane {
        (from, self.broken.hasher().hash_one(&send.conversation))
    }

    fn id(&self, send: &Send) -> u64 {
        self.broken.hasher().hash_one(&send.client_msg_id)
    }

    fn place(&self, lane: Lane) -> usize {
        (self.broken.hasher().hash_one(lane) % CLOSED_MAX as u64) as usize
    }

    fn is_closed(&self, lane: Lane, now: Instant) -> bool {
        let until = self.closed.get(self.place(lane)).copied().flatten();
        until.is_some_and(|until| now <= until)
    }

    fn close(&mut self, lane: Lane, send: &Send, now: Instant) -> Stop {
        self.closed.resize(CLOSED_MAX, None);
        let place = self.place(lane);
        self.closed[place] = Some(now + BROKEN_MAX);
        self.unremembered.fetch_add(1, Ordering::Relaxed);
        let wait_ms = BROKEN_MAX.as_millis() as u64 + 1_000 + self.id(send) % SPREAD_MS;
        Stop { retry_after_ms: wait_ms as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ConnectionId = ConnectionId { node: 0, shard: 0, conn: 1, serial: 1 };

    fn connection(serial: u64) -> ConnectionId {
        ConnectionId { serial, ..ONE }
    }

    fn send(conversation: &str, id: u8) -> Send {
        let client_msg_id = vec![id; 16].into();
        Send { conversation: conversation.into(), client_msg_id, ..Send::default() }
    }

    fn small(broken_max: usize) -> (Lanes, Arc<AtomicU64>) {
        let counted = Arc::new(AtomicU64::new(0));
        (Lanes { broken_max, ..Lanes::counting(Arc::clone(&counted)) }, counted)
    }

    #[test]
    fn behind_a_failed_send_nothing_passes_until_it_comes_again() {
        let [a, b] = [1, 2].map(|id| send("user:x", id));
        let now = Instant::now();
        let mut lanes = Lanes::default();
        assert_eq!(lanes.stops(ONE, &a, now), None);
        lanes.breaks(ONE, &a, now);
        lanes.breaks(ONE, &b, now);
        let stop = lanes.stops(ONE, &b, now);
        assert_eq!(stop, Some(Stop { retry_after_ms: 250 }), "it waits for the first that failed");
        assert_eq!(lanes.stops(connection(2), &b, now), None, "another connection, another lane");
        assert_eq!(lanes.stops(ONE, &send("user:y", 2), now), None, "so is another conversation");
        assert_eq!(lanes.stops(ONE, &a, now), None);
        assert_eq!(lanes.stops(ONE, &b, now), None, "mended");
    }

    #[test]
    fn a_lane_whose_client_gave_up_heals() {
        let [a, b] = [1, 2].map(|id| send("user:x", id));
        let now = Instant::now();
        let mut lanes = Lanes::default();
        lanes.breaks(ONE, &a, now);
        assert!(lanes.stops(ONE, &b, now + BROKEN_MAX).is_some());
        assert_eq!(lanes.stops(ONE, &b, now + BROKEN_MAX + Duration::from_millis(1)), None);
    }

    #[test]
    fn so_many_are_remembered_and_no_more_and_none_is_overtaken() {
        let (mut lanes, counted) = small(2);
        let [a, b] = [1, 2].map(|id| send("user:x", id));
        let now = Instant::now();
        for serial in 1..=9 {
            lanes.breaks(connection(serial), &a, now);
        }
        assert_eq!((lanes.broken.len(), counted.load(Ordering::Relaxed)), (2, 7));
        // The remembered ones go on as ever, and so does whoever failed nowhere.
        assert!(lanes.stops(connection(1), &b, now).is_some());
        assert_eq!(lanes.stops(connection(1), &a, now), None);
        assert_eq!(lanes.stops(connection(1), &b, now), None);
        assert_eq!(lanes.stops(connection(10), &b, now), None);
        // What is on its way behind one that is not remembered fails, now that there is room too.
        let stop = lanes.stops(connection(9), &b, now).expect("b was sent behind a");
        let patience = stop.retry_after_ms;
        assert!((31_000..61_000).contains(&patience), "{patience}");
        lanes.breaks(connection(9), &b, now);
        assert_eq!(lanes.broken.len(), 1, "nothing is remembered of it that may be wrong");
        assert!(lanes.stops(connection(9), &a, now).is_some(), "nobody knows that it is the first");
        // Who comes too soon waits anew; who comes as told begins anew, in order.
        let soon = now + BROKEN_MAX - Duration::from_secs(1);
        assert!(lanes.stops(connection(9), &a, soon).is_some());
        assert!(lanes.stops(connection(9), &a, soon + BROKEN_MAX).is_some());
        let later = soon + BROKEN_MAX + Duration::from_secs(31);
        assert_eq!(lanes.stops(connection(9), &a, later), None);
        assert_eq!(lanes.stops(connection(9), &b, later), None);
    }

    #[test]
    fn what_has_healed_makes_room() {
        let (mut lanes, counted) = small(1);
        let [a, b] = [1, 2].map(|id| send("user:x", id));
        let now = Instant::now();
        lanes.breaks(ONE, &a, now);
        let later = now + BROKEN_MAX + Duration::from_millis(1);
        lanes.breaks(connection(2), &a, later);
        assert_eq!((lanes.broken.len(), counted.load(Ordering::Relaxed)), (1, 0));
        assert!(lanes.stops(connection(2), &b, later).is_some());
    }
}
