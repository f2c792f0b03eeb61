//! Users as operators see and change them.

use super::{Subject, alive, audit};
use crate::accounts::platform::{Newcomer, PASSWORDS_MAX, Password, Taken};
use crate::audit::Entry;
use crate::http::accounts::close;
use crate::http::actor::Actor;
use crate::http::caller::accounts;
use crate::http::errors::{ApiError, ErrorBody};
use crate::http::extract::{Body, Params};
use crate::http::groups::{check_limit, served};
use crate::http::idempotency::{Key, replay, used_by_backend};
use crate::http::{Context, Shared};
use crate::process::unix_ms;
use crate::store::accounts as sessions_of;
use crate::store::admin::{self as rows, Account};
use crate::store::bans::{self, Ban};
use crate::store::erasures::{self, Erasure};
use crate::store::idempotency::Kept;
use crate::store::{groups as group_rows, relations};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use uproar_proto::control::Closed;
use uproar_proto::error::Code;
use utoipa::{IntoParams, ToSchema};

/// Users of one request.
const USERS_MAX: usize = 1_000;
/// The longest ban that ends, in seconds: ten years.
const BAN_S_MAX: i64 = 10 * 365 * 86_400;

/// A user to take over.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewUser {
    /// 1 to 64 bytes; a user of another issuer is `SUB@NAME`.
    #[schema(example = "alice")]
    user: String,
    /// 8 to 256 bytes. At most 100 users of a request have one: hashing takes its time.
    password: Option<String>,
    /// What the platform kept in its place: argon2 as a PHC string. Either this or `password`.
    #[schema(example = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$RdescudvJCsgt3ub+b/dWQ")]
    password_hash: Option<String>,
}

/// Body of `PUT /v1/users`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewUsers {
    /// At most 1,000.
    users: Vec<NewUser>,
}

/// A user that was asked for.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TakenUser {
    user: String,
    user_id: String,
    /// Whether it was made now.
    created: bool,
}

/// The users of a platform, in the order they were sent.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TakenUsers {
    users: Vec<TakenUser>,
}

/// A user in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AdminUserEntry {
    #[schema(example = "alice")]
    user: String,
    user_id: String,
    created_unix_ms: i64,
    has_password: bool,
    erased: bool,
}

/// A page of users, by name.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AdminUserPage {
    users: Vec<AdminUserEntry>,
    /// Pass it as `after` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Which users, and which page of them.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct UserParams {
    /// Of this issuer; default: accounts made here and users of this node's own tokens. `erased`:
    /// users that were erased.
    issuer: Option<String>,
    /// What the name there begins with.
    prefix: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
    /// Entries on the page; 1 to 200, default 100.
    limit: Option<u32>,
}

/// A ban in force.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BanView {
    made_unix_ms: i64,
    /// Absent: it does not end.
    #[serde(skip_serializing_if = "Option::is_none")]
    until_unix_ms: Option<i64>,
    /// For operators; the user is not told.
    reason: String,
}

impl BanView {
    fn of(ban: Ban) -> BanView {
        let Ban { made_ms, until_ms, reason, .. } = ban;
        let until_unix_ms = (until_ms != 0).then_some(until_ms);
        BanView { made_unix_ms: made_ms, until_unix_ms, reason }
    }
}

/// A user.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AdminUser {
    #[schema(example = "alice")]
    user: String,
    user_id: String,
    created_unix_ms: i64,
    /// Whether it can log in here; otherwise a platform signs its tokens.
    has_password: bool,
    erased: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    ban: Option<BanView>,
    friends: i64,
    follows: i64,
    followers: i64,
    blocks: i64,
    /// Groups it is in.
    groups: i64,
    /// Conversations it is or was in, groups included.
    conversations: i64,
    /// Log-ins that go on.
    sessions: i64,
    /// Whether a device with an inbox is connected; absent where this node does not know.
    #[serde(skip_serializing_if = "Option::is_none")]
    online: Option<bool>,
    /// When it was last online; absent while it is, and where this node does not know.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen_unix_ms: Option<i64>,
}

/// Body of `PUT /v1/admin/users/{user}/ban`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewBan {
    /// Seconds from now, 1 to 315,360,000; absent: until it is lifted.
    ban_s: Option<i64>,
    /// For operators, at most 256 bytes.
    #[serde(default)]
    reason: String,
}

/// A session of a user. Secrets are not shown.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SessionView {
    session: String,
    device: String,
    created_unix_ms: i64,
    /// The log-in or the last refresh.
    used_unix_ms: i64,
    expires_unix_ms: i64,
}

