//! `uproar doctor` from outside: exit codes, and that it names what is wrong on a real host.

use crate::server::{Folder, SECRET, Server, text, uproar};
use std::net::TcpListener;
use std::process::Output;

/// What is right of a host's own on every machine that runs these tests.
const FREE: [&str; 4] = ["--set", "engine.listen=127.0.0.1:0", "--set", "http.listen=127.0.0.1:0"];

fn doctor(args: &[&str]) -> Output {
    uproar(&[&["doctor"], &FREE[..], args].concat()).output().unwrap()
}

/// The verdicts by name; and the code, which is that of the verdicts.
fn verdicts(args: &[&str]) -> serde_json::Value {
    let out = doctor(&[args, &["--json"]].concat());
    let told: serde_json::Value = serde_json::from_slice(&out.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}{}", text(&out.stdout), text(&out.stderr)));
    let code = i32::from(told["fail"].as_u64().unwrap() > 0);
    assert_eq!(out.status.code(), Some(code), "{told:#}");
    for check in told["checks"].as_array().unwrap() {
        let has_remedy = check["remedy"] != "";
        assert_eq!(has_remedy, check["verdict"] != "ok", "a remedy, or none: {check:#}");
    }
    told
}

/// One check, with its verdict.
fn check<'a>(told: &'a serde_json::Value, name: &str, verdict: &str) -> &'a str {
    let all = told["checks"].as_array().unwrap();
    let found = all.iter().find(|check| check["name"] == name);
    let found = found.unwrap_or_else(|| panic!("{name} is not looked at: {told:#}"));
    assert_eq!(found["verdict"], verdict, "{found:#}");
    found["reason"].as_str().unwrap()
}

#[test]
fn one_line_a_check_and_the_code_tells_of_failures_alone() {
    let folder = Folder::new("doctor");
    let url = format!("store.url=sqlite:{}", folder.path("store.db"));
    let secret = format!("engine.tokens.hs256_secret={SECRET}");
    let args = ["--set", &url, "--set", &secret, "--connections", "100"];
    let told = verdicts(&args);
    assert_eq!(told["fail"], 0, "{told:#}");
    for name in ["configuration", "engine.listen", "http.listen", "open files", "keys", "store"] {
        check(&told, name, "ok");
    }
    assert!(check(&told, "store", "ok").contains("no file yet"));
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 0, "it leaves nothing behind");
    let out = doctor(&args);
    let lines = text(&out.stdout);
    let checks = told["checks"].as_array().unwrap().len();
    assert_eq!((out.status.code(), lines.lines().count()), (Some(0), checks + 1), "{lines}");
    assert_eq!(uproar(&["doctor", "--connections", "0"]).output().unwrap().status.code(), Some(2));
}

#[test]
fn a_held_port_is_named_with_its_holder() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap().to_string();
    for (key, args) in [
        ("engine.listen", &[][..]),
        ("http.listen", &[]),
        ("link.listen", &["--role", "control", "--set", "link.key=a-key-of-22-characters"]),
    ] {
        let told = verdicts(&[&["--set", &format!("{key}={address}")], args].concat());
        let reason = check(&told, key, "fail");
        let pid = format!("(pid {})", std::process::id());
        assert!(reason.contains(&address) && reason.contains(&pid), "{reason}");
    }
}

#[test]
fn a_server_under_way_is_no_defect_of_its_host() {
    let serve = ["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--shards", "2"];
    let server = Server::start(uproar(&[&serve[..], &["--set", "store.url="]].concat()));
    let (clients, http) =
        (format!("engine.listen={}", server.clients), format!("http.listen={}", server.http));
    let told = verdicts(&["--set", &clients, "--set", &http]);
    let pid = format!("uproar (pid {})", server.pid());
    for key in ["engine.listen", "http.listen"] {
        let reason = check(&told, key, "warn");
        assert!(reason.contains(&pid), "{reason}");
    }
}

