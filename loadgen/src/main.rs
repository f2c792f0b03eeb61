//! uproar's load tester: a crowd that checks every delivery.
//!
//! Owns the order of the whole: what was typed, what it means, the run, the report, the exit code.
#![forbid(unsafe_code)]

mod args;
mod check;
mod cores;
mod crowd;
mod dice;
mod expect;
mod metrics;
mod outcome;
mod payload;
mod plan;
mod progress;
mod pulse;
mod recent;
mod report;
mod scenario;
mod schedule;
mod session;
mod signin;
mod summary;
mod tally;
mod viewer;

use clap::Parser;
use std::io::Write as _;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The command line or the target is wrong: nothing was measured.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    // clap ends the process with 2 by itself where words are wrong, with 0 after --help.
    let args = args::Args::parse();
    run(args).unwrap_or_else(|what| {
        eprintln!("uproar-loadgen: {what}");
        ExitCode::from(USAGE)
    })
}

fn run(args: args::Args) -> Result<ExitCode, String> {
    let plan = plan::Plan::new(args, &plan::Host::here())?;
    scenario::check_expectations(&plan)?;
    if let Some(file) = &plan.json {
        // Before the run: a minute of measuring is not to be lost to a typing error.
        std::fs::write(file, "").map_err(|e| format!("--json {}: {e}", file.display()))?;
    }
    let facts = scenario::run(plan.clone())?;
    let report = scenario::report(&plan, facts);
    // Both are tried before either may fail: what was measured is told where it can be.
    let mut out = std::io::stdout().lock();
    let table = out.write_all(report::text(&report).as_bytes()).and_then(|()| out.flush());
    if let Some(file) = &plan.json {
        let text = format!("{:#}\n", report::json(&report));
        std::fs::write(file, text).map_err(|e| format!("--json {}: {e}", file.display()))?;
    }
    table.map_err(|e| format!("standard output cannot be written: {e}"))?;
    Ok(report.verdict().exit_code())
}
