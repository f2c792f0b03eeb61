//! The order of one node's batches: each number once, in order, however they arrive.

use crate::BATCHES_MAX;
use std::collections::BTreeMap;

/// What became of a batch that has arrived.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrived<T> {
    /// These are to be taken in now, in this order; perhaps none, where an earlier one is missing.
    Now(Vec<T>),
    /// It was there before.
    Before,
    /// No engine sends so far ahead.
    TooFar,
}

/// Those that wait for an earlier one.
pub(super) struct Batches<T> {
    next: u64,
    waiting: BTreeMap<u64, T>,
}

impl<T> Default for Batches<T> {
    fn default() -> Batches<T> {
        Batches { next: 1, waiting: BTreeMap::new() }
    }
}

impl<T> Batches<T> {
    /// A batch has arrived.
    pub(super) fn arrive(&mut self, number: u64, batch: T) -> Arrived<T> {
        if number < self.next || self.waiting.contains_key(&number) {
            return Arrived::Before;
        }
        if number >= self.next + BATCHES_MAX as u64 {
            return Arrived::TooFar;
        }
        self.waiting.insert(number, batch);
        let mut now = Vec::new();
        while let Some(batch) = self.waiting.remove(&self.next) {
            now.push(batch);
            self.next += 1;
        }
        Arrived::Now(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_order_of_arrival_each_is_taken_in_once_and_in_order() {
        let mut batches = Batches::default();
        assert_eq!(batches.arrive(2, 'b'), Arrived::Now(vec![]));
        assert_eq!(batches.arrive(4, 'd'), Arrived::Now(vec![]));
        assert_eq!(batches.arrive(2, 'x'), Arrived::Before, "it waits");
        assert_eq!(batches.arrive(1, 'a'), Arrived::Now(vec!['a', 'b']));
        assert_eq!(batches.arrive(1, 'x'), Arrived::Before);
        assert_eq!(batches.arrive(7, 'x'), Arrived::TooFar);
        assert_eq!(batches.arrive(0, 'x'), Arrived::Before, "there is none");
        assert_eq!(batches.arrive(6, 'f'), Arrived::Now(vec![]));
        assert_eq!(batches.arrive(3, 'c'), Arrived::Now(vec!['c', 'd']));
        assert_eq!(batches.arrive(5, 'e'), Arrived::Now(vec!['e', 'f']));
    }
}
