//! Work beside the request that asks for it: off the threads of HTTP, or to its end though nobody
//! waits for it any more.
//!
//! Owns what becomes of work that panics: it is a defect, and told as one. Knows nothing of the
//! work.

use crate::store::StoreError;

/// Does what takes milliseconds of CPU on a thread for such work.
///
/// # Errors
/// `Defect` where it panicked.
pub(crate) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Defect)
}

/// Does what must not end half-way where the request that asks for it is cut off.
///
/// # Errors
/// Its own; `Defect` where it panicked.
pub(crate) async fn to_its_end<T, E>(
    work: impl Future<Output = Result<T, E>> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
{
    tokio::spawn(work).await.unwrap_or_else(|_| Err(StoreError::Defect.into()))
}

/// Polls a piece of work a single time and lets go of it, as a request does whose caller is gone.
/// A timeout of zero would not do: it polls again once its clock has moved.
#[cfg(test)]
pub(crate) async fn looked_at_once(work: impl Future) {
    let mut work = std::pin::pin!(work);
    std::future::poll_fn(|cx| {
        let _ = work.as_mut().poll(cx);
        std::task::Poll::Ready(())
    })
    .await;
}
