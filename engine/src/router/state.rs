//! What a room's viewers know beside its messages: attributes, the pinned message, polls, and
//! which messages were recalled.
//!
//! It changes by notices alone: frames that ride in batches, in the order of the messages. The
//! home and every shard with members keep one copy each and take in the same notices, so that a
//! join anywhere is shown the room as its members know it. Never decides anything.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use uproar_proto::ids::{Epoch, RoomId};
use uproar_proto::v1::{self, server_frame::Body};

/// Recalled messages that a room remembers, for whoever comes back and has them on its screen:
/// five times its history. More: the oldest is forgotten.
const RECALLED_MAX: usize = 1_000;
/// Users of whom all was recalled that are told to whoever missed it. Each may cost the archive a
/// look into every segment.
const RECALLED_OF_MAX: usize = 32;
/// Polls that are shown to who joins. More: the oldest is shown no longer.
pub const POLLS_SHOWN_MAX: usize = 8;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct RoomState {
    attributes: Arc<BTreeMap<String, String>>,
    version: u64,
    pinned: Option<Box<v1::Message>>,
    /// The oldest first.
    polls: Vec<v1::Poll>,
    /// By seq, in the order they were recalled.
    recalled: VecDeque<u64>,
    /// Users of whom all was recalled up to a seq, in the order they were.
    recalled_of: VecDeque<(String, u64)>,
}

impl RoomState {
    /// A room that begins with these attributes.
    #[must_use]
    pub fn new(attributes: BTreeMap<String, String>) -> RoomState {
        RoomState { attributes: Arc::new(attributes), ..RoomState::default() }
    }

    /// Takes in a notice of a batch. One that is older than what is known changes nothing.
    pub fn apply(&mut self, notice: &Body) {
        match notice {
            Body::Recalled(recalled) => {
                if !recalled.user.is_empty() {
                    self.recalled_of.retain(|(user, _)| *user != recalled.user);
                    self.recalled_of.push_back((recalled.user.clone(), recalled.up_to_seq));
                    let excess = self.recalled_of.len().saturating_sub(RECALLED_OF_MAX);
                    self.recalled_of.drain(..excess);
                }
                for seq in &recalled.seqs {
                    if !self.recalled.contains(seq) {
                        self.recalled.push_back(*seq);
                    }
                }
                let excess = self.recalled.len().saturating_sub(RECALLED_MAX);
                self.recalled.drain(..excess);
            }
            Body::Attributes(change) if change.whole || change.from_version == self.version => {
                let attributes = Arc::make_mut(&mut self.attributes);
                if change.whole {
                    attributes.clear();
                }
                change.removed.iter().for_each(|key| drop(attributes.remove(key)));
                attributes.extend(change.set.clone());
                self.version = change.version;
            }
            Body::Pinned(pinned) => self.pinned.clone_from(&pinned.message),
            Body::Poll(told) => self.poll(told),
            _ => {}
        }
    }

    fn poll(&mut self, told: &v1::Poll) {
        match self.polls.iter_mut().find(|known| known.poll == told.poll) {
            Some(known) => {
                if !told.question.is_empty() {
                    known.question.clone_from(&told.question);
                    known.options.clone_from(&told.options);
                }
                known.votes.clone_from(&told.votes);
                (known.ends_ms, known.over) = (told.ends_ms, told.over);
            }
            None => {
                self.polls.push(told.clone());
                if self.polls.len() > POLLS_SHOWN_MAX {
                    // One that is over; fewer are open at once than are shown.
                    let old = self.polls.iter().position(|poll| poll.over).unwrap_or(0);
                    self.polls.remove(old);
                }
            }
        }
    }

    /// Attributes as viewers know them.
    #[must_use]
    pub fn attributes(&self) -> (&BTreeMap<String, String>, u64) {
        (&self.attributes, self.version)
    }

    /// The pinned message as viewers know it.
    #[must_use]
    pub fn pinned(&self) -> Option<&v1::Message> {
        self.pinned.as_deref()
    }

    /// A poll that viewers know.
    #[must_use]
    pub fn known_poll(&self, poll: u32) -> Option<&v1::Poll> {
        self.polls.iter().find(|known| known.poll == poll)
    }

