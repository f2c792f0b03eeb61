//! The fake network: what a driver sees, with every fault a socket can have.
//!
//! Owns the slots of each shard, the bytes on their way in both directions, and the rules of the
//! seam, which it asserts: one send per connection between two polls, nothing after `Closed`.

use super::Faults;
use crate::hash::Rng;
use crate::seam::{Action, Actions, ConnSlot, Driver, Event, Events, Frames, Now, Tick};
use std::collections::VecDeque;
use std::net::IpAddr;

/// One connection as the network sees it.
#[derive(Default)]
struct Pipe {
    used: bool,
    /// Which connection has the slot: an end of an older one finds it closed.
    life: u64,
    announced: bool,
    /// Bytes on their way to the shard.
    inward: VecDeque<u8>,
    /// Bytes the client has not read; bounded by the socket buffer.
    outward: VecDeque<u8>,
    /// The client closed (0) or reset (its errno).
    ended: Option<i32>,
    eof_told: bool,
    armed: bool,
    shut: bool,
    closing: bool,
    sent: bool,
}

/// All connections of all shards.
pub(crate) struct Net {
    shards: Vec<Vec<Pipe>>,
    shorts: Vec<Vec<Event>>,
    buffer_bytes: usize,
    lives: u64,
}

/// A client's end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) shard: usize,
    pub(crate) slot: usize,
    life: u64,
}

impl Net {
    pub(crate) fn new(shards: usize, buffer_bytes: usize) -> Net {
        Net {
            shards: (0..shards).map(|_| Vec::new()).collect(),
            shorts: (0..shards).map(|_| Vec::new()).collect(),
            buffer_bytes,
            lives: 0,
        }
    }

    /// A client connects to a shard.
    pub(crate) fn connect(&mut self, shard: usize) -> End {
        let pipes = &mut self.shards[shard];
        let slot = pipes.iter().position(|p| !p.used).unwrap_or(pipes.len());
        if slot == pipes.len() {
            pipes.push(Pipe::default());
        }
        self.lives += 1;
        pipes[slot] = Pipe { used: true, life: self.lives, ..Pipe::default() };
        End { shard, slot, life: self.lives }
    }

    fn pipe(&mut self, end: End) -> Option<&mut Pipe> {
        let pipe = &mut self.shards[end.shard][end.slot];
        (pipe.used && pipe.life == end.life).then_some(pipe)
    }

    pub(crate) fn send(&mut self, end: End, bytes: &[u8]) {
        if let Some(pipe) = self.pipe(end) {
            pipe.inward.extend(bytes);
        }
    }

    /// What the client reads now; `None` once the server has closed and all is read.
    pub(crate) fn receive(&mut self, end: End) -> Option<Vec<u8>> {
        let pipe = self.pipe(end)?;
        let bytes: Vec<u8> = pipe.outward.drain(..).collect();
        (!bytes.is_empty() || !(pipe.shut || pipe.closing)).then_some(bytes)
    }

    pub(crate) fn hang_up(&mut self, end: End, errno: i32) {
        if let Some(pipe) = self.pipe(end) {
            pipe.ended.get_or_insert(errno);
            pipe.outward.clear();
        }
    }

    pub(crate) fn open(&self) -> usize {
        self.shards.iter().flatten().filter(|pipe| pipe.used).count()
    }

    pub(crate) fn has_events(&self, shard: usize) -> bool {
        let room = self.buffer_bytes;
        !self.shorts[shard].is_empty()
            || self.shards[shard].iter().any(|p| {
                p.used
                    && (!p.announced
                        || p.closing
                        || !p.inward.is_empty()
                        || (p.ended.is_some() && !p.eof_told)
                        || (p.armed && (p.outward.len() < room || p.ended.is_some())))
            })
    }

    pub(crate) fn driver<'a>(
        &'a mut self,
        shard: usize,
        now: Now,
        rng: &'a mut Rng,
        faults: &'a Faults,
        canary: bool,
    ) -> SimDriver<'a> {
        SimDriver { net: self, shard, now, rng, faults, canary }
    }
}

/// One shard's view of the network, for one turn.
pub(crate) struct SimDriver<'a> {
    net: &'a mut Net,
    shard: usize,
    now: Now,
    rng: &'a mut Rng,
    faults: &'a Faults,
    canary: bool,
}

