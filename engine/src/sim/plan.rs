//! What a seed decides: how many shards, how small every limit, which faults strike how often, what
//! clients do how often. Swarm testing: each world has some faults and habits off entirely and
//! others far more often than any real day would.

use super::World;
use super::judging::{self, Platform};
use super::keeping::{self, Keeps};
use crate::config::{Config, Rooms, Tokens, Window};
use crate::hash::{Rng, mix};
use uproar_proto::control::RoomSettings;

/// How often each fault strikes, in thousandths of its occasions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// A receive brings only part of what is there.
    pub recv_partial: u64,
    /// A send takes only part.
    pub send_short: u64,
    /// A send takes nothing.
    pub send_refused: u64,
    /// What happened to a connection is told in a later poll.
    pub event_late: u64,
    /// The last completion of a closed connection takes its time.
    pub closed_late: u64,
    /// A client takes in only some of the bytes that are there.
    pub read_partial: u64,
    /// A connection breaks.
    pub reset: u64,
    /// A client shuts its sending side and goes on reading.
    pub half_close: u64,
    /// A client vanishes without a word: nothing comes, nothing is taken.
    pub vanish: u64,
    /// A client stops reading and sending for a while.
    pub freeze: u64,
    /// A client sends rubbish.
    pub garbage: u64,
    /// Wall time jumps by up to an hour, either way.
    pub clock_jump: u64,
    /// A shard gets no turn for a while.
    pub shard_slow: u64,
    /// A turn comes though nothing has happened.
    pub turn_spurious: u64,
}

/// What clients and backends do how often, relative to each other.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Habits {
    pub(crate) connect: u64,
    pub(crate) burst: u64,
    pub(crate) join: u64,
    pub(crate) leave: u64,
    pub(crate) publish: u64,
    pub(crate) like: u64,
    pub(crate) ping: u64,
    pub(crate) hang_up: u64,
    pub(crate) come_back: u64,
    pub(crate) blunder: u64,
    pub(crate) backend_publish: u64,
    pub(crate) backend_room: u64,
    pub(crate) backend_user: u64,
}

/// Everything a world is made of. `World::seed` gives a calm one, to be changed before it starts.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) seed: u64,
    pub(crate) shards: u16,
    pub(crate) config: Config,
    pub(crate) connections_max: u32,
    pub(crate) faults: Faults,
    pub(crate) habits: Habits,
    pub(crate) platform: Platform,
    pub(crate) keeps: Keeps,
    pub(crate) rooms: Vec<String>,
    /// Socket buffers are drawn between these.
    pub(crate) buffer_bytes: (u64, u64),
    pub(crate) queue_max: usize,
    pub(crate) inbox_max: usize,
    pub(crate) steps: u64,
    /// Time passes by up to this much between two steps.
    pub(crate) step_us_max: u64,
    pub(crate) clients_max: usize,
    /// Ends by a drain instead of everybody leaving.
    pub(crate) drains: bool,
}

/// HS256 secret of every world: base64 of 32 bytes.
pub(crate) const SECRET: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

impl Plan {
    /// Nothing goes wrong and nobody does anything unasked.
    pub(crate) fn calm(seed: u64) -> Plan {
        let tokens =
            Tokens { hs256_secret: SECRET.into(), guests: Some(true), ..Tokens::default() };
        let config = Config { seed: mix(seed) | 1, tokens, ..Config::default() };
        Plan {
            seed,
            shards: 1,
            config,
            connections_max: 20_000,
            faults: Faults::default(),
            habits: Habits::default(),
            platform: Platform::default(),
            keeps: Keeps::default(),
            rooms: vec!["room".into()],
            buffer_bytes: (256 * 1024, 256 * 1024),
            queue_max: 16_384,
            inbox_max: 1024,
            steps: 0,
            step_us_max: 0,
            clients_max: usize::MAX,
            drains: false,
        }
    }

    /// Everything as the seed has it.
    pub(crate) fn drawn(seed: u64) -> Plan {
        let mut rng = Rng::new(mix(seed));
        let calm = Plan::calm(seed);
        let mut config = config(&mut rng, calm.config);
        // Drawn apart, so that a seed's world is otherwise what it was without.
        let mut of_platform = Rng::new(mix(seed ^ 0x6a75_6467));
        let (platform, before_publish) = judging::drawn(&mut of_platform);
        config.rooms.defaults.before_publish = before_publish;
        config.rooms.before_publish_ms = 50 << of_platform.below(6);
        let small = rng.below(3) == 0;
        let mut faults = faults(&mut rng);
        if small && rng.below(2) == 0 {
            // Small queues are full only where somebody does not empty them.
            faults.shard_slow += 40;
        }
        Plan {
            shards: 1 + rng.below(4) as u16,
            connections_max: if rng.below(5) == 0 { 3 + rng.below(10) as u32 } else { 10_000 },
            faults,
            habits: habits(&mut rng),
            platform,
            keeps: keeping::drawn(&mut Rng::new(mix(seed ^ 0x6b65_6570))),
            rooms: {
                let many = if rng.below(8) == 0 { 12 } else { 1 + rng.below(4) as u8 };
                (0..many).map(|n| char::from(b'a' + n).to_string()).collect()
            },
            buffer_bytes: {
                let least = 64 << rng.below(9);
                (least, least << rng.below(6))
            },
            queue_max: if small { 1 + rng.below(4) as usize } else { 16_384 },
            inbox_max: if small { 1 + rng.below(6) as usize } else { 1024 },
            steps: 100 + rng.below(500),
            step_us_max: [300, 5_000, 60_000, 60_000][rng.below(4) as usize],
            clients_max: 5 + rng.below(60) as usize,
            drains: rng.below(8) == 0,
            config,
            ..calm
        }
    }

