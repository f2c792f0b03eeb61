//! From counts to figures: what was admitted, what should have arrived, and what did.
//!
//! Owns the arithmetic between the threads' counts and the report. Never judges.

use crate::crowd::publish::{Book, LIKE};
use crate::plan::{Plan, Scenario};
use crate::session::Facts;
use std::collections::HashMap;

/// Figures that checks and report share.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Summary {
    /// After the warm-up, by class and in all.
    pub(crate) books: [Book; 4],
    pub(crate) book: Book,
    /// Measured messages that were admitted: accepted by verdict, or seen by a viewer.
    pub(crate) admitted: u64,
    /// One for each admitted message and counted viewer.
    pub(crate) expected: u64,
    pub(crate) deliveries: u64,
    pub(crate) missing: u64,
    /// Storm only: not expected, since the viewer was away and was told of its gap.
    pub(crate) told_missing: u64,
    /// Seen by viewers, and no verdict said so.
    pub(crate) without_verdict: u64,
    /// Seen under another seq than the verdict said.
    pub(crate) wrong_seq: u64,
    /// One message at two places of the stream.
    pub(crate) twice: u64,
    /// Viewers whose streams can be compared: equal to what all threads saw, and different.
    pub(crate) equal: u64,
    pub(crate) unequal: u64,
    /// Messages of other senders in the room.
    pub(crate) foreign: u64,
    /// Likes offered, and by how much the room's counter grew.
    pub(crate) likes_offered: u64,
    pub(crate) likes_counted: u64,
    /// Where most members stand at the end, how many stand there, and how many elsewhere.
    pub(crate) at_head: u64,
    pub(crate) behind_head: u64,
}

impl Summary {
    pub(crate) fn new(plan: &Plan, facts: &Facts) -> Summary {
        let outcome = &facts.outcome;
        let mut summary = Summary { books: outcome.books.measured, ..Summary::default() };
        summary.likes(facts);
        for book in &summary.books {
            summary.book.add(book);
        }
        summary.streams(facts);
        summary.deliveries = outcome.tally.deliveries;
        summary.expected = summary.admitted * outcome.counted;
        if plan.scenario == Scenario::Storm {
            let [viewers, got] = outcome.gapped;
            summary.told_missing = (viewers * summary.admitted).saturating_sub(got);
            summary.expected -= summary.told_missing;
        }
        summary.missing = summary.expected.saturating_sub(summary.deliveries);
        // The head is the newest place anybody stands at, in the epoch where most are.
        let mut epochs = HashMap::<u64, u64>::new();
        for ((epoch, _), n) in &outcome.cursors {
            *epochs.entry(*epoch).or_default() += n;
        }
        let epoch = epochs.iter().max_by_key(|(_, n)| **n).map(|(epoch, _)| *epoch);
        let head = outcome
            .cursors
            .iter()
            .filter(|((e, _), _)| Some(*e) == epoch)
            .max_by_key(|((_, s), _)| *s);
        summary.at_head = head.map_or(0, |(_, n)| *n);
        summary.behind_head = outcome.cursors.values().sum::<u64>() - summary.at_head;
        summary
    }

    /// Likes get no verdict: the counter tells how many were merged into it.
    fn likes(&mut self, facts: &Facts) {
        let outcome = &facts.outcome;
        self.likes_offered = outcome.likes_offered;
        self.likes_counted = outcome.likes_after.saturating_sub(outcome.likes_before);
        let lost = self.likes_offered.saturating_sub(self.likes_counted);
        let book = &mut self.books[LIKE];
        book.merged = (book.offered - book.refused).saturating_sub(lost);
    }

