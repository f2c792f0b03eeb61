//! What the facts about a host mean for uproar: facts in, verdicts out.
//!
//! Owns the bounds and the words. Never reads a file, a clock or a socket: `facts.rs` does.

use serde::Serialize;
use std::net::SocketAddr;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// As it should be.
    Ok,
    /// uproar runs, and not as well as it could.
    Warn,
    /// uproar does not run here, or loses what it promises.
    Fail,
}

impl Verdict {
    pub(super) fn word(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
        }
    }
}

/// One line of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub(super) name: String,
    pub(super) verdict: Verdict,
    pub(super) reason: String,
    /// What to do; empty where nothing is to be done.
    pub(super) remedy: String,
}

impl Check {
    pub(super) fn ok(name: &str, reason: String) -> Check {
        Check { name: name.into(), verdict: Verdict::Ok, reason, remedy: String::new() }
    }

    pub(super) fn warn(name: &str, reason: String, remedy: impl Into<String>) -> Check {
        Check { name: name.into(), verdict: Verdict::Warn, reason, remedy: remedy.into() }
    }

    pub(super) fn fail(name: &str, reason: String, remedy: impl Into<String>) -> Check {
        Check { name: name.into(), verdict: Verdict::Fail, reason, remedy: remedy.into() }
    }
}

/// The kernel that has all the driver on io_uring needs.
const KERNEL_URING: (u32, u32) = (6, 1);
/// The kernel that has SO_REUSEPORT, which shards share their port by.
const KERNEL_MIN: (u32, u32) = (3, 9);

/// `release`: as in `/proc/sys/kernel/osrelease`.
pub(super) fn kernel(release: &str) -> Check {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let version = match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => {
            let reason = format!("its version cannot be read from {release:?}");
            return Check::warn("kernel", reason, "uproar is made for Linux 6.1 or later");
        }
    };
    if version < KERNEL_MIN {
        let reason = format!("Linux {release} has no SO_REUSEPORT");
        return Check::fail("kernel", reason, "install Linux 6.1 or later");
    }
    if version < KERNEL_URING {
        let reason = format!("Linux {release} is too old for io_uring as uproar uses it");
        return Check::warn("kernel", reason, "Linux 6.1 or later; until then epoll serves");
    }
    Check::ok("kernel", format!("Linux {release}"))
}

/// `probed`: what a trial of the engine's own said; `demanded`: engine.io is "uring".
pub(super) fn io_uring(probed: Result<String, String>, demanded: bool) -> Check {
    let remedy = "sysctl kernel.io_uring_disabled=0; in a container, a seccomp profile that \
                  permits io_uring_setup, io_uring_enter and io_uring_register";
    match probed {
        Ok(how) => Check::ok("io_uring", how),
        Err(why) if demanded => Check::fail("io_uring", why, remedy),
        Err(why) => Check::warn("io_uring", format!("{why}; epoll serves instead"), remedy),
    }
}

/// The open-file limit, and what is wanted of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenFiles {
    pub(super) soft: u64,
    pub(super) hard: u64,
    /// Descriptor tables that the connections are spread over; 1 where shards share one.
    pub(super) tables: u64,
    /// Connections in all.
    pub(super) connections: u64,
    /// Whether somebody asked for so many, in the configuration or on the command line.
    pub(super) asked: bool,
    /// Whether the process raises its soft limit to the hard one.
    pub(super) raises: bool,
}

/// 90 % of a limit are connections, as the engine counts it.
pub(super) fn open_files(facts: OpenFiles) -> Check {
    let OpenFiles { soft, hard, tables, connections, asked, raises } = facts;
    let limit = if raises { hard } else { soft };
    let fit = (limit / 10).saturating_mul(9).saturating_mul(tables);
    let each = match tables {
        1 => String::new(),
        tables => format!(", in each of {tables} shards"),
    };
    let reason = format!("soft {soft}, hard {hard}{each}: {fit} connections fit");
    if fit >= connections {
        return Check::ok("open files", reason);
    }
    let needed = connections.div_ceil(tables).saturating_mul(10) / 9 + 10;
    let reason = format!("{reason}, wanted are {connections}");
    let remedy = format!(
        "LimitNOFILE={needed} in the unit, --ulimit nofile={needed} of a container, or ulimit -n \
         {needed}"
    );
    let remedy = if raises { format!("{remedy}; or more engine.shards") } else { remedy };
    if asked {
        Check::fail("open files", reason, remedy)
    } else {
        Check::warn("open files", reason, remedy)
    }
}

