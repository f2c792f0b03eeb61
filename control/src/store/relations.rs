//! Edges between users in the store, and how many each user has. What may become of an edge is
//! decided by `crate::relations`; here both directions of a pair are locked, read and written.
//!
//! Locks are taken in one order everywhere: the two edges by primary key, then the two users'
//! counts by user.

use super::upkeep::DAY_MS;
use super::{Dialect, Store, StoreError, parts};
use crate::relations::{Counts, Edge, Kind, Pair, Standing};
use futures_core::future::BoxFuture;
use sqlx::{AnyConnection, AssertSqlSafe};
use std::collections::{BTreeMap, BTreeSet};
use uproar_proto::error::Code;
use uproar_proto::names;

/// What has ended is told to syncs from up to this long ago: 90 days. Older ones are told the whole
/// list instead, by which a device finds out what has ended.
pub(crate) const ENDED_TOLD_MS: i64 = 90 * DAY_MS;
/// It is kept for a day longer: the clocks of two processes differ.
pub(super) const ENDED_KEPT_MS: i64 = ENDED_TOLD_MS + DAY_MS;

/// What a rule makes of two users' standing; a refusal writes nothing.
pub(crate) type Rule = fn(&Standing) -> Result<Pair, Code>;

/// What a change made of two users, from the side of the one who made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Changed {
    pub(crate) before: Pair,
    pub(crate) after: Pair,
}

/// What a user is to another one, as a sync tells it; an edge without any bit has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Related {
    pub(crate) peer: i64,
    pub(crate) name: String,
    pub(crate) edge: Edge,
    pub(crate) changed_ms: i64,
}

/// One entry of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) user: i64,
    pub(crate) name: String,
    pub(crate) changed_ms: i64,
}

/// Both directions between two users. On MySQL the rows stay locked until the transaction ends; a
/// row that is not there is no relation and cannot be locked.
pub(crate) async fn pair(
    conn: &mut AnyConnection,
    dialect: Dialect,
    user: i64,
    peer: i64,
) -> Result<Pair, StoreError> {
    let rows = sqlx::query_as::<_, (i64, i64)>(dialect.pick(
        "SELECT user_id, state FROM relations
         WHERE (user_id = ? AND peer_id = ?) OR (user_id = ? AND peer_id = ?)",
        // By the primary key, so that every transaction locks in the same order.
        "SELECT user_id, state FROM relations FORCE INDEX (PRIMARY)
         WHERE (user_id = ? AND peer_id = ?) OR (user_id = ? AND peer_id = ?)
         ORDER BY user_id FOR UPDATE",
    ));
    let (low, high) = (user.min(peer), user.max(peer));
    let rows = rows.bind(low).bind(high).bind(high).bind(low).fetch_all(conn).await?;
    let of = |user: i64| rows.iter().find(|row| row.0 == user).map_or(0, |row| row.1);
    Ok(Pair { own: Edge(of(user)), theirs: Edge(of(peer)) })
}

/// As [`pair`], for many pairs at once: every edge there is between them, by (user, peer).
pub(crate) async fn edges(
    conn: &mut AnyConnection,
    dialect: Dialect,
    pairs: &[(i64, i64)],
) -> Result<BTreeMap<(i64, i64), Edge>, StoreError> {
    let both = pairs.iter().flat_map(|(user, peer)| [(*user, *peer), (*peer, *user)]);
    let all: Vec<(i64, i64)> = both.collect::<BTreeSet<_>>().into_iter().collect();
    let mut found = BTreeMap::new();
    for part in parts(&all) {
        let these = vec!["(user_id = ? AND peer_id = ?)"; part.len()].join(" OR ");
        let select = format!(
            "SELECT user_id, peer_id, state FROM relations {} WHERE {these}
                ORDER BY user_id, peer_id {}",
            dialect.pick("", "FORCE INDEX (PRIMARY)"),
            dialect.pick("", "FOR UPDATE")
        );
        let mut query = sqlx::query_as::<_, (i64, i64, i64)>(AssertSqlSafe(select));
        for (user, peer) in part {
            query = query.bind(*user).bind(*peer);
        }
        for (user, peer, state) in query.fetch_all(&mut *conn).await? {
            found.insert((user, peer), Edge(state));
        }
    }
    Ok(found)
}

/// Lets `rule` decide what two users are to each other from now on, and writes it.
pub(crate) async fn change(
    store: &Store,
    user: i64,
    peer: i64,
    now_ms: i64,
    rule: Rule,
) -> Result<Result<Changed, Code>, StoreError> {
    let dialect = store.dialect();
    let done = store.write(move |conn: &mut AnyConnection| -> BoxFuture<'_, Result<_, _>> {
        Box::pin(change_on(conn, dialect, (user, peer), now_ms, rule))
    });
    done.await
}

