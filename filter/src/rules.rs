//! Regular expressions over folded text.
//!
//! All of them are one automaton, which is built as far as texts need it and within a bound: time
//! is linear in the text, whatever is written in the list.

use crate::han::simplified;
use crate::list::{Bad, shown};
use regex::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};

/// Bytes that one rule may compile to: `vx.{0,100}\d{5,}` takes 130,000, `\w` about 50,000 (all
/// letters there are), `[a-z0-9]` less than 300. More: refused.
const RULE_BYTES_MAX: usize = 160 << 10;
/// Bytes that all of them may compile to. More: refused. It bounds the time of a text too: where
/// states do not suffice, each character costs as much as the whole program is long. At the most
/// 30 ms for a text of 4,000 bytes, of rules made to that end (`a[a-z ]{480}[0-9]`, three times;
/// one core of an AMD EPYC); 3 ms of `(v|vx).{0,100}\d{5,}`.
const RULES_BYTES_MAX: usize = 512 << 10;
/// Bytes of states that are built meanwhile, for each thread that asks. Reached: they are thrown
/// away and built anew.
const STATES_BYTES_MAX: usize = 2 << 20;

/// All rules of a list.
pub(crate) struct Rules {
    /// `None`: there are none.
    set: Option<RegexSet>,
    /// As they were written, in the order of the set.
    written: Vec<String>,
}

impl Rules {
    pub(crate) fn compile(list: &[String]) -> Result<Rules, Bad> {
        if list.is_empty() {
            return Ok(Rules { set: None, written: Vec::new() });
        }
        for text in list {
            let rule = one(text).map_err(|why| Bad(format!("regex {} {why}", shown(text))))?;
            if rule.is_match("") {
                let why = "hits the empty text, and so every message";
                return Err(Bad(format!("regex {} {why}", shown(text))));
            }
        }
        let mut builder = RegexSetBuilder::new(list.iter().map(|text| in_one_form(text)));
        builder.case_insensitive(true).size_limit(RULES_BYTES_MAX).dfa_size_limit(STATES_BYTES_MAX);
        let set = builder.build().map_err(|_| {
            Bad(format!("the regexes together compile to more than {RULES_BYTES_MAX} bytes"))
        })?;
        Ok(Rules { set: Some(set), written: list.to_vec() })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.set.is_none()
    }

    pub(crate) fn is_hit(&self, folded: &str) -> bool {
        self.set.as_ref().is_some_and(|set| set.is_match(folded))
    }

    /// Whether these are the rules of a list.
    pub(crate) fn is_of(&self, list: &[String]) -> bool {
        self.written == list
    }

    /// All rules that a text hits, as they were written, in their order.
    pub(crate) fn all(&self, folded: &str) -> Vec<String> {
        let Some(set) = &self.set else { return Vec::new() };
        let hits = set.matches(folded).into_iter();
        hits.map(|place| self.written[place].clone()).collect()
    }
}

/// A rule as folded text needs it: with simplified Chinese characters, which mean nothing else in
/// an expression. The ends of a range (`[一-龜]`) stay, since they are no letters but places.
fn in_one_form(rule: &str) -> String {
    let mut chars = rule.chars().peekable();
    let mut before = None;
    let mut out = String::with_capacity(rule.len());
    while let Some(c) = chars.next() {
        let is_end = before == Some('-') || chars.peek() == Some(&'-');
        out.push(if is_end { c } else { simplified(c) });
        before = Some(c);
    }
    out
}

fn one(text: &str) -> Result<Regex, String> {
    let mut builder = RegexBuilder::new(&in_one_form(text));
    let built = builder.case_insensitive(true).size_limit(RULE_BYTES_MAX).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => {
            let mend = "repeat less, or name fewer characters ([a-z0-9] for \\w)";
            format!("compiles to more than {RULE_BYTES_MAX} bytes; {mend}")
        }
        error => {
            // Its last line says what is wrong; those before draw where.
            let told = error.to_string();
            let line = told.lines().last().unwrap_or_default().trim_start_matches("error: ");
            format!("is no regular expression: {line}")
        }
    })
}
