//! Rows of relationships, one for each direction.

use super::append::Policy;
use super::{Dialect, StoreError, parts};
use sqlx::{AnyConnection, AssertSqlSafe};
use std::collections::{BTreeMap, BTreeSet};
use uproar_proto::error::Code;

/// The other one is a friend.
pub(crate) const FRIEND: i64 = 1;
/// The other one is blocked.
pub(crate) const BLOCKED: i64 = 2;

/// Whether somebody may write to a user who stands to them like this.
pub(crate) fn may_write(state: i64, policy: Policy) -> Result<(), Code> {
    if state & BLOCKED != 0 {
        Err(Code::Blocked)
    } else if policy == Policy::Friends && state & FRIEND == 0 {
        Err(Code::NotFriend)
    } else {
        Ok(())
    }
}

/// How these users stand to their peers, in bits, locked against changes until the transaction
/// ends.
pub(crate) async fn states(
    conn: &mut AnyConnection,
    dialect: Dialect,
    pairs: &[(i64, i64)],
) -> Result<BTreeMap<(i64, i64), i64>, StoreError> {
    let pairs: Vec<(i64, i64)> =
        pairs.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    let mut found = BTreeMap::new();
    for part in parts(&pairs) {
        let select = format!(
            "SELECT user, peer, state FROM relations WHERE {} ORDER BY user, peer {}",
            vec!["(user = ? AND peer = ?)"; part.len()].join(" OR "),
            dialect.pick("", "FOR UPDATE")
        );
        let mut query = sqlx::query_as::<_, (i64, i64, i64)>(AssertSqlSafe(select));
        for (user, peer) in part {
            query = query.bind(*user).bind(*peer);
        }
        for (user, peer, state) in query.fetch_all(&mut *conn).await? {
            found.insert((user, peer), state);
        }
    }
    Ok(found)
}

/// How a user stands to another one, in bits.
pub(crate) async fn state(
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
