//! Messages as operators look for them, and take them back.

use super::{audit, subject};
use crate::conversations::words;
use crate::http::actor::Actor;
use crate::http::caller::accounts;
use crate::http::errors::{ApiError, ErrorBody};
use crate::http::extract::{Body, Params};
use crate::http::groups::{check_limit, served};
use crate::http::{Context, Shared};
use crate::search::{self as rules, Hit, Place, Scope, Search};
use crate::store::conversations;
use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use uproar_proto::v1::{self, Kind};
use utoipa::{IntoParams, ToSchema};

/// The longest part of a text that may be looked for, in bytes.
const CONTAINS_BYTES_MAX: usize = 256;

/// Which messages, and which page of them. Either `group`, or `user` and `peer`, or `user` alone.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SearchParams {
    /// The id of a group: its messages; with `user`, those that user wrote.
    group: Option<String>,
    /// With `peer`: what the two wrote to each other. Alone: what this user wrote, conversation by
    /// conversation.
    user: Option<String>,
    peer: Option<String>,
    /// Not before this moment.
    from_unix_ms: Option<i64>,
    /// Not after this moment.
    to_unix_ms: Option<i64>,
    /// In each conversation `newest` first, the default, or `oldest` first.
    order: Option<OrderWord>,
    /// A part of the text, whatever its case; 1 to 256 bytes.
    contains: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
    /// Messages on the page; 1 to 200, default 100.
    limit: Option<u32>,
}

/// Which way a search goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OrderWord {
    #[default]
    Newest,
    Oldest,
}

/// A file a message refers to.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FileView {
    url: String,
    bytes: u64,
    media_type: String,
    name: String,
    thumbnail_url: String,
}

/// A message as it is kept.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MessageView {
    /// The group it stands in.
    #[schema(example = "00000000deadbeef")]
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    /// One-to-one: the two users.
    #[serde(skip_serializing_if = "Option::is_none")]
    between: Option<[String; 2]>,
    /// A number as text, as all ids are.
    #[schema(example = "61")]
    seq: String,
    /// Who wrote it; empty: an operator's notice.
    user: String,
    user_id: String,
    time_unix_ms: u64,
    /// `message`, `recall`, `edit`, `pin`, `unpin`, `notice`, or `reactions`: counts have changed.
    kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    text: String,
    /// Base64.
    #[serde(skip_serializing_if = "String::is_empty")]
    data: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<FileView>,
    /// What an event is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    target_seq: Option<String>,
    /// The content was taken back, or is kept no longer.
    gone: bool,
    /// The seq of the edit that the text comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    edited_seq: Option<String>,
    /// A notice: what happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    notice: Option<NoticeView>,
}

/// What happened in a group.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NoticeView {
    #[schema(example = "joined")]
    what: String,
    users: Vec<String>,
    /// Users that are not named.
    more: u32,
    text: String,
}

impl MessageView {
    pub(super) fn of(hit: Hit) -> MessageView {
        let Hit { place, sender, message } = hit;
        let (group, between) = match place {
            Place::Group(conv) => (Some(words::group_id(conv)), None),
            Place::Pair(users) => (None, Some(users)),
        };
        let some = |seq: u64| (seq != 0).then(|| seq.to_string());
        let kind = Kind::try_from(message.kind).unwrap_or_default();
        MessageView {
            group,
            between,
            seq: message.seq.to_string(),
            user: message.user,
            user_id: sender.to_string(),
            time_unix_ms: message.time_ms,
            kind: kind.as_str_name().to_lowercase(),
            text: message.text,
            data: STANDARD.encode(&message.data),
            file: message.file.map(|file| FileView::of(*file)),
            target_seq: some(message.target_seq),
            gone: message.gone,
            edited_seq: some(message.edited_seq),
            notice: message.notice.map(|notice| NoticeView::of(*notice)),
        }
    }
}

impl FileView {
    fn of(file: v1::File) -> FileView {
        let v1::File { url, bytes, media_type, name, thumbnail_url, .. } = file;
        FileView { url, bytes, media_type, name, thumbnail_url }
    }
}

impl NoticeView {
    fn of(notice: v1::Notice) -> NoticeView {
        let v1::Notice { what, users, more, text, .. } = notice;
        NoticeView { what, users, more, text }
    }
}

/// A page of messages that were found. It may hold none and still have a `next`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FoundPage {
    messages: Vec<MessageView>,
    /// How many messages were looked at for this page, about 2,000 at most.
    scanned: u32,
    /// Pass it as `after` for the next page; absent once all were looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Body of `POST /v1/admin/messages/recall`: a message of a group, or of two users.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecallMessage {
    /// The id of a group.
    group: Option<String>,
    /// One of two users who wrote to each other.
    user: Option<String>,
    /// The other one.
    peer: Option<String>,
    /// The message's.
    #[schema(example = "61")]
    seq: String,
}

/// What became of a message.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RecalledMessage {
    /// The seq of the recall; absent where the content was gone before.
    #[serde(skip_serializing_if = "Option::is_none")]
    recall_seq: Option<String>,
}

/// Looks for messages of a time: a scan along one conversation, or along those of one user, of at
/// most about 2,000 messages a request. It is no index of words: `scanned` and `next` tell how far
/// it came.
#[utoipa::path(get, path = "/v1/admin/messages", tag = "admin", params(SearchParams),
    responses((status = 200, body = FoundPage), (status = 404, body = ErrorBody)),
    security(("api_key" = [])))]
