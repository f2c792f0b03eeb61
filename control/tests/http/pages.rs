//! What a browser is served: types, tags, and what a page may do.

use crate::client::Server;
use uproar_control::Config;

#[test]
fn pages_and_the_sdk_are_served_with_what_a_browser_needs_to_know() {
    let server = Server::with(Config::default());
    for (path, kind, has) in [
        ("/", "text/html; charset=utf-8", "/web/room.js"),
        ("/web/room.js", "text/javascript; charset=utf-8", "uproar.v1"),
        ("/web/room.css", "text/css; charset=utf-8", "--accent"),
        ("/web/hls.js", "text/javascript; charset=utf-8", "Apache-2.0"),
        ("/web/mpegts.js", "text/javascript; charset=utf-8", "Apache-2.0"),
        ("/chat", "text/html; charset=utf-8", "/web/chat.js"),
        ("/web/chat.js", "text/javascript; charset=utf-8", "/v1/groups"),
        ("/web/chat.css", "text/css; charset=utf-8", "--accent"),
        ("/admin", "text/html; charset=utf-8", "/web/admin.js"),
        ("/web/admin.js", "text/javascript; charset=utf-8", "/v1/admin/session"),
        ("/web/admin.css", "text/css; charset=utf-8", "--accent"),
        ("/web/icon.svg", "image/svg+xml", "<svg"),
        ("/sdk/uproar.d.ts", "text/plain; charset=utf-8", "export declare class Uproar"),
        ("/sdk/uproar.js", "text/javascript; charset=utf-8", "export{"),
    ] {
        let answer = server.raw("GET", path, "", "");
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(kind)), "{path}");
        assert!(answer.body.contains(has), "{path} lacks {has}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-cache"), "{path}");
        let tag = answer.header("etag").unwrap().to_owned();
        for known in [tag.clone(), format!("\"other\", {tag}"), format!("W/{tag}"), "*".into()] {
            let again = server.raw("GET", path, &format!("If-None-Match: {known}\r\n"), "");
            assert_eq!((again.status, again.body.as_str()), (304, ""), "{path} {known}");
            assert_eq!(again.header("etag"), Some(tag.as_str()));
        }
        let other = server.raw("GET", path, "If-None-Match: \"other\"\r\n", "");
        assert_eq!(other.status, 200, "{path}");
        let foreign = answer.header("access-control-allow-origin");
        assert_eq!(foreign, path.starts_with("/sdk/").then_some("*"), "{path}");
        let policy = answer.header("content-security-policy");
        assert_eq!(policy.is_some(), kind.starts_with("text/html"), "{path}");
        assert_eq!(server.raw("POST", path, "", "").status, 405, "{path}");
    }
    assert_eq!(server.raw("GET", "/web/other.js", "", "").status, 404);
}

#[test]
fn where_pages_are_not_wanted_there_are_none() {
    let server = Server::without_pages();
    for path in ["/", "/web/room.js", "/sdk/uproar.js"] {
        assert_eq!(server.raw("GET", path, "", "").status, 404, "{path}");
    }
    assert_eq!(server.raw("GET", "/healthz", "", "").status, 200);
}
