//! uproar's control plane: tokens, rooms over HTTP, health and metrics.
//!
//! Owns the HTTP interface for backends and operators, and the minting of tokens. Knows the
//! engine by `uproar_proto::control::Engine` alone, is never called on the live path, and keeps
//! no state of its own: what a room is, its home knows.
#![forbid(unsafe_code)]

pub mod config;
pub mod conversations;
mod http;
mod ids;
mod process;
pub mod store;
pub mod tokens;

pub use config::{Config, StoreConfig};
pub use conversations::{Conversations, Rules};
pub use http::{Api, openapi_json, serve};
pub use store::Store;
