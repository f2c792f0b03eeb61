//! The API key, and what stands in for it where none is set.

use super::errors::ApiError;
use super::{Context, Shared};
use crate::process::unix_ms;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use std::net::IpAddr;
use subtle::ConstantTimeEq;
use uproar_proto::error::Code;

/// Guards the routes under /v1.
pub(crate) async fn require_key(
    State(shared): Context,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    check(&shared, request.headers())?;
    Ok(next.run(request).await)
}

/// Guards /metrics where the configuration says so.
pub(crate) async fn metrics_key(
    State(shared): Context,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if !shared.api.config.metrics_open {
        check(&shared, request.headers())?;
    }
    Ok(next.run(request).await)
}

pub(crate) fn check(shared: &Shared, headers: &HeaderMap) -> Result<(), ApiError> {
    if is_operator(shared, headers) {
        return check_site(headers);
    }
    let api_key = shared.api.config.api_key.as_str();
    if !api_key.is_empty() {
        return check_key(api_key, headers);
    }
    check_host(headers)?;
    check_site(headers)
}

/// Whether a request brings the API key or an operator's session: then it is no user's.
pub(crate) fn is_of_platform(shared: &Shared, headers: &HeaderMap) -> bool {
    let api_key = shared.api.config.api_key.as_str();
    is_operator(shared, headers) || (!api_key.is_empty() && check_key(api_key, headers).is_ok())
}

/// What the audit log calls who has passed [`check`].
pub(crate) fn name_of(shared: &Shared, headers: &HeaderMap) -> &'static str {
    if is_operator(shared, headers) { "operator" } else { "key" }
}

/// Whether a browser asks in which an operator has logged in. Its cookie goes with no request that
/// another site makes, and comes from no address but this one's.
fn is_operator(shared: &Shared, headers: &HeaderMap) -> bool {
    let Some(login) = &shared.api.admin else { return false };
    session_of(headers).is_some_and(|session| login.is_open(session, unix_ms()))
}

/// The name of the cookie.
pub(crate) const COOKIE: &str = "uproar_admin";

/// An operator's session, as its cookie says.
pub(crate) fn session_of(headers: &HeaderMap) -> Option<&str> {
    let lists = headers.get_all(header::COOKIE).into_iter().filter_map(|list| list.to_str().ok());
    let mut cookies = lists.flat_map(|list| list.split(';')).map(str::trim);
    cookies.find_map(|cookie| cookie.strip_prefix(COOKIE)?.strip_prefix('='))
}

fn check_key(api_key: &str, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Err(ApiError::new(
            Code::TokenRequired,
            "an API key is needed: send the header Authorization: Bearer <http.api_key>",
        ));
    };
    let given = value.as_bytes();
    let is_bearer = given.len() > 7 && given[..7].eq_ignore_ascii_case(b"bearer ");
    let matches = is_bearer && bool::from(given[7..].ct_eq(api_key.as_bytes()));
    if matches {
        Ok(())
    } else {
        Err(ApiError::new(
            Code::TokenInvalid,
            "this is not the API key; the header is Authorization: Bearer <http.api_key>",
        ))
    }
}

/// Without a key only this machine may call. A web page that had its own name resolved to
/// 127.0.0.1 would pass as this machine, but for the name it sends in `Host`.
fn check_host(headers: &HeaderMap) -> Result<(), ApiError> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if is_loopback(host) {
        return Ok(());
    }
    Err(ApiError::new(
        Code::Forbidden,
        format!(
            "without http.api_key only localhost is served, and Host is {host:?}; set http.api_key"
        ),
    ))
}

/// What a browser sends by itself, a cookie or its place on this machine, opens nothing to the page
/// of another site. Who asks: `Sec-Fetch-Site` where the browser says it (over TLS and to this
/// machine all do; a proxy may have changed `Host`), else the `Origin` of a page beside `Host`.
/// What is no browser sends neither.
fn check_site(headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |value: Option<&HeaderValue>| value.map(|value| value.as_bytes().to_vec());
    let is_own = match text(headers.get("sec-fetch-site")) {
        Some(site) => site == b"same-origin" || site == b"none",
        None => text(headers.get(header::ORIGIN)).is_none_or(|origin| {
            let host = text(headers.get(header::HOST)).unwrap_or_default();
            let at = origin.windows(3).position(|part| part == b"://");
            at.is_some_and(|at| origin[at + 3..].eq_ignore_ascii_case(&host))
        }),
    };
    if is_own {
        return Ok(());
    }
    let why = "a page of another site asks: it needs the API key (Authorization: Bearer)";
    Err(ApiError::new(Code::Forbidden, why))
}

/// Whether a `Host` header (with or without a port) names this machine.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_loopback() {
        for host in ["localhost", "LocalHost:7480", "127.0.0.1:7480", "127.1.2.3", "[::1]:80"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["", "example.org", "localhost.example.org", "10.0.0.1", "[::2]:80", "::1"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
