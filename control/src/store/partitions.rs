//! Time partitions of content, on a server that has them: made ahead, dropped whole.
//!
//! Owns their bounds. A partition holds what was written before its bound and not before the one
//! before; the last one, `later`, has no bound and is empty while somebody looks after it, so that
//! splitting it moves no row. Bounds are whole periods since 1970, so that every process comes to
//! the same ones.

use super::{StoreError, migrate};
use sqlx::{AnyConnection, AssertSqlSafe};

/// Partitions that stand ready beyond the one that is written to: who looks after them may be away
/// for so many periods.
const AHEAD: i64 = 3;
/// Partitions made at once, the newest ones: what is older shares the first.
const MADE_MAX: i64 = 1_000;
/// A statement that changes the table waits for those that use it, and others wait behind it: no
/// longer than a second, then it is tried again later.
const WAIT: &str = "SET SESSION lock_wait_timeout = 1";

/// Where content stands that is about to go.
pub(super) const ASIDE: &str = "message_content_aside";

/// A partition with a bound.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Partition {
    name: String,
    /// What is in it is older than this moment.
    until_ms: i64,
}

/// What became of the partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) partitions: usize,
    /// Rows stand in `later`: splitting it would copy them while everybody waits.
    pub(super) blocked: bool,
}

/// Makes what is missing from `from_ms` to some periods after `now_ms`. `copying`: also where rows
/// must be copied for it, which takes its time; nobody may be writing then.
pub(super) async fn make_ahead(
    conn: &mut AnyConnection,
    period_ms: i64,
    (from_ms, now_ms): (i64, i64),
    copying: bool,
) -> Result<Made, StoreError> {
    if missing(&list(conn).await?, period_ms, from_ms, now_ms).is_empty() {
        return Ok(Made::default());
    }
    if !migrate::hold_schema(conn, 0).await? {
        // Somebody else makes them, or copies the store: there is time.
        return Ok(Made::default());
    }
    let made = split(conn, period_ms, (from_ms, now_ms), copying).await;
    migrate::release_schema(conn).await?;
    made
}

async fn split(
    conn: &mut AnyConnection,
    period_ms: i64,
    (from_ms, now_ms): (i64, i64),
    copying: bool,
) -> Result<Made, StoreError> {
    let bounds = missing(&list(conn).await?, period_ms, from_ms, now_ms);
    if bounds.is_empty() {
        return Ok(Made::default());
    }
    let some = "SELECT conv FROM message_content PARTITION (later) LIMIT 1";
    let is_empty = sqlx::query(some).fetch_optional(&mut *conn).await?.is_none();
    if !is_empty && !copying {
        return Ok(Made { partitions: 0, blocked: true });
    }
    let parts: Vec<String> = bounds
        .iter()
        .map(|until| format!("PARTITION until_{until} VALUES LESS THAN ({until})"))
        .collect();
    sqlx::query(WAIT).execute(&mut *conn).await?;
    let split = format!(
        "ALTER TABLE message_content REORGANIZE PARTITION later INTO ({}, PARTITION later VALUES \
         LESS THAN MAXVALUE)",
        parts.join(", ")
    );
    sqlx::query(AssertSqlSafe(split)).execute(conn).await?;
    Ok(Made { partitions: bounds.len(), blocked: false })
}

/// Drops partitions that hold nothing written at `before_ms` or later; how many. `None`: somebody
/// else changes the tables or copies them, and nothing was done.
pub(super) async fn drop_before(
    conn: &mut AnyConnection,
    before_ms: i64,
) -> Result<Option<usize>, StoreError> {
    if old(&list(conn).await?, before_ms).is_empty() {
        return Ok(Some(0));
    }
    if !migrate::hold_schema(conn, 0).await? {
        return Ok(None);
    }
    let dropped = drop_all(conn, before_ms).await;
    migrate::release_schema(conn).await?;
    dropped.map(Some)
}

