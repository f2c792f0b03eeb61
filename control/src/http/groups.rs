//! Groups over HTTP: making, finding, changing and ending them. People call these with their own
//! tokens; a platform that moves in sets its groups with the API key.

use super::caller::{User, accounts};
use super::errors::{ApiError, ErrorFields, Full, Missing};
use super::extract::{Body, Params};
use super::idempotency::{Key, replay, used};
use super::relations::PageParams;
use super::{Context, Shared};
use crate::accounts::Caller;
use crate::conversations::{Conversations, Done, Once, words};
use crate::fault::Fault;
use crate::groups::{self as rules, Act, Changed, Joining, Role, looks};
use crate::store::idempotency::{Kept, Use};
use crate::store::{StoreError, users};
use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;
use uproar_proto::error::Code;
use uproar_proto::names;
use uproar_proto::token::USER_BYTES_MAX;
use utoipa::ToSchema;

/// Entries on a page where the caller does not say, and at most.
const PAGE_DEFAULT: u32 = 100;
const PAGE_MAX: u32 = 200;
/// Groups, and members of one, in one upsert of a platform.
const UPSERT_GROUPS_MAX: usize = 100;
const UPSERT_MEMBERS_MAX: usize = 10_000;
/// Users made in one transaction: bounds how long other writes wait.
const NEW_USERS_PER_WRITE: usize = 500;

/// How one becomes a member.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum JoiningWord {
    /// A member invites, or a link.
    #[default]
    Invite,
    /// A moderator lets in whoever asks, was invited by a member, or came by a link.
    Approve,
    /// Whoever knows the group's id.
    Open,
}

impl JoiningWord {
    fn rule(self) -> Joining {
        match self {
            JoiningWord::Invite => Joining::Invite,
            JoiningWord::Approve => Joining::Approve,
            JoiningWord::Open => Joining::Open,
        }
    }

    fn of(joining: Joining) -> JoiningWord {
        match joining {
            Joining::Invite => JoiningWord::Invite,
            Joining::Approve => JoiningWord::Approve,
            Joining::Open => JoiningWord::Open,
        }
    }
}

/// A group as a member sees it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GroupView {
    /// Its id.
    #[schema(example = "00000000deadbeef")]
    group: String,
    /// Its conversation, as frames name it.
    #[schema(example = "group:00000000deadbeef")]
    conversation: String,
    name: String,
    announcement: String,
    joining: JoiningWord,
    /// Only moderators and the owner may write.
    muted_all: bool,
    members: i64,
    owner: String,
    created_unix_ms: i64,
    /// The caller's: `member`, `moderator` or `owner`.
    role: &'static str,
    /// The caller may not write until then; 0: it may.
    muted_until_unix_ms: i64,
}

impl GroupView {
    pub(crate) fn of(seen: looks::Seen) -> GroupView {
        let group = seen.group;
        GroupView {
            group: words::group_id(group.conv),
            conversation: words::with_group(group.conv),
            name: group.name,
            announcement: group.announcement,
            joining: JoiningWord::of(group.joining),
            muted_all: group.muted_all,
            members: group.size,
            owner: seen.owner,
            created_unix_ms: group.created_ms,
            role: seen.own.role.word(),
            muted_until_unix_ms: seen.own.muted_until_ms,
        }
    }
}

/// A page of groups, in an order that stays the same.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GroupPage {
    groups: Vec<GroupView>,
    /// Pass it as `after` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// What became of users who were named.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Entered {
    /// The group.
    #[schema(example = "00000000deadbeef")]
    pub(crate) group: String,
    /// Members now, because of this request.
    joined: Vec<String>,
    /// Wait for a moderator.
    waiting: Vec<String>,
    /// Were not let in, and why. Whoever was a member before is in none of the lists.
    refused: Vec<RefusedUser>,
}

/// A user who was not let in.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RefusedUser {
    user: String,
    error: ErrorFields,
}

