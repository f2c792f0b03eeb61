//! systemd: its units name what exists, and a server speaks its protocol with a supervisor that
//! listens.

use crate::server::{
    DEADLINE, Folder, PROGRAM, SECRET, Server, bare, get, read, root, text, uproar,
};
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

const UNITS: [&str; 2] = ["scripts/systemd/uproar.service", "scripts/systemd/uproar.socket"];

/// A supervisor that listens at a path. (A path of a socket is short: it is not in the test's own
/// folder, which may lie deep.)
struct Supervisor {
    socket: UnixDatagram,
    path: std::path::PathBuf,
}

impl Supervisor {
    fn new(name: &str) -> Supervisor {
        let path = std::env::temp_dir().join(format!("uproar-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path); // of a process that was killed
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Supervisor { socket, path }
    }

    /// The next that is told, whatever it is.
    fn hears(&self) -> String {
        let mut bytes = [0; 512];
        let length = self.socket.recv(&mut bytes).expect("it is told in time");
        text(&bytes[..length])
    }

    fn hears_nothing_for(&self, time: Duration) {
        self.socket.set_read_timeout(Some(time)).unwrap();
        let heard = self.socket.recv(&mut [0; 512]);
        assert!(heard.is_err_and(|e| e.kind() == ErrorKind::WouldBlock), "it is too early");
        self.socket.set_read_timeout(Some(DEADLINE)).unwrap();
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path); // a leftover does no harm
    }
}

/// A port that is free now, and on an address that no other test uses.
fn free_port(host: &str) -> String {
    let listener = TcpListener::bind((host, 0)).unwrap();
    listener.local_addr().unwrap().to_string()
}

const SERVE: [&str; 4] = ["serve", "--shards", "2", "--set=store.url="];

#[test]
fn ready_is_told_once_clients_can_connect_and_stopping_when_a_drain_begins() {
    let supervisor = Supervisor::new("ready");
    let (clients, http) = (free_port("127.0.7.1"), free_port("127.0.7.1"));
    let mut command = uproar(&[&SERVE[..], &["--listen", &clients, "--http", &http]].concat());
    command.env("NOTIFY_SOCKET", &supervisor.path);
    let (mut server, stays) = std::thread::scope(|scope| {
        // At the very moment it is told, not after the start block was read.
        let connected = scope.spawn(|| {
            let told = supervisor.hears();
            assert!(told.starts_with("READY=1"), "{told}");
            let ready = get(&http, "/readyz").unwrap();
            assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
            TcpStream::connect(&clients).unwrap()
        });
        (Server::start(command), connected.join().unwrap())
    });
    supervisor.hears_nothing_for(Duration::from_millis(300));
    server.signal("TERM");
    let told = supervisor.hears();
    assert!(told.starts_with("STOPPING=1"), "{told}");
    // The longest drain, and what comes after it.
    assert!(told.contains("EXTEND_TIMEOUT_USEC=50000000"), "{told}");
    assert!(server.get("/healthz").starts_with("HTTP/1.1 200"), "it is told while it drains");
    drop(stays);
    assert_eq!(server.exit_code(), 0);
}

#[test]
fn a_control_process_tells_the_same() {
    let supervisor = Supervisor::new("control");
    let folder = Folder::new("notify");
    let url = format!("store.url=sqlite:{}", folder.path("store.db"));
    let secret = format!("engine.tokens.hs256_secret={SECRET}");
    let mut command = uproar(&["control", "--http", "127.0.0.1:0", "--link", "127.0.0.1:0"]);
    command.args(["--set", &url, "--set", &secret, "--set", "link.key=a-key-of-22-characters"]);
    command.env("NOTIFY_SOCKET", &supervisor.path);
    let mut server = Server::start(command);
    assert!(supervisor.hears().starts_with("READY=1"));
    drop(TcpStream::connect(&server.clients).unwrap());
    server.signal("TERM");
    assert!(supervisor.hears().starts_with("STOPPING=1"));
    assert_eq!(server.exit_code(), 0);
}

#[test]
fn a_watchdog_is_fed_while_every_shard_answers() {
    let supervisor = Supervisor::new("watchdog");
    let serve = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"];
    let mut command = uproar(&[&SERVE[..], &serve].concat());
    command.env("NOTIFY_SOCKET", &supervisor.path).env("WATCHDOG_USEC", "200000");
    let server = Server::start(command);
    assert!(supervisor.hears().starts_with("READY=1"));
    for _ in 0..3 {
        assert_eq!(supervisor.hears(), "WATCHDOG=1");
    }
    // A shard that hangs is as good as one that was stopped.
    let shard = std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap().flatten();
    let name = |task: &std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm"));
    assert!(shard.filter(|task| name(task).is_ok_and(|n| n.starts_with("shard"))).count() >= 2);
    server.signal("STOP");
    // Each thread of its own, in its own time.
    let is_still = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
    };
    let tasks = || std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap().flatten();
    let end = std::time::Instant::now() + Duration::from_secs(30);
    while !tasks().all(is_still) {
        assert!(std::time::Instant::now() < end, "it does not stop");
        std::thread::sleep(Duration::from_millis(5));
    }
    while supervisor.socket.set_nonblocking(true).is_ok()
        && supervisor.socket.recv(&mut [0; 512]).is_ok()
    {}
    supervisor.socket.set_nonblocking(false).unwrap();
    supervisor.hears_nothing_for(Duration::from_millis(500));
    server.signal("CONT");
    assert_eq!(supervisor.hears(), "WATCHDOG=1");
}

