//! What more shards bring: one room over 1, 2, 4 ... shards, a core each, with as many viewers on
//! each of them, up to all cores of the machine. The load has as many cores of its own; where that
//! is not possible any more it shares the server's, and the line says so. Beside it as many bare
//! loops, a process each, that share nothing: what the machine and its kernel lose by themselves.

use crate::bench::{Bench, Measured, RAMP_PATIENCE, WARM_UP, complete_stage, figure};
use serde_json::{Value, json};
use std::io;
use uproar_benches::harness::child::Child;
use uproar_benches::harness::report::{Line, Verdict};
use uproar_benches::harness::stats::{median, spread};
use uproar_benches::harness::uproar::{Server, Settings};
use uproar_benches::proc::{CoreBusy, CoreMoment};

/// Each shard's, on average (the kernel spreads connections by hash); under an open-file limit of
/// 20,000 a table.
const VIEWERS_PER_SHARD: u64 = 12_000;
const PAYLOAD: usize = 256;
/// Messages a second of the first interval: about half of a core, so that no side is at its limit.
const EASY_RATE: f64 = 4.0;
/// Added for the second one: 20 together, what a room admits, and more sends than a core can do.
const REST_RATE: f64 = 16.0;
/// What a doubling may cost: sends a second of a shard among many, to those of one alone.
const SHARE_MIN: f64 = 0.8;

/// One interval over the whole server.
struct Interval {
    writes_per_s: f64,
    deliveries_per_s: f64,
    /// Of the server's cores together, where they are its own.
    cpu_us_per_write: f64,
    /// Of the server's fullest core.
    busiest: f64,
    /// Of the load's fullest core.
    load_busiest: f64,
    p99_ms: f64,
    raw: Value,
}

/// One size of the server.
struct Size {
    easy: Interval,
    full: Interval,
}

/// Which cores do what.
struct Split {
    server: Vec<usize>,
    load: Vec<usize>,
}

impl Split {
    /// The first `shards` cores for the server, the next ones for the load.
    fn of(cores: &[usize], shards: usize) -> Split {
        let (server, rest) = cores.split_at(shards);
        let load = if rest.len() >= shards { &rest[..shards] } else { cores };
        Split { server: server.to_vec(), load: load.to_vec() }
    }

    fn is_shared(&self) -> bool {
        self.load.iter().any(|core| self.server.contains(core))
    }
}

/// 1, 2, 4 ... and at last all of them.
fn sizes(cores: usize) -> Vec<usize> {
    let mut sizes: Vec<usize> =
        std::iter::successors(Some(1), |n| Some(n * 2)).take_while(|n| *n < cores).collect();
    sizes.push(cores);
    sizes
}

fn moments(cores: &[usize]) -> io::Result<Vec<CoreMoment>> {
    cores.iter().map(|core| CoreMoment::now(*core)).collect()
}

fn busy(cores: &[usize], since: &[CoreMoment]) -> io::Result<Vec<CoreBusy>> {
    let now = moments(cores)?;
    Ok(now.iter().zip(since).map(|(now, then)| now.since(then)).collect())
}

fn fullest(cores: &[CoreBusy]) -> f64 {
    cores.iter().map(|core| core.busy_s / core.wall_s).fold(0.0, f64::max)
}

