//! A disk with a bucket behind it: what is written is durable on the disk first, and goes to the
//! bucket when that answers.
//!
//! Owns which values wait for the bucket and which copies the disk gives up. A bucket that is away
//! delays nothing that is written, and what waits for it outlives a restart.
//!
//! On the disk `fresh/` has what waits, and `kept/` copies of what the bucket has: every index, so
//! that it is asked for segments alone, and as many segments as there is room for.

use super::bucket::Bucket;
use super::config::DanmakuConfig;
use super::figures::Figures;
use super::place::{INDEX, Recording, Source};
use super::shelf::{Disk, Shelf, disk_bytes, folder_bytes, write_whole};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// Values on their way to the bucket at once.
const UPLOADS_MAX: usize = 8;
/// A bucket that did not answer is asked by nobody who waits for so long.
const AWAY: Duration = Duration::from_secs(30);
/// The pause after one that failed.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Tiers {
    shared: Arc<Shared>,
}

struct Shared {
    folder: PathBuf,
    fresh: Disk,
    kept: Disk,
    bucket: Bucket,
    waiting: Mutex<Waiting>,
    woken: Condvar,
    /// Until when the bucket is taken to be away.
    away: Mutex<Option<Instant>>,
    /// The disk has every index that the bucket has.
    is_complete: AtomicBool,
    fresh_bytes: AtomicU64,
    kept_bytes: AtomicU64,
    bytes_max: u64,
    figures: Arc<Figures>,
}

/// What waits for the bucket, in the order it was written.
#[derive(Default)]
struct Waiting {
    names: BTreeMap<u64, String>,
    numbers: BTreeMap<String, u64>,
    under_way: BTreeSet<String>,
    next: u64,
    is_over: bool,
}

impl Waiting {
    fn add(&mut self, name: &str) {
        self.forget(name);
        self.names.insert(self.next, name.to_owned());
        self.numbers.insert(name.to_owned(), self.next);
        self.next += 1;
    }

    fn forget(&mut self, name: &str) {
        if let Some(number) = self.numbers.remove(name) {
            self.names.remove(&number);
        }
    }

    /// The first whose earlier value is not under way.
    fn take(&mut self) -> Option<(u64, String)> {
        let mut all = self.names.iter().filter(|(_, name)| !self.under_way.contains(*name));
        let (number, name) = all.next().map(|(number, name)| (*number, name.clone()))?;
        self.under_way.insert(name.clone());
        Some((number, name))
    }
}

impl Tiers {
    /// Goes on with what waits on the disk. What stands there from a time without a bucket will be
    /// carried to it.
    ///
    /// # Errors
    /// Where the disk does not answer, the settings make no address, or no thread can be started.
    pub(super) fn start(config: &DanmakuConfig, figures: Arc<Figures>) -> io::Result<Tiers> {
        let folder = config.folder.clone();
        adopt(&folder)?;
        let (fresh, kept) = (folder.join("fresh"), folder.join("kept"));
        let (mut waiting, mut fresh_bytes) = (Waiting::default(), 0);
        for file in files(&fresh)? {
            waiting.add(&file.name);
            fresh_bytes += file.bytes;
        }
        let kept_bytes = files(&kept)?.iter().map(|file| file.bytes).sum();
        let shared = Arc::new(Shared {
            fresh: Disk::new(fresh),
            kept: Disk::new(kept),
            bucket: Bucket::new(&config.s3)?,
            waiting: Mutex::new(waiting),
            woken: Condvar::new(),
            away: Mutex::default(),
            is_complete: AtomicBool::new(folder.join(COMPLETE).exists()),
            fresh_bytes: AtomicU64::new(fresh_bytes),
            kept_bytes: AtomicU64::new(kept_bytes),
            bytes_max: config.disk_bytes_max,
            folder,
            figures,
        });
        for number in 0..UPLOADS_MAX {
            let shared = Arc::clone(&shared);
            let name = format!("danmaku-up-{number}");
            thread::Builder::new().name(name).spawn(move || shared.upload())?;
        }
        if !shared.is_complete.load(Relaxed) {
            let shared = Arc::clone(&shared);
            let name = "danmaku-find".to_owned();
            thread::Builder::new().name(name).spawn(move || shared.find())?;
        }
        Ok(Tiers { shared })
    }
}

impl Drop for Tiers {
    fn drop(&mut self) {
        self.shared.waiting().is_over = true;
        self.shared.woken.notify_all();
    }
}

