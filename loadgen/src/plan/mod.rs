//! What the command line means on this machine: addresses resolved, threads laid out, limits
//! checked before anything is started.
//!
//! Owns every decision that is taken before the run. Never opens a connection.

mod layout;

use crate::args::{CLASSES, Common, Io, Mix, Span, Traffic, Transport, Typed};
use crate::dice::Dice;
use crate::expect::Expectation;
use crate::payload::PAYLOAD_BYTES_MIN;
pub(crate) use layout::{Heads, Part};
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;
use uproar_engine::config::IoChoice;
use uproar_proto::ids::RoomId;
use uproar_proto::wire::Variant;

/// What a scenario is, with what only it has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scenario {
    Live,
    Idle,
    Churn { joins_per_s: u32, connects_per_s: u32 },
    Overload,
    Slow { frozen_us: u64, receive_buffer_bytes: u32 },
    Storm,
}

impl Scenario {
    /// As on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Scenario::Live => "live",
            Scenario::Idle => "idle",
            Scenario::Churn { .. } => "churn",
            Scenario::Overload => "overload",
            Scenario::Slow { .. } => "slow",
            Scenario::Storm => "storm",
        }
    }
}

/// Where the server's figures come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MetricsFrom {
    Off,
    /// Host and port, path; `given`: the user asked for it, so its absence is worth a note.
    Http {
        authority: String,
        path: String,
    },
}

/// How connections sign in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SignIn {
    Guests,
    /// HS256, base64.
    Secret(String),
    /// EdDSA, a PEM file.
    Key(PathBuf),
}

/// See the module. Times in microseconds.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) scenario: Scenario,
    pub(crate) target: SocketAddr,
    pub(crate) room: RoomId,
    pub(crate) variant: Variant,
    pub(crate) heads: Heads,
    pub(crate) parts: Vec<Part>,
    /// Loopback addresses to come from: the first, and how many; 0: whichever the system picks.
    pub(crate) sources: (Ipv4Addr, u32),
    pub(crate) ramp_per_s: f64,
    pub(crate) cores: Option<Vec<u16>>,
    pub(crate) io: IoChoice,
    pub(crate) rate_per_s: f64,
    pub(crate) mix: Mix,
    pub(crate) payload_bytes: usize,
    pub(crate) warmup_us: u64,
    pub(crate) duration_us: u64,
    pub(crate) metrics: MetricsFrom,
    pub(crate) sign_in: SignIn,
    pub(crate) expect: Vec<Expectation>,
    pub(crate) json: Option<PathBuf>,
    pub(crate) seed: u64,
    /// Marks this run's messages.
    pub(crate) run: u32,
}

/// What the machine allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Host {
    /// Open files of one thread.
    pub(crate) files_per_thread: u64,
    /// Ports an address has for connecting.
    pub(crate) ports_per_address: u32,
    /// For seeds that were not given.
    pub(crate) entropy: u64,
}

impl Host {
    /// This machine; raises the soft open-file limit.
    pub(crate) fn here() -> Host {
        let (soft, _) = uproar_engine::io::raise_open_file_limit();
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
        let ports = range.ok().and_then(|text| {
            let mut bounds = text.split_whitespace().map(|n| n.parse::<u32>().ok());
            let (first, last) = (bounds.next()??, bounds.next()??);
            Some(last.checked_sub(first)? + 1)
        });
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let entropy =
            clock.map_or(0, |t| t.as_nanos() as u64) ^ u64::from(std::process::id()) << 40;
        Host { files_per_thread: soft, ports_per_address: ports.unwrap_or(28_232), entropy }
    }
}

