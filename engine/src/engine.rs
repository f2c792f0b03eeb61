//! The engine as the binary and control see it: starts the shards, hands them commands, sums
//! their figures, drains them.
//!
//! Owns no state of a room. Replies leave a shard over a relay: a shard has a descriptor table of
//! its own, and must not wake somebody else's runtime from it.

use crate::blocks::{self, Blocks};
use crate::cluster::home::{home_of, home_of_name};
use crate::config::Config;
use crate::filters::{self, Filters};
use crate::hosted::{Hosted, Upward, Ways};
use crate::io::{self, IoFigures, Launch, ListenOptions, Relay, Running};
use crate::metrics::{self, Figure, ShardMetrics};
use crate::router::{Batch, ShardId};
use crate::shard::Shard;
use crate::shard::message::{Gather, Message};
use crate::shard::token::Verifier;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use uproar_proto::control::{
    self, Command, Lines, NodeInfo, NodeLoad, Question, Reply, Report, RoomInfo, Sample,
    SampleKind, SampleValue, Tell, Which,
};
use uproar_proto::error::Code;
use uproar_proto::ids::{McastId, RoomId};
use uproar_proto::issuers::Issuers;

/// Work that a shard hands to the launching side.
type Answer = Box<dyn FnOnce() + Send>;

/// Answers that may wait for the relay; beyond, an answer is dropped and its caller's time-out
/// speaks.
const ANSWERS_MAX: usize = 65_536;
/// Requests that wait for control's own queue. Beyond: `QUEUE_FULL`.
const ASKS_MAX: usize = 16_384;
/// Batches of archived rooms that wait for their thread, which only copies them. Beyond: dropped,
/// counted.
const ARCHIVED_MAX: usize = 1_024;
/// Questions of rooms that wait for their thread, which only hands them on. Beyond: nobody is
/// asked, and the room does as it is set to.
const QUESTIONS_MAX: usize = 16_384;
/// Reports of connections that wait to be counted. Beyond: `QUEUE_FULL`, counted.
const REPORTS_MAX: usize = 4_096;
/// Bytes of lines handed on at once, but for a line that is larger alone.
const LINES_BYTES_MAX: usize = 256 << 10;
/// Connections a shard's listener holds before they are accepted.
const BACKLOG: u32 = 4096;

/// A running engine.
pub struct Engine {
    running: Running<Message>,
    filters: Filters,
    blocks: Blocks,
    relay: Relay<Answer>,
    issuers: Arc<Issuers>,
    /// What clients are told to connect to; empty: where they do.
    public_address: String,
    shards: Vec<Arc<ShardMetrics>>,
    seed: u64,
    draining: AtomicBool,
    started: std::time::Instant,
}

/// Starts the shards, with live rooms alone.
///
/// # Errors
/// In words for the operator: what in the configuration or the machine does not fit.
pub fn start(config: Config) -> Result<Engine, String> {
    start_with(config, Ways::default())
}

/// Starts the shards; `ways` carry what they have for control.
///
/// # Errors
/// In words for the operator: what in the configuration or the machine does not fit.
pub fn start_with(mut config: Config, ways: Ways) -> Result<Engine, String> {
    config.check()?;
    if config.cores.is_empty() {
        config.cores = io::cores_allowed();
    }
    let verifier = Arc::new(Verifier::new(&config.tokens)?);
    let seed = if config.seed == 0 { random_seed() } else { config.seed };
    let shards = match config.shards {
        0 => config.cores.len(),
        shards => usize::from(shards),
    };
    let shards = u16::try_from(shards.max(1)).map_err(|_| "more than 65535 shards".to_owned())?;
    let metrics: Vec<Arc<ShardMetrics>> = (0..shards).map(|_| Arc::default()).collect();
    let launch = Launch {
        name: "shard",
        threads: shards,
        cores: config.cores.clone(),
        pin: true,
        io: config.io,
        queue_messages_max: config.queue_messages_max as usize,
        listen: Some(ListenOptions {
            address: config.listen,
            notsent_lowat_bytes: config.notsent_lowat_bytes,
            user_timeout_ms: config.user_timeout_ms,
            send_buffer_bytes: config.send_buffer_bytes,
            backlog: BACKLOG,
        }),
        targets: Vec::new(),
        receive_buffer_bytes: 0,
        connections_max: config.connections_per_shard_max,
    };
    let relay = io::relay("answers", ANSWERS_MAX, |answer: Answer| answer());
    let relay = relay.map_err(|e| e.to_string())?;
    let issuers = Arc::clone(verifier.issuers());
    let public_address = config.public_address.clone();
    let (config, given) = (Arc::new(config), metrics.clone());
    let filter = ways.filter.as_ref().map(|list| filters::compile(list, None)).transpose()?;
    let first = filter.as_ref().map(|now| Arc::clone(&now.active));
    let blocks = ways.blocks.as_ref().map(|list| blocks::make(list, seed));
    let blocked = blocks.as_ref().map(|now| Arc::clone(&now.active));
    let running = io::launch(launch, move |info| {
        let mut shard = Shard::new(
            ShardId(info.index),
            info.threads,
            config.clone(),
            seed,
            verifier.clone(),
            given[usize::from(info.index)].clone(),
            info.connections_max,
        );
        first.iter().for_each(|active| shard.use_filter(Arc::clone(active)));
        blocked.iter().for_each(|active| shard.use_blocks(Arc::clone(active)));
        Hosted::new(shard, ways.clone())
    });
    let running = running.map_err(|e| e.to_string())?;
    Ok(Engine {
        filters: Filters::start(running.poster(), filter)?,
        blocks: Blocks::start(running.poster(), blocks, seed)?,
        running,
        relay,
        issuers,
        public_address,
        shards: metrics,
        seed,
        draining: AtomicBool::new(false),
        started: now(),
    })
}

