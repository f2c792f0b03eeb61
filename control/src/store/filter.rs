//! The list that messages are held against: kept whole, in pieces, under the number of its version.

use super::{Dialect, Store, StoreError, migrate};
use sqlx::AnyConnection;
use std::sync::Arc;
use uproar_proto::control::FilterList;

/// Bytes of one piece: a statement stays well within what servers take.
const PART_BYTES: usize = 256 << 10;
/// The fact that tells the version of the list.
const VERSION: &str = "filter_version";
/// Looks at a list that is replaced meanwhile, before it is given up.
const LOOKS_MAX: u32 = 8;

const WORDS: i64 = 0;
const REGEXES: i64 = 1;

/// The version that is kept; 0: there never was a list.
pub(crate) async fn version(store: &Store) -> Result<u64, StoreError> {
    let version = migrate::fact(&mut *store.reader().await?, VERSION).await?;
    Ok(version.unwrap_or(0) as u64)
}

/// The list that is kept.
pub(crate) async fn read(store: &Store) -> Result<FilterList, StoreError> {
    for _ in 0..LOOKS_MAX {
        let before = version(store).await?;
        let parts = sqlx::query_as::<_, (i64, Vec<u8>)>(
            "SELECT kind, body FROM filter_parts WHERE version = ? ORDER BY kind, part",
        );
        let parts = parts.bind(before as i64).fetch_all(&mut *store.reader().await?).await?;
        if version(store).await? != before {
            continue; // another one has taken its place between the two
        }
        let whole = |which: i64| {
            let of = parts.iter().filter(|(kind, _)| *kind == which);
            let bytes: Vec<u8> = of.flat_map(|(_, body)| body.iter().copied()).collect();
            let corrupt = |_| StoreError::Corrupt(format!("filter list {before} is no text"));
            String::from_utf8(bytes).map_err(corrupt)
        };
        let (words, regexes) = (whole(WORDS)?, whole(REGEXES)?);
        return Ok(FilterList { version: before, words, regexes });
    }
    Err(StoreError::Busy)
}

/// Puts a list in the place of the one before it; whether that was the one there: else nothing was
/// written.
pub(crate) async fn replace(store: &Store, list: &Arc<FilterList>) -> Result<bool, StoreError> {
    let (dialect, list) = (store.dialect(), Arc::clone(list));
    let write = store.write(move |conn| {
        let list = Arc::clone(&list);
        Box::pin(async move { replace_in(conn, dialect, &list).await })
    });
    write.await
}

async fn replace_in(
    conn: &mut AnyConnection,
    dialect: Dialect,
    list: &FilterList,
) -> Result<bool, StoreError> {
    let next = list.version as i64;
    if !migrate::raise_fact(conn, dialect, VERSION, next).await? {
        return Ok(false);
    }
    sqlx::query("DELETE FROM filter_parts").execute(&mut *conn).await?;
    for (kind, text) in [(WORDS, &list.words), (REGEXES, &list.regexes)] {
        for (part, body) in (0_i64..).zip(text.as_bytes().chunks(PART_BYTES)) {
            let insert = sqlx::query(
                "INSERT INTO filter_parts (version, kind, part, body) VALUES (?, ?, ?, ?)",
            );
            insert.bind(next).bind(kind).bind(part).bind(body).execute(&mut *conn).await?;
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::on_both;

    #[test]
    fn a_list_is_kept_whole_and_replaces_only_the_one_before_it() {
        on_both(|store| async move {
            assert_eq!(read(&store).await.unwrap(), FilterList::default());
            // Cut within a character.
            let list = |version, word: &str| {
                let words = format!("x{}", word.repeat(PART_BYTES));
                Arc::new(FilterList { version, words, regexes: "a+\nb".into() })
            };
            let first = list(1, "微");
            assert!(replace(&store, &first).await.unwrap());
            assert_eq!(read(&store).await.unwrap(), *first);
            assert!(!replace(&store, &first).await.unwrap(), "somebody was faster");
            assert!(!replace(&store, &list(3, "b")).await.unwrap());
            let second = list(2, "b");
            assert!(replace(&store, &second).await.unwrap());
            assert_eq!(
                (read(&store).await.unwrap(), version(&store).await.unwrap()),
                ((*second).clone(), 2)
            );
            let rows = sqlx::query_as::<_, (i64,)>("SELECT COUNT(*) FROM filter_parts");
            let rows = rows.fetch_one(&mut *store.reader().await.unwrap()).await.unwrap();
            assert_eq!(rows, (3,), "nothing is left of what was before");
        });
    }
}
