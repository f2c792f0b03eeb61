//! `chat`: pairs of friends, one writing and one reading, while sockets are killed.
//!
//! Proves that what was acknowledged arrives, once and in the order it was first sent, however
//! often the sockets of both are lost; and measures how long a message takes from when it was due.

use super::device::{Device, Ended, Heard, Told};
use super::{Plan, backend, latency, micros};
use crate::check::{Check, TESTER_LIMITED};
use crate::dice::Dice;
use crate::payload::{self, Read};
use crate::report::{Figure, Group, Report, Value};
use hdrhistogram::Histogram;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use uproar_proto::error::Code;
use uproar_proto::inbox::Said;

/// What is sent, and what is done to the sockets.
pub(super) struct Traffic {
    pub(super) pairs: u32,
    /// 0: each pair as fast as it is acknowledged.
    pub(super) rate_per_s: f64,
    pub(super) duration: Duration,
    pub(super) messages_max: u64,
    pub(super) kills_per_s: f64,
}

/// Without a rate, a writer keeps this many messages unacknowledged.
const UNACKNOWLEDGED_MAX: u64 = 32;
/// Timers later than this, in more than one of a hundred cases: the tester was the bottleneck.
const TIMER_LAG_MS_MAX: u64 = 20;
/// How often the senders look at what is due.
const LOOK: Duration = Duration::from_millis(1);

/// One pair as the tester sees it.
struct Pair {
    writer: End,
    reader: End,
    sent: u64,
    acknowledged: u64,
    /// The newest acknowledged number and its seq: both must rise together.
    newest: Option<(u32, u64)>,
    received: u64,
    /// By number: when it was due, and when it was handed to the device.
    due: HashMap<u32, (Instant, Instant)>,
}

/// A device of it.
struct End {
    tell: mpsc::UnboundedSender<Told>,
    hear: mpsc::UnboundedReceiver<Heard>,
    task: JoinHandle<Ended>,
    name: String,
}

impl End {
    fn start(plan: &Plan, name: String) -> Result<End, String> {
        let (device, tell, hear) = Device::new(plan, &name)?;
        Ok(End { tell, hear, task: tokio::spawn(device.run()), name })
    }
}

#[derive(Default)]
struct Findings {
    connected: u64,
    lost: Vec<String>,
    refused: Vec<u32>,
    out_of_order: u64,
    damaged: u64,
    misplaced_seqs: u64,
    kills: u64,
}

struct Run<'a> {
    plan: &'a Plan,
    traffic: &'a Traffic,
    pairs: Vec<Pair>,
    begun: Instant,
    found: Findings,
    latency_us: Histogram<u64>,
    hop_us: Histogram<u64>,
    ack_us: Histogram<u64>,
    lag_us: Histogram<u64>,
}

/// Runs it.
pub(super) async fn run(plan: &Plan, traffic: &Traffic) -> Result<Report, String> {
    let names: Vec<(String, String)> =
        (0..traffic.pairs).map(|n| (plan.user("writer", n), plan.user("reader", n))).collect();
    backend::befriend(plan, &names)?;
    let mut pairs = Vec::with_capacity(names.len());
    for (writer, reader) in names {
        pairs.push(Pair {
            writer: End::start(plan, writer)?,
            reader: End::start(plan, reader)?,
            sent: 0,
            acknowledged: 0,
            newest: None,
            received: 0,
            due: HashMap::new(),
        });
    }
    let mut run = Run {
        plan,
        traffic,
        pairs,
        begun: Instant::now(),
        found: Findings::default(),
        latency_us: micros()?,
        hop_us: micros()?,
        ack_us: micros()?,
        lag_us: micros()?,
    };
    run.until("everybody is connected", |run| run.found.connected >= 2 * run.pairs.len() as u64)
        .await?;
    let before = plan.scrape();
    run.begun = Instant::now();
    run.send_all().await;
    let sending = run.begun.elapsed();
    let settled = run
        .until("everything arrived", |run| {
            run.pairs.iter().all(|p| p.acknowledged == p.sent && p.received >= p.sent)
        })
        .await;
    let took = run.begun.elapsed();
    let after = plan.scrape();
    run.end((sending, took), settled.err(), (before.as_ref(), after.as_ref())).await
}

