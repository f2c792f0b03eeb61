//! Facts of hosts that are good, poor and broken, and what is said of each.

use super::*;
use std::io::ErrorKind;

fn has(check: &Check, verdict: Verdict, parts: &[&str]) {
    assert_eq!(check.verdict, verdict, "{check:?}");
    for part in parts {
        assert!(check.reason.contains(part) || check.remedy.contains(part), "{part}: {check:?}");
    }
    assert_eq!(check.remedy.is_empty(), verdict == Verdict::Ok, "a remedy, or none: {check:?}");
}

#[test]
fn a_kernel_is_judged_by_its_number() {
    has(&kernel("6.18.44-generic"), Verdict::Ok, &["6.18.44-generic"]);
    has(&kernel("6.1.0"), Verdict::Ok, &[]);
    has(&kernel("5.15.0-91"), Verdict::Warn, &["5.15.0-91", "epoll"]);
    has(&kernel("3.2.0"), Verdict::Fail, &["SO_REUSEPORT"]);
    has(&kernel("plan9"), Verdict::Warn, &["plan9"]);
}

#[test]
fn a_ring_is_needed_only_where_it_is_demanded() {
    has(&io_uring(Ok("a trial ring".into()), true), Verdict::Ok, &["trial"]);
    let no = || Err("not permitted here".to_owned());
    has(&io_uring(no(), false), Verdict::Warn, &["not permitted", "epoll", "seccomp"]);
    has(&io_uring(no(), true), Verdict::Fail, &["not permitted"]);
}

#[test]
fn the_open_file_limit_is_compared_to_what_is_wanted() {
    let facts = OpenFiles {
        soft: 1_024,
        hard: 100_000,
        tables: 2,
        connections: 180_000,
        asked: false,
        raises: true,
    };
    has(&open_files(facts), Verdict::Ok, &["180000 connections fit", "each of 2"]);
    let more = OpenFiles { connections: 180_001, ..facts };
    has(&open_files(more), Verdict::Warn, &["wanted are 180001", "LimitNOFILE=100"]);
    has(&open_files(OpenFiles { asked: true, ..more }), Verdict::Fail, &[]);
    has(&open_files(OpenFiles { tables: 1, ..facts }), Verdict::Warn, &["90000"]);
    let stays = OpenFiles { raises: false, tables: 1, connections: 1_000, ..facts };
    has(&open_files(stays), Verdict::Warn, &["918 connections fit"]);
    // What it advises is enough.
    let advised = 180_001_u64.div_ceil(2) * 10 / 9 + 10;
    has(&open_files(OpenFiles { hard: advised, ..more }), Verdict::Ok, &[]);
}

#[test]
fn the_smaller_of_machine_and_cgroup_counts() {
    has(&memory(8 << 30, None, 100_000), Verdict::Ok, &["8192 MiB"]);
    has(&memory(8 << 30, Some(512 << 20), 100_000), Verdict::Warn, &["cgroup", "512 MiB"]);
    has(&memory(300 << 20, Some(8 << 30), 100_000), Verdict::Warn, &["available are 300"]);
}

#[test]
fn a_folder_is_missing_closed_full_or_slow() {
    let broken = |kind, text: &str| disk("/data", Err((kind, text.into())));
    let missing = broken(ErrorKind::NotFound, "no such");
    has(&missing, Verdict::Fail, &["/data does not exist", "mkdir -p /data"]);
    has(&broken(ErrorKind::PermissionDenied, "denied"), Verdict::Fail, &["denied", "chown"]);
    has(&broken(ErrorKind::StorageFull, "no space"), Verdict::Fail, &["is full", "make room"]);
    has(&broken(ErrorKind::Other, "on fire"), Verdict::Fail, &["on fire"]);
    let good = Disk { free_bytes: 50 << 30, sync_us: 800, sync_us_worst: 4_000 };
    has(&disk("/data", Ok(good)), Verdict::Ok, &["51200 MiB", "0.8 ms (worst 4.0)"]);
    let full = |free_bytes| disk("/data", Ok(Disk { free_bytes, ..good }));
    has(&full(1 << 30), Verdict::Warn, &["retention_days"]);
    has(&full(1 << 20), Verdict::Fail, &["retention_days"]);
    has(&disk("/data", Ok(Disk { sync_us: 40_000, ..good })), Verdict::Warn, &["40.0 ms"]);
}

#[test]
fn a_clock_is_kept_right_and_does_not_jump() {
    let kept = Clock { unix_s: CLOCK_MIN_S + 1, synchronised: true, ..Clock::default() };
    has(&clock(&kept), Verdict::Ok, &["synchronised"]);
    let by = Clock { synchronised: false, keeper: Some("chronyd".into()), ..kept.clone() };
    has(&clock(&by), Verdict::Ok, &["chronyd"]);
    has(&clock(&Clock { keeper: None, ..by }), Verdict::Warn, &["timesyncd"]);
    has(&clock(&Clock { jumped_ms: -51, ..kept.clone() }), Verdict::Warn, &["-51 ms"]);
    has(&clock(&Clock { store_ahead_s: 61, ..kept.clone() }), Verdict::Warn, &["set back"]);
    has(&clock(&Clock { unix_s: 0, ..kept }), Verdict::Fail, &["no token"]);
}

#[test]
fn whoever_holds_a_port_is_named() {
    let at = "127.0.0.1:7480".parse().unwrap();
    let held = |by: &[(&str, u32)]| {
        let by = by.iter().map(|(name, pid)| ((*name).to_owned(), *pid)).collect();
        port("http.listen", "--http", at, Port::Held(by))
    };
    has(&port("http.listen", "--http", at, Port::Free), Verdict::Ok, &["is free"]);
    has(&held(&[("nginx", 7)]), Verdict::Fail, &["nginx (pid 7)", "127.0.0.1:7480", "--http"]);
    has(&held(&[("uproar", 8)]), Verdict::Warn, &["uproar (pid 8)"]);
    has(&held(&[("uproar", 8), ("nc", 9)]), Verdict::Fail, &["nc (pid 9)"]);
    has(&held(&[]), Verdict::Fail, &["somebody else", "root"]);
    let refused = |kind| port("http.listen", "--http", at, Port::Refused(kind, "no".into()));
    has(&refused(ErrorKind::AddrNotAvailable), Verdict::Fail, &["no interface"]);
    has(&refused(ErrorKind::PermissionDenied), Verdict::Fail, &["below 1024"]);
    has(&refused(ErrorKind::Other), Verdict::Fail, &["no"]);
}

#[test]
fn who_asks_over_https_needs_certificates() {
    has(&certificates("webhooks", Ok(())), Verdict::Ok, &["webhooks"]);
    let none = Err("no CA certificates were loaded".to_owned());
    has(&certificates("webhooks", none), Verdict::Fail, &["webhooks", "loaded", "ca-certificates"]);
}
