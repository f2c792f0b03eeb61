//! Starts threads, each with its core, descriptor table, listener, driver and machine.
//!
//! Owns the order of starting and stopping. A thread that cannot start is an error of `launch`; a
//! thread that panics later ends the process, since its viewers would hang unseen.

use super::counters::{IoCounters, IoFigures};
use super::epoll::EpollDriver;
use super::listener::{self, Dial};
use super::mailbox::{Mailboxes, Poster};
use super::run::run;
use super::uring_driver::UringDriver;
use super::{Backend, Launch, StartError, ThreadInfo, cores, probe, sys};
use crate::seam::Machine;
use std::fs;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread::{self, JoinHandle};

/// Threads that run machines. Dropping it leaves them running.
pub struct Running<T> {
    threads: Vec<JoinHandle<()>>,
    poster: Poster<T>,
    counters: Arc<[IoCounters]>,
    listen: Option<std::net::SocketAddr>,
    backend: Backend,
    reason: String,
    connections_max: u64,
}

impl<T: Send> Running<T> {
    /// Hands a message to thread `to`, from a thread that shares the launching descriptor table.
    ///
    /// # Errors
    /// The message, where the thread's queue is full or the thread is done.
    pub fn post(&self, to: u16, message: T) -> Result<(), T> {
        self.poster.post(to, message)
    }

    /// The same for keeping and sharing.
    #[must_use]
    pub fn poster(&self) -> Poster<T> {
        self.poster.clone()
    }

    /// Where the threads listen, with the port as it was settled.
    #[must_use]
    pub fn listen(&self) -> Option<std::net::SocketAddr> {
        self.listen
    }

    /// `uring` or `epoll`.
    #[must_use]
    pub fn io(&self) -> &'static str {
        self.backend.name()
    }

    /// Why that one, in words.
    #[must_use]
    pub fn io_reason(&self) -> &str {
        &self.reason
    }

    /// How many threads there are.
    #[must_use]
    pub fn threads(&self) -> u16 {
        self.poster.threads()
    }

    /// Connections that fit on all threads together.
    #[must_use]
    pub fn connections_max(&self) -> u64 {
        self.connections_max
    }

    /// What thread `index` has counted so far.
    ///
    /// # Panics
    /// Where there is no such thread.
    #[must_use]
    pub fn figures(&self, index: u16) -> IoFigures {
        self.counters[usize::from(index)].figures()
    }

    /// The counters of all threads, to be kept by whoever scrapes.
    #[must_use]
    pub fn counters(&self) -> Arc<[IoCounters]> {
        Arc::clone(&self.counters)
    }

    /// Whether all machines are done.
    #[must_use]
    pub fn finished(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Waits until all machines are done.
    pub fn join(self) {
        for thread in self.threads {
            // A panic has ended the process already.
            let _ = thread.join();
        }
    }
}

/// Starts the threads; `make` builds each machine on its own thread, after every thread has its
/// socket and driver.
///
/// # Errors
/// In words: an address in use, a core that does not exist, io_uring demanded but not permitted,
/// descriptors or memory exhausted. Nothing is left running then.
pub fn launch<M>(
    launch: Launch,
    make: impl Fn(&ThreadInfo) -> M + Send + Sync + 'static,
) -> Result<Running<M::Message>, StartError>
where
    M: Machine + 'static,
{
    let (backend, mut reason) = probe(launch.io)?;
    let cores = if launch.cores.is_empty() { cores::cores_allowed() } else { launch.cores.clone() };
    let threads = match launch.threads {
        0 => u16::try_from(cores.len()).unwrap_or(u16::MAX),
        threads => threads,
    };
    let address =
        launch.listen.as_ref().map(|l| listener::settle_address(l.address)).transpose()?;
    let own_table = descriptor_tables_can_be_split();
    let mut fit = cores::open_files_soft();
    if !own_table {
        reason.push_str(
            "; unshare(2) is not permitted: the open-file limit counts for all threads together",
        );
        fit /= u64::from(threads);
    }
    let connections_max = match launch.connections_max {
        0 => cores::connections_that_fit(fit),
        given => given,
    };
    let boxes = Mailboxes::new(threads, launch.queue_messages_max)
        .map_err(|e| StartError::new(format!("cannot open an eventfd for each thread: {e}")))?;
    let shared = Arc::new(Shared { boxes: Arc::new(boxes), launch, backend, own_table, make });
    let counters: Arc<[IoCounters]> = (0..threads).map(|_| IoCounters::default()).collect();

    let (report, reports) = mpsc::channel();
    let mut starting = Starting { threads: Vec::new(), name: shared.launch.name };
    for index in 0..threads {
        let info = ThreadInfo { index, threads, connections_max, listen: address };
        let core = cores[usize::from(index) % cores.len()];
        let (shared, counters, report) =
            (Arc::clone(&shared), Arc::clone(&counters), report.clone());
        starting.add(index, move |go| shared.thread(&info, core, &counters, &report, &go))?;
    }
    drop(report);
    Ok(Running {
        threads: starting.go(&reports)?,
        poster: Poster::new(Arc::clone(&shared.boxes)),
        counters,
        listen: address,
        backend,
        reason,
        connections_max: u64::from(connections_max) * u64::from(threads),
    })
}

