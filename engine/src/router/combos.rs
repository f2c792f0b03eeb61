//! Combos: gifts of one user and one name, one soon after the other, as one line that counts up.
//!
//! Owns two things. What waits: a gift whose combo already waits for its place is folded into it,
//! so however fast somebody taps, a flush has one message of a combo. And the totals: how many
//! gifts a combo has, from its first message to its last; the table is bounded, and of the combos
//! in it the one that was idle longest is forgotten. Knows no room and no clock; what becomes of a
//! gift others say.
//!
//! The invariant: what a message counts, and so each total, is the sum of the gifts whose senders
//! were told `ACCEPTED` or `MERGED` for it, and of no others. So nobody is told anything of a gift
//! that was folded before the message that it was folded into is decided: both share its fate.

use super::{Candidate, Origin};
use crate::Map;
use crate::hash::Seeded;
use crate::seam::Tick;
use bytes::Bytes;
use std::collections::BTreeMap;
use uproar_proto::v1;

/// One gift that was folded into another one: where its verdict goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tap {
    pub origin: Origin,
    pub client_msg_id: Bytes,
}

/// Gifts with a name, on their way to one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gift {
    /// 1 to 32 bytes of UTF-8.
    pub name: Bytes,
    /// How many, all in all.
    pub count: u64,
    /// When the first and the last of them were received.
    pub first: Tick,
    pub last: Tick,
    /// All but the first.
    pub folded: Vec<Tap>,
    /// Others are folded into it by [`Combos::fold`]; what it has of them, the table has.
    pub is_open: bool,
}

impl Gift {
    /// `count` gifts, of one frame.
    #[must_use]
    pub fn new(name: Bytes, count: u32, received: Tick) -> Gift {
        let count = u64::from(count.max(1));
        Gift { name, count, first: received, last: received, folded: Vec::new(), is_open: false }
    }

    /// What a message says of it, where its combo comes to `total` with it.
    #[must_use]
    pub fn told(&self, combo: u64, total: u64) -> Box<v1::Combo> {
        let gift = String::from_utf8_lossy(&self.name).into_owned();
        Box::new(v1::Combo { gift, count: self.count, total, combo })
    }

    /// Takes in the gifts of another candidate, where the two have at most `folds_max` senders to
    /// tell.
    pub fn fold(&mut self, other: Candidate, folds_max: usize) -> Folding {
        let folded = self.folded.len() + other.gift.as_ref().map_or(0, |gift| gift.folded.len());
        match other.gift {
            Some(gift) if folded < folds_max => {
                let Candidate { origin, client_msg_id, .. } = other;
                self.count = self.count.saturating_add(gift.count);
                self.last = self.last.max(gift.last);
                self.folded.push(Tap { origin, client_msg_id });
                self.folded.extend(gift.folded);
                Folding::Done
            }
            gift => Folding::TooMany(Candidate { gift, ..other }),
        }
    }
}

/// The longest wait between the receipt of a gift and its place, as far as it is counted here: for
/// the platform's word (5 s) and for its turn.
const WAIT_US_MAX: u64 = 7_000_000;

/// A sender and a gift's name.
type Key = (u64, Bytes);
/// The same, and whether rules of the room concern it: a backend's gift shares no user's fate.
type OpenKey = (u64, Bytes, bool);

/// A combo that may go on.
#[derive(Debug)]
struct Running {
    combo: u64,
    total: u64,
    last: Tick,
}

/// See the module.
#[derive(Debug)]
pub struct Combos {
    pause_us: u64,
    running_max: usize,
    folds_max: usize,
    /// Of the candidates that wait, what was folded into them since.
    open: Map<OpenKey, Gift>,
    running: Map<Key, Running>,
    /// Those in `running`, by when they were last added to.
    idle: BTreeMap<(Tick, u64), Key>,
    last: u64,
    forgotten: u64,
}

impl Combos {
    /// None. `combo_ms`: the longest pause within a combo; `combos_max`: combos that may go on at
    /// once; `folds_max`: gifts that may be folded into one message.
    #[must_use]
    pub fn new(seed: u64, combo_ms: u32, combos_max: u32, folds_max: u32) -> Combos {
        Combos {
            pause_us: u64::from(combo_ms) * 1_000,
            running_max: combos_max as usize,
            folds_max: folds_max as usize,
            open: Map::with_hasher(Seeded(seed)),
            running: Map::with_hasher(Seeded(seed)),
            idle: BTreeMap::new(),
            last: 0,
            forgotten: 0,
        }
    }

    /// Folds a candidate into the one of its combo that waits.
    pub fn fold(&mut self, candidate: Candidate) -> Folding {
        match open_key(&candidate).and_then(|key| self.open.get_mut(&key)) {
            None => Folding::First(candidate),
            Some(waits) => waits.fold(candidate, self.folds_max),
        }
    }

