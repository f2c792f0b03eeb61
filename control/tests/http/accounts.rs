//! Accounts and sessions as an app sees them. What the rules decide is tested beside them, on
//! every store; here it is what goes over the wire.

use crate::client::{Answer, KEY, Server, Setup};
use serde_json::{Value, json};
use sqlx::Connection as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use uproar_control::{AccountSettings, Config, DanmakuConfig, PagesConfig, QualityConfig};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A server with a store of its own.
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) url: String,
    file: Option<PathBuf>,
    /// Server and database to drop.
    database: Option<(String, String)>,
}

impl Drop for World {
    fn drop(&mut self) {
        let file = self.file.take().unwrap_or_default();
        for ending in ["", "-wal", "-shm", "-lock"] {
            let _ = std::fs::remove_file(format!("{}{ending}", file.display()));
        }
        if let Some((server, name)) = self.database.take() {
            sql(&server, &format!("DROP DATABASE {name}"));
        }
    }
}

/// Runs a statement on a database.
fn sql(url: &str, statement: &str) {
    sqlx::any::install_default_drivers();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut conn = sqlx::AnyConnection::connect(url).await.unwrap();
        if url.starts_with("sqlite") {
            // The server writes meanwhile.
            sqlx::query("PRAGMA busy_timeout = 5000").execute(&mut conn).await.unwrap();
        }
        sqlx::query(sqlx::AssertSqlSafe(statement.to_owned())).execute(&mut conn).await.unwrap();
        conn.close().await.unwrap();
    });
}

impl World {
    pub(crate) fn new() -> World {
        World::with(AccountSettings::default())
    }

    pub(crate) fn with(settings: AccountSettings) -> World {
        World::built(Config { api_key: KEY.into(), ..Config::default() }, settings, true)
    }

    pub(crate) fn built(config: Config, settings: AccountSettings, signs: bool) -> World {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("uproar-http-{}-{number}.db", std::process::id());
        let file = std::env::temp_dir().join(name);
        let url = format!("sqlite:{}", file.display());
        let server = Server::built(setup(config, settings, signs, &url));
        World { server, url, file: Some(file), database: None }
    }

    /// One that keeps danmaku, in this folder.
    pub(crate) fn keeping(folder: &std::path::Path) -> World {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("uproar-http-{}-{number}.db", std::process::id());
        let file = std::env::temp_dir().join(name);
        let url = format!("sqlite:{}", file.display());
        let config = Config { api_key: KEY.into(), ..Config::default() };
        let danmaku = DanmakuConfig {
            segment_s: 1,
            folder: folder.to_owned(),
            video_burst: 3,
            ..DanmakuConfig::default()
        };
        let setup = setup(config, unhurried(), true, &url);
        let server = Server::built(Setup { danmaku: Some(danmaku), ..setup });
        World { server, url, file: Some(file), database: None }
    }

    /// Runs a test on SQLite and, where `UPROAR_TEST_MYSQL` names a server, on that too.
    pub(crate) fn each(settings: &AccountSettings, test: impl Fn(World)) {
        test(World::with(settings.clone()));
        let Ok(server) = std::env::var("UPROAR_TEST_MYSQL") else { return };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("uproar_http_{}_{number}", std::process::id());
        sql(&server, &format!("CREATE DATABASE {name}"));
        let url = format!("{}/{name}", server.trim_end_matches('/'));
        let config = Config { api_key: KEY.into(), ..Config::default() };
        let built = Server::built(setup(config, settings.clone(), true, &url));
        test(World { server: built, url, file: None, database: Some((server, name)) });
    }

    /// Changes the store behind the server's back: to states that take thousands of requests.
    pub(crate) fn sql(&self, statement: &str) {
        sql(&self.url, statement);
    }

    /// A request without any token.
    pub(crate) fn open(&self, method: &str, path: &str, body: &Value) -> Answer {
        let headers = "Content-Type: application/json\r\n";
        self.server.raw(method, path, headers, &body.to_string())
    }

    /// A request with an access token.
    pub(crate) fn with_token(&self, token: &str, method: &str, path: &str, body: &str) -> Answer {
        let headers =
            format!("Authorization: Bearer {token}\r\nContent-Type: application/json\r\n");
        self.server.raw(method, path, &headers, body)
    }

    /// Registers and logs in; what the log-in answered.
    pub(crate) fn enter(&self, user: &str) -> Value {
        let account = json!({"user": user, "password": "correct horse"});
        let made = self.open("POST", "/v1/accounts", &account);
        assert!(made.status == 201 || made.status == 409, "{}", made.body);
        self.log_in(user, "correct horse")
    }

    pub(crate) fn log_in(&self, user: &str, password: &str) -> Value {
        let ask = json!({"user": user, "password": password, "device": "phone"});
        let answer = self.open("POST", "/v1/sessions", &ask);
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.json()
    }
}

