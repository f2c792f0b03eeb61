//! What the bench binaries share: the bare baseline, the sink that is the same for every server,
//! and the harness that runs the rows. Nothing here is part of the product, and nothing of the
//! product's fan-out is used here: the server is always a process of its own.
#![deny(unsafe_code)]

pub mod bare;
pub mod harness;
pub mod proc;
pub mod server;
pub mod sink;
pub mod steer;
#[allow(unsafe_code)] // system calls; every block says which rule it keeps
pub mod sys;
