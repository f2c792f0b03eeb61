//! What was typed. Owns the flags, their words and their syntax; `plan.rs` decides what they mean.

use crate::expect::Expectation;
use clap::{Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  uproar-loadgen live --viewers 10000
  uproar-loadgen live --viewers 5000 --transport ws-json --expect 'p99_ms<=1000' --json run.json
  uproar-loadgen overload --rate 200 --token-secret \"$SECRET\"
  uproar-loadgen churn --viewers 5000 --joins-per-s 20000
  uproar-loadgen storm --viewers 2000 --duration 60s     (then restart the server)
  uproar-loadgen chat --pairs 20 --kills-per-s 5 --token-secret \"$SECRET\"
  uproar-loadgen group --members 5000 --messages 20 --token-secret \"$SECRET\"

Latency counts from when a message was due, not from when it could be sent, and percentiles are
over the deliveries expected: one that never came is infinitely late.

Exit codes:
  0  every check held
  1  a check failed
  2  the command line or the target is wrong; nothing was measured
  3  the tester itself was the bottleneck; the figures say nothing about the server";

/// Runs a crowd of viewers against an uproar server and checks every delivery.
#[derive(Debug, Parser)]
#[command(name = "uproar-loadgen", version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) scenario: Named,
}

/// Every scenario there is.
#[derive(Debug, Subcommand)]
pub(crate) enum Named {
    #[command(flatten)]
    Room(Typed),
    /// Pairs of friends write to each other while their sockets are killed: every message arrives
    /// once and in order
    Chat {
        #[command(flatten)]
        inbox: Inboxes,
        /// Pairs of users; one writes, the other reads
        #[arg(long, default_value_t = 10, value_name = "N")]
        pairs: u32,
        /// Messages a second of all pairs together; 0: each pair as fast as it is acknowledged
        /// (which may be more frames than the server lets a connection send)
        #[arg(long, default_value_t = 100.0, value_name = "N")]
        rate: f64,
        /// How long messages are sent
        #[arg(long, default_value = "20s", value_name = "TIME")]
        duration: Span,
        /// Messages in all; the run ends once they were sent, whatever the duration
        #[arg(long, value_name = "N")]
        messages: Option<u64>,
        /// Sockets killed a second, at random
        #[arg(long, default_value_t = 0.0, value_name = "N")]
        kills_per_s: f64,
    },
    /// One big group: every member gets every message, and the sender learns who has read
    Group {
        #[command(flatten)]
        inbox: Inboxes,
        /// Members, each with a device; the first one writes
        #[arg(long, default_value_t = 1_000, value_name = "N")]
        members: u32,
        /// Messages it writes
        #[arg(long, default_value_t = 100, value_name = "N")]
        messages: u32,
        /// Messages a second
        #[arg(long, default_value_t = 5.0, value_name = "N")]
        rate: f64,
        /// All other members read everything, one after the other, within this time
        #[arg(long, default_value = "1s", value_name = "TIME")]
        read_over: Span,
    },
    /// A user comes back to a backlog in many conversations and finds all of it
    Offline {
        #[command(flatten)]
        inbox: Inboxes,
        /// Messages of the backlog
        #[arg(long, default_value_t = 10_000, value_name = "N")]
        messages: u64,
        /// Conversations it stands in, of very different sizes
        #[arg(long, default_value_t = 50, value_name = "N")]
        conversations: u32,
        /// How often the user comes back to it, each time on a new device
        #[arg(long, default_value_t = 20, value_name = "N")]
        logins: u32,
    },
}

/// The scenarios of a room, with what only they take.
#[derive(Debug, Subcommand)]
pub(crate) enum Typed {
    /// Viewers join a room, publishers send at a rate, every delivery is checked
    Live {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        traffic: Traffic,
    },
    /// Viewers join a room and stay: memory, heartbeats, connects per second
    Idle {
        #[command(flatten)]
        common: Common,
        /// How long the crowd stays once it is complete
        #[arg(long, default_value = "20s", value_name = "TIME", help_heading = "Traffic")]
        duration: Span,
    },
    /// A live room while others join, leave, connect and disconnect
    Churn {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        traffic: Traffic,
        /// Joins a second on open connections, and as many leaves
        #[arg(long, default_value_t = 1000, value_name = "N", help_heading = "Churn")]
        joins_per_s: u32,
        /// Connections that join and leave [default: joins-per-s / 5, at least 10]
        #[arg(long, value_name = "N", help_heading = "Churn")]
        churners: Option<u32>,
        /// Connections opened a second, and as many closed
        #[arg(long, default_value_t = 50, value_name = "N", help_heading = "Churn")]
        connects_per_s: u32,
    },
    /// More is offered than the room admits: the books must balance, system and gift must pass
    Overload {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        traffic: Traffic,
        /// Shares of the classes, in percent; gift and system need tokens
        /// [default: with tokens system=0.5,gift=2.5,chat=47,like=50; for guests chat=50,like=50]
        #[arg(long, value_name = "CLASS=PERCENT,...", help_heading = "Overload")]
        mix: Option<Mix>,
    },
    /// A share of the viewers stops reading, then goes on: they are told what they missed, and
    /// nobody else notices
    Slow {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        traffic: Traffic,
        /// Viewers that stop reading, in percent of --viewers, besides them
        #[arg(long, default_value_t = 1.0, value_name = "PERCENT", help_heading = "Slow viewers")]
        frozen_percent: f64,
        /// How long they stop [default: 70 % of the duration]
        #[arg(long, value_name = "TIME", help_heading = "Slow viewers")]
        frozen_for: Option<Span>,
        /// Their SO_RCVBUF (the kernel doubles it)
        #[arg(long, default_value_t = 4096, value_name = "BYTES", help_heading = "Slow viewers")]
        receive_buffer: u32,
    },
    /// The server is restarted or drained under a live room: everybody comes back
    Storm {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        traffic: Traffic,
    },
}

