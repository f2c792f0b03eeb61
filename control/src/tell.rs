//! How a list that is told whole comes to the engine: the newest one, whenever it changes.
//!
//! Owns the pace: of telling, and of looking whether another server of the same store has changed
//! it. What is in it, and whether it may be so, others know.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;
use uproar_proto::control::{Engine, Tell};

/// Between two lists that are told: a node buffers what it has not heard, and a list may be large.
const TELL_EVERY: Duration = Duration::from_millis(200);
/// An engine whose queue is full takes it within turns.
const TELL_RETRY: Duration = Duration::from_millis(5);

/// Calls `look` again and again for as long as there is somebody to look for; on the caller's tokio
/// runtime.
pub(crate) fn keep_looking<T, F>(
    whose: &Arc<T>,
    every: Duration,
    look: impl Fn(Arc<T>) -> F + Send + 'static,
) where
    T: Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let whose = Arc::downgrade(whose);
    tokio::spawn(async move {
        loop {
            sleep(every).await;
            let Some(whose) = whose.upgrade() else { return };
            look(whose).await;
        }
    });
}

/// Tells `engine` of the list, now and whenever it changes; on the caller's tokio runtime.
pub(crate) fn keep_telling<L: Send + Sync + 'static>(
    mut told: watch::Receiver<Arc<L>>,
    engine: Arc<dyn Engine>,
    word: fn(Arc<L>) -> Tell,
) {
    told.mark_changed();
    tokio::spawn(async move {
        while told.changed().await.is_ok() {
            let mut tell = word(Arc::clone(&told.borrow_and_update()));
            while let Err(back) = engine.tell(tell) {
                sleep(TELL_RETRY).await;
                tell = back;
            }
            sleep(TELL_EVERY).await;
        }
    });
}
