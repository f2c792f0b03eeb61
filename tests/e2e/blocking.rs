//! Who may not come in: a banned user's devices and addresses in a room, and the devices and
//! networks that the platform keeps out. Each 127.0.0.x is an address of its own.

use crate::client::{Client, Ended, dial};
use crate::server::Server;
use crate::tokens::{claims, config, hs256, plain};
use crate::{DEADLINE, Io, On, Wire};
use serde_json::{Value, json};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::net::TcpSocket;
use uproar_proto::v1::{self, client_frame, server_frame::Body};

const BLOCKS: &str = "/v1/admin/blocks";

/// A socket that comes from 127.0.0.`last`.
fn from(server: &Server, last: u8) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, last], 0))).unwrap();
        let stream = tokio::time::timeout(DEADLINE, socket.connect(server.clients)).await;
        let stream = stream.unwrap().unwrap().into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        stream
    })
}

/// Whoever connects from 127.0.0.`last` by this device; what comes of it is not looked at yet.
fn connect(server: &Server, wire: Wire, (last, device): (u8, &str), token: &str) -> Client {
    let mut client = Client::over(from(server, last), wire, usize::MAX);
    says_hello(&mut client, device, token);
    client
}

fn says_hello(client: &mut Client, device: &str, token: &str) {
    let (token, device) = (token.to_owned(), device.to_owned());
    let connect = v1::Connect { token, device, ..v1::Connect::default() };
    client.send(client_frame::Body::Connect(connect));
}

fn welcomed(server: &Server, wire: Wire, origin: (u8, &str), token: &str) -> Client {
    let mut client = connect(server, wire, origin, token);
    client.take("welcome", |body| matches!(body, Body::Welcome(_)).then_some(()));
    client
}

/// The server ends it, with this last word.
fn is_ended(mut client: Client, wire: Wire, code: &str) {
    let close = (wire != Wire::Tcp).then_some(1008);
    assert_eq!(client.ended(), Ended { error: Some(code.to_owned()), close });
}

fn block(server: &Server, kind: &str, value: &str, until_s: u64) {
    let block = json!({"kind": kind, "value": value, "until_s": until_s});
    let answer = server.request("PUT", BLOCKS, &json!({"blocks": [block]}));
    assert_eq!(answer.status, 200, "{}", answer.body);
}

fn unblock(server: &Server, kind: &str, value: &str) {
    let path = format!("{BLOCKS}?kind={kind}&value={value}");
    assert_eq!(server.request("DELETE", &path, &Value::Null).status, 204);
}

/// Every shard of this server has the list of this version.
fn has_blocks(server: &Server, version: f64) {
    server.eventually("every shard has the list", |server| {
        server.metric("uproar_blocks_version", "") == 2.0 * version
    });
}

