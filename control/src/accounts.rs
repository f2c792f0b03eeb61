//! Accounts and sessions: who may register, log in, stay logged in, and be ended.
//!
//! Owns the rules. Reads no clock: `now_ms` comes in, by which attempts and expiry are judged; the
//! moment a user is made is the store's, which never goes back. A session is one log-in on one
//! device: an access token of minutes, and a refresh token that is replaced at every use. What ends
//! comes back as [`Revoked`], for whoever closes the connections.

pub(crate) mod platform;

use crate::fault::Fault;
use crate::following::Following;
use crate::ids::random_id;
use crate::limits::Limits;
use crate::passwords::Passwords;
use crate::refresh::RefreshToken;
use crate::store::accounts::{self as rows, NewUser, Opened, Presented, Session, Turn};
use crate::store::bans::{self, Ban};
use crate::store::idempotency::{Kept, Use};
use crate::store::{Store, StoreError};
use crate::tokens::{AccessClaims, SigningKey};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;
use uproar_proto::control::Sample;
use uproar_proto::error::Code;
use uproar_proto::issuers::Issuers;
use uproar_proto::names::{self, GUEST, LOCAL, is_hidden};
use uproar_proto::token::{Claims, USER_BYTES_MAX};

/// A refresh token whose answer was lost may be presented again for this long.
const LOST_ANSWER_MS: i64 = 60_000;
/// The shortest password, in bytes.
const PASSWORD_BYTES_MIN: usize = 8;
/// The longest: hashing reads all of it.
const PASSWORD_BYTES_MAX: usize = 256;
/// The longest name of a device, in bytes.
const DEVICE_BYTES_MAX: usize = 64;

/// The longest reason of a ban, in bytes.
const BAN_REASON_BYTES_MAX: usize = 256;

/// Section `[accounts]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccountSettings {
    /// Whether everybody may make an account; false: 403. Where a platform mints tokens for its own
    /// users it stays false: a stranger could take a name before its owner came.
    pub registration_open: bool,
    /// The life of an access token, in seconds.
    pub access_ttl_s: u32,
    /// The life of a session that is not used, in seconds.
    pub refresh_ttl_s: u32,
    /// Sessions of one user. Reached: the longest unused one ends.
    pub sessions_max: u32,
    /// Memory of one password hash, in KiB (argon2id, two passes).
    pub hash_memory_kib: u32,
    /// Password hashes computed at once; 64 more wait, others get `SLOW_DOWN`.
    pub hashes_at_once: u32,
    /// Attempts of one address at once; one more each second. Reached: `SLOW_DOWN`.
    pub address_burst: u32,
    /// Attempts on one account at once; one more every ten seconds. Reached: `SLOW_DOWN`.
    pub account_burst: u32,
    /// Addresses of proxies whose `X-Forwarded-For` tells the caller's address.
    pub trusted_proxies: Vec<IpAddr>,
}

impl Default for AccountSettings {
    fn default() -> AccountSettings {
        AccountSettings {
            registration_open: false,
            access_ttl_s: 15 * 60,
            refresh_ttl_s: 30 * 86_400,
            sessions_max: 32,
            hash_memory_kib: 19_456,
            hashes_at_once: 2,
            address_burst: 60,
            account_burst: 10,
            trusted_proxies: Vec::new(),
        }
    }
}

impl AccountSettings {
    /// The first rule the settings break, in words: which key, what it is, what is allowed.
    ///
    /// # Errors
    /// The sentence to show.
    pub fn check(&self) -> Result<(), String> {
        let ranges = [
            ("access_ttl_s", self.access_ttl_s, 10, 86_400),
            ("refresh_ttl_s", self.refresh_ttl_s, 60, 365 * 86_400),
            ("sessions_max", self.sessions_max, 1, 1_000),
            ("hash_memory_kib", self.hash_memory_kib, 64, 1 << 20),
            ("hashes_at_once", self.hashes_at_once, 1, 256),
            ("address_burst", self.address_burst, 1, 1_000_000),
            ("account_burst", self.account_burst, 1, 1_000_000),
        ];
        for (name, value, min, max) in ranges {
            if value < min || value > max {
                return Err(format!("{name} is {value}; allowed is {min} to {max}"));
            }
        }
        if self.refresh_ttl_s <= self.access_ttl_s {
            return Err(format!(
                "refresh_ttl_s is {}; it must be above access_ttl_s ({})",
                self.refresh_ttl_s, self.access_ttl_s
            ));
        }
        Ok(())
    }
}