pub(crate) async fn search(
    State(shared): Context,
    actor: Actor,
    Params(params): Params<SearchParams>,
) -> Result<Json<FoundPage>, ApiError> {
    let search = meant(&shared, params).await?;
    let found = rules::search(accounts(&shared)?.store(), &search).await?;
    let detail = match search.scope {
        Scope::In { conv, .. } => format!("conversation={conv}"),
        Scope::SentBy(user) => format!("user_id={user}"),
    };
    audit(&shared, &actor, "messages.search", "", detail).await;
    Ok(Json(FoundPage {
        messages: found.hits.into_iter().map(MessageView::of).collect(),
        scanned: found.scanned,
        next: found.next.map(|(conv, seq)| format!("{conv}-{seq}")),
    }))
}

async fn meant(shared: &Shared, params: SearchParams) -> Result<Search, ApiError> {
    let SearchParams { group, user, peer, from_unix_ms, to_unix_ms, .. } = params;
    let scope = scope(shared, group, user, peer).await?;
    let contains = params.contains.unwrap_or_default().to_lowercase();
    if contains.len() > CONTAINS_BYTES_MAX {
        let many = contains.len();
        let text = format!("contains has {many} bytes; allowed are {CONTAINS_BYTES_MAX}");
        return Err(ApiError::bad_request(text));
    }
    let cursor = |text: &str| {
        let (conv, seq) = text.split_once('-')?;
        let number = |text: &str| text.parse::<i64>().ok().filter(|n| (0..i64::MAX).contains(n));
        Some((number(conv)?, number(seq)?))
    };
    let after = params.after.map(|text| {
        let cursor = cursor(&text).filter(|(conv, _)| match scope {
            Scope::In { conv: meant, .. } => *conv == meant,
            Scope::SentBy(_) => true,
        });
        cursor.ok_or_else(|| ApiError::bad_request("after is not the next of a page"))
    });
    Ok(Search {
        scope,
        from_ms: from_unix_ms.unwrap_or(0),
        to_ms: to_unix_ms.unwrap_or(i64::MAX),
        newest_first: params.order.unwrap_or_default() == OrderWord::Newest,
        contains,
        after: after.transpose()?,
        limit: check_limit(params.limit)? as usize,
    })
}

async fn scope(
    shared: &Shared,
    group: Option<String>,
    user: Option<String>,
    peer: Option<String>,
) -> Result<Scope, ApiError> {
    match (group, user, peer) {
        (Some(group), user, None) => {
            let sender = match user {
                Some(user) => Some(subject(shared, &user).await?.id),
                None => None,
            };
            Ok(Scope::In { conv: group_conv(&group)?, sender })
        }
        (None, Some(user), Some(peer)) => {
            let conv = between(shared, &user, &peer).await?;
            Ok(Scope::In { conv, sender: None })
        }
        (None, Some(user), None) => Ok(Scope::SentBy(subject(shared, &user).await?.id)),
        _ => {
            let text = "what is meant is group, or user and peer, or user alone";
            Err(ApiError::bad_request(text))
        }
    }
}

fn group_conv(group: &str) -> Result<i64, ApiError> {
    words::group_conv(group).ok_or_else(|| {
        let shown: String = group.chars().take(80).collect();
        ApiError::bad_request(format!("group is {shown:?}; an id has 16 digits of 0-9 and a-f"))
    })
}

/// The conversation of two users; whether it exists is another question.
async fn between(shared: &Shared, user: &str, peer: &str) -> Result<i64, ApiError> {
    let (one, other) = (subject(shared, user).await?.id, subject(shared, peer).await?.id);
    let mut conn = accounts(shared)?.store().reader().await?;
    Ok(conversations::direct(&mut conn, one, other).await?)
}

/// Takes a message back, as its author could: its content is erased, and everybody in the
/// conversation learns it by the same event. Repeated, it changes nothing.
#[utoipa::path(post, path = "/v1/admin/messages/recall", tag = "admin",
    request_body = RecallMessage,
    responses((status = 200, body = RecalledMessage), (status = 404, body = ErrorBody)),
    security(("api_key" = [])))]
pub(crate) async fn recall(
    State(shared): Context,
    actor: Actor,
    Body(body): Body<RecallMessage>,
) -> Result<Json<RecalledMessage>, ApiError> {
    let seq = body.seq.parse::<i64>().ok().filter(|seq| *seq > 0);
    let seq = seq.ok_or_else(|| ApiError::bad_request("seq is a number from 1 on"))?;
    let conv = match (body.group, body.user, body.peer) {
        (Some(group), None, None) => group_conv(&group)?,
        (None, Some(user), Some(peer)) => between(&shared, &user, &peer).await?,
        _ => {
            let text = "what is meant is group, or user and peer";
            return Err(ApiError::bad_request(text));
        }
    };
    let recalled = served(&shared)?.recall(conv, seq).await?;
    let detail = format!("conversation={conv} seq={seq}");
    audit(&shared, &actor, "messages.recall", "", detail).await;
    Ok(Json(RecalledMessage { recall_seq: recalled.map(|seq| seq.to_string()) }))
}