/// What every scenario takes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Common {
    /// The server's client port
    #[arg(long, default_value = "127.0.0.1:7400", value_name = "HOST:PORT")]
    pub(crate) target: String,
    /// How many viewers
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub(crate) viewers: u32,
    /// The room they join; it is created by joining where the server allows that
    #[arg(long, default_value = "load", value_name = "NAME")]
    pub(crate) room: String,
    /// Wire variant of all connections
    #[arg(long, value_enum, default_value_t = Transport::Tcp)]
    pub(crate) transport: Transport,
    /// Connects a second; 0: as fast as they are answered
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) ramp: u32,
    /// Threads: the first carries the publishers, the others the viewers
    /// [default: as many as the open-file limit asks for, at least 2]
    #[arg(long, value_name = "N", help_heading = "This machine")]
    pub(crate) threads: Option<u16>,
    /// Cores to pin the threads to, in turn (for example 1 or 0,2-3) [default: not pinned]
    #[arg(long, value_name = "LIST", help_heading = "This machine")]
    pub(crate) cores: Option<Cores>,
    /// How sockets are driven
    #[arg(long, value_enum, default_value_t = Io::Auto, help_heading = "This machine")]
    pub(crate) io: Io,
    /// The server's figures: a URL, or "off" [default: port 7480 of the target]
    #[arg(long, value_name = "URL", help_heading = "Results")]
    pub(crate) metrics: Option<String>,
    /// Write every figure as JSON
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub(crate) json: Option<PathBuf>,
    /// A bound a figure must keep, by its JSON key or a short form (p50_ms p99_ms p999_ms max_ms
    /// share); may be repeated
    #[arg(long, value_name = "FIGURE<=BOUND", help_heading = "Results")]
    pub(crate) expect: Vec<Expectation>,
    /// Signs in with HS256 tokens of this secret (base64), minted here
    #[arg(
        long,
        env = "UPROAR_TOKEN_SECRET",
        hide_env_values = true,
        value_name = "BASE64",
        conflicts_with = "token_key",
        help_heading = "Signing in"
    )]
    pub(crate) token_secret: Option<String>,
    /// Signs in with EdDSA tokens of this private key (PKCS #8, PEM), minted here
    #[arg(long, value_name = "FILE", help_heading = "Signing in")]
    pub(crate) token_key: Option<PathBuf>,
    /// Repeats the random choices of another run [default: drawn, and shown]
    #[arg(long, value_name = "N", help_heading = "Results")]
    pub(crate) seed: Option<u64>,
}

/// What scenarios of stored conversations take.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Inboxes {
    /// The server's client port
    #[arg(long, default_value = "127.0.0.1:7400", value_name = "HOST:PORT")]
    pub(crate) target: String,
    /// Where the server takes relationships [default: port 7480 of the target]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) api: Option<String>,
    /// Its API key, where it has one
    #[arg(long, env = "UPROAR_API_KEY", hide_env_values = true, default_value = "")]
    pub(crate) api_key: String,
    /// Signs in with HS256 tokens of this secret (base64), minted here
    #[arg(long, env = "UPROAR_TOKEN_SECRET", hide_env_values = true, value_name = "BASE64")]
    pub(crate) token_secret: String,
    /// Bytes of each message's text, 64 or more
    #[arg(long, default_value_t = 128, value_name = "BYTES")]
    pub(crate) payload: u32,
    /// The longest wait for what was sent to arrive, once nothing more is sent
    #[arg(long, default_value = "30s", value_name = "TIME")]
    pub(crate) settle: Span,
    /// Write every figure as JSON
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub(crate) json: Option<PathBuf>,
    /// A bound a figure must keep, by its JSON key; may be repeated
    #[arg(long, value_name = "FIGURE<=BOUND", help_heading = "Results")]
    pub(crate) expect: Vec<Expectation>,
    /// Repeats the random choices of another run [default: drawn, and shown]
    #[arg(long, value_name = "N", help_heading = "Results")]
    pub(crate) seed: Option<u64>,
}

