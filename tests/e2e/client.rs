//! A client on any of the three wires: the same calls, and a deadline on every wait.
//!
//! The WebSocket side is tungstenite's; binary TCP is written out here from PROTOCOL.md. Protobuf
//! is prost's, JSON is `json.rs`. Nothing of the server's own codec is used.

use crate::server::Server;
use crate::{DEADLINE, Wire, json};
use prost::Message as _;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use tungstenite::client::ClientRequestBuilder;
use tungstenite::{Error, Message, WebSocket};
use uproar_proto::v1::{self, client_frame, server_frame::Body};

/// A socket that may be told to write in small pieces.
pub(crate) struct Link {
    pub(crate) socket: TcpStream,
    /// The most bytes of one write; they leave at once (TCP_NODELAY).
    pub(crate) piece_bytes_max: usize,
}

impl Read for Link {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        loop {
            match self.socket.read(into) {
                // The process was stopped and continued: a wait with a deadline ends then.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.socket.write(&bytes[..bytes.len().min(self.piece_bytes_max)])
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.socket.flush()
    }
}

enum Way {
    /// The socket, and bytes that are not a whole frame yet.
    Tcp(Link, Vec<u8>),
    WebSocket {
        socket: Box<WebSocket<Link>>,
        json: bool,
    },
}

/// What a client hears.
#[derive(Debug)]
pub(crate) enum Heard {
    Frame(Body),
    /// A WebSocket pong.
    Pong(Vec<u8>),
    /// A WebSocket close frame: code and reason.
    Close(Option<(u16, String)>),
    /// The server sends no more.
    End,
}

/// How a session ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// The last frame, where it was an error.
    pub(crate) error: Option<String>,
    /// The close code of a WebSocket.
    pub(crate) close: Option<u16>,
}

pub(crate) struct Client {
    way: Way,
    /// Frames that were read before somebody asked for them; counts are apart.
    unread: VecDeque<Body>,
    counts: VecDeque<v1::Count>,
}

/// A TCP connection whose waits end.
pub(crate) fn dial(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect_timeout(&address, DEADLINE).unwrap();
    prepare(&socket);
    socket
}

fn prepare(socket: &TcpStream) {
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.set_write_timeout(Some(DEADLINE)).unwrap();
}

impl Client {
    /// A connection of this wire, before its first frame.
    pub(crate) fn open(server: &Server, wire: Wire) -> Client {
        Client::over(dial(server.clients), wire, usize::MAX)
    }

    /// The same over a socket that is connected already.
    pub(crate) fn over(socket: TcpStream, wire: Wire, piece_bytes_max: usize) -> Client {
        prepare(&socket);
        let mut link = Link { socket, piece_bytes_max };
        let subprotocol = match wire {
            Wire::Tcp => {
                link.write_all(b"UPR1").unwrap();
                return Client::of(Way::Tcp(link, Vec::new()));
            }
            Wire::WebSocket => "uproar.v1.proto",
            Wire::Json => "uproar.v1.json",
        };
        let uri = "ws://localhost/".parse().unwrap();
        let request = ClientRequestBuilder::new(uri).with_sub_protocol(subprotocol);
        let (socket, answer) = tungstenite::client(request, link).expect("an upgrade");
        assert_eq!(answer.headers()["sec-websocket-protocol"], subprotocol);
        Client::of(Way::WebSocket { socket: Box::new(socket), json: wire == Wire::Json })
    }

    /// A session of binary TCP that was welcomed already.
    pub(crate) fn welcomed(socket: TcpStream) -> Client {
        Client::of(Way::Tcp(Link { socket, piece_bytes_max: usize::MAX }, Vec::new()))
    }

    fn of(way: Way) -> Client {
        Client { way, unread: VecDeque::new(), counts: VecDeque::new() }
    }

    /// A guest that was welcomed.
    pub(crate) fn guest(server: &Server, wire: Wire) -> Client {
        let mut client = Client::open(server, wire);
        assert!(client.hello("").guest);
        client
    }

