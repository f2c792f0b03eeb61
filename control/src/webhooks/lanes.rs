//! What of an outbox is told next: conversations as lanes, with time and chance as values.
//!
//! Owns the order. One request at most carries events of a conversation, so they arrive in the
//! order of seq; several conversations go side by side. A lane that failed waits by itself and goes
//! alone, so that an event its receiver cannot take holds up its own conversation only; where
//! nothing goes through any more, the receiver counts as down and is asked by one request at a
//! time. Never asks the store and tells nobody.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

/// Lanes that wait to be told. Reached: the outbox is looked through again once there is room.
const READY_MAX: usize = 10_000;
/// Lanes whose failures are remembered. Reached: a further one is tried like a fresh one.
const FAILED_MAX: usize = 100_000;
/// A lane's wait after its first failure; it doubles with each one.
const LANE_WAIT: Duration = Duration::from_secs(1);
const LANE_WAIT_MAX: Duration = Duration::from_secs(300);
/// Failures in a row, of whatever lanes, after which the receiver counts as down.
const DOWN_AFTER: u32 = 3;
/// The pause of a receiver that is down; it doubles with each failure.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// The longest pause a receiver may ask for: by `Retry-After`, or by 410.
pub(super) const ASKED_PAUSE_MAX: Duration = Duration::from_secs(3_600);

/// Lanes of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    /// Conversations, each busy until [`Lanes::ended`].
    pub(super) convs: Vec<i64>,
    /// One event alone, or as many as a request takes.
    pub(super) one_event: bool,
    /// It failed before.
    pub(super) again: bool,
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ended {
    /// Conversations whose events were in the request, where it failed.
    pub(super) failed: Vec<i64>,
    /// Conversations with more events than were taken along.
    pub(super) more: Vec<i64>,
    /// The receiver did not take the request; false: it took it, or was not asked.
    pub(super) refused: bool,
    /// The receiver took it.
    pub(super) taken: bool,
    /// How long the receiver asks to be left alone.
    pub(super) pause: Option<Duration>,
}

#[derive(Clone, Copy)]
struct Failed {
    times: u32,
    /// Waits until then; `None`: it is ready or busy.
    until: Option<Instant>,
}

/// All lanes of one webhook.
pub(super) struct Lanes {
    lanes_per_request_max: usize,
    requests_max: usize,
    requests: usize,
    ready: VecDeque<i64>,
    /// Those in `ready`.
    listed: HashSet<i64>,
    /// Under way, and whether something came to them meanwhile.
    busy: HashMap<i64, bool>,
    failed: HashMap<i64, Failed>,
    /// Those that wait, by when they are tried again.
    due: BTreeSet<(Instant, i64)>,
    /// Some lane was not listed for want of room.
    overflowed: bool,
    failures_in_a_row: u32,
    /// Pauses since the receiver took something; above 0: it is down.
    pauses: u32,
    paused_until: Option<Instant>,
}

impl Lanes {
    pub(super) fn new(requests_max: usize, lanes_per_request_max: usize) -> Lanes {
        Lanes {
            lanes_per_request_max,
            requests_max,
            requests: 0,
            ready: VecDeque::new(),
            listed: HashSet::new(),
            busy: HashMap::new(),
            failed: HashMap::new(),
            due: BTreeSet::new(),
            overflowed: false,
            failures_in_a_row: 0,
            pauses: 0,
            paused_until: None,
        }
    }

    /// Something may wait in a conversation.
    pub(super) fn wake(&mut self, conv: i64) {
        if let Some(woken) = self.busy.get_mut(&conv) {
            *woken = true;
        } else if self.failed.get(&conv).is_none_or(|failed| failed.until.is_none()) {
            self.list(conv);
        }
    }

    fn list(&mut self, conv: i64) {
        if self.listed.contains(&conv) {
            return;
        }
        if self.ready.len() >= READY_MAX {
            self.overflowed = true;
            return;
        }
        self.listed.insert(conv);
        self.ready.push_back(conv);
    }

