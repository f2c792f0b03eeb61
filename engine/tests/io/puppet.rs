//! A machine that does what it is ordered and tells what it sees, so that a test reads as a
//! dialogue.

use bytes::Bytes;
use std::fs;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use uproar_engine::io::{Launch, Running, launch};
use uproar_engine::seam::{Action, Actions, ConnSlot, Event, Events, Frames, Machine, Now, Tick};

/// What a puppet is told to do.
pub(crate) enum Order {
    /// An action as it is.
    Do(Action),
    /// Send bytes on a connection.
    Send(ConnSlot, Bytes),
    /// Send bytes and do an action in the same turn.
    SendAnd(ConnSlot, Bytes, Action),
    /// Do an action at the end of a turn that takes this long.
    After(Duration, Action),
    /// Count the thread's descriptors.
    CountDescriptors,
    /// Tell what the kernel says about the thread.
    TellStatus,
    /// Be done.
    Finish,
}

/// What a puppet saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// An event other than `Received`.
    Event(Event),
    /// Bytes.
    Bytes(ConnSlot, Vec<u8>),
    /// A turn that takes long has begun.
    Busy,
    /// Answer to `TellStatus`.
    Status(String),
    /// Answer to `CountDescriptors`.
    Descriptors(usize),
}

struct Puppet {
    seen: Sender<Seen>,
    frames: Frames,
    finished: bool,
}

impl Puppet {
    fn send(&mut self, conn: ConnSlot, bytes: Bytes, actions: &mut Actions) {
        let frame = self.frames.insert(bytes); // kept for the whole test: it is short
        actions.push(Action::Send { conn, frame, skip_bytes: 0 });
    }
}

impl Machine for Puppet {
    type Message = Order;

    fn turn(
        &mut self,
        _: Now,
        events: &Events,
        inbox: &mut Vec<Order>,
        actions: &mut Actions,
        _: &mut Vec<(u16, Order)>,
    ) {
        for event in &events.list {
            let seen = match event {
                Event::Received { conn, bytes } => {
                    Seen::Bytes(*conn, events.bytes_of(bytes).to_vec())
                }
                other => Seen::Event(other.clone()),
            };
            let _ = self.seen.send(seen);
        }
        for order in inbox.drain(..) {
            match order {
                Order::Do(action) => {
                    actions.push(action);
                }
                Order::Send(conn, bytes) => self.send(conn, bytes, actions),
                Order::SendAnd(conn, bytes, action) => {
                    self.send(conn, bytes, actions);
                    actions.push(action);
                }
                Order::After(time, action) => {
                    let _ = self.seen.send(Seen::Busy);
                    std::thread::sleep(time);
                    actions.push(action);
                }
                Order::CountDescriptors => {
                    let open = fs::read_dir("/proc/thread-self/fd").expect("a directory").count();
                    let _ = self.seen.send(Seen::Descriptors(open));
                }
                Order::TellStatus => {
                    let status = fs::read_to_string("/proc/thread-self/status").expect("a file");
                    let _ = self.seen.send(Seen::Status(status));
                }
                Order::Finish => self.finished = true,
            }
        }
    }

    fn undeliverable(&mut self, _: u16, _: Order) {}

    fn next_wakeup(&self) -> Tick {
        Tick::NEVER
    }

    fn frames(&self) -> &Frames {
        &self.frames
    }

    fn finished(&self) -> bool {
        self.finished
    }
}

/// One puppet and the strings to it.
pub(crate) struct Stage {
    pub(crate) running: Running<Order>,
    seen: Receiver<Seen>,
}

/// Longer than anything here takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

impl Stage {
    pub(crate) fn new(options: Launch) -> Stage {
        let (seen, receiver) = channel();
        let seen = Arc::new(Mutex::new(seen));
        let running = launch(Launch { threads: 1, ..options }, move |_| Puppet {
            seen: seen.lock().expect("no panic").clone(),
            frames: Frames::default(),
            finished: false,
        });
        Stage { running: running.expect("a launch"), seen: receiver }
    }

    pub(crate) fn order(&self, order: Order) {
        assert!(self.running.post(0, order).is_ok(), "the puppet's mailbox has room");
    }

    pub(crate) fn act(&self, action: Action) {
        self.order(Order::Do(action));
    }

    /// The next thing seen.
    pub(crate) fn next(&self) -> Seen {
        self.seen.recv_timeout(PATIENCE).expect("the puppet sees something in time")
    }

    /// The next thing seen, which has to be an event.
    pub(crate) fn event(&self) -> Event {
        match self.next() {
            Seen::Event(event) => event,
            other => panic!("an event was expected, not {other:?}"),
        }
    }

    pub(crate) fn accepted(&self) -> ConnSlot {
        match self.event() {
            Event::Accepted { conn, .. } => conn,
            other => panic!("Accepted was expected, not {other:?}"),
        }
    }

    /// Whether nothing is seen for a while.
    pub(crate) fn quiet_for(&self, ms: u64) -> bool {
        self.seen.recv_timeout(Duration::from_millis(ms)) == Err(RecvTimeoutError::Timeout)
    }

    /// Waits until what was ordered so far is carried out; gives what was seen meanwhile.
    pub(crate) fn settle(&self) -> Vec<Seen> {
        let mut seen = Vec::new();
        // The first answer may come in the turn of the last order, before it is carried out.
        for _ in 0..2 {
            self.order(Order::CountDescriptors);
            let before = std::iter::repeat_with(|| self.next());
            seen.extend(before.take_while(|seen| !matches!(seen, Seen::Descriptors(_))));
        }
        seen
    }

    pub(crate) fn descriptors(&self) -> usize {
        self.order(Order::CountDescriptors);
        match self.next() {
            Seen::Descriptors(open) => open,
            other => panic!("a count was expected, not {other:?}"),
        }
    }

    pub(crate) fn finish(self) {
        self.order(Order::Finish);
        self.running.join();
    }
}
