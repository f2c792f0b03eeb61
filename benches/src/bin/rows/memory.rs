//! User-space memory per idle viewer: the slope of RssAnon between two stages of one server, its
//! shards fixed, its pools touched before the first figure is taken. Guests on TCP and WebSocket,
//! and viewers that signed in, each as a user of its own.

use crate::bench::{Bench, Measured, complete_stage, until};
use serde_json::json;
use std::io;
use std::time::Duration;
use uproar_benches::harness::report::{Line, Verdict};
use uproar_benches::harness::stats::slope;
use uproar_benches::harness::uproar::{Server, Settings};
use uproar_benches::proc;

const STAGES: [u64; 2] = [50_000, 200_000];
/// So that each has room: 90 % of an open-file limit of 20,000, and SO_REUSEPORT is not even.
const SHARDS: u16 = 14;
/// HS256, 32 bytes.
pub(crate) const SECRET: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
/// Longer than the pause between two viewer counts.
const SETTLE: Duration = Duration::from_secs(3);
const IDLE_PATIENCE: Duration = Duration::from_secs(60);

struct Kind {
    name: &'static str,
    flags: String,
    aim_bytes: f64,
}

fn kinds() -> [Kind; 3] {
    let kind = |name, flags: &str, aim_bytes| Kind { name, flags: flags.to_owned(), aim_bytes };
    [
        kind("guest, TCP", "--hello tcp", 128.0),
        kind("guest, WebSocket", "--hello ws", 160.0),
        kind("signed in, TCP", &format!("--hello tcp --sign-in hs256:{SECRET}"), 128.0 + 72.0),
    ]
}

fn settings(shards: u16) -> Settings {
    Settings::new(shards)
        .with("engine.ping_every_s", 3600) // the crowd is silent: no ping, no idle deadline
        .with("engine.tokens.hs256_secret", SECRET)
        .with("engine.tokens.guests", true)
}

/// Sends a few messages to everybody, so that every pool, ring and cache is in use.
fn touch(server: &Server) -> io::Result<()> {
    for number in 0..5 {
        server.publish("bench", &format!("message {number} {}", "x".repeat(240)))?;
        until_idle(server)?;
    }
    Ok(())
}

/// Waits until the server has had nothing to send for a while: counts follow a crowd's arrival.
fn until_idle(server: &Server) -> io::Result<()> {
    let writes = || server.figures()?.sum("uproar_socket_writes_total", &[]);
    let mut before = writes()?;
    until("an idle server", IDLE_PATIENCE, || {
        std::thread::sleep(SETTLE);
        let now = writes()?;
        Ok(std::mem::replace(&mut before, now) == now)
    })
}

/// The slope per idle viewer for each kind, and the fixed cost of a shard.
pub(crate) fn memory(bench: &Bench) -> io::Result<Measured> {
    let mut measured = Measured::default();
    let [few, many] = STAGES.map(|viewers| bench.viewers(viewers));
    for kind in kinds() {
        let server = bench.uproar(&settings(SHARDS))?;
        let empty = server.rss_anon_bytes()?;
        let mut sink =
            bench.sink(server.target, &format!("--viewers {few},{many} {}", kind.flags))?;
        complete_stage(&mut sink, few)?;
        touch(&server)?;
        let (rss_few, own_few) = (server.rss_anon_bytes()?, user_bytes(&server)?);
        let slab_few = proc::kernel_bytes()?;
        sink.say("next")?;
        complete_stage(&mut sink, many)?;
        until_idle(&server)?;
        let (rss_many, own_many) = (server.rss_anon_bytes()?, user_bytes(&server)?);
        let slab_many = proc::kernel_bytes()?;
        let still = sink.mark()?;
        if still["joined"].as_u64() != Some(many) {
            return Err(io::Error::other(format!("viewers left while they idled: {still}")));
        }
        let per = |a: f64, b: f64| slope((few as f64, a), (many as f64, b));
        let bytes = per(rss_few as f64, rss_many as f64);
        let own = per(own_few, own_many);
        let kernel = per(slab_few as f64, slab_many as f64);
        measured.lines.push(Line {
            what: format!("user-space memory per idle viewer, {}: {few} to {many}", kind.name),
            aim: format!("at most {:.0} B", kind.aim_bytes),
            measured: format!(
                "{bytes:.0} B (its own count {own:.0} B; kernel slab of both ends {kernel:.0} B)"
            ),
            ratio: Some(bytes / kind.aim_bytes),
            ratio_spread: None,
            verdict: Verdict::of(bytes <= kind.aim_bytes),
        });
        measured.raw.push(json!({
            "kind": kind.name, "shards": SHARDS, "viewers": [few, many], "rss_empty": empty,
            "rss": [rss_few, rss_many], "own": [own_few, own_many],
            "slab": [slab_few, slab_many], "bytes_per_viewer": bytes,
        }));
    }
    fixed_cost(bench, &mut measured)?;
    Ok(measured)
}

/// What the server itself counts as its tables and frames.
fn user_bytes(server: &Server) -> io::Result<f64> {
    server.figures()?.sum("uproar_shard_user_bytes", &[])
}

/// Memory of a shard without viewers: the slope over the number of shards.
fn fixed_cost(bench: &Bench, measured: &mut Measured) -> io::Result<()> {
    let mut rss = [0.0; 2];
    let shards = [1, 9];
    for (shards, rss) in shards.into_iter().zip(&mut rss) {
        let server = bench.uproar(&settings(shards))?;
        std::thread::sleep(SETTLE);
        *rss = server.rss_anon_bytes()? as f64;
    }
    let each = slope((f64::from(shards[0]), rss[0]), (f64::from(shards[1]), rss[1]));
    let mib = f64::from(1 << 20);
    measured.lines.push(Line {
        what: "fixed cost of a shard without viewers".to_owned(),
        aim: "reported".to_owned(),
        measured: format!(
            "{:.2} MiB; the process with one shard {:.2} MiB",
            each / mib,
            rss[0] / mib
        ),
        ratio: None,
        ratio_spread: None,
        verdict: Verdict::Open,
    });
    measured.raw.push(json!({ "shards": shards, "rss_without_viewers": rss }));
    Ok(())
}
