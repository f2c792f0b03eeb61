//! An operator in a browser: logs in with the password, and is known by a cookie.
//!
//! The cookie stands in for the API key. It is `SameSite=Strict` and no script may read it; where
//! the page of another origin sends it along all the same (one of another port, or of a sibling
//! domain, is of the same site), [`auth`](crate::http::auth) refuses it.

use crate::admin_login::AdminLogin;
use crate::http::auth::{COOKIE, session_of};
use crate::http::caller::Origin;
use crate::http::errors::{ApiError, ErrorBody};
use crate::http::extract::Body;
use crate::http::{Context, Shared};
use crate::process::unix_ms;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use serde::Deserialize;
use uproar_proto::error::Code;
use utoipa::ToSchema;

/// The operator's password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OperatorPassword {
    /// As it was shown at the first start.
    password: String,
}

/// Whether this browser is logged in as an operator.
#[utoipa::path(get, path = "/v1/admin/session", tag = "admin",
    responses(
        (status = 204, description = "it is"),
        (status = 401, body = ErrorBody, description = "it is not"),
        (status = 403, body = ErrorBody, description = "nobody logs in here"),
    ))]
pub(crate) async fn look(
    State(shared): Context,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let login = login(&shared)?;
    match session_of(&headers) {
        Some(session) if login.is_open(session, unix_ms()) => Ok(StatusCode::NO_CONTENT),
        _ => Err(ApiError::new(Code::TokenRequired, "log in with the operator's password")),
    }
}

/// Logs an operator in: the answer sets a cookie, which stands in for the API key.
#[utoipa::path(post, path = "/v1/admin/session", tag = "admin", request_body = OperatorPassword,
    responses(
        (status = 204, description = "logged in"),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody, description = "this is not the password"),
        (status = 403, body = ErrorBody, description = "nobody logs in here"),
        (status = 429, body = ErrorBody),
    ))]
pub(crate) async fn log_in(
    State(shared): Context,
    from: Origin,
    headers: HeaderMap,
    Body(body): Body<OperatorPassword>,
) -> Result<Response, ApiError> {
    let opened = login(&shared)?.log_in(&body.password, from.0, unix_ms()).await;
    let (session, life_ms) = opened.inspect_err(|_| {
        tracing::warn!(from = %from.0, "an operator's log-in was refused");
    })?;
    tracing::info!(from = %from.0, "an operator has logged in");
    // Behind a proxy that ends TLS the browser shall not send it without.
    let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    let secure = if origin.is_some_and(|is| is.starts_with("https:")) { "; Secure" } else { "" };
    let life_s = life_ms / 1_000;
    let cookie =
        format!("{COOKIE}={session}; HttpOnly; SameSite=Strict; Path=/; Max-Age={life_s}{secure}");
    Ok((StatusCode::NO_CONTENT, AppendHeaders([(header::SET_COOKIE, cookie)])).into_response())
}

/// Logs this browser's operator out.
#[utoipa::path(delete, path = "/v1/admin/session", tag = "admin",
    responses((status = 204, description = "logged out, or nobody was in")))]
pub(crate) async fn log_out(State(shared): Context, headers: HeaderMap) -> StatusCode {
    if let (Some(login), Some(session)) = (&shared.api.admin, session_of(&headers)) {
        login.log_out(session);
    }
    StatusCode::NO_CONTENT
}

fn login(shared: &Shared) -> Result<&AdminLogin, ApiError> {
    let closed = "nobody logs in here: admin.password_file is empty";
    shared.api.admin.as_ref().ok_or_else(|| ApiError::new(Code::Forbidden, closed))
}
