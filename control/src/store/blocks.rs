//! Devices and networks that are kept out: a row each, and a number that counts the changes.

use super::{Dialect, Store, StoreError, migrate};
use crate::beside::off_thread;
use crate::blocks::{Entries, Entry};
use sqlx::AnyConnection;
use std::sync::Arc;
use uproar_proto::blocks::BlockKind;

/// The fact that tells how many changes there were.
const VERSION: &str = "blocks_version";
/// Looks at entries that are changed meanwhile, before they are given up.
const LOOKS_MAX: u32 = 8;

const DEVICE: i64 = 0;
const ADDRESS: i64 = 1;

/// What changes: entries that have a row from now on, and those whose row goes.
pub(crate) struct Change {
    pub(crate) put: Entries,
    pub(crate) gone: Vec<(BlockKind, String)>,
}

/// The number of changes so far.
pub(crate) async fn version(store: &Store) -> Result<u64, StoreError> {
    let version = migrate::fact(&mut *store.reader().await?, VERSION).await?;
    Ok(version.unwrap_or(0) as u64)
}

/// All entries, and the number of their change.
pub(crate) async fn read(store: &Store) -> Result<(u64, Entries), StoreError> {
    for _ in 0..LOOKS_MAX {
        let before = version(store).await?;
        let rows = sqlx::query_as::<_, (i64, Vec<u8>, i64, i64, String)>(
            "SELECT kind, value, until_s, at_ms, reason FROM blocks ORDER BY kind, value",
        );
        let rows = rows.fetch_all(&mut *store.reader().await?).await?;
        if version(store).await? != before {
            continue; // changed between the two
        }
        let entry = |(kind, value, until_s, at_ms, reason): (i64, Vec<u8>, i64, i64, String)| {
            let kind = if kind == DEVICE { BlockKind::Device } else { BlockKind::Address };
            let corrupt = |_| StoreError::Corrupt("a block's value is no text".to_owned());
            let value = String::from_utf8(value).map_err(corrupt)?;
            Ok(((kind, value), Entry { until_s: until_s as u64, at_ms, reason }))
        };
        // They may be many, and whoever asks is a thread of HTTP.
        let all = move || rows.into_iter().map(entry).collect::<Result<Entries, StoreError>>();
        let entries = off_thread(all).await??;
        return Ok((before, entries));
    }
    Err(StoreError::Busy)
}

/// Makes change number `next`; whether the one before it was the last: else nothing was written.
pub(crate) async fn change(
    store: &Store,
    next: u64,
    change: Arc<Change>,
) -> Result<bool, StoreError> {
    let dialect = store.dialect();
    let write = store.write(move |conn| {
        let change = Arc::clone(&change);
        Box::pin(async move { change_in(conn, dialect, next as i64, &change).await })
    });
    write.await
}

async fn change_in(
    conn: &mut AnyConnection,
    dialect: Dialect,
    next: i64,
    change: &Change,
) -> Result<bool, StoreError> {
    if !migrate::raise_fact(conn, dialect, VERSION, next).await? {
        return Ok(false);
    }
    let number = |kind| if kind == BlockKind::Device { DEVICE } else { ADDRESS };
    for (kind, value) in change.gone.iter().chain(change.put.keys()) {
        let delete = sqlx::query("DELETE FROM blocks WHERE kind = ? AND value = ?");
        delete.bind(number(*kind)).bind(value.as_bytes()).execute(&mut *conn).await?;
    }
    for ((kind, value), entry) in &change.put {
        let insert = sqlx::query(
            "INSERT INTO blocks (kind, value, until_s, at_ms, reason) VALUES (?, ?, ?, ?, ?)",
        );
        let insert = insert.bind(number(*kind)).bind(value.as_bytes()).bind(entry.until_s as i64);
        insert.bind(entry.at_ms).bind(entry.reason.as_str()).execute(&mut *conn).await?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::on_both;

    fn entries(of: &[(BlockKind, &str, u64)]) -> Entries {
        let one = |(kind, value, until_s): &(BlockKind, &str, u64)| {
            let entry = Entry { until_s: *until_s, at_ms: 5, reason: "spam, 垃圾".into() };
            ((*kind, (*value).to_owned()), entry)
        };
        of.iter().map(one).collect()
    }

    #[test]
    fn entries_are_kept_as_they_are_and_only_the_next_change_is_made() {
        use BlockKind::{Address, Device};
        on_both(|store| async move {
            assert_eq!(read(&store).await.unwrap(), (0, Entries::new()));
            // Two names that differ in a space, one that is no ASCII, and the same text twice.
            let put = entries(&[
                (Device, "phone", 0),
                (Device, "phone ", u64::from(u32::MAX)),
                (Device, "10.0.0.0/8", 3),
                (Device, "手机", 0),
                (Address, "10.0.0.0/8", 7),
            ]);
            let first = Arc::new(Change { put: put.clone(), gone: Vec::new() });
            assert!(change(&store, 1, Arc::clone(&first)).await.unwrap());
            assert_eq!(read(&store).await.unwrap(), (1, put));
            assert!(!change(&store, 1, Arc::clone(&first)).await.unwrap(), "somebody was faster");
            assert!(!change(&store, 3, first).await.unwrap());
            let gone = ["phone", "手机", "nobody"].map(|value| (Device, value.to_owned())).to_vec();
            let put = entries(&[(Address, "10.0.0.0/8", 9)]);
            assert!(change(&store, 2, Arc::new(Change { put, gone })).await.unwrap());
            let left = entries(&[
                (Device, "phone ", u64::from(u32::MAX)),
                (Device, "10.0.0.0/8", 3),
                (Address, "10.0.0.0/8", 9),
            ]);
            assert_eq!(read(&store).await.unwrap(), (2, left));
        });
    }
}
