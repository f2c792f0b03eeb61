//! What control may ask of the engine, and the figures it may read. Engine and control know each
//! other by this module alone.
//!
//! `control` is never called on the live path: nothing here is awaited by a shard.

use crate::blocks::BlockList;
use crate::error::Code;
use crate::ids::{CONVERSATION_BYTES_MAX, Epoch, McastId, RoomId};
use crate::token::USER_BYTES_MAX;
use crate::v1::{self, client_frame, server_frame};
use crate::wire::error_body;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// Whether a platform decides about messages of a room before anybody sees them, and what holds
/// where it does not decide in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BeforePublish {
    /// Nobody is asked.
    #[default]
    Off,
    /// Without a decision a message passes.
    Open,
    /// Without a decision it is refused with `HOOK_DOWN`.
    Closed,
}

/// What a room is set to. Shown and set over HTTP; every field has a default in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RoomSettings {
    /// Free text of the application; at most 16 keys, 16 KiB in all.
    pub attributes: BTreeMap<String, String>,
    /// Messages a second the room admits (system messages are apart); 1 to 10,000.
    pub rate_per_s: u32,
    /// Messages a second one user may offer before `SLOW_DOWN`; 1 to 1,000.
    pub user_rate_per_s: u32,
    /// Seconds between two messages of one user; 0: no slow mode.
    pub slow_mode_s: u32,
    /// The largest content, in bytes.
    pub payload_bytes_max: u32,
    /// Viewers the room takes; 0: no bound but the node's.
    pub viewers_max: u32,
    /// Whether guests may publish here.
    pub guests_publish: bool,
    /// Whether what is said here is held against the list of words and rules.
    pub filter: bool,
    /// Nobody may publish but who is exempt, on the list `allowed`, or a backend; likes pass.
    pub mute_all: bool,
    /// Users whom neither `mute_all`, `slow_mode_s` nor `followers_only_s` concerns; at most 1,000
    /// names.
    pub allowed: BTreeSet<String>,
    /// A chat text that the room accepted within so many seconds is refused; 0: it may come again.
    pub unique_s: u32,
    /// What is admitted reaches viewers so many milliseconds later, moderators at once; to 5,000.
    pub delay_ms: u32,
    /// Members are told who comes in.
    pub enter_events: bool,
    /// Whether the platform decides about chat and gifts before anybody sees them.
    pub before_publish: BeforePublish,
    /// Chat is for who follows the room for at least so many seconds; to 31,536,000. `None`: off.
    pub followers_only_s: Option<u32>,
}

impl Default for RoomSettings {
    fn default() -> RoomSettings {
        RoomSettings {
            attributes: BTreeMap::new(),
            rate_per_s: 20, // the numeric contract of a live room: 20 msg/s on every screen
            user_rate_per_s: 5,
            slow_mode_s: 0,
            payload_bytes_max: 4096,
            viewers_max: 0,
            guests_publish: true,
            filter: true,
            mute_all: false,
            allowed: BTreeSet::new(),
            unique_s: 0,
            delay_ms: 0,
            enter_events: false,
            before_publish: BeforePublish::Off,
            followers_only_s: None,
        }
    }
}

impl RoomSettings {
    /// The first rule the settings break, in words: which field, what it is, what is allowed.
    ///
    /// # Errors
    /// The sentence to show to whoever sent them.
    pub fn check(&self, payload_bytes_max: u32) -> Result<(), String> {
        let ranges = [
            ("rate_per_s", self.rate_per_s, 1, 10_000),
            ("user_rate_per_s", self.user_rate_per_s, 1, 1_000),
            ("slow_mode_s", self.slow_mode_s, 0, 86_400),
            ("payload_bytes_max", self.payload_bytes_max, 1, payload_bytes_max),
            ("unique_s", self.unique_s, 0, 3_600),
            ("delay_ms", self.delay_ms, 0, 5_000),
            ("followers_only_s", self.followers_only_s.unwrap_or(0), 0, FOLLOWERS_ONLY_S_MAX),
        ];
        for (name, value, min, max) in ranges {
            if value < min || value > max {
                return Err(format!("{name} is {value}; allowed is {min} to {max}"));
            }
        }
        if self.allowed.len() > ALLOWED_MAX {
            let names = self.allowed.len();
            return Err(format!("allowed has {names} names; allowed are {ALLOWED_MAX}"));
        }
        let is_name = |name: &String| (1..=USER_BYTES_MAX).contains(&name.len());
        if let Some(name) = self.allowed.iter().find(|name| !is_name(name)) {
            let (shown, bytes) = (name.chars().take(80).collect::<String>(), name.len());
            return Err(format!(
                "allowed has {shown:?} of {bytes} bytes; a user has 1 to {USER_BYTES_MAX}"
            ));
        }
        check_attributes(&self.attributes)
    }

