//! The crowd of one thread: a machine on the server's own ring code.
//!
//! Owns the connections, their frames and every timer of them. Never reads a clock and never
//! judges: it counts, and hands an [`Outcome`] over when it is told to finish.

mod dial;
mod drive;
mod link;
mod outgoing;
pub(crate) mod publish;
mod receive;
#[cfg(test)]
mod tests;
mod wheel;

use crate::dice::Dice;
use crate::outcome::Outcome;
use crate::plan::{Part, Plan, Scenario};
use crate::pulse::{Beat, Pulse};
use crate::recent::Reader;
use crate::schedule::{Ramp, Schedule};
use crate::signin::Tokens;
use crate::viewer::{Batch, Place};
use link::{Link, Role, Stage};
use outgoing::Outgoing;
use publish::{LIKE, Publishers};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use uproar_engine::seam::{
    Action, Actions, ConnSlot, Event, Events, FrameSlot, Frames, Machine, Now, Tick,
};
use wheel::Wheel;

/// How long publishers wait after the order, so that all threads have it.
pub(crate) const LEAD_US: u64 = 100_000;

/// What a crowd is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Connect everybody.
    Connect,
    /// Begin the traffic: warm-up, then measure.
    Begin,
    /// Hand the result over.
    Finish,
}

/// When the traffic counts, and when it ends.
#[derive(Clone, Copy, Debug)]
struct Window {
    measured: Tick,
    end: Tick,
}

/// Frames that many connections send, encoded once.
struct Common {
    ping: FrameSlot,
    /// What opens a WebSocket; `None` on TCP.
    upgrade: Option<FrameSlot>,
    /// The greeting of guests who have no cursor.
    hello: FrameSlot,
}

/// See the module.
pub(crate) struct Crowd {
    plan: Arc<Plan>,
    part: Part,
    tokens: Arc<Tokens>,
    pulse: Arc<Pulse>,
    results: Sender<Outcome>,
    now: Tick,
    unix_ms: u64,
    links: Vec<Link>,
    out: Outgoing,
    reader: Reader,
    result: Outcome,
    publishers: Publishers,
    dice: Dice,
    common: Common,
    nonce: [u8; 16],

    // Connecting.
    connecting: bool,
    ramp: Ramp,
    fresh: u32,
    dial: VecDeque<u32>,
    under_way: u32,
    deadlines: VecDeque<(Tick, u32, u32)>,
    again: BinaryHeap<Reverse<(Tick, u32)>>,
    heads: HashMap<u32, Vec<u8>>,
    reasons: HashMap<u32, String>,
    to_close: VecDeque<u32>,
    to_read: VecDeque<u32>,

    // Traffic.
    window: Option<Window>,
    churn: Schedule,
    pass: Schedule,
    frozen: bool,
    wheel: Option<Wheel>,
    ping_every_s: u32,
    touched: Vec<Rc<Batch>>,
    likes: Option<u64>,
    back: u64,
    cpu_at: [Option<(Tick, u64, u64)>; 2],
    finished: bool,
}

