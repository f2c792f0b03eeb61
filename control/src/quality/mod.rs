//! Quality of the stream, as its viewers and whoever pushes it report it.
//!
//! Owns what is measured, the windows it is counted in, percentiles and alarms. Everything but
//! `keep` is pure: time is an argument, and nothing waits. Knows no HTTP and no SQL, and never
//! holds up the live path: what a connection reports is handed over, and may be lost.

pub(crate) mod alarm;
pub(crate) mod cell;
pub(crate) mod config;
pub(crate) mod door;
mod figures;
pub(crate) mod ingest;
pub(crate) mod keep;
pub(crate) mod networks;
pub(crate) mod query;
pub(crate) mod report;
pub(crate) mod row;
pub(crate) mod sketch;
pub(crate) mod sources;
pub(crate) mod windows;

use alarm::{Alarm, Alarms};
use cell::Cell;
use config::QualityConfig;
use ingest::Sessions;
use networks::Networks;
use report::{Key, Report};
use sources::Source;
use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};
use windows::{Level, Windows};

/// Everything that is known of the quality here.
pub(crate) struct Quality {
    config: QualityConfig,
    networks: Networks,
    board: Mutex<Board>,
    /// Names what this process stores: random, so another one after each start.
    node: i64,
    /// Reports that break a rule, or came too often.
    pub(crate) refused: AtomicU64,
    stored: AtomicU64,
    removed: AtomicU64,
    failures: AtomicU64,
    /// Answers to reports of connections that found no room.
    untold: AtomicU64,
}

pub(crate) struct Board {
    pub(crate) sessions: Sessions,
    pub(crate) windows: Windows,
    pub(crate) alarms: Alarms,
    /// A fine window was closed since alarms were looked at.
    is_over: bool,
}

/// What became of the reports of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) taken: u32,
    pub(crate) repeated: u32,
}

impl Quality {
    pub(crate) fn new(config: QualityConfig, now_ms: i64) -> Quality {
        let board = Board {
            sessions: Sessions::new(config.sessions_max, now_ms),
            windows: Windows::new(&config, now_ms),
            alarms: Alarms::new(&config),
            is_over: false,
        };
        Quality {
            config,
            networks: Networks::default(),
            board: Mutex::new(board),
            node: crate::ids::random_id(),
            refused: AtomicU64::new(0),
            stored: AtomicU64::new(0),
            removed: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            untold: AtomicU64::new(0),
        }
    }

    /// The name under which this process stores.
    pub(crate) fn node(&self) -> i64 {
        self.node
    }

    /// Its bounds.
    pub(crate) fn config(&self) -> &QualityConfig {
        &self.config
    }

    /// With a table of networks.
    pub(crate) fn with_networks(self, networks: Networks) -> Quality {
        Quality { networks, ..self }
    }

    /// Fills in where reports come from, in what they do not say of it themselves.
    pub(crate) fn locate(&self, reports: &mut [Report], from: IpAddr) {
        let Some(place) = self.networks.place(from) else { return };
        for Report { key, .. } in reports {
            for (text, of_table) in [(&mut key.region, &place.region), (&mut key.isp, &place.isp)] {
                if text.is_empty() {
                    text.push_str(of_table);
                }
            }
        }
    }

    /// Counts reports of one source that break no rule.
    pub(crate) fn take(&self, reports: &[Report], source: Source, now_ms: i64) -> Taken {
        let mut board = self.board();
        let board = &mut *board;
        board.is_over |= board.windows.advance(now_ms);
        let window_ms = Level::Fine.start_of(now_ms);
        let mut taken = Taken::default();
        for report in reports {
            match board.sessions.take(report, now_ms, window_ms) {
                None => taken.repeated += 1,
                Some(news) => {
                    let (deltas, is_new) = (&news.deltas, news.is_new);
                    let key = (&report.key, source);
                    board.windows.count(key, deltas, is_new, report.values());
                    taken.taken += 1;
                }
            }
        }
        taken
    }

    /// Closes what is over, and looks for alarms; which were raised or cleared. About once a
    /// second.
    pub(crate) fn tick(&self, now_ms: i64) -> Vec<Alarm> {
        let mut board = self.board();
        let board = &mut *board;
        let is_over = board.windows.advance(now_ms) || std::mem::take(&mut board.is_over);
        board.alarms.look(&board.windows, now_ms, is_over)
    }

    /// Shows every cell of a level whose window begins within `range`, with that beginning. From
    /// which moment on memory has all of it.
    pub(crate) fn visit(
        &self,
        level: Level,
        range: (i64, i64),
        mut show: impl FnMut(i64, &Key, &Cell),
    ) -> i64 {
        let (closed, begins_ms) = {
            let board = self.board();
            board.windows.visit_open(level, range, &mut show);
            (board.windows.closed(level, range), board.windows.begins_ms(level))
        };
        // Reports do not wait for what takes long.
        for window in closed {
            window.cells().for_each(|(key, cell)| show(window.start_ms, key, cell));
        }
        begins_ms
    }

    pub(crate) fn board(&self) -> MutexGuard<'_, Board> {
        // Counts are whole after every step: one whose holder panicked is still right.
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
