//! The drivers against the real kernel: every test runs on io_uring (where it is permitted) and
//! on epoll, and asks for the same behaviour.

#![expect(
    clippy::disallowed_methods,
    reason = "tests have a clock, threads and patience of their own"
)]

mod accept;
mod connect;
mod echo;
mod mail;
mod puppet;
mod stream;

use uproar_engine::config::IoChoice;
use uproar_engine::io::{Launch, ListenOptions, probe};

/// Runs a test on each driver this machine has; says so where one is missing.
fn on_each_driver(test: impl Fn(IoChoice)) {
    match probe(IoChoice::Uring) {
        Ok(_) => test(IoChoice::Uring),
        Err(why) => eprintln!("not tested on io_uring: {why}"),
    }
    test(IoChoice::Epoll);
}

/// A launch of `threads` without listener or targets.
fn launch_of(io: IoChoice, threads: u16) -> Launch {
    Launch {
        name: "io-test",
        threads,
        cores: Vec::new(),
        pin: false,
        io,
        queue_messages_max: 256,
        listen: None,
        targets: Vec::new(),
        receive_buffer_bytes: 0,
        connections_max: 0,
    }
}

/// The same, listening on a free port of `host`.
fn serving(io: IoChoice, threads: u16, host: &str) -> Launch {
    let listen = ListenOptions {
        address: format!("{host}:0").parse().expect("an address"),
        notsent_lowat_bytes: 16 * 1024,
        user_timeout_ms: 30_000,
        send_buffer_bytes: 0,
        backlog: 1024,
    };
    Launch { listen: Some(listen), ..launch_of(io, threads) }
}
