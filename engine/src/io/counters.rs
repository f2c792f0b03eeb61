//! What a driver counts: written by one thread, read by whoever scrapes.
//!
//! Owns the counters. Never synchronises anything: a reader may see one a turn late.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter with one writer, so adding needs no locked instruction.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    pub(super) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one thread, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct IoCounters {
    pub(super) enters: Count,
    pub(super) completions: Count,
    pub(super) accepted: Count,
    pub(super) accept_errors: Count,
    pub(super) enobufs_rearms: Count,
    pub(super) short_sends: Count,
    pub(super) sends: Count,
    pub(super) overflows: Count,
    pub(super) undeliverable: Count,
    pub(super) connections: Count,
    pub(super) cpu_us: Count,
    pub(super) turns: Count,
}

/// [`IoCounters`] as they were at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoFigures {
    /// Calls of `io_uring_enter` or `epoll_wait`.
    pub enters: u64,
    /// Completions reaped, or readiness lines taken.
    pub completions: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Times accepting failed (`EMFILE` and the like) and was put off.
    pub accept_errors: u64,
    /// Receives that found no provided buffer and were armed again.
    pub enobufs_rearms: u64,
    /// Sends that took less than everything.
    pub short_sends: u64,
    /// Sends carried out.
    pub sends: u64,
    /// Times the completion queue overflowed; its remainder was fetched before going on.
    pub overflows: u64,
    /// Messages given back to the machine since no room was left for them.
    pub undeliverable: u64,
    /// Descriptors of connections now open.
    pub connections: u64,
    /// CPU time of the thread, microseconds.
    pub cpu_us: u64,
    /// Turns of the machine.
    pub turns: u64,
}

impl IoCounters {
    /// All of them now.
    #[must_use]
    pub fn figures(&self) -> IoFigures {
        IoFigures {
            enters: self.enters.get(),
            completions: self.completions.get(),
            accepted: self.accepted.get(),
            accept_errors: self.accept_errors.get(),
            enobufs_rearms: self.enobufs_rearms.get(),
            short_sends: self.short_sends.get(),
            sends: self.sends.get(),
            overflows: self.overflows.get(),
            undeliverable: self.undeliverable.get(),
            connections: self.connections.get(),
            cpu_us: self.cpu_us.get(),
            turns: self.turns.get(),
        }
    }
}
