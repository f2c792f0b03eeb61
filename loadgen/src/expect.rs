//! Bounds a run must keep, as typed after `--expect`.
//!
//! Owns their syntax and the comparison. Never knows where a figure comes from.

use std::fmt;
use std::str::FromStr;

/// How a figure is compared with its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    AtMost,
    Below,
    AtLeast,
    Above,
    Equal,
}

/// Longer words first: `<=` begins with `<`.
const RELATIONS: [(&str, Relation); 5] = [
    ("<=", Relation::AtMost),
    (">=", Relation::AtLeast),
    ("==", Relation::Equal),
    ("<", Relation::Below),
    (">", Relation::Above),
];

/// Short forms of keys.
const SHORT: [(&str, &str); 8] = [
    ("p50_ms", "latency_ms_p50"),
    ("p90_ms", "latency_ms_p90"),
    ("p99_ms", "latency_ms_p99"),
    ("p999_ms", "latency_ms_p999"),
    ("max_ms", "latency_ms_max"),
    ("share", "delivered_share"),
    ("connects_per_s", "connects_per_second"),
    ("rss_bytes", "server_rss_bytes"),
];

/// One bound. Its text is the name of the check.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Expectation {
    text: String,
    key: String,
    relation: Relation,
    bound: f64,
}

impl Expectation {
    /// The JSON key of the figure it bounds.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// Whether a value keeps it.
    pub(crate) fn holds(&self, value: f64) -> bool {
        match self.relation {
            Relation::AtMost => value <= self.bound,
            Relation::Below => value < self.bound,
            Relation::AtLeast => value >= self.bound,
            Relation::Above => value > self.bound,
            Relation::Equal => value == self.bound,
        }
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Expectation {
    type Err = String;

    fn from_str(text: &str) -> Result<Expectation, String> {
        let found = RELATIONS.iter().find_map(|(word, relation)| {
            text.split_once(word).map(|(key, bound)| (key.trim(), *relation, bound.trim()))
        });
        let (key, relation, bound) = found.ok_or_else(|| {
            format!("{text:?} has none of <= >= == < >; an example is p99_ms<=1000")
        })?;
        if key.is_empty() {
            return Err(format!("{text:?} names no figure; an example is p99_ms<=1000"));
        }
        let bound = bound.parse().map_err(|_| format!("{bound:?} is no number"))?;
        let key = SHORT.iter().find(|(short, _)| *short == key).map_or(key, |(_, long)| long);
        let text = text.split_whitespace().collect();
        Ok(Expectation { text, key: key.to_owned(), relation, bound })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Expectation {
        text.parse().expect("valid")
    }

    #[test]
    fn short_forms_and_full_keys_name_the_same_figure() {
        assert_eq!(parse("p99_ms<=1000").key(), "latency_ms_p99");
        assert_eq!(parse("latency_ms_p99 <= 1000").key(), "latency_ms_p99");
        assert_eq!(parse("p99_ms <= 1000").to_string(), "p99_ms<=1000");
    }

    #[test]
    fn every_relation_compares_as_it_is_written() {
        let holds = |text: &str| [1.0, 2.0, 3.0].map(|value| parse(text).holds(value));
        assert_eq!(holds("x<=2"), [true, true, false]);
        assert_eq!(holds("x<2"), [true, false, false]);
        assert_eq!(holds("x>=2"), [false, true, true]);
        assert_eq!(holds("x>2"), [false, false, true]);
        assert_eq!(holds("x==2"), [false, true, false]);
        assert!(!parse("x<=2").holds(f64::INFINITY), "a missing delivery keeps no bound");
        assert!(!parse("x<=2").holds(f64::NAN), "nor does a figure that is not known");
        assert!(!parse("x>=2").holds(f64::NAN));
    }

    #[test]
    fn what_is_no_bound_is_refused_with_an_example() {
        for text in ["", "p99_ms", "<=5", "p99_ms<=fast", "p99_ms=5"] {
            let error = text.parse::<Expectation>().expect_err(text);
            assert!(!error.is_empty());
        }
    }
}