/// What a connection costs at most while little is under way: 200 B of ours, and the kernel's
/// socket with its buffers, which it shrinks when memory is short.
const CONNECTION_BYTES: u64 = 10_000;
/// A process without connections: rings, rooms, store.
const PROCESS_BYTES: u64 = 128 << 20;

/// `available_bytes`: what the machine could still give; `limit_bytes`: the bound of the cgroup.
pub(super) fn memory(available_bytes: u64, limit_bytes: Option<u64>, connections: u64) -> Check {
    let needed = PROCESS_BYTES + connections * CONNECTION_BYTES;
    let (has, of) = match limit_bytes {
        Some(limit) if limit < available_bytes => (limit, "the memory limit of this cgroup is"),
        _ => (available_bytes, "available are"),
    };
    let reason = format!("{of} {}, {connections} connections take {}", mib(has), mib(needed));
    if has >= needed {
        return Check::ok("memory", reason);
    }
    let remedy = "more memory (MemoryMax= in the unit, the container's limit), or a bound: \
                  engine.connections_per_shard_max";
    Check::warn("memory", reason, remedy)
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// The disk of the store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Disk {
    pub(super) free_bytes: u64,
    /// The median and the worst of some writes with fdatasync.
    pub(super) sync_us: u64,
    pub(super) sync_us_worst: u64,
}

/// Below it the next checkpoint or backup may not fit.
const FREE_FAIL: u64 = 100 << 20;
/// Below it somebody should look soon: weeks of a small store, hours of a busy one.
const FREE_WARN: u64 = 2 << 30;
/// An acknowledgement waits for one; the store shares it among all sends that wait.
const SYNC_WARN_US: u64 = 20_000;

/// `found`: why it cannot be written, or how it is.
pub(super) fn disk(folder: &str, found: Result<Disk, (std::io::ErrorKind, String)>) -> Check {
    use std::io::ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem, StorageFull};
    let room = "make room, or let old messages go (store.retention_days)";
    let Disk { free_bytes, sync_us, sync_us_worst } = match found {
        Ok(disk) => disk,
        Err((kind, error)) => {
            let (reason, remedy) = match kind {
                NotFound => (
                    format!("{folder} does not exist"),
                    format!("mkdir -p {folder}, owned by the user that runs uproar"),
                ),
                PermissionDenied | ReadOnlyFilesystem => (
                    format!("{folder} cannot be written: {error}"),
                    "run this as the user that runs uproar; chown the folder to it, or (in a \
                     unit) ReadWritePaths= or StateDirectory="
                        .into(),
                ),
                StorageFull => (format!("{folder} is full: {error}"), room.into()),
                _ => (
                    format!("{folder} cannot be used: {error}"),
                    "look at the disk, or move the store (store.url)".into(),
                ),
            };
            return Check::fail("disk", reason, remedy);
        }
    };
    let (ms, worst_ms) = (sync_us as f64 / 1e3, sync_us_worst as f64 / 1e3);
    let reason = format!(
        "{folder}: {} free, fdatasync takes {ms:.1} ms (worst {worst_ms:.1})",
        mib(free_bytes)
    );
    if free_bytes < FREE_FAIL {
        Check::fail("disk", reason, room)
    } else if free_bytes < FREE_WARN {
        Check::warn("disk", reason, room)
    } else if sync_us > SYNC_WARN_US {
        let remedy = "a disk of its own, or a faster one: every acknowledgement waits for this";
        Check::warn("disk", reason, remedy)
    } else {
        Check::ok("disk", reason)
    }
}

/// The clock of the host.
#[derive(Clone, Debug, Default)]
pub(super) struct Clock {
    /// What it shows, seconds since 1970.
    pub(super) unix_s: u64,
    /// How far it moved against the monotonic clock while this was looked at.
    pub(super) jumped_ms: i64,
    /// How far in the future the store was last written.
    pub(super) store_ahead_s: u64,
    /// Whether systemd-timesyncd says that it is synchronised.
    pub(super) synchronised: bool,
    /// A program that runs here and sets clocks.
    pub(super) keeper: Option<String>,
}

