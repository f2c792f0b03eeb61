//! The API key, and what stands in for it where none is set.

use super::Context;
use super::errors::ApiError;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
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
    check(&shared.api.config.api_key, request.headers())?;
    Ok(next.run(request).await)
}

/// Guards /metrics where the configuration says so.
pub(crate) async fn metrics_key(
    State(shared): Context,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if !shared.api.config.metrics_open {
        check(&shared.api.config.api_key, request.headers())?;
    }
    Ok(next.run(request).await)
}

fn check(api_key: &str, headers: &HeaderMap) -> Result<(), ApiError> {
    if api_key.is_empty() { check_host(headers) } else { check_key(api_key, headers) }
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