    /// Whether a user may publish as far as `mute_all` goes.
    #[must_use]
    pub fn may_speak(&self, user: &str) -> bool {
        !self.mute_all || self.allowed.contains(user)
    }

    /// Whether a user who follows the room since `since_s` (seconds since 1970; `None`: it does
    /// not) may chat, as far as `followers_only_s` goes.
    ///
    /// # Errors
    /// Milliseconds until it may; 0 where that is not known, since it does not follow.
    pub fn may_chat(&self, user: &str, since_s: Option<u64>, now_ms: u64) -> Result<(), u32> {
        let Some(long_s) = self.followers_only_s else { return Ok(()) };
        if self.allowed.contains(user) {
            return Ok(());
        }
        let from_ms = since_s.ok_or(0_u32)?.saturating_add(u64::from(long_s)).saturating_mul(1000);
        match from_ms.saturating_sub(now_ms) {
            0 => Ok(()),
            left_ms => Err(u32::try_from(left_ms).unwrap_or(u32::MAX)),
        }
    }

    /// Seconds between two messages of this user.
    #[must_use]
    pub fn slow_mode_s_of(&self, user: &str) -> u32 {
        if self.allowed.contains(user) { 0 } else { self.slow_mode_s }
    }
}

/// The longest that one may have to follow a room before speaking in it: a year.
const FOLLOWERS_ONLY_S_MAX: u32 = 31_536_000;
/// Users on a room's list of those who may always speak: a show's hosts, moderators and bots.
const ALLOWED_MAX: usize = 1_000;

/// Which bound the attributes of a room break, in words.
///
/// # Errors
/// The sentence to show to whoever sent them.
pub fn check_attributes(attributes: &BTreeMap<String, String>) -> Result<(), String> {
    if attributes.len() > 16 {
        return Err(format!("attributes has {} keys; allowed are 16", attributes.len()));
    }
    if let Some(key) = attributes.keys().find(|k| k.is_empty() || k.chars().any(char::is_control)) {
        return Err(format!(
            "attributes has the key {key:?}; a key is text without control characters"
        ));
    }
    let bytes: usize = attributes.iter().map(|(k, v)| k.len() + v.len()).sum();
    if bytes > 16 * 1024 {
        return Err(format!("attributes hold {bytes} bytes; allowed are 16384"));
    }
    Ok(())
}

/// A change of some attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttributeChange {
    /// Keys that get a value.
    pub set: BTreeMap<String, String>,
    /// Keys that go; one that is not there is no error.
    pub remove: Vec<String>,
    /// Only where the attributes have this version.
    pub if_version: Option<u64>,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttributesOutcome {
    /// The attributes now; the version is the old one where nothing is different.
    Changed { version: u64, attributes: BTreeMap<String, String> },
    /// They have another version than the caller knows, this one; nothing was changed.
    Conflict { version: u64 },
    /// They would break a bound; nothing was changed.
    TooMuch { text: String },
}

/// Attributes of a room that the server itself looks at: `danmaku` (`on`) archives its lines.
pub const STEERING_ATTRIBUTES: [&str; 1] = ["danmaku"];

/// What is pinned in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pin {
    /// A message of its history.
    Seq(u64),
    /// A text that is not in its stream.
    Text { user: String, text: String },
}

/// Which messages of a room are recalled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recall {
    /// These; those that the room has not had are left out.
    Seqs(Vec<u64>),
    /// These, unless one of them is of one of these users, or of nobody the room remembers: then
    /// none, and `Forbidden`.
    SeqsBut { seqs: Vec<u64>, spared: BTreeSet<String> },
    /// All of this user that the room remembers.
    User(String),
}

