//! A device's reactions that have no answer: told again until they have one.
//!
//! Owns the user's last word on each: what was tapped and taken back before it was told is told as
//! it is then, so no old word overtakes a newer one.

use super::{ANSWER_MS, Inbox, Said};
use crate::v1::{self, client_frame};
use std::collections::BTreeMap;

/// Conversation, message, reaction.
type Key = (String, u64, String);

/// What the user wants of one reaction.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    remove: bool,
    /// When it is to be told, again or for the first time.
    due_ms: u64,
}

/// All of a device's.
#[derive(Debug, Default)]
pub(super) struct Reacts {
    wanted: BTreeMap<Key, Wanted>,
}

impl Reacts {
    pub(super) fn tell_again(&mut self, now_ms: u64) {
        self.wanted.values_mut().for_each(|wanted| wanted.due_ms = now_ms);
    }

    pub(super) fn due(&mut self, now_ms: u64, frames: &mut Vec<client_frame::Body>) {
        for ((conversation, seq, reaction), wanted) in &mut self.wanted {
            if wanted.due_ms <= now_ms {
                wanted.due_ms = now_ms + ANSWER_MS;
                frames.push(client_frame::Body::React(v1::React {
                    conversation: conversation.clone(),
                    seq: *seq,
                    reaction: reaction.clone(),
                    remove: wanted.remove,
                }));
            }
        }
    }

    /// An answer, or what another device did.
    pub(super) fn answered(&mut self, reacted: &v1::Reacted, now_ms: u64) -> Option<Said> {
        let key = (reacted.conversation.clone(), reacted.seq, reacted.reaction.clone());
        let asked = self.wanted.get_mut(&key).filter(|wanted| wanted.remove == reacted.remove);
        if reacted.code != 0 && reacted.retry {
            if let Some(wanted) = asked {
                wanted.due_ms = now_ms + u64::from(reacted.retry_after_ms).max(1);
            }
            return None;
        }
        if asked.is_some() {
            self.wanted.remove(&key);
        }
        Some(Said::Reacted(reacted.clone()))
    }

    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.wanted.values().map(|wanted| wanted.due_ms).min()
    }
}

impl Inbox {
    /// The user reacts to a message, or takes it back.
    pub fn react(&mut self, react: v1::React, now_ms: u64) -> Vec<client_frame::Body> {
        let key = (react.conversation, react.seq, react.reaction);
        let wanted = Wanted { remove: react.remove, due_ms: now_ms };
        self.reacts.wanted.insert(key, wanted);
        self.due(now_ms)
    }

    /// Reactions that have no answer.
    #[must_use]
    pub fn unanswered_reactions(&self) -> usize {
        self.reacts.wanted.len()
    }
}
