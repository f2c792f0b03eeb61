//! The engine's side: takes what shards ask, brings it to control in another process, and tells the
//! engine what control says.
//!
//! Owns the connections to control and the tasks that keep them. What is owed to whom, and whether
//! the way is open, is [`uplink`]'s to say.

mod known;
mod requests;
mod uplink;

use crate::config::Config;
use crate::frames::Reader;
use crate::v1::Load;
use known::Known;
pub use known::Lists;
use requests::{Failed, Requests};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};
use uplink::{SILENT, Uplink};
use uproar_proto::control::{
    Ask, Control, Engine, FilterList, KeptQuestion, Lines, NodeLoad, Penalties, Question, Report,
    Sample, SampleKind, SampleValue, Seen, Tell, unreported,
};

/// What waits to be told to the shards. Reached: whoever tells waits, asks among them; shards
/// then refuse by themselves.
const TELLS_MAX: usize = 16_384;
/// A queue of the engine was full: it empties within turns.
const TELL_RETRY: Duration = Duration::from_millis(1);
/// The pause after a first failure; it doubles, up to a second.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// The same failure is logged again after this long.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// The way to control. Made before the engine, joined to it by [`Client::serve`].
pub struct Client {
    shared: Arc<Shared>,
    /// Taken by [`Client::serve`].
    told: Mutex<Option<mpsc::Receiver<Tell>>>,
    runtime: Handle,
}

struct Shared {
    link: Mutex<Uplink>,
    requests: Requests,
    /// There may be a batch to send.
    work: Notify,
    /// The stream is to be made anew.
    broken: Notify,
    tells: mpsc::Sender<Tell>,
    /// Whoever has started it ends it.
    engine: OnceLock<Weak<dyn Engine>>,
    figures: Figures,
    known: Arc<Known>,
    /// Whether control's webhooks decide about rooms, as it said last.
    decides: Mutex<Option<bool>>,
}

#[derive(Default)]
struct Figures {
    asks: AtomicU64,
    refused: AtomicU64,
    batches: AtomicU64,
    retries: AtomicU64,
    told: AtomicU64,
    unowed: AtomicU64,
    opened: AtomicU64,
    resumed: AtomicU64,
    anew: AtomicU64,
    seen_lost: AtomicU64,
    lines_lost: AtomicU64,
    penalties_lost: AtomicU64,
    kept_unasked: AtomicU64,
    unasked: AtomicU64,
    reports_refused: AtomicU64,
    unremembered: Arc<AtomicU64>,
}

impl Client {
    /// For the engine whose rooms are asked for at `http`; its tasks run on the caller's tokio
    /// runtime.
    ///
    /// # Errors
    /// What in the configuration, or on this machine, does not fit.
    pub fn new(config: &Config, http: String) -> Result<Arc<Client>, String> {
        config.check().and_then(|()| config.check_linked()).map_err(|e| format!("link.{e}"))?;
        let (tells, told) = mpsc::channel(TELLS_MAX);
        let figures = Figures::default();
        let shared = Shared {
            link: Mutex::new(Uplink::counting(Arc::clone(&figures.unremembered))),
            requests: Requests::new(config, http)?,
            work: Notify::new(),
            broken: Notify::new(),
            tells,
            engine: OnceLock::new(),
            figures,
            known: Arc::new(Known::new(config)),
            decides: Mutex::default(),
        };
        let runtime = Handle::current();
        Ok(Arc::new(Client { shared: Arc::new(shared), told: Mutex::new(Some(told)), runtime }))
    }

    /// Begins to keep the link, and to tell `engine` what control says. Once.
    pub fn serve(&self, engine: Arc<dyn Engine>) {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(told) = told else { return };
        if self.shared.engine.set(Arc::downgrade(&engine)).is_ok() {
            self.runtime.spawn(tell_engine(engine, told, Arc::clone(&self.shared.known)));
            self.runtime.spawn(Arc::clone(&self.shared.known).keep());
            self.runtime.spawn(keep_stream(Arc::clone(&self.shared)));
            self.runtime.spawn(send_batches(Arc::clone(&self.shared)));
        }
    }

    /// The lists that control told last; `fits` says whether the engine can use the filter. For
    /// the engine's first turn, so before [`Client::serve`].
    #[must_use]
    pub fn known(&self, fits: impl Fn(&Arc<FilterList>) -> Result<(), String>) -> Lists {
        self.shared.known.read(fits)
    }

