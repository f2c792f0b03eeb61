//! The server is restarted or drained under a live room, and everybody comes back.
//!
//! Proves that all reconnect (spread over the time the server asked for, where it said goodbye),
//! and that each viewer either resumes without a hole or is told of a gap. Measures how long that
//! took. What a viewer missed while it was away, and was told to have missed, is not
//! expected of it.

use crate::check::Check;
use crate::report::figures::{count, millis};
use crate::report::{Figure, Group, Value};
use crate::session::{Facts, Session};
use crate::summary::Summary;

/// Traffic for its whole duration; the user restarts the server meanwhile.
pub(super) fn run(session: &mut Session) {
    let mut said = (false, false, false);
    session.traffic(|session, beat| {
        if !said.0 {
            said.0 = true;
            session.say(
                "the room is live: restart or drain the server now (for example with kill -TERM)",
            );
        }
        if !said.1 && beat.lost > 0 {
            said.1 = true;
            session.say("connections are lost: waiting for everybody to come back");
        }
        if said.1 && !said.2 && beat.lost == beat.back {
            said.2 = true;
            session.say("everybody is back; the traffic goes on to its end");
        }
        true
    });
    session.settle();
}

pub(super) fn figures(facts: &Facts, summary: &Summary) -> Option<Group> {
    let outcome = &facts.outcome;
    let back = outcome.away_us.len();
    let all_back = (back > 0 && outcome.still_away == 0)
        .then(|| outcome.last_back.since_us(outcome.first_lost) as f64 / 1e6);
    Some(Group {
        title: "Storm",
        figures: vec![
            count("connections_back", "came back", back),
            count("connections_away", "still away at the end", outcome.still_away),
            Figure::new(
                "all_back_s",
                "first loss until all were back",
                "s",
                Value::real(all_back, 2),
            ),
            millis("away_ms_p50", "away, p50", &outcome.away_us, 0.5),
            millis("away_ms_p99", "away, p99", &outcome.away_us, 0.99),
            millis("away_ms_max", "away, max", &outcome.away_us, 1.0),
            count("asked_to_reconnect", "asked to reconnect", outcome.asked_to_reconnect),
            count("resumed", "resumed without a gap", outcome.tally.resumed),
            count("resumed_with_gap", "resumed with a gap told", outcome.tally.resumed_with_gap),
            count("deliveries_told_missing", "deliveries missed and told", summary.told_missing),
            count("messages_unsent", "due while nobody could send", outcome.books.unsent),
            count(
                "messages_in_flight_lost",
                "lost on the way to the server",
                outcome.books.in_flight_lost,
            ),
        ],
    })
}

pub(super) fn checks(facts: &Facts, summary: &Summary) -> Vec<Check> {
    let outcome = &facts.outcome;
    let book = &summary.book;
    // Without a verdict may be only what was in flight when a connection ended.
    let silent = book.unanswered().saturating_sub(outcome.books.in_flight_lost);
    vec![
        Check::new(
            "storm_seen",
            outcome.lost > 0,
            format!("{} connections were lost and had to come back", outcome.lost),
        ),
        Check::new(
            "all_back",
            outcome.still_away == 0,
            format!("{} are still away", outcome.still_away),
        ),
        Check::new(
            "messages_flowed",
            summary.admitted > 0 && summary.deliveries > 0,
            format!("{} admitted, {} deliveries", summary.admitted, summary.deliveries),
        ),
        Check::new(
            "delivered_share",
            summary.missing == 0,
            format!(
                "{} of {} deliveries that were not told to be missed",
                summary.deliveries, summary.expected
            ),
        ),
        Check::none("accounting", silent, "messages without a verdict on connections that stayed"),
        Check::none(
            "back_at_head",
            summary.behind_head,
            "members are not at the head of the stream",
        ),
        Check::none("equal_content", summary.unequal, "viewers without a gap saw other content"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::tests::{good_run, plan};

    fn failed(facts: &Facts) -> Vec<String> {
        let summary = Summary::new(&plan("storm --viewers 3"), facts);
        checks(facts, &summary).into_iter().filter(|c| !c.held).map(|c| c.name).collect()
    }

    #[test]
    fn a_storm_must_be_seen_and_survived() {
        let mut facts = good_run(10);
        assert_eq!(failed(&facts), ["storm_seen"]);
        facts.outcome.lost = 5;
        assert!(failed(&facts).is_empty());
        facts.outcome.still_away = 1;
        assert_eq!(failed(&facts), ["all_back"]);
    }

    #[test]
    fn messages_in_flight_may_be_lost_with_their_connection_and_no_others() {
        let mut facts = good_run(10);
        facts.outcome.lost = 5;
        facts.outcome.books.measured[0].offered += 2;
        facts.outcome.books.in_flight_lost = 2;
        assert!(failed(&facts).is_empty());
        facts.outcome.books.in_flight_lost = 1;
        assert_eq!(failed(&facts), ["accounting"]);
    }
}
