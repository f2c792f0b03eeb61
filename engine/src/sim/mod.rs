//! Seeded worlds: real shards and real codecs over a fake network and a fake clock.
//!
//! A world is a pure function of its plan, and a drawn plan a pure function of its seed: which
//! faults there are and how often, what clients do, when time moves. It runs in two phases:
//! *safety* (anything may break; nothing may be torn, lost in silence or uncounted) and *liveness*
//! (faults off, everybody reads; every promise must come true within a bounded time).
//! Replay: `cargo run -p uproar-engine --features sim --bin sim -- SEED`.

#[cfg(test)]
mod anew;
mod check;
mod client;
mod control;
mod crowd;
#[cfg(test)]
mod inboxes;
#[cfg(test)]
mod judged;
mod judging;
mod keeping;
#[cfg(test)]
mod kept;
mod ledger;
#[cfg(test)]
mod live;
#[cfg(test)]
mod lost;
mod mail;
mod net;
mod plan;
#[cfg(test)]
mod sentences;
#[cfg(test)]
mod tests;

pub use net::Canary;
pub use plan::{Faults, Plan};

use crate::hash::{Rng, mix};
use crate::metrics::{Figure, ShardMetrics};
use crate::router::{Books, ShardId};
use crate::seam::{Actions, Driver, Events, Machine, Now, Tick};
use crate::shard::Shard;
use crate::shard::message::Message;
use crate::shard::token::Verifier;
use client::Client;
use crowd::Account;
use ledger::Ledger;
use mail::Mail;
use net::Net;
use std::sync::Arc;
use uproar_proto::control::Question;
use uproar_proto::v1;
use uproar_proto::wire::Variant;

/// Once faults are healed nothing waits longer than this: the longest that a peer may be silent in
/// a world where silence is noticed at all, with the linger behind it; deadlines and counts
/// are shorter.
const REST_MS: u64 = 8_000;
/// A shard notices who vanished within this where pings are frequent; else the kernel does.
const NOTICED_MS: u64 = 5_000;
/// Turns in a row without time passing: what it takes to fill the smallest socket buffers with
/// the longest replies.
const TURNS_AT_ONCE_MAX: u64 = 20_000;
/// A shard that waits longer than this for a turn it wants excuses late deliveries.
const LATE_TURN_US: u64 = 100_000;

/// A world.
pub struct World {
    pub(crate) plan: Plan,
    pub(crate) rng: Rng,
    pub(crate) now: Now,
    pub(crate) nodes: Vec<Node>,
    pub(crate) net: Net,
    pub(crate) mail: Mail,
    pub(crate) clients: Vec<Client>,
    pub(crate) accounts: Vec<Account>,
    pub(crate) answers: control::Shared,
    pub(crate) ledger: Ledger,
    /// What the platform was asked and has not answered.
    pub(crate) questions: Vec<Question>,
    /// Who keeps what rooms decide about users.
    pub(crate) keeper: keeping::Keeper,
    /// A hash of every action of every turn and every byte any client got: two runs of a seed
    /// agree on it.
    pub(crate) trace: u64,
    ids: u64,
    /// A shard had to wait for a turn it wanted.
    pub(crate) was_late: bool,
    /// What happens is printed.
    pub(crate) told: bool,
    actions: Actions,
    events: Events,
}

/// One shard with what carries it.
pub(crate) struct Node {
    pub(crate) shard: Shard,
    pub(crate) metrics: Arc<ShardMetrics>,
    cpu_us: u64,
    last_turn: Tick,
    stalled_until: Tick,
    pub(crate) turns: u64,
}

impl World {
    /// A calm world to be planned: nothing goes wrong, nobody does anything unasked.
    #[must_use]
    pub fn seed(seed: u64) -> Plan {
        Plan::calm(seed)
    }

    /// The world of a seed, with everything drawn from it, not yet run.
    #[must_use]
    pub fn drawn(seed: u64) -> World {
        World::new(Plan::drawn(seed))
    }

