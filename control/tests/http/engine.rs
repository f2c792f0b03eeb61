//! A small engine in memory: it keeps rooms, gives seqs, sheds above a room's rate, and answers
//! from a thread of its own, as shards do.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};
use uproar_proto::control::{
    AttributeChange, AttributesOutcome, BackendMessage, BanInfo, BanWith, Command, Engine, Kicked,
    NewPoll, NodeInfo, NodeLoad, Pin, PollInfo, Present, Published, Recall, Reply, RoomInfo,
    RoomSettings, Sample, SampleKind, SampleValue, Tell, Which,
};
use uproar_proto::error::Code;
use uproar_proto::v1::Outcome;

/// Rooms it takes.
pub(crate) const ROOMS_MAX: usize = 8;

struct Room {
    settings: RoomSettings,
    seq: u64,
    muted: BTreeSet<String>,
    bans: BTreeMap<String, BanInfo>,
    viewers: Vec<String>,
    messages: Vec<BackendMessage>,
    version: u64,
    poll: Option<PollInfo>,
}

type Rooms = BTreeMap<String, Room>;
type Job = Box<dyn FnOnce(&mut Rooms) + Send>;

pub(crate) struct MemoryEngine {
    jobs: Mutex<mpsc::Sender<Job>>,
    pub(crate) ready: AtomicBool,
    /// Whether somebody decides about messages of rooms.
    pub(crate) decides: AtomicBool,
    pub(crate) draining: AtomicBool,
    /// Every command takes 10 ms.
    pub(crate) slow: AtomicBool,
    /// Commands are taken and never answered.
    pub(crate) stalled: AtomicBool,
    unlisted: Mutex<Vec<Reply<Vec<RoomInfo>>>>,
    kept: Mutex<Vec<Command>>,
    told: Mutex<Vec<Tell>>,
}

impl MemoryEngine {
    /// Whether somebody decides about messages of rooms, whenever it is asked.
    pub(crate) fn decider(self: &Arc<Self>) -> Box<dyn Fn() -> bool + Send + Sync> {
        let engine = Arc::clone(self);
        Box::new(move || engine.decides.load(Ordering::SeqCst))
    }

    pub(crate) fn start() -> Arc<MemoryEngine> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        std::thread::spawn(move || {
            let mut rooms = Rooms::new();
            for job in inbox {
                job(&mut rooms);
            }
        });
        Arc::new(MemoryEngine {
            jobs: Mutex::new(jobs),
            ready: AtomicBool::new(true),
            decides: AtomicBool::new(true),
            draining: AtomicBool::new(false),
            slow: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            unlisted: Mutex::new(Vec::new()),
            kept: Mutex::new(Vec::new()),
            told: Mutex::new(Vec::new()),
        })
    }

    fn post(&self, job: impl FnOnce(&mut Rooms) + Send + 'static) {
        self.jobs.lock().unwrap().send(Box::new(job)).unwrap();
    }

    fn ask<T: Send + 'static>(&self, question: impl FnOnce(&mut Rooms) -> T + Send + 'static) -> T {
        let (tell, told) = mpsc::channel();
        self.post(move |rooms| tell.send(question(rooms)).unwrap());
        told.recv().unwrap()
    }

    /// A viewer's connection, as if it had come in over the wire.
    pub(crate) fn join(&self, room: &str, user: &str) {
        let (room, user) = (room.to_owned(), user.to_owned());
        self.ask(move |rooms| rooms.get_mut(&room).unwrap().viewers.push(user));
    }

    /// Waits until something was told; it is told at once or within moments.
    pub(crate) fn wait_for<T>(&self, what: &str, mut is: impl FnMut(&Tell) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = self.told.lock().unwrap().iter().find_map(&mut is) {
                return found;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "never told: {what}");
            std::thread::sleep(Duration::from_millis(2)); // between two looks
        }
    }

    /// Everything a room admitted, in order.
    pub(crate) fn messages(&self, room: &str) -> Vec<BackendMessage> {
        let room = room.to_owned();
        self.ask(move |rooms| rooms[&room].messages.clone())
    }
}

impl Engine for MemoryEngine {
    fn command(&self, command: Command) {
        if self.stalled.load(Ordering::SeqCst) {
            self.kept.lock().unwrap().push(command);
            return;
        }
        let takes = Duration::from_millis(if self.slow.load(Ordering::SeqCst) { 10 } else { 0 });
        self.post(move |rooms| {
            std::thread::sleep(takes);
            carry_out(rooms, command);
        });
    }

