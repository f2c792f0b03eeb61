//! What is done to a live room besides publishing: recalling messages, changing attributes, pinning
//! a message; by a backend, or by a user with a role in the room. Members are told of each in order
//! with the messages.

use super::Context;
use super::actor::Actor;
use super::errors::{ApiError, ErrorBody, ErrorFields};
use super::extract::{Body, Room};
use super::publish::check_user;
use crate::audit::Entry;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uproar_proto::control::{self, AttributeChange, AttributesOutcome, Command};
use uproar_proto::error::Code;
use utoipa::ToSchema;

/// Messages of one request. More: ask again.
const SEQS_MAX: usize = 1_000;

/// Which messages are recalled: either `seqs` or `user`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recall {
    /// These, by seq; 1 to 1,000. Those that the room has not had are left out. With a role in the
    /// room, messages of its history alone, and none of a user with an equal or a greater role: one
    /// of those among them is 403, and nothing is recalled.
    seqs: Option<Vec<u64>>,
    /// All that this user has said in the room so far, in its danmaku too. `seqs` of the answer are
    /// those that the room still has.
    #[schema(example = "mallory")]
    user: Option<String>,
}

/// What was recalled.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RecalledMessages)]
pub(crate) struct Recalled {
    seqs: Vec<u64>,
}

/// Recalls messages of a room. Members are told within a second to take them off the screen, who
/// joins or comes back gets them blank, and they are taken out of the room's danmaku.
#[utoipa::path(post, path = "/v1/rooms/{room}/recall", tag = "moderation", request_body = Recall,
    params(("room" = String, Path, description = "the room's name")),
    responses((status = 200, body = Recalled), (status = 404, body = ErrorBody)),
    security(("api_key" = []), ("access_token" = [])))]
pub(crate) async fn recall(
    State(shared): Context,
    actor: Actor,
    Room(room): Room,
    Body(body): Body<Recall>,
) -> Result<Json<Recalled>, ApiError> {
    let moderator = actor.of_room(&shared, &room).await?;
    let whom = body.user.clone().unwrap_or_default();
    let what = match body {
        Recall { seqs: Some(seqs), user: None } => {
            if !(1..=SEQS_MAX).contains(&seqs.len()) {
                let text = format!("seqs has {} entries; allowed are 1 to {SEQS_MAX}", seqs.len());
                return Err(ApiError::bad_request(text));
            }
            match moderator.spared(&shared).await? {
                None => control::Recall::Seqs(seqs),
                Some(spared) => control::Recall::SeqsBut { seqs, spared },
            }
        }
        Recall { seqs: None, user: Some(user) } => {
            check_user(&user)?;
            moderator.check_above(&shared, &user).await?;
            control::Recall::User(user)
        }
        _ => return Err(ApiError::bad_request("what is meant is seqs, or user; one of the two")),
    };
    let engine = &shared.api.engine;
    let recalled = shared.call(|reply| engine.command(Command::Recall { room, what, reply })).await;
    let seqs = recalled.map_err(|error| match error.code {
        Code::Forbidden => ApiError::new(
            Code::Forbidden,
            "one of these messages is of a user with an equal or a greater role, or so old that \
             the room does not know whose it is; nothing was recalled",
        ),
        _ => error,
    })?;
    let entry = moderator.entry("recall", &whom);
    shared.audit.write(vec![Entry { detail: format!("seqs={seqs:?}"), ..entry }]).await;
    Ok(Json(Recalled { seqs }))
}

/// Attributes to change; what is named in neither stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeAttributes {
    #[serde(default)]
    set: BTreeMap<String, String>,
    /// Keys to take out.
    #[serde(default)]
    remove: Vec<String>,
    /// Only where the attributes have this version.
    if_version: Option<u64>,
}

/// The attributes of a room.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Attributes)]
pub(crate) struct AttributesView {
    /// Rises with each change.
    version: u64,
    attributes: BTreeMap<String, String>,
}

/// The attributes have another version: read them, and decide again.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VersionConflict {
    error: ErrorFields,
    /// The one they have.
    version: u64,
}

/// Changes some attributes of a room; what steers the server itself (`danmaku`) with the API key or
/// as an owner of the room. Members are told of the difference, four times a second at
/// most.
#[utoipa::path(patch, path = "/v1/rooms/{room}/attributes", tag = "rooms",
    request_body = ChangeAttributes,
    params(("room" = String, Path, description = "the room's name")),
    responses(
        (status = 200, body = AttributesView),
        (status = 404, body = ErrorBody),
        (status = 409, body = VersionConflict, description = "if_version is not their version"),
    ), security(("api_key" = []), ("access_token" = [])))]
