//! `group`: one big group. One member writes, all of them hear it, all of them read it.
//!
//! Proves that every member gets every message once and in order, and that the sender learns the
//! exact number of readers, in few frames, soon after the last one has read; and tells what a
//! message costs the server's disk, which is to be the same for ten members as for ten thousand.

use super::device::{Device, Ended, Heard, Told};
use super::{Plan, backend, latency, micros};
use crate::check::Check;
use crate::metrics::Scrape;
use crate::payload::{self, Read};
use crate::report::{Figure, Group, Report, Value};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use uproar_proto::inbox::Said;
use uproar_proto::v1;

/// Who is in it and what they do.
pub(super) struct Crowd {
    pub(super) members: u32,
    pub(super) messages: u32,
    pub(super) rate_per_s: f64,
    /// The members' reads are spread evenly over this.
    pub(super) read_over: Duration,
}

/// Devices that connect at a time.
const CONNECTS_AT_ONCE: u64 = 200;
/// Before anything is measured the writer sends so many messages to itself, one after the other:
/// what making the group left to be written (a checkpoint of the store) is written then.
const WARM_UP: u32 = 192;
/// How often the run looks around.
const LOOK: Duration = Duration::from_millis(5);
/// Receipts are told at most this often, and the last one this long after the last read.
const RECEIPTS_PER_S_MAX: u64 = 2;
const RECEIPTS_FINAL_MS_MAX: f64 = 1_000.0;

/// What all devices together have seen.
struct Found {
    connected: u64,
    caught_up: u64,
    warmed_up: u32,
    received: u64,
    acknowledged: u64,
    out_of_order: u64,
    damaged: u64,
    refused: u64,
    lost: Vec<String>,
    hop_us: Histogram<u64>,
    /// When each message was handed to the sender's device, by number.
    sent: Vec<Instant>,
    /// By seq: the newest count the sender was told, and when frames of them came.
    readers: BTreeMap<u64, u32>,
    receipts: Vec<Instant>,
    newest_seq: u64,
}

type Shared = Arc<Mutex<Found>>;

fn lock(found: &Shared) -> MutexGuard<'_, Found> {
    found.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A member's device, and the task that runs it.
struct Member {
    tell: mpsc::UnboundedSender<Told>,
    task: JoinHandle<Ended>,
}

/// Runs it.
pub(super) async fn run(plan: &Plan, crowd: &Crowd) -> Result<Report, String> {
    let names: Vec<String> = (0..crowd.members).map(|n| plan.user("member", n)).collect();
    let conversation = backend::group(plan, &names)?;
    let found = Arc::new(Mutex::new(Found {
        connected: 0,
        caught_up: 0,
        warmed_up: 0,
        received: 0,
        acknowledged: 0,
        out_of_order: 0,
        damaged: 0,
        refused: 0,
        lost: Vec::new(),
        hop_us: micros()?,
        sent: Vec::new(),
        readers: BTreeMap::new(),
        receipts: Vec::new(),
        newest_seq: 0,
    }));
    let mut members = Vec::with_capacity(names.len());
    for (at, name) in names.iter().enumerate() {
        members.push(start(plan, name, &found)?);
        let started = at as u64 + 1;
        until(plan, &found, "the members connect", |found| {
            found.connected + CONNECTS_AT_ONCE >= started
        })
        .await?;
    }
    let many = u64::from(crowd.members);
    until(plan, &found, "all have synced", |found| found.caught_up >= many).await?;
    warm_up(plan, &members[0], &names[0], &found).await?;
    let before = plan.scrape();
    send(plan, crowd, &members[0], &conversation, &found).await?;
    let due = many * u64::from(crowd.messages);
    let whole = until(plan, &found, "all messages arrive", |found| {
        found.received >= due && found.acknowledged >= u64::from(crowd.messages)
    });
    let whole = whole.await.err();
    let after = plan.scrape();
    let read = read(plan, crowd, &members, &conversation, &found).await;
    let ended = end(members).await?;
    let found = lock(&found);
    let written = written(before.as_ref(), after.as_ref(), crowd.messages);
    let server = plan.server_figures(before.as_ref(), after.as_ref());
    Ok(report(plan, crowd, &found, (whole, read), written, (server, ended)))
}

