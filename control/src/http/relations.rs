//! Friends, blocks and followers over HTTP. People call these with their own tokens.
//!
//! Every PUT and DELETE may be repeated: what is so already stays so.

use super::Context;
use super::caller::{Named, User, accounts};
use super::errors::{ApiError, ErrorBody};
use super::extract::Params;
use crate::accounts::Caller;
use crate::relations::{self as rules, Act, Edge, Kind, Pair};
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Entries on a page where the caller does not say.
const PAGE_DEFAULT: u32 = 100;

/// What two users are to each other, as the caller may know it. Whether the other one blocks the
/// caller is not told; what a block forbids answers `BLOCKED`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Relation {
    #[schema(example = "bob")]
    user: String,
    friend: bool,
    /// The caller asked to be friends.
    asked: bool,
    /// The other one asked.
    asking: bool,
    /// The caller blocks the other one.
    blocks: bool,
    /// The caller follows the other one.
    follows: bool,
    /// The other one follows the caller.
    followed: bool,
}

/// A user in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ListedUser {
    #[schema(example = "bob")]
    user: String,
    user_id: String,
    /// When the two last became something else to each other.
    changed_unix_ms: i64,
}

/// A page of a list, in an order that stays the same.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UserPage {
    users: Vec<ListedUser>,
    /// Entries of the whole list.
    count: i64,
    /// Pass it as `after` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageParams {
    /// `next` of the page before.
    pub(crate) after: Option<String>,
    /// Entries on the page; 1 to 200, default 100.
    pub(crate) limit: Option<u32>,
}

/// Which requests, and which page of them.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RequestParams {
    /// `in`: those that wait for the caller, the default; `out`: those the caller made.
    direction: Option<Direction>,
    /// `next` of the page before.
    after: Option<String>,
    /// Entries on the page; 1 to 200, default 100.
    limit: Option<u32>,
}

/// Which way a request goes.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Direction {
    #[default]
    In,
    Out,
}

type Changed = Result<Json<Relation>, ApiError>;
type Listing = Result<Json<UserPage>, ApiError>;
type Page = Params<PageParams>;

/// Lists the caller's friends.
#[utoipa::path(get, path = "/v1/friends", tag = "relations", params(PageParams),
    responses(
        (status = 200, body = UserPage),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 503, body = ErrorBody, description = "this node keeps no accounts"),
    ), security(("access_token" = [])))]
pub(crate) async fn friends(
    State(shared): Context,
    User(caller): User,
    Params(page): Page,
) -> Listing {
    list(&shared, &caller, Kind::Friends, page).await
}

/// Lists whom the caller blocks.
#[utoipa::path(get, path = "/v1/blocks", tag = "relations", params(PageParams),
    responses(
        (status = 200, body = UserPage),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 503, body = ErrorBody, description = "this node keeps no accounts"),
    ), security(("access_token" = [])))]
pub(crate) async fn blocks(
    State(shared): Context,
    User(caller): User,
    Params(page): Page,
) -> Listing {
    list(&shared, &caller, Kind::Blocks, page).await
}

/// Lists whom the caller follows.
#[utoipa::path(get, path = "/v1/follows", tag = "relations", params(PageParams),
    responses(
        (status = 200, body = UserPage),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 503, body = ErrorBody, description = "this node keeps no accounts"),
    ), security(("access_token" = [])))]
pub(crate) async fn follows(
    State(shared): Context,
    User(caller): User,
    Params(page): Page,
) -> Listing {
    list(&shared, &caller, Kind::Follows, page).await
}

/// Lists who follows the caller.
#[utoipa::path(get, path = "/v1/followers", tag = "relations", params(PageParams),
    responses(
        (status = 200, body = UserPage),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 503, body = ErrorBody, description = "this node keeps no accounts"),
    ), security(("access_token" = [])))]
pub(crate) async fn followers(
    State(shared): Context,
    User(caller): User,
    Params(page): Page,
) -> Listing {
    list(&shared, &caller, Kind::Followers, page).await
}

