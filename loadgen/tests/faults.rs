//! A server that lies, in every way the tester promises to notice.
//!
//! Each test plants one fault in an otherwise right server and demands the check that is named
//! after it: a tester that cannot fail proves nothing.

use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use uproar_proto::v1::{self, client_frame, server_frame::Body};
use uproar_proto::wire::{Decoder, Incoming, Variant, encode_server};

const EPOCH: u64 = 77;

/// What the server does wrong, with its 10th message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// Sends it twice to everybody.
    Twice,
    /// Sends it to nobody, and skips its seq.
    Lost,
    /// Withholds it from one connection, without a gap.
    LostForOne,
    /// Sends it to one connection behind the 11th.
    Late,
    /// Changes a letter of it.
    Changed,
    /// Changes the sender's name for one connection: the content's checksum does not cover it.
    OtherUser,
    /// Says nothing of it to its sender.
    NoVerdict,
    /// Tells its sender it was shed, and delivers it.
    WrongVerdict,
    /// Tells its sender another seq.
    WrongSeq,
    /// Closes one connection.
    Hangup,
    /// Sends one connection a frame that is none.
    Garbage,
    /// Tells one connection of a gap that was none, and goes on.
    FalseGap,
}

struct Room {
    fault: Fault,
    seq: u64,
    messages: u64,
    /// Everybody in the room, and whether it has published.
    members: Vec<(TcpStream, bool)>,
    held_back: Option<Vec<u8>>,
}

fn bytes(body: Body) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_server(&body, Variant::Tcp, &mut bytes);
    bytes
}

fn batch(message: v1::Message) -> Vec<u8> {
    bytes(Body::Batch(v1::Batch { room: "load".into(), epoch: EPOCH, messages: vec![message] }))
}

/// The text with another last letter: in the checksum, not in the number of the run (with that
/// changed it would be another tester's message, which is none of this one's business).
fn changed(text: &str) -> String {
    let other = if text.ends_with('0') { '1' } else { '0' };
    text.chars().take(text.len() - 1).chain([other]).collect()
}

impl Room {
    fn publish(&mut self, sender: &mut TcpStream, publish: v1::Publish) {
        self.messages += 1;
        self.seq += 1;
        // The fault of this very message.
        let fault = if self.messages == 10 { self.fault } else { Fault::None };
        let text = match publish.content {
            Some(v1::publish::Content::Text(text)) => text,
            _ => String::new(),
        };
        let text = if fault == Fault::Changed { changed(&text) } else { text };
        let message = v1::Message {
            seq: self.seq,
            user: "somebody".into(),
            content: Some(v1::message::Content::Text(text)),
            client_msg_id: publish.client_msg_id.clone(),
            ..v1::Message::default()
        };
        let sender_address = sender.peer_addr().ok();
        for (member, publishes) in &mut self.members {
            *publishes |= member.peer_addr().ok() == sender_address;
        }
        // Both publishers have published by the time of any fault.
        let chosen = self.members.iter().position(|(_, publishes)| !publishes);
        for place in 0..self.members.len() {
            let out = match (fault, Some(place) == chosen) {
                (Fault::Twice, _) => [batch(message.clone()), batch(message.clone())].concat(),
                (Fault::Lost, _) => Vec::new(),
                (_, true) => self.for_the_chosen(fault, &message),
                _ => batch(message.clone()),
            };
            let member = &mut self.members[place].0;
            let _ = member.write_all(&out);
            if (fault, Some(place)) == (Fault::Hangup, chosen) {
                let _ = member.shutdown(std::net::Shutdown::Both);
            }
        }
        self.answer(sender, fault, publish.client_msg_id);
    }

    /// What the one connection gets that some faults are about.
    fn for_the_chosen(&mut self, fault: Fault, message: &v1::Message) -> Vec<u8> {
        let mut right = batch(message.clone());
        match fault {
            Fault::LostForOne | Fault::Hangup => Vec::new(),
            Fault::Late => {
                self.held_back = Some(right);
                Vec::new()
            }
            Fault::OtherUser => batch(v1::Message { user: "nobody".into(), ..message.clone() }),
            Fault::FalseGap => {
                let (from_seq, to_seq) = (self.seq + 5, self.seq + 6);
                let gap = v1::Gap { epoch: EPOCH, from_seq, to_seq, ..v1::Gap::default() };
                [right, bytes(Body::Gap(gap))].concat()
            }
            Fault::Garbage => vec![3, 0xff, 0xff, 0xff],
            _ => {
                right.extend(self.held_back.take().unwrap_or_default());
                right
            }
        }
    }

    fn answer(&self, sender: &mut TcpStream, fault: Fault, client_msg_id: bytes::Bytes) {
        let mut verdict = v1::Verdict { client_msg_id, seq: self.seq, ..v1::Verdict::default() };
        match fault {
            Fault::NoVerdict => return,
            Fault::WrongVerdict => verdict.outcome = v1::Outcome::Shed as i32,
            Fault::WrongSeq => verdict.seq += 1,
            _ => {}
        }
        let verdicts = v1::Verdicts { room: "load".into(), verdicts: vec![verdict] };
        let _ = sender.write_all(&bytes(Body::Verdicts(verdicts)));
    }
}

