//! The publishers' books: what was offered, and what the server said became of it.
//!
//! Owns the open-loop schedule of messages and the verdicts still to come. Never sends: it says
//! what is due.

use crate::args::{CLASSES, Mix};
use crate::dice::Dice;
use crate::schedule::Schedule;
use crate::tally::micros;
use hdrhistogram::Histogram;
use std::collections::{BTreeMap, HashMap};
use uproar_engine::seam::Tick;
use uproar_proto::v1::{Class, Outcome, Verdict};

/// Classes by number, as in `v1::Class`.
pub(crate) const LIKE: usize = Class::Like as usize;

/// What became of the messages of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Book {
    pub(crate) offered: u64,
    pub(crate) accepted: u64,
    pub(crate) merged: u64,
    pub(crate) shed: u64,
    pub(crate) refused: u64,
    pub(crate) expired: u64,
}

impl Book {
    /// Offered, and nothing was heard of it.
    pub(crate) fn unanswered(&self) -> u64 {
        self.offered
            .saturating_sub(self.accepted + self.merged + self.shed + self.refused + self.expired)
    }

    /// Adds another book.
    pub(crate) fn add(&mut self, other: &Book) {
        self.offered += other.offered;
        self.accepted += other.accepted;
        self.merged += other.merged;
        self.shed += other.shed;
        self.refused += other.refused;
        self.expired += other.expired;
    }
}

/// All that publishers know at the end.
#[derive(Clone, Debug)]
pub(crate) struct Books {
    /// By class; messages after the warm-up only.
    pub(crate) measured: [Book; CLASSES.len()],
    /// By class; the whole run.
    pub(crate) whole: [Book; CLASSES.len()],
    /// (publisher, number) of accepted messages, with the seq they were given and whether they
    /// are measured.
    pub(crate) accepted: HashMap<(u32, u32), (u64, bool)>,
    /// Codes of everything that was not accepted.
    pub(crate) codes: BTreeMap<u32, u64>,
    /// Verdicts about messages that were never offered, or already decided.
    pub(crate) stray_verdicts: u64,
    /// Due while their publisher was not in the room: never offered.
    pub(crate) unsent: u64,
    /// Offered on a connection that ended before the verdict.
    pub(crate) in_flight_lost: u64,
    /// From sent to verdict, microseconds.
    pub(crate) verdict_us: Histogram<u64>,
}

impl Default for Books {
    fn default() -> Books {
        Books {
            measured: Default::default(),
            whole: Default::default(),
            accepted: HashMap::new(),
            codes: BTreeMap::new(),
            stray_verdicts: 0,
            unsent: 0,
            in_flight_lost: 0,
            verdict_us: micros(),
        }
    }
}

/// A message that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) publisher: u32,
    pub(crate) number: u32,
    pub(crate) class: Class,
    pub(crate) measured: bool,
    pub(crate) at: Tick,
}

/// An offered message whose verdict is still to come.
#[derive(Clone, Copy, Debug)]
struct Pending {
    class: Class,
    measured: bool,
    sent: Tick,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Publishers {
    schedule: Schedule,
    measured_from: Tick,
    count: u32,
    mix: Mix,
    dice: Dice,
    pending: HashMap<(u32, u32), Pending>,
    pub(crate) books: Books,
}

impl Publishers {
    /// `count` publishers without anything to do yet.
    pub(crate) fn new(count: u32, mix: Mix, seed: u64) -> Publishers {
        Publishers {
            schedule: Schedule::new(Tick(0), Tick(0), 0.0),
            measured_from: Tick::NEVER,
            count,
            mix,
            dice: Dice::new(seed),
            pending: HashMap::new(),
            books: Books::default(),
        }
    }

    /// Sets when messages are due.
    pub(crate) fn begin(&mut self, schedule: Schedule, measured_from: Tick) {
        if self.count > 0 {
            self.schedule = schedule;
            self.measured_from = measured_from;
        }
    }

    /// When the next message is due.
    pub(crate) fn due(&self) -> Tick {
        self.schedule.due()
    }

