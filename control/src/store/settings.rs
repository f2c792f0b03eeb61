//! What users have set for all their devices.

use super::{Dialect, StoreError};
use sqlx::AnyConnection;
use std::collections::BTreeSet;

/// A user's settings. One without a row has set nothing: all of them are off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// How far the user has read is told to nobody else.
    pub(crate) private_read: bool,
    /// Since when the user is offline is told to nobody.
    pub(crate) hide_last_seen: bool,
    pub(crate) changed_ms: i64,
}

/// What a user changes of them; `None`: it stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) private_read: Option<bool>,
    pub(crate) hide_last_seen: Option<bool>,
}

/// The settings of a user.
pub(crate) async fn read(conn: &mut AnyConnection, user: i64) -> Result<Settings, StoreError> {
    let row = sqlx::query_as::<_, (i64, i64, i64)>(
        "SELECT private_read, hide_last_seen, changed_ms FROM user_settings WHERE user_id = ?",
    );
    let row = row.bind(user).fetch_optional(conn).await?;
    Ok(row.map_or_else(Settings::default, |(private_read, hide_last_seen, changed_ms)| Settings {
        private_read: private_read != 0,
        hide_last_seen: hide_last_seen != 0,
        changed_ms,
    }))
}

/// Changes them; what they are then. Where reading in private ends, what was read is kept from
/// others until the user reads on.
pub(crate) async fn change(
    conn: &mut AnyConnection,
    dialect: Dialect,
    user: i64,
    wanted: Wanted,
    now_ms: i64,
) -> Result<Settings, StoreError> {
    if dialect == Dialect::Mysql {
        // A row to lock: two changes at once keep what each of them says.
        let hold = sqlx::query(
            "INSERT INTO user_settings (user_id, private_read, hide_last_seen, changed_ms)
                VALUES (?, 0, 0, ?) ON DUPLICATE KEY UPDATE user_id = user_id",
        );
        hold.bind(user).bind(now_ms).execute(&mut *conn).await?;
    }
    let before = read(conn, user).await?;
    let settings = Settings {
        private_read: wanted.private_read.unwrap_or(before.private_read),
        hide_last_seen: wanted.hide_last_seen.unwrap_or(before.hide_last_seen),
        changed_ms: now_ms,
    };
    let upsert = sqlx::query(dialect.pick(
        "INSERT INTO user_settings (user_id, private_read, hide_last_seen, changed_ms)
            VALUES (?, ?, ?, ?) ON CONFLICT (user_id) DO UPDATE SET
            private_read = excluded.private_read, hide_last_seen = excluded.hide_last_seen,
            changed_ms = excluded.changed_ms",
        "INSERT INTO user_settings (user_id, private_read, hide_last_seen, changed_ms)
            VALUES (?, ?, ?, ?) ON DUPLICATE KEY UPDATE
            private_read = VALUES(private_read), hide_last_seen = VALUES(hide_last_seen),
            changed_ms = VALUES(changed_ms)",
    ));
    let upsert = upsert.bind(user).bind(i64::from(settings.private_read));
    let upsert = upsert.bind(i64::from(settings.hide_last_seen)).bind(now_ms);
    upsert.execute(&mut *conn).await?;
    if before.private_read && !settings.private_read {
        let hide = sqlx::query("UPDATE memberships SET hidden_seq = read_seq WHERE user = ?");
        hide.bind(user).execute(conn).await?;
    }
    Ok(settings)
}

/// Of a user's friends those who hide since when they are offline.
pub(crate) async fn hiding_friends(
    conn: &mut AnyConnection,
    user: i64,
) -> Result<BTreeSet<i64>, StoreError> {
    let rows = sqlx::query_as::<_, (i64,)>(
        "SELECT s.user_id FROM relations r JOIN user_settings s ON s.user_id = r.peer_id
            WHERE r.user_id = ? AND s.hide_last_seen = 1",
    );
    Ok(rows.bind(user).fetch_all(conn).await?.into_iter().map(|(user,)| user).collect())
}
