//! Who there is, and where they are logged in.

use crate::store::migrate::Migration;

/// `users`: one row per identity, (issuer, name); the issuer of accounts made here is empty. An
/// erased user keeps its row, so that its id and its name mean nobody else.
///
/// `sessions`: one row per log-in that goes on; it ends by being deleted. The row is the family of
/// all refresh tokens of that log-in: `turn` counts them, `token_hash` is the newest one's SHA-256
/// in hexadecimal, `turned_ms` is when it was made.
pub(super) const ALL: &[Migration] = &[
    Migration {
        name: "users",
        sqlite: "CREATE TABLE IF NOT EXISTS users (
            id BIGINT NOT NULL PRIMARY KEY, issuer TEXT NOT NULL, name TEXT NOT NULL,
            password_hash TEXT, created_ms BIGINT NOT NULL, erased BIGINT NOT NULL,
            UNIQUE (issuer, name)) WITHOUT ROWID",
        mysql: "CREATE TABLE IF NOT EXISTS users (
            id BIGINT NOT NULL PRIMARY KEY, issuer VARCHAR(128) NOT NULL, name VARCHAR(64) NOT NULL,
            password_hash VARCHAR(255), created_ms BIGINT NOT NULL, erased BIGINT NOT NULL,
            UNIQUE KEY by_name (issuer, name))
            ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    },
    Migration {
        name: "sessions",
        sqlite: "CREATE TABLE IF NOT EXISTS sessions (
            user_id BIGINT NOT NULL, id BIGINT NOT NULL, device TEXT NOT NULL,
            turn BIGINT NOT NULL, token_hash TEXT NOT NULL, turned_ms BIGINT NOT NULL,
            created_ms BIGINT NOT NULL, expires_ms BIGINT NOT NULL,
            PRIMARY KEY (user_id, id)) WITHOUT ROWID",
        mysql: "CREATE TABLE IF NOT EXISTS sessions (
            user_id BIGINT NOT NULL, id BIGINT NOT NULL, device VARCHAR(64) NOT NULL,
            turn BIGINT NOT NULL, token_hash VARCHAR(64) NOT NULL, turned_ms BIGINT NOT NULL,
            created_ms BIGINT NOT NULL, expires_ms BIGINT NOT NULL,
            PRIMARY KEY (user_id, id))
            ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    },
];
