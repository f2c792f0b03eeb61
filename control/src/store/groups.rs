//! Rows of groups: what a group is, who is in it, who waits, and its links.
//!
//! Every function that writes runs inside the transaction of a change (see `crate::groups`), which
//! has locked the group's conversation first.

use super::{Dialect, StoreError, parts};
use crate::groups::{Group, Joining, Link, Member, Role};
use sqlx::{AnyConnection, AssertSqlSafe, Row as _};
use std::collections::BTreeMap;
use uproar_proto::names;

/// A group, its row locked until the transaction ends; `None`: there is none.
pub(crate) async fn locked(
    conn: &mut AnyConnection,
    dialect: Dialect,
    conv: i64,
) -> Result<Option<Group>, StoreError> {
    // The conversation's row is the lock: appends take it too.
    let lock = dialect.pick(
        "SELECT head FROM conversations WHERE conv = ?",
        "SELECT head FROM conversations WHERE conv = ? FOR UPDATE",
    );
    let head = sqlx::query_as::<_, (i64,)>(lock).bind(conv).fetch_optional(&mut *conn).await?;
    if head.is_none() {
        return Ok(None);
    }
    find(conn, conv).await
}

/// A group as it is now.
pub(crate) async fn find(conn: &mut AnyConnection, conv: i64) -> Result<Option<Group>, StoreError> {
    let row = sqlx::query(
        "SELECT g.name, g.announcement, g.joining, g.muted_all, g.size, g.ended, g.created_ms,
                c.user_a, c.head
            FROM group_info g JOIN conversations c ON c.conv = g.conv WHERE g.conv = ?",
    );
    let Some(row) = row.bind(conv).fetch_optional(conn).await? else { return Ok(None) };
    let number = |at: usize| row.try_get::<i64, _>(at);
    Ok(Some(Group {
        conv,
        name: row.try_get(0)?,
        announcement: row.try_get(1)?,
        joining: Joining::from_row(number(2)?),
        muted_all: number(3)? != 0,
        size: number(4)?,
        ended: number(5)? != 0,
        created_ms: number(6)?,
        owner: number(7)?,
        head: number(8)?,
    }))
}

/// Makes a group without members.
pub(crate) async fn insert(conn: &mut AnyConnection, group: &Group) -> Result<(), StoreError> {
    let conversation = sqlx::query(
        "INSERT INTO conversations
            (conv, kind, user_a, user_b, head, counted, floor, changed_ms)
            VALUES (?, ?, ?, 0, 0, 0, 0, ?)",
    );
    let conversation = conversation.bind(group.conv).bind(super::conversations::GROUP);
    conversation.bind(group.owner).bind(group.created_ms).execute(&mut *conn).await?;
    let info = sqlx::query(
        "INSERT INTO group_info
            (conv, name, announcement, joining, muted_all, size, ended, created_ms)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    );
    bind_info(info.bind(group.conv), group).bind(group.created_ms).execute(conn).await?;
    Ok(())
}

type AnyQuery<'q> = sqlx::query::Query<'q, sqlx::Any, sqlx::any::AnyArguments>;

fn bind_info<'q>(query: AnyQuery<'q>, group: &'q Group) -> AnyQuery<'q> {
    let query = query.bind(group.name.as_str()).bind(group.announcement.as_str());
    let query = query.bind(group.joining as i64).bind(i64::from(group.muted_all));
    query.bind(group.size).bind(i64::from(group.ended))
}

/// Writes what a group is now.
pub(crate) async fn update(conn: &mut AnyConnection, group: &Group) -> Result<(), StoreError> {
    let info = sqlx::query(
        "UPDATE group_info SET name = ?, announcement = ?, joining = ?, muted_all = ?, size = ?,
            ended = ? WHERE conv = ?",
    );
    bind_info(info, group).bind(group.conv).execute(&mut *conn).await?;
    let owner = sqlx::query("UPDATE conversations SET user_a = ? WHERE conv = ?");
    owner.bind(group.owner).bind(group.conv).execute(conn).await?;
    Ok(())
}

