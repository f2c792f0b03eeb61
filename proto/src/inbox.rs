//! A client's side of stored conversations, without a socket: the contract of PROTOCOL.md as code.
//!
//! Owns what a device knows: how far it has each conversation, what came out of order, what it has
//! sent and not seen acknowledged. Frames and moments go in, frames and messages come out, each
//! message once and in order. The load tester and the tests use it; so may a client in Rust.

use crate::v1::{self, client_frame, server_frame::Body};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

/// A push that is ahead of its turn waits this long for those before it, then they are pulled.
pub const AHEAD_MS: u64 = 500;
/// Sends of one conversation that are under way at once; the next ones wait for all of them, so
/// that none is stored before one that was sent first.
pub const BATCH_MAX: usize = 32;
/// An answer that has not come after this long is asked for again.
pub const ANSWER_MS: u64 = 5_000;
/// Messages kept ahead of their turn, by conversation. More are dropped: they will be pulled.
const AHEAD_MAX: usize = 1_000;

/// What a device hands to its user.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// The next message of a conversation: every seq once, rising by one.
    Message(String, v1::StoredMessage),
    /// A send was stored: conversation, the id it was sent under, its seq.
    Stored(String, Bytes, u64),
    /// A send was refused for good: why, a number of the table of codes.
    Refused(String, Bytes, u32),
    /// Nothing more is missed of what there was when the device connected.
    CaughtUp,
}

/// One conversation.
#[derive(Debug, Default)]
struct Conversation {
    /// Everything up to here was handed on.
    last_seq: u64,
    /// There is something up to here.
    head_seq: u64,
    ahead: BTreeMap<u64, v1::StoredMessage>,
    /// When the first of `ahead` came.
    ahead_since_ms: u64,
    /// A pull is under way.
    pulling: bool,
    /// Sends without an answer, in their order; the first `under_way` of them were sent.
    sends: VecDeque<v1::Send>,
    under_way: usize,
    answered: usize,
    sent_ms: u64,
    not_before_ms: u64,
}

/// A device's conversations.
#[derive(Debug, Default)]
pub struct Inbox {
    conversations: BTreeMap<String, Conversation>,
    generation: Option<u64>,
    cursor: String,
    /// The cursor of the page that comes next.
    page: String,
    syncing: bool,
    sync_due_ms: Option<u64>,
    caught_up: bool,
    pull_id: u32,
    /// Ranges of each pull under way.
    pulls: BTreeMap<u32, Vec<String>>,
    /// Requests of a kind that were answered: syncs and pulls.
    requests: u64,
    duplicates: u64,
}

impl Inbox {
    /// A new connection was welcomed: what is asked for first. Whatever was under way on an older
    /// connection is asked for again.
    pub fn connected(&mut self, now_ms: u64) -> Vec<client_frame::Body> {
        self.syncing = false;
        self.caught_up = false;
        self.pulls.clear();
        for conversation in self.conversations.values_mut() {
            (conversation.pulling, conversation.under_way, conversation.answered) = (false, 0, 0);
            conversation.not_before_ms = 0;
        }
        self.page = self.cursor.clone();
        self.sync_due_ms = Some(now_ms);
        self.due(now_ms)
    }

    /// Sends a message, now or as soon as those before it are stored. Its id must be new.
    pub fn send(&mut self, send: v1::Send, now_ms: u64) -> Vec<client_frame::Body> {
        self.conversations.entry(send.conversation.clone()).or_default().sends.push_back(send);
        self.due(now_ms)
    }

