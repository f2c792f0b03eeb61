//! Sends: from the queue through one transaction to the acknowledgement and the push.
//!
//! Owns the order. All sends to one conversation pass one worker, in the order they came; a batch
//! is one transaction, and nobody is told before its commit. Where a send fails in a way that a
//! retry may mend, everything behind it in its lane fails too, until that very message is sent
//! again: so what a client sent first is never stored behind what it sent later. Where the store is
//! away, whoever waits is told so in time, and nothing piles up; where a batch panics, its senders
//! are told to try again, and the worker goes on.

use super::changes::Change;
use super::owed::{Debt, Owed};
use super::reacts::{Of, Totals};
use super::recall::Recall;
use super::words::{self, Named};
use super::{ANSWER_MAX, Refused, Shared, told};
use crate::guard::caught;
use crate::store::append::{Append, Appended, Target, append};
use crate::store::reactions::Place;
use crate::store::{Dialect, StoreError};
use crate::webhooks::Entry;
use crate::webhooks::config::EventType;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Instant;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout;
use uproar_proto::control::{Ask, Asked, ConnectionId, Tell, refusal};
use uproar_proto::error::Code;
use uproar_proto::ids::McastId;
use uproar_proto::lanes::{Lanes, Stop};
use uproar_proto::v1::{self, client_frame, server_frame::Body};

/// Sends that wait for one worker. Reached: `QUEUE_FULL`, at once.
const WAITING_MAX: usize = 16_384;
/// Sends of one transaction: bounds how long the first one waits for the last.
const BATCH_MAX: usize = 256;
/// A server that runs transactions side by side gets this many workers; SQLite has one writer.
const MYSQL_WORKERS: usize = 8;

/// A send that may be stored.
#[derive(Clone, Debug)]
pub(super) struct Passed {
    pub(super) ask: Ask,
    /// What its text is to be instead, where the platform says so.
    pub(super) text: Option<String>,
}

/// What a worker does.
pub(super) enum Job {
    /// Stores a message.
    Send(Passed),
    /// Changes a group.
    Change(Box<Change>),
    /// Recalls messages for their author.
    Recall(Box<Recall>),
    /// Tells what reactions messages have.
    Totals(Totals),
}

/// The workers' queues.
pub(super) struct Sends {
    queues: Vec<mpsc::Sender<Job>>,
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

    /// One queue, which nobody empties but the test.
    #[cfg(test)]
    pub(super) fn idle(waiting_max: usize) -> (Sends, mpsc::Receiver<Job>) {
        let (sender, receiver) = mpsc::channel(waiting_max);
        (Sends { queues: vec![sender], hasher: RandomState::new() }, receiver)
    }

    /// Puts a send in its conversation's queue.
    pub(super) fn offer(&self, passed: Passed) -> Result<(), ()> {
        let ask = &passed.ask;
        let Asked::Frame(client_frame::Body::Send(send)) = &ask.what else { return Err(()) };
        // Both directions of a one-to-one conversation go the same way.
        let key = match send.conversation.strip_prefix("user:") {
            Some(peer) if *peer < *ask.user => [peer, &ask.user],
            Some(peer) => [&*ask.user, peer],
            None => [&*send.conversation, ""],
        };
        self.queue(key).try_send(Job::Send(passed)).map_err(|_| ())
    }

    /// Puts a change of a group in the queue its messages are in.
    pub(super) fn offer_change(&self, change: Change) -> Result<(), ()> {
        let group = words::with_group(change.conv);
        let queue = self.queue([&*group, ""]);
        queue.try_send(Job::Change(Box::new(change))).map_err(|_| ())
    }

    /// Puts recalls in the queue of their conversation.
    pub(super) fn offer_recall(&self, recall: Recall) -> Result<(), ()> {
        let queue = self.queue(recall.lane());
        queue.try_send(Job::Recall(Box::new(recall))).map_err(|_| ())
    }

