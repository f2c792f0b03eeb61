//! A client's side of stored conversations, without a socket: the contract of PROTOCOL.md as code.
//!
//! Owns what a device knows: how far it has each conversation, what came out of order, what it has
//! sent and not seen acknowledged, what its user has read. Frames and moments go in, frames and
//! messages come out, each message once and in order. The load tester and the tests use it; so may
//! a client in Rust.

mod marks;
mod reacts;
#[cfg(test)]
mod tests;

use crate::v1::{self, client_frame, server_frame::Body};
use bytes::Bytes;
use marks::Cursors;
pub use marks::MARK_EVERY_MS;
use reacts::Reacts;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

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
    /// A reaction of the user stands or is gone, by whichever device; or it was refused (`code`).
    Reacted(v1::Reacted),
    /// What the user and another one are to each other now.
    Related(v1::RelationState),
    /// What the user has set.
    Settings(v1::Settings),
    /// The store is another one: whatever was said before is void, and comes anew.
    Anew,
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
    cursors: Cursors,
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
    /// The sync under way was asked of the store before this one: its answer is void.
    sync_is_void: bool,
    sync_due_ms: Option<u64>,
    caught_up: bool,
    pull_id: u32,
    /// Conversations of each pull under way, and up to where.
    pulls: BTreeMap<u32, Vec<(String, u64)>>,
    /// The device's own user.
    user: String,
    /// When marks may be told again.
    mark_from_ms: u64,
    reacts: Reacts,
    /// By user: the moment of what was last said of it.
    related_ms: BTreeMap<String, u64>,
    settings_ms: u64,
    /// A sync under way names all others there are: since which moment that is so, and whom it has
    /// named.
    anew: Option<(u64, BTreeSet<String>)>,
    /// Requests of a kind that were answered: syncs and pulls.
    requests: u64,
    duplicates: u64,
}

impl Inbox {
    /// A new connection: whatever was under way on an older one is asked for again.
    fn welcomed(&mut self, welcome: &v1::Welcome, now_ms: u64, said: &mut Vec<Said>) {
        self.user.clone_from(&welcome.user);
        (self.syncing, self.sync_is_void) = (false, false);
        self.caught_up = false;
        self.pulls.clear();
        for conversation in self.conversations.values_mut() {
            (conversation.pulling, conversation.under_way, conversation.answered) = (false, 0, 0);
            conversation.not_before_ms = 0;
            conversation.cursors.tell_again();
        }
        self.reacts.tell_again(now_ms);
        self.page = self.cursor.clone();
        self.anew = None;
        self.sync_due_ms = Some(now_ms);
        self.is_of(welcome.generation, now_ms, said);
    }

