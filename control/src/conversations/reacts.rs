//! Reactions: gathered, written together, and told by the log at most once a second a message.
//!
//! Owns the pace. All reactions pass one worker, which writes what has come in since its last
//! transaction in one; which messages they were to is remembered, and the events that tell their
//! counts are handed to the workers that store messages, so that they stand among those in order.
//! What a crash leaves untold is told at the next start, what an erasure has taken back like any
//! other.

use super::words::{self, Named};
use super::{Shared, told};
use crate::guard::caught;
use crate::store::StoreError;
use crate::store::append::Target;
use crate::store::conversations;
use crate::store::reactions::{self as rows, Event, Place, React};
use crate::webhooks::Entry;
use crate::webhooks::config::EventType;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use uproar_proto::control::{Ask, Asked, Tell, refusal};
use uproar_proto::error::Code;
use uproar_proto::ids::McastId;
use uproar_proto::v1::{self, client_frame, server_frame::Body};

/// Reactions that wait. Reached: `QUEUE_FULL`, at once.
const WAITING_MAX: usize = 65_536;
/// Reactions of one transaction: bounds how long a send to the same conversation waits for it.
const BATCH_MAX: usize = 1_024;
/// Transactions begin at least this far apart.
const FLUSH_EVERY: Duration = Duration::from_millis(50);
/// Between two events about one message.
pub(super) const EVENT_EVERY: Duration = Duration::from_secs(1);

/// Whose conversation an event goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// Its members.
    Group,
    /// These two, by name.
    Users(String, String),
}

/// Messages whose counts are to be told, all of one worker's conversations.
pub(super) struct Totals {
    pub(super) places: Vec<(Place, Of)>,
    /// Whether it was done.
    reply: oneshot::Sender<bool>,
}

impl Totals {
    /// Tells whoever asked that the store does not answer.
    pub(super) fn refuse(self) {
        let _ = self.reply.send(false);
    }
}

/// Begins the worker; its queue.
pub(super) fn start(shared: &Arc<Shared>, runtime: &tokio::runtime::Handle) -> mpsc::Sender<Ask> {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    runtime.spawn(work(Arc::clone(shared), receiver));
    sender
}

/// When messages are told of.
#[derive(Debug, Default)]
pub(super) struct Pace {
    messages: HashMap<Place, Turn>,
}

/// Where one message stands.
#[derive(Debug)]
struct Turn {
    of: Of,
    /// Its counts have changed since they were handed on.
    changed: bool,
    /// An event is on its way.
    under_way: bool,
    /// No event before.
    not_before: Instant,
}

impl Pace {
    /// A message's reactions have changed.
    pub(super) fn changed(&mut self, place: Place, of: Of, now: Instant) {
        let quiet = Turn { of, changed: true, under_way: false, not_before: now };
        self.messages.entry(place).or_insert(quiet).changed = true;
    }

    /// When the next event is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let waits = self.messages.values().filter(|turn| turn.changed && !turn.under_way);
        waits.map(|turn| turn.not_before).min()
    }

    /// The messages that are told of now.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<(Place, Of)> {
        let mut due = Vec::new();
        self.messages.retain(|place, turn| {
            if turn.changed && !turn.under_way && turn.not_before <= now {
                (turn.changed, turn.under_way) = (false, true);
                due.push((*place, turn.of.clone()));
            }
            // A quiet one is forgotten, once it may be told of at any time.
            turn.changed || turn.under_way || turn.not_before > now
        });
        due
    }

    /// Events were stored, or could not be: then they are tried again.
    pub(super) fn told(&mut self, places: &[Place], done: bool, now: Instant) {
        for place in places {
            if let Some(turn) = self.messages.get_mut(place) {
                (turn.under_way, turn.not_before) = (false, now + EVENT_EVERY);
                turn.changed |= !done;
            }
        }
    }
}

async fn work(shared: Arc<Shared>, mut queue: mpsc::Receiver<Ask>) {
    let mut pace = Pace::default();
    let (done, mut finished) = mpsc::unbounded_channel();
    shared.resume(&mut pace).await;
    let mut asks = Vec::new();
    loop {
        let due = pace.next_due();
        let begun = Instant::now();
        tokio::select! {
            taken = queue.recv_many(&mut asks, BATCH_MAX) => {
                if taken == 0 {
                    break;
                }
                if caught("reactions", shared.react_all(&asks, &mut pace)).await.is_none() {
                    for ask in &asks {
                        shared.refuse_ask(ask, Code::StoreDown).await;
                    }
                }
                asks.clear();
                tokio::time::sleep_until(begun + FLUSH_EVERY).await;
            }
            Some((places, done)) = finished.recv() => {
                let places: Vec<Place> = places;
                pace.told(&places, done, Instant::now());
            }
            () = shared.untold.notified() => shared.resume(&mut pace).await,
            () = tokio::time::sleep_until(due.unwrap_or(begun)), if due.is_some() => {
                shared.hand_on(pace.take_due(Instant::now()), &done);
            }
        }
    }
}