/// Passes a listening socket as systemd does, and becomes the server: the socket is number 3.
const PASS: &str = r#"
import os, socket, sys
passed = socket.socket()
passed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
passed.bind((sys.argv[1], int(sys.argv[2])))
passed.listen(64)
if passed.fileno() != 3:
    os.dup2(passed.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="http")
os.execv(sys.argv[3], sys.argv[3:])
"#;

/// The server with a socket of HTTP passed to it; `None`, said aloud, where no program here could.
fn with_socket(address: &str, args: &[&str]) -> Option<Command> {
    if !Command::new("python3").arg("-V").output().is_ok_and(|out| out.status.success()) {
        eprintln!("SKIPPED: socket activation (no python3 that could pass a socket)");
        return None;
    }
    let (host, port) = address.rsplit_once(':').unwrap();
    let mut command = bare(Command::new("python3"));
    command.args(["-c", PASS, host, port, PROGRAM]).args(args);
    Some(command)
}

#[test]
fn a_socket_that_systemd_passes_is_served_as_http() {
    let address = free_port("127.0.7.2");
    // http.listen is somewhere else, and not opened.
    let other = TcpListener::bind("127.0.7.2:0").unwrap();
    let unused = format!("http.listen={}", other.local_addr().unwrap());
    let args = [&SERVE[..], &["--listen", "127.0.0.1:0", "--set", &unused]].concat();
    let Some(command) = with_socket(&address, &args) else { return };
    let mut server = Server::start(command);
    assert_eq!(server.http, address, "the start block names it");
    assert!(server.get("/readyz").starts_with("HTTP/1.1 200"));
    drop(TcpStream::connect(&server.clients).unwrap());
    server.signal("TERM");
    assert_eq!(server.exit_code(), 0);
}

#[test]
fn a_socket_that_others_reach_needs_a_key_as_http_listen_does() {
    let Some(mut command) =
        with_socket("0.0.0.0:0", &[&SERVE[..], &["--listen=127.0.0.1:0"]].concat())
    else {
        return;
    };
    let out = command.output().unwrap();
    let error = text(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{error}");
    assert!(error.contains("was passed") && error.contains("api_key"), "{error}");
}

/// Every key of the configuration, as `section.key`.
fn keys() -> Vec<String> {
    fn walk(table: &toml::Table, before: &str, keys: &mut Vec<String>) {
        for (name, value) in table {
            let key = format!("{before}{name}");
            match value {
                toml::Value::Table(inner) => walk(inner, &format!("{key}."), keys),
                _ => keys.push(key),
            }
        }
    }
    let mut keys = Vec::new();
    walk(&shown(), "", &mut keys);
    // Without a value by default.
    keys.push("engine.tokens.guests".into());
    keys
}

fn shown() -> toml::Table {
    let out = uproar(&["config", "show"]).output().unwrap();
    text(&out.stdout).parse().unwrap()
}

/// Keys that a text names, as variables (`UPROAR__HTTP__LISTEN`) or in words (`http.listen`).
fn named(text: &str, known: &[String]) -> Vec<String> {
    let sections: Vec<&str> = known.iter().filter_map(|key| Some(key.split_once('.')?.0)).collect();
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || "_.".contains(c)));
    let key = |word: &str| match word.strip_prefix("UPROAR__") {
        Some(key) => Some(key.to_lowercase().replace("__", ".")),
        None => {
            let word = word.trim_end_matches('.');
            let section = word.split_once('.')?.0;
            // The names of files, and of units.
            let is_file = [".db", ".toml", ".env", ".sh", ".rs", ".json", ".yml", ".service"];
            let is_key = sections.contains(&section) && !is_file.iter().any(|e| word.ends_with(e));
            is_key.then(|| word.to_owned())
        }
    };
    words.filter_map(key).collect()
}

#[test]
fn what_the_units_and_the_container_name_of_the_configuration_exists() {
    let known = keys();
    let mut seen = 0;
    for path in [&UNITS[..], &["Containerfile"]].concat() {
        for key in named(&read(path), &known) {
            assert!(known.contains(&key), "{path} names {key}, which does not exist");
            seen += 1;
        }
    }
    assert!(seen >= 5, "the rule finds nothing");
    let wrong = named("Environment=UPROAR__HTTP__LISTN=x and engine.drain", &known);
    assert_eq!(wrong, ["http.listn", "engine.drain"], "and would find what is wrong");
}

#[test]
fn the_service_waits_longer_than_the_longest_drain() {
    let unit = read(UNITS[0]);
    let line = unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")).unwrap();
    let drain_ms = shown()["engine"]["drain_ms_max"].as_integer().unwrap();
    assert!(line.parse::<i64>().unwrap() * 1_000 >= drain_ms + 20_000, "{line} s, {drain_ms} ms");
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    if !Command::new("systemd-analyze").arg("--version").output().is_ok_and(|o| o.status.success())
    {
        eprintln!("SKIPPED: the units, by systemd-analyze (it is not installed)");
        return;
    }
    let folder = Folder::new("units");
    for path in UNITS {
        // The program is where it was built, not yet where it will be installed.
        let unit = read(path).replace("/usr/local/bin/uproar", PROGRAM);
        let name = root().join(path).file_name().unwrap().to_owned();
        std::fs::write(folder.0.join(name), unit).unwrap();
    }
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]);
    verify.args([folder.path("uproar.service"), folder.path("uproar.socket")]);
    let out = verify.output().unwrap();
    let told = text(&out.stderr);
    // It looks at what is installed here too: lines about our units alone are ours.
    let ours: Vec<&str> = told.lines().filter(|line| line.contains("uproar")).collect();
    assert!(ours.is_empty() && out.status.success(), "{told}");
}