/// Milliseconds between two attempts of one address, once its burst is used up.
const ADDRESS_EVERY_MS: u32 = 1_000;
/// Milliseconds between two attempts on one account: 8,640 a day.
const ACCOUNT_EVERY_MS: u32 = 10_000;

/// What ended, and with it every connection that came by it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "connections of what was revoked are to be closed"]
pub(crate) enum Revoked {
    /// One session, by its id.
    Session(i64),
    /// All sessions of a user, by name.
    User(String),
}

/// Who calls, by an access token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) user: i64,
    pub(crate) name: String,
    /// `None`: a platform's own user, whose log-ins are the platform's.
    pub(crate) session: Option<i64>,
    /// The device that the session was opened on, by the name it gave; empty: it gave none.
    pub(crate) device: String,
}

/// What a log-in or a refresh gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub(crate) user: i64,
    pub(crate) name: String,
    pub(crate) session: i64,
    pub(crate) access: String,
    pub(crate) access_expires_ms: i64,
    pub(crate) refresh: String,
    pub(crate) refresh_expires_ms: i64,
}

/// What became of a refresh token that this node made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refreshed {
    Tokens(Tokens),
    /// It had been used before: somebody has a copy, so the session ended.
    Reused(Revoked),
}

/// An account, as it was asked for.
pub(crate) struct Register<'a> {
    pub(crate) name: &'a str,
    pub(crate) password: &'a str,
    pub(crate) from: IpAddr,
    /// The caller's idempotency key.
    pub(crate) key: Option<String>,
}

/// A log-in, as it was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogIn<'a> {
    pub(crate) name: &'a str,
    pub(crate) password: &'a str,
    /// For the list of devices; may be empty.
    pub(crate) device: &'a str,
    pub(crate) from: IpAddr,
}

/// The rules, over one store and one signing key.
pub(crate) struct Accounts {
    store: Arc<Store>,
    /// `None`: users come with tokens of other issuers alone, and nobody logs in here.
    key: Option<SigningKey>,
    issuers: Arc<Issuers>,
    passwords: Passwords,
    by_address: Limits,
    by_account: Limits,
    following: Following,
    settings: AccountSettings,
}

impl Accounts {
    /// # Errors
    /// Which setting cannot be.
    pub(crate) fn new(
        store: Arc<Store>,
        key: Option<SigningKey>,
        issuers: Arc<Issuers>,
        settings: AccountSettings,
    ) -> Result<Accounts, String> {
        settings.check()?;
        Ok(Accounts {
            store,
            key,
            issuers,
            passwords: Passwords::new(settings.hash_memory_kib, settings.hashes_at_once)?,
            by_address: Limits::new(settings.address_burst, ADDRESS_EVERY_MS),
            by_account: Limits::new(settings.account_burst, ACCOUNT_EVERY_MS),
            following: Following::default(),
            settings,
        })
    }

    /// Bans a user: its sessions end, and it comes in no more. Its connections are the caller's to
    /// close.
    pub(crate) async fn ban(&self, user: i64, until_ms: i64, reason: &str) -> Result<Ban, Fault> {
        if reason.len() > BAN_REASON_BYTES_MAX {
            let many = reason.len();
            let text = format!("reason has {many} bytes; allowed are 0 to {BAN_REASON_BYTES_MAX}");
            return Err(Fault::refused(Code::BadRequest, text));
        }
        let (reason, made_ms) = (reason.to_owned(), self.store.now_ms());
        let ban = Ban { user, until_ms, reason, made_ms };
        rows::ban(&self.store, ban.clone()).await?;
        Ok(ban)
    }

