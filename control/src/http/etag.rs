//! A strong `ETag`: a hash of the bytes that are sent, so that no restart changes it.
//!
//! Owns how it is made, said and compared. Knows no route.

use axum::http::{HeaderMap, HeaderValue, header};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

/// Bytes of the hash that are kept: two bodies with one tag are not to be found.
const BYTES: usize = 16;

/// The tag of one body.
pub(super) struct ETag(String);

impl ETag {
    pub(super) fn of(body: &[u8]) -> ETag {
        let mut tag = String::from("\"");
        for byte in Sha256::digest(body).iter().take(BYTES) {
            let _ = write!(tag, "{byte:02x}"); // a String takes everything
        }
        tag.push('"');
        ETag(tag)
    }

    /// Says it with an answer.
    pub(super) fn say(&self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::from_str(&self.0) {
            headers.insert(header::ETAG, value);
        }
    }

    /// Whether who asks has the body already (`If-None-Match`).
    pub(super) fn is_known(&self, asked: &HeaderMap) -> bool {
        let lists = asked.get_all(header::IF_NONE_MATCH).into_iter();
        let mut tags = lists.flat_map(|list| list.to_str().unwrap_or_default().split(','));
        tags.any(|tag| {
            let tag = tag.trim();
            tag == "*" || tag.trim_start_matches("W/") == self.0
        })
    }
}
