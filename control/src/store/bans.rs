//! Rows of bans: whom operators keep out, until when, and why.

use super::{Dialect, StoreError};
use sqlx::AnyConnection;

/// A ban.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ban {
    pub(crate) user: i64,
    /// 0: it does not end.
    pub(crate) until_ms: i64,
    /// For operators; the user is not told.
    pub(crate) reason: String,
    pub(crate) made_ms: i64,
}

/// The ban of a user, where one is in force.
pub(crate) async fn find(
    conn: &mut AnyConnection,
    user: i64,
    now_ms: i64,
) -> Result<Option<Ban>, StoreError> {
    let row = sqlx::query_as::<_, (i64, String, i64)>(
        "SELECT until_ms, reason, made_ms FROM bans WHERE user_id = ?",
    );
    let row = row.bind(user).fetch_optional(conn).await?;
    let ban = row.map(|(until_ms, reason, made_ms)| Ban { user, until_ms, reason, made_ms });
    Ok(ban.filter(|ban| ban.until_ms == 0 || ban.until_ms > now_ms))
}

/// Writes a ban; another one of the user is replaced.
pub(crate) async fn put(
    conn: &mut AnyConnection,
    dialect: Dialect,
    ban: &Ban,
) -> Result<(), StoreError> {
    let upsert = sqlx::query(dialect.pick(
        "INSERT INTO bans (user_id, until_ms, reason, made_ms) VALUES (?, ?, ?, ?)
         ON CONFLICT (user_id) DO UPDATE SET until_ms = excluded.until_ms,
         reason = excluded.reason, made_ms = excluded.made_ms",
        "INSERT INTO bans (user_id, until_ms, reason, made_ms) VALUES (?, ?, ?, ?)
         ON DUPLICATE KEY UPDATE until_ms = VALUES(until_ms), reason = VALUES(reason),
         made_ms = VALUES(made_ms)",
    ));
    let upsert = upsert.bind(ban.user).bind(ban.until_ms).bind(ban.reason.as_str());
    upsert.bind(ban.made_ms).execute(conn).await?;
    Ok(())
}

/// Lifts the ban of a user, if there is one.
pub(crate) async fn delete(conn: &mut AnyConnection, user: i64) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM bans WHERE user_id = ?").bind(user).execute(conn).await?;
    Ok(())
}
