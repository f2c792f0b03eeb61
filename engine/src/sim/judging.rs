//! What a platform says of a world's messages before anybody sees them: late, out of order,
//! wrongly, or never.

use super::World;
use crate::cluster::home::home_of;
use crate::hash::Rng;
use crate::shard::message::Message;
use uproar_proto::control::{BeforePublish, Judgement, Question};
use uproar_proto::error::Code;

/// Questions that wait for an answer. More: the oldest gets none.
const WAITING_MAX: usize = 256;

/// How a platform behaves, in thousandths of its occasions.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Platform {
    /// A step brings an answer to some question that waits.
    pub(crate) answers: u64,
    /// There is no way to it.
    pub(crate) unasked: u64,
    /// It answers what nobody asked, or a second time.
    pub(crate) wrong: u64,
}

/// A platform, and the setting of every room that is asked about.
pub(super) fn drawn(rng: &mut Rng) -> (Platform, BeforePublish) {
    let setting = [BeforePublish::Off, BeforePublish::Open, BeforePublish::Closed];
    let platform = Platform {
        answers: [0, 50, 500, 1_000][rng.below(4) as usize],
        unasked: [0, 0, 100, 1_000][rng.below(4) as usize],
        wrong: [0, 50][rng.below(2) as usize],
    };
    (platform, setting[rng.below(3) as usize])
}

/// Takes in what a shard asked in its last turn.
pub(super) fn hear(world: &mut World, shard: usize) {
    for question in world.nodes[shard].shard.take_questions() {
        let is_lost = world.rng.below(1_000) < world.plan.platform.unasked;
        world.ledger.asked(&question, world.now.tick, is_lost);
        if is_lost {
            world.nodes[shard].shard.unasked(&question);
            continue;
        }
        if world.questions.len() >= WAITING_MAX {
            world.questions.remove(0);
        }
        world.questions.push(question);
    }
}

/// The platform may say something.
pub(super) fn act(world: &mut World) {
    if world.rng.below(1_000) < world.plan.platform.wrong {
        wrong(world);
    }
    for _ in 0..4 {
        let is_due = world.rng.below(1_000) < world.plan.platform.answers;
        if is_due && !world.questions.is_empty() {
            let place = world.rng.below(world.questions.len() as u64) as usize;
            let question = world.questions.remove(place);
            let judgement = some(world);
            answer(world, &question, judgement);
        }
    }
}

/// About a message that nobody asked about, of this life of a room or another.
fn wrong(world: &mut World) {
    let Some(question) = world.questions.first().cloned() else { return };
    let number = question.number.wrapping_add(1_000 + world.rng.below(3));
    let epoch = question.epoch;
    post(world, &Question { number, epoch, ..question.clone() }, Judgement::Allow);
    let epoch = uproar_proto::ids::Epoch(question.epoch.0 ^ 1);
    let refuse = Judgement::Refuse(Code::Refused, String::new());
    post(world, &Question { epoch, ..question }, refuse);
}

fn some(world: &mut World) -> Judgement {
    let most = world.plan.config.rooms.defaults.payload_bytes_max as usize;
    match world.rng.below(8) {
        0 => Judgement::Refuse(Code::Refused, "no".into()),
        1 => Judgement::Replace("*".repeat(1 + world.rng.below(8) as usize)),
        2 => Judgement::Replace("*".repeat([0, most + 1][world.rng.below(2) as usize])),
        3 => Judgement::Undecided,
        _ => Judgement::Allow,
    }
}

/// Answers a question.
pub(super) fn answer(world: &mut World, question: &Question, judgement: Judgement) {
    world.ledger.answered(question, judgement.clone());
    post(world, question, judgement);
}

fn post(world: &mut World, question: &Question, judgement: Judgement) {
    let home = home_of(&question.room, world.plan.shards, world.plan.config.seed);
    // Where the queue is full, it is lost.
    let tell = Message::Tell(question.judged(judgement));
    let _ = world.mail.post(usize::from(home.0), tell);
}