    /// Messages, by the worker that stores those of their conversation.
    pub(super) fn by_worker(&self, messages: Vec<(Place, Of)>) -> Vec<Vec<(Place, Of)>> {
        let mut by_worker: BTreeMap<usize, Vec<(Place, Of)>> = BTreeMap::new();
        for (place, of) in messages {
            let worker = self.worker_of(place, &of);
            by_worker.entry(worker).or_default().push((place, of));
        }
        by_worker.into_values().collect()
    }

    /// Puts messages of one worker's conversations in its queue, to be told of.
    pub(super) fn offer_totals(&self, totals: Totals) -> Result<(), ()> {
        let Some((place, of)) = totals.places.first() else { return Err(()) };
        let worker = self.worker_of(*place, of);
        self.queues[worker].try_send(Job::Totals(totals)).map_err(|_| ())
    }

    fn worker_of(&self, (conv, _): Place, of: &Of) -> usize {
        match of {
            Of::Group => self.worker([&words::with_group(conv), ""]),
            Of::Users(one, other) if one < other => self.worker([one, other]),
            Of::Users(one, other) => self.worker([other, one]),
        }
    }

    fn worker(&self, key: [&str; 2]) -> usize {
        (self.hasher.hash_one(key) % self.queues.len() as u64) as usize
    }

    fn queue(&self, key: [&str; 2]) -> &mpsc::Sender<Job> {
        &self.queues[self.worker(key)]
    }
}

/// A send that may go to the store.
struct Ready {
    from: ConnectionId,
    number: u32,
    user: Arc<str>,
    send: v1::Send,
}

/// Sends that go into one transaction, and what was answered before it.
#[derive(Default)]
struct Batch {
    ready: Vec<Ready>,
    items: Vec<Append>,
    answers: Vec<Tell>,
}

/// What a worker has taken up at once, and what waits behind it.
pub(super) struct Turn<'w> {
    queue: &'w mut mpsc::Receiver<Job>,
    lanes: &'w mut Lanes,
    owed: &'w mut Owed,
    /// The store did not answer: nothing more is asked of it in this turn.
    store_away: bool,
}

impl Turn<'_> {
    /// The store failed: where it does not answer at all, what waits is not to wait for that again.
    pub(super) fn failed(&mut self, error: &StoreError) {
        self.store_away |= error.is_away();
    }
}

async fn work(shared: Arc<Shared>, mut queue: mpsc::Receiver<Job>) {
    let mut lanes = Lanes::counting(Arc::clone(&shared.unremembered));
    let mut owed = Owed::default();
    let mut jobs = Vec::with_capacity(BATCH_MAX);
    while queue.recv_many(&mut jobs, BATCH_MAX).await > 0 {
        owed.begin(&jobs);
        let (queue, lanes, owed) = (&mut queue, &mut lanes, &mut owed);
        let mut turn = Turn { queue, lanes, owed, store_away: false };
        if caught("worker", shared.turn(&mut jobs, &mut turn)).await.is_none() {
            jobs.clear();
            shared.refuse_owed(&mut turn).await;
        }
    }
}

/// The answer to a send that fails for what failed before it.
pub(super) fn stopped((to, number): (ConnectionId, u32), send: v1::Send, stop: Stop) -> Tell {
    let body = client_frame::Body::Send(send);
    Tell::Answer { to, number, frames: vec![stop.refusal(&body)] }
}

pub(super) fn refused((to, number): (ConnectionId, u32), send: v1::Send, code: Code) -> Tell {
    let body = client_frame::Body::Send(send);
    Tell::Answer { to, number, frames: vec![refusal(&body, code)] }
}

impl Shared {
    /// Carries out what a worker has taken from its queue at once.
    async fn turn(&self, jobs: &mut Vec<Job>, turn: &mut Turn<'_>) {
        let mut batch = Batch::default();
        for job in jobs.drain(..) {
            match job {
                job if turn.store_away => self.refuse(job, turn).await,
                Job::Send(passed) => self.take_in(passed, turn, &mut batch).await,
                job => {
                    // What was sent before it comes before it.
                    self.commit(std::mem::take(&mut batch), turn).await;
                    self.carry_out_job(job, turn).await;
                }
            }
        }
        self.commit(batch, turn).await;
        // Each look at a store that is away takes a while: what waited for it waits no longer.
        while turn.store_away
            && let Ok(job) = turn.queue.try_recv()
        {
            self.refuse(job, turn).await;
        }
    }

