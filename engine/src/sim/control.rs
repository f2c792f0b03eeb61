//! What backends do in a world: create, change and close rooms, publish, kick, ban and mute; and
//! what they are answered. Every request is answered exactly once.

use super::World;
use super::crowd::{content, gift_of};
use super::keeping::LONG_S;
use crate::cluster::home::home_of;
use crate::shard::message::{Gather, Message};
use bytes::Bytes;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
#[cfg(test)]
use uproar_proto::control::{AttributeChange, AttributesOutcome, NewPoll, Pin, PollInfo};
use uproar_proto::control::{
    BackendMessage, BanWith, Command, Content, Kicked, PenaltyKind, Published, Recall, Reply,
    RoomInfo, RoomSettings, Which,
};
use uproar_proto::error::Code;
use uproar_proto::ids::RoomId;
use uproar_proto::v1::Class;

/// What backends were answered and the world has not looked at.
#[derive(Default)]
pub(crate) struct Answers {
    pub(crate) asked: u64,
    pub(crate) answered: u64,
    /// Outcomes by id.
    published: Vec<(Vec<u8>, Published)>,
    /// Rooms that began.
    created: Vec<RoomInfo>,
    pub(crate) rooms_closed: u64,
    /// What homes have decided about users, and how many orders to do so were given.
    decided: Vec<Decided>,
    orders: u64,
    list: Vec<RoomInfo>,
}

/// A ban, a mute or the end of one that took place.
pub(crate) struct Decided {
    /// Homes carry them out in this order.
    pub(crate) order: u64,
    pub(crate) room: String,
    pub(crate) kind: PenaltyKind,
    pub(crate) user: String,
    /// It holds until the end of the world.
    pub(crate) is_long: bool,
}

/// Shared with the replies, which shards call.
pub(crate) type Shared = Arc<Mutex<Answers>>;

fn lock(answers: &Shared) -> MutexGuard<'_, Answers> {
    answers.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A reply that counts itself and hands the answer on.
fn reply<T: 'static>(
    world: &World,
    then: impl FnOnce(&mut Answers, Result<T, Code>) + Send + 'static,
) -> Reply<T> {
    let answers = world.answers.clone();
    lock(&answers).asked += 1;
    Box::new(move |answer| {
        let mut answers = lock(&answers);
        answers.answered += 1;
        then(&mut answers, answer);
    })
}

/// A reply that tells of a decision, where it took place.
fn decision<T: 'static>(
    world: &World,
    (room, kind, user): (&str, PenaltyKind, &str),
    long_s: u32,
) -> Reply<T> {
    let (room, user, is_long) = (room.to_owned(), user.to_owned(), long_s >= LONG_S);
    let order = {
        let mut answers = lock(&world.answers);
        answers.orders += 1;
        answers.orders
    };
    reply(world, move |answers, answer: Result<T, Code>| {
        let decided = Decided { order, room, kind, user, is_long };
        answers.decided.extend(answer.is_ok().then_some(decided));
    })
}

fn room_id(room: &str) -> RoomId {
    RoomId::new(room).expect("rooms of worlds have legal names")
}

fn hand(world: &mut World, room: &str, command: Command) {
    let home = home_of(&room_id(room), world.plan.shards, world.plan.config.seed);
    if let Err(Message::Command(command)) =
        world.mail.post(usize::from(home.0), Message::Command(Box::new(command)))
    {
        command.refuse(Code::QueueFull);
    }
}