impl Engine {
    /// Where clients connect.
    #[must_use]
    pub fn listen(&self) -> SocketAddr {
        // A shard launch always listens.
        self.running.listen().unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)))
    }

    /// Foreign issuers, as the shards see them: their keys are fetched by somebody else.
    #[must_use]
    pub fn issuers(&self) -> &Arc<Issuers> {
        &self.issuers
    }

    /// Begins to drain: no new connections, clients are told to reconnect elsewhere.
    pub fn drain(&self) {
        if self.draining.swap(true, Ordering::AcqRel) {
            return;
        }
        self.tell_all(|| Message::Drain);
    }

    /// Ends the drain: connections that are still there are told why and closed.
    pub fn end_drain(&self) {
        self.tell_all(|| Message::DrainOver);
    }

    /// Says something to every shard that may not be lost: a full queue empties within turns.
    fn tell_all(&self, message: impl Fn() -> Message) {
        for shard in 0..self.shards.len() as u16 {
            let mut message = message();
            while let Err(back) = self.running.post(shard, message) {
                if self.running.finished() {
                    return;
                }
                message = back;
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        }
    }

    /// Whether every connection is gone after [`Engine::drain`].
    #[must_use]
    pub fn drained(&self) -> bool {
        self.draining.load(Ordering::Acquire) && self.total(Figure::Connections) == 0
    }

    /// Ends the shards and waits for them. A home serves members on other shards, so no shard
    /// ends before all are drained.
    pub fn join(self) {
        self.tell_all(|| Message::Stop);
        self.running.join();
    }

    fn total(&self, figure: Figure) -> u64 {
        self.shards.iter().map(|shard| shard.get(figure)).sum()
    }

    fn over_relay<T: Send + 'static>(&self, reply: Reply<T>) -> Reply<T> {
        let relay = self.relay.clone();
        Box::new(move |answer| {
            // Full: the caller's own time-out answers it, and nothing waits for it here.
            let _ = relay.hand(Box::new(move || reply(answer)));
        })
    }

    fn relayed(&self, command: Command) -> (RoomId, Command) {
        let name = |room: &RoomId| room.clone();
        match command {
            Command::Create { room, settings, reply } => {
                (name(&room), Command::Create { room, settings, reply: self.over_relay(reply) })
            }
            Command::Get { room, reply } => {
                (name(&room), Command::Get { room, reply: self.over_relay(reply) })
            }
            Command::Update { room, settings, reply } => {
                (name(&room), Command::Update { room, settings, reply: self.over_relay(reply) })
            }
            Command::Close { room, reply } => {
                (name(&room), Command::Close { room, reply: self.over_relay(reply) })
            }
            Command::Publish { room, messages, reply } => {
                (name(&room), Command::Publish { room, messages, reply: self.over_relay(reply) })
            }
            Command::Kick { room, user, ban_s, with, reply } => {
                let reply = self.over_relay(reply);
                (name(&room), Command::Kick { room, user, ban_s, with, reply })
            }
            Command::Unban { room, user, reply } => {
                (name(&room), Command::Unban { room, user, reply: self.over_relay(reply) })
            }
            Command::Bans { room, after, limit, reply } => {
                let reply = self.over_relay(reply);
                (name(&room), Command::Bans { room, after, limit, reply })
            }
            Command::Mute { room, user, mute_s, reply } => {
                (name(&room), Command::Mute { room, user, mute_s, reply: self.over_relay(reply) })
            }
            Command::Recall { room, what, reply } => {
                (name(&room), Command::Recall { room, what, reply: self.over_relay(reply) })
            }
            Command::Attributes { room, change, reply } => {
                (name(&room), Command::Attributes { room, change, reply: self.over_relay(reply) })
            }
            Command::Members { room, limit, reply } => {
                (name(&room), Command::Members { room, limit, reply: self.over_relay(reply) })
            }
            Command::Pin { room, pin, reply } => {
                (name(&room), Command::Pin { room, pin, reply: self.over_relay(reply) })
            }
            Command::OpenPoll { room, poll, reply } => {
                (name(&room), Command::OpenPoll { room, poll, reply: self.over_relay(reply) })
            }
            Command::Poll { room, poll, end, reply } => {
                (name(&room), Command::Poll { room, poll, end, reply: self.over_relay(reply) })
            }
        }
    }
}

