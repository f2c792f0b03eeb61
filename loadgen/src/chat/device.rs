//! One device: a socket and the client contract, connected again whenever the socket is gone.
//!
//! Owns the connection. What it hears goes out through a channel, in order; what it is to send
//! comes in through another.

use super::Plan;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use uproar_proto::inbox::{Inbox, Said};
use uproar_proto::v1::{self, client_frame, server_frame::Body};
use uproar_proto::wire::{ClientDecoder, RawFrame, Variant, decode_server, encode_client};

/// A frame of a server is at most this large.
const FRAME_BYTES_MAX: usize = 1 << 20;
/// Pause before it connects again: as an app would, only sooner.
const RECONNECT: Duration = Duration::from_millis(50);
/// Sooner than any server asks for.
const PING_EVERY: Duration = Duration::from_secs(20);
const READ_BYTES: usize = 64 * 1024;

/// What a device is told.
#[derive(Debug)]
pub(super) enum Told {
    /// Send this message.
    Send(v1::Send),
    /// The user has read a conversation up to here.
    Mark(String, u64),
    /// Lose the socket, without a word.
    Kill,
}

/// What a device tells.
#[expect(clippy::large_enum_variant, reason = "nearly all are of the large kind")]
#[derive(Debug)]
pub(super) enum Heard {
    /// See [`Said`]; when it came.
    Said(Said, Instant),
    /// How many have read; when it came.
    Receipts(v1::Receipts, Instant),
    /// The first answer that held something missed: how long after the connect began.
    FirstPage(Duration),
    /// It was welcomed.
    Connected,
    /// The socket was lost, and not by the tester: why.
    Lost(String),
}

/// Figures of one device, once it has ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ended {
    pub(super) connects: u64,
    pub(super) requests: u64,
    pub(super) duplicates: u64,
    pub(super) unanswered: u64,
}

/// A device that does not run yet, and the ends of its channels.
pub(super) type NewDevice = (Device, mpsc::UnboundedSender<Told>, mpsc::UnboundedReceiver<Heard>);

pub(super) struct Device {
    target: std::net::SocketAddr,
    token: String,
    inbox: Inbox,
    begun: Instant,
    told: mpsc::UnboundedReceiver<Told>,
    heard: mpsc::UnboundedSender<Heard>,
    connects: u64,
}

