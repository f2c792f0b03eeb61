//! Whether a user may call from where it does: what the platform keeps out may not connect, and may
//! ask for nothing in a user's name either.
//!
//! Owns the answer to those who may not. Which devices and addresses are kept out, [`Blocks`] says;
//! where a request comes from, [`Origin`]. Backends with the API key and operators are no users,
//! and are never asked: nobody locks themselves out.
//!
//! [`Blocks`]: crate::blocks::Blocks

use super::caller::Origin;
use super::errors::ApiError;
use super::{Shared, auth};
use crate::blocks::Blocking;
use crate::process::unix_ms;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use uproar_proto::blocks::BlockKind;
use uproar_proto::error::Code;

/// The address that a user's request comes from; 403 where it is kept out, before anything else of
/// the request is looked at.
pub(crate) struct Welcome(pub(crate) IpAddr);

impl FromRequestParts<Arc<Shared>> for Welcome {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, ApiError> {
        let from: Result<Origin, Infallible> = Origin::from_request_parts(parts, shared).await;
        let Ok(Origin(address)) = from;
        if auth::is_of_platform(shared, &parts.headers) {
            return Ok(Welcome(address));
        }
        check(shared, "", Some(address))?;
        Ok(Welcome(address))
    }
}

/// 403 where a device is kept out; an empty name is no device's.
pub(crate) fn check_device(shared: &Shared, device: &str) -> Result<(), ApiError> {
    check(shared, device, None)
}

fn check(shared: &Shared, device: &str, address: Option<IpAddr>) -> Result<(), ApiError> {
    let Some(blocks) = &shared.api.blocks else { return Ok(()) };
    match blocks.find(device, address, unix_ms()) {
        Some(blocking) => Err(refusal(blocking)),
        None => Ok(()),
    }
}

fn refusal(Blocking { kind, until_s }: Blocking) -> ApiError {
    let what = match kind {
        BlockKind::Device => "this device",
        BlockKind::Address => "this address",
    };
    let text = match until_s {
        Some(until_s) => format!("{what} is blocked until {until_s} (seconds since 1970)"),
        None => format!("{what} is blocked"),
    };
    ApiError::new(Code::Banned, text)
}
