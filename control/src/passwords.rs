//! Password hashes: argon2id, off the async threads, a few at a time.
//!
//! Owns the cost of a hash and the bound on how many are computed and wait. Knows no user.

use crate::fault::Fault;
use crate::store::StoreError;
use argon2::password_hash::PasswordHasher;
use argon2::{Algorithm, Argon2, Params, PasswordHash, PasswordVerifier, Version};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uproar_proto::error::Code;

/// Hashes that may wait for their turn. Reached: `SLOW_DOWN`, at once.
const WAITING_MAX: usize = 64;
/// What a caller waits who found the queue full.
const QUEUE_RETRY_MS: u32 = 1_000;
/// Passes over the memory (OWASP's choice for 19 MiB).
const PASSES: u32 = 2;
/// Bytes of salt (RFC 9106, 3.1).
const SALT_BYTES: usize = 16;

/// The most memory (KiB) and passes of a hash that comes from elsewhere: each log-in pays for it.
const FOREIGN_MEMORY_KIB_MAX: u32 = 1 << 18;
const FOREIGN_PASSES_MAX: u32 = 16;
const FOREIGN_LANES_MAX: u32 = 16;
/// The longest one, in bytes: what its column holds.
const FOREIGN_BYTES_MAX: usize = 255;

/// A place among those that wait.
type Place = OwnedSemaphorePermit;

/// Whether a hash that was made elsewhere can be verified here: a PHC string of argon2.
///
/// # Errors
/// What is wrong, and what is allowed; never shows the hash.
pub(crate) fn check_hash(hash: &str) -> Result<(), String> {
    let form = "password_hash is not a PHC string of argon2, as in $argon2id$v=19$m=19456,t=2,p=1$\
                SALT$HASH";
    if hash.len() > FOREIGN_BYTES_MAX {
        let many = hash.len();
        return Err(format!("password_hash has {many} bytes; allowed are {FOREIGN_BYTES_MAX}"));
    }
    let hash = PasswordHash::new(hash).map_err(|_| form)?;
    let is_whole = hash.salt.is_some() && hash.hash.is_some();
    if !is_whole || Algorithm::try_from(hash.algorithm.as_str()).is_err() {
        return Err(form.into());
    }
    let params = Params::try_from(&hash).map_err(|_| form)?;
    for (name, value, max) in [
        ("m", params.m_cost(), FOREIGN_MEMORY_KIB_MAX),
        ("t", params.t_cost(), FOREIGN_PASSES_MAX),
        ("p", params.p_cost(), FOREIGN_LANES_MAX),
    ] {
        if value > max {
            return Err(format!("{name} of password_hash is {value}; allowed is up to {max}"));
        }
    }
    Ok(())
}

/// Hashes and verifies passwords.
pub(crate) struct Passwords {
    argon2: Argon2<'static>,
    queue: Arc<Semaphore>,
    turns: Arc<Semaphore>,
}

impl Passwords {
    /// `memory_kib` a hash, `at_once` hashes at a time.
    pub(crate) fn new(memory_kib: u32, at_once: u32) -> Result<Passwords, String> {
        let params = Params::new(memory_kib, PASSES, 1, None)
            .map_err(|e| format!("hash_memory_kib is {memory_kib}: {e}"))?;
        Ok(Passwords {
            argon2: Argon2::new(Algorithm::Argon2id, Version::V0x13, params),
            queue: Arc::new(Semaphore::new(WAITING_MAX + at_once as usize)),
            turns: Arc::new(Semaphore::new(at_once as usize)),
        })
    }

    /// The hash of a new password, with a salt of its own.
    pub(crate) async fn hash(&self, password: &str) -> Result<String, Fault> {
        let place = self.place()?;
        self.hash_at(Some(place), password).await
    }

    /// The same for an operator, who waits however many wait: there are few of them.
    pub(crate) async fn hash_in_turn(&self, password: &str) -> Result<String, Fault> {
        self.hash_at(None, password).await
    }

    async fn hash_at(&self, place: Option<Place>, password: &str) -> Result<String, Fault> {
        let argon2 = self.argon2.clone();
        let password = password.to_owned();
        let hash = self.run(place, move || {
            let mut salt = [0; SALT_BYTES];
            getrandom::fill(&mut salt).map_err(|e| e.to_string())?;
            let hash = argon2.hash_password_with_salt(password.as_bytes(), &salt);
            hash.map(|hash| hash.to_string()).map_err(|e| e.to_string())
        });
        hash.await?.map_err(|e| StoreError::Corrupt(format!("no password hash: {e}")).into())
    }

