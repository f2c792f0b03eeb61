//! A service with a store of its own, and whoever asks it: for tests.

use super::{Conversations, Rules};
use crate::config::GroupsConfig;
use crate::groups::{Act, Joining, User};
use crate::listener::Listener;
use crate::relations::{Policy, befriend};
use crate::store::{Dialect, Store, relations, users};
use crate::webhooks::Webhooks;
use sqlx::AssertSqlSafe;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use uproar_proto::control::{Ask, Asked, ConnectionId, Control as _, Engine, Tell};
use uproar_proto::error::Code;
use uproar_proto::ids::McastId;
use uproar_proto::names;
use uproar_proto::v1::{self, client_frame, server_frame::Body};

/// The largest payload of these tests.
pub(super) const PAYLOAD_BYTES_MAX: usize = 2_000;

/// The service and who asks it.
pub(super) struct Desk {
    pub(super) conversations: Arc<Conversations>,
    pub(super) store: Arc<Store>,
    told: Arc<Listener>,
    serial: AtomicU64,
}

impl Desk {
    /// Over a store, where friends alone may write to each other.
    pub(super) fn new(store: &Arc<Store>) -> Desk {
        let rules = Rules {
            policy: Policy::Friends,
            payload_bytes_max: PAYLOAD_BYTES_MAX,
            groups: GroupsConfig { members_max: 20_000, groups_per_user_max: 100 },
        };
        let conversations = Conversations::new(Arc::clone(store), rules, Webhooks::default());
        let told = Arc::new(Listener::default());
        conversations.serve(Arc::clone(&told) as Arc<dyn Engine>);
        Desk { conversations, store: Arc::clone(store), told, serial: AtomicU64::new(1) }
    }

    /// A user, known from now on.
    pub(super) async fn user(&self, name: &str) -> User {
        let (dialect, owned) = (self.store.dialect(), name.to_owned());
        let id = self.store.write(move |conn| {
            let name = owned.clone();
            Box::pin(
                async move { users::find_or_insert(conn, dialect, names::split(&name), 1).await },
            )
        });
        (id.await.unwrap().expect("not erased"), name.to_owned())
    }

    /// Two users, friends from now on.
    pub(super) async fn friends(&self, one: &str, other: &str) {
        self.relate(one, other, befriend).await;
    }

    /// Changes what two users are to each other, and tells their devices.
    pub(super) async fn relate(&self, one: &str, other: &str, rule: relations::Rule) {
        let (a, b) = (self.user(one).await.0, self.user(other).await.0);
        let now_ms = self.store.now_ms();
        let changed = relations::change(&self.store, a, b, now_ms, rule).await.unwrap().unwrap();
        self.conversations.related(one, other, changed, now_ms).await;
    }

    /// Makes a group of friends of the first one; its conversation.
    pub(super) async fn group(&self, conv: i64, names: &[&str]) -> String {
        let mut members = Vec::new();
        for name in names {
            members.push(self.user(name).await);
        }
        let owner = members.remove(0);
        let (name, announcement) = ("Hikers".to_owned(), String::new());
        let create = Act::Create { name, announcement, joining: Joining::Open, members };
        self.conversations.change(conv, owner, create).await.unwrap();
        super::words::with_group(conv)
    }

    /// So many users, and a group of them all; the first one owns it.
    pub(super) async fn crowd(&self, conv: i64, size: usize) -> Vec<User> {
        let dialect = self.store.dialect();
        let names: Vec<String> = (0..size).map(|n| format!("fan{n}")).collect();
        let mut members = Vec::with_capacity(size);
        for part in names.chunks(500) {
            let meant = Arc::new(part.to_vec());
            let ids = self.store.write(move |conn| {
                let meant = Arc::clone(&meant);
                Box::pin(async move {
                    let mut ids = Vec::with_capacity(meant.len());
                    for name in meant.iter() {
                        let name = ("", name.as_str());
                        ids.push(users::find_or_insert(&mut *conn, dialect, name, 1).await?);
                    }
                    Ok(ids)
                })
            });
            let ids = ids.await.unwrap().into_iter().map(|id| id.expect("not erased"));
            members.extend(ids.zip(part.iter().cloned()));
        }
        let (owner, all) = (members[0].clone(), members.clone());
        let (name, announcement) = ("Crowd".to_owned(), String::new());
        let what = Act::Upsert { name, announcement, joining: Joining::Open, members: all };
        self.conversations.change(conv, owner, what).await.unwrap();
        members
    }

    /// Does something to a group.
    pub(super) async fn act(&self, conv: i64, actor: &str, act: Act) {
        let actor = self.user(actor).await;
        self.conversations.change(conv, actor, act).await.unwrap();
    }

    /// Asks as a connection of a user, and gives the answer.
    pub(super) async fn ask(&self, user: &str, body: client_frame::Body) -> Vec<Body> {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let from = ConnectionId { node: 0, shard: 0, conn: 0, serial };
        let (user, what) = (Arc::from(user), Asked::Frame(body));
        self.conversations.ask(Ask { from, number: 0, user, what });
        self.until(|tell| match tell {
            Tell::Answer { to, frames, .. } if *to == from => Some(frames.clone()),
            _ => None,
        })
        .await
    }

