//! What a shard counts, summed over shards when scraped.
//!
//! Each shard writes its own block with plain relaxed stores (one writer, so no locked
//! instruction); a scrape only reads. Owns names, help texts and labels of every engine figure.

use crate::router::{Books, CLASSES};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use uproar_proto::control::{Sample, SampleKind, SampleValue};
use uproar_proto::error::Code;

macro_rules! figures {
    ($($(#[doc = $doc:literal])* $variant:ident, $kind:ident, $name:literal, $help:literal;)*) => {
        /// A figure every shard keeps.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Figure { $(#[doc = $help] $variant,)* }
        const FIGURES: &[(SampleKind, &str, &str)] = &[$((SampleKind::$kind, $name, $help)),*];
    };
}

figures! {
    Connections, Gauge, "uproar_connections", "connections now";
    Accepted, Counter, "uproar_accepted_total", "connections accepted";
    Welcomed, Counter, "uproar_welcomed_total", "connections that got a welcome";
    Joins, Counter, "uproar_joins_total", "rooms joined";
    Leaves, Counter, "uproar_leaves_total", "rooms left, by request or by closing";
    Members, Gauge, "uproar_members", "memberships now";
    Rooms, Gauge, "uproar_rooms", "rooms whose home is here";
    RoomsLocal, Gauge, "uproar_rooms_with_members", "rooms with members here";
    Resumes, Counter, "uproar_resumes_total", "joins with a cursor that were served without a gap";
    BytesIn, Counter, "uproar_received_bytes_total", "bytes received from clients";
    FramesIn, Counter, "uproar_received_frames_total", "frames received from clients";
    FramesUnknown, Counter, "uproar_unknown_frames_total", "frames of unknown kind, ignored";
    SocketWrites, Counter, "uproar_socket_writes_total", "sends handed to sockets";
    SocketBytes, Counter, "uproar_socket_bytes_total", "bytes handed to sockets";
    SweepWrites, Counter, "uproar_sweep_writes_total", "sends of sweeps; one may carry many";
    ShortWrites, Counter, "uproar_short_writes_total", "sends a socket took in part or refused";
    Lagging, Gauge, "uproar_lagging", "connections with unsent bytes";
    LagEvents, Counter, "uproar_lag_events_total", "times a sweep met a full socket";
    Gaps, Counter, "uproar_gaps_total", "gap frames sent";
    GapMessages, Counter, "uproar_gap_messages_total", "messages named missing by gap frames";
    LostBatches, Counter, "uproar_lost_batches_total", "batches lost between a home and a shard";
    Batches, Counter, "uproar_batches_total", "batches put into a local ring";
    Verdicts, Counter, "uproar_verdicts_total", "verdicts sent to connections";
    Turns, Counter, "uproar_turns_total", "turns of the shard loop";
    CpuMicros, Counter, "uproar_shard_cpu_microseconds_total", "CPU time of the shard thread";
    UserBytes, Gauge, "uproar_shard_user_bytes", "bytes of the shard's tables and frames";
    QueueDropped, Counter, "uproar_queue_dropped_total", "messages between shards that did not fit";
    TokensChecked, Counter, "uproar_tokens_checked_total", "token signatures checked";
    TokensWaiting, Gauge, "uproar_tokens_waiting", "connections whose token waits for a check";
    LikesIn, Counter, "uproar_likes_total", "likes received";
    RingBytes, Gauge, "uproar_ring_bytes", "bytes of recent frames held for sweeps";
    InboxesOpened, Counter, "uproar_inboxes_opened_total", "connections whose inbox was opened";
    InboxesAnew, Counter, "uproar_inboxes_anew_total", "inboxes that asked for their groups anew";
    Inboxes, Gauge, "uproar_inboxes", "connections with an inbox";
    Mcasts, Gauge, "uproar_mcasts", "user and group mcasts with members here";
    Asked, Counter, "uproar_asked_total", "frames handed to control";
    Pushed, Counter, "uproar_pushed_total", "stored messages and their like handed to connections";
    PushesLost, Counter, "uproar_pushes_lost_total", "pushes that did not fit: a resync follows";
    Resyncs, Counter, "uproar_resyncs_total", "connections told to sync again";
    SeenLost, Counter, "uproar_presence_lost_total", "who-is-online notices control refused";
    ArchiveLost, Counter, "uproar_danmaku_untold_total", "archived lines dropped: the way was full";
    Filtered, Counter, "uproar_filter_hits_total", "messages refused by a word or a rule";
    FilterVersion, Gauge, "uproar_filter_version", "which filter list is in effect";
    Bans, Gauge, "uproar_bans", "users, devices and addresses banned from rooms whose home is here";
    BansDropped, Counter, "uproar_bans_dropped_total", "bans that made room for others: too many";
    BlocksVersion, Gauge, "uproar_blocks_version", "which list of blocks is in effect";
    BlockedDevices, Counter, "uproar_blocked_devices_total", "connects refused for a device";
    BlockedAddresses, Counter, "uproar_blocked_addresses_total", "connects refused for an address";
    BlockedClosed, Counter, "uproar_blocked_closed_total", "connections closed as the list changed";
    VotesIn, Counter, "uproar_votes_total", "answers to polls received";
    VotesCounted, Counter, "uproar_votes_counted_total", "answers to polls counted";
    VotesRefused, Counter, "uproar_votes_refused_total", "answers to polls refused";
    JudgeAsked, Counter, "uproar_publish_before_asked_total", "messages put to their platform";
    JudgeAllowed, Counter, "uproar_publish_before_allowed_total", "of those, allowed";
    JudgeReplaced, Counter, "uproar_publish_before_replaced_total", "of those, replaced";
    JudgeRefused, Counter, "uproar_publish_before_refused_total", "of those, refused";
    JudgeOpen, Counter, "uproar_publish_before_open_total", "of those, passed without a decision";
    JudgeClosed, Counter, "uproar_publish_before_closed_total", "of those, refused for want of one";
    PenaltiesTold, Counter, "uproar_room_penalties_told_total", "bans and mutes to be kept";
    PenaltiesLost, Counter, "uproar_room_penalties_lost_total", "of those that found no way";
    KeptAsked, Counter, "uproar_room_kept_asked_total", "questions of rooms what is kept of them";
    KeptHeld, Counter, "uproar_room_kept_held_total", "bans and mutes of a room's former lives";
    JudgeLate, Counter, "uproar_publish_before_late_total", "answers that nothing waited for";
    JudgeUnasked, Counter, "uproar_publish_before_unasked_total", "questions there was no way for";
    ReportsIn, Counter, "uproar_report_frames_total", "frames with reports of quality received";
    ReportsLost, Counter, "uproar_report_frames_lost_total", "of them, refused: the way was full";
    CombosForgotten, Counter, "uproar_combos_forgotten_total", "combos cut: too many at once";
    RepliesDropped, Counter, "uproar_replies_dropped_total", "replies to closing connections";
}

/// Upper bounds of the sweep and window histograms, milliseconds: powers of two from 1 to 4096.
const BUCKETS: usize = 13;

/// A histogram of milliseconds.
#[derive(Default)]
pub struct Millis {
    buckets: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
    count: AtomicU64,
}

impl Millis {
    /// Takes one observation in.
    pub fn observe_us(&self, us: u64) {
        let ms = us.div_ceil(1000).max(1);
        let bucket = (64 - (ms - 1).leading_zeros()) as usize;
        if let Some(bucket) = self.buckets.get(bucket) {
            add(bucket, 1);
        }
        add(&self.sum_us, us);
        add(&self.count, 1);
    }
}

fn add(cell: &AtomicU64, n: u64) {
    // One writer: a load and a store are enough, and cost no locked instruction.
    cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
}

/// Number of outcomes in the books.
const OUTCOMES: [&str; 6] = ["offered", "refused", "admitted", "merged", "shed", "expired"];
/// Names of classes by number.
pub const CLASS_NAMES: [&str; CLASSES] = ["chat", "system", "gift", "like"];

/// One shard's figures.
#[repr(align(128))]
pub struct ShardMetrics {
    figures: [AtomicU64; FIGURES.len()],
    closes: Vec<AtomicU64>,
    books: [[AtomicU64; CLASSES]; OUTCOMES.len()],
    pending: [AtomicU64; CLASSES],
    expected: [AtomicU64; CLASSES],
    sent: [AtomicU64; CLASSES],
    skipped: [AtomicU64; CLASSES],
    left: [AtomicU64; CLASSES],
    /// CPU time of whole sweeps.
    pub sweep: Millis,
    /// Batch windows at flush.
    pub window: Millis,
    /// Age of a message when it was handed to the first socket, from its receipt, or from the
    /// platform's decision about it.
    pub age: Millis,
    /// How long messages waited for their platform's decision.
    pub judged: Millis,
}

/// Why a connection ended, where it was not a code of ours.
const CLOSE_PEER: usize = 0;
const CLOSE_ERROR: usize = 1;

impl Default for ShardMetrics {
    fn default() -> ShardMetrics {
        ShardMetrics {
            figures: [const { AtomicU64::new(0) }; FIGURES.len()],
            closes: (0..Code::ALL.len() + 2).map(|_| AtomicU64::new(0)).collect(),
            books: Default::default(),
            pending: Default::default(),
            expected: Default::default(),
            sent: Default::default(),
            skipped: Default::default(),
            left: Default::default(),
            sweep: Millis::default(),
            window: Millis::default(),
            age: Millis::default(),
            judged: Millis::default(),
        }
    }
}

/// The right side of the delivery books: what became of each message for each member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Admitted while this member was in the room.
    Expected,
    /// Handed to its socket.
    Sent,
    /// Passed over; a gap tells.
    Skipped,
    /// The member left first.
    Left,
}

impl ShardMetrics {
    /// Adds to a counter.
    pub fn add(&self, figure: Figure, n: u64) {
        add(&self.figures[figure as usize], n);
    }

    /// Sets a gauge or a counter kept elsewhere.
    pub fn set(&self, figure: Figure, value: u64) {
        self.figures[figure as usize].store(value, Relaxed);
    }

    /// Reads one.
    #[must_use]
    pub fn get(&self, figure: Figure) -> u64 {
        self.figures[figure as usize].load(Relaxed)
    }

    /// Counts a close that a code of ours explains.
    pub fn closed(&self, code: Code) {
        let place = Code::ALL.iter().position(|c| *c == code).unwrap_or(0);
        add(&self.closes[place + 2], 1);
    }

    /// Counts a close by the peer (`errno` 0) or by a failed socket.
    pub fn closed_by_peer(&self, errno: i32) {
        add(&self.closes[if errno == 0 { CLOSE_PEER } else { CLOSE_ERROR }], 1);
    }

    /// Adds to the delivery books.
    pub fn deliver(&self, what: Delivery, by_class: &[u64; CLASSES], times: u64) {
        let cells = match what {
            Delivery::Expected => &self.expected,
            Delivery::Sent => &self.sent,
            Delivery::Skipped => &self.skipped,
            Delivery::Left => &self.left,
        };
        for (cell, n) in cells.iter().zip(by_class) {
            add(cell, n * times);
        }
    }

    /// Takes back what was counted as sent and was not.
    pub fn unsend(&self, by_class: &[u64; CLASSES]) {
        for (cell, n) in self.sent.iter().zip(by_class) {
            cell.store(cell.load(Relaxed).wrapping_sub(*n), Relaxed);
        }
    }

    /// The delivery books: expected, sent, skipped, left.
    #[must_use]
    pub fn deliveries(&self) -> [[u64; CLASSES]; 4] {
        let read = |cells: &[AtomicU64; CLASSES]| std::array::from_fn(|i| cells[i].load(Relaxed));
        [read(&self.expected), read(&self.sent), read(&self.skipped), read(&self.left)]
    }

    /// Adds what books of an edge or a home have gained.
    pub fn book(&self, gained: &Books) {
        let rows = [
            &gained.offered,
            &gained.refused,
            &gained.admitted,
            &gained.merged,
            &gained.shed,
            &gained.expired,
        ];
        for (cells, row) in self.books.iter().zip(rows) {
            for (cell, n) in cells.iter().zip(row) {
                add(cell, *n);
            }
        }
    }

    /// Sets what waits in edges and homes of this shard.
    pub fn set_pending(&self, pending: &[u64; CLASSES]) {
        for (cell, n) in self.pending.iter().zip(pending) {
            cell.store(*n, Relaxed);
        }
    }

    /// The books so far.
    #[must_use]
    pub fn books(&self) -> Books {
        let read = |row: usize| std::array::from_fn(|i| self.books[row][i].load(Relaxed));
        Books {
            offered: read(0),
            refused: read(1),
            admitted: read(2),
            merged: read(3),
            shed: read(4),
            expired: read(5),
        }
    }

    /// Closes by reason, for tests: peer, error, then the codes.
    #[must_use]
    pub fn closes_by(&self, code: Code) -> u64 {
        let place = Code::ALL.iter().position(|c| *c == code).unwrap_or(0);
        self.closes[place + 2].load(Relaxed)
    }
}

fn total(shards: &[std::sync::Arc<ShardMetrics>], read: impl Fn(&ShardMetrics) -> u64) -> f64 {
    shards.iter().map(|shard| read(shard)).sum::<u64>() as f64
}

/// Every figure of all shards, for a scrape. Figures of shards carry a `shard` label; books are
/// summed over the node.
#[must_use]
pub fn scrape(shards: &[std::sync::Arc<ShardMetrics>]) -> Vec<Sample> {
    let mut out = Vec::new();
    for (place, (kind, name, help)) in FIGURES.iter().copied().enumerate() {
        for (number, shard) in shards.iter().enumerate() {
            let value = shard.figures[place].load(Relaxed) as f64;
            let labels = vec![("shard", number.to_string())];
            out.push(Sample { name, help, kind, labels, value: SampleValue::Number(value) });
        }
    }
    for (number, shard) in shards.iter().enumerate() {
        out.push(Sample {
            name: "uproar_shard_cpu_seconds_total",
            help: "CPU time of the shard thread",
            kind: SampleKind::Counter,
            labels: vec![("shard", number.to_string())],
            value: SampleValue::Number(shard.get(Figure::CpuMicros) as f64 / 1e6),
        });
    }
    let reasons = ["PEER", "SOCKET_ERROR"].into_iter().chain(Code::ALL.iter().map(|c| c.name()));
    for (place, reason) in reasons.enumerate() {
        out.push(Sample {
            name: "uproar_closes_total",
            help: "connections ended, by reason",
            kind: SampleKind::Counter,
            labels: vec![("reason", reason.to_owned())],
            value: SampleValue::Number(total(shards, |s| s.closes[place].load(Relaxed))),
        });
    }
    scrape_books(shards, &mut out);
    for (name, help, pick) in [
        (
            "uproar_sweep_cpu_seconds",
            "CPU time of whole sweeps",
            (|s| &s.sweep) as fn(&ShardMetrics) -> &Millis,
        ),
        ("uproar_batch_window_seconds", "batch window at each flush", |s| &s.window),
        ("uproar_message_age_seconds", "age of messages when their sweep began", |s| &s.age),
        ("uproar_publish_before_seconds", "how long messages waited for a decision", |s| &s.judged),
    ] {
        out.push(histogram(name, help, shards, pick));
    }
    out
}

fn scrape_books(shards: &[std::sync::Arc<ShardMetrics>], out: &mut Vec<Sample>) {
    let mut by_class = |name,
                        help,
                        kind,
                        label: Option<(&'static str, &str)>,
                        read: &dyn Fn(&ShardMetrics, usize) -> u64| {
        for (class, class_name) in CLASS_NAMES.iter().enumerate() {
            let mut labels = vec![("class", (*class_name).to_owned())];
            labels.extend(label.map(|(k, v)| (k, v.to_owned())));
            let value = SampleValue::Number(total(shards, |s| read(s, class)));
            out.push(Sample { name, help, kind, labels, value });
        }
    };
    let counter = SampleKind::Counter;
    for (row, outcome) in OUTCOMES.iter().enumerate() {
        let help =
            "messages by outcome: offered = refused + admitted + merged + shed + expired + pending";
        by_class("uproar_messages_total", help, counter, Some(("outcome", outcome)), &|s, c| {
            s.books[row][c].load(Relaxed)
        });
    }
    by_class(
        "uproar_messages_pending",
        "messages offered and not yet decided",
        SampleKind::Gauge,
        None,
        &|s, c| s.pending[c].load(Relaxed),
    );
    let help = "deliveries: expected = sent + skipped + left + on their way";
    type Read = fn(&ShardMetrics, usize) -> u64;
    let rows: [(&str, Read); 4] = [
        ("expected", |s, c| s.expected[c].load(Relaxed)),
        ("sent", |s, c| s.sent[c].load(Relaxed)),
        ("skipped", |s, c| s.skipped[c].load(Relaxed)),
        ("left", |s, c| s.left[c].load(Relaxed)),
    ];
    for (what, read) in rows {
        by_class("uproar_deliveries_total", help, counter, Some(("what", what)), &read);
    }
}

fn histogram(
    name: &'static str,
    help: &'static str,
    shards: &[std::sync::Arc<ShardMetrics>],
    pick: fn(&ShardMetrics) -> &Millis,
) -> Sample {
    let mut below = 0;
    let mut buckets = Vec::with_capacity(BUCKETS);
    for place in 0..BUCKETS {
        below += shards.iter().map(|s| pick(s).buckets[place].load(Relaxed)).sum::<u64>();
        buckets.push(((1u64 << place) as f64 / 1e3, below));
    }
    let sum = total(shards, |s| pick(s).sum_us.load(Relaxed)) / 1e6;
    let count = shards.iter().map(|s| pick(s).count.load(Relaxed)).sum();
    let value = SampleValue::Histogram { buckets, sum, count };
    Sample { name, help, kind: SampleKind::Histogram, labels: Vec::new(), value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_falls_into_the_bucket_that_bounds_it() {
        let metrics = std::sync::Arc::new(ShardMetrics::default());
        for us in [1, 1000, 1001, 4000, 9_999_000] {
            metrics.sweep.observe_us(us);
        }
        let sample = histogram("x", "", &[metrics], |s| &s.sweep);
        let SampleValue::Histogram { buckets, count, .. } = sample.value else {
            panic!("a histogram")
        };
        assert_eq!(&buckets[..3], &[(0.001, 2), (0.002, 3), (0.004, 4)]);
        assert_eq!((buckets[12].1, count), (4, 5), "beyond the last bound only +Inf counts it");
    }

    #[test]
    fn figures_are_scraped_by_shard() {
        let shards = [std::sync::Arc::new(ShardMetrics::default()), Default::default()];
        shards[1].add(Figure::Joins, 3);
        shards[1].closed(Code::Kicked);
        let samples = scrape(&shards);
        let find = |name: &str, label: (&'static str, &str)| {
            let label = (label.0, label.1.to_owned());
            let found = samples.iter().find(|s| s.name == name && s.labels.contains(&label));
            found.map(|s| s.value.clone())
        };
        assert_eq!(find("uproar_joins_total", ("shard", "1")), Some(SampleValue::Number(3.0)));
        assert_eq!(
            find("uproar_closes_total", ("reason", "KICKED")),
            Some(SampleValue::Number(1.0))
        );
    }
}
