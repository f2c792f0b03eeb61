//! The gate before the workers: messages that the platform decides about wait here for its word.
//!
//! Owns the order while they wait. A lane is what one connection sends to one conversation; at most
//! one request is under way for it, and what is behind it goes on when that has ended. Lanes do not
//! wait for each other: up to the webhook's bound, requests go side by side, each with what waits
//! at that moment, so that a message asked about in a quiet hour is alone in its request. Nothing
//! waits longer than two time-outs: one for a request to be free, one for its answer.
//!
//! Not asked about is what is stored already (a retry gets the old answer whatever the platform
//! thinks now), what would be refused anyway, and what says nothing: recalls and pins. All of it
//! keeps its place in its lane.

use super::send::{Passed, refused, stopped};
use super::words::{self, Named};
use super::{Shared, told};
use crate::guard::caught;
use crate::store::StoreError;
use crate::store::append::{Append, Appended, look};
use crate::webhooks::config::OnFailure;
use crate::webhooks::events::{About, Said};
use crate::webhooks::{Asked as Outcome, Decision, Hook, Question};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use uproar_proto::control::{Ask, Asked, ConnectionId, Tell};
use uproar_proto::error::Code;
use uproar_proto::lanes::Lanes;
use uproar_proto::v1::{self, Kind, client_frame, server_frame::Body};

/// Sends that wait at a gate, and as many before it. Reached: `QUEUE_FULL`, at once.
const WAITING_MAX: usize = 16_384;
/// Sends taken in at once.
const TAKEN_AT_ONCE: usize = 256;
/// Content of one request, in bytes, after which no further message is put in.
const CONTENT_BYTES_MAX: usize = 1 << 19;

/// What one connection sends to one conversation.
type Lane = (ConnectionId, String);

/// The gates' queues, by kind of conversation; `None`: nobody decides about them.
pub(super) struct Gates {
    direct: Option<mpsc::Sender<Ask>>,
    group: Option<mpsc::Sender<Ask>>,
}

impl Gates {
    pub(super) fn start(shared: &Arc<Shared>, runtime: &Handle) -> Gates {
        let start = |hook: &Arc<Hook>| {
            let (sender, receiver) = mpsc::channel(WAITING_MAX);
            runtime.spawn(work(Arc::clone(shared), Arc::clone(hook), receiver));
            sender
        };
        let (direct, group) = (shared.webhooks.decider(false), shared.webhooks.decider(true));
        let is_one = direct.zip(group).is_some_and(|(direct, group)| Arc::ptr_eq(direct, group));
        let direct = direct.map(start);
        let group = if is_one { direct.clone() } else { group.map(start) };
        Gates { direct, group }
    }

    /// One queue for messages between two, which nobody empties but the test.
    #[cfg(test)]
    pub(super) fn idle(waiting_max: usize) -> (Gates, mpsc::Receiver<Ask>) {
        let (sender, receiver) = mpsc::channel(waiting_max);
        (Gates { direct: Some(sender), group: None }, receiver)
    }

    pub(super) fn of(&self, conversation: &str) -> Option<&mpsc::Sender<Ask>> {
        match conversation.split_once(':') {
            Some(("user", _)) => self.direct.as_ref(),
            Some(("group", _)) => self.group.as_ref(),
            // Refused by whoever reads it.
            _ => None,
        }
    }
}

/// A send at the gate.
#[derive(Clone, Debug)]
struct Waiting {
    lane: Lane,
    number: u32,
    user: Arc<str>,
    send: v1::Send,
    since: Instant,
}

impl Waiting {
    fn of(ask: Ask, since: Instant) -> Option<Waiting> {
        let Asked::Frame(client_frame::Body::Send(send)) = ask.what else { return None };
        let lane = (ask.from, send.conversation.clone());
        Some(Waiting { lane, number: ask.number, user: ask.user, send, since })
    }

    fn bytes(&self) -> usize {
        self.send.text.len() + self.send.data.len()
    }

    fn has_content(&self) -> bool {
        matches!(self.send.kind(), Kind::Message | Kind::Edit)
    }
}

/// What waits, by lane.
#[derive(Default)]
struct Desk {
    lanes: HashMap<Lane, Row>,
    /// Lanes that wait and have nothing under way, the longest first.
    ready: VecDeque<Lane>,
    waiting: usize,
}

#[derive(Default)]
struct Row {
    queue: VecDeque<Waiting>,
    is_busy: bool,
}

impl Desk {
    fn put(&mut self, waiting: Waiting) {
        let row = self.lanes.entry(waiting.lane.clone()).or_default();
        if !row.is_busy && row.queue.is_empty() {
            self.ready.push_back(waiting.lane.clone());
        }
        row.queue.push_back(waiting);
        self.waiting += 1;
    }

