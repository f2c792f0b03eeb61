//! How the harness talks with a process it started: words on stdin (`mark`, `next`), one JSON
//! object a line on stdout, the end of stdin as "stop". Owns the lines; knows nothing of what
//! they are about.

use serde::Serialize;
use serde_json::{Value, json};
use std::io::{BufRead, Write};
use std::sync::mpsc::{Receiver, channel};

/// What the harness asks of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Say the counters now, and begin the next interval.
    Mark,
    /// Go on with the next stage.
    Next,
    /// End, and say the report. Also what the end of stdin means.
    Stop,
}

impl Word {
    fn parse(line: &str) -> Option<Word> {
        match line.trim() {
            "mark" => Some(Word::Mark),
            "next" => Some(Word::Next),
            "stop" => Some(Word::Stop),
            _ => None,
        }
    }
}

/// The words that arrive on stdin, read by a thread of its own; the last one is `Stop`.
#[must_use]
pub fn words() -> Receiver<Word> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            match Word::parse(&line) {
                Some(word) => {
                    if send.send(word).is_err() {
                        return;
                    }
                }
                None => eprintln!("{line:?} is not a word; allowed are mark, next, stop"),
            }
        }
        let _ = send.send(Word::Stop); // nobody listens any more: then it has stopped already
    });
    receive
}

/// One object as one line; `event` is put beside its own fields.
#[must_use]
pub fn line(event: &str, body: &impl Serialize) -> String {
    let mut value = serde_json::to_value(body).unwrap_or_else(|e| json!({"error": e.to_string()}));
    if !value.is_object() {
        value = json!({ "value": value });
    }
    value["event"] = Value::from(event);
    value.to_string()
}

/// Says something to the harness.
pub fn say(event: &str, body: &impl Serialize) {
    let mut out = std::io::stdout().lock();
    // A closed pipe means that the harness is gone; the end of stdin will stop this process.
    let _ = writeln!(out, "{}", line(event, body)).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_object_with_its_event() {
        #[derive(Serialize)]
        struct Body {
            sends: u64,
        }
        let line = line("mark", &Body { sends: 7 });
        assert!(!line.contains('\n'));
        let value: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(value, json!({"event": "mark", "sends": 7}));
        assert_eq!(
            serde_json::from_str::<Value>(&super::line("port", &7400)).expect("JSON"),
            json!({"event": "port", "value": 7400})
        );
    }

    #[test]
    fn only_the_three_words_are_known() {
        assert_eq!(Word::parse("mark\n"), Some(Word::Mark));
        assert_eq!(Word::parse(" next"), Some(Word::Next));
        assert_eq!(Word::parse("stop"), Some(Word::Stop));
        assert_eq!(Word::parse("marks"), None);
    }
}
