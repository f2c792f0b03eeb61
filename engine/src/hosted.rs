//! A shard together with the way to control.
//!
//! Owns the hand-over of what a shard asks: after each turn, to a thread with the descriptor table
//! of the process, which may wake a runtime. The shard itself stays a state machine.

use crate::io::Relay;
use crate::seam::{Actions, Events, Frames, Machine, Now, Tick};
use crate::shard::Shard;
use crate::shard::message::Message;
use uproar_proto::control::{Ask, Seen};

/// What a shard has for control.
pub enum Upward {
    /// To be answered.
    Ask(Ask),
    /// To be known.
    Seen(Seen),
}

/// What the shard threads run.
pub(crate) struct Hosted {
    shard: Shard,
    control: Option<Relay<Upward>>,
}

impl Hosted {
    /// Without a control there are no inboxes.
    pub(crate) fn new(mut shard: Shard, control: Option<Relay<Upward>>) -> Hosted {
        if control.is_some() {
            shard.serve_inboxes();
        }
        Hosted { shard, control }
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
        let Some(control) = &self.control else { return };
        for ask in self.shard.take_asks() {
            if let Err(Upward::Ask(ask)) = control.hand(Upward::Ask(ask)) {
                self.shard.refuse_ask(&ask);
            }
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
