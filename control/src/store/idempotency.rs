//! Answers to requests that came with an idempotency key, kept in the transaction of their effect:
//! so a key never stands without its effect, nor an effect without its key.
//!
//! Owns the table and how long a row counts. A job that creates calls [`begin`] first: it either
//! gets the answer of an earlier request, and then writes nothing, or goes on and ends with
//! [`finish`]. What an answer holds is the caller's to choose: no password, no token.

use super::{Dialect, StoreError};
use sqlx::AnyConnection;
use uproar_proto::error::Code;

/// How long an answer is kept.
const KEPT_MS: i64 = 24 * 3_600_000;
/// Expired rows that one request takes along: more than it adds.
const REMOVED_AT_ONCE: i64 = 8;

/// One use of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Use {
    /// Whose key it is: another caller's same key is another one.
    pub(crate) caller: String,
    /// The route, as `POST /v1/accounts`.
    pub(crate) route: &'static str,
    pub(crate) key: String,
    /// A hash of what was asked for, in hexadecimal; where that holds a secret, one that cannot be
    /// tried out without the key of the node.
    pub(crate) body_hash: String,
    pub(crate) now_ms: i64,
}

/// An answer as it went out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// The answer of an earlier use of the key; `None`: there is none, and the job goes on.
///
/// # Errors
/// `Refused(Conflict)` where the key came with another body, else the database's own.
pub(crate) async fn begin(
    conn: &mut AnyConnection,
    dialect: Dialect,
    one: &Use,
) -> Result<Option<Kept>, StoreError> {
    // Paced by use: each request removes a few, so that the table shrinks faster than it grows.
    remove_expired(conn, one.now_ms, REMOVED_AT_ONCE).await?;
    let row = sqlx::query_as::<_, (String, i64, String, i64)>(dialect.pick(
        "SELECT body_hash, status, answer, made_ms FROM idempotency
         WHERE caller = ? AND route = ? AND idem_key = ?",
        "SELECT body_hash, status, answer, made_ms FROM idempotency
         WHERE caller = ? AND route = ? AND idem_key = ? FOR UPDATE",
    ));
    let row = row.bind(one.caller.as_str()).bind(one.route).bind(one.key.as_str());
    let Some((body_hash, status, body, made_ms)) = row.fetch_optional(&mut *conn).await? else {
        return Ok(None);
    };
    if made_ms + KEPT_MS <= one.now_ms {
        let delete =
            sqlx::query("DELETE FROM idempotency WHERE caller = ? AND route = ? AND idem_key = ?");
        delete
            .bind(one.caller.as_str())
            .bind(one.route)
            .bind(one.key.as_str())
            .execute(conn)
            .await?;
        return Ok(None);
    }
    if body_hash != one.body_hash {
        return Err(StoreError::Refused(Code::Conflict));
    }
    let corrupt = |_| StoreError::Corrupt(format!("the status {status} of a kept answer"));
    Ok(Some(Kept { status: u16::try_from(status).map_err(corrupt)?, body }))
}

