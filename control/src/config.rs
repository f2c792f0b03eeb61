//! Every limit of the HTTP interface: its default, and what happens when it is reached.

use crate::relations::Policy;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;
use uproar_proto::error::Code;
use uproar_proto::ids::RoomId;

/// The shortest API key, in bytes: shorter ones can be guessed.
pub const API_KEY_BYTES_MIN: usize = 16;

/// Section `[http]` of the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where backends and operators connect.
    pub listen: SocketAddr,
    /// `Authorization: Bearer <key>` that /v1 asks for; at least 16 bytes. Empty: no key, and
    /// `listen` must be a loopback address.
    pub api_key: String,
    /// Whether /metrics is open to everyone; false: it asks for the API key.
    pub metrics_open: bool,
    /// Longest wait for the engine's answer. Reached: 503, and it is unknown whether the request
    /// was carried out.
    pub reply_ms_max: u32,
    /// Longest time for a whole request, its body included. Reached: 408 where the body was not
    /// there, else 503.
    pub request_ms_max: u32,
    /// Longest wait for a request's headers, also between two requests of one connection.
    /// Reached: closed.
    pub header_ms_max: u32,
    /// The largest request body, in bytes. Larger: 413.
    pub body_bytes_max: u32,
    /// The largest body of `PUT` and `PATCH /v1/filter`: a list of 8 MiB as JSON, with room for its
    /// quotes and escapes. Larger: 413.
    pub list_body_bytes_max: u32,
    /// Messages in one bulk publish. More: 400.
    pub bulk_messages_max: u32,
    /// Rooms on one page of a listing, at most; also what `limit` may ask for.
    pub page_rooms_max: u32,
    /// Connections served at once. More wait in the kernel's accept queue.
    pub connections_max: u32,
    /// Connections of one address at once (IPv6: of a /64); a bit less than a quarter of all, so
    /// that one that says nothing leaves room for the others. More: closed at once, counted. The
    /// proxies of `accounts.trusted_proxies` are not counted.
    pub connections_per_address_max: u32,
    /// Ed25519 private key (PKCS#8 PEM) that signs tokens. Empty: `engine.tokens.hs256_secret`
    /// signs; neither: no token is minted here.
    pub eddsa_private_key: String,
    /// The longest life of a token minted here, in seconds. Longer: 400.
    pub token_ttl_s_max: u32,
}

/// Section `[pages]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PagesConfig {
    /// Whether the pages and the SDK are served beside the interface.
    pub enabled: bool,
    /// The room of the page at `/`.
    pub room: String,
    /// What plays in it; empty: a test pattern.
    pub video_url: String,
}

impl Default for PagesConfig {
    fn default() -> PagesConfig {
        PagesConfig { enabled: true, room: "lobby".into(), video_url: String::new() }
    }
}

impl PagesConfig {
    /// The first rule the section breaks, in words: which key, what it is, what is allowed.
    ///
    /// # Errors
    /// The sentence to show.
    pub fn check(&self) -> Result<(), String> {
        if RoomId::new(&self.room).is_none() {
            return Err(format!("room is {:?}; {}", self.room, Code::BadRoom.text()));
        }
        let url = &self.video_url;
        let known = ["http://", "https://", "/"].iter().any(|begin| url.starts_with(begin));
        if !url.is_empty() && !known {
            return Err(format!(
                "video_url is {url:?}; allowed is http://..., https://..., a path of this server, \
                 or nothing"
            ));
        }
        Ok(())
    }
}

/// Section `[admin]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminConfig {
    /// Where the hash of the operator's password is kept; made at the first start, which shows the
    /// password once. Empty: nobody logs in at /admin.
    pub password_file: PathBuf,
    /// How long a log-in lasts, in seconds.
    pub session_s: u32,
}

impl Default for AdminConfig {
    fn default() -> AdminConfig {
        AdminConfig { password_file: "uproar-admin".into(), session_s: 43_200 }
    }
}

