//! Where reports come in, over HTTP and over the connections of clients: one meaning, two doors.
//!
//! Owns what is checked before a report is counted: who may, how often, and what is wrong with it.
//! Knows no HTTP; never waits.

use super::config::QualityConfig;
use super::report::{Key, Metric, Report, Side, Start};
use super::sources::Source;
use super::{Quality, Taken};
use crate::accounts::network;
use crate::limits::Limits;
use crate::process::unix_ms;
use bytes::Bytes;
use prost::Message as _;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hash};
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, Weak};
use uproar_proto::control::{self, Engine, REPORT_EVERY_MS, Tell};
use uproar_proto::error::Code;
use uproar_proto::v1::{self, server_frame::Body};

/// Milliseconds of a second, and how many times a second's requests may come at once.
const SECOND_MS: u32 = 1_000;
const BURST: u32 = 10;

/// See the module.
pub struct Reports {
    pub(crate) quality: Arc<Quality>,
    limits: Limits,
    /// Of sources.
    hasher: RandomState,
    /// Who is told what became of a report that came over a connection.
    engine: OnceLock<Weak<dyn Engine>>,
}

/// Why reports are not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) code: Code,
    pub(crate) text: String,
    /// When they may come again, in milliseconds; 0: as they are, never.
    pub(crate) wait_ms: u32,
}

impl Refused {
    pub(crate) fn new(code: Code, text: impl Into<String>) -> Refused {
        Refused { code, text: text.into(), wait_ms: 0 }
    }
}

impl Reports {
    /// With its table of networks.
    ///
    /// # Errors
    /// The table cannot be read, in words.
    pub fn open(config: &QualityConfig) -> Result<Arc<Reports>, String> {
        let networks = config.networks()?;
        let quality = Quality::new(config.clone(), unix_ms()).with_networks(networks);
        let per_s = config.requests_per_s_max;
        let limits = Limits::new(per_s * BURST, SECOND_MS / per_s);
        let (quality, hasher) = (Arc::new(quality), RandomState::new());
        Ok(Arc::new(Reports { quality, limits, hasher, engine: OnceLock::new() }))
    }

    /// Tells `engine` from now on what became of what its connections report. Once.
    pub fn serve(&self, engine: &Arc<dyn Engine>) {
        let _ = self.engine.set(Arc::downgrade(engine)); // the first one stays
    }

