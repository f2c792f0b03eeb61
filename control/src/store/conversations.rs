//! Rows of conversations: ids, memberships, cursors, and what a reader may see.
//!
//! Owns every read path of messages, so that a membership's floor and ceiling are enforced in one
//! place. Appending is [`super::append`]'s.

use super::{StoreError, parts};
use sha2::{Digest, Sha256};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row as _};
use std::collections::BTreeMap;
use uproar_proto::names;

/// `conversations.kind`.
pub(crate) const DIRECT: i64 = 1;
/// See [`DIRECT`].
pub(crate) const GROUP: i64 = 2;

/// A conversation as one of its members sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) conv: i64,
    pub(crate) kind: i64,
    /// One-to-one: the other one's name.
    pub(crate) peer: String,
    /// One-to-one: how far the other one has read and received.
    pub(crate) peer_cursors: (i64, i64),
    /// A group: what it is to this user.
    pub(crate) group: Option<GroupView>,
    /// The newest seq this user may see.
    pub(crate) head: i64,
    /// Nothing up to here is this user's to see.
    pub(crate) floor: i64,
    pub(crate) read: i64,
    pub(crate) unread: i64,
    pub(crate) left: bool,
    pub(crate) silent: bool,
    pub(crate) changed_ms: i64,
}

/// What a group is to a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupView {
    pub(crate) name: String,
    pub(crate) size: i64,
    pub(crate) role: i64,
    pub(crate) muted_all: bool,
    pub(crate) muted_until_ms: i64,
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

/// Whether a member of a group may write, and how far it has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Voice {
    read: i64,
    role: i64,
    muted_until_ms: i64,
    muted_all: bool,
    /// How far it has read is told to nobody.
    private: bool,
}

impl Voice {
    /// It has read up to `seq`: how far it had, where others may know it.
    pub(super) fn reads(&mut self, seq: i64) -> i64 {
        let read_before = std::mem::replace(&mut self.read, seq);
        if self.private { seq } else { read_before }
    }

    pub(crate) fn is_muted(self, now_ms: i64) -> bool {
        self.muted_until_ms > now_ms || (self.muted_all && self.role == 0)
    }
}

/// Of these (group, user) those who are members.
pub(crate) async fn members(
    conn: &mut AnyConnection,
    pairs: &[(i64, i64)],
) -> Result<BTreeMap<(i64, i64), Voice>, StoreError> {
    let mut found = BTreeMap::new();
    for part in parts(pairs) {
        let these = vec!["(m.conv = ? AND m.user = ? AND m.until = 0)"; part.len()].join(" OR ");
        let select = format!(
            "SELECT m.conv, m.user, m.read_seq, m.role, m.muted_until_ms, g.muted_all, s.user_id
                FROM memberships m JOIN group_info g ON g.conv = m.conv
                LEFT JOIN user_settings s ON s.user_id = m.user AND s.private_read = 1
                WHERE {these}"
        );
        let mut query = sqlx::query_as::<_, VoiceRow>(AssertSqlSafe(select));
        for (conv, user) in part {
            query = query.bind(*conv).bind(*user);
        }
        let rows = query.fetch_all(&mut *conn).await?;
        for (conv, user, read, role, muted_until_ms, all, private) in rows {
            let (muted_all, private) = (all != 0, private.is_some());
            found.insert((conv, user), Voice { read, role, muted_until_ms, muted_all, private });
        }
    }
    Ok(found)
}

type VoiceRow = (i64, i64, i64, i64, i64, i64, Option<i64>);

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

