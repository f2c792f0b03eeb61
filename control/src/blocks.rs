//! Devices and networks that the platform keeps out: what they are now, how they change, and who is
//! told.
//!
//! Owns the order of a change: it is checked, then kept (in the store, or, where there is none, in
//! memory until the process ends), then the engine is told. Never closes a connection itself, and
//! never waits for an engine.

use crate::beside::{off_thread, to_its_end};
use crate::fault::Fault;
use crate::store::{Dialect, Store, StoreError, blocks as rows};
use crate::tell::{keep_looking, keep_telling};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use uproar_proto::blocks::{Block, BlockKind, BlockList, Blocked};
use uproar_proto::control::{Engine, Sample, SampleKind, SampleValue, Tell};
use uproar_proto::error::Code;

/// How often a store that several servers share is asked whether its entries have changed.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// Tries to make a change while another server makes one.
const TRIES_MAX: u32 = 5;

/// Section `[blocks]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BlocksConfig {
    /// Devices and networks that may be blocked at once, up to about 100 bytes each on every shard
    /// and in what a node is told. More: 409, `LIMIT_REACHED`.
    pub blocks_max: u32,
}

impl Default for BlocksConfig {
    fn default() -> BlocksConfig {
        BlocksConfig { blocks_max: 100_000 }
    }
}

impl BlocksConfig {
    /// The first rule the section breaks, in words: which key, what it is, what is allowed.
    ///
    /// # Errors
    /// The sentence to show.
    pub fn check(&self) -> Result<(), String> {
        let many = self.blocks_max;
        if !(1..=100_000).contains(&many) {
            return Err(format!("blocks_max is {many}; allowed is 1 to 100000"));
        }
        Ok(())
    }
}

/// What is known of an entry beside what it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Until when, seconds since 1970; 0: for ever.
    pub(crate) until_s: u64,
    /// When it was made or changed, milliseconds since 1970.
    pub(crate) at_ms: i64,
    /// For operators.
    pub(crate) reason: String,
}

/// All of them, by what they name.
pub(crate) type Entries = BTreeMap<(BlockKind, String), Entry>;

/// What is in effect here.
pub(crate) struct Current {
    pub(crate) version: u64,
    pub(crate) entries: Entries,
    blocked: Blocked<String>,
}

/// See the module.
pub struct Blocks {
    store: Option<Arc<Store>>,
    blocks_max: usize,
    current: RwLock<Arc<Current>>,
    /// Held by whoever changes them.
    changing: Mutex<()>,
    told: watch::Sender<Arc<BlockList>>,
    refused: AtomicU64,
}

/// What keeps somebody out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blocking {
    pub(crate) kind: BlockKind,
    /// Until when, seconds since 1970; `None`: for ever.
    pub(crate) until_s: Option<u64>,
}

/// What is to be done to entries.
pub(crate) enum Change {
    /// They are there from now on, in place of those that name the same.
    Put(Entries),
    /// It is not there any more.
    Remove(BlockKind, String),
}

impl Blocks {
    /// Reads the entries of a store; without one there are none yet.
    ///
    /// # Errors
    /// In words for the operator.
    pub async fn open(
        store: Option<&Arc<Store>>,
        config: &BlocksConfig,
    ) -> Result<Arc<Blocks>, String> {
        let (version, entries) = match store {
            Some(store) => rows::read(store).await.map_err(|why| format!("the blocks: {why}"))?,
            None => (0, Entries::new()),
        };
        let Made { current, list } = off_thread(move || made(version, entries))
            .await
            .map_err(|why| format!("the blocks: {why}"))?;
        Ok(Arc::new(Blocks {
            store: store.map(Arc::clone),
            blocks_max: config.blocks_max as usize,
            current: RwLock::new(Arc::new(current)),
            changing: Mutex::new(()),
            told: watch::Sender::new(Arc::new(list)),
            refused: AtomicU64::new(0),
        }))
    }

