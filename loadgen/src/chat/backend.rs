//! The platform's side of a run: it makes the users friends and the groups, over HTTP.

use super::Plan;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(10);
/// Relations of one request.
const RELATIONS_MAX: usize = 500;
/// Members of one request.
const MEMBERS_MAX: usize = 2_000;

/// Makes friends of every pair.
///
/// # Errors
/// In words: what the server did not like.
pub(super) fn befriend(plan: &Plan, pairs: &[(String, String)]) -> Result<(), String> {
    for part in pairs.chunks(RELATIONS_MAX) {
        let relations: Vec<_> = part
            .iter()
            .map(|(user, peer)| serde_json::json!({"user": user, "peer": peer, "friends": true}))
            .collect();
        put(plan, "/v1/relations", &serde_json::json!({ "relations": relations }))?;
    }
    Ok(())
}

/// Makes a group of these users, which the first one owns; how its conversation is called.
///
/// # Errors
/// In words: what the server did not like.
pub(super) fn group(plan: &Plan, users: &[String]) -> Result<String, String> {
    let (owner, key) = (&users[0], format!("load-{:08x}", plan.run));
    let mut id = String::new();
    for part in users.chunks(MEMBERS_MAX) {
        let group = serde_json::json!({
            "key": key, "name": "a tester's group", "owner": owner, "members": part,
        });
        let answer = put(plan, "/v1/groups", &serde_json::json!({ "groups": [group] }))?;
        let answer: serde_json::Value = serde_json::from_str(&answer).map_err(|e| e.to_string())?;
        id = answer["groups"][0]["group"].as_str().unwrap_or_default().to_owned();
    }
    Ok(format!("group:{id}"))
}

/// A request; the body of its answer.
fn put(plan: &Plan, path: &str, body: &serde_json::Value) -> Result<String, String> {
    let url = format!("http://{}{path}", plan.api);
    let answer = exchange(plan, path, &body.to_string()).map_err(|e| format!("{url}: {e}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().unwrap_or_default();
    if !status.contains(" 200") {
        return Err(format!("PUT {url}: {status}: {body}"));
    }
    Ok(body.to_owned())
}

fn exchange(plan: &Plan, path: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&plan.api, WAIT)?;
    stream.set_read_timeout(Some(WAIT))?;
    stream.set_write_timeout(Some(WAIT))?;
    let key = match plan.api_key.as_str() {
        "" => String::new(),
        key => format!("Authorization: Bearer {key}\r\n"),
    };
    let head = format!(
        "PUT {path} HTTP/1.0\r\nHost: {}\r\n{key}Content-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        plan.api,
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
