//! Every answer the description names, produced for real: one run collects them, and at its end
//! the description and what was produced are the same set. (That no test gets an answer the
//! description does not name, `contract` sees to.)

use crate::accounts::{World, access, unhurried};
use crate::client::{Answer, BLOCKS_MAX, ISSUER, KEY, SECRET, Server};
use crate::contract::{self, Operation};
use crate::engine::ROOMS_MAX;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use uproar_control::{AccountSettings, Config, QualityConfig};
use uproar_proto::control::Lines;
use uproar_proto::ids::{Epoch, RoomId};
use uproar_proto::v1;

const JSON: &str = "Content-Type: application/json\r\n";
/// A group nobody made.
const NO_GROUP: &str = "00000000deadbeef";

/// A recording nobody made.
const RECORDING: &str = "0000000000001-0000000000000001";

static POLL: LazyLock<Value> = LazyLock::new(
    || json!({"question": "who wins?", "options": ["red", "blue"], "duration_s": 60}),
);

/// What was produced so far: method, template, status.
#[derive(Default)]
struct Run {
    produced: BTreeSet<(&'static str, &'static str, u16)>,
}

impl Run {
    /// Takes an answer down.
    fn saw(&mut self, method: &str, path: &str, answer: &Answer) {
        let operation = contract::operation(method, path).unwrap();
        self.produced.insert((operation.method, operation.template, answer.status));
    }

    fn raw(
        &mut self,
        server: &Server,
        (method, path): (&str, &str),
        headers: &str,
        body: &str,
    ) -> Answer {
        let answer = server.raw(method, path, headers, body);
        self.saw(method, path, &answer);
        answer
    }

    /// A request that must be answered so; `who` is a token or the API key, `body` may be null.
    #[track_caller]
    fn ask(
        &mut self,
        server: &Server,
        who: &str,
        (method, path): (&str, &str),
        body: &Value,
        status: u16,
    ) -> Value {
        let bearer = bearer(who);
        let (json, text) = match body {
            Value::Null => ("", String::new()),
            body => (JSON, body.to_string()),
        };
        let answer = self.raw(server, (method, path), &format!("{bearer}{json}"), &text);
        assert_eq!(answer.status, status, "{method} {path} {body}: {}", answer.body);
        serde_json::from_str(&answer.body).unwrap_or_default()
    }
}

fn bearer(who: &str) -> String {
    if who.is_empty() { String::new() } else { format!("Authorization: Bearer {who}\r\n") }
}

/// A path and a body that an operation takes.
pub(crate) fn sample(operation: &Operation) -> (String, String) {
    let mut path = operation.template.to_owned();
    let filled =
        [("room", "stage"), ("user", "bob"), ("session", "1"), ("group", NO_GROUP), ("seq", "1")];
    let more = [("link", "abc"), ("conversation", "user%3Abob"), ("video", "v1"), ("poll", "1")];
    let more = more.into_iter().chain([("recording", RECORDING), ("segment", "0")]);
    for (name, value) in filled.into_iter().chain(more) {
        path = path.replace(&format!("{{{name}}}"), value);
    }
    if (operation.method, path.as_str()) == ("delete", "/v1/admin/blocks") {
        path.push_str("?kind=device&value=x");
    }
    if path == "/v1/admin/messages" {
        path.push_str("?user=bob");
    }
    let body = match (operation.method, operation.template) {
        ("post", "/v1/rooms") => json!({"room": "stage"}),
        ("post", "/v1/rooms/{room}/publish") => json!({"user": "host", "text": "x"}),
        ("post", "/v1/rooms/{room}/kick") => json!({"user": "bob"}),
        ("post", "/v1/rooms/{room}/mute") => json!({"user": "bob", "mute_s": 1}),
        ("post", "/v1/rooms/{room}/moderation") => json!({"action": "kick", "users": ["bob"]}),
        ("put", "/v1/rooms/{room}/roles/{user}") => json!({"role": "owner"}),
        ("post", "/v1/rooms/{room}/recall") => json!({"user": "bob"}),
        ("patch", "/v1/rooms/{room}/attributes") => json!({"set": {"a": "b"}}),
        ("put", "/v1/rooms/{room}/pin") => json!({"user": "host", "text": "x"}),
        ("post", "/v1/rooms/{room}/polls") => POLL.clone(),
        ("post", "/v1/broadcast") => json!({"user": "uproar", "text": "back at nine"}),
        ("post", "/v1/publish") => json!({"messages": []}),
        ("post", "/v1/tokens") => json!({"user": "bob"}),
        ("post", "/v1/accounts") => json!({"user": "new", "password": "correct horse"}),
        ("post", "/v1/sessions") => json!({"user": "bob", "password": "correct horse"}),
        ("post", "/v1/sessions/refresh") => json!({"refresh_token": "x"}),
        ("put", "/v1/account/password") => {
            json!({"old_password": "correct horse", "new_password": "battery staple"})
        }
        ("put", "/v1/relations") => json!({"relations": [{"user": "ann", "peer": "bob"}]}),
        ("put", "/v1/groups") => json!({"groups": [{"key": "k", "name": "k", "owner": "ann"}]}),
        ("put", "/v1/users") => json!({"users": [{"user": "ann"}]}),
        ("post", "/v1/groups") => json!({"name": "Hikers"}),
        ("post", "/v1/groups/{group}/members") => json!({"users": ["bob"]}),
        ("put", path) if path.ends_with("/owner") => json!({"user": "bob"}),
        ("post", "/v1/admin/messages/recall") => json!({"group": NO_GROUP, "seq": "1"}),
        ("post", "/v1/videos/{video}/danmaku") => json!({"text": "x", "offset_ms": 1}),
        ("post", path) if path.ends_with("/danmaku/recall") => json!({"user": "bob"}),
        ("patch", "/v1/conversations/{conversation}") => json!({"silent": true}),
        ("post", "/v1/quality/reports") => json!({"reports": []}),
        ("put", "/v1/admin/blocks") => json!({"blocks": [{"kind": "device", "value": "x"}]}),
        ("put", "/v1/filter") => json!({"words": ["spam"]}),
        ("post", "/v1/filter/check") => json!({"text": "spam"}),
        _ => json!({}),
    };
    (path, if operation.has_body() { body.to_string() } else { String::new() })
}

