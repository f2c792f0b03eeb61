//! The driver on epoll: for machines and containers where io_uring is not permitted.
//!
//! Imitates completions through readiness: same events, same order, same rules as `uring`. Owns
//! the epoll set. Level-triggered, so nothing that is put off is lost.

use super::counters::IoCounters;
use super::late::Late;
use super::listener::Dial;
use super::sys::{self, Ready};
use super::table::{ARMED, CLOSING, CONNECTING, EOF, MANUAL, READING, Table, WATCHED};
use super::{ACCEPT_AGAIN_MS, POLL_BYTES_MAX, put_off};
use crate::seam::{Action, Actions, ConnSlot, Driver, Event, Events, Frames, Now, Tick};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

/// Readiness lines taken at once.
const READY_MAX: usize = 1024;
/// One receive; a connection that has more is readable again in the next poll.
const RECEIVE_BYTES_MAX: usize = 16 * 1024;
/// Connections taken at once; the rest of a storm waits for the next poll.
const ACCEPTS_MAX: usize = 256;

/// Words of the two descriptors that are not connections.
const WORD_WAKE: u64 = u64::MAX;
const WORD_LISTENER: u64 = u64::MAX - 1;

fn word(conn: ConnSlot, generation: u8) -> u64 {
    u64::from(generation) << 32 | u64::from(conn.0)
}

