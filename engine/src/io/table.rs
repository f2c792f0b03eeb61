//! The driver's side of a connection: its descriptor and what is outstanding on it.
//!
//! Eight bytes a connection, in chunks that never move, so that memory grows with connections and
//! not by doubling. Owns the descriptors. Never knows what a connection means.

use super::sys;
use crate::seam::ConnSlot;
use std::os::fd::RawFd;

/// What is going on with a connection; a set of the constants below.
pub(super) type Flags = u16;

/// A receive is outstanding (uring), or readability is watched (epoll).
pub(super) const READING: Flags = 1;
/// Writability is watched for the machine.
pub(super) const ARMED: Flags = 2;
/// A connect is under way: writability is watched for the driver.
pub(super) const CONNECTING: Flags = 4;
/// `Close` was asked for: no event but `Closed` may follow.
pub(super) const CLOSING: Flags = 8;
/// `Eof` was told: no bytes follow it.
pub(super) const EOF: Flags = 16;
/// Bytes are taken in only when the machine asks.
pub(super) const MANUAL: Flags = 32;
/// The machine picked the slot, so the driver does not give it to anybody else.
pub(super) const CHOSEN: Flags = 64;
/// The descriptor is in the epoll set.
pub(super) const WATCHED: Flags = 128;
/// An event of this connection waits for the next poll.
pub(super) const LATE: Flags = 512;
/// `Eof` was told with an errno: nothing can be sent any more.
pub(super) const FAILED: Flags = 1024;
/// A `Send` was carried out since the last poll: a second one would tear the stream.
pub(super) const SENT: Flags = 256;

/// One connection. An empty entry keeps the free list in `fd`.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    /// Its descriptor; negative where empty: `END`, or `-2 - next` in the free list.
    pub(super) fd: RawFd,
    pub(super) flags: Flags,
    /// Tells a slot's connections apart in late completions.
    pub(super) generation: u8,
}

const _: () = assert!(size_of::<Entry>() == 8);

const END: RawFd = -1;
const CHUNK: usize = 1024;

impl Entry {
    /// Whether all flags of `set` are set.
    pub(super) fn is(&self, set: Flags) -> bool {
        self.flags & set == set
    }

    /// Notes the end of the peer's bytes (0), or of the socket (its errno). Whether it is news.
    pub(super) fn note_end(&mut self, errno: i32) -> bool {
        let end = if errno == 0 { EOF } else { EOF | FAILED };
        let news = !self.is(end) && !self.is(CLOSING);
        self.flags |= end;
        news
    }

    /// Whether a connection is here.
    pub(super) fn used(&self) -> bool {
        self.fd >= 0
    }
}

/// All connections of a driver.
pub(super) struct Table {
    chunks: Vec<Box<[Entry; CHUNK]>>,
    /// Where the free list begins, in the coding of `Entry::fd`.
    free: RawFd,
    /// The first slot that was never used.
    fresh: u32,
    /// Emptied since the last poll began: `Closed` may not have been told yet.
    resting: Vec<u32>,
    /// Emptied before: the machine has seen `Closed` by the next poll.
    told: Vec<u32>,
    open: u32,
}

impl Table {
    pub(super) fn new() -> Table {
        Table {
            chunks: Vec::new(),
            free: END,
            fresh: 0,
            resting: Vec::new(),
            told: Vec::new(),
            open: 0,
        }
    }

    /// Connections now.
    pub(super) fn open(&self) -> u32 {
        self.open
    }

    pub(super) fn get(&self, conn: ConnSlot) -> &Entry {
        &self.chunks[conn.0 as usize / CHUNK][conn.0 as usize % CHUNK]
    }

    pub(super) fn get_mut(&mut self, conn: ConnSlot) -> &mut Entry {
        &mut self.chunks[conn.0 as usize / CHUNK][conn.0 as usize % CHUNK]
    }

    /// The connection of a completion; `None` where the slot has another one by now.
    pub(super) fn find(&mut self, conn: ConnSlot, generation: u8) -> Option<&mut Entry> {
        self.get_used(conn).filter(|entry| entry.generation == generation)
    }

    /// The entry of a slot, if a connection is there.
    pub(super) fn get_used(&mut self, conn: ConnSlot) -> Option<&mut Entry> {
        let entry =
            self.chunks.get_mut(conn.0 as usize / CHUNK)?.get_mut(conn.0 as usize % CHUNK)?;
        entry.used().then_some(entry)
    }

