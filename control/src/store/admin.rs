//! What operators look up: users, groups, and where messages of a time stand.
//!
//! Reads alone. No membership is asked for here: who may call is decided at the door.

use super::{StoreError, users};
use crate::relations::Edge;
use sqlx::AnyConnection;
use uproar_proto::names;

/// A user as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) id: i64,
    /// On the wire.
    pub(crate) name: String,
    pub(crate) created_ms: i64,
    pub(crate) has_password: bool,
    pub(crate) erased: bool,
}

type AccountRow = (i64, String, String, i64, i64, Option<String>);

impl From<AccountRow> for Account {
    fn from((id, issuer, name, created_ms, erased, hash): AccountRow) -> Account {
        Account {
            id,
            name: names::join(&issuer, &name).into_owned(),
            created_ms,
            has_password: hash.is_some(),
            erased: erased != 0,
        }
    }
}

/// Users of an issuer whose name there begins with `prefix`, by name after `after`.
pub(crate) async fn accounts(
    conn: &mut AnyConnection,
    (issuer, prefix): (&str, &str),
    after: &str,
    limit: i64,
) -> Result<Vec<Account>, StoreError> {
    let rows = sqlx::query_as::<_, AccountRow>(
        "SELECT id, issuer, name, created_ms, erased, password_hash FROM users
         WHERE issuer = ? AND name >= ? AND name > ? ORDER BY name LIMIT ?",
    );
    let rows = rows.bind(issuer).bind(prefix).bind(after).bind(limit).fetch_all(conn).await?;
    // Those that begin with it stand together, right behind it.
    let begins = |row: &AccountRow| row.2.starts_with(prefix);
    Ok(rows.into_iter().take_while(begins).map(Account::from).collect())
}

/// The user of a name, or the one that was called so before it was erased.
pub(crate) async fn account(
    conn: &mut AnyConnection,
    wire: &str,
) -> Result<Option<Account>, StoreError> {
    let (issuer, name) = names::split(wire);
    let row = sqlx::query_as::<_, AccountRow>(
        "SELECT id, issuer, name, created_ms, erased, password_hash FROM users
         WHERE issuer = ? AND name = ?",
    );
    let row = row.bind(issuer).bind(name).fetch_optional(&mut *conn).await?;
    // MySQL takes "a " for "a"; they are two.
    if let Some(row) = row.filter(|row| row.2 == name) {
        return Ok(Some(row.into()));
    }
    let Some(id) = users::find_erased(conn, wire).await? else { return Ok(None) };
    let row = sqlx::query_as::<_, AccountRow>(
        "SELECT id, issuer, name, created_ms, erased, password_hash FROM users WHERE id = ?",
    );
    Ok(row.bind(id).fetch_optional(conn).await?.map(Account::from))
}

/// How many conversations a user is or was in, and how many sessions go on.
pub(crate) async fn figures(
    conn: &mut AnyConnection,
    user: i64,
    now_ms: i64,
) -> Result<(i64, i64), StoreError> {
    let conversations = "SELECT COUNT(DISTINCT conv) FROM memberships WHERE user = ?";
    let conversations = sqlx::query_as::<_, (i64,)>(conversations).bind(user);
    let conversations = conversations.fetch_one(&mut *conn).await?.0;
    let sessions = "SELECT COUNT(*) FROM sessions WHERE user_id = ? AND expires_ms > ?";
    let sessions = sqlx::query_as::<_, (i64,)>(sessions).bind(user).bind(now_ms);
    Ok((conversations, sessions.fetch_one(conn).await?.0))
}

/// Groups by conversation after `after`, those that have ended included.
pub(crate) async fn groups(
    conn: &mut AnyConnection,
    after: i64,
    limit: i64,
) -> Result<Vec<i64>, StoreError> {
    let rows = sqlx::query_as::<_, (i64,)>(
        "SELECT conv FROM group_info WHERE conv > ? ORDER BY conv LIMIT ?",
    );
    let rows = rows.bind(after).bind(limit).fetch_all(conn).await?;
    Ok(rows.into_iter().map(|(conv,)| conv).collect())
}

/// A conversation, and the part of it that somebody asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) conv: i64,
    /// One-to-one: its two users. A group: its owner, and nobody.
    pub(crate) users: (i64, i64),
    /// As `conversations.kind`.
    pub(crate) kind: i64,
    /// Messages from here on (kept ones alone) and up to there.
    pub(crate) from: i64,
    pub(crate) to: i64,
}

type SpanRow = (i64, i64, i64, i64, i64, i64);

impl From<SpanRow> for Span {
    fn from((conv, kind, one, other, above, to): SpanRow) -> Span {
        Span { conv, users: (one, other), kind, from: above + 1, to }
    }
}

/// A conversation whole; `None`: there is none of this id.
pub(crate) async fn whole(conn: &mut AnyConnection, conv: i64) -> Result<Option<Span>, StoreError> {
    let row = sqlx::query_as::<_, SpanRow>(
        "SELECT conv, kind, user_a, user_b, floor, head FROM conversations WHERE conv = ?",
    );
    Ok(row.bind(conv).fetch_optional(conn).await?.map(Span::from))
}

