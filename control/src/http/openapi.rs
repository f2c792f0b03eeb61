//! The description of the interface, generated from the handlers.

use super::{accounts, metrics, moderation, node, publish, relations, rooms, tokens, upsert};
use axum::http::header;
use axum::response::IntoResponse;
use std::sync::LazyLock;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "uproar",
        description = "Accounts, relationships, rooms, publishing, moderation, tokens, health and \
                       metrics of one node. Errors other than of /readyz are \
                       {\"error\": {code, name, text, retry}}."
    ),
    paths(
        rooms::create,
        rooms::list,
        rooms::get,
        rooms::update,
        rooms::close,
        publish::one,
        publish::bulk,
        moderation::kick,
        moderation::mute,
        tokens::mint,
        upsert::relations,
        node::node,
        node::healthz,
        node::readyz,
        metrics::metrics,
        accounts::register,
        accounts::log_in,
        accounts::refresh,
        accounts::devices,
        accounts::log_out,
        accounts::log_out_everywhere,
        accounts::change_password,
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
        openapi,
    ),
    modifiers(&Keys)
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
}
