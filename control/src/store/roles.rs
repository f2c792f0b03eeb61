//! Rows of roles: who moderates which room.

use super::{Dialect, Store, StoreError};
use sqlx::AnyConnection;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use uproar_proto::error::Code;
use uproar_proto::names;

/// Users with a role in one room. More: `LIMIT_REACHED`.
pub(crate) const ROLES_MAX: i64 = 100;

/// What a user may do in a room; the greater one is more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Moderator = 1,
    Owner = 2,
}

impl Role {
    fn of_row(role: i64) -> Option<Role> {
        match role {
            1 => Some(Role::Moderator),
            2 => Some(Role::Owner),
            _ => None,
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Role::Moderator => "moderator",
            Role::Owner => "owner",
        }
    }
}

/// How often it is looked whether another server has given the first role, in milliseconds.
const LOOK_EVERY_MS: i64 = 10_000;

/// Whether anybody has a role anywhere, as far as this process knows: most nodes have none, and ask
/// for nobody's.
pub(super) struct Given {
    /// Never taken back: where all roles are gone, it is asked for them in vain.
    are: AtomicBool,
    /// When it was looked for the last time.
    looked_ms: AtomicI64,
}

impl Default for Given {
    fn default() -> Given {
        Given { are: AtomicBool::new(false), looked_ms: AtomicI64::new(i64::MIN) }
    }
}

/// Whether anybody has a role anywhere. Where another server gave the first one, that is found out
/// within ten seconds.
pub(crate) async fn are_given(store: &Store, now_ms: i64) -> Result<bool, StoreError> {
    let Given { are, looked_ms } = &store.roles;
    let since_ms = now_ms.saturating_sub(looked_ms.load(Relaxed));
    if are.load(Relaxed) || (0..LOOK_EVERY_MS).contains(&since_ms) {
        return Ok(are.load(Relaxed));
    }
    let one = sqlx::query_as::<_, (i64,)>("SELECT role FROM room_roles LIMIT 1");
    let one = one.fetch_optional(&mut *store.reader().await?).await?;
    looked_ms.store(now_ms, Relaxed);
    are.fetch_or(one.is_some(), Relaxed);
    Ok(are.load(Relaxed))
}

/// The role of a user in a room.
pub(crate) async fn of(
    conn: &mut AnyConnection,
    room: &str,
    user: i64,
) -> Result<Option<Role>, StoreError> {
    let row =
        sqlx::query_as::<_, (i64,)>("SELECT role FROM room_roles WHERE room = ? AND user_id = ?");
    let row = row.bind(room).bind(user).fetch_optional(conn).await?;
    Ok(row.and_then(|(role,)| Role::of_row(role)))
}

/// All roles of a room, by name.
pub(crate) async fn list(store: &Store, room: &str) -> Result<Vec<(String, Role)>, StoreError> {
    let rows = sqlx::query_as::<_, (String, String, i64)>(
        "SELECT u.issuer, u.name, r.role FROM room_roles r JOIN users u ON u.id = r.user_id
            WHERE r.room = ? ORDER BY u.name, u.issuer",
    );
    let rows = rows.bind(room).fetch_all(&mut *store.reader().await?).await?;
    let role = |(issuer, name, role): (String, String, i64)| {
        Some((names::join(&issuer, &name).into_owned(), Role::of_row(role)?))
    };
    Ok(rows.into_iter().filter_map(role).collect())
}

/// Gives a user a role in a room (`None`: none any more), if `may` agrees to what it has; what it
/// had.
///
/// # Errors
/// `Refused(Forbidden)` where `may` does not agree, `Refused(LimitReached)`, else the database's.
pub(crate) async fn set(
    store: &Store,
    room: &str,
    user: i64,
    role: Option<Role>,
    may: fn(Option<Role>) -> bool,
) -> Result<Option<Role>, StoreError> {
    let (dialect, room, now_ms) = (store.dialect(), room.to_owned(), store.now_ms());
    store.roles.are.fetch_or(role.is_some(), Relaxed);
    let write = store.write(move |conn| {
        let room = room.clone();
        Box::pin(async move {
            let had = of(conn, &room, user).await?;
            if !may(had) {
                return Err(StoreError::Refused(Code::Forbidden));
            }
            match role {
                None => {
                    let delete =
                        sqlx::query("DELETE FROM room_roles WHERE room = ? AND user_id = ?");
                    delete.bind(room).bind(user).execute(conn).await?;
                }
                Some(role) => put(conn, dialect, (&room, user), (had, role), now_ms).await?,
            }
            Ok(had)
        })
    });
    write.await
}

