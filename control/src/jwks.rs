//! Keeps the keys of foreign issuers that publish them under a URL (JWKS, RFC 7517).
//!
//! Owns when they are fetched: at the start, every ten minutes, and soon after a token came whose
//! key is not known, but never twice within a minute. Where a fetch fails, the old keys stay. What
//! a key is good for is `proto::issuers`' to say; no shard waits for any of this.

use crate::outgoing;
use reqwest::redirect::Policy;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use uproar_proto::issuers::{Issuer, Issuers};

/// How often one issuer's keys are fetched.
#[derive(Clone, Copy)]
struct Pace {
    /// The shortest time between the beginnings of two fetches, failed ones included.
    apart: Duration,
    /// Keys that nobody missed are fetched again after this long: one may have been withdrawn.
    every: Duration,
    /// How often the flag of a missing key is looked at.
    look: Duration,
}

const PACE: Pace = Pace {
    apart: Duration::from_secs(60),
    every: Duration::from_secs(600),
    look: Duration::from_millis(200),
};

/// The longest fetch.
const FETCH_MAX: Duration = Duration::from_secs(10);

/// The largest key set, in bytes: 64 keys of 2 KiB, twice. Larger: the fetch fails.
const BODY_BYTES_MAX: usize = 256 << 10;

/// One task for each issuer with a URL; they end when this is dropped.
pub struct Keepers(Vec<JoinHandle<()>>);

