//! The two signals that end the process, and what the second of them means.

use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep, sleep_until};

/// Between two looks at whether the drain is over.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// SIGINT, SIGTERM, and SIGHUP: a terminal that was closed ends its server as well as a word.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drained {
    /// Every connection went.
    Whole,
    /// The longest wait was over.
    TimedOut,
    /// A second signal came; the exit code that tells which.
    AtOnce(u8),
}

impl Signals {
    /// Takes both signals over; must run on a tokio runtime.
    ///
    /// # Errors
    /// Where the system refuses a handler.
    pub(crate) fn listen() -> std::io::Result<Signals> {
        let interrupt = signal(SignalKind::interrupt())?;
        let terminate = signal(SignalKind::terminate())?;
        let hang_up = signal(SignalKind::hangup())?;
        Ok(Signals { interrupt, terminate, hang_up })
    }

    /// Waits for either; the exit code of a process that it killed: 130 or 143.
    pub(crate) async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 130,
            _ = self.terminate.recv() => 143,
            _ = self.hang_up.recv() => 129,
        }
    }
}

/// Waits until the drain is over, a signal comes, or `wait_max` has passed.
pub(crate) async fn drained(
    is_drained: impl Fn() -> bool,
    signal: impl Future<Output = u8>,
    wait_max: Duration,
) -> Drained {
    let end = Instant::now() + wait_max;
    let gone = async {
        while !is_drained() {
            sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        biased;
        code = signal => Drained::AtOnce(code),
        () = gone => Drained::Whole,
        () = sleep_until(end) => Drained::TimedOut,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::future::{pending, ready};

    fn run<T>(what: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(what)
    }

    #[test]
    fn a_drain_ends_when_the_last_connection_is_gone() {
        let looks = Cell::new(0);
        let third_time = || {
            looks.set(looks.get() + 1);
            looks.get() == 3
        };
        let ended = run(drained(third_time, pending(), Duration::from_secs(600)));
        assert_eq!((ended, looks.get()), (Drained::Whole, 3));
    }

    #[test]
    fn a_drain_waits_no_longer_than_it_may() {
        let ended = run(drained(|| false, pending(), Duration::from_millis(50)));
        assert_eq!(ended, Drained::TimedOut);
    }

    #[test]
    fn a_second_signal_ends_it_at_once() {
        let ended = run(drained(|| false, ready(143), Duration::from_secs(600)));
        assert_eq!(ended, Drained::AtOnce(143));
    }
}