    fn new(plan: Plan) -> World {
        let now = Now { tick: Tick(1_000_000), unix_ms: 1_700_000_000_000, cpu_us: 0 };
        let config = Arc::new(plan.config.clone());
        config.check().expect("worlds have legal configurations");
        let verifier = Arc::new(Verifier::new(&config.tokens).expect("the secret is a good one"));
        let node = |id: u16| {
            let metrics = Arc::new(ShardMetrics::default());
            let mut shard = Shard::new(
                ShardId(id),
                plan.shards,
                config.clone(),
                config.seed,
                verifier.clone(),
                metrics.clone(),
                plan.connections_max,
            );
            if plan.keeps.is_there {
                shard.keep_penalties();
            }
            let (last_turn, stalled_until) = (now.tick, Tick(0));
            Node { shard, metrics, cpu_us: 0, last_turn, stalled_until, turns: 0 }
        };
        let shards = usize::from(plan.shards);
        World {
            rng: Rng::new(mix(plan.seed ^ 1)),
            now,
            nodes: (0..plan.shards).map(node).collect(),
            net: Net::new(shards, plan.faults, mix(plan.seed ^ 2)),
            mail: Mail::new(shards, plan.queue_max),
            clients: Vec::new(),
            accounts: crowd::accounts(now.unix_ms),
            answers: control::Shared::default(),
            ledger: Ledger::of(plan.config.rooms.defaults.before_publish),
            questions: Vec::new(),
            keeper: keeping::Keeper::default(),
            trace: plan.seed,
            ids: 0,
            was_late: false,
            told: false,
            actions: Actions::new(),
            events: Events::default(),
            plan,
        }
    }

    /// Plants a bug in the fake network.
    #[must_use]
    pub fn with_canary(mut self, canary: Canary) -> World {
        self.net.canary = canary;
        (self.net.faults.send_short, self.net.faults.send_refused) = (200, 200);
        self
    }

    /// Prints what happens.
    #[must_use]
    pub fn told(mut self) -> World {
        self.told = true;
        self
    }

    /// Runs the whole world; the books of all shards at its end.
    ///
    /// # Panics
    /// Where a promise is broken; the message says which.
    pub fn run(&mut self) -> Books {
        for _ in 0..self.plan.steps {
            self.step();
        }
        self.finish()
    }

    /// The liveness phase, and the end.
    fn finish(&mut self) -> Books {
        self.heal();
        self.come_to_rest();
        check::at_rest(self);
        keeping::at_rest(self);
        if self.plan.drains {
            self.drain()
        } else {
            self.close_all()
        }
        check::at_end(self);
        self.books()
    }

    /// One step of the safety phase: somebody does something, some shards have a turn.
    fn step(&mut self) {
        let faults = self.net.faults;
        if self.rng.below(1000) < faults.clock_jump {
            let jump = self.rng.below(7_200_000);
            self.now.unix_ms = (self.now.unix_ms + jump).saturating_sub(3_600_000);
        }
        crowd::act(self);
        control::act(self);
        judging::act(self);
        keeping::act(self);
        for _ in 0..self.nodes.len() {
            let shard = self.rng.below(self.nodes.len() as u64) as usize;
            if self.rng.below(1000) < faults.shard_slow {
                let ms = self.rng.below(1_500);
                self.nodes[shard].stalled_until = self.now.tick.after_ms(ms);
            }
            let spurious = self.rng.below(1000) < faults.turn_spurious;
            let stalled = self.nodes[shard].stalled_until > self.now.tick;
            if !stalled && (spurious || self.wants_turn(shard)) {
                self.turn(shard);
                crowd::read_all(self);
            }
        }
        if self.rng.below(3) > 0 {
            let us = self.rng.below(self.plan.step_us_max);
            self.pass(us);
        }
    }

    fn wants_turn(&self, shard: usize) -> bool {
        self.nodes[shard].shard.next_wakeup() <= self.now.tick
            || self.mail.waits_for(shard)
            || self.net.has_events(shard)
    }

    fn pass(&mut self, us: u64) {
        let before = self.now.tick.0 / 1000;
        self.now.tick = Tick(self.now.tick.0 + us);
        self.now.unix_ms += self.now.tick.0 / 1000 - before;
    }

