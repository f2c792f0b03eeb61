//! `uproar doctor`: whether this host is fit for running uproar, and how to mend what is not.
//!
//! Owns the order of the checks and how they are printed. `facts.rs` reads the host, `judge.rs`
//! says what the facts mean, `sysctls.rs` has the kernel's settings. Changes nothing.

mod facts;
mod judge;
mod sysctls;

use crate::config::{Config, Role};
use crate::{ConfigArgs, Failure, printed};
use clap::{Args, ValueEnum};
use facts::Moment;
use judge::{Check, OpenFiles, Verdict};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use uproar_control::store::{self, Reached};
use uproar_engine::config::IoChoice;
use uproar_engine::io::Backend;

/// What a host is judged by where neither the command line nor the configuration says a number.
const CONNECTIONS: u64 = 100_000;
/// Descriptors beside connections of HTTP and of engines, in a control process.
const FILES_BESIDE: u64 = 256;

#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Exit codes: 0 all is well or there are warnings alone, 1 something fails, \
    2 wrong command line.\nRun it as the user that runs uproar, with the same configuration."
)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Which process this host is for.
    #[arg(long, value_name = "PROCESS", default_value = "serve")]
    role: Process,
    /// Client connections this host is for; without it engine.connections_per_shard_max times
    /// shards, or 100000.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..1_000_000_000))]
    connections: Option<u64>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Process {
    Serve,
    Control,
    Engine,
}

/// Looks at everything and tells it.
pub(crate) fn doctor(args: &DoctorArgs) -> Result<ExitCode, Failure> {
    let checks = examine(args);
    let text = if args.json { as_json(&checks)? } else { as_text(&checks) };
    let told = printed(&text)?;
    let fails = checks.iter().any(|check| check.verdict == Verdict::Fail);
    Ok(if fails { ExitCode::from(1) } else { told })
}

fn as_text(checks: &[Check]) -> String {
    let line = |check: &Check| {
        let Check { name, verdict, reason, remedy } = check;
        let mend = if remedy.is_empty() { String::new() } else { format!(" -> {remedy}") };
        format!("{:<4}  {name}: {reason}{mend}\n", verdict.word())
    };
    let lines: String = checks.iter().map(line).collect();
    let [ok, warn, fail] = sums(checks);
    format!("{lines}{ok} ok, {warn} to look at, {fail} to mend")
}

fn as_json(checks: &[Check]) -> Result<String, Failure> {
    let [ok, warn, fail] = sums(checks);
    let all = serde_json::json!({ "ok": ok, "warn": warn, "fail": fail, "checks": checks });
    serde_json::to_string_pretty(&all).map_err(|e| Failure::Failed(e.to_string()))
}

fn sums(checks: &[Check]) -> [usize; 3] {
    [Verdict::Ok, Verdict::Warn, Verdict::Fail]
        .map(|verdict| checks.iter().filter(|check| check.verdict == verdict).count())
}

fn examine(args: &DoctorArgs) -> Vec<Check> {
    let from = Moment::now();
    let (configured, config) = configuration(args);
    let known = config.as_ref();
    let mut checks = vec![configured];
    checks.push(judge::kernel(&facts::sysctl("kernel.osrelease").unwrap_or_default()));
    let shards = args.role != Process::Control;
    if shards {
        checks.push(io_uring(known));
    }
    let files = open_files(args, known);
    checks.push(judge::open_files(files));
    if let Some((available, limit)) = facts::memory() {
        checks.push(judge::memory(available, limit, files.connections));
    }
    if shards {
        checks.extend(sysctls::checks(files.connections, facts::sysctl));
    }
    let mut store_file = None;
    if let Some(config) = known {
        if args.role != Process::Engine {
            checks.extend(stored(config, &mut store_file));
        }
        checks.extend(certificates(args.role, config));
        checks.extend(ports(args.role, config));
        checks.extend(exposure(args.role, config));
    }
    checks.push(judge::clock(&facts::clock(from, store_file.as_deref())));
    checks
}

