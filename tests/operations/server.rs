//! A real process of one test: a command with none of this machine's own settings, its folder, and
//! what a started server says.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A secret as `uproar token --generate-secret` makes it.
pub(crate) const SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// No test waits for it unless it fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_uproar");

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the repository.
pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Takes this machine's own settings away from a command.
pub(crate) fn bare(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("UPROAR") {
            command.env_remove(name);
        }
    }
    command
}

pub(crate) fn uproar(args: &[&str]) -> Command {
    let mut command = bare(Command::new(PROGRAM));
    command.args(args);
    command
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A folder of one test alone, gone after it.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Folder {
        let name = format!("operations-{name}-{}", std::process::id());
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0); // a leftover does no harm
    }
}

/// A server that has said where it is.
pub(crate) struct Server {
    child: Child,
    /// Where clients connect; engines, where it is a control process.
    pub(crate) clients: String,
    pub(crate) http: String,
}

impl Server {
    /// Starts what prints a start block.
    pub(crate) fn start(mut command: Command) -> Server {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
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
                (Some("clients" | "link"), Some(address)) => clients = Some(address.to_owned()),
                (Some("http"), Some(url)) => break url.strip_prefix("http://").unwrap().to_owned(),
                _ => {}
            }
        };
        std::thread::spawn(move || lines.for_each(drop)); // the block's end is not waited for
        let mut errors = child.stderr.take().unwrap();
        std::thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
        Server { child, clients: clients.unwrap(), http }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The whole answer to a request without a key.
    pub(crate) fn get(&self, path: &str) -> String {
        get(&self.http, path).unwrap()
    }

    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    pub(crate) fn exit_code(&mut self) -> i32 {
        let end = Instant::now() + DEADLINE;
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

/// The whole answer of an HTTP server.
pub(crate) fn get(http: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(http)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
