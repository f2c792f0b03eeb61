//! Which figures a run has: the groups that every scenario shows.
//!
//! Owns their keys, labels and units. What only one scenario shows is in its own file.

use super::{Figure, Group, Value};
use crate::args::CLASSES;
use crate::metrics::Scrape;
use crate::plan::Plan;
use crate::session::Facts;
use crate::summary::Summary;
use crate::tally::rank;
use hdrhistogram::Histogram;

/// A count.
pub(crate) fn count(key: &str, label: &str, n: u64) -> Figure {
    Figure::new(key, label, "", Value::Count(n))
}

/// Milliseconds of a histogram of microseconds at a rank; not known where it is empty.
pub(crate) fn millis(key: &str, label: &str, histogram: &Histogram<u64>, share: f64) -> Figure {
    let us = rank(histogram, share, histogram.len());
    Figure::new(key, label, "ms", Value::real(us.map(|us| us as f64 / 1e3), 1))
}

/// Who connected, and how fast.
pub(crate) fn crowd(plan: &Plan, facts: &Facts) -> Group {
    let outcome = &facts.outcome;
    let took_s = outcome.last_joined.since_us(outcome.first_begun) as f64 / 1e6;
    let per_s = (took_s > 0.0).then(|| outcome.established as f64 / took_s);
    Group {
        title: "Crowd",
        figures: vec![
            count("viewers", "viewers asked for", u64::from(plan.heads.viewers)),
            count("viewers_connected", "viewers in the room", outcome.viewers_established),
            count("publishers", "publishers", u64::from(plan.heads.publishers)),
            Figure::new(
                "connects_per_second",
                "connected, signed in and joined",
                "a second",
                Value::real(per_s, 0),
            ),
            millis("connect_ms_p99", "connect to joined, p99", &outcome.connect_us, 0.99),
            count("connects_failed", "connections given up", outcome.failed),
            count("connections_lost", "connections lost", outcome.lost),
        ],
    }
}

/// What was offered and what became of it.
pub(crate) fn messages(plan: &Plan, facts: &Facts, summary: &Summary) -> Group {
    let book = &summary.book;
    let duration_s = plan.duration_us as f64 / 1e6;
    let rate = |n: u64| Value::Real(n as f64 / duration_s, 1);
    let accepted = if plan.publishes() { book.offered } else { 0 };
    Group {
        title: "Messages (measured)",
        figures: vec![
            Figure::new("duration_s", "measured for", "s", Value::Real(duration_s, 1)),
            count("payload_bytes", "payload, bytes", plan.payload_bytes as u64),
            count("messages_offered", "offered", accepted),
            Figure::new("messages_offered_per_s", "offered a second", "", rate(book.offered)),
            count("messages_admitted", "admitted", summary.admitted),
            count("messages_merged", "merged", book.merged),
            count("messages_shed", "shed", book.shed),
            count("messages_refused", "refused", book.refused),
            count("messages_expired", "expired", book.expired),
            count("messages_unanswered", "without a verdict", book.unanswered()),
            millis("verdict_ms_p99", "sent to verdict, p99", &facts.outcome.books.verdict_us, 0.99),
        ],
    }
}

/// The same by class, where several are offered.
pub(crate) fn classes(summary: &Summary) -> Vec<Figure> {
    let mut figures = Vec::new();
    for (class, book) in CLASSES.iter().zip(&summary.books) {
        let columns = [
            ("offered", book.offered),
            ("accepted", book.accepted),
            ("merged", book.merged),
            ("shed", book.shed),
            ("refused", book.refused),
            ("expired", book.expired),
            ("unanswered", book.unanswered()),
        ];
        for (column, n) in columns {
            figures.push(count(&format!("{class}_{column}"), &format!("{class} {column}"), n));
        }
    }
    figures
}

