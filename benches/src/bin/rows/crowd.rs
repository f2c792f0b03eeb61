//! Rows that need a crowd which checks every delivery: a real `uproar-loadgen` against a real
//! server, each on its core. The harness adds what the tester cannot see, the server's core.

use crate::bench::{self, Bench, Measured};
use crate::fanout;
use crate::memory::SECRET;
use serde_json::{Value, json};
use std::io;
use std::time::{Duration, Instant};
use uproar_benches::harness::child::{self, Child};
use uproar_benches::harness::report::{Line, Verdict};
use uproar_benches::harness::stats::{median, paired_ratio, spread};
use uproar_benches::harness::uproar::{Server, Settings};
use uproar_benches::proc::{self, CoreBusy};

const PAYLOAD: usize = 256;
/// Messages a second: the numeric contract of a live room.
const RATE: f64 = 20.0;
/// Left out of every figure, by the tester and by the harness.
const WARM_UP: Duration = Duration::from_secs(5);
/// Between the moment everyone is in and the tester's own start, and again at the end.
const MARGIN: Duration = Duration::from_secs(1);

/// What a run of the tester is to be.
struct Crowd {
    scenario: &'static str,
    viewers: u64,
    shards: u16,
    /// Offered a second.
    rate: f64,
    /// What the tester measures.
    interval: Duration,
    signed_in: bool,
    /// Flags of the scenario.
    flags: String,
}

impl Crowd {
    fn live(bench: &Bench, viewers: u64) -> Crowd {
        Crowd {
            scenario: "live",
            viewers,
            shards: 1,
            rate: RATE,
            interval: bench.interval,
            signed_in: false,
            flags: String::new(),
        }
    }
}

/// What came of it.
struct Run {
    /// The tester's own JSON.
    report: Value,
    held: bool,
    core: CoreBusy,
    load_core: CoreBusy,
    /// Messages handed to sockets in the interval, counted by the server.
    deliveries: f64,
    socket_writes: f64,
    /// Largest total of the server's send queues over the full ones, and how many were full.
    queued: (u64, u64),
    /// RssAnon when everyone was in, and the largest later.
    rss: [u64; 2],
}

impl Run {
    fn cpu_us_per_delivery(&self) -> f64 {
        self.core.busy_s * 1e6 / self.deliveries
    }

    fn figure(&self, key: &str) -> io::Result<f64> {
        tester_figure(&self.report, key)
    }

    fn failed(&self) -> String {
        self.report["checks_failed"].to_string()
    }

    fn raw(&self, side: &str) -> Value {
        json!({
            "side": side, "core": self.core, "load_core": self.load_core, "held": self.held,
            "deliveries": self.deliveries, "socket_writes": self.socket_writes,
            "queued_bytes_and_sockets": self.queued, "rss": self.rss, "tester": self.report,
        })
    }
}

/// A figure of the tester. A percentile that falls among deliveries that never came is infinite,
/// which JSON writes as null.
fn tester_figure(report: &Value, key: &str) -> io::Result<f64> {
    match report.get(key) {
        Some(Value::Null) if key.starts_with("latency_") => Ok(f64::INFINITY),
        _ => bench::figure(report, key),
    }
}

fn settings(crowd: &Crowd) -> Settings {
    let settings = Settings::new(crowd.shards);
    if crowd.signed_in {
        settings.with("engine.tokens.hs256_secret", SECRET).with("engine.tokens.guests", true)
    } else {
        settings
    }
}

/// Starts the tester; the file its JSON will be in.
fn start_tester(
    bench: &Bench,
    server: &Server,
    crowd: &Crowd,
) -> io::Result<(Child, std::path::PathBuf)> {
    let number = server.target.port();
    let json = std::env::temp_dir().join(format!("uproar-rows-{}-{number}", std::process::id()));
    let sign_in = if crowd.signed_in { format!("--token-secret {SECRET}") } else { String::new() };
    let text = format!(
        "{} --target {} --metrics {} --viewers {} --rate {} --payload {PAYLOAD} --cores {} \
         --warmup {}s --duration {}s --json {} {sign_in} {}",
        crowd.scenario,
        server.target,
        server.metrics_url(),
        crowd.viewers,
        crowd.rate,
        bench.load_core,
        WARM_UP.as_secs(),
        crowd.interval.as_secs(),
        json.display(),
        crowd.flags,
    );
    let arguments: Vec<String> = text.split_ascii_whitespace().map(str::to_owned).collect();
    let program = child::beside("uproar-loadgen")?;
    Ok((Child::start(&program, &arguments, &[bench.load_core])?, json))
}

