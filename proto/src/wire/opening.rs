//! What a connection opens with: the variants of one port, told apart by their first bytes.
//!
//! Owns the opening of the server's side: `UPR1`, or an HTTP upgrade request and its answer.
//! Keeps nothing: the caller holds the bytes until there are enough. Which origins may connect is
//! the engine's to say.

use super::http::{self, Head, NoHead};
use super::{Variant, encode_server, error_body};
use crate::error::Code;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};

/// What binary TCP opens with.
pub const TCP_MAGIC: [u8; 4] = *b"UPR1";

/// Most bytes a caller has to hold for [`open`]: by then it has decided.
pub const OPENING_BYTES_MAX: usize = http::HEAD_BYTES_MAX;

/// The subprotocol of WebSocket binary.
pub const SUBPROTOCOL_PROTO: &str = "uproar.v1.proto";

/// The subprotocol of WebSocket JSON.
pub const SUBPROTOCOL_JSON: &str = "uproar.v1.json";

/// What the first bytes say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// More bytes are needed; never with [`OPENING_BYTES_MAX`] of them.
    NeedMore,
    /// Binary TCP.
    Tcp {
        /// Frames begin after these.
        consumed: usize,
    },
    /// A good upgrade request.
    WebSocket {
        /// WebSocket frames begin after these.
        consumed: usize,
        /// What was agreed, and the answer.
        upgrade: Upgrade,
    },
    /// Neither: send the reply, then close.
    Refused {
        /// An HTTP response to HTTP, else an error frame of binary TCP.
        reply: Vec<u8>,
        /// What it says.
        code: Code,
    },
}

/// An upgrade request that can be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// What was agreed.
    pub variant: Variant,
    /// The page it comes from; browsers always say, others need not.
    pub origin: Option<String>,
    /// The request target, `/` for most; of no meaning to the protocol.
    pub path: String,
    /// The whole 101 response.
    pub reply: Vec<u8>,
}

/// Reads the opening of a connection.
#[must_use]
pub fn open(input: &[u8]) -> Opening {
    if input.starts_with(&TCP_MAGIC) {
        return Opening::Tcp { consumed: TCP_MAGIC.len() }; // W-1, W-3
    }
    if TCP_MAGIC.starts_with(input) || b"GET ".starts_with(input) {
        return Opening::NeedMore;
    }
    if input.starts_with(b"GET ") {
        return upgrade(input); // W-1
    }
    refuse(input)
}

/// A whole HTTP response that refuses an upgrade with a code: 403 for an origin, 503 for a full
/// server. Its body is the JSON form of the error frame.
#[must_use]
pub fn http_refusal(status: u16, code: Code) -> Vec<u8> {
    http::refusal(status, code, code.text())
}

/// What opens with neither: other HTTP methods are answered in HTTP, the rest in binary TCP.
fn refuse(input: &[u8]) -> Opening {
    const METHODS: [&[u8]; 8] =
        [b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"TRACE ", b"CONNECT "];
    let code = Code::BadHandshake;
    if METHODS.iter().any(|m| input.starts_with(m)) {
        let reply = http::refusal(405, code, "this port takes WebSocket upgrades (GET) only");
        return Opening::Refused { reply, code };
    }
    if METHODS.iter().any(|m| m.starts_with(input)) {
        return Opening::NeedMore;
    }
    let mut reply = Vec::new();
    encode_server(&error_body(code), Variant::Tcp, &mut reply); // W-2
    Opening::Refused { reply, code }
}

fn upgrade(input: &[u8]) -> Opening {
    let refused = |status, code, text: &str| Opening::Refused {
        reply: http::refusal(status, code, text),
        code,
    };
    let head = match Head::parse(input) {
        Ok(head) => head,
        Err(NoHead::NeedMore) => return Opening::NeedMore,
        Err(NoHead::TooLarge) => {
            return refused(431, Code::FrameTooLarge, "a request head is at most 8192 bytes");
        }
        Err(NoHead::Malformed) => {
            return refused(400, Code::BadHandshake, "the request head is not valid HTTP/1.1");
        }
    };
    match negotiate(&head) {
        Ok(upgrade) => Opening::WebSocket { consumed: head.bytes, upgrade },
        Err((status, text)) => refused(status, Code::BadHandshake, text),
    }
}

