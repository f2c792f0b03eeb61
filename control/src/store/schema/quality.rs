//! What streams were like, by window.

use crate::store::migrate::Migration;

/// `quality_windows`: one row for each cell of a closed window. `span_ms` is the window's length (a
/// minute, an hour), `node` whose reports it counts, `key_hash` that of side, room, CDN, region,
/// ISP and platform. Rows are written once and read by time.
pub(super) const ALL: &[Migration] = &[Migration {
    name: "quality_windows",
    sqlite: "CREATE TABLE IF NOT EXISTS quality_windows (
        span_ms BIGINT NOT NULL, start_ms BIGINT NOT NULL, node BIGINT NOT NULL,
        key_hash BIGINT NOT NULL, side BIGINT NOT NULL, room TEXT NOT NULL, cdn TEXT NOT NULL,
        region TEXT NOT NULL, isp TEXT NOT NULL, platform TEXT NOT NULL, cell BLOB NOT NULL,
        PRIMARY KEY (span_ms, start_ms, node, key_hash)) WITHOUT ROWID",
    mysql: "CREATE TABLE IF NOT EXISTS quality_windows (
        span_ms BIGINT NOT NULL, start_ms BIGINT NOT NULL, node BIGINT NOT NULL,
        key_hash BIGINT NOT NULL, side BIGINT NOT NULL, room VARCHAR(64) NOT NULL,
        cdn VARCHAR(64) NOT NULL, region VARCHAR(64) NOT NULL, isp VARCHAR(64) NOT NULL,
        platform VARCHAR(64) NOT NULL, cell MEDIUMBLOB NOT NULL,
        PRIMARY KEY (span_ms, start_ms, node, key_hash))
        ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
}];
