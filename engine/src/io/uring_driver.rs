//! The driver on io_uring: what completions mean, and what actions become.
//!
//! Multishot accept and receive, sends that complete only when they were short, closes that wait
//! for the last completion of their connection. Owns the connections' outstanding operations.
//! Never cancels one on the hot path, and never leaves a send to a kernel worker.

use super::counters::IoCounters;
use super::late::Late;
use super::listener::Dial;
use super::table::{ARMED, CLOSING, CONNECTING, EOF, MANUAL, READING, Table};
use super::uring::{Completion, Ring, WORD_SEND};
use super::{ACCEPT_AGAIN_MS, POLL_BYTES_MAX, put_off, sys};
use crate::seam::{Action, Actions, ConnSlot, Driver, Event, Events, Frames, Now, Tick};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

/// Events of one poll after which further completions wait for the next: a turn stays short.
const POLL_EVENTS_MAX: usize = 4096;

// A word: what it is (4 bits), the number of the action (12), generation (16, 8 used), slot (32).
const KIND: u64 = 0xf << 60;
const RECEIVE: u64 = 1 << 60;
const WRITABLE: u64 = 2 << 60;
const CONNECT: u64 = 3 << 60;
const ACCEPT: u64 = 4 << 60;
const WAKE: u64 = 5 << 60;
const CANCEL: u64 = 6 << 60;

fn word(kind: u64, conn: ConnSlot, generation: u8) -> u64 {
    kind | u64::from(generation) << 32 | u64::from(conn.0)
}

fn conn_of(word: u64) -> (ConnSlot, u8) {
    (ConnSlot((word & 0xffff_ffff) as u32), (word >> 32 & 0xff) as u8)
}

/// Whether connections are accepted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Accepting {
    /// They should be, from this moment on.
    From(Tick),
    /// The machine is full.
    Paused,
}

/// See the module.
pub(super) struct UringDriver {
    ring: Ring,
    state: State,
}

impl UringDriver {
    pub(super) fn new(
        listener: Option<OwnedFd>,
        dial: Dial,
        wake: RawFd,
        counters: Arc<[IoCounters]>,
        index: usize,
    ) -> io::Result<UringDriver> {
        let ring = Ring::for_this_thread()?;
        Ok(UringDriver::on(ring, listener, dial, wake, counters, index))
    }

    fn on(
        mut ring: Ring,
        listener: Option<OwnedFd>,
        dial: Dial,
        wake: RawFd,
        counters: Arc<[IoCounters]>,
        index: usize,
    ) -> UringDriver {
        // Edge-triggered by nature and never read: each wake-up is one completion.
        ring.poll_wake(wake, WAKE);
        let state = State {
            table: Table::new(),
            listener,
            accepting: Accepting::From(Tick(0)),
            accept_armed: false,
            dial,
            wake,
            late: Late::default(),
            failed: Vec::new(),
            shutdowns: Vec::new(),
            counters,
            index,
            busy: false,
        };
        UringDriver { ring, state }
    }
}

impl Driver for UringDriver {
    fn poll(&mut self, until: Tick, events: &mut Events) -> Now {
        let UringDriver { ring, state } = self;
        events.clear();
        state.table.wake_resting();
        state.late.tell(&mut state.table, events);
        let mut now = Tick(sys::monotonic_us());
        let accept_at = state.arm_accept(ring, now);
        ring.fetch();
        if events.list.is_empty() && !ring.holds_completions() {
            let until = until.min(accept_at);
            // Nothing to submit, nothing to complete, no time to wait: no reason to enter.
            if until > now || ring.has_work() || ring.has_submissions() {
                ring.wait((until != Tick::NEVER).then(|| until.since_us(now)), state.busy);
                ring.fetch();
                now = Tick(sys::monotonic_us());
            }
        }
        // The kernel may raise the work flag after it has done the work, and then only more work
        // lowers it: an enter that brought nothing ends the loop.
        while state.tell(ring, now, events) && ring.has_work() {
            ring.run_work();
            ring.fetch();
            if !ring.holds_completions() {
                break;
            }
        }
        state.tell_failed(events);
        state.busy = !events.list.is_empty();
        state.count(ring);
        Now { tick: now, unix_ms: sys::unix_ms(), cpu_us: sys::thread_cpu_us() }
    }

