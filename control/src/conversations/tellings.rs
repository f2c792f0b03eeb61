//! What users change over HTTP, told to their devices: relationships and settings.
//!
//! Owns who is told what. The change is committed before; a device that is away finds it by its
//! next sync.

use super::{Conversations, words};
use crate::relations::Edge;
use crate::store::relations::Changed;
use crate::store::settings::Settings;
use uproar_proto::control::Tell;
use uproar_proto::ids::McastId;
use uproar_proto::v1::{self, server_frame::Body};

impl Conversations {
    /// Two users are something else to each other than before: each is told what has changed on its
    /// own side, so that neither learns what it may not, as that it is blocked.
    pub(crate) async fn related(&self, one: &str, other: &str, changed: Changed, now_ms: i64) {
        let Changed { before, after } = changed;
        if !after.own.has(Edge::FRIEND) {
            self.shared.presence.parted(one, other).await;
        }
        let sides =
            [(one, other, before.own, after.own), (other, one, before.theirs, after.theirs)];
        for (user, peer, before, after) in sides {
            if before != after {
                let users = vec![words::relation(peer, after, now_ms)];
                let frame = Box::new(Body::Relations(v1::Relations { users }));
                self.shared.tell(Tell::Push { mcast: McastId::user(user), frame }).await;
            }
        }
    }

    /// A user has changed its settings.
    pub(crate) async fn set(&self, user: &str, settings: Settings) {
        self.shared.presence.hides(user, settings.hide_last_seen).await;
        let frame = Box::new(Body::Settings(words::settings(settings)));
        self.shared.tell(Tell::Push { mcast: McastId::user(user), frame }).await;
    }

    /// A user has made a conversation silent, or not: its devices find it by a sync.
    pub(crate) async fn silenced(&self, user: &str) {
        self.shared.tell(Tell::Resync { mcast: McastId::user(user) }).await;
    }
}
