//! Rows of users: names, ids, password hashes. The one place that knows the table.
//!
//! A user that was erased keeps its row, under the issuer `erased` and a hash of what it was
//! called: whoever knew the name recognizes it, nobody reads it there, and the identity is never
//! given to somebody else.

use super::{Dialect, StoreError, parts};
use sha2::{Digest, Sha256};
use sqlx::{AnyConnection, AssertSqlSafe};
use std::collections::BTreeSet;
use uproar_proto::names::{self, ERASED};

/// A user to write.
#[derive(Clone, Debug)]
pub(crate) struct NewUser {
    pub(crate) id: i64,
    pub(crate) issuer: String,
    pub(crate) name: String,
    /// `None`: a platform's user, who logs in there.
    pub(crate) password_hash: Option<String>,
    pub(crate) created_ms: i64,
}

/// A user as far as logging in goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) password_hash: Option<String>,
}

type UserRow = (i64, String, Option<String>);

impl From<UserRow> for User {
    fn from((id, name, password_hash): UserRow) -> User {
        User { id, name, password_hash }
    }
}

/// What an erased user is called at the issuer `erased`: of its name on the wire the first 16 bytes
/// of the SHA-256, in hexadecimal.
pub(crate) fn tombstone(wire: &str) -> String {
    Sha256::digest(wire)[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What an erased user is called on the wire.
pub(crate) fn erased_name(wire: &str) -> String {
    names::join(ERASED, &tombstone(wire)).into_owned()
}

/// The user of a name; `None` where nobody has it, or it was erased.
pub(crate) async fn find(
    conn: &mut AnyConnection,
    issuer: &str,
    name: &str,
) -> Result<Option<User>, StoreError> {
    let row = sqlx::query_as::<_, UserRow>(
        "SELECT id, name, password_hash FROM users WHERE issuer = ? AND name = ? AND erased = 0",
    );
    let row = row.bind(issuer).bind(name).fetch_optional(conn).await?;
    // MySQL takes "a " for "a"; they are two.
    Ok(row.map(User::from).filter(|user| user.name == name))
}

/// Ids and names of those of these users there are; by their names on the wire.
pub(crate) async fn find_all(
    conn: &mut AnyConnection,
    wire_names: &[String],
) -> Result<Vec<(i64, String)>, StoreError> {
    let mut found = Vec::new();
    for part in parts(wire_names) {
        let these = vec!["(issuer = ? AND name = ?)"; part.len()].join(" OR ");
        let select = format!("SELECT id, issuer, name FROM users WHERE erased = 0 AND ({these})");
        let mut query = sqlx::query_as::<_, (i64, String, String)>(AssertSqlSafe(select));
        for wire in part {
            let (issuer, name) = names::split(wire);
            query = query.bind(issuer).bind(name);
        }
        for (id, issuer, name) in query.fetch_all(&mut *conn).await? {
            let wire = names::join(&issuer, &name).into_owned();
            // MySQL takes "a " for "a"; they are two.
            if part.contains(&wire) {
                found.push((id, wire));
            }
        }
    }
    Ok(found)
}

/// Of these users those that were erased.
pub(crate) async fn erased(
    conn: &mut AnyConnection,
    ids: &[i64],
) -> Result<BTreeSet<i64>, StoreError> {
    let mut found = BTreeSet::new();
    for part in parts(ids) {
        let marks = vec!["?"; part.len()].join(", ");
        let select = format!("SELECT id FROM users WHERE erased = 1 AND id IN ({marks})");
        let mut query = sqlx::query_as::<_, (i64,)>(AssertSqlSafe(select));
        for id in part {
            query = query.bind(*id);
        }
        found.extend(query.fetch_all(&mut *conn).await?.into_iter().map(|(id,)| id));
    }
    Ok(found)
}

/// The user of an id, unless erased.
pub(crate) async fn by_id(conn: &mut AnyConnection, id: i64) -> Result<Option<User>, StoreError> {
    let row = sqlx::query_as::<_, UserRow>(
        "SELECT id, name, password_hash FROM users WHERE id = ? AND erased = 0",
    );
    Ok(row.bind(id).fetch_optional(conn).await?.map(User::from))
}

/// Writes a user, unless the name has one. The answer is the id that the name has now; where its
/// user was erased, that one's.
pub(crate) async fn insert(
    conn: &mut AnyConnection,
    dialect: Dialect,
    user: &NewUser,
) -> Result<i64, StoreError> {
    // Not `INSERT IGNORE`, which would also cut a name that is too long.
    let insert = dialect.pick(
        "INSERT INTO users (id, issuer, name, password_hash, created_ms, erased)
            VALUES (?, ?, ?, ?, ?, 0) ON CONFLICT (issuer, name) DO NOTHING",
        "INSERT INTO users (id, issuer, name, password_hash, created_ms, erased)
            VALUES (?, ?, ?, ?, ?, 0) ON DUPLICATE KEY UPDATE id = id",
    );
    sqlx::query(insert)
        .bind(user.id)
        .bind(user.issuer.as_str())
        .bind(user.name.as_str())
        .bind(user.password_hash.as_deref())
        .bind(user.created_ms)
        .execute(&mut *conn)
        .await?;
    let id = sqlx::query_as::<_, (i64,)>("SELECT id FROM users WHERE issuer = ? AND name = ?");
    let id = id.bind(user.issuer.as_str()).bind(user.name.as_str());
    let id = id.fetch_one(&mut *conn).await?.0;
    if id != user.id {
        return Ok(id);
    }
    // Looked for after the insert, which waits for an erasure that is being written.
    let wire = names::join(&user.issuer, &user.name);
    let Some(erased) = find_erased(conn, &wire).await? else { return Ok(id) };
    sqlx::query("DELETE FROM users WHERE id = ?").bind(id).execute(conn).await?;
    Ok(erased)
}

/// The id of the erased user that was called so.
pub(crate) async fn find_erased(
    conn: &mut AnyConnection,
    wire: &str,
) -> Result<Option<i64>, StoreError> {
    find_tombstone(conn, &tombstone(wire)).await
}

/// The id of the erased user that is called so now, by the hash alone.
pub(crate) async fn find_tombstone(
    conn: &mut AnyConnection,
    hash: &str,
) -> Result<Option<i64>, StoreError> {
    let id = sqlx::query_as::<_, (i64,)>("SELECT id FROM users WHERE issuer = ? AND name = ?");
    Ok(id.bind(ERASED).bind(hash).fetch_optional(conn).await?.map(|(id,)| id))
}

/// The id of a user whose token was good: made on first sight. `None`: it was erased.
pub(crate) async fn find_or_insert(
    conn: &mut AnyConnection,
    dialect: Dialect,
    (issuer, name): (&str, &str),
    now_ms: i64,
) -> Result<Option<i64>, StoreError> {
    if let Some(user) = find(conn, issuer, name).await? {
        return Ok(Some(user.id));
    }
    if issuer == ERASED {
        return Ok(None); // nobody's token says so, and no platform makes a tombstone
    }
    let user = NewUser {
        id: crate::ids::random_id(),
        issuer: issuer.to_owned(),
        name: name.to_owned(),
        password_hash: None,
        created_ms: now_ms,
    };
    // Somebody else may insert it meanwhile: the one that stands is the one that counts.
    insert(conn, dialect, &user).await?;
    Ok(find(conn, issuer, name).await?.map(|user| user.id))
}

/// The name of a user on the wire, erased ones included.
pub(crate) async fn name(
    conn: &mut AnyConnection,
    user: i64,
) -> Result<Option<String>, StoreError> {
    let row = sqlx::query_as::<_, (String, String)>("SELECT issuer, name FROM users WHERE id = ?");
    let row = row.bind(user).fetch_optional(conn).await?;
    Ok(row.map(|(issuer, name)| names::join(&issuer, &name).into_owned()))
}
