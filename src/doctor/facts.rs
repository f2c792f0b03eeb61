//! The facts about this host, from the kernel, the disk and the network. Nothing is left behind.
//!
//! Owns every question that is asked. What an answer means, `judge.rs` says.

use super::judge::{Clock, Disk, Port};
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Writes that the disk is judged by: enough for a median, and over within a second on a slow one.
const SYNCS: usize = 15;
/// What a commit of the store is at the least.
const SYNC_BYTES: usize = 4_096;

/// Programs that keep a clock, by the 15 letters that the kernel remembers.
const CLOCK_KEEPERS: [&str; 6] =
    ["chronyd", "ntpd", "ntpsec", "openntpd", "phc2sys", "systemd-timesyn"];
/// There once systemd-timesyncd has synchronised.
const SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";

/// A value below `/proc/sys`; `None` where this kernel does not have it or does not tell.
pub(super) fn sysctl(name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok()?;
    Some(text.trim_end().to_owned())
}

/// The open-file limit of this process: soft, hard.
pub(super) fn open_files() -> Option<(u64, u64)> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let mut words = line.split_ascii_whitespace();
    let mut number = || match words.next()? {
        "unlimited" => Some(u64::MAX),
        text => text.parse().ok(),
    };
    Some((number()?, number()?))
}

/// Bytes that the machine could still give, and what this cgroup may have, where it is bounded.
pub(super) fn memory() -> Option<(u64, Option<u64>)> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    let cgroup = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
    // Each level above bounds it too.
    let limits = Path::new(path.trim_start_matches('/')).ancestors().filter_map(|level| {
        let file = Path::new("/sys/fs/cgroup").join(level).join("memory.max");
        fs::read_to_string(file).ok()?.trim().parse::<u64>().ok()
    });
    Some((kib * 1024, limits.min()))
}

/// How the disk of a folder is, found by writing into it.
pub(super) fn disk(folder: &Path) -> Result<Disk, (ErrorKind, String)> {
    let told = |e: io::Error| (e.kind(), e.to_string());
    let room = rustix::fs::statvfs(folder).map_err(|e| told(e.into()))?;
    let mut took = syncs(folder).map_err(told)?;
    took.sort();
    let us = |at: usize| u64::try_from(took[at].as_micros()).unwrap_or(u64::MAX);
    Ok(Disk {
        free_bytes: room.f_bavail.saturating_mul(room.f_frsize),
        sync_us: us(SYNCS / 2),
        sync_us_worst: us(SYNCS - 1),
    })
}

/// How long writes with fdatasync take in a folder.
fn syncs(folder: &Path) -> io::Result<Vec<Duration>> {
    let trial = Trial(folder.join(format!(".uproar-doctor-{}", std::process::id())));
    let mut file = OpenOptions::new().write(true).create_new(true).open(&trial.0)?;
    let mut took = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let from = Instant::now();
        file.write_all(&[0x55; SYNC_BYTES])?;
        file.sync_data()?;
        took.push(from.elapsed());
    }
    Ok(took)
}

/// A file that is gone whatever happened to it.
struct Trial(PathBuf);

impl Drop for Trial {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0); // where it could not even be made
    }
}

/// Both clocks at one moment.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    wall: SystemTime,
    steady: Instant,
}

impl Moment {
    pub(super) fn now() -> Moment {
        Moment { wall: SystemTime::now(), steady: Instant::now() }
    }
}

/// The clock, since `from`; `store` is the file of the store.
pub(super) fn clock(from: Moment, store: Option<&Path>) -> Clock {
    let now = Moment::now();
    let unix_ms =
        |at: SystemTime| at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    let passed_ms = now.steady.duration_since(from.steady).as_millis() as i64;
    let written = store.and_then(|file| fs::metadata(file).ok()?.modified().ok());
    let ahead = written.and_then(|at| at.duration_since(now.wall).ok());
    Clock {
        unix_s: now.wall.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        jumped_ms: unix_ms(now.wall) - unix_ms(from.wall) - passed_ms,
        store_ahead_s: ahead.map_or(0, |ahead| ahead.as_secs()),
        synchronised: Path::new(SYNCHRONISED).exists(),
        keeper: processes()
            .into_iter()
            .map(|(_, name)| name)
            .find(|name| CLOCK_KEEPERS.contains(&name.as_str())),
    }
}

/// Every process that is to be seen, with its name.
fn processes() -> Vec<(u32, String)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        Some((pid, name.trim_end().to_owned()))
    })
    .collect()
}

