//! What stands beside messages that are kept no longer: reactions and their counts.
//!
//! Owns the walk that removes them, after floors have moved: nobody reacts to what is below one.
//! A message may have a hundred thousand reactions, so they are no part of the transaction that
//! moves the floor. (Pins are: of a conversation there are few, and a sync tells them with the
//! floor.) Every conversation that has a floor is looked at, so what an interrupted walk has left
//! is found by the next one.

use super::StoreError;
use super::figures::Removed;
use super::upkeep::Upkeep;
use sqlx::AnyConnection;

/// Conversations looked at with one statement.
const PAGE: i64 = 64;
/// Rows one transaction removes, of a table; a user's last few reactions go with its first.
const ROWS_MAX: i64 = 256;

/// Removes them. `false`: the store ends before it is done.
pub(super) async fn run(upkeep: &Upkeep) -> Result<bool, StoreError> {
    let mut after = -1;
    loop {
        let (left, last) = look(upkeep, after).await?;
        for (conv, floor) in left {
            let step = || {
                upkeep
                    .store
                    .write(move |conn: &mut AnyConnection| Box::pin(remove_some(conn, conv, floor)))
            };
            while upkeep.remove(Removed::Reactions, step()).await? > 0 {
                if upkeep.is_ending() {
                    return Ok(false);
                }
            }
        }
        let Some(last) = last else { return Ok(true) };
        after = last;
        upkeep.breathe().await;
        if upkeep.is_ending() {
            return Ok(false);
        }
    }
}

/// Of the conversations of the next page those that have something at or below their floor, and
/// where the page ends; `None`: it is the last one.
async fn look(upkeep: &Upkeep, after: i64) -> Result<(Vec<(i64, i64)>, Option<i64>), StoreError> {
    let mut conn = upkeep.store.reader().await?;
    let page = sqlx::query_as::<_, (i64,)>(
        "SELECT conv FROM conversations WHERE conv > ? ORDER BY conv LIMIT ?",
    );
    let page = page.bind(after).bind(PAGE).fetch_all(&mut *conn).await?;
    let Some((last,)) = page.last().copied() else { return Ok((Vec::new(), None)) };
    // Both begin with the conversation in their keys: of each one two looks.
    let left = sqlx::query_as::<_, (i64, i64)>(
        "SELECT c.conv, c.floor FROM conversations c
            WHERE c.conv > ? AND c.conv <= ? AND c.floor > 0
                AND (EXISTS (SELECT 1 FROM reactions r WHERE r.conv = c.conv AND r.seq <= c.floor)
                    OR EXISTS (SELECT 1 FROM reaction_heads h
                        WHERE h.conv = c.conv AND h.seq <= c.floor))
            ORDER BY c.conv",
    );
    let left = left.bind(after).bind(last).fetch_all(&mut *conn).await?;
    Ok((left, (page.len() == PAGE as usize).then_some(last)))
}

/// Removes some of it in one conversation; how many rows: none where nothing is left.
async fn remove_some(conn: &mut AnyConnection, conv: i64, floor: i64) -> Result<u64, StoreError> {
    let rows = sqlx::query_as::<_, (i64, i64)>(
        "SELECT seq, user FROM reactions WHERE conv = ? AND seq <= ?
            ORDER BY seq, user, reaction LIMIT ?",
    );
    let rows = rows.bind(conv).bind(floor).bind(ROWS_MAX).fetch_all(&mut *conn).await?;
    if let Some((seq, user)) = rows.last() {
        // Up to this one, which are those that were found: two ranges of the key.
        let before = sqlx::query("DELETE FROM reactions WHERE conv = ? AND seq < ?");
        let before = before.bind(conv).bind(*seq).execute(&mut *conn).await?;
        let at = sqlx::query("DELETE FROM reactions WHERE conv = ? AND seq = ? AND user <= ?");
        let at = at.bind(conv).bind(*seq).bind(*user).execute(conn).await?;
        return Ok(before.rows_affected() + at.rows_affected());
    }
    let heads = sqlx::query_as::<_, (i64,)>(
        "SELECT seq FROM reaction_heads WHERE conv = ? AND seq <= ? ORDER BY seq LIMIT ?",
    );
    let heads = heads.bind(conv).bind(floor).bind(ROWS_MAX).fetch_all(&mut *conn).await?;
    let Some((seq,)) = heads.last() else { return Ok(0) };
    let mut rows = 0;
    for delete in [
        "DELETE FROM reaction_heads WHERE conv = ? AND seq <= ?",
        "DELETE FROM reaction_pending WHERE conv = ? AND seq <= ?",
    ] {
        rows +=
            sqlx::query(delete).bind(conv).bind(*seq).execute(&mut *conn).await?.rows_affected();
    }
    Ok(rows)
}