/// Answers a poll may have to choose from.
pub const POLL_OPTIONS: std::ops::RangeInclusive<usize> = 2..=16;
/// The longest question and the longest answer, bytes.
pub const POLL_TEXT_BYTES_MAX: usize = 256;
/// The longest poll: an hour, in seconds.
pub const POLL_S_MAX: u32 = 3_600;

/// A question to a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPoll {
    /// The question.
    pub question: String,
    /// 2 to 16 answers to choose from.
    pub options: Vec<String>,
    /// How long answers are taken, in seconds.
    pub duration_s: u32,
}

impl NewPoll {
    /// The first rule it breaks, in words.
    ///
    /// # Errors
    /// The sentence to show to whoever sent it.
    pub fn check(&self) -> Result<(), String> {
        let (min, max) = (POLL_OPTIONS.start(), POLL_OPTIONS.end());
        if !POLL_OPTIONS.contains(&self.options.len()) {
            let many = self.options.len();
            return Err(format!("options has {many} answers; allowed are {min} to {max}"));
        }
        let texts = self.options.iter().chain([&self.question]);
        if let Some(text) =
            texts.into_iter().find(|t| !(1..=POLL_TEXT_BYTES_MAX).contains(&t.len()))
        {
            let (bytes, max) = (text.len(), POLL_TEXT_BYTES_MAX);
            return Err(format!(
                "a question or an answer has {bytes} bytes; allowed is 1 to {max}"
            ));
        }
        if !(1..=POLL_S_MAX).contains(&self.duration_s) {
            let is = self.duration_s;
            return Err(format!("duration_s is {is}; allowed is 1 to {POLL_S_MAX}"));
        }
        Ok(())
    }
}

/// A poll as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PollInfo {
    /// Its number in this life of the room.
    pub poll: u32,
    /// As asked.
    pub question: String,
    /// As asked.
    pub options: Vec<String>,
    /// Answers, by option.
    pub votes: Vec<u64>,
    /// Answers that were not counted: of users who had answered, or too late.
    pub refused: u64,
    /// When it takes no more, milliseconds since 1970.
    pub ends_ms: u64,
    /// No more are counted.
    pub over: bool,
}

/// A room as the node sees it now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomInfo {
    /// Its name.
    pub room: String,
    /// As set.
    pub settings: RoomSettings,
    /// Hexadecimal; compared for equality only.
    pub epoch: String,
    /// The newest seq.
    pub seq: u64,
    /// Connections in the room, exact but for what is on its way between shards.
    pub viewers: u64,
    /// Likes since the room began.
    pub likes: u64,
    /// The version of its attributes.
    pub attributes_version: u64,
    /// Shards with at least one member.
    pub shards: u32,
}

/// A message from a backend. It passes the room's limit as any other of its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendMessage {
    /// Shown as the sender.
    pub user: String,
    /// What is shed first; backends may use every class but `Like`.
    pub class: crate::v1::Class,
    /// The content.
    pub content: Content,
    /// 1 to 16 bytes; comes back in the outcome's place, not deduplicated.
    pub client_msg_id: Bytes,
    /// Class `Gift` only: the gift's name, with which gifts of one user become combos. The content
    /// may be empty then.
    pub gift: Option<String>,
    /// How many of it; 0 counts as 1.
    pub count: u32,
}

/// The longest name of a gift, bytes.
pub const GIFT_BYTES_MAX: usize = 32;

/// Whether a gift may be called so: 1 to 32 bytes, of which none is a character that shows nothing
/// or turns the text around it, as in names of users.
#[must_use]
pub fn is_gift_name(name: &str) -> bool {
    (1..=GIFT_BYTES_MAX).contains(&name.len()) && !name.chars().any(crate::names::is_hidden)
}

/// What a message carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// UTF-8, checked.
    Text(Bytes),
    /// Any bytes.
    Data(Bytes),
}

impl Content {
    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Content::Text(b) | Content::Data(b) => b.len(),
        }
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What became of a backend's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The verdict.
    pub outcome: crate::v1::Outcome,
    /// Accepted: its seq.
    pub seq: u64,
    /// Not accepted: why.
    pub code: Option<Code>,
    /// Not accepted: when to try again, milliseconds.
    pub retry_after_ms: u32,
}

