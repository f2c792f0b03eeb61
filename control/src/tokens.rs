//! Minting tokens: a signing key and the claims a token may carry.
//!
//! Owns the rules of what is signed, and verifies what this node's own key signed, for routes that
//! end users call. What a connection may do with a token is the engine's to verify; no key is kept
//! beyond the value that signs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uproar_proto::ids::RoomId;
use uproar_proto::names;
use uproar_proto::token::{Claims, USER_BYTES_MAX};

/// The shortest HS256 secret, in bytes: as long as the hash (RFC 7518, 3.2).
pub const HS256_SECRET_BYTES_MIN: usize = 32;

/// Classes a token may permit.
pub const CLASSES: [&str; 4] = ["chat", "like", "gift", "system"];

/// The most room patterns a token may carry: a token travels with every connect.
pub const ROOM_PATTERNS_MAX: usize = 64;

/// A key that signs tokens. Its `Debug` shows the algorithm alone.
#[derive(Clone)]
pub struct SigningKey {
    algorithm: Algorithm,
    key: EncodingKey,
    /// Its other half: verifies what `key` signed.
    verifying: DecodingKey,
}

/// What an access token of an account claims besides what the engine reads. The numbers are
/// strings: JSON readers lose the low bits of 64-bit numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AccessClaims {
    #[serde(flatten)]
    pub(crate) claims: Claims,
    /// The account's number; absent, as the session: a platform minted the token for its own user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) uid: Option<String>,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({:?})", self.algorithm)
    }
}

impl SigningKey {
    /// An HS256 secret, base64 (standard alphabet); at least 32 bytes once decoded.
    ///
    /// # Errors
    /// What is wrong with it; never shows the secret.
    pub fn hs256(secret: &str) -> Result<SigningKey, String> {
        let bytes = hs256_bytes(secret)?;
        Ok(SigningKey {
            algorithm: Algorithm::HS256,
            key: EncodingKey::from_secret(&bytes),
            verifying: DecodingKey::from_secret(&bytes),
        })
    }

    /// An Ed25519 private key, PKCS#8 PEM (`openssl genpkey -algorithm ed25519`).
    ///
    /// # Errors
    /// What is wrong with it; never shows the key.
    pub fn eddsa(pem: &str) -> Result<SigningKey, String> {
        let der = pem_body(pem, "PRIVATE KEY")?;
        let key = EncodingKey::from_ed_der(&der); // parsed at each use: it is tried below
        let verifying = ed25519_public(&key).ok_or(
            "the PEM block is not an Ed25519 private key (make one with: openssl genpkey \
             -algorithm ed25519)",
        )?;
        Ok(SigningKey { algorithm: Algorithm::EdDSA, key, verifying })
    }

    /// `HS256` or `EdDSA`, as in the token's header.
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        match self.algorithm {
            Algorithm::EdDSA => "EdDSA",
            _ => "HS256",
        }
    }

    /// Signs checked claims; the token in its compact form.
    ///
    /// # Errors
    /// Which claim breaks which rule.
    pub fn mint(&self, claims: &Claims) -> Result<String, String> {
        check(claims)?;
        self.sign(claims)
    }

    /// Signs the access token of an account's session; the claims are checked.
    pub(crate) fn mint_access(&self, access: &AccessClaims) -> Result<String, String> {
        check(&access.claims)?;
        self.sign(access)
    }

    fn sign(&self, claims: &impl Serialize) -> Result<String, String> {
        jsonwebtoken::encode(&Header::new(self.algorithm), claims, &self.key)
            .map_err(|e| format!("the token could not be signed: {e}"))
    }

    /// The claims of a token that this key signed with its own algorithm; `None` for every other.
    /// Expiry is the caller's to check: it has the clock.
    pub(crate) fn verify<T: DeserializeOwned + Clone>(&self, token: &str) -> Option<T> {
        let mut rules = Validation::new(self.algorithm);
        rules.validate_exp = false;
        rules.required_spec_claims.clear();
        let token = jsonwebtoken::decode::<T>(token, &self.verifying, &rules).ok()?;
        Some(token.claims)
    }

    /// A secret that only the holder of this key can compute from `input`, the same every time:
    /// the hash of a signature (HMAC-SHA256 and Ed25519 both sign one input in one way). `label`
    /// names the use; the zero bytes around it appear in no token, so that no signature of one
    /// serves as the other.
    pub(crate) fn derive(&self, label: &str, input: &[u8]) -> Result<[u8; 32], String> {
        let message = [b"\0", label.as_bytes(), b"\0", input].concat();
        let signature = jsonwebtoken::crypto::sign(&message, &self.key, self.algorithm)
            .map_err(|e| format!("a secret could not be derived: {e}"))?;
        Ok(Sha256::digest(signature.as_bytes()).into())
    }
}

