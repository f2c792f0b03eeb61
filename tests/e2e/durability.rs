//! Power loss: what the kernel was asked for before an acknowledgement left.
//!
//! A trace of the server's system calls (strace, on the epoll driver, whose sends are visible) must
//! show that a sync to disk ended between the arrival of a message and its acknowledgement. The
//! same look at a server that does not sync must fail, or it proves nothing.

use crate::chat::{device, relate, text};
use crate::server::Server;
use crate::tokens::config;
use crate::{DEADLINE, Io, Wire};
use serde_json::json;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// 16 letters: found in the trace as they are.
const ID: &[u8; 16] = b"power-loss-proof";

/// What the trace shows of one message: whether a sync ended between it and its answer.
fn synced_before_answer(store: &str) -> bool {
    let server = Server::start(Io::Epoll, &format!("{}[store]\n{store}\n", config()));
    relate(&server, json!({"user": "alice", "peer": "bob", "friends": true}));
    let mut alice = device(&server, Wire::Tcp, "alice");
    alice.is_stored(text("bob", 1, "the conversation is there"));
    let trace =
        std::env::temp_dir().join(format!("uproar-trace-{}-{}", std::process::id(), store.len()));
    let mut strace = Trace::of(&server, &trace);
    alice.is_stored(text("bob", u128::from_be_bytes(*ID), "is it on the disk?"));
    strace.end();
    let text = std::fs::read_to_string(&trace).unwrap();
    let _ = std::fs::remove_file(&trace); // a leftover does no harm
    let id = std::str::from_utf8(ID).unwrap();
    let at = |what: &str, after: usize| {
        let lines = text.lines().enumerate().skip(after);
        let mut fitting = lines.filter(|(_, line)| line.contains(what) && line.contains(id));
        fitting.next().map(|(at, _)| at)
    };
    let came = at("recv", 0).unwrap_or_else(|| panic!("its arrival is in the trace:\n{text}"));
    let left = at("send", came).unwrap_or_else(|| panic!("its answer is in the trace:\n{text}"));
    // A call that another thread's came in between is told in two lines; the second one ends it.
    let ended = |line: &&str| line.contains("sync") && line.trim_end().ends_with("= 0");
    text.lines().take(left).skip(came).any(|line| ended(&line))
}

struct Trace(Child);

impl Trace {
    fn of(server: &Server, file: &std::path::Path) -> Trace {
        let mut child = Command::new("strace")
            .args([
                "-f",
                "-s",
                "512",
                "-e",
                "trace=fsync,fdatasync,sendto,sendmsg,recvfrom,recvmsg",
            ])
            .args(["-p", &server.pid().to_string(), "-o"])
            .arg(file)
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace is installed (scripts/test does that)");
        // It says once that it is attached to all threads.
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let first = lines.next().expect("it says something").unwrap();
        assert!(first.contains("attached"), "{first}");
        std::thread::spawn(move || lines.for_each(drop)); // so that it never blocks on its words
        Trace(child)
    }

    /// Detaches, and waits until the trace is written.
    fn end(&mut self) {
        let kill = format!("kill -INT {}", self.0.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        let end = Instant::now() + DEADLINE;
        while self.0.try_wait().unwrap().is_none() {
            assert!(Instant::now() < end, "strace does not end");
            std::thread::sleep(std::time::Duration::from_millis(5)); // there is no other wait
        }
    }
}

/// scripts/test says so, and names it in its summary, where a machine forbids tracing.
fn cannot_trace() -> bool {
    std::env::var_os("UPROAR_TEST_WITHOUT_STRACE").is_some()
}

pub(crate) fn an_acknowledged_message_is_on_the_disk() {
    if cannot_trace() {
        return;
    }
    assert!(synced_before_answer("sync = true"), "a sync ended before the answer left");
}

pub(crate) fn without_sync_the_proof_fails() {
    if cannot_trace() {
        return;
    }
    assert!(!synced_before_answer("sync = false"), "the look at the trace finds what is missing");
}
