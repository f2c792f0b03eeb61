//! Bans and mutes of rooms, as the link's messages say them, and back.

use super::Bad;
use crate::v1::{self, penalty};
use uproar_proto::control::{Kept, KeptQuestion, Penalties, Penalty, PenaltyKind, PenaltyMark};
use uproar_proto::ids::{Epoch, RoomId};
use uproar_proto::token::USER_BYTES_MAX;

fn from_penalty(penalty: Penalty) -> v1::Penalty {
    let Penalty { kind, user, until_ms } = penalty;
    let of = match kind {
        PenaltyKind::Ban => penalty::Of::Ban(user),
        PenaltyKind::Mute => penalty::Of::Mute(user),
    };
    v1::Penalty { of: Some(of), until_ms }
}

fn to_penalty(penalty: v1::Penalty) -> Result<Penalty, Bad> {
    let v1::Penalty { of, until_ms } = penalty;
    let (kind, user) = match of.ok_or("a penalty of no kind")? {
        penalty::Of::Ban(user) => (PenaltyKind::Ban, user),
        penalty::Of::Mute(user) => (PenaltyKind::Mute, user),
    };
    if !(1..=USER_BYTES_MAX).contains(&user.len()) {
        return Err("a penalty of nobody");
    }
    Ok(Penalty { kind, user, until_ms })
}

fn to_list(list: Vec<v1::Penalty>) -> Result<Vec<Penalty>, Bad> {
    list.into_iter().map(to_penalty).collect()
}

fn to_room(room: &str) -> Result<RoomId, Bad> {
    RoomId::new(room).ok_or("a room of no such name")
}

/// As it goes to control.
pub(crate) fn from_penalties(penalties: Penalties) -> v1::Penalties {
    let Penalties { room, list } = penalties;
    let list = list.into_iter().map(from_penalty).collect();
    v1::Penalties { room: room.as_str().to_owned(), list }
}

/// As control takes it in.
pub(crate) fn to_penalties(penalties: v1::Penalties) -> Result<Penalties, Bad> {
    let v1::Penalties { room, list } = penalties;
    Ok(Penalties { room: to_room(&room)?, list: to_list(list)? })
}

/// As it goes to control.
pub(crate) fn from_kept_question(question: KeptQuestion) -> v1::KeptQuestion {
    let KeptQuestion { node: _, room, epoch, number, after } = question;
    let mark = |(kind, user): PenaltyMark| from_penalty(Penalty { kind, user, until_ms: 0 });
    let (room, after) = (room.as_str().to_owned(), after.map(mark));
    v1::KeptQuestion { room, epoch: epoch.0, number, after }
}

/// As control takes it in from this node.
pub(crate) fn to_kept_question(node: u16, said: v1::KeptQuestion) -> Result<KeptQuestion, Bad> {
    let v1::KeptQuestion { room, epoch, number, after } = said;
    let after = after.map(to_penalty).transpose()?.map(|mark| (mark.kind, mark.user));
    Ok(KeptQuestion { node, room: to_room(&room)?, epoch: Epoch(epoch), number, after })
}

/// As it goes to engines.
pub(super) fn from_kept(kept: Kept) -> v1::Kept {
    let Kept { node: _, room, epoch, number, list, is_all } = kept;
    let list = list.into_iter().map(from_penalty).collect();
    v1::Kept { room: room.as_str().to_owned(), epoch: epoch.0, number, list, is_all }
}

/// As an engine hears it.
pub(super) fn to_kept(kept: v1::Kept) -> Result<Kept, Bad> {
    let v1::Kept { room, epoch, number, list, is_all } = kept;
    let (room, list) = (to_room(&room)?, to_list(list)?);
    Ok(Kept { node: 0, room, epoch: Epoch(epoch), number, list, is_all })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use prost::Message as _;
    use uproar_proto::control::Tell;

    fn list() -> Vec<Penalty> {
        let one = |kind, user: &str, until_ms| Penalty { kind, user: user.into(), until_ms };
        vec![one(PenaltyKind::Ban, "\u{5fae}", u64::MAX), one(PenaltyKind::Mute, "ann", 0)]
    }

    /// What a room is told.
    pub(crate) fn told() -> Tell {
        let room = RoomId::new("stage").unwrap();
        let (epoch, list) = (Epoch(u64::MAX), list());
        Tell::Kept(Box::new(Kept { node: 0, room, epoch, number: 7, list, is_all: true }))
    }

    #[test]
    fn what_is_kept_and_asked_arrives_as_it_was_and_names_its_node() {
        let room = RoomId::new("stage").unwrap();
        let penalties = Penalties { room: room.clone(), list: list() };
        let sent = from_penalties(penalties.clone()).encode_to_vec();
        assert_eq!(to_penalties(v1::Penalties::decode(&sent[..]).unwrap()), Ok(penalties));
        for after in [None, Some((PenaltyKind::Mute, "ann".to_owned()))] {
            let (node, epoch, room) = (0, Epoch(u64::MAX), room.clone());
            let question = KeptQuestion { node, room, epoch, number: u32::MAX, after };
            let sent = from_kept_question(question.clone()).encode_to_vec();
            let heard = to_kept_question(12, v1::KeptQuestion::decode(&sent[..]).unwrap());
            assert_eq!(heard, Ok(KeptQuestion { node: 12, ..question }));
        }
    }

    #[test]
    fn what_names_nobody_or_no_room_is_an_error() {
        let of = |of| v1::Penalty { of, until_ms: 1 };
        let room = || "stage".to_owned();
        let long = penalty::Of::Ban("x".repeat(USER_BYTES_MAX + 1));
        for bad in [of(None), of(Some(penalty::Of::Mute(String::new()))), of(Some(long))] {
            let list = vec![bad.clone()];
            assert!(to_penalties(v1::Penalties { room: room(), list: list.clone() }).is_err());
            assert!(to_kept(v1::Kept { room: room(), list, ..v1::Kept::default() }).is_err());
            let after = Some(bad);
            let question = v1::KeptQuestion { room: room(), after, ..Default::default() };
            assert!(to_kept_question(1, question).is_err());
        }
        assert!(to_penalties(v1::Penalties { room: "a b".into(), list: Vec::new() }).is_err());
        assert!(to_kept_question(1, v1::KeptQuestion::default()).is_err());
    }
}
