//! A crowd that stays and says nothing but pings.
//!
//! Proves that nobody is dropped and that every ping is answered, and measures what an idle
//! viewer costs the server in memory.

use crate::check::Check;
use crate::report::{Figure, Group, Value};
use crate::session::Facts;

fn per_viewer(facts: &Facts, name: &str) -> Option<f64> {
    let (before, after) = (facts.scrapes.before.as_ref()?, facts.scrapes.to.as_ref()?);
    let grown = after.sum(name, &[])? - before.sum(name, &[])?;
    (facts.outcome.established > 0).then(|| grown / facts.outcome.established as f64)
}

pub(super) fn figures(facts: &Facts) -> Option<Group> {
    let connected = facts.connected.as_ref();
    let at = |name: &str| Value::count(connected.and_then(|scrape| scrape.sum(name, &[])));
    let rss = per_viewer(facts, "process_resident_memory_bytes");
    let anon = per_viewer(facts, "process_resident_anon_bytes");
    Some(Group {
        title: "Memory (with the server's fixed cost where it grew; slopes need two runs)",
        figures: vec![
            Figure::new(
                "rss_bytes_per_viewer",
                "resident, for one viewer",
                "bytes",
                Value::real(rss, 0),
            ),
            Figure::new(
                "rss_anon_bytes_per_viewer",
                "anonymous, for one viewer",
                "bytes",
                Value::real(anon, 0),
            ),
            Figure::new(
                "server_rss_bytes_connected",
                "resident once all were connected",
                "bytes",
                at("process_resident_memory_bytes"),
            ),
            Figure::new(
                "server_connections",
                "connections it counts",
                "",
                Value::count(
                    facts.scrapes.to.as_ref().and_then(|s| s.sum("uproar_connections", &[])),
                ),
            ),
        ],
    })
}

pub(super) fn checks(facts: &Facts) -> Vec<Check> {
    let (pings, pongs) = (facts.outcome.pings, facts.outcome.pongs);
    // Those sent in the last moment may still be on their way; a whole interval without an answer
    // is a check of its own.
    let mut checks = Vec::new();
    let after = facts.scrapes.to.as_ref();
    if let Some(counted) = after.and_then(|scrape| scrape.sum("uproar_connections", &[])) {
        let here = facts.outcome.established;
        let found = format!("it counts {counted}, {here} are connected from here");
        checks.push(Check::new("server_counts_connections", counted >= here as f64, found));
    }
    checks.push(Check::new("pongs", pongs <= pings, format!("{pongs} pongs for {pings} pings")));
    checks
}
