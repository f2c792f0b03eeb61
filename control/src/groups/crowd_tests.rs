//! A big group on every store: receipts are exact whenever they are asked for, with nothing kept
//! for them but two cursors a membership, and a send writes what it writes in a small group.

use super::Joining;
use super::change::{Act, Limits, User, change};
use super::tests::{CONV, user, write};
use crate::relations::Policy;
use crate::store::Store;
use crate::store::append::{Append, Target, append};
use crate::store::receipts::{Advance, advance, counts};
use crate::store::testing::{TestStore, on_both};
use futures_core::future::BoxFuture;
use sqlx::{AnyConnection, AssertSqlSafe};
use std::collections::BTreeMap;
use std::sync::Arc;
use uproar_proto::v1::Kind;

const PEOPLE: usize = 10_000;
const MESSAGES: usize = 100;
/// Of random (message, moment): so many between two messages.
const LOOKS: usize = 100;
/// Who joins or leaves, and who reads, between two messages.
const COMES_OR_GOES: usize = 3;
const READS: usize = 150;

/// Message by message, who could read it and who has: what the cursors must say.
struct Model {
    members: Vec<bool>,
    /// The seq above which the present membership reads.
    since: Vec<i64>,
    messages: BTreeMap<i64, (Vec<bool>, Vec<bool>)>,
}

impl Model {
    fn reads(&mut self, who: usize, up_to: i64) {
        // What it read in an earlier membership stands, and no more is added to that.
        let since = self.since[who].min(up_to);
        for (could, has) in self.messages.range_mut(since..=up_to).map(|(_, message)| message) {
            has[who] |= could[who];
        }
    }

    fn readers(&self, seq: i64) -> i64 {
        self.messages[&seq].1.iter().filter(|has| **has).count() as i64
    }
}

/// The same numbers in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % bound
    }
}

async fn act(store: &Store, conv: i64, actor: &User, what: Act) -> i64 {
    let limits = Limits { policy: Policy::Anyone, members_max: 20_000, groups_per_user_max: 9 };
    let (dialect, by) = (store.dialect(), Arc::new((actor.clone(), what)));
    let done = store.write(move |conn| {
        let by = Arc::clone(&by);
        Box::pin(async move { change(conn, dialect, limits, (conv, &by.0), &by.1, 100).await })
    });
    done.await.unwrap().unwrap().group.head
}

async fn read(store: &Store, items: Vec<Advance>) {
    let (dialect, items) = (store.dialect(), Arc::new(items));
    let moved = store.write(move |conn| {
        let items = Arc::clone(&items);
        Box::pin(async move { advance(conn, dialect, &items, 100).await })
    });
    assert!(moved.await.unwrap().iter().all(Result::is_ok));
}

/// Rows of every table there is.
async fn rows(store: &Store) -> BTreeMap<String, i64> {
    let mut conn = store.reader().await.unwrap();
    let names = store.dialect().pick(
        "SELECT name FROM sqlite_master WHERE type = 'table'",
        "SELECT CONVERT(table_name USING utf8mb4) FROM information_schema.tables
            WHERE table_schema = DATABASE()",
    );
    let names: Vec<(String,)> = sqlx::query_as(names).fetch_all(&mut *conn).await.unwrap();
    let mut rows = BTreeMap::new();
    for (name,) in names {
        let count = AssertSqlSafe(format!("SELECT COUNT(*) FROM {name}"));
        let count: (i64,) = sqlx::query_as(count).fetch_one(&mut *conn).await.unwrap();
        rows.insert(name, count.0);
    }
    rows
}

/// Columns of `memberships` and their types: what a member costs.
async fn columns(store: &Store) -> Vec<(String, String)> {
    let columns = store.dialect().pick(
        "SELECT name, lower(type) FROM pragma_table_info('memberships')",
        "SELECT CONVERT(column_name USING utf8mb4), CONVERT(column_type USING utf8mb4)
            FROM information_schema.columns WHERE table_schema = DATABASE()
            AND table_name = 'memberships' ORDER BY ordinal_position",
    );
    let mut conn = store.reader().await.unwrap();
    sqlx::query_as(columns).fetch_all(&mut *conn).await.unwrap()
}