/// What arrived, what did not, and how late.
pub(crate) fn deliveries(plan: &Plan, facts: &Facts, summary: &Summary) -> Group {
    let tally = &facts.outcome.tally;
    let duration_s = plan.duration_us as f64 / 1e6;
    let share = (summary.expected > 0).then(|| summary.deliveries as f64 / summary.expected as f64);
    let latency = |key: &str, label: &str, share: f64| {
        let value = match tally.latency_at(share, summary.expected) {
            Some(us) => Value::Real(us as f64 / 1e3, 1),
            None if summary.expected > 0 => Value::Infinite,
            None => Value::Unknown,
        };
        Figure::new(key, label, "ms", value)
    };
    Group {
        title: "Deliveries (measured; latency from when a message was due)",
        figures: vec![
            count("deliveries", "deliveries", summary.deliveries),
            count("deliveries_expected", "expected", summary.expected),
            Figure::new("delivered_share", "delivered share", "", Value::real(share, 6)),
            Figure::new(
                "deliveries_per_s",
                "logical deliveries a second",
                "",
                Value::Real(summary.deliveries as f64 / duration_s, 0),
            ),
            latency("latency_ms_p50", "latency, p50", 0.5),
            latency("latency_ms_p90", "latency, p90", 0.9),
            latency("latency_ms_p99", "latency, p99", 0.99),
            latency("latency_ms_p999", "latency, p99.9", 0.999),
            latency("latency_ms_max", "latency, max", 1.0),
            count("duplicates", "duplicates", tally.duplicates + summary.twice),
            count("out_of_order", "out of order", tally.out_of_order),
            count("gaps", "gaps told", tally.gaps),
            count("gap_messages", "messages named missing", tally.gap_messages),
            count(
                "unannounced_gaps",
                "gaps not told",
                tally.unannounced_gaps + facts.outcome.gaps_owed,
            ),
            count("viewers_equal", "viewers with equal content", summary.equal),
            count("viewers_unequal", "viewers with other content", summary.unequal),
        ],
    }
}

/// Two scrapes and what lies between them, as far as there are any.
struct Between<'a> {
    from: Option<&'a Scrape>,
    to: Option<&'a Scrape>,
}

impl Between<'_> {
    fn grown(&self, name: &str) -> Option<f64> {
        self.to?.grown(self.from?, name, &[])
    }

    fn last(&self, name: &str) -> Option<f64> {
        self.to?.sum(name, &[])
    }

    fn seconds(&self) -> Option<f64> {
        let seconds = self.to?.at.duration_since(self.from?.at).as_secs_f64();
        (seconds > 0.0).then_some(seconds)
    }

    /// Mean of a histogram of seconds, in milliseconds.
    fn mean_ms(&self, name: &str) -> Option<f64> {
        let (sum, n) = (self.grown(&format!("{name}_sum"))?, self.grown(&format!("{name}_count"))?);
        (n > 0.0).then_some(sum / n * 1e3)
    }

    /// The share of a core the busiest shard used.
    fn busiest(&self) -> Option<f64> {
        let cpu_of = |shard: u32| {
            let label = format!("shard=\"{shard}\"");
            self.to?.grown(self.from?, "uproar_shard_cpu_seconds_total", &[&label])
        };
        let most = (0..4096).map_while(cpu_of).reduce(f64::max)?;
        Some(most / self.seconds()?)
    }
}

/// What it cost the server, as far as it says.
pub(crate) fn server(plan: &Plan, facts: &Facts, summary: &Summary) -> Group {
    let mut between = Between { from: facts.scrapes.from.as_ref(), to: facts.scrapes.to.as_ref() };
    let started = |scrape: Option<&Scrape>| scrape?.sum("process_start_time_seconds", &[]);
    if started(between.from) != started(between.to) {
        between.from = None; // another process: its counters began anew
    }
    let mut figures = writes(plan, facts, &between);
    figures.extend(cost(summary, &between));
    figures.push(Figure::new(
        "server_gaps",
        "gaps it counted",
        "",
        Value::count(between.grown("uproar_gaps_total")),
    ));
    Group { title: "Server (while measured)", figures }
}

