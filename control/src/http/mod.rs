//! The HTTP server: its routes, its accept loop, and how a request waits for the engine.
//!
//! Owns the server's limits. Every route's own file says what the route does; nothing here knows
//! a room.

mod accounts;
mod actor;
mod admin;
mod audit;
mod auth;
mod bans;
mod broadcast;
mod caller;
mod conversations;
mod crowding;
mod danmaku;
mod errors;
mod etag;
mod extract;
mod filter;
mod groups;
mod idempotency;
mod links;
mod live;
mod members;
mod metrics;
mod moderation;
mod node;
mod openapi;
mod pages;
mod polls;
mod publish;
mod quality;
mod receipts;
mod relations;
mod roles;
mod rooms;
mod segments;
mod settings;
mod tokens;
mod upsert;
mod welcome;

use crate::accounts::{AccountSettings, Accounts};
use crate::admin_login::AdminLogin;
use crate::audit::Audit;
use crate::blocks::Blocks;
use crate::config::{Config, PagesConfig};
use crate::conversations::Conversations;
use crate::danmaku::Danmaku;
use crate::filters::Filters;
use crate::limits::Limits;
use crate::quality::Quality;
use crate::quality::door::Reports;
use crate::quality::keep::Keeper;
use crate::store::Store;
use crate::tokens::SigningKey;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, patch, post, put};
use axum::{Router, http};
use errors::ApiError;
use extract::BodyAwaited;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Notify, Semaphore, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use uproar_proto::control::{Engine, Reply, RoomSettings, Sample};
use uproar_proto::error::Code;
use uproar_proto::issuers::Issuers;

pub use crowding::Crowding;
pub use openapi::openapi_json;

/// Figures that somebody else keeps.
pub type Figures = Box<dyn Fn() -> Vec<Sample> + Send + Sync>;

/// What, in words for whoever asks, this node still lacks.
pub type Unready = Box<dyn Fn() -> Option<&'static str> + Send + Sync>;

/// Everything the HTTP interface works with.
pub struct Api {
    /// Its limits and its key; already checked.
    pub config: Config,
    /// What a browser is served; already checked.
    pub pages: PagesConfig,
    /// Where the operator's password is kept, and who is logged in by it; `None`: nobody is.
    pub admin: Option<AdminLogin>,
    /// Told when an operator ends this node: it drains as at a signal.
    pub drain: Arc<Notify>,
    /// Where every request about rooms goes.
    pub engine: Arc<dyn Engine>,
    /// Of an engine process: where its control is, which has accounts, groups and relationships.
    pub control: Option<String>,
    /// Why no viewers are to be sent here although connections are taken; `None`: they may come.
    pub unready: Unready,
    /// Whether somebody decides about messages of rooms that ask; true where that is not known.
    pub decides: Box<dyn Fn() -> bool + Send + Sync>,
    /// Figures of what else runs in this process, for /metrics.
    pub figures: Vec<Figures>,
    /// Settings of a room that is created without saying more.
    pub room_defaults: RoomSettings,
    /// The largest content a room may be set to take, in bytes.
    pub payload_bytes_max: u32,
    /// Signs tokens for `POST /v1/tokens`; `None`: tokens are minted elsewhere.
    pub signer: Option<SigningKey>,
    /// Other issuers whose tokens are taken; their keys are kept up to date while this serves.
    pub issuers: Arc<Issuers>,
    /// Where accounts and relationships are kept; `None`: their routes answer 503.
    pub store: Option<Arc<Store>>,
    /// How accounts are kept.
    pub accounts: AccountSettings,
    /// Where groups are changed; `None`: their routes answer 503.
    pub conversations: Option<Arc<Conversations>>,
    /// Where reports of the quality of streams come in.
    pub quality: Arc<Reports>,
    /// The list that messages are held against; `None`: its routes answer 503.
    pub filters: Option<Arc<Filters>>,
    /// Devices and networks that are kept out; `None`: control, in another process, has them.
    pub blocks: Option<Arc<Blocks>>,
    /// How long entries of the audit log are kept, in days.
    pub audit_days: u32,
    /// Where danmaku is kept for replay; `None`: their routes answer 503.
    pub danmaku: Option<Arc<Danmaku>>,
}

