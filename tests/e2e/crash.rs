//! Crashes under load: processes are killed at random moments, again and again, while pairs of
//! friends write to each other, and nothing that was acknowledged is ever lost.
//!
//! Owns the load, the ledger of what was acknowledged, and the check: against what the receivers
//! got, against retries, and against the rows of the database itself. What it finds comes back as
//! sentences, so that a test can show that the check finds what is missing.
//!
//! `UPROAR_CRASH_CYCLES` and `UPROAR_CRASH_SEED` make it longer and other (`scripts/bench-chat`).

use crate::chat::{relate, text};
use crate::device::{Device, Session};
use crate::maria::Maria;
use crate::server::Server;
use crate::stores::Rows;
use crate::tokens::config;
use crate::{DEADLINE, Io, uring_is_forbidden};
use serde_json::json;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use uproar_proto::inbox::Said;
use uproar_proto::v1::{client_frame, server_frame::Body};

/// Pairs of friends who write all the time.
const PAIRS: u32 = 6;
/// Messages of a pair without an answer at a time.
const UNANSWERED_MAX: usize = 32;
/// Before each kill so many messages are sent by somebody who never asks what became of them.
const ABANDONED: u32 = 40;
/// After each restart so many acknowledged messages are sent again.
const RETRIES: usize = 20;
/// A kill comes at random within this time, once messages are acknowledged again.
const UNTIL_KILL_MS: u64 = 300;

/// And so long after those have begun to be sent.
const UNTIL_ABANDONED_MS: u64 = 15;

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Victim {
    Server,
    MariaDb,
    Both,
}

/// What happens to the disk while the server is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disk {
    Keeps,
    /// The last restart finds the files as they were at the first one.
    Forgets,
}

pub(crate) struct Plan {
    pub(crate) victim: Victim,
    pub(crate) disk: Disk,
    pub(crate) cycles: u32,
    pub(crate) seed: u64,
}

impl Plan {
    /// As the environment says; else a short one.
    pub(crate) fn of(victim: Victim) -> Plan {
        let number = |name| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
        let cycles = number("UPROAR_CRASH_CYCLES").map_or(3, |n: u64| u32::try_from(n).unwrap());
        Plan { victim, disk: Disk::Keeps, cycles, seed: number("UPROAR_CRASH_SEED").unwrap_or(1) }
    }
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// The id of a message: who sent it, and the number it has there.
fn id(sender: u32, number: u32) -> u128 {
    u128::from(sender) << 64 | u128::from(number)
}

/// Sends of this "pair" are abandoned.
const ABANDONER: u32 = 1_000;

/// What all threads of the load share.
#[derive(Default)]
struct Ledger {
    /// Acknowledged: id and seq.
    acknowledged: Mutex<Vec<(u128, u64)>>,
    /// Messages a pair's writer has begun to send, and its reader has got, in order.
    sent: [AtomicU64; PAIRS as usize],
    received: [AtomicU64; PAIRS as usize],
    /// What must not be, in words.
    wrong: Mutex<Vec<String>>,
    /// Nothing new is sent.
    closing: AtomicBool,
    ended: AtomicBool,
}

impl Ledger {
    fn acknowledge(&self, id: u128, seq: u64) {
        self.acknowledged.lock().unwrap().push((id, seq));
    }