    /// Whether the filter list and the blocks are known, from control or from before.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.shared.known.is_whole()
    }

    /// Whether control has a webhook that decides about messages of rooms; `None`: it was never
    /// reached.
    #[must_use]
    pub fn decides(&self) -> Option<bool> {
        *self.shared.decides.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether asks pass.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.shared.link().is_up()
    }

    /// Figures of the link.
    #[must_use]
    pub fn samples(&self) -> Vec<Sample> {
        let is_known = self.is_known();
        let (is_up, (owed, waiting)) = {
            let link = self.shared.link();
            (link.is_up(), link.owed())
        };
        let f = &self.shared.figures;
        let [written, unwritten] = self.shared.known.counts();
        let gauge = |name, help, value: usize| sample(name, help, SampleKind::Gauge, value as u64);
        let count = |name, help, value: &AtomicU64| {
            sample(name, help, SampleKind::Counter, value.load(Relaxed))
        };
        vec![
            gauge("uproar_link_up", "1 while asks pass to control", usize::from(is_up)),
            gauge("uproar_link_known", "1 once filter and blocks are known", usize::from(is_known)),
            count("uproar_link_known_writes_total", "times link.known_file was written", written),
            count("uproar_link_known_failed_total", "times it could not be", unwritten),
            gauge("uproar_link_asks_owed", "asks without an answer", owed),
            gauge("uproar_link_asks_waiting", "asks not sent yet", waiting),
            count("uproar_link_asks_total", "asks taken in", &f.asks),
            count("uproar_link_refused_total", "asks refused on this side", &f.refused),
            count("uproar_link_batches_total", "batches of asks control took in", &f.batches),
            count("uproar_link_batch_retries_total", "batches sent once more", &f.retries),
            count("uproar_link_told_total", "words of control handed to shards", &f.told),
            count("uproar_link_unowed_total", "answers to asks refused before", &f.unowed),
            count("uproar_link_breaker_opened_total", "times the breaker opened", &f.opened),
            count("uproar_link_resumed_total", "streams that went on where they were", &f.resumed),
            count("uproar_link_anew_total", "sessions, each begins everything anew", &f.anew),
            count(
                "uproar_link_lanes_unremembered_total",
                "lanes there was no room to remember, and sends that failed for it",
                &f.unremembered,
            ),
            count("uproar_link_presence_lost_total", "notices of presence dropped", &f.seen_lost),
            count("uproar_link_lines_lost_total", "archived lines dropped", &f.lines_lost),
            count(
                "uproar_link_penalties_lost_total",
                "bans and mutes of rooms dropped",
                &f.penalties_lost,
            ),
            count(
                "uproar_link_kept_unasked_total",
                "questions what is kept of rooms dropped, to be asked again",
                &f.kept_unasked,
            ),
            count("uproar_link_unasked_total", "questions of rooms nobody was asked", &f.unasked),
            count(
                "uproar_link_reports_refused_total",
                "reports of quality refused on this side",
                &f.reports_refused,
            ),
        ]
    }
}

fn sample(name: &'static str, help: &'static str, kind: SampleKind, value: u64) -> Sample {
    Sample { name, help, kind, labels: Vec::new(), value: SampleValue::Number(value as f64) }
}

/// Called from the thread that relays what shards ask, which may wait and may wake a runtime.
impl Control for Client {
    fn ask(&self, ask: Ask) {
        let shared = &self.shared;
        shared.figures.asks.fetch_add(1, Relaxed);
        let taken = shared.link().ask(ask, Instant::now());
        match taken {
            Ok(()) => shared.work.notify_one(),
            Err(refusal) => {
                shared.figures.refused.fetch_add(1, Relaxed);
                if let Err(mpsc::error::TrySendError::Full(refusal)) =
                    shared.tells.try_send(refusal)
                {
                    // The process ends where nobody takes it.
                    let _ = shared.tells.blocking_send(refusal);
                }
            }
        }
    }

    fn seen(&self, seen: Seen) {
        let taken = self.shared.link().seen(seen);
        if taken {
            self.shared.work.notify_one();
        } else {
            self.shared.figures.seen_lost.fetch_add(1, Relaxed);
        }
    }

    fn lines(&self, lines: Lines) {
        let many = lines.messages.len() as u64;
        let taken = self.shared.link().lines(lines);
        if taken {
            self.shared.work.notify_one();
        } else {
            self.shared.figures.lines_lost.fetch_add(many, Relaxed);
        }
    }

