//! `offline`: a user comes back to a backlog in many conversations.
//!
//! Proves that all of it arrives, in order, without being asked for by id; and measures how soon
//! the first of it is there and how many requests the whole takes.

use super::device::{Device, Ended, Heard, NewDevice, Told};
use super::{Plan, backend, latency, micros};
use crate::check::Check;
use crate::payload::{self, Read};
use crate::report::{Figure, Group, Report, Value};
use hdrhistogram::Histogram;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use uproar_proto::inbox::Said;
use uproar_proto::v1;

/// Half as fast as engine.frames_per_s_max lets a client by default.
const WRITE_EVERY: Duration = Duration::from_millis(10);

/// What the user comes back to.
pub(super) struct Backlog {
    pub(super) messages: u64,
    pub(super) conversations: u32,
    pub(super) logins: u32,
}

/// How many messages each conversation gets: the first has about half of what is left, and so on,
/// but each at least one.
fn sizes(backlog: &Backlog) -> Vec<u64> {
    let count = u64::from(backlog.conversations);
    let mut left = backlog.messages.max(count);
    let mut sizes = Vec::new();
    for number in 0..count {
        let others = count - number - 1;
        let size = if others == 0 { left } else { (left / 8).max(1).min(left - others) };
        sizes.push(size);
        left -= size;
    }
    sizes
}

/// Runs it.
pub(super) async fn run(plan: &Plan, backlog: &Backlog) -> Result<Report, String> {
    let reader = plan.user("reader", 0);
    let names: Vec<(String, String)> =
        (0..backlog.conversations).map(|n| (plan.user("writer", n), reader.clone())).collect();
    backend::befriend(plan, &names)?;
    let sizes = sizes(backlog);
    fill(plan, &names, &sizes).await?;
    let before = plan.scrape();
    let mut found = Found::new()?;
    for _ in 0..backlog.logins {
        login(plan, &reader, &names, &sizes, &mut found).await?;
    }
    let after = plan.scrape();
    Ok(report(plan, backlog, &sizes, found, plan.server_figures(before.as_ref(), after.as_ref())))
}

/// The writers send their parts, all at once, while nobody reads.
async fn fill(plan: &Plan, names: &[(String, String)], sizes: &[u64]) -> Result<(), String> {
    let mut writers = JoinSet::new();
    for (place, ((writer, reader), size)) in names.iter().zip(sizes).enumerate() {
        let sends = (0..*size as u32).map(|number| plan.message(place as u32, number, reader));
        writers.spawn(write(Device::new(plan, writer)?, sends.collect(), plan.settle));
    }
    while let Some(written) = writers.join_next().await {
        written.map_err(|e| e.to_string())??;
    }
    Ok(())
}

