//! What is over and would stay for ever: log-ins nobody uses, links, idempotency keys, bans and
//! mutes of rooms, and news of what ended between two users.
//!
//! Owns the walk through their tables, a page at a time by primary key, so that no index by time
//! costs every write. (Requests to join a group end with the group, in its transaction.)

use super::figures::Removed;
use super::upkeep::Upkeep;
use super::{StoreError, idempotency, relations};
use sqlx::AnyConnection;
use std::sync::Arc;

/// Rows of a page, so of a transaction.
const PAGE: i64 = 256;

/// Removes what is over at `now_ms`.
pub(super) async fn run(upkeep: &Upkeep, now_ms: i64) -> Result<(), StoreError> {
    keys(upkeep, now_ms).await?;
    sessions(upkeep, now_ms).await?;
    links(upkeep, now_ms).await?;
    penalties(upkeep, now_ms).await?;
    ended(upkeep, now_ms - relations::ENDED_KEPT_MS).await
}

async fn keys(upkeep: &Upkeep, now_ms: i64) -> Result<(), StoreError> {
    loop {
        let removed = upkeep.store.write(move |conn: &mut AnyConnection| {
            Box::pin(idempotency::remove_expired(conn, now_ms, PAGE))
        });
        let rows = upkeep.remove(Removed::Keys, removed).await?;
        if rows < PAGE as u64 || upkeep.is_ending() {
            return Ok(());
        }
    }
}

async fn sessions(upkeep: &Upkeep, now_ms: i64) -> Result<(), StoreError> {
    let mut after = (-1, -1);
    loop {
        let page = sqlx::query_as::<_, (i64, i64, i64)>(
            "SELECT user_id, id, expires_ms FROM sessions
                WHERE user_id > ? OR (user_id = ? AND id > ?) ORDER BY user_id, id LIMIT ?",
        );
        let page = page.bind(after.0).bind(after.0).bind(after.1).bind(PAGE);
        let page = page.fetch_all(&mut *upkeep.store.reader().await?).await?;
        let over: Vec<(i64, i64)> = page
            .iter()
            .filter(|(.., expires_ms)| *expires_ms <= now_ms)
            .map(|(user, id, _)| (*user, *id))
            .collect();
        if !over.is_empty() {
            let over = Arc::new(over);
            let removed = upkeep.store.write(move |conn| {
                let over = Arc::clone(&over);
                Box::pin(async move {
                    let mut rows = 0;
                    for (user, id) in over.iter() {
                        // It may have been renewed meanwhile.
                        let delete = sqlx::query(
                            "DELETE FROM sessions WHERE user_id = ? AND id = ? AND expires_ms <= ?",
                        );
                        let delete = delete.bind(*user).bind(*id).bind(now_ms);
                        rows += delete.execute(&mut *conn).await?.rows_affected();
                    }
                    Ok(rows)
                })
            });
            upkeep.remove(Removed::Sessions, removed).await?;
        }
        match page.last() {
            Some((user, id, _)) if page.len() == PAGE as usize => after = (*user, *id),
            _ => return Ok(()),
        }
        if upkeep.is_ending() {
            return Ok(());
        }
    }
}

async fn links(upkeep: &Upkeep, now_ms: i64) -> Result<(), StoreError> {
    let mut after = String::new();
    loop {
        let page = sqlx::query_as::<_, (String, i64, i64)>(
            "SELECT token, expires_ms, uses_left FROM group_links WHERE token > ?
                ORDER BY token LIMIT ?",
        );
        let page = page.bind(after.as_str()).bind(PAGE);
        let page = page.fetch_all(&mut *upkeep.store.reader().await?).await?;
        let over: Vec<String> = page
            .iter()
            .filter(|(_, expires_ms, uses_left)| *expires_ms <= now_ms || *uses_left <= 0)
            .map(|(token, ..)| token.clone())
            .collect();
        if !over.is_empty() {
            let over = Arc::new(over);
            let removed = upkeep.store.write(move |conn| {
                let over = Arc::clone(&over);
                Box::pin(async move {
                    let mut rows = 0;
                    for token in over.iter() {
                        let delete = sqlx::query("DELETE FROM group_links WHERE token = ?");
                        let delete = delete.bind(token.as_str()).execute(&mut *conn).await?;
                        rows += delete.rows_affected();
                    }
                    Ok(rows)
                })
            });
            upkeep.remove(Removed::Links, removed).await?;
        }
        match page.last() {
            Some((token, ..)) if page.len() == PAGE as usize => after.clone_from(token),
            _ => return Ok(()),
        }
        if upkeep.is_ending() {
            return Ok(());
        }
    }
}

