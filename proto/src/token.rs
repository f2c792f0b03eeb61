//! What a token claims. Minted by control or by another issuer, verified by the engine's shards.

use serde::{Deserialize, Serialize};

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
    /// The login session that minted it: what a log-out ends. Absent: not minted by a login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
}

/// The longest user name, in bytes.
pub const USER_BYTES_MAX: usize = 64;
