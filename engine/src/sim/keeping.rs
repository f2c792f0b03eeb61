//! Who keeps the bans and mutes of a world's rooms beyond their lives: late, forgetful of
//! questions, told twice. And what must have become of them at rest.

use super::World;
use super::control::Decided;
use super::crowd;
use crate::cluster::home::home_of;
use crate::hash::Rng;
use crate::metrics::Figure;
use crate::shard::message::Message;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use uproar_proto::control::{Content, Kept, KeptQuestion, Penalties, Penalty, PenaltyKind, Tell};
use uproar_proto::ids::Epoch;
use uproar_proto::v1::{Class, Outcome};

/// Questions that wait for an answer. More: the oldest gets none.
const WAITING_MAX: usize = 64;
/// Decisions that come a second time, where it is not known whether they came.
const AGAIN_MAX: usize = 4;
/// A ban or mute of so many seconds holds until the end of its world, however its clock jumps.
pub(super) const LONG_S: u32 = 1_000_000;

/// How the keeper of a world behaves, in thousandths of its occasions.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Keeps {
    /// There is one.
    pub(crate) is_there: bool,
    /// A step brings an answer to some room that waits.
    pub(crate) answers: u64,
    /// A question does not arrive.
    pub(crate) loses: u64,
    /// What a turn has to hand over finds no room.
    pub(crate) full: u64,
    /// What arrived last arrives again.
    pub(crate) again: u64,
    /// It answers for another life of a room, or what was asked before.
    pub(crate) wrong: u64,
    /// How many a room is told at once.
    pub(crate) page: usize,
}

/// A keeper, and what it has heard.
#[derive(Default)]
pub(crate) struct Keeper {
    rows: BTreeMap<(String, PenaltyKind, String), u64>,
    last: VecDeque<Penalties>,
    pub(crate) questions: Vec<KeptQuestion>,
    /// What backends were told is so, in the order they asked for it: the newest counts.
    decided: BTreeMap<(String, PenaltyKind, String), (u64, bool)>,
}

/// In half of the worlds there is one.
pub(super) fn drawn(rng: &mut Rng) -> Keeps {
    let mut some = |of: [u64; 4]| of[rng.below(4) as usize];
    Keeps {
        is_there: some([0, 0, 1, 1]) == 1,
        answers: some([0, 20, 200, 1_000]),
        loses: some([0, 0, 200, 900]),
        full: some([0, 0, 100, 500]),
        again: some([0, 0, 100, 500]),
        wrong: some([0, 0, 20, 50]),
        page: some([1, 2, 500, 500]) as usize,
    }
}

/// Takes in what a shard had to say in its last turn.
pub(super) fn hear(world: &mut World, shard: usize) {
    let keeps = world.plan.keeps;
    if !keeps.is_there {
        return;
    }
    let of_shard = &mut world.nodes[shard].shard;
    let (penalties, questions) = (of_shard.take_penalties(), of_shard.take_kept_questions());
    if !penalties.is_empty() && world.rng.below(1_000) < keeps.full {
        return of_shard.penalties_back(penalties);
    }
    for penalties in penalties {
        world.keeper.keep(&penalties);
        world.keeper.last.push_back(penalties);
        let excess = world.keeper.last.len().saturating_sub(AGAIN_MAX);
        world.keeper.last.drain(..excess);
    }
    for question in questions {
        if world.rng.below(1_000) < keeps.loses {
            continue;
        }
        if world.keeper.questions.len() >= WAITING_MAX {
            world.keeper.questions.remove(0);
        }
        world.keeper.questions.push(question);
    }
    if keeps.answers >= 1_000 {
        answer_all(world);
    }
}

/// The keeper may say something, or hear something again.
pub(super) fn act(world: &mut World) {
    let keeps = world.plan.keeps;
    if !keeps.is_there {
        return;
    }
    if world.rng.below(1_000) < keeps.again {
        for penalties in world.keeper.last.clone() {
            world.keeper.keep(&penalties);
        }
    }
    if world.rng.below(1_000) < keeps.wrong {
        wrong(world);
    }
    if world.rng.below(1_000) < keeps.answers && !world.keeper.questions.is_empty() {
        let place = world.rng.below(world.keeper.questions.len() as u64) as usize;
        let question = world.keeper.questions.remove(place);
        answer(world, &question);
    }
}

/// Every room that waits is told.
pub(super) fn answer_all(world: &mut World) {
    for question in std::mem::take(&mut world.keeper.questions) {
        answer(world, &question);
    }
}

