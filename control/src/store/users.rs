//! Rows of users: names and ids.

use super::{Dialect, StoreError};
use sqlx::AnyConnection;

/// The id of a user of this deployment; `None` where nobody has that name, or it was erased.
pub(crate) async fn find(
    conn: &mut AnyConnection,
    issuer: &str,
    name: &str,
) -> Result<Option<i64>, StoreError> {
    let row = sqlx::query_as::<_, (i64, String)>(
        "SELECT id, name FROM users WHERE issuer = ? AND name = ? AND erased = 0",
    );
    let row = row.bind(issuer).bind(name).fetch_optional(conn).await?;
    // MySQL takes "a " for "a"; they are two.
    Ok(row.filter(|(_, found)| found == name).map(|(user, _)| user))
}

/// The id of a user whose token was good: made on first sight.
pub(crate) async fn find_or_insert(
    conn: &mut AnyConnection,
    dialect: Dialect,
    (issuer, name): (&str, &str),
    now_ms: i64,
) -> Result<Option<i64>, StoreError> {
    if let Some(user) = find(conn, issuer, name).await? {
        return Ok(Some(user));
    }
    // Somebody else may insert it meanwhile: the one that stands is the one that counts.
    let insert = dialect.pick(
        "INSERT OR IGNORE INTO users (id, issuer, name, created_ms, erased)
            VALUES (?, ?, ?, ?, 0)",
        "INSERT IGNORE INTO users (id, issuer, name, created_ms, erased)
            VALUES (?, ?, ?, ?, 0)",
    );
    let insert = sqlx::query(insert).bind(crate::ids::random_id()).bind(issuer);
    insert.bind(name).bind(now_ms).execute(&mut *conn).await?;
    find(conn, issuer, name).await
}

/// The name of a user, erased ones included.
pub(crate) async fn name(
    conn: &mut AnyConnection,
    user: i64,
) -> Result<Option<String>, StoreError> {
    let row = sqlx::query_as::<_, (String,)>("SELECT name FROM users WHERE id = ?");
    Ok(row.bind(user).fetch_optional(conn).await?.map(|(name,)| name))
}