async fn put(
    conn: &mut AnyConnection,
    dialect: Dialect,
    (room, user): (&str, i64),
    (had, role): (Option<Role>, Role),
    now_ms: i64,
) -> Result<(), StoreError> {
    let many = sqlx::query_as::<_, (i64,)>("SELECT COUNT(*) FROM room_roles WHERE room = ?");
    let (many,) = many.bind(room).fetch_one(&mut *conn).await?;
    if had.is_none() && many >= ROLES_MAX {
        return Err(StoreError::Refused(Code::LimitReached));
    }
    let upsert = sqlx::query(dialect.pick(
        "INSERT INTO room_roles (room, user_id, role, changed_ms) VALUES (?, ?, ?, ?)
            ON CONFLICT (room, user_id) DO UPDATE SET role = excluded.role,
            changed_ms = excluded.changed_ms",
        "INSERT INTO room_roles (room, user_id, role, changed_ms) VALUES (?, ?, ?, ?)
            ON DUPLICATE KEY UPDATE role = VALUES(role), changed_ms = VALUES(changed_ms)",
    ));
    upsert.bind(room).bind(user).bind(role as i64).bind(now_ms).execute(conn).await?;
    Ok(())
}

/// A user has no role anywhere any more.
pub(crate) async fn forget(conn: &mut AnyConnection, user: i64) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM room_roles WHERE user_id = ?").bind(user).execute(conn).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::on_both;

    async fn add(store: &Store, id: i64, name: &str) {
        let mut conn = store.place.connect().await.unwrap();
        let insert = sqlx::query(
            "INSERT INTO users (id, issuer, name, created_ms, erased) VALUES (?, '', ?, 1, 0)",
        );
        insert.bind(id).bind(name).execute(&mut conn).await.unwrap();
    }

    #[test]
    fn a_role_is_given_changed_taken_and_bounded() {
        on_both(|store| async move {
            for id in 1..=ROLES_MAX + 1 {
                add(&store, id, &format!("u{id:03}")).await;
            }
            let give = |room: &'static str, user, role| {
                let store = &store;
                async move { set(store, room, user, role, |_| true).await }
            };
            assert_eq!(give("a", 1, Some(Role::Moderator)).await.unwrap(), None);
            let had = give("a", 1, Some(Role::Owner)).await.unwrap();
            assert_eq!(had, Some(Role::Moderator));
            let refused = set(&store, "a", 1, None, |of| of < Some(Role::Owner)).await;
            assert!(matches!(refused, Err(StoreError::Refused(Code::Forbidden))), "{refused:?}");
            for user in 2..=ROLES_MAX {
                give("a", user, Some(Role::Moderator)).await.unwrap();
            }
            let refused = give("a", ROLES_MAX + 1, Some(Role::Moderator)).await;
            assert!(matches!(refused, Err(StoreError::Refused(Code::LimitReached))));
            give("a", 2, Some(Role::Owner)).await.unwrap();
            give("b", 1, Some(Role::Moderator)).await.unwrap();
            assert_eq!(give("a", 3, None).await.unwrap(), Some(Role::Moderator));
            let roles = list(&store, "a").await.unwrap();
            let first = ("u001".to_owned(), Role::Owner);
            assert_eq!((roles.len() as i64, &roles[0]), (ROLES_MAX - 1, &first));
            let mut conn = store.place.connect().await.unwrap();
            assert_eq!(of(&mut conn, "a", 3).await.unwrap(), None);
            forget(&mut conn, 1).await.unwrap();
            assert_eq!(of(&mut conn, "b", 1).await.unwrap(), None);
        });
    }
}
