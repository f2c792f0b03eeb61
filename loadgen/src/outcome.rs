//! What a thread hands over at the end, and how threads are added up to one run.
//!
//! Owns the shape of a result. Never judges it.

use crate::crowd::publish::Books;
use crate::recent::Ledger;
use crate::tally::{Tally, micros};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use uproar_engine::seam::Tick;

/// How many times something happened, by what it was.
pub(crate) type Reasons = BTreeMap<String, u64>;

/// Adds one to a reason.
pub(crate) fn blame(reasons: &mut Reasons, what: &str) {
    *reasons.entry(what.to_owned()).or_default() += 1;
}

/// One thread's result, or the sum of several.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) tally: Tally,
    pub(crate) ledger: Ledger,
    pub(crate) books: Books,
    /// Viewers whose deliveries count.
    pub(crate) counted: u64,
    /// Of those never gapped and never lost: how many ended with which (measured messages, sum).
    pub(crate) sums: BTreeMap<(u32, u64), u64>,
    /// Of those with a gap: how many, and the measured deliveries they got all the same.
    pub(crate) gapped: [u64; 2],
    /// Where members stand at the end: (epoch, seq) and how many.
    pub(crate) cursors: BTreeMap<(u64, u64), u64>,
    /// Members whose resume failed and who were never told.
    pub(crate) gaps_owed: u64,
    /// Frozen viewers, those of them that were told a gap, and those still connected.
    pub(crate) frozen: [u64; 3],

    /// Connections in the room for the first time; begun first, finished last.
    pub(crate) established: u64,
    pub(crate) viewers_established: u64,
    pub(crate) first_begun: Tick,
    pub(crate) last_joined: Tick,
    /// Connections given up, and attempts that failed, by reason.
    pub(crate) failed: u64,
    pub(crate) failures: Reasons,
    /// From connect begun to in the room, microseconds.
    pub(crate) connect_us: Histogram<u64>,
    /// Connections lost after they were in the room, by reason.
    pub(crate) lost: u64,
    pub(crate) losses: Reasons,
    /// Error frames by code.
    pub(crate) errors: BTreeMap<u32, u64>,

    /// Lost connections: time away, microseconds, of those that came back; first loss, last back;
    /// how many are still away.
    pub(crate) away_us: Histogram<u64>,
    pub(crate) first_lost: Tick,
    pub(crate) last_back: Tick,
    pub(crate) still_away: u64,
    /// `Reconnect` frames received.
    pub(crate) asked_to_reconnect: u64,

    /// Joins and leaves that were answered, were due, and found their connection still busy.
    pub(crate) joins: u64,
    pub(crate) leaves: u64,
    pub(crate) churn_due: u64,
    pub(crate) churn_busy: u64,
    /// From join sent to joined, microseconds.
    pub(crate) join_us: Histogram<u64>,
    /// Connections closed and opened again in passing; due.
    pub(crate) passes: u64,
    pub(crate) passes_due: u64,

    /// Pings sent, answered; those whose successor was due before the answer.
    pub(crate) pings: u64,
    pub(crate) pongs: u64,
    pub(crate) pings_missed: u64,

    /// Likes offered; the counter before the first and at its largest.
    pub(crate) likes_offered: u64,
    pub(crate) likes_before: u64,
    pub(crate) likes_after: u64,

    /// How late this thread acted on its own timers, microseconds.
    pub(crate) timer_lag_us: Histogram<u64>,
    /// Share of its time it was on a core while it measured; the largest of all threads.
    pub(crate) busy_share: f64,
    /// CPU time while it measured, microseconds.
    pub(crate) cpu_us: u64,
    /// Frames received; received while measuring; decoded.
    pub(crate) frames: u64,
    pub(crate) frames_measured: u64,
    pub(crate) decoded: u64,
    /// What this machine ran out of.
    pub(crate) exhausted: Reasons,
}

