//! A live room: viewers join, publishers send at a rate, every delivery is checked.
//!
//! Proves that every admitted message reaches every viewer, once, in order, unchanged, and how
//! late. The other scenarios but `storm` are this one with something added.

use crate::report::Group;
use crate::session::Session;

/// Traffic until its end, then what is still on its way.
pub(super) fn run(session: &mut Session) {
    session.traffic(|_, beat| {
        // With half of the crowd gone there is nothing left to measure.
        beat.lost.saturating_sub(beat.back) * 2 <= beat.joined
    });
    session.settle();
}

pub(super) fn figures() -> Option<Group> {
    None
}
