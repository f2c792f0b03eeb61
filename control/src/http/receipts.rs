//! Receipts of groups over HTTP: how many have read a message, and who.

use super::Context;
use super::caller::{User, accounts};
use super::errors::{ApiError, Missing};
use super::extract::Params;
use super::groups::{GroupId, bounds, next};
use super::relations::PageParams;
use crate::groups::looks;
use crate::store::receipts::Side;
use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// A user on one side of a message's receipts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Reader {
    #[schema(example = "bob")]
    user: String,
    user_id: String,
}

/// The receipts of one message.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReceiptPage {
    /// How many have read it, former members included; its sender is not counted.
    read: i64,
    /// How many members could read it and have not.
    unread: i64,
    /// Of the side that was asked for, in an order that stays the same.
    users: Vec<Reader>,
    /// Pass it as `after` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// How many have read one of the caller's messages.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CountView {
    /// A number as text, as all ids are.
    #[schema(example = "61")]
    seq: String,
    readers: i64,
}

/// A page of counts, the oldest message first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CountPage {
    counts: Vec<CountView>,
    /// Pass it as `after` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Which side.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SideWord {
    #[default]
    Read,
    Unread,
}

/// Which side, and which page of it.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SideParams {
    /// `read`: who has read it, the default; `unread`: who has not.
    side: Option<SideWord>,
    /// `next` of the page before.
    after: Option<String>,
    /// Entries on the page; 1 to 200, default 100.
    limit: Option<u32>,
}

/// The `{seq}` of a path.
pub(crate) struct Seq(pub(crate) i64);

impl<S: Send + Sync> FromRequestParts<S> for Seq {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        type Named = Path<Vec<(String, String)>>;
        let Path(named) = Named::from_request_parts(parts, state)
            .await
            .map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
        let seq = named.iter().find(|(name, _)| name == "seq").map_or("", |(_, seq)| seq);
        let seq = seq.parse().ok().filter(|seq| *seq > 0);
        seq.map(Seq).ok_or_else(|| ApiError::bad_request("seq is a number from 1 on"))
    }
}

/// Tells who has read a message, or who has not. Its sender asks, or a moderator.
#[utoipa::path(get, path = "/v1/groups/{group}/messages/{seq}/receipts", tag = "groups",
    params(("group" = String, Path, description = "the id of a group"),
        ("seq" = String, Path, description = "a message's seq"), SideParams),
    responses((status = 200, body = ReceiptPage), Missing), security(("access_token" = [])))]
pub(crate) async fn of_message(
    State(shared): Context,
    User(caller): User,
    GroupId(conv): GroupId,
    Seq(seq): Seq,
    Params(params): Params<SideParams>,
) -> Result<Json<ReceiptPage>, ApiError> {
    let SideParams { side, after, limit } = params;
    let (after, limit) = bounds(&PageParams { after, limit })?;
    let side = match side.unwrap_or_default() {
        SideWord::Read => Side::Read,
        SideWord::Unread => Side::Unread,
    };
    let store = accounts(&shared)?.store();
    let about = (caller.user, conv, seq);
    let mut receipts = looks::receipts(store, about, side, after, limit + 1).await?;
    let next = next(&mut receipts.users, limit, |(user, _)| *user);
    let reader = |(id, user): (i64, String)| Reader { user, user_id: id.to_string() };
    Ok(Json(ReceiptPage {
        read: receipts.read,
        unread: receipts.unread,
        users: receipts.users.into_iter().map(reader).collect(),
        next,
    }))
}

/// Tells how many have read each of the caller's own messages. `after` is a seq: those above it.
#[utoipa::path(get, path = "/v1/groups/{group}/receipts", tag = "groups",
    params(("group" = String, Path, description = "the id of a group"), PageParams),
    responses((status = 200, body = CountPage), Missing), security(("access_token" = [])))]
pub(crate) async fn own(
    State(shared): Context,
    User(caller): User,
    GroupId(conv): GroupId,
    Params(page): Params<PageParams>,
) -> Result<Json<CountPage>, ApiError> {
    let (above, limit) = bounds(&page)?;
    let store = accounts(&shared)?.store();
    let counts = looks::own_counts(store, (caller.user, conv), above, limit + 1).await?;
    let mut counts: Vec<(i64, i64)> = counts.into_iter().collect();
    let next = next(&mut counts, limit, |(seq, _)| *seq);
    let view = |(seq, readers): (i64, i64)| CountView { seq: seq.to_string(), readers };
    Ok(Json(CountPage { counts: counts.into_iter().map(view).collect(), next }))
}