/// The same check as `uproar config check`, for this process; the configuration, if it can be read.
fn configuration(args: &DoctorArgs) -> (Check, Option<Config>) {
    let name = "configuration";
    let mend = "mend it; uproar.toml documents every key, uproar config check FILE looks again";
    let config = match args.config.load() {
        Ok(config) => config,
        Err(Failure::Failed(why) | Failure::Usage(why)) => {
            let reason = format!("{}; what depends on it was not looked at", one_line(&why));
            return (Check::fail(name, reason, mend), None);
        }
    };
    let role = match args.role {
        Process::Serve => Role::Serve,
        Process::Control => Role::Control,
        Process::Engine => Role::Engine,
    };
    let found = match config.check(role) {
        Ok(()) => Check::ok(name, "valid".into()),
        Err(why) => Check::fail(name, one_line(&why), mend),
    };
    (found, Some(config))
}

/// An error without the lines that point into its file.
fn one_line(text: &str) -> String {
    let words = text.lines().map(str::trim).filter(|line| !line.starts_with('|'));
    words.collect::<Vec<_>>().join(" ")
}

fn io_uring(config: Option<&Config>) -> Check {
    let choice = config.map_or(IoChoice::Auto, |config| config.engine.io);
    let probed = match uproar_engine::io::probe(choice) {
        Ok((Backend::Epoll, why)) if choice == IoChoice::Auto => Err(why),
        Ok((_, how)) => Ok(how),
        Err(why) => Err(why.to_string()),
    };
    judge::io_uring(probed, choice == IoChoice::Uring)
}

fn open_files(args: &DoctorArgs, config: Option<&Config>) -> OpenFiles {
    let (soft, hard) = facts::open_files().unwrap_or((1_024, 1_024));
    if args.role == Process::Control {
        let http = config.map_or(0, |config| u64::from(config.http.connections_max));
        let connections = args.connections.unwrap_or(http + FILES_BESIDE);
        return OpenFiles { soft, hard, tables: 1, connections, asked: true, raises: false };
    }
    let engine = config.map(|config| &config.engine);
    let shards = match engine.map_or(0, |engine| engine.shards) {
        0 => uproar_engine::io::cores_allowed().len() as u64,
        shards => u64::from(shards),
    };
    let own_tables = uproar_engine::io::descriptor_tables_can_be_split();
    let configured = match engine.map_or(0, |engine| engine.connections_per_shard_max) {
        0 => None,
        each => Some(u64::from(each) * shards),
    };
    let wanted = args.connections.or(configured);
    OpenFiles {
        soft,
        hard,
        tables: if own_tables { shards } else { 1 },
        connections: wanted.unwrap_or(CONNECTIONS),
        asked: wanted.is_some(),
        raises: true,
    }
}

