//! What one core does in one turn.
//!
//! `Shard` is a state machine: events and messages in, actions and messages out. It owns its
//! connections, its member lists, its timers, and the homes of some rooms; it shares nothing
//! mutable with another shard. Never touches a socket, a clock or a thread.

pub mod addresses;
mod announce;
mod archive;
#[cfg(any(test, feature = "sim"))]
mod audit;
pub mod blocks;
pub mod connections;
pub mod edge;
mod entries;
pub mod filter;
pub mod frames;
mod homes;
mod inbox;
mod keeping;
pub mod lag;
mod mcasts;
pub mod members;
pub mod message;
pub mod origin;
mod presence;
mod questions;
mod reopen;
mod reports;
mod rooms;
mod sample;
pub mod schedule;
mod session;
pub mod slab;
mod sweep;
pub mod token;
mod unsent;
pub mod verdicts;
mod votes;
pub mod wheel;

use crate::config::Config;
use crate::hash::Rng;
use crate::metrics::{Figure, ShardMetrics};
use crate::router::{CLASSES, Origin, ShardId, Verdict};
use crate::seam::{
    Action, Actions, ConnSlot, Event, Events, FrameSlot, Frames, Machine, Now, Tick,
};

use addresses::Addresses;
use blocks::Blocking;
use connections::{Connections, Membership, State};
use filter::Filtering;
use homes::Homes;
use inbox::Inboxes;
use keeping::Keeping;
use lag::Lag;
use mcasts::Mcasts;
use message::Message;
use presence::Presence;
use questions::Questions;
use rooms::Rooms;
use schedule::Schedule;
use slab::Slab;
use std::collections::VecDeque;
use std::sync::Arc;
use token::{Session, Verifier};
use unsent::Unsent;
use uproar_proto::error::Code;
use uproar_proto::ids::RoomId;
use uproar_proto::v1::{self, server_frame::Body};
use uproar_proto::wire::Decoder;
use verdicts::Verdicts;
use wheel::IdleWheel;

/// Figures, member counts and books are refreshed this often: twice a second.
const REPORT_US: u64 = 500_000;
/// Clients told to reconnect in one turn of a drain.
const DRAIN_PER_TURN: usize = 256;

/// Partial input of a connection.
enum Input {
    /// Before the first frame.
    Opening(Vec<u8>),
    /// Within or between frames.
    Frames(Box<Decoder>),
}

/// A connection whose token waits to be checked.
struct PendingCheck {
    conn: ConnSlot,
    generation: u8,
    what: Check,
}

/// What the token is for.
enum Check {
    /// To begin a session.
    Connect(v1::Connect),
    /// To go on with one.
    Renew(String),
}

/// One send of a sweep, until the next poll tells whether it was taken whole.
#[derive(Clone, Copy)]
struct SweepSend {
    action: u32,
    conn: ConnSlot,
    room: u32,
    /// The member's cursor and seq before it.
    cursor: u32,
    seq: u32,
    /// Its cursor after it.
    to: u64,
    frame: FrameSlot,
}

/// One shard.
pub struct Shard {
    id: ShardId,
    shards: u16,
    config: Arc<Config>,
    seed: u64,
    verifier: Arc<Verifier>,
    metrics: sweep::SharedMetrics,
    connections_max: u32,
    rng: Rng,
    now: Now,
    turn: u32,
    conns: Connections,
    wheel: IdleWheel,
    addresses: Addresses,
    inputs: Slab<Input>,
    sessions: Slab<Session>,
    memberships: Slab<Vec<Membership>>,
    checks: VecDeque<PendingCheck>,
    lag: Lag,
    frames: Frames,
    rooms: Rooms,
    room_schedule: Schedule,
    homes: Homes,
    archive: archive::Archive,
    questions: Questions,
    keeping: Keeping,
    reports: reports::Reports,
    announcements: announce::Announcements,
    verdicts: Verdicts,
    filtering: Filtering,
    blocking: Blocking,
    inboxes: Inboxes,
    presence: Presence,
    mcasts: Mcasts,
    /// Rooms with a sweep under way, in turn.
    sweeps: VecDeque<u32>,
    /// Rooms whose sweep ended in the last turn.
    finished: Vec<u32>,
    /// Connections to serve outside their room's sweep.
    behind: Vec<ConnSlot>,
    /// Members the ring has moved past, to be told.
    overtaken: Vec<(ConnSlot, u32)>,
    /// Actions that did not fit the last turn.
    deferred: VecDeque<Action>,
    /// Sends of the last turn, by action number: sweeps, and connections' own.
    sends: Vec<SweepSend>,
    own_sends: Vec<ConnSlot>,
    /// Sends by room in the last turn, and all its work, to charge its CPU time.
    swept: Vec<(u32, u32)>,
    work: u64,
    scratch: Vec<u8>,
    outbox: Vec<(u16, Message)>,
    unsent: Unsent,
    next_report: Tick,
    paused: bool,
    draining: bool,
    drain_at: usize,
    stopped: bool,
    /// Bytes that sessions own beside their records.
    session_bytes: usize,
}