pub(crate) fn a_ban_takes_devices_and_addresses_along_until_it_is_ended(on: On) {
    let server = Server::start(on.io, &format!("{}guests = true\n", config()));
    let mallory = plain("mallory");
    let moderator = hs256(&claims("mod", json!({"moderate": true})));
    let mut all = [
        welcomed(&server, on.wire, (11, "phone"), &mallory),
        welcomed(&server, on.wire, (12, ""), &mallory),
        welcomed(&server, on.wire, (13, "phone"), ""),
        welcomed(&server, on.wire, (12, "other"), ""),
        welcomed(&server, on.wire, (11, "phone"), &moderator),
        welcomed(&server, on.wire, (14, "mine"), ""),
    ];
    all.iter_mut().for_each(|client| drop(client.join("stage")));
    let kick = json!({"user": "mallory", "ban_s": 600, "devices": true, "addresses": true});
    let kicked = server.post("/v1/rooms/stage/kick", &kick);
    assert_eq!(kicked, json!({"connections": 2, "devices": 1, "addresses": 2}));
    // The user, who shares its device, and who shares an address; not who moderates.
    for client in &mut all[..4] {
        let left = client.left();
        assert_eq!((left.room.as_str(), left.code), ("stage", 3006), "BANNED");
    }
    for client in &mut all[4..] {
        client.ping();
        assert!(!client.has_unread(|body| matches!(body, Body::Left(_))));
    }
    let again = [((11, "x"), ""), ((15, "phone"), ""), ((16, "new"), &*mallory), ((12, "y"), "")];
    for (origin, token) in again {
        let mut client = welcomed(&server, on.wire, origin, token);
        client.ask_to_join("stage", None);
        assert_eq!(client.room_error("stage"), "BANNED", "{origin:?}"); // S-62
        client.join("other");
    }
    welcomed(&server, on.wire, (17, "new"), "").join("stage");
    let bans = server.get("/v1/rooms/stage/bans").json();
    let ban = &bans["bans"][0];
    assert_eq!(
        (&ban["user"], &ban["devices"], &ban["addresses"]),
        (&json!("mallory"), &json!(1), &json!(2))
    );
    server.eventually("bans are counted", |server| server.metric("uproar_bans", "") == 4.0);
    let lift = server.request("DELETE", "/v1/rooms/stage/bans/mallory", &Value::Null);
    assert_eq!(lift.status, 204);
    for (origin, token) in again {
        let mut client = welcomed(&server, on.wire, origin, token);
        client.join("stage");
    }
    assert_eq!(server.get("/v1/rooms/stage/bans").json(), json!({"bans": []}));
}

pub(crate) fn whoever_is_blocked_is_closed_at_once_and_comes_no_more(on: On) {
    let server = Server::start(on.io, &format!("{}guests = true\n", config()));
    let ann = plain("ann");
    let mut stays = welcomed(&server, on.wire, (21, "mine"), &ann);
    let mut slowest = Duration::ZERO;
    for (kind, value, origin, elsewhere) in [
        ("address", "127.0.0.22", (22, ""), (23, "")),
        ("device", "stolen", (24, "stolen"), (24, "bought")),
        ("address", "127.0.0.128/26", (140, "x"), (200, "x")),
    ] {
        let there: Vec<Client> = (0..4).map(|_| welcomed(&server, on.wire, origin, "")).collect();
        let begun = Instant::now();
        block(&server, kind, value, 0);
        there.into_iter().for_each(|client| is_ended(client, on.wire, "BANNED")); // S-63
        slowest = slowest.max(begun.elapsed());
        is_ended(connect(&server, on.wire, origin, ""), on.wire, "BANNED");
        is_ended(connect(&server, on.wire, origin, &ann), on.wire, "BANNED");
        welcomed(&server, on.wire, elsewhere, "").ping();
        unblock(&server, kind, value);
        server.eventually("it may again", |server| {
            let mut client = connect(server, on.wire, origin, "");
            matches!(client.next(), Body::Welcome(_))
        });
    }
    eprintln!("the slowest of 12 was closed after {slowest:?}");
    assert!(slowest < DEADLINE / 3, "{slowest:?}");
    stays.ping();
    // One that ends ends without a word.
    let until_s = crate::tokens::unix_s() + 6;
    block(&server, "device", "late", until_s);
    server.eventually("it holds", |server| server.metric("uproar_blocks_active", "") == 1.0);
    server.eventually("it is over", |server| {
        let mut client = connect(server, on.wire, (25, "late"), "");
        matches!(client.next(), Body::Welcome(_))
    });
    assert!(crate::tokens::unix_s() >= until_s);
    assert_eq!(server.metric("uproar_blocked_closed_total", ""), 12.0);
    assert!(server.metric("uproar_blocked_addresses_total", "") >= 4.0);
    assert!(server.metric("uproar_blocked_devices_total", "") >= 2.0);
}