/// What scenarios with messages take.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Traffic")]
pub(crate) struct Traffic {
    /// Messages offered a second, by all publishers together [default: 20; overload: 200]
    #[arg(long, value_name = "N")]
    pub(crate) rate: Option<f64>,
    /// Bytes of each message's content, 64 or more
    #[arg(long, default_value_t = 256, value_name = "BYTES")]
    pub(crate) payload: u32,
    /// Connections that publish, besides the viewers [default: 20; overload: as many as the rate]
    #[arg(long, value_name = "N")]
    pub(crate) publishers: Option<u32>,
    /// How long is measured [default: 20s; storm: 60s]
    #[arg(long, value_name = "TIME")]
    pub(crate) duration: Option<Span>,
    /// Traffic before that, left out of every figure
    #[arg(long, default_value = "5s", value_name = "TIME")]
    pub(crate) warmup: Span,
}

/// Wire variants by their names on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// Binary TCP
    Tcp,
    /// WebSocket, protobuf
    Ws,
    /// WebSocket, JSON
    WsJson,
}

/// Drivers by their names on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Io {
    /// io_uring where it is permitted, else epoll
    Auto,
    /// io_uring, or refuse to start
    Uring,
    /// epoll
    Epoll,
}

/// A length of time: `500ms`, `20s`, `2m`, or seconds without a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Span, String> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let scale = match &text[digits.len()..] {
            "ms" => 1e-3,
            "s" | "" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            unit => return Err(format!("{unit:?} is no unit of time; allowed are ms, s, m, h")),
        };
        let number: f64 =
            digits.parse().map_err(|_| format!("{text:?} is no time like 500ms, 20s or 2m"))?;
        Duration::try_from_secs_f64(number * scale)
            .map(Span)
            .map_err(|_| format!("{text:?} is no length of time"))
    }
}

/// Cores: `1`, `0,2`, `0-3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cores(pub(crate) Vec<u16>);

impl FromStr for Cores {
    type Err = String;

    fn from_str(text: &str) -> Result<Cores, String> {
        let bad = |_| format!("{text:?} is no list of cores like 1 or 0,2-3");
        let mut cores = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let range: (u16, u16) =
                (first.trim().parse().map_err(bad)?, last.trim().parse().map_err(bad)?);
            if range.0 > range.1 || range.1 > 4095 {
                return Err(format!("{part:?}: a range ascends, and cores are numbered 0 to 4095"));
            }
            cores.extend(range.0..=range.1);
        }
        Ok(Cores(cores))
    }
}

/// Classes in the order of `v1::Class`: chat, system, gift, like.
pub(crate) const CLASSES: [&str; 4] = ["chat", "system", "gift", "like"];

/// Shares of the classes, in percent, summing to 100.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Mix(pub(crate) [f64; CLASSES.len()]);

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Mix, String> {
        let mut shares = [0.0; CLASSES.len()];
        for part in text.split(',') {
            let (name, share) =
                part.split_once('=').ok_or_else(|| format!("{part:?} is not CLASS=PERCENT"))?;
            let class =
                CLASSES.iter().position(|class| *class == name.trim()).ok_or_else(|| {
                    format!("{name:?} is no class; allowed are {}", CLASSES.join(" "))
                })?;
            let share: f64 = share.trim().parse().map_err(|_| format!("{share:?} is no number"))?;
            if !(0.0..=100.0).contains(&share) {
                return Err(format!("{part:?}: a share is 0 to 100 percent"));
            }
            shares[class] = share;
        }
        let sum: f64 = shares.iter().sum();
        if (sum - 100.0).abs() > 0.01 {
            return Err(format!("the shares sum to {sum}, not to 100 percent"));
        }
        Ok(Mix(shares))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn times_are_read_with_their_unit() {
        let ms = |text: &str| text.parse::<Span>().map(|s| s.0.as_millis());
        assert_eq!(ms("500ms"), Ok(500));
        assert_eq!(ms("20s"), Ok(20_000));
        assert_eq!(ms("1.5"), Ok(1500));
        assert_eq!(ms("2m"), Ok(120_000));
        assert!(ms("5 parsecs").is_err());
        assert!(ms("-1s").is_err());
        assert!(ms("").is_err());
    }

    #[test]
    fn cores_are_numbers_and_ranges() {
        let cores = |text: &str| text.parse::<Cores>().map(|c| c.0);
        assert_eq!(cores("1"), Ok(vec![1]));
        assert_eq!(cores("0,2-4"), Ok(vec![0, 2, 3, 4]));
        assert!(cores("4-2").is_err());
        assert!(cores("a").is_err());
        assert!(cores("0-70000").is_err());
    }

    #[test]
    fn a_mix_sums_to_a_hundred() {
        let mix = "chat=40,like=50,system=2,gift=8".parse::<Mix>().expect("valid");
        assert_eq!(mix.0, [40.0, 2.0, 8.0, 50.0]);
        assert!("chat=40".parse::<Mix>().is_err());
        assert!("chat=40,poem=60".parse::<Mix>().is_err());
        assert!("chat=-1,like=101".parse::<Mix>().is_err());
    }
}
