//! The only words a machine (shard or crowd) and the kernel share.
//!
//! Completion-shaped: a driver tells what happened, never what might be possible. Owns the event
//! and action types, the rules between them, and the loop that joins a machine to a driver.
//! Never names a file descriptor.
//!
//! Rules, asserted by the drivers and by the simulator:
//! * At most one `Send` per connection between two polls: a short send is learnt from the next
//!   poll, and a second frame queued behind it would tear the stream.
//! * On return from `perform` the kernel holds no pointer into `frames`.
//! * `Closed` is the last word of a slot; the driver may give the slot to another connection
//!   only after the machine has seen it. After `Close` no other event of the slot follows.
//! * A slot's events are ordered: `Accepted` or `Connected`, then any, then `Closed`.

use bytes::Bytes;
use std::net::IpAddr;
use std::ops::Range;

/// A connection's place in the driver's table and in the machine's. The driver picks it at accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnSlot(pub u32);

/// A frame's place in [`Frames`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrameSlot(pub u32);

/// Monotonic time in microseconds since some start. Ordered; never compared between machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub u64);

impl Tick {
    /// Later than everything.
    pub const NEVER: Tick = Tick(u64::MAX);

    /// This much later; saturates at `NEVER`.
    #[must_use]
    pub fn after_ms(self, ms: u64) -> Tick {
        Tick(self.0.saturating_add(ms.saturating_mul(1000)))
    }

    /// Microseconds since `earlier`; 0 where it is not earlier.
    #[must_use]
    pub fn since_us(self, earlier: Tick) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The clocks, read once a turn by the driver. Wall time may jump; `tick` never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic.
    pub tick: Tick,
    /// Wall clock, milliseconds since 1970: token expiry and message times need it.
    pub unix_ms: u64,
    /// CPU time of this thread, microseconds: what a sweep cost.
    pub cpu_us: u64,
}

/// What happened. Byte ranges point into the [`Events`] they came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A listener gave a connection.
    Accepted { conn: ConnSlot, peer: IpAddr },
    /// A `Connect` ended: `errno` 0 for success. On failure `Closed` follows without a `Close`.
    Connected { conn: ConnSlot, errno: i32 },
    /// Bytes came in.
    Received { conn: ConnSlot, bytes: Range<u32> },
    /// The peer will send no more (0), or the socket failed (its errno). Sent once; the machine
    /// answers with `Close` when it has nothing left to send. A socket that fails after it was
    /// half-closed is told once more, with its errno: nothing can be sent any more.
    Eof { conn: ConnSlot, errno: i32 },
    /// The `Send` that was action number `action` of the last `perform` took only `sent_bytes`
    /// bytes after its `skip_bytes` (0: refused). A send that was taken whole posts nothing.
    SendShort { conn: ConnSlot, action: u32, sent_bytes: u32 },
    /// An armed connection can take bytes again (or has failed: the next send tells).
    Writable { conn: ConnSlot },
    /// The slot is free. Nothing more about this connection.
    Closed { conn: ConnSlot },
}

/// What is to be done, carried out in order by `perform`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Hand `frames[frame][skip_bytes..]` to the socket, without waiting.
    Send { conn: ConnSlot, frame: FrameSlot, skip_bytes: u32 },
    /// Ask for one `Writable`.
    ArmWritable { conn: ConnSlot },
    /// No more bytes from us (FIN after what is queued); the peer's bytes still come.
    ShutdownWrite { conn: ConnSlot },
    /// Shut down both ways, give the descriptor back once its last completion came; then `Closed`.
    Close { conn: ConnSlot },
    /// Stop accepting, for good (drain).
    StopAccepting,
    /// Accept no connection for now (table full) / again.
    PauseAccepting,
    /// Undoes `PauseAccepting`.
    ResumeAccepting,
    /// Open a connection (load tester only; the machine picks the slot). `source`: IPv4 address
    /// to come from as big-endian bits, 0 for any; `target`: index into the driver's targets.
    Connect { conn: ConnSlot, source: u32, target: u16, manual_read: bool },
    /// For a connection opened with `manual_read`: take in bytes once; without it nothing is
    /// read, and the kernel's receive buffer fills. One outstanding at most.
    Read { conn: ConnSlot },
}

const _: () = assert!(size_of::<Action>() == 16);

/// Bound of [`Actions`], and thereby of one turn's work: this is the preemption of sweeps.
pub const ACTIONS_PER_TURN_MAX: usize = 1024;

/// The actions of one turn: a bounded list.
#[derive(Debug, Default)]
pub struct Actions {
    list: Vec<Action>,
}

impl Actions {
    /// An empty list with its room reserved.
    #[must_use]
    pub fn new() -> Actions {
        Actions { list: Vec::with_capacity(ACTIONS_PER_TURN_MAX) }
    }

    /// How many more fit.
    #[must_use]
    pub fn room(&self) -> usize {
        ACTIONS_PER_TURN_MAX - self.list.len()
    }

    /// Appends one; returns its number, by which `SendShort` names it.
    ///
    /// # Panics
    /// Where the caller did not look at `room` first.
    pub fn push(&mut self, action: Action) -> u32 {
        assert!(
            self.list.len() < ACTIONS_PER_TURN_MAX,
            "a turn's actions are bounded: ask room() first"
        );
        self.list.push(action);
        u32::try_from(self.list.len() - 1).unwrap_or(u32::MAX)
    }

