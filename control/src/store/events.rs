//! Events of a log: which messages they may be about, and what they change beside the message's
//! text: pins and reactions. Runs inside the transaction that appends the event.

use super::StoreError;
use super::append::{Append, Target};
use sqlx::AnyConnection;
use uproar_proto::error::Code;
use uproar_proto::v1::Kind;

/// Pinned messages of one conversation. More: `LIMIT_REACHED`.
const PINS_MAX: i64 = 50;

/// Whether an event may be about its target, which stands in the log: it says something (what was
/// recalled does not come back), it is kept (`floor`: no longer), and who writes the event may see
/// it.
pub(super) async fn check(
    conn: &mut AnyConnection,
    conv: i64,
    item: &Append,
    (target_time_ms, floor): (i64, i64),
) -> Result<Result<(), Code>, StoreError> {
    let target = (conv, item.target_seq);
    let is_seen = item.target_seq > floor
        && says_something(conn, target, target_time_ms).await?
        && match item.target {
            // Both have been in it from the beginning.
            Target::Direct(_) => true,
            Target::Group(_) => was_member(conn, target, item.sender).await?,
        };
    if !is_seen && item.kind != Kind::Reactions {
        return Ok(Err(Code::NotFound));
    }
    match item.kind {
        Kind::Pin => {
            let is_pinned = pin_of(conn, target).await?.is_some();
            let is_full = !is_pinned && pins(conn, conv).await? >= PINS_MAX;
            Ok(if is_full { Err(Code::LimitReached) } else { Ok(()) })
        }
        Kind::Unpin => Ok(pin_of(conn, target).await?.map(|_| ()).ok_or(Code::NotFound)),
        _ => Ok(Ok(())),
    }
}

/// What an event changes beside the text of its target.
pub(super) async fn apply(
    conn: &mut AnyConnection,
    conv: i64,
    item: &Append,
    seq: i64,
) -> Result<(), StoreError> {
    let deletes: &[&'static str] = match item.kind {
        Kind::Recall => &[
            "DELETE FROM pins WHERE conv = ? AND seq = ?",
            "DELETE FROM reactions WHERE conv = ? AND seq = ?",
            "DELETE FROM reaction_heads WHERE conv = ? AND seq = ?",
            "DELETE FROM reaction_pending WHERE conv = ? AND seq = ?",
        ],
        Kind::Pin | Kind::Unpin => &["DELETE FROM pins WHERE conv = ? AND seq = ?"],
        _ => &[],
    };
    for delete in deletes {
        sqlx::query(*delete).bind(conv).bind(item.target_seq).execute(&mut *conn).await?;
    }
    if item.kind == Kind::Pin {
        let pin = sqlx::query("INSERT INTO pins (conv, seq, event) VALUES (?, ?, ?)");
        pin.bind(conv).bind(item.target_seq).bind(seq).execute(conn).await?;
    }
    Ok(())
}

async fn says_something(
    conn: &mut AnyConnection,
    (conv, seq): (i64, i64),
    time_ms: i64,
) -> Result<bool, StoreError> {
    let row = sqlx::query_as::<_, (i64,)>(
        "SELECT seq FROM message_content
            WHERE conv = ? AND seq = ? AND time_ms = ? AND LENGTH(body) > 0",
    );
    Ok(row.bind(conv).bind(seq).bind(time_ms).fetch_optional(conn).await?.is_some())
}

/// Whether a message of a group is one the user may read.
async fn was_member(
    conn: &mut AnyConnection,
    (conv, seq): (i64, i64),
    user: i64,
) -> Result<bool, StoreError> {
    let row = sqlx::query_as::<_, (i64,)>(
        "SELECT since FROM memberships
            WHERE conv = ? AND user = ? AND since < ? AND (until = 0 OR until >= ?) LIMIT 1",
    );
    let row = row.bind(conv).bind(user).bind(seq).bind(seq);
    Ok(row.fetch_optional(conn).await?.is_some())
}

/// The seq of the event that pinned a message, while it is pinned.
async fn pin_of(
    conn: &mut AnyConnection,
    (conv, seq): (i64, i64),
) -> Result<Option<i64>, StoreError> {
    let row = sqlx::query_as::<_, (i64,)>("SELECT event FROM pins WHERE conv = ? AND seq = ?");
    Ok(row.bind(conv).bind(seq).fetch_optional(conn).await?.map(|(event,)| event))
}

async fn pins(conn: &mut AnyConnection, conv: i64) -> Result<i64, StoreError> {
    let count = sqlx::query_as::<_, (i64,)>("SELECT COUNT(*) FROM pins WHERE conv = ?");
    Ok(count.bind(conv).fetch_one(conn).await?.0)
}
