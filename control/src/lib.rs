//! uproar's control plane: accounts, relationships, tokens, rooms over HTTP, health and metrics.
//!
//! Owns the HTTP interface for people, backends and operators, the minting of tokens, and the store
//! of what must outlive a restart. Knows the engine by `uproar_proto::control::Engine` alone and is
//! never called on the live path; what a room is, its home knows.
#![forbid(unsafe_code)]

pub mod accounts;
pub mod config;
pub mod conversations;
mod fault;
mod http;
mod ids;
mod limits;
mod passwords;
mod process;
mod refresh;
pub mod relations;
pub mod store;
pub mod tokens;

pub use accounts::AccountSettings;
pub use config::{Config, StoreConfig};
pub use conversations::{Conversations, Rules};
pub use http::{Api, openapi_json, serve};
pub use store::Store;
