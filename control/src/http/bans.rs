//! Who is banned from a room: told, and let in again. (Banning is a kick with a time, see
//! [`super::moderation`].)
//!
//! Owns the routes. Bans live with their room, at its home; where there is a store, those of users
//! come back with the room's next life ([`crate::penalties`]). Where banned devices and addresses
//! are is told to nobody, since the home itself has hashes alone.

use super::Context;
use super::actor::Actor;
use super::errors::{ApiError, ErrorBody};
use super::extract::{Params, Room, page_limit};
use super::moderation::RoomsAreHere;
use super::publish::check_user;
use super::roles::InRoom;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use uproar_proto::control::{BanInfo, Command};
use utoipa::{IntoParams, ToSchema};

/// A page of a room's bans, by name.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BanPage {
    bans: Vec<RoomBan>,
    /// Pass it as `after` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A ban of a room.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RoomBan {
    #[schema(example = "mallory")]
    user: String,
    until_unix_ms: u64,
    /// Devices and addresses that are refused with the user.
    devices: u32,
    addresses: u32,
}

impl From<BanInfo> for RoomBan {
    fn from(ban: BanInfo) -> RoomBan {
        let BanInfo { user, until_ms, devices, addresses } = ban;
        RoomBan { user, until_unix_ms: until_ms, devices, addresses }
    }
}

/// Which page of the bans.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct BanParams {
    /// Users whose name comes after this one.
    after: Option<String>,
    /// 1 to 1,000, default 100.
    limit: Option<usize>,
}

/// Lists who is banned from a room that lives: for backends, and for who has a role there. Where
/// there is a store, a user's ban outlives the room and the engine: it comes back with the room's
/// next life, a moment after that has begun, without the devices and addresses, which are known to
/// the life that banned them alone. Without a store bans end with the room.
#[utoipa::path(get, path = "/v1/rooms/{room}/bans", tag = "moderation",
    params(("room" = String, Path, description = "the room's name"), BanParams),
    responses((status = 200, body = BanPage), (status = 404, body = ErrorBody)),
    security(("api_key" = []), ("access_token" = [])))]
pub(crate) async fn list(
    State(shared): Context,
    actor: Actor,
    _: RoomsAreHere,
    Room(room): Room,
    Params(BanParams { after, limit }): Params<BanParams>,
) -> Result<Json<BanPage>, ApiError> {
    let limit = page_limit(limit)?;
    actor.of_room(&shared, &room).await?;
    let (engine, after) = (&shared.api.engine, after.unwrap_or_default());
    // One more than asked for tells whether there is a next page.
    let bans = |reply| engine.command(Command::Bans { room, after, limit: limit + 1, reply });
    let mut bans = shared.call(bans).await?;
    let has_more = bans.len() > limit;
    bans.truncate(limit);
    let next = bans.last().filter(|_| has_more).map(|ban| ban.user.clone());
    Ok(Json(BanPage { bans: bans.into_iter().map(RoomBan::from).collect(), next }))
}

/// Ends a user's ban, with the devices and addresses that came with it; where it has none, nothing
/// happens. Who may, as for a kick.
#[utoipa::path(delete, path = "/v1/rooms/{room}/bans/{user}", tag = "moderation",
    params(("room" = String, Path, description = "the room's name"),
        ("user" = String, Path, description = "a user's name")),
    responses((status = 204, description = "not banned"), (status = 404, body = ErrorBody)),
    security(("api_key" = []), ("access_token" = [])))]
pub(crate) async fn lift(
    State(shared): Context,
    actor: Actor,
    _: RoomsAreHere,
    InRoom(room, user): InRoom,
) -> Result<StatusCode, ApiError> {
    check_user(&user)?;
    let moderator = actor.of_room(&shared, &room).await?;
    moderator.check_above(&shared, &user).await?;
    let (engine, name) = (&shared.api.engine, user.clone());
    if shared.call(|reply| engine.command(Command::Unban { room, user: name, reply })).await? {
        shared.audit.write(vec![moderator.entry("unban", &user)]).await;
    }
    Ok(StatusCode::NO_CONTENT)
}
