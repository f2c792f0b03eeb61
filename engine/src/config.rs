//! Every limit of the engine: its default, the arithmetic behind it, and what happens when it is
//! reached. No limit of the engine stands anywhere else.

use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use uproar_proto::control::RoomSettings;
use uproar_proto::issuers::IssuerSettings;

/// Which driver carries the shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IoChoice {
    /// io_uring where the start-up probe succeeds, else epoll; the reason is logged.
    #[default]
    Auto,
    /// io_uring, or refuse to start.
    Uring,
    /// epoll.
    Epoll,
}

/// How long the home gathers admitted messages before it flushes them as one batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Window {
    /// From the measured cost of a sweep: `router/window.rs`.
    #[default]
    Adaptive,
    /// Fixed; 0 flushes every message by itself.
    FixedMs(u32),
}

/// The engine's configuration. `Default` is the demo: loopback, guests, rooms on first join.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where clients connect: all wire variants on one port.
    pub listen: SocketAddr,
    /// `host:port` that clients are told at log-in; empty: `listen`. For nodes behind an address
    /// translation or a name.
    pub public_address: String,
    /// Shard threads; 0: one for each core the process may use. More than cores is allowed: the
    /// open-file limit counts per shard.
    pub shards: u16,
    /// Cores to pin shards to, in turn; empty: the cores the process may use.
    pub cores: Vec<u16>,
    /// Which driver.
    pub io: IoChoice,
    /// Seed of every hash and random choice; 0: from the system at start.
    pub seed: u64,
    /// Longest time to connect and say hello. Reached: `HANDSHAKE_TIMEOUT`, closed.
    pub handshake_ms_max: u32,
    /// How often a client is told to ping. Silence of twice this: `IDLE_TIMEOUT`, closed.
    pub ping_every_s: u32,
    /// The largest content of a publish. Larger: verdict `TOO_LARGE`.
    pub payload_bytes_max: u32,
    /// 64 KiB: the largest default payload (4 KiB) as JSON with every byte escaped six-fold, and
    /// room to raise it. Larger frames: `FRAME_TOO_LARGE`, closed.
    pub frame_bytes_max: u32,
    /// Rooms one connection may be in. More: `TOO_MANY_JOINS`.
    pub rooms_per_connection_max: u32,
    /// Frames a second one connection may send, averaged over two seconds. More: `FLOODING`,
    /// closed.
    pub frames_per_s_max: u32,
    /// Bytes of replies a connection may leave unread beyond its socket: eight snapshots of 32 KiB.
    /// More: `TOO_SLOW`, closed.
    pub reply_bytes_max: u32,
    /// Connections one source address may hold on one shard; 0: no bound. More: `ADDRESS_LIMIT`.
    pub connections_per_address_max: u32,
    /// Handshakes a second from one source address on one shard; 0: no bound. More:
    /// `ADDRESS_LIMIT`.
    pub handshakes_per_address_per_s: u32,
    /// Source addresses a shard keeps count of. Full: new addresses share one count.
    pub addresses_max: u32,
    /// Web origins that may connect; empty: every origin. Others: HTTP 403 with `ORIGIN_REFUSED`.
    pub origins: Vec<String>,
    /// Peers whose connections open with a PROXY protocol v2 header.
    pub proxy_from: Vec<IpAddr>,
    /// Token rules.
    pub tokens: Tokens,
    /// Room rules.
    pub rooms: Rooms,
    /// Drain: the spread clients are told, in which each draws a random wait.
    pub drain_spread_ms: u32,
    /// Drain: longest wait for connections to go, then exit.
    pub drain_ms_max: u32,
    /// `TCP_NOTSENT_LOWAT` of client sockets. Part of the deadline: without it a viewer that
    /// stopped reading swallows megabytes and learns of its lag minutes late.
    pub notsent_lowat_bytes: u32,
    /// `TCP_USER_TIMEOUT` of client sockets: unacknowledged data for this long closes.
    pub user_timeout_ms: u32,
    /// `SO_SNDBUF` of client sockets; 0: the system's own tuning. Bounds what a frozen viewer
    /// costs in the kernel.
    pub send_buffer_bytes: u32,
    /// Connections a shard takes; 0: 90 % of the open-file limit (SO_REUSEPORT is not even).
    /// Full: `SERVER_FULL` while the listener pauses.
    pub connections_per_shard_max: u32,
    /// Messages between shards a queue holds. Full: publishes answer `QUEUE_FULL`, batches are
    /// kept by the sender until it has room.
    pub queue_messages_max: u32,
    /// Signature checks a shard makes in one turn; the rest wait for the next turn, so that a
    /// login storm does not stop the room. 16 EdDSA checks are about a millisecond.
    pub token_checks_per_turn_max: u32,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 7400)),
            public_address: String::new(),
            shards: 0,
            cores: Vec::new(),
            io: IoChoice::Auto,
            seed: 0,
            handshake_ms_max: 5_000,
            ping_every_s: 60,
            payload_bytes_max: 16 * 1024,
            frame_bytes_max: 64 * 1024,
            rooms_per_connection_max: 16,
            frames_per_s_max: 200,
            reply_bytes_max: 256 * 1024,
            connections_per_address_max: 0,
            handshakes_per_address_per_s: 0,
            addresses_max: 65_536,
            origins: Vec::new(),
            proxy_from: Vec::new(),
            tokens: Tokens::default(),
            rooms: Rooms::default(),
            drain_spread_ms: 10_000,
            drain_ms_max: 30_000,
            notsent_lowat_bytes: 16 * 1024,
            user_timeout_ms: 30_000,
            send_buffer_bytes: 0,
            connections_per_shard_max: 0,
            queue_messages_max: 16_384,
            token_checks_per_turn_max: 16,
        }
    }
}

