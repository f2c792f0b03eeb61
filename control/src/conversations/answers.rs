//! Sync, pull and signals.
//!
//! Owns the bounds of an answer. A reader sees what its memberships let it see, and no more, on
//! every path here.

use super::words::{self, Named, Part, SyncCursor};
use super::{Refused, Shared};
use crate::relations::check_write;
use crate::store::conversations::{self, Kept};
use crate::store::{StoreError, reactions, relations, settings};
use prost::Message as _;
use sqlx::AnyConnection;
use uproar_proto::control::Tell;
use uproar_proto::error::Code;
use uproar_proto::ids::McastId;
use uproar_proto::v1::{self, client_frame, server_frame::Body};

/// Conversations and relationships on a page of a sync.
const PAGE_MAX: u32 = 200;
/// Since when a sync tells all there is, what has ended among it.
const EVER_MS: i64 = 1;
/// Ranges of one pull.
const RANGES_MAX: usize = 64;
/// Messages and bytes of one answer: what is left is named, and asked for next. The bytes leave
/// room for several answers in what a connection may owe.
const PULL_MESSAGES_MAX: i64 = 500;
const PULL_BYTES_MAX: usize = 48 * 1024;
/// The longest name and the most data of a signal, in bytes.
const SIGNAL_NAME_BYTES_MAX: usize = 64;
const SIGNAL_DATA_BYTES_MAX: usize = 1024;

impl Shared {
    pub(super) async fn frames(
        &self,
        user: &str,
        body: &client_frame::Body,
    ) -> Result<Vec<Body>, Refused> {
        match body {
            client_frame::Body::Sync(sync) => self.sync(user, sync).await,
            client_frame::Body::Pull(pull) => self.pull(user, pull).await,
            client_frame::Body::Signal(signal) => self.signal(user, signal).await,
            _ => Err(Code::BadRequest.into()),
        }
    }

    async fn sync(&self, user: &str, sync: &v1::Sync) -> Result<Vec<Body>, Refused> {
        let me = self.signed_in(user).await?;
        let now_ms = self.store.now_kept_ms().await?;
        let cursor = SyncCursor::parse(&sync.cursor, now_ms)
            .ok_or(Refused::Said(Code::BadRequest, "sync.cursor is none of a synced, nor empty"))?;
        let limit = if sync.limit == 0 { PAGE_MAX } else { sync.limit.min(PAGE_MAX) };
        let mut conn = self.store.reader().await?;
        let mut answer =
            v1::Synced { generation: self.store.generation() as u64, ..v1::Synced::default() };
        if cursor.is_first() {
            let set = settings::read(&mut conn, me).await?;
            let is_news = set.changed_ms > 0 && set.changed_ms >= cursor.since_ms;
            answer.settings = is_news.then(|| words::settings(set));
        }
        let (mut left, mut from) = (limit as usize, cursor.after);
        if cursor.part == Part::Conversations {
            let after = self.sync_conversations(&mut conn, me, &cursor, left, &mut answer).await?;
            left -= answer.conversations.len();
            if left == 0 {
                answer.cursor = cursor.next_page(Part::Conversations, after);
                return Ok(vec![Body::Synced(answer)]);
            }
            from = 0;
        }
        let (mut part, mut since_ms) = (cursor.part.max(Part::Relations), cursor.since_ms);
        // What ended so long ago may be known no longer; a first sync knows of nothing.
        if part == Part::Relations && since_ms > 0 && now_ms - since_ms > relations::ENDED_TOLD_MS {
            (part, from) = (Part::Whole, 0);
            answer.relations_anew_ms = u64::try_from(cursor.next_ms).unwrap_or(0);
        }
        if part == Part::Whole {
            since_ms = EVER_MS;
        }
        let related = relations::changed(&mut conn, me, since_ms, from, left as i64).await?;
        answer.relations = related.iter().map(words::related).collect();
        answer.done = related.len() < left;
        answer.cursor = match related.last() {
            Some(last) if !answer.done => cursor.next_page(part, last.peer),
            _ => cursor.next_sync(),
        };
        Ok(vec![Body::Synced(answer)])
    }

    /// Puts the conversations of a page into it; where the next one goes on.
    async fn sync_conversations(
        &self,
        conn: &mut AnyConnection,
        me: i64,
        cursor: &SyncCursor,
        limit: usize,
        answer: &mut v1::Synced,
    ) -> Result<i64, StoreError> {
        let (since_ms, after) = (cursor.since_ms, cursor.after);
        let views = conversations::changed(conn, me, since_ms, after, limit as i64).await?;
        let convs: Vec<i64> = views.iter().map(|view| view.conv).collect();
        let pinned = reactions::pinned(conn, &convs).await?;
        let states = views.into_iter().map(|view| {
            let pinned = pinned.get(&view.conv).map(Vec::as_slice).unwrap_or_default();
            words::state(view, pinned)
        });
        answer.conversations = states.collect();
        Ok(convs.last().copied().unwrap_or(after))
    }

    /// The id of the conversation a user means; whether it exists is another question.
    pub(super) async fn conversation(
        &self,
        conn: &mut AnyConnection,
        me: i64,
        name: &str,
    ) -> Result<i64, Refused> {
        match Named::parse(name)? {
            Named::Group(conv) => Ok(conv),
            Named::User(peer) => {
                let peer = self.anybody_on(conn, peer).await?.ok_or(Code::NotFound)?;
                Ok(conversations::direct(conn, me, peer).await?)
            }
        }
    }

