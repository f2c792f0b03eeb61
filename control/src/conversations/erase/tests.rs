//! Erasing and recalling against a store, with an engine that remembers what it was told.

use super::*;
use crate::config::GroupsConfig;
use crate::conversations::Rules;
use crate::groups::{Joining, Operation, User};
use crate::listener::Listener;
use crate::relations::{self as rules, Act as Relate, Policy};
use crate::store::Store;
use crate::store::append::{Append, Target, append};
use crate::store::testing::on_both;
use crate::webhooks::Webhooks;
use prost::Message as _;
use std::time::Instant;
use uproar_proto::control::{Engine, Tell};
use uproar_proto::v1::{self, Kind, server_frame::Body};

/// Recalls that were pushed: mcast, conversation, author, target.
fn recalls(engine: &Listener) -> Vec<(String, String, String, u64)> {
    let mut recalls = Vec::new();
    for tell in engine.told().iter() {
        let Tell::Push { mcast, frame } = tell else { continue };
        let Body::Stored(stored) = &**frame else { continue };
        for message in stored.messages.iter().filter(|m| m.kind() == Kind::Recall) {
            let (conversation, user) = (stored.conversation.clone(), message.user.clone());
            recalls.push((mcast.as_str().to_owned(), conversation, user, message.target_seq));
        }
    }
    recalls.sort();
    recalls
}

/// People, and what there is between them: alice is erased.
struct World {
    store: Arc<Store>,
    alice: User,
    bob: User,
    carol: User,
    /// Alice's, with bob and carol.
    group: i64,
}

fn limits() -> Rules {
    let groups = GroupsConfig::default();
    Rules { policy: Policy::Friends, payload_bytes_max: 1024, groups }
}

fn served(store: &Arc<Store>) -> (Arc<Conversations>, Arc<Listener>) {
    let (conversations, engine) =
        (Conversations::new(Arc::clone(store), limits(), Webhooks::default()), Arc::default());
    conversations.serve(Arc::clone(&engine) as Arc<dyn Engine>);
    (conversations, engine)
}

async fn user(store: &Store, name: &'static str) -> User {
    let dialect = store.dialect();
    let id = store.write(move |conn| Box::pin(users::find_or_insert(conn, dialect, ("", name), 1)));
    (id.await.unwrap().unwrap(), name.to_owned())
}

async fn says(store: &Store, sender: &User, target: Target, id: u128, text: &str) -> i64 {
    let body = v1::StoredMessage { text: text.to_owned(), ..v1::StoredMessage::default() };
    let item = Append {
        sender: sender.0,
        target,
        client_msg_id: id,
        hash: 1,
        kind: Kind::Message,
        target_seq: 0,
        body: body.encode_to_vec(),
        by_operator: false,
    };
    let (dialect, items, now_ms) = (store.dialect(), Arc::new([item]), store.now_ms());
    let placed = store.write(move |conn| {
        let items = Arc::clone(&items);
        Box::pin(async move { append(conn, dialect, Policy::Friends, &*items, now_ms).await })
    });
    placed.await.unwrap()[0].unwrap().seq
}

impl World {
    async fn new(store: Arc<Store>) -> World {
        let (conversations, _) = served(&store);
        let [alice, bob, carol] =
            [user(&store, "alice").await, user(&store, "bob").await, user(&store, "carol").await];
        for peer in [&bob, &carol] {
            rules::act(&store, alice.0, peer.0, Relate::Ask, 1).await.unwrap();
            rules::act(&store, peer.0, alice.0, Relate::Accept, 1).await.unwrap();
        }
        rules::act(&store, carol.0, alice.0, Relate::Follow, 1).await.unwrap();
        let group = 77;
        let make = Act::Create {
            name: "Hikers".into(),
            announcement: String::new(),
            joining: Joining::Invite,
            members: vec![bob.clone(), carol.clone()],
        };
        conversations.change(group, alice.clone(), make).await.unwrap();
        let world = World { store, alice, bob, carol, group };
        let World { store, alice, bob, group, .. } = &world;
        // Enough of her own for several steps, with others' between.
        for id in 0..120 {
            says(store, alice, Target::Group(*group), id, "mine").await;
            if id % 40 == 0 {
                says(store, bob, Target::Group(*group), id, "not hers").await;
            }
        }
        for id in 0..3 {
            says(store, alice, Target::Direct(bob.0), id, "a secret").await;
            says(store, bob, Target::Direct(alice.0), id, "an answer").await;
        }
        world
    }

