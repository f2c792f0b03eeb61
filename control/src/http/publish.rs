//! Publishing from a backend: one message, or many into many rooms.
//!
//! A message that was decided on has a verdict (200, whatever the verdict is); an error is a
//! message that was never offered. A bulk answers for each message in the order they came.

use super::errors::{ApiError, ErrorBody, ErrorFields};
use super::extract::{Body, Room, room_id};
use super::{Context, Shared};
use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use uproar_proto::control::{BackendMessage, Command, Content, Published};
use uproar_proto::control::{GIFT_BYTES_MAX, is_gift_name};
use uproar_proto::error::Code;
use uproar_proto::ids::RoomId;
use uproar_proto::token::USER_BYTES_MAX;
use uproar_proto::v1;
use utoipa::ToSchema;

/// Gifts that one message of a backend may stand for.
const GIFTS_MAX: u32 = 1_000_000;

/// What is shed first under overload; likes are counted from viewers alone.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Class {
    /// Never shed once accepted.
    System,
    /// Half of the room's rate is reserved for it.
    Gift,
    #[default]
    Chat,
}

/// A message into the room of the path.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PublishOne {
    /// Shown as the sender; 1 to 64 bytes.
    #[schema(example = "host")]
    user: String,
    #[serde(default)]
    class: Class,
    /// The content as text; either this or `data`.
    #[schema(example = "hello")]
    text: Option<String>,
    /// The content as bytes, base64; either this or `text`.
    data: Option<String>,
    /// 1 to 16 bytes; the room sees it. Absent: one is made.
    client_msg_id: Option<String>,
    /// Class `gift` only: the gift's name, 1 to 32 bytes. Gifts of one user and one name are
    /// counted as combos, and need neither `text` nor `data`.
    gift: Option<String>,
    /// How many of `gift`, up to 1,000,000; 0 counts as 1.
    #[serde(default)]
    count: u32,
}

/// Messages into any rooms.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PublishBulk {
    /// At most `http.bulk_messages_max` (1,000).
    messages: Vec<BulkMessage>,
}

/// A message and its room.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BulkMessage {
    #[schema(example = "stage")]
    room: String,
    /// Shown as the sender; 1 to 64 bytes.
    user: String,
    #[serde(default)]
    class: Class,
    /// The content as text; either this or `data`.
    text: Option<String>,
    /// The content as bytes, base64; either this or `text`.
    data: Option<String>,
    /// 1 to 16 bytes; the room sees it. Absent: one is made.
    client_msg_id: Option<String>,
    /// Class `gift` only: the gift's name, 1 to 32 bytes. Gifts of one user and one name are
    /// counted as combos, and need neither `text` nor `data`.
    gift: Option<String>,
    /// How many of `gift`, up to 1,000,000; 0 counts as 1.
    #[serde(default)]
    count: u32,
}

/// What became of a message.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Verdict {
    /// `ACCEPTED`, `MERGED`, `SHED`, `REFUSED` or `EXPIRED`.
    #[schema(example = "ACCEPTED")]
    outcome: &'static str,
    /// Accepted: its seq.
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    /// Not accepted: why, a number of the table of codes.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u32>,
    /// Not accepted: the code's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'static str>,
    /// Not accepted: when to try again.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u32>,
}

/// One result: a verdict, or why there is none.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum BulkResult {
    Decided(Verdict),
    Failed {
        /// The message was not offered, or what became of it is unknown.
        error: ErrorFields,
    },
}

/// Results in the order of the messages.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BulkResults {
    results: Vec<BulkResult>,
}

/// Publishes one message into a room; it passes the room's limits as any other of its class.
#[utoipa::path(post, path = "/v1/rooms/{room}/publish", tag = "publish",
    request_body = PublishOne,
    params(("room" = String, Path, description = "the room's name")),
    responses(
        (status = 200, body = Verdict, description = "decided: look at `outcome`"),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 413, body = ErrorBody),
    ), security(("api_key" = [])))]
pub(crate) async fn one(
    State(shared): Context,
    Room(room): Room,
    Body(body): Body<PublishOne>,
) -> Result<Json<Verdict>, ApiError> {
    let message = shared.message(body)?;
    let engine = &shared.api.engine;
    let command = |reply| engine.command(Command::Publish { room, messages: vec![message], reply });
    let published = shared.call(command).await?;
    let first = published.first().ok_or_else(no_verdict)?;
    Ok(Json(Verdict::from(*first)))
}

/// Publishes many messages, each into its room; messages into one room keep their order.
#[utoipa::path(post, path = "/v1/publish", tag = "publish", request_body = PublishBulk,
    responses(
        (status = 200, body = BulkResults, description = "one result for each message, in order"),
        (status = 400, body = ErrorBody),
        (status = 413, body = ErrorBody),
    ), security(("api_key" = [])))]
