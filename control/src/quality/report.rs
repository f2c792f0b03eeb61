//! A report as it is counted: whose, about what, totals and values; and what it may be.
//!
//! Owns the names of everything that is measured, and the check of what a client sends. A report
//! may come from anybody, so nothing in it is believed beyond its bounds.

use super::sketch::VALUE_MAX;
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// An enum whose variants have a word each, the same everywhere: JSON, labels, rows.
macro_rules! words {
    ($(#[$about:meta])* $name:ident as $schema:ident:
        $($(#[$doc:meta])* $variant:ident = $word:literal,)*) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
            ToSchema)]
        #[serde(rename_all = "snake_case")]
        #[schema(as = $schema)]
        pub(crate) enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            /// All, in their order.
            pub(crate) const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// Its word.
            pub(crate) fn word(self) -> &'static str {
                match self { $($name::$variant => $word,)* }
            }
        }
    };
}

words! {
    /// Which end of a stream.
    Side as QualitySide:
    /// A viewer.
    Play = "play",
    /// Whoever streams.
    Push = "push",
}

words! {
    /// What a session counts from its beginning on; told in quality.proto.
    Total as QualityTotal:
    /// Times the stream stood still after it had begun.
    Stalls = "stalls",
    /// Milliseconds it stood still.
    StallMs = "stall_ms",
    /// Milliseconds played, or pushed.
    PlayedMs = "played_ms",
    /// Frames decoded, or encoded.
    Frames = "frames",
    /// Frames dropped.
    FramesDropped = "frames_dropped",
    /// Times that a start was asked for.
    Attempts = "attempts",
    /// Times that the user went before the first frame.
    ExitsBeforeStart = "exits_before_start",
    /// Starts that failed.
    StartFailures = "start_failures",
    /// Times it broke off after it had begun.
    PlaybackFailures = "playback_failures",
    /// Bytes of media.
    Bytes = "bytes",
    /// Times it connected again.
    Reconnects = "reconnects",
    /// Milliseconds that the encoder was held below what it could do.
    LimitedMs = "limited_ms",
}

words! {
    /// What is measured now and then; told in quality.proto.
    Metric as QualityMetric:
    /// A start's look-up of the name, in milliseconds.
    Dns = "dns",
    /// A start's connecting, in milliseconds.
    Connect = "connect",
    /// A start's wait for the first packet, in milliseconds.
    Ttfb = "ttfb",
    /// A start's decoding of the first frame, in milliseconds.
    Decode = "decode",
    /// A whole start, in milliseconds.
    Msd = "msd",
    /// Latency from camera to screen, in milliseconds.
    Ltc = "ltc",
    /// Media in the buffer, in milliseconds.
    Bl = "bl",
    /// Bitrate, in kbit/s.
    Br = "br",
    /// Measured throughput, in kbit/s.
    Mtp = "mtp",
    /// The bitrate aimed at, in kbit/s.
    TargetBr = "target_br",
    /// Round trip, in milliseconds.
    Rtt = "rtt",
    /// Frames a second, shown or encoded.
    Fps = "fps",
    /// Frames a second of the camera.
    CaptureFps = "capture_fps",
    /// Lines of a frame.
    Height = "height",
    /// How long a stall was, in milliseconds.
    Stall = "stall",
    /// Load of the CPU, in percent.
    Cpu = "cpu",
    /// Memory of pre-processing, in MiB.
    Mem = "mem",
    /// Quantizer of the encoder.
    Qp = "qp",
}

words! {
    /// What figures are told apart by.
    Dimension as QualityDimension:
    /// Which end of the stream.
    Side = "side",
    Room = "room",
    Cdn = "cdn",
    Region = "region",
    Isp = "isp",
    Platform = "platform",
}

/// How many totals there are.
pub(crate) const TOTALS: usize = Total::ALL.len();
/// How many metrics there are.
pub(crate) const METRICS: usize = Metric::ALL.len();

/// The longest text of a key, in bytes.
pub(super) const TEXT_BYTES_MAX: usize = 64;
/// Values of one report, those of its starts included.
const VALUES_MAX: usize = 256;
/// The oldest a session may be: 30 days.
const AGE_MS_MAX: u64 = 30 * 86_400_000;
/// The largest total (of bytes): 2^50, about a petabyte. Exact in JSON.
const TOTAL_MAX: u64 = 1 << 50;
/// A client's own clock may count a little more than the session's age: timers run late.
const SLACK_MS: u64 = 1_000;