/// Called once, on a shard's thread, with the answer; must not block.
pub type Reply<T> = Box<dyn FnOnce(Result<T, Code>) + Send>;

/// What control may ask of the engine. Each is carried to the room's home and answered from there.
pub enum Command {
    /// Creates a room; `AlreadyExists`, `TooManyRooms`.
    Create { room: RoomId, settings: Box<RoomSettings>, reply: Reply<RoomInfo> },
    /// Tells what a room is now; `RoomNotFound`.
    Get { room: RoomId, reply: Reply<RoomInfo> },
    /// Replaces the settings; members are told of attributes that changed.
    Update { room: RoomId, settings: Box<RoomSettings>, reply: Reply<RoomInfo> },
    /// Ends a room: members get `Left` with `ROOM_CLOSED`.
    Close { room: RoomId, reply: Reply<()> },
    /// Offers messages to a room; one outcome each, in order, once all are decided.
    Publish { room: RoomId, messages: Vec<BackendMessage>, reply: Reply<Vec<Published>> },
    /// Removes a user's connections from a room, and refuses the user, and where they come from as
    /// `with` says, for `ban_s` seconds.
    Kick { room: RoomId, user: String, ban_s: u32, with: BanWith, reply: Reply<Kicked> },
    /// Ends a user's ban, with the devices and addresses that came with it; whether there was one.
    Unban { room: RoomId, user: String, reply: Reply<bool> },
    /// Tells who is banned in a room: by name, at most `limit` of those behind `after`.
    Bans { room: RoomId, after: String, limit: usize, reply: Reply<Vec<BanInfo>> },
    /// The user's publishes are refused for `mute_s` seconds (0 ends a mute).
    Mute { room: RoomId, user: String, mute_s: u32, reply: Reply<()> },
    /// Recalls messages: members are told, and the room shows them to nobody any more. Their seqs.
    Recall { room: RoomId, what: Recall, reply: Reply<Vec<u64>> },
    /// Changes some attributes: members are told.
    Attributes { room: RoomId, change: AttributeChange, reply: Reply<AttributesOutcome> },
    /// Pins a message in place of the one that is pinned, or none; `NotFound`.
    Pin { room: RoomId, pin: Option<Pin>, reply: Reply<()> },
    /// Tells who is in the room: a uniform sample of at most `limit` users.
    Members { room: RoomId, limit: usize, reply: Reply<Present> },
    /// Asks the room a question; `LimitReached` where as many are open as may be.
    OpenPoll { room: RoomId, poll: NewPoll, reply: Reply<PollInfo> },
    /// Tells how a poll stands; `end`: no more answers are taken from now on. `NotFound`.
    Poll { room: RoomId, poll: u32, end: bool, reply: Reply<PollInfo> },
}

impl Command {
    /// Answers it with a code: nothing was done.
    pub fn refuse(self, code: Code) {
        match self {
            Command::Create { reply, .. }
            | Command::Get { reply, .. }
            | Command::Update { reply, .. } => reply(Err(code)),
            Command::Close { reply, .. }
            | Command::Mute { reply, .. }
            | Command::Pin { reply, .. } => reply(Err(code)),
            Command::Publish { reply, .. } => reply(Err(code)),
            Command::Kick { reply, .. } => reply(Err(code)),
            Command::Unban { reply, .. } => reply(Err(code)),
            Command::Bans { reply, .. } => reply(Err(code)),
            Command::Recall { reply, .. } => reply(Err(code)),
            Command::Members { reply, .. } => reply(Err(code)),
            Command::Attributes { reply, .. } => reply(Err(code)),
            Command::OpenPoll { reply, .. } | Command::Poll { reply, .. } => reply(Err(code)),
        }
    }
}

/// What is refused beside a banned user, as far as its connections in the room tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BanWith {
    /// Their devices.
    pub devices: bool,
    /// Their addresses: an IPv4 address whole, of an IPv6 one its /64.
    pub addresses: bool,
}

/// What a kick did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kicked {
    /// Connections of the user that were removed.
    pub connections: u32,
    /// Different devices and addresses that are refused with it.
    pub devices: u32,
    pub addresses: u32,
}