/// What an Ed25519 private key begins with in DER (RFC 8410), version 1; 32 bytes of seed follow.
const ED25519_PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// The public half, once it has verified a signature of the private one. Version 2 of the format
/// appends the public key; the seed stands at the same place.
fn ed25519_public(key: &EncodingKey) -> Option<DecodingKey> {
    let seed = key.as_bytes().get(ED25519_PKCS8_PREFIX.len()..)?.get(..32)?;
    let plain = EncodingKey::from_ed_der(&[&ED25519_PKCS8_PREFIX, seed].concat());
    let public = Jwk::from_encoding_key(&plain, Algorithm::EdDSA).ok()?;
    let verifying = DecodingKey::from_jwk(&public).ok()?;
    let signature = jsonwebtoken::crypto::sign(b"probe", key, Algorithm::EdDSA).ok()?;
    let holds = jsonwebtoken::crypto::verify(&signature, b"probe", &verifying, Algorithm::EdDSA);
    holds.unwrap_or(false).then_some(verifying)
}

/// The bytes of a base64 HS256 secret.
///
/// # Errors
/// What is wrong with it; never shows the secret.
pub fn hs256_bytes(secret: &str) -> Result<Vec<u8>, String> {
    let bytes = STANDARD
        .decode(secret.trim())
        .map_err(|_| "the HS256 secret is not base64 (standard alphabet, padded)".to_owned())?;
    if bytes.len() < HS256_SECRET_BYTES_MIN {
        return Err(format!(
            "the HS256 secret has {} bytes once decoded; allowed are {HS256_SECRET_BYTES_MIN} or \
             more",
            bytes.len()
        ));
    }
    Ok(bytes)
}

