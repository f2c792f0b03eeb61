//! The node: what it is, whether it lives, whether it takes connections.

use super::Context;
use super::accounts::least_loaded;
use super::actor::Actor;
use super::errors::ErrorBody;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use uproar_proto::control::NodeInfo;
use utoipa::ToSchema;

/// What the node is and does.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Node)]
pub(crate) struct NodeView {
    version: String,
    /// The driver: `uring` or `epoll`.
    io: String,
    /// Why that driver was chosen.
    io_reason: String,
    /// Shard threads.
    shards: u32,
    /// Connections now.
    connections: u64,
    /// Connections that fit.
    connections_max: u64,
    /// Rooms now.
    rooms: u64,
    draining: bool,
    /// Seconds since start.
    uptime_s: u64,
}

/// Whether the process lives.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    ok: bool,
}

/// Whether new connections are taken.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Readiness {
    ready: bool,
    draining: bool,
    /// Why it is not ready, where that is neither start nor drain.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

/// Tells what the node is and does.
#[utoipa::path(get, path = "/v1/node", tag = "node",
    responses((status = 200, body = NodeView), (status = 401, body = ErrorBody)),
    security(("api_key" = [])))]
pub(crate) async fn node(State(shared): Context) -> Json<NodeView> {
    let NodeInfo {
        version,
        io,
        io_reason,
        shards,
        connections,
        connections_max,
        rooms,
        draining,
        uptime_s,
    } = shared.api.engine.node();
    Json(NodeView {
        version,
        io,
        io_reason,
        shards,
        connections,
        connections_max,
        rooms,
        draining,
        uptime_s,
    })
}

/// Ends this node: it takes no connection any more, tells its clients to go elsewhere over
/// `engine.drain_spread_ms`, and ends once they have gone, or after `engine.drain_ms_max`.
#[utoipa::path(post, path = "/v1/node/drain", tag = "node",
    responses((status = 202, description = "it drains")), security(("api_key" = [])))]
pub(crate) async fn drain(State(shared): Context, actor: Actor) -> StatusCode {
    tracing::warn!("an operator has ended this node");
    // Before it: a process that ends writes nothing down any more.
    shared.audit.write(vec![actor.entry("node.drain", "")]).await;
    shared.api.drain.notify_one();
    StatusCode::ACCEPTED
}

/// Where clients connect.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Addresses {
    /// `host:port`, the least loaded first: for binary TCP, and as `ws://host:port/` for both
    /// WebSocket variants. Those that take nobody now are left out; a host of `0.0.0.0` or `[::]`
    /// is the one that this was asked of.
    #[schema(example = json!(["a.live.example:7400"]))]
    addresses: Vec<String>,
}

/// Where clients connect, for everybody who asks: a page or an SDK begins here.
#[utoipa::path(get, path = "/v1/connect", tag = "node",
    responses((status = 200, body = Addresses)))]
pub(crate) async fn connect(State(shared): Context) -> Json<Addresses> {
    let mut nodes = shared.api.engine.nodes();
    nodes.retain(|node| !node.closed);
    nodes.sort_by(least_loaded);
    Json(Addresses { addresses: nodes.into_iter().map(|node| node.address).collect() })
}

/// 200 while the process lives.
#[utoipa::path(get, path = "/healthz", tag = "node",
    responses((status = 200, body = Health)))]
pub(crate) async fn healthz() -> Json<Health> {
    Json(Health { ok: true })
}

/// 200 while new connections are taken; 503 while starting and draining, and by an engine apart
/// from control that does not know yet what is filtered and who is blocked. It says nothing else
/// about the store, or the link to it: rooms go on without, and /metrics tells.
#[utoipa::path(get, path = "/readyz", tag = "node",
    responses((status = 200, body = Readiness), (status = 503, body = Readiness)))]
pub(crate) async fn readyz(State(shared): Context) -> (StatusCode, Json<Readiness>) {
    let reason = (shared.api.unready)();
    let ready = shared.api.engine.ready() && reason.is_none();
    let draining = shared.api.engine.node().draining;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, draining, reason }))
}
