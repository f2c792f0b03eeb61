//! Values in an S3-compatible bucket, asked for by threads that may wait.
//!
//! Owns the connection to it and the deadline of each request. Keeps nothing.

use super::config::S3Config;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{ClientOptions, Error, ObjectStore, ObjectStoreExt, RetryConfig};
use std::io;
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};

/// A request that failed in a way that may pass is sent again so often within its deadline.
const RETRIES_MAX: usize = 2;

/// See the module. Dropped, it lets what is under way go.
pub(super) struct Bucket {
    store: AmazonS3,
    prefix: String,
    /// Carries the requests; gone only while this is dropped.
    runtime: Option<Runtime>,
    handle: Handle,
}

impl Bucket {
    /// Sends nothing yet.
    ///
    /// # Errors
    /// Where the settings make no address, or no thread can be started.
    pub(super) fn new(config: &S3Config) -> io::Result<Bucket> {
        // Another one may have been installed already: any will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let timeout = Duration::from_secs(config.timeout_s.into());
        let is_plain = config.endpoint.starts_with("http://");
        let client = ClientOptions::new()
            .with_timeout(timeout)
            .with_connect_timeout(timeout)
            .with_no_system_certificates(is_plain); // a small image has none
        let retry_timeout = timeout;
        let retry = RetryConfig { max_retries: RETRIES_MAX, retry_timeout, ..Default::default() };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&config.bucket)
            .with_region(&config.region)
            .with_access_key_id(&config.access_key_id)
            .with_secret_access_key(&config.secret_access_key)
            .with_disable_bulk_delete(true) // not every maker's server has it
            .with_client_options(client)
            .with_retry(retry);
        if !config.endpoint.is_empty() {
            builder = builder.with_endpoint(&config.endpoint).with_allow_http(is_plain);
        }
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("danmaku-s3")
            .enable_all()
            .build()?;
        Ok(Bucket {
            store: builder.build()?,
            prefix: config.prefix.clone(),
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        })
    }

    /// Writes a value, in place of the one of that name.
    pub(super) fn put(&self, name: &str, value: Vec<u8>) -> io::Result<()> {
        let path = self.path(name)?;
        self.handle.block_on(self.store.put(&path, value.into()))?;
        Ok(())
    }

    /// Reads one.
    pub(super) fn get(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let path = self.path(name)?;
        let read = self.handle.block_on(async { self.store.get(&path).await?.bytes().await });
        match read {
            Err(Error::NotFound { .. }) => Ok(None),
            read => Ok(Some(read?.to_vec())),
        }
    }

    /// The names directly below a folder, in their order.
    pub(super) fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let path = self.path(folder)?;
        let found = self.handle.block_on(self.store.list_with_delimiter(Some(&path)))?;
        let files = found.objects.iter().map(|object| &object.location);
        let paths = found.common_prefixes.iter().chain(files);
        let mut names: Vec<String> =
            paths.filter_map(|path| path.filename().map(str::to_owned)).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Removes a value, or what is directly below a folder; it may be gone already.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        let below = self.list(name)?;
        if below.is_empty() {
            return self.remove_one(name);
        }
        below.iter().try_for_each(|one| self.remove_one(&format!("{name}/{one}")))
    }

    fn remove_one(&self, name: &str) -> io::Result<()> {
        let path = self.path(name)?;
        match self.handle.block_on(self.store.delete(&path)) {
            Err(Error::NotFound { .. }) => Ok(()),
            removed => Ok(removed?),
        }
    }

    fn path(&self, name: &str) -> io::Result<Path> {
        let whole = format!("{}/{name}", self.prefix);
        Path::parse(whole.trim_matches('/')).map_err(io::Error::other)
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting is not allowed where this may be dropped.
            runtime.shutdown_background();
        }
    }
}
