//! Requests generated from the description of the interface: thousands that no hand would write.
//! None may make the server fail, every refusal has the one shape, and every answer is one that the
//! description names.

use crate::accounts::{World, access, unhurried};
use crate::client::{Answer, KEY};
use crate::contract::{self, Operation};
use serde_json::{Map, Value, json};

/// Requests for each route.
const REQUESTS: usize = 60;

/// A small generator: the same requests at every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % bound
    }

    fn pick<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())].clone()
    }

    fn text(&mut self) -> String {
        let odd = [
            "",
            " ",
            "a",
            "ann",
            "bob",
            "stage",
            "0",
            "-1",
            "1e99",
            "null",
            "00000000deadbeef",
            "'; DROP TABLE users; --",
            "%",
            "_",
            "\\",
            "\u{0}",
            "\u{202e}\u{1f680}",
            "\u{fdfa}",
            "../../etc/passwd",
            "..",
            "%2e%2e%2f",
            "ann@erased",
            "ann@acme",
            "erased",
            "\u{feff}ann",
            "\u{0}ann",
            "A\u{30a}\u{301}\u{1f469}\u{200d}\u{1f469}",
            "\u{10ffff}",
            "1-1",
            "9223372036854775806-9223372036854775806",
            "\" OR 1=1 /*",
            "{}",
            "<b>",
            "9223372036854775808",
            "a\r\nb: c",
        ];
        match self.below(12) {
            0 => "x".repeat(1 + self.below(5000)),
            1 => self.below(1 << 31).to_string(),
            _ => self.pick(&odd).to_owned(),
        }
    }

    /// A value that fits a schema, or now and then does not.
    fn value(&mut self, schema: &Value, document: &Value, depth: usize) -> Value {
        if self.below(12) == 0 || depth > 6 {
            let wrong = [json!(null), json!(true), json!(-1), json!(1.5), json!([]), json!({})];
            return self.pick(&wrong);
        }
        if let Some(name) = schema["$ref"].as_str().and_then(|r| r.rsplit('/').next()) {
            return self.value(&document["components"]["schemas"][name], document, depth + 1);
        }
        for several in ["oneOf", "anyOf", "allOf"] {
            if let Some(list) = schema[several].as_array() {
                let one = self.pick(list);
                return self.value(&one, document, depth + 1);
            }
        }
        if let Some(words) = schema["enum"].as_array() {
            return self.pick(words);
        }
        let kinds: Vec<&str> = match &schema["type"] {
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            kind => kind.as_str().into_iter().collect(),
        };
        match kinds.first().copied().unwrap_or("string") {
            "object" => {
                let mut object = Map::new();
                for (name, of) in schema["properties"].as_object().into_iter().flatten() {
                    if self.below(8) > 0 {
                        object.insert(name.clone(), self.value(of, document, depth + 1));
                    }
                }
                if self.below(20) == 0 {
                    object.insert(self.text(), json!(1));
                }
                Value::Object(object)
            }
            "array" => {
                let many = self.below(4);
                (0..many).map(|_| self.value(&schema["items"], document, depth + 1)).collect()
            }
            "integer" | "number" => {
                let odd: [i64; 7] = [0, 1, 5, 60, -1, i64::MAX, i64::MIN];
                json!(self.pick(&odd))
            }
            "boolean" => json!(self.below(2) == 0),
            "null" => Value::Null,
            _ => json!(self.text()),
        }
    }
}

