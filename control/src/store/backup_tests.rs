//! Backups and restores, from each kind of database into each.

use super::append::{Append, Target, append};
use super::copy::{self, Sum};
use super::place::Place;
use super::testing::{TestStore, runtime};
use super::{Dialect, Store, backup, check, conversations, migrate, restore, schema, users};
use crate::relations::Policy;
use sqlx::{AnyConnection, Connection as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use uproar_proto::v1::Kind;

/// A name for a backup of one test, removed with it.
struct Named(PathBuf);

impl Named {
    fn new() -> Named {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("uproar backup-{}-{number}", std::process::id());
        Named(std::env::temp_dir().join(name))
    }

    fn beside(&self) -> PathBuf {
        PathBuf::from(format!("{}.tmp", self.0.display()))
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        for ending in ["", ".tmp", "-wal", "-shm", "-lock"] {
            // Not all of them were ever made.
            let _ = std::fs::remove_file(format!("{}{ending}", self.0.display()));
        }
    }
}

/// An empty store of each kind there is.
async fn stores() -> Vec<TestStore> {
    [Some(TestStore::sqlite().await), TestStore::mysql().await].into_iter().flatten().collect()
}

async fn say(store: &Store, ids: std::ops::Range<u128>) -> Vec<i64> {
    let dialect = store.dialect();
    let named = async |name: &'static str| {
        let made = store.write(move |conn| {
            Box::pin(async move { users::find_or_insert(conn, dialect, ("", name), 1).await })
        });
        made.await.unwrap().unwrap()
    };
    let (alice, bob) = (named("alice").await, named("b\u{f6}b").await);
    let item = |id: u128| Append {
        sender: alice,
        target: Target::Direct(bob),
        client_msg_id: id << 64 | u128::from(u64::MAX),
        hash: -1,
        kind: Kind::Message,
        target_seq: 0,
        body: [&[0, 255], format!("message {id}.").as_bytes()].concat(),
        by_operator: false,
    };
    let items = Arc::new(ids.map(item).collect::<Vec<_>>());
    let places = store.write(move |conn| {
        let items = Arc::clone(&items);
        Box::pin(async move { append(conn, dialect, Policy::Anyone, &items, 5).await })
    });
    places.await.unwrap().into_iter().map(|place| place.unwrap().seq).collect()
}

/// What every table but the facts holds.
async fn sums(url: &str) -> Vec<(String, Sum)> {
    let mut conn = Place::of(url, true).unwrap().connect().await.unwrap();
    let mut sums = Vec::new();
    for table in copy::known().await.unwrap() {
        if table.name != schema::FACTS {
            sums.push((table.name.clone(), copy::sum(&table, &mut conn).await.unwrap()));
        }
    }
    conn.close().await.unwrap();
    sums
}

async fn error<T: std::fmt::Debug>(done: impl Future<Output = Result<T, String>>) -> String {
    done.await.unwrap_err()
}

#[test]
fn each_kind_of_store_moves_into_each_other_kind() {
    runtime().block_on(async {
        for from in stores().await {
            // More rows than one transaction copies.
            for part in 0..10 {
                say(&from, part * 450..(part + 1) * 450).await;
            }
            let file = Named::new();
            let made = backup(&from.url, &file.0, false).await.unwrap();
            assert!(made.rows > 9_000 && made.bytes > 100_000, "{made:?}");
            assert_eq!(std::fs::metadata(&file.0).unwrap().len(), made.bytes);
            let is = check(&file.0).await.unwrap();
            assert_eq!((is.tables, is.rows), (made.tables, made.rows));
            let expected = sums(&from.url).await;
            for into in stores().await {
                let (generation, url) = (into.generation(), into.url.clone());
                into.store.close().await;
                restore(&file.0, &url, false, 30).await.unwrap();
                assert_eq!(sums(&url).await, expected);
                let again = Store::serve(&config(&url)).await.unwrap();
                assert_ne!(again.generation(), generation);
                assert_ne!(again.generation(), from.generation());
                assert_eq!(say(&again, 4_499..4_501).await, [4_500, 4_501], "one is known");
                again.close().await;
                into.end().await;
            }
            from.end().await;
        }
    });
}

