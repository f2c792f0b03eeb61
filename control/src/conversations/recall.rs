//! Recalls that an operator writes: of one message, or step by step of all that an erased user
//! wrote.
//!
//! Owns the events. Each is the recall its author could have sent, with an id that follows from the
//! message, so that it is written once however often it is asked for. It passes the worker that
//! stores the conversation's messages, and is pushed after its commit like any other.

use super::{Shared, words};
use crate::fault::Fault;
use crate::relations::Policy;
use crate::store::admin::{self, Span};
use crate::store::append::{Append, Target, append};
use crate::store::conversations::{self, GROUP, Kept};
use crate::store::erasures::{self, At, Phase};
use crate::store::{Dialect, StoreError, reactions};
use crate::webhooks::Entry;
use crate::webhooks::config::EventType;
use sha2::{Digest, Sha256};
use sqlx::AnyConnection;
use std::sync::Arc;
use tokio::sync::oneshot;
use uproar_proto::control::Tell;
use uproar_proto::error::Code;
use uproar_proto::ids::McastId;
use uproar_proto::v1::{self, Kind, server_frame::Body};

/// Messages looked at in one step of an erasure: bounds how long other writes wait.
const STEP_MESSAGES: i64 = 100;

/// Recalls that wait for their turn.
pub(super) struct Recall {
    /// What the conversation's queue is chosen by.
    lane: [String; 2],
    span: Span,
    what: What,
    reply: oneshot::Sender<Result<Outcome, Fault>>,
}

/// What is recalled.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// One message.
    One { seq: i64 },
    /// Of the messages from here on the next few that an erased user wrote; `names` are what it was
    /// called, and what it is called now.
    Next { user: i64, from: i64, names: [String; 2] },
}

/// What became of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    pub(super) recalled: Vec<Recalled>,
    /// How far an erasure has come.
    pub(super) at: At,
    /// Counts of reactions have changed, which no event tells yet.
    untold: bool,
}

/// A message that was recalled now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Recalled {
    /// The event's.
    pub(super) seq: i64,
    pub(super) time_ms: i64,
    target: i64,
    author: i64,
}

impl Recalled {
    /// What its event added to the log.
    fn entry(&self, span: Span) -> Entry {
        let (conv, seq, is_group) = (span.conv, self.seq, span.kind == GROUP);
        Entry { conv, seq, is_group, event: EventType::MessageAfter }
    }
}

impl Recall {
    /// Tells whoever asked that the store does not answer.
    pub(super) fn refuse(self) {
        let _ = self.reply.send(Err(Code::StoreDown.into()));
    }

    pub(super) fn lane(&self) -> [&str; 2] {
        self.lane.each_ref().map(String::as_str)
    }
}

impl super::Conversations {
    /// Recalls the message `seq` of a conversation for its author: the seq of the event; `None`:
    /// its content was gone before. `NOT_FOUND` where there is no such message.
    pub(crate) async fn recall(&self, conv: i64, seq: i64) -> Result<Option<i64>, Fault> {
        let shared = &self.shared;
        let span = admin::whole(&mut *shared.store.reader().await?, conv).await?;
        let span = span.ok_or(Code::NotFound)?;
        let names = shared.names_in(span).await?;
        let outcome = shared.offer_recall(span, &names, What::One { seq }).await?;
        Ok(outcome.recalled.first().map(|recalled| recalled.seq))
    }
}

impl Shared {
    /// The two users of a one-to-one conversation, by name.
    async fn names_in(&self, span: Span) -> Result<[String; 2], StoreError> {
        if span.kind == GROUP {
            return Ok([String::new(), String::new()]);
        }
        let mut conn = self.store.reader().await?;
        let one = self.name_on(&mut conn, span.users.0).await?.to_string();
        Ok([one, self.name_on(&mut conn, span.users.1).await?.to_string()])
    }