    /// That many shards.
    #[must_use]
    pub fn shards(mut self, shards: u16) -> Plan {
        self.shards = shards;
        self
    }

    /// Its viewers are in this room.
    #[must_use]
    pub fn room(mut self, room: &str) -> Plan {
        self.rooms = vec![room.into()];
        self
    }

    /// Changes the configuration.
    #[must_use]
    pub fn config(mut self, change: impl FnOnce(&mut Config)) -> Plan {
        change(&mut self.config);
        self
    }

    /// Changes the rules of rooms.
    #[must_use]
    pub fn rooms(self, change: impl FnOnce(&mut Rooms)) -> Plan {
        self.config(|config| change(&mut config.rooms))
    }

    /// These faults strike.
    #[must_use]
    pub fn faults(mut self, faults: Faults) -> Plan {
        self.faults = faults;
        self
    }

    /// Socket buffers of this size.
    #[must_use]
    pub fn buffers(mut self, bytes: u64) -> Plan {
        self.buffer_bytes = (bytes, bytes);
        self
    }

    /// A shard takes so many connections.
    #[must_use]
    pub fn connections_max(mut self, connections: u32) -> Plan {
        self.connections_max = connections;
        self
    }

    /// The world begins, with nobody in it.
    #[must_use]
    pub fn start(self) -> World {
        World::new(self)
    }

    /// The world begins; so many viewers, of all wire variants in turn, have joined its room.
    #[must_use]
    pub fn viewers(self, viewers: usize) -> World {
        let mut world = self.start();
        world.arrive(viewers);
        world
    }
}

/// Off in a third of the worlds; else anything from hardly ever to `most`, small ones as likely as
/// large ones.
fn weight(rng: &mut Rng, most: u64) -> u64 {
    if rng.below(3) == 0 { 0 } else { (1 + rng.below(most)) >> rng.below(5) }
}

fn faults(rng: &mut Rng) -> Faults {
    // One world in eight has none: what is promised to the healthy is promised there in full.
    if rng.below(8) == 0 {
        return Faults::default();
    }
    Faults {
        recv_partial: weight(rng, 900),
        send_short: weight(rng, 500),
        send_refused: weight(rng, 500),
        event_late: weight(rng, 500),
        closed_late: weight(rng, 1000),
        read_partial: weight(rng, 900),
        reset: weight(rng, 20),
        half_close: weight(rng, 20),
        vanish: weight(rng, 10),
        freeze: weight(rng, 40),
        garbage: weight(rng, 10),
        clock_jump: weight(rng, 20),
        shard_slow: weight(rng, 20),
        turn_spurious: weight(rng, 300),
    }
}

fn habits(rng: &mut Rng) -> Habits {
    let mut some = |most| weight(rng, most);
    Habits {
        connect: 1 + some(6),
        burst: some(2),
        join: 1 + some(10),
        leave: some(6),
        publish: some(60),
        like: some(30),
        ping: some(4),
        hang_up: some(4),
        come_back: some(10),
        blunder: some(4),
        backend_publish: some(10),
        backend_room: some(3),
        backend_user: some(3),
    }
}

fn config(rng: &mut Rng, calm: Config) -> Config {
    let window = [Window::Adaptive, Window::FixedMs(0), Window::FixedMs(100)];
    let defaults = RoomSettings {
        rate_per_s: 1 + rng.below(60) as u32,
        user_rate_per_s: 1 + rng.below(30) as u32,
        slow_mode_s: u32::from(rng.below(5) == 0),
        payload_bytes_max: 64 << rng.below(7),
        viewers_max: if rng.below(6) == 0 { 1 + rng.below(8) as u32 } else { 0 },
        guests_publish: rng.below(8) > 0,
        ..RoomSettings::default()
    };
    let history_messages_max = 1 + rng.below(60) as u32;
    let rooms = Rooms {
        auto_create: rng.below(10) > 0,
        rooms_per_shard_max: if rng.below(8) == 0 { 1 } else { 100 },
        empty_ms_max: if rng.below(3) == 0 { 500 } else { 60_000 },
        window: window[rng.below(3) as usize],
        deadline_ms: 300 + rng.below(2_000) as u32,
        admission_ms: 10 + rng.below(300) as u32,
        history_messages_max,
        history_ms_max: 500 << rng.below(8),
        snapshot_messages_max: rng.below(u64::from(history_messages_max.min(8))) as u32,
        count_every_ms: 100 + rng.below(2_000) as u32,
        likes_every_ms: 100 + rng.below(1_000) as u32,
        likes_per_frame_max: 1_000,
        gifts_per_frame_max: 1_000,
        combo_ms: 3_000,
        combos_max: 4,
        combo_folds_max: 3,
        system_messages_max: 1 + rng.below(8) as u32,
        users_max: 16,
        bans_max: 16,
        poll_voters_max: 16,
        poll_every_ms: 100 + rng.below(1_000) as u32,
        before_publish_ms: 500,
        defaults,
    };
    Config {
        handshake_ms_max: 200 + rng.below(5_000) as u32,
        ping_every_s: [1, 2, 60, 600][rng.below(4) as usize],
        frame_bytes_max: 16 * 1024,
        payload_bytes_max: 16 * 1024,
        rooms_per_connection_max: [1, 4, 4, 12][rng.below(4) as usize],
        frames_per_s_max: if rng.below(6) == 0 { 20 } else { 30_000 },
        reply_bytes_max: 4096 << rng.below(7),
        connections_per_address_max: if rng.below(6) == 0 { 4 } else { 0 },
        handshakes_per_address_per_s: if rng.below(6) == 0 { 8 } else { 0 },
        drain_spread_ms: 100,
        token_checks_per_turn_max: 1 + rng.below(4) as u32,
        rooms,
        ..calm
    }
}
