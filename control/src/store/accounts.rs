//! Users and sessions in the store. What may be done is decided by `crate::accounts`; here it is
//! read and written. Transactions that touch more than one session of a user lock the user's row
//! first.

use super::{Dialect, Store, StoreError};
use futures_core::future::BoxFuture;
use sqlx::AnyConnection;
use std::sync::Arc;

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

/// A session, as it stands in its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) user: i64,
    pub(crate) id: i64,
    pub(crate) device: String,
    pub(crate) turn: i64,
    pub(crate) token_hash: String,
    pub(crate) turned_ms: i64,
    pub(crate) created_ms: i64,
    pub(crate) expires_ms: i64,
}

/// A refresh token that was presented, and the one that follows it.
#[derive(Clone, Debug)]
pub(crate) struct Presented {
    pub(crate) user: i64,
    pub(crate) session: i64,
    pub(crate) turn: i64,
    pub(crate) hash: String,
    pub(crate) successor_hash: String,
    pub(crate) now_ms: i64,
    /// When the session ends that turns now.
    pub(crate) expires_ms: i64,
}

/// What becomes of a session whose refresh token was presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The successor was made by this request.
    Next,
    /// The successor was made before; it is told again.
    Again,
    /// A token was used twice: the session is ended.
    Reused,
    /// There is no such session (any more).
    Ended,
}

type UserRow = (i64, String, Option<String>);
type SessionRow = (i64, i64, String, i64, String, i64, i64, i64);

impl From<UserRow> for User {
    fn from((id, name, password_hash): UserRow) -> User {
        User { id, name, password_hash }
    }
}

impl From<SessionRow> for Session {
    fn from(row: SessionRow) -> Session {
        let (user, id, device, turn, token_hash, turned_ms, created_ms, expires_ms) = row;
        Session { user, id, device, turn, token_hash, turned_ms, created_ms, expires_ms }
    }
}

/// Writes a user, unless the name has one. The answer is the id that the name has now.
pub(crate) async fn insert(store: &Store, user: NewUser) -> Result<i64, StoreError> {
    let dialect = store.dialect();
    let user = Arc::new(user);
    let done =
        store.write(move |conn: &mut AnyConnection| -> BoxFuture<'_, Result<i64, StoreError>> {
            let user = Arc::clone(&user);
            Box::pin(async move {
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
                let id = sqlx::query_as::<_, (i64,)>(
                    "SELECT id FROM users WHERE issuer = ? AND name = ?",
                );
                let id = id.bind(user.issuer.as_str()).bind(user.name.as_str());
                Ok(id.fetch_one(conn).await?.0)
            })
        });
    done.await
}

/// The user of a name, unless erased.
pub(crate) async fn find(
    store: &Store,
    issuer: &str,
    name: &str,
) -> Result<Option<User>, StoreError> {
    let mut conn = store.reader().await?;
    let row = sqlx::query_as::<_, UserRow>(
        "SELECT id, name, password_hash FROM users WHERE issuer = ? AND name = ? AND erased = 0",
    );
    let row = row.bind(issuer).bind(name).fetch_optional(&mut *conn).await?;
    Ok(row.map(User::from))
}

/// The user of an id, unless erased.
pub(crate) async fn user(store: &Store, id: i64) -> Result<Option<User>, StoreError> {
    let mut conn = store.reader().await?;
    let row = sqlx::query_as::<_, UserRow>(
        "SELECT id, name, password_hash FROM users WHERE id = ? AND erased = 0",
    );
    Ok(row.bind(id).fetch_optional(&mut *conn).await?.map(User::from))
}