/// Who may connect, and how that is checked. With neither key, only guests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tokens {
    /// HS256 secret, base64; at least 32 bytes once decoded. Empty: HS256 tokens are refused.
    pub hs256_secret: String,
    /// EdDSA (Ed25519) public key, PEM. Empty: EdDSA tokens are refused.
    pub eddsa_public_key: String,
    /// Foreign issuers whose tokens are taken as well.
    pub issuers: Vec<IssuerSettings>,
    /// Whether connections without a token are admitted. Unset: only where no key is set (demo).
    pub guests: Option<bool>,
}

/// Rooms: how many, how they begin, what they keep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rooms {
    /// Whether the first join creates a room. Off: `ROOM_NOT_FOUND`.
    pub auto_create: bool,
    /// Rooms whose home is on one shard. More: `TOO_MANY_ROOMS`.
    pub rooms_per_shard_max: u32,
    /// An automatically created room without members ends after this long.
    pub empty_ms_max: u32,
    /// Settings of a room that was created without saying more.
    pub defaults: RoomSettings,
    /// `"adaptive"` or milliseconds.
    #[serde(with = "window_text")]
    pub window: Window,
    /// S: what is delivered is handed to the socket within this time of being offered; an older
    /// message is counted as expired, not sent.
    pub deadline_ms: u32,
    /// Above the cap, admission decides once a window of this length.
    pub admission_ms: u32,
    /// Messages a room keeps for joins and resumes, on its home and on each shard with members.
    pub history_messages_max: u32,
    /// And for how long.
    pub history_ms_max: u32,
    /// The last messages a join without a cursor is shown.
    pub snapshot_messages_max: u32,
    /// Viewer counts are pushed at most this often.
    pub count_every_ms: u32,
    /// The like counter is pushed at most this often.
    pub likes_every_ms: u32,
    /// Likes one frame may stand for: a thumb's taps of a second or two. More: the frame is refused
    /// and counted.
    pub likes_per_frame_max: u32,
    /// Gifts one frame may stand for. More: refused with `LIMIT_REACHED`.
    pub gifts_per_frame_max: u32,
    /// The longest pause between two gifts of one combo, counted from its last one; as long as
    /// `deadline_ms` at least, so that none is over while a gift of it waits.
    pub combo_ms: u32,
    /// Combos of a room that may go on at once: some 200 bytes each, no more of them than the room
    /// admits gifts within `combo_ms`. Full: the longest idle is cut, its next gift begins another.
    pub combos_max: u32,
    /// Gifts folded into one message that is not flushed yet, 56 bytes each. More: shed.
    pub combo_folds_max: u32,
    /// Accepted `system` messages that may wait for a flush. Full: refused with a retry time.
    pub system_messages_max: u32,
    /// Users a room remembers for limits, slow mode and mutes. Full: the longest idle is forgotten.
    pub users_max: u32,
    /// Users, devices and addresses that are banned from one room, about 100 bytes each. Full: the
    /// ban that ends first makes room, counted. A store keeps as many bans of a room, and as many
    /// mutes.
    pub bans_max: u32,
    /// Users who may answer one poll: 9 to 20 bytes each while it is open, 36 MiB at the default.
    /// More: their answers are refused with `LIMIT_REACHED`.
    pub poll_voters_max: u32,
    /// Counts of a poll are pushed at most this often; its last ones at once.
    pub poll_every_ms: u32,
    /// How long a message waits for its platform's decision, in rooms that ask for it. Reached: it
    /// passes or is refused with `HOOK_DOWN`, as the room's `before_publish` says.
    pub before_publish_ms: u32,
}

impl Default for Rooms {
    fn default() -> Rooms {
        Rooms {
            auto_create: true,
            rooms_per_shard_max: 10_000,
            empty_ms_max: 60_000,
            defaults: RoomSettings::default(),
            window: Window::Adaptive,
            deadline_ms: 2_000,
            admission_ms: 250,
            history_messages_max: 200,
            history_ms_max: 60_000,
            snapshot_messages_max: 20,
            count_every_ms: 2_000,
            likes_every_ms: 1_000,
            likes_per_frame_max: 100,
            gifts_per_frame_max: 1_000,
            combo_ms: 5_000,
            combos_max: 1_000,
            combo_folds_max: 4_000,
            system_messages_max: 64,
            users_max: 10_000,
            bans_max: 10_000,
            poll_voters_max: 2_000_000,
            poll_every_ms: 1_000,
            before_publish_ms: 500,
        }
    }
}

