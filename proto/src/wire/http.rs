//! As much HTTP/1.1 as a WebSocket upgrade needs: one head, read strictly; short responses.
//!
//! Owns heads and their bound. Never reads a body: neither side of an upgrade has one.

use crate::error::Code;
use crate::v1::server_frame;
use serde::Serialize;

/// Longest head of a request or response. Longer: 431 with `FRAME_TOO_LARGE`.
pub(crate) const HEAD_BYTES_MAX: usize = 8 * 1024;

/// The first line and the header fields of a request or response.
#[derive(Debug)]
pub(crate) struct Head<'a> {
    pub(crate) first_line: &'a str,
    fields: Vec<(&'a str, &'a str)>,
    /// Length of the whole head, with the empty line.
    pub(crate) bytes: usize,
}

/// Why there is no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoHead {
    NeedMore,
    TooLarge,
    Malformed,
}

impl<'a> Head<'a> {
    pub(crate) fn parse(input: &'a [u8]) -> Result<Head<'a>, NoHead> {
        let window = &input[..input.len().min(HEAD_BYTES_MAX)];
        let Some(end) = window.windows(4).position(|w| w == b"\r\n\r\n") else {
            let full = window.len() == HEAD_BYTES_MAX; // W-6
            return Err(if full { NoHead::TooLarge } else { NoHead::NeedMore });
        };
        // Header fields of an upgrade are ASCII; so is everything this end compares.
        let visible = |b: &u8| matches!(b, b' '..=b'~' | b'\t' | b'\r' | b'\n');
        let text = &window[..end];
        let text = match std::str::from_utf8(text) {
            Ok(text_str) if text.iter().all(visible) => text_str,
            _ => return Err(NoHead::Malformed),
        };
        let mut lines = text.split("\r\n");
        let first_line = lines.next().unwrap_or_default();
        let mut fields = Vec::new();
        for line in lines {
            fields.push(field(line).ok_or(NoHead::Malformed)?);
        }
        if text.replace("\r\n", "").contains(['\r', '\n']) {
            return Err(NoHead::Malformed);
        }
        Ok(Head { first_line, fields, bytes: end + 4 })
    }

    /// The values of all fields of a name, in order.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &'a str> {
        let named = move |f: &&(&str, &str)| f.0.eq_ignore_ascii_case(name);
        self.fields.iter().filter(named).map(|f| f.1)
    }

    /// The value of a field that is there exactly once.
    pub(crate) fn one(&self, name: &str) -> Option<&'a str> {
        let mut values = self.all(name);
        values.next().filter(|_| values.next().is_none())
    }

    /// The items of all comma-separated fields of a name.
    pub(crate) fn list(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.all(name).flat_map(|v| v.split(',')).map(str::trim).filter(|item| !item.is_empty())
    }

    /// Whether a list has an item, in any case.
    pub(crate) fn lists(&self, name: &str, item: &str) -> bool {
        self.list(name).any(|i| i.eq_ignore_ascii_case(item))
    }
}

fn field(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once(':')?;
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let legal = !name.is_empty() && name.bytes().all(token);
    legal.then(|| (name, value.trim_matches([' ', '\t'])))
}

/// W-32. A whole response that refuses: the JSON form of the error frame as its body, then close.
pub(crate) fn refusal(status: u16, code: Code, text: &str) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "snake_case")]
    enum Body {
        Error(crate::v1::Error),
    }
    let mut body = Vec::new();
    if let server_frame::Body::Error(mut error) = super::error_body(code) {
        text.clone_into(&mut error.text);
        super::json::write(&Body::Error(error), &mut body);
    }
    body.push(b'\n');
    let reason = reason(status);
    let length = body.len();
    let mut reply = format!(
        "HTTP/1.1 {status} {reason}\r\n\
         Content-Type: application/json\r\n\
         Content-Length: {length}\r\n\
         Cache-Control: no-store\r\n\
         Connection: close\r\n"
    );
    match status {
        405 => reply.push_str("Allow: GET\r\n"),
        // RFC 9110 section 15.5.22, RFC 6455 section 4.4.
        426 => reply.push_str("Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"),
        _ => {}
    }
    reply.push_str("\r\n");
    [reply.as_bytes(), &body].concat()
}

fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Refused",
    }
}
