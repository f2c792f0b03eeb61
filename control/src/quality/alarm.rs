//! Alarms: which cells are worse than they may be, and since when.
//!
//! Four rules, each a value of a group of cells against a threshold. An alarm is raised where the
//! value of the last 10 to 20 s reaches the threshold, or a third of it and several times what the
//! group's own last hour was. It is cleared after three windows below a part of the line that
//! raised it, so that it does not flap. Few samples raise nothing, and no source weighs more than
//! it may. Pure: time is an argument.

use super::cell::Cell;
use super::config::QualityConfig;
use super::report::{Dimension, Key, Metric, Side, Total};
use super::sketch::Sketch;
use super::windows::Windows;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use utoipa::ToSchema;

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = QualityRule)]
pub(crate) enum Rule {
    /// The share of time that viewers of a CDN and ISP wait for the stream.
    StallRatio,
    /// The share of starts over a CDN and ISP that fail.
    StartFailureRatio,
    /// The milliseconds that 95 % of the starts over a CDN and ISP are not above.
    StartP95Ms,
    /// The share of its frames that a pushed room drops.
    FrameDropRatio,
}

impl Rule {
    pub(crate) const ALL: [Rule; 4] =
        [Rule::StallRatio, Rule::StartFailureRatio, Rule::StartP95Ms, Rule::FrameDropRatio];

    /// As JSON and labels write it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Rule::StallRatio => "stall_ratio",
            Rule::StartFailureRatio => "start_failure_ratio",
            Rule::StartP95Ms => "start_p95_ms",
            Rule::FrameDropRatio => "frame_drop_ratio",
        }
    }

    fn side(self) -> Side {
        match self {
            Rule::FrameDropRatio => Side::Push,
            Rule::StallRatio | Rule::StartFailureRatio | Rule::StartP95Ms => Side::Play,
        }
    }

    /// What its groups are told apart by.
    fn by(self) -> &'static [Dimension] {
        match self {
            Rule::FrameDropRatio => &[Dimension::Room],
            Rule::StallRatio | Rule::StartFailureRatio | Rule::StartP95Ms => {
                &[Dimension::Cdn, Dimension::Isp]
            }
        }
    }

    /// Where it is raised; 0: never.
    fn threshold(self, config: &QualityConfig) -> f64 {
        let percent = |percent: u32| f64::from(percent) / 100.0;
        match self {
            Rule::StallRatio => percent(config.alarm_stall_percent),
            Rule::StartFailureRatio => percent(config.alarm_start_failure_percent),
            Rule::StartP95Ms => f64::from(config.alarm_start_p95_ms),
            Rule::FrameDropRatio => percent(config.alarm_frame_drop_percent),
        }
    }

    fn samples_min(self, config: &QualityConfig) -> u64 {
        match self.side() {
            Side::Play => u64::from(config.alarm_samples_min),
            Side::Push => 1,
        }
    }
}

/// Whether it is as bad as that now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = QualityAlarmState)]
pub(crate) enum State {
    Raised,
    Cleared,
}

/// An alarm, as it is told.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = QualityAlarm)]
pub(crate) struct Alarm {
    pub(crate) rule: Rule,
    pub(crate) state: State,
    /// The cell, by what the rule tells apart: `cdn` and `isp`, or `room`.
    pub(crate) cell: BTreeMap<&'static str, String>,
    /// The worst value since it was raised: a share (0 to 1), or milliseconds.
    pub(crate) value: f64,
    /// The line it reached.
    pub(crate) line: f64,
    /// What the cell's value was in the hour before, where that is known.
    pub(crate) before: Option<f64>,
    /// What the value was last taken from: sessions, or starts; of one address a few only.
    pub(crate) samples: u64,
    /// When it was raised, in milliseconds since 1970.
    pub(crate) raised_ms: i64,
    /// When it was cleared; 0: it was not.
    pub(crate) cleared_ms: i64,
}

/// A group of cells under a rule.
type Group = (Rule, Vec<String>);

/// What a group's value is computed from.
#[derive(Default)]
struct Basis {
    plays: u64,
    part: u64,
    whole: u64,
    starts: Sketch,
}

