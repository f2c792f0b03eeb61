//! Requests to the server, and what went wrong with one in words for the operator.
//!
//! Owns the key: it goes into a header and nowhere else.

use crate::Failure;
use crate::config::Config;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Method, Response, StatusCode, Url};
use serde_json::Value;
use std::io::{ErrorKind, Write as _};
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;
use tokio::runtime::Runtime;
use uproar_control::outgoing;

/// The longest wait for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// The longest silence of the server.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// A server, and the key it asks for.
pub(super) struct Api {
    base: String,
    key: Option<HeaderValue>,
    client: Client,
    runtime: Runtime,
}

impl Api {
    /// At `url`, or where the configuration says the server listens.
    pub(super) fn new(url: Option<String>, config: &Config) -> Result<Api, Failure> {
        let base = url.unwrap_or_else(|| listens(config));
        let parsed = Url::parse(&base).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let Some(parsed) = parsed else {
            let text = format!("--api is {base:?}; it must be as http://127.0.0.1:7480");
            return Err(Failure::Usage(text));
        };
        let key = std::env::var("UPROAR_API_KEY").ok().filter(|key| !key.is_empty());
        let key = key.unwrap_or_else(|| config.http.api_key.clone());
        if !key.is_empty() && parsed.scheme() == "http" && !is_here(&parsed) {
            eprintln!("warning: the key goes to {base} as readable text; https hides it");
        }
        let bad_key = |_| Failure::Usage("the API key holds what a header cannot carry".into());
        let key = match key.as_str() {
            "" => None,
            key => Some(HeaderValue::try_from(format!("Bearer {key}")).map_err(bad_key)?),
        };
        let failed = |e: String| Failure::Failed(e);
        let client = outgoing::client(parsed.scheme() == "https");
        let client = client.connect_timeout(CONNECT_MAX).read_timeout(SILENCE_MAX);
        // The key goes where the operator said, not where that place sends us.
        let client = client.redirect(reqwest::redirect::Policy::none()).build();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Api {
            base: base.trim_end_matches('/').to_owned(),
            key,
            client: client.map_err(|e| failed(outgoing::why_not(&e)))?,
            runtime: runtime.map_err(|e| failed(e.to_string()))?,
        })
    }

    /// A request and its JSON answer; null where there is none.
    pub(super) fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value, Failure> {
        self.runtime.block_on(async {
            let response = self.send(method, path, body).await?;
            let text = response.bytes().await.map_err(|e| self.unreachable(&e))?;
            if text.is_empty() {
                return Ok(Value::Null);
            }
            let no_json = |_| Failure::Failed(format!("{} is no uproar: no JSON", self.base));
            serde_json::from_slice(&text).map_err(no_json)
        })
    }

    /// Prints an export as it comes. One without its last line is not whole, and has failed.
    pub(super) fn export(&self, path: &str) -> Result<ExitCode, Failure> {
        self.runtime.block_on(async {
            let mut response = self.send("GET", path, &Value::Null).await?;
            let mut out = std::io::stdout().lock();
            let mut line = Vec::new();
            while let Some(piece) = response.chunk().await.map_err(|e| self.unreachable(&e))? {
                match out.write_all(&piece) {
                    // Whoever reads has seen enough: `| head -1`.
                    Err(e) if e.kind() == ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
                    told => told.map_err(|e| unwritten(&e))?,
                }
                remember_last(&mut line, &piece);
            }
            out.flush().map_err(|e| unwritten(&e))?;
            let last: Value = serde_json::from_slice(&line).unwrap_or_default();
            if last["type"] == "end" {
                return Ok(ExitCode::SUCCESS);
            }
            Err(Failure::Failed("the export ended before it was whole; export again".into()))
        })
    }

    async fn send(&self, method: &str, path: &str, body: &Value) -> Result<Response, Failure> {
        let method = Method::from_bytes(method.as_bytes()).unwrap_or_default();
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(key) = &self.key {
            request = request.header(AUTHORIZATION, key);
        }
        if !body.is_null() {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let response = request.send().await.map_err(|e| self.unreachable(&e))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let text = response.bytes().await.unwrap_or_default();
        Err(Failure::Failed(self.refused(status, &text)))
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let (base, error) = (&self.base, told(error));
        Failure::Failed(format!(
            "{base} could not be reached: {error}; is uproar serving there? --api URL names \
             another place"
        ))
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> String {
        let answer: Value = serde_json::from_slice(body).unwrap_or_default();
        let error = &answer["error"];
        let (Some(name), Some(text)) = (error["name"].as_str(), error["text"].as_str()) else {
            return format!("{} answered {status}: is that uproar's HTTP interface?", self.base);
        };
        if status == StatusCode::UNAUTHORIZED {
            let given =
                if self.key.is_some() { "does not take this key" } else { "asks for a key" };
            return format!(
                "{} {given}: set UPROAR_API_KEY, or http.api_key in the file of --config",
                self.base
            );
        }
        format!("{} ({name})", super::show::plain(text))
    }
}

/// Where the server listens, as this machine calls it.
fn listens(config: &Config) -> String {
    let mut listen = config.http.listen;
    if listen.ip().is_unspecified() {
        listen.set_ip(match listen.ip() {
            IpAddr::V4(_) => IpAddr::from([127, 0, 0, 1]),
            IpAddr::V6(_) => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
        });
    }
    format!("http://{listen}")
}

fn is_here(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// An error to its root: reqwest's own words leave the reason out.
fn told(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn unwritten(error: &std::io::Error) -> Failure {
    Failure::Failed(format!("standard output cannot be written: {error}"))
}

/// Keeps the last whole line of what came, and what follows it.
fn remember_last(line: &mut Vec<u8>, piece: &[u8]) {
    line.extend_from_slice(piece);
    let end = line.iter().rposition(|byte| *byte != b'\n').map_or(0, |at| at + 1);
    if let Some(begin) = line[..end].iter().rposition(|byte| *byte == b'\n') {
        line.drain(..=begin);
    }
}

/// A text as a part of a path or of a query.
pub(super) fn segment(text: &str) -> String {
    let byte = |b: u8| match b {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
            (b as char).to_string()
        }
        b => format!("%{b:02X}"),
    };
    // A dot alone would be taken for a step in the path.
    match text {
        "." | ".." => text.replace('.', "%2E"),
        text => text.bytes().map(byte).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_is_one_part_of_a_path() {
        assert_eq!(segment("ann-1.b_c~"), "ann-1.b_c~");
        assert_eq!(segment("a/b c@x?&#%"), "a%2Fb%20c%40x%3F%26%23%25");
        assert_eq!(segment("\u{e9}"), "%C3%A9");
        assert_eq!((segment(".."), segment(".")), ("%2E%2E".into(), "%2E".into()));
    }

    #[test]
    fn the_last_line_is_known_however_it_comes() {
        for pieces in [&["a\nb", "c\nlast", "\n"][..], &["a\nbc\nlast\n"], &["l", "ast\n"]] {
            let mut line = Vec::new();
            pieces.iter().for_each(|piece| remember_last(&mut line, piece.as_bytes()));
            assert_eq!(line, b"last\n", "{pieces:?}");
        }
    }

    #[test]
    fn a_server_on_every_address_is_asked_on_this_machine() {
        let mut config = Config::default();
        for (listen, base) in [
            ("0.0.0.0:1", "http://127.0.0.1:1"),
            ("[::]:1", "http://[::1]:1"),
            ("10.0.0.1:1", "http://10.0.0.1:1"),
        ] {
            config.http.listen = listen.parse().unwrap();
            assert_eq!(listens(&config), base);
        }
        assert!(is_here(&Url::parse("http://[::1]:1/").unwrap()));
        assert!(!is_here(&Url::parse("http://example.org/").unwrap()));
    }
}
