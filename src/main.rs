//! uproar: a push engine for live crowds. The subcommands, as a table of contents.
//!
//! Exit codes: 0 done; 1 it failed while running; 2 the command line or the configuration is
//! wrong; 130 and 143: ended at once by a second SIGINT or SIGTERM.
#![forbid(unsafe_code)]

mod admin;
mod config;
mod doctor;
mod secrets;
mod serve;
mod signals;
mod split;
mod start;
mod start_block;
mod store;
mod supervisor;
mod token;

use clap::{Args, Parser, Subcommand, ValueEnum};
use config::{Config, Origin, Role};
use std::io::{ErrorKind, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use uproar_engine::config::IoChoice;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What went wrong, and with it the exit code.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It was started rightly and failed (exit code 1).
    Failed(String),
    /// The command line or the configuration is wrong (exit code 2).
    Usage(String),
}

#[derive(Parser)]
#[command(name = "uproar", version, about = "A push engine for live crowds")]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 wrong command line or configuration.\n\
    Configuration: defaults < --config FILE < environment (UPROAR__ENGINE__LISTEN=...) < flags.\n\
    uproar.toml documents every key.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve everything from this process: clients, rooms, accounts, conversations, HTTP.
    Serve(ServeArgs),
    /// Serve accounts and conversations to engines in processes of their own.
    Control(ControlArgs),
    /// Serve clients and rooms; accounts and conversations are in a control process.
    Engine(EngineArgs),
    /// Print a token for a user, or make a signing secret.
    Token(token::TokenArgs),
    /// Bring the store's tables up to date; `serve` does it too.
    Migrate(ConfigArgs),
    /// Copy the store into one file, also while a server uses it.
    Backup(store::BackupArgs),
    /// Make a backup the store. No server may be using it.
    Restore(store::RestoreArgs),
    /// Look at users, groups and messages of a running server; ban, export, erase, recall.
    Admin(admin::AdminArgs),
    /// Check this host: what keeps uproar from running well here, and how to mend it.
    Doctor(doctor::DoctorArgs),
    /// Check or show the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// Where the configuration comes from, for every subcommand that reads it.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ConfigArgs {
    /// The configuration file (TOML).
    #[arg(long, value_name = "FILE", env = "UPROAR_CONFIG")]
    config: Option<PathBuf>,
    /// Set any key, over file and environment: --set engine.rooms.deadline_ms=1000
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Args, Clone, Debug, Default)]
struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Where clients connect (engine.listen).
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Where backends and operators connect (http.listen).
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// Shard threads; 0: one for each core (engine.shards).
    #[arg(long, value_name = "N")]
    shards: Option<u16>,
    /// Cores to pin shards to, in turn (engine.cores).
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    cores: Option<Vec<u16>>,
    /// The driver of the shards (engine.io).
    #[arg(long, value_name = "DRIVER")]
    io: Option<Io>,
    /// What to log, as in "info" or "warn,uproar_engine=debug" (log.filter).
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

#[derive(Args, Clone, Debug, Default)]
struct ControlArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Where backends, operators and people connect (http.listen).
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// Where engines connect (link.listen).
    #[arg(long, value_name = "ADDR")]
    link: Option<SocketAddr>,
    /// What to log, as in "info" or "warn,uproar_link=debug" (log.filter).
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

#[derive(Args, Clone, Debug, Default)]
struct EngineArgs {
    #[command(flatten)]
    serve: ServeArgs,
    /// Where the control process is, as in http://10.0.0.1:7470 (link.control).
    #[arg(long, value_name = "URL")]
    control: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Io {
    Auto,
    Uring,
    Epoll,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Check a file together with the environment; says what is wrong and where.
    Check {
        /// The file to check; without it, --config or UPROAR_CONFIG, or the defaults.
        file: Option<PathBuf>,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Print the effective configuration as TOML.
    Show {
        #[command(flatten)]
        config: ConfigArgs,
        /// Print secrets too.
        #[arg(long)]
        secrets: bool,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(args) => args.load().and_then(serve::serve),
        Command::Control(args) => args.load().and_then(split::control),
        Command::Engine(args) => args.load().and_then(split::engine),
        Command::Token(args) => token::token(&args).and_then(|text| printed(&text)),
        Command::Migrate(args) => store::migrate(&args).and_then(|text| printed(&text)),
        Command::Backup(args) => store::backup(&args).and_then(|text| printed(&text)),
        Command::Restore(args) => store::restore(&args).and_then(|text| printed(&text)),
        Command::Admin(args) => admin::admin(args),
        Command::Doctor(args) => doctor::doctor(&args),
        Command::Config(command) => configuration(command).and_then(|text| printed(&text)),
    };
    match done {
        Ok(code) => code,
        Err(Failure::Failed(text)) => {
            eprintln!("error: {text}");
            ExitCode::from(1)
        }
        Err(Failure::Usage(text)) => {
            eprintln!("error: {text}");
            ExitCode::from(2)
        }
    }
}

/// The command's answer on standard output; what cannot be told has failed.
pub(crate) fn printed(text: &str) -> Result<ExitCode, Failure> {
    let mut out = std::io::stdout().lock();
    let told = writeln!(out, "{text}").and_then(|()| out.flush());
    match told {
        // Whoever reads has seen enough: `| head -1`.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        told => told
            .map(|()| ExitCode::SUCCESS)
            .map_err(|e| Failure::Failed(format!("standard output cannot be written: {e}"))),
    }
}

impl ConfigArgs {
    /// Defaults, file, environment and `--set`, in this order; not yet checked.
    fn load(&self) -> Result<Config, Failure> {
        let file = match &self.config {
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|e| {
                    Failure::Usage(format!("{} could not be read: {e}", path.display()))
                })?;
                Some((path.display().to_string(), text))
            }
            None => None,
        };
        let sets = self.set.iter().map(|set| match set.split_once('=') {
            Some((key, value)) => Ok((Origin::flag(key), value.to_owned())),
            None => Err(Failure::Usage(format!("--set {set}: it must be KEY=VALUE"))),
        });
        let mut settings = config::from_environment(std::env::vars_os());
        for warning in config::misspelt(std::env::vars_os()) {
            eprintln!("warning: {warning}");
        }
        settings.extend(sets.collect::<Result<Vec<_>, _>>()?);
        let file = file.as_ref().map(|(name, text)| (name.as_str(), text.as_str()));
        config::layered(file, settings).map_err(Failure::Usage)
    }
}