/// Conversations of a user that changed since then, by id after `after`; at most `limit`. One
/// statement, whatever their number.
pub(crate) async fn changed(
    conn: &mut AnyConnection,
    user: i64,
    since_ms: i64,
    after: i64,
    limit: i64,
) -> Result<Vec<View>, StoreError> {
    // Of several memberships in one conversation the newest counts. `n` counts the messages that
    // count as unread ones: up to where the user has read, and up to where it left. From the floor
    // on, the index has a row for every seq, so one look finds it. Where one of two blocks the
    // other (bit 8), neither learns what the other does.
    let rows = sqlx::query(
        "SELECT c.conv, c.kind, c.head, c.counted, c.floor, c.changed_ms,
                m.since, m.until, m.read_seq, m.changed_ms, m.role, m.muted_until_ms,
                CASE WHEN s.user_id IS NULL AND x.user_id IS NULL AND y.user_id IS NULL
                    AND p.read_seq > p.hidden_seq THEN p.read_seq ELSE 0 END,
                CASE WHEN x.user_id IS NULL AND y.user_id IS NULL THEN p.delivered_seq
                    ELSE 0 END,
                u.issuer, u.name, g.name, g.size, g.muted_all,
                (SELECT i.n FROM message_index i WHERE i.conv = m.conv AND i.seq =
                    CASE WHEN m.read_seq > c.floor THEN m.read_seq ELSE c.floor END),
                (SELECT i.n FROM message_index i WHERE i.conv = m.conv AND i.seq = m.until),
                m.silent
            FROM memberships m JOIN conversations c ON c.conv = m.conv
            LEFT JOIN users u ON c.kind = 1
                AND u.id = CASE WHEN c.user_a = m.user THEN c.user_b ELSE c.user_a END
            LEFT JOIN memberships p ON p.conv = m.conv AND p.user = u.id AND p.user <> m.user
                AND p.until = 0
            LEFT JOIN user_settings s ON s.user_id = u.id AND s.private_read = 1
            LEFT JOIN relations x ON x.user_id = u.id AND x.peer_id = m.user
                AND (x.state & 8) <> 0
            LEFT JOIN relations y ON y.user_id = m.user AND y.peer_id = u.id
                AND (y.state & 8) <> 0
            LEFT JOIN group_info g ON g.conv = m.conv
            WHERE m.user = ? AND m.conv > ? AND (c.changed_ms >= ? OR m.changed_ms >= ?)
                AND NOT EXISTS (SELECT 1 FROM memberships n
                    WHERE n.conv = m.conv AND n.user = m.user AND n.since > m.since)
            ORDER BY m.conv LIMIT ?",
    );
    let rows = rows.bind(user).bind(after).bind(since_ms).bind(since_ms).bind(limit);
    rows.fetch_all(conn).await?.iter().map(view).collect()
}

fn view(row: &AnyRow) -> Result<View, StoreError> {
    let column = |at: usize| row.try_get::<i64, _>(at);
    let maybe = |at: usize| row.try_get::<Option<i64>, _>(at);
    let text = |at: usize| row.try_get::<Option<String>, _>(at).map(Option::unwrap_or_default);
    let (kind, until, read) = (column(1)?, column(7)?, column(8)?);
    let floor = column(4)?.max(column(6)?);
    let head = if until == 0 { column(2)? } else { until };
    let counted = if until == 0 { column(3)? } else { maybe(20)?.unwrap_or(0) };
    let unread = if head <= floor { 0 } else { counted - maybe(19)?.unwrap_or(0) };
    let group = match row.try_get::<Option<String>, _>(16)? {
        Some(name) => Some(GroupView {
            name,
            size: column(17)?,
            role: column(10)?,
            muted_all: column(18)? != 0,
            muted_until_ms: column(11)?,
        }),
        None => None,
    };
    Ok(View {
        conv: column(0)?,
        kind,
        peer: names::join(&text(14)?, &text(15)?).into_owned(),
        peer_cursors: (maybe(12)?.unwrap_or(0), maybe(13)?.unwrap_or(0)),
        group,
        head,
        floor,
        read,
        unread: unread.max(0),
        left: until != 0,
        silent: column(21)? != 0,
        changed_ms: column(5)?.max(column(9)?),
    })
}

