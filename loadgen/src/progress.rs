//! How far the run has come, for whoever waits: a bar on a terminal, plain lines elsewhere.
//!
//! Owns standard error. Never shows a figure that is a result.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write as _};
use std::time::{Duration, Instant};

/// How often a plain line comes.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// The display of one phase after the other.
pub(crate) struct Progress {
    terminal: bool,
    bar: ProgressBar,
    phase: &'static str,
    total: u64,
    last_line: Option<Instant>,
}

/// Progress is a courtesy: where it cannot be told, the run goes on.
fn line(words: &str) {
    let _ = writeln!(std::io::stderr(), "{words}");
}

impl Progress {
    pub(crate) fn new() -> Progress {
        let terminal = std::io::stderr().is_terminal();
        Progress { terminal, bar: ProgressBar::hidden(), phase: "", total: 0, last_line: None }
    }

    /// A phase begins; `total` is what `show` counts up to.
    pub(crate) fn phase(&mut self, phase: &'static str, total: u64) {
        self.end();
        (self.phase, self.total, self.last_line) = (phase, total, None);
        if self.terminal {
            self.bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{prefix:>10} [{bar:32}] {msg}");
            self.bar.set_style(
                style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "),
            );
            self.bar.set_prefix(phase);
        }
    }

    /// The phase has come to `done`.
    pub(crate) fn show(&mut self, done: u64, words: &str) {
        if self.terminal {
            self.bar.set_position(done.min(self.total));
            self.bar.set_message(words.to_owned());
        } else if self.last_line.is_none_or(|at| at.elapsed() >= LINE_EVERY) {
            self.last_line = Some(Instant::now());
            line(&format!("{:>10}  {words}", self.phase));
        }
    }

    /// A line that stays.
    pub(crate) fn say(&self, words: &str) {
        if self.terminal {
            self.bar.println(words);
        }
        if !self.terminal || self.bar.is_hidden() || self.bar.is_finished() {
            line(words);
        }
    }

    /// The phase is over.
    pub(crate) fn end(&mut self) {
        self.bar.finish_and_clear();
    }
}