/// Hands what shards ask to `control`, on a thread of the process that may wake a runtime.
///
/// # Errors
/// Where the thread cannot be started.
pub fn relay_asks(control: Arc<dyn control::Control>) -> Result<Relay<Upward>, String> {
    let take = move |upward| match upward {
        Upward::Ask(ask) => control.ask(ask),
        Upward::Seen(seen) => control.seen(seen),
        Upward::Penalties(penalties) => control.penalties(penalties),
        Upward::Kept(question) => control.kept(question),
    };
    io::relay("asks", ASKS_MAX, take).map_err(|e| e.to_string())
}

/// Hands what connections report to `take`, on a thread of the process; `take` must not wait.
///
/// # Errors
/// Where the thread cannot be started.
pub fn relay_reports(take: impl FnMut(Report) + Send + 'static) -> Result<Relay<Report>, String> {
    io::relay("reports", REPORTS_MAX, take).map_err(|e| e.to_string())
}

/// Hands what archived rooms admit to `take`, on a thread of the process; `take` must not wait.
///
/// # Errors
/// Where the thread cannot be started.
pub fn relay_archive(
    mut take: impl FnMut(Lines) + Send + 'static,
) -> Result<Relay<Arc<Batch>>, String> {
    let take = move |batch: Arc<Batch>| lines_of(&batch).into_iter().for_each(&mut take);
    io::relay("archive", ARCHIVED_MAX, take).map_err(|e| e.to_string())
}

/// Hands what rooms ask their platform to `take`, on a thread of the process that may wake a
/// runtime; `take` must not wait.
///
/// # Errors
/// Where the thread cannot be started.
pub fn relay_questions(
    take: impl FnMut(Question) + Send + 'static,
) -> Result<Relay<Question>, String> {
    io::relay("questions", QUESTIONS_MAX, take).map_err(|e| e.to_string())
}

/// A batch as its room's archive is told of it, in pieces.
fn lines_of(batch: &Batch) -> Vec<Lines> {
    let empty = Lines {
        room: batch.room.clone(),
        epoch: batch.epoch,
        messages: Vec::new(),
        recalled: Vec::new(),
        recalled_of: Vec::new(),
    };
    let (mut pieces, mut bytes) = (vec![empty.clone()], 0);
    for admitted in &batch.messages {
        if bytes >= LINES_BYTES_MAX {
            pieces.push(empty.clone());
            bytes = 0;
        }
        bytes += admitted.content.len();
        if let Some(piece) = pieces.last_mut() {
            piece.messages.push(admitted.wire());
        }
    }
    if let Some(last) = pieces.last_mut() {
        last.recalled = batch.recalled().collect();
        last.recalled_of = batch.recalls().filter(|of| !of.user.is_empty()).cloned().collect();
    }
    pieces
}

impl control::Engine for Engine {
    fn tell(&self, tell: Tell) -> Result<(), Tell> {
        let shards = self.shards.len() as u16;
        let home = |mcast: &McastId| home_of_name(mcast.as_str(), shards, self.seed).0;
        let to: Vec<u16> = match &tell {
            Tell::Opened { to, .. } | Tell::Answer { to, .. } | Tell::Show { to, .. } => {
                vec![to.shard]
            }
            Tell::Push { mcast, .. } | Tell::PushAbout { mcast, .. } | Tell::Resync { mcast } => {
                vec![home(mcast)]
            }
            Tell::Join { user, .. } => vec![home(&McastId::user(user))],
            Tell::Leave { user, group, .. } => {
                vec![home(&McastId::user(user)), home(&McastId::group(group))]
            }
            Tell::Judged { room, .. } => vec![home_of(room, shards, self.seed).0],
            Tell::Kept(kept) => vec![home_of(&kept.room, shards, self.seed).0],
            Tell::Filter(list) => {
                self.filters.told(Arc::clone(list));
                return Ok(());
            }
            Tell::Blocks(list) => {
                self.blocks.told(Arc::clone(list));
                return Ok(());
            }
            Tell::Close { .. }
            | Tell::Generation(_)
            | Tell::Anew { .. }
            | Tell::Announce { .. } => (0..shards).collect(),
        };
        let Some((last, first)) = to.split_last() else { return Ok(()) };
        // Told again as a whole where one queue is full: what is told to many may be told twice.
        for shard in first {
            if self.running.post(*shard, Message::Tell(tell.clone())).is_err() {
                return Err(tell);
            }
        }
        match self.running.post(*last, Message::Tell(tell)) {
            Ok(()) => Ok(()),
            Err(Message::Tell(tell)) => Err(tell),
            Err(_) => Ok(()),
        }
    }

