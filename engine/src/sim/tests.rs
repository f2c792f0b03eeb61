//! Thousands of seeded worlds, and sentences over calm ones.

use super::*;

/// Worlds of the search in the test suite; a longer one is `sim --search N`.
const SEEDS: u64 = 2_000;

#[test]
fn thousands_of_seeded_worlds_keep_every_promise() {
    let seeds = std::env::var("UPROAR_SIM_SEEDS").ok().and_then(|n| n.parse().ok());
    let seeds: u64 = seeds.unwrap_or(SEEDS);
    let next = std::sync::atomic::AtomicU64::new(1);
    let seen = std::sync::Mutex::new((Books::default(), [0u64; 5]));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if seed > seeds {
                        break;
                    }
                    let run = std::panic::catch_unwind(|| {
                        let mut world = World::seed(seed);
                        let books = world.run();
                        (books, world.marks())
                    });
                    let Ok((books, marks)) = run else {
                        panic!(
                            "world {seed} broke a promise; replay it with: cargo run -p \
                             uproar-engine --features sim --bin sim -- {seed}"
                        );
                    };
                    let mut seen = seen.lock().expect("no other world panics while it is held");
                    seen.0 = seen.0.plus(&books);
                    for (total, n) in seen.1.iter_mut().zip(marks) {
                        *total += n;
                    }
                }
            });
        }
    });
    let (books, marks) = seen.into_inner().expect("the search is over");
    println!("{seeds} worlds, books {books:?}, marks {marks:?}");
    // The search as a whole must have reached the rare branches, or it proves little.
    assert!(
        books.shed[0] > 0 && books.refused[0] > 0 && books.admitted[0] > 0 && books.merged[3] > 0
    );
    let names = ["gap", "short write", "lost batch", "resume", "undeliverable"];
    for (name, n) in names.iter().zip(marks) {
        assert!(n > 0, "no world reached: {name}");
    }
}

#[test]
fn the_same_seed_gives_the_same_world() {
    for seed in 1..20 {
        let (mut one, mut two) = (World::seed(seed), World::seed(seed));
        assert_eq!(one.run(), two.run());
        assert_eq!(one.trace(), two.trace(), "seed {seed}");
    }
}

#[test]
fn a_planted_bug_is_found() {
    let found = (1..60)
        .any(|seed| std::panic::catch_unwind(|| World::seed(seed).with_canary().run()).is_err());
    assert!(found, "a world that loses bytes must break a promise");
}