/// Keeps the answer, in the transaction that began.
///
/// # Errors
/// The database's own. Where another transaction used the key meanwhile, the whole job is run again
/// and finds that one's answer.
pub(crate) async fn finish(
    conn: &mut AnyConnection,
    one: &Use,
    kept: &Kept,
) -> Result<(), StoreError> {
    let insert = sqlx::query(
        "INSERT INTO idempotency (caller, route, idem_key, body_hash, status, answer, made_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    );
    let done = insert
        .bind(one.caller.as_str())
        .bind(one.route)
        .bind(one.key.as_str())
        .bind(one.body_hash.as_str())
        .bind(i64::from(kept.status))
        .bind(kept.body.as_str())
        .bind(one.now_ms)
        .execute(conn);
    done.await?;
    Ok(())
}

/// Removes expired rows, the oldest first, `limit` at most; how many.
pub(super) async fn remove_expired(
    conn: &mut AnyConnection,
    now_ms: i64,
    limit: i64,
) -> Result<u64, StoreError> {
    let expired = sqlx::query_as::<_, (String, String, String)>(
        "SELECT caller, route, idem_key FROM idempotency WHERE made_ms <= ?
         ORDER BY made_ms LIMIT ?",
    );
    let expired = expired.bind(now_ms - KEPT_MS).bind(limit).fetch_all(&mut *conn);
    let mut removed = 0;
    for (caller, route, key) in expired.await? {
        let delete =
            sqlx::query("DELETE FROM idempotency WHERE caller = ? AND route = ? AND idem_key = ?");
        let delete = delete.bind(caller).bind(route).bind(key).execute(&mut *conn).await?;
        removed += delete.rows_affected();
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use crate::store::testing::on_both;
    use std::sync::Arc;

    const NOW: i64 = 1_800_000_000_000;

    fn used(caller: &str, key: &str, body: &str, now_ms: i64) -> Use {
        let (caller, key, body_hash) = (caller.to_owned(), key.to_owned(), body.to_owned());
        Use { caller, route: "POST /v1/things", key, body_hash, now_ms }
    }

    /// Makes a thing named like the answer, as a route would; whether it was made now.
    async fn create(store: &Store, one: Use, thing: &str, fail: bool) -> Result<Kept, StoreError> {
        let dialect = store.dialect();
        let what = Arc::new((one, thing.to_owned()));
        let done = store.write(move |conn| {
            let what = Arc::clone(&what);
            Box::pin(async move {
                let (one, thing) = &*what;
                if let Some(kept) = begin(conn, dialect, one).await? {
                    return Ok(kept);
                }
                let insert = sqlx::query("INSERT INTO store_facts (name, value) VALUES (?, 1)");
                insert.bind(thing.as_str()).execute(&mut *conn).await?;
                let kept = Kept { status: 201, body: format!("{{\"thing\": \"{thing}\"}}") };
                finish(conn, one, &kept).await?;
                if fail { Err(StoreError::Refused(Code::LimitReached)) } else { Ok(kept) }
            })
        });
        done.await
    }

    async fn count(store: &Store, of: &'static str) -> i64 {
        let mut conn = store.reader().await.unwrap();
        sqlx::query_as::<_, (i64,)>(of).fetch_one(&mut *conn).await.unwrap().0
    }

    const THINGS: &str = "SELECT COUNT(*) FROM store_facts WHERE name LIKE 'thing%'";
    const KEYS: &str = "SELECT COUNT(*) FROM idempotency";

    #[test]
    fn a_replay_gets_the_same_answer_and_makes_nothing() {
        on_both(|store| async move {
            let first = create(&store, used("a", "k", "body", NOW), "thing1", false).await.unwrap();
            let again = create(&store, used("a", "k", "body", NOW + 1), "thing2", false).await;
            assert_eq!(again.unwrap(), first);
            assert_eq!((count(&store, THINGS).await, count(&store, KEYS).await), (1, 1));
            let other = create(&store, used("a", "k", "other", NOW), "thing3", false).await;
            assert!(matches!(other, Err(StoreError::Refused(Code::Conflict))), "{other:?}");
            let theirs = create(&store, used("b", "k", "other", NOW), "thing4", false).await;
            assert_ne!(theirs.unwrap(), first);
            assert_eq!((count(&store, THINGS).await, count(&store, KEYS).await), (2, 2));
        });
    }

    #[test]
    fn a_key_never_stands_without_its_effect() {
        on_both(|store| async move {
            create(&store, used("a", "k", "body", NOW), "thing1", true).await.unwrap_err();
            assert_eq!((count(&store, THINGS).await, count(&store, KEYS).await), (0, 0));
            create(&store, used("a", "k", "body", NOW), "thing1", false).await.unwrap();
        });
    }

    #[test]
    fn requests_at_once_with_one_key_make_one_thing() {
        on_both(|store| async move {
            let tries: Vec<_> = (0..8)
                .map(|i| {
                    let store = Arc::clone(&store);
                    tokio::spawn(async move {
                        let thing = format!("thing{i}");
                        create(&store, used("a", "k", "body", NOW), &thing, false).await
                    })
                })
                .collect();
            let mut answers = Vec::new();
            for one in tries {
                answers.push(one.await.unwrap().unwrap());
            }
            assert!(answers.windows(2).all(|two| two[0] == two[1]), "{answers:?}");
            assert_eq!((count(&store, THINGS).await, count(&store, KEYS).await), (1, 1));
        });
    }

    #[test]
    fn an_answer_is_kept_for_a_day_and_removed_after_it() {
        on_both(|store| async move {
            for i in 0..20 {
                let one = used("a", &format!("k{i}"), "body", NOW);
                create(&store, one, &format!("thing{i}"), false).await.unwrap();
            }
            let late = NOW + KEPT_MS;
            create(&store, used("a", "k0", "body", late - 1), "thing-a", false).await.unwrap();
            assert_eq!((count(&store, THINGS).await, count(&store, KEYS).await), (20, 20));
            create(&store, used("a", "k0", "other", late), "thing-b", false).await.unwrap();
            create(&store, used("a", "l", "body", late), "thing-c", false).await.unwrap();
            create(&store, used("a", "m", "body", late), "thing-d", false).await.unwrap();
            assert_eq!(count(&store, KEYS).await, 3);
        });
    }
}
