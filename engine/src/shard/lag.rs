//! Connections that have bytes of their own to send before a sweep may serve them: replies, the
//! tail of a short send, or a socket that was full.
//!
//! Owns the unsent bytes and their bound. A slow viewer holds a cursor and the tail of one frame,
//! never a queue of live messages. Never decides what is sent, only what goes first.

use super::slab::Slab;
use crate::router::CLASSES;
use crate::seam::FrameSlot;

/// What one connection must send first.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// A frame a socket took only in part (held), and how many of its bytes went. Nothing else
    /// may be sent before its end.
    pub partial: Option<(FrameSlot, u32)>,
    /// The live messages inside `partial`, for the books if the connection ends first.
    pub partial_messages: [u64; CLASSES],
    /// Whole frames of replies, in order.
    pub replies: Vec<u8>,
    /// A `Writable` was asked for and has not come.
    pub armed: bool,
    /// It is in the list of connections to flush.
    pub dirty: bool,
}

impl Outgoing {
    /// Whether there is nothing left to wait for.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.partial.is_none() && self.replies.is_empty() && !self.armed
    }
}

/// All of a shard's.
#[derive(Default)]
pub struct Lag {
    /// By the number in `Cold::outgoing`.
    pub records: Slab<Outgoing>,
    /// Connections whose record has something to send now.
    pub dirty: Vec<crate::seam::ConnSlot>,
    /// Buffers of replies, kept for reuse while they are small.
    spare: Vec<Vec<u8>>,
}

/// A reused reply buffer is at most this large, and at most this many wait: 64 x 4 KiB.
const SPARE_BYTES_MAX: usize = 4096;
const SPARE_MAX: usize = 64;

impl Lag {
    /// A fresh record.
    pub fn open(&mut self) -> u32 {
        let replies = self.spare.pop().unwrap_or_default();
        self.records.insert(Outgoing { replies, ..Outgoing::default() })
    }

    /// Forgets a record; its partial frame is the caller's to release.
    pub fn close(&mut self, number: u32) -> Outgoing {
        let mut record = self.records.remove(number);
        let mut buffer = std::mem::take(&mut record.replies);
        if buffer.capacity() <= SPARE_BYTES_MAX && self.spare.len() < SPARE_MAX {
            buffer.clear();
            self.spare.push(buffer);
        }
        record
    }

    /// Connections with unsent bytes now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.records.used()
    }

    /// Bytes of records and replies.
    #[must_use]
    pub fn bytes_used(&self) -> usize {
        let replies: usize = self.records.iter().map(|(_, o)| o.replies.capacity()).sum();
        self.records.bytes_used() + replies + self.spare.iter().map(Vec::capacity).sum::<usize>()
    }
}
