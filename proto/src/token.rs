//! What a token claims. Minted by control or by another issuer, verified by the engine's shards.

use crate::ids::RoomId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The claims of a JWT. Unknown claims are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The user: 1 to 64 bytes, with the ending of a foreign issuer.
    pub sub: String,
    /// Expiry, seconds since 1970. Required: a token without end cannot be taken back.
    pub exp: u64,
    /// Not good before, seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    /// Rooms the token is good for; a trailing `*` matches any ending. Absent: every room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rooms: Option<Vec<String>>,
    /// Classes the user may publish: `chat`, `like`, `gift`, `system`. Absent: chat and like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<Vec<String>>,
    /// May moderate: exempt from slow mode, per-user limits and mutes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub moderate: bool,
    /// Rooms that the user follows, and since when, seconds since 1970: who may speak where
    /// followers alone may. At most [`FOLLOWS_MAX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<BTreeMap<String, u64>>,
    /// The login session that minted it: what a log-out ends. Absent: not minted by a login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
}

/// The longest user name, in bytes.
pub const USER_BYTES_MAX: usize = 64;
/// Rooms a token may say its user follows: those it may be about to enter. More: `TOKEN_INVALID`.
pub const FOLLOWS_MAX: usize = 256;
/// Bytes of their names in all: half of as many of the longest. More: `TOKEN_INVALID`.
pub const FOLLOWS_BYTES_MAX: usize = 8 * 1024;

impl Claims {
    /// Which bound the claim `follows` breaks, in words.
    ///
    /// # Errors
    /// The sentence to show to whoever mints it.
    pub fn check_follows(&self) -> Result<(), String> {
        let Some(follows) = &self.follows else { return Ok(()) };
        if follows.len() > FOLLOWS_MAX {
            let rooms = follows.len();
            return Err(format!("follows has {rooms} rooms; allowed are {FOLLOWS_MAX}"));
        }
        if let Some(name) = follows.keys().find(|name| RoomId::new(name).is_none()) {
            let shown: String = name.chars().take(80).collect();
            return Err(format!(
                "follows holds {shown:?}; allowed is a room name (1 to 64 bytes of A-Z a-z 0-9 . _ \
                 : -)"
            ));
        }
        let bytes: usize = follows.keys().map(String::len).sum();
        if bytes > FOLLOWS_BYTES_MAX {
            return Err(format!(
                "the names in follows have {bytes} bytes; allowed are {FOLLOWS_BYTES_MAX}"
            ));
        }
        Ok(())
    }
}
