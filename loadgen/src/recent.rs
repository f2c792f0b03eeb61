//! Decoding once what a crowd receives many times.
//!
//! A room's viewers get the same bytes, so a thread keeps the last few byte strings it decoded
//! beside what they meant, compared in full (a comparison runs at memory speed, and nothing is
//! taken for equal that is not). Owns decoding of server frames and the ledger of everything seen.
//! Never keeps anything about a single viewer.

use crate::dice::{digest, mix};
use crate::payload::{self, Read};
use crate::viewer::{Batch, Item};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use uproar_proto::error::Code;
use uproar_proto::v1::{self, message, server_frame::Body};
use uproar_proto::wire::{ClientDecoder, RawFrame, Variant, decode_server};

/// The largest frame taken in: a snapshot of 20 messages of 16 KiB as JSON with escapes, and more.
const FRAME_BYTES_MAX: usize = 4 << 20;
/// Byte strings kept: a batch may be met whole, cut, and joined with its neighbours, by viewers
/// that are a few batches apart.
const KEPT_MAX: usize = 48;
/// Longer strings are decoded each time: they are snapshots, met once.
const KEPT_BYTES_MAX: usize = 256 << 10;

/// One frame as a viewer is handed it.
#[derive(Clone, Debug)]
pub(crate) enum Frame {
    /// Shared with every viewer that got the same bytes.
    Batch(Rc<Batch>),
    /// Everything else.
    Body(Rc<Body>),
    /// A WebSocket ping: to be answered with the same bytes.
    Ping(Rc<[u8]>),
    /// A WebSocket close.
    Close(Option<u16>),
}

/// A message as it was first seen on a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) digest: u64,
    /// (publisher, number), where it is of this run.
    pub(crate) ours: Option<(u32, u32)>,
    pub(crate) measured: bool,
}

/// Every message a thread saw, by (epoch, seq), and what was wrong with contents.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) seen: HashMap<(u64, u64), Seen>,
    /// Contents that claim to be of this run and do not match their checksum.
    pub(crate) damaged: u64,
    /// The same place in the stream with two different contents.
    pub(crate) conflicting: u64,
    /// Places of live messages (not of a snapshot) that are not of this run.
    pub(crate) foreign: HashSet<(u64, u64)>,
}

impl Ledger {
    /// Adds what another thread saw.
    pub(crate) fn add(&mut self, other: &Ledger) {
        self.damaged += other.damaged;
        self.conflicting += other.conflicting;
        self.foreign.extend(&other.foreign);
        for (place, seen) in &other.seen {
            self.note(*place, *seen);
        }
    }

    fn note(&mut self, place: (u64, u64), seen: Seen) {
        let first = *self.seen.entry(place).or_insert(seen);
        if first != seen {
            self.conflicting += 1;
        }
    }
}

/// A few byte strings and what they mean; the latest found is looked at first.
struct Kept<V> {
    entries: Vec<(Box<[u8]>, V)>,
    latest: usize,
    oldest: usize,
}

impl<V: Clone> Kept<V> {
    fn new() -> Kept<V> {
        Kept { entries: Vec::new(), latest: 0, oldest: 0 }
    }

    fn find(&mut self, bytes: &[u8]) -> Option<V> {
        let n = self.entries.len();
        for step in 0..n {
            let place = (self.latest + n - step) % n;
            if *self.entries[place].0 == *bytes {
                self.latest = place;
                return Some(self.entries[place].1.clone());
            }
        }
        None
    }

    fn keep(&mut self, bytes: &[u8], value: V) {
        if bytes.len() > KEPT_BYTES_MAX {
            return;
        }
        let entry = (Box::from(bytes), value);
        if self.entries.len() < KEPT_MAX {
            self.entries.push(entry);
            self.latest = self.entries.len() - 1;
        } else {
            self.entries[self.oldest] = entry;
            self.latest = self.oldest;
            self.oldest = (self.oldest + 1) % KEPT_MAX;
        }
    }
}

/// See the module.
pub(crate) struct Reader {
    variant: Variant,
    run: u32,
    /// Whole receives that were nothing but whole shared frames.
    receives: Kept<Rc<[Frame]>>,
    /// Payloads of shared frames, for receives that were cut elsewhere.
    payloads: Kept<Frame>,
    pub(crate) ledger: Ledger,
    /// Frames received, and how many had to be decoded.
    pub(crate) frames: u64,
    pub(crate) decoded: u64,
}

