//! What every process of uproar begins and ends with: the log, the ports, the threads of HTTP, the
//! store and what stands on it.
//!
//! Owns the parts; which of them a process has, and in what order, `serve.rs` and `split.rs` say.

use crate::Failure;
use crate::config::Config;
use crate::supervisor::{Supervisor, passed_http};
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use uproar_control::tokens::SigningKey;
use uproar_control::{
    AdminLogin, Api, Blocks, Conversations, Danmaku, Figures, Filters, Penalties, Reports,
    RoomGate, Rules, Store, Webhooks,
};
use uproar_proto::control::{
    Ask, Control, Engine, KeptQuestion, Lines, Penalties as Decided, Question, Report, Seen,
};
use uproar_proto::issuers::Issuers;

/// Threads of HTTP, and of control, where there are shards too: they are not on the live path, and
/// shards need the cores.
pub(crate) const THREADS_BESIDE_SHARDS: usize = 2;

/// What is left of the runtime after HTTP has ended gets this long.
pub(crate) const RUNTIME_END: Duration = Duration::from_secs(1);

/// A process that has its HTTP port and its threads.
pub(crate) struct Base {
    pub(crate) config: Config,
    pub(crate) runtime: Runtime,
    signer: Option<SigningKey>,
    /// Until it is served.
    http: Option<TcpListener>,
    /// Where it is served, with the real port.
    pub(crate) http_address: SocketAddr,
    /// Told when an operator ends the process by hand.
    pub(crate) drain: Arc<Notify>,
    admin: Option<AdminLogin>,
    /// The operator's password, where it was just made: shown once.
    pub(crate) new_password: Option<String>,
    /// Who is told of what happens, and asked.
    webhooks: Arc<Webhooks>,
    /// Where reports of the quality of streams come in.
    pub(crate) reports: Arc<Reports>,
    /// Who is told when it serves and when it drains.
    pub(crate) supervisor: Arc<Supervisor>,
}

/// The store, and what is kept in it.
pub(crate) struct Kept {
    pub(crate) store: Arc<Store>,
    pub(crate) conversations: Arc<Conversations>,
    pub(crate) filters: Arc<Filters>,
    pub(crate) penalties: Arc<Penalties>,
}

impl Kept {
    /// Begins to answer what `engine` asks, and to tell it what it is to know.
    pub(crate) fn serve(&self, runtime: &Runtime, engine: &Arc<dyn Engine>) {
        self.conversations.serve(Arc::clone(engine));
        self.penalties.serve(Arc::clone(engine));
        let _on = runtime.enter();
        self.filters.serve(Arc::clone(engine));
    }

    /// Of what rooms hold against users.
    fn figures(&self) -> Figures {
        let penalties = Arc::clone(&self.penalties);
        Box::new(move || penalties.samples())
    }

    /// Ends it: what webhooks have under way first, the store last.
    pub(crate) async fn end(&self) {
        self.conversations.end().await;
        self.penalties.end().await;
        self.store.close().await;
    }
}

/// A server under way.
pub(crate) struct Serving {
    /// Ends by itself only by a failure.
    pub(crate) task: JoinHandle<std::io::Result<()>>,
    stop: oneshot::Sender<()>,
}

/// Control as engines see it: conversations, who keeps danmaku, and bans and mutes of rooms, who
/// decides about rooms, and who counts reports.
pub(crate) struct Whole {
    pub(crate) conversations: Arc<Conversations>,
    pub(crate) danmaku: Option<Arc<Danmaku>>,
    pub(crate) penalties: Arc<Penalties>,
    pub(crate) gate: Arc<RoomGate>,
    pub(crate) reports: Arc<Reports>,
}

impl Control for Whole {
    fn ask(&self, ask: Ask) {
        self.conversations.ask(ask);
    }

    fn seen(&self, seen: Seen) {
        self.conversations.seen(seen);
    }

    fn lines(&self, lines: Lines) {
        if let Some(danmaku) = &self.danmaku {
            danmaku.lines(lines);
        }
    }

