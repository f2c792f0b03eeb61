//! The run, seen from outside the threads: starts them, leads them through the phases, and
//! collects what they counted.
//!
//! Owns the phases and their time limits: none waits for ever. Never touches a connection.

use crate::cores::Cores;
use crate::crowd::{Crowd, LEAD_US, Order};
use crate::metrics::Scrape;
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::pulse::{Beat, Pulse};
use crate::report::grouped;
use crate::signin::Tokens;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};
use uproar_engine::io::{Launch, Running, launch};

/// How often phases look at their threads.
const LOOK: Duration = Duration::from_millis(20);
/// Connecting is given up when nobody has come into the room for so long.
const CONNECT_STALL: Duration = Duration::from_secs(20);
/// Nothing is on its way any more when nothing has arrived for so long: longer than the longest
/// deadline of a room (2 s) and its largest batch window.
const QUIET: Duration = Duration::from_secs(3);
/// Settling ends after this, whatever still arrives.
const SETTLE_MAX: Duration = Duration::from_secs(15);
/// How long a thread may take to sum up.
const COLLECT_MAX: Duration = Duration::from_secs(30);

/// Figures of the server at the moments that matter.
#[derive(Debug, Default)]
pub(crate) struct Scrapes {
    /// Before anybody connected.
    pub(crate) before: Option<Scrape>,
    /// At the first measured moment, and at the end of the measurement.
    pub(crate) from: Option<Scrape>,
    pub(crate) to: Option<Scrape>,
    /// At rest.
    pub(crate) after: Option<Scrape>,
}

/// What a run brought.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) outcome: Outcome,
    pub(crate) scrapes: Scrapes,
    /// `uring` or `epoll`.
    pub(crate) io: &'static str,
    /// What the user should know besides the figures.
    pub(crate) notes: Vec<String>,
    /// A phase that was given up, in words.
    pub(crate) given_up: Option<String>,
    /// Busy share of the tester's own cores while it measured, where it has some; of the
    /// machine's busiest core.
    pub(crate) own_core_busy: Option<f64>,
    pub(crate) any_core_busy: Option<f64>,
    /// Server resident memory once the crowd was complete, before traffic.
    pub(crate) connected: Option<Scrape>,
}

/// See the module.
pub(crate) struct Session {
    pub(crate) plan: Arc<Plan>,
    running: Running<Order>,
    pulses: Vec<Arc<Pulse>>,
    results: Receiver<Outcome>,
    progress: Progress,
    scrapes: Scrapes,
    connected: Option<Scrape>,
    cores: [Cores; 2],
    notes: Vec<String>,
    pub(crate) given_up: Option<String>,
}

impl Session {
    /// Checks that the target listens, mints tokens, starts the threads.
    ///
    /// # Errors
    /// In words: what is wrong, and what to do.
    pub(crate) fn start(plan: Plan) -> Result<Session, String> {
        let target = plan.target;
        TcpStream::connect_timeout(&target, Duration::from_secs(3)).map_err(|e| {
            format!(
                "nobody listens at {target} ({e}); start a server with `uproar serve`, or name one \
                 with --target"
            )
        })?;
        let plan = Arc::new(plan);
        let others = plan.heads.total() - plan.heads.publishers;
        let tokens = Arc::new(Tokens::mint(&plan.sign_in, plan.heads.publishers, others)?);
        if tokens.guests() && plan.sign_in != crate::plan::SignIn::Guests {
            return Err("no token was minted".into());
        }
        let mut notes = Vec::new();
        let before = Scrape::take(&plan.metrics).unwrap_or_else(|why| {
            notes.push(format!("{why}; the server's CPU, memory and socket writes are not known"));
            None
        });
        let threads = u16::try_from(plan.parts.len()).map_err(|_| "too many threads".to_owned())?;
        let pulses: Vec<Arc<Pulse>> = plan.parts.iter().map(|_| Arc::default()).collect();
        let (sender, results) = mpsc::channel();
        let most = plan.parts.iter().map(|p| p.heads.total()).max().unwrap_or(1);
        let receive_buffer_bytes = match plan.scenario {
            crate::plan::Scenario::Slow { receive_buffer_bytes, .. } => receive_buffer_bytes,
            _ => 0,
        };
        let options = Launch {
            name: "crowd",
            threads,
            cores: plan.cores.clone().unwrap_or_default(),
            pin: plan.cores.is_some(),
            io: plan.io,
            queue_messages_max: 16,
            listen: None,
            targets: vec![target],
            receive_buffer_bytes,
            connections_max: most,
        };
        let make = {
            let (plan, pulses) = (Arc::clone(&plan), pulses.clone());
            move |info: &uproar_engine::io::ThreadInfo| {
                let pulse = Arc::clone(&pulses[usize::from(info.index)]);
                Crowd::new(
                    Arc::clone(&plan),
                    info.index,
                    Arc::clone(&tokens),
                    pulse,
                    sender.clone(),
                )
            }
        };
        let running = launch(options, make).map_err(|e| e.to_string())?;
        let scrapes = Scrapes { before, ..Scrapes::default() };
        let (progress, connected, given_up) = (Progress::new(), None, None);
        let cores = [Cores::default(), Cores::default()];
        Ok(Session {
            plan,
            running,
            pulses,
            results,
            progress,
            scrapes,
            connected,
            cores,
            notes,
            given_up,
        })
    }

