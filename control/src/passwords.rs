//! Password hashes: argon2id, off the async threads, a few at a time.
//!
//! Owns the cost of a hash and the bound on how many are computed and wait. Knows no user.

use crate::fault::Fault;
use crate::store::StoreError;
use argon2::password_hash::PasswordHasher;
use argon2::{Algorithm, Argon2, Params, PasswordHash, PasswordVerifier, Version};
use std::sync::Arc;
use tokio::sync::Semaphore;
use uproar_proto::error::Code;

/// Hashes that may wait for their turn. Reached: `SLOW_DOWN`, at once.
const WAITING_MAX: usize = 64;
/// What a caller waits who found the queue full.
const QUEUE_RETRY_MS: u32 = 1_000;
/// Passes over the memory (OWASP's choice for 19 MiB).
const PASSES: u32 = 2;
/// Bytes of salt (RFC 9106, 3.1).
const SALT_BYTES: usize = 16;

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
        let argon2 = self.argon2.clone();
        let password = password.to_owned();
        let hash = self.run(move || {
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
        self.run(move || {
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

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let place = Arc::clone(&self.queue).try_acquire_owned();
        let place = place.map_err(|_| Fault::slow_down(QUEUE_RETRY_MS))?;
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
    fn a_cost_that_cannot_be_is_refused() {
        assert!(Passwords::new(0, 1).is_err());
    }
}
