//! Who may not connect: the newest list control told, in the form shards look it up in.
//!
//! Owns what of it is counted. How a list comes to the shards is [`Snapshots`]' business, what is
//! done with whoever is on it the shards'.

use crate::io::{Poster, thread_cpu_us};
use crate::shard::blocks::Active;
use crate::shard::message::Message;
use crate::shard::origin::device_key;
use crate::snapshot::{Ready, Snapshots};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use uproar_proto::blocks::{BlockList, Blocked};
use uproar_proto::control::{Sample, SampleKind, SampleValue};

/// See the module.
pub(crate) struct Blocks {
    snapshots: Snapshots<BlockList>,
    figures: Arc<Figures>,
}

#[derive(Default)]
struct Figures {
    blocks: AtomicU64,
    bytes: AtomicU64,
    made_us: AtomicU64,
}

/// A list that is ready.
pub(crate) type Now = Ready<BlockList, Active>;

/// Makes a list ready on the calling thread; `seed` is the shards'.
pub(crate) fn make(list: &Arc<BlockList>, seed: u64) -> Now {
    let blocked = Blocked::new(list, |device| device_key(seed, device));
    let active = Arc::new(Active { version: list.version, blocked });
    Ready { list: Arc::clone(list), active }
}

impl Blocks {
    /// Starts the thread; `now` is what the shards have been given at their start.
    ///
    /// # Errors
    /// Where the thread cannot be started.
    pub(crate) fn start(
        poster: Poster<Message>,
        now: Option<Now>,
        seed: u64,
    ) -> Result<Blocks, String> {
        let figures = Arc::<Figures>::default();
        if let Some(now) = &now {
            figures.count(now, 0);
        }
        let of = Arc::clone(&figures);
        let make = move |list: &Arc<BlockList>| {
            let begun_us = thread_cpu_us();
            let now = make(list, seed);
            of.count(&now, thread_cpu_us() - begun_us);
            tracing::info!(version = list.version, "another list of blocks is in effect");
            Some(now.active)
        };
        let snapshots = Snapshots::start("blocks", poster, now, make, Message::Blocks)?;
        Ok(Blocks { snapshots, figures })
    }

    /// This list is to be in effect.
    pub(crate) fn told(&self, list: Arc<BlockList>) {
        self.snapshots.told(list);
    }

    /// Figures for `/metrics`.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        let f = &self.figures;
        let of = |name, help, value: f64| {
            let (kind, value) = (SampleKind::Gauge, SampleValue::Number(value));
            Sample { name, help, kind, labels: Vec::new(), value }
        };
        let gauge = |name, help, value: &AtomicU64| of(name, help, value.load(Relaxed) as f64);
        let last_s = f.made_us.load(Relaxed) as f64 / 1e6;
        vec![
            gauge("uproar_blocks_active", "blocked devices and networks in effect", &f.blocks),
            gauge("uproar_blocks_bytes", "bytes of the tables they are looked up in", &f.bytes),
            of("uproar_blocks_make_seconds", "CPU time that the last list took", last_s),
        ]
    }
}

impl Figures {
    fn count(&self, now: &Now, made_us: u64) {
        self.blocks.store(now.list.blocks.len() as u64, Relaxed);
        self.bytes.store(now.active.blocked.bytes_used() as u64, Relaxed);
        self.made_us.store(made_us, Relaxed);
    }
}