    /// Whether lanes may be listed without overflowing soon.
    pub(super) fn has_room(&self) -> bool {
        self.ready.len() < READY_MAX / 2
    }

    /// Whether lanes were left out since this was last asked: the outbox holds them.
    pub(super) fn take_overflowed(&mut self) -> bool {
        std::mem::take(&mut self.overflowed)
    }

    /// Whether nothing has gone through for a while.
    pub(super) fn is_down(&self) -> bool {
        self.pauses > 0
    }

    /// The next request, where one may go now.
    pub(super) fn take(&mut self, now: Instant) -> Option<Batch> {
        let requests_max = if self.is_down() { 1 } else { self.requests_max };
        if self.requests >= requests_max || self.paused_until.is_some_and(|until| until > now) {
            return None;
        }
        while let Some((until, conv)) = self.due.first().copied().filter(|(until, _)| *until <= now)
        {
            self.due.remove(&(until, conv));
            self.released(conv);
        }
        let first = self.pop()?;
        let mut batch = Batch { convs: vec![first], one_event: false, again: false };
        match self.failed.get(&first) {
            Some(failed) => (batch.one_event, batch.again) = (failed.times > 1, true),
            None => {
                while batch.convs.len() < self.lanes_per_request_max
                    && self.ready.front().is_some_and(|conv| !self.failed.contains_key(conv))
                {
                    batch.convs.extend(self.pop());
                }
            }
        }
        batch.convs.sort_unstable();
        self.busy.extend(batch.convs.iter().map(|conv| (*conv, false)));
        self.requests += 1;
        Some(batch)
    }

    fn pop(&mut self) -> Option<i64> {
        let conv = self.ready.pop_front()?;
        self.listed.remove(&conv);
        Some(conv)
    }

    /// A lane's wait is over.
    fn released(&mut self, conv: i64) {
        if let Some(failed) = self.failed.get_mut(&conv) {
            failed.until = None;
        }
        self.list(conv);
    }

    /// A request has ended. `chance` is any random number: it spreads waits.
    pub(super) fn ended(&mut self, batch: &Batch, ended: &Ended, now: Instant, chance: u64) {
        self.requests -= 1;
        for conv in &batch.convs {
            let woken = self.busy.remove(conv).unwrap_or(false);
            if ended.failed.contains(conv) {
                self.lane_failed(*conv, now, chance);
                continue;
            }
            self.failed.remove(conv);
            if woken || ended.more.contains(conv) {
                self.list(*conv);
            }
        }
        if ended.taken {
            self.receiver_is_up(now);
        } else if ended.refused {
            self.receiver_failed(ended.pause, now, chance);
        }
    }

    fn lane_failed(&mut self, conv: i64, now: Instant, chance: u64) {
        let times = self.failed.get(&conv).map_or(0, |failed| failed.times) + 1;
        if times == 1 && self.failed.len() >= FAILED_MAX {
            self.overflowed = true;
            return;
        }
        let until = now + spread(doubled(LANE_WAIT, times, LANE_WAIT_MAX), chance);
        self.failed.insert(conv, Failed { times, until: Some(until) });
        self.due.insert((until, conv));
    }

    fn receiver_is_up(&mut self, now: Instant) {
        self.failures_in_a_row = 0;
        if std::mem::take(&mut self.pauses) > 0 {
            // It has come back: nobody waits out what was meant for one that is away.
            self.paused_until = self.paused_until.filter(|until| *until > now);
            while let Some((_, conv)) = self.due.pop_first() {
                self.released(conv);
            }
        }
    }

