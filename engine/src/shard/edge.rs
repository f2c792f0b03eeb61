//! The crowd is reduced where it arrives: one room's traffic on one shard, before it crosses to
//! the home.
//!
//! Folds likes into counters and the gifts of a combo into one, and above the cap sends at most N
//! candidates a window: a uniform sample with one candidate per sender, which merges exactly with
//! other shards' samples. Never sends the raw flood; never decides what the home must decide.

use crate::Set;
use crate::config::Rooms;
use crate::hash::{Seeded, hash_bytes, mix};
use crate::router::combos::Folding;
use crate::router::home::until_window_end_ms;
use crate::router::shed::{Sample, sample_key};
use crate::router::{Books, CLASSES, Candidate, Offer, Output, Verdict};
use crate::seam::Tick;
use uproar_proto::control::RoomSettings;
use uproar_proto::error::Code;
use uproar_proto::ids::Seq;
use uproar_proto::v1::{Class, Outcome};

/// One room's edge on one shard.
#[derive(Debug)]
pub struct Edge {
    seed: u64,
    admission_us: u64,
    /// N: candidates a window that may cross, at most. They pass at once until a window brings
    /// more; whether the room can pay for them is the home's to say.
    candidates_max: usize,
    system_max: u64,
    /// The window under way, and what it has seen.
    window: u64,
    chats: usize,
    gifts: usize,
    systems: u64,
    /// The last window was beyond the cap.
    overloaded: bool,
    sample: Sample,
    /// Gifts that wait for the window's end: those beyond the cap, and those of a combo of which
    /// one has passed in this window.
    gift_sample: Sample,
    /// Combos of which a gift has passed in this window.
    passed: Set<u64>,
    folds_max: usize,
    /// What goes to the home now.
    ready: Vec<Candidate>,
    likes: u64,
    like_frames: u64,
    /// A window ended since likes last crossed.
    likes_due: bool,
    books: Books,
}

impl Edge {
    /// `seed` must be the home's, so that samples merge.
    #[must_use]
    pub fn new(settings: &RoomSettings, rules: &Rooms, seed: u64) -> Edge {
        let mut edge = Edge {
            seed,
            admission_us: u64::from(rules.admission_ms) * 1000,
            candidates_max: 0,
            system_max: u64::from(rules.system_messages_max),
            window: 0,
            chats: 0,
            gifts: 0,
            systems: 0,
            overloaded: false,
            sample: Sample::default(),
            gift_sample: Sample::default(),
            passed: Set::with_hasher(Seeded(seed)),
            folds_max: rules.combo_folds_max as usize,
            ready: Vec::new(),
            likes: 0,
            like_frames: 0,
            likes_due: false,
            books: Books::default(),
        };
        edge.update(settings);
        edge
    }

    /// The room's settings changed.
    pub fn update(&mut self, settings: &RoomSettings) {
        self.candidates_max = settings.rate_per_s as usize;
    }

    /// A message that passed the shard's checks.
    pub fn offer(&mut self, candidate: Candidate, now: Tick, verdicts: &mut Vec<Verdict>) {
        self.advance(now);
        self.books.offered[candidate.class as usize] += candidate.offered();
        let key = sample_key(self.seed, self.window, candidate.sender.key);
        let fallen = match candidate.class {
            Class::Like => {
                // Likes come as counts; one that carries content is worth one.
                self.likes += 1;
                self.like_frames += 1;
                None
            }
            Class::System if self.systems >= self.system_max => {
                self.books.refused[Class::System as usize] += 1;
                self.decide(&candidate, Outcome::Refused, Code::QueueFull, now, verdicts);
                None
            }
            Class::System => {
                self.systems += 1;
                self.ready.push(candidate);
                None
            }
            Class::Gift if candidate.gift.is_some() => self.offer_gift(key, candidate),
            Class::Gift if self.gifts < self.candidates_max => {
                self.gifts += 1;
                self.ready.push(candidate);
                None
            }
            Class::Gift => self.gift_sample.insert(key, candidate, self.candidates_max),
            Class::Chat => {
                self.chats += 1;
                if self.overloaded {
                    self.sample.insert(key, candidate, self.candidates_max)
                } else if self.chats <= self.candidates_max {
                    self.ready.push(candidate);
                    None
                } else {
                    Some(candidate)
                }
            }
        };
        if let Some(fallen) = fallen {
            self.books.shed[fallen.class as usize] += fallen.offered();
            self.decide(&fallen, Outcome::Shed, Code::RoomBusy, now, verdicts);
        }
    }