    /// A user that was welcomed.
    pub(crate) fn user(server: &Server, wire: Wire, token: &str) -> Client {
        let mut client = Client::open(server, wire);
        assert!(!client.hello(token).guest);
        client
    }

    /// A guest in a room, and the snapshot it got.
    pub(crate) fn viewer(server: &Server, wire: Wire, room: &str) -> (Client, v1::Joined) {
        let mut client = Client::guest(server, wire);
        let joined = client.join(room);
        (client, joined)
    }

    /// Says hello and is welcomed.
    pub(crate) fn hello(&mut self, token: &str) -> v1::Welcome {
        self.connect(token);
        match self.next() {
            Body::Welcome(welcome) => welcome,
            other => panic!("the first frame is welcome: {other:?}"),
        }
    }

    /// Says hello, without waiting for what the server makes of it.
    pub(crate) fn connect(&mut self, token: &str) {
        let connect = v1::Connect { token: token.into(), ..v1::Connect::default() };
        self.send(client_frame::Body::Connect(connect));
    }

    pub(crate) fn join(&mut self, room: &str) -> v1::Joined {
        self.ask_to_join(room, None);
        self.joined(room)
    }

    pub(crate) fn ask_to_join(&mut self, room: &str, resume: Option<v1::Cursor>) {
        self.send(client_frame::Body::Join(v1::Join { room: room.into(), resume }));
    }

    pub(crate) fn joined(&mut self, room: &str) -> v1::Joined {
        self.take("joined", |body| match body {
            Body::Joined(joined) if joined.room == room => Some(joined.clone()),
            _ => None,
        })
    }

    pub(crate) fn leave(&mut self, room: &str) {
        self.send(client_frame::Body::Leave(v1::Leave { room: room.into() }));
    }

    pub(crate) fn left(&mut self) -> v1::Left {
        self.take("left", |body| match body {
            Body::Left(left) => Some(left.clone()),
            _ => None,
        })
    }

    /// Publishes a chat line under this id.
    pub(crate) fn say(&mut self, room: &str, id: &str, text: &str) {
        let text = v1::publish::Content::Text(text.into());
        self.publish(room, v1::Class::Chat, id, Some(text));
    }

    pub(crate) fn publish(
        &mut self,
        room: &str,
        class: v1::Class,
        id: &str,
        content: Option<v1::publish::Content>,
    ) {
        self.send(client_frame::Body::Publish(v1::Publish {
            room: room.into(),
            class: class.into(),
            client_msg_id: bytes::Bytes::copy_from_slice(id.as_bytes()),
            content,
            ..v1::Publish::default()
        }));
    }

    pub(crate) fn like(&mut self, room: &str, count: u32) {
        self.send(client_frame::Body::Publish(v1::Publish {
            room: room.into(),
            class: v1::Class::Like.into(),
            count,
            ..v1::Publish::default()
        }));
    }

    /// The verdict on the publish of this id.
    pub(crate) fn verdict(&mut self, id: &str) -> v1::Verdict {
        loop {
            // A frame holds the verdicts of a window: what is not asked for stays.
            for body in &mut self.unread {
                let Body::Verdicts(frame) = body else { continue };
                let place = frame.verdicts.iter().position(|v| v.client_msg_id == id.as_bytes());
                if let Some(place) = place {
                    return frame.verdicts.remove(place);
                }
            }
            self.unread.retain(|body| !matches!(body, Body::Verdicts(v) if v.verdicts.is_empty()));
            self.read_one(&format!("the verdict on {id}"));
        }
    }

    /// Publishes and is refused with this code.
    pub(crate) fn is_refused(&mut self, room: &str, id: &str, text: &str) -> (u32, u32) {
        self.say(room, id, text);
        let verdict = self.verdict(id);
        assert_eq!(verdict.outcome(), v1::Outcome::Refused, "{verdict:?}");
        (verdict.code, verdict.retry_after_ms)
    }

    /// Publishes and is accepted: the seq.
    pub(crate) fn is_accepted(&mut self, room: &str, id: &str, text: &str) -> u64 {
        self.say(room, id, text);
        let verdict = self.verdict(id);
        assert_eq!((verdict.outcome(), verdict.code), (v1::Outcome::Accepted, 0), "{verdict:?}");
        verdict.seq
    }

