//! Danmaku for replay: what a room admitted, fetched as segments from a real server.

use crate::client::Client;
use crate::server::Server;
use crate::{DEADLINE, Io, On, Store, Wire};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const CONFIG: &str = "[danmaku]\nenabled = true\nsegment_s = 2\n";
const JSON: &str = "Accept: application/json\r\n";

/// An answer with its head.
struct Got {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Got {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(is, _)| is.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

fn get(server: &Server, path: &str, headers: &str) -> Got {
    let mut stream = TcpStream::connect(server.http).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Got { status, head, body: answer[end + 4..].to_vec() }
}

/// The latest recording of a room, once it has come so far.
fn recording(server: &Server, room: &str, is: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + DEADLINE;
    loop {
        let index = get(server, &format!("/v1/rooms/{room}/danmaku"), "");
        assert_eq!(index.status, 200);
        let latest = index.json()["recordings"][0].clone();
        if !latest.is_null() && is(&latest) {
            return latest;
        }
        assert!(Instant::now() < end, "it never comes so far: {latest}");
        std::thread::sleep(Duration::from_millis(50)); // between two questions
    }
}

fn is_closed(recording: &Value) -> bool {
    recording["segments"].as_array().unwrap().iter().all(|one| one["open"] == false)
}

fn path(room: &str, recording: &Value, segment: &Value) -> String {
    let id = recording["recording"].as_str().unwrap();
    format!("/v1/rooms/{room}/danmaku/{id}/{segment}")
}

/// All lines of a recording, in the order of its segments.
fn lines(server: &Server, room: &str, recording: &Value) -> Vec<Value> {
    let mut lines = Vec::new();
    for segment in recording["segments"].as_array().unwrap() {
        let path = path(room, recording, &segment["segment"]);
        let got = get(server, &path, JSON);
        assert_eq!(got.status, 200, "{path}");
        lines.extend(got.json()["lines"].as_array().unwrap().clone());
    }
    lines
}

/// What viewers see, for longer than a segment: texts and times by seq.
fn said(server: &Server, on: On) -> BTreeMap<u64, (String, u64)> {
    server.post("/v1/rooms", &json!({"room": "stage", "rate_per_s": 1000}));
    let (mut viewer, _) = Client::viewer(server, on.wire, "stage");
    let begun = Instant::now();
    let mut count = 0;
    while begun.elapsed() < Duration::from_millis(2_500) {
        count += 1;
        server.says("stage", &format!("line {count}"));
        std::thread::sleep(Duration::from_millis(40)); // a line of people
    }
    let seen = viewer.messages("stage", count);
    let text = |message: &uproar_proto::v1::Message| match message.content.as_ref().unwrap() {
        uproar_proto::v1::message::Content::Text(text) => text.clone(),
        other => panic!("{other:?}"),
    };
    seen.iter().map(|message| (message.seq, (text(message), message.time_ms))).collect()
}

fn a_replay_is_what_viewers_saw(server: &Server, on: On) {
    let live = said(server, on);
    let recording = recording(server, "stage", is_closed);
    assert!(recording["segments"].as_array().unwrap().len() >= 2, "{recording}");
    assert_eq!(recording["lines_lost"], 0);
    let start_ms = recording["start_unix_ms"].as_u64().unwrap();
    let replay = lines(server, "stage", &recording);
    assert_eq!(replay.len(), live.len());
    for (line, (seq, (text, time_ms))) in replay.iter().zip(&live) {
        assert_eq!((line["seq"].as_u64(), line["text"].as_str()), (Some(*seq), Some(&**text)));
        let at_ms = start_ms + line["offset_ms"].as_u64().unwrap();
        assert!(at_ms.abs_diff(*time_ms) <= 100, "{line} of {time_ms}");
    }
    // A seek: the index and one segment; the second time neither has changed.
    for path in ["/v1/rooms/stage/danmaku", &path("stage", &recording, &json!(1))] {
        let first = get(server, path, "");
        assert_eq!(first.status, 200);
        let etag = first.header("etag").unwrap();
        assert!(etag.starts_with('"'), "a strong one: {etag}");
        let again = get(server, path, &format!("If-None-Match: {etag}\r\n"));
        assert_eq!((again.status, again.body.len()), (304, 0), "{path}");
    }
    // What is recalled is gone at once, under another ETag.
    let (seq, _) = live.iter().next().unwrap();
    let of = path("stage", &recording, &json!(1));
    let before = get(server, &of, JSON);
    let recall = json!({"epoch": recording["epoch"], "seq": seq});
    let recalled = server.post("/v1/rooms/stage/danmaku/recall", &recall);
    assert_eq!(recalled, json!({"recalled": 1}));
    let after = get(server, &of, JSON);
    assert_ne!(before.header("etag"), after.header("etag"));
    assert_eq!(after.json()["version"], 2);
    assert!(!lines(server, "stage", &recording).iter().any(|line| line["seq"] == *seq));
    let all = server.post("/v1/rooms/stage/danmaku/recall", &json!({"user": "host"}));
    assert_eq!(all["recalled"], live.len() as u64 - 1);
}

fn on(io: Io, store: Store) -> On {
    On { io, wire: Wire::Tcp, store }
}

#[test]
fn a_replay_is_what_viewers_saw_in_one_process() {
    let server = Server::start(Io::Epoll, CONFIG);
    a_replay_is_what_viewers_saw(&server, on(Io::Epoll, Store::Sqlite));
}

#[test]
fn what_a_room_recalls_is_in_no_replay() {
    let server = Server::start(Io::Epoll, CONFIG);
    server.post("/v1/rooms", &json!({"room": "stage", "rate_per_s": 1000}));
    for n in 1..=3 {
        server.says("stage", &format!("line {n}"));
    }
    server.post("/v1/rooms/stage/recall", &json!({"seqs": [2]}));
    server.says("stage", "line 4");
    let closed = recording(&server, "stage", is_closed);
    let kept = lines(&server, "stage", &closed);
    let seqs: Vec<u64> = kept.iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    assert_eq!((seqs, &closed["lines_lost"]), (vec![1, 3, 4], &json!(0)));
    // From a segment that is closed, too.
    server.post("/v1/rooms/stage/recall", &json!({"user": "host"}));
    let end = Instant::now() + DEADLINE;
    while !lines(&server, "stage", &closed).is_empty() {
        assert!(Instant::now() < end, "recalled everywhere, and soon");
        std::thread::sleep(Duration::from_millis(10)); // between two looks
    }
}

#[test]
fn a_segment_comes_as_the_client_takes_it() {
    use prost::Message as _;
    let server = Server::start(Io::Epoll, &CONFIG.replace("= 2", "= 3600"));
    server.post("/v1/rooms", &json!({"room": "stage"}));
    for count in 1..=30 {
        server.says("stage", &format!("line {count}"));
    }
    let has_all = |one: &Value| one["segments"][0]["lines"] == 30;
    let recording = recording(&server, "stage", has_all);
    let path = path("stage", &recording, &recording["segments"][0]["segment"]);
    let open = get(&server, &path, "");
    assert_eq!(open.header("content-type"), Some("application/x-protobuf"));
    let segment = uproar_proto::v1::DanmakuSegment::decode(&open.body[..]).unwrap();
    assert_eq!(segment.lines.len(), 30, "what is open is served too");
    let packed = get(&server, &path, "Accept-Encoding: gzip, zstd\r\n");
    assert_eq!(packed.header("content-encoding"), Some("zstd"));
    assert!(packed.body.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) && packed.body.len() < 1_000);
    let json = get(&server, &path, JSON);
    let etags = [&open, &packed, &json].map(|got| got.header("etag").unwrap());
    assert!(etags[0] != etags[1] && etags[0] != etags[2], "each form has its own");
    let first = segment.lines[0].offset_ms;
    let part = get(&server, &format!("{path}?from_ms=0&to_ms={first}"), JSON);
    assert_eq!(part.json()["lines"], json!([]));
    assert_eq!(get(&server, &format!("{path}9"), "").status, 404);
}

#[test]
fn a_room_that_wants_none_has_none() {
    let server = Server::start(Io::Epoll, CONFIG);
    let settings = json!({"room": "secret", "attributes": {"danmaku": "off"}});
    server.post("/v1/rooms", &settings);
    server.post("/v1/rooms", &json!({"room": "stage"}));
    server.says("secret", "nobody keeps this");
    server.says("stage", "this is kept");
    recording(&server, "stage", |_| true);
    let index = get(&server, "/v1/rooms/secret/danmaku", "").json();
    assert_eq!(index, json!({"recordings": []}));
}

#[test]
fn a_killed_server_has_lost_no_line_of_a_while_ago() {
    let name = format!("danmaku-{}", std::process::id());
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let config = format!("{}folder = {folder:?}\n", CONFIG.replace("= 2", "= 3600"));
    let mut server = Server::start_alone(Io::Epoll, &config);
    server.post("/v1/rooms", &json!({"room": "stage"}));
    for count in 1..=20 {
        server.says("stage", &format!("line {count}"));
    }
    // Within one it is written down, on a machine that has the time.
    std::thread::sleep(Duration::from_secs(3));
    server.kill();
    let again = server.start_in_its_place();
    let before = recording(&again, "stage", |_| true);
    let kept = lines(&again, "stage", &before);
    assert_eq!(kept.len(), 20);
    assert_eq!(kept[19]["text"], "line 20");
    // The room begins anew, and so does its recording.
    again.post("/v1/rooms", &json!({"room": "stage"}));
    again.says("stage", "again");
    let after = recording(&again, "stage", |one| one["recording"] != before["recording"]);
    assert_eq!(lines(&again, "stage", &after).len(), 1);
    drop(again);
    let _ = std::fs::remove_dir_all(folder); // a leftover does no harm
}

#[test]
fn a_folder_that_cannot_be_written_stops_no_room() {
    // A process has no directory of its own there, whoever it is.
    let config = format!("{CONFIG}folder = \"/proc/self/danmaku\"\nretry_s = 0\n");
    let server = Server::start(Io::Epoll, &config);
    let live = said(&server, on(Io::Epoll, Store::Sqlite));
    assert!(live.len() > 10, "viewers see every line");
    server.eventually("the loss is counted", |server| {
        server.metric("uproar_danmaku_lost_total", "\"store\"") >= live.len() as f64
    });
    assert!(server.metric("uproar_danmaku_failures_total", "") > 0.0);
    let index = recording(&server, "stage", |one| one["segments"].as_array().unwrap().is_empty());
    assert_eq!(index["lines_lost"], live.len());
}

mod split {
    use super::*;

    #[test]
    fn a_replay_is_what_viewers_saw_in_two_processes() {
        let secret = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let tokens = format!("[engine.tokens]\nhs256_secret = \"{secret}\"\nguests = true\n");
        let config = format!("{CONFIG}{tokens}");
        let control = Server::control(&config);
        let engine = control.engine(Io::Epoll, &config);
        let live = said(&engine, on(Io::Epoll, Store::Split));
        let recording = recording(&control, "stage", is_closed);
        let replay = lines(&control, "stage", &recording);
        assert_eq!(replay.len(), live.len());
        for (line, (seq, (text, _))) in replay.iter().zip(&live) {
            assert_eq!((line["seq"].as_u64(), line["text"].as_str()), (Some(*seq), Some(&**text)));
        }
        let elsewhere = get(&engine, "/v1/rooms/stage/danmaku", "");
        assert_eq!(elsewhere.status, 421, "an engine says who has it");
    }
}
