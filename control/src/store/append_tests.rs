//! Appending and reading back, on every store.

use super::append::{Append, Appended, Target, append};
use super::receipts::{Advance, Moved, advance};
use super::testing::on_both;
use super::{Store, conversations, relations, users};
use crate::relations::{Act, Policy, befriend, part};
use std::sync::Arc;
use uproar_proto::error::Code;
use uproar_proto::v1::Kind;

/// Two friends and a stranger.
async fn people(store: &Store) -> [i64; 3] {
    let dialect = store.dialect();
    let mut ids = [0; 3];
    for (id, name) in ids.iter_mut().zip(["alice", "bob", "mallory"]) {
        *id = store
            .write(move |conn| Box::pin(users::find_or_insert(conn, dialect, ("", name), 1)))
            .await
            .unwrap()
            .unwrap();
    }
    change(store, ids[0], ids[1], befriend).await;
    ids
}

async fn change(store: &Store, one: i64, other: i64, rule: relations::Rule) {
    relations::change(store, one, other, 1, rule).await.unwrap().unwrap();
}

fn text(sender: i64, to: i64, id: u128, text: &str) -> Append {
    Append {
        sender,
        target: Target::Direct(to),
        client_msg_id: id,
        hash: text.len() as i64,
        kind: Kind::Message,
        target_seq: 0,
        body: text.as_bytes().to_vec(),
        by_operator: false,
    }
}

async fn write(store: &Store, items: Vec<Append>, now_ms: i64) -> Vec<Result<Appended, Code>> {
    let (dialect, items) = (store.dialect(), Arc::new(items));
    store
        .write(move |conn| {
            let items = Arc::clone(&items);
            Box::pin(async move { append(conn, dialect, Policy::Friends, &items, now_ms).await })
        })
        .await
        .unwrap()
}

async fn bodies(store: &Store, conv: i64) -> Vec<(i64, Option<Vec<u8>>)> {
    let mut conn = store.reader().await.unwrap();
    let kept = conversations::read(&mut conn, conv, (1, i64::MAX), 1000).await.unwrap();
    kept.into_iter().map(|message| (message.seq, message.body)).collect()
}

#[test]
fn many_large_messages_at_once_are_more_than_one_statement() {
    on_both(|store| async move {
        let [alice, bob, _] = people(&store).await;
        // 72 MiB: more than a MySQL server takes in one statement, whatever its default is.
        let item = |i: u128| Append { body: vec![i as u8; 1 << 20], ..text(alice, bob, i + 1, "") };
        let answers = write(&store, (0..72).map(item).collect(), 10).await;
        let seqs: Vec<i64> = answers.iter().map(|a| a.unwrap().seq).collect();
        assert_eq!(seqs, (1..=72).collect::<Vec<i64>>());
        let kept = bodies(&store, answers[0].unwrap().conv).await;
        assert_eq!(kept.len(), 72);
        for (seq, body) in kept {
            assert_eq!(body.unwrap(), vec![(seq - 1) as u8; 1 << 20], "{seq}");
        }
    });
}

#[test]
fn seqs_are_contiguous_from_one_and_a_retry_gets_the_same() {
    on_both(|store| async move {
        let [alice, bob, _] = people(&store).await;
        // More than one statement's rows, both directions, one id twice in the same batch.
        let mut items: Vec<Append> = (0..150)
            .map(|i| {
                let (from, to) = if i % 3 == 0 { (bob, alice) } else { (alice, bob) };
                text(from, to, i + 1, "hello")
            })
            .collect();
        items.push(items[7].clone());
        let answers = write(&store, items.clone(), 10).await;
        let seqs: Vec<i64> = answers.iter().map(|a| a.unwrap().seq).collect();
        assert_eq!(seqs[..150], (1..=150).collect::<Vec<i64>>());
        assert_eq!((seqs[150], answers[150].unwrap().before), (8, true));
        let again = write(&store, items, 99).await;
        let same = |a: &Result<Appended, Code>| (a.unwrap().seq, a.unwrap().time_ms);
        assert!(again.iter().zip(&answers).all(|(a, b)| same(a) == same(b) && a.unwrap().before));
        let conv = answers[0].unwrap().conv;
        assert_eq!(bodies(&store, conv).await.len(), 150);
    });
}

#[test]
fn one_id_for_two_contents_is_a_conflict_and_stores_nothing() {
    on_both(|store| async move {
        let [alice, bob, _] = people(&store).await;
        let first = write(&store, vec![text(alice, bob, 1, "one")], 10).await[0].unwrap();
        let other = write(&store, vec![text(alice, bob, 1, "three")], 11).await[0];
        assert_eq!(other, Err(Code::Conflict));
        // The same id from the other side is another message.
        let theirs = write(&store, vec![text(bob, alice, 1, "one")], 12).await[0].unwrap();
        assert_eq!((first.seq, theirs.seq), (1, 2));
        assert_eq!(bodies(&store, first.conv).await.len(), 2);
    });
}

