//! Quality reports as a client brings them and an operator asks for them.

use crate::accounts::{World, access, unhurried};
use crate::client::{Answer, Server};
use prost::Message as _;
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use uproar_control::QualityConfig;
use uproar_proto::v1;

const REPORTS: &str = "/v1/quality/reports";

/// A report of a viewer that has just begun: what began before the server is not counted from its
/// beginning on.
fn report(sid: &str, batch: u32, isp: &str) -> Value {
    json!({"sid": format!("session-{sid}"), "batch": batch, "age_ms": 0,
        "side": "play", "room": "stage", "cdn": "cdn-a", "isp": isp,
        "totals": {"played_ms": 900, "stall_ms": 100, "attempts": 2,
            "start_failures": 1},
        "samples": {"rtt": [20, 40], "bl": [1_000]},
        "starts": [{"dns": 5, "connect": 10, "ttfb": 20, "decode": 5, "msd": 400}]})
}

fn send(server: &Server, reports: &[Value]) -> Answer {
    let body = json!({"reports": reports}).to_string();
    server.raw("POST", REPORTS, "Content-Type: application/json\r\n", &body)
}

fn groups(server: &Server, query: &str) -> Vec<Value> {
    let answer = server.call("GET", &format!("/v1/quality?{query}"), "");
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["groups"].as_array().unwrap().clone()
}

#[test]
fn what_a_guest_reports_is_told_in_groups_at_once() {
    let server = Server::reporting(QualityConfig::default());
    let reports = [report("a", 1, "isp-1"), report("b", 1, "isp-1"), report("c", 1, "isp-2")];
    let answer = send(&server, &reports);
    assert_eq!((answer.status, answer.json()), (200, json!({"taken": 3, "repeated": 0})));
    let again = send(&server, &reports[..1]);
    assert_eq!(again.json(), json!({"taken": 0, "repeated": 1}));
    for step in ["10s", "1m", "1h"] {
        let told = groups(&server, &format!("by=isp&step={step}"));
        let [one, two] = &told[..] else { panic!("{told:?}") };
        assert_eq!(
            (&one["cell"], &two["cell"]),
            (&json!({"isp": "isp-1"}), &json!({"isp": "isp-2"}))
        );
        assert_eq!(one["totals"]["stall_ms"], 200);
        assert_eq!(one["rates"]["stall_ratio"], 0.1);
        assert_eq!(one["rates"]["start_failure_ratio"], 0.5);
        assert!(one["rates"].get("frame_drop_ratio").is_none(), "nobody reported frames");
        let rtt = &one["metrics"]["rtt"];
        assert_eq!((&rtt["count"], &rtt["mean"]), (&json!(4), &json!(30.0)));
        let p95 = rtt["p95"].as_f64().unwrap();
        assert!((p95 - 40.0).abs() <= 0.4, "{p95}");
        assert_eq!(one["metrics"]["msd"]["count"], 2);
        assert!(one["sessions"].as_f64().unwrap() > 0.0);
    }
    let filtered = groups(&server, "by=cdn,time&isp=isp-2&side=play&room=stage");
    assert_eq!(filtered.len(), 1);
    assert!(filtered[0]["time_unix_ms"].as_i64().unwrap() % 60_000 == 0);
    assert_eq!(groups(&server, "side=push"), [] as [Value; 0]);
    let map = server.call("GET", "/v1/quality/heatmap?metric=rtt&percentile=50", "").json();
    assert_eq!((&map["cdns"], &map["isps"]), (&json!(["cdn-a"]), &json!(["isp-1", "isp-2"])));
    let p50 = map["values"][0][1].as_f64().unwrap();
    assert!((p50 - 20.0).abs() <= 0.2, "{p50}");
    let alarms = server.call("GET", "/v1/quality/alarms", "").json();
    assert!(alarms["raised"].is_array() && alarms["cleared"].is_array(), "{alarms}");
    let text = server.raw("GET", "/metrics", "", "").body;
    for line in [
        "uproar_quality_reports_total{result=\"taken\"} 3",
        "uproar_quality_reports_total{result=\"repeated\"} 1",
        "uproar_quality_sessions 3",
        "uproar_quality_stall_ratio{side=\"play\"} 0.1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is missing in:\n{text}");
    }
}

