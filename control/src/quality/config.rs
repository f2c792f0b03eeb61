//! Section `[quality]` of the configuration: every bound of the quality reports.

use super::cell::CELL_BYTES_MAX;
use super::networks::Networks;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Section `[quality]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QualityConfig {
    /// Whether reports without a token are taken; false: 401.
    pub guests: bool,
    /// Requests a second of one address, and of one user with a token; ten times as many at once.
    /// Reached: `SLOW_DOWN`.
    pub requests_per_s_max: u32,
    /// Reports of one request. More: 400.
    pub reports_per_request_max: u32,
    /// The largest request body with reports, in bytes. Larger: 413.
    pub body_bytes_max: u32,
    /// A table of networks that fills in region and ISP where a report does not say them: lines of
    /// `NETWORK,REGION,ISP`. Empty: none. Read once, at the start.
    pub networks_file: PathBuf,
    /// Sessions that are remembered, to tell what is new in a report. Reached: those that were
    /// silent longest are forgotten; what one of them counted until its next report is lost.
    pub sessions_max: u32,
    /// Keys (side, room, CDN, region, ISP, platform) of one window. Reached: the others are
    /// counted together, as `other`.
    pub keys_max: u32,
    /// New keys that one address (of IPv6 a /64; who reports, where no address is known) opens in
    /// one window. Reached: what it says under others that nobody opened counts as `other`.
    pub keys_per_address_max: u32,
    /// Memory of all windows, in MiB, beside 2 MiB for what addresses have used. Reached: the
    /// oldest fine ones go first. A window that has a quarter of it takes no new keys (they count
    /// as `other`) and no more values of those it has.
    pub memory_mib_max: u32,
    /// Windows of a minute are stored for so many days; 0: they are not.
    pub minutes_days: u32,
    /// Windows of an hour are stored for so many days; 0: they are not.
    pub hours_days: u32,
    /// What a rate or a percentile must be taken from before it raises an alarm: sessions that
    /// reported in the last 10 to 20 s, or starts. What is pushed needs one, with a user's token.
    pub alarm_samples_min: u32,
    /// Of these, what one address may bring in 10 s. Reached: the rest counts everywhere but in
    /// alarms.
    pub alarm_samples_per_address_max: u32,
    /// Percent of the time that viewers of a CDN and ISP wait for the stream; 0: no such alarm.
    pub alarm_stall_percent: u32,
    /// Percent of starts over a CDN and ISP that fail; 0: no such alarm.
    pub alarm_start_failure_percent: u32,
    /// Milliseconds that 95 % of the starts over a CDN and ISP are not above; 0: no such alarm.
    pub alarm_start_p95_ms: u32,
    /// Percent of its frames that a pushed room drops; 0: no such alarm.
    pub alarm_frame_drop_percent: u32,
    /// A cell that is so many percent of what it was in the hour before raises the alarm at a third
    /// of the threshold already; 0: change alone raises none.
    pub alarm_change_percent: u32,
    /// An alarm is cleared below so many percent of its threshold, for half a minute.
    pub alarm_clear_percent: u32,
}

/// A quarter of the least memory holds what every window needs: the two cells that hold what found
/// no other, and one more.
const _: () = assert!(4 * 3 * CELL_BYTES_MAX <= 4 << 20);

impl Default for QualityConfig {
    fn default() -> QualityConfig {
        QualityConfig {
            guests: true,
            requests_per_s_max: 20,
            reports_per_request_max: 100,
            body_bytes_max: 256 << 10,
            networks_file: PathBuf::new(),
            sessions_max: 200_000,
            keys_max: 1_000,
            keys_per_address_max: 32,
            memory_mib_max: 256,
            minutes_days: 7,
            hours_days: 400,
            alarm_samples_min: 20,
            alarm_samples_per_address_max: 5,
            alarm_stall_percent: 3,
            alarm_start_failure_percent: 5,
            alarm_start_p95_ms: 5_000,
            alarm_frame_drop_percent: 5,
            alarm_change_percent: 400,
            alarm_clear_percent: 70,
        }
    }
}

impl QualityConfig {
    /// The first rule the section breaks, in words: which key, what it is, what is allowed.
    ///
    /// # Errors
    /// The sentence to show.
    pub fn check(&self) -> Result<(), String> {
        for (name, value, min, max) in [
            ("requests_per_s_max", self.requests_per_s_max, 1, 1_000),
            ("reports_per_request_max", self.reports_per_request_max, 1, 10_000),
            ("body_bytes_max", self.body_bytes_max, 1_024, 16 << 20),
            ("sessions_max", self.sessions_max, 2, 10_000_000),
            ("keys_max", self.keys_max, 1, 100_000),
            ("keys_per_address_max", self.keys_per_address_max, 1, 100_000),
            ("memory_mib_max", self.memory_mib_max, 4, 65_536),
            ("minutes_days", self.minutes_days, 0, 400),
            ("hours_days", self.hours_days, 0, 3_650),
            ("alarm_samples_min", self.alarm_samples_min, 1, 1_000_000),
            ("alarm_samples_per_address_max", self.alarm_samples_per_address_max, 1, 100_000),
            ("alarm_stall_percent", self.alarm_stall_percent, 0, 100),
            ("alarm_start_failure_percent", self.alarm_start_failure_percent, 0, 100),
            ("alarm_start_p95_ms", self.alarm_start_p95_ms, 0, 600_000),
            ("alarm_frame_drop_percent", self.alarm_frame_drop_percent, 0, 100),
            ("alarm_clear_percent", self.alarm_clear_percent, 1, 100),
        ] {
            if value < min || value > max {
                return Err(format!("{name} is {value}; allowed is {min} to {max}"));
            }
        }
        let change = self.alarm_change_percent;
        if change != 0 && !(110..=10_000).contains(&change) {
            return Err(format!(
                "alarm_change_percent is {change}; allowed is 110 to 10000, or 0 for none"
            ));
        }
        self.networks().map_err(|error| format!("networks_file: {error}"))?;
        Ok(())
    }

    /// The table of networks; without a file, an empty one.
    ///
    /// # Errors
    /// The sentence to show.
    pub(crate) fn networks(&self) -> Result<Networks, String> {
        match self.networks_file.as_os_str().is_empty() {
            true => Ok(Networks::default()),
            false => Networks::read(&self.networks_file),
        }
    }

    /// Memory of all windows, in bytes.
    pub(crate) fn memory_bytes_max(&self) -> usize {
        (self.memory_mib_max as usize) << 20
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_and_what_is_not_is_told_by_its_key() {
        QualityConfig::default().check().unwrap();
        let none = QualityConfig { alarm_change_percent: 0, ..QualityConfig::default() };
        none.check().unwrap();
        let keys = QualityConfig { keys_max: 0, ..QualityConfig::default() };
        assert_eq!(keys.check().unwrap_err(), "keys_max is 0; allowed is 1 to 100000");
        let change = QualityConfig { alarm_change_percent: 100, ..QualityConfig::default() };
        assert!(change.check().unwrap_err().starts_with("alarm_change_percent is 100"));
    }
}
