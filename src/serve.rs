//! `uproar serve`: engine, control and HTTP in one process; and the life of every process that has
//! shards, from start to drain.
//!
//! Owns the order of starting and ending. Start: limits, HTTP port, store, shards, HTTP, signals.
//! End: the first signal drains (HTTP goes on answering, so that /readyz and /metrics tell of it),
//! then HTTP ends, then the process.

use crate::Failure;
use crate::config::Config;
use crate::signals::{Drained, Signals, drained};
use crate::start::{
    Base, Kept, RUNTIME_END, Serving, THREADS_BESIDE_SHARDS, Whole, announce, failed,
};
use crate::start_block::Started;
use crate::supervisor::Supervisor;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::{Notify, oneshot};
use uproar_control::Danmaku;
use uproar_engine::{Engine, Ways};
use uproar_link::Lists;
use uproar_proto::control::{Control, Engine as _, Lines, Question, Report, Which};

/// After a drain that took too long, connections get this long to take their last words.
const LAST_WORDS: Duration = Duration::from_millis(1_500);

/// Serves until it is told to end.
pub(crate) fn serve(config: Config) -> Result<ExitCode, Failure> {
    let open_files = uproar_engine::io::raise_open_file_limit();
    let mut base = Base::begin(config, THREADS_BESIDE_SHARDS)?;
    let kept = base.keep()?;
    let danmaku = base.keep_danmaku()?;
    let blocks = base.keep_blocks(kept.as_ref())?;
    let filter = kept.as_ref().map(|kept| Arc::clone(&kept.filters.current().list));
    let archive = danmaku.clone().map(archive_in);
    let gate = base.room_gate();
    let control = kept.as_ref().map(|kept| {
        let conversations = Arc::clone(&kept.conversations);
        let (danmaku, penalties) = (danmaku.clone(), Arc::clone(&kept.penalties));
        let (gate, reports) = (Arc::clone(&gate), Arc::clone(&base.reports));
        Arc::new(Whole { conversations, danmaku, penalties, gate, reports }) as Arc<dyn Control>
    });
    let asked = Arc::clone(&gate);
    let questions = gate.decides().then(|| Box::new(move |one| asked.question(one)) as Questions);
    let counted = Arc::clone(&base.reports);
    let reports = Box::new(move |report| counted.report(report)) as ReportsTo;
    let known = Lists { filter, blocks: Some(blocks.list()) };
    let out = Out { archive, questions, reports };
    let engine = start_engine(&base.config, control, out, known)?;
    base.reports.serve(&(Arc::clone(&engine) as _));
    let generation = kept.as_ref().map_or(0, |kept| kept.store.generation());
    gate.serve(Arc::clone(&engine) as _, generation);
    if let Some(kept) = &kept {
        kept.serve(&base.runtime, &(Arc::clone(&engine) as _));
    }
    base.serve_blocks(&blocks, &(Arc::clone(&engine) as _));
    let issuers = Arc::clone(engine.issuers());
    let mut api = base.api(Arc::clone(&engine) as _, issuers, kept.as_ref());
    api.danmaku.clone_from(&danmaku);
    let decides = gate.decides();
    api.decides = Box::new(move || decides);
    if kept.is_none() {
        api.figures.push(Box::new(move || gate.samples()));
    }
    api.blocks = Some(blocks);
    let http = base.serve_http(api)?;
    live(base, engine, http, Life { open_files, control: None, kept, danmaku })
}

/// Takes in what archived rooms admit, without waiting.
pub(crate) type Archive = Box<dyn FnMut(Lines) + Send>;

/// Takes in what rooms ask their platform, without waiting.
pub(crate) type Questions = Box<dyn FnMut(Question) + Send>;
/// Counts what connections report, without waiting.
pub(crate) type ReportsTo = Box<dyn FnMut(Report) + Send>;

/// Where an engine's words go, besides what it asks.
pub(crate) struct Out {
    /// Lines of archived rooms.
    pub(crate) archive: Option<Archive>,
    /// What rooms ask their platform.
    pub(crate) questions: Option<Questions>,
    /// What connections report of their streams.
    pub(crate) reports: ReportsTo,
}

/// Into this process's own.
fn archive_in(danmaku: Arc<Danmaku>) -> Archive {
    Box::new(move |lines| danmaku.lines(lines))
}

/// Starts the shards; what connections with an inbox ask goes to `control`, what else is said there
/// to `out`.
pub(crate) fn start_engine(
    config: &Config,
    control: Option<Arc<dyn Control>>,
    out: Out,
    known: Lists,
) -> Result<Arc<Engine>, Failure> {
    let start = || {
        let asks = control.map(uproar_engine::relay_asks).transpose()?;
        let Out { archive, questions, reports } = out;
        let archive = archive.map(uproar_engine::relay_archive).transpose()?;
        let questions = questions.map(uproar_engine::relay_questions).transpose()?;
        let reports = Some(uproar_engine::relay_reports(reports)?);
        let Lists { filter, blocks } = known;
        let ways = Ways { asks, archive, questions, reports, filter, blocks };
        uproar_engine::start_with(config.engine.clone(), ways)
    };
    let failed = |e| Failure::Failed(format!("the engine could not start: {e}"));
    start().map(Arc::new).map_err(failed)
}

