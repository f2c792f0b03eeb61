//! The fan-out as one writes it on glommio: one pinned executor, a task for each connection that
//! reads, a list of write halves, one task that every 1/rate seconds writes one message to all of
//! them, one after the other. The kinder form: no channel for each viewer. Unfair to real servers:
//! one slow viewer holds up all.

use clap::Parser;
use futures_lite::io::{ReadHalf, WriteHalf, split};
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutorBuilder, Placement, spawn_local, timer::sleep};
use std::cell::RefCell;
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use uproar_benches::server::{Desk, Plan};
use uproar_benches::sys;

/// Fan-out on glommio.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    plan: Plan,
}

type Viewers = Rc<RefCell<Vec<WriteHalf<TcpStream>>>>;

/// glommio's own `bind` takes no socket options; this listener has those of the other servers.
#[allow(unsafe_code)]
fn listen(desk: &Desk) -> io::Result<TcpListener> {
    let listener = sys::listen_as_the_engine_does(desk.plan.listen)?;
    desk.say_listening(sys::local_port(&listener)?);
    // SAFETY: the descriptor listens, and `into_raw_fd` gave up our claim to it.
    Ok(unsafe { TcpListener::from_raw_fd(listener.into_raw_fd()) })
}

async fn accept(desk: Rc<Desk>, listener: TcpListener, viewers: Viewers) -> io::Result<()> {
    loop {
        let (read, write) = split(listener.accept().await?);
        viewers.borrow_mut().push(write);
        desk.took_one();
        spawn_local(drain(desk.clone(), read)).detach();
    }
}

/// Reads and throws away until the viewer leaves.
async fn drain(desk: Rc<Desk>, mut read: ReadHalf<TcpStream>) {
    let mut buffer = [0; 64]; // within the task: as small as serves a viewer that says little
    while let Ok(got @ 1..) = read.read(&mut buffer).await {
        desk.counters.bytes_received.fetch_add(got as u64, Relaxed);
    }
    desk.counters.closed.fetch_add(1, Relaxed);
}

async fn serve(desk: Rc<Desk>) -> io::Result<()> {
    let listener = listen(&desk)?;
    let viewers = Viewers::default();
    spawn_local(accept(desk.clone(), listener, viewers.clone())).detach();
    while !desk.everyone_is_here() && !desk.stopped() {
        sleep(Duration::from_millis(10)).await;
    }
    let mut rounds = desk.begin()?;
    let mut list = std::mem::take(&mut *viewers.borrow_mut());
    while let Some(wait) = rounds.wait() {
        sleep(wait).await;
        list.append(&mut viewers.borrow_mut());
        let message = rounds.message();
        let mut left = Vec::new();
        for (i, viewer) in list.iter_mut().enumerate() {
            if viewer.write_all(message).await.is_err() {
                left.push(i);
            }
        }
        rounds.sent((list.len() - left.len()) as u64, left.len() as u64);
        for i in left.into_iter().rev() {
            drop(list.swap_remove(i));
        }
    }
    rounds.end().map(|_| ())
}

fn run(plan: Plan) -> io::Result<()> {
    let placement = plan.core.map_or(Placement::Unbound, Placement::Fixed);
    let desk = Desk::open("glommio", plan)?;
    let executor = LocalExecutorBuilder::new(placement)
        .spawn(|| async move { serve(Rc::new(desk)).await })
        .map_err(|e| io::Error::other(e.to_string()))?;
    executor.join().map_err(|e| io::Error::other(e.to_string()))?
}

fn main() -> ExitCode {
    match run(Args::parse().plan) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("glommio: {e}");
            ExitCode::FAILURE
        }
    }
}