    fn list(&self, which: Which, limit: usize, reply: Reply<Vec<RoomInfo>>) {
        if self.stalled.load(Ordering::SeqCst) {
            return self.unlisted.lock().unwrap().push(reply);
        }
        self.post(move |rooms| {
            let mut all: Vec<RoomInfo> =
                rooms.iter().map(|(name, room)| info(name, room)).collect();
            if let Which::After(after) = &which {
                all.retain(|room| room.room > *after);
            }
            which.first(&mut all, limit);
            reply(Ok(all));
        });
    }

    fn tell(&self, tell: Tell) -> Result<(), Tell> {
        if self.stalled.load(Ordering::SeqCst) {
            return Err(tell);
        }
        self.told.lock().unwrap().push(tell);
        Ok(())
    }

    fn metrics(&self) -> Vec<Sample> {
        let rooms = self.ask(|rooms| rooms.len());
        let closes = |reason: &str, count: f64| Sample {
            name: "uproar_closes_total",
            help: "Connections closed, by reason.",
            kind: SampleKind::Counter,
            labels: vec![("reason", reason.to_owned())],
            value: SampleValue::Number(count),
        };
        vec![
            closes("IDLE_TIMEOUT", 2.0),
            Sample {
                name: "uproar_rooms",
                help: "Rooms now.",
                kind: SampleKind::Gauge,
                labels: vec![],
                value: SampleValue::Number(rooms as f64),
            },
            closes("a \"quoted\" one", 1.0),
        ]
    }

    fn node(&self) -> NodeInfo {
        NodeInfo {
            version: "0.1.0-test".into(),
            io: "epoll".into(),
            io_reason: "asked for".into(),
            shards: 2,
            connections: 3,
            connections_max: 1_000,
            rooms: self.ask(|rooms| rooms.len() as u64),
            draining: self.draining.load(Ordering::SeqCst),
            uptime_s: 7,
        }
    }

    fn nodes(&self) -> Vec<NodeLoad> {
        vec![NodeLoad {
            address: "a.live.example:7400".into(),
            connections: 3,
            connections_max: 1_000,
            closed: !self.ready(),
        }]
    }

    fn ready(&self) -> bool {
        self.ready.load(Ordering::SeqCst)
    }
}

fn info(name: &str, room: &Room) -> RoomInfo {
    RoomInfo {
        room: name.to_owned(),
        settings: room.settings.clone(),
        epoch: "00000000000000ab".into(),
        seq: room.seq,
        viewers: room.viewers.len() as u64,
        likes: 0,
        attributes_version: room.version,
        shards: u32::from(!room.viewers.is_empty()),
    }
}

fn carry_out(rooms: &mut Rooms, command: Command) {
    match command {
        Command::Create { room, settings, reply } => {
            let name = room.as_str();
            if rooms.contains_key(name) {
                return reply(Err(Code::AlreadyExists));
            }
            if rooms.len() == ROOMS_MAX {
                return reply(Err(Code::TooManyRooms));
            }
            let room = Room {
                settings: *settings,
                seq: 0,
                muted: BTreeSet::new(),
                bans: BTreeMap::new(),
                viewers: Vec::new(),
                messages: Vec::new(),
                version: 0,
                poll: None,
            };
            let told = info(name, &room);
            rooms.insert(name.to_owned(), room);
            reply(Ok(told));
        }
        Command::Get { room, reply } => {
            let name = room.as_str();
            reply(rooms.get(name).map(|room| info(name, room)).ok_or(Code::RoomNotFound));
        }
        Command::Update { room, settings, reply } => {
            let name = room.as_str();
            reply(with(rooms, name, |room| {
                room.settings = *settings;
                info(name, room)
            }));
        }
        Command::Close { room, reply } => {
            reply(rooms.remove(room.as_str()).map(drop).ok_or(Code::RoomNotFound));
        }
        Command::Publish { room, messages, reply } => {
            reply(with(rooms, room.as_str(), |room| {
                messages.into_iter().map(|message| admit(room, message)).collect()
            }));
        }
        Command::Kick { room, user, ban_s, with: of, reply } => {
            reply(with(rooms, room.as_str(), |room| kick(room, user, ban_s, of)));
        }
        Command::Unban { room, user, reply } => {
            reply(with(rooms, room.as_str(), |room| room.bans.remove(&user).is_some()));
        }
        Command::Bans { room, after, limit, reply } => {
            reply(with(rooms, room.as_str(), |room| {
                let behind = (Bound::Excluded(after), Bound::Unbounded);
                room.bans.range(behind).take(limit).map(|(_, ban)| ban.clone()).collect()
            }));
        }
        Command::Mute { room, user, mute_s, reply } => {
            reply(with(rooms, room.as_str(), |room| {
                if mute_s > 0 {
                    room.muted.insert(user);
                } else {
                    room.muted.remove(&user);
                }
            }));
        }
        Command::Recall { room, what, reply } => {
            let recalled = with(rooms, room.as_str(), |room| recall(room, what));
            reply(recalled.and_then(|recalled| recalled));
        }
        Command::Attributes { room, change, reply } => {
            reply(with(rooms, room.as_str(), |room| change_attributes(room, change)));
        }
        Command::Members { room, limit, reply } => {
            reply(with(rooms, room.as_str(), |room| {
                let users = room.viewers.iter().take(limit).cloned().collect();
                Present { connections: room.viewers.len() as u64, users }
            }));
        }
        Command::Pin { room, pin, reply } => {
            let pinned = with(rooms, room.as_str(), |room| match pin {
                Some(Pin::Seq(seq)) if seq > room.seq => Err(Code::NotFound),
                _ => Ok(()),
            });
            reply(pinned.and_then(|pinned| pinned));
        }
        Command::OpenPoll { room, poll, reply } => {
            let opened = with(rooms, room.as_str(), |room| open_poll(room, poll));
            reply(opened.and_then(|opened| opened));
        }
        Command::Poll { room, poll, end, reply } => {
            let told = with(rooms, room.as_str(), |room| {
                let known = room.poll.as_mut().filter(|known| known.poll == poll);
                let known = known.ok_or(Code::NotFound)?;
                known.over |= end;
                Ok(known.clone())
            });
            reply(told.and_then(|told| told));
        }
    }
}

