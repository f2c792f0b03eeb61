//! What a run leaves behind: one table for people, the raw figures for everybody else, both from
//! the same rows. Owns their shape; never measures.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

/// Whether a row reached its aim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It did.
    Met,
    /// It did not.
    Missed,
    /// It has no aim, or the run cannot tell (the notes say why).
    Open,
}

impl Verdict {
    /// Met where `held`.
    #[must_use]
    pub fn of(held: bool) -> Verdict {
        if held { Verdict::Met } else { Verdict::Missed }
    }

    fn word(self) -> &'static str {
        match self {
            Verdict::Met => "met",
            Verdict::Missed => "**missed**",
            Verdict::Open => "-",
        }
    }
}

/// One line of the table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    /// What was measured.
    pub what: String,
    /// What was aimed at, in words.
    pub aim: String,
    /// What came out, in words.
    pub measured: String,
    /// The ratio that is judged, where there is one.
    pub ratio: Option<f64>,
    /// Smallest and largest ratio among the repetitions.
    pub ratio_spread: Option<(f64, f64)>,
    /// Against the aim.
    pub verdict: Verdict,
}

/// One row of the bench: its lines, its notes, everything that was read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// Its name on the command line.
    pub name: String,
    /// When it ran, seconds since 1970.
    pub unix_s: u64,
    /// How long it took.
    pub took_s: f64,
    /// Whether sizes were made smaller for a trial: then the figures are not to be quoted.
    pub trial: bool,
    /// The lines.
    pub lines: Vec<Line>,
    /// What a reader must know.
    pub notes: Vec<String>,
    /// Every repetition of every side, as read.
    pub raw: Value,
}

/// All rows of one machine and day.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Run {
    /// The machine, as read from it.
    pub machine: BTreeMap<String, String>,
    /// By name; a row that is run again replaces its earlier self.
    pub rows: BTreeMap<String, Row>,
}

/// The order of the rows in the table.
pub const ORDER: [&str; 11] = [
    "fanout", "delivery", "capacity", "memory", "connect", "churn", "overload", "frozen",
    "scaling", "filter", "runtimes",
];

impl Run {
    /// The run kept in `folder`; an empty one where there is none yet.
    ///
    /// # Errors
    /// raw.json is there and cannot be read.
    pub fn load(folder: &Path) -> io::Result<Run> {
        match std::fs::read(folder.join("raw.json")) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::other),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Run::default()),
            Err(e) => Err(e),
        }
    }

    /// Writes raw.json and README.md.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn save(&self, folder: &Path) -> io::Result<()> {
        std::fs::create_dir_all(folder)?;
        let raw = serde_json::to_string_pretty(self).map_err(io::Error::other)?;
        std::fs::write(folder.join("raw.json"), raw + "\n")?;
        std::fs::write(folder.join("README.md"), self.readme())
    }

    /// The table, the notes and the machine, as Markdown.
    #[must_use]
    pub fn readme(&self) -> String {
        let mut text = String::from(
            "# One run of `scripts/bench`\n\n\
             Written by the harness from `raw.json`; what each row does and what is unfair about \
             it is told in `benches/README.md`.\n\n",
        );
        text += &table(self.ordered().flat_map(|row| &row.lines));
        text += "\n## Notes\n\n";
        for row in self.ordered() {
            if row.trial {
                let _ = writeln!(text, "* `{}`: a trial with small sizes, not a result.", row.name);
            }
            for note in &row.notes {
                let _ = writeln!(text, "* `{}`: {note}", row.name);
            }
        }
        text += "\n## Machine\n\n| fact | value |\n|---|---|\n";
        for (fact, value) in &self.machine {
            let _ = writeln!(text, "| {fact} | {value} |");
        }
        text
    }

    fn ordered(&self) -> impl Iterator<Item = &Row> {
        ORDER.iter().filter_map(|name| self.rows.get(*name))
    }
}

/// Lines as a Markdown table.
#[must_use]
pub fn table<'a>(lines: impl Iterator<Item = &'a Line>) -> String {
    let mut text =
        String::from("| what | aim | measured | ratio (spread) | |\n|---|---|---|---|---|\n");
    for line in lines {
        let mut ratio = line.ratio.map(|r| format!("{r:.3}")).unwrap_or_default();
        if let Some((low, high)) = line.ratio_spread {
            let _ = write!(ratio, " ({low:.3} to {high:.3})");
        }
        let Line { what, aim, measured, verdict, .. } = line;
        let _ = writeln!(text, "| {what} | {aim} | {measured} | {ratio} | {} |", verdict.word());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, ratio: f64) -> Row {
        let line = Line {
            what: format!("CPU of {name}"),
            aim: "at most 1.0 x".to_owned(),
            measured: "7.1 µs".to_owned(),
            ratio: Some(ratio),
            ratio_spread: Some((0.9, 1.1)),
            verdict: Verdict::of(ratio <= 1.0),
        };
        Row {
            name: name.to_owned(),
            unix_s: 1,
            took_s: 2.0,
            trial: name == "fanout",
            lines: vec![line],
            notes: vec!["a note".to_owned()],
            raw: serde_json::json!([{ "busy_s": 1.5 }]),
        }
    }

    fn run() -> Run {
        let machine = BTreeMap::from([("kernel".to_owned(), "6.18".to_owned())]);
        let rows = [row("runtimes", 1.02), row("fanout", 0.95)];
        Run { machine, rows: rows.map(|row| (row.name.clone(), row)).into() }
    }

    #[test]
    fn the_table_tells_met_from_missed_in_the_order_of_the_rows() {
        let text = run().readme();
        let met =
            text.find("| CPU of fanout | at most 1.0 x | 7.1 µs | 0.950 (0.900 to 1.100) | met |");
        let missed = text.find("| 1.020 (0.900 to 1.100) | **missed** |");
        assert!(met.expect("fanout is met") < missed.expect("runtimes is missed"), "{text}");
        assert!(text.contains("| kernel | 6.18 |") && text.contains("* `runtimes`: a note"));
        assert!(text.contains("* `fanout`: a trial") && !text.contains("* `runtimes`: a trial"));
    }

    #[test]
    fn a_run_is_kept_and_added_to() {
        let folder = std::env::temp_dir().join(format!("uproar-run-{}", std::process::id()));
        assert!(Run::load(&folder).expect("no run yet").rows.is_empty());
        run().save(&folder).expect("saved");
        let mut again = Run::load(&folder).expect("kept");
        again.rows.insert("fanout".to_owned(), row("fanout", 1.5));
        again.save(&folder).expect("saved");
        let last = Run::load(&folder).expect("kept");
        std::fs::remove_dir_all(&folder).expect("removed");
        assert_eq!(last.rows.len(), 2);
        assert_eq!(last.rows["fanout"].lines[0].verdict, Verdict::Missed);
        assert_eq!(last.rows["runtimes"].raw[0]["busy_s"], 1.5);
    }
}