/// 2026-01-01: no host with this program shows an earlier time rightly.
const CLOCK_MIN_S: u64 = 1_767_225_600;
/// Slewing moves a clock by 0.5 ms a second: this much at once is a step.
const JUMP_MS: i64 = 50;
/// File systems and networks round; more than this and the clock was set back.
const AHEAD_S: u64 = 60;

pub(super) fn clock(clock: &Clock) -> Check {
    let start = "start a time service: systemctl enable --now systemd-timesyncd (or chrony)";
    if clock.unix_s < CLOCK_MIN_S {
        let reason = format!("it shows {} s since 1970, which is past", clock.unix_s);
        return Check::fail("clock", format!("{reason}: no token would be valid"), start);
    }
    if clock.store_ahead_s > AHEAD_S {
        let ahead = clock.store_ahead_s;
        let reason = format!("the store was last written {ahead} s in the future");
        return Check::warn("clock", format!("{reason}: the clock was set back"), start);
    }
    if clock.jumped_ms.abs() > JUMP_MS {
        let reason = format!("it jumped by {} ms within this check", clock.jumped_ms);
        let remedy = "let a time service slew it; a step ends or prolongs tokens and leases";
        return Check::warn("clock", reason, remedy);
    }
    match &clock.keeper {
        _ if clock.synchronised => Check::ok("clock", "synchronised (systemd-timesyncd)".into()),
        // It does not say so in a file: its own tool does.
        Some(keeper) => Check::ok("clock", format!("{keeper} runs and keeps it")),
        None => Check::warn("clock", "no time service is seen to keep it".into(), start),
    }
}

/// `keys`: what of the configuration asks over https; `found`: why nobody could be verified.
pub(super) fn certificates(keys: &str, found: Result<(), String>) -> Check {
    match found {
        Ok(()) => Check::ok("certificates", format!("there are some to verify {keys} with")),
        Err(why) => Check::fail(
            "certificates",
            format!("{keys}: {why}"),
            "apt install ca-certificates, or its like; SSL_CERT_FILE where they are elsewhere",
        ),
    }
}

/// What is at an address.
#[derive(Clone, Debug)]
pub(super) enum Port {
    Free,
    /// Programs with their process ids; empty where they are not to be seen.
    Held(Vec<(String, u32)>),
    /// It cannot be opened for another reason.
    Refused(std::io::ErrorKind, String),
}

/// `key`: as in the configuration; `flag`: what sets it on the command line.
pub(super) fn port(key: &str, flag: &str, address: SocketAddr, found: Port) -> Check {
    use std::io::ErrorKind::{AddrNotAvailable, PermissionDenied};
    let other = format!("choose another with {flag} ADDR or {key}");
    match found {
        Port::Free if address.port() == 0 => Check::ok(key, format!("{address}: any free port")),
        Port::Free => Check::ok(key, format!("{address} is free")),
        Port::Held(by) if by.is_empty() => {
            let reason = format!("{address} is held by a process of somebody else");
            Check::fail(key, reason, format!("see who as root (ss -ltnp), or {other}"))
        }
        Port::Held(by) => {
            let names: Vec<String> =
                by.iter().map(|(name, pid)| format!("{name} (pid {pid})")).collect();
            let reason = format!("{address} is held by {}", names.join(", "));
            // A server that runs, or systemd holding the port for it: no defect of the host.
            let ours = |name: &str| name == "uproar" || name == "systemd";
            if by.iter().all(|(name, _)| ours(name)) {
                return Check::warn(key, reason, format!("to start another one, {other}"));
            }
            Check::fail(key, reason, format!("stop it, or {other}"))
        }
        Port::Refused(AddrNotAvailable, _) => {
            Check::fail(key, format!("no interface of this host has {address}"), other)
        }
        Port::Refused(PermissionDenied, _) => {
            let remedy =
                format!("AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit, or {other}");
            Check::fail(key, format!("{address}: ports below 1024 need a privilege"), remedy)
        }
        Port::Refused(_, error) => Check::fail(key, format!("{address}: {error}"), other),
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