    fn perform(&mut self, frames: &Frames, actions: &Actions) {
        let UringDriver { ring, state } = self;
        if actions.as_slice().is_empty() {
            return; // what is queued names no frame, and goes with the wait
        }
        ring.batch(|batch| {
            for (number, action) in (0_u64..).zip(actions.as_slice()) {
                match *action {
                    Action::Send { conn, frame, skip_bytes } => {
                        let (fd, word) = state.send(conn, number);
                        batch.send(fd, &frames.get(frame)[skip_bytes as usize..], word);
                    }
                    other => state.act(batch.ring(), other),
                }
            }
        });
        state.shut_down();
    }
}

/// Everything but the ring.
struct State {
    table: Table,
    listener: Option<OwnedFd>,
    accepting: Accepting,
    /// The accept operation is in the kernel.
    accept_armed: bool,
    dial: Dial,
    wake: RawFd,
    late: Late,
    /// Connections whose send failed in this poll; their end is told behind their last bytes.
    failed: Vec<(ConnSlot, u8, i32)>,
    /// Shutdowns of this turn: they go behind its sends.
    shutdowns: Vec<(ConnSlot, i32)>,
    counters: Arc<[IoCounters]>,
    index: usize,
    /// The last poll brought something, so more is to be expected soon.
    busy: bool,
}

impl State {
    fn counters(&self) -> &IoCounters {
        &self.counters[self.index]
    }

    /// Arms the accept if it is due; else says when.
    fn arm_accept(&mut self, ring: &mut Ring, now: Tick) -> Tick {
        match (&self.listener, self.accepting) {
            (Some(listener), Accepting::From(from)) if !self.accept_armed => {
                if from > now {
                    return from;
                }
                ring.accept(listener.as_raw_fd(), ACCEPT);
                self.accept_armed = true;
                Tick::NEVER
            }
            _ => Tick::NEVER,
        }
    }

    fn arm_receive(&mut self, ring: &mut Ring, conn: ConnSlot) {
        let entry = self.table.get_mut(conn);
        entry.flags |= READING;
        let word = word(RECEIVE, conn, entry.generation);
        if entry.is(MANUAL) {
            ring.receive_once(entry.fd, word);
        } else {
            ring.receive(entry.fd, word);
        }
    }

    // ---- completions ----

    fn completed(
        &mut self,
        ring: &mut Ring,
        completion: &Completion,
        now: Tick,
        events: &mut Events,
    ) {
        let (conn, generation) = conn_of(completion.word);
        match completion.word & KIND {
            ACCEPT => self.accepted(ring, completion, now, events),
            WAKE => {
                if !completion.more() {
                    ring.poll_wake(self.wake, WAKE);
                }
            }
            CANCEL => {}
            kind => {
                // A slot is emptied only after its last completion, so this finds its connection.
                if self.table.find(conn, generation).is_none() {
                    debug_assert!(false, "no completion comes after the last one of a connection");
                    ring.received(completion, |_| {});
                    return;
                }
                match kind {
                    RECEIVE => self.received(ring, conn, completion, events),
                    WRITABLE => self.writable(conn, events),
                    _ => self.connected(ring, conn, events),
                }
            }
        }
    }

    fn accepted(
        &mut self,
        ring: &mut Ring,
        completion: &Completion,
        now: Tick,
        events: &mut Events,
    ) {
        self.accept_armed &= completion.more();
        if completion.result < 0 {
            if put_off(-completion.result) {
                self.counters().accept_errors.add(1);
                if self.accepting != Accepting::Paused {
                    self.accepting = Accepting::From(now.after_ms(ACCEPT_AGAIN_MS));
                }
            }
            return;
        }
        let fd = completion.result;
        // Without a peer the connection is gone already; without a listener nobody wants it.
        let Some(peer) = sys::peer_ip(fd).ok().filter(|_| self.listener.is_some()) else {
            return sys::close(fd);
        };
        let conn = self.table.insert(fd);
        self.counters().accepted.add(1);
        events.list.push(Event::Accepted { conn, peer });
        self.arm_receive(ring, conn);
    }