impl Crowd {
    pub(crate) fn new(
        plan: Arc<Plan>,
        index: u16,
        tokens: Arc<Tokens>,
        pulse: Arc<Pulse>,
        results: Sender<Outcome>,
    ) -> Crowd {
        let part = plan.parts[usize::from(index)];
        let total = part.heads.total() as usize;
        let mut dice = Dice::new(plan.seed ^ u64::from(index) << 48);
        let mut out = Outgoing::new(total);
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&dice.next().to_be_bytes());
        let common = dial::common_frames(&plan, &mut out, &mut dice, nonce);
        Crowd {
            publishers: Publishers::new(part.heads.publishers, plan.mix, dice.next()),
            reader: Reader::new(plan.variant, plan.run),
            links: (0..total).map(|_| Link::default()).collect(),
            part,
            tokens,
            pulse,
            results,
            now: Tick(0),
            unix_ms: 0,
            out,
            result: Outcome::default(),
            dice,
            common,
            nonce,
            connecting: false,
            ramp: Ramp::new(Tick(0), 0.0),
            fresh: 0,
            dial: VecDeque::new(),
            under_way: 0,
            deadlines: VecDeque::new(),
            again: BinaryHeap::new(),
            heads: HashMap::new(),
            reasons: HashMap::new(),
            to_close: VecDeque::new(),
            to_read: VecDeque::new(),
            window: None,
            churn: Schedule::new(Tick(0), Tick(0), 0.0),
            pass: Schedule::new(Tick(0), Tick(0), 0.0),
            frozen: false,
            wheel: None,
            ping_every_s: 0,
            touched: Vec::new(),
            likes: None,
            back: 0,
            cpu_at: [None; 2],
            finished: false,
            plan,
        }
    }

    fn role(&self, conn: u32) -> Role {
        Role::of(&self.part.heads, conn)
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Connect => {
                let share = f64::from(self.part.heads.total()) / f64::from(self.plan.heads.total());
                self.ramp = Ramp::new(self.now, self.plan.ramp_per_s * share);
                self.connecting = true;
            }
            Order::Begin => self.begin(),
            Order::Finish => self.finish(),
        }
    }

    fn begin(&mut self) {
        let begin = Tick(self.now.0 + LEAD_US);
        let measured = Tick(begin.0 + self.plan.warmup_us);
        let end = Tick(measured.0 + self.plan.duration_us);
        self.window = Some(Window { measured, end });
        if self.plan.publishes() {
            self.publishers.begin(Schedule::new(begin, end, self.plan.rate_per_s), measured);
        }
        if let Scenario::Churn { joins_per_s, connects_per_s } = self.plan.scenario {
            let mine = |all: u32, of: u32, part: u32| {
                if of == 0 { 0.0 } else { f64::from(all) * f64::from(part) / f64::from(of) }
            };
            let (heads, part) = (&self.plan.heads, &self.part.heads);
            // Each join is undone by a leave: twice as many moments.
            let moves = mine(2 * joins_per_s, heads.churners, part.churners);
            self.churn = Schedule::new(begin, end, moves);
            self.pass =
                Schedule::new(begin, end, mine(connects_per_s, heads.passers, part.passers));
        }
        for conn in 0..self.part.heads.total() {
            let counts = self.role(conn) == Role::Viewer;
            let link = &mut self.links[conn as usize];
            if counts && link.viewer.place == Place::In {
                link.viewer.count();
                self.result.counted += 1;
            }
        }
        self.result.likes_before = self.likes.unwrap_or(0);
    }

    /// Batches of this turn were received at this turn's moment, each by so many viewers.
    fn record_latencies(&mut self) {
        for batch in self.touched.drain(..) {
            let deliveries = u64::from(batch.waiting.take());
            for due in batch.items.iter().filter_map(|item| item.due) {
                self.result.tally.latency(self.now.since_us(due), deliveries);
            }
        }
    }

    fn measuring(&self) -> bool {
        self.window.is_some_and(|w| (w.measured..w.end).contains(&self.now))
    }

    fn note_cpu(&mut self, cpu_us: u64) {
        let Some(window) = self.window else { return };
        let mark = Some((self.now, cpu_us, self.reader.frames));
        if self.cpu_at[0].is_none() && self.now >= window.measured {
            self.cpu_at[0] = mark;
        }
        if self.cpu_at[1].is_none() && self.now >= window.end {
            self.cpu_at[1] = mark;
        }
    }

    fn beat(&self) -> Beat {
        let books = &self.publishers.books;
        Beat {
            joined: self.result.established,
            failed: self.result.failed,
            lost: self.result.lost,
            back: self.back,
            counted: self.result.counted,
            deliveries: self.result.tally.deliveries,
            frames: self.reader.frames,
            offered: books.whole.iter().map(|b| b.offered).sum(),
            unanswered: self.publishers.pending() as u64,
            accepted_measured: books.measured.iter().map(|b| b.accepted).sum(),
            likes_offered: books.whole[LIKE].offered,
            // Every thread sees the counter; one tells it, so that it is not summed.
            likes_counted: match self.likes {
                Some(likes) if self.part.heads.publishers > 0 => {
                    likes.saturating_sub(self.result.likes_before)
                }
                _ => 0,
            },
            publishing_over: u64::from(self.window.is_some_and(|w| self.now >= w.end)),
        }
    }

    /// Sums up and hands over.
    fn finish(&mut self) {
        let mut result = std::mem::take(&mut self.result);
        for (conn, link) in (0u32..).zip(&self.links) {
            let role = Role::of(&self.part.heads, conn);
            let viewer = &link.viewer;
            if viewer.counted() && !viewer.gapped() && !link.away {
                *result.sums.entry(viewer.sum()).or_default() += 1;
            }
            if viewer.counted() && viewer.gapped() {
                result.gapped[0] += 1;
                result.gapped[1] += u64::from(viewer.sum().0);
            }
            if viewer.place == Place::In
                && let Some(cursor) = viewer.cursor()
            {
                *result.cursors.entry((cursor.epoch, cursor.seq)).or_default() += 1;
            }
            result.gaps_owed += u64::from(viewer.gap_owed());
            result.still_away += u64::from(link.away);
            if role == Role::Frozen {
                result.frozen[0] += 1;
                result.frozen[1] += u64::from(viewer.gapped());
                result.frozen[2] += u64::from(viewer.place == Place::In);
            }
        }
        result.books = std::mem::take(&mut self.publishers.books);
        result.likes_offered = result.books.whole[LIKE].offered;
        result.likes_after = self.likes.unwrap_or(0);
        result.ledger = std::mem::take(&mut self.reader.ledger);
        result.frames = self.reader.frames;
        result.decoded = self.reader.decoded;
        if let [Some((t0, cpu0, frames0)), Some((t1, cpu1, frames1))] = self.cpu_at {
            result.cpu_us = cpu1 - cpu0;
            result.busy_share = (cpu1 - cpu0) as f64 / t1.since_us(t0).max(1) as f64;
            result.frames_measured = frames1 - frames0;
        }
        // Nobody to take it any more: the run was given up.
        let _ = self.results.send(result);
        self.finished = true;
    }

    fn event(&mut self, event: &Event) {
        match *event {
            Event::Connected { conn, errno } => self.connected(conn.0, errno),
            Event::Eof { conn, errno } => self.eof(conn.0, errno),
            Event::SendShort { action, sent_bytes, .. } => self.out.short(action, sent_bytes),
            Event::Writable { conn } => self.out.writable(conn.0),
            Event::Closed { conn } => self.closed(conn.0),
            // Bytes are handled by the caller; nothing is ever accepted here.
            Event::Received { .. } | Event::Accepted { .. } => {}
        }
    }

    fn fill(&mut self, actions: &mut Actions) {
        while actions.room() > 0
            && let Some(conn) = self.to_close.pop_front()
        {
            actions.push(Action::Close { conn: ConnSlot(conn) });
        }
        self.out.flush(actions);
        for _ in 0..self.to_read.len() {
            if actions.room() == 0 {
                break;
            }
            let Some(conn) = self.to_read.pop_front() else { break };
            let link = &mut self.links[conn as usize];
            let open = matches!(link.stage, Stage::Upgrading | Stage::Greeting | Stage::Open);
            if link.reading || !open {
                continue;
            }
            link.reading = true;
            actions.push(Action::Read { conn: ConnSlot(conn) });
        }
        self.connect_some(actions);
    }
}

