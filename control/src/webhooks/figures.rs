//! Figures of one webhook, for `/metrics`.

use super::request::Failure;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;
use uproar_proto::control::{Sample, SampleKind, SampleValue};

/// Upper bounds of the buckets a decision's time falls into, in seconds.
const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Why an event was not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dropped {
    /// As many waited as may wait.
    Full,
    /// It had waited as long as it may.
    Age,
    /// What it tells of is not there any more.
    Unreadable,
    /// Presence, which waits for nobody.
    Presence,
    /// Alarms whose receiver took none of some tries.
    Alarm,
}

/// What a receiver said of a message of a room; what then holds, the room counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AskedLive {
    Allowed,
    Rewritten,
    Refused,
    /// There was no decision.
    Undecided,
    /// It was not asked: as many waited as may wait, or its room had waited as long as it does.
    Unasked,
}

/// What became of a message that was asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Allowed,
    Rewritten,
    Refused,
    /// No decision; it passed.
    Open,
    /// No decision; it was refused.
    Closed,
}

const DROPPED: [&str; 5] = ["full", "age", "unreadable", "presence", "alarm"];
const ASKED: [&str; 5] = ["allowed", "rewritten", "refused", "open", "closed"];
const LIVE: [&str; 5] = ["allowed", "rewritten", "refused", "undecided", "unasked"];
const FAILED: [&str; 4] = ["timeout", "unreachable", "status", "answer"];

/// Counts and gauges.
#[derive(Default)]
pub(super) struct Figures {
    /// Events in the outbox, as far as this process knows.
    pub(super) waiting: AtomicI64,
    /// The moment of the oldest of them; 0: there is none.
    pub(super) oldest_ms: AtomicI64,
    pub(super) delivered: AtomicU64,
    pub(super) retried: AtomicU64,
    failed: [AtomicU64; 4],
    dropped: [AtomicU64; 5],
    asked: [AtomicU64; 5],
    live: [AtomicU64; 5],
    /// Decisions at or under each bound but above the one before, and the others.
    times: [AtomicU64; BUCKETS.len() + 1],
    time_us: AtomicU64,
}