/// Tells a room a page of what is kept.
pub(super) fn answer(world: &mut World, question: &KeptQuestion) {
    let of_room = world.keeper.rows.iter().filter(|((room, ..), _)| room == question.room.as_str());
    let behind = of_room.filter(|((_, kind, user), _)| {
        question.after.as_ref().is_none_or(|after| (*kind, user) > (after.0, &after.1))
    });
    let mut list: Vec<Penalty> = behind
        .map(|((_, kind, user), until_ms)| {
            let (kind, until_ms) = (*kind, *until_ms);
            Penalty { kind, user: user.clone(), until_ms }
        })
        .collect();
    let is_all = list.len() <= world.plan.keeps.page;
    list.truncate(world.plan.keeps.page);
    tell(world, question.told(list, is_all));
}

/// Whatever a room is told that way, it did not ask.
fn wrong(world: &mut World) {
    let Some(question) = world.keeper.questions.first().cloned() else { return };
    let list = ["host", "judge"].map(|user| Penalty {
        kind: PenaltyKind::Ban,
        user: user.into(),
        until_ms: u64::MAX,
    });
    for (epoch, number) in [
        (Epoch(question.epoch.0 ^ 1), question.number),
        (question.epoch, question.number.wrapping_sub(1)),
    ] {
        let (room, list) = (question.room.clone(), list.to_vec());
        let kept = Kept { node: 0, room, epoch, number, list, is_all: true };
        tell(world, Tell::Kept(Box::new(kept)));
    }
}

/// Brings it to the room's home.
pub(super) fn tell(world: &mut World, tell: Tell) {
    let Tell::Kept(kept) = &tell else { return };
    let home = home_of(&kept.room, world.plan.shards, world.plan.config.seed);
    // Where the queue is full, it is lost.
    let _ = world.mail.post(usize::from(home.0), Message::Tell(tell));
}

impl Keeper {
    fn keep(&mut self, penalties: &Penalties) {
        for Penalty { kind, user, until_ms } in &penalties.list {
            let key = (penalties.room.as_str().to_owned(), *kind, user.clone());
            if *until_ms > 0 {
                self.rows.insert(key, *until_ms);
            } else {
                self.rows.remove(&key);
            }
        }
    }

    /// Backends were told that these are so.
    pub(super) fn are_decided(&mut self, decided: Vec<Decided>) {
        for Decided { order, room, kind, user, is_long } in decided {
            let now = self.decided.entry((room, kind, user)).or_default();
            *now = (*now).max((order, is_long));
        }
    }

    fn held(&self, of: PenaltyKind) -> impl Iterator<Item = (&str, &str)> {
        let held = self.decided.iter().filter(move |((_, kind, _), _)| *kind == of);
        let held = held.filter(|(_, (_, is_long))| *is_long);
        held.map(|((room, _, user), _)| (room.as_str(), user.as_str()))
    }
}

/// At rest, in whatever life a room is: nobody is in it who was banned, and nobody speaks there who
/// was muted. (Where a room had to let go of bans for others, it is not promised.)
pub(super) fn at_rest(world: &mut World) {
    if !world.plan.keeps.is_there {
        return;
    }
    let asking: usize = world.nodes.iter().map(|node| node.shard.asking()).sum();
    assert_eq!(asking, 0, "rooms still wait to be told what is kept of them");
    let user_of = |world: &World, client: usize| {
        world.clients[client].account.map(|account| world.accounts[account].user.clone())
    };
    if world.figure(Figure::BansDropped) == 0 {
        for (room, user) in world.keeper.held(PenaltyKind::Ban) {
            for (number, client) in world.clients.iter().enumerate() {
                let is_in = client.is_sound() && client.streams.contains_key(room);
                let is_meant = user_of(world, number).is_some_and(|of| of == user);
                assert!(!is_in || !is_meant, "client {number}: {user} is banned, and in {room}");
            }
        }
    }
    let muted: Vec<(String, String)> = world
        .keeper
        .held(PenaltyKind::Mute)
        // Moderators are exempt.
        .filter(|(_, user)| *user != "judge")
        .map(|(room, user)| (room.to_owned(), user.to_owned()))
        .collect();
    let mut said = Vec::new();
    for (room, user) in muted {
        for number in 0..world.clients.len() {
            let client = &world.clients[number];
            let is_in = client.is_sound() && !client.rude && client.streams.contains_key(&room);
            if is_in && user_of(world, number).is_some_and(|of| of == user) {
                let content = Content::Text(Bytes::from_static(b"x"));
                said.push(crowd::publish(world, number, &room, Class::Chat, content));
            }
        }
    }
    if !said.is_empty() {
        world.run_ms(super::REST_MS);
    }
    for id in said {
        let outcome = world.ledger.outcome(&id);
        assert_ne!(outcome, Some(Outcome::Accepted), "who was muted has spoken");
    }
}