/// Of these users those who are members now.
pub(crate) async fn members(
    conn: &mut AnyConnection,
    conv: i64,
    users: &[i64],
) -> Result<BTreeMap<i64, Member>, StoreError> {
    let mut found = BTreeMap::new();
    for part in parts(users) {
        let marks = vec!["?"; part.len()].join(", ");
        let select = format!(
            "SELECT user, since, role, muted_until_ms, read_seq FROM memberships
                WHERE conv = ? AND until = 0 AND user IN ({marks})"
        );
        let mut query = sqlx::query_as::<_, MemberRow>(AssertSqlSafe(select)).bind(conv);
        for user in part {
            query = query.bind(*user);
        }
        for row in query.fetch_all(&mut *conn).await? {
            found.insert(row.0, member(row));
        }
    }
    Ok(found)
}

type MemberRow = (i64, i64, i64, i64, i64);

fn member((user, since, role, muted_until_ms, read_seq): MemberRow) -> Member {
    Member { user, since, role: Role::from_row(role), muted_until_ms, read_seq }
}

/// Users become members: they read what is above `since`.
pub(crate) async fn insert_members(
    conn: &mut AnyConnection,
    conv: i64,
    users: &[(i64, Role)],
    since: i64,
    now_ms: i64,
) -> Result<(), StoreError> {
    for part in parts(users) {
        let rows = vec!["(?, ?, ?, 0, ?, 0, ?, 0, ?)"; part.len()].join(", ");
        let insert = format!(
            "INSERT INTO memberships (conv, user, since, until, role, muted_until_ms, read_seq,
                delivered_seq, changed_ms) VALUES {rows}"
        );
        let mut query = sqlx::query(AssertSqlSafe(insert));
        for (user, role) in part {
            query = query.bind(conv).bind(*user).bind(since).bind(*role as i64);
            query = query.bind(since).bind(now_ms);
        }
        query.execute(&mut *conn).await?;
    }
    Ok(())
}

/// A member has left: it reads up to `until`. Nobody in particular: all of them.
pub(crate) async fn end_memberships(
    conn: &mut AnyConnection,
    conv: i64,
    user: Option<i64>,
    until: i64,
    now_ms: i64,
) -> Result<(), StoreError> {
    let end = "UPDATE memberships SET until = ?, changed_ms = ? WHERE conv = ? AND until = 0";
    let one = "UPDATE memberships SET until = ?, changed_ms = ?
        WHERE conv = ? AND until = 0 AND user = ?";
    let query = sqlx::query(if user.is_some() { one } else { end });
    let mut query = query.bind(until).bind(now_ms).bind(conv);
    if let Some(user) = user {
        query = query.bind(user);
    }
    query.execute(conn).await?;
    Ok(())
}

/// Writes what a member is now.
pub(crate) async fn update_member(
    conn: &mut AnyConnection,
    conv: i64,
    member: &Member,
    now_ms: i64,
) -> Result<(), StoreError> {
    let update = sqlx::query(
        "UPDATE memberships SET role = ?, muted_until_ms = ?, changed_ms = ?
            WHERE conv = ? AND user = ? AND since = ?",
    );
    let update = update.bind(member.role as i64).bind(member.muted_until_ms).bind(now_ms);
    update.bind(conv).bind(member.user).bind(member.since).execute(conn).await?;
    Ok(())
}

/// A page of the members, by user id after `after`, with their names.
pub(crate) async fn list_members(
    conn: &mut AnyConnection,
    conv: i64,
    after: i64,
    limit: i64,
) -> Result<Vec<(Member, String)>, StoreError> {
    let rows = sqlx::query_as::<_, (i64, i64, i64, i64, i64, String, String)>(
        "SELECT m.user, m.since, m.role, m.muted_until_ms, m.read_seq, u.issuer, u.name
            FROM memberships m JOIN users u ON u.id = m.user
            WHERE m.conv = ? AND m.user > ? AND m.until = 0 ORDER BY m.user LIMIT ?",
    );
    let rows = rows.bind(conv).bind(after).bind(limit).fetch_all(conn).await?;
    let listed = |(a, b, c, d, e, issuer, name): (_, _, _, _, _, String, String)| {
        (member((a, b, c, d, e)), names::join(&issuer, &name).into_owned())
    };
    Ok(rows.into_iter().map(listed).collect())
}

