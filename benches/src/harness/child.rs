//! A process that the harness started: on its cores, steered over stdin, heard over stdout, gone
//! when dropped. Owns the process; knows nothing of what it measures.

use crate::sys;
use serde_json::Value;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child as Process, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How long a process may take to end once told to.
const END_PATIENCE: Duration = Duration::from_secs(20);

/// A process of the harness.
#[derive(Debug)]
pub struct Child {
    name: String,
    process: Process,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Child {
    /// Starts `program` on `cores`; its stderr goes to ours.
    ///
    /// # Errors
    /// No such program.
    pub fn start(program: &Path, arguments: &[String], cores: &[usize]) -> io::Result<Child> {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        sys::confine(&mut command, cores);
        let mut process = command.spawn().map_err(|e| {
            io::Error::new(e.kind(), format!("{}: {e}; build it first", program.display()))
        })?;
        let stdin = process.stdin.take();
        let stdout = process.stdout.take().ok_or_else(|| io::Error::other("no stdout"))?;
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Child { name, process, stdin, lines })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Says a word to it.
    ///
    /// # Errors
    /// It has ended.
    pub fn say(&mut self, word: &str) -> io::Result<()> {
        let stdin = self.stdin.as_mut().ok_or_else(|| io::Error::other("stdin is closed"))?;
        writeln!(stdin, "{word}").and_then(|()| stdin.flush())
    }

    /// Waits for the next line that is an object with this `event`; other lines are passed over.
    ///
    /// # Errors
    /// It ended, or `patience` is over.
    pub fn hear(&mut self, event: &str, patience: Duration) -> io::Result<Value> {
        let until = Instant::now() + patience;
        loop {
            let line =
                match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                    Ok(line) => line,
                    Err(RecvTimeoutError::Timeout) => {
                        let text = format!("{} did not say {event} within {patience:?}", self.name);
                        return Err(io::Error::new(io::ErrorKind::TimedOut, text));
                    }
                    Err(RecvTimeoutError::Disconnected) => {
                        let text = format!("{} ended before it said {event}", self.name);
                        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
                    }
                };
            match serde_json::from_str::<Value>(&line) {
                Ok(value) if value["event"] == event => return Ok(value),
                _ => {}
            }
        }
    }

    /// Asks for the counters now.
    ///
    /// # Errors
    /// It has ended.
    pub fn mark(&mut self) -> io::Result<Value> {
        self.say("mark")?;
        self.hear("mark", Duration::from_secs(30))
    }

    /// Ends it through stdin; its report.
    ///
    /// # Errors
    /// It ended without one.
    pub fn finish(mut self) -> io::Result<Value> {
        self.stdin = None;
        self.hear("report", END_PATIENCE)
    }

    /// Waits until it ends by itself; whether it ended well.
    ///
    /// # Errors
    /// `patience` is over.
    pub fn wait(&mut self, patience: Duration) -> io::Result<bool> {
        let until = Instant::now() + patience;
        loop {
            if let Some(status) = self.process.try_wait()? {
                return Ok(status.success());
            }
            if Instant::now() > until {
                let text = format!("{} did not end within {patience:?}", self.name);
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.stdin = None;
        if self.process.try_wait().is_ok_and(|status| status.is_some()) {
            return;
        }
        // It may end between the check and the signal: then there is nothing to signal.
        let _ = sys::terminate(self.process.id());
        if self.wait(END_PATIENCE).is_err() {
            eprintln!("{} does not end by SIGTERM; killed", self.name);
            let _ = self.process.kill(); // as above
            let _ = self.process.wait();
        }
    }
}

/// A program that lies beside the one that runs (`target/release/NAME`).
///
/// # Errors
/// It is not there: the sentence says how to build it.
pub fn beside(name: &str) -> io::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    if path.is_file() {
        return Ok(path);
    }
    let text = format!("{} is not there; `scripts/bench` builds it", path.display());
    Err(io::Error::new(io::ErrorKind::NotFound, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Child {
        let arguments = ["-c".to_owned(), script.to_owned()];
        let cores = sys::cores_allowed().expect("affinity");
        Child::start(Path::new("/bin/sh"), &arguments, &cores[..1]).expect("sh")
    }

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn a_child_is_heard_and_answers() {
        let mut child = shell(
            r#"echo noise; read word; echo "{\"event\":\"mark\",\"word\":\"$word\"}"
               cat >/dev/null; echo '{"event":"report"}'"#,
        );
        assert_eq!(child.mark().expect("it answers")["word"], "mark");
        assert_eq!(child.finish().expect("it reports")["event"], "report");
    }

    #[test]
    fn a_child_that_ends_or_is_silent_is_told_apart() {
        let mut ended = shell("exit 3");
        let e = ended.hear("stage", PATIENCE).expect_err("it said nothing");
        assert_eq!(e.kind(), io::ErrorKind::UnexpectedEof);
        assert!(!ended.wait(PATIENCE).expect("it ended"), "it ended badly");
        let e =
            shell("exec sleep 60").hear("stage", Duration::from_millis(50)).expect_err("silent");
        assert_eq!(e.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_dropped_child_is_gone() {
        let child = shell("exec sleep 60");
        let pid = child.pid();
        drop(child);
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "the child outlived its handle");
    }
}