    /// The turn has panicked: whether its sends were stored is unknown, and those who sent them
    /// are told so. Whoever waits for another job learns it by its reply, which is gone.
    async fn refuse_owed(&self, turn: &mut Turn<'_>) {
        let debts = turn.owed.unanswered();
        for debt in &debts {
            turn.lanes.breaks(debt.from, &debt.send, Instant::now());
        }
        for Debt { from, number, send } in debts {
            self.tell(refused((from, number), send, Code::StoreDown)).await;
        }
    }

    /// Tells what a worker has to say, and notes whom it has answered.
    async fn tell_of(&self, tell: Tell, turn: &mut Turn<'_>) {
        turn.owed.told(&tell);
        self.tell(tell).await;
    }

    /// What is no send.
    async fn carry_out_job(&self, job: Job, turn: &mut Turn<'_>) {
        match job {
            job if turn.store_away => self.refuse(job, turn).await,
            Job::Send(_) => {}
            Job::Change(change) => self.change_group(*change, turn).await,
            Job::Recall(recall) => {
                self.patiently(turn, self.recall(*recall), |_| Vec::new()).await;
            }
            Job::Totals(totals) => {
                self.patiently(turn, self.tell_totals(totals), |_| Vec::new()).await;
            }
        }
    }

    /// Puts a send into the batch, or tells why it cannot be.
    async fn take_in(&self, passed: Passed, turn: &mut Turn<'_>, batch: &mut Batch) {
        let Passed { ask: Ask { from, number, user, what }, text } = passed;
        let Asked::Frame(client_frame::Body::Send(mut send)) = what else { return };
        #[cfg(test)]
        crate::guard::trap("worker", &send.text);
        if let Some(stop) = turn.lanes.stops(from, &send, Instant::now()) {
            batch.answers.push(stopped((from, number), send, stop));
            return;
        }
        let code = match timeout(ANSWER_MAX, self.prepare(&user, &send)).await {
            Ok(Ok(mut item)) => {
                if let Some(text) = text {
                    // The hash stays that of what was sent: a retry of it is a retry.
                    send.text = text;
                    item.body = words::body(&send);
                }
                batch.items.push(item);
                batch.ready.push(Ready { from, number, user, send });
                return;
            }
            Ok(Err(refused)) => {
                if let Refused::Store(error) = &refused {
                    turn.failed(error);
                }
                refused.code()
            }
            Err(_) => {
                turn.store_away = true;
                Code::StoreDown
            }
        };
        if code.retry() {
            turn.lanes.breaks(from, &send, Instant::now());
        }
        batch.answers.push(refused((from, number), send, code));
    }

    /// Tells whoever sent or asked that the store does not answer.
    async fn refuse(&self, job: Job, turn: &mut Turn<'_>) {
        match job {
            Job::Send(Passed { ask: Ask { from, number, what, .. }, .. }) => {
                let Asked::Frame(client_frame::Body::Send(send)) = what else { return };
                turn.lanes.breaks(from, &send, Instant::now());
                self.tell_of(refused((from, number), send, Code::StoreDown), turn).await;
            }
            Job::Change(change) => change.refuse(),
            Job::Recall(recall) => recall.refuse(),
            Job::Totals(totals) => totals.refuse(),
        }
    }