    fn wrong(&self, what: String) {
        self.wrong.lock().unwrap().push(what);
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }
}

fn writer(pair: u32) -> String {
    format!("writer-{pair}")
}

fn reader(pair: u32) -> String {
    format!("reader-{pair}")
}

/// Writes until it is told to end, and goes on until everything is answered.
fn write(ledger: &Ledger, server: SocketAddr, pair: u32) {
    let mut device = Device::new(server, &writer(pair));
    let (sent, mut newest) = (&ledger.sent[pair as usize], 0);
    while !ledger.ended.load(Ordering::Relaxed) {
        while !ledger.closing.load(Ordering::Relaxed) && device.inbox.unanswered() < UNANSWERED_MAX
        {
            let number = sent.fetch_add(1, Ordering::Relaxed) as u32;
            device.send(text(&reader(pair), id(pair, number), &number.to_string()));
        }
        for said in device.turn() {
            match said {
                Said::Stored(_, id, seq) => {
                    let id = u128::from_be_bytes(id[..].try_into().unwrap());
                    if seq <= newest {
                        ledger.wrong(format!("{id:x}: its seq {seq} does not follow {newest}"));
                    }
                    newest = seq;
                    ledger.acknowledge(id, seq);
                }
                Said::Refused(_, id, code) => ledger.wrong(format!("{id:?} is refused: {code}")),
                Said::Message(..) | Said::CaughtUp => {}
                Said::Reacted(_) | Said::Related(_) | Said::Settings(_) | Said::Anew => {}
            }
        }
        device.refused.drain(..).for_each(|why| ledger.wrong(why));
    }
}

/// Reads until it is told to end: every message once, in the order they were first sent.
fn read(ledger: &Ledger, server: SocketAddr, pair: u32) {
    let mut device = Device::new(server, &reader(pair));
    let received = &ledger.received[pair as usize];
    while !ledger.ended.load(Ordering::Relaxed) {
        for said in device.turn() {
            let Said::Message(_, message) = said else { continue };
            let expected = received.fetch_add(1, Ordering::Relaxed).to_string();
            if message.text != expected {
                let got = &message.text;
                ledger.wrong(format!("{}: {got} in the place of {expected}", reader(pair)));
            }
        }
        device.refused.drain(..).for_each(|why| ledger.wrong(why));
    }
}

/// The processes of a run.
struct World {
    server: Server,
    maria: Option<Maria>,
    /// The store's URL, as the server and the check see it.
    url: String,
    folder: PathBuf,
}

impl World {
    /// `None`: there is no MariaDB to be killed.
    fn start(victim: Victim) -> Option<World> {
        let maria = if victim == Victim::Server { None } else { Some(Maria::start()?) };
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!(
            "crash-{}-{victim:?}-{:?}",
            std::process::id(),
            Instant::now()
        ));
        std::fs::create_dir_all(&folder).unwrap();
        let url = match &maria {
            Some(maria) => maria.database("crash"),
            None => format!("sqlite:{}/chat.db", folder.display()),
        };
        let io = if uring_is_forbidden() { Io::Epoll } else { Io::Uring };
        let engine = "[engine]\nframes_per_s_max = 30000\n";
        let config = format!("{engine}{}[store]\nurl = \"{url}\"\n", config());
        let server = Server::start_alone(io, &config);
        for pair in 0..PAIRS {
            relate(&server, json!({"user": writer(pair), "peer": reader(pair), "friends": true}));
        }
        relate(&server, json!({"user": writer(ABANDONER), "peer": "anybody", "friends": true}));
        Some(World { server, maria, url, folder })
    }

    /// Kills, and starts again what was killed.
    fn crash(&mut self, plan: &Plan, dice: &mut Dice, between: impl FnOnce(&World)) {
        let maria_first = dice.below(2) == 0;
        let kill_maria = |world: &World| world.maria.iter().for_each(Maria::kill);
        if maria_first || plan.victim == Victim::MariaDb {
            kill_maria(self);
        }
        if plan.victim != Victim::MariaDb {
            self.server.kill();
        }
        if plan.victim == Victim::Both && !maria_first {
            kill_maria(self);
        }
        between(self);
        self.maria.iter().for_each(Maria::again);
        if plan.victim != Victim::MariaDb {
            self.server = self.server.start_in_its_place();
        }
    }

    /// The files of an SQLite store, and where they are kept aside.
    fn files(&self) -> impl Iterator<Item = (PathBuf, PathBuf)> {
        let names = ["chat.db", "chat.db-wal"];
        names
            .map(|name| (self.folder.join(name), self.folder.join(format!("{name}-aside"))))
            .into_iter()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder); // a leftover does no harm
    }
}

/// What a run came to.
pub(crate) struct Found {
    pub(crate) acknowledged: usize,
    pub(crate) retried: usize,
    pub(crate) rows: usize,
    /// Commits that were not answered, as the server's log says: of its last life.
    pub(crate) unknown: usize,
    pub(crate) wrong: Vec<String>,
}

