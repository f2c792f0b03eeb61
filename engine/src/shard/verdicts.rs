//! Folds verdicts: one frame per connection and room, however many publishes it answers.
//!
//! Accepted and refused ones go out with the turn; shed ones wait for the end of the admission
//! window, so that a flood is answered with one frame a window, not with a flood.

use crate::seam::{ConnSlot, Tick};
use uproar_proto::v1;

struct Pending {
    conn: ConnSlot,
    generation: u8,
    room: Box<str>,
    verdict: v1::Verdict,
}

/// What waits to be told.
#[derive(Default)]
pub struct Verdicts {
    now: Vec<Pending>,
    held: Vec<Pending>,
    release_at: Option<Tick>,
}

/// One frame for one connection.
pub struct Folded {
    pub conn: ConnSlot,
    pub generation: u8,
    pub frame: v1::Verdicts,
}

impl Verdicts {
    /// Takes one in.
    pub fn add(&mut self, conn: ConnSlot, generation: u8, room: &str, verdict: v1::Verdict) {
        let pending = Pending { conn, generation, room: room.into(), verdict };
        if pending.verdict.outcome() == v1::Outcome::Shed {
            self.held.push(pending);
        } else {
            self.now.push(pending);
        }
    }

    /// What is to be sent now. `window_us`: length of an admission window.
    pub fn take(&mut self, now: Tick, window_us: u64) -> Vec<Folded> {
        if !self.held.is_empty() {
            let end = Tick((now.0 / window_us + 1) * window_us);
            if *self.release_at.get_or_insert(end) <= now {
                self.now.append(&mut self.held);
                self.release_at = None;
            }
        }
        let mut list = std::mem::take(&mut self.now);
        list.sort_by(|a, b| (a.conn, &a.room).cmp(&(b.conn, &b.room)));
        let mut folded: Vec<Folded> = Vec::new();
        for Pending { conn, generation, room, verdict } in list {
            match folded.last_mut() {
                Some(last)
                    if last.conn == conn
                        && last.generation == generation
                        && *last.frame.room == *room =>
                {
                    last.frame.verdicts.push(verdict);
                }
                _ => {
                    let frame = v1::Verdicts { room: room.into(), verdicts: vec![verdict] };
                    folded.push(Folded { conn, generation, frame });
                }
            }
        }
        folded
    }

    /// When the held ones are to be sent.
    #[must_use]
    pub fn next_due(&self) -> Tick {
        if !self.now.is_empty() {
            return Tick(0);
        }
        if self.held.is_empty() { Tick::NEVER } else { self.release_at.unwrap_or(Tick(0)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(outcome: v1::Outcome) -> v1::Verdict {
        v1::Verdict { outcome: outcome.into(), ..v1::Verdict::default() }
    }

    #[test]
    fn a_flood_of_shed_lines_is_answered_once_a_window() {
        let mut verdicts = Verdicts::default();
        for _ in 0..50 {
            verdicts.add(ConnSlot(1), 0, "r", verdict(v1::Outcome::Shed));
        }
        assert!(verdicts.take(Tick(10), 250_000).is_empty());
        assert_eq!(verdicts.next_due(), Tick(250_000));
        let folded = verdicts.take(Tick(250_000), 250_000);
        assert_eq!((folded.len(), folded[0].frame.verdicts.len()), (1, 50));
        assert_eq!(verdicts.next_due(), Tick::NEVER);
    }

    #[test]
    fn accepted_ones_do_not_wait_and_rooms_are_kept_apart() {
        let mut verdicts = Verdicts::default();
        for room in ["a", "b", "a"] {
            verdicts.add(ConnSlot(1), 0, room, verdict(v1::Outcome::Accepted));
        }
        verdicts.add(ConnSlot(0), 0, "a", verdict(v1::Outcome::Refused));
        let folded = verdicts.take(Tick(0), 250_000);
        let shape: Vec<_> =
            folded.iter().map(|f| (f.conn.0, &*f.frame.room, f.frame.verdicts.len())).collect();
        assert_eq!(shape, [(0, "a", 1), (1, "a", 2), (1, "b", 1)]);
    }
}
