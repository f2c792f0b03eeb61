//! Messages of live rooms that a platform decides about before anybody sees them.
//!
//! Owns what waits to be asked, and for how long. Every question gets an answer, `Undecided` where
//! there is no decision, but for what finds no room here: there, and whatever becomes of this
//! process, the room's own deadline speaks. So nothing here is durable, nothing is asked twice, and
//! a store is not needed. What a room does without a decision is its own to say.

use super::decide::{Decision, Question as Asked};
use super::events::{About, Said};
use super::figures::AskedLive;
use super::{Hook, Webhooks};
use crate::guard::{caught, caught_now};
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use uproar_proto::control::{Engine, Judgement, Question, Sample, Tell};

/// Questions that wait, of all rooms. Reached: nobody is asked, and the room's deadline speaks.
const WAITING_MAX: usize = 16_384;
/// Questions taken in at once.
const TAKEN_AT_ONCE: usize = 256;
/// Content of one request, in bytes, after which no further message is put in.
const CONTENT_BYTES_MAX: usize = 1 << 19;
/// A queue of the engine was full: it empties within turns.
const TELL_RETRY: Duration = Duration::from_millis(1);

/// See the module. Made before the engine, joined to it by [`RoomGate::serve`].
pub struct RoomGate {
    webhooks: Arc<Webhooks>,
    queue: OnceLock<mpsc::Sender<Waiting>>,
    runtime: Handle,
}

/// A question, and when it came.
struct Waiting {
    question: Question,
    since: Instant,
}

impl Waiting {
    /// How much longer its room waits.
    fn left(&self, now: Instant) -> Duration {
        let wait = Duration::from_millis(u64::from(self.question.wait_ms));
        wait.saturating_sub(now - self.since)
    }
}

impl RoomGate {
    /// For these webhooks, of which one decides about rooms or none does; its tasks run on the
    /// caller's tokio runtime.
    #[must_use]
    pub fn new(webhooks: &Arc<Webhooks>) -> Arc<RoomGate> {
        let (webhooks, runtime) = (Arc::clone(webhooks), Handle::current());
        Arc::new(RoomGate { webhooks, queue: OnceLock::new(), runtime })
    }

    /// Whether one of them does: else nobody need be asked.
    #[must_use]
    pub fn decides(&self) -> bool {
        self.webhooks.room_decider().is_some()
    }

    /// Begins to answer. `generation` names the life of the store; 0: there is none. Once.
    pub fn serve(&self, engine: Arc<dyn Engine>, generation: i64) {
        let (sender, queue) = mpsc::channel(WAITING_MAX);
        if self.queue.set(sender).is_ok() {
            let hook = self.webhooks.room_decider().cloned();
            self.runtime.spawn(work(Gate { engine, hook, generation }, queue));
        }
    }

    /// Takes a question in, without waiting.
    pub fn question(&self, question: Question) {
        let waiting = Waiting { question, since: Instant::now() };
        let is_taken = self.queue.get().is_some_and(|queue| queue.try_send(waiting).is_ok());
        if !is_taken && let Some(hook) = self.webhooks.room_decider() {
            hook.figures.asked_live(AskedLive::Unasked);
        }
    }

    /// Figures of its webhook, for a process where nobody else shows them.
    #[must_use]
    pub fn samples(&self) -> Vec<Sample> {
        self.webhooks.samples(crate::process::unix_ms())
    }
}

/// What the tasks share.
#[derive(Clone)]
struct Gate {
    engine: Arc<dyn Engine>,
    hook: Option<Arc<Hook>>,
    generation: i64,
}

async fn work(gate: Gate, mut queue: mpsc::Receiver<Waiting>) {
    let Some(hook) = gate.hook.clone() else {
        // Nobody is configured who could decide.
        while let Some(waiting) = queue.recv().await {
            gate.tell(waiting.question.judged(Judgement::Undecided)).await;
        }
        return;
    };
    let (mut desk, mut requests) = (VecDeque::new(), JoinSet::new());
    let mut came = Vec::with_capacity(TAKEN_AT_ONCE);
    loop {
        while requests.len() < hook.requests_max() {
            let taken = take(&mut desk, hook.events_per_request_max());
            if taken.is_empty() {
                break;
            }
            requests.spawn(decided(gate.clone(), Arc::clone(&hook), taken));
        }
        tokio::select! {
            Some(done) = requests.join_next() => {
                // Only where the runtime ends: what panics in there is caught in there.
                if let Err(error) = done {
                    tracing::error!(%error, "a decision did not end");
                }
            }
            taken = queue.recv_many(&mut came, TAKEN_AT_ONCE), if desk.len() < WAITING_MAX => {
                if taken == 0 {
                    return;
                }
                desk.extend(came.drain(..));
            }
        }
    }
}

