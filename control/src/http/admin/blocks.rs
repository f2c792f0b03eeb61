//! Devices and networks that the platform keeps out: listed, blocked, let in again. (Users who
//! block each other are another matter, see `relations`.)
//!
//! Owns the routes and their forms. What a good entry is, `uproar_proto::blocks` says; which are in
//! effect, [`Blocks`].

use crate::blocks::{Blocks, Change, Entries, Entry};
use crate::http::actor::Actor;
use crate::http::caller::elsewhere;
use crate::http::errors::{ApiError, ErrorBody};
use crate::http::extract::{Body, Params, page_limit};
use crate::http::moderation::check_reason;
use crate::http::{Context, Shared};
use crate::process::unix_ms;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::ops::Bound;
use std::sync::Arc;
use uproar_proto::blocks::{BlockKind, value_of};
use uproar_proto::error::Code;
use utoipa::{IntoParams, ToSchema};

/// Blocks of one request. More: 400.
const BLOCKS_MAX: usize = 100;
/// What a block names.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = BlockKind)]
pub(crate) enum Kind {
    /// A device, by the name its client gives in `connect`, or at the log-in. A client can take
    /// another name at any time: a fence, no wall.
    Device,
    /// A network, or one address.
    Address,
}

impl From<Kind> for BlockKind {
    fn from(kind: Kind) -> BlockKind {
        match kind {
            Kind::Device => BlockKind::Device,
            Kind::Address => BlockKind::Address,
        }
    }
}

/// A device or a network to keep out.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewBlock {
    kind: Kind,
    /// A device's name, of 1 to 64 bytes; or an address, or a network as CIDR: IPv4 from /8 to /32,
    /// IPv6 from /16 to /64. A single IPv6 address stands for its /64.
    #[schema(example = "203.0.113.0/24")]
    value: String,
    /// Until when, seconds since 1970; 0: for ever.
    #[serde(default)]
    until_s: u64,
    /// For operators and the audit log; at most 256 characters.
    #[serde(default)]
    #[schema(example = "spam")]
    reason: String,
}

/// Devices and networks to keep out.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewBlocks {
    /// 1 to 100.
    blocks: Vec<NewBlock>,
}

/// A block.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PlatformBlock)]
pub(crate) struct BlockView {
    kind: Kind,
    /// As it is kept: a network with its bits.
    value: String,
    until_s: u64,
    reason: String,
    /// When it was made or changed.
    at_unix_ms: i64,
}

/// A page of blocks, by kind and value.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BlockPage {
    blocks: Vec<BlockView>,
    /// Whether they outlive a restart: only where there is a store.
    kept: bool,
    /// Pass it as `after` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct BlockParams {
    /// Those behind this one, as `next` of a page has it.
    after: Option<String>,
    /// 1 to 1,000, default 100.
    limit: Option<usize>,
}

/// Which block.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct WhichBlock {
    kind: Kind,
    /// As it was given, or as it is kept.
    value: String,
}

/// Who has them; 421 in an engine process.
fn blocks(shared: &Shared) -> Result<&Arc<Blocks>, ApiError> {
    elsewhere(shared)?;
    shared.api.blocks.as_ref().ok_or_else(|| {
        let text = "this node keeps no blocks";
        ApiError::new(Code::NoStore, text).with_status(StatusCode::SERVICE_UNAVAILABLE)
    })
}

fn view(((kind, value), entry): (&(BlockKind, String), &Entry)) -> BlockView {
    let kind = match kind {
        BlockKind::Device => Kind::Device,
        BlockKind::Address => Kind::Address,
    };
    let Entry { until_s, at_ms, reason } = entry.clone();
    BlockView { kind, value: value.clone(), until_s, reason, at_unix_ms: at_ms }
}

/// Lists the devices and networks that are kept out; those whose time is over stay until the next
/// change.
#[utoipa::path(get, path = "/v1/admin/blocks", tag = "admin", params(BlockParams),
    responses((status = 200, body = BlockPage)), security(("api_key" = [])))]