/// What else belongs to the life of a process with shards.
pub(crate) struct Life {
    /// Open-file limit, soft and hard.
    pub(crate) open_files: (u64, u64),
    /// Where its control is, if not here.
    pub(crate) control: Option<String>,
    /// What is closed at the end.
    pub(crate) kept: Option<Kept>,
    /// What is written down at the end.
    pub(crate) danmaku: Option<Arc<Danmaku>>,
}

/// From the start block to the end.
pub(crate) fn live(
    base: Base,
    engine: Arc<Engine>,
    http: Serving,
    life: Life,
) -> Result<ExitCode, Failure> {
    let Life { open_files, control, kept, danmaku } = life;
    let Base { config, runtime, http_address, drain, new_password, supervisor, .. } = base;
    let (node, clients) = (engine.node(), engine.listen());
    warn_about(&config, clients);
    let (config_of, control) = (&config, control.as_deref());
    let started = Started {
        config: config_of,
        node: &node,
        clients,
        http: http_address,
        open_files,
        control,
        new_password: new_password.as_deref(),
    };
    let text = started.text();
    let wait_max = Duration::from_millis(u64::from(config.engine.drain_ms_max));
    let told = (&supervisor, &*drain, wait_max);
    let ended = runtime.block_on(until_told(&engine, http, &text, told))?;
    if let (Some(kept), Drained::Whole) = (&kept, &ended) {
        runtime.block_on(kept.end());
    }
    drop(kept);
    if let Some(danmaku) = danmaku {
        danmaku.end();
    }
    end(runtime, engine, ended)
}

/// Serves, drains at the first signal, and ends HTTP.
async fn until_told(
    engine: &Arc<Engine>,
    mut http: Serving,
    text: &str,
    (supervisor, asked_to, wait_max): (&Arc<Supervisor>, &Notify, Duration),
) -> Result<Drained, Failure> {
    let mut signals = Signals::listen().map_err(failed)?;
    announce(text);
    supervisor.ready();
    let asked = Arc::clone(engine);
    supervisor.beat(move || every_shard_answers(&asked));
    tokio::select! {
        _ = signals.next() => {}
        () = asked_to.notified() => {}
        ended = &mut http.task => {
            return Err(Failure::Failed(format!("HTTP ended by itself: {ended:?}")));
        }
        () = until(|| engine.drained()) => {
            return Err(Failure::Failed("the shards ended by themselves; the log tells why".into()));
        }
    }
    supervisor.stopping(wait_max);
    tracing::info!(wait_ms_max = wait_max.as_millis(), "draining; a second signal ends at once");
    let draining = Arc::clone(engine);
    // Waits where a shard's queue is full, so it has a thread of its own.
    tokio::task::spawn_blocking(move || draining.drain());
    let ended = drained(|| engine.drained(), signals.next(), wait_max).await;
    if let Drained::AtOnce(_) = ended {
        return Ok(ended);
    }
    http.end().await;
    Ok(ended)
}

/// Whether all shards take messages and answer; comes only once they have.
fn every_shard_answers(engine: &Engine) -> impl Future<Output = bool> + Send + use<> {
    let (answer, answered) = oneshot::channel();
    // The shortest question that goes to each of them.
    engine.list(
        Which::After(String::new()),
        1,
        Box::new(move |_| {
            let _ = answer.send(()); // nobody waits any more: the process ends
        }),
    );
    async move { answered.await.is_ok() }
}

/// Looks twice a second: the shards end only by a defect, and nobody waits for that.
async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn end(runtime: Runtime, engine: Arc<Engine>, ended: Drained) -> Result<ExitCode, Failure> {
    match ended {
        Drained::AtOnce(code) => at_once(code),
        Drained::TimedOut => {
            let left = engine.node().connections;
            tracing::warn!(connections = left, "the drain took too long; closing connections");
            engine.end_drain();
            let end = Instant::now() + LAST_WORDS;
            while !engine.drained() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(10));
            }
            std::process::exit(0);
        }
        Drained::Whole => {
            runtime.shutdown_timeout(RUNTIME_END);
            if let Ok(engine) = Arc::try_unwrap(engine) {
                engine.join();
            }
            tracing::info!("drained");
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// After a second signal.
pub(crate) fn at_once(code: u8) -> ! {
    tracing::warn!("ended at once by a second signal");
    // No thread is waited for: a shard may be in the middle of anything.
    std::process::exit(i32::from(code));
}

fn warn_about(config: &Config, clients: SocketAddr) {
    if config.has_token_key() {
        return;
    }
    if clients.ip().is_loopback() {
        tracing::warn!(
            "demo: loopback only, guests may watch and publish; set engine.tokens.hs256_secret, \
             engine.listen and http.api_key for production"
        );
    } else {
        tracing::warn!(
            listen = %clients,
            "everybody may watch and publish: engine.tokens.guests is true and no token key is set"
        );
    }
}
