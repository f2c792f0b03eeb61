//! From totals to news: what of a report has not been counted before.
//!
//! Owns the table of sessions. A report that comes twice, or after a later one, changes nothing; a
//! lost one is made up for by the next, whose totals hold it. Bounded: two generations of sessions,
//! of which the older one goes as a whole.

use super::report::{Report, TOTALS};
use std::collections::HashMap;

/// What is remembered of a session.
#[derive(Clone, Copy, Debug)]
struct Session {
    batch: u32,
    totals: [u64; TOTALS],
    /// The window it was last seen in.
    window_ms: i64,
}

/// What a report adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) deltas: [u64; TOTALS],
    /// It is the session's first report in its window.
    pub(crate) is_new: bool,
}

/// What became of reports so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) taken: u64,
    /// Repeated, or overtaken by a later one.
    pub(crate) repeated: u64,
    /// Of sessions that began before what is remembered: their totals are where counting begins.
    pub(crate) unknown: u64,
    /// Sessions forgotten because there were too many.
    pub(crate) forgotten: u64,
}

/// Sessions that are remembered.
pub(crate) struct Sessions {
    max: usize,
    young: HashMap<Box<str>, Session>,
    old: HashMap<Box<str>, Session>,
    /// When the older generation was the younger one for the last time.
    turned_ms: i64,
    /// No session that began since was ever forgotten.
    known_since_ms: i64,
    counts: Counts,
}

/// A session that is silent so long may be forgotten.
const IDLE_MS: i64 = 10 * 60_000;

impl Sessions {
    pub(crate) fn new(max: u32, now_ms: i64) -> Sessions {
        Sessions {
            max: max as usize,
            young: HashMap::new(),
            old: HashMap::new(),
            turned_ms: now_ms,
            known_since_ms: now_ms,
            counts: Counts::default(),
        }
    }

    /// What a report adds; `None`: it was counted before. `window_ms` is where it is counted.
    pub(crate) fn take(&mut self, report: &Report, now_ms: i64, window_ms: i64) -> Option<News> {
        if now_ms - self.turned_ms >= IDLE_MS {
            self.turn(now_ms);
        }
        let sid = report.sid.as_str();
        let known = self.young.get(sid).or_else(|| self.old.get(sid)).copied();
        if known.is_some_and(|session| session.batch >= report.batch) {
            self.counts.repeated += 1;
            return None;
        }
        let base = match known {
            Some(session) => session.totals,
            None if self.may_be_forgotten(report, now_ms) => {
                self.counts.unknown += 1;
                report.totals
            }
            None => [0; TOTALS],
        };
        let mut deltas = [0; TOTALS];
        // What never goes back and does is another session's, or a defect: nothing is added.
        let news = report.totals.iter().zip(base).map(|(total, base)| total.saturating_sub(base));
        deltas.iter_mut().zip(news).for_each(|(delta, news)| *delta = news);
        let session = Session { batch: report.batch, totals: report.totals, window_ms };
        self.remember(sid, session, now_ms);
        self.counts.taken += 1;
        let is_new = known.is_none_or(|session| session.window_ms != window_ms);
        Some(News { deltas, is_new })
    }

    /// Whether a session that is not known may have been counted before.
    fn may_be_forgotten(&self, report: &Report, now_ms: i64) -> bool {
        let age_ms = i64::try_from(report.age_ms).unwrap_or(i64::MAX);
        now_ms.saturating_sub(age_ms) < self.known_since_ms
    }

    fn remember(&mut self, sid: &str, session: Session, now_ms: i64) {
        if let Some(known) = self.young.get_mut(sid) {
            *known = session;
            return;
        }
        self.old.remove(sid);
        if self.young.len() >= self.max / 2 {
            self.counts.forgotten += self.old.len() as u64;
            self.turn(now_ms);
        }
        self.young.insert(sid.into(), session);
    }

    /// The older generation goes, the younger one is the older one now.
    fn turn(&mut self, now_ms: i64) {
        // Who is in the generation that goes was seen before the last turn.
        if !self.old.is_empty() {
            self.known_since_ms = self.turned_ms;
        }
        self.old = std::mem::take(&mut self.young);
        self.turned_ms = now_ms;
    }

    /// Sessions remembered now.
    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// What became of reports so far.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quality::report::Total;
    use crate::quality::report::tests::report;

    const NOW: i64 = 1_800_000_000_000;

    fn with_stalls(sid: &str, batch: u32, stalls: u64) -> Report {
        let mut report = report(sid, batch);
        report.totals[Total::Stalls as usize] = stalls;
        report
    }

