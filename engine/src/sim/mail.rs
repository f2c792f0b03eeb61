//! Bounded queues between the shards of a world, as a node has them: mail to oneself waits for the
//! next turn, a full queue's mail waits in order with its sender, and beyond a bound it comes back.

use crate::router::CLASSES;
use crate::shard::message::Message;
use std::collections::VecDeque;
use uproar_proto::v1::Class;

/// A sender's backlog for one target, as a multiple of the target's queue.
const BACKLOG_QUEUES_MAX: usize = 4;

/// Which messages come back though there is room, and how many of them still.
pub(crate) type Loss = (fn(&Message) -> bool, u32);

/// Which messages stay on their way, and those that do, with their targets.
pub(crate) type Held = (fn(&Message) -> bool, Vec<(usize, Message)>);

/// All queues.
pub(crate) struct Mail {
    pub(crate) loss: Option<Loss>,
    pub(crate) held: Option<Held>,
    pub(crate) queue_max: usize,
    queues: Vec<VecDeque<Message>>,
    /// Mail to oneself.
    own: Vec<VecDeque<Message>>,
    /// By sender and target.
    backlog: Vec<Vec<VecDeque<Message>>>,
}

impl Mail {
    pub(crate) fn new(shards: usize, queue_max: usize) -> Mail {
        let queues = || (0..shards).map(|_| VecDeque::new()).collect::<Vec<_>>();
        let backlog = (0..shards).map(|_| queues()).collect();
        Mail { loss: None, held: None, queue_max, queues: queues(), own: queues(), backlog }
    }

    /// What a shard takes in this turn: its own mail, then at most so many of others.
    pub(crate) fn take(&mut self, me: usize, messages_max: usize) -> Vec<Message> {
        let mut inbox: Vec<Message> = self.own[me].drain(..).collect();
        let take = self.queues[me].len().min(messages_max);
        inbox.extend(self.queues[me].drain(..take));
        inbox
    }

    /// From outside: control, or another thread.
    pub(crate) fn post(&mut self, to: usize, message: Message) -> Result<(), Message> {
        if self.queues[to].len() >= self.queue_max {
            return Err(message);
        }
        self.queues[to].push_back(message);
        Ok(())
    }

    /// Hands over what was kept for targets whose queue was full.
    pub(crate) fn retry(&mut self, from: usize) {
        for (to, kept) in self.backlog[from].iter_mut().enumerate() {
            while self.queues[to].len() < self.queue_max
                && let Some(message) = kept.pop_front()
            {
                self.queues[to].push_back(message);
            }
        }
    }

    /// One message of a turn.
    pub(crate) fn send(&mut self, from: usize, to: usize, message: Message) -> Result<(), Message> {
        if from == to {
            self.own[to].push_back(message);
            return Ok(());
        }
        if let Some((is_it, times)) = &mut self.loss
            && *times > 0
            && is_it(&message)
        {
            *times -= 1;
            return Err(message);
        }
        if let Some((is_it, held)) = &mut self.held
            && is_it(&message)
        {
            held.push((to, message));
            return Ok(());
        }
        let kept = &mut self.backlog[from][to];
        let message = if kept.is_empty() {
            match self.post(to, message) {
                Ok(()) => return Ok(()),
                Err(message) => message,
            }
        } else {
            message
        };
        let kept = &mut self.backlog[from][to];
        if kept.len() >= BACKLOG_QUEUES_MAX * self.queue_max {
            return Err(message);
        }
        kept.push_back(message);
        Ok(())
    }

    /// What was held arrives; how many.
    #[cfg(test)]
    pub(crate) fn let_go(&mut self) -> usize {
        let held = self.held.take().map(|(_, held)| held).unwrap_or_default();
        let count = held.len();
        for (to, message) in held {
            self.queues[to].push_back(message);
        }
        count
    }

    /// Whether a shard has something to take in, or to hand over.
    pub(crate) fn waits_for(&self, me: usize) -> bool {
        let can_hand_over = |(to, kept): (usize, &VecDeque<Message>)| {
            !kept.is_empty() && self.queues[to].len() < self.queue_max
        };
        !self.own[me].is_empty()
            || !self.queues[me].is_empty()
            || self.backlog[me].iter().enumerate().any(can_hand_over)
    }

    /// Messages offered to homes that have not arrived, by class.
    pub(crate) fn offers_on_their_way(&self) -> [u64; CLASSES] {
        let mut sum = [0; CLASSES];
        let all = self.queues.iter().chain(&self.own).chain(self.backlog.iter().flatten());
        for message in all.flatten() {
            if let Message::Offer { offer, .. } = message {
                sum[Class::Like as usize] += offer.like_frames;
                for candidate in &offer.candidates {
                    sum[candidate.class as usize] += candidate.offered();
                }
            }
        }
        sum
    }
}
