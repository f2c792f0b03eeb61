//! The result of a run: one struct, from which the table on the terminal and the JSON file are
//! both written.
//!
//! Owns which figures there are, their names, units and rounding. A figure that is in one form is
//! in the other, with the same digits.

pub(crate) mod figures;
mod json;
mod text;

use crate::check::{Check, TESTER_LIMITED};
use crate::plan::Plan;
use std::fmt;
use std::process::ExitCode;

pub(crate) use json::json;
pub(crate) use text::text;

/// A figure's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    Count(u64),
    /// A number and how many decimals of it are told.
    Real(f64, u8),
    /// Above every number: it falls among deliveries that never came.
    Infinite,
    /// Nobody could tell.
    Unknown,
}

impl Value {
    /// A number that may not be known.
    pub(crate) fn real(value: Option<f64>, decimals: u8) -> Value {
        value.filter(|v| v.is_finite()).map_or(Value::Unknown, |v| Value::Real(v, decimals))
    }

    /// A count that may not be known.
    pub(crate) fn count(value: Option<f64>) -> Value {
        value
            .filter(|v| v.is_finite() && *v >= 0.0)
            .map_or(Value::Unknown, |v| Value::Count(v.round() as u64))
    }

    /// As it is told: rounded. `None` where it is no number.
    pub(crate) fn number(&self) -> Option<f64> {
        match *self {
            Value::Count(n) => Some(n as f64),
            Value::Real(value, decimals) => {
                let scale = 10f64.powi(i32::from(decimals));
                Some((value * scale).round() / scale)
            }
            Value::Infinite | Value::Unknown => None,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Value::Count(n) => f.write_str(&grouped(n)),
            Value::Real(..) => {
                let (number, decimals) = (self.number().unwrap_or(0.0), self.decimals());
                let text = format!("{:.*}", decimals, number.abs());
                let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
                let sign = if number < 0.0 { "-" } else { "" };
                let point = if fraction.is_empty() { "" } else { "." };
                write!(f, "{sign}{}{point}{fraction}", grouped(whole.parse().unwrap_or(0)))
            }
            Value::Infinite => f.write_str("infinite"),
            Value::Unknown => f.write_str("unknown"),
        }
    }
}

impl Value {
    fn decimals(&self) -> usize {
        if let Value::Real(_, decimals) = self { usize::from(*decimals) } else { 0 }
    }
}

/// A number with its thousands set apart.
pub(crate) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// One line of the result.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Figure {
    /// JSON key; its unit is in it, where it has one.
    pub(crate) key: String,
    /// For people.
    pub(crate) label: String,
    /// Behind the value, for people.
    pub(crate) unit: &'static str,
    pub(crate) value: Value,
}

impl Figure {
    pub(crate) fn new(key: &str, label: &str, unit: &'static str, value: Value) -> Figure {
        Figure { key: key.to_owned(), label: label.to_owned(), unit, value }
    }
}

/// Figures that belong together.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Group {
    pub(crate) title: &'static str,
    pub(crate) figures: Vec<Figure>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Ok,
    Failed,
    TesterLimited,
}

impl Verdict {
    /// As in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Failed => "failed",
            Verdict::TesterLimited => "tester_limited",
        }
    }

    /// As documented in `--help`.
    pub(crate) fn exit_code(self) -> ExitCode {
        ExitCode::from(match self {
            Verdict::Ok => 0,
            Verdict::Failed => 1,
            Verdict::TesterLimited => 3,
        })
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) scenario: &'static str,
    /// What was run: key, words for people, text.
    pub(crate) setup: Vec<(&'static str, &'static str, String)>,
    pub(crate) groups: Vec<Group>,
    pub(crate) checks: Vec<Check>,
    pub(crate) notes: Vec<String>,
}

impl Report {
    /// The run's own description.
    pub(crate) fn setup(plan: &Plan, io: &str) -> Vec<(&'static str, &'static str, String)> {
        vec![
            ("target", "target", plan.target.to_string()),
            ("transport", "transport", plan.transport().to_owned()),
            ("room", "room", plan.room.to_string()),
            ("io", "tester's sockets by", io.to_owned()),
            ("run", "run", format!("{:08x}", plan.run)),
            ("seed", "seed", plan.seed.to_string()),
        ]
    }

    /// Names of the checks that did not hold.
    pub(crate) fn checks_failed(&self) -> Vec<&str> {
        self.checks.iter().filter(|c| !c.held).map(|c| c.name.as_str()).collect()
    }

    /// All figures, in order.
    pub(crate) fn figures(&self) -> impl Iterator<Item = &Figure> {
        self.groups.iter().flat_map(|group| &group.figures)
    }