impl Device {
    /// A device of a user, and the ends of its channels.
    pub(super) fn new(plan: &Plan, user: &str) -> Result<NewDevice, String> {
        let (tell, told) = mpsc::unbounded_channel();
        let (heard, hear) = mpsc::unbounded_channel();
        let device = Device {
            target: plan.target,
            token: plan.minter.mint(user.to_owned(), &["chat"])?,
            inbox: Inbox::default(),
            begun: Instant::now(),
            told,
            heard,
            connects: 0,
        };
        Ok((device, tell, hear))
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Runs until its channel is closed.
    pub(super) async fn run(mut self) -> Ended {
        loop {
            match self.session().await {
                Ok(true) => break,
                Ok(false) => {}
                Err(why) => {
                    let _ = self.heard.send(Heard::Lost(why));
                }
            }
            tokio::time::sleep(RECONNECT).await;
        }
        Ended {
            connects: self.connects,
            requests: self.inbox.requests(),
            duplicates: self.inbox.duplicates(),
            unanswered: self.inbox.unanswered() as u64,
        }
    }

    /// Takes a frame in.
    fn received(&mut self, body: &Body) -> Result<(), String> {
        match body {
            Body::Welcome(_) => {
                self.connects += 1;
                let _ = self.heard.send(Heard::Connected);
            }
            Body::Receipts(receipts) => {
                let _ = self.heard.send(Heard::Receipts(receipts.clone(), Instant::now()));
            }
            Body::Error(error) if !error.retry => {
                return Err(format!("{}: {}", error.name, error.text));
            }
            _ => {}
        }
        let now = Instant::now();
        for said in self.inbox.receive(body, self.now_ms()) {
            let _ = self.heard.send(Heard::Said(said, now));
        }
        Ok(())
    }

    /// What is to be sent at once for what it was told.
    fn obeyed(&mut self, told: Told, welcomed: bool) -> Vec<client_frame::Body> {
        let frames = match told {
            Told::Send(send) => self.inbox.send(send, self.now_ms()),
            Told::Mark(conversation, seq) => self.inbox.mark(&conversation, seq, self.now_ms()),
            Told::Kill => Vec::new(),
        };
        // What is under way without a connection is sent by the next one.
        if welcomed { frames } else { Vec::new() }
    }

    /// One connection. `Ok(true)`: told to end; `Ok(false)`: told to lose it.
    async fn session(&mut self) -> Result<bool, String> {
        let began = Instant::now();
        let mut socket = TcpStream::connect(self.target).await.map_err(|e| e.to_string())?;
        let _ = socket.set_nodelay(true); // only delays where it fails
        let connect = v1::Connect {
            token: self.token.clone(),
            agent: "uproar-loadgen".into(),
            inbox: true,
            ..v1::Connect::default()
        };
        let mut out = b"UPR1".to_vec();
        encode_client(&client_frame::Body::Connect(connect), Variant::Tcp, [0; 4], &mut out);
        let mut decoder = ClientDecoder::new(Variant::Tcp, FRAME_BYTES_MAX);
        let mut buffer = vec![0; READ_BYTES];
        let (mut welcomed, mut first_page) = (false, false);
        let mut pinged = began;
        loop {
            if !out.is_empty() {
                socket.write_all(&out).await.map_err(|e| e.to_string())?;
                out.clear();
            }
            let due_ms = self.inbox.next_due_ms().filter(|_| welcomed);
            let wait = due_ms.map_or(PING_EVERY, |due| {
                Duration::from_millis(due.saturating_sub(self.now_ms()).max(1))
            });
            if welcomed && pinged.elapsed() >= PING_EVERY {
                pinged = Instant::now();
                let ping = client_frame::Body::Ping(v1::Ping {});
                encode_client(&ping, Variant::Tcp, [0; 4], &mut out);
                continue;
            }
            let mut frames = Vec::new();
            tokio::select! {
                read = socket.read(&mut buffer) => {
                    let length = read.map_err(|e| e.to_string())?;
                    if length == 0 {
                        return Err("the server closed the connection".into());
                    }
                    decoder.feed(&buffer[..length]);
                    for body in decoded(&mut decoder)? {
                        if !first_page && matches!(&body, Body::Pulled(p) if !p.parts.is_empty()) {
                            first_page = true;
                            let _ = self.heard.send(Heard::FirstPage(began.elapsed()));
                        }
                        if let Body::Reconnect(_) = body {
                            return Ok(false);
                        }
                        welcomed |= matches!(body, Body::Welcome(_));
                        self.received(&body)?;
                    }
                }
                told = self.told.recv() => match told {
                    None => return Ok(true),
                    Some(Told::Kill) => {
                        // A reset: what is under way either way is gone.
                        let _ = socket.set_zero_linger();
                        return Ok(false);
                    }
                    Some(told) => frames.extend(self.obeyed(told, welcomed)),
                },
                () = tokio::time::sleep(wait) => {}
            }
            if welcomed {
                frames.extend(self.inbox.due(self.now_ms()));
            }
            for frame in &frames {
                encode_client(frame, Variant::Tcp, [0; 4], &mut out);
            }
        }
    }
}

fn decoded(decoder: &mut ClientDecoder) -> Result<Vec<Body>, String> {
    let mut bodies = Vec::new();
    let failed = |code: uproar_proto::error::Code| format!("undecodable: {}", code.name());
    while let Some(frame) = decoder.next_raw().map_err(failed)? {
        if let RawFrame::Message { payload, compressed } = frame {
            let body = decode_server(Variant::Tcp, payload, compressed, FRAME_BYTES_MAX);
            bodies.extend(body.map_err(failed)?);
        }
    }
    Ok(bodies)
}