    /// Says something until it is accepted, and refused with this code until then: a shard hears of
    /// a change a moment after it is answered.
    pub(crate) fn is_accepted_soon(&mut self, room: &str, id: &str, text: &str, until_then: u32) {
        let end = Instant::now() + DEADLINE;
        loop {
            self.say(room, id, text);
            let verdict = self.verdict(id);
            if verdict.outcome() == v1::Outcome::Accepted {
                return;
            }
            assert_eq!(verdict.code, until_then, "{verdict:?}");
            assert!(Instant::now() < end, "never");
            std::thread::sleep(Duration::from_millis(10)); // between two tries
        }
    }

    /// The next messages of a room, this many, without a gap among them.
    pub(crate) fn messages(&mut self, room: &str, count: usize) -> Vec<v1::Message> {
        let mut messages: Vec<v1::Message> = Vec::new();
        while messages.len() < count {
            let batch = self.take("a batch", |body| match body {
                Body::Batch(batch) if batch.room == room => Some(batch.messages.clone()),
                Body::Gap(gap) if gap.room == room => panic!("a gap: {gap:?}"),
                _ => None,
            });
            messages.extend(batch);
        }
        assert_eq!(messages.len(), count, "more than was published");
        let follows = |pair: &[v1::Message]| pair[1].seq == pair[0].seq + 1;
        assert!(messages.windows(2).all(follows), "{messages:?}");
        messages
    }

    /// The seqs of a snapshot and of what follows it, this many in all. (A shard may hear of a
    /// message a moment after its publisher: then it comes behind the snapshot, not in it.)
    pub(crate) fn seqs_from(&mut self, joined: &v1::Joined, count: usize) -> Vec<u64> {
        let mut seqs: Vec<u64> = joined.messages.iter().map(|m| m.seq).collect();
        if !seqs.is_empty() {
            assert_eq!(seqs.last(), Some(&joined.seq), "the stream goes on behind the snapshot");
        }
        if seqs.len() < count {
            let missing = count - seqs.len();
            seqs.extend(self.messages(&joined.room, missing).iter().map(|m| m.seq));
        }
        assert_eq!(seqs.len(), count, "{seqs:?}");
        seqs
    }

    /// The error about a room; the connection goes on.
    pub(crate) fn room_error(&mut self, room: &str) -> String {
        let error = self.take("an error", |body| match body {
            Body::Error(error) => Some(error.clone()),
            Body::Joined(joined) if joined.room == room => panic!("it may join: {joined:?}"),
            _ => None,
        });
        assert_eq!(error.room, room, "{error:?}");
        self.ping();
        error.name
    }

    /// A heartbeat and its answer: everything the server sent before has been read by then.
    pub(crate) fn ping(&mut self) {
        self.send(client_frame::Body::Ping(v1::Ping {}));
        self.take("pong", |body| matches!(body, Body::Pong(_)).then_some(()));
    }

    /// Frames of a kind that were read and not asked for.
    pub(crate) fn has_unread(&self, is_it: impl Fn(&Body) -> bool) -> bool {
        self.unread.iter().any(is_it)
    }

    /// Reads counts of a room until one fits.
    pub(crate) fn count(&mut self, what: &str, fits: impl Fn(&v1::Count) -> bool) -> v1::Count {
        loop {
            while let Some(count) = self.counts.pop_front() {
                if fits(&count) {
                    return count;
                }
            }
            self.read_one(what);
        }
    }

    /// The next frame but counts, which come when they like.
    pub(crate) fn next(&mut self) -> Body {
        self.take("a frame", |body| Some(body.clone()))
    }

    /// The first frame that fits; what comes before it stays unread.
    pub(crate) fn take<T>(&mut self, what: &str, fits: impl Fn(&Body) -> Option<T>) -> T {
        let mut seen = 0;
        loop {
            while seen < self.unread.len() {
                if let Some(found) = fits(&self.unread[seen]) {
                    self.unread.remove(seen);
                    return found;
                }
                seen += 1;
            }
            self.read_one(what);
        }
    }