/// Writes a session of a user whose password hash still is `password_hash`, and ends the longest
/// unused ones beyond `sessions_max`. The answer is the ids it ended; `None`: the password was
/// changed meanwhile, or the user is gone, and nothing was written.
pub(crate) async fn open_session(
    store: &Store,
    session: Session,
    password_hash: String,
    sessions_max: usize,
) -> Result<Option<Vec<i64>>, StoreError> {
    let dialect = store.dialect();
    let new = Arc::new((session, password_hash));
    let done =
        store.write(move |conn: &mut AnyConnection| -> BoxFuture<'_, Result<_, StoreError>> {
            let new = Arc::clone(&new);
            Box::pin(async move {
                let (session, password_hash) = &*new;
                if lock_user(conn, dialect, session.user).await?.as_ref() != Some(password_hash) {
                    return Ok(None);
                }
                let mut ended = Vec::new();
                let mut open = sessions_on(conn, session.user).await?;
                open.sort_by_key(|open| open.turned_ms);
                let mut left = open.len();
                for old in open {
                    let is_over = old.expires_ms <= session.created_ms;
                    if is_over || left >= sessions_max {
                        delete(conn, old.user, old.id).await?;
                        left -= 1;
                        ended.push(old.id);
                    }
                }
                insert_session(conn, session).await?;
                Ok(Some(ended))
            })
        });
    done.await
}

/// Locks a user's row against other log-ins and changes of the password; its hash.
async fn lock_user(
    conn: &mut AnyConnection,
    dialect: Dialect,
    user: i64,
) -> Result<Option<String>, StoreError> {
    let row = sqlx::query_as::<_, (Option<String>,)>(dialect.pick(
        "SELECT password_hash FROM users WHERE id = ? AND erased = 0",
        "SELECT password_hash FROM users WHERE id = ? AND erased = 0 FOR UPDATE",
    ));
    Ok(row.bind(user).fetch_optional(conn).await?.and_then(|(hash,)| hash))
}

async fn insert_session(conn: &mut AnyConnection, session: &Session) -> Result<(), StoreError> {
    let insert = sqlx::query(
        "INSERT INTO sessions (user_id, id, device, turn, token_hash, turned_ms, created_ms,
         expires_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    );
    insert
        .bind(session.user)
        .bind(session.id)
        .bind(session.device.as_str())
        .bind(session.turn)
        .bind(session.token_hash.as_str())
        .bind(session.turned_ms)
        .bind(session.created_ms)
        .bind(session.expires_ms)
        .execute(conn)
        .await?;
    Ok(())
}

async fn delete(conn: &mut AnyConnection, user: i64, session: i64) -> Result<bool, StoreError> {
    let delete = sqlx::query("DELETE FROM sessions WHERE user_id = ? AND id = ?");
    let done = delete.bind(user).bind(session).execute(conn).await?;
    Ok(done.rows_affected() > 0)
}

async fn sessions_on(conn: &mut AnyConnection, user: i64) -> Result<Vec<Session>, StoreError> {
    let rows = sqlx::query_as::<_, SessionRow>(
        "SELECT user_id, id, device, turn, token_hash, turned_ms, created_ms, expires_ms
         FROM sessions WHERE user_id = ? ORDER BY id",
    );
    let rows = rows.bind(user).fetch_all(conn).await?;
    Ok(rows.into_iter().map(Session::from).collect())
}

/// Presents a refresh token: `rule` says what becomes of the session, and it is done.
pub(crate) async fn turn(
    store: &Store,
    presented: Presented,
    rule: fn(&Session, &Presented) -> Turn,
) -> Result<Turn, StoreError> {
    let dialect = store.dialect();
    let presented = Arc::new(presented);
    let done =
        store.write(move |conn: &mut AnyConnection| -> BoxFuture<'_, Result<Turn, StoreError>> {
            let presented = Arc::clone(&presented);
            Box::pin(async move {
                let row = sqlx::query_as::<_, SessionRow>(dialect.pick(
                "SELECT user_id, id, device, turn, token_hash, turned_ms, created_ms, expires_ms
                 FROM sessions WHERE user_id = ? AND id = ?",
                "SELECT user_id, id, device, turn, token_hash, turned_ms, created_ms, expires_ms
                 FROM sessions WHERE user_id = ? AND id = ? FOR UPDATE",
            ));
                let row = row.bind(presented.user).bind(presented.session);
                let Some(row) = row.fetch_optional(&mut *conn).await? else {
                    return Ok(Turn::Ended);
                };
                let turn = rule(&row.into(), &presented);
                match turn {
                    Turn::Next => advance(conn, &presented).await?,
                    Turn::Reused => drop(delete(conn, presented.user, presented.session).await?),
                    Turn::Again | Turn::Ended => {}
                }
                Ok(turn)
            })
        });
    done.await
}

