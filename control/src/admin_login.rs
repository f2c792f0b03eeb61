//! The operator's password, and who is logged in by it.
//!
//! Owns the file with the password's hash and the sessions, which are in memory: after a restart an
//! operator logs in again. Knows no request and no cookie.

use crate::config::AdminConfig;
use crate::fault::Fault;
use crate::limits::Limits;
use crate::passwords::Passwords;
use crate::paths::with_ending;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use uproar_proto::error::Code;

/// Sessions at once. More: the one that ends first ends now.
const SESSIONS_MAX: usize = 64;
/// Attempts of one address at once, then one in ten seconds. Reached: `SLOW_DOWN`.
const ATTEMPTS: u32 = 5;
const ATTEMPT_EVERY_MS: u32 = 10_000;
/// Memory of a hash (OWASP's choice for argon2id with two passes), and hashes at once.
const HASH_MEMORY_KIB: u32 = 19_456;
const HASHES_AT_ONCE: u32 = 1;
/// Random bytes of a password, and of what names a session: nobody guesses either.
const PASSWORD_BYTES: usize = 15;
const SESSION_BYTES: usize = 32;

/// What is kept of a session's name: who reads memory or a core file cannot use it.
type Kept = [u8; 32];

/// See the module.
pub struct AdminLogin {
    hash: String,
    passwords: Passwords,
    attempts: Limits,
    life_ms: i64,
    /// When each one ends.
    sessions: Mutex<HashMap<Kept, i64>>,
}

impl AdminLogin {
    /// Reads the file, or makes it with a new password, which is given back to be shown. `None`:
    /// nobody is to log in.
    ///
    /// # Errors
    /// In words for the operator: the file cannot be read or made, or holds no hash.
    pub async fn open(
        config: &AdminConfig,
    ) -> Result<Option<(AdminLogin, Option<String>)>, String> {
        let file = &config.password_file;
        if file.as_os_str().is_empty() {
            return Ok(None);
        }
        let passwords = Passwords::new(HASH_MEMORY_KIB, HASHES_AT_ONCE)?;
        let told =
            |e: &dyn std::fmt::Display| format!("admin.password_file {}: {e}", file.display());
        let mut fresh = None;
        if !file.exists() {
            let password = random::<PASSWORD_BYTES>().map_err(|e| told(&e))?;
            let hash = passwords.hash_in_turn(&password).await;
            let hash = hash.map_err(|_| told(&"the password could not be hashed"))?;
            // Whoever starts at the same moment may have been first: then that one's counts.
            fresh = write(file, &hash).map_err(|e| told(&e))?.then_some(password);
        }
        let hash = std::fs::read_to_string(file).map_err(|e| told(&e))?.trim().to_owned();
        crate::passwords::check_hash(&hash).map_err(|_| {
            told(&"it holds no hash of a password; remove it, and the next start makes one")
        })?;
        let attempts = Limits::new(ATTEMPTS, ATTEMPT_EVERY_MS);
        let life_ms = i64::from(config.session_s) * 1_000;
        let sessions = Mutex::default();
        Ok(Some((AdminLogin { hash, passwords, attempts, life_ms, sessions }, fresh)))
    }

    /// Opens a session: what names it, and for how many milliseconds it lasts.
    pub(crate) async fn log_in(
        &self,
        password: &str,
        from: IpAddr,
        now_ms: i64,
    ) -> Result<(String, i64), Fault> {
        self.attempts.take(from, now_ms).map_err(Fault::slow_down)?;
        if !self.passwords.verify(password, Some(&self.hash)).await? {
            return Err(Fault::refused(Code::TokenInvalid, "this is not the operator's password"));
        }
        let name = random::<SESSION_BYTES>().map_err(|_| Fault::from(Code::Internal))?;
        let mut sessions = self.sessions();
        sessions.retain(|_, ends_ms| *ends_ms > now_ms);
        if sessions.len() >= SESSIONS_MAX
            && let Some(first) =
                sessions.iter().min_by_key(|(_, ends)| **ends).map(|(kept, _)| *kept)
        {
            sessions.remove(&first);
        }
        sessions.insert(kept(&name), now_ms + self.life_ms);
        Ok((name, self.life_ms))
    }

