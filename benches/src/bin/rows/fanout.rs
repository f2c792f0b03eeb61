//! One message to everybody, one send for each viewer: uproar with window 0 beside the bare loop,
//! and beside the same fan-out written the ordinary way on epoll, tokio and glommio. The receiving
//! side is the same sink for all of them.

use crate::bench::{self, Bench, Measured, WARM_UP, complete_stage, figure};
use serde_json::{Value, json};
use std::io;
use uproar_benches::harness::report::{Line, Verdict};
use uproar_benches::harness::stats::{median, paired_ratio, slope};
use uproar_benches::harness::uproar::Settings;
use uproar_benches::proc;

const VIEWERS: u64 = 15_000;
const PAYLOAD: usize = 256;
/// Messages a second: 75,000 sends a second, about 0.6 of a core, so that both sides do the same
/// work and neither is judged at its limit.
const RATE: f64 = 5.0;

/// One repetition of one side.
pub(crate) struct Side {
    pub(crate) cpu_us_per_frame: f64,
    pub(crate) p99_ms: f64,
    pub(crate) bytes_per_viewer: f64,
    pub(crate) lost: f64,
    /// What the viewers received to what the server says it sent, both in the same interval.
    pub(crate) received_share: f64,
    pub(crate) raw: Value,
}

/// A small server that sends `rate` messages a second to `viewers`.
pub(crate) fn small(bench: &Bench, name: &str, viewers: u64, rate: f64) -> io::Result<Side> {
    let plan = format!("--viewers {viewers} --payload {PAYLOAD} --rate {rate}");
    let (mut server, target) = bench.small_server(name, &plan)?;
    let first = viewers / 3;
    let load = format!("--viewers {first},{viewers} --content stamped --payload {PAYLOAD}");
    let mut sink = bench.sink(target, &load)?;
    complete_stage(&mut sink, first)?;
    let rss_first = proc::rss_anon_bytes(server.pid())?;
    sink.say("next")?;
    complete_stage(&mut sink, viewers)?;
    server.hear("sending", bench::RAMP_PATIENCE)?;
    std::thread::sleep(WARM_UP);
    let (begun, got_before) = (server.mark()?, sink.mark()?);
    let watch = bench.watch()?;
    std::thread::sleep(bench.interval);
    let [core, load_core] = watch.busy()?;
    let (ended, got) = (server.mark()?, sink.mark()?);
    let rss_all = proc::rss_anon_bytes(server.pid())?;
    let frames = figure(&ended, "sends")? - figure(&begun, "sends")?;
    let (few, all) = (first as f64, viewers as f64);
    let received = (figure(&got, "bytes")? - figure(&got_before, "bytes")?) / PAYLOAD as f64;
    Ok(Side {
        received_share: received / frames,
        cpu_us_per_frame: core.busy_s * 1e6 / frames,
        p99_ms: figure(&got, "latency_ms_p99")?,
        bytes_per_viewer: slope((few, rss_first as f64), (all, rss_all as f64)),
        lost: figure(&ended, "lost")? - figure(&begun, "lost")?,
        raw: json!({
            "side": name, "viewers": viewers, "rate": rate, "payload_bytes": PAYLOAD,
            "frames": frames, "received": received, "core": core,
            "load_core": load_core, "server_begun": begun, "server_ended": ended,
            "sink": got, "rss_first": rss_first, "rss_all": rss_all,
        }),
    })
}

/// uproar with window 0: each message is a frame of its own, as in the bare loop.
pub(crate) fn uproar(bench: &Bench, viewers: u64, rate: f64) -> io::Result<Side> {
    let settings = Settings::new(1).with("engine.rooms.window", 0);
    let server = bench.uproar(&settings)?;
    let first = viewers / 3;
    let load = format!(
        "--viewers {first},{viewers} --hello tcp --content uproar --payload {PAYLOAD} \
         --publish-rate {rate}"
    );
    let mut sink = bench.sink(server.target, &load)?;
    complete_stage(&mut sink, first)?;
    let rss_first = server.rss_anon_bytes()?;
    sink.say("next")?;
    complete_stage(&mut sink, viewers)?;
    std::thread::sleep(WARM_UP);
    let (begun, got_before) = (server.figures()?, sink.mark()?);
    let watch = bench.watch()?;
    std::thread::sleep(bench.interval);
    let [core, load_core] = watch.busy()?;
    let (ended, got) = (server.figures()?, sink.mark()?);
    let rss_all = server.rss_anon_bytes()?;
    let gained = |name: &str, labels: &[&str]| -> io::Result<f64> {
        Ok(ended.sum(name, labels)? - begun.sum(name, labels)?)
    };
    let frames = gained("uproar_socket_writes_total", &[])?;
    let deliveries = gained("uproar_deliveries_total", &["what=\"sent\""])?;
    let (few, all) = (first as f64, viewers as f64);
    let sampled = figure(&got, "messages")? - figure(&got_before, "messages")?;
    let received = sampled * all / figure(&got, "sampled")?;
    Ok(Side {
        received_share: received / deliveries,
        cpu_us_per_frame: core.busy_s * 1e6 / frames,
        p99_ms: figure(&got, "latency_ms_p99")?,
        bytes_per_viewer: slope((few, rss_first as f64), (all, rss_all as f64)),
        lost: gained("uproar_short_writes_total", &[])?,
        raw: json!({
            "side": "uproar", "viewers": viewers, "rate": rate, "payload_bytes": PAYLOAD,
            "frames": frames, "deliveries": deliveries, "received": received,
            "core": core, "load_core": load_core,
            "sink": got, "rss_first": rss_first, "rss_all": rss_all,
            "shard_cpu_s": gained("uproar_shard_cpu_seconds_total", &[])?,
        }),
    })
}