async fn advance(conn: &mut AnyConnection, presented: &Presented) -> Result<(), StoreError> {
    let update = sqlx::query(
        "UPDATE sessions SET turn = ?, token_hash = ?, turned_ms = ?, expires_ms = ?
         WHERE user_id = ? AND id = ?",
    );
    update
        .bind(presented.turn + 1)
        .bind(presented.successor_hash.as_str())
        .bind(presented.now_ms)
        .bind(presented.expires_ms)
        .bind(presented.user)
        .bind(presented.session)
        .execute(conn)
        .await?;
    Ok(())
}

/// Sets a new hash where the old one still is `old_hash`, and ends all sessions but `kept`. The
/// answer is the ids it ended; `None`: the password was changed meanwhile, and nothing was written.
pub(crate) async fn change_password(
    store: &Store,
    user: i64,
    kept: Option<i64>,
    old_hash: String,
    new_hash: String,
) -> Result<Option<Vec<i64>>, StoreError> {
    let dialect = store.dialect();
    let hashes = Arc::new((old_hash, new_hash));
    let done =
        store.write(move |conn: &mut AnyConnection| -> BoxFuture<'_, Result<_, StoreError>> {
            let hashes = Arc::clone(&hashes);
            Box::pin(async move {
                if lock_user(conn, dialect, user).await?.as_ref() != Some(&hashes.0) {
                    return Ok(None);
                }
                let update = sqlx::query("UPDATE users SET password_hash = ? WHERE id = ?");
                update.bind(hashes.1.as_str()).bind(user).execute(&mut *conn).await?;
                end_on(conn, user, kept).await.map(Some)
            })
        });
    done.await
}

/// Ends all sessions of a user but `kept`; the ids it ended.
pub(crate) async fn end_sessions(
    store: &Store,
    user: i64,
    kept: Option<i64>,
) -> Result<Vec<i64>, StoreError> {
    let dialect = store.dialect();
    let done = store.write(
        move |conn: &mut AnyConnection| -> BoxFuture<'_, Result<Vec<i64>, StoreError>> {
            Box::pin(async move {
                lock_user(conn, dialect, user).await?;
                end_on(conn, user, kept).await
            })
        },
    );
    done.await
}

async fn end_on(
    conn: &mut AnyConnection,
    user: i64,
    kept: Option<i64>,
) -> Result<Vec<i64>, StoreError> {
    let mut ended = Vec::new();
    for session in sessions_on(conn, user).await? {
        if Some(session.id) != kept && delete(conn, user, session.id).await? {
            ended.push(session.id);
        }
    }
    Ok(ended)
}

/// Ends one session; whether there was one.
pub(crate) async fn end_session(
    store: &Store,
    user: i64,
    session: i64,
) -> Result<bool, StoreError> {
    let done =
        store.write(move |conn: &mut AnyConnection| -> BoxFuture<'_, Result<bool, StoreError>> {
            Box::pin(delete(conn, user, session))
        });
    done.await
}

/// Sessions of a user, by id.
pub(crate) async fn sessions(store: &Store, user: i64) -> Result<Vec<Session>, StoreError> {
    let mut conn = store.reader().await?;
    sessions_on(&mut conn, user).await
}

/// When a session ends; `None`: it has ended.
pub(crate) async fn session_expires_ms(
    store: &Store,
    user: i64,
    session: i64,
) -> Result<Option<i64>, StoreError> {
    let mut conn = store.reader().await?;
    let row =
        sqlx::query_as::<_, (i64,)>("SELECT expires_ms FROM sessions WHERE user_id = ? AND id = ?");
    let row = row.bind(user).bind(session).fetch_optional(&mut *conn).await?;
    Ok(row.map(|(expires_ms,)| expires_ms))
}
