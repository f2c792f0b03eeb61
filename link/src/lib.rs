//! Engine and control in two processes: both sides of their trait (`uproar_proto::control`), over
//! HTTP with protobuf bodies.
//!
//! Owns the messages between the two, the engine's side ([`client`]: a `Control` that carries what
//! is asked to another process) and control's side ([`server`]: an `Engine` that stands for every
//! node that is linked). Names neither engine nor control, and touches no store, no room and no
//! socket of a client. Live rooms never wait for anything here.
//!
//! # The contract
//!
//! The engine speaks first, always: control needs no address of it. Every request carries the
//! shared key (`Authorization: Bearer`); the link is for a private network, or behind a proxy that
//! ends TLS (`link.control = "https://..."`).
//!
//! * `POST /link/hello` with a `Hello`: version, instance, addresses, load, where it was. The
//!   answer is `Linked`: a session, resumed or new. 401: another key; 409: another version, naming
//!   both.
//! * `POST /link/asks` with `Asks`: a numbered batch of asks and of who is online, what was heard,
//!   the load. 200: taken in; 410: there is no such session.
//! * `GET /link/stream?session=&after=`: a body without end, `Told` frames behind their lengths,
//!   what came after `after`, and a heartbeat a second. 410: there is no such session.
//!
//! **A session** is an engine's place in what control tells it. It survives any break of a
//! connection: the stream goes on at `after`, since control keeps what was not heard yet. It ends
//! where that is impossible: control was started anew, the node was silent for 30 s, or more waits
//! for it than its buffer holds.
//!
//! **Asks** travel in batches, a few of them at once. Control takes them in by number, each once: a
//! batch whose answer was lost is sent again as it was, and changes nothing the second time. So a
//! lane of sends keeps its order, and no message is stored twice for a retry of ours.
//!
//! **Answers.** The engine's side knows what is owed an answer. Each ask gets exactly one:
//! control's, or a refusal by this side (`QUEUE_FULL` where too much waits, `STORE_DOWN` where
//! control cannot be reached or has not answered for 30 s). An answer that comes after its ask was
//! refused is dropped. What a client was refused may have been stored: it sends again with the same
//! id. After a refused send nothing of its connection passes until that very message comes again
//! (`uproar_proto::lanes`).
//!
//! **Questions** of rooms travel in the batches of asks, best effort: one that finds no room, or
//! comes while asks are refused, is answered on this side by `Undecided`; one that was on its way
//! when the breaker opened, or is answered late, is the room's own deadline's to decide.
//!
//! **Bans and mutes** that rooms have decided travel in the batches too, as lines do: in order,
//! also those that were decided while control could not be reached, and again where it is not known
//! whether they arrived. A room that begins asks what is kept behind all that was to be kept
//! before; a question that is lost is the room's to ask again.
//!
//! **The breaker.** Where the stream is silent for three heartbeats, or three tries in a row fail,
//! everything owed is refused and so is, at once, whatever is asked from then on. Hello is tried
//! each second; once the stream stands again, asks pass. Connections, and rooms, go on untouched.
//!
//! **Anew.** With a new session the engine cannot know what it was not told: memberships, log-outs.
//! So what is owed is refused, every inbox leaves its groups at once, asks for them again (with its
//! login, which may have ended), and its client syncs. Only then does it hear anything again but
//! what is pushed to its user.
//!
//! **Order.** There is one stream a node and one buffer it is read from: what control tells in
//! order arrives in order, per conversation and altogether.
//!
//! Pushes, memberships and closes go to every linked node; a node without members drops them. What
//! is for one connection goes to its node alone.
#![forbid(unsafe_code)]

pub mod client;
pub mod config;
mod frames;
pub mod server;
mod words;

pub use client::{Client, Lists};
pub use config::Config;
pub use server::Nodes;

/// The messages of the link, generated from `uproar/link/v1/link.proto`.
#[allow(unreachable_pub)] // the generator knows no crate that keeps them to itself
mod v1 {
    include!(concat!(env!("OUT_DIR"), "/uproar.link.v1.rs"));
}

use std::time::Duration;

/// The version of the link's protocol. Both sides must speak the same: it rises with every change
/// of what is said.
pub const VERSION: u32 = 6;

/// The version of the program, told to the other side for people.
const BUILD: &str = env!("CARGO_PKG_VERSION");

/// Control says at least this often that it is there; an engine too.
const BEAT: Duration = Duration::from_secs(1);

/// Asks of one batch.
const BATCH_ASKS_MAX: usize = 512;
/// Bytes of one batch, but for an ask that is larger alone: a frame of a client is 8 MiB at most.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Bytes of one request: the largest ask in the fullest batch. Larger: 413.
const REQUEST_BYTES_MAX: usize = 16 << 20;
/// Batches of an engine that are under way, counted from the first that is missing. Further asks
/// wait.
const BATCHES_MAX: usize = 4;

/// Names an instance or a session: random, never 0.
fn random_name() -> u64 {
    let mut bytes = [0; 8];
    // Without chance from the system no process of this program starts (it makes ids and secrets).
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    u64::from_le_bytes(bytes) | 1
}
