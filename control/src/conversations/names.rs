//! Names and ids of users, remembered: every message needs them, and they never change, but for
//! users that are erased.

use super::Shared;
use crate::groups::OPERATOR;
use crate::store::{StoreError, users};
use sqlx::AnyConnection;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use uproar_proto::error::Code;
use uproar_proto::names::{self, ERASED};

/// Users remembered: about 150 bytes each. Reached: all are forgotten and learnt anew.
const NAMES_MAX: usize = 200_000;

/// Both directions.
#[derive(Default)]
pub(super) struct Names {
    maps: Mutex<Maps>,
}

#[derive(Default)]
struct Maps {
    ids: HashMap<Arc<str>, i64>,
    names: HashMap<i64, Arc<str>>,
}

impl Names {
    fn maps(&self) -> MutexGuard<'_, Maps> {
        self.maps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn id(&self, name: &str) -> Option<i64> {
        self.maps().ids.get(name).copied()
    }

    fn remember(&self, name: &str, id: i64) -> Arc<str> {
        let mut maps = self.maps();
        if maps.ids.len() >= NAMES_MAX {
            *maps = Maps::default();
        }
        let name: Arc<str> = Arc::from(name);
        // Who was erased is told of, and not found.
        if names::split(&name).0 != ERASED {
            maps.ids.insert(Arc::clone(&name), id);
        }
        maps.names.insert(id, Arc::clone(&name));
        name
    }
}

impl Names {
    /// A user was erased: it is called otherwise.
    pub(super) fn forget(&self, name: &str, id: i64) {
        let mut maps = self.maps();
        maps.ids.remove(name);
        maps.names.remove(&id);
    }
}

impl Shared {
    /// The id of a user whose token the engine has verified: made on first sight.
    pub(super) async fn signed_in(&self, name: &str) -> Result<i64, StoreError> {
        if let Some(id) = self.user(name).await? {
            return Ok(id);
        }
        let (dialect, now_ms, owned) = (self.store.dialect(), self.store.now_ms(), name.to_owned());
        let id = self
            .store
            .write(move |conn| {
                let name = owned.clone();
                Box::pin(async move {
                    users::find_or_insert(conn, dialect, names::split(&name), now_ms).await
                })
            })
            .await?;
        // Erased: the token outlived its user.
        let id = id.ok_or(StoreError::Refused(Code::TokenInvalid))?;
        self.names.remember(name, id);
        Ok(id)
    }

    /// The id of a user; `None`: nobody has that name. For callers that hold no reader: one who
    /// waits for a second one while holding the first may wait for ever.
    pub(super) async fn user(&self, name: &str) -> Result<Option<i64>, StoreError> {
        match self.names.id(name) {
            Some(id) => Ok(Some(id)),
            None => self.user_on(&mut *self.store.reader().await?, name).await,
        }
    }

    /// The same on the caller's reader.
    pub(super) async fn user_on(
        &self,
        conn: &mut AnyConnection,
        name: &str,
    ) -> Result<Option<i64>, StoreError> {
        if let Some(id) = self.names.id(name) {
            return Ok(Some(id));
        }
        let (issuer, own) = names::split(name);
        let id = users::find(conn, issuer, own).await?.map(|user| user.id);
        if let Some(id) = id {
            self.names.remember(name, id);
        }
        Ok(id)
    }

    /// The id of a user, or of one that was erased by what it is called now: for reading what was
    /// said with it.
    pub(super) async fn anybody_on(
        &self,
        conn: &mut AnyConnection,
        name: &str,
    ) -> Result<Option<i64>, StoreError> {
        match names::split(name) {
            (ERASED, hash) => users::find_tombstone(conn, hash).await,
            _ => self.user_on(conn, name).await,
        }
    }

    /// The name of a user that stands in another row, on the caller's reader.
    pub(super) async fn name_on(
        &self,
        conn: &mut AnyConnection,
        id: i64,
    ) -> Result<Arc<str>, StoreError> {
        if id == OPERATOR {
            return Ok(Arc::from(""));
        }
        if let Some(name) = self.names.maps().names.get(&id) {
            return Ok(Arc::clone(name));
        }
        let name = users::name(conn, id).await?;
        let name = name.ok_or_else(|| StoreError::Corrupt(format!("there is no user {id}")))?;
        Ok(self.names.remember(&name, id))
    }
}
