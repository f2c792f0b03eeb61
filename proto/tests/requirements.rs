//! `PROTOCOL.md` against the code: the table of errors, the frames it shows, its numbered rules,
//! its limits.

mod common;

use common::BYTES_MAX;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use uproar_proto::error::Code;
use uproar_proto::wire::{Variant, decode_client, decode_server, encode_client, encode_server};

const DOCUMENT: &str = include_str!("../PROTOCOL.md");

#[test]
fn the_table_of_codes_is_the_one_in_the_document() {
    // W-31
    let mut table = String::from("| code | name | ws | retry | text |\n|---|---|---|---|---|\n");
    for code in Code::ALL {
        let (number, name, ws) = (code.number(), code.name(), code.websocket_close());
        let retry = if code.retry() { "yes" } else { "no" };
        table.push_str(&format!("| {number} | `{name}` | {ws} | {retry} | {} |\n", code.text()));
    }
    let begin = "<!-- codes: begin -->\n";
    let at = DOCUMENT.find(begin).expect("the table's beginning is marked") + begin.len();
    let end = DOCUMENT.find("<!-- codes: end -->").expect("and its end");
    assert!(DOCUMENT[at..end] == table, "put this between the marks of PROTOCOL.md:\n\n{table}");
}

#[test]
fn a_code_keeps_its_number_and_its_range_tells_whether_to_retry() {
    // W-31: these are out in the world.
    for (number, name) in [
        (1001, "SLOW_DOWN"),
        (1003, "ROOM_BUSY"),
        (2003, "TOKEN_EXPIRED"),
        (2012, "ROOM_CLOSED"),
        (3001, "BAD_FRAME"),
        (3002, "FRAME_TOO_LARGE"),
        (3003, "BAD_HANDSHAKE"),
        (3004, "BAD_UTF8"),
        (3010, "PROTOCOL_ORDER"),
        (3011, "BAD_COMPRESSION"),
        (4001, "HANDSHAKE_TIMEOUT"),
        (4002, "IDLE_TIMEOUT"),
        (4003, "DRAINING"),
        (4007, "INTERNAL"),
    ] {
        assert_eq!(Code::from_number(number).map(Code::name), Some(name));
    }
    for code in Code::ALL {
        assert_eq!(code.retry(), matches!(code.number() / 1000, 1 | 4), "{code:?}");
    }
}

/// The fenced blocks of the document: (language, content).
fn blocks() -> Vec<(&'static str, &'static str)> {
    let parts: Vec<&str> = DOCUMENT.split("```").collect();
    assert!(parts.len() % 2 == 1, "every fence is closed");
    parts.iter().skip(1).step_by(2).map(|b| b.split_once('\n').unwrap()).collect()
}

#[test]
fn the_frames_the_document_shows_are_what_this_codec_writes() {
    let blocks = blocks();
    let mut kinds = BTreeSet::new();
    for pair in blocks.windows(2) {
        let [("json", json), ("hex", hex)] = pair else { continue };
        let json = json.trim_end();
        let hex: Vec<u8> =
            hex.split_whitespace().map(|b| u8::from_str_radix(b, 16).unwrap()).collect();
        kinds.insert(json.split('"').nth(1).unwrap());
        let (mut as_json, mut as_proto) = (Vec::new(), Vec::new());
        let client = decode_client(Variant::WsJson, json.as_bytes(), false, BYTES_MAX);
        if let Ok(Some(body)) = client {
            encode_client(&body, Variant::WsJson, [0; 4], &mut as_json);
            encode_client(&body, Variant::WsProto, [0; 4], &mut as_proto);
        } else {
            let server = decode_server(Variant::WsJson, json.as_bytes(), false, BYTES_MAX);
            let body = server.unwrap().unwrap_or_else(|| panic!("unknown: {json}"));
            encode_server(&body, Variant::WsJson, &mut as_json);
            encode_server(&body, Variant::WsProto, &mut as_proto);
        }
        // The payload ends the message; a mask of zeros leaves it as it is.
        assert!(as_json.ends_with(json.as_bytes()), "{}", String::from_utf8_lossy(&as_json));
        assert!(as_proto.ends_with(&hex), "{json} is {as_proto:02x?}");
        assert!(as_proto.len() <= hex.len() + 8, "{json}: the bytes shown are not all of it");
    }
    assert_eq!(kinds.len(), 47, "every kind is shown: {kinds:?}");
    assert_eq!(blocks.iter().filter(|b| b.0 == "hex").count(), 51);
}