#[test]
fn a_stranger_and_a_blocked_one_are_refused_and_a_retry_after_it_is_not() {
    on_both(|store| async move {
        let [alice, bob, mallory] = people(&store).await;
        let items = vec![text(mallory, alice, 1, "buy"), text(alice, bob, 1, "hi")];
        let answers = write(&store, items, 10).await;
        assert_eq!(answers[0], Err(Code::NotFriend));
        assert_eq!(answers[1].unwrap().seq, 1, "one bad item never fails its batch");
        change(&store, alice, bob, part).await;
        let retry = write(&store, vec![text(alice, bob, 1, "hi")], 11).await[0].unwrap();
        assert_eq!((retry.seq, retry.before), (1, true));
        assert_eq!(
            write(&store, vec![text(alice, bob, 2, "x")], 11).await[0],
            Err(Code::NotFriend)
        );
        change(&store, bob, alice, Act::Block.rule()).await;
        assert_eq!(write(&store, vec![text(alice, bob, 3, "x")], 11).await[0], Err(Code::Blocked));
        assert_eq!(bodies(&store, retry.conv).await.len(), 1);
    });
}

#[test]
fn a_recall_erases_and_an_edit_replaces_wherever_it_is_read() {
    on_both(|store| async move {
        let [alice, bob, _] = people(&store).await;
        let event = |sender, to, id, kind, target_seq, body: &str| Append {
            kind,
            target_seq,
            ..text(sender, to, id, body)
        };
        let answers = write(
            &store,
            vec![
                text(alice, bob, 1, "first"),
                text(alice, bob, 2, "second"),
                event(alice, bob, 3, Kind::Edit, 1, "better"),
                event(bob, alice, 4, Kind::Recall, 2, ""),
                event(alice, bob, 5, Kind::Recall, 2, ""),
                event(alice, bob, 6, Kind::Recall, 9, ""),
                event(alice, bob, 7, Kind::Edit, 3, "an event is no message"),
            ],
            10,
        )
        .await;
        let seq = |at: usize| answers[at].map(|a| a.seq);
        assert_eq!((seq(2), seq(3), seq(4)), (Ok(3), Err(Code::Forbidden), Ok(4)));
        assert_eq!((seq(5), seq(6)), (Err(Code::NotFound), Err(Code::NotFound)));
        let conv = answers[0].unwrap().conv;
        let body = |text: &str| Some(text.as_bytes().to_vec());
        let expected = [(1, body("better")), (2, body("")), (3, body("better")), (4, body(""))];
        assert_eq!(bodies(&store, conv).await, expected);
        // The edited message is recalled: neither it nor the edit shows the text.
        write(&store, vec![event(alice, bob, 8, Kind::Recall, 1, "")], 11).await;
        let all = bodies(&store, conv).await;
        assert!(all.iter().all(|(_, text)| text.as_deref() == Some(&[])), "{all:?}");
        let late = write(&store, vec![event(alice, bob, 9, Kind::Edit, 1, "back again")], 12).await;
        assert_eq!(late[0], Err(Code::NotFound), "what was taken back stays away");
    });
}

#[test]
fn what_changed_names_heads_floors_and_unread_ones() {
    on_both(|store| async move {
        let [alice, bob, mallory] = people(&store).await;
        change(&store, alice, mallory, befriend).await;
        let conv = write(&store, vec![text(alice, bob, 1, "a")], 10).await[0].unwrap().conv;
        write(&store, vec![text(alice, bob, 2, "b"), text(mallory, alice, 1, "c")], 20).await;
        let mut conn = store.reader().await.unwrap();
        let all = conversations::changed(&mut conn, alice, 0, 0, 100).await.unwrap();
        assert_eq!(all.len(), 2);
        assert!(all[0].conv < all[1].conv);
        let mine = all.iter().find(|view| view.conv == conv).unwrap();
        assert_eq!((mine.head, mine.read, mine.unread), (2, 2, 0), "one's own are read");
        let theirs = conversations::changed(&mut conn, bob, 0, 0, 100).await.unwrap();
        assert_eq!((theirs[0].head, theirs[0].read, theirs[0].unread), (2, 0, 2));
        let page = conversations::changed(&mut conn, alice, 0, 0, 1).await.unwrap();
        let rest = conversations::changed(&mut conn, alice, 0, page[0].conv, 9).await.unwrap();
        assert_eq!([page, rest].concat(), all);
        assert_eq!(conversations::changed(&mut conn, bob, 21, 0, 100).await.unwrap(), []);
        drop(conn);
        let dialect = store.dialect();
        let mark = |read, user| Advance { conv, user, read, delivered: 0 };
        let marks = [mark(1, bob), mark(1, bob), mark(3, bob), mark(1, mallory), mark(1, alice)];
        let moved = store
            .write(move |conn| Box::pin(async move { advance(conn, dialect, &marks, 30).await }));
        let first = Moved { old_read: 0, read: 1, delivered: 1, told: (1, 1) };
        let (bad, none) = (Err(Code::BadRequest), Ok(None));
        let expected = [Ok(Some(first)), none, bad, Err(Code::NotMember)];
        assert_eq!(moved.await.unwrap()[..4], expected, "forward, and never beyond the newest");
        let mut conn = store.reader().await.unwrap();
        let theirs = conversations::changed(&mut conn, bob, 30, 0, 100).await.unwrap();
        assert_eq!((theirs[0].read, theirs[0].unread), (1, 1));
        assert_eq!(conversations::readable(&mut conn, conv, bob).await.unwrap(), [(1, 2)]);
        assert_eq!(conversations::readable(&mut conn, conv, mallory).await.unwrap(), []);
    });
}
