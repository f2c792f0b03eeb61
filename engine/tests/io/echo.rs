//! Many connections at once: bytes come back whole, descriptors too, and slots keep their order.

use crate::{on_each_driver, serving};
use bytes::Bytes;
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use uproar_engine::config::IoChoice;
use uproar_engine::io::{Running, launch};
use uproar_engine::seam::{
    Action, Actions, ConnSlot, Event, Events, FrameSlot, Frames, Machine, Now, Tick,
};

/// What is asked of an echo.
enum Ask {
    Descriptors(Sender<usize>),
    Finish,
}

#[derive(Default, PartialEq, Eq)]
enum Way {
    #[default]
    Free,
    /// The first frame was sent; it is whole unless a `SendShort` comes.
    Sending,
    /// The socket is full and nobody watches it yet.
    Full,
    Armed,
}

#[derive(Default)]
struct Conn {
    open: bool,
    queue: VecDeque<FrameSlot>,
    /// How much of the first frame went out.
    skip: u32,
    way: Way,
    ended: bool,
    closing: bool,
}

/// Sends back what it receives, closes when the peer ended, and checks the order of events.
struct Echo {
    conns: Vec<Conn>,
    frames: Frames,
    trouble: Arc<Mutex<Vec<String>>>,
    finished: bool,
    busy: bool,
}

impl Echo {
    fn check(&self, right: bool, rule: &str, event: &Event) {
        if !right {
            self.trouble.lock().expect("no panic").push(format!("{rule}: {event:?}"));
        }
    }

    fn see(&mut self, events: &Events) {
        let mut closed = Vec::new();
        for event in &events.list {
            let conn = match event {
                Event::Accepted { conn, .. } => {
                    let at = conn.0 as usize;
                    self.conns.resize_with(self.conns.len().max(at + 1), Conn::default);
                    self.check(!self.conns[at].open, "a slot in use is not given away", event);
                    self.check(!closed.contains(conn), "a slot rests until Closed was seen", event);
                    self.conns[at] = Conn { open: true, ..Conn::default() };
                    continue;
                }
                Event::Received { conn, .. }
                | Event::Eof { conn, .. }
                | Event::SendShort { conn, .. }
                | Event::Writable { conn }
                | Event::Closed { conn }
                | Event::Connected { conn, .. } => *conn,
            };
            let open = self.conns.get(conn.0 as usize).is_some_and(|c| c.open);
            self.check(open, "an event is of an open connection", event);
            let closing = self.conns[conn.0 as usize].closing;
            let last = matches!(event, Event::Closed { .. });
            self.check(last || !closing, "only Closed follows a Close", event);
            let ended = self.conns[conn.0 as usize].ended;
            let bytes = matches!(event, Event::Received { .. });
            self.check(!(ended && bytes), "no bytes follow Eof", event);
            let half_closed = matches!(event, Event::Eof { errno: 0, .. });
            self.check(!(ended && half_closed), "the peer's end is told once", event);
            let conn_state = &mut self.conns[conn.0 as usize];
            match event {
                Event::Received { bytes, .. } => {
                    let bytes = Bytes::copy_from_slice(events.bytes_of(bytes));
                    conn_state.queue.push_back(self.frames.insert(bytes));
                }
                Event::Eof { errno, .. } => {
                    conn_state.ended = true;
                    if *errno != 0 {
                        conn_state.way = Way::Free;
                        conn_state.queue.drain(..).for_each(|frame| self.frames.release(frame));
                    }
                }
                Event::SendShort { sent_bytes, .. } => {
                    conn_state.skip += sent_bytes;
                    conn_state.way = Way::Full;
                }
                Event::Writable { .. } => conn_state.way = Way::Free,
                Event::Closed { .. } => {
                    let gone = std::mem::take(conn_state);
                    gone.queue.into_iter().for_each(|frame| self.frames.release(frame));
                    closed.push(conn);
                }
                _ => {}
            }
        }
    }