impl Plan {
    /// Works out what the arguments mean.
    ///
    /// # Errors
    /// In words: what was wrong, and what is allowed.
    pub(crate) fn new(scenario: Typed, host: &Host) -> Result<Plan, String> {
        let (common, traffic, scenario, mut heads, mix) = typed(scenario);
        let target = resolve(&common.target)?;
        let room = RoomId::new(&common.room).ok_or_else(|| {
            format!(
                "--room {:?}: a room name is 1 to 64 bytes of A-Z a-z 0-9 . _ : -, not . or ..",
                common.room
            )
        })?;
        let sign_in = match (&common.token_secret, &common.token_key) {
            (Some(secret), _) => SignIn::Secret(secret.clone()),
            (None, Some(file)) => SignIn::Key(file.clone()),
            (None, None) => SignIn::Guests,
        };
        let rate_per_s = match (scenario, traffic.rate) {
            (Scenario::Idle, _) => 0.0,
            (_, Some(rate)) if rate > 0.0 && rate <= 1e6 => rate,
            (_, Some(rate)) => {
                return Err(format!("--rate {rate}: allowed is above 0 to 1,000,000 a second"));
            }
            (Scenario::Overload, None) => 200.0,
            (_, None) => 20.0,
        };
        heads.publishers = publishers(scenario, &traffic, rate_per_s)?;
        if heads.viewers == 0 {
            return Err("--viewers 0: a crowd has at least one".into());
        }
        let payload_bytes = traffic.payload as usize;
        if !(PAYLOAD_BYTES_MIN..=64 * 1024).contains(&payload_bytes) {
            return Err(format!(
                "--payload {payload_bytes}: allowed is {PAYLOAD_BYTES_MIN} (a message's number, \
                 time and checksum) to 65536; the server's own bound may be lower"
            ));
        }
        let seed = common.seed.unwrap_or(host.entropy);
        let parts = layout::parts(&heads, common.threads, host)?;
        let sources = layout::sources(&heads, scenario, target, host)?;
        let guests = sign_in == SignIn::Guests;
        Ok(Plan {
            mix: mix_of(scenario, mix, guests)?,
            scenario,
            target,
            room,
            variant: variant(common.transport),
            heads,
            parts,
            sources,
            ramp_per_s: f64::from(common.ramp),
            cores: common.cores.map(|c| c.0),
            io: match common.io {
                Io::Auto => IoChoice::Auto,
                Io::Uring => IoChoice::Uring,
                Io::Epoll => IoChoice::Epoll,
            },
            rate_per_s,
            payload_bytes,
            warmup_us: micros(traffic.warmup.0),
            duration_us: duration_us(scenario, &traffic)?,
            metrics: metrics(common.metrics.as_deref(), target)?,
            sign_in,
            expect: common.expect,
            json: common.json,
            seed,
            run: (Dice::new(host.entropy).next() >> 32) as u32,
        })
    }

    /// Whether this scenario has messages.
    pub(crate) fn publishes(&self) -> bool {
        self.scenario != Scenario::Idle
    }

    /// The source of a connection by its number in the run, as `Action::Connect` wants it.
    pub(crate) fn source(&self, number: u32) -> u32 {
        match self.sources {
            (_, 0) => 0,
            (first, count) => first.to_bits() + number % count,
        }
    }

    /// When the frozen viewers stop and go on, from the first measured moment.
    pub(crate) fn freeze_us(&self) -> Option<(u64, u64)> {
        let Scenario::Slow { frozen_us, .. } = self.scenario else { return None };
        let from = self.duration_us / 20;
        Some((from, from + frozen_us))
    }

    /// The wire variant's name on the command line.
    pub(crate) fn transport(&self) -> &'static str {
        match self.variant {
            Variant::WsJson | Variant::WsJsonDeflate => "ws-json",
            Variant::WsProto | Variant::WsProtoDeflate => "ws",
            Variant::Tcp => "tcp",
        }
    }
}

fn variant(transport: Transport) -> Variant {
    match transport {
        Transport::Tcp => Variant::Tcp,
        Transport::Ws => Variant::WsProto,
        Transport::WsJson => Variant::WsJson,
    }
}