    /// Whether a session of that name is open.
    pub(crate) fn is_open(&self, name: &str, now_ms: i64) -> bool {
        self.sessions().get(&kept(name)).is_some_and(|ends_ms| *ends_ms > now_ms)
    }

    /// Ends a session.
    pub(crate) fn log_out(&self, name: &str) {
        self.sessions().remove(&kept(name));
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<Kept, i64>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn kept(name: &str) -> Kept {
    Sha256::digest(name).into()
}

fn random<const BYTES: usize>() -> Result<String, String> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(|e| e.to_string())?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// On the disk before the password is shown; nobody else's to read. It is there whole or not at
/// all; `false`: another one was there first.
fn write(file: &Path, hash: &str) -> std::io::Result<bool> {
    let beside = with_ending(file, &format!(".{}", std::process::id()));
    let mut made =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    writeln!(made, "{hash}")?;
    made.sync_all()?;
    let linked = std::fs::hard_link(&beside, file);
    std::fs::remove_file(&beside)?;
    match linked {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn config() -> AdminConfig {
        let name = format!("uproar-admin-{}", crate::ids::random_id());
        AdminConfig { password_file: std::env::temp_dir().join(name), session_s: 60 }
    }

    fn run<T>(what: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(what)
    }

    #[test]
    fn the_password_is_shown_once_and_opens_sessions_that_end() {
        let config = config();
        run(async {
            let (login, password) = AdminLogin::open(&config).await.unwrap().unwrap();
            let password = password.unwrap();
            let (first, life_ms) = login.log_in(&password, NOBODY, 0).await.unwrap();
            assert_eq!(life_ms, 60_000);
            assert!(login.is_open(&first, 59_999) && !login.is_open(&first, 60_000));
            assert!(!login.is_open("", 0) && !login.is_open("other", 0));
            login.log_out(&first);
            assert!(!login.is_open(&first, 1));
            let wrong = login.log_in("wrong", NOBODY, 0).await.unwrap_err();
            assert_eq!(wrong.code(), Some(Code::TokenInvalid));
            assert!(!write(&config.password_file, "another").unwrap(), "the first one counts");
            let (again, shown) = AdminLogin::open(&config).await.unwrap().unwrap();
            assert_eq!(shown, None);
            again.log_in(&password, NOBODY, 0).await.unwrap();
        });
        std::fs::remove_file(&config.password_file).unwrap();
    }

    #[test]
    fn guesses_are_slowed_down_and_sessions_are_bounded() {
        let config = config();
        run(async {
            let (login, password) = AdminLogin::open(&config).await.unwrap().unwrap();
            for _ in 0..ATTEMPTS {
                login.log_in("guess", NOBODY, 0).await.unwrap_err();
            }
            let refused = login.log_in("guess", NOBODY, 0).await.unwrap_err();
            assert_eq!(refused.code(), Some(Code::SlowDown));
            // Elsewhere nobody waits for that.
            let other = IpAddr::from([10, 0, 0, 1]);
            let password = password.unwrap();
            login.log_in(&password, other, 0).await.unwrap();
            for session in 0..SESSIONS_MAX as i64 {
                login.sessions().insert([session as u8; 32], 1_000 + session);
            }
            login.log_in(&password, other, 1).await.unwrap();
            assert!(login.sessions().len() <= SESSIONS_MAX + 1);
            assert!(!login.sessions().contains_key(&[0; 32]), "the first to end has ended");
        });
        std::fs::remove_file(&config.password_file).unwrap();
    }

    #[test]
    fn a_file_that_is_none_is_told() {
        let config = config();
        std::fs::write(&config.password_file, "secret\n").unwrap();
        let told = run(AdminLogin::open(&config)).err().unwrap();
        assert!(told.contains("it holds no hash"), "{told}");
        std::fs::remove_file(&config.password_file).unwrap();
        let nowhere = AdminConfig { password_file: "/nowhere/x".into(), session_s: 60 };
        let told = run(AdminLogin::open(&nowhere)).err().unwrap();
        assert!(told.starts_with("admin.password_file /nowhere/x"), "{told}");
        let none = AdminConfig { password_file: "".into(), session_s: 60 };
        assert!(run(AdminLogin::open(&none)).unwrap().is_none());
    }
}
