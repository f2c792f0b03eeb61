//! Stored conversations under test: pairs of friends, one big group, and users who come back to a
//! backlog.
//!
//! Owns the plan of a run, its phases and what it must show. Each device is a task that follows
//! the client contract (`uproar_proto::inbox`); nothing is believed that was not seen: the reader
//! counts the writer's own numbers, so a message lost, doubled or out of its place is found
//! whatever its seq says.

mod backend;
mod device;
mod group;
mod offline;
mod pairs;

use crate::args::{Inboxes, Named};
use crate::check::{self, Check};
use crate::metrics::Scrape;
use crate::payload::{self, Stamp};
use crate::plan::{self, MetricsFrom, SignIn};
use crate::report::{Figure, Group, Report, Value};
use crate::signin::Minter;
use hdrhistogram::Histogram;
use std::net::SocketAddr;
use std::time::Duration;
use uproar_engine::seam::Tick;
use uproar_proto::v1;

/// What all these scenarios need.
#[derive(Clone)]
pub(crate) struct Plan {
    target: SocketAddr,
    api: SocketAddr,
    api_key: String,
    minter: Minter,
    payload_bytes: usize,
    settle: Duration,
    expect: Vec<crate::expect::Expectation>,
    seed: u64,
    /// Marks this run's messages and users.
    run: u32,
}

impl Plan {
    fn new(inbox: &Inboxes, entropy: u64) -> Result<Plan, String> {
        let target = plan::resolve(&inbox.target)?;
        let api = match &inbox.api {
            Some(api) => plan::resolve(api)?,
            None => SocketAddr::new(target.ip(), 7480),
        };
        let payload_bytes = inbox.payload as usize;
        let (least, most) = (payload::PAYLOAD_BYTES_MIN, 64 * 1024);
        if !(least..=most).contains(&payload_bytes) {
            return Err(format!("--payload {payload_bytes}: allowed is {least} to {most}"));
        }
        let seed = inbox.seed.unwrap_or(entropy);
        Ok(Plan {
            target,
            api,
            api_key: inbox.api_key.clone(),
            minter: Minter::new(&SignIn::Secret(inbox.token_secret.clone()))?
                .ok_or("--token-secret is needed: guests have no conversations")?,
            payload_bytes,
            settle: inbox.settle.0,
            expect: inbox.expect.clone(),
            seed,
            // The seed may be given again; the run's users must be new ones all the same.
            run: (crate::dice::mix(entropy) >> 32) as u32,
        })
    }

    /// A user of this run alone.
    fn user(&self, role: &str, number: u32) -> String {
        format!("load-{:08x}-{role}-{number}", self.run)
    }

    /// The message that a writer of this number sends as its `number`-th.
    fn message(&self, writer: u32, number: u32, reader: &str) -> v1::Send {
        let due = Tick(0); // what is due when is the tester's own affair
        let stamp = Stamp { run: self.run, publisher: writer, number, measured: true, due };
        let mut id = [0; 16];
        id[..4].copy_from_slice(&self.run.to_be_bytes());
        id[4..8].copy_from_slice(&writer.to_be_bytes());
        id[12..].copy_from_slice(&number.to_be_bytes());
        v1::Send {
            conversation: format!("user:{reader}"),
            client_msg_id: bytes::Bytes::copy_from_slice(&id),
            text: payload::write(&stamp, self.payload_bytes),
            ..v1::Send::default()
        }
    }

    fn setup(&self) -> Vec<(&'static str, &'static str, String)> {
        vec![
            ("target", "target", self.target.to_string()),
            ("transport", "transport", "tcp".to_owned()),
            ("run", "run", format!("{:08x}", self.run)),
            ("seed", "seed", self.seed.to_string()),
        ]
    }

    fn scrape(&self) -> Option<Scrape> {
        let from = MetricsFrom::Http { authority: self.api.to_string(), path: "/metrics".into() };
        Scrape::take(&from).ok().flatten()
    }

