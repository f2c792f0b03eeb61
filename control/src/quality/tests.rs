//! Crowds of viewers that report as clients do, in simulated time.

use super::alarm::{Alarm, Rule, State};
use super::report::tests::report;
use super::report::{Metric, Report, Total};
use super::{Quality, QualityConfig};

const NOW: i64 = 1_800_000_000_000;
/// How often a session reports.
const EVERY_MS: i64 = 10_000;

/// Viewers over three CDNs and three ISPs; one of the nine cells may go bad.
struct Crowd {
    quality: Quality,
    viewers: Vec<Viewer>,
    /// The clock.
    now_ms: i64,
    state: u64,
}

struct Viewer {
    report: Report,
    begun_ms: i64,
    next_ms: i64,
    is_in_cell: bool,
}

impl Crowd {
    fn of(many: usize) -> Crowd {
        let viewer = |n: usize| {
            let mut report = report(&n.to_string(), 1);
            report.batch = 0;
            report.key.cdn = format!("cdn-{}", n % 3);
            report.key.isp = format!("isp-{}", n / 3 % 3);
            report.key.room = format!("room-{}", n / 9 % 5);
            let next_ms = NOW + (n as i64 * 7_919) % EVERY_MS;
            let is_in_cell = report.key.cdn == "cdn-1" && report.key.isp == "isp-2";
            Viewer { report, begun_ms: next_ms - EVERY_MS, next_ms, is_in_cell }
        };
        let viewers = (0..many).map(viewer).collect();
        let quality = Quality::new(QualityConfig::default(), NOW - EVERY_MS);
        Crowd { quality, viewers, now_ms: NOW, state: 1 }
    }

    fn dice(&mut self, below: u64) -> u64 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.state >> 33) % below
    }

    /// Goes on for a time; of each second the cell stands still `stall_ms` from `from_ms` on, and
    /// everybody a little at random. What changed, and when.
    fn run(&mut self, time_ms: i64, from_ms: i64, stall_ms: i64) -> Vec<Alarm> {
        let mut changed = Vec::new();
        let end_ms = self.now_ms + time_ms;
        while self.now_ms < end_ms {
            self.now_ms += 1_000;
            for at in 0..self.viewers.len() {
                let jitter = self.dice(9) as i64; // 4 ms a second: 0.4 %
                let now_ms = self.now_ms;
                let viewer = &mut self.viewers[at];
                let is_bad = viewer.is_in_cell && now_ms > from_ms;
                let stalled = jitter + if is_bad { stall_ms.min(now_ms - from_ms) } else { 0 };
                let totals = &mut viewer.report.totals;
                totals[Total::StallMs as usize] += stalled as u64;
                totals[Total::PlayedMs as usize] += (1_000 - stalled) as u64;
                if viewer.next_ms <= now_ms {
                    viewer.next_ms += EVERY_MS;
                    viewer.report.batch += 1;
                    viewer.report.age_ms = (now_ms - viewer.begun_ms) as u64 + 10_000;
                    viewer.report.check().unwrap();
                    self.quality.take(std::slice::from_ref(&viewer.report), now_ms);
                }
            }
            changed.extend(self.quality.tick(self.now_ms));
        }
        changed
    }
}

#[test]
fn stalls_in_one_cell_raise_its_alarm_within_20_s_and_no_other() {
    let mut slowest = 0;
    // Whenever in a window they begin.
    for offset_ms in (0..10_000).step_by(1_000) {
        let mut crowd = Crowd::of(900);
        assert_eq!(crowd.run(300_000 + offset_ms, i64::MAX, 0), [], "nothing is wrong yet");
        let from_ms = crowd.now_ms;
        let changed = crowd.run(60_000, from_ms, 50);
        let [alarm] = &changed[..] else { panic!("{changed:#?}") };
        assert_eq!((alarm.rule, alarm.state), (Rule::StallRatio, State::Raised));
        assert_eq!((&*alarm.cell["cdn"], &*alarm.cell["isp"]), ("cdn-1", "isp-2"));
        assert_eq!(alarm.cell.len(), 2);
        slowest = slowest.max(alarm.raised_ms - from_ms);
    }
    println!("the slowest of ten alarms came after {slowest} ms");
    assert!(slowest <= 20_000, "{slowest}");
}

