//! Messages that are too old, and what a reader sees of them, on every store.

use super::append::{Append, Target, append};
use super::figures::Removed;
use super::testing::on_both;
use super::upkeep::{DAY_MS, Upkeep};
use super::{Dialect, Store, conversations, leftovers, migrate, partitions, retention, users};
use crate::relations::Policy;
use std::sync::Arc;
use tokio::sync::watch;
use uproar_proto::v1::Kind;

/// The beginning of a period of 30 days.
const START: i64 = 600 * 30 * DAY_MS;
const PERIOD: i64 = 30 * DAY_MS;

async fn user(store: &Store, name: &'static str) -> i64 {
    let dialect = store.dialect();
    let made = store.write(move |conn| {
        Box::pin(async move { users::find_or_insert(conn, dialect, ("", name), START).await })
    });
    made.await.unwrap().unwrap()
}

/// Messages from one to the other at a moment; the last one's seq.
async fn say(store: &Store, (from, to): (i64, i64), ids: std::ops::Range<u128>, at: i64) -> i64 {
    let item = |id| Append {
        sender: from,
        target: Target::Direct(to),
        client_msg_id: id,
        hash: 1,
        kind: Kind::Message,
        target_seq: 0,
        body: b"hello".to_vec(),
        by_operator: false,
    };
    let (dialect, items) = (store.dialect(), Arc::new(ids.map(item).collect::<Vec<_>>()));
    let places = store.write(move |conn| {
        let items = Arc::clone(&items);
        Box::pin(async move { append(conn, dialect, Policy::Anyone, &items, at).await })
    });
    places.await.unwrap().last().unwrap().unwrap().seq
}

/// The upkeep of a store without its task, with the partitions of these periods.
async fn upkeep(store: &Arc<Store>) -> Upkeep {
    let (_, ending) = watch::channel(false);
    let plan = super::Plan { keep_ms: 2 * PERIOD, period_ms: PERIOD };
    let upkeep = Upkeep::of(store, plan, ending).await.unwrap();
    if let Some(server) = &upkeep.server {
        let mut conn = server.lock().await;
        let times = (START, START + 2 * PERIOD);
        let made = partitions::make_ahead(&mut conn, PERIOD, times, false).await.unwrap();
        assert_eq!((made.partitions, made.blocked), (6, false));
    }
    upkeep
}

async fn count(store: &Store, statement: &'static str) -> i64 {
    let count = sqlx::query_as::<_, (i64,)>(statement);
    count.fetch_one(&mut *store.reader().await.unwrap()).await.unwrap().0
}

const INDEX: &str = "SELECT COUNT(*) FROM message_index";
const CONTENT: &str = "SELECT COUNT(*) FROM message_content";

#[test]
fn old_messages_go_and_what_a_reader_sees_stays_right() {
    on_both(|store| async move {
        let (alice, bob) = (user(&store, "alice").await, user(&store, "bob").await);
        let carol = user(&store, "carol").await;
        let upkeep = upkeep(&store).await;
        // More than two steps' worth of old ones, some in the next period, some now.
        say(&store, (alice, bob), 0..600, START + 1).await;
        say(&store, (alice, bob), 600..610, START + PERIOD + 1).await;
        say(&store, (alice, bob), 610..620, START + 2 * PERIOD + 1).await;
        say(&store, (carol, bob), 0..3, START + 5).await;
        let conv = conversations::pair_id((alice, bob), 0);
        let view = async |since_ms| {
            let mut conn = store.reader().await.unwrap();
            let views = conversations::changed(&mut conn, bob, since_ms, 0, 10).await.unwrap();
            let of = |view: &conversations::View| (view.floor, view.head, view.unread);
            views.iter().map(|view| (view.conv, of(view))).collect::<Vec<_>>()
        };
        let of = |views: &[(i64, (i64, i64, i64))]| {
            views.iter().find(|view| view.0 == conv).map(|view| view.1)
        };
        assert_eq!(of(&view(0).await), Some((0, 620, 620)));
        // Two periods are kept, so nothing is old yet; a moment later the first one is.
        let keep = 2 * PERIOD;
        retention::run(&upkeep, keep, START + 3 * PERIOD - 1).await.unwrap();
        assert_eq!((count(&store, INDEX).await, count(&store, CONTENT).await), (623, 623));
        let now_ms = START + 3 * PERIOD;
        retention::run(&upkeep, keep, now_ms).await.unwrap();
        // The rows at both floors stay in the index: unread messages are counted from there.
        assert_eq!((count(&store, INDEX).await, count(&store, CONTENT).await), (22, 20));
        let views = view(now_ms).await;
        assert_eq!(views.len(), 2, "a sync tells of both floors");
        assert_eq!(of(&views), Some((600, 620, 20)), "and counts what is left");
        let other = views.iter().find(|view| view.0 != conv).unwrap();
        assert_eq!(other.1, (3, 3, 0));
        let mut conn = store.reader().await.unwrap();
        assert_eq!(conversations::readable(&mut conn, conv, bob).await.unwrap(), [(601, 620)]);
        let kept = conversations::read(&mut conn, conv, (1, 620), 1_000).await.unwrap();
        assert!(kept[0].seq == 600 && kept[0].body.is_none(), "gone, and below what is readable");
        assert!(kept[1..].iter().all(|kept| kept.body.as_deref() == Some(b"hello")));
        drop(conn);
        // What is kept is known by its id; what is gone is another message.
        assert_eq!(say(&store, (alice, bob), 605..606, now_ms).await, 606);
        assert_eq!(say(&store, (alice, bob), 5..6, now_ms).await, 621);
        assert_eq!(store.figures.removed(Removed::Messages), 601);
        // Again: nothing is left to do.
        retention::run(&upkeep, keep, now_ms).await.unwrap();
        assert_eq!(count(&store, INDEX).await, 23);
        retention::run(&upkeep, keep, now_ms + PERIOD).await.unwrap();
        assert_eq!(of(&view(0).await), Some((610, 621, 11)));
    });
}

