//! Minting tokens over HTTP, for backends that hold the API key and not the signing key.

use super::Context;
use super::errors::{ApiError, ErrorBody};
use super::extract::Body;
use crate::store::{Store, admin, bans};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uproar_proto::error::Code;
use uproar_proto::token::Claims;
use utoipa::ToSchema;

/// The life of a token where the caller does not say.
const TTL_S_DEFAULT: u32 = 3_600;

/// What the token is to permit.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MintToken {
    /// 1 to 64 bytes.
    #[schema(example = "alice")]
    user: String,
    /// Rooms it is good for; a trailing `*` matches any ending. Absent: every room.
    rooms: Option<Vec<String>>,
    /// Classes it may publish: `chat`, `like`, `gift`, `system`. Absent: chat and like.
    publish: Option<Vec<String>>,
    /// May moderate: exempt from slow mode, per-user limits and mutes.
    #[serde(default)]
    moderate: bool,
    /// Rooms the user follows, and since when, seconds since 1970; at most 256. For rooms with
    /// `followers_only_s`.
    follows: Option<BTreeMap<String, u64>>,
    /// Seconds until it expires; 1 to `http.token_ttl_s_max`, default an hour.
    ttl_s: Option<u32>,
}

/// A token for a client's `Connect`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Minted {
    token: String,
    /// When it expires, seconds since 1970.
    expires_unix_s: u64,
}

/// Mints a token. Needs `http.api_key` and a signing key in the configuration.
#[utoipa::path(post, path = "/v1/tokens", tag = "tokens", request_body = MintToken,
    responses(
        (status = 201, body = Minted),
        (status = 400, body = ErrorBody),
        (status = 403, body = ErrorBody,
            description = "no API key or no signing key is set, or the user is banned or erased"),
    ), security(("api_key" = [])))]
pub(crate) async fn mint(
    State(shared): Context,
    Body(body): Body<MintToken>,
) -> Result<(StatusCode, Json<Minted>), ApiError> {
    let config = &shared.api.config;
    if config.api_key.is_empty() {
        let text = "tokens are minted only where http.api_key is set; on this machine, uproar \
                    token mints one";
        return Err(ApiError::new(Code::Forbidden, text));
    }
    let Some(signer) = &shared.api.signer else {
        let text =
            "no signing key is set: set engine.tokens.hs256_secret or http.eddsa_private_key";
        return Err(ApiError::new(Code::Forbidden, text));
    };
    let ttl_s = body.ttl_s.unwrap_or(TTL_S_DEFAULT.min(config.token_ttl_s_max));
    if ttl_s == 0 || ttl_s > config.token_ttl_s_max {
        let text = format!("ttl_s is {ttl_s}; allowed is 1 to {}", config.token_ttl_s_max);
        return Err(ApiError::bad_request(text));
    }
    if let Some(store) = &shared.api.store {
        check_welcome(store, &body.user).await?;
    }
    let claims = Claims {
        sub: body.user,
        exp: jsonwebtoken::get_current_timestamp() + u64::from(ttl_s),
        rooms: body.rooms,
        publish: body.publish,
        moderate: body.moderate,
        follows: body.follows,
        sid: None,
        nbf: None,
    };
    let token = signer.mint(&claims).map_err(ApiError::bad_request)?;
    Ok((StatusCode::CREATED, Json(Minted { token, expires_unix_s: claims.exp })))
}

/// A user whom an operator keeps out gets no token.
async fn check_welcome(store: &Store, user: &str) -> Result<(), ApiError> {
    let mut conn = store.reader().await.map_err(ApiError::from)?;
    let Some(account) = admin::account(&mut conn, user).await? else { return Ok(()) };
    if account.erased {
        return Err(ApiError::new(Code::Forbidden, "this user was erased"));
    }
    match bans::find(&mut conn, account.id, store.now_ms()).await? {
        Some(_) => Err(ApiError::from_code(Code::Banned)),
        None => Ok(()),
    }
}
