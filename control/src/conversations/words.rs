//! What frames say, checked; and what is kept, as frames say it. Pure.

use crate::store::append::{Append, Target};
use crate::store::conversations::Kept;
use prost::Message as _;
use sha2::{Digest, Sha256};
use uproar_proto::error::Code;
use uproar_proto::token::USER_BYTES_MAX;
use uproar_proto::v1::{self, Kind};

/// The longest text of one field of a file reference, in bytes.
const FILE_FIELD_BYTES_MAX: usize = 1024;

/// Which conversation a client means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named<'a> {
    /// With this user.
    User(&'a str),
    /// Of this group.
    Group(i64),
}

impl Named<'_> {
    /// Reads `user:NAME` or `group:ID`.
    pub(super) fn parse(name: &str) -> Result<Named<'_>, Code> {
        if let Some(user) = name.strip_prefix("user:")
            && (1..=USER_BYTES_MAX).contains(&user.len())
        {
            return Ok(Named::User(user));
        }
        let id = name.strip_prefix("group:").filter(|id| id.len() == 16);
        let id = id.filter(|id| id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
        let id = id.and_then(|id| i64::from_str_radix(id, 16).ok());
        id.map(Named::Group).ok_or(Code::BadConversation)
    }
}

/// A group's id as clients see it: a string, since a JSON number holds 53 bits in most readers.
pub(super) fn group_id(conv: i64) -> String {
    format!("{conv:016x}")
}

/// How a one-to-one conversation is called by the one who talks to `peer`.
pub(super) fn with_user(peer: &str) -> String {
    format!("user:{peer}")
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
        Kind::Notice => return Err(Code::Forbidden),
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
    let body = v1::StoredMessage {
        text: send.text.clone(),
        data: send.data.clone(),
        file: send.file.clone(),
        ..v1::StoredMessage::default()
    };
    Ok(Append {
        sender,
        target,
        client_msg_id: u128::from_be_bytes(id),
        hash: i64::from_be_bytes(first),
        kind,
        target_seq: i64::try_from(send.target_seq).map_err(|_| Code::NotFound)?,
        body: body.encode_to_vec(),
    })
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
    (seq, time_ms): (i64, i64),
    own: bool,
) -> v1::StoredMessage {
    v1::StoredMessage {
        seq: seq as u64,
        user: user.to_owned(),
        time_ms: time_ms as u64,
        client_msg_id: if own { send.client_msg_id.clone() } else { bytes::Bytes::new() },
        kind: send.kind,
        text: send.text.clone(),
        data: send.data.clone(),
        file: send.file.clone(),
        target_seq: send.target_seq,
        gone: false,
        edited_seq: 0,
    }
}

/// A message as it is kept, for a reader; `own`: the reader wrote it.
///
/// # Errors
/// What is wrong with the row.
pub(super) fn pulled(kept: &Kept, user: &str, own: bool) -> Result<v1::StoredMessage, String> {
    let content = kept.body.as_deref().unwrap_or_default();
    let message = v1::StoredMessage::decode(content).map_err(|e| e.to_string())?;
    let id = bytes::Bytes::copy_from_slice(&kept.client_msg_id.to_be_bytes());
    let event = kept.kind != Kind::Message as i64 && kept.kind != Kind::Notice as i64;
    Ok(v1::StoredMessage {
        seq: kept.seq as u64,
        user: user.to_owned(),
        time_ms: kept.time_ms as u64,
        client_msg_id: if own { id } else { bytes::Bytes::new() },
        kind: i32::try_from(kept.kind).unwrap_or_default(),
        target_seq: kept.target as u64,
        gone: !event && content.is_empty(),
        edited_seq: if event || content.is_empty() { 0 } else { kept.edited as u64 },
        ..message
    })
}

/// Where a sync goes on: from a moment on, to be asked again from `next_ms`, after this id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SyncCursor {
    pub(super) since_ms: i64,
    pub(super) next_ms: i64,
    pub(super) after: i64,
}

impl SyncCursor {
    /// `None` where this server never gave it out.
    pub(super) fn parse(text: &str, now_ms: i64) -> Option<SyncCursor> {
        // Transactions are shorter than this, so nothing is committed later with an older moment.
        let next_ms = (now_ms - OVERLAP_MS).max(0);
        if text.is_empty() {
            return Some(SyncCursor { since_ms: 0, next_ms, after: 0 });
        }
        let mut numbers = text.split('-').map(|part| part.parse::<i64>().ok().filter(|n| *n >= 0));
        match (numbers.next()?, numbers.next(), numbers.next(), numbers.next()) {
            (Some(since_ms), None, None, None) => Some(SyncCursor { since_ms, next_ms, after: 0 }),
            (Some(since_ms), Some(Some(next_ms)), Some(Some(after)), None) => {
                Some(SyncCursor { since_ms, next_ms, after })
            }
            _ => None,
        }
    }

    /// For the next page, or once there is none for the next sync.
    pub(super) fn text(&self, done: bool, after: i64) -> String {
        if done {
            self.next_ms.to_string()
        } else {
            format!("{}-{}-{after}", self.since_ms, self.next_ms)
        }
    }
}

/// A sync looks this far back: entries repeat, none is missed.
const OVERLAP_MS: i64 = 30_000;
