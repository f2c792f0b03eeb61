//! What must hold. Each check has a name that scripts can rely on, and says in words what it found.
//!
//! Owns the judgement of a run, apart from what only one scenario proves (`scenario/`). Never
//! counts anything itself.

use crate::plan::Plan;
use crate::report::{Figure, Value};
use crate::session::Facts;
use crate::summary::Summary;
use std::fmt::Write as _;

/// Timers later than this, in more than one of a hundred cases, mean that the tester was the
/// bottleneck.
const TIMER_LAG_MS_MAX: f64 = 20.0;
/// A thread busier than this share of its time does not measure any more.
const BUSY_SHARE_MAX: f64 = 0.9;

/// One thing that must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    /// Stable; listed in `checks_failed`.
    pub(crate) name: String,
    pub(crate) held: bool,
    /// What was found.
    pub(crate) found: String,
}

impl Check {
    pub(crate) fn new(name: &str, held: bool, found: impl Into<String>) -> Check {
        Check { name: name.to_owned(), held, found: found.into() }
    }

    /// A check that something did not happen.
    pub(crate) fn none(name: &str, n: u64, what: &str) -> Check {
        Check::new(name, n == 0, if n == 0 { format!("no {what}") } else { format!("{n} {what}") })
    }
}

/// The name of the check that makes every other figure meaningless.
pub(crate) const TESTER_LIMITED: &str = "tester_limited";

/// A few reasons, the most frequent first.
pub(crate) fn reasons<'a>(reasons: impl Iterator<Item = (&'a String, &'a u64)>) -> String {
    let mut all: Vec<_> = reasons.collect();
    all.sort_by_key(|(what, n)| (std::cmp::Reverse(**n), (*what).clone()));
    let mut words = String::new();
    for (what, n) in all.iter().take(5) {
        let _ = write!(words, "{}{n} x {what}", if words.is_empty() { "" } else { "; " });
    }
    if all.len() > 5 {
        let _ = write!(words, "; and {} more", all.len() - 5);
    }
    words
}

/// Everybody came, and whoever came stayed.
pub(crate) fn connections(plan: &Plan, facts: &Facts, may_be_lost: bool) -> Vec<Check> {
    let outcome = &facts.outcome;
    let total = u64::from(plan.heads.total());
    let mut found = format!("{} of {total}", outcome.established);
    if !outcome.failures.is_empty() {
        let _ = write!(found, " ({})", reasons(outcome.failures.iter()));
    }
    let mut checks = vec![Check::new("all_connected", outcome.established == total, found)];
    if let Some(why) = &facts.given_up {
        checks.push(Check::new("phase_given_up", false, why.clone()));
    }
    if !may_be_lost {
        let found = format!("{} lost ({})", outcome.lost, reasons(outcome.losses.iter()));
        let found = if outcome.lost == 0 { "none lost".to_owned() } else { found };
        checks.push(Check::new("connection_lost", outcome.lost == 0, found));
        checks.push(Check::none(
            "heartbeats",
            outcome.pings_missed,
            "pings without an answer within an interval",
        ));
    }
    checks
}

/// Every stream that was received was right.
pub(crate) fn streams(facts: &Facts, summary: &Summary) -> Vec<Check> {
    let (tally, ledger) = (&facts.outcome.tally, &facts.outcome.ledger);
    let unannounced = tally.unannounced_gaps + facts.outcome.gaps_owed;
    let unexpected: u64 = tally.unexpected.values().sum();
    let found = if unexpected == 0 { "none".into() } else { reasons(tally.unexpected.iter()) };
    vec![
        Check::none("duplicates", tally.duplicates + summary.twice, "messages came twice"),
        Check::none("out_of_order", tally.out_of_order, "messages came late"),
        Check::new(
            "unannounced_gap",
            unannounced == 0,
            if unannounced == 0 {
                "every jump of seq was announced".to_owned()
            } else {
                format!(
                    "{unannounced} jumps over {} messages without a gap frame",
                    tally.unannounced_messages
                )
            },
        ),
        Check::none(
            "content",
            ledger.damaged + ledger.conflicting,
            "messages damaged, or different for different viewers",
        ),
        Check::new("protocol", unexpected == 0, found),
    ]
}

