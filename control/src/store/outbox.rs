//! Rows of the outbox of webhooks, and the leases of those who empty it.
//!
//! Owns the statements. A row is written in the transaction of the entry it names, and deleted once
//! its receiver has it; what is told of it, and when, is `webhooks`' to decide.

use super::{Dialect, StoreError, parts};
use sqlx::{AnyConnection, AssertSqlSafe};

/// An entry that a webhook has not taken yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) conv: i64,
    pub(crate) seq: i64,
    /// The id of the event, the same at every try.
    pub(crate) event: i64,
    pub(crate) made_ms: i64,
}

/// Puts entries into a webhook's outbox.
pub(crate) async fn insert(
    conn: &mut AnyConnection,
    hook: &str,
    rows: &[Waiting],
) -> Result<(), StoreError> {
    for part in parts(rows) {
        let values = vec!["(?, ?, ?, ?, ?)"; part.len()].join(", ");
        let insert =
            format!("INSERT INTO webhook_outbox (hook, conv, seq, event, made_ms) VALUES {values}");
        let mut query = sqlx::query(AssertSqlSafe(insert));
        for row in part {
            query = query.bind(hook).bind(row.conv).bind(row.seq).bind(row.event);
            query = query.bind(row.made_ms);
        }
        query.execute(&mut *conn).await?;
    }
    Ok(())
}

/// Conversations with entries, by id after `after` (`None`: from the first). What is read is
/// `rows_max` rows, whatever their number, so it may be one conversation; empty: there is none.
pub(crate) async fn convs(
    conn: &mut AnyConnection,
    hook: &str,
    after: Option<i64>,
    rows_max: i64,
) -> Result<Vec<i64>, StoreError> {
    let rows = sqlx::query_as::<_, (i64,)>(
        "SELECT conv FROM webhook_outbox WHERE hook = ? AND conv > ? ORDER BY conv LIMIT ?",
    );
    let rows = rows.bind(hook).bind(after.unwrap_or(i64::MIN)).bind(rows_max);
    let mut convs: Vec<i64> = rows.fetch_all(conn).await?.into_iter().map(|(conv,)| conv).collect();
    convs.dedup();
    Ok(convs)
}

/// The oldest entries of these conversations (ascending), at most `limit` in all: those of each in
/// the order of seq, none left out before another of the same.
pub(crate) async fn heads(
    conn: &mut AnyConnection,
    hook: &str,
    convs: &[i64],
    limit: usize,
) -> Result<Vec<Waiting>, StoreError> {
    let mut heads: Vec<Waiting> = Vec::new();
    for part in parts(convs) {
        let left = limit - heads.len();
        if left == 0 {
            break;
        }
        let marks = vec!["?"; part.len()].join(", ");
        let select = format!(
            "SELECT conv, seq, event, made_ms FROM webhook_outbox
                WHERE hook = ? AND conv IN ({marks}) ORDER BY conv, seq LIMIT ?"
        );
        let mut query = sqlx::query_as::<_, (i64, i64, i64, i64)>(AssertSqlSafe(select)).bind(hook);
        for conv in part {
            query = query.bind(*conv);
        }
        let rows = query.bind(left as i64).fetch_all(&mut *conn).await?;
        heads.extend(rows.into_iter().map(waiting));
    }
    Ok(heads)
}

/// Takes entries of one conversation out, both ends included; how many there were.
pub(crate) async fn delete(
    conn: &mut AnyConnection,
    hook: &str,
    conv: i64,
    (first, last): (i64, i64),
) -> Result<u64, StoreError> {
    let delete = sqlx::query(
        "DELETE FROM webhook_outbox WHERE hook = ? AND conv = ? AND seq >= ? AND seq <= ?",
    );
    let delete = delete.bind(hook).bind(conv).bind(first).bind(last);
    Ok(delete.execute(conn).await?.rows_affected())
}

/// How many entries wait for each webhook, and the moment of the oldest one.
pub(crate) async fn census(
    conn: &mut AnyConnection,
) -> Result<Vec<(String, i64, i64)>, StoreError> {
    let rows = sqlx::query_as::<_, (String, i64, i64)>(
        "SELECT hook, COUNT(*), MIN(made_ms) FROM webhook_outbox GROUP BY hook ORDER BY hook",
    );
    Ok(rows.fetch_all(conn).await?)
}

