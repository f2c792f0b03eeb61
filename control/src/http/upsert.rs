//! Relationships as a backend sets them: for a platform that has its own and moves in.
//!
//! Owns the bulk upsert. Users set theirs by their own routes.

use super::Context;
use super::errors::ApiError;
use super::extract::Body;
use crate::relations::{Act, befriend, part};
use crate::store::{relations as rows, users};
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use uproar_proto::error::Code;
use uproar_proto::token::USER_BYTES_MAX;
use utoipa::ToSchema;

/// Relations of one request.
const RELATIONS_MAX: usize = 1000;

/// How two users stand to each other.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Relation {
    /// One user: 1 to 64 bytes. Made where nobody has that name.
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
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Upsert {
    /// At most 1,000; each replaces what stood.
    relations: Vec<Relation>,
}

/// What was done.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Upserted {
    /// Relations that stand now as they were sent.
    relations: usize,
}

/// Sets relationships, all or none of them.
#[utoipa::path(
    put, path = "/v1/relations", tag = "relations",
    request_body = Upsert,
    responses(
        (status = 200, description = "All of them stand.", body = Upserted),
        (status = 400, description = "A relation breaks a rule; the text tells which.",
            body = super::errors::ErrorBody),
        (status = 401, description = "The API key is missing or wrong.",
            body = super::errors::ErrorBody),
        (status = 503, description = "There is no store, or it did not answer.",
            body = super::errors::ErrorBody),
    ),
    security(("api_key" = []))
)]
pub(super) async fn relations(
    State(shared): Context,
    Body(body): Body<Upsert>,
) -> Result<(StatusCode, axum::Json<Upserted>), ApiError> {
    let Some(store) = shared.api.store.clone() else {
        let text = "this node has no store: set store.url and a token key";
        return Err(ApiError::new(Code::NoStore, text).with_status(StatusCode::SERVICE_UNAVAILABLE));
    };
    if body.relations.len() > RELATIONS_MAX {
        let text =
            format!("relations has {} entries; allowed are {RELATIONS_MAX}", body.relations.len());
        return Err(ApiError::bad_request(text));
    }
    for (at, relation) in body.relations.iter().enumerate() {
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
    let count = body.relations.len();
    let (dialect, now_ms, list) = (store.dialect(), store.now_ms(), Arc::new(body.relations));
    let done = store.write(move |conn| {
        let list = Arc::clone(&list);
        Box::pin(async move {
            for Relation { user, peer, friends, blocks } in list.iter() {
                let one = users::find_or_insert(conn, dialect, ("", user), now_ms).await?;
                let other = users::find_or_insert(conn, dialect, ("", peer), now_ms).await?;
                let (Some(one), Some(other)) = (one, other) else { continue };
                let first: rows::Rule = if *friends { befriend } else { part };
                // A block ends whatever else is between the two.
                let second = blocks.then(|| Act::Block.rule());
                for rule in std::iter::once(first).chain(second) {
                    let changed = rows::change_on(conn, dialect, (one, other), now_ms, rule);
                    if let Err(code) = changed.await? {
                        return Ok(Err(code));
                    }
                }
            }
            Ok(Ok(()))
        })
    });
    done.await?.map_err(ApiError::from_code)?;
    Ok((StatusCode::OK, axum::Json(Upserted { relations: count })))
}