#[test]
fn the_examples_of_an_opening_are_openings() {
    use uproar_proto::wire::opening::{Opening, open};
    use uproar_proto::wire::proxy::{Proxied, parse};
    let plain: Vec<Vec<u8>> = blocks()
        .into_iter()
        .filter(|(language, _)| language.is_empty())
        .filter_map(|(_, text)| {
            text.split_whitespace().map(|b| u8::from_str_radix(b, 16).ok()).collect()
        })
        .collect();
    let [tcp, proxied] = &plain[..] else { panic!("{plain:02x?}") };
    assert_eq!(open(tcp), Opening::Tcp { consumed: 4 });
    assert_eq!(common::received(Variant::Tcp, 100, &[&tcp[4..]]).map(|f| f.len()), Ok(2));
    let source = Some("192.0.2.7".parse().unwrap());
    assert_eq!(parse(proxied), Proxied::Header { consumed: 28, source });
    assert_eq!(open(&proxied[28..]), Opening::Tcp { consumed: 4 });
    let http = blocks().into_iter().find(|b| b.0 == "http").unwrap().1.replace('\n', "\r\n");
    let (request, reply) = http.split_once("\r\n\r\n").unwrap();
    let Opening::WebSocket { upgrade, .. } = open(format!("{request}\r\n\r\n").as_bytes()) else {
        panic!("{request}");
    };
    assert_eq!(String::from_utf8(upgrade.reply).unwrap(), format!("{reply}\r\n"));
}

/// The numbers that follow a prefix in a text.
fn ids(text: &str, prefix: &str) -> BTreeSet<u32> {
    let after = text.split(prefix).skip(1);
    let digits = |rest: &str| rest.chars().take_while(char::is_ascii_digit).collect::<String>();
    after.filter_map(|rest| digits(rest).parse().ok()).collect()
}

/// The ids the document defines: those in bold.
fn defined(prefix: &str) -> BTreeSet<u32> {
    ids(DOCUMENT, &format!("**{prefix}"))
}

/// The Rust files under a folder, each cut into its code and its unit tests, which come last.
fn sources(folder: &Path) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let (code, tests) = text.split_once("#[cfg(test)]").unwrap_or((&text, ""));
            files.push((code.to_owned(), tests.to_owned()));
        }
    }
    files
}

#[test]
fn every_rule_about_bytes_is_carried_out_somewhere_and_tested_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rules = defined("W-");
    assert_eq!(rules, (1..=32).collect(), "numbers are given once, without holes");
    let (code, unit): (Vec<_>, Vec<_>) = sources(&root.join("src")).into_iter().unzip();
    let (tests, _): (Vec<_>, Vec<_>) = sources(&root.join("tests")).into_iter().unzip();
    let in_code = ids(&code.concat(), "W-");
    let in_tests = ids(&[unit, tests].concat().concat(), "W-");
    let missing = |found: &BTreeSet<u32>| rules.difference(found).copied().collect::<Vec<_>>();
    assert_eq!(missing(&in_code), Vec::<u32>::new(), "rules no code names");
    assert_eq!(missing(&in_tests), Vec::<u32>::new(), "rules no test names");
    let named: BTreeSet<u32> = in_code.union(&in_tests).copied().collect();
    let unknown: Vec<u32> = named.difference(&rules).copied().collect();
    assert_eq!(unknown, Vec::<u32>::new(), "named in code or tests, not in the document");
}

#[test]
fn every_rule_about_sessions_has_one_number_and_every_number_named_has_a_rule() {
    let rules = defined("S-");
    assert_eq!(rules, (1..=72).collect(), "numbers are given once, without holes");
    for (rule, _) in DOCUMENT.match_indices("(S-") {
        let named = ids(&DOCUMENT[rule..rule + 8], "(S-");
        assert!(named.is_subset(&rules), "{named:?}");
    }
}
