//! Polls of a room: a question, answers by number, exact counts.
//!
//! Each user counts once, whatever connections and shards its answers come by: the home keeps the
//! keys of who has answered an open poll until it is over (8 bytes each, 9 to 20 with the table
//! around them; 1,000,000 users take 18 MiB). The first answer counts, later ones are refused.
//! Answers come as ballots, many at a time, never as messages; what viewers are told are counts.
//!
//! A poll takes what a shard received before its end, and for that stays open a little longer. What
//! it told to be counted is counted: its last word is exact.

use crate::Set;
use crate::hash::Seeded;
use crate::seam::{Now, Tick};
use uproar_proto::control::{NewPoll, PollInfo};
use uproar_proto::error::Code;
use uproar_proto::v1;

/// Polls of a room that take answers at once. More: `LIMIT_REACHED`.
const OPEN_MAX: usize = 4;
/// Polls whose counts are kept. More: the oldest that is over is forgotten.
const KEPT_MAX: usize = 32;

/// One answer on its way to the home: 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ballot {
    /// The seeded hash of the user, as in [`super::Sender`].
    pub key: u64,
    /// The connection it came by, for the answer.
    pub conn: u32,
    pub generation: u8,
    pub option: u8,
}

/// One poll.
#[derive(Debug)]
struct Poll {
    info: PollInfo,
    /// Who has answered.
    voters: Set<u64>,
    /// What was received before is counted until then.
    closes: Tick,
    /// Viewers know the question, and when they were last told counts.
    asked: bool,
    told_at: Option<Tick>,
    changed: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Polls {
    seed: u64,
    voters_max: usize,
    tell_every_us: u64,
    /// How long after its end ballots are on their way.
    grace_us: u64,
    last: u32,
    list: Vec<Poll>,
}

impl Polls {
    /// No poll. `voters_max`: users who may answer one.
    #[must_use]
    pub fn new(seed: u64, voters_max: u32, tell_every_ms: u32, grace_us: u64) -> Polls {
        let tell_every_us = u64::from(tell_every_ms) * 1_000;
        let voters_max = voters_max as usize;
        Polls { seed, voters_max, tell_every_us, grace_us, last: 0, list: Vec::new() }
    }

    /// Asks a question.
    ///
    /// # Errors
    /// `LIMIT_REACHED`
    pub fn open(&mut self, new: NewPoll, now: Now) -> Result<PollInfo, Code> {
        if self.list.iter().filter(|poll| !poll.info.over).count() >= OPEN_MAX {
            return Err(Code::LimitReached);
        }
        if self.list.len() >= KEPT_MAX
            && let Some(oldest) = self.list.iter().position(|poll| poll.info.over)
        {
            self.list.remove(oldest);
        }
        self.last += 1;
        let NewPoll { question, options, duration_s } = new;
        let lasts_ms = u64::from(duration_s) * 1_000;
        let info = PollInfo {
            poll: self.last,
            question,
            votes: vec![0; options.len()],
            options,
            refused: 0,
            ends_ms: now.unix_ms + lasts_ms,
            over: false,
        };
        self.list.push(Poll {
            info: info.clone(),
            voters: Set::with_hasher(Seeded(self.seed)),
            closes: Tick(now.tick.after_ms(lasts_ms).0 + self.grace_us),
            asked: false,
            told_at: None,
            changed: true,
        });
        Ok(info)
    }

    /// Counts ballots of a poll; which of them were refused, by their place, and why.
    pub fn count(&mut self, poll: u32, ballots: &[Ballot]) -> Vec<(u32, Code)> {
        let voters_max = self.voters_max;
        let known = self.list.iter_mut().find(|known| known.info.poll == poll);
        let Some(poll) = known else { return refused(ballots, Code::PollOver) };
        if poll.info.over {
            poll.info.refused += ballots.len() as u64;
            return refused(ballots, Code::PollOver);
        }
        let mut refused = Vec::new();
        for (place, ballot) in ballots.iter().enumerate() {
            let code = if usize::from(ballot.option) >= poll.info.votes.len() {
                Some(Code::BadRequest)
            } else if poll.voters.contains(&ballot.key) {
                Some(Code::AlreadyVoted)
            } else if poll.voters.len() >= voters_max {
                Some(Code::LimitReached)
            } else {
                None
            };
            if let Some(code) = code {
                refused.push((place as u32, code));
                poll.info.refused += 1;
                continue;
            }
            poll.voters.insert(ballot.key);
            poll.info.votes[usize::from(ballot.option)] += 1;
            poll.changed = true;
        }
        refused
    }

    /// A poll as it stands.
    #[must_use]
    pub fn get(&self, poll: u32) -> Option<&PollInfo> {
        self.list.iter().map(|known| &known.info).find(|info| info.poll == poll)
    }

    /// Ends a poll now; false where there is none. One that is over stays as it is.
    pub fn end(&mut self, poll: u32, now: Now) -> bool {
        let known = self.list.iter_mut().find(|known| known.info.poll == poll);
        let Some(poll) = known else { return false };
        if !poll.info.over {
            poll.info.ends_ms = poll.info.ends_ms.min(now.unix_ms);
            poll.close();
        }
        true
    }

    /// When a poll is over, or viewers may be told of one; `NEVER` where they know.
    #[must_use]
    pub fn due(&self) -> Tick {
        let due = |poll: &Poll| {
            let told = poll.told_at.map_or(Tick(0), |at| Tick(at.0 + self.tell_every_us));
            match (poll.changed, poll.info.over) {
                (true, true) => Tick(0),
                (true, false) => told.min(poll.closes),
                (false, true) => Tick::NEVER,
                (false, false) => poll.closes,
            }
        };
        self.list.iter().map(due).min().unwrap_or(Tick::NEVER)
    }

