//! Where a store is: its URL, read once, and connections to it.
//!
//! Owns the settings every connection begins with. Never shows a password.

use super::{ACQUIRE_MAX, Dialect, dialect};
use crate::paths::with_ending;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AnyConnection, AnyPool, ConnectOptions as _};
use std::fmt::Display;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

/// A store's place.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) dialect: Dialect,
    /// SQLite's file; `None`: a server, or memory.
    pub(super) file: Option<PathBuf>,
    /// The URL without its password.
    shown: String,
    options: AnyConnectOptions,
    sync: bool,
}

impl Place {
    /// Of `sqlite:FILE` or `mysql://user:password@host:port/database`. Without `sync`, SQLite does
    /// not wait for the disk.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub(super) fn of(url: &str, sync: bool) -> Result<Place, String> {
        let dialect = Dialect::of(url)?;
        sqlx::any::install_default_drivers();
        let url = dialect.connection_url(url);
        let shown = dialect::without_password(&url);
        let told = |e: &dyn Display| format!("store.url {shown}: {e}");
        let file = match dialect {
            Dialect::Sqlite if url.contains(":memory:") || url.contains("mode=memory") => None,
            Dialect::Sqlite => {
                let options = SqliteConnectOptions::from_str(&url).map_err(|e| told(&e))?;
                Some(without_links(options.get_filename()).map_err(|e| told(&e))?)
            }
            Dialect::Mysql => None,
        };
        let options: AnyConnectOptions = url.parse().map_err(|e: sqlx::Error| told(&e))?;
        Ok(Place { dialect, file, shown, options, sync })
    }

    /// Of a SQLite file that need not outlive a power loss yet. `how` are SQLite's parameters, as
    /// `mode=ro`.
    ///
    /// # Errors
    /// Where the path is no text.
    pub(super) fn of_file(file: &Path, how: &str) -> Result<Place, String> {
        let path = file.to_str().ok_or_else(|| format!("{} is no UTF-8", file.display()))?;
        // What means something in a URL is written as its number.
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-~".contains(c);
        let mut url = String::from("sqlite:");
        for c in path.chars() {
            if plain(c) {
                url.push(c);
            } else {
                let mut bytes = [0; 4];
                for byte in c.encode_utf8(&mut bytes).bytes() {
                    url.push_str(&format!("%{byte:02X}"));
                }
            }
        }
        Place::of(&format!("{url}?{how}"), false)
    }

    /// Whether the file of an SQLite store was taken away from its log: opened as it is, an empty
    /// store would take the place of what was acknowledged.
    ///
    /// # Errors
    /// What is there and what is missing, in words for the operator.
    pub(super) fn check_files(&self) -> Result<(), String> {
        let Some(file) = self.file.as_ref().filter(|file| !file.exists()) else { return Ok(()) };
        let file = file.display();
        let log = format!("{file}-wal");
        if std::fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
            return Err(format!(
                "{file} is missing, and its log {log} is there: what was acknowledged is in both. \
                 Put {file} back, or move {log} away to begin an empty store"
            ));
        }
        Ok(())
    }

    /// Whether a path is, by any name, this store's file or one of those beside it.
    pub(super) fn owns(&self, path: &Path) -> bool {
        let Some(file) = &self.file else { return false };
        let endings = ["", "-wal", "-shm", "-journal", "-lock", "-server"];
        endings.into_iter().any(|ending| is_same(&with_ending(file, ending), path))
    }

    /// An error with the place it is about.
    pub(super) fn told(&self, error: impl Display) -> String {
        format!("store.url {}: {error}", self.shown)
    }

    /// A connection with the store's settings.
    pub(super) async fn connect(&self) -> Result<AnyConnection, sqlx::Error> {
        let mut conn = self.options.connect().await?;
        self.dialect.prepare_connection(self.sync, &mut conn).await?;
        Ok(conn)
    }

    /// A connection as it comes, whose long statements are no news.
    pub(super) async fn connect_bare(&self) -> Result<AnyConnection, sqlx::Error> {
        self.options.clone().disable_statement_logging().connect().await
    }

    /// A connection whose statements are told at the level TRACE.
    #[cfg(test)]
    pub(super) async fn connect_told(&self) -> Result<AnyConnection, sqlx::Error> {
        let level = log::LevelFilter::Trace;
        let mut conn = self.options.clone().log_statements(level).connect().await?;
        self.dialect.prepare_connection(self.sync, &mut conn).await?;
        Ok(conn)
    }

    /// Some connections with the store's settings.
    pub(super) async fn pool(&self, connections: u32) -> Result<AnyPool, sqlx::Error> {
        let (dialect, sync) = (self.dialect, self.sync);
        AnyPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE_MAX)
            .after_connect(move |conn, _| Box::pin(dialect.prepare_connection(sync, conn)))
            .connect_with(self.options.clone())
            .await
    }
}

/// The file that symbolic links lead to, as SQLite puts its log and we our locks beside that.
fn without_links(file: &Path) -> Result<PathBuf, String> {
    match std::fs::canonicalize(file) {
        Ok(file) => Ok(file),
        Err(_) if file.is_symlink() => {
            Err(format!("{} is a symbolic link that leads to no file", file.display()))
        }
        Err(_) => Ok(file.to_path_buf()),
    }
}

/// Whether two paths lead to one file, or would if it were made.
fn is_same(one: &Path, other: &Path) -> bool {
    let which = |path: &Path| std::fs::metadata(path).ok().map(|of| (of.dev(), of.ino()));
    let entry = |path: &Path| {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = std::fs::canonicalize(folder.unwrap_or(Path::new("."))).ok()?;
        Some(folder.join(path.file_name()?))
    };
    let same_file = which(one).is_some_and(|file| which(other) == Some(file));
    same_file || entry(one).is_some_and(|place| entry(other) == Some(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_again_whatever_it_is_called() {
        for name in ["/tmp/a b?c#d%41/\u{e4}.db", "plain.db"] {
            let place = Place::of_file(Path::new(name), "mode=ro").unwrap();
            assert_eq!(place.file.as_deref(), Some(Path::new(name)));
        }
        assert_eq!(Place::of("sqlite::memory:", true).unwrap().file, None);
        for nowhere in ["sqlite:", "sqlite::memory:", "sqlite:a.db?mode=memory"] {
            let told = super::super::check_url(nowhere).unwrap_err();
            assert!(told.contains("it names no file"), "{nowhere}: {told}");
        }
        super::super::check_url("sqlite:a.db").unwrap();
        assert_eq!(Place::of("mysql://u:p@h/d", true).unwrap().file, None);
        let told = Place::of("mysql://u:secret@h/d", true).unwrap().told("why");
        assert_eq!(told, "store.url mysql://u:***@h/d: why");
    }

    #[test]
    fn links_lead_to_the_file_whose_locks_and_log_count() {
        let name = format!("uproar-place-{}", crate::ids::random_id());
        let folder = std::fs::canonicalize(std::env::temp_dir()).unwrap();
        let (file, link) = (folder.join(&name), folder.join(format!("{name}-link")));
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let url = format!("sqlite:{}", link.display());
        let told = Place::of(&url, true).unwrap_err();
        assert!(told.contains("leads to no file"), "{told}");
        std::fs::write(&file, "").unwrap();
        let place = Place::of(&url, true).unwrap();
        assert_eq!(place.file.as_deref(), Some(&*file));
        assert!(place.owns(&link) && place.owns(&file) && !place.owns(&folder.join("other")));
        std::fs::remove_file(&link).unwrap();
        std::fs::remove_file(&file).unwrap();
    }
}
