//! The result as a table for people: groups of aligned lines, then what did not hold, then one
//! line that says it all.

use super::{Report, Verdict};
use std::fmt::Write as _;

/// The whole report, ending in a newline.
pub(crate) fn text(report: &Report) -> String {
    let mut out = String::new();
    let label_width = report.figures().map(|f| f.label.chars().count()).max().unwrap_or(0);
    let value_width = report.figures().map(|f| f.value.to_string().len()).max().unwrap_or(0);
    let setup: Vec<String> =
        report.setup.iter().map(|(_, words, text)| format!("{words} {text}")).collect();
    let _ = writeln!(out, "\nuproar-loadgen {}: {}\n", report.scenario, setup.join(", "));
    for group in &report.groups {
        let _ = writeln!(out, "{}", group.title);
        for figure in &group.figures {
            let value = figure.value.to_string();
            let line =
                format!("  {:label_width$}  {value:>value_width$}  {}", figure.label, figure.unit);
            let _ = writeln!(out, "{}", line.trim_end());
        }
        out.push('\n');
    }
    for note in &report.notes {
        let _ = writeln!(out, "note: {note}");
    }
    if !report.notes.is_empty() {
        out.push('\n');
    }
    let held = report.checks.iter().filter(|check| check.held).count();
    for check in report.checks.iter().filter(|check| !check.held) {
        let _ = writeln!(out, "FAILED {}: {}", check.name, check.found);
    }
    let total = report.checks.len();
    let _ = match report.verdict() {
        Verdict::Ok => writeln!(out, "OK: all {total} checks held"),
        Verdict::Failed => writeln!(out, "FAILED: {} of {total} checks did not hold", total - held),
        Verdict::TesterLimited => writeln!(
            out,
            "TESTER LIMITED: the tester was the bottleneck (too many connections for its \
             threads, or other work on this machine), so the figures say nothing about the server"
        ),
    };
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Check;
    use crate::scenario;
    use crate::summary::tests::{good_run, plan};

    #[test]
    fn values_stand_in_one_column_and_the_last_line_is_the_verdict() {
        let report = scenario::report(&plan("live --viewers 3 --publishers 2"), good_run(10));
        let text = text(&report);
        assert!(
            text.ends_with(&format!("OK: all {} checks held\n", report.checks.len())),
            "{text}"
        );
        let label = report.figures().map(|f| f.label.len()).max().expect("figures");
        let value = report.figures().map(|f| f.value.to_string().len()).max().expect("figures");
        for figure in report.figures() {
            let line =
                text.lines().find(|l| l.trim_start().starts_with(&format!("{}  ", figure.label)));
            let line = line.expect("a line each");
            let end = line.chars().take(2 + label + 2 + value).collect::<String>();
            assert!(end.ends_with(&figure.value.to_string()), "{line:?} is not aligned");
        }
    }

    #[test]
    fn what_failed_is_named_with_what_was_found() {
        let mut report = scenario::report(&plan("live --viewers 3 --publishers 2"), good_run(10));
        report.checks.push(Check::new("gap_told", false, "nobody was told"));
        let text = text(&report);
        assert!(text.contains("FAILED gap_told: nobody was told\n"));
        assert!(text.contains("\nFAILED: 1 of "));
    }
}