/// The parts of a scenario, with the kinds of connections that only some have.
fn typed(scenario: Typed) -> (Common, Traffic, Scenario, Heads, Option<Mix>) {
    let heads = |common: &Common| Heads { viewers: common.viewers, ..Heads::default() };
    match scenario {
        Typed::Live { common, traffic } => {
            let heads = heads(&common);
            (common, traffic, Scenario::Live, heads, None)
        }
        Typed::Storm { common, traffic } => {
            let heads = heads(&common);
            (common, traffic, Scenario::Storm, heads, None)
        }
        Typed::Overload { common, traffic, mix } => {
            let heads = heads(&common);
            (common, traffic, Scenario::Overload, heads, mix)
        }
        Typed::Idle { common, duration } => {
            let traffic = Traffic {
                rate: None,
                payload: 256,
                publishers: Some(0),
                duration: Some(duration),
                warmup: Span(Duration::ZERO),
            };
            let heads = heads(&common);
            (common, traffic, Scenario::Idle, heads, None)
        }
        Typed::Churn { common, traffic, joins_per_s, churners, connects_per_s } => {
            let heads = Heads {
                churners: churners.unwrap_or((joins_per_s / 5).max(10)).min(2 * joins_per_s),
                // A connection that comes and goes: one place for each that is open for a second.
                passers: connects_per_s,
                ..heads(&common)
            };
            (common, traffic, Scenario::Churn { joins_per_s, connects_per_s }, heads, None)
        }
        Typed::Slow { common, traffic, frozen_percent, frozen_for, receive_buffer } => {
            let frozen = (f64::from(common.viewers) * frozen_percent / 100.0).ceil().max(1.0);
            let duration = traffic.duration.map_or(Duration::from_secs(20), |d| d.0);
            let frozen_us = frozen_for.map_or(micros(duration) / 10 * 7, |span| micros(span.0));
            let heads = Heads { frozen: frozen as u32, ..heads(&common) };
            let scenario = Scenario::Slow { frozen_us, receive_buffer_bytes: receive_buffer };
            (common, traffic, scenario, heads, None)
        }
    }
}

fn publishers(scenario: Scenario, traffic: &Traffic, rate_per_s: f64) -> Result<u32, String> {
    if scenario == Scenario::Idle {
        return Ok(0);
    }
    let default = match scenario {
        // Each stays far below the limit of one user: the room is what is to be overloaded.
        Scenario::Overload => rate_per_s.ceil().clamp(1.0, 10_000.0) as u32,
        // As one viewer in many who types; fewer where the rate is small.
        _ => 20.max((rate_per_s / 2.0).ceil() as u32).min(10_000),
    };
    let publishers = traffic.publishers.unwrap_or(default);
    if publishers == 0 || publishers > 15_000 {
        return Err(format!("--publishers {publishers}: allowed is 1 to 15000, on one thread"));
    }
    Ok(publishers)
}

fn duration_us(scenario: Scenario, traffic: &Traffic) -> Result<u64, String> {
    let default = if scenario == Scenario::Storm { 60 } else { 20 };
    let duration = traffic.duration.map_or(Duration::from_secs(default), |d| d.0);
    if duration < Duration::from_secs(1) || duration > Duration::from_secs(86_400) {
        return Err(format!("--duration {duration:?}: allowed is 1s to 24h"));
    }
    let duration_us = micros(duration);
    if let Scenario::Slow { frozen_us, .. } = scenario
        && frozen_us > duration_us / 100 * 90
    {
        return Err(
            "--frozen-for: at most 90 % of the duration, so that it can be seen how they go on"
                .into(),
        );
    }
    Ok(duration_us)
}

