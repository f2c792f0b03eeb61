//! `[[webhooks]]` of the configuration: who is told of what, and what holds where nobody answers.
//!
//! Owns the settings and every rule they must keep. Connects to nobody.

use reqwest::Url;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

/// Webhooks of one configuration. More: refused.
const WEBHOOKS_MAX: usize = 16;
/// The longest name, in bytes: it is part of every row of the outbox.
const NAME_BYTES_MAX: usize = 32;
/// The shortest secret, in bytes: shorter ones can be guessed from one signature.
const SECRET_BYTES_MIN: usize = 16;

/// What a webhook may be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EventType {
    /// A message that is about to be stored: the receiver decides.
    #[serde(rename = "message.before")]
    MessageBefore,
    /// A message of a live room that nobody has seen yet: the receiver decides.
    #[serde(rename = "publish.before")]
    PublishBefore,
    /// A message that was stored.
    #[serde(rename = "message.after")]
    MessageAfter,
    /// A group that changed: a notice of its log.
    #[serde(rename = "group.changed")]
    GroupChanged,
    /// What reactions a message has now.
    #[serde(rename = "reactions.changed")]
    ReactionsChanged,
    /// Users who came online or went.
    #[serde(rename = "presence")]
    Presence,
    /// An alarm of the quality of streams that was raised or cleared.
    #[serde(rename = "quality.alarm")]
    QualityAlarm,
}

impl EventType {
    /// As the configuration and the wire write it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            EventType::MessageBefore => "message.before",
            EventType::PublishBefore => "publish.before",
            EventType::MessageAfter => "message.after",
            EventType::GroupChanged => "group.changed",
            EventType::ReactionsChanged => "reactions.changed",
            EventType::Presence => "presence",
            EventType::QualityAlarm => "quality.alarm",
        }
    }
}

/// Conversations of which kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Which {
    /// Every one.
    #[default]
    All,
    /// One-to-one.
    User,
    /// Of groups.
    Group,
}

impl Which {
    /// Whether a conversation is one of these.
    pub(crate) fn has(self, is_group: bool) -> bool {
        match self {
            Which::All => true,
            Which::User => !is_group,
            Which::Group => is_group,
        }
    }
}

/// What holds for a message where its receiver gave no decision in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// It passes, and is counted.
    Open,
    /// It is refused with `HOOK_DOWN`, to be sent again.
    Closed,
}

/// A secret that no log shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Its bytes, as they are written.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Secret {
        Secret(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// An entry `[[webhooks]]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookSettings {
    /// 1 to 32 bytes of a-z 0-9 and -. What waits in the outbox waits under this name.
    pub name: String,
    /// Where it is told.
    pub url: String,
    /// What requests are signed with, as it is written; 16 bytes or more.
    pub secret: Secret,
    /// Of what.
    pub events: Vec<EventType>,
    /// In conversations of which kind.
    #[serde(default)]
    pub conversations: Which,
    /// Whether `url` may be http beyond this machine: then everybody on the way reads what is told.
    #[serde(default)]
    pub allow_http: bool,
    /// The longest request, from connecting to the end of its answer.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u32,
    /// What holds for a message its receiver did not decide about; with `message.before` alone, and
    /// then without a default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
    /// Events of one request.
    #[serde(default = "events_per_request_max")]
    pub events_per_request_max: u32,
    /// Requests under way at once. More work waits.
    #[serde(default = "requests_max")]
    pub requests_max: u32,
    /// Events that wait in the outbox, to within one transaction. Reached: later ones are dropped
    /// and counted, and the seq of their conversation shows the hole.
    #[serde(default = "waiting_max")]
    pub waiting_max: u32,
    /// How long an event waits for a receiver that does not take it. Reached: dropped, counted and
    /// logged.
    #[serde(default = "age_max_s")]
    pub age_max_s: u32,
}

fn timeout_ms() -> u32 {
    5_000
}

fn events_per_request_max() -> u32 {
    64
}

fn requests_max() -> u32 {
    8
}

fn waiting_max() -> u32 {
    1_000_000
}

fn age_max_s() -> u32 {
    3 * 86_400
}

impl WebhookSettings {
    /// Whether what it is told of comes from the store alone.
    #[must_use]
    pub fn needs_store(&self) -> bool {
        self.events.iter().any(|event| *event != EventType::PublishBefore)
    }

    /// Whether it decides about messages of rooms.
    #[must_use]
    pub fn decides_about_rooms(&self) -> bool {
        self.has(EventType::PublishBefore)
    }

    /// Whether it is told of these.
    pub(crate) fn has(&self, event: EventType) -> bool {
        self.events.contains(&event)
    }

