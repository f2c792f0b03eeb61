//! What a store does beside reading and writing, counted.
//!
//! Owns the figures and their names in `/metrics`; whoever does the work counts it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use uproar_proto::control::{Sample, SampleKind, SampleValue};

/// What retention and the removal of leftovers take rows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removed {
    /// Index rows of messages, and where there are no partitions their content.
    Messages,
    /// Log-ins that are over.
    Sessions,
    /// Links that are over or used up.
    Links,
    /// Idempotency keys older than a day.
    Keys,
    /// Reactions to messages that are kept no longer, and their counts.
    Reactions,
    /// Pins of messages that are kept no longer.
    Pins,
    /// What ended between two users so long ago that no sync tells it.
    Ended,
    /// Bans and mutes of rooms that are over.
    Penalties,
}

const FROM: [(Removed, &str); 8] = [
    (Removed::Messages, "messages"),
    (Removed::Sessions, "sessions"),
    (Removed::Links, "links"),
    (Removed::Keys, "idempotency_keys"),
    (Removed::Reactions, "reactions"),
    (Removed::Pins, "pins"),
    (Removed::Ended, "ended_relations"),
    (Removed::Penalties, "room_penalties"),
];

/// What is done in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Partitions,
    Retention,
    Leftovers,
}

const WORKS: [(Work, &str); 3] = [
    (Work::Partitions, "partitions"),
    (Work::Retention, "retention"),
    (Work::Leftovers, "leftovers"),
];

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    copies: AtomicU64,
    turns: AtomicU64,
    log_pages: AtomicU64,
    partitions_made: AtomicU64,
    partitions_dropped: AtomicU64,
    removed: [AtomicU64; FROM.len()],
    failures: [AtomicU64; WORKS.len()],
    longest_step_us: AtomicU64,
}

fn add(figure: &AtomicU64, count: u64) {
    figure.fetch_add(count, Ordering::Relaxed);
}

fn read(figure: &AtomicU64) -> f64 {
    figure.load(Ordering::Relaxed) as f64
}

impl Figures {
    /// SQLite's log was copied beside the writer.
    pub(crate) fn count_copy(&self) {
        add(&self.copies, 1);
    }

    /// SQLite's log was copied while the writer waited.
    pub(crate) fn count_turn(&self) {
        add(&self.turns, 1);
    }

    /// Pages of SQLite's log that are not in its file.
    pub(crate) fn set_log_pages(&self, pages: i64) {
        self.log_pages.store(u64::try_from(pages).unwrap_or(0), Ordering::Relaxed);
    }

    pub(crate) fn count_partitions(&self, made: usize, dropped: usize) {
        add(&self.partitions_made, made as u64);
        add(&self.partitions_dropped, dropped as u64);
    }

    /// A step that removed rows, and how long its transaction took, its wait for a turn included.
    pub(crate) fn count_removed(&self, from: Removed, rows: u64, took: Duration) {
        add(&self.removed[from as usize], rows);
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.longest_step_us.fetch_max(took, Ordering::Relaxed);
    }

    pub(crate) fn count_failure(&self, work: Work) {
        add(&self.failures[work as usize], 1);
    }

    #[cfg(test)]
    pub(crate) fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(crate) fn removed(&self, from: Removed) -> u64 {
        self.removed[from as usize].load(Ordering::Relaxed)
    }

    /// For `/metrics`.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        use SampleKind::{Counter, Gauge};
        let one = |name, help, kind, label: Option<(&'static str, &str)>, value: f64| Sample {
            name,
            help,
            kind,
            labels: label.map(|(name, value)| (name, value.to_owned())).into_iter().collect(),
            value: SampleValue::Number(value),
        };
        let copies = "uproar_store_log_copies_total";
        let copied = "SQLite's log copied into its file; \"waiting\": while the writer waited.";
        let partitions = "uproar_store_partitions_total";
        let partition = "Time partitions of content, made ahead or dropped.";
        let mut samples = vec![
            one(copies, copied, Counter, Some(("writer", "writing")), read(&self.copies)),
            one(copies, copied, Counter, Some(("writer", "waiting")), read(&self.turns)),
            one(
                "uproar_store_log_pages",
                "Pages (4 KiB) of SQLite's log that are not in its file yet.",
                Gauge,
                None,
                read(&self.log_pages),
            ),
            one(
                partitions,
                partition,
                Counter,
                Some(("done", "made")),
                read(&self.partitions_made),
            ),
            one(
                partitions,
                partition,
                Counter,
                Some(("done", "dropped")),
                read(&self.partitions_dropped),
            ),
            one(
                "uproar_store_removal_step_seconds_max",
                "The longest transaction that removed rows, its wait for its turn included.",
                Gauge,
                None,
                read(&self.longest_step_us) / 1e6,
            ),
        ];
        for (from, name) in FROM {
            let help = "Rows removed because they were too old or over.";
            let value = read(&self.removed[from as usize]);
            let of = Some(("of", name));
            samples.push(one("uproar_store_removed_rows_total", help, Counter, of, value));
        }
        for (work, name) in WORKS {
            let help = "Work in the background that failed and is tried again.";
            let value = read(&self.failures[work as usize]);
            let label = Some(("work", name));
            samples.push(one("uproar_store_work_failures_total", help, Counter, label, value));
        }
        samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_its_own() {
        for (at, (from, _)) in FROM.iter().enumerate() {
            assert_eq!(*from as usize, at);
        }
        for (at, (work, _)) in WORKS.iter().enumerate() {
            assert_eq!(*work as usize, at);
        }
        let figures = Figures::default();
        figures.count_removed(Removed::Links, 7, Duration::from_millis(2));
        let of_links = |sample: &&Sample| sample.labels == [("of", "links".to_owned())];
        let samples = figures.samples();
        let links = samples.iter().find(of_links).unwrap();
        assert!(matches!(links.value, SampleValue::Number(7.0)));
    }
}