    /// One turn of a shard; how many actions and messages came of it.
    fn turn(&mut self, number: usize) -> usize {
        let node = &mut self.nodes[number];
        let wanted = node.shard.next_wakeup().max(node.last_turn);
        self.was_late |= self.now.tick.since_us(wanted) > LATE_TURN_US;
        let mut inbox = self.mail.take(number, self.plan.inbox_max);
        let received = inbox.len();
        let mut driver = self.net.driver(number, Now { cpu_us: node.cpu_us, ..self.now });
        let now = driver.poll(Tick(0), &mut self.events);
        let (events, actions) = (&self.events, &mut self.actions);
        let mut outbox = Vec::new();
        node.shard.turn(now, events, &mut inbox, actions, &mut outbox);
        assert!(inbox.is_empty(), "a turn takes in all of its mail");
        let done = actions.as_slice().len() + outbox.len();
        let work = events.list.len() + received + done;
        if self.told && work > 0 {
            let at = (now.tick.0 - 1_000_000) as f64 / 1e6;
            println!("{at:10.6} shard {number} mail {received} {:?}", events.list);
            println!("{:18} {:?}", "", actions.as_slice());
            outbox.iter().for_each(|(to, m)| println!("{:18} to {to}: {}", "", check::name(m)));
        }
        node.cpu_us += 5 + 7 * work as u64;
        (node.last_turn, node.turns) = (now.tick, node.turns + 1);
        for action in actions.as_slice() {
            self.trace = mix(self.trace ^ check::digest(action));
        }
        driver.perform(node.shard.frames(), actions);
        actions.clear();
        judging::hear(self, number);
        keeping::hear(self, number);
        self.carry(number, outbox);
        control::hear(self);
        check::after_turn(self, number);
        done
    }

    /// Messages of a turn go into the queues, or come back.
    fn carry(&mut self, from: usize, outbox: Vec<(u16, Message)>) {
        self.mail.retry(from);
        for (to, message) in outbox {
            self.ledger.overhear(&message, self.now.tick);
            if let Err(message) = self.mail.send(from, usize::from(to), message) {
                if self.told {
                    println!("{:18} undeliverable: {}", "", check::name(&message));
                }
                if let Message::Offer { offer, .. } = &message {
                    self.ledger.likes_refused += offer.likes;
                }
                self.nodes[from].shard.undeliverable(to, message);
            }
        }
    }

    /// Faults off, queues large, everybody awake; who has vanished or broken the rules is gone.
    fn heal(&mut self) {
        self.net.faults = Faults::default();
        let keeps = &mut self.plan.keeps;
        (keeps.answers, keeps.loses, keeps.full) = (1_000, 0, 0);
        self.mail.queue_max = 16_384;
        self.plan.inbox_max = 1024;
        self.nodes.iter_mut().for_each(|node| node.stalled_until = Tick(0));
        for number in 0..self.clients.len() {
            let client = &mut self.clients[number];
            (client.frozen_until, client.deaf_until) = (Tick(0), Tick(0));
            // Who vanished is noticed by the shard where heartbeats are short, else by the kernel.
            let idle_ms = u64::from(self.plan.config.ping_every_s) * 2_400;
            if client.rude || client.vanished && idle_ms > NOTICED_MS {
                crowd::break_off(self, number, 110);
            }
        }
    }

    /// Everything has its time; a connection that ends late (a token's time is over) begins it
    /// anew, also where it lingers and only its rooms know yet.
    fn come_to_rest(&mut self) {
        let mut quiet = 0;
        for _ in 0..20 {
            let before = self.comings_and_goings();
            self.run_ms(REST_MS);
            let same = before == self.comings_and_goings();
            quiet = if same { quiet + 1 } else { 0 };
            if quiet == 2 {
                return;
            }
        }
        panic!("connections go on ending");
    }

    /// What changes where somebody comes or goes; one may come for each who goes.
    fn comings_and_goings(&self) -> (usize, u64, u64) {
        (self.net.open(), self.figure(Figure::Accepted), self.figure(Figure::Members))
    }