    /// Sends that have no answer.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.conversations.values().map(|c| c.sends.len()).sum()
    }

    /// Whether nothing is missing that the server has told of.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.caught_up && self.conversations.values().all(|c| c.last_seq >= c.head_seq)
    }

    /// How far a conversation was handed on.
    #[must_use]
    pub fn last_seq(&self, conversation: &str) -> u64 {
        self.conversations.get(conversation).map_or(0, |c| c.last_seq)
    }

    /// Syncs and pulls that were asked for.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// Messages that came again and were dropped.
    #[must_use]
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Takes a frame in: what it means for the user. [`Inbox::due`] tells what to send then.
    pub fn receive(&mut self, body: &Body, now_ms: u64) -> Vec<Said> {
        let mut said = Vec::new();
        match body {
            Body::Stored(stored) => self.stored(stored, now_ms, &mut said),
            Body::Sent(sent) => self.sent(sent, now_ms, &mut said),
            Body::Synced(synced) => self.synced(synced, now_ms),
            Body::Pulled(pulled) => self.pulled(pulled, now_ms, &mut said),
            Body::Resync(resync) => {
                // Spread by what this device has sent: no clock and no dice here.
                let spread = u64::from(resync.spread_ms).max(1);
                let wait = self.requests.wrapping_mul(0x9e37_79b9_7f4a_7c15) % spread;
                self.sync_due_ms.get_or_insert(now_ms + wait);
            }
            // A refused sync or pull is asked again.
            Body::Error(error) if error.retry => {
                let wait = u64::from(error.retry_after_ms).max(100);
                self.syncing = false;
                self.pulls.clear();
                self.conversations.values_mut().for_each(|c| c.pulling = false);
                self.sync_due_ms = Some(now_ms + wait);
            }
            _ => {}
        }
        if !self.caught_up && !self.syncing && self.sync_due_ms.is_none() {
            let missing = self.conversations.values().any(|c| c.last_seq < c.head_seq);
            if !missing {
                self.caught_up = true;
                said.push(Said::CaughtUp);
            }
        }
        said
    }

    fn stored(&mut self, stored: &v1::Stored, now_ms: u64, said: &mut Vec<Said>) {
        let name = &stored.conversation;
        let conversation = self.conversations.entry(name.clone()).or_default();
        for message in &stored.messages {
            conversation.head_seq = conversation.head_seq.max(message.seq);
            if message.seq <= conversation.last_seq || conversation.ahead.contains_key(&message.seq)
            {
                self.duplicates += 1;
            } else if conversation.ahead.len() < AHEAD_MAX {
                if conversation.ahead.is_empty() {
                    conversation.ahead_since_ms = now_ms;
                }
                conversation.ahead.insert(message.seq, message.clone());
            }
            conversation.hand_on(name, said);
        }
    }

    fn sent(&mut self, sent: &v1::Sent, now_ms: u64, said: &mut Vec<Said>) {
        let Some(conversation) = self.conversations.get_mut(&sent.conversation) else { return };
        let id = &sent.client_msg_id;
        let under_way = conversation.under_way;
        let place = conversation.sends.iter().take(under_way).position(|s| s.client_msg_id == *id);
        let Some(place) = place else { return };
        conversation.answered += 1;
        if sent.code != 0 && sent.retry {
            let wait = u64::from(sent.retry_after_ms).max(1);
            conversation.not_before_ms = conversation.not_before_ms.max(now_ms + wait);
        } else {
            conversation.sends.remove(place);
            conversation.under_way -= 1;
            conversation.answered -= 1;
            let name = sent.conversation.clone();
            said.push(match sent.code {
                0 => Said::Stored(name, id.clone(), sent.seq),
                code => Said::Refused(name, id.clone(), code),
            });
        }
        if conversation.answered >= conversation.under_way {
            (conversation.under_way, conversation.answered) = (0, 0);
        }
    }

    fn synced(&mut self, synced: &v1::Synced, now_ms: u64) {
        self.syncing = false;
        if self.generation.is_some_and(|known| known != synced.generation) {
            // Another life of the store: seqs begin anew, and so does this device.
            self.cursor.clear();
            self.page.clear();
            for conversation in self.conversations.values_mut() {
                let sends = std::mem::take(&mut conversation.sends);
                *conversation = Conversation { sends, ..Conversation::default() };
            }
            self.generation = Some(synced.generation);
            self.sync_due_ms = Some(now_ms);
            return;
        }
        self.generation = Some(synced.generation);
        for state in &synced.conversations {
            let conversation = self.conversations.entry(state.conversation.clone()).or_default();
            conversation.last_seq = conversation.last_seq.max(state.floor_seq);
            conversation.head_seq = conversation.head_seq.max(state.head_seq);
        }
        self.page = synced.cursor.clone();
        if synced.done {
            self.cursor = synced.cursor.clone();
        } else {
            self.sync_due_ms = Some(now_ms);
        }
    }

    fn pulled(&mut self, pulled: &v1::Pulled, now_ms: u64, said: &mut Vec<Said>) {
        for name in self.pulls.remove(&pulled.id).unwrap_or_default() {
            if let Some(conversation) = self.conversations.get_mut(&name) {
                conversation.pulling = false;
            }
        }
        for part in &pulled.parts {
            self.stored(part, now_ms, said);
        }
    }

    /// What is to be sent now. Call it after everything that came in, and when
    /// [`Inbox::next_due_ms`] says.
    pub fn due(&mut self, now_ms: u64) -> Vec<client_frame::Body> {
        let mut frames = Vec::new();
        if !self.syncing && self.sync_due_ms.is_some_and(|due| due <= now_ms) {
            (self.syncing, self.sync_due_ms) = (true, None);
            self.requests += 1;
            let cursor = self.page.clone();
            frames.push(client_frame::Body::Sync(v1::Sync { cursor, limit: 0 }));
        }
        self.pull_due(now_ms, &mut frames);
        for conversation in self.conversations.values_mut() {
            conversation.send_due(now_ms, &mut frames);
        }
        frames
    }

    /// Pulls what is missing: many ranges in one request.
    fn pull_due(&mut self, now_ms: u64, frames: &mut Vec<client_frame::Body>) {
        // One at a time: the answer holds as much as one answer may.
        if self.syncing || self.sync_due_ms.is_some() || !self.pulls.is_empty() {
            return;
        }
        let mut ranges = Vec::new();
        for (name, conversation) in &mut self.conversations {
            let Some(to_seq) = conversation.missing(self.caught_up, now_ms) else { continue };
            conversation.pulling = true;
            let from_seq = conversation.last_seq + 1;
            ranges.push(v1::Range { conversation: name.clone(), from_seq, to_seq });
            if ranges.len() == 64 {
                break;
            }
        }
        if !ranges.is_empty() {
            self.pull_id = self.pull_id.wrapping_add(1);
            self.requests += 1;
            let names = ranges.iter().map(|range| range.conversation.clone()).collect();
            self.pulls.insert(self.pull_id, names);
            frames.push(client_frame::Body::Pull(v1::Pull { id: self.pull_id, ranges }));
        }
    }

    /// When [`Inbox::due`] has something to send, if nothing comes in before.
    #[must_use]
    pub fn next_due_ms(&self) -> Option<u64> {
        let sync = self.sync_due_ms.filter(|_| !self.syncing);
        let each = self.conversations.values().filter_map(Conversation::next_due_ms).min();
        sync.into_iter().chain(each).min()
    }
}

