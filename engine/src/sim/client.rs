//! Simulated clients: they speak the real protocol through the client's codecs, and hold the
//! server to what the protocol promises, frame by frame.

use super::ledger::Ledger;
use super::net::End;
use crate::seam::Tick;
use std::collections::{BTreeMap, BTreeSet};
use uproar_proto::error::Code;
use uproar_proto::v1::{self, GapReason, Outcome, server_frame::Body};
use uproar_proto::wire::{ClientDecoder, RawFrame, Variant, decode_server, upgrade_reply};

/// The largest frame a client takes.
pub(crate) const FRAME_BYTES_MAX: usize = 1 << 20;
/// Every world's clients draw the same nonce; the answer to it is what is checked.
pub(crate) const NONCE: [u8; 16] = [7; 16];

/// What a client knows of a room it is in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stream {
    pub(crate) epoch: u64,
    pub(crate) seq: u64,
    pub(crate) likes: u64,
    pub(crate) viewers: u64,
    /// The seq it joined at.
    pub(crate) joined_at: u64,
    /// Seqs that were told missing since.
    pub(crate) missed: Vec<(u64, u64, GapReason)>,
    /// Messages that came in batches since.
    pub(crate) received: u64,
    /// Messages it was told to take off its screen.
    pub(crate) recalled: BTreeSet<u64>,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) attributes_version: u64,
    pub(crate) pinned: Option<Box<v1::Message>>,
    pub(crate) polls: BTreeMap<u32, v1::Poll>,
    /// Frames that told of attributes, and of polls.
    pub(crate) told: u64,
}

/// One client: one connection, and what it got there.
pub(crate) struct Client {
    pub(crate) end: End,
    pub(crate) open: bool,
    /// Whom it has signed in as.
    pub(crate) account: Option<usize>,
    pub(crate) variant: Variant,
    /// Bytes of the upgrade's answer, until it is whole.
    opening: Option<Vec<u8>>,
    decoder: ClientDecoder,
    pub(crate) streams: BTreeMap<String, Stream>,
    /// Rooms asked for and not yet answered, with the cursor that was given.
    pub(crate) asked: BTreeMap<String, Option<v1::Cursor>>,
    /// A gap that came before its `joined`.
    early_gaps: BTreeMap<String, v1::Gap>,
    /// Cursors of rooms it was in, for a resume.
    pub(crate) remembered: BTreeMap<String, v1::Cursor>,
    /// Publishes without a verdict so far, by id.
    pub(crate) unanswered: BTreeMap<Vec<u8>, String>,
    /// Leaves without an answer so far.
    pub(crate) leaving: u64,
    /// Like frames it sent, which get no verdict.
    pub(crate) likes_said: u64,
    /// `NOT_MEMBER` errors: answers to leaves, likes and publishes that crossed a kick.
    pub(crate) not_member: u64,
    pub(crate) frozen_until: Tick,
    /// It reads nothing, and speaks all the same.
    pub(crate) deaf_until: Tick,
    /// It neither sends nor reads any more, and nobody was told.
    pub(crate) vanished: bool,
    /// It was frozen at some time, or only trickled: what it misses is its own affair.
    pub(crate) slow: bool,
    pub(crate) welcomed: bool,
    /// It has broken the rules: how it is answered is not checked, only that others are served.
    pub(crate) rude: bool,
    pub(crate) ping_every_s: u32,
    /// Of the store, as the welcome told.
    pub(crate) generation: u64,
    pub(crate) pinged: Tick,
    pub(crate) pongs: u64,
    pub(crate) reconnect: bool,
    /// The code of the error that ended it.
    pub(crate) ended_by: Option<u32>,
    /// The code of the last room it was made to leave.
    pub(crate) left_by: Option<u32>,
    /// The last refusal of a join.
    pub(crate) refused_by: Option<u32>,
    /// The messages of its last snapshot or resume, and which of them are gone.
    pub(crate) snapshot: Vec<u64>,
    pub(crate) blank: Vec<u64>,
    /// What became of its answers to polls.
    pub(crate) voted: Vec<v1::Voted>,
    /// The longest time between a message's receipt by the server and here, milliseconds.
    pub(crate) late_ms_max: u64,
    /// Counts with likes it got.
    pub(crate) like_counts: u64,
    /// Conversation frames it got, where it has an inbox.
    pub(crate) inbox: Vec<Body>,
    pub(crate) has_inbox: bool,
    /// What it got is printed, with this number in front.
    pub(crate) told_as: Option<usize>,
}

