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

/// How a user stands to another one, in bits.
async fn state(
    conn: &mut AnyConnection,
    (user, peer): (i64, i64),
) -> Result<Option<i64>, StoreError> {
    let row =
        sqlx::query_as::<_, (i64,)>("SELECT state FROM relations WHERE user = ? AND peer = ?");
    Ok(row.bind(user).bind(peer).fetch_optional(conn).await?.map(|(state,)| state))
}

/// Sets how a user stands to another one.
pub(crate) async fn replace(
    conn: &mut AnyConnection,
    (user, peer): (i64, i64),
    bits: i64,
    now_ms: i64,
) -> Result<(), StoreError> {
    let statement = match state(conn, (user, peer)).await? {
        Some(_) => "UPDATE relations SET state = ?, changed_ms = ? WHERE user = ? AND peer = ?",
        None => "INSERT INTO relations (state, changed_ms, user, peer) VALUES (?, ?, ?, ?)",
    };
    sqlx::query(statement).bind(bits).bind(now_ms).bind(user).bind(peer).execute(conn).await?;
    Ok(())
}

/// Sets or clears one bit of it.
pub(crate) async fn set_bit(
    conn: &mut AnyConnection,
    pair: (i64, i64),
    bit: i64,
    on: bool,
    now_ms: i64,
) -> Result<(), StoreError> {
    let old = state(conn, pair).await?.unwrap_or(0);
    let new = if on { old | bit } else { old & !bit };
    if new == old { Ok(()) } else { replace(conn, pair, new, now_ms).await }
}
