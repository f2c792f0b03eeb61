//! One connection of the crowd: how far it has come, and what it is for.
//!
//! Owns the stages of a connection. Small: there are 200,000 of them in a process.

use crate::plan::Heads;
use crate::viewer::Viewer;
use uproar_engine::seam::Tick;
use uproar_proto::wire::ClientDecoder;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Publishes; its deliveries are checked but not counted.
    Publisher,
    /// Its deliveries are the figures.
    Viewer,
    /// Stops reading for a while.
    Frozen,
    /// Joins and leaves.
    Churner,
    /// Comes and goes.
    Passer,
}

impl Role {
    /// Of a connection by its number within its thread.
    pub(crate) fn of(heads: &Heads, conn: u32) -> Role {
        let mut last = heads.publishers;
        for (role, next) in [
            (Role::Publisher, heads.viewers),
            (Role::Viewer, heads.frozen),
            (Role::Frozen, heads.churners),
            (Role::Churner, heads.passers),
        ] {
            if conn < last {
                return role;
            }
            last += next;
        }
        Role::Passer
    }
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Not begun, or waiting for its time to begin again.
    #[default]
    Idle,
    /// The connect is under way.
    Dialing,
    /// The upgrade was asked for.
    Upgrading,
    /// `connect` was sent; not in the room yet.
    Greeting,
    /// In the room at least once.
    Open,
    /// Being closed.
    Closing,
    /// Given up.
    Failed,
}

impl Stage {
    /// Between the connect and the room.
    pub(crate) fn under_way(self) -> bool {
        matches!(self, Stage::Dialing | Stage::Upgrading | Stage::Greeting)
    }

    /// Whether frames may be sent and received.
    pub(crate) fn speaks(self) -> bool {
        matches!(self, Stage::Greeting | Stage::Open)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Link {
    pub(crate) viewer: Viewer,
    /// Bytes that are not yet a whole frame; `None` between frames.
    pub(crate) partial: Option<Box<ClientDecoder>>,
    pub(crate) stage: Stage,
    /// Connects begun, to tell an old deadline from a new one.
    pub(crate) attempts: u32,
    /// Connects that failed since the last that did not.
    pub(crate) tries: u8,
    /// The wheel's step of its next ping.
    pub(crate) ping_step: u32,
    /// A ping was sent and not answered.
    pub(crate) awaits_pong: bool,
    /// It was in the room at least once.
    pub(crate) was_in: bool,
    /// A `Read` is outstanding (connections that read on request).
    pub(crate) reading: bool,
    /// Lost and not back.
    pub(crate) away: bool,
    /// When it began to connect, or was lost, or asked to join.
    pub(crate) since: Tick,
    /// When it may connect again, once it is closed; `NEVER`: not at all.
    pub(crate) again: Tick,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_follow_each_other_as_the_plan_counts_them() {
        let heads = Heads { publishers: 1, viewers: 2, frozen: 0, churners: 1, passers: 2 };
        let roles: Vec<Role> = (0..6).map(|conn| Role::of(&heads, conn)).collect();
        use Role::{Churner, Passer, Publisher, Viewer};
        assert_eq!(roles, [Publisher, Viewer, Viewer, Churner, Passer, Passer]);
    }

    #[test]
    fn a_connection_is_small() {
        assert!(size_of::<Link>() <= 96, "{} bytes, 200,000 of them", size_of::<Link>());
    }
}