    /// Whether `password` is the one of `hash`. Takes the same time where there is no hash.
    pub(crate) async fn verify(&self, password: &str, hash: Option<&str>) -> Result<bool, Fault> {
        let argon2 = self.argon2.clone();
        let password = password.to_owned();
        let hash = hash.map(str::to_owned);
        self.run(Some(self.place()?), move || {
            let password = password.as_bytes();
            match hash.as_deref().map(PasswordHash::new) {
                Some(Ok(hash)) => argon2.verify_password(password, &hash).is_ok(),
                Some(Err(_)) | None => {
                    // As much work, for nothing: the time must not tell who has an account.
                    let _ = argon2.hash_password_with_salt(password, &[0; SALT_BYTES]);
                    false
                }
            }
        })
        .await
    }

    fn place(&self) -> Result<Place, Fault> {
        let place = Arc::clone(&self.queue).try_acquire_owned();
        place.map_err(|_| Fault::slow_down(QUEUE_RETRY_MS))
    }

    async fn run<T: Send + 'static>(
        &self,
        place: Option<Place>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let turn = turn.map_err(|_| Fault::from(Code::Internal))?;
        // The permits go along: a caller that gives up leaves work that still counts.
        let done = tokio::task::spawn_blocking(move || {
            let answer = work();
            drop((place, turn));
            answer
        });
        done.await.map_err(|_| Fault::from(Code::Internal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_verifies_with_its_hash_and_no_other() {
        let passwords = Passwords::new(64, 1).unwrap();
        let hash = passwords.hash("correct horse").await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=64,t=2,p=1$"), "{hash}");
        assert_ne!(passwords.hash("correct horse").await.unwrap(), hash, "each has its own salt");
        assert!(passwords.verify("correct horse", Some(&hash)).await.unwrap());
        assert!(!passwords.verify("correct horse ", Some(&hash)).await.unwrap());
        assert!(!passwords.verify("correct horse", None).await.unwrap());
        assert!(!passwords.verify("correct horse", Some("no hash")).await.unwrap());
    }

    #[tokio::test]
    async fn a_hash_of_another_cost_still_verifies() {
        let hash = Passwords::new(128, 1).unwrap().hash("correct horse").await.unwrap();
        assert!(Passwords::new(64, 1).unwrap().verify("correct horse", Some(&hash)).await.unwrap());
    }

    #[tokio::test]
    async fn more_than_may_wait_are_told_to_slow_down() {
        let passwords = Passwords::new(64, 1).unwrap();
        let all = u32::try_from(WAITING_MAX + 1).unwrap();
        let places = Arc::clone(&passwords.queue).acquire_many_owned(all).await.unwrap();
        let refused = passwords.hash("correct horse").await.unwrap_err();
        assert_eq!(refused.code(), Some(Code::SlowDown));
        drop(places);
        passwords.hash("correct horse").await.unwrap();
    }

    #[test]
    fn a_hash_from_elsewhere_is_one_that_can_be_verified_at_a_bearable_cost() {
        let good = "$argon2id$v=19$m=65536,t=3,p=4$c2FsdHNhbHQ$\
                    RdescudvJCsgt3ub+b/dWRWJTmaaJObGRdescudvJCs";
        check_hash(good).unwrap();
        for (bad, what) in [
            (good.replace("m=65536", "m=4194304"), "m of password_hash is 4194304"),
            (good.replace("t=3", "t=17"), "t of password_hash is 17"),
            (good.replace("$argon2id", "$scrypt"), "PHC string"),
            (good.rsplit_once('$').unwrap().0.to_owned(), "PHC string"),
            ("$2b$12$abcdefghijklmnopqrstuv".to_owned(), "PHC string"),
            (String::new(), "PHC string"),
            ("x".repeat(256), "256 bytes"),
        ] {
            let error = check_hash(&bad).unwrap_err();
            assert!(error.contains(what), "{bad}: {error}");
        }
    }

    #[test]
    fn a_cost_that_cannot_be_is_refused() {
        assert!(Passwords::new(0, 1).is_err());
    }
}