pub(crate) fn the_address_a_proxy_tells_is_the_one_that_counts(on: On) {
    let config = "[engine]\nproxy_from = [\"127.0.0.1\"]\n";
    let server = Server::start(on.io, config);
    let proxied = |source: Ipv4Addr| {
        let mut socket = dial(server.clients);
        let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
        header.extend(source.octets());
        header.extend([127, 0, 0, 1, 0x30, 0x39, 0x1c, 0xe8]);
        socket.write_all(&header).unwrap();
        let mut client = Client::over(socket, Wire::Tcp, usize::MAX);
        says_hello(&mut client, "", "");
        client
    };
    let (one, two) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
    let mut there = [one, two].map(proxied);
    for client in &mut there {
        client.take("welcome", |body| matches!(body, Body::Welcome(_)).then_some(()));
    }
    block(&server, "address", "192.0.2.1", 0);
    let [first, mut second] = there;
    is_ended(first, Wire::Tcp, "BANNED");
    second.ping();
    is_ended(proxied(one), Wire::Tcp, "BANNED");
    // The proxy's own address is nobody's that speaks through it.
    block(&server, "address", "127.0.0.1", 0);
    has_blocks(&server, 2.0);
    second.ping();
    proxied(two).take("welcome", |body| matches!(body, Body::Welcome(_)).then_some(()));
}

/// A store that outlives its process: its folder, and a configuration with it.
fn stored(name: &str) -> (PathBuf, String) {
    let name = format!("e2e-blocks-{name}-{}", std::process::id());
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let url = format!("sqlite:{}/blocks.db", folder.display());
    (folder, format!("{}guests = true\n[store]\nurl = \"{url}\"\n", config()))
}

#[test]
fn a_restart_keeps_the_blocks_and_refuses_the_first_connection() {
    let (folder, config) = stored("restart");
    let mut server = Server::start_alone(Io::Epoll, &config);
    assert_eq!(server.get(BLOCKS).json()["kept"], true);
    block(&server, "device", "stolen", 0);
    server.kill();
    let again = server.start_in_its_place();
    let mut client = Client::open(&again, Wire::Tcp);
    says_hello(&mut client, "stolen", "");
    is_ended(client, Wire::Tcp, "BANNED");
    drop((server, again));
    let _ = std::fs::remove_dir_all(folder); // a leftover does no harm
}

#[test]
fn an_engine_apart_keeps_out_who_control_says_and_goes_on_while_it_is_away() {
    let (folder, config) = stored("apart");
    let mut control = Server::control(&config);
    let first = control.engine(Io::Epoll, &config);
    let origin = |device: &str, engine: &Server| {
        let mut client = Client::open(engine, Wire::Tcp);
        says_hello(&mut client, device, "");
        client
    };
    let mut there = origin("stolen", &first);
    there.take("welcome", |body| matches!(body, Body::Welcome(_)).then_some(()));
    let begun = Instant::now();
    block(&control, "device", "stolen", 0);
    is_ended(there, Wire::Tcp, "BANNED");
    let took = begun.elapsed();
    eprintln!("closed over the link after {took:?}");
    assert!(took < DEADLINE / 3, "{took:?}");
    control.kill();
    first.eventually("the breaker is open", |engine| engine.metric("uproar_link_up", "") == 0.0);
    is_ended(origin("stolen", &first), Wire::Tcp, "BANNED");
    let control = control.start_in_its_place();
    first.is_linked(2);
    // Kept over the restart, and told to whoever comes.
    let second = control.engine(Io::Epoll, &config);
    has_blocks(&second, 1.0);
    is_ended(origin("stolen", &second), Wire::Tcp, "BANNED");
    unblock(&control, "device", "stolen");
    for engine in [&first, &second] {
        has_blocks(engine, 2.0);
        let mut client = origin("stolen", engine);
        client.take("welcome", |body| matches!(body, Body::Welcome(_)).then_some(()));
    }
    let elsewhere = first.get(BLOCKS);
    assert_eq!(elsewhere.status, 421, "{}", elsewhere.body);
    drop((first, second, control));
    let _ = std::fs::remove_dir_all(folder); // a leftover does no harm
}
