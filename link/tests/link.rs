//! Both sides of the link over real sockets: an engine and a control that write down what they
//! hear, and a gate between them that breaks.

use axum::serve::ListenerExt as _;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use uproar_link::{Client, Config, Nodes, server};
use uproar_proto::control::{
    Ask, Asked, Command, ConnectionId, Control, Engine, NodeInfo, NodeLoad, Reply, RoomInfo,
    Sample, SampleValue, Tell, Which,
};
use uproar_proto::error::Code;
use uproar_proto::v1::{self, client_frame, server_frame::Body};

const SHORT_KEY: &str = "short";
const KEY: &str = "0123456789-abcdefghij";
/// Nobody waits for it unless a test fails.
const DEADLINE: Duration = Duration::from_secs(30);

/// No test leaves a file behind.
fn nothing_kept() -> Config {
    Config { known_file: std::path::PathBuf::new(), ..Config::default() }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(2)); // between two looks
    }
}

/// An engine that writes down what it is told.
#[derive(Default)]
struct Told {
    tells: Mutex<Vec<Tell>>,
}

impl Engine for Told {
    fn tell(&self, tell: Tell) -> Result<(), Tell> {
        lock(&self.tells).push(tell);
        Ok(())
    }

    fn nodes(&self) -> Vec<NodeLoad> {
        let address = "a.example:7400".to_owned();
        vec![NodeLoad { address, connections: 3, connections_max: 9, closed: false }]
    }

    fn command(&self, _: Command) {}
    fn list(&self, _: Which, _: usize, _: Reply<Vec<RoomInfo>>) {}
    fn metrics(&self) -> Vec<Sample> {
        Vec::new()
    }
    fn node(&self) -> NodeInfo {
        NodeInfo::default()
    }
    fn ready(&self) -> bool {
        true
    }
}

impl Told {
    /// By ask: the codes it was answered with, 0 for control's own answer.
    fn answers(&self) -> BTreeMap<u32, Vec<u32>> {
        let mut answers: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for tell in &*lock(&self.tells) {
            if let Tell::Answer { number, frames, .. } = tell {
                let [Body::Sent(sent)] = &frames[..] else { panic!("{frames:?}") };
                answers.entry(*number).or_default().push(sent.code);
            }
        }
        answers
    }

    /// The seqs of what was pushed, in the order it came.
    fn pushed(&self) -> Vec<u64> {
        let seq = |tell: &Tell| match tell {
            Tell::Leave { seq, .. } => Some(*seq),
            _ => None,
        };
        lock(&self.tells).iter().filter_map(seq).collect()
    }

    fn anew(&self) -> Vec<u64> {
        let number = |tell: &Tell| match tell {
            Tell::Anew { number } => Some(*number),
            _ => None,
        };
        lock(&self.tells).iter().filter_map(number).collect()
    }
}

/// A control that writes down what it is asked, and answers at once unless it is mute.
#[derive(Default)]
struct Echo {
    asks: Mutex<Vec<u32>>,
    mute: bool,
    nodes: OnceLock<Arc<Nodes>>,
}

impl Control for Echo {
    fn ask(&self, ask: Ask) {
        lock(&self.asks).push(ask.number);
        let Asked::Frame(client_frame::Body::Send(send)) = ask.what else { panic!("a send") };
        let sent = v1::Sent { client_msg_id: send.client_msg_id, seq: 1, ..v1::Sent::default() };
        let (to, number, frames) = (ask.from, ask.number, vec![Body::Sent(sent)]);
        if !self.mute {
            self.nodes.get().unwrap().tell(Tell::Answer { to, number, frames }).unwrap();
        }
    }
}

