//! What frames say, checked; and what is kept, as frames say it. Pure.

use crate::groups::{Noted, Role};
use crate::relations::Edge;
use crate::store::append::{Append, Appended, Target, msg_id};
use crate::store::conversations::{DIRECT, Kept, View};
use crate::store::reactions::{Beside, Event};
use crate::store::relations::Related;
use crate::store::settings::Settings;
use prost::Message as _;
use sha2::{Digest, Sha256};
use uproar_proto::error::Code;
use uproar_proto::names::is_hidden;
use uproar_proto::token::USER_BYTES_MAX;
use uproar_proto::v1::{self, Kind};

/// The longest reaction, in bytes: the longest emoji is one of 35, two people with their skins.
pub(crate) const REACTION_BYTES_MAX: usize = 48;
/// The longest text of one field of a file reference, in bytes.
const FILE_FIELD_BYTES_MAX: usize = 1024;

/// Which conversation a client means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named<'a> {
    /// With this user.
    User(&'a str),
    /// Of this group.
    Group(i64),
}

impl Named<'_> {
    /// Reads `user:NAME` or `group:ID`.
    pub(crate) fn parse(name: &str) -> Result<Named<'_>, Code> {
        if let Some(user) = name.strip_prefix("user:")
            && (1..=USER_BYTES_MAX).contains(&user.len())
        {
            return Ok(Named::User(user));
        }
        let conv = name.strip_prefix("group:").and_then(group_conv);
        conv.map(Named::Group).ok_or(Code::BadConversation)
    }
}

/// A group's id as clients see it: a string, since a JSON number holds 53 bits in most readers.
pub(crate) fn group_id(conv: i64) -> String {
    format!("{conv:016x}")
}

/// How a group's conversation is called.
pub(crate) fn with_group(conv: i64) -> String {
    format!("group:{}", group_id(conv))
}

/// The conversation of a group's id; `None`: it is none.
pub(crate) fn group_conv(id: &str) -> Option<i64> {
    let written = id.len() == 16 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    written.then(|| i64::from_str_radix(id, 16).ok()).flatten()
}

/// How a one-to-one conversation is called by the one who talks to `peer`.
pub(crate) fn with_user(peer: &str) -> String {
    format!("user:{peer}")
}

/// A conversation as a sync tells it; `pinned`: by seq.
pub(super) fn state(view: View, pinned: &[i64]) -> v1::ConversationState {
    let seen = pinned.iter().filter(|seq| **seq > view.floor && **seq <= view.head);
    let pinned = seen.map(|seq| *seq as u64).collect();
    let group = view.group.map(|group| {
        Box::new(v1::GroupState {
            name: group.name,
            members: u32::try_from(group.size).unwrap_or_default(),
            role: Role::from_row(group.role).word().to_owned(),
            muted_all: group.muted_all,
            muted_until_ms: group.muted_until_ms as u64,
        })
    });
    let conversation = match view.kind {
        DIRECT => with_user(&view.peer),
        _ => with_group(view.conv),
    };
    v1::ConversationState {
        conversation,
        head_seq: view.head as u64,
        floor_seq: view.floor as u64,
        read_seq: view.read as u64,
        unread: view.unread as u64,
        peer_read_seq: view.peer_cursors.0 as u64,
        peer_delivered_seq: view.peer_cursors.1 as u64,
        left: view.left,
        changed_ms: view.changed_ms as u64,
        group,
        pinned,
        silent: view.silent,
    }
}

/// What a user is to another one, as the user is told.
pub(super) fn relation(name: &str, edge: Edge, changed_ms: i64) -> v1::RelationState {
    v1::RelationState {
        user: name.to_owned(),
        friend: edge.has(Edge::FRIEND),
        asked: edge.has(Edge::ASKED),
        asking: edge.has(Edge::ASKING),
        blocks: edge.has(Edge::BLOCKS),
        follows: edge.has(Edge::FOLLOWS),
        changed_ms: changed_ms as u64,
    }
}

/// The same as a sync tells it.
pub(super) fn related(related: &Related) -> v1::RelationState {
    relation(&related.name, related.edge, related.changed_ms)
}

/// A user's settings, as its devices are told.
pub(super) fn settings(settings: Settings) -> v1::Settings {
    v1::Settings {
        private_read: settings.private_read,
        hide_last_seen: settings.hide_last_seen,
        changed_ms: settings.changed_ms as u64,
    }
}

/// Whether a text may be a reaction: 1 to 48 bytes, nothing that is not seen but what joins and
/// colours emoji.
pub(super) fn is_reaction(text: &str) -> bool {
    let joins = |c| matches!(c, '\u{200d}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0020}'..='\u{e007f}');
    let is_seen = |c: char| !c.is_whitespace() && !is_hidden(c);
    (1..=REACTION_BYTES_MAX).contains(&text.len())
        && text.chars().all(|c| is_seen(c) || joins(c))
        && text.chars().any(|c| is_seen(c) && !joins(c))
}

