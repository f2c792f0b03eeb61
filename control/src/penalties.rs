//! Bans and mutes of rooms, kept beyond the lives of their rooms: what homes decide is stored, and
//! a room that begins is told what is kept of it.
//!
//! Owns what waits for the store, in one task: where the store is away decisions wait here,
//! bounded, and rooms ask again. A question is answered from what was decided before it. Never
//! decides about anybody.

use crate::guard::{caught_now, kept_up};
use crate::process::unix_ms;
use crate::store::{Store, StoreError, penalties as rows};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use uproar_proto::control::{
    Engine, KEPT_PAGE, KeptQuestion, Penalties as Decided, Penalty, PenaltyKind, Sample,
    SampleKind, SampleValue, Tell,
};

/// Decisions that wait for the store, the last one about a user of a room and its kind alone; about
/// 200 bytes each. More: they end with their room's life, counted.
const WAITING_MAX: usize = 65_536;
/// Rooms that wait to be told. More: they ask again, counted.
const QUESTIONS_MAX: usize = 65_536;
/// Decisions of one transaction.
const WRITTEN_AT_ONCE: usize = 256;
/// Rooms that are read with one statement: as many as the store's longest list.
const ROOMS_AT_ONCE: usize = 64;
/// Rows of one such read: eight rooms with as many as one is told at once.
const ROWS_AT_ONCE: usize = 8 * KEPT_PAGE;
/// The pause after the store failed.
const RETRY: Duration = Duration::from_secs(1);
/// A queue of the engine was full: it empties within turns.
const TELL_RETRY: Duration = Duration::from_millis(1);
/// What is not stored when the process ends gets this long.
const END_MAX: Duration = Duration::from_secs(3);

/// A room, what is held, and against whom, by its name on the wire.
pub(crate) type Key = (String, PenaltyKind, String);
/// And until when, in milliseconds since 1970; what is past has ended.
pub(crate) type Held = (Key, i64);

/// See the module. Made before the engine, joined to it by [`Penalties::serve`].
pub struct Penalties {
    shared: Arc<Shared>,
    runtime: Handle,
}

struct Shared {
    store: Arc<Store>,
    of_room_max: i64,
    desk: Mutex<Desk>,
    work: Notify,
    is_served: AtomicBool,
    figures: Figures,
}

/// What waits.
#[derive(Default)]
struct Desk {
    decided: BTreeMap<Key, i64>,
    /// By room and node: one that asks again takes its own place.
    questions: BTreeMap<(String, u16), KeptQuestion>,
}

#[derive(Default)]
struct Figures {
    stored: AtomicU64,
    made_room: AtomicU64,
    lost: AtomicU64,
    told: AtomicU64,
    unasked: AtomicU64,
    failures: AtomicU64,
    is_failing: AtomicBool,
}

impl Penalties {
    /// In a store; of one kind a room keeps `of_room_max`: then the one that ends first makes room.
    /// Its task runs on the caller's tokio runtime.
    #[must_use]
    pub fn new(store: Arc<Store>, of_room_max: u32) -> Arc<Penalties> {
        let (desk, work, is_served, figures) = Default::default();
        let of_room_max = i64::from(of_room_max);
        let shared = Shared { store, of_room_max, desk, work, is_served, figures };
        Arc::new(Penalties { shared: Arc::new(shared), runtime: Handle::current() })
    }

    /// Begins to store, and to answer. Once.
    pub fn serve(&self, engine: Arc<dyn Engine>) {
        if !self.shared.is_served.swap(true, Relaxed) {
            let shared = Arc::clone(&self.shared);
            let task = move || work(Arc::clone(&shared), Arc::clone(&engine));
            self.runtime.spawn(kept_up("penalties", task));
        }
    }