    fn received(
        &mut self,
        ring: &mut Ring,
        conn: ConnSlot,
        completion: &Completion,
        events: &mut Events,
    ) {
        let silent = self.table.get(conn).flags & (CLOSING | EOF) != 0;
        if completion.result > 0 {
            ring.received(completion, |bytes| {
                if !silent {
                    events.push_received(conn, bytes);
                }
            });
        } else {
            ring.received(completion, |_| {});
        }
        if completion.more() {
            return;
        }
        self.table.get_mut(conn).flags &= !READING;
        if self.table.get(conn).is(CLOSING) {
            return self.finish_close(conn, events);
        }
        match -completion.result {
            // Out of buffers (they are back by now), or interrupted.
            libc::ENOBUFS => {
                self.counters().enobufs_rearms.add(1);
                self.arm_receive(ring, conn);
            }
            libc::EINTR | libc::EAGAIN => self.arm_receive(ring, conn),
            // A multishot receive may end after bytes; one that was asked for once is done.
            ..=-1 => {
                if !self.table.get(conn).is(MANUAL) {
                    self.arm_receive(ring, conn);
                }
            }
            errno => self.ended(conn, errno, events),
        }
    }

    fn ended(&mut self, conn: ConnSlot, errno: i32, events: &mut Events) {
        if self.table.get_mut(conn).note_end(errno) {
            events.list.push(Event::Eof { conn, errno });
        }
    }

    fn writable(&mut self, conn: ConnSlot, events: &mut Events) {
        let entry = self.table.get_mut(conn);
        entry.flags &= !ARMED;
        if entry.is(CLOSING) {
            self.finish_close(conn, events);
        } else {
            events.list.push(Event::Writable { conn });
        }
    }

    fn connected(&mut self, ring: &mut Ring, conn: ConnSlot, events: &mut Events) {
        let entry = self.table.get_mut(conn);
        entry.flags &= !CONNECTING;
        if entry.is(CLOSING) {
            return self.finish_close(conn, events);
        }
        let errno = sys::socket_error(entry.fd);
        let manual = entry.is(MANUAL);
        events.list.push(Event::Connected { conn, errno });
        if errno != 0 {
            self.table.release(conn);
            events.list.push(Event::Closed { conn });
        } else if !manual {
            self.arm_receive(ring, conn);
        }
    }

    /// Gives the descriptor back, unless an operation of the connection is still in the kernel.
    fn finish_close(&mut self, conn: ConnSlot, events: &mut Events) {
        if self.table.get(conn).flags & (READING | ARMED | CONNECTING) == 0 {
            self.table.release(conn);
            events.list.push(Event::Closed { conn });
        }
    }

    fn sent_short(&mut self, completion: &Completion, events: &mut Events) {
        self.counters().short_sends.add(1);
        let (conn, generation) = conn_of(completion.word);
        let action = (completion.word >> 48 & 0xfff) as u32;
        if self.table.find(conn, generation).is_none_or(|entry| entry.is(CLOSING)) {
            return;
        }
        let sent_bytes = u32::try_from(completion.result).unwrap_or(0);
        events.list.push(Event::SendShort { conn, action, sent_bytes });
        if completion.result < 0 && completion.result != -libc::EAGAIN {
            self.failed.push((conn, generation, -completion.result));
        }
    }

    /// Tells what is held; false where the rest has to wait for the next poll.
    fn tell(&mut self, ring: &mut Ring, now: Tick, events: &mut Events) -> bool {
        // All of them, whatever the bound: a short send is known before the next send.
        while let Some(completion) = ring.next_send() {
            self.counters().completions.add(1);
            self.sent_short(&completion, events);
        }
        while events.list.len() < POLL_EVENTS_MAX && events.bytes.len() < POLL_BYTES_MAX {
            let Some(completion) = ring.next_other() else { return true };
            self.counters().completions.add(1);
            self.completed(ring, &completion, now, events);
        }
        false
    }