/// A server whose bounds are as small as they may be.
fn narrow() -> World {
    let config = Config {
        api_key: KEY.into(),
        body_bytes_max: 1_024,
        list_body_bytes_max: 1_024,
        reply_ms_max: 10,
        request_ms_max: 100,
        ..Config::default()
    };
    World::built(config, unhurried(), true)
}

/// Who may call an operation: the API key, or this token.
fn caller<'a>(operation: &Operation, token: &'a str) -> &'a str {
    if operation.needs("api_key") {
        KEY
    } else if operation.needs("access_token") || operation.template == REPORTS {
        token
    } else {
        ""
    }
}

/// It takes a token, and needs none.
const REPORTS: &str = "/v1/quality/reports";

/// A token of the platform, which no log-in minted.
fn minted(world: &World, user: &str) -> String {
    let answer = world.server.call("POST", "/v1/tokens", &json!({"user": user}).to_string());
    answer.json()["token"].as_str().unwrap().to_owned()
}

/// Who may not call.
fn strangers(run: &mut Run) {
    let world = World::with(unhurried());
    let banned = minted(&world, "mallory");
    assert_eq!(world.with_token(&banned, "GET", "/v1/friends", "").status, 200);
    let ban = world.server.call("PUT", "/v1/admin/users/mallory/ban", "{}");
    assert_eq!(ban.status, 200, "{}", ban.body);
    let keyless = Server::with(Config::default());
    for operation in contract::operations() {
        let (path, body) = sample(&operation);
        let (method, path) = (operation.method.to_uppercase(), path.as_str());
        let ask = (method.as_str(), path);
        if operation.needs("api_key") || operation.needs("access_token") {
            assert_eq!(run.raw(&world.server, ask, JSON, &body).status, 401, "{ask:?}");
        }
        if operation.needs("access_token") {
            let headers = format!("{}{JSON}", bearer(&banned));
            assert_eq!(run.raw(&world.server, ask, &headers, &body).status, 403, "{ask:?}");
        }
        if operation.needs("api_key") {
            let headers = format!("Host: evil.example\r\n{JSON}");
            assert_eq!(run.raw(&keyless, ask, &headers, &body).status, 403, "{ask:?}");
        }
    }
    let config = Config { api_key: KEY.into(), metrics_open: false, ..Config::default() };
    run.raw(&Server::with(config), ("GET", "/metrics"), "", "");
    // Where no key signs, nobody logs in.
    let verifying = World::built(Config::default(), unhurried(), false);
    for path in ["/v1/accounts", "/v1/sessions", "/v1/sessions/refresh"] {
        let (_, body) = sample(&contract::operation("POST", path).unwrap());
        assert_eq!(run.raw(&verifying.server, ("POST", path), JSON, &body).status, 403, "{path}");
    }
    // Its users come with tokens of another issuer.
    let exp = jsonwebtoken::get_current_timestamp() + 600;
    let claims = json!({"sub": "zed", "iss": ISSUER, "exp": exp});
    let key = EncodingKey::from_secret(&uproar_control::tokens::hs256_bytes(SECRET).unwrap());
    let token = jsonwebtoken::encode(&Header::default(), &claims, &key).unwrap();
    run.ask(&verifying.server, &token, ("GET", "/v1/friends"), &Value::Null, 200);
}