    fn act(&mut self, actions: &mut Actions) {
        self.busy = false;
        for (slot, conn) in (0..).map(ConnSlot).zip(&mut self.conns) {
            if !conn.open || conn.closing {
                continue;
            }
            if conn.way == Way::Sending {
                conn.skip = 0;
                conn.way = Way::Free;
                self.frames.release(conn.queue.pop_front().expect("the frame that was sent"));
            }
            if actions.room() == 0 {
                self.busy = true;
                continue;
            }
            match (&conn.way, conn.queue.front()) {
                (Way::Full, _) => {
                    actions.push(Action::ArmWritable { conn: slot });
                    conn.way = Way::Armed;
                }
                (Way::Free, Some(&frame)) => {
                    actions.push(Action::Send { conn: slot, frame, skip_bytes: conn.skip });
                    conn.way = Way::Sending;
                    self.busy = true; // the next turn knows whether it went out whole
                }
                (Way::Free, None) if conn.ended => {
                    actions.push(Action::Close { conn: slot });
                    conn.closing = true;
                }
                _ => {}
            }
        }
    }
}

impl Machine for Echo {
    type Message = Ask;

    fn turn(
        &mut self,
        _: Now,
        events: &Events,
        inbox: &mut Vec<Ask>,
        actions: &mut Actions,
        _: &mut Vec<(u16, Ask)>,
    ) {
        self.see(events);
        self.act(actions);
        for ask in inbox.drain(..) {
            match ask {
                Ask::Descriptors(answer) => {
                    let open =
                        std::fs::read_dir("/proc/thread-self/fd").expect("a directory").count();
                    let _ = answer.send(open);
                }
                Ask::Finish => self.finished = true,
            }
        }
    }

    fn undeliverable(&mut self, _: u16, _: Ask) {}

    fn next_wakeup(&self) -> Tick {
        if self.busy { Tick(0) } else { Tick::NEVER }
    }

    fn frames(&self) -> &Frames {
        &self.frames
    }

    fn finished(&self) -> bool {
        self.finished
    }
}

fn echo(io: IoChoice, threads: u16, host: &str) -> (Running<Ask>, Arc<Mutex<Vec<String>>>) {
    let trouble = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&trouble);
    let running = launch(serving(io, threads, host), move |_| Echo {
        conns: Vec::new(),
        frames: Frames::default(),
        trouble: Arc::clone(&shared),
        finished: false,
        busy: false,
    });
    (running.expect("a launch"), trouble)
}

fn descriptors(running: &Running<Ask>) -> Vec<usize> {
    let count = |thread| {
        let (answer, answers) = channel();
        assert!(running.post(thread, Ask::Descriptors(answer)).is_ok(), "the mailbox has room");
        answers.recv_timeout(Duration::from_secs(20)).expect("an answer")
    };
    (0..running.threads()).map(count).collect()
}

/// Waits until the threads hold no connection any more.
fn all_closed(running: &Running<Ask>) {
    let start = Instant::now();
    while (0..running.threads()).any(|t| running.figures(t).connections > 0) {
        assert!(start.elapsed() < Duration::from_secs(20), "every connection is closed in time");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn finish(running: Running<Ask>) {
    for thread in 0..running.threads() {
        assert!(running.post(thread, Ask::Finish).is_ok(), "the mailbox has room");
    }
    running.join();
}

/// Bytes that differ from connection to connection and from place to place.
fn pattern(seed: usize, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at.wrapping_mul(31) ^ (at >> 8) ^ seed.wrapping_mul(17)) as u8).collect()
}

fn talk(address: SocketAddr, seed: usize, bytes: usize) {
    let mut stream = TcpStream::connect(address).expect("connected");
    let sent = pattern(seed, bytes);
    let mut writer = stream.try_clone().expect("a clone");
    let copy = sent.clone();
    let writing = std::thread::spawn(move || {
        writer.write_all(&copy).expect("written");
        writer.shutdown(Shutdown::Write).expect("half closed");
    });
    let mut got = Vec::new();
    stream.read_to_end(&mut got).expect("read");
    writing.join().expect("no panic");
    assert!(got == sent, "{bytes} bytes come back as they were sent; got {}", got.len());
}

