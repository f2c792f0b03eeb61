//! What every small server of the benches has in common, whatever it runs on: its flags, the pace
//! of its rounds, its counters and its report. Never touches a connection, so that each server's
//! own file shows all that it does for one.

use crate::proc::{self, CoreBusy, CoreMoment};
use crate::steer::{self, Word};
use crate::sys;
use serde::Serialize;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The smallest payload: the stamp at its head.
pub const STAMP_BYTES: usize = 8;

/// What was typed.
#[derive(Clone, Debug, clap::Args)]
pub struct Plan {
    /// Where to listen; port 0 takes a free one and says which.
    #[arg(long, default_value = "127.0.0.1:7411")]
    pub listen: SocketAddr,
    /// Begin to send once this many viewers are connected.
    #[arg(long, default_value_t = 15_000)]
    pub viewers: u64,
    /// Bytes of one message, the stamp of 8 bytes included.
    #[arg(long, default_value_t = 256)]
    pub payload: usize,
    /// Messages a second, each sent to every viewer; 0 sends round after round without a pause.
    #[arg(long, default_value_t = 5.0)]
    pub rate: f64,
    /// End after this many messages; 0 goes on until stopped.
    #[arg(long, default_value_t = 50)]
    pub rounds: u64,
    /// The core to run on.
    #[arg(long)]
    pub core: Option<usize>,
    /// Read `mark` and `stop` from stdin, end when it closes.
    #[arg(long)]
    pub steered: bool,
}

impl Plan {
    /// The first rule that the flags break.
    ///
    /// # Errors
    /// The sentence to show.
    pub fn check(&self) -> io::Result<()> {
        if self.payload < STAMP_BYTES {
            let text = format!("--payload is {}; allowed is {STAMP_BYTES} or more", self.payload);
            return Err(io::Error::other(text));
        }
        if !(0.0..=1e6).contains(&self.rate) {
            let text = format!("--rate is {}; allowed is 0 to 1000000", self.rate);
            return Err(io::Error::other(text));
        }
        if self.rounds == 0 && !self.steered {
            return Err(io::Error::other("--rounds 0 needs --steered: who would stop it?"));
        }
        Ok(())
    }
}

/// Counters of a server; each server adds to them once a round, not once a send.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections taken.
    pub accepted: AtomicU64,
    /// When the first of them was taken, CLOCK_MONOTONIC.
    pub first_accept_ns: AtomicU64,
    /// Connections gone.
    pub closed: AtomicU64,
    /// Messages sent to everyone.
    pub rounds: AtomicU64,
    /// Sends that took the whole message.
    pub sends: AtomicU64,
    /// Sends that the socket refused or took in part: these viewers missed the message.
    pub lost: AtomicU64,
    /// Bytes received.
    pub bytes_received: AtomicU64,
}

/// Counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Connections taken.
    pub accepted: u64,
    /// Connections gone.
    pub closed: u64,
    /// Messages sent to everyone.
    pub rounds: u64,
    /// Sends that took the whole message.
    pub sends: u64,
    /// Sends refused or short.
    pub lost: u64,
    /// Bytes received.
    pub bytes_received: u64,
}

impl Counters {
    /// The counters now.
    pub fn read(&self) -> Counts {
        Counts {
            accepted: self.accepted.load(Relaxed),
            closed: self.closed.load(Relaxed),
            rounds: self.rounds.load(Relaxed),
            sends: self.sends.load(Relaxed),
            lost: self.lost.load(Relaxed),
            bytes_received: self.bytes_received.load(Relaxed),
        }
    }
}

/// What a server says at its end.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Which server.
    pub server: &'static str,
    /// Bytes of one message.
    pub payload_bytes: usize,
    /// The counters at the end.
    #[serde(flatten)]
    pub counts: Counts,
    /// From the first connection taken to the first message.
    pub accepting_wall_s: f64,
    /// From the first message to the last.
    pub sending_wall_s: f64,
    /// CPU time of the sending thread in that time.
    pub sending_thread_cpu_s: f64,
    /// How busy the core was in that time; absent where no core was named.
    pub core: Option<CoreBusy>,
    /// User-space memory at the end.
    pub rss_anon_bytes: u64,
}

/// A server at work: its plan, counters, and whether it was told to stop.
#[derive(Debug)]
pub struct Desk {
    /// What was typed.
    pub plan: Plan,
    /// Shared with the thread that reads stdin.
    pub counters: Arc<Counters>,
    stop: Arc<AtomicBool>,
    name: &'static str,
}

impl Desk {
    /// Checks the plan, pins the calling thread, raises the open-file limit, begins to read stdin.
    ///
    /// # Errors
    /// A flag that is not allowed, a core that does not exist.
    pub fn open(name: &'static str, plan: Plan) -> io::Result<Desk> {
        plan.check()?;
        if let Some(core) = plan.core {
            sys::pin_thread(core)?;
        }
        sys::raise_open_files()?;
        let desk = Desk { plan, counters: Arc::default(), stop: Arc::default(), name };
        if desk.plan.steered {
            let (counters, stop) = (desk.counters.clone(), desk.stop.clone());
            let words = steer::words();
            std::thread::spawn(move || {
                for word in words {
                    match word {
                        Word::Mark => steer::say("mark", &counters.read()),
                        Word::Next => {}
                        Word::Stop => stop.store(true, Relaxed),
                    }
                }
            });
        }
        Ok(desk)
    }

    /// Tells the harness where this server listens.
    pub fn say_listening(&self, port: u16) {
        steer::say("listening", &port);
    }