/// The disk and the store; nothing where none is kept. `file` becomes SQLite's, where there is one.
fn stored(config: &Config, file: &mut Option<PathBuf>) -> Vec<Check> {
    let url = &config.store.url;
    if url.is_empty() || !config.has_token_key() {
        let why = if url.is_empty() { "store.url is empty" } else { "no token key is set" };
        return vec![Check::ok("store", format!("{why}: live rooms alone, nothing is kept"))];
    }
    let mut checks = Vec::new();
    match store::file(url) {
        Ok(Some(at)) => {
            let folder = store::folder(&at);
            checks.push(judge::disk(&folder.display().to_string(), facts::disk(&folder)));
            *file = Some(at);
            if checks[0].verdict == Verdict::Fail {
                return checks; // the store would say the same once more
            }
        }
        Ok(None) => {}
        Err(why) => return vec![Check::fail("store", why, "mend store.url")],
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let reached = match runtime {
        Ok(runtime) => runtime.block_on(store::reach(url)),
        Err(error) => Err(error.to_string()),
    };
    checks.push(match reached {
        Ok(Reached::Answers) => Check::ok("store", "it answers".into()),
        Ok(Reached::NotYet) => Check::ok("store", "no file yet; the server makes it".into()),
        Err(why) => Check::fail(
            "store",
            one_line(&why),
            "start the database server or let it through, look at its user and password; or \
             uproar restore FILE",
        ),
    });
    checks
}

/// Whether those whom this process asks over https can be verified; `None` where it asks nobody.
fn certificates(role: Process, config: &Config) -> Option<Check> {
    let is_tls = |url: &str| url.starts_with("https://");
    let has_store = role != Process::Engine;
    let (danmaku, s3) = (&config.danmaku, &config.danmaku.s3);
    let is_kept = has_store && danmaku.enabled && !s3.bucket.is_empty();
    let issuers = &config.engine.tokens.issuers;
    let asks = [
        ("webhooks", has_store && config.webhooks.iter().any(|hook| is_tls(&hook.url))),
        ("engine.tokens.issuers", issuers.iter().any(|issuer| is_tls(&issuer.jwks_url))),
        ("link.control", role == Process::Engine && is_tls(&config.link.control)),
        // Without an endpoint it is Amazon's own, which is https.
        ("danmaku.s3", is_kept && !s3.endpoint.starts_with("http://")),
    ];
    let for_keys: Vec<&str> = asks.iter().filter(|(_, asks)| *asks).map(|(key, _)| *key).collect();
    let found = uproar_control::outgoing::certificates;
    (!for_keys.is_empty()).then(|| judge::certificates(&for_keys.join(", "), found()))
}

fn ports(role: Process, config: &Config) -> Vec<Check> {
    let clients = ("engine.listen", "--listen", config.engine.listen);
    let http = ("http.listen", "--http", config.http.listen);
    let link = ("link.listen", "--link", config.link.listen);
    let ports: [(&str, &str, SocketAddr); 2] = match role {
        Process::Serve | Process::Engine => [clients, http],
        Process::Control => [link, http],
    };
    let look = |(key, flag, address)| judge::port(key, flag, address, facts::port(address));
    ports.into_iter().map(look).collect()
}

/// Whether what other machines reach is locked. (What may not be at all, the configuration's own
/// check refuses: a public address without a key.)
fn exposure(role: Process, config: &Config) -> Vec<Check> {
    let mut checks = Vec::new();
    let public = |address: SocketAddr| !address.ip().is_loopback();
    let generate = "engine.tokens.hs256_secret (uproar token --generate-secret makes one)";
    if role != Process::Control {
        let listen = config.engine.listen;
        checks.push(match (config.has_token_key(), public(listen)) {
            (true, _) => Check::ok("keys", "tokens are checked".into()),
            (false, true) => Check::warn(
                "keys",
                format!("everybody who reaches {listen} may watch and publish"),
                format!("set {generate}"),
            ),
            (false, false) => Check::warn(
                "keys",
                "no token key is set: a demo, for this machine alone".into(),
                format!("for production set {generate}, engine.listen and http.api_key"),
            ),
        });
    }
    if public(config.http.listen) && config.http.metrics_open {
        checks.push(Check::warn(
            "metrics",
            format!("everybody who reaches {} may read /metrics", config.http.listen),
            "http.metrics_open = false, and give the API key to Prometheus",
        ));
    }
    if role == Process::Control && public(config.link.listen) {
        checks.push(Check::warn(
            "link",
            format!("{} is reached by other machines, unencrypted", config.link.listen),
            "a private network, or a proxy before it that ends TLS",
        ));
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_check_is_one_line_and_json_says_the_same() {
        let checks = [
            Check::ok("kernel", "Linux 6.12".into()),
            Check::warn("clock", "it jumped".into(), "slew it"),
        ];
        let text = as_text(&checks);
        let lines = "ok    kernel: Linux 6.12\nwarn  clock: it jumped -> slew it\n";
        assert_eq!(text, format!("{lines}1 ok, 1 to look at, 0 to mend"));
        let json: serde_json::Value = serde_json::from_str(&as_json(&checks).unwrap()).unwrap();
        assert_eq!((&json["ok"], &json["warn"], &json["fail"]), (&1.into(), &1.into(), &0.into()));
        assert_eq!(json["checks"][1]["verdict"], "warn");
        assert_eq!(json["checks"][1]["remedy"], "slew it");
    }

    #[test]
    fn what_is_open_to_others_is_told() {
        let mut config = Config::default();
        let told = |role, config: &Config| format!("{:?}", exposure(role, config));
        assert!(told(Process::Serve, &config).contains("a demo"));
        config.engine.tokens.hs256_secret = "set".into();
        config.http.listen = "0.0.0.0:7480".parse().unwrap();
        let text = told(Process::Serve, &config);
        assert!(text.contains("tokens are checked") && text.contains("metrics_open"), "{text}");
        config.http.metrics_open = false;
        config.link.listen = "10.0.0.1:7470".parse().unwrap();
        assert!(told(Process::Control, &config).contains("unencrypted"));
        assert!(!told(Process::Engine, &config).contains("unencrypted"));
        config.engine.tokens.hs256_secret.clear();
        config.engine.listen = "0.0.0.0:7400".parse().unwrap();
        assert!(told(Process::Engine, &config).contains("everybody who reaches 0.0.0.0:7400"));
    }
}
