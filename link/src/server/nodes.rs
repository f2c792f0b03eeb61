//! The nodes that are linked: to control, all of them are its engine.
//!
//! Owns sessions: which engine has which number, what it was told and has not heard, what it asked.
//! Never waits, never opens a connection.

use super::batches::{Arrived, Batches};
use super::buffer::Buffer;
use crate::v1::{Asks, Hello, Linked, Load};
use crate::words::{
    Bad, from_tell, to_ask, to_kept_question, to_lines, to_penalties, to_question, to_report,
    to_seen,
};
use crate::{BUILD, VERSION, random_name};
use bytes::Bytes;
use prost::Message as _;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use uproar_proto::control::{
    Ask, Command, Control, Engine, KeptQuestion, Lines, NodeInfo, NodeLoad, Penalties, Question,
    Reply, Report, RoomInfo, Sample, SampleKind, SampleValue, Seen, Tell, Which,
};
use uproar_proto::error::Code;

/// Nodes that may be linked, those whose session is about to end included. Reached: hello is
/// answered 503.
const NODES_MAX: usize = 1_024;
/// A node that says nothing for this long has gone: its session ends.
const SILENT_MAX: Duration = Duration::from_secs(30);

/// See the module.
pub struct Nodes {
    state: Mutex<State>,
    figures: Figures,
    started: Instant,
    decides: AtomicBool,
}

#[derive(Default)]
struct State {
    /// By number.
    nodes: BTreeMap<u16, Node>,
    /// The last number given.
    last: u16,
    /// What every session begins with: which life of the store is served, what messages are held
    /// against, and who may not connect.
    first: First,
    /// The process is ending: streams end, and nobody is linked any more.
    is_over: bool,
}

/// The first words of a session, as they were told last.
#[derive(Default)]
struct First {
    generation: Option<Bytes>,
    filter: Option<Bytes>,
    blocks: Option<Bytes>,
}

impl First {
    /// Where a word is remembered that every session begins with.
    fn place_of(tell: &Tell) -> Option<fn(&mut First) -> &mut Option<Bytes>> {
        match tell {
            Tell::Generation(_) => Some(|first| &mut first.generation),
            Tell::Filter(_) => Some(|first| &mut first.filter),
            Tell::Blocks(_) => Some(|first| &mut first.blocks),
            _ => None,
        }
    }
}

#[derive(Default)]
struct Figures {
    batches: AtomicU64,
    repeats: AtomicU64,
    asks: AtomicU64,
    told: AtomicU64,
    /// For nodes that are linked no more.
    dropped: AtomicU64,
    resumed: AtomicU64,
    anew: AtomicU64,
    overruns: AtomicU64,
    silent: AtomicU64,
}

/// One engine's session.
struct Node {
    session: u64,
    instance: u64,
    address: String,
    http: String,
    load: Load,
    /// When it last said something.
    said: Instant,
    buffer: Buffer,
    batches: Arc<Mutex<Batches<Said>>>,
    stream: Option<Stream>,
    streams: u64,
}

/// The stream of a session, where it stands.
struct Stream {
    number: u64,
    wake: Arc<Notify>,
}

/// What a batch says.
struct Said {
    asks: Vec<Ask>,
    seen: Vec<Seen>,
    lines: Vec<Lines>,
    questions: Vec<Question>,
    reports: Vec<Report>,
    penalties: Vec<Penalties>,
    kept_questions: Vec<KeptQuestion>,
}

impl Said {
    fn of(node: u16, asks: Asks) -> Result<Said, Bad> {
        let asks_of = asks.asks.into_iter().map(|ask| to_ask(node, ask));
        let seen = asks.seen.into_iter().map(|seen| to_seen(node, seen));
        let lines = asks.lines.into_iter().map(to_lines);
        let questions = asks.questions.into_iter().map(|question| to_question(node, question));
        let reports = asks.reports.into_iter().map(|report| to_report(node, report));
        let penalties = asks.penalties.into_iter().map(to_penalties);
        let kept = asks.kept_questions.into_iter().map(|one| to_kept_question(node, one));
        Ok(Said {
            asks: asks_of.collect::<Result<_, _>>()?,
            seen: seen.collect::<Result<_, _>>()?,
            lines: lines.collect::<Result<_, _>>()?,
            questions: questions.collect::<Result<_, _>>()?,
            reports: reports.collect::<Result<_, _>>()?,
            penalties: penalties.collect::<Result<_, _>>()?,
            kept_questions: kept.collect::<Result<_, _>>()?,
        })
    }

