//! Answers to requests with an idempotency key.

use crate::store::migrate::Migration;

/// `idempotency`: one row for each key of a caller and route. `body_hash` is of the request,
/// `answer` is what went out, without any secret; both count for a day after `made_ms`.
pub(super) const ALL: &[Migration] = &[
    Migration {
        name: "idempotency",
        sqlite: "CREATE TABLE IF NOT EXISTS idempotency (
            caller TEXT NOT NULL, route TEXT NOT NULL, idem_key TEXT NOT NULL,
            body_hash TEXT NOT NULL, status BIGINT NOT NULL, answer TEXT NOT NULL,
            made_ms BIGINT NOT NULL,
            PRIMARY KEY (caller, route, idem_key)) WITHOUT ROWID",
        mysql: "CREATE TABLE IF NOT EXISTS idempotency (
            caller VARCHAR(96) NOT NULL, route VARCHAR(64) NOT NULL, idem_key VARCHAR(64) NOT NULL,
            body_hash VARCHAR(64) NOT NULL, status BIGINT NOT NULL, answer TEXT NOT NULL,
            made_ms BIGINT NOT NULL,
            PRIMARY KEY (caller, route, idem_key), KEY by_age (made_ms))
            ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    },
    Migration {
        name: "idempotency_by_age",
        sqlite: "CREATE INDEX IF NOT EXISTS idempotency_by_age ON idempotency (made_ms)",
        mysql: "DO 0", // the table's definition has it
    },
];
