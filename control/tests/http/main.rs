//! The HTTP interface as a backend sees it: the real server, real sockets, an engine in memory.

mod accounts;
mod admin;
mod blocks;
mod client;
mod contract;
mod documented;
mod ending;
mod engine;
mod filter;
mod generated;
mod groups;
mod moderation;
mod node;
mod operators;
mod pages;
mod publish;
mod quality;
mod relations;
mod rooms;
mod security;
mod settings;
mod upsert;
