//! The fake network: what a driver sees, with every fault a socket can have.
//!
//! Owns the connections, the bytes on their way in both directions, the listeners and the slots of
//! each shard, and the rules of the seam, which it asserts: one send per connection between two
//! polls, actions name connections that are there, one `Close`, nothing after `Closed`. What goes
//! wrong is drawn from a generator of its own, so that a fault more changes no client.

use super::plan::Faults;
use crate::hash::Rng;
use crate::seam::{Action, Actions, ConnSlot, Driver, Event, Events, Frames, Now, Tick};
use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;

/// A client's end of a connection: its number, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct End(usize);

/// One connection.
#[derive(Default)]
struct Pipe {
    /// Where the driver put it; none before it is accepted and after `Closed`.
    slot: Option<u32>,
    /// Bytes on their way to the shard.
    inward: VecDeque<u8>,
    /// Bytes the client has not read; bounded by the socket buffer.
    outward: VecDeque<u8>,
    buffer_bytes: usize,
    /// The client's side ended: 0 for an orderly end, or an errno.
    ended: Option<i32>,
    /// What of that the shard was told.
    told: Option<i32>,
    /// The client still takes bytes: not after a full close or a reset.
    reads: bool,
    armed: bool,
    /// The shard has shut its side.
    shut: bool,
    /// The shard has closed; `Closed` follows after so many polls.
    closing: Option<u64>,
    /// The driver has given the slot back, or the connection never came through.
    gone: bool,
    sent: bool,
    /// A send of it was short: what it may miss is its own affair.
    hindered: bool,
}

/// One shard's listener and slots.
#[derive(Default)]
struct Port {
    waiting: VecDeque<usize>,
    slots: Vec<Option<usize>>,
    /// Connections in slots: what a poll looks at.
    live: BTreeSet<usize>,
    paused: bool,
    stopped: bool,
    shorts: Vec<Event>,
}

/// A bug that is planted to see the checkers find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// None.
    None,
    /// The driver says that one byte more was taken than was.
    LosesByte,
    /// Now and then a send that was refused is not reported.
    ForgetsRefusal,
}

/// All connections of all shards.
pub(crate) struct Net {
    pipes: Vec<Pipe>,
    ports: Vec<Port>,
    pub(crate) faults: Faults,
    rng: Rng,
    pub(crate) canary: Canary,
}

impl Net {
    pub(crate) fn new(shards: usize, faults: Faults, seed: u64) -> Net {
        Net {
            pipes: Vec::new(),
            ports: (0..shards).map(|_| Port::default()).collect(),
            faults,
            rng: Rng::new(seed),
            canary: Canary::None,
        }
    }

    fn strikes(&mut self, thousandths: u64) -> bool {
        thousandths > 0 && self.rng.below(1000) < thousandths
    }

    /// A client connects to a shard, with a socket buffer of so many bytes.
    pub(crate) fn connect(&mut self, shard: usize, buffer_bytes: usize) -> End {
        let number = self.pipes.len();
        let gone = self.ports[shard].stopped;
        self.pipes.push(Pipe { buffer_bytes, reads: true, gone, ..Pipe::default() });
        if !gone {
            self.ports[shard].waiting.push_back(number);
        }
        End(number)
    }

    /// A client sends.
    pub(crate) fn send(&mut self, end: End, bytes: &[u8]) {
        let pipe = &mut self.pipes[end.0];
        if !pipe.gone && pipe.ended.is_none() {
            pipe.inward.extend(bytes);
        }
    }

    /// What the client reads now, at most so much; `None` once the shard has ended and all is
    /// read.
    pub(crate) fn read(&mut self, end: End, bytes_max: usize) -> Option<Vec<u8>> {
        let pipe = &mut self.pipes[end.0];
        let take = pipe.outward.len().min(bytes_max);
        let bytes: Vec<u8> = pipe.outward.drain(..take).collect();
        let over = pipe.shut || pipe.closing.is_some() || pipe.gone;
        (!bytes.is_empty() || !over || !pipe.outward.is_empty()).then_some(bytes)
    }

    /// The client ends: its sending side alone (it goes on reading), or all of it with 0 or an
    /// errno.
    pub(crate) fn end(&mut self, end: End, errno: i32, sending_side_alone: bool) {
        let pipe = &mut self.pipes[end.0];
        // A side that was shut may still fail; what has failed is over.
        if pipe.ended.is_none_or(|known| known == 0 && errno != 0) {
            pipe.ended = Some(errno);
        }
        if !sending_side_alone {
            pipe.reads = false;
            pipe.outward.clear();
        }
    }