    /// Takes the next message if its time has come. They go round the publishers.
    pub(crate) fn take(&mut self, now: Tick) -> Option<Due> {
        let (number, at) = self.schedule.take(now)?;
        let count = u64::from(self.count);
        let publisher = (number % count) as u32;
        let number = u32::try_from(number / count).unwrap_or(u32::MAX);
        let class = self.draw();
        Some(Due { publisher, number, class, measured: at >= self.measured_from, at })
    }

    fn draw(&mut self) -> Class {
        let mut left = self.dice.share() * 100.0;
        for (class, share) in [Class::Chat, Class::System, Class::Gift].iter().zip(self.mix.0) {
            if left < share {
                return *class;
            }
            left -= share;
        }
        if self.mix.0[LIKE] > 0.0 { Class::Like } else { Class::Chat }
    }

    /// It was handed to its connection.
    pub(crate) fn offered(&mut self, due: &Due, now: Tick) {
        self.book(due.class, due.measured, |book| book.offered += 1);
        if due.class != Class::Like {
            let pending = Pending { class: due.class, measured: due.measured, sent: now };
            self.pending.insert((due.publisher, due.number), pending);
        }
    }

    fn book(&mut self, class: Class, measured: bool, change: impl Fn(&mut Book)) {
        change(&mut self.books.whole[class as usize]);
        if measured {
            change(&mut self.books.measured[class as usize]);
        }
    }

    /// A verdict came.
    pub(crate) fn verdict(&mut self, verdict: &Verdict, now: Tick) {
        let pending =
            read_id(&verdict.client_msg_id).and_then(|id| Some((id, self.pending.remove(&id)?)));
        let Some((id, pending)) = pending else {
            self.books.stray_verdicts += 1;
            return;
        };
        self.books.verdict_us.saturating_record(now.since_us(pending.sent).max(1));
        if verdict.code != 0 {
            *self.books.codes.entry(verdict.code).or_default() += 1;
        }
        let change: fn(&mut Book) = match Outcome::try_from(verdict.outcome) {
            Ok(Outcome::Accepted) => {
                self.books.accepted.insert(id, (verdict.seq, pending.measured));
                |book| book.accepted += 1
            }
            Ok(Outcome::Merged) => |book| book.merged += 1,
            Ok(Outcome::Shed) => |book| book.shed += 1,
            Ok(Outcome::Refused) => |book| book.refused += 1,
            Ok(Outcome::Expired) => |book| book.expired += 1,
            Err(_) => return, // of a later version: it stays unanswered, which is a failure
        };
        self.book(pending.class, pending.measured, change);
    }

    /// An error frame named a message: it was refused.
    pub(crate) fn refused(&mut self, client_msg_id: &[u8], code: u32) {
        let pending = read_id(client_msg_id).and_then(|id| self.pending.remove(&id));
        if let Some(pending) = pending {
            *self.books.codes.entry(code).or_default() += 1;
            self.book(pending.class, pending.measured, |book| book.refused += 1);
        }
    }

    /// A publisher's connection ended: what it had in flight is never answered.
    pub(crate) fn lost(&mut self, publisher: u32) {
        let before = self.pending.len();
        self.pending.retain(|id, _| id.0 != publisher);
        self.books.in_flight_lost += (before - self.pending.len()) as u64;
    }