/// A page of the groups a user is in, by conversation after `after`, with its membership.
pub(crate) async fn list_of(
    conn: &mut AnyConnection,
    user: i64,
    after: i64,
    limit: i64,
) -> Result<Vec<(i64, Member)>, StoreError> {
    let rows = sqlx::query_as::<_, (i64, i64, i64, i64, i64, i64)>(
        "SELECT m.conv, m.user, m.since, m.role, m.muted_until_ms, m.read_seq
            FROM memberships m JOIN group_info g ON g.conv = m.conv
            WHERE m.user = ? AND m.conv > ? AND m.until = 0 ORDER BY m.conv LIMIT ?",
    );
    let rows = rows.bind(user).bind(after).bind(limit).fetch_all(conn).await?;
    let listed = |(conv, a, b, c, d, e)| (conv, member((a, b, c, d, e)));
    Ok(rows.into_iter().map(listed).collect())
}

/// How many groups each of these users is in.
pub(crate) async fn counts_of(
    conn: &mut AnyConnection,
    users: &[i64],
) -> Result<BTreeMap<i64, i64>, StoreError> {
    let mut counts = BTreeMap::new();
    for part in parts(users) {
        let marks = vec!["?"; part.len()].join(", ");
        let select = format!(
            "SELECT m.user, COUNT(*) FROM memberships m JOIN group_info g ON g.conv = m.conv
                WHERE m.until = 0 AND m.user IN ({marks}) GROUP BY m.user"
        );
        let mut query = sqlx::query_as::<_, (i64, i64)>(AssertSqlSafe(select));
        for user in part {
            query = query.bind(*user);
        }
        counts.extend(query.fetch_all(&mut *conn).await?);
    }
    Ok(counts)
}

/// Somebody waits to be let in; a second request replaces the first.
pub(crate) async fn put_request(
    conn: &mut AnyConnection,
    dialect: Dialect,
    (conv, user, asked_by): (i64, i64, i64),
    text: &str,
    now_ms: i64,
) -> Result<(), StoreError> {
    let upsert = sqlx::query(dialect.pick(
        "INSERT INTO group_requests (conv, user_id, asked_by, text, asked_ms)
            VALUES (?, ?, ?, ?, ?) ON CONFLICT (conv, user_id) DO UPDATE SET
            asked_by = excluded.asked_by, text = excluded.text",
        "INSERT INTO group_requests (conv, user_id, asked_by, text, asked_ms)
            VALUES (?, ?, ?, ?, ?) ON DUPLICATE KEY UPDATE
            asked_by = VALUES(asked_by), text = VALUES(text)",
    ));
    let upsert = upsert.bind(conv).bind(user).bind(asked_by).bind(text).bind(now_ms);
    upsert.execute(conn).await?;
    Ok(())
}

/// Ends requests; how many there were.
pub(crate) async fn delete_requests(
    conn: &mut AnyConnection,
    conv: i64,
    users: &[i64],
) -> Result<u64, StoreError> {
    let mut deleted = 0;
    for part in parts(users) {
        let marks = vec!["?"; part.len()].join(", ");
        let delete = format!("DELETE FROM group_requests WHERE conv = ? AND user_id IN ({marks})");
        let mut query = sqlx::query(AssertSqlSafe(delete)).bind(conv);
        for user in part {
            query = query.bind(*user);
        }
        deleted += query.execute(&mut *conn).await?.rows_affected();
    }
    Ok(deleted)
}

/// How many wait to be let in.
pub(crate) async fn count_requests(conn: &mut AnyConnection, conv: i64) -> Result<i64, StoreError> {
    let count = sqlx::query_as::<_, (i64,)>("SELECT COUNT(*) FROM group_requests WHERE conv = ?");
    Ok(count.bind(conv).fetch_one(conn).await?.0)
}