    fn tell(self, control: &dyn Control) {
        self.asks.into_iter().for_each(|ask| control.ask(ask));
        self.seen.into_iter().for_each(|seen| control.seen(seen));
        self.lines.into_iter().for_each(|lines| control.lines(lines));
        self.questions.into_iter().for_each(|question| control.question(question));
        self.reports.into_iter().for_each(|report| control.report(report));
        // What is to be kept before what is asked of it.
        self.penalties.into_iter().for_each(|penalties| control.penalties(penalties));
        self.kept_questions.into_iter().for_each(|question| control.kept(question));
    }
}

/// Why an engine's request came to nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It speaks another version.
    Version(String),
    /// There are too many, or the process is ending.
    Unavailable(&'static str),
    /// There is no such session.
    Gone,
    /// It cannot be read.
    Bad(String),
}

/// Where the next words of a stream are.
pub(super) enum Next {
    /// These, up to this seq.
    Chunk(Vec<u8>, u64),
    /// There are none yet.
    Later,
    /// Another stream, or none, has its place.
    Over,
}

impl Default for Nodes {
    fn default() -> Nodes {
        let (state, figures, decides) = Default::default();
        Nodes { state, figures, started: Instant::now(), decides }
    }
}

impl Nodes {
    fn state(&self) -> MutexGuard<'_, State> {
        // Whole at every moment: what its holder did not get to is missing, not half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Streams end, and nobody is linked any more.
    pub fn end(&self) {
        let mut state = self.state();
        state.is_over = true;
        state.nodes.values().for_each(Node::wake);
        state.nodes.clear();
    }

    /// Whether a webhook decides about messages of rooms: each engine is told as it links.
    pub fn decides(&self, decides: bool) {
        self.decides.store(decides, Relaxed);
    }

    /// An engine says hello: its session, resumed or new.
    pub(super) fn hello(&self, hello: Hello, now: Instant) -> Result<Linked, Refused> {
        if hello.version != VERSION {
            let (theirs, build) = (hello.version, hello.build);
            return Err(Refused::Version(format!(
                "the engine speaks version {theirs} of the link (uproar {build}), control version \
                 {VERSION} (uproar {BUILD}); run both of one release"
            )));
        }
        let Hello { version: _, build: _, instance, address, http, load, resume } = hello;
        let load = load.unwrap_or_default();
        let mut state = self.state();
        if state.is_over {
            return Err(Refused::Unavailable("control is ending"));
        }
        let linked = |session, resumed| {
            let (build, decides) = (BUILD.to_owned(), self.decides.load(Relaxed));
            Ok(Linked { version: VERSION, build, session, resumed, decides })
        };
        let theirs = |node: &&mut Node| node.instance == instance;
        if let Some(node) = state.nodes.values_mut().find(theirs)
            && let Some(place) = resume.filter(|place| place.session == node.session)
            && node.buffer.resumes(place.heard)
        {
            (node.address, node.http, node.load, node.said) = (address, http, load, now);
            self.figures.resumed.fetch_add(1, Relaxed);
            return linked(node.session, true);
        }
        // Its earlier session is over; so is that of a process whose place it has taken.
        state.retain(|node| {
            node.instance != instance && (node.address != address || node.stream.is_some())
        });
        let Some(number) = state.free_number() else {
            return Err(Refused::Unavailable("as many engines are linked as may be"));
        };
        let session = random_name();
        tracing::info!(%address, node = number, "an engine is linked, and begins anew");
        let mut buffer = Buffer::default();
        let First { generation, filter, blocks } = &state.first;
        for first in [generation, filter, blocks].into_iter().flatten() {
            // Empty until now: there is room.
            let _ = buffer.push(first.clone());
        }
        let node = Node {
            session,
            instance,
            address,
            http,
            load,
            said: now,
            buffer,
            batches: Arc::default(),
            stream: None,
            streams: 0,
        };
        state.nodes.insert(number, node);
        self.figures.anew.fetch_add(1, Relaxed);
        linked(session, false)
    }