/// The conversations a user is or was in, by id after `after`: of each what lies between its first
/// joining and its last leaving. Those that have not changed since `since_ms` are left out.
pub(crate) async fn of_user(
    conn: &mut AnyConnection,
    user: i64,
    (after, since_ms): (i64, i64),
    limit: i64,
) -> Result<Vec<Span>, StoreError> {
    let rows = sqlx::query_as::<_, (i64, i64, i64, i64, i64, i64, i64)>(
        "SELECT c.conv, c.kind, c.user_a, c.user_b, c.floor, MIN(m.since),
                MAX(CASE WHEN m.until = 0 THEN c.head ELSE m.until END)
            FROM memberships m JOIN conversations c ON c.conv = m.conv
            WHERE m.user = ? AND m.conv > ? AND c.changed_ms >= ?
            GROUP BY c.conv, c.kind, c.user_a, c.user_b, c.floor ORDER BY c.conv LIMIT ?",
    );
    let rows = rows.bind(user).bind(after).bind(since_ms).bind(limit).fetch_all(conn).await?;
    let span = |(conv, kind, one, other, floor, since, to): (i64, _, _, _, i64, i64, _)| {
        Span::from((conv, kind, one, other, floor.max(since), to))
    };
    Ok(rows.into_iter().map(span).collect())
}

/// The first seq in a span from which on nothing is older than `time_ms`, and how many rows it took
/// to find it. Moments of a conversation rise with its seq, but for seconds between two processes
/// that share a store: whoever needs exact bounds asks for a little more and looks.
pub(crate) async fn seq_at(
    conn: &mut AnyConnection,
    span: Span,
    time_ms: i64,
) -> Result<(i64, u32), StoreError> {
    let (mut low, mut high, mut looked) = (span.from, span.to + 1, 0);
    while low < high {
        let middle = low + (high - low) / 2;
        looked += 1;
        let row = sqlx::query_as::<_, (i64, i64)>(
            "SELECT seq, time_ms FROM message_index WHERE conv = ? AND seq >= ? AND seq <= ?
                ORDER BY seq LIMIT 1",
        );
        let row = row.bind(span.conv).bind(middle).bind(span.to).fetch_optional(&mut *conn).await?;
        match row {
            Some((seq, at_ms)) if at_ms < time_ms => low = seq + 1,
            _ => high = middle,
        }
    }
    Ok((low, looked))
}

/// What a user is to others, by their ids after `after`: id, name, edge, when it last changed.
pub(crate) async fn edges_of(
    conn: &mut AnyConnection,
    user: i64,
    after: i64,
    limit: i64,
) -> Result<Vec<(i64, String, Edge, i64)>, StoreError> {
    let rows = sqlx::query_as::<_, (i64, String, String, i64, i64)>(
        "SELECT r.peer_id, u.issuer, u.name, r.state, r.changed_ms
            FROM relations r JOIN users u ON u.id = r.peer_id
            WHERE r.user_id = ? AND r.peer_id > ? ORDER BY r.peer_id LIMIT ?",
    );
    let rows = rows.bind(user).bind(after).bind(limit).fetch_all(conn).await?;
    let edge = |(peer, issuer, name, state, changed_ms): (_, String, String, _, _)| {
        (peer, names::join(&issuer, &name).into_owned(), Edge(state), changed_ms)
    };
    Ok(rows.into_iter().map(edge).collect())
}

/// A user's time in a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stay {
    pub(crate) conv: i64,
    /// A group's name; `None`: one-to-one.
    pub(crate) group: Option<String>,
    /// One-to-one: its two users.
    pub(crate) users: (i64, i64),
    pub(crate) role: i64,
    /// Reads what is above, and up to `until` where it has left (0: it has not).
    pub(crate) since: i64,
    pub(crate) until: i64,
    pub(crate) read: i64,
    pub(crate) delivered: i64,
}

type StayRow = (i64, Option<String>, i64, i64, i64, i64, i64, i64, i64);

impl From<StayRow> for Stay {
    fn from(row: StayRow) -> Stay {
        let (conv, group, one, other, role, since, until, read, delivered) = row;
        Stay { conv, group, users: (one, other), role, since, until, read, delivered }
    }
}

/// A user's times in conversations, in the order of (conversation, since) after `after`.
pub(crate) async fn stays(
    conn: &mut AnyConnection,
    user: i64,
    (conv, since): (i64, i64),
    limit: i64,
) -> Result<Vec<Stay>, StoreError> {
    let rows = sqlx::query_as::<_, StayRow>(
        "SELECT m.conv, g.name, c.user_a, c.user_b, m.role, m.since, m.until, m.read_seq,
                m.delivered_seq
            FROM memberships m JOIN conversations c ON c.conv = m.conv
            LEFT JOIN group_info g ON g.conv = m.conv
            WHERE m.user = ? AND (m.conv > ? OR (m.conv = ? AND m.since > ?))
            ORDER BY m.conv, m.since LIMIT ?",
    );
    let rows = rows.bind(user).bind(conv).bind(conv).bind(since).bind(limit);
    Ok(rows.fetch_all(conn).await?.into_iter().map(Stay::from).collect())
}

/// A request to be let into a group: the group, who asks, the text, when it was asked.
pub(crate) type Asking = (i64, i64, String, i64);

/// Requests to be let into groups, of everybody, in the order of (group, user) after `after`.
pub(crate) async fn requests(
    conn: &mut AnyConnection,
    (conv, user): (i64, i64),
    limit: i64,
) -> Result<Vec<Asking>, StoreError> {
    let rows = sqlx::query_as::<_, Asking>(
        "SELECT conv, user_id, text, asked_ms FROM group_requests
            WHERE conv > ? OR (conv = ? AND user_id > ?) ORDER BY conv, user_id LIMIT ?",
    );
    Ok(rows.bind(conv).bind(conv).bind(user).bind(limit).fetch_all(conn).await?)
}
