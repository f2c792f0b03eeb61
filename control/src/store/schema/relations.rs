//! Who stands how to whom.

use crate::store::migrate::Migration;

/// `relations`: one row per directed edge (user, peer), `state` as `relations::Edge` tells. Edges
/// of a user lie together; who follows a user is found from the other side, so that a million
/// followers are no rows among a star's own.
///
/// `relation_counts`: how many edges of each kind a user has, moved in the transaction that
/// moves the edges. No row: none of any kind.
pub(super) const ALL: &[Migration] = &[
    Migration {
        name: "relations",
        sqlite: "CREATE TABLE IF NOT EXISTS relations (
            user_id BIGINT NOT NULL, peer_id BIGINT NOT NULL, state BIGINT NOT NULL,
            changed_ms BIGINT NOT NULL, PRIMARY KEY (user_id, peer_id)) WITHOUT ROWID",
        mysql: "CREATE TABLE IF NOT EXISTS relations (
            user_id BIGINT NOT NULL, peer_id BIGINT NOT NULL, state BIGINT NOT NULL,
            changed_ms BIGINT NOT NULL, PRIMARY KEY (user_id, peer_id),
            KEY by_peer (peer_id, user_id))
            ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    },
    Migration {
        name: "relations_by_peer",
        sqlite: "CREATE INDEX IF NOT EXISTS relations_by_peer ON relations (peer_id, user_id)",
        // Made with the table: only MariaDB could make it again without failing.
        mysql: "DO 0",
    },
    Migration {
        name: "relation_counts",
        sqlite: "CREATE TABLE IF NOT EXISTS relation_counts (
            user_id BIGINT NOT NULL PRIMARY KEY, friends BIGINT NOT NULL, asked BIGINT NOT NULL,
            asking BIGINT NOT NULL, blocks BIGINT NOT NULL, follows BIGINT NOT NULL,
            followers BIGINT NOT NULL) WITHOUT ROWID",
        mysql: "CREATE TABLE IF NOT EXISTS relation_counts (
            user_id BIGINT NOT NULL PRIMARY KEY, friends BIGINT NOT NULL, asked BIGINT NOT NULL,
            asking BIGINT NOT NULL, blocks BIGINT NOT NULL, follows BIGINT NOT NULL,
            followers BIGINT NOT NULL)
            ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    },
];