    /// What the server used between two scrapes.
    fn server_figures(&self, before: Option<&Scrape>, after: Option<&Scrape>) -> Group {
        let grown = |name: &str| after?.grown(before?, name, &[]);
        let cpu = grown("process_cpu_seconds_total");
        let shards = grown("uproar_shard_cpu_microseconds_total").map(|us| us / 1e6);
        let rss = after.and_then(|scrape| scrape.sum("process_resident_memory_bytes", &[]));
        Group {
            title: "Server",
            figures: vec![
                Figure::new("server_cpu_seconds", "CPU", "s", Value::real(cpu, 2)),
                Figure::new("shard_cpu_seconds", "CPU of the shards", "s", Value::real(shards, 2)),
                Figure::new("server_rss_bytes", "resident memory", "bytes", Value::count(rss)),
            ],
        }
    }

    /// The report of a run that has these figures and checks.
    fn report(&self, scenario: &'static str, groups: Vec<Group>, mut checks: Vec<Check>) -> Report {
        let all: Vec<Figure> = groups.iter().flat_map(|group| group.figures.clone()).collect();
        checks.extend(check::expectations(&self.expect, &all));
        Report { scenario, setup: self.setup(), groups, checks, notes: Vec::new() }
    }
}

/// Microseconds up to ten minutes, to three digits.
fn micros() -> Result<Histogram<u64>, String> {
    Histogram::new_with_bounds(1, 600_000_000, 3).map_err(|e| e.to_string())
}

/// Percentiles of a histogram of microseconds, in milliseconds.
fn latency(key: &str, label: &str, histogram: &Histogram<u64>) -> Vec<Figure> {
    let at = |quantile: f64| {
        let us = histogram.value_at_quantile(quantile) as f64;
        Value::real((!histogram.is_empty()).then_some(us / 1e3), 3)
    };
    let rows = [("p50", 0.5), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)];
    let figure = |(rank, quantile): (&str, f64)| {
        Figure::new(&format!("{key}_{rank}"), &format!("{label}, {rank}"), "ms", at(quantile))
    };
    rows.into_iter().map(figure).collect()
}

/// Runs a scenario of stored conversations.
///
/// # Errors
/// In words, where nothing could be measured.
pub(crate) fn run(named: Named, entropy: u64) -> Result<Report, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("the tester could not start: {e}"))?;
    match named {
        Named::Chat { inbox, pairs, rate, duration, messages, kills_per_s } => {
            let plan = Plan::new(&inbox, entropy)?;
            if pairs == 0 || pairs > 10_000 {
                return Err(format!("--pairs {pairs}: allowed is 1 to 10,000"));
            }
            if !(0.0..=1e6).contains(&rate) || !(0.0..=1e4).contains(&kills_per_s) {
                return Err("--rate is 0 to 1,000,000 and --kills-per-s 0 to 10,000".into());
            }
            let traffic = pairs::Traffic {
                pairs,
                rate_per_s: rate,
                duration: duration.0,
                messages_max: messages.unwrap_or(u64::MAX),
                kills_per_s,
            };
            runtime.block_on(pairs::run(&plan, &traffic))
        }
        Named::Offline { inbox, messages, conversations, logins } => {
            let plan = Plan::new(&inbox, entropy)?;
            if conversations == 0 || conversations > 1_000 || logins == 0 {
                return Err("--conversations is 1 to 1,000 and --logins at least 1".into());
            }
            let backlog = offline::Backlog { messages, conversations, logins };
            runtime.block_on(offline::run(&plan, &backlog))
        }
        Named::Group { inbox, members, messages, rate, read_over } => {
            let plan = Plan::new(&inbox, entropy)?;
            if !(2..=18_000).contains(&members) || messages == 0 || rate <= 0.0 {
                return Err("--members is 2 to 18,000, --messages and --rate above 0".into());
            }
            let read_over = read_over.0;
            let crowd = group::Crowd { members, messages, rate_per_s: rate, read_over };
            runtime.block_on(group::run(&plan, &crowd))
        }
        Named::Room(_) => Err("a room is no conversation".into()),
    }
}