    /// Whether a stored message with this seq has come, as far as was read.
    pub(crate) fn was_pushed(&self, seq: u64) -> bool {
        let has = |stored: &v1::Stored| stored.messages.iter().any(|m| m.seq == seq);
        self.unread.iter().any(|body| matches!(body, Body::Stored(stored) if has(stored)))
    }

    fn read_one(&mut self, what: &str) {
        match self.hear(what) {
            Heard::Frame(Body::Count(count)) => self.counts.push_back(count),
            Heard::Frame(body) => self.unread.push_back(body),
            other => panic!("waited for {what}: {other:?}, unread {:?}", self.unread),
        }
    }

    /// Reads to the end of the stream.
    pub(crate) fn ended(&mut self) -> Ended {
        let mut ended = Ended { error: None, close: None };
        let mut last = self.unread.drain(..).next_back();
        loop {
            match self.hear("the end") {
                Heard::Frame(Body::Count(_)) | Heard::Pong(_) => {}
                Heard::Frame(body) => {
                    assert!(ended.close.is_none(), "a frame after the close: {body:?}");
                    last = Some(body);
                }
                Heard::Close(code) => ended.close = code.map(|(code, _)| code),
                Heard::End => break,
            }
        }
        if let Some(Body::Error(error)) = last {
            assert!(error.room.is_empty(), "an error that ends a connection names no room");
            ended.error = Some(error.name);
        }
        ended
    }

    /// Closes as a good client does: its side first, then it reads to the end.
    pub(crate) fn hang_up(mut self) {
        match &mut self.way {
            Way::Tcp(link, _) => link.socket.shutdown(std::net::Shutdown::Write).unwrap(),
            Way::WebSocket { socket, .. } => socket.close(None).unwrap(),
        }
        while !matches!(self.hear("the end"), Heard::End) {}
    }

    /// The session ends with this error, and a WebSocket with this close code.
    pub(crate) fn ends_with(&mut self, name: &str, close: u16) {
        let is_websocket = matches!(self.way, Way::WebSocket { .. });
        let close = is_websocket.then_some(close);
        assert_eq!(self.ended(), Ended { error: Some(name.into()), close });
    }

    pub(crate) fn send(&mut self, body: client_frame::Body) {
        self.try_send(body).unwrap();
    }

    /// The same, where the connection may be over.
    pub(crate) fn try_send(&mut self, body: client_frame::Body) -> Result<(), String> {
        match &mut self.way {
            Way::Tcp(link, _) => {
                let frame = v1::ClientFrame { body: Some(body) };
                let mut bytes = varint(frame.encoded_len());
                frame.encode(&mut bytes).unwrap();
                link.write_all(&bytes).map_err(|e| e.to_string())
            }
            Way::WebSocket { socket, json: true } => {
                socket.send(Message::text(json::write(&body))).map_err(|e| e.to_string())
            }
            Way::WebSocket { socket, json: false } => {
                let frame = v1::ClientFrame { body: Some(body) }.encode_to_vec();
                socket.send(Message::binary(frame)).map_err(|e| e.to_string())
            }
        }
    }

    /// Sends both, where the connection still takes it.
    pub(crate) fn try_to_join_and_leave(&mut self, room: &str) -> Result<(), String> {
        let room = room.to_owned();
        self.try_send(client_frame::Body::Join(v1::Join { room: room.clone(), resume: None }))?;
        self.try_send(client_frame::Body::Leave(v1::Leave { room }))
    }

    /// Sends one frame's content as it is: protobuf bytes, or JSON text.
    pub(crate) fn send_content(&mut self, protobuf: &[u8], json_text: &str) {
        match &mut self.way {
            Way::Tcp(link, _) => {
                link.write_all(&[&varint(protobuf.len()), protobuf].concat()).unwrap();
            }
            Way::WebSocket { socket, json: true } => {
                socket.send(Message::text(json_text)).unwrap();
            }
            Way::WebSocket { socket, json: false } => {
                socket.send(Message::binary(protobuf.to_vec())).unwrap();
            }
        }
    }