impl Client {
    /// A connection that has sent its opening.
    pub(crate) fn new(end: End, variant: Variant, now: Tick) -> Client {
        Client {
            end,
            open: true,
            account: None,
            variant,
            opening: variant.is_websocket().then(Vec::new),
            decoder: ClientDecoder::new(variant, FRAME_BYTES_MAX),
            streams: BTreeMap::new(),
            asked: BTreeMap::new(),
            early_gaps: BTreeMap::new(),
            remembered: BTreeMap::new(),
            unanswered: BTreeMap::new(),
            leaving: 0,
            likes_said: 0,
            not_member: 0,
            frozen_until: Tick(0),
            deaf_until: Tick(0),
            vanished: false,
            slow: false,
            welcomed: false,
            rude: false,
            ping_every_s: 0,
            generation: 0,
            pinged: now,
            pongs: 0,
            reconnect: false,
            ended_by: None,
            left_by: None,
            refused_by: None,
            snapshot: Vec::new(),
            blank: Vec::new(),
            voted: Vec::new(),
            late_ms_max: 0,
            like_counts: 0,
            inbox: Vec::new(),
            has_inbox: false,
            told_as: None,
        }
    }

    /// Whether it can be held to every promise: open, polite, there.
    pub(crate) fn is_sound(&self) -> bool {
        self.open && !self.rude && !self.vanished
    }

    /// Where it would go on in every room it is or was in.
    pub(crate) fn cursors(&self) -> BTreeMap<String, v1::Cursor> {
        let mut cursors = self.remembered.clone();
        for (room, stream) in &self.streams {
            let cursor = v1::Cursor { epoch: stream.epoch, seq: stream.seq };
            cursors.insert(room.clone(), cursor);
        }
        cursors
    }

    /// Takes bytes in and checks every frame in them.
    ///
    /// # Errors
    /// Which promise the server broke.
    pub(crate) fn read(
        &mut self,
        bytes: &[u8],
        unix_ms: u64,
        ledger: &mut Ledger,
    ) -> Result<(), String> {
        if let Some(opening) = &mut self.opening {
            opening.extend_from_slice(bytes);
            let status = opening.strip_prefix(b"HTTP/1.1 ");
            if status.is_some_and(|s| s.len() >= 3 && !s.starts_with(b"101")) {
                // Refused before it was a WebSocket; the connection ends, which is checked there.
                return Ok(());
            }
            let Some((consumed, variant)) = upgrade_reply(opening, NONCE)? else {
                return Ok(());
            };
            if variant != self.variant {
                return Err(format!("asked for {:?}, got {variant:?}", self.variant));
            }
            let rest = opening.split_off(consumed);
            self.opening = None;
            self.decoder.feed(&rest);
        } else {
            self.decoder.feed(bytes);
        }
        loop {
            let raw = self.decoder.next_raw().map_err(|c| format!("torn stream: {}", c.name()))?;
            let body = match raw {
                None => return Ok(()),
                Some(RawFrame::Message { payload, compressed }) => {
                    decode_server(self.variant, payload, compressed, FRAME_BYTES_MAX)
                        .map_err(|c| format!("torn frame: {}", c.name()))?
                        .ok_or("a frame of a kind the server does not send")?
                }
                Some(RawFrame::Ping(_) | RawFrame::Pong | RawFrame::Close { .. }) => continue,
            };
            if let Some(number) = self.told_as {
                println!("{:18} client {number} got {body:.200?}", "");
            }
            self.take(body, unix_ms, ledger)?;
        }
    }

    /// Checks one frame.
    ///
    /// # Errors
    /// Which promise it breaks.
    pub(crate) fn take(
        &mut self,
        body: Body,
        unix_ms: u64,
        ledger: &mut Ledger,
    ) -> Result<(), String> {
        if !self.welcomed && !matches!(body, Body::Welcome(_) | Body::Error(_)) {
            return Err("something came before the welcome".into());
        }
        match body {
            Body::Welcome(_) if self.welcomed => return Err("welcomed twice".into()),
            Body::Welcome(welcome) => {
                (self.welcomed, self.ping_every_s) = (true, welcome.ping_every_s);
                self.generation = welcome.generation;
            }
            Body::Joined(joined) => self.joined(joined, ledger)?,
            Body::Batch(batch) => self.batch(&batch, unix_ms, ledger)?,
            Body::Gap(gap) => self.gap(&gap, ledger)?,
            Body::Count(count) => self.count(&count)?,
            Body::Verdicts(verdicts) => self.verdicts(&verdicts, ledger)?,
            Body::Left(left) => self.left(&left)?,
            Body::Error(error) if error.code == Code::NotMember.number() => self.not_member += 1,
            Body::Error(error) if error.room.is_empty() => self.ended_by = Some(error.code),
            Body::Error(error) => {
                // About a room, and not about a publish: it refuses a join.
                self.asked.remove(&error.room).ok_or("an unasked join was refused")?;
                self.refused_by = Some(error.code);
            }
            Body::Reconnect(_) => self.reconnect = true,
            Body::Pong(_) => self.pongs += 1,
            Body::Expiring(_) => {}
            Body::Voted(voted) => self.voted.push(voted),
            Body::Held(_) | Body::Entered(_) | Body::Announced(_) => {}
            Body::Recalled(v1::Recalled { ref room, .. })
            | Body::Attributes(v1::Attributes { ref room, .. })
            | Body::Pinned(v1::Pinned { ref room, .. })
            | Body::Poll(v1::Poll { ref room, .. }) => {
                let stream = self.streams.get_mut(room);
                stream.ok_or("a notice of a room it is not in")?.notice(body)?;
            }
            frame if self.has_inbox => self.inbox.push(frame),
            _ => return Err("a frame about conversations, and it has no inbox".into()),
        }
        Ok(())
    }

