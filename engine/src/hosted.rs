//! A shard together with the way to control.
//!
//! Owns the hand-over of what a shard asks: after each turn, to a thread with the descriptor table
//! of the process, which may wake a runtime. The shard itself stays a state machine.

use crate::io::Relay;
use crate::router::Batch;
use crate::seam::{Actions, Events, Frames, Machine, Now, Tick};
use crate::shard::Shard;
use crate::shard::message::Message;
use std::sync::Arc;
use uproar_proto::blocks::BlockList;
use uproar_proto::control::{Ask, FilterList, KeptQuestion, Penalties, Question, Report, Seen};

/// What a shard has for control.
pub enum Upward {
    /// To be answered.
    Ask(Ask),
    /// To be known.
    Seen(Seen),
    /// To be kept; nothing that is handed over later overtakes it.
    Penalties(Penalties),
    /// To be answered, or asked again.
    Kept(KeptQuestion),
}

/// What the shard threads run.
pub(crate) struct Hosted {
    shard: Shard,
    ways: Ways,
}

/// Where a shard's words go; cheap to clone.
#[derive(Clone, Default)]
pub struct Ways {
    /// What connections with an inbox ask, and what rooms have kept; without it there are no
    /// inboxes, and bans and mutes end with their room.
    pub asks: Option<Relay<Upward>>,
    /// What archived rooms admit; without it no room is archived.
    pub archive: Option<Relay<Arc<Batch>>>,
    /// What rooms ask their platform before they show it; without it nobody is asked.
    pub questions: Option<Relay<Question>>,
    /// What connections report of their streams; without it they are told to report over HTTP.
    pub reports: Option<Relay<Report>>,
    /// What messages are held against from the first one on.
    pub filter: Option<Arc<FilterList>>,
    /// Who may not connect, from the first connection on.
    pub blocks: Option<Arc<BlockList>>,
}

impl Hosted {
    pub(crate) fn new(mut shard: Shard, ways: Ways) -> Hosted {
        if ways.asks.is_some() {
            shard.serve_inboxes();
            shard.keep_penalties();
        }
        if ways.archive.is_some() {
            shard.archive_rooms();
        }
        if ways.reports.is_some() {
            shard.accept_reports();
        }
        Hosted { shard, ways }
    }

    fn hand_reports(&mut self) {
        let Some(reports) = &self.ways.reports else { return };
        for report in self.shard.take_reports() {
            if let Err(report) = reports.hand(report) {
                self.shard.report_lost(&report);
            }
        }
    }

    fn hand_archived(&mut self) {
        let Some(archive) = &self.ways.archive else { return };
        for batch in self.shard.take_archived() {
            if let Err(batch) = archive.hand(batch) {
                self.shard.archive_lost(&batch);
            }
        }
    }

    /// In order: what a room has decided is kept before its next life asks.
    fn hand_penalties(&mut self) {
        let Some(control) = &self.ways.asks else { return };
        let mut penalties = self.shard.take_penalties();
        let questions = self.shard.take_kept_questions();
        while let Some(first) = penalties.pop_front() {
            if let Err(Upward::Penalties(first)) = control.hand(Upward::Penalties(first)) {
                penalties.push_front(first);
                // The questions are asked again.
                return self.shard.penalties_back(penalties);
            }
        }
        for question in questions {
            // Full: it is asked again.
            let _ = control.hand(Upward::Kept(question));
        }
    }

    /// Whoever cannot be asked has decided nothing: the room need not wait for it.
    fn hand_questions(&mut self) {
        for question in self.shard.take_questions() {
            let unasked = match &self.ways.questions {
                Some(way) => way.hand(question).err(),
                None => Some(question),
            };
            unasked.iter().for_each(|question| self.shard.unasked(question));
        }
    }
}

impl Machine for Hosted {
    type Message = Message;

    fn turn(
        &mut self,
        now: Now,
        events: &Events,
        inbox: &mut Vec<Message>,
        actions: &mut Actions,
        outbox: &mut Vec<(u16, Message)>,
    ) {
        self.shard.turn(now, events, inbox, actions, outbox);
        self.hand_archived();
        self.hand_questions();
        self.hand_reports();
        self.hand_penalties();
        let Some(control) = &self.ways.asks else { return };
        let asks = self.shard.take_asks();
        for ask in hand_over(asks, |ask| match control.hand(Upward::Ask(ask)) {
            Err(Upward::Ask(ask)) => Some(ask),
            _ => None,
        }) {
            self.shard.refuse_ask(&ask);
        }
        if let Some(seen) = self.shard.take_seen()
            && control.hand(Upward::Seen(seen)).is_err()
        {
            self.shard.seen_lost();
        }
    }

    fn next_wakeup(&self) -> Tick {
        self.shard.next_wakeup()
    }

    fn frames(&self) -> &Frames {
        self.shard.frames()
    }

    fn finished(&self) -> bool {
        self.shard.finished()
    }

    fn undeliverable(&mut self, to: u16, message: Message) {
        self.shard.undeliverable(to, message);
    }
}

/// Hands over what one turn asks (`hand` gives back what found no room); what is to be refused.
/// Once the queue was full, nothing more of this turn goes: it may have room again a moment later,
/// and what a connection sent behind a refused message must not be taken. What comes later, the
/// shard stops by itself.
fn hand_over(asks: Vec<Ask>, mut hand: impl FnMut(Ask) -> Option<Ask>) -> Vec<Ask> {
    let mut refused = Vec::new();
    for ask in asks {
        match refused.is_empty() {
            true => refused.extend(hand(ask)),
            false => refused.push(ask),
        }
    }
    refused
}

#[cfg(test)]
mod tests {
    use super::*;
    use uproar_proto::control::{Asked, ConnectionId};

    #[test]
    fn nothing_of_a_turn_passes_what_found_no_room() {
        let from = ConnectionId { node: 0, shard: 0, conn: 1, serial: 1 };
        let what = Asked::Open { login: None };
        let asks = (1..=4).map(|number| Ask { from, number, user: "u".into(), what: what.clone() });
        let mut taken = Vec::new();
        // It is full for the second one alone.
        let refused = hand_over(asks.collect(), |ask| match ask.number {
            2 => Some(ask),
            number => {
                taken.push(number);
                None
            }
        });
        let refused: Vec<u32> = refused.iter().map(|ask| ask.number).collect();
        assert_eq!((taken, refused), (vec![1], vec![2, 3, 4]));
    }
}
