//! Messages that the platform decides about before anybody sees them: admitted, and without a seq
//! until its word is there or the time for it is over.
//!
//! Owns their order and their time. They come out in the order they were admitted, whatever the
//! order of the answers, so neither a user's messages nor a room's change places; what is behind a
//! message waits no longer than that one may. Asks nobody; what a judgement means is its home's to
//! carry out.

use super::Candidate;
use crate::seam::Tick;
use std::collections::VecDeque;
use uproar_proto::control::Judgement;
use uproar_proto::error::Code;

/// What became of a message that was asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Allowed,
    Replaced,
    Refused,
    /// No decision; it passed.
    Open,
    /// No decision; it was refused.
    Closed,
}

/// A message that has come out.
#[derive(Debug, PartialEq, Eq)]
pub struct Judged {
    pub candidate: Candidate,
    /// When it came in.
    pub since: Tick,
    /// `Undecided` also where its time is over.
    pub judgement: Judgement,
}

#[derive(Debug)]
struct Waiting {
    candidate: Candidate,
    since: Tick,
    judgement: Option<Judgement>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Judge {
    /// In the order they came, numbered without a hole. Bounded by what a room admits in the time
    /// they may wait: its rate, times that time and the second of burst its tokens allow.
    waiting: VecDeque<Waiting>,
    /// Questions so far: the number of the last one.
    asked: u64,
}

impl Judge {
    /// Takes a message in; the number that its answer has to name.
    pub fn wait(&mut self, candidate: Candidate, now: Tick) -> u64 {
        self.waiting.push_back(Waiting { candidate, since: now, judgement: None });
        self.asked += 1;
        self.asked
    }

    /// Takes an answer in; false: its message waits for none any more. The first answer counts.
    pub fn answer(&mut self, number: u64, judgement: Judgement) -> bool {
        let before = self.asked - self.waiting.len() as u64;
        let place = number.checked_sub(before + 1).and_then(|place| usize::try_from(place).ok());
        let Some(waiting) = place.and_then(|place| self.waiting.get_mut(place)) else {
            return false;
        };
        let is_first = waiting.judgement.is_none();
        if is_first {
            waiting.judgement = Some(judgement);
        }
        is_first
    }

    /// A moderator takes back what a user said: what waits here is shown to nobody.
    pub fn recall(&mut self, user: &str) {
        for waiting in self.waiting.iter_mut().filter(|w| &*w.candidate.sender.user == user) {
            waiting.judgement = Some(Judgement::Refuse(Code::Refused, String::new()));
        }
    }

    /// When [`Judge::next`] has something, where messages wait up to `wait_ms`; `NEVER` where
    /// nothing waits. `asks`: the room still asks; where it does not, nothing waits for an answer.
    #[must_use]
    pub fn due(&self, wait_ms: u32, asks: bool) -> Tick {
        match self.waiting.front() {
            None => Tick::NEVER,
            Some(first) if first.judgement.is_some() || !asks => Tick(0),
            Some(first) => first.since.after_ms(u64::from(wait_ms)),
        }
    }

    /// The next message that comes out now.
    pub fn next(&mut self, wait_ms: u32, asks: bool, now: Tick) -> Option<Judged> {
        if self.due(wait_ms, asks) > now {
            return None;
        }
        let Waiting { candidate, since, judgement } = self.waiting.pop_front()?;
        let without = if asks { Judgement::Undecided } else { Judgement::Allow };
        Some(Judged { candidate, since, judgement: judgement.unwrap_or(without) })
    }

    /// Messages that wait, in their order.
    pub fn candidates(&self) -> impl Iterator<Item = &Candidate> {
        self.waiting.iter().map(|waiting| &waiting.candidate)
    }

