//! What messages are held against.

use crate::store::migrate::Migration;

/// `filter_parts`: the list in pieces, all of one version (the fact `filter_version` says which):
/// words (`kind` 0) and regular expressions (1), one a line, cut at any byte.
pub(super) const ALL: &[Migration] = &[Migration {
    name: "filter_parts",
    sqlite: "CREATE TABLE IF NOT EXISTS filter_parts (
        version BIGINT NOT NULL, kind BIGINT NOT NULL, part BIGINT NOT NULL, body BLOB NOT NULL,
        PRIMARY KEY (version, kind, part)) WITHOUT ROWID",
    mysql: "CREATE TABLE IF NOT EXISTS filter_parts (
        version BIGINT NOT NULL, kind BIGINT NOT NULL, part BIGINT NOT NULL,
        body MEDIUMBLOB NOT NULL, PRIMARY KEY (version, kind, part))
        ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
}];
