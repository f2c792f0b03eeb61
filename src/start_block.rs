//! What a newcomer reads after a start: where it listens, what it is, what to try.

use crate::config::Config;
use std::fmt::Write as _;
use std::net::SocketAddr;
use uproar_proto::control::NodeInfo;

/// The facts of a started process.
pub(crate) struct Started<'a> {
    pub(crate) config: &'a Config,
    pub(crate) node: &'a NodeInfo,
    /// Where clients connect, with the real port.
    pub(crate) clients: SocketAddr,
    /// Where backends connect, with the real port.
    pub(crate) http: SocketAddr,
    /// Open-file limit, soft and hard.
    pub(crate) open_files: (u64, u64),
    /// Of an engine process: where its control is.
    pub(crate) control: Option<&'a str>,
    /// The operator's password, where it was just made.
    pub(crate) new_password: Option<&'a str>,
}

/// The facts of a started control process.
pub(crate) struct StartedControl<'a> {
    pub(crate) config: &'a Config,
    /// Where backends and people connect, with the real port.
    pub(crate) http: SocketAddr,
    /// Where engines connect, with the real port.
    pub(crate) link: SocketAddr,
    /// The operator's password, where it was just made.
    pub(crate) new_password: Option<&'a str>,
}

/// Where an operator logs in, and with what.
fn admin(config: &Config, http: SocketAddr, password: &str) -> String {
    let file = config.admin.password_file.display();
    format!(
        "http://{http}/admin  password {password}  (shown this once; remove {file} for another)"
    )
}

impl StartedControl<'_> {
    /// The block, on standard output once.
    pub(crate) fn text(&self) -> String {
        let StartedControl { config, http, link, new_password } = self;
        let admin = new_password.map_or_else(String::new, |password| {
            format!("  admin     {}\n", admin(config, *http, password))
        });
        let store = config.store.url.split(':').next().unwrap_or_default();
        format!(
            "uproar {} serves as control\n  \
               link      {link}  (engines; uproar engine --control http://{link})\n  \
               store     {store}\n  \
               http      http://{http}  (accounts, groups, /metrics, /v1/openapi.json)\n{admin}",
            env!("CARGO_PKG_VERSION")
        )
    }
}

impl Started<'_> {
    /// The block, on standard output once.
    pub(crate) fn text(&self) -> String {
        let Started { node, clients, http, .. } = self;
        let mut out = String::new();
        let mut line = |name: &str, value: String| {
            let _ = writeln!(out, "  {name:<9} {value}"); // writing to a String cannot fail
        };
        line("clients", format!("{clients}  (binary TCP, WebSocket, one port)"));
        if let Some(control) = self.control {
            line("control", format!("{control}  (accounts, groups, conversations)"));
        }
        line("http", format!("http://{http}  (rooms, publish, /metrics, /v1/openapi.json)"));
        if let Some(password) = self.new_password {
            line("admin", admin(self.config, *http, password));
        }
        line("driver", format!("{}: {}", node.io, node.io_reason));
        line("shards", self.shards());
        line("capacity", self.capacity());
        line("who", self.who());
        let role = if self.control.is_some() { "serves as engine" } else { "serves" };
        format!("uproar {} {role}\n{out}\n{}", node.version, self.commands())
    }

    fn shards(&self) -> String {
        let cores = &self.config.engine.cores;
        let shards = self.node.shards;
        if cores.is_empty() {
            return format!("{shards}, on the cores this process may use");
        }
        let cores: Vec<String> = cores.iter().map(u16::to_string).collect();
        format!("{shards}, on cores {}", cores.join(" "))
    }

    /// How many connections fit, why, and what to change for more.
    fn capacity(&self) -> String {
        let fit = grouped(self.node.connections_max);
        let (soft, hard) = self.open_files;
        if self.config.engine.connections_per_shard_max != 0 {
            return format!("{fit} connections (engine.connections_per_shard_max)");
        }
        // Where shards may not have tables of their own, all of them fit under one limit.
        let is_shared = self.node.shards > 1 && self.node.connections_max <= soft;
        let (soft, hard) = (grouped(soft), grouped(hard));
        if is_shared {
            return format!(
                "{fit} connections: 90 % of the open-file limit ({soft}, hard {hard}), which all \
                 shards share here\n            for more: a higher hard limit (ulimit -Hn, \
                 LimitNOFILE=), or permit unshare(2)"
            );
        }
        format!(
            "{fit} connections: 90 % of the open-file limit ({soft}, hard {hard}) in each of {} \
             shards\n            for more: a higher hard limit (ulimit -Hn, LimitNOFILE=), or \
             --shards {}",
            self.node.shards,
            self.node.shards.saturating_mul(2)
        )
    }

    fn who(&self) -> String {
        let config = self.config;
        let loopback = self.clients.ip().is_loopback();
        match (config.has_token_key(), config.guests()) {
            (false, _) if loopback => {
                "demo: loopback only, guests may watch and publish; for production set \
                 engine.tokens.hs256_secret, engine.listen and http.api_key (see uproar.toml)"
                    .into()
            }
            (false, _) => "everybody: engine.tokens.guests = true and no token key is set".into(),
            (true, true) => "holders of a token, and guests".into(),
            (true, false) => "holders of a token".into(),
        }
    }

    fn commands(&self) -> String {
        let http = self.http;
        let key = if self.config.http.api_key.is_empty() {
            ""
        } else {
            " -H \"Authorization: Bearer $API_KEY\""
        };
        let metrics_key = if self.config.http.metrics_open { "" } else { key };
        let json = "-H 'Content-Type: application/json'";
        let mut out = format!(
            "  try       curl{key} {json} -d '{{\"room\":\"stage\"}}' \
             http://{http}/v1/rooms\n            \
             curl{key} {json} -d '{{\"user\":\"me\",\"text\":\"hello\"}}' \
             http://{http}/v1/rooms/stage/publish\n            \
             curl{metrics_key} http://{http}/metrics\n"
        );
        let target = match self.clients {
            clients if clients == uproar_engine::config::Config::default().listen => String::new(),
            clients => format!(" --target {clients}"),
        };
        let _ = writeln!(
            out,
            "            cargo run --release -p uproar-loadgen -- live --viewers 10000{target}"
        );
        out
    }
}

