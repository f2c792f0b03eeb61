//! Uniform sampling of what does not fit: a bottom-k sample by random key.
//!
//! The key of a candidate depends on its sender and the window alone, so a sender has one
//! candidate however much it types and on however many connections; and the k smallest keys of a
//! union are the k smallest of the parts' k smallest, so samples of shards merge exactly.
//! (Cohen and Kaplan 2007, bottom-k sketches.)

use super::Candidate;
use super::combos::Folding;
use crate::hash::mix;
use std::collections::BTreeMap;

/// The key of a sender in a window: uniform, secret (through `seed`), equal on all shards.
#[must_use]
pub fn sample_key(seed: u64, window: u64, sender: u64) -> u64 {
    mix(mix(seed ^ mix(window)) ^ sender)
}

/// At most `k` candidates, those with the smallest keys.
#[derive(Debug, Default)]
pub struct Sample {
    by_key: BTreeMap<u64, Candidate>,
}

impl Sample {
    /// Takes one in; what falls out (perhaps itself) is returned. A second candidate of a sender
    /// falls out, the first stays.
    pub fn insert(&mut self, key: u64, candidate: Candidate, k: usize) -> Option<Candidate> {
        if self.by_key.contains_key(&key) {
            return Some(candidate);
        }
        self.by_key.insert(key, candidate);
        if self.by_key.len() > k { self.by_key.pop_last().map(|(_, out)| out) } else { None }
    }

    /// Folds a gift into the one with its key, where the two have at most `folds_max` senders.
    pub fn fold(&mut self, key: u64, candidate: Candidate, folds_max: usize) -> Folding {
        match self.by_key.get_mut(&key).and_then(|waits| waits.gift.as_mut()) {
            None => Folding::First(candidate),
            Some(waits) => waits.fold(candidate, folds_max),
        }
    }

    /// How many were offered: those that are in, and what was folded into them.
    #[must_use]
    pub fn offered(&self) -> u64 {
        self.by_key.values().map(Candidate::offered).sum()
    }

    /// Takes all of them out, smallest key first.
    pub fn take(&mut self) -> impl Iterator<Item = Candidate> {
        std::mem::take(&mut self.by_key).into_values()
    }

    /// How many are in.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::tests::candidate;
    use uproar_proto::v1::Class;

    fn survivors(shards: u64, senders: u64, window: u64, k: usize) -> Vec<u64> {
        let mut merged = Sample::default();
        for shard in 0..shards {
            let mut sample = Sample::default();
            for sender in (0..senders).filter(|s| s % shards == shard) {
                let c = candidate(sender, Class::Chat, 0);
                sample.insert(sample_key(7, window, c.sender.key), c, k);
            }
            for c in sample.take() {
                merged.insert(sample_key(7, window, c.sender.key), c, k);
            }
        }
        merged.take().map(|c| c.sender.user.parse().expect("test senders are numbers")).collect()
    }

    #[test]
    fn samples_of_shards_merge_to_the_sample_of_all() {
        for window in 0..50 {
            let one = survivors(1, 200, window, 5);
            assert_eq!(one, survivors(2, 200, window, 5));
            assert_eq!(one, survivors(4, 200, window, 5));
        }
    }

    #[test]
    fn every_sender_survives_equally_often() {
        let (windows, senders, k) = (4_000u64, 100u64, 5);
        let mut wins = vec![0u64; senders as usize];
        for window in 0..windows {
            for sender in survivors(1, senders, window, k) {
                wins[sender as usize] += 1;
            }
        }
        // Expected 200 each; chi-square with 99 degrees of freedom stays below 149 with p > 0.999.
        let expected = (windows * k as u64 / senders) as f64;
        let chi: f64 = wins.iter().map(|w| (*w as f64 - expected).powi(2) / expected).sum();
        assert!(chi < 149.0, "chi-square {chi}");
    }

    #[test]
    fn a_fast_typist_has_one_candidate() {
        let mut sample = Sample::default();
        assert!(sample.insert(1, candidate(1, Class::Chat, 0), 5).is_none());
        let out = sample.insert(1, candidate(1, Class::Chat, 9), 5).expect("the second falls out");
        assert_eq!((out.received.0, sample.len()), (9, 1));
    }
}