    /// In order.
    #[must_use]
    pub fn as_slice(&self) -> &[Action] {
        &self.list
    }

    /// Forgets all of them; keeps the memory.
    pub fn clear(&mut self) {
        self.list.clear();
    }
}

/// The events of one poll and the bytes they point into. Inbound bytes are copied here once, so
/// no buffer of a driver lives in a machine.
#[derive(Debug, Default)]
pub struct Events {
    /// In the order they happened, per connection.
    pub list: Vec<Event>,
    /// What `Received` ranges point into.
    pub bytes: Vec<u8>,
}

impl Events {
    /// Forgets all of them; keeps the memory.
    pub fn clear(&mut self) {
        self.list.clear();
        self.bytes.clear();
    }

    /// The bytes of a range of this list.
    #[must_use]
    pub fn bytes_of(&self, range: &Range<u32>) -> &[u8] {
        &self.bytes[range.start as usize..range.end as usize]
    }

    /// Appends `Received` with a copy of `bytes`.
    pub fn push_received(&mut self, conn: ConnSlot, bytes: &[u8]) {
        let start =
            u32::try_from(self.bytes.len()).expect("a poll's bytes are bounded far below 4 GiB");
        self.bytes.extend_from_slice(bytes);
        let end =
            u32::try_from(self.bytes.len()).expect("a poll's bytes are bounded far below 4 GiB");
        self.list.push(Event::Received { conn, bytes: start..end });
    }
}

/// The frames a machine may send: a table of shared bytes with reference counts of its own.
#[derive(Debug, Default)]
pub struct Frames {
    slots: Vec<(Bytes, u32)>,
    free: Vec<u32>,
    bytes_used: usize,
}

impl Frames {
    /// Takes a frame in, held once.
    pub fn insert(&mut self, bytes: Bytes) -> FrameSlot {
        self.bytes_used += bytes.len();
        if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = (bytes, 1);
            return FrameSlot(slot);
        }
        self.slots.push((bytes, 1));
        FrameSlot(u32::try_from(self.slots.len() - 1).expect("frames are bounded far below 2^32"))
    }

    /// Holds a frame once more.
    pub fn hold(&mut self, frame: FrameSlot) {
        let refs = &mut self.slots[frame.0 as usize].1;
        assert!(*refs > 0, "only a frame that is held can be held again");
        *refs += 1;
    }

    /// Lets a frame go; its slot is reused after the last holder.
    pub fn release(&mut self, frame: FrameSlot) {
        let (bytes, refs) = &mut self.slots[frame.0 as usize];
        assert!(*refs > 0, "a frame is released as often as it was held");
        *refs -= 1;
        if *refs == 0 {
            self.bytes_used -= bytes.len();
            *bytes = Bytes::new();
            self.free.push(frame.0);
        }
    }

    /// A frame's bytes.
    #[must_use]
    pub fn get(&self, frame: FrameSlot) -> &[u8] {
        &self.slots[frame.0 as usize].0
    }

    /// Frames held now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Bytes of all frames held now (shared ones counted once a slot).
    #[must_use]
    pub fn bytes_used(&self) -> usize {
        self.bytes_used
    }
}

/// The kernel's side: sockets, clocks, waiting. Three of them: `uring`, `epoll`, `sim`.
pub trait Driver {
    /// Waits until something happened, another thread woke us, or `until` passed; refills
    /// `events`. `Tick(0)` does not wait. The only place that reads a clock.
    fn poll(&mut self, until: Tick, events: &mut Events) -> Now;
    /// Carries out every action, in order. On return the kernel holds no pointer into `frames`.
    fn perform(&mut self, frames: &Frames, actions: &Actions);
}

/// The pure side: a shard, or the load tester's crowd.
pub trait Machine {
    /// What travels between machines.
    type Message: Send;

    /// Takes in what happened, puts out what is to be done. `inbox` holds messages from other
    /// machines (drained by the callee); `outbox` takes (machine number, message) pairs.
    fn turn(
        &mut self,
        now: Now,
        events: &Events,
        inbox: &mut Vec<Self::Message>,
        actions: &mut Actions,
        outbox: &mut Vec<(u16, Self::Message)>,
    );
    /// Takes back a message that could not be handed to machine `to`: its queue and this thread's
    /// backlog for it are full, or it is done for good. Called between turns.
    fn undeliverable(&mut self, to: u16, message: Self::Message);
    /// When it wants a turn even if nothing happens; `Tick(0)`: at once.
    fn next_wakeup(&self) -> Tick;
    /// The frames its actions name.
    fn frames(&self) -> &Frames;
    /// Whether it is done for good.
    fn finished(&self) -> bool;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_lives_as_long_as_its_last_holder() {
        let mut frames = Frames::default();
        let a = frames.insert(Bytes::from_static(b"abc"));
        frames.hold(a);
        frames.release(a);
        assert_eq!(frames.get(a), b"abc");
        assert_eq!((frames.used(), frames.bytes_used()), (1, 3));
        frames.release(a);
        assert_eq!((frames.used(), frames.bytes_used()), (0, 0));
        assert_eq!(frames.insert(Bytes::from_static(b"x")), a, "slots are reused");
    }
}
