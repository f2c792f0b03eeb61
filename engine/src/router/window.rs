//! How long the home gathers messages before it flushes them as one batch.
//!
//! A send costs the same at 256 bytes and at 5 KB, so fewer sends are the only large lever. With
//! D the smoothed CPU time of one sweep on the busiest shard and S the deadline:
//!
//! ```text
//! window = min(D / 0.15, max(S / 4, D / 0.6)), never beyond 3/4 S - D
//! ```
//!
//! A message waits for a window and then for a sweep, so the two together are kept below S, with
//! a quarter of it for everything else that takes time.
//! It spends at most 15 % of a core on a small room, keeps latency under half of S where it can,
//! and trades up to 60 % of the core before it gives up latency. It grows at once and shrinks by
//! at most 10 % a flush, so it does not swing.

use super::ShardId;
use crate::config;

/// The window of one room.
#[derive(Debug)]
pub struct BatchWindow {
    rule: config::Window,
    deadline_us: u64,
    current_us: u64,
    /// Smoothed sweep cost by shard, microseconds.
    sweeps: Vec<(ShardId, u64)>,
}

impl BatchWindow {
    /// Nothing measured yet: an adaptive window begins at 0.
    #[must_use]
    pub fn new(rules: &config::Rooms) -> BatchWindow {
        BatchWindow {
            rule: rules.window,
            deadline_us: u64::from(rules.deadline_ms) * 1000,
            current_us: 0,
            sweeps: Vec::new(),
        }
    }

    /// One whole sweep of a shard cost this much; smoothed with a quarter of the new value.
    pub fn sweep_took(&mut self, shard: ShardId, cpu_us: u64) {
        match self.sweeps.iter_mut().find(|(s, _)| *s == shard) {
            Some((_, smooth)) => *smooth = (*smooth * 3 + cpu_us).div_ceil(4),
            None => self.sweeps.push((shard, cpu_us)),
        }
    }

    /// A shard has no member any more.
    pub fn forget(&mut self, shard: ShardId) {
        self.sweeps.retain(|(s, _)| *s != shard);
    }

    /// D: the cost of one sweep on the busiest shard, microseconds; bounded by S.
    #[must_use]
    pub fn sweep_us(&self) -> u64 {
        self.sweeps.iter().map(|(_, us)| *us).max().unwrap_or(0).min(self.deadline_us)
    }

    /// After a flush: the window until the next one.
    pub fn adapt(&mut self) {
        if self.rule == config::Window::Adaptive {
            let target = target_us(self.sweep_us(), self.deadline_us);
            self.current_us = target.max(self.current_us - self.current_us / 10);
            self.current_us = self.current_us.min(longest_us(self.sweep_us(), self.deadline_us));
        }
    }

    /// The window now, microseconds.
    #[must_use]
    pub fn us(&self) -> u64 {
        match self.rule {
            config::Window::Adaptive => self.current_us,
            config::Window::FixedMs(ms) => u64::from(ms) * 1000,
        }
    }
}

/// The formula of the module's text.
fn target_us(sweep_us: u64, deadline_us: u64) -> u64 {
    let small = sweep_us * 100 / 15;
    let large = (deadline_us / 4).max(sweep_us * 100 / 60);
    small.min(large).min(longest_us(sweep_us, deadline_us))
}

fn longest_us(sweep_us: u64, deadline_us: u64) -> u64 {
    (deadline_us - deadline_us / 4).saturating_sub(sweep_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_formula_gives_the_documented_windows() {
        let window = |viewers: u64| target_us(viewers * 72 / 10, 2_000_000) / 1000;
        assert_eq!(window(10_000), 480, "10,000 viewers at 7.2 us a send");
        assert_eq!((window(60_000), window(90_000)), (720, 852));
        assert_eq!(window(100), 4);
        assert_eq!(target_us(1_000_000, 2_000_000), 500_000, "never beyond 3/4 S - D");
        assert_eq!(target_us(1_900_000, 2_000_000), 0);
    }

    #[test]
    fn it_grows_at_once_and_shrinks_a_tenth_a_flush() {
        let mut window = BatchWindow::new(&config::Rooms::default());
        window.sweep_took(ShardId(0), 72_000);
        window.adapt();
        assert_eq!(window.us(), 480_000);
        for _ in 0..40 {
            window.sweep_took(ShardId(0), 100);
        }
        window.adapt();
        assert_eq!(window.us(), 432_000);
        window.forget(ShardId(0));
        for _ in 0..200 {
            window.adapt();
        }
        assert!(window.us() < 1_000, "{}", window.us());
    }

    #[test]
    fn the_busiest_shard_counts_and_a_fixed_window_stays() {
        let mut window = BatchWindow::new(&config::Rooms::default());
        window.sweep_took(ShardId(0), 10);
        window.sweep_took(ShardId(1), 5_000);
        assert_eq!(window.sweep_us(), 5_000);
        let fixed = config::Rooms { window: config::Window::FixedMs(0), ..Default::default() };
        let mut window = BatchWindow::new(&fixed);
        window.sweep_took(ShardId(1), 5_000);
        window.adapt();
        assert_eq!(window.us(), 0);
    }
}