/// Runs it; `None` where there is no MariaDB.
pub(crate) fn run(plan: &Plan) -> Option<Found> {
    let mut world = World::start(plan.victim)?;
    let ledger = Arc::new(Ledger::default());
    let threads = start_load(&ledger, world.server.clients);
    let mut dice = Dice(plan.seed);
    let mut retried = 0;
    let mut abandoned = 0;
    for cycle in 0..plan.cycles {
        let before = ledger.count();
        // Later ones are lost with the disk: they are what is to be found.
        until(&ledger, "messages are acknowledged", || ledger.count() > before + RETRIES);
        thread::sleep(Duration::from_millis(dice.below(UNTIL_KILL_MS)));
        let abandoner = abandon(&ledger, world.server.clients, abandoned);
        abandoned += ABANDONED;
        thread::sleep(Duration::from_millis(dice.below(UNTIL_ABANDONED_MS)));
        world.crash(plan, &mut dice, |world| {
            if plan.disk == Disk::Forgets && cycle == 0 {
                world.files().for_each(|(file, aside)| drop(std::fs::copy(file, aside)));
            } else if plan.disk == Disk::Forgets && cycle + 1 == plan.cycles {
                world.files().for_each(|(file, aside)| drop(std::fs::copy(aside, file)));
            }
        });
        abandoner.join().unwrap();
        retried += retry(&ledger, world.server.clients, &mut dice);
    }
    ledger.closing.store(true, Ordering::Relaxed);
    let sent = |pair: usize| ledger.sent[pair].load(Ordering::Relaxed);
    let all = |count: &dyn Fn(usize) -> u64| (0..PAIRS as usize).all(|p| count(p) >= sent(p));
    until(&ledger, "everything arrives", || all(&|p| ledger.received[p].load(Ordering::Relaxed)));
    ledger.ended.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let rows = check_rows(&ledger, &world.url, abandoned);
    let wrong = std::mem::take(&mut *ledger.wrong.lock().unwrap());
    let unknown = world.server.log().matches("a commit was not answered").count();
    Some(Found { acknowledged: ledger.count(), retried, rows, unknown, wrong })
}

fn start_load(ledger: &Arc<Ledger>, server: SocketAddr) -> Vec<JoinHandle<()>> {
    let mut threads = Vec::new();
    for pair in 0..PAIRS {
        let (one, other) = (Arc::clone(ledger), Arc::clone(ledger));
        threads.push(thread::spawn(move || write(&one, server, pair)));
        threads.push(thread::spawn(move || read(&other, server, pair)));
    }
    threads
}