impl Entered {
    pub(crate) fn of(changed: Changed, unknown: Vec<String>) -> Entered {
        let refused = changed.refused.into_iter().map(|((_, name), code)| (name, code));
        let unknown = unknown.into_iter().map(|name| (name, Code::NotFound));
        let refused = refused
            .chain(unknown)
            .map(|(user, code)| RefusedUser { user, error: ApiError::from_code(code).fields() });
        Entered {
            group: words::group_id(changed.group.conv),
            joined: changed.joined.into_iter().map(|((_, name), _)| name).collect(),
            waiting: changed.waiting.into_iter().map(|(_, name)| name).collect(),
            refused: refused.collect(),
        }
    }
}

/// Body of `POST /v1/groups`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewGroup {
    /// 1 to 128 bytes.
    name: String,
    /// At most 4,096 bytes.
    #[serde(default)]
    announcement: String,
    #[serde(default)]
    joining: JoiningWord,
    /// Names of users to take along, at most 1,000: those the caller may write to.
    #[serde(default)]
    members: Vec<String>,
}

/// Body of `PATCH /v1/groups/{group}`: what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupSettings {
    /// 1 to 128 bytes.
    name: Option<String>,
    /// At most 4,096 bytes.
    announcement: Option<String>,
    joining: Option<JoiningWord>,
    muted_all: Option<bool>,
}

/// A group of a platform.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlatformGroup {
    /// The platform's own name for it, 1 to 64 bytes: the same key is the same group.
    key: String,
    /// 1 to 128 bytes.
    name: String,
    /// At most 4,096 bytes.
    #[serde(default)]
    announcement: String,
    #[serde(default)]
    joining: JoiningWord,
    /// Who owns it, when it is made. A user nobody has heard of is made.
    owner: String,
    /// Members to add, at most 10,000; those who are members stay.
    #[serde(default)]
    members: Vec<String>,
}

/// Body of `PUT /v1/groups`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlatformGroups {
    /// At most 100.
    groups: Vec<PlatformGroup>,
}

/// The groups of a platform, in the order they were sent.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UpsertedGroups)]
pub(crate) struct Upserted {
    groups: Vec<Entered>,
}

/// The `{group}` of a path: the conversation of its id.
pub(crate) struct GroupId(pub(crate) i64);

impl<S: Send + Sync> FromRequestParts<S> for GroupId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        type Named = Path<Vec<(String, String)>>;
        let Path(named) = Named::from_request_parts(parts, state)
            .await
            .map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
        let id = named.iter().find(|(name, _)| name == "group").map_or("", |(_, id)| id);
        let conv = words::group_conv(id);
        conv.map(GroupId).ok_or_else(|| {
            let shown: String = id.chars().take(80).collect();
            ApiError::bad_request(format!("group is {shown:?}; an id has 16 digits of 0-9 and a-f"))
        })
    }
}

/// Makes a group; the caller owns it. With the header `Idempotency-Key`, a repeat within a day gets
/// the same answer, and makes no second group.
#[utoipa::path(post, path = "/v1/groups", tag = "groups", request_body = NewGroup,
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 64 visible ASCII")),
    responses((status = 201, body = Entered), Full), security(("access_token" = [])))]
pub(crate) async fn create(
    State(shared): Context,
    User(caller): User,
    key: Key,
    Body(body): Body<NewGroup>,
) -> Result<Response, ApiError> {
    check_text(&body.name, &body.announcement)?;
    let once = used(key, &caller, "POST /v1/groups", &body, now_ms(&shared)?);
    let (members, unknown) = people(&shared, &body.members).await?;
    let act = Act::Create {
        name: body.name,
        announcement: body.announcement,
        joining: body.joining.rule(),
        members,
    };
    let answer = move |changed: &Changed| Entered::of(changed.clone(), unknown.clone());
    let conv = crate::ids::random_id();
    change_once(&shared, &caller, conv, act, once, (StatusCode::CREATED, answer)).await
}

