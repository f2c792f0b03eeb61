//! What the server answered, for people as a table or for programs as JSON.
//!
//! Names and texts come from strangers: what would steer a terminal is shown as its number.

use super::when;
use crate::{Failure, printed};
use serde_json::Value;
use std::process::ExitCode;

/// The widest cell of a table, in characters; what is longer ends in dots.
const CELL_MAX: usize = 60;

/// Where answers go.
pub(super) struct Out {
    pub(super) json: bool,
}

impl Out {
    /// One thing: a line for each of its fields.
    pub(super) fn object(&self, value: &Value) -> Result<ExitCode, Failure> {
        if self.json {
            return printed(&value.to_string());
        }
        let fields: Vec<(&String, &Value)> = value.as_object().into_iter().flatten().collect();
        if fields.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        let title = |name: &str| heading(name).to_lowercase();
        let width = fields.iter().map(|(name, _)| title(name).len()).max().unwrap_or(0);
        let line = |(name, value): &(&String, &Value)| {
            format!("{:width$}  {}", title(name), cell(name, value))
        };
        printed(&fields.iter().map(line).collect::<Vec<_>>().join("\n"))
    }

    /// Many: a row for each, with these columns.
    pub(super) fn list(&self, values: &[Value], columns: &[&str]) -> Result<ExitCode, Failure> {
        if values.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        if self.json {
            let lines: Vec<String> = values.iter().map(Value::to_string).collect();
            return printed(&lines.join("\n"));
        }
        printed(&table(values, columns))
    }
}

fn table(values: &[Value], columns: &[&str]) -> String {
    let mut rows = vec![columns.iter().map(|name| heading(name)).collect::<Vec<_>>()];
    for value in values {
        let short = |name: &&str| {
            let whole = cell(name, &value[*name]);
            if whole.chars().count() <= CELL_MAX {
                return whole;
            }
            whole.chars().take(CELL_MAX - 3).chain("...".chars()).collect()
        };
        rows.push(columns.iter().map(short).collect());
    }
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A field's name as people read it.
fn heading(name: &str) -> String {
    name.trim_end_matches("_unix_ms").replace('_', " ").to_uppercase()
}

fn cell(name: &str, value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::Number(moment) if name.ends_with("_unix_ms") => {
            moment.as_i64().filter(|moment| *moment != 0).map_or("-".into(), when::text)
        }
        Value::Number(number) => number.to_string(),
        Value::String(text) => plain(text),
        Value::Array(list) => {
            list.iter().map(|one| cell(name, one)).collect::<Vec<_>>().join(" and ")
        }
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| {
                format!("{} {}", heading(name).to_lowercase(), cell(name, value))
            };
            fields.iter().map(field).collect::<Vec<_>>().join(", ")
        }
    }
}

/// A text without anything that steers a terminal or turns what stands around it.
pub(super) fn plain(text: &str) -> String {
    let shown = |c: char| {
        let turns = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}');
        if c.is_control() || turns { c.escape_unicode().to_string() } else { c.to_string() }
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_has_its_columns_in_line() {
        let rows = [
            json!({"user": "ann", "created_unix_ms": 1_795_000_000_123_i64, "erased": false}),
            json!({"user": "a longer name", "created_unix_ms": 0, "erased": true}),
        ];
        let text = table(&rows, &["user", "created_unix_ms", "erased", "missing"]);
        assert_eq!(
            text,
            "USER           CREATED                   ERASED  MISSING\n\
             ann            2026-11-18T11:06:40.123Z  no      -\n\
             a longer name  -                         yes     -"
        );
        let long = table(&[json!({"text": "x".repeat(99)})], &["text"]);
        assert!(long.ends_with("x...") && long.lines().all(|line| line.len() <= CELL_MAX));
    }

    #[test]
    fn what_would_steer_a_terminal_is_shown_as_its_number() {
        assert_eq!(
            plain("a\u{1b}[31mb\r\n\u{202e}c \u{1f680}"),
            "a\\u{1b}[31mb\\u{d}\\u{a}\\u{202e}c \u{1f680}"
        );
    }
}