/// Waits until something is so, or something is wrong.
fn until(ledger: &Ledger, what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !is_so() && ledger.wrong.lock().unwrap().is_empty() {
        if Instant::now() >= end {
            ledger.wrong(format!("never: {what}"));
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Somebody sends, and takes what answers come until the connection breaks.
fn abandon(ledger: &Arc<Ledger>, server: SocketAddr, first: u32) -> JoinHandle<()> {
    let ledger = Arc::clone(ledger);
    thread::spawn(move || {
        let Ok(mut session) = Session::open(server, &writer(ABANDONER)) else { return };
        for number in first..first + ABANDONED {
            let send = text("anybody", id(ABANDONER, number), &number.to_string());
            if session.send(client_frame::Body::Send(send)).is_err() {
                return;
            }
        }
        let mut left = ABANDONED;
        while left > 0
            && let Ok(heard) = session.hear()
        {
            for body in heard {
                let Body::Sent(sent) = body else { continue };
                left -= 1;
                if sent.code == 0 {
                    let id = u128::from_be_bytes(sent.client_msg_id[..].try_into().unwrap());
                    ledger.acknowledge(id, sent.seq);
                }
            }
        }
    })
}

/// Sends some of what was acknowledged again: each gets the seq it had. How many.
fn retry(ledger: &Ledger, server: SocketAddr, dice: &mut Dice) -> usize {
    let some: Vec<(u128, u64)> = {
        let all = ledger.acknowledged.lock().unwrap();
        (0..RETRIES).map(|_| all[dice.below(all.len() as u64) as usize]).collect()
    };
    for &(id, seq) in &some {
        let (sender, number) = ((id >> 64) as u32, (id as u32).to_string());
        let peer = if sender == ABANDONER { "anybody".to_owned() } else { reader(sender) };
        let mut device = Device::new(server, &writer(sender));
        device.send(text(&peer, id, &number));
        let end = Instant::now() + DEADLINE;
        let again = loop {
            let stored = device.turn().into_iter().find_map(|said| match said {
                Said::Stored(_, _, seq) => Some(Ok(seq)),
                Said::Refused(_, _, code) => Some(Err(code)),
                _ => None,
            });
            match stored {
                Some(stored) => break stored,
                None if Instant::now() >= end => break Err(0),
                None => {}
            }
        };
        if again != Ok(seq) {
            ledger.wrong(format!("{id:x} had the seq {seq}; sent again it got {again:?}"));
        }
    }
    some.len()
}

/// Reads the database itself: exactly one row for each id, with the seq that was acknowledged, and
/// for each row its content; of what was abandoned one or none. How many rows.
fn check_rows(ledger: &Ledger, url: &str, abandoned: u32) -> usize {
    let rows = Rows::open(url);
    let stored: Vec<(i64, i64, i64, i64)> = rows.read(
        "SELECT i.id_high, i.id_low, i.seq, i.conv FROM message_index i
            JOIN message_content c ON c.conv = i.conv AND c.seq = i.seq
            AND c.time_ms = i.time_ms ORDER BY i.conv, i.seq",
    );
    let count = |table: &str| rows.read::<(i64,)>(&format!("SELECT COUNT(*) FROM {table}"))[0].0;
    for table in ["message_index", "message_content"] {
        if count(table) != stored.len() as i64 {
            ledger.wrong(format!("{table}: {} rows, {} whole", count(table), stored.len()));
        }
    }
    let mut seqs: HashMap<u128, Vec<u64>> = HashMap::new();
    let mut heads: HashMap<i64, i64> = HashMap::new();
    for &(high, low, seq, conv) in &stored {
        let id = u128::from(high as u64) << 64 | u128::from(low as u64);
        seqs.entry(id).or_default().push(seq as u64);
        let head = heads.entry(conv).or_default();
        if seq != *head + 1 {
            ledger.wrong(format!("in the conversation {conv} {seq} follows {head}"));
        }
        *head = seq;
    }
    for (conv, head) in rows.read::<(i64, i64)>("SELECT conv, head FROM conversations") {
        if heads.get(&conv) != Some(&head) {
            ledger.wrong(format!("the head of {conv} is {head}, its rows {:?}", heads.get(&conv)));
        }
    }
    for (id, seq) in ledger.acknowledged.lock().unwrap().iter() {
        if seqs.get(id) != Some(&vec![*seq]) {
            ledger.wrong(format!("{id:x} was acknowledged as {seq}; rows: {:?}", seqs.get(id)));
        }
    }
    let pairs = (0..PAIRS).map(|pair| (pair, ledger.sent[pair as usize].load(Ordering::Relaxed)));
    for (pair, sent) in pairs.chain([(ABANDONER, u64::from(abandoned))]) {
        for number in 0..sent as u32 {
            let rows = seqs.remove(&id(pair, number)).map_or(0, |rows| rows.len());
            if rows != 1 && (pair != ABANDONER || rows > 1) {
                ledger.wrong(format!("{rows} rows of {pair}'s message {number}"));
            }
        }
    }
    if !seqs.is_empty() {
        ledger.wrong(format!("{} rows that nobody sent", seqs.len()));
    }
    stored.len()
}

/// Runs it and tells the figures; nothing may be wrong.
fn holds(plan: &Plan) {
    let begun = Instant::now();
    let Some(found) = run(plan) else { return };
    let Plan { victim, cycles, seed, .. } = plan;
    let Found { acknowledged, retried, rows, unknown, wrong } = found;
    println!(
        "crash: {victim:?} killed {cycles} times, seed {seed}: {acknowledged} acknowledged, {rows} \
         rows, {retried} sent again, {unknown} commits looked for, {} wrong, {:.0} s",
        wrong.len(),
        begun.elapsed().as_secs_f64()
    );
    let some: Vec<&String> = wrong.iter().take(20).collect();
    assert!(wrong.is_empty(), "{} wrong, seed {seed}: {some:#?}", wrong.len());
    assert!(acknowledged > 0 && rows >= acknowledged && retried > 0);
}

pub(crate) fn the_server_is_killed_and_nothing_acknowledged_is_lost() {
    holds(&Plan::of(Victim::Server));
}

pub(crate) fn mariadb_is_killed_and_nothing_acknowledged_is_lost() {
    holds(&Plan::of(Victim::MariaDb));
}

pub(crate) fn both_are_killed_and_nothing_acknowledged_is_lost() {
    holds(&Plan::of(Victim::Both));
}

/// The check finds what a disk forgot, or it proves nothing.
pub(crate) fn what_a_disk_forgot_is_found() {
    let plan = Plan { disk: Disk::Forgets, cycles: 2, ..Plan::of(Victim::Server) };
    let wrong = run(&plan).expect("on SQLite").wrong;
    assert!(!wrong.is_empty(), "acknowledged messages were taken away, and nobody noticed");
}