    fn penalties(&self, penalties: Penalties) {
        let many = penalties.list.len() as u64;
        let taken = self.shared.link().penalties(penalties);
        if taken {
            self.shared.work.notify_one();
        } else {
            self.shared.figures.penalties_lost.fetch_add(many, Relaxed);
        }
    }

    fn kept(&self, question: KeptQuestion) {
        let taken = self.shared.link().kept(question);
        if taken {
            self.shared.work.notify_one();
        } else {
            self.shared.figures.kept_unasked.fetch_add(1, Relaxed);
        }
    }

    fn question(&self, question: Question) {
        let taken = self.shared.link().question(question);
        match taken {
            Ok(()) => self.shared.work.notify_one(),
            Err(undecided) => {
                self.shared.figures.unasked.fetch_add(1, Relaxed);
                // Lost: the room's own deadline says the same, a moment later.
                let _ = self.shared.tells.try_send(undecided);
            }
        }
    }

    fn report(&self, report: Report) {
        let shared = &self.shared;
        let (to, id) = (report.from, report.id);
        let taken = shared.link().report(report);
        match taken {
            Ok(()) => shared.work.notify_one(),
            Err(code) => {
                shared.figures.reports_refused.fetch_add(1, Relaxed);
                // A client that is told nothing reports again.
                let _ =
                    shared.tells.try_send(Tell::Show { to, frame: unreported(id, code).into() });
            }
        }
    }
}

impl Shared {
    /// A state whose holder panicked would be half changed: then the process may as well end.
    fn link(&self) -> MutexGuard<'_, Uplink> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where clients connect, and how full it is.
    fn load(&self) -> (String, Load) {
        let engine = self.engine.get().and_then(Weak::upgrade);
        let load = engine.and_then(|engine| engine.nodes().pop()).unwrap_or_default();
        let NodeLoad { address, connections, connections_max, closed } = load;
        (address, Load { connections, connections_max, closed })
    }

    async fn tell(&self, tell: Tell) {
        // Closed: the process is ending.
        let _ = self.tells.send(tell).await;
    }

    /// The breaker has opened, or a session has ended: what was owed is refused.
    async fn tell_refused(&self, refused: Vec<Tell>) {
        self.figures.refused.fetch_add(refused.len() as u64, Relaxed);
        for tell in refused {
            self.tell(tell).await;
        }
    }

    /// After a failure: refuses what is owed where the breaker opens by it.
    async fn fail(&self, failed: impl FnOnce(&mut Uplink) -> (u32, Vec<Tell>)) -> Duration {
        let (tries, refused, opened) = {
            let mut link = self.link();
            let was_up = link.is_up();
            let (tries, refused) = failed(&mut link);
            (tries, refused, was_up && !link.is_up())
        };
        if opened {
            self.figures.opened.fetch_add(1, Relaxed);
            tracing::warn!(refused = refused.len(), "control cannot be reached; asks are refused");
        }
        self.tell_refused(refused).await;
        (PAUSE_MIN * (1 << (tries.clamp(1, 8) - 1))).min(PAUSE_MAX)
    }
}

/// Tells the engine in order, each thing until it is taken.
async fn tell_engine(engine: Arc<dyn Engine>, mut told: mpsc::Receiver<Tell>, known: Arc<Known>) {
    while let Some(mut tell) = told.recv().await {
        let list = match &tell {
            Tell::Filter(list) => Some(Tell::Filter(Arc::clone(list))),
            Tell::Blocks(list) => Some(Tell::Blocks(Arc::clone(list))),
            _ => None,
        };
        while let Err(back) = engine.tell(tell) {
            sleep(TELL_RETRY).await;
            tell = back;
        }
        list.iter().for_each(|list| known.told(list));
    }
}

/// Keeps the stream standing, for ever.
async fn keep_stream(shared: Arc<Shared>) {
    let mut complaint = Complaint::default();
    loop {
        let failed = match link_up(&shared).await {
            Ok(stream) => {
                complaint = Complaint::default();
                listen(&shared, stream).await
            }
            Err(failed) => failed,
        };
        if let Failed::Gone(session) = failed {
            shared.link().forget(session);
        }
        complaint.of(&failed.to_string());
        let pause = shared.fail(|link| link.broken(Instant::now())).await;
        sleep(pause).await;
    }
}

