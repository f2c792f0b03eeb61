//! `uproar serve`: engine and HTTP in one process, from start to drain.
//!
//! Owns the order of starting and ending. Start: limits, HTTP port, shards, HTTP threads, signals.
//! End: the first signal drains (HTTP goes on answering, so that /readyz and /metrics tell of it),
//! then HTTP ends, then the process.

use crate::Failure;
use crate::config::Config;
use crate::signals::{Drained, Signals, drained};
use crate::start_block::Started;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use uproar_control::{Api, Conversations, Rules, Store};
use uproar_engine::Engine;
use uproar_proto::control::Engine as _;

/// Threads of the HTTP interface: it is not on the live path, and shards need the cores.
const HTTP_THREADS: usize = 2;

/// After a drain that took too long, connections get this long to take their last words.
const LAST_WORDS: Duration = Duration::from_millis(1_500);

/// What is left of the runtime after HTTP has ended gets this long.
const RUNTIME_END: Duration = Duration::from_secs(1);

/// Serves until it is told to end.
pub(crate) fn serve(config: Config) -> Result<ExitCode, Failure> {
    start_log(&config.log.filter);
    let open_files = uproar_engine::io::raise_open_file_limit();
    let signer = config.signing_key().map_err(Failure::Usage)?;
    let http = bind_http(config.http.listen)?;
    let http_address = http.local_addr().map_err(|e| Failure::Failed(e.to_string()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(HTTP_THREADS)
        .thread_name("http")
        .enable_all()
        .build()
        .map_err(|e| Failure::Failed(format!("the HTTP threads could not start: {e}")))?;
    let store = runtime.block_on(open_store(&config))?;
    let conversations = store.as_ref().map(|store| runtime.block_on(conversations(&config, store)));
    let asks = conversations.clone().map(|c| uproar_engine::relay_asks(c)).transpose();
    let engine = asks.and_then(|asks| uproar_engine::start_with(config.engine.clone(), asks));
    let engine = engine.map(Arc::new);
    let engine = engine.map_err(|e| Failure::Failed(format!("the engine could not start: {e}")))?;
    if let Some(conversations) = &conversations {
        conversations.serve(Arc::clone(&engine) as Arc<dyn uproar_proto::control::Engine>);
    }
    let node = engine.node();
    let clients = engine.listen();
    let started = Started { config: &config, node: &node, clients, http: http_address, open_files };
    let text = started.text();
    warn_about(&config, clients);
    let api = Api {
        config: config.http.clone(),
        engine: Arc::clone(&engine) as Arc<dyn uproar_proto::control::Engine>,
        room_defaults: config.engine.rooms.defaults.clone(),
        payload_bytes_max: config.engine.payload_bytes_max,
        store: store.clone(),
        signer,
        accounts: config.accounts.clone(),
    };
    let wait_max = Duration::from_millis(u64::from(config.engine.drain_ms_max));
    let ended = runtime.block_on(until_told(&engine, api, http, &text, wait_max))?;
    if let (Some(store), Drained::Whole) = (&store, &ended) {
        runtime.block_on(store.close());
    }
    end(runtime, engine, ended)
}

/// The store, where one is set and somebody can have a name to use it with.
async fn open_store(config: &Config) -> Result<Option<Arc<Store>>, Failure> {
    if config.store.url.is_empty() || !config.has_token_key() {
        return Ok(None);
    }
    Store::open(&config.store.url, config.store.sync).await.map(Some).map_err(Failure::Failed)
}

/// Made on the runtime that its tasks will run on.
async fn conversations(config: &Config, store: &Arc<Store>) -> Arc<Conversations> {
    let rules = Rules {
        policy: config.store.policy,
        payload_bytes_max: config.engine.payload_bytes_max as usize,
    };
    Conversations::new(Arc::clone(store), rules)
}

/// Serves, drains at the first signal, and ends HTTP.
async fn until_told(
    engine: &Arc<Engine>,
    api: Api,
    http: TcpListener,
    text: &str,
    wait_max: Duration,
) -> Result<Drained, Failure> {
    let failed = |e: std::io::Error| Failure::Failed(e.to_string());
    let mut signals = Signals::listen().map_err(failed)?;
    http.set_nonblocking(true).map_err(failed)?;
    let listener = tokio::net::TcpListener::from_std(http).map_err(failed)?;
    let (stop_http, http_stopped) = oneshot::channel::<()>();
    let shutdown = async move { drop(http_stopped.await) };
    let mut serving = tokio::spawn(uproar_control::serve(api, listener, shutdown));
    // Nobody may be reading (a closed pipe, a full disk), and the server serves all the same.
    let mut out = std::io::stdout();
    if let Err(error) = writeln!(out, "{text}").and_then(|()| out.flush()) {
        tracing::warn!(%error, "standard output cannot be written; the addresses are in the log");
        tracing::info!("{text}");
    }
    tokio::select! {
        _ = signals.next() => {}
        ended = &mut serving => {
            return Err(Failure::Failed(format!("HTTP ended by itself: {ended:?}")));
        }
        () = until(|| engine.drained()) => {
            return Err(Failure::Failed("the shards ended by themselves; the log tells why".into()));
        }
    }
    tracing::info!(wait_ms_max = wait_max.as_millis(), "draining; a second signal ends at once");
    let draining = Arc::clone(engine);
    // Waits where a shard's queue is full, so it has a thread of its own.
    tokio::task::spawn_blocking(move || draining.drain());
    let ended = drained(|| engine.drained(), signals.next(), wait_max).await;
    if let Drained::AtOnce(_) = ended {
        return Ok(ended);
    }
    drop(stop_http);
    if let Err(error) = serving.await {
        tracing::error!(%error, "HTTP did not end as it should");
    }
    Ok(ended)
}

/// Looks twice a second: the shards end only by a defect, and nobody waits for that.
async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn end(runtime: Runtime, engine: Arc<Engine>, ended: Drained) -> Result<ExitCode, Failure> {
    match ended {
        Drained::AtOnce(code) => {
            tracing::warn!("ended at once by a second signal");
            // No thread is waited for: a shard may be in the middle of anything.
            std::process::exit(i32::from(code));
        }
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

fn bind_http(listen: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(listen).map_err(|e| {
        Failure::Failed(format!(
            "http.listen {listen} could not be opened: {e}; choose another with --http ADDR"
        ))
    })
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

/// To standard error, so that standard output holds the start block alone.
fn start_log(filter: &str) {
    let filter = tracing_subscriber::EnvFilter::builder().parse_lossy(filter);
    let colors = std::io::IsTerminal::is_terminal(&std::io::stderr());
    // A second subscriber would be a defect of this file; the first one stays.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colors)
        .try_init();
}
