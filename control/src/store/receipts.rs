//! Cursors, and what follows from them: who has read what. There is no row for a message and a
//! reader: one cursor a membership says it all.
//!
//! A membership that began above `since` and has read up to `read_seq` has read the message `m`
//! where `since < m <= read_seq`. It ends with its cursor as it stood, so former members still
//! count; the memberships of one user never overlap, so nobody counts twice.

use super::conversations::DIRECT;
use super::{Dialect, StoreError, parts};
use sqlx::{AnyConnection, AssertSqlSafe, Row as _};
use std::collections::{BTreeMap, BTreeSet};
use uproar_proto::error::Code;
use uproar_proto::names;
use uproar_proto::v1::Kind;

/// A member says how far it has read and received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Advance {
    pub(crate) conv: i64,
    pub(crate) user: i64,
    pub(crate) read: i64,
    pub(crate) delivered: i64,
}

/// How a member's cursors moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) old_read: i64,
    pub(crate) read: i64,
    pub(crate) delivered: i64,
    /// How far others may know that it has read and received; 0: they may not.
    pub(crate) told: (i64, i64),
}

/// A member's cursors as the transaction found and leaves them.
#[derive(Clone, Copy)]
struct Cursors {
    since: i64,
    read: i64,
    delivered: i64,
    head: i64,
    kind: i64,
    /// What was read up to here was read in private.
    hidden: i64,
    private: bool,
    /// One-to-one: one of the two blocks the other, and neither learns what the other does.
    blocked: bool,
    moved: bool,
}

/// Moves cursors forward, many in one transaction. By item: `None` where nothing moved.
pub(crate) async fn advance(
    conn: &mut AnyConnection,
    dialect: Dialect,
    items: &[Advance],
    now_ms: i64,
) -> Result<Vec<Result<Option<Moved>, Code>>, StoreError> {
    let mut members = load(conn, items).await?;
    let mut answers = Vec::with_capacity(items.len());
    for item in items {
        let Some(cursors) = members.get_mut(&(item.conv, item.user)) else {
            answers.push(Err(Code::NotMember));
            continue;
        };
        if item.read > cursors.head || item.delivered > cursors.head {
            answers.push(Err(Code::BadRequest));
            continue;
        }
        // In a group, one delivered cursor a member would undo the one copy.
        let delivered = match cursors.kind {
            // When it was read in private would show by when it is delivered.
            DIRECT if cursors.private => item.delivered,
            DIRECT => item.delivered.max(item.read),
            _ => 0,
        };
        let (old_read, old_delivered) = (cursors.read, cursors.delivered);
        cursors.read = old_read.max(item.read);
        cursors.delivered = old_delivered.max(delivered);
        if (cursors.read, cursors.delivered) == (old_read, old_delivered) {
            answers.push(Ok(None));
            continue;
        }
        cursors.moved = true;
        let (read, delivered) = (cursors.read, cursors.delivered);
        let told = match (cursors.blocked, cursors.private || read <= cursors.hidden) {
            (true, _) => (0, 0),
            (false, true) => (0, delivered),
            (false, false) => (read, delivered),
        };
        answers.push(Ok(Some(Moved { old_read, read, delivered, told })));
    }
    members.retain(|_, cursors| cursors.moved);
    let moved: Vec<((i64, i64), Cursors)> = members.into_iter().collect();
    for part in parts(&moved) {
        write(conn, dialect, part, now_ms).await?;
    }
    Ok(answers)
}

async fn load(
    conn: &mut AnyConnection,
    items: &[Advance],
) -> Result<BTreeMap<(i64, i64), Cursors>, StoreError> {
    let mut members = BTreeMap::new();
    for part in parts(items) {
        let these = vec!["(m.conv = ? AND m.user = ? AND m.until = 0)"; part.len()].join(" OR ");
        // Not locked: a head only grows, and a cursor that another transaction moved meanwhile is
        // not moved back.
        let select = format!(
            "SELECT m.conv, m.user, m.since, m.read_seq, m.delivered_seq, c.head, c.kind,
                    m.hidden_seq, s.user_id, x.user_id, y.user_id
                FROM memberships m JOIN conversations c ON c.conv = m.conv
                LEFT JOIN user_settings s ON s.user_id = m.user AND s.private_read = 1
                LEFT JOIN relations x ON x.user_id = c.user_a AND x.peer_id = c.user_b
                    AND (x.state & 8) <> 0
                LEFT JOIN relations y ON y.user_id = c.user_b AND y.peer_id = c.user_a
                    AND (y.state & 8) <> 0
                WHERE {these}"
        );
        let mut query = sqlx::query(AssertSqlSafe(select));
        for item in part {
            query = query.bind(item.conv).bind(item.user);
        }
        for row in query.fetch_all(&mut *conn).await? {
            let cursors = Cursors {
                since: row.try_get(2)?,
                read: row.try_get(3)?,
                delivered: row.try_get(4)?,
                head: row.try_get(5)?,
                kind: row.try_get(6)?,
                hidden: row.try_get(7)?,
                private: row.try_get::<Option<i64>, _>(8)?.is_some(),
                blocked: row.try_get::<Option<i64>, _>(9)?.is_some()
                    || row.try_get::<Option<i64>, _>(10)?.is_some(),
                moved: false,
            };
            members.insert((row.try_get(0)?, row.try_get(1)?), cursors);
        }
    }
    Ok(members)
}