/// What is at an address, found by opening it.
pub(super) fn port(address: SocketAddr) -> Port {
    match TcpListener::bind(address) {
        Ok(_) => Port::Free,
        Err(e) if e.kind() == ErrorKind::AddrInUse => Port::Held(holders(address)),
        Err(e) => Port::Refused(e.kind(), e.to_string()),
    }
}

/// Who listens there, as far as this user may see.
fn holders(address: SocketAddr) -> Vec<(String, u32)> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
    let sockets: Vec<String> = tables
        .into_iter()
        .flatten()
        .flat_map(|table| listening(&table, address))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let holds = |pid: u32| -> bool {
        // Threads too: each shard has a descriptor table of its own.
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
        threads.flatten().any(|thread| {
            let Ok(files) = fs::read_dir(thread.path().join("fd")) else { return false };
            files
                .flatten()
                .filter_map(|file| fs::read_link(file.path()).ok())
                .any(|leads| sockets.iter().any(|socket| leads.as_os_str() == socket.as_str()))
        })
    };
    let seen = processes().into_iter().filter(|(pid, _)| holds(*pid));
    seen.map(|(pid, name)| (name, pid)).collect()
}

/// The inodes of sockets in a table of the kernel (`/proc/net/tcp`) that listen where `address`
/// would.
fn listening(table: &str, address: SocketAddr) -> Vec<u64> {
    let of_line = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (ip, port) = fields.next()?.split_once(':')?;
        let listens = fields.nth(1)? == "0A";
        let inode: u64 = fields.nth(5)?.parse().ok()?;
        let same_port = u16::from_str_radix(port, 16) == Ok(address.port());
        let ip = kernel_ip(ip)?;
        let meets = ip == address.ip() || ip.is_unspecified() || address.ip().is_unspecified();
        (listens && same_port && meets).then_some(inode)
    };
    table.lines().skip(1).filter_map(of_line).collect()
}

/// An address as the kernel shows it: words of four bytes, each in the order of this machine.
fn kernel_ip(text: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let text = text.get(at * 8..at * 8 + 8)?;
        u32::from_str_radix(text, 16).ok().map(u32::to_ne_bytes)
    };
    match text.len() {
        8 => Some(IpAddr::from(Ipv4Addr::from(word(0)?))),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let mut bytes = [0; 16];
            for (place, byte) in bytes.iter_mut().zip(words.iter().flatten()) {
                *place = *byte;
            }
            Some(IpAddr::from(Ipv6Addr::from(bytes)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_can_be_read() {
        let (soft, hard) = open_files().unwrap();
        assert!(soft > 0 && soft <= hard);
        let (available, _) = memory().unwrap();
        assert!(available > 0);
        assert!(sysctl("net.core.somaxconn").is_some());
        assert_eq!(sysctl("no.such.setting"), None);
        let clock = clock(Moment::now(), None);
        assert!(clock.unix_s > 0 && clock.jumped_ms.abs() < 1_000, "{clock:?}");
    }

    #[test]
    fn a_disk_is_tried_and_nothing_is_left_in_it() {
        let folder = std::env::temp_dir().join(format!("uproar-facts-{}", std::process::id()));
        assert_eq!(disk(&folder).unwrap_err().0, ErrorKind::NotFound);
        fs::create_dir(&folder).unwrap();
        let found = disk(&folder).unwrap();
        assert!(found.free_bytes > 0 && found.sync_us <= found.sync_us_worst, "{found:?}");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        fs::remove_dir(&folder).unwrap();
    }

    #[test]
    fn a_port_is_held_by_this_very_process() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(any) else { continue }; // a host without IPv6
            let address = listener.local_addr().unwrap();
            let Port::Held(by) = port(address) else { panic!("it is held") };
            assert!(by.iter().any(|(_, pid)| *pid == std::process::id()), "{by:?}");
            drop(listener);
            // A child that another test starts just now has a copy of it until it executes.
            let is_free = |_| {
                std::thread::sleep(std::time::Duration::from_millis(20));
                matches!(port(address), Port::Free)
            };
            assert!((0..500).any(is_free));
        }
        let elsewhere = port("203.0.113.1:1234".parse().unwrap());
        assert!(matches!(elsewhere, Port::Refused(ErrorKind::AddrNotAvailable, _)));
    }

    #[test]
    fn addresses_of_the_kernel_are_read_as_they_are_meant() {
        let loopback = u32::from_ne_bytes([127, 0, 0, 1]);
        assert_eq!(kernel_ip(&format!("{loopback:08X}")), Some("127.0.0.1".parse().unwrap()));
        let one = format!("{}{:08X}", "0".repeat(24), u32::from_ne_bytes([0, 0, 0, 1]));
        assert_eq!(kernel_ip(&one), Some("::1".parse().unwrap()));
        assert_eq!(kernel_ip("7F"), None);
    }
}
