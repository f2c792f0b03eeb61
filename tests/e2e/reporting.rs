//! Reports of the quality of streams over the connection that is open anyway: counted as those over
//! HTTP are, by the address of the client, and told of.

use crate::client::Client;
use crate::limits::proxied as proxied_by;
use crate::server::Server;
use crate::tokens::{config, plain};
use crate::{Io, On, Wire};
use prost::Message as _;
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::time::Instant;
use uproar_proto::v1::{self, client_frame, server_frame::Body};

/// One session's report: `n` stalls so far.
fn session(sid: &str, batch: u32, n: u64) -> v1::QualityReport {
    let totals = v1::QualityTotals { stalls: n, stall_ms: 100 * n, ..Default::default() };
    v1::QualityReport {
        sid: format!("session-{sid}"),
        batch,
        age_ms: 1,
        side: v1::QualitySide::Play.into(),
        room: "stage".into(),
        totals: Some(totals),
        ..Default::default()
    }
}

fn reports(reports: Vec<v1::QualityReport>) -> bytes::Bytes {
    v1::QualityReports { reports }.encode_to_vec().into()
}

impl Client {
    /// Reports, and hears what became of it.
    fn reports(&mut self, id: u32, reports: bytes::Bytes) -> v1::Reported {
        self.send(client_frame::Body::Report(v1::Report { id, reports }));
        self.take("what became of a report", |body| match body {
            Body::Reported(reported) if reported.id == id => Some(reported.clone()),
            _ => None,
        })
    }
}

/// Stalls that were counted, by region.
fn stalls(server: &Server) -> Vec<(String, u64)> {
    let answer = server.get("/v1/quality?step=10s&by=region").json();
    let stalls = |group: &Value| {
        let region = group["cell"]["region"].as_str().unwrap().to_owned();
        (region, group["totals"]["stalls"].as_u64().unwrap())
    };
    answer["groups"].as_array().unwrap().iter().map(stalls).collect()
}

pub(crate) fn a_report_counts_once_whatever_door_it_comes_by(on: On) {
    let name = format!("uproar-networks-{}-{on:?}", std::process::id());
    let table = std::env::temp_dir().join(name.replace(' ', ""));
    std::fs::write(&table, "192.0.2.0/24,Far,Isp\n127.0.0.0/8,Near,Isp\n").unwrap();
    let proxied = "[engine]\nproxy_from = [\"127.0.0.1\"]\n";
    let quality = format!("guests = true\n[quality]\nnetworks_file = {table:?}\n");
    let server = on.server(&format!("{proxied}{}{quality}", config()));
    let far = Ipv4Addr::new(192, 0, 2, 9);
    let mut guest = Client::over(proxied_by(&server, far), on.wire, usize::MAX);
    assert!(guest.hello("").guest);
    let mut user = Client::over(proxied_by(&server, far), on.wire, usize::MAX);
    user.hello(&plain("ann"));
    let reported = guest.reports(7, reports(vec![session("a", 1, 2), session("b", 1, 3)]));
    let expected = v1::Reported { id: 7, taken: 2, next_ms: 10_000, ..Default::default() };
    assert_eq!(reported, expected);
    let again = user.reports(8, reports(vec![session("a", 1, 2), session("a", 2, 4)]));
    assert_eq!((again.taken, again.repeated, again.code), (1, 1, 0));
    // The other door: the same session goes on there, and its region is known already.
    let told = |sid: &str, batch: u32, stalls: u64| {
        json!({"sid": format!("session-{sid}"), "batch": batch, "age_ms": 1, "side": "play",
            "room": "stage", "totals": {"stalls": stalls}})
    };
    let body = json!({"reports": [told("a", 2, 4), told("a", 3, 5), told("near", 1, 1)]});
    let answer = server.request_as("", "POST", "/v1/quality/reports", &body);
    assert_eq!(answer.json(), json!({"taken": 2, "repeated": 1}));
    let mut stalls = stalls(&server);
    stalls.sort();
    assert_eq!(stalls, [("Far".to_owned(), 7), ("Near".to_owned(), 2)]);
    std::fs::remove_file(table).unwrap();
}