impl Basis {
    fn add(&mut self, rule: Rule, cell: &Cell) {
        self.plays += cell.plays();
        let (part, whole) = match rule {
            Rule::StallRatio => (Total::StallMs, Total::PlayedMs),
            Rule::StartFailureRatio => (Total::StartFailures, Total::Attempts),
            Rule::FrameDropRatio => (Total::FramesDropped, Total::Frames),
            Rule::StartP95Ms => {
                if let Some(starts) = cell.sketch(Metric::Msd) {
                    self.starts.merge(starts);
                }
                return;
            }
        };
        self.part += cell.total(part);
        // An attempt that failed is an attempt; time stalled and frames dropped come on top.
        let on_top = if rule == Rule::StartFailureRatio { 0 } else { cell.total(part) };
        self.whole += cell.total(whole) + on_top;
    }

    /// The value, and how many samples it is from.
    fn value(&self, rule: Rule) -> Option<(f64, u64)> {
        let ratio = || (self.whole > 0).then(|| self.part as f64 / self.whole as f64);
        match rule {
            Rule::StallRatio | Rule::FrameDropRatio => Some((ratio()?, self.plays)),
            Rule::StartFailureRatio => Some((ratio()?, self.whole)),
            Rule::StartP95Ms => Some((self.starts.quantile(0.95)?, self.starts.count())),
        }
    }
}

/// What is remembered of a group.
#[derive(Default)]
struct Watched {
    /// The mean of its last windows while there was no alarm, about an hour of them.
    before: f64,
    windows: u32,
    /// Windows in a row that were well below the line.
    calm: u32,
    raised: Option<Alarm>,
    seen_ms: i64,
}

/// Windows of an hour: as many the mean remembers.
const BEFORE_WINDOWS: u32 = 360;
/// Five minutes: a change is judged against no less.
const CHANGE_WINDOWS: u32 = 30;
/// Calm windows after which an alarm is cleared.
const CALM_WINDOWS: u32 = 3;
/// A group that was not seen for an hour is forgotten.
const FORGET_MS: i64 = 3_600_000;
/// Alarms that are over and still told. Reached: the oldest goes.
const CLEARED_MAX: usize = 100;

/// All groups, and what is wrong with them.
pub(crate) struct Alarms {
    config: QualityConfig,
    groups: BTreeMap<Group, Watched>,
    cleared: VecDeque<Alarm>,
    /// Groups that were not watched: there were too many.
    unwatched: u64,
}

impl Alarms {
    pub(crate) fn new(config: &QualityConfig) -> Alarms {
        let (groups, cleared) = (BTreeMap::new(), VecDeque::new());
        Alarms { config: config.clone(), groups, cleared, unwatched: 0 }
    }

    /// Looks at the last windows, once a second about; `is_over`: a fine window was closed just
    /// before, and its successor is empty. What changed.
    pub(crate) fn look(&mut self, windows: &Windows, now_ms: i64, is_over: bool) -> Vec<Alarm> {
        let mut bases = BTreeMap::<Group, Basis>::new();
        let rules = Rule::ALL.into_iter().filter(|rule| rule.threshold(&self.config) > 0.0);
        let rules: Vec<Rule> = rules.collect();
        windows.visit_evidence(|key, cell| {
            for rule in rules.iter().filter(|rule| rule.side() == key.side) {
                bases.entry(group(*rule, key)).or_default().add(*rule, cell);
            }
        });
        let mut changed = Vec::new();
        for (group, basis) in bases {
            let rule = group.0;
            let groups_max = self.config.keys_max as usize * Rule::ALL.len();
            if !self.groups.contains_key(&group) && self.groups.len() >= groups_max {
                self.unwatched += 1;
                continue;
            }
            let found = basis.value(rule);
            let found = found.filter(|(_, many)| *many >= rule.samples_min(&self.config));
            let watched = self.groups.entry(group.clone()).or_default();
            watched.seen_ms = now_ms;
            if let Some((value, samples)) = found {
                changed.extend(watched.judge(&self.config, &group, (value, samples), now_ms));
                if is_over {
                    watched.learn(value);
                }
            }
            if is_over {
                let value = found.map(|(value, _)| value);
                changed.extend(watched.calm_down(&self.config, value, now_ms));
            }
        }
        if is_over {
            changed.extend(self.forget(now_ms));
        }
        for alarm in changed.iter().filter(|alarm| alarm.state == State::Cleared) {
            if self.cleared.len() >= CLEARED_MAX {
                self.cleared.pop_front();
            }
            self.cleared.push_back(alarm.clone());
        }
        changed
    }

