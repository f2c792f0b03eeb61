//! What the kernel tells about cores, processes and the machine, read from /proc and /sys. Owns the
//! parsing; never keeps a file open and never writes.

use crate::sys;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;

/// Ticks of /proc/stat in a second (USER_HZ, fixed by the kernel's interface).
const TICKS_PER_S: f64 = 100.0;

/// One `cpuN` line of /proc/stat, in ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CoreTicks {
    /// User, nice, system, irq and softirq: the core did something.
    pub busy: u64,
    /// Idle and iowait: it had nothing to do (a ring that waits counts as iowait).
    pub idle: u64,
    /// The hypervisor ran something else.
    pub steal: u64,
}

/// The line of `core` in the text of /proc/stat.
#[must_use]
pub fn parse_stat(text: &str, core: usize) -> Option<CoreTicks> {
    let name = format!("cpu{core}");
    let line = text.lines().find(|line| line.split(' ').next() == Some(name.as_str()))?;
    let ticks: Vec<u64> =
        line.split_ascii_whitespace().skip(1).map(str::parse).collect::<Result<_, _>>().ok()?;
    let [user, nice, system, idle, iowait, irq, softirq, steal, ..] = ticks[..] else {
        return None;
    };
    Some(CoreTicks { busy: user + nice + system + irq + softirq, idle: idle + iowait, steal })
}

/// A core at one moment; two of them make a [`CoreBusy`].
#[derive(Clone, Copy, Debug)]
pub struct CoreMoment {
    at_ns: u64,
    ticks: CoreTicks,
}

/// How busy a core was between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CoreBusy {
    /// Between the two moments.
    pub wall_s: f64,
    /// Time the core was not idle and not stolen: what every ratio uses. Taken from the idle time,
    /// which the kernel measures, where the busy columns are sampled at ticks.
    pub busy_s: f64,
    /// Sum of the busy columns, as a cross-check.
    pub sampled_busy_s: f64,
    /// Stolen by the hypervisor: a run with much of it is not worth keeping.
    pub steal_s: f64,
}

impl CoreMoment {
    /// Reads /proc/stat now.
    ///
    /// # Errors
    /// No such core.
    pub fn now(core: usize) -> io::Result<CoreMoment> {
        let text = std::fs::read_to_string("/proc/stat")?;
        let ticks = parse_stat(&text, core)
            .ok_or_else(|| io::Error::other(format!("/proc/stat has no line for core {core}")))?;
        Ok(CoreMoment { at_ns: sys::monotonic_ns(), ticks })
    }

    /// From `earlier` to this moment.
    #[must_use]
    pub fn since(&self, earlier: &CoreMoment) -> CoreBusy {
        let seconds = |now: u64, then: u64| now.saturating_sub(then) as f64 / TICKS_PER_S;
        let wall_s = self.at_ns.saturating_sub(earlier.at_ns) as f64 / 1e9;
        let idle_s = seconds(self.ticks.idle, earlier.ticks.idle);
        let steal_s = seconds(self.ticks.steal, earlier.ticks.steal);
        CoreBusy {
            wall_s,
            busy_s: (wall_s - idle_s - steal_s).max(0.0),
            sampled_busy_s: seconds(self.ticks.busy, earlier.ticks.busy),
            steal_s,
        }
    }
}

/// A line `Key:   123 kB` of /proc/PID/status or /proc/meminfo, in bytes.
#[must_use]
pub fn parse_kib_line(text: &str, key: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let kib: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// User-space memory of a process that is its own (RssAnon), bytes.
///
/// # Errors
/// The process is gone.
pub fn rss_anon_bytes(pid: u32) -> io::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    parse_kib_line(&text, "RssAnon")
        .ok_or_else(|| io::Error::other(format!("/proc/{pid}/status has no RssAnon")))
}

