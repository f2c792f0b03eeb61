//! Who has come into a room, for those who are in it: each in a small room, a few in a large one.
//!
//! Owns the names until they are told, once a second. Whoever is chosen has the smallest of random
//! keys, which shards draw: each is as likely as any other. A hint: nothing depends on it.

use crate::seam::Tick;
use std::collections::BTreeMap;
use std::sync::Arc;
use uproar_proto::ids::{Epoch, RoomId};
use uproar_proto::v1;

/// Up to so many viewers each one who comes is named. Names that wait are bounded by it too.
pub const EACH_VIEWERS_MAX: u64 = 500;
/// Names of one frame in a room with more.
const SAMPLE: usize = 5;
/// A frame a second.
const TELL_EVERY_US: u64 = 1_000_000;

/// See the module.
#[derive(Debug, Default)]
pub struct Entries {
    waiting: BTreeMap<u64, Arc<str>>,
    /// Came in too, without a name here.
    more: u32,
    told_at: Option<Tick>,
}

impl Entries {
    /// Some have come in: names by their keys, and how many others.
    pub fn enter(&mut self, users: Vec<(u64, Arc<str>)>, more: u32) {
        self.more = self.more.saturating_add(more);
        for (key, user) in users {
            self.waiting.insert(key, user);
            if self.waiting.len() as u64 > EACH_VIEWERS_MAX {
                self.waiting.pop_last();
                self.more = self.more.saturating_add(1);
            }
        }
    }

    /// When viewers are to be told; `NEVER` where nobody came. Guests alone are told to nobody.
    #[must_use]
    pub fn due(&self) -> Tick {
        if self.waiting.is_empty() {
            return Tick::NEVER;
        }
        self.told_at.map_or(Tick(0), |at| Tick(at.0 + TELL_EVERY_US))
    }

    /// What viewers are told now, if it is due.
    pub fn take(
        &mut self,
        room: &RoomId,
        epoch: Epoch,
        viewers: u64,
        now: Tick,
    ) -> Option<v1::Entered> {
        if self.due() > now {
            return None;
        }
        let all = std::mem::take(&mut self.waiting);
        let named = if viewers > EACH_VIEWERS_MAX { SAMPLE } else { all.len() };
        let more = std::mem::take(&mut self.more);
        let more = more.saturating_add(all.len().saturating_sub(named) as u32);
        let users = all.into_values().take(named).map(|user| user.to_string()).collect();
        self.told_at = Some(now);
        Some(v1::Entered { room: room.to_string(), epoch: epoch.0, users, more })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::mix;

    fn come(entries: &mut Entries, users: std::ops::Range<u64>) {
        let named = users.map(|user| (mix(user), Arc::from(user.to_string()))).collect();
        entries.enter(named, 1);
    }

    #[test]
    fn a_small_room_hears_of_each_and_a_large_one_of_a_few_once_a_second() {
        let room = RoomId::new("r").expect("legal");
        let mut entries = Entries::default();
        entries.enter(Vec::new(), 3);
        assert_eq!(entries.due(), Tick::NEVER, "guests alone are no news");
        come(&mut entries, 0..20);
        let told = entries.take(&room, Epoch(1), 500, Tick(0)).expect("it is due");
        assert_eq!((told.users.len(), told.more), (20, 4));
        come(&mut entries, 0..2_000);
        assert_eq!(entries.take(&room, Epoch(1), 501, Tick(999_999)), None);
        let told = entries.take(&room, Epoch(1), 501, Tick(1_000_000)).expect("a second later");
        assert_eq!((told.users.len(), told.more), (5, 1_996));
        assert_eq!((entries.due(), entries.waiting.len()), (Tick::NEVER, 0));
        come(&mut entries, 0..2_000);
        assert_eq!(entries.waiting.len(), 500, "what waits is bounded");
    }
}