    fn tell_all(&self, order: Order) {
        for to in 0..self.running.threads() {
            // Its queue holds 16 orders and gets 3; a thread that is gone has ended the process.
            let _ = self.running.post(to, order);
        }
    }

    pub(crate) fn beat(&self) -> Beat {
        self.pulses.iter().fold(Beat::default(), |sum, pulse| sum + pulse.read())
    }

    /// A line for the user that stays on the screen.
    pub(crate) fn say(&self, words: &str) {
        self.progress.say(words);
    }

    fn scrape(&mut self) -> Option<Scrape> {
        self.scrapes.before.as_ref()?;
        match Scrape::take(&self.plan.metrics) {
            Ok(scrape) => scrape,
            Err(why) => {
                if !self.notes.contains(&why) {
                    self.notes.push(why);
                }
                None
            }
        }
    }

    /// Everybody connects and joins; ends early where it stalls.
    pub(crate) fn connect(&mut self) {
        let total = u64::from(self.plan.heads.total());
        self.progress.phase("connect", total);
        self.tell_all(Order::Connect);
        let begun = Instant::now();
        let (mut best, mut best_at) = (0, begun);
        loop {
            thread::sleep(LOOK);
            let beat = self.beat();
            let settled = beat.joined + beat.failed;
            let per_s = beat.joined as f64 / begun.elapsed().as_secs_f64();
            let words = format!(
                "{} of {} in the room, {per_s:.0} a second{}",
                grouped(beat.joined),
                grouped(total),
                some(beat.failed, "failed"),
            );
            self.progress.show(settled, &words);
            if settled >= total {
                break;
            }
            if settled > best {
                (best, best_at) = (settled, Instant::now());
            }
            if best_at.elapsed() > CONNECT_STALL {
                self.given_up = Some(format!(
                    "connecting stalled: {} of {} in the room, {} failed, and no progress for {} s",
                    beat.joined,
                    total,
                    beat.failed,
                    CONNECT_STALL.as_secs()
                ));
                break;
            }
        }
        self.progress.end();
        self.connected = self.scrape();
    }