/// Says hello and opens the stream.
async fn link_up(shared: &Shared) -> Result<reqwest::Response, Failed> {
    let place = shared.link().place();
    let linked = shared.requests.hello(shared.load(), place).await?;
    let session = linked.session;
    *shared.decides.lock().unwrap_or_else(PoisonError::into_inner) = Some(linked.decides);
    if linked.resumed {
        shared.figures.resumed.fetch_add(1, Relaxed);
    } else {
        let number = shared.figures.anew.fetch_add(1, Relaxed) + 1;
        let refused = shared.link().begin(session, Instant::now());
        shared.tell_refused(refused).await;
        shared.tell(Tell::Anew { number }).await;
    }
    let after = shared.link().place().map_or(0, |(_, heard)| heard);
    let stream = shared.requests.stream(session, after).await?;
    shared.link().stands(Instant::now());
    shared.work.notify_one();
    tracing::info!(resumed = linked.resumed, control = linked.build, "linked to control");
    Ok(stream)
}

/// Hears what control tells until the stream breaks; why it did.
async fn listen(shared: &Shared, mut stream: reqwest::Response) -> Failed {
    let mut reader = Reader::default();
    loop {
        let piece = tokio::select! {
            piece = timeout(SILENT, stream.chunk()) => piece,
            () = shared.broken.notified() => {
                // Perhaps it was about a session that is over.
                if shared.link().place().is_some() {
                    continue;
                }
                return Failed::Broken("control has lost track of this engine".into());
            }
        };
        match piece {
            Ok(Ok(Some(piece))) => reader.feed(&piece),
            Ok(Ok(None)) => return Failed::Broken("control ended the stream".into()),
            Ok(Err(error)) => return Failed::Broken(requests::told(&error)),
            Err(_) => return Failed::Broken("control is silent".into()),
        }
        shared.link().word(Instant::now());
        loop {
            let told = match reader.next() {
                Ok(Some(told)) => told,
                Ok(None) => break,
                Err(error) => return Failed::Broken(error),
            };
            let is_word = told.seq != 0;
            let heard = {
                let mut link = shared.link();
                let heard = link.hear(told);
                heard.map_err(|error| (link.place(), error))
            };
            match heard {
                Ok(Some(tell)) => {
                    shared.figures.told.fetch_add(1, Relaxed);
                    shared.tell(tell).await;
                }
                Ok(None) => drop(shared.figures.unowed.fetch_add(u64::from(is_word), Relaxed)),
                Err((place, error)) => {
                    tracing::error!(%error, "what control tells cannot be understood");
                    return place.map_or(Failed::Broken(error), |(name, _)| Failed::Gone(name));
                }
            }
        }
        if shared.link().heard_much() {
            shared.work.notify_one();
        }
    }
}

/// Sends batches as they are due, a few of them at once.
async fn send_batches(shared: Arc<Shared>) {
    loop {
        // Woken where there is something to say; else it says once a beat that it is there.
        let _ = timeout(crate::BEAT, shared.work.notified()).await;
        let late = shared.link().expire(Instant::now());
        shared.tell_refused(late).await;
        loop {
            let (_, load) = shared.load();
            let batch = shared.link().next_batch(Instant::now(), load);
            let Some((session, number)) = batch else { break };
            tokio::spawn(send_batch(Arc::clone(&shared), session, number));
        }
    }
}

/// Brings one batch to control, however often it takes.
async fn send_batch(shared: Arc<Shared>, session: u64, number: u64) {
    loop {
        let Some(body) = shared.link().body(session, number) else { return };
        match shared.requests.asks(session, body).await {
            Ok(()) => {
                shared.link().taken(session, number);
                shared.figures.batches.fetch_add(1, Relaxed);
                return shared.work.notify_one();
            }
            Err(Failed::Gone(session)) => {
                shared.link().forget(session);
                return shared.broken.notify_one();
            }
            Err(failed) => {
                tracing::debug!(%failed, number, "a batch goes again");
                shared.figures.retries.fetch_add(1, Relaxed);
                let now = Instant::now();
                let pause = shared.fail(|link| link.batch_failed(session, number, now)).await;
                sleep(pause).await;
            }
        }
    }
}

/// Logs what goes wrong once, and again only after a while.
#[derive(Default)]
struct Complaint {
    last: Option<(String, Instant)>,
}

impl Complaint {
    fn of(&mut self, text: &str) {
        let is_old = |(last, at): &(String, Instant)| last == text && at.elapsed() < COMPLAIN_EVERY;
        if !self.last.as_ref().is_some_and(is_old) {
            tracing::warn!("the link to control is broken: {text}");
            self.last = Some((text.to_owned(), Instant::now()));
        }
    }
}