/// One run of the tester against a fresh server.
fn run(bench: &Bench, crowd: &Crowd) -> io::Result<Run> {
    let server = bench.uproar(&settings(crowd))?;
    let (mut tester, json) = start_tester(bench, &server, crowd)?;
    bench::until("the crowd is in", bench::RAMP_PATIENCE, || {
        if let Ok(well) = tester.wait(Duration::ZERO) {
            return Err(io::Error::other(format!("the tester ended before that, well: {well}")));
        }
        Ok(server.figures()?.sum("uproar_members", &[])? >= crowd.viewers as f64)
    })?;
    std::thread::sleep(WARM_UP.saturating_sub(MARGIN));
    let rss_begun = server.rss_anon_bytes()?; // before the tester measures, so before a freeze
    std::thread::sleep(2 * MARGIN);
    let begun = server.figures()?;
    let watch = bench.watch()?;
    let (queued, rss_most) = idle_beside(crowd, &server)?;
    let [core, load_core] = watch.busy()?;
    let ended = server.figures()?;
    let held = tester.wait(crowd.interval + bench::RAMP_PATIENCE)?;
    let report = std::fs::read(&json)?;
    std::fs::remove_file(&json)?;
    let gained = |name: &str, labels: &[&str]| -> io::Result<f64> {
        Ok(ended.sum(name, labels)? - begun.sum(name, labels)?)
    };
    Ok(Run {
        report: serde_json::from_slice(&report).map_err(io::Error::other)?,
        held,
        core,
        load_core,
        deliveries: gained("uproar_deliveries_total", &["what=\"sent\""])?,
        socket_writes: gained("uproar_socket_writes_total", &[])?,
        queued,
        rss: [rss_begun, rss_most],
    })
}

/// Waits while the interval runs; where it is asked for, looks at the server's memory and send
/// queues once a second (reading /proc/net/tcp costs the load's core some time).
fn idle_beside(crowd: &Crowd, server: &Server) -> io::Result<((u64, u64), u64)> {
    let look = crowd.scenario == "slow";
    let end = Instant::now() + crowd.interval.saturating_sub(2 * MARGIN);
    let (mut queued, mut rss) = ((0, 0), server.rss_anon_bytes()?);
    while Instant::now() < end {
        let second = Duration::from_secs(1);
        std::thread::sleep(second.min(end.saturating_duration_since(Instant::now())));
        if look {
            let text = std::fs::read_to_string("/proc/net/tcp")?;
            queued = queued.max(proc::parse_send_queues(&text, server.target.port()));
            rss = rss.max(server.rss_anon_bytes()?);
        }
    }
    Ok((queued, rss))
}

/// CPU per logical delivery in the default window, to one bare send.
pub(crate) fn delivery(bench: &Bench) -> io::Result<Measured> {
    let mut measured = Measured::default();
    bench.noise(&mut measured)?;
    let viewers = bench.viewers(10_000);
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..bench.repeats {
        ours.push(run(bench, &Crowd::live(bench, viewers))?);
        bare.push(fanout::small(bench, "bare", viewers, 5.0)?);
    }
    let cpu: Vec<f64> = ours.iter().map(Run::cpu_us_per_delivery).collect();
    let bare_cpu: Vec<f64> = bare.iter().map(|side| side.cpu_us_per_frame).collect();
    let (ratio, spread) = paired_ratio(&cpu, &bare_cpu);
    let p99 = figures(&ours, "latency_ms_p99")?;
    measured.lines.push(Line {
        what: format!("CPU per logical delivery, {viewers} viewers, 20 msg/s of 256 B"),
        aim: "at most 0.11 x a bare send (0.9 µs of 8)".to_owned(),
        measured: format!("{:.2} µs, a bare send {:.2} µs", median(&cpu), median(&bare_cpu)),
        ratio: Some(ratio),
        ratio_spread: Some(spread),
        verdict: Verdict::of(ratio <= 0.11),
    });
    measured.lines.push(bound("its p99", &p99, "ms", 1_000.0));
    note_failures(&mut measured, &ours);
    measured.raw.extend(ours.iter().map(|run| run.raw("uproar")));
    measured.raw.extend(bare.into_iter().map(|side| side.raw));
    Ok(measured)
}