/// What all handlers share.
pub(crate) struct Shared {
    api: Api,
    started_unix_s: f64,
    /// Makes read-merge-write of settings atomic among the callers of this node: by room.
    updates: [Mutex<()>; UPDATE_LOCKS],
    /// Numbers messages that came without a `client_msg_id`.
    next_message: AtomicU64,
    requests: metrics::Requests,
    /// `None`: there is no store, or neither a key that signs nor another issuer.
    accounts: Option<Accounts>,
    /// What moderators and operators did.
    pub(crate) audit: Audit,
    /// What clients report of their streams.
    pub(crate) quality: Arc<Quality>,
    /// Of announcements to everybody.
    announcements: Limits,
}

/// Few rooms are updated at once; a shared lock only delays.
const UPDATE_LOCKS: usize = 16;

/// After the shutdown signal, requests in progress get this long to end.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// At the end, connections accepted just now get this long for their first request to arrive.
const FIRST_REQUEST: Duration = Duration::from_millis(50);

/// Pause after a failed accept (out of descriptors): the failure repeats at once otherwise.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub(crate) type Context = State<Arc<Shared>>;

/// Serves until `shutdown` is done, then lets the requests in progress end (2 s at most).
/// Runs on the caller's tokio runtime.
///
/// # Errors
/// Where the listener has no local address, or the settings of accounts cannot be.
pub async fn serve(
    mut api: Api,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let local = listener.local_addr()?;
    tracing::info!(%local, "http is served");
    let bounds = Bounds::of(&api.config, &api.accounts.trusted_proxies);
    let crowding = bounds.per_address.clone();
    api.figures.push(Box::new(move || crowding.iter().flat_map(|c| c.samples()).collect()));
    let _keepers = crate::jwks::keep(&api.issuers).map_err(std::io::Error::other)?;
    let quality = Arc::clone(&api.quality.quality);
    let webhooks = api.conversations.as_ref().map(|conversations| conversations.webhooks());
    let keeper = Keeper::start(&quality, api.store.clone(), webhooks);
    let router = router(api, quality).map_err(std::io::Error::other)?;
    serve_router(router, listener, bounds, shutdown).await;
    keeper.end().await;
    Ok(())
}

/// What connections of one listener may cost.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Served at once. More wait in the kernel's accept queue.
    pub connections_max: usize,
    /// Longest wait for a request's headers. Reached: closed.
    pub header_max: Duration,
    /// Of one address. Reached: closed at once. `None`: no bound but that of all.
    pub per_address: Option<Arc<Crowding>>,
}

impl Bounds {
    /// Those of the interface.
    #[must_use]
    pub fn of(config: &Config, trusted_proxies: &[IpAddr]) -> Bounds {
        let per_address = Crowding::new(config.connections_per_address_max, trusted_proxies);
        Bounds {
            connections_max: config.connections_max as usize,
            header_max: ms(config.header_ms_max),
            per_address: Some(per_address),
        }
    }
}

/// Serves any routes until `shutdown` is done, then lets the requests in progress end (2 s at
/// most). Runs on the caller's tokio runtime.
pub async fn serve_router(
    router: Router,
    listener: TcpListener,
    bounds: Bounds,
    shutdown: impl Future<Output = ()>,
) {
    let connections = Arc::new(Semaphore::new(bounds.connections_max));
    let mut http1 = hyper::server::conn::http1::Builder::new();
    http1.timer(TokioTimer::new()).header_read_timeout(bounds.header_max);
    let graceful = GracefulShutdown::new();
    tokio::pin!(shutdown);
    loop {
        let permit = tokio::select! {
            permit = Arc::clone(&connections).acquire_owned() => permit,
            () = &mut shutdown => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => break,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "an http connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let place = bounds.per_address.as_ref().map(|all| all.enter(address.ip()));
        if matches!(place, Some(None)) {
            continue; // dropped, which closes it
        }
        let _ = stream.set_nodelay(true); // only delays answers where it fails
        let router = TowerToHyperService::new(router.clone());
        let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(caller::Peer(address.ip()));
            router.call(request)
        });
        let connection = graceful.watch(http1.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            // An error here is the peer's doing (reset, header time-out): nobody is left to tell.
            let _ = connection.await;
            drop((permit, place));
        });
    }
    drop(listener);
    // A connection that is new would be closed with its first request on the way.
    tokio::time::sleep(FIRST_REQUEST).await;
    if timeout(SHUTDOWN_GRACE, graceful.shutdown()).await.is_err() {
        tracing::warn!("http requests were still in progress at the end");
    }
}