/// A client's message, checked as far as its own fields go. `target` is where it goes.
pub(super) fn append(
    send: &v1::Send,
    sender: i64,
    target: Target,
    payload_bytes_max: usize,
) -> Result<Append, Code> {
    let id: [u8; 16] = send.client_msg_id.as_ref().try_into().map_err(|_| Code::BadId)?;
    let kind = Kind::try_from(send.kind).map_err(|_| Code::BadRequest)?;
    let file_bytes = send.file.as_deref().map_or(Ok(0), file_bytes)?;
    if send.text.len() + send.data.len() + file_bytes > payload_bytes_max {
        return Err(Code::TooLarge);
    }
    let empty = send.text.is_empty() && send.data.is_empty() && send.file.is_none();
    match kind {
        Kind::Message | Kind::Edit if empty => return Err(Code::Empty),
        Kind::Message if send.target_seq != 0 => return Err(Code::BadRequest),
        Kind::Recall | Kind::Pin | Kind::Unpin if !empty => return Err(Code::BadRequest),
        // The server's own.
        Kind::Notice | Kind::Reactions => return Err(Code::Forbidden),
        _ => {}
    }
    let decoded = v1::Send {
        conversation: String::new(),
        client_msg_id: bytes::Bytes::new(),
        ..send.clone()
    };
    let digest = Sha256::digest(decoded.encode_to_vec());
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    Ok(Append {
        sender,
        target,
        client_msg_id: u128::from_be_bytes(id),
        hash: i64::from_be_bytes(first),
        kind,
        target_seq: i64::try_from(send.target_seq).map_err(|_| Code::NotFound)?,
        body: body(send),
        by_operator: false,
    })
}

/// The content of a message as it is kept.
pub(super) fn body(send: &v1::Send) -> Vec<u8> {
    let content = v1::StoredMessage {
        text: send.text.clone(),
        data: send.data.clone(),
        file: send.file.clone(),
        ..v1::StoredMessage::default()
    };
    content.encode_to_vec()
}

/// Whether a message may have this text in place of its own: it is as large as it may be, and not
/// empty.
pub(super) fn takes(send: &v1::Send, text: &str, payload_bytes_max: usize) -> bool {
    let file = send.file.as_deref();
    let file_bytes = file.map_or(0, |file| file_bytes(file).unwrap_or(usize::MAX / 2));
    let is_empty = text.is_empty() && send.data.is_empty() && file.is_none();
    !is_empty && text.len() + send.data.len() + file_bytes <= payload_bytes_max
}

/// Bytes of a file reference, where each of its fields is as it may be.
fn file_bytes(file: &v1::File) -> Result<usize, Code> {
    let fields = [&file.url, &file.media_type, &file.name, &file.thumbnail_url];
    if fields.iter().any(|field| field.len() > FILE_FIELD_BYTES_MAX) {
        return Err(Code::TooLarge);
    }
    let hash = matches!(file.sha256.len(), 0 | 32);
    if file.url.is_empty() || !hash {
        return Err(Code::BadRequest);
    }
    Ok(fields.iter().map(|field| field.len()).sum::<usize>() + file.sha256.len())
}

/// A message that was just appended, as it is pushed; `own`: to the sender's devices.
pub(super) fn pushed(
    send: &v1::Send,
    user: &str,
    place: &Appended,
    own: bool,
) -> v1::StoredMessage {
    v1::StoredMessage {
        seq: place.seq as u64,
        user: user.to_owned(),
        time_ms: place.time_ms as u64,
        msg_id: place.msg_id,
        client_msg_id: if own { send.client_msg_id.clone() } else { bytes::Bytes::new() },
        kind: send.kind,
        text: send.text.clone(),
        data: send.data.clone(),
        file: send.file.clone(),
        target_seq: send.target_seq,
        ..v1::StoredMessage::default()
    }
}

/// An edit without what it says, for who cannot see its target.
pub(super) fn blank(message: &v1::StoredMessage) -> v1::StoredMessage {
    v1::StoredMessage {
        text: String::new(),
        data: bytes::Bytes::new(),
        file: None,
        reactions: Vec::new(),
        own_reactions: Vec::new(),
        ..message.clone()
    }
}

/// An event that tells what reactions a message has, as it is pushed; `by` changed them last.
pub(super) fn counted(event: &Event, by: &str) -> v1::StoredMessage {
    v1::StoredMessage {
        seq: event.seq as u64,
        user: by.to_owned(),
        time_ms: event.time_ms as u64,
        kind: Kind::Reactions.into(),
        target_seq: event.target_seq as u64,
        msg_id: event.msg_id,
        reactions: event.totals.clone(),
        ..v1::StoredMessage::default()
    }
}

/// A notice that was just appended, as it is pushed.
pub(super) fn noted(noted: &Noted, actor: &str) -> v1::StoredMessage {
    v1::StoredMessage {
        seq: noted.seq as u64,
        user: actor.to_owned(),
        time_ms: noted.time_ms as u64,
        kind: Kind::Notice.into(),
        notice: Some(Box::new(noted.notice.clone())),
        msg_id: noted.msg_id,
        ..v1::StoredMessage::default()
    }
}

