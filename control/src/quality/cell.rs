//! What is counted under one key in one window.

use super::report::{METRICS, Metric, TOTALS, Total};
use super::sketch::{BUCKETS_MAX, Sketch};

/// The most a cell can take, in bytes: every metric with every bucket, and a quarter spare.
pub(crate) const CELL_BYTES_MAX: usize =
    size_of::<Cell>() + METRICS * (size_of::<(Metric, Sketch)>() + BUCKETS_MAX * 10);

/// Totals, and a sketch of each metric that has a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cell {
    totals: [u64; TOTALS],
    /// Sessions that reported, each once in 10 s.
    plays: u64,
    /// In the order of their metric.
    sketches: Vec<(Metric, Sketch)>,
}

impl Cell {
    /// From what a row kept.
    pub(crate) fn of(
        totals: [u64; TOTALS],
        plays: u64,
        mut sketches: Vec<(Metric, Sketch)>,
    ) -> Cell {
        sketches.sort_by_key(|(metric, _)| *metric);
        Cell { totals, plays, sketches }
    }

    /// Adds what a session counted since its last report; `is_new`: it is its first one here.
    pub(crate) fn count(&mut self, deltas: &[u64; TOTALS], is_new: bool) {
        for (total, delta) in self.totals.iter_mut().zip(deltas) {
            *total = total.saturating_add(*delta);
        }
        self.plays += u64::from(is_new);
    }

    /// Takes a value.
    pub(crate) fn add(&mut self, metric: Metric, value: u32) {
        self.sketch_mut(metric).add(value);
    }

    /// Takes all that another one holds.
    pub(crate) fn merge(&mut self, other: &Cell) {
        self.merge_totals(other);
        for (metric, sketch) in &other.sketches {
            self.sketch_mut(*metric).merge(sketch);
        }
    }

    /// The same without its values: for where there is no memory for more.
    pub(crate) fn merge_totals(&mut self, other: &Cell) {
        self.count(&other.totals, false);
        self.plays += other.plays;
    }

    fn sketch_mut(&mut self, metric: Metric) -> &mut Sketch {
        let at = match self.sketches.binary_search_by_key(&metric, |(one, _)| *one) {
            Ok(at) => at,
            Err(at) => {
                self.sketches.reserve_exact(1);
                self.sketches.insert(at, (metric, Sketch::default()));
                at
            }
        };
        &mut self.sketches[at].1
    }

    /// One of its totals.
    pub(crate) fn total(&self, total: Total) -> u64 {
        self.totals[total as usize]
    }

    /// All of them, in their order.
    pub(crate) fn totals(&self) -> &[u64; TOTALS] {
        &self.totals
    }

    /// Sessions that reported, each once in 10 s: over a time, sessions times their tens of
    /// seconds.
    pub(crate) fn plays(&self) -> u64 {
        self.plays
    }

    /// The values of a metric, where there is one.
    pub(crate) fn sketch(&self, metric: Metric) -> Option<&Sketch> {
        let at = self.sketches.binary_search_by_key(&metric, |(one, _)| *one).ok()?;
        Some(&self.sketches[at].1)
    }

    /// All that have a value.
    pub(crate) fn sketches(&self) -> &[(Metric, Sketch)] {
        &self.sketches
    }

    /// How many values it holds.
    pub(crate) fn values(&self) -> u64 {
        self.sketches.iter().map(|(_, sketch)| sketch.count()).sum()
    }

    /// Its memory, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let sketches = self.sketches.iter().map(|(_, sketch)| sketch.heap_bytes());
        size_of::<Cell>()
            + self.sketches.capacity() * size_of::<(Metric, Sketch)>()
            + sketches.sum::<usize>()
    }

    /// Of milliseconds played or stood still, the share that it stood still; `None`: there are
    /// none.
    pub(crate) fn stall_ratio(&self) -> Option<f64> {
        let stalled = self.total(Total::StallMs);
        ratio(stalled, stalled + self.total(Total::PlayedMs))
    }

    /// Of the starts asked for, the share that failed.
    pub(crate) fn start_failure_ratio(&self) -> Option<f64> {
        ratio(self.total(Total::StartFailures), self.total(Total::Attempts))
    }

    /// Of the starts asked for, the share whose user went before the first frame.
    pub(crate) fn exit_before_start_ratio(&self) -> Option<f64> {
        ratio(self.total(Total::ExitsBeforeStart), self.total(Total::Attempts))
    }

    /// Of all frames, the share that was dropped.
    pub(crate) fn frame_drop_ratio(&self) -> Option<f64> {
        let dropped = self.total(Total::FramesDropped);
        ratio(dropped, dropped + self.total(Total::Frames))
    }

    /// Failures of a hundred hours played would be few: times it broke off for each hour.
    pub(crate) fn playback_failures_per_hour(&self) -> Option<f64> {
        let hours = ratio(self.total(Total::PlayedMs), 3_600_000)?;
        (hours > 0.0).then(|| self.total(Total::PlaybackFailures) as f64 / hours)
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(values: &[(Metric, u32)], stall_ms: u64) -> Cell {
        let mut cell = Cell::default();
        let mut deltas = [0; TOTALS];
        deltas[Total::StallMs as usize] = stall_ms;
        deltas[Total::PlayedMs as usize] = 100 - stall_ms;
        cell.count(&deltas, true);
        values.iter().for_each(|(metric, value)| cell.add(*metric, *value));
        cell
    }

    #[test]
    fn merged_cells_are_the_whole_in_any_order() {
        let a = cell(&[(Metric::Rtt, 5), (Metric::Bl, 100)], 10);
        let b = cell(&[(Metric::Bl, 300), (Metric::Dns, 0)], 30);
        let (mut ab, mut ba) = (a.clone(), b.clone());
        ab.merge(&b);
        ba.merge(&a);
        assert_eq!(ab, ba);
        assert_eq!((ab.plays(), ab.values(), ab.stall_ratio()), (2, 4, Some(0.2)));
        assert_eq!(ab.sketch(Metric::Bl).unwrap().count(), 2);
        assert_eq!((ab.sketch(Metric::Fps), ab.start_failure_ratio()), (None, None));
    }

    #[test]
    fn no_cell_is_larger_than_it_may_be() {
        let mut full = Cell::default();
        for metric in Metric::ALL {
            (0..11_000_000).step_by(97).for_each(|value| full.add(*metric, value));
            (0..10_000).for_each(|value| full.add(*metric, value));
        }
        println!("a full cell is {} bytes, at most {CELL_BYTES_MAX}", full.bytes());
        assert!(full.bytes() <= CELL_BYTES_MAX, "{} of {CELL_BYTES_MAX}", full.bytes());
    }
}
