//! An export over HTTP: one JSON object a line, streamed as it is read.
//!
//! Owns the lines and the pace: a few pages wait for a client that reads slowly, and one that does
//! not read at all is given up. Whether an export is whole, its last line tells.

use super::messages::MessageView;
use super::{Subject, alive, audit};
use crate::conversations::words;
use crate::export::{Export, Piece};
use crate::groups::Role;
use crate::http::Context;
use crate::http::actor::Actor;
use crate::http::caller::accounts;
use crate::http::errors::{ApiError, ErrorBody};
use crate::relations::Edge;
use crate::search::Place;
use crate::store::StoreError;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_core::Stream;
use serde::Serialize;
use std::pin::Pin;
use std::task::{self, Poll};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use uproar_proto::control::PenaltyKind;
use utoipa::ToSchema;

/// Pages that wait for the client, of 200 messages at most each.
const PAGES_WAITING_MAX: usize = 2;
/// The longest wait for a client that takes nothing. Reached: the export ends before its last line.
const CLIENT_WAIT_MAX: Duration = Duration::from_secs(60);

/// A line of an export.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum ExportLine {
    /// The account.
    Account {
        user: String,
        user_id: String,
        created_unix_ms: i64,
        has_password: bool,
        /// Whether it is banned.
        banned: bool,
    },
    /// A log-in that goes on.
    Session {
        session: String,
        device: String,
        created_unix_ms: i64,
        used_unix_ms: i64,
        expires_unix_ms: i64,
    },
    /// A room keeps the user out (`ban`) or silent (`mute`), as far as that was stored.
    Penalty { room: String, kind: &'static str, until_unix_ms: u64 },
    /// What the user is to another one.
    Relation {
        peer: String,
        friend: bool,
        asked: bool,
        asking: bool,
        blocks: bool,
        follows: bool,
        changed_unix_ms: i64,
    },
    /// Somebody who follows the user.
    Follower { peer: String, changed_unix_ms: i64 },
    /// A time in a group.
    Group {
        group: String,
        name: String,
        role: String,
        /// It reads what is above.
        since_seq: String,
        /// And up to here; absent: it is in it.
        #[serde(skip_serializing_if = "Option::is_none")]
        until_seq: Option<String>,
        read_seq: String,
    },
    /// A conversation with another user.
    Conversation { peer: String, read_seq: String, delivered_seq: String },
    /// It waits to be let into a group.
    Request { group: String, text: String, asked_unix_ms: i64 },
    /// What the user wrote anywhere, and what was written to it one-to-one.
    Message { message: Box<MessageView> },
    /// What the user reacted to a message with.
    Reaction {
        /// The group the message stands in.
        #[serde(skip_serializing_if = "Option::is_none")]
        group: Option<String>,
        /// One-to-one: the two users.
        #[serde(skip_serializing_if = "Option::is_none")]
        between: Option<[String; 2]>,
        seq: String,
        reactions: Vec<String>,
    },
    /// The last line of a whole export.
    End {
        /// Lines before this one.
        lines: u64,
    },
}

impl ExportLine {
    fn of(piece: Piece) -> ExportLine {
        match piece {
            Piece::Account(account, ban) => ExportLine::Account {
                user: account.name,
                user_id: account.id.to_string(),
                created_unix_ms: account.created_ms,
                has_password: account.has_password,
                banned: ban.is_some(),
            },
            Piece::Session(session) => ExportLine::Session {
                session: session.id.to_string(),
                device: session.device,
                created_unix_ms: session.created_ms,
                used_unix_ms: session.turned_ms,
                expires_unix_ms: session.expires_ms,
            },
            Piece::Penalty(room, held) => ExportLine::Penalty {
                room,
                kind: match held.kind {
                    PenaltyKind::Ban => "ban",
                    PenaltyKind::Mute => "mute",
                },
                until_unix_ms: held.until_ms,
            },
            Piece::Relation(peer, edge, changed_unix_ms) => ExportLine::Relation {
                peer,
                friend: edge.has(Edge::FRIEND),
                asked: edge.has(Edge::ASKED),
                asking: edge.has(Edge::ASKING),
                blocks: edge.has(Edge::BLOCKS),
                follows: edge.has(Edge::FOLLOWS),
                changed_unix_ms,
            },
            Piece::Follower(follower) => {
                ExportLine::Follower { peer: follower.name, changed_unix_ms: follower.changed_ms }
            }
            Piece::Stay(stay, peer) => match stay.group {
                Some(name) => ExportLine::Group {
                    group: words::group_id(stay.conv),
                    name,
                    role: Role::from_row(stay.role).word().to_owned(),
                    since_seq: stay.since.to_string(),
                    until_seq: (stay.until != 0).then(|| stay.until.to_string()),
                    read_seq: stay.read.to_string(),
                },
                None => ExportLine::Conversation {
                    peer,
                    read_seq: stay.read.to_string(),
                    delivered_seq: stay.delivered.to_string(),
                },
            },
            Piece::Request(conv, text, asked_unix_ms) => {
                ExportLine::Request { group: words::group_id(conv), text, asked_unix_ms }
            }
            Piece::Message(hit) => ExportLine::Message { message: Box::new(MessageView::of(*hit)) },
            Piece::Reaction(place, seq, reactions) => {
                let (group, between) = match place {
                    Place::Group(conv) => (Some(words::group_id(conv)), None),
                    Place::Pair(users) => (None, Some(users)),
                };
                ExportLine::Reaction { group, between, seq: seq.to_string(), reactions }
            }
        }
    }
}

