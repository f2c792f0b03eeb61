//! Reports of the quality of streams, from connections to whoever counts them.
//!
//! Owns the hand-over of a turn, and the source of each connection as the counting needs it. A
//! report is not understood here, and nothing waits: what finds no room is refused and counted, and
//! the next report of its session has its totals.

use super::Shard;
use super::slab::NONE;
use crate::metrics::Figure;
use crate::seam::ConnSlot;
use std::net::{IpAddr, Ipv4Addr};
use uproar_proto::control::{ConnectionId, Report, unreported};
use uproar_proto::error::Code;
use uproar_proto::v1::{self, server_frame::Body};

/// Where a connection comes from: an IPv4 address, or the first half of an IPv6 one (the /64, which
/// is what one network has). Addresses of the first 2^32 halves, which are nobody's, are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Source(u64);

impl Source {
    /// Not known.
    pub const NONE: Source = Source(0);

    /// Of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Source {
        match address.to_canonical() {
            IpAddr::V4(v4) => Source(u64::from(u32::from(v4))),
            IpAddr::V6(v6) => {
                let half = (u128::from(v6) >> 64) as u64;
                if half > u64::from(u32::MAX) { Source(half) } else { Source::NONE }
            }
        }
    }

    /// The address; of IPv6 the first of its /64.
    #[must_use]
    pub fn address(self) -> Option<IpAddr> {
        match u32::try_from(self.0) {
            Ok(0) => None,
            Ok(v4) => Some(Ipv4Addr::from(v4).into()),
            Err(_) => Some(IpAddr::V6((u128::from(self.0) << 64).into())),
        }
    }
}

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
        let address = cold.source.address();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_an_address_or_its_network() {
        let back = |text: &str| {
            let address = Source::of(text.parse().expect("an address")).address();
            address.map_or(String::new(), |address| address.to_string())
        };
        assert_eq!(back("192.0.2.7"), "192.0.2.7");
        assert_eq!(back("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(back("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(back("255.255.255.255"), "255.255.255.255");
        for nobody in ["::1", "0.0.0.0", "::"] {
            assert_eq!(back(nobody), "");
        }
    }
}