fn router(api: Api, quality: Arc<Quality>) -> Result<Router, String> {
    let body_bytes_max = api.config.body_bytes_max as usize;
    let pages = pages::routes(&api.pages);
    let accounts = match (&api.store, &api.signer) {
        (Some(store), signer) if signer.is_some() || !api.issuers.list().is_empty() => {
            let (issuers, settings) = (Arc::clone(&api.issuers), api.accounts.clone());
            Some(Accounts::new(Arc::clone(store), signer.clone(), issuers, settings)?)
        }
        _ => None,
    };
    let lists = in_filter(&api.config);
    let audit = Audit::new(api.store.clone(), api.audit_days);
    let shared = Arc::new(Shared {
        audit,
        announcements: Limits::new(broadcast::BURST, broadcast::EVERY_MS),
        quality,
        api,
        started_unix_s: crate::process::unix_s(),
        updates: std::array::from_fn(|_| Mutex::new(())),
        next_message: AtomicU64::new(1),
        requests: metrics::Requests::default(),
        accounts,
    });
    let keyed = in_rooms()
        .route_layer(middleware::from_fn_with_state(Arc::clone(&shared), rooms_are_here))
        .route("/v1/node", get(node::node))
        .route("/v1/tokens", post(tokens::mint))
        .route("/v1/broadcast", post(broadcast::announce))
        .route("/v1/relations", put(upsert::relations))
        .route("/v1/groups", put(groups::upsert))
        .route("/v1/quality", get(quality::read_groups))
        .route("/v1/quality/heatmap", get(quality::heatmap))
        .route("/v1/quality/alarms", get(quality::alarms))
        .route("/v1/rooms/{room}/danmaku/recall", post(danmaku::recall_of_room))
        .route("/v1/videos/{video}/danmaku/recall", post(danmaku::recall_of_video))
        .route("/v1/audit", get(audit::list))
        .merge(lists)
        .merge(admin::routes())
        .route_layer(middleware::from_fn_with_state(Arc::clone(&shared), auth::require_key));
    let metrics = Router::new()
        .route("/metrics", get(metrics::metrics))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&shared), auth::metrics_key));
    let open = Router::new()
        .route("/healthz", get(node::healthz))
        .route("/readyz", get(node::readyz))
        .route("/v1/connect", get(node::connect))
        .route(
            "/v1/admin/session",
            get(admin::session::look).post(admin::session::log_in).delete(admin::session::log_out),
        )
        .route("/v1/quality/reports", quality::reports())
        .route("/v1/rooms/{room}/danmaku", get(danmaku::of_room))
        .route("/v1/rooms/{room}/danmaku/{recording}/{segment}", get(danmaku::of_recording))
        .route("/v1/videos/{video}/danmaku/{segment}", get(danmaku::of_video_segment))
        .route("/v1/openapi.json", get(openapi::openapi));
    Ok(keyed
        .merge(metrics)
        .merge(open)
        .merge(pages)
        .merge(people())
        .merge(in_groups())
        .merge(moderators())
        .method_not_allowed_fallback(wrong_method)
        .fallback(wrong_path)
        .layer(DefaultBodyLimit::max(body_bytes_max))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), whole_request))
        .with_state(shared))
}

/// What backends do in rooms.
fn in_rooms() -> Router<Arc<Shared>> {
    Router::new()
        .route("/v1/node/drain", post(node::drain))
        .route("/v1/rooms", get(rooms::list).post(rooms::create))
        .route("/v1/rooms/{room}", get(rooms::get).patch(rooms::update).delete(rooms::close))
        .route("/v1/rooms/{room}/publish", post(publish::one))
        .route("/v1/rooms/{room}/members", get(rooms::members))
        .route("/v1/publish", post(publish::bulk))
}

