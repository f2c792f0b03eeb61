//! The server's own figures, read from `/metrics` in the Prometheus text form.
//!
//! Owns one HTTP GET and the reading of its lines. Never fails a run: a server without metrics is
//! tested all the same, and the report says what it does not know.

use crate::plan::MetricsFrom;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// A scrape that takes longer is given up: the figures would be of another moment.
const WAIT: Duration = Duration::from_secs(3);
/// Larger answers are not read to the end.
const BYTES_MAX: u64 = 16 << 20;

/// Every sample of one scrape.
#[derive(Clone, Debug)]
pub(crate) struct Scrape {
    pub(crate) at: Instant,
    /// Values by name and labels as written: `name{a="b"}`.
    samples: BTreeMap<String, f64>,
}

impl Scrape {
    /// Reads the server's figures; `None` where they are off.
    ///
    /// # Errors
    /// In words: why there are none.
    pub(crate) fn take(from: &MetricsFrom) -> Result<Option<Scrape>, String> {
        let MetricsFrom::Http { authority, path } = from else { return Ok(None) };
        let failed = |what: &str| format!("no figures from http://{authority}{path}: {what}");
        let text = get(authority, path).map_err(|e| failed(&e.to_string()))?;
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| failed("no HTTP response"))?;
        let status = head.lines().next().unwrap_or_default();
        if !status.contains(" 200") {
            return Err(failed(status));
        }
        let samples = read(body);
        if samples.is_empty() {
            return Err(failed("the answer holds no sample"));
        }
        Ok(Some(Scrape { at: Instant::now(), samples }))
    }

    /// The sum over all samples of a name whose labels contain every one of `labels`
    /// (`key="value"`); `None` where there is no such sample.
    pub(crate) fn sum(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let mut found = None;
        for (key, value) in self.samples.range(name.to_owned()..) {
            if !key.starts_with(name) {
                break;
            }
            let rest = &key[name.len()..];
            let whole = rest.is_empty() || rest.starts_with('{');
            if whole && labels.iter().all(|label| rest.contains(label)) {
                found = Some(found.unwrap_or(0.0) + value);
            }
        }
        found
    }

    /// By how much a counter grew since an earlier scrape.
    pub(crate) fn grown(&self, since: &Scrape, name: &str, labels: &[&str]) -> Option<f64> {
        Some(self.sum(name, labels)? - since.sum(name, labels).unwrap_or(0.0))
    }
}

fn get(authority: &str, path: &str) -> std::io::Result<String> {
    let address = authority.to_socket_addrs()?.next();
    let address = address.ok_or_else(|| std::io::Error::other("the name has no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, WAIT)?;
    stream.set_read_timeout(Some(WAIT))?;
    stream.set_write_timeout(Some(WAIT))?;
    // HTTP/1.0: the answer ends with the connection, and is never chunked.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {authority}\r\nAccept: text/plain\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    stream.take(BYTES_MAX).read_to_end(&mut bytes)?;
    String::from_utf8(bytes).map_err(std::io::Error::other)
}

/// Lines to samples; whatever is no sample is passed over.
fn read(body: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    for line in body.lines().filter(|line| !line.starts_with('#')) {
        // Labels may hold spaces: the value is behind the closing brace, else behind the name.
        let split = line.rfind('}').map_or_else(|| line.find(' '), |brace| Some(brace + 1));
        let Some((key, value)) = split.and_then(|at| line.split_at_checked(at)) else { continue };
        let value = value.split_whitespace().next().and_then(|v| v.parse().ok());
        if let Some(value) = value {
            samples.insert(key.to_owned(), value);
        }
    }
    samples
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const BODY: &str = "# HELP a_total x\n# TYPE a_total counter\n\
        a_total{shard=\"0\"} 3\na_total{shard=\"1\"} 4.5\na_totally 100\n\
        b{reason=\"two words\",class=\"chat\"} 7 1700000000\nb{class=\"gift\"} 1\n\
        c 1e3\nnot a sample\n\n";

    fn scrape(body: &str) -> Scrape {
        Scrape { at: Instant::now(), samples: read(body) }
    }

    #[test]
    fn samples_of_a_name_are_summed_over_their_labels() {
        let scrape = scrape(BODY);
        assert_eq!(scrape.sum("a_total", &[]), Some(7.5));
        assert_eq!(scrape.sum("a_total", &["shard=\"1\""]), Some(4.5));
        assert_eq!(scrape.sum("b", &["class=\"chat\""]), Some(7.0));
        assert_eq!(scrape.sum("c", &[]), Some(1000.0));
        assert_eq!(scrape.sum("a", &[]), None);
        assert_eq!(scrape.sum("b", &["class=\"like\""]), None);
    }

    #[test]
    fn a_counter_that_was_not_there_before_grew_from_nothing() {
        let before = scrape("a_total{shard=\"0\"} 1\n");
        assert_eq!(scrape(BODY).grown(&before, "a_total", &[]), Some(6.5));
        assert_eq!(scrape(BODY).grown(&before, "c", &[]), Some(1000.0));
        assert_eq!(before.grown(&before, "c", &[]), None);
    }

    #[test]
    fn figures_come_over_http_and_their_absence_is_told_in_words() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let authority = listener.local_addr().expect("bound").to_string();
        let server = std::thread::spawn(move || {
            for answer in
                [format!("HTTP/1.1 200 OK\r\n\r\n{BODY}"), "HTTP/1.1 404 Not Found\r\n\r\n".into()]
            {
                let (mut stream, _) = listener.accept().expect("a client");
                let mut request = [0; 1024];
                let got = stream.read(&mut request).expect("a request");
                assert!(request[..got].starts_with(b"GET /metrics HTTP/1.0\r\n"));
                stream.write_all(answer.as_bytes()).expect("sent");
            }
        });
        let from = MetricsFrom::Http { authority, path: "/metrics".into() };
        let scrape = Scrape::take(&from).expect("200").expect("not off");
        assert_eq!(scrape.sum("c", &[]), Some(1000.0));
        assert!(Scrape::take(&from).is_err_and(|e| e.contains("404")));
        server.join().expect("no panic");
        assert!(Scrape::take(&from).is_err_and(|e| e.contains("refused")));
        assert!(Scrape::take(&MetricsFrom::Off).is_ok_and(|s| s.is_none()));
    }
}
