//! `uproar migrate`, `backup` and `restore`: what is done with a store beside serving from it.
//!
//! Owns the words on the command line. What a store is, and who may have it, is control's.

use crate::config::{Config, Role};
use crate::{ConfigArgs, Failure};
use clap::Args;
use std::path::PathBuf;
use uproar_control::{StoreConfig, store};

#[derive(Args)]
pub(crate) struct BackupArgs {
    /// Where to: written as FILE.tmp, synced, then renamed.
    file: PathBuf,
    /// Replace FILE.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Args)]
pub(crate) struct RestoreArgs {
    /// A file that `uproar backup` made, of whatever kind of store.
    file: PathBuf,
    /// Replace what is in the store.
    #[arg(long, conflicts_with = "check")]
    force: bool,
    /// Read the whole file, say whether it is good, and restore nothing.
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Brings the tables up to date.
pub(crate) fn migrate(args: &ConfigArgs) -> Result<String, Failure> {
    let config = load(args)?;
    let done = run(store::migrate(&config.store))?;
    let mut text = match &done.applied[..] {
        [] => format!("the store is up to date: it has all {} migrations", done.known),
        applied => format!(
            "the store is up to date: {} of {} migrations were applied now: {}",
            applied.len(),
            done.known,
            applied.join(", ")
        ),
    };
    if done.partitions > 0 {
        text += &format!("; {} partitions were made", done.partitions);
    }
    Ok(text)
}

/// Copies the store into a file.
pub(crate) fn backup(args: &BackupArgs) -> Result<String, Failure> {
    let config = load(&args.config)?;
    let made = run(store::backup(&config.store.url, &args.file, args.force))?;
    let store::Backup { tables, rows, bytes } = made;
    Ok(format!("{}: {rows} rows of {tables} tables, {bytes} bytes", args.file.display()))
}

/// Makes a backup the store, or looks whether it could be.
pub(crate) fn restore(args: &RestoreArgs) -> Result<String, Failure> {
    let file = args.file.display();
    if args.check {
        let store::Restored { tables, rows } = run(store::check(&args.file))?;
        return Ok(format!("{file}: a good backup, {rows} rows of {tables} tables"));
    }
    let StoreConfig { url, period_days, .. } = load(&args.config)?.store;
    let done = run(store::restore(&args.file, &url, args.force, period_days))?;
    let store::Restored { tables, rows } = done;
    Ok(format!(
        "{file}: restored, {rows} rows of {tables} tables; the store has a new generation, so \
         clients sync anew"
    ))
}

fn load(args: &ConfigArgs) -> Result<Config, Failure> {
    let config = args.load()?;
    config.check(Role::Any).map_err(Failure::Usage)?;
    if config.store.url.is_empty() {
        return Err(Failure::Usage("store.url is empty: there is no store".into()));
    }
    crate::start::start_log(&config.log.filter);
    Ok(config)
}

fn run<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::Failed(e.to_string()))?;
    runtime.block_on(work).map_err(Failure::Failed)
}
