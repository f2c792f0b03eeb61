//! The header `Idempotency-Key` of routes that create in the store.
//!
//! Owns its form. A route takes [`Key`] and hands its text to the rules, which run
//! `store::idempotency` inside the transaction of the effect; what was kept goes out by [`replay`].

use super::errors::ApiError;
use crate::accounts::Caller;
use crate::store::idempotency::{Kept, Use};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use sha2::{Digest, Sha256};

/// The header.
const HEADER: &str = "idempotency-key";
/// The longest key, in bytes.
const KEY_BYTES_MAX: usize = 64;

/// The key of a request; `None`: it came without, and a repeat of it is another request.
pub(crate) struct Key(pub(crate) Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for Key {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let mut values = parts.headers.get_all(HEADER).iter();
        let Some(value) = values.next() else { return Ok(Key(None)) };
        let key = value.as_bytes();
        let is_good = values.next().is_none()
            && (1..=KEY_BYTES_MAX).contains(&key.len())
            && key.iter().all(u8::is_ascii_graphic);
        let text = "Idempotency-Key is 1 to 64 visible ASCII characters, once";
        let key = value.to_str().ok().filter(|_| is_good);
        key.map(|key| Key(Some(key.to_owned()))).ok_or_else(|| ApiError::bad_request(text))
    }
}

/// An answer as it was kept, byte for byte.
pub(crate) fn replay(kept: Kept) -> Response {
    let status = StatusCode::from_u16(kept.status).unwrap_or(StatusCode::OK);
    let json = HeaderValue::from_static("application/json");
    (status, [(header::CONTENT_TYPE, json)], kept.body).into_response()
}

/// The use of a key by a user on a route; `None`: the request came without.
pub(crate) fn used<T: Serialize>(
    Key(key): Key,
    caller: &Caller,
    route: &'static str,
    body: &T,
    now_ms: i64,
) -> Option<Use> {
    let body_hash = hash_of(body);
    let caller = format!("user {}", caller.user);
    key.map(|key| Use { caller, route, key, body_hash, now_ms })
}

/// The use of a key by a backend, whoever holds the API key; `None`: the request came without.
pub(crate) fn used_by_backend(
    Key(key): Key,
    route: &'static str,
    body_hash: String,
    now_ms: i64,
) -> Option<Use> {
    key.map(|key| Use { caller: "backend".to_owned(), route, key, body_hash, now_ms })
}

/// A hash of what was asked for.
pub(crate) fn hash_of<T: Serialize>(body: &T) -> String {
    let asked = serde_json::to_vec(body).unwrap_or_default(); // what came as JSON goes as JSON
    Sha256::digest(asked).iter().map(|byte| format!("{byte:02x}")).collect()
}
