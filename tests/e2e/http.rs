//! The backend's side: one request, one answer, over a connection of its own.

use crate::DEADLINE;
use crate::server::Server;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

/// Status and body.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}

impl Server {
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &Value::Null)
    }

    /// A request with a JSON body that must succeed; its JSON answer.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Value {
        let answer = self.request("POST", path, body);
        assert!((200..300).contains(&answer.status), "{path}: {} {}", answer.status, answer.body);
        if answer.body.is_empty() { Value::Null } else { answer.json() }
    }

    pub(crate) fn request(&self, method: &str, path: &str, body: &Value) -> Answer {
        let key = self.api_key.as_deref();
        let authorization = key.map(|key| format!("Authorization: Bearer {key}\r\n"));
        self.request_as(authorization.as_deref().unwrap_or_default(), method, path, body)
    }

    /// A request with header lines of one's own.
    pub(crate) fn request_as(
        &self,
        headers: &str,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Answer {
        let mut stream = TcpStream::connect(self.http).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").expect("a whole answer");
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
        Answer { status, body: body.to_owned() }
    }

    /// The sum of a metric over all its labels that contain `label`.
    pub(crate) fn metric(&self, name: &str, label: &str) -> f64 {
        let answer = self.get("/metrics");
        assert_eq!(answer.status, 200, "{}", answer.body);
        let of_name = |line: &&str| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']) && rest.contains(label))
        };
        let value = |line: &str| line.rsplit(' ').next().and_then(|v| v.parse::<f64>().ok());
        answer.body.lines().filter(of_name).filter_map(value).sum()
    }

    /// Asks again until an answer holds: figures are summed a moment after what they count.
    pub(crate) fn eventually(&self, what: &str, mut holds: impl FnMut(&Server) -> bool) {
        let end = Instant::now() + DEADLINE;
        while !holds(self) {
            assert!(Instant::now() < end, "never: {what}");
            std::thread::sleep(std::time::Duration::from_millis(20)); // between two questions
        }
    }

    /// Publishes as a backend: a verdict.
    pub(crate) fn publish(&self, room: &str, body: &Value) -> Value {
        self.post(&format!("/v1/rooms/{room}/publish"), body)
    }

    /// Publishes a text of class `system`, which no rate sheds; its seq.
    pub(crate) fn says(&self, room: &str, text: &str) -> u64 {
        let body = serde_json::json!({"user": "host", "class": "system", "text": text});
        let verdict = self.publish(room, &body);
        assert_eq!(verdict["outcome"], "ACCEPTED", "{verdict}");
        verdict["seq"].as_u64().unwrap()
    }
}