impl Shared {
    /// What the last run left untold, or an erasure has changed. What is told already, or on its
    /// way, is told again only where it has changed since: the store knows.
    async fn resume(&self, pace: &mut Pace) {
        let left = async {
            let mut conn = self.store.reader().await?;
            let mut left = Vec::new();
            for place in rows::pending(&mut conn).await? {
                let Some((kind, (one, other))) = conversations::parties(&mut conn, place.0).await?
                else {
                    continue;
                };
                left.push((
                    place,
                    match kind {
                        conversations::GROUP => Of::Group,
                        _ => Of::Users(
                            self.name_on(&mut conn, one).await?.to_string(),
                            self.name_on(&mut conn, other).await?.to_string(),
                        ),
                    },
                ));
            }
            Ok::<_, StoreError>(left)
        };
        match left.await {
            Ok(left) => left.into_iter().for_each(|(at, of)| pace.changed(at, of, Instant::now())),
            // They are told with the next reaction to them.
            Err(error) => tracing::warn!(%error, "reactions stay untold that wait in the store"),
        }
    }

    /// Hands messages to the workers that tell of them.
    fn hand_on(&self, due: Vec<(Place, Of)>, done: &mpsc::UnboundedSender<(Vec<Place>, bool)>) {
        let Some(sends) = self.sends.get() else { return };
        for places in sends.by_worker(due) {
            let handed: Vec<Place> = places.iter().map(|(place, _)| *place).collect();
            let (reply, answer) = oneshot::channel();
            let offered = sends.offer_totals(Totals { places, reply });
            let done = done.clone();
            tokio::spawn(async move {
                let told = offered.is_ok() && answer.await.unwrap_or(false);
                // Nobody waits for it where the process ends.
                let _ = done.send((handed, told));
            });
        }
    }

    async fn react_all(&self, asks: &[Ask], pace: &mut Pace) {
        #[cfg(test)]
        asks.iter().for_each(|ask| crate::guard::trap("reactions", &format!("{:?}", ask.what)));
        let mut refused: Vec<Option<Code>> = vec![None; asks.len()];
        let (mut items, mut of) = (Vec::new(), Vec::new());
        for (at, ask) in asks.iter().enumerate() {
            let Asked::Frame(client_frame::Body::React(react)) = &ask.what else { continue };
            match self.reaction(&ask.user, react).await {
                Ok(item) => {
                    items.push(item);
                    of.push(at);
                }
                Err(code) => refused[at] = Some(code),
            }
        }
        let items = Arc::new(items);
        match self.store_reactions(Arc::clone(&items)).await {
            Ok(answers) => {
                for ((at, item), answer) in of.into_iter().zip(items.iter()).zip(answers) {
                    match answer {
                        Ok(true) => self.reacted(&asks[at], item, pace).await,
                        Ok(false) => {}
                        Err(code) => refused[at] = Some(code),
                    }
                }
            }
            Err(error) => {
                let code = told(&error);
                of.into_iter().for_each(|at| refused[at] = Some(code));
            }
        }
        for (ask, refused) in asks.iter().zip(refused) {
            let Asked::Frame(body) = &ask.what else { continue };
            let frames = match (refused, body) {
                (Some(code), _) => vec![refusal(body, code)],
                (None, client_frame::Body::React(react)) => vec![stands(react)],
                (None, _) => Vec::new(),
            };
            self.tell(Tell::Answer { to: ask.from, number: ask.number, frames }).await;
        }
    }

    /// Which message of which conversation is meant.
    async fn reaction(&self, user: &str, react: &v1::React) -> Result<React, Code> {
        let failed = |error: StoreError| told(&error);
        let named = Named::parse(&react.conversation)?;
        if !words::is_reaction(&react.reaction) {
            return Err(Code::BadRequest);
        }
        let seq = i64::try_from(react.seq).map_err(|_| Code::NotFound)?;
        let me = self.signed_in(user).await.map_err(failed)?;
        let (conv, target) = match named {
            Named::Group(conv) => (conv, Target::Group(conv)),
            Named::User(peer) => {
                let mut conn = self.store.reader().await.map_err(failed)?;
                let peer = self.user_on(&mut conn, peer).await.map_err(failed)?;
                let peer = peer.ok_or(Code::NotFound)?;
                let conv = conversations::direct(&mut conn, me, peer).await.map_err(failed)?;
                (conv, Target::Direct(peer))
            }
        };
        let (reaction, remove) = (react.reaction.clone(), react.remove);
        Ok(React { conv, user: me, target, seq, reaction, remove })
    }