/// Checks a request by RFC 6455 section 4.2.1, rule by rule, and writes the answer.
fn negotiate(head: &Head<'_>) -> Result<Upgrade, (u16, &'static str)> {
    let mut words = head.first_line.split(' ');
    let (Some("GET"), Some(path), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err((400, "the request line is not \"GET <path> HTTP/1.1\""));
    };
    if version != "HTTP/1.1" {
        return Err((505, "an upgrade needs HTTP/1.1"));
    }
    if head.one("host").is_none() {
        return Err((400, "a request has one Host"));
    }
    if head.all("transfer-encoding").next().is_some()
        || head.all("content-length").any(|length| length != "0")
    {
        return Err((400, "an upgrade request has no body"));
    }
    if !head.lists("upgrade", "websocket") || !head.lists("connection", "upgrade") {
        return Err((426, "this port speaks WebSocket: connect with new WebSocket(url)")); // W-7
    }
    if head.one("sec-websocket-version") != Some("13") {
        return Err((426, "Sec-WebSocket-Version is 13")); // W-8
    }
    let key = head.one("sec-websocket-key").unwrap_or_default();
    if !STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16) {
        return Err((400, "Sec-WebSocket-Key is 16 bytes in base64")); // W-8
    }
    let mut origins = head.all("origin");
    let origin = origins.next().map(str::to_owned);
    if origins.next().is_some() {
        return Err((400, "a request has at most one Origin"));
    }
    let subprotocol = subprotocol(head)?;
    let deflate = deflate(head);
    let variant = Variant::websocket(subprotocol != Some(SUBPROTOCOL_PROTO), deflate.is_some());
    let mut reply = format!(
        "HTTP/1.1 101 Switching Protocols\r\n\
         Upgrade: websocket\r\n\
         Connection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n",
        accept_key(key)
    );
    if let Some(name) = subprotocol {
        reply.push_str(&format!("Sec-WebSocket-Protocol: {name}\r\n"));
    }
    if let Some(extension) = deflate {
        reply.push_str(&format!("Sec-WebSocket-Extensions: {extension}\r\n"));
    }
    reply.push_str("\r\n");
    Ok(Upgrade { variant, origin, path: path.to_owned(), reply: reply.into_bytes() })
}

/// The first subprotocol of the client's list that is known here; `None` where it has no list.
fn subprotocol(head: &Head<'_>) -> Result<Option<&'static str>, (u16, &'static str)> {
    let known = |name| [SUBPROTOCOL_PROTO, SUBPROTOCOL_JSON].into_iter().find(|k| *k == name);
    match head.list("sec-websocket-protocol").find_map(known) {
        Some(name) => Ok(Some(name)), // W-9
        None if head.all("sec-websocket-protocol").next().is_none() => Ok(None), // W-10
        None => {
            Err((400, "Sec-WebSocket-Protocol: allowed are uproar.v1.proto and uproar.v1.json"))
        }
    }
}

/// The answer to the first offer of permessage-deflate that is acceptable (RFC 7692 section 7.1).
fn deflate(head: &Head<'_>) -> Option<&'static str> {
    head.list("sec-websocket-extensions").find_map(deflate_offer)
}

/// W-11: no context is ever taken over, in either direction: a window kept for each client would
/// cost 32 KiB a viewer here. Windows are 32 KiB (15 bits) for the same compressed bytes serve
/// everybody: a client that needs a smaller one goes uncompressed.
fn deflate_offer(offer: &str) -> Option<&'static str> {
    let mut parts = offer.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case("permessage-deflate") {
        return None;
    }
    let mut seen = Vec::new();
    let mut names_window = false;
    for part in parts {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim().trim_matches('"'))),
            None => (part, None),
        };
        let name = name.to_ascii_lowercase();
        match (name.as_str(), value) {
            ("server_no_context_takeover" | "client_no_context_takeover", None) => {}
            ("server_max_window_bits", Some("15")) => names_window = true,
            ("client_max_window_bits", None) => {}
            ("client_max_window_bits", Some(bits)) if window_bits(bits) => {}
            _ => return None,
        }
        if seen.contains(&name) {
            return None;
        }
        seen.push(name);
    }
    Some(if names_window {
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
         server_max_window_bits=15"
    } else {
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    })
}

/// RFC 7692 section 7.1.2: 8 to 15, without leading zeros.
fn window_bits(bits: &str) -> bool {
    matches!(bits, "8" | "9" | "10" | "11" | "12" | "13" | "14" | "15")
}

/// RFC 6455 section 4.2.2: proves that the answer is to this request.
pub(crate) fn accept_key(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(hash.finalize())
}