/// All sessions of a user, latest use first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SessionList {
    sessions: Vec<SessionView>,
}

/// How far an erasure is.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ErasureState {
    /// The user is nobody; what it left is being removed.
    Running,
    /// Nothing of it is left but what it is called now.
    Done,
}

/// An erasure.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErasureView {
    /// What the user is called now: a hash of its name.
    #[schema(example = "2bd806c97f0e00af1a1fc3328fa763a9@erased")]
    user: String,
    user_id: String,
    state: ErasureState,
    begun_unix_ms: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    done_unix_ms: Option<i64>,
}

impl ErasureView {
    fn of(user: String, erasure: &Erasure) -> ErasureView {
        let is_done = erasure.done_ms != 0;
        ErasureView {
            user,
            user_id: erasure.user.to_string(),
            state: if is_done { ErasureState::Done } else { ErasureState::Running },
            begun_unix_ms: erasure.begun_ms,
            done_unix_ms: is_done.then_some(erasure.done_ms),
        }
    }
}

/// Takes users over from a platform, all of them or none. Whoever is here stays as it is, and gets
/// the password where it has none. With the header `Idempotency-Key`, a repeat within a day gets
/// the same answer.
#[utoipa::path(put, path = "/v1/users", tag = "admin", request_body = NewUsers,
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 64 visible ASCII")),
    responses(
        (status = 200, body = TakenUsers),
        (status = 403, body = ErrorBody, description = "passwords without a key that signs tokens"),
        (status = 409, body = ErrorBody,
            description = "a user was erased, or the key came with another body"),
    ), security(("api_key" = [])))]
pub(crate) async fn take_over(
    State(shared): Context,
    actor: Actor,
    key: Key,
    Body(body): Body<NewUsers>,
) -> Result<Response, ApiError> {
    let accounts = accounts(&shared)?;
    let newcomers = newcomers(&body)?;
    let asked = serde_json::to_vec(&body).unwrap_or_default(); // what came as JSON goes as JSON
    let asked = accounts.hash_of(&asked)?;
    let once = used_by_backend(key, "PUT /v1/users", asked, accounts.store().now_ms());
    let names: Vec<String> = body.users.iter().map(|user| user.user.clone()).collect();
    let many = names.len() as i64;
    let answer = move |taken: &[Taken]| {
        let taken = names.iter().zip(taken).map(|(user, (id, created))| TakenUser {
            user: user.clone(),
            user_id: id.to_string(),
            created: *created,
        });
        let body = serde_json::to_string(&TakenUsers { users: taken.collect() });
        Kept { status: StatusCode::OK.as_u16(), body: body.unwrap_or_default() } // plain strings
    };
    let kept = accounts.take_over(&newcomers, answer, once).await?;
    audit(&shared, &actor, "user.take_over", "", format!("users={many}")).await;
    Ok(replay(kept))
}

fn newcomers(body: &NewUsers) -> Result<Vec<Newcomer<'_>>, ApiError> {
    let many = body.users.len();
    if many > USERS_MAX {
        let text = format!("users has {many} entries; allowed are {USERS_MAX}");
        return Err(ApiError::bad_request(text));
    }
    let many = body.users.iter().filter(|user| user.password.is_some()).count();
    if many > PASSWORDS_MAX {
        let text = format!("users has {many} passwords; allowed are {PASSWORDS_MAX}");
        return Err(ApiError::bad_request(text));
    }
    let mut newcomers = Vec::with_capacity(body.users.len());
    for (at, user) in body.users.iter().enumerate() {
        let password = match (&user.password, &user.password_hash) {
            (None, None) => Password::None,
            (Some(password), None) => Password::Plain(password),
            (None, Some(hash)) => Password::Hash(hash),
            (Some(_), Some(_)) => {
                let text = format!("users[{at}] has both password and password_hash");
                return Err(ApiError::bad_request(text));
            }
        };
        newcomers.push(Newcomer { name: &user.user, password });
    }
    Ok(newcomers)
}

/// Lists the users of an issuer by name.
#[utoipa::path(get, path = "/v1/admin/users", tag = "admin", params(UserParams),
    responses((status = 200, body = AdminUserPage)),
    security(("api_key" = [])))]
