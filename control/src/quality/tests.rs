//! Crowds of viewers that report as clients do, in simulated time.

use super::alarm::{Alarm, Rule, State};
use super::report::tests::report;
use super::report::{Metric, Report, Total};
use super::sources::Source;
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
    source: Source,
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
            let source = Source::of(n as u64, false);
            Viewer { source, report, begun_ms: next_ms - EVERY_MS, next_ms, is_in_cell }
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
                    let (report, source) = (std::slice::from_ref(&viewer.report), viewer.source);
                    self.quality.take(report, source, now_ms);
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
        crowd.quality.take(&[one], Source::of(n.into(), false), NOW);
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
    let source = Source::of(1, false);
    let first = quality.take(&[one.clone(), one.clone()], source, NOW + 10_000);
    assert_eq!((first.taken, first.repeated), (1, 1));
    let once = seen(&quality);
    assert_eq!((once[0].total(Total::Stalls), once[0].values()), (3, 1));
    assert_eq!(quality.take(&[one], source, NOW + 40_000).repeated, 1);
    assert_eq!(seen(&quality), once);
}

/// One address that reports what it likes.
const LIAR: Source = Source::of(60_000, false);

/// A session of the liar, bad in every respect.
fn lie(n: i64, batch: u32, cdn: &str) -> Report {
    let mut lie = report(&format!("liar-{n}"), batch);
    lie.age_ms = 86_400_000;
    lie.key.cdn = cdn.to_owned();
    (lie.key.isp, lie.key.room) = ("isp-1".to_owned(), "room-1".to_owned());
    let times = u64::from(batch);
    for (total, value) in [
        (Total::StallMs, 9_800 * times),
        (Total::PlayedMs, 200 * times),
        (Total::Attempts, 100 * times),
        (Total::StartFailures, 90 * times),
    ] {
        lie.totals[total as usize] = value;
    }
    lie.samples = vec![(Metric::Msd, 90_000); 100];
    lie
}

/// With these bounds of an address.
fn bounded(keys_per_address_max: u32, alarm_samples_per_address_max: u32) -> Quality {
    let config = QualityConfig {
        keys_per_address_max,
        alarm_samples_per_address_max,
        ..QualityConfig::default()
    };
    Quality::new(config, NOW - EVERY_MS)
}

/// What alarms say of 40 sessions that stand still half of the time, where one address reports a
/// thousand CDNs a second that nobody has.
fn alarms_of_a_flood(quality: Quality) -> (Vec<Alarm>, Crowd) {
    let mut crowd = Crowd { quality, ..Crowd::of(0) };
    for n in 0..40 {
        let mut report = report(&n.to_string(), 1);
        report.batch = 0;
        let source = Source::of(n, false);
        let (begun_ms, next_ms) = (NOW - EVERY_MS, NOW + 5_000 + n as i64 * 100);
        crowd.viewers.push(Viewer { source, report, begun_ms, next_ms, is_in_cell: true });
    }
    let (mut raised, from_ms) = (Vec::new(), crowd.now_ms);
    for second in 0..40 {
        // A thousand reports a second, of CDNs that nobody has.
        for n in 0..1_000 {
            let made_up = lie(second * 1_000 + n, 1, &format!("cdn-{second}-{n}"));
            crowd.quality.take(&[made_up], LIAR, crowd.now_ms + 1);
        }
        raised.extend(crowd.run(1_000, from_ms, 500));
    }
    (raised, crowd)
}

#[test]
fn one_address_that_makes_keys_up_hides_no_alarm() {
    let is_told = |raised: &[Alarm]| raised.iter().any(|alarm| alarm.cell["cdn"] == "cdn-a");
    let (raised, _) = alarms_of_a_flood(bounded(100_000, 5));
    assert!(!is_told(&raised), "it would, without a bound");
    let (raised, crowd) = alarms_of_a_flood(bounded(32, 5));
    let [alarm] = &raised[..] else { panic!("{raised:#?}") };
    assert!(alarm.rule == Rule::StallRatio && is_told(&raised), "{alarm:?}");
    let left = crowd.quality.board().windows.left();
    assert!(left.source > 30_000 && left.evidence > 30_000, "{left:?}");
}

#[test]
fn one_address_raises_no_alarm_whatever_it_invents_and_hides_none_by_good_news() {
    let raised = |quality| {
        let mut crowd = Crowd { quality, ..Crowd::of(0) };
        let mut raised = 0;
        for batch in 1..=6 {
            let lies: Vec<Report> = (0..300).map(|n| lie(n, batch, "cdn-1")).collect();
            crowd.quality.take(&lies, LIAR, crowd.now_ms + 1);
            raised += crowd.run(5_000, i64::MAX, 0).len();
        }
        raised
    };
    assert_eq!((raised(bounded(32, 100_000)), raised(bounded(32, 5))), (3, 0));
    // A crowd of 180, 20 of them in the cell that stands still: its alarm comes all the same where
    // one address says that a thousand others are well.
    let mut crowd = Crowd::of(180);
    let from_ms = crowd.now_ms;
    let mut raised = Vec::new();
    for batch in 1..=4 {
        let well = |n: i64| {
            let mut well = lie(n, batch, "cdn-1");
            well.key.isp = "isp-2".to_owned();
            (well.samples, well.totals) = (vec![], [0; super::report::TOTALS]);
            well.totals[Total::PlayedMs as usize] = 1_000_000 * u64::from(batch);
            well
        };
        let well: Vec<Report> = (0..1_000).map(well).collect();
        crowd.quality.take(&well, LIAR, crowd.now_ms + 1);
        raised.extend(crowd.run(10_000, from_ms, 500));
    }
    assert_eq!(raised.len(), 1, "{raised:#?}");
}

#[test]
fn a_hall_behind_one_address_raises_an_alarm_with_a_few_others_and_none_alone() {
    let alarms = |others: usize| {
        let mut crowd = Crowd::of(0);
        for n in 0..1_000 + others {
            let source = if n < 1_000 { LIAR } else { Source::of(n as u64, false) };
            let next_ms = NOW + (n as i64 * 7_919) % EVERY_MS;
            let mut report = report(&n.to_string(), 1);
            report.batch = 0;
            let begun_ms = next_ms - EVERY_MS;
            crowd.viewers.push(Viewer { source, report, begun_ms, next_ms, is_in_cell: true });
        }
        let from_ms = crowd.now_ms;
        crowd.run(60_000, from_ms, 100).len()
    };
    assert_eq!((alarms(0), alarms(10)), (0, 1));
}