    /// Tells `engine` of them, now and whenever they change; on the caller's tokio runtime.
    pub fn serve(self: &Arc<Blocks>, engine: Arc<dyn Engine>) {
        keep_telling(self.told.subscribe(), engine, Tell::Blocks);
        if self.store.as_ref().is_some_and(|store| store.dialect() == Dialect::Mysql) {
            keep_looking(self, LOOK_EVERY, |blocks| async move {
                if let Err(error) = blocks.look().await {
                    tracing::debug!(?error, "whether blocks have changed is not known");
                }
            });
        }
    }

    /// As engines are told.
    #[must_use]
    pub fn list(&self) -> Arc<BlockList> {
        Arc::clone(&self.told.borrow())
    }

    /// Whether they outlive the process.
    pub(crate) fn is_kept(&self) -> bool {
        self.store.is_some()
    }

    fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What keeps this device (empty: none is named) or this address out now; counted.
    pub(crate) fn find(
        &self,
        device: &str,
        address: Option<IpAddr>,
        now_ms: i64,
    ) -> Option<Blocking> {
        let current = self.current();
        let device = (!device.is_empty()).then(|| device.to_owned());
        let address = address.map(|address| address.to_canonical());
        let now_s = now_ms.max(0) as u64 / 1000;
        let (kind, until_s) = current.blocked.find_until(device.as_ref(), address, now_s)?;
        self.refused.fetch_add(1, Relaxed);
        Some(Blocking { kind, until_s: (until_s != u64::MAX).then_some(until_s) })
    }

    /// What is kept now, which another server may have changed a moment ago.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn look(&self) -> Result<Arc<Current>, StoreError> {
        let (known, Some(store)) = (self.current(), &self.store) else { return Ok(self.current()) };
        if rows::version(store).await? == known.version {
            return Ok(known);
        }
        let _changing = self.changing.lock().await;
        self.reload(store).await
    }

    async fn reload(&self, store: &Store) -> Result<Arc<Current>, StoreError> {
        let (version, entries) = rows::read(store).await?;
        if version == self.current().version {
            return Ok(self.current());
        }
        Ok(self.use_now(off_thread(move || made(version, entries)).await?))
    }

    fn use_now(&self, Made { current, list }: Made) -> Arc<Current> {
        let now = Arc::new(current);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let old = (
            std::mem::replace(&mut *current, Arc::clone(&now)),
            self.told.send_replace(Arc::new(list)),
        );
        drop(current);
        // A hundred thousand entries take a while to be freed, too.
        drop(tokio::task::spawn_blocking(move || drop(old)));
        now
    }

    /// The same as [`Blocks::change`], to its end also where whoever asks goes away meanwhile: what
    /// is written is in effect too.
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn change_whole(
        self: &Arc<Blocks>,
        change: Change,
        now_ms: i64,
    ) -> Result<bool, Fault> {
        let blocks = Arc::clone(self);
        to_its_end(async move { blocks.change(Arc::new(change), now_ms).await }).await
    }

    /// Makes a change; whether anything is different.
    ///
    /// # Errors
    /// `LIMIT_REACHED`, `QUEUE_FULL` where others go on changing them, or the store's: then it is
    /// unknown whether it was made.
    async fn change(&self, change: Arc<Change>, now_ms: i64) -> Result<bool, Fault> {
        let _changing = self.changing.lock().await;
        for _ in 0..TRIES_MAX {
            let (before, change, max) = (self.current(), Arc::clone(&change), self.blocks_max);
            // One change among a hundred thousand entries takes tens of milliseconds.
            let next = off_thread(move || next(&before, &change, max, now_ms)).await??;
            let Some((made, rows)) = next else { return Ok(false) };
            let is_kept = match &self.store {
                Some(store) => rows::change(store, made.current.version, Arc::new(rows)).await?,
                None => true,
            };
            if is_kept {
                self.use_now(made);
                return Ok(true);
            }
            if let Some(store) = &self.store {
                self.reload(store).await?;
            }
        }
        let text = "others change the blocks at the same time; try again";
        Err(Fault::refused(Code::QueueFull, text))
    }

    /// Figures for `/metrics`.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        let current = self.current();
        let count = |of| current.entries.keys().filter(|(kind, _)| *kind == of).count();
        let mut samples: Vec<Sample> = [BlockKind::Device, BlockKind::Address]
            .map(|kind| Sample {
                name: "uproar_blocks",
                help: "blocked devices and networks, as they are kept",
                kind: SampleKind::Gauge,
                labels: vec![("kind", kind.word().to_owned())],
                value: SampleValue::Number(count(kind) as f64),
            })
            .into();
        samples.push(Sample {
            name: "uproar_blocked_requests_total",
            help: "requests of users over HTTP, log-ins and registrations too, refused for their \
                   address or device",
            kind: SampleKind::Counter,
            labels: Vec::new(),
            value: SampleValue::Number(self.refused.load(Relaxed) as f64),
        });
        samples
    }
}