    /// Books one connection taken.
    pub fn took_one(&self) {
        if self.counters.accepted.fetch_add(1, Relaxed) == 0 {
            self.counters.first_accept_ns.store(sys::monotonic_ns(), Relaxed);
        }
    }

    /// Whether to begin to send.
    pub fn everyone_is_here(&self) -> bool {
        self.counters.accepted.load(Relaxed) >= self.plan.viewers
    }

    /// Whether it was told to stop.
    pub fn stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }

    /// Everyone is here: the rounds begin.
    ///
    /// # Errors
    /// A core that does not exist.
    pub fn begin(&self) -> io::Result<Rounds<'_>> {
        steer::say("sending", &self.counters.read());
        Ok(Rounds {
            desk: self,
            begun_ns: sys::monotonic_ns(),
            begun_cpu_ns: sys::thread_cpu_ns(),
            begun_core: self.plan.core.map(CoreMoment::now).transpose()?,
            payload: vec![b'u'; self.plan.payload],
            round: 0,
        })
    }
}

/// The rounds of a server: when each is due, and what it carries.
#[derive(Debug)]
pub struct Rounds<'a> {
    desk: &'a Desk,
    begun_ns: u64,
    begun_cpu_ns: u64,
    begun_core: Option<CoreMoment>,
    payload: Vec<u8>,
    round: u64,
}

impl Rounds<'_> {
    /// How long to wait for the next message; `None` at the end.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        let plan = &self.desk.plan;
        if self.desk.stopped() || (plan.rounds > 0 && self.round >= plan.rounds) {
            return None;
        }
        let due = self.begun_ns + due_after_ns(self.round, plan.rate);
        Some(Duration::from_nanos(due.saturating_sub(sys::monotonic_ns())))
    }

    /// The next message, stamped with the time at which it was due, not the time it is sent: a
    /// server that falls behind shows as latency.
    pub fn message(&mut self) -> &[u8] {
        let rate = self.desk.plan.rate;
        let due = if rate > 0.0 {
            self.begun_ns + due_after_ns(self.round, rate)
        } else {
            sys::monotonic_ns()
        };
        self.payload[..STAMP_BYTES].copy_from_slice(&due.to_le_bytes());
        self.round += 1;
        &self.payload
    }

    /// Books one round.
    pub fn sent(&self, sends: u64, lost: u64) {
        let counters = &self.desk.counters;
        counters.sends.fetch_add(sends, Relaxed);
        counters.lost.fetch_add(lost, Relaxed);
        counters.rounds.fetch_add(1, Relaxed);
    }

    /// The end: says the report.
    ///
    /// # Errors
    /// /proc is not readable.
    pub fn end(self) -> io::Result<Report> {
        let core = match (self.begun_core, self.desk.plan.core) {
            (Some(begun), Some(core)) => Some(CoreMoment::now(core)?.since(&begun)),
            _ => None,
        };
        let first_accept_ns = match self.desk.counters.first_accept_ns.load(Relaxed) {
            0 => self.begun_ns,
            at => at,
        };
        let report = Report {
            accepting_wall_s: self.begun_ns.saturating_sub(first_accept_ns) as f64 / 1e9,
            server: self.desk.name,
            payload_bytes: self.payload.len(),
            counts: self.desk.counters.read(),
            sending_wall_s: (sys::monotonic_ns() - self.begun_ns) as f64 / 1e9,
            sending_thread_cpu_s: (sys::thread_cpu_ns() - self.begun_cpu_ns) as f64 / 1e9,
            core,
            rss_anon_bytes: proc::rss_anon_bytes(std::process::id())?,
        };
        steer::say("report", &report);
        Ok(report)
    }
}

/// Nanoseconds after the start at which round number `round` is due at `rate` a second.
fn due_after_ns(round: u64, rate: f64) -> u64 {
    if rate > 0.0 { (round as f64 * 1e9 / rate) as u64 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(rate: f64, rounds: u64) -> Plan {
        Plan {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            viewers: 2,
            payload: 16,
            rate,
            rounds,
            core: None,
            steered: false,
        }
    }

    #[test]
    fn rounds_are_due_at_the_rate_without_drift() {
        assert_eq!(due_after_ns(0, 20.0), 0);
        assert_eq!(due_after_ns(20_000, 20.0), 1_000_000_000_000);
        assert_eq!(due_after_ns(7, 0.0), 0);
    }

    #[test]
    fn a_message_is_stamped_with_when_it_was_due() {
        let desk = Desk::open("test", plan(1000.0, 2)).expect("plan");
        let mut rounds = desk.begin().expect("begin");
        let stamp = |m: &[u8]| u64::from_le_bytes(m[..8].try_into().expect("8 bytes"));
        let first = stamp(rounds.message());
        std::thread::sleep(Duration::from_millis(20));
        let second = stamp(rounds.message());
        assert_eq!(second - first, 1_000_000, "1 ms later, though it was sent 20 ms later");
        assert_eq!(rounds.wait(), None, "two rounds were asked for");
        rounds.sent(4, 1);
        let report = rounds.end().expect("report");
        assert_eq!((report.counts.sends, report.counts.lost, report.counts.rounds), (4, 1, 1));
    }

    #[test]
    fn a_plan_that_cannot_end_or_be_stamped_is_refused() {
        assert!(plan(5.0, 0).check().is_err(), "no end");
        assert!(Plan { payload: 7, ..plan(5.0, 1) }.check().is_err(), "no room for the stamp");
        assert!(plan(f64::NAN, 1).check().is_err());
        assert!(plan(0.0, 1).check().is_ok());
    }
}
