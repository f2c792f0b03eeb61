//! A real `uproar serve` under the harness: its settings, its readiness, its figures. Owns the
//! process and a few lines of HTTP; knows its command line and its metrics by name, nothing of its
//! inside.

use super::child::Child;
use crate::proc;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a server may take to be ready.
const READY_PATIENCE: Duration = Duration::from_secs(30);
const HTTP_PATIENCE: Duration = Duration::from_secs(20);

/// What a row changes about the defaults: `key=value`, as `--set` takes them.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Shard threads, pinned to the server's cores in turn.
    pub shards: u16,
    /// Everything else.
    pub set: Vec<String>,
}

impl Settings {
    /// One shard and the defaults, with limits that a bench's own publisher may not meet: one
    /// user may offer as much as it likes. A drain is short: its crowd is gone by then.
    #[must_use]
    pub fn new(shards: u16) -> Settings {
        let set = [
            "engine.rooms.defaults.user_rate_per_s=1000",
            "engine.drain_spread_ms=100",
            "engine.drain_ms_max=1000",
            "log.filter=warn",
        ];
        Settings { shards, set: set.map(str::to_owned).to_vec() }
    }

    /// With one more key.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl std::fmt::Display) -> Settings {
        self.set.push(format!("{key}={value}"));
        self
    }
}

/// A server at work.
#[derive(Debug)]
pub struct Server {
    child: Child,
    http: SocketAddrV4,
    /// Where viewers connect.
    pub target: SocketAddrV4,
}

/// A port that was free a moment ago.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

impl Server {
    /// Starts `uproar serve` on `cores`, shards in turn, and waits until it is ready.
    ///
    /// # Errors
    /// It ended, or was not ready in time.
    pub fn start(program: &Path, settings: &Settings, cores: &[usize]) -> io::Result<Server> {
        let target = SocketAddrV4::new(Ipv4Addr::LOCALHOST, free_port()?);
        let http = SocketAddrV4::new(Ipv4Addr::LOCALHOST, free_port()?);
        let named: Vec<String> = cores.iter().map(usize::to_string).collect();
        let mut arguments = vec!["serve".to_owned()];
        for (flag, value) in [
            ("--listen", target.to_string()),
            ("--http", http.to_string()),
            ("--shards", settings.shards.to_string()),
            ("--cores", named.join(",")),
        ] {
            arguments.extend([flag.to_owned(), value]);
        }
        for set in &settings.set {
            arguments.extend(["--set".to_owned(), set.clone()]);
        }
        let child = Child::start(program, &arguments, cores)?;
        let mut server = Server { child, http, target };
        let until = Instant::now() + READY_PATIENCE;
        while server.get("/readyz").is_err() {
            if server.child.wait(Duration::ZERO).is_ok() {
                return Err(io::Error::other(format!("uproar {} ended", arguments.join(" "))));
            }
            if Instant::now() > until {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "uproar is not ready"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    /// Where `/metrics` is.
    #[must_use]
    pub fn metrics_url(&self) -> String {
        format!("http://{}/metrics", self.http)
    }

    /// User-space memory of the process, bytes.
    ///
    /// # Errors
    /// It has ended.
    pub fn rss_anon_bytes(&self) -> io::Result<u64> {
        proc::rss_anon_bytes(self.child.pid())
    }

    /// Every figure it exports.
    ///
    /// # Errors
    /// It has ended.
    pub fn figures(&self) -> io::Result<Figures> {
        Ok(Figures { text: self.get("/metrics")? })
    }

    /// Publishes `text` into `room` as a backend does.
    ///
    /// # Errors
    /// The server refused.
    pub fn publish(&self, room: &str, text: &str) -> io::Result<()> {
        let body = serde_json::json!({ "user": "bench", "text": text }).to_string();
        let path = format!("/v1/rooms/{room}/publish");
        let head = "Content-Type: application/json\r\n";
        let answer = http(self.http, "POST", &path, head, &body)?;
        if answer.contains("ACCEPTED") { Ok(()) } else { Err(io::Error::other(answer)) }
    }

    fn get(&self, path: &str) -> io::Result<String> {
        http(self.http, "GET", path, "", "")
    }
}

/// One request over one connection; the body of a 200 answer.
fn http(to: SocketAddrV4, method: &str, path: &str, head: &str, body: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(HTTP_PATIENCE))?;
    let length = body.len();
    // HTTP/1.0: the answer is not chunked and ends with the connection.
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: {to}\r\n{head}Content-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    body_of(&answer)
}

fn body_of(answer: &str) -> io::Result<String> {
    let bad = || io::Error::other(format!("not an HTTP answer: {answer:.60}"));
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(bad)?;
    let line = head.lines().next().ok_or_else(bad)?;
    if line.split(' ').nth(1) == Some("200") {
        Ok(body.to_owned())
    } else {
        Err(io::Error::other(format!("{line}: {body}")))
    }
}

/// The text of `/metrics`.
#[derive(Clone, Debug)]
pub struct Figures {
    text: String,
}

impl Figures {
    /// The sum of all samples of `name` that carry every label of `labels` (`what="sent"`).
    ///
    /// # Errors
    /// There is no such sample: a figure that was renamed must not read as 0.
    pub fn sum(&self, name: &str, labels: &[&str]) -> io::Result<f64> {
        let samples = self.text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let (of, value) = match rest.strip_prefix('{') {
                Some(rest) => rest.split_once('}')?,
                None => ("", rest),
            };
            let here = value.starts_with(' ') && labels.iter().all(|label| has_label(of, label));
            here.then(|| value.trim().parse::<f64>().ok())?
        });
        samples
            .reduce(|sum, value| sum + value)
            .ok_or_else(|| io::Error::other(format!("/metrics has no {name} with {labels:?}")))
    }
}

