//! Who moderates which room, and what was done.

use crate::store::migrate::Migration;

/// `room_roles`: one row for each user with a role in a room, whether the room is open now or not.
///
/// `audit`: one row for each thing that was done, never changed but for the names of who was
/// erased. `id` is random; `at_ms` the moment. It is read from the newest on, by all or by room.
///
/// `room_penalties`: what a room holds against a user (`kind` 0: it may not enter, 1: it may not
/// speak) until `until_ms`, whether the room is open now or not; a row that is over goes with the
/// upkeep. `user` is the name on the wire, which need be nobody's here, as bytes: a server would
/// take names for equal that differ in their last spaces.
pub(super) const ALL: &[Migration] = &[
    Migration {
        name: "room_roles",
        sqlite: "CREATE TABLE IF NOT EXISTS room_roles (
            room TEXT NOT NULL, user_id BIGINT NOT NULL, role BIGINT NOT NULL,
            changed_ms BIGINT NOT NULL, PRIMARY KEY (room, user_id)) WITHOUT ROWID",
        mysql: "CREATE TABLE IF NOT EXISTS room_roles (
            room VARCHAR(64) NOT NULL, user_id BIGINT NOT NULL, role BIGINT NOT NULL,
            changed_ms BIGINT NOT NULL, PRIMARY KEY (room, user_id), KEY by_user (user_id))
            ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    },
    Migration {
        name: "room_roles_by_user",
        sqlite: "CREATE INDEX IF NOT EXISTS room_roles_by_user ON room_roles (user_id)",
        mysql: "DO 0", // the table's definition has it
    },
    Migration {
        name: "audit",
        sqlite: "CREATE TABLE IF NOT EXISTS audit (
            at_ms BIGINT NOT NULL, id BIGINT NOT NULL, who TEXT NOT NULL, origin TEXT NOT NULL,
            what TEXT NOT NULL, room TEXT NOT NULL, whom TEXT NOT NULL, detail TEXT NOT NULL,
            reason TEXT NOT NULL, PRIMARY KEY (at_ms, id)) WITHOUT ROWID",
        mysql: "CREATE TABLE IF NOT EXISTS audit (
            at_ms BIGINT NOT NULL, id BIGINT NOT NULL, who VARCHAR(128) NOT NULL,
            origin VARCHAR(64) NOT NULL, what VARCHAR(32) NOT NULL, room VARCHAR(64) NOT NULL,
            whom VARCHAR(128) NOT NULL, detail VARCHAR(1024) NOT NULL, reason VARCHAR(512) NOT NULL,
            PRIMARY KEY (at_ms, id), KEY by_room (room, at_ms, id), KEY by_who (who),
            KEY by_whom (whom))
            ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    },
    Migration {
        name: "audit_by_room",
        sqlite: "CREATE INDEX IF NOT EXISTS audit_by_room ON audit (room, at_ms, id)",
        mysql: "DO 0",
    },
    Migration {
        name: "audit_by_who",
        sqlite: "CREATE INDEX IF NOT EXISTS audit_by_who ON audit (who)",
        mysql: "DO 0",
    },
    Migration {
        name: "audit_by_whom",
        sqlite: "CREATE INDEX IF NOT EXISTS audit_by_whom ON audit (whom)",
        mysql: "DO 0",
    },
    Migration {
        name: "room_penalties",
        sqlite: "CREATE TABLE IF NOT EXISTS room_penalties (
            room TEXT NOT NULL, kind BIGINT NOT NULL, user BLOB NOT NULL,
            until_ms BIGINT NOT NULL, PRIMARY KEY (room, kind, user)) WITHOUT ROWID",
        mysql: "CREATE TABLE IF NOT EXISTS room_penalties (
            room VARCHAR(64) NOT NULL, kind BIGINT NOT NULL, user VARBINARY(64) NOT NULL,
            until_ms BIGINT NOT NULL, PRIMARY KEY (room, kind, user), KEY by_user (user))
            ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    },
    Migration {
        name: "room_penalties_by_user",
        sqlite: "CREATE INDEX IF NOT EXISTS room_penalties_by_user ON room_penalties (user)",
        mysql: "DO 0",
    },
];