    /// The next sends, each lane's in order; their lanes are busy until [`Desk::done`]. Empty:
    /// nothing may go now.
    fn take(&mut self, messages_max: usize) -> Vec<Waiting> {
        let (mut taken, mut bytes): (Vec<Waiting>, usize) = (Vec::new(), 0);
        while taken.len() < messages_max && bytes < CONTENT_BYTES_MAX {
            let Some(lane) = self.ready.pop_front() else { break };
            let Some(row) = self.lanes.get_mut(&lane) else { continue };
            row.is_busy = true;
            while taken.len() < messages_max
                && bytes < CONTENT_BYTES_MAX
                && let Some(waiting) = row.queue.pop_front()
            {
                bytes += waiting.bytes();
                taken.push(waiting);
            }
        }
        self.waiting -= taken.len();
        taken
    }

    /// A lane's sends have gone on.
    fn done(&mut self, lane: &Lane) {
        let Some(row) = self.lanes.get_mut(lane) else { return };
        row.is_busy = false;
        if row.queue.is_empty() {
            self.lanes.remove(lane);
        } else {
            self.ready.push_back(lane.clone());
        }
    }
}

/// What is to become of a send.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// It goes to the store, perhaps with another text.
    Pass(Option<String>),
    Refuse(Code, String),
}

async fn work(shared: Arc<Shared>, hook: Arc<Hook>, mut queue: mpsc::Receiver<Ask>) {
    let mut desk = Desk::default();
    let mut broken = Lanes::counting(Arc::clone(&shared.unremembered));
    let mut requests = JoinSet::new();
    let mut asks = Vec::with_capacity(TAKEN_AT_ONCE);
    loop {
        while requests.len() < hook.requests_max() {
            let taken = desk.take(hook.events_per_request_max());
            if taken.is_empty() {
                break;
            }
            // What failed before them is known already: nobody need be asked.
            let lanes = lanes_of(taken.iter());
            let (mut passing, now) = (Vec::with_capacity(taken.len()), Instant::now());
            for one in taken {
                match broken.stops(one.lane.0, &one.send, now) {
                    None => passing.push(one),
                    Some(stop) => {
                        shared.tell(stopped((one.lane.0, one.number), one.send, stop)).await;
                    }
                }
            }
            let taken = passing;
            requests.spawn(decided(Arc::clone(&shared), Arc::clone(&hook), lanes, taken));
        }
        tokio::select! {
            Some(done) = requests.join_next() => match done {
                Ok((lanes, verdicts)) => {
                    shared.pass_all(verdicts, &mut broken).await;
                    lanes.iter().for_each(|lane| desk.done(lane));
                }
                // Only where the runtime ends: what panics in there is caught in there.
                Err(error) => tracing::error!(%error, "a decision did not end"),
            },
            taken = queue.recv_many(&mut asks, TAKEN_AT_ONCE), if desk.waiting < WAITING_MAX => {
                if taken == 0 {
                    return;
                }
                let now = Instant::now();
                let waiting = asks.drain(..).filter_map(|ask| Waiting::of(ask, now));
                waiting.for_each(|waiting| desk.put(waiting));
            }
        }
    }
}

/// The lanes of these sends, each once.
fn lanes_of<'a>(sends: impl Iterator<Item = &'a Waiting>) -> Vec<Lane> {
    let mut lanes: Vec<Lane> = sends.map(|one| one.lane.clone()).collect();
    lanes.sort_unstable();
    lanes.dedup();
    lanes
}

type Decided = (Vec<Lane>, Vec<(Waiting, Verdict)>);

async fn decided(
    shared: Arc<Shared>,
    hook: Arc<Hook>,
    lanes: Vec<Lane>,
    taken: Vec<Waiting>,
) -> Decided {
    // A defect is no decision, and none that `on_failure` speaks of.
    let verdicts = caught("decision", shared.decide(&hook, &taken)).await;
    let verdicts = verdicts
        .unwrap_or_else(|| vec![Verdict::Refuse(Code::HookDown, String::new()); taken.len()]);
    (lanes, taken.into_iter().zip(verdicts).collect())
}

impl Shared {
    /// Puts a send that may be stored in its worker's queue.
    pub(super) fn to_worker(&self, passed: Passed) -> Result<(), ()> {
        self.sends.get().ok_or(())?.offer(passed)
    }

