//! The list of words and rules: what it is now, how it changes, and who is told.
//!
//! Owns the order of a change: it is compiled first, so that what cannot be is refused; then it is
//! kept; then the engine is told. Never waits for an engine, and looks at no message but what is
//! asked of it.

use crate::beside::{off_thread, to_its_end};
use crate::fault::Fault;
use crate::store::{Dialect, Store, StoreError, filter as rows};
use crate::tell::{keep_looking, keep_telling};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use uproar_filter::{Bad, Filter, List};
use uproar_proto::control::{Engine, FilterList, Sample, SampleKind, SampleValue, Tell};
use uproar_proto::error::Code;

/// How often a store that several servers share is asked for the version of its list.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Tries to change a list that another server changes at the same time.
const TRIES_MAX: u32 = 5;

/// A list in effect here.
pub struct Current {
    /// As it is kept and told.
    pub list: Arc<FilterList>,
    /// The same, one by one.
    pub(crate) words: List,
    pub(crate) filter: Filter,
}

/// See the module.
pub struct Filters {
    store: Arc<Store>,
    current: RwLock<Arc<Current>>,
    /// Held by whoever changes it.
    changing: Mutex<()>,
    told: watch::Sender<Arc<FilterList>>,
    changes: AtomicU64,
    hits: AtomicU64,
    /// The same of texts of users with a role in a room.
    role_hits: AtomicU64,
}

/// Why a change came to nothing.
pub(crate) enum Refused {
    /// The caller meant another version than this one.
    Version(u64),
    /// What the list would be is no good.
    Bad(String),
    Fault(Fault),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Refused {
        Refused::Fault(error.into())
    }
}

impl Filters {
    /// Reads the list of a store.
    ///
    /// # Errors
    /// In words for the operator.
    pub async fn open(store: &Arc<Store>) -> Result<Arc<Filters>, String> {
        let failed = |why: &dyn std::fmt::Display| format!("the filter list: {why}");
        let list = rows::read(store).await.map_err(|e| failed(&e))?;
        let current =
            compiled(move || read(list, Filter::compile)).await.map_err(
                |refused| match refused {
                    Refused::Bad(why) => failed(&why),
                    _ => failed(&"it could not be compiled"),
                },
            )?;
        let told = watch::Sender::new(Arc::clone(&current.list));
        Ok(Arc::new(Filters {
            store: Arc::clone(store),
            current: RwLock::new(Arc::new(current)),
            changing: Mutex::new(()),
            told,
            changes: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            role_hits: AtomicU64::new(0),
        }))
    }

    /// Tells `engine` of the list, now and whenever it changes; on the caller's tokio runtime.
    pub fn serve(self: &Arc<Filters>, engine: Arc<dyn Engine>) {
        keep_telling(self.told.subscribe(), engine, Tell::Filter);
        if self.store.dialect() == Dialect::Mysql {
            keep_looking(self, LOOK_EVERY, |filters| async move {
                if let Err(Refused::Fault(error)) = filters.look().await {
                    tracing::debug!(?error, "the version of the filter list is not known");
                }
            });
        }
    }

    /// The list that is in effect.
    #[must_use]
    pub fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a line for a video hits; counted.
    pub(crate) fn is_hit(&self, text: &str) -> bool {
        let is_hit = self.current().filter.is_hit(text, &mut uproar_filter::Scratch::default());
        self.hits.fetch_add(u64::from(is_hit), Relaxed);
        is_hit
    }