/// A backend offers messages to a room.
pub(crate) fn publish(world: &mut World, room: &str, messages: Vec<(Class, Content)>) {
    let mut ids = Vec::new();
    let mut batch = Vec::new();
    for (class, content) in messages {
        let id = world.fresh_id();
        world.ledger.publish(&id, room, class, content.clone());
        let client_msg_id = Bytes::from(id.clone());
        ids.push(id);
        let gift = gift_of(&client_msg_id, class);
        let count = gift.map_or(0, |(_, count)| count);
        let (user, gift) = ("backend".into(), gift.map(|(name, _)| name.into()));
        batch.push(BackendMessage { user, class, content, client_msg_id, gift, count });
    }
    let reply = reply(world, move |answers, answer: Result<Vec<Published>, Code>| {
        if let Ok(outcomes) = answer {
            assert_eq!(outcomes.len(), ids.len(), "one outcome for each message");
            answers.published.extend(ids.into_iter().zip(outcomes));
        }
    });
    hand(world, room, Command::Publish { room: room_id(room), messages: batch, reply });
}

/// A backend creates a room.
pub(crate) fn create(world: &mut World, room: &str, settings: RoomSettings) {
    let reply = reply(world, |answers, answer: Result<RoomInfo, Code>| {
        answers.created.extend(answer);
    });
    let settings = Box::new(settings);
    hand(world, room, Command::Create { room: room_id(room), settings, reply });
}

/// A backend changes a room.
pub(crate) fn update(world: &mut World, room: &str, settings: RoomSettings) {
    let reply = reply(world, |_, _: Result<RoomInfo, Code>| {});
    let settings = Box::new(settings);
    hand(world, room, Command::Update { room: room_id(room), settings, reply });
}

/// A backend ends a room.
pub(crate) fn close(world: &mut World, room: &str) {
    let reply = reply(world, |answers, answer: Result<(), Code>| {
        answers.rooms_closed += u64::from(answer.is_ok());
    });
    hand(world, room, Command::Close { room: room_id(room), reply });
}

/// A backend removes a user, and keeps it out for a while.
#[cfg(test)]
pub(crate) fn kick(world: &mut World, room: &str, user: &str, ban_s: u32) {
    kick_with(world, room, user, ban_s, BanWith::default());
}

/// The same, with where the user comes from.
pub(crate) fn kick_with(world: &mut World, room: &str, user: &str, ban_s: u32, with: BanWith) {
    let reply = match ban_s {
        0 => reply(world, |_, _: Result<Kicked, Code>| {}),
        _ => decision::<Kicked>(world, (room, PenaltyKind::Ban, user), ban_s),
    };
    let (room_id, user) = (room_id(room), user.to_owned());
    hand(world, room, Command::Kick { room: room_id, user, ban_s, with, reply });
}

/// A backend ends a ban.
pub(crate) fn unban(world: &mut World, room: &str, user: &str) {
    let reply = decision::<bool>(world, (room, PenaltyKind::Ban, user), 0);
    let (room_id, user) = (room_id(room), user.to_owned());
    hand(world, room, Command::Unban { room: room_id, user, reply });
}

/// A backend silences a user.
pub(crate) fn mute(world: &mut World, room: &str, user: &str, mute_s: u32) {
    let reply = decision::<()>(world, (room, PenaltyKind::Mute, user), mute_s);
    let (room_id, user) = (room_id(room), user.to_owned());
    hand(world, room, Command::Mute { room: room_id, user, mute_s, reply });
}

/// A backend recalls messages.
pub(crate) fn recall(world: &mut World, room: &str, what: Recall) {
    let reply = reply(world, |_, _: Result<Vec<u64>, Code>| {});
    hand(world, room, Command::Recall { room: room_id(room), what, reply });
}

/// A backend changes attributes.
#[cfg(test)]
pub(crate) fn attributes(world: &mut World, room: &str, change: AttributeChange) {
    let reply = reply(world, |_, _: Result<AttributesOutcome, Code>| {});
    hand(world, room, Command::Attributes { room: room_id(room), change, reply });
}

/// A backend pins something, or nothing.
#[cfg(test)]
pub(crate) fn pin(world: &mut World, room: &str, pin: Option<Pin>) {
    let reply = reply(world, |_, _: Result<(), Code>| {});
    hand(world, room, Command::Pin { room: room_id(room), pin, reply });
}