/// The same inside the caller's transaction.
pub(crate) async fn change_on(
    conn: &mut AnyConnection,
    dialect: Dialect,
    (user, peer): (i64, i64),
    now_ms: i64,
    rule: Rule,
) -> Result<Result<Changed, Code>, StoreError> {
    if dialect == Dialect::Mysql {
        hold_places(conn, user, peer, now_ms).await?;
    }
    let before = pair(conn, dialect, user, peer).await?;
    let standing = Standing {
        pair: before,
        own: counts_on(conn, user).await?,
        theirs: counts_on(conn, peer).await?,
    };
    let decided = rule(&standing);
    let after = decided.unwrap_or(before);
    let own = (user, peer, before.own, after.own);
    let theirs = (peer, user, before.theirs, after.theirs);
    for (user, peer, before, after) in [own, theirs] {
        put(conn, dialect, (user, peer), (before, after), now_ms).await?;
    }
    let mut moves = [
        (user, Counts::moved(before, after)),
        (peer, Counts::moved(before.turned(), after.turned())),
    ];
    moves.sort_by_key(|(user, _)| *user);
    for (user, moved) in moves {
        move_counts(conn, dialect, user, moved).await?;
    }
    Ok(decided.map(|after| Changed { before, after }))
}

/// Makes both rows, so that they can be locked. Those that stay empty go away again in `put`.
async fn hold_places(
    conn: &mut AnyConnection,
    user: i64,
    peer: i64,
    now_ms: i64,
) -> Result<(), StoreError> {
    let (low, high) = (user.min(peer), user.max(peer));
    for (user, peer) in [(low, high), (high, low)] {
        let insert = sqlx::query(
            "INSERT INTO relations (user_id, peer_id, state, changed_ms) VALUES (?, ?, 0, ?)
             ON DUPLICATE KEY UPDATE state = state",
        );
        insert.bind(user).bind(peer).bind(now_ms).execute(&mut *conn).await?;
    }
    Ok(())
}

/// Writes one edge; an edge that says nothing has no row, but one among those that ended. Who
/// follows goes on following since the same moment, whatever else changes (16: `Edge::FOLLOWS`).
async fn put(
    conn: &mut AnyConnection,
    dialect: Dialect,
    (user, peer): (i64, i64),
    (before, after): (Edge, Edge),
    now_ms: i64,
) -> Result<(), StoreError> {
    if after.0 == 0 {
        if before.0 != 0 || dialect == Dialect::Mysql {
            let delete = sqlx::query("DELETE FROM relations WHERE user_id = ? AND peer_id = ?");
            delete.bind(user).bind(peer).execute(&mut *conn).await?;
        }
        if before.0 != 0 {
            let upsert = sqlx::query(dialect.pick(
                "INSERT INTO ended_relations (user_id, peer_id, changed_ms) VALUES (?, ?, ?)
                 ON CONFLICT (user_id, peer_id) DO UPDATE SET changed_ms = excluded.changed_ms",
                "INSERT INTO ended_relations (user_id, peer_id, changed_ms) VALUES (?, ?, ?)
                 ON DUPLICATE KEY UPDATE changed_ms = VALUES(changed_ms)",
            ));
            upsert.bind(user).bind(peer).bind(now_ms).execute(conn).await?;
        }
    } else if after != before {
        let upsert = sqlx::query(dialect.pick(
            "INSERT INTO relations (user_id, peer_id, state, changed_ms, followed_ms)
             VALUES (?, ?, ?, ?, ?) ON CONFLICT (user_id, peer_id) DO UPDATE SET
             followed_ms = CASE WHEN (state & excluded.state & 16) = 0 THEN excluded.followed_ms
                WHEN followed_ms = 0 THEN changed_ms ELSE followed_ms END,
             state = excluded.state, changed_ms = excluded.changed_ms",
            // Sets one after the other, so the first one still reads the row as it was.
            "INSERT INTO relations (user_id, peer_id, state, changed_ms, followed_ms)
             VALUES (?, ?, ?, ?, ?) ON DUPLICATE KEY UPDATE
             followed_ms = CASE WHEN (state & VALUES(state) & 16) = 0 THEN VALUES(followed_ms)
                WHEN followed_ms = 0 THEN changed_ms ELSE followed_ms END,
             state = VALUES(state), changed_ms = VALUES(changed_ms)",
        ));
        let followed_ms = if after.has(Edge::FOLLOWS) { now_ms } else { 0 };
        let upsert = upsert.bind(user).bind(peer).bind(after.0).bind(now_ms).bind(followed_ms);
        upsert.execute(conn).await?;
    }
    Ok(())
}