/// A recall that an operator wrote for the author, as it is pushed.
pub(super) fn recalled(
    (seq, time_ms): (i64, i64),
    target_seq: i64,
    author: &str,
) -> v1::StoredMessage {
    v1::StoredMessage {
        seq: seq as u64,
        user: author.to_owned(),
        time_ms: time_ms as u64,
        kind: Kind::Recall.into(),
        target_seq: target_seq as u64,
        ..v1::StoredMessage::default()
    }
}

/// A pulled message with what its conversation and the rows beside it say.
pub(crate) fn completed(
    message: v1::StoredMessage,
    conv: i64,
    kept: &Kept,
    beside: Option<Beside>,
) -> v1::StoredMessage {
    let Beside { totals, own, pinned } = beside.unwrap_or_default();
    v1::StoredMessage {
        msg_id: msg_id(conv, kept.sender, kept.client_msg_id),
        reactions: totals,
        own_reactions: own,
        pinned_seq: pinned as u64,
        ..message
    }
}

/// A message as it is kept, for a reader; `own`: the reader wrote it.
///
/// # Errors
/// What is wrong with the row.
pub(crate) fn pulled(kept: &Kept, user: &str, own: bool) -> Result<v1::StoredMessage, String> {
    let content = kept.body.as_deref().unwrap_or_default();
    let message = v1::StoredMessage::decode(content).map_err(|e| e.to_string())?;
    let id = bytes::Bytes::copy_from_slice(&kept.client_msg_id.to_be_bytes());
    let by_server = matches!(kept.kind, NOTICE | REACTIONS);
    let event = kept.kind != Kind::Message as i64 && kept.kind != NOTICE;
    Ok(v1::StoredMessage {
        seq: kept.seq as u64,
        user: user.to_owned(),
        time_ms: kept.time_ms as u64,
        client_msg_id: if own && !by_server { id } else { bytes::Bytes::new() },
        kind: i32::try_from(kept.kind).unwrap_or_default(),
        target_seq: kept.target as u64,
        gone: !event && content.is_empty(),
        edited_seq: if event || content.is_empty() { 0 } else { kept.edited as u64 },
        ..message
    })
}

/// A notice as it is kept, with one name in place of another; `None`: it does not name it.
///
/// # Errors
/// What is wrong with the row.
pub(crate) fn renamed(body: &[u8], old: &str, new: &str) -> Result<Option<Vec<u8>>, String> {
    let mut message = v1::StoredMessage::decode(body).map_err(|e| e.to_string())?;
    let Some(notice) = &mut message.notice else { return Ok(None) };
    let mut is_named = false;
    for user in notice.users.iter_mut().filter(|user| *user == old) {
        new.clone_into(user);
        is_named = true;
    }
    Ok(is_named.then(|| message.encode_to_vec()))
}

/// Written by the server, not by who is named.
const NOTICE: i64 = Kind::Notice as i64;
/// See [`NOTICE`].
pub(crate) const REACTIONS: i64 = Kind::Reactions as i64;

/// What a sync lists, in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    #[default]
    Conversations,
    Relations,
    /// All relations there are: the cursor the sync began with was too old.
    Whole,
}

/// Where a sync goes on: from a moment on, to be asked again from `next_ms`, after this id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SyncCursor {
    pub(super) since_ms: i64,
    pub(super) next_ms: i64,
    pub(super) part: Part,
    pub(super) after: i64,
}

impl SyncCursor {
    /// `None` where this server never gave it out.
    pub(super) fn parse(text: &str, now_ms: i64) -> Option<SyncCursor> {
        // Transactions are shorter than this, so nothing is committed later with an older moment.
        let next_ms = (now_ms - OVERLAP_MS).max(0);
        let first = SyncCursor { next_ms, ..SyncCursor::default() };
        if text.is_empty() {
            return Some(first);
        }
        let number = |text: &str| text.parse::<i64>().ok().filter(|n| *n >= 0);
        match text.split('-').collect::<Vec<&str>>()[..] {
            [since] => Some(SyncCursor { since_ms: number(since)?, ..first }),
            [since, next, after, ref part @ ..] => {
                let part = match part {
                    [] => Part::Conversations,
                    ["r"] => Part::Relations,
                    ["a"] => Part::Whole,
                    _ => return None,
                };
                let (since_ms, next_ms) = (number(since)?, number(next)?);
                Some(SyncCursor { since_ms, next_ms, part, after: number(after)? })
            }
            _ => None,
        }
    }

    /// Whether it is the first page.
    pub(super) fn is_first(&self) -> bool {
        self.part == Part::Conversations && self.after == 0
    }

    /// For the next sync, once there is no further page.
    pub(super) fn next_sync(&self) -> String {
        self.next_ms.to_string()
    }

    /// For the next page: after this id of a part.
    pub(super) fn next_page(&self, part: Part, after: i64) -> String {
        let end = match part {
            Part::Conversations => "",
            Part::Relations => "-r",
            Part::Whole => "-a",
        };
        format!("{}-{}-{after}{end}", self.since_ms, self.next_ms)
    }
}

/// A sync looks this far back: entries repeat, none is missed.
const OVERLAP_MS: i64 = 30_000;