/// Makes a user's conversation silent, or not; `false`: it is in none of this id.
pub(crate) async fn silence(
    conn: &mut AnyConnection,
    (conv, user): (i64, i64),
    silent: bool,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let update = sqlx::query(
        "UPDATE memberships SET silent = ?, changed_ms = ?
            WHERE conv = ? AND user = ? AND until = 0",
    );
    let update = update.bind(i64::from(silent)).bind(now_ms).bind(conv).bind(user);
    Ok(update.execute(conn).await?.rows_affected() > 0)
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

/// Messages of one range, `limit` at most; oldest first. The caller has checked that the reader may
/// see them.
pub(crate) async fn read(
    conn: &mut AnyConnection,
    conv: i64,
    (from, to): (i64, i64),
    limit: i64,
) -> Result<Vec<Kept>, StoreError> {
    let rows = sqlx::query_as::<_, (i64, i64, i64, i64, i64, i64, i64)>(
        "SELECT seq, sender, id_high, id_low, time_ms, kind, target FROM message_index
            WHERE conv = ? AND seq >= ? AND seq <= ? ORDER BY seq LIMIT ?",
    );
    let rows = rows.bind(conv).bind(from).bind(to).bind(limit).fetch_all(&mut *conn).await?;
    let mut content = content(conn, conv, rows.iter().map(|row| (row.0, row.4))).await?;
    let mut kept = Vec::with_capacity(rows.len());
    for (seq, sender, high, low, time_ms, kind, target) in rows {
        let client_msg_id = u128::from(high as u64) << 64 | u128::from(low as u64);
        let (edited, body) = match content.remove(&(seq, time_ms)) {
            Some((edited, body)) => (edited, Some(body)),
            None => (0, None),
        };
        let mut message = Kept { seq, sender, client_msg_id, time_ms, kind, target, edited, body };
        if kind == uproar_proto::v1::Kind::Edit as i64 {
            message.body = edit_text(conn, conv, &message).await?;
        }
        kept.push(message);
    }
    Ok(kept)
}

/// Which edit a message's text comes from, and its body.
type Content = (i64, Vec<u8>);

/// Content of messages that stand together, by seq and moment. The moments are in the statement so
/// that a server looks into no other time's partition.
async fn content(
    conn: &mut AnyConnection,
    conv: i64,
    of: impl Iterator<Item = (i64, i64)> + Clone,
) -> Result<BTreeMap<(i64, i64), Content>, StoreError> {
    let (seqs, times) = (of.clone().map(|(seq, _)| seq), of.map(|(_, time_ms)| time_ms));
    let (Some(first), Some(last)) = (seqs.clone().min(), seqs.max()) else {
        return Ok(BTreeMap::new());
    };
    let (since, until) = (times.clone().min().unwrap_or(0), times.max().unwrap_or(0));
    let rows = sqlx::query_as::<_, (i64, i64, i64, Vec<u8>)>(
        "SELECT seq, time_ms, edited, body FROM message_content
            WHERE conv = ? AND seq >= ? AND seq <= ? AND time_ms >= ? AND time_ms <= ?",
    );
    let rows = rows.bind(conv).bind(first).bind(last).bind(since).bind(until);
    let rows = rows.fetch_all(conn).await?.into_iter();
    Ok(rows.map(|(seq, time_ms, edited, body)| ((seq, time_ms), (edited, body))).collect())
}

/// The text of an edit stands with the message it is about, unless a later event replaced it.
async fn edit_text(
    conn: &mut AnyConnection,
    conv: i64,
    edit: &Kept,
) -> Result<Option<Vec<u8>>, StoreError> {
    let time_ms =
        sqlx::query_as::<_, (i64,)>("SELECT time_ms FROM message_index WHERE conv = ? AND seq = ?");
    let time_ms = time_ms.bind(conv).bind(edit.target).fetch_optional(&mut *conn).await?;
    let Some((time_ms,)) = time_ms else { return Ok(Some(Vec::new())) };
    let row = sqlx::query_as::<_, (Vec<u8>,)>(
        "SELECT body FROM message_content
            WHERE conv = ? AND seq = ? AND time_ms = ? AND edited = ?",
    );
    let row = row.bind(conv).bind(edit.target).bind(time_ms).bind(edit.seq);
    let row = row.fetch_optional(conn).await?;
    Ok(Some(row.map_or_else(Vec::new, |(body,)| body)))
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

/// What kind a conversation is, and its two users (of a group: who owns it, and nobody).
pub(crate) async fn parties(
    conn: &mut AnyConnection,
    conv: i64,
) -> Result<Option<(i64, (i64, i64))>, StoreError> {
    let row = sqlx::query_as::<_, (i64, i64, i64)>(
        "SELECT kind, user_a, user_b FROM conversations WHERE conv = ?",
    );
    let row = row.bind(conv).fetch_optional(conn).await?;
    Ok(row.map(|(kind, one, other)| (kind, (one, other))))
}
