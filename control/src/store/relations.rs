//! Rows of relationships, one for each direction.

use super::append::Policy;
use super::{Dialect, StoreError};
use sqlx::AnyConnection;
use uproar_proto::error::Code;

/// The other one is a friend.
pub(crate) const FRIEND: i64 = 1;
/// The other one is blocked.
pub(crate) const BLOCKED: i64 = 2;

/// Whether one user may write to another, under the locks of the transaction that appends.
pub(crate) async fn may_write(
    conn: &mut AnyConnection,
    dialect: Dialect,
    (from, to): (i64, i64),
    policy: Policy,
) -> Result<Result<(), Code>, StoreError> {
    let select = dialect.pick(
        "SELECT state FROM relations WHERE user = ? AND peer = ?",
        "SELECT state FROM relations WHERE user = ? AND peer = ? FOR UPDATE",
    );
    // How the receiver stands to the sender is what counts.
    let row = sqlx::query_as::<_, (i64,)>(select).bind(to).bind(from);
    let state = row.fetch_optional(conn).await?.map_or(0, |(state,)| state);
    Ok(if state & BLOCKED != 0 {
        Err(Code::Blocked)
    } else if policy == Policy::Friends && state & FRIEND == 0 {
        Err(Code::NotFriend)
    } else {
        Ok(())
    })
}

/// Sets how a user stands to another one.
pub(crate) async fn set(
    conn: &mut AnyConnection,
    (user, peer): (i64, i64),
    state: i64,
    now_ms: i64,
) -> Result<(), StoreError> {
    let update =
        sqlx::query("UPDATE relations SET state = ?, changed_ms = ? WHERE user = ? AND peer = ?");
    let update = update.bind(state).bind(now_ms).bind(user).bind(peer);
    if update.execute(&mut *conn).await?.rows_affected() > 0 {
        return Ok(());
    }
    let known =
        sqlx::query_as::<_, (i64,)>("SELECT state FROM relations WHERE user = ? AND peer = ?");
    // MySQL counts only rows that differ.
    if known.bind(user).bind(peer).fetch_optional(&mut *conn).await?.is_none() {
        let insert = sqlx::query(
            "INSERT INTO relations (user, peer, state, changed_ms) VALUES (?, ?, ?, ?)",
        );
        insert.bind(user).bind(peer).bind(state).bind(now_ms).execute(conn).await?;
    }
    Ok(())
}
