//! Messages between threads, and the wake-ups they cause.

use crate::{launch_of, on_each_driver};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use uproar_engine::io::{Launch, Running, ThreadInfo, launch, relay};
use uproar_engine::seam::{Actions, Events, Frames, Machine, Now, Tick};

/// A message: passes `hops` threads, then is told to the test.
#[derive(Clone, Debug)]
enum Mail {
    Pass {
        number: u32,
        hops: u32,
    },
    /// Send `count` numbered messages to a thread within one turn.
    Burst {
        to: u16,
        count: u32,
    },
    /// Tell that nothing else is done until this is told, as in a long turn.
    Hold(Arc<Mutex<Receiver<()>>>),
    /// Want a turn after this time, and tell it.
    Alarm {
        after_ms: u64,
    },
    Finish,
}

#[derive(Debug, PartialEq, Eq)]
enum Told {
    Holding,
    Arrived { at: u16, number: u32 },
    Undeliverable { to: u16, number: u32 },
    Alarm { late_us: u64 },
}

struct Clerk {
    info: ThreadInfo,
    told: Sender<Told>,
    frames: Frames,
    alarm: Tick,
    finished: bool,
}

impl Machine for Clerk {
    type Message = Mail;

    fn turn(
        &mut self,
        now: Now,
        _: &Events,
        inbox: &mut Vec<Mail>,
        _: &mut Actions,
        outbox: &mut Vec<(u16, Mail)>,
    ) {
        if now.tick >= self.alarm {
            let _ = self.told.send(Told::Alarm { late_us: now.tick.since_us(self.alarm) });
            self.alarm = Tick::NEVER;
        }
        for mail in inbox.drain(..) {
            match mail {
                Mail::Pass { number, hops: 0 } => {
                    let _ = self.told.send(Told::Arrived { at: self.info.index, number });
                }
                Mail::Pass { number, hops } => {
                    let next = (self.info.index + 1) % self.info.threads;
                    outbox.push((next, Mail::Pass { number, hops: hops - 1 }));
                }
                Mail::Burst { to, count } => {
                    outbox.extend((0..count).map(|number| (to, Mail::Pass { number, hops: 0 })));
                }
                Mail::Hold(until) => {
                    let _ = self.told.send(Told::Holding);
                    let _ = until.lock().expect("no panic").recv_timeout(PATIENCE);
                }
                Mail::Alarm { after_ms } => self.alarm = now.tick.after_ms(after_ms),
                Mail::Finish => self.finished = true,
            }
        }
    }

    fn undeliverable(&mut self, to: u16, message: Mail) {
        let Mail::Pass { number, .. } = message else { panic!("only numbers are sent") };
        let _ = self.told.send(Told::Undeliverable { to, number });
    }

    fn next_wakeup(&self) -> Tick {
        self.alarm
    }

    fn frames(&self) -> &Frames {
        &self.frames
    }

    fn finished(&self) -> bool {
        self.finished
    }
}

fn office(options: Launch) -> (Running<Mail>, Receiver<Told>) {
    let (told, tellings) = channel();
    let told = Arc::new(Mutex::new(told));
    let running = launch(options, move |info| Clerk {
        info: info.clone(),
        told: told.lock().expect("no panic").clone(),
        frames: Frames::default(),
        alarm: Tick::NEVER,
        finished: false,
    });
    (running.expect("a launch"), tellings)
}

fn finish(running: Running<Mail>) {
    for thread in 0..running.threads() {
        running.post(thread, Mail::Finish).expect("room");
    }
    running.join();
}

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_message_wakes_a_sleeping_thread() {
    on_each_driver(|io| {
        let (running, tellings) = office(launch_of(io, 3));
        for number in 0..200 {
            if number % 20 == 0 {
                std::thread::sleep(Duration::from_millis(5)); // all of them sleep by now
            }
            running.post(0, Mail::Pass { number, hops: 7 }).expect("room");
            let told = tellings.recv_timeout(PATIENCE).expect("seven wake-ups");
            assert_eq!(told, Told::Arrived { at: 7 % 3, number });
        }
        finish(running);
    });
}

