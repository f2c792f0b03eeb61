//! The command line from outside: exit codes, what is printed where, starting and ending.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// A command with none of this machine's own settings.
fn uproar(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_uproar"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("UPROAR") {
            command.env_remove(name);
        }
    }
    command.args(args);
    command
}

fn output(args: &[&str]) -> Output {
    uproar(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A file of this test alone.
fn file(name: &str, content: &str) -> PathBuf {
    let folder =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

#[test]
fn a_wrong_command_line_or_configuration_exits_with_2() {
    let unknown = file("unknown.toml", "[engine]\nshardz = 2\n");
    let unknown = unknown.to_str().unwrap();
    for args in [
        &["serve", "--shards", "many"][..],
        &["nothing"],
        &["serve", "--config", "/does/not/exist.toml"],
        &["serve", "--config", unknown],
        &["serve", "--set", "engine.shards"],
        &["serve", "--set", "engine.rooms.deadline_ms=5"],
        &["serve", "--listen", "0.0.0.0:0"],
        &["serve", "--http", "0.0.0.0:0"],
        &["config", "check", unknown],
        &["control"],
        &["engine"],
        &["engine", "--set", "link.key=0123456789abcdef", "--control", "10.0.0.1:7470"],
        &["token", "--user", "alice"],
        &["token", "--user", "alice", "--hs256-secret", "c2hvcnQ="],
        &["token", "--user", "alice", "--ttl", "1", "--hs256-secret", SECRET],
        &["backup"],
        &["backup", "file", "--set", "store.url="],
        &["restore", "file", "--force", "--check"],
        &["migrate", "--set", "store.period_days=0"],
        &["migrate", "--set", "store.retention_days=36501"],
    ] {
        let out = output(args);
        assert_eq!(out.status.code(), Some(2), "{args:?}: {}", text(&out.stderr));
        assert!(!out.stderr.is_empty(), "{args:?} says why");
        assert!(out.stdout.is_empty(), "{args:?} prints nothing else");
    }
}

#[test]
fn an_unknown_key_is_named_with_its_file_and_line() {
    let path =
        file("named.toml", "[engine]\nlisten = \"127.0.0.1:0\"\n[engine.rooms]\ndeadlin_ms = 5\n");
    let out = output(&["config", "check", path.to_str().unwrap()]);
    let error = text(&out.stderr);
    for part in ["named.toml", "line 4", "deadlin_ms", "`deadline_ms`"] {
        assert!(error.contains(part), "{part:?} is missing in: {error}");
    }
}

#[test]
fn the_example_file_is_valid() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/uproar.toml");
    let out = output(&["config", "check", path]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    assert!(text(&out.stdout).ends_with("uproar.toml: valid\n"));
}

#[test]
fn what_is_in_force_can_be_shown() {
    let path = file("show.toml", "[engine]\nshards = 2\nping_every_s = 30\n");
    let out = uproar(&["config", "show", "--set", "engine.shards=4"])
        .env("UPROAR_CONFIG", path)
        .env("UPROAR__ENGINE__SHARDS", "3")
        .env("UPROAR__HTTP__API_KEY", "a-key-of-20-letters!")
        .output()
        .unwrap();
    let shown = text(&out.stdout);
    assert!(shown.contains("shards = 4\n") && shown.contains("ping_every_s = 30\n"), "{shown}");
    assert!(!shown.contains("a-key-of-20-letters!"), "{shown}");
}

#[test]
fn a_token_is_alone_on_standard_output() {
    let path = file("token.toml", &format!("[engine.tokens]\nhs256_secret = \"{SECRET}\"\n"));
    let config = path.to_str().unwrap();
    let args =
        ["token", "--user", "alice", "--rooms", "a,b*", "--publish", "chat,gift", "--moderate"];
    let out = output(&[&args[..], &["--ttl", "2h", "--config", config]].concat());
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let token = text(&out.stdout);
    assert_eq!(token.trim_end().split('.').count(), 3, "{token}");
    let direct = output(&["token", "--user", "alice", "--hs256-secret", SECRET]);
    assert_eq!(direct.status.code(), Some(0));
    // The header of an HS256 token is always the same.
    let header = |token: &str| token.split('.').next().unwrap().to_owned();
    assert_eq!(header(&token), header(&text(&direct.stdout)));
}

#[test]
fn a_token_says_which_rooms_are_followed() {
    let args = ["token", "--user", "alice", "--hs256-secret", SECRET];
    let follows = ["--follows", "stage=1760000000", "--follows", "other"];
    let out = output(&[&args[..], &follows].concat());
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let token = text(&out.stdout);
    let mut rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::HS256);
    rules.validate_aud = false;
    let key = jsonwebtoken::DecodingKey::from_base64_secret(SECRET).unwrap();
    let claims = jsonwebtoken::decode::<serde_json::Value>(token.trim_end(), &key, &rules);
    let follows = &claims.unwrap().claims["follows"];
    assert_eq!(*follows, serde_json::json!({"stage": 1_760_000_000, "other": 0}));
    let wrong = output(&[&args[..], &["--follows", "stage=7d"]].concat());
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("seconds since 1970"), "{}", text(&wrong.stderr));
}

#[test]
fn a_full_standard_output_is_an_error_and_no_panic() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let out = uproar(&["config", "show"]).stdout(full).output().unwrap();
    let error = text(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{error}");
    assert!(error.starts_with("error: standard output cannot be written"), "{error}");
}

#[test]
fn a_variable_that_sets_nothing_is_warned_of() {
    let out = uproar(&["config", "check"]).env("UPROAR_ENGINE_SHARDS", "2").output().unwrap();
    let warning = text(&out.stderr);
    assert_eq!(out.status.code(), Some(0), "{warning}");
    assert!(warning.contains("UPROAR_ENGINE_SHARDS sets nothing"), "{warning}");
    assert!(warning.contains("as in UPROAR__ENGINE__SHARDS"), "{warning}");
}

#[test]
fn without_a_key_the_error_tells_how_to_get_one() {
    let error = text(&output(&["token", "--user", "alice"]).stderr);
    assert!(error.contains("uproar token --generate-secret"), "{error}");
    let out = output(&["token", "--generate-secret"]);
    assert_eq!(out.status.code(), Some(0));
    let path = file("generated.toml", &text(&out.stdout));
    let with = output(&["token", "--user", "alice", "--config", path.to_str().unwrap()]);
    assert_eq!(with.status.code(), Some(0), "{}", text(&with.stderr));
}

/// A folder of one test alone, gone after it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("cli-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// The setting of a store in it.
    fn store(&self) -> String {
        format!("store.url=sqlite:{}", self.path("store.db"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0); // a leftover does no harm
    }
}

/// What a command said, which ended with this code.
fn ends(out: &Output, code: i32) -> String {
    assert_eq!(out.status.code(), Some(code), "{}{}", text(&out.stdout), text(&out.stderr));
    text(if code == 0 { &out.stdout } else { &out.stderr })
}

#[test]
fn a_store_is_migrated_copied_and_restored() {
    let folder = Folder::new("store");
    let (store, file) = (folder.store(), folder.path("backup"));
    let run = |args: &[&str]| output(&[args, &["--set", &store]].concat());
    let told = ends(&run(&["backup", &file]), 1);
    assert!(told.contains("there is no such file, so no store"), "{told}");
    let told = ends(&run(&["migrate"]), 0);
    assert!(told.contains("migrations were applied now: store_facts, users"), "{told}");
    let told = ends(&run(&["migrate"]), 0);
    assert!(told.starts_with("the store is up to date: it has all"), "{told}");
    let told = ends(&run(&["backup", &file]), 0);
    assert!(told.starts_with(&format!("{file}: ")) && told.ends_with(" bytes\n"), "{told}");
    let told = ends(&run(&["backup", &file]), 1);
    assert!(told.contains("is there already; --force replaces it"), "{told}");
    ends(&run(&["backup", &file, "--force"]), 0);
    let told = ends(&run(&["restore", &file, "--check"]), 0);
    assert!(told.contains("a good backup"), "{told}");
    // Nobody is in it, so nothing is lost.
    let told = ends(&run(&["restore", &file]), 0);
    assert!(told.contains("has a new generation"), "{told}");
    let told = ends(&run(&["restore", &folder.path("store.db")]), 1);
    assert!(told.contains("is no backup of uproar"), "{told}");
    let names: Vec<String> = std::fs::read_dir(&folder.0)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(!names.iter().any(|name| name.contains("tmp") || name.contains("restoring")));
}

#[test]
fn while_a_store_is_restored_nobody_else_has_it() {
    let folder = Folder::new("held");
    let (store, secret) = (folder.store(), format!("engine.tokens.hs256_secret={SECRET}"));
    ends(&output(&["migrate", "--set", &store]), 0);
    // As a restore does.
    let lock = std::fs::File::open(folder.path("store.db-lock")).unwrap();
    lock.lock().unwrap();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--set", &secret];
    for args in [&serve[..], &["migrate"], &["backup", &folder.path("backup")]] {
        let told = ends(&output(&[args, &["--set", &store]].concat()), 1);
        assert!(told.contains("a restore is under way"), "{args:?}: {told}");
    }
}

#[test]
fn a_full_disk_is_told_and_leaves_no_half_of_a_backup() {
    let folder = Folder::new("full");
    let (store, file) = (folder.store(), folder.path("backup"));
    ends(&output(&["migrate", "--set", &store]), 0);
    // No file may grow beyond 64 KiB; writing on is an error and no signal.
    let limited = "trap '' XFSZ; ulimit -f 128; exec \"$0\" \"$@\"";
    let mut shell = Command::new("sh");
    shell.args(["-c", limited, env!("CARGO_BIN_EXE_uproar"), "backup", &file, "--set", &store]);
    let told = ends(&shell.output().unwrap(), 1);
    assert!(told.contains("backup.tmp: ") && told.contains("disk"), "{told}");
    assert!(!PathBuf::from(&file).exists() && !PathBuf::from(format!("{file}.tmp")).exists());
    ends(&output(&["backup", &file, "--set", &store]), 0);
}

/// A server on free ports.
struct Server {
    child: Child,
    clients: String,
    http: String,
}

impl Server {
    fn start(args: &[&str]) -> Server {
        // Live rooms alone: no store and no password is left behind.
        let store = ["--set", "store.url=", "--set", "admin.password_file="];
        let base = ["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--shards", "1"];
        let mut command = uproar(&[&base[..], &store, args].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut clients = None;
        let http = loop {
            let Some(line) = lines.next() else {
                let out = child.wait_with_output().unwrap();
                panic!("it did not start: {}", text(&out.stderr));
            };
            let line = line.unwrap();
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some("clients"), Some(address)) => clients = Some(address.to_owned()),
                (Some("http"), Some(url)) => break url.strip_prefix("http://").unwrap().to_owned(),
                _ => {}
            }
        };
        std::thread::spawn(move || lines.for_each(drop)); // the block's end is not waited for
        Server { child, clients: clients.unwrap(), http }
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.http).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn signal(&self, name: &str) {
        // Of the shell: a small system has no program of that name.
        let kill = format!("kill -s {name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    fn exit_code(&mut self) -> i32 {
        let end = Instant::now() + Duration::from_secs(30);
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().expect("an exit code, not a signal");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("it did not end");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill(); // gone already, where the test went well
        let _ = self.child.wait();
    }
}

#[test]
fn it_serves_both_ports_and_ends_with_0_when_told_to() {
    let mut server = Server::start(&[]);
    assert!(server.get("/readyz").starts_with("HTTP/1.1 200"));
    assert!(server.get("/metrics").contains("process_resident_memory_bytes"));
    assert!(server.get("/v1/node").contains("\"shards\":1"));
    drop(TcpStream::connect(&server.clients).unwrap());
    server.signal("TERM");
    assert_eq!(server.exit_code(), 0);
    assert!(TcpStream::connect(&server.http).is_err());
}

/// A length or tag as protobuf writes it.
fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A connection that said hello over binary TCP, and the first frame it got.
fn hello(server: &Server, token: &str) -> (TcpStream, Vec<u8>) {
    let with_length = |bytes: Vec<u8>| [varint(bytes.len()), bytes].concat();
    let token = if token.is_empty() {
        Vec::new()
    } else {
        [vec![0x0a], with_length(token.as_bytes().to_vec())].concat() // connect.token is field 1
    };
    let frame = [vec![0x0a], with_length(token)].concat(); // and connect field 1 of the frame
    let mut stream = TcpStream::connect(&server.clients).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(&[b"UPR1".to_vec(), with_length(frame)].concat()).unwrap();
    let mut length = [0; 1];
    stream.read_exact(&mut length).unwrap();
    assert!(length[0] < 0x80, "a first frame is short");
    let mut answer = vec![0; usize::from(length[0])];
    stream.read_exact(&mut answer).unwrap();
    (stream, answer)
}

/// A guest that was welcomed.
fn guest(server: &Server) -> TcpStream {
    let (stream, answer) = hello(server, "");
    assert_eq!(answer[0], 0x0a, "field 1 of the server's frame is welcome");
    stream
}

#[test]
fn a_client_gets_in_at_once_after_the_start() {
    for _ in 0..5 {
        drop(guest(&Server::start(&[])));
    }
}

#[test]
fn a_printed_token_opens_the_door_and_its_absence_does_not() {
    let path = file("door.toml", &format!("[engine.tokens]\nhs256_secret = \"{SECRET}\"\n"));
    let config = path.to_str().unwrap();
    let server = Server::start(&["--config", config]);
    let token = text(&output(&["token", "--user", "alice", "--config", config]).stdout);
    let (_, welcome) = hello(&server, token.trim_end());
    assert_eq!(welcome[0], 0x0a, "welcome");
    let names_alice = welcome.windows(5).any(|bytes| bytes == b"alice");
    assert!(names_alice, "the welcome names the token's user");
    let (_, error) = hello(&server, "");
    let names_code = error.windows(14).any(|bytes| bytes == b"TOKEN_REQUIRED");
    assert!(error[0] == 0x3a && names_code, "field 7 is error");
}

#[test]
fn a_drain_waits_for_clients_and_says_so_meanwhile() {
    let mut server = Server::start(&[]);
    let client = guest(&server);
    server.signal("TERM");
    let end = Instant::now() + Duration::from_secs(20);
    while !server.get("/readyz").starts_with("HTTP/1.1 503") {
        assert!(Instant::now() < end, "readiness tells of the drain");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(server.get("/healthz").starts_with("HTTP/1.1 200"));
    assert!(server.child.try_wait().unwrap().is_none(), "the client is still there");
    drop(client);
    assert_eq!(server.exit_code(), 0);
}

#[test]
fn a_drain_waits_no_longer_than_it_may() {
    let mut server = Server::start(&["--set", "engine.drain_ms_max=300"]);
    let _stays = guest(&server);
    server.signal("INT");
    assert_eq!(server.exit_code(), 0);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let mut server = Server::start(&[]);
        let _stays = guest(&server);
        server.signal("TERM");
        while !server.get("/readyz").starts_with("HTTP/1.1 503") {
            std::thread::sleep(Duration::from_millis(10));
        }
        server.signal(name);
        assert_eq!(server.exit_code(), code);
    }
}

#[test]
fn a_port_that_is_taken_exits_with_1_and_names_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--http", "--listen"] {
        let other = if flag == "--http" { "--listen" } else { "--http" };
        let args = ["serve", flag, &address, other, "127.0.0.1:0", "--shards", "1"];
        let child = uproar(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut server = Server { child, clients: String::new(), http: String::new() };
        assert_eq!(server.exit_code(), 1, "{args:?}");
        let mut error = String::new();
        server.child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        assert!(error.contains(&address), "{error}");
    }
}