/// A ban of a room. Where the devices and addresses are, nobody is told: they are kept as hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BanInfo {
    /// Whose.
    pub user: String,
    /// Until when, milliseconds since 1970.
    pub until_ms: u64,
    /// Devices and addresses that are refused with the user.
    pub devices: u32,
    pub addresses: u32,
}

/// Who is in a room: a few of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// Connections in the room, counted now.
    pub connections: u64,
    /// Different users, each as likely as any other; in no order.
    pub users: Vec<String>,
}

/// Users of one sample, at most.
pub const SAMPLE_USERS_MAX: usize = 300;

/// A connection with an inbox, as control sees it: it comes back with every answer. `serial` is
/// never used twice by a shard, so an answer never reaches another connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    /// The node that owns it, as control numbers those it is linked to; 0 where both are one
    /// process, and within an engine.
    pub node: u16,
    /// The shard of the node.
    pub shard: u16,
    /// Its slot there.
    pub conn: u32,
    /// Counts the inboxes of the shard.
    pub serial: u64,
}

/// When the next report of a session is due, milliseconds.
pub const REPORT_EVERY_MS: u32 = 10_000;

/// Reports of the quality of streams, as a connection brought them. The answer is a [`Tell::Show`]
/// of [`v1::Reported`]; a client that gets none reports again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Where the answer goes; `serial` is the generation of its slot.
    pub from: ConnectionId,
    /// The user that its token names; `None`: a guest.
    pub user: Option<Arc<str>>,
    /// Where it comes from, beyond proxies that are trusted: an IPv4 address, or the first one of
    /// an IPv6 /64. `None`: not known.
    pub address: Option<IpAddr>,
    /// Of the client; comes back in the answer.
    pub id: u32,
    /// `QualityReports` as protobuf, unread.
    pub reports: Bytes,
}

/// Says why reports were not looked at.
#[must_use]
pub fn unreported(id: u32, code: Code) -> server_frame::Body {
    let (next_ms, text) = (REPORT_EVERY_MS, code.text().to_owned());
    let code = code.number();
    server_frame::Body::Reported(v1::Reported { id, next_ms, code, text, ..Default::default() })
}

/// What the engine asks of control for a connection with an inbox.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// Who asks.
    pub from: ConnectionId,
    /// Counts what the connection asks, and comes back with the answer: whoever carries asks knows
    /// by it which of them are still owed one.
    pub number: u32,
    /// The user its token names.
    pub user: Arc<str>,
    /// What.
    pub what: Asked,
}

/// See [`Ask`].
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// It wants its inbox: which groups is the user in, and is the login still open that its token
    /// was minted for (where it names one)? Answered by exactly one [`Tell::Opened`].
    Open { login: Option<Arc<str>> },
    /// A frame about conversations: send, sync, pull, mark, react, signal or watch. Answered by
    /// exactly one [`Tell::Answer`].
    Frame(client_frame::Body),
}

/// Who has come to a shard, who has gone, and which watching connections have ended. Best effort: a
/// lost one heals, since a shard says again within [`SEEN_AGAIN_MS`] who is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The node of the shard, as in [`ConnectionId`].
    pub node: u16,
    /// The shard that says it.
    pub shard: u16,
    /// Users, in order: whether a connection with an inbox is there now.
    pub users: Vec<(Arc<str>, bool)>,
    /// Connections that had sent `watch`, and are gone.
    pub ended: Vec<ConnectionId>,
}

/// Lines that a room has admitted, for its archive: in order, without a hole. Best effort: what is
/// lost on the way shows as a jump of `seq`.
#[derive(Clone, Debug, PartialEq)]
pub struct Lines {
    /// Whose.
    pub room: RoomId,
    /// Which life of the room.
    pub epoch: Epoch,
    /// As viewers got them. Those that were recalled before are `gone`, without content.
    pub messages: Vec<v1::Message>,
    /// Lines that were recalled, by seq; they came before.
    pub recalled: Vec<u64>,
    /// All that a user had said up to a seq: each by `user` and `up_to_seq`.
    pub recalled_of: Vec<v1::Recalled>,
}

