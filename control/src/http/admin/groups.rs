//! Groups as operators see and change them. Whoever is a member hears of a change as of any other;
//! its notice names nobody as the one who did it.

use super::{audit, living};
use crate::conversations::words;
use crate::groups::{Act, Changed, Group, OPERATOR, Operation};
use crate::http::actor::Actor;
use crate::http::caller::accounts;
use crate::http::errors::{ApiError, ErrorBody};
use crate::http::extract::{Body, Params};
use crate::http::groups::{GroupId, bounds, next, served};
use crate::http::members::{MemberPage, NewOwner, Person, member_page};
use crate::http::relations::PageParams;
use crate::http::{Context, Shared};
use crate::store::{StoreError, admin as rows, groups as group_rows, users};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use sqlx::AnyConnection;
use uproar_proto::error::Code;
use utoipa::ToSchema;

/// A group.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AdminGroup {
    /// Its id.
    #[schema(example = "00000000deadbeef")]
    group: String,
    name: String,
    announcement: String,
    /// Members now.
    members: i64,
    owner: String,
    created_unix_ms: i64,
    /// Only moderators and the owner may write.
    muted_all: bool,
    /// Nobody is in it any more.
    ended: bool,
    /// The newest seq of its log.
    head_seq: String,
}

/// A page of groups, in an order that stays the same.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AdminGroupPage {
    groups: Vec<AdminGroup>,
    /// Pass it as `after` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Lists all groups, those that have ended included.
#[utoipa::path(get, path = "/v1/admin/groups", tag = "admin", params(PageParams),
    responses((status = 200, body = AdminGroupPage)),
    security(("api_key" = [])))]
pub(crate) async fn list(
    State(shared): Context,
    Params(page): Params<PageParams>,
) -> Result<Json<AdminGroupPage>, ApiError> {
    let (after, limit) = bounds(&page)?;
    let mut conn = accounts(&shared)?.store().reader().await?;
    let mut convs = rows::groups(&mut conn, after, limit + 1).await?;
    let next = next(&mut convs, limit, |conv| *conv);
    let mut groups = Vec::with_capacity(convs.len());
    for conv in convs {
        groups.push(seen(&mut conn, conv).await?);
    }
    Ok(Json(AdminGroupPage { groups, next }))
}

/// Tells what a group is.
#[utoipa::path(get, path = "/v1/admin/groups/{group}", tag = "admin",
    params(("group" = String, Path, description = "the id of a group")),
    responses((status = 200, body = AdminGroup), (status = 404, body = ErrorBody)),
    security(("api_key" = [])))]
pub(crate) async fn get(
    State(shared): Context,
    GroupId(conv): GroupId,
) -> Result<Json<AdminGroup>, ApiError> {
    Ok(Json(seen(&mut *accounts(&shared)?.store().reader().await?, conv).await?))
}

/// Lists the members of a group; of one that has ended there are none.
#[utoipa::path(get, path = "/v1/admin/groups/{group}/members", tag = "admin",
    params(("group" = String, Path, description = "the id of a group"), PageParams),
    responses((status = 200, body = MemberPage), (status = 404, body = ErrorBody)),
    security(("api_key" = [])))]
pub(crate) async fn members(
    State(shared): Context,
    GroupId(conv): GroupId,
    Params(page): Params<PageParams>,
) -> Result<Json<MemberPage>, ApiError> {
    let (after, limit) = bounds(&page)?;
    let mut conn = accounts(&shared)?.store().reader().await?;
    let count = found(&mut conn, conv).await?.size;
    let members = group_rows::list_members(&mut conn, conv, after, limit + 1).await?;
    Ok(Json(member_page(members, count, limit)))
}

/// Ends a group: nobody is in it any more. What was written stays readable to who was.
#[utoipa::path(delete, path = "/v1/admin/groups/{group}", tag = "admin",
    params(("group" = String, Path, description = "the id of a group")),
    responses((status = 204, description = "ended"), (status = 404, body = ErrorBody)),
    security(("api_key" = [])))]
pub(crate) async fn end(
    State(shared): Context,
    actor: Actor,
    GroupId(conv): GroupId,
) -> Result<StatusCode, ApiError> {
    operate(&shared, conv, Operation::End).await?;
    audit(&shared, &actor, "group.end", "", words::with_group(conv)).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes a member. An owner hands the group on as one who leaves does; the last one ends it.
#[utoipa::path(delete, path = "/v1/admin/groups/{group}/members/{user}", tag = "admin",
    params(("group" = String, Path, description = "the id of a group"),
        ("user" = String, Path, description = "a member's name")),
    responses((status = 204, description = "no member any more"), (status = 404, body = ErrorBody)),
    security(("api_key" = [])))]
pub(crate) async fn remove(
    State(shared): Context,
    actor: Actor,
    GroupId(conv): GroupId,
    Person(name): Person,
) -> Result<StatusCode, ApiError> {
    let user = living(&shared, &name).await?;
    operate(&shared, conv, Operation::Remove((user.id, user.name.clone()))).await?;
    audit(&shared, &actor, "group.remove", &user.name, words::with_group(conv)).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Hands a group on to another member; the former owner stays as a moderator.
#[utoipa::path(put, path = "/v1/admin/groups/{group}/owner", tag = "admin",
    params(("group" = String, Path, description = "the id of a group")),
    request_body = NewOwner,
    responses((status = 200, body = AdminGroup), (status = 404, body = ErrorBody)),
    security(("api_key" = [])))]
pub(crate) async fn transfer(
    State(shared): Context,
    actor: Actor,
    GroupId(conv): GroupId,
    Body(body): Body<NewOwner>,
) -> Result<Json<AdminGroup>, ApiError> {
    let user = living(&shared, &body.user).await?;
    operate(&shared, conv, Operation::Transfer((user.id, user.name.clone()))).await?;
    audit(&shared, &actor, "group.transfer", &user.name, words::with_group(conv)).await;
    Ok(Json(seen(&mut *accounts(&shared)?.store().reader().await?, conv).await?))
}

async fn operate(shared: &Shared, conv: i64, what: Operation) -> Result<Changed, ApiError> {
    let operator = (OPERATOR, String::new());
    Ok(served(shared)?.change(conv, operator, Act::Operate(what)).await?)
}

async fn found(conn: &mut AnyConnection, conv: i64) -> Result<Group, ApiError> {
    let group = group_rows::find(conn, conv).await?;
    group.ok_or_else(|| ApiError::new(Code::NotFound, "there is no such group"))
}

async fn seen(conn: &mut AnyConnection, conv: i64) -> Result<AdminGroup, ApiError> {
    let group = found(conn, conv).await?;
    let owner = users::name(conn, group.owner).await?;
    let owner = owner.ok_or_else(|| StoreError::Corrupt(format!("{conv} has no owner")))?;
    Ok(AdminGroup {
        group: words::group_id(conv),
        name: group.name,
        announcement: group.announcement,
        members: group.size,
        owner,
        created_unix_ms: group.created_ms,
        muted_all: group.muted_all,
        ended: group.ended,
        head_seq: group.head.to_string(),
    })
}
