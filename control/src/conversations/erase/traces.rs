//! What of an erased user stands anywhere in a store: every column of every table is looked at.

use super::super::desk::{Desk, reaction, text};
use super::super::words;
use crate::relations::{Policy, part};
use crate::store::append::Target;
use crate::store::reactions::{React, react};
use crate::store::settings::{self, Wanted};
use crate::store::testing::on_both;
use crate::store::{Store, erasures, penalties, users};
use sqlx::{AssertSqlSafe, Column as _, Row as _};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use uproar_proto::control::PenaltyKind;
use uproar_proto::error::Code;
use uproar_proto::v1::{self, Kind};

const GROUP: i64 = 77;
/// Texts that are the user's alone, and its name.
const HERS: [&str; 7] =
    ["alice", "her words", "mine!", "her phone", "let me in", "was rude", "her answer"];
/// Where the number of an erased user stays, as `store::erasures` tells.
const TOMBSTONE: [&str; 10] = [
    "users.id",
    "erasures.user_id",
    "conversations.user_a",
    "conversations.user_b",
    "memberships.user",
    "message_index.sender",
    "reaction_heads.user",
    "group_links.made_by",
    "group_requests.asked_by",
    "ended_relations.peer_id",
];

/// Where something of hers stands before.
const GONE: [&str; 19] = [
    "bans.reason as text",
    "bans.user_id",
    "ended_relations.user_id",
    "group_requests.text as text",
    "group_requests.user_id",
    "idempotency.answer as text",
    "idempotency.caller as text",
    "message_content.body as text",
    "reaction_heads.totals as text",
    "reactions.reaction as text",
    "reactions.user",
    "relation_counts.user_id",
    "relations.peer_id",
    "relations.user_id",
    "room_penalties.user as text",
    "sessions.device as text",
    "sessions.user_id",
    "user_settings.user_id",
    "users.name as text",
];

/// Columns in which the user's number or one of its texts stands.
async fn traces(desk: &Desk, user: i64) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let number = user.to_string();
    let mut conn = desk.store.reader().await.unwrap();
    for table in desk.rows().await.into_keys() {
        let select = AssertSqlSafe(format!("SELECT * FROM {table}"));
        for row in sqlx::query(select).fetch_all(&mut *conn).await.unwrap() {
            for (at, column) in row.columns().iter().enumerate() {
                let place = format!("{table}.{}", column.name());
                if let Ok(value) = row.try_get::<Option<i64>, _>(at) {
                    if value == Some(user) {
                        found.insert(place);
                    }
                    continue;
                }
                let text = match row.try_get::<Option<String>, _>(at) {
                    Ok(text) => text.unwrap_or_default(),
                    Err(_) => {
                        let bytes = row.try_get::<Option<Vec<u8>>, _>(at).unwrap();
                        String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
                    }
                };
                if text.contains(&number) || HERS.iter().any(|hers| text.contains(hers)) {
                    found.insert(format!("{place} as text"));
                }
            }
        }
    }
    found
}

/// Rows that other parts of the program write, about a user.
async fn leave_rows(desk: &Desk, user: i64) {
    let written = desk.store.write(move |conn| {
        Box::pin(async move {
            for insert in [
                "INSERT INTO sessions (user_id, id, device, turn, token_hash, turned_ms,
                    created_ms, expires_ms) VALUES (?, 1, 'her phone', 1, '', 1, 1, 1)",
                "INSERT INTO bans (user_id, until_ms, reason, made_ms)
                    VALUES (?, 0, 'was rude', 1)",
                "INSERT INTO group_links (token, conv, made_by, made_ms, expires_ms, uses_left)
                    VALUES ('t', 77, ?, 1, 1, 1)",
                "INSERT INTO group_requests (conv, user_id, asked_by, text, asked_ms)
                    VALUES (88, ?, 5, 'let me in', 1)",
                "INSERT INTO group_requests (conv, user_id, asked_by, text, asked_ms)
                    VALUES (88, 6, ?, '', 1)",
                "UPDATE memberships SET silent = 1 WHERE user = ?",
            ] {
                sqlx::query(insert).bind(user).execute(&mut *conn).await?;
            }
            let answer = sqlx::query(
                "INSERT INTO idempotency (caller, route, idem_key, body_hash, status, answer,
                    made_ms) VALUES (?, 'r', 'k', '', 200, 'her answer', 1)",
            );
            answer.bind(format!("user {user}")).execute(&mut *conn).await?;
            let waiting = "INSERT INTO webhook_outbox (hook, conv, seq, event, made_ms)
                VALUES ('a', 77, 2, 9, 1)";
            sqlx::query(waiting).execute(conn).await?;
            Ok(())
        })
    });
    written.await.unwrap();
    let key = ("stage".to_owned(), PenaltyKind::Ban, "alice".to_owned());
    penalties::keep(&desk.store, Arc::new([(key, 9)]), 9, 1).await.unwrap();
}

