//! The pages and the JavaScript SDK, as `control/web` built them: files inside this program.
//!
//! Owns what a browser is told of them: types, a strong `ETag`, and what a page may do. Knows
//! nothing of what they say.

use super::Shared;
use super::etag::ETag;
use crate::config::PagesConfig;
use axum::Router;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use std::sync::Arc;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const TS: &str = "text/plain; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Scripts and styles are ours alone; videos, and where clients connect, are the operator's.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
                      img-src * data: blob:; media-src * blob:; connect-src * ws: wss:; \
                      worker-src blob:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'self'";

/// What stands in a page where its settings go.
const SETTINGS: &str = r#"<script id="settings" type="application/json">{}</script>"#;

/// One file: where it is, its type, its content.
struct File(&'static str, &'static str, Bytes);

/// The routes of all of them; none where the section says so.
pub(super) fn routes(config: &PagesConfig) -> Router<Arc<Shared>> {
    if !config.enabled {
        return Router::new();
    }
    let fixed =
        |path, kind, text: &'static str| File(path, kind, Bytes::from_static(text.as_bytes()));
    let room = filled(include_str!("../../web/dist/room.html"), config);
    let files = [
        File("/", HTML, room.into()),
        fixed("/web/room.js", JS, include_str!("../../web/dist/room.js")),
        fixed("/web/room.css", CSS, include_str!("../../web/dist/room.css")),
        fixed("/web/hls.js", JS, include_str!("../../web/dist/hls.js")),
        fixed("/web/mpegts.js", JS, include_str!("../../web/dist/mpegts.js")),
        fixed("/chat", HTML, include_str!("../../web/dist/chat.html")),
        fixed("/web/chat.js", JS, include_str!("../../web/dist/chat.js")),
        fixed("/web/chat.css", CSS, include_str!("../../web/dist/chat.css")),
        fixed("/admin", HTML, include_str!("../../web/dist/admin.html")),
        fixed("/web/admin.js", JS, include_str!("../../web/dist/admin.js")),
        fixed("/web/admin.css", CSS, include_str!("../../web/dist/admin.css")),
        fixed("/web/icon.svg", SVG, include_str!("../../web/dist/icon.svg")),
        fixed("/sdk/uproar.js", JS, include_str!("../../web/dist/uproar.js")),
        fixed("/sdk/uproar.d.ts", TS, include_str!("../../web/dist/uproar.d.ts")),
    ];
    files.into_iter().fold(Router::new(), |router, File(path, kind, body)| {
        let served = Arc::new(Served::of(path, kind, body));
        router.route(path, get(move |asked: HeaderMap| async move { served.answer(&asked) }))
    })
}

/// A page with its settings in it, which may hold anything and end no script.
fn filled(page: &str, config: &PagesConfig) -> String {
    let settings = serde_json::json!({ "room": config.room, "video_url": config.video_url });
    let settings = settings.to_string().replace('<', "\\u003c");
    page.replacen(SETTINGS, &SETTINGS.replacen("{}", &settings, 1), 1)
}

/// A file and all that is said with it.
struct Served {
    body: Bytes,
    etag: ETag,
    headers: HeaderMap,
}

impl Served {
    fn of(path: &str, kind: &'static str, body: Bytes) -> Served {
        let etag = ETag::of(&body);
        let mut headers = HeaderMap::new();
        let mut add = |name: HeaderName, value: &'static str| {
            headers.insert(name, HeaderValue::from_static(value));
        };
        add(header::CONTENT_TYPE, kind);
        // Asked for again each time, which costs a 304: a new program has new pages at once.
        add(header::CACHE_CONTROL, "no-cache");
        add(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        add(header::REFERRER_POLICY, "no-referrer");
        if kind == HTML {
            add(header::CONTENT_SECURITY_POLICY, POLICY);
        }
        if path.starts_with("/sdk/") {
            // For pages of other sites, which is what an SDK is for.
            add(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
            add(HeaderName::from_static("cross-origin-resource-policy"), "cross-origin");
        }
        etag.say(&mut headers);
        Served { body, etag, headers }
    }

    fn answer(&self, asked: &HeaderMap) -> Response {
        if self.etag.is_known(asked) {
            return (StatusCode::NOT_MODIFIED, self.headers.clone()).into_response();
        }
        (self.headers.clone(), self.body.clone()).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_end_no_script() {
        let page = include_str!("../../web/dist/room.html");
        let config = PagesConfig { video_url: "</script><b>".into(), ..PagesConfig::default() };
        assert!(page.contains(SETTINGS), "there is no place for them");
        let text = filled(page, &config);
        assert!(!text.contains("</script><b>"));
        let found = text.split("application/json\">").nth(1).unwrap();
        let found = found.split("</script>").next().unwrap();
        let found: serde_json::Value = serde_json::from_str(found).unwrap();
        assert_eq!(found["video_url"], "</script><b>");
        assert_eq!(found["room"], "lobby");
    }
}