    /// Traffic: warm-up, then measurement. `watch` sees every look, and ends it by `false`.
    pub(crate) fn traffic(&mut self, mut watch: impl FnMut(&Session, &Beat) -> bool) {
        let warmup = Duration::from_micros(self.plan.warmup_us + LEAD_US);
        let whole = warmup + Duration::from_micros(self.plan.duration_us);
        let begun = Instant::now();
        self.tell_all(Order::Begin);
        let names = if self.plan.publishes() { ("warm up", "measure") } else { ("wait", "hold") };
        self.progress.phase(names.0, warmup.as_millis() as u64);
        let mut measuring = false;
        loop {
            thread::sleep(LOOK);
            let (beat, elapsed) = (self.beat(), begun.elapsed());
            if !measuring && elapsed >= warmup {
                measuring = true;
                self.scrapes.from = self.scrape();
                self.cores[0] = Cores::now();
                self.progress.phase(names.1, whole.saturating_sub(warmup).as_millis() as u64);
            }
            let so_far = elapsed.saturating_sub(if measuring { warmup } else { Duration::ZERO });
            self.progress.show(so_far.as_millis() as u64, &self.words(&beat, so_far));
            if !watch(self, &beat) {
                break;
            }
            // By the clock, not by what threads say: a thread that hangs must not hang the run.
            let over =
                elapsed >= whole && self.pulses.iter().all(|p| p.read().publishing_over == 1);
            if over || elapsed > whole + Duration::from_secs(5) {
                break;
            }
        }
        self.cores[1] = Cores::now();
        self.scrapes.to = self.scrape();
        self.progress.end();
    }

    fn words(&self, beat: &Beat, so_far: Duration) -> String {
        if !self.plan.publishes() {
            return format!(
                "{:.0} s, {} in the room{}",
                so_far.as_secs_f64(),
                grouped(beat.joined + beat.back - beat.lost),
                some(beat.lost - beat.back, "lost")
            );
        }
        format!(
            "{:.0} s, {} messages offered, {} deliveries{}{}",
            so_far.as_secs_f64(),
            grouped(beat.offered),
            grouped(beat.deliveries),
            some(beat.unanswered, "without a verdict yet"),
            some(beat.lost.saturating_sub(beat.back), "connections away"),
        )
    }

    /// Waits for what is still on its way: verdicts, deliveries, likes.
    pub(crate) fn settle(&mut self) {
        self.progress.phase("settle", 1);
        let begun = Instant::now();
        let (mut last, mut last_at) = (self.beat(), begun);
        loop {
            thread::sleep(LOOK);
            let beat = self.beat();
            if (beat.frames, beat.deliveries, beat.back)
                != (last.frames, last.deliveries, last.back)
            {
                (last, last_at) = (beat, Instant::now());
            }
            let complete = beat.unanswered == 0
                && beat.deliveries >= beat.accepted_measured * beat.counted
                && beat.likes_counted >= beat.likes_offered
                && beat.lost == beat.back;
            // Half a second more in any case: what should not come any more is to be seen too.
            let enough = complete && begun.elapsed() > Duration::from_millis(500);
            if enough || last_at.elapsed() > QUIET || begun.elapsed() > SETTLE_MAX {
                break;
            }
            self.progress.show(0, &self.words(&beat, begun.elapsed()));
        }
        self.progress.end();
    }

    /// Takes every thread's result and adds them up.
    ///
    /// # Errors
    /// A thread that did not answer.
    pub(crate) fn collect(mut self) -> Result<Facts, String> {
        self.scrapes.after = self.scrape();
        self.tell_all(Order::Finish);
        let mut outcome = Outcome::default();
        let deadline = Instant::now() + COLLECT_MAX;
        for _ in 0..self.running.threads() {
            let left = deadline.saturating_duration_since(Instant::now());
            let result = self.results.recv_timeout(left);
            outcome.add(
                result.map_err(|_| {
                    "a thread of the tester did not hand its result over".to_owned()
                })?,
            );
        }
        let io = self.running.io();
        let [from, to] = &self.cores;
        let own = self.plan.cores.as_deref();
        let own_core_busy = own.and_then(|cores| to.busiest_since(from, cores));
        Ok(Facts {
            outcome,
            scrapes: self.scrapes,
            io,
            notes: self.notes,
            given_up: self.given_up,
            connected: self.connected,
            own_core_busy,
            any_core_busy: to.busiest_since(from, &[]),
        })
    }
}

/// `, 3 failed`, or nothing where there are none.
fn some(n: u64, what: &str) -> String {
    if n == 0 { String::new() } else { format!(", {} {what}", grouped(n)) }
}
