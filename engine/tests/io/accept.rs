//! Listening: pausing, stopping, an address that is taken, descriptors that run out.

use crate::puppet::{Order, Seen, Stage};
use crate::{launch_of, on_each_driver, serving};
use bytes::Bytes;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};
use uproar_engine::config::IoChoice;
use uproar_engine::io::{Launch, probe};
use uproar_engine::seam::{Action, Event};

#[test]
fn a_paused_listener_leaves_connections_to_later() {
    on_each_driver(|io| {
        let stage = Stage::new(serving(io, 1, "127.0.0.1"));
        let address = stage.running.listen().expect("an address");
        let _first = TcpStream::connect(address).expect("connected");
        stage.accepted();
        stage.act(Action::PauseAccepting);
        stage.settle();
        let _second = TcpStream::connect(address).expect("the backlog takes it");
        assert!(stage.quiet_for(100), "nobody accepts");
        stage.act(Action::ResumeAccepting);
        stage.accepted();
        let _third = TcpStream::connect(address).expect("connected");
        stage.accepted();
        stage.finish();
    });
}

#[test]
fn stopping_gives_the_address_free_and_keeps_connections() {
    on_each_driver(|io| {
        let stage = Stage::new(serving(io, 1, "127.0.0.1"));
        let address = stage.running.listen().expect("an address");
        let mut peer = TcpStream::connect(address).expect("connected");
        let conn = stage.accepted();
        stage.act(Action::StopAccepting);
        stage.settle();
        assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
        let _next = TcpListener::bind(address).expect("another server may take over");
        stage.order(Order::Send(conn, Bytes::from_static(b"still here")));
        let mut text = [0; 10];
        peer.read_exact(&mut text).expect("the connection goes on");
        assert_eq!(&text, b"still here");
        stage.finish();
    });
}

#[test]
fn threads_keep_no_copy_of_what_the_process_has_open() {
    on_each_driver(|io| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = listener.local_addr().expect("an address");
        let stage = Stage::new(launch_of(io, 1));
        drop(listener);
        // Other tests start threads and processes, which hold what is open for a moment.
        refuses_soon(address);
        stage.finish();
    });
}

#[test]
fn no_listener_is_left_when_threads_end() {
    on_each_driver(|io| {
        let stage = Stage::new(serving(io, 1, "127.0.0.1"));
        let address = stage.running.listen().expect("an address");
        stage.finish();
        // A ring is torn down shortly after its thread.
        refuses_soon(address);
    });
}