/// What is done in rooms with the API key, or by users with a role there.
fn moderators() -> Router<Arc<Shared>> {
    Router::new()
        .route("/v1/rooms/{room}/kick", post(moderation::kick))
        .route("/v1/rooms/{room}/mute", post(moderation::mute))
        .route("/v1/rooms/{room}/moderation", post(moderation::many))
        .route("/v1/rooms/{room}/bans", get(bans::list))
        .route("/v1/rooms/{room}/bans/{user}", delete(bans::lift))
        .route("/v1/rooms/{room}/recall", post(live::recall))
        .route("/v1/rooms/{room}/attributes", patch(live::change_attributes))
        .route("/v1/rooms/{room}/pin", put(live::pin).delete(live::unpin))
        .route("/v1/rooms/{room}/polls", post(polls::open))
        .route("/v1/rooms/{room}/polls/{poll}", get(polls::get).delete(polls::end))
        .route("/v1/rooms/{room}/roles", get(roles::list))
        .route("/v1/rooms/{room}/roles/{user}", put(roles::set).delete(roles::remove))
}

/// What operators do with the list that messages are held against, which may be large.
fn in_filter(config: &Config) -> Router<Arc<Shared>> {
    let bytes_max = config.list_body_bytes_max as usize;
    Router::new()
        .route("/v1/filter", get(filter::get).put(filter::replace).patch(filter::change))
        .layer(DefaultBodyLimit::max(bytes_max))
        .route("/v1/filter/check", post(filter::check))
}

/// What people call with their own tokens, never with the API key.
fn people() -> Router<Arc<Shared>> {
    Router::new()
        .route("/v1/videos/{video}/danmaku", get(danmaku::of_video).post(danmaku::write))
        .route("/v1/accounts", post(accounts::register))
        .route("/v1/account/password", put(accounts::change_password))
        .route("/v1/account/settings", get(settings::read).patch(settings::change))
        .route(
            "/v1/sessions",
            post(accounts::log_in).get(accounts::devices).delete(accounts::log_out_everywhere),
        )
        .route("/v1/sessions/refresh", post(accounts::refresh))
        .route("/v1/sessions/{session}", delete(accounts::log_out))
        .route("/v1/friends", get(relations::friends))
        .route(
            "/v1/friends/{user}",
            get(relations::between).put(relations::ask).delete(relations::remove),
        )
        .route("/v1/friend-requests", get(relations::requests))
        .route("/v1/friend-requests/{user}", put(relations::accept).delete(relations::decline))
        .route("/v1/blocks", get(relations::blocks))
        .route("/v1/blocks/{user}", put(relations::block).delete(relations::unblock))
        .route("/v1/follows", get(relations::follows))
        .route("/v1/follows/{user}", put(relations::follow).delete(relations::unfollow))
        .route("/v1/followers", get(relations::followers))
        .route("/v1/conversations/{conversation}", patch(conversations::update))
        .route(
            "/v1/conversations/{conversation}/messages/{seq}/reactions",
            get(conversations::reactions),
        )
}

/// What people do in groups, with their own tokens.
fn in_groups() -> Router<Arc<Shared>> {
    Router::new()
        .route("/v1/groups", post(groups::create).get(groups::list))
        .route("/v1/groups/{group}", get(groups::get).patch(groups::update).delete(groups::end))
        .route("/v1/groups/{group}/members", get(members::list).post(members::invite))
        .route("/v1/groups/{group}/members/{user}", delete(members::remove).patch(members::update))
        .route("/v1/groups/{group}/owner", put(members::transfer))
        .route("/v1/groups/{group}/requests", get(members::requests).post(members::ask))
        .route("/v1/groups/{group}/requests/{user}", put(members::approve).delete(members::decline))
        .route("/v1/groups/{group}/links", get(links::list).post(links::make))
        .route("/v1/groups/{group}/links/{link}", delete(links::end))
        .route("/v1/groups/{group}/receipts", get(receipts::own))
        .route("/v1/groups/{group}/messages/{seq}/receipts", get(receipts::of_message))
        .route("/v1/group-links/{link}", get(links::look).post(links::join))
}