fn config(url: &str) -> crate::StoreConfig {
    crate::StoreConfig { url: url.to_owned(), ..crate::StoreConfig::default() }
}

#[test]
fn a_backup_while_others_write_is_one_moment() {
    runtime().block_on(async {
        for from in stores().await {
            say(&from, 0..1).await;
            let ending = Arc::new(AtomicBool::new(false));
            let writer = {
                let (store, ending) = (Arc::clone(&from.store), Arc::clone(&ending));
                tokio::spawn(async move {
                    let mut id = 1;
                    while !ending.load(Ordering::Relaxed) {
                        say(&store, id..id + 20).await;
                        id += 20;
                    }
                    id
                })
            };
            let file = Named::new();
            let mut heads = Vec::new();
            for _ in 0..3 {
                backup(&from.url, &file.0, true).await.unwrap();
                let place = Place::of_file(&file.0, "mode=ro").unwrap();
                let mut conn = place.connect_bare().await.unwrap();
                let whole = sqlx::query_as::<_, (i64, i64, i64, i64)>(
                    "SELECT head, counted, (SELECT COUNT(*) FROM message_index),
                        (SELECT COUNT(*) FROM message_content) FROM conversations",
                );
                let (head, counted, index, content) = whole.fetch_one(&mut conn).await.unwrap();
                assert_eq!((counted, index, content), (head, head, head));
                conn.close().await.unwrap();
                heads.push(head);
            }
            ending.store(true, Ordering::Relaxed);
            let ids = writer.await.unwrap();
            assert!(heads[0] < heads[2] && heads[2] <= i64::try_from(ids).unwrap(), "{heads:?}");
            from.end().await;
        }
    });
}

#[test]
fn a_backup_never_takes_the_place_of_the_store_or_of_what_is_no_file() {
    runtime().block_on(async {
        let store = TestStore::sqlite().await;
        assert_eq!(say(&store, 0..3).await, [1, 2, 3]);
        let own = store.place.file.clone().unwrap();
        let with = |ending: &str| PathBuf::from(format!("{}{ending}", own.display()));
        let link = Named::new();
        std::fs::hard_link(&own, &link.0).unwrap();
        let mut targets: Vec<PathBuf> =
            ["", "-wal", "-shm", "-journal", "-lock", "-server"].map(with).into();
        targets.push(link.0.clone());
        for target in &targets {
            let told = error(backup(&store.url, target, true)).await;
            assert!(told.contains("the store's own"), "{told}");
        }
        let told = error(backup(&store.url, &std::env::temp_dir(), true)).await;
        assert!(told.contains("no regular file"), "{told}");
        // What a backup is called while it is written counts too.
        let named = Named::new();
        std::fs::hard_link(&own, named.beside()).unwrap();
        let told = error(backup(&store.url, &named.0, true)).await;
        assert!(told.contains("the store's own"), "{told}");
        assert_eq!(say(&store, 3..5).await, [4, 5]);
        store.end().await;
    });
}

#[test]
fn a_backup_is_served_after_a_restore_alone() {
    runtime().block_on(async {
        let store = TestStore::sqlite().await;
        say(&store, 0..3).await;
        let named = Named::new();
        backup(&store.url, &named.0, false).await.unwrap();
        let url = format!("sqlite:{}", named.0.display());
        let Err(told) = Store::open(&url, true).await else { panic!("a backup is served") };
        assert!(told.contains("it is a backup") && told.contains("uproar restore"), "{told}");
        let told = error(migrate(&config(&url))).await;
        assert!(told.contains("it is a backup"), "{told}");
        let told = error(restore(&named.0, &url, true, 30)).await;
        assert!(told.contains("own file"), "{told}");
        check(&named.0).await.unwrap();
        store.end().await;
    });
}

