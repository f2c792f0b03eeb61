//! Users and sessions in the store. What may be done is decided by `crate::accounts`; here it is
//! read and written. Transactions that touch more than one session of a user lock the user's row
//! first.

use super::bans::{self, Ban};
use super::idempotency::{self, Kept, Use};
pub(crate) use super::users::{NewUser, User};
use super::{Dialect, Store, StoreError, users};
use futures_core::future::BoxFuture;
use sqlx::AnyConnection;
use std::sync::Arc;
use uproar_proto::error::Code;

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

type SessionRow = (i64, i64, String, i64, String, i64, i64, i64);

impl From<SessionRow> for Session {
    fn from(row: SessionRow) -> Session {
        let (user, id, device, turn, token_hash, turned_ms, created_ms, expires_ms) = row;
        Session { user, id, device, turn, token_hash, turned_ms, created_ms, expires_ms }
    }
}

/// Writes a user, unless the name has one. The answer is the id that the name has now.
pub(crate) async fn insert(store: &Store, user: NewUser) -> Result<i64, StoreError> {
    let (dialect, user) = (store.dialect(), Arc::new(user));
    let done = store.write(move |conn| {
        let user = Arc::clone(&user);
        Box::pin(async move { users::insert(conn, dialect, &user).await })
    });
    done.await
}

/// Writes a user and keeps the answer under the key, where there is one. `None`: the name has a
/// user, and nothing was written. A repeat of the key gets the answer that was kept.
///
/// # Errors
/// `Refused(Conflict)` where the key came with another body before; else the store's.
pub(crate) async fn insert_once(
    store: &Store,
    user: NewUser,
    kept: Kept,
    once: Option<Use>,
) -> Result<Option<Kept>, StoreError> {
    let (dialect, new) = (store.dialect(), Arc::new((user, kept, once)));
    let done = store.write(move |conn| {
        let new = Arc::clone(&new);
        Box::pin(async move {
            let (user, kept, once) = &*new;
            if let Some(once) = once
                && let Some(before) = idempotency::begin(conn, dialect, once).await?
            {
                return Ok(Some(before));
            }
            if users::insert(conn, dialect, user).await? != user.id {
                return Ok(None);
            }
            if let Some(once) = once {
                idempotency::finish(conn, once, kept).await?;
            }
            Ok(Some(kept.clone()))
        })
    });
    done.await
}

/// Writes users, all of them or none; whoever is here stays, and gets a password where it has none.
/// `answer` is made of each one's id and whether it was made now, and kept under the key.
///
/// # Errors
/// `Refused(Conflict)` where the key came with another body before, or a user was erased.
pub(crate) async fn take_over(
    store: &Store,
    new: Vec<NewUser>,
    answer: impl Fn(&[(i64, bool)]) -> Kept + Send + Sync + 'static,
    once: Option<Use>,
) -> Result<Kept, StoreError> {
    let (dialect, new) = (store.dialect(), Arc::new((new, answer, once)));
    let done = store.write(move |conn| {
        let new = Arc::clone(&new);
        Box::pin(async move {
            let (new, answer, once) = &*new;
            if let Some(once) = once
                && let Some(before) = idempotency::begin(conn, dialect, once).await?
            {
                return Ok(before);
            }
            let mut taken = Vec::with_capacity(new.len());
            for user in new {
                taken.push(take_over_one(conn, dialect, user).await?);
            }
            let kept = answer(&taken);
            if let Some(once) = once {
                idempotency::finish(conn, once, &kept).await?;
            }
            Ok(kept)
        })
    });
    done.await
}

async fn take_over_one(
    conn: &mut AnyConnection,
    dialect: Dialect,
    user: &NewUser,
) -> Result<(i64, bool), StoreError> {
    if users::insert(conn, dialect, user).await? == user.id {
        return Ok((user.id, true));
    }
    let found = users::find(conn, &user.issuer, &user.name).await?;
    let id = found.ok_or(StoreError::Refused(Code::Conflict))?.id;
    if let Some(hash) = &user.password_hash {
        let update = sqlx::query(
            "UPDATE users SET password_hash = ? WHERE id = ? AND password_hash IS NULL",
        );
        update.bind(hash.as_str()).bind(id).execute(conn).await?;
    }
    Ok((id, false))
}

/// The user of a name, unless erased.
pub(crate) async fn find(
    store: &Store,
    issuer: &str,
    name: &str,
) -> Result<Option<User>, StoreError> {
    users::find(&mut *store.reader().await?, issuer, name).await
}

/// The user of an id, unless erased.
pub(crate) async fn user(store: &Store, id: i64) -> Result<Option<User>, StoreError> {
    users::by_id(&mut *store.reader().await?, id).await
}

/// What became of a log-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// It stands; the ids of sessions that it ended.
    Ended(Vec<i64>),
    /// The password was changed meanwhile, or the user is gone; nothing was written.
    Changed,
    /// The user is banned; nothing was written.
    Banned,
}

/// Writes a session of a user whose password hash still is `password_hash`, and ends the longest
/// unused ones beyond `sessions_max`.
pub(crate) async fn open_session(
    store: &Store,
    session: Session,
    password_hash: String,
    sessions_max: usize,
) -> Result<Opened, StoreError> {
    let dialect = store.dialect();
    let new = Arc::new((session, password_hash));
    let done =
        store.write(move |conn: &mut AnyConnection| -> BoxFuture<'_, Result<_, StoreError>> {
            let new = Arc::clone(&new);
            Box::pin(async move {
                let (session, password_hash) = &*new;
                if lock_user(conn, dialect, session.user).await?.as_ref() != Some(password_hash) {
                    return Ok(Opened::Changed);
                }
                if bans::find(conn, session.user, session.created_ms).await?.is_some() {
                    return Ok(Opened::Banned);
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
                Ok(Opened::Ended(ended))
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

/// Bans a user and ends all its sessions.
pub(crate) async fn ban(store: &Store, ban: Ban) -> Result<(), StoreError> {
    let (dialect, ban) = (store.dialect(), Arc::new(ban));
    let done = store.write(move |conn| {
        let ban = Arc::clone(&ban);
        Box::pin(async move {
            lock_user(conn, dialect, ban.user).await?;
            bans::put(conn, dialect, &ban).await?;
            end_on(conn, ban.user, None).await.map(drop)
        })
    });
    done.await
}

/// Lifts a ban.
pub(crate) async fn unban(store: &Store, user: i64) -> Result<(), StoreError> {
    store.write(move |conn| Box::pin(bans::delete(conn, user))).await
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

/// When a session ends, and the device it is of; `None`: it has ended.
pub(crate) async fn session(
    store: &Store,
    user: i64,
    session: i64,
) -> Result<Option<(i64, String)>, StoreError> {
    let mut conn = store.reader().await?;
    let row = sqlx::query_as::<_, (i64, String)>(
        "SELECT expires_ms, device FROM sessions WHERE user_id = ? AND id = ?",
    );
    Ok(row.bind(user).bind(session).fetch_optional(&mut *conn).await?)
}