    fn check(&self) -> Result<(), String> {
        let name = (1..=NAME_BYTES_MAX).contains(&self.name.len())
            && self.name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        if !name {
            let (name, max) = (&self.name, NAME_BYTES_MAX);
            return Err(format!("name is {name:?}; allowed are 1 to {max} bytes of a-z 0-9 -"));
        }
        self.check_url()?;
        let bytes = self.secret.bytes().len();
        if bytes < SECRET_BYTES_MIN {
            return Err(format!(
                "secret has {bytes} bytes; allowed are {SECRET_BYTES_MIN} or more (openssl rand \
                 -hex 32 makes one)"
            ));
        }
        self.check_events()?;
        for (name, value, min, max) in [
            ("timeout_ms", self.timeout_ms, 10, 30_000),
            ("events_per_request_max", self.events_per_request_max, 1, 256),
            ("requests_max", self.requests_max, 1, 64),
            ("waiting_max", self.waiting_max, 1, 100_000_000),
            ("age_max_s", self.age_max_s, 60, 30 * 86_400),
        ] {
            if value < min || value > max {
                return Err(format!("{name} is {value}; allowed is {min} to {max}"));
            }
        }
        Ok(())
    }

    fn check_url(&self) -> Result<(), String> {
        let shown = &self.url;
        let url: Url = shown.parse().map_err(|e| format!("url is {shown:?}: {e}"))?;
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            // Not shown: it may hold a password.
            return Err("url holds a user name, a password or a fragment; a receiver knows us by \
                        the signature"
                .into());
        }
        match url.scheme() {
            "https" => Ok(()),
            "http" if self.allow_http || is_loopback(&url) => Ok(()),
            "http" => Err(format!(
                "url is {shown:?}, over which everybody on the way reads what is told; use https, \
                 or set allow_http = true"
            )),
            other => Err(format!("url is of the kind {other:?}; allowed are https and http")),
        }
    }

    fn check_events(&self) -> Result<(), String> {
        if self.events.is_empty() {
            return Err("events is empty; allowed are message.before, publish.before, \
                        message.after, group.changed, reactions.changed, presence, quality.alarm"
                .into());
        }
        for (at, event) in self.events.iter().enumerate() {
            if self.events[..at].contains(event) {
                return Err(format!("events has {:?} twice", event.word()));
            }
        }
        if self.has(EventType::GroupChanged) && self.conversations == Which::User {
            return Err("events has \"group.changed\", but conversations is \"user\"".into());
        }
        match (self.has(EventType::MessageBefore), self.on_failure) {
            (true, None) => Err("events has \"message.before\", but on_failure is not set; \
                                 \"open\": a message without a decision passes, \"closed\": it \
                                 is refused"
                .into()),
            (false, Some(_)) => Err("on_failure is set, but events has no \"message.before\"; \
                                     for \"publish.before\" a room's before_publish says it, and \
                                     everything else is told again until it is taken"
                .into()),
            _ => Ok(()),
        }
    }
}

