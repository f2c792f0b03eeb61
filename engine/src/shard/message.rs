//! What shards say to each other, and what control says to a home. Everything is owned or
//! shared by reference count: no shard looks into another one's memory.

use super::blocks;
use super::filter::Active;
use super::mcasts::Delivery;
use super::sample::Part;
use crate::router::bans::{Changes, Origin};
use crate::router::{Attached, Ballot, Batch, Offer, ShardId, Verdict};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use uproar_proto::control::{BanWith, Command, RoomInfo, RoomSettings, Tell, Which};
use uproar_proto::error::Code;
use uproar_proto::ids::{Epoch, McastId, RoomId};

/// A message between shards.
pub enum Message {
    /// To a home: `shard` has its first member of a room.
    Attach { room: RoomId, shard: ShardId },
    /// To a home: `shard` has no member any more.
    Detach { room: RoomId, shard: ShardId },
    /// To a home: how many members `shard` has.
    Members { room: RoomId, shard: ShardId, count: u64 },
    /// To a home: what the crowd of one shard wants to say.
    Offer { room: RoomId, offer: Offer },
    /// To a home: answers to a poll, of the connections of `shard`.
    Votes { room: RoomId, shard: ShardId, poll: u32, ballots: Vec<Ballot> },
    /// To a home: users who have come in, by random keys, and how many others.
    Entered { room: RoomId, users: Vec<(u64, Arc<str>)>, more: u32 },
    /// To the shard that sent them: they are decided; those refused by their place, and why.
    Voted { room: RoomId, poll: u32, ballots: Vec<Ballot>, refused: Vec<(u32, Code)> },
    /// To a home: CPU time of one whole sweep.
    SweepTook { room: RoomId, shard: ShardId, cpu_us: u64 },
    /// To a home: a request of control. Boxed: it is the largest by far, and queues hold many.
    Command(Box<Command>),
    /// To every shard: rooms at home there, by name.
    List { which: Which, limit: usize, gather: Arc<Gather<RoomInfo>> },
    /// To a shard: the answer to `Attach`.
    Attached { room: RoomId, answer: Result<Box<Attached>, Code> },
    /// To a shard with members: messages and counters.
    Flush(Arc<Batch>),
    /// To a shard with members: what its moderators see before the others do.
    Held(Arc<Batch>),
    /// To the shard whose connections offered them.
    Verdicts { room: RoomId, verdicts: Vec<Verdict> },
    /// To a shard with members: new settings.
    Updated { room: RoomId, settings: Arc<RoomSettings> },
    /// To a shard with members: this life of the room is over.
    Ended { room: RoomId, epoch: Epoch, code: Code },
    /// To a shard with members: this user's connections leave this life of the room, and stay
    /// out until then (wall clock; 0: they may come back). One message, so that nobody slips in
    /// between. What the shard is asked for beside that it tells the home by `Found`.
    Kick {
        room: RoomId,
        epoch: Epoch,
        key: u64,
        until_unix_ms: u64,
        with: BanWith,
        gather: Arc<Gather<KickPart>>,
    },
    /// To a home: where a user came from that was banned until then.
    Found { room: RoomId, epoch: Epoch, key: u64, until_unix_ms: u64, origins: Vec<Origin> },
    /// To a shard with members: until when these are banned now; `whole`: they and no others.
    Bans { room: RoomId, epoch: Epoch, whole: bool, changes: Changes },
    /// To a shard with members: how many there are, and a sample of their users.
    Sample { room: RoomId, epoch: Epoch, limit: usize, salt: u64, gather: Arc<Gather<Part>> },
    /// To the home of an mcast: `shard` has its first member (`serial` names this life of its list
    /// and comes back), or none any more.
    Route { mcast: McastId, shard: ShardId, serial: Option<u64> },
    /// To a shard with members: what the home passes on now reaches it.
    Routed { mcast: McastId, serial: u64 },
    /// To a shard with members: from the home.
    Deliver { mcast: McastId, delivery: Arc<Delivery> },
    /// To every shard: what messages are held against from now on.
    Filter(Arc<Active>),
    /// To every shard: who may not connect from now on.
    Blocks(Arc<blocks::Active>),
    /// From control: to the home of its mcast, the shard of its connection, or every shard.
    Tell(Tell),
    /// To every shard: stop accepting, tell clients to go elsewhere.
    Drain,
    /// To every shard: the drain has waited long enough, whoever is still here is told and closed.
    DrainOver,
    /// To every shard: all of them are drained, this was the last turn.
    Stop,
}

/// What is done with the whole list.
pub type Finish<T> = Box<dyn FnOnce(Vec<T>) + Send>;

/// Collects one list from every shard; the last one answers.
pub struct Gather<T> {
    remaining: AtomicU32,
    parts: Mutex<Vec<T>>,
    finish: Mutex<Option<Finish<T>>>,
}

impl<T> Gather<T> {
    /// Waits for `shards` parts.
    #[must_use]
    pub fn new(shards: u32, finish: Finish<T>) -> Gather<T> {
        Gather {
            remaining: AtomicU32::new(shards),
            parts: Mutex::new(Vec::new()),
            finish: Mutex::new(Some(finish)),
        }
    }

    /// One shard's part.
    pub fn add(&self, part: Vec<T>) {
        let mut parts = self.parts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        parts.extend(part);
        if self.remaining.fetch_sub(1, Ordering::AcqRel) == 1 {
            let all = std::mem::take(&mut *parts);
            let finish =
                self.finish.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
            if let Some(finish) = finish {
                finish(all);
            }
        }
    }
}

/// One shard's part of a kick.
#[derive(Default)]
pub struct KickPart {
    /// Connections of the user that were removed.
    pub connections: u32,
    /// Where they came from, as far as that was asked.
    pub origins: Vec<Origin>,
}
