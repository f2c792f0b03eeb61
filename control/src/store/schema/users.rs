//! Who there is.

use crate::store::migrate::Migration;

pub(super) const ALL: &[Migration] = &[Migration {
    // `issuer` is empty for accounts of this deployment's own, else who signs the user's tokens.
    // `password` is empty where there is none.
    name: "users",
    sqlite: "CREATE TABLE IF NOT EXISTS users (
        user BIGINT NOT NULL PRIMARY KEY,
        issuer TEXT NOT NULL, name TEXT NOT NULL,
        password TEXT NOT NULL, created_ms BIGINT NOT NULL, erased BIGINT NOT NULL,
        UNIQUE (issuer, name)) WITHOUT ROWID",
    mysql: "CREATE TABLE IF NOT EXISTS users (
        user BIGINT NOT NULL PRIMARY KEY,
        issuer VARCHAR(64) NOT NULL, name VARCHAR(64) NOT NULL,
        password VARCHAR(255) NOT NULL, created_ms BIGINT NOT NULL, erased BIGINT NOT NULL,
        UNIQUE KEY by_name (issuer, name))
        ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
}];