    fn command(&self, command: Command) {
        let (room, command) = self.relayed(command);
        let home = home_of(&room, self.shards.len() as u16, self.seed);
        let message = Message::Command(Box::new(command));
        if let Err(Message::Command(command)) = self.running.post(home.0, message) {
            command.refuse(Code::QueueFull);
        }
    }

    fn list(&self, which: Which, limit: usize, reply: Reply<Vec<RoomInfo>>) {
        let reply = self.over_relay(reply);
        let of_all = which.clone();
        let finish = Box::new(move |mut rooms: Vec<RoomInfo>| {
            of_all.first(&mut rooms, limit);
            reply(Ok(rooms));
        });
        let gather = Arc::new(Gather::new(self.shards.len() as u32, finish));
        for shard in 0..self.shards.len() as u16 {
            let (which, gather) = (which.clone(), gather.clone());
            let message = Message::List { which, limit, gather };
            if let Err(Message::List { gather, .. }) = self.running.post(shard, message) {
                gather.add(Vec::new());
            }
        }
    }

    fn metrics(&self) -> Vec<Sample> {
        let mut samples = metrics::scrape(&self.shards);
        for (shard, counters) in self.running.counters().iter().enumerate() {
            let figures = counters.figures();
            for (name, help, value) in named(&figures) {
                let labels = vec![("shard", shard.to_string())];
                let value = SampleValue::Number(value as f64);
                samples.push(Sample { name, help, kind: SampleKind::Counter, labels, value });
            }
        }
        samples.extend(self.filters.samples());
        samples.extend(self.blocks.samples());
        samples.push(Sample {
            name: "uproar_io_driver",
            help: "1 for the driver in use, with the reason it was chosen",
            kind: SampleKind::Gauge,
            labels: vec![
                ("driver", self.running.io().to_owned()),
                ("reason", self.running.io_reason().to_owned()),
            ],
            value: SampleValue::Number(1.0),
        });
        samples.push(Sample {
            name: "uproar_connections_max",
            help: "connections that fit on this node",
            kind: SampleKind::Gauge,
            labels: Vec::new(),
            value: SampleValue::Number(self.running.connections_max() as f64),
        });
        samples
    }

    fn node(&self) -> NodeInfo {
        NodeInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            io: self.running.io().to_owned(),
            io_reason: self.running.io_reason().to_owned(),
            shards: self.shards.len() as u32,
            connections: self.total(Figure::Connections),
            connections_max: self.running.connections_max(),
            rooms: self.total(Figure::Rooms),
            draining: self.draining.load(Ordering::Acquire),
            uptime_s: self.started.elapsed().as_secs(),
        }
    }

    fn nodes(&self) -> Vec<NodeLoad> {
        let address = match self.public_address.as_str() {
            "" => self.listen().to_string(),
            address => address.to_owned(),
        };
        vec![NodeLoad {
            address,
            connections: self.total(Figure::Connections),
            connections_max: self.running.connections_max(),
            closed: !self.ready(),
        }]
    }

    fn ready(&self) -> bool {
        let full = self.total(Figure::Connections) >= self.running.connections_max();
        !self.draining.load(Ordering::Acquire) && !self.running.finished() && !full
    }
}

/// What the drivers count, as it is exported.
fn named(f: &IoFigures) -> [(&'static str, &'static str, u64); 7] {
    [
        ("uproar_io_enters_total", "system calls that waited or submitted", f.enters),
        ("uproar_io_completions_total", "completions reaped", f.completions),
        ("uproar_io_accept_errors_total", "accepts that failed and were put off", f.accept_errors),
        ("uproar_io_receive_rearms_total", "receives that found no buffer", f.enobufs_rearms),
        ("uproar_io_short_sends_total", "sends that took less than everything", f.short_sends),
        ("uproar_io_overflows_total", "completion queue overflows", f.overflows),
        ("uproar_io_undeliverable_total", "messages given back for want of room", f.undeliverable),
    ]
}

/// A seed from the system: what makes every hash and placement unguessable.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish() | 1
}

#[expect(clippy::disallowed_methods, reason = "uptime for people; no shard sees it")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}
