//! Where the servers of these tests keep their conversations: SQLite beside each server, or a
//! database of its own on a MariaDB. Owns those databases, and a look at the rows that passes no
//! server.

use crate::server::Server;
use crate::{On, Store, Wire};
use sqlx::any::AnyRow;
use sqlx::{AnyPool, AssertSqlSafe};
use std::io::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::runtime::Runtime;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// The MariaDB that scripts/test has started; says so, once, where there is none.
pub(crate) fn mariadb() -> Option<String> {
    static URL: OnceLock<Option<String>> = OnceLock::new();
    let url = URL.get_or_init(|| {
        let url = std::env::var("UPROAR_TEST_MYSQL").ok();
        if url.is_none() {
            let reason = "UPROAR_TEST_MYSQL names no server";
            // Not by a macro of the test runner's, which keeps the output of tests that pass.
            let _ = writeln!(std::io::stderr(), "\nSKIPPED: every test on MariaDB; {reason}");
        }
        url
    });
    url.clone()
}

impl On {
    /// A server that keeps its conversations where the case runs; with two shards, or four.
    pub(crate) fn server(self, config: &str) -> Server {
        // What is told along several ways meets in another order there.
        let shards = if self.wire == Wire::WebSocket { "4" } else { "2" };
        let start = |config: &str| Server::start_with(self.io, config, &["--shards", shards]);
        match self.store {
            Store::Sqlite => start(config),
            Store::Split => Server::split(self.io, config),
            Store::MariaDb => {
                let server = mariadb().expect("else it is skipped");
                let database = Database::create(&server);
                let config = format!("{config}[store]\nurl = \"{}\"\n", database.url());
                let mut server = start(&config);
                server.database = Some(database);
                server
            }
        }
    }
}

/// A database of one test, gone after it.
pub(crate) struct Database {
    server: String,
    name: String,
}

impl Database {
    /// A new one on this server.
    pub(crate) fn create(server: &str) -> Database {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("uproar_e2e_{}_{number}", std::process::id());
        Rows::open(server).execute(&format!("CREATE DATABASE {name}"));
        Database { server: server.trim_end_matches('/').to_owned(), name }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}/{}", self.server, self.name)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            Rows::open(&self.server).execute(&format!("DROP DATABASE {}", self.name));
        }
    }
}

/// A store as it stands, read beside the server.
pub(crate) struct Rows {
    runtime: Runtime,
    pool: AnyPool,
}

impl Rows {
    pub(crate) fn open(url: &str) -> Rows {
        sqlx::any::install_default_drivers();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let pool = runtime.block_on(AnyPool::connect(url)).unwrap_or_else(|e| panic!("{url}: {e}"));
        Rows { runtime, pool }
    }

    pub(crate) fn execute(&self, statement: &str) {
        let statement = sqlx::query(AssertSqlSafe(statement.to_owned()));
        self.runtime.block_on(statement.execute(&self.pool)).unwrap();
    }

    pub(crate) fn read<T>(&self, select: &str) -> Vec<T>
    where
        T: for<'r> sqlx::FromRow<'r, AnyRow> + Send + Unpin,
    {
        let select = sqlx::query_as(AssertSqlSafe(select.to_owned()));
        self.runtime.block_on(select.fetch_all(&self.pool)).unwrap()
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        self.runtime.block_on(self.pool.close());
    }
}