    /// Whether a send to this client was ever short.
    pub(crate) fn is_hindered(&self, end: End) -> bool {
        self.pipes[end.0].hindered
    }

    /// Whether the driver has it in a slot.
    pub(crate) fn is_served(&self, end: End) -> bool {
        self.pipes[end.0].slot.is_some()
    }

    /// Connections in slots, of all shards.
    pub(crate) fn open(&self) -> usize {
        self.ports.iter().flat_map(|port| &port.slots).flatten().count()
    }

    /// Whether a poll of the shard would give anything.
    pub(crate) fn has_events(&self, shard: usize) -> bool {
        let port = &self.ports[shard];
        !port.shorts.is_empty()
            || !port.waiting.is_empty() && !port.paused
            || port.live.iter().any(|number| self.pipes[*number].is_ready())
    }

    pub(crate) fn driver(&mut self, shard: usize, now: Now) -> SimDriver<'_> {
        SimDriver { net: self, shard, now }
    }
}

impl Pipe {
    fn is_ready(&self) -> bool {
        self.closing.is_some()
            || !self.inward.is_empty()
            || self.ended != self.told
            || self.armed && self.takes_bytes()
    }

    fn takes_bytes(&self) -> bool {
        self.outward.len() < self.buffer_bytes || !self.reads
    }
}

/// One shard's view of the network, for one turn.
pub(crate) struct SimDriver<'a> {
    net: &'a mut Net,
    shard: usize,
    now: Now,
}

impl Driver for SimDriver<'_> {
    fn poll(&mut self, _until: Tick, events: &mut Events) -> Now {
        events.clear();
        events.list.append(&mut self.net.ports[self.shard].shorts);
        self.accept(events);
        // Completions of different connections come in any order.
        let mut order: Vec<usize> = self.net.ports[self.shard].live.iter().copied().collect();
        let start = self.net.rng.below(order.len() as u64) as usize;
        order.rotate_left(start);
        for number in order {
            self.net.pipes[number].sent = false;
            let late = self.net.faults.event_late;
            if !self.net.strikes(late) {
                self.poll_pipe(number, events);
            }
        }
        self.now
    }

    fn perform(&mut self, frames: &Frames, actions: &Actions) {
        for (number, action) in (0..).zip(actions.as_slice()) {
            match *action {
                Action::Send { conn, frame, skip_bytes } => {
                    let bytes = frames.get(frame);
                    assert!(!bytes.is_empty(), "a send names a frame that is held");
                    let bytes = &bytes[skip_bytes as usize..];
                    assert!(!bytes.is_empty(), "a send has bytes to send");
                    self.send(conn, bytes, number);
                }
                Action::ArmWritable { conn } => {
                    let pipe = self.pipe(conn);
                    assert!(!pipe.armed, "a connection is armed once");
                    assert!(pipe.closing.is_none(), "nothing follows the close of a connection");
                    pipe.armed = true;
                }
                Action::ShutdownWrite { conn } => {
                    let pipe = self.pipe(conn);
                    assert!(pipe.closing.is_none(), "nothing follows the close of a connection");
                    pipe.shut = true;
                }
                Action::Close { conn } => self.close(conn),
                Action::StopAccepting => self.stop(),
                Action::PauseAccepting => self.net.ports[self.shard].paused = true,
                Action::ResumeAccepting => self.net.ports[self.shard].paused = false,
                Action::Connect { .. } | Action::Read { .. } => panic!("a shard never connects"),
            }
        }
    }
}