/// Begins a member's device; what it hears is counted at once.
fn start(plan: &Plan, name: &str, found: &Shared) -> Result<Member, String> {
    let (device, tell, mut hear) = Device::new(plan, name)?;
    let (found, run) = (Arc::clone(found), plan.run);
    let task = tokio::spawn(async move {
        let device = tokio::spawn(device.run());
        let mut next = 0;
        while let Some(heard) = hear.recv().await {
            lock(&found).take(run, &mut next, heard);
        }
        device.await.unwrap_or_default()
    });
    Ok(Member { tell, task })
}

impl Found {
    /// `next`: the number this member waits for.
    fn take(&mut self, run: u32, next: &mut u32, heard: Heard) {
        match heard {
            Heard::Connected => self.connected += 1,
            Heard::Lost(why) => self.lost.push(why),
            Heard::FirstPage(_) => {}
            Heard::Said(Said::CaughtUp, _) => self.caught_up += 1,
            Heard::Said(Said::Stored(name, _, seq), _) => {
                if !name.starts_with("group:") {
                    self.warmed_up += 1;
                    return;
                }
                self.acknowledged += 1;
                self.newest_seq = self.newest_seq.max(seq);
            }
            Heard::Said(Said::Refused(..), _) => self.refused += 1,
            // No part of this run.
            Heard::Said(
                Said::Reacted(_) | Said::Related(_) | Said::Settings(_) | Said::Anew,
                _,
            ) => {}
            Heard::Said(Said::Message(name, message), at) => {
                if message.kind() == v1::Kind::Notice || !name.starts_with("group:") {
                    return;
                }
                match payload::read(run, message.text.as_bytes()) {
                    Read::Ours(stamp) => {
                        self.out_of_order += u64::from(stamp.number != *next);
                        *next = stamp.number + 1;
                        self.received += 1;
                        if let Some(sent) = self.sent.get(stamp.number as usize) {
                            let us = at.saturating_duration_since(*sent).as_micros();
                            self.hop_us.saturating_record(us.max(1) as u64);
                        }
                    }
                    _ => self.damaged += 1,
                }
            }
            Heard::Receipts(receipts, at) => {
                self.receipts.push(at);
                self.readers.extend(receipts.counts.iter().map(|c| (c.seq, c.readers)));
            }
        }
    }

    /// Frames of receipts in the second that had most of them.
    fn receipts_per_s_max(&self) -> u64 {
        let within = |begin: &Instant| {
            let end = *begin + Duration::from_secs(1);
            self.receipts.iter().filter(|at| *at >= begin && **at < end).count() as u64
        };
        self.receipts.iter().map(within).max().unwrap_or(0)
    }
}

