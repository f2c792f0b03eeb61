//! Erasing a user: what is left of it once it is nobody, step by step.
//!
//! Owns the order and the pace. The first transaction (`store::erasures::begin`) takes the name,
//! the password and the sessions; from then on nobody signs in as the user and nobody writes to it.
//! The rest may be long, so it goes in short transactions that say how far they have come; a
//! restart goes on from there, and every step may be done twice.

use super::recall::What;
use super::{Conversations, Shared};
use crate::fault::Fault;
use crate::groups::Act;
use crate::relations::forget;
use crate::store::admin::{self, Span};
use crate::store::conversations::GROUP;
use crate::store::erasures::{self, At, Erasure, Phase};
use crate::store::{StoreError, groups, relations, users};
use std::sync::Arc;
use std::time::Duration;
use uproar_proto::error::Code;

/// Erasures looked up at once.
const ERASURES_AT_ONCE: i64 = 100;
/// Pause after each step: other writes come between.
const STEP_PAUSE: Duration = Duration::from_millis(10);
/// Pause after a step that failed.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
/// Relations, what has ended, groups and requests of one step.
const STEP_RELATIONS: i64 = 50;
const STEP_ENDED: i64 = 1_000;
const STEP_GROUPS: i64 = 50;
const STEP_REQUESTS: i64 = 1_000;

impl Conversations {
    /// Erases a user: it is nobody when this returns, and the rest is under way or done. `None`:
    /// there is no such user. Whoever calls closes its connections.
    pub(crate) async fn erase(&self, user: i64, name: &str) -> Result<Option<Erasure>, Fault> {
        let shared = &self.shared;
        let begun = erasures::begin(&shared.store, user, name, shared.store.now_ms()).await?;
        shared.names.forget(name, user);
        shared.erasing.notify_one();
        Ok(begun)
    }
}