    /// A gift with a name: of a combo one passes in a window, and one holds the others at its end.
    /// `key`: its sender's. What falls out.
    fn offer_gift(&mut self, key: u64, candidate: Candidate) -> Option<Candidate> {
        let name = candidate.gift.as_ref().map_or(0, |gift| hash_bytes(self.seed, &gift.name));
        let key = mix(key ^ name);
        let candidate = match self.gift_sample.fold(key, candidate, self.folds_max) {
            Folding::Done => return None,
            Folding::TooMany(candidate) => return Some(candidate),
            Folding::First(candidate) => candidate,
        };
        if self.gifts < self.candidates_max && self.passed.insert(key) {
            self.gifts += 1;
            self.ready.push(candidate);
            return None;
        }
        self.gift_sample.insert(key, candidate, self.candidates_max)
    }

    fn decide(
        &self,
        candidate: &Candidate,
        outcome: Outcome,
        code: Code,
        now: Tick,
        verdicts: &mut Vec<Verdict>,
    ) {
        let (retry_after_ms, mut out) = (until_window_end_ms(now, self.admission_us), Vec::new());
        candidate.decide((outcome, Seq(0)), Some(code), retry_after_ms, &mut out);
        verdicts.extend(out.into_iter().filter_map(Output::verdict));
    }

    /// A like frame that stands for `count` likes.
    pub fn like(&mut self, count: u64) {
        self.books.offered[Class::Like as usize] += 1;
        self.likes = self.likes.saturating_add(count);
        self.like_frames += 1;
    }

    /// A message the shard itself refused.
    pub fn refuse(&mut self, class: Class) {
        self.books.offered[class as usize] += 1;
        self.books.refused[class as usize] += 1;
    }

    /// Ends windows that are over: their samples and likes become ready.
    fn advance(&mut self, now: Tick) {
        let window = now.0 / self.admission_us;
        if window == self.window {
            return;
        }
        self.window = window;
        self.likes_due = true;
        self.overloaded = self.chats > self.candidates_max;
        (self.chats, self.gifts, self.systems) = (0, 0, 0);
        self.passed.clear();
        let held = self.sample.take().chain(self.gift_sample.take());
        let mut held: Vec<Candidate> = held.collect();
        held.sort_by_key(|c| c.received);
        self.ready.append(&mut held);
    }

    /// What goes to the home now: what passes at once, and at a window's end its sample and the
    /// folded likes.
    pub fn take(&mut self, now: Tick) -> Option<Offer> {
        self.advance(now);
        let candidates = std::mem::take(&mut self.ready);
        let mut offer = Offer { candidates, ..Offer::default() };
        if std::mem::take(&mut self.likes_due) {
            offer.likes = std::mem::take(&mut self.likes);
            offer.like_frames = std::mem::take(&mut self.like_frames);
        }
        (offer != Offer::default()).then_some(offer)
    }

    /// The room is over here: everything that waits, to be refused.
    pub fn drain(&mut self) -> Offer {
        let held = self.sample.take().chain(self.gift_sample.take());
        let candidates = std::mem::take(&mut self.ready).into_iter().chain(held).collect();
        let (likes, like_frames) = (self.likes, self.like_frames);
        (self.likes, self.like_frames) = (0, 0);
        Offer { candidates, likes, like_frames }
    }

    /// When [`Edge::take`] has something; `NEVER` where nothing waits.
    #[must_use]
    pub fn next_due(&self) -> Tick {
        let waiting = self.like_frames > 0
            || self.overloaded
            || !self.sample.is_empty()
            || !self.gift_sample.is_empty();
        if !self.ready.is_empty() {
            Tick(0)
        } else if waiting {
            Tick((self.window + 1) * self.admission_us)
        } else {
            Tick::NEVER
        }
    }