/// A message of a room that its platform is to decide about before anybody sees it. Best effort:
/// where no answer comes the room does as it is set to.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The node of the room, as in [`ConnectionId`].
    pub node: u16,
    /// Which room.
    pub room: RoomId,
    /// Which life of it.
    pub epoch: Epoch,
    /// Counts the questions of that life; comes back with the answer.
    pub number: u64,
    /// How long the room waits for the answer, in milliseconds.
    pub wait_ms: u32,
    /// As viewers would get it. It has no seq yet.
    pub message: v1::Message,
}

impl Question {
    /// The answer to it.
    #[must_use]
    pub fn judged(&self, judgement: Judgement) -> Tell {
        let Question { node, epoch, number, .. } = *self;
        Tell::Judged { node, room: self.room.clone(), epoch, number, judgement }
    }
}

/// What a room may hold against a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PenaltyKind {
    /// It may not enter.
    Ban,
    /// It may not speak.
    Mute,
}

/// What a room holds against a user, and how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Penalty {
    /// Which.
    pub kind: PenaltyKind,
    /// Whose; never a guest's, whose name is another one's after a restart.
    pub user: String,
    /// Until when, milliseconds since 1970; 0: it has ended before its time.
    pub until_ms: u64,
}

/// What the home of a room has decided about users, for whoever keeps it beyond the room's life: in
/// order, and each decision in place of an earlier one of its kind about its user. May come twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Penalties {
    /// Which room.
    pub room: RoomId,
    /// As decided.
    pub list: Vec<Penalty>,
}

/// Where a page of what is kept begins: behind this one.
pub type PenaltyMark = (PenaltyKind, String);

/// A room that begins asks what is kept of its former lives. Asked behind everything that it was
/// told to keep. Best effort: a room that is not told asks again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptQuestion {
    /// The node of the room, as in [`ConnectionId`].
    pub node: u16,
    /// Which room.
    pub room: RoomId,
    /// Which life of it.
    pub epoch: Epoch,
    /// Counts the questions of that life; comes back with the answer.
    pub number: u32,
    /// Behind what it was told already; `None`: from the beginning on.
    pub after: Option<PenaltyMark>,
}

impl KeptQuestion {
    /// The answer to it.
    #[must_use]
    pub fn told(&self, list: Vec<Penalty>, is_all: bool) -> Tell {
        let KeptQuestion { node, epoch, number, .. } = *self;
        Tell::Kept(Box::new(Kept { node, room: self.room.clone(), epoch, number, list, is_all }))
    }
}

/// What is kept of a room's former lives, a page of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// As in the question.
    pub node: u16,
    /// As in the question.
    pub room: RoomId,
    /// As in the question.
    pub epoch: Epoch,
    /// As in the question.
    pub number: u32,
    /// By kind and user; at most [`KEPT_PAGE`].
    pub list: Vec<Penalty>,
    /// There is no more behind them.
    pub is_all: bool,
}

/// What is kept of a room is told in pages of so many, 40 KiB with the longest names.
pub const KEPT_PAGE: usize = 500;

/// What a platform says of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It is shown as it is.
    Allow,
    /// It is shown with this text in place of its content.
    Replace(String),
    /// It is shown to nobody; its sender is told this code, and perhaps why.
    Refuse(Code, String),
    /// There is no decision, and none will come: what the room declared holds.
    Undecided,
}

/// How often a shard says who is there: a third of what control believes it for.
pub const SEEN_AGAIN_MS: u64 = 10_000;

/// Whose connections are closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// A user's, by name.
    User(String),
    /// Those whose tokens were minted for one login session.
    Session(String),
}

/// A user's membership of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The group's id.
    pub group: String,
    /// The group's seq at which it began: tells it from an earlier one.
    pub since_seq: u64,
}

