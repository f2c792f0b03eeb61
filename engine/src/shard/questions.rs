//! What homes here ask their platform about messages, and its answers.
//!
//! Owns the hand-over of a turn, as `archive.rs` does, and what is counted of it. Never waits: a
//! question that nobody takes is answered here, by nothing, and the room does as it is set to.

use super::Shard;
use super::sweep::SharedMetrics;
use crate::metrics::Figure;
use crate::router::Fate;
use uproar_proto::control::{Judgement, Question};
use uproar_proto::ids::{Epoch, RoomId};

/// Questions of one turn. Beyond: nobody is asked, and the deadline decides.
const QUESTIONS_MAX: usize = 65_536;

/// Of a shard.
#[derive(Default)]
pub(super) struct Questions {
    list: Vec<Question>,
}

impl Questions {
    pub(super) fn put(&mut self, question: Question, metrics: &SharedMetrics) {
        metrics.add(Figure::JudgeAsked, 1);
        if self.list.len() < QUESTIONS_MAX {
            self.list.push(question);
        } else {
            metrics.add(Figure::JudgeUnasked, 1);
        }
    }
}

impl Shard {
    /// What rooms with their home here have asked in the last turn.
    pub fn take_questions(&mut self) -> Vec<Question> {
        std::mem::take(&mut self.questions.list)
    }

    /// Nobody could be asked this.
    pub fn unasked(&mut self, question: &Question) {
        self.metrics.add(Figure::JudgeUnasked, 1);
        let Question { room, epoch, number, .. } = question;
        self.home_judged(room, *epoch, *number, Judgement::Undecided);
    }

    /// An answer has come, perhaps too late, perhaps for an earlier life of the room.
    pub(super) fn home_judged(
        &mut self,
        room: &RoomId,
        epoch: Epoch,
        number: u64,
        judgement: Judgement,
    ) {
        let known = self.homes.by_name.get(room).copied();
        let known = known.filter(|home| self.homes.slab.get(*home).home.epoch() == epoch);
        let mut is_waited_for = false;
        if let Some(home) = known {
            let (now, mut out) = (self.now, Vec::new());
            let hosted = self.homes.slab.get_mut(home);
            is_waited_for = hosted.home.judged(number, judgement, now, &mut out);
            self.carry_out(home, out);
        }
        if !is_waited_for {
            self.metrics.add(Figure::JudgeLate, 1);
        }
    }

    pub(super) fn count_judged(&mut self, fate: Fate, waited_us: u64) {
        let figure = match fate {
            Fate::Allowed => Figure::JudgeAllowed,
            Fate::Replaced => Figure::JudgeReplaced,
            Fate::Refused => Figure::JudgeRefused,
            Fate::Open => Figure::JudgeOpen,
            Fate::Closed => Figure::JudgeClosed,
        };
        self.metrics.add(figure, 1);
        self.metrics.judged.observe_us(waited_us);
    }
}
