//! Seeded worlds: real shards and real codecs over a fake network and a fake clock.
//!
//! A world is a pure function of its seed: which faults it has and how often, what its clients do,
//! when time moves. It runs in two phases: *safety* (anything may break) and *liveness* (faults
//! off, everybody reads; every promise must come true within a bounded number of steps).
//! Replay: `cargo run -p uproar-engine --features sim --bin sim -- SEED`.

mod check;
mod client;
mod net;
#[cfg(test)]
mod tests;

use crate::config::{Config, Rooms, Window};
use crate::hash::Rng;
use crate::metrics::ShardMetrics;
use crate::router::{Books, CLASSES, ShardId};
use crate::seam::{Actions, Driver, Events, Machine, Now, Tick};
use crate::shard::Shard;
use crate::shard::message::Message;
use crate::shard::token::Verifier;
use client::{Client, Pace};
use net::Net;
use std::collections::VecDeque;
use std::sync::Arc;
use uproar_proto::control::RoomSettings;

/// How often each fault strikes, in thousandths. Drawn for each world: some are off entirely.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// A receive brings only part of what is there.
    pub recv_partial: u64,
    /// A send takes only part.
    pub send_short: u64,
    /// A send takes nothing.
    pub send_refused: u64,
    /// A connection breaks.
    pub reset: u64,
    /// A client stops reading for a while.
    pub freeze: u64,
    /// Wall time jumps by up to an hour, either way.
    pub clock_jump: u64,
    /// A message between shards is lost for want of room.
    pub queue_full: u64,
    /// A client sends rubbish.
    pub garbage: u64,
}

impl Faults {
    fn draw(rng: &mut Rng) -> Faults {
        let mut one = |most: u64| if rng.below(3) == 0 { 0 } else { rng.below(most) + 1 };
        Faults {
            recv_partial: one(600),
            send_short: one(300),
            send_refused: one(300),
            reset: one(8),
            freeze: one(20),
            clock_jump: one(10),
            queue_full: one(4),
            garbage: one(4),
        }
    }
}

/// A world.
pub struct World {
    pub(crate) seed: u64,
    pub(crate) rng: Rng,
    pub(crate) faults: Faults,
    pub(crate) now: Now,
    pub(crate) nodes: Vec<Node>,
    pub(crate) net: Net,
    pub(crate) clients: Vec<Client>,
    pub(crate) pace: Pace,
    /// A hash of every byte any client got: two runs of a seed agree on it.
    pub(crate) trace: u64,
    /// Plants the bug that the checkers must find.
    pub(crate) canary: bool,
}

/// One shard with what carries it.
pub(crate) struct Node {
    pub(crate) shard: Shard,
    pub(crate) metrics: Arc<ShardMetrics>,
    pub(crate) mailbox: VecDeque<Message>,
}

impl World {
    /// The world of a seed, not yet run.
    #[must_use]
    pub fn seed(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let faults = Faults::draw(&mut rng);
        World::with(seed, rng, faults, None)
    }

    /// A world without faults, for tests that say what happens.
    #[must_use]
    pub fn calm(seed: u64, window: Window) -> World {
        World::with(seed, Rng::new(seed), Faults::default(), Some(window))
    }

    fn with(seed: u64, mut rng: Rng, faults: Faults, window: Option<Window>) -> World {
        let shards = 1 + rng.below(3) as u16;
        let drawn = [Window::Adaptive, Window::FixedMs(0), Window::FixedMs(100)];
        let config = Config {
            seed: seed | 1,
            reply_bytes_max: 256 * 1024,
            ping_every_s: 600,
            frames_per_s_max: 30_000,
            rooms: Rooms {
                window: window.unwrap_or(drawn[rng.below(3) as usize]),
                history_messages_max: 8 + rng.below(60) as u32,
                snapshot_messages_max: rng.below(8) as u32,
                defaults: RoomSettings {
                    rate_per_s: 1 + rng.below(60) as u32,
                    user_rate_per_s: 1 + rng.below(30) as u32,
                    slow_mode_s: u32::from(rng.below(5) == 0),
                    ..RoomSettings::default()
                },
                ..Rooms::default()
            },
            ..Config::default()
        };
        let (config, now) = (Arc::new(config), start());
        let verifier = Arc::new(Verifier::new(&config.tokens).expect("no keys are good keys"));
        let nodes = (0..shards)
            .map(|id| {
                let metrics = Arc::new(ShardMetrics::default());
                let shard = Shard::new(
                    ShardId(id),
                    shards,
                    config.clone(),
                    config.seed,
                    verifier.clone(),
                    metrics.clone(),
                    10_000,
                );
                Node { shard, metrics, mailbox: VecDeque::new() }
            })
            .collect();
        let net = Net::new(usize::from(shards), 512 + rng.below(8_000) as usize);
        let pace = Pace::draw(&mut rng);
        World {
            seed,
            rng,
            faults,
            now,
            nodes,
            net,
            clients: Vec::new(),
            pace,
            trace: seed,
            canary: false,
        }
    }

    /// Plants a bug in the fake network: now and then a byte of a short send is lost.
    #[must_use]
    pub fn with_canary(mut self) -> World {
        self.canary = true;
        self.faults.send_short = 300;
        self
    }

