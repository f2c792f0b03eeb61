//! Asks a receiver what is to become of messages before they are stored, or shown.
//!
//! Owns the question and what an answer may say. One request asks about several messages and is
//! answered by id; a message the answer does not name is one without a decision, as is every one
//! of a request that failed. What then holds is its caller's to apply, and nothing here waits
//! longer than the webhook's time-out, or than its caller does.

use super::events::{self, About, Event, Said};
use super::figures::Asked;
use super::request::{Failure, Message};
use super::{Hook, list};
use serde::Deserialize;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use uproar_proto::error::Code;

/// The longest answer, in bytes. Longer: it is none.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// The longest reason for people, in bytes; what is beyond it is cut off.
const TEXT_BYTES_MAX: usize = 256;

/// What is asked.
pub(crate) struct Question {
    pub(crate) about: About,
    /// As its sender wrote it; it has no seq yet.
    pub(crate) said: Said,
}

/// What is to become of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It is stored as it is.
    Allow,
    /// It is stored with this text in place of its own.
    Rewrite(String),
    /// It is not stored; the sender is told this code, and perhaps why.
    Refuse(Code, String),
}

impl Decision {
    fn strictness(&self) -> u8 {
        match self {
            Decision::Allow => 0,
            Decision::Rewrite(_) => 1,
            Decision::Refuse(..) => 2,
        }
    }
}

#[derive(Deserialize)]
struct Answers {
    answers: Vec<Answer>,
}

#[derive(Deserialize)]
struct Answer {
    id: String,
    allow: bool,
    #[serde(default)]
    replace: Option<String>,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    text: Option<String>,
}

impl Answer {
    fn decision(self) -> Decision {
        match (self.allow, self.replace) {
            (true, None) => Decision::Allow,
            (true, Some(text)) => Decision::Rewrite(text),
            (false, _) => {
                let code = self.code.as_deref().and_then(refusal).unwrap_or(Code::Refused);
                Decision::Refuse(code, cut(self.text.unwrap_or_default()))
            }
        }
    }
}

/// The code of this name, where it is one that a decision may be: to send it again unchanged must
/// not be what it tells the client.
fn refusal(name: &str) -> Option<Code> {
    let code = Code::ALL.iter().copied().find(|code| code.name() == name)?;
    matches!(code.number(), 2_000..=2_999).then_some(code)
}

fn cut(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        let end = (0..=TEXT_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
    }
    text
}

/// Decisions by id. Of several about one message the strictest holds: a receiver that contradicts
/// itself must not show what it has refused.
fn read(answer: &[u8]) -> Result<HashMap<String, Decision>, Failure> {
    let answers: Answers = serde_json::from_slice(answer).map_err(|_| Failure::BadAnswer)?;
    let mut by_id: HashMap<String, Decision> = HashMap::new();
    for answer in answers.answers {
        let (id, decision) = (answer.id.clone(), answer.decision());
        if by_id.get(&id).is_none_or(|before| before.strictness() < decision.strictness()) {
            by_id.insert(id, decision);
        }
    }
    Ok(by_id)
}

impl Hook {
    /// Asks about messages of one kind: a decision for each, `None` where there is none within
    /// `wait_max`.
    pub(crate) async fn decide(
        &self,
        questions: &[Question],
        generation: i64,
        now_ms: i64,
        wait_max: Duration,
    ) -> Vec<Option<Decision>> {
        let events: Vec<Event> = questions
            .iter()
            .map(|question| {
                let Question { about, said } = question;
                Event::of_question(crate::ids::random_id(), now_ms, about, said)
            })
            .collect();
        let ids: Vec<&str> = events.iter().map(|event| event.id.as_str()).collect();
        let message = Message {
            ids: list(&ids),
            types: list(&events.iter().map(|event| event.event.word()).collect::<Vec<_>>()),
            body: events::body(self.name(), generation, &events),
        };
        let begun = Instant::now();
        let answer = self.receiver.post_within(message, ANSWER_BYTES_MAX, wait_max).await;
        self.figures.took(begun.elapsed());
        let mut decisions = match answer.and_then(|answer| read(&answer)) {
            Ok(decisions) => decisions,
            Err(failure) => {
                self.figures.failed(failure);
                tracing::debug!(hook = self.name(), ?failure, "no decision about messages");
                HashMap::new()
            }
        };
        events.iter().map(|event| decisions.remove(&event.id)).collect()
    }

    /// Counts what became of a message.
    pub(crate) fn asked(&self, what: Asked) {
        self.figures.asked(what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(answer: &str) -> Result<Option<Decision>, Failure> {
        let text = format!("{{\"answers\":[{answer}]}}");
        read(text.as_bytes()).map(|mut decisions| decisions.remove("a"))
    }

    #[test]
    fn an_answer_allows_rewrites_or_refuses() {
        let of = |answer: &str| one(answer).unwrap().unwrap();
        assert_eq!(of("{\"id\":\"a\",\"allow\":true}"), Decision::Allow);
        let rewritten = of("{\"id\":\"a\",\"allow\":true,\"replace\":\"***\"}");
        assert_eq!(rewritten, Decision::Rewrite("***".into()));
        let refused =
            of("{\"id\":\"a\",\"allow\":false,\"code\":\"MUTED\",\"text\":\"calm down\"}");
        assert_eq!(refused, Decision::Refuse(Code::Muted, "calm down".into()));
        for code in ["\"NO_SUCH\"", "\"SLOW_DOWN\"", "\"KICKED\"", "null"] {
            let refused = of(&format!("{{\"id\":\"a\",\"allow\":false,\"code\":{code}}}"));
            assert_eq!(refused, Decision::Refuse(Code::Refused, String::new()), "{code}");
        }
    }

    #[test]
    fn of_answers_that_contradict_each_other_the_strictest_holds_in_any_order() {
        let allow = r#"{"id":"a","allow":true}"#;
        let first = r#"{"id":"a","allow":true,"replace":"x"}"#;
        let second = r#"{"id":"a","allow":true,"replace":"y"}"#;
        let refuse = r#"{"id":"a","allow":false,"code":"MUTED"}"#;
        let of = |answers: &[&str]| one(&answers.join(",")).unwrap().unwrap();
        let refused = Decision::Refuse(Code::Muted, String::new());
        for answers in [[refuse, allow, first], [allow, first, refuse], [first, refuse, allow]] {
            assert_eq!(of(&answers), refused, "{answers:?}");
        }
        for answers in [[allow, first, second], [first, second, allow]] {
            assert_eq!(of(&answers), Decision::Rewrite("x".into()), "{answers:?}");
        }
    }

    #[test]
    fn what_is_no_answer_is_none() {
        for bad in ["", "{}", "[]", "null", "{\"allow\":true}", "{\"answers\":{}}"] {
            assert_eq!(read(bad.as_bytes()), Err(Failure::BadAnswer), "{bad}");
        }
        for bad in ["{\"id\":\"a\"}", "{\"id\":\"a\",\"allow\":\"yes\"}", "{\"allow\":true}"] {
            assert_eq!(one(bad), Err(Failure::BadAnswer), "{bad}");
        }
        assert_eq!(one("{\"id\":\"b\",\"allow\":true}"), Ok(None), "it is about another one");
    }

    #[test]
    fn a_long_reason_is_cut_where_a_letter_ends() {
        let text = cut("\u{e4}".repeat(200));
        assert_eq!(text, "\u{e4}".repeat(128));
        assert_eq!(cut("x".repeat(257)).len(), 256);
    }
}
