//! The load side that is the same for every server: opens connections from many loopback
//! addresses, says hello where the server wants one, reads and throws away. A sample of the
//! viewers reads what arrives and measures how late it is; the rest cost the same whatever the
//! server sends. Checks no content: that is the load tester's work.

pub mod hello;
pub mod publish;
pub mod read;
mod worker;

use crate::sys;
use hdrhistogram::Histogram;
use hello::{Hello, Opening};
use serde::Serialize;
use std::io;
use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Descriptors a worker keeps for other things than viewers (epoll, stdin, stdout, spare).
const DESCRIPTORS_KEPT: u64 = 64;
/// A delivery later than this is recorded as this late.
const LATENCY_NS_MAX: u64 = 300_000_000_000;

/// What a sampled viewer makes of the bytes it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Content {
    /// Nothing: bytes are counted.
    Bytes,
    /// Messages of `payload` bytes with a stamp at their head: the small servers.
    Stamped,
    /// Frames of uproar, whose messages carry a stamp at the head of their data.
    Uproar,
}

/// What was typed.
#[derive(Clone, Debug, clap::Args)]
pub struct Plan {
    /// The server.
    #[arg(long, default_value = "127.0.0.1:7411")]
    pub target: SocketAddrV4,
    /// Viewers to connect, in stages: `50000,200000` waits after the first 50,000 for `next`.
    #[arg(long, value_delimiter = ',', default_value = "1000")]
    pub viewers: Vec<u64>,
    /// The core to run on.
    #[arg(long)]
    pub core: Option<usize>,
    /// Loopback source addresses; each has a port range of its own.
    #[arg(long, default_value_t = 16)]
    pub sources: u8,
    /// Connects that may be under way at once, all workers together.
    #[arg(long, default_value_t = 256)]
    pub in_flight: usize,
    /// How a viewer introduces itself.
    #[arg(long, value_enum, default_value_t = Hello::None)]
    pub hello: Hello,
    /// The room it joins.
    #[arg(long, default_value = "bench")]
    pub room: String,
    /// Sign viewers in, each as a user of its own: `hs256:BASE64`, or `eddsa` (a published key).
    #[arg(long)]
    pub sign_in: Option<String>,
    /// What a sampled viewer makes of what it gets.
    #[arg(long, value_enum, default_value_t = Content::Bytes)]
    pub content: Content,
    /// Bytes of one message of `--content stamped`, and of a published one.
    #[arg(long, default_value_t = 256)]
    pub payload: usize,
    /// One viewer in so many is sampled.
    #[arg(long, default_value_t = 64)]
    pub sample: u64,
    /// Publish into the room at this rate a second, once everyone is there; 0: do not.
    #[arg(long, default_value_t = 0.0)]
    pub publish_rate: f64,
    /// End this many seconds after the last stage.
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Say `ready` and wait for `next` before the first stage.
    #[arg(long, requires = "steered")]
    pub wait: bool,
    /// Take `mark`, `next` and `stop` from stdin instead of `--seconds`.
    #[arg(long)]
    pub steered: bool,
}

/// Counters that workers add to, once a turn of their loop.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) quota: AtomicU64,
    pub(crate) under_way: AtomicU64,
    pub(crate) connected: AtomicU64,
    pub(crate) joined: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) closed: AtomicU64,
    pub(crate) reads: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) sampled: AtomicU64,
    pub(crate) frames: AtomicU64,
    pub(crate) messages: AtomicU64,
    pub(crate) gaps: AtomicU64,
    pub(crate) cpu_ns: AtomicU64,
    pub(crate) stop: AtomicBool,
    pub(crate) first_failure: Mutex<Option<String>>,
    pub(crate) latency: Mutex<Option<Histogram<u64>>>,
}

impl Shared {
    pub(crate) fn fail(&self, why: String) {
        self.failed.fetch_add(1, Relaxed);
        lock(&self.first_failure).get_or_insert(why);
    }
}

/// A poisoned lock means that a worker panicked; its panic is reported when it is joined.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The crowd now; counters since the start, latency since the last time it was asked.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counts {
    /// Connections that stand.
    pub connected: u64,
    /// Of them, those that the server has let into the room (without a hello: all).
    pub joined: u64,
    /// Connects that failed, and viewers that were refused.
    pub failed: u64,
    /// The first of these failures, in words.
    pub first_failure: Option<String>,
    /// Viewers that the server closed.
    pub closed: u64,
    /// Receives that brought bytes.
    pub reads: u64,
    /// Bytes received.
    pub bytes: u64,
    /// Viewers that are sampled.
    pub sampled: u64,
    /// Frames the sampled viewers got (stamped messages, or frames of uproar).
    pub frames: u64,
    /// Messages the sampled viewers got.
    pub messages: u64,
    /// Gap frames the sampled viewers got.
    pub gaps: u64,
    /// CPU time of all workers.
    pub cpu_s: f64,
    /// When this was read, CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// Deliveries whose lateness was measured since the last mark.
    pub latency_count: u64,
    /// Median lateness of them, from when the message was due.
    pub latency_ms_p50: f64,
    /// 99th percentile.
    pub latency_ms_p99: f64,
    /// 99.9th percentile.
    pub latency_ms_p999: f64,
    /// The latest.
    pub latency_ms_max: f64,
    /// What became of the messages this sink published.
    pub published: publish::Counts,
}

