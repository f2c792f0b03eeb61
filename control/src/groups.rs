//! Groups: what they are, who may do what in them, and how that changes.
//!
//! Owns the rules. A change is one transaction under the lock of the group's conversation: it
//! looks, decides, and writes, and every change is a notice in the group's log, so that joining and
//! leaving have a seq. Who is told is `conversations`' to do.

mod change;
#[cfg(test)]
mod crowd_tests;
pub(crate) mod looks;
mod reads;
#[cfg(test)]
mod tests;

pub(crate) use change::{Act, Changed, Limits, Noted, Operation, User, change, stands};
pub(crate) use reads::{changed, readers};
use sha2::{Digest, Sha256};
use uproar_proto::error::Code;

/// The longest name of a group, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 128;
/// The longest announcement, in bytes.
pub(crate) const ANNOUNCEMENT_BYTES_MAX: usize = 4_096;
/// The longest text of a request to be let in, in bytes.
pub(crate) const REQUEST_BYTES_MAX: usize = 256;
/// In the place of a user who does something to a group: an operator. No user has this id; on the
/// wire its name is empty.
pub(crate) const OPERATOR: i64 = 0;
/// Users named in one request.
pub(crate) const USERS_MAX: usize = 1_000;

/// What a member may do, each more than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Reads, writes, leaves; invites where the group lets members.
    Member = 0,
    /// Lets in, removes, mutes, names the group, announces.
    Moderator = 1,
    /// Names moderators, hands the group on, ends it.
    Owner = 2,
}

impl Role {
    pub(crate) fn from_row(role: i64) -> Role {
        match role {
            2 => Role::Owner,
            1 => Role::Moderator,
            _ => Role::Member,
        }
    }

    /// As people read it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Role::Member => "member",
            Role::Moderator => "moderator",
            Role::Owner => "owner",
        }
    }
}

/// How one becomes a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Joining {
    /// A member invites, or a link.
    Invite = 0,
    /// A moderator lets in whoever asks, was invited by a member, or came by a link.
    Approve = 1,
    /// Whoever knows the group's id.
    Open = 2,
}

impl Joining {
    pub(crate) fn from_row(joining: i64) -> Joining {
        match joining {
            2 => Joining::Open,
            1 => Joining::Approve,
            _ => Joining::Invite,
        }
    }
}

/// The conversation of a group that a platform names by a key of its own: the same one at every
/// try.
pub(crate) fn keyed_conv(key: &str) -> i64 {
    let mut hash = Sha256::new();
    hash.update(b"group\0");
    hash.update(key.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash.finalize()[..8]);
    i64::from_be_bytes(first) & i64::MAX
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// Its conversation.
    pub(crate) conv: i64,
    pub(crate) name: String,
    pub(crate) announcement: String,
    pub(crate) joining: Joining,
    /// Only moderators and the owner may write.
    pub(crate) muted_all: bool,
    /// Members now.
    pub(crate) size: i64,
    /// Nobody is in it any more.
    pub(crate) ended: bool,
    pub(crate) created_ms: i64,
    pub(crate) owner: i64,
    /// The newest seq of its log.
    pub(crate) head: i64,
}

/// A member of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) user: i64,
    /// It reads what is above.
    pub(crate) since: i64,
    pub(crate) role: Role,
    pub(crate) muted_until_ms: i64,
    pub(crate) read_seq: i64,
}

/// Whoever knows its token may join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// 128 random bits.
    pub(crate) token: String,
    pub(crate) conv: i64,
    pub(crate) made_by: i64,
    pub(crate) expires_ms: i64,
    pub(crate) uses_left: i64,
}

impl Link {
    pub(crate) fn is_good(&self, now_ms: i64) -> bool {
        self.expires_ms > now_ms && self.uses_left > 0
    }
}

/// What happens to somebody who would be a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// In.
    Joins,
    /// A moderator is asked.
    Waits,
}

/// How somebody comes to the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// Named by a member of that role.
    Invited(Role),
    /// With a link.
    Link,
    /// With the group's id alone.
    Id,
}

/// Whether a group lets somebody in.
pub(crate) fn entry(joining: Joining, door: Door) -> Result<Entry, Code> {
    match (joining, door) {
        (_, Door::Invited(Role::Moderator | Role::Owner)) | (Joining::Open, _) => Ok(Entry::Joins),
        (Joining::Invite, Door::Invited(Role::Member) | Door::Link) => Ok(Entry::Joins),
        (Joining::Approve, _) => Ok(Entry::Waits),
        (Joining::Invite, Door::Id) => Err(Code::Forbidden),
    }
}

/// Whether one member may remove or mute another one.
pub(crate) fn may_moderate(actor: Role, target: Role) -> Result<(), Code> {
    if actor >= Role::Moderator && actor > target { Ok(()) } else { Err(Code::Forbidden) }
}

/// Whether a member has at least this role.
pub(crate) fn need(actor: Role, least: Role) -> Result<(), Code> {
    if actor >= least { Ok(()) } else { Err(Code::Forbidden) }
}