    /// Waits for a transaction. Where it takes too long, `late` tells who waits, whatever becomes
    /// of it, and what comes meanwhile is refused.
    pub(super) async fn patiently<T>(
        &self,
        turn: &mut Turn<'_>,
        transaction: impl Future<Output = T>,
        late: impl FnOnce(&mut Lanes) -> Vec<Tell>,
    ) -> T {
        let mut transaction = std::pin::pin!(transaction);
        if let Ok(done) = timeout(ANSWER_MAX, &mut transaction).await {
            return done;
        }
        turn.store_away = true;
        for answer in late(turn.lanes) {
            self.tell_of(answer, turn).await;
        }
        loop {
            tokio::select! {
                done = &mut transaction => return done,
                Some(job) = turn.queue.recv() => self.refuse(job, turn).await,
            }
        }
    }

    /// Stores a batch and tells everybody.
    async fn commit(&self, batch: Batch, turn: &mut Turn<'_>) {
        let Batch { ready, items, mut answers } = batch;
        if turn.store_away {
            answers.extend(all_refused(&ready, Code::StoreDown, turn.lanes));
        } else if !items.is_empty() {
            let (items, mut in_time) = (Arc::new(items), true);
            let stored = self.patiently(turn, self.store_all(&items), |lanes| {
                in_time = false;
                let refused = all_refused(&ready, Code::StoreDown, lanes);
                answers.drain(..).chain(refused).collect()
            });
            match stored.await {
                Ok((results, again)) => {
                    self.acknowledge(ready, (&results, again), &mut answers).await;
                    // Refused already: what is left to tell is what others are pushed.
                    answers.retain(|tell| {
                        in_time || matches!(tell, Tell::Push { .. } | Tell::PushAbout { .. })
                    });
                }
                Err(error) => {
                    turn.failed(&error);
                    let code = told(&error);
                    if in_time && error.is_about_one() && ready.len() > 1 {
                        self.one_by_one(ready, &items, turn).await;
                    } else if in_time {
                        answers.extend(all_refused(&ready, code, turn.lanes));
                    }
                }
            }
        }
        for answer in answers {
            self.tell_of(answer, turn).await;
        }
    }

    /// The database refused a batch for the sake of one of it: the others are stored without it.
    async fn one_by_one(&self, ready: Vec<Ready>, items: &[Append], turn: &mut Turn<'_>) {
        for (ready, item) in ready.into_iter().zip(items) {
            let mut one = Batch::default();
            if let Some(stop) = turn.lanes.stops(ready.from, &ready.send, Instant::now()) {
                one.answers.push(stopped((ready.from, ready.number), ready.send, stop));
            } else {
                one.ready.push(ready);
                one.items.push(item.clone());
            }
            Box::pin(self.commit(one, turn)).await;
        }
    }

    /// Who and what is meant, checked as far as it can be outside the transaction.
    pub(super) async fn prepare(&self, user: &str, send: &v1::Send) -> Result<Append, Refused> {
        let named = Named::parse(&send.conversation)?;
        let sender = self.signed_in(user).await?;
        let target = match named {
            Named::Group(conv) => Target::Group(conv),
            Named::User(peer) => Target::Direct(self.user(peer).await?.ok_or(Code::NotFound)?),
        };
        Ok(words::append(send, sender, target, self.rules.payload_bytes_max)?)
    }

    /// Also whether a commit was not answered: then places that were given before may be this
    /// batch's own.
    async fn store_all(
        &self,
        items: &Arc<Vec<Append>>,
    ) -> Result<(Vec<Result<Appended, Code>>, bool), StoreError> {
        let (dialect, policy, now_ms) =
            (self.store.dialect(), self.rules.policy, self.store.now_ms());
        let meant = (Arc::clone(items), Arc::clone(&self.webhooks));
        let stored = self.store.write_by_ids(move |conn| {
            let (items, webhooks) = meant.clone();
            Box::pin(async move {
                let placed = append(conn, dialect, policy, &items, now_ms).await?;
                let entries = match webhooks.is_empty() {
                    true => Vec::new(),
                    false => entries(&items, &placed),
                };
                let kept = webhooks.keep(conn, &entries, now_ms).await?;
                Ok((placed, kept))
            })
        });
        let ((placed, kept), again) = stored.await?;
        self.webhooks.kept(kept);
        Ok((placed, again))
    }

