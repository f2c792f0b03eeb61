//! Every scenario against a real engine in this process: what holds for a right server must hold.
//!
//! A busy machine may delay the tester itself; it says so (`tester_limited`), which is the one
//! check that is not demanded here.

use serde_json::Value;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use uproar_engine::config::{Config, IoChoice};
use uproar_engine::io::probe;
use uproar_engine::{Engine, start};
use uproar_proto::control::Engine as _;

fn config() -> Config {
    let mut config =
        Config { listen: SocketAddr::from(([127, 0, 0, 1], 0)), shards: 2, ..Config::default() };
    config.drain_spread_ms = 300;
    config.send_buffer_bytes = 16 * 1024;
    config.rooms.defaults.user_rate_per_s = 100;
    config
}

fn engine(config: &Config) -> Engine {
    start(config.clone()).expect("an engine on a free port")
}

/// The tester, and where its JSON comes.
struct Run {
    child: Child,
    file: std::path::PathBuf,
}

fn begin(target: SocketAddr, name: &str, words: &str) -> Run {
    let file =
        std::env::temp_dir().join(format!("uproar-loadgen-{}-{name}.json", std::process::id()));
    let child = Command::new(env!("CARGO_BIN_EXE_uproar-loadgen"))
        .args(words.split_whitespace())
        .args(["--target", &target.to_string(), "--metrics", "off", "--json"])
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    Run { child, file }
}

impl Run {
    /// Waits for its end: its exit code and what it wrote.
    fn end(mut self) -> (i32, Value) {
        let code = self.child.wait().expect("it ends").code().expect("not by a signal");
        let text = std::fs::read_to_string(&self.file).expect("it wrote its file");
        let _ = std::fs::remove_file(&self.file);
        (code, serde_json::from_str(&text).unwrap_or(Value::Null))
    }
}

/// Waits until they are all in, and a moment more: the tester goes on to what it measures.
fn has_connections(engine: &Engine, connections: u64) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while engine.node().connections < connections {
        assert!(Instant::now() < deadline, "never all connected");
        thread::sleep(Duration::from_millis(10));
    }
    thread::sleep(Duration::from_millis(800));
}

fn failed(json: &Value) -> Vec<String> {
    let names = json["checks_failed"].as_array().expect("a report");
    let names = names.iter().filter_map(Value::as_str).map(str::to_owned);
    names.filter(|name| name != "tester_limited").collect()
}

fn all_hold(name: &str, words: &str) -> Value {
    let engine = engine(&config());
    let (code, json) = begin(engine.listen(), name, words).end();
    engine.drain();
    engine.join();
    assert_eq!(failed(&json), Vec::<String>::new(), "{name}: {json:#}");
    assert!([0, 3].contains(&code), "{name}: exit code {code}");
    json
}

#[test]
fn a_live_room_holds_over_every_transport_and_driver() {
    let ring = probe(IoChoice::Uring);
    if let Err(why) = &ring {
        eprintln!("SKIPPED: the tester on io_uring; {why}");
    }
    let on_ring = ring.is_ok().then_some("tcp --io uring");
    for options in on_ring.into_iter().chain(["tcp --io epoll", "ws", "ws-json --threads 1"]) {
        let words = "live --viewers 60 --duration 1s --warmup 200ms --transport ";
        let json = all_hold("live", &format!("{words}{options}"));
        assert_eq!(json["viewers_connected"], 60);
        assert_eq!(json["messages_admitted"], 20);
        assert_eq!(json["deliveries"], 1200);
        assert_eq!(json["viewers_equal"], 60);
        assert!(json["latency_ms_p99"].as_f64().is_some_and(|ms| ms > 0.0));
    }
}

#[test]
fn an_idle_crowd_stays() {
    let json = all_hold("idle", "idle --viewers 100 --duration 1s");
    assert_eq!(json["viewers_connected"], 100);
}

#[test]
fn churners_miss_nothing_and_disturb_nobody() {
    let words = "churn --viewers 30 --joins-per-s 40 --churners 50 --connects-per-s 5";
    let json = all_hold("churn", &format!("{words} --duration 2s --warmup 300ms"));
    assert!(json["joins_resumed"].as_u64().is_some_and(|n| n > 20), "{json:#}");
    assert!(json["passes_per_s"].as_f64().is_some_and(|n| n > 1.5), "{json:#}");
}

