//! Announcements of the operator to everybody who is in a room, on all nodes.

use super::Context;
use super::actor::Actor;
use super::errors::{ApiError, ErrorBody};
use super::extract::Body;
use super::publish::check_user;
use crate::fault::Fault;
use crate::process::unix_ms;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use std::hash::{BuildHasher, RandomState};
use uproar_proto::control::Tell;
use uproar_proto::error::Code;
use uproar_proto::v1::{self, message::Content};
use utoipa::ToSchema;

/// Announcements at once; then one each `EVERY_MS`: each costs a send a connection.
pub(super) const BURST: u32 = 3;
pub(super) const EVERY_MS: u32 = 10_000;

/// What everybody is told.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Announcement {
    /// Shown as the sender; 1 to 64 bytes.
    #[schema(example = "uproar")]
    user: String,
    /// As long as a message may be.
    #[schema(example = "back at nine")]
    text: String,
}

/// Tells every connection that is in a room, on every node, once. Three at once, then one in 10 s.
#[utoipa::path(post, path = "/v1/broadcast", tag = "publish", request_body = Announcement,
    responses(
        (status = 202, description = "it is on its way"),
        (status = 429, body = ErrorBody, description = "too many of them"),
    ), security(("api_key" = [])))]
pub(crate) async fn announce(
    State(shared): Context,
    actor: Actor,
    Body(body): Body<Announcement>,
) -> Result<StatusCode, ApiError> {
    let Announcement { user, text } = body;
    check_user(&user)?;
    let bytes_max = shared.api.payload_bytes_max as usize;
    if text.is_empty() || text.len() > bytes_max {
        let text = format!("text has {} bytes; allowed are 1 to {bytes_max}", text.len());
        return Err(ApiError::bad_request(text));
    }
    shared.announcements.take((), unix_ms()).map_err(Fault::slow_down)?;
    let message = Box::new(v1::Message {
        class: v1::Class::System.into(),
        user,
        time_ms: unix_ms().cast_unsigned(),
        content: Some(Content::Text(text)),
        ..v1::Message::default()
    });
    // Random: nobody else's announcement has it.
    let id = RandomState::new().hash_one(message.time_ms);
    let told = shared.api.engine.tell(Tell::Announce { id, message });
    told.map_err(|_| ApiError::from_code(Code::QueueFull))?;
    shared.audit.write(vec![actor.entry("broadcast", "")]).await;
    Ok(StatusCode::ACCEPTED)
}
