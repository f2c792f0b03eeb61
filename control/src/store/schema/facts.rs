//! Single numbers the store remembers about itself.

use crate::store::migrate::Migration;

pub(super) const ALL: &[Migration] = &[Migration {
    name: "store_facts",
    sqlite: "CREATE TABLE IF NOT EXISTS store_facts (
        name TEXT NOT NULL PRIMARY KEY, value BIGINT NOT NULL) WITHOUT ROWID",
    mysql: "CREATE TABLE IF NOT EXISTS store_facts (
        name VARCHAR(64) NOT NULL PRIMARY KEY, value BIGINT NOT NULL)
        ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
}];