/// Compares counts of random messages, now.
async fn look(store: &Store, model: &Model, dice: &mut Dice) -> usize {
    let seqs: Vec<i64> = model.messages.keys().copied().collect();
    // By nobody: who only reads is counted, and nobody is left out.
    let messages: Vec<(i64, i64)> = seqs.iter().map(|seq| (*seq, 0)).collect();
    let mut conn = store.reader().await.unwrap();
    let counted = counts(&mut conn, CONV, &messages).await.unwrap();
    for _ in 0..LOOKS {
        let seq = seqs[dice.below(seqs.len())];
        assert_eq!(counted[&seq], model.readers(seq), "seq {seq} of {}", seqs.len());
    }
    LOOKS
}

#[test]
fn receipts_of_ten_thousand_are_exact_and_cost_two_cursors_a_member() {
    on_both(|store| async move {
        let mut all = vec![user(&store, "ann").await];
        all.extend((1..PEOPLE as i64).map(|id| (id, format!("u{id}"))));
        let (name, announcement) = ("Crowd".to_owned(), String::new());
        let (joining, members) = (Joining::Open, all.clone());
        act(&store, CONV, &all[0], Act::Upsert { name, announcement, joining, members }).await;
        let members = vec![true; PEOPLE];
        let mut model = Model { members, since: vec![0; PEOPLE], messages: BTreeMap::new() };
        let (mut dice, mut looks) = (Dice(5), 0);
        for round in 0..MESSAGES {
            let mut somebody = std::iter::repeat_with(|| dice.below(PEOPLE));
            let writer = somebody.find(|who| model.members[*who]).unwrap();
            let seq = write(&store, &all[writer], round as u128).await.unwrap().seq;
            model.messages.insert(seq, (model.members.clone(), vec![false; PEOPLE]));
            model.reads(writer, seq);
            for _ in 0..COMES_OR_GOES {
                let who = 1 + dice.below(PEOPLE - 1);
                let comes = !model.members[who];
                let join = Act::Join { link: None, text: String::new() };
                let head =
                    act(&store, CONV, &all[who], if comes { join } else { Act::Leave }).await;
                (model.members[who], model.since[who]) = (comes, head);
            }
            let mut items = Vec::with_capacity(READS);
            for _ in 0..READS {
                let (who, read) = (dice.below(PEOPLE), 1 + dice.below(seq as usize) as i64);
                if model.members[who] {
                    items.push(Advance { conv: CONV, user: all[who].0, read, delivered: 0 });
                    model.reads(who, read);
                }
            }
            read(&store, items).await;
            looks += look(&store, &model, &mut dice).await;
        }
        assert_eq!(looks, 10_000);
        // Everybody who is there reads everything.
        let (before, last) = (rows(&store).await, *model.messages.keys().last().unwrap());
        let there = (0..PEOPLE).filter(|who| model.members[*who]).collect::<Vec<_>>();
        let reads =
            |who: &usize| Advance { conv: CONV, user: all[*who].0, read: last, delivered: 0 };
        for part in there.chunks(4_096) {
            read(&store, part.iter().map(reads).collect()).await;
        }
        there.into_iter().for_each(|who| model.reads(who, last));
        look(&store, &model, &mut dice).await;
        assert_eq!(rows(&store).await, before, "no row for what was read");
        let bigint = store.dialect().pick("bigint", "bigint(20)");
        let kept = columns(&store).await;
        assert!(kept.iter().all(|(_, kind)| kind == bigint), "{kept:?}");
        let receipts = kept.iter().filter(|(name, _)| name.ends_with("_seq"));
        let receipts: Vec<&str> = receipts.map(|(name, _)| name.as_str()).collect();
        // 8 bytes each. In a group two of them: 16 a member; what was delivered is one-to-one's.
        assert_eq!(receipts, ["read_seq", "delivered_seq", "hidden_seq"]);
        let delivered = "SELECT COUNT(*) FROM memberships WHERE delivered_seq <> 0";
        let mut conn = store.reader().await.unwrap();
        let delivered: (i64,) = sqlx::query_as(delivered).fetch_one(&mut *conn).await.unwrap();
        assert_eq!(delivered.0, 0);
        let others =
            ["conv", "user", "since", "until", "role", "muted_until_ms", "changed_ms", "silent"];
        assert_eq!(kept.len(), receipts.len() + others.len(), "{kept:?}");
    });
}

/// A group of so many members; the first one owns it.
async fn group(store: &Store, conv: i64, size: i64) {
    let all: Vec<User> = (1..=size).map(|id| (id, format!("u{id}"))).collect();
    let (owner, name, announcement) = (all[0].clone(), format!("{size}"), String::new());
    let what = Act::Upsert { name, announcement, joining: Joining::Open, members: all };
    act(store, conv, &owner, what).await;
}