/// A backend asks a question.
#[cfg(test)]
pub(crate) fn open_poll(world: &mut World, room: &str, poll: NewPoll) {
    let reply = reply(world, |_, _: Result<PollInfo, Code>| {});
    hand(world, room, Command::OpenPoll { room: room_id(room), poll, reply });
}

/// Every room of the node, by name, once the world has run.
pub(crate) fn list(world: &mut World) -> Vec<RoomInfo> {
    let answers = world.answers.clone();
    lock(&answers).asked += 1;
    let finish = Box::new(move |mut rooms: Vec<RoomInfo>| {
        rooms.sort_by(|a, b| a.room.cmp(&b.room));
        let mut answers = lock(&answers);
        answers.answered += 1;
        answers.list = rooms;
    });
    let gather = Arc::new(Gather::new(u32::from(world.plan.shards), finish));
    for shard in 0..world.nodes.len() {
        let (which, gather) = (Which::After(String::new()), gather.clone());
        if world.mail.post(shard, Message::List { which, limit: 100, gather }).is_err() {
            panic!("a world at rest has room for a message");
        }
    }
    world.run_ms(1);
    std::mem::take(&mut lock(&world.answers).list)
}

/// Takes in what backends were answered.
pub(crate) fn hear(world: &mut World) {
    for info in std::mem::take(&mut lock(&world.answers).created) {
        let epoch = u64::from_str_radix(&info.epoch, 16).expect("an epoch is 16 hex digits");
        world.ledger.begins(info.room, epoch);
    }
    let decided = std::mem::take(&mut lock(&world.answers).decided);
    world.keeper.are_decided(decided);
    let published = std::mem::take(&mut lock(&world.answers).published);
    for (id, outcome) in published {
        let told = world.ledger.verdict(&id, outcome.outcome, outcome.seq);
        told.unwrap_or_else(|broken| panic!("a backend: {broken}"));
    }
}

/// Some backend does something.
pub(crate) fn act(world: &mut World) {
    let h = world.plan.habits;
    let pick = world.rng.below(300);
    let room = world.plan.rooms[world.rng.below(world.plan.rooms.len() as u64) as usize].clone();
    if pick < h.backend_publish {
        let classes = [Class::Chat, Class::System, Class::Gift];
        let many = 1 + world.rng.below(4) * world.rng.below(4);
        let messages =
            (0..many).map(|_| (classes[world.rng.below(3) as usize], content(world))).collect();
        publish(world, &room, messages);
    } else if pick < h.backend_publish + h.backend_room {
        let settings = RoomSettings {
            rate_per_s: 1 + world.rng.below(40) as u32,
            viewers_max: if world.rng.below(3) == 0 { 3 } else { 0 },
            ..world.plan.config.rooms.defaults.clone()
        };
        match world.rng.below(4) {
            0 => create(world, &room, settings),
            1 | 2 => update(world, &room, settings),
            _ => close(world, &room),
        }
    } else if pick < h.backend_publish + h.backend_room + h.backend_user {
        let place = world.rng.below(world.accounts.len() as u64) as usize;
        let user = world.accounts[place].user.clone();
        let long_s = match world.rng.below(4) as u32 {
            // Somebody keeps it: it is to hold in every life that follows.
            3 if world.plan.keeps.is_there => LONG_S,
            short_s => short_s,
        };
        match world.rng.below(3) {
            0 => {
                let [devices, addresses] = [2, 3].map(|of| world.rng.below(of) == 0);
                kick_with(world, &room, &user, long_s, BanWith { devices, addresses });
                if world.rng.below(4) == 0 {
                    unban(world, &room, &user);
                }
            }
            1 => recall(world, &room, Recall::User(user)),
            _ => mute(world, &room, &user, long_s),
        }
    }
}

/// How many requests have no answer, and how many rooms backends have ended.
pub(crate) fn unanswered_and_closed(world: &World) -> (u64, u64) {
    let answers = lock(&world.answers);
    (answers.asked - answers.answered, answers.rooms_closed)
}
