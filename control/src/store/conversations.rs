//! Rows of conversations: ids, memberships, cursors, and what a reader may see.
//!
//! Owns every read path of messages, so that a membership's floor and ceiling are enforced in one
//! place. Appending is [`super::append`]'s.

use super::{Dialect, StoreError, parts};
use sha2::{Digest, Sha256};
use sqlx::{AnyConnection, AssertSqlSafe, Row as _};
use std::collections::BTreeMap;
use uproar_proto::error::Code;

/// `conversations.kind`.
pub(crate) const DIRECT: i64 = 1;
/// See [`DIRECT`].
pub(crate) const GROUP: i64 = 2;

/// A conversation as one of its members sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) conv: i64,
    pub(crate) kind: i64,
    /// One-to-one: both users, the smaller id first.
    pub(crate) users: (i64, i64),
    /// The newest seq this user may see.
    pub(crate) head: i64,
    /// Nothing up to here is this user's to see.
    pub(crate) floor: i64,
    pub(crate) read: i64,
    pub(crate) unread: i64,
    pub(crate) left: bool,
    pub(crate) changed_ms: i64,
}

/// A message as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) seq: i64,
    pub(crate) sender: i64,
    pub(crate) client_msg_id: u128,
    pub(crate) time_ms: i64,
    pub(crate) kind: i64,
    pub(crate) target: i64,
    pub(crate) edited: i64,
    /// `None`: kept no longer. Empty: recalled.
    pub(crate) body: Option<Vec<u8>>,
}

/// The id of the conversation of two users, from their sorted pair: the first 63 bits of a hash.
/// Where another pair has it, the next `salt` counts.
pub(crate) fn pair_id((one, other): (i64, i64), salt: u8) -> i64 {
    let mut hash = Sha256::new();
    hash.update([salt]);
    hash.update(one.min(other).to_be_bytes());
    hash.update(one.max(other).to_be_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash.finalize()[..8]);
    i64::from_be_bytes(first) & i64::MAX
}

/// The same, with a look at who has it.
pub(crate) async fn direct(
    conn: &mut AnyConnection,
    one: i64,
    other: i64,
) -> Result<i64, StoreError> {
    let pair = (one.min(other), one.max(other));
    for salt in 0..8 {
        let conv = pair_id(pair, salt);
        let row = sqlx::query_as::<_, (i64, i64)>(
            "SELECT user_a, user_b FROM conversations WHERE conv = ?",
        );
        match row.bind(conv).fetch_optional(&mut *conn).await? {
            Some(users) if users != pair => {}
            _ => return Ok(conv),
        }
    }
    Err(StoreError::Corrupt(format!("no conversation id is free for the users {pair:?}")))
}

/// Of these (conversation, user) those who are members, and until when they are muted.
pub(crate) async fn members(
    conn: &mut AnyConnection,
    pairs: &[(i64, i64)],
) -> Result<BTreeMap<(i64, i64), i64>, StoreError> {
    let mut found = BTreeMap::new();
    for part in parts(pairs) {
        let these = vec!["(conv = ? AND user = ? AND until = 0)"; part.len()].join(" OR ");
        let select = format!("SELECT conv, user, muted_until_ms FROM memberships WHERE {these}");
        let mut query = sqlx::query_as::<_, (i64, i64, i64)>(AssertSqlSafe(select));
        for (conv, user) in part {
            query = query.bind(*conv).bind(*user);
        }
        for (conv, user, muted_until_ms) in query.fetch_all(&mut *conn).await? {
            found.insert((conv, user), muted_until_ms);
        }
    }
    Ok(found)
}

/// Makes a one-to-one conversation with its two members.
pub(crate) async fn insert_direct(
    conn: &mut AnyConnection,
    conv: i64,
    (one, other): (i64, i64),
    now_ms: i64,
) -> Result<(), StoreError> {
    let (a, b) = (one.min(other), one.max(other));
    let insert = sqlx::query(
        "INSERT INTO conversations
            (conv, kind, user_a, user_b, head, counted, floor, changed_ms)
            VALUES (?, ?, ?, ?, 0, 0, 0, ?)",
    );
    insert.bind(conv).bind(DIRECT).bind(a).bind(b).bind(now_ms).execute(&mut *conn).await?;
    insert_member(conn, (conv, a), 0, 0, now_ms).await?;
    if a != b {
        insert_member(conn, (conv, b), 0, 0, now_ms).await?;
    }
    Ok(())
}

/// A user is a member from `since` on.
pub(crate) async fn insert_member(
    conn: &mut AnyConnection,
    (conv, user): (i64, i64),
    since: i64,
    role: i64,
    now_ms: i64,
) -> Result<(), StoreError> {
    let insert = sqlx::query(
        "INSERT INTO memberships
            (conv, user, since, until, role, muted_until_ms, read_seq, delivered_seq, changed_ms)
            VALUES (?, ?, ?, 0, ?, 0, ?, 0, ?)",
    );
    let insert = insert.bind(conv).bind(user).bind(since).bind(role).bind(since).bind(now_ms);
    insert.execute(conn).await?;
    Ok(())
}