    /// Groups of which nothing is heard any more calm down too, and are forgotten.
    fn forget(&mut self, now_ms: i64) -> Vec<Alarm> {
        let mut changed = Vec::new();
        for watched in self.groups.values_mut().filter(|watched| watched.seen_ms != now_ms) {
            changed.extend(watched.calm_down(&self.config, None, now_ms));
        }
        self.groups.retain(|_, one| one.raised.is_some() || now_ms - one.seen_ms < FORGET_MS);
        changed
    }

    /// What is raised now, the longest first.
    pub(crate) fn raised(&self) -> Vec<Alarm> {
        let mut raised: Vec<Alarm> =
            self.groups.values().filter_map(|watched| watched.raised.clone()).collect();
        raised.sort_by_key(|alarm| alarm.raised_ms);
        raised
    }

    /// What was cleared lately, the latest first.
    pub(crate) fn cleared(&self) -> Vec<Alarm> {
        self.cleared.iter().rev().cloned().collect()
    }

    /// Looks at groups that were left out: there were too many.
    pub(crate) fn unwatched(&self) -> u64 {
        self.unwatched
    }
}

fn group(rule: Rule, key: &Key) -> Group {
    (rule, rule.by().iter().map(|dimension| key.text(*dimension).to_owned()).collect())
}

impl Watched {
    fn before(&self) -> Option<f64> {
        (self.windows >= CHANGE_WINDOWS).then_some(self.before)
    }

    /// The lowest line that raises an alarm now.
    fn line(&self, rule: Rule, config: &QualityConfig) -> f64 {
        let threshold = rule.threshold(config);
        let change = f64::from(config.alarm_change_percent) / 100.0;
        match self.before() {
            Some(before) if change > 0.0 => threshold.min((before * change).max(threshold / 3.0)),
            _ => threshold,
        }
    }

    fn judge(
        &mut self,
        config: &QualityConfig,
        (rule, texts): &Group,
        (value, samples): (f64, u64),
        now_ms: i64,
    ) -> Option<Alarm> {
        if let Some(alarm) = &mut self.raised {
            (alarm.value, alarm.samples) = (alarm.value.max(value), samples);
            return None;
        }
        let line = self.line(*rule, config);
        if value < line {
            return None;
        }
        let words = rule.by().iter().map(|dimension| dimension.word());
        let alarm = Alarm {
            rule: *rule,
            state: State::Raised,
            cell: words.zip(texts.iter().cloned()).collect(),
            value,
            line,
            before: self.before(),
            samples,
            raised_ms: now_ms,
            cleared_ms: 0,
        };
        self.calm = 0;
        self.raised = Some(alarm.clone());
        Some(alarm)
    }

    /// What is bad is not what it is usually like.
    fn learn(&mut self, value: f64) {
        if self.raised.is_none() {
            self.windows = (self.windows + 1).min(BEFORE_WINDOWS);
            self.before += (value - self.before) / f64::from(self.windows);
        }
    }

    /// A window was over; `None`: it had too little to tell.
    fn calm_down(
        &mut self,
        config: &QualityConfig,
        value: Option<f64>,
        now_ms: i64,
    ) -> Option<Alarm> {
        let alarm = self.raised.as_ref()?;
        let below = alarm.line * f64::from(config.alarm_clear_percent) / 100.0;
        self.calm = if value.is_none_or(|value| value < below) { self.calm + 1 } else { 0 };
        if self.calm < CALM_WINDOWS {
            return None;
        }
        let mut alarm = self.raised.take()?;
        (alarm.state, alarm.cleared_ms) = (State::Cleared, now_ms);
        Some(alarm)
    }
}