    /// Runs the whole world; the books of all shards at its end.
    ///
    /// # Panics
    /// Where a promise is broken: the message says which, and the seed.
    pub fn run(&mut self) -> Books {
        for _ in 0..2 + self.rng.below(20) {
            client::spawn(self);
        }
        for _ in 0..400 + self.rng.below(400) {
            self.step();
        }
        self.heal();
        self.settle();
        check::at_rest(self);
        self.close_all();
        self.books()
    }

    /// One step of the safety phase: something happens, then a shard has a turn.
    pub(crate) fn step(&mut self) {
        if self.rng.below(1000) < self.faults.clock_jump {
            let jump = self.rng.below(7_200_000);
            self.now.unix_ms = (self.now.unix_ms + jump).saturating_sub(3_600_000);
        }
        client::act(self);
        let shard = self.rng.below(self.nodes.len() as u64) as usize;
        self.turn(shard);
        client::read_all(self);
        if self.rng.below(3) > 0 {
            let us = self.rng.below(60_000);
            self.pass(us);
        }
    }

    pub(crate) fn pass(&mut self, us: u64) {
        self.now.tick = Tick(self.now.tick.0 + us);
        self.now.unix_ms += us / 1000;
    }

    /// One turn of a shard, its messages delivered.
    pub(crate) fn turn(&mut self, number: usize) {
        let mut events = Events::default();
        let (mut actions, mut outbox) = (Actions::new(), Vec::new());
        self.now.cpu_us += 20;
        let mut driver =
            self.net.driver(number, self.now, &mut self.rng, &self.faults, self.canary);
        let now = driver.poll(Tick(0), &mut events);
        let node = &mut self.nodes[number];
        let mut inbox: Vec<Message> = node.mailbox.drain(..).collect();
        node.shard.turn(now, &events, &mut inbox, &mut actions, &mut outbox);
        self.now.cpu_us += actions.as_slice().len() as u64 * 7;
        driver.perform(node.shard.frames(), &actions);
        for (to, message) in outbox {
            let lose = usize::from(to) != number && self.rng.below(1000) < self.faults.queue_full;
            if lose && may_be_lost(&message) {
                self.nodes[number].shard.undeliverable(to, message);
            } else {
                self.nodes[usize::from(to)].mailbox.push_back(message);
            }
        }
        check::bounds(self, number);
    }

    fn heal(&mut self) {
        self.faults = Faults::default();
        for client in &mut self.clients {
            client.frozen_until = Tick(0);
        }
    }

    /// Runs until nothing happens any more.
    pub(crate) fn settle(&mut self) {
        let end = self.now.tick.after_ms(8_000);
        let mut turns = 0;
        while self.now.tick < end {
            let mut busy = false;
            for shard in 0..self.nodes.len() {
                self.turn(shard);
                client::read_all(self);
                let node = &self.nodes[shard];
                busy |= node.shard.next_wakeup() <= self.now.tick || !node.mailbox.is_empty();
                busy |= self.net.has_events(shard);
            }
            turns += 1;
            assert!(turns < 100_000, "seed {}: the world does not come to rest", self.seed);
            if !busy {
                let next = self.nodes.iter().map(|n| n.shard.next_wakeup()).min();
                let until = next.unwrap_or(end).min(end).max(Tick(self.now.tick.0 + 1));
                self.pass(until.0 - self.now.tick.0);
            }
        }
    }

    /// Everybody leaves; nothing may be left behind.
    fn close_all(&mut self) {
        for client in 0..self.clients.len() {
            client::hang_up(self, client);
        }
        self.settle();
        for node in &self.nodes {
            assert_eq!(node.shard.connections_used(), 0, "seed {}: connections left", self.seed);
            assert_eq!(node.shard.frames().used(), 0, "seed {}: frames left", self.seed);
        }
        assert_eq!(self.net.open(), 0, "seed {}: descriptors left open", self.seed);
    }

    /// The sum of all shards' books.
    #[must_use]
    pub fn books(&self) -> Books {
        self.nodes.iter().fold(Books::default(), |sum, node| sum.plus(&node.metrics.books()))
    }

    /// Messages waiting in edges and homes.
    pub(crate) fn pending(&self) -> [u64; CLASSES] {
        let mut sum = [0; CLASSES];
        for node in &self.nodes {
            for (total, n) in sum.iter_mut().zip(node.shard.pending()) {
                *total += n;
            }
        }
        sum
    }

    /// How often rare things happened: gap, short write, lost batch, resume, undeliverable.
    #[must_use]
    pub fn marks(&self) -> [u64; 5] {
        use crate::metrics::Figure;
        let figures = [
            Figure::Gaps,
            Figure::ShortWrites,
            Figure::LostBatches,
            Figure::Resumes,
            Figure::QueueDropped,
        ];
        figures.map(|f| self.nodes.iter().map(|node| node.metrics.get(f)).sum())
    }

    /// What every client got, as one number.
    #[must_use]
    pub fn trace(&self) -> u64 {
        self.trace
    }
}

/// Wall and monotonic time of every world's beginning.
fn start() -> Now {
    Now { tick: Tick(1_000_000), unix_ms: 1_700_000_000_000, cpu_us: 0 }
}

/// The queues of a real node lose a message only where it is told or made good; counts and
/// detaches are superseded by later ones, which a world at rest would not send.
fn may_be_lost(message: &Message) -> bool {
    matches!(message, Message::Offer { .. } | Message::Attach { .. } | Message::Flush(_))
}
