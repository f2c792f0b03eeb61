//! Stored conversations: what connections with an inbox ask, and what they are pushed.
//!
//! Owns the rules between the engine and the store: who is meant, what is well-formed, what is
//! told to whom after a commit. Never speaks SQL, never sees a socket. A message is acknowledged
//! after its commit and pushed after that: the push is a hint, the pull is the truth.

mod answers;
mod changes;
#[cfg(test)]
mod defects;
#[cfg(test)]
mod desk;
mod door;
mod erase;
mod gate;
mod marks;
mod names;
mod owed;
mod presence;
mod reacts;
mod recall;
mod receipts;
#[cfg(test)]
mod refusals;
mod send;
#[cfg(test)]
mod store_tests;
#[cfg(test)]
mod stories;
mod tellings;
#[cfg(test)]
mod tests;
pub(crate) mod words;

use crate::config::GroupsConfig;
use crate::fault::Fault;
use crate::groups::{Act, Changed, User};
use crate::guard::{caught, caught_now, kept_up};
use crate::relations::Policy;
use crate::store::{Store, StoreError, accounts, bans, conversations, users};
use crate::webhooks::Webhooks;
pub(crate) use changes::{Done, Once};
use door::Door;
use gate::Gates;
use names::Names;
use presence::Presence;
use receipts::Receipts;
use send::Sends;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Notify, RwLock, Semaphore, mpsc};
use tokio::time::timeout;
use uproar_proto::control::{
    Ask, Asked, Control, Engine, Membership, Sample, SampleKind, SampleValue, Seen, Tell, refusal,
};
use uproar_proto::error::Code;
use uproar_proto::lanes::Lanes;
use uproar_proto::v1::{self, client_frame, server_frame};

/// Reads of conversations (inboxes that open, sync, pull, signals) that wait or are under way: a
/// crowd that connects at once waits its turn. Reached: `QUEUE_FULL`.
const READS_MAX: usize = 16_384;
/// What was asked is answered within this time, by the store or for it: sooner than a client asks
/// again.
const ANSWER_MAX: Duration = Duration::from_secs(4);
/// What waits to be told to the engine. Reached: whoever tells waits.
const TELLS_MAX: usize = 65_536;
/// A queue of the engine was full: it empties within turns.
const TELL_RETRY: Duration = Duration::from_millis(1);

/// What conversations are set to.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Who may write to whom.
    pub policy: Policy,
    /// The largest text or data of a stored message, in bytes.
    pub payload_bytes_max: usize,
    /// How large groups may be.
    pub groups: GroupsConfig,
}

/// The service. Made before the engine, joined to it by [`Conversations::serve`].
pub struct Conversations {
    shared: Arc<Shared>,
    runtime: Handle,
}

/// What its tasks share.
struct Shared {
    store: Arc<Store>,
    rules: Rules,
    names: Names,
    door: Door,
    /// Counts lanes that there is no room to remember.
    unremembered: Arc<AtomicU64>,
    sends: OnceLock<Sends>,
    gates: OnceLock<Gates>,
    webhooks: Arc<Webhooks>,
    marks: OnceLock<mpsc::Sender<Ask>>,
    reacts: OnceLock<mpsc::Sender<Ask>>,
    receipts: Receipts,
    presence: Presence,
    /// Held while memberships change, until the engine was told: whoever reads which groups a user
    /// is in tells the engine before or after, never an older truth behind a newer one.
    memberships: RwLock<()>,
    tells: OnceLock<mpsc::Sender<Tell>>,
    reads: Arc<Semaphore>,
    /// An erasure has begun.
    erasing: Notify,
    /// It has changed counts of reactions, which are to be told.
    untold: Notify,
}

impl Conversations {
    /// For a store; its tasks run on the caller's tokio runtime.
    #[must_use]
    pub fn new(
        store: Arc<Store>,
        rules: Rules,
        webhooks: impl Into<Arc<Webhooks>>,
    ) -> Arc<Conversations> {
        let unremembered = Arc::<AtomicU64>::default();
        let shared = Shared {
            door: Door::new(Lanes::counting(Arc::clone(&unremembered))),
            unremembered,
            store,
            rules,
            names: Names::default(),
            sends: OnceLock::new(),
            gates: OnceLock::new(),
            webhooks: webhooks.into(),
            marks: OnceLock::new(),
            reacts: OnceLock::new(),
            receipts: Receipts::default(),
            presence: Presence::default(),
            memberships: RwLock::new(()),
            tells: OnceLock::new(),
            reads: Arc::new(Semaphore::new(READS_MAX)),
            erasing: Notify::new(),
            untold: Notify::new(),
        };
        Arc::new(Conversations { shared: Arc::new(shared), runtime: Handle::current() })
    }

