//! Moderation: kick (and ban) a user, mute a user, or many at once; by a backend, or by a user with
//! a role in the room.
//!
//! Owns the routes and their bounds. Who may act on whom is [`Actor`]'s to say, what a kick is the
//! room's.

use super::actor::{Actor, Moderator};
use super::errors::{ApiError, ErrorBody, ErrorFields};
use super::extract::{Body, Room};
use super::publish::check_user;
use super::{Context, Pending, Shared, check_rooms};
use crate::audit::{Entry, REASON_CHARS_MAX};
use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use uproar_proto::control::{self, BanWith, Command};
use uproar_proto::error::Code;
use uproar_proto::ids::RoomId;
use utoipa::ToSchema;

/// The longest ban or mute: a year. Longer ones belong to whoever issues tokens.
const SECONDS_MAX: u32 = 365 * 86_400;
/// Users of one request. More: 400.
const USERS_MAX: usize = 100;

/// Whom to remove, and for how long.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kick {
    #[schema(example = "mallory")]
    user: String,
    /// Refuse the user for this long, in seconds; 0 (default): the user may come back at once.
    #[serde(default)]
    ban_s: u32,
    /// Refuse for as long the devices that the user's connections in the room name. A client can
    /// name another one at any time.
    #[serde(default)]
    devices: bool,
    /// Refuse for as long the addresses they come from (IPv4; of IPv6 the /64), and whoever else
    /// comes from there.
    #[serde(default)]
    addresses: bool,
    /// For the audit log; at most 256 characters.
    #[serde(default)]
    reason: String,
}

/// What a kick did.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Kicked {
    /// Connections of the user that were removed.
    connections: u32,
    /// Different devices that are refused with the user; where that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    devices: Option<u32>,
    /// Different addresses, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    addresses: Option<u32>,
}

/// Whom to silence, and for how long.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mute {
    #[schema(example = "mallory")]
    user: String,
    /// Seconds; 0 ends a mute.
    mute_s: u32,
    /// For the audit log; at most 256 characters.
    #[serde(default)]
    reason: String,
}

/// What is done to many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = ModerationAction)]
pub(crate) enum Action {
    Kick,
    Ban,
    Mute,
}

/// The same for many users.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Moderate {
    action: Action,
    /// 1 to 100.
    #[schema(example = json!(["mallory"]))]
    users: Vec<String>,
    /// How long, of a ban (from 1 on) and a mute (0 ends it).
    #[serde(default)]
    seconds: u32,
    /// Of a ban: refuse the users' devices too, as for a kick.
    #[serde(default)]
    devices: bool,
    /// Of a ban: refuse the users' addresses too, as for a kick.
    #[serde(default)]
    addresses: bool,
    /// For the audit log; at most 256 characters.
    #[serde(default)]
    reason: String,
}

/// One result for each user, in their order.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Moderated {
    results: Vec<ModeratedUser>,
}

/// What became of one.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModeratedUser {
    user: String,
    /// Connections that were removed; of a kick and a ban that was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    connections: Option<u32>,
    /// Different devices that are refused with it; of a ban that asked for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    devices: Option<u32>,
    /// Different addresses, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    addresses: Option<u32>,
    /// Why it was not done.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorFields>,
}

/// 421 in a control process: to whoever may ask at all, and before a body is looked at.
pub(crate) struct RoomsAreHere;

impl FromRequestParts<Arc<Shared>> for RoomsAreHere {
    type Rejection = ApiError;

    async fn from_request_parts(_: &mut Parts, shared: &Arc<Shared>) -> Result<Self, ApiError> {
        check_rooms(shared).map(|()| RoomsAreHere)
    }
}

/// Removes a user's connections from a room, and refuses the user for `ban_s` seconds: also in
/// later lives of the room, and after a restart, where there is a store. (Devices and addresses are
/// refused as long as the room lives; guests have no name that outlives it.) With an access token:
/// by who has a role in the room, of those who have none there (an owner of moderators too).
#[utoipa::path(post, path = "/v1/rooms/{room}/kick", tag = "moderation", request_body = Kick,
    params(("room" = String, Path, description = "the room's name")),
    responses(
        (status = 200, body = Kicked),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ), security(("api_key" = []), ("access_token" = [])))]