    /// Messages that wait here, by class.
    #[must_use]
    pub fn pending(&self) -> [u64; CLASSES] {
        let mut pending = [0; CLASSES];
        pending[Class::Chat as usize] = self.sample.len() as u64;
        pending[Class::Gift as usize] = self.gift_sample.offered();
        pending[Class::Like as usize] = self.like_frames;
        for candidate in &self.ready {
            pending[candidate.class as usize] += candidate.offered();
        }
        pending
    }

    /// The edge's part of the books.
    #[must_use]
    pub fn books(&self) -> &Books {
        &self.books
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::Gift;
    use crate::router::tests::candidate;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn edge() -> Edge {
        Edge::new(&RoomSettings::default(), &Rooms::default(), 7)
    }

    #[test]
    fn below_the_cap_a_message_passes_at_once() {
        let (mut edge, mut verdicts) = (edge(), Vec::new());
        for i in 0..20 {
            edge.offer(candidate(i, Class::Chat, 1_000 + i), Tick(1_000 + i), &mut verdicts);
            let offer = edge.take(Tick(1_000 + i)).expect("at once");
            assert_eq!(offer.candidates.len(), 1);
        }
        assert!(verdicts.is_empty());
        assert_eq!(edge.next_due(), Tick::NEVER);
    }

    #[test]
    fn a_flood_crosses_as_n_candidates_a_window() {
        let (mut edge, mut verdicts) = (edge(), Vec::new());
        let mut crossed = 0;
        for i in 0..10_000u64 {
            let at = Tick(i * 100);
            edge.offer(candidate(i % 500, Class::Chat, at.0), at, &mut verdicts);
            crossed += edge.take(at).map_or(0, |o| o.candidates.len());
        }
        crossed += edge.take(Tick(1_250_000)).map_or(0, |o| o.candidates.len());
        assert!(crossed <= 5 * 20, "{crossed} of 10000 crossed in a second");
        let shed = edge.books().shed[Class::Chat as usize] as usize;
        assert_eq!((crossed + shed, verdicts.len()), (10_000, shed), "the others were told");
    }

    #[test]
    fn likes_cross_as_one_sum_a_window() {
        let mut edge = edge();
        for _ in 0..1_000 {
            edge.like(100);
        }
        assert_eq!(edge.take(Tick(249_999)), None);
        assert_eq!(edge.next_due(), Tick(250_000));
        let offer = edge.take(Tick(250_000)).expect("at the window's end");
        assert_eq!((offer.likes, offer.like_frames), (100_000, 1_000));
        assert_eq!(edge.next_due(), Tick::NEVER);
    }

    #[test]
    fn a_flood_of_system_messages_is_refused_not_shed() {
        let (mut edge, mut verdicts) = (edge(), Vec::new());
        for i in 0..100 {
            edge.offer(candidate(i, Class::System, 0), Tick(0), &mut verdicts);
        }
        assert_eq!(verdicts.len(), 100 - 64);
        assert!(verdicts.iter().all(|v| v.code == Some(Code::QueueFull) && v.retry_after_ms > 0));
    }

    proptest! {
        #[test]
        fn the_edges_books_balance(
            steps in prop::collection::vec((0u64..9, 0usize..6, 0u64..30_000), 1..500)
        ) {
            let (mut edge, mut verdicts) = (edge(), Vec::new());
            let (mut at, mut crossed) = (0, [0u64; CLASSES]);
            for (sender, what, delta) in steps {
                at += delta;
                match what {
                    0 => edge.like(3),
                    1 => edge.refuse(Class::Chat),
                    n => {
                        let class = [Class::Chat, Class::Gift, Class::System, Class::Gift][n - 2];
                        let mut candidate = candidate(sender, class, at);
                        if n == 5 {
                            let name = Bytes::from(vec![b'a' + (at % 3) as u8]);
                            candidate.gift = Some(Box::new(Gift::new(name, 2, Tick(at))));
                        }
                        edge.offer(candidate, Tick(at), &mut verdicts);
                    }
                }
                if let Some(offer) = edge.take(Tick(at)) {
                    crossed[Class::Like as usize] += offer.like_frames;
                    for c in offer.candidates {
                        crossed[c.class as usize] += c.offered();
                    }
                }
                let decided = edge.books().decided();
                for class in 0..CLASSES {
                    let known = decided[class] + crossed[class] + edge.pending()[class];
                    prop_assert_eq!(edge.books().offered[class], known);
                }
            }
        }
    }
}