/// Conversations of a user that changed since then, by id after `after`; at most `limit`.
pub(crate) async fn changed(
    conn: &mut AnyConnection,
    user: i64,
    since_ms: i64,
    after: i64,
    limit: i64,
) -> Result<Vec<View>, StoreError> {
    // Of several memberships in one conversation the newest counts.
    let rows = sqlx::query(
        "SELECT c.conv, c.kind, c.user_a, c.user_b, c.head, c.counted, c.floor, m.since, m.until,
                m.read_seq, c.changed_ms, m.changed_ms
            FROM memberships m JOIN conversations c ON c.conv = m.conv
            WHERE m.user = ? AND m.conv > ? AND (c.changed_ms >= ? OR m.changed_ms >= ?)
                AND NOT EXISTS (SELECT 1 FROM memberships n
                    WHERE n.conv = m.conv AND n.user = m.user AND n.since > m.since)
            ORDER BY m.conv LIMIT ?",
    );
    let rows = rows.bind(user).bind(after).bind(since_ms).bind(since_ms).bind(limit);
    let rows = rows.fetch_all(&mut *conn).await?;
    let mut views = Vec::with_capacity(rows.len());
    for row in rows {
        let column = |at: usize| row.try_get::<i64, _>(at);
        let (conv, until, read) = (column(0)?, column(8)?, column(9)?);
        let head = if until == 0 { column(4)? } else { until };
        let floor = column(6)?.max(column(7)?);
        let seen = read.max(floor);
        let counted = if until == 0 { column(5)? } else { counted_at(conn, conv, until).await? };
        let unread = counted - counted_at(conn, conv, seen).await?;
        views.push(View {
            conv,
            kind: column(1)?,
            users: (column(2)?, column(3)?),
            head,
            floor,
            read,
            unread: unread.max(0),
            left: until != 0,
            changed_ms: column(10)?.max(column(11)?),
        });
    }
    Ok(views)
}

/// How many messages that count as unread ones stand up to `seq`.
async fn counted_at(conn: &mut AnyConnection, conv: i64, seq: i64) -> Result<i64, StoreError> {
    let row = sqlx::query_as::<_, (i64,)>(
        "SELECT n FROM message_index WHERE conv = ? AND seq <= ? ORDER BY seq DESC LIMIT 1",
    );
    Ok(row.bind(conv).bind(seq).fetch_optional(conn).await?.map_or(0, |(n,)| n))
}

/// What of a conversation a user may read: ranges of seq, both ends included, oldest first.
pub(crate) async fn readable(
    conn: &mut AnyConnection,
    conv: i64,
    user: i64,
) -> Result<Vec<(i64, i64)>, StoreError> {
    let rows = sqlx::query_as::<_, (i64, i64, i64, i64)>(
        "SELECT m.since, m.until, c.head, c.floor
            FROM memberships m JOIN conversations c ON c.conv = m.conv
            WHERE m.conv = ? AND m.user = ? ORDER BY m.since",
    );
    let rows = rows.bind(conv).bind(user).fetch_all(conn).await?;
    let ranges = rows.into_iter().map(|(since, until, head, floor)| {
        (since.max(floor) + 1, if until == 0 { head } else { until })
    });
    Ok(ranges.filter(|(from, to)| from <= to).collect())
}

/// Messages of one range, as far as `bytes_max` lets; oldest first. The caller has checked that
/// the reader may see them.
pub(crate) async fn read(
    conn: &mut AnyConnection,
    conv: i64,
    (from, to): (i64, i64),
    limit: i64,
) -> Result<Vec<Kept>, StoreError> {
    let rows = sqlx::query(
        "SELECT i.seq, i.sender, i.id_high, i.id_low, i.time_ms, i.kind, i.target,
                b.edited, b.body
            FROM message_index i LEFT JOIN message_content b
                ON b.conv = i.conv AND b.seq = i.seq AND b.time_ms = i.time_ms
            WHERE i.conv = ? AND i.seq >= ? AND i.seq <= ? ORDER BY i.seq LIMIT ?",
    );
    let rows = rows.bind(conv).bind(from).bind(to).bind(limit).fetch_all(&mut *conn).await?;
    let mut kept = Vec::with_capacity(rows.len());
    for row in rows {
        let column = |at: usize| row.try_get::<i64, _>(at);
        let (high, low) = (column(2)? as u64, column(3)? as u64);
        let mut message = Kept {
            seq: column(0)?,
            sender: column(1)?,
            client_msg_id: u128::from(high) << 64 | u128::from(low),
            time_ms: column(4)?,
            kind: column(5)?,
            target: column(6)?,
            edited: row.try_get::<Option<i64>, _>(7)?.unwrap_or(0),
            body: row.try_get(8)?,
        };
        if message.kind == uproar_proto::v1::Kind::Edit as i64 {
            message.body = edit_text(conn, conv, &message).await?;
        }
        kept.push(message);
    }
    Ok(kept)
}