    /// A frame names the life of the store it comes from; `false`: it is another one than was
    /// known. Then seqs begin anew, and so does this device. 0 names none.
    fn is_of(&mut self, generation: u64, now_ms: u64, said: &mut Vec<Said>) -> bool {
        let known = self.generation;
        if generation == 0 || known == Some(generation) {
            return true;
        }
        self.generation = Some(generation);
        if known.is_none() {
            return true;
        }
        self.cursor.clear();
        self.page.clear();
        self.pulls.clear();
        self.related_ms.clear();
        self.settings_ms = 0;
        self.anew = None;
        for conversation in self.conversations.values_mut() {
            let sends = std::mem::take(&mut conversation.sends);
            *conversation = Conversation { sends, ..Conversation::default() };
        }
        // What is under way asks on from a cursor of the store before: what it names is not all.
        // The next one waits for its answer, since two could be answered in any order.
        (self.sync_is_void, self.caught_up) = (self.syncing, false);
        self.sync_due_ms = Some(now_ms);
        said.push(Said::Anew);
        false
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
            // What is asked for first comes from `due`.
            Body::Welcome(welcome) => self.welcomed(welcome, now_ms, &mut said),
            Body::Stored(stored) => self.stored(stored, now_ms, &mut said),
            Body::Sent(sent) => self.sent(sent, now_ms, &mut said),
            Body::Synced(synced) => self.synced(synced, now_ms, &mut said),
            Body::Pulled(pulled) => self.pulled(pulled, now_ms, &mut said),
            Body::Cursors(cursors) => self.cursors_moved(cursors),
            Body::Reacted(reacted) => said.extend(self.reacts.answered(reacted, now_ms)),
            Body::Relations(relations) => self.related(&relations.users, &mut said),
            Body::Settings(settings) => self.set(settings, &mut said),
            Body::Resync(resync) if self.is_of(resync.generation, now_ms, &mut said) => {
                // Spread by what this device has sent: no clock and no dice here.
                let spread = u64::from(resync.spread_ms).max(1);
                let wait = self.requests.wrapping_mul(0x9e37_79b9_7f4a_7c15) % spread;
                self.sync_due_ms.get_or_insert(now_ms + wait);
            }
            // A refused sync, pull or mark is told again.
            Body::Error(error) if error.retry => {
                let wait = u64::from(error.retry_after_ms).max(100);
                (self.syncing, self.sync_is_void) = (false, false);
                self.pulls.clear();
                for conversation in self.conversations.values_mut() {
                    conversation.pulling = false;
                    conversation.cursors.tell_again();
                }
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

    /// Of what is told of others, what is newer than what was said of them.
    fn related(&mut self, users: &[v1::RelationState], said: &mut Vec<Said>) {
        for state in users {
            let known = self.related_ms.entry(state.user.clone()).or_default();
            if state.changed_ms >= *known {
                *known = state.changed_ms;
                said.push(Said::Related(state.clone()));
            }
        }
    }

    /// Where a sync names all others there are, those it has not named once it is done are over.
    fn end_unnamed(&mut self, synced: &v1::Synced, said: &mut Vec<Said>) {
        let Some((anew_ms, named)) = &mut self.anew else { return };
        named.extend(synced.relations.iter().map(|state| state.user.clone()));
        if !synced.done {
            return;
        }
        self.related_ms.retain(|user, known_ms| {
            let stands = *known_ms >= *anew_ms || named.contains(user);
            if !stands {
                let state = v1::RelationState { user: user.clone(), ..<_>::default() };
                said.push(Said::Related(v1::RelationState { changed_ms: *known_ms, ..state }));
            }
            stands
        });
        self.anew = None;
    }

    fn set(&mut self, settings: &v1::Settings, said: &mut Vec<Said>) {
        if settings.changed_ms >= self.settings_ms {
            self.settings_ms = settings.changed_ms;
            said.push(Said::Settings(*settings));
        }
    }

    fn sent(&mut self, sent: &v1::Sent, now_ms: u64, said: &mut Vec<Said>) {
        if !self.is_of(sent.generation, now_ms, said) {
            // It was stored, but its place is one of the new store: it is asked for again.
            return;
        }
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

    fn synced(&mut self, synced: &v1::Synced, now_ms: u64, said: &mut Vec<Said>) {
        self.syncing = false;
        let is_void = std::mem::take(&mut self.sync_is_void);
        if !self.is_of(synced.generation, now_ms, said) || is_void {
            return;
        }
        if synced.relations_anew_ms > 0 {
            self.anew = Some((synced.relations_anew_ms, BTreeSet::new()));
        }
        self.related(&synced.relations, said);
        self.end_unnamed(synced, said);
        if let Some(settings) = &synced.settings {
            self.set(settings, said);
        }
        for state in &synced.conversations {
            let conversation = self.conversations.entry(state.conversation.clone()).or_default();
            conversation.last_seq = conversation.last_seq.max(state.floor_seq);
            conversation.head_seq = conversation.head_seq.max(state.head_seq);
            conversation.cursors.synced(state);
        }
        self.page = synced.cursor.clone();
        if synced.done {
            self.cursor = synced.cursor.clone();
        } else {
            self.sync_due_ms = Some(now_ms);
        }
    }

    fn pulled(&mut self, pulled: &v1::Pulled, now_ms: u64, said: &mut Vec<Said>) {
        // Not asked for any more: its seqs may be of the store before.
        let Some(asked) = self.pulls.remove(&pulled.id) else { return };
        for part in &pulled.parts {
            self.stored(part, now_ms, said);
        }
        for (name, to_seq) in asked {
            let Some(conversation) = self.conversations.get_mut(&name) else { continue };
            conversation.pulling = false;
            let rest = pulled.rest.iter().find(|rest| rest.conversation == name);
            let answered = rest.map_or(to_seq, |rest| rest.from_seq.saturating_sub(1).min(to_seq));
            conversation.pass(&name, answered, said);
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
        self.reacts.due(now_ms, &mut frames);
        self.mark_due(now_ms, &mut frames);
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
            let asked = ranges.iter().map(|range| (range.conversation.clone(), range.to_seq));
            self.pulls.insert(self.pull_id, asked.collect());
            frames.push(client_frame::Body::Pull(v1::Pull { id: self.pull_id, ranges }));
        }
    }

    /// When [`Inbox::due`] has something to send, if nothing comes in before.
    #[must_use]
    pub fn next_due_ms(&self) -> Option<u64> {
        let sync = self.sync_due_ms.filter(|_| !self.syncing);
        let each = self.conversations.values().filter_map(Conversation::next_due_ms).min();
        let others = [self.reacts.next_due_ms(), self.next_mark_ms()].into_iter().flatten();
        sync.into_iter().chain(each).chain(others).min()
    }
}

impl Conversation {
    /// Hands on what is next, and all that waited for it.
    fn hand_on(&mut self, name: &str, said: &mut Vec<Said>) {
        while let Some(message) = self.ahead.remove(&(self.last_seq + 1)) {
            self.last_seq += 1;
            said.push(Said::Message(name.to_owned(), message));
        }
        if name.starts_with("user:") {
            self.cursors.delivered(self.last_seq);
        }
    }

    /// All up to there was asked for and answered: what did not come is kept no longer, or was
    /// never this user's, and is not waited for.
    fn pass(&mut self, name: &str, answered: u64, said: &mut Vec<Said>) {
        self.hand_on(name, said);
        while self.last_seq < answered {
            let next = self.ahead.keys().next().map_or(answered, |seq| seq - 1);
            self.last_seq = next.min(answered);
            self.hand_on(name, said);
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