impl AdminConfig {
    /// The first rule the section breaks, in words: which key, what it is, what is allowed.
    ///
    /// # Errors
    /// The sentence to show.
    pub fn check(&self) -> Result<(), String> {
        let life_s = self.session_s;
        if !(60..=2_592_000).contains(&life_s) {
            return Err(format!("session_s is {life_s}; allowed is 60 to 2592000"));
        }
        Ok(())
    }
}

/// Section `[store]` of the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// Where users, relationships and conversations are kept: `sqlite:FILE` or
    /// `mysql://user:password@host:port/database`. Empty: nowhere, live rooms alone. Opened only
    /// where tokens are configured: without them nobody has a name.
    pub url: String,
    /// Whether SQLite waits for the disk before it commits. Without it sends are faster, and a
    /// power loss may take what was acknowledged; a crash of the process may not. A server has its
    /// own setting.
    pub sync: bool,
    /// Who may write to whom: `friends`, or `anyone` who is not blocked.
    pub policy: Policy,
    /// Messages are kept at least so many days, and at most one period longer; 0: for ever.
    pub retention_days: u32,
    /// Old messages go in pieces of so many days.
    pub period_days: u32,
    /// Entries of the audit log are kept so many days; older ones go as new ones come.
    pub audit_days: u32,
}

impl Default for StoreConfig {
    fn default() -> StoreConfig {
        StoreConfig {
            url: "sqlite:uproar.db".into(),
            sync: true,
            policy: Policy::Friends,
            retention_days: 0,
            period_days: 30,
            audit_days: 180,
        }
    }
}

impl StoreConfig {
    /// The first rule the section breaks, in words: which key, what it is, what is allowed.
    ///
    /// # Errors
    /// The sentence to show.
    pub fn check(&self) -> Result<(), String> {
        for (name, value, min, max) in [
            ("retention_days", self.retention_days, 0, 36_500),
            ("period_days", self.period_days, 1, 366),
            ("audit_days", self.audit_days, 1, 36_500),
        ] {
            if value < min || value > max {
                return Err(format!("{name} is {value}; allowed is {min} to {max}"));
            }
        }
        if !self.url.is_empty() {
            // Its sentences begin with the section.
            crate::store::check_url(&self.url).map_err(|e| e.replacen("store.", "", 1))?;
        }
        Ok(())
    }
}

/// Section `[groups]` of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GroupsConfig {
    /// Members of one group. Reached: `LIMIT_REACHED`.
    pub members_max: u32,
    /// Groups one user is in. Reached: `LIMIT_REACHED`.
    pub groups_per_user_max: u32,
}

impl Default for GroupsConfig {
    fn default() -> GroupsConfig {
        GroupsConfig { members_max: 100_000, groups_per_user_max: 2_000 }
    }
}

impl GroupsConfig {
    /// The first rule the section breaks, in words: which key, what it is, what is allowed.
    ///
    /// # Errors
    /// The sentence to show.
    pub fn check(&self) -> Result<(), String> {
        for (name, value, max) in [
            ("members_max", self.members_max, 1_000_000),
            ("groups_per_user_max", self.groups_per_user_max, 10_000),
        ] {
            if value < 1 || value > max {
                return Err(format!("{name} is {value}; allowed is 1 to {max}"));
            }
        }
        Ok(())
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 7480)),
            api_key: String::new(),
            metrics_open: true,
            reply_ms_max: 2_000,
            request_ms_max: 10_000,
            header_ms_max: 10_000,
            body_bytes_max: 1 << 20,
            list_body_bytes_max: 16 << 20,
            bulk_messages_max: 1_000,
            page_rooms_max: 1_000,
            connections_max: 1_024,
            connections_per_address_max: 240,
            eddsa_private_key: String::new(),
            token_ttl_s_max: 30 * 86_400,
        }
    }
}

