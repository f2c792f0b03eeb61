//! What operators do over HTTP, with the API key: look at users, groups and messages, ban, revoke,
//! recall, export and erase.
//!
//! Owns the routes, and that every one that changes or shows what is not public is in the audit
//! log: by whom, from which address, and about whom.

pub(super) mod blocks;
pub(super) mod export;
pub(super) mod groups;
pub(super) mod messages;
pub(super) mod session;
pub(super) mod users;

use super::Shared;
use super::actor::Actor;
use super::caller::accounts;
use super::errors::ApiError;
use crate::audit::Entry;
use crate::store::admin::{self as rows, Account};
use axum::Router;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::routing::{delete, get, post, put};
use std::sync::Arc;
use uproar_proto::error::Code;

/// All of them; the API key is asked for by whoever puts them in.
pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/v1/users", put(users::take_over))
        .route("/v1/admin/blocks", get(blocks::list).put(blocks::put).delete(blocks::remove))
        .route("/v1/admin/users", get(users::list))
        .route("/v1/admin/users/{user}", get(users::get).delete(users::erase))
        .route("/v1/admin/users/{user}/erasure", get(users::erasure))
        .route("/v1/admin/users/{user}/export", get(export::export))
        .route("/v1/admin/users/{user}/ban", put(users::ban).delete(users::unban))
        .route("/v1/admin/users/{user}/sessions", get(users::sessions).delete(users::revoke))
        .route("/v1/admin/groups", get(groups::list))
        .route("/v1/admin/groups/{group}", get(groups::get).delete(groups::end))
        .route("/v1/admin/groups/{group}/owner", put(groups::transfer))
        .route("/v1/admin/groups/{group}/members", get(groups::members))
        .route("/v1/admin/groups/{group}/members/{user}", delete(groups::remove))
        .route("/v1/admin/messages", get(messages::search))
        .route("/v1/admin/messages/recall", post(messages::recall))
}

/// The user a path names, erased ones included.
pub(crate) struct Subject(Account);

impl FromRequestParts<Arc<Shared>> for Subject {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, ApiError> {
        let Path(name) = Path::<String>::from_request_parts(parts, shared)
            .await
            .map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
        subject(shared, &name).await.map(Subject)
    }
}

/// The user of a name, or the one that was called so before it was erased.
async fn subject(shared: &Shared, name: &str) -> Result<Account, ApiError> {
    let store = accounts(shared)?.store();
    let found = rows::account(&mut *store.reader().await?, name).await?;
    found.ok_or_else(|| ApiError::new(Code::NotFound, "there is no user of this name"))
}

/// The same, where it was not erased.
pub(super) async fn living(shared: &Shared, name: &str) -> Result<Account, ApiError> {
    let account = subject(shared, name).await?;
    alive(&account).map(|()| account)
}

fn alive(account: &Account) -> Result<(), ApiError> {
    if account.erased {
        return Err(ApiError::new(Code::NotFound, "this user was erased"));
    }
    Ok(())
}

/// Writes down what was done to a user (by name; empty: to nobody), or to what `detail` tells.
async fn audit(shared: &Shared, actor: &Actor, what: &'static str, whom: &str, detail: String) {
    let entry = actor.entry(what, "");
    shared.audit.write(vec![Entry { whom: whom.to_owned(), detail, ..entry }]).await;
}
