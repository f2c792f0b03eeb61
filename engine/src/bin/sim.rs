//! Replays one seed of the simulator, or searches many.
//!
//!     sim SEED                  replays one world and prints what happens in it
//!     sim --search N [--from S] runs N worlds; names the first that breaks a promise

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use uproar_engine::sim::World;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u64>().ok();
    match words[..] {
        [seed] => number(seed).map_or_else(usage, replay),
        ["--search", count] => number(count).map_or_else(usage, |count| search(1, count)),
        ["--search", count, "--from", from] => match (number(count), number(from)) {
            (Some(count), Some(from)) => search(from, count),
            _ => usage(),
        },
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: sim SEED | sim --search N [--from S]");
    ExitCode::from(2)
}

fn replay(seed: u64) -> ExitCode {
    let mut world = World::drawn(seed).told();
    match catch_unwind(AssertUnwindSafe(|| world.run())) {
        Ok(books) => {
            println!("world {seed} kept every promise: {books:?}, trace {:016x}", world.trace());
            ExitCode::SUCCESS
        }
        Err(_) => {
            println!("world {seed} broke a promise");
            ExitCode::FAILURE
        }
    }
}

fn search(from: u64, count: u64) -> ExitCode {
    for seed in from..from.saturating_add(count) {
        let mut world = World::drawn(seed);
        if catch_unwind(AssertUnwindSafe(|| world.run())).is_err() {
            eprintln!("world {seed} broke a promise; replay it with: sim {seed}");
            return ExitCode::FAILURE;
        }
    }
    println!("{count} worlds from seed {from} kept every promise");
    ExitCode::SUCCESS
}