    /// Queues recalls; `names` are those of the two users of a one-to-one conversation.
    pub(super) async fn offer_recall(
        &self,
        span: Span,
        names: &[String; 2],
        what: What,
    ) -> Result<Outcome, Fault> {
        let (reply, answer) = oneshot::channel();
        let mut lane = names.clone();
        lane.sort();
        if span.kind == GROUP {
            lane = [words::with_group(span.conv), String::new()];
        }
        let recall = Recall { lane, span, what, reply };
        match self.sends.get().map(|sends| sends.offer_recall(recall)) {
            // Gone without an answer: a defect, or the process is ending.
            Some(Ok(())) => answer.await.unwrap_or(Err(Code::StoreDown.into())),
            Some(Err(())) => Err(Code::QueueFull.into()),
            None => Err(Fault::Store(StoreError::Ended)),
        }
    }

    /// Carries out recalls and tells everybody concerned.
    pub(super) async fn recall(&self, recall: Recall) {
        let Recall { span, what, reply, .. } = recall;
        let (dialect, policy, now_ms) =
            (self.store.dialect(), self.rules.policy, self.store.now_ms());
        let meant = Arc::new(what);
        let by = (Arc::clone(&meant), Arc::clone(&self.webhooks));
        let done = self.store.write(move |conn| {
            let (by, webhooks) = by.clone();
            Box::pin(async move {
                let mut work = Work { conn: &mut *conn, dialect, policy, span, now_ms };
                let outcome = match &*by {
                    What::One { seq } => work.one(*seq).await?,
                    What::Next { user, from, names } => Ok(work.next(*user, *from, names).await?),
                };
                let outcome = match outcome {
                    Ok(outcome) => outcome,
                    Err(code) => return Ok(Err(code)),
                };
                let entries: Vec<Entry> =
                    outcome.recalled.iter().map(|recalled| recalled.entry(span)).collect();
                let kept = webhooks.keep(conn, &entries, now_ms).await?;
                Ok(Ok((outcome, kept)))
            })
        });
        let done = done.await.map(|done| {
            done.map(|(outcome, kept)| {
                self.webhooks.kept(kept);
                outcome
            })
        });
        if matches!(&done, Ok(Ok(outcome)) if outcome.untold) {
            self.untold.notify_one();
        }
        let done = match done {
            Ok(Ok(outcome)) => self.push_recalls(span, &meant, &outcome).await.map(|()| outcome),
            Ok(Err(code)) | Err(StoreError::Refused(code)) => Err(code.into()),
            Err(error) => Err(Fault::Store(error)),
        };
        // Whoever asked may have gone.
        let _ = reply.send(done);
    }

    /// Devices know an erased user by its old name, and what it is called in its groups now.
    async fn push_recalls(&self, span: Span, what: &What, outcome: &Outcome) -> Result<(), Fault> {
        let Some(first) = outcome.recalled.first() else { return Ok(()) };
        let is_group = span.kind == GROUP;
        let mut names = self.names_in(span).await?;
        let author = match what {
            What::One { .. } => {
                self.name_on(&mut *self.store.reader().await?, first.author).await?.to_string()
            }
            What::Next { names: [_, new], .. } if is_group => new.clone(),
            What::Next { user, names: [old, _], .. } => {
                names[usize::from(span.users.0 != *user)].clone_from(old);
                old.clone()
            }
        };
        let message = |r: &Recalled| words::recalled((r.seq, r.time_ms), r.target, &author);
        let messages: Vec<_> = outcome.recalled.iter().map(message).collect();
        let push = async |mcast: McastId, conversation: String| {
            let frame = v1::Stored { conversation, messages: messages.clone() };
            self.tell(Tell::Push { mcast, frame: Box::new(Body::Stored(frame)) }).await;
        };
        if is_group {
            let group = words::group_id(span.conv);
            push(McastId::group(&group), words::with_group(span.conv)).await;
            return Ok(());
        }
        let [one, other] = &names;
        push(McastId::user(one), words::with_user(other)).await;
        if one != other {
            push(McastId::user(other), words::with_user(one)).await;
        }
        Ok(())
    }
}