fn writes(plan: &Plan, facts: &Facts, between: &Between<'_>) -> Vec<Figure> {
    let received = facts.outcome.frames_measured;
    // Without the server's word, what this end received: a send of two frames counts twice.
    let counted = between.grown("uproar_socket_writes_total");
    let (writes, seconds) = match counted.zip(between.seconds()) {
        Some(known) => known,
        None => (received as f64, plan.duration_us as f64 / 1e6),
    };
    let per_s = Value::real(Some(writes / seconds), 0);
    let window = Value::real(between.mean_ms("uproar_batch_window_seconds"), 1);
    vec![
        Figure::new("socket_writes", "socket writes", "", Value::count(Some(writes))),
        Figure::new("socket_writes_per_s", "socket writes a second", "", per_s),
        count("frames_received", "frames received by the crowd", received),
        Figure::new("batch_window_ms_mean", "batch window, mean", "ms", window),
    ]
}

fn cost(summary: &Summary, between: &Between<'_>) -> Vec<Figure> {
    let shards = between.grown("uproar_shard_cpu_seconds_total");
    let process = between.grown("process_cpu_seconds_total").or(shards);
    let deliveries = summary.deliveries as f64;
    let one = shards.filter(|_| deliveries > 0.0).map(|s| s * 1e6 / deliveries);
    let sweep = Value::real(between.mean_ms("uproar_sweep_cpu_seconds"), 1);
    let busiest = Value::real(between.busiest(), 3);
    let bytes = |name: &str| Value::count(between.last(name));
    let rss = bytes("process_resident_memory_bytes");
    let anon = bytes("process_resident_anon_bytes");
    vec![
        Figure::new("sweep_cpu_ms_mean", "CPU of one sweep, mean", "ms", sweep),
        Figure::new("server_cpu_seconds", "CPU", "s", Value::real(process, 2)),
        Figure::new("server_shard_cpu_seconds", "CPU of the shards", "s", Value::real(shards, 2)),
        Figure::new("server_busiest_shard_share", "busiest shard's share of a core", "", busiest),
        Figure::new(
            "server_cpu_us_per_delivery",
            "shard CPU for one delivery",
            "µs",
            Value::real(one, 3),
        ),
        Figure::new("server_rss_bytes", "resident memory", "bytes", rss),
        Figure::new("server_rss_anon_bytes", "of it anonymous (user space)", "bytes", anon),
    ]
}

/// Whether the tester kept up.
pub(crate) fn tester(plan: &Plan, facts: &Facts) -> Group {
    let outcome = &facts.outcome;
    let reuse = (outcome.decoded > 0).then(|| outcome.frames as f64 / outcome.decoded as f64);
    Group {
        title: "Tester",
        figures: vec![
            count("tester_threads", "threads", plan.parts.len() as u64),
            Figure::new(
                "tester_busy_share_max",
                "busiest thread's share of a core",
                "",
                Value::Real(outcome.busy_share, 3),
            ),
            Figure::new(
                "tester_core_busy_share",
                "busiest of its own cores (--cores)",
                "",
                Value::real(facts.own_core_busy, 3),
            ),
            Figure::new(
                "machine_core_busy_share",
                "busiest core of this machine",
                "",
                Value::real(facts.any_core_busy, 3),
            ),
            Figure::new(
                "tester_cpu_seconds",
                "CPU of all threads",
                "s",
                Value::Real(outcome.cpu_us as f64 / 1e6, 2),
            ),
            millis("timer_lag_ms_p99", "own timers late, p99", &outcome.timer_lag_us, 0.99),
            millis("timer_lag_ms_max", "own timers late, max", &outcome.timer_lag_us, 1.0),
            Figure::new(
                "frames_per_decode",
                "frames for each one decoded",
                "",
                Value::real(reuse, 0),
            ),
            count("pings_sent", "pings sent", outcome.pings),
            count("pongs_received", "pongs received", outcome.pongs),
        ],
    }
}