pub(crate) async fn kick(
    State(shared): Context,
    actor: Actor,
    _: RoomsAreHere,
    Room(room): Room,
    Body(Kick { user, ban_s, devices, addresses, reason }): Body<Kick>,
) -> Result<Json<Kicked>, ApiError> {
    check_user(&user)?;
    check_seconds("ban_s", ban_s)?;
    let with = BanWith { devices, addresses };
    let action = if ban_s > 0 { Action::Ban } else { Action::Kick };
    let how = How { action, seconds: ban_s, with };
    how.check_with("ban_s is 0; devices and addresses are refused with a ban, from 1 on")?;
    let kicked = one(&shared, actor, (&room, user), how, reason).await?.unwrap_or_default();
    let control::Kicked { connections, devices, addresses } = kicked;
    let (devices, addresses) =
        (with.devices.then_some(devices), with.addresses.then_some(addresses));
    Ok(Json(Kicked { connections, devices, addresses }))
}

/// Refuses a user's messages in a room for `mute_s` seconds; the user goes on watching. It outlives
/// the room as a ban does. Who may, as for a kick.
#[utoipa::path(post, path = "/v1/rooms/{room}/mute", tag = "moderation", request_body = Mute,
    params(("room" = String, Path, description = "the room's name")),
    responses(
        (status = 204, description = "done"),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ), security(("api_key" = []), ("access_token" = [])))]
pub(crate) async fn mute(
    State(shared): Context,
    actor: Actor,
    _: RoomsAreHere,
    Room(room): Room,
    Body(Mute { user, mute_s, reason }): Body<Mute>,
) -> Result<StatusCode, ApiError> {
    check_user(&user)?;
    check_seconds("mute_s", mute_s)?;
    let how = How { action: Action::Mute, seconds: mute_s, with: BanWith::default() };
    one(&shared, actor, (&room, user), how, reason).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Kicks, bans or mutes up to 100 users of a room, each for itself: one result for each. Who may,
/// as for a kick.
#[utoipa::path(post, path = "/v1/rooms/{room}/moderation", tag = "moderation",
    request_body = Moderate,
    params(("room" = String, Path, description = "the room's name")),
    responses(
        (status = 200, body = Moderated),
        (status = 400, body = ErrorBody),
    ), security(("api_key" = []), ("access_token" = [])))]
pub(crate) async fn many(
    State(shared): Context,
    actor: Actor,
    _: RoomsAreHere,
    Room(room): Room,
    Body(body): Body<Moderate>,
) -> Result<Json<Moderated>, ApiError> {
    let Moderate { action, users, seconds, devices, addresses, reason } = body;
    let with = BanWith { devices, addresses };
    let how = How { action, seconds, with };
    check_seconds("seconds", seconds)?;
    how.check_with("action is no ban; devices and addresses are refused with a ban")?;
    check_reason(&reason)?;
    if users.is_empty() || users.len() > USERS_MAX {
        let text = format!("users has {} names; allowed are 1 to {USERS_MAX}", users.len());
        return Err(ApiError::bad_request(text));
    }
    if action == Action::Ban && seconds == 0 {
        return Err(ApiError::bad_request("seconds is 0; a ban lasts from 1 on"));
    }
    users.iter().try_for_each(|user| check_user(user))?;
    let moderator = actor.of_room(&shared, &room).await?;
    let done = act(&shared, &moderator, (&room, users), how, &reason).await?;
    let result = |(user, done): (String, Result<Option<control::Kicked>, ApiError>)| {
        let (kicked, error) = match done {
            Ok(kicked) => (kicked, None),
            Err(error) => (None, Some(error.fields())),
        };
        ModeratedUser {
            user,
            connections: kicked.map(|kicked| kicked.connections),
            devices: kicked.filter(|_| with.devices).map(|kicked| kicked.devices),
            addresses: kicked.filter(|_| with.addresses).map(|kicked| kicked.addresses),
            error,
        }
    };
    Ok(Json(Moderated { results: done.into_iter().map(result).collect() }))
}