    /// A WebSocket's own tungstenite side.
    pub(crate) fn websocket(&mut self) -> &mut WebSocket<Link> {
        match &mut self.way {
            Way::WebSocket { socket, .. } => socket,
            Way::Tcp(..) => panic!("this test is for WebSocket"),
        }
    }

    /// The socket below, for bytes no client would send.
    pub(crate) fn link(&mut self) -> &mut Link {
        match &mut self.way {
            Way::WebSocket { socket, .. } => socket.get_mut(),
            Way::Tcp(link, _) => link,
        }
    }

    /// Whatever comes next, within the deadline.
    pub(crate) fn hear(&mut self, what: &str) -> Heard {
        let end = Instant::now() + DEADLINE;
        match &mut self.way {
            Way::Tcp(link, input) => loop {
                if let Some(body) = tcp_frame(input) {
                    return Heard::Frame(body);
                }
                let mut bytes = [0; 65_536];
                wait_at_most(&link.socket, end);
                match link.read(&mut bytes) {
                    Ok(0) => {
                        assert!(input.is_empty(), "the stream ends within a frame");
                        return Heard::End;
                    }
                    Ok(count) => input.extend_from_slice(&bytes[..count]),
                    Err(error) => panic!("waited for {what}: {error}"),
                }
            },
            Way::WebSocket { socket, json } => loop {
                wait_at_most(&socket.get_ref().socket, end);
                return match socket.read() {
                    Ok(Message::Text(text)) if *json => Heard::Frame(json::read(&text)),
                    Ok(Message::Binary(bytes)) if !*json => Heard::Frame(decoded(&bytes)),
                    Ok(Message::Pong(bytes)) => Heard::Pong(bytes.to_vec()),
                    Ok(Message::Ping(_)) => continue,
                    Ok(Message::Close(frame)) => {
                        Heard::Close(frame.map(|f| (f.code.into(), f.reason.to_string())))
                    }
                    Ok(other) => panic!("waited for {what}: {other:?}"),
                    Err(Error::ConnectionClosed) => Heard::End,
                    Err(error) => panic!("waited for {what}: {error}"),
                };
            },
        }
    }
}

fn wait_at_most(socket: &TcpStream, end: Instant) {
    let left = end.saturating_duration_since(Instant::now());
    socket.set_read_timeout(Some(left.max(Duration::from_millis(1)))).unwrap();
}

/// Takes the first whole frame off the input.
pub(crate) fn tcp_frame(input: &mut Vec<u8>) -> Option<Body> {
    let mut length = 0;
    for (place, byte) in input.iter().enumerate() {
        assert!(place < 5, "a length has at most 5 bytes here");
        length |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            let (from, to) = (place + 1, place + 1 + length);
            let body = decoded(input.get(from..to)?);
            input.drain(..to);
            return Some(body);
        }
    }
    None
}

fn decoded(bytes: &[u8]) -> Body {
    let frame = v1::ServerFrame::decode(bytes).expect("a frame of the server is protobuf");
    frame.body.expect("a frame of the server has a body this side knows")
}

/// A length as protobuf writes it.
pub(crate) fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// Reads a stream to its end: what a refused connection was told.
pub(crate) fn read_to_end(socket: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match socket.read_to_end(&mut bytes) {
        Ok(_) => bytes,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {
            panic!("reset after {} bytes: an error frame may be lost so", bytes.len())
        }
        Err(error) => panic!("{error} after {} bytes", bytes.len()),
    }
}

/// The name of the error in an error frame of binary TCP, which must be all there is.
pub(crate) fn tcp_error(mut bytes: Vec<u8>) -> String {
    let body = tcp_frame(&mut bytes);
    assert!(bytes.is_empty(), "one frame, nothing else: {bytes:?}");
    match body {
        Some(Body::Error(error)) => error.name,
        other => panic!("an error frame: {other:?}"),
    }
}