/// `1048576` as `1,048,576`; "no limit" stays words.
fn grouped(number: u64) -> String {
    if number == u64::MAX {
        return "unlimited".into();
    }
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(change: impl FnOnce(&mut Config)) -> String {
        block_of(1_887_436, change)
    }

    fn block_of(connections_max: u64, change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::default();
        change(&mut config);
        let node = NodeInfo {
            version: "1.2.3".into(),
            io: "epoll".into(),
            io_reason: "io_uring_setup is not permitted".into(),
            shards: 2,
            connections_max,
            ..NodeInfo::default()
        };
        let (clients, http) = (config.engine.listen, config.http.listen);
        let open_files = (1_048_576, 1_048_576);
        let control = None;
        let new_password = Some("secret-of-ann");
        Started { config: &config, node: &node, clients, http, open_files, control, new_password }
            .text()
    }

    #[test]
    fn the_block_tells_ports_driver_capacity_and_what_to_try() {
        let text = block(|_| {});
        for part in [
            "uproar 1.2.3",
            "127.0.0.1:7400",
            "http://127.0.0.1:7480",
            "epoll: io_uring_setup is not permitted",
            "1,887,436 connections: 90 % of the open-file limit (1,048,576, hard 1,048,576)",
            "--shards 4",
            "demo: loopback only, guests may watch and publish",
            "http://127.0.0.1:7480/v1/rooms/stage/publish",
        ] {
            assert!(text.contains(part), "{part:?} is missing in:\n{text}");
        }
        assert!(!text.contains("Authorization") && !text.contains("--target"), "{text}");
    }

    #[test]
    fn more_shards_are_not_advised_where_they_share_one_limit() {
        let text = block_of(943_718, |_| {});
        assert!(text.contains("943,718 connections") && text.contains("share here"), "{text}");
        assert!(!text.contains("--shards"), "{text}");
    }

    #[test]
    fn the_commands_work_as_configured() {
        let text = block(|config| {
            config.engine.listen = "127.0.0.1:9000".parse().unwrap();
            config.http.api_key = "a-key-of-20-letters!".into();
        });
        assert!(text.contains("Authorization: Bearer $API_KEY"), "{text}");
        assert!(text.contains("--target 127.0.0.1:9000"), "{text}");
        assert!(!text.contains("a-key-of-20"), "a secret is never printed: {text}");
    }

    #[test]
    fn it_says_who_may_connect() {
        let open = block(|config| {
            config.engine.listen = "0.0.0.0:7400".parse().unwrap();
            config.engine.tokens.guests = Some(true);
        });
        assert!(open.contains("everybody"), "{open}");
        let keyed = block(|config| {
            config.engine.tokens.hs256_secret = crate::secrets::secret_text(&[7; 32]);
        });
        assert!(keyed.contains("holders of a token\n"), "{keyed}");
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(12_345_678), "12,345,678");
        assert_eq!(grouped(u64::MAX), "unlimited");
    }
}
