//! Rows of windows of quality reports: written once, read by time, removed when they are old.

use super::{Store, StoreError, parts_within};
use crate::quality::cell::Cell;
use crate::quality::query::{Groups, Query};
use crate::quality::report::{Dimension, Key, Side};
use crate::quality::row;
use crate::quality::windows::{Level, Window};
use sha2::{Digest as _, Sha256};
use sqlx::{AnyConnection, AssertSqlSafe};
use std::sync::Arc;

/// Rows of one transaction that writes.
const ROWS_AT_ONCE: usize = 256;
/// Rows of one page that is read.
const PAGE: i64 = 500;
/// Rows that one question reads, and the rest of the last window. More: its time is cut.
const ROWS_MAX: usize = 100_000;

/// A row, ready to be written.
#[derive(Clone)]
struct Row {
    key_hash: i64,
    key: Arc<Key>,
    cell: Vec<u8>,
}

/// Keeps a closed window of a node; again, where it is not known whether it was kept.
///
/// # Errors
/// The database's own: some of its rows may be kept.
pub(crate) async fn keep(
    store: &Store,
    level: Level,
    node: i64,
    window: &Window,
) -> Result<(), StoreError> {
    let row = |(key, cell): (&Arc<Key>, &Cell)| Row {
        key_hash: hash(key),
        key: Arc::clone(key),
        cell: row::encode(cell),
    };
    let mut rows: Vec<Row> = window.cells().map(row).collect();
    // In the order of the primary key: neighbours are written together.
    rows.sort_by_key(|row| row.key_hash);
    let start_ms = window.start_ms;
    for part in rows.chunks(ROWS_AT_ONCE) {
        let part: Arc<[Row]> = part.into();
        let kept = store.write(move |conn| {
            let part = Arc::clone(&part);
            Box::pin(async move { insert(conn, (level, start_ms, node), &part).await })
        });
        kept.await?;
    }
    Ok(())
}

async fn insert(
    conn: &mut AnyConnection,
    (level, start_ms, node): (Level, i64, i64),
    rows: &[Row],
) -> Result<(), StoreError> {
    for part in parts_within(rows, |row| row.cell.len() + row.key.bytes()) {
        let marks = vec!["(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"; part.len()].join(", ");
        let replace = format!(
            "REPLACE INTO quality_windows (span_ms, start_ms, node, key_hash, side, room, cdn,
                region, isp, platform, cell) VALUES {marks}"
        );
        let mut query = sqlx::query(AssertSqlSafe(replace));
        for Row { key_hash, key, cell } in part {
            query = query.bind(level.span_ms()).bind(start_ms).bind(node).bind(*key_hash);
            query = query.bind(key.side as i64);
            for dimension in &Dimension::ALL[1..] {
                query = query.bind(key.text(*dimension));
            }
            query = query.bind(cell.as_slice());
        }
        query.execute(&mut *conn).await?;
    }
    Ok(())
}

/// The first eight bytes of a hash over the texts and their lengths: the same in every process.
fn hash(key: &Key) -> i64 {
    let mut digest = Sha256::new();
    for dimension in Dimension::ALL {
        let text = key.text(*dimension);
        digest.update([text.len() as u8]); // 64 at most
        digest.update(text.as_bytes());
    }
    let mut first = [0; 8];
    first.copy_from_slice(&digest.finalize()[..8]);
    i64::from_be_bytes(first)
}

/// Where a page begins: behind this row.
type After = (i64, i64, i64);

type Read = (i64, i64, i64, i64, String, String, String, String, String, Vec<u8>);

/// Adds what the store has for a query: every node's windows, but of those of `node` only what
/// began before `own_ms`, since its memory has the rest. The newest come first; where there are too
/// many rows, from which moment on all are there.
pub(crate) async fn gather(
    store: &Store,
    query: &Query,
    own: (i64, i64),
    groups: &mut Groups,
) -> Result<Option<i64>, StoreError> {
    gather_within(store, query, own, groups, ROWS_MAX).await
}