/// What control tells the engine. Told in order, events of one mcast arrive in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Tell {
    /// The answer to [`Asked::Open`]: the user's groups, or why there is no inbox.
    Opened { to: ConnectionId, number: u32, groups: Result<Vec<Membership>, Code> },
    /// The answer to one [`Asked::Frame`]: frames for that connection, perhaps none.
    Answer { to: ConnectionId, number: u32, frames: Vec<server_frame::Body> },
    /// A frame for one connection that it did not ask for just now.
    Show { to: ConnectionId, frame: Box<server_frame::Body> },
    /// A frame for every connection of an mcast.
    Push { mcast: McastId, frame: Box<server_frame::Body> },
    /// A frame about the message `target_seq` of a group. Members whose membership began at that
    /// seq or later cannot see the message, and get `blank`.
    PushAbout {
        mcast: McastId,
        target_seq: u64,
        frame: Box<server_frame::Body>,
        blank: Box<server_frame::Body>,
    },
    /// The user has become a member: its connections join the group's mcast and sync.
    Join { user: String, membership: Membership },
    /// The user is no member any more: its connections get nothing that is pushed to the group
    /// after this. A membership that began after `seq` stays.
    Leave { user: String, group: String, seq: u64 },
    /// Pushes to an mcast were lost before they reached the engine.
    Resync { mcast: McastId },
    /// Closes connections: all of a user, or those of one login session.
    Close { of: Closed, code: Code },
    /// What was told before may not have arrived: memberships may have ended unheard. Every inbox
    /// leaves its groups, asks for them again, and syncs. What was asked before was answered before
    /// this. `number` rises; one that is told twice is carried out once.
    Anew { number: u64 },
    /// A message to every connection that is in a room. `id` is random; one that is told twice is
    /// shown once.
    Announce { id: u64, message: Box<v1::Message> },
    /// Which life of the store is served from now on: told to every shard, before anything else.
    Generation(u64),
    /// The answer to a [`Question`]; one that comes too late is not looked at.
    Judged { node: u16, room: RoomId, epoch: Epoch, number: u64, judgement: Judgement },
    /// The answer to a [`KeptQuestion`]; one for another life of the room is not looked at.
    Kept(Box<Kept>),
    /// What messages of rooms are held against from now on, once it is compiled: on a thread of the
    /// engine's own, while what was told before goes on. Told to every node, and again to each that
    /// begins anew; of two, the last one told counts.
    Filter(Arc<FilterList>),
    /// Which devices and networks may not connect from now on, and are closed where they are
    /// connected. As [`Tell::Filter`]: compiled beside the shards, told to every node and again to
    /// each that begins anew; of two, the last one told counts.
    Blocks(Arc<BlockList>),
}

/// Words and regular expressions that messages are held against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterList {
    /// Counts the changes of the list; 0: it was never set.
    pub version: u64,
    /// One word a line.
    pub words: String,
    /// One regular expression a line.
    pub regexes: String,
}

/// The part of control that the engine calls: off the live path, on a thread of its own.
pub trait Control: Send + Sync {
    /// Takes a request in without blocking; its answer comes by [`Engine::tell`], and is a
    /// [`refusal`] with `QUEUE_FULL` where too many wait.
    fn ask(&self, ask: Ask);

    /// Learns who is online, without blocking. Who does not care need not listen.
    fn seen(&self, _seen: Seen) {}

    /// Learns what an archived room has admitted, without blocking. Who keeps no archive need not
    /// listen.
    fn lines(&self, _lines: Lines) {}

    /// Learns of a message that its room's platform is to decide about, without blocking. Who asks
    /// nobody need not listen: the room waits its time and does as it is set to.
    fn question(&self, _question: Question) {}

    /// Learns whom rooms keep out or silence, to keep it beyond their lives, without blocking. Who
    /// keeps nothing need not listen.
    fn penalties(&self, _penalties: Penalties) {}

    /// Learns that a room begins and wants to know what is kept of it, without blocking. Who does
    /// not answer is asked again.
    fn kept(&self, _question: KeptQuestion) {}

    /// Learns how the streams of a connection are, without blocking. Who counts nothing need not
    /// listen; what is dropped is in the totals of the next report.
    fn report(&self, _report: Report) {}
}

/// When a frame that was refused for want of room may be tried again.
pub(crate) const RETRY_AFTER_MS: u32 = 250;
/// The same where the store or the way to it is down.
const DOWN_AFTER_MS: u32 = 1_000;