/// One user: the error is the answer's.
async fn one(
    shared: &Shared,
    actor: Actor,
    (room, user): (&RoomId, String),
    how: How,
    reason: String,
) -> Result<Option<control::Kicked>, ApiError> {
    check_reason(&reason)?;
    let moderator = actor.of_room(shared, room).await?;
    let mut done = act(shared, &moderator, (room, vec![user]), how, &reason).await?;
    // One was asked for.
    done.pop().map_or(Ok(None), |(_, done)| done)
}

/// What is done to each.
#[derive(Clone, Copy)]
struct How {
    action: Action,
    seconds: u32,
    with: BanWith,
}

impl How {
    /// 400 with this text where something is refused with what is no ban.
    fn check_with(self, text: &str) -> Result<(), ApiError> {
        if self.action != Action::Ban && self.with != BanWith::default() {
            return Err(ApiError::bad_request(text));
        }
        Ok(())
    }
}

/// What the engine owes for one user.
enum Asked {
    Kicked(Pending<control::Kicked>),
    Muted(Pending<()>),
}

/// Each user and what became of it; what was done is written down.
async fn act(
    shared: &Shared,
    moderator: &Moderator,
    (room, users): (&RoomId, Vec<String>),
    how: How,
    reason: &str,
) -> Result<Vec<(String, Result<Option<control::Kicked>, ApiError>)>, ApiError> {
    let How { action, seconds, with } = how;
    let above = moderator.above(shared, &users).await?;
    let deadline = shared.deadline();
    let ask = |user: String| {
        if above.contains(&user) {
            return (user, None);
        }
        let (engine, room, name) = (&shared.api.engine, room.clone(), user.clone());
        let asked = match action {
            Action::Mute => Asked::Muted(shared.ask(|reply| {
                engine.command(Command::Mute { room, user: name, mute_s: seconds, reply });
            })),
            Action::Kick | Action::Ban => Asked::Kicked(shared.ask(|reply| {
                let ban_s = if action == Action::Ban { seconds } else { 0 };
                engine.command(Command::Kick { room, user: name, ban_s, with, reply });
            })),
        };
        (user, Some(asked))
    };
    // All of them are under way before the first is waited for.
    let asked: Vec<(String, Option<Asked>)> = users.into_iter().map(ask).collect();
    let (mut done, mut entries) = (Vec::new(), Vec::new());
    for (user, asked) in asked {
        let result = match asked {
            None => {
                let text = "this user's role is as high as one's own, or higher";
                Err(ApiError::new(Code::Forbidden, text))
            }
            Some(Asked::Kicked(pending)) => shared.wait(pending, deadline).await.map(Some),
            Some(Asked::Muted(pending)) => shared.wait(pending, deadline).await.map(|()| None),
        };
        if result.is_ok() {
            let (what, detail) = told(how);
            let entry = moderator.entry(what, &user);
            entries.push(Entry { detail, reason: reason.to_owned(), ..entry });
        }
        done.push((user, result));
    }
    if !entries.is_empty() {
        shared.audit.write(entries).await;
    }
    Ok(done)
}

fn told(how: How) -> (&'static str, String) {
    let How { action, seconds, with } = how;
    match action {
        Action::Kick => ("kick", String::new()),
        Action::Ban => {
            let mut detail = format!("seconds={seconds}");
            for (is_so, word) in
                [(with.devices, " devices=true"), (with.addresses, " addresses=true")]
            {
                detail.push_str(if is_so { word } else { "" });
            }
            ("ban", detail)
        }
        Action::Mute if seconds == 0 => ("unmute", String::new()),
        Action::Mute => ("mute", format!("seconds={seconds}")),
    }
}

fn check_seconds(name: &str, value: u32) -> Result<(), ApiError> {
    if value > SECONDS_MAX {
        let text = format!("{name} is {value}; allowed is 0 to {SECONDS_MAX}");
        return Err(ApiError::bad_request(text));
    }
    Ok(())
}

/// A reason for the audit log.
pub(crate) fn check_reason(reason: &str) -> Result<(), ApiError> {
    let chars = reason.chars().count();
    if chars > REASON_CHARS_MAX {
        let text = format!("reason has {chars} characters; allowed are {REASON_CHARS_MAX}");
        return Err(ApiError::bad_request(text));
    }
    Ok(())
}