/// A process that another test starts has a copy of a listener for a moment.
pub(crate) fn refuses_soon(address: SocketAddr) {
    let start = Instant::now();
    while TcpStream::connect(address).is_ok() {
        assert!(start.elapsed() < Duration::from_secs(5), "nobody accepts on {address} any more");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_taken_address_is_an_error_for_a_second_launch_and_a_second_process() {
    on_each_driver(|io| {
        let stage = Stage::new(serving(io, 1, "127.0.0.1"));
        let mut taken = serving(io, 2, "127.0.0.1");
        taken.listen.as_mut().expect("options").address =
            stage.running.listen().expect("an address");
        let error = refused(taken.clone());
        assert!(error.contains("another process listens there"), "{error}");
        stage.finish();

        // What another process would hold looks no different.
        let foreign = TcpListener::bind("127.0.0.1:0").expect("a listener");
        taken.listen.as_mut().expect("options").address = foreign.local_addr().expect("an address");
        let error = refused(taken);
        assert!(error.contains("another process listens there"), "{error}");
    });
}

#[test]
fn a_core_that_does_not_exist_is_an_error_of_the_launch() {
    on_each_driver(|io| {
        let error = refused(Launch { pin: true, cores: vec![0, 900], ..launch_of(io, 2) });
        assert!(error.contains("core 900"), "{error}");
    });
}

fn refused(options: Launch) -> String {
    let result = uproar_engine::io::launch(options, |_| Idle::default());
    result.map(|_| ()).expect_err("this cannot start").to_string()
}

#[derive(Default)]
struct Idle(uproar_engine::seam::Frames);

impl uproar_engine::seam::Machine for Idle {
    type Message = ();

    fn turn(
        &mut self,
        _: uproar_engine::seam::Now,
        _: &uproar_engine::seam::Events,
        inbox: &mut Vec<()>,
        _: &mut uproar_engine::seam::Actions,
        _: &mut Vec<(u16, ())>,
    ) {
        assert!(inbox.is_empty(), "planted: this machine cannot stand messages");
    }

    fn undeliverable(&mut self, _: u16, (): ()) {}

    fn next_wakeup(&self) -> uproar_engine::seam::Tick {
        uproar_engine::seam::Tick::NEVER
    }

    fn frames(&self) -> &uproar_engine::seam::Frames {
        &self.0
    }

    fn finished(&self) -> bool {
        false
    }
}

#[test]
fn signals_go_to_threads_that_share_the_descriptors() {
    on_each_driver(|io| {
        let stage = Stage::new(launch_of(io, 1));
        stage.order(Order::TellStatus);
        let Seen::Status(status) = stage.next() else { panic!("the status was asked for") };
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:\t"));
        let blocked = u64::from_str_radix(blocked.expect("a mask"), 16).expect("a number");
        let bit = |signal: i32| 1_u64 << (signal - 1);
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1, libc::SIGCHLD] {
            assert!(blocked & bit(signal) != 0, "signal {signal} is for others");
        }
        assert_eq!(blocked & bit(libc::SIGSEGV), 0, "a fault of its own is its own");
        stage.finish();
    });
}

/// Runs one of the ignored tests below in a process of its own, after a shell command.
fn in_a_process(prepare: &str, test: &str) -> std::process::Output {
    let this = std::env::current_exe().expect("a path");
    let script =
        format!("{prepare}; exec \"$0\" --ignored --exact {test} --nocapture --test-threads 1");
    Command::new("sh").arg("-c").arg(script).arg(this).output().expect("a process")
}

#[test]
fn accepting_recovers_when_descriptors_ran_out() {
    let output = in_a_process("ulimit -n 40", "accept::within_forty_descriptors");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "runs in a process of its own, under a small open-file limit"]
fn within_forty_descriptors() {
    on_each_driver(|io| {
        let stage = Stage::new(serving(io, 1, "127.0.0.1"));
        let address = stage.running.listen().expect("an address");
        // The server's table is its own, so both sides have 40; the server's holds fewer
        // connections than this one's for the ring and the listener are in it.
        let mut peers = Vec::new();
        while let Ok(peer) = TcpStream::connect(address) {
            peers.push(peer);
        }
        let start = Instant::now();
        while stage.running.figures(0).accept_errors == 0 {
            assert!(start.elapsed() < Duration::from_secs(10), "{peers:?} exhaust the server");
            std::thread::sleep(Duration::from_millis(5));
        }
        let turns = stage.running.figures(0).turns;
        std::thread::sleep(Duration::from_millis(300));
        let turns = stage.running.figures(0).turns - turns;
        assert!(turns < 30, "accepting rests instead of trying all the time: {turns} turns");

        // Give one back: the next connection of the backlog is accepted.
        let accepted = stage.running.figures(0).accepted;
        let conn = stage.accepted();
        stage.act(Action::Close { conn });
        while stage.running.figures(0).accepted == accepted {
            assert!(start.elapsed() < Duration::from_secs(10), "accepting goes on");
            std::thread::sleep(Duration::from_millis(5));
        }
        let closed =
            std::iter::repeat_with(|| stage.event()).find(|e| matches!(e, Event::Closed { .. }));
        assert_eq!(closed, Some(Event::Closed { conn }));
        stage.finish();
    });
}

#[test]
fn a_panic_on_a_thread_ends_the_process() {
    let output = in_a_process("ulimit -c 0", "accept::a_machine_that_panics");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "a dead shard must not hang silently: {text}");
    assert!(
        text.contains("cannot stand messages") && text.contains("thread io-test-0 panicked"),
        "{text}"
    );
}

#[test]
#[ignore = "ends its process"]
fn a_machine_that_panics() {
    let io = if probe(IoChoice::Uring).is_ok() { IoChoice::Uring } else { IoChoice::Epoll };
    let running =
        uproar_engine::io::launch(launch_of(io, 1), |_| Idle::default()).expect("a launch");
    running.post(0, ()).expect("room");
    std::thread::sleep(Duration::from_secs(20));
}