#[test]
fn an_overloaded_room_balances_its_books() {
    let words = "overload --viewers 20 --rate 300 --publishers 100 --duration 2s --warmup 300ms";
    let json = all_hold("overload", words);
    let n = |key: &str| json[key].as_u64().expect("a count");
    assert!(n("messages_shed") > 100, "{json:#}");
    assert_eq!(n("likes_counted"), n("likes_offered"));
}

#[test]
fn frozen_viewers_are_told_and_come_back() {
    let engine = {
        let mut config = config();
        config.rooms.defaults.rate_per_s = 200;
        engine(&config)
    };
    let words = "slow --viewers 30 --frozen-percent 10 --rate 100 --payload 4096 --duration 5s";
    let (_, json) = begin(engine.listen(), "slow", &format!("{words} --warmup 300ms")).end();
    engine.drain();
    engine.join();
    assert_eq!(failed(&json), Vec::<String>::new(), "{json:#}");
    assert_eq!((&json["frozen_told"], &json["frozen_connected"]), (&3.into(), &3.into()));
}

#[test]
fn everybody_comes_back_after_a_drain() {
    let mut config = config();
    let first = engine(&config);
    config.listen = first.listen();
    let words = "storm --viewers 40 --duration 5s --warmup 300ms";
    let run = begin(first.listen(), "storm", words);
    has_connections(&first, 60);
    first.drain();
    let deadline = Instant::now() + Duration::from_secs(5);
    while !first.drained() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    first.join();
    let second = engine(&config);
    let (_, json) = run.end();
    second.drain();
    second.join();
    assert_eq!(failed(&json), Vec::<String>::new(), "{json:#}");
    assert_eq!((&json["connections_back"], &json["connections_away"]), (&60.into(), &0.into()));
}

#[test]
fn a_server_that_dies_is_a_lost_connection_and_no_hang() {
    let engine = engine(&config());
    let words = "live --viewers 20 --duration 60s --warmup 200ms";
    let begun = Instant::now();
    let run = begin(engine.listen(), "dies", words);
    has_connections(&engine, 20);
    engine.join();
    let (code, json) = run.end();
    assert_eq!(code, 1, "{json:#}");
    assert!(failed(&json).contains(&"connection_lost".to_owned()), "{json:#}");
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "it does not measure an empty room for a minute"
    );
}

#[test]
fn a_bound_that_is_broken_names_itself() {
    let engine = engine(&config());
    let words = "live --viewers 5 --duration 1s --warmup 0s --expect max_ms<=0 --expect gaps==0";
    let (code, json) = begin(engine.listen(), "bound", words).end();
    engine.drain();
    engine.join();
    assert_eq!(failed(&json), ["max_ms<=0"]);
    assert!([1, 3].contains(&code));
}

#[test]
fn nobody_at_the_target_is_told_at_once() {
    // A port that was free a moment ago, and is not listened on.
    let free =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    let output = Command::new(env!("CARGO_BIN_EXE_uproar-loadgen"))
        .args(["live", "--target", &free.to_string()])
        .output()
        .expect("the binary starts");
    assert_eq!(output.status.code(), Some(2));
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(words.contains("nobody listens") && words.contains("uproar serve"), "{words}");
}

#[test]
fn a_result_that_cannot_be_told_is_an_error_and_no_panic() {
    let engine = engine(&config());
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").expect("it exists");
    let idle = |out: Stdio, json: &str| {
        let target = engine.listen().to_string();
        let words = "idle --viewers 2 --duration 1s --threads 1 --metrics off";
        let mut tester = Command::new(env!("CARGO_BIN_EXE_uproar-loadgen"));
        tester.args(words.split(' ')).args(["--target", &target, "--json", json]).stdout(out);
        let done = tester.output().expect("the binary starts");
        (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    let (code, error) = idle(full().into(), "/dev/null");
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("standard output cannot be written"), "{error}");
    let (code, error) = idle(Stdio::null(), "/dev/full");
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("--json /dev/full: No space left on device"), "{error}");
    engine.drain();
    engine.join();
}
