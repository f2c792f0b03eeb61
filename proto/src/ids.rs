//! The identifiers that cross a wire or a queue. One meaning each; none is used for another.

use crate::names::is_dots;
use std::fmt;
use std::sync::Arc;

/// A place in a room's stream within one epoch. The first message of an epoch has seq 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// A random value that names one life of a room; compared for equality only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Epoch(pub u64);

/// The name of a room: 1 to 64 bytes of `A-Z a-z 0-9 . _ : -`, but not `.` and `..`, which no URL
/// can name. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomId(Arc<str>);

/// The longest room name, in bytes: fits a UUID with a prefix, and bounds every table keyed by it.
pub const ROOM_ID_BYTES_MAX: usize = 64;

impl RoomId {
    /// Checks and takes a name; `None` where it breaks the rule above.
    #[must_use]
    pub fn new(name: &str) -> Option<RoomId> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-');
        let ok = !name.is_empty() && name.len() <= ROOM_ID_BYTES_MAX && name.bytes().all(legal);
        (ok && !is_dots(name)).then(|| RoomId(Arc::from(name)))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "room:{}", self.0)
    }
}

impl fmt::Display for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for RoomId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// The longest name of a conversation, in bytes: `group:` and the longest user name.
pub const CONVERSATION_BYTES_MAX: usize = 6 + crate::token::USER_BYTES_MAX;

/// The name of a set of connections that stored messages are pushed to: `user:NAME` (all devices
/// of a user) or `group:ID` (the online members of a group). Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct McastId(Arc<str>);

impl McastId {
    /// Every device of a user.
    #[must_use]
    pub fn user(name: &str) -> McastId {
        McastId(Arc::from(format!("user:{name}")))
    }

    /// The online members of a group.
    #[must_use]
    pub fn group(id: &str) -> McastId {
        McastId(Arc::from(format!("group:{id}")))
    }

    /// One of both, by its whole name; `None` for what is neither.
    #[must_use]
    pub fn named(name: &str) -> Option<McastId> {
        let is_one = name.starts_with("user:") || name.starts_with("group:");
        is_one.then(|| McastId(Arc::from(name)))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a group's.
    #[must_use]
    pub fn is_group(&self) -> bool {
        self.0.starts_with("group:")
    }
}

impl fmt::Debug for McastId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_name_is_bounded_and_plain() {
        assert!(RoomId::new("stage-1:main_A.b").is_some());
        for bad in ["", ".", ".."] {
            assert!(RoomId::new(bad).is_none(), "{bad:?}");
        }
        assert!(RoomId::new("...").is_some());
        assert!(RoomId::new("a b").is_none());
        assert!(RoomId::new("gr\u{fc}n").is_none());
        assert!(RoomId::new(&"x".repeat(64)).is_some());
        assert!(RoomId::new(&"x".repeat(65)).is_none());
    }
}
