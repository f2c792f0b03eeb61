//! What panics in the middle of something, and what goes on all the same: stories of defects.

use super::desk::{Desk, code_of, reaction, text};
use crate::guard::count;
use crate::store::StoreError;
use crate::store::testing::on_both;
use std::collections::BTreeMap;
use uproar_proto::control::{Ask, Asked, ConnectionId, Control as _, Tell};
use uproar_proto::error::Code;
use uproar_proto::v1::{self, client_frame, server_frame::Body};

/// Sends all of these at once, as one connection; by number, the seq or the code of each.
async fn sends_all(desk: &Desk, serial: u64, sends: Vec<v1::Send>) -> Vec<Result<u64, Code>> {
    let from = ConnectionId { node: 0, shard: 0, conn: 7, serial };
    let sent = sends.len();
    for (number, send) in sends.into_iter().enumerate() {
        let what = Asked::Frame(client_frame::Body::Send(send));
        let number = number as u32;
        desk.conversations.ask(Ask { from, number, user: "ann".into(), what });
    }
    let mut answers = BTreeMap::new();
    for at in 0..sent as u32 {
        let answer = desk.until(|tell| match tell {
            Tell::Answer { to, number, frames } if (*to, *number) == (from, at) => {
                Some(frames.clone())
            }
            _ => None,
        });
        let [Body::Sent(sent)] = &answer.await[..] else { panic!("one answer") };
        let answer = Code::from_number(sent.code).map_or(Ok(sent.seq), Err);
        answers.insert(at, answer);
    }
    // Whatever comes late has come by now: a shard counts answers, and gets each once.
    desk.syncs("ann", "", 0).await;
    let told = desk.told();
    let is_mine = |tell: &&Tell| matches!(tell, Tell::Answer { to, .. } if *to == from);
    assert_eq!(told.iter().filter(is_mine).count(), sent, "each has one answer");
    answers.into_values().collect()
}

#[test]
fn a_batch_that_panics_is_refused_and_its_lane_and_worker_go_on() {
    on_both(|store| async move {
        let desk = Desk::new(&store);
        desk.friends("ann", "bob").await;
        let before = count("worker");
        let bad = |id| text("user:bob", id, "panic in worker");
        let good = |id| text("user:bob", id, "x");
        let all = [good(1), bad(2), good(3), good(4)];
        let answers = sends_all(&desk, 1, all.to_vec()).await;
        assert!(count("worker") > before);
        assert_eq!(answers[1], Err(Code::StoreDown));
        for behind in &answers[2..] {
            assert!(matches!(behind, Err(Code::StoreDown | Code::SlowDown)), "{answers:?}");
        }
        // The first one was stored or not, as batches fell; all come again, in their order.
        let again = [good(1), good(2), good(3), good(4)];
        let answers = sends_all(&desk, 2, again.to_vec()).await;
        assert_eq!(answers, [Ok(1), Ok(2), Ok(3), Ok(4)]);
        desk.group(77, &["ann", "bob"]).await;
    });
}

#[test]
fn behind_a_batch_that_panicked_nothing_passes_until_it_comes_again() {
    on_both(|store| async move {
        let desk = Desk::new(&store);
        desk.friends("ann", "bob").await;
        let bad = text("user:bob", 1, "panic in worker");
        let from = ConnectionId { node: 0, shard: 0, conn: 7, serial: 3 };
        let mut number = 0;
        let mut one = async |send: v1::Send| {
            number += 1;
            let (at, what) = (number, Asked::Frame(client_frame::Body::Send(send)));
            desk.conversations.ask(Ask { from, number, user: "ann".into(), what });
            let answer = desk.until(|tell| match tell {
                Tell::Answer { to, number, frames } if (*to, *number) == (from, at) => {
                    Some(frames.clone())
                }
                _ => None,
            });
            code_of(&answer.await)
        };
        assert_eq!(one(bad).await, Some(Code::StoreDown));
        assert_eq!(one(text("user:bob", 2, "y")).await, Some(Code::SlowDown));
        assert_eq!(one(text("user:bob", 1, "x")).await, None);
        assert_eq!(one(text("user:bob", 2, "y")).await, None);
    });
}