    /// The first thing told that fits, from the beginning or to come.
    pub(super) async fn until<T>(&self, fits: impl Fn(&Tell) -> Option<T>) -> T {
        self.told.until(fits).await
    }

    /// What was told so far, answers too.
    pub(super) fn told(&self) -> Vec<Tell> {
        self.told.told().clone()
    }

    /// What was told since, but answers.
    pub(super) async fn take_told(&self) -> Vec<Tell> {
        // Things are told in order: what was told before this answer has arrived.
        self.ask("nobody", client_frame::Body::Signal(v1::Signal::default())).await;
        let mut told = std::mem::take(&mut *self.told.told());
        told.retain(|tell| !matches!(tell, Tell::Answer { .. } | Tell::Generation(_)));
        told
    }

    /// Sends; its place or why it has none.
    pub(super) async fn sends(&self, user: &str, send: v1::Send) -> Result<u64, Code> {
        match &self.ask(user, client_frame::Body::Send(send)).await[..] {
            [Body::Sent(sent)] if sent.code == 0 => Ok(sent.seq),
            [Body::Sent(sent)] => Err(Code::from_number(sent.code).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    /// Reacts, or takes it back.
    pub(super) async fn reacts(&self, user: &str, react: v1::React) -> Result<(), Code> {
        match &self.ask(user, client_frame::Body::React(react.clone())).await[..] {
            [Body::Reacted(told)] => {
                assert_eq!((told.seq, told.remove), (react.seq, react.remove));
                Code::from_number(told.code).map_or(Ok(()), Err)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Everything of a conversation that a user may read.
    pub(super) async fn pulls(&self, user: &str, conversation: &str) -> Vec<v1::StoredMessage> {
        let range = v1::Range { conversation: conversation.into(), from_seq: 1, to_seq: 999 };
        let pull = v1::Pull { id: 1, ranges: vec![range] };
        match &self.ask(user, client_frame::Body::Pull(pull)).await[..] {
            [Body::Pulled(pulled)] => {
                assert!(pulled.rest.is_empty());
                pulled.parts.iter().flat_map(|part| part.messages.clone()).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn syncs(&self, user: &str, cursor: &str, limit: u32) -> v1::Synced {
        let sync = v1::Sync { cursor: cursor.into(), limit };
        match &self.ask(user, client_frame::Body::Sync(sync)).await[..] {
            [Body::Synced(synced)] => synced.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// Marks; the code it is refused with.
    pub(super) async fn marks(
        &self,
        user: &str,
        conversation: &str,
        read_seq: u64,
    ) -> Option<Code> {
        let conversation = conversation.to_owned();
        let marks = vec![v1::Marked { conversation, read_seq, delivered_seq: 0 }];
        code_of(&self.ask(user, client_frame::Body::Mark(v1::Mark { marks })).await)
    }

    /// How many rows every table has.
    pub(super) async fn rows(&self) -> BTreeMap<String, i64> {
        let mut conn = self.store.reader().await.unwrap();
        let tables = sqlx::query_as::<_, (String,)>(match self.store.dialect() {
            Dialect::Sqlite => "SELECT name FROM sqlite_master WHERE type = 'table'",
            Dialect::Mysql => {
                "SELECT table_name FROM information_schema.tables
                    WHERE table_schema = DATABASE()"
            }
        });
        let mut rows = BTreeMap::new();
        for (table,) in tables.fetch_all(&mut *conn).await.unwrap() {
            let count = AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
            let count = sqlx::query_as::<_, (i64,)>(count).fetch_one(&mut *conn).await.unwrap();
            rows.insert(table, count.0);
        }
        assert!(rows.contains_key("reactions") && rows.contains_key("users"), "{rows:?}");
        rows
    }
}

/// A message under the id that is this number.
pub(super) fn text(conversation: &str, id: u128, text: &str) -> v1::Send {
    v1::Send {
        conversation: conversation.into(),
        client_msg_id: id.to_be_bytes().to_vec().into(),
        text: text.into(),
        ..v1::Send::default()
    }
}

/// A reaction.
pub(super) fn reaction(conversation: &str, seq: u64, reaction: &str) -> v1::React {
    let (conversation, reaction) = (conversation.into(), reaction.into());
    v1::React { conversation, seq, reaction, remove: false }
}

/// The code of a refusal, in whichever frame it comes; `None`: there is none.
pub(super) fn code_of(frames: &[Body]) -> Option<Code> {
    match frames {
        [Body::Sent(sent)] => Code::from_number(sent.code),
        [Body::Reacted(reacted)] => Code::from_number(reacted.code),
        [Body::Error(error)] => Code::from_number(error.code),
        _ => None,
    }
}

/// Stored messages that were pushed to an mcast: conversation and message.
pub(super) fn pushed_to(told: &[Tell], to: &McastId) -> Vec<(String, v1::StoredMessage)> {
    let mut pushed = Vec::new();
    for tell in told {
        match tell {
            Tell::Push { mcast, frame } | Tell::PushAbout { mcast, frame, .. } if mcast == to => {
                if let Body::Stored(stored) = &**frame {
                    let name = &stored.conversation;
                    pushed.extend(stored.messages.iter().map(|m| (name.clone(), m.clone())));
                }
            }
            _ => {}
        }
    }
    pushed
}
