//! Rows of erasures: which users are being erased, and how far each has come.
//!
//! Owns the moment from which a user is nobody ([`begin`]) and the place an erasure goes on from.
//! What each step does is `conversations::erase`'s.
//!
//! What is left in the end is the user's number, which means a tombstone and nobody: in its row
//! among users and the erasure's own; as author, member or other side of what others have too
//! (index rows, memberships, conversations, who changed counts of reactions last); as maker of a
//! group's links and of requests for others; and with its former peers, in what ended between them,
//! until that is too old to be told: their devices learn from it that it is over. Rows of webhooks'
//! outboxes stay: they name an entry of a log and nobody, and what they tell is read when they are
//! told, so without the text and under the new name; without them receivers would not learn of the
//! recalls. Answers that are kept for other callers' idempotency keys may name it until their day
//! is over.

use super::{Store, StoreError, admin, audit, bans, penalties, roles, users};
use crate::conversations::words;
use crate::store::conversations::Kept;
use sqlx::AnyConnection;
use std::sync::Arc;
use uproar_proto::names::ERASED;
use uproar_proto::v1::Kind;

/// An erasure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Erasure {
    pub(crate) user: i64,
    /// What the user was called on the wire; empty once it is done.
    pub(crate) name: String,
    pub(crate) at: At,
    pub(crate) begun_ms: i64,
    /// 0: it is under way.
    pub(crate) done_ms: i64,
}

/// How far an erasure has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) phase: Phase,
    /// The conversation it is at, and what of it was looked through; in [`Phase::Requests`] the
    /// last request that was.
    pub(crate) conv: i64,
    pub(crate) seq: i64,
}

/// What is being done, in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Friends, blocks, followers end, and what ended before is forgotten.
    #[default]
    Relations = 0,
    /// It leaves its groups.
    Groups = 1,
    /// It waits for no group any more.
    Requests = 2,
    /// Its messages are recalled, its reactions taken back, its cursors forgotten, and its name in
    /// notices is replaced.
    Messages = 3,
}

impl Phase {
    fn from_row(phase: i64) -> Phase {
        match phase {
            0 => Phase::Relations,
            1 => Phase::Groups,
            2 => Phase::Requests,
            _ => Phase::Messages,
        }
    }
}

type Row = (i64, String, i64, i64, i64, i64, i64);

impl From<Row> for Erasure {
    fn from((user, name, phase, conv, seq, begun_ms, done_ms): Row) -> Erasure {
        let at = At { phase: Phase::from_row(phase), conv, seq };
        Erasure { user, name, at, begun_ms, done_ms }
    }
}

/// Makes a user nobody, in one transaction: its name and its password are gone, its sessions have
/// ended, and the rest of the erasure is under way. A user that was erased before: as that stands.
/// `None`: there is no such user.
pub(crate) async fn begin(
    store: &Store,
    user: i64,
    wire: &str,
    now_ms: i64,
) -> Result<Option<Erasure>, StoreError> {
    let (dialect, wire) = (store.dialect(), Arc::new(wire.to_owned()));
    let done = store.write(move |conn| {
        let wire = Arc::clone(&wire);
        Box::pin(async move {
            // Locked as log-ins lock it: none is written beside this.
            let live = sqlx::query_as::<_, (i64,)>(dialect.pick(
                "SELECT id FROM users WHERE id = ? AND erased = 0",
                "SELECT id FROM users WHERE id = ? AND erased = 0 FOR UPDATE",
            ));
            if live.bind(user).fetch_optional(&mut *conn).await?.is_some() {
                bury(conn, (user, &wire), now_ms).await?;
            }
            find(conn, user).await
        })
    });
    done.await
}

async fn bury(
    conn: &mut AnyConnection,
    (user, wire): (i64, &str),
    now_ms: i64,
) -> Result<(), StoreError> {
    let row = sqlx::query(
        "UPDATE users SET issuer = ?, name = ?, password_hash = NULL, erased = 1 WHERE id = ?",
    );
    let row = row.bind(ERASED).bind(users::tombstone(wire)).bind(user);
    row.execute(&mut *conn).await?;
    sqlx::query("DELETE FROM sessions WHERE user_id = ?").bind(user).execute(&mut *conn).await?;
    bans::delete(conn, user).await?;
    roles::forget(conn, user).await?;
    penalties::forget(conn, wire).await?;
    // The audit log goes on without the name: alone, and behind its mark.
    let erased = users::erased_name(wire);
    audit::rename(conn, (wire, &erased)).await?;
    // Answers that are kept for repeats name people.
    let answers = sqlx::query("DELETE FROM idempotency WHERE caller = ?");
    answers.bind(format!("user {user}")).execute(&mut *conn).await?;
    let erasure = sqlx::query(
        "INSERT INTO erasures (user_id, name, phase, conv, seq, begun_ms, done_ms)
         VALUES (?, ?, 0, 0, 0, ?, 0)",
    );
    erasure.bind(user).bind(wire).bind(now_ms).execute(conn).await?;
    Ok(())
}

/// The erasure of a user; `None`: it was not erased.
pub(crate) async fn find(
    conn: &mut AnyConnection,
    user: i64,
) -> Result<Option<Erasure>, StoreError> {
    let row = sqlx::query_as::<_, Row>(
        "SELECT user_id, name, phase, conv, seq, begun_ms, done_ms FROM erasures
         WHERE user_id = ?",
    );
    Ok(row.bind(user).fetch_optional(conn).await?.map(Erasure::from))
}