    /// Answers a committed batch and pushes what is new, each conversation's messages together.
    /// What may be new (`again`) is pushed too: a device drops what it has.
    async fn acknowledge(
        &self,
        ready: Vec<Ready>,
        (results, again): (&[Result<Appended, Code>], bool),
        answers: &mut Vec<Tell>,
    ) {
        let generation = self.store.generation() as u64;
        let mut pushes = Pushes::default();
        for (Ready { from, number, user, send }, result) in ready.into_iter().zip(results) {
            let place = match result {
                Ok(place) => place,
                Err(code) => {
                    answers.push(refused((from, number), send, *code));
                    continue;
                }
            };
            let sent = v1::Sent {
                conversation: send.conversation.clone(),
                client_msg_id: send.client_msg_id.clone(),
                seq: place.seq as u64,
                time_ms: place.time_ms as u64,
                generation,
                msg_id: place.msg_id,
                ..v1::Sent::default()
            };
            answers.push(Tell::Answer { to: from, number, frames: vec![Body::Sent(sent)] });
            if !place.before || again {
                pushes.add(&user, &send, place);
                // Who writes has read what was there.
                if send.conversation.starts_with("group:") && place.read_before < place.seq - 1 {
                    self.receipts.passed(place.conv, (place.read_before, place.seq - 1));
                }
            }
        }
        answers.extend(pushes.list.into_iter().map(Push::tell));
    }
}

/// Nobody behind them passes until they come again.
fn all_refused(ready: &[Ready], code: Code, lanes: &mut Lanes) -> Vec<Tell> {
    let refused = |Ready { from, number, send, .. }: &Ready| {
        lanes.breaks(*from, send, Instant::now());
        refused((*from, *number), send.clone(), code)
    };
    ready.iter().map(refused).collect()
}

/// Messages of one conversation for one mcast.
struct Push {
    mcast: McastId,
    stored: v1::Stored,
    /// It is an edit alone in a group: of this message, which some of the members cannot see.
    about: Option<u64>,
}

impl Push {
    fn tell(self) -> Tell {
        let Push { mcast, stored, about } = self;
        let Some(target_seq) = about else {
            return Tell::Push { mcast, frame: Box::new(Body::Stored(stored)) };
        };
        let messages = stored.messages.iter().map(words::blank).collect();
        let blank = v1::Stored { conversation: stored.conversation.clone(), messages };
        let (frame, blank) = (Box::new(Body::Stored(stored)), Box::new(Body::Stored(blank)));
        Tell::PushAbout { mcast, target_seq, frame, blank }
    }
}

/// What a batch added to logs.
fn entries(items: &[Append], placed: &[Result<Appended, Code>]) -> Vec<Entry> {
    let fresh = items.iter().zip(placed).filter_map(|(item, placed)| {
        let place = placed.as_ref().ok().filter(|place| !place.before)?;
        let is_group = matches!(item.target, Target::Group(_));
        Some(Entry { conv: place.conv, seq: place.seq, is_group, event: EventType::MessageAfter })
    });
    fresh.collect()
}

/// What a batch pushes, by mcast and conversation, in the order of seq.
#[derive(Default)]
struct Pushes {
    list: Vec<Push>,
    places: HashMap<(McastId, String), usize>,
}

impl Pushes {
    fn add(&mut self, user: &str, send: &v1::Send, place: &Appended) {
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
        let is_edit = message.kind() == v1::Kind::Edit && conversation.starts_with("group:");
        let about = is_edit.then_some(message.target_seq);
        let place = self.places.get(&key).copied().filter(|_| !is_edit);
        let place = place.unwrap_or_else(|| {
            let stored = v1::Stored { conversation, messages: Vec::new() };
            self.list.push(Push { mcast, stored, about });
            self.list.len() - 1
        });
        self.list[place].stored.messages.push(message);
        // What follows an edit goes by itself too: behind it.
        match about {
            Some(_) => self.places.remove(&key),
            None => self.places.insert(key, place),
        };
    }
}