fn mix_of(scenario: Scenario, mix: Option<Mix>, guests: bool) -> Result<Mix, String> {
    let chat_only = Mix([100.0, 0.0, 0.0, 0.0]);
    let mix = match (scenario, mix) {
        (Scenario::Overload, Some(mix)) => mix,
        (Scenario::Overload, None) if guests => Mix([50.0, 0.0, 0.0, 50.0]),
        (Scenario::Overload, None) => Mix([47.0, 0.5, 2.5, 50.0]),
        _ => chat_only,
    };
    let privileged = mix.0[1] + mix.0[2];
    if guests && privileged > 0.0 {
        return Err(format!(
            "--mix: {} and {} need tokens that permit them: give --token-secret or --token-key",
            CLASSES[1], CLASSES[2]
        ));
    }
    Ok(mix)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

pub(crate) fn resolve(target: &str) -> Result<SocketAddr, String> {
    let found = target.to_socket_addrs().map_err(|e| format!("--target {target}: {e}"))?;
    let all: Vec<SocketAddr> = found.collect();
    let v4 = all.iter().find(|a| a.is_ipv4());
    v4.or(all.first()).copied().ok_or_else(|| format!("--target {target}: no address"))
}

fn metrics(given: Option<&str>, target: SocketAddr) -> Result<MetricsFrom, String> {
    let url = match given {
        Some("off") => return Ok(MetricsFrom::Off),
        Some(url) => url,
        None => {
            let authority = SocketAddr::new(target.ip(), 7480).to_string();
            return Ok(MetricsFrom::Http { authority, path: "/metrics".into() });
        }
    };
    let rest = url
        .strip_prefix("http://")
        .ok_or_else(|| format!("--metrics {url}: a URL that begins with http://, or \"off\""))?;
    let (authority, path) = rest.split_once('/').map_or((rest, "metrics"), |(a, p)| (a, p));
    let authority =
        if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
    Ok(MetricsFrom::Http { authority, path: format!("/{path}") })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::args::Args;
    use clap::Parser;

    const HOST: Host = Host { files_per_thread: 20_000, ports_per_address: 28_232, entropy: 1 };

    pub(crate) fn plan(words: &str) -> Result<Plan, String> {
        let words = std::iter::once("uproar-loadgen").chain(words.split_whitespace());
        let args = Args::try_parse_from(words).map_err(|e| e.to_string())?;
        let crate::args::Named::Room(typed) = args.scenario else { panic!("a room") };
        Plan::new(typed, &HOST)
    }

    pub(crate) fn good(words: &str) -> Plan {
        plan(words).expect(words)
    }

    #[test]
    fn live_with_viewers_alone_is_the_canonical_workload() {
        let plan = good("live --viewers 10000");
        assert_eq!(plan.target, SocketAddr::from(([127, 0, 0, 1], 7400)));
        assert_eq!((plan.rate_per_s, plan.payload_bytes, plan.heads.publishers), (20.0, 256, 20));
        assert_eq!((plan.warmup_us, plan.duration_us), (5_000_000, 20_000_000));
        assert_eq!(plan.parts.len(), 2, "publishers do not wait behind 10,000 receives");
        let metrics =
            MetricsFrom::Http { authority: "127.0.0.1:7480".into(), path: "/metrics".into() };
        assert_eq!(plan.metrics, metrics);
        assert_eq!(plan.transport(), "tcp");
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_can() {
        let lines = [
            ("live --viewers 0", "--viewers"),
            ("live --payload 63", "64"),
            ("live --rate 0", "--rate"),
            ("live --duration 100ms", "1s to 24h"),
            ("live --room no/slashes", "A-Z"),
            ("live --metrics ftp://x", "http://"),
            ("live --threads 0", "1 to 1000"),
            ("overload --mix system=10,chat=90", "--token-secret"),
            ("slow --frozen-for 20s", "90 %"),
            ("live --target nowhere", "nowhere"),
            ("live --expect p99", "p99_ms<=1000"),
        ];
        for (line, hint) in lines {
            let error = plan(line).expect_err(line);
            assert!(error.contains(hint), "{line}: {error}");
        }
    }

    #[test]
    fn scenarios_have_defaults_of_their_own() {
        let overload = good("overload");
        assert_eq!((overload.rate_per_s, overload.heads.publishers), (200.0, 200));
        assert_eq!(overload.mix, Mix([50.0, 0.0, 0.0, 50.0]));
        let signed = good("overload --token-secret c2VjcmV0");
        assert_eq!(signed.mix, Mix([47.0, 0.5, 2.5, 50.0]));
        let slow = good("slow --viewers 5000");
        assert_eq!(slow.heads.frozen, 50);
        assert_eq!(slow.freeze_us(), Some((1_000_000, 15_000_000)));
        assert_eq!(good("storm").duration_us, 60_000_000);
        assert_eq!(good("idle").heads.publishers, 0);
        assert_eq!(good("churn --joins-per-s 20000").heads.churners, 4000);
    }

    #[test]
    fn a_seed_repeats_choices_but_not_the_run() {
        assert_eq!(good("live --seed 5").seed, 5);
        let other = Host { entropy: 2, ..HOST };
        let args = Args::try_parse_from(["uproar-loadgen", "live", "--seed", "5"]).expect("valid");
        let crate::args::Named::Room(typed) = args.scenario else { panic!("a room") };
        let plan = Plan::new(typed, &other).expect("valid");
        assert_ne!(plan.run, good("live --seed 5").run, "messages of two runs are told apart");
    }
}