#[test]
fn a_store_in_use_or_with_rows_is_not_restored_into() {
    runtime().block_on(async {
        for store in stores().await {
            say(&store, 0..3).await;
            let file = Named::new();
            backup(&store.url, &file.0, false).await.unwrap();
            let told = error(backup(&store.url, &file.0, false)).await;
            assert!(told.contains("is there already; --force replaces it"), "{told}");
            let told = error(restore(&file.0, &store.url, true, 30)).await;
            assert!(told.contains("in use by a server, a backup or a migration"), "{told}");
            let other = Store::open(&store.url, true).await.expect("two processes may share it");
            store.store.close().await;
            let told = error(restore(&file.0, &store.url, true, 30)).await;
            assert!(told.contains("in use"), "{told}");
            say(&other, 3..9).await;
            other.close().await;
            let told = error(restore(&file.0, &store.url, false, 30)).await;
            assert!(told.contains("not empty (") && told.contains("--force"), "{told}");
            let old = sums(&store.url).await;
            restore(&file.0, &store.url, true, 30).await.unwrap();
            let again = Store::open(&store.url, true).await.unwrap();
            assert_ne!(sums(&store.url).await, old);
            assert_eq!(say(&again, 7..8).await, [4], "what came after the backup is gone");
            again.close().await;
            store.end().await;
        }
    });
}

#[test]
fn a_restore_that_was_interrupted_leaves_nothing_that_serves() {
    runtime().block_on(async {
        for store in stores().await {
            say(&store, 0..3).await;
            let file = Named::new();
            backup(&store.url, &file.0, false).await.unwrap();
            store.store.close().await;
            let dialect = store.dialect();
            // As it would be found on a server.
            let mut conn = Place::of(&store.url, true).unwrap().connect().await.unwrap();
            migrate::set_fact(&mut conn, dialect, migrate::RESTORING, 1).await.unwrap();
            conn.close().await.unwrap();
            let told = Store::open(&store.url, true).await.err().unwrap();
            assert!(told.contains("a restore into it was not finished"), "{told}");
            let told = error(backup(&store.url, &Named::new().0, false)).await;
            assert!(told.contains("was not finished"), "{told}");
            restore(&file.0, &store.url, true, 30).await.unwrap();
            Store::open(&store.url, true).await.unwrap().close().await;
            store.end().await;
        }
    });
}

#[test]
fn what_is_no_whole_backup_is_refused_before_anything_is_touched() {
    runtime().block_on(async {
        let store = TestStore::sqlite().await;
        say(&store, 0..300).await;
        let file = Named::new();
        backup(&store.url, &file.0, false).await.unwrap();
        store.store.close().await;
        let before = sums(&store.url).await;
        let refused = async |file: &Path, why: &str| {
            let told = error(restore(file, &store.url, true, 30)).await;
            assert!(told.contains(why), "{why:?} is not in {told:?}");
            assert_eq!(sums(&store.url).await, before);
        };
        let other = Named::new();
        refused(&other.0, "No such file").await;
        std::fs::write(&other.0, b"hello").unwrap();
        refused(&other.0, "is no backup of uproar").await;
        let live = store.url.strip_prefix("sqlite:").unwrap();
        std::fs::copy(live, &other.0).unwrap();
        refused(&other.0, "is no backup of uproar").await;
        // Half of one.
        let whole = std::fs::read(&file.0).unwrap();
        std::fs::write(&other.0, &whole[..whole.len() / 2]).unwrap();
        refused(&other.0, "").await;
        // One byte of a message is another one: SQLite itself does not notice.
        let mut changed = whole.clone();
        let body = b"message 77.";
        // A page may hold what it held before it was split, too.
        for at in 0..whole.len() - body.len() {
            if whole[at..].starts_with(body) {
                changed[at] = b'M';
            }
        }
        assert_ne!(changed, whole);
        std::fs::write(&other.0, &changed).unwrap();
        refused(&other.0, "it is damaged: message_content is not what it was").await;
        // Made by a program that knows more.
        std::fs::write(&other.0, &whole).unwrap();
        change(&other.0, "INSERT INTO migrations VALUES ('of_tomorrow', 1)").await;
        refused(&other.0, "a newer uproar (its migration \"of_tomorrow\"").await;
        change(&other.0, "PRAGMA user_version = 2").await;
        refused(&other.0, "a backup of format 2; this uproar reads format 1").await;
        store.end().await;
    });
}

async fn change(file: &Path, statement: &'static str) {
    let mut conn = Place::of_file(file, "mode=rw").unwrap().connect_bare().await.unwrap();
    sqlx::query(statement).execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
}