    /// A candidate begins to wait for its place: later ones of its combo are folded into it, until
    /// [`Combos::close`].
    pub fn open(&mut self, candidate: &mut Candidate) {
        let Some(key) = open_key(candidate) else { return };
        if let Some(gift) = &mut candidate.gift {
            let left = Gift { is_open: true, ..Gift::new(gift.name.clone(), 0, gift.last) };
            self.open.insert(key, std::mem::replace(&mut **gift, left));
        }
    }

    /// A candidate waits no more: it has everything that was folded into it.
    pub fn close(&mut self, candidate: &mut Candidate) {
        let Some(key) = open_key(candidate) else { return };
        if let Some(gift) = &mut candidate.gift
            && std::mem::take(&mut gift.is_open)
            && let Some(whole) = self.open.remove(&key)
        {
            **gift = whole;
        }
    }

    /// Gifts that were folded into candidates that wait.
    #[must_use]
    pub fn folded(&self) -> u64 {
        self.open.values().map(|gift| gift.folded.len() as u64).sum()
    }

    /// A gift gets its place: what its message says of its combo; `None` where it has no name.
    pub fn count(&mut self, candidate: &Candidate) -> Option<Box<v1::Combo>> {
        let (key, gift) = (key(candidate)?, candidate.gift.as_ref()?);
        let former = self.running.get(&key).map(|one| (one.last, one.combo, one.total));
        let goes_on = |(last, ..): &(Tick, u64, u64)| gift.first.since_us(*last) <= self.pause_us;
        let (combo, total) = match former.filter(goes_on) {
            Some((_, combo, total)) => (combo, total.saturating_add(gift.count)),
            None => {
                self.last += 1;
                (self.last, gift.count)
            }
        };
        if let Some((last, combo, _)) = former {
            self.idle.remove(&(last, combo));
        }
        let last = gift.last.max(former.map_or(Tick(0), |(last, ..)| last));
        self.idle.insert((last, combo), key.clone());
        self.running.insert(key, Running { combo, total, last });
        self.forget(candidate.received);
        Some(gift.told(combo, total))
    }

    /// Lets go of what is over, and of what there is no room for.
    fn forget(&mut self, now: Tick) {
        while let Some(((last, _), _)) = self.idle.first_key_value() {
            let is_over = now.since_us(*last) > self.pause_us + WAIT_US_MAX;
            if !is_over && self.running.len() <= self.running_max {
                break;
            }
            self.forgotten += u64::from(!is_over);
            if let Some((_, key)) = self.idle.pop_first() {
                self.running.remove(&key);
            }
        }
    }

    /// Combos that were forgotten before they were over, since there were too many; since this was
    /// asked last.
    pub fn take_forgotten(&mut self) -> u64 {
        std::mem::take(&mut self.forgotten)
    }
}

/// What became of a candidate that was to be folded into another one.
#[derive(Debug, PartialEq, Eq)]
pub enum Folding {
    Done,
    /// No other of its combo waits, or it is no gift with a name.
    First(Candidate),
    /// The one that waits can take no more.
    TooMany(Candidate),
}

fn key(candidate: &Candidate) -> Option<Key> {
    candidate.gift.as_ref().map(|gift| (candidate.sender.key, gift.name.clone()))
}

