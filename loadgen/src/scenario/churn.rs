//! A live room while others join and leave it, and connect and disconnect.
//!
//! Proves that joins during sweeps neither skip nor repeat a message (churners rejoin with their
//! cursor, so their streams are checked across each absence), that the room's viewers do not
//! notice, and that the asked number of joins is served.

use crate::check::Check;
use crate::plan::{Plan, Scenario};
use crate::report::figures::{count, millis};
use crate::report::{Figure, Group, Value};
use crate::session::Facts;

/// A join or leave whose connection still waited for the answer to the one before is not served;
/// more of them than this share mean that the pace was not kept.
const BUSY_SHARE_MAX: f64 = 0.05;

fn seconds(plan: &Plan) -> f64 {
    // Churn goes on from the beginning of the warm-up.
    (plan.warmup_us + plan.duration_us) as f64 / 1e6
}

pub(super) fn figures(plan: &Plan, facts: &Facts) -> Option<Group> {
    let outcome = &facts.outcome;
    let per_s = |n: u64| Value::Real(n as f64 / seconds(plan), 0);
    let Scenario::Churn { joins_per_s, connects_per_s } = plan.scenario else { return None };
    Some(Group {
        title: "Churn (warm-up included)",
        figures: vec![
            count("joins_per_s_asked", "joins a second asked for", u64::from(joins_per_s)),
            Figure::new("joins_per_s", "joins a second", "", per_s(outcome.joins)),
            Figure::new("leaves_per_s", "leaves a second", "", per_s(outcome.leaves)),
            millis("join_ms_p50", "join to joined, p50", &outcome.join_us, 0.5),
            millis("join_ms_p99", "join to joined, p99", &outcome.join_us, 0.99),
            count("churn_busy", "found their connection busy", outcome.churn_busy),
            count("joins_resumed", "rejoins served without a gap", outcome.tally.resumed),
            count("joins_with_gap", "rejoins told a gap", outcome.tally.resumed_with_gap),
            count("connects_per_s_asked", "connects a second asked for", u64::from(connects_per_s)),
            Figure::new(
                "passes_per_s",
                "disconnected and connected a second",
                "",
                per_s(outcome.passes),
            ),
        ],
    })
}

pub(super) fn checks(facts: &Facts) -> Vec<Check> {
    let outcome = &facts.outcome;
    let busy_max = (outcome.churn_due as f64 * BUSY_SHARE_MAX) as u64;
    let errors: u64 = outcome.errors.values().sum();
    let missed = outcome.passes_due - outcome.passes;
    vec![
        Check::new(
            "churn_pace",
            outcome.churn_busy <= busy_max,
            format!(
                "{} of {} joins and leaves found their connection busy",
                outcome.churn_busy, outcome.churn_due
            ),
        ),
        Check::new(
            "connect_pace",
            missed as f64 <= outcome.passes_due as f64 * BUSY_SHARE_MAX,
            format!(
                "{missed} of {} connections were not back in time to go again",
                outcome.passes_due
            ),
        ),
        Check::none("churn_errors", errors, "error frames"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::tests::good_run;

    #[test]
    fn a_pace_that_was_not_kept_and_any_error_fail() {
        let failed = |facts: &Facts| -> Vec<String> {
            checks(facts).into_iter().filter(|c| !c.held).map(|c| c.name).collect()
        };
        let mut facts = good_run(1);
        (facts.outcome.churn_due, facts.outcome.churn_busy) = (1000, 50);
        (facts.outcome.passes_due, facts.outcome.passes) = (100, 95);
        assert!(failed(&facts).is_empty());
        facts.outcome.churn_busy = 51;
        facts.outcome.passes = 94;
        facts.outcome.errors.insert(2017, 1);
        assert_eq!(failed(&facts), ["churn_pace", "connect_pace", "churn_errors"]);
    }
}
