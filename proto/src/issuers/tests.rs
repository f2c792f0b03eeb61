//! Every algorithm with a key made here, and what must not pass for a token.

use super::*;
use jsonwebtoken::{EncodingKey, Header, encode};
use rand_core::{OsRng, RngCore as _};
use rsa::pkcs1::EncodeRsaPrivateKey as _;
use rsa::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use serde_json::{Value, json};

const ISS: &str = "https://id.acme.example";

/// A key pair: what signs, and what an operator would set.
struct Pair {
    algorithm: Pinned,
    signs: EncodingKey,
    key: String,
}

fn pair(algorithm: Pinned) -> Pair {
    let (signs, key) = match algorithm {
        Pinned::HS256 => {
            let mut secret = [0; 32];
            OsRng.fill_bytes(&mut secret);
            (EncodingKey::from_secret(&secret), STANDARD.encode(secret))
        }
        Pinned::RS256 => {
            let private = rsa::RsaPrivateKey::new(&mut OsRng, 2048).unwrap();
            let pem = private.to_pkcs1_pem(LineEnding::LF).unwrap();
            let public = private.to_public_key().to_public_key_pem(LineEnding::LF).unwrap();
            (EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap(), public)
        }
        Pinned::ES256 => {
            let private = p256::SecretKey::random(&mut OsRng);
            let pem = private.to_pkcs8_pem(LineEnding::LF).unwrap();
            let public = private.public_key().to_public_key_pem(LineEnding::LF).unwrap();
            (EncodingKey::from_ec_pem(pem.as_bytes()).unwrap(), public)
        }
        Pinned::EdDSA => {
            // RFC 8410: a fixed beginning, then 32 bytes.
            let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4];
            der.push(0x20);
            let mut seed = [0; 32];
            OsRng.fill_bytes(&mut seed);
            der.extend(seed);
            let signs = EncodingKey::from_ed_der(&der);
            let Value::Object(jwk) = jwk(&signs, algorithm, "x") else { unreachable!() };
            let x = URL_SAFE_NO_PAD.decode(jwk["x"].as_str().unwrap()).unwrap();
            let mut spki = vec![0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];
            spki.extend(x);
            let body = STANDARD.encode(spki);
            (signs, format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n"))
        }
    };
    Pair { algorithm, signs, key }
}

fn jwk(key: &EncodingKey, algorithm: Pinned, kid: &str) -> Value {
    let jwk = Jwk::from_encoding_key(key, algorithm.algorithm()).unwrap();
    let mut jwk = serde_json::to_value(jwk).unwrap();
    jwk["kid"] = json!(kid);
    jwk
}

fn settings(algorithm: Pinned, key: &str) -> IssuerSettings {
    IssuerSettings {
        name: "acme".into(),
        issuer: ISS.into(),
        audience: String::new(),
        algorithm,
        key: key.into(),
        jwks_url: String::new(),
    }
}

fn issuers(settings: IssuerSettings) -> Issuers {
    Issuers::new(&[settings]).unwrap()
}

fn sign(pair: &Pair, claims: &Value) -> String {
    encode(&Header::new(pair.algorithm.algorithm()), claims, &pair.signs).unwrap()
}

fn bob() -> Value {
    json!({"iss": ISS, "sub": "bob", "exp": 4_000_000_000_u64, "sid": "theirs"})
}

const ALL: [Pinned; 4] = [Pinned::HS256, Pinned::EdDSA, Pinned::RS256, Pinned::ES256];

#[test]
fn a_token_of_each_algorithm_is_taken_under_the_issuers_name() {
    for algorithm in ALL {
        let pair = pair(algorithm);
        let issuers = issuers(settings(algorithm, &pair.key));
        let claims = issuers.verify(&sign(&pair, &bob())).unwrap().unwrap();
        assert_eq!((claims.sub.as_str(), claims.sid), ("bob@acme", None), "{algorithm:?}");
        // The same algorithm, another key.
        let other = super::tests::pair(algorithm);
        let refused = issuers.verify(&sign(&other, &bob()));
        assert_eq!(refused, Some(Err(Code::TokenInvalid)), "{algorithm:?}");
    }
}

#[test]
fn a_public_key_is_no_secret_to_sign_with() {
    for algorithm in [Pinned::EdDSA, Pinned::RS256, Pinned::ES256] {
        let real = pair(algorithm);
        let issuers = issuers(settings(algorithm, &real.key));
        let signs = EncodingKey::from_secret(real.key.as_bytes());
        let forged = Pair { algorithm: Pinned::HS256, signs, key: String::new() };
        let refused = issuers.verify(&sign(&forged, &bob()));
        assert_eq!(refused, Some(Err(Code::TokenInvalid)), "{algorithm:?}");
    }
    // {"alg":"none"}
    let real = pair(Pinned::ES256);
    let issuers = issuers(settings(Pinned::ES256, &real.key));
    let signed = sign(&real, &bob());
    let body = signed.split('.').nth(1).unwrap();
    let unsigned = format!("eyJhbGciOiJub25lIn0.{body}.");
    assert_eq!(issuers.verify(&unsigned), Some(Err(Code::TokenInvalid)));
}

