//! Replays one seed of the simulator, or searches many.
//!
//!     sim SEED                  replays one world
//!     sim --search N [--from S] runs N worlds, stops at the first that breaks a promise

use std::process::ExitCode;
use uproar_engine::sim::World;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Vec<u64> = args.iter().filter_map(|a| a.parse().ok()).collect();
    match (args.first().map(String::as_str), numbers.as_slice()) {
        (Some("--search"), [count]) => search(1, *count),
        (Some("--search"), [count, from]) => search(*from, *count),
        (Some(_), [seed]) => search(*seed, 1),
        _ => {
            eprintln!("usage: sim SEED | sim --search N [--from S]");
            ExitCode::from(2)
        }
    }
}

fn search(from: u64, count: u64) -> ExitCode {
    for seed in from..from + count {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::seed(seed);
            let books = world.run();
            (books, world.trace())
        });
        match run {
            Ok((books, trace)) if count == 1 => {
                println!("seed {seed}: {books:?} trace {trace:016x}")
            }
            Ok(_) => {}
            Err(_) => {
                eprintln!("seed {seed} broke a promise; replay: sim {seed}");
                return ExitCode::FAILURE;
            }
        }
    }
    println!("{count} worlds from seed {from} kept every promise");
    ExitCode::SUCCESS
}
