//! Keys and tokens: made with jsonwebtoken, so that they may be what `uproar token` never makes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// 32 bytes; a key of these tests alone.
const HS256: &[u8; 32] = b"a secret for nothing but testing";

const ED25519_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIBNCz6yFmgZBT9FNu0/LDpq+ol2VDEiZ5vInXwFH+468
-----END PRIVATE KEY-----";

const ED25519_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAqavQSuxnAaS2EDWzdehUpGyM1wDBx0pNT+bFx+pGPu0=
-----END PUBLIC KEY-----";

/// The configuration of a server that accepts both kinds.
pub(crate) fn config() -> String {
    let secret = STANDARD.encode(HS256);
    let public = format!("\"\"\"{ED25519_PUBLIC}\"\"\"");
    format!("[engine.tokens]\nhs256_secret = \"{secret}\"\neddsa_public_key = {public}\n")
}

pub(crate) fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub(crate) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// Claims of a user for an hour, with more over them.
pub(crate) fn claims(user: &str, more: Value) -> Value {
    let mut claims = json!({"sub": user, "exp": unix_s() + 3_600});
    for (key, value) in more.as_object().into_iter().flatten() {
        claims[key] = value.clone();
    }
    claims
}

pub(crate) fn hs256(claims: &Value) -> String {
    hs256_by(HS256, claims)
}

/// Signed with any secret.
pub(crate) fn hs256_by(secret: &[u8], claims: &Value) -> String {
    encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(secret)).unwrap()
}

pub(crate) fn eddsa(claims: &Value) -> String {
    let key = EncodingKey::from_ed_pem(ED25519_PRIVATE.as_bytes()).unwrap();
    encode(&Header::new(Algorithm::EdDSA), claims, &key).unwrap()
}

/// A user with nothing special.
pub(crate) fn plain(user: &str) -> String {
    hs256(&claims(user, Value::Null))
}