/// Lists requests to be friends.
#[utoipa::path(get, path = "/v1/friend-requests", tag = "relations", params(RequestParams),
    responses(
        (status = 200, body = UserPage),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 503, body = ErrorBody, description = "this node keeps no accounts"),
    ), security(("access_token" = [])))]
pub(crate) async fn requests(
    State(shared): Context,
    User(caller): User,
    Params(params): Params<RequestParams>,
) -> Listing {
    let RequestParams { direction, after, limit } = params;
    let kind = match direction.unwrap_or_default() {
        Direction::In => Kind::Asking,
        Direction::Out => Kind::Asked,
    };
    list(&shared, &caller, kind, PageParams { after, limit }).await
}

/// Tells what the caller and a user are to each other.
#[utoipa::path(get, path = "/v1/friends/{user}", tag = "relations",
    params(("user" = String, Path, description = "a user's name")),
    responses(
        (status = 200, body = Relation),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 503, body = ErrorBody, description = "this node keeps no accounts"),
    ), security(("access_token" = [])))]
pub(crate) async fn between(
    State(shared): Context,
    User(caller): User,
    Named(name): Named,
) -> Changed {
    let store = accounts(&shared)?.store();
    let peer = rules::peer(store, &name).await?;
    Ok(Json(relation(name, rules::between(store, caller.user, peer).await?)))
}

/// Asks a user to be friends. Where that one asked before, both are friends now.
#[utoipa::path(put, path = "/v1/friends/{user}", tag = "relations",
    params(("user" = String, Path, description = "a user's name")),
    responses(
        (status = 200, body = Relation),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody, description = "one of the two blocks the other"),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "as many as there may be"),
        (status = 503, body = ErrorBody, description = "this node keeps no accounts"),
    ), security(("access_token" = [])))]
pub(crate) async fn ask(State(shared): Context, User(caller): User, Named(name): Named) -> Changed {
    act(&shared, &caller, name, Act::Ask).await
}

/// Ends a friendship.
#[utoipa::path(delete, path = "/v1/friends/{user}", tag = "relations",
    params(("user" = String, Path, description = "a user's name")),
    responses(
        (status = 200, body = Relation),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 503, body = ErrorBody, description = "this node keeps no accounts"),
    ), security(("access_token" = [])))]
pub(crate) async fn remove(
    State(shared): Context,
    User(caller): User,
    Named(name): Named,
) -> Changed {
    act(&shared, &caller, name, Act::Remove).await
}

/// Takes a user's request: both are friends now; 404 where there is no request (any more).
#[utoipa::path(put, path = "/v1/friend-requests/{user}", tag = "relations",
    params(("user" = String, Path, description = "a user's name")),
    responses(
        (status = 200, body = Relation),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody, description = "one of the two blocks the other"),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "as many friends as there may be"),
        (status = 503, body = ErrorBody, description = "this node keeps no accounts"),
    ), security(("access_token" = [])))]
pub(crate) async fn accept(
    State(shared): Context,
    User(caller): User,
    Named(name): Named,
) -> Changed {
    act(&shared, &caller, name, Act::Accept).await
}

/// Declines a user's request, or withdraws one's own.
#[utoipa::path(delete, path = "/v1/friend-requests/{user}", tag = "relations",
    params(("user" = String, Path, description = "a user's name")),
    responses(
        (status = 200, body = Relation),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 503, body = ErrorBody, description = "this node keeps no accounts"),
    ), security(("access_token" = [])))]
pub(crate) async fn decline(
    State(shared): Context,
    User(caller): User,
    Named(name): Named,
) -> Changed {
    act(&shared, &caller, name, Act::Decline).await
}

