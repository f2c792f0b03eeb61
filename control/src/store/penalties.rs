//! Rows of bans and mutes of rooms: a row for each, whether the room is open now or not.
//!
//! Owns their bound in a room and the order in which they are told. Who may be banned, and what a
//! ban is, rooms know.

use super::{Dialect, Store, StoreError, parts};
use crate::penalties::Held;
use sqlx::{AnyConnection, AssertSqlSafe};
use std::collections::BTreeSet;
use std::sync::Arc;
use uproar_proto::control::{Penalty, PenaltyKind, PenaltyMark};

const BAN: i64 = 0;
const MUTE: i64 = 1;

fn number(kind: PenaltyKind) -> i64 {
    match kind {
        PenaltyKind::Ban => BAN,
        PenaltyKind::Mute => MUTE,
    }
}

fn kind(number: i64) -> Result<PenaltyKind, StoreError> {
    match number {
        BAN => Ok(PenaltyKind::Ban),
        MUTE => Ok(PenaltyKind::Mute),
        _ => Err(StoreError::Corrupt(format!("a room holds {number} against a user"))),
    }
}

/// Keeps what was decided, and forgets what has ended. Of one kind a room holds `of_room_max`: the
/// one that ends first makes room; how many did.
pub(crate) async fn keep(
    store: &Store,
    decided: Arc<[Held]>,
    of_room_max: i64,
    now_ms: i64,
) -> Result<u64, StoreError> {
    let dialect = store.dialect();
    let write = store.write(move |conn| {
        let decided = Arc::clone(&decided);
        Box::pin(async move {
            let mut grown = BTreeSet::new();
            for ((room, kind, user), until_ms) in decided.iter() {
                let row = (room.as_str(), number(*kind), user.as_bytes());
                if *until_ms > now_ms {
                    put(conn, dialect, row, *until_ms).await?;
                    grown.insert((row.0, row.1));
                } else {
                    delete(conn, row).await?;
                }
            }
            let mut removed = 0;
            for of in grown {
                removed += make_room(conn, of, of_room_max, now_ms).await?;
            }
            Ok(removed)
        })
    });
    write.await
}

/// A row's key: the room, what it holds, and the user's name as it is stored.
type Place<'a> = (&'a str, i64, &'a [u8]);

async fn put(
    conn: &mut AnyConnection,
    dialect: Dialect,
    (room, kind, user): Place<'_>,
    until_ms: i64,
) -> Result<(), StoreError> {
    let upsert = sqlx::query(dialect.pick(
        "INSERT INTO room_penalties (room, kind, user, until_ms) VALUES (?, ?, ?, ?)
            ON CONFLICT (room, kind, user) DO UPDATE SET until_ms = excluded.until_ms",
        "INSERT INTO room_penalties (room, kind, user, until_ms) VALUES (?, ?, ?, ?)
            ON DUPLICATE KEY UPDATE until_ms = VALUES(until_ms)",
    ));
    upsert.bind(room).bind(kind).bind(user).bind(until_ms).execute(conn).await?;
    Ok(())
}

async fn delete(conn: &mut AnyConnection, (room, kind, user): Place<'_>) -> Result<(), StoreError> {
    let delete = sqlx::query("DELETE FROM room_penalties WHERE room = ? AND kind = ? AND user = ?");
    delete.bind(room).bind(kind).bind(user).execute(conn).await?;
    Ok(())
}

/// Of a room that holds too many, those that end first go; how many. What is over does not count,
/// and is the upkeep's.
async fn make_room(
    conn: &mut AnyConnection,
    (room, kind): (&str, i64),
    max: i64,
    now_ms: i64,
) -> Result<u64, StoreError> {
    let many = sqlx::query_as::<_, (i64,)>(
        "SELECT COUNT(*) FROM room_penalties WHERE room = ? AND kind = ? AND until_ms > ?",
    );
    let many = many.bind(room).bind(kind).bind(now_ms);
    let (many,) = many.fetch_one(&mut *conn).await?;
    if many <= max {
        return Ok(0);
    }
    let first = sqlx::query_as::<_, (Vec<u8>,)>(
        "SELECT user FROM room_penalties WHERE room = ? AND kind = ? AND until_ms > ?
            ORDER BY until_ms, user LIMIT ?",
    );
    let first = first.bind(room).bind(kind).bind(now_ms).bind(many - max);
    let first = first.fetch_all(&mut *conn).await?;
    for (user,) in &first {
        delete(conn, (room, kind, user)).await?;
    }
    Ok(first.len() as u64)
}

