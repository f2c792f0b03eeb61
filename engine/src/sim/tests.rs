//! Thousands of seeded worlds.

use super::*;
use crate::metrics::Figure;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use uproar_proto::error::Code;
use uproar_proto::v1::Class;

/// Worlds of the search in the test suite; a longer one is `sim --search N`.
const SEEDS: u64 = 8_000;

/// What the search as a whole must have reached, or it proves little.
#[derive(Default)]
struct Marks {
    books: Books,
    figures: Vec<(&'static str, u64)>,
}

impl Marks {
    fn of(world: &World) -> Marks {
        let figure = |name, figure| (name, world.figure(figure));
        let closes =
            |name, code| (name, world.nodes.iter().map(|n| n.metrics.closes_by(code)).sum::<u64>());
        let figures = vec![
            figure("gap", Figure::Gaps),
            figure("gap messages", Figure::GapMessages),
            figure("short write", Figure::ShortWrites),
            figure("sweep met a full socket", Figure::LagEvents),
            figure("lost batch", Figure::LostBatches),
            figure("resume", Figure::Resumes),
            figure("undeliverable", Figure::QueueDropped),
            figure("token", Figure::TokensChecked),
            figure("allowed", Figure::JudgeAllowed),
            figure("replaced", Figure::JudgeReplaced),
            figure("refused by the platform", Figure::JudgeRefused),
            figure("passed without a decision", Figure::JudgeOpen),
            figure("refused without a decision", Figure::JudgeClosed),
            figure("decided too late", Figure::JudgeLate),
            figure("nobody asked", Figure::JudgeUnasked),
            figure("kept of a former life", Figure::KeptHeld),
            closes("handshake timeout", Code::HandshakeTimeout),
            closes("idle timeout", Code::IdleTimeout),
            closes("token expired", Code::TokenExpired),
            closes("too slow", Code::TooSlow),
            closes("flooding", Code::Flooding),
            closes("address limit", Code::AddressLimit),
            closes("server full", Code::ServerFull),
            closes("protocol order", Code::ProtocolOrder),
            closes("bad frame", Code::BadFrame),
        ];
        Marks { books: world.books(), figures }
    }

    fn add(&mut self, other: Marks) {
        self.books = self.books.plus(&other.books);
        self.figures.resize(other.figures.len(), ("", 0));
        for (total, (name, n)) in self.figures.iter_mut().zip(other.figures) {
            *total = (name, total.1 + n);
        }
    }

    fn check(&self) {
        for (name, n) in &self.figures {
            assert!(*n > 0, "no world reached: {name}");
        }
        let Books { refused, admitted, merged, shed, expired, .. } = self.books;
        for class in [Class::Chat, Class::Gift] {
            let class = class as usize;
            let all = [refused[class], admitted[class], shed[class], expired[class]];
            assert!(all.iter().all(|n| *n > 0), "class {class}: {all:?}");
        }
        assert!(merged[Class::Like as usize] > 0 && admitted[Class::System as usize] > 0);
    }
}

#[test]
fn thousands_of_seeded_worlds_keep_every_promise() {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let seeds = number("UPROAR_SIM_SEEDS").unwrap_or(SEEDS);
    let first = number("UPROAR_SIM_FROM").unwrap_or(1);
    let (next, broken) = (AtomicU64::new(first), Mutex::new(Vec::new()));
    let marks = Mutex::new(Marks::default());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds || broken.lock().expect("unbroken").len() >= 5 {
                        break;
                    }
                    let mut world = World::drawn(seed);
                    if catch_unwind(AssertUnwindSafe(|| world.run())).is_err() {
                        eprintln!("world {seed} broke a promise");
                        broken.lock().expect("unbroken").push(seed);
                    } else {
                        marks.lock().expect("unbroken").add(Marks::of(&world));
                    }
                }
            });
        }
    });
    let broken = broken.into_inner().expect("the search is over");
    if let Some(seed) = broken.first() {
        panic!(
            "worlds {broken:?} broke a promise; replay one with: \
             cargo run -p uproar-engine --features sim --bin sim -- {seed}"
        );
    }
    let marks = marks.into_inner().expect("the search is over");
    println!("{seeds} worlds, {:?}, {:?}", marks.books, marks.figures);
    if seeds >= SEEDS {
        marks.check();
    }
}

#[test]
fn the_same_seed_gives_the_same_world() {
    for seed in 1..20 {
        let (mut one, mut two) = (World::drawn(seed), World::drawn(seed));
        assert_eq!(one.run(), two.run());
        assert_eq!(one.trace(), two.trace(), "seed {seed}");
    }
}

#[test]
fn planted_bugs_are_found() {
    for canary in [Canary::LosesByte, Canary::ForgetsRefusal] {
        let breaks = |seed| {
            let mut world = World::drawn(seed).with_canary(canary);
            catch_unwind(AssertUnwindSafe(|| world.run())).is_err()
        };
        assert!((1..60).any(breaks), "{canary:?} must break a promise");
    }
}