impl Driver for SimDriver<'_> {
    fn poll(&mut self, _until: Tick, events: &mut Events) -> Now {
        events.clear();
        events.list.append(&mut self.net.shorts[self.shard]);
        let buffer_bytes = self.net.buffer_bytes;
        for (slot, pipe) in self.net.shards[self.shard].iter_mut().enumerate() {
            let conn = ConnSlot(slot as u32);
            pipe.sent = false;
            if !pipe.used {
                continue;
            }
            if !pipe.announced {
                pipe.announced = true;
                events.list.push(Event::Accepted { conn, peer: IpAddr::from([127, 0, 0, 1]) });
            }
            if pipe.closing {
                events.list.push(Event::Closed { conn });
                *pipe = Pipe::default();
                continue;
            }
            if !pipe.inward.is_empty() {
                let mut take = pipe.inward.len();
                if self.rng.below(1000) < self.faults.recv_partial {
                    take = 1 + self.rng.below(take as u64) as usize;
                }
                let bytes: Vec<u8> = pipe.inward.drain(..take).collect();
                events.push_received(conn, &bytes);
            }
            let over = pipe.inward.is_empty() || pipe.ended.is_some_and(|errno| errno != 0);
            if let Some(errno) = pipe.ended
                && over
                && !pipe.eof_told
            {
                pipe.eof_told = true;
                events.list.push(Event::Eof { conn, errno });
            }
            if pipe.armed && (pipe.outward.len() < buffer_bytes || pipe.ended.is_some()) {
                pipe.armed = false;
                events.list.push(Event::Writable { conn });
            }
        }
        self.now
    }

    fn perform(&mut self, frames: &Frames, actions: &Actions) {
        for (number, action) in actions.as_slice().iter().enumerate() {
            match *action {
                Action::Send { conn, frame, skip_bytes } => {
                    let bytes = &frames.get(frame)[skip_bytes as usize..];
                    assert!(!bytes.is_empty(), "a send has bytes to send");
                    self.send(conn, bytes, number as u32);
                }
                Action::ArmWritable { conn } => {
                    let pipe = self.pipe(conn);
                    assert!(!pipe.armed, "a connection is armed once");
                    pipe.armed = true;
                }
                Action::ShutdownWrite { conn } => self.pipe(conn).shut = true,
                Action::Close { conn } => {
                    let pipe = self.pipe(conn);
                    assert!(!pipe.closing, "a connection is closed once");
                    pipe.closing = true;
                }
                Action::StopAccepting | Action::PauseAccepting | Action::ResumeAccepting => {}
                Action::Connect { .. } | Action::Read { .. } => panic!("a shard never connects"),
            }
        }
    }
}

impl SimDriver<'_> {
    fn pipe(&mut self, conn: ConnSlot) -> &mut Pipe {
        let pipe = &mut self.net.shards[self.shard][conn.0 as usize];
        assert!(pipe.used && pipe.announced, "an action names a connection that is there");
        pipe
    }

    fn send(&mut self, conn: ConnSlot, bytes: &[u8], action: u32) {
        let refused = self.rng.below(1000) < self.faults.send_refused;
        let short = self.rng.below(1000) < self.faults.send_short;
        let cut = self.rng.below(bytes.len() as u64) as usize;
        let (canary, buffer_bytes) = (self.canary, self.net.buffer_bytes);
        let pipe = self.pipe(conn);
        assert!(!pipe.sent, "at most one send per connection between two polls");
        assert!(!pipe.closing && !pipe.shut, "nothing is sent after the last word");
        pipe.sent = true;
        let gone = pipe.ended.is_some();
        let mut room = buffer_bytes.saturating_sub(pipe.outward.len()).min(bytes.len());
        if short {
            room = room.min(cut);
        }
        if refused || gone {
            room = 0;
        }
        pipe.outward.extend(&bytes[..room]);
        if room < bytes.len() {
            let lost = usize::from(canary && room > 0 && room + 1 < bytes.len());
            let sent_bytes = (room + lost) as u32;
            self.net.shorts[self.shard].push(Event::SendShort { conn, action, sent_bytes });
        }
    }
}