/// Lists the groups the caller is in.
#[utoipa::path(get, path = "/v1/groups", tag = "groups", params(PageParams),
    responses((status = 200, body = GroupPage)), security(("access_token" = [])))]
pub(crate) async fn list(
    State(shared): Context,
    User(caller): User,
    Params(page): Params<PageParams>,
) -> Result<Json<GroupPage>, ApiError> {
    let (after, limit) = bounds(&page)?;
    let store = accounts(&shared)?.store();
    let mut seen = looks::all_of(store, caller.user, after, limit + 1).await?;
    let next = next(&mut seen, limit, |seen| seen.group.conv);
    Ok(Json(GroupPage { groups: seen.into_iter().map(GroupView::of).collect(), next }))
}

/// Tells what a group is; to its members.
#[utoipa::path(get, path = "/v1/groups/{group}", tag = "groups",
    params(("group" = String, Path, description = "the id of a group")),
    responses((status = 200, body = GroupView), Missing), security(("access_token" = [])))]
pub(crate) async fn get(
    State(shared): Context,
    User(caller): User,
    GroupId(conv): GroupId,
) -> Result<Json<GroupView>, ApiError> {
    view(&shared, &caller, conv).await
}

/// Changes what a group is: a moderator or the owner does.
#[utoipa::path(patch, path = "/v1/groups/{group}", tag = "groups",
    params(("group" = String, Path, description = "the id of a group")),
    request_body = GroupSettings,
    responses((status = 200, body = GroupView), Missing), security(("access_token" = [])))]
pub(crate) async fn update(
    State(shared): Context,
    User(caller): User,
    GroupId(conv): GroupId,
    Body(body): Body<GroupSettings>,
) -> Result<Json<GroupView>, ApiError> {
    let GroupSettings { name, announcement, joining, muted_all } = body;
    let shown = (name.as_deref().unwrap_or("x"), announcement.as_deref().unwrap_or_default());
    check_text(shown.0, shown.1)?;
    let joining = joining.map(JoiningWord::rule);
    let act = Act::Set { name, announcement, joining, muted_all };
    change(&shared, &caller, conv, act).await?;
    view(&shared, &caller, conv).await
}

/// Ends a group: nobody is in it any more. What was written stays readable to who was.
#[utoipa::path(delete, path = "/v1/groups/{group}", tag = "groups",
    params(("group" = String, Path, description = "the id of a group")),
    responses((status = 204), Missing), security(("access_token" = [])))]
pub(crate) async fn end(
    State(shared): Context,
    User(caller): User,
    GroupId(conv): GroupId,
) -> Result<StatusCode, ApiError> {
    change(&shared, &caller, conv, Act::End).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sets groups of a platform, by its own keys: makes those that are not, names and announces the
/// others anew, adds members. Users that are not are made. Every group is one transaction.
#[utoipa::path(put, path = "/v1/groups", tag = "groups", request_body = PlatformGroups,
    responses((status = 200, body = Upserted), Missing, Full), security(("api_key" = [])))]
pub(crate) async fn upsert(
    State(shared): Context,
    Body(body): Body<PlatformGroups>,
) -> Result<Json<Upserted>, ApiError> {
    check_platform(&body)?;
    let mut groups = Vec::with_capacity(body.groups.len());
    for group in body.groups {
        let mut names = group.members;
        names.push(group.owner.clone());
        let mut members = make_users(&shared, names).await?;
        let owner = members.iter().position(|(_, name)| *name == group.owner);
        let owner = members.swap_remove(owner.ok_or(Fault::from(Code::NotFound))?);
        let act = Act::Upsert {
            name: group.name,
            announcement: group.announcement,
            joining: group.joining.rule(),
            members,
        };
        let changed = served(&shared)?.change(rules::keyed_conv(&group.key), owner, act).await?;
        groups.push(Entered::of(changed, Vec::new()));
    }
    Ok(Json(Upserted { groups }))
}

