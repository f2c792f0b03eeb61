//! Sync, pull, marks and signals.
//!
//! Owns the bounds of an answer. A reader sees what its memberships let it see, and no more, on
//! every path here.

use super::words::{self, Named, SyncCursor};
use super::{Refused, Shared};
use crate::relations::check_write;
use crate::store::conversations::{self, DIRECT, View};
use crate::store::{StoreError, relations};
use prost::Message as _;
use uproar_proto::control::Tell;
use uproar_proto::error::Code;
use uproar_proto::ids::McastId;
use uproar_proto::v1::{self, client_frame, server_frame::Body};

/// Conversations on a page of a sync.
const PAGE_MAX: u32 = 200;
/// Ranges of one pull.
const RANGES_MAX: usize = 64;
/// Messages and bytes of one answer: what is left is named, and asked for next. The bytes leave
/// room for several answers in what a connection may owe.
const PULL_MESSAGES_MAX: i64 = 500;
const PULL_BYTES_MAX: usize = 48 * 1024;
/// Cursors moved by one frame.
const MARKS_MAX: usize = 128;
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
            client_frame::Body::Mark(mark) => self.mark(user, mark).await,
            client_frame::Body::Signal(signal) => self.signal(user, signal).await,
            _ => Err(Code::BadRequest.into()),
        }
    }

    async fn sync(&self, user: &str, sync: &v1::Sync) -> Result<Vec<Body>, Refused> {
        let me = self.signed_in(user).await?;
        let now_ms = self.store.now_ms();
        let cursor = SyncCursor::parse(&sync.cursor, now_ms).ok_or(Code::BadRequest)?;
        let limit = if sync.limit == 0 { PAGE_MAX } else { sync.limit.min(PAGE_MAX) };
        let mut conn = self.store.reader().await?;
        let views =
            conversations::changed(&mut conn, me, cursor.since_ms, cursor.after, i64::from(limit));
        let views = views.await?;
        let done = views.len() < limit as usize;
        let after = views.last().map_or(cursor.after, |view| view.conv);
        let mut states = Vec::with_capacity(views.len());
        for view in views {
            let others = match view.kind {
                DIRECT => conversations::cursors(&mut conn, view.conv).await?,
                _ => Vec::new(),
            };
            states.push(self.state(me, &view, &others).await?);
        }
        Ok(vec![Body::Synced(v1::Synced {
            generation: self.store.generation() as u64,
            cursor: cursor.text(done, after),
            done,
            conversations: states,
        })])
    }

    async fn state(
        &self,
        me: i64,
        view: &View,
        cursors: &[(i64, i64, i64)],
    ) -> Result<v1::ConversationState, StoreError> {
        let theirs = cursors.iter().find(|(user, ..)| *user != me);
        let (peer_read, peer_delivered) = theirs.map_or((0, 0), |(_, read, got)| (*read, *got));
        Ok(v1::ConversationState {
            conversation: self.conversation_name(me, view.conv, view.kind, view.users).await?,
            head_seq: view.head as u64,
            floor_seq: view.floor as u64,
            read_seq: view.read as u64,
            unread: view.unread as u64,
            peer_read_seq: peer_read as u64,
            peer_delivered_seq: peer_delivered as u64,
            left: view.left,
            changed_ms: view.changed_ms as u64,
        })
    }

    async fn conversation_name(
        &self,
        me: i64,
        conv: i64,
        kind: i64,
        (a, b): (i64, i64),
    ) -> Result<String, StoreError> {
        if kind != DIRECT {
            return Ok(format!("group:{}", words::group_id(conv)));
        }
        Ok(words::with_user(&self.name(if a == me { b } else { a }).await?))
    }

    /// The id of the conversation a user means; whether it exists is another question.
    async fn conversation(&self, me: i64, name: &str) -> Result<i64, Refused> {
        match Named::parse(name)? {
            Named::Group(conv) => Ok(conv),
            Named::User(peer) => {
                let peer = self.user(peer).await?.ok_or(Code::NotFound)?;
                Ok(conversations::direct(&mut *self.store.reader().await?, me, peer).await?)
            }
        }
    }

    async fn pull(&self, user: &str, pull: &v1::Pull) -> Result<Vec<Body>, Refused> {
        if pull.ranges.len() > RANGES_MAX {
            return Err(Code::BadRequest.into());
        }
        let me = self.signed_in(user).await?;
        let mut answer = v1::Pulled { id: pull.id, ..v1::Pulled::default() };
        let (mut messages_left, mut bytes_left) = (PULL_MESSAGES_MAX, PULL_BYTES_MAX);
        for range in &pull.ranges {
            if messages_left == 0 || bytes_left == 0 {
                answer.rest.push(range.clone());
                continue;
            }
            let conv = self.conversation(me, &range.conversation).await?;
            let from = i64::try_from(range.from_seq).unwrap_or(i64::MAX);
            let to = i64::try_from(range.to_seq).unwrap_or(i64::MAX);
            let mut conn = self.store.reader().await?;
            let readable = conversations::readable(&mut conn, conv, me).await?;
            if readable.is_empty() {
                return Err(Code::NotMember.into());
            }
            let mut part =
                v1::Stored { conversation: range.conversation.clone(), messages: vec![] };
            for (first, last) in readable {
                let (mut next, last) = (from.max(first), to.min(last));
                while next <= last && messages_left > 0 && bytes_left > 0 {
                    let limit = messages_left.min(100);
                    let kept = conversations::read(&mut conn, conv, (next, last), limit).await?;
                    if kept.is_empty() {
                        break;
                    }
                    for kept in kept {
                        let name = self.name(kept.sender).await?;
                        let message = words::pulled(&kept, &name, kept.sender == me);
                        let message = message.map_err(StoreError::Corrupt)?;
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

    async fn mark(&self, user: &str, mark: &v1::Mark) -> Result<Vec<Body>, Refused> {
        if mark.marks.len() > MARKS_MAX {
            return Err(Code::BadRequest.into());
        }
        let me = self.signed_in(user).await?;
        for marked in &mark.marks {
            let conv = self.conversation(me, &marked.conversation).await?;
            let read = i64::try_from(marked.read_seq).map_err(|_| Code::BadRequest)?;
            let delivered = i64::try_from(marked.delivered_seq).map_err(|_| Code::BadRequest)?;
            let (dialect, now_ms) = (self.store.dialect(), self.store.now_ms());
            let moved = self
                .store
                .write(move |conn| {
                    let (member, cursors) = ((conv, me), (read, delivered));
                    Box::pin(conversations::mark(conn, dialect, member, cursors, now_ms))
                })
                .await??;
            if let Some((read, delivered)) = moved {
                self.push_cursors(user, &marked.conversation, (read, delivered)).await;
            }
        }
        Ok(Vec::new())
    }

    /// To the user's own devices, and to the other one.
    async fn push_cursors(&self, user: &str, conversation: &str, (read, delivered): (i64, i64)) {
        let cursor = v1::UserCursor {
            user: user.to_owned(),
            read_seq: read as u64,
            delivered_seq: delivered as u64,
        };
        let frame = |conversation: String| {
            let users = vec![cursor.clone()];
            Box::new(Body::Cursors(v1::Cursors { conversation, users }))
        };
        let frame_own = frame(conversation.to_owned());
        self.tell(Tell::Push { mcast: McastId::user(user), frame: frame_own }).await;
        if let Ok(Named::User(peer)) = Named::parse(conversation)
            && peer != user
        {
            let frame = frame(words::with_user(user));
            self.tell(Tell::Push { mcast: McastId::user(peer), frame }).await;
        }
    }

    async fn signal(&self, user: &str, signal: &v1::Signal) -> Result<Vec<Body>, Refused> {
        let name = (1..=SIGNAL_NAME_BYTES_MAX).contains(&signal.name.len());
        if !name || signal.data.len() > SIGNAL_DATA_BYTES_MAX {
            return Err(Code::BadRequest.into());
        }
        let me = self.signed_in(user).await?;
        let mut conn = self.store.reader().await?;
        let (mcast, conversation) = match Named::parse(&signal.conversation)? {
            Named::User(peer) => {
                let id = self.user(peer).await?.ok_or(Code::NotFound)?;
                if id != me {
                    check_write(relations::read(&self.store, me, id).await?, self.rules.policy)?;
                }
                (McastId::user(peer), words::with_user(user))
            }
            Named::Group(conv) => {
                if !conversations::is_member(&mut conn, conv, me).await? {
                    return Err(Code::NotMember.into());
                }
                (McastId::group(&words::group_id(conv)), signal.conversation.clone())
            }
        };
        let frame = v1::Signal { conversation, user: user.to_owned(), ..signal.clone() };
        self.tell(Tell::Push { mcast, frame: Box::new(Body::Signal(frame)) }).await;
        Ok(Vec::new())
    }
}
