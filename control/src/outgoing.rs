//! Clients of HTTP by which this process asks others: receivers of webhooks, issuers, a server.
//!
//! Owns when the certificates of the system are needed, and what is said where they are missing.
//! Never sends anything.

use reqwest::ClientBuilder;
use std::error::Error as _;

/// A client in the making. With `tls`, it holds servers against the certificates of the system,
/// and is not built where there are none; without, it reaches `http://` alone (through no proxy of
/// https either) and needs none: a small image has none.
pub fn client(tls: bool) -> ClientBuilder {
    // Another one may have been installed already: any will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder();
    if tls { client } else { client.tls_certs_only([]) }
}

/// Why a client could not be built, for who can mend it.
#[must_use]
pub fn why_not(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    format!("{text}; for https, install the system's certificates (ca-certificates)")
}

/// Whether servers of https can be verified on this machine.
///
/// # Errors
/// Where there are no certificates to do so.
pub fn certificates() -> Result<(), String> {
    client(true).build().map(drop).map_err(|e| why_not(&e))
}
