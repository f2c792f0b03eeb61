//! Accounts and sessions over HTTP: register, log in, refresh, devices, log out, change password.
//! People call these with their own tokens, never with the API key.

use super::caller::{Named, User, accounts};
use super::errors::{ApiError, ErrorBody};
use super::extract::Body;
use super::idempotency::{Key, replay};
use super::welcome::{Welcome, check_device};
use super::{Context, Shared};
use crate::accounts::{LogIn, Refreshed, Revoked, Tokens};
use crate::process::unix_ms;
use crate::store::accounts::Session;
use crate::store::idempotency::Kept;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;
use uproar_proto::control::{Closed, NodeLoad, Tell};
use uproar_proto::error::Code;
use utoipa::ToSchema;

/// A queue of the engine was full: it empties within turns.
const TELL_RETRY: Duration = Duration::from_millis(1);

/// An account to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Register {
    /// 1 to 64 bytes; no characters that cannot be seen, no space at its ends; not `operator` or
    /// `uproar`, nor what begins with `guest-`, in any case. Compared byte by
    /// byte.
    #[schema(example = "alice")]
    user: String,
    /// 8 to 256 bytes.
    password: String,
}

/// An account.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Account {
    user: String,
    /// Decimal; the same for ever.
    user_id: String,
}

/// A log-in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OpenSession {
    #[schema(example = "alice")]
    user: String,
    password: String,
    /// For the list of devices; at most 64 bytes.
    #[serde(default)]
    #[schema(example = "phone")]
    device: String,
}

/// A refresh token to replace.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RefreshSession {
    refresh_token: String,
}

/// A session's tokens.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SessionTokens {
    user: String,
    user_id: String,
    /// Decimal; as in the list of devices.
    session: String,
    /// For `Authorization: Bearer` here and for a connection's `connect`.
    access_token: String,
    access_expires_unix_ms: i64,
    /// For one use: each refresh replaces it.
    refresh_token: String,
    /// When the session ends unless it is refreshed before.
    refresh_expires_unix_ms: i64,
    /// Where to connect, the first one first: the least loaded, and last those that take nobody.
    nodes: Vec<NodeView>,
}

/// A node that serves connections.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NodeView {
    /// For binary TCP, and as `ws://address/` for both WebSocket variants.
    #[schema(example = "a.live.example:7400")]
    address: String,
    connections: u64,
    connections_max: u64,
    /// Full, or about to end: it takes nobody.
    closed: bool,
}

/// Least loaded first: by the part of what fits that is taken.
fn nodes(shared: &super::Shared) -> Vec<NodeView> {
    let mut nodes = shared.api.engine.nodes();
    nodes.sort_by(least_loaded);
    nodes.into_iter().map(NodeView::from).collect()
}

pub(super) fn least_loaded(a: &NodeLoad, b: &NodeLoad) -> Ordering {
    let times = |load: &NodeLoad, other: &NodeLoad| {
        u128::from(load.connections) * u128::from(other.connections_max.max(1))
    };
    let by_load = times(a, b).cmp(&times(b, a));
    a.closed.cmp(&b.closed).then(by_load).then_with(|| a.address.cmp(&b.address))
}

impl From<NodeLoad> for NodeView {
    fn from(load: NodeLoad) -> NodeView {
        let NodeLoad { address, connections, connections_max, closed } = load;
        NodeView { address, connections, connections_max, closed }
    }
}

/// A session on one device.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Device {
    session: String,
    device: String,
    /// Whether the request came by this session.
    current: bool,
    created_unix_ms: i64,
    /// The log-in or the last refresh.
    used_unix_ms: i64,
    expires_unix_ms: i64,
}

/// All sessions of the caller, latest use first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Devices {
    sessions: Vec<Device>,
}

/// A new password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangePassword {
    old_password: String,
    /// 8 to 256 bytes.
    new_password: String,
}

/// Makes an account. With the header `Idempotency-Key`, a repeat from the same address within a day
/// gets the same answer.
#[utoipa::path(post, path = "/v1/accounts", tag = "accounts", request_body = Register,
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 64 visible ASCII")),
    responses(
        (status = 201, body = Account),
        (status = 400, body = ErrorBody),
        (status = 403, body = ErrorBody,
            description = "registration is closed here, or the address is blocked"),
        (status = 409, body = ErrorBody,
            description = "the name is taken, or the key came with another body"),
        (status = 429, body = ErrorBody),
        (status = 503, body = ErrorBody, description = "this node keeps no accounts"),
    ))]
