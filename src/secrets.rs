//! Secrets made here: bytes from the system, as text for a configuration file.

use std::fs::File;
use std::io::Read;

/// Bytes of a fresh HS256 secret: as long as the hash.
pub(crate) const SECRET_BYTES: usize = 32;

/// A fresh HS256 secret, base64.
///
/// # Errors
/// Where the system gives no random bytes.
pub(crate) fn fresh_secret() -> Result<String, String> {
    let mut bytes = [0; SECRET_BYTES];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(|e| format!("/dev/urandom gave no random bytes: {e}"))?;
    Ok(secret_text(&bytes))
}

/// A secret as the configuration takes it.
pub(crate) fn secret_text(bytes: &[u8]) -> String {
    uproar_control::tokens::base64_text(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_secret_is_fresh_and_long_enough() {
        let (a, b) = (fresh_secret().unwrap(), fresh_secret().unwrap());
        assert_ne!(a, b);
        assert_eq!(uproar_control::tokens::hs256_bytes(&a).unwrap().len(), SECRET_BYTES);
    }
}