/// What is counted apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) side: Side,
    pub(crate) room: String,
    pub(crate) cdn: String,
    pub(crate) region: String,
    pub(crate) isp: String,
    pub(crate) platform: String,
}

/// What stands in every text of the cell that holds what found no cell of its own.
pub(crate) const OTHER: &str = "other";

impl Key {
    /// The cell of what finds none of its own.
    pub(crate) fn other(side: Side) -> Key {
        let other = || OTHER.to_owned();
        Key { side, room: other(), cdn: other(), region: other(), isp: other(), platform: other() }
    }

    /// Whether it is that of such a cell.
    pub(crate) fn is_other(&self) -> bool {
        Dimension::ALL[1..].iter().all(|dimension| self.text(*dimension) == OTHER)
    }

    /// One of its texts.
    pub(crate) fn text(&self, dimension: Dimension) -> &str {
        match dimension {
            Dimension::Side => self.side.word(),
            Dimension::Room => &self.room,
            Dimension::Cdn => &self.cdn,
            Dimension::Region => &self.region,
            Dimension::Isp => &self.isp,
            Dimension::Platform => &self.platform,
        }
    }

    /// Memory of the key, in bytes, at most: its texts stand in allocations of their own.
    pub(crate) fn bytes(&self) -> usize {
        let texts = [&self.room, &self.cdn, &self.region, &self.isp, &self.platform];
        size_of::<Key>() + texts.iter().map(|text| text.capacity()).sum::<usize>()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts = Dimension::ALL.iter().map(|dimension| self.text(*dimension));
        f.write_str(&texts.collect::<Vec<_>>().join("/"))
    }
}

/// How long a start took, in milliseconds; what was not measured is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) dns: Option<u32>,
    pub(crate) connect: Option<u32>,
    pub(crate) ttfb: Option<u32>,
    pub(crate) decode: Option<u32>,
    pub(crate) msd: Option<u32>,
}

impl Start {
    /// What was measured, by name.
    pub(crate) fn values(&self) -> impl Iterator<Item = (Metric, u32)> + Clone {
        let Start { dns, connect, ttfb, decode, msd } = *self;
        let all = [
            (Metric::Dns, dns),
            (Metric::Connect, connect),
            (Metric::Ttfb, ttfb),
            (Metric::Decode, decode),
            (Metric::Msd, msd),
        ];
        all.into_iter().filter_map(|(metric, value)| Some((metric, value?)))
    }
}

/// One session's report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) sid: String,
    pub(crate) batch: u32,
    pub(crate) age_ms: u64,
    pub(crate) key: Key,
    pub(crate) totals: [u64; TOTALS],
    pub(crate) samples: Vec<(Metric, u32)>,
    pub(crate) starts: Vec<Start>,
}

impl Report {
    /// One of its totals.
    pub(crate) fn total(&self, total: Total) -> u64 {
        self.totals[total as usize]
    }

    /// Every value it brings.
    pub(crate) fn values(&self) -> impl Iterator<Item = (Metric, u32)> + Clone {
        self.samples.iter().copied().chain(self.starts.iter().flat_map(Start::values))
    }