/// Everybody saw the same, and everything that was admitted.
pub(crate) fn deliveries(facts: &Facts, summary: &Summary) -> Vec<Check> {
    let compared = summary.equal + summary.unequal;
    vec![
        Check::new(
            "messages_flowed",
            summary.admitted > 0 && summary.deliveries > 0,
            format!("{} admitted, {} deliveries", summary.admitted, summary.deliveries),
        ),
        Check::new(
            "delivered_share",
            summary.missing == 0,
            format!("{} of {} deliveries", summary.deliveries, summary.expected),
        ),
        Check::new(
            "equal_content",
            summary.unequal == 0 && compared > 0,
            format!(
                "{} of {compared} viewers without a gap saw what all saw together, {} had a gap",
                summary.equal,
                facts.outcome.counted.saturating_sub(compared)
            ),
        ),
    ]
}

/// The publishers' books balance, and agree with what viewers saw.
pub(crate) fn books(facts: &Facts, summary: &Summary) -> Vec<Check> {
    let (book, books) = (&summary.book, &facts.outcome.books);
    let answered = book.accepted + book.merged + book.shed + book.refused + book.expired;
    vec![
        Check::new(
            "accounting",
            answered == book.offered,
            format!(
                "{} offered = {} accepted + {} merged + {} shed + {} refused + {} expired \
                 + {} unanswered",
                book.offered,
                book.accepted,
                book.merged,
                book.shed,
                book.refused,
                book.expired,
                book.unanswered()
            ),
        ),
        Check::none("all_offered", books.unsent, "messages could not be offered"),
        Check::none(
            "verdicts",
            books.stray_verdicts + summary.without_verdict + summary.wrong_seq,
            "verdicts that fit no message, or messages delivered against their verdict",
        ),
    ]
}

/// The server's own books, at rest; nothing where its figures are not known.
pub(crate) fn server_books(facts: &Facts) -> Vec<Check> {
    let Some(after) = &facts.scrapes.after else { return Vec::new() };
    let get = |name: &str, label: &str| after.sum(name, &[label]).unwrap_or(0.0);
    let mut checks = Vec::new();
    if after.sum("uproar_messages_total", &[]).is_some() {
        let of = |outcome: &str| get("uproar_messages_total", &format!("outcome=\"{outcome}\""));
        let parts =
            ["refused", "admitted", "merged", "shed", "expired"].map(|name| (name, of(name)));
        let pending = after.sum("uproar_messages_pending", &[]).unwrap_or(0.0);
        let sum = parts.iter().map(|(_, n)| n).sum::<f64>() + pending;
        let words: Vec<String> = parts.iter().map(|(name, n)| format!("{n} {name}")).collect();
        let found =
            format!("{} offered = {} + {pending} pending", of("offered"), words.join(" + "));
        checks.push(Check::new("server_books_messages", sum == of("offered"), found));
    }
    if after.sum("uproar_deliveries_total", &[]).is_some() {
        let of = |what: &str| get("uproar_deliveries_total", &format!("what=\"{what}\""));
        let (sent, skipped, left) = (of("sent"), of("skipped"), of("left"));
        let found =
            format!("{} expected = {sent} sent + {skipped} skipped + {left} left", of("expected"));
        checks.push(Check::new(
            "server_books_deliveries",
            sent + skipped + left == of("expected"),
            found,
        ));
    }
    checks
}

/// The tester was not what limited the run.
pub(crate) fn tester(facts: &Facts) -> Check {
    let outcome = &facts.outcome;
    let mut found = Vec::new();
    let lag_ms = outcome.timer_lag_us.value_at_quantile(0.99) as f64 / 1e3;
    if lag_ms > TIMER_LAG_MS_MAX {
        found.push(format!(
            "its timers were {lag_ms:.1} ms late (p99; allowed are {TIMER_LAG_MS_MAX})"
        ));
    }
    if outcome.busy_share > BUSY_SHARE_MAX {
        let percent = outcome.busy_share * 100.0;
        found.push(format!(
            "a thread was busy {percent:.0} % of the time (allowed are 90): use more --threads"
        ));
    }
    if let Some(share) = facts.own_core_busy.filter(|share| *share > BUSY_SHARE_MAX) {
        let percent = share * 100.0;
        found.push(format!(
            "a core of its own was busy {percent:.0} % of the time (allowed are 90)"
        ));
    }
    for (what, n) in &outcome.exhausted {
        found.push(format!("{n} connects found no {what} left on this machine"));
    }
    let held = found.is_empty();
    let words = if held { "its timers and cores kept up".to_owned() } else { found.join("; ") };
    Check::new(TESTER_LIMITED, held, words)
}

