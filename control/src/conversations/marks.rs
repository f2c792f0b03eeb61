//! Marks: cursors of users, gathered and written together.
//!
//! Owns the order of what users say they have read: all marks pass one worker, which writes what
//! has come in since its last transaction in one. So a crowd that reads costs a transaction each
//! [`FLUSH_EVERY`], and nobody is told of a cursor that is not committed. A mark that a crash takes
//! is made again by the client's next one.

use super::{ANSWER_MAX, Shared, told};
use crate::conversations::words::{self, Named};
use crate::guard::caught;
use crate::store::StoreError;
use crate::store::receipts::{Advance, Moved, advance};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use uproar_proto::control::{Ask, Asked, Tell, refusal};
use uproar_proto::error::Code;
use uproar_proto::ids::McastId;
use uproar_proto::v1::{self, client_frame, server_frame::Body};

/// Marks that wait. Reached: `QUEUE_FULL`, at once.
const WAITING_MAX: usize = 65_536;
/// Marks of one transaction.
const BATCH_MAX: usize = 4_096;
/// Cursors moved by one frame.
const MARKS_MAX: usize = 128;
/// Transactions begin at least this far apart.
const FLUSH_EVERY: Duration = Duration::from_millis(50);

/// Begins the worker; its queue.
pub(super) fn start(shared: &Arc<Shared>, runtime: &tokio::runtime::Handle) -> mpsc::Sender<Ask> {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    runtime.spawn(work(Arc::clone(shared), receiver));
    sender
}

/// A cursor to move, and whose ask it is part of.
struct Item {
    ask: usize,
    conversation: String,
    advance: Advance,
}

async fn work(shared: Arc<Shared>, mut queue: mpsc::Receiver<Ask>) {
    let mut asks = Vec::new();
    while queue.recv_many(&mut asks, BATCH_MAX).await > 0 {
        let begun = Instant::now();
        if caught("marks", shared.mark_all(&asks)).await.is_none() {
            for ask in &asks {
                shared.refuse_ask(ask, Code::StoreDown).await;
            }
        }
        asks.clear();
        tokio::time::sleep_until(begun + FLUSH_EVERY).await;
    }
}

impl Shared {
    async fn mark_all(&self, asks: &[Ask]) {
        #[cfg(test)]
        asks.iter().for_each(|ask| crate::guard::trap("marks", &format!("{:?}", ask.what)));
        let mut refused: Vec<Option<Code>> = vec![None; asks.len()];
        let mut items = Vec::new();
        let mut store_away = false;
        for (at, ask) in asks.iter().enumerate() {
            let Asked::Frame(client_frame::Body::Mark(mark)) = &ask.what else { continue };
            // Each look at a store that is away takes a while: one is enough for all.
            let meant = match store_away {
                true => Err(Code::StoreDown),
                false => timeout(ANSWER_MAX, self.meant(at, &ask.user, mark, &mut items))
                    .await
                    .unwrap_or(Err(Code::StoreDown)),
            };
            store_away |= meant == Err(Code::StoreDown);
            refused[at] = meant.err();
        }
        let advances = items.iter().map(|item| item.advance).collect();
        let advanced = timeout(ANSWER_MAX, self.advance_all(advances)).await;
        let advanced = advanced.map_or(Err(Code::StoreDown), |done| done.map_err(|e| told(&e)));
        match advanced {
            Ok(moved) => {
                for (item, moved) in items.iter().zip(moved) {
                    match moved {
                        Ok(Some(moved)) => self.moved(&asks[item.ask].user, item, moved).await,
                        Ok(None) => {}
                        Err(code) => refused[item.ask] = refused[item.ask].or(Some(code)),
                    }
                }
            }
            Err(code) => {
                for item in &items {
                    refused[item.ask] = refused[item.ask].or(Some(code));
                }
            }
        }
        for (ask, refused) in asks.iter().zip(refused) {
            let Asked::Frame(body) = &ask.what else { continue };
            let frames = refused.into_iter().map(|code| refusal(body, code)).collect();
            self.tell(Tell::Answer { to: ask.from, number: ask.number, frames }).await;
        }
    }

    /// Whose cursors a frame means.
    async fn meant(
        &self,
        ask: usize,
        user: &str,
        mark: &v1::Mark,
        items: &mut Vec<Item>,
    ) -> Result<(), Code> {
        let failed = |error: StoreError| told(&error);
        if mark.marks.len() > MARKS_MAX {
            return Err(Code::BadRequest);
        }
        let me = self.signed_in(user).await.map_err(failed)?;
        let mut conn = self.store.reader().await.map_err(failed)?;
        for marked in &mark.marks {
            let conv = self.conversation(&mut conn, me, &marked.conversation).await;
            let conv = conv.map_err(|refused| refused.code())?;
            let read = i64::try_from(marked.read_seq).map_err(|_| Code::BadRequest)?;
            let delivered = i64::try_from(marked.delivered_seq).map_err(|_| Code::BadRequest)?;
            let advance = Advance { conv, user: me, read, delivered };
            items.push(Item { ask, conversation: marked.conversation.clone(), advance });
        }
        Ok(())
    }

    async fn advance_all(
        &self,
        items: Vec<Advance>,
    ) -> Result<Vec<Result<Option<Moved>, Code>>, StoreError> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let (dialect, now_ms, items) = (self.store.dialect(), self.store.now_ms(), Arc::new(items));
        self.store
            .write(move |conn| {
                let items = Arc::clone(&items);
                Box::pin(async move { advance(conn, dialect, &items, now_ms).await })
            })
            .await
    }

    /// To the user's own devices, and to who is to know: the other one, or senders in a group. Who
    /// reads in private is told of to its own devices alone, and nobody of whom it blocks.
    async fn moved(&self, user: &str, item: &Item, moved: Moved) {
        let frame = |conversation: String, (read, delivered): (i64, i64)| {
            let (read_seq, delivered_seq) = (read as u64, delivered as u64);
            let users = vec![v1::UserCursor { user: user.to_owned(), read_seq, delivered_seq }];
            Box::new(Body::Cursors(v1::Cursors { conversation, users }))
        };
        let own = frame(item.conversation.clone(), (moved.read, moved.delivered));
        self.tell(Tell::Push { mcast: McastId::user(user), frame: own }).await;
        match Named::parse(&item.conversation) {
            Ok(Named::User(peer)) if peer != user && moved.told != (0, 0) => {
                let frame = frame(words::with_user(user), moved.told);
                self.tell(Tell::Push { mcast: McastId::user(peer), frame }).await;
            }
            Ok(Named::Group(conv)) if moved.told.0 > moved.old_read => {
                self.receipts.passed(conv, (moved.old_read, moved.read));
            }
            _ => {}
        }
    }
}