/// Threads that wait for each other: all of them start, or none stays.
struct Starting {
    threads: Vec<(JoinHandle<()>, SyncSender<()>)>,
    name: &'static str,
}

impl Starting {
    fn add(
        &mut self,
        index: u16,
        life: impl FnOnce(Receiver<()>) + Send + 'static,
    ) -> Result<(), StartError> {
        let (go, gone) = mpsc::sync_channel(1);
        let handle = thread::Builder::new()
            .name(format!("{}-{index}", self.name))
            .spawn(move || life(gone))
            .map_err(|e| {
                StartError::new(format!("cannot start thread {index} of {}: {e}", self.name))
            })?;
        self.threads.push((handle, go));
        Ok(())
    }

    /// Lets them all go once every one is ready; the first trouble of any is the error.
    fn go(
        mut self,
        reports: &Receiver<Result<(), StartError>>,
    ) -> Result<Vec<JoinHandle<()>>, StartError> {
        for _ in &self.threads {
            let report = reports.recv();
            report.map_err(|_| StartError::new("a thread ended before it was ready".into()))??;
        }
        let released = self.threads.drain(..).map(|(handle, go)| {
            // The thread waits for exactly this; it cannot be gone.
            let _ = go.send(());
            handle
        });
        Ok(released.collect())
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        for (handle, go) in self.threads.drain(..) {
            drop(go); // never to come: the thread closes its listener and ends
            let _ = handle.join();
        }
    }
}

/// Whether a thread may have a descriptor table of its own; tried on a thread that ends at once.
/// Where it may not, the open-file limit counts for all shards together.
#[must_use]
pub fn descriptor_tables_can_be_split() -> bool {
    let trial = thread::Builder::new().spawn(|| sys::own_descriptor_table().is_ok());
    trial.is_ok_and(|thread| thread.join().unwrap_or(false))
}

/// What all threads of a launch are started from.
struct Shared<M: Machine, F> {
    boxes: Arc<Mailboxes<M::Message>>,
    launch: Launch,
    backend: Backend,
    own_table: bool,
    make: F,
}

/// What a thread was given by the kernel.
enum AnyDriver {
    Uring(Box<UringDriver>),
    Epoll(Box<EpollDriver>),
}

impl<M: Machine, F: Fn(&ThreadInfo) -> M> Shared<M, F> {
    /// The whole life of a thread.
    fn thread(
        &self,
        info: &ThreadInfo,
        core: u16,
        counters: &Arc<[IoCounters]>,
        report: &Sender<Result<(), StartError>>,
        go: &Receiver<()>,
    ) {
        let _abort = AbortOnPanic;
        let driver = match self.set_up(info, core, counters) {
            Ok(driver) => driver,
            Err(error) => {
                let _ = report.send(Err(error));
                return; // nobody waits for this thread any more
            }
        };
        let _ = report.send(Ok(()));
        if go.recv().is_err() {
            return; // another thread could not start
        }
        let mut machine = (self.make)(info);
        let own = &counters[usize::from(info.index)];
        match driver {
            AnyDriver::Uring(mut driver) => {
                run(&mut machine, &mut *driver, info.index, &self.boxes, info.threads, own);
            }
            AnyDriver::Epoll(mut driver) => {
                run(&mut machine, &mut *driver, info.index, &self.boxes, info.threads, own);
            }
        }
    }