    /// Whether one of these hits, which a user with a role wants a room to show; counted.
    pub(crate) fn is_hit_by_role<'t>(&self, texts: impl IntoIterator<Item = &'t str>) -> bool {
        let (current, mut scratch) = (self.current(), uproar_filter::Scratch::default());
        let is_hit = texts.into_iter().any(|text| current.filter.is_hit(text, &mut scratch));
        self.role_hits.fetch_add(u64::from(is_hit), Relaxed);
        is_hit
    }

    /// The list that is kept now, which another server may have changed a moment ago.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn look(&self) -> Result<Arc<Current>, Refused> {
        let known = self.current();
        if rows::version(&self.store).await? == known.list.version {
            return Ok(known);
        }
        let _changing = self.changing.lock().await;
        self.reload().await
    }

    async fn reload(&self) -> Result<Arc<Current>, Refused> {
        let (list, before) = (rows::read(&self.store).await?, self.current());
        if list == *before.list {
            return Ok(before);
        }
        let next = compiled(move || read(list, |words| before.filter.changed(words)));
        Ok(self.use_now(next.await?))
    }

    fn use_now(&self, current: Current) -> Arc<Current> {
        let current = Arc::new(current);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&current);
        self.told.send_replace(Arc::clone(&current.list));
        current
    }

    /// Makes another list of the one there is; `meant`: only if that is this version. Goes on to
    /// its end where whoever asks goes away meanwhile: what is kept is in effect too.
    ///
    /// # Errors
    /// Where it is another version, where the other list is no good, or the store's own: then it is
    /// unknown whether it was kept.
    pub(crate) async fn change(
        self: &Arc<Filters>,
        meant: Option<u64>,
        make: impl Fn(&List) -> List + Send + Sync + 'static,
    ) -> Result<Arc<Current>, Refused> {
        let filters = Arc::clone(self);
        to_its_end(async move { filters.try_change(meant, Arc::new(make)).await }).await
    }

    async fn try_change(
        &self,
        meant: Option<u64>,
        make: Arc<impl Fn(&List) -> List + Send + Sync + 'static>,
    ) -> Result<Arc<Current>, Refused> {
        let _changing = self.changing.lock().await;
        for _ in 0..TRIES_MAX {
            let before = self.current();
            if meant.is_some_and(|meant| meant != before.list.version) {
                // Another server may have made it what the caller knows.
                let now = self.reload().await?;
                if meant != Some(now.list.version) {
                    return Err(Refused::Version(now.list.version));
                }
                continue;
            }
            let make = Arc::clone(&make);
            let next = compiled(move || {
                let list = make(&before.words);
                let version = before.list.version + 1;
                let (words, regexes) = (list.words_lines(), list.regexes_lines());
                let filter = before.filter.changed(&list)?;
                let kept = Arc::new(FilterList { version, words, regexes });
                Ok(Current { list: kept, words: list, filter })
            });
            let next = next.await?;
            if rows::replace(&self.store, &next.list).await? {
                self.changes.fetch_add(1, Relaxed);
                return Ok(self.use_now(next));
            }
            self.reload().await?;
        }
        let text = "others change the list at the same time; try again";
        Err(Refused::Fault(Fault::refused(Code::QueueFull, text)))
    }

    /// Figures for `/metrics`.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        let current = self.current();
        let sample = |name, help, kind, value: u64| {
            let value = SampleValue::Number(value as f64);
            Sample { name, help, kind, labels: Vec::new(), value }
        };
        let (gauge, counter) = (SampleKind::Gauge, SampleKind::Counter);
        let (words, regexes) = (current.words.words.len(), current.words.regexes.len());
        let (changes, hits) = (self.changes.load(Relaxed), self.hits.load(Relaxed));
        vec![
            sample(
                "uproar_filter_list_version",
                "version of the filter list as it is kept",
                gauge,
                current.list.version,
            ),
            sample("uproar_filter_list_words", "its words", gauge, words as u64),
            sample("uproar_filter_list_regexes", "its regexes", gauge, regexes as u64),
            sample("uproar_filter_changes_total", "changes of it made here", counter, changes),
            sample(
                "uproar_filter_danmaku_hits_total",
                "lines for videos refused by a word or a rule",
                counter,
                hits,
            ),
            sample(
                "uproar_filter_role_hits_total",
                "pins, polls and attributes by users with a role refused by a word or a rule",
                counter,
                self.role_hits.load(Relaxed),
            ),
        ]
    }
}

/// A list as it is kept, made ready.
fn read(
    list: FilterList,
    compile: impl FnOnce(&List) -> Result<Filter, Bad>,
) -> Result<Current, Bad> {
    let words = List::of_lines(&list.words, &list.regexes);
    let filter = compile(&words)?;
    Ok(Current { list: Arc::new(list), words, filter })
}

/// Makes a list ready off the threads of HTTP: to sort a large one takes milliseconds, and to
/// compile one that is not much like the one before some hundred.
async fn compiled(
    make: impl FnOnce() -> Result<Current, Bad> + Send + 'static,
) -> Result<Current, Refused> {
    off_thread(make).await?.map_err(|bad| Refused::Bad(bad.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{TestStore, runtime};
    use std::time::Instant;
    use uproar_filter::list::Change;

    #[test]
    fn a_change_goes_to_its_end_though_nobody_waits_for_it() {
        runtime().block_on(async {
            let store = TestStore::sqlite().await;
            let filters = Filters::open(&store).await.unwrap();
            let add = Change { add_words: vec!["spam".into()], ..Change::default() };
            let change = filters.change(None, move |now| now.clone().changed(add.clone()));
            // Looked at once, and let go.
            crate::beside::looked_at_once(change).await;
            let begun = Instant::now();
            while filters.current().list.version == 0 {
                assert!(begun.elapsed() < Duration::from_secs(30), "never in effect");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert!(filters.is_hit("spam"));
            store.end().await;
        });
    }
}