fn check_platform(body: &PlatformGroups) -> Result<(), ApiError> {
    let many = body.groups.len();
    if many > UPSERT_GROUPS_MAX {
        let text = format!("groups has {many} entries; allowed are {UPSERT_GROUPS_MAX}");
        return Err(ApiError::bad_request(text));
    }
    for (at, group) in body.groups.iter().enumerate() {
        check_text(&group.name, &group.announcement)?;
        let many = group.members.len();
        if many > UPSERT_MEMBERS_MAX {
            let text = format!(
                "groups[{at}].members has {many} entries; allowed are {UPSERT_MEMBERS_MAX}"
            );
            return Err(ApiError::bad_request(text));
        }
        let names = group.members.iter().map(|name| ("members", name));
        let others = [("key", &group.key), ("owner", &group.owner)];
        for (field, name) in names.chain(others) {
            if name.is_empty() || name.len() > USER_BYTES_MAX {
                let text = format!(
                    "groups[{at}].{field} has {} bytes; allowed are 1 to {USER_BYTES_MAX}",
                    name.len()
                );
                return Err(ApiError::bad_request(text));
            }
        }
    }
    Ok(())
}

/// The users of these names, made where there are none; `CONFLICT` where one was erased.
async fn make_users(shared: &Shared, names: Vec<String>) -> Result<Vec<rules::User>, ApiError> {
    let store = Arc::clone(accounts(shared)?.store());
    let names: Vec<String> = names.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    let mut made = Vec::with_capacity(names.len());
    for part in names.chunks(NEW_USERS_PER_WRITE) {
        let (dialect, now_ms, part) = (store.dialect(), store.now_ms(), Arc::new(part.to_vec()));
        let ids = store.write(move |conn| {
            let part = Arc::clone(&part);
            Box::pin(async move {
                let mut found = users::find_all(conn, &part).await?;
                for name in part.iter() {
                    if found.iter().any(|(_, known)| known == name) {
                        continue;
                    }
                    let identity = names::split(name);
                    let made = users::find_or_insert(conn, dialect, identity, now_ms).await?;
                    // Erased: the name is nobody's any more.
                    let id = made.ok_or(StoreError::Refused(Code::Conflict))?;
                    found.push((id, name.clone()));
                }
                Ok(found)
            })
        });
        made.extend(ids.await?);
    }
    Ok(made)
}

/// Users by name, and the names nobody has.
pub(crate) async fn people(
    shared: &Shared,
    wire_names: &[String],
) -> Result<(Vec<rules::User>, Vec<String>), ApiError> {
    if wire_names.len() > rules::USERS_MAX {
        let many = wire_names.len();
        let text = format!("{many} users are named; allowed are {}", rules::USERS_MAX);
        return Err(ApiError::bad_request(text));
    }
    let store = accounts(shared)?.store();
    let found = users::find_all(&mut *store.reader().await?, wire_names).await?;
    let known: BTreeSet<&str> = found.iter().map(|(_, name)| name.as_str()).collect();
    let unknown =
        wire_names.iter().filter(|name| !known.contains(name.as_str())).cloned().collect();
    Ok((found, unknown))
}

/// The user of a name; `NOT_FOUND`.
pub(crate) async fn person(shared: &Shared, name: String) -> Result<rules::User, ApiError> {
    let (mut found, _) = people(shared, &[name]).await?;
    found.pop().ok_or_else(|| ApiError::new(Code::NotFound, "there is no user of this name"))
}

/// Where groups are changed.
pub(crate) fn served(shared: &Shared) -> Result<&Conversations, ApiError> {
    accounts(shared)?;
    shared.api.conversations.as_deref().ok_or_else(|| {
        let text = "this node serves no conversations";
        ApiError::new(Code::NoStore, text).with_status(StatusCode::SERVICE_UNAVAILABLE)
    })
}

/// Carries out what the caller does to a group.
pub(crate) async fn change(
    shared: &Shared,
    caller: &Caller,
    conv: i64,
    act: Act,
) -> Result<Changed, ApiError> {
    let actor = (caller.user, caller.name.clone());
    Ok(served(shared)?.change(conv, actor, act).await?)
}

