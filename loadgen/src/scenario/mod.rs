//! The scenarios: what each one does, and what it proves beyond the checks that all share.
//!
//! Owns the order of phases and the choice of checks. Never counts and never writes.

mod churn;
mod idle;
mod live;
mod overload;
mod slow;
mod storm;

use crate::check::{self, Check};
use crate::plan::{Plan, Scenario};
use crate::report::figures;
use crate::report::{Group, Report};
use crate::session::{Facts, Session};
use crate::summary::Summary;
use uproar_proto::error::Code;

/// Runs a plan.
///
/// # Errors
/// In words, where nothing could be measured.
pub(crate) fn run(plan: Plan) -> Result<Facts, String> {
    let scenario = plan.scenario;
    let mut session = Session::start(plan)?;
    session.connect();
    if session.beat().joined == 0 {
        session.given_up.get_or_insert_with(|| "nobody came into the room".to_owned());
        return session.collect();
    }
    match scenario {
        Scenario::Storm => storm::run(&mut session),
        _ => live::run(&mut session),
    }
    session.collect()
}

/// Refuses bounds on figures that this scenario does not have, before anything is run.
///
/// # Errors
/// In words, with the figures that are meant perhaps.
pub(crate) fn check_expectations(plan: &Plan) -> Result<(), String> {
    let report = report(plan, Facts::default());
    let keys: Vec<&str> = report.figures().map(|figure| figure.key.as_str()).collect();
    for expectation in &plan.expect {
        let key = expectation.key();
        if !keys.contains(&key) {
            let word = key.split('_').next().unwrap_or(key);
            let like: Vec<&str> = keys.iter().copied().filter(|k| k.contains(word)).collect();
            let like = if like.is_empty() { keys } else { like };
            return Err(format!(
                "--expect {expectation}: {} has no figure {key}; there are {}",
                plan.scenario.name(),
                like.join(", ")
            ));
        }
    }
    Ok(())
}

/// What a run showed.
pub(crate) fn report(plan: &Plan, facts: Facts) -> Report {
    let summary = Summary::new(plan, &facts);
    let own = match plan.scenario {
        Scenario::Live => live::figures(),
        Scenario::Idle => idle::figures(&facts),
        Scenario::Churn { .. } => churn::figures(plan, &facts),
        Scenario::Overload => overload::figures(&facts, &summary),
        Scenario::Slow { .. } => slow::figures(&facts),
        Scenario::Storm => storm::figures(&facts, &summary),
    };
    let mut groups = vec![
        figures::crowd(plan, &facts),
        figures::messages(plan, &facts, &summary),
        figures::deliveries(plan, &facts, &summary),
    ];
    groups.extend(own);
    groups.push(figures::server(plan, &facts, &summary));
    groups.push(figures::tester(plan, &facts));
    let mut checks = checks(plan, &facts, &summary);
    let all: Vec<_> =
        groups.iter().flat_map(|group: &Group| group.figures.iter().cloned()).collect();
    checks.extend(check::expectations(&plan.expect, &all));
    checks.push(check::tester(&facts));
    let mut notes = facts.notes.clone();
    if summary.foreign > 0 {
        notes.push(format!("{} messages came from other senders in the room", summary.foreign));
    }
    let refused = |code: Code| facts.outcome.errors.contains_key(&code.number());
    if refused(Code::TokenRequired) {
        notes.push("the server admits no guests: give --token-secret or --token-key".into());
    }
    if refused(Code::RoomNotFound) {
        notes.push(format!(
            "create the room {} first (POST /v1/rooms), or name one with --room",
            plan.room
        ));
    }
    Report {
        scenario: plan.scenario.name(),
        setup: Report::setup(plan, facts.io),
        groups,
        checks,
        notes,
    }
}

fn checks(plan: &Plan, facts: &Facts, summary: &Summary) -> Vec<Check> {
    let may_be_lost = plan.scenario == Scenario::Storm;
    let mut checks = check::connections(plan, facts, may_be_lost);
    checks.extend(check::streams(facts, summary));
    match plan.scenario {
        Scenario::Idle => {}
        Scenario::Storm => checks.extend(storm::checks(facts, summary)),
        _ => {
            checks.extend(check::deliveries(facts, summary));
            checks.extend(check::books(facts, summary));
        }
    }
    match plan.scenario {
        Scenario::Live | Scenario::Storm => {}
        Scenario::Idle => checks.extend(idle::checks(facts)),
        Scenario::Churn { .. } => checks.extend(churn::checks(facts)),
        Scenario::Overload => checks.extend(overload::checks(plan, summary)),
        Scenario::Slow { .. } => checks.extend(slow::checks(facts, summary)),
    }
    checks.extend(check::server_books(facts));
    checks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::tests::plan;

    #[test]
    fn a_bound_on_a_figure_that_is_not_there_is_refused_before_the_run() {
        assert_eq!(check_expectations(&plan("live --expect p99_ms<=1 --expect gaps==0")), Ok(()));
        assert_eq!(check_expectations(&plan("storm --expect all_back_s<=10")), Ok(()));
        let error =
            check_expectations(&plan("live --expect all_back_s<=10")).expect_err("no storm");
        assert!(error.contains("live has no figure all_back_s"), "{error}");
        let error = check_expectations(&plan("live --expect latency_p99<=1")).expect_err("no key");
        assert!(error.contains("latency_ms_p99"), "{error}");
    }
}
