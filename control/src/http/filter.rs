//! The list that messages are held against: shown, replaced, changed, and tried out.
//!
//! Owns the routes and their forms. What a hit is, the filter says; which list is in effect,
//! [`Filters`].

use super::actor::Actor;
use super::caller::elsewhere;
use super::errors::{ApiError, ErrorBody};
use super::extract::{Body, body_bytes};
use super::{Context, Shared};
use crate::audit::Entry;
use crate::filters::{Current, Filters, Refused};
use axum::Json;
use axum::extract::{FromRequest as _, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use uproar_filter::{List, list::Change};
use uproar_proto::error::Code;
use utoipa::ToSchema;

/// Words, and regexes, that are named for one text. More are left out.
const NAMED_MAX: usize = 100;

/// The list.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FilterList)]
pub(crate) struct ListView<'a> {
    /// Counts its changes; in `ETag`, and what `If-Match` means.
    version: u64,
    /// In order.
    #[schema(example = json!(["spam"]))]
    words: &'a [String],
    #[schema(example = json!([r"https?://"]))]
    regexes: &'a [String],
}

/// A list to put in the place of the one there is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewFilterList)]
pub(crate) struct NewList {
    /// At most 200,000, of 1 to 64 characters.
    words: Vec<String>,
    /// At most 256, of 1 to 512 bytes, in the syntax of RE2 (no look-around, no back-references).
    #[serde(default)]
    regexes: Vec<String>,
}

/// What is to be added and what is to go; what is left out stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = FilterChange)]
pub(crate) struct ChangeList {
    add_words: Vec<String>,
    remove_words: Vec<String>,
    add_regexes: Vec<String>,
    remove_regexes: Vec<String>,
}

/// What the list is now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FilterChanged)]
pub(crate) struct Changed {
    version: u64,
    /// How many.
    words: usize,
    regexes: usize,
}

/// A text to try out.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = FilterTry)]
pub(crate) struct Try {
    #[schema(example = "ＳＰＡＭ !")]
    text: String,
}

/// What a text hits, and why.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FilterTried)]
pub(crate) struct Tried {
    /// It would be refused.
    hit: bool,
    /// Words it hits, as the list has them; at most 100.
    words: Vec<String>,
    /// Regexes it hits; at most 100.
    regexes: Vec<String>,
    /// Its letters and digits in their one form: words are looked for in it.
    normal: String,
    /// The same with what stands between them: regexes are asked about it.
    folded: String,
    /// Of the list.
    version: u64,
}

/// Who has the list; 421 in an engine process, 503 without a store.
fn filters(shared: &Shared) -> Result<&Arc<Filters>, ApiError> {
    elsewhere(shared)?;
    shared.api.filters.as_ref().ok_or_else(|| {
        let text = "this node keeps no filter list: it needs a store (store.url)";
        ApiError::new(Code::NoStore, text).with_status(StatusCode::SERVICE_UNAVAILABLE)
    })
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> ApiError {
        match refused {
            Refused::Version(now) => {
                let text = format!("the list is version {now} by now, not what If-Match names");
                let error = ApiError::new(Code::Conflict, text);
                error.with_status(StatusCode::PRECONDITION_FAILED)
            }
            Refused::Bad(why) => ApiError::bad_request(why),
            Refused::Fault(fault) => fault.into(),
        }
    }
}

/// The version that `If-Match` names; `None`: any.
fn meant(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let version = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let version = version.and_then(|version| version.parse().ok());
    let bad = || ApiError::bad_request("If-Match is not an ETag of GET /v1/filter");
    version.map(Some).ok_or_else(bad)
}

fn tagged(version: u64, mut response: Response) -> Response {
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{version}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// Writes a change down, and tells what the list is now.
async fn changed(shared: &Shared, entry: Entry, now: &Current) -> Response {
    let (version, words) = (now.list.version, &now.words);
    let body = Changed { version, words: words.words.len(), regexes: words.regexes.len() };
    let detail = format!("version={version} words={} regexes={}", body.words, body.regexes);
    shared.audit.write(vec![Entry { detail, ..entry }]).await;
    tagged(version, Json(body).into_response())
}

/// The list: as JSON, or its words alone, one a line, where `Accept` asks for `text/plain`. `ETag`
/// has its version.
#[utoipa::path(get, path = "/v1/filter", tag = "filter",
    responses((status = 200, content(
        (ListView = "application/json"), (String = "text/plain"),
    ))), security(("api_key" = [])))]