/// Blocks a user: whatever was between the two ends, and neither reaches the other.
#[utoipa::path(put, path = "/v1/blocks/{user}", tag = "relations",
    params(("user" = String, Path, description = "a user's name")),
    responses(
        (status = 200, body = Relation),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "as many blocks as there may be"),
        (status = 503, body = ErrorBody, description = "this node keeps no accounts"),
    ), security(("access_token" = [])))]
pub(crate) async fn block(
    State(shared): Context,
    User(caller): User,
    Named(name): Named,
) -> Changed {
    act(&shared, &caller, name, Act::Block).await
}

/// Lifts a block; it brings nothing back.
#[utoipa::path(delete, path = "/v1/blocks/{user}", tag = "relations",
    params(("user" = String, Path, description = "a user's name")),
    responses(
        (status = 200, body = Relation),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 503, body = ErrorBody, description = "this node keeps no accounts"),
    ), security(("access_token" = [])))]
pub(crate) async fn unblock(
    State(shared): Context,
    User(caller): User,
    Named(name): Named,
) -> Changed {
    act(&shared, &caller, name, Act::Unblock).await
}

/// Follows a user, and with it the rooms that it owns: an access token says so from the next log-in
/// or refresh on.
#[utoipa::path(put, path = "/v1/follows/{user}", tag = "relations",
    params(("user" = String, Path, description = "a user's name")),
    responses(
        (status = 200, body = Relation),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody, description = "one of the two blocks the other"),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "as many follows as there may be"),
        (status = 503, body = ErrorBody, description = "this node keeps no accounts"),
    ), security(("access_token" = [])))]
pub(crate) async fn follow(
    State(shared): Context,
    User(caller): User,
    Named(name): Named,
) -> Changed {
    act(&shared, &caller, name, Act::Follow).await
}

/// Unfollows a user.
#[utoipa::path(delete, path = "/v1/follows/{user}", tag = "relations",
    params(("user" = String, Path, description = "a user's name")),
    responses(
        (status = 200, body = Relation),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 503, body = ErrorBody, description = "this node keeps no accounts"),
    ), security(("access_token" = [])))]
pub(crate) async fn unfollow(
    State(shared): Context,
    User(caller): User,
    Named(name): Named,
) -> Changed {
    act(&shared, &caller, name, Act::Unfollow).await
}

async fn act(shared: &super::Shared, caller: &Caller, name: String, act: Act) -> Changed {
    let store = accounts(shared)?.store();
    let peer = rules::peer(store, &name).await?;
    let now_ms = store.now_ms();
    let changed = rules::act(store, caller.user, peer, act, now_ms).await?;
    if let Some(conversations) = &shared.api.conversations {
        conversations.related(&caller.name, &name, changed, now_ms).await;
    }
    Ok(Json(relation(name, changed.after)))
}

async fn list(shared: &super::Shared, caller: &Caller, kind: Kind, page: PageParams) -> Listing {
    let after = page.after.map(|after| after.parse::<i64>()).transpose();
    let after = after.map_err(|_| ApiError::bad_request("after is not the next of a page"))?;
    let limit = page.limit.unwrap_or(PAGE_DEFAULT);
    let store = accounts(shared)?.store();
    let page = rules::list(store, caller.user, kind, after, limit).await?;
    let view = |listed: crate::store::relations::Listed| ListedUser {
        user: listed.name,
        user_id: listed.user.to_string(),
        changed_unix_ms: listed.changed_ms,
    };
    Ok(Json(UserPage {
        users: page.users.into_iter().map(view).collect(),
        count: page.count,
        next: page.next.map(|next| next.to_string()),
    }))
}

fn relation(user: String, pair: Pair) -> Relation {
    Relation {
        user,
        friend: pair.own.has(Edge::FRIEND),
        asked: pair.own.has(Edge::ASKED),
        asking: pair.own.has(Edge::ASKING),
        blocks: pair.own.has(Edge::BLOCKS),
        follows: pair.own.has(Edge::FOLLOWS),
        followed: pair.theirs.has(Edge::FOLLOWS),
    }
}