fn escaped(text: &str) -> String {
    let byte = |b: u8| match b {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => (b as char).to_string(),
        b => format!("%{b:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// The path and the query of a route, filled in.
fn filled(dice: &mut Dice, path: &str, about: &Value, document: &Value) -> String {
    let (mut path, mut query) = (path.to_owned(), Vec::new());
    for parameter in about["parameters"].as_array().into_iter().flatten() {
        let name = parameter["name"].as_str().unwrap();
        let value = match dice.value(&parameter["schema"], document, 0) {
            Value::String(text) => text,
            other => other.to_string(),
        };
        // An empty part of a path is another path.
        let value = if value.is_empty() { "x".to_owned() } else { value };
        if parameter["in"] == "path" {
            path = path.replace(&format!("{{{name}}}"), &escaped(&value));
        } else if dice.below(2) == 0 {
            query.push(format!("{name}={}", escaped(&value)));
        }
    }
    if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) }
}

/// A body that fits a schema or nearly does, and now and then one that no schema knows.
fn body(dice: &mut Dice, schema: &Value) -> String {
    let text = dice.value(schema, contract::document(), 0).to_string();
    match dice.below(24) {
        // The same key twice.
        0 => text.replacen('{', "{\"user\":\"x\",\"user\":\"y\",", 1),
        // Deeper than any reader follows.
        1 => format!("{{\"users\":{}{}}}", "[".repeat(5_000), "]".repeat(5_000)),
        2 => format!("{text} {text}"),
        3 => text.chars().take(text.len() / 2).collect(),
        4 => text.replace("null", "1e400"),
        5 => text.replace('"', "\\ud800"),
        _ => text,
    }
}

/// Who calls, and how a body is declared: mostly as it should be.
fn headers(dice: &mut Dice, operation: &Operation, token: &str) -> String {
    let key = if operation.needs("api_key") { KEY } else { token };
    let bearer = match dice.below(30) {
        0 => String::new(),
        1 => "Authorization: Bearer \u{e9}\r\n".to_owned(),
        2 => format!("Authorization: Bearer {token}{KEY}\r\n"),
        _ => format!("Authorization: Bearer {key}\r\n"),
    };
    let kind = match dice.below(20) {
        0 => "text/plain",
        1 => "application/json; charset=utf-16",
        2 => "multipart/form-data; boundary=x",
        3 => "",
        _ => "application/json",
    };
    let more = match dice.below(12) {
        0 => "Idempotency-Key: k\r\n",
        1 => "Idempotency-Key: k\r\nIdempotency-Key: l\r\n",
        2 => "Idempotency-Key: \r\n",
        3 => "X-Forwarded-For: ::1, '; --\r\n",
        _ => "",
    };
    format!("{bearer}Content-Type: {kind}\r\n{more}")
}

fn check(answer: &Answer, what: &str) {
    assert_ne!(answer.status, 500, "{what}: {}", answer.body);
    if answer.status >= 400 && !what.contains("/readyz") {
        let error = &answer.json()["error"];
        assert!(error["name"].is_string() && error["code"].is_u64(), "{what}: {}", answer.body);
    }
}

#[test]
fn no_request_that_the_description_allows_or_nearly_allows_makes_the_server_fail() {
    World::each(&unhurried(), |world| {
        let document = contract::document();
        let mut dice = Dice(7);
        for (number, operation) in contract::operations().iter().enumerate() {
            // Each has callers of its own: some log out, some are erased.
            let name = format!("caller{number}");
            let token = access(&world.enter(&name)).to_owned();
            for peer in ["ann", "bob"] {
                let friends = json!({"user": name, "peer": peer, "friends": true});
                let body = json!({"relations": [friends]}).to_string();
                let made = world.server.call("PUT", "/v1/relations", &body);
                assert!([200, 409].contains(&made.status), "{}", made.body);
            }
            let method = operation.method.to_uppercase();
            let schema = &operation.about["requestBody"]["content"]["application/json"]["schema"];
            for _ in 0..REQUESTS {
                let path = filled(&mut dice, operation.template, operation.about, document);
                let body = match schema {
                    Value::Null => String::new(),
                    schema => body(&mut dice, schema),
                };
                let headers = headers(&mut dice, operation, &token);
                let answer = world.server.raw(&method, &path, &headers, &body);
                let shown: String = body.chars().take(500).collect();
                check(&answer, &format!("{method} {path} {headers} {shown}"));
            }
        }
    });
}