impl Shard {
    /// A shard of `shards`, all given the same `config`, `seed` and keys. `connections_max`:
    /// beyond it the listener pauses.
    #[must_use]
    pub fn new(
        id: ShardId,
        shards: u16,
        config: Arc<Config>,
        seed: u64,
        verifier: Arc<Verifier>,
        metrics: Arc<ShardMetrics>,
        connections_max: u32,
    ) -> Shard {
        Shard {
            id,
            shards,
            addresses: Addresses::new(&config, seed),
            config,
            seed,
            verifier,
            metrics,
            connections_max,
            rng: Rng::new(crate::hash::mix(seed ^ (u64::from(id.0) + 1))),
            now: Now::default(),
            turn: 0,
            conns: Connections::default(),
            wheel: IdleWheel::new(Tick(0)),
            inputs: Slab::default(),
            sessions: Slab::default(),
            memberships: Slab::default(),
            checks: VecDeque::new(),
            lag: Lag::default(),
            frames: Frames::default(),
            rooms: Rooms::new(seed),
            room_schedule: Schedule::default(),
            homes: Homes::new(seed),
            archive: archive::Archive::default(),
            questions: Questions::default(),
            keeping: Keeping::default(),
            reports: reports::Reports::default(),
            announcements: announce::Announcements::default(),
            verdicts: Verdicts::default(),
            filtering: Filtering::default(),
            blocking: Blocking::default(),
            inboxes: Inboxes::default(),
            presence: Presence::default(),
            mcasts: Mcasts::new(seed),
            sweeps: VecDeque::new(),
            finished: Vec::new(),
            behind: Vec::new(),
            overtaken: Vec::new(),
            deferred: VecDeque::new(),
            sends: Vec::with_capacity(crate::seam::ACTIONS_PER_TURN_MAX),
            own_sends: Vec::new(),
            swept: Vec::new(),
            work: 0,
            scratch: Vec::new(),
            outbox: Vec::new(),
            unsent: Unsent::default(),
            next_report: Tick(0),
            paused: false,
            draining: false,
            drain_at: 0,
            stopped: false,
            session_bytes: 0,
        }
    }

    /// How many shards take turns on one core.
    fn shards_per_core(&self) -> u64 {
        let cores = self.config.cores.len();
        if cores == 0 { 1 } else { usize::from(self.shards).div_ceil(cores) as u64 }
    }

    fn post(&mut self, to: ShardId, message: Message) {
        self.outbox.push((to.0, message));
    }

    fn act(&mut self, action: Action) {
        self.deferred.push_back(action);
    }

    fn event(&mut self, event: &Event, events: &Events) {
        match event {
            Event::Accepted { conn, peer } => self.accepted(*conn, *peer),
            Event::Received { conn, bytes } => self.received(*conn, events.bytes_of(bytes)),
            Event::Eof { conn, errno } => self.peer_ended(*conn, *errno),
            Event::Writable { conn } => self.writable(*conn),
            Event::Closed { conn } => self.closed(*conn),
            // Settled before; and a shard never connects.
            Event::SendShort { .. } | Event::Connected { .. } => {}
        }
    }

