//! The border of a task: a panic behind it is a counted, logged failure, and the task goes on.
//!
//! A panic is a defect, always. It must not be one that nobody notices for hours because a task
//! has ended that everybody waits for. Owns the border and its figure; what is told to whoever
//! waited, and what is left half done, is for the caller to say.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;
use uproar_proto::control::{Sample, SampleKind, SampleValue};

/// The pause before a task that panicked begins anew: a defect at its start must not spin.
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 1_000 });

/// What was caught, by task; of the process, like its memory.
static CAUGHT: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());

/// What the work comes to; `None`: it panicked. State that it shares may be half changed.
pub(crate) async fn caught<T>(task: &'static str, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let polled = std::future::poll_fn(|cx| {
        match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
            Ok(polled) => polled.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    });
    polled.await.map_err(|panic| note(task, &*panic)).ok()
}

/// The same for what never waits.
pub(crate) fn caught_now<T>(task: &'static str, work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| note(task, &*panic)).ok()
}

/// Runs a task to its own end, however often it panics: it is made anew each time.
pub(crate) async fn kept_up<F: Future<Output = ()>>(
    task: &'static str,
    mut begin: impl FnMut() -> F,
) {
    while caught(task, begin()).await.is_none() {
        tokio::time::sleep(PAUSE).await;
    }
}

fn note(task: &'static str, panic: &(dyn Any + Send)) {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("");
    tracing::error!(task, panic = text, "a defect: a task panicked; it goes on");
    *CAUGHT.lock().unwrap_or_else(PoisonError::into_inner).entry(task).or_default() += 1;
}

/// Figures of what was caught.
pub(crate) fn samples() -> Vec<Sample> {
    let caught = CAUGHT.lock().unwrap_or_else(PoisonError::into_inner);
    let sample = |(task, count): (&&'static str, &u64)| Sample {
        name: "uproar_panics_total",
        help: "Panics that were caught, by task: each is a defect.",
        kind: SampleKind::Counter,
        labels: vec![("task", (*task).to_owned())],
        value: SampleValue::Number(*count as f64),
    };
    caught.iter().map(sample).collect()
}

/// How many were caught in a task.
#[cfg(test)]
pub(crate) fn count(task: &str) -> u64 {
    CAUGHT.lock().unwrap_or_else(PoisonError::into_inner).get(task).copied().unwrap_or_default()
}

/// A test's request whose text asks for it panics here.
#[cfg(test)]
pub(crate) fn trap(task: &str, text: &str) {
    assert!(!text.contains(&format!("panic in {task}")), "as the test wants it");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_caught_and_counted_and_the_task_begins_anew() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.unwrap().block_on(async {
            assert_eq!(caught("a test", async { 5 }).await, Some(5));
            assert_eq!(caught_now("a test", || 6), Some(6));
            assert_eq!(count("a test"), 0);
            assert_eq!(caught_now("a test", || panic!("one")), None::<()>);
            let mut begun = 0;
            let task = || {
                begun += 1;
                let fails = begun < 3;
                async move {
                    tokio::task::yield_now().await;
                    assert!(!fails, "two and three");
                }
            };
            kept_up("a test", task).await;
            assert_eq!((begun, count("a test")), (3, 3));
        });
        let samples = samples();
        let one = samples.iter().find(|one| one.labels[0].1 == "a test").unwrap();
        assert_eq!((one.name, &one.value), ("uproar_panics_total", &SampleValue::Number(3.0)));
    }
}