#[test]
fn the_issuer_and_the_audience_are_exact() {
    let pair = pair(Pinned::HS256);
    let pinned = IssuerSettings { audience: "chat".into(), ..settings(Pinned::HS256, &pair.key) };
    let issuers = issuers(pinned);
    let with = |field: &str, value: Value| {
        let mut claims = bob();
        claims["aud"] = json!("chat");
        claims[field] = value;
        issuers.verify(&sign(&pair, &claims)).map(|answer| answer.is_ok())
    };
    assert_eq!(with("aud", json!("chat")), Some(true));
    assert_eq!(with("aud", json!(["shop", "chat"])), Some(true));
    assert_eq!(with("aud", json!("shop")), Some(false));
    assert_eq!(with("aud", Value::Null), Some(false));
    assert_eq!(issuers.verify(&sign(&pair, &bob())), Some(Err(Code::TokenInvalid)), "no aud");
    // Of no issuer here: the node's own keys decide.
    assert_eq!(with("iss", json!("https://id.acme.example/")), None);
    assert_eq!(with("iss", json!(["https://id.acme.example"])), None);
    assert_eq!(with("iss", Value::Null), None);
    // A name that is too long with its issuer, and none.
    assert_eq!(with("sub", json!("x".repeat(59))), Some(true));
    assert_eq!(with("sub", json!("x".repeat(60))), Some(false));
    assert_eq!(with("sub", json!("")), Some(false));
}

#[test]
fn keys_of_a_set_are_found_by_kid_and_a_missing_one_is_asked_for() {
    for algorithm in [Pinned::EdDSA, Pinned::RS256, Pinned::ES256] {
        let (old, new) = (pair(algorithm), pair(algorithm));
        let url = "http://127.0.0.1/keys";
        let fetched = IssuerSettings { jwks_url: url.into(), ..settings(algorithm, "") };
        let issuers = issuers(fetched);
        let issuer = &issuers.list()[0];
        let token = |pair: &Pair, kid: &str| {
            let mut header = Header::new(algorithm.algorithm());
            header.kid = Some(kid.into());
            encode(&header, &bob(), &pair.signs).unwrap()
        };
        let good = |token: &str| issuers.verify(token).unwrap().is_ok();
        assert!(!good(&token(&old, "1")) && issuer.take_wanted() && !issuer.take_wanted());
        let set = |keys: Value| serde_json::to_vec(&json!({ "keys": keys })).unwrap();
        let first = jwk(&old.signs, algorithm, "1");
        let odd = json!({"kty": "new", "kid": "2"});
        assert_eq!(issuer.replace(&set(json!([odd, first]))), Ok(1));
        assert!(good(&token(&old, "1")) && !issuer.take_wanted());
        assert!(!good(&token(&new, "1")), "the key of that kid is another one");
        assert!(!issuer.take_wanted(), "a bad signature asks for nothing");
        assert!(!good(&sign(&old, &bob())), "a token without a kid");
        // A set without a key of use changes nothing.
        let mut encrypts = jwk(&new.signs, algorithm, "2");
        encrypts["use"] = json!("enc");
        let mut other = jwk(&new.signs, algorithm, "2");
        other["alg"] = json!("HS256");
        for useless in [json!([]), json!([encrypts]), json!([other]), json!([odd])] {
            issuer.replace(&set(useless)).unwrap_err();
        }
        issuer.replace(b"<html>").unwrap_err();
        assert!(good(&token(&old, "1")));
        // The keys turn: the old one is good no longer.
        assert_eq!(issuer.replace(&set(json!([jwk(&new.signs, algorithm, "2")]))), Ok(1));
        assert!(good(&token(&new, "2")) && !good(&token(&old, "1")));
    }
}

#[test]
fn a_setting_that_cannot_be_is_named_and_no_secret_is_shown() {
    let good = settings(Pinned::HS256, "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=");
    let error = |change: &dyn Fn(&mut IssuerSettings)| {
        let mut settings = good.clone();
        change(&mut settings);
        Issuers::new(&[settings]).err().unwrap_or_default()
    };
    assert_eq!(error(&|_| {}), "");
    assert!(error(&|s| s.name = "Acme".into()).starts_with("issuers[0].name is \"Acme\""));
    assert!(error(&|s| s.name = "erased".into()).contains("erased users"));
    assert!(error(&|s| s.issuer.clear()).contains("issuer is empty"));
    assert!(error(&|s| s.key.clear()).contains("exactly one"));
    assert!(error(&|s| s.jwks_url = "https://x".into()).contains("exactly one"));
    let short = error(&|s| s.key = "c2hvcnQ=".into());
    assert!(short.contains("32 bytes") && !short.contains("c2hvcnQ"), "{short}");
    assert!(error(&|s| s.algorithm = Pinned::RS256).contains("PEM"));
    let ftp = |s: &mut IssuerSettings| {
        (s.key, s.jwks_url, s.algorithm) = (String::new(), "ftp://x".into(), Pinned::ES256);
    };
    assert!(error(&ftp).contains("https://"));
    let symmetric = |s: &mut IssuerSettings| {
        (s.key, s.jwks_url) = (String::new(), "https://x".into());
    };
    assert!(error(&symmetric).contains("public keys"));
    let second = IssuerSettings { name: "b".into(), ..good.clone() };
    let twice = Issuers::new(&[good.clone(), second]).err().unwrap();
    assert!(twice.starts_with("issuers[1].issuer"), "{twice}");
}