/// The values of one figure over the repetitions of a side.
fn all(sides: &[Side], pick: impl Fn(&Side) -> f64) -> Vec<f64> {
    sides.iter().map(pick).collect()
}

/// CPU per frame of uproar, window 0, to that of the bare loop.
pub(crate) fn fanout(bench: &Bench) -> io::Result<Measured> {
    let mut measured = Measured::default();
    bench.noise(&mut measured)?;
    let viewers = bench.viewers(VIEWERS);
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..bench.repeats {
        ours.push(uproar(bench, viewers, RATE)?);
        bare.push(small(bench, "bare", viewers, RATE)?);
    }
    let cpu = |side: &Side| side.cpu_us_per_frame;
    let (ratio, spread) = paired_ratio(&all(&ours, cpu), &all(&bare, cpu));
    let (us, bare_us) = (median(&all(&ours, cpu)), median(&all(&bare, cpu)));
    measured.lines.push(Line {
        what: format!("CPU per frame sent, {viewers} viewers, {PAYLOAD} B, window 0"),
        aim: "at most 1.0 x the bare send(2) loop".to_owned(),
        measured: format!("{us:.2} µs, bare {bare_us:.2} µs"),
        ratio: Some(ratio),
        ratio_spread: Some(spread),
        verdict: Verdict::of(ratio <= 1.0),
    });
    finish(&mut measured, [("uproar", ours), ("bare", bare)]);
    Ok(measured)
}

/// Keeps the raw figures, and says where a side lost frames: then its CPU is of less work.
fn finish<const N: usize>(measured: &mut Measured, sides: [(&str, Vec<Side>); N]) {
    for (name, side) in sides {
        let lost: f64 = side.iter().map(|side| side.lost).sum();
        if lost > 0.0 {
            measured.notes.push(format!("{name} lost or cut {lost} sends"));
        }
        for share in side.iter().map(|side| side.received_share) {
            // An interval may cut a sweep at either end: one message of 75 at 5 a second.
            if !(0.97..=1.03).contains(&share) {
                let percent = share * 100.0;
                measured.notes.push(format!("{name}: {percent:.1} % of what it sent arrived"));
            }
        }
        measured.raw.extend(side.into_iter().map(|side| side.raw));
    }
}

/// CPU per frame, memory per connection and p99 of uproar and the ordinary ways, in turns.
pub(crate) fn runtimes(bench: &Bench) -> io::Result<Measured> {
    const OTHERS: [&str; 4] = ["bare", "epoll", "tokio", "glommio"];
    let mut measured = Measured::default();
    bench.noise(&mut measured)?;
    let viewers = bench.viewers(VIEWERS);
    let mut ours = Vec::new();
    let mut others = OTHERS.map(|_| Vec::new());
    for _ in 0..bench.repeats {
        ours.push(uproar(bench, viewers, RATE)?);
        for (name, sides) in OTHERS.iter().zip(&mut others) {
            sides.push(small(bench, name, viewers, RATE)?);
        }
    }
    let cpu = |side: &Side| side.cpu_us_per_frame;
    let bytes = |side: &Side| side.bytes_per_viewer;
    let mut line = |name: &str, sides: &[Side]| {
        let (ratio, spread) = paired_ratio(&all(sides, cpu), &all(&ours, cpu));
        measured.lines.push(Line {
            what: format!("{name}: CPU per frame, memory per connection, p99"),
            aim: String::new(),
            measured: format!(
                "{:.2} µs, {:.0} B, {:.0} ms",
                median(&all(sides, cpu)),
                median(&all(sides, bytes)),
                median(&all(sides, |side| side.p99_ms)),
            ),
            ratio: Some(ratio),
            ratio_spread: Some(spread),
            verdict: Verdict::Open,
        });
    };
    line("uproar, window 0", &ours);
    for (name, sides) in OTHERS.iter().zip(&others) {
        line(name, sides);
    }
    let glommio = &others[3];
    let near = |pick: fn(&Side) -> f64| median(&all(glommio, pick)) / median(&all(&ours, pick));
    let (cpu_ratio, bytes_ratio) = (near(cpu), near(bytes));
    measured.notes.push(host_on_glommio(cpu_ratio, bytes_ratio));
    measured.notes.push("the ratio column is CPU per frame to uproar's".to_owned());
    let [a, b, c, d] = others;
    let named = [("uproar", ours), ("bare", a), ("epoll", b), ("tokio", c), ("glommio", d)];
    finish(&mut measured, named);
    Ok(measured)
}

/// What the figures say about hosting the shards on glommio: within 5 % on both, it is proposed.
fn host_on_glommio(cpu_ratio: f64, bytes_ratio: f64) -> String {
    let figures = format!(
        "glommio needs {cpu_ratio:.2} x uproar's CPU per frame and {bytes_ratio:.1} x its memory \
         per connection"
    );
    if cpu_ratio <= 1.05 && bytes_ratio <= 1.05 {
        format!("{figures}: within 5 % on both, so the shards should be hosted on glommio")
    } else {
        format!("{figures}: not within 5 % on both, so the shards stay on the ring")
    }
}

#[cfg(test)]
mod tests {
    use super::host_on_glommio;

    #[test]
    fn glommio_is_proposed_only_when_it_is_near_on_both() {
        assert!(host_on_glommio(1.04, 0.9).contains("should be hosted"));
        assert!(host_on_glommio(1.04, 1.2).contains("stay on the ring"));
        assert!(host_on_glommio(1.06, 1.0).contains("stay on the ring"));
    }
}
