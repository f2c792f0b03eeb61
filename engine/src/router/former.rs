//! What is kept of a room's former lives, as far as this one has been told.
//!
//! Owns where the next page begins, which answer is waited for, and which decisions of this life
//! win over what is kept. Never bans or mutes anybody, never asks anybody: time and ways are the
//! shard's.

use std::collections::BTreeSet;
use uproar_proto::control::{Penalty, PenaltyKind, PenaltyMark};

/// Decisions of this life that are remembered until all of what is kept was told. Reached: it is
/// asked for from the beginning again, since whoever keeps it has been told of them by then.
const DECIDED_MAX: usize = 4_096;

/// Of one life of a room.
#[derive(Debug, Default)]
pub struct Former {
    /// `None`: it was told all there is, or nobody keeps anything.
    awaited: Option<Awaited>,
}

#[derive(Debug, Default)]
struct Awaited {
    /// The last question; an answer to another one is not looked at.
    number: u32,
    after: Option<PenaltyMark>,
    /// Since the life began, or what is kept was first asked for from the beginning.
    decided: BTreeSet<PenaltyMark>,
}

impl Former {
    /// A room that begins; `is_kept`: somebody keeps what former lives have decided.
    #[must_use]
    pub fn new(is_kept: bool) -> Former {
        Former { awaited: is_kept.then(Awaited::default) }
    }

    /// Whether the room does not know yet what is kept.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.awaited.is_some()
    }

    /// The next question: its number, and behind what it begins; `None`: there is nothing to ask.
    pub fn ask(&mut self) -> Option<(u32, Option<PenaltyMark>)> {
        let awaited = self.awaited.as_mut()?;
        awaited.number = awaited.number.wrapping_add(1);
        Some((awaited.number, awaited.after.clone()))
    }

    /// This life has decided about a user: whatever is kept of that does not count any more.
    pub fn decided(&mut self, kind: PenaltyKind, user: &str) {
        let Some(awaited) = &mut self.awaited else { return };
        if awaited.decided.len() >= DECIDED_MAX {
            // The answer that is on its way does not count either.
            let number = awaited.number.wrapping_add(1);
            *awaited = Awaited { number, ..Awaited::default() };
        }
        awaited.decided.insert((kind, user.to_owned()));
    }

    /// A page was told: those of it that count. `None`: nobody waits for this answer.
    pub fn told(
        &mut self,
        number: u32,
        mut list: Vec<Penalty>,
        is_all: bool,
    ) -> Option<Vec<Penalty>> {
        let awaited = self.awaited.as_mut().filter(|awaited| awaited.number == number)?;
        let last = list.last().map(|last| (last.kind, last.user.clone()));
        let is_decided = |one: &Penalty| awaited.decided.contains(&(one.kind, one.user.clone()));
        list.retain(|one| !is_decided(one));
        match last {
            Some(last) if !is_all => awaited.after = Some(last),
            // A page of nothing has nothing behind it.
            _ => self.awaited = None,
        }
        Some(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ban(user: &str) -> Penalty {
        Penalty { kind: PenaltyKind::Ban, user: user.into(), until_ms: 9 }
    }

    #[test]
    fn what_this_life_has_decided_wins_over_what_is_kept() {
        let mut former = Former::new(true);
        assert_eq!(former.ask(), Some((1, None)));
        former.decided(PenaltyKind::Ban, "ann");
        former.decided(PenaltyKind::Mute, "bob");
        let kept = vec![ban("ann"), ban("bob")];
        assert_eq!(former.told(1, kept, true), Some(vec![ban("bob")]), "bob's mute is no ban");
        assert!(!former.is_awaited());
        assert_eq!((former.ask(), former.told(1, vec![ban("cid")], true)), (None, None));
        assert!(!Former::new(false).is_awaited(), "nobody keeps anything");
    }

    #[test]
    fn pages_follow_each_other_and_only_the_last_question_is_answered() {
        let mut former = Former::new(true);
        former.ask();
        assert_eq!(former.ask(), Some((2, None)), "it was not told in time");
        assert_eq!(former.told(1, vec![ban("ann")], true), None);
        assert_eq!(former.told(2, vec![ban("ann")], false), Some(vec![ban("ann")]));
        assert_eq!(former.told(2, vec![ban("ann")], false), Some(vec![ban("ann")]), "twice");
        assert_eq!(former.ask(), Some((3, Some((PenaltyKind::Ban, "ann".into())))));
        assert_eq!(former.told(2, vec![ban("bob")], true), None, "of the page before");
        assert_eq!(former.told(3, Vec::new(), false), Some(Vec::new()));
        assert!(!former.is_awaited(), "there is nothing behind nothing");
    }

    #[test]
    fn too_many_decisions_begin_the_question_again() {
        let mut former = Former::new(true);
        former.ask();
        former.told(1, vec![ban("ann")], false);
        former.ask();
        (0..=DECIDED_MAX).for_each(|n| former.decided(PenaltyKind::Ban, &n.to_string()));
        assert_eq!(former.told(2, vec![ban("0")], true), None, "asked before they were told");
        assert_eq!(former.ask(), Some((4, None)));
        let last = DECIDED_MAX.to_string();
        assert_eq!(former.told(4, vec![ban(&last)], true), Some(Vec::new()));
    }
}