const READABLE: u32 = (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32;
const WRITABLE: u32 = (libc::EPOLLOUT | libc::EPOLLHUP | libc::EPOLLERR) as u32;

/// See the module.
pub(super) struct EpollDriver {
    table: Table,
    epoll: OwnedFd,
    listener: Option<OwnedFd>,
    /// The listener is in the epoll set.
    accepting: bool,
    paused: bool,
    /// When to accept again after descriptors ran out; `NEVER` where nothing went wrong.
    accept_again: Tick,
    dial: Dial,
    ready: Vec<Ready>,
    /// The first line of `ready` that was not looked at yet.
    ready_at: usize,
    late: Late,
    scratch: Box<[u8; RECEIVE_BYTES_MAX]>,
    counters: Arc<[IoCounters]>,
    index: usize,
}

impl EpollDriver {
    pub(super) fn new(
        listener: Option<OwnedFd>,
        dial: Dial,
        wake: RawFd,
        counters: Arc<[IoCounters]>,
        index: usize,
    ) -> io::Result<EpollDriver> {
        let epoll = sys::epoll_create()?;
        // Edge-triggered and never read: each wake-up is one edge.
        let interest = (libc::EPOLLIN | libc::EPOLLET) as u32;
        sys::epoll_control(&epoll, libc::EPOLL_CTL_ADD, wake, interest, WORD_WAKE)?;
        let mut driver = EpollDriver {
            table: Table::new(),
            epoll,
            listener,
            accepting: false,
            paused: false,
            accept_again: Tick::NEVER,
            dial,
            ready: Vec::with_capacity(READY_MAX),
            ready_at: 0,
            late: Late::default(),
            scratch: Box::new([0; RECEIVE_BYTES_MAX]),
            counters,
            index,
        };
        driver.watch_listener(true)?;
        Ok(driver)
    }

    fn counters(&self) -> &IoCounters {
        &self.counters[self.index]
    }

    fn watch_listener(&mut self, accept: bool) -> io::Result<()> {
        let Some(listener) = &self.listener else { return Ok(()) };
        if accept != self.accepting {
            let op = if accept { libc::EPOLL_CTL_ADD } else { libc::EPOLL_CTL_DEL };
            let interest = libc::EPOLLIN as u32;
            sys::epoll_control(&self.epoll, op, listener.as_raw_fd(), interest, WORD_LISTENER)?;
            self.accepting = accept;
        }
        Ok(())
    }

    /// Brings the epoll set in line with a connection's flags. A connection of which nothing is
    /// wanted leaves the set: a half-closed one would be ready for ever.
    fn watch(&mut self, conn: ConnSlot) -> io::Result<()> {
        let entry = self.table.get_mut(conn);
        let mut interest = 0;
        if entry.is(READING) {
            interest |= libc::EPOLLIN | libc::EPOLLRDHUP;
        }
        if entry.flags & (ARMED | CONNECTING) != 0 {
            interest |= libc::EPOLLOUT;
        }
        let op = match (entry.is(WATCHED), interest != 0) {
            (false, false) => return Ok(()),
            (false, true) => libc::EPOLL_CTL_ADD,
            (true, true) => libc::EPOLL_CTL_MOD,
            (true, false) => libc::EPOLL_CTL_DEL,
        };
        if interest == 0 {
            entry.flags &= !WATCHED
        } else {
            entry.flags |= WATCHED
        }
        let word = word(conn, entry.generation);
        sys::epoll_control(&self.epoll, op, entry.fd, interest as u32, word)
    }

    /// As `watch`; a set that cannot grow (`ENOMEM`, `ENOSPC`) ends the connection, not the shard.
    fn watch_or_end(&mut self, conn: ConnSlot) {
        if let Err(error) = self.watch(conn) {
            let entry = self.table.get_mut(conn);
            entry.flags &= !(WATCHED | READING | ARMED);
            let errno = sys::errno(&error);
            if entry.note_end(errno) {
                self.late.push(&mut self.table, Event::Eof { conn, errno });
            }
        }
    }

    fn accept(&mut self, now: Tick, events: &mut Events) {
        for _ in 0..ACCEPTS_MAX {
            let Some(listener) = &self.listener else { return };
            match sys::accept(listener.as_raw_fd()) {
                Ok((fd, peer)) => {
                    let conn = self.table.insert(fd);
                    self.counters().accepted.add(1);
                    events.list.push(Event::Accepted { conn, peer });
                    self.table.get_mut(conn).flags |= READING;
                    self.watch_or_end(conn);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if put_off(sys::errno(&e)) => {
                    self.counters().accept_errors.add(1);
                    self.accept_again = now.after_ms(ACCEPT_AGAIN_MS);
                    // Removing what was added needs no memory, so it does not fail.
                    let _ = self.watch_listener(false);
                    return;
                }
                // The connection went away between the handshake and now.
                Err(_) => {}
            }
        }
    }

    fn connected(&mut self, conn: ConnSlot, events: &mut Events) {
        let entry = self.table.get_mut(conn);
        let errno = sys::socket_error(entry.fd);
        entry.flags &= !CONNECTING;
        events.list.push(Event::Connected { conn, errno });
        if errno != 0 {
            self.table.release(conn);
            events.list.push(Event::Closed { conn });
            return;
        }
        if !entry.is(MANUAL) {
            entry.flags |= READING;
        }
        self.watch_or_end(conn);
    }

    fn receive(&mut self, conn: ConnSlot, events: &mut Events) {
        let entry = self.table.get_mut(conn);
        let errno = match sys::recv(entry.fd, &mut self.scratch[..]) {
            Ok(0) => 0,
            Ok(bytes) => {
                events.push_received(conn, &self.scratch[..bytes]);
                if entry.is(MANUAL) {
                    entry.flags &= !READING;
                }
                return;
            }
            Err(e)
                if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) =>
            {
                return;
            }
            Err(e) => sys::errno(&e),
        };
        entry.flags &= !READING;
        if entry.note_end(errno) {
            events.list.push(Event::Eof { conn, errno });
        }
    }

    fn connection_ready(&mut self, conn: ConnSlot, readiness: u32, events: &mut Events) {
        let entry = self.table.get_mut(conn);
        if entry.is(CONNECTING) {
            return self.connected(conn, events);
        }
        let before = entry.flags;
        if entry.is(READING) && readiness & READABLE != 0 {
            self.receive(conn, events);
        }
        let entry = self.table.get_mut(conn);
        if entry.is(ARMED) && readiness & WRITABLE != 0 {
            entry.flags &= !ARMED;
            events.list.push(Event::Writable { conn });
        }
        if entry.flags & (READING | ARMED) != before & (READING | ARMED) {
            self.watch_or_end(conn);
        }
    }

    fn close(&mut self, conn: ConnSlot) {
        self.late.forget(&self.table, conn);
        sys::shutdown(self.table.get(conn).fd, libc::SHUT_RDWR);
        // Nothing is in flight on epoll, and closing takes the descriptor out of the set.
        self.table.release(conn);
        self.late.closed(conn);
    }

    fn send(&mut self, conn: ConnSlot, action: u32, bytes: &[u8]) {
        self.late.note_send(&mut self.table, conn);
        let entry = self.table.get(conn);
        assert!(entry.used() && !entry.is(CLOSING), "a machine sends on connections it holds");
        match sys::send(entry.fd, bytes) {
            Ok(sent) if sent == bytes.len() => {}
            Ok(sent) => {
                let sent_bytes = u32::try_from(sent).expect("frames are below 4 GiB");
                self.short(Event::SendShort { conn, action, sent_bytes });
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.short(Event::SendShort { conn, action, sent_bytes: 0 });
            }
            Err(e) => self.late.send_failed(&mut self.table, conn, action, sys::errno(&e)),
        }
    }

    fn short(&mut self, event: Event) {
        self.counters().short_sends.add(1);
        self.late.push(&mut self.table, event);
    }

    fn connect(&mut self, conn: ConnSlot, source: u32, target: u16, manual_read: bool) {
        let manual = if manual_read { MANUAL } else { 0 };
        match self.dial.begin(source, target, manual_read) {
            Ok(fd) => {
                self.table.insert_at(conn, fd, manual | CONNECTING);
                // Failing here would leave the connect without an end; the set holds at least it.
                self.watch(conn).expect("a connecting socket can be watched");
            }
            Err(error) => self.late.refused(conn, sys::errno(&error)),
        }
    }
}

impl Driver for EpollDriver {
    fn poll(&mut self, until: Tick, events: &mut Events) -> Now {
        events.clear();
        self.table.wake_resting();
        self.late.tell(&mut self.table, events);
        if self.ready_at == self.ready.len() {
            let start = Tick(sys::monotonic_us());
            if self.accept_again <= start && !self.paused {
                self.accept_again = Tick::NEVER;
                if self.watch_listener(true).is_err() {
                    self.accept_again = start.after_ms(ACCEPT_AGAIN_MS);
                }
            }
            let until = if events.list.is_empty() { until.min(self.accept_again) } else { Tick(0) };
            let wait = (until != Tick::NEVER).then(|| until.since_us(start));
            sys::epoll_wait(&self.epoll, &mut self.ready, wait)
                .expect("epoll_wait on an epoll of ours");
            self.ready_at = 0;
            self.counters().enters.add(1);
            self.counters().completions.add(self.ready.len() as u64);
        }
        let tick = Tick(sys::monotonic_us());
        while self.ready_at < self.ready.len() && events.bytes.len() < POLL_BYTES_MAX {
            let Ready { events: readiness, u64: word } = self.ready[self.ready_at];
            self.ready_at += 1;
            match word {
                WORD_WAKE => {}
                WORD_LISTENER => self.accept(tick, events),
                _ => {
                    let conn = ConnSlot((word & 0xffff_ffff) as u32);
                    if self.table.find(conn, (word >> 32) as u8).is_some() {
                        self.connection_ready(conn, readiness, events);
                    }
                }
            }
        }
        self.counters().connections.set(self.table.open().into());
        Now { tick, unix_ms: sys::unix_ms(), cpu_us: sys::thread_cpu_us() }
    }

    fn perform(&mut self, frames: &Frames, actions: &Actions) {
        for (number, action) in (0_u32..).zip(actions.as_slice()) {
            match *action {
                Action::Send { conn, frame, skip_bytes } => {
                    self.counters().sends.add(1);
                    self.send(conn, number, &frames.get(frame)[skip_bytes as usize..]);
                }
                Action::ArmWritable { conn } => {
                    self.table.get_mut(conn).flags |= ARMED;
                    self.watch_or_end(conn);
                }
                Action::ShutdownWrite { conn } => {
                    sys::shutdown(self.table.get(conn).fd, libc::SHUT_WR)
                }
                Action::Close { conn } => self.close(conn),
                Action::StopAccepting => {
                    let _ = self.watch_listener(false);
                    if let Some(listener) = self.listener.take() {
                        sys::shutdown(listener.as_raw_fd(), libc::SHUT_RDWR);
                    }
                }
                Action::PauseAccepting => {
                    self.paused = true;
                    self.accept_again = Tick::NEVER;
                    let _ = self.watch_listener(false);
                }
                Action::ResumeAccepting => {
                    self.paused = false;
                    self.accept_again = Tick(0);
                }
                Action::Connect { conn, source, target, manual_read } => {
                    self.connect(conn, source, target, manual_read);
                }
                Action::Read { conn } => {
                    let entry = self.table.get_mut(conn);
                    assert!(entry.is(MANUAL), "Read is for connections opened with manual_read");
                    if !entry.is(EOF) {
                        entry.flags |= READING;
                        self.watch_or_end(conn);
                    }
                }
            }
        }
    }
}
