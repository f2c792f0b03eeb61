//! Members of groups over HTTP: who is in, who comes, who goes, and what each may do.

use super::Context;
use super::caller::{User, accounts};
use super::errors::{ApiError, Full, Missing};
use super::extract::{Body, Params};
use super::groups::{
    Entered, GroupId, GroupView, RoleWord, bounds, change, change_once, next, now_ms, people,
    person, view,
};
use super::idempotency::{Key, used};
use super::relations::PageParams;
use crate::groups::{Act, Changed, Member, REQUEST_BYTES_MAX, looks};
use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The longest mute, in seconds: ten years.
const MUTE_S_MAX: i64 = 10 * 365 * 86_400;

/// A member of a group.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MemberView {
    #[schema(example = "bob")]
    user: String,
    user_id: String,
    /// `member`, `moderator` or `owner`.
    role: &'static str,
    /// May not write until then; 0: may.
    muted_until_unix_ms: i64,
}

/// A page of members, in an order that stays the same.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MemberPage {
    members: Vec<MemberView>,
    /// Members of the whole group.
    count: i64,
    /// Pass it as `after` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Somebody who waits to be let in.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RequestView {
    #[schema(example = "bob")]
    user: String,
    user_id: String,
    text: String,
    asked_unix_ms: i64,
}

/// A page of those who wait.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RequestPage {
    requests: Vec<RequestView>,
    /// Pass it as `after` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Body of `POST /v1/groups/{group}/members`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Invitation {
    /// Names, at most 1,000: users the caller may write to.
    users: Vec<String>,
}

/// Body of `PATCH /v1/groups/{group}/members/{user}`: what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemberSettings {
    role: Option<RoleWord>,
    /// The member may not write for so many seconds; 0 ends a mute.
    mute_s: Option<i64>,
}

/// Body of `PUT /v1/groups/{group}/owner`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewOwner {
    /// A member.
    pub(crate) user: String,
}

/// Body of `POST /v1/groups/{group}/requests`.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asking {
    /// What the moderators read, at most 256 bytes.
    #[serde(default)]
    text: String,
}

/// The `{user}` of a path that has a `{group}` too.
pub(crate) struct Person(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Person {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        type Named = Path<Vec<(String, String)>>;
        let Path(named) = Named::from_request_parts(parts, state)
            .await
            .map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
        let user = named.into_iter().find(|(name, _)| name == "user");
        Ok(Person(user.map(|(_, user)| user).unwrap_or_default()))
    }
}

/// Lists the members of a group.
#[utoipa::path(get, path = "/v1/groups/{group}/members", tag = "groups",
    params(("group" = String, Path, description = "the id of a group"), PageParams),
    responses((status = 200, body = MemberPage), Missing), security(("access_token" = [])))]
pub(crate) async fn list(
    State(shared): Context,
    User(caller): User,
    GroupId(conv): GroupId,
    Params(page): Params<PageParams>,
) -> Result<Json<MemberPage>, ApiError> {
    let (after, limit) = bounds(&page)?;
    let store = accounts(&shared)?.store();
    let count = looks::seen(store, caller.user, conv).await?.group.size;
    let members = looks::members(store, (caller.user, conv), after, limit + 1).await?;
    Ok(Json(member_page(members, count, limit)))
}

/// A page of a group that has `count` members, where one more than asked for was looked up.
pub(crate) fn member_page(
    mut members: Vec<(Member, String)>,
    count: i64,
    limit: i64,
) -> MemberPage {
    let next = next(&mut members, limit, |(member, _)| member.user);
    let members = members.into_iter().map(|(member, user)| MemberView {
        user,
        user_id: member.user.to_string(),
        role: member.role.word(),
        muted_until_unix_ms: member.muted_until_ms,
    });
    MemberPage { members: members.collect(), count, next }
}

/// Invites users: they are members at once, or wait for a moderator where the group wants that.
/// With the header `Idempotency-Key`, a repeat within a day gets the same answer.
#[utoipa::path(post, path = "/v1/groups/{group}/members", tag = "groups",
    params(("group" = String, Path, description = "the id of a group"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 64 visible ASCII")),
    request_body = Invitation,
    responses((status = 200, body = Entered), Missing, Full), security(("access_token" = [])))]
pub(crate) async fn invite(
    State(shared): Context,
    User(caller): User,
    GroupId(conv): GroupId,
    key: Key,
    Body(body): Body<Invitation>,
) -> Result<Response, ApiError> {
    let asked = (conv, &body);
    let once = used(key, &caller, "POST /v1/groups/{group}/members", &asked, now_ms(&shared)?);
    let (users, unknown) = people(&shared, &body.users).await?;
    let answer = move |changed: &Changed| Entered::of(changed.clone(), unknown.clone());
    let act = Act::Invite { users };
    change_once(&shared, &caller, conv, act, once, (StatusCode::OK, answer)).await
}

/// Leaves a group (the caller's own name), or removes a member from it.
#[utoipa::path(delete, path = "/v1/groups/{group}/members/{user}", tag = "groups",
    params(("group" = String, Path, description = "the id of a group"),
        ("user" = String, Path, description = "a member's name")),
    responses((status = 204), Missing), security(("access_token" = [])))]
pub(crate) async fn remove(
    State(shared): Context,
    User(caller): User,
    GroupId(conv): GroupId,
    Person(name): Person,
) -> Result<StatusCode, ApiError> {
    let act = match name == caller.name {
        true => Act::Leave,
        false => Act::Remove { user: person(&shared, name).await? },
    };
    change(&shared, &caller, conv, act).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Changes what a member may do.
#[utoipa::path(patch, path = "/v1/groups/{group}/members/{user}", tag = "groups",
    params(("group" = String, Path, description = "the id of a group"),
        ("user" = String, Path, description = "a member's name")),
    request_body = MemberSettings,
    responses((status = 204), Missing), security(("access_token" = [])))]