    /// What is kept of a conversation: sender, kind and text.
    async fn kept(&self, conv: i64) -> Vec<(i64, i64, String)> {
        let mut conn = self.store.reader().await.unwrap();
        let all =
            crate::store::conversations::read(&mut conn, conv, (1, 9_999), 9_999).await.unwrap();
        let text = |body: Option<Vec<u8>>| {
            let message = v1::StoredMessage::decode(body.unwrap_or_default().as_slice()).unwrap();
            let notice = message.notice.map(|notice| notice.users.join(" "));
            notice.unwrap_or(message.text)
        };
        all.into_iter().map(|kept| (kept.sender, kept.kind, text(kept.body))).collect()
    }

    async fn is_done(&self) -> Erasure {
        let begun = Instant::now();
        loop {
            let mut conn = self.store.reader().await.unwrap();
            let erasure = erasures::find(&mut conn, self.alice.0).await.unwrap().unwrap();
            if erasure.done_ms != 0 {
                return erasure;
            }
            drop(conn);
            assert!(begun.elapsed() < Duration::from_secs(60), "never done: {erasure:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether the name stands anywhere in the store.
    async fn names_her(&self) -> Vec<String> {
        let mut conn = self.store.reader().await.unwrap();
        let mut places = Vec::new();
        for text in [
            "SELECT name FROM users",
            "SELECT name FROM erasures",
            "SELECT device FROM sessions",
            "SELECT text FROM group_requests",
            "SELECT answer FROM idempotency",
            "SELECT announcement FROM group_info",
        ] {
            let rows = sqlx::query_as::<_, (String,)>(text).fetch_all(&mut *conn).await.unwrap();
            places.extend(rows.into_iter().map(|(found,)| format!("{text}: {found}")));
        }
        let bodies = sqlx::query_as::<_, (Vec<u8>,)>("SELECT body FROM message_content");
        for (body,) in bodies.fetch_all(&mut *conn).await.unwrap() {
            places.push(String::from_utf8_lossy(&body).into_owned());
        }
        places.retain(|found| found.contains("alice"));
        places
    }

    async fn check_nothing_is_left(&self) {
        let World { store, alice, bob, carol, group } = self;
        let erasure = self.is_done().await;
        assert_eq!(erasure.name, "");
        assert_eq!(self.names_her().await, Vec::<String>::new());
        for peer in [alice, bob, carol] {
            let counts = relations::counts(store, peer.0).await.unwrap();
            assert_eq!(counts, rules::Counts::default(), "{}", peer.1);
        }
        let log = self.kept(*group).await;
        let message = Kind::Message as i64;
        let of = |who: &User, text: &str| {
            let is =
                |row: &&(i64, i64, String)| row.0 == who.0 && row.1 == message && row.2 == text;
            log.iter().filter(is).count()
        };
        assert_eq!((of(alice, "mine"), of(alice, ""), of(bob, "not hers")), (0, 120, 3));
        let recalls = log.iter().filter(|(_, kind, _)| *kind == Kind::Recall as i64).count();
        assert_eq!(recalls, 120, "each once");
        let mut conn = store.reader().await.unwrap();
        let found = groups::find(&mut conn, *group).await.unwrap().unwrap();
        assert_eq!((found.size, found.ended), (2, false));
        assert!([bob.0, carol.0].contains(&found.owner));
        let direct = crate::store::conversations::direct(&mut conn, alice.0, bob.0).await.unwrap();
        let cursors = "SELECT COUNT(*) FROM memberships WHERE user = ? AND
            (read_seq <> since OR delivered_seq <> 0)";
        let cursors = sqlx::query_as::<_, (i64,)>(cursors).bind(alice.0);
        assert_eq!(cursors.fetch_one(&mut *conn).await.unwrap().0, 0);
        drop(conn);
        let talk = self.kept(direct).await;
        let texts: Vec<&str> = talk.iter().map(|(.., text)| text.as_str()).collect();
        assert_eq!(texts[..6], ["", "an answer", "", "an answer", "", "an answer"]);
        assert_eq!(talk.len(), 9);
    }
}

#[test]
fn an_erased_user_leaves_a_tombstone_and_what_others_wrote() {
    on_both(|store| async move {
        let world = World::new(Arc::clone(&store)).await;
        let (conversations, engine) = served(&store);
        let (id, name) = world.alice.clone();
        let begun = conversations.erase(id, &name).await.unwrap().unwrap();
        assert_eq!((begun.done_ms, begun.name.as_str()), (0, "alice"));
        let again = conversations.erase(id, &name).await.unwrap().unwrap();
        assert_eq!(again.begun_ms, begun.begun_ms, "it goes on, and does not begin anew");
        world.check_nothing_is_left().await;
        let recalls = recalls(&engine);
        let in_group = recalls.iter().filter(|(mcast, ..)| mcast.starts_with("group:"));
        assert_eq!(in_group.count(), 120);
        let theirs: Vec<u64> = recalls
            .iter()
            .filter(|(mcast, conversation, user, _)| {
                (mcast.as_str(), conversation.as_str(), user.as_str())
                    == ("user:bob", "user:alice", "alice")
            })
            .map(|(.., target)| *target)
            .collect();
        assert_eq!(theirs, [1, 3, 5], "devices know the conversation by its old name");
        // The identity is taken for ever, the row names nobody.
        let dialect = store.dialect();
        let back = store
            .write(move |conn| Box::pin(users::find_or_insert(conn, dialect, ("", "alice"), 9)));
        assert_eq!(back.await.unwrap(), None);
        let mut conn = store.reader().await.unwrap();
        let called = users::name(&mut conn, id).await.unwrap().unwrap();
        assert_eq!(called, "2bd806c97f0e00af1a1fc3328fa763a9@erased");
        assert_eq!(users::find(&mut conn, "", "alice").await.unwrap(), None);
        let (hash, _) = called.split_once('@').unwrap();
        assert_eq!(users::find(&mut conn, "erased", hash).await.unwrap(), None);
    });
}

#[test]
fn an_erasure_goes_on_after_a_restart() {
    on_both(|store| async move {
        let world = World::new(Arc::clone(&store)).await;
        let (id, name) = world.alice.clone();
        // The process ends behind the first transaction, and again in the middle of the messages.
        let erasure = erasures::begin(&store, id, &name, store.now_ms()).await.unwrap().unwrap();
        let shared = Conversations::new(Arc::clone(&store), limits(), Webhooks::default());
        let tells = tokio::sync::mpsc::channel(65_536);
        shared.shared.tells.set(tells.0).unwrap();
        let sends = super::super::send::Sends::start(&shared.shared, &shared.runtime);
        assert!(shared.shared.sends.set(sends).is_ok());
        let mut at = erasure.at;
        for _ in 0..3 {
            at = shared.shared.end_relations(id, &name).await.unwrap();
        }
        assert_eq!(at.phase, Phase::Groups);
        shared.shared.leave_groups(id, &name, at).await.unwrap();
        let first = At { phase: Phase::Messages, ..At::default() };
        shared.shared.advance(id, first).await.unwrap();
        let next = shared.shared.recall_next(id, &name, first).await.unwrap().unwrap();
        assert_ne!(next.seq, i64::MAX, "in the middle of a conversation");
        // Begun and not told to anybody: done again, it changes nothing.
        shared.shared.recall_next(id, &name, first).await.unwrap().unwrap();
        assert_ne!(world.names_her().await, Vec::<String>::new());
        let (_conversations, _engine) = served(&store);
        world.check_nothing_is_left().await;
    });
}

#[test]
fn an_operator_recalls_a_message_once_and_no_edit_brings_it_back() {
    on_both(|store| async move {
        let world = World::new(Arc::clone(&store)).await;
        let (conversations, engine) = served(&store);
        let World { alice, bob, group, .. } = &world;
        let mut conn = store.reader().await.unwrap();
        let direct = crate::store::conversations::direct(&mut conn, alice.0, bob.0).await.unwrap();
        drop(conn);
        let event = conversations.recall(direct, 2).await.unwrap();
        assert_eq!(event, Some(7));
        assert_eq!(conversations.recall(direct, 2).await.unwrap(), None, "gone before");
        for (conv, seq) in [(direct, 99), (direct, 7), (*group, 1), (5, 1)] {
            let refused = conversations.recall(conv, seq).await.unwrap_err();
            assert_eq!(refused.code(), Some(Code::NotFound), "{conv} {seq}");
        }
        let pushed = |to: &str, peer: &str| {
            (format!("user:{to}"), format!("user:{peer}"), "bob".to_owned(), 2)
        };
        assert_eq!(recalls(&engine), [pushed("alice", "bob"), pushed("bob", "alice")]);
        assert_eq!(world.kept(direct).await[1].2, "");
        let edit = Append {
            sender: bob.0,
            target: Target::Direct(alice.0),
            client_msg_id: 99,
            hash: 1,
            kind: Kind::Edit,
            target_seq: 2,
            body: b"back".to_vec(),
            by_operator: false,
        };
        let dialect = store.dialect();
        let items = Arc::new([edit]);
        let placed = store.write(move |conn| {
            let items = Arc::clone(&items);
            Box::pin(async move { append(conn, dialect, Policy::Friends, &*items, 5).await })
        });
        assert_eq!(placed.await.unwrap()[0], Err(Code::NotFound));
        assert!(conversations.recall(*group, 2).await.unwrap().is_some(), "in a group too");
    });
}

#[test]
fn an_operator_changes_a_group_without_being_in_it() {
    on_both(|store| async move {
        let world = World::new(Arc::clone(&store)).await;
        let (conversations, _engine) = served(&store);
        let World { alice, bob, carol, group, .. } = &world;
        let operate = async |what: Operation| {
            let operator = (crate::groups::OPERATOR, String::new());
            conversations.change(*group, operator, Act::Operate(what)).await
        };
        let changed = operate(Operation::Transfer(bob.clone())).await.unwrap();
        assert_eq!(changed.group.owner, bob.0);
        let same = operate(Operation::Transfer(bob.clone())).await.unwrap();
        assert!(same.notices.is_empty());
        let changed = operate(Operation::Remove(bob.clone())).await.unwrap();
        assert_eq!((changed.group.owner, changed.group.size), (alice.0, 2), "who moderates first");
        let none = operate(Operation::Remove(bob.clone())).await.unwrap_err();
        assert_eq!(none.code(), Some(Code::NotFound));
        let none = operate(Operation::Transfer(bob.clone())).await.unwrap_err();
        assert_eq!(none.code(), Some(Code::NotFound));
        let log = world.kept(*group).await;
        let by_nobody = log.iter().filter(|(sender, ..)| *sender == crate::groups::OPERATOR);
        assert_eq!(by_nobody.count(), 3, "handed on, handed on, removed");
        operate(Operation::Remove(alice.clone())).await.unwrap();
        let changed = operate(Operation::Remove(carol.clone())).await.unwrap();
        assert!(changed.group.ended, "the last one ends it");
        assert_eq!(operate(Operation::End).await.unwrap_err().code(), Some(Code::NotFound));
    });
}
