//! Moderation from a backend: kick (and ban) a user, mute a user.

use super::Context;
use super::errors::{ApiError, ErrorBody};
use super::extract::{Body, Room};
use super::publish::check_user;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use uproar_proto::control::Command;
use utoipa::ToSchema;

/// The longest ban or mute: a year. Longer ones belong to whoever issues tokens.
const SECONDS_MAX: u32 = 365 * 86_400;

/// Whom to remove, and for how long.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kick {
    #[schema(example = "mallory")]
    user: String,
    /// Refuse the user for this long, in seconds; 0 (default): the user may come back at once.
    #[serde(default)]
    ban_s: u32,
}

/// What a kick did.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Kicked {
    /// Connections that were removed.
    connections: u32,
}

/// Whom to silence, and for how long.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mute {
    #[schema(example = "mallory")]
    user: String,
    /// Seconds; 0 ends a mute.
    mute_s: u32,
}

/// Removes a user's connections from a room, and refuses the user for `ban_s` seconds.
#[utoipa::path(post, path = "/v1/rooms/{room}/kick", tag = "moderation", request_body = Kick,
    params(("room" = String, Path, description = "the room's name")),
    responses(
        (status = 200, body = Kicked),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ), security(("api_key" = [])))]
pub(crate) async fn kick(
    State(shared): Context,
    Room(room): Room,
    Body(Kick { user, ban_s }): Body<Kick>,
) -> Result<Json<Kicked>, ApiError> {
    check_user(&user)?;
    check_seconds("ban_s", ban_s)?;
    let engine = &shared.api.engine;
    let connections =
        shared.call(|reply| engine.command(Command::Kick { room, user, ban_s, reply })).await?;
    Ok(Json(Kicked { connections }))
}

/// Refuses a user's messages in a room for `mute_s` seconds; the user goes on watching.
#[utoipa::path(post, path = "/v1/rooms/{room}/mute", tag = "moderation", request_body = Mute,
    params(("room" = String, Path, description = "the room's name")),
    responses(
        (status = 204, description = "done"),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ), security(("api_key" = [])))]
pub(crate) async fn mute(
    State(shared): Context,
    Room(room): Room,
    Body(Mute { user, mute_s }): Body<Mute>,
) -> Result<StatusCode, ApiError> {
    check_user(&user)?;
    check_seconds("mute_s", mute_s)?;
    let engine = &shared.api.engine;
    shared.call(|reply| engine.command(Command::Mute { room, user, mute_s, reply })).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn check_seconds(name: &str, value: u32) -> Result<(), ApiError> {
    if value > SECONDS_MAX {
        let text = format!("{name} is {value}; allowed is 0 to {SECONDS_MAX}");
        return Err(ApiError::bad_request(text));
    }
    Ok(())
}
