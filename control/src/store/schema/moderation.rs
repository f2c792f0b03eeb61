//! Who moderates which room, and what was done.

use crate::store::migrate::Migration;

/// `room_roles`: one row for each user with a role in a room, whether the room is open now or not.
///
/// `audit`: one row for each thing that was done, never changed but for the names of who was
/// erased. `id` is random; `at_ms` the moment. It is read from the newest on, by all or by room.
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
];
