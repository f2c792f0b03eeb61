//! The body without end: what a node is told, as it is told, and a heartbeat.

use super::nodes::{Next, Nodes};
use crate::{BEAT, frames};
use axum::body::Body;
use bytes::Bytes;
use futures_core::Stream;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};

/// Chunks that wait to be taken by the connection. Reached: words wait in the node's buffer, which
/// has a bound of its own.
const CHUNKS_MAX: usize = 2;

/// The body of a stream: session and number, from where on.
pub(super) fn body(nodes: &Arc<Nodes>, stream: (u64, u64), wake: Arc<Notify>, after: u64) -> Body {
    let (chunks, body) = mpsc::channel(CHUNKS_MAX);
    tokio::spawn(write(Arc::clone(nodes), stream, wake, after, chunks));
    Body::from_stream(Chunks(body))
}

async fn write(
    nodes: Arc<Nodes>,
    (session, stream): (u64, u64),
    wake: Arc<Notify>,
    mut after: u64,
    chunks: mpsc::Sender<Bytes>,
) {
    // The first one at once: it says that the stream stands.
    let mut beat_at = Instant::now();
    loop {
        let chunk = match nodes.next(session, stream, after) {
            Next::Over => return,
            Next::Chunk(chunk, seq) => {
                after = seq;
                chunk.into()
            }
            Next::Later => tokio::select! {
                () = wake.notified() => continue,
                () = sleep_until(beat_at) => frames::beat(),
                () = chunks.closed() => return nodes.stream_ended(session, stream),
            },
        };
        if chunks.send(chunk).await.is_err() {
            return nodes.stream_ended(session, stream);
        }
        beat_at = Instant::now() + BEAT;
    }
}

/// What the connection takes from.
struct Chunks(mpsc::Receiver<Bytes>);

impl Stream for Chunks {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|chunk| chunk.map(Ok))
    }
}
