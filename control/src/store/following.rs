//! Rooms that a user follows through their owners, and since when.
//!
//! Owns the one statement that asks for them, and its bounds. What of it stands in a token is
//! decided by `crate::following`.

use super::roles::Role;
use super::{Dialect, StoreError};
use crate::relations::Edge;
use sqlx::{AnyConnection, AssertSqlSafe};

/// Rooms of owners whom the user follows that are looked at, and rooms in which it has a role.
/// Those beyond are left out, whichever they are.
const ROOMS_LOOKED_MAX: i64 = 4_096;

/// A room that a user follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Followed {
    pub(crate) room: String,
    /// Milliseconds since 1970; 0: since ever, for the user has a role there.
    pub(crate) since_ms: i64,
}

/// First the rooms in which the user has a role, then those whose owner it follows, what it follows
/// since lately before the others; `limit` at most. Reads the user's edges (each list of them is
/// bounded), and the roles of whom it follows: all by key.
pub(crate) async fn rooms_of(
    conn: &mut AnyConnection,
    dialect: Dialect,
    user: i64,
    limit: i64,
) -> Result<Vec<Followed>, StoreError> {
    // Whatever the statistics say, the edges come first: rooms with an owner may be many more.
    let join = dialect.pick("CROSS JOIN", "STRAIGHT_JOIN");
    let select = format!(
        "SELECT s.room, MIN(s.since_ms) FROM (
            SELECT * FROM (SELECT o.room AS room,
                    CASE r.followed_ms WHEN 0 THEN r.changed_ms ELSE r.followed_ms END AS since_ms
                FROM relations r {join} room_roles o ON o.user_id = r.peer_id
                WHERE r.user_id = ? AND (r.state & {follows}) <> 0 AND o.role = {owner}
                LIMIT {ROOMS_LOOKED_MAX}) s
            UNION ALL
            SELECT * FROM (SELECT m.room AS room, 0 AS since_ms FROM room_roles m
                WHERE m.user_id = ? LIMIT {ROOMS_LOOKED_MAX}) s) s
            GROUP BY s.room
            ORDER BY MIN(s.since_ms) = 0 DESC, MIN(s.since_ms) DESC, s.room LIMIT ?",
        follows = Edge::FOLLOWS,
        owner = Role::Owner as i64,
    );
    let rows = sqlx::query_as::<_, (String, i64)>(AssertSqlSafe(select));
    let rows = rows.bind(user).bind(user).bind(limit).fetch_all(conn).await?;
    Ok(rows.into_iter().map(|(room, since_ms)| Followed { room, since_ms }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relations::{Act, befriend};
    use crate::store::testing::on_both;
    use crate::store::{Store, relations, roles};

    async fn give(store: &Store, room: &str, user: i64, role: Option<Role>) {
        roles::set(store, room, user, role, |_| true).await.unwrap();
    }

    async fn act(store: &Store, now_ms: i64, user: i64, what: Act, peer: i64) {
        relations::change(store, user, peer, now_ms, what.rule()).await.unwrap().unwrap();
    }

    /// As `room since`, in order.
    async fn of(store: &Store, user: i64, limit: i64) -> Vec<String> {
        let mut conn = store.reader().await.unwrap();
        let rooms = rooms_of(&mut conn, store.dialect(), user, limit).await.unwrap();
        rooms.iter().map(|one| format!("{} {}", one.room, one.since_ms)).collect()
    }

    #[test]
    fn rooms_are_followed_through_their_owners_the_newest_first() {
        on_both(|store| async move {
            let store = &*store;
            assert!(!roles::are_given(store, 0).await.unwrap());
            for (room, user, role) in [
                ("a", 2, Role::Owner),
                ("b", 2, Role::Owner),
                ("c", 3, Role::Owner),
                ("b", 3, Role::Owner),
                ("d", 3, Role::Moderator),
                ("e", 4, Role::Owner),
                ("own", 1, Role::Moderator),
            ] {
                give(store, room, user, Some(role)).await;
            }
            assert!(roles::are_given(store, 1).await.unwrap(), "given here, so known at once");
            act(store, 10, 1, Act::Follow, 2).await;
            act(store, 20, 1, Act::Follow, 3).await;
            act(store, 30, 1, Act::Ask, 4).await;
            act(store, 30, 4, Act::Follow, 1).await;
            let all = ["own 0", "c 20", "a 10", "b 10"];
            assert_eq!(of(store, 1, 9).await, all);
            assert_eq!(of(store, 1, 2).await, all[..2]);
            assert_eq!(
                of(store, 4, 9).await,
                ["e 0"],
                "whom it follows moderates, and owns nothing"
            );
            // Whatever else they become, it is followed since the same moment.
            act(store, 40, 1, Act::Ask, 3).await;
            act(store, 50, 3, Act::Accept, 1).await;
            relations::change(store, 2, 1, 60, befriend).await.unwrap().unwrap();
            act(store, 70, 2, Act::Remove, 1).await;
            act(store, 80, 1, Act::Follow, 2).await;
            assert_eq!(of(store, 1, 9).await, all);
            // Begun anew, followed anew; what is blocked is not followed.
            act(store, 90, 1, Act::Unfollow, 2).await;
            assert_eq!(of(store, 1, 9).await, ["own 0", "b 20", "c 20"]);
            act(store, 100, 1, Act::Follow, 2).await;
            act(store, 110, 3, Act::Block, 1).await;
            assert_eq!(of(store, 1, 9).await, ["own 0", "a 100", "b 100"]);
            give(store, "a", 2, None).await;
            give(store, "own", 1, None).await;
            assert_eq!(of(store, 1, 9).await, ["b 100"]);
        });
    }

    #[test]
    fn a_follow_older_than_its_moment_is_as_old_as_the_last_change_and_stays_so() {
        on_both(|store| async move {
            let store = &*store;
            give(store, "a", 2, Some(Role::Owner)).await;
            act(store, 10, 1, Act::Follow, 2).await;
            let mut conn = store.place.connect().await.unwrap();
            sqlx::query("UPDATE relations SET followed_ms = 0").execute(&mut conn).await.unwrap();
            assert_eq!(of(store, 1, 9).await, ["a 10"]);
            act(store, 20, 1, Act::Ask, 2).await;
            assert_eq!(of(store, 1, 9).await, ["a 10"]);
        });
    }

    #[test]
    fn the_first_role_of_another_server_is_found_out_within_ten_seconds() {
        on_both(|store| async move {
            let store = &*store;
            assert!(!roles::are_given(store, 1_000).await.unwrap());
            let mut conn = store.place.connect().await.unwrap();
            let insert = "INSERT INTO room_roles (room, user_id, role, changed_ms)
                VALUES ('a', 2, 2, 1)";
            sqlx::query(insert).execute(&mut conn).await.unwrap();
            assert!(!roles::are_given(store, 10_999).await.unwrap());
            assert!(roles::are_given(store, 11_000).await.unwrap());
        });
    }
}