fn has_label(labels: &str, label: &str) -> bool {
    labels.split(',').any(|l| l.trim() == label)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP uproar_sends_total sends\n# TYPE uproar_sends_total counter\n\
        uproar_sends_total{shard=\"0\"} 5\nuproar_sends_total{shard=\"1\"} 7\n\
        uproar_sends_total_of_late 100\nuproar_rss_bytes 4096\n\
        uproar_deliveries_total{class=\"chat\",what=\"sent\"} 10\n\
        uproar_deliveries_total{class=\"gift\",what=\"sent\"} 2\n\
        uproar_deliveries_total{class=\"chat\",what=\"left\"} 1\n";

    #[test]
    fn figures_are_summed_over_shards_and_classes() {
        let figures = Figures { text: TEXT.to_owned() };
        let sum = |name, labels: &[&str]| figures.sum(name, labels).expect("it is there") as u64;
        assert_eq!(sum("uproar_sends_total", &[]), 12);
        assert_eq!(sum("uproar_sends_total", &["shard=\"1\""]), 7);
        assert_eq!(sum("uproar_rss_bytes", &[]), 4096);
        assert_eq!(sum("uproar_deliveries_total", &["what=\"sent\""]), 12);
        let both = ["what=\"sent\"", "class=\"gift\""];
        assert_eq!(sum("uproar_deliveries_total", &both), 2);
    }

    #[test]
    fn a_figure_that_is_not_there_is_an_error_not_zero() {
        let figures = Figures { text: TEXT.to_owned() };
        assert!(figures.sum("uproar_send_total", &[]).is_err());
        assert!(figures.sum("uproar_sends_total", &["shard=\"2\""]).is_err());
    }

    #[test]
    fn only_a_200_has_a_body() {
        assert_eq!(body_of("HTTP/1.0 200 OK\r\na: b\r\n\r\nhello").expect("200"), "hello");
        assert!(body_of("HTTP/1.0 503 Busy\r\n\r\nhello").is_err());
        assert!(body_of("nonsense").is_err());
    }

    #[test]
    fn a_server_that_does_not_start_is_an_error() {
        let cores = crate::sys::cores_allowed().expect("affinity");
        let started = Server::start(Path::new("/bin/false"), &Settings::new(1), &cores[..1]);
        let e = started.expect_err("false");
        assert!(e.to_string().contains("ended"), "{e}");
    }
}