/// As whoever reacts to a message leaves rows: this many reactions, and what is counted of them.
async fn leave_reactions(store: &Store, (conv, seq): (i64, i64), many: i64) {
    let written = store.write(move |conn| {
        Box::pin(async move {
            for user in 0..many {
                let insert = sqlx::query(
                    "INSERT INTO reactions (conv, seq, user, reaction, made_ms)
                        VALUES (?, ?, ?, ?, 1)",
                );
                // Two of each user.
                let reaction = if user % 2 == 0 { b"a".to_vec() } else { b"b".to_vec() };
                let insert = insert.bind(conv).bind(seq).bind(user / 2).bind(reaction);
                insert.execute(&mut *conn).await?;
            }
            for insert in [
                "INSERT INTO reaction_heads (conv, seq, event, user, totals)
                    VALUES (?, ?, 0, 1, '')",
                "INSERT INTO reaction_pending (conv, seq) VALUES (?, ?)",
            ] {
                sqlx::query(insert).bind(conv).bind(seq).execute(&mut *conn).await?;
            }
            Ok(())
        })
    });
    written.await.unwrap();
}

#[test]
fn what_stands_beside_old_messages_goes_with_them() {
    on_both(|store| async move {
        let (alice, bob) = (user(&store, "alice").await, user(&store, "bob").await);
        let upkeep = upkeep(&store).await;
        say(&store, (alice, bob), 0..3, START + 1).await;
        say(&store, (alice, bob), 3..6, START + 2 * PERIOD + 1).await;
        let conv = conversations::pair_id((alice, bob), 0);
        // More than two steps' worth at one message, and at the floor's own; some at a kept one.
        for (seq, many) in [(2, 701), (3, 3), (4, 5)] {
            leave_reactions(&store, (conv, seq), many).await;
        }
        let pinned = store.write(move |conn| {
            Box::pin(async move {
                for seq in [1, 3, 5] {
                    let pin = sqlx::query("INSERT INTO pins (conv, seq, event) VALUES (?, ?, 6)");
                    pin.bind(conv).bind(seq).execute(&mut *conn).await?;
                }
                // More than a page of conversations, where an earlier walk was interrupted.
                for conv in 1..=70 {
                    let row = sqlx::query(
                        "INSERT INTO conversations
                            (conv, kind, user_a, user_b, head, counted, floor, changed_ms)
                            VALUES (?, 1, 1, 2, 1, 1, 1, 1)",
                    );
                    row.bind(conv).execute(&mut *conn).await?;
                }
                Ok(())
            })
        });
        pinned.await.unwrap();
        for other in [1, 64, 65, 70] {
            leave_reactions(&store, (other, 1), 1).await;
        }
        const ALL: [&str; 4] = [
            "SELECT COUNT(*) FROM reactions",
            "SELECT COUNT(*) FROM reaction_heads",
            "SELECT COUNT(*) FROM reaction_pending",
            "SELECT COUNT(*) FROM pins",
        ];
        let rows = async || {
            let mut rows = [0; ALL.len()];
            for (at, statement) in ALL.into_iter().enumerate() {
                rows[at] = count(&store, statement).await;
            }
            rows
        };
        assert_eq!(rows().await, [713, 7, 7, 3]);
        retention::run(&upkeep, 2 * PERIOD, START + 3 * PERIOD - 1).await.unwrap();
        // Where it is time to look, it finds what was left; nothing else is old yet.
        let early = rows().await;
        assert!([[713, 7, 7, 3], [709, 3, 3, 3]].contains(&early), "{early:?}");
        retention::run(&upkeep, 2 * PERIOD, START + 3 * PERIOD).await.unwrap();
        assert_eq!(rows().await, [5, 1, 1, 1], "what stands at a kept message");
        let kept = "SELECT MIN(seq) + MIN(conv) - MAX(conv) FROM reactions";
        assert_eq!(count(&store, kept).await, 4);
        assert_eq!(count(&store, "SELECT MAX(seq) FROM pins").await, 5);
        let figures = &store.figures;
        assert_eq!(figures.removed(Removed::Reactions), 708 + 6 + 6);
        assert_eq!(figures.removed(Removed::Pins), 2);
        assert_eq!(figures.removed(Removed::Messages), 2);
    });
}

