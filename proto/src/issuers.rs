//! Whose tokens are taken besides this node's own: foreign issuers and their keys.
//!
//! Owns the settings of an issuer and the one check of a token against them, for the engine's
//! shards and for HTTP alike. Fetches nothing: keys of a `jwks_url` are handed in by whoever
//! fetched them, and a check that lacks one only says so. Expiry is the caller's to compare: it
//! has the clock.

use crate::error::Code;
use crate::names::{ERASED, ISSUER_BYTES_MAX, is_issuer, join};
use crate::token::{Claims, USER_BYTES_MAX};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Issuers of one configuration. More: refused.
pub const ISSUERS_MAX: usize = 64;
/// Keys taken of one key set; the rest is left out.
const KEYS_MAX: usize = 64;
/// The shortest HS256 secret, in bytes: as long as the hash (RFC 7518, 3.2).
const SECRET_BYTES_MIN: usize = 32;

/// The one algorithm that an issuer signs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pinned {
    /// HMAC with SHA-256: a shared secret.
    HS256,
    /// Ed25519.
    EdDSA,
    /// RSA, PKCS#1 v1.5, SHA-256.
    RS256,
    /// ECDSA on P-256 with SHA-256.
    ES256,
}

impl Pinned {
    fn algorithm(self) -> Algorithm {
        match self {
            Pinned::HS256 => Algorithm::HS256,
            Pinned::EdDSA => Algorithm::EdDSA,
            Pinned::RS256 => Algorithm::RS256,
            Pinned::ES256 => Algorithm::ES256,
        }
    }
}

/// An entry `[[engine.tokens.issuers]]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerSettings {
    /// Its users are `SUB@NAME` on the wire: 1 to 16 bytes of a-z 0-9 and -.
    pub name: String,
    /// The exact `iss` of its tokens.
    pub issuer: String,
    /// One of the token's `aud`. Empty: not looked at.
    #[serde(default)]
    pub audience: String,
    /// Tokens of any other algorithm are refused, whatever their header says.
    pub algorithm: Pinned,
    /// HS256: the secret in base64; else the public key in PEM. This or `jwks_url`.
    #[serde(default)]
    pub key: String,
    /// Where its public keys are fetched (JWKS), by the `kid` of a token.
    #[serde(default)]
    pub jwks_url: String,
}

enum Keys {
    One(DecodingKey),
    ByKid(Vec<(String, DecodingKey)>),
}

/// One issuer.
pub struct Issuer {
    settings: IssuerSettings,
    /// Locked for one copy of the pointer: a shard waits for nobody who fetches.
    keys: RwLock<Arc<Keys>>,
    /// A token came whose key is not known. A flag that the fetcher looks at: waking a task from a
    /// shard would write to a descriptor of another table.
    wanted: AtomicBool,
    fetched: AtomicU64,
    failed: AtomicU64,
}

/// Every foreign issuer of a node, shared by its shards and its HTTP interface.
#[derive(Default)]
pub struct Issuers {
    list: Vec<Issuer>,
}

/// The part of a token that says whose it is; nothing of it is trusted.
#[derive(Deserialize)]
struct Peek {
    #[serde(default)]
    iss: serde_json::Value,
}

impl Issuers {
    /// # Errors
    /// The first setting that cannot be: its key, what is wrong, what is allowed. Shows no secret.
    pub fn new(settings: &[IssuerSettings]) -> Result<Issuers, String> {
        if settings.len() > ISSUERS_MAX {
            return Err(format!(
                "issuers has {} entries; allowed are {ISSUERS_MAX}",
                settings.len()
            ));
        }
        let mut list: Vec<Issuer> = Vec::with_capacity(settings.len());
        for (at, one) in settings.iter().enumerate() {
            let issuer = Issuer::new(one).map_err(|e| format!("issuers[{at}].{e}"))?;
            for other in list.iter().map(|other| &other.settings) {
                if other.name == one.name {
                    return Err(format!("issuers[{at}].name is {:?} a second time", one.name));
                }
                if other.issuer == one.issuer {
                    return Err(format!("issuers[{at}].issuer is {:?} a second time", one.issuer));
                }
            }
            list.push(issuer);
        }
        Ok(Issuers { list })
    }

