//! What connections have to send, one send each a turn.
//!
//! Owns the frames, each connection's queue of them, and what to do about a send that was taken in
//! part. The rule of the seam it keeps: at most one `Send` of a connection between two polls, and
//! an unsent tail goes out before anything else.

use bytes::Bytes;
use std::collections::VecDeque;
use uproar_engine::seam::{Action, Actions, ConnSlot, FrameSlot, Frames};

/// A frame in a queue, and how much of it is sent.
#[derive(Clone, Copy, Debug)]
struct Line {
    frame: FrameSlot,
    skip_bytes: u32,
}

/// One connection's queue. Empty for nearly all, nearly always.
#[derive(Debug, Default)]
struct Lane {
    #[expect(
        clippy::box_collection,
        reason = "8 bytes for each connection that has nothing to send"
    )]
    queue: Option<Box<VecDeque<Line>>>,
    /// In `ready`.
    listed: bool,
    /// Waits for `Writable`.
    blocked: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    pub(crate) frames: Frames,
    lanes: Vec<Lane>,
    ready: VecDeque<u32>,
    to_arm: VecDeque<u32>,
    /// The sends of the last turn by action number: what a `SendShort` names.
    sent: Vec<(u32, u32, Line)>,
}

impl Outgoing {
    pub(crate) fn new(connections: usize) -> Outgoing {
        let lanes = (0..connections).map(|_| Lane::default()).collect();
        Outgoing { lanes, ..Outgoing::default() }
    }

    /// Queues a frame that the caller holds on to.
    pub(crate) fn shared(&mut self, conn: u32, frame: FrameSlot) {
        self.frames.hold(frame);
        self.push(conn, frame);
    }

    /// Queues bytes of this connection alone.
    pub(crate) fn own(&mut self, conn: u32, bytes: Vec<u8>) {
        let frame = self.frames.insert(Bytes::from(bytes));
        self.push(conn, frame);
    }

    fn push(&mut self, conn: u32, frame: FrameSlot) {
        let lane = &mut self.lanes[conn as usize];
        lane.queue.get_or_insert_default().push_back(Line { frame, skip_bytes: 0 });
        self.list(conn);
    }

    fn list(&mut self, conn: u32) {
        let lane = &mut self.lanes[conn as usize];
        if !lane.listed && !lane.blocked {
            lane.listed = true;
            self.ready.push_back(conn);
        }
    }

    /// A send of the last turn took only this much.
    pub(crate) fn short(&mut self, action: u32, sent_bytes: u32) {
        let place = self.sent.iter().position(|(number, ..)| *number == action);
        let Some(place) = place else { return };
        let (_, conn, line) = self.sent.swap_remove(place);
        let rest = Line { frame: line.frame, skip_bytes: line.skip_bytes + sent_bytes };
        let lane = &mut self.lanes[conn as usize];
        lane.queue.get_or_insert_default().push_front(rest);
        lane.blocked = true;
        self.to_arm.push_back(conn);
    }

    /// The connection takes bytes again.
    pub(crate) fn writable(&mut self, conn: u32) {
        let lane = &mut self.lanes[conn as usize];
        lane.blocked = false;
        if lane.queue.is_some() {
            self.list(conn);
        }
    }

    /// The connection ends: whatever it still had to send is dropped.
    pub(crate) fn forget(&mut self, conn: u32) {
        self.sent.retain(|(_, c, line)| {
            if *c == conn {
                self.frames.release(line.frame);
            }
            *c != conn
        });
        let lane = &mut self.lanes[conn as usize];
        lane.blocked = false;
        for line in lane.queue.take().into_iter().flat_map(|queue| *queue) {
            self.frames.release(line.frame);
        }
    }

    /// The last turn's sends that were not short have been taken whole.
    pub(crate) fn settle(&mut self) {
        for (_, _, line) in self.sent.drain(..) {
            self.frames.release(line.frame);
        }
    }

    /// Fills a turn's actions.
    pub(crate) fn flush(&mut self, actions: &mut Actions) {
        while actions.room() > 0
            && let Some(conn) = self.to_arm.pop_front()
        {
            if self.lanes[conn as usize].blocked {
                actions.push(Action::ArmWritable { conn: ConnSlot(conn) });
            }
        }
        // Only those listed now: one that has more to send comes again in the next turn.
        for _ in 0..self.ready.len() {
            if actions.room() == 0 {
                break;
            }
            let Some(conn) = self.ready.pop_front() else { break };
            let lane = &mut self.lanes[conn as usize];
            lane.listed = false;
            if lane.blocked {
                continue;
            }
            let Some(queue) = &mut lane.queue else { continue };
            let Some(line) = queue.pop_front() else { continue };
            if queue.is_empty() {
                lane.queue = None;
            } else {
                self.list(conn);
            }
            let Line { frame, skip_bytes } = line;
            let number = actions.push(Action::Send { conn: ConnSlot(conn), frame, skip_bytes });
            self.sent.push((number, conn, line));
        }
    }

    /// Whether another turn is wanted at once.
    pub(crate) fn waiting(&self) -> bool {
        !self.ready.is_empty() || !self.to_arm.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sends(actions: &Actions) -> Vec<(u32, u32, u32)> {
        let of = |a: &Action| match *a {
            Action::Send { conn, frame, skip_bytes } => Some((conn.0, frame.0, skip_bytes)),
            _ => None,
        };
        actions.as_slice().iter().filter_map(of).collect()
    }

    #[test]
    fn a_connection_sends_once_a_turn_and_in_order() {
        let mut out = Outgoing::new(2);
        out.own(0, vec![1; 10]);
        out.own(0, vec![2; 10]);
        out.own(1, vec![3; 10]);
        let mut actions = Actions::new();
        out.flush(&mut actions);
        assert_eq!(sends(&actions), [(0, 0, 0), (1, 2, 0)]);
        assert!(out.waiting());
        out.settle();
        actions.clear();
        out.flush(&mut actions);
        assert_eq!(sends(&actions), [(0, 1, 0)]);
        out.settle();
        assert!(!out.waiting());
        assert_eq!(out.frames.used(), 0, "sent frames are let go");
    }

    #[test]
    fn an_unsent_tail_goes_out_before_anything_else() {
        let mut out = Outgoing::new(1);
        out.own(0, vec![1; 10]);
        let mut actions = Actions::new();
        out.flush(&mut actions);
        out.short(0, 4);
        out.settle();
        out.own(0, vec![2; 10]);
        actions.clear();
        out.flush(&mut actions);
        assert_eq!(actions.as_slice(), [Action::ArmWritable { conn: ConnSlot(0) }]);
        out.writable(0);
        actions.clear();
        out.flush(&mut actions);
        assert_eq!(sends(&actions), [(0, 0, 4)]);
        out.short(0, 1);
        out.settle();
        out.writable(0);
        actions.clear();
        out.flush(&mut actions);
        assert_eq!(sends(&actions), [(0, 0, 5)], "skips add up");
    }

    #[test]
    fn a_connection_that_ends_holds_no_frame() {
        let mut out = Outgoing::new(2);
        let shared = out.frames.insert(Bytes::from_static(b"ping"));
        out.shared(0, shared);
        out.shared(1, shared);
        out.own(0, vec![1]);
        let mut actions = Actions::new();
        out.flush(&mut actions);
        out.forget(0);
        out.settle();
        out.frames.release(shared);
        assert_eq!(out.frames.used(), 0);
        out.flush(&mut actions);
        assert_eq!(sends(&actions).len(), 2, "nothing more is sent on it");
    }
}