#[test]
fn what_ended_long_ago_is_kept_for_as_long_as_a_sync_tells_it() {
    on_both(|store| async move {
        let upkeep = upkeep(&store).await;
        let filled = store.write(move |conn| {
            Box::pin(async move {
                for id in 0..600_i64 {
                    let insert = sqlx::query(
                        "INSERT INTO ended_relations (user_id, peer_id, changed_ms)
                            VALUES (?, ?, ?)",
                    );
                    // Every third one is not that old.
                    let changed_ms = START - 91 * DAY_MS - i64::from(id % 3 != 0);
                    let insert = insert.bind(id / 5).bind(id).bind(changed_ms);
                    insert.execute(&mut *conn).await?;
                }
                Ok(())
            })
        });
        filled.await.unwrap();
        leftovers::run(&upkeep, START - 1).await.unwrap();
        assert_eq!(count(&store, "SELECT COUNT(*) FROM ended_relations").await, 600);
        leftovers::run(&upkeep, START).await.unwrap();
        assert_eq!(count(&store, "SELECT COUNT(*) FROM ended_relations").await, 200);
        let oldest = "SELECT MIN(changed_ms) FROM ended_relations";
        assert_eq!(count(&store, oldest).await, START - 91 * DAY_MS);
        assert_eq!(store.figures.removed(Removed::Ended), 400);
    });
}

#[test]
fn content_that_went_before_its_index_row_is_told_as_gone() {
    on_both(|store| async move {
        let (alice, bob) = (user(&store, "alice").await, user(&store, "bob").await);
        let upkeep = upkeep(&store).await;
        say(&store, (alice, bob), 0..2, START + 1).await;
        // Only a server drops content before its index rows.
        let Some(server) = &upkeep.server else { return };
        // One that was interrupted before.
        let left = "CREATE TABLE message_content_aside (conv BIGINT)";
        sqlx::query(left).execute(&mut *server.lock().await).await.unwrap();
        let dropped = partitions::drop_before(&mut *server.lock().await, START + PERIOD).await;
        assert_eq!(dropped.unwrap(), Some(1));
        let aside = "SELECT COUNT(*) FROM information_schema.tables
            WHERE table_schema = DATABASE() AND table_name = 'message_content_aside'";
        assert_eq!(count(&store, aside).await, 0, "nothing is left of it");
        let conv = conversations::pair_id((alice, bob), 0);
        let mut conn = store.reader().await.unwrap();
        let kept = conversations::read(&mut conn, conv, (1, 9), 9).await.unwrap();
        assert!(kept.len() == 2 && kept.iter().all(|kept| kept.body.is_none()));
        drop(conn);
        assert_eq!(say(&store, (alice, bob), 1..2, START + 9).await, 2, "its id is known");
    });
}

