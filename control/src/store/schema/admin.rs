//! What operators have decided about users: bans, and erasures under way or done.

use crate::store::migrate::Migration;

/// `bans`: one row a user; over once `until_ms` has passed (0: it does not end).
///
/// `erasures`: one row for each user that was erased. `name` is what it was called on the wire,
/// empty once the erasure is done; `phase` and, in its last one, `conv` and `seq` tell how far it
/// has come, so that a restart goes on from there. `done_ms` is 0 while it is under way.
pub(super) const ALL: &[Migration] = &[
    Migration {
        name: "bans",
        sqlite: "CREATE TABLE IF NOT EXISTS bans (
            user_id BIGINT NOT NULL PRIMARY KEY, until_ms BIGINT NOT NULL, reason TEXT NOT NULL,
            made_ms BIGINT NOT NULL) WITHOUT ROWID",
        mysql: "CREATE TABLE IF NOT EXISTS bans (
            user_id BIGINT NOT NULL PRIMARY KEY, until_ms BIGINT NOT NULL,
            reason VARCHAR(256) NOT NULL, made_ms BIGINT NOT NULL)
            ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    },
    Migration {
        name: "erasures",
        sqlite: "CREATE TABLE IF NOT EXISTS erasures (
            user_id BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, phase BIGINT NOT NULL,
            conv BIGINT NOT NULL, seq BIGINT NOT NULL, begun_ms BIGINT NOT NULL,
            done_ms BIGINT NOT NULL) WITHOUT ROWID",
        mysql: "CREATE TABLE IF NOT EXISTS erasures (
            user_id BIGINT NOT NULL PRIMARY KEY, name VARCHAR(96) NOT NULL, phase BIGINT NOT NULL,
            conv BIGINT NOT NULL, seq BIGINT NOT NULL, begun_ms BIGINT NOT NULL,
            done_ms BIGINT NOT NULL, KEY by_done (done_ms, begun_ms))
            ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    },
    Migration {
        name: "erasures_by_done",
        sqlite: "CREATE INDEX IF NOT EXISTS erasures_by_done ON erasures (done_ms, begun_ms)",
        mysql: "DO 0", // the table's definition has it
    },
];