    /// Takes in what a home has decided, without waiting.
    pub fn decided(&self, decided: Decided) {
        let Decided { room, list } = decided;
        let mut lost = 0;
        let mut desk = self.shared.desk();
        for Penalty { kind, user, until_ms } in list {
            let key = (room.as_str().to_owned(), kind, user);
            if desk.decided.len() >= WAITING_MAX && !desk.decided.contains_key(&key) {
                lost += 1;
                continue;
            }
            desk.decided.insert(key, i64::try_from(until_ms).unwrap_or(i64::MAX));
        }
        drop(desk);
        self.shared.figures.lost.fetch_add(lost, Relaxed);
        self.shared.work.notify_one();
    }

    /// Takes a question in, without waiting.
    pub fn asked(&self, question: KeptQuestion) {
        let key = (question.room.as_str().to_owned(), question.node);
        let mut desk = self.shared.desk();
        if desk.questions.len() >= QUESTIONS_MAX && !desk.questions.contains_key(&key) {
            self.shared.figures.unasked.fetch_add(1, Relaxed);
            return;
        }
        desk.questions.insert(key, question);
        drop(desk);
        self.shared.work.notify_one();
    }

    /// Stores what waits, before the store is closed.
    pub async fn end(&self) {
        if !matches!(timeout(END_MAX, self.shared.store_all()).await, Ok(Ok(()))) {
            let lost = self.shared.desk().decided.len();
            tracing::warn!(lost, "the last bans and mutes of rooms were not stored in time");
        }
    }

    /// Figures for `/metrics`.
    #[must_use]
    pub fn samples(&self) -> Vec<Sample> {
        let (waiting, questions) = {
            let desk = self.shared.desk();
            (desk.decided.len() as u64, desk.questions.len() as u64)
        };
        let f = &self.shared.figures;
        let sample = |name, help, kind, value: u64| {
            let value = SampleValue::Number(value as f64);
            Sample { name, help, kind, labels: Vec::new(), value }
        };
        let count = |name, help, value: &AtomicU64| {
            sample(name, help, SampleKind::Counter, value.load(Relaxed))
        };
        let gauge = |name, help, value| sample(name, help, SampleKind::Gauge, value);
        vec![
            count("uproar_kept_penalties_stored_total", "bans and mutes, or their end", &f.stored),
            count(
                "uproar_kept_penalties_made_room_total",
                "that made room: too many",
                &f.made_room,
            ),
            count("uproar_kept_penalties_lost_total", "that there was no room for", &f.lost),
            count("uproar_kept_penalties_failed_total", "times the store failed", &f.failures),
            gauge("uproar_kept_penalties_waiting", "bans and mutes not stored yet", waiting),
            count("uproar_kept_rooms_told_total", "pages told to rooms that began", &f.told),
            count("uproar_kept_rooms_unasked_total", "questions without room", &f.unasked),
            gauge("uproar_kept_rooms_waiting", "rooms that wait to be told", questions),
        ]
    }
}