impl Shelf for Tiers {
    fn put(&self, name: &str, value: &[u8]) -> io::Result<()> {
        let shared = &self.shared;
        // An upload that ends now must not take the new value for the one it has carried.
        let mut waiting = shared.waiting();
        let former = shared.fresh_size(name);
        let bytes = shared.fresh_bytes.load(Relaxed) - former + taken(name, value.len() as u64);
        if bytes > shared.bytes_max {
            return Err(io::Error::other("danmaku.disk_bytes_max wait for the bucket"));
        }
        shared.fresh.put(name, value)?;
        shared.fresh_bytes.store(bytes, Relaxed);
        waiting.add(name);
        shared.figures.upload_waiting.store(waiting.names.len() as u64, Relaxed);
        drop(waiting);
        shared.woken.notify_one();
        shared.make_room();
        Ok(())
    }

    fn get(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let shared = &self.shared;
        for disk in [&shared.fresh, &shared.kept] {
            if let Some(value) = disk.get(name)? {
                return Ok(Some(value));
            }
        }
        if is_index(name) && shared.is_complete.load(Relaxed) {
            return Ok(None);
        }
        shared.figures.fetches.fetch_add(1, Relaxed);
        shared.ask(|bucket| bucket.get(name))
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let shared = &self.shared;
        let mut names = shared.fresh.list(folder)?;
        names.extend(shared.kept.list(folder)?);
        if !shared.is_complete.load(Relaxed) {
            names.extend(shared.ask(|bucket| bucket.list(folder))?);
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let shared = &self.shared;
        shared.ask(|bucket| bucket.remove(name))?;
        let mut waiting = shared.waiting();
        let below = format!("{name}/");
        let is_it = |of: &&String| **of == name || of.starts_with(&below);
        let gone: Vec<String> = waiting.numbers.keys().filter(is_it).cloned().collect();
        for name in gone {
            shared.fresh_bytes.fetch_sub(shared.fresh_size(&name), Relaxed);
            waiting.forget(&name);
        }
        shared.fresh.remove(name)?;
        shared.kept.remove(name)
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Whole at every moment but for counts.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the bucket for somebody who waits, perhaps with the desk in hand: one that is away
    /// costs the time of one request, and then an error at once.
    fn ask<T>(&self, ask: impl FnOnce(&Bucket) -> io::Result<T>) -> io::Result<T> {
        let away = || self.away.lock().unwrap_or_else(PoisonError::into_inner);
        if away().is_some_and(|until| Instant::now() < until) {
            return Err(io::Error::other("the bucket is away"));
        }
        let answer = ask(&self.bucket);
        *away() = answer.is_err().then(|| Instant::now() + AWAY);
        answer
    }

    fn fresh_path(&self, name: &str) -> PathBuf {
        self.folder.join("fresh").join(name)
    }

    fn fresh_size(&self, name: &str) -> u64 {
        fs::metadata(self.fresh_path(name)).map_or(0, |file| taken(name, file.len()))
    }

    /// Carries values to the bucket until there is nobody who writes any.
    fn upload(&self) {
        loop {
            let mut waiting = self.waiting();
            let (number, name) = loop {
                if waiting.is_over {
                    return;
                }
                if let Some(next) = waiting.take() {
                    break next;
                }
                waiting = self.woken.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            };
            drop(waiting);
            let done = self.upload_one(&name);
            let mut waiting = self.waiting();
            waiting.under_way.remove(&name);
            let settled = done.and_then(|()| self.settle(&mut waiting, number, &name));
            self.figures.upload_waiting.store(waiting.names.len() as u64, Relaxed);
            if let Err(error) = settled {
                let failures = self.figures.upload_failures.fetch_add(1, Relaxed);
                if failures.is_multiple_of(100) {
                    tracing::warn!(name, %error, failures, "danmaku: an upload failed");
                }
                // Woken early only by the end.
                let _ = self.woken.wait_timeout_while(waiting, AGAIN_AFTER, |w| !w.is_over);
            }
        }
    }

    fn upload_one(&self, name: &str) -> io::Result<()> {
        match self.fresh.get(name)? {
            Some(value) => {
                self.bucket.put(name, value)?;
                *self.away.lock().unwrap_or_else(PoisonError::into_inner) = None;
                Ok(())
            }
            None => Ok(()), // removed since
        }
    }

    /// A value is in the bucket. Where it is the newest, the disk's is a copy from now on; one that
    /// was removed meanwhile must not come back.
    fn settle(&self, waiting: &mut Waiting, number: u64, name: &str) -> io::Result<()> {
        match waiting.numbers.get(name) {
            Some(newest) if *newest == number => {
                let bytes = self.fresh_size(name);
                let kept = self.folder.join("kept").join(name);
                let former = fs::metadata(&kept).map_or(0, |file| taken(name, file.len()));
                fs::create_dir_all(kept.parent().unwrap_or(Path::new(".")))?;
                fs::rename(self.fresh_path(name), kept)?;
                self.fresh.prune(name); // nothing is written meanwhile
                waiting.forget(name);
                self.fresh_bytes.fetch_sub(bytes, Relaxed);
                self.kept_bytes.fetch_add(bytes.saturating_sub(former), Relaxed);
                self.figures.uploads.fetch_add(1, Relaxed);
                Ok(())
            }
            Some(_) => Ok(()),
            None => self.bucket.remove(name),
        }
    }

    /// Gives up copies of segments, those that were written first, where there is no room.
    fn make_room(&self) {
        let bytes = || self.fresh_bytes.load(Relaxed) + self.kept_bytes.load(Relaxed);
        if bytes() <= self.bytes_max {
            return;
        }
        let kept = self.folder.join("kept");
        let Ok(mut copies) = files(&kept) else { return };
        self.kept_bytes.store(copies.iter().map(|file| file.bytes).sum(), Relaxed);
        copies.retain(|file| !is_index(&file.name));
        copies.sort_by_key(|file| file.written);
        for copy in copies {
            // A twentieth is left free, so that not each new segment asks again.
            if bytes() <= self.bytes_max - self.bytes_max / 20 {
                return;
            }
            if fs::remove_file(kept.join(&copy.name)).is_ok() {
                self.kept_bytes.fetch_sub(copy.bytes, Relaxed);
            }
        }
    }

    /// Brings every index that the bucket has to the disk: once in the life of a disk.
    fn find(&self) {
        while let Err(error) = self.find_all() {
            tracing::warn!(%error, "danmaku: what the bucket has cannot be listed");
            let waiting = self.waiting();
            let _ = self.woken.wait_timeout_while(waiting, AGAIN_AFTER, |w| !w.is_over);
            if self.waiting().is_over {
                return;
            }
        }
    }

    fn find_all(&self) -> io::Result<()> {
        for folder in self.bucket.list("")? {
            if Source::of_folder(&folder).is_none() {
                continue;
            }
            for recording in self.bucket.list(&folder)? {
                let name = format!("{folder}/{recording}/{INDEX}");
                if Recording::of_id(&recording).is_none() || self.waiting().is_over {
                    continue;
                }
                let Some(value) = self.bucket.get(&name)? else { continue };
                let _waiting = self.waiting(); // nothing is written or moved meanwhile
                let is_known = self.fresh.get(&name)?.is_some() || self.kept.get(&name)?.is_some();
                if !is_known {
                    self.kept.put(&name, &value)?;
                }
            }
        }
        if !self.waiting().is_over {
            write_whole(&self.folder.join(COMPLETE), b"", true)?;
            self.is_complete.store(true, Relaxed);
        }
        Ok(())
    }
}

/// Says that `kept/` has every index of the bucket.
const COMPLETE: &str = "complete";

/// What a value takes on a disk. Every recording has an index, so that has its folders too.
fn taken(name: &str, value_bytes: u64) -> u64 {
    disk_bytes(value_bytes) + folder_bytes(if is_index(name) { 2 } else { 0 })
}

fn is_index(name: &str) -> bool {
    name.ends_with(INDEX)
}

/// What a disk has from a time without a bucket waits for the bucket now.
fn adopt(folder: &Path) -> io::Result<()> {
    let fresh = folder.join("fresh");
    for name in Disk::new(folder.to_owned()).list("")? {
        if Source::of_folder(&name).is_none() {
            continue;
        }
        fs::create_dir_all(&fresh)?;
        fs::rename(folder.join(&name), fresh.join(&name)).map_err(|error| {
            let place = folder.join(&name);
            io::Error::other(format!("{} cannot be taken over: {error}", place.display()))
        })?;
    }
    Ok(())
}

struct Stored {
    name: String,
    /// On the disk.
    bytes: u64,
    written: SystemTime,
}

/// All files below a folder.
fn files(folder: &Path) -> io::Result<Vec<Stored>> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        let entries = match fs::read_dir(&next) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let (path, about) = match entry.and_then(|e| Ok((e.path(), e.metadata()?))) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue, // moved since
                read => read?,
            };
            let name = path.strip_prefix(folder).ok().and_then(Path::to_str).map(str::to_owned);
            match name {
                _ if about.is_dir() => folders.push(path),
                // What was half written when the process ended is no value.
                Some(name) if !name.ends_with(".new") => {
                    let written = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                    found.push(Stored { bytes: taken(&name, about.len()), name, written });
                }
                _ => {}
            }
        }
    }
    found.sort_by(|a, b| a.written.cmp(&b.written).then_with(|| a.name.cmp(&b.name)));
    Ok(found)
}

#[cfg(test)]
#[path = "tiers_tests.rs"]
mod tiers_tests;
