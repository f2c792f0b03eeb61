//! `uproar token`: a token on standard output, and nothing else there.

use crate::secrets::fresh_secret;
use crate::{ConfigArgs, Failure};
use clap::Args;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use uproar_control::tokens::SigningKey;
use uproar_proto::token::Claims;

/// Ten years: a longer life is a mistake in the unit.
const TTL_S_MAX: u64 = 10 * 365 * 86_400;

#[derive(Args, Clone, Debug)]
pub(crate) struct TokenArgs {
    /// Who the token is for: 1 to 64 bytes.
    #[arg(long, value_name = "NAME", required_unless_present = "generate_secret")]
    user: Option<String>,
    /// Rooms it is good for; a trailing * matches any ending. Without it: every room.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    rooms: Option<Vec<String>>,
    /// Classes it may publish: chat, like, gift, system. Without it: chat and like.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    publish: Option<Vec<String>>,
    /// A room it follows, and since when in seconds since 1970 (without: long ago). May be
    /// repeated; for rooms with followers_only_s.
    #[arg(long, value_name = "ROOM[=SINCE_S]", value_parser = follow)]
    follows: Vec<(String, u64)>,
    /// May moderate: exempt from slow mode, per-user limits and mutes.
    #[arg(long)]
    moderate: bool,
    /// How long it lives: 90s, 15m, 1h, 7d.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = seconds)]
    ttl: u64,
    #[command(flatten)]
    config: ConfigArgs,
    /// Sign with this secret (base64), instead of the configured key.
    #[arg(long, value_name = "BASE64", conflicts_with = "eddsa_key")]
    hs256_secret: Option<String>,
    /// Sign with the Ed25519 private key in this file (PEM), instead of the configured key.
    #[arg(long, value_name = "FILE")]
    eddsa_key: Option<PathBuf>,
    /// Print a fresh secret and the lines that configure it.
    #[arg(long, conflicts_with_all = ["user", "hs256_secret", "eddsa_key"])]
    generate_secret: bool,
}

/// What the subcommand prints.
pub(crate) fn token(args: &TokenArgs) -> Result<String, Failure> {
    if args.generate_secret {
        return secret_lines().map_err(Failure::Failed);
    }
    let key = signing_key(args)?;
    let claims = Claims {
        sub: args.user.clone().unwrap_or_default(), // clap asks for it
        exp: unix_s() + args.ttl,
        rooms: args.rooms.clone(),
        publish: args.publish.clone(),
        moderate: args.moderate,
        follows: (!args.follows.is_empty()).then(|| args.follows.iter().cloned().collect()),
        sid: None,
        nbf: None,
    };
    key.mint(&claims).map_err(Failure::Usage)
}

fn signing_key(args: &TokenArgs) -> Result<SigningKey, Failure> {
    if let Some(secret) = &args.hs256_secret {
        return SigningKey::hs256(secret).map_err(Failure::Usage);
    }
    if let Some(path) = &args.eddsa_key {
        return eddsa_file(path).map_err(Failure::Usage);
    }
    let config = args.config.load()?;
    config.signing_key().map_err(Failure::Usage)?.ok_or_else(|| Failure::Usage(NO_KEY.into()))
}

const NO_KEY: &str = "no signing key is set.\n\
  Make one:        uproar token --generate-secret\n\
  Put it into a configuration file as engine.tokens.hs256_secret, then both of these use it:\n\
                   uproar serve --config FILE\n\
                   uproar token --user NAME --config FILE\n\
  Or give a key:   --hs256-secret BASE64, or --eddsa-key FILE";

fn eddsa_file(path: &Path) -> Result<SigningKey, String> {
    let name = path.display();
    let pem =
        std::fs::read_to_string(path).map_err(|e| format!("{name} could not be read: {e}"))?;
    SigningKey::eddsa(&pem).map_err(|e| format!("{name}: {e}"))
}

fn secret_lines() -> Result<String, String> {
    let secret = fresh_secret()?;
    Ok(format!(
        "# Whoever has this secret can sign in as anybody: keep the file private.\n\
         [engine.tokens]\n\
         hs256_secret = \"{secret}\""
    ))
}

/// A room, and since when it is followed. (No room has `=` in its name.)
fn follow(text: &str) -> Result<(String, u64), String> {
    let (room, since_s) = text.split_once('=').unwrap_or((text, "0"));
    let since_s = since_s.parse().map_err(|_| {
        let allowed = "allowed are seconds since 1970, as in stage=1760000000";
        format!("{text:?}: {since_s:?} is no time; {allowed}")
    })?;
    Ok((room.to_owned(), since_s))
}

/// A number and a unit (`s`, `m`, `h`, `d`).
pub(crate) fn seconds(text: &str) -> Result<u64, String> {
    let allowed = || format!("{text:?} is not a time; allowed are 90s, 15m, 1h, 7d, up to 3650d");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit_s = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(allowed()),
    };
    let number: u64 = digits.parse().map_err(|_| allowed())?;
    let total_s = number.checked_mul(unit_s).filter(|s| (1..=TTL_S_MAX).contains(s));
    total_s.ok_or_else(allowed)
}

fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_has_a_number_and_a_unit() {
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("15m"), Ok(900));
        assert_eq!(seconds("1h"), Ok(3_600));
        assert_eq!(seconds("7d"), Ok(604_800));
        for wrong in ["", "1", "h", "0s", "1w", "-1h", "1.5h", "99999999999999999999d", "3651d"] {
            let error = seconds(wrong).unwrap_err();
            assert!(error.contains("allowed are"), "{error}");
        }
    }

    #[test]
    fn a_room_is_followed_since_a_time_or_long_ago() {
        assert_eq!(follow("stage=1760000000"), Ok(("stage".into(), 1_760_000_000)));
        assert_eq!(follow("stage"), Ok(("stage".into(), 0)));
        for wrong in ["stage=", "stage=7d", "stage=-1", "stage=1=2"] {
            let error = follow(wrong).unwrap_err();
            assert!(error.contains("allowed are"), "{error}");
        }
    }

    #[test]
    fn a_generated_secret_configures_the_server() {
        let text = secret_lines().unwrap();
        let config = crate::config::layered(Some(("printed", &text)), Vec::new()).unwrap();
        config.check(crate::config::Role::Any).unwrap();
        assert_eq!(config.signing_key().unwrap().unwrap().algorithm(), "HS256");
    }
}