    /// Messages whose verdict is still to come.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }
}

/// The id a message is published under.
pub(crate) fn write_id(publisher: u32, number: u32) -> [u8; 8] {
    (u64::from(publisher) << 32 | u64::from(number)).to_be_bytes()
}

fn read_id(bytes: &[u8]) -> Option<(u32, u32)> {
    let id = u64::from_be_bytes(bytes.try_into().ok()?);
    Some(((id >> 32) as u32, id as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publishers(mix: [f64; 4]) -> Publishers {
        let mut publishers = Publishers::new(3, Mix(mix), 1);
        let schedule = Schedule::new(Tick(0), Tick(2_000_000), 10.0);
        publishers.begin(schedule, Tick(1_000_000));
        publishers
    }

    fn answer(due: &Due, outcome: Outcome, seq: u64) -> Verdict {
        let client_msg_id = write_id(due.publisher, due.number).to_vec().into();
        Verdict { client_msg_id, outcome: outcome as i32, seq, ..Verdict::default() }
    }

    #[test]
    fn messages_go_round_and_the_warm_up_is_not_measured() {
        let mut publishers = publishers([100.0, 0.0, 0.0, 0.0]);
        let all: Vec<Due> = std::iter::from_fn(|| publishers.take(Tick::NEVER)).collect();
        assert_eq!(all.len(), 20);
        assert_eq!(all.iter().filter(|d| d.measured).count(), 10);
        let ids: Vec<_> = all.iter().take(4).map(|d| (d.publisher, d.number)).collect();
        assert_eq!(ids, [(0, 0), (1, 0), (2, 0), (0, 1)]);
    }

    #[test]
    fn every_outcome_goes_into_its_own_column_and_silence_is_unanswered() {
        let mut publishers = publishers([100.0, 0.0, 0.0, 0.0]);
        let all: Vec<Due> = std::iter::from_fn(|| publishers.take(Tick::NEVER)).collect();
        let measured: Vec<&Due> = all.iter().filter(|d| d.measured).collect();
        for due in &all {
            publishers.offered(due, due.at);
        }
        let outcomes =
            [Outcome::Accepted, Outcome::Merged, Outcome::Shed, Outcome::Refused, Outcome::Expired];
        for (due, outcome) in measured.iter().zip(outcomes) {
            publishers.verdict(&answer(due, outcome, 77), Tick(3_000_000));
        }
        publishers.refused(&write_id(measured[5].publisher, measured[5].number), 2006);
        let book = publishers.books.measured[0];
        let columns = [book.accepted, book.merged, book.shed, book.refused, book.expired];
        assert_eq!((book.offered, columns, book.unanswered()), (10, [1, 1, 1, 2, 1], 4));
        assert_eq!(publishers.pending(), 20 - 6);
        let id = (measured[0].publisher, measured[0].number);
        assert_eq!(publishers.books.accepted[&id], (77, true));
        assert_eq!(publishers.books.codes, BTreeMap::from([(2006, 1)]));
    }

    #[test]
    fn a_second_verdict_is_stray() {
        let mut publishers = publishers([100.0, 0.0, 0.0, 0.0]);
        let due = publishers.take(Tick(0)).expect("due at once");
        publishers.offered(&due, due.at);
        publishers.verdict(&answer(&due, Outcome::Accepted, 1), Tick(1));
        publishers.verdict(&answer(&due, Outcome::Accepted, 1), Tick(1));
        assert_eq!(publishers.books.stray_verdicts, 1);
        assert_eq!(publishers.books.whole[0].accepted, 1);
    }

    #[test]
    fn likes_wait_for_no_verdict_and_the_mix_is_kept() {
        let mut publishers = Publishers::new(10, Mix([47.0, 3.0, 10.0, 40.0]), 1);
        publishers.begin(Schedule::new(Tick(0), Tick(10_000_000), 1000.0), Tick(0));
        while let Some(due) = publishers.take(Tick::NEVER) {
            publishers.offered(&due, due.at);
        }
        let offered = publishers.books.measured.map(|b| b.offered);
        for (offered, share) in offered.iter().zip([47.0, 3.0, 10.0, 40.0]) {
            let percent = *offered as f64 / 100.0;
            assert!((percent - share).abs() < 2.0, "{offered:?} of 10000, not {share} %");
        }
        assert_eq!(publishers.pending() as u64, 10_000 - offered[LIKE]);
    }

    #[test]
    fn what_a_lost_connection_had_in_flight_is_not_waited_for() {
        let mut publishers = publishers([100.0, 0.0, 0.0, 0.0]);
        for _ in 0..4 {
            let due = publishers.take(Tick::NEVER).expect("due");
            publishers.offered(&due, due.at);
        }
        publishers.lost(0);
        assert_eq!((publishers.pending(), publishers.books.in_flight_lost), (2, 2));
    }
}