type Row = (String, i64, Vec<u8>, i64);

fn held((room, of, user, until_ms): Row) -> Result<(String, Penalty), StoreError> {
    let corrupt = |_| StoreError::Corrupt("a name in room_penalties is no text".to_owned());
    let user = String::from_utf8(user).map_err(corrupt)?;
    Ok((room, Penalty { kind: kind(of)?, user, until_ms: until_ms as u64 }))
}

/// What these rooms hold, by room, kind and user; at most `limit` of them all: what is missing
/// stands behind the last one.
pub(crate) async fn of_rooms(
    store: &Store,
    rooms: &[String],
    now_ms: i64,
    limit: usize,
) -> Result<Vec<(String, Penalty)>, StoreError> {
    let mut conn = store.reader().await?;
    let mut found = Vec::new();
    // Rooms come in order, so their parts do too.
    for part in parts(rooms) {
        let marks = vec!["?"; part.len()].join(", ");
        let select = format!(
            "SELECT room, kind, user, until_ms FROM room_penalties
                WHERE room IN ({marks}) AND until_ms > ? ORDER BY room, kind, user LIMIT ?"
        );
        let mut query = sqlx::query_as::<_, Row>(AssertSqlSafe(select));
        for room in part {
            query = query.bind(room.as_str());
        }
        let query = query.bind(now_ms).bind((limit - found.len()) as i64);
        found.extend(query.fetch_all(&mut *conn).await?);
        if found.len() >= limit {
            break;
        }
    }
    found.into_iter().map(held).collect()
}

/// What a room holds behind a place in that order.
pub(crate) async fn of_room(
    store: &Store,
    room: &str,
    (kind, user): &PenaltyMark,
    now_ms: i64,
    limit: usize,
) -> Result<Vec<Penalty>, StoreError> {
    let rows = sqlx::query_as::<_, Row>(
        "SELECT room, kind, user, until_ms FROM room_penalties
            WHERE room = ? AND (kind > ? OR (kind = ? AND user > ?)) AND until_ms > ?
            ORDER BY kind, user LIMIT ?",
    );
    let rows = rows.bind(room).bind(number(*kind)).bind(number(*kind)).bind(user.as_bytes());
    let rows = rows.bind(now_ms).bind(limit as i64);
    let rows = rows.fetch_all(&mut *store.reader().await?).await?;
    rows.into_iter().map(|row| held(row).map(|(_, penalty)| penalty)).collect()
}

/// What rooms hold against a user, by room and kind behind a place in that order.
pub(crate) async fn of_user(
    conn: &mut AnyConnection,
    wire: &str,
    (room, behind): (&str, Option<PenaltyKind>),
    now_ms: i64,
    limit: i64,
) -> Result<Vec<(String, Penalty)>, StoreError> {
    let rows = sqlx::query_as::<_, Row>(
        "SELECT room, kind, user, until_ms FROM room_penalties
            WHERE user = ? AND (room > ? OR (room = ? AND kind > ?)) AND until_ms > ?
            ORDER BY room, kind LIMIT ?",
    );
    let rows = rows.bind(wire.as_bytes()).bind(room).bind(room).bind(behind.map_or(-1, number));
    let rows = rows.bind(now_ms).bind(limit).fetch_all(conn).await?;
    rows.into_iter().map(held).collect()
}