    async fn store_reactions(
        &self,
        items: Arc<Vec<React>>,
    ) -> Result<Vec<Result<bool, Code>>, StoreError> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let (dialect, policy, now_ms) =
            (self.store.dialect(), self.rules.policy, self.store.now_ms());
        self.store
            .write(move |conn| {
                let items = Arc::clone(&items);
                Box::pin(async move { rows::react(conn, dialect, policy, &items, now_ms).await })
            })
            .await
    }

    /// A reaction has changed: the user's devices are told at once, the others by an event.
    async fn reacted(&self, ask: &Ask, item: &React, pace: &mut Pace) {
        let Asked::Frame(client_frame::Body::React(react)) = &ask.what else { return };
        let (mcast, frame) = (McastId::user(&ask.user), Box::new(stands(react)));
        self.tell(Tell::Push { mcast, frame }).await;
        let of = match react.conversation.strip_prefix("user:") {
            None => Of::Group,
            Some(peer) => Of::Users(ask.user.to_string(), peer.to_owned()),
        };
        pace.changed((item.conv, item.seq), of, Instant::now());
    }

    /// Stores events that tell the counts of messages, and pushes them.
    pub(super) async fn tell_totals(&self, totals: Totals) {
        let Totals { places, reply } = totals;
        let done = match self.store_totals(&places).await {
            Ok(events) => {
                let of: HashMap<Place, Of> = places.into_iter().collect();
                for event in events {
                    if let Some(of) = of.get(&(event.conv, event.target_seq))
                        && let Err(error) = self.push_event(&event, of).await
                    {
                        // Stored all the same: the next sync finds it.
                        tracing::warn!(%error, "an event about reactions could not be pushed");
                    }
                }
                true
            }
            Err(error) => {
                tracing::warn!(%error, "reactions could not be told; they are tried again");
                false
            }
        };
        // A worker of reactions that has gone asks no more.
        let _ = reply.send(done);
    }

    async fn store_totals(&self, places: &[(Place, Of)]) -> Result<Vec<Event>, StoreError> {
        let (dialect, policy, now_ms) =
            (self.store.dialect(), self.rules.policy, self.store.now_ms());
        let groups = places.iter().filter(|(_, of)| *of == Of::Group).map(|((conv, _), _)| *conv);
        let groups: Arc<HashSet<i64>> = Arc::new(groups.collect());
        let places: Arc<Vec<Place>> = Arc::new(places.iter().map(|(place, _)| *place).collect());
        let webhooks = Arc::clone(&self.webhooks);
        let told = self.store.write(move |conn| {
            let (places, groups) = (Arc::clone(&places), Arc::clone(&groups));
            let webhooks = Arc::clone(&webhooks);
            Box::pin(async move {
                let events = rows::tell(conn, dialect, policy, &places, now_ms).await?;
                let entry = |event: &Event| {
                    let (conv, seq) = (event.conv, event.seq);
                    let is_group = groups.contains(&conv);
                    Entry { conv, seq, is_group, event: EventType::ReactionsChanged }
                };
                let entries: Vec<Entry> = events.iter().map(entry).collect();
                let kept = webhooks.keep(conn, &entries, now_ms).await?;
                Ok((events, kept))
            })
        });
        let (events, kept) = told.await?;
        self.webhooks.kept(kept);
        Ok(events)
    }

    async fn push_event(&self, event: &Event, of: &Of) -> Result<(), StoreError> {
        let by = self.name_on(&mut *self.store.reader().await?, event.by).await?;
        let message = words::counted(event, &by);
        match of {
            Of::Group => self.push_about(event.conv, message).await,
            Of::Users(one, other) => {
                self.push_to(one, other, message.clone()).await;
                if one != other {
                    self.push_to(other, one, message).await;
                }
            }
        }
        Ok(())
    }

    /// To a user, about the conversation with a peer.
    async fn push_to(&self, user: &str, peer: &str, message: v1::StoredMessage) {
        let stored = v1::Stored { conversation: words::with_user(peer), messages: vec![message] };
        let frame = Box::new(Body::Stored(stored));
        self.tell(Tell::Push { mcast: McastId::user(user), frame }).await;
    }

    /// To a group: members below whose floor the target lies get it blank.
    async fn push_about(&self, conv: i64, message: v1::StoredMessage) {
        let target_seq = message.target_seq;
        let of = |message| {
            let conversation = words::with_group(conv);
            Box::new(Body::Stored(v1::Stored { conversation, messages: vec![message] }))
        };
        let (blank, frame) = (of(words::blank(&message)), of(message));
        let mcast = McastId::group(&words::group_id(conv));
        self.tell(Tell::PushAbout { mcast, target_seq, frame, blank }).await;
    }
}

/// The answer to a reaction that is as it was wanted.
fn stands(react: &v1::React) -> Body {
    Body::Reacted(v1::Reacted {
        conversation: react.conversation.clone(),
        seq: react.seq,
        reaction: react.reaction.clone(),
        remove: react.remove,
        ..v1::Reacted::default()
    })
}