impl Run<'_> {
    /// Sends what is due until the time or the messages are used up, and kills sockets meanwhile.
    async fn send_all(&mut self) {
        let mut dice = Dice::new(self.plan.seed);
        let mut timer = tokio::time::interval(LOOK);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut sent, mut killed) = (0_u64, 0_u64);
        loop {
            let planned = timer.tick().await.into_std();
            let now = Instant::now();
            let elapsed = now.duration_since(self.begun);
            self.lag_us.saturating_record(
                u64::try_from(now.saturating_duration_since(planned).as_micros())
                    .unwrap_or(0)
                    .max(1),
            );
            self.listen();
            if elapsed >= self.traffic.duration || sent >= self.traffic.messages_max {
                return;
            }
            let kills_due = (elapsed.as_secs_f64() * self.traffic.kills_per_s) as u64;
            while killed < kills_due {
                killed += 1;
                let pair = &self.pairs[dice.below(self.pairs.len() as u64) as usize];
                let end = if dice.below(2) == 0 { &pair.writer } else { &pair.reader };
                let _ = end.tell.send(Told::Kill); // ended: told at the end
            }
            self.found.kills = killed;
            if self.traffic.rate_per_s > 0.0 {
                let due = (elapsed.as_secs_f64() * self.traffic.rate_per_s) as u64;
                while sent < due.min(self.traffic.messages_max) {
                    let moment =
                        Duration::from_secs_f64((sent + 1) as f64 / self.traffic.rate_per_s);
                    self.send((sent % self.pairs.len() as u64) as usize, self.begun + moment);
                    sent += 1;
                }
                continue;
            }
            for pair in 0..self.pairs.len() {
                while self.pairs[pair].sent - self.pairs[pair].acknowledged < UNACKNOWLEDGED_MAX
                    && sent < self.traffic.messages_max
                {
                    self.send(pair, Instant::now());
                    sent += 1;
                }
            }
        }
    }

    fn send(&mut self, place: usize, due: Instant) {
        let pair = &mut self.pairs[place];
        let number = pair.sent as u32;
        pair.sent += 1;
        pair.due.insert(number, (due, Instant::now()));
        let send = self.plan.message(place as u32, number, &pair.reader.name);
        let _ = pair.writer.tell.send(Told::Send(send)); // ended: unanswered at the end
    }

    /// Takes in what the devices heard.
    fn listen(&mut self) {
        let Run { pairs, found, latency_us, hop_us, ack_us, plan, .. } = self;
        for (place, pair) in pairs.iter_mut().enumerate() {
            while let Ok(heard) = pair.writer.hear.try_recv() {
                match heard {
                    Heard::Said(Said::Stored(_, id, seq), at) => {
                        let number = id.get(12..16).and_then(|n| n.try_into().ok());
                        let number = u32::from_be_bytes(number.unwrap_or_default());
                        pair.acknowledged += 1;
                        let rises = |(n, s): (u32, u64)| number > n && seq > s;
                        if !pair.newest.is_none_or(rises) {
                            found.misplaced_seqs += 1;
                        }
                        pair.newest = Some((number, seq));
                        if let Some((_, sent)) = pair.due.get(&number) {
                            ack_us.saturating_record(micros_between(*sent, at));
                        }
                    }
                    Heard::Said(Said::Refused(_, _, code), _) => found.refused.push(code),
                    other => found.other(other),
                }
            }
            while let Ok(heard) = pair.reader.hear.try_recv() {
                let Heard::Said(Said::Message(_, message), at) = heard else {
                    found.other(heard);
                    continue;
                };
                match payload::read(plan.run, message.text.as_bytes()) {
                    Read::Ours(stamp) if stamp.publisher as usize == place => {
                        // The writer's own numbers: a message lost, doubled or misplaced shows.
                        if u64::from(stamp.number) != pair.received {
                            found.out_of_order += 1;
                        }
                        pair.received += 1;
                        if let Some((due, sent)) = pair.due.get(&stamp.number) {
                            latency_us.saturating_record(micros_between(*due, at));
                            hop_us.saturating_record(micros_between(*sent, at));
                        }
                    }
                    _ => found.damaged += 1,
                }
            }
        }
    }

    async fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) -> Result<(), String> {
        let end = Instant::now() + self.plan.settle;
        loop {
            self.listen();
            if is_so(self) {
                return Ok(());
            }
            if Instant::now() >= end {
                let why = self.found.lost.last().map_or(String::new(), |why| format!("; {why}"));
                return Err(format!("not within {:?}: {what}{why}", self.plan.settle));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Ends the devices and tells what was found.
    async fn end(
        mut self,
        (sending, took): (Duration, Duration),
        unsettled: Option<String>,
        (before, after): (Option<&crate::metrics::Scrape>, Option<&crate::metrics::Scrape>),
    ) -> Result<Report, String> {
        self.listen();
        let sum = |of: fn(&Pair) -> u64| self.pairs.iter().map(of).sum::<u64>();
        let (sent, acknowledged) = (sum(|p| p.sent), sum(|p| p.acknowledged));
        let received = sum(|p| p.received);
        let mut ended = Ended::default();
        for pair in self.pairs {
            for End { tell, task, .. } in [pair.writer, pair.reader] {
                drop(tell);
                let one = task.await.map_err(|e| format!("a device failed: {e}"))?;
                ended.connects += one.connects;
                ended.requests += one.requests;
                ended.duplicates += one.duplicates;
                ended.unanswered += one.unanswered;
            }
        }
        let totals = Totals { sent, acknowledged, received, sending, took, ended };
        let groups = vec![
            Group {
                title: "Messages",
                figures: totals.messages(&self.latency_us, &self.hop_us, &self.ack_us),
            },
            Group { title: "Devices", figures: totals.devices(self.found.kills, &self.lag_us) },
            self.plan.server_figures(before, after),
        ];
        let lag_ms = self.lag_us.value_at_quantile(0.99) / 1000;
        Ok(self.plan.report("chat", groups, totals.checks(&self.found, unsettled, lag_ms)))
    }
}

/// What a run came to.
struct Totals {
    sent: u64,
    acknowledged: u64,
    received: u64,
    sending: Duration,
    took: Duration,
    ended: Ended,
}

fn count(key: &str, label: &str, n: u64) -> Figure {
    Figure::new(key, label, "", Value::Count(n))
}

impl Totals {
    fn messages(
        &self,
        latency_us: &Histogram<u64>,
        hop_us: &Histogram<u64>,
        ack_us: &Histogram<u64>,
    ) -> Vec<Figure> {
        let rate = self.acknowledged as f64 / self.took.as_secs_f64().max(1e-3);
        let sending = Value::Real(self.sending.as_secs_f64(), 2);
        let mut messages = vec![
            count("messages_sent", "sent", self.sent),
            count("messages_acknowledged", "acknowledged", self.acknowledged),
            count("messages_received", "received by the other one", self.received),
            Figure::new("acknowledged_per_s", "acknowledged a second", "", Value::Real(rate, 1)),
            Figure::new("sending_s", "time of sending", "s", sending),
        ];
        messages.extend(latency("latency_ms", "due to received", latency_us));
        messages.extend(latency("hop_ms", "sent to received", hop_us));
        messages.extend(latency("ack_ms", "sent to acknowledged", ack_us));
        messages
    }

    fn devices(&self, kills: u64, lag_us: &Histogram<u64>) -> Vec<Figure> {
        let lag = Value::Real(lag_us.value_at_quantile(0.99) as f64 / 1e3, 3);
        let again = self.ended.duplicates;
        vec![
            count("connects", "connects", self.ended.connects),
            count("kills", "sockets killed by the tester", kills),
            count("requests", "syncs and pulls", self.ended.requests),
            count("pushed_again", "messages that came again and were dropped", again),
            Figure::new("timer_lag_ms_p99", "own timers late, p99", "ms", lag),
        ]
    }

    fn checks(&self, found: &Findings, unsettled: Option<String>, lag_ms: u64) -> Vec<Check> {
        let Totals { sent, acknowledged, received, ended, .. } = self;
        let (refused, lost) = (found.refused.len() as u64, found.lost.len() as u64);
        let mut why = found.lost.last().cloned().unwrap_or_else(|| "none lost".into());
        if why.contains(Code::Flooding.name()) {
            why += " (the pairs send faster than the server's engine.frames_per_s_max lets one \
                    connection: raise it there, or ask for fewer with --rate)";
        }
        vec![
            Check::new(
                "received_as_sent",
                received == sent && unsettled.is_none(),
                unsettled.unwrap_or_else(|| format!("{received} of {sent}")),
            ),
            Check::new(
                "acknowledged",
                acknowledged == sent && ended.unanswered == 0,
                format!("{acknowledged} of {sent}, {} without an answer", ended.unanswered),
            ),
            Check::none("order", found.out_of_order, "messages lost, doubled or out of place"),
            Check::none("seqs", found.misplaced_seqs, "acknowledgements out of the order sent"),
            Check::none("content", found.damaged, "messages damaged or not this run's"),
            Check::none("refused", refused, "messages refused"),
            Check::new("connection_lost", lost == 0, format!("{lost}: {why}")),
            Check::new(
                TESTER_LIMITED,
                lag_ms <= TIMER_LAG_MS_MAX,
                format!("its timers were {lag_ms} ms late (p99; allowed are {TIMER_LAG_MS_MAX})"),
            ),
        ]
    }
}

impl Findings {
    fn other(&mut self, heard: Heard) {
        match heard {
            Heard::Connected => self.connected += 1,
            Heard::Lost(why) => self.lost.push(why),
            Heard::FirstPage(_) | Heard::Receipts(..) | Heard::Said(..) => {}
        }
    }
}

fn micros_between(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(u64::MAX).max(1)
}
