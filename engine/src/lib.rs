//! uproar's engine: shards, rooms and fan-out.
//!
//! Owns connections, membership and delivery. The protocol is pure (`shard`, `router`: bytes and
//! events in, bytes and actions out); sockets, clocks and threads live in `io`. Never calls the
//! control plane on the live path, never stores anything.
#![deny(unsafe_code)]

mod blocks;
pub mod cluster;
pub mod config;
mod engine;
mod filters;
pub mod hash;
mod hosted;
pub mod io;
pub mod metrics;
pub mod router;
pub mod seam;
pub mod shard;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod snapshot;

pub use engine::{
    Engine, relay_archive, relay_asks, relay_questions, relay_reports, start, start_with,
};
pub use filters::check_filter;
pub use hosted::{Upward, Ways};

/// The only hash map of the engine: seeded, so that no client can flood it and the simulator sees
/// the same order every time.
#[expect(clippy::disallowed_types, reason = "this is the definition of the seeded map")]
pub type Map<K, V> = std::collections::HashMap<K, V, hash::Seeded>;
/// As [`Map`], without values.
#[expect(clippy::disallowed_types, reason = "this is the definition of the seeded set")]
pub type Set<K> = std::collections::HashSet<K, hash::Seeded>;