pub(crate) async fn get(State(shared): Context, headers: HeaderMap) -> Result<Response, ApiError> {
    let now = filters(&shared)?.look().await?;
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let response = if accept.is_some_and(|accept| accept.contains("text/plain")) {
        now.list.words.clone().into_response()
    } else {
        let List { words, regexes } = &now.words;
        Json(ListView { version: now.list.version, words, regexes }).into_response()
    };
    Ok(tagged(now.list.version, response))
}

/// Puts a list in the place of the one there is: JSON, or `text/plain` with one word a line, which
/// leaves the regexes as they are. With `If-Match` only if the list is of that version. It is in
/// effect everywhere within a second of being compiled.
#[utoipa::path(put, path = "/v1/filter", tag = "filter",
    request_body(content((NewList = "application/json"), (String = "text/plain"))),
    responses(
        (status = 200, body = Changed),
        (status = 400, body = ErrorBody, description = "the text tells which word or regex"),
        (status = 412, body = ErrorBody, description = "the list is of another version"),
        (status = 413, body = ErrorBody,
            description = "The body is larger than http.list_body_bytes_max."),
        (status = 415, body = ErrorBody,
            description = "The body did not come as application/json or text/plain."),
    ), security(("api_key" = [])))]
pub(crate) async fn replace(
    State(shared): Context,
    actor: Actor,
    request: Request,
) -> Result<Response, ApiError> {
    let filters = filters(&shared)?;
    let meant = meant(request.headers())?;
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let now = if kind.eq_ignore_ascii_case("text/plain") {
        let bytes = body_bytes(request, &shared).await.map_err(larger)?;
        let text = std::str::from_utf8(&bytes);
        let text = text.map_err(|_| ApiError::bad_request("the words are not UTF-8"))?;
        let words = List::of_lines(text, "").words;
        let make = move |now: &List| List { words: words.clone(), regexes: now.regexes.clone() };
        filters.change(meant, make).await?
    } else if kind.eq_ignore_ascii_case("application/json") {
        let Body(NewList { words, regexes }) =
            Body::from_request(request, &shared).await.map_err(larger)?;
        filters.change(meant, move |_| List::new(words.clone(), regexes.clone())).await?
    } else {
        let text = "the body must come with Content-Type: application/json or text/plain";
        return Err(ApiError::bad_request(text).with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    };
    Ok(changed(&shared, actor.entry("filter.replace", ""), &now).await)
}

/// Its bound is its own.
fn larger(mut error: ApiError) -> ApiError {
    if error.code == Code::TooLarge {
        error.text = "the body is larger than http.list_body_bytes_max".to_owned();
    }
    error
}

/// Adds words and regexes, and removes some. What is there already, or not there, is no error.
#[utoipa::path(patch, path = "/v1/filter", tag = "filter", request_body = ChangeList,
    responses(
        (status = 200, body = Changed),
        (status = 412, body = ErrorBody, description = "the list is of another version"),
        (status = 413, body = ErrorBody,
            description = "The body is larger than http.list_body_bytes_max."),
    ), security(("api_key" = [])))]
pub(crate) async fn change(
    State(shared): Context,
    actor: Actor,
    request: Request,
) -> Result<Response, ApiError> {
    let filters = filters(&shared)?;
    let meant = meant(request.headers())?;
    let Body(body) = Body::<ChangeList>::from_request(request, &shared).await.map_err(larger)?;
    let ChangeList { add_words, remove_words, add_regexes, remove_regexes } = body;
    let change = Change { add_words, remove_words, add_regexes, remove_regexes };
    let now = filters.change(meant, move |now| now.clone().changed(change.clone())).await?;
    Ok(changed(&shared, actor.entry("filter.change", ""), &now).await)
}

/// Tells what a text hits, and how it was read. It is not sent anywhere.
#[utoipa::path(post, path = "/v1/filter/check", tag = "filter", request_body = Try,
    responses((status = 200, body = Tried)), security(("api_key" = [])))]
pub(crate) async fn check(
    State(shared): Context,
    Body(Try { text }): Body<Try>,
) -> Result<Json<Tried>, ApiError> {
    let now = filters(&shared)?.look().await?;
    let bytes_max = shared.api.payload_bytes_max as usize;
    if text.len() > bytes_max {
        let text = format!("text has {} bytes; allowed are {bytes_max}", text.len());
        return Err(ApiError::bad_request(text));
    }
    let mut look = now.filter.look(&text);
    look.words.truncate(NAMED_MAX);
    look.regexes.truncate(NAMED_MAX);
    Ok(Json(Tried {
        hit: !look.words.is_empty() || !look.regexes.is_empty(),
        words: look.words,
        regexes: look.regexes,
        normal: look.normal,
        folded: look.folded,
        version: now.list.version,
    }))
}
