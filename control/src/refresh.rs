//! Refresh tokens: their form, and how one follows another.
//!
//! A token is `user | session | turn | secret | mac` in base64. The first secret of a session is
//! random; each next one is derived from the one before with the node's signing key. So the store
//! keeps hashes alone and nothing needs to be wiped after a minute: whoever presents a token again
//! because the answer was lost lets the server compute the same successor, on every node and after
//! a restart. A thief of a token cannot compute the next one without the key, and a thief of the
//! store has hashes. The mac tells a token that was given out once from one that was made up: the
//! first is a sign of theft, the second ends nobody's session. With another signing key all
//! sessions end, as all access tokens do.

use crate::fault::Fault;
use crate::tokens::SigningKey;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uproar_proto::error::Code;

const SECRET_BYTES: usize = 32;
const MAC_BYTES: usize = 16;
const HEAD_BYTES: usize = 8 + 8 + 8;
const TOKEN_BYTES: usize = HEAD_BYTES + SECRET_BYTES + MAC_BYTES;

/// A refresh token that this node's key made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RefreshToken {
    pub(crate) user: i64,
    pub(crate) session: i64,
    /// The session's first token has turn 1.
    pub(crate) turn: i64,
    secret: [u8; SECRET_BYTES],
}

impl RefreshToken {
    /// The first of a session.
    pub(crate) fn first(user: i64, session: i64) -> RefreshToken {
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret)
            .expect("the system's random numbers never end once they began");
        RefreshToken { user, session, turn: 1, secret }
    }

    /// The one that follows, the same every time.
    pub(crate) fn successor(&self, key: &SigningKey) -> Result<RefreshToken, Fault> {
        let secret = derive(key, "refresh successor", &self.plain())?;
        Ok(RefreshToken { turn: self.turn + 1, secret, ..*self })
    }

    /// What the store keeps of it: SHA-256, in hexadecimal.
    pub(crate) fn hash(&self) -> String {
        let digest = Sha256::digest(self.secret);
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// As the client gets it.
    pub(crate) fn text(&self, key: &SigningKey) -> Result<String, Fault> {
        let mut bytes = self.plain();
        bytes.extend(self.mac(key)?);
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Of a text; `TOKEN_INVALID` where this node's key did not make it.
    pub(crate) fn parse(key: &SigningKey, text: &str) -> Result<RefreshToken, Fault> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| bytes.len() == TOKEN_BYTES);
        let bytes = bytes.ok_or(Code::TokenInvalid)?;
        let number = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            i64::from_be_bytes(word)
        };
        let mut secret = [0; SECRET_BYTES];
        secret.copy_from_slice(&bytes[HEAD_BYTES..HEAD_BYTES + SECRET_BYTES]);
        let token = RefreshToken { user: number(0), session: number(8), turn: number(16), secret };
        let is_ours = token.mac(key)?.ct_eq(&bytes[HEAD_BYTES + SECRET_BYTES..]);
        if bool::from(is_ours) { Ok(token) } else { Err(Code::TokenInvalid.into()) }
    }

    fn plain(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(TOKEN_BYTES);
        for number in [self.user, self.session, self.turn] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend(self.secret);
        bytes
    }

    fn mac(&self, key: &SigningKey) -> Result<[u8; MAC_BYTES], Fault> {
        let whole = derive(key, "refresh mac", &self.plain())?;
        let mut mac = [0; MAC_BYTES];
        mac.copy_from_slice(&whole[..MAC_BYTES]);
        Ok(mac)
    }
}

fn derive(key: &SigningKey, label: &str, input: &[u8]) -> Result<[u8; 32], Fault> {
    key.derive(label, input).map_err(|text| Fault::refused(Code::Internal, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SigningKey {
        SigningKey::hs256(&crate::tokens::base64_text(&[byte; 32])).unwrap()
    }

    #[test]
    fn a_token_survives_its_text_and_a_changed_one_does_not() {
        let token = RefreshToken::first(5, i64::MAX);
        let text = token.text(&key(1)).unwrap();
        assert_eq!(RefreshToken::parse(&key(1), &text).unwrap(), token);
        assert!(RefreshToken::parse(&key(2), &text).is_err());
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            let refused = RefreshToken::parse(&key(1), &changed).unwrap_err();
            assert_eq!(refused.code(), Some(Code::TokenInvalid), "{at}");
        }
        for text in ["", "a", &text[1..], &format!("{text}A")] {
            assert!(RefreshToken::parse(&key(1), text).is_err());
        }
    }

    #[test]
    fn a_successor_is_the_same_every_time_and_needs_the_key() {
        let token = RefreshToken::first(5, 6);
        let next = token.successor(&key(1)).unwrap();
        assert_eq!(next, token.successor(&key(1)).unwrap());
        assert_eq!((next.user, next.session, next.turn), (5, 6, 2));
        assert_ne!(next.hash(), token.hash());
        assert_ne!(next.hash(), token.successor(&key(2)).unwrap().hash());
        assert_eq!(next.hash().len(), 64);
    }
}
