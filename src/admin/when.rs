//! Moments as operators type and read them: UTC, by the Gregorian calendar.

use crate::token::seconds;
use std::time::{SystemTime, UNIX_EPOCH};

const DAY_MS: i64 = 86_400_000;

/// Milliseconds since 1970 of `2026-11-23`, `2026-11-23T10:00:00Z`, or of `2h` ago.
pub(super) fn moment(text: &str) -> Result<i64, String> {
    if let Ok(ago_s) = seconds(text) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let now_ms = i64::try_from(now).unwrap_or(i64::MAX);
        return Ok(now_ms - i64::try_from(ago_s).unwrap_or(0) * 1000);
    }
    at(text).ok_or_else(|| {
        format!("{text:?} is no time; allowed are 2026-11-23, 2026-11-23T10:00:00Z, 90s, 2h, 7d")
    })
}

fn at(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00:00"));
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [31, 28 + i64::from(leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = *lengths.get(usize::try_from(month - 1).ok()?)?;
    let time = time.strip_suffix('Z').unwrap_or(time);
    let time = if time.len() == 5 { format!("{time}:00") } else { time.to_owned() };
    let [hour, minute, second] = numbers(&time, ':', [2, 2, 2])?;
    let fits = (1970..=9999).contains(&year)
        && (1..=length).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    let in_day_ms = ((hour * 60 + minute) * 60 + second) * 1000;
    fits.then(|| days(year, month, day) * DAY_MS + in_day_ms)
}

/// Three numbers of so many digits each.
fn numbers(text: &str, between: char, digits: [usize; 3]) -> Option<[i64; 3]> {
    let parts: Vec<&str> = text.split(between).collect();
    let [a, b, c] = parts[..] else { return None };
    let mut found = [0; 3];
    for ((part, digits), number) in [a, b, c].into_iter().zip(digits).zip(&mut found) {
        if part.len() != digits || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    Some(found)
}

/// Days from 1970-01-01. A year begins in March here, so that the leap day is its last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let in_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + in_year - 719_468
}

/// A moment as `2026-11-23T10:00:00.000Z`.
pub(super) fn text(moment_ms: i64) -> String {
    let (day, in_day_ms) = (moment_ms.div_euclid(DAY_MS), moment_ms.rem_euclid(DAY_MS));
    // The inverse of `days`: 400 years have 146,097 days.
    let shifted = day + 719_468;
    let (era, in_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let in_era_year = (in_era - in_era / 1_460 + in_era / 36_524 - in_era / 146_096) / 365;
    let in_year = in_era - (365 * in_era_year + in_era_year / 4 - in_era_year / 100);
    let month = (5 * in_year + 2) / 153;
    let day = in_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + in_era_year + i64::from(month <= 2);
    let (seconds, ms) = (in_day_ms / 1000, in_day_ms % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_and_shown_the_same() {
        for (typed, ms, shown) in [
            ("1970-01-01", 0, "1970-01-01T00:00:00.000Z"),
            ("2000-02-29", 951_782_400_000, "2000-02-29T00:00:00.000Z"),
            ("2026-11-23T10:00:01Z", 1_795_428_001_000, "2026-11-23T10:00:01.000Z"),
            ("2026-12-31 23:59", 1_798_761_540_000, "2026-12-31T23:59:00.000Z"),
        ] {
            assert_eq!(moment(typed), Ok(ms), "{typed}");
            assert_eq!(text(ms), shown);
        }
        for day in 0..80_000 {
            let shown = text(day * DAY_MS);
            assert_eq!(at(&shown[..10]), Some(day * DAY_MS), "{shown}");
        }
        let ago = moment("2h").unwrap();
        assert!((7_199_000..7_260_000).contains(&(moment("1s").unwrap() + 1000 - ago)));
    }

    #[test]
    fn what_is_no_time_is_told_what_is() {
        for bad in ["", "x", "2026-13-01", "2026-02-29", "2026-1-1", "2026-01-01T24:00:00", "-2h"] {
            assert!(moment(bad).unwrap_err().contains("allowed are"), "{bad}");
        }
    }
}
