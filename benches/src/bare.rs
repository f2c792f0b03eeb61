//! The budget: accept, then a loop of plain `send(2)` over all connections for each message, and
//! nothing else. It reads nothing, so it never notices a viewer that left but by the error of a
//! send; it keeps no order, no history, no retry. No server can be expected below it unless it
//! makes fewer or cheaper system calls.

use crate::server::{Desk, Plan, Report};
use crate::sys;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// What the baseline does with connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Take `viewers` connections, then send each message to all of them.
    Fanout,
    /// Take connections and keep them, nothing else: the budget of a connect.
    Connect,
    /// Take connections, read what each says first and answer it with `payload` bytes: the budget
    /// of a connect that is welcomed, without any of the work of welcoming.
    Answer,
}

/// Runs until the rounds are over or it is stopped.
///
/// # Errors
/// The port is taken, descriptors ran out.
pub fn run(plan: Plan, mode: Mode) -> io::Result<Report> {
    let desk = Desk::open("bare", plan)?;
    let listener = sys::listen_as_the_engine_does(desk.plan.listen)?;
    desk.say_listening(sys::local_port(&listener)?);
    let viewers = match mode {
        Mode::Fanout | Mode::Connect => accept_all(&desk, &listener)?,
        Mode::Answer => answer_all(&desk, &listener)?,
    };
    let mut rounds = desk.begin()?;
    if mode == Mode::Fanout {
        while let Some(wait) = rounds.wait() {
            std::thread::sleep(wait);
            let (sends, lost) = sweep(&viewers, rounds.message());
            rounds.sent(sends, lost);
        }
    } else {
        while desk.plan.steered && !desk.stopped() {
            std::thread::sleep(Duration::from_millis(50)); // the viewers are kept until the end
        }
    }
    rounds.end()
}

fn accept_all(desk: &Desk, listener: &OwnedFd) -> io::Result<Vec<OwnedFd>> {
    let mut viewers = Vec::new();
    while !desk.everyone_is_here() && !desk.stopped() {
        viewers.push(sys::accept(listener)?);
        desk.took_one();
    }
    Ok(viewers)
}

/// One `send(2)` for each viewer: how many took all of it, and how many did not.
fn sweep(viewers: &[OwnedFd], message: &[u8]) -> (u64, u64) {
    let mut lost = 0;
    for viewer in viewers {
        // A refused or short send is not retried: the load is chosen so that none occurs, and a
        // run in which one did is marked by this count.
        lost += u64::from(!matches!(sys::send(viewer, message), Ok(n) if n == message.len()));
    }
    (viewers.len() as u64 - lost, lost)
}

const LISTENER: u32 = u32::MAX;

fn answer_all(desk: &Desk, listener: &OwnedFd) -> io::Result<Vec<OwnedFd>> {
    let answer = vec![b'u'; desk.plan.payload];
    let mut epoll = sys::Epoll::new(512)?;
    epoll.add(listener, sys::Interest::Read, LISTENER)?;
    let mut viewers: Vec<Option<OwnedFd>> = Vec::new();
    let mut buffer = vec![0; 16 * 1024];
    let mut ready = Vec::new();
    while !desk.stopped() && desk.counters.sends.load(Relaxed) < desk.plan.viewers {
        ready.clear();
        ready.extend(epoll.wait(100)?);
        for &token in &ready {
            if token == LISTENER {
                let viewer = sys::accept(listener)?;
                epoll.add(&viewer, sys::Interest::Read, viewers.len() as u32)?;
                viewers.push(Some(viewer));
                desk.took_one();
            } else if let Some(viewer) = &viewers[token as usize] {
                match sys::receive(viewer, &mut buffer) {
                    Ok(got) if got > 0 => {
                        desk.counters.bytes_received.fetch_add(got as u64, Relaxed);
                        let whole = sys::send(viewer, &answer)? == answer.len();
                        desk.counters.sends.fetch_add(u64::from(whole), Relaxed);
                    }
                    Ok(_) | Err(_) => {
                        viewers[token as usize] = None;
                        desk.counters.closed.fetch_add(1, Relaxed);
                    }
                }
            }
        }
    }
    Ok(viewers.into_iter().flatten().collect())
}