    /// The first rule it breaks, in words: which field, what it is, what is allowed.
    pub(crate) fn check(&self) -> Result<(), String> {
        let sid = self.sid.as_bytes();
        if !(8..=TEXT_BYTES_MAX).contains(&sid.len()) || !sid.iter().all(u8::is_ascii_graphic) {
            return Err(format!(
                "sid has {} bytes; allowed are 8 to {TEXT_BYTES_MAX} of visible ASCII",
                sid.len()
            ));
        }
        if self.batch == 0 {
            return Err("batch is 0; the first report is 1".into());
        }
        if self.age_ms > AGE_MS_MAX {
            return Err(format!("age_ms is {}; allowed is 0 to {AGE_MS_MAX}", self.age_ms));
        }
        for dimension in &Dimension::ALL[1..] {
            let text = self.key.text(*dimension);
            if text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) {
                return Err(format!(
                    "{} has {} bytes; allowed are 0 to {TEXT_BYTES_MAX} without control characters",
                    dimension.word(),
                    text.len()
                ));
            }
        }
        self.check_totals()?;
        self.check_values()
    }

    fn check_totals(&self) -> Result<(), String> {
        for total in Total::ALL {
            let (word, value) = (total.word(), self.total(*total));
            if value > TOTAL_MAX {
                return Err(format!("totals.{word} is {value}; allowed is 0 to {TOTAL_MAX}"));
            }
        }
        let (played, stalled) = (self.total(Total::PlayedMs), self.total(Total::StallMs));
        if played + stalled > self.age_ms + SLACK_MS {
            return Err(format!(
                "totals.played_ms + totals.stall_ms is {}; a session that began {} ms ago cannot \
                 have played longer",
                played + stalled,
                self.age_ms
            ));
        }
        let ended = [Total::ExitsBeforeStart, Total::StartFailures];
        let ended: u64 = ended.iter().map(|total| self.total(*total)).sum();
        let attempts = self.total(Total::Attempts);
        if ended > attempts {
            return Err(format!(
                "totals.exits_before_start + totals.start_failures is {ended}; allowed is up to \
                 totals.attempts ({attempts})"
            ));
        }
        Ok(())
    }

    fn check_values(&self) -> Result<(), String> {
        let many = self.values().count();
        if many > VALUES_MAX || self.starts.len() > VALUES_MAX {
            return Err(format!("it has {many} values; allowed are {VALUES_MAX}"));
        }
        if let Some((metric, value)) = self.values().find(|(_, value)| *value > VALUE_MAX) {
            return Err(format!("{} is {value}; allowed is 0 to {VALUE_MAX}", metric.word()));
        }
        for (at, start) in self.starts.iter().enumerate() {
            let steps = start.values().filter(|(metric, _)| *metric != Metric::Msd);
            let steps: u64 = steps.map(|(_, value)| u64::from(value)).sum();
            if start.msd.is_some_and(|whole| steps > u64::from(whole)) {
                return Err(format!(
                    "starts[{at}]: dns + connect + ttfb + decode is {steps}; allowed is up to its \
                     msd ({})",
                    start.msd.unwrap_or(0)
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A viewer's report that breaks no rule.
    pub(crate) fn report(sid: &str, batch: u32) -> Report {
        let text = |text: &str| text.to_owned();
        Report {
            sid: format!("session-{sid}"),
            batch,
            age_ms: u64::from(batch) * 10_000,
            key: Key {
                side: Side::Play,
                room: text("stage"),
                cdn: text("cdn-a"),
                region: text("north"),
                isp: text("isp-1"),
                platform: text("web"),
            },
            totals: [0; TOTALS],
            samples: Vec::new(),
            starts: Vec::new(),
        }
    }

    #[test]
    fn words_are_those_of_json_and_in_the_order_of_their_place() {
        for (at, metric) in Metric::ALL.iter().enumerate() {
            assert_eq!((*metric as usize, serde_json::json!(metric)), (at, metric.word().into()));
        }
        for (at, total) in Total::ALL.iter().enumerate() {
            assert_eq!((*total as usize, serde_json::json!(total)), (at, total.word().into()));
        }
    }

    #[test]
    fn what_breaks_a_rule_is_told_by_name() {
        let good = report("a", 1);
        good.check().unwrap();
        let with = |change: fn(&mut Report)| {
            let mut report = good.clone();
            change(&mut report);
            report.check().unwrap_err()
        };
        let told = [
            with(|r| r.sid = "short".into()),
            with(|r| r.batch = 0),
            with(|r| r.age_ms = u64::MAX),
            with(|r| r.key.isp = "x".repeat(65)),
            with(|r| r.key.room = "a\nb".into()),
            with(|r| r.totals[Total::Bytes as usize] = u64::MAX),
            with(|r| r.totals[Total::PlayedMs as usize] = 11_001),
            with(|r| r.totals[Total::StartFailures as usize] = 1),
            with(|r| r.samples = vec![(Metric::Bl, 1); 257]),
            with(|r| r.samples = vec![(Metric::Rtt, VALUE_MAX + 1)]),
            with(|r| r.starts = vec![Start { dns: Some(3), msd: Some(2), ..Start::default() }]),
        ];
        let names = [
            "sid",
            "batch",
            "age_ms",
            "isp",
            "room",
            "totals.bytes",
            "totals.played_ms",
            "start_failures",
            "257 values",
            "rtt is",
            "starts[0]",
        ];
        for (told, name) in told.iter().zip(names) {
            assert!(told.contains(name), "{name}: {told}");
        }
    }

    #[test]
    fn steps_may_take_as_long_as_the_whole_start() {
        let mut report = report("a", 1);
        let (dns, connect, ttfb, decode) = (Some(1), Some(2), Some(3), Some(4));
        report.starts = vec![Start { dns, connect, ttfb, decode, msd: Some(10) }];
        report.check().unwrap();
        assert_eq!(report.values().count(), 5);
    }
}