    /// What is to become of these, in their order.
    async fn decide(&self, hook: &Hook, taken: &[Waiting]) -> Vec<Verdict> {
        let mut verdicts: Vec<Option<Verdict>> = self.looked_at(taken).await;
        let patience: Duration = hook.timeout();
        let mut asked = Vec::new();
        let mut questions = Vec::new();
        for (at, waiting) in taken.iter().enumerate() {
            #[cfg(test)]
            crate::guard::trap("decision", &waiting.send.text);
            if verdicts[at].is_none() && waiting.since.elapsed() <= patience {
                asked.push(at);
                questions.push(question(waiting, self.store.now_ms()));
            }
        }
        let mut decisions = vec![None; taken.len()];
        if !questions.is_empty() {
            let (generation, now_ms) = (self.store.generation(), self.store.now_ms());
            let answered = hook.decide(&questions, generation, now_ms, patience).await;
            asked.iter().zip(answered).for_each(|(at, decision)| decisions[*at] = decision);
        }
        for (at, decision) in decisions.into_iter().enumerate() {
            if verdicts[at].is_none() {
                let payload_bytes_max = self.rules.payload_bytes_max;
                let (verdict, what) = verdict(hook, &taken[at].send, decision, payload_bytes_max);
                hook.asked(what);
                verdicts[at] = Some(verdict);
            }
        }
        let mut verdicts: Vec<Verdict> =
            verdicts.into_iter().map(|verdict| verdict.unwrap_or(Verdict::Pass(None))).collect();
        self.look_again(taken, &mut verdicts).await;
        verdicts
    }

    /// What is known of these without asking anybody; `None`: the platform is to decide.
    async fn looked_at(&self, taken: &[Waiting]) -> Vec<Option<Verdict>> {
        let mut verdicts: Vec<Option<Verdict>> = vec![None; taken.len()];
        let (mut places, mut items) = (Vec::new(), Vec::new());
        for (at, waiting) in taken.iter().enumerate() {
            match self.prepare(&waiting.user, &waiting.send).await {
                Err(refused) => {
                    verdicts[at] = Some(Verdict::Refuse(refused.code(), String::new()));
                }
                Ok(_) if !waiting.has_content() => verdicts[at] = Some(Verdict::Pass(None)),
                Ok(item) => {
                    places.push(at);
                    items.push(item);
                }
            }
        }
        match self.look(&items).await {
            Ok(seen) => {
                for (at, seen) in places.into_iter().zip(seen) {
                    verdicts[at] = match seen {
                        Ok(true) => Some(Verdict::Pass(None)),
                        Ok(false) => None,
                        Err(code) => Some(Verdict::Refuse(code, String::new())),
                    };
                }
            }
            Err(error) => {
                let refused = Verdict::Refuse(told(&error), String::new());
                places.into_iter().for_each(|at| verdicts[at] = Some(refused.clone()));
            }
        }
        verdicts
    }

    async fn look(&self, items: &[Append]) -> Result<Vec<Result<bool, Code>>, StoreError> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let mut conn = self.store.reader().await?;
        look(&mut conn, self.rules.policy, items, self.store.now_ms()).await
    }

    /// What was stored while it was asked about, by another connection's same send, was stored: its
    /// sender is told so, whatever the answer.
    async fn look_again(&self, taken: &[Waiting], verdicts: &mut [Verdict]) {
        let (mut places, mut items) = (Vec::new(), Vec::new());
        for (at, waiting) in taken.iter().enumerate() {
            if matches!(verdicts[at], Verdict::Refuse(..))
                && let Ok(item) = self.prepare(&waiting.user, &waiting.send).await
            {
                places.push(at);
                items.push(item);
            }
        }
        if let Ok(seen) = self.look(&items).await {
            let stored = places.into_iter().zip(seen).filter(|(_, seen)| *seen == Ok(true));
            stored.for_each(|(at, _)| verdicts[at] = Verdict::Pass(None));
        }
    }

    /// Hands on what passes and answers what does not, in order.
    async fn pass_all(&self, verdicts: Vec<(Waiting, Verdict)>, broken: &mut Lanes) {
        for (waiting, verdict) in verdicts {
            let (from, number) = (waiting.lane.0, waiting.number);
            let send = v1::Send {
                conversation: waiting.send.conversation.clone(),
                client_msg_id: waiting.send.client_msg_id.clone(),
                ..v1::Send::default()
            };
            if caught("gate", self.pass(waiting, verdict, broken)).await.is_none() {
                broken.breaks(from, &send, Instant::now());
                self.tell(refused((from, number), send, Code::StoreDown)).await;
            }
        }
    }

    /// The same for one; it is told of at its end.
    async fn pass(&self, waiting: Waiting, verdict: Verdict, broken: &mut Lanes) {
        let Waiting { lane: (from, _), number, user, send, .. } = waiting;
        #[cfg(test)]
        crate::guard::trap("gate", &send.text);
        if let Some(stop) = broken.stops(from, &send, Instant::now()) {
            return self.tell(stopped((from, number), send, stop)).await;
        }
        let (code, reason) = match verdict {
            Verdict::Refuse(code, reason) => (code, reason),
            Verdict::Pass(text) => {
                let what = Asked::Frame(client_frame::Body::Send(send.clone()));
                let ask = Ask { from, number, user, what };
                match self.to_worker(Passed { ask, text }) {
                    Ok(()) => return,
                    Err(()) => (Code::QueueFull, String::new()),
                }
            }
        };
        if code.retry() {
            broken.breaks(from, &send, Instant::now());
        }
        self.tell(with_reason(refused((from, number), send, code), reason)).await;
    }
}