/// Entries from before a moment, at most `limit`, in conversations from `from` on.
pub(crate) async fn from_before(
    conn: &mut AnyConnection,
    hook: &str,
    (made_ms, from): (i64, i64),
    limit: i64,
) -> Result<Vec<Waiting>, StoreError> {
    let rows = sqlx::query_as::<_, (i64, i64, i64, i64)>(
        "SELECT conv, seq, event, made_ms FROM webhook_outbox
            WHERE hook = ? AND conv >= ? AND made_ms < ? ORDER BY conv, seq LIMIT ?",
    );
    let rows = rows.bind(hook).bind(from).bind(made_ms).bind(limit).fetch_all(conn).await?;
    Ok(rows.into_iter().map(waiting).collect())
}

fn waiting((conv, seq, event, made_ms): (i64, i64, i64, i64)) -> Waiting {
    Waiting { conv, seq, event, made_ms }
}

/// Who tells a webhook, and its last sign of life; `None`: nobody ever did.
pub(crate) async fn lease(
    conn: &mut AnyConnection,
    hook: &str,
) -> Result<Option<(i64, i64)>, StoreError> {
    let row =
        sqlx::query_as::<_, (i64, i64)>("SELECT owner, beat FROM webhook_leases WHERE hook = ?");
    Ok(row.bind(hook).fetch_optional(conn).await?)
}

/// Takes a webhook over, where the last sign of life is still the one that was seen.
pub(crate) async fn take_lease(
    conn: &mut AnyConnection,
    dialect: Dialect,
    hook: &str,
    seen: Option<(i64, i64)>,
    owner: i64,
) -> Result<bool, StoreError> {
    let Some((before, beat)) = seen else {
        let insert = sqlx::query(dialect.pick(
            "INSERT INTO webhook_leases (hook, owner, beat) VALUES (?, ?, 1)
                ON CONFLICT (hook) DO NOTHING",
            "INSERT INTO webhook_leases (hook, owner, beat) VALUES (?, ?, 1)
                ON DUPLICATE KEY UPDATE hook = hook",
        ));
        insert.bind(hook).bind(owner).execute(&mut *conn).await?;
        return Ok(lease(conn, hook).await?.is_some_and(|(now, _)| now == owner));
    };
    let update = sqlx::query(
        "UPDATE webhook_leases SET owner = ?, beat = beat + 1
            WHERE hook = ? AND owner = ? AND beat = ?",
    );
    let update = update.bind(owner).bind(hook).bind(before).bind(beat);
    Ok(update.execute(conn).await?.rows_affected() == 1)
}

/// A sign of life; false: somebody else has taken over.
pub(crate) async fn keep_lease(
    conn: &mut AnyConnection,
    hook: &str,
    owner: i64,
) -> Result<bool, StoreError> {
    let update =
        sqlx::query("UPDATE webhook_leases SET beat = beat + 1 WHERE hook = ? AND owner = ?");
    Ok(update.bind(hook).bind(owner).execute(conn).await?.rows_affected() == 1)
}