pub(crate) fn a_report_that_is_not_taken_is_told_why_and_closes_nothing(on: On) {
    let quality = "guests = true\n[quality]\nguests = false\nrequests_per_s_max = 1\n";
    let server = on.server(&format!("{}{quality}", config()));
    let mut guest = Client::guest(&server, on.wire);
    let refused = guest.reports(1, reports(vec![session("a", 1, 1)]));
    assert_eq!((refused.code, refused.next_ms), (2005, 10_000), "TOKEN_REQUIRED");
    let mut user = Client::user(&server, on.wire, &plain("ann"));
    let begun = Instant::now();
    let no_side = v1::QualityReport { side: 0, ..session("a", 1, 1) };
    for (id, body, code, text) in [
        (2, reports(vec![session("a", 1, 1), no_side]), 2015, "reports[1]: side is 0"),
        (3, bytes::Bytes::from_static(b"no protobuf"), 2015, "the body is not QualityReports"),
        (4, reports(vec![session("a", 0, 1)]), 2015, "reports[0]: batch is 0"),
        (5, reports(vec![session("a", 1, 1); 101]), 2015, "reports has 101 entries"),
    ] {
        let refused = user.reports(id, body);
        assert_eq!(refused.code, code, "{refused:?}");
        assert!(refused.text.contains(text), "{}", refused.text);
    }
    // Ten at once, then one a second.
    // Four were taken, and with these there are fourteen.
    let mut refused = Vec::new();
    for id in 10..20 {
        let reported = user.reports(id, reports(vec![session("b", id, 1)]));
        refused.extend((reported.code == 1001).then_some(reported.next_ms)); // SLOW_DOWN
    }
    let refilled = begun.elapsed().as_secs() as usize + 1;
    assert!(refused.len() <= 4 && refused.len() + refilled >= 4, "{refused:?}");
    assert!(refused.iter().all(|wait_ms| (1..=1_000).contains(wait_ms)), "{refused:?}");
    user.ping();
    guest.ping();
}

/// Processor time that a process has had, in milliseconds.
fn cpu_ms(pid: u32) -> u64 {
    let ran = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path().join("schedstat");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0)
    };
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads.map(ran).sum::<u64>() / 1_000_000
}

pub(crate) fn every_report_of_many_connections_is_counted_and_their_pace_is_told() {
    const CLIENTS: usize = 50;
    const AT_ONCE: usize = 40;
    const ROUNDS: u32 = 10;
    let engine = "[engine]\nframes_per_s_max = 30000\n";
    let quality = "[quality]\nrequests_per_s_max = 1000\n";
    let config = format!("{engine}{}{quality}", config());
    let server = Server::start_one_shard(Io::Epoll, &config);
    let mut clients: Vec<Client> =
        (0..CLIENTS).map(|n| Client::user(&server, Wire::Tcp, &plain(&format!("u{n}")))).collect();
    let values = |n: usize| (0..10).map(|i| (n as u32 * 7 + i * 13) % 500).collect::<Vec<u32>>();
    let (begun, began_ms) = (Instant::now(), cpu_ms(server.pid()));
    for round in 1..=ROUNDS {
        for (place, client) in clients.iter_mut().enumerate() {
            for n in 0..AT_ONCE {
                let samples = v1::QualitySamples {
                    ltc: values(n),
                    bl: values(place),
                    rtt: values(n + place),
                    ..Default::default()
                };
                let sid = format!("{place:04}-{n:04}");
                let report = v1::QualityReport {
                    samples: Some(samples),
                    ..session(&sid, round, u64::from(round))
                };
                let reports = reports(vec![report]);
                client.send(client_frame::Body::Report(v1::Report { id: n as u32, reports }));
            }
        }
        for client in &mut clients {
            for _ in 0..AT_ONCE {
                let code = client.take("what became of a report", |body| match body {
                    Body::Reported(reported) => Some((reported.code, reported.taken)),
                    _ => None,
                });
                assert_eq!(code, (0, 1));
            }
        }
    }
    let many = CLIENTS * AT_ONCE * ROUNDS as usize;
    let (took, cpu_ms) = (begun.elapsed(), cpu_ms(server.pid()) - began_ms);
    assert_eq!(server.metric("uproar_quality_reports_total", "taken"), many as f64);
    assert_eq!(stalls(&server), [(String::new(), (CLIENTS * AT_ONCE) as u64 * u64::from(ROUNDS))]);
    println!(
        "{many} reports over {CLIENTS} connections: {:.0} a second of the server's processor time, \
         {:.0} a second as the clock has it",
        many as f64 * 1e3 / cpu_ms.max(1) as f64,
        many as f64 / took.as_secs_f64()
    );
}