    fn question(&self, question: Question) {
        self.gate.question(question);
    }

    fn penalties(&self, penalties: Decided) {
        self.penalties.decided(penalties);
    }

    fn kept(&self, question: KeptQuestion) {
        self.penalties.asked(question);
    }

    fn report(&self, report: Report) {
        self.reports.report(report);
    }
}

impl Base {
    pub(crate) fn begin(mut config: Config, threads: usize) -> Result<Base, Failure> {
        start_log(&config.log.filter);
        let signer = config.signing_key().map_err(Failure::Usage)?;
        let http = http_port(&mut config)?;
        let http_address = http.local_addr().map_err(failed)?;
        let webhooks = Webhooks::new(&config.webhooks).map_err(Failure::Usage)?;
        let supervisor = Arc::new(Supervisor::from_environment());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("http")
            .enable_all()
            .build()
            .map_err(|e| Failure::Failed(format!("the HTTP threads could not start: {e}")))?;
        let opened = runtime.block_on(AdminLogin::open(&config.admin)).map_err(Failure::Failed)?;
        let (admin, new_password) = opened.unzip();
        let reports = Reports::open(&config.quality);
        let reports = reports.map_err(|e| Failure::Usage(format!("quality.networks_file: {e}")))?;
        Ok(Base {
            config,
            runtime,
            signer,
            http: Some(http),
            http_address,
            drain: Arc::default(),
            admin,
            new_password: new_password.flatten(),
            webhooks: Arc::new(webhooks),
            reports,
            supervisor,
        })
    }

    /// Opens the store, where one is set and somebody can have a name to use it with.
    pub(crate) fn keep(&self) -> Result<Option<Kept>, Failure> {
        let config = &self.config;
        if config.store.url.is_empty() || !config.has_token_key() {
            return Ok(None);
        }
        let rules = Rules {
            policy: config.store.policy,
            payload_bytes_max: config.engine.payload_bytes_max as usize,
            groups: config.groups,
        };
        let webhooks = Arc::clone(&self.webhooks);
        let bans_max = config.engine.rooms.bans_max;
        let opened = self.runtime.block_on(async {
            let store = Store::serve(&config.store).await?;
            let filters = Filters::open(&store).await?;
            let conversations = Conversations::new(Arc::clone(&store), rules, webhooks);
            let penalties = Penalties::new(Arc::clone(&store), bans_max);
            Ok(Kept { store, conversations, filters, penalties })
        });
        opened.map(Some).map_err(Failure::Failed)
    }

    /// Who is kept out: as the store has it, or nobody yet where there is none.
    pub(crate) fn keep_blocks(&self, kept: Option<&Kept>) -> Result<Arc<Blocks>, Failure> {
        let opened = Blocks::open(kept.map(|kept| &kept.store), &self.config.blocks);
        self.runtime.block_on(opened).map_err(Failure::Failed)
    }

    /// Begins to tell `engine` of it.
    pub(crate) fn serve_blocks(&self, blocks: &Arc<Blocks>, engine: &Arc<dyn Engine>) {
        let _on = self.runtime.enter();
        blocks.serve(Arc::clone(engine));
    }

    /// Begins to keep danmaku, where that is wanted.
    pub(crate) fn keep_danmaku(&self) -> Result<Option<Arc<Danmaku>>, Failure> {
        let config = &self.config.danmaku;
        let start = || Danmaku::start(config.clone()).map_err(failed);
        config.enabled.then(start).transpose()
    }

    /// Where messages of rooms are decided about, by this process's webhooks.
    pub(crate) fn room_gate(&self) -> Arc<RoomGate> {
        let _on = self.runtime.enter();
        RoomGate::new(&self.webhooks)
    }

