//! The description of the interface, generated from the handlers.

use super::errors::ErrorBody;
use super::{
    accounts, admin, bans, broadcast, conversations, danmaku, filter, groups, links, live, members,
    metrics,
};
use super::{audit, polls, roles, upsert};
use super::{moderation, node, publish, quality, receipts, relations, rooms, settings, tokens};
use axum::http::header;
use axum::response::IntoResponse;
use std::sync::LazyLock;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{Modify, OpenApi};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "uproar",
        description = "Accounts, relationships, groups, rooms, publishing, moderation, tokens, \
                       what operators do, quality of streams, health and metrics of one node. \
                       Errors other than of /readyz are \
                       {\"error\": {code, name, text, retry}}. A path that is not here \
                       is 404, a method that is not here 405, both in that shape. Where control \
                       and engine are processes of their own, what the other one keeps is 421, \
                       with the address to ask in the text: rooms, publishing and moderation are \
                       the engine's, accounts, groups and relationships are control's."
    ),
    paths(
        rooms::create,
        rooms::list,
        rooms::get,
        rooms::update,
        rooms::close,
        rooms::members,
        publish::one,
        publish::bulk,
        broadcast::announce,
        moderation::kick,
        moderation::mute,
        moderation::many,
        bans::list,
        bans::lift,
        roles::list,
        roles::set,
        roles::remove,
        audit::list,
        live::recall,
        live::change_attributes,
        live::pin,
        live::unpin,
        polls::open,
        polls::get,
        polls::end,
        tokens::mint,
        upsert::relations,
        node::node,
        node::healthz,
        node::readyz,
        node::connect,
        node::drain,
        admin::session::look,
        admin::session::log_in,
        admin::session::log_out,
        metrics::metrics,
        accounts::register,
        accounts::log_in,
        accounts::refresh,
        accounts::devices,
        accounts::log_out,
        accounts::log_out_everywhere,
        accounts::change_password,
        settings::read,
        settings::change,
        conversations::update,
        conversations::reactions,
        relations::friends,
        relations::between,
        relations::ask,
        relations::remove,
        relations::requests,
        relations::accept,
        relations::decline,
        relations::blocks,
        relations::block,
        relations::unblock,
        relations::follows,
        relations::follow,
        relations::unfollow,
        relations::followers,
        groups::create,
        groups::list,
        groups::get,
        groups::update,
        groups::end,
        groups::upsert,
        members::list,
        members::invite,
        members::remove,
        members::update,
        members::transfer,
        members::ask,
        members::requests,
        members::approve,
        members::decline,
        links::make,
        links::list,
        links::end,
        links::look,
        links::join,
        receipts::of_message,
        receipts::own,
        admin::blocks::list,
        admin::blocks::put,
        admin::blocks::remove,
        admin::users::take_over,
        admin::users::list,
        admin::users::get,
        admin::users::ban,
        admin::users::unban,
        admin::users::sessions,
        admin::users::revoke,
        admin::users::erase,
        admin::users::erasure,
        admin::export::export,
        admin::groups::list,
        admin::groups::get,
        admin::groups::members,
        admin::groups::end,
        admin::groups::remove,
        admin::groups::transfer,
        admin::messages::search,
        admin::messages::recall,
        quality::take,
        quality::preflight,
        quality::read_groups,
        quality::heatmap,
        quality::alarms,
        danmaku::of_room,
        danmaku::of_recording,
        danmaku::recall_of_room,
        danmaku::of_video,
        danmaku::of_video_segment,
        danmaku::write,
        danmaku::recall_of_video,
        filter::get,
        filter::replace,
        filter::change,
        filter::check,
        openapi,
    ),
    components(schemas(ErrorBody)),
    modifiers(&Keys, &Everywhere)
)]
struct Document;

struct Keys;

impl Modify for Keys {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        for name in ["api_key", "access_token"] {
            let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
            components.add_security_scheme(name, scheme);
        }
    }
}

