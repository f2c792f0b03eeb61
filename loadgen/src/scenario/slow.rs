//! A share of the viewers stops reading, and goes on later.
//!
//! Proves that a viewer that lags is told exactly what it missed and comes back to the head of the
//! stream, and that the others do not notice: the figures are theirs alone.

use crate::check::Check;
use crate::report::figures::count;
use crate::report::{Figure, Group, Value};
use crate::session::Facts;
use crate::summary::Summary;

pub(super) fn figures(facts: &Facts) -> Option<Group> {
    let [frozen, told, there] = facts.outcome.frozen;
    let scrape = facts.scrapes.to.as_ref();
    let sum = |name: &str| Value::count(scrape.and_then(|s| s.sum(name, &[])));
    Some(Group {
        title: "Slow viewers",
        figures: vec![
            count("frozen_viewers", "stopped reading for a while", frozen),
            count("frozen_told", "of them told a gap", told),
            count("frozen_connected", "of them in the room at the end", there),
            Figure::new(
                "server_ring_bytes",
                "server's recent frames",
                "bytes",
                sum("uproar_ring_bytes"),
            ),
            Figure::new(
                "server_user_bytes",
                "server's tables and frames",
                "bytes",
                sum("uproar_shard_user_bytes"),
            ),
        ],
    })
}

pub(super) fn checks(facts: &Facts, summary: &Summary) -> Vec<Check> {
    let [frozen, told, there] = facts.outcome.frozen;
    vec![
        Check::new(
            "gap_told",
            told == frozen,
            format!(
                "{told} of {frozen} were told a gap; one that was not missed nothing, so it proves \
                 nothing: freeze for longer (--frozen-for), or send more"
            ),
        ),
        Check::new(
            "frozen_stay",
            there == frozen,
            format!("{there} of {frozen} are in the room at the end"),
        ),
        Check::none(
            "back_at_head",
            summary.behind_head,
            "members are not at the head of the stream",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::tests::{good_run, plan};

    fn failed(facts: &Facts) -> Vec<String> {
        let summary = Summary::new(&plan("slow --viewers 3"), facts);
        checks(facts, &summary).into_iter().filter(|c| !c.held).map(|c| c.name).collect()
    }

    #[test]
    fn a_thawed_viewer_must_be_told_and_catch_up() {
        let mut facts = good_run(10);
        facts.outcome.frozen = [2, 2, 2];
        assert!(failed(&facts).is_empty());
        facts.outcome.frozen = [2, 1, 2];
        assert_eq!(failed(&facts), ["gap_told"]);
        facts.outcome.frozen = [2, 2, 1];
        assert_eq!(failed(&facts), ["frozen_stay"]);
        facts.outcome.frozen = [2, 2, 2];
        facts.outcome.cursors.insert((9, 104), 1);
        assert_eq!(failed(&facts), ["back_at_head"]);
    }
}
