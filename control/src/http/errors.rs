//! The one shape of an error over HTTP, and which status stands for which code.

use crate::fault::Fault;
use crate::store::StoreError;
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use uproar_proto::error::Code;
use utoipa::{IntoResponses, ToSchema};

/// An error on its way to an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) code: Code,
    pub(crate) text: String,
    /// Seconds in `Retry-After`, where the code may be retried.
    pub(crate) retry_after_s: u32,
}

/// What every answer other than 2xx carries.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    error: ErrorFields,
}

/// One error: the number and the name are stable, the text is for people.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorFields {
    /// A number of the table of codes in PROTOCOL.md.
    #[schema(example = 2002)]
    code: u32,
    #[schema(example = "ROOM_NOT_FOUND")]
    name: &'static str,
    /// For people; may change.
    text: String,
    /// Whether the same request may succeed later, unchanged.
    retry: bool,
}

/// Of a route that is about something: what it is about does not exist.
#[derive(IntoResponses)]
#[response(status = 404, description = "There is none.")]
#[expect(dead_code, reason = "a line of the document; ApiError answers")]
pub(crate) struct Missing(#[to_schema] ErrorBody);

/// Of a route that adds something: it may not be added.
#[derive(IntoResponses)]
#[response(
    status = 409,
    description = "There are as many as there may be, or an Idempotency-Key \
    came with another body."
)]
#[expect(dead_code, reason = "a line of the document; ApiError answers")]
pub(crate) struct Full(#[to_schema] ErrorBody);

impl ApiError {
    /// A code with the text of the table.
    pub(crate) fn from_code(code: Code) -> ApiError {
        let text = match code {
            // The table's text is for those who join.
            Code::RoomNotFound => "there is no such room; POST /v1/rooms creates one",
            code => code.text(),
        };
        ApiError::new(code, text)
    }

    /// A code with a text that says more.
    pub(crate) fn new(code: Code, text: impl Into<String>) -> ApiError {
        ApiError { status: status_of(code), code, text: text.into(), retry_after_s: 1 }
    }

    /// `BAD_REQUEST` with what was wrong, where, and what is allowed.
    pub(crate) fn bad_request(text: impl Into<String>) -> ApiError {
        ApiError::new(Code::BadRequest, text)
    }

    /// The same error under a status that HTTP has and the table of codes has not.
    pub(crate) fn with_status(mut self, status: StatusCode) -> ApiError {
        self.status = status;
        self
    }

    /// As shown in an answer, alone or in a list of results.
    pub(crate) fn fields(&self) -> ErrorFields {
        ErrorFields {
            code: self.code.number(),
            name: self.code.name(),
            text: self.text.clone(),
            retry: self.code.retry(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(ErrorBody { error: self.fields() })).into_response();
        let headers = response.headers_mut();
        if self.code.retry() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(self.retry_after_s));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<Fault> for ApiError {
    fn from(fault: Fault) -> ApiError {
        match fault {
            Fault::Refused(refusal) => {
                let retry_after_s = refusal.retry_after_ms.div_ceil(1000).max(1);
                ApiError { retry_after_s, ..ApiError::new(refusal.code, refusal.text) }
            }
            Fault::Store(error) => ApiError::from(error),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> ApiError {
        match error {
            StoreError::Busy => ApiError::new(Code::QueueFull, error.to_string()),
            StoreError::Refused(code) => ApiError::from_code(code),
            StoreError::Ended => ApiError::new(Code::Draining, error.to_string()),
            StoreError::Database(_)
            | StoreError::Corrupt(_)
            | StoreError::Defect
            | StoreError::Unusable(_) => {
                // Told in the log alone: it may name tables and values.
                tracing::error!(%error, "the store failed");
                let text = "the store failed; whether the request was carried out is unknown";
                ApiError::new(Code::StoreDown, text)
            }
        }
    }
}

/// The status that tells a client which knows only HTTP the same as the code.
fn status_of(code: Code) -> StatusCode {
    match code {
        Code::SlowDown | Code::SlowMode | Code::RoomBusy => StatusCode::TOO_MANY_REQUESTS,
        Code::StoreDown
        | Code::HookDown
        | Code::QueueFull
        | Code::Expired
        | Code::TooManyRooms
        | Code::Draining => StatusCode::SERVICE_UNAVAILABLE,
        Code::TokenExpired
        | Code::TokenInvalid
        | Code::TokenRequired
        | Code::WrongPassword
        | Code::SessionRevoked => StatusCode::UNAUTHORIZED,
        Code::RoomNotFound | Code::NotFound => StatusCode::NOT_FOUND,
        Code::TooLarge | Code::FrameTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::Forbidden
        | Code::Refused
        | Code::Filtered
        | Code::Muted
        | Code::RoomMuted
        | Code::Banned
        | Code::Kicked
        | Code::NotFriend
        | Code::NotMember
        | Code::Blocked => StatusCode::FORBIDDEN,
        Code::AlreadyExists
        | Code::AlreadyJoined
        | Code::RoomClosed
        | Code::RoomFull
        | Code::Conflict
        | Code::Duplicate
        | Code::PollOver
        | Code::AlreadyVoted
        | Code::LimitReached => StatusCode::CONFLICT,
        Code::RequestTimeout | Code::HandshakeTimeout | Code::IdleTimeout => {
            StatusCode::REQUEST_TIMEOUT
        }
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_retried_never_looks_like_the_callers_mistake() {
        for code in Code::ALL.iter().filter(|c| (1000..2000).contains(&c.number())) {
            let status = status_of(*code);
            let busy = [
                StatusCode::TOO_MANY_REQUESTS,
                StatusCode::SERVICE_UNAVAILABLE,
                StatusCode::REQUEST_TIMEOUT,
            ];
            assert!(busy.contains(&status), "{} is {status}", code.name());
        }
    }

    #[test]
    fn every_code_is_an_error_status() {
        for code in Code::ALL {
            let status = status_of(*code);
            assert!(status.is_client_error() || status.is_server_error(), "{}", code.name());
        }
    }
}
