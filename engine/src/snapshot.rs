//! What control tells whole, is made ready beside the shards, and handed to all of them: the list
//! of the filter, the list of who may not connect.
//!
//! Owns the thread that makes the newest one ready and the newest that waits for it. Shards go on
//! with the one they have until the next is ready, and never make, nor free, one themselves. Knows
//! nothing of what is in it.

use crate::io::{Poster, Relay, relay};
use crate::shard::message::Message;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A queue of a shard that is full empties within turns.
const POST_RETRY: Duration = Duration::from_millis(1);
/// How often it is looked whether all shards have taken the next one.
const LET_GO_EVERY: Duration = Duration::from_millis(5);
/// Looks before one is left to the last shard that has it: a second.
const LET_GO_LOOKS: u32 = 200;

/// See the module.
pub(crate) struct Snapshots<L> {
    /// Told and not made ready; one that is not the newest any more never is.
    next: Arc<Mutex<Option<Arc<L>>>>,
    /// Wakes the thread. Full: it is awake, and looks for the newest one afterwards.
    work: Relay<()>,
}

/// One of them as control tells it, and as shards use it.
pub(crate) struct Ready<L, A> {
    pub(crate) list: Arc<L>,
    pub(crate) active: Arc<A>,
}

impl<L: PartialEq + Send + Sync + 'static> Snapshots<L> {
    /// Starts the thread; `now` is what the shards have been given at their start. `make` may
    /// refuse: then what there is stays.
    ///
    /// # Errors
    /// Where the thread cannot be started.
    pub(crate) fn start<A: Send + Sync + 'static>(
        name: &'static str,
        poster: Poster<Message>,
        now: Option<Ready<L, A>>,
        mut make: impl FnMut(&Arc<L>) -> Option<Arc<A>> + Send + 'static,
        message: fn(Arc<A>) -> Message,
    ) -> Result<Snapshots<L>, String> {
        let next: Arc<Mutex<Option<Arc<L>>>> = Arc::default();
        let (mut before, mut active) = now.map(|now| (now.list, now.active)).unzip();
        let of = Arc::clone(&next);
        let take = move |()| {
            let next = of.lock().unwrap_or_else(PoisonError::into_inner).take();
            // Whoever is linked anew is told again what it has.
            let Some(list) = next.filter(|list| before.as_ref() != Some(list)) else { return };
            let Some(made) = make(&list) else { return };
            hand_out(&poster, &made, message);
            let_go(active.replace(made));
            before = Some(list);
        };
        let work = relay(name, 1, take).map_err(|e| e.to_string())?;
        Ok(Snapshots { next, work })
    }

    /// This one is to be in effect.
    pub(crate) fn told(&self, list: Arc<L>) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(list);
        let _ = self.work.hand(());
    }
}

/// Every shard gets it, in the end: a shard whose queue is closed needs none.
fn hand_out<A>(poster: &Poster<Message>, next: &Arc<A>, message: fn(Arc<A>) -> Message) {
    for shard in 0..poster.threads() {
        let mut message = message(Arc::clone(next));
        while let Err(back) = poster.post(shard, message) {
            if poster.is_closed(shard) {
                break;
            }
            message = back;
            std::thread::sleep(POST_RETRY);
        }
    }
}

/// Frees one here, once no shard has it any more: megabytes are not freed between two messages.
fn let_go<A>(before: Option<Arc<A>>) {
    let Some(before) = before else { return };
    for _ in 0..LET_GO_LOOKS {
        if Arc::strong_count(&before) == 1 {
            return;
        }
        std::thread::sleep(LET_GO_EVERY);
    }
}