async fn wrong_path(uri: http::Uri) -> ApiError {
    let text = format!("there is nothing at {}; /v1/openapi.json lists what there is", uri.path());
    ApiError::bad_request(text).with_status(StatusCode::NOT_FOUND)
}

async fn wrong_method(method: http::Method, uri: http::Uri) -> ApiError {
    let text =
        format!("{} does not take {method}; the Allow header lists what it takes", uri.path());
    ApiError::bad_request(text).with_status(StatusCode::METHOD_NOT_ALLOWED)
}

/// A control process has no rooms: whoever asks is told who has.
async fn rooms_are_here(
    State(shared): Context,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    check_rooms(&shared)?;
    Ok(next.run(request).await)
}

/// 421 in a control process.
pub(crate) fn check_rooms(shared: &Shared) -> Result<(), ApiError> {
    let Some(engines) = shared.api.engine.rooms_at() else { return Ok(()) };
    let engines = match &engines[..] {
        [] => "no engine is linked now".to_owned(),
        engines => format!("they are asked for at {}", engines.join(", ")),
    };
    let text = format!("rooms live on their engine, not in a control process; {engines}");
    Err(ApiError::bad_request(text).with_status(StatusCode::MISDIRECTED_REQUEST))
}

/// Bounds a request's time and counts it.
async fn whole_request(State(shared): Context, mut request: Request, next: Next) -> Response {
    let limit = shared.api.config.request_ms_max;
    let awaited = BodyAwaited::default();
    request.extensions_mut().insert(awaited.clone());
    let method = request.method().clone();
    let route = request.extensions().get::<axum::extract::MatchedPath>().cloned();
    let response = match timeout(ms(limit), next.run(request)).await {
        Ok(response) => response,
        Err(_) if awaited.0.load(Ordering::Relaxed) => {
            let text = format!("the body was not there within {limit} ms; nothing was done");
            ApiError::new(Code::RequestTimeout, text).into_response()
        }
        Err(_) => {
            let text = format!(
                "the request was not over within {limit} ms; whether it was carried out is unknown"
            );
            let error = ApiError::new(Code::RequestTimeout, text);
            error.with_status(StatusCode::SERVICE_UNAVAILABLE).into_response()
        }
    };
    let route = route.as_ref().map_or("other", |path| path.as_str());
    shared.requests.count(route, &method, response.status());
    response
}

/// An answer the engine owes.
pub(crate) struct Pending<T>(oneshot::Receiver<Result<T, Code>>);

impl Shared {
    /// Hands `command` its reply and the moment the wait for it ends.
    pub(crate) fn ask<T: Send + 'static>(&self, command: impl FnOnce(Reply<T>)) -> Pending<T> {
        let (sender, receiver) = oneshot::channel();
        // A receiver that has gone gave up waiting; the engine need not know.
        command(Box::new(move |answer| drop(sender.send(answer))));
        Pending(receiver)
    }

    /// When an answer asked for now is no longer waited for.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + ms(self.api.config.reply_ms_max)
    }

    /// Waits for an answer until `deadline`.
    pub(crate) async fn wait<T>(
        &self,
        pending: Pending<T>,
        deadline: Instant,
    ) -> Result<T, ApiError> {
        match timeout_at(deadline, pending.0).await {
            Ok(Ok(answer)) => answer.map_err(ApiError::from_code),
            Ok(Err(_)) => {
                let text = "the engine dropped the request; whether it was carried out is unknown";
                Err(ApiError::new(Code::Internal, text)
                    .with_status(StatusCode::SERVICE_UNAVAILABLE))
            }
            Err(_) => {
                let waited_ms = self.api.config.reply_ms_max;
                let text = format!(
                    "the engine did not answer within {waited_ms} ms; whether the request was \
                     carried out is unknown"
                );
                Err(ApiError::new(Code::Internal, text)
                    .with_status(StatusCode::SERVICE_UNAVAILABLE))
            }
        }
    }

    /// One command, one answer.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        command: impl FnOnce(Reply<T>),
    ) -> Result<T, ApiError> {
        let deadline = self.deadline();
        let pending = self.ask(command);
        self.wait(pending, deadline).await
    }
}

fn ms(ms: u32) -> Duration {
    Duration::from_millis(u64::from(ms))
}