/// Erasures under way, the one that began first first.
pub(crate) async fn under_way(
    conn: &mut AnyConnection,
    limit: i64,
) -> Result<Vec<Erasure>, StoreError> {
    let rows = sqlx::query_as::<_, Row>(
        "SELECT user_id, name, phase, conv, seq, begun_ms, done_ms FROM erasures
         WHERE done_ms = 0 ORDER BY begun_ms LIMIT ?",
    );
    let rows = rows.bind(limit).fetch_all(conn).await?;
    Ok(rows.into_iter().map(Erasure::from).collect())
}

/// Writes how far an erasure has come.
pub(crate) async fn advance(conn: &mut AnyConnection, user: i64, at: At) -> Result<(), StoreError> {
    let update = sqlx::query("UPDATE erasures SET phase = ?, conv = ?, seq = ? WHERE user_id = ?");
    let update = update.bind(at.phase as i64).bind(at.conv).bind(at.seq);
    update.bind(user).execute(conn).await?;
    Ok(())
}

/// It is done; the name is gone from the last place that had it. Settings have held until now: what
/// was read in private was not to be told while cursors were there.
pub(crate) async fn finish(
    conn: &mut AnyConnection,
    user: i64,
    now_ms: i64,
) -> Result<(), StoreError> {
    for delete in [
        "DELETE FROM user_settings WHERE user_id = ?",
        "DELETE FROM relation_counts WHERE user_id = ?",
    ] {
        sqlx::query(delete).bind(user).execute(&mut *conn).await?;
    }
    let update = sqlx::query("UPDATE erasures SET name = '', done_ms = ? WHERE user_id = ?");
    update.bind(now_ms).bind(user).execute(conn).await?;
    Ok(())
}

/// Users who are something to this one, or to whom it is something; some of them, each once.
pub(crate) async fn peers(
    conn: &mut AnyConnection,
    user: i64,
    limit: i64,
) -> Result<Vec<i64>, StoreError> {
    let mut peers = Vec::new();
    for side in [
        "SELECT peer_id FROM relations WHERE user_id = ? ORDER BY peer_id LIMIT ?",
        "SELECT user_id FROM relations WHERE peer_id = ? ORDER BY user_id LIMIT ?",
    ] {
        let rows = sqlx::query_as::<_, (i64,)>(side).bind(user).bind(limit);
        peers.extend(rows.fetch_all(&mut *conn).await?.into_iter().map(|(peer,)| peer));
    }
    peers.sort_unstable();
    peers.dedup();
    Ok(peers)
}

/// Deletes what has ended between a user and others, on the user's side; how many rows, at most
/// `limit`. The others' side stays: their devices are yet to learn of it.
pub(crate) async fn delete_ended(
    conn: &mut AnyConnection,
    user: i64,
    limit: i64,
) -> Result<u64, StoreError> {
    let rows = sqlx::query_as::<_, (i64,)>(
        "SELECT peer_id FROM ended_relations WHERE user_id = ? ORDER BY peer_id LIMIT ?",
    );
    let rows = rows.bind(user).bind(limit).fetch_all(&mut *conn).await?;
    let Some((last,)) = rows.last() else { return Ok(0) };
    let delete = sqlx::query("DELETE FROM ended_relations WHERE user_id = ? AND peer_id <= ?");
    Ok(delete.bind(user).bind(*last).execute(conn).await?.rows_affected())
}

/// Looks through requests to be let into groups, in the order of (group, user) after `after`, and
/// deletes those of a user. The last one that was looked at; `None`: there are no more. No index
/// finds them by user, so that a request costs one row to write.
pub(crate) async fn delete_requests(
    conn: &mut AnyConnection,
    user: i64,
    (conv, after): (i64, i64),
    limit: i64,
) -> Result<Option<(i64, i64)>, StoreError> {
    let rows = admin::requests(conn, (conv, after), limit).await?;
    for (conv, ..) in rows.iter().filter(|(_, who, ..)| *who == user) {
        let delete = sqlx::query("DELETE FROM group_requests WHERE conv = ? AND user_id = ?");
        delete.bind(*conv).bind(user).execute(&mut *conn).await?;
    }
    Ok(rows.last().map(|(conv, user, ..)| (*conv, *user)))
}

/// Replaces a name in the notices among these messages.
pub(crate) async fn rename(
    conn: &mut AnyConnection,
    conv: i64,
    messages: &[Kept],
    (old, new): (&str, &str),
) -> Result<(), StoreError> {
    for kept in messages.iter().filter(|kept| kept.kind == Kind::Notice as i64) {
        let body = kept.body.as_deref().unwrap_or_default();
        let Some(body) = words::renamed(body, old, new).map_err(StoreError::Corrupt)? else {
            continue;
        };
        let update = sqlx::query(
            "UPDATE message_content SET body = ? WHERE conv = ? AND seq = ? AND time_ms = ?",
        );
        update.bind(body).bind(conv).bind(kept.seq).bind(kept.time_ms).execute(&mut *conn).await?;
    }
    Ok(())
}

/// Forgets what a user has read and received in a conversation, and that it wanted no notifications
/// of it, in all its memberships, and tells who syncs that the conversation has changed: the user
/// is called otherwise.
pub(crate) async fn forget_cursors(
    conn: &mut AnyConnection,
    (conv, user): (i64, i64),
    now_ms: i64,
) -> Result<(), StoreError> {
    let cursors = sqlx::query(
        "UPDATE memberships SET read_seq = since, delivered_seq = 0, hidden_seq = 0, silent = 0,
            changed_ms = ?
         WHERE conv = ? AND user = ?",
    );
    cursors.bind(now_ms).bind(conv).bind(user).execute(&mut *conn).await?;
    let changed = sqlx::query("UPDATE conversations SET changed_ms = ? WHERE conv = ?");
    changed.bind(now_ms).bind(conv).execute(conn).await?;
    Ok(())
}