    /// A batch of an engine has arrived: what is due of it goes to control.
    pub(super) fn asked(
        &self,
        asks: Asks,
        control: &dyn Control,
        now: Instant,
    ) -> Result<(), Refused> {
        let (session, number) = (asks.session, asks.number);
        let (node, batches) = {
            let mut state = self.state();
            let (node_number, node) = state.of(session).ok_or(Refused::Gone)?;
            node.buffer.heard(asks.heard);
            (node.load, node.said) = (asks.load.unwrap_or(node.load), now);
            (node_number, Arc::clone(&node.batches))
        };
        let bad = |what: &str| Refused::Bad(format!("batch {number}: {what}"));
        let said = Said::of(node, asks).map_err(bad)?;
        // Held while control takes it in, so that batches do not overtake each other here.
        let mut batches = batches.lock().unwrap_or_else(PoisonError::into_inner);
        match batches.arrive(number, said) {
            Arrived::Now(due) => {
                self.figures.batches.fetch_add(1, Relaxed);
                for said in due {
                    self.figures.asks.fetch_add(said.asks.len() as u64, Relaxed);
                    said.tell(control);
                }
            }
            Arrived::Before => drop(self.figures.repeats.fetch_add(1, Relaxed)),
            Arrived::TooFar => return Err(bad("it is too far ahead")),
        }
        Ok(())
    }

    /// An engine opens its stream behind `after`, in place of the one it had: the new one's number,
    /// and what wakes it.
    pub(super) fn open_stream(
        &self,
        session: u64,
        after: u64,
        now: Instant,
    ) -> Result<(u64, Arc<Notify>), Refused> {
        let mut state = self.state();
        let (_, node) = state.of(session).ok_or(Refused::Gone)?;
        if !node.buffer.resumes(after) {
            return Err(Refused::Gone);
        }
        node.wake();
        node.buffer.heard(after);
        (node.said, node.streams) = (now, node.streams + 1);
        let (number, wake) = (node.streams, Arc::new(Notify::new()));
        node.stream = Some(Stream { number, wake: Arc::clone(&wake) });
        Ok((number, wake))
    }

    /// What a stream that has come to `after` brings next.
    pub(super) fn next(&self, session: u64, stream: u64, after: u64) -> Next {
        let mut state = self.state();
        match state.of(session) {
            Some((_, node)) if node.has_stream(stream) => match node.buffer.chunk(after) {
                (chunk, _) if chunk.is_empty() => Next::Later,
                (chunk, seq) => Next::Chunk(chunk, seq),
            },
            _ => Next::Over,
        }
    }

    /// A stream's connection has gone.
    pub(super) fn stream_ended(&self, session: u64, stream: u64) {
        if let Some((_, node)) = self.state().of(session)
            && node.has_stream(stream)
        {
            node.stream = None;
        }
    }

    /// Ends the sessions of nodes that say nothing any more.
    pub(super) fn sweep(&self, now: Instant) {
        self.state().retain(|node| {
            let is_there = now - node.said < SILENT_MAX;
            if !is_there {
                self.figures.silent.fetch_add(1, Relaxed);
                tracing::warn!(address = node.address, "an engine has been silent for too long");
            }
            is_there
        });
    }

    /// Puts a word into the buffers it is for.
    fn put(&self, to: Option<u16>, word: &Bytes) {
        let (mut put, mut overrun) = (0, Vec::new());
        let mut state = self.state();
        let numbers = to.map_or(0..=u16::MAX, |to| to..=to);
        for (number, node) in state.nodes.range_mut(numbers) {
            put += 1;
            node.wake();
            if node.buffer.push(word.clone()).is_err() {
                let address = &node.address;
                tracing::warn!(address, "an engine hears less than it is told; it begins anew");
                overrun.push(*number);
            }
        }
        self.figures.overruns.fetch_add(overrun.len() as u64, Relaxed);
        overrun.iter().for_each(|number| drop(state.nodes.remove(number)));
        drop(state);
        self.figures.told.fetch_add(put, Relaxed);
        if to.is_some() && put == 0 {
            self.figures.dropped.fetch_add(1, Relaxed);
        }
    }
}

impl State {
    fn of(&mut self, session: u64) -> Option<(u16, &mut Node)> {
        let mut nodes = self.nodes.iter_mut();
        nodes.find(|(_, node)| node.session == session).map(|(number, node)| (*number, node))
    }

    /// A session that ends takes its stream with it.
    fn retain(&mut self, keep: impl Fn(&Node) -> bool) {
        self.nodes.retain(|_, node| {
            let is_kept = keep(node);
            if !is_kept {
                node.wake();
            }
            is_kept
        });
    }

    /// A number that was not given for as long as possible: what is told to its former node is on
    /// its way for much shorter than it takes to give all of them.
    fn free_number(&mut self) -> Option<u16> {
        if self.nodes.len() >= NODES_MAX {
            return None;
        }
        loop {
            self.last = self.last.checked_add(1).unwrap_or(1);
            if !self.nodes.contains_key(&self.last) {
                return Some(self.last);
            }
        }
    }
}