impl Machine for Crowd {
    type Message = Order;

    fn turn(
        &mut self,
        now: Now,
        events: &Events,
        inbox: &mut Vec<Order>,
        actions: &mut Actions,
        _outbox: &mut Vec<(u16, Order)>,
    ) {
        self.now = now.tick;
        self.unix_ms = now.unix_ms;
        let mut list = events.list.iter().peekable();
        while let Some(event) = list.next() {
            let Event::Received { conn, bytes } = event else {
                self.event(event);
                continue;
            };
            // One frame may have come in several receives that lie side by side: read as one.
            let mut bytes = bytes.clone();
            while let Some(Event::Received { conn: next, bytes: more }) = list.peek()
                && next == conn
                && more.start == bytes.end
            {
                bytes.end = more.end;
                list.next();
            }
            self.received(conn.0, events.bytes_of(&bytes));
        }
        self.out.settle();
        self.record_latencies();
        for order in inbox.drain(..) {
            self.order(order);
        }
        if self.finished {
            return;
        }
        self.drive();
        self.fill(actions);
        self.note_cpu(now.cpu_us);
        self.pulse.show(&self.beat());
    }

    fn undeliverable(&mut self, _to: u16, _order: Order) {
        unreachable!("crowds send each other nothing");
    }

    fn next_wakeup(&self) -> Tick {
        self.wakeup()
    }

    fn frames(&self) -> &Frames {
        &self.out.frames
    }

    fn finished(&self) -> bool {
        self.finished
    }
}