/// Watches `server` for one interval.
fn interval(
    bench: &Bench,
    split: &Split,
    server: &Server,
    sinks: &mut [Child],
) -> io::Result<Interval> {
    std::thread::sleep(WARM_UP);
    for sink in &mut *sinks {
        sink.mark()?; // latencies begin anew
    }
    let begun = server.figures()?;
    let (cores, load) = (moments(&split.server)?, moments(&split.load)?);
    std::thread::sleep(bench.interval);
    let (cores, load) = (busy(&split.server, &cores)?, busy(&split.load, &load)?);
    let ended = server.figures()?;
    let gained = |name: &str, labels: &[&str]| -> io::Result<f64> {
        Ok(ended.sum(name, labels)? - begun.sum(name, labels)?)
    };
    let mut p99_ms: f64 = 0.0;
    for sink in sinks {
        p99_ms = p99_ms.max(figure(&sink.mark()?, "latency_ms_p99")?);
    }
    let seconds = cores[0].wall_s;
    let writes = gained("uproar_socket_writes_total", &[])?;
    let deliveries = gained("uproar_deliveries_total", &["what=\"sent\""])?;
    let busy_s: f64 = cores.iter().map(|core| core.busy_s).sum();
    Ok(Interval {
        writes_per_s: writes / seconds,
        deliveries_per_s: deliveries / seconds,
        cpu_us_per_write: busy_s * 1e6 / writes,
        busiest: fullest(&cores),
        load_busiest: fullest(&load),
        p99_ms,
        raw: json!({
            "shards": split.server.len(), "shared_cores": split.is_shared(),
            "writes": writes, "deliveries": deliveries, "p99_ms": p99_ms, "cores": cores,
            "load_cores": load, "shard_cpu_s": gained("uproar_shard_cpu_seconds_total", &[])?,
        }),
    })
}

/// A server with `shards` shards and a crowd that grows with them.
fn size(bench: &Bench, split: &Split) -> io::Result<Size> {
    let shards = u16::try_from(split.server.len()).map_err(io::Error::other)?;
    let viewers = bench.viewers(VIEWERS_PER_SHARD);
    // Every message a frame of its own: what grows is sends, not what a window saves.
    let settings = Settings::new(shards).with("engine.rooms.window", 0);
    let server = bench.uproar_on(&settings, &split.server)?;
    let load = format!("--hello tcp --content uproar --payload {PAYLOAD}");
    let crowd = format!("{load} --viewers {viewers}");
    // As many crowds as shards, in turns over the load's cores.
    let cores = split.load.iter().cycle().take(split.server.len());
    let mut sinks = cores
        .map(|core| bench.sink_on(server.target, &crowd, *core))
        .collect::<io::Result<Vec<_>>>()?;
    for sink in &mut sinks {
        complete_stage(sink, viewers)?;
    }
    let publish = |rate: f64| {
        let one = format!("{load} --viewers 1 --publish-rate {rate}");
        bench.sink_on(server.target, &one, split.load[0])
    };
    let _easy = publish(EASY_RATE)?;
    let easy = interval(bench, split, &server, &mut sinks)?;
    let _rest = publish(REST_RATE)?;
    let full = interval(bench, split, &server, &mut sinks)?;
    Ok(Size { easy, full })
}

/// Sends a second of as many bare loops, each a process of its own with its own viewers.
fn bare(bench: &Bench, split: &Split) -> io::Result<(f64, Value)> {
    let viewers = bench.viewers(VIEWERS_PER_SHARD);
    let rate = EASY_RATE + REST_RATE;
    let plan = format!("--viewers {viewers} --payload {PAYLOAD} --rate {rate}");
    let crowd = format!("--viewers {viewers} --content stamped --payload {PAYLOAD}");
    let (mut servers, mut sinks) = (Vec::new(), Vec::new());
    for (core, load_core) in split.server.iter().zip(&split.load) {
        let (server, target) = bench.small_server_on("bare", &plan, *core)?;
        servers.push(server);
        sinks.push(bench.sink_on(target, &crowd, *load_core)?);
    }
    for (server, sink) in servers.iter_mut().zip(&mut sinks) {
        complete_stage(sink, viewers)?;
        server.hear("sending", RAMP_PATIENCE)?;
    }
    std::thread::sleep(WARM_UP);
    let mut sends = || -> io::Result<f64> {
        servers.iter_mut().map(|server| figure(&server.mark()?, "sends")).sum()
    };
    let (begun, cores) = (sends()?, moments(&split.server)?);
    std::thread::sleep(bench.interval);
    let (sends, cores) = (sends()? - begun, busy(&split.server, &cores)?);
    let sends_per_s = sends / cores[0].wall_s;
    let raw = json!({
        "bare_loops": split.server.len(), "shared_cores": split.is_shared(),
        "sends": sends, "cores": cores,
    });
    Ok((sends_per_s, raw))
}

