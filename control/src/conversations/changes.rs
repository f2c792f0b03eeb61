//! Changes of groups: from the queue of the group's messages through one transaction to who is
//! told.
//!
//! Owns the order. A change passes the worker that stores the group's messages, so a member that
//! has left is taken out of the group's mcast before anything later is pushed.

use super::send::Turn;
use super::{Shared, words};
use crate::fault::Fault;
use crate::groups::{self, Act, Changed, Limits, User};
use crate::store::StoreError;
use crate::store::idempotency::{self, Kept, Use};
use crate::webhooks::Entry;
use crate::webhooks::config::EventType;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;
use uproar_proto::control::{Membership, Tell};
use uproar_proto::error::Code;
use uproar_proto::ids::McastId;
use uproar_proto::v1::{self, server_frame::Body};

/// A change that waits for its turn.
pub(super) struct Change {
    pub(super) conv: i64,
    actor: User,
    act: Act,
    once: Option<Once>,
    reply: oneshot::Sender<Result<Done, Fault>>,
}

/// A change that came with an idempotency key.
pub(crate) struct Once {
    pub(crate) one: Use,
    /// What goes out, and is kept with the change.
    pub(crate) answer: Box<dyn Fn(&Changed) -> Kept + Send + Sync>,
}

/// What a change came to.
pub(crate) enum Done {
    /// It took place.
    Now(Box<Changed>),
    /// It took place before, and this was answered.
    Before(Kept),
}

/// What a change added to the group's log.
fn entries(changed: &Changed) -> Vec<Entry> {
    let (conv, is_group, event) = (changed.group.conv, true, EventType::GroupChanged);
    changed.notices.iter().map(|noted| Entry { conv, seq: noted.seq, is_group, event }).collect()
}

impl Change {
    /// Tells whoever asked that the store does not answer.
    pub(super) fn refuse(self) {
        let _ = self.reply.send(Err(Code::StoreDown.into()));
    }
}

impl Shared {
    /// Queues a change; what became of it.
    pub(super) async fn offer_change(
        &self,
        conv: i64,
        actor: User,
        act: Act,
        once: Option<Once>,
    ) -> Result<Done, Fault> {
        let (reply, answer) = oneshot::channel();
        let change = Change { conv, actor, act, once, reply };
        let offered = self.sends.get().map(|sends| sends.offer_change(change));
        match offered {
            // Gone without an answer: a defect, or the process is ending.
            Some(Ok(())) => answer.await.unwrap_or(Err(Code::StoreDown.into())),
            Some(Err(())) => Err(Code::QueueFull.into()),
            None => Err(Fault::Store(StoreError::Ended)),
        }
    }

    /// Carries out a change and tells everybody concerned.
    pub(super) async fn change_group(&self, change: Change, turn: &mut Turn<'_>) {
        let Change { conv, actor, act, once, reply } = change;
        let alone = self.memberships.write().await;
        let meant = Arc::new((actor, act, once));
        let mut reply = Some(reply);
        let done = self.patiently(turn, self.carry_out(conv, &meant), |_| {
            // Whoever asked may have gone.
            let _ = reply.take().map(|reply| reply.send(Err(Code::StoreDown.into())));
            Vec::new()
        });
        let done = match done.await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(code)) | Err(StoreError::Refused(code)) => Err(code.into()),
            Err(error) => {
                turn.failed(&error);
                Err(Fault::Store(error))
            }
        };
        if let Ok(Done::Now(changed)) = &done {
            self.tell_change(changed, &meant.0).await;
        }
        drop(alone);
        let _ = reply.map(|reply| reply.send(done));
    }

    async fn carry_out(
        &self,
        conv: i64,
        meant: &Arc<(User, Act, Option<Once>)>,
    ) -> Result<Result<Done, Code>, StoreError> {
        let limits = Limits {
            policy: self.rules.policy,
            members_max: i64::from(self.rules.groups.members_max),
            groups_per_user_max: i64::from(self.rules.groups.groups_per_user_max),
        };
        let (dialect, now_ms) = (self.store.dialect(), self.store.now_ms());
        let by = (Arc::clone(meant), Arc::clone(&self.webhooks));
        // What the run before came to: it may stand, where its commit was not answered.
        let before = Arc::new(Mutex::new(None::<Changed>));
        let done = self.store.write_by_ids(move |conn| {
            let ((by, webhooks), before) = (by.clone(), Arc::clone(&before));
            Box::pin(async move {
                let (actor, act, once) = &*by;
                let earlier = before.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if let Some(changed) = earlier
                    && groups::stands(conn, dialect, actor.0, &changed).await?
                {
                    return Ok(Ok((Done::Now(Box::new(changed)), None)));
                }
                if let Some(Once { one, .. }) = once
                    && let Some(kept) = idempotency::begin(conn, dialect, one).await?
                {
                    return Ok(Ok((Done::Before(kept), None)));
                }
                let changed = groups::change(conn, dialect, limits, (conv, actor), act, now_ms);
                let changed = match changed.await? {
                    Ok(changed) => changed,
                    Err(code) => return Ok(Err(code)),
                };
                if let Some(Once { one, answer }) = once {
                    idempotency::finish(conn, one, &answer(&changed)).await?;
                }
                let kept = webhooks.keep(conn, &entries(&changed), now_ms).await?;
                *before.lock().unwrap_or_else(PoisonError::into_inner) = Some(changed.clone());
                Ok(Ok((Done::Now(Box::new(changed)), Some(kept))))
            })
        });
        let (done, _) = done.await?;
        Ok(done.map(|(done, kept)| {
            kept.into_iter().for_each(|kept| self.webhooks.kept(kept));
            done
        }))
    }

    async fn tell_change(&self, changed: &Changed, actor: &User) {
        let group = words::group_id(changed.group.conv);
        for ((_, name), since) in &changed.joined {
            let membership = Membership { group: group.clone(), since_seq: *since as u64 };
            self.tell(Tell::Join { user: name.clone(), membership }).await;
        }
        let messages = changed.notices.iter().map(|noted| words::noted(noted, &actor.1)).collect();
        let conversation = words::with_group(changed.group.conv);
        let stored = v1::Stored { conversation, messages };
        let frame = Box::new(Body::Stored(stored));
        if !changed.notices.is_empty() {
            let mcast = McastId::group(&group);
            self.tell(Tell::Push { mcast, frame: frame.clone() }).await;
        }
        for ((_, name), until) in &changed.left {
            // Its leaving may overtake what the group's mcast brings, but not what its own does:
            // whoever is taken out hears why, perhaps twice.
            let (mcast, frame) = (McastId::user(name), frame.clone());
            self.tell(Tell::Push { mcast, frame }).await;
            let (user, group, seq) = (name.clone(), group.clone(), *until as u64);
            self.tell(Tell::Leave { user, group, seq }).await;
        }
    }
}
