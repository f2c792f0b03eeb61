//! The fan-out as one writes it on bare epoll: one thread, one epoll set, a list of connections.
//! Every 1/rate seconds one message is written to all of them; in between, input is read and
//! thrown away and connections that ended are removed. Unfair to real servers: no queue for a
//! viewer that is slow (its message is lost and counted), no protocol.

use clap::Parser;
use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use uproar_benches::server::{Desk, Plan};
use uproar_benches::sys::{self, Epoll, Interest};

/// Fan-out on bare epoll.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    plan: Plan,
}

const LISTENER: u32 = u32::MAX;

struct Server {
    desk: Rc<Desk>,
    listener: OwnedFd,
    epoll: Epoll,
    viewers: Vec<Option<OwnedFd>>,
    buffer: Vec<u8>,
    ready: Vec<u32>,
}

impl Server {
    /// Serves what is ready, for at most `timeout_ms`.
    fn turn(&mut self, timeout_ms: i32) -> io::Result<()> {
        self.ready.clear();
        self.ready.extend(self.epoll.wait(timeout_ms)?);
        for &token in &self.ready {
            if token == LISTENER {
                let viewer = sys::accept(&self.listener)?;
                self.epoll.add(&viewer, Interest::Read, self.viewers.len() as u32)?;
                self.viewers.push(Some(viewer));
                self.desk.took_one();
                continue;
            }
            let Some(viewer) = &self.viewers[token as usize] else { continue };
            match sys::receive(viewer, &mut self.buffer) {
                Ok(got) if got > 0 => {
                    self.desk.counters.bytes_received.fetch_add(got as u64, Relaxed);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Ok(_) | Err(_) => {
                    self.viewers[token as usize] = None;
                    self.desk.counters.closed.fetch_add(1, Relaxed);
                }
            }
        }
        Ok(())
    }
}

fn run(plan: Plan) -> io::Result<()> {
    let desk = Rc::new(Desk::open("epoll", plan)?);
    let listener = sys::listen_as_the_engine_does(desk.plan.listen)?;
    let epoll = Epoll::new(512)?;
    epoll.add(&listener, Interest::Read, LISTENER)?;
    desk.say_listening(sys::local_port(&listener)?);
    let mut server = Server {
        desk: desk.clone(),
        listener,
        epoll,
        viewers: Vec::new(),
        buffer: vec![0; 16 * 1024],
        ready: Vec::new(),
    };
    while !desk.everyone_is_here() && !desk.stopped() {
        server.turn(100)?;
    }
    let mut rounds = desk.begin()?;
    while let Some(wait) = rounds.wait() {
        if !wait.is_zero() {
            // Up to a millisecond late: epoll counts in milliseconds.
            server.turn(wait.as_millis().try_into().unwrap_or(i32::MAX).saturating_add(1))?;
            continue;
        }
        let message = rounds.message();
        let (mut sends, mut lost) = (0, 0);
        for viewer in server.viewers.iter().flatten() {
            match sys::send(viewer, message) {
                Ok(n) if n == message.len() => sends += 1,
                _ => lost += 1,
            }
        }
        rounds.sent(sends, lost);
    }
    rounds.end().map(|_| ())
}

fn main() -> ExitCode {
    match run(Args::parse().plan) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("epoll: {e}");
            ExitCode::FAILURE
        }
    }
}