/// A control process, as far as the link goes.
struct ControlSide {
    nodes: Arc<Nodes>,
    control: Arc<Echo>,
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl ControlSide {
    /// On a port of its own, or in the place of another one.
    fn start(runtime: &Runtime, address: Option<SocketAddr>, mute: bool) -> ControlSide {
        let nodes = Arc::<Nodes>::default();
        let control = Arc::new(Echo { mute, ..Echo::default() });
        assert!(control.nodes.set(Arc::clone(&nodes)).is_ok());
        let address = address.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
        let listener = runtime.block_on(async {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.set_reuseaddr(true).unwrap();
            socket.bind(address).unwrap();
            socket.listen(64).unwrap()
        });
        let address = listener.local_addr().unwrap();
        let control_of = Arc::clone(&control) as Arc<dyn Control>;
        let router = runtime.block_on(async { server::router(&nodes, control_of, KEY) });
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        let serving = runtime.spawn(async move { axum::serve(listener, router).await.unwrap() });
        ControlSide { nodes, control, address, serving }
    }

    fn tell(&self, seq: u64) {
        let (user, group) = ("u".into(), "g".into());
        self.nodes.tell(Tell::Leave { user, group, seq }).unwrap();
    }
}

/// What stands between the two: it can be shut, and break everything that goes through it.
struct Gate {
    address: SocketAddr,
    shut: Arc<Mutex<bool>>,
    passing: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Gate {
    fn start(runtime: &Runtime, to: SocketAddr) -> Gate {
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (shut, passing) = (Arc::<Mutex<bool>>::default(), Arc::<Mutex<Vec<_>>>::default());
        let gate = Gate { address, shut: Arc::clone(&shut), passing: Arc::clone(&passing) };
        runtime.spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                if !*lock(&shut) {
                    lock(&passing).push(tokio::spawn(pass(near, to)));
                }
            }
        });
        gate
    }

    /// Breaks every connection; bytes on their way are lost.
    fn cut(&self) {
        for pass in lock(&self.passing).drain(..) {
            pass.abort();
        }
    }

    fn shut(&self, shut: bool) {
        *lock(&self.shut) = shut;
        self.cut();
    }
}

async fn pass(mut near: TcpStream, to: SocketAddr) {
    let Ok(mut far) = TcpStream::connect(to).await else { return };
    let (mut up, mut down) = ([0; 4096], [0; 4096]);
    loop {
        let passed = tokio::select! {
            read = near.read(&mut up) => match read {
                Ok(count) if count > 0 => far.write_all(&up[..count]).await,
                _ => return,
            },
            read = far.read(&mut down) => match read {
                Ok(count) if count > 0 => near.write_all(&down[..count]).await,
                _ => return,
            },
        };
        if passed.is_err() {
            return;
        }
    }
}

/// An engine process, as far as the link goes.
struct EngineSide {
    client: Arc<Client>,
    told: Arc<Told>,
}

impl EngineSide {
    fn start(runtime: &Runtime, control: SocketAddr, key: &str) -> EngineSide {
        let config =
            Config { control: format!("http://{control}"), key: key.into(), ..nothing_kept() };
        let client = runtime.block_on(async { Client::new(&config, "a:1".into()) }).unwrap();
        let told = Arc::<Told>::default();
        client.serve(Arc::clone(&told) as Arc<dyn Engine>);
        EngineSide { client, told }
    }

    fn figure(&self, name: &str) -> f64 {
        let samples = self.client.samples();
        match samples.iter().find(|sample| sample.name == name).map(|sample| &sample.value) {
            Some(SampleValue::Number(value)) => *value,
            other => panic!("{name}: {other:?}"),
        }
    }

