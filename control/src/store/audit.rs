//! Rows of the audit log: written once, read from the newest on, removed when they are old.

use super::{Store, StoreError};
use crate::audit::Entry;
use sqlx::AnyConnection;
use std::sync::Arc;

/// Old rows that one new row takes along: more than it adds, so that the table shrinks faster than
/// it grows.
const REMOVED_AT_ONCE: i64 = 8;

/// Where a page begins: behind this row.
pub(crate) type After = (i64, i64);

type Row = (i64, i64, String, String, String, String, String, String, String);

/// Writes entries, and removes some that are older than `keep_ms`; how many.
pub(crate) async fn write(
    store: &Store,
    entries: Arc<[Entry]>,
    keep_ms: i64,
) -> Result<u64, StoreError> {
    let write = store.write(move |conn| {
        let entries = Arc::clone(&entries);
        Box::pin(async move {
            let mut removed = 0;
            for entry in entries.iter() {
                insert(conn, entry).await?;
                removed += remove_old(conn, entry.at_ms - keep_ms).await?;
            }
            Ok(removed)
        })
    });
    write.await
}

async fn insert(conn: &mut AnyConnection, entry: &Entry) -> Result<(), StoreError> {
    let Entry { at_ms, id, who, origin, what, room, whom, detail, reason } = entry;
    let insert = sqlx::query(
        "INSERT INTO audit (at_ms, id, who, origin, what, room, whom, detail, reason)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    );
    let insert = insert.bind(*at_ms).bind(*id).bind(who.as_str()).bind(origin.as_str());
    let insert = insert.bind(what.as_str()).bind(room.as_str()).bind(whom.as_str());
    insert.bind(detail.as_str()).bind(reason.as_str()).execute(conn).await?;
    Ok(())
}

async fn remove_old(conn: &mut AnyConnection, before_ms: i64) -> Result<u64, StoreError> {
    let old = sqlx::query_as::<_, (i64, i64)>(
        "SELECT at_ms, id FROM audit WHERE at_ms < ? ORDER BY at_ms, id LIMIT ?",
    );
    let old = old.bind(before_ms).bind(REMOVED_AT_ONCE).fetch_all(&mut *conn).await?;
    for (at_ms, id) in &old {
        let delete = sqlx::query("DELETE FROM audit WHERE at_ms = ? AND id = ?");
        delete.bind(*at_ms).bind(*id).execute(&mut *conn).await?;
    }
    Ok(old.len() as u64)
}

/// A page, the newest first: of one room, or of all.
pub(crate) async fn page(
    store: &Store,
    room: Option<&str>,
    (at_ms, id): After,
    limit: i64,
) -> Result<Vec<Entry>, StoreError> {
    let mut conn = store.reader().await?;
    let rows = match room {
        None => {
            let select = sqlx::query_as::<_, Row>(
                "SELECT at_ms, id, who, origin, what, room, whom, detail, reason FROM audit
                    WHERE at_ms <= ? AND (at_ms < ? OR id < ?)
                    ORDER BY at_ms DESC, id DESC LIMIT ?",
            );
            let select = select.bind(at_ms).bind(at_ms).bind(id).bind(limit);
            select.fetch_all(&mut *conn).await?
        }
        Some(room) => {
            let select = sqlx::query_as::<_, Row>(
                "SELECT at_ms, id, who, origin, what, room, whom, detail, reason FROM audit
                    WHERE room = ? AND at_ms <= ? AND (at_ms < ? OR id < ?)
                    ORDER BY at_ms DESC, id DESC LIMIT ?",
            );
            let select = select.bind(room).bind(at_ms).bind(at_ms).bind(id).bind(limit);
            select.fetch_all(&mut *conn).await?
        }
    };
    let entry = |row: Row| {
        let (at_ms, id, who, origin, what, room, whom, detail, reason) = row;
        Entry { at_ms, id, who, origin, what, room, whom, detail, reason }
    };
    Ok(rows.into_iter().map(entry).collect())
}

/// Who was erased is called otherwise from now on, as the one who did something and as the one to
/// whom it was done.
pub(crate) async fn rename(
    conn: &mut AnyConnection,
    (old, new): (&str, &str),
) -> Result<(), StoreError> {
    let who = sqlx::query("UPDATE audit SET who = ? WHERE who = ?");
    who.bind(format!("user:{new}")).bind(format!("user:{old}")).execute(&mut *conn).await?;
    let whom = sqlx::query("UPDATE audit SET whom = ? WHERE whom = ?");
    whom.bind(new).bind(old).execute(conn).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::on_both;

    fn entry(at_ms: i64, id: i64, room: &str) -> Entry {
        let (who, whom) = ("user:ann".to_owned(), "bob".to_owned());
        let [origin, what, detail, reason] = ["::1", "kick", "", "spam"].map(str::to_owned);
        Entry { at_ms, id, who, origin, what, room: room.to_owned(), whom, detail, reason }
    }

    #[test]
    fn pages_hold_every_entry_once_and_old_ones_go() {
        on_both(|store| async move {
            // Several of one moment, ids on both sides of 0.
            let all: Vec<Entry> = (0..10_i64)
                .map(|n| entry(1_000 + n / 3, (n - 5) * 7, ["a", "b"][(n % 2) as usize]))
                .collect();
            assert_eq!(write(&store, all.clone().into(), 1_000).await.unwrap(), 0);
            for room in [None, Some("a")] {
                let (mut after, mut seen) = ((i64::MAX, i64::MAX), Vec::new());
                loop {
                    let page = page(&store, room, after, 3).await.unwrap();
                    let Some(last) = page.last() else { break };
                    after = (last.at_ms, last.id);
                    seen.extend(page);
                }
                let mut of: Vec<Entry> = all
                    .iter()
                    .filter(|e| room.is_none_or(|room| room == e.room))
                    .cloned()
                    .collect();
                of.sort_by_key(|entry| std::cmp::Reverse((entry.at_ms, entry.id)));
                assert_eq!(seen, of, "{room:?}");
            }
            let mut conn = store.place.connect().await.unwrap();
            rename(&mut conn, ("bob", "x@erased")).await.unwrap();
            rename(&mut conn, ("ann", "y@erased")).await.unwrap();
            let newest = page(&store, None, (i64::MAX, i64::MAX), 1).await.unwrap();
            assert_eq!(
                (newest[0].whom.as_str(), newest[0].who.as_str()),
                ("x@erased", "user:y@erased")
            );
            // One new entry removes eight that are too old, the next one the rest.
            let late = |n| Arc::from([entry(9_000 + n, n, "a")]);
            assert_eq!(write(&store, late(1), 5_000).await.unwrap(), 8);
            assert_eq!(write(&store, late(2), 5_000).await.unwrap(), 2);
            assert_eq!(page(&store, None, (i64::MAX, i64::MAX), 100).await.unwrap().len(), 2);
        });
    }
}