impl Conversation {
    /// Hands on what is next, and all that waited for it.
    fn hand_on(&mut self, name: &str, said: &mut Vec<Said>) {
        while let Some(message) = self.ahead.remove(&(self.last_seq + 1)) {
            self.last_seq += 1;
            said.push(Said::Message(name.to_owned(), message));
        }
    }

    /// Up to where something is missing that is to be pulled now.
    fn missing(&self, caught_up: bool, now_ms: u64) -> Option<u64> {
        if self.pulling || self.last_seq >= self.head_seq {
            return None;
        }
        // After a connect at once; else pushes may still be on their way.
        let waited = self.ahead.is_empty() || now_ms >= self.ahead_since_ms + AHEAD_MS;
        let next = self.ahead.keys().next().map_or(self.head_seq, |seq| seq - 1);
        (!caught_up || waited).then_some(next.max(self.last_seq + 1))
    }

    fn send_due(&mut self, now_ms: u64, frames: &mut Vec<client_frame::Body>) {
        if self.under_way > 0 && now_ms < self.sent_ms + ANSWER_MS {
            return;
        }
        if self.sends.is_empty() || now_ms < self.not_before_ms {
            return;
        }
        self.under_way = self.sends.len().min(BATCH_MAX);
        self.answered = 0;
        self.sent_ms = now_ms;
        frames.extend(self.sends.iter().take(BATCH_MAX).cloned().map(client_frame::Body::Send));
    }