fn question(waiting: &Waiting, now_ms: i64) -> Question {
    let Waiting { user, send, .. } = waiting;
    let about = match Named::parse(&send.conversation) {
        Ok(Named::Group(conv)) => About::group(conv),
        Ok(Named::User(peer)) => About::direct(user, peer),
        Err(_) => About::direct(user, ""), // refused before
    };
    // It has no place yet.
    let place =
        Appended { conv: 0, seq: 0, time_ms: now_ms, before: false, read_before: 0, msg_id: 0 };
    Question { about, said: Said::Stored(words::pushed(send, user, &place, true)) }
}

/// What a decision means for a send, and how it is counted.
fn verdict(
    hook: &Hook,
    send: &v1::Send,
    decision: Option<Decision>,
    payload_bytes_max: usize,
) -> (Verdict, Outcome) {
    match decision {
        Some(Decision::Allow) => return (Verdict::Pass(None), Outcome::Allowed),
        Some(Decision::Refuse(code, text)) => {
            return (Verdict::Refuse(code, text), Outcome::Refused);
        }
        Some(Decision::Rewrite(text)) if words::takes(send, &text, payload_bytes_max) => {
            return (Verdict::Pass(Some(text)), Outcome::Rewritten);
        }
        // A text that no client could have sent is no decision.
        Some(Decision::Rewrite(_)) | None => {}
    }
    match hook.on_failure() {
        OnFailure::Open => (Verdict::Pass(None), Outcome::Open),
        OnFailure::Closed => (Verdict::Refuse(Code::HookDown, String::new()), Outcome::Closed),
    }
}

fn with_reason(mut answer: Tell, reason: String) -> Tell {
    if let Tell::Answer { frames, .. } = &mut answer
        && let Some(Body::Sent(sent)) = frames.first_mut()
    {
        sent.text = reason;
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(conn: u32, conversation: &str, text: &str) -> Waiting {
        let from = ConnectionId { node: 0, shard: 0, conn, serial: 1 };
        let send = v1::Send {
            conversation: conversation.into(),
            text: text.into(),
            ..v1::Send::default()
        };
        let what = Asked::Frame(client_frame::Body::Send(send));
        Waiting::of(Ask { from, number: 0, user: "ann".into(), what }, Instant::now()).unwrap()
    }

    fn texts(taken: &[Waiting]) -> Vec<&str> {
        taken.iter().map(|one| one.send.text.as_str()).collect()
    }

    #[test]
    fn a_lane_waits_for_its_own_and_for_no_other() {
        let mut desk = Desk::default();
        desk.put(waiting(1, "user:bob", "a"));
        let first = desk.take(9);
        desk.put(waiting(1, "user:bob", "b"));
        desk.put(waiting(1, "user:cleo", "c"));
        desk.put(waiting(2, "user:bob", "d"));
        desk.put(waiting(1, "user:cleo", "e"));
        assert_eq!(texts(&first), ["a"]);
        let second = desk.take(9);
        assert_eq!(texts(&second), ["c", "e", "d"], "each lane in its order");
        assert!(desk.take(9).is_empty());
        desk.done(&first[0].lane);
        assert_eq!(texts(&desk.take(9)), ["b"]);
        lanes_of(second.iter()).iter().for_each(|lane| desk.done(lane));
        assert_eq!((desk.lanes.len(), desk.waiting), (1, 0), "a lane that is idle is forgotten");
    }

    #[test]
    fn a_request_holds_so_many_messages_and_so_many_bytes() {
        let mut desk = Desk::default();
        for text in ["1", "2", "3"] {
            desk.put(waiting(1, "user:bob", text));
        }
        let first = desk.take(2);
        assert_eq!(texts(&first), ["1", "2"]);
        assert!(desk.take(2).is_empty(), "the rest of the lane waits for it");
        desk.done(&first[0].lane);
        assert_eq!(texts(&desk.take(2)), ["3"]);
        let long = "x".repeat(CONTENT_BYTES_MAX / 2 + 1);
        for conn in 2..5 {
            desk.put(waiting(conn, "user:bob", &long));
        }
        assert_eq!((desk.take(9).len(), desk.take(9).len()), (2, 1));
    }
}