impl Reader {
    pub(crate) fn new(variant: Variant, run: u32) -> Reader {
        Reader {
            variant,
            run,
            receives: Kept::new(),
            payloads: Kept::new(),
            ledger: Ledger::default(),
            frames: 0,
            decoded: 0,
        }
    }

    /// The frames that `bytes` complete, in order; the rest stays in `partial`, which is `None`
    /// between frames.
    ///
    /// # Errors
    /// The rule the server broke.
    pub(crate) fn read(
        &mut self,
        bytes: &[u8],
        partial: &mut Option<Box<ClientDecoder>>,
    ) -> Result<Rc<[Frame]>, Code> {
        if partial.is_none()
            && let Some(frames) = self.receives.find(bytes)
        {
            self.frames += frames.len() as u64;
            return Ok(frames);
        }
        let whole = partial.is_none();
        let mut decoder = partial
            .take()
            .unwrap_or_else(|| Box::new(ClientDecoder::new(self.variant, FRAME_BYTES_MAX)));
        decoder.feed(bytes);
        let mut frames = Vec::new();
        let mut shared = whole;
        while let Some(raw) = decoder.next_raw()? {
            let frame = match raw {
                RawFrame::Message { payload, compressed } => {
                    match self.frame(payload, compressed)? {
                        Some((frame, is_shared)) => {
                            shared &= is_shared;
                            frame
                        }
                        None => continue, // a kind of a later version
                    }
                }
                RawFrame::Ping(payload) => Frame::Ping(Rc::from(payload)),
                RawFrame::Pong => continue,
                RawFrame::Close { code } => Frame::Close(code),
            };
            shared &= !matches!(frame, Frame::Ping(_) | Frame::Close(_));
            frames.push(frame);
        }
        let frames: Rc<[Frame]> = frames.into();
        self.frames += frames.len() as u64;
        if !decoder.is_idle() {
            *partial = Some(decoder);
        } else if shared && !frames.is_empty() {
            self.receives.keep(bytes, Rc::clone(&frames));
        }
        Ok(frames)
    }

    /// One frame, and whether others get the same bytes.
    fn frame(&mut self, payload: &[u8], compressed: bool) -> Result<Option<(Frame, bool)>, Code> {
        if let Some(frame) = self.payloads.find(payload) {
            return Ok(Some((frame, true)));
        }
        self.decoded += 1;
        let body = decode_server(self.variant, payload, compressed, FRAME_BYTES_MAX)?;
        let (frame, shared) = match body {
            None => return Ok(None),
            Some(Body::Batch(batch)) => {
                let items = self.items(batch.epoch, &batch.messages);
                for item in items.iter().filter(|item| !item.ours) {
                    self.ledger.foreign.insert((batch.epoch, item.seq));
                }
                (Frame::Batch(Rc::new(Batch::new(batch.epoch, items))), true)
            }
            Some(body @ (Body::Count(_) | Body::Pong(_))) => (Frame::Body(Rc::new(body)), true),
            Some(body) => (Frame::Body(Rc::new(body)), false),
        };
        if shared {
            self.payloads.keep(payload, frame.clone());
        }
        Ok(Some((frame, shared)))
    }

    /// Messages as items; each is checked and entered in the ledger.
    pub(crate) fn items(&mut self, epoch: u64, messages: &[v1::Message]) -> Vec<Item> {
        messages.iter().map(|message| self.item(epoch, message)).collect()
    }

