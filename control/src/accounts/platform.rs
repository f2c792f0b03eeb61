//! Accounts of a platform that moves in: many at once, with the passwords they have.
//!
//! Owns what may be taken over. Users that are here stay as they are; all of a list are written or
//! none.

use super::{Accounts, check_local, check_name, check_password, check_unlike_guest};
use crate::fault::Fault;
use crate::ids::random_id;
use crate::passwords::check_hash;
use crate::store::accounts::{self as rows, NewUser};
use crate::store::idempotency::{Kept, Use};
use crate::store::{StoreError, users};
use sha2::{Digest, Sha256};
use uproar_proto::error::Code;
use uproar_proto::names::{self, ERASED, LOCAL};

/// Passwords hashed for one request: each takes tens of milliseconds, and a request has seconds.
pub(crate) const PASSWORDS_MAX: usize = 100;

/// A user to take over.
pub(crate) struct Newcomer<'a> {
    /// On the wire.
    pub(crate) name: &'a str,
    pub(crate) password: Password<'a>,
}

/// What it logs in with here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Password<'a> {
    /// It logs in at the platform.
    None,
    Plain(&'a str),
    /// As the platform kept it: a PHC string of argon2.
    Hash(&'a str),
}

/// A user that was asked for: its id, and whether it was made now.
pub(crate) type Taken = (i64, bool);

impl Accounts {
    /// Takes users over, once for each key; `answer` is what goes out for them, now and at every
    /// repeat. `asked` is the request, for the key.
    pub(crate) async fn take_over(
        &self,
        newcomers: &[Newcomer<'_>],
        answer: impl Fn(&[Taken]) -> Kept + Send + Sync + 'static,
        once: Option<Use>,
    ) -> Result<Kept, Fault> {
        let created_ms = self.store.now_ms();
        let mut new = Vec::with_capacity(newcomers.len());
        for (at, newcomer) in newcomers.iter().enumerate() {
            let hash = self.check_newcomer(newcomer).await.map_err(|fault| placed(at, fault))?;
            let (issuer, name) = names::split(newcomer.name);
            new.push(NewUser {
                id: random_id(),
                issuer: issuer.to_owned(),
                name: name.to_owned(),
                password_hash: hash,
                created_ms,
            });
        }
        self.check_none_erased(newcomers).await?;
        match rows::take_over(&self.store, new, answer, once).await {
            Err(StoreError::Refused(Code::Conflict)) => {
                let text = "this Idempotency-Key came with another body before, or a user of the \
                            list was erased meanwhile";
                Err(Fault::refused(Code::Conflict, text))
            }
            done => Ok(done?),
        }
    }

    /// A hash of a request that may hold passwords: made by the node's key where there is one, so
    /// that no copy of the store can try passwords out at the price of a plain hash.
    pub(crate) fn hash_of(&self, asked: &[u8]) -> Result<String, Fault> {
        let hash = match &self.key {
            Some(key) => key.derive("idempotency", asked).map_err(StoreError::Corrupt)?,
            None => Sha256::digest(asked).into(),
        };
        Ok(hash.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The hash to write, where the newcomer has a password.
    async fn check_newcomer(&self, newcomer: &Newcomer<'_>) -> Result<Option<String>, Fault> {
        let (issuer, name) = names::split(newcomer.name);
        check_name(name)?;
        if issuer == LOCAL {
            check_unlike_guest(name)?;
        }
        if issuer == ERASED {
            let text = "what ends in @erased is a user that was erased";
            return Err(Fault::refused(Code::BadRequest, text));
        }
        if newcomer.password == Password::None {
            return Ok(None);
        }
        self.key()?;
        check_local(newcomer.name)?;
        match newcomer.password {
            Password::None => Ok(None),
            Password::Plain(password) => {
                check_password(password)?;
                Ok(Some(self.passwords.hash_in_turn(password).await?))
            }
            Password::Hash(hash) => {
                check_hash(hash).map_err(|text| Fault::refused(Code::BadRequest, text))?;
                Ok(Some(hash.to_owned()))
            }
        }
    }

    async fn check_none_erased(&self, newcomers: &[Newcomer<'_>]) -> Result<(), Fault> {
        let mut conn = self.store.reader().await?;
        for (at, Newcomer { name, .. }) in newcomers.iter().enumerate() {
            if users::find_erased(&mut conn, name).await?.is_some() {
                let text = "this user was erased; the name is nobody's any more";
                return Err(placed(at, Fault::refused(Code::Conflict, text)));
            }
        }
        Ok(())
    }
}

/// A refusal with its place in the list.
fn placed(at: usize, fault: Fault) -> Fault {
    match fault {
        Fault::Refused(refusal) => {
            Fault::refused(refusal.code, format!("users[{at}]: {}", refusal.text))
        }
        Fault::Store(error) => Fault::Store(error),
    }
}