async fn set(desk: &Desk, user: i64, private: bool) {
    let (dialect, now_ms) = (desk.store.dialect(), desk.store.now_ms());
    let wanted = Wanted { private_read: Some(private), ..Wanted::default() };
    let changed = desk
        .store
        .write(move |conn| Box::pin(settings::change(conn, dialect, user, wanted, now_ms)));
    changed.await.unwrap();
}

/// The events that tell the counts of bob's messages, and how many messages wait for one.
async fn told(desk: &Desk, own: u64) -> (i64, i64) {
    let mut conn = desk.store.reader().await.unwrap();
    // Without her own message: its row goes with her, and would take its event off the sum.
    let newest =
        "SELECT CAST(SUM(event) AS SIGNED) FROM reaction_heads WHERE conv <> ? OR seq <> ?";
    let newest = sqlx::query_as::<_, (i64,)>(newest).bind(GROUP).bind(own as i64);
    let newest = newest.fetch_one(&mut *conn).await.unwrap();
    let waiting = sqlx::query_as::<_, (i64,)>("SELECT COUNT(*) FROM reaction_pending");
    (newest.0, waiting.fetch_one(&mut *conn).await.unwrap().0)
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < Duration::from_secs(30), "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn counts(desk: &Desk, conversation: &str, seq: u64) -> Vec<(String, u32)> {
    let pulled = desk.pulls("bob", conversation).await;
    let message = pulled.into_iter().find(|message| message.seq == seq).unwrap();
    message.reactions.into_iter().map(|total| (total.reaction, total.count)).collect()
}

/// Alice, and what she has left everywhere.
struct Scene {
    desk: Desk,
    alice: i64,
    bob: i64,
    group: String,
    /// Hers, in the group.
    own: u64,
    /// Bob's, in the group and to her.
    theirs: [u64; 2],
}

impl Scene {
    async fn new(store: &Arc<Store>) -> Scene {
        let desk = Desk::new(store);
        for (one, other) in [("alice", "bob"), ("alice", "cleo"), ("alice", "dan")] {
            desk.friends(one, other).await;
        }
        desk.relate("alice", "dan", part).await;
        let (alice, bob) = (desk.user("alice").await.0, desk.user("bob").await.0);
        let group = desk.group(GROUP, &["alice", "bob"]).await;
        let own = desk.sends("alice", text(&group, 1, "her words")).await.unwrap();
        let in_group = desk.sends("bob", text(&group, 1, "his words")).await.unwrap();
        desk.sends("alice", text("user:bob", 2, "her words")).await.unwrap();
        let in_direct = desk.sends("bob", text("user:alice", 2, "his words")).await.unwrap();
        for (user, to, seq, what) in [
            ("alice", &*group, in_group, "+1"),
            ("alice", &*group, in_group, "mine!"),
            ("bob", &*group, in_group, "+1"),
            ("bob", &*group, own, "+1"),
            ("alice", "user:bob", in_direct, "mine!"),
            ("bob", "user:alice", in_direct, "+1"),
        ] {
            desk.reacts(user, reaction(to, seq, what)).await.unwrap();
        }
        let pin = v1::Send { kind: Kind::Pin.into(), target_seq: in_group, ..text(&group, 3, "") };
        desk.sends("alice", pin).await.unwrap();
        // What was read in private, twice: so that it is hidden, and there is a row.
        for private in [true, false, true] {
            set(&desk, alice, private).await;
        }
        leave_rows(&desk, alice).await;
        Scene { desk, alice, bob, group, own, theirs: [in_group, in_direct] }
    }

