//! Where the two processes meet, and by which key they know each other.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

/// The shortest key, in bytes: shorter ones can be guessed.
pub const KEY_BYTES_MIN: usize = 16;

/// Section `[link]` of the configuration.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Of a control process: where engines reach it.
    pub listen: SocketAddr,
    /// Of an engine process: where control is, `http://host:port` or `https://host:port`.
    pub control: String,
    /// Known to both, and to nobody else; at least 16 bytes of visible ASCII.
    pub key: String,
    /// Of an engine process: where it keeps the filter list and the blocks it was told last, for a
    /// start while control is away. Empty: nowhere, and such a start is not ready before control is
    /// reached.
    pub known_file: PathBuf,
}

impl Default for Config {
    fn default() -> Config {
        let listen = SocketAddr::from(([127, 0, 0, 1], 7470));
        Config {
            listen,
            control: format!("http://{listen}"),
            key: String::new(),
            known_file: "uproar-engine.known".into(),
        }
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Config { listen, control, key, known_file } = self;
        let (bytes, known) = (key.len(), known_file.display());
        write!(f, "Config {{ {listen}, {control}, a key of {bytes} bytes, {known} }}")
    }
}

impl Config {
    /// The first rule that what is set breaks, whatever process it is for.
    ///
    /// # Errors
    /// The sentence to show: which key, what it is, what is allowed. Never shows the key itself.
    pub fn check(&self) -> Result<(), String> {
        let key = self.key.as_bytes();
        if !key.is_empty() && key.len() < KEY_BYTES_MIN {
            let bytes = key.len();
            return Err(format!("key has {bytes} bytes; allowed are {KEY_BYTES_MIN} or more"));
        }
        if !key.iter().all(u8::is_ascii_graphic) {
            return Err(
                "key holds a character that is not visible ASCII; a header cannot carry it".into(),
            );
        }
        if key.is_empty() && !self.listen.ip().is_loopback() {
            return Err(format!(
                "listen is {}, which other machines reach, but key is not set",
                self.listen
            ));
        }
        let host = ["http://", "https://"].iter().find_map(|s| self.control.strip_prefix(s));
        let host = host.map(|host| host.trim_end_matches('/'));
        if host.is_none_or(|host| host.is_empty() || host.contains(['/', '?', '#', '@', ' '])) {
            return Err(format!(
                "control is {:?}; allowed is http://host:port or https://host:port",
                self.control
            ));
        }
        Ok(())
    }

    /// What the two processes need besides: everybody's messages pass here, so there is no link
    /// without a key.
    ///
    /// # Errors
    /// The sentence to show.
    pub fn check_linked(&self) -> Result<(), String> {
        if self.key.is_empty() {
            return Err("key is not set: control and engine know each other by it; set the same \
                        16 or more visible ASCII characters for both"
                .into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_and_links_nobody() {
        Config::default().check().unwrap();
        assert!(Config::default().check_linked().unwrap_err().contains("key is not set"));
    }

    #[test]
    fn a_key_is_long_enough_and_goes_into_a_header_and_is_never_shown() {
        for (key, what) in [("short", "16 or more"), ("0123456789 abcdef", "visible ASCII")] {
            let config = Config { key: key.into(), ..Config::default() };
            let error = config.check().unwrap_err();
            assert!(error.contains(what) && !error.contains(key), "{error}");
            assert!(!format!("{config:?}").contains(key));
        }
        let good = Config { key: "0123456789abcdef".into(), ..Config::default() };
        good.check().and(good.check_linked()).unwrap();
    }

    #[test]
    fn other_machines_need_the_key_and_control_is_an_address() {
        let open = Config { listen: "0.0.0.0:7470".parse().unwrap(), ..Config::default() };
        assert!(open.check().unwrap_err().contains("0.0.0.0:7470"));
        Config { key: "0123456789abcdef".into(), ..open }.check().unwrap();
        for good in ["http://a", "https://control.example:7470", "http://[::1]:7470/"] {
            Config { control: good.into(), ..Config::default() }.check().unwrap();
        }
        for bad in ["", "127.0.0.1:7470", "http://", "ftp://a", "http://a/b", "http://a@b"] {
            let error = Config { control: bad.into(), ..Config::default() }.check().unwrap_err();
            assert!(error.starts_with("control is"), "{error}");
        }
    }
}