pub(crate) async fn list(
    State(shared): Context,
    Params(BlockParams { after, limit }): Params<BlockParams>,
) -> Result<Json<BlockPage>, ApiError> {
    let limit = page_limit(limit)?;
    let place = |after: &str| match after.split_once(':') {
        Some(("device", value)) => Ok((BlockKind::Device, value.to_owned())),
        Some(("address", value)) => Ok((BlockKind::Address, value.to_owned())),
        _ => Err(ApiError::bad_request("after is no next of a page")),
    };
    let after = after.as_deref().map(place).transpose()?;
    let blocks = blocks(&shared)?;
    let now = blocks.look().await?;
    let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
    let mut page: Vec<_> = now.entries.range((begin, Bound::Unbounded)).take(limit + 1).collect();
    let has_more = page.len() > limit;
    page.truncate(limit);
    let last = page.last().filter(|_| has_more);
    let next = last.map(|((kind, value), _)| format!("{}:{value}", kind.word()));
    Ok(Json(BlockPage {
        blocks: page.into_iter().map(view).collect(),
        kept: blocks.is_kept(),
        next,
    }))
}

/// Keeps devices and networks out, on all nodes within a second: who connects from there is refused
/// with `BANNED`, who is connected is closed with it, and no user's request over HTTP is carried
/// out from there, log-ins and registrations neither. The API key and operators are let through.
/// One that is there already is replaced.
#[utoipa::path(put, path = "/v1/admin/blocks", tag = "admin", request_body = NewBlocks,
    responses(
        (status = 200, body = BlockPage, description = "as they are kept"),
        (status = 409, body = ErrorBody, description = "as many are blocked as may be"),
    ), security(("api_key" = [])))]
pub(crate) async fn put(
    State(shared): Context,
    actor: Actor,
    Body(NewBlocks { blocks: new }): Body<NewBlocks>,
) -> Result<Json<BlockPage>, ApiError> {
    let blocks = blocks(&shared)?;
    if !(1..=BLOCKS_MAX).contains(&new.len()) {
        let text = format!("blocks has {} entries; allowed are 1 to {BLOCKS_MAX}", new.len());
        return Err(ApiError::bad_request(text));
    }
    let now_ms = unix_ms();
    let entry = |new: NewBlock| entry_of(new, now_ms);
    let put = new.into_iter().map(entry).collect::<Result<Entries, ApiError>>()?;
    let page =
        BlockPage { blocks: put.iter().map(view).collect(), kept: blocks.is_kept(), next: None };
    let told = |((kind, value), entry): (&(BlockKind, String), &Entry)| crate::audit::Entry {
        detail: format!("{}={value} until_s={}", kind.word(), entry.until_s),
        reason: entry.reason.clone(),
        ..actor.entry("block", "")
    };
    let entries = put.iter().map(told).collect();
    blocks.change_whole(Change::Put(put), now_ms).await?;
    shared.audit.write(entries).await;
    Ok(Json(page))
}

fn entry_of(new: NewBlock, now_ms: i64) -> Result<((BlockKind, String), Entry), ApiError> {
    let NewBlock { kind, value, until_s, reason } = new;
    let kind = BlockKind::from(kind);
    let value = value_of(kind, &value).map_err(ApiError::bad_request)?;
    let now_s = now_ms.max(0) as u64 / 1000;
    if until_s != 0 && until_s <= now_s {
        let text = format!("until_s is {until_s}; it is {now_s} now (0 blocks for ever)");
        return Err(ApiError::bad_request(text));
    }
    if until_s > u64::from(u32::MAX) {
        let text = format!("until_s is {until_s}; allowed is up to {} (0: for ever)", u32::MAX);
        return Err(ApiError::bad_request(text));
    }
    check_reason(&reason)?;
    Ok(((kind, value), Entry { until_s, at_ms: now_ms, reason }))
}

/// Lets a device or a network in again; where it is not blocked, nothing happens.
#[utoipa::path(delete, path = "/v1/admin/blocks", tag = "admin", params(WhichBlock),
    responses((status = 204, description = "not blocked")), security(("api_key" = [])))]
pub(crate) async fn remove(
    State(shared): Context,
    actor: Actor,
    Params(WhichBlock { kind, value }): Params<WhichBlock>,
) -> Result<StatusCode, ApiError> {
    let blocks = blocks(&shared)?;
    let kind = BlockKind::from(kind);
    let value = value_of(kind, &value).map_err(ApiError::bad_request)?;
    let detail = format!("{}={value}", kind.word());
    // Another server may have made it a moment ago.
    blocks.look().await?;
    if blocks.change_whole(Change::Remove(kind, value), unix_ms()).await? {
        let entry = actor.entry("unblock", "");
        shared.audit.write(vec![crate::audit::Entry { detail, ..entry }]).await;
    }
    Ok(StatusCode::NO_CONTENT)
}