/// Bytes as [`hs256_bytes`] takes them.
#[must_use]
pub fn base64_text(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// What every Ed25519 public key begins with in DER (RFC 8410); 32 bytes of key follow.
const ED25519_SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Whether a PEM text is an Ed25519 public key, as the engine verifies with.
///
/// # Errors
/// What is wrong with it.
pub fn check_eddsa_public(pem: &str) -> Result<(), String> {
    let der = pem_body(pem, "PUBLIC KEY")?;
    if der.len() != ED25519_SPKI_PREFIX.len() + 32 || !der.starts_with(&ED25519_SPKI_PREFIX) {
        return Err("the PEM block is not an Ed25519 public key (make one with: openssl pkey -in \
                    private.pem -pubout)"
            .into());
    }
    Ok(())
}

/// The first rule the claims break, in words.
///
/// # Errors
/// Which claim, what it is, what is allowed.
pub fn check(claims: &Claims) -> Result<(), String> {
    if claims.sub.is_empty() || claims.sub.len() > USER_BYTES_MAX {
        return Err(format!(
            "user has {} bytes; allowed are 1 to {USER_BYTES_MAX}",
            claims.sub.len()
        ));
    }
    if names::is_dots(&claims.sub) {
        return Err(format!("user is {:?}, which no URL can hold", claims.sub));
    }
    if !names::is_local(&claims.sub) {
        return Err(format!(
            "user is {:?}; what ends in @ and a name of a-z 0-9 - is a user of another issuer",
            claims.sub
        ));
    }
    let rooms = claims.rooms.as_deref().unwrap_or_default();
    if rooms.len() > ROOM_PATTERNS_MAX {
        return Err(format!("rooms has {} entries; allowed are {ROOM_PATTERNS_MAX}", rooms.len()));
    }
    for pattern in rooms {
        let stem = pattern.strip_suffix('*').unwrap_or(pattern);
        let everything = pattern == "*";
        if !everything && RoomId::new(stem).is_none() {
            return Err(format!(
                "rooms holds {pattern:?}; allowed is a room name (1 to 64 bytes of A-Z a-z 0-9 . _ \
                 : -), with or without a * at its end"
            ));
        }
    }
    claims.check_follows()?;
    for class in claims.publish.as_deref().unwrap_or_default() {
        if !CLASSES.contains(&class.as_str()) {
            return Err(format!("publish holds {class:?}; allowed are {}", CLASSES.join(", ")));
        }
    }
    Ok(())
}

/// The bytes of the PEM block with this label. Bounded by its input; blocks of other labels are
/// named in the error.
///
/// # Errors
/// What is wrong with it; never shows its content.
pub fn pem_body(pem: &str, label: &str) -> Result<Vec<u8>, String> {
    let begin = format!("-----BEGIN {label}-----");
    let end = format!("-----END {label}-----");
    let body = pem.split_once(&begin).and_then(|(_, rest)| rest.split_once(&end));
    let Some((body, _)) = body else {
        let found = pem.lines().find(|line| line.starts_with("-----BEGIN"));
        return Err(match found {
            Some(line) => format!("the PEM block begins with {line:?}; it must be {begin:?}"),
            None => format!("no PEM block was found; it begins with {begin:?}"),
        });
    };
    let text: String = body.chars().filter(|c| !c.is_whitespace()).collect();
    STANDARD.decode(text).map_err(|_| format!("the PEM block {label:?} is not base64"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{DecodingKey, Validation};

    const SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="; // bytes 0 to 31

    // The example key pair of RFC 8410, section 10.
    const ED_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
        -----END PRIVATE KEY-----\n";
    const ED_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
        -----END PUBLIC KEY-----\n";

    fn alice() -> Claims {
        Claims {
            sub: "alice".into(),
            exp: 4_000_000_000,
            rooms: Some(vec!["stage".into(), "back-*".into()]),
            publish: Some(vec!["chat".into(), "gift".into()]),
            moderate: true,
            follows: Some([("stage".into(), 7)].into()),
            sid: None,
            nbf: None,
        }
    }

    #[test]
    fn an_hs256_token_verifies_with_its_secret_and_no_other() {
        let token = SigningKey::hs256(SECRET).unwrap().mint(&alice()).unwrap();
        let rules = Validation::new(Algorithm::HS256);
        let good = DecodingKey::from_secret(&hs256_bytes(SECRET).unwrap());
        let back = jsonwebtoken::decode::<Claims>(&token, &good, &rules).unwrap();
        assert_eq!(back.claims, alice());
        let other = DecodingKey::from_secret(&[7; 32]);
        assert!(jsonwebtoken::decode::<Claims>(&token, &other, &rules).is_err());
    }

    #[test]
    fn an_eddsa_token_verifies_with_the_public_key() {
        let token = SigningKey::eddsa(ED_PRIVATE).unwrap().mint(&alice()).unwrap();
        let spki = pem_body(ED_PUBLIC, "PUBLIC KEY").unwrap();
        let key = DecodingKey::from_ed_der(&spki[spki.len() - 32..]);
        let rules = Validation::new(Algorithm::EdDSA);
        let back = jsonwebtoken::decode::<Claims>(&token, &key, &rules).unwrap();
        assert_eq!(back.claims, alice());
    }

    #[test]
    fn absent_claims_stay_absent() {
        let plain = Claims { sub: "bob".into(), exp: 4_000_000_000, ..Claims::default() };
        let token = SigningKey::hs256(SECRET).unwrap().mint(&plain).unwrap();
        let body = token.split('.').nth(1).unwrap();
        let json = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(body).unwrap();
        assert_eq!(String::from_utf8(json).unwrap(), r#"{"sub":"bob","exp":4000000000}"#);
    }

    #[test]
    fn a_weak_or_broken_secret_is_refused_without_being_shown() {
        for (secret, what) in [("c2hvcnQ=", "5 bytes"), ("not base64!", "not base64")] {
            let error = SigningKey::hs256(secret).unwrap_err();
            assert!(error.contains(what) && !error.contains(secret), "{error}");
        }
    }

    #[test]
    fn a_public_key_in_place_of_a_private_one_is_named() {
        let error = SigningKey::eddsa(ED_PUBLIC).unwrap_err();
        assert!(error.contains("BEGIN PUBLIC KEY"), "{error}");
        assert!(SigningKey::eddsa("").unwrap_err().contains("no PEM block"));
        let junk = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----";
        assert!(SigningKey::eddsa(junk).unwrap_err().contains("not an Ed25519"));
    }

    #[test]
    fn a_public_key_is_recognized() {
        check_eddsa_public(ED_PUBLIC).unwrap();
        assert!(check_eddsa_public(ED_PRIVATE).unwrap_err().contains("BEGIN PRIVATE KEY"));
        let short = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----";
        assert!(check_eddsa_public(short).unwrap_err().contains("not an Ed25519 public key"));
    }

    #[test]
    fn a_key_verifies_what_it_signed_and_nothing_else() {
        let ours = [SigningKey::hs256(SECRET).unwrap(), SigningKey::eddsa(ED_PRIVATE).unwrap()];
        let claims = Claims { sid: Some("7".into()), ..alice() };
        let access = AccessClaims { claims, uid: Some("3".into()) };
        let tokens = ours.each_ref().map(|key| key.mint_access(&access).unwrap());
        for (i, key) in ours.iter().enumerate() {
            for (j, token) in tokens.iter().enumerate() {
                let claims = key.verify::<AccessClaims>(token);
                assert_eq!(claims, (i == j).then(|| access.clone()));
            }
            let mut changed = tokens[i].clone().into_bytes();
            let last = changed.len() - 10;
            changed[last] ^= 1;
            let changed = String::from_utf8_lossy(&changed).into_owned();
            assert_eq!(key.verify::<AccessClaims>(&changed), None);
            assert_eq!(key.verify::<AccessClaims>(""), None);
        }
        // {"alg":"none"}
        let body = tokens[0].split('.').nth(1).unwrap();
        assert_eq!(ours[0].verify::<AccessClaims>(&format!("eyJhbGciOiJub25lIn0.{body}.")), None);
    }

    #[test]
    fn a_derived_secret_depends_on_key_label_and_input_alone() {
        let key = SigningKey::eddsa(ED_PRIVATE).unwrap();
        let secret = key.derive("a", b"1").unwrap();
        assert_eq!(key.clone().derive("a", b"1").unwrap(), secret);
        assert_ne!(key.derive("a", b"2").unwrap(), secret);
        assert_ne!(key.derive("b", b"1").unwrap(), secret);
        assert_ne!(SigningKey::hs256(SECRET).unwrap().derive("a", b"1").unwrap(), secret);
    }

    #[test]
    fn claims_that_break_a_rule_are_not_signed() {
        let key = SigningKey::hs256(SECRET).unwrap();
        let foreign = Claims { sub: "bob@acme".into(), ..alice() };
        assert!(key.mint(&foreign).unwrap_err().contains("another issuer"));
        let bad_user = Claims { sub: "x".repeat(65), ..alice() };
        assert!(key.mint(&bad_user).unwrap_err().contains("65 bytes"));
        let bad_room = Claims { rooms: Some(vec!["a b".into()]), ..alice() };
        assert!(key.mint(&bad_room).unwrap_err().contains("\"a b\""));
        let inner_star = Claims { rooms: Some(vec!["a*b".into()]), ..alice() };
        assert!(key.mint(&inner_star).is_err());
        let bad_follow = Claims { follows: Some([("a b".into(), 1)].into()), ..alice() };
        assert!(check(&bad_follow).unwrap_err().contains("follows holds \"a b\""));
        let bad_class = Claims { publish: Some(vec!["shout".into()]), ..alice() };
        assert!(key.mint(&bad_class).unwrap_err().contains("\"shout\""));
        let every_room = Claims { rooms: Some(vec!["*".into()]), ..alice() };
        key.mint(&every_room).unwrap();
    }
}
