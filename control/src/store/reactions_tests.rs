//! Who reacted, by pages; and that a start which ended in the middle of a migration goes on.

use super::append::Target;
use super::reactions::{React, list, of_message, react};
use super::testing::{TestStore, on_both};
use super::{Store, conversations, relations, users};
use crate::relations::{Policy, befriend};
use std::sync::Arc;

async fn user(store: &Store, name: String) -> i64 {
    let dialect = store.dialect();
    let id = store.write(move |conn| {
        let name = name.clone();
        Box::pin(async move { users::find_or_insert(conn, dialect, ("", &name), 1).await })
    });
    id.await.unwrap().unwrap()
}

async fn reacts(store: &Store, items: Vec<React>) -> usize {
    let (dialect, items) = (store.dialect(), Arc::new(items));
    let done = store.write(move |conn| {
        let items = Arc::clone(&items);
        Box::pin(async move { react(conn, dialect, Policy::Anyone, &items, 5).await })
    });
    done.await.unwrap().into_iter().filter(|answer| *answer == Ok(true)).count()
}

/// Rows of reactions to the first message, as a big group would leave them: of every user an a, of
/// every second one a b too.
async fn leave_rows(store: &Store, conv: i64, users: Vec<i64>) {
    let rows = Arc::new(users);
    let written = store.write(move |conn| {
        let rows = Arc::clone(&rows);
        Box::pin(async move {
            for (at, user) in rows.iter().enumerate() {
                for reaction in ["a", "b"].into_iter().take(1 + at % 2) {
                    let insert = sqlx::query(
                        "INSERT INTO reactions (conv, seq, user, reaction, made_ms)
                            VALUES (?, 1, ?, ?, 5)",
                    );
                    let insert = insert.bind(conv).bind(*user);
                    insert.bind(reaction.as_bytes().to_vec()).execute(&mut *conn).await?;
                }
            }
            Ok(())
        })
    });
    written.await.unwrap();
}

#[test]
fn who_reacted_is_listed_by_pages_whatever_the_reaction() {
    on_both(|store| async move {
        // One message, to oneself: what is listed does not depend on who may see it.
        let owner = user(&store, "owner".into()).await;
        relations::change(&store, owner, user(&store, "x".into()).await, 1, befriend)
            .await
            .unwrap()
            .unwrap();
        let mut conn = store.reader().await.unwrap();
        let conv = conversations::direct(&mut conn, owner, owner).await.unwrap();
        drop(conn);
        let (dialect, item) = (store.dialect(), message(owner));
        let written = store.write(move |conn| {
            let item = item.clone();
            Box::pin(async move {
                super::append::append(conn, dialect, Policy::Anyone, &[item], 2).await
            })
        });
        assert_eq!(written.await.unwrap()[0].unwrap().seq, 1);
        let one = |reaction: &str| React {
            conv,
            user: owner,
            target: Target::Direct(owner),
            seq: 1,
            reaction: reaction.into(),
            remove: false,
        };
        // The same twice in one transaction, and one that comes and goes.
        let gone = React { remove: true, ..one("c") };
        let items = vec![one("b"), one("a"), one("b"), one("c"), gone, one("d")];
        assert_eq!(reacts(&store, items).await, 5, "all but the second b changed something");
        let mut conn = store.reader().await.unwrap();
        let beside = of_message(&mut conn, (conv, 1), owner).await.unwrap();
        let totals: Vec<(&str, u32)> =
            beside.totals.iter().map(|total| (total.reaction.as_str(), total.count)).collect();
        assert_eq!(totals, [("b", 1), ("a", 1), ("d", 1)], "in the order they were first used");
        assert_eq!(beside.own, ["a", "b", "d"]);
        // Rows of many users, as a big group would leave them.
        drop(conn);
        let mut others = Vec::new();
        for n in 0..30 {
            others.push(user(&store, format!("u{n}")).await);
        }
        leave_rows(&store, conv, others).await;
        for (only, expected) in [(None, 31), (Some("a"), 31), (Some("b"), 16), (Some("A"), 0)] {
            let (mut found, mut after) = (Vec::new(), 0);
            loop {
                let mut conn = store.reader().await.unwrap();
                let page = list(&mut conn, (conv, 1), only, after, 7).await.unwrap();
                let Some(last) = page.last() else { break };
                after = last.0;
                let whole = |name: &str, all: &[String]| {
                    only.is_some() || name == "owner" || matches!(all.len(), 1 | 2)
                };
                assert!(page.iter().all(|(_, name, all)| whole(name, all)), "{page:?}");
                found.extend(page.into_iter().map(|(user, ..)| user));
            }
            let many = found.len();
            assert!(found.windows(2).all(|pair| pair[0] < pair[1]), "{only:?}");
            assert_eq!(many, expected, "{only:?}");
        }
    });
}

fn message(owner: i64) -> super::append::Append {
    super::append::Append {
        sender: owner,
        target: Target::Direct(owner),
        client_msg_id: 1,
        hash: 1,
        kind: uproar_proto::v1::Kind::Message,
        target_seq: 0,
        body: b"x".to_vec(),
        by_operator: false,
    }
}

#[test]
fn a_start_that_ended_between_a_migration_and_its_note_goes_on() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stores = [Some(TestStore::sqlite().await), TestStore::mysql().await];
        for test in stores.into_iter().flatten() {
            let forgotten = test.write(|conn| {
                Box::pin(async move {
                    let delete = "DELETE FROM migrations WHERE name IN
                        ('memberships_hidden_seq', 'memberships_silent', 'users_name_bytes')";
                    sqlx::query(delete).execute(conn).await?;
                    Ok(())
                })
            });
            forgotten.await.unwrap();
            test.close().await;
            let again = Store::open(&test.url, true).await.unwrap();
            let count = sqlx::query_as::<_, (i64,)>("SELECT COUNT(*) FROM migrations");
            let count = count.fetch_one(&mut *again.reader().await.unwrap()).await.unwrap();
            assert_eq!(count.0 as usize, super::schema::all().count());
            again.close().await;
            test.end().await;
        }
    });
}