/// The same where the request may have come with an idempotency key: `status` with `answer`, or
/// what was answered before.
pub(crate) async fn change_once<T: Serialize>(
    shared: &Shared,
    caller: &Caller,
    conv: i64,
    act: Act,
    once: Option<Use>,
    (status, answer): (StatusCode, impl Fn(&Changed) -> T + Send + Sync + 'static),
) -> Result<Response, ApiError> {
    let kept = move |changed: &Changed| {
        // Strings and numbers.
        let body = serde_json::to_string(&answer(changed)).unwrap_or_default();
        Kept { status: status.as_u16(), body }
    };
    let Some(one) = once else {
        return Ok(replay(kept(&change(shared, caller, conv, act).await?)));
    };
    let (actor, kept) = ((caller.user, caller.name.clone()), Arc::new(kept));
    let once = Once {
        one,
        answer: Box::new({
            let kept = Arc::clone(&kept);
            move |c| kept(c)
        }),
    };
    Ok(replay(match served(shared)?.change_once(conv, actor, act, once).await? {
        Done::Now(changed) => kept(&changed),
        Done::Before(before) => before,
    }))
}

/// The store's moment.
pub(crate) fn now_ms(shared: &Shared) -> Result<i64, ApiError> {
    Ok(accounts(shared)?.store().now_ms())
}

pub(crate) async fn view(
    shared: &Shared,
    caller: &Caller,
    conv: i64,
) -> Result<Json<GroupView>, ApiError> {
    let store = accounts(shared)?.store();
    Ok(Json(GroupView::of(looks::seen(store, caller.user, conv).await?)))
}

fn check_text(name: &str, announcement: &str) -> Result<(), ApiError> {
    for (field, text, min, max) in [
        ("name", name, 1, rules::NAME_BYTES_MAX),
        ("announcement", announcement, 0, rules::ANNOUNCEMENT_BYTES_MAX),
    ] {
        if text.len() < min || text.len() > max {
            let many = text.len();
            let text = format!("{field} has {many} bytes; allowed are {min} to {max}");
            return Err(ApiError::bad_request(text));
        }
        // Whoever shows it may be a terminal; an announcement has lines.
        let shown = |c: char| !c.is_control() || (field == "announcement" && "\n\t".contains(c));
        if !text.chars().all(shown) {
            let text = format!("{field} has a control character; allowed is text");
            return Err(ApiError::bad_request(text));
        }
    }
    Ok(())
}

/// After which id, and how many.
pub(crate) fn bounds(page: &PageParams) -> Result<(i64, i64), ApiError> {
    let after = page.after.as_deref().map_or(Ok(0), str::parse::<i64>);
    let after = after.map_err(|_| ApiError::bad_request("after is not the next of a page"))?;
    Ok((after, check_limit(page.limit)?))
}

/// How many entries a page shall have.
pub(crate) fn check_limit(limit: Option<u32>) -> Result<i64, ApiError> {
    let limit = limit.unwrap_or(PAGE_DEFAULT);
    if limit == 0 || limit > PAGE_MAX {
        let text = format!("limit is {limit}; allowed is 1 to {PAGE_MAX}");
        return Err(ApiError::bad_request(text));
    }
    Ok(i64::from(limit))
}

/// The cursor of the next page, where one entry more than asked for was found; that one goes.
pub(crate) fn next<T>(list: &mut Vec<T>, limit: i64, id: impl Fn(&T) -> i64) -> Option<String> {
    let more = list.len() as i64 > limit;
    list.truncate(limit as usize);
    list.last().filter(|_| more).map(|last| id(last).to_string())
}

/// A role as a request names it. There is one owner: it hands the group on.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RoleWord {
    Member,
    Moderator,
}

impl RoleWord {
    pub(crate) fn rule(self) -> Role {
        match self {
            RoleWord::Member => Role::Member,
            RoleWord::Moderator => Role::Moderator,
        }
    }
}