    /// What viewers are told now: counts at most once a second, and the last word at the end.
    pub fn take(&mut self, room: &str, now: Tick) -> Vec<v1::Poll> {
        let mut told = Vec::new();
        for poll in &mut self.list {
            if !poll.info.over && now >= poll.closes {
                poll.close();
            }
            let spaced = poll.told_at.is_none_or(|at| now.since_us(at) >= self.tell_every_us);
            if !poll.changed || !(spaced || poll.info.over) {
                continue;
            }
            told.push(poll.frame(room, !poll.asked));
            (poll.asked, poll.changed, poll.told_at) = (true, false, Some(now));
        }
        told
    }
}

impl Poll {
    fn close(&mut self) {
        (self.info.over, self.changed) = (true, true);
        self.voters = Set::with_hasher(Seeded(0));
    }

    fn frame(&self, room: &str, is_whole: bool) -> v1::Poll {
        let PollInfo { poll, question, options, votes, refused: _, ends_ms, over } = &self.info;
        v1::Poll {
            room: room.to_owned(),
            poll: *poll,
            question: if is_whole { question.clone() } else { String::new() },
            options: if is_whole { options.clone() } else { Vec::new() },
            ends_ms: *ends_ms,
            votes: votes.clone(),
            over: *over,
        }
    }
}

fn refused(ballots: &[Ballot], code: Code) -> Vec<(u32, Code)> {
    (0..ballots.len() as u32).map(|place| (place, code)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::mix;

    fn at(ms: u64) -> Now {
        Now { tick: Tick(ms * 1_000), unix_ms: 1_000_000 + ms, cpu_us: 0 }
    }

    fn poll(options: usize, duration_s: u32) -> NewPoll {
        let options = (0..options).map(|n| n.to_string()).collect();
        NewPoll { question: "?".into(), options, duration_s }
    }

    fn ballot(user: u64, option: u8) -> Ballot {
        Ballot { key: mix(user), conn: user as u32, generation: 0, option }
    }

    fn polls(voters_max: u32) -> Polls {
        Polls::new(7, voters_max, 1_000, 270_000)
    }

    #[test]
    fn a_million_answers_are_counted_exactly_and_each_user_once() {
        const USERS: u64 = 1_000_000;
        let mut polls = polls(2_000_000);
        let id = polls.open(poll(4, 10), at(0)).expect("room for it").poll;
        let (mut refused, mut told, mut window) = (0, Vec::new(), Vec::new());
        // Every third user answers again over another connection, somewhat later and otherwise.
        for user in 0..USERS {
            window.push(ballot(user, (user % 4) as u8));
            if user >= 5_000 && user % 3 == 0 {
                window.push(ballot(user - 5_000, ((user + 1) % 4) as u8));
            }
            if window.len() >= 16_384 {
                refused += polls.count(id, &window).len() as u64;
                window.clear();
                told.extend(polls.take("r", at(user / 200).tick));
            }
        }
        refused += polls.count(id, &window).len() as u64;
        let again = (5_000..USERS).filter(|user| user % 3 == 0).count() as u64;
        assert_eq!(refused, again);
        assert!(told.len() <= 6, "{} frames in five seconds", told.len());
        let last = polls.take("r", at(10_270).tick).pop().expect("the last word");
        assert_eq!((last.over, &last.votes[..]), (true, &[USERS / 4; 4][..]));
        let late = polls.count(id, &[ballot(USERS + 1, 0)]);
        assert_eq!(late, [(0, Code::PollOver)], "what is told to be exact stays so");
        let info = polls.get(id).expect("it is kept");
        assert_eq!((info.votes.iter().sum::<u64>(), info.refused), (USERS, again + 1));
        assert_eq!((polls.due(), polls.list[0].voters.capacity()), (Tick::NEVER, 0));
    }

    #[test]
    fn what_does_not_fit_is_refused_and_told_why() {
        let mut polls = polls(2);
        let id = polls.open(poll(2, 1), at(0)).expect("room for it").poll;
        let codes = polls.count(id, &[ballot(1, 2), ballot(1, 1), ballot(2, 0), ballot(3, 0)]);
        assert_eq!(codes, [(0, Code::BadRequest), (3, Code::LimitReached)]);
        for _ in 1..OPEN_MAX {
            polls.open(poll(2, 1), at(0)).expect("room for it");
        }
        assert_eq!(polls.open(poll(2, 1), at(0)).map(|info| info.poll), Err(Code::LimitReached));
        for _ in 0..100 {
            assert!(polls.end(polls.last, at(5)));
            polls.open(poll(2, 1), at(5)).expect("another one is over");
        }
        assert_eq!(polls.list.len(), KEPT_MAX, "and it does not grow");
        assert!(!polls.end(9_999, at(5)));
    }

    #[test]
    fn the_question_is_told_once_and_counts_once_a_second() {
        let mut polls = polls(100);
        let id = polls.open(poll(2, 5), at(0)).expect("room for it").poll;
        let first = polls.take("r", at(0).tick);
        assert_eq!((first[0].question.as_str(), first[0].options.len()), ("?", 2));
        assert_eq!(polls.due(), at(5_270).tick, "nothing but its end");
        polls.count(id, &[ballot(1, 1)]);
        assert_eq!(polls.due(), at(1_000).tick);
        assert!(polls.take("r", at(999).tick).is_empty());
        let counts = polls.take("r", at(1_000).tick);
        assert_eq!((counts[0].question.as_str(), &counts[0].votes[..]), ("", &[0, 1][..]));
        polls.end(id, at(1_100));
        assert_eq!(polls.due(), Tick(0), "the last word does not wait");
        assert!(polls.take("r", at(1_100).tick)[0].over);
    }
}
