//! A real server process of one test: started on free ports, ended by its process id.
//!
//! Owns the process, its configuration file and its log. Knows nothing of the protocol.

use crate::stores::Database;
use crate::{DEADLINE, Io};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Numbers the servers of this run: their files and loopback addresses are their own.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// What a control process and its engines know each other by, unless a test says otherwise.
pub(crate) const LINK_KEY: &str = "a-key-of-22-characters";

/// Which process it is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Role {
    /// Everything in one.
    Serve,
    /// Control: its "clients" are engines.
    Control,
    /// An engine of the control at this address.
    Engine(SocketAddr),
}

impl Role {
    fn command(&self) -> &'static str {
        match self {
            Role::Serve => "serve",
            Role::Control => "control",
            Role::Engine(_) => "engine",
        }
    }

    /// The flag of the address it is reached at.
    fn listen(&self) -> &'static str {
        if *self == Role::Control { "--link" } else { "--listen" }
    }
}

pub(crate) struct Server {
    child: Child,
    /// Where clients connect; engines, where it is a control process.
    pub(crate) clients: SocketAddr,
    /// Where backends connect.
    pub(crate) http: SocketAddr,
    /// The `http.api_key` it was given.
    pub(crate) api_key: Option<String>,
    role: Role,
    io: Io,
    config: String,
    files: PathBuf,
    /// Its other process, where the two are one server: `http` is that one's.
    _control: Option<Box<Server>>,
    /// The database it keeps its conversations in, where it has one of its own: gone with it.
    pub(crate) database: Option<Database>,
}

impl Server {
    /// Starts a control process and an engine, as one server.
    pub(crate) fn split(io: Io, config: &str) -> Server {
        let control = Server::control(config);
        let mut engine = control.engine(io, config);
        engine.http = control.http;
        engine._control = Some(Box::new(control));
        engine
    }

    /// Starts a control process.
    pub(crate) fn control(config: &str) -> Server {
        let address = alone();
        Server::launch(Role::Control, Io::Epoll, config, &["--link", &address])
            .unwrap_or_else(|log| panic!("it did not start:\n{log}"))
    }

    /// Starts an engine of this control process, and waits until it is linked.
    pub(crate) fn engine(&self, io: Io, config: &str) -> Server {
        let engine = self.unlinked_engine(io, config);
        engine.is_linked(1);
        engine
    }

    /// Starts an engine of this control process.
    pub(crate) fn unlinked_engine(&self, io: Io, config: &str) -> Server {
        let role = Role::Engine(self.clients);
        Server::launch(role, io, config, &["--shards", "2", "--listen", &alone()])
            .unwrap_or_else(|log| panic!("it did not start:\n{log}"))
    }

    /// Waits until an engine has begun so many sessions with its control, and asks pass.
    pub(crate) fn is_linked(&self, sessions: u32) {
        self.eventually("it is linked", |engine| {
            engine.metric("uproar_link_anew_total", "") >= f64::from(sessions)
                && engine.metric("uproar_link_up", "") == 1.0
        });
    }

    /// Starts with two shards and this configuration file.
    pub(crate) fn start(io: Io, config: &str) -> Server {
        Server::start_with(io, config, &["--shards", "2"])
    }

    /// Starts with one shard: for limits that are counted by shard.
    pub(crate) fn start_one_shard(io: Io, config: &str) -> Server {
        Server::start_with(io, config, &["--shards", "1"])
    }

    /// Starts on an address that no other server of any test uses: its port stays free when it
    /// ends, so that another can take it over.
    pub(crate) fn start_alone(io: Io, config: &str) -> Server {
        Server::start_with(io, config, &["--shards", "2", "--listen", &alone()])
    }

    pub(crate) fn start_with(io: Io, config: &str, flags: &[&str]) -> Server {
        Server::try_start(io, config, flags)
            .unwrap_or_else(|log| panic!("it did not start:\n{log}"))
    }

    /// Starts another one with the same configuration on the same address.
    ///
    /// # Errors
    /// What the process said before it ended by itself.
    pub(crate) fn start_again(&self) -> Result<Server, String> {
        let address = self.clients.to_string();
        let mut flags = vec![self.role.listen(), &address];
        if self.role != Role::Control {
            flags.extend(["--shards", "2"]);
        }
        Server::launch(self.role.clone(), self.io, &self.config, &flags)
    }

