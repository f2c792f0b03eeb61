//! How long messages are kept.
//!
//! Owns the order in which the old ones go. Content first: on a server with its partitions, whole.
//! Then, in small paced steps, each conversation's floor moves up to what is kept, and index rows
//! below it go (in SQLite their content with them), and pins of what is not above it. The row at
//! the floor stays: unread messages are counted from it. Until its index row is gone, a message is
//! shown `gone` and its id is known; after that neither. Last go reactions to what is not above a
//! floor ([`beside`]).

use super::figures::Removed;
use super::upkeep::Upkeep;
use super::{Dialect, StoreError, beside, migrate, partitions};
use sqlx::AnyConnection;
use std::sync::Arc;
use std::time::Duration;

/// Conversations looked at with one statement.
const PAGE: i64 = 64;
/// Rows one transaction removes, of a table.
const ROWS_MAX: usize = 256;
/// Conversations one transaction locks.
const MOVES_MAX: usize = 16;

/// A fact: content from before this moment is gone.
const CONTENT_FROM: &str = "content_from_ms";
/// A fact: all floors have followed it up to this moment, and nothing stands beside what is gone.
const FLOORS_FROM: &str = "floors_from_ms";

/// A conversation's floor moves to this seq.
type Move = (i64, i64);

/// Removes what is older than `keep_ms`, as far as whole periods go.
pub(super) async fn run(upkeep: &Upkeep, keep_ms: i64, now_ms: i64) -> Result<(), StoreError> {
    let Some(before_ms) = drop_content(upkeep, now_ms - keep_ms).await? else {
        return Ok(()); // a backup is under way: the next round
    };
    let floors = migrate::fact(&mut *upkeep.store.reader().await?, FLOORS_FROM).await?;
    if before_ms == 0 || floors.is_some_and(|floors| floors >= before_ms) {
        return Ok(());
    }
    let mut after = -1;
    loop {
        let step = look(upkeep, after, before_ms).await?;
        if !step.moves.is_empty() {
            upkeep.remove(Removed::Messages, move_floors(upkeep, step.moves, now_ms)).await?;
        }
        match step.after {
            Some(next) => after = next,
            None => break,
        }
        upkeep.breathe().await;
        if upkeep.is_ending() {
            return Ok(());
        }
    }
    if beside::run(upkeep).await? {
        set_fact(upkeep, FLOORS_FROM, before_ms).await?;
    }
    Ok(())
}

async fn set_fact(upkeep: &Upkeep, name: &'static str, value: i64) -> Result<(), StoreError> {
    let dialect = upkeep.store.dialect();
    let set = upkeep.store.write(move |conn| {
        Box::pin(async move { Ok(migrate::set_fact(conn, dialect, name, value).await?) })
    });
    set.await
}

/// Drops whole periods of content before `moment_ms`; from which moment on there is some. `None`:
/// they cannot be dropped now.
async fn drop_content(upkeep: &Upkeep, moment_ms: i64) -> Result<Option<i64>, StoreError> {
    let known = migrate::fact(&mut *upkeep.store.reader().await?, CONTENT_FROM).await?.unwrap_or(0);
    let bound = match &upkeep.server {
        // It goes with the index rows.
        None => moment_ms.div_euclid(upkeep.period_ms) * upkeep.period_ms,
        Some(server) => {
            let bound = partitions::bound_before(&mut *server.lock().await, moment_ms).await?;
            bound.unwrap_or(0)
        }
    };
    if bound > known {
        // Before they are dropped: who is interrupted here drops them the next time.
        set_fact(upkeep, CONTENT_FROM, bound).await?;
    }
    if let Some(server) = &upkeep.server {
        let dropped = partitions::drop_before(&mut *server.lock().await, moment_ms).await?;
        let Some(dropped) = dropped else { return Ok(None) };
        upkeep.store.figures.count_partitions(0, dropped);
        if dropped > 0 {
            tracing::info!(dropped, before_ms = bound, "old content was dropped");
        }
    }
    Ok(Some(known.max(bound)))
}

/// What one look found.
struct Step {
    moves: Vec<Move>,
    /// Where the next one goes on; `None`: all were looked at.
    after: Option<i64>,
}

