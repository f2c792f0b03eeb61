//! Segments that are due, on their way to the shelf.
//!
//! Owns the writing, which holds nobody up: thousands of rooms that began in the same second end
//! their segments in the same second, and lines must go on being taken in meanwhile. What is due,
//! and what becomes of it, the desk says.

use super::index::Index;
use super::place::Place;
use super::shelf::Shelf;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::thread;
use uproar_proto::v1::DanmakuSegment;

/// Segments that are written at once: the disk syncs them together.
const WRITERS_MAX: usize = 8;

/// A segment as it was when it was due.
pub(super) struct Closing {
    pub(super) place: Place,
    pub(super) message: DanmakuSegment,
    /// Of its recording; with the segment once it is written.
    pub(super) index: Index,
    /// How often the segment had changed.
    pub(super) changes: u64,
    pub(super) now_ms: u64,
}

impl Closing {
    /// Writes the segment and its index: bytes gained.
    pub(super) fn write(&mut self, shelf: &dyn Shelf) -> io::Result<i64> {
        let of = (&self.place.source, self.place.recording);
        self.index.put(shelf, of, &self.message, self.now_ms)
    }
}

/// Writes all of them, some at once; each is handed over as soon as it is done.
pub(super) fn write_all(
    due: Vec<Closing>,
    shelf: &dyn Shelf,
    done: &(dyn Fn(Closing, io::Result<i64>) + Sync),
) {
    let writers = due.len().min(WRITERS_MAX);
    let due = Mutex::new(due.into_iter());
    let write = || {
        loop {
            let next = due.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(mut closing) = next else { break };
            let written = closing.write(shelf);
            done(closing, written);
        }
    };
    if writers == 1 {
        return write();
    }
    thread::scope(|scope| {
        for _ in 0..writers {
            scope.spawn(write);
        }
    });
}
