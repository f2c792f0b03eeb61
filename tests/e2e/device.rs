//! A device that keeps to the client contract and comes back whenever its connection is gone.
//!
//! Owns the connection, and nothing it hears. Binary TCP, written out here as in `client.rs`; what
//! is due when is `uproar_proto::inbox`'s. A server that is away is no failure here.

use crate::client::{tcp_frame, varint};
use crate::tokens::plain;
use prost::Message as _;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};
use uproar_proto::inbox::{Inbox, Said};
use uproar_proto::v1::{self, client_frame, server_frame::Body};

/// Between two looks at what is due, and before a device connects again.
const LOOK: Duration = Duration::from_millis(5);
/// A server that lives takes a connection sooner.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// A connection that may end at any moment.
pub(crate) struct Session {
    socket: TcpStream,
    input: Vec<u8>,
}

impl Session {
    /// A connection of a user with its inbox; the welcome is still to come.
    pub(crate) fn open(server: SocketAddr, user: &str) -> std::io::Result<Session> {
        let socket = TcpStream::connect_timeout(&server, CONNECT_MAX)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(LOOK))?;
        socket.set_write_timeout(Some(CONNECT_MAX))?;
        let mut session = Session { socket, input: Vec::new() };
        session.socket.write_all(b"UPR1")?;
        let connect = v1::Connect { token: plain(user), inbox: true, ..v1::Connect::default() };
        session.send(client_frame::Body::Connect(connect))?;
        Ok(session)
    }

    pub(crate) fn send(&mut self, body: client_frame::Body) -> std::io::Result<()> {
        let frame = v1::ClientFrame { body: Some(body) };
        let mut bytes = varint(frame.encoded_len());
        frame.encode(&mut bytes).unwrap();
        self.socket.write_all(&bytes)
    }

    /// What has come, after a short wait; perhaps nothing.
    pub(crate) fn hear(&mut self) -> std::io::Result<Vec<Body>> {
        let mut bytes = [0; 65_536];
        match self.socket.read(&mut bytes) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => self.input.extend_from_slice(&bytes[..count]),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                _ => return Err(error),
            },
        }
        Ok(std::iter::from_fn(|| tcp_frame(&mut self.input)).collect())
    }
}

pub(crate) struct Device {
    server: SocketAddr,
    user: String,
    pub(crate) inbox: Inbox,
    begun: Instant,
    session: Option<Session>,
    welcomed: bool,
    /// What was refused for good.
    pub(crate) refused: Vec<String>,
}

impl Device {
    pub(crate) fn new(server: SocketAddr, user: &str) -> Device {
        let user = user.to_owned();
        let (inbox, begun) = (Inbox::default(), Instant::now());
        let refused = Vec::new();
        Device { server, user, inbox, begun, session: None, welcomed: false, refused }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap()
    }

    /// Sends a message, now or as soon as it can be.
    pub(crate) fn send(&mut self, send: v1::Send) {
        let frames = self.inbox.send(send, self.now_ms());
        self.put(frames);
    }

    /// Does what is due, and what has come means.
    pub(crate) fn turn(&mut self) -> Vec<Said> {
        let heard = match &mut self.session {
            Some(session) => session.hear(),
            None => Session::open(self.server, &self.user).map(|session| {
                (self.session, self.welcomed) = (Some(session), false);
                Vec::new()
            }),
        };
        let Ok(heard) = heard else {
            self.session = None;
            thread::sleep(LOOK);
            return Vec::new();
        };
        let mut said = Vec::new();
        for body in heard {
            let now_ms = self.now_ms();
            self.welcomed |= matches!(body, Body::Welcome(_));
            match body {
                Body::Error(error) if !error.retry => {
                    self.refused.push(format!("{}: {error:?}", self.user));
                }
                body => said.extend(self.inbox.receive(&body, now_ms)),
            }
        }
        let frames = self.inbox.due(self.now_ms());
        self.put(frames);
        said
    }

    /// What cannot be sent now is asked for again by the next connection.
    fn put(&mut self, frames: Vec<client_frame::Body>) {
        for frame in frames {
            let session = self.session.as_mut().filter(|_| self.welcomed);
            if session.is_some_and(|session| session.send(frame).is_err()) {
                self.session = None;
            }
        }
    }
}
