//! Who moderates a room: a backend with the API key, an operator in a browser, or a user with a
//! role in that room.
//!
//! Owns how they are told apart and what each may do to whom. What was done they write down in the
//! audit log, under the name they have there.

use super::caller::{Origin, User};
use super::errors::ApiError;
use super::{Shared, auth};
use crate::audit::Entry;
use crate::store::roles::{self, Role};
use crate::store::users;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use uproar_proto::control::{Command, STEERING_ATTRIBUTES};
use uproar_proto::error::Code;
use uproar_proto::ids::RoomId;

/// Whoever asks, before it is known of which room.
pub(crate) struct Actor {
    who: Who,
    origin: String,
}

enum Who {
    /// `key` or `operator`: may do everything.
    All(&'static str),
    /// By token: what it may do depends on the room.
    User(i64, String),
}

impl FromRequestParts<Arc<Shared>> for Actor {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, ApiError> {
        let from: Result<Origin, Infallible> = Origin::from_request_parts(parts, shared).await;
        let Ok(Origin(address)) = from;
        let origin = address.to_string();
        // Where nobody can have a token, the key alone is asked for.
        let has_users = shared.accounts.is_some() || shared.api.control.is_some();
        let brings_token = has_users && has_token(&parts.headers);
        // Without a key whoever asks from this machine may do everything; but who brings a token
        // asks as its user.
        let is_open = shared.api.config.api_key.is_empty();
        match auth::check(shared, &parts.headers) {
            Ok(()) if !(is_open && brings_token) => {
                let who = Who::All(auth::name_of(shared, &parts.headers));
                return Ok(Actor { who, origin });
            }
            Err(refused) if !brings_token => return Err(refused),
            _ => {}
        }
        let User(caller) = User::from_request_parts(parts, shared).await?;
        Ok(Actor { who: Who::User(caller.user, caller.name), origin })
    }
}

/// Whether something like a token comes with a request: three parts, which no good API key has by
/// chance.
fn has_token(headers: &HeaderMap) -> bool {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    value.is_some_and(|value| value.split('.').count() == 3)
}

/// Whoever asks, in one room.
pub(crate) struct Moderator {
    /// `None`: it may do everything.
    role: Option<Role>,
    who: String,
    origin: String,
    room: RoomId,
}

impl Actor {
    /// An entry of what it did with the API key, or in a browser.
    pub(crate) fn entry(&self, what: &str, room: &str) -> Entry {
        let who = match &self.who {
            Who::All(who) => (*who).to_owned(),
            Who::User(_, name) => format!("user:{name}"),
        };
        let (origin, what, room) = (self.origin.clone(), what.to_owned(), room.to_owned());
        Entry { who, origin, what, room, ..Entry::default() }
    }

    /// In this room; 403 where it has no role there.
    pub(crate) async fn of_room(
        self,
        shared: &Shared,
        room: &RoomId,
    ) -> Result<Moderator, ApiError> {
        let (role, who) = match self.who {
            Who::All(who) => (None, who.to_owned()),
            Who::User(user, name) => {
                let store = super::caller::accounts(shared)?.store();
                let role = roles::of(&mut *store.reader().await?, room.as_str(), user).await?;
                let text = "this user has no role in the room";
                let role = role.ok_or_else(|| ApiError::new(Code::Forbidden, text))?;
                (Some(role), format!("user:{name}"))
            }
        };
        Ok(Moderator { role, who, origin: self.origin, room: room.clone() })
    }
}

impl Moderator {
    /// Whether it may act on who has this role: nobody on an equal or a greater one.
    fn may(&self, of: Option<Role>) -> bool {
        self.role.is_none_or(|own| of < Some(own))
    }

    /// Whether it may give this role, or take it.
    pub(crate) fn may_give(&self, role: Role) -> Result<(), ApiError> {
        if self.may(Some(role)) {
            return Ok(());
        }
        let text = format!("an {} is made and unmade with the API key alone", role.word());
        let text =
            if role == Role::Moderator { "moderators are made by owners".into() } else { text };
        Err(ApiError::new(Code::Forbidden, text))
    }

