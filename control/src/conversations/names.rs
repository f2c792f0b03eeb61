//! Names and ids of users, remembered: every message needs them, and they never change.

use super::Shared;
use crate::store::{StoreError, users};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

    fn remember(&self, name: &str, id: i64) -> Arc<str> {
        let mut maps = self.maps();
        if maps.ids.len() >= NAMES_MAX {
            *maps = Maps::default();
        }
        let name: Arc<str> = Arc::from(name);
        maps.ids.insert(Arc::clone(&name), id);
        maps.names.insert(id, Arc::clone(&name));
        name
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
                Box::pin(
                    async move { users::find_or_insert(conn, dialect, ("", &name), now_ms).await },
                )
            })
            .await?;
        let id = id.ok_or_else(|| StoreError::Corrupt(format!("the user {name:?} was erased")))?;
        self.names.remember(name, id);
        Ok(id)
    }

    /// The id of a user; `None`: nobody has that name.
    pub(super) async fn user(&self, name: &str) -> Result<Option<i64>, StoreError> {
        if let Some(id) = self.names.maps().ids.get(name) {
            return Ok(Some(*id));
        }
        let id = users::find(&mut *self.store.reader().await?, "", name).await?;
        if let Some(id) = id {
            self.names.remember(name, id);
        }
        Ok(id)
    }

    /// The name of a user that stands in another row.
    pub(super) async fn name(&self, id: i64) -> Result<Arc<str>, StoreError> {
        if let Some(name) = self.names.maps().names.get(&id) {
            return Ok(Arc::clone(name));
        }
        let name = users::name(&mut *self.store.reader().await?, id).await?;
        let name = name.ok_or_else(|| StoreError::Corrupt(format!("there is no user {id}")))?;
        Ok(self.names.remember(&name, id))
    }
}
