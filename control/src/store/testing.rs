//! Stores for tests: SQLite in a file of its own, and a database of its own on the server named by
//! `UPROAR_TEST_MYSQL` (scripts/test starts one), so that every test runs on both.

use super::Store;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A store that is gone after the test.
pub(crate) struct TestStore {
    pub(crate) store: Arc<Store>,
    pub(crate) url: String,
    file: Option<PathBuf>,
    /// Server URL and database to drop.
    database: Option<(String, String)>,
}

impl std::ops::Deref for TestStore {
    type Target = Arc<Store>;
    fn deref(&self) -> &Arc<Store> {
        &self.store
    }
}

impl TestStore {
    pub(crate) async fn sqlite() -> TestStore {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("uproar-store-{}-{number}.db", std::process::id());
        let file = std::env::temp_dir().join(name);
        let url = format!("sqlite:{}", file.display());
        let store = Store::open(&url, true).await.expect("a fresh file");
        TestStore { store, url, file: Some(file), database: None }
    }

    /// `None` where no server is named.
    pub(crate) async fn mysql() -> Option<TestStore> {
        let server = std::env::var("UPROAR_TEST_MYSQL").ok()?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("uproar_test_{}_{number}", std::process::id());
        sqlx::any::install_default_drivers();
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        let pool = sqlx::AnyPool::connect(&server).await.expect("UPROAR_TEST_MYSQL is reachable");
        sqlx::query(create).execute(&pool).await.expect("the user may create databases");
        pool.close().await;
        let url = format!("{}/{name}", server.trim_end_matches('/'));
        let store = Store::open(&url, true).await.expect("a fresh database");
        Some(TestStore { store, url, file: None, database: Some((server, name)) })
    }

    pub(crate) async fn end(self) {
        self.store.close().await;
        if let Some(file) = self.file {
            for ending in ["", "-wal", "-shm", "-lock", "-server"] {
                let _ = std::fs::remove_file(format!("{}{ending}", file.display()));
            }
        }
        if let Some((server, name)) = self.database {
            let pool = sqlx::AnyPool::connect(&server).await.expect("still reachable");
            let drop = sqlx::AssertSqlSafe(format!("DROP DATABASE {name}"));
            sqlx::query(drop).execute(&pool).await.expect("its own database");
            pool.close().await;
        }
    }
}

/// A runtime as a server has.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().expect("a runtime")
}

/// Runs one test on every store there is.
pub(crate) fn on_both<F>(test: impl Fn(Arc<Store>) -> F)
where
    F: Future<Output = ()>,
{
    runtime().block_on(async {
        let store = TestStore::sqlite().await;
        test(Arc::clone(&store)).await;
        store.end().await;
        // Told where only the test runner may see it: scripts/test always names a server.
        if let Some(store) = TestStore::mysql().await {
            test(Arc::clone(&store)).await;
            store.end().await;
        }
    });
}
