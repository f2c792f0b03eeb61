//! Who moderates a room: roles that users have there, whether the room is open now or not.

use super::actor::Actor;
use super::admin::living;
use super::errors::{ApiError, ErrorBody};
use super::extract::{Body, room_id};
use super::{Context, Shared};
use crate::audit::Entry;
use crate::store::roles::{self, Role};
use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use uproar_proto::ids::RoomId;
use utoipa::ToSchema;

/// What a user may do in a room, over HTTP. Not the claim `moderate` of a token, which exempts its
/// user from what holds for others in every room; neither gives the other.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RoomRole {
    /// Kicks, bans and mutes who has no role in the room, and takes back what they said.
    Moderator,
    /// Acts on moderators too, and makes and unmakes them.
    Owner,
}

/// A role to give.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewRole {
    role: RoomRole,
}

/// Who has a role in a room, by name.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RoleList {
    roles: Vec<RoleOf>,
}

/// A user's role in a room.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RoleOf {
    #[schema(example = "ann")]
    user: String,
    role: RoomRole,
}

impl From<RoomRole> for Role {
    fn from(role: RoomRole) -> Role {
        match role {
            RoomRole::Moderator => Role::Moderator,
            RoomRole::Owner => Role::Owner,
        }
    }
}

impl From<Role> for RoomRole {
    fn from(role: Role) -> RoomRole {
        match role {
            Role::Moderator => RoomRole::Moderator,
            Role::Owner => RoomRole::Owner,
        }
    }
}

/// The room and the user of a path.
pub(crate) struct InRoom(pub(crate) RoomId, pub(crate) String);

impl FromRequestParts<Arc<Shared>> for InRoom {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, ApiError> {
        let path = Path::<(String, String)>::from_request_parts(parts, shared).await;
        let Path((room, user)) =
            path.map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
        Ok(InRoom(room_id(&room)?, user))
    }
}

/// Lists who has a role in a room: for backends, and for who has one.
#[utoipa::path(get, path = "/v1/rooms/{room}/roles", tag = "moderation",
    params(("room" = String, Path, description = "the room's name")),
    responses((status = 200, body = RoleList)),
    security(("api_key" = []), ("access_token" = [])))]
pub(crate) async fn list(
    State(shared): Context,
    actor: Actor,
    super::extract::Room(room): super::extract::Room,
) -> Result<Json<RoleList>, ApiError> {
    actor.of_room(&shared, &room).await?;
    let roles = roles::list(super::caller::accounts(&shared)?.store(), room.as_str()).await?;
    let role = |(user, role): (String, Role)| RoleOf { user, role: role.into() };
    Ok(Json(RoleList { roles: roles.into_iter().map(role).collect() }))
}

/// Gives a user a role in a room, in place of the one it has there: a backend any, an owner
/// `moderator`. At most 100 users have one in a room.
#[utoipa::path(put, path = "/v1/rooms/{room}/roles/{user}", tag = "moderation",
    request_body = NewRole,
    params(("room" = String, Path, description = "the room's name"),
        ("user" = String, Path, description = "a user's name")),
    responses(
        (status = 204, description = "given"),
        (status = 404, body = ErrorBody, description = "there is no such user"),
        (status = 409, body = ErrorBody, description = "as many have one as may"),
    ), security(("api_key" = []), ("access_token" = [])))]
pub(crate) async fn set(
    State(shared): Context,
    actor: Actor,
    InRoom(room, user): InRoom,
    Body(NewRole { role }): Body<NewRole>,
) -> Result<StatusCode, ApiError> {
    let role = Role::from(role);
    let moderator = actor.of_room(&shared, &room).await?;
    moderator.may_give(role)?;
    let account = living(&shared, &user).await?;
    let store = super::caller::accounts(&shared)?.store();
    roles::set(store, room.as_str(), account.id, Some(role), moderator.rule()).await?;
    let entry = moderator.entry("role.set", &account.name);
    shared.audit.write(vec![Entry { detail: format!("role={}", role.word()), ..entry }]).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes a user's role in a room; where it has none, nothing happens. An owner takes that of
/// moderators.
#[utoipa::path(delete, path = "/v1/rooms/{room}/roles/{user}", tag = "moderation",
    params(("room" = String, Path, description = "the room's name"),
        ("user" = String, Path, description = "a user's name")),
    responses(
        (status = 204, description = "it has none"),
        (status = 404, body = ErrorBody, description = "there is no such user"),
    ), security(("api_key" = []), ("access_token" = [])))]
pub(crate) async fn remove(
    State(shared): Context,
    actor: Actor,
    InRoom(room, user): InRoom,
) -> Result<StatusCode, ApiError> {
    let moderator = actor.of_room(&shared, &room).await?;
    moderator.may_give(Role::Moderator)?;
    let account = living(&shared, &user).await?;
    let store = super::caller::accounts(&shared)?.store();
    let had = roles::set(store, room.as_str(), account.id, None, moderator.rule()).await?;
    if let Some(had) = had {
        let entry = moderator.entry("role.remove", &account.name);
        shared.audit.write(vec![Entry { detail: format!("role={}", had.word()), ..entry }]).await;
    }
    Ok(StatusCode::NO_CONTENT)
}
