//! Relationships as a backend sets them: for a platform that has its own and moves in.
//!
//! Owns the bulk upsert. Users set theirs by their own routes.

use super::Context;
use super::caller::elsewhere;
use super::errors::ApiError;
use super::extract::Body;
use super::idempotency::{Key, hash_of, replay, used_by_backend};
use crate::relations::{Act, befriend, part};
use crate::store::idempotency::{self, Kept};
use crate::store::{StoreError, relations as rows, users};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use uproar_proto::error::Code;
use uproar_proto::names;
use uproar_proto::token::USER_BYTES_MAX;
use utoipa::ToSchema;

/// Relations of one request.
const RELATIONS_MAX: usize = 1000;

/// How two users stand to each other.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PlatformRelation)]
pub(super) struct Relation {
    /// One user: 1 to 64 bytes; `guest-...` is a guest's alone. Made where nobody has that name.
    user: String,
    /// The other one.
    peer: String,
    /// Whether they are friends; both ways. Being friends ends a block.
    #[serde(default)]
    friends: bool,
    /// Whether `user` blocks `peer`: that ends a friendship.
    #[serde(default)]
    blocks: bool,
}

/// Body of `PUT /v1/relations`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Upsert {
    /// At most 1,000; each replaces what stood.
    relations: Vec<Relation>,
}

/// What was done.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UpsertedRelations)]
pub(super) struct Upserted {
    /// Relations that stand now as they were sent.
    relations: usize,
}

/// Sets relationships, all or none of them. With the header `Idempotency-Key`, a repeat within a
/// day gets the same answer, and does not set again what was changed since.
#[utoipa::path(
    put, path = "/v1/relations", tag = "relations",
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 64 visible ASCII")),
    request_body = Upsert,
    responses(
        (status = 200, description = "All of them stand.", body = Upserted),
        (status = 400, description = "A relation breaks a rule; the text tells which.",
            body = super::errors::ErrorBody),
        (status = 401, description = "The API key is missing or wrong.",
            body = super::errors::ErrorBody),
        (status = 409, description = "A user was erased or blocks as many as it may, or the key \
            came with another body.", body = super::errors::ErrorBody),
        (status = 503, description = "There is no store, or it did not answer.",
            body = super::errors::ErrorBody),
    ),
    security(("api_key" = []))
)]
pub(super) async fn relations(
    State(shared): Context,
    key: Key,
    Body(body): Body<Upsert>,
) -> Result<Response, ApiError> {
    elsewhere(&shared)?;
    let Some(store) = shared.api.store.clone() else {
        let text = "this node has no store: set store.url and a token key";
        return Err(ApiError::new(Code::NoStore, text).with_status(StatusCode::SERVICE_UNAVAILABLE));
    };
    check(&body.relations)?;
    let (dialect, now_ms) = (store.dialect(), store.now_ms());
    let once = used_by_backend(key, "PUT /v1/relations", hash_of(&body), now_ms);
    let answer = serde_json::to_string(&Upserted { relations: body.relations.len() });
    let answer = answer.unwrap_or_default(); // a number
    let kept = Kept { status: StatusCode::OK.as_u16(), body: answer };
    let meant = Arc::new((body.relations, once, kept));
    let by = Arc::clone(&meant);
    let done = store.write(move |conn| {
        let by = Arc::clone(&by);
        Box::pin(async move {
            let (list, once, kept) = &*by;
            if let Some(once) = once
                && let Some(before) = idempotency::begin(conn, dialect, once).await?
            {
                return Ok((before, Vec::new()));
            }
            let mut all = Vec::with_capacity(list.len());
            for Relation { user, peer, friends, blocks } in list {
                let one = users::find_or_insert(conn, dialect, names::split(user), now_ms).await?;
                let other =
                    users::find_or_insert(conn, dialect, names::split(peer), now_ms).await?;
                let (Some(one), Some(other)) = (one, other) else {
                    // Erased: all of them or none.
                    return Err(StoreError::Refused(Code::Conflict));
                };
                let first: rows::Rule = if *friends { befriend } else { part };
                // A block ends whatever else is between the two.
                let second = blocks.then(|| Act::Block.rule());
                let mut whole: Option<rows::Changed> = None;
                for rule in std::iter::once(first).chain(second) {
                    let changed = rows::change_on(conn, dialect, (one, other), now_ms, rule);
                    let changed = changed.await?.map_err(StoreError::Refused)?;
                    let before = whole.map_or(changed.before, |whole| whole.before);
                    whole = Some(rows::Changed { before, ..changed });
                }
                all.extend(whole);
            }
            if let Some(once) = once {
                idempotency::finish(conn, once, kept).await?;
            }
            Ok((kept.clone(), all))
        })
    });
    let (kept, all) = done.await?;
    if let Some(conversations) = &shared.api.conversations {
        for (relation, changed) in meant.0.iter().zip(all) {
            conversations.related(&relation.user, &relation.peer, changed, now_ms).await;
        }
    }
    Ok(replay(kept))
}

fn check(relations: &[Relation]) -> Result<(), ApiError> {
    if relations.len() > RELATIONS_MAX {
        let text =
            format!("relations has {} entries; allowed are {RELATIONS_MAX}", relations.len());
        return Err(ApiError::bad_request(text));
    }
    for (at, relation) in relations.iter().enumerate() {
        for (field, name) in [("user", &relation.user), ("peer", &relation.peer)] {
            if name.is_empty() || name.len() > USER_BYTES_MAX {
                let text = format!(
                    "relations[{at}].{field} has {} bytes; allowed are 1 to {USER_BYTES_MAX}",
                    name.len()
                );
                return Err(ApiError::bad_request(text));
            }
        }
        if relation.user == relation.peer {
            return Err(ApiError::bad_request(format!("relations[{at}]: user and peer are one")));
        }
    }
    Ok(())
}