pub(crate) async fn register(
    State(shared): Context,
    Welcome(from): Welcome,
    Key(key): Key,
    Body(body): Body<Register>,
) -> Result<Response, ApiError> {
    let Register { user, password } = &body;
    let ask = crate::accounts::Register { name: user, password, from, key };
    let answer = |id: i64| {
        let account = Account { user: user.clone(), user_id: id.to_string() };
        let body = serde_json::to_string(&account).unwrap_or_default(); // two strings
        Kept { status: StatusCode::CREATED.as_u16(), body }
    };
    Ok(replay(accounts(&shared)?.register_once(ask, answer, unix_ms()).await?))
}

/// Logs in: opens a session. The access token says which rooms the user follows (through their
/// owners), as of now.
#[utoipa::path(post, path = "/v1/sessions", tag = "accounts", request_body = OpenSession,
    responses(
        (status = 201, body = SessionTokens),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody, description = "the name or the password is wrong"),
        (status = 403, body = ErrorBody,
            description = "the user is banned, the address or the device is blocked, or nobody \
                           logs in here: no key signs tokens"),
        (status = 429, body = ErrorBody, description = "Retry-After tells when"),
        (status = 503, body = ErrorBody, description = "this node keeps no accounts"),
    ))]
pub(crate) async fn log_in(
    State(shared): Context,
    Welcome(from): Welcome,
    Body(body): Body<OpenSession>,
) -> Result<(StatusCode, Json<SessionTokens>), ApiError> {
    let OpenSession { user, password, device } = &body;
    check_device(&shared, device)?;
    let ask = LogIn { name: user, password, device, from };
    let (tokens, ended) = accounts(&shared)?.log_in(ask, unix_ms()).await?;
    tell(&shared, ended);
    Ok((StatusCode::CREATED, Json(session(&shared, tokens))))
}

/// Replaces a refresh token, and gives an access token that says which rooms the user follows now,
/// for `renew` on connections that stand. The token before the newest is taken once more within a
/// minute, and gives the same successor; any other token that was used before ends the session.
#[utoipa::path(post, path = "/v1/sessions/refresh", tag = "accounts",
    request_body = RefreshSession,
    responses(
        (status = 200, body = SessionTokens),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody, description = "the session has ended; log in again"),
        (status = 403, body = ErrorBody,
            description = "the address, or the device of the session, is blocked, or nobody \
                           logs in here: no key signs tokens"),
        (status = 503, body = ErrorBody, description = "this node keeps no accounts"),
    ))]
pub(crate) async fn refresh(
    State(shared): Context,
    _: Welcome,
    Body(body): Body<RefreshSession>,
) -> Result<Json<SessionTokens>, ApiError> {
    let accounts = accounts(&shared)?;
    // Before the token is used up: it is good again once the block is over.
    check_device(&shared, &accounts.device_of(&body.refresh_token).await?.unwrap_or_default())?;
    match accounts.refresh(&body.refresh_token, unix_ms()).await? {
        Refreshed::Tokens(tokens) => Ok(Json(session(&shared, tokens))),
        Refreshed::Reused(ended) => {
            tell(&shared, vec![ended]);
            let text = "this refresh token was used before, so its session was ended; log in again";
            Err(ApiError::new(Code::SessionRevoked, text))
        }
    }
}

/// Lists the caller's sessions.
#[utoipa::path(get, path = "/v1/sessions", tag = "accounts",
    responses(
        (status = 200, body = Devices),
        (status = 401, body = ErrorBody),
        (status = 503, body = ErrorBody, description = "this node keeps no accounts"),
    ), security(("access_token" = [])))]
pub(crate) async fn devices(
    State(shared): Context,
    User(caller): User,
) -> Result<Json<Devices>, ApiError> {
    let sessions = accounts(&shared)?.devices(&caller, unix_ms()).await?;
    let view = |session: Session| Device {
        current: caller.session == Some(session.id),
        session: session.id.to_string(),
        device: session.device,
        created_unix_ms: session.created_ms,
        used_unix_ms: session.turned_ms,
        expires_unix_ms: session.expires_ms,
    };
    Ok(Json(Devices { sessions: sessions.into_iter().map(view).collect() }))
}

