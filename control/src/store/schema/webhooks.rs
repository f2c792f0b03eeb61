//! What waits to be told to webhooks, and which process tells it.

use crate::store::migrate::Migration;

/// `webhook_outbox`: one row for each entry of a log that a webhook has not taken yet. It names the
/// entry and holds no content, so that what is recalled has no copy here. The key puts the rows of
/// a conversation together in the order of seq, and conversations, whose ids are random, next to
/// each other: neither writing nor deleting has one hot end. `event` is the event's id, random, the
/// same at every try.
///
/// `webhook_leases`: which process tells a webhook where several share a store. `beat` grows while
/// it does; `owner` 0: nobody does.
pub(super) const ALL: &[Migration] = &[
    Migration {
        name: "webhook_outbox",
        sqlite: "CREATE TABLE IF NOT EXISTS webhook_outbox (
            hook TEXT NOT NULL, conv BIGINT NOT NULL, seq BIGINT NOT NULL,
            event BIGINT NOT NULL, made_ms BIGINT NOT NULL,
            PRIMARY KEY (hook, conv, seq)) WITHOUT ROWID",
        mysql: "CREATE TABLE IF NOT EXISTS webhook_outbox (
            hook VARCHAR(32) NOT NULL, conv BIGINT NOT NULL, seq BIGINT NOT NULL,
            event BIGINT NOT NULL, made_ms BIGINT NOT NULL,
            PRIMARY KEY (hook, conv, seq))
            ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    },
    Migration {
        name: "webhook_leases",
        sqlite: "CREATE TABLE IF NOT EXISTS webhook_leases (
            hook TEXT NOT NULL PRIMARY KEY, owner BIGINT NOT NULL, beat BIGINT NOT NULL)
            WITHOUT ROWID",
        mysql: "CREATE TABLE IF NOT EXISTS webhook_leases (
            hook VARCHAR(32) NOT NULL PRIMARY KEY, owner BIGINT NOT NULL, beat BIGINT NOT NULL)
            ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    },
];