/// A figure that has a bound of its own.
fn bound(what: &str, values: &[f64], unit: &str, most: f64) -> Line {
    let middle = median(values);
    Line {
        what: what.to_owned(),
        aim: format!("at most {most} {unit}"),
        measured: format!("{middle:.0} {unit}"),
        ratio: Some(middle / most),
        ratio_spread: Some({
            let (low, high) = spread(values);
            (low / most, high / most)
        }),
        verdict: Verdict::of(middle <= most),
    }
}

fn figures(runs: &[Run], key: &str) -> io::Result<Vec<f64>> {
    runs.iter().map(|run| run.figure(key)).collect()
}

fn note_failures(measured: &mut Measured, runs: &[Run]) {
    for run in runs.iter().filter(|run| !run.held) {
        measured.notes.push(format!("a run did not hold its checks: {}", run.failed()));
    }
}

/// The largest room on one core that loses nothing and keeps p99.9 within 2 s.
pub(crate) fn capacity(bench: &Bench) -> io::Result<Measured> {
    /// Viewers a shard takes: under 90 % of an open-file limit of 20,000, as SO_REUSEPORT is not
    /// even.
    const VIEWERS_PER_SHARD: u64 = 15_500;
    let mut measured = Measured::default();
    bench.noise(&mut measured)?;
    let mut best = None;
    for full in [50_000, 70_000, 80_000, 90_000, 100_000, 110_000] {
        let viewers = bench.viewers(full);
        let shards = viewers.div_ceil(VIEWERS_PER_SHARD) as u16;
        let crowd = Crowd { shards, ..Crowd::live(bench, viewers) };
        eprintln!("  {viewers} viewers on {shards} shards");
        let run = run(bench, &crowd)?;
        measured.raw.push(run.raw(&format!("{viewers} viewers")));
        let p999 = run.figure("latency_ms_p999")?;
        let busy = run.core.busy_s / run.core.wall_s * 100.0;
        let line = format!("p99.9 {p999:.0} ms, core {busy:.0} % busy, {shards} shards");
        if !run.held || p999 > 2_000.0 {
            let failed = run.failed();
            measured.notes.push(format!("{viewers} viewers do not fit: {line}, failed {failed}"));
            break;
        }
        best = Some((viewers, line));
    }
    let (viewers, how) = best.unwrap_or((0, "not even the smallest room".to_owned()));
    let aim = bench.viewers(50_000);
    measured.lines.push(Line {
        what: "viewers in one room on one core, 20 msg/s, p99.9 at most 2 s, nothing lost".into(),
        aim: format!("at least {aim}, aim {}", bench.viewers(90_000)),
        measured: format!("{viewers} ({how})"),
        ratio: Some(viewers as f64 / aim as f64),
        ratio_spread: None,
        verdict: Verdict::of(viewers >= aim),
    });
    Ok(measured)
}

/// p99 of one scenario to that of a plain live room, in turns.
fn compare(
    bench: &Bench,
    measured: &mut Measured,
    plain: &Crowd,
    loaded: &Crowd,
    what: &str,
    most: f64,
) -> io::Result<Vec<Run>> {
    bench.noise(measured)?;
    let (mut calm, mut hard) = (Vec::new(), Vec::new());
    for _ in 0..bench.repeats {
        calm.push(run(bench, plain)?);
        hard.push(run(bench, loaded)?);
    }
    let (calm_p99, hard_p99) =
        (figures(&calm, "latency_ms_p99")?, figures(&hard, "latency_ms_p99")?);
    let (ratio, spread) = paired_ratio(&hard_p99, &calm_p99);
    measured.lines.push(Line {
        what: what.to_owned(),
        aim: format!("p99 at most {most} x"),
        measured: format!("{:.0} ms, without {:.0} ms", median(&hard_p99), median(&calm_p99)),
        ratio: Some(ratio),
        ratio_spread: Some(spread),
        verdict: Verdict::of(ratio <= most),
    });
    note_failures(measured, &calm);
    note_failures(measured, &hard);
    measured.raw.extend(calm.iter().map(|run| run.raw("plain")));
    measured.raw.extend(hard.iter().map(|run| run.raw(loaded.scenario)));
    Ok(hard)
}

/// A line that is met where every run of the tester held all its checks.
fn checks(what: &str, runs: &[Run]) -> Line {
    let held = runs.iter().filter(|run| run.held).count();
    Line {
        what: what.to_owned(),
        aim: "every check holds".to_owned(),
        measured: format!("{held} of {} runs", runs.len()),
        ratio: None,
        ratio_spread: None,
        verdict: Verdict::of(held == runs.len()),
    }
}