async fn penalties(upkeep: &Upkeep, now_ms: i64) -> Result<(), StoreError> {
    let mut after = (String::new(), -1, Vec::new());
    loop {
        let page = sqlx::query_as::<_, (String, i64, Vec<u8>, i64)>(
            "SELECT room, kind, user, until_ms FROM room_penalties
                WHERE room > ? OR (room = ? AND (kind > ? OR (kind = ? AND user > ?)))
                ORDER BY room, kind, user LIMIT ?",
        );
        let page = page.bind(after.0.as_str()).bind(after.0.as_str()).bind(after.1).bind(after.1);
        let page = page.bind(after.2.as_slice()).bind(PAGE);
        let page = page.fetch_all(&mut *upkeep.store.reader().await?).await?;
        let over = page.iter().filter(|(.., until_ms)| *until_ms <= now_ms);
        let over: Vec<_> =
            over.map(|(room, kind, user, _)| (room.clone(), *kind, user.clone())).collect();
        if !over.is_empty() {
            let over = Arc::new(over);
            let removed = upkeep.store.write(move |conn| {
                let over = Arc::clone(&over);
                Box::pin(async move {
                    let mut rows = 0;
                    for (room, kind, user) in over.iter() {
                        // It may have been decided anew meanwhile.
                        let delete = sqlx::query(
                            "DELETE FROM room_penalties
                                WHERE room = ? AND kind = ? AND user = ? AND until_ms <= ?",
                        );
                        let delete = delete.bind(room.as_str()).bind(*kind).bind(user.as_slice());
                        let delete = delete.bind(now_ms).execute(&mut *conn).await?;
                        rows += delete.rows_affected();
                    }
                    Ok(rows)
                })
            });
            upkeep.remove(Removed::Penalties, removed).await?;
        }
        match page.last().cloned() {
            Some((room, kind, user, _)) if page.len() == PAGE as usize => {
                after = (room, kind, user);
            }
            _ => return Ok(()),
        }
        if upkeep.is_ending() {
            return Ok(());
        }
    }
}

/// Removes what ended between two users before a moment: no sync tells it any more.
async fn ended(upkeep: &Upkeep, before_ms: i64) -> Result<(), StoreError> {
    let mut after = (-1, -1);
    loop {
        let page = sqlx::query_as::<_, (i64, i64, i64)>(
            "SELECT user_id, peer_id, changed_ms FROM ended_relations
                WHERE user_id > ? OR (user_id = ? AND peer_id > ?)
                ORDER BY user_id, peer_id LIMIT ?",
        );
        let page = page.bind(after.0).bind(after.0).bind(after.1).bind(PAGE);
        let page = page.fetch_all(&mut *upkeep.store.reader().await?).await?;
        let old: Vec<(i64, i64)> = page
            .iter()
            .filter(|(.., changed_ms)| *changed_ms < before_ms)
            .map(|(user, peer, _)| (*user, *peer))
            .collect();
        if !old.is_empty() {
            let old = Arc::new(old);
            let removed = upkeep.store.write(move |conn| {
                let old = Arc::clone(&old);
                Box::pin(async move {
                    let mut rows = 0;
                    for (user, peer) in old.iter() {
                        // Something else may have ended between the two meanwhile.
                        let delete = sqlx::query(
                            "DELETE FROM ended_relations
                                WHERE user_id = ? AND peer_id = ? AND changed_ms < ?",
                        );
                        let delete = delete.bind(*user).bind(*peer).bind(before_ms);
                        rows += delete.execute(&mut *conn).await?.rows_affected();
                    }
                    Ok(rows)
                })
            });
            upkeep.remove(Removed::Ended, removed).await?;
        }
        match page.last() {
            Some((user, peer, _)) if page.len() == PAGE as usize => after = (*user, *peer),
            _ => return Ok(()),
        }
        if upkeep.is_ending() {
            return Ok(());
        }
    }
}
