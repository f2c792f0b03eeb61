//! uproar's control plane: accounts, relationships, tokens, rooms over HTTP, health and metrics.
//!
//! Owns the HTTP interface for people, backends and operators, the minting of tokens, and the store
//! of what must outlive a restart. Knows the engine by `uproar_proto::control::Engine` alone and is
//! never called on the live path; what a room is, its home knows.
#![forbid(unsafe_code)]

pub mod accounts;
mod admin_login;
mod audit;
mod beside;
mod blocks;
pub mod config;
pub mod conversations;
pub mod danmaku;
mod export;
mod fault;
mod filters;
mod following;
mod groups;
mod guard;
mod http;
mod ids;
pub mod jwks;
mod limits;
#[cfg(test)]
mod listener;
pub mod outgoing;
mod passwords;
mod paths;
mod penalties;
mod process;
mod quality;
mod refresh;
pub mod relations;
mod search;
pub mod store;
mod tell;
pub mod tokens;
mod webhooks;

pub use accounts::AccountSettings;
pub use admin_login::AdminLogin;
pub use blocks::{Blocks, BlocksConfig};
pub use config::GroupsConfig;
pub use config::{AdminConfig, Config, PagesConfig, StoreConfig};
pub use conversations::{Conversations, Rules};
pub use danmaku::{Danmaku, DanmakuConfig, S3Config};
pub use filters::Filters;
pub use http::{Api, Bounds, Crowding, Figures, Unready, openapi_json, serve, serve_router};
pub use penalties::Penalties;
pub use quality::config::QualityConfig;
pub use quality::door::Reports;
pub use store::Store;
pub use webhooks::config::{WebhookSettings, check as check_webhooks};
pub use webhooks::{RoomGate, Webhooks};
