//! What messages are held against: compiled beside the shards, and handed to all of them.
//!
//! Owns the thread that compiles a list and the newest list that waits for it. Shards go on with
//! the list they have until the next one is ready, and never compile, nor free, one themselves.
//! Never looks at a message.

use crate::io::{Poster, Relay, relay, thread_cpu_us};
use crate::shard::filter::Active;
use crate::shard::message::Message;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use uproar_filter::{Filter, List};
use uproar_proto::control::{FilterList, Sample, SampleKind, SampleValue};

/// A queue of a shard that is full empties within turns.
const POST_RETRY: Duration = Duration::from_millis(1);
/// How often it is looked whether all shards have taken the next list.
const LET_GO_EVERY: Duration = Duration::from_millis(5);
/// Looks before a list is left to the last shard that has it: a second.
const LET_GO_LOOKS: u32 = 200;

/// See the module.
pub(crate) struct Filters {
    state: Arc<State>,
    /// Wakes the thread. Full: it is awake, and looks for the newest list afterwards.
    work: Relay<()>,
}

#[derive(Default)]
struct State {
    /// Told and not compiled; one that is not the newest any more is never compiled.
    next: Mutex<Option<Arc<FilterList>>>,
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
        let first = now.as_ref().map(|now| Arc::clone(&now.list)).unwrap_or_default();
        let mut active = now.map(|now| {
            state.count(&now.compiled);
            now.active
        });
        let of = Arc::clone(&state);
        // Whoever is linked anew is told again what it has.
        let mut before = first;
        let take = move |()| {
            let next = of.next.lock().unwrap_or_else(PoisonError::into_inner).take();
            let Some(list) = next.filter(|list| **list != *before) else { return };
            match compile(&list) {
                Ok(next) => {
                    hand_out(&poster, &next.active);
                    of.count(&next.compiled);
                    tracing::info!(version = list.version, "another filter list is in effect");
                    let_go(active.replace(next.active));
                    before = list;
                }
                Err(error) => {
                    of.failed.fetch_add(1, Relaxed);
                    tracing::error!(version = list.version, %error, "a filter list is no good");
                }
            }
        };
        let work = relay("filter", 1, take).map_err(|e| e.to_string())?;
        Ok(Filters { state, work })
    }

    /// This list is to be in effect.
    pub(crate) fn told(&self, list: Arc<FilterList>) {
        *self.state.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(list);
        let _ = self.work.hand(());
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

/// Compiles a list on the calling thread.
///
/// # Errors
/// What is wrong with it: control has compiled it before, so it is of another release.
pub(crate) fn compile(list: &Arc<FilterList>) -> Result<Now, String> {
    let begun_us = thread_cpu_us();
    let read = List::of_lines(&list.words, &list.regexes);
    let filter = Filter::compile(&read).map_err(|bad| bad.to_string())?;
    let compiled = Compiled {
        words: read.words.len() as u64,
        regexes: read.regexes.len() as u64,
        bytes: filter.bytes_used() as u64,
        took_us: thread_cpu_us() - begun_us,
    };
    let active = Arc::new(Active { version: list.version, filter });
    Ok(Now { active, list: Arc::clone(list), compiled })
}

/// Every shard gets it, in the end: a shard whose queue is closed needs none.
fn hand_out(poster: &Poster<Message>, next: &Arc<Active>) {
    for shard in 0..poster.threads() {
        let mut message = Message::Filter(Arc::clone(next));
        while let Err(back) = poster.post(shard, message) {
            if poster.is_closed(shard) {
                break;
            }
            message = back;
            std::thread::sleep(POST_RETRY);
        }
    }
}

/// Frees a list here, once no shard has it any more: megabytes are not freed between two messages.
fn let_go(before: Option<Arc<Active>>) {
    let Some(before) = before else { return };
    for _ in 0..LET_GO_LOOKS {
        if Arc::strong_count(&before) == 1 {
            return;
        }
        std::thread::sleep(LET_GO_EVERY);
    }
}
