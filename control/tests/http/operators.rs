//! An operator's browser: its cookie stands in for the API key, and for nothing else.

use crate::client::{Answer, KEY, Server};
use uproar_control::Config;

const SESSION: &str = "/v1/admin/session";
const JSON: &str = "Content-Type: application/json\r\n";

fn log_in(server: &Server, password: &str) -> Answer {
    server.raw("POST", SESSION, JSON, &serde_json::json!({"password": password}).to_string())
}

/// The header of a browser that got this answer.
fn cookie(answer: &Answer) -> String {
    let set = answer.header("set-cookie").unwrap();
    format!("Cookie: other=1; {}\r\n", set.split(';').next().unwrap())
}

fn keyed() -> Config {
    Config { api_key: KEY.into(), metrics_open: false, ..Config::default() }
}

#[test]
fn a_browser_that_is_logged_in_needs_no_key_until_it_logs_out() {
    let (server, password) = Server::with_operator(keyed());
    assert_eq!(server.raw("GET", "/v1/rooms", "", "").status, 401);
    let answer = log_in(&server, &password);
    assert_eq!(answer.status, 204);
    let set = answer.header("set-cookie").unwrap();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=60"] {
        assert!(set.contains(part), "{set}");
    }
    assert!(!set.contains("Secure"));
    let cookie = cookie(&answer);
    for path in ["/v1/rooms", "/v1/node", "/metrics", SESSION] {
        let status = server.raw("GET", path, &cookie, "").status;
        assert!(status == 200 || status == 204, "{path}: {status}");
    }
    // It is no user: what people call asks for a user's token as before.
    assert_eq!(server.raw("GET", "/v1/friends", &cookie, "").status, 503);
    assert_eq!(server.raw("DELETE", SESSION, &cookie, "").status, 204);
    assert_eq!(server.raw("GET", "/v1/rooms", &cookie, "").status, 401);
}

#[test]
fn a_wrong_password_opens_nothing_and_guesses_are_slowed_down() {
    let (server, password) = Server::with_operator(keyed());
    log_in(&server, "guess").error(401, "TOKEN_INVALID");
    for forged in ["uproar_admin=", "uproar_admin=x", "uproar_adminx=1", "xuproar_admin=1"] {
        let cookie = format!("Cookie: {forged}\r\n");
        assert_eq!(server.raw("GET", "/v1/rooms", &cookie, "").status, 401, "{forged}");
    }
    let mut answers = (0..8).map(|_| log_in(&server, "guess"));
    let slowed = answers.find(|answer| answer.status == 429).unwrap();
    slowed.error(429, "SLOW_DOWN");
    assert_eq!(log_in(&server, &password).status, 429, "the right one waits as well");
}

/// What a browser says of the page that asks, and whether that is one of ours.
const PAGES: [(&str, bool); 8] = [
    ("Sec-Fetch-Site: same-origin\r\nOrigin: https://behind.a.proxy\r\n", true),
    ("Sec-Fetch-Site: none\r\n", true),
    ("Origin: http://HOST\r\n", true),
    ("Sec-Fetch-Site: cross-site\r\n", false),
    ("Sec-Fetch-Site: same-site\r\nOrigin: http://HOST\r\n", false),
    ("Origin: http://localhost:18000\r\n", false),
    ("Origin: http://HOST.evil.example\r\n", false),
    ("Origin: null\r\n", false),
];

#[test]
fn a_page_of_another_site_acts_neither_as_an_operator_nor_as_this_machine() {
    let (server, password) = Server::with_operator(keyed());
    let cookie = cookie(&log_in(&server, &password));
    let open = Server::with(Config::default());
    for (page, is_own) in PAGES {
        let ways = [(&server, cookie.as_str()), (&open, "")];
        for (server, cookie) in ways {
            let headers = format!("{cookie}{}", page.replace("HOST", "localhost"));
            let answer = server.raw("POST", "/v1/node/drain", &headers, "");
            match is_own {
                true => assert_eq!(answer.status, 202, "{page}: {}", answer.body),
                false => drop(answer.error(403, "FORBIDDEN")),
            }
        }
        let with_key = format!("Authorization: Bearer {KEY}\r\n{page}");
        assert_eq!(server.raw("GET", "/v1/node", &with_key, "").status, 200, "{page}");
    }
}

#[test]
fn behind_tls_the_cookie_goes_over_tls_alone() {
    let (server, password) = Server::with_operator(keyed());
    let headers = format!("{JSON}Origin: https://live.example\r\n");
    let body = serde_json::json!({"password": password}).to_string();
    let answer = server.raw("POST", SESSION, &headers, &body);
    assert!(answer.header("set-cookie").unwrap().ends_with("; Secure"));
}

#[test]
fn rooms_come_by_name_or_the_busiest_first() {
    let server = Server::keyed();
    for room in ["a", "b", "c"] {
        server.call("POST", "/v1/rooms", &format!(r#"{{"room":"{room}"}}"#));
    }
    let names = |query: &str| {
        let page = server.call("GET", &format!("/v1/rooms{query}"), "").json();
        let rooms = page["rooms"].as_array().unwrap().clone();
        let names: Vec<String> =
            rooms.iter().map(|room| room["room"].as_str().unwrap().to_owned()).collect();
        (names.join(""), page["next"].as_str().map(str::to_owned))
    };
    assert_eq!(names("?order=name&limit=2"), ("ab".into(), Some("b".into())));
    assert_eq!(names("?order=busiest&limit=2"), ("ab".into(), None));
    let refused = server.call("GET", "/v1/rooms?order=busiest&after=a", "");
    assert!(refused.error(400, "BAD_REQUEST").contains("order=name"));
    server.call("GET", "/v1/rooms?order=loudest", "").error(400, "BAD_REQUEST");
}
