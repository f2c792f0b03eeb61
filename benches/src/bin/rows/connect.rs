//! How fast a crowd gets in: connect, token and join in one go, to plain connect and accept. The
//! same sink opens the connections; the bare side neither reads nor writes. Beside it: a bare
//! server that answers each hello with as many bytes, which shows how much of the difference is the
//! kernel's cost of two more segments, and EdDSA tokens.

use crate::bench::{Bench, Measured, complete_stage, figure};
use crate::memory::SECRET;
use serde_json::{Value, json};
use std::io;
use uproar_benches::harness::report::{Line, Verdict};
use uproar_benches::harness::stats::{median, paired_ratio};
use uproar_benches::harness::uproar::Settings;
use uproar_benches::sink::hello::eddsa_public_pem;

const VIEWERS: u64 = 15_000;
/// As many as a listener holds: neither side ever waits for the other.
const IN_FLIGHT: u64 = 4096;
/// Welcome and joined of an empty room.
const ANSWER_BYTES: usize = 160;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Bare,
    BareAnswer,
    Guest,
    Hs256,
    EdDsa,
}

const SIDES: [Side; 5] = [Side::Bare, Side::BareAnswer, Side::Guest, Side::Hs256, Side::EdDsa];

impl Side {
    fn name(self) -> &'static str {
        match self {
            Side::Bare => "bare connect and accept",
            Side::BareAnswer => "bare, hello read and answered",
            Side::Guest => "uproar, guests",
            Side::Hs256 => "uproar, HS256 tokens",
            Side::EdDsa => "uproar, EdDSA tokens",
        }
    }

    fn load(self, viewers: u64) -> String {
        let sign_in = match self {
            Side::Hs256 => format!("--sign-in hs256:{SECRET}"),
            Side::EdDsa => "--sign-in eddsa".to_owned(),
            Side::Bare | Side::BareAnswer | Side::Guest => String::new(),
        };
        let hello = match self {
            Side::Bare => "none",
            Side::BareAnswer => "echo",
            Side::Guest | Side::Hs256 | Side::EdDsa => "tcp",
        };
        format!("--viewers {viewers} --in-flight {IN_FLIGHT} --hello {hello} {sign_in}")
    }
}

struct Ramp {
    per_s: f64,
    cpu_us: f64,
    raw: Value,
}

fn ramp(bench: &Bench, side: Side, viewers: u64) -> io::Result<Ramp> {
    // The server lives until the end of this function, in one of these two.
    let (mut small, mut ours) = (None, None);
    let target = match side {
        Side::Bare | Side::BareAnswer => {
            let mode = if side == Side::Bare { "connect" } else { "answer" };
            let plan = format!("--viewers {viewers} --mode {mode} --payload {ANSWER_BYTES}");
            let (server, target) = bench.small_server("bare", &plan)?;
            small = Some(server);
            target
        }
        Side::Guest | Side::Hs256 | Side::EdDsa => {
            let settings = Settings::new(1)
                .with("engine.tokens.hs256_secret", SECRET)
                .with("engine.tokens.eddsa_public_key", toml_text(&eddsa_public_pem()))
                .with("engine.tokens.guests", true);
            let server = bench.uproar(&settings)?;
            let target = server.target;
            ours = Some(server);
            target
        }
    };
    let mut sink = bench.sink(target, &format!("{} --wait", side.load(viewers)))?;
    sink.hear("ready", crate::bench::RAMP_PATIENCE)?; // its tokens are minted
    let watch = bench.watch()?;
    sink.say("next")?;
    let stage = complete_stage(&mut sink, viewers)?;
    let [core, load_core] = watch.busy()?;
    sink.finish()?;
    drop((small, ours));
    let ramp_s = figure(&stage, "ramp_s")?;
    Ok(Ramp {
        per_s: viewers as f64 / ramp_s,
        cpu_us: core.busy_s * 1e6 / viewers as f64,
        raw: json!({
            "side": side.name(), "viewers": viewers, "stage": stage, "core": core,
            "load_core": load_core,
        }),
    })
}

/// A TOML string on one line, as `--set` takes it.
fn toml_text(text: &str) -> String {
    format!("\"{}\"", text.replace('\n', "\\n"))
}

/// Connects a second of each side, in turns.
pub(crate) fn connect(bench: &Bench) -> io::Result<Measured> {
    let mut measured = Measured::default();
    bench.noise(&mut measured)?;
    let viewers = bench.viewers(VIEWERS);
    let mut ramps = SIDES.map(|_| Vec::new());
    for _ in 0..bench.repeats {
        for (side, ramps) in SIDES.into_iter().zip(&mut ramps) {
            ramps.push(ramp(bench, side, viewers)?);
        }
    }
    let rates = |of: &[Ramp]| of.iter().map(|ramp| ramp.per_s).collect::<Vec<_>>();
    let bare = rates(&ramps[0]);
    for (side, of) in SIDES.into_iter().zip(&ramps) {
        let (ratio, spread) = paired_ratio(&rates(of), &bare);
        let cpu_us = median(&of.iter().map(|ramp| ramp.cpu_us).collect::<Vec<_>>());
        let judged = side == Side::Hs256;
        let is_bare = side == Side::Bare;
        measured.lines.push(Line {
            what: format!("connects a second, {}", side.name()),
            aim: if judged { "at least 0.7 x bare" } else { "" }.to_owned(),
            measured: format!(
                "{:.0} a second, {cpu_us:.1} µs of the server's core each",
                median(&rates(of)),
            ),
            ratio: (!is_bare).then_some(ratio),
            ratio_spread: (!is_bare).then_some(spread),
            verdict: if judged { Verdict::of(ratio >= 0.7) } else { Verdict::Open },
        });
    }
    measured.raw.extend(ramps.into_iter().flatten().map(|ramp| ramp.raw));
    Ok(measured)
}

#[cfg(test)]
mod tests {
    use super::toml_text;

    #[test]
    fn a_key_fits_on_one_line() {
        assert_eq!(toml_text("a\nb\n"), "\"a\\nb\\n\"");
    }
}