/// One connection of the lying server, until its end.
fn serve(mut stream: TcpStream, room: &Mutex<Room>) -> std::io::Result<()> {
    let mut magic = [0; 4];
    stream.read_exact(&mut magic)?;
    assert_eq!(&magic, b"UPR1");
    let mut decoder = Decoder::new(Variant::Tcp, 1 << 20);
    let mut buffer = [0; 4096];
    loop {
        while let Ok(Some(incoming)) = decoder.next() {
            let Incoming::Frame(frame) = incoming else { continue };
            // Under the lock: no two threads write to one connection at a time.
            let mut room = room.lock().expect("no panic under the lock");
            match frame {
                client_frame::Body::Connect(_) => {
                    let welcome = v1::Welcome { ping_every_s: 60, ..v1::Welcome::default() };
                    let joined = v1::Joined {
                        room: "load".into(),
                        epoch: EPOCH,
                        seq: room.seq,
                        ..v1::Joined::default()
                    };
                    stream.write_all(&bytes(Body::Welcome(welcome)))?;
                    stream.write_all(&bytes(Body::Joined(joined)))?;
                    room.members.push((stream.try_clone()?, false));
                }
                client_frame::Body::Publish(publish) => room.publish(&mut stream, publish),
                _ => {}
            }
        }
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            n => decoder.feed(&buffer[..n]),
        }
    }
}

fn lying_server(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let room = Room { fault, seq: 41, messages: 0, members: Vec::new(), held_back: None };
    let room = Arc::new(Mutex::new(room));
    // Ends with the test process; connections end with their clients.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let room = Arc::clone(&room);
            thread::spawn(move || serve(stream, &room));
        }
    });
    address
}

/// The checks that failed against a server with this fault, but for those of a busy machine.
fn failed(fault: Fault) -> Vec<String> {
    let address = lying_server(fault);
    let file =
        std::env::temp_dir().join(format!("uproar-loadgen-{}-{fault:?}.json", std::process::id()));
    let status = Command::new(env!("CARGO_BIN_EXE_uproar-loadgen"))
        .args(
            "live --viewers 4 --publishers 2 --threads 1 --duration 1s --warmup 0s --metrics off"
                .split(' '),
        )
        .args(["--target", &address.to_string(), "--json"])
        .arg(&file)
        .output()
        .expect("the binary starts")
        .status;
    let text = std::fs::read_to_string(&file).expect("it wrote its file");
    let _ = std::fs::remove_file(&file);
    let json: Value = serde_json::from_str(&text).expect("JSON");
    let names = json["checks_failed"].as_array().expect("names").iter().filter_map(Value::as_str);
    let names: Vec<String> = names.filter(|n| *n != "tester_limited").map(str::to_owned).collect();
    assert_eq!(status.success(), json["checks_failed"] == Value::Array(vec![]), "{fault:?}");
    names
}

#[test]
fn a_right_server_passes() {
    assert_eq!(failed(Fault::None), Vec::<String>::new());
}

#[test]
fn a_message_sent_twice_is_noticed() {
    assert_eq!(failed(Fault::Twice), ["duplicates"]);
}

#[test]
fn a_message_that_nobody_got_is_noticed() {
    assert_eq!(failed(Fault::Lost), ["unannounced_gap", "delivered_share", "equal_content"]);
}

#[test]
fn a_message_that_one_viewer_lacks_is_noticed() {
    assert_eq!(failed(Fault::LostForOne), ["unannounced_gap", "delivered_share"]);
}

#[test]
fn a_message_out_of_order_is_noticed() {
    assert_eq!(failed(Fault::Late), ["out_of_order", "unannounced_gap", "delivered_share"]);
}

#[test]
fn a_changed_message_is_noticed() {
    assert_eq!(failed(Fault::Changed), ["content", "delivered_share"]);
}

#[test]
fn different_content_for_one_viewer_is_noticed() {
    assert_eq!(failed(Fault::OtherUser), ["content", "equal_content"]);
}

#[test]
fn a_missing_verdict_is_noticed() {
    assert_eq!(failed(Fault::NoVerdict), ["accounting", "verdicts"]);
}

#[test]
fn a_wrong_verdict_is_noticed() {
    assert_eq!(failed(Fault::WrongVerdict), ["verdicts"]);
    assert_eq!(failed(Fault::WrongSeq), ["verdicts"]);
}

#[test]
fn a_connection_closed_without_a_word_is_noticed() {
    assert_eq!(failed(Fault::Hangup), ["connection_lost", "delivered_share"]);
}

#[test]
fn bytes_that_are_no_frame_are_noticed() {
    assert_eq!(failed(Fault::Garbage), ["connection_lost", "protocol", "delivered_share"]);
}

#[test]
fn a_gap_that_does_not_fit_is_noticed() {
    let names = failed(Fault::FalseGap);
    assert!(names.contains(&"protocol".to_owned()), "{names:?}");
}
