//! The fan-out as one writes it on tokio: a current-thread runtime on one core, a task for each
//! connection that reads, a list of write halves, one task that every 1/rate seconds writes one
//! message to all of them, one after the other. The kinder form: no channel for each viewer, which
//! would cost a wake-up a delivery. Unfair to real servers: one slow viewer holds up all.

use clap::Parser;
use std::cell::RefCell;
use std::io;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::{LocalSet, spawn_local};
use uproar_benches::server::{Desk, Plan};
use uproar_benches::sys;

/// Fan-out on tokio.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    plan: Plan,
}

type Viewers = Rc<RefCell<Vec<OwnedWriteHalf>>>;

async fn accept(desk: Rc<Desk>, listener: TcpListener, viewers: Viewers) -> io::Result<()> {
    loop {
        let (read, write) = listener.accept().await?.0.into_split();
        viewers.borrow_mut().push(write);
        desk.took_one();
        spawn_local(drain(desk.clone(), read));
    }
}

/// Reads and throws away until the viewer leaves.
async fn drain(desk: Rc<Desk>, mut read: OwnedReadHalf) {
    // Allocated by the first byte, not for each of the silent viewers.
    while read.readable().await.is_ok() {
        let mut buffer = vec![0; 1024];
        match read.read(&mut buffer).await {
            Ok(got @ 1..) => desk.counters.bytes_received.fetch_add(got as u64, Relaxed),
            Ok(0) | Err(_) => break,
        };
    }
    desk.counters.closed.fetch_add(1, Relaxed);
}

async fn serve(desk: Rc<Desk>) -> io::Result<()> {
    let listener: std::net::TcpListener = sys::listen_as_the_engine_does(desk.plan.listen)?.into();
    listener.set_nonblocking(true)?;
    desk.say_listening(listener.local_addr()?.port());
    let viewers = Viewers::default();
    spawn_local(accept(desk.clone(), TcpListener::from_std(listener)?, viewers.clone()));
    while !desk.everyone_is_here() && !desk.stopped() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut rounds = desk.begin()?;
    let mut list = std::mem::take(&mut *viewers.borrow_mut());
    while let Some(wait) = rounds.wait() {
        tokio::time::sleep(wait).await;
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
            list.swap_remove(i);
        }
    }
    rounds.end().map(|_| ())
}

fn run(plan: Plan) -> io::Result<()> {
    let desk = Rc::new(Desk::open("tokio", plan)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, serve(desk))
}

fn main() -> ExitCode {
    match run(Args::parse().plan) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("tokio: {e}");
            ExitCode::FAILURE
        }
    }
}