/// Each connection of this engine comes from a device and an address of its own.
fn kick(room: &mut Room, user: String, ban_s: u32, with: BanWith) -> Kicked {
    let before = room.viewers.len();
    room.viewers.retain(|viewer| *viewer != user);
    let connections = u32::try_from(before - room.viewers.len()).unwrap();
    let of = |is_asked: bool| if is_asked { connections } else { 0 };
    let (devices, addresses) = (of(with.devices), of(with.addresses));
    if ban_s > 0 {
        let until_ms = u64::from(ban_s) * 1_000;
        room.bans.insert(user.clone(), BanInfo { user, until_ms, devices, addresses });
    }
    Kicked { connections, devices, addresses }
}

fn recall(room: &Room, what: Recall) -> Result<Vec<u64>, Code> {
    let had = |seqs: Vec<u64>| seqs.into_iter().filter(|seq| *seq <= room.seq).collect();
    match what {
        Recall::Seqs(seqs) => Ok(had(seqs)),
        Recall::SeqsBut { seqs, spared } => {
            let author = |seq: &u64| room.messages.get(*seq as usize - 1);
            let is_spared = seqs.iter().filter_map(author).any(|m| spared.contains(&m.user));
            if is_spared { Err(Code::Forbidden) } else { Ok(had(seqs)) }
        }
        Recall::User(_) => Ok(Vec::new()),
    }
}

fn change_attributes(room: &mut Room, change: AttributeChange) -> AttributesOutcome {
    let version = room.version;
    if change.if_version.is_some_and(|known| known != version) {
        return AttributesOutcome::Conflict { version };
    }
    room.version += 1;
    room.settings.attributes.extend(change.set);
    let attributes = room.settings.attributes.clone();
    AttributesOutcome::Changed { version: room.version, attributes }
}

/// A room of this engine has one poll.
fn open_poll(room: &mut Room, poll: NewPoll) -> Result<PollInfo, Code> {
    if room.poll.is_some() {
        return Err(Code::LimitReached);
    }
    let NewPoll { question, options, duration_s: _ } = poll;
    let (votes, refused, ends_ms) = (vec![0; options.len()], 0, 1);
    let info = PollInfo { poll: 1, question, options, votes, refused, ends_ms, over: false };
    Ok(room.poll.insert(info).clone())
}

fn with<T>(rooms: &mut Rooms, name: &str, act: impl FnOnce(&mut Room) -> T) -> Result<T, Code> {
    rooms.get_mut(name).map(act).ok_or(Code::RoomNotFound)
}

/// A room of this engine lives within one second: it admits its rate, then sheds.
fn admit(room: &mut Room, message: BackendMessage) -> Published {
    let refused = |outcome, code, retry_after_ms| Published {
        outcome,
        seq: 0,
        code: Some(code),
        retry_after_ms,
    };
    if room.muted.contains(&message.user) {
        return refused(Outcome::Refused, Code::Muted, 0);
    }
    if message.content.len() > room.settings.payload_bytes_max as usize {
        return refused(Outcome::Refused, Code::TooLarge, 0);
    }
    if room.seq >= u64::from(room.settings.rate_per_s) {
        return refused(Outcome::Shed, Code::RoomBusy, 250);
    }
    room.seq += 1;
    room.messages.push(message);
    Published { outcome: Outcome::Accepted, seq: room.seq, code: None, retry_after_ms: 0 }
}