pub(crate) async fn bulk(
    State(shared): Context,
    Body(body): Body<PublishBulk>,
) -> Result<Json<BulkResults>, ApiError> {
    let count = body.messages.len();
    let count_max = shared.api.config.bulk_messages_max as usize;
    if count == 0 || count > count_max {
        let text = format!("messages holds {count}; allowed is 1 to {count_max}");
        return Err(ApiError::bad_request(text));
    }
    let mut results: Vec<Option<BulkResult>> = (0..count).map(|_| None).collect();
    // By room: where each of its messages stands in the request, and the messages.
    let mut by_room: BTreeMap<RoomId, (Vec<usize>, Vec<BackendMessage>)> = BTreeMap::new();
    for (place, item) in body.messages.into_iter().enumerate() {
        let BulkMessage { room, user, class, text, data, client_msg_id, gift, count } = item;
        let message = PublishOne { user, class, text, data, client_msg_id, gift, count };
        let checked = room_id(&room).and_then(|room| Ok((room, shared.message(message)?)));
        match checked {
            Ok((room, message)) => {
                let (places, messages) = by_room.entry(room).or_default();
                places.push(place);
                messages.push(message);
            }
            Err(error) => results[place] = Some(failed(&error)),
        }
    }
    // All rooms are asked before any is waited for: they decide at the same time.
    let deadline = shared.deadline();
    let engine = &shared.api.engine;
    let pending: Vec<_> = by_room
        .into_iter()
        .map(|(room, (places, messages))| {
            let ask = |reply| engine.command(Command::Publish { room, messages, reply });
            (places, shared.ask(ask))
        })
        .collect();
    for (places, answer) in pending {
        let answer = shared.wait(answer, deadline).await;
        for (i, place) in places.into_iter().enumerate() {
            results[place] = Some(match &answer {
                Ok(published) => match published.get(i) {
                    Some(decided) => BulkResult::Decided(Verdict::from(*decided)),
                    None => failed(&no_verdict()),
                },
                Err(error) => failed(error),
            });
        }
    }
    let results = results.into_iter().map(|r| r.unwrap_or_else(|| failed(&no_verdict()))).collect();
    Ok(Json(BulkResults { results }))
}

impl Shared {
    /// A message for the engine, checked as far as it can be without its room.
    fn message(&self, said: PublishOne) -> Result<BackendMessage, ApiError> {
        let PublishOne { user, class, text, data, client_msg_id, gift, count } = said;
        check_user(&user)?;
        check_gift(class, gift.as_deref(), count)?;
        let content = match (text, data) {
            (Some(text), None) => Content::Text(Bytes::from(text)),
            (None, Some(data)) => {
                Content::Data(Bytes::from(STANDARD.decode(data).map_err(|_| {
                    ApiError::bad_request("data is not base64 (standard alphabet, padded)")
                })?))
            }
            (Some(_), Some(_)) => {
                return Err(ApiError::bad_request("text and data are both set; allowed is one"));
            }
            (None, None) if gift.is_some() => Content::Data(Bytes::new()),
            (None, None) => return Err(ApiError::from_code(Code::Empty)),
        };
        if content.is_empty() && gift.is_none() {
            return Err(ApiError::from_code(Code::Empty));
        }
        let bytes_max = self.api.payload_bytes_max as usize;
        if content.len() > bytes_max {
            let text = format!(
                "the content has {} bytes; no room here takes more than {bytes_max}",
                content.len()
            );
            return Err(ApiError::new(Code::TooLarge, text));
        }
        let client_msg_id = match client_msg_id {
            Some(id) if (1..=16).contains(&id.len()) => Bytes::from(id),
            Some(id) => {
                let text = format!("client_msg_id has {} bytes; allowed are 1 to 16", id.len());
                return Err(ApiError::new(Code::BadId, text));
            }
            None => self.next_message_id(),
        };
        let class = match class {
            Class::System => v1::Class::System,
            Class::Gift => v1::Class::Gift,
            Class::Chat => v1::Class::Chat,
        };
        Ok(BackendMessage { user, class, content, client_msg_id, gift, count })
    }

    /// `h` and up to 15 hexadecimal digits: unique within a run of the process for longer than
    /// it can last.
    fn next_message_id(&self) -> Bytes {
        let number = self.next_message.fetch_add(1, Ordering::Relaxed) & 0x0fff_ffff_ffff_ffff;
        Bytes::from(format!("h{number:x}"))
    }
}

/// The rule for a user's name in a body.
pub(crate) fn check_user(user: &str) -> Result<(), ApiError> {
    if user.is_empty() || user.len() > USER_BYTES_MAX {
        let text = format!("user has {} bytes; allowed are 1 to {USER_BYTES_MAX}", user.len());
        return Err(ApiError::bad_request(text));
    }
    Ok(())
}

/// The rule for a gift: what it is called and how many they are.
fn check_gift(class: Class, gift: Option<&str>, count: u32) -> Result<(), ApiError> {
    let Some(name) = gift else {
        if count > 0 {
            return Err(ApiError::bad_request("count is set without gift, which it counts"));
        }
        return Ok(());
    };
    if !matches!(class, Class::Gift) {
        return Err(ApiError::bad_request("gift is set; allowed is that with class gift alone"));
    }
    if !is_gift_name(name) {
        let text = format!(
            "gift has {} bytes; allowed are 1 to {GIFT_BYTES_MAX} without characters that show \
             nothing or turn the text (controls, formats)",
            name.len()
        );
        return Err(ApiError::bad_request(text));
    }
    if count > GIFTS_MAX {
        let text = format!("count is {count}; allowed is up to {GIFTS_MAX}");
        return Err(ApiError::bad_request(text));
    }
    Ok(())
}

fn failed(error: &ApiError) -> BulkResult {
    BulkResult::Failed { error: error.fields() }
}

fn no_verdict() -> ApiError {
    ApiError::new(Code::Internal, "the engine gave no verdict on this message")
}

impl From<Published> for Verdict {
    fn from(published: Published) -> Verdict {
        let accepted = published.outcome == v1::Outcome::Accepted;
        Verdict {
            outcome: published.outcome.as_str_name(),
            seq: accepted.then_some(published.seq),
            code: published.code.map(Code::number),
            name: published.code.map(Code::name),
            retry_after_ms: (published.retry_after_ms > 0).then_some(published.retry_after_ms),
        }
    }
}