fn open_key(candidate: &Candidate) -> Option<OpenKey> {
    key(candidate).map(|(sender, name)| (sender, name, candidate.sender.exempt))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::tests::candidate;
    use proptest::prelude::*;
    use uproar_proto::v1::Class;

    const SECOND: u64 = 1_000_000;

    pub(crate) fn gift(sender: u64, name: &str, count: u32, at: u64) -> Candidate {
        let name = Bytes::from(name.to_owned());
        let gift = Some(Box::new(Gift::new(name, count, Tick(at))));
        Candidate { gift, ..candidate(sender, Class::Gift, at) }
    }

    fn combos() -> Combos {
        Combos::new(7, 5_000, 1_000, 4_000)
    }

    fn counted(combos: &mut Combos, gift: &Candidate) -> (u64, u64, u64) {
        let combo = combos.count(gift).expect("it has a name");
        (combo.combo, combo.count, combo.total)
    }

    #[test]
    fn each_gift_prolongs_its_combo_and_a_pause_ends_it() {
        let mut combos = combos();
        assert_eq!(counted(&mut combos, &gift(1, "rose", 0, 0)), (1, 1, 1), "0 counts as 1");
        assert_eq!(counted(&mut combos, &gift(1, "rose", 3, 5 * SECOND)), (1, 3, 4));
        assert_eq!(counted(&mut combos, &gift(2, "rose", 1, 5 * SECOND)), (2, 1, 1));
        assert_eq!(counted(&mut combos, &gift(1, "car", 1, 5 * SECOND)), (3, 1, 1));
        assert_eq!(counted(&mut combos, &gift(1, "rose", 1, 10 * SECOND)), (1, 1, 5));
        assert_eq!(counted(&mut combos, &gift(1, "rose", 1, 15 * SECOND + 1)), (4, 1, 1));
        // They are kept while what was given within the pause may still wait for its place.
        assert_eq!((combos.running.len(), combos.idle.len()), (3, 3));
        assert_eq!(counted(&mut combos, &gift(1, "rose", 1, 18 * SECOND)), (4, 1, 2));
        assert_eq!((combos.running.len(), combos.idle.len()), (1, 1), "the others are over");
        assert_eq!(combos.count(&candidate(1, Class::Gift, 0)), None, "it has no name");
    }

    #[test]
    fn what_waits_takes_others_of_its_combo_in_and_no_others() {
        let mut combos = combos();
        let mut first = gift(1, "rose", 2, 0);
        combos.open(&mut first);
        assert_eq!(combos.fold(gift(1, "rose", 3, 9)), Folding::Done);
        for other in [gift(1, "car", 1, 9), gift(2, "rose", 1, 9), candidate(1, Class::Gift, 9)] {
            assert_eq!(combos.fold(other.clone()), Folding::First(other));
        }
        let mut paid = gift(1, "rose", 1, 9);
        paid.sender.exempt = true;
        assert_eq!(combos.fold(paid.clone()), Folding::First(paid), "a backend's");
        assert_eq!(combos.folded(), 1);
        // What is refused beside it takes nothing from it.
        combos.close(&mut gift(1, "rose", 1, 9));
        combos.close(&mut first);
        let whole = first.gift.as_ref().expect("it has a name");
        assert_eq!((whole.count, whole.last, first.offered()), (5, Tick(9), 2));
        assert_eq!((combos.folded(), combos.open.len()), (0, 0));
    }

    #[test]
    fn the_table_and_what_is_folded_are_bounded() {
        let mut combos = Combos::new(7, 5_000, 10, 3);
        for sender in 0..100 {
            counted(&mut combos, &gift(sender, "rose", 1, sender));
        }
        assert_eq!((combos.running.len(), combos.idle.len()), (10, 10));
        assert_eq!((combos.take_forgotten(), combos.take_forgotten()), (90, 0));
        assert_eq!(counted(&mut combos, &gift(0, "rose", 1, 100)), (101, 1, 1), "it was cut");
        let mut first = gift(1, "car", 1, 0);
        combos.open(&mut first);
        for n in 0..5 {
            let more = combos.fold(gift(1, "car", 1, n));
            assert_eq!(matches!(more, Folding::TooMany(_)), n >= 3, "{n}: {more:?}");
        }
        combos.close(&mut first);
        assert_eq!(first.offered(), 4);
    }

    /// Totals as anybody would count them who keeps every gift.
    fn brute_force(gifts: &[(u64, u64, u64, u64)]) -> Vec<u64> {
        let total_at = |at: usize| {
            let (time, sender, name, _) = gifts[at];
            let (mut total, mut since) = (0, time);
            for (earlier, from, called, count) in gifts[..=at].iter().rev() {
                if (*from, *called) == (sender, name) && since - earlier <= 5 * SECOND {
                    (total, since) = (total + count, *earlier);
                } else if (*from, *called) == (sender, name) {
                    break;
                }
            }
            total
        };
        (0..gifts.len()).map(total_at).collect()
    }

    proptest! {
        #[test]
        fn totals_are_those_of_brute_force_however_gifts_are_folded(
            steps in prop::collection::vec(
                (0u64..3_000_000, 0u64..3, 0u64..2, 1u32..5, any::<bool>()), 1..300)
        ) {
            let mut combos = combos();
            let (mut at, mut gifts) = (0, Vec::new());
            let mut waiting: Vec<(Candidate, usize)> = Vec::new();
            let mut told = BTreeMap::new();
            for (pause, sender, name, count, is_flushed) in steps {
                // A flush comes before a combo could be over, as it does at home.
                at += if waiting.is_empty() { pause * 3 } else { pause.min(SECOND) };
                gifts.push((at, sender, name, u64::from(count)));
                let taken = gift(sender, &name.to_string(), count, at);
                let place = gifts.len() - 1;
                match combos.fold(taken) {
                    Folding::Done => {
                        let host = waiting.iter_mut().find(|(host, _)| {
                            let called = &host.gift.as_ref().expect("named").name;
                            host.sender.user.parse() == Ok(sender)
                                && **called == *name.to_string().as_bytes()
                        });
                        host.expect("it waits").1 = place;
                    }
                    Folding::First(mut first) => {
                        combos.open(&mut first);
                        waiting.push((first, place));
                    }
                    Folding::TooMany(_) => prop_assert!(false, "it never has so many"),
                }
                let oldest = waiting.first().map_or(at, |(first, _)| first.received.0);
                if is_flushed || at - oldest > 2 * SECOND {
                    for (mut first, last) in waiting.drain(..) {
                        combos.close(&mut first);
                        told.insert(last, combos.count(&first).expect("named").total);
                    }
                }
            }
            let exact = brute_force(&gifts);
            for (place, total) in told {
                prop_assert_eq!(total, exact[place], "gift {} of {:?}", place, gifts);
            }
        }
    }
}