/// Logs out one of the caller's sessions; one that has ended already is no error.
#[utoipa::path(delete, path = "/v1/sessions/{session}", tag = "accounts",
    params(("session" = String, Path, description = "as in the list of devices")),
    responses(
        (status = 204, description = "ended"),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 503, body = ErrorBody, description = "this node keeps no accounts"),
    ), security(("access_token" = [])))]
pub(crate) async fn log_out(
    State(shared): Context,
    User(caller): User,
    Named(session): Named,
) -> Result<StatusCode, ApiError> {
    let id = session.parse::<i64>();
    let id = id.map_err(|_| ApiError::bad_request("session is a decimal number"))?;
    tell(&shared, accounts(&shared)?.log_out(&caller, id).await?);
    Ok(StatusCode::NO_CONTENT)
}

/// Logs out everywhere, here included.
#[utoipa::path(delete, path = "/v1/sessions", tag = "accounts",
    responses(
        (status = 204, description = "all ended"),
        (status = 401, body = ErrorBody),
        (status = 503, body = ErrorBody, description = "this node keeps no accounts"),
    ), security(("access_token" = [])))]
pub(crate) async fn log_out_everywhere(
    State(shared): Context,
    User(caller): User,
) -> Result<StatusCode, ApiError> {
    tell(&shared, accounts(&shared)?.log_out_everywhere(&caller).await?);
    Ok(StatusCode::NO_CONTENT)
}

/// Changes the password and ends the caller's other sessions.
#[utoipa::path(put, path = "/v1/account/password", tag = "accounts",
    request_body = ChangePassword,
    responses(
        (status = 204, description = "changed"),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody, description = "the user has no password here"),
        (status = 429, body = ErrorBody, description = "Retry-After tells when"),
        (status = 503, body = ErrorBody, description = "this node keeps no accounts"),
    ), security(("access_token" = [])))]
pub(crate) async fn change_password(
    State(shared): Context,
    User(caller): User,
    Body(body): Body<ChangePassword>,
) -> Result<StatusCode, ApiError> {
    let ChangePassword { old_password, new_password } = &body;
    let accounts = accounts(&shared)?;
    let ended = accounts.change_password(&caller, old_password, new_password, unix_ms()).await?;
    tell(&shared, ended);
    Ok(StatusCode::NO_CONTENT)
}

/// The one place where what ended leaves the rules: its connections are closed.
fn tell(shared: &Arc<Shared>, ended: Vec<Revoked>) {
    for revoked in ended {
        let of = match revoked {
            Revoked::Session(session) => Closed::Session(session.to_string()),
            Revoked::User(user) => Closed::User(user),
        };
        close(shared, of, Code::SessionRevoked);
    }
}

/// Closes connections; `code` tells them why.
pub(crate) fn close(shared: &Arc<Shared>, of: Closed, code: Code) {
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let mut tell = Tell::Close { of, code };
        // A full queue empties within turns; closing twice changes nothing.
        while let Err(back) = shared.api.engine.tell(tell) {
            tokio::time::sleep(TELL_RETRY).await;
            tell = back;
        }
    });
}

fn session(shared: &super::Shared, tokens: Tokens) -> SessionTokens {
    SessionTokens {
        user: tokens.name,
        user_id: tokens.user.to_string(),
        session: tokens.session.to_string(),
        access_token: tokens.access,
        access_expires_unix_ms: tokens.access_expires_ms,
        refresh_token: tokens.refresh,
        refresh_expires_unix_ms: tokens.refresh_expires_ms,
        nodes: nodes(shared),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_loaded_node_comes_first_and_a_closed_one_last() {
        let node = |address: &str, connections, connections_max, closed| NodeLoad {
            address: address.into(),
            connections,
            connections_max,
            closed,
        };
        let mut nodes = [
            node("closed", 0, 100, true),
            node("half", 50, 100, false),
            node("empty", 0, 0, false),
            node("large", 90, 1_000, false),
            node("also-half", 5, 10, false),
        ];
        nodes.sort_by(least_loaded);
        let order = nodes.each_ref().map(|node| node.address.as_str());
        assert_eq!(order, ["empty", "large", "also-half", "half", "closed"]);
    }
}
