//! The platform's side of a run: it makes the users friends, over HTTP.

use super::Plan;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(10);
/// Relations of one request.
const RELATIONS_MAX: usize = 500;

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
        let body = serde_json::json!({ "relations": relations }).to_string();
        let answer = put(plan, "/v1/relations", &body)
            .map_err(|e| format!("http://{}/v1/relations: {e}", plan.api))?;
        let status = answer.lines().next().unwrap_or_default().to_owned();
        if !status.contains(" 200") {
            let text = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            return Err(format!("PUT http://{}/v1/relations: {status}: {text}", plan.api));
        }
    }
    Ok(())
}

fn put(plan: &Plan, path: &str, body: &str) -> std::io::Result<String> {
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