/// Nothing is held against a user any more, by the name it has on the wire.
pub(crate) async fn forget(conn: &mut AnyConnection, wire: &str) -> Result<(), StoreError> {
    let delete = sqlx::query("DELETE FROM room_penalties WHERE user = ?");
    delete.bind(wire.as_bytes()).execute(conn).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::on_both;
    use PenaltyKind::{Ban, Mute};

    const NOW: i64 = 1_000;

    fn held(room: &str, kind: PenaltyKind, user: &str, until_ms: i64) -> Held {
        ((room.to_owned(), kind, user.to_owned()), until_ms)
    }

    fn told(kind: PenaltyKind, user: &str, until_ms: u64) -> Penalty {
        Penalty { kind, user: user.to_owned(), until_ms }
    }

    async fn kept(store: &Store, decided: &[Held], of_room_max: i64) -> u64 {
        keep(store, decided.into(), of_room_max, NOW).await.unwrap()
    }

    async fn of(store: &Store, room: &str) -> Vec<Penalty> {
        let rows = of_rooms(store, &[room.to_owned()], NOW, 99).await.unwrap();
        rows.into_iter().map(|(_, penalty)| penalty).collect()
    }

    #[test]
    fn what_was_decided_last_is_kept_until_it_ends() {
        on_both(|store| async move {
            let first = [
                held("a", Ban, "ann", 5_000),
                held("a", Ban, "ann ", 6_000), // another name than ann's
                held("a", Mute, "ann", 7_000),
                held("b", Ban, "\u{624b}\u{673a}", 8_000),
                held("b", Ban, "bob", 900), // over
            ];
            assert_eq!(kept(&store, &first, 9).await, 0);
            let all = [told(Ban, "ann", 5_000), told(Ban, "ann ", 6_000), told(Mute, "ann", 7_000)];
            assert_eq!(of(&store, "a").await, all);
            assert_eq!(of(&store, "b").await, [told(Ban, "\u{624b}\u{673a}", 8_000)]);
            let next = [
                held("a", Ban, "ann", 0),
                held("a", Ban, "nobody", 0),
                held("a", Mute, "ann", 9_000),
            ];
            kept(&store, &next, 9).await;
            kept(&store, &next, 9).await; // as it may come twice
            assert_eq!(of(&store, "a").await, [told(Ban, "ann ", 6_000), told(Mute, "ann", 9_000)]);
            let later = of_rooms(&store, &["a".into()], 6_000, 99).await.unwrap();
            assert_eq!(later, [("a".to_owned(), told(Mute, "ann", 9_000))]);
            let mut conn = store.place.connect().await.unwrap();
            let all = of_user(&mut conn, "ann", ("", None), NOW, 9).await.unwrap();
            assert_eq!(all, [("a".to_owned(), told(Mute, "ann", 9_000))]);
            let behind = of_user(&mut conn, "ann", ("a", Some(Mute)), NOW, 9).await.unwrap();
            assert_eq!(behind, []);
            forget(&mut conn, "ann").await.unwrap();
            assert_eq!(of(&store, "a").await, [told(Ban, "ann ", 6_000)]);
        });
    }

    #[test]
    fn of_too_many_in_a_room_those_that_end_first_make_room() {
        on_both(|store| async move {
            let many: Vec<Held> =
                (0..5).map(|n| held("a", Ban, &format!("u{n}"), 5_000 - n)).collect();
            kept(&store, &many, 9).await;
            kept(&store, &[held("a", Mute, "u0", 5_000), held("b", Ban, "u0", 1_001)], 9).await;
            assert_eq!(kept(&store, &[held("a", Ban, "new", 9_000)], 3).await, 3);
            let left = ["new", "u0", "u1"].map(|user| {
                let until = if user == "new" { 9_000 } else { 5_000 - u64::from(user == "u1") };
                told(Ban, user, until)
            });
            let mut left = left.to_vec();
            left.push(told(Mute, "u0", 5_000));
            assert_eq!(of(&store, "a").await, left, "of the other kind none went");
            assert_eq!(of(&store, "b").await.len(), 1, "nor of the other room");
        });
    }

    #[test]
    fn rooms_are_read_together_and_a_large_one_goes_on_where_it_was() {
        on_both(|store| async move {
            let rooms: Vec<String> = (0..90).map(|n| format!("r{n:02}")).collect();
            let ban = |room: &String| held(room, Ban, "u", 5_000);
            let all: Vec<Held> = rooms.iter().map(ban).collect();
            kept(&store, &all, 9).await;
            kept(&store, &[held("r07", Ban, "v", 5_000), held("r07", Mute, "a", 5_000)], 9).await;
            let found = of_rooms(&store, &rooms, NOW, 200).await.unwrap();
            assert_eq!(found.len(), 92);
            assert!(found.is_sorted_by_key(|(room, one)| (room.clone(), one.kind)));
            let first = of_rooms(&store, &rooms, NOW, 9).await.unwrap();
            assert_eq!(first[..], found[..9]);
            let mark = |kind, user: &str| (kind, user.to_owned());
            let behind = of_room(&store, "r07", &mark(Ban, "u"), NOW, 9).await.unwrap();
            assert_eq!(behind, [told(Ban, "v", 5_000), told(Mute, "a", 5_000)]);
            let behind = of_room(&store, "r07", &mark(Ban, "v"), NOW, 9).await.unwrap();
            assert_eq!(behind, [told(Mute, "a", 5_000)]);
            assert_eq!(of_room(&store, "r07", &mark(Mute, "a"), NOW, 9).await.unwrap(), []);
        });
    }
}