    /// As [`Server::start_again`], as often as whoever supervises it would: the ring of a killed
    /// process lets go of its listener a moment after the process has ended.
    pub(crate) fn start_in_its_place(&self) -> Server {
        let end = Instant::now() + DEADLINE;
        loop {
            match self.start_again() {
                Ok(server) => return server,
                Err(log) => assert!(Instant::now() < end, "the port is never free: {log}"),
            }
        }
    }

    /// Starts one.
    ///
    /// # Errors
    /// What the process said before it ended by itself.
    pub(crate) fn try_start(io: Io, config: &str, flags: &[&str]) -> Result<Server, String> {
        Server::launch(Role::Serve, io, config, flags)
    }

    fn launch(role: Role, io: Io, config: &str, flags: &[&str]) -> Result<Server, String> {
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let files = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("e2e-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&files).unwrap();
        let file = files.join("uproar.toml");
        let has_key = role == Role::Serve || config.contains("[link]");
        let link = if has_key { String::new() } else { format!("[link]\nkey = \"{LINK_KEY}\"\n") };
        std::fs::write(&file, format!("{config}{link}")).unwrap();
        let log = std::fs::File::create(files.join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_uproar"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("UPROAR") {
                command.env_remove(name); // this machine's own settings
            }
        }
        command.current_dir(&files); // its store is its own
        command.arg(role.command()).arg("--config").arg(&file);
        command.args(["--http", "127.0.0.1:0", "--log", "info"]);
        if role != Role::Control {
            command.args(["--io", io.name()]);
        }
        if let Role::Engine(control) = role {
            command.args(["--control", &format!("http://{control}")]);
        }
        if !flags.contains(&role.listen()) {
            command.args([role.listen(), "127.0.0.1:0"]);
        }
        command.args(flags).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().unwrap();
        let lines = lines_of(&mut child);
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let api_key = config.lines().find_map(|line| line.strip_prefix("api_key = "));
        let mut server = Server {
            child,
            clients: nowhere,
            http: nowhere,
            api_key: api_key.map(|key| key.trim_matches('"').to_owned()),
            role,
            io,
            config: config.to_owned(),
            files,
            _control: None,
            database: None,
        };
        match server.read_addresses(&lines) {
            Some((clients, http)) => {
                (server.clients, server.http) = (clients, http);
                Ok(server)
            }
            None => {
                let code = server.exit_code();
                assert_eq!(code, 1, "a failed start has exit code 1: {}", server.log());
                Err(server.log())
            }
        }
    }

    /// Reads the block a started server prints; `None` where it ended instead.
    fn read_addresses(&self, lines: &Receiver<String>) -> Option<(SocketAddr, SocketAddr)> {
        let end = Instant::now() + DEADLINE;
        let mut clients = None;
        loop {
            let line = match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => line,
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => panic!("it does not start: {}", self.log()),
            };
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some("clients" | "link"), Some(address)) => clients = address.parse().ok(),
                (Some("http"), Some(url)) => {
                    let http = url.strip_prefix("http://")?.parse().ok()?;
                    return Some((clients?, http));
                }
                _ => {}
            }
        }
    }

    /// What it wrote to standard error.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.files.join("log")).unwrap_or_default()
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name: TERM, INT, KILL.
    pub(crate) fn signal(&self, name: &str) {
        // The shell's own `kill`: the program of that name is missing on small systems.
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Ends it without a word, as a crash of the machine would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    pub(crate) fn exit_code(&mut self) -> i32 {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().expect("an exit code, not a signal");
            }
            assert!(Instant::now() < end, "it does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(10)); // there is no wait with a deadline
        }
    }
}

/// An address that no other server of any test uses, with any port.
fn alone() -> String {
    let number = STARTED.fetch_add(1, Ordering::Relaxed);
    let process = std::process::id();
    // Within 127.128.0.0/9, apart from 127.0.0.1 of everybody else.
    let (high, low) = (128 + number / 250 % 128, number % 250);
    format!("127.{high}.{low}.{}:0", 1 + process % 250)
}

/// Standard output, line by line, read to its end so that the process never blocks on it.
fn lines_of(child: &mut Child) -> Receiver<String> {
    let (sender, receiver) = channel();
    let output = BufReader::new(child.stdout.take().unwrap());
    std::thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            let _ = sender.send(line); // nobody listens any more once it has started
        }
    });
    receiver
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill(); // gone already, where the test ended it
        let _ = self.child.wait();
        let log = self.log();
        if std::thread::panicking() {
            eprintln!("the server's log:\n{log}");
        } else {
            let _ = std::fs::remove_dir_all(&self.files); // a leftover does no harm
            assert!(!log.contains("panicked at"), "a thread of the server panicked:\n{log}");
        }
    }
}
