//! Devices and networks that the platform keeps out.

use crate::store::migrate::Migration;

/// `blocks`: one row an entry: a device's name (`kind` 0) or a network as CIDR (1). `value` is
/// bytes, since a server would take names for equal that differ in their last spaces. `until_s` 0:
/// for ever. The fact `blocks_version` counts the changes.
pub(super) const ALL: &[Migration] = &[Migration {
    name: "blocks",
    sqlite: "CREATE TABLE IF NOT EXISTS blocks (
        kind BIGINT NOT NULL, value BLOB NOT NULL, until_s BIGINT NOT NULL, at_ms BIGINT NOT NULL,
        reason TEXT NOT NULL, PRIMARY KEY (kind, value)) WITHOUT ROWID",
    mysql: "CREATE TABLE IF NOT EXISTS blocks (
        kind BIGINT NOT NULL, value VARBINARY(64) NOT NULL, until_s BIGINT NOT NULL,
        at_ms BIGINT NOT NULL, reason VARCHAR(512) NOT NULL, PRIMARY KEY (kind, value))
        ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
}];
