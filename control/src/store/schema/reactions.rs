//! What stands at a message beside its text: reactions, and whether it is pinned.

use crate::store::migrate::Migration;

/// `reactions`: one row for each reaction of each user. A reaction is compared byte by byte, so it
/// is no text column.
///
/// `reaction_heads`: one row for each message that has or had reactions. `totals` is a
/// StoredMessage in protobuf that holds nothing but their counts, moved in the transaction that
/// moves the rows; `event` is the seq of the newest event that tells them (0: none does); `user`
/// changed them last.
///
/// `reaction_pending`: messages whose totals have changed since their newest event.
///
/// `pins`: pinned messages, by the seq of the event that pinned them.
pub(super) const ALL: &[Migration] = &[
    Migration {
        name: "reactions",
        sqlite: "CREATE TABLE IF NOT EXISTS reactions (
            conv BIGINT NOT NULL, seq BIGINT NOT NULL, user BIGINT NOT NULL,
            reaction BLOB NOT NULL, made_ms BIGINT NOT NULL,
            PRIMARY KEY (conv, seq, user, reaction)) WITHOUT ROWID",
        mysql: "CREATE TABLE IF NOT EXISTS reactions (
            conv BIGINT NOT NULL, seq BIGINT NOT NULL, user BIGINT NOT NULL,
            reaction VARBINARY(48) NOT NULL, made_ms BIGINT NOT NULL,
            PRIMARY KEY (conv, seq, user, reaction))
            ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
            PARTITION BY KEY (conv) PARTITIONS 16",
    },
    Migration {
        name: "reaction_heads",
        sqlite: "CREATE TABLE IF NOT EXISTS reaction_heads (
            conv BIGINT NOT NULL, seq BIGINT NOT NULL, event BIGINT NOT NULL,
            user BIGINT NOT NULL, totals BLOB NOT NULL,
            PRIMARY KEY (conv, seq)) WITHOUT ROWID",
        mysql: "CREATE TABLE IF NOT EXISTS reaction_heads (
            conv BIGINT NOT NULL, seq BIGINT NOT NULL, event BIGINT NOT NULL,
            user BIGINT NOT NULL, totals VARBINARY(2048) NOT NULL,
            PRIMARY KEY (conv, seq))
            ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
            PARTITION BY KEY (conv) PARTITIONS 16",
    },
    Migration {
        name: "reaction_pending",
        sqlite: "CREATE TABLE IF NOT EXISTS reaction_pending (
            conv BIGINT NOT NULL, seq BIGINT NOT NULL,
            PRIMARY KEY (conv, seq)) WITHOUT ROWID",
        mysql: "CREATE TABLE IF NOT EXISTS reaction_pending (
            conv BIGINT NOT NULL, seq BIGINT NOT NULL,
            PRIMARY KEY (conv, seq))
            ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    },
    Migration {
        name: "pins",
        sqlite: "CREATE TABLE IF NOT EXISTS pins (
            conv BIGINT NOT NULL, seq BIGINT NOT NULL, event BIGINT NOT NULL,
            PRIMARY KEY (conv, seq)) WITHOUT ROWID",
        mysql: "CREATE TABLE IF NOT EXISTS pins (
            conv BIGINT NOT NULL, seq BIGINT NOT NULL, event BIGINT NOT NULL,
            PRIMARY KEY (conv, seq))
            ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
            PARTITION BY KEY (conv) PARTITIONS 16",
    },
];
