//! uproar's load tester: a crowd that checks every delivery.
//!
//! Owns the order of the whole: what was typed, what it means, the run, the report, the exit code.
#![forbid(unsafe_code)]

mod args;
mod chat;
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

use args::Named;
use clap::Parser;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The command line or the target is wrong: nothing was measured.
const USAGE: u8 = 2;
/// Something was measured and could not be told.
const UNTOLD: u8 = 1;

fn main() -> ExitCode {
    // clap ends the process with 2 by itself where words are wrong, with 0 after --help.
    let args = args::Args::parse();
    run(args).unwrap_or_else(|what| {
        eprintln!("uproar-loadgen: {what}");
        ExitCode::from(USAGE)
    })
}

fn run(args: args::Args) -> Result<ExitCode, String> {
    let host = plan::Host::here();
    let json = match &args.scenario {
        Named::Room(_) => None,
        Named::Chat { inbox, .. } | Named::Group { inbox, .. } | Named::Offline { inbox, .. } => {
            inbox.json.clone()
        }
    };
    match args.scenario {
        Named::Room(typed) => {
            let plan = plan::Plan::new(typed, &host)?;
            scenario::check_expectations(&plan)?;
            claim(plan.json.as_deref())?;
            let facts = scenario::run(plan.clone())?;
            tell(&scenario::report(&plan, facts), plan.json.as_deref())
        }
        named => {
            claim(json.as_deref())?;
            tell(&chat::run(named, host.entropy)?, json.as_deref())
        }
    }
}

/// Before the run: a minute of measuring is not to be lost to a typing error.
fn claim(json: Option<&Path>) -> Result<(), String> {
    let Some(file) = json else { return Ok(()) };
    std::fs::write(file, "").map_err(|e| format!("--json {}: {e}", file.display()))
}

/// Both are tried before either may fail: what was measured is told where it can be.
fn tell(report: &report::Report, json: Option<&Path>) -> Result<ExitCode, String> {
    let mut out = std::io::stdout().lock();
    let table = out.write_all(report::text(report).as_bytes()).and_then(|()| out.flush());
    if let Some(file) = json {
        let text = format!("{:#}\n", report::json(report));
        if let Err(error) = std::fs::write(file, text) {
            eprintln!("uproar-loadgen: --json {}: {error}", file.display());
            return Ok(ExitCode::from(UNTOLD));
        }
    }
    if let Err(error) = table {
        eprintln!("uproar-loadgen: standard output cannot be written: {error}");
        return Ok(ExitCode::from(UNTOLD));
    }
    Ok(report.verdict().exit_code())
}