    /// Takes what a connection reports, without waiting, and tells what became of it.
    pub fn report(&self, report: control::Report) {
        let control::Report { from, user, address, id, reports } = report;
        let source = self.source(user.as_deref(), address, from);
        let taken =
            self.take(user.as_deref(), (address, source), |config| of_proto(reports, config));
        let reported = match taken {
            Ok(Taken { taken, repeated }) => {
                let next_ms = REPORT_EVERY_MS;
                v1::Reported { id, taken, repeated, next_ms, ..v1::Reported::default() }
            }
            Err(Refused { code, text, wait_ms }) => {
                let next_ms = if wait_ms > 0 { wait_ms } else { REPORT_EVERY_MS };
                v1::Reported { id, next_ms, code: code.number(), text, ..v1::Reported::default() }
            }
        };
        let told = Tell::Show { to: from, frame: Box::new(Body::Reported(reported)) };
        // A client that is told nothing reports again, and its totals hold what this one said.
        if let Some(engine) = self.engine.get().and_then(Weak::upgrade)
            && engine.tell(told).is_err()
        {
            self.quality.untold.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether somebody may report now: a user by its name, or a guest by its address.
    ///
    /// # Errors
    /// `TOKEN_REQUIRED` or `SLOW_DOWN`.
    pub(crate) fn admit(&self, user: Option<&str>, from: Option<IpAddr>) -> Result<(), Refused> {
        let who = match (user, from) {
            (Some(user), _) => format!("user:{user}"),
            (None, _) if !self.quality.config().guests => {
                let text = "quality.guests is false: an access token is needed";
                return Err(Refused::new(Code::TokenRequired, text));
            }
            (None, from) => from.map(network).map_or_else(String::new, |from| from.to_string()),
        };
        self.limits.take(who, unix_ms()).map_err(|wait_ms| {
            self.refused();
            let text = "reports come more often than quality.requests_per_s_max allows";
            Refused { wait_ms, ..Refused::new(Code::SlowDown, text) }
        })
    }

    /// Counts a request that breaks a rule.
    pub(crate) fn refused(&self) {
        self.quality.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Who reports come from, as far as bounds are concerned: an address, or without one whoever
    /// it is, or at least its connection.
    pub(crate) fn source(
        &self,
        user: Option<&str>,
        from: Option<IpAddr>,
        connection: impl Hash,
    ) -> Source {
        let hash = match (from, user) {
            (Some(from), _) => self.hasher.hash_one(network(from)),
            (None, Some(user)) => self.hasher.hash_one(user),
            (None, None) => self.hasher.hash_one(connection),
        };
        Source::of(hash, user.is_some())
    }

    /// Counts checked reports.
    pub(crate) fn count(
        &self,
        mut reports: Vec<Report>,
        (from, source): (Option<IpAddr>, Source),
    ) -> Taken {
        if let Some(from) = from {
            self.quality.locate(&mut reports, from);
        }
        self.quality.take(&reports, source, unix_ms())
    }

    fn take(
        &self,
        user: Option<&str>,
        (from, source): (Option<IpAddr>, Source),
        read: impl FnOnce(&QualityConfig) -> Result<Vec<Report>, Refused>,
    ) -> Result<Taken, Refused> {
        self.admit(user, from)?;
        let reports = read(self.quality.config()).inspect_err(|_| self.refused())?;
        Ok(self.count(reports, (from, source)))
    }
}

/// The reports of a protobuf body, each checked.
///
/// # Errors
/// `TOO_LARGE`, or `BAD_REQUEST` with what is wrong, and where.
pub(crate) fn of_proto(bytes: Bytes, config: &QualityConfig) -> Result<Vec<Report>, Refused> {
    check_size(&bytes, config)?;
    let body = v1::QualityReports::decode(bytes);
    let body = body.map_err(|e| bad(format!("the body is not QualityReports: {e}")))?;
    check_many(body.reports.len(), config)?;
    let read = |(at, wire)| of_wire(wire).map_err(|e| bad(format!("reports[{at}]: {e}")));
    let reports: Vec<Report> =
        body.reports.into_iter().enumerate().map(read).collect::<Result<_, _>>()?;
    check_each(&reports)?;
    Ok(reports)
}

fn bad(text: String) -> Refused {
    Refused::new(Code::BadRequest, text)
}

pub(crate) fn check_size(bytes: &Bytes, config: &QualityConfig) -> Result<(), Refused> {
    if bytes.len() > config.body_bytes_max as usize {
        let text = "the body is larger than quality.body_bytes_max";
        return Err(Refused::new(Code::TooLarge, text));
    }
    Ok(())
}

pub(crate) fn check_many(many: usize, config: &QualityConfig) -> Result<(), Refused> {
    let max = config.reports_per_request_max as usize;
    if many > max {
        return Err(bad(format!("reports has {many} entries; allowed are up to {max}")));
    }
    Ok(())
}

pub(crate) fn check_each(reports: &[Report]) -> Result<(), Refused> {
    for (at, report) in reports.iter().enumerate() {
        report.check().map_err(|e| bad(format!("reports[{at}]: {e}")))?;
    }
    Ok(())
}

/// From protobuf.
fn of_wire(wire: v1::QualityReport) -> Result<Report, String> {
    let side = match wire.side() {
        v1::QualitySide::Play => Side::Play,
        v1::QualitySide::Push => Side::Push,
        v1::QualitySide::Unspecified => {
            return Err(format!("side is {}; allowed are 1 (play) and 2 (push)", wire.side));
        }
    };
    let v1::QualityReport { sid, batch, age_ms, room, cdn, region, isp, platform, .. } = wire;
    let t = wire.totals.unwrap_or_default();
    let totals = [
        t.stalls,
        t.stall_ms,
        t.played_ms,
        t.frames,
        t.frames_dropped,
        t.attempts,
        t.exits_before_start,
        t.start_failures,
        t.playback_failures,
        t.bytes,
        t.reconnects,
        t.limited_ms,
    ];
    let s = wire.samples.unwrap_or_default();
    let lists = [
        (Metric::Ltc, s.ltc),
        (Metric::Bl, s.bl),
        (Metric::Br, s.br),
        (Metric::Mtp, s.mtp),
        (Metric::TargetBr, s.target_br),
        (Metric::Rtt, s.rtt),
        (Metric::Fps, s.fps),
        (Metric::CaptureFps, s.capture_fps),
        (Metric::Height, s.height),
        (Metric::Stall, s.stall),
        (Metric::Cpu, s.cpu),
        (Metric::Mem, s.mem),
        (Metric::Qp, s.qp),
    ];
    let samples = lists
        .into_iter()
        .flat_map(|(metric, values)| values.into_iter().map(move |value| (metric, value)));
    let start = |start: v1::QualityStart| {
        let v1::QualityStart { dns, connect, ttfb, decode, msd } = start;
        Start { dns, connect, ttfb, decode, msd }
    };
    let starts = wire.starts.into_iter().map(start).collect();
    let key = Key { side, room, cdn, region, isp, platform };
    Ok(Report { sid, batch, age_ms, key, totals, samples: samples.collect(), starts })
}