async fn move_counts(
    conn: &mut AnyConnection,
    dialect: Dialect,
    user: i64,
    moved: Counts,
) -> Result<(), StoreError> {
    if moved == Counts::default() {
        return Ok(());
    }
    let upsert = sqlx::query(dialect.pick(
        "INSERT INTO relation_counts
         (user_id, friends, asked, asking, blocks, follows, followers) VALUES (?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (user_id) DO UPDATE SET friends = friends + excluded.friends,
         asked = asked + excluded.asked, asking = asking + excluded.asking,
         blocks = blocks + excluded.blocks, follows = follows + excluded.follows,
         followers = followers + excluded.followers",
        "INSERT INTO relation_counts
         (user_id, friends, asked, asking, blocks, follows, followers) VALUES (?, ?, ?, ?, ?, ?, ?)
         ON DUPLICATE KEY UPDATE friends = friends + VALUES(friends),
         asked = asked + VALUES(asked), asking = asking + VALUES(asking),
         blocks = blocks + VALUES(blocks), follows = follows + VALUES(follows),
         followers = followers + VALUES(followers)",
    ));
    let Counts { friends, asked, asking, blocks, follows, followers } = moved;
    let mut upsert = upsert.bind(user);
    for count in [friends, asked, asking, blocks, follows, followers] {
        upsert = upsert.bind(count);
    }
    upsert.execute(conn).await?;
    Ok(())
}

async fn counts_on(conn: &mut AnyConnection, user: i64) -> Result<Counts, StoreError> {
    // Not locked: two requests at once may pass a bound by one, and a star's row stays free.
    let row = sqlx::query_as::<_, (i64, i64, i64, i64, i64, i64)>(
        "SELECT friends, asked, asking, blocks, follows, followers
         FROM relation_counts WHERE user_id = ?",
    );
    let row = row.bind(user).fetch_optional(conn).await?;
    Ok(row.map_or_else(Counts::default, |row| {
        let (friends, asked, asking, blocks, follows, followers) = row;
        Counts { friends, asked, asking, blocks, follows, followers }
    }))
}

/// How many a user has of each kind.
pub(crate) async fn counts(store: &Store, user: i64) -> Result<Counts, StoreError> {
    let mut conn = store.reader().await?;
    counts_on(&mut conn, user).await
}

/// What two users are to each other now.
pub(crate) async fn read(store: &Store, user: i64, peer: i64) -> Result<Pair, StoreError> {
    let mut conn = store.reader().await?;
    // Read as SQLite is: a lock would only keep writers waiting.
    pair(&mut conn, Dialect::Sqlite, user, peer).await
}

/// What a user is to others and when that changed, by the other user's id: those after `after` that
/// changed since then, `limit` at most. Since the beginning: without what has ended.
pub(crate) async fn changed(
    conn: &mut AnyConnection,
    user: i64,
    since_ms: i64,
    after: i64,
    limit: i64,
) -> Result<Vec<Related>, StoreError> {
    let rows = sqlx::query_as::<_, (i64, String, String, i64, i64)>(
        "SELECT c.peer_id, u.issuer, u.name, c.state, c.changed_ms FROM (
            SELECT r.peer_id, r.state, r.changed_ms FROM relations r
                WHERE r.user_id = ? AND r.peer_id > ? AND r.changed_ms >= ? AND r.state <> 0
            UNION ALL
            SELECT e.peer_id, 0, e.changed_ms FROM ended_relations e
                WHERE e.user_id = ? AND e.peer_id > ? AND e.changed_ms >= ? AND ? > 0
                    AND NOT EXISTS (SELECT 1 FROM relations o WHERE o.user_id = e.user_id
                        AND o.peer_id = e.peer_id AND o.state <> 0)) c
            JOIN users u ON u.id = c.peer_id ORDER BY c.peer_id LIMIT ?",
    );
    let rows = rows.bind(user).bind(after).bind(since_ms).bind(user).bind(after).bind(since_ms);
    let rows = rows.bind(since_ms).bind(limit).fetch_all(conn).await?;
    let related = |(peer, issuer, name, state, changed_ms): (i64, String, String, i64, i64)| {
        let name = names::join(&issuer, &name).into_owned();
        Related { peer, name, edge: Edge(state), changed_ms }
    };
    Ok(rows.into_iter().map(related).collect())
}

/// A page of a user's list, by the other user's id: those after `after`, `limit` at most.
pub(crate) async fn list(
    store: &Store,
    user: i64,
    kind: Kind,
    after: i64,
    limit: i64,
) -> Result<Vec<Listed>, StoreError> {
    let statement = if kind == Kind::Followers {
        "SELECT r.user_id, u.issuer, u.name, r.changed_ms
         FROM relations r JOIN users u ON u.id = r.user_id
         WHERE r.peer_id = ? AND r.user_id > ? AND (r.state & ?) <> 0
         ORDER BY r.user_id LIMIT ?"
    } else {
        "SELECT r.peer_id, u.issuer, u.name, r.changed_ms
         FROM relations r JOIN users u ON u.id = r.peer_id
         WHERE r.user_id = ? AND r.peer_id > ? AND (r.state & ?) <> 0
         ORDER BY r.peer_id LIMIT ?"
    };
    let mut conn = store.reader().await?;
    let rows = sqlx::query_as::<_, (i64, String, String, i64)>(statement);
    let rows = rows.bind(user).bind(after).bind(kind.bit()).bind(limit);
    let rows = rows.fetch_all(&mut *conn).await?;
    let listed = |(user, issuer, name, changed_ms): (i64, String, String, i64)| Listed {
        user,
        name: names::join(&issuer, &name).into_owned(),
        changed_ms,
    };
    Ok(rows.into_iter().map(listed).collect())
}
