//! What the kernel says about this process: figures for `/metrics`, read from `/proc` on demand.

use std::time::{SystemTime, UNIX_EPOCH};
use uproar_proto::control::{Sample, SampleKind, SampleValue};

/// Ticks a second in `/proc/self/stat`: `USER_HZ`, fixed at 100 for user space on every
/// architecture this runs on.
const TICKS_PER_S: f64 = 100.0;

/// Seconds since 1970, for the start time that is remembered once.
#[must_use]
pub(crate) fn unix_s() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// Milliseconds since 1970, as the store keeps moments.
#[must_use]
pub(crate) fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The figures; one that cannot be read is left out rather than shown as zero.
#[must_use]
pub(crate) fn samples(started_unix_s: f64) -> Vec<Sample> {
    use SampleKind::{Counter, Gauge};
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let rows = [
        (
            "process_resident_memory_bytes",
            "Resident memory of the process.",
            Gauge,
            status_bytes(&status, "VmRSS:"),
        ),
        (
            "process_resident_anon_bytes",
            "Resident anonymous memory (RssAnon): what the process itself allocated.",
            Gauge,
            status_bytes(&status, "RssAnon:"),
        ),
        (
            "process_virtual_memory_bytes",
            "Virtual memory of the process.",
            Gauge,
            status_bytes(&status, "VmSize:"),
        ),
        (
            "process_threads",
            "Threads of the process.",
            Gauge,
            status_field(&status, "Threads:").and_then(|t| t.parse().ok()),
        ),
        (
            "process_cpu_seconds_total",
            "CPU time of the process, user and system, all threads.",
            Counter,
            cpu_seconds(&stat),
        ),
        (
            "process_open_fds",
            "Open descriptors in the main thread's table; each shard has a table of its own.",
            Gauge,
            open_fds(),
        ),
        (
            "process_max_fds",
            "Soft limit of open descriptors, for each descriptor table.",
            Gauge,
            open_files_soft(&limits),
        ),
        (
            "process_written_bytes_total",
            "Bytes this process caused to be written to storage.",
            Counter,
            written_bytes(&io),
        ),
        (
            "process_start_time_seconds",
            "When the process started, seconds since 1970.",
            Gauge,
            Some(started_unix_s),
        ),
    ];
    rows.into_iter()
        .filter_map(|(name, help, kind, value)| {
            let value = SampleValue::Number(value?);
            Some(Sample { name, help, kind, labels: Vec::new(), value })
        })
        .collect()
}

fn status_field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

fn status_bytes(status: &str, name: &str) -> Option<f64> {
    let kib: f64 = status_field(status, name)?.strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}

/// Fields 14 and 15; the command in field 2 may hold spaces and parentheses.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, after_command) = stat.rsplit_once(')')?;
    let mut fields = after_command.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_S)
}

/// Only told where the kernel keeps task accounts.
fn written_bytes(io: &str) -> Option<f64> {
    status_field(io, "write_bytes:")?.parse().ok()
}

/// Linux 6.2 and later tell the count as the folder's size; before, it is counted.
fn open_fds() -> Option<f64> {
    let size = std::fs::metadata("/proc/self/fd").ok()?.len();
    let count =
        if size > 0 { size } else { std::fs::read_dir("/proc/self/fd").ok()?.count() as u64 };
    Some(count as f64)
}

fn open_files_soft(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_of_this_process_can_be_read() {
        let samples = samples(1.0);
        let names: Vec<&str> = samples.iter().map(|s| s.name).collect();
        assert_eq!(names.len(), 9, "{names:?}");
        for sample in &samples {
            let SampleValue::Number(value) = sample.value else { panic!("{}", sample.name) };
            assert!(value >= 0.0, "{} is {value}", sample.name);
        }
    }

    #[test]
    fn a_command_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 150 0 0";
        assert_eq!(cpu_seconds(stat), Some(4.0));
    }

    #[test]
    fn kibibytes_become_bytes() {
        assert_eq!(status_bytes("VmRSS:\t  12 kB\n", "VmRSS:"), Some(12_288.0));
        assert_eq!(status_bytes("Other: 1 kB", "VmRSS:"), None);
    }
}