async fn drop_all(conn: &mut AnyConnection, before_ms: i64) -> Result<usize, StoreError> {
    let old = old(&list(conn).await?, before_ms);
    sqlx::query(WAIT).execute(&mut *conn).await?;
    for name in &old {
        // Dropping takes the longer the more is dropped, and everybody waits for it. So the content
        // changes places with an empty table, and both are dropped: one is empty, and of the other
        // nobody knows. Who is interrupted leaves a table that is dropped the next time.
        for statement in [
            format!("DROP TABLE IF EXISTS {ASIDE}"),
            format!("CREATE TABLE {ASIDE} LIKE message_content"),
            format!("ALTER TABLE {ASIDE} REMOVE PARTITIONING"),
            format!("ALTER TABLE message_content EXCHANGE PARTITION {name} WITH TABLE {ASIDE}"),
            format!("ALTER TABLE message_content DROP PARTITION {name}"),
            format!("DROP TABLE {ASIDE}"),
        ] {
            sqlx::query(AssertSqlSafe(statement)).execute(&mut *conn).await?;
        }
    }
    Ok(old.len())
}

fn old(partitions: &[Partition], before_ms: i64) -> Vec<String> {
    let old = partitions.iter().filter(|one| one.until_ms <= before_ms);
    old.map(|one| one.name.clone()).collect()
}

/// The newest bound that is not after this moment: what is before it may go whole.
pub(super) async fn bound_before(
    conn: &mut AnyConnection,
    moment_ms: i64,
) -> Result<Option<i64>, StoreError> {
    let bounds = list(conn).await?.into_iter().map(|one| one.until_ms);
    Ok(bounds.filter(|until| *until <= moment_ms).max())
}

/// Those with a bound, oldest first.
async fn list(conn: &mut AnyConnection) -> Result<Vec<Partition>, StoreError> {
    let rows = sqlx::query_as::<_, (String, String)>(
        "SELECT CAST(partition_name AS CHAR), CAST(partition_description AS CHAR)
            FROM information_schema.partitions
            WHERE table_schema = DATABASE() AND table_name = 'message_content'
            ORDER BY partition_ordinal_position",
    );
    let mut partitions = Vec::new();
    for (name, bound) in rows.fetch_all(conn).await? {
        if bound == "MAXVALUE" {
            continue;
        }
        let until_ms = bound.parse();
        let until_ms = until_ms.map_err(|_| StoreError::Corrupt(format!("the bound {bound:?}")))?;
        partitions.push(Partition { name, until_ms });
    }
    Ok(partitions)
}

/// The bounds that are missing, in order.
fn missing(there: &[Partition], period_ms: i64, from_ms: i64, now_ms: i64) -> Vec<i64> {
    let end = (now_ms.div_euclid(period_ms) + 1 + AHEAD) * period_ms;
    let last = there.last().map_or(from_ms, |last| last.until_ms);
    let first = (last.div_euclid(period_ms) + 1) * period_ms;
    let first = first.max(end - (MADE_MAX - 1) * period_ms);
    (0..).map(|n| first + n * period_ms).take_while(|bound| *bound <= end).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn until(bounds: &[i64]) -> Vec<Partition> {
        bounds.iter().map(|b| Partition { name: format!("until_{b}"), until_ms: *b }).collect()
    }

    #[test]
    fn bounds_are_whole_periods_and_reach_some_periods_ahead() {
        assert_eq!(missing(&[], 10, 25, 25), [30, 40, 50, 60]);
        assert_eq!(missing(&until(&[30]), 10, 25, 25), [40, 50, 60]);
        assert!(missing(&until(&[30, 40, 50, 60]), 10, 25, 29).is_empty());
        assert_eq!(missing(&until(&[30, 40, 50, 60]), 10, 25, 30), [70], "the next one");
        assert_eq!(missing(&until(&[30]), 10, 25, 70), [40, 50, 60, 70, 80, 90, 100, 110]);
        assert_eq!(missing(&until(&[30]), 7, 25, 25), [35, 42, 49], "another period from now on");
        assert_eq!(missing(&[], 10, 5, 25), [10, 20, 30, 40, 50, 60], "from a move on");
        let many = missing(&[], 1, 0, 1_000_000);
        assert_eq!((many.len(), many.last()), (1_000, Some(&1_000_004)));
    }

    #[test]
    fn what_is_old_ends_before_the_moment() {
        assert_eq!(old(&until(&[30, 40, 50]), 40), ["until_30", "until_40"]);
        assert!(old(&until(&[30]), 29).is_empty());
    }
}
