//! The load side as a program: `uproar_benches::sink`, its flags, its stages and report on stdout.
#![forbid(unsafe_code)]

use clap::Parser;
use std::io;
use std::process::ExitCode;
use std::time::Duration;
use uproar_benches::sink::{Plan, Sink};
use uproar_benches::steer::{self, Word};

/// Connects viewers, reads and throws away; a sample of them measures lateness.
#[derive(Parser)]
#[command(name = "sink", version)]
struct Args {
    #[command(flatten)]
    plan: Plan,
    /// Give a stage up after this many seconds.
    #[arg(long, default_value_t = 120.0)]
    patience: f64,
}

fn run(args: Args) -> io::Result<()> {
    let plan = args.plan;
    let words = plan.steered.then(steer::words);
    let mut sink = Sink::open(plan.clone())?;
    if plan.wait {
        steer::say("ready", &plan.viewers);
    }
    for (i, &viewers) in plan.viewers.iter().enumerate() {
        if let Some(words) = words.as_ref().filter(|_| i > 0 || plan.wait) {
            loop {
                match words.recv().unwrap_or(Word::Stop) {
                    Word::Mark => steer::say("mark", &sink.counts()),
                    Word::Next => break,
                    Word::Stop => return sink.close().map(|counts| steer::say("report", &counts)),
                }
            }
        }
        let stage = sink.stage(viewers, Duration::from_secs_f64(args.patience));
        steer::say("stage", &stage);
    }
    sink.publish()?;
    match words {
        None => std::thread::sleep(Duration::from_secs_f64(plan.seconds)),
        Some(words) => {
            while let Ok(Word::Mark | Word::Next) = words.recv() {
                steer::say("mark", &sink.counts());
            }
        }
    }
    steer::say("report", &sink.close()?);
    Ok(())
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("sink: {e}");
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