/// The next questions, in the order they came.
fn take(desk: &mut VecDeque<Waiting>, messages_max: usize) -> Vec<Waiting> {
    let (mut taken, mut bytes) = (Vec::new(), 0);
    while taken.len() < messages_max
        && bytes < CONTENT_BYTES_MAX
        && let Some(waiting) = desk.pop_front()
    {
        bytes += bytes_of(&waiting.question);
        taken.push(waiting);
    }
    taken
}

fn bytes_of(question: &Question) -> usize {
    use uproar_proto::v1::message::Content;
    match &question.message.content {
        Some(Content::Text(text)) => text.len(),
        Some(Content::Data(data)) => data.len(),
        None => 0,
    }
}

/// Asks about these and tells the engine what was said. What has waited as long as its room does is
/// not asked about: nobody waits for it.
async fn decided(gate: Gate, hook: Arc<Hook>, taken: Vec<Waiting>) {
    let now = Instant::now();
    let (fresh, old): (Vec<Waiting>, Vec<Waiting>) =
        taken.into_iter().partition(|waiting| !waiting.left(now).is_zero());
    old.iter().for_each(|_| hook.figures.asked_live(AskedLive::Unasked));
    let Some(wait_max) = fresh.iter().map(|waiting| waiting.left(now)).max() else { return };
    let questions: Vec<Asked> = fresh.iter().map(|waiting| asked(&waiting.question)).collect();
    let now_ms = crate::process::unix_ms();
    // A defect is no decision.
    let decisions = hook.decide(&questions, gate.generation, now_ms, wait_max);
    let decisions = caught("decision about a room", decisions).await.unwrap_or_default();
    let mut decisions = decisions.into_iter();
    for waiting in fresh {
        let (judgement, what) = judgement(decisions.next().flatten());
        hook.figures.asked_live(what);
        gate.tell(waiting.question.judged(judgement)).await;
    }
}

fn asked(question: &Question) -> Asked {
    let about = About::room(question.room.as_str());
    Asked { about, said: Said::Live(question.message.clone()) }
}

fn judgement(decision: Option<Decision>) -> (Judgement, AskedLive) {
    match decision {
        Some(Decision::Allow) => (Judgement::Allow, AskedLive::Allowed),
        Some(Decision::Rewrite(text)) => (Judgement::Replace(text), AskedLive::Rewritten),
        Some(Decision::Refuse(code, text)) => (Judgement::Refuse(code, text), AskedLive::Refused),
        None => (Judgement::Undecided, AskedLive::Undecided),
    }
}

impl Gate {
    async fn tell(&self, mut tell: Tell) {
        // Lost where the engine panics: the room's deadline speaks.
        while let Some(Err(back)) = caught_now("judgements", || self.engine.tell(tell)) {
            tokio::time::sleep(TELL_RETRY).await;
            tell = back;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uproar_proto::error::Code;
    use uproar_proto::ids::{Epoch, RoomId};
    use uproar_proto::v1;

    fn waiting(number: u64, text: &str) -> Waiting {
        let content = Some(v1::message::Content::Text(text.into()));
        let message = v1::Message { content, ..v1::Message::default() };
        let (room, epoch) = (RoomId::new("stage").unwrap(), Epoch(1));
        let question = Question { node: 0, room, epoch, number, wait_ms: 500, message };
        Waiting { question, since: Instant::now() }
    }

    fn numbers(taken: &[Waiting]) -> Vec<u64> {
        taken.iter().map(|waiting| waiting.question.number).collect()
    }

    #[test]
    fn a_request_holds_so_many_messages_and_so_many_bytes() {
        let long = "x".repeat(CONTENT_BYTES_MAX / 2 + 1);
        let mut desk: VecDeque<Waiting> = (1..=3).map(|n| waiting(n, "x")).collect();
        desk.extend((4..=6).map(|n| waiting(n, &long)));
        assert_eq!(numbers(&take(&mut desk, 2)), [1, 2]);
        assert_eq!(numbers(&take(&mut desk, 9)), [3, 4, 5]);
        assert_eq!(numbers(&take(&mut desk, 9)), [6]);
        assert!(take(&mut desk, 9).is_empty());
    }

    #[test]
    fn a_question_is_worth_asking_as_long_as_its_room_waits() {
        let one = waiting(1, "x");
        assert_eq!(one.left(one.since + Duration::from_millis(100)), Duration::from_millis(400));
        assert_eq!(one.left(one.since + Duration::from_millis(501)), Duration::ZERO);
    }

    #[test]
    fn what_was_said_is_what_the_room_is_told() {
        let refuse = Decision::Refuse(Code::Muted, "calm down".into());
        let said = [Some(Decision::Allow), Some(Decision::Rewrite("*".into())), Some(refuse), None];
        let told = said.map(|decision| judgement(decision).0);
        let refuse = Judgement::Refuse(Code::Muted, "calm down".into());
        let replace = Judgement::Replace("*".into());
        assert_eq!(told, [Judgement::Allow, replace, refuse, Judgement::Undecided]);
    }
}