#[test]
fn what_panics_before_it_is_answered_is_refused_and_the_next_one_is_answered() {
    on_both(|store| async move {
        let desk = Desk::new(&store);
        desk.friends("ann", "bob").await;
        desk.sends("ann", text("user:bob", 1, "x")).await.unwrap();
        let refused = |frames: &[Body]| code_of(frames) == Some(Code::StoreDown);
        let mark = |conversation: &str| {
            let conversation = conversation.to_owned();
            let marks = vec![v1::Marked { conversation, read_seq: 1, delivered_seq: 0 }];
            client_frame::Body::Mark(v1::Mark { marks })
        };
        assert!(refused(&desk.ask("bob", mark("user:panic in marks")).await));
        assert_eq!(code_of(&desk.ask("bob", mark("user:ann")).await), None);
        let react = |one: &str| client_frame::Body::React(reaction("user:ann", 1, one));
        assert!(refused(&desk.ask("bob", react("panic in reactions")).await));
        assert_eq!(desk.reacts("bob", reaction("user:ann", 1, "+1")).await, Ok(()));
        let sync =
            |cursor: &str| client_frame::Body::Sync(v1::Sync { cursor: cursor.into(), limit: 0 });
        assert!(refused(&desk.ask("bob", sync("panic in answers")).await));
        assert_eq!(desk.syncs("bob", "", 0).await.conversations.len(), 1);
        for task in ["marks", "reactions", "answers"] {
            assert!(count(task) > 0, "{task}");
        }
    });
}

#[test]
fn an_ask_or_a_word_that_panics_stops_no_other() {
    on_both(|store| async move {
        let desk = Desk::new(&store);
        desk.friends("ann", "bob").await;
        let from = ConnectionId { node: 0, shard: 0, conn: 7, serial: 1 };
        let what = Asked::Frame(client_frame::Body::Send(text("user:bob", 1, "panic in asks")));
        desk.conversations.ask(Ask { from, number: 1, user: "ann".into(), what });
        let signal = |name: &str| v1::Signal {
            conversation: "user:bob".into(),
            name: name.into(),
            ..v1::Signal::default()
        };
        desk.ask("ann", client_frame::Body::Signal(signal("panic in tells"))).await;
        desk.ask("ann", client_frame::Body::Signal(signal("typing"))).await;
        assert_eq!(desk.sends("ann", text("user:bob", 2, "x")).await, Ok(1));
        assert!(count("asks") > 0 && count("tells") > 0);
        let told = desk.take_told().await;
        let names: Vec<&str> = told.iter().filter_map(signal_of).collect();
        assert_eq!(names, ["typing"], "the other one is lost");
    });
}

fn signal_of(tell: &Tell) -> Option<&str> {
    match tell {
        Tell::Push { frame, .. } => match &**frame {
            Body::Signal(signal) => Some(&signal.name),
            _ => None,
        },
        _ => None,
    }
}

#[test]
fn a_transaction_that_panics_is_rolled_back_and_the_store_goes_on() {
    on_both(|store| async move {
        let desk = Desk::new(&store);
        let before = count("transaction");
        let rows = desk.rows().await;
        let bad = store.write(|conn| {
            Box::pin(async move {
                let insert = sqlx::query("INSERT INTO reaction_pending (conv, seq) VALUES (1, 1)");
                insert.execute(conn).await?;
                if true {
                    panic!("as the test wants it");
                }
                Ok(())
            })
        });
        let (bad, user) = tokio::join!(bad, desk.user("ann"));
        assert!(matches!(bad, Err(StoreError::Defect)), "{bad:?}");
        assert!(count("transaction") > before && user.0 != 0);
        assert_eq!(desk.rows().await["reaction_pending"], rows["reaction_pending"]);
        desk.friends("ann", "bob").await;
        assert_eq!(desk.sends("ann", text("user:bob", 1, "x")).await, Ok(1));
    });
}
