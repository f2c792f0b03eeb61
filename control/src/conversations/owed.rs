//! Sends that a worker has taken up and not answered.
//!
//! Owns the list, for the one case in which nothing else has it: a defect in the middle of a batch
//! takes the batch with it, and whoever sent is told so all the same. Exactly once: a shard counts
//! answers.

use super::send::Job;
use std::collections::HashSet;
use uproar_proto::control::{Asked, ConnectionId, Tell};
use uproar_proto::v1::{self, client_frame};

/// See the module. Emptied with each turn.
#[derive(Default)]
pub(super) struct Owed {
    /// In their order.
    taken: Vec<Debt>,
    answered: Vec<(ConnectionId, u32)>,
}

/// As much of a send as its refusal needs.
pub(super) struct Debt {
    pub(super) from: ConnectionId,
    pub(super) number: u32,
    pub(super) send: v1::Send,
}

impl Owed {
    /// A turn begins with these.
    pub(super) fn begin(&mut self, jobs: &[Job]) {
        self.answered.clear();
        self.taken.clear();
        for job in jobs {
            if let Job::Send(passed) = job
                && let Asked::Frame(client_frame::Body::Send(send)) = &passed.ask.what
            {
                let send = v1::Send {
                    conversation: send.conversation.clone(),
                    client_msg_id: send.client_msg_id.clone(),
                    ..v1::Send::default()
                };
                self.taken.push(Debt { from: passed.ask.from, number: passed.ask.number, send });
            }
        }
    }

    /// This is being told.
    pub(super) fn told(&mut self, tell: &Tell) {
        if let Tell::Answer { to, number, .. } = tell {
            self.answered.push((*to, *number));
        }
    }

    /// What nobody has answered, in the order it was sent.
    pub(super) fn unanswered(&mut self) -> Vec<Debt> {
        let answered: HashSet<(ConnectionId, u32)> = self.answered.drain(..).collect();
        let mut left = std::mem::take(&mut self.taken);
        left.retain(|debt| !answered.contains(&(debt.from, debt.number)));
        left
    }
}

#[cfg(test)]
mod tests {
    use super::super::desk::text;
    use super::super::send::Passed;
    use super::*;
    use uproar_proto::control::Ask;

    #[test]
    fn what_was_answered_before_a_panic_is_not_answered_again() {
        let from = ConnectionId { node: 0, shard: 0, conn: 1, serial: 1 };
        let job = |number: u32| {
            let send = text("user:bob", u128::from(number), "a long text");
            let what = Asked::Frame(client_frame::Body::Send(send));
            let ask = Ask { from, number, user: "ann".into(), what };
            Job::Send(Passed { ask, text: None })
        };
        let mut owed = Owed::default();
        owed.begin(&[job(1), job(2), job(3)]);
        owed.told(&Tell::Answer { to: from, number: 2, frames: Vec::new() });
        owed.told(&Tell::Generation(7));
        let left = owed.unanswered();
        let numbers: Vec<u32> = left.iter().map(|debt| debt.number).collect();
        assert_eq!(numbers, [1, 3], "in the order they were sent");
        assert!(left.iter().all(|debt| debt.send.text.is_empty()), "no more than a refusal needs");
        owed.begin(&[job(4)]);
        assert_eq!(owed.unanswered().len(), 1, "each turn has its own");
    }
}
