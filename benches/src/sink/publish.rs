//! One publisher at a steady rate, for servers of uproar: each message carries the time at which
//! it was due. Owns its connection; what it publishes reaches the viewers, not this file.

use super::hello::{Hello, Opening, connect_frame, tcp_opening};
use super::read::{Found, Framing, Reader};
use crate::sys;
use prost::Message as _;
use serde::Serialize;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;
use uproar_proto::v1::{ClientFrame, Publish, client_frame::Body, publish::Content};

/// What became of the messages so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Written to the server.
    pub offered: u64,
    /// Verdicts that say accepted.
    pub accepted: u64,
    /// Verdicts that say anything else.
    pub not_accepted: u64,
}

#[derive(Debug, Default)]
struct Shared {
    offered: AtomicU64,
    accepted: AtomicU64,
    not_accepted: AtomicU64,
    stop: AtomicBool,
}

/// A publisher at work.
#[derive(Debug)]
pub struct Publisher {
    shared: Arc<Shared>,
    stream: TcpStream,
    writer: JoinHandle<()>,
    reader: JoinHandle<()>,
}

impl Publisher {
    /// Connects, joins `room`, and publishes `payload` bytes `rate` times a second.
    ///
    /// # Errors
    /// The server does not take the connection.
    pub fn start(
        target: SocketAddrV4,
        room: &str,
        sign_in: Option<&str>,
        rate: f64,
        payload: usize,
    ) -> io::Result<Publisher> {
        let token = Opening::new(Hello::Tcp, room, sign_in)?.token("publisher")?;
        let mut stream = TcpStream::connect(target)?;
        stream.set_nodelay(true)?;
        stream.write_all(&tcp_opening(&connect_frame(token, room)))?;
        let shared = Arc::new(Shared::default());
        let (to_read, to_write) = (stream.try_clone()?, stream.try_clone()?);
        let (room, for_writer, for_reader) = (room.to_owned(), shared.clone(), shared.clone());
        Ok(Publisher {
            writer: std::thread::spawn(move || {
                if let Err(e) = write(to_write, &room, rate, payload, &for_writer) {
                    eprintln!("publisher: {e}");
                }
            }),
            reader: std::thread::spawn(move || read(to_read, &for_reader)),
            shared,
            stream,
        })
    }

    /// The counters now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            offered: self.shared.offered.load(Relaxed),
            accepted: self.shared.accepted.load(Relaxed),
            not_accepted: self.shared.not_accepted.load(Relaxed),
        }
    }

    /// Stops and closes.
    pub fn stop(self) {
        self.shared.stop.store(true, Relaxed);
        let _ = self.writer.join(); // a panic of the writer was printed when it happened
        let _ = self.stream.shutdown(Shutdown::Both); // it may be closed already
        let _ = self.reader.join();
    }
}

/// The frame of message number `number`, due at `due_ns`.
fn publish_frame(room: &str, number: u64, due_ns: u64, payload: usize) -> ClientFrame {
    let mut data = due_ns.to_le_bytes().to_vec();
    data.resize(payload, b'u');
    ClientFrame {
        body: Some(Body::Publish(Publish {
            room: room.to_owned(),
            client_msg_id: number.to_be_bytes().to_vec().into(),
            content: Some(Content::Data(data.into())),
            ..Publish::default()
        })),
    }
}

fn write(
    mut stream: TcpStream,
    room: &str,
    rate: f64,
    payload: usize,
    shared: &Shared,
) -> io::Result<()> {
    let begun_ns = sys::monotonic_ns();
    for number in 0.. {
        let due_ns = begun_ns + (number as f64 * 1e9 / rate) as u64;
        let wait = Duration::from_nanos(due_ns.saturating_sub(sys::monotonic_ns()));
        std::thread::sleep(wait);
        if shared.stop.load(Relaxed) {
            break;
        }
        let frame = publish_frame(room, number, due_ns, payload);
        stream.write_all(&frame.encode_length_delimited_to_vec())?;
        shared.offered.fetch_add(1, Relaxed);
    }
    Ok(())
}

fn read(mut stream: TcpStream, shared: &Shared) {
    let mut reader = Reader::new(Framing::Tcp);
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(got @ 1..) = stream.read(&mut buffer) {
        reader.push(&buffer[..got], |found| match found {
            Found::Verdicts(accepted, others) => {
                shared.accepted.fetch_add(u64::from(accepted), Relaxed);
                shared.not_accepted.fetch_add(u64::from(others), Relaxed);
            }
            Found::Refused(why) => eprintln!("publisher: {why}"),
            _ => {}
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_published_message_carries_when_it_was_due() {
        let Some(Body::Publish(publish)) = publish_frame("r", 3, 77, 256).body else {
            panic!("it is a publish");
        };
        let Some(Content::Data(data)) = publish.content else { panic!("it has data") };
        assert_eq!(data.len(), 256);
        assert_eq!(data[..8], 77_u64.to_le_bytes());
        assert_eq!(publish.client_msg_id.len(), 8);
    }
}