    fn set_up(
        &self,
        info: &ThreadInfo,
        core: u16,
        counters: &Arc<[IoCounters]>,
    ) -> Result<AnyDriver, StartError> {
        let eventfds = self.boxes.eventfds();
        let failed = |what: &str, e: std::io::Error| {
            StartError::new(format!("thread {} of {}: {what}: {e}", info.index, self.launch.name))
        };
        self.boxes.enter();
        sys::block_signals().map_err(|e| failed("cannot block signals", e))?;
        if self.own_table {
            sys::own_descriptor_table()
                .map_err(|e| failed("cannot have its own descriptors", e))?;
            close_inherited(&eventfds).map_err(|e| failed("cannot list its descriptors", e))?;
        }
        if self.launch.pin {
            sys::pin(core).map_err(|e| failed(&format!("cannot be pinned to core {core}"), e))?;
        }
        let wake = eventfds[usize::from(info.index)];
        let dial = Dial::new(self.launch.targets.clone(), self.launch.receive_buffer_bytes);
        let listener = match (&self.launch.listen, info.listen) {
            (Some(options), Some(address)) => Some(listener::listen(options, address)?),
            _ => None,
        };
        let (counters, index) = (Arc::clone(counters), usize::from(info.index));
        match self.backend {
            Backend::Uring => UringDriver::new(listener, dial, wake, counters, index)
                .map(|driver| AnyDriver::Uring(Box::new(driver)))
                .map_err(|e| failed("cannot set up its ring", e)),
            Backend::Epoll => EpollDriver::new(listener, dial, wake, counters, index)
                .map(|driver| AnyDriver::Epoll(Box::new(driver)))
                .map_err(|e| failed("cannot set up epoll", e)),
        }
    }
}

/// Closes what the copy of the descriptor table brought along: a copied listener would go on
/// accepting connections that nobody serves. Kept are 0, 1, 2, the launch's eventfds, and other
/// eventfds: they hold nothing alive, and a stray wake-up then hits what it was meant for.
fn close_inherited(eventfds: &[RawFd]) -> std::io::Result<()> {
    let directory = "/proc/thread-self/fd";
    let numbers: Vec<RawFd> = fs::read_dir(directory)?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for fd in numbers {
        let kept = fd <= 2 || eventfds.contains(&fd);
        if kept || fs::read_link(format!("{directory}/{fd}")).is_ok_and(|link| is_eventfd(&link)) {
            continue;
        }
        sys::close(fd);
    }
    Ok(())
}

fn is_eventfd(link: &std::path::Path) -> bool {
    link.as_os_str() == "anon_inode:[eventfd]"
}

/// Ends the process when its thread panics: the hook has printed the message by then.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            let name = thread::current().name().unwrap_or("?").to_owned();
            eprintln!(
                "uproar: thread {name} panicked; its connections would hang, so the process ends"
            );
            std::process::abort();
        }
    }
}

/// Carries answers of machines to code that may wake a runtime or use descriptors: a thread in the
/// launching descriptor table takes them out and hands them to a function.
pub struct Relay<R> {
    sender: SyncSender<R>,
}

impl<R> Clone for Relay<R> {
    fn clone(&self) -> Relay<R> {
        Relay { sender: self.sender.clone() }
    }
}

impl<R: Send> Relay<R> {
    /// Hands an answer over without waiting.
    ///
    /// # Errors
    /// The answer, where `answers_max` wait already.
    pub fn hand(&self, answer: R) -> Result<(), R> {
        self.sender.try_send(answer).map_err(|e| match e {
            mpsc::TrySendError::Full(answer) | mpsc::TrySendError::Disconnected(answer) => answer,
        })
    }
}

/// Starts a relay; its thread ends once every clone of the relay is gone. `take` runs on a thread
/// with the descriptor table of the caller, so it may complete futures of an asynchronous runtime.
///
/// # Errors
/// Where the thread cannot be started.
pub fn relay<R: Send + 'static>(
    name: &str,
    answers_max: usize,
    mut take: impl FnMut(R) + Send + 'static,
) -> Result<Relay<R>, StartError> {
    let (sender, receiver) = mpsc::sync_channel(answers_max);
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || receiver.into_iter().for_each(&mut take))
        .map_err(|e| StartError::new(format!("cannot start the relay thread {name}: {e}")))?;
    Ok(Relay { sender })
}
