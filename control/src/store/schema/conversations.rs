//! Conversations, who is in them, and their messages.
//!
//! Index rows (key, hash, seq, time) stand apart from content: they are spread by the hash of the
//! conversation, and idempotence lasts as long as they do. Content stands in partitions by time
//! where the server has them, so that old content goes with its partition.

use crate::store::migrate::Migration;

pub(super) const ALL: &[Migration] = &[
    // `kind`: 1 one-to-one (`user_a` < `user_b`), 2 group (`user_a` owns it). `head`: the newest
    // seq. `counted`: messages up to there that count as unread ones. `floor`: content up to there
    // is kept no longer.
    Migration {
        name: "conversations",
        sqlite: "CREATE TABLE IF NOT EXISTS conversations (
            conv BIGINT NOT NULL PRIMARY KEY, kind BIGINT NOT NULL,
            user_a BIGINT NOT NULL, user_b BIGINT NOT NULL,
            head BIGINT NOT NULL, counted BIGINT NOT NULL, floor BIGINT NOT NULL,
            changed_ms BIGINT NOT NULL) WITHOUT ROWID",
        mysql: "CREATE TABLE IF NOT EXISTS conversations (
            conv BIGINT NOT NULL PRIMARY KEY, kind BIGINT NOT NULL,
            user_a BIGINT NOT NULL, user_b BIGINT NOT NULL,
            head BIGINT NOT NULL, counted BIGINT NOT NULL, floor BIGINT NOT NULL,
            changed_ms BIGINT NOT NULL)
            ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
            PARTITION BY KEY (conv) PARTITIONS 16",
    },
    // One row for each time a user was in: reads what is above `since`, and up to `until` once it
    // has left (0: it has not). `role`: 0 member, 1 moderator, 2 owner.
    Migration {
        name: "memberships",
        sqlite: "CREATE TABLE IF NOT EXISTS memberships (
            conv BIGINT NOT NULL, user BIGINT NOT NULL, since BIGINT NOT NULL,
            until BIGINT NOT NULL, role BIGINT NOT NULL, muted_until_ms BIGINT NOT NULL,
            read_seq BIGINT NOT NULL, delivered_seq BIGINT NOT NULL, changed_ms BIGINT NOT NULL,
            PRIMARY KEY (conv, user, since)) WITHOUT ROWID",
        mysql: "CREATE TABLE IF NOT EXISTS memberships (
            conv BIGINT NOT NULL, user BIGINT NOT NULL, since BIGINT NOT NULL,
            until BIGINT NOT NULL, role BIGINT NOT NULL, muted_until_ms BIGINT NOT NULL,
            read_seq BIGINT NOT NULL, delivered_seq BIGINT NOT NULL, changed_ms BIGINT NOT NULL,
            PRIMARY KEY (conv, user, since), KEY by_user (user, conv))
            ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    },
    Migration {
        name: "memberships_by_user",
        sqlite: "CREATE INDEX IF NOT EXISTS memberships_by_user ON memberships (user, conv)",
        mysql: "DO 0", // the table's definition has it
    },
    // `id_high` and `id_low` are the sender's 128-bit id; `hash` is of the decoded fields; `n` is
    // how many counted messages there are up to here; `target` is what an event is about.
    Migration {
        name: "message_index",
        sqlite: "CREATE TABLE IF NOT EXISTS message_index (
            conv BIGINT NOT NULL, seq BIGINT NOT NULL, sender BIGINT NOT NULL,
            id_high BIGINT NOT NULL, id_low BIGINT NOT NULL, hash BIGINT NOT NULL,
            time_ms BIGINT NOT NULL, n BIGINT NOT NULL, kind BIGINT NOT NULL,
            target BIGINT NOT NULL,
            PRIMARY KEY (conv, seq), UNIQUE (conv, sender, id_high, id_low)) WITHOUT ROWID",
        mysql: "CREATE TABLE IF NOT EXISTS message_index (
            conv BIGINT NOT NULL, seq BIGINT NOT NULL, sender BIGINT NOT NULL,
            id_high BIGINT NOT NULL, id_low BIGINT NOT NULL, hash BIGINT NOT NULL,
            time_ms BIGINT NOT NULL, n BIGINT NOT NULL, kind BIGINT NOT NULL,
            target BIGINT NOT NULL,
            PRIMARY KEY (conv, seq), UNIQUE KEY by_id (conv, sender, id_high, id_low))
            ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
            PARTITION BY KEY (conv) PARTITIONS 16",
    },
    // `body` is a StoredMessage in protobuf; empty: it was recalled. `edited` is the seq of the
    // edit it comes from.
    Migration {
        name: "message_content",
        sqlite: "CREATE TABLE IF NOT EXISTS message_content (
            conv BIGINT NOT NULL, seq BIGINT NOT NULL, time_ms BIGINT NOT NULL,
            edited BIGINT NOT NULL, body BLOB NOT NULL,
            PRIMARY KEY (conv, seq, time_ms)) WITHOUT ROWID",
        mysql: "CREATE TABLE IF NOT EXISTS message_content (
            conv BIGINT NOT NULL, seq BIGINT NOT NULL, time_ms BIGINT NOT NULL,
            edited BIGINT NOT NULL, body MEDIUMBLOB NOT NULL,
            PRIMARY KEY (conv, seq, time_ms))
            ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
            PARTITION BY RANGE (time_ms) (PARTITION later VALUES LESS THAN MAXVALUE)",
    },
];