/// The bounds given with `--expect`.
pub(crate) fn expectations(
    bounds: &[crate::expect::Expectation],
    figures: &[Figure],
) -> Vec<Check> {
    let check = |expectation: &crate::expect::Expectation| {
        let figure = figures.iter().find(|figure| figure.key == expectation.key());
        let (held, found) = match figure.map(|figure| (figure, figure.value.number())) {
            Some((figure, Some(number))) => {
                (expectation.holds(number), format!("{} is {}", figure.key, figure.value))
            }
            Some((figure, None)) => match figure.value {
                Value::Infinite => {
                    (false, format!("{} is infinite: deliveries are missing", figure.key))
                }
                _ => (false, format!("{} is not known", figure.key)),
            },
            None => (false, format!("this scenario has no figure {}", expectation.key())),
        };
        Check::new(&expectation.to_string(), held, found)
    };
    bounds.iter().map(check).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::tests::{good_run, plan};

    fn failed(checks: Vec<Check>) -> Vec<String> {
        checks.into_iter().filter(|c| !c.held).map(|c| c.name).collect()
    }

    fn all(facts: &Facts) -> Vec<String> {
        let plan = plan("live --viewers 3 --publishers 2");
        let summary = Summary::new(&plan, facts);
        let mut checks = connections(&plan, facts, false);
        checks.extend(streams(facts, &summary));
        checks.extend(deliveries(facts, &summary));
        checks.extend(books(facts, &summary));
        checks.push(tester(facts));
        failed(checks)
    }

    #[test]
    fn a_good_run_passes_every_check() {
        assert_eq!(all(&good_run(10)), Vec::<String>::new());
    }

    #[test]
    fn every_fault_fails_its_own_check() {
        type Harm = fn(&mut Facts);
        let cases: [(&str, Harm); 16] = [
            ("all_connected", |f| f.outcome.established = 4),
            ("connection_lost", |f| f.outcome.lost = 1),
            ("heartbeats", |f| f.outcome.pings_missed = 1),
            ("duplicates", |f| f.outcome.tally.duplicates = 1),
            ("out_of_order", |f| f.outcome.tally.out_of_order = 1),
            ("unannounced_gap", |f| f.outcome.tally.unannounced(1)),
            ("unannounced_gap", |f| f.outcome.gaps_owed = 1),
            ("content", |f| f.outcome.ledger.damaged = 1),
            ("content", |f| f.outcome.ledger.conflicting = 1),
            ("protocol", |f| f.outcome.tally.unexpected("x")),
            ("delivered_share", |f| f.outcome.tally.deliveries -= 1),
            ("equal_content", |f| f.outcome.sums = [((10, 1), 3)].into()),
            ("accounting", |f| f.outcome.books.measured[0].accepted -= 1),
            ("verdicts", |f| f.outcome.books.stray_verdicts = 1),
            ("all_offered", |f| f.outcome.books.unsent = 1),
            ("tester_limited", |f| f.outcome.busy_share = 0.91),
        ];
        for (name, harm) in cases {
            let mut facts = good_run(10);
            harm(&mut facts);
            assert_eq!(all(&facts), [name]);
        }
    }

    #[test]
    fn a_run_in_which_nothing_happened_is_no_success() {
        assert!(all(&good_run(0)).contains(&"messages_flowed".to_owned()));
    }

    #[test]
    fn late_timers_and_empty_tables_are_the_testers_fault() {
        let mut facts = good_run(10);
        facts.outcome.timer_lag_us.record_n(25_000, 2).expect("in range");
        facts.outcome.timer_lag_us.record_n(1_000, 98).expect("in range");
        assert!(!tester(&facts).held, "2 % were late by more than 20 ms");
        facts.outcome.timer_lag_us.record_n(1_000, 900).expect("in range");
        assert!(tester(&facts).held, "2 of 1000 are no trend");
        facts.own_core_busy = Some(0.95);
        assert!(!tester(&facts).held);
        facts.own_core_busy = Some(0.5);
        facts.outcome.exhausted.insert("ports".into(), 3);
        assert!(tester(&facts).found.contains("ports"));
    }

    #[test]
    fn a_bound_is_kept_broken_or_not_known() {
        let plan = plan(
            "live --expect p99_ms<=100 --expect gaps==0 --expect p999_ms<=100 --expect nonsense<1",
        );
        let figures = [
            Figure::new("latency_ms_p99", "p99", "ms", Value::Real(100.0, 1)),
            Figure::new("gaps", "gaps", "", Value::Count(1)),
            Figure::new("latency_ms_p999", "p99.9", "ms", Value::Infinite),
        ];
        let checks = expectations(&plan.expect, &figures);
        assert_eq!(failed(checks.clone()), ["gaps==0", "p999_ms<=100", "nonsense<1"]);
        assert!(checks[2].found.contains("missing"));
    }
}
