//! Polls of a room: opened, read and ended by a backend or by who has a role in the room, answered
//! by members over the wire.

use super::Context;
use super::actor::Actor;
use super::errors::{ApiError, ErrorBody};
use super::extract::{Body, Room, room_id};
use crate::audit::Entry;
use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};
use uproar_proto::control::{Command, NewPoll, PollInfo};
use uproar_proto::error::Code;
use uproar_proto::ids::RoomId;
use utoipa::ToSchema;

/// A question to a room.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OpenPoll {
    /// 1 to 256 bytes.
    #[schema(example = "who wins?")]
    question: String,
    /// 2 to 16 answers to choose from, of 1 to 256 bytes each.
    options: Vec<String>,
    /// How long answers are taken, in seconds; 1 to 3,600.
    duration_s: u32,
}

/// A poll as it stands.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Poll)]
pub(crate) struct PollView {
    /// Its number in this life of the room.
    poll: u32,
    question: String,
    options: Vec<PollOption>,
    /// Answers that were not counted: of users who had answered, or too late.
    refused: u64,
    /// When it takes no more, milliseconds since 1970.
    ends_ms: u64,
    /// No more are counted: this is exact and the last word.
    over: bool,
}

/// An answer and how many gave it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PollOption {
    text: String,
    votes: u64,
}

/// The room and poll of a path.
pub(crate) struct OfRoom(RoomId, u32);

impl<S: Send + Sync> FromRequestParts<S> for OfRoom {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((room, poll)) =
            path.map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
        let number = poll.parse().map_err(|_| {
            let shown: String = poll.chars().take(80).collect();
            ApiError::bad_request(format!("poll is {shown:?}; allowed is a number"))
        })?;
        Ok(OfRoom(room_id(&room)?, number))
    }
}

/// Asks a room a question. Members answer once each; they are told counts once a second, and the
/// exact ones at the end.
#[utoipa::path(post, path = "/v1/rooms/{room}/polls", tag = "rooms", request_body = OpenPoll,
    params(("room" = String, Path, description = "the room's name")),
    responses(
        (status = 201, body = PollView),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "four polls of the room are open"),
    ), security(("api_key" = []), ("access_token" = [])))]
pub(crate) async fn open(
    State(shared): Context,
    actor: Actor,
    Room(room): Room,
    Body(body): Body<OpenPoll>,
) -> Result<(StatusCode, Json<PollView>), ApiError> {
    let moderator = actor.of_room(&shared, &room).await?;
    let OpenPoll { question, options, duration_s } = body;
    let detail = format!("question={question:?}");
    let poll = NewPoll { question, options, duration_s };
    poll.check().map_err(ApiError::bad_request)?;
    let texts = poll.options.iter().chain([&poll.question]).map(String::as_str);
    moderator.check_texts(&shared, texts).await?;
    let engine = &shared.api.engine;
    let info = shared.call(|reply| engine.command(Command::OpenPoll { room, poll, reply })).await?;
    let entry = moderator.entry("poll.open", "");
    shared.audit.write(vec![Entry { detail, ..entry }]).await;
    Ok((StatusCode::CREATED, Json(info.into())))
}

/// Tells how a poll stands, also after its end; the last 32 of a room are kept.
#[utoipa::path(get, path = "/v1/rooms/{room}/polls/{poll}", tag = "rooms",
    params(
        ("room" = String, Path, description = "the room's name"),
        ("poll" = u32, Path, description = "its number"),
    ),
    responses((status = 200, body = PollView), (status = 404, body = ErrorBody)),
    security(("api_key" = []), ("access_token" = [])))]
pub(crate) async fn get(
    State(shared): Context,
    actor: Actor,
    of: OfRoom,
) -> Result<Json<PollView>, ApiError> {
    actor.of_room(&shared, &of.0).await?;
    asked(&shared, of, false).await
}

/// Ends a poll at once; answers that are on their way are refused.
#[utoipa::path(delete, path = "/v1/rooms/{room}/polls/{poll}", tag = "rooms",
    params(
        ("room" = String, Path, description = "the room's name"),
        ("poll" = u32, Path, description = "its number"),
    ),
    responses((status = 200, body = PollView), (status = 404, body = ErrorBody)),
    security(("api_key" = []), ("access_token" = [])))]
pub(crate) async fn end(
    State(shared): Context,
    actor: Actor,
    of: OfRoom,
) -> Result<Json<PollView>, ApiError> {
    let moderator = actor.of_room(&shared, &of.0).await?;
    let entry = Entry { detail: format!("poll={}", of.1), ..moderator.entry("poll.end", "") };
    let ended = asked(&shared, of, true).await?;
    shared.audit.write(vec![entry]).await;
    Ok(ended)
}

async fn asked(
    shared: &super::Shared,
    OfRoom(room, poll): OfRoom,
    end: bool,
) -> Result<Json<PollView>, ApiError> {
    let engine = &shared.api.engine;
    let told = shared.call(|reply| engine.command(Command::Poll { room, poll, end, reply })).await;
    let info = told.map_err(|error| match error.code {
        Code::NotFound => ApiError::new(Code::NotFound, "the room has no such poll"),
        _ => error,
    })?;
    Ok(Json(info.into()))
}

impl From<PollInfo> for PollView {
    fn from(info: PollInfo) -> PollView {
        let PollInfo { poll, question, options, votes, refused, ends_ms, over } = info;
        let options = options.into_iter().zip(votes);
        let options = options.map(|(text, votes)| PollOption { text, votes }).collect();
        PollView { poll, question, options, refused, ends_ms, over }
    }
}