impl Figures {
    pub(super) fn failed(&self, failure: Failure) {
        let place = FAILED.iter().position(|word| *word == failure.word()).unwrap_or(0);
        self.failed[place].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn dropped(&self, why: Dropped, events: u64) {
        self.dropped[why as usize].fetch_add(events, Ordering::Relaxed);
    }

    pub(super) fn asked(&self, what: Asked) {
        self.asked[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn asked_live(&self, what: AskedLive) {
        self.live[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn took(&self, time: Duration) {
        let place = BUCKETS.iter().position(|bound| time.as_secs_f64() <= *bound);
        self.times[place.unwrap_or(BUCKETS.len())].fetch_add(1, Ordering::Relaxed);
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.time_us.fetch_add(us, Ordering::Relaxed);
    }

    /// All of them, of the webhook of this name; which messages it decides about: stored ones, and
    /// those of rooms.
    pub(super) fn samples(
        &self,
        hook: &str,
        (decides, of_rooms): (bool, bool),
        now_ms: i64,
    ) -> Vec<Sample> {
        use SampleKind::{Counter, Gauge};
        let label = || vec![("hook", hook.to_owned())];
        let sample = |name, help, kind, value: f64| {
            let value = SampleValue::Number(value);
            Sample { name, help, kind, labels: label(), value }
        };
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64;
        let oldest_ms = self.oldest_ms.load(Ordering::Relaxed);
        let age_ms = if oldest_ms == 0 { 0 } else { (now_ms - oldest_ms).max(0) };
        let waiting = self.waiting.load(Ordering::Relaxed).max(0) as f64;
        let (delivered, retried) = (of(&self.delivered), of(&self.retried));
        let mut samples = vec![
            sample("uproar_webhook_waiting", "Events that wait to be told.", Gauge, waiting),
            sample(
                "uproar_webhook_oldest_seconds",
                "How long the oldest of them has waited.",
                Gauge,
                age_ms as f64 / 1e3,
            ),
            sample("uproar_webhook_delivered_total", "Events told.", Counter, delivered),
            sample("uproar_webhook_retried_total", "Requests sent again.", Counter, retried),
        ];
        let failed = ("uproar_webhook_failed_total", "Requests not taken, by reason.");
        let dropped = ("uproar_webhook_dropped_total", "Events dropped, by reason.");
        let asked =
            ("uproar_webhook_before_total", "Messages asked about, by what became of them.");
        let mut list = |(name, help), key, words: &[&str], counts: &[AtomicU64]| {
            for (word, count) in words.iter().zip(counts) {
                let mut labels = label();
                labels.push((key, (*word).to_owned()));
                let value = SampleValue::Number(of(count));
                samples.push(Sample { name, help, kind: Counter, labels, value });
            }
        };
        list(failed, "reason", &FAILED, &self.failed);
        list(dropped, "reason", &DROPPED, &self.dropped);
        if decides {
            list(asked, "result", &ASKED, &self.asked);
        }
        if of_rooms {
            let live =
                ("uproar_webhook_publish_total", "Messages of rooms, by what was said of them.");
            list(live, "result", &LIVE, &self.live);
        }
        if decides || of_rooms {
            samples.push(Sample {
                name: "uproar_webhook_before_seconds",
                help: "How long requests for decisions took, failed ones included.",
                kind: SampleKind::Histogram,
                labels: label(),
                value: self.times(),
            });
        }
        samples
    }

    fn times(&self) -> SampleValue {
        let mut at_most = 0;
        let mut buckets = Vec::with_capacity(BUCKETS.len());
        for (bound, count) in BUCKETS.iter().zip(&self.times) {
            at_most += count.load(Ordering::Relaxed);
            buckets.push((*bound, at_most));
        }
        let count = at_most + self.times[BUCKETS.len()].load(Ordering::Relaxed);
        let sum = self.time_us.load(Ordering::Relaxed) as f64 / 1e6;
        SampleValue::Histogram { buckets, sum, count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(figures: &Figures, name: &str, label: &str) -> f64 {
        let samples = figures.samples("audit", (true, true), 5_000);
        let fits = |sample: &&Sample| {
            sample.name == name && sample.labels.iter().any(|(_, value)| value == label)
        };
        match samples.iter().find(fits).map(|sample| &sample.value) {
            Some(SampleValue::Number(value)) => *value,
            other => panic!("{name}: {other:?}"),
        }
    }

    #[test]
    fn what_is_counted_is_shown_under_its_name() {
        let figures = Figures::default();
        figures.failed(Failure::Status(500, None));
        figures.dropped(Dropped::Presence, 7);
        figures.asked(Asked::Closed);
        figures.waiting.store(3, Ordering::Relaxed);
        figures.oldest_ms.store(3_500, Ordering::Relaxed);
        assert_eq!(value(&figures, "uproar_webhook_failed_total", "status"), 1.0);
        assert_eq!(value(&figures, "uproar_webhook_failed_total", "timeout"), 0.0);
        assert_eq!(value(&figures, "uproar_webhook_dropped_total", "presence"), 7.0);
        assert_eq!(value(&figures, "uproar_webhook_before_total", "closed"), 1.0);
        assert_eq!(value(&figures, "uproar_webhook_waiting", "audit"), 3.0);
        assert_eq!(value(&figures, "uproar_webhook_oldest_seconds", "audit"), 1.5);
        for word in [Failure::TimedOut, Failure::Unreachable, Failure::BadAnswer] {
            assert!(FAILED.contains(&word.word()));
        }
    }

    #[test]
    fn times_are_cumulative() {
        let figures = Figures::default();
        for ms in [5, 6, 60, 20_000] {
            figures.took(Duration::from_millis(ms));
        }
        let SampleValue::Histogram { buckets, sum, count } = figures.times() else { panic!() };
        assert_eq!((buckets[0], buckets[1], buckets[4]), ((0.005, 1), (0.01, 2), (0.1, 3)));
        assert_eq!((buckets[10].1, count), (3, 4));
        assert!((sum - 20.071).abs() < 1e-6, "{sum}");
    }
}