async fn gather_within(
    store: &Store,
    query: &Query,
    (node, own_ms): (i64, i64),
    groups: &mut Groups,
    rows_max: usize,
) -> Result<Option<i64>, StoreError> {
    let mut after: After = (query.to_ms - 1, i64::MAX, i64::MAX);
    let mut read = 0;
    loop {
        let rows = page(&mut *store.reader().await?, query, after).await?;
        for (start_ms, of, key_hash, side, room, cdn, region, isp, platform, cell) in &rows {
            if read >= rows_max && *start_ms < after.0 {
                return Ok(Some(after.0));
            }
            read += 1;
            after = (*start_ms, *of, *key_hash);
            let side = usize::try_from(*side).ok().and_then(|side| Side::ALL.get(side));
            let cell = row::decode(cell);
            let (Some(side), Some(cell)) = (side, cell) else {
                return Err(StoreError::Corrupt(format!("a window of quality at {start_ms}")));
            };
            let [room, cdn, region, isp, platform] =
                [room, cdn, region, isp, platform].map(String::clone);
            let key = Key { side: *side, room, cdn, region, isp, platform };
            if query.wants(&key) && (*of != node || *start_ms < own_ms) {
                groups.add(query, *start_ms, &key, &cell);
            }
        }
        if rows.len() < PAGE as usize {
            return Ok(None);
        }
    }
}

async fn page(
    conn: &mut AnyConnection,
    query: &Query,
    (start_ms, node, key_hash): After,
) -> Result<Vec<Read>, StoreError> {
    // What is looked for comes in as arguments: one statement, one plan. The dimensions' names are
    // the columns'.
    let mut select = "SELECT start_ms, node, key_hash, side, room, cdn, region, isp, platform, cell
        FROM quality_windows WHERE span_ms = ? AND start_ms >= ? AND start_ms <= ?
        AND (start_ms < ? OR node < ? OR (node = ? AND key_hash < ?))"
        .to_owned();
    for (dimension, _) in &query.filter {
        select.push_str(&format!(" AND {} = ?", dimension.word()));
    }
    select.push_str(" ORDER BY start_ms DESC, node DESC, key_hash DESC LIMIT ?");
    let rows = sqlx::query_as::<_, Read>(AssertSqlSafe(select));
    let rows = rows.bind(query.level.span_ms()).bind(query.from_ms).bind(start_ms);
    let mut rows = rows.bind(start_ms).bind(node).bind(node).bind(key_hash);
    for (dimension, text) in &query.filter {
        rows = match dimension {
            Dimension::Side => {
                let side = Side::ALL.iter().position(|side| side.word() == text);
                rows.bind(side.map_or(-1, |side| side as i64))
            }
            _ => rows.bind(text.as_str()),
        };
    }
    Ok(rows.bind(PAGE).fetch_all(conn).await?)
}