pub(crate) async fn update(
    State(shared): Context,
    User(caller): User,
    GroupId(conv): GroupId,
    Person(name): Person,
    Body(body): Body<MemberSettings>,
) -> Result<StatusCode, ApiError> {
    let user = person(&shared, name).await?;
    if let Some(mute_s) = body.mute_s {
        if !(0..=MUTE_S_MAX).contains(&mute_s) {
            let text = format!("mute_s is {mute_s}; allowed is 0 to {MUTE_S_MAX}");
            return Err(ApiError::bad_request(text));
        }
        let now_ms = accounts(&shared)?.store().now_ms();
        let until_ms = if mute_s == 0 { 0 } else { now_ms + mute_s * 1000 };
        let act = Act::Mute { user: user.clone(), until_ms };
        change(&shared, &caller, conv, act).await?;
    }
    if let Some(role) = body.role {
        let act = Act::SetRole { user, role: role.rule() };
        change(&shared, &caller, conv, act).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Hands the group on to another member; the caller stays as a moderator.
#[utoipa::path(put, path = "/v1/groups/{group}/owner", tag = "groups",
    params(("group" = String, Path, description = "the id of a group")),
    request_body = NewOwner,
    responses((status = 200, body = GroupView), Missing), security(("access_token" = [])))]
pub(crate) async fn transfer(
    State(shared): Context,
    User(caller): User,
    GroupId(conv): GroupId,
    Body(body): Body<NewOwner>,
) -> Result<Json<GroupView>, ApiError> {
    let user = person(&shared, body.user).await?;
    change(&shared, &caller, conv, Act::Transfer { user }).await?;
    view(&shared, &caller, conv).await
}

/// Asks to be let in. An open group lets in at once. With the header `Idempotency-Key`, a repeat
/// within a day gets the same answer.
#[utoipa::path(post, path = "/v1/groups/{group}/requests", tag = "groups",
    params(("group" = String, Path, description = "the id of a group"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 64 visible ASCII")),
    request_body = Asking,
    responses((status = 200, body = Entered), Missing, Full), security(("access_token" = [])))]
pub(crate) async fn ask(
    State(shared): Context,
    User(caller): User,
    GroupId(conv): GroupId,
    key: Key,
    Body(body): Body<Asking>,
) -> Result<Response, ApiError> {
    let asked = (conv, &body);
    let once = used(key, &caller, "POST /v1/groups/{group}/requests", &asked, now_ms(&shared)?);
    if body.text.len() > REQUEST_BYTES_MAX {
        let many = body.text.len();
        let text = format!("text has {many} bytes; allowed are 0 to {REQUEST_BYTES_MAX}");
        return Err(ApiError::bad_request(text));
    }
    let act = Act::Join { link: None, text: body.text };
    let answer = |changed: &Changed| Entered::of(changed.clone(), Vec::new());
    change_once(&shared, &caller, conv, act, once, (StatusCode::OK, answer)).await
}

/// Lists who waits to be let in: for moderators.
#[utoipa::path(get, path = "/v1/groups/{group}/requests", tag = "groups",
    params(("group" = String, Path, description = "the id of a group"), PageParams),
    responses((status = 200, body = RequestPage), Missing), security(("access_token" = [])))]
pub(crate) async fn requests(
    State(shared): Context,
    User(caller): User,
    GroupId(conv): GroupId,
    Params(page): Params<PageParams>,
) -> Result<Json<RequestPage>, ApiError> {
    let (after, limit) = bounds(&page)?;
    let store = accounts(&shared)?.store();
    let mut waiting = looks::requests(store, (caller.user, conv), after, limit + 1).await?;
    let next = next(&mut waiting, limit, |(user, ..)| *user);
    let requests = waiting.into_iter().map(|(user_id, user, text, asked_unix_ms)| RequestView {
        user,
        user_id: user_id.to_string(),
        text,
        asked_unix_ms,
    });
    Ok(Json(RequestPage { requests: requests.collect(), next }))
}

/// Lets somebody in who waits: a moderator does.
#[utoipa::path(put, path = "/v1/groups/{group}/requests/{user}", tag = "groups",
    params(("group" = String, Path, description = "the id of a group"),
        ("user" = String, Path, description = "who waits")),
    responses((status = 200, body = Entered), Missing, Full), security(("access_token" = [])))]
pub(crate) async fn approve(
    State(shared): Context,
    User(caller): User,
    GroupId(conv): GroupId,
    Person(name): Person,
) -> Result<Json<Entered>, ApiError> {
    let user = person(&shared, name).await?;
    let changed = change(&shared, &caller, conv, Act::Approve { user }).await?;
    Ok(Json(Entered::of(changed, Vec::new())))
}

/// Sends somebody away who waits (a moderator does), or takes back the caller's own request.
#[utoipa::path(delete, path = "/v1/groups/{group}/requests/{user}", tag = "groups",
    params(("group" = String, Path, description = "the id of a group"),
        ("user" = String, Path, description = "who waits")),
    responses((status = 204), Missing), security(("access_token" = [])))]
pub(crate) async fn decline(
    State(shared): Context,
    User(caller): User,
    GroupId(conv): GroupId,
    Person(name): Person,
) -> Result<StatusCode, ApiError> {
    let user = person(&shared, name).await?;
    change(&shared, &caller, conv, Act::Decline { user }).await?;
    Ok(StatusCode::NO_CONTENT)
}
