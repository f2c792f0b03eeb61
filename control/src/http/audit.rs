//! The audit log over HTTP.

use super::Context;
use super::caller::accounts;
use super::errors::ApiError;
use super::extract::{Params, room_id};
use crate::audit::{Audit, Entry};
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Entries on a page where the caller does not say, and at most.
const PAGE_DEFAULT: i64 = 50;
const PAGE_MAX: i64 = 500;

/// A page of the audit log, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditPage {
    entries: Vec<AuditEntry>,
    /// Pass it as `after` for what came before; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Something that was done.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditEntry {
    at_unix_ms: i64,
    /// `key`: a backend with the API key; `operator`: one in a browser; `user:NAME`: a user with a
    /// role in the room.
    #[schema(example = "user:ann")]
    who: String,
    /// The address it came from.
    from: String,
    /// `kick`, `ban`, `unban`, `mute`, `unmute`, `role.set`, `role.remove`, `room.create`,
    /// `room.update`, `room.close`, `filter.replace`, `filter.change`, `block`, `unblock`,
    /// `recall`, `attributes`, `pin`, `unpin`, `poll.open`, `poll.end`, `broadcast`,
    /// `danmaku.recall`, `node.drain`, `user.ban`, `user.unban`, `user.revoke`, `user.take_over`,
    /// `user.export`, `user.erase`, `group.end`, `group.remove`, `group.transfer`,
    /// `messages.search` or `messages.recall`.
    #[schema(example = "mute")]
    what: String,
    /// Empty: of no room.
    room: String,
    /// A user's name; empty: of nobody.
    whom: String,
    /// What else there is to know, as `name=value`; of a room its settings, as JSON cut off at 512
    /// bytes.
    #[schema(example = "seconds=60")]
    detail: String,
    reason: String,
}

impl From<Entry> for AuditEntry {
    fn from(entry: Entry) -> AuditEntry {
        let Entry { at_ms, id: _, who, origin, what, room, whom, detail, reason } = entry;
        AuditEntry { at_unix_ms: at_ms, who, from: origin, what, room, whom, detail, reason }
    }
}

/// Which entries.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditParams {
    /// Those of one room.
    room: Option<String>,
    /// Those before this one, as `next` of a page has it.
    after: Option<String>,
    /// 1 to 500, default 50.
    limit: Option<i64>,
}

/// What was done by moderators and operators, the newest first. Entries are kept for
/// `store.audit_days`.
#[utoipa::path(get, path = "/v1/audit", tag = "moderation", params(AuditParams),
    responses((status = 200, body = AuditPage)), security(("api_key" = [])))]
pub(crate) async fn list(
    State(shared): Context,
    Params(AuditParams { room, after, limit }): Params<AuditParams>,
) -> Result<Json<AuditPage>, ApiError> {
    let limit = limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        let text = format!("limit is {limit}; allowed is 1 to {PAGE_MAX}");
        return Err(ApiError::bad_request(text));
    }
    let room = room.as_deref().map(room_id).transpose()?;
    let place = |text: &str| {
        let (at_ms, id) = text.split_once('.')?;
        Some((at_ms.parse().ok()?, id.parse().ok()?))
    };
    let bad = || ApiError::bad_request("after is no next of a page");
    let after = after.map(|text| place(&text).ok_or_else(bad)).transpose()?;
    let store = accounts(&shared)?.store();
    let room = room.as_ref().map(|room| room.as_str());
    let mut entries = Audit::page(store, room, after, limit + 1).await?;
    let has_more = entries.len() as i64 > limit;
    entries.truncate(limit as usize);
    let last = entries.last().filter(|_| has_more);
    let next = last.map(|entry| format!("{}.{}", entry.at_ms, entry.id));
    Ok(Json(AuditPage { entries: entries.into_iter().map(AuditEntry::from).collect(), next }))
}