/// Whether a URL names this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address: Result<IpAddr, _> = host.trim_matches(['[', ']']).parse();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// The first rule a list of webhooks breaks, in words: which entry and key, what is allowed.
///
/// # Errors
/// The sentence to show; never a secret.
pub fn check(list: &[WebhookSettings]) -> Result<(), String> {
    if list.len() > WEBHOOKS_MAX {
        return Err(format!("webhooks has {} entries; allowed are {WEBHOOKS_MAX}", list.len()));
    }
    for (at, one) in list.iter().enumerate() {
        one.check().map_err(|e| format!("webhooks[{at}].{e}"))?;
        for other in &list[..at] {
            if other.name == one.name {
                return Err(format!("webhooks[{at}].name is {:?} a second time", one.name));
            }
            if one.has(EventType::PublishBefore) && other.has(EventType::PublishBefore) {
                return Err(format!(
                    "webhooks[{at}].events has \"publish.before\", which {:?} has too; one \
                     receiver decides about messages of rooms",
                    other.name
                ));
            }
            let both = [false, true].into_iter().any(|is_group| {
                let decides = |hook: &WebhookSettings| {
                    hook.has(EventType::MessageBefore) && hook.conversations.has(is_group)
                };
                decides(one) && decides(other)
            });
            if both {
                return Err(format!(
                    "webhooks[{at}].events has \"message.before\", which {:?} has too; one \
                     receiver decides about a message (conversations tells them apart)",
                    other.name
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(more: &str) -> Result<WebhookSettings, String> {
        let base = "name = \"audit\"\nurl = \"https://a.example/hook\"\n\
                    secret = \"0123456789abcdef\"\nevents = [\"message.after\"]\n";
        let keys: Vec<&str> =
            more.lines().filter_map(|l| l.split_once(" = ")).map(|l| l.0).collect();
        let kept = base.lines().filter(|l| !keys.iter().any(|key| l.starts_with(key)));
        let text = kept.chain(more.lines()).collect::<Vec<_>>().join("\n");
        toml::from_str(&text).map_err(|e| e.to_string())
    }

    fn error(more: &str) -> String {
        read(more).and_then(|one| check(&[one])).expect_err(more)
    }

    #[test]
    fn a_short_entry_is_enough() {
        let one = read("").unwrap();
        check(std::slice::from_ref(&one)).unwrap();
        assert_eq!(
            (one.timeout_ms, one.age_max_s, one.conversations),
            (5_000, 259_200, Which::All)
        );
        for good in [
            "url = \"http://127.0.0.1:9/x\"",
            "url = \"http://[::1]/x\"",
            "url = \"http://localhost:9/\"",
            "url = \"http://a.example/\"\nallow_http = true",
            "events = [\"message.before\", \"presence\"]\non_failure = \"closed\"",
            "conversations = \"group\"\nevents = [\"group.changed\"]",
            "events = [\"publish.before\"]",
        ] {
            check(&[read(good).unwrap()]).unwrap_or_else(|e| panic!("{good}: {e}"));
        }
    }

    #[test]
    fn every_mistake_is_told_with_what_is_allowed() {
        for (more, told) in [
            ("name = \"Audit\"", "webhooks[0].name is \"Audit\"; allowed are 1 to 32 bytes"),
            ("name = \"\"", "name is \"\""),
            ("url = \"a.example\"", "url is \"a.example\""),
            ("url = \"ftp://a.example\"", "allowed are https and http"),
            ("url = \"http://a.example/\"", "allow_http = true"),
            ("url = \"http://127.0.0.1.a.example/\"", "allow_http = true"),
            ("secret = \"0123456789abcde\"", "secret has 15 bytes; allowed are 16"),
            ("events = []", "events is empty"),
            ("events = [\"message.after\", \"message.after\"]", "twice"),
            (
                "events = [\"message\"]",
                "unknown variant `message`, expected one of `message.before`",
            ),
            ("events = [\"message.before\"]", "on_failure is not set"),
            ("on_failure = \"open\"", "no \"message.before\""),
            ("events = [\"publish.before\"]\non_failure = \"open\"", "before_publish says it"),
            ("on_failure = \"maybe\"", "expected `open` or `closed`"),
            ("conversations = \"room\"", "expected one of `all`, `user`, `group`"),
            ("conversations = \"user\"\nevents = [\"group.changed\"]", "conversations is \"user\""),
            ("timeout_ms = 5", "timeout_ms is 5; allowed is 10 to 30000"),
            ("requests_max = 0", "requests_max is 0; allowed is 1 to 64"),
            ("events_per_request_max = 257", "allowed is 1 to 256"),
            ("waiting_max = 0", "waiting_max is 0"),
            ("age_max_s = 59", "age_max_s is 59"),
            ("colour = 1", "unknown field `colour`"),
        ] {
            let error = error(more);
            assert!(error.contains(told), "{more}: {error}");
        }
    }

    #[test]
    fn neither_an_error_nor_a_log_shows_a_secret() {
        let told = error("secret = \"0123456789\"");
        assert!(!told.contains("0123456789"), "{told}");
        let told = error("url = \"https://me:hidden@a.example/\"");
        assert!(!told.contains("hidden"), "{told}");
        let shown = format!("{:?}", read("").unwrap());
        assert!(!shown.contains("0123456789abcdef"), "{shown}");
    }

    #[test]
    fn names_are_their_own_and_one_receiver_decides() {
        let one = read("").unwrap();
        assert!(check(&[one.clone(), one]).unwrap_err().contains("a second time"));
        let decides = |name: &str, which: &str| {
            read(&format!(
                "name = \"{name}\"\nconversations = \"{which}\"\non_failure = \"open\"\n\
                 events = [\"message.before\"]"
            ))
            .unwrap()
        };
        check(&[decides("a", "user"), decides("b", "group")]).unwrap();
        let of_rooms =
            |name| read(&format!("name = \"{name}\"\nevents = [\"publish.before\"]")).unwrap();
        check(&[decides("a", "all"), of_rooms("b")]).unwrap();
        let both = check(&[of_rooms("a"), of_rooms("b")]).unwrap_err();
        assert!(both.contains("webhooks[1]") && both.contains("\"a\" has too"), "{both}");
        assert!(!of_rooms("a").needs_store() && decides("a", "all").needs_store());
        let both = check(&[decides("a", "user"), decides("b", "all")]).unwrap_err();
        assert!(both.contains("webhooks[1]") && both.contains("\"a\" has too"), "{both}");
        let many: Vec<_> = (0..17).map(|n| read(&format!("name = \"a{n}\"")).unwrap()).collect();
        assert!(check(&many).unwrap_err().contains("allowed are 16"));
    }
}
