//! Runs rows of the bench and keeps what they show. The rows, as a table of contents; `Bench` has
//! what they share.
//!
//! Exit codes: 0 every row that ran met its aims, 1 one was missed, 2 one could not be run.
#![forbid(unsafe_code)]

mod bench;
mod connect;
mod crowd;
mod fanout;
mod filter;
mod memory;
mod scaling;

use bench::{Bench, Measured};
use clap::Parser;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use uproar_benches::harness::report::{self, Row, Run, Verdict};
use uproar_benches::proc;

/// Measures uproar beside a bare baseline, in turns within one run.
#[derive(Parser)]
#[command(name = "rows", version)]
struct Args {
    /// Which rows, in this order: fanout delivery capacity memory connect churn overload frozen
    /// scaling filter runtimes.
    #[arg(required = true, value_parser = report::ORDER)]
    rows: Vec<String>,
    #[command(flatten)]
    bench: bench::Extent,
    /// Where runs are kept: a folder <date>-<machine> inside it.
    #[arg(long, default_value = "benches/runs")]
    out: PathBuf,
    /// The machine's short name in that folder.
    #[arg(long, default_value = "machine")]
    machine: String,
    /// Print the table, keep nothing.
    #[arg(long)]
    no_keep: bool,
    /// The congestion control of every socket in the run; put back afterwards. bbr paces by a timer
    /// for each send, which would drown everything else.
    #[arg(long, default_value = "cubic")]
    congestion_control: String,
}

fn measure(name: &str, bench: &Bench) -> io::Result<Measured> {
    match name {
        "fanout" => fanout::fanout(bench),
        "runtimes" => fanout::runtimes(bench),
        "delivery" => crowd::delivery(bench),
        "capacity" => crowd::capacity(bench),
        "churn" => crowd::churn(bench),
        "overload" => crowd::overload(bench),
        "frozen" => crowd::frozen(bench),
        "memory" => memory::memory(bench),
        "connect" => connect::connect(bench),
        "scaling" => scaling::scaling(bench),
        "filter" => filter::filter(bench),
        _ => Err(io::Error::other(format!("there is no row {name}"))),
    }
}

fn run(args: &Args) -> io::Result<ExitCode> {
    let _congestion_control = proc::CongestionControl::set(&args.congestion_control)
        .inspect_err(|e| eprintln!("rows: congestion control stays as it is: {e}"))
        .ok();
    let bench = Bench::open(&args.bench)?;
    let date = bench::date(SystemTime::now().duration_since(UNIX_EPOCH).map_err(io::Error::other)?);
    let folder = args.out.join(format!("{date}-{}", args.machine));
    let mut kept = Run::load(&folder)?;
    kept.machine = proc::machine();
    let mut worst = ExitCode::SUCCESS;
    for name in &args.rows {
        eprintln!("row {name}");
        let begun = Instant::now();
        let unix_s = SystemTime::now().duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
        let measured = match measure(name, &bench) {
            Ok(measured) => measured,
            Err(e) => {
                eprintln!("row {name} could not be run: {e}");
                worst = ExitCode::from(2);
                continue;
            }
        };
        let row = Row {
            name: name.clone(),
            unix_s: unix_s.as_secs(),
            took_s: begun.elapsed().as_secs_f64(),
            trial: bench.is_trial(),
            lines: measured.lines,
            notes: measured.notes,
            raw: measured.raw.into(),
        };
        println!("{}", report::table(row.lines.iter()));
        row.notes.iter().for_each(|note| println!("* {note}"));
        if row.lines.iter().any(|line| line.verdict == Verdict::Missed)
            && worst == ExitCode::SUCCESS
        {
            worst = ExitCode::from(1);
        }
        kept.rows.insert(name.clone(), row);
        if !args.no_keep {
            kept.save(&folder)?;
        }
    }
    Ok(worst)
}

fn main() -> ExitCode {
    run(&Args::parse()).unwrap_or_else(|e| {
        eprintln!("rows: {e}");
        ExitCode::from(2)
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Args::command().debug_assert();
    }
}
