//! A receiver of webhooks: a real server on a port of its own, that answers as a test says.
//!
//! Owns the sockets and what came. Checks every signature itself, by another implementation than
//! the server's.

use crate::DEADLINE;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// What requests are signed with.
pub(crate) const SECRET: &str = "0123456789abcdef-of-a-test";

static STARTED: AtomicU32 = AtomicU32::new(0);

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Value,
}

impl Request {
    pub(crate) fn events(&self) -> &[Value] {
        self.body["events"].as_array().unwrap()
    }

    /// The text of the first event's message.
    pub(crate) fn text(&self) -> &str {
        self.events()[0]["message"]["text"].as_str().unwrap_or_default()
    }
}

/// What is answered.
pub(crate) enum Reply {
    /// This status and body.
    Answer(u16, String),
    /// These bytes, then the end.
    Raw(Vec<u8>),
    /// A head, then bytes without an end.
    Endless(&'static str),
    /// Nothing, until the test ends.
    Hang,
}

impl Reply {
    /// The same decision for every message of a request.
    pub(crate) fn decision(request: &Request, decision: &Value) -> Reply {
        let answers = request.events().iter().map(|event| {
            let mut answer = decision.clone();
            answer["id"] = event["id"].clone();
            answer
        });
        Reply::Answer(200, json!({"answers": answers.collect::<Vec<Value>>()}).to_string())
    }
}

type Behaviour = Arc<dyn Fn(&Request) -> Reply + Send + Sync>;

struct Shared {
    came: Mutex<Vec<Request>>,
    something: Condvar,
    behaviour: Mutex<Behaviour>,
    ended: AtomicBool,
}

pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

/// Listens on an address that no other receiver of any test has.
fn listen() -> TcpListener {
    let number = STARTED.fetch_add(1, Ordering::Relaxed);
    // Within 127.64.0.0/10, apart from 127.0.0.1 of everybody else and from servers.
    let (high, low) = (64 + number / 250 % 60, number % 250);
    let address = format!("127.{high}.{low}.{}:0", 1 + std::process::id() % 250);
    TcpListener::bind(address).unwrap()
}

/// Where nobody listens; the address is no other receiver's, so its port stays free meanwhile.
pub(crate) fn address() -> SocketAddr {
    listen().local_addr().unwrap()
}

impl Receiver {
    /// One that takes everything.
    pub(crate) fn start() -> Receiver {
        Receiver::on(listen())
    }

    /// The same, where nobody listened before.
    pub(crate) fn start_at(address: SocketAddr) -> Receiver {
        Receiver::on(TcpListener::bind(address).unwrap())
    }

    fn on(listener: TcpListener) -> Receiver {
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            came: Mutex::new(Vec::new()),
            something: Condvar::new(),
            behaviour: Mutex::new(Arc::new(|_| Reply::Answer(204, String::new()))),
            ended: AtomicBool::new(false),
        });
        let by = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if by.ended.load(Ordering::SeqCst) {
                    return;
                }
                let by = Arc::clone(&by);
                std::thread::spawn(move || by.serve(stream));
            }
        });
        Receiver { address, shared }
    }

    /// From now on it answers like this.
    pub(crate) fn answers(&self, behaviour: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
        *self.shared.behaviour.lock().unwrap() = Arc::new(behaviour);
    }

    pub(crate) fn always(&self, status: u16) {
        self.answers(move |_| Reply::Answer(status, String::new()));
    }

    pub(crate) fn came(&self) -> Vec<Request> {
        self.shared.came.lock().unwrap().clone()
    }

    /// Waits until what came fits.
    pub(crate) fn until(&self, what: &str, fits: impl Fn(&[Request]) -> bool) -> Vec<Request> {
        let end = Instant::now() + DEADLINE;
        let mut came = self.shared.came.lock().unwrap();
        while !fits(&came) {
            let left = end.saturating_duration_since(Instant::now());
            let ids = || came.iter().map(|request| &request.headers["uproar-event-id"]);
            assert!(!left.is_zero(), "never: {what}; came {:?}", ids().collect::<Vec<_>>());
            came = self.shared.something.wait_timeout(came, left).unwrap().0;
        }
        came.clone()
    }

    /// Waits until so many events have come, each counted once.
    pub(crate) fn until_events(&self, count: usize) -> Vec<Value> {
        let came = self.until(&format!("{count} events"), |came| events(came).len() >= count);
        let events = events(&came);
        assert_eq!(events.len(), count, "{events:?}");
        events
    }
}

/// The events of these requests in the order of their first coming, each once.
pub(crate) fn events(requests: &[Request]) -> Vec<Value> {
    let mut events: Vec<Value> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for event in requests.iter().flat_map(Request::events) {
        if seen.insert(event["id"].as_str().unwrap().to_owned()) {
            events.push(event.clone());
        }
    }
    events
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts, which then ends.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
    }
}

impl Shared {
    /// Answers one request, then closes.
    fn serve(&self, stream: TcpStream) {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let Some(request) = read(&stream) else { return };
        let behaviour = Arc::clone(&self.behaviour.lock().unwrap());
        // What came counts once it is read, whatever the answer takes.
        self.came.lock().unwrap().push(request.clone());
        self.something.notify_all();
        let mut stream = stream;
        let _ = match behaviour(&request) {
            Reply::Answer(status, body) => {
                let head = format!(
                    "HTTP/1.1 {status} Said\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                // No body where the status has none.
                let head =
                    if status == 204 { head.replace("Content-Length: 0\r\n", "") } else { head };
                stream.write_all(format!("{head}{body}").as_bytes())
            }
            Reply::Raw(bytes) => stream.write_all(&bytes),
            Reply::Endless(head) => {
                let mut sent = stream.write_all(head.as_bytes());
                // It ends when the server closes.
                while sent.is_ok() && !self.ended.load(Ordering::SeqCst) {
                    sent = stream.write_all(&[b'x'; 4096]);
                }
                sent
            }
            Reply::Hang => {
                while !self.ended.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(20)); // until the test ends
                }
                Ok(())
            }
        };
    }
}

/// Reads a request and checks its signature; `None`: nobody asked anything.
fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    if reader.read_line(&mut first).ok()? == 0 {
        return None;
    }
    assert_eq!(first.trim_end(), "POST /hook?of=uproar HTTP/1.1");
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers["content-length"].parse().unwrap()];
    reader.read_exact(&mut body).ok()?;
    check_signature(&headers, &body);
    let body: Value = serde_json::from_slice(&body).unwrap();
    let request = Request { headers, body };
    let ids: Vec<&str> =
        request.events().iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(request.headers["uproar-event-id"], ids.join(", "));
    Some(request)
}

fn check_signature(headers: &BTreeMap<String, String>, body: &[u8]) {
    let timestamp = &headers["uproar-timestamp"];
    let age_s = crate::tokens::unix_s().abs_diff(timestamp.parse().unwrap());
    assert!(age_s <= 60, "signed {age_s} s away from now");
    let signed = [timestamp.as_bytes(), b".", body].concat();
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let mac = crypto::sign(&signed, &key, Algorithm::HS256).unwrap();
    let mac = URL_SAFE_NO_PAD.decode(mac).unwrap();
    let hex: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(headers["uproar-signature"], format!("v1={hex}"));
    assert!(headers["user-agent"].starts_with("uproar/"), "{}", headers["user-agent"]);
    assert_eq!(headers["content-type"], "application/json");
}