/// What every route of a kind may answer besides what it says itself.
struct Everywhere;

impl Modify for Everywhere {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        for (path, item) in &mut document.paths.paths {
            let operations = [
                ("get", &mut item.get),
                ("put", &mut item.put),
                ("post", &mut item.post),
                ("patch", &mut item.patch),
                ("delete", &mut item.delete),
                ("options", &mut item.options),
            ];
            for (method, operation) in operations {
                let Some(operation) = operation else { continue };
                // Unique, and as stable as the route itself.
                let words = path.split(|c: char| !c.is_ascii_alphanumeric());
                let words = std::iter::once(method).chain(words.filter(|word| !word.is_empty()));
                operation.operation_id = Some(words.collect::<Vec<_>>().join("_"));
                for (status, description) in answers(path, operation) {
                    let responses = &mut operation.responses.responses;
                    responses.entry(status.to_owned()).or_insert_with(|| error(description));
                }
            }
        }
    }
}

/// Routes of the API key that wait for nobody, or tell of each thing by itself.
const ANSWERS_ALWAYS: [&str; 4] =
    ["/v1/node", "/v1/node/drain", "/v1/publish", "/v1/quality/alarms"];

/// What a route may answer because of how it is called.
fn answers(path: &str, operation: &Operation) -> Vec<(&'static str, &'static str)> {
    let needs = |name: &str| {
        let named = |needed: &SecurityRequirement| {
            // It is a map of names, and shows it by its JSON alone.
            serde_json::to_value(needed).is_ok_and(|needed| needed.get(name).is_some())
        };
        operation.security.iter().flatten().any(named)
    };
    let mut answers = Vec::new();
    if operation.request_body.is_some() || operation.parameters.iter().flatten().next().is_some() {
        answers.push(("400", "The text tells what was wrong, where, and what is allowed."));
    }
    if operation.request_body.is_some() {
        answers.push(("408", "The body did not come in time; nothing was done."));
        answers.push(("413", "The body is larger than http.body_bytes_max."));
        answers.push(("415", "The body did not come as application/json."));
    }
    if needs("api_key") {
        answers.push(("401", "The API key is missing or wrong."));
        answers.push(("403", "No API key is set, and the caller is not on this machine."));
        if !ANSWERS_ALWAYS.contains(&path) {
            answers.push(("503", "The engine or the store did not answer."));
        }
    }
    if needs("access_token") {
        answers.push(("401", "The access token is missing, or not good (any more)."));
        let may_not = "The caller may not: it is banned, its address or device is blocked, or a \
                       rule says so.";
        answers.push(("403", may_not));
        answers.push(("503", "There is no store, or it did not answer."));
    }
    answers
}

fn error(description: &str) -> RefOr<Response> {
    let body = ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorBody"))).build();
    let response = ResponseBuilder::new().description(description);
    RefOr::T(response.content("application/json", body).build())
}

static TEXT: LazyLock<String> = LazyLock::new(|| {
    // A document made of literals: it serializes or the test below fails.
    Document::openapi().to_pretty_json().unwrap_or_default()
});

/// The OpenAPI 3.1 document, as JSON.
#[must_use]
pub fn openapi_json() -> &'static str {
    &TEXT
}

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "node",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json")))]
pub(crate) async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], openapi_json())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_document_is_json_and_not_empty() {
        let value: serde_json::Value = serde_json::from_str(super::openapi_json()).unwrap();
        assert!(value["openapi"].as_str().unwrap().starts_with("3.1"));
    }

    #[test]
    fn every_operation_has_a_name_of_its_own() {
        let value: serde_json::Value = serde_json::from_str(super::openapi_json()).unwrap();
        let items = value["paths"].as_object().unwrap().values();
        let operations = items.flat_map(|item| item.as_object().unwrap().values());
        let mut names: Vec<&str> =
            operations.map(|operation| operation["operationId"].as_str().unwrap()).collect();
        let many = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), many);
    }
}