#[test]
fn partitions_are_made_ahead_once_and_never_from_under_rows() {
    on_both(|store| async move {
        let (alice, bob) = (user(&store, "alice").await, user(&store, "bob").await);
        let upkeep = upkeep(&store).await;
        if store.dialect() == Dialect::Sqlite {
            return; // it has none
        }
        let mut conn = upkeep.server.as_ref().unwrap().lock().await;
        let now_ms = START + 2 * PERIOD;
        let again = partitions::make_ahead(&mut conn, PERIOD, (now_ms, now_ms), false).await;
        assert_eq!(again.unwrap().partitions, 0);
        // Somebody changes tables, or copies them: these wait.
        let mut other = store.place.connect().await.unwrap();
        assert!(migrate::hold_schema(&mut other, 0).await.unwrap());
        let later = now_ms + PERIOD;
        let held = partitions::make_ahead(&mut conn, PERIOD, (later, later), false).await.unwrap();
        assert_eq!((held.partitions, held.blocked), (0, false));
        assert_eq!(partitions::drop_before(&mut conn, now_ms).await.unwrap(), None);
        migrate::release_schema(&mut other).await.unwrap();
        // A clock that was far ahead: its messages stand beyond all bounds.
        say(&store, (alice, bob), 0..1, START + 20 * PERIOD).await;
        let blocked = partitions::make_ahead(&mut conn, PERIOD, (later, later), false).await;
        assert!(blocked.unwrap().blocked);
        let moved = partitions::make_ahead(&mut conn, PERIOD, (later, later), true).await.unwrap();
        assert_eq!((moved.partitions, moved.blocked), (1, false));
        let at = "SELECT COUNT(*) FROM message_content PARTITION (later)";
        assert_eq!(count(&store, at).await, 1, "it stayed beyond them");
    });
}

#[test]
fn what_is_over_goes_and_what_is_not_stays() {
    on_both(|store| async move {
        let upkeep = upkeep(&store).await;
        let day = DAY_MS;
        let filled = store.write(move |conn| {
            Box::pin(async move {
                for id in 0..600_i64 {
                    let session = sqlx::query(
                        "INSERT INTO sessions (user_id, id, device, turn, token_hash, turned_ms,
                            created_ms, expires_ms) VALUES (?, ?, '', 1, '', 1, 1, ?)",
                    );
                    // Every third one goes on.
                    let expires_ms = if id % 3 == 0 { START + 1 } else { START };
                    session.bind(id / 5).bind(id).bind(expires_ms).execute(&mut *conn).await?;
                    let link = sqlx::query(
                        "INSERT INTO group_links (token, conv, made_by, made_ms, expires_ms,
                            uses_left) VALUES (?, 1, 1, 1, ?, ?)",
                    );
                    let link = link.bind(format!("token{id}")).bind(expires_ms);
                    link.bind(i64::from(id % 6 == 0)).execute(&mut *conn).await?;
                    let key = sqlx::query(
                        "INSERT INTO idempotency (caller, route, idem_key, body_hash, status,
                            answer, made_ms) VALUES ('c', 'r', ?, '', 200, '', ?)",
                    );
                    let made_ms = if id % 3 == 0 { START - day + 1 } else { START - day };
                    key.bind(format!("k{id}")).bind(made_ms).execute(&mut *conn).await?;
                    let held = sqlx::query(
                        "INSERT INTO room_penalties (room, kind, user, until_ms)
                            VALUES (?, ?, ?, ?)",
                    );
                    let held = held.bind(format!("r{}", id / 100)).bind(id % 2);
                    held.bind(&id.to_be_bytes()[..]).bind(expires_ms).execute(&mut *conn).await?;
                }
                Ok(())
            })
        });
        filled.await.unwrap();
        leftovers::run(&upkeep, START).await.unwrap();
        assert_eq!(count(&store, "SELECT COUNT(*) FROM sessions").await, 200);
        assert_eq!(count(&store, "SELECT MIN(expires_ms) FROM sessions").await, START + 1);
        assert_eq!(count(&store, "SELECT COUNT(*) FROM group_links").await, 100);
        assert_eq!(count(&store, "SELECT COUNT(*) FROM idempotency").await, 200);
        assert_eq!(count(&store, "SELECT COUNT(*) FROM room_penalties").await, 200);
        assert_eq!(count(&store, "SELECT MIN(until_ms) FROM room_penalties").await, START + 1);
        let figures = &store.figures;
        assert_eq!(figures.removed(Removed::Penalties), 400);
        assert_eq!(figures.removed(Removed::Sessions), 400);
        assert_eq!(figures.removed(Removed::Links), 500);
        assert_eq!(figures.removed(Removed::Keys), 400);
    });
}

#[test]
fn a_store_that_serves_is_looked_after_and_ends() {
    super::testing::runtime().block_on(async {
        for test in [
            Some(super::testing::TestStore::sqlite().await),
            super::testing::TestStore::mysql().await,
        ]
        .into_iter()
        .flatten()
        {
            let config = crate::StoreConfig {
                url: test.url.clone(),
                retention_days: 60,
                ..Default::default()
            };
            let store = Store::serve(&config).await.unwrap();
            if store.dialect() == Dialect::Mysql {
                let partitions = "SELECT COUNT(*) FROM information_schema.partitions
                    WHERE table_schema = DATABASE() AND table_name = 'message_content'";
                assert_eq!(count(&store, partitions).await, 5, "this period, three more, later");
            }
            store.close().await;
            test.end().await;
        }
    });
}