    /// Begins to answer what `engine` asks. Once.
    pub fn serve(&self, engine: Arc<dyn Engine>) {
        let (tells, receiver) = mpsc::channel(TELLS_MAX);
        if self.shared.tells.set(tells).is_ok() {
            self.runtime.spawn(tell_engine(engine, receiver));
            self.shared.tell_now(Tell::Generation(self.shared.store.generation() as u64));
            let _ = self.shared.sends.set(Sends::start(&self.shared, &self.runtime));
            let _ = self.shared.gates.set(Gates::start(&self.shared, &self.runtime));
            let _ = self.shared.marks.set(marks::start(&self.shared, &self.runtime));
            let _ = self.shared.reacts.set(reacts::start(&self.shared, &self.runtime));
            let shared = Arc::clone(&self.shared);
            self.runtime.spawn(kept_up("receipts", move || receipts::work(Arc::clone(&shared))));
            let shared = Arc::clone(&self.shared);
            self.runtime.spawn(kept_up("presence", move || presence::work(Arc::clone(&shared))));
            let shared = Arc::clone(&self.shared);
            self.runtime.spawn(kept_up("erasures", move || erase::work(Arc::clone(&shared))));
            self.shared.webhooks.start(&self.shared.store, &self.runtime);
        }
    }

    /// Ends what webhooks have under way, before the store is closed; what is not told yet waits
    /// there for the next start.
    pub async fn end(&self) {
        self.shared.webhooks.end().await;
    }

    /// Carries out what `actor` does to the group of `conv`, in order with what is written to it,
    /// and tells who is concerned.
    pub(crate) async fn change(&self, conv: i64, actor: User, act: Act) -> Result<Changed, Fault> {
        match self.shared.offer_change(conv, actor, act, None).await? {
            Done::Now(changed) => Ok(*changed),
            Done::Before(_) => Err(StoreError::Corrupt("a key nobody used".into()).into()),
        }
    }

    /// The same once for an idempotency key: a repeat gets what was answered.
    pub(crate) async fn change_once(
        &self,
        conv: i64,
        actor: User,
        act: Act,
        once: Once,
    ) -> Result<Done, Fault> {
        self.shared.offer_change(conv, actor, act, Some(once)).await
    }

    /// Whether a user is online, and when it was last; `None`: nobody here knows.
    pub(crate) fn seen_last(&self, user: &str) -> Option<(bool, i64)> {
        self.shared.presence.seen_last(user)
    }

    /// Its webhooks.
    pub(crate) fn webhooks(&self) -> Arc<Webhooks> {
        Arc::clone(&self.shared.webhooks)
    }

    /// Figures of presence, of lanes and of webhooks.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        let mut samples = self.shared.presence.samples();
        samples.push(Sample {
            name: "uproar_lanes_unremembered_total",
            help: "Lanes there was no room to remember, and sends that failed for it.",
            kind: SampleKind::Counter,
            labels: Vec::new(),
            value: SampleValue::Number(self.shared.unremembered.load(Ordering::Relaxed) as f64),
        });
        samples.extend(self.shared.webhooks.samples(self.shared.store.now_ms()));
        samples
    }
}

/// Tells the engine in order, each thing until it is taken.
async fn tell_engine(engine: Arc<dyn Engine>, mut tells: mpsc::Receiver<Tell>) {
    while let Some(mut tell) = tells.recv().await {
        // Lost where the engine panics: whoever waits for it asks again.
        while let Some(Err(back)) = caught_now("tells", || engine.tell(tell)) {
            tokio::time::sleep(TELL_RETRY).await;
            tell = back;
        }
    }
}

impl Control for Conversations {
    fn seen(&self, seen: Seen) {
        self.shared.presence.seen(&seen, self.shared.store.now_ms());
    }

    fn ask(&self, ask: Ask) {
        // Called from a thread that carries everybody's asks.
        let _ = caught_now("asks", || self.take(ask));
    }
}

impl Conversations {
    /// Puts an ask where it is answered, or refuses it.
    fn take(&self, ask: Ask) {
        let shared = &self.shared;
        let taken = match &ask.what {
            Asked::Frame(client_frame::Body::Send(_)) => {
                if let Err(refusal) = shared.offer_send(&ask) {
                    shared.tell_now(*refusal);
                }
                Some(true)
            }
            Asked::Frame(client_frame::Body::Mark(_)) => {
                Some(shared.marks.get().is_some_and(|marks| marks.try_send(ask.clone()).is_ok()))
            }
            Asked::Frame(client_frame::Body::React(_)) => {
                Some(shared.reacts.get().is_some_and(|reacts| reacts.try_send(ask.clone()).is_ok()))
            }
            _ => None,
        };
        match taken {
            Some(true) => return,
            Some(false) => return shared.tell_now(refused(&ask, Code::QueueFull)),
            None => {}
        }
        let Ok(permit) = Arc::clone(&shared.reads).try_acquire_owned() else {
            return shared.tell_now(refused(&ask, Code::QueueFull));
        };
        let shared = Arc::clone(shared);
        self.runtime.spawn(async move {
            if caught("answers", shared.answer(&ask)).await.is_none() {
                shared.refuse_ask(&ask, Code::StoreDown).await;
            }
            drop(permit);
        });
    }
}

