//! Receipts from cursors: how many have read a message, and whose number has changed. Pure.

use std::collections::BTreeMap;

/// How many of these memberships have read each message: `ranges` are (since, read, how many), and
/// one has read `m` where `since < m <= read`. `seqs` ascend.
pub(crate) fn readers(seqs: &[i64], ranges: &[(i64, i64, i64)]) -> BTreeMap<i64, i64> {
    // Steps of the sum along the seqs: up above each beginning, down above each end.
    let mut steps: BTreeMap<i64, i64> = BTreeMap::new();
    for (since, read, many) in ranges.iter().filter(|(since, read, _)| since < read) {
        *steps.entry(since + 1).or_default() += many;
        *steps.entry(read + 1).or_default() -= many;
    }
    let mut steps = steps.into_iter().peekable();
    let mut sum = 0;
    let mut counts = BTreeMap::new();
    for seq in seqs {
        while let Some((_, step)) = steps.next_if(|(at, _)| at <= seq) {
            sum += step;
        }
        counts.insert(*seq, sum);
    }
    counts
}

/// Of these messages those that a cursor passed: `moves` are (old, new), and it passed `m` where
/// `old < m <= new`. `seqs` ascend.
pub(crate) fn changed(seqs: &[i64], moves: &[(i64, i64)]) -> Vec<i64> {
    let ranges: Vec<(i64, i64, i64)> = moves.iter().map(|(old, new)| (*old, *new, 1)).collect();
    let passed = readers(seqs, &ranges);
    seqs.iter().copied().filter(|seq| passed.get(seq).is_some_and(|n| *n > 0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_equal_brute_force_for_any_cursors() {
        let mut state = 7_u64;
        let mut below = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            ((state >> 33) % bound) as i64
        };
        for _ in 0..1_000 {
            let mut ranges = Vec::new();
            for _ in 0..below(20) {
                let (a, b) = (below(30), below(30));
                ranges.push((a.min(b), a.max(b), 1 + below(3)));
            }
            let seqs: Vec<i64> = (1..=30).filter(|_| below(3) > 0).collect();
            for (seq, count) in readers(&seqs, &ranges) {
                let read = ranges.iter().filter(|(since, read, _)| *since < seq && seq <= *read);
                assert_eq!(count, read.map(|(.., many)| many).sum::<i64>(), "{seq} of {ranges:?}");
            }
        }
    }

    #[test]
    fn a_message_that_no_cursor_passed_has_not_changed() {
        assert_eq!(changed(&[1, 2, 3, 4, 5], &[(1, 2), (3, 3), (3, 4)]), [2, 4]);
        assert_eq!(changed(&[1, 2], &[]), Vec::<i64>::new());
    }
}