fn middle(sizes: &[Size], pick: impl Fn(&Size) -> f64) -> f64 {
    median(&sizes.iter().map(pick).collect::<Vec<_>>())
}

/// Sends a second, and CPU of a send, from one shard to as many as there are cores.
pub(crate) fn scaling(bench: &Bench) -> io::Result<Measured> {
    let mut measured = Measured::default();
    bench.noise(&mut measured)?;
    let mut alone: Option<(f64, f64, f64)> = None;
    for shards in sizes(bench.cores.len()) {
        let split = Split::of(&bench.cores, shards);
        eprintln!("  {shards} shards");
        let (mut runs, mut bares) = (Vec::new(), Vec::new());
        for _ in 0..bench.repeats {
            runs.push(size(bench, &split)?);
            let (sends_per_s, raw) = bare(bench, &split)?;
            bares.push(sends_per_s);
            measured.raw.push(raw);
        }
        let writes: Vec<f64> = runs.iter().map(|run| run.full.writes_per_s).collect();
        let us = middle(&runs, |run| run.easy.cpu_us_per_write);
        let (one, one_us, one_bare) = *alone.get_or_insert((median(&writes), us, median(&bares)));
        let share = |writes: f64| writes / one / shards as f64;
        let bare_share = |sends: f64| sends / one_bare / shards as f64;
        let (low, high) = spread(&writes);
        let viewers = bench.viewers(VIEWERS_PER_SHARD) * shards as u64;
        let cost = if split.is_shared() {
            "load on the same cores".to_owned()
        } else {
            format!(
                "{us:.2} µs of CPU a send at {EASY_RATE} msg/s ({:.2} x one shard)",
                us / one_us
            )
        };
        measured.lines.push(Line {
            what: format!("{shards} shards, {viewers} viewers, window 0: sends a second, full"),
            aim: if split.is_shared() {
                "reported".to_owned()
            } else {
                format!("at least {SHARE_MIN} x one shard's, a shard")
            },
            measured: format!(
                "{:.0} ({:.0} deliveries), fullest core {:.0} %, of the load {:.0} %; {cost}, p99 \
                 {:.0} ms",
                median(&writes),
                middle(&runs, |run| run.full.deliveries_per_s),
                middle(&runs, |run| run.full.busiest) * 100.0,
                middle(&runs, |run| run.full.load_busiest) * 100.0,
                middle(&runs, |run| run.easy.p99_ms),
            ),
            ratio: Some(share(median(&writes))),
            ratio_spread: Some((share(low), share(high))),
            verdict: if split.is_shared() {
                Verdict::Open
            } else {
                Verdict::of(share(median(&writes)) >= SHARE_MIN)
            },
        });
        let (low, high) = spread(&bares);
        measured.lines.push(Line {
            what: format!("{shards} bare loops, a process each, sharing nothing: the same"),
            aim: "reported".to_owned(),
            measured: format!("{:.0}", median(&bares)),
            ratio: Some(bare_share(median(&bares))),
            ratio_spread: Some((bare_share(low), bare_share(high))),
            verdict: Verdict::Open,
        });
        for run in runs {
            measured.raw.extend([run.easy.raw, run.full.raw]);
        }
    }
    measured.notes.push("the ratio column is sends a second of a shard, to one alone".to_owned());
    Ok(measured)
}

#[cfg(test)]
mod tests {
    use super::{Split, sizes};

    #[test]
    fn sizes_double_up_to_the_machine() {
        assert_eq!(sizes(1), [1]);
        assert_eq!(sizes(2), [1, 2]);
        assert_eq!(sizes(12), [1, 2, 4, 8, 12]);
        assert_eq!(sizes(16), [1, 2, 4, 8, 16]);
    }

    #[test]
    fn the_load_has_cores_of_its_own_as_long_as_there_are_enough() {
        let cores: Vec<usize> = (0..16).collect();
        let half = Split::of(&cores, 8);
        assert_eq!(half.load, (8..16).collect::<Vec<_>>());
        assert!(!half.is_shared());
        let all = Split::of(&cores, 16);
        assert_eq!(all.load, cores);
        assert!(all.is_shared());
    }
}