async fn write(
    conn: &mut AnyConnection,
    dialect: Dialect,
    part: &[((i64, i64), Cursors)],
    now_ms: i64,
) -> Result<(), StoreError> {
    let when = vec!["WHEN conv = ? AND user = ? THEN ?"; part.len()].join(" ");
    let these = vec!["(conv = ? AND user = ? AND since = ?)"; part.len()].join(" OR ");
    let greatest = dialect.pick("MAX", "GREATEST");
    let update = format!(
        "UPDATE memberships SET
            read_seq = {greatest}(read_seq, CASE {when} ELSE 0 END),
            delivered_seq = {greatest}(delivered_seq, CASE {when} ELSE 0 END),
            changed_ms = ? WHERE {these}"
    );
    let mut query = sqlx::query(AssertSqlSafe(update));
    for ((conv, user), cursors) in part {
        query = query.bind(*conv).bind(*user).bind(cursors.read);
    }
    for ((conv, user), cursors) in part {
        query = query.bind(*conv).bind(*user).bind(cursors.delivered);
    }
    query = query.bind(now_ms);
    for ((conv, user), cursors) in part {
        query = query.bind(*conv).bind(*user).bind(cursors.since);
    }
    query.execute(conn).await?;
    Ok(())
}

/// Messages of a group in a range, the newest first: seq and sender.
pub(crate) async fn messages(
    conn: &mut AnyConnection,
    conv: i64,
    (above, to): (i64, i64),
    limit: i64,
) -> Result<Vec<(i64, i64)>, StoreError> {
    let rows = sqlx::query_as(
        "SELECT seq, sender FROM message_index
            WHERE conv = ? AND seq > ? AND seq <= ? AND kind = ? ORDER BY seq DESC LIMIT ?",
    );
    let rows = rows.bind(conv).bind(above).bind(to).bind(Kind::Message as i64).bind(limit);
    Ok(rows.fetch_all(conn).await?)
}

/// How many memberships have read each of these messages (seq and sender, in the order of seq), the
/// sender's own left out, and those who read in private.
///
/// One pass over the group's members, whatever the number of messages: cursors are counted by where
/// they stand, then summed along the messages.
pub(crate) async fn counts(
    conn: &mut AnyConnection,
    conv: i64,
    messages: &[(i64, i64)],
) -> Result<BTreeMap<i64, i64>, StoreError> {
    let seqs: Vec<i64> = messages.iter().map(|(seq, _)| *seq).collect();
    let (Some(first), Some(last)) = (seqs.first(), seqs.last()) else {
        return Ok(BTreeMap::new());
    };
    // What began before the first message or reads beyond the last one is the same to all of them.
    let rows = sqlx::query_as::<_, (i64, i64, i64)>(
        "SELECT s.begins, s.ends, COUNT(*) FROM (
            SELECT CASE WHEN m.since < ? THEN 0 ELSE m.since END AS begins,
                CASE WHEN m.read_seq > ? THEN ? ELSE m.read_seq END AS ends
            FROM memberships m
            LEFT JOIN user_settings p ON p.user_id = m.user AND p.private_read = 1
            WHERE m.conv = ? AND m.read_seq >= ? AND m.since < ? AND m.read_seq > m.hidden_seq
                AND p.user_id IS NULL) s
            GROUP BY s.begins, s.ends",
    );
    let rows = rows.bind(*first).bind(*last).bind(*last).bind(conv).bind(*first).bind(*last);
    let rows = rows.fetch_all(&mut *conn).await?;
    let mut readers = crate::groups::readers(&seqs, &rows);
    let own = own_ranges(conn, conv, messages).await?;
    for (seq, sender) in messages {
        // Who writes has read what it wrote; one membership of it holds the message.
        let ranges = own.get(sender).into_iter().flatten();
        let counted = ranges.filter(|(since, read)| since < seq && seq <= read).count();
        if let Some(readers) = readers.get_mut(seq) {
            *readers -= counted as i64;
        }
    }
    Ok(readers)
}