/// Cheap passwords, and everybody may register.
fn setup(config: Config, settings: AccountSettings, signs: bool, url: &str) -> Setup {
    let accounts = AccountSettings { hash_memory_kib: 64, registration_open: true, ..settings };
    Setup {
        config,
        pages: PagesConfig::default(),
        admin: None,
        url: Some(url.to_owned()),
        accounts,
        signs,
        quality: QualityConfig::default(),
        danmaku: None,
    }
}

/// What a test may try without being slowed down.
pub(crate) fn unhurried() -> AccountSettings {
    let (address_burst, account_burst) = (1_000_000, 1_000_000);
    AccountSettings { address_burst, account_burst, ..AccountSettings::default() }
}

pub(crate) fn access(session: &Value) -> &str {
    session["access_token"].as_str().unwrap()
}

#[test]
fn a_registration_that_is_repeated_with_its_key_gets_the_same_answer() {
    let world = World::new();
    let register = |key: &str, user: &str, password: &str| {
        let body = json!({"user": user, "password": password}).to_string();
        let headers = format!("Content-Type: application/json\r\nIdempotency-Key: {key}\r\n");
        world.server.raw("POST", "/v1/accounts", &headers, &body)
    };
    let first = register("k1", "alice", "correct horse");
    assert_eq!(first.status, 201, "{}", first.body);
    let again = register("k1", "alice", "correct horse");
    assert_eq!((again.status, &again.body), (201, &first.body));
    register("k1", "alice", "another password").error(409, "CONFLICT");
    register("k1", "bob", "correct horse").error(409, "CONFLICT");
    register("k2", "alice", "correct horse").error(409, "ALREADY_EXISTS");
    for bad in ["a b", &"k".repeat(65)] {
        let text = register(bad, "carol", "correct horse").error(400, "BAD_REQUEST");
        assert!(text.contains("Idempotency-Key"), "{text}");
    }
    world.log_in("alice", "correct horse");
}

#[test]
fn a_session_goes_from_registration_to_log_out() {
    let world = World::new();
    let account = json!({"user": "alice", "password": "correct horse"});
    let made = world.open("POST", "/v1/accounts", &account);
    assert_eq!(made.status, 201, "{}", made.body);
    assert!(made.json()["user_id"].as_str().unwrap().parse::<i64>().unwrap() > 0);
    let again = world.open("POST", "/v1/accounts", &account);
    assert!(again.error(409, "ALREADY_EXISTS").contains("account"));
    let wrong = json!({"user": "alice", "password": "wrong password"});
    let wrong = world.open("POST", "/v1/sessions", &wrong);
    wrong.error(401, "WRONG_PASSWORD");
    let session = world.log_in("alice", "correct horse");
    let refresh = json!({"refresh_token": session["refresh_token"]});
    let next = world.open("POST", "/v1/sessions/refresh", &refresh);
    assert_eq!(next.status, 200, "{}", next.body);
    let lost = world.open("POST", "/v1/sessions/refresh", &refresh);
    assert_eq!(lost.json()["refresh_token"], next.json()["refresh_token"]);
    let devices = world.with_token(access(&session), "GET", "/v1/sessions", "").json();
    assert_eq!(devices["sessions"][0]["device"], "phone");
    assert_eq!(devices["sessions"][0]["current"], true);
    let path = format!("/v1/sessions/{}", session["session"].as_str().unwrap());
    assert_eq!(world.with_token(access(&session), "DELETE", &path, "").status, 204);
    let late = world.with_token(access(&session), "GET", "/v1/sessions", "");
    late.error(401, "SESSION_REVOKED");
    let late = world.open("POST", "/v1/sessions/refresh", &refresh);
    late.error(401, "SESSION_REVOKED");
}

#[test]
fn a_refresh_token_used_twice_ends_the_session_for_both() {
    let world = World::new();
    let session = world.enter("alice");
    let stolen = json!({"refresh_token": session["refresh_token"]});
    let next = world.open("POST", "/v1/sessions/refresh", &stolen).json();
    let next = json!({"refresh_token": next["refresh_token"]});
    assert_eq!(world.open("POST", "/v1/sessions/refresh", &next).status, 200);
    let reused = world.open("POST", "/v1/sessions/refresh", &stolen);
    assert!(reused.error(401, "SESSION_REVOKED").contains("used before"));
    world.open("POST", "/v1/sessions/refresh", &next).error(401, "SESSION_REVOKED");
}

