//! Links into groups: whoever has one may join until it ends or was used up.

use super::Context;
use super::caller::{User, accounts};
use super::errors::{ApiError, Full, Missing};
use super::extract::Body;
use super::groups::{Entered, GroupId, change, change_once, now_ms};
use super::idempotency::{Key, used};
use crate::conversations::words;
use crate::groups::{Act, Changed, Link, looks};
use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A link lives for a week where its maker does not say, and for a year at most.
const TTL_S_DEFAULT: i64 = 7 * 86_400;
const TTL_S_MAX: i64 = 365 * 86_400;
const USES_MAX: i64 = 1_000_000;

/// Body of `POST /v1/groups/{group}/links`.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewLink {
    /// Seconds it lives; 1 to 31,536,000, default a week.
    ttl_s: Option<i64>,
    /// How many may come by it; 1 to 1,000,000, default as many.
    uses_max: Option<i64>,
}

/// A link of a group.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LinkView {
    /// What is given to those who shall join.
    #[schema(example = "n0vJ3b2uQm2Yh1QJm1o2xA")]
    link: String,
    expires_unix_ms: i64,
    uses_left: i64,
}

impl LinkView {
    fn of(link: Link) -> LinkView {
        let Link { token, expires_ms, uses_left, .. } = link;
        LinkView { link: token, expires_unix_ms: expires_ms, uses_left }
    }
}

/// The links of a group, all of them: there are at most 100.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Links {
    links: Vec<LinkView>,
}

/// What a link leads to.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Behind {
    #[schema(example = "00000000deadbeef")]
    group: String,
    name: String,
    members: i64,
}

/// The `{link}` of a path.
pub(crate) struct Token(String);

impl<S: Send + Sync> FromRequestParts<S> for Token {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        type Named = Path<Vec<(String, String)>>;
        let Path(named) = Named::from_request_parts(parts, state)
            .await
            .map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
        let link = named.into_iter().find(|(name, _)| name == "link");
        Ok(Token(link.map(|(_, link)| link).unwrap_or_default()))
    }
}

/// Makes a link: a moderator does. With the header `Idempotency-Key`, a repeat within a day gets
/// the same link.
#[utoipa::path(post, path = "/v1/groups/{group}/links", tag = "groups",
    params(("group" = String, Path, description = "the id of a group"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 64 visible ASCII")),
    request_body = NewLink,
    responses((status = 201, body = LinkView), Missing, Full), security(("access_token" = [])))]
pub(crate) async fn make(
    State(shared): Context,
    User(caller): User,
    GroupId(conv): GroupId,
    key: Key,
    Body(body): Body<NewLink>,
) -> Result<Response, ApiError> {
    let now_ms = now_ms(&shared)?;
    let asked = (conv, &body);
    let once = used(key, &caller, "POST /v1/groups/{group}/links", &asked, now_ms);
    let ttl_s = body.ttl_s.unwrap_or(TTL_S_DEFAULT);
    let uses_max = body.uses_max.unwrap_or(USES_MAX);
    for (field, value, max) in [("ttl_s", ttl_s, TTL_S_MAX), ("uses_max", uses_max, USES_MAX)] {
        if !(1..=max).contains(&value) {
            let text = format!("{field} is {value}; allowed is 1 to {max}");
            return Err(ApiError::bad_request(text));
        }
    }
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&crate::ids::random_id().to_be_bytes());
    bytes[8..].copy_from_slice(&crate::ids::random_id().to_be_bytes());
    let link = Link {
        token: URL_SAFE_NO_PAD.encode(bytes),
        conv,
        made_by: caller.user,
        expires_ms: now_ms + ttl_s * 1000,
        uses_left: uses_max,
    };
    let act = Act::MakeLink { link: link.clone() };
    let answer = move |_: &Changed| LinkView::of(link.clone());
    change_once(&shared, &caller, conv, act, once, (StatusCode::CREATED, answer)).await
}

/// Lists the links of a group: for moderators.
#[utoipa::path(get, path = "/v1/groups/{group}/links", tag = "groups",
    params(("group" = String, Path, description = "the id of a group")),
    responses((status = 200, body = Links), Missing), security(("access_token" = [])))]
pub(crate) async fn list(
    State(shared): Context,
    User(caller): User,
    GroupId(conv): GroupId,
) -> Result<Json<Links>, ApiError> {
    let links = looks::links(accounts(&shared)?.store(), (caller.user, conv)).await?;
    Ok(Json(Links { links: links.into_iter().map(LinkView::of).collect() }))
}

/// Ends a link: a moderator does.
#[utoipa::path(delete, path = "/v1/groups/{group}/links/{link}", tag = "groups",
    params(("group" = String, Path, description = "the id of a group"),
        ("link" = String, Path, description = "a link of it")),
    responses((status = 204), Missing), security(("access_token" = [])))]
pub(crate) async fn end(
    State(shared): Context,
    User(caller): User,
    GroupId(conv): GroupId,
    Token(token): Token,
) -> Result<StatusCode, ApiError> {
    change(&shared, &caller, conv, Act::EndLink { token }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Tells which group a link leads to.
#[utoipa::path(get, path = "/v1/group-links/{link}", tag = "groups",
    params(("link" = String, Path, description = "a link")),
    responses((status = 200, body = Behind), Missing), security(("access_token" = [])))]
pub(crate) async fn look(
    State(shared): Context,
    _caller: User,
    Token(token): Token,
) -> Result<Json<Behind>, ApiError> {
    let store = accounts(&shared)?.store();
    let group = looks::behind(store, &token, store.now_ms()).await?;
    let id = words::group_id(group.conv);
    Ok(Json(Behind { group: id, name: group.name, members: group.size }))
}

/// Joins the group a link leads to, or waits for a moderator where the group wants that. With the
/// header `Idempotency-Key`, a repeat within a day gets the same answer.
#[utoipa::path(post, path = "/v1/group-links/{link}", tag = "groups",
    params(("link" = String, Path, description = "a link"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 64 visible ASCII")),
    responses((status = 200, body = Entered), Missing, Full), security(("access_token" = [])))]
pub(crate) async fn join(
    State(shared): Context,
    User(caller): User,
    Token(token): Token,
    key: Key,
) -> Result<Response, ApiError> {
    let store = accounts(&shared)?.store();
    let once = used(key, &caller, "POST /v1/group-links/{link}", &token, store.now_ms());
    let conv = looks::linked(store, &token).await?;
    let act = Act::Join { link: Some(token), text: String::new() };
    let answer = |changed: &Changed| Entered::of(changed.clone(), Vec::new());
    change_once(&shared, &caller, conv, act, once, (StatusCode::OK, answer)).await
}