    /// What it may do to whoever has a role: the rule of [`Moderator::may`] without itself.
    pub(crate) fn rule(&self) -> fn(Option<Role>) -> bool {
        match self.role {
            None => |_| true,
            Some(Role::Owner) => |of| of < Some(Role::Owner),
            Some(Role::Moderator) => |of| of < Some(Role::Moderator),
        }
    }

    /// Of these users those it may not act on.
    pub(crate) async fn above(
        &self,
        shared: &Shared,
        names: &[String],
    ) -> Result<Vec<String>, ApiError> {
        let Some(own) = self.role else { return Ok(Vec::new()) };
        let store = super::caller::accounts(shared)?.store();
        let mut conn = store.reader().await?;
        let known: BTreeMap<i64, String> =
            users::find_all(&mut conn, names).await?.into_iter().collect();
        let mut above = Vec::new();
        for (user, name) in known {
            let role = roles::of(&mut conn, self.room.as_str(), user).await?;
            if role >= Some(own) {
                above.push(name);
            }
        }
        Ok(above)
    }

    /// Users whose messages it may not take back: of an equal or a greater role, but for itself;
    /// `None`: it may take back all.
    pub(crate) async fn spared(
        &self,
        shared: &Shared,
    ) -> Result<Option<BTreeSet<String>>, ApiError> {
        let Some(own) = self.role else { return Ok(None) };
        let store = super::caller::accounts(shared)?.store();
        let roles = roles::list(store, self.room.as_str()).await?;
        let is_other = |name: &String| self.who != format!("user:{name}");
        let spared = roles.into_iter().filter(|(_, role)| *role >= own).map(|(name, _)| name);
        Ok(Some(spared.filter(is_other).collect()))
    }

    /// 403 where it would change what steers the server: owners may, moderators not.
    pub(crate) fn check_attributes<'a>(
        &self,
        mut keys: impl Iterator<Item = &'a String>,
    ) -> Result<(), ApiError> {
        let steers = keys.find(|key| STEERING_ATTRIBUTES.contains(&key.as_str()));
        match (self.role, steers) {
            (Some(Role::Moderator), Some(key)) => {
                let text = format!("the attribute {key:?} steers the server; owners may change it");
                Err(ApiError::new(Code::Forbidden, text))
            }
            _ => Ok(()),
        }
    }

    /// 403 where it would speak under another name than its own.
    pub(crate) fn check_name(&self, name: &str) -> Result<(), ApiError> {
        if self.role.is_none() || self.who == format!("user:{name}") {
            return Ok(());
        }
        let text = "with a role in the room one speaks under one's own name";
        Err(ApiError::new(Code::Forbidden, text))
    }

    /// `FILTERED` where a user with a role wants the room to show what nobody may say there. What
    /// the platform itself says is not looked at, as with messages.
    pub(crate) async fn check_texts<'t>(
        &self,
        shared: &Shared,
        texts: impl IntoIterator<Item = &'t str>,
    ) -> Result<(), ApiError> {
        let (Some(_), Some(filters)) = (self.role, &shared.api.filters) else { return Ok(()) };
        let (engine, room) = (&shared.api.engine, self.room.clone());
        let info = shared.call(|reply| engine.command(Command::Get { room, reply })).await?;
        if info.settings.filter && filters.is_hit_by_role(texts) {
            return Err(ApiError::from_code(Code::Filtered));
        }
        Ok(())
    }

    /// 403 where it may not act on this user.
    pub(crate) async fn check_above(&self, shared: &Shared, name: &str) -> Result<(), ApiError> {
        if self.above(shared, &[name.to_owned()]).await?.is_empty() {
            return Ok(());
        }
        let text = "a user with an equal or a greater role in the room is out of reach";
        Err(ApiError::new(Code::Forbidden, text))
    }

    /// An entry of what it did.
    pub(crate) fn entry(&self, what: &str, whom: &str) -> Entry {
        Entry {
            who: self.who.clone(),
            origin: self.origin.clone(),
            what: what.to_owned(),
            room: self.room.to_string(),
            whom: whom.to_owned(),
            ..Entry::default()
        }
    }
}