/// Requests that are not what they should be.
fn malformed(run: &mut Run) {
    let world = narrow();
    let token = access(&world.enter("ann")).to_owned();
    world.enter("bob");
    for operation in contract::operations() {
        let (path, _) = sample(&operation);
        let bearer = bearer(caller(&operation, &token));
        let (method, path) = (operation.method.to_uppercase(), path.as_str());
        let ask = (method.as_str(), path);
        if !operation.has_body() {
            if operation.statuses().contains(&400) {
                let bad = match operation.template.find('{') {
                    // What is no UTF-8 is nobody's name.
                    Some(at) => {
                        let rest = operation.template[at..].split_once('}').unwrap().1;
                        let rest = rest.replace("{user}", "bob").replace("{seq}", "1");
                        let rest = rest.replace("{poll}", "1");
                        let rest = rest.replace("{recording}", RECORDING).replace("{segment}", "0");
                        format!("{}%ff{}", &operation.template[..at], rest.replace("{link}", "abc"))
                    }
                    None => format!("{}?nonsense=1", operation.template),
                };
                let answer = run.raw(&world.server, (ask.0, &bad), &bearer, "");
                assert_eq!(answer.status, 400, "{bad}: {}", answer.body);
            }
            continue;
        }
        let headers = format!("{bearer}{JSON}");
        assert_eq!(run.raw(&world.server, ask, &headers, "{").status, 400, "{ask:?}");
        let text = format!("{bearer}Content-Type: text/html\r\n");
        assert_eq!(run.raw(&world.server, ask, &text, "{}").status, 415, "{ask:?}");
        let large = format!("{{\"x\":\"{}\"}}", "x".repeat(1_100));
        assert_eq!(run.raw(&world.server, ask, &headers, &large).status, 413, "{ask:?}");
        let answer = world.server.bytes(&format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\
             Content-Length: 100\r\n\r\n{{"
        ));
        run.saw(&method, path, &answer);
        assert_eq!(answer.status, 408, "{ask:?}: {}", answer.body);
    }
}

/// What a store or an engine that does not answer leads to.
fn broken(run: &mut Run) {
    let world = World::with(unhurried());
    let session = world.enter("ann");
    let token = access(&session).to_owned();
    world.server.close_store();
    let stalled = narrow();
    stalled.server.engine.stalled.store(true, Ordering::SeqCst);
    for operation in contract::operations() {
        if !operation.statuses().contains(&503) || operation.template == "/readyz" {
            continue;
        }
        let (path, mut body) = sample(&operation);
        if operation.template == "/v1/sessions/refresh" {
            body = json!({"refresh_token": session["refresh_token"]}).to_string();
        }
        let method = operation.method.to_uppercase();
        let is_rooms = operation.template.starts_with("/v1/rooms");
        // These look into the store first, for the caller's role.
        let is_by_role = ["/roles", "/roles/{user}", "/moderation"].iter().any(|end| {
            operation.template.starts_with("/v1/rooms") && operation.template.ends_with(end)
        });
        let is_rooms = is_rooms || operation.template == "/v1/broadcast";
        let is_stalled = is_rooms && !is_by_role;
        let server = if is_stalled { &stalled.server } else { &world.server };
        let who = if is_by_role { &token } else { caller(&operation, &token) };
        let headers = format!("{}{JSON}", bearer(who));
        let answer = run.raw(server, (&method, &path), &headers, &body);
        assert_eq!(answer.status, 503, "{method} {path}: {}", answer.body);
    }
    let draining = Server::keyed();
    run.ask(&draining, "", ("GET", "/readyz"), &Value::Null, 200);
    draining.engine.ready.store(false, Ordering::SeqCst);
    run.ask(&draining, "", ("GET", "/readyz"), &Value::Null, 503);
}

fn node_and_rooms(run: &mut Run) {
    let server = &Server::keyed();
    let none = &Value::Null;
    for path in ["/healthz", "/v1/connect", "/v1/openapi.json", "/metrics"] {
        assert_eq!(run.raw(server, ("GET", path), "", "").status, 200);
    }
    run.ask(server, KEY, ("GET", "/v1/node"), none, 200);
    run.ask(server, KEY, ("POST", "/v1/node/drain"), none, 202);
    let room = json!({"room": "stage"});
    run.ask(server, KEY, ("POST", "/v1/rooms"), &room, 201);
    run.ask(server, KEY, ("POST", "/v1/rooms"), &room, 409);
    run.ask(server, KEY, ("GET", "/v1/rooms"), none, 200);
    let message = json!({"user": "host", "text": "x"});
    let large = json!({"user": "host", "text": "x".repeat(20_000)});
    run.ask(server, KEY, ("POST", "/v1/rooms/stage/publish"), &large, 413);
    let bulk = json!({"messages": [{"room": "stage", "user": "h", "text": "x"}]});
    run.ask(server, KEY, ("POST", "/v1/publish"), &bulk, 200);
    run.ask(server, KEY, ("POST", "/v1/rooms"), &json!({"room": "polls"}), 201);
    for status in [201, 409] {
        run.ask(server, KEY, ("POST", "/v1/rooms/polls/polls"), &POLL, status);
    }
    let late = json!({"set": {"a": "b"}, "if_version": 7});
    let conflict = run.ask(server, KEY, ("PATCH", "/v1/rooms/polls/attributes"), &late, 409);
    assert_eq!((&conflict["version"], &conflict["error"]["code"]), (&json!(0), &json!(2020)));
    run.ask(server, KEY, ("PUT", "/v1/rooms/polls/pin"), &json!({"seq": 99}), 404);
    run.ask(server, KEY, ("GET", "/v1/rooms/polls/polls/99"), none, 404);
    run.ask(server, KEY, ("DELETE", "/v1/rooms/polls"), none, 204);
    for (method, path, body, status) in [
        ("GET", "", none.clone(), 200),
        ("PATCH", "", json!({"slow_mode_s": 1}), 200),
        ("POST", "/publish", message, 200),
        ("POST", "/kick", json!({"user": "bob", "ban_s": 9}), 200),
        ("GET", "/bans", none.clone(), 200),
        ("DELETE", "/bans/bob", none.clone(), 204),
        ("POST", "/mute", json!({"user": "bob", "mute_s": 1}), 204),
        ("POST", "/recall", json!({"seqs": [1]}), 200),
        ("PATCH", "/attributes", json!({"set": {"a": "b"}, "if_version": 0}), 200),
        ("GET", "/members", none.clone(), 200),
        ("PUT", "/pin", json!({"seq": 1}), 204),
        ("DELETE", "/pin", none.clone(), 204),
        ("POST", "/polls", POLL.clone(), 201),
        ("GET", "/polls/1", none.clone(), 200),
        ("DELETE", "/polls/1", none.clone(), 200),
        ("DELETE", "", none.clone(), 204),
    ] {
        run.ask(server, KEY, (method, &format!("/v1/rooms/stage{path}")), &body, status);
        run.ask(server, KEY, (method, &format!("/v1/rooms/none{path}")), &body, 404);
    }
    run.ask(server, KEY, ("POST", "/v1/tokens"), &json!({"user": "ann"}), 201);
    let announcement = json!({"user": "uproar", "text": "back at nine"});
    for status in [202, 202, 202, 429] {
        run.ask(server, KEY, ("POST", "/v1/broadcast"), &announcement, status);
    }
    for at in 0..=ROOMS_MAX {
        let body = json!({"room": format!("r{at}")});
        let status = if at == ROOMS_MAX { 503 } else { 201 };
        run.ask(server, KEY, ("POST", "/v1/rooms"), &body, status);
    }
}

/// An operator in a browser.
fn browser(run: &mut Run) {
    let (server, password) = Server::with_operator(keyed_config());
    let (path, none) = ("/v1/admin/session", &Value::Null);
    let right = json!({"password": password});
    run.ask(&server, "", ("GET", path), none, 401);
    let answer = run.raw(&server, ("POST", path), JSON, &right.to_string());
    assert_eq!(answer.status, 204, "{}", answer.body);
    let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap();
    let cookie = format!("Cookie: {cookie}\r\n");
    assert_eq!(run.raw(&server, ("GET", path), &cookie, "").status, 204);
    run.ask(&server, "", ("POST", path), &json!({"password": "wrong"}), 401);
    run.ask(&server, "", ("DELETE", path), none, 204);
    let guess = json!({"password": "guess"});
    let tries = (0..9).map(|_| server.raw("POST", path, JSON, &guess.to_string()).status);
    assert!(tries.into_iter().any(|status| status == 429));
    run.ask(&server, "", ("POST", path), &guess, 429);
    let closed = Server::keyed();
    run.ask(&closed, "", ("GET", path), none, 403);
    run.ask(&closed, "", ("POST", path), &guess, 403);
}

fn keyed_config() -> Config {
    Config { api_key: KEY.into(), ..Config::default() }
}

/// What a user asks of one of its conversations.
fn conversations(run: &mut Run, server: &Server, ann: &str) {
    let made = run.ask(server, ann, ("POST", "/v1/groups"), &json!({"name": "Hikers"}), 201);
    let own = format!("group%3A{}", made["group"].as_str().unwrap());
    let silent = json!({"silent": true});
    for (of, seq, set, asked) in [(own.as_str(), 1, 204, 200), ("user%3Anobody", 1, 404, 404)] {
        let path = format!("/v1/conversations/{of}");
        run.ask(server, ann, ("PATCH", &path), &silent, set);
        let path = format!("{path}/messages/{seq}/reactions");
        run.ask(server, ann, ("GET", &path), &Value::Null, asked);
    }
}

fn people(run: &mut Run) {
    let world = World::with(unhurried());
    let (server, none) = (&world.server, &Value::Null);
    let account = |name: &str| json!({"user": name, "password": "correct horse"});
    run.ask(server, "", ("POST", "/v1/accounts"), &account("ann"), 201);
    run.ask(server, "", ("POST", "/v1/accounts"), &account("ann"), 409);
    let session = run.ask(server, "", ("POST", "/v1/sessions"), &account("ann"), 201);
    let wrong = json!({"user": "ann", "password": "wrong password"});
    run.ask(server, "", ("POST", "/v1/sessions"), &wrong, 401);
    let refresh = json!({"refresh_token": session["refresh_token"]});
    run.ask(server, "", ("POST", "/v1/sessions/refresh"), &refresh, 200);
    let refresh = json!({"refresh_token": "x"});
    run.ask(server, "", ("POST", "/v1/sessions/refresh"), &refresh, 401);
    let (ann, max) = (access(&session).to_owned(), access(&world.enter("max")).to_owned());
    let change = json!({"old_password": "correct horse", "new_password": "battery staple"});
    run.ask(server, &ann, ("PUT", "/v1/account/password"), &change, 204);
    run.ask(server, &ann, ("PUT", "/v1/account/password"), &change, 401);
    for path in ["sessions", "friends", "friend-requests", "blocks", "follows", "followers"] {
        run.ask(server, &ann, ("GET", &format!("/v1/{path}")), none, 200);
    }
    run.ask(server, &ann, ("GET", "/v1/account/settings"), none, 200);
    let settings = json!({"private_read": true});
    run.ask(server, &ann, ("PATCH", "/v1/account/settings"), &settings, 200);
    conversations(run, server, &ann);
    // Max has as many of everything as there may be.
    run.ask(server, &ann, ("PUT", "/v1/friends/max"), none, 200);
    world.sql(
        "UPDATE relation_counts SET friends = 5000, asked = 1000, blocks = 10000, follows = 10000
         WHERE user_id = (SELECT id FROM users WHERE name = 'max')",
    );
    world.enter("bob");
    for path in ["friends/bob", "friend-requests/ann", "blocks/bob", "follows/bob"] {
        run.ask(server, &max, ("PUT", &format!("/v1/{path}")), none, 409);
    }
    let bob = access(&world.enter("bob")).to_owned();
    run.ask(server, &bob, ("PUT", "/v1/friends/ann"), none, 200);
    run.ask(server, &ann, ("GET", "/v1/friends/bob"), none, 200);
    run.ask(server, &ann, ("GET", "/v1/friends/nobody"), none, 404);
    for list in ["friend-requests", "friends", "follows", "blocks"] {
        for method in ["PUT", "DELETE"] {
            // Asked before, so that it is taken; a friendship is asked for by the other one.
            run.ask(server, &ann, (method, &format!("/v1/{list}/nobody")), none, 404);
            run.ask(server, &ann, (method, &format!("/v1/{list}/bob")), none, 200);
        }
    }
    let path = format!("/v1/sessions/{}", session["session"].as_str().unwrap());
    run.ask(server, &bob, ("DELETE", &path), none, 204);
    run.ask(server, &bob, ("DELETE", "/v1/sessions"), none, 204);
    let slow = AccountSettings { address_burst: 3, account_burst: 1, ..AccountSettings::default() };
    let slow = World::with(slow);
    let cleo = access(&slow.enter("cleo")).to_owned();
    run.ask(&slow.server, &cleo, ("PUT", "/v1/account/password"), &change, 429);
    run.ask(&slow.server, "", ("POST", "/v1/sessions"), &account("cleo"), 429);
    run.ask(&slow.server, "", ("POST", "/v1/accounts"), &account("dan"), 429);
}

/// A group of a platform; its id.
fn group(run: &mut Run, server: &Server, key: &str, owner: &str, members: &[&str]) -> String {
    let group = json!({"key": key, "name": key, "owner": owner, "members": members,
        "joining": "approve"});
    let body = json!({"groups": [group]});
    let made = run.ask(server, KEY, ("PUT", "/v1/groups"), &body, 200);
    made["groups"][0]["group"].as_str().unwrap().to_owned()
}

/// The server takes 5 members a group, and 3 groups a user.
fn groups(run: &mut Run) {
    let world = World::with(unhurried());
    let (server, none) = (&world.server, &Value::Null);
    let [ann, bob, dan] = ["ann", "bob", "dan"].map(|name| minted(&world, name));
    let full = group(run, server, "full", "ann", &["u1", "u2", "u3", "u4"]);
    for key in ["a", "b", "c"] {
        group(run, server, key, "dan", &[]);
    }
    let friends = json!({"relations": [{"user": "ann", "peer": "bob", "friends": true}]});
    run.ask(server, KEY, ("PUT", "/v1/relations"), &friends, 200);
    // Bob waits for the full one.
    let full = format!("/v1/groups/{full}");
    run.ask(server, &bob, ("POST", &format!("{full}/requests")), &json!({}), 200);
    run.ask(server, &ann, ("PUT", &format!("{full}/requests/bob")), none, 409);
    let invite = json!({"users": ["bob"]});
    run.ask(server, &ann, ("POST", &format!("{full}/members")), &invite, 409);
    run.ask(server, &dan, ("POST", "/v1/groups"), &json!({"name": "d"}), 409);
    run.ask(server, &dan, ("POST", &format!("{full}/requests")), &json!({}), 409);
    let links = format!("{full}/links");
    let link = run.ask(server, &ann, ("POST", &links), &json!({}), 201);
    let behind = format!("/v1/group-links/{}", link["link"].as_str().unwrap());
    run.ask(server, &bob, ("GET", &behind), none, 200);
    run.ask(server, &dan, ("POST", &behind), none, 409);
    run.ask(server, &bob, ("POST", &behind), none, 200);
    for body in [json!({"uses_max": 1}), json!({"uses_max": 2})] {
        let headers = format!("{}{JSON}Idempotency-Key: k\r\n", bearer(&ann));
        let answer = run.raw(server, ("POST", &links), &headers, &body.to_string());
        assert!([201, 409].contains(&answer.status), "{}", answer.body);
    }
    let link = format!("{links}/{}", link["link"].as_str().unwrap());
    run.ask(server, &ann, ("DELETE", &link), none, 204);
    run.ask(server, &ann, ("DELETE", &link), none, 404);
    run.ask(server, &bob, ("GET", &behind), none, 404);
    run.ask(server, &bob, ("POST", &behind), none, 404);
    let made = run.ask(server, &ann, ("POST", "/v1/groups"), &json!({"name": "x"}), 201);
    run.ask(server, &ann, ("GET", "/v1/groups"), none, 200);
    let id = made["group"].as_str().unwrap();
    let seq = server.says("ann", &format!("group:{id}"), "hello");
    let there = format!("/v1/groups/{id}");
    let nowhere = format!("/v1/groups/{NO_GROUP}");
    let open = json!({"name": "y", "joining": "approve"});
    let receipts = format!("/messages/{seq}/receipts");
    for (method, path, body, status) in [
        ("GET", "", none, 200),
        ("PATCH", "", &open, 200),
        ("GET", "/receipts", none, 200),
        ("GET", &receipts, none, 200),
        ("GET", "/links", none, 200),
        ("GET", "/members", none, 200),
        ("POST", "/members", &invite, 200),
        ("PATCH", "/members/bob", &json!({"mute_s": 1}), 204),
        ("DELETE", "/members/bob", none, 204),
        ("GET", "/requests", none, 200),
        ("DELETE", "/requests/bob", none, 204),
        ("PUT", "/owner", &json!({"user": "ann"}), 200),
    ] {
        run.ask(server, &ann, (method, &format!("{there}{path}")), body, status);
        run.ask(server, &ann, (method, &format!("{nowhere}{path}")), body, 404);
    }
    run.ask(server, &ann, ("POST", &format!("{nowhere}/links")), &json!({}), 404);
    run.ask(server, &ann, ("POST", &format!("{nowhere}/requests")), &json!({}), 404);
    run.ask(server, &bob, ("POST", &format!("{there}/requests")), &json!({}), 200);
    run.ask(server, &ann, ("PUT", &format!("{there}/requests/bob")), none, 200);
    run.ask(server, &ann, ("PUT", &format!("{there}/requests/u1")), none, 404);
    run.ask(server, &ann, ("DELETE", &there), none, 204);
    run.ask(server, &ann, ("DELETE", &there), none, 404);
}

fn operators(run: &mut Run) {
    let world = World::with(unhurried());
    let (server, none) = (&world.server, &Value::Null);
    let users = json!({"users": [{"user": "ann"}, {"user": "bob"}, {"user": "eve"}]});
    run.ask(server, KEY, ("PUT", "/v1/users"), &users, 200);
    let friends = json!({"relations": [{"user": "ann", "peer": "bob", "friends": true}]});
    run.ask(server, KEY, ("PUT", "/v1/relations"), &friends, 200);
    server.says("ann", "user:bob", "hello");
    run.ask(server, KEY, ("GET", "/v1/admin/users"), none, 200);
    run.ask(server, KEY, ("GET", "/v1/admin/groups"), none, 200);
    run.ask(server, KEY, ("GET", "/v1/admin/messages?user=ann&peer=bob"), none, 200);
    run.ask(server, KEY, ("GET", "/v1/admin/messages?user=nobody"), none, 404);
    let recall = ("POST", "/v1/admin/messages/recall");
    run.ask(server, KEY, recall, &json!({"user": "ann", "peer": "bob", "seq": "1"}), 200);
    run.ask(server, KEY, recall, &json!({"user": "ann", "peer": "bob", "seq": "9"}), 404);
    for (method, path, body, status) in [
        ("GET", "", none, 200),
        ("GET", "/export", none, 200),
        ("GET", "/sessions", none, 200),
        ("DELETE", "/sessions", none, 204),
        ("PUT", "/ban", &json!({}), 200),
        ("DELETE", "/ban", none, 204),
    ] {
        let there = format!("/v1/admin/users/ann{path}");
        run.ask(server, KEY, (method, &there), body, status);
        let nowhere = format!("/v1/admin/users/nobody{path}");
        run.ask(server, KEY, (method, &nowhere), body, 404);
    }
    let id = group(run, server, "hikers", "ann", &["bob"]);
    for (method, path, body, status) in [
        ("GET", "", none, 200),
        ("GET", "/members", none, 200),
        ("PUT", "/owner", &json!({"user": "bob"}), 200),
        ("DELETE", "/members/ann", none, 204),
        ("DELETE", "", none, 204),
    ] {
        let there = format!("/v1/admin/groups/{id}{path}");
        run.ask(server, KEY, (method, &there), body, status);
        let nowhere = format!("/v1/admin/groups/{NO_GROUP}{path}");
        run.ask(server, KEY, (method, &nowhere), body, 404);
    }
    let ended = json!({"groups": [{"key": "hikers", "name": "x", "owner": "ann"}]});
    run.ask(server, KEY, ("PUT", "/v1/groups"), &ended, 404);
    erased(run, server);
}

fn quality(run: &mut Run) {
    let world = World::with(unhurried());
    let (server, none) = (&world.server, &Value::Null);
    let (reports, banned) = (json!({"reports": []}), minted(&world, "mallory"));
    run.ask(server, &banned, ("POST", REPORTS), &reports, 200);
    run.ask(server, KEY, ("PUT", "/v1/admin/users/mallory/ban"), &json!({}), 200);
    run.ask(server, &banned, ("POST", REPORTS), &reports, 403);
    run.ask(server, "no-token", ("POST", REPORTS), &reports, 401);
    run.ask(server, "", ("POST", REPORTS), &reports, 200);
    run.ask(server, "", ("OPTIONS", REPORTS), none, 204);
    for path in ["/v1/quality", "/v1/quality/heatmap", "/v1/quality/alarms"] {
        run.ask(server, KEY, ("GET", path), none, 200);
    }
    let quality = QualityConfig { requests_per_s_max: 1, ..QualityConfig::default() };
    let hurried = Server::reporting(quality);
    // Ten at once and one a second more.
    let body = reports.to_string();
    let taken = (0..500).take_while(|_| {
        let answer = hurried.raw("POST", REPORTS, "Content-Type: application/json\r\n", &body);
        answer.status == 200
    });
    assert!((10..500).contains(&taken.count()), "the pace is kept");
    run.ask(&hurried, "", ("POST", REPORTS), &reports, 429);
}

fn erased(run: &mut Run, server: &Server) {
    let none = &Value::Null;
    run.ask(server, KEY, ("DELETE", "/v1/admin/users/nobody"), none, 404);
    run.ask(server, KEY, ("GET", "/v1/admin/users/ann/erasure"), none, 404);
    run.ask(server, KEY, ("DELETE", "/v1/admin/users/eve"), none, 202);
    let begun = Instant::now();
    let erasure = ("GET", "/v1/admin/users/eve/erasure");
    while run.ask(server, KEY, erasure, none, 200)["state"] != "done" {
        assert!(begun.elapsed() < Duration::from_secs(60), "never done");
        std::thread::sleep(Duration::from_millis(10)); // between two questions
    }
    run.ask(server, KEY, ("DELETE", "/v1/admin/users/eve"), none, 200);
    let users = json!({"users": [{"user": "eve"}]});
    run.ask(server, KEY, ("PUT", "/v1/users"), &users, 409);
    let relations = json!({"relations": [{"user": "ann", "peer": "eve"}]});
    run.ask(server, KEY, ("PUT", "/v1/relations"), &relations, 409);
    let groups = json!({"groups": [{"key": "k", "name": "k", "owner": "eve"}]});
    run.ask(server, KEY, ("PUT", "/v1/groups"), &groups, 409);
}

/// Danmaku of a room and of a video.
fn danmaku(run: &mut Run) {
    let name = format!("uproar-http-danmaku-{}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    let world = World::keeping(&folder);
    let (server, none) = (&world.server, &Value::Null);
    let ann = minted(&world, "ann");
    let line = json!({"text": "here it comes", "offset_ms": 1_500});
    for _ in 0..3 {
        run.ask(server, &ann, ("POST", "/v1/videos/v1/danmaku"), &line, 201);
    }
    run.ask(server, &ann, ("POST", "/v1/videos/v1/danmaku"), &line, 429);
    let message = v1::Message { seq: 1, user: "ann".into(), time_ms: 9_000, ..Default::default() };
    let (room, epoch) = (RoomId::new("stage").unwrap(), Epoch(0xab));
    let lines = Lines {
        room,
        epoch,
        messages: vec![message],
        recalled: Vec::new(),
        recalled_of: Vec::new(),
    };
    server.danmaku.as_ref().unwrap().lines(lines);
    let index = ("GET", "/v1/rooms/stage/danmaku");
    let begun = Instant::now();
    let recording = loop {
        let recordings = run.ask(server, "", index, none, 200);
        if let Some(recording) = recordings["recordings"][0]["recording"].as_str() {
            break recording.to_owned();
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "never taken in");
        std::thread::sleep(Duration::from_millis(5)); // between two questions
    };
    let of_room = format!("/v1/rooms/stage/danmaku/{recording}");
    for (path, segment) in [(of_room.as_str(), 2), ("/v1/videos/v1/danmaku", 1)] {
        let there = format!("{path}/{segment}");
        let json = "Accept: application/json\r\n";
        let got = run.raw(server, ("GET", &there), json, "");
        assert_eq!((got.status, got.json()["lines"][0]["user"].as_str()), (200, Some("ann")));
        let same = format!("{json}If-None-Match: {}\r\n", got.header("etag").unwrap());
        assert_eq!(run.raw(server, ("GET", &there), &same, "").status, 304);
        run.ask(server, "", ("GET", &format!("{path}/7")), none, 404);
    }
    for path in ["/v1/rooms/stage/danmaku", "/v1/videos/v1/danmaku"] {
        let got = run.raw(server, ("GET", path), "", "");
        let same = format!("If-None-Match: {}\r\n", got.header("etag").unwrap());
        assert_eq!((got.status, run.raw(server, ("GET", path), &same, "").status), (200, 304));
        let recall = format!("{path}/recall");
        let recalled = run.ask(server, KEY, ("POST", &recall), &json!({"user": "ann"}), 200);
        assert!(recalled["recalled"].as_u64() >= Some(1), "{recalled}");
        let again = run.ask(server, KEY, ("POST", &recall), &json!({"user": "ann"}), 200);
        assert_eq!(again["recalled"], 0);
    }
    drop(world);
    let _ = std::fs::remove_dir_all(folder); // a leftover does no harm
}

/// Who moderates rooms, and what that leads to.
fn moderators(run: &mut Run) {
    let world = World::with(unhurried());
    let (server, none) = (&world.server, &Value::Null);
    let ann = minted(&world, "ann");
    run.ask(server, &ann, ("GET", "/v1/rooms/stage/roles"), none, 403);
    let of = |user: &str| format!("/v1/rooms/stage/roles/{user}");
    let owner = json!({"role": "owner"});
    run.ask(server, KEY, ("PUT", &of("ann")), &owner, 204);
    run.ask(server, KEY, ("PUT", &of("nobody")), &owner, 404);
    run.ask(server, &ann, ("GET", "/v1/rooms/stage/roles"), none, 200);
    run.ask(server, KEY, ("POST", "/v1/rooms"), &json!({"room": "stage"}), 201);
    let many = json!({"action": "mute", "users": ["bob", "ann"], "seconds": 60});
    run.ask(server, &ann, ("POST", "/v1/rooms/stage/moderation"), &many, 200);
    run.ask(server, KEY, ("GET", "/v1/audit"), none, 200);
    run.ask(server, KEY, ("DELETE", &of("ann")), none, 204);
    run.ask(server, KEY, ("DELETE", &of("nobody")), none, 404);
    let users: Vec<Value> = (0..100).map(|n| json!({"user": format!("u{n}")})).collect();
    run.ask(server, KEY, ("PUT", "/v1/users"), &json!({"users": users}), 200);
    for n in 0..100 {
        run.ask(server, KEY, ("PUT", &of(&format!("u{n}"))), &json!({"role": "moderator"}), 204);
    }
    run.ask(server, KEY, ("PUT", &of("ann")), &owner, 409);
}

/// What messages are held against.
fn filter(run: &mut Run) {
    let world = World::with(unhurried());
    let (server, path) = (&world.server, "/v1/filter");
    run.ask(server, KEY, ("PUT", path), &json!({"words": ["spam"]}), 200);
    run.ask(server, KEY, ("PATCH", path), &json!({"add_words": ["eggs"]}), 200);
    run.ask(server, KEY, ("GET", path), &Value::Null, 200);
    run.ask(server, KEY, ("POST", "/v1/filter/check"), &json!({"text": "spam"}), 200);
    for (method, body) in [("PUT", json!({"words": []})), ("PATCH", json!({}))] {
        let headers = format!("{}{JSON}If-Match: \"7\"\r\n", bearer(KEY));
        let answer = run.raw(server, (method, path), &headers, &body.to_string());
        assert_eq!(answer.status, 412, "{}", answer.body);
    }
}

/// Who is kept out.
fn blocks(run: &mut Run) {
    let world = World::with(unhurried());
    let (server, path) = (&world.server, "/v1/admin/blocks");
    let of = |from: u32| -> Vec<Value> {
        let one = |n| json!({"kind": "device", "value": format!("d{n}")});
        (from..from + BLOCKS_MAX).map(one).collect()
    };
    run.ask(server, KEY, ("PUT", path), &json!({"blocks": of(0)}), 200);
    run.ask(server, KEY, ("PUT", path), &json!({"blocks": of(1)}), 409);
    run.ask(server, KEY, ("GET", path), &Value::Null, 200);
    let one = format!("{path}?kind=device&value=d7");
    run.ask(server, KEY, ("DELETE", &one), &Value::Null, 204);
}

#[test]
fn every_answer_of_the_description_is_produced_and_no_other() {
    let mut run = Run::default();
    let parts: [fn(&mut Run); 5] = [strangers, malformed, broken, node_and_rooms, browser];
    let more: [fn(&mut Run); 7] = [people, groups, operators, quality, danmaku, filter, moderators];
    for part in parts.into_iter().chain(more).chain([blocks as fn(&mut Run)]) {
        part(&mut run);
    }
    let mut documented = BTreeSet::new();
    for operation in contract::operations() {
        let statuses = operation.statuses();
        documented.extend(statuses.iter().map(|s| (operation.method, operation.template, *s)));
    }
    let never: Vec<_> = documented.difference(&run.produced).collect();
    assert!(never.is_empty(), "documented, and nothing here leads to it: {never:#?}");
    let more: Vec<_> = run.produced.difference(&documented).collect();
    assert!(more.is_empty(), "not documented: {more:#?}");
}
