//! Reports of the quality of streams, from connections to whoever counts them.
//!
//! Owns the hand-over of a turn. A report is not understood here, and nothing waits: what finds no
//! room is refused and counted, and the next report of its session has its totals.

use super::Shard;
use super::slab::NONE;
use crate::metrics::Figure;
use crate::seam::ConnSlot;
use uproar_proto::control::{ConnectionId, Report, unreported};
use uproar_proto::error::Code;
use uproar_proto::v1::{self, server_frame::Body};

/// Of a shard.
#[derive(Default)]
pub(super) struct Reports {
    /// Whether anybody counts them.
    taken: bool,
    reports: Vec<Report>,
}

impl Shard {
    /// Somebody takes what [`Shard::take_reports`] gives.
    pub fn accept_reports(&mut self) {
        self.reports.taken = true;
    }

    /// What connections have reported in the last turn.
    pub fn take_reports(&mut self) -> Vec<Report> {
        std::mem::take(&mut self.reports.reports)
    }

    /// The way to whoever counts is full.
    pub fn report_lost(&mut self, report: &Report) {
        self.metrics.add(Figure::ReportsLost, 1);
        self.reported(report.from, &unreported(report.id, Code::QueueFull));
    }

    /// A client reports (S-68).
    pub(super) fn hear_report(&mut self, conn: ConnSlot, report: v1::Report) {
        self.metrics.add(Figure::ReportsIn, 1);
        let v1::Report { id, reports } = report;
        if !self.reports.taken {
            return self.reply(conn, &unreported(id, Code::NoReports)); // S-69
        }
        let (cold, serial) = (self.conns.cold(conn), self.conns.hot(conn).generation.into());
        let user = (cold.session != NONE).then(|| self.sessions.get(cold.session).user.clone());
        let address = cold.address();
        let from = ConnectionId { node: 0, shard: self.id.0, conn: conn.0, serial };
        self.reports.reports.push(Report { from, user, address, id, reports });
    }

    /// What became of a report.
    pub(super) fn reported(&mut self, to: ConnectionId, frame: &Body) {
        let conn = ConnSlot(to.conn);
        if u8::try_from(to.serial).is_ok_and(|generation| self.conns.is_live(conn, generation)) {
            self.reply(conn, frame);
        }
    }
}