#[test]
fn echo_over_many_connections() {
    on_each_driver(|io| {
        let (running, trouble) = echo(io, 2, "127.0.0.1");
        let address = running.listen().expect("an address");
        let talkers: Vec<_> = (0..8)
            .map(|talker: usize| {
                std::thread::spawn(move || {
                    for round in 0..30 {
                        // Small ones, ones of several buffers, and some beyond every socket buffer.
                        let bytes = [1, 200, 5_000, 70_000, 3_000_000][(talker + round) % 5];
                        talk(
                            address,
                            talker * 100 + round,
                            if round < 5 { bytes } else { bytes % 100_000 },
                        );
                    }
                })
            })
            .collect();
        talkers.into_iter().for_each(|talker| talker.join().expect("no panic"));
        all_closed(&running);
        let figures = [running.figures(0), running.figures(1)];
        assert_eq!(figures[0].accepted + figures[1].accepted, 240);
        assert!(figures[0].short_sends + figures[1].short_sends > 0, "sockets were full at times");
        assert_eq!(*trouble.lock().expect("no panic"), Vec::<String>::new());
        finish(running);
    });
}

#[test]
fn connections_come_over_ipv6_too() {
    if TcpStream::connect("[::1]:1").is_err_and(|e| e.raw_os_error() == Some(libc::EADDRNOTAVAIL)) {
        return eprintln!("not tested: this machine has no IPv6");
    }
    on_each_driver(|io| {
        let (running, trouble) = echo(io, 1, "[::1]");
        talk(running.listen().expect("an address"), 1, 10_000);
        all_closed(&running);
        assert_eq!(*trouble.lock().expect("no panic"), Vec::<String>::new());
        finish(running);
    });
}

#[test]
fn descriptors_return_to_the_baseline() {
    on_each_driver(|io| {
        let (running, trouble) = echo(io, 2, "127.0.0.1");
        let address = running.listen().expect("an address");
        let before = descriptors(&running);
        for round in 0..5 {
            let streams: Vec<_> =
                (0..200).map(|_| TcpStream::connect(address).expect("connected")).collect();
            for mut stream in streams {
                stream.write_all(b"x").expect("written");
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("echoed");
                if round % 2 == 0 {
                    // Closing with unread input resets the connection.
                    stream.write_all(&[7; 100]).expect("written");
                }
            }
            all_closed(&running);
        }
        assert_eq!(descriptors(&running), before, "every connection's descriptor was given back");
        assert_eq!(running.figures(0).accepted + running.figures(1).accepted, 1000);
        assert_eq!(*trouble.lock().expect("no panic"), Vec::<String>::new());
        finish(running);
    });
}

#[test]
fn slots_are_reused_and_never_see_the_events_of_their_former_connection() {
    on_each_driver(|io| {
        let (running, trouble) = echo(io, 1, "127.0.0.1");
        let address = running.listen().expect("an address");
        let churners: Vec<_> = (0..4)
            .map(|churner: usize| {
                std::thread::spawn(move || {
                    for round in 0..500 {
                        let mut stream = TcpStream::connect(address).expect("connected");
                        match (churner + round) % 4 {
                            0 => {}
                            1 => drop(stream.write_all(&[1; 3000])),
                            2 => {
                                drop(stream.write_all(&[2; 10]));
                                drop(stream.shutdown(Shutdown::Both));
                            }
                            _ => {
                                drop(stream.write_all(&[3; 100]));
                                drop(stream.read(&mut [0; 10])); // the rest stays unread: a reset
                            }
                        }
                    }
                })
            })
            .collect();
        churners.into_iter().for_each(|churner| churner.join().expect("no panic"));
        talk(address, 9, 50_000);
        all_closed(&running);
        assert_eq!(running.figures(0).accepted, 2001);
        assert_eq!(*trouble.lock().expect("no panic"), Vec::<String>::new());
        finish(running);
    });
}