    fn next_due_ms(&self) -> Option<u64> {
        let sends = match (self.sends.is_empty(), self.under_way) {
            (true, _) => None,
            (false, 0) => Some(self.not_before_ms),
            (false, _) => Some(self.sent_ms + ANSWER_MS),
        };
        let missing = self.last_seq < self.head_seq && !self.pulling;
        let pull = missing.then_some(self.ahead_since_ms + AHEAD_MS);
        sends.into_iter().chain(pull).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(seq: u64) -> v1::StoredMessage {
        v1::StoredMessage { seq, ..v1::StoredMessage::default() }
    }

    fn push(seqs: &[u64]) -> Body {
        let messages = seqs.iter().map(|seq| message(*seq)).collect();
        Body::Stored(v1::Stored { conversation: "user:b".into(), messages })
    }

    fn synced(head_seq: u64, generation: u64) -> Body {
        let conversation = "user:b".to_owned();
        let state = v1::ConversationState { conversation, head_seq, ..Default::default() };
        Body::Synced(v1::Synced {
            generation,
            cursor: "9".into(),
            done: true,
            conversations: vec![state],
        })
    }

    fn seqs(said: &[Said]) -> Vec<u64> {
        let seq = |said: &Said| match said {
            Said::Message(_, message) => Some(message.seq),
            _ => None,
        };
        said.iter().filter_map(seq).collect()
    }

    fn pull_of(frames: &[client_frame::Body]) -> (u32, u64, u64) {
        match frames {
            [client_frame::Body::Pull(p)] => (p.id, p.ranges[0].from_seq, p.ranges[0].to_seq),
            other => panic!("one pull: {other:?}"),
        }
    }

    /// A device that has synced an empty store.
    fn device() -> Inbox {
        let mut inbox = Inbox::default();
        assert!(matches!(inbox.connected(0)[..], [client_frame::Body::Sync(_)]));
        assert_eq!(inbox.receive(&synced(0, 1), 0), [Said::CaughtUp]);
        inbox
    }

    #[test]
    fn pushes_come_out_once_and_in_order() {
        let mut inbox = device();
        assert_eq!(seqs(&inbox.receive(&push(&[1, 2]), 0)), [1, 2]);
        assert!(seqs(&inbox.receive(&push(&[2, 4]), 0)).is_empty());
        assert_eq!(inbox.due(AHEAD_MS - 1), [], "the missing one may be on its way");
        assert_eq!(seqs(&inbox.receive(&push(&[3, 3]), 0)), [3, 4]);
        assert_eq!((inbox.duplicates(), inbox.last_seq("user:b")), (2, 4));
    }

    #[test]
    fn what_stays_missing_is_pulled() {
        let mut inbox = device();
        inbox.receive(&push(&[1, 4]), 10);
        assert_eq!(inbox.next_due_ms(), Some(10 + AHEAD_MS));
        let (id, from, to) = pull_of(&inbox.due(10 + AHEAD_MS));
        assert_eq!((from, to), (2, 3));
        assert_eq!(inbox.due(9_999), [], "one pull at a time");
        let Body::Stored(part) = push(&[2, 3]) else { unreachable!() };
        let pulled = Body::Pulled(v1::Pulled { id, parts: vec![part], rest: Vec::new() });
        assert_eq!(seqs(&inbox.receive(&pulled, 600)), [2, 3, 4]);
        assert!(inbox.is_whole());
    }

    #[test]
    fn a_backlog_is_pulled_at_once_and_a_new_generation_begins_anew() {
        let mut inbox = device();
        inbox.receive(&push(&[1]), 0);
        inbox.connected(100);
        inbox.receive(&synced(3, 1), 100);
        let (id, from, to) = pull_of(&inbox.due(100));
        assert_eq!((from, to), (2, 3));
        let Body::Stored(part) = push(&[2, 3]) else { unreachable!() };
        let pulled = Body::Pulled(v1::Pulled { id, parts: vec![part], rest: Vec::new() });
        let said = inbox.receive(&pulled, 100);
        assert_eq!((seqs(&said), said.last()), (vec![2, 3], Some(&Said::CaughtUp)));
        inbox.connected(200);
        inbox.receive(&synced(1, 2), 200);
        assert_eq!(inbox.last_seq("user:b"), 0);
        assert!(matches!(inbox.due(200)[..], [client_frame::Body::Sync(_)]));
    }

    fn send(id: u8) -> v1::Send {
        let client_msg_id = Bytes::copy_from_slice(&[id; 16]);
        v1::Send { conversation: "user:b".into(), client_msg_id, ..v1::Send::default() }
    }

    fn answer(id: u8, seq: u64, retry: bool) -> Body {
        Body::Sent(v1::Sent {
            conversation: "user:b".into(),
            client_msg_id: Bytes::copy_from_slice(&[id; 16]),
            seq,
            code: u32::from(seq == 0),
            retry,
            retry_after_ms: 50,
            ..v1::Sent::default()
        })
    }

    #[test]
    fn a_failed_batch_is_sent_again_in_its_order_before_anything_new() {
        let mut inbox = device();
        assert_eq!(inbox.send(send(1), 0), [client_frame::Body::Send(send(1))]);
        assert_eq!(inbox.send(send(2), 0), [], "it waits for the batch under way");
        assert_eq!(inbox.receive(&answer(1, 0, true), 0), []);
        assert_eq!(inbox.due(49), []);
        let again: Vec<_> = [1, 2].map(|id| client_frame::Body::Send(send(id))).into();
        assert_eq!(inbox.due(50), again);
        let stored = inbox.receive(&answer(1, 7, false), 60);
        assert_eq!(stored, [Said::Stored("user:b".into(), send(1).client_msg_id, 7)]);
        let refused = inbox.receive(&answer(2, 0, false), 60);
        assert_eq!(refused, [Said::Refused("user:b".into(), send(2).client_msg_id, 1)]);
        assert_eq!((inbox.unanswered(), inbox.due(99_999)), (0, vec![]));
    }

    #[test]
    fn an_answer_that_never_comes_is_asked_for_again() {
        let mut inbox = device();
        inbox.send(send(1), 0);
        assert_eq!(inbox.next_due_ms(), Some(ANSWER_MS));
        assert_eq!(inbox.due(ANSWER_MS), [client_frame::Body::Send(send(1))]);
        let frames = inbox.connected(ANSWER_MS + 1);
        assert!(frames.contains(&client_frame::Body::Send(send(1))), "and on a new connection");
    }
}