impl Drop for Keepers {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// Begins to keep the keys, on the caller's tokio runtime.
///
/// # Errors
/// Where TLS cannot be set up on this machine.
pub fn keep(issuers: &Arc<Issuers>) -> Result<Keepers, String> {
    keep_at(issuers, PACE)
}

fn keep_at(issuers: &Arc<Issuers>, pace: Pace) -> Result<Keepers, String> {
    let fetched = |at: &usize| !issuers.list()[*at].settings().jwks_url.is_empty();
    let places: Vec<usize> = (0..issuers.list().len()).filter(fetched).collect();
    if places.is_empty() {
        return Ok(Keepers(Vec::new()));
    }
    let is_tls = |at: &usize| issuers.list()[*at].settings().jwks_url.starts_with("https://");
    let client = outgoing::client(places.iter().any(is_tls));
    // Keys are served where the operator said, not where that place sends us.
    let client = client.timeout(FETCH_MAX).redirect(Policy::none()).build();
    let why = |e| format!("keys of issuers cannot be fetched: {}", outgoing::why_not(&e));
    let client = client.map_err(why)?;
    let task = |at: usize| {
        let (issuers, client) = (Arc::clone(issuers), client.clone());
        tokio::spawn(async move { keep_one(&issuers.list()[at], &client, pace).await })
    };
    Ok(Keepers(places.into_iter().map(task).collect()))
}

async fn keep_one(issuer: &Issuer, client: &reqwest::Client, pace: Pace) {
    let mut tried: Option<Instant> = None;
    let mut is_missing = true;
    loop {
        is_missing |= issuer.take_wanted();
        if is_due(tried.map(|tried| tried.elapsed()), is_missing, pace) {
            tried = Some(Instant::now());
            let answer = fetch(client, &issuer.settings().jwks_url).await;
            let answer = answer.and_then(|body| issuer.replace(&body));
            issuer.count_fetch(answer.is_ok());
            is_missing = answer.is_err();
            let name = &issuer.settings().name;
            match answer {
                Ok(keys) => tracing::debug!(issuer = name, keys, "keys were fetched"),
                Err(error) => {
                    tracing::warn!(issuer = name, %error, "keys could not be fetched");
                }
            }
        }
        tokio::time::sleep(pace.look).await;
    }
}

/// Whether to fetch: `since` the last try, and whether a key is missing.
fn is_due(since: Option<Duration>, is_missing: bool, pace: Pace) -> bool {
    let wait = if is_missing { pace.apart } else { pace.every };
    since.is_none_or(|since| since >= wait)
}

async fn fetch(client: &reqwest::Client, url: &str) -> Result<Vec<u8>, String> {
    let told = |e: reqwest::Error| e.to_string();
    let mut response = client.get(url).send().await.map_err(told)?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(format!("the status is {}", response.status()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(told)? {
        if body.len() + chunk.len() > BODY_BYTES_MAX {
            return Err(format!("the key set has more than {BODY_BYTES_MAX} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::StatusCode;
    use jsonwebtoken::jwk::Jwk;
    use jsonwebtoken::{Algorithm, EncodingKey, Header};
    use p256::pkcs8::EncodePrivateKey as _;
    use serde_json::json;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};
    use uproar_proto::issuers::{IssuerSettings, Pinned};

    /// A real server of keys: what it answers, and how often it was asked.
    struct Server {
        answer: Mutex<(StatusCode, String)>,
        asked: AtomicU64,
    }

    async fn serve(first: String) -> (Arc<Server>, String) {
        let answer = Mutex::new((StatusCode::OK, first));
        let server = Arc::new(Server { answer, asked: AtomicU64::new(0) });
        let shared = Arc::clone(&server);
        let answer = move || {
            shared.asked.fetch_add(1, Ordering::SeqCst);
            std::future::ready(shared.answer.lock().unwrap().clone())
        };
        let router = axum::Router::new().route("/keys", axum::routing::get(answer));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let router = hyper_util::service::TowerToHyperService::new(router.clone());
                let io = hyper_util::rt::TokioIo::new(stream);
                let http = hyper::server::conn::http1::Builder::new();
                tokio::spawn(http.serve_connection(io, router));
            }
        });
        (server, url)
    }

    fn key() -> EncodingKey {
        let private = p256::SecretKey::random(&mut rand_core::OsRng);
        let pem = private.to_pkcs8_pem(p256::pkcs8::LineEnding::LF).unwrap();
        EncodingKey::from_ec_pem(pem.as_bytes()).unwrap()
    }

    fn set(key: &EncodingKey, kid: &str) -> String {
        let mut jwk = Jwk::from_encoding_key(key, Algorithm::ES256).unwrap();
        jwk.common.key_id = Some(kid.into());
        json!({ "keys": [jwk] }).to_string()
    }

    fn token(key: &EncodingKey, kid: &str) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(kid.into());
        let claims = json!({"iss": "https://a", "sub": "bob", "exp": 4_000_000_000_u64});
        jsonwebtoken::encode(&header, &claims, key).unwrap()
    }

    fn issuers(url: &str) -> Arc<Issuers> {
        let settings = IssuerSettings {
            name: "a".into(),
            issuer: "https://a".into(),
            audience: String::new(),
            algorithm: Pinned::ES256,
            key: String::new(),
            jwks_url: url.into(),
        };
        Arc::new(Issuers::new(&[settings]).unwrap())
    }

    async fn until(what: &str, is_so: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !is_so() {
            assert!(Instant::now() < end, "{what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn pace(apart_ms: u64) -> Pace {
        let look = Duration::from_millis(5);
        Pace { apart: Duration::from_millis(apart_ms), every: Duration::from_secs(600), look }
    }

    #[tokio::test]
    async fn keys_that_turn_are_fetched_when_the_first_token_of_the_new_one_comes() {
        let (old, new) = (key(), key());
        let (server, url) = serve(set(&old, "1")).await;
        let issuers = issuers(&url);
        let _keepers = keep_at(&issuers, pace(20)).unwrap();
        let good = |token: &str| issuers.verify(token).unwrap().is_ok();
        until("the first keys", || good(&token(&old, "1"))).await;
        assert_eq!(server.asked.load(Ordering::SeqCst), 1);
        *server.answer.lock().unwrap() = (StatusCode::OK, set(&new, "2"));
        until("the new keys", || good(&token(&new, "2"))).await;
        assert!(!good(&token(&old, "1")), "the old key was withdrawn");
    }

    #[tokio::test]
    async fn a_failed_fetch_keeps_the_old_keys_and_is_counted() {
        let old = key();
        let (server, url) = serve(set(&old, "1")).await;
        let issuers = issuers(&url);
        let _keepers = keep_at(&issuers, pace(20)).unwrap();
        let good = |token: &str| issuers.verify(token).unwrap().is_ok();
        until("the first keys", || good(&token(&old, "1"))).await;
        let huge = "x".repeat(BODY_BYTES_MAX + 1);
        let bad = [(StatusCode::BAD_GATEWAY, set(&key(), "1")), (StatusCode::OK, huge)];
        for answer in bad {
            *server.answer.lock().unwrap() = answer;
            let before = issuers.list()[0].fetches().1;
            assert!(!good(&token(&old, "2")));
            until("a failure", || issuers.list()[0].fetches().1 > before).await;
            assert!(good(&token(&old, "1")));
        }
    }

    #[tokio::test]
    async fn unknown_keys_are_never_asked_for_faster_than_the_pace() {
        let (server, url) = serve(set(&key(), "1")).await;
        let issuers = issuers(&url);
        let (begin, apart) = (Instant::now(), pace(200));
        let _keepers = keep_at(&issuers, apart).unwrap();
        let stranger = token(&key(), "unknown");
        let asked = || server.asked.load(Ordering::SeqCst);
        until("four fetches", || {
            assert!(issuers.verify(&stranger).unwrap().is_err());
            asked() >= 4
        })
        .await;
        let fetches = u128::from(asked());
        assert!(fetches <= 1 + begin.elapsed().as_millis() / apart.apart.as_millis());
    }

    #[test]
    fn a_missing_key_waits_a_minute_since_the_last_try() {
        let s = Duration::from_secs;
        assert!(is_due(None, false, PACE));
        assert!(!is_due(Some(s(59)), true, PACE) && is_due(Some(s(60)), true, PACE));
        assert!(!is_due(Some(s(599)), false, PACE) && is_due(Some(s(600)), false, PACE));
    }
}
