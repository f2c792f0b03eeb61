//! What messages are held against: compiled beside the shards, and handed to all of them.
//!
//! Owns how a list is compiled and what of it is counted. How it comes to the shards is
//! [`Snapshots`]' business. Never looks at a message.

use crate::io::{Poster, thread_cpu_us};
use crate::shard::filter::Active;
use crate::shard::message::Message;
use crate::snapshot::{Ready, Snapshots};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use uproar_filter::{Filter, List};
use uproar_proto::control::{FilterList, Sample, SampleKind, SampleValue};

/// See the module.
pub(crate) struct Filters {
    state: Arc<State>,
    snapshots: Snapshots<FilterList>,
}

#[derive(Default)]
struct State {
    words: AtomicU64,
    regexes: AtomicU64,
    bytes: AtomicU64,
    rebuilds: AtomicU64,
    rebuild_us: AtomicU64,
    failed: AtomicU64,
}

impl Filters {
    /// Starts the thread; `now` is what the shards have been given at their start.
    ///
    /// # Errors
    /// Where the thread cannot be started.
    pub(crate) fn start(poster: Poster<Message>, now: Option<Now>) -> Result<Filters, String> {
        let state = Arc::<State>::default();
        let now = now.map(|now| {
            state.count(&now.compiled);
            Ready { list: now.list, active: now.active }
        });
        let of = Arc::clone(&state);
        let mut before = now.as_ref().map(|now| Arc::clone(&now.active));
        let make = move |list: &Arc<FilterList>| match compile(list, before.as_deref()) {
            Ok(next) => {
                before = Some(Arc::clone(&next.active));
                of.count(&next.compiled);
                tracing::info!(version = list.version, "another filter list is in effect");
                Some(next.active)
            }
            Err(error) => {
                of.failed.fetch_add(1, Relaxed);
                tracing::error!(version = list.version, %error, "a filter list is no good");
                None
            }
        };
        let snapshots = Snapshots::start("filter", poster, now, make, Message::Filter)?;
        Ok(Filters { state, snapshots })
    }

    /// This list is to be in effect.
    pub(crate) fn told(&self, list: Arc<FilterList>) {
        self.snapshots.told(list);
    }

    /// Figures for `/metrics`.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        let s = &self.state;
        let of = |name, help, kind, value: f64| {
            let value = SampleValue::Number(value);
            Sample { name, help, kind, labels: Vec::new(), value }
        };
        let gauge = |name, help, value: &AtomicU64| {
            of(name, help, SampleKind::Gauge, value.load(Relaxed) as f64)
        };
        let count = |name, help, value: &AtomicU64| {
            of(name, help, SampleKind::Counter, value.load(Relaxed) as f64)
        };
        let last_s = s.rebuild_us.load(Relaxed) as f64 / 1e6;
        let help = "CPU time that compiling the last filter list took";
        vec![
            gauge("uproar_filter_words", "words of the filter list in effect", &s.words),
            gauge("uproar_filter_regexes", "regexes of the filter list in effect", &s.regexes),
            gauge("uproar_filter_bytes", "bytes of the automaton of the words", &s.bytes),
            count("uproar_filter_rebuilds_total", "filter lists compiled", &s.rebuilds),
            count("uproar_filter_failed_total", "filter lists that were no good", &s.failed),
            of("uproar_filter_rebuild_seconds", help, SampleKind::Gauge, last_s),
        ]
    }
}

impl State {
    fn count(&self, compiled: &Compiled) {
        self.words.store(compiled.words, Relaxed);
        self.regexes.store(compiled.regexes, Relaxed);
        self.bytes.store(compiled.bytes, Relaxed);
        self.rebuild_us.store(compiled.took_us, Relaxed);
        self.rebuilds.fetch_add(1, Relaxed);
    }
}

/// A list that is ready.
pub(crate) struct Now {
    pub(crate) active: Arc<Active>,
    list: Arc<FilterList>,
    compiled: Compiled,
}

/// What a list has become.
struct Compiled {
    words: u64,
    regexes: u64,
    bytes: u64,
    took_us: u64,
}

/// Whether this engine could hold messages against a list.
///
/// # Errors
/// What is wrong with it.
pub fn check_filter(list: &Arc<FilterList>) -> Result<(), String> {
    compile(list, None).map(drop)
}

/// Compiles a list on the calling thread, as a change of the one `before`.
///
/// # Errors
/// What is wrong with it: control has compiled it before, so it is of another release.
pub(crate) fn compile(list: &Arc<FilterList>, before: Option<&Active>) -> Result<Now, String> {
    let begun_us = thread_cpu_us();
    let read = List::of_lines(&list.words, &list.regexes);
    let filter = match before {
        Some(before) => before.filter.changed(&read),
        None => Filter::compile(&read),
    };
    let filter = filter.map_err(|bad| bad.to_string())?;
    let compiled = Compiled {
        words: read.words.len() as u64,
        regexes: read.regexes.len() as u64,
        bytes: filter.bytes_used() as u64,
        took_us: thread_cpu_us() - begun_us,
    };
    let active = Arc::new(Active { version: list.version, filter });
    Ok(Now { active, list: Arc::clone(list), compiled })
}
