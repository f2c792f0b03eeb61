//! The bare baseline as a program: `uproar_benches::bare`, its flags, its report on stdout.
#![forbid(unsafe_code)]

use clap::Parser;
use std::process::ExitCode;
use uproar_benches::{bare, server};

/// Accepts viewers, then sends each message to all of them by plain send(2), and nothing else.
#[derive(Parser)]
#[command(name = "bare", version)]
struct Args {
    #[command(flatten)]
    plan: server::Plan,
    /// What to measure.
    #[arg(long, value_enum, default_value_t = bare::Mode::Fanout)]
    mode: bare::Mode,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match bare::run(args.plan, args.mode) {
        Ok(_) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bare: {e}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Args::command().debug_assert();
    }
}