impl Default for Outcome {
    fn default() -> Outcome {
        Outcome {
            tally: Tally::default(),
            ledger: Ledger::default(),
            books: Books::default(),
            counted: 0,
            sums: BTreeMap::new(),
            gapped: [0; 2],
            cursors: BTreeMap::new(),
            gaps_owed: 0,
            frozen: [0; 3],
            established: 0,
            viewers_established: 0,
            first_begun: Tick::NEVER,
            last_joined: Tick(0),
            failed: 0,
            failures: Reasons::new(),
            connect_us: micros(),
            lost: 0,
            losses: Reasons::new(),
            errors: BTreeMap::new(),
            away_us: micros(),
            first_lost: Tick::NEVER,
            last_back: Tick(0),
            still_away: 0,
            asked_to_reconnect: 0,
            joins: 0,
            leaves: 0,
            churn_due: 0,
            churn_busy: 0,
            join_us: micros(),
            passes: 0,
            passes_due: 0,
            pings: 0,
            pongs: 0,
            pings_missed: 0,
            likes_offered: 0,
            likes_before: 0,
            likes_after: 0,
            timer_lag_us: micros(),
            busy_share: 0.0,
            cpu_us: 0,
            frames: 0,
            frames_measured: 0,
            decoded: 0,
            exhausted: Reasons::new(),
        }
    }
}

fn sum<K: Ord + Clone>(into: &mut BTreeMap<K, u64>, from: &BTreeMap<K, u64>) {
    for (key, n) in from {
        *into.entry(key.clone()).or_default() += n;
    }
}

fn merge(into: &mut Histogram<u64>, from: &Histogram<u64>) {
    into.add(from).expect("all histograms have the same bounds");
}

impl Outcome {
    /// Adds another thread's result. Publishers are on one thread: its books are the books.
    pub(crate) fn add(&mut self, other: Outcome) {
        self.tally.add(&other.tally);
        self.ledger.add(&other.ledger);
        if other.books.whole.iter().any(|b| b.offered > 0) || other.books.unsent > 0 {
            self.books = other.books;
        }
        self.counted += other.counted;
        sum(&mut self.sums, &other.sums);
        sum(&mut self.cursors, &other.cursors);
        self.gaps_owed += other.gaps_owed;
        for (mine, other) in self.frozen.iter_mut().zip(other.frozen) {
            *mine += other;
        }
        for (mine, other) in self.gapped.iter_mut().zip(other.gapped) {
            *mine += other;
        }
        self.established += other.established;
        self.viewers_established += other.viewers_established;
        self.first_begun = self.first_begun.min(other.first_begun);
        self.last_joined = self.last_joined.max(other.last_joined);
        self.failed += other.failed;
        sum(&mut self.failures, &other.failures);
        merge(&mut self.connect_us, &other.connect_us);
        self.lost += other.lost;
        sum(&mut self.losses, &other.losses);
        sum(&mut self.errors, &other.errors);
        merge(&mut self.away_us, &other.away_us);
        self.first_lost = self.first_lost.min(other.first_lost);
        self.last_back = self.last_back.max(other.last_back);
        self.still_away += other.still_away;
        self.asked_to_reconnect += other.asked_to_reconnect;
        self.joins += other.joins;
        self.leaves += other.leaves;
        self.churn_due += other.churn_due;
        self.churn_busy += other.churn_busy;
        merge(&mut self.join_us, &other.join_us);
        self.passes += other.passes;
        self.passes_due += other.passes_due;
        self.pings += other.pings;
        self.pongs += other.pongs;
        self.pings_missed += other.pings_missed;
        self.likes_offered += other.likes_offered;
        // A thread without a count yet knows nothing; the counter only grows.
        self.likes_before = self.likes_before.max(other.likes_before);
        self.likes_after = self.likes_after.max(other.likes_after);
        merge(&mut self.timer_lag_us, &other.timer_lag_us);
        self.busy_share = self.busy_share.max(other.busy_share);
        self.cpu_us += other.cpu_us;
        self.frames += other.frames;
        self.frames_measured += other.frames_measured;
        self.decoded += other.decoded;
        sum(&mut self.exhausted, &other.exhausted);
    }
}