#[test]
fn threads_sleep_while_nothing_happens() {
    on_each_driver(|io| {
        let (running, _tellings) = office(launch_of(io, 2));
        let turns = || (0..2).map(|t| running.figures(t).turns).collect::<Vec<_>>();
        // Their first turns come when their threads do.
        let is_still = |_| {
            let before = turns();
            std::thread::sleep(Duration::from_millis(200));
            before == turns()
        };
        assert!((0..50).any(is_still), "no turn without a reason");
        finish(running);
    });
}

#[test]
fn messages_of_one_thread_arrive_in_order_even_past_a_full_queue() {
    on_each_driver(|io| {
        let (running, tellings) = office(Launch { queue_messages_max: 64, ..launch_of(io, 2) });
        for _ in 0..50 {
            // The queue holds 64, the sender keeps 256.
            running.post(0, Mail::Burst { to: 1, count: 300 }).expect("room");
            for number in 0..300 {
                let told = tellings.recv_timeout(PATIENCE).expect("in time");
                assert_eq!(told, Told::Arrived { at: 1, number });
            }
        }
        finish(running);
    });
}

#[test]
fn what_no_queue_holds_comes_back_to_the_sender() {
    on_each_driver(|io| {
        let (running, tellings) = office(Launch { queue_messages_max: 64, ..launch_of(io, 2) });
        let (release, held) = channel();
        running.post(1, Mail::Hold(Arc::new(Mutex::new(held)))).expect("room");
        assert_eq!(tellings.recv_timeout(PATIENCE), Ok(Told::Holding));
        running.post(0, Mail::Burst { to: 1, count: 1000 }).expect("room");
        let (mut arrived, mut back) = (Vec::new(), Vec::new());
        while back.len() < 680 {
            match tellings.recv_timeout(PATIENCE).expect("in time") {
                Told::Undeliverable { to: 1, number } => back.push(number),
                other => panic!("{other:?} was not expected"),
            }
        }
        release.send(()).expect("it waits");
        while arrived.len() + back.len() < 1000 {
            match tellings.recv_timeout(PATIENCE).expect("in time") {
                Told::Arrived { number, .. } => arrived.push(number),
                Told::Undeliverable { to: 1, number } => back.push(number),
                other => panic!("{other:?} was not expected"),
            }
        }
        assert_eq!(arrived, (0..320).collect::<Vec<_>>(), "the queue and four times the queue");
        assert_eq!(back, (320..1000).collect::<Vec<_>>());
        assert_eq!(running.figures(0).undeliverable, 680);
        finish(running);
    });
}

#[test]
fn a_message_to_oneself_comes_in_the_next_turn() {
    on_each_driver(|io| {
        let (running, tellings) = office(Launch { queue_messages_max: 1, ..launch_of(io, 1) });
        running.post(0, Mail::Burst { to: 0, count: 500 }).expect("room");
        for number in 0..500 {
            let told = tellings.recv_timeout(PATIENCE).expect("in time");
            assert_eq!(told, Told::Arrived { at: 0, number });
        }
        finish(running);
    });
}

#[test]
fn a_wakeup_comes_at_its_time() {
    on_each_driver(|io| {
        let (running, tellings) = office(launch_of(io, 1));
        let start = Instant::now();
        running.post(0, Mail::Alarm { after_ms: 30 }).expect("room");
        let told = tellings.recv_timeout(PATIENCE).expect("a wake-up");
        assert!(start.elapsed() >= Duration::from_millis(30), "never before its time");
        assert!(matches!(told, Told::Alarm { late_us } if late_us < 5_000_000), "{told:?}");
        finish(running);
    });
}

#[test]
fn a_post_to_a_finished_thread_comes_back() {
    on_each_driver(|io| {
        let (running, _tellings) = office(launch_of(io, 2));
        let poster = running.poster();
        finish(running);
        assert!(matches!(poster.post(1, Mail::Finish), Err(Mail::Finish)));
    });
}

#[test]
fn a_relay_hands_answers_over_in_order() {
    let (sender, receiver) = channel();
    let relay = relay("io-relay", 16, move |n: u32| sender.send(n).expect("somebody listens"))
        .expect("a relay");
    for n in 0..100 {
        let mut answer = n;
        while let Err(back) = relay.hand(answer) {
            answer = back;
            std::thread::yield_now();
        }
        assert_eq!(receiver.recv_timeout(PATIENCE), Ok(n));
    }
}