    /// The room ends: everything that waits.
    pub fn take(&mut self) -> impl Iterator<Item = Candidate> {
        std::mem::take(&mut self.waiting).into_iter().map(|waiting| waiting.candidate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::tests::candidate;
    use proptest::prelude::*;
    use uproar_proto::v1::Class;

    const WAIT_MS: u32 = 500;

    fn judge(senders: impl IntoIterator<Item = u64>) -> Judge {
        let mut judge = Judge::default();
        for sender in senders {
            judge.wait(candidate(sender, Class::Chat, sender), Tick(sender * 1_000));
        }
        judge
    }

    /// Who comes out at a moment, and with which judgement.
    fn out(judge: &mut Judge, asks: bool, at_ms: u64) -> Vec<(String, Judgement)> {
        let now = Tick(at_ms * 1_000);
        let next = std::iter::from_fn(|| judge.next(WAIT_MS, asks, now));
        next.map(|judged| (judged.candidate.sender.user.to_string(), judged.judgement)).collect()
    }

    fn allowed(user: &str) -> (String, Judgement) {
        (user.into(), Judgement::Allow)
    }

    #[test]
    fn they_come_out_in_the_order_they_came_whatever_the_order_of_the_answers() {
        let mut judge = judge(1..=4);
        let refuse = || Judgement::Refuse(Code::Muted, "no".into());
        assert!(judge.answer(3, Judgement::Allow) && judge.answer(2, refuse()));
        assert_eq!(out(&mut judge, true, 10), []);
        assert!(judge.answer(1, Judgement::Allow));
        let three = [allowed("1"), ("2".into(), refuse()), allowed("3")];
        assert_eq!(out(&mut judge, true, 10), three);
        assert!(!judge.answer(3, Judgement::Allow), "it is out");
        assert!(!judge.answer(5, Judgement::Allow), "nobody asked");
        assert!(!judge.answer(0, Judgement::Allow) && !judge.answer(u64::MAX, refuse()));
        assert_eq!(judge.candidates().count(), 1);
    }

    #[test]
    fn whoever_is_not_decided_about_in_time_comes_out_and_lets_the_others_out() {
        let mut judge = judge([0, 1, 400]);
        assert!(judge.answer(2, Judgement::Replace("x".into())));
        assert_eq!(judge.due(WAIT_MS, true), Tick(500_000));
        assert_eq!(out(&mut judge, true, 499), []);
        let undecided = |user: &str| (user.to_owned(), Judgement::Undecided);
        let two = [undecided("0"), ("1".into(), Judgement::Replace("x".into()))];
        assert_eq!(out(&mut judge, true, 500), two);
        assert_eq!(judge.due(WAIT_MS, true), Tick(900_000));
        assert_eq!(out(&mut judge, true, 900), [undecided("400")]);
        assert_eq!(judge.due(WAIT_MS, true), Tick::NEVER);
    }

    #[test]
    fn the_first_answer_counts_and_a_room_that_asks_no_more_waits_for_none() {
        let mut judge = judge(1..=3);
        assert!(judge.answer(2, Judgement::Refuse(Code::Refused, String::new())));
        assert!(!judge.answer(2, Judgement::Allow));
        assert_eq!(judge.due(WAIT_MS, false), Tick(0));
        let refused = ("2".into(), Judgement::Refuse(Code::Refused, String::new()));
        assert_eq!(out(&mut judge, false, 3), [allowed("1"), refused, allowed("3")]);
    }

    #[test]
    fn what_a_moderator_takes_back_comes_out_refused_whatever_was_answered() {
        let mut judge = judge([1, 2, 1]);
        assert!(judge.answer(1, Judgement::Allow) && judge.answer(2, Judgement::Allow));
        judge.recall("1");
        let refused = || ("1".to_owned(), Judgement::Refuse(Code::Refused, String::new()));
        assert_eq!(out(&mut judge, true, 2), [refused(), allowed("2"), refused()]);
    }

    proptest! {
        #[test]
        fn nobody_waits_longer_than_may_be_and_nobody_changes_places(
            steps in prop::collection::vec((0u64..3, 0u64..40, 0u64..60_000), 1..200),
        ) {
            let (mut judge, mut now, mut came, mut out) = (Judge::default(), 0, 0, Vec::new());
            for (what, number, us) in steps {
                now += us;
                match what {
                    0 => {
                        came += 1;
                        judge.wait(candidate(came, Class::Chat, now), Tick(now));
                    }
                    _ => drop(judge.answer(number, Judgement::Allow)),
                }
                while let Some(judged) = judge.next(WAIT_MS, true, Tick(now)) {
                    let waited_ms = now.saturating_sub(judged.since.0) / 1_000;
                    prop_assert!(judged.judgement == Judgement::Allow || waited_ms >= 500);
                    out.push(judged.candidate.sender.user.parse::<u64>().expect("a number"));
                }
                let oldest = judge.candidates().next().map_or(now, |c| c.received.0);
                prop_assert!(now - oldest < 500_000, "it waits for {} us", now - oldest);
            }
            prop_assert_eq!(out.len() + judge.candidates().count(), came as usize);
            prop_assert!(out.iter().copied().eq(1..=out.len() as u64));
        }
    }
}