    async fn pull(&self, user: &str, pull: &v1::Pull) -> Result<Vec<Body>, Refused> {
        if pull.ranges.len() > RANGES_MAX {
            return Err(Refused::Said(Code::BadRequest, "pull.ranges has more than 64"));
        }
        let me = self.signed_in(user).await?;
        let mut answer = v1::Pulled { id: pull.id, ..v1::Pulled::default() };
        let (mut messages_left, mut bytes_left) = (PULL_MESSAGES_MAX, PULL_BYTES_MAX);
        let mut conn = self.store.reader().await?;
        for range in &pull.ranges {
            if messages_left == 0 || bytes_left == 0 {
                answer.rest.push(range.clone());
                continue;
            }
            let conv = self.conversation(&mut conn, me, &range.conversation).await?;
            let from = i64::try_from(range.from_seq).unwrap_or(i64::MAX);
            let to = i64::try_from(range.to_seq).unwrap_or(i64::MAX);
            let readable = conversations::readable(&mut conn, conv, me).await?;
            if readable.is_empty() {
                return Err(Code::NotMember.into());
            }
            let mut part =
                v1::Stored { conversation: range.conversation.clone(), messages: vec![] };
            for (first, last) in readable.iter().copied() {
                let (mut next, last) = (from.max(first), to.min(last));
                while next <= last && messages_left > 0 && bytes_left > 0 {
                    let limit = messages_left.min(100);
                    let kept = conversations::read(&mut conn, conv, (next, last), limit).await?;
                    if kept.is_empty() {
                        break;
                    }
                    let mut beside = reactions::beside(&mut conn, conv, me, &kept).await?;
                    for kept in kept {
                        let beside = beside.remove(&kept.seq);
                        let message = self.seen(&mut conn, me, &kept).await?;
                        let message = words::completed(message, conv, &kept, beside);
                        let message = hide_unseen(message, &readable);
                        let bytes = message.encoded_len();
                        // One message is always sent, whatever its size.
                        let first = bytes_left == PULL_BYTES_MAX;
                        if messages_left == 0 || (bytes > bytes_left && !first) {
                            bytes_left = 0;
                            break;
                        }
                        bytes_left = bytes_left.saturating_sub(bytes);
                        messages_left -= 1;
                        next = kept.seq + 1;
                        part.messages.push(message);
                    }
                }
                if next <= last && (messages_left == 0 || bytes_left == 0) {
                    let (from_seq, to_seq) = (next as u64, range.to_seq);
                    answer.rest.push(v1::Range { from_seq, to_seq, ..range.clone() });
                    break;
                }
            }
            if !part.messages.is_empty() {
                answer.parts.push(part);
            }
        }
        Ok(vec![Body::Pulled(answer)])
    }

    /// A message as its reader sees it.
    async fn seen(
        &self,
        conn: &mut AnyConnection,
        me: i64,
        kept: &Kept,
    ) -> Result<v1::StoredMessage, StoreError> {
        let name = self.name_on(conn, kept.sender).await?;
        words::pulled(kept, &name, kept.sender == me).map_err(StoreError::Corrupt)
    }

    async fn signal(&self, user: &str, signal: &v1::Signal) -> Result<Vec<Body>, Refused> {
        let name = (1..=SIGNAL_NAME_BYTES_MAX).contains(&signal.name.len());
        if !name || signal.data.len() > SIGNAL_DATA_BYTES_MAX {
            let text = "signal.name is 1 to 64 bytes, signal.data at most 1,024";
            return Err(Refused::Said(Code::BadRequest, text));
        }
        let me = self.signed_in(user).await?;
        let (mcast, conversation) = match Named::parse(&signal.conversation)? {
            Named::User(peer) => {
                let id = self.user(peer).await?.ok_or(Code::NotFound)?;
                if id != me {
                    check_write(relations::read(&self.store, me, id).await?, self.rules.policy)?;
                }
                (McastId::user(peer), words::with_user(user))
            }
            Named::Group(conv) => {
                let mut conn = self.store.reader().await?;
                let voice = conversations::members(&mut conn, &[(conv, me)]).await?;
                match voice.get(&(conv, me)) {
                    None => return Err(Code::NotMember.into()),
                    Some(voice) if voice.is_muted(self.store.now_ms()) => {
                        return Err(Code::Muted.into());
                    }
                    Some(_) => {}
                }
                (McastId::group(&words::group_id(conv)), signal.conversation.clone())
            }
        };
        let frame = v1::Signal { conversation, user: user.to_owned(), ..signal.clone() };
        self.tell(Tell::Push { mcast, frame: Box::new(Body::Signal(frame)) }).await;
        Ok(Vec::new())
    }
}

/// An event about a message that its reader cannot see has no content.
fn hide_unseen(message: v1::StoredMessage, readable: &[(i64, i64)]) -> v1::StoredMessage {
    let target = message.target_seq as i64;
    let sees = readable.iter().any(|(from, to)| (*from..=*to).contains(&target));
    if target == 0 || sees { message } else { words::blank(&message) }
}
