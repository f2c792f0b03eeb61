//! A MariaDB of one test alone, which it may stop, kill and start again: a process by its id, and a
//! line to it that breaks where a test wants it to.

use crate::{DEADLINE, stores};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

static STARTED: AtomicU32 = AtomicU32::new(0);

pub(crate) struct Maria {
    folder: PathBuf,
    /// Where it listens, whichever process it is.
    url: String,
}

impl Maria {
    /// `None` where no test runs on MariaDB.
    pub(crate) fn start() -> Option<Maria> {
        stores::mariadb()?;
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("maria-{}-{number}", std::process::id()));
        let mut maria = Maria { folder, url: String::new() };
        maria.url = maria.script("start");
        Some(maria)
    }

    fn script(&self, word: &str) -> String {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/mariadb");
        let done = Command::new(script).arg(word).arg(&self.folder).output().unwrap();
        assert!(done.status.success(), "{word}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    /// A database on it, made now.
    pub(crate) fn database(&self, name: &str) -> String {
        stores::Rows::open(&self.url).execute(&format!("CREATE DATABASE {name}"));
        format!("{}/{name}", self.url)
    }

    /// Sends its process a signal by name: STOP, CONT, KILL.
    pub(crate) fn signal(&self, name: &str) {
        let pid = std::fs::read_to_string(self.folder.join("pid")).unwrap();
        let kill = format!("kill -{name} {}", pid.trim());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Ends it without a word.
    pub(crate) fn kill(&self) {
        let pid = std::fs::read_to_string(self.folder.join("pid")).unwrap();
        self.signal("KILL");
        let status = format!("/proc/{}/status", pid.trim());
        let end = Instant::now() + DEADLINE;
        // Not this process's child: there is no other wait.
        while std::fs::read_to_string(&status).is_ok_and(|text| !text.contains("State:\tZ")) {
            assert!(Instant::now() < end, "mariadbd outlives SIGKILL");
            thread::sleep(Duration::from_millis(5));
        }
        let _ = std::fs::remove_file(self.folder.join("pid"));
    }

    /// Starts it again, as whoever supervises it would.
    pub(crate) fn again(&self) {
        assert_eq!(self.script("again"), self.url);
    }
}

impl Drop for Maria {
    fn drop(&mut self) {
        let pid = std::fs::read_to_string(self.folder.join("pid")).unwrap_or_default();
        // Stopped by a test that failed: it could not end.
        let _ = Command::new("sh").args(["-c", &format!("kill -CONT {}", pid.trim())]).output();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/mariadb");
        let _ = Command::new(script).arg("stop").arg(&self.folder).output();
    }
}

/// What becomes of the next COMMIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The connection breaks, and the server never hears of it.
    BeforeIt,
    /// The server carries it out; the connection breaks before its answer.
    BeforeItsAnswer,
    /// The server carries it out; the connection stands, and its answer never comes.
    ForEver,
}

/// A line to a database server.
pub(crate) struct Line {
    address: SocketAddr,
    next: Arc<Mutex<Option<Cut>>>,
}

/// COM_QUERY, and what follows it.
const COMMIT: &[u8] = b"\x03COMMIT";

impl Line {
    pub(crate) fn to(server: SocketAddr) -> Line {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let next: Arc<Mutex<Option<Cut>>> = Arc::default();
        let cut = Arc::clone(&next);
        // Ends with the test's process.
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(server) else { continue };
                pass(client, server, &cut);
            }
        });
        Line { address, next }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next COMMIT meets this.
    pub(crate) fn cut(&self, cut: Cut) {
        *self.next.lock().unwrap() = Some(cut);
    }

    /// Whether a COMMIT has met it.
    pub(crate) fn has_cut(&self) -> bool {
        self.next.lock().unwrap().is_none()
    }
}

/// Passes bytes both ways until one side ends.
fn pass(client: TcpStream, server: TcpStream, next: &Arc<Mutex<Option<Cut>>>) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true)); // only delays where it fails
    let met: Arc<Mutex<Option<Cut>>> = Arc::default();
    let (from, to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let has_met = Arc::clone(&met);
    thread::spawn(move || {
        copy(from, &to, |_| match *has_met.lock().unwrap() {
            None => Passes::On,
            Some(Cut::ForEver) => Passes::Nothing,
            Some(_) => Passes::AwayForGood,
        });
    });
    let next = Arc::clone(next);
    thread::spawn(move || {
        copy(client, &server, |bytes| {
            if bytes.windows(COMMIT.len()).any(|window| window == COMMIT) {
                *met.lock().unwrap() = next.lock().unwrap().take();
            }
            match *met.lock().unwrap() {
                Some(Cut::BeforeIt) => Passes::AwayForGood,
                _ => Passes::On,
            }
        });
    });
}

/// What becomes of some bytes.
enum Passes {
    On,
    Nothing,
    AwayForGood,
}

/// Copies until one side ends; then both are closed.
fn copy(mut from: TcpStream, mut to: &TcpStream, passes: impl Fn(&[u8]) -> Passes) {
    let mut bytes = [0; 65_536];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        match passes(&bytes[..count]) {
            Passes::On if to.write_all(&bytes[..count]).is_ok() => {}
            Passes::Nothing => {}
            Passes::On | Passes::AwayForGood => break,
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both)); // closed already
}
