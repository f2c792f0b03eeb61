//! Tokens of the crowd: minted before the run, so that signing costs nothing while it lasts.
//!
//! Owns the users' names. Never sends anything.

use crate::args::CLASSES;
use crate::plan::SignIn;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use std::time::{SystemTime, UNIX_EPOCH};
use uproar_proto::token::Claims;

/// Viewers share this many users: as people with several devices do, and enough that no cache of
/// the last token helps a server.
const VIEWER_TOKENS_MAX: u32 = 4096;
/// A day: longer than any run.
const VALID_S: u64 = 86_400;

/// Signs tokens of any user.
#[derive(Clone)]
pub(crate) struct Minter {
    algorithm: Algorithm,
    key: EncodingKey,
    expires_s: u64,
}

impl Minter {
    /// `None` for guests.
    ///
    /// # Errors
    /// In words: a secret or key that cannot be used.
    pub(crate) fn new(sign_in: &SignIn) -> Result<Option<Minter>, String> {
        let (algorithm, key) = match sign_in {
            SignIn::Guests => return Ok(None),
            SignIn::Secret(secret) => {
                let bytes = STANDARD
                    .decode(secret.trim())
                    .map_err(|e| format!("--token-secret is not base64: {e}"))?;
                if bytes.len() < 32 {
                    return Err(format!(
                        "--token-secret is {} bytes; a server takes 32 or more",
                        bytes.len()
                    ));
                }
                (Algorithm::HS256, EncodingKey::from_secret(&bytes))
            }
            SignIn::Key(file) => {
                let text = std::fs::read_to_string(file)
                    .map_err(|e| format!("--token-key {}: {e}", file.display()))?;
                let der = pem(&text).ok_or_else(|| {
                    format!(
                        "--token-key {}: not a PEM file with a PRIVATE KEY (PKCS #8)",
                        file.display()
                    )
                })?;
                (Algorithm::EdDSA, EncodingKey::from_ed_der(&der))
            }
        };
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
        Ok(Some(Minter { algorithm, key, expires_s: clock + VALID_S }))
    }

    /// A token of this user.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn mint(&self, user: String, classes: &[&str]) -> Result<String, String> {
        let publish = Some(classes.iter().map(|c| (*c).to_owned()).collect());
        let claims = Claims { sub: user, exp: self.expires_s, publish, ..Claims::default() };
        encode(&Header::new(self.algorithm), &claims, &self.key)
            .map_err(|e| format!("cannot sign a token: {e}"))
    }
}

/// Every token there is; empty for guests.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    publishers: Vec<String>,
    viewers: Vec<String>,
}

impl Tokens {
    /// Mints tokens for so many connections.
    ///
    /// # Errors
    /// In words: a secret or key that cannot be used.
    pub(crate) fn mint(sign_in: &SignIn, publishers: u32, others: u32) -> Result<Tokens, String> {
        let Some(minter) = Minter::new(sign_in)? else { return Ok(Tokens::default()) };
        let mint = |user: String, classes: &[&str]| minter.mint(user, classes);
        let viewer_classes = ["chat", "like"];
        Ok(Tokens {
            publishers: (0..publishers)
                .map(|n| mint(format!("load-publisher-{n}"), &CLASSES))
                .collect::<Result<_, _>>()?,
            viewers: (0..others.min(VIEWER_TOKENS_MAX))
                .map(|n| mint(format!("load-viewer-{n}"), &viewer_classes))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Whether everybody is a guest.
    pub(crate) fn guests(&self) -> bool {
        self.viewers.is_empty() && self.publishers.is_empty()
    }

    /// A publisher's token; empty for a guest.
    pub(crate) fn publisher(&self, number: u32) -> &str {
        self.publishers.get(number as usize).map_or("", String::as_str)
    }

    /// A viewer's token; empty for a guest.
    pub(crate) fn viewer(&self, number: u32) -> &str {
        match self.viewers.len() {
            0 => "",
            n => &self.viewers[number as usize % n],
        }
    }
}

/// The bytes of the first private key of a PEM text.
fn pem(text: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once("-----BEGIN PRIVATE KEY-----")?;
    let (body, _) = rest.split_once("-----END PRIVATE KEY-----")?;
    let body: String = body.split_whitespace().collect();
    STANDARD.decode(body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{DecodingKey, Validation, decode};

    #[test]
    fn a_token_verifies_and_names_its_classes() {
        let secret = [7u8; 32];
        let sign_in = SignIn::Secret(STANDARD.encode(secret));
        let tokens = Tokens::mint(&sign_in, 2, 5).expect("a good secret");
        assert!(!tokens.guests());
        let read = |token: &str| {
            let key = DecodingKey::from_secret(&secret);
            decode::<Claims>(token, &key, &Validation::new(Algorithm::HS256))
                .expect("verifies")
                .claims
        };
        let publisher = read(tokens.publisher(1));
        assert_eq!(publisher.sub, "load-publisher-1");
        assert!(publisher.publish.is_some_and(|classes| classes.contains(&"gift".to_owned())));
        let viewer = read(tokens.viewer(7));
        assert_eq!(viewer.sub, "load-viewer-2", "viewers share the users there are");
        assert!(viewer.publish.is_some_and(|classes| !classes.contains(&"gift".to_owned())));
    }

    #[test]
    fn eddsa_signs_with_a_pem_file() {
        // RFC 8410 section 10.3's example key.
        let text = "-----BEGIN PRIVATE KEY-----\n\
                    MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
                    -----END PRIVATE KEY-----\n";
        let file = std::env::temp_dir().join(format!("uproar-loadgen-key-{}", std::process::id()));
        std::fs::write(&file, text).expect("a temporary file");
        let tokens = Tokens::mint(&SignIn::Key(file.clone()), 1, 1).expect("a good key");
        std::fs::remove_file(file).expect("it was written");
        let header = jsonwebtoken::decode_header(tokens.viewer(0)).expect("a token");
        assert_eq!(header.alg, Algorithm::EdDSA);
    }

    #[test]
    fn a_secret_that_no_server_takes_is_refused() {
        let mint = |secret: &str| Tokens::mint(&SignIn::Secret(secret.into()), 1, 1);
        assert!(mint("not base64!").is_err());
        assert!(mint(&STANDARD.encode([1; 16])).is_err_and(|e| e.contains("32")));
        assert!(
            Tokens::mint(&SignIn::Guests, 1, 1).is_ok_and(|t| t.guests() && t.viewer(3).is_empty())
        );
    }
}
