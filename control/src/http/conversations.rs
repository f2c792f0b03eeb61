//! What a user sets for one of its conversations, and who reacted to its messages, over HTTP.
//! People call these with their own tokens; a conversation is `user:NAME` or `group:ID`.

use super::caller::{User, accounts};
use super::errors::{ApiError, Missing};
use super::extract::{Body, Params};
use super::groups::{bounds, next};
use super::receipts::Seq;
use super::relations::PageParams;
use super::{Context, Shared};
use crate::accounts::Caller;
use crate::conversations::words::Named;
use crate::fault::Fault;
use crate::store::{conversations as rows, reactions, users};
use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};
use uproar_proto::error::Code;
use uproar_proto::names;
use utoipa::{IntoParams, ToSchema};

/// The `{conversation}` of a path.
pub(crate) struct Conversation(String);

impl<S: Send + Sync> FromRequestParts<S> for Conversation {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        type Named = Path<Vec<(String, String)>>;
        let Path(named) = Named::from_request_parts(parts, state)
            .await
            .map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
        let name = named.into_iter().find(|(name, _)| name == "conversation");
        Ok(Conversation(name.map(|(_, name)| name).unwrap_or_default()))
    }
}

/// Body of `PATCH /v1/conversations/{conversation}`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConversationSettings {
    /// The user wants no notifications of it. The server only tells the user's devices.
    silent: bool,
}

/// A reaction and how many have it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReactionView {
    #[schema(example = "+1")]
    reaction: String,
    count: u32,
}

/// A user who reacted.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Reactor {
    #[schema(example = "bob")]
    user: String,
    user_id: String,
    reactions: Vec<String>,
}

/// The reactions to one message.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReactionPage {
    /// Of all users, the first one used first.
    totals: Vec<ReactionView>,
    /// The caller's own.
    own: Vec<String>,
    /// Who reacted, in an order that stays the same.
    users: Vec<Reactor>,
    /// Pass it as `after` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Which reactions, and which page of who made them.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReactionParams {
    /// Users with this reaction alone.
    reaction: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
    /// Entries on the page; 1 to 200, default 100.
    limit: Option<u32>,
}

/// The conversation a caller means.
async fn meant(shared: &Shared, caller: &Caller, name: &str) -> Result<i64, Fault> {
    let store = accounts(shared).map_err(|_| Code::NoStore)?.store();
    let mut conn = store.reader().await?;
    match Named::parse(name)? {
        Named::Group(conv) => Ok(conv),
        Named::User(peer) => {
            let (issuer, own) = names::split(peer);
            let peer = users::find(&mut conn, issuer, own).await?.ok_or(Code::NotFound)?;
            Ok(rows::direct(&mut conn, caller.user, peer.id).await?)
        }
    }
}

/// Makes a conversation silent, or not. The user's devices are told.
#[utoipa::path(patch, path = "/v1/conversations/{conversation}", tag = "conversations",
    params(("conversation" = String, Path, description = "user:NAME or group:ID")),
    request_body = ConversationSettings,
    responses((status = 204, description = "changed"), Missing),
    security(("access_token" = [])))]
pub(crate) async fn update(
    State(shared): Context,
    User(caller): User,
    Conversation(name): Conversation,
    Body(body): Body<ConversationSettings>,
) -> Result<StatusCode, ApiError> {
    let store = accounts(&shared)?.store();
    let (of, now_ms) = ((meant(&shared, &caller, &name).await?, caller.user), store.now_ms());
    let silenced = store.write(move |conn| {
        Box::pin(async move { rows::silence(conn, of, body.silent, now_ms).await })
    });
    if !silenced.await? {
        return Err(Fault::from(Code::NotMember).into());
    }
    if let Some(conversations) = &shared.api.conversations {
        conversations.silenced(&caller.name).await;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Tells which reactions a message has, and who made them. Whoever may read the message asks.
#[utoipa::path(get, path = "/v1/conversations/{conversation}/messages/{seq}/reactions",
    tag = "conversations",
    params(("conversation" = String, Path, description = "user:NAME or group:ID"),
        ("seq" = String, Path, description = "a message's seq"), ReactionParams),
    responses((status = 200, body = ReactionPage), Missing), security(("access_token" = [])))]
pub(crate) async fn reactions(
    State(shared): Context,
    User(caller): User,
    Conversation(name): Conversation,
    Seq(seq): Seq,
    Params(params): Params<ReactionParams>,
) -> Result<Json<ReactionPage>, ApiError> {
    let ReactionParams { reaction, after, limit } = params;
    let (after, limit) = bounds(&PageParams { after, limit })?;
    let conv = meant(&shared, &caller, &name).await?;
    let mut conn = accounts(&shared)?.store().reader().await?;
    let readable = rows::readable(&mut conn, conv, caller.user).await?;
    if readable.is_empty() {
        return Err(Fault::from(Code::NotMember).into());
    }
    if !readable.iter().any(|(from, to)| (*from..=*to).contains(&seq)) {
        return Err(Fault::from(Code::NotFound).into());
    }
    let beside = reactions::of_message(&mut conn, (conv, seq), caller.user).await?;
    let only = reaction.as_deref();
    let mut users = reactions::list(&mut conn, (conv, seq), only, after, limit + 1).await?;
    let next = next(&mut users, limit, |(user, ..)| *user);
    let view = |(id, user, reactions): (i64, String, Vec<String>)| Reactor {
        user,
        user_id: id.to_string(),
        reactions,
    };
    let totals = beside.totals.into_iter();
    Ok(Json(ReactionPage {
        totals: totals.map(|t| ReactionView { reaction: t.reaction, count: t.count }).collect(),
        own: beside.own,
        users: users.into_iter().map(view).collect(),
        next,
    }))
}
