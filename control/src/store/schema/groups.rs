//! What a group is, beside being a conversation with members.

use crate::store::migrate::Migration;

/// `group_info`: one row a group. `joining` as `groups::Joining` tells; `size`: members now, moved
/// in the transaction that moves them; `ended`: nobody is in it any more, and nobody will be.
///
/// `group_links`: whoever knows the token may join, until the link ends or was used up.
///
/// `group_requests`: who waits for a moderator's word.
pub(super) const ALL: &[Migration] = &[
    Migration {
        name: "group_info",
        sqlite: "CREATE TABLE IF NOT EXISTS group_info (
            conv BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, announcement TEXT NOT NULL,
            joining BIGINT NOT NULL, muted_all BIGINT NOT NULL, size BIGINT NOT NULL,
            ended BIGINT NOT NULL, created_ms BIGINT NOT NULL) WITHOUT ROWID",
        mysql: "CREATE TABLE IF NOT EXISTS group_info (
            conv BIGINT NOT NULL PRIMARY KEY, name VARCHAR(128) NOT NULL,
            announcement TEXT NOT NULL, joining BIGINT NOT NULL, muted_all BIGINT NOT NULL,
            size BIGINT NOT NULL, ended BIGINT NOT NULL, created_ms BIGINT NOT NULL)
            ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    },
    Migration {
        name: "group_links",
        sqlite: "CREATE TABLE IF NOT EXISTS group_links (
            token TEXT NOT NULL PRIMARY KEY, conv BIGINT NOT NULL, made_by BIGINT NOT NULL,
            made_ms BIGINT NOT NULL, expires_ms BIGINT NOT NULL, uses_left BIGINT NOT NULL)
            WITHOUT ROWID",
        mysql: "CREATE TABLE IF NOT EXISTS group_links (
            token VARCHAR(32) NOT NULL PRIMARY KEY, conv BIGINT NOT NULL, made_by BIGINT NOT NULL,
            made_ms BIGINT NOT NULL, expires_ms BIGINT NOT NULL, uses_left BIGINT NOT NULL,
            KEY by_conv (conv, token))
            ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    },
    Migration {
        name: "group_links_by_conv",
        sqlite: "CREATE INDEX IF NOT EXISTS group_links_by_conv ON group_links (conv, token)",
        mysql: "DO 0", // the table's definition has it
    },
    Migration {
        name: "group_requests",
        sqlite: "CREATE TABLE IF NOT EXISTS group_requests (
            conv BIGINT NOT NULL, user_id BIGINT NOT NULL, asked_by BIGINT NOT NULL,
            text TEXT NOT NULL, asked_ms BIGINT NOT NULL,
            PRIMARY KEY (conv, user_id)) WITHOUT ROWID",
        mysql: "CREATE TABLE IF NOT EXISTS group_requests (
            conv BIGINT NOT NULL, user_id BIGINT NOT NULL, asked_by BIGINT NOT NULL,
            text VARCHAR(256) NOT NULL, asked_ms BIGINT NOT NULL,
            PRIMARY KEY (conv, user_id))
            ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    },
];