impl Shared {
    async fn answer(&self, ask: &Ask) {
        #[cfg(test)]
        crate::guard::trap("answers", &format!("{:?}", ask.what));
        let (to, number) = (ask.from, ask.number);
        match &ask.what {
            Asked::Open { login } => {
                let opened = timeout(ANSWER_MAX, async {
                    let unchanged = self.memberships.read().await;
                    let groups = self.open(&ask.user, login.as_deref()).await;
                    let groups = groups.map_err(|refused| refused.code());
                    self.tell(Tell::Opened { to, number, groups }).await;
                    drop(unchanged);
                });
                if opened.await.is_err() {
                    let groups = Err(Code::StoreDown);
                    self.tell(Tell::Opened { to, number, groups }).await;
                }
            }
            Asked::Frame(client_frame::Body::Watch(watch)) => self.watch(ask, watch).await,
            Asked::Frame(body) => {
                let frames = match in_time(self.frames(&ask.user, body)).await {
                    Ok(frames) => frames,
                    Err(refused) => vec![refused.frame(body)],
                };
                self.tell(Tell::Answer { to, number, frames }).await;
            }
        }
    }

    /// The groups of a user whose token was minted for this login, unless that has ended: engines
    /// verify signatures alone, so the token of a login that is over would open an inbox until it
    /// expires.
    async fn open(&self, user: &str, login: Option<&str>) -> Result<Vec<Membership>, Refused> {
        let user = self.signed_in(user).await?;
        // A login of ours is a number; what a platform calls its own is the platform's to end.
        if let Some(login) = login.and_then(|login| login.parse::<i64>().ok()) {
            let session = accounts::session(&self.store, user, login).await?;
            if session.is_none_or(|(expires_ms, _)| expires_ms <= self.store.now_ms()) {
                return Err(Code::SessionRevoked.into());
            }
        }
        let mut conn = self.store.reader().await?;
        if users::by_id(&mut conn, user).await?.is_none() {
            return Err(Code::TokenInvalid.into()); // erased since it was looked up
        }
        if bans::find(&mut conn, user, self.store.now_ms()).await?.is_some() {
            return Err(Code::Banned.into());
        }
        let groups = conversations::groups(&mut conn, user).await?;
        let groups = groups.into_iter().map(|(conv, since)| Membership {
            group: words::group_id(conv),
            since_seq: since as u64,
        });
        Ok(groups.collect())
    }

    async fn tell(&self, tell: Tell) {
        if let Some(tells) = self.tells.get() {
            // Closed: the process is ending, and so do the connections.
            let _ = tells.send(tell).await;
        }
    }

    /// From the engine's thread, which may not wait: an answer that is lost is asked for again.
    fn tell_now(&self, tell: Tell) {
        if let Some(tells) = self.tells.get() {
            let _ = tells.try_send(tell);
        }
    }

    /// For who may wait.
    async fn refuse_ask(&self, ask: &Ask, code: Code) {
        self.tell(refused(ask, code)).await;
    }
}

/// The answer to an ask that led to nothing.
fn refused(ask: &Ask, code: Code) -> Tell {
    let (to, number) = (ask.from, ask.number);
    match &ask.what {
        Asked::Open { .. } => Tell::Opened { to, number, groups: Err(code) },
        Asked::Frame(body) => Tell::Answer { to, number, frames: vec![refusal(body, code)] },
    }
}

/// Gives up on a store that does not answer.
async fn in_time<T>(answer: impl Future<Output = Result<T, Refused>>) -> Result<T, Refused> {
    timeout(ANSWER_MAX, answer).await.unwrap_or_else(|_| Err(Code::StoreDown.into()))
}

/// Why a frame led to nothing.
enum Refused {
    /// A rule says so.
    Rule(Code),
    /// The same, and which one: where the code alone does not tell.
    Said(Code, &'static str),
    /// The store could not tell.
    Store(StoreError),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Refused {
        Refused::Store(error)
    }
}

impl From<Code> for Refused {
    fn from(code: Code) -> Refused {
        Refused::Rule(code)
    }
}

impl Refused {
    /// What is answered to a frame.
    fn frame(&self, body: &client_frame::Body) -> server_frame::Body {
        match (refusal(body, self.code()), self) {
            (server_frame::Body::Error(error), Refused::Said(_, text)) => {
                server_frame::Body::Error(v1::Error { text: (*text).to_owned(), ..error })
            }
            (frame, _) => frame,
        }
    }

    /// What the client is told.
    fn code(&self) -> Code {
        match self {
            Refused::Rule(code) | Refused::Said(code, _) => *code,
            Refused::Store(error) => told(error),
        }
    }
}

/// What a client is told of a store that did not answer: to try again with the same ids.
fn told(error: &StoreError) -> Code {
    match error {
        StoreError::Busy => Code::QueueFull,
        StoreError::Refused(code) => *code,
        StoreError::Database(_)
        | StoreError::Ended
        | StoreError::Corrupt(_)
        | StoreError::Defect
        | StoreError::Unusable(_) => {
            tracing::warn!(%error, "the store did not answer");
            Code::StoreDown
        }
    }
}