    /// Every issuer.
    #[must_use]
    pub fn list(&self) -> &[Issuer] {
        &self.list
    }

    /// Checks a token of one of these issuers: signature, `iss`, `aud`, and the user's name. In the
    /// claims `sub` is the user's name on the wire. `None`: it is no token of theirs, and the
    /// node's own keys decide.
    ///
    /// # Errors
    /// `TokenInvalid`, also while its key is being fetched.
    pub fn verify(&self, token: &str) -> Option<Result<Claims, Code>> {
        if self.list.is_empty() {
            return None;
        }
        let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
        let peek = serde_json::from_slice::<Peek>(&payload).ok()?;
        let iss = peek.iss.as_str()?;
        let issuer = self.list.iter().find(|one| one.settings.issuer == iss)?;
        Some(issuer.verify(token).ok_or(Code::TokenInvalid))
    }
}

impl Issuer {
    fn new(settings: &IssuerSettings) -> Result<Issuer, String> {
        let IssuerSettings { name, issuer, algorithm, key, jwks_url, .. } = settings;
        if !is_issuer(name) {
            return Err(format!(
                "name is {name:?}; allowed are 1 to {ISSUER_BYTES_MAX} bytes of a-z 0-9 and -"
            ));
        }
        if name == ERASED {
            return Err(format!("name is {ERASED:?}, which erased users are called by"));
        }
        if issuer.is_empty() {
            return Err("issuer is empty; it is the exact iss of the tokens".into());
        }
        let keys = match (key.is_empty(), jwks_url.is_empty()) {
            (false, true) => Keys::One(decoding_key(*algorithm, key)?),
            (true, false) if *algorithm == Pinned::HS256 => {
                return Err("jwks_url serves public keys, and HS256 has none; set key".into());
            }
            (true, false) => {
                let known = ["https://", "http://"];
                if !known.iter().any(|scheme| jwks_url.starts_with(scheme)) {
                    return Err(format!("jwks_url is {jwks_url:?}; it begins with https://"));
                }
                Keys::ByKid(Vec::new())
            }
            _ => return Err("key or jwks_url: exactly one of the two is set".into()),
        };
        Ok(Issuer {
            settings: settings.clone(),
            keys: RwLock::new(Arc::new(keys)),
            wanted: AtomicBool::new(false),
            fetched: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        })
    }

    /// As it was configured.
    #[must_use]
    pub fn settings(&self) -> &IssuerSettings {
        &self.settings
    }