    fn batch(
        &mut self,
        batch: &v1::Batch,
        unix_ms: u64,
        ledger: &mut Ledger,
    ) -> Result<(), String> {
        let stream = self.streams.get_mut(&batch.room);
        let stream = stream.ok_or("a batch of a room it is not in")?;
        if batch.epoch != stream.epoch {
            return Err("a batch of another epoch".into());
        }
        if batch.messages.is_empty() {
            return Err("a batch without messages".into());
        }
        for message in &batch.messages {
            if message.seq != stream.seq + 1 {
                return Err(format!("seq {} after {} without a gap", message.seq, stream.seq));
            }
            stream.seq = message.seq;
            stream.received += 1;
            ledger.received(&batch.room, batch.epoch, message)?;
            self.late_ms_max = self.late_ms_max.max(unix_ms.saturating_sub(message.time_ms));
        }
        Ok(())
    }

    fn gap(&mut self, gap: &v1::Gap, ledger: &mut Ledger) -> Result<(), String> {
        let reason = gap.reason();
        if reason == GapReason::Lost {
            ledger.gaps_lost += 1;
        } else {
            ledger.gaps += 1;
            if reason != GapReason::Epoch {
                ledger.gap_messages += (gap.to_seq + 1).saturating_sub(gap.from_seq);
            }
        }
        let Some(stream) = self.streams.get_mut(&gap.room) else {
            // In front of the `joined` of a resume.
            let old = self.early_gaps.insert(gap.room.clone(), gap.clone());
            let asked = self.asked.get(&gap.room).is_some_and(Option::is_some);
            return if asked && old.is_none() { Ok(()) } else { Err("an unasked gap".into()) };
        };
        let (from, to) = (gap.from_seq, gap.to_seq);
        if gap.epoch != stream.epoch || from != stream.seq + 1 || to < from {
            return Err(format!("a gap {from} to {to} after seq {}", stream.seq));
        }
        stream.seq = to;
        stream.missed.push((from, to, reason));
        Ok(())
    }

    fn count(&mut self, count: &v1::Count) -> Result<(), String> {
        let stream = self.streams.get_mut(&count.room);
        let stream = stream.ok_or("a count of a room it is not in")?;
        let likes = count.likes.unwrap_or(stream.likes);
        if likes < stream.likes {
            return Err(format!("likes went from {} to {likes}", stream.likes));
        }
        self.like_counts += u64::from(count.likes.is_some());
        stream.likes = likes;
        stream.viewers = count.viewers.unwrap_or(stream.viewers);
        Ok(())
    }

    fn verdicts(&mut self, verdicts: &v1::Verdicts, ledger: &mut Ledger) -> Result<(), String> {
        for verdict in &verdicts.verdicts {
            let room = self.unanswered.remove(&verdict.client_msg_id[..]);
            if room.is_none_or(|room| room != verdicts.room) {
                return Err("a verdict on what it never said there".into());
            }
            let outcome = verdict.outcome();
            let told = verdict.code != 0;
            if told != matches!(outcome, Outcome::Shed | Outcome::Refused | Outcome::Expired) {
                return Err(format!("a verdict {outcome:?} with code {}", verdict.code));
            }
            ledger.verdict(&verdict.client_msg_id, outcome, verdict.seq)?;
        }
        Ok(())
    }