/// Goes on with erasures until the process ends.
pub(super) async fn work(shared: Arc<Shared>) {
    loop {
        let mut failed = false;
        match shared.under_way().await {
            Ok(erasures) if erasures.is_empty() => shared.erasing.notified().await,
            Ok(erasures) => {
                for erasure in erasures {
                    let user = erasure.user;
                    match shared.erase(erasure).await {
                        Ok(()) => tracing::info!(user, "a user was erased"),
                        Err(Fault::Store(StoreError::Ended)) => return,
                        Err(fault) => {
                            tracing::warn!(user, ?fault, "an erasure waits for another try");
                            failed = true;
                        }
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, "erasures under way could not be read");
                failed = true;
            }
        }
        if failed {
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}

impl Shared {
    async fn under_way(&self) -> Result<Vec<Erasure>, StoreError> {
        erasures::under_way(&mut *self.store.reader().await?, ERASURES_AT_ONCE).await
    }

    /// Carries an erasure from where it is to its end.
    async fn erase(&self, erasure: Erasure) -> Result<(), Fault> {
        let Erasure { user, name, mut at, .. } = erasure;
        loop {
            // Whoever looked the user up just before may have remembered it since.
            self.names.forget(&name, user);
            let next = match at.phase {
                Phase::Relations => self.end_relations(user, &name).await?,
                Phase::Groups => self.leave_groups(user, &name, at).await?,
                Phase::Requests => self.end_requests(user, at).await?,
                Phase::Messages => match self.recall_next(user, &name, at).await? {
                    Some(next) => next,
                    None if self.is_clean(user).await? => break,
                    // A request that was under way when it began has written since.
                    None => At::default(),
                },
            };
            if next.phase != at.phase {
                self.advance(user, next).await?;
            }
            at = next;
            tokio::time::sleep(STEP_PAUSE).await;
        }
        let now_ms = self.store.now_ms();
        self.store.write(move |conn| Box::pin(erasures::finish(conn, user, now_ms))).await?;
        self.names.forget(&name, user);
        Ok(())
    }

    async fn advance(&self, user: i64, at: At) -> Result<(), StoreError> {
        self.store.write(move |conn| Box::pin(erasures::advance(conn, user, at))).await
    }

    async fn end_relations(&self, user: i64, name: &str) -> Result<At, Fault> {
        let mut conn = self.store.reader().await?;
        let peers = Arc::new(erasures::peers(&mut conn, user, STEP_RELATIONS).await?);
        if peers.is_empty() {
            drop(conn);
            let ended = self
                .store
                .write(move |conn| Box::pin(erasures::delete_ended(conn, user, STEP_ENDED)));
            let phase = if ended.await? == 0 { Phase::Groups } else { Phase::Relations };
            return Ok(At { phase, ..At::default() });
        }
        let mut names = Vec::with_capacity(peers.len());
        for peer in peers.iter() {
            names.push(self.name_on(&mut conn, *peer).await?);
        }
        drop(conn);
        let (dialect, now_ms) = (self.store.dialect(), self.store.now_ms());
        let done = self.store.write(move |conn| {
            let peers = Arc::clone(&peers);
            Box::pin(async move {
                for peer in peers.iter() {
                    let pair = (user, *peer);
                    let changed = relations::change_on(conn, dialect, pair, now_ms, forget);
                    changed.await?.map_err(StoreError::Refused)?;
                }
                Ok(())
            })
        });
        done.await?;
        for peer in names {
            self.presence.parted(name, &peer).await;
        }
        Ok(At::default())
    }

    async fn leave_groups(&self, user: i64, name: &str, at: At) -> Result<At, Fault> {
        let mut conn = self.store.reader().await?;
        let groups = groups::list_of(&mut conn, user, at.conv, STEP_GROUPS).await?;
        drop(conn);
        let Some((last, _)) = groups.last() else {
            return Ok(At { phase: Phase::Requests, ..At::default() });
        };
        let next = At { conv: *last, ..at };
        for (conv, _) in groups {
            let actor = (user, users::erased_name(name));
            match self.offer_change(conv, actor, Act::Leave, None).await {
                Ok(_) => {}
                // Removed, or the group ended, meanwhile.
                Err(fault) if is_gone(&fault) => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(next)
    }

    async fn end_requests(&self, user: i64, at: At) -> Result<At, Fault> {
        let after = (at.conv, at.seq);
        let last = self.store.write(move |conn| {
            Box::pin(erasures::delete_requests(conn, user, after, STEP_REQUESTS))
        });
        Ok(match last.await? {
            Some((conv, seq)) => At { conv, seq, ..at },
            None => At { phase: Phase::Messages, ..At::default() },
        })
    }

    /// The next messages of the next conversation; `None`: there are no more.
    async fn recall_next(&self, user: i64, name: &str, at: At) -> Result<Option<At>, Fault> {
        // Where the last step was the last of its conversation, the next conversation.
        let after = if at.seq == i64::MAX { at.conv } else { at.conv - 1 };
        let mut conn = self.store.reader().await?;
        let Some(span) = admin::of_user(&mut conn, user, (after, 0), 1).await?.pop() else {
            return Ok(None);
        };
        let names = match span {
            Span { kind: GROUP, .. } => [String::new(), String::new()],
            Span { users: (one, other), .. } => {
                let peer = if one == user { other } else { one };
                let peer =
                    if peer == user { name.into() } else { self.name_on(&mut conn, peer).await? };
                [name.to_owned(), peer.to_string()]
            }
        };
        drop(conn);
        let from = if span.conv == at.conv { span.from.max(at.seq + 1) } else { span.from };
        let both = [name.to_owned(), users::erased_name(name)];
        let what = What::Next { user, from, names: both };
        Ok(Some(self.offer_recall(span, &names, what).await?.at))
    }

    /// Whether the user is in no group and nothing to anybody.
    async fn is_clean(&self, user: i64) -> Result<bool, StoreError> {
        let mut conn = self.store.reader().await?;
        let peers = erasures::peers(&mut conn, user, 1).await?;
        Ok(peers.is_empty() && groups::list_of(&mut conn, user, 0, 1).await?.is_empty())
    }
}

fn is_gone(fault: &Fault) -> bool {
    let Fault::Refused(refusal) = fault else { return false };
    matches!(refusal.code, Code::NotMember | Code::NotFound)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod traces;