    /// The HTTP interface to this engine, and to what is kept here.
    pub(crate) fn api(
        &mut self,
        engine: Arc<dyn Engine>,
        issuers: Arc<Issuers>,
        kept: Option<&Kept>,
    ) -> Api {
        let config = &self.config;
        Api {
            config: config.http.clone(),
            pages: config.pages.clone(),
            admin: self.admin.take(),
            drain: Arc::clone(&self.drain),
            engine,
            control: None,
            unready: Box::new(|| None),
            decides: Box::new(|| true),
            figures: kept.into_iter().map(|kept| kept.figures()).collect(),
            room_defaults: config.engine.rooms.defaults.clone(),
            payload_bytes_max: config.engine.payload_bytes_max,
            store: kept.map(|kept| Arc::clone(&kept.store)),
            signer: self.signer.clone(),
            issuers,
            accounts: config.accounts.clone(),
            conversations: kept.map(|kept| Arc::clone(&kept.conversations)),
            filters: kept.map(|kept| Arc::clone(&kept.filters)),
            blocks: None,
            quality: Arc::clone(&self.reports),
            audit_days: config.store.audit_days,
            danmaku: None,
        }
    }

    /// Begins to serve HTTP. Once.
    pub(crate) fn serve_http(&mut self, api: Api) -> Result<Serving, Failure> {
        let http = self.http.take().ok_or_else(|| Failure::Failed("HTTP is served".into()))?;
        self.serve(http, |listener, stopped| uproar_control::serve(api, listener, stopped))
    }

    /// Begins to serve on a port.
    pub(crate) fn serve<F>(
        &self,
        port: TcpListener,
        server: impl FnOnce(tokio::net::TcpListener, Stopped) -> F,
    ) -> Result<Serving, Failure>
    where
        F: Future<Output = std::io::Result<()>> + Send + 'static,
    {
        let _on = self.runtime.enter();
        port.set_nonblocking(true).map_err(failed)?;
        let listener = tokio::net::TcpListener::from_std(port).map_err(failed)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped: Stopped = Box::pin(async move { drop(stopped.await) });
        Ok(Serving { task: self.runtime.spawn(server(listener, stopped)), stop })
    }
}

/// Comes when a server is to end.
pub(crate) type Stopped = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

impl Serving {
    /// Lets the requests in progress end, and waits for it.
    pub(crate) async fn end(self) {
        drop(self.stop);
        match self.task.await {
            Ok(Ok(())) => {}
            ended => tracing::error!(?ended, "HTTP did not end as it should"),
        }
    }
}

pub(crate) fn failed(error: std::io::Error) -> Failure {
    Failure::Failed(error.to_string())
}

/// The socket of HTTP: one that was passed takes the place of http.listen, and its address is held
/// to the same rules.
fn http_port(config: &mut Config) -> Result<TcpListener, Failure> {
    let Some(passed) = passed_http().map_err(Failure::Failed)? else {
        return bind("http.listen", config.http.listen, "--http");
    };
    config.http.listen = passed.local_addr().map_err(failed)?;
    config.http.check().map_err(|e| {
        Failure::Usage(format!("the socket that was passed stands for http.listen: http.{e}"))
    })?;
    Ok(passed)
}

pub(crate) fn bind(key: &str, listen: SocketAddr, flag: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(listen).map_err(|e| {
        let text = format!("{key} {listen} could not be opened: {e}; choose another with {flag}");
        Failure::Failed(format!("{text} ADDR"))
    })
}

/// Says on standard output where everything is. Nobody may be reading (a closed pipe, a full disk),
/// and the server serves all the same.
pub(crate) fn announce(text: &str) {
    let mut out = std::io::stdout();
    if let Err(error) = writeln!(out, "{text}").and_then(|()| out.flush()) {
        tracing::warn!(%error, "standard output cannot be written; the addresses are in the log");
        tracing::info!("{text}");
    }
}

/// To standard error, so that standard output holds the start block alone.
pub(crate) fn start_log(filter: &str) {
    let filter = tracing_subscriber::EnvFilter::builder().parse_lossy(filter);
    let colors = std::io::IsTerminal::is_terminal(&std::io::stderr());
    // A second subscriber would be a defect of this file; the first one stays.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colors)
        .try_init();
}