    /// Stalls that a report adds; `None`: nothing is counted.
    fn added(sessions: &mut Sessions, report: &Report, at_ms: i64) -> Option<u64> {
        let news = sessions.take(report, at_ms, at_ms / 10_000)?;
        Some(news.deltas[Total::Stalls as usize])
    }

    #[test]
    fn a_repeat_changes_nothing_and_the_next_makes_up_for_a_lost_one() {
        let mut sessions = Sessions::new(100, NOW - 60_000);
        let at = |batch: i64| NOW + batch * 10_000;
        assert_eq!(added(&mut sessions, &with_stalls("a", 1, 2), at(1)), Some(2));
        assert_eq!(added(&mut sessions, &with_stalls("a", 1, 2), at(1)), None);
        // 2 and 3 are lost.
        assert_eq!(added(&mut sessions, &with_stalls("a", 4, 9), at(4)), Some(7));
        assert_eq!(added(&mut sessions, &with_stalls("a", 3, 5), at(4)), None, "overtaken");
        assert_eq!(added(&mut sessions, &with_stalls("a", 5, 9), at(5)), Some(0));
        assert_eq!(added(&mut sessions, &with_stalls("a", 6, 4), at(6)), Some(0), "went back");
        // The first one of another session was lost.
        assert_eq!(added(&mut sessions, &with_stalls("b", 2, 3), at(2)), Some(3));
        let counts = Counts { taken: 5, repeated: 2, ..Counts::default() };
        assert_eq!(sessions.counts(), counts);
    }

    #[test]
    fn any_loss_and_repetition_ends_in_the_same_totals() {
        let mut state = 9_u64;
        let mut dice = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        for _ in 0..200 {
            let mut sessions = Sessions::new(100, NOW);
            let (mut total, mut counted) = (0, 0);
            for batch in 1..=30 {
                total += dice(4);
                let report = with_stalls("a", batch, total);
                // Lost, once, or up to three times; the last one arrives.
                let times = if batch == 30 { 1 + dice(3) } else { dice(4) };
                for _ in 0..times {
                    let at_ms = NOW + i64::from(batch) * 10_000;
                    counted += added(&mut sessions, &report, at_ms).unwrap_or(0);
                }
            }
            assert_eq!(counted, total);
        }
    }

    #[test]
    fn a_session_from_before_the_start_is_counted_from_its_first_report_here_on() {
        let mut sessions = Sessions::new(100, NOW);
        assert_eq!(added(&mut sessions, &with_stalls("a", 90, 50), NOW + 1), Some(0));
        assert_eq!(added(&mut sessions, &with_stalls("a", 91, 53), NOW + 10_001), Some(3));
        assert_eq!(sessions.counts().unknown, 1);
    }

    #[test]
    fn sessions_are_bounded_and_one_that_was_forgotten_is_not_counted_twice() {
        let mut sessions = Sessions::new(100, NOW);
        assert_eq!(added(&mut sessions, &with_stalls("first", 1, 7), NOW + 10_000), Some(7));
        for n in 0..500 {
            added(&mut sessions, &with_stalls(&format!("n{n}"), 1, 0), NOW + 20_000 + n);
            assert!(sessions.len() <= 100, "{}", sessions.len());
        }
        assert!(sessions.counts().forgotten >= 400, "{:?}", sessions.counts());
        let back = with_stalls("first", 4, 8);
        assert_eq!(added(&mut sessions, &back, NOW + 40_000), Some(0), "and not 8");
        // Also where it was forgotten for its silence.
        let mut sessions = Sessions::new(100, NOW);
        added(&mut sessions, &with_stalls("quiet", 1, 7), NOW + 10_000);
        for minute in 1..60_u32 {
            let at_ms = NOW + i64::from(minute) * 60_000;
            added(&mut sessions, &with_stalls("loud", minute, 0), at_ms);
        }
        assert_eq!(sessions.len(), 1);
        let mut back = with_stalls("quiet", 2, 8);
        back.age_ms = 3_600_000;
        assert_eq!(added(&mut sessions, &back, NOW + 3_600_000), Some(0));
    }

    #[test]
    fn a_session_is_new_once_in_each_window() {
        let mut sessions = Sessions::new(100, NOW);
        let mut is_new = |batch, at_ms: i64| {
            let report = with_stalls("a", batch, 0);
            sessions.take(&report, NOW + at_ms, at_ms / 10_000).unwrap().is_new
        };
        assert!(is_new(1, 0));
        assert!(!is_new(2, 9_000), "an event between two reports");
        assert!(is_new(3, 10_000));
    }
}