/// One message to a group, in a transaction of its own; what `measure` says before and after it.
async fn send<F>(store: &Store, group: i64, id: u128, measure: F) -> (i64, i64)
where
    F: for<'c> Fn(&'c mut AnyConnection) -> BoxFuture<'c, i64> + Send + Sync + 'static,
{
    let (dialect, measure) = (store.dialect(), Arc::new(measure));
    let item = Append {
        sender: 1,
        target: Target::Group(group),
        client_msg_id: id,
        hash: 1,
        kind: Kind::Message,
        target_seq: 0,
        body: vec![7; 128],
        by_operator: false,
    };
    let done = store.write(move |conn| {
        let (item, measure) = (item.clone(), Arc::clone(&measure));
        Box::pin(async move {
            let before = measure(conn).await;
            append(conn, dialect, Policy::Friends, &[item], 100).await?[0].unwrap();
            Ok((before, measure(conn).await))
        })
    });
    done.await.unwrap()
}

const SMALL: i64 = 10;
const BIG: i64 = PEOPLE as i64;
/// Groups of both sizes in the order of their ids, so that neither kind stands further up in the
/// tables: where pages are split is no matter of members.
const GROUPS: [i64; 8] = [SMALL, BIG, BIG, SMALL, SMALL, BIG, BIG, SMALL];
const SENDS: u128 = 100;

/// Every byte that a commit writes goes to the log, and while somebody reads an old state of the
/// store the log is never begun anew: its growth is what was written.
#[test]
fn a_send_to_ten_thousand_writes_the_bytes_of_a_send_to_ten() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = TestStore::sqlite().await;
        for (conv, size) in (1..).zip(GROUPS) {
            group(&store, conv, size).await;
        }
        let mut old = store.reader().await.unwrap();
        sqlx::query("BEGIN").execute(&mut *old).await.unwrap();
        let facts = sqlx::query("SELECT COUNT(*) FROM store_facts").execute(&mut *old).await;
        facts.unwrap();
        let log = format!("{}-wal", store.url.trim_start_matches("sqlite:"));
        let bytes = || std::fs::metadata(&log).unwrap().len();
        let mut written: BTreeMap<i64, Vec<u64>> = BTreeMap::new();
        for id in 0..SENDS {
            for (conv, size) in (1..).zip(GROUPS) {
                let before = bytes();
                send(&store, conv, id, |_| Box::pin(async { 0 })).await;
                written.entry(size).or_default().push(bytes() - before);
            }
        }
        sqlx::query("ROLLBACK").execute(&mut *old).await.unwrap();
        drop(old);
        let [(small, usual), (big, usual_of_big)] = [SMALL, BIG].map(|size| {
            let all = written.get_mut(&size).unwrap();
            all.sort_unstable();
            let (mean, median) =
                (all.iter().sum::<u64>() as f64 / all.len() as f64, all[all.len() / 2]);
            println!("a send to {size} members: {median} bytes (median), {mean:.0} (mean)");
            (mean, median)
        });
        assert_eq!(usual, usual_of_big, "where no page is split");
        assert!((big / small - 1.0).abs() < 0.05, "{small} and {big} bytes a send");
        assert!(small > 4_096.0, "a send writes more than a page");
        store.end().await;
    });
}

/// On MariaDB by rows: the session counts those it reads and writes.
#[test]
fn a_send_to_ten_thousand_touches_the_rows_of_a_send_to_ten() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let Some(store) = TestStore::mysql().await else { return };
        let mut touched = Vec::new();
        for (conv, size) in [(1, SMALL), (2, BIG)] {
            group(&store, conv, size).await;
            let (before, after) = send(&store, conv, 1, |conn| {
                Box::pin(async move {
                    let count = "SELECT CAST(SUM(variable_value) AS SIGNED)
                        FROM information_schema.session_status WHERE variable_name IN
                        ('HANDLER_WRITE', 'HANDLER_UPDATE', 'HANDLER_DELETE')";
                    sqlx::query_as::<_, (i64,)>(count).fetch_one(conn).await.unwrap().0
                })
            })
            .await;
            touched.push(after - before);
        }
        println!("{touched:?} rows");
        assert_eq!(touched[0], touched[1]);
        store.end().await;
    });
}