    /// The store the rules work on.
    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Figures for `/metrics`.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        self.following.samples()
    }

    fn key(&self) -> Result<&SigningKey, Fault> {
        let text = "nobody logs in here: no key that signs tokens is set";
        self.key.as_ref().ok_or_else(|| Fault::refused(Code::Forbidden, text))
    }

    /// Makes an account, once for each key; `answer` is what goes out for the id that it gets, now
    /// and at every repeat.
    pub(crate) async fn register_once(
        &self,
        ask: Register<'_>,
        answer: impl FnOnce(i64) -> Kept,
        now_ms: i64,
    ) -> Result<Kept, Fault> {
        if !self.settings.registration_open {
            let text = "accounts are not made here: accounts.registration_open is false";
            return Err(Fault::refused(Code::Forbidden, text));
        }
        let Register { name, password, from, key } = ask;
        self.key()?;
        check_name(name)?;
        check_local(name)?;
        check_unlike_system(name)?;
        check_password(password)?;
        self.take_address(from, now_ms)?;
        let user = NewUser {
            id: random_id(),
            issuer: LOCAL.to_owned(),
            name: name.to_owned(),
            password_hash: Some(self.passwords.hash(password).await?),
            created_ms: self.store.now_ms(),
        };
        let kept = answer(user.id);
        let body_hash = self.hash_of(&[name.as_bytes(), b"\0", password.as_bytes()].concat())?;
        let once = key.map(|key| Use {
            caller: network(from).to_string(),
            route: "POST /v1/accounts",
            key,
            body_hash,
            now_ms: self.store.now_ms(),
        });
        match rows::insert_once(&self.store, user, kept, once).await {
            Ok(Some(kept)) => Ok(kept),
            Ok(None) => {
                Err(Fault::refused(Code::AlreadyExists, "there is an account of this name already"))
            }
            Err(StoreError::Refused(Code::Conflict)) => {
                let text = "this Idempotency-Key came with another body before";
                Err(Fault::refused(Code::Conflict, text))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a session, and ends the longest unused ones beyond the bound.
    pub(crate) async fn log_in(
        &self,
        ask: LogIn<'_>,
        now_ms: i64,
    ) -> Result<(Tokens, Vec<Revoked>), Fault> {
        self.key()?;
        check_name(ask.name)?;
        check_device(ask.device)?;
        self.take_address(ask.from, now_ms)?;
        self.take_account(ask.name, now_ms)?;
        let user = rows::find(&self.store, LOCAL, ask.name).await?;
        let hash = user.as_ref().and_then(|user| user.password_hash.as_deref());
        // What no password can be is not hashed; the empty one is nobody's.
        let password = if is_possible(ask.password) { ask.password } else { "" };
        // Also where there is no such user, so that the time does not tell.
        let matches = self.passwords.verify(password, hash).await?;
        let Some((user, hash)) = user.as_ref().zip(hash).filter(|_| matches) else {
            return Err(Code::WrongPassword.into());
        };
        let token = RefreshToken::first(user.id, random_id());
        let session = Session {
            user: user.id,
            id: token.session,
            device: ask.device.to_owned(),
            turn: token.turn,
            token_hash: token.hash(),
            turned_ms: now_ms,
            created_ms: now_ms,
            expires_ms: self.refresh_expires_ms(now_ms),
        };
        let follows = self.following.claim(&self.store, user.id, now_ms).await?;
        let claims = Claims { sub: user.name.clone(), follows, ..Claims::default() };
        let tokens = self.tokens(claims, &token, session.expires_ms, now_ms)?;
        let sessions_max = self.settings.sessions_max as usize;
        let opened = rows::open_session(&self.store, session, hash.to_owned(), sessions_max);
        match opened.await? {
            Opened::Ended(ended) => Ok((tokens, ended.into_iter().map(Revoked::Session).collect())),
            // Since it was read: what was typed is the password no more.
            Opened::Changed => Err(Code::WrongPassword.into()),
            Opened::Banned => Err(Code::Banned.into()),
        }
    }

    /// The device of the session that a refresh token is of; `None`: it has ended.
    pub(crate) async fn device_of(&self, token: &str) -> Result<Option<String>, Fault> {
        let token = RefreshToken::parse(self.key()?, token)?;
        let session = rows::session(&self.store, token.user, token.session).await?;
        Ok(session.map(|(_, device)| device))
    }

    /// Replaces a refresh token and gives a new access token.
    pub(crate) async fn refresh(&self, token: &str, now_ms: i64) -> Result<Refreshed, Fault> {
        let token = RefreshToken::parse(self.key()?, token)?;
        let next = token.successor(self.key()?)?;
        let user = rows::user(&self.store, token.user).await?.ok_or(Code::SessionRevoked)?;
        // Before the token is used up: where the store fails here, it is good as it was.
        let follows = self.following.claim(&self.store, user.id, now_ms).await?;
        let claims = Claims { sub: user.name, follows, ..Claims::default() };
        let expires_ms = self.refresh_expires_ms(now_ms);
        let presented = Presented {
            user: token.user,
            session: token.session,
            turn: token.turn,
            hash: token.hash(),
            successor_hash: next.hash(),
            now_ms,
            expires_ms,
        };
        match rows::turn(&self.store, presented, turn_of).await? {
            Turn::Next | Turn::Again => {
                let tokens = self.tokens(claims, &next, expires_ms, now_ms)?;
                Ok(Refreshed::Tokens(tokens))
            }
            Turn::Reused => Ok(Refreshed::Reused(Revoked::Session(token.session))),
            Turn::Ended => Err(Code::SessionRevoked.into()),
        }
    }

    /// Who calls with this access token. A platform's own user is made at first sight.
    pub(crate) async fn caller(&self, token: &str, now_ms: i64) -> Result<Caller, Fault> {
        let access = match self.issuers.verify(token) {
            Some(claims) => AccessClaims { claims: claims?, uid: None },
            None => self.verify_own(token).ok_or(Code::TokenInvalid)?,
        };
        let not_before_ms = access.claims.nbf.unwrap_or(0).saturating_mul(1000);
        if not_before_ms > u64::try_from(now_ms).unwrap_or(0) {
            return Err(Code::TokenInvalid.into());
        }
        let name = access.claims.sub;
        let expires_ms = i64::try_from(access.claims.exp).unwrap_or(i64::MAX).saturating_mul(1000);
        if expires_ms <= now_ms {
            return Err(Code::TokenExpired.into());
        }
        let number = |text: Option<String>| text.and_then(|text| text.parse::<i64>().ok());
        match (number(access.uid), number(access.claims.sid)) {
            (Some(user), Some(session)) => {
                let open = rows::session(&self.store, user, session).await?;
                let open = open.filter(|(expires_ms, _)| *expires_ms > now_ms);
                let (_, device) = open.ok_or(Code::SessionRevoked)?;
                Ok(Caller { user, name, session: Some(session), device })
            }
            (None, None) => {
                let user = self.first_sight(&name).await?;
                let mut conn = self.store.reader().await?;
                if bans::find(&mut conn, user, now_ms).await?.is_some() {
                    return Err(Code::Banned.into());
                }
                Ok(Caller { user, name, session: None, device: String::new() })
            }
            _ => Err(Code::TokenInvalid.into()),
        }
    }

    /// A key of this node speaks for no user of another issuer.
    fn verify_own(&self, token: &str) -> Option<AccessClaims> {
        let access = self.key.as_ref()?.verify::<AccessClaims>(token)?;
        names::is_local(&access.claims.sub).then_some(access)
    }

    async fn first_sight(&self, wire: &str) -> Result<i64, Fault> {
        let (issuer, name) = names::split(wire);
        if let Some(user) = rows::find(&self.store, issuer, name).await? {
            return Ok(user.id);
        }
        check_name(name)?;
        let (issuer, name) = (issuer.to_owned(), name.to_owned());
        let id = random_id();
        let user =
            NewUser { id, issuer, name, password_hash: None, created_ms: self.store.now_ms() };
        let id = rows::insert(&self.store, user).await?;
        match rows::user(&self.store, id).await? {
            Some(user) => Ok(user.id),
            None => Err(Fault::refused(Code::TokenInvalid, "this user was erased")),
        }
    }

    /// Ends one session of the caller.
    pub(crate) async fn log_out(&self, who: &Caller, session: i64) -> Result<Vec<Revoked>, Fault> {
        let ended = rows::end_session(&self.store, who.user, session).await?;
        Ok(ended.then_some(Revoked::Session(session)).into_iter().collect())
    }

    /// Ends every session of the caller, this one included.
    pub(crate) async fn log_out_everywhere(&self, who: &Caller) -> Result<Vec<Revoked>, Fault> {
        rows::end_sessions(&self.store, who.user, None).await?;
        Ok(vec![Revoked::User(who.name.clone())])
    }

    /// The caller's sessions, newest use first.
    pub(crate) async fn devices(&self, who: &Caller, now_ms: i64) -> Result<Vec<Session>, Fault> {
        let mut sessions = rows::sessions(&self.store, who.user).await?;
        sessions.retain(|session| session.expires_ms > now_ms);
        sessions.sort_by_key(|session| std::cmp::Reverse(session.turned_ms));
        Ok(sessions)
    }

    /// Sets a new password and ends the caller's other sessions.
    pub(crate) async fn change_password(
        &self,
        who: &Caller,
        old: &str,
        new: &str,
        now_ms: i64,
    ) -> Result<Vec<Revoked>, Fault> {
        check_password(new)?;
        self.take_account(&who.name, now_ms)?;
        let user = rows::user(&self.store, who.user).await?.ok_or(Code::SessionRevoked)?;
        let Some(old_hash) = user.password_hash else {
            let text = "this user has no password here; the platform that minted the token has it";
            return Err(Fault::refused(Code::Forbidden, text));
        };
        if !is_possible(old) || !self.passwords.verify(old, Some(&old_hash)).await? {
            return Err(Code::WrongPassword.into());
        }
        let new_hash = self.passwords.hash(new).await?;
        let kept = who.session;
        let changed =
            rows::change_password(&self.store, who.user, kept, old_hash, new_hash).await?;
        let ended = changed.ok_or(Code::WrongPassword)?;
        Ok(ended.into_iter().map(Revoked::Session).collect())
    }

    fn tokens(
        &self,
        claims: Claims,
        refresh: &RefreshToken,
        refresh_expires_ms: i64,
        now_ms: i64,
    ) -> Result<Tokens, Fault> {
        let exp = now_ms / 1000 + i64::from(self.settings.access_ttl_s);
        let access = AccessClaims {
            claims: Claims {
                exp: u64::try_from(exp).unwrap_or_default(),
                sid: Some(refresh.session.to_string()),
                ..claims
            },
            uid: Some(refresh.user.to_string()),
        };
        let name = access.claims.sub.clone();
        // The names were checked when they were written.
        let access = self.key()?.mint_access(&access).map_err(StoreError::Corrupt)?;
        Ok(Tokens {
            user: refresh.user,
            name,
            session: refresh.session,
            access,
            access_expires_ms: exp * 1000,
            refresh: refresh.text(self.key()?)?,
            refresh_expires_ms,
        })
    }

    fn refresh_expires_ms(&self, now_ms: i64) -> i64 {
        now_ms + i64::from(self.settings.refresh_ttl_s) * 1000
    }

    fn take_address(&self, from: IpAddr, now_ms: i64) -> Result<(), Fault> {
        self.by_address.take(network(from), now_ms).map_err(Fault::slow_down)
    }

    fn take_account(&self, name: &str, now_ms: i64) -> Result<(), Fault> {
        self.by_account.take(name, now_ms).map_err(Fault::slow_down)
    }
}

/// What becomes of a session when a token of it is presented. A token that this node made is
/// either the newest, or the one before it within a minute, or somebody has a copy.
fn turn_of(session: &Session, presented: &Presented) -> Turn {
    let age_ms = presented.now_ms - session.turned_ms;
    if session.expires_ms <= presented.now_ms {
        Turn::Ended
    } else if presented.turn == session.turn && presented.hash == session.token_hash {
        Turn::Next
    } else if presented.turn + 1 == session.turn
        && presented.successor_hash == session.token_hash
        && age_ms <= LOST_ANSWER_MS
    {
        // The successor is unused: its first use would have moved the turn.
        Turn::Again
    } else {
        Turn::Reused
    }
}

/// What one owner of addresses has: an IPv4 address, or the /64 of an IPv6 address.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
        v4 => v4,
    }
}

