//! What the rows share: which cores, how long, where the programs are; the measured interval over a
//! core; and the sides of a comparison, run in turns.

use serde_json::{Value, json};
use std::io;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use uproar_benches::harness::child::{self, Child};
use uproar_benches::harness::report::Line;
use uproar_benches::harness::uproar::{Server, Settings};
use uproar_benches::proc::{CoreBusy, CoreMoment};

/// How much is measured, and where.
#[derive(clap::Args)]
pub(crate) struct Extent {
    /// The core of the server.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// The core of the load and of this harness.
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// Seconds of one measured interval.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Repetitions of each side, in turns.
    #[arg(long, default_value_t = 3)]
    repeats: usize,
    /// Multiplies the number of viewers; below 1 the run is a trial.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// The server's driver.
    #[arg(long, default_value = "auto", value_parser = ["auto", "uring", "epoll"])]
    io: String,
    /// Where glommio, tokio and epoll of benches/runtimes were built.
    #[arg(long, default_value = "benches/runtimes/target/release")]
    runtimes: PathBuf,
}

/// What a row hands over.
#[derive(Default)]
pub(crate) struct Measured {
    pub(crate) lines: Vec<Line>,
    pub(crate) notes: Vec<String>,
    /// Every repetition of every side.
    pub(crate) raw: Vec<Value>,
}

/// The bench at work.
pub(crate) struct Bench {
    pub(crate) server_core: usize,
    pub(crate) load_core: usize,
    /// All that this process may use; of rows that need more than two.
    pub(crate) cores: Vec<usize>,
    pub(crate) interval: Duration,
    pub(crate) repeats: usize,
    scale: f64,
    io: String,
    runtimes: PathBuf,
}

/// How long servers and load run before anything is measured.
pub(crate) const WARM_UP: Duration = Duration::from_secs(2);
/// How long a crowd may take to connect.
pub(crate) const RAMP_PATIENCE: Duration = Duration::from_secs(180);
/// Above this share of a core taken by others, a run is not worth keeping.
const NOISE_MAX: f64 = 0.05;

impl Bench {
    /// Checks the flags and pins this thread to the load's core.
    pub(crate) fn open(args: &Extent) -> io::Result<Bench> {
        if args.server_core == args.load_core || args.repeats == 0 || args.seconds == 0 {
            return Err(io::Error::other(
                "--server-core and --load-core must differ; --repeats and --seconds begin at 1",
            ));
        }
        let cores = uproar_benches::sys::cores_allowed()?;
        uproar_benches::sys::pin_thread(args.load_core)?;
        Ok(Bench {
            server_core: args.server_core,
            load_core: args.load_core,
            cores,
            interval: Duration::from_secs(args.seconds),
            repeats: args.repeats,
            scale: args.scale,
            io: args.io.clone(),
            runtimes: args.runtimes.clone(),
        })
    }

    /// Whether figures are too small to be quoted.
    pub(crate) fn is_trial(&self) -> bool {
        self.scale < 1.0
    }

    /// A number of viewers, made smaller in a trial.
    pub(crate) fn viewers(&self, full: u64) -> u64 {
        ((full as f64 * self.scale) as u64).max(20)
    }

    /// A server of ours, with the driver that was asked for.
    pub(crate) fn uproar(&self, settings: &Settings) -> io::Result<Server> {
        self.uproar_on(settings, &[self.server_core])
    }

    /// The same on several cores.
    pub(crate) fn uproar_on(&self, settings: &Settings, cores: &[usize]) -> io::Result<Server> {
        let settings = settings.clone().with("engine.io", &self.io);
        Server::start(&child::beside("uproar")?, &settings, cores)
    }

    /// A small server: `bare`, or one of the runtimes; and where it listens.
    pub(crate) fn small_server(
        &self,
        name: &str,
        arguments: &str,
    ) -> io::Result<(Child, SocketAddrV4)> {
        self.small_server_on(name, arguments, self.server_core)
    }

