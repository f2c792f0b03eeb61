//! One request to a receiver: its headers, its signature, and as much of the answer as is read.
//!
//! Owns what is on the wire but the body. Follows no redirect, since a receiver is where the
//! configuration says; never repeats anything: what a failure leads to is its caller's to decide.

use super::config::{WebhookSettings, is_loopback};
use crate::outgoing;
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, Url, header};
use sha2::Sha256;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

const USER_AGENT: &str = concat!("uproar/", env!("CARGO_PKG_VERSION"));
/// Connections kept open to a receiver that is not asked now, each for at most this long.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// What of an answer nobody needs is read, so that its connection can be used again. Longer: the
/// connection is closed.
pub(super) const NOTHING: usize = 4_096;

/// What is told.
pub(super) struct Message {
    /// Ids of its events, and their types: lists, each entry once.
    pub(super) ids: String,
    pub(super) types: String,
    /// JSON.
    pub(super) body: Vec<u8>,
}

/// Why a receiver has not taken a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Not within the time-out.
    TimedOut,
    /// It could not be reached, or said what is no HTTP.
    Unreachable,
    /// It answered with another status than 2xx, and perhaps when to ask again.
    Status(u16, Option<Duration>),
    /// It took the message, and its answer is not one.
    BadAnswer,
}

impl Failure {
    /// The label in metrics.
    pub(super) fn word(self) -> &'static str {
        match self {
            Failure::TimedOut => "timeout",
            Failure::Unreachable => "unreachable",
            Failure::Status(..) => "status",
            Failure::BadAnswer => "answer",
        }
    }
}

/// Where one webhook is told.
pub(super) struct Receiver {
    client: Client,
    url: Url,
    secret: Vec<u8>,
    timeout: Duration,
}

impl Receiver {
    /// For settings that were checked.
    pub(super) fn new(settings: &WebhookSettings) -> Result<Receiver, String> {
        let failed = |e: &dyn std::fmt::Display| format!("webhook {:?}: {e}", settings.name);
        let url: Url = settings.url.parse().map_err(|e| failed(&e))?;
        let mut client = outgoing::client(url.scheme() == "https")
            .user_agent(USER_AGENT)
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(settings.requests_max as usize);
        if is_loopback(&url) {
            client = client.no_proxy(); // a proxy's loopback is another machine
        }
        let client = client.build().map_err(|e| failed(&outgoing::why_not(&e)))?;
        let timeout = Duration::from_millis(u64::from(settings.timeout_ms));
        Ok(Receiver { client, url, secret: settings.secret.bytes().to_vec(), timeout })
    }

    /// Sends a message and returns what was answered; more than `answer_bytes_max` is a
    /// `BadAnswer`. With [`NOTHING`] the answer counts as soon as its status is there.
    pub(super) async fn post(
        &self,
        message: Message,
        answer_bytes_max: usize,
    ) -> Result<Vec<u8>, Failure> {
        self.post_within(message, answer_bytes_max, self.timeout).await
    }

    /// The same for whoever waits no longer than `wait_max`.
    pub(super) async fn post_within(
        &self,
        message: Message,
        answer_bytes_max: usize,
        wait_max: Duration,
    ) -> Result<Vec<u8>, Failure> {
        let now_s = crate::process::unix_ms() / 1_000;
        let signature = signature(&self.secret, now_s, &message.body);
        let request = self
            .client
            .post(self.url.clone())
            .timeout(self.timeout.min(wait_max))
            .header(header::CONTENT_TYPE, "application/json")
            .header("uproar-event-id", message.ids)
            .header("uproar-event", message.types)
            .header("uproar-timestamp", now_s)
            .header("uproar-signature", signature)
            .body(message.body);
        let response = request.send().await.map_err(|e| failure(&e))?;
        let status = response.status();
        if !status.is_success() {
            let pause = asked_pause(&response, SystemTime::now());
            return Err(Failure::Status(status.as_u16(), pause));
        }
        match read(response, answer_bytes_max).await {
            Ok(answer) => Ok(answer),
            Err(_) if answer_bytes_max == NOTHING => Ok(Vec::new()),
            Err(failure) => Err(failure),
        }
    }
}

fn failure(error: &reqwest::Error) -> Failure {
    if error.is_timeout() { Failure::TimedOut } else { Failure::Unreachable }
}

async fn read(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, Failure> {
    let mut answer = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| failure(&e))? {
        if answer.len() + chunk.len() > bytes_max {
            return Err(Failure::BadAnswer);
        }
        answer.extend_from_slice(&chunk);
    }
    Ok(answer)
}

/// How long the receiver asks to be left alone: by `Retry-After`, or by being gone.
fn asked_pause(response: &Response, now: SystemTime) -> Option<Duration> {
    if response.status() == StatusCode::GONE {
        return Some(super::lanes::ASKED_PAUSE_MAX);
    }
    retry_after(response.headers().get(header::RETRY_AFTER)?.to_str().ok()?, now)
}

/// Seconds, or a date.
fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    match text.trim().parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            let date = httpdate::parse_http_date(text.trim()).ok()?;
            Some(date.duration_since(now).unwrap_or_default())
        }
    }
}

/// `v1=` and the HMAC-SHA256 of the timestamp, a dot and the body, in hexadecimal.
fn signature(secret: &[u8], timestamp: i64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(timestamp.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    let mut text = String::from("v1=");
    for byte in mac.finalize().into_bytes() {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_what_others_compute() {
        // printf '1760000000.{"a":1}' | openssl dgst -sha256 -hmac 0123456789abcdef
        let expected = "v1=2c435c4273ad1caba4ac63fa6d03fb28d9c34dd5834b37a314b559a26767ee5a";
        assert_eq!(signature(b"0123456789abcdef", 1_760_000_000, b"{\"a\":1}"), expected);
        let other = signature(b"0123456789abcdef", 1_760_000_000, b"{\"a\":2}");
        assert_ne!(other, expected);
    }

    #[test]
    fn a_receiver_may_ask_for_seconds_or_name_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let seconds = |text| retry_after(text, now).map(|wait| wait.as_secs());
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:00 GMT"), Some(0), "it has passed");
        for bad in ["", "-1", "soon", "1.5", "99999999999999999999"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }
}
