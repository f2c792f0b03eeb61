//! Who may not connect: asked once a connection has said who it is, and of all that are there when
//! the list changes.
//!
//! Owns the list that is in effect here and the walk over the connections that are there, some in
//! each turn. Who is on the list, control says.

use super::Shard;
use super::connections::State;
use crate::metrics::Figure;
use crate::seam::ConnSlot;
use std::sync::Arc;
use uproar_proto::blocks::{BlockKind, Blocked};
use uproar_proto::error::Code;

/// Connections looked at in one turn of the walk: about a millisecond. A million of a shard take a
/// quarter of a second.
const LOOKS_PER_TURN: usize = 4_096;
/// Of them, those that are told and closed: as in a drain.
const CLOSED_PER_TURN: usize = 256;

/// A list that is in effect.
pub struct Active {
    /// Which one; 0: there never was an entry.
    pub version: u64,
    pub(crate) blocked: Blocked<u64>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Blocking {
    active: Option<Arc<Active>>,
    /// The next slot of the walk; `None`: it is over.
    at: Option<usize>,
}

impl Blocking {
    /// Whether the next turn has nothing to do for it.
    pub(super) fn is_idle(&self) -> bool {
        self.at.is_none()
    }
}

impl Shard {
    /// This list holds from now on, also for who is connected.
    pub fn use_blocks(&mut self, active: Arc<Active>) {
        self.metrics.set(Figure::BlocksVersion, active.version);
        self.blocking.at = (!active.blocked.is_empty()).then_some(0);
        self.blocking.active = Some(active);
    }

    /// Which entry keeps a connection out.
    fn block_of(&self, conn: ConnSlot) -> Option<BlockKind> {
        let active = self.blocking.active.as_ref()?;
        let cold = self.conns.cold(conn);
        let device = cold.device_key();
        active.blocked.find(device.as_ref(), cold.address(), self.now.unix_ms / 1000)
    }

    /// Whether a connection that has just said who it is may not be here; counted.
    pub(super) fn is_blocked(&mut self, conn: ConnSlot) -> bool {
        let Some(kind) = self.block_of(conn) else { return false };
        let figure = match kind {
            BlockKind::Device => Figure::BlockedDevices,
            BlockKind::Address => Figure::BlockedAddresses,
        };
        self.metrics.add(figure, 1);
        true
    }

    /// Looks at some of the connections that were there when the list changed.
    pub(super) fn block_step(&mut self) {
        let Some(from) = self.blocking.at else { return };
        let until = (from + LOOKS_PER_TURN).min(self.conns.slots());
        let (mut at, mut closed) = (from, 0);
        while at < until && closed < CLOSED_PER_TURN {
            let conn = ConnSlot(at as u32);
            let is_there = matches!(self.conns.hot(conn).state, State::Checking | State::Live);
            if is_there && self.block_of(conn).is_some() {
                self.metrics.add(Figure::BlockedClosed, 1);
                self.end(conn, Code::Banned, None); // S-63
                closed += 1;
            }
            at += 1;
        }
        self.blocking.at = (at < self.conns.slots()).then_some(at);
    }
}