/// What the senders of these messages have read and let others know: (since, read) by sender.
async fn own_ranges(
    conn: &mut AnyConnection,
    conv: i64,
    messages: &[(i64, i64)],
) -> Result<BTreeMap<i64, Vec<(i64, i64)>>, StoreError> {
    let senders: BTreeSet<i64> = messages.iter().map(|(_, sender)| *sender).collect();
    let senders: Vec<i64> = senders.into_iter().collect();
    let mut ranges: BTreeMap<i64, Vec<(i64, i64)>> = BTreeMap::new();
    for part in parts(&senders) {
        let marks = vec!["?"; part.len()].join(", ");
        let select = format!(
            "SELECT m.user, m.since, m.read_seq FROM memberships m
                LEFT JOIN user_settings p ON p.user_id = m.user AND p.private_read = 1
                WHERE m.conv = ? AND m.user IN ({marks}) AND m.read_seq > m.hidden_seq
                    AND p.user_id IS NULL"
        );
        let mut query = sqlx::query_as::<_, (i64, i64, i64)>(AssertSqlSafe(select)).bind(conv);
        for sender in part {
            query = query.bind(*sender);
        }
        for (user, since, read) in query.fetch_all(&mut *conn).await? {
            ranges.entry(user).or_default().push((since, read));
        }
    }
    Ok(ranges)
}

/// The sender of a group's message; `None`: there is none of this seq, or it is no message.
pub(crate) async fn sender(
    conn: &mut AnyConnection,
    conv: i64,
    seq: i64,
) -> Result<Option<i64>, StoreError> {
    let row = sqlx::query_as::<_, (i64,)>(
        "SELECT sender FROM message_index WHERE conv = ? AND seq = ? AND kind = ?",
    );
    let row = row.bind(conv).bind(seq).bind(Kind::Message as i64).fetch_optional(conn).await?;
    Ok(row.map(|(sender,)| sender))
}

/// Messages of a group by one sender, the oldest above `above` first.
pub(crate) async fn sent_by(
    conn: &mut AnyConnection,
    (conv, sender): (i64, i64),
    above: i64,
    limit: i64,
) -> Result<Vec<i64>, StoreError> {
    let rows = sqlx::query_as::<_, (i64,)>(
        "SELECT seq FROM message_index
            WHERE conv = ? AND seq > ? AND sender = ? AND kind = ? ORDER BY seq LIMIT ?",
    );
    let rows = rows.bind(conv).bind(above).bind(sender).bind(Kind::Message as i64).bind(limit);
    Ok(rows.fetch_all(conn).await?.into_iter().map(|(seq,)| seq).collect())
}

/// Which side of a message's receipts. Who reads in private is on neither, and what was read in
/// private shows on neither once it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Who has read it, former members included.
    Read,
    /// Members now who could read it and have not.
    Unread,
}

/// How many are on a side of the message `seq`, its sender left out.
pub(crate) async fn count(
    conn: &mut AnyConnection,
    (conv, seq, sender): (i64, i64, i64),
    side: Side,
) -> Result<i64, StoreError> {
    let count = sqlx::query_as::<_, (i64,)>(match side {
        Side::Read => {
            "SELECT COUNT(*) FROM memberships m
                LEFT JOIN user_settings p ON p.user_id = m.user AND p.private_read = 1
                WHERE m.conv = ? AND m.read_seq >= ? AND m.since < ? AND m.user <> ?
                    AND m.read_seq > m.hidden_seq AND p.user_id IS NULL"
        }
        Side::Unread => {
            "SELECT COUNT(*) FROM memberships m
                LEFT JOIN user_settings p ON p.user_id = m.user AND p.private_read = 1
                WHERE m.conv = ? AND m.read_seq < ? AND m.since < ? AND m.user <> ?
                    AND m.until = 0 AND p.user_id IS NULL"
        }
    });
    Ok(count.bind(conv).bind(seq).bind(seq).bind(sender).fetch_one(conn).await?.0)
}

/// A page of a side of the message `seq`, by user id after `after`: id and name.
pub(crate) async fn list(
    conn: &mut AnyConnection,
    (conv, seq, sender): (i64, i64, i64),
    side: Side,
    after: i64,
    limit: i64,
) -> Result<Vec<(i64, String)>, StoreError> {
    let rows = sqlx::query_as::<_, (i64, String, String)>(match side {
        Side::Read => {
            "SELECT m.user, u.issuer, u.name FROM memberships m JOIN users u ON u.id = m.user
                LEFT JOIN user_settings p ON p.user_id = m.user AND p.private_read = 1
                WHERE m.conv = ? AND m.user > ? AND m.read_seq >= ? AND m.since < ?
                    AND m.user <> ? AND m.read_seq > m.hidden_seq AND p.user_id IS NULL
                ORDER BY m.user LIMIT ?"
        }
        Side::Unread => {
            "SELECT m.user, u.issuer, u.name FROM memberships m JOIN users u ON u.id = m.user
                LEFT JOIN user_settings p ON p.user_id = m.user AND p.private_read = 1
                WHERE m.conv = ? AND m.user > ? AND m.read_seq < ? AND m.since < ?
                    AND m.user <> ? AND m.until = 0 AND p.user_id IS NULL
                ORDER BY m.user LIMIT ?"
        }
    });
    let rows = rows.bind(conv).bind(after).bind(seq).bind(seq).bind(sender).bind(limit);
    let rows = rows.fetch_all(conn).await?.into_iter();
    Ok(rows.map(|(user, issuer, name)| (user, names::join(&issuer, &name).into_owned())).collect())
}
