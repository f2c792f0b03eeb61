//! A moderator's delay: what a room admits waits a moment before its viewers see it.
//!
//! Messages get their place in the order when they are admitted, and their senders are told; then
//! they are held here, in order. What is recalled meanwhile is blank when it comes out: its content
//! leaves the home for moderators alone. Without a delay nothing is ever held.

use super::Admitted;
use crate::seam::Tick;
use std::collections::VecDeque;

/// See the module.
#[derive(Debug, Default)]
pub struct Delay {
    /// With the moment of each one's admission, the oldest first. Bounded by the room's rate: five
    /// seconds of it.
    held: VecDeque<(Tick, Admitted)>,
}

impl Delay {
    /// Holds what was just admitted.
    pub fn hold(&mut self, messages: Vec<Admitted>, now: Tick) {
        self.held.extend(messages.into_iter().map(|message| (now, message)));
    }

    /// When something comes out, where the delay is `delay_ms`; `NEVER` where nothing is held.
    #[must_use]
    pub fn due(&self, delay_ms: u32) -> Tick {
        self.held.front().map_or(Tick::NEVER, |(at, _)| at.after_ms(u64::from(delay_ms)))
    }

    /// What comes out now, in order.
    pub fn release(&mut self, delay_ms: u32, now: Tick) -> Vec<Admitted> {
        let mut out = Vec::new();
        while self.due(delay_ms) <= now
            && let Some((_, message)) = self.held.pop_front()
        {
            out.push(message);
        }
        out
    }

    /// Blanks messages that are held.
    pub fn recall(&mut self, seqs: &[u64]) {
        for (_, message) in &mut self.held {
            if seqs.contains(&message.seq.0) {
                *message = message.blank();
            }
        }
    }

    /// What is held, in order.
    pub fn messages(&self) -> impl Iterator<Item = &Admitted> {
        self.held.iter().map(|(_, message)| message)
    }

    /// The held messages of a user, by seq.
    #[must_use]
    pub fn of_user(&self, user: &str) -> Vec<u64> {
        let held = self.held.iter().map(|(_, message)| message);
        held.filter(|m| !m.gone && &*m.user == user).map(|m| m.seq.0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::tests::admitted;

    fn seqs(messages: &[Admitted]) -> Vec<(u64, bool)> {
        messages.iter().map(|m| (m.seq.0, m.gone)).collect()
    }

    #[test]
    fn what_is_recalled_in_time_comes_out_blank_and_in_its_place() {
        let mut delay = Delay::default();
        assert_eq!(delay.due(2_000), Tick::NEVER);
        delay.hold(vec![admitted(1), admitted(2)], Tick(0));
        delay.hold(vec![admitted(3)], Tick(1_000_000));
        assert!(delay.release(2_000, Tick(1_999_999)).is_empty());
        assert_eq!(delay.of_user("u"), [1, 2, 3]);
        delay.recall(&[2, 3]);
        assert_eq!(delay.of_user("u"), [1]);
        assert_eq!(seqs(&delay.release(2_000, Tick(2_000_000))), [(1, false), (2, true)]);
        assert_eq!(delay.due(2_000), Tick(3_000_000));
        assert_eq!(delay.due(0), Tick(1_000_000), "a shorter delay holds for what waits too");
        assert_eq!(seqs(&delay.release(0, Tick(1_000_000))), [(3, true)]);
    }
}