/// What is in effect with some entries, here and on the engines.
struct Made {
    current: Current,
    list: BlockList,
}

fn made(version: u64, entries: Entries) -> Made {
    let block = |((kind, value), entry): (&(BlockKind, String), &Entry)| Block {
        kind: *kind,
        value: value.clone(),
        until_s: entry.until_s,
    };
    let list = BlockList { version, blocks: entries.iter().map(block).collect() };
    let blocked = Blocked::new(&list, str::to_owned);
    Made { current: Current { version, entries, blocked }, list }
}

/// What a change makes of the entries there are, and of their rows; `None`: nothing is different.
/// Entries whose time is over go along.
///
/// # Errors
/// `LIMIT_REACHED`.
fn next(
    before: &Current,
    change: &Change,
    blocks_max: usize,
    now_ms: i64,
) -> Result<Option<(Made, rows::Change)>, Fault> {
    let over = |entry: &Entry| entry.until_s != 0 && entry.until_s <= now_ms as u64 / 1000;
    let mut entries = before.entries.clone();
    let old: Vec<_> = before.entries.iter().filter(|(_, entry)| over(entry)).collect();
    let mut gone: Vec<_> = old.into_iter().map(|(names, _)| names.clone()).collect();
    gone.iter().for_each(|names| drop(entries.remove(names)));
    let mut put = Entries::new();
    match change {
        Change::Put(new) => {
            entries.extend(new.clone());
            put.clone_from(new);
        }
        Change::Remove(kind, value) => {
            let names = (*kind, value.clone());
            if entries.remove(&names).is_none() {
                return Ok(None);
            }
            gone.push(names);
        }
    }
    if entries.len() > blocks_max {
        let many = entries.len();
        let text = format!("there would be {many} blocks; allowed are {blocks_max} (blocks_max)");
        return Err(Fault::refused(Code::LimitReached, text));
    }
    Ok(Some((made(before.version + 1, entries), rows::Change { put, gone })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{TestStore, runtime};
    use std::time::Instant;

    impl Blocks {
        fn is_blocked(&self, device: &str, address: IpAddr, now_ms: i64) -> bool {
            self.find(device, Some(address), now_ms).is_some()
        }
    }

    fn put(of: &[(BlockKind, &str, u64)]) -> Change {
        let one = |(kind, value, until_s): &(BlockKind, &str, u64)| {
            let entry = Entry { until_s: *until_s, at_ms: 5, reason: String::new() };
            ((*kind, (*value).to_owned()), entry)
        };
        Change::Put(of.iter().map(one).collect())
    }

    #[test]
    fn a_change_goes_to_its_end_though_nobody_waits_for_it() {
        runtime().block_on(async {
            let store = TestStore::sqlite().await;
            let blocks = Blocks::open(Some(&store), &BlocksConfig::default()).await.unwrap();
            let change = blocks.change_whole(put(&[(BlockKind::Device, "phone", 0)]), 1_000);
            // Looked at once, and let go.
            crate::beside::looked_at_once(change).await;
            let begun = Instant::now();
            while blocks.list().version == 0 {
                assert!(begun.elapsed() < Duration::from_secs(30), "never in effect");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert!(blocks.is_blocked("phone", "::1".parse().unwrap(), 1_000));
            store.end().await;
        });
    }

    #[tokio::test]
    async fn what_is_over_makes_room_and_too_many_are_refused() {
        use BlockKind::{Address, Device};
        let blocks = Blocks::open(None, &BlocksConfig { blocks_max: 2 }).await.unwrap();
        assert!(!blocks.is_kept());
        let address = "203.0.113.9".parse().unwrap();
        let full = put(&[(Device, "phone", 9), (Address, "203.0.113.0/24", 0)]);
        assert!(blocks.change(Arc::new(full), 1_000).await.unwrap());
        let until = |kind, until_s| Some(Blocking { kind, until_s });
        assert_eq!(blocks.find("phone", Some(address), 1_000), until(Device, Some(9)));
        assert_eq!(blocks.find("", Some(address), 1_000), until(Address, None));
        assert!(blocks.is_blocked("phone", "::1".parse().unwrap(), 8_999));
        assert!(!blocks.is_blocked("phone", "::1".parse().unwrap(), 9_000));
        assert!(blocks.is_blocked("", address, 9_000));
        let more = Arc::new(put(&[(Device, "tablet", 0)]));
        let Err(Fault::Refused(refused)) = blocks.change(Arc::clone(&more), 8_999).await else {
            panic!("there is no room")
        };
        assert_eq!(refused.code, Code::LimitReached);
        assert!(blocks.change(Arc::clone(&more), 9_000).await.unwrap(), "one is over");
        assert_eq!((blocks.list().version, blocks.list().blocks.len()), (2, 2));
        let remove = Arc::new(Change::Remove(Address, "203.0.113.0/24".into()));
        assert!(blocks.change(Arc::clone(&remove), 9_000).await.unwrap());
        assert!(
            !blocks.change(Arc::clone(&remove), 9_000).await.unwrap(),
            "it is not there any more"
        );
        assert!(!blocks.is_blocked("", address, 9_000));
        assert_eq!(blocks.list().version, 3);
    }

    /// As many as there may be, of both kinds.
    fn many() -> Change {
        let one = |n: u32| match n % 2 {
            0 => (BlockKind::Device, format!("device-{n}")),
            _ => (BlockKind::Address, format!("10.{}.{}.{}/32", n >> 16, n >> 8 & 255, n & 255)),
        };
        let entry = Entry { until_s: 0, at_ms: 5, reason: "spam".into() };
        Change::Put((0..100_000).map(|n| (one(n), entry.clone())).collect())
    }

    #[tokio::test]
    async fn the_thread_that_asks_for_a_change_serves_others_meanwhile() {
        let blocks = Blocks::open(None, &BlocksConfig::default()).await.unwrap();
        let turns = std::cell::Cell::new(0);
        let others = async {
            while blocks.list().version == 0 {
                turns.set(turns.get() + 1);
                tokio::task::yield_now().await;
            }
        };
        let (changed, ()) = tokio::join!(blocks.change(Arc::new(many()), 1_000), others);
        assert!(changed.unwrap());
        assert!(turns.get() > 1, "nobody else was served before the list was in effect");
    }

    /// Not held to a bound: machines differ. It tells why lists are made beside the requests.
    #[test]
    #[ignore = "it measures: run it alone, with --release and --nocapture"]
    fn how_long_a_full_list_takes() {
        let Change::Put(entries) = many() else { unreachable!() };
        let begun = Instant::now();
        let full = made(1, entries);
        let whole = begun.elapsed();
        let one = put(&[(BlockKind::Device, "phone", 0)]);
        let begun = Instant::now();
        let (next, _) = next(&full.current, &one, usize::MAX, 1_000).unwrap().unwrap();
        let change = begun.elapsed();
        let begun = Instant::now();
        drop(full);
        println!("made in {whole:?}, one more in {change:?}, freed in {:?}", begun.elapsed());
        assert_eq!(next.list.blocks.len(), 100_001);
    }
}