/// Sends bytes that are no text.
fn send_bytes(server: &Server, bytes: &[u8]) -> (u16, Value) {
    let mut stream = server.connect();
    let head = format!(
        "POST {REPORTS} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/x-protobuf\r\nContent-Length: {}\r\n\r\n",
        bytes.len()
    );
    stream.write_all(&[head.as_bytes(), bytes].concat()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
}

#[test]
fn protobuf_says_the_same_as_json() {
    let server = Server::reporting(QualityConfig::default());
    let wire = |sid: &str| v1::QualityReport {
        sid: format!("session-{sid}"),
        batch: 1,
        age_ms: 0,
        side: v1::QualitySide::Play.into(),
        room: "stage".into(),
        cdn: "cdn-a".into(),
        isp: "wire".into(),
        totals: Some(v1::QualityTotals {
            played_ms: 900,
            stall_ms: 100,
            attempts: 2,
            start_failures: 1,
            ..Default::default()
        }),
        samples: Some(v1::QualitySamples {
            rtt: vec![20, 40],
            bl: vec![1_000],
            ..Default::default()
        }),
        starts: vec![v1::QualityStart {
            dns: Some(5),
            connect: Some(10),
            ttfb: Some(20),
            decode: Some(5),
            msd: Some(400),
        }],
        ..Default::default()
    };
    let body = v1::QualityReports { reports: vec![wire("a")] }.encode_to_vec();
    assert_eq!(send_bytes(&server, &body), (200, json!({"taken": 1, "repeated": 0})));
    assert_eq!(send(&server, &[report("b", 1, "json")]).status, 200);
    let told = groups(&server, "by=isp");
    let but_cell = |group: &Value| {
        let mut group = group.clone();
        group["cell"].take();
        group["sessions"].take();
        group
    };
    assert_eq!(but_cell(&told[0]), but_cell(&told[1]));
    let (status, answer) = send_bytes(&server, b"\xff\xff");
    let text = answer["error"]["text"].as_str().unwrap();
    assert!(status == 400 && text.contains("QualityReports"), "{answer}");
    let sideless = v1::QualityReport { side: 0, ..wire("c") };
    let body = v1::QualityReports { reports: vec![wire("d"), sideless] }.encode_to_vec();
    let (status, answer) = send_bytes(&server, &body);
    let text = answer["error"]["text"].as_str().unwrap();
    assert!(status == 400 && text.contains("reports[1]: side is 0"), "{answer}");
}

#[test]
fn a_report_that_breaks_a_rule_refuses_the_request_and_says_which() {
    let server = Server::reporting(QualityConfig {
        reports_per_request_max: 2,
        body_bytes_max: 4_096,
        ..QualityConfig::default()
    });
    let good = report("a", 1, "x");
    let with = |name: &str, value: Value| {
        let mut bad = good.clone();
        bad[name] = value;
        send(&server, &[good.clone(), bad]).error(400, "BAD_REQUEST")
    };
    assert!(with("batch", json!(0)).contains("reports[1]: batch is 0"));
    assert!(with("totals", json!({"played_ms": 99_000})).contains("played_ms"));
    assert!(with("totals", json!({"nonsense": 1})).contains("unknown variant `nonsense`"));
    assert!(with("samples", json!({"rtt": [-1]})).contains("u32"));
    assert!(with("side", json!("middle")).contains("expected `play` or `push`"));
    assert!(with("more", json!(1)).contains("unknown field `more`"));
    let three = send(&server, &[good.clone(), good.clone(), good.clone()]);
    assert!(three.error(400, "BAD_REQUEST").contains("3 entries; allowed are up to 2"));
    let mut large = good.clone();
    large["samples"] = json!({"rtt": vec![1_000; 1_000]});
    let text = send(&server, &[large]).error(413, "TOO_LARGE");
    assert!(text.contains("quality.body_bytes_max"), "{text}");
    assert_eq!(groups(&server, ""), [] as [Value; 0], "nothing of it was counted");
    for (query, what) in [
        ("by=planet", "planet"),
        ("from_unix_ms=5&to_unix_ms=5", "from_unix_ms is 5"),
        ("step=10s&from_unix_ms=0", "windows of 10000 ms"),
        ("step=2m", "2m"),
    ] {
        let answer = server.call("GET", &format!("/v1/quality?{query}"), "");
        assert!(answer.error(400, "BAD_REQUEST").contains(what), "{}", answer.body);
    }
    for query in ["metric=beauty", "percentile=0"] {
        server.call("GET", &format!("/v1/quality/heatmap?{query}"), "").error(400, "BAD_REQUEST");
    }
}

#[test]
fn without_guests_a_token_is_needed_and_reports_outlive_a_restart_in_the_store() {
    let mut world = World::with(unhurried());
    let token = access(&world.enter("ann")).to_owned();
    let body = json!({"reports": [report("a", 1, "isp-1")]}).to_string();
    assert_eq!(world.with_token(&token, "POST", REPORTS, &body).json()["taken"], 1);
    // What is asked is put together from memory now, from the store later.
    let query = "by=isp&step=1h";
    let before = groups(&world.server, query);
    world.server.end();
    let again = Server::storing(&world.url);
    let after = groups(&again, query);
    assert_eq!(after[0]["totals"], before[0]["totals"]);
    assert_eq!(after[0]["metrics"], before[0]["metrics"]);
    let closed = Server::reporting(QualityConfig { guests: false, ..QualityConfig::default() });
    let text = send(&closed, &[]).error(401, "TOKEN_REQUIRED");
    assert!(text.contains("quality.guests"), "{text}");
}

#[test]
fn what_a_report_does_not_say_is_filled_in_by_its_address() {
    let name = format!("uproar-networks-{}", std::process::id());
    let networks_file = std::env::temp_dir().join(name);
    std::fs::write(&networks_file, "127.0.0.0/8,here,provider-a\n").unwrap();
    let config = QualityConfig { networks_file: networks_file.clone(), ..QualityConfig::default() };
    config.check().unwrap();
    let server = Server::reporting(config.clone());
    assert_eq!(send(&server, &[report("a", 1, ""), report("b", 1, "isp-1")]).status, 200);
    std::fs::remove_file(&networks_file).unwrap();
    let told = groups(&server, "by=region,isp");
    let cells: Vec<&Value> = told.iter().map(|group| &group["cell"]).collect();
    let cell = |isp: &str| json!({"region": "here", "isp": isp});
    assert_eq!(cells, [&cell("isp-1"), &cell("provider-a")]);
    let error = config.check().unwrap_err();
    assert!(error.starts_with("networks_file: ") && error.contains("uproar-networks"), "{error}");
}

#[test]
fn invented_names_leave_every_question_an_answer() {
    // As they would come from many addresses.
    let server = Server::reporting(QualityConfig {
        keys_max: 10_000,
        keys_per_address_max: 10_000,
        ..QualityConfig::default()
    });
    for request in 0..30 {
        let made_up = (0..100).map(|n| {
            let mut one = report(&format!("{request}-{n}"), 1, &format!("isp-{request}-{n}"));
            one["cdn"] = json!(format!("cdn-{request}-{n}"));
            one
        });
        assert_eq!(send(&server, &made_up.collect::<Vec<_>>()).status, 200);
    }
    assert_eq!(send(&server, &[report("a", 1, "isp"), report("b", 1, "isp")]).status, 200);
    for by in ["cdn", "cdn,isp", "isp,room,time"] {
        let answer = server.call("GET", &format!("/v1/quality?by={by}"), "").json();
        let groups = answer["groups"].as_array().unwrap();
        assert!((2_001..=2_002).contains(&groups.len()), "{}", groups.len());
        assert!(answer["in_other"].as_u64().unwrap() >= 1_001, "{}", answer["in_other"]);
        let stalls = groups.iter().map(|group| group["totals"]["stall_ms"].as_u64().unwrap());
        assert_eq!(stalls.sum::<u64>(), 300_200, "{by}");
        let own = groups.iter().filter(|group| group["totals"]["stall_ms"] == 200);
        assert_eq!(own.count(), 1, "{by}: who has the most sessions is told");
    }
    let map = server.call("GET", "/v1/quality/heatmap", "").json();
    let names = |of: &str| map[of].as_array().unwrap().clone();
    assert_eq!((names("cdns").len(), names("isps").len()), (100, 100), "`other` is one of them");
    assert!(names("cdns").contains(&json!("cdn-a")) && names("isps").contains(&json!("isp")));
}

#[test]
fn a_page_of_another_site_may_report_and_sees_what_became_of_it() {
    let server = Server::reporting(QualityConfig::default());
    let origin = "Origin: https://player.example\r\n";
    let asks = "Access-Control-Request-Method: POST\r\n\
                Access-Control-Request-Headers: authorization,content-type\r\n";
    let answer = server.raw("OPTIONS", REPORTS, &format!("{origin}{asks}"), "");
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    for (name, value) in [
        ("access-control-allow-origin", "*"),
        ("access-control-allow-methods", "POST"),
        ("access-control-allow-headers", "authorization, content-type"),
        ("access-control-max-age", "86400"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{}", answer.head);
    }
    let json = format!("{origin}Content-Type: application/json\r\n");
    for (body, status) in [("{\"reports\": []}", 200), ("[", 400)] {
        let answer = server.raw("POST", REPORTS, &json, body);
        assert_eq!(answer.status, status, "{}", answer.body);
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        assert_eq!(answer.header("access-control-allow-credentials"), None);
    }
    let other = server.raw("OPTIONS", "/v1/quality", origin, "");
    assert_eq!(other.status, 405, "what operators ask is for pages of this site");
    assert_eq!(other.header("access-control-allow-origin"), None);
}
