//! Stored conversations: what connections with an inbox ask, and what they are pushed.
//!
//! Owns the rules between the engine and the store: who is meant, what is well-formed, what is
//! told to whom after a commit. Never speaks SQL, never sees a socket. A message is acknowledged
//! after its commit and pushed after that: the push is a hint, the pull is the truth.

mod answers;
mod names;
mod send;
#[cfg(test)]
mod tests;
mod words;

use crate::relations::Policy;
use crate::store::{Store, StoreError, conversations};
use names::Names;
use send::Sends;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use uproar_proto::control::{Ask, Asked, Control, Engine, Membership, Tell, refusal};
use uproar_proto::error::Code;
use uproar_proto::v1::client_frame;

/// Reads of conversations (sync, pull, marks, signals) under way at once. More wait in the engine.
const READS_MAX: usize = 1024;
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
    sends: OnceLock<Sends>,
    tells: OnceLock<mpsc::Sender<Tell>>,
    reads: Arc<Semaphore>,
}

impl Conversations {
    /// For a store; its tasks run on the caller's tokio runtime.
    #[must_use]
    pub fn new(store: Arc<Store>, rules: Rules) -> Arc<Conversations> {
        let shared = Shared {
            store,
            rules,
            names: Names::default(),
            sends: OnceLock::new(),
            tells: OnceLock::new(),
            reads: Arc::new(Semaphore::new(READS_MAX)),
        };
        Arc::new(Conversations { shared: Arc::new(shared), runtime: Handle::current() })
    }

    /// Begins to answer what `engine` asks. Once.
    pub fn serve(&self, engine: Arc<dyn Engine>) {
        let (tells, receiver) = mpsc::channel(TELLS_MAX);
        if self.shared.tells.set(tells).is_ok() {
            self.runtime.spawn(tell_engine(engine, receiver));
            let _ = self.shared.sends.set(Sends::start(&self.shared, &self.runtime));
        }
    }
}

/// Tells the engine in order, each thing until it is taken.
async fn tell_engine(engine: Arc<dyn Engine>, mut tells: mpsc::Receiver<Tell>) {
    while let Some(mut tell) = tells.recv().await {
        while let Err(back) = engine.tell(tell) {
            tokio::time::sleep(TELL_RETRY).await;
            tell = back;
        }
    }
}

impl Control for Conversations {
    fn ask(&self, ask: Ask) {
        let shared = &self.shared;
        if let Asked::Frame(body @ client_frame::Body::Send(_)) = &ask.what {
            let refused = shared.sends.get().is_none_or(|sends| sends.offer(&ask).is_err());
            if refused {
                shared.refuse_now(&ask, body, Code::QueueFull);
            }
            return;
        }
        let Ok(permit) = Arc::clone(&shared.reads).try_acquire_owned() else {
            match &ask.what {
                Asked::Open => {
                    let groups = Err(Code::QueueFull);
                    shared.tell_now(Tell::Opened { to: ask.from, groups });
                }
                Asked::Frame(body) => shared.refuse_now(&ask, body, Code::QueueFull),
            }
            return;
        };
        let shared = Arc::clone(shared);
        self.runtime.spawn(async move {
            let tell = shared.answer(ask).await;
            shared.tell(tell).await;
            drop(permit);
        });
    }
}

impl Shared {
    async fn answer(&self, ask: Ask) -> Tell {
        match ask.what {
            Asked::Open => {
                let groups = self.groups(&ask.user).await.map_err(|error| told(&error));
                Tell::Opened { to: ask.from, groups }
            }
            Asked::Frame(body) => {
                let frames = match self.frames(&ask.user, &body).await {
                    Ok(frames) => frames,
                    Err(Refused::Rule(code)) => vec![refusal(&body, code)],
                    Err(Refused::Store(error)) => vec![refusal(&body, told(&error))],
                };
                Tell::Answer { to: ask.from, frames }
            }
        }
    }

    async fn groups(&self, user: &str) -> Result<Vec<Membership>, StoreError> {
        let user = self.signed_in(user).await?;
        let groups = conversations::groups(&mut *self.store.reader().await?, user).await?;
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

    fn refuse_now(&self, ask: &Ask, body: &client_frame::Body, code: Code) {
        self.tell_now(Tell::Answer { to: ask.from, frames: vec![refusal(body, code)] });
    }
}

/// Why a frame led to nothing.
enum Refused {
    /// A rule says so.
    Rule(Code),
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

/// What a client is told of a store that did not answer: to try again with the same ids.
fn told(error: &StoreError) -> Code {
    match error {
        StoreError::Busy => Code::QueueFull,
        StoreError::Database(_) | StoreError::Ended | StoreError::Corrupt(_) => {
            tracing::warn!(%error, "the store did not answer");
            Code::StoreDown
        }
    }
}