/// Looks for conversations after `after` whose floor is behind: as many as one step moves.
async fn look(upkeep: &Upkeep, after: i64, before_ms: i64) -> Result<Step, StoreError> {
    let mut conn = upkeep.store.reader().await?;
    let page = sqlx::query_as::<_, (i64, i64, i64)>(
        "SELECT conv, floor, head FROM conversations WHERE conv > ? ORDER BY conv LIMIT ?",
    );
    let page = page.bind(after).bind(PAGE).fetch_all(&mut *conn).await?;
    let more = page.len() == PAGE as usize;
    let last = page.last().map(|(conv, ..)| *conv).filter(|_| more);
    let (mut moves, mut rows) = (Vec::new(), 0);
    for (conv, floor, head) in page {
        if floor >= head {
            continue;
        }
        let limit = ROWS_MAX - rows;
        let Some((to, behind)) = floor_of(&mut conn, (conv, floor), before_ms, limit).await? else {
            continue;
        };
        rows += usize::try_from(to - floor).unwrap_or(0);
        moves.push((conv, to));
        if rows >= ROWS_MAX || moves.len() >= MOVES_MAX {
            // This one again, where there is more of it.
            return Ok(Step { moves, after: Some(if behind { conv - 1 } else { conv }) });
        }
    }
    Ok(Step { moves, after: last })
}

/// How far a floor may move within `limit` rows, and whether it is behind even then.
async fn floor_of(
    conn: &mut AnyConnection,
    (conv, floor): (i64, i64),
    before_ms: i64,
    limit: usize,
) -> Result<Option<(i64, bool)>, StoreError> {
    // Most are not behind: one row tells.
    let mut to = None;
    for limit in [1, limit as i64] {
        let rows = sqlx::query_as::<_, (i64, i64)>(
            "SELECT seq, time_ms FROM message_index WHERE conv = ? AND seq > ?
                ORDER BY seq LIMIT ?",
        );
        let rows = rows.bind(conv).bind(floor).bind(limit).fetch_all(&mut *conn).await?;
        let old = rows.iter().take_while(|(_, time_ms)| *time_ms < before_ms);
        let Some((seq, _)) = old.clone().last() else { return Ok(None) };
        to = Some((*seq, old.count() == rows.len() && rows.len() as i64 == limit));
    }
    Ok(to)
}

/// Moves floors and removes what is below them, in one transaction; how many messages.
async fn move_floors(upkeep: &Upkeep, moves: Vec<Move>, now_ms: i64) -> Result<u64, StoreError> {
    let (dialect, moves) = (upkeep.store.dialect(), Arc::new(moves));
    let moved = upkeep.store.write(move |conn| {
        let moves = Arc::clone(&moves);
        Box::pin(async move {
            let (mut rows, mut pins) = (0, 0);
            for (conv, floor) in moves.iter() {
                let moved = move_floor(conn, dialect, *conv, *floor, now_ms).await?;
                (rows, pins) = (rows + moved.0, pins + moved.1);
            }
            Ok((rows, pins))
        })
    });
    let (rows, pins) = moved.await?;
    upkeep.store.figures.count_removed(Removed::Pins, pins, Duration::ZERO);
    Ok(rows)
}

/// Messages and pins that went.
type Gone = (u64, u64);

async fn move_floor(
    conn: &mut AnyConnection,
    dialect: Dialect,
    conv: i64,
    floor: i64,
    now_ms: i64,
) -> Result<Gone, StoreError> {
    // First, since it locks the conversation, as an append does. What a sync tells has changed.
    let update = sqlx::query(
        "UPDATE conversations SET floor = ?, changed_ms = ? WHERE conv = ? AND floor < ?",
    );
    let update = update.bind(floor).bind(now_ms).bind(conv).bind(floor);
    if update.execute(&mut *conn).await?.rows_affected() == 0 {
        return Ok((0, 0)); // another process did
    }
    let index = sqlx::query("DELETE FROM message_index WHERE conv = ? AND seq < ?");
    let rows = index.bind(conv).bind(floor).execute(&mut *conn).await?.rows_affected();
    if dialect == Dialect::Sqlite {
        let content = sqlx::query("DELETE FROM message_content WHERE conv = ? AND seq <= ?");
        content.bind(conv).bind(floor).execute(&mut *conn).await?;
    }
    let pins = sqlx::query("DELETE FROM pins WHERE conv = ? AND seq <= ?");
    let pins = pins.bind(conv).bind(floor).execute(conn).await?.rows_affected();
    Ok((rows, pins))
}