/// utime + stime of a process from the text of /proc/PID/stat, in seconds. The name in brackets may
/// hold spaces and brackets: fields are counted from the last one.
#[must_use]
pub fn parse_process_cpu_s(text: &str) -> Option<f64> {
    let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_ascii_whitespace().collect();
    let ticks = |i: usize| fields.get(i)?.parse::<u64>().ok();
    Some((ticks(11)? + ticks(12)?) as f64 / TICKS_PER_S)
}

/// CPU time of a process, all threads, seconds (sampled at ticks).
///
/// # Errors
/// The process is gone.
pub fn process_cpu_s(pid: u32) -> io::Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_process_cpu_s(&text)
        .ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat is not understood")))
}

/// Unsent and unacknowledged bytes of a port's sockets, from the text of /proc/net/tcp: the send
/// queues of every socket whose local port is `port`, with how many sockets hold any.
#[must_use]
pub fn parse_send_queues(text: &str, port: u16) -> (u64, u64) {
    let local = format!(":{port:04X}");
    let mut total = (0, 0);
    for line in text.lines().skip(1) {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (Some(address), Some(_), Some(_), Some(queues)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let queued = queues.split(':').next().and_then(|hex| u64::from_str_radix(hex, 16).ok());
        if let (true, Some(bytes)) = (address.ends_with(&local), queued) {
            total = (total.0 + bytes, total.1 + u64::from(bytes > 0));
        }
    }
    total
}

/// Memory the kernel holds for objects and for TCP, bytes: what a bench adds to it is its kernel
/// side.
///
/// # Errors
/// No /proc.
pub fn kernel_bytes() -> io::Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    parse_kib_line(&text, "Slab").ok_or_else(|| io::Error::other("/proc/meminfo has no Slab"))
}