#[test]
fn an_alarm_is_cleared_once_after_half_a_minute_of_calm() {
    let mut crowd = Crowd::of(450);
    crowd.run(60_000, i64::MAX, 0);
    let from_ms = crowd.now_ms;
    assert_eq!(crowd.run(60_000, from_ms, 100).len(), 1);
    assert_eq!(crowd.quality.board().alarms.raised().len(), 1);
    let calm_ms = crowd.now_ms;
    let changed = crowd.run(120_000, i64::MAX, 0);
    let [alarm] = &changed[..] else { panic!("{changed:#?}") };
    assert_eq!((alarm.state, alarm.raised_ms > from_ms), (State::Cleared, true));
    let after_ms = alarm.cleared_ms - calm_ms;
    assert!((30_000..=60_000).contains(&after_ms), "{after_ms}");
    let board = crowd.quality.board();
    assert_eq!((board.alarms.raised(), board.alarms.cleared()), (vec![], changed.clone()));
}

#[test]
fn a_value_between_the_lines_neither_raises_nor_clears() {
    let mut crowd = Crowd::of(450);
    crowd.run(60_000, i64::MAX, 0);
    let from_ms = crowd.now_ms;
    // 2.5 % and the jitter: below 3 %, above 70 % of it.
    assert_eq!(crowd.run(120_000, from_ms, 22), []);
    assert_eq!(crowd.run(60_000, from_ms, 60).len(), 1);
    assert_eq!(crowd.run(180_000, from_ms, 22), []);
}

#[test]
fn a_change_raises_an_alarm_below_the_threshold_and_few_samples_raise_none() {
    let mut crowd = Crowd::of(900);
    crowd.run(330_000, i64::MAX, 0);
    let from_ms = crowd.now_ms;
    let changed = crowd.run(60_000, from_ms, 20);
    let [alarm] = &changed[..] else { panic!("{changed:#?}") };
    assert!(alarm.line < 0.03 && alarm.before.unwrap() < 0.006, "{alarm:?}");
    // Nine cells of two viewers each: at most four reports in two windows.
    let mut few = Crowd::of(18);
    let from_ms = few.now_ms;
    assert_eq!(few.run(120_000, from_ms, 500), []);
}

#[test]
fn an_alarm_of_a_cell_that_falls_silent_is_cleared() {
    let mut crowd = Crowd::of(450);
    let from_ms = crowd.now_ms;
    assert_eq!(crowd.run(60_000, from_ms, 100).len(), 1);
    crowd.viewers.clear();
    let changed = crowd.run(120_000, from_ms, 100);
    let [alarm] = &changed[..] else { panic!("{changed:#?}") };
    assert_eq!(alarm.state, State::Cleared);
}

#[test]
fn slow_and_failed_starts_raise_alarms_of_their_own() {
    let mut crowd = Crowd::of(0);
    for n in 0..60 {
        let mut one = report(&n.to_string(), 1);
        one.totals[Total::Attempts as usize] = 2;
        one.totals[Total::StartFailures as usize] = u64::from(n % 2 == 0);
        one.samples = vec![(Metric::Msd, 4_000 + n * 30)];
        crowd.quality.take(&[one], NOW);
    }
    let rules: Vec<Rule> = crowd.run(2_000, i64::MAX, 0).iter().map(|a| a.rule).collect();
    assert_eq!(rules, [Rule::StartFailureRatio, Rule::StartP95Ms]);
}

#[test]
fn a_repeated_request_changes_nothing() {
    let quality = Quality::new(QualityConfig::default(), NOW);
    let mut one = report("a", 1);
    one.samples = vec![(Metric::Rtt, 20)];
    one.totals[Total::Stalls as usize] = 3;
    let seen = |quality: &Quality| {
        let mut seen = Vec::new();
        quality.visit(super::Level::Hour, (0, i64::MAX), |_, _, cell| seen.push(cell.clone()));
        seen
    };
    let first = quality.take(&[one.clone(), one.clone()], NOW + 10_000);
    assert_eq!((first.taken, first.repeated), (1, 1));
    let once = seen(&quality);
    assert_eq!((once[0].total(Total::Stalls), once[0].values()), (3, 1));
    assert_eq!(quality.take(&[one], NOW + 40_000).repeated, 1);
    assert_eq!(seen(&quality), once);
}