/// Lets somebody else take over at once.
pub(crate) async fn end_lease(
    conn: &mut AnyConnection,
    hook: &str,
    owner: i64,
) -> Result<(), StoreError> {
    let update = sqlx::query(
        "UPDATE webhook_leases SET owner = 0, beat = beat + 1 WHERE hook = ? AND owner = ?",
    );
    update.bind(hook).bind(owner).execute(conn).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Store;
    use super::super::testing::on_both;
    use super::*;
    use std::sync::Arc;

    fn row(conv: i64, seq: i64, made_ms: i64) -> Waiting {
        Waiting { conv, seq, event: conv * 1_000 + seq, made_ms }
    }

    async fn put(store: &Store, hook: &'static str, rows: Vec<Waiting>) {
        let rows = Arc::new(rows);
        let put = store.write(move |conn| {
            let rows = Arc::clone(&rows);
            Box::pin(async move { insert(conn, hook, &rows).await })
        });
        put.await.unwrap();
    }

    #[test]
    fn entries_are_found_by_conversation_in_the_order_of_seq() {
        on_both(|store| async move {
            // More than one statement's rows, and another webhook's beside them.
            let mut rows: Vec<Waiting> = (1..=100).rev().map(|seq| row(7, seq, 10)).collect();
            rows.extend([row(-3, 5, 11), row(9, 1, 12)]);
            put(&store, "a", rows).await;
            put(&store, "b", vec![row(8, 1, 5)]).await;
            let mut conn = store.reader().await.unwrap();
            assert_eq!(convs(&mut conn, "a", None, 500).await.unwrap(), [-3, 7, 9]);
            assert_eq!(convs(&mut conn, "a", None, 50).await.unwrap(), [-3, 7]);
            assert_eq!(convs(&mut conn, "a", Some(7), 50).await.unwrap(), [9]);
            assert!(convs(&mut conn, "a", Some(9), 50).await.unwrap().is_empty());
            let found = heads(&mut conn, "a", &[-3, 7, 9], 4).await.unwrap();
            assert_eq!(found, [row(-3, 5, 11), row(7, 1, 10), row(7, 2, 10), row(7, 3, 10)]);
            assert_eq!(heads(&mut conn, "a", &[7, 9], 500).await.unwrap().len(), 101);
            let many: Vec<i64> = (0..200).collect();
            let found = heads(&mut conn, "a", &many, 500).await.unwrap();
            assert_eq!((found.len(), found[0], found[100]), (101, row(7, 1, 10), row(9, 1, 12)));
            let counted = census(&mut conn).await.unwrap();
            assert_eq!(counted, [("a".into(), 102, 10), ("b".into(), 1, 5)]);
            let old = from_before(&mut conn, "a", (12, i64::MIN), 2).await.unwrap();
            assert_eq!(old, [row(-3, 5, 11), row(7, 1, 10)]);
            assert!(from_before(&mut conn, "a", (12, 8), 2).await.unwrap().is_empty());
        });
    }

    #[test]
    fn what_was_taken_is_gone_and_nothing_else() {
        on_both(|store| async move {
            put(&store, "a", (1..=5).map(|seq| row(7, seq, 1)).collect()).await;
            put(&store, "b", vec![row(7, 2, 1)]).await;
            let taken = store
                .write(|conn| Box::pin(async move { delete(conn, "a", 7, (2, 3)).await }))
                .await
                .unwrap();
            assert_eq!(taken, 2);
            let mut conn = store.reader().await.unwrap();
            let left = heads(&mut conn, "a", &[7], 9).await.unwrap();
            assert_eq!(left.iter().map(|row| row.seq).collect::<Vec<_>>(), [1, 4, 5]);
            assert_eq!(heads(&mut conn, "b", &[7], 9).await.unwrap().len(), 1);
        });
    }

    async fn take(store: &Store, seen: Option<(i64, i64)>, owner: i64) -> bool {
        let dialect = store.dialect();
        let take = store.write(move |conn| {
            Box::pin(async move { take_lease(conn, dialect, "a", seen, owner).await })
        });
        take.await.unwrap()
    }

    async fn beat(store: &Store, owner: i64) -> bool {
        let keep =
            store.write(move |conn| Box::pin(async move { keep_lease(conn, "a", owner).await }));
        keep.await.unwrap()
    }

    async fn seen(store: &Store) -> Option<(i64, i64)> {
        lease(&mut store.reader().await.unwrap(), "a").await.unwrap()
    }

    #[test]
    fn one_tells_a_webhook_until_it_gives_no_more_signs_of_life() {
        on_both(|store| async move {
            assert_eq!(seen(&store).await, None);
            assert!(take(&store, None, 11).await);
            assert!(!take(&store, None, 22).await, "somebody was first");
            let before = seen(&store).await;
            assert_eq!(before, Some((11, 1)));
            assert!(beat(&store, 11).await && !beat(&store, 22).await);
            assert!(!take(&store, before, 22).await, "it has given one since");
            let before = seen(&store).await;
            assert!(take(&store, before, 22).await);
            assert!(!take(&store, before, 33).await, "of two who saw the same one is first");
            assert!(!beat(&store, 11).await, "the former one learns of it");
            let end = store.write(|conn| Box::pin(async move { end_lease(conn, "a", 22).await }));
            end.await.unwrap();
            assert_eq!(seen(&store).await.map(|(owner, _)| owner), Some(0));
        });
    }
}