    /// Tells the end of connections whose send failed: once, and behind the bytes they still got.
    fn tell_failed(&mut self, events: &mut Events) {
        for (conn, generation, errno) in std::mem::take(&mut self.failed) {
            if self.table.find(conn, generation).is_some() {
                self.ended(conn, errno, events);
            }
        }
    }

    fn count(&self, ring: &Ring) {
        let counters = self.counters();
        counters.enters.set(ring.enters);
        counters.overflows.set(ring.overflows);
        counters.connections.set(self.table.open().into());
    }

    // ---- actions ----

    /// Where a send goes, and the word it completes with.
    fn send(&mut self, conn: ConnSlot, number: u64) -> (RawFd, u64) {
        self.counters().sends.add(1);
        self.late.note_send(&mut self.table, conn);
        let entry = self.table.get(conn);
        assert!(entry.used() && !entry.is(CLOSING), "a machine sends on connections it holds");
        (entry.fd, word(WORD_SEND | number << 48, conn, entry.generation))
    }

    /// Carries out the shutdowns, now that the sends before them are with the kernel.
    fn shut_down(&mut self) {
        for (conn, how) in self.shutdowns.drain(..) {
            let entry = self.table.get(conn);
            sys::shutdown(entry.fd, how);
            let outstanding = entry.flags & (READING | ARMED | CONNECTING) != 0;
            if entry.is(CLOSING) && how == libc::SHUT_RDWR && !outstanding {
                self.table.release(conn);
                self.late.closed(conn);
            }
        }
    }

    fn stop_accepting(&mut self) {
        self.accepting = Accepting::Paused;
        if let Some(listener) = self.listener.take() {
            // The accept in the kernel holds the listener: closing alone would not stop it.
            sys::shutdown(listener.as_raw_fd(), libc::SHUT_RDWR);
        }
    }

    fn connect(
        &mut self,
        ring: &mut Ring,
        conn: ConnSlot,
        source: u32,
        target: u16,
        manual_read: bool,
    ) {
        match self.dial.begin(source, target, manual_read) {
            Ok(fd) => {
                let manual = if manual_read { MANUAL } else { 0 };
                self.table.insert_at(conn, fd, manual | CONNECTING);
                ring.poll_writable(fd, word(CONNECT, conn, self.table.get(conn).generation));
            }
            Err(error) => self.late.refused(conn, sys::errno(&error)),
        }
    }

    /// Everything but sends.
    fn act(&mut self, ring: &mut Ring, action: Action) {
        match action {
            Action::Send { .. } => unreachable!("sends are batched"),
            Action::ArmWritable { conn } => {
                let entry = self.table.get_mut(conn);
                if entry.used() && !entry.is(ARMED) {
                    entry.flags |= ARMED;
                    let (fd, word) = (entry.fd, word(WRITABLE, conn, entry.generation));
                    ring.poll_writable(fd, word);
                }
            }
            Action::ShutdownWrite { conn } => self.shutdowns.push((conn, libc::SHUT_WR)),
            Action::Close { conn } => {
                self.late.forget(&self.table, conn);
                let entry = self.table.get_mut(conn);
                assert!(entry.used() && !entry.is(CLOSING), "a machine closes a connection once");
                entry.flags |= CLOSING;
                self.shutdowns.push((conn, libc::SHUT_RDWR));
            }
            Action::StopAccepting => self.stop_accepting(),
            Action::PauseAccepting => {
                self.accepting = Accepting::Paused;
                if self.accept_armed {
                    ring.cancel(ACCEPT, CANCEL);
                }
            }
            Action::ResumeAccepting => self.accepting = Accepting::From(Tick(0)),
            Action::Connect { conn, source, target, manual_read } => {
                self.connect(ring, conn, source, target, manual_read);
            }
            Action::Read { conn } => {
                let entry = self.table.get(conn);
                assert!(entry.is(MANUAL), "Read is for connections opened with manual_read");
                if entry.flags & (EOF | READING) == 0 {
                    self.arm_receive(ring, conn);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