    /// All of it as notices: for whoever has missed some.
    #[must_use]
    pub fn whole(&self, room: &RoomId, epoch: Epoch) -> Vec<Body> {
        let (room, epoch) = (room.to_string(), epoch.0);
        let mut notices = Vec::new();
        if !self.recalled.is_empty() {
            let seqs = self.recalled.iter().copied().collect();
            let (room, user) = (room.clone(), String::new());
            notices.push(Body::Recalled(v1::Recalled { room, epoch, seqs, user, up_to_seq: 0 }));
        }
        for (user, up_to_seq) in self.recalled_of.iter().cloned() {
            let (room, seqs) = (room.clone(), Vec::new());
            notices.push(Body::Recalled(v1::Recalled { room, epoch, seqs, user, up_to_seq }));
        }
        if self.version > 0 {
            notices.push(Body::Attributes(v1::Attributes {
                room: room.clone(),
                epoch,
                version: self.version,
                from_version: 0,
                set: (*self.attributes).clone(),
                removed: Vec::new(),
                whole: true,
            }));
        }
        let message = self.pinned.clone();
        notices.push(Body::Pinned(v1::Pinned { room, epoch, message }));
        notices.extend(self.polls.iter().cloned().map(Body::Poll));
        notices
    }

    /// Puts it into the answer to a join; `cursor_seq`: what the one who comes back has seen.
    pub fn show(&self, joined: &mut v1::Joined, cursor_seq: Option<u64>) {
        joined.attributes = (*self.attributes).clone();
        joined.attributes_version = self.version;
        joined.pinned.clone_from(&self.pinned);
        joined.polls.clone_from(&self.polls);
        if let Some(cursor) = cursor_seq {
            joined.recalled = self.recalled.iter().copied().filter(|seq| *seq <= cursor).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(from_version: u64, version: u64, set: &[(&str, &str)], removed: &[&str]) -> Body {
        let set = set.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let removed = removed.iter().map(|k| (*k).to_owned()).collect();
        let change = v1::Attributes { version, from_version, set, removed, ..Default::default() };
        Body::Attributes(change)
    }

    #[test]
    fn a_poll_that_is_open_stays_however_many_come_after_it() {
        let mut state = RoomState::new(BTreeMap::new());
        for poll in 1..=20 {
            let over = poll > 1;
            state.apply(&Body::Poll(v1::Poll {
                poll,
                over,
                votes: vec![0, 0],
                ..v1::Poll::default()
            }));
        }
        assert!(state.known_poll(1).is_some() && state.known_poll(2).is_none());
        assert!(state.known_poll(20).is_some());
    }

    #[test]
    fn a_copy_that_missed_notices_is_made_whole() {
        let (mut home, mut shard) = (RoomState::default(), RoomState::default());
        let recalled = v1::Recalled { seqs: vec![4, 9], ..v1::Recalled::default() };
        let pinned = v1::Message { seq: 9, ..v1::Message::default() };
        let pinned = v1::Pinned { message: Some(Box::new(pinned)), ..v1::Pinned::default() };
        let poll = v1::Poll { poll: 1, question: "?".into(), ..v1::Poll::default() };
        let first = change(0, 1, &[("a", "1"), ("b", "1")], &[]);
        for copy in [&mut home, &mut shard] {
            copy.apply(&first);
        }
        for missed in [
            change(1, 3, &[("a", "2")], &["b"]),
            Body::Recalled(recalled),
            Body::Pinned(pinned.clone()),
            Body::Poll(poll),
        ] {
            home.apply(&missed);
        }
        shard.apply(&change(3, 4, &[("c", "1")], &[]));
        assert_eq!(shard.attributes().1, 1, "a change of what it does not know is not taken");
        let room = RoomId::new("r").expect("legal");
        home.whole(&room, Epoch(1)).iter().for_each(|notice| shard.apply(notice));
        assert_eq!(shard.attributes(), home.attributes());
        assert_eq!(shard.attributes().0.len(), 1);
        let mut joined = v1::Joined::default();
        shard.show(&mut joined, Some(5));
        assert_eq!((joined.recalled, joined.pinned), (vec![4], pinned.message));
        assert_eq!(joined.polls[0].question, "?");
    }

    #[test]
    fn what_it_remembers_is_bounded() {
        let mut state = RoomState::default();
        for poll in 0..100 {
            state.apply(&Body::Poll(v1::Poll { poll, ..v1::Poll::default() }));
            let seqs = (0..100).map(|n| u64::from(poll) * 100 + n).collect();
            state.apply(&Body::Recalled(v1::Recalled { seqs, ..v1::Recalled::default() }));
        }
        assert_eq!((state.polls.len(), state.recalled.len()), (POLLS_SHOWN_MAX, RECALLED_MAX));
        assert_eq!((state.polls[0].poll, state.recalled[0]), (92, 9_000), "the newest are kept");
    }
}