/// Joins and leaves on open connections beside a live room.
pub(crate) fn churn(bench: &Bench) -> io::Result<Measured> {
    let mut measured = Measured::default();
    let (viewers, joins) = (bench.viewers(5_000), bench.viewers(20_000));
    let flags = format!("--joins-per-s {joins} --connects-per-s 0");
    let loaded = Crowd { scenario: "churn", flags, ..Crowd::live(bench, viewers) };
    let what = format!("p99 of a room of {viewers} while {joins} join and {joins} leave a second");
    let runs = compare(bench, &mut measured, &Crowd::live(bench, viewers), &loaded, &what, 1.1)?;
    let slower = |run: &Run| Ok(run.figure("joins_per_s")?.min(run.figure("leaves_per_s")?));
    let rate = median(&runs.iter().map(slower).collect::<io::Result<Vec<_>>>()?);
    measured.lines.push(Line {
        what: "joins a second that were answered, and as many leaves".to_owned(),
        aim: format!("{joins}"),
        measured: format!("{rate:.0}"),
        ratio: Some(rate / joins as f64),
        ratio_spread: None,
        verdict: Verdict::of(rate >= 0.99 * joins as f64),
    });
    Ok(measured)
}

/// Ten times what the room admits is offered.
pub(crate) fn overload(bench: &Bench) -> io::Result<Measured> {
    let mut measured = Measured::default();
    let viewers = bench.viewers(5_000);
    let plain = Crowd { signed_in: true, ..Crowd::live(bench, viewers) };
    let loaded =
        Crowd { scenario: "overload", rate: 200.0, signed_in: true, ..Crowd::live(bench, viewers) };
    let what = format!("p99 of {viewers} viewers, 200 msg/s offered to a room that admits 20");
    let runs = compare(bench, &mut measured, &plain, &loaded, &what, 1.1)?;
    measured.lines.push(checks("accounting exact, no system or reserved gift message lost", &runs));
    Ok(measured)
}

/// One viewer in a hundred stops reading.
pub(crate) fn frozen(bench: &Bench) -> io::Result<Measured> {
    const BYTES_MAX: f64 = 64.0 * 1024.0;
    /// A frozen viewer's sockets and cursor hold some seconds of messages: longer than that.
    const INTERVAL_MIN: Duration = Duration::from_secs(30);
    let mut measured = Measured::default();
    let viewers = bench.viewers(5_000);
    let flags = "--frozen-percent 1".to_owned();
    let interval = bench.interval.max(INTERVAL_MIN);
    let plain = Crowd { interval, ..Crowd::live(bench, viewers) };
    let loaded = Crowd { scenario: "slow", flags, interval, ..Crowd::live(bench, viewers) };
    let what = format!("p99 of {viewers} viewers while 1 % more are frozen");
    let runs = compare(bench, &mut measured, &plain, &loaded, &what, 1.05)?;
    let each = |run: &Run| {
        let grown = run.rss[1].saturating_sub(run.rss[0]) + run.queued.0;
        Ok(grown as f64 / run.figure("frozen_viewers")?)
    };
    let each = runs.iter().map(each).collect::<io::Result<Vec<_>>>()?;
    measured.lines.push(bound(
        "server memory per frozen viewer, user space and send queue",
        &each,
        "B",
        BYTES_MAX,
    ));
    measured.lines.push(checks("a viewer that thaws is told its gap", &runs));
    Ok(measured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_of_deliveries_that_never_came_is_infinite() {
        let report = json!({ "latency_ms_p99": null, "latency_ms_p50": 3.5, "joins_per_s": null });
        let figure = |key| tester_figure(&report, key);
        assert!(figure("latency_ms_p99").expect("infinite").is_infinite());
        assert!(figure("latency_ms_p50").is_ok_and(|ms| ms < 4.0));
        assert!(figure("joins_per_s").is_err() && figure("latency_ms_max").is_err());
    }

    #[test]
    fn a_bound_is_judged_by_the_middle_repetition() {
        assert_eq!(bound("p99", &[900.0, 5_000.0, 950.0], "ms", 1_000.0).verdict, Verdict::Met);
        assert_eq!(
            bound("p99", &[900.0, f64::INFINITY, 1_001.0], "ms", 1_000.0).verdict,
            Verdict::Missed
        );
    }
}
