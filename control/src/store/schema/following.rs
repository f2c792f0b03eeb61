//! Since when somebody follows a user.

use crate::store::migrate::Migration;

/// `relations.followed_ms`: since when the edge says that its user follows the peer; 0: it does
/// not, or has since before this was kept, and then it is taken for the edge's last change. (An
/// edge changes with requests and friendships too, and nobody who follows begins anew by those.)
pub(super) const ALL: &[Migration] = &[Migration {
    name: "relations_followed_ms",
    sqlite: "ALTER TABLE relations ADD COLUMN followed_ms BIGINT NOT NULL DEFAULT 0",
    mysql: "ALTER TABLE relations ADD COLUMN followed_ms BIGINT NOT NULL DEFAULT 0",
}];