/// What the server says is said by these; in no case may an account look like them.
const SYSTEM_NAMES: [&str; 2] = ["operator", "uproar"];

/// A name is 1 to 64 bytes without characters that cannot be seen and without space at its ends:
/// names are compared byte by byte, and MySQL would not see a space at the end.
pub(crate) fn check_name(name: &str) -> Result<(), Fault> {
    let bad = |text: String| Err(Fault::refused(Code::BadRequest, text));
    if name.is_empty() || name.len() > USER_BYTES_MAX {
        return bad(format!("a user name of {} bytes; allowed are 1 to 64", name.len()));
    }
    if names::is_dots(name) {
        return bad("a user name must not be . or .., which no URL can hold".into());
    }
    if name.starts_with(char::is_whitespace) || name.ends_with(char::is_whitespace) {
        return bad("a user name must not begin or end with a space".into());
    }
    match name.chars().find(|c| is_hidden(*c)) {
        Some(c) => bad(format!("a user name must not hold U+{:04X}", u32::from(c))),
        None => Ok(()),
    }
}

/// What ends like the name of an issuer is that issuer's to give.
fn check_local(name: &str) -> Result<(), Fault> {
    if names::is_local(name) {
        return Ok(());
    }
    let text = "a user name must not end in @ and a name of a-z 0-9 -: users of other issuers do";
    Err(Fault::refused(Code::BadRequest, text))
}

