//! What operators are given: `uproar doctor`, the units of systemd, the container's recipe, the
//! dashboard and the alerts. Each is held against a real server and against the host.

mod container;
mod doctor;
mod server;
mod systemd;
mod watching;