/// Who waits, by user id after `after`: id, name, text, when.
pub(crate) async fn list_requests(
    conn: &mut AnyConnection,
    conv: i64,
    after: i64,
    limit: i64,
) -> Result<Vec<(i64, String, String, i64)>, StoreError> {
    let rows = sqlx::query_as::<_, (i64, String, String, String, i64)>(
        "SELECT r.user_id, u.issuer, u.name, r.text, r.asked_ms
            FROM group_requests r JOIN users u ON u.id = r.user_id
            WHERE r.conv = ? AND r.user_id > ? ORDER BY r.user_id LIMIT ?",
    );
    let rows = rows.bind(conv).bind(after).bind(limit).fetch_all(conn).await?;
    let listed = |(user, issuer, name, text, asked_ms): (_, String, String, _, _)| {
        (user, names::join(&issuer, &name).into_owned(), text, asked_ms)
    };
    Ok(rows.into_iter().map(listed).collect())
}

/// Makes a link.
pub(crate) async fn insert_link(
    conn: &mut AnyConnection,
    link: &Link,
    now_ms: i64,
) -> Result<(), StoreError> {
    let insert = sqlx::query(
        "INSERT INTO group_links (token, conv, made_by, made_ms, expires_ms, uses_left)
            VALUES (?, ?, ?, ?, ?, ?)",
    );
    let insert = insert.bind(link.token.as_str()).bind(link.conv).bind(link.made_by).bind(now_ms);
    insert.bind(link.expires_ms).bind(link.uses_left).execute(conn).await?;
    Ok(())
}

/// The links of a group, or the one of a token.
pub(crate) async fn links(
    conn: &mut AnyConnection,
    of: LinksOf<'_>,
) -> Result<Vec<Link>, StoreError> {
    let rows = match of {
        LinksOf::Group(conv) => sqlx::query_as::<_, (String, i64, i64, i64, i64)>(
            "SELECT token, conv, made_by, expires_ms, uses_left FROM group_links
                WHERE conv = ? ORDER BY token",
        )
        .bind(conv),
        LinksOf::Token(token) => sqlx::query_as::<_, (String, i64, i64, i64, i64)>(
            "SELECT token, conv, made_by, expires_ms, uses_left FROM group_links WHERE token = ?",
        )
        .bind(token),
    };
    let rows = rows.fetch_all(conn).await?;
    let link = |(token, conv, made_by, expires_ms, uses_left)| Link {
        token,
        conv,
        made_by,
        expires_ms,
        uses_left,
    };
    Ok(rows.into_iter().map(link).collect())
}

/// Which links.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LinksOf<'a> {
    /// All of a group.
    Group(i64),
    /// The one of a token, or none.
    Token(&'a str),
}

/// A link was used once.
pub(crate) async fn use_link(conn: &mut AnyConnection, token: &str) -> Result<(), StoreError> {
    let update = "UPDATE group_links SET uses_left = uses_left - 1 WHERE token = ?";
    sqlx::query(update).bind(token).execute(conn).await?;
    Ok(())
}

/// Ends one link of a group; how many there were.
pub(crate) async fn delete_link(
    conn: &mut AnyConnection,
    conv: i64,
    token: &str,
) -> Result<u64, StoreError> {
    let delete = sqlx::query("DELETE FROM group_links WHERE conv = ? AND token = ?");
    Ok(delete.bind(conv).bind(token).execute(conn).await?.rows_affected())
}

/// Nobody waits for a group any more, and no link leads to it.
pub(crate) async fn close_doors(conn: &mut AnyConnection, conv: i64) -> Result<(), StoreError> {
    for delete in
        ["DELETE FROM group_links WHERE conv = ?", "DELETE FROM group_requests WHERE conv = ?"]
    {
        sqlx::query(delete).bind(conv).execute(&mut *conn).await?;
    }
    Ok(())
}

/// Who owns a group when its owner leaves: who has been a moderator longest, else a member.
pub(crate) async fn heir(
    conn: &mut AnyConnection,
    conv: i64,
    but: i64,
) -> Result<Option<i64>, StoreError> {
    let row = sqlx::query_as::<_, (i64,)>(
        "SELECT user FROM memberships WHERE conv = ? AND until = 0 AND user <> ?
            ORDER BY role DESC, since, user LIMIT 1",
    );
    Ok(row.bind(conv).bind(but).fetch_optional(conn).await?.map(|(user,)| user))
}
