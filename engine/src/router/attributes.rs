//! The attributes of a room: a small map with a version, changed by compare-and-set, told as
//! merged differences.
//!
//! Owns the version and what of it viewers have not been told yet. The home tells it at most every
//! 250 ms: what changes faster is merged, and a key that changes ten times is told once.

use crate::seam::Tick;
use std::collections::BTreeMap;
use uproar_proto::control::{AttributeChange, AttributesOutcome, check_attributes};
use uproar_proto::ids::{Epoch, RoomId};
use uproar_proto::v1;

/// A change is told this long after the one before, at the soonest: four frames a second.
const TELL_EVERY_US: u64 = 250_000;

/// See the module.
#[derive(Debug, Default)]
pub struct Attributes {
    now: BTreeMap<String, String>,
    version: u64,
    /// What viewers were last told, and when.
    told: BTreeMap<String, String>,
    told_version: u64,
    told_at: Option<Tick>,
}

impl Attributes {
    /// A room begins with these; viewers learn them by joining.
    #[must_use]
    pub fn new(now: BTreeMap<String, String>) -> Attributes {
        Attributes { told: now.clone(), now, ..Attributes::default() }
    }

    /// As they are, and their version.
    #[must_use]
    pub fn now(&self) -> (&BTreeMap<String, String>, u64) {
        (&self.now, self.version)
    }

    /// Changes keys, where the version is the one that the caller knows.
    pub fn change(&mut self, change: AttributeChange) -> AttributesOutcome {
        let AttributeChange { set, remove, if_version } = change;
        if if_version.is_some_and(|known| known != self.version) {
            return AttributesOutcome::Conflict { version: self.version };
        }
        let mut next = self.now.clone();
        remove.iter().for_each(|key| drop(next.remove(key)));
        next.extend(set);
        if let Err(text) = check_attributes(&next) {
            return AttributesOutcome::TooMuch { text };
        }
        self.replace(next);
        AttributesOutcome::Changed { version: self.version, attributes: self.now.clone() }
    }

    /// Replaces all of them; the version rises where that changes anything.
    pub fn replace(&mut self, next: BTreeMap<String, String>) {
        if next != self.now {
            self.now = next;
            self.version += 1;
        }
    }

    /// When viewers may be told; `NEVER` where they know.
    #[must_use]
    pub fn due(&self) -> Tick {
        if self.version == self.told_version {
            return Tick::NEVER;
        }
        self.told_at.map_or(Tick(0), |at| Tick(at.0 + TELL_EVERY_US))
    }

    /// What viewers are told now, if it is due; counts as told.
    pub fn take(&mut self, room: &RoomId, epoch: Epoch, now: Tick) -> Option<v1::Attributes> {
        if self.due() > now {
            return None;
        }
        let differs = |(key, value): &(&String, &String)| self.told.get(*key) != Some(*value);
        let set = self.now.iter().filter(differs).map(|(k, v)| (k.clone(), v.clone())).collect();
        let gone = self.told.keys().filter(|key| !self.now.contains_key(*key));
        let change = v1::Attributes {
            room: room.to_string(),
            epoch: epoch.0,
            version: self.version,
            from_version: self.told_version,
            set,
            removed: gone.cloned().collect(),
            whole: false,
        };
        self.told.clone_from(&self.now);
        (self.told_version, self.told_at) = (self.version, Some(now));
        Some(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(key: &str, value: &str, if_version: Option<u64>) -> AttributeChange {
        let set = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        AttributeChange { set, remove: Vec::new(), if_version }
    }

    #[test]
    fn of_two_who_know_one_version_one_wins() {
        let mut attributes = Attributes::new(BTreeMap::new());
        let first = attributes.change(set("host", "ann", Some(0)));
        assert!(matches!(first, AttributesOutcome::Changed { version: 1, .. }), "{first:?}");
        let second = attributes.change(set("host", "bob", Some(0)));
        assert_eq!(second, AttributesOutcome::Conflict { version: 1 });
        assert_eq!(attributes.now().0["host"], "ann");
        let large = attributes.change(set("x", &"x".repeat(17_000), None));
        assert!(matches!(large, AttributesOutcome::TooMuch { .. }), "{large:?}");
        assert_eq!(attributes.now().1, 1, "what was refused changes nothing");
    }

    #[test]
    fn fast_changes_are_merged_and_told_four_times_a_second() {
        let room = RoomId::new("r").expect("legal");
        let mut attributes = Attributes::new(BTreeMap::new());
        let mut told = Vec::new();
        for ms in 0..1_000u64 {
            attributes.change(set("score", &ms.to_string(), None));
            attributes.change(set("brief", "x", None));
            let brief = AttributeChange { remove: vec!["brief".into()], ..Default::default() };
            attributes.change(brief);
            told.extend(attributes.take(&room, Epoch(1), Tick(ms * 1_000)));
        }
        assert_eq!(told.len(), 4, "{told:?}");
        for pair in told.windows(2) {
            assert_eq!(pair[0].version, pair[1].from_version, "no hole between two");
            assert!(pair[1].removed.is_empty() && pair[1].set.len() == 1, "{pair:?}");
        }
        assert_eq!(attributes.due(), Tick(1_000_000));
    }
}