    fn message(&mut self, message: Message) {
        match message {
            Message::Attach { room, shard } => self.home_attach(room, shard),
            Message::Detach { .. }
            | Message::Members { .. }
            | Message::Offer { .. }
            | Message::SweepTook { .. } => self.home_told(message),
            Message::Command(command) => self.command(*command),
            Message::List { which, limit, gather } => gather.add(self.list_homes(&which, limit)),
            Message::Votes { room, shard, poll, ballots } => {
                self.home_votes(room, shard, poll, ballots);
            }
            Message::Entered { room, users, more } => self.home_entered(&room, users, more),
            Message::Voted { room, poll, ballots, refused } => {
                self.voted(&room, poll, &ballots, &refused);
            }
            Message::Attached { room, answer } => self.attached(&room, answer.map(|a| *a)),
            Message::Flush(batch) => self.flushed(batch),
            Message::Held(batch) => self.show_held(&batch),
            Message::Verdicts { room, verdicts } => self.take_verdicts(&room, verdicts),
            Message::Updated { room, settings } => self.updated(&room, settings),
            Message::Ended { room, epoch, code } => self.ended(&room, epoch, code),
            Message::Kick { room, epoch, key, until_unix_ms, with, gather } => {
                gather.add(vec![self.kick(&room, epoch, (key, until_unix_ms), with)]);
            }
            Message::Found { room, epoch, key, until_unix_ms, origins } => {
                self.home_found(&room, epoch, (key, until_unix_ms), &origins);
            }
            Message::Bans { room, epoch, whole, changes } => {
                self.bans_changed(&room, epoch, whole, changes);
            }
            Message::Sample { room, epoch, limit, salt, gather } => {
                gather.add(vec![self.sample_members(&room, epoch, limit, salt)]);
            }
            Message::Route { mcast, shard, serial } => self.route(mcast, shard, serial),
            Message::Routed { mcast, serial } => self.routed(&mcast, serial),
            Message::Deliver { mcast, delivery } => self.deliver(&mcast, &delivery),
            Message::Filter(active) => self.use_filter(active),
            Message::Blocks(active) => self.use_blocks(active),
            Message::Tell(tell) => self.told(tell),
            Message::Drain => {
                self.draining = true;
                self.act(Action::StopAccepting);
            }
            Message::DrainOver => self.end_all(),
            Message::Stop => self.stopped = true,
        }
    }

    fn take_verdicts(&mut self, room: &RoomId, verdicts: Vec<Verdict>) {
        for verdict in verdicts {
            let Origin::Connection { conn, generation, .. } = verdict.origin else { continue };
            let told = v1::Verdict {
                client_msg_id: verdict.client_msg_id,
                outcome: verdict.outcome.into(),
                seq: verdict.seq.0,
                code: verdict.code.map_or(0, Code::number),
                retry_after_ms: verdict.retry_after_ms,
                text: verdict.text,
            };
            self.verdicts.add(ConnSlot(conn), generation, room.as_str(), told);
        }
    }

    fn tell_verdicts(&mut self) {
        let window_us = u64::from(self.config.rooms.admission_ms) * 1000;
        for folded in self.verdicts.take(self.now.tick, window_us) {
            if self.conns.is_live(folded.conn, folded.generation) {
                self.metrics.add(Figure::Verdicts, folded.frame.verdicts.len() as u64);
                self.reply(folded.conn, &Body::Verdicts(folded.frame)); // S-17
            }
        }
    }

    /// Edges whose window ended and rings whose oldest chunk is too old.
    fn tick_rooms(&mut self) {
        while let Some(number) = self.room_schedule.pop(self.now.tick) {
            self.offer_up(number);
            self.hand_votes(number);
            self.hand_entries(number);
            self.evict_ring(number);
            self.schedule_room(number);
        }
    }

    /// Sends to the home what the crowd here has to say and is due.
    fn offer_up(&mut self, number: u32) {
        let room = self.rooms.slab.get_mut(number);
        if let Some(offer) = room.edge.take(self.now.tick) {
            let (home, id) = (room.home, room.id.clone());
            self.post(home, Message::Offer { room: id, offer });
        }
        self.schedule_room(number);
    }

    fn drain_step(&mut self) {
        if !self.draining {
            return;
        }
        let until = (self.drain_at + DRAIN_PER_TURN).min(self.conns.slots());
        let spread_ms = self.config.drain_spread_ms;
        for slot in std::mem::replace(&mut self.drain_at, until)..until {
            let conn = ConnSlot(slot as u32);
            match self.conns.hot(conn).state {
                State::Live => {
                    let reconnect = v1::Reconnect { spread_ms, to: String::new() };
                    self.reply(conn, &Body::Reconnect(reconnect)); // S-23
                }
                State::Free | State::Closing | State::Discarding | State::Closed => {}
                _ => self.end(conn, Code::Draining, None),
            }
        }
    }

    /// The drain is over: nobody is cut off without a word (S-21).
    fn end_all(&mut self) {
        for slot in 0..self.conns.slots() {
            if self.conns.hot(ConnSlot(slot as u32)).state == State::Live {
                self.end(ConnSlot(slot as u32), Code::Draining, None);
            }
        }
    }

    /// A full shard takes no more until a fiftieth of its places is free again.
    fn pace_accepting(&mut self) {
        let (used, max) = (self.conns.used(), self.connections_max as usize);
        self.metrics.set(Figure::Connections, used as u64);
        if !self.paused && used >= max {
            self.paused = true;
            self.act(Action::PauseAccepting);
        } else if self.paused && used <= max - max.div_ceil(50) && !self.draining {
            self.paused = false;
            self.act(Action::ResumeAccepting);
        }
    }