impl SimDriver<'_> {
    /// Gives waiting connections the lowest free slots: a slot is used again as soon as it can be.
    fn accept(&mut self, events: &mut Events) {
        let port = &mut self.net.ports[self.shard];
        while !port.paused
            && let Some(number) = port.waiting.pop_front()
        {
            let slot = port.slots.iter().position(Option::is_none).unwrap_or(port.slots.len());
            if slot == port.slots.len() {
                port.slots.push(None);
            }
            port.slots[slot] = Some(number);
            port.live.insert(number);
            self.net.pipes[number].slot = Some(slot as u32);
            let peer = IpAddr::from([127, 0, 0, 1 + (number % 5) as u8]);
            events.list.push(Event::Accepted { conn: ConnSlot(slot as u32), peer });
        }
    }

    fn poll_pipe(&mut self, number: usize, events: &mut Events) {
        let partial = self.net.faults.recv_partial;
        let split = self.net.strikes(partial);
        let pipe = &mut self.net.pipes[number];
        let Some(slot) = pipe.slot else { return };
        let conn = ConnSlot(slot);
        if let Some(polls) = &mut pipe.closing {
            if *polls > 0 {
                *polls -= 1;
                return;
            }
            (pipe.slot, pipe.gone) = (None, true);
            self.net.ports[self.shard].slots[slot as usize] = None;
            self.net.ports[self.shard].live.remove(&number);
            events.list.push(Event::Closed { conn });
            return;
        }
        if !pipe.inward.is_empty() {
            let mut take = pipe.inward.len();
            if split {
                take = 1 + self.net.rng.below(take as u64) as usize;
            }
            let bytes: Vec<u8> = pipe.inward.drain(..take).collect();
            events.push_received(conn, &bytes);
        }
        // A reset overtakes the bytes before it, an orderly end does not.
        let over = pipe.inward.is_empty() || pipe.ended.is_some_and(|errno| errno != 0);
        if let Some(errno) = pipe.ended
            && pipe.told != pipe.ended
            && over
        {
            pipe.told = pipe.ended;
            events.list.push(Event::Eof { conn, errno });
        }
        if pipe.armed && pipe.takes_bytes() {
            pipe.armed = false;
            events.list.push(Event::Writable { conn });
        }
    }

    fn pipe(&mut self, conn: ConnSlot) -> &mut Pipe {
        let slots = &self.net.ports[self.shard].slots;
        let number = slots.get(conn.0 as usize).copied().flatten();
        let number = number.expect("an action names a connection that is there");
        &mut self.net.pipes[number]
    }

    fn close(&mut self, conn: ConnSlot) {
        let closed_late = self.net.faults.closed_late;
        let late = self.net.strikes(closed_late);
        let polls = if late { self.net.rng.below(20) } else { 0 };
        let pipe = self.pipe(conn);
        assert!(pipe.closing.is_none(), "a connection is closed once");
        pipe.closing = Some(polls);
        pipe.armed = false;
    }

    fn stop(&mut self) {
        let port = &mut self.net.ports[self.shard];
        port.stopped = true;
        for number in std::mem::take(&mut port.waiting) {
            self.net.pipes[number].gone = true;
        }
    }

    fn send(&mut self, conn: ConnSlot, bytes: &[u8], action: u32) {
        let Faults { send_refused, send_short, .. } = self.net.faults;
        let refused = self.net.strikes(send_refused);
        let short = self.net.strikes(send_short);
        let cut = self.net.rng.below(bytes.len() as u64) as usize;
        let forgets = self.net.canary == Canary::ForgetsRefusal && self.net.rng.below(8) == 0;
        let loses = self.net.canary == Canary::LosesByte;
        let swallowed = self.net.rng.below(2) == 0;
        let pipe = self.pipe(conn);
        assert!(!pipe.sent, "at most one send per connection between two polls");
        assert!(pipe.closing.is_none(), "nothing follows the close of a connection");
        assert!(!pipe.shut, "nothing is sent after our side was shut");
        assert!(!pipe.armed, "nothing is sent while a connection waits to be writable");
        pipe.sent = true;
        let mut room = pipe.buffer_bytes.saturating_sub(pipe.outward.len()).min(bytes.len());
        if short {
            room = room.min(cut);
        }
        if refused {
            room = 0;
        }
        if pipe.reads {
            pipe.outward.extend(&bytes[..room]);
        } else {
            // The client is gone. The kernel may take everything still, or nothing any more.
            room = if swallowed && !refused { bytes.len() } else { 0 };
        }
        if room < bytes.len() {
            pipe.hindered = true;
            if forgets && room == 0 {
                return;
            }
            let lost = usize::from(loses && room > 0 && room + 1 < bytes.len());
            let sent_bytes = (room + lost) as u32;
            let shorts = &mut self.net.ports[self.shard].shorts;
            shorts.push(Event::SendShort { conn, action, sent_bytes });
        }
    }
}