/// A store as an older program made it: without its last table, and what came after that.
async fn older(url: &str) {
    let mut conn = Place::of(url, true).unwrap().connect().await.unwrap();
    let is_table = |one: &migrate::Migration| one.sqlite.starts_with("CREATE TABLE");
    let before_last = schema::all().filter(|one| is_table(one)).count() - 1;
    let mut tables = 0;
    let known = schema::all().take_while(|one| {
        tables += usize::from(is_table(one));
        tables <= before_last
    });
    let names: Vec<String> = known.map(|one| one.name.to_owned()).collect();
    migrate::apply_named(Dialect::Sqlite, &mut conn, &names).await.unwrap();
    migrate::generation(Dialect::Sqlite, &mut conn).await.unwrap();
    conn.close().await.unwrap();
}

#[test]
fn an_older_backup_is_restored_and_brought_up_to_date() {
    runtime().block_on(async {
        let old = Named::new();
        let url = format!("sqlite:{}", old.0.display());
        older(&url).await;
        let file = Named::new();
        let made = backup(&url, &file.0, false).await.unwrap();
        let known = copy::known().await.unwrap().len();
        assert!(made.tables < known, "a backup changes nothing, so it is as old as the store");
        for into in stores().await {
            into.store.close().await;
            restore(&file.0, &into.url, false, 30).await.unwrap();
            assert_eq!(sums(&into.url).await.len() + 1, known);
            let again = Store::open(&into.url, true).await.unwrap();
            assert_eq!(say(&again, 0..1).await, [1]);
            again.close().await;
            into.end().await;
        }
    });
}

#[test]
fn a_backup_that_fails_leaves_no_file() {
    runtime().block_on(async {
        let store = TestStore::sqlite().await;
        let file = Named::new();
        // Half of a store: something is in the way of a table that is to be copied.
        let broken = store.write(|conn: &mut AnyConnection| {
            Box::pin(async move {
                sqlx::query("DROP TABLE relations").execute(conn).await?;
                Ok(())
            })
        });
        broken.await.unwrap();
        let told = error(backup(&store.url, &file.0, false)).await;
        assert!(told.contains("relations"), "{told}");
        assert!(!file.0.exists() && !file.beside().exists());
        let nowhere = error(backup("sqlite:/nowhere/at/all.db", &file.0, false)).await;
        assert!(nowhere.contains("there is no such file, so no store"), "{nowhere}");
        // Another one is at it.
        let lock = std::fs::File::create(file.beside()).unwrap();
        lock.lock().unwrap();
        let told = error(backup(&store.url, &file.0, false)).await;
        assert!(told.contains("another backup is writing"), "{told}");
        store.end().await;
    });
}

#[test]
fn processes_that_migrate_at_once_do_not_break_each_other() {
    runtime().block_on(async {
        for store in stores().await {
            store.store.close().await;
            if let Some(file) = store.url.strip_prefix("sqlite:") {
                std::fs::remove_file(file).unwrap();
            } else {
                let mut conn = Place::of(&store.url, true).unwrap().connect().await.unwrap();
                for table in copy::known().await.unwrap() {
                    let drop = sqlx::AssertSqlSafe(format!("DROP TABLE {}", table.name));
                    sqlx::query(drop).execute(&mut conn).await.unwrap();
                }
                sqlx::query("DROP TABLE migrations").execute(&mut conn).await.unwrap();
                conn.close().await.unwrap();
            }
            let all: Vec<_> = (0..6)
                .map(|_| {
                    let url = store.url.clone();
                    tokio::spawn(async move { migrate::migrate(&config(&url)).await })
                })
                .collect();
            let mut applied = 0;
            for one in all {
                applied += one.await.unwrap().unwrap().applied.len();
            }
            assert_eq!(applied, schema::all().count(), "each by one of them");
            let again = Store::open(&store.url, true).await.unwrap();
            assert_eq!(say(&again, 0..2).await, [1, 2]);
            let mut conn = again.reader().await.unwrap();
            assert_eq!(conversations::groups(&mut conn, 1).await.unwrap(), []);
            drop(conn);
            again.close().await;
            let done = migrate::migrate(&config(&store.url)).await.unwrap();
            assert_eq!(done.applied, [""; 0]);
            store.end().await;
        }
    });
}