pub(crate) async fn change_attributes(
    State(shared): Context,
    actor: Actor,
    Room(room): Room,
    Body(body): Body<ChangeAttributes>,
) -> Result<Response, ApiError> {
    let moderator = actor.of_room(&shared, &room).await?;
    let ChangeAttributes { set, remove, if_version } = body;
    moderator.check_attributes(set.keys().chain(&remove))?;
    let texts = set.iter().flat_map(|(key, value)| [key.as_str(), value.as_str()]);
    moderator.check_texts(&shared, texts).await?;
    let detail = serde_json::json!({"set": set, "remove": remove}).to_string();
    let change = AttributeChange { set, remove, if_version };
    // A change of settings reads them, and writes what it has read.
    let _one_at_a_time = shared.updates[super::rooms::lock_of(&room)].lock().await;
    let engine = &shared.api.engine;
    let outcome =
        shared.call(|reply| engine.command(Command::Attributes { room, change, reply })).await?;
    match outcome {
        AttributesOutcome::Changed { version, attributes } => {
            let entry = moderator.entry("attributes", "");
            shared.audit.write(vec![Entry { detail, ..entry }]).await;
            Ok(Json(AttributesView { version, attributes }).into_response())
        }
        AttributesOutcome::TooMuch { text } => Err(ApiError::bad_request(text)),
        AttributesOutcome::Conflict { version } => {
            let known = if_version.unwrap_or_default();
            let text = format!("if_version is {known}; the attributes have version {version}");
            let error = ApiError::new(Code::Conflict, text);
            let body = VersionConflict { error: error.fields(), version };
            Ok((error.status, Json(body)).into_response())
        }
    }
}

/// What is pinned: either `seq`, or `text` with a `user`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pin {
    /// A message in the room's history.
    seq: Option<u64>,
    /// A text, as long as a message may be.
    #[schema(example = "the show begins at nine")]
    text: Option<String>,
    /// Shown as its sender.
    user: Option<String>,
}

/// Pins a message in place of the one that is pinned: members see it at once, others as they join.
#[utoipa::path(put, path = "/v1/rooms/{room}/pin", tag = "rooms", request_body = Pin,
    params(("room" = String, Path, description = "the room's name")),
    responses(
        (status = 204, description = "pinned"),
        (status = 404, body = ErrorBody, description = "no such room, or it remembers no such seq"),
    ), security(("api_key" = []), ("access_token" = [])))]
pub(crate) async fn pin(
    State(shared): Context,
    actor: Actor,
    Room(room): Room,
    Body(body): Body<Pin>,
) -> Result<StatusCode, ApiError> {
    let moderator = actor.of_room(&shared, &room).await?;
    let bytes_max = shared.api.payload_bytes_max as usize;
    let pin = match body {
        Pin { seq: Some(seq), text: None, user: None } => control::Pin::Seq(seq),
        Pin { seq: None, text: Some(text), user: Some(user) } => {
            check_user(&user)?;
            moderator.check_name(&user)?;
            if text.is_empty() || text.len() > bytes_max {
                let text = format!("text has {} bytes; allowed are 1 to {bytes_max}", text.len());
                return Err(ApiError::bad_request(text));
            }
            moderator.check_texts(&shared, [text.as_str()]).await?;
            control::Pin::Text { user, text }
        }
        _ => return Err(ApiError::bad_request("what is pinned is seq, or text and user")),
    };
    let (engine, pin) = (&shared.api.engine, Some(pin));
    shared.call(|reply| engine.command(Command::Pin { room, pin, reply })).await.map_err(
        |error| {
            if error.code == Code::NotFound {
                return ApiError::new(
                    Code::NotFound,
                    "the room remembers no message with this seq",
                );
            }
            error
        },
    )?;
    shared.audit.write(vec![moderator.entry("pin", "")]).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes the pinned message down; there need not be one.
#[utoipa::path(delete, path = "/v1/rooms/{room}/pin", tag = "rooms",
    params(("room" = String, Path, description = "the room's name")),
    responses((status = 204, description = "nothing is pinned"), (status = 404, body = ErrorBody)),
    security(("api_key" = []), ("access_token" = [])))]
pub(crate) async fn unpin(
    State(shared): Context,
    actor: Actor,
    Room(room): Room,
) -> Result<StatusCode, ApiError> {
    let moderator = actor.of_room(&shared, &room).await?;
    let (engine, pin) = (&shared.api.engine, None);
    shared.call(|reply| engine.command(Command::Pin { room, pin, reply })).await?;
    shared.audit.write(vec![moderator.entry("unpin", "")]).await;
    Ok(StatusCode::NO_CONTENT)
}
