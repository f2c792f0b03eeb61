//! Figures of the quality for `/metrics`: few labels, whatever rooms and networks there are.

use super::Quality;
use super::alarm::Rule;
use super::cell::Cell;
use super::report::{Metric, Side};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use uproar_proto::control::{Sample, SampleKind, SampleValue};

fn sample(
    name: &'static str,
    help: &'static str,
    kind: SampleKind,
    labels: Vec<(&'static str, String)>,
    value: f64,
) -> Sample {
    Sample { name, help, kind, labels, value: SampleValue::Number(value) }
}

impl Quality {
    /// All of them.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        let mut samples = self.of_the_work();
        let mut sides = BTreeMap::<Side, Cell>::new();
        self.board().windows.visit_latest(|key, cell| {
            sides.entry(key.side).or_default().merge(cell);
        });
        for side in Side::ALL {
            of_side(*side, &sides.remove(side).unwrap_or_default(), &mut samples);
        }
        samples
    }

    fn of_the_work(&self) -> Vec<Sample> {
        use SampleKind::{Counter, Gauge};
        let board = self.board();
        let (counts, left) = (board.sessions.counts(), board.windows.left());
        let read = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        let mut samples = Vec::new();
        for (result, count) in [
            ("taken", counts.taken),
            ("repeated", counts.repeated),
            ("refused", read(&self.refused)),
        ] {
            let (name, help) = ("uproar_quality_reports_total", "Quality reports, by result.");
            let labels = vec![("result", result.to_owned())];
            samples.push(sample(name, help, Counter, labels, count as f64));
        }
        let (name, help) =
            ("uproar_quality_untold_total", "Answers to reports that found no room.");
        samples.push(sample(name, help, Counter, Vec::new(), read(&self.untold) as f64));
        for (what, count) in [
            ("key", left.other),
            ("key_of_address", left.source),
            ("alarm_evidence", left.evidence),
            ("value", left.values),
            ("window", left.windows),
            ("unstored_window", left.unstored),
            ("unknown_session", counts.unknown),
            ("forgotten_session", counts.forgotten),
            ("unwatched_group", board.alarms.unwatched()),
        ] {
            let help = "What of quality reports found no room, and was counted less precisely or \
                        not at all.";
            let labels = vec![("what", what.to_owned())];
            samples.push(sample("uproar_quality_left_total", help, Counter, labels, count as f64));
        }
        let raised = board.alarms.raised();
        for rule in Rule::ALL {
            let many = raised.iter().filter(|alarm| alarm.rule == rule).count();
            let (name, help) = ("uproar_quality_alarms", "Alarms that are raised, by rule.");
            let labels = vec![("rule", rule.word().to_owned())];
            samples.push(sample(name, help, Gauge, labels, many as f64));
        }
        let bytes = board.windows.bytes();
        for (name, help, kind, value) in [
            ("uproar_quality_sessions", "Sessions remembered.", Gauge, board.sessions.len() as u64),
            ("uproar_quality_keys", "Keys of this window.", Gauge, board.windows.keys() as u64),
            ("uproar_quality_bytes", "Memory of all windows.", Gauge, bytes as u64),
            ("uproar_quality_stored_total", "Windows stored.", Counter, read(&self.stored)),
            ("uproar_quality_removed_total", "Old rows removed.", Counter, read(&self.removed)),
            (
                "uproar_quality_failures_total",
                "Writes and removals of windows that failed, and are tried again.",
                Counter,
                read(&self.failures),
            ),
        ] {
            samples.push(sample(name, help, kind, Vec::new(), value as f64));
        }
        samples
    }
}

/// What the last 10 to 20 s were like on one side of all streams.
fn of_side(side: Side, cell: &Cell, samples: &mut Vec<Sample>) {
    let label = || vec![("side", side.word().to_owned())];
    for (name, help, value) in [
        (
            "uproar_quality_stall_ratio",
            "Share of the last 10 to 20 s that streams stood still.",
            cell.stall_ratio(),
        ),
        (
            "uproar_quality_start_failure_ratio",
            "Share of the starts of the last 10 to 20 s that failed.",
            cell.start_failure_ratio(),
        ),
        (
            "uproar_quality_frame_drop_ratio",
            "Share of the frames of the last 10 to 20 s that were dropped.",
            cell.frame_drop_ratio(),
        ),
    ] {
        // Nothing was reported: 0, since every value here is a number of at least 0.
        let value = value.unwrap_or(0.0);
        samples.push(sample(name, help, SampleKind::Gauge, label(), value));
    }
    for metric in [Metric::Msd, Metric::Ttfb, Metric::Ltc, Metric::Rtt, Metric::Br, Metric::Fps] {
        for (q, word) in [(0.5, "0.5"), (0.95, "0.95"), (0.99, "0.99")] {
            let value = cell.sketch(metric).and_then(|sketch| sketch.quantile(q));
            let mut labels = label();
            labels.push(("metric", metric.word().to_owned()));
            labels.push(("quantile", word.to_owned()));
            samples.push(sample(
                "uproar_quality_value",
                "Percentiles of what was measured in the last 10 to 20 s: milliseconds, kbit/s, \
                 frames a second.",
                SampleKind::Gauge,
                labels,
                value.unwrap_or(0.0),
            ));
        }
    }
}