/// A transaction at work.
struct Work<'c> {
    conn: &'c mut AnyConnection,
    dialect: Dialect,
    policy: Policy,
    span: Span,
    now_ms: i64,
}

impl Work<'_> {
    async fn one(&mut self, seq: i64) -> Result<Result<Outcome, Code>, StoreError> {
        let found = conversations::read(self.conn, self.span.conv, (seq, seq), 1).await?;
        if found.first().is_none_or(|kept| kept.kind != Kind::Message as i64) {
            return Ok(Err(Code::NotFound));
        }
        let recalled = self.recall_all(&found).await?;
        Ok(Ok(Outcome { recalled, ..Outcome::default() }))
    }

    async fn next(
        &mut self,
        user: i64,
        from: i64,
        [old, new]: &[String; 2],
    ) -> Result<Outcome, StoreError> {
        let Span { conv, kind, .. } = self.span;
        // What was sent before the user was nobody may have come in since.
        let to = match kind {
            GROUP => self.span.to,
            _ => admin::whole(self.conn, conv).await?.map_or(0, |span| span.to),
        };
        let found = conversations::read(self.conn, conv, (from, to), STEP_MESSAGES).await?;
        erasures::rename(self.conn, conv, &found, (old, new)).await?;
        let mut own = found.clone();
        own.retain(|kept| kept.sender == user);
        let recalled = self.recall_all(&own).await?;
        // What is recalled has no reactions any more, nobody's.
        let reacted = found.iter().filter(|kept| kept.kind == Kind::Message as i64);
        let reacted: Vec<i64> = reacted.map(|kept| kept.seq).collect();
        let untold = reactions::forget(self.conn, self.dialect, (conv, user), &reacted).await?;
        let mut at = At { phase: Phase::Messages, conv, seq: i64::MAX };
        match found.last().filter(|last| last.seq < to || !recalled.is_empty()) {
            Some(last) => at.seq = last.seq,
            None => erasures::forget_cursors(self.conn, (conv, user), self.now_ms).await?,
        }
        erasures::advance(self.conn, user, at).await?;
        Ok(Outcome { recalled, at, untold })
    }

    /// Recalls those of these messages that still say something.
    async fn recall_all(&mut self, messages: &[Kept]) -> Result<Vec<Recalled>, StoreError> {
        let says = |kept: &&Kept| {
            kept.kind == Kind::Message as i64 && kept.body.as_ref().is_some_and(|b| !b.is_empty())
        };
        let meant: Vec<&Kept> = messages.iter().filter(says).collect();
        let items: Vec<Append> = meant.iter().map(|kept| self.event(kept)).collect();
        let places = append(self.conn, self.dialect, self.policy, &items, self.now_ms).await?;
        let mut recalled = Vec::with_capacity(places.len());
        for (kept, place) in meant.into_iter().zip(places) {
            let (target, author) = (kept.seq, kept.sender);
            let place = place.map_err(|code| {
                let what = format!("{} of {target} in {}", code.name(), self.span.conv);
                StoreError::Corrupt(what)
            })?;
            if !place.before {
                recalled.push(Recalled { seq: place.seq, time_ms: place.time_ms, target, author });
            }
        }
        Ok(recalled)
    }

    fn event(&self, kept: &Kept) -> Append {
        let Span { conv, kind, users, .. } = self.span;
        let peer = if users.0 == kept.sender { users.1 } else { users.0 };
        let target = if kind == GROUP { Target::Group(conv) } else { Target::Direct(peer) };
        let mut hash = Sha256::new();
        hash.update(b"recall by an operator\0");
        hash.update(conv.to_be_bytes());
        hash.update(kept.seq.to_be_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finalize()[..16]);
        Append {
            sender: kept.sender,
            target,
            client_msg_id: u128::from_be_bytes(id),
            hash: 0,
            kind: Kind::Recall,
            target_seq: kept.seq,
            body: Vec::new(),
            by_operator: true,
        }
    }
}