#[test]
fn a_new_password_and_a_log_out_everywhere_end_sessions() {
    let world = World::new();
    let here = world.enter("alice");
    let there = world.enter("alice");
    let body = json!({"old_password": "correct horse", "new_password": "battery staple"});
    let path = "/v1/account/password";
    let changed = world.with_token(access(&here), "PUT", path, &body.to_string());
    assert_eq!(changed.status, 204, "{}", changed.body);
    let late = world.with_token(access(&there), "GET", "/v1/sessions", "");
    late.error(401, "SESSION_REVOKED");
    let third = world.log_in("alice", "battery staple");
    assert_eq!(world.with_token(access(&here), "DELETE", "/v1/sessions", "").status, 204);
    let late = world.with_token(access(&third), "GET", "/v1/sessions", "");
    late.error(401, "SESSION_REVOKED");
}

#[test]
fn too_many_guesses_are_told_when_to_come_back() {
    let world = World::with(AccountSettings { account_burst: 2, ..AccountSettings::default() });
    world.enter("alice");
    let guess = json!({"user": "alice", "password": "wrong password"});
    world.open("POST", "/v1/sessions", &guess).error(401, "WRONG_PASSWORD");
    let slow = world.open("POST", "/v1/sessions", &guess);
    slow.error(429, "SLOW_DOWN");
    let wait = slow.head.lines().find_map(|line| line.strip_prefix("retry-after: "));
    let wait_s: u32 = wait.unwrap().trim().parse().unwrap();
    assert!((1..=10).contains(&wait_s), "{wait_s}");
}

#[test]
fn the_api_key_is_no_access_token_and_an_access_token_no_api_key() {
    let world = World::new();
    let session = world.enter("alice");
    for (method, path) in [("GET", "/v1/sessions"), ("GET", "/v1/friends")] {
        world.with_token(KEY, method, path, "").error(401, "TOKEN_INVALID");
        world.server.raw(method, path, "", "").error(401, "TOKEN_REQUIRED");
        let basic = "Authorization: Basic abc\r\n";
        world.server.raw(method, path, basic, "").error(401, "TOKEN_INVALID");
    }
    world.with_token(access(&session), "GET", "/v1/rooms", "").error(401, "TOKEN_INVALID");
}

#[test]
fn a_node_without_a_store_says_so() {
    let server = Server::keyed();
    for (method, path) in [("GET", "/v1/friends"), ("DELETE", "/v1/sessions")] {
        let text = server.call(method, path, "").error(503, "NO_STORE");
        assert!(text.contains("store.url"), "{text}");
    }
    let body = r#"{"user":"alice","password":"correct horse"}"#;
    let text = server.call("POST", "/v1/accounts", body).error(503, "NO_STORE");
    assert!(text.contains("store.url"), "{text}");
}

#[test]
fn bodies_that_are_not_what_they_should_be_are_told_where() {
    let world = World::new();
    let alice = world.enter("alice");
    for (method, path, body) in [
        ("POST", "/v1/accounts", r#"{"user":"bob"}"#),
        ("POST", "/v1/accounts", r#"{"user":"bob","password":5}"#),
        ("POST", "/v1/accounts", r#"{"user":"bob","password":"12345678","admin":true}"#),
        ("POST", "/v1/accounts", r#"{"user":"bob\u202e","password":"12345678"}"#),
        ("POST", "/v1/accounts", r#"{"user":"bob\u0000","password":"12345678"}"#),
        ("POST", "/v1/sessions", r#"{"user":"bob","password":"12345678","device":"a\nb"}"#),
        ("PUT", "/v1/account/password", r#"{"old_password":"correct horse"}"#),
        ("DELETE", "/v1/sessions/x", ""),
        ("GET", "/v1/friends?limit=201", ""),
        ("GET", "/v1/friends?limit=0", ""),
        ("GET", "/v1/friends?limit=-1", ""),
        ("GET", "/v1/friends?after=x", ""),
        ("GET", "/v1/friends?offset=5", ""),
        ("GET", "/v1/friend-requests?direction=up", ""),
        ("PUT", "/v1/friends/%20bob", ""),
        ("PUT", "/v1/friends/%ff", ""),
        ("PUT", "/v1/friends/alice", ""),
    ] {
        let answer = world.with_token(access(&alice), method, path, body);
        answer.error(400, "BAD_REQUEST");
    }
    let token = json!({"refresh_token": "x"});
    world.open("POST", "/v1/sessions/refresh", &token).error(401, "TOKEN_INVALID");
}

#[test]
fn a_log_in_tells_where_to_connect() {
    let world = World::new();
    let session = world.enter("ann");
    let node = &session["nodes"][0];
    assert_eq!(node["address"], "a.live.example:7400");
    assert_eq!((&node["connections"], &node["closed"]), (&3.into(), &false.into()), "{node}");
    world.server.engine.ready.store(false, Ordering::SeqCst);
    let refresh = json!({"refresh_token": session["refresh_token"]});
    let answer = world.open("POST", "/v1/sessions/refresh", &refresh).json();
    assert_eq!(answer["nodes"][0]["closed"], true);
}