async fn until(
    plan: &Plan,
    found: &Shared,
    what: &str,
    is_so: impl Fn(&Found) -> bool,
) -> Result<(), String> {
    let end = Instant::now() + plan.settle;
    loop {
        {
            let found = lock(found);
            if is_so(&found) {
                return Ok(());
            }
            if Instant::now() >= end {
                let why = found.lost.last().map_or(String::new(), |why| format!("; {why}"));
                return Err(format!("not within {:?}: {what}{why}", plan.settle));
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn warm_up(plan: &Plan, writer: &Member, name: &str, found: &Shared) -> Result<(), String> {
    for number in 0..WARM_UP {
        let message = plan.message(1, number, name);
        writer.tell.send(Told::Send(message)).map_err(|_| "the writer ended".to_owned())?;
        until(plan, found, "the writer's notes are stored", |found| found.warmed_up > number)
            .await?;
    }
    Ok(())
}

/// The first member writes.
async fn send(
    plan: &Plan,
    crowd: &Crowd,
    writer: &Member,
    conversation: &str,
    found: &Shared,
) -> Result<(), String> {
    let begun = tokio::time::Instant::now();
    for number in 0..crowd.messages {
        let due = begun + Duration::from_secs_f64(f64::from(number) / crowd.rate_per_s);
        tokio::time::sleep_until(due).await;
        let message =
            v1::Send { conversation: conversation.to_owned(), ..plan.message(0, number, "") };
        lock(found).sent.push(Instant::now());
        writer.tell.send(Told::Send(message)).map_err(|_| "the writer ended".to_owned())?;
    }
    Ok(())
}

/// All others read everything; how long after the last of them the sender knew.
async fn read(
    plan: &Plan,
    crowd: &Crowd,
    members: &[Member],
    conversation: &str,
    found: &Shared,
) -> Result<Duration, String> {
    let (seq, expected) = (lock(found).newest_seq, crowd.members - 1);
    let begun = tokio::time::Instant::now();
    for (at, member) in members.iter().enumerate().skip(1) {
        let share = at as f64 / f64::from(expected);
        let due = begun + crowd.read_over.mul_f64(share);
        if due > tokio::time::Instant::now() {
            tokio::time::sleep_until(due).await;
        }
        let mark = Told::Mark(conversation.to_owned(), seq);
        member.tell.send(mark).map_err(|_| "a member ended".to_owned())?;
    }
    let last = Instant::now();
    until(plan, found, "the sender knows of all readers", |found| {
        let counts = found.readers.range(..=seq).rev().take(100);
        expected == 0 || (counts.clone().count() > 0 && counts.clone().all(|(_, n)| *n == expected))
    })
    .await?;
    let newest = lock(found).receipts.last().copied().unwrap_or(last);
    Ok(newest.saturating_duration_since(last))
}

async fn end(members: Vec<Member>) -> Result<Ended, String> {
    let mut all = Ended::default();
    for Member { tell, task } in members {
        drop(tell);
        let ended = task.await.map_err(|e| format!("a device failed: {e}"))?;
        all.connects += ended.connects;
        all.requests += ended.requests;
        all.duplicates += ended.duplicates;
        all.unanswered += ended.unanswered;
    }
    Ok(all)
}

/// Bytes the server wrote for each message.
fn written(before: Option<&Scrape>, after: Option<&Scrape>, messages: u32) -> Option<f64> {
    let grown = after?.grown(before?, "process_written_bytes_total", &[])?;
    Some(grown / f64::from(messages))
}

fn report(
    plan: &Plan,
    crowd: &Crowd,
    found: &Found,
    (whole, read): (Option<String>, Result<Duration, String>),
    written: Option<f64>,
    (server, ended): (Group, Ended),
) -> Report {
    let count = |key: &str, label: &str, n: u64| Figure::new(key, label, "", Value::Count(n));
    let due = u64::from(crowd.members) * u64::from(crowd.messages);
    let final_ms = read.as_ref().ok().map(|after| after.as_secs_f64() * 1e3);
    let mut messages = vec![
        count("members", "members, each with a device", u64::from(crowd.members)),
        count("messages_sent", "sent", u64::from(crowd.messages)),
        count("messages_acknowledged", "acknowledged", found.acknowledged),
        count("deliveries", "deliveries", found.received),
        count("deliveries_expected", "deliveries expected", due),
        Figure::new("written_bytes_per_send", "written a send", "bytes", Value::real(written, 0)),
    ];
    messages.extend(latency("hop_ms", "sent to received", &found.hop_us));
    let receipts = vec![
        count("receipt_frames", "frames of receipts", found.receipts.len() as u64),
        count("receipts_per_s_max", "in one second, at most", found.receipts_per_s_max()),
        Figure::new("receipts_final_ms", "after the last read", "ms", Value::real(final_ms, 1)),
        count("requests", "syncs and pulls", ended.requests),
    ];
    let lost = found.lost.len() as u64;
    let why = found.lost.last().cloned().unwrap_or_else(|| "none lost".into());
    let checks = vec![
        Check::new(
            "delivered",
            found.received == due && whole.is_none(),
            whole.unwrap_or_else(|| format!("{} of {due}", found.received)),
        ),
        Check::none("order", found.out_of_order, "messages lost, doubled or out of place"),
        Check::none("content", found.damaged, "messages damaged or not this run's"),
        Check::none("refused", found.refused, "messages refused"),
        Check::new("connection_lost", lost == 0, format!("{lost}: {why}")),
        Check::new(
            "receipts_exact",
            final_ms.is_some_and(|ms| ms <= RECEIPTS_FINAL_MS_MAX),
            read.map_or_else(|e| e, |after| format!("{after:?} after the last read")),
        ),
        Check::new(
            "receipts_coalesced",
            found.receipts_per_s_max() <= RECEIPTS_PER_S_MAX,
            format!("{} frames in one second", found.receipts_per_s_max()),
        ),
    ];
    let groups = vec![
        Group { title: "Messages", figures: messages },
        Group { title: "Receipts", figures: receipts },
        server,
    ];
    plan.report("group", groups, checks)
}