    fn verify(&self, token: &str) -> Option<Claims> {
        let header = decode_header(token).ok()?;
        // RFC 7515, 4.1.11: no extension is understood here.
        if header.crit.is_some() {
            return None;
        }
        let algorithm = self.settings.algorithm.algorithm();
        if header.alg != algorithm {
            return None;
        }
        let keys = Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner));
        let key = match &*keys {
            Keys::One(key) => key,
            Keys::ByKid(keys) => {
                let kid = header.kid?;
                let found = keys.iter().find(|(known, _)| *known == kid);
                let Some((_, key)) = found else {
                    self.wanted.store(true, Ordering::Relaxed);
                    return None;
                };
                key
            }
        };
        let mut rules = Validation::new(algorithm);
        rules.validate_exp = false;
        rules.set_issuer(&[&self.settings.issuer]);
        if self.settings.audience.is_empty() {
            rules.validate_aud = false;
            rules.set_required_spec_claims(&["iss"]);
        } else {
            rules.set_audience(&[&self.settings.audience]);
            rules.set_required_spec_claims(&["iss", "aud"]);
        }
        let mut claims = decode::<Claims>(token, key, &rules).ok()?.claims;
        if claims.sub.is_empty() {
            return None;
        }
        claims.sub = join(&self.settings.name, &claims.sub).into_owned();
        // It names a log-in of theirs, none of ours.
        claims.sid = None;
        (claims.sub.len() <= USER_BYTES_MAX).then_some(claims)
    }

    /// Takes a fetched key set (RFC 7517); how many of its keys are of use. Where none is, the old
    /// ones stay.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn replace(&self, jwks: &[u8]) -> Result<usize, String> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }
        let set = serde_json::from_slice::<Set>(jwks).map_err(|e| format!("no key set: {e}"))?;
        // A key that is not understood is left out, as the RFC asks: others are beside it.
        let of_use = |key| {
            let key = serde_json::from_value::<Jwk>(key).ok()?;
            let kid = key.common.key_id.clone()?;
            fits(&key, self.settings.algorithm).then_some(())?;
            Some((kid, DecodingKey::from_jwk(&key).ok()?))
        };
        let keys: Vec<_> = set.keys.into_iter().filter_map(of_use).take(KEYS_MAX).collect();
        if keys.is_empty() {
            let algorithm = self.settings.algorithm;
            return Err(format!("the key set holds no {algorithm:?} key with a kid"));
        }
        let count = keys.len();
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Keys::ByKid(keys));
        Ok(count)
    }

    /// Whether a token's key was missing since this was last asked.
    pub fn take_wanted(&self) -> bool {
        self.wanted.swap(false, Ordering::Relaxed)
    }

    /// Counts one fetch.
    pub fn count_fetch(&self, ok: bool) {
        let counter = if ok { &self.fetched } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Fetches that brought keys, and those that did not.
    #[must_use]
    pub fn fetches(&self) -> (u64, u64) {
        (self.fetched.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }
}

/// Whether a key of a set is one that verifies tokens of this algorithm.
fn fits(key: &Jwk, algorithm: Pinned) -> bool {
    if !matches!(key.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return false;
    }
    let said = key.common.key_algorithm.map(|said| said.to_string());
    if said.is_some_and(|said| said != format!("{algorithm:?}")) {
        return false;
    }
    match (&key.algorithm, algorithm) {
        (AlgorithmParameters::RSA(_), Pinned::RS256) => true,
        (AlgorithmParameters::EllipticCurve(ec), Pinned::ES256) => ec.curve == EllipticCurve::P256,
        (AlgorithmParameters::OctetKeyPair(ed), Pinned::EdDSA) => {
            ed.curve == EllipticCurve::Ed25519
        }
        _ => false,
    }
}

fn decoding_key(algorithm: Pinned, key: &str) -> Result<DecodingKey, String> {
    let told = |what: &str| format!("key cannot be read; expected is {what}");
    let pem = key.as_bytes();
    match algorithm {
        Pinned::HS256 => {
            let secret = STANDARD.decode(key.trim()).unwrap_or_default();
            if secret.len() < SECRET_BYTES_MIN {
                return Err(told("base64 of 32 bytes or more"));
            }
            Ok(DecodingKey::from_secret(&secret))
        }
        // A private key would be read as well, and has no business here.
        _ if !key.contains("-----BEGIN PUBLIC KEY-----") => {
            Err(told("a public key in PEM (-----BEGIN PUBLIC KEY-----)"))
        }
        Pinned::EdDSA => {
            DecodingKey::from_ed_pem(pem).map_err(|_| told("an Ed25519 public key in PEM"))
        }
        Pinned::RS256 => {
            DecodingKey::from_rsa_pem(pem).map_err(|_| told("an RSA public key in PEM"))
        }
        Pinned::ES256 => {
            DecodingKey::from_ec_pem(pem).map_err(|_| told("a P-256 public key in PEM"))
        }
    }
}

#[cfg(test)]
mod tests;