mod window_text {
    use super::Window;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Text {
        Word(String),
        Ms(u32),
    }

    pub(super) fn serialize<S: Serializer>(window: &Window, s: S) -> Result<S::Ok, S::Error> {
        match window {
            Window::Adaptive => Text::Word("adaptive".into()).serialize(s),
            Window::FixedMs(ms) => Text::Ms(*ms).serialize(s),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Window, D::Error> {
        match Text::deserialize(d)? {
            Text::Word(word) if word == "adaptive" => Ok(Window::Adaptive),
            Text::Word(word) => Err(serde::de::Error::custom(format!(
                "window is {word:?}; allowed are \"adaptive\" or a number of milliseconds"
            ))),
            Text::Ms(ms) => Ok(Window::FixedMs(ms)),
        }
    }
}

impl Config {
    fn check_public_address(&self) -> Result<(), String> {
        let address = self.public_address.as_str();
        let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
        let port = port.and_then(|(_, port)| port.parse::<u16>().ok()).filter(|port| *port > 0);
        if address.is_empty() || (port.is_some() && address.len() <= 255) {
            return Ok(());
        }
        Err(format!("public_address is {address:?}; allowed is host:port, 255 bytes at most"))
    }

    /// The first rule the configuration breaks, in words: which key, what it is, what is allowed.
    ///
    /// # Errors
    /// The sentence to show.
    pub fn check(&self) -> Result<(), String> {
        self.check_public_address()?;
        let r = &self.rooms;
        let ranges = [
            ("handshake_ms_max", self.handshake_ms_max, 100, 60_000),
            ("ping_every_s", self.ping_every_s, 1, 3_600),
            ("payload_bytes_max", self.payload_bytes_max, 1, 1 << 20),
            ("frame_bytes_max", self.frame_bytes_max, 1024, 8 << 20),
            ("rooms_per_connection_max", self.rooms_per_connection_max, 1, 256),
            ("frames_per_s_max", self.frames_per_s_max, 1, 30_000),
            ("reply_bytes_max", self.reply_bytes_max, 4096, 16 << 20),
            ("addresses_max", self.addresses_max, 1, 1 << 24),
            ("notsent_lowat_bytes", self.notsent_lowat_bytes, 1024, 1 << 24),
            ("queue_messages_max", self.queue_messages_max, 64, 1 << 20),
            ("token_checks_per_turn_max", self.token_checks_per_turn_max, 1, 100_000),
            ("rooms.rooms_per_shard_max", r.rooms_per_shard_max, 1, 1 << 20),
            ("rooms.deadline_ms", r.deadline_ms, 100, 60_000),
            ("rooms.admission_ms", r.admission_ms, 10, 1_000),
            ("rooms.history_messages_max", r.history_messages_max, 1, 10_000),
            ("rooms.snapshot_messages_max", r.snapshot_messages_max, 0, r.history_messages_max),
            ("rooms.count_every_ms", r.count_every_ms, 100, 60_000),
            ("rooms.likes_every_ms", r.likes_every_ms, 100, 60_000),
            ("rooms.likes_per_frame_max", r.likes_per_frame_max, 1, 1_000_000),
            ("rooms.gifts_per_frame_max", r.gifts_per_frame_max, 1, 1_000_000),
            ("rooms.combo_ms", r.combo_ms, r.deadline_ms, 600_000),
            ("rooms.combos_max", r.combos_max, 1, 1 << 20),
            ("rooms.combo_folds_max", r.combo_folds_max, 1, 100_000),
            ("rooms.system_messages_max", r.system_messages_max, 1, 10_000),
            ("rooms.users_max", r.users_max, 16, 1 << 20),
            ("rooms.bans_max", r.bans_max, 16, 1 << 20),
            ("rooms.poll_voters_max", r.poll_voters_max, 1, 1 << 26),
            ("rooms.poll_every_ms", r.poll_every_ms, 100, 60_000),
            ("rooms.before_publish_ms", r.before_publish_ms, 50, 5_000),
        ];
        for (name, value, min, max) in ranges {
            if value < min || value > max {
                return Err(format!("{name} is {value}; allowed is {min} to {max}"));
            }
        }
        if let Window::FixedMs(ms) = r.window
            && ms >= r.deadline_ms
        {
            return Err(format!(
                "rooms.window is {ms} ms; it must be below rooms.deadline_ms ({})",
                r.deadline_ms
            ));
        }
        r.defaults.check(self.payload_bytes_max).map_err(|e| format!("rooms.defaults: {e}"))
    }
}