/// A stage that is complete.
#[derive(Clone, Debug, Serialize)]
pub struct Stage {
    /// Viewers asked for so far.
    pub viewers: u64,
    /// From the first connect of this stage until the last of it had joined.
    pub ramp_s: f64,
    /// The crowd then.
    #[serde(flatten)]
    pub counts: Counts,
}

/// A crowd at work.
#[derive(Debug)]
pub struct Sink {
    plan: Plan,
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<io::Result<()>>>,
    publisher: Option<publish::Publisher>,
    viewers: u64,
}

impl Sink {
    /// Starts the workers; nobody connects before the first [`Sink::stage`].
    ///
    /// # Errors
    /// A flag that is not allowed, a key that cannot be read, a core that does not exist.
    pub fn open(plan: Plan) -> io::Result<Sink> {
        let viewers_max = *plan.viewers.last().unwrap_or(&0);
        if viewers_max == 0 || !plan.viewers.is_sorted() {
            let text = format!("--viewers is {:?}; allowed are ascending numbers", plan.viewers);
            return Err(io::Error::other(text));
        }
        if plan.sample == 0 || plan.sources == 0 || plan.payload < crate::server::STAMP_BYTES {
            let text = "--sample and --sources begin at 1, --payload at 8";
            return Err(io::Error::other(text));
        }
        if let Some(core) = plan.core {
            sys::pin_thread(core)?; // the workers inherit it
        }
        let each_max = sys::raise_open_files()?.saturating_sub(DESCRIPTORS_KEPT).max(1);
        let count = viewers_max.div_ceil(each_max);
        let opening = Opening::new(plan.hello, &plan.room, plan.sign_in.as_deref())?;
        // Made before anybody connects: signing a token costs more than the connect it is for.
        let words: Arc<[_]> =
            (0..viewers_max).map(|viewer| opening.words(viewer)).collect::<io::Result<_>>()?;
        let histogram = Histogram::new_with_bounds(1_000, LATENCY_NS_MAX, 3)
            .map_err(|e| io::Error::other(e.to_string()))?;
        let shared = Arc::new(Shared { latency: Mutex::new(Some(histogram)), ..Shared::default() });
        let workers = (0..count)
            .map(|number| {
                let share = worker::Share { number, of: count };
                let (plan, shared, words) = (plan.clone(), shared.clone(), words.clone());
                std::thread::spawn(move || worker::work(&plan, share, &shared, &words))
            })
            .collect();
        Ok(Sink { plan, shared, workers, publisher: None, viewers: 0 })
    }

    /// Connects up to `viewers`, all stages together, and waits until each has joined, failed or
    /// `patience` is over.
    #[must_use]
    pub fn stage(&mut self, viewers: u64, patience: Duration) -> Stage {
        let begun = Instant::now();
        self.viewers = viewers;
        self.shared.quota.store(viewers, Relaxed);
        let settled = || {
            let done = self.shared.joined.load(Relaxed) + self.shared.failed.load(Relaxed);
            done >= viewers || self.workers.iter().any(JoinHandle::is_finished)
        };
        while !settled() && begun.elapsed() < patience {
            std::thread::sleep(Duration::from_millis(1));
        }
        Stage { viewers, ramp_s: begun.elapsed().as_secs_f64(), counts: self.counts() }
    }

    /// Begins to publish, where the plan asks for it.
    ///
    /// # Errors
    /// The server does not take the publisher.
    pub fn publish(&mut self) -> io::Result<()> {
        if self.plan.publish_rate > 0.0 {
            let plan = &self.plan;
            let publisher = publish::Publisher::start(
                plan.target,
                &plan.room,
                plan.sign_in.as_deref(),
                plan.publish_rate,
                plan.payload,
            )?;
            self.publisher = Some(publisher);
        }
        Ok(())
    }

    /// The crowd now; the latency figures begin anew.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let shared = &self.shared;
        let mut counts = Counts {
            connected: shared.connected.load(Relaxed),
            joined: shared.joined.load(Relaxed),
            failed: shared.failed.load(Relaxed),
            first_failure: lock(&shared.first_failure).clone(),
            closed: shared.closed.load(Relaxed),
            reads: shared.reads.load(Relaxed),
            bytes: shared.bytes.load(Relaxed),
            sampled: shared.sampled.load(Relaxed),
            frames: shared.frames.load(Relaxed),
            messages: shared.messages.load(Relaxed),
            gaps: shared.gaps.load(Relaxed),
            cpu_s: shared.cpu_ns.load(Relaxed) as f64 / 1e9,
            at_ns: sys::monotonic_ns(),
            published: self.publisher.as_ref().map(publish::Publisher::counts).unwrap_or_default(),
            ..Counts::default()
        };
        if let Some(latency) = lock(&shared.latency).as_mut() {
            let ms = |quantile| latency.value_at_quantile(quantile) as f64 / 1e6;
            counts.latency_count = latency.len();
            counts.latency_ms_p50 = ms(0.5);
            counts.latency_ms_p99 = ms(0.99);
            counts.latency_ms_p999 = ms(0.999);
            counts.latency_ms_max = latency.max() as f64 / 1e6;
            latency.reset();
        }
        counts
    }

    /// Closes every viewer; the last counts.
    ///
    /// # Errors
    /// What a worker failed with.
    pub fn close(self) -> io::Result<Counts> {
        let counts = self.counts();
        if let Some(publisher) = self.publisher {
            publisher.stop();
        }
        self.shared.stop.store(true, Relaxed);
        for worker in self.workers {
            worker.join().map_err(|_| io::Error::other("a worker panicked"))??;
        }
        Ok(counts)
    }
}