    fn left(&mut self, left: &v1::Left) -> Result<(), String> {
        let known = self.streams.remove(&left.room);
        if let Some(Stream { epoch, seq, .. }) = known {
            self.remembered.insert(left.room.clone(), v1::Cursor { epoch, seq });
        } else if self.asked.remove(&left.room).is_none() {
            return Err("left a room it was not in".into());
        }
        self.early_gaps.remove(&left.room);
        if left.code == 0 {
            self.leaving = self.leaving.checked_sub(1).ok_or("left without asking")?;
        } else {
            self.left_by = Some(left.code);
        }
        Ok(())
    }

    fn joined(&mut self, joined: v1::Joined, ledger: &mut Ledger) -> Result<(), String> {
        let asked = self.asked.remove(&joined.room).ok_or("joined without asking")?;
        let gap = self.early_gaps.remove(&joined.room);
        let first = joined.messages.first().map_or(joined.seq + 1, |m| m.seq);
        for (seq, message) in (first..).zip(&joined.messages) {
            if message.seq != seq {
                return Err("a snapshot with a hole".into());
            }
            ledger.received(&joined.room, joined.epoch, message)?;
        }
        if joined.messages.last().is_some_and(|m| m.seq != joined.seq) {
            return Err("a snapshot that does not reach its seq".into());
        }
        let whole = resumed_whole(asked, gap.as_ref(), &joined, first)?;
        if joined.resumed != whole {
            return Err(format!("resumed is told as {}", joined.resumed));
        }
        self.snapshot = joined.messages.iter().map(|m| m.seq).collect();
        self.blank = joined.messages.iter().filter(|m| m.gone).map(|m| m.seq).collect();
        let stream = Stream {
            epoch: joined.epoch,
            seq: joined.seq,
            joined_at: joined.seq,
            likes: joined.likes,
            viewers: joined.viewers,
            recalled: joined.recalled.into_iter().collect(),
            attributes: joined.attributes,
            attributes_version: joined.attributes_version,
            pinned: joined.pinned,
            polls: joined.polls.into_iter().map(|poll| (poll.poll, poll)).collect(),
            ..Stream::default()
        };
        if self.streams.insert(joined.room, stream).is_some() {
            return Err("joined a room twice".into());
        }
        Ok(())
    }
}

impl Stream {
    /// What came of the room beside messages and counts.
    fn notice(&mut self, body: Body) -> Result<(), String> {
        match body {
            Body::Recalled(recalled) => {
                // In order with the messages, but for who was told of all at once after a gap.
                let early = recalled.seqs.iter().find(|seq| **seq > self.seq);
                if let (Some(seq), true) = (early, self.missed.is_empty()) {
                    return Err(format!("the recall of {seq} came before it, at {}", self.seq));
                }
                self.recalled.extend(recalled.seqs);
            }
            Body::Attributes(change) => {
                self.told += 1;
                if change.from_version > self.attributes_version && !change.whole {
                    return Err(format!("a hole in attributes before {}", change.version));
                }
                if change.version > self.attributes_version {
                    if change.whole {
                        self.attributes.clear();
                    }
                    self.attributes.retain(|key, _| !change.removed.contains(key));
                    self.attributes.extend(change.set);
                    self.attributes_version = change.version;
                }
            }
            Body::Pinned(pinned) => self.pinned = pinned.message,
            Body::Poll(poll) => {
                self.told += 1;
                let known = self.polls.entry(poll.poll).or_insert_with(|| poll.clone());
                if !known.over {
                    (known.votes, known.over) = (poll.votes, poll.over);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether a `joined` whose first message is `first` makes up for everything since a cursor; what
/// it does not make up for must be told in front of it, exactly.
fn resumed_whole(
    asked: Option<v1::Cursor>,
    gap: Option<&v1::Gap>,
    joined: &v1::Joined,
    first: u64,
) -> Result<bool, String> {
    let Some(cursor) = asked else {
        return if gap.is_none() { Ok(false) } else { Err("a gap without a cursor".into()) };
    };
    let same = cursor.epoch == joined.epoch;
    match gap {
        None if !same => Err("another epoch was not told".into()),
        // It comes from a shard that was told sooner: the stream goes on where this one is.
        None if joined.seq < cursor.seq && joined.messages.is_empty() => Ok(true),
        None if first != cursor.seq + 1 => Err(format!("resumed at {} with {first}", cursor.seq)),
        None => Ok(true),
        Some(gap) if same && (gap.from_seq, gap.to_seq) != (cursor.seq + 1, first - 1) => {
            Err("a resume's gap is not what is missing".into())
        }
        Some(gap) if same == (gap.reason() == GapReason::Epoch) => {
            Err("a resume's gap has another reason".into())
        }
        Some(_) => Ok(false),
    }
}
