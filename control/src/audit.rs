//! The audit log: who did what to whom, in which room, and why.
//!
//! Owns what an entry is, how long it is kept, and what becomes of one that could not be written:
//! what was done stays done, and the entry is in the log of the process, counted. Never decides who
//! may do what.

use crate::ids::random_id;
use crate::store::{Store, StoreError, audit as rows};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::timeout;
use uproar_proto::control::{Sample, SampleKind, SampleValue};

/// The longest reason, in characters.
pub(crate) const REASON_CHARS_MAX: usize = 256;
/// Bytes of what else is told of an entry. More is cut off.
const DETAIL_BYTES_MAX: usize = 512;
/// The longest wait for the store: what was done is answered then.
const WRITE_MAX: Duration = Duration::from_secs(2);
const DAY_MS: i64 = 24 * 3_600_000;

/// One thing that was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// When, milliseconds since 1970.
    pub(crate) at_ms: i64,
    /// Random; tells entries of one moment apart.
    pub(crate) id: i64,
    /// `key`: a backend with the API key; `operator`: one in a browser; else a user's name behind
    /// `user:`.
    pub(crate) who: String,
    /// The address it came from.
    pub(crate) origin: String,
    pub(crate) what: String,
    /// Empty: of no room.
    pub(crate) room: String,
    /// A user's name; empty: of nobody.
    pub(crate) whom: String,
    pub(crate) detail: String,
    pub(crate) reason: String,
}

/// See the module.
pub(crate) struct Audit {
    store: Option<Arc<Store>>,
    keep_ms: i64,
    written: AtomicU64,
    removed: AtomicU64,
    lost: AtomicU64,
}

impl Audit {
    /// In a store, where there is one; entries are kept for `days`.
    pub(crate) fn new(store: Option<Arc<Store>>, days: u32) -> Audit {
        Audit {
            store,
            keep_ms: i64::from(days) * DAY_MS,
            written: AtomicU64::new(0),
            removed: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        }
    }

    /// Writes entries of what was done just now.
    pub(crate) async fn write(&self, mut entries: Vec<Entry>) {
        let many = entries.len() as u64;
        for entry in &mut entries {
            entry.id = random_id();
            let end = entry.detail.floor_char_boundary(DETAIL_BYTES_MAX);
            entry.detail.truncate(end);
            // Without the one it was done to: this log outlives a name that is erased in the store.
            let Entry { who, origin, what, room, detail, reason, .. } = &entry;
            tracing::info!(who, from = origin, what, room, detail, reason, "audit");
        }
        let Some(store) = &self.store else {
            self.lost.fetch_add(many, Relaxed);
            return told_in_the_log_alone(&entries);
        };
        let at_ms = store.now_ms();
        entries.iter_mut().for_each(|entry| entry.at_ms = at_ms);
        let entries: Arc<[Entry]> = entries.into();
        let write = rows::write(store, Arc::clone(&entries), self.keep_ms);
        match timeout(WRITE_MAX, write).await {
            Ok(Ok(removed)) => {
                self.written.fetch_add(many, Relaxed);
                self.removed.fetch_add(removed, Relaxed);
            }
            failed => {
                self.lost.fetch_add(many, Relaxed);
                let error = failed.map_or_else(|_| None, Result::err);
                tracing::error!(?error, many, "entries of the audit log are in this log alone");
                told_in_the_log_alone(&entries);
            }
        }
    }

    /// A page, the newest first.
    pub(crate) async fn page(
        store: &Store,
        room: Option<&str>,
        after: Option<rows::After>,
        limit: i64,
    ) -> Result<Vec<Entry>, StoreError> {
        rows::page(store, room, after.unwrap_or((i64::MAX, i64::MAX)), limit).await
    }

    /// Figures for `/metrics`.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        let count = |name, help, value: &AtomicU64| {
            let value = SampleValue::Number(value.load(Relaxed) as f64);
            Sample { name, help, kind: SampleKind::Counter, labels: Vec::new(), value }
        };
        vec![
            count("uproar_audit_written_total", "entries of the audit log written", &self.written),
            count("uproar_audit_removed_total", "entries removed for their age", &self.removed),
            count("uproar_audit_lost_total", "entries in the process's log alone", &self.lost),
        ]
    }
}

/// To whom it was done, where no store has it.
fn told_in_the_log_alone(entries: &[Entry]) {
    for Entry { what, room, whom, .. } in entries {
        tracing::warn!(what, room, whom, "audit, in this log alone");
    }
}
