//! Who calls: the address of a connection, and the user of an access token.

use super::Shared;
use super::errors::ApiError;
use super::welcome::{Welcome, check_device};
use crate::accounts::{Accounts, Caller};
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use uproar_proto::error::Code;

/// The other end of the connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// The address a request comes from: the other end, or what a trusted proxy says of it.
pub(crate) struct Origin(pub(crate) IpAddr);

impl FromRequestParts<Arc<Shared>> for Origin {
    type Rejection = Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        shared: &Arc<Shared>,
    ) -> Result<Self, Infallible> {
        let unknown = Peer(IpAddr::from([0, 0, 0, 0]));
        let Peer(peer) = parts.extensions.get::<Peer>().copied().unwrap_or(unknown);
        let trusted = &shared.api.accounts.trusted_proxies;
        Ok(Origin(origin(peer, &parts.headers, trusted)))
    }
}

/// The last address of `X-Forwarded-For` that no trusted proxy has: those before it are the
/// caller's own words.
fn origin(peer: IpAddr, headers: &HeaderMap, trusted: &[IpAddr]) -> IpAddr {
    if !trusted.contains(&peer.to_canonical()) {
        return peer;
    }
    let lists = headers.get_all("x-forwarded-for").into_iter().rev();
    let mut hops = lists.flat_map(|list| list.to_str().unwrap_or_default().rsplit(','));
    let mut last = peer;
    while let Some(Ok(hop)) = hops.next().map(|hop| hop.trim().parse::<IpAddr>()) {
        last = hop;
        if !trusted.contains(&hop.to_canonical()) {
            break;
        }
    }
    last
}

/// An engine process keeps no accounts, no groups and no relationships: whoever asks is told who
/// does.
pub(crate) fn elsewhere(shared: &Shared) -> Result<(), ApiError> {
    let Some(control) = &shared.api.control else { return Ok(()) };
    let text = format!(
        "accounts, groups and relationships are kept by the control process of this engine, which \
         it reaches at {control}; ask there, on its http.listen"
    );
    Err(ApiError::bad_request(text).with_status(StatusCode::MISDIRECTED_REQUEST))
}

/// The rules of accounts; 503 where this node has none.
pub(crate) fn accounts(shared: &Shared) -> Result<&Accounts, ApiError> {
    elsewhere(shared)?;
    let lacks = match (&shared.api.store, &shared.accounts) {
        (_, Some(accounts)) => return Ok(accounts),
        // A store without any token key is not opened: nobody could have a name in it.
        (None, None) => {
            "this node keeps no accounts: they need a store (store.url) and a key that signs \
             tokens (engine.tokens.hs256_secret or http.eddsa_private_key)"
        }
        (Some(_), None) => {
            "this node has no key that signs, so it keeps no accounts: set \
             engine.tokens.hs256_secret or http.eddsa_private_key"
        }
    };
    Err(ApiError::new(Code::NoStore, lacks).with_status(StatusCode::SERVICE_UNAVAILABLE))
}

/// A user, by an access token in `Authorization: Bearer`; neither its address nor the device it
/// logged in on is kept out.
pub(crate) struct User(pub(crate) Caller);

impl FromRequestParts<Arc<Shared>> for User {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, ApiError> {
        let accounts = accounts(shared)?;
        Welcome::from_request_parts(parts, shared).await?;
        let Some(value) = parts.headers.get(header::AUTHORIZATION) else {
            return Err(ApiError::new(
                Code::TokenRequired,
                "an access token is needed: send the header Authorization: Bearer <access token>",
            ));
        };
        let token = value.to_str().ok().and_then(|value| value.split_once(' '));
        let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let (_, token) = token.ok_or_else(|| {
            let text = "the header is Authorization: Bearer <access token>";
            ApiError::new(Code::TokenInvalid, text)
        })?;
        let caller = accounts.caller(token, crate::process::unix_ms()).await?;
        check_device(shared, &caller.device)?;
        Ok(User(caller))
    }
}

/// A user, where a token comes with the request; one that is not good is no guest.
pub(crate) enum Token {
    Guest,
    User(Caller),
}

impl FromRequestParts<Arc<Shared>> for Token {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, ApiError> {
        if !parts.headers.contains_key(header::AUTHORIZATION) {
            Welcome::from_request_parts(parts, shared).await?;
            return Ok(Token::Guest);
        }
        let User(caller) = User::from_request_parts(parts, shared).await?;
        Ok(Token::User(caller))
    }
}

/// The `{user}` of a path.
pub(crate) struct Named(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(name)) => Ok(Named(name)),
            Err(rejection) => Err(ApiError::bad_request(rejection.body_text())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin_of(peer: &str, forwarded: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for list in forwarded {
            headers.append("x-forwarded-for", list.parse().unwrap());
        }
        let trusted = ["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        origin(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_tells_where_a_request_comes_from() {
        assert_eq!(origin_of("192.0.2.1", &["198.51.100.1"]), "192.0.2.1");
        assert_eq!(origin_of("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(origin_of("10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(origin_of("10.0.0.1", &["6.6.6.6, 198.51.100.1"]), "198.51.100.1");
        assert_eq!(origin_of("10.0.0.1", &["6.6.6.6,198.51.100.1, 10.0.0.2"]), "198.51.100.1");
        assert_eq!(origin_of("10.0.0.1", &["6.6.6.6", "198.51.100.1"]), "198.51.100.1");
        assert_eq!(origin_of("10.0.0.1", &["198.51.100.1, junk"]), "10.0.0.1");
        assert_eq!(origin_of("::ffff:10.0.0.1", &["2001:db8::1"]), "2001:db8::1");
    }
}
