//! What users have set, and what of it their other rows must say.

use crate::store::migrate::Migration;

/// `user_settings`: one row for each user who has set something. `private_read`: how far the user
/// has read is told to nobody; `hide_last_seen`: nor since when it is offline.
///
/// `memberships.hidden_seq`: a cursor that stood there when private reading ended is not told: what
/// was read in private stays so until the user reads on. `memberships.silent`: the user wants no
/// notifications.
///
/// `ended_relations`: edges that say nothing any more, for devices that have not heard of it. They
/// stand apart, so that lists of those who are something to each other stay as long as they are.
///
/// `users_name_bytes`: on a MySQL server "a " was taken for "a"; a collation without padding
/// compares byte by byte. Each server has its own name for it, and reads its own comment.
pub(super) const ALL: &[Migration] = &[
    Migration {
        name: "user_settings",
        sqlite: "CREATE TABLE IF NOT EXISTS user_settings (
            user_id BIGINT NOT NULL PRIMARY KEY, private_read BIGINT NOT NULL,
            hide_last_seen BIGINT NOT NULL, changed_ms BIGINT NOT NULL) WITHOUT ROWID",
        mysql: "CREATE TABLE IF NOT EXISTS user_settings (
            user_id BIGINT NOT NULL PRIMARY KEY, private_read BIGINT NOT NULL,
            hide_last_seen BIGINT NOT NULL, changed_ms BIGINT NOT NULL)
            ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    },
    Migration {
        name: "memberships_hidden_seq",
        sqlite: "ALTER TABLE memberships ADD COLUMN hidden_seq BIGINT NOT NULL DEFAULT 0",
        mysql: "ALTER TABLE memberships ADD COLUMN hidden_seq BIGINT NOT NULL DEFAULT 0",
    },
    Migration {
        name: "memberships_silent",
        sqlite: "ALTER TABLE memberships ADD COLUMN silent BIGINT NOT NULL DEFAULT 0",
        mysql: "ALTER TABLE memberships ADD COLUMN silent BIGINT NOT NULL DEFAULT 0",
    },
    Migration {
        name: "ended_relations",
        sqlite: "CREATE TABLE IF NOT EXISTS ended_relations (
            user_id BIGINT NOT NULL, peer_id BIGINT NOT NULL, changed_ms BIGINT NOT NULL,
            PRIMARY KEY (user_id, peer_id)) WITHOUT ROWID",
        mysql: "CREATE TABLE IF NOT EXISTS ended_relations (
            user_id BIGINT NOT NULL, peer_id BIGINT NOT NULL, changed_ms BIGINT NOT NULL,
            PRIMARY KEY (user_id, peer_id))
            ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    },
    Migration {
        name: "users_name_bytes",
        sqlite: "SELECT 0", // compares byte by byte already
        mysql: "ALTER TABLE users MODIFY name VARCHAR(64) CHARACTER SET utf8mb4
            COLLATE /*M! utf8mb4_nopad_bin */ /*!80017 utf8mb4_0900_bin */ NOT NULL",
    },
];