    /// How the run ended. A limited tester says nothing about the server, whatever else failed.
    pub(crate) fn verdict(&self) -> Verdict {
        let failed = self.checks_failed();
        if failed.is_empty() {
            Verdict::Ok
        } else if failed.contains(&TESTER_LIMITED) {
            Verdict::TesterLimited
        } else {
            Verdict::Failed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario;
    use crate::summary::tests::{good_run, plan};
    use std::collections::BTreeMap;

    fn reports() -> Vec<Report> {
        let lines = ["live", "idle", "churn", "overload", "slow", "storm"];
        lines.iter().map(|line| scenario::report(&plan(line), good_run(10))).collect()
    }

    /// The table read back: value by label.
    fn table(text: &str, report: &Report) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        for figure in report.figures() {
            let line = text
                .lines()
                .find(|line| {
                    line.trim_start()
                        .strip_prefix(figure.label.as_str())
                        .is_some_and(|r| r.starts_with("  "))
                })
                .unwrap_or_else(|| panic!("{:?} has no line in\n{text}", figure.label));
            let rest = line.trim_start().strip_prefix(figure.label.as_str()).unwrap_or_default();
            let value = rest.split_whitespace().next().unwrap_or_default().replace(',', "");
            assert!(
                found.insert(figure.label.clone(), value).is_none(),
                "{:?} is there twice",
                figure.label
            );
        }
        found
    }

    #[test]
    fn the_table_and_the_json_hold_the_same_figures() {
        for report in reports() {
            let text = text(&report);
            let json = json(&report);
            let table = table(&text, &report);
            let mut compared = 0;
            for figure in report.figures() {
                let in_text = &table[&figure.label];
                let in_json = &json[figure.key.as_str()];
                match in_json.as_f64() {
                    Some(number) => assert_eq!(in_text.parse(), Ok(number), "{}", figure.key),
                    None => {
                        assert!(in_json.is_null(), "{}", figure.key);
                        assert!(
                            ["unknown", "infinite"].contains(&in_text.as_str()),
                            "{}",
                            figure.key
                        );
                    }
                }
                compared += 1;
            }
            assert!(compared >= 20, "{} figures of {}", compared, report.scenario);
            let object = json.as_object().expect("an object");
            let numbers = object.values().filter(|v| v.is_number() || v.is_null()).count();
            assert_eq!(numbers, compared, "JSON holds no figure that the table lacks");
        }
    }

    #[test]
    fn the_promised_keys_are_there_in_every_scenario() {
        let keys = "viewers_connected messages_offered messages_admitted messages_merged \
            messages_shed deliveries deliveries_expected duplicates out_of_order gaps \
            socket_writes latency_ms_p50 latency_ms_p99 latency_ms_p999 latency_ms_max \
            connects_per_second server_cpu_seconds \
            server_rss_bytes checks_failed deliveries_per_s socket_writes_per_s";
        for report in reports() {
            let json = json(&report);
            for key in keys.split_whitespace() {
                assert!(json.get(key).is_some(), "{} lacks {key}", report.scenario);
            }
        }
    }

    #[test]
    fn keys_and_labels_are_unique() {
        for report in reports() {
            let keys: Vec<&str> = report.figures().map(|f| f.key.as_str()).collect();
            let labels: Vec<&str> = report.figures().map(|f| f.label.as_str()).collect();
            for list in [keys, labels] {
                let mut sorted = list.clone();
                sorted.sort_unstable();
                sorted.dedup();
                assert_eq!(sorted.len(), list.len(), "{}: {list:?}", report.scenario);
            }
        }
    }

    #[test]
    fn the_verdict_is_the_exit_code() {
        let mut report = scenario::report(&plan("live --viewers 3 --publishers 2"), good_run(10));
        assert_eq!((report.verdict(), report.checks_failed().len()), (Verdict::Ok, 0));
        report.checks.push(Check::new("x", false, ""));
        assert_eq!(report.verdict(), Verdict::Failed);
        report.checks.push(Check::new(TESTER_LIMITED, false, ""));
        assert_eq!(report.verdict(), Verdict::TesterLimited);
        assert_eq!(report.checks_failed(), ["x", TESTER_LIMITED]);
    }

    #[test]
    fn values_are_written_for_people() {
        let words = |value: Value| value.to_string();
        assert_eq!(words(Value::Count(1_234_567)), "1,234,567");
        assert_eq!(words(Value::Count(12)), "12");
        assert_eq!(words(Value::Real(1234.567, 1)), "1,234.6");
        assert_eq!(words(Value::Real(-0.5, 2)), "-0.50");
        assert_eq!(words(Value::real(Some(f64::NAN), 1)), "unknown");
        assert_eq!(words(Value::count(None)), "unknown");
        assert_eq!(words(Value::Infinite), "infinite");
    }
}
