//! Control's side: three requests, by key.
//!
//! Owns the routes and what their answers look like. Which session is whose is [`Nodes`]' to say;
//! the accept loop is the caller's.

mod batches;
mod buffer;
mod nodes;
mod stream;

pub use nodes::Nodes;

use crate::v1::{Asks, Hello};
use crate::{BEAT, REQUEST_BYTES_MAX};
use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use nodes::Refused;
use prost::Message as _;
use serde::Deserialize;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq as _;
use tokio::time::{sleep, timeout};
use uproar_proto::control::Control;

/// The longest time for a request with its body; of the stream, to its beginning.
const REQUEST_MAX: Duration = Duration::from_secs(10);
/// Requests with another key, and words on it in the log.
const STRANGERS_LOGGED_EVERY: u64 = 1_000;

/// What the routes share.
struct Shared {
    nodes: Arc<Nodes>,
    control: Arc<dyn Control>,
    /// `Bearer` and the key.
    authorization: String,
    strangers: AtomicU64,
}

/// The routes by which engines reach `control`, known by `key`. Runs on the caller's tokio runtime.
pub fn router(nodes: &Arc<Nodes>, control: Arc<dyn Control>, key: &str) -> Router {
    tokio::spawn(sweep(Arc::downgrade(nodes)));
    let shared = Arc::new(Shared {
        nodes: Arc::clone(nodes),
        control,
        authorization: format!("Bearer {key}"),
        strangers: AtomicU64::new(0),
    });
    Router::new()
        .route("/link/hello", post(hello))
        .route("/link/asks", post(asks))
        .route("/link/stream", get(stream))
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .layer(from_fn_with_state(Arc::clone(&shared), known))
        .with_state(shared)
}

/// Sessions of nodes that say nothing any more end.
async fn sweep(nodes: Weak<Nodes>) {
    while let Some(nodes) = nodes.upgrade() {
        nodes.sweep(Instant::now());
        drop(nodes);
        sleep(BEAT).await;
    }
}

/// Lets in who has the key, before anything of the request's body is read.
async fn known(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION);
    let given = given.map(|value| value.as_bytes()).unwrap_or_default();
    if !bool::from(given.ct_eq(shared.authorization.as_bytes())) {
        let strangers = shared.strangers.fetch_add(1, Relaxed);
        if strangers.is_multiple_of(STRANGERS_LOGGED_EVERY) {
            tracing::warn!(strangers = strangers + 1, "an engine has another link.key");
        }
        let text = "link.key is not the one of this control process; both must have the same";
        return (StatusCode::UNAUTHORIZED, text).into_response();
    }
    match timeout(REQUEST_MAX, next.run(request)).await {
        Ok(response) => response,
        Err(_) => StatusCode::REQUEST_TIMEOUT.into_response(),
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let unknown = "there is no such session; say hello";
        match self {
            Refused::Version(text) => (StatusCode::CONFLICT, text).into_response(),
            Refused::Unavailable(text) => (StatusCode::SERVICE_UNAVAILABLE, text).into_response(),
            Refused::Gone => (StatusCode::GONE, unknown).into_response(),
            Refused::Bad(text) => (StatusCode::BAD_REQUEST, text).into_response(),
        }
    }
}

fn read<T: prost::Message + Default>(body: Bytes) -> Result<T, Refused> {
    T::decode(body).map_err(|error| Refused::Bad(error.to_string()))
}

async fn hello(State(shared): State<Arc<Shared>>, body: Bytes) -> Result<Vec<u8>, Refused> {
    let hello = read::<Hello>(body)?;
    let (address, build) = (hello.address.clone(), hello.build.clone());
    let linked = shared.nodes.hello(hello, Instant::now()).inspect_err(|refused| {
        tracing::warn!(address, build, ?refused, "an engine is refused");
    })?;
    Ok(linked.encode_to_vec())
}

async fn asks(State(shared): State<Arc<Shared>>, body: Bytes) -> Result<(), Refused> {
    shared.nodes.asked(read::<Asks>(body)?, &*shared.control, Instant::now())
}

/// Which stream, and from where on.
#[derive(Deserialize)]
struct Place {
    session: u64,
    after: u64,
}

async fn stream(
    State(shared): State<Arc<Shared>>,
    Query(Place { session, after }): Query<Place>,
) -> Result<Body, Refused> {
    let (number, wake) = shared.nodes.open_stream(session, after, Instant::now())?;
    Ok(stream::body(&shared.nodes, (session, number), wake, after))
}
