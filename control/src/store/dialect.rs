//! What differs between SQLite and a MySQL-protocol server.
//!
//! Owns URLs, connection settings, row locks and upserts. Everything else is written once, in SQL
//! that both understand: `?` for arguments, no foreign keys, triggers, RETURNING or AUTO_INCREMENT.

use sqlx::AnyConnection;

/// The database's way of speaking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Inside the process, in one file.
    Sqlite,
    /// MariaDB or MySQL (and, untested, TiDB).
    Mysql,
}

impl Dialect {
    /// By the URL's scheme.
    pub(super) fn of(url: &str) -> Result<Dialect, String> {
        match url.split_once(':').map(|(scheme, _)| scheme) {
            Some("sqlite") => Ok(Dialect::Sqlite),
            Some("mysql" | "mariadb") => Ok(Dialect::Mysql),
            _ => Err(format!(
                "store.url is {:?}; allowed are sqlite:FILE and mysql://user:password@host/name",
                without_password(url)
            )),
        }
    }

    /// The URL with what this store needs of it.
    pub(super) fn connection_url(self, url: &str) -> String {
        let has_query = url.contains('?');
        match self {
            Dialect::Sqlite if !has_query => format!("{url}?mode=rwc"),
            Dialect::Sqlite | Dialect::Mysql => url.to_owned(),
        }
    }

    /// Settings of every connection.
    pub(super) async fn prepare_connection(
        self,
        sync: bool,
        conn: &mut AnyConnection,
    ) -> Result<(), sqlx::Error> {
        let statements: &[&'static str] = match self {
            Dialect::Sqlite => &[
                "PRAGMA journal_mode = WAL",
                // A commit is on the disk before it is answered.
                if sync { "PRAGMA synchronous = FULL" } else { "PRAGMA synchronous = OFF" },
                "PRAGMA busy_timeout = 5000",
                // Checkpoints are the writer's, between two groups.
                "PRAGMA wal_autocheckpoint = 0",
                "PRAGMA temp_store = MEMORY",
                "PRAGMA cache_size = -65536",
            ],
            Dialect::Mysql => &[
                "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
                // MariaDB also ends a transaction whose client has vanished without a word.
                "SET SESSION innodb_lock_wait_timeout = 5
                    /*M! , SESSION idle_transaction_timeout = 15 */",
                "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'",
            ],
        };
        for statement in statements {
            sqlx::query(*statement).execute(&mut *conn).await?;
        }
        Ok(())
    }

    /// The statement of this dialect.
    pub(crate) fn pick(self, sqlite: &'static str, mysql: &'static str) -> &'static str {
        match self {
            Dialect::Sqlite => sqlite,
            Dialect::Mysql => mysql,
        }
    }
}

/// Whether a transaction was in another one's way and may be run again: deadlock, lock time-out,
/// or a write conflict of a distributed server.
pub(super) fn is_conflict(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|e| e.code().map(|code| code.into_owned()));
    // MySQL reports the SQLSTATE: 40001 is a deadlock; a lock's time-out is HY000 with number 1205.
    let text = error.to_string();
    // 23000: another transaction has inserted the same row; run again, this one finds it.
    code.is_some_and(|code| code == "40001" || code == "23000")
        || text.starts_with("error returned from database: 1205")
}

/// A URL fit for a log.
pub(super) fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rfind('@')) {
        (Some((scheme, rest)), Some(at)) => {
            let user = rest.split([':', '@']).next().unwrap_or_default();
            format!("{scheme}://{user}:***{}", &url[at..])
        }
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_told_by_its_scheme_and_never_shows_its_password() {
        assert_eq!(Dialect::of("sqlite:/tmp/a.db"), Ok(Dialect::Sqlite));
        assert_eq!(Dialect::of("mysql://u:p@h/d"), Ok(Dialect::Mysql));
        let error = Dialect::of("postgres://u:secret@h/d").unwrap_err();
        assert!(error.contains("sqlite:FILE") && !error.contains("secret"), "{error}");
        assert_eq!(without_password("mysql://u:p@x@h:1/d"), "mysql://u:***@h:1/d");
        assert_eq!(without_password("sqlite:file.db"), "sqlite:file.db");
    }
}