async fn work(shared: Arc<Shared>, engine: Arc<dyn Engine>) {
    loop {
        shared.work.notified().await;
        while shared.has_work() {
            match shared.step(&*engine).await {
                Ok(()) => shared.figures.is_failing.store(false, Relaxed),
                Err(error) => {
                    shared.figures.failures.fetch_add(1, Relaxed);
                    if !shared.figures.is_failing.swap(true, Relaxed) {
                        tracing::warn!(%error, "bans and mutes of rooms wait for the store");
                    }
                    sleep(RETRY).await;
                }
            }
        }
    }
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        // Whole at every moment.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_work(&self) -> bool {
        let desk = self.desk();
        !desk.decided.is_empty() || !desk.questions.is_empty()
    }

    /// Stores what was decided, then answers some who asked before that.
    async fn step(&self, engine: &dyn Engine) -> Result<(), StoreError> {
        let asked = self.desk().next_questions();
        self.store_all().await?;
        let (mut first, mut later) = (Vec::new(), Vec::new());
        for question in asked {
            match &question.after {
                None => first.push(question),
                Some(_) => later.push(question),
            }
        }
        if !first.is_empty() {
            let rooms: BTreeSet<String> =
                first.iter().map(|question| question.room.as_str().to_owned()).collect();
            let rooms: Vec<String> = rooms.into_iter().collect();
            let found = rows::of_rooms(&self.store, &rooms, unix_ms(), ROWS_AT_ONCE).await?;
            let is_cut = found.len() >= ROWS_AT_ONCE;
            for (question, list, is_all) in pages(first, &found, is_cut) {
                self.tell(engine, &question, list, is_all).await;
            }
        }
        for question in later {
            let Some(after) = &question.after else { continue };
            let room = question.room.as_str();
            let limit = KEPT_PAGE + 1;
            let mut list = rows::of_room(&self.store, room, after, unix_ms(), limit).await?;
            let is_all = list.len() <= KEPT_PAGE;
            list.truncate(KEPT_PAGE);
            self.tell(engine, &question, list, is_all).await;
        }
        Ok(())
    }

    /// Stores all that waits.
    async fn store_all(&self) -> Result<(), StoreError> {
        let mut at_once = WRITTEN_AT_ONCE;
        loop {
            let part = self.desk().next_decided(at_once);
            if part.is_empty() {
                return Ok(());
            }
            let kept =
                rows::keep(&self.store, Arc::clone(&part), self.of_room_max, unix_ms()).await;
            match kept {
                Ok(made_room) => {
                    self.figures.stored.fetch_add(part.len() as u64, Relaxed);
                    self.figures.made_room.fetch_add(made_room, Relaxed);
                }
                // One that the store does not take must not hold up the others.
                Err(error) if error.is_about_one() && part.len() > 1 => {
                    at_once = 1;
                    continue;
                }
                Err(error) if error.is_about_one() => {
                    self.figures.lost.fetch_add(1, Relaxed);
                    tracing::error!(%error, "the store does not take a ban or mute of a room");
                }
                Err(error) => return Err(error),
            }
            self.desk().are_stored(&part);
        }
    }

    /// Tells a room a page; then it waits no more.
    async fn tell(
        &self,
        engine: &dyn Engine,
        question: &KeptQuestion,
        list: Vec<Penalty>,
        is_all: bool,
    ) {
        let mut tell: Tell = question.told(list, is_all);
        // Lost where the engine panics: the room asks again.
        while let Some(Err(back)) = caught_now("kept penalties", || engine.tell(tell)) {
            sleep(TELL_RETRY).await;
            tell = back;
        }
        self.figures.told.fetch_add(1, Relaxed);
        self.desk().is_told(question);
    }
}

impl Desk {
    fn next_questions(&self) -> Vec<KeptQuestion> {
        self.questions.values().take(ROOMS_AT_ONCE).cloned().collect()
    }

    /// Unless the room has asked again meanwhile.
    fn is_told(&mut self, question: &KeptQuestion) {
        let key = (question.room.as_str().to_owned(), question.node);
        if self.questions.get(&key) == Some(question) {
            self.questions.remove(&key);
        }
    }

    fn next_decided(&self, at_once: usize) -> Arc<[Held]> {
        let held = self.decided.iter().take(at_once);
        held.map(|(key, until_ms)| (key.clone(), *until_ms)).collect()
    }

    /// What was decided otherwise meanwhile is yet to be stored.
    fn are_stored(&mut self, part: &[Held]) {
        for (key, until_ms) in part {
            if self.decided.get(key) == Some(until_ms) {
                self.decided.remove(key);
            }
        }
    }
}

