//! One segment while it is written: which lines it keeps.
//!
//! Owns the selection. Pure: no clock, no disk.

use super::weigh::{is_high, luck};
use prost::Message as _;
use std::collections::{BTreeMap, BTreeSet};
use uproar_proto::v1::{DanmakuLine, DanmakuSegment};

/// How many lines a segment keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) lines_max: usize,
    pub(super) high_lines_max: usize,
}

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Added {
    Kept,
    /// It, or one of less weight in its place, was left out.
    LeftOut {
        kept: bool,
    },
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Segment {
    /// By seq.
    lines: BTreeMap<u64, DanmakuLine>,
    /// The lines that may be left out: the first one goes first.
    low: BTreeSet<(u32, u64, u64)>,
    left_out: u32,
    bytes: usize,
}

impl Segment {
    /// One that was closed before.
    pub(super) fn of(segment: DanmakuSegment) -> Segment {
        let mut of = Segment { left_out: segment.left_out, ..Segment::default() };
        segment.lines.into_iter().for_each(|line| of.insert(line));
        of
    }

    /// Takes a line in; it is none of those that are there.
    pub(super) fn add(&mut self, line: DanmakuLine, bounds: Bounds) -> Added {
        let seq = line.seq;
        if is_high(line.class()) && self.lines.len() - self.low.len() >= bounds.high_lines_max {
            self.left_out += 1;
            return Added::LeftOut { kept: false };
        }
        self.insert(line);
        let mut added = Added::Kept;
        while self.lines.len() > bounds.lines_max
            && let Some((_, _, least)) = self.low.first().copied()
        {
            self.remove(least);
            self.left_out += 1;
            added = Added::LeftOut { kept: least != seq };
        }
        added
    }

    fn insert(&mut self, line: DanmakuLine) {
        if !is_high(line.class()) {
            self.low.insert((line.weight, luck(line.seq), line.seq));
        }
        self.bytes += bytes_of(&line);
        if let Some(former) = self.lines.insert(line.seq, line) {
            self.bytes -= bytes_of(&former);
        }
    }

    fn remove(&mut self, seq: u64) {
        if let Some(line) = self.lines.remove(&seq) {
            self.bytes -= bytes_of(&line);
            self.low.remove(&(line.weight, luck(seq), seq));
        }
    }

    /// Whether it keeps this line.
    pub(super) fn has(&self, seq: u64) -> bool {
        self.lines.contains_key(&seq)
    }

    /// Takes lines out for good: how many.
    pub(super) fn recall(&mut self, is: impl Fn(&DanmakuLine) -> bool) -> u32 {
        let recalled: Vec<u64> =
            self.lines.values().filter(|line| is(line)).map(|line| line.seq).collect();
        recalled.iter().for_each(|seq| self.remove(*seq));
        recalled.len() as u32
    }

    /// In the order of their seq.
    pub(super) fn lines(&self) -> impl ExactSizeIterator<Item = &DanmakuLine> {
        self.lines.values()
    }

    pub(super) fn left_out(&self) -> u32 {
        self.left_out
    }

    /// About what its lines take in memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// A line, and its places in two tables.
pub(super) fn bytes_of(line: &DanmakuLine) -> usize {
    line.encoded_len() + 200
}

#[cfg(test)]
mod tests {
    use super::super::testing::line;
    use super::*;
    use uproar_proto::v1::Class;

    const BOUNDS: Bounds = Bounds { lines_max: 6_000, high_lines_max: 8_000 };

    #[test]
    fn of_60_000_lines_6_000_stay_and_every_high_one() {
        let mut segment = Segment::default();
        for seq in 1..=60_000 {
            let class = if seq % 60 == 0 { Class::Gift } else { Class::Chat };
            let weight = if seq % 3 == 0 { 5 } else { 2 };
            segment.add(line(seq, class, weight), BOUNDS);
        }
        assert_eq!(segment.lines().len(), 6_000);
        assert_eq!(segment.left_out(), 54_000);
        let high = segment.lines().filter(|line| line.class() == Class::Gift);
        assert_eq!(high.count(), 1_000, "every high one");
        let low = segment.lines().filter(|line| line.class() == Class::Chat);
        let (heavy, light): (Vec<_>, Vec<_>) = low.partition(|line| line.weight == 5);
        assert_eq!((heavy.len(), light.len()), (5_000, 0), "of the others the heavier ones");
        // Luck decides among equals, not who came first: both halves have about half of them.
        let early = heavy.iter().filter(|line| line.seq <= 30_000).count();
        assert!((2_250..2_750).contains(&early), "{early}");
        assert_eq!(segment.bytes(), segment.lines().map(bytes_of).sum::<usize>());
    }

    #[test]
    fn high_lines_have_a_bound_of_their_own() {
        let mut segment = Segment::default();
        for seq in 1..=9_000 {
            segment.add(line(seq, Class::System, 10), BOUNDS);
        }
        assert_eq!((segment.lines().len(), segment.left_out()), (8_000, 1_000));
        let added = segment.add(line(9_001, Class::Chat, 5), BOUNDS);
        assert_eq!(added, Added::LeftOut { kept: false }, "there is no room for others then");
    }

    #[test]
    fn what_is_recalled_is_gone() {
        let mut segment = Segment::default();
        for seq in 1..=3 {
            segment.add(line(seq, Class::Chat, 5), BOUNDS);
        }
        assert_eq!(segment.recall(|line| line.seq == 2), 1);
        assert_eq!(segment.recall(|line| line.seq == 2), 0);
        assert_eq!(segment.lines().map(|line| line.seq).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(segment.recall(|line| line.user == "u"), 2);
        assert_eq!((segment.bytes(), segment.low.len()), (0, 0));
    }
}
