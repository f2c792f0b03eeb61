//! Sockets, clocks and threads: what carries machines (shards, or the load tester's crowds).
//!
//! Owns the start-up probe, the threads with their cores, descriptor tables, listeners and
//! mailboxes, and both drivers (`uring`, `epoll`). Never knows what the bytes mean.
//!
//! **Every thread has a descriptor table of its own**, so that the open-file limit counts per
//! thread and no lookup is contended. On such a thread a descriptor number from elsewhere means
//! something else, perhaps a viewer's socket. Therefore a machine
//! * writes to no file, pipe or socket that was opened outside (0, 1 and 2 are shared: logging to
//!   standard output and error works, to a file it does not);
//! * never wakes an asynchronous runtime directly, since that writes to the runtime's eventfd: it
//!   answers through [`relay`], whose thread lives in the launching table.
//!
//! Signals are blocked on these threads for the same reason: their handlers write to pipes.

mod cores;
mod counters;
mod epoll;
mod late;
mod launch;
mod listener;
mod mailbox;
mod run;
mod sys;
mod table;
mod uring;
mod uring_driver;

pub use cores::{cores_allowed, raise_open_file_limit};
pub use counters::{IoCounters, IoFigures};
pub use launch::{Relay, Running, descriptor_tables_can_be_split, launch, relay};
pub use mailbox::Poster;

use crate::config::IoChoice;
use std::fmt;
use std::net::SocketAddr;

/// Bytes a poll takes in before it stops for the machine's turn: 500 full receive buffers, and
/// small enough that a flood does not delay the sweep of a room by more than a few milliseconds.
const POLL_BYTES_MAX: usize = 1 << 20;
/// How long accepting rests after descriptors or memory ran out.
const ACCEPT_AGAIN_MS: u64 = 100;

/// Whether an accept failed for want of something that comes back only with time.
fn put_off(errno: i32) -> bool {
    matches!(errno, libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
}

/// How to listen.
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// Where; port 0 is settled once for all threads.
    pub address: SocketAddr,
    /// `TCP_NOTSENT_LOWAT` of accepted sockets; 0: the system's.
    pub notsent_lowat_bytes: u32,
    /// `TCP_USER_TIMEOUT` of accepted sockets; 0: the system's.
    pub user_timeout_ms: u32,
    /// `SO_SNDBUF` of accepted sockets (the kernel doubles it); 0: the system's own tuning.
    pub send_buffer_bytes: u32,
    /// Connections one thread's listener may hold before they are accepted (the kernel caps it at
    /// `net.core.somaxconn`).
    pub backlog: u32,
}

/// What to start.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Threads are called `name-0`, `name-1`, ... (the kernel keeps 15 characters).
    pub name: &'static str,
    /// How many; 0: one for each core of `cores`.
    pub threads: u16,
    /// Cores to use, in turn; empty: those the process may use.
    pub cores: Vec<u16>,
    /// Whether threads stay on their core.
    pub pin: bool,
    /// Which driver.
    pub io: IoChoice,
    /// Messages a thread's mailbox holds; rounded up to 1.
    pub queue_messages_max: usize,
    /// A listener for every thread, or none.
    pub listen: Option<ListenOptions>,
    /// What `Action::Connect` may lead to, by index.
    pub targets: Vec<SocketAddr>,
    /// `SO_RCVBUF` of connections opened with `manual_read` (the kernel doubles it); 0: the
    /// system's.
    pub receive_buffer_bytes: u32,
    /// Connections a machine is told it may hold; 0: 90 % of the soft open-file limit.
    pub connections_max: u32,
}

/// What a machine is made from, on its own thread.
#[derive(Clone, Debug)]
pub struct ThreadInfo {
    /// Its number, from 0.
    pub index: u16,
    /// How many there are.
    pub threads: u16,
    /// Connections it may hold. The driver does not enforce it: full is the machine's to answer.
    pub connections_max: u32,
    /// Where it listens, with the port as it was settled.
    pub listen: Option<SocketAddr>,
}

/// CPU time of the calling thread, microseconds.
#[must_use]
pub fn thread_cpu_us() -> u64 {
    sys::thread_cpu_us()
}

/// Which kernel interface carries the threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// io_uring.
    Uring,
    /// epoll.
    Epoll,
}

impl Backend {
    /// As in `--io` and in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Backend::Uring => "uring",
            Backend::Epoll => "epoll",
        }
    }
}

/// Why nothing was started, in words for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartError(String);

impl StartError {
    pub(crate) fn new(what: String) -> StartError {
        StartError(what)
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

/// Which driver the choice leads to on this machine, and why, found by trying.
///
/// # Errors
/// Where io_uring was demanded and is not permitted or too old.
pub fn probe(choice: IoChoice) -> Result<(Backend, String), StartError> {
    if choice == IoChoice::Epoll {
        return Ok((Backend::Epoll, "epoll was chosen".into()));
    }
    match (uring::probe(), choice) {
        (Ok(found), _) => Ok((Backend::Uring, found)),
        (Err(why), IoChoice::Uring) => Err(StartError(format!(
            "io_uring was demanded but is not usable: {why}; allow it (seccomp profile, sysctl \
             kernel.io_uring_disabled, Linux 6.1 or later) or choose io = \"epoll\""
        ))),
        (Err(why), _) => Ok((Backend::Epoll, format!("io_uring is not usable: {why}"))),
    }
}
