//! The HTTP interface as a backend sees it: the real server, real sockets, an engine in memory.

mod accounts;
mod client;
mod engine;
mod node;
mod publish;
mod relations;
mod rooms;
mod security;
mod upsert;
