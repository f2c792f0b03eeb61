//! Sends: from the queue through one transaction to the acknowledgement and the push.
//!
//! Owns the order. All sends to one conversation pass one worker, in the order they came; a batch
//! is one transaction, and nobody is told before its commit. Where a send fails in a way that a
//! retry may mend, everything behind it on its connection fails too, until that very message is
//! sent again: so what a client sent first is never stored behind what it sent later.

use super::words::{self, Named};
use super::{Shared, told};
use crate::store::append::{Append, Appended, Target, append};
use crate::store::{Dialect, StoreError};
use bytes::Bytes;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use uproar_proto::control::{Ask, Asked, ConnectionId, Tell, refusal};
use uproar_proto::error::Code;
use uproar_proto::ids::McastId;
use uproar_proto::v1::{self, client_frame, server_frame::Body};

/// Sends that wait for one worker. Reached: `QUEUE_FULL`, at once.
const WAITING_MAX: usize = 16_384;
/// Sends of one transaction: bounds how long the first one waits for the last.
const BATCH_MAX: usize = 256;
/// A server that runs transactions side by side gets this many workers; SQLite has one writer.
const MYSQL_WORKERS: usize = 8;
/// A broken lane heals by itself after this long: its client has gone or given up.
const BROKEN_MAX: Duration = Duration::from_secs(30);
/// Broken lanes remembered by one worker. Reached: the oldest are forgotten.
const BROKEN_LANES_MAX: usize = 65_536;

/// The workers' queues.
pub(super) struct Sends {
    queues: Vec<mpsc::Sender<Ask>>,
    hasher: RandomState,
}

impl Sends {
    pub(super) fn start(shared: &Arc<Shared>, runtime: &Handle) -> Sends {
        let workers = match shared.store.dialect() {
            Dialect::Sqlite => 1,
            Dialect::Mysql => MYSQL_WORKERS,
        };
        let queues = (0..workers).map(|_| {
            let (sender, receiver) = mpsc::channel(WAITING_MAX);
            runtime.spawn(work(Arc::clone(shared), receiver));
            sender
        });
        Sends { queues: queues.collect(), hasher: RandomState::new() }
    }

    /// Puts a send in its conversation's queue.
    pub(super) fn offer(&self, ask: &Ask) -> Result<(), ()> {
        let Asked::Frame(client_frame::Body::Send(send)) = &ask.what else { return Err(()) };
        // Both directions of a one-to-one conversation go the same way.
        let key = match send.conversation.strip_prefix("user:") {
            Some(peer) if *peer < *ask.user => [peer, &ask.user],
            Some(peer) => [&*ask.user, peer],
            None => [&*send.conversation, ""],
        };
        let worker = self.hasher.hash_one(key) % self.queues.len() as u64;
        self.queues[worker as usize].try_send(ask.clone()).map_err(|_| ())
    }
}

/// Lanes behind a failed send: which message they wait for, and since when.
#[derive(Default)]
pub(super) struct Broken {
    lanes: HashMap<ConnectionId, (Bytes, Instant)>,
}

impl Broken {
    /// Whether a send must fail for what failed before it; the awaited one mends its lane.
    pub(super) fn stops(&mut self, from: ConnectionId, client_msg_id: &Bytes) -> bool {
        match self.lanes.get(&from) {
            None => false,
            Some((awaited, since)) if awaited == client_msg_id || since.elapsed() > BROKEN_MAX => {
                self.lanes.remove(&from);
                false
            }
            Some(_) => true,
        }
    }

    pub(super) fn breaks(&mut self, from: ConnectionId, client_msg_id: &Bytes) {
        if self.lanes.len() >= BROKEN_LANES_MAX {
            self.lanes.retain(|_, (_, since)| since.elapsed() <= BROKEN_MAX / 2);
        }
        self.lanes.entry(from).or_insert_with(|| (client_msg_id.clone(), Instant::now()));
    }
}

/// A send that may go to the store.
struct Ready {
    from: ConnectionId,
    user: Arc<str>,
    send: v1::Send,
}