/// The facts about this machine that a figure depends on, as read; absent where unreadable.
#[must_use]
pub fn machine() -> BTreeMap<String, String> {
    let read = |path: &str| std::fs::read_to_string(path).ok().map(|s| s.trim().to_owned());
    let info = read("/proc/cpuinfo").unwrap_or_default();
    let cpu = |key: &str| {
        let line = info.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let memory = read("/proc/meminfo").unwrap_or_default();
    let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
    let facts = [
        ("cpu_model", cpu("model name")),
        ("cpu_mhz", cpu("cpu MHz")),
        ("cpu_family", cpu("cpu family")),
        ("hypervisor", Some(info.contains("hypervisor").to_string())),
        // Not those this thread may use: the harness is pinned to one.
        ("cores", Some(info.matches("processor\t").count().to_string())),
        ("memory", parse_kib_line(&memory, "MemTotal").map(gib)),
        ("kernel", read("/proc/sys/kernel/osrelease")),
        ("governor", read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        ("congestion_control", congestion_control().ok()),
        ("somaxconn", read("/proc/sys/net/core/somaxconn")),
        ("port_range", read("/proc/sys/net/ipv4/ip_local_port_range")),
        ("tcp_wmem", read("/proc/sys/net/ipv4/tcp_wmem")),
        ("open_files_hard", sys::raise_open_files().ok().map(|n| n.to_string())),
        ("mitigations_spectre_v2", read("/sys/devices/system/cpu/vulnerabilities/spectre_v2")),
    ];
    facts.into_iter().filter_map(|(k, v)| Some((k.to_owned(), v?))).collect()
}

const CONGESTION_CONTROL: &str = "/proc/sys/net/ipv4/tcp_congestion_control";

/// The congestion control that new sockets get.
///
/// # Errors
/// No /proc.
pub fn congestion_control() -> io::Result<String> {
    Ok(std::fs::read_to_string(CONGESTION_CONTROL)?.trim().to_owned())
}

/// Sets the congestion control that new sockets get, and puts the old one back when dropped. bbr
/// paces with a timer for each send, which costs more than the rest of the send together.
#[derive(Debug)]
pub struct CongestionControl {
    before: String,
}

impl CongestionControl {
    /// Sets it for the whole machine.
    ///
    /// # Errors
    /// Not root, or the kernel does not have it.
    pub fn set(name: &str) -> io::Result<CongestionControl> {
        let before = congestion_control()?;
        std::fs::write(CONGESTION_CONTROL, name)?;
        Ok(CongestionControl { before })
    }
}

impl Drop for CongestionControl {
    fn drop(&mut self) {
        // Nothing better can be done when it fails: the machine facts tell what was in force.
        let _ = std::fs::write(CONGESTION_CONTROL, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  10 0 10 100 0 0 0 0 0 0\n\
                        cpu1 5 1 7 60 4 2 3 9 0 0\n\
                        cpu10 1 1 1 1 1 1 1 1 0 0\n\
                        intr 1\n";

    #[test]
    fn a_core_line_is_split_into_busy_idle_and_stolen() {
        let ticks = parse_stat(STAT, 1).expect("core 1 is there");
        assert_eq!(ticks, CoreTicks { busy: 5 + 1 + 7 + 2 + 3, idle: 64, steal: 9 });
        assert_eq!(parse_stat(STAT, 10).expect("core 10 is not core 1").idle, 2);
        assert_eq!(parse_stat(STAT, 0), None);
        assert_eq!(parse_stat("cpu0 1 2 3\n", 0), None, "a short line is not guessed at");
    }

    #[test]
    fn busy_is_wall_less_idle_less_stolen() {
        let moment = |at_s: u64, idle, steal, busy| CoreMoment {
            at_ns: at_s * 1_000_000_000,
            ticks: CoreTicks { busy, idle, steal },
        };
        let busy = moment(12, 1_300, 50, 800).since(&moment(2, 1_000, 0, 200));
        assert_eq!(busy, CoreBusy { wall_s: 10.0, busy_s: 6.5, sampled_busy_s: 6.0, steal_s: 0.5 });
    }

    #[test]
    fn a_busy_core_is_seen_as_busy() {
        let spin = std::thread::spawn(|| {
            let core = sys::cores_allowed().expect("affinity")[0];
            sys::pin_thread(core).expect("it is allowed");
            let before = CoreMoment::now(core).expect("it has a line");
            let until = sys::thread_cpu_ns() + 200_000_000;
            while sys::thread_cpu_ns() < until {}
            CoreMoment::now(core).expect("it has a line").since(&before)
        });
        let busy = spin.join().expect("the thread ends");
        assert!(busy.busy_s + busy.steal_s > 0.17, "0.2 s of CPU show as {busy:?}");
    }

    #[test]
    fn memory_lines_are_bytes() {
        let text = "VmRSS:\t    2048 kB\nRssAnon:\t     12 kB\nThreads:\t1\n";
        assert_eq!(parse_kib_line(text, "RssAnon"), Some(12 * 1024));
        assert_eq!(parse_kib_line(text, "Rss"), None);
        assert_eq!(parse_kib_line(text, "Threads"), None);
        assert!(rss_anon_bytes(std::process::id()).expect("this process") > 10_000);
    }

    #[test]
    fn a_process_name_with_brackets_does_not_shift_the_fields() {
        let text = "7 (a) b (c) R 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0";
        assert_eq!(parse_process_cpu_s(text), Some(2.0));
        assert_eq!(parse_process_cpu_s("7 no brackets"), None);
        assert!(process_cpu_s(std::process::id()).is_ok());
    }

    #[test]
    fn send_queues_of_one_port_are_summed() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue\n\
            0: 0100007F:1CE8 00000000:0000 0A 00000000:00000000 00:00000000\n\
            1: 0100007F:1CE8 0200007F:8000 01 00000100:00000000 00:00000000\n\
            2: 0200007F:8000 0100007F:1CE8 01 00000400:00000100 00:00000000\n";
        assert_eq!(parse_send_queues(text, 0x1CE8), (0x100, 1), "the listener holds none");
    }

    #[test]
    fn the_machine_tells_its_kernel() {
        let facts = machine();
        assert!(facts.contains_key("kernel") && facts.contains_key("cpu_model"), "{facts:?}");
    }
}