    /// The same on another core.
    pub(crate) fn small_server_on(
        &self,
        name: &str,
        arguments: &str,
        core: usize,
    ) -> io::Result<(Child, SocketAddrV4)> {
        let program =
            if name == "bare" { child::beside("bare")? } else { self.runtimes.join(name) };
        let all = format!("--listen 127.0.0.1:0 --steered --rounds 0 --core {core} {arguments}");
        let mut server = Child::start(&program, &words(&all), &[core])?;
        let said = server.hear("listening", Duration::from_secs(20))?;
        let port = said["value"].as_u64().and_then(|port| u16::try_from(port).ok());
        let port = port.ok_or_else(|| io::Error::other(format!("{name} said {said}")))?;
        Ok((server, SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, port)))
    }

    /// The sink against `target`; its stages are heard by the caller.
    pub(crate) fn sink(&self, target: SocketAddrV4, arguments: &str) -> io::Result<Child> {
        self.sink_on(target, arguments, self.load_core)
    }

    /// The same on a core of its own.
    pub(crate) fn sink_on(
        &self,
        target: SocketAddrV4,
        arguments: &str,
        core: usize,
    ) -> io::Result<Child> {
        let all = format!("--target {target} --steered --core {core} {arguments}");
        Child::start(&child::beside("sink")?, &words(&all), &[core])
    }

    /// Begins to watch the server's core.
    pub(crate) fn watch(&self) -> io::Result<Watch> {
        Ok(Watch {
            cores: [self.server_core, self.load_core],
            begun: [CoreMoment::now(self.server_core)?, CoreMoment::now(self.load_core)?],
        })
    }

    /// How busy the server's core is while nothing of ours runs; said when it is too much.
    pub(crate) fn noise(&self, measured: &mut Measured) -> io::Result<()> {
        let watch = self.watch()?;
        std::thread::sleep(Duration::from_secs(1));
        let [core, _] = watch.busy()?;
        let share = (core.busy_s + core.steal_s) / core.wall_s;
        measured.raw.push(json!({ "noise": core }));
        if share > NOISE_MAX {
            let percent = share * 100.0;
            measured.notes.push(format!(
                "the server's core was {percent:.0} % busy before the row began: its figures are \
                 not clean"
            ));
        }
        Ok(())
    }
}

/// Two cores from a moment on.
pub(crate) struct Watch {
    cores: [usize; 2],
    begun: [CoreMoment; 2],
}

impl Watch {
    /// How busy the server's and the load's core were since.
    pub(crate) fn busy(&self) -> io::Result<[CoreBusy; 2]> {
        let now = [CoreMoment::now(self.cores[0])?, CoreMoment::now(self.cores[1])?];
        Ok([now[0].since(&self.begun[0]), now[1].since(&self.begun[1])])
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

/// A stage of the sink that brought everyone in; an error tells why somebody stayed out.
pub(crate) fn complete_stage(sink: &mut Child, viewers: u64) -> io::Result<Value> {
    let stage = sink.hear("stage", RAMP_PATIENCE)?;
    if stage["joined"].as_u64() == Some(viewers) {
        return Ok(stage);
    }
    let (joined, why) = (&stage["joined"], &stage["first_failure"]);
    Err(io::Error::other(format!("{joined} of {viewers} viewers are in; the first failure: {why}")))
}

/// Waits until `held` says yes.
pub(crate) fn until(
    what: &str,
    patience: Duration,
    mut held: impl FnMut() -> io::Result<bool>,
) -> io::Result<()> {
    let end = Instant::now() + patience;
    while !held()? {
        if Instant::now() > end {
            let text = format!("{what}: not within {patience:?}");
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// A figure that must be in what a program said.
pub(crate) fn figure(said: &Value, key: &str) -> io::Result<f64> {
    said[key].as_f64().ok_or_else(|| io::Error::other(format!("no {key} in {said}")))
}

/// Year-month-day (UTC) of a time since 1970, by the civil calendar.
pub(crate) fn date(since_1970: Duration) -> String {
    // Days in eras of 400 years that begin on 1 March 0000 (Hinnant, "chrono-compatible
    // low-level date algorithms").
    let days = (since_1970.as_secs() / 86_400) as i64 + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_of_the_civil_calendar() {
        let at = |days: u64| date(Duration::from_secs(days * 86_400 + 5));
        assert_eq!(at(0), "1970-01-01");
        assert_eq!(at(11_016), "2000-02-29");
        assert_eq!(at(11_017), "2000-03-01");
        assert_eq!(at(20_780), "2026-11-23");
    }

    #[test]
    fn a_figure_that_was_not_said_is_an_error() {
        assert!(figure(&json!({ "a": 1.5 }), "a").is_ok());
        assert!(figure(&json!({ "a": "1.5" }), "a").is_err());
        assert!(figure(&json!({}), "a").is_err());
    }

    #[test]
    fn waiting_ends() {
        let mut turns = 0;
        let held = || {
            turns += 1;
            Ok(turns == 2)
        };
        assert!(until("two turns", Duration::from_secs(5), held).is_ok());
        assert!(until("never", Duration::ZERO, || Ok(false)).is_err());
    }
}