    fn streams(&mut self, facts: &Facts) {
        let outcome = &facts.outcome;
        let accepted = &outcome.books.accepted;
        let mut places = HashMap::new();
        let (mut count, mut sum) = (0u32, 0u64);
        self.foreign = outcome.ledger.foreign.len() as u64;
        for (&(epoch, seq), seen) in &outcome.ledger.seen {
            let Some(id) = seen.ours else { continue };
            if seen.measured {
                count += 1;
                sum = sum.wrapping_add(seen.digest);
            }
            if places.insert(id, (epoch, seq, seen.measured)).is_some() {
                self.twice += 1;
            }
            match accepted.get(&id) {
                None => self.without_verdict += 1,
                Some((said, _)) if *said != seq => self.wrong_seq += 1,
                Some(_) => {}
            }
        }
        let unseen =
            accepted.iter().filter(|(id, (_, measured))| *measured && !places.contains_key(id));
        self.admitted = unseen.count() as u64
            + places.values().filter(|(.., measured)| *measured).count() as u64;
        for (stream, viewers) in &outcome.sums {
            if *stream == (count, sum) {
                self.equal += viewers;
            } else {
                self.unequal += viewers;
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::outcome::Outcome;
    use crate::recent::Seen;

    /// A run of 3 viewers and `messages` messages in which nothing went wrong.
    pub(crate) fn good_run(messages: u32) -> Facts {
        let mut outcome = Outcome { counted: 3, ..Outcome::default() };
        let mut sum = 0u64;
        for number in 0..messages {
            let (seq, digest) = (100 + u64::from(number), u64::from(number) * 77 + 5);
            let seen = Seen { digest, ours: Some((0, number)), measured: true };
            outcome.ledger.seen.insert((9, seq), seen);
            outcome.books.accepted.insert((0, number), (seq, true));
            sum += digest;
            outcome.tally.latency(20_000, 3);
        }
        let n = u64::from(messages);
        let book = Book { offered: n, accepted: n, ..Book::default() };
        (outcome.books.measured[0], outcome.books.whole[0]) = (book, book);
        outcome.tally.deliveries = 3 * n;
        outcome.sums.insert((messages, sum), 3);
        outcome.cursors.insert((9, 99 + n), 5);
        outcome.established = 5;
        outcome.viewers_established = 3;
        Facts { outcome, io: "uring", ..Facts::default() }
    }

    pub(crate) fn plan(words: &str) -> Plan {
        use clap::Parser;
        let words = std::iter::once("uproar-loadgen").chain(words.split_whitespace());
        let args = crate::args::Args::try_parse_from(words).expect("valid words");
        let host =
            crate::plan::Host { files_per_thread: 20_000, ports_per_address: 28_000, entropy: 1 };
        let crate::args::Named::Room(typed) = args.scenario else { panic!("a room") };
        Plan::new(typed, &host).expect("a possible plan")
    }

    fn summary(facts: &Facts) -> Summary {
        Summary::new(&plan("live --viewers 3"), facts)
    }

    #[test]
    fn a_good_run_expects_what_it_got() {
        let summary = summary(&good_run(10));
        assert_eq!((summary.admitted, summary.expected, summary.missing), (10, 30, 0));
        assert_eq!((summary.equal, summary.unequal), (3, 0));
        assert_eq!((summary.without_verdict, summary.wrong_seq, summary.twice), (0, 0, 0));
        assert_eq!((summary.at_head, summary.behind_head), (5, 0));
    }

    #[test]
    fn an_accepted_message_that_nobody_saw_is_missing_for_everybody() {
        let mut facts = good_run(10);
        facts.outcome.books.accepted.insert((0, 10), (110, true));
        let summary = summary(&facts);
        assert_eq!((summary.admitted, summary.expected, summary.missing), (11, 33, 3));
    }

    #[test]
    fn a_message_seen_without_a_verdict_is_expected_all_the_same() {
        let mut facts = good_run(10);
        facts.outcome.books.accepted.remove(&(0, 3));
        let summary = summary(&facts);
        assert_eq!((summary.admitted, summary.without_verdict), (10, 1));
    }

    #[test]
    fn streams_that_differ_are_counted_apart() {
        let mut facts = good_run(10);
        facts.outcome.sums.insert((10, 1), 1);
        assert_eq!((summary(&facts).equal, summary(&facts).unequal), (3, 1));
    }

    #[test]
    fn in_a_storm_nobody_is_expected_to_get_what_it_was_told_to_have_missed() {
        let mut facts = good_run(10);
        facts.outcome.gapped = [2, 12];
        facts.outcome.tally.deliveries = 22;
        let storm = Summary::new(&plan("storm --viewers 3"), &facts);
        assert_eq!((storm.told_missing, storm.expected, storm.missing), (8, 22, 0));
        let live = summary(&facts);
        assert_eq!((live.told_missing, live.expected, live.missing), (0, 30, 8));
    }

    #[test]
    fn likes_are_merged_as_far_as_the_counter_grew() {
        let mut facts = good_run(1);
        facts.outcome.likes_offered = 120;
        (facts.outcome.likes_before, facts.outcome.likes_after) = (1000, 1118);
        facts.outcome.books.measured[LIKE].offered = 100;
        let summary = summary(&facts);
        assert_eq!((summary.likes_offered, summary.likes_counted), (120, 118));
        assert_eq!(summary.books[LIKE].merged, 98);
        assert_eq!(summary.books[LIKE].unanswered(), 2);
    }

    #[test]
    fn a_wrong_seq_and_a_repeated_message_are_seen() {
        let mut facts = good_run(10);
        facts.outcome.books.accepted.insert((0, 2), (55, true));
        let again = facts.outcome.ledger.seen[&(9, 104)];
        facts.outcome.ledger.seen.insert((9, 200), again);
        let summary = summary(&facts);
        assert_eq!((summary.wrong_seq, summary.twice), (2, 1), "the repeated one is elsewhere too");
    }
}
