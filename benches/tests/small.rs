//! Every bench that needs no other server runs here small: real processes, real sockets, a few
//! viewers for a moment. What is asserted is what arrived, never how long it took.

use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use uproar_benches::harness::child::Child;

const PATIENCE: Duration = Duration::from_secs(60);

fn start(program: &str, arguments: &str) -> Child {
    let arguments: Vec<String> = arguments.split_ascii_whitespace().map(str::to_owned).collect();
    let cores = uproar_benches::sys::cores_allowed().expect("affinity");
    Child::start(Path::new(program), &arguments, &cores[..1]).expect("the program starts")
}

fn bare(arguments: &str) -> (Child, u64) {
    let listen = format!("--listen 127.0.0.1:0 {arguments}");
    let mut bare = start(env!("CARGO_BIN_EXE_bare"), &listen);
    let port = bare.hear("listening", PATIENCE).expect("it listens")["value"].as_u64();
    (bare, port.expect("a port"))
}

fn sink(port: u64, arguments: &str) -> Child {
    let arguments = format!("--target 127.0.0.1:{port} --steered {arguments}");
    start(env!("CARGO_BIN_EXE_sink"), &arguments)
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("{key} is missing in {value}"))
}

/// The sink's counters once it has read `bytes`, or when it no longer reads more.
fn mark_at(sink: &mut Child, bytes: u64) -> Value {
    let mut marks = 0;
    loop {
        let mark = sink.mark().expect("it counts");
        marks += 1;
        if number(&mark, "bytes") >= bytes || marks > 600 {
            return mark;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn bare_reaches_every_viewer() {
    let (mut bare, port) = bare("--viewers 50 --payload 64 --rate 200 --rounds 10");
    let mut sink = sink(port, "--viewers 50 --content stamped --payload 64 --sample 5");
    assert_eq!(number(&sink.hear("stage", PATIENCE).expect("all connect"), "joined"), 50);
    let report = bare.hear("report", PATIENCE).expect("it ends after 10 rounds");
    assert_eq!(number(&report, "sends"), 500);
    assert_eq!(number(&report, "lost"), 0);
    let last = mark_at(&mut sink, 500 * 64);
    assert_eq!(number(&last, "bytes"), 500 * 64);
    assert_eq!(number(&last, "messages"), 10 * 10, "10 sampled viewers read 10 messages each");
}

#[test]
fn bare_accepts_and_counts_connects() {
    let (bare, port) = bare("--viewers 40 --mode connect --steered --rounds 0");
    let mut sink = sink(port, "--viewers 10,40 --sources 3 --in-flight 4");
    assert_eq!(number(&sink.hear("stage", PATIENCE).expect("first stage"), "joined"), 10);
    sink.say("next").expect("it listens");
    let stage = sink.hear("stage", PATIENCE).expect("second stage");
    assert_eq!((number(&stage, "joined"), number(&stage, "failed")), (40, 0));
    let report = bare.finish().expect("it reports");
    assert_eq!((number(&report, "accepted"), number(&report, "sends")), (40, 0));
}

#[test]
fn bare_answers_every_hello() {
    let (bare, port) = bare("--viewers 40 --mode answer --payload 100 --steered --rounds 0");
    let mut sink = sink(port, "--viewers 40 --hello echo --wait");
    sink.hear("ready", PATIENCE).expect("its words are made");
    sink.say("next").expect("it listens");
    let stage = sink.hear("stage", PATIENCE).expect("stage");
    assert_eq!((number(&stage, "joined"), number(&stage, "bytes")), (40, 40 * 100));
    assert_eq!(number(&sink.finish().expect("report"), "closed"), 0);
    let report = bare.finish().expect("it reports");
    assert_eq!(number(&report, "sends"), 40);
    assert!(number(&report, "bytes_received") >= 40 * 100, "every hello was read");
}

#[test]
fn a_server_that_is_not_there_is_counted_not_waited_for() {
    let (bare, port) = bare("--viewers 1 --rounds 1");
    drop(bare);
    let mut sink = sink(port, "--viewers 7");
    let stage = sink.hear("stage", PATIENCE).expect("a stage ends when all have failed");
    assert_eq!((number(&stage, "joined"), number(&stage, "failed")), (0, 7));
    let why = stage["first_failure"].as_str().expect("why");
    assert!(why.contains("refused"), "{why}");
}

#[test]
fn viewers_that_the_server_drops_are_counted() {
    let (bare, port) = bare("--viewers 5 --mode connect --steered --rounds 0");
    let mut sink = sink(port, "--viewers 5");
    assert_eq!(number(&sink.hear("stage", PATIENCE).expect("stage"), "connected"), 5);
    drop(bare);
    let mut closed = 0;
    for _ in 0..600 {
        closed = number(&sink.mark().expect("mark"), "closed");
        if closed == 5 {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(closed, 5);
}