/// Removes the oldest window of a level that began before a moment, of all nodes; whether there
/// was one.
pub(crate) async fn remove_oldest(
    store: &Store,
    level: Level,
    before_ms: i64,
) -> Result<u64, StoreError> {
    let oldest = sqlx::query_as::<_, (Option<i64>,)>(
        "SELECT MIN(start_ms) FROM quality_windows WHERE span_ms = ? AND start_ms < ?",
    );
    let oldest = oldest.bind(level.span_ms()).bind(before_ms);
    let (oldest,) = oldest.fetch_one(&mut *store.reader().await?).await?;
    let Some(start_ms) = oldest else { return Ok(0) };
    let removed = store.write(move |conn| {
        Box::pin(async move {
            let delete =
                sqlx::query("DELETE FROM quality_windows WHERE span_ms = ? AND start_ms = ?");
            let delete = delete.bind(level.span_ms()).bind(start_ms);
            Ok(delete.execute(conn).await?.rows_affected())
        })
    });
    removed.await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quality::config::QualityConfig;
    use crate::quality::report::tests::report;
    use crate::quality::report::{Metric, Total};
    use crate::quality::sources::Source;
    use crate::quality::windows::Windows;
    use crate::store::testing::on_both;

    const NOW: i64 = 1_800_000_000_000;

    /// Ten minutes of reports from three ISPs, closed; and where they were counted.
    fn windows() -> Windows {
        let mut windows = Windows::new(&QualityConfig::default(), NOW);
        let mut deltas = [0; 12];
        deltas[Total::Stalls as usize] = 1;
        for n in 0..60 {
            windows.advance(NOW + n * 10_000);
            for isp in ["a", "b", "c"] {
                let key = Key { isp: isp.into(), ..report("x", 1).key };
                let values = [(Metric::Rtt, n as u32)];
                windows.count((&key, Source::of(1, false)), &deltas, true, values.into_iter());
            }
        }
        windows.advance(NOW + 3_600_000);
        windows
    }

    async fn keep_all(store: &Store, windows: &mut Windows, node: i64) {
        while let Some((level, window)) = windows.due() {
            keep(store, level, node, &window).await.unwrap();
            keep(store, level, node, &window).await.unwrap(); // as after a lost answer
            windows.stored(&window);
        }
    }

    fn query(level: Level, by: &[Dimension]) -> Query {
        let (from_ms, to_ms, by_time) = (NOW, NOW + 3_600_000, false);
        Query { level, from_ms, to_ms, by: by.to_vec(), by_time, filter: vec![] }
    }

    async fn stalls(store: &Store, query: &Query, own: (i64, i64)) -> Vec<(Vec<String>, u64)> {
        let mut groups = Groups::default();
        assert_eq!(gather(store, query, own, &mut groups).await.unwrap(), None);
        let cells = groups.cells.into_iter();
        cells.map(|((_, texts), cell)| (texts, cell.total(Total::Stalls))).collect()
    }

    #[test]
    fn what_was_kept_is_found_again_by_time_group_and_filter() {
        on_both(|store| async move {
            let mut windows = windows();
            keep_all(&store, &mut windows, 7).await;
            keep_all(&store, &mut self::windows(), 8).await;
            let none = (0, i64::MAX);
            let all = |many: u64| vec![(Vec::<String>::new(), many)];
            for level in [Level::Minute, Level::Hour] {
                let asked = query(level, &[]);
                assert_eq!(stalls(&store, &asked, none).await, all(360), "{level:?}");
            }
            let mut asked = query(Level::Minute, &[Dimension::Isp]);
            asked.to_ms = NOW + 120_000;
            let isps = stalls(&store, &asked, none).await;
            let isp = |isp: &str| (vec![isp.to_owned()], 24);
            assert_eq!(isps, [isp("a"), isp("b"), isp("c")]);
            asked.filter = vec![(Dimension::Isp, "b".into()), (Dimension::Side, "play".into())];
            assert_eq!(stalls(&store, &asked, none).await, [isp("b")]);
            asked.filter = vec![(Dimension::Side, "push".into())];
            assert_eq!(stalls(&store, &asked, none).await, []);
            // Memory has the second half of node 7's windows.
            let own = (7, NOW + 300_000);
            assert_eq!(stalls(&store, &query(Level::Minute, &[]), own).await, all(270));
            let mut groups = Groups::default();
            gather(&store, &query(Level::Minute, &[]), none, &mut groups).await.unwrap();
            let (_, cell) = groups.cells.first_key_value().unwrap();
            assert_eq!(cell.sketch(Metric::Rtt).unwrap().count(), 360);
        });
    }

    /// From when on so many rows tell all, and the stalls they tell.
    async fn newest(store: &Store, query: &Query, rows_max: usize) -> (Option<i64>, u64) {
        let mut groups = Groups::default();
        let gathered = gather_within(store, query, (0, 0), &mut groups, rows_max).await;
        let stalls = groups.cells.values().map(|cell| cell.total(Total::Stalls));
        (gathered.unwrap(), stalls.sum())
    }

    #[test]
    fn more_rows_than_a_question_reads_cut_its_time_between_two_windows() {
        on_both(|store| async move {
            keep_all(&store, &mut windows(), 7).await;
            let asked = query(Level::Minute, &[Dimension::Cdn]);
            // Ten minutes of three rows, six stalls each.
            for (rows_max, from_min, stalls) in [(1, 9, 18), (3, 9, 18), (4, 8, 36), (27, 1, 162)] {
                let cut = Some(NOW + from_min * 60_000);
                assert_eq!(newest(&store, &asked, rows_max).await, (cut, stalls), "{rows_max}");
            }
            for rows_max in [28, 30, 31] {
                assert_eq!(newest(&store, &asked, rows_max).await, (None, 180), "{rows_max}");
            }
        });
    }

    #[test]
    fn more_rows_than_a_page_are_read_and_old_windows_go_one_by_one() {
        on_both(|store| async move {
            let mut windows = Windows::new(&QualityConfig::default(), NOW);
            for n in 0..900 {
                let key = Key { room: format!("room-{n}"), ..report("x", 1).key };
                let source = Source::of(n, false);
                windows.count((&key, source), &[1; 12], true, std::iter::empty());
            }
            windows.advance(NOW + 3_600_000);
            keep_all(&store, &mut windows, 7).await;
            let asked = query(Level::Minute, &[]);
            assert_eq!(stalls(&store, &asked, (0, 0)).await, [(vec![], 900)]);
            assert_eq!(newest(&store, &asked, 1).await, (None, 900), "a window is read whole");
            let remove = |before_ms| remove_oldest(&store, Level::Minute, before_ms);
            assert_eq!(remove(NOW).await.unwrap(), 0);
            assert_eq!(remove(NOW + 1).await.unwrap(), 900);
            assert_eq!(remove(NOW + 1).await.unwrap(), 0);
            assert_eq!(stalls(&store, &query(Level::Hour, &[]), (0, 0)).await.len(), 1);
        });
    }
}