impl ServeArgs {
    /// The configuration with the flags over it, checked.
    fn load(self) -> Result<Config, Failure> {
        let mut config = self.config.load()?;
        self.apply(&mut config);
        config.check(Role::Serve).map_err(Failure::Usage)?;
        Ok(config)
    }

    fn apply(self, config: &mut Config) {
        let ServeArgs { config: _, listen, http, shards, cores, io, log } = self;
        let engine = &mut config.engine;
        engine.listen = listen.unwrap_or(engine.listen);
        engine.shards = shards.unwrap_or(engine.shards);
        engine.io = io.map_or(engine.io, |io| match io {
            Io::Auto => IoChoice::Auto,
            Io::Uring => IoChoice::Uring,
            Io::Epoll => IoChoice::Epoll,
        });
        if let Some(cores) = cores {
            engine.cores = cores;
        }
        config.http.listen = http.unwrap_or(config.http.listen);
        if let Some(filter) = log {
            config.log.filter = filter;
        }
    }
}

impl ControlArgs {
    /// The configuration with the flags over it, checked.
    fn load(self) -> Result<Config, Failure> {
        let ControlArgs { config, http, link, log } = self;
        let mut config = config.load()?;
        config.http.listen = http.unwrap_or(config.http.listen);
        config.link.listen = link.unwrap_or(config.link.listen);
        config.log.filter = log.unwrap_or(config.log.filter);
        config.check(Role::Control).map_err(Failure::Usage)?;
        Ok(config)
    }
}

impl EngineArgs {
    /// The configuration with the flags over it, checked.
    fn load(self) -> Result<Config, Failure> {
        let mut config = self.serve.config.load()?;
        self.serve.apply(&mut config);
        config.link.control = self.control.unwrap_or(config.link.control);
        config.check(Role::Engine).map_err(Failure::Usage)?;
        Ok(config)
    }
}

fn configuration(command: ConfigCommand) -> Result<String, Failure> {
    match command {
        ConfigCommand::Check { file, config: mut args } => {
            args.config = file.or(args.config);
            let config = args.load()?;
            config.check(Role::Any).map_err(Failure::Usage)?;
            let name = args.config.map_or("the defaults".into(), |path| path.display().to_string());
            let from_environment = config::from_environment(std::env::vars_os()).len();
            let with = match from_environment {
                0 => String::new(),
                n => format!(", with {n} settings from the environment"),
            };
            Ok(format!("{name}: valid{with}"))
        }
        ConfigCommand::Show { config: args, secrets } => {
            let config = args.load()?;
            config.check(Role::Any).map_err(Failure::Usage)?;
            config.show(secrets).map_err(Failure::Failed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_win_over_everything_else() {
        let mut config = Config::default();
        config.engine.shards = 3;
        config.engine.cores = vec![7];
        config.http.listen = "127.0.0.1:1".parse().unwrap();
        let typed = [
            "uproar",
            "serve",
            "--listen",
            "127.0.0.1:9000",
            "--http",
            "127.0.0.1:9001",
            "--shards",
            "8",
            "--cores",
            "0,1",
            "--io",
            "epoll",
            "--log",
            "debug",
        ];
        let Command::Serve(args) = Cli::try_parse_from(typed).unwrap().command else { panic!() };
        args.apply(&mut config);
        assert_eq!(config.engine.listen, "127.0.0.1:9000".parse().unwrap());
        assert_eq!(config.http.listen, "127.0.0.1:9001".parse().unwrap());
        assert_eq!(config.engine.shards, 8);
        assert_eq!(config.engine.cores, [0, 1]);
        assert_eq!(config.engine.io, IoChoice::Epoll);
        assert_eq!(config.log.filter, "debug");
    }

    #[test]
    fn a_flag_that_is_not_given_changes_nothing() {
        let mut config = Config::default();
        config.engine.shards = 3;
        config.engine.io = IoChoice::Epoll;
        config.log.filter = "warn".into();
        let before = config.clone();
        ServeArgs::default().apply(&mut config);
        assert_eq!(config, before);
    }
}