    /// Lets time pass: every shard gets its turns when it wants them, and never otherwise, so
    /// that what a shard forgets to wake up for stays undone.
    ///
    /// # Panics
    /// Where a promise is broken.
    pub fn run_ms(&mut self, ms: u64) {
        let end = self.now.tick.after_ms(ms);
        let mut at_once = 0;
        loop {
            crowd::read_all(self);
            let wanting: Vec<usize> =
                (0..self.nodes.len()).filter(|shard| self.wants_turn(*shard)).collect();
            for shard in &wanting {
                self.turn(*shard);
            }
            at_once += 1;
            assert!(at_once < TURNS_AT_ONCE_MAX, "the shards have no end of work without time");
            if !wanting.is_empty() {
                continue;
            }
            if self.now.tick >= end {
                return;
            }
            at_once = 0;
            self.sleep(end);
        }
    }

    /// Nobody wants a turn: time moves to when somebody does. A turn on the way, though nobody
    /// asked for it, must find nothing to do.
    fn sleep(&mut self, end: Tick) {
        let wakeups = self.nodes.iter().map(|n| n.shard.next_wakeup()).min();
        let thaws = self.clients.iter().flat_map(|c| [c.frozen_until, c.deaf_until]);
        let thaw = thaws.filter(|at| *at > self.now.tick).min().unwrap_or(Tick::NEVER);
        let next = wakeups.unwrap_or(end).min(thaw).min(crowd::next_ping(self)).min(end);
        let sleep_us = next.since_us(self.now.tick).max(1);
        let early_us = self.rng.below(sleep_us);
        if early_us > 0 && self.rng.below(4) == 0 {
            self.pass(early_us);
            for shard in 0..self.nodes.len() {
                let done = self.turn(shard);
                assert!(done == 0, "a shard had work to do and wanted to sleep");
            }
            return;
        }
        self.pass(sleep_us);
    }

    /// Everybody leaves; shards forget rooms where nobody is.
    fn close_all(&mut self) {
        for client in 0..self.clients.len() {
            crowd::break_off(self, client, 0);
        }
        self.run_ms(4_000);
    }

    /// The node drains: everybody is told and goes, nobody else gets in.
    fn drain(&mut self) {
        for shard in 0..self.nodes.len() {
            assert!(self.mail.post(shard, Message::Drain).is_ok(), "a world at rest has room");
        }
        self.run_ms(1_000);
        for (number, client) in self.clients.iter().enumerate() {
            let told = client.reconnect || !client.welcomed || !client.is_sound();
            assert!(told, "client {number} was not told to reconnect");
        }
        let late = crowd::connect(self, 0, Variant::Tcp, None, Vec::new());
        self.run_ms(1_000);
        assert!(!self.clients[late].welcomed, "a draining shard takes nobody");
        self.close_all();
        for shard in 0..self.nodes.len() {
            assert!(self.mail.post(shard, Message::Stop).is_ok(), "a world at rest has room");
            self.turn(shard);
            assert!(self.nodes[shard].shard.finished(), "a shard that is told to stop stops");
        }
    }

    /// That many viewers connect, spread over shards and wire variants, and join the first room.
    fn arrive(&mut self, viewers: usize) {
        let room = self.plan.rooms[0].clone();
        for n in 0..viewers {
            let joins = vec![v1::Join { room: room.clone(), resume: None }];
            let variant = Variant::ALL[n % Variant::ALL.len()];
            crowd::connect(self, n % self.nodes.len(), variant, None, joins);
        }
        self.run_ms(3_000);
        let joined = |c: &Client| c.streams.contains_key(&room);
        assert!(self.clients.iter().all(joined), "every viewer joins");
    }

    pub(crate) fn fresh_id(&mut self) -> Vec<u8> {
        self.ids += 1;
        mix(self.ids).to_be_bytes().to_vec()
    }

    /// The sum of all shards' books, as they stand now.
    #[must_use]
    pub fn books(&self) -> Books {
        self.nodes.iter().fold(Books::default(), |sum, node| sum.plus(&node.shard.books()))
    }

    /// One figure, summed over all shards.
    #[must_use]
    pub fn figure(&self, figure: Figure) -> u64 {
        self.nodes.iter().map(|node| node.metrics.get(figure)).sum()
    }

    /// What every shard did and every client got, as one number.
    #[must_use]
    pub fn trace(&self) -> u64 {
        self.trace
    }
}