    async fn erase(&self) {
        self.desk.conversations.erase(self.alice, "alice").await.unwrap().unwrap();
        until("it is done", async || {
            let mut conn = self.desk.store.reader().await.unwrap();
            erasures::find(&mut conn, self.alice).await.unwrap().unwrap().done_ms != 0
        })
        .await;
    }

    /// Memberships that say more than that there was one.
    async fn telling_memberships(&self) -> i64 {
        let telling = "SELECT COUNT(*) FROM memberships
            WHERE user = ? AND (silent <> 0 OR hidden_seq <> 0)";
        let telling = sqlx::query_as::<_, (i64,)>(telling).bind(self.alice);
        telling.fetch_one(&mut *self.desk.store.reader().await.unwrap()).await.unwrap().0
    }

    /// Both react to bob's message in the group, as if it had been under way.
    async fn react_late(&self) -> Vec<Result<bool, Code>> {
        let late = React {
            conv: GROUP,
            user: self.alice,
            target: Target::Group(GROUP),
            seq: self.theirs[0] as i64,
            reaction: "mine!".into(),
            remove: false,
        };
        let (dialect, bobs) = (self.desk.store.dialect(), React { user: self.bob, ..late.clone() });
        let items = Arc::new([late, bobs]);
        let done = self.desk.store.write(move |conn| {
            let items = Arc::clone(&items);
            Box::pin(async move { react(conn, dialect, Policy::Anyone, &*items, 9).await })
        });
        done.await.unwrap()
    }
}

fn set_of(places: &[&str]) -> BTreeSet<String> {
    places.iter().map(|place| (*place).to_owned()).collect()
}

#[test]
fn of_an_erased_user_a_number_is_left_that_means_nobody() {
    on_both(|store| async move {
        let scene = Scene::new(&store).await;
        let Scene { desk, alice, group, own, theirs, .. } = &scene;
        until("all counts are told", async || told(desk, *own).await.1 == 0).await;
        let (before, _) = told(desk, *own).await;
        let found = traces(desk, *alice).await;
        let (gone, stays) = (set_of(&GONE), set_of(&TOMBSTONE));
        let missing: Vec<_> = gone.difference(&found).collect();
        assert!(missing.is_empty(), "the look finds what it looks for: {missing:?}");
        assert!(found.is_subset(&(&gone | &stays)), "{found:?}");
        assert!(scene.telling_memberships().await > 0);

        scene.erase().await;
        let left = traces(desk, *alice).await;
        let left: Vec<_> = left.difference(&stays).collect();
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(scene.telling_memberships().await, 0);
        let rows = desk.rows().await;
        assert_eq!((rows["webhook_outbox"], rows["pins"]), (1, 1), "they name nobody");
        // At bob's messages bob's own are left, and everybody is told.
        assert_eq!(rows["reactions"], 2);
        until("the counts are told", async || {
            let (now, waiting) = told(desk, *own).await;
            waiting == 0 && now > before
        })
        .await;
        let direct = words::with_user(&users::erased_name("alice"));
        for (conversation, seq) in [(group, theirs[0]), (&direct, theirs[1])] {
            assert_eq!(counts(desk, conversation, seq).await, [("+1".to_owned(), 1)]);
        }
        assert_eq!(counts(desk, group, *own).await, [], "recalled");
        assert_eq!(scene.react_late().await, [Err(Code::TokenInvalid), Ok(true)]);
    });
}