/// One writer sends its part, no faster than a server lets a client by default. Nothing may come
/// back for `settle` at most.
async fn write(
    (device, tell, mut hear): NewDevice,
    sends: Vec<v1::Send>,
    settle: Duration,
) -> Result<(), String> {
    let task = tokio::spawn(device.run());
    let mut pace = tokio::time::interval(WRITE_EVERY);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let size = sends.len();
    let mut stored = 0;
    let mut sends = sends.into_iter();
    let mut end = tokio::time::Instant::now() + settle;
    while stored < size {
        tokio::select! {
            _ = pace.tick(), if sends.len() > 0 => {
                if let Some(send) = sends.next() {
                    tell.send(Told::Send(send)).map_err(|_| "a writer ended".to_owned())?;
                }
                end = tokio::time::Instant::now() + settle;
            }
            heard = tokio::time::timeout_at(end, hear.recv()) => match heard {
                Ok(Some(Heard::Said(Said::Stored(..), _))) => stored += 1,
                Ok(Some(Heard::Said(Said::Refused(_, _, code), _))) => {
                    return Err(format!("a message of the backlog was refused with code {code}"));
                }
                Ok(Some(Heard::Lost(why))) => {
                    return Err(format!("a writer lost its socket: {why}"));
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => {
                    return Err(format!("{stored} of {size} were stored within {settle:?}"));
                }
            },
        }
    }
    drop(tell);
    task.await.map_err(|e| e.to_string())?;
    Ok(())
}

struct Found {
    first_us: Histogram<u64>,
    whole_us: Histogram<u64>,
    requests_max: u64,
    requests: u64,
    received: u64,
    out_of_order: u64,
    damaged: u64,
    incomplete: u64,
}

impl Found {
    fn new() -> Result<Found, String> {
        Ok(Found {
            first_us: micros()?,
            whole_us: micros()?,
            requests_max: 0,
            requests: 0,
            received: 0,
            out_of_order: 0,
            damaged: 0,
            incomplete: 0,
        })
    }
}

/// The user logs in on a new device and takes everything in.
async fn login(
    plan: &Plan,
    reader: &str,
    names: &[(String, String)],
    sizes: &[u64],
    found: &mut Found,
) -> Result<(), String> {
    let (device, tell, mut hear) = Device::new(plan, reader)?;
    let begun = Instant::now();
    let task = tokio::spawn(device.run());
    let mut next: HashMap<String, u64> = HashMap::new();
    let end = tokio::time::Instant::now() + plan.settle;
    loop {
        match tokio::time::timeout_at(end, hear.recv()).await {
            Ok(Some(Heard::FirstPage(after))) => {
                found.first_us.saturating_record(after.as_micros() as u64);
            }
            Ok(Some(Heard::Said(Said::Message(name, message), _))) => {
                let expected = next.entry(name).or_default();
                match payload::read(plan.run, message.text.as_bytes()) {
                    Read::Ours(stamp)
                        if u64::from(stamp.number) == *expected && message.seq == *expected + 1 => {
                    }
                    Read::Ours(_) => found.out_of_order += 1,
                    _ => found.damaged += 1,
                }
                *expected += 1;
                found.received += 1;
            }
            Ok(Some(Heard::Said(Said::CaughtUp, at))) => {
                found.whole_us.saturating_record(at.duration_since(begun).as_micros() as u64);
                break;
            }
            Ok(Some(Heard::Lost(why))) => return Err(format!("the reader lost its socket: {why}")),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break,
        }
    }
    let whole = names.iter().zip(sizes).all(|((writer, _), size)| {
        next.get(&format!("user:{writer}")).copied().unwrap_or(0) == *size
    });
    found.incomplete += u64::from(!whole);
    drop(tell);
    let Ended { requests, .. } = task.await.map_err(|e| e.to_string())?;
    found.requests += requests;
    found.requests_max = found.requests_max.max(requests);
    Ok(())
}

fn report(plan: &Plan, backlog: &Backlog, sizes: &[u64], found: Found, server: Group) -> Report {
    let count = |key: &str, label: &str, n: u64| Figure::new(key, label, "", Value::Count(n));
    let expected = sizes.iter().sum::<u64>() * u64::from(backlog.logins);
    let mut figures = vec![
        count("messages_received", "received", found.received),
        count("messages_expected", "expected", expected),
        count("conversations", "conversations", u64::from(backlog.conversations)),
        count(
            "largest_conversation",
            "messages in the largest",
            sizes.iter().copied().max().unwrap_or(0),
        ),
        count("logins", "logins", u64::from(backlog.logins)),
        count("requests_max", "requests of one login, at most", found.requests_max),
    ];
    figures.extend(latency("first_page_ms", "connect to the first messages", &found.first_us));
    figures.extend(latency("whole_ms", "connect to all of it", &found.whole_us));
    let checks = vec![
        Check::none("complete", found.incomplete, "logins that lacked something"),
        Check::none("order", found.out_of_order, "messages out of place"),
        Check::none("content", found.damaged, "messages damaged or not this run's"),
    ];
    let groups = vec![Group { title: "Backlog", figures }, server];
    plan.report("offline", groups, checks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_is_spread_unevenly_and_nobody_is_left_out() {
        let of = |messages, conversations| sizes(&Backlog { messages, conversations, logins: 1 });
        let sizes = of(10_000, 50);
        assert_eq!((sizes.len(), sizes.iter().sum::<u64>()), (50, 10_000));
        assert!(sizes.iter().all(|size| *size >= 1) && sizes[0] >= 1_000);
        assert_eq!(of(3, 5), [1; 5]);
        assert_eq!(of(9, 1), [9]);
    }
}