    /// Asks of one connection, by number; the id of the message is the number.
    fn asks(&self, number: u32) {
        let from = ConnectionId { node: 0, shard: 0, conn: 1, serial: u64::from(number) };
        let client_msg_id = bytes::Bytes::copy_from_slice(&u128::from(number).to_be_bytes());
        let send = v1::Send { client_msg_id, ..v1::Send::default() };
        let what = Asked::Frame(client_frame::Body::Send(send));
        self.client.ask(Ask { from, number, user: "u".into(), what });
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn asks_get_their_answers_and_words_arrive_in_order() {
    let runtime = runtime();
    let control = ControlSide::start(&runtime, None, false);
    let engine = EngineSide::start(&runtime, control.address, KEY);
    until("it is linked", || engine.client.is_up());
    for number in 1..=2_000 {
        engine.asks(number);
        control.tell(u64::from(number));
    }
    until("all is answered", || engine.told.answers().len() == 2_000);
    assert!(engine.told.answers().values().all(|codes| codes[..] == [0]));
    assert_eq!(*lock(&control.control.asks), (1..=2_000).collect::<Vec<_>>());
    until("all is told", || engine.told.pushed().len() == 2_000);
    assert_eq!(engine.told.pushed(), (1..=2_000).collect::<Vec<_>>());
    assert_eq!(engine.told.anew(), [1]);
    // Who has nothing to ask says all the same that it is there, and how full it is.
    until("control may forget", || {
        let samples = control.nodes.metrics();
        let words = samples.iter().find(|sample| sample.name == "uproar_link_node_words");
        words.is_some_and(|sample| sample.value == SampleValue::Number(0.0))
    });
    let load = &control.nodes.nodes()[0];
    assert_eq!((&*load.address, load.connections, load.closed), ("a.example:7400", 3, false));
    assert_eq!(control.nodes.rooms_at(), Some(vec!["a:1".to_owned()]));
}

#[test]
fn a_connection_that_breaks_again_and_again_costs_no_word_and_no_ask_is_taken_in_twice() {
    let runtime = runtime();
    let control = ControlSide::start(&runtime, None, false);
    let gate = Gate::start(&runtime, control.address);
    let engine = EngineSide::start(&runtime, gate.address, KEY);
    until("it is linked", || engine.client.is_up());
    let asked = AtomicU64::new(0);
    for round in 0..30 {
        for number in round * 50 + 1..=round * 50 + 50 {
            engine.asks(number);
            control.tell(u64::from(number));
            asked.fetch_add(1, Ordering::Relaxed);
            if number % 10 == 0 {
                std::thread::sleep(Duration::from_millis(1)); // so that it breaks amid them
            }
        }
        gate.cut();
    }
    until("all is answered", || engine.told.answers().len() == 1_500);
    until("all is told", || engine.told.pushed().len() == 1_500);
    assert_eq!(engine.told.pushed(), (1..=1_500).collect::<Vec<_>>(), "each once, in order");
    assert!(engine.told.answers().values().all(|codes| codes.len() == 1));
    let taken = lock(&control.control.asks).clone();
    assert!(taken.is_sorted_by(|a, b| a < b), "each at most once, in order: {taken:?}");
    assert!(engine.figure("uproar_link_resumed_total") >= 1.0);
    assert_eq!(engine.told.anew(), [1], "it never began anew");
}

#[test]
fn a_control_that_is_away_costs_refusals_and_what_is_owed_is_answered_once() {
    let runtime = runtime();
    let control = ControlSide::start(&runtime, None, true);
    let gate = Gate::start(&runtime, control.address);
    let engine = EngineSide::start(&runtime, gate.address, KEY);
    until("it is linked", || engine.client.is_up());
    engine.asks(1);
    until("control has it", || lock(&control.control.asks).len() == 1);
    gate.shut(true);
    until("the breaker opens", || !engine.client.is_up());
    let down = Code::StoreDown.number();
    until("what is owed is refused", || engine.told.answers() == BTreeMap::from([(1, vec![down])]));
    let begun = Instant::now();
    engine.asks(2);
    until("at once", || engine.told.answers().get(&2) == Some(&vec![down]));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(engine.figure("uproar_link_up"), 0.0);
    // The same control, in time: nothing begins anew.
    control.tell(1);
    gate.shut(false);
    until("it is linked again", || engine.client.is_up());
    until("it hears what it missed", || engine.told.pushed() == [1]);
    assert_eq!(engine.told.anew(), [1]);
    assert_eq!(engine.figure("uproar_link_breaker_opened_total"), 1.0);
    assert_eq!(engine.figure("uproar_link_asks_owed"), 0.0);
}

#[test]
fn another_control_in_its_place_begins_everything_anew() {
    let runtime = runtime();
    let first = ControlSide::start(&runtime, None, true);
    let engine = EngineSide::start(&runtime, first.address, KEY);
    until("it is linked", || engine.client.is_up());
    engine.asks(1);
    until("control has it", || lock(&first.control.asks).len() == 1);
    let address = first.address;
    first.nodes.end();
    first.serving.abort();
    assert!(runtime.block_on(first.serving).is_err(), "it was ended");
    let second = ControlSide::start(&runtime, Some(address), false);
    until("it begins anew", || engine.told.anew() == [1, 2]);
    until("it is linked", || engine.client.is_up());
    let down = Code::StoreDown.number();
    assert_eq!(engine.told.answers(), BTreeMap::from([(1, vec![down])]));
    let order: Vec<bool> =
        lock(&engine.told.tells).iter().map(|tell| matches!(tell, Tell::Anew { .. })).collect();
    assert_eq!(order, [true, false, true], "what was owed was refused before");
    engine.asks(2);
    second.tell(5);
    until("it is answered", || engine.told.answers().get(&2) == Some(&vec![0]));
    until("it is told", || engine.told.pushed() == [5]);
}

#[test]
fn without_the_key_nobody_is_linked_and_no_request_is_read() {
    let runtime = runtime();
    let control = ControlSide::start(&runtime, None, false);
    let engine = EngineSide::start(&runtime, control.address, "0123456789-abcdefghik");
    for request in [
        "POST /link/hello HTTP/1.1\r\nContent-Length: 99999999\r\n",
        "POST /link/asks HTTP/1.1\r\nAuthorization: Bearer \r\nContent-Length: 0\r\n",
        "GET /link/stream?session=1&after=0 HTTP/1.1\r\nAuthorization: 0123456789-abcdefghij\r\n",
        "GET /other HTTP/1.1\r\n",
    ] {
        assert_eq!(raw(control.address, request, b"").0, 401, "{request}");
    }
    engine.asks(1);
    let down = Code::StoreDown.number();
    until("it is refused", || engine.told.answers() == BTreeMap::from([(1, vec![down])]));
    assert!(control.nodes.nodes().is_empty() && !engine.client.is_up());
    let short = Config { key: SHORT_KEY.into(), ..Config::default() };
    let refused = runtime.block_on(async { Client::new(&short, String::new()).err() });
    assert!(refused.unwrap().starts_with("link.key has 5 bytes"));
}

#[test]
fn another_version_is_told_so_and_junk_is_refused() {
    let runtime = runtime();
    let control = ControlSide::start(&runtime, None, false);
    let head = |path: &str, length: usize| {
        format!(
            "POST {path} HTTP/1.1\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {length}\r\n"
        )
    };
    // Hello, version 99, build "9.9".
    let hello = b"\x08\x63\x12\x039.9";
    let (status, text) = raw(control.address, &head("/link/hello", hello.len()), hello);
    assert_eq!(status, 409);
    let here = format!("version {}", uproar_link::VERSION);
    assert!(text.contains("version 99") && text.contains("9.9") && text.contains(&here));
    for path in ["/link/hello", "/link/asks"] {
        let (status, text) = raw(control.address, &head(path, 3), b"\xff\xff\xff");
        assert_eq!(status, 400, "{text}");
    }
    let (status, _) = raw(control.address, &head("/link/asks", 0), b"");
    assert_eq!(status, 410, "no session");
}

/// Status and body of a request that is written by hand.
fn raw(address: SocketAddr, head: &str, body: &[u8]) -> (u16, String) {
    use std::io::{Read as _, Write as _};
    let mut socket = std::net::TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let (line, headers) = head.split_once("\r\n").unwrap();
    let request = format!("{line}\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
    socket.write_all(&[request.as_bytes(), body].concat()).unwrap();
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer); // refused early: reset behind the answer
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
    (status, answer)
}