pub(crate) async fn list(
    State(shared): Context,
    Params(params): Params<UserParams>,
) -> Result<Json<AdminUserPage>, ApiError> {
    let UserParams { issuer, prefix, after, limit } = params;
    let limit = check_limit(limit)?;
    let which = (issuer.unwrap_or_default(), prefix.unwrap_or_default());
    let which = (which.0.as_str(), which.1.as_str());
    let mut conn = accounts(&shared)?.store().reader().await?;
    let after = after.unwrap_or_default();
    // One more than asked for tells whether there is a next page.
    let mut found = rows::accounts(&mut conn, which, &after, limit + 1).await?;
    let more = found.len() as i64 > limit;
    found.truncate(limit as usize);
    let named = |account: &Account| uproar_proto::names::split(&account.name).1.to_owned();
    let next = found.last().filter(|_| more).map(named);
    let entry = |account: Account| AdminUserEntry {
        user: account.name,
        user_id: account.id.to_string(),
        created_unix_ms: account.created_ms,
        has_password: account.has_password,
        erased: account.erased,
    };
    Ok(Json(AdminUserPage { users: found.into_iter().map(entry).collect(), next }))
}

/// Tells what there is of a user. A user that was erased is found by the name it had, too.
#[utoipa::path(get, path = "/v1/admin/users/{user}", tag = "admin",
    params(("user" = String, Path, description = "a user's name")),
    responses((status = 200, body = AdminUser), (status = 404, body = ErrorBody)),
    security(("api_key" = [])))]
pub(crate) async fn get(
    State(shared): Context,
    Subject(account): Subject,
) -> Result<Json<AdminUser>, ApiError> {
    let store = accounts(&shared)?.store();
    let (id, now_ms) = (account.id, store.now_ms());
    let counts = relations::counts(store, id).await?;
    let mut conn = store.reader().await?;
    let (conversations, sessions) = rows::figures(&mut conn, id, unix_ms()).await?;
    let groups = group_rows::counts_of(&mut conn, &[id]).await?;
    let ban = bans::find(&mut conn, id, now_ms).await?;
    let seen = shared.api.conversations.as_ref().and_then(|c| c.seen_last(&account.name));
    Ok(Json(AdminUser {
        user: account.name,
        user_id: id.to_string(),
        created_unix_ms: account.created_ms,
        has_password: account.has_password,
        erased: account.erased,
        ban: ban.map(BanView::of),
        friends: counts.friends,
        follows: counts.follows,
        followers: counts.followers,
        blocks: counts.blocks,
        groups: groups.get(&id).copied().unwrap_or(0),
        conversations,
        sessions,
        online: seen.map(|(online, _)| online),
        last_seen_unix_ms: seen.map(|(_, at_ms)| at_ms).filter(|at_ms| *at_ms != 0),
    }))
}

/// Bans a user: its sessions end, its connections close within a second, and it neither logs in nor
/// opens an inbox while the ban lasts. What a platform's own token opens besides (live rooms) stays
/// open until that token expires.
#[utoipa::path(put, path = "/v1/admin/users/{user}/ban", tag = "admin", request_body = NewBan,
    params(("user" = String, Path, description = "a user's name")),
    responses((status = 200, body = BanView), (status = 404, body = ErrorBody)),
    security(("api_key" = [])))]
pub(crate) async fn ban(
    State(shared): Context,
    actor: Actor,
    Subject(account): Subject,
    Body(NewBan { ban_s, reason }): Body<NewBan>,
) -> Result<Json<BanView>, ApiError> {
    alive(&account)?;
    if let Some(ban_s) = ban_s.filter(|ban_s| !(1..=BAN_S_MAX).contains(ban_s)) {
        let text = format!("ban_s is {ban_s}; allowed is 1 to {BAN_S_MAX}");
        return Err(ApiError::bad_request(text));
    }
    let accounts = accounts(&shared)?;
    let until_ms = ban_s.map_or(0, |ban_s| accounts.store().now_ms() + ban_s * 1000);
    let ban = accounts.ban(account.id, until_ms, &reason).await?;
    let entry = Entry { whom: account.name.clone(), reason, ..actor.entry("user.ban", "") };
    close(&shared, Closed::User(account.name), Code::Banned);
    let detail = ban_s.map_or_else(String::new, |ban_s| format!("seconds={ban_s}"));
    shared.audit.write(vec![Entry { detail, ..entry }]).await;
    Ok(Json(BanView::of(ban)))
}

/// Lifts a ban; where there is none, nothing happens.
#[utoipa::path(delete, path = "/v1/admin/users/{user}/ban", tag = "admin",
    params(("user" = String, Path, description = "a user's name")),
    responses((status = 204, description = "not banned"), (status = 404, body = ErrorBody)),
    security(("api_key" = [])))]