/// Names that look like the server's own. (A platform may call its people so; guests are the
/// server's alone.)
fn check_unlike_system(name: &str) -> Result<(), Fault> {
    check_unlike_guest(name)?;
    if SYSTEM_NAMES.iter().any(|taken| name.eq_ignore_ascii_case(taken)) {
        let text = format!("nobody is called {name}: who reads it would take it for the server");
        return Err(Fault::refused(Code::BadRequest, text));
    }
    Ok(())
}

/// Guests are called so, and nobody else is.
fn check_unlike_guest(name: &str) -> Result<(), Fault> {
    let begins = name.get(..GUEST.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(GUEST));
    if begins {
        let text = format!("a user name must not begin with {GUEST}: guests are called so");
        return Err(Fault::refused(Code::BadRequest, text));
    }
    Ok(())
}

fn check_device(device: &str) -> Result<(), Fault> {
    if device.len() > DEVICE_BYTES_MAX || device.chars().any(char::is_control) {
        let text = "device is at most 64 bytes without control characters";
        return Err(Fault::refused(Code::BadRequest, text));
    }
    Ok(())
}

fn is_possible(password: &str) -> bool {
    (PASSWORD_BYTES_MIN..=PASSWORD_BYTES_MAX).contains(&password.len())
}

fn check_password(password: &str) -> Result<(), Fault> {
    if is_possible(password) {
        return Ok(());
    }
    let text = format!("a password of {} bytes; allowed are 8 to 256", password.len());
    Err(Fault::refused(Code::BadRequest, text))
}

#[cfg(test)]
mod tests;