    fn report(&mut self) {
        if self.now.tick < self.next_report {
            return;
        }
        self.report_rooms();
        self.report_homes();
        let set = |figure, value: usize| self.metrics.set(figure, value as u64);
        set(Figure::RoomsLocal, self.rooms.slab.used());
        set(Figure::Members, self.rooms.slab.iter().map(|(_, r)| r.members.len() as usize).sum());
        set(Figure::Bans, self.homes.slab.iter().map(|(_, h)| h.home.bans.used()).sum());
        set(Figure::Lagging, self.lag.used());
        set(Figure::Inboxes, self.inboxes.records.used());
        set(Figure::Mcasts, self.mcasts.used());
        set(Figure::RingBytes, self.rooms.slab.iter().map(|(_, r)| r.ring.bytes_used()).sum());
        set(Figure::UserBytes, self.bytes_used());
        self.metrics.set(Figure::CpuMicros, self.now.cpu_us);
        self.metrics.set(Figure::Filtered, self.filtering.hits());
        self.metrics.set_pending(&self.pending());
    }

    /// Messages that wait in edges and homes of this shard, by class.
    #[must_use]
    pub fn pending(&self) -> [u64; CLASSES] {
        let mut sum = [0; CLASSES];
        let edges = self.rooms.slab.iter().map(|(_, room)| room.edge.pending());
        let homes = self.homes.slab.iter().map(|(_, hosted)| hosted.home.pending());
        for pending in edges.chain(homes) {
            for (total, n) in sum.iter_mut().zip(pending) {
                *total += n;
            }
        }
        sum
    }

    /// Bytes of every table and frame of the shard.
    #[must_use]
    pub fn bytes_used(&self) -> usize {
        let rooms: usize = self
            .rooms
            .slab
            .iter()
            .map(|(_, r)| size_of_val(r) + r.members.bytes_used() + r.history.bytes_used())
            .sum();
        self.conns.bytes_used()
            + self.wheel.bytes_used()
            + self.addresses.bytes_used()
            + self.inputs.bytes_used()
            + self.sessions.bytes_used()
            + self.session_bytes
            + self.memberships.bytes_used()
            + self.lag.bytes_used()
            + self.frames.bytes_used()
            + self.inboxes.bytes_used()
            + self.mcasts.bytes_used()
            + self.presence.bytes_used()
            + rooms
    }

    /// Connections now; for tests.
    #[must_use]
    pub fn connections_used(&self) -> usize {
        self.conns.used()
    }
}

impl Machine for Shard {
    type Message = Message;

    fn turn(
        &mut self,
        now: Now,
        events: &Events,
        inbox: &mut Vec<Message>,
        actions: &mut Actions,
        outbox: &mut Vec<(u16, Message)>,
    ) {
        let spent_us = now.cpu_us.saturating_sub(self.now.cpu_us);
        self.now = now;
        self.wheel.catch_up(now.tick);
        self.turn = self.turn.wrapping_add(1).max(1);
        self.metrics.add(Figure::Turns, 1);
        self.charge_sweeps(spent_us, self.work);
        self.settle(events);
        self.tell_gaps();
        self.evict_rings();
        for event in &events.list {
            self.event(event, events);
        }
        for message in inbox.drain(..) {
            self.message(message);
        }
        self.send_again();
        self.check_tokens();
        self.fire_deadlines();
        self.tick_rooms();
        self.tick_homes();
        self.ask_kept();
        self.drain_step();
        self.announce_step();
        self.block_step();
        self.pace_accepting();
        self.report();
        self.restate_presence();
        self.open_again();
        self.tell_verdicts();
        self.fill(actions);
        self.work = (events.list.len() + actions.as_slice().len()) as u64;
        outbox.append(&mut self.outbox);
    }

    fn next_wakeup(&self) -> Tick {
        if self.has_sends() || !self.checks.is_empty() || !self.finished.is_empty() {
            return Tick(0);
        }
        if !self.announcements.is_idle() || !self.blocking.is_idle() {
            return Tick(0);
        }
        if self.draining && self.drain_at < self.conns.slots() || !self.outbox.is_empty() {
            return Tick(0);
        }
        self.wheel
            .next_due()
            .min(self.room_schedule.next_due())
            .min(self.homes.schedule.next_due())
            .min(self.keeping.next_due())
            .min(self.verdicts.next_due())
            .min(self.unsent.next_due())
            .min(self.presence.next_due())
            .min(self.inboxes.late.next_due())
            .min(self.next_report)
    }

    fn frames(&self) -> &Frames {
        &self.frames
    }

    fn finished(&self) -> bool {
        self.stopped
    }

    fn undeliverable(&mut self, to: u16, message: Message) {
        self.came_back(to, message);
    }
}