/// The text of an edit stands with the message it is about, unless a later event replaced it.
async fn edit_text(
    conn: &mut AnyConnection,
    conv: i64,
    edit: &Kept,
) -> Result<Option<Vec<u8>>, StoreError> {
    let row = sqlx::query_as::<_, (Vec<u8>,)>(
        "SELECT b.body FROM message_index i JOIN message_content b
            ON b.conv = i.conv AND b.seq = i.seq AND b.time_ms = i.time_ms
            WHERE i.conv = ? AND i.seq = ? AND b.edited = ?",
    );
    let row = row.bind(conv).bind(edit.target).bind(edit.seq).fetch_optional(conn).await?;
    Ok(Some(row.map_or_else(Vec::new, |(body,)| body)))
}

/// How far each member of a one-to-one conversation has read and received.
pub(crate) async fn cursors(
    conn: &mut AnyConnection,
    conv: i64,
) -> Result<Vec<(i64, i64, i64)>, StoreError> {
    let rows = sqlx::query_as::<_, (i64, i64, i64)>(
        "SELECT user, read_seq, delivered_seq FROM memberships WHERE conv = ? AND until = 0
            ORDER BY user LIMIT 2",
    );
    Ok(rows.bind(conv).fetch_all(conn).await?)
}

/// Moves a member's cursors forward; `Ok(None)`: nothing moved. The new values otherwise.
pub(crate) async fn mark(
    conn: &mut AnyConnection,
    dialect: Dialect,
    (conv, user): (i64, i64),
    (read, delivered): (i64, i64),
    now_ms: i64,
) -> Result<Result<Option<(i64, i64)>, Code>, StoreError> {
    let select = dialect.pick(
        "SELECT m.since, m.read_seq, m.delivered_seq, c.head, c.kind
            FROM memberships m JOIN conversations c ON c.conv = m.conv
            WHERE m.conv = ? AND m.user = ? AND m.until = 0",
        "SELECT m.since, m.read_seq, m.delivered_seq, c.head, c.kind
            FROM memberships m JOIN conversations c ON c.conv = m.conv
            WHERE m.conv = ? AND m.user = ? AND m.until = 0 FOR UPDATE",
    );
    let row = sqlx::query_as::<_, (i64, i64, i64, i64, i64)>(select);
    let row = row.bind(conv).bind(user).fetch_optional(&mut *conn).await?;
    let Some((since, old_read, old_delivered, head, kind)) = row else {
        return Ok(Err(Code::NotMember));
    };
    if read > head || delivered > head {
        return Ok(Err(Code::BadRequest));
    }
    // In a group, one delivered cursor a member would undo the one copy.
    let delivered = if kind == DIRECT { delivered.max(read) } else { 0 };
    let (new_read, new_delivered) = (old_read.max(read), old_delivered.max(delivered));
    if (new_read, new_delivered) == (old_read, old_delivered) {
        return Ok(Ok(None));
    }
    let update = sqlx::query(
        "UPDATE memberships SET read_seq = ?, delivered_seq = ?, changed_ms = ?
            WHERE conv = ? AND user = ? AND since = ?",
    );
    let update = update.bind(new_read).bind(new_delivered).bind(now_ms);
    update.bind(conv).bind(user).bind(since).execute(conn).await?;
    Ok(Ok(Some((new_read, new_delivered))))
}

/// The groups a user is in: conversation and the seq its membership began at.
pub(crate) async fn groups(
    conn: &mut AnyConnection,
    user: i64,
) -> Result<Vec<(i64, i64)>, StoreError> {
    let rows = sqlx::query_as::<_, (i64, i64)>(
        "SELECT m.conv, m.since FROM memberships m JOIN conversations c ON c.conv = m.conv
            WHERE m.user = ? AND m.until = 0 AND c.kind = ?",
    );
    Ok(rows.bind(user).bind(GROUP).fetch_all(conn).await?)
}

/// Whether a user is a member now.
pub(crate) async fn is_member(
    conn: &mut AnyConnection,
    conv: i64,
    user: i64,
) -> Result<bool, StoreError> {
    let row = sqlx::query_as::<_, (i64,)>(
        "SELECT since FROM memberships WHERE conv = ? AND user = ? AND until = 0",
    );
    Ok(row.bind(conv).bind(user).fetch_optional(conn).await?.is_some())
}
