//! What comes in with a request: a body, a room's name, a query. Each says what was wrong and
//! where.

use super::errors::ApiError;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use uproar_proto::error::Code;
use uproar_proto::ids::RoomId;

/// Whether a request waits for its own body: what it is told where its time is over depends on it.
#[derive(Clone, Debug, Default)]
pub(crate) struct BodyAwaited(pub(crate) Arc<AtomicBool>);

/// A JSON body. It must be declared as such: a web page of another origin cannot do that without
/// asking first, so it cannot call an API that has no key.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let body = Request::from_parts(parts.clone(), body);
        let bytes = body_bytes(body, state).await?;
        let is_list = bytes.trim_ascii_start().starts_with(b"[");
        let request = Request::from_parts(parts, bytes.into());
        match axum::Json::<T>::from_request(request, state).await {
            Err(rejection) if rejection.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                Err(body_error(&rejection))
            }
            // Read as a list of fields in their order, it would be taken.
            _ if is_list => Err(ApiError::bad_request("the body is a list; it must be an object")),
            Ok(axum::Json(value)) => Ok(Body(value)),
            Err(rejection) => Err(body_error(&rejection)),
        }
    }
}

/// Entries of a page where the caller does not say, and at most.
const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1_000;

/// How many entries a page shall have: 1 to 1,000, 100 where that is not said.
pub(crate) fn page_limit(limit: Option<usize>) -> Result<usize, ApiError> {
    let limit = limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        let text = format!("limit is {limit}; allowed is 1 to {PAGE_MAX}");
        return Err(ApiError::bad_request(text));
    }
    Ok(limit)
}

/// A whole body, within the bound of all bodies.
pub(crate) async fn body_bytes<S: Send + Sync>(
    request: Request,
    state: &S,
) -> Result<Bytes, ApiError> {
    let awaited = request.extensions().get::<BodyAwaited>().cloned();
    if let Some(awaited) = &awaited {
        awaited.0.store(true, Ordering::Relaxed);
    }
    let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            return too_large();
        }
        ApiError::bad_request(rejection.body_text())
    })?;
    if let Some(awaited) = &awaited {
        awaited.0.store(false, Ordering::Relaxed);
    }
    Ok(bytes)
}

fn too_large() -> ApiError {
    ApiError::new(Code::TooLarge, "the body is larger than http.body_bytes_max")
}

fn body_error(rejection: &JsonRejection) -> ApiError {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            ApiError::bad_request("the body must come with Content-Type: application/json")
                .with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE)
        }
        _ => ApiError::bad_request(rejection.body_text()),
    }
}

/// The `{room}` of a path.
pub(crate) struct Room(pub(crate) RoomId);

impl<S: Send + Sync> FromRequestParts<S> for Room {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(name) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|rejection| ApiError::new(Code::BadRoom, rejection.body_text()))?;
        room_id(&name).map(Room)
    }
}

/// A room's name, checked.
pub(crate) fn room_id(name: &str) -> Result<RoomId, ApiError> {
    RoomId::new(name).ok_or_else(|| {
        let shown: String = name.chars().take(80).collect();
        ApiError::new(Code::BadRoom, format!("room is {shown:?}; {}", Code::BadRoom.text()))
    })
}

/// The query of a URL.
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Params(value)),
            Err(rejection) => Err(ApiError::bad_request(rejection.body_text())),
        }
    }
}