/// Everything there is of a user, one JSON object a line: the account, its log-ins (without
/// secrets), where it is banned or muted, what it is to others, its conversations with its cursors,
/// what it wrote, its reactions, and what was written to it one-to-one. What others wrote in groups
/// is theirs. The last line is of type `end`; an export without it is not whole.
#[utoipa::path(get, path = "/v1/admin/users/{user}/export", tag = "admin",
    params(("user" = String, Path, description = "a user's name")),
    responses(
        (status = 200, body = ExportLine, content_type = "application/x-ndjson",
            description = "one object a line"),
        (status = 404, body = ErrorBody),
    ), security(("api_key" = [])))]
pub(crate) async fn export(
    State(shared): Context,
    actor: Actor,
    Subject(account): Subject,
) -> Result<Response, ApiError> {
    alive(&account)?;
    audit(&shared, &actor, "user.export", &account.name, String::new()).await;
    let store = accounts(&shared)?.store().clone();
    let mut export = Export::of(store, account);
    // The first page before the status: a store that does not answer is told as one.
    let first = export.next().await?.unwrap_or_default();
    let (sender, receiver) = mpsc::channel(PAGES_WAITING_MAX);
    tokio::spawn(send(export, first, sender));
    let kind = HeaderValue::from_static("application/x-ndjson");
    Ok(([(header::CONTENT_TYPE, kind)], Body::from_stream(Pages(receiver))).into_response())
}

type Page = Result<Bytes, StoreError>;

/// Reads page after page, as fast as the client takes them.
async fn send(mut export: Export, first: Vec<Piece>, sender: mpsc::Sender<Page>) {
    let mut lines = first.len() as u64;
    let mut page = Ok(text(first.into_iter().map(ExportLine::of)));
    loop {
        let failed = page.is_err();
        if let Err(error) = &page {
            tracing::warn!(%error, "an export ended before it was whole");
        }
        // Gone, or it reads nothing: nobody is left to send to.
        if !matches!(timeout(CLIENT_WAIT_MAX, sender.send(page)).await, Ok(Ok(()))) || failed {
            return;
        }
        page = match export.next().await {
            Ok(Some(pieces)) => {
                lines += pieces.len() as u64;
                Ok(text(pieces.into_iter().map(ExportLine::of)))
            }
            Ok(None) => break,
            Err(error) => Err(error),
        };
    }
    let end = Ok(text([ExportLine::End { lines }].into_iter()));
    // Whether the client takes the last line is its business.
    let _ = timeout(CLIENT_WAIT_MAX, sender.send(end)).await;
}

fn text(lines: impl Iterator<Item = ExportLine>) -> Bytes {
    let mut text = Vec::new();
    for line in lines {
        // Strings and numbers, into memory: it cannot fail.
        let _ = serde_json::to_writer(&mut text, &line);
        text.push(b'\n');
    }
    Bytes::from(text)
}

/// Pages as a body.
struct Pages(mpsc::Receiver<Page>);

impl Stream for Pages {
    type Item = Page;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Page>> {
        self.0.poll_recv(cx)
    }
}
