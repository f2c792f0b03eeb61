//! What one thread counts, and how threads are added up.
//!
//! Owns the counters of deliveries and their faults, and the histograms. Never judges: `check.rs`
//! does.

use hdrhistogram::Histogram;
use std::collections::BTreeMap;

/// Ten minutes: the longest latency that is told apart, in microseconds.
const LATENCY_US_MAX: u64 = 600_000_000;

/// A histogram of microseconds, three digits.
pub(crate) fn micros() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds are valid")
}

/// Counters of deliveries.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    /// Measured messages received by counted viewers, in order, once.
    pub(crate) deliveries: u64,
    pub(crate) duplicates: u64,
    pub(crate) out_of_order: u64,
    /// Jumps of seq nobody announced, and the messages in them.
    pub(crate) unannounced_gaps: u64,
    pub(crate) unannounced_messages: u64,
    /// Gap frames, and the messages they named.
    pub(crate) gaps: u64,
    pub(crate) gap_messages: u64,
    pub(crate) epoch_changes: u64,
    /// Joins with a cursor that were honoured, and those answered with a gap.
    pub(crate) resumed: u64,
    pub(crate) resumed_with_gap: u64,
    /// Frames that have no business where they came, by what was wrong.
    pub(crate) unexpected: BTreeMap<String, u64>,
    /// From due to received, microseconds, one entry a delivery.
    latency: Histogram<u64>,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally {
            deliveries: 0,
            duplicates: 0,
            out_of_order: 0,
            unannounced_gaps: 0,
            unannounced_messages: 0,
            gaps: 0,
            gap_messages: 0,
            epoch_changes: 0,
            resumed: 0,
            resumed_with_gap: 0,
            unexpected: BTreeMap::new(),
            latency: micros(),
        }
    }
}

impl Tally {
    /// Counts a frame that broke a rule.
    pub(crate) fn unexpected(&mut self, what: &str) {
        // Bounded: the words come from this program and from the table of codes.
        *self.unexpected.entry(what.to_owned()).or_default() += 1;
    }

    /// Counts a jump of seq nobody announced.
    pub(crate) fn unannounced(&mut self, messages: u64) {
        self.unannounced_gaps += 1;
        self.unannounced_messages += messages;
    }

    /// Records deliveries that took `us`.
    pub(crate) fn latency(&mut self, us: u64, deliveries: u64) {
        self.latency.saturating_record_n(us.max(1), deliveries);
    }

    /// The latency at a rank among the deliveries *expected*: microseconds; `None` where the rank
    /// falls among those that are missing, which are infinitely late.
    pub(crate) fn latency_at(&self, share: f64, expected: u64) -> Option<u64> {
        rank(&self.latency, share, expected)
    }

    /// Adds another thread's.
    pub(crate) fn add(&mut self, other: &Tally) {
        self.deliveries += other.deliveries;
        self.duplicates += other.duplicates;
        self.out_of_order += other.out_of_order;
        self.unannounced_gaps += other.unannounced_gaps;
        self.unannounced_messages += other.unannounced_messages;
        self.gaps += other.gaps;
        self.gap_messages += other.gap_messages;
        self.epoch_changes += other.epoch_changes;
        self.resumed += other.resumed;
        self.resumed_with_gap += other.resumed_with_gap;
        for (what, n) in &other.unexpected {
            *self.unexpected.entry(what.clone()).or_default() += n;
        }
        self.latency.add(&other.latency).expect("all histograms have the same bounds");
    }
}

/// The value at a rank among `expected` entries, of which the histogram may hold fewer.
pub(crate) fn rank(histogram: &Histogram<u64>, share: f64, expected: u64) -> Option<u64> {
    let expected = expected.max(histogram.len());
    let rank = (share * expected as f64).ceil().max(1.0);
    let recorded = histogram.len() as f64;
    if expected == 0 || rank > recorded {
        return None;
    }
    if share >= 1.0 {
        return Some(histogram.max());
    }
    Some(histogram.value_at_quantile(rank / recorded).min(histogram.max()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_over_the_deliveries_expected_and_a_missing_one_is_infinite() {
        let mut tally = Tally::default();
        for ms in 1..=990 {
            tally.latency(ms * 1000, 1);
        }
        let ms = |share, expected| {
            let us = tally.latency_at(share, expected)?;
            Some((us as f64 / 1e3).round()) // the histogram keeps three digits
        };
        assert_eq!(ms(0.5, 990), Some(495.0), "of 990, the 495th");
        assert_eq!(ms(0.99, 1000), Some(990.0), "the last one that came");
        assert_eq!(ms(0.991, 1000), None, "ten of a thousand never came");
        assert_eq!(ms(1.0, 1000), None, "the maximum as well");
        assert_eq!(ms(1.0, 990), Some(990.0));
        assert_eq!(ms(0.5, 10_000), None);
        assert_eq!(Tally::default().latency_at(0.5, 0), None);
    }

    #[test]
    fn threads_add_up() {
        let mut a = Tally::default();
        a.latency(5000, 3);
        a.unexpected("x");
        let mut b = a.clone();
        b.deliveries = 2;
        b.unannounced(4);
        a.add(&b);
        assert_eq!((a.deliveries, a.unannounced_gaps, a.unannounced_messages), (2, 1, 4));
        assert_eq!(a.unexpected["x"], 2);
        assert_eq!(a.latency_at(1.0, 6).map(|us| us / 1000), Some(5));
    }
}