    fn receiver_failed(&mut self, asked: Option<Duration>, now: Instant, chance: u64) {
        self.failures_in_a_row += 1;
        let is_paused = self.paused_until.is_some_and(|until| until > now);
        let pause = match asked {
            Some(asked) => asked.min(ASKED_PAUSE_MAX),
            // The others that were under way when it went down say nothing new.
            None if is_paused => return,
            None if self.pauses == 0 && self.failures_in_a_row < DOWN_AFTER => return,
            None => spread(doubled(PAUSE, self.pauses + 1, PAUSE_MAX), chance),
        };
        self.pauses += 1;
        self.paused_until = self.paused_until.max(Some(now + pause));
    }

    /// When to look again, where nothing else happens before.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        if let Some(until) = self.paused_until.filter(|until| *until > now) {
            return Some(until);
        }
        self.due.first().map(|(until, _)| *until)
    }
}

/// `first`, doubled with each failure after the first.
fn doubled(first: Duration, times: u32, most: Duration) -> Duration {
    first.saturating_mul(1_u32.checked_shl(times - 1).unwrap_or(u32::MAX)).min(most)
}

/// Between half of it and all of it.
fn spread(wait: Duration, chance: u64) -> Duration {
    let half = wait / 2;
    half + half.mul_f64(chance as f64 / u64::MAX as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(batch: &Batch) -> Ended {
        Ended { failed: batch.convs.clone(), refused: true, ..Ended::default() }
    }

    fn taken() -> Ended {
        Ended { taken: true, ..Ended::default() }
    }

    /// The longest wait.
    const LATE: u64 = u64::MAX;

    #[test]
    fn a_conversation_is_in_one_request_at_a_time() {
        let now = Instant::now();
        let mut lanes = Lanes::new(4, 2);
        for conv in [5, 3, 5, 9] {
            lanes.wake(conv);
        }
        let first = lanes.take(now).unwrap();
        assert_eq!(first.convs, [3, 5]);
        lanes.wake(5);
        let second = lanes.take(now).unwrap();
        assert_eq!(second.convs, [9]);
        assert_eq!(lanes.take(now), None, "5 is under way");
        lanes.ended(&first, &taken(), now, 0);
        assert_eq!(lanes.take(now).unwrap().convs, [5], "something came meanwhile");
        let more = Ended { more: vec![9], ..taken() };
        lanes.ended(&second, &more, now, 0);
        assert_eq!(lanes.take(now).unwrap().convs, [9], "there was more");
    }

    #[test]
    fn requests_under_way_are_bounded() {
        let now = Instant::now();
        let mut lanes = Lanes::new(2, 1);
        (1..=3).for_each(|conv| lanes.wake(conv));
        let (first, _second) = (lanes.take(now).unwrap(), lanes.take(now).unwrap());
        assert_eq!(lanes.take(now), None);
        lanes.ended(&first, &taken(), now, 0);
        assert_eq!(lanes.take(now).unwrap().convs, [3]);
    }

    #[test]
    fn a_lane_that_failed_waits_goes_alone_and_then_event_by_event() {
        let now = Instant::now();
        let mut lanes = Lanes::new(4, 8);
        lanes.wake(1);
        lanes.wake(2);
        let both = lanes.take(now).unwrap();
        lanes.ended(&both, &failed(&both), now, LATE);
        lanes.wake(1);
        lanes.wake(3);
        assert_eq!(lanes.take(now).unwrap().convs, [3], "others go on, and waking ends no wait");
        assert_eq!(lanes.take(now), None);
        assert_eq!(lanes.next(now), Some(now + LANE_WAIT));
        let later = now + LANE_WAIT;
        let first = lanes.take(later).unwrap();
        assert_eq!(first, Batch { convs: vec![1], one_event: false, again: true });
        assert_eq!(lanes.take(later).unwrap().convs, [2]);
        lanes.ended(&first, &failed(&first), later, LATE);
        assert_eq!(lanes.take(later + LANE_WAIT), None, "the wait has doubled");
        assert_eq!(lanes.take(later + 2 * LANE_WAIT).map(|batch| batch.one_event), Some(true));
    }

    #[test]
    fn a_poisoned_lane_never_holds_up_a_receiver_that_takes_the_others() {
        let mut now = Instant::now();
        let mut lanes = Lanes::new(1, 8);
        lanes.wake(1);
        for round in 0..20 {
            now += LANE_WAIT_MAX;
            let poison = lanes.take(now).unwrap();
            assert_eq!(poison.convs, [1], "{round}");
            lanes.ended(&poison, &failed(&poison), now, 7);
            lanes.wake(2 + round);
            let other = lanes.take(now).expect("no pause");
            lanes.ended(&other, &taken(), now, 7);
            assert!(!lanes.is_down());
        }
    }

    #[test]
    fn a_receiver_that_is_down_is_asked_by_one_request_at_a_time_and_comes_back_at_once() {
        let mut now = Instant::now();
        let mut lanes = Lanes::new(8, 1);
        (1..=20).for_each(|conv| lanes.wake(conv));
        let under_way: Vec<Batch> = std::iter::from_fn(|| lanes.take(now)).collect();
        assert_eq!(under_way.len(), 8);
        for batch in &under_way {
            lanes.ended(batch, &failed(batch), now, LATE);
        }
        assert!(lanes.is_down());
        assert_eq!(lanes.next(now), Some(now + PAUSE), "eight that failed together are one pause");
        let mut asked = 0;
        for _ in 0..3_600 {
            now += Duration::from_secs(1);
            while let Some(batch) = lanes.take(now) {
                assert_eq!(lanes.take(now), None, "one at a time");
                lanes.ended(&batch, &failed(&batch), now, LATE);
                asked += 1;
            }
        }
        assert!((100..=130).contains(&asked), "{asked} requests in an hour");
        now += PAUSE_MAX;
        let probe = lanes.take(now).unwrap();
        lanes.ended(&probe, &taken(), now, LATE);
        let mut left: Vec<i64> = probe.convs;
        while let Some(batch) = lanes.take(now) {
            left.extend(&batch.convs);
            lanes.ended(&batch, &taken(), now, LATE);
        }
        left.sort_unstable();
        assert_eq!(left, (1..=20).collect::<Vec<i64>>(), "all of them, without waiting");
    }

    #[test]
    fn a_pause_the_receiver_asks_for_is_kept_and_bounded() {
        let now = Instant::now();
        let mut lanes = Lanes::new(8, 1);
        (1..=3).for_each(|conv| lanes.wake(conv));
        let (one, other) = (lanes.take(now).unwrap(), lanes.take(now).unwrap());
        let asked = Duration::from_secs(77);
        lanes.ended(&one, &Ended { pause: Some(asked), ..failed(&one) }, now, 0);
        lanes.ended(&other, &taken(), now, 0);
        assert_eq!(lanes.take(now + asked - Duration::from_millis(1)), None);
        let probe = lanes.take(now + asked).unwrap();
        let century = Duration::from_secs(1 << 32);
        lanes.ended(&probe, &Ended { pause: Some(century), ..failed(&probe) }, now + asked, 0);
        assert_eq!(lanes.next(now + asked), Some(now + asked + ASKED_PAUSE_MAX));
    }

    #[test]
    fn what_finds_no_room_is_told_of() {
        let mut lanes = Lanes::new(1, 1);
        (0..READY_MAX as i64).for_each(|conv| lanes.wake(conv));
        assert!(!lanes.take_overflowed() && !lanes.has_room());
        lanes.wake(-1);
        assert!(lanes.take_overflowed() && !lanes.take_overflowed());
    }

    #[test]
    fn waits_are_spread_and_never_overflow() {
        assert_eq!(doubled(LANE_WAIT, 1, LANE_WAIT_MAX), LANE_WAIT);
        assert_eq!(doubled(LANE_WAIT, u32::MAX, LANE_WAIT_MAX), LANE_WAIT_MAX);
        let wait = Duration::from_secs(8);
        assert_eq!((spread(wait, 0), spread(wait, u64::MAX)), (wait / 2, wait));
    }
}