pub(crate) async fn unban(
    State(shared): Context,
    actor: Actor,
    Subject(account): Subject,
) -> Result<StatusCode, ApiError> {
    sessions_of::unban(accounts(&shared)?.store(), account.id).await?;
    audit(&shared, &actor, "user.unban", &account.name, String::new()).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists the sessions of a user.
#[utoipa::path(get, path = "/v1/admin/users/{user}/sessions", tag = "admin",
    params(("user" = String, Path, description = "a user's name")),
    responses((status = 200, body = SessionList), (status = 404, body = ErrorBody)),
    security(("api_key" = [])))]
pub(crate) async fn sessions(
    State(shared): Context,
    Subject(account): Subject,
) -> Result<Json<SessionList>, ApiError> {
    let now_ms = unix_ms();
    let mut sessions = sessions_of::sessions(accounts(&shared)?.store(), account.id).await?;
    sessions.retain(|session| session.expires_ms > now_ms);
    sessions.sort_by_key(|session| std::cmp::Reverse(session.turned_ms));
    let view = |session: sessions_of::Session| SessionView {
        session: session.id.to_string(),
        device: session.device,
        created_unix_ms: session.created_ms,
        used_unix_ms: session.turned_ms,
        expires_unix_ms: session.expires_ms,
    };
    Ok(Json(SessionList { sessions: sessions.into_iter().map(view).collect() }))
}

/// Ends all sessions of a user, and closes its connections within a second.
#[utoipa::path(delete, path = "/v1/admin/users/{user}/sessions", tag = "admin",
    params(("user" = String, Path, description = "a user's name")),
    responses((status = 204, description = "all ended"), (status = 404, body = ErrorBody)),
    security(("api_key" = [])))]
pub(crate) async fn revoke(
    State(shared): Context,
    actor: Actor,
    Subject(account): Subject,
) -> Result<StatusCode, ApiError> {
    alive(&account)?;
    sessions_of::end_sessions(accounts(&shared)?.store(), account.id, None).await?;
    close(&shared, Closed::User(account.name.clone()), Code::SessionRevoked);
    audit(&shared, &actor, "user.revoke", &account.name, String::new()).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Erases a user. When this answers, nobody can sign in as the user, its connections are closing,
/// and it is called by a hash of its name; messages, groups and relationships follow in steps.
/// Repeated, it tells how far that is.
#[utoipa::path(delete, path = "/v1/admin/users/{user}", tag = "admin",
    params(("user" = String, Path, description = "a user's name")),
    responses(
        (status = 200, body = ErasureView, description = "it is done"),
        (status = 202, body = ErasureView, description = "it is under way"),
        (status = 404, body = ErrorBody),
    ), security(("api_key" = [])))]
pub(crate) async fn erase(
    State(shared): Context,
    actor: Actor,
    Subject(account): Subject,
) -> Result<(StatusCode, Json<ErasureView>), ApiError> {
    let begun = served(&shared)?.erase(account.id, &account.name).await?;
    let erasure = begun.ok_or_else(|| ApiError::from_code(Code::NotFound))?;
    if !account.erased {
        // Under the name that is left of the user: the log is no place where the other one stays.
        let whom = crate::store::users::erased_name(&account.name);
        close(&shared, Closed::User(account.name), Code::SessionRevoked);
        audit(&shared, &actor, "user.erase", &whom, String::new()).await;
    }
    let done = erasure.done_ms != 0;
    let status = if done { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(seen(&shared, &erasure).await?)))
}

/// Tells how far an erasure is, by what the user was called or is called now.
#[utoipa::path(get, path = "/v1/admin/users/{user}/erasure", tag = "admin",
    params(("user" = String, Path, description = "a user's name, before or after")),
    responses((status = 200, body = ErasureView), (status = 404, body = ErrorBody)),
    security(("api_key" = [])))]
pub(crate) async fn erasure(
    State(shared): Context,
    Subject(account): Subject,
) -> Result<Json<ErasureView>, ApiError> {
    let mut conn = accounts(&shared)?.store().reader().await?;
    let erasure = erasures::find(&mut conn, account.id).await?;
    drop(conn);
    let none = || ApiError::new(Code::NotFound, "this user was not erased");
    Ok(Json(seen(&shared, &erasure.ok_or_else(none)?).await?))
}

/// An erasure under the name the user has now.
async fn seen(shared: &Shared, erasure: &Erasure) -> Result<ErasureView, ApiError> {
    let mut conn = accounts(shared)?.store().reader().await?;
    let user = crate::store::users::name(&mut conn, erasure.user).await?.unwrap_or_default();
    Ok(ErasureView::of(user, erasure))
}
