//! What a user has set for all its devices, over HTTP. People call these with their own tokens.

use super::Context;
use super::caller::{User, accounts};
use super::errors::ApiError;
use super::extract::Body;
use crate::store::settings::{self as rows, Settings, Wanted};
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A user's settings.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SettingsView {
    /// How far the user has read is told to nobody else: not to who wrote to it, nor to the senders
    /// in its groups, where it counts neither as a reader nor as one who has not read.
    private_read: bool,
    /// Since when the user is offline is told to nobody; that it is, friends see.
    hide_last_seen: bool,
}

impl SettingsView {
    fn of(settings: Settings) -> SettingsView {
        let Settings { private_read, hide_last_seen, .. } = settings;
        SettingsView { private_read, hide_last_seen }
    }
}

/// Body of `PATCH /v1/account/settings`: what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewSettings {
    private_read: Option<bool>,
    hide_last_seen: Option<bool>,
}

/// Tells the caller's settings.
#[utoipa::path(get, path = "/v1/account/settings", tag = "accounts",
    responses((status = 200, body = SettingsView)), security(("access_token" = [])))]
pub(crate) async fn read(
    State(shared): Context,
    User(caller): User,
) -> Result<Json<SettingsView>, ApiError> {
    let store = accounts(&shared)?.store();
    let settings = rows::read(&mut *store.reader().await?, caller.user).await?;
    Ok(Json(SettingsView::of(settings)))
}

/// Changes the caller's settings; its devices are told. Where private reading ends, what was read
/// in private shows to others once the user reads on, not before.
#[utoipa::path(patch, path = "/v1/account/settings", tag = "accounts", request_body = NewSettings,
    responses((status = 200, body = SettingsView)), security(("access_token" = [])))]
pub(crate) async fn change(
    State(shared): Context,
    User(caller): User,
    Body(body): Body<NewSettings>,
) -> Result<Json<SettingsView>, ApiError> {
    let store = accounts(&shared)?.store();
    let NewSettings { private_read, hide_last_seen } = body;
    let wanted = Wanted { private_read, hide_last_seen };
    let (dialect, user, now_ms) = (store.dialect(), caller.user, store.now_ms());
    let changed = store.write(move |conn| {
        Box::pin(async move { rows::change(conn, dialect, user, wanted, now_ms).await })
    });
    let settings = changed.await?;
    if let Some(conversations) = &shared.api.conversations {
        conversations.set(&caller.name, settings).await;
    }
    Ok(Json(SettingsView::of(settings)))
}