#[test]
fn a_missing_folder_and_a_store_that_is_none_are_told() {
    let folder = Folder::new("doctor-store");
    let secret = format!("engine.tokens.hs256_secret={SECRET}");
    let with = |url: &str| verdicts(&["--set", &secret, "--set", &format!("store.url={url}")]);
    let missing = folder.path("nowhere/store.db");
    let told = with(&format!("sqlite:{missing}"));
    let reason = check(&told, "disk", "fail");
    assert!(reason.contains(&folder.path("nowhere")) && reason.contains("not exist"), "{reason}");
    let text = folder.path("text.db");
    std::fs::write(&text, "no database, and long enough not to be an empty one").unwrap();
    let told = with(&format!("sqlite:{text}"));
    assert!(check(&told, "store", "fail").contains("not a database"));
    let told = with("mysql://u:a-password@127.0.0.1:1/d");
    assert!(check(&told, "store", "fail").contains("mysql://u:***@127.0.0.1:1/d"));
}

#[test]
fn a_wrong_configuration_is_one_of_the_checks() {
    let told = verdicts(&["--set", "engine.rooms.deadline_ms=5"]);
    assert!(check(&told, "configuration", "fail").contains("engine.rooms.deadline_ms"));
    check(&told, "http.listen", "ok");
    let told = verdicts(&["--set", "engine.shardz=2"]);
    assert!(check(&told, "configuration", "fail").contains("shardz"));
    check(
        &told,
        "clock",
        told["checks"].as_array().unwrap().last().unwrap()["verdict"].as_str().unwrap(),
    );
    let told = verdicts(&["--connections", "900000000"]);
    assert!(check(&told, "open files", "fail").contains("wanted are 900000000"));
}

#[test]
fn without_certificates_https_is_a_defect_and_http_is_none() {
    let bare = |args: &[&str]| {
        let mut command = uproar(args);
        command.env("SSL_CERT_FILE", "/dev/null").env("SSL_CERT_DIR", "/nowhere");
        command
    };
    let hook = |url: &str| {
        format!(
            "webhooks=[{{name=\"hook\",url=\"{url}\",secret=\"{SECRET}\",\
             events=[\"message.after\"]}}]"
        )
    };
    let secret = format!("engine.tokens.hs256_secret={SECRET}");
    let (plain, tls) = (hook("http://127.0.0.1:9/"), hook("https://127.0.0.1:9/"));
    let folder = Folder::new("certificates");
    let url = format!("store.url=sqlite:{}", folder.path("store.db"));
    let with = |hook| ["--set", &secret, "--set", &url, "--set", hook];
    let look = |hook| {
        let args = [&["doctor", "--json"], &FREE[..], &with(hook)].concat();
        let out = bare(&args).output().unwrap();
        serde_json::from_slice::<serde_json::Value>(&out.stdout).unwrap()
    };
    let reason = check(&look(&tls), "certificates", "fail").to_owned();
    assert!(reason.contains("webhooks") && reason.contains("ca-certificates"), "{reason}");
    assert!(!look(&plain).to_string().contains("ca-certificates"), "nothing needs them");
    // And so it is: one does not start, and says the same.
    let serve = ["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--shards", "2"];
    let out = bare(&[&serve[..], &with(&tls)].concat()).output().unwrap();
    let error = text(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{error}");
    assert!(error.contains("webhook \"hook\"") && error.contains("ca-certificates"), "{error}");
    let server = Server::start(bare(&[&serve[..], &with(&plain)].concat()));
    let api = format!("http://{}", server.http);
    let listed = bare(&["admin", "--api", &api, "users", "list"]).output().unwrap();
    assert_eq!(listed.status.code(), Some(0), "{}", text(&listed.stderr));
    let key = ["--set", "link.key=a-key-of-22-characters", "--control", "http://127.0.0.1:9"];
    let engine = [&["engine"], &serve[1..], &["--set", &secret], &key].concat();
    drop(Server::start(bare(&engine)));
}