    /// Takes a descriptor in and picks its slot.
    pub(super) fn insert(&mut self, fd: RawFd) -> ConnSlot {
        let slot = if self.free == END {
            let slot = self.fresh;
            self.grow_to(slot);
            self.fresh += 1;
            slot
        } else {
            let slot = u32::try_from(-2 - self.free).expect("the free list holds slots");
            self.free = self.get(ConnSlot(slot)).fd;
            slot
        };
        self.occupy(ConnSlot(slot), fd, 0);
        ConnSlot(slot)
    }

    /// Takes a descriptor in at a slot the machine picked.
    pub(super) fn insert_at(&mut self, conn: ConnSlot, fd: RawFd, flags: Flags) {
        self.grow_to(conn.0);
        let entry = self.get(conn);
        assert!(
            entry.fd == END,
            "a machine connects on a slot that is free and was always its own"
        );
        self.occupy(conn, fd, flags | CHOSEN);
    }

    fn occupy(&mut self, conn: ConnSlot, fd: RawFd, flags: Flags) {
        assert!(fd >= 0, "a connection has a descriptor");
        let entry = self.get_mut(conn);
        entry.fd = fd;
        entry.flags = flags;
        self.open += 1;
    }

    /// Closes a connection's descriptor and empties the slot; it rests until the next poll.
    pub(super) fn release(&mut self, conn: ConnSlot) {
        let entry = self.get_mut(conn);
        assert!(entry.used(), "a connection is closed once");
        sys::close(entry.fd);
        entry.fd = END;
        entry.generation = entry.generation.wrapping_add(1);
        let chosen = entry.is(CHOSEN);
        entry.flags = 0;
        self.open -= 1;
        if !chosen {
            self.resting.push(conn.0);
        }
    }

    /// A poll begins: slots whose `Closed` an earlier poll told may be used again.
    pub(super) fn wake_resting(&mut self) {
        while let Some(slot) = self.told.pop() {
            let next = self.free;
            self.get_mut(ConnSlot(slot)).fd = next;
            self.free =
                -2 - i32::try_from(slot).expect("slots are below the number of descriptors");
        }
        std::mem::swap(&mut self.resting, &mut self.told);
    }

    fn grow_to(&mut self, slot: u32) {
        while self.chunks.len() <= slot as usize / CHUNK {
            self.chunks.push(Box::new([Entry { fd: END, flags: 0, generation: 0 }; CHUNK]));
        }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        for entry in self.chunks.iter().flat_map(|chunk| chunk.iter()).filter(|e| e.used()) {
            // Operations in flight hold the file: without the shutdown the peer would learn late.
            sys::shutdown(entry.fd, libc::SHUT_RDWR);
            sys::close(entry.fd);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::IntoRawFd;

    fn descriptor() -> RawFd {
        sys::eventfd().expect("an eventfd").into_raw_fd()
    }

    #[test]
    fn a_slot_rests_until_the_machine_has_seen_its_end() {
        let mut table = Table::new();
        let (a, b) = (table.insert(descriptor()), table.insert(descriptor()));
        assert_eq!((a, b, table.open()), (ConnSlot(0), ConnSlot(1), 2));
        table.release(a);
        table.wake_resting(); // the poll that tells `Closed`
        let c = table.insert(descriptor());
        assert_eq!(c, ConnSlot(2), "a slot is not given away in the poll that tells its end");
        table.wake_resting();
        let d = table.insert(descriptor());
        assert_eq!(d, a);
        assert!(table.find(d, 0).is_none(), "the first connection's completions miss the second");
        assert!(table.find(d, 1).is_some());
        assert_eq!(table.open(), 3);
    }

    #[test]
    fn the_free_list_gives_every_slot_once() {
        let mut table = Table::new();
        let slots: Vec<_> = (0..3000).map(|_| table.insert(descriptor())).collect();
        for &slot in &slots {
            table.release(slot);
        }
        table.wake_resting();
        table.wake_resting();
        let mut again: Vec<_> = (0..3000).map(|_| table.insert(descriptor()).0).collect();
        again.sort_unstable();
        assert_eq!(again, (0..3000).collect::<Vec<_>>());
    }

    #[test]
    fn a_chosen_slot_is_never_given_to_an_accept() {
        let mut table = Table::new();
        table.insert_at(ConnSlot(5000), descriptor(), MANUAL);
        assert!(table.get(ConnSlot(5000)).is(MANUAL | CHOSEN));
        table.release(ConnSlot(5000));
        table.wake_resting();
        table.wake_resting();
        table.insert_at(ConnSlot(5000), descriptor(), 0);
        assert_eq!(table.insert(descriptor()), ConnSlot(0));
    }
}