impl Config {
    /// The first rule the configuration breaks, in words: which key, what it is, what is allowed.
    ///
    /// # Errors
    /// The sentence to show.
    pub fn check(&self) -> Result<(), String> {
        let ranges = [
            ("reply_ms_max", self.reply_ms_max, 10, 60_000),
            ("request_ms_max", self.request_ms_max, 100, 600_000),
            ("header_ms_max", self.header_ms_max, 100, 600_000),
            ("body_bytes_max", self.body_bytes_max, 1_024, 64 << 20),
            ("list_body_bytes_max", self.list_body_bytes_max, 1_024, 64 << 20),
            ("bulk_messages_max", self.bulk_messages_max, 1, 10_000),
            ("page_rooms_max", self.page_rooms_max, 1, 10_000),
            ("connections_max", self.connections_max, 1, 100_000),
            ("connections_per_address_max", self.connections_per_address_max, 1, 100_000),
            ("token_ttl_s_max", self.token_ttl_s_max, 1, 10 * 365 * 86_400),
        ];
        for (name, value, min, max) in ranges {
            if value < min || value > max {
                return Err(format!("{name} is {value}; allowed is {min} to {max}"));
            }
        }
        if self.request_ms_max <= self.reply_ms_max {
            return Err(format!(
                "request_ms_max is {}; it must be above reply_ms_max ({}), or no answer arrives",
                self.request_ms_max, self.reply_ms_max
            ));
        }
        self.check_key()
    }

    fn check_key(&self) -> Result<(), String> {
        let key = self.api_key.as_bytes();
        if key.is_empty() {
            if !self.listen.ip().is_loopback() {
                return Err(format!(
                    "listen is {}, which other machines reach, but api_key is not set; set \
                     api_key, or listen on 127.0.0.1",
                    self.listen
                ));
            }
            if !self.metrics_open {
                return Err(
                    "metrics_open is false, but api_key is not set; set api_key, or leave \
                            /metrics open"
                        .into(),
                );
            }
            return Ok(());
        }
        if key.len() < API_KEY_BYTES_MIN {
            return Err(format!(
                "api_key has {} bytes; allowed are {API_KEY_BYTES_MIN} or more",
                key.len()
            ));
        }
        // What a header can carry: visible ASCII, no space.
        if !key.iter().all(u8::is_ascii_graphic) {
            return Err("api_key holds a character that is not visible ASCII; a header cannot \
                        carry it"
                .into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid() {
        Config::default().check().unwrap();
    }

    #[test]
    fn without_a_key_only_loopback_is_served() {
        let open = Config { listen: "0.0.0.0:7480".parse().unwrap(), ..Config::default() };
        let error = open.check().unwrap_err();
        assert!(error.contains("api_key is not set"), "{error}");
        let keyed = Config { api_key: "0123456789abcdef".into(), ..open };
        keyed.check().unwrap();
        let loopback6 = Config { listen: "[::1]:7480".parse().unwrap(), ..Config::default() };
        loopback6.check().unwrap();
    }

    #[test]
    fn a_key_that_can_be_guessed_or_not_sent_is_refused() {
        for (key, what) in [("short", "16 or more"), ("0123456789 abcdef", "visible ASCII")] {
            let error = Config { api_key: key.into(), ..Config::default() }.check().unwrap_err();
            assert!(error.contains(what), "{error}");
            assert!(!error.contains(key), "an error never shows the key");
        }
    }

    #[test]
    fn closed_metrics_need_a_key() {
        let config = Config { metrics_open: false, ..Config::default() };
        assert!(config.check().unwrap_err().contains("metrics_open"));
    }

    #[test]
    fn a_limit_out_of_range_names_the_key_and_the_range() {
        let config = Config { bulk_messages_max: 0, ..Config::default() };
        assert_eq!(config.check().unwrap_err(), "bulk_messages_max is 0; allowed is 1 to 10000");
    }
}