    fn item(&mut self, epoch: u64, m: &v1::Message) -> Item {
        let content: &[u8] = match &m.content {
            Some(message::Content::Text(text)) => text.as_bytes(),
            Some(message::Content::Data(data)) => data,
            None => &[],
        };
        let read = payload::read(self.run, content);
        let (ours, due) = match read {
            Read::Ours(stamp) => {
                let due = stamp.measured.then_some(stamp.due);
                (Some((stamp.publisher, stamp.number)), due)
            }
            Read::Foreign => (None, None),
            Read::Damaged => {
                self.ledger.damaged += 1;
                (None, None)
            }
        };
        let header = mix(epoch ^ mix(m.seq ^ u64::from(m.class.unsigned_abs()) << 56));
        let digest = digest(digest(header, m.user.as_bytes()), content);
        let seen = Seen { digest, ours, measured: due.is_some() };
        self.ledger.note((epoch, m.seq), seen);
        Item { seq: m.seq, digest, due, ours: ours.is_some() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Stamp;
    use uproar_engine::seam::Tick;
    use uproar_proto::wire::encode_server;

    fn message(seq: u64, text: &str) -> v1::Message {
        let content = Some(message::Content::Text(text.into()));
        v1::Message { seq, content, ..v1::Message::default() }
    }

    fn batch(variant: Variant, messages: Vec<v1::Message>) -> Vec<u8> {
        let batch = v1::Batch { room: "r".into(), epoch: 7, messages };
        let mut bytes = Vec::new();
        encode_server(&Body::Batch(batch), variant, &mut bytes);
        bytes
    }

    fn ours(number: u32) -> String {
        let due = Tick(1000);
        payload::write(&Stamp { run: 5, publisher: 1, number, measured: true, due }, 200)
    }

    fn count(frames: &[Frame]) -> usize {
        frames.iter().filter(|f| matches!(f, Frame::Batch(_))).count()
    }

    #[test]
    fn the_same_bytes_are_decoded_once_however_many_viewers_get_them() {
        for variant in [Variant::Tcp, Variant::WsProto, Variant::WsJson] {
            let mut reader = Reader::new(variant, 5);
            let bytes = batch(variant, vec![message(1, &ours(0)), message(2, &ours(1))]);
            for _ in 0..100 {
                let mut partial = None;
                assert_eq!(count(&reader.read(&bytes, &mut partial).expect("valid")), 1);
                assert!(partial.is_none(), "no memory is held between frames");
            }
            assert_eq!((reader.frames, reader.decoded), (100, 1));
            assert_eq!(reader.ledger.seen.len(), 2);
        }
    }

    #[test]
    fn a_frame_cut_anywhere_is_the_same_frame() {
        for variant in [Variant::Tcp, Variant::WsProto, Variant::WsJson] {
            let mut reader = Reader::new(variant, 5);
            let bytes = batch(variant, vec![message(1, &ours(0))]);
            for cut in 1..bytes.len() {
                let mut partial = None;
                assert_eq!(count(&reader.read(&bytes[..cut], &mut partial).expect("valid")), 0);
                assert_eq!(count(&reader.read(&bytes[cut..], &mut partial).expect("valid")), 1);
                assert!(partial.is_none());
            }
            assert_eq!(reader.decoded, 1);
        }
    }

    #[test]
    fn two_contents_for_one_seq_are_a_conflict_and_damage_is_seen() {
        let mut reader = Reader::new(Variant::Tcp, 5);
        let mut read = |bytes: Vec<u8>| reader.read(&bytes, &mut None).map(drop).expect("valid");
        read(batch(Variant::Tcp, vec![message(1, &ours(0))]));
        read(batch(Variant::Tcp, vec![message(1, &ours(1))]));
        let mut damaged = ours(2).into_bytes();
        damaged[100] ^= 1;
        let damaged = String::from_utf8(damaged).expect("still ASCII");
        read(batch(Variant::Tcp, vec![message(2, &damaged), message(3, "somebody else's")]));
        assert_eq!((reader.ledger.conflicting, reader.ledger.damaged), (1, 1));
        assert_eq!(reader.ledger.seen[&(7, 3)].ours, None);
    }

    #[test]
    fn ledgers_of_threads_must_agree() {
        let (mut a, mut b) = (Reader::new(Variant::Tcp, 5), Reader::new(Variant::Tcp, 5));
        for (reader, number) in [(&mut a, 0), (&mut b, 9)] {
            let bytes = batch(Variant::Tcp, vec![message(1, &ours(number))]);
            reader.read(&bytes, &mut None).expect("valid");
        }
        a.ledger.add(&b.ledger);
        assert_eq!(a.ledger.conflicting, 1, "viewers of two threads saw different things");
    }

    #[test]
    fn bytes_that_are_no_frame_are_an_error() {
        let mut reader = Reader::new(Variant::Tcp, 5);
        assert!(reader.read(&[3, 0xff, 0xff, 0xff], &mut None).is_err());
    }
}