/// What each of these rooms is told of what was found of all, in the order of their names; those of
/// which not enough was read are left out: they go on waiting. `is_cut`: there is more behind the
/// last one.
fn pages(
    questions: Vec<KeptQuestion>,
    found: &[(String, Penalty)],
    is_cut: bool,
) -> Vec<(KeptQuestion, Vec<Penalty>, bool)> {
    let end = found.last().filter(|_| is_cut).map(|(room, _)| room.as_str());
    let page = |question: KeptQuestion| {
        let room = question.room.as_str();
        let of_room = found.iter().filter(|(of, _)| of == room).map(|(_, penalty)| penalty);
        let mut list: Vec<Penalty> = of_room.cloned().collect();
        let is_whole = end.is_none_or(|end| room < end);
        if !is_whole && list.len() < KEPT_PAGE {
            return None;
        }
        let is_all = is_whole && list.len() <= KEPT_PAGE;
        list.truncate(KEPT_PAGE);
        Some((question, list, is_all))
    };
    questions.into_iter().filter_map(page).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::{Listener, figure};
    use crate::store::testing::on_both;
    use uproar_proto::control::Kept;
    use uproar_proto::ids::{Epoch, RoomId};

    const LONG_MS: u64 = 4_000_000_000_000;

    fn penalty(user: &str, until_ms: u64) -> Penalty {
        Penalty { kind: PenaltyKind::Ban, user: user.to_owned(), until_ms }
    }

    fn ban(room: &str, user: &str, until_ms: u64) -> Decided {
        Decided { room: RoomId::new(room).unwrap(), list: vec![penalty(user, until_ms)] }
    }

    fn question(room: &str, number: u32) -> KeptQuestion {
        let room = RoomId::new(room).unwrap();
        KeptQuestion { node: 3, room, epoch: Epoch(9), number, after: None }
    }

    /// What a room is told that has asked under this number.
    async fn told(engine: &Listener, number: u32) -> Kept {
        let is_it = |tell: &Tell| match tell {
            Tell::Kept(kept) if kept.number == number => Some((**kept).clone()),
            _ => None,
        };
        engine.until(is_it).await
    }

    #[test]
    fn a_room_is_told_what_was_decided_before_it_asked() {
        on_both(|store| async move {
            let penalties = Penalties::new(store, 9);
            let engine = Arc::new(Listener::default());
            penalties.decided(ban("a", "ann", LONG_MS));
            penalties.decided(ban("a", "bob", LONG_MS));
            penalties.decided(ban("a", "ann", 0));
            penalties.asked(question("a", 1));
            penalties.asked(question("b", 2));
            penalties.serve(Arc::clone(&engine) as _);
            let kept = told(&engine, 1).await;
            let Kept { node, epoch, list, is_all, .. } = kept;
            assert_eq!((node, epoch, is_all), (3, Epoch(9), true));
            assert_eq!(list, [penalty("bob", LONG_MS)]);
            assert_eq!(told(&engine, 2).await.list, [], "the other room holds nothing");
            penalties.decided(ban("b", "cid", LONG_MS));
            penalties.asked(question("b", 3));
            assert_eq!(told(&engine, 3).await.list, [penalty("cid", LONG_MS)]);
            // It is counted a moment after it was told.
            while figure(&penalties.samples(), "uproar_kept_rooms_waiting") > 0.0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let samples = penalties.samples();
            assert_eq!(figure(&samples, "uproar_kept_penalties_stored_total"), 3.0);
            assert_eq!(figure(&samples, "uproar_kept_rooms_told_total"), 3.0);
        });
    }

    #[test]
    fn many_rooms_and_a_large_one_are_told_all() {
        on_both(|store| async move {
            let penalties = Penalties::new(store, 9_999);
            let engine = Arc::new(Listener::default());
            let users: Vec<String> = (0..2 * KEPT_PAGE + 1).map(|n| format!("u{n:04}")).collect();
            let list = users.iter().map(|user| penalty(user, LONG_MS)).collect();
            penalties.decided(Decided { room: RoomId::new("r050").unwrap(), list });
            for room in (0..200).filter(|n| *n != 50) {
                penalties.decided(ban(&format!("r{room:03}"), "ann", LONG_MS));
            }
            (0..200).for_each(|room| penalties.asked(question(&format!("r{room:03}"), room)));
            penalties.serve(Arc::clone(&engine) as _);
            for room in (0..200).filter(|n| *n != 50) {
                assert_eq!(told(&engine, room).await.list, [penalty("ann", LONG_MS)]);
            }
            let (mut all, mut number, mut page) = (Vec::new(), 1_000, told(&engine, 50).await);
            loop {
                assert!(page.list.len() <= KEPT_PAGE);
                all.extend(page.list.iter().map(|one| one.user.clone()));
                if page.is_all {
                    break;
                }
                let after = page.list.last().map(|last| (last.kind, last.user.clone()));
                penalties.asked(KeptQuestion { after, ..question("r050", number) });
                page = told(&engine, number).await;
                number += 1;
            }
            assert_eq!((all, number), (users, 1_002));
        });
    }

    #[test]
    fn what_is_decided_while_the_store_is_away_waits_for_it_and_has_a_bound() {
        on_both(|store| async move {
            let penalties = Penalties::new(Arc::clone(&store), 9);
            store.close().await;
            let engine = Arc::new(Listener::default());
            penalties.serve(Arc::clone(&engine) as _);
            penalties.asked(question("a", 1));
            for n in 0..=WAITING_MAX {
                penalties.decided(ban("a", &format!("u{n}"), LONG_MS));
            }
            penalties.decided(ban("a", "u7", 0)); // of one that waits
            while figure(&penalties.samples(), "uproar_kept_penalties_failed_total") < 1.0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let samples = penalties.samples();
            let waiting = figure(&samples, "uproar_kept_penalties_waiting");
            assert_eq!(waiting, WAITING_MAX as f64);
            assert_eq!(figure(&samples, "uproar_kept_penalties_lost_total"), 1.0);
            assert_eq!(figure(&samples, "uproar_kept_rooms_waiting"), 1.0);
            assert!(engine.told().is_empty(), "nobody is told what is not known");
        });
    }

    #[test]
    fn what_waits_at_the_end_is_stored() {
        on_both(|store| async move {
            let penalties = Penalties::new(Arc::clone(&store), 9);
            penalties.decided(ban("a", "ann", LONG_MS));
            penalties.end().await;
            let kept = rows::of_rooms(&store, &["a".into()], unix_ms(), 9).await.unwrap();
            assert_eq!(kept, [("a".to_owned(), penalty("ann", LONG_MS))]);
        });
    }

    #[test]
    fn of_a_read_that_was_cut_rooms_wait_that_it_did_not_reach() {
        let found = |room: &str, many: usize| {
            (0..many).map(|n| (room.to_owned(), penalty(&format!("u{n}"), 9))).collect::<Vec<_>>()
        };
        let rooms = || ["a", "b", "c", "d"].map(|room| question(room, 1)).to_vec();
        let told = |found: &[(String, Penalty)], is_cut| -> Vec<(String, usize, bool)> {
            let pages = pages(rooms(), found, is_cut).into_iter();
            pages.map(|(one, list, all)| (one.room.as_str().to_owned(), list.len(), all)).collect()
        };
        let of = |room: &str, many, is_all| (room.to_owned(), many, is_all);
        let some = [found("a", 2), found("c", 3)].concat();
        let whole = [of("a", 2, true), of("b", 0, true), of("c", 3, true), of("d", 0, true)];
        assert_eq!(told(&some, false), whole);
        assert_eq!(told(&some, true), whole[..2], "c may have more");
        let large = [found("a", 2), found("c", KEPT_PAGE)].concat();
        assert_eq!(told(&large, true)[2], of("c", KEPT_PAGE, false));
        let larger = found("b", KEPT_PAGE + 1);
        assert_eq!(told(&larger, false)[1], of("b", KEPT_PAGE, false));
    }
}
