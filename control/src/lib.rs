//! uproar's control plane: tokens, rooms over HTTP, health and metrics.
//!
//! Owns the HTTP interface for backends and operators, and the minting of tokens. Knows the
//! engine by `uproar_proto::control::Engine` alone, is never called on the live path, and keeps
//! no state of its own: what a room is, its home knows.
#![forbid(unsafe_code)]

pub mod config;
mod http;
mod ids;
mod process;
pub mod store;
pub mod tokens;

pub use config::Config;
pub use http::{Api, openapi_json, serve};