async fn work(shared: Arc<Shared>, mut queue: mpsc::Receiver<Ask>) {
    let mut broken = Broken::default();
    let mut asks = Vec::with_capacity(BATCH_MAX);
    while queue.recv_many(&mut asks, BATCH_MAX).await > 0 {
        let mut answers: Vec<Tell> = Vec::new();
        let (mut ready, mut items) = (Vec::new(), Vec::new());
        for Ask { from, user, what } in asks.drain(..) {
            let Asked::Frame(client_frame::Body::Send(send)) = what else { continue };
            if broken.stops(from, &send.client_msg_id) {
                answers.push(refused(from, send, Code::SlowDown));
                continue;
            }
            match shared.prepare(&user, &send).await {
                Ok(item) => {
                    items.push(item);
                    ready.push(Ready { from, user, send });
                }
                Err(code) => {
                    if code.retry() {
                        broken.breaks(from, &send.client_msg_id);
                    }
                    answers.push(refused(from, send, code));
                }
            }
        }
        if !items.is_empty() {
            match shared.store_all(items).await {
                Ok(results) => shared.acknowledge(ready, &results, &mut answers).await,
                Err(error) => {
                    let code = told(&error);
                    for Ready { from, send, .. } in ready {
                        broken.breaks(from, &send.client_msg_id);
                        answers.push(refused(from, send, code));
                    }
                }
            }
        }
        for answer in answers {
            shared.tell(answer).await;
        }
    }
}

fn refused(from: ConnectionId, send: v1::Send, code: Code) -> Tell {
    let body = client_frame::Body::Send(send);
    Tell::Answer { to: from, frames: vec![refusal(&body, code)] }
}

impl Shared {
    /// Who and what is meant, checked as far as it can be outside the transaction.
    async fn prepare(&self, user: &str, send: &v1::Send) -> Result<Append, Code> {
        let failed = |error: StoreError| told(&error);
        let named = Named::parse(&send.conversation)?;
        let sender = self.signed_in(user).await.map_err(failed)?;
        let target = match named {
            Named::Group(conv) => Target::Group(conv),
            Named::User(peer) => {
                let peer = self.user(peer).await.map_err(failed)?;
                Target::Direct(peer.ok_or(Code::NotFound)?)
            }
        };
        words::append(send, sender, target, self.rules.payload_bytes_max)
    }

    async fn store_all(
        &self,
        items: Vec<Append>,
    ) -> Result<Vec<Result<Appended, Code>>, StoreError> {
        let (dialect, policy, now_ms) =
            (self.store.dialect(), self.rules.policy, self.store.now_ms());
        let items = Arc::new(items);
        self.store
            .write(move |conn| {
                let items = Arc::clone(&items);
                Box::pin(async move { append(conn, dialect, policy, &items, now_ms).await })
            })
            .await
    }

    /// Answers a committed batch and pushes what is new, each conversation's messages together.
    async fn acknowledge(
        &self,
        ready: Vec<Ready>,
        results: &[Result<Appended, Code>],
        answers: &mut Vec<Tell>,
    ) {
        let generation = self.store.generation() as u64;
        let mut pushes = Pushes::default();
        for (Ready { from, user, send }, result) in ready.into_iter().zip(results) {
            let place = match result {
                Ok(place) => place,
                Err(code) => {
                    answers.push(refused(from, send, *code));
                    continue;
                }
            };
            let sent = v1::Sent {
                conversation: send.conversation.clone(),
                client_msg_id: send.client_msg_id.clone(),
                seq: place.seq as u64,
                time_ms: place.time_ms as u64,
                generation,
                ..v1::Sent::default()
            };
            answers.push(Tell::Answer { to: from, frames: vec![Body::Sent(sent)] });
            if !place.before {
                pushes.add(&user, &send, (place.seq, place.time_ms));
            }
        }
        for (mcast, stored) in pushes.list {
            let frame = Box::new(Body::Stored(stored));
            answers.push(Tell::Push { mcast, frame });
        }
    }
}

/// What a batch pushes, by mcast and conversation, in the order of seq.
#[derive(Default)]
struct Pushes {
    list: Vec<(McastId, v1::Stored)>,
    places: HashMap<(McastId, String), usize>,
}

impl Pushes {
    fn add(&mut self, user: &str, send: &v1::Send, place: (i64, i64)) {
        match send.conversation.strip_prefix("user:") {
            None => {
                let message = words::pushed(send, user, place, false);
                let group = send.conversation.strip_prefix("group:").unwrap_or_default();
                self.put(McastId::group(group), send.conversation.clone(), message);
            }
            Some(peer) => {
                let own = words::pushed(send, user, place, true);
                self.put(McastId::user(user), send.conversation.clone(), own);
                if peer != user {
                    let theirs = words::pushed(send, user, place, false);
                    self.put(McastId::user(peer), words::with_user(user), theirs);
                }
            }
        }
    }

    fn put(&mut self, mcast: McastId, conversation: String, message: v1::StoredMessage) {
        let key = (mcast.clone(), conversation.clone());
        let list = &mut self.list;
        let place = *self.places.entry(key).or_insert_with(|| {
            list.push((mcast, v1::Stored { conversation, messages: Vec::new() }));
            list.len() - 1
        });
        self.list[place].1.messages.push(message);
    }
}