/// Says why a frame about conversations led to nothing, in the answer that its kind has.
#[must_use]
pub fn refusal(body: &client_frame::Body, code: Code) -> server_frame::Body {
    let retry_after_ms = match code {
        Code::StoreDown => DOWN_AFTER_MS,
        code if code.retry() => RETRY_AFTER_MS,
        _ => 0,
    };
    // A name too long to be one is not worth sending back whole.
    let short = |text: &str| text.chars().take(CONVERSATION_BYTES_MAX).collect();
    match body {
        client_frame::Body::React(react) => server_frame::Body::Reacted(v1::Reacted {
            conversation: short(&react.conversation),
            seq: react.seq,
            reaction: short(&react.reaction),
            remove: react.remove,
            code: code.number(),
            retry: code.retry(),
            retry_after_ms,
        }),
        client_frame::Body::Send(send) => server_frame::Body::Sent(v1::Sent {
            conversation: short(&send.conversation),
            client_msg_id: send.client_msg_id.slice(..send.client_msg_id.len().min(16)),
            code: code.number(),
            retry: code.retry(),
            retry_after_ms,
            ..v1::Sent::default()
        }),
        _ => match error_body(code) {
            server_frame::Body::Error(error) => {
                server_frame::Body::Error(v1::Error { retry_after_ms, ..error })
            }
            other => other,
        },
    }
}

/// One figure for `/metrics`.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Metric name without unit tricks: `uproar_closes_total`.
    pub name: &'static str,
    /// One line for people.
    pub help: &'static str,
    /// How to read it.
    pub kind: SampleKind,
    /// Label names and values.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: SampleValue,
}

/// How a figure is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets, sum and count.
    Histogram,
}

/// A figure's value.
#[derive(Clone, Debug, PartialEq)]
pub enum SampleValue {
    /// A counter or gauge.
    Number(f64),
    /// Cumulative counts by upper bound, then sum and count.
    Histogram {
        /// (upper bound, observations at or under it), ascending, without +Inf.
        buckets: Vec<(f64, u64)>,
        /// Sum of all observations.
        sum: f64,
        /// Number of all observations.
        count: u64,
    },
}

/// What the node is and does, for `/v1/node`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Version of the binary.
    pub version: String,
    /// `uring` or `epoll`.
    pub io: String,
    /// Why that driver was chosen.
    pub io_reason: String,
    /// Shard threads.
    pub shards: u32,
    /// Connections now.
    pub connections: u64,
    /// Connections that fit.
    pub connections_max: u64,
    /// Rooms now.
    pub rooms: u64,
    /// Whether the node is draining.
    pub draining: bool,
    /// Seconds since start.
    pub uptime_s: u64,
}

/// Where clients may connect, and how full it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeLoad {
    /// What clients are told to connect to: host and port.
    pub address: String,
    /// Connections now.
    pub connections: u64,
    /// Connections that fit.
    pub connections_max: u64,
    /// Full, or about to end: it takes nobody.
    pub closed: bool,
}

/// Which rooms of all are listed, and in which order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// By name, those after this one.
    After(String),
    /// Those with the most viewers, the busiest first; of equals by name.
    Busiest,
}

impl Which {
    /// Brings rooms from several places into order, and keeps the first `limit`.
    pub fn first(&self, rooms: &mut Vec<RoomInfo>, limit: usize) {
        rooms.sort_unstable_by(|a, b| match self {
            Which::After(_) => a.room.cmp(&b.room),
            Which::Busiest => b.viewers.cmp(&a.viewers).then_with(|| a.room.cmp(&b.room)),
        });
        rooms.truncate(limit);
    }
}

/// The engine as control sees it: one node in this process, or all that are linked to it.
pub trait Engine: Send + Sync {
    /// Hands a command to its room's home. Where the home's queue is full the reply is called at
    /// once with `QueueFull`.
    fn command(&self, command: Command);
    /// Rooms, at most `limit`, from every shard.
    fn list(&self, which: Which, limit: usize, reply: Reply<Vec<RoomInfo>>);
    /// Hands on what control has to tell.
    ///
    /// # Errors
    /// The same, where a queue is full: to be told again, before anything else about its mcast.
    fn tell(&self, tell: Tell) -> Result<(), Tell>;
    /// Every figure the engine exports.
    fn metrics(&self) -> Vec<Sample>;
    /// What the node is.
    fn node(&self) -> NodeInfo;
    /// Every node that clients may be sent to.
    fn nodes(&self) -> Vec<NodeLoad>;
    /// Where rooms are asked for over HTTP; `None`: here.
    fn rooms_at(&self) -> Option<Vec<String>> {
        None
    }
    /// Whether new connections are taken (false while starting and draining).
    fn ready(&self) -> bool;
}