impl Node {
    fn has_stream(&self, number: u64) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.number == number)
    }

    fn wake(&self) {
        if let Some(stream) = &self.stream {
            stream.wake.notify_one();
        }
    }
}

impl Engine for Nodes {
    fn tell(&self, tell: Tell) -> Result<(), Tell> {
        let to = match &tell {
            Tell::Opened { to, .. } | Tell::Answer { to, .. } | Tell::Show { to, .. } => {
                Some(to.node)
            }
            Tell::Judged { node, .. } => Some(*node),
            Tell::Kept(kept) => Some(kept.node),
            _ => None,
        };
        let place = First::place_of(&tell);
        if let Some(words) = from_tell(tell) {
            let word: Bytes = words.encode_to_vec().into();
            // Before it is put: whoever is linked in between hears it twice, not never.
            if let Some(place) = place {
                *place(&mut self.state().first) = Some(Bytes::clone(&word));
            }
            self.put(to, &word);
        }
        Ok(())
    }

    /// There are no rooms here.
    fn command(&self, command: Command) {
        command.refuse(Code::RoomNotFound);
    }

    fn list(&self, _which: Which, _limit: usize, reply: Reply<Vec<RoomInfo>>) {
        reply(Ok(Vec::new()));
    }

    fn rooms_at(&self) -> Option<Vec<String>> {
        let state = self.state();
        let nodes = state.nodes.values().filter(|node| node.stream.is_some());
        Some(nodes.map(|node| node.http.clone()).collect())
    }

    fn metrics(&self) -> Vec<Sample> {
        let f = &self.figures;
        let mut samples: Vec<Sample> = [
            ("uproar_link_batches_total", "batches of asks taken in", &f.batches),
            ("uproar_link_batch_repeats_total", "batches that had come before", &f.repeats),
            ("uproar_link_asks_total", "asks taken in", &f.asks),
            ("uproar_link_told_total", "words put into buffers of nodes", &f.told),
            ("uproar_link_dropped_total", "words for nodes that are gone", &f.dropped),
            ("uproar_link_resumed_total", "streams that went on where they were", &f.resumed),
            ("uproar_link_anew_total", "sessions, each begins everything anew", &f.anew),
            ("uproar_link_overruns_total", "sessions ended by a full buffer", &f.overruns),
            ("uproar_link_silent_total", "sessions ended by silence", &f.silent),
        ]
        .map(|(name, help, value)| sample(name, help, None, value.load(Relaxed)))
        .into();
        let state = self.state();
        let up = |node: &Node| u64::from(node.stream.is_some());
        for node in state.nodes.values() {
            let (words, bytes) = node.buffer.used();
            for (name, help, value) in [
                ("uproar_link_node_up", "1 while the node hears", up(node)),
                ("uproar_link_node_connections", "connections of the node", node.load.connections),
                ("uproar_link_node_words", "words the node has not heard yet", words as u64),
                ("uproar_link_node_bytes", "bytes of those words", bytes as u64),
            ] {
                samples.push(sample(name, help, Some(&node.address), value));
            }
        }
        samples
    }

    fn node(&self) -> NodeInfo {
        let state = self.state();
        let sum = |of: fn(&Load) -> u64| state.nodes.values().map(|node| of(&node.load)).sum();
        NodeInfo {
            version: BUILD.to_owned(),
            io: "none".to_owned(),
            io_reason: "a control process has no shards".to_owned(),
            shards: 0,
            connections: sum(|load| load.connections),
            connections_max: sum(|load| load.connections_max),
            rooms: 0,
            draining: state.is_over,
            uptime_s: self.started.elapsed().as_secs(),
        }
    }

    fn nodes(&self) -> Vec<NodeLoad> {
        let load = |node: &Node| NodeLoad {
            address: node.address.clone(),
            connections: node.load.connections,
            connections_max: node.load.connections_max,
            // What it cannot be told, it cannot serve.
            closed: node.load.closed || node.stream.is_none(),
        };
        self.state().nodes.values().map(load).collect()
    }

    fn ready(&self) -> bool {
        !self.state().is_over
    }
}

fn sample(name: &'static str, help: &'static str, node: Option<&str>, value: u64) -> Sample {
    let kind = if node.is_some() { SampleKind::Gauge } else { SampleKind::Counter };
    let labels = node.map(|node| ("node", node.to_owned())).into_iter().collect();
    Sample { name, help, kind, labels, value: SampleValue::Number(value as f64) }
}

#[cfg(test)]
mod tests;
