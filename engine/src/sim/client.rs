//! Simulated clients: they speak the real protocol through the client's codecs, and check what
//! they get against what the protocol promises.

use super::World;
use super::net::End;
use crate::hash::{Rng, mix};
use crate::seam::Tick;
use bytes::Bytes;
use std::collections::BTreeMap;
use uproar_proto::error::Code;
use uproar_proto::v1::{self, Class, Outcome, client_frame, server_frame::Body};
use uproar_proto::wire::{
    ClientDecoder, RawFrame, Variant, decode_server, encode_client, upgrade_reply, upgrade_request,
};

const FRAME_BYTES_MAX: usize = 1 << 20;
const ROOMS: [&str; 3] = ["a", "b", "c"];

/// What the clients of a world do how often, in parts of their sum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    connect: u64,
    join: u64,
    leave: u64,
    publish: u64,
    like: u64,
    hang_up: u64,
    ping: u64,
}

impl Pace {
    pub(crate) fn draw(rng: &mut Rng) -> Pace {
        let mut one = |most: u64| rng.below(most) + 1;
        Pace {
            connect: one(6),
            join: one(10),
            leave: one(5),
            publish: one(60),
            like: one(20),
            hang_up: one(4),
            ping: one(4),
        }
    }
}

/// What a client knows of a room it is in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stream {
    pub(crate) epoch: u64,
    pub(crate) seq: u64,
    pub(crate) likes: u64,
    pub(crate) viewers: u64,
}

/// One client.
pub(crate) struct Client {
    pub(crate) end: End,
    pub(crate) open: bool,
    variant: Variant,
    /// Bytes of the upgrade's answer, until it is whole.
    opening: Option<Vec<u8>>,
    decoder: ClientDecoder,
    pub(crate) streams: BTreeMap<String, Stream>,
    /// Rooms asked for and not yet answered, with the cursor that was given.
    asked: BTreeMap<String, Option<v1::Cursor>>,
    /// A gap that came before its `joined`.
    early_gaps: BTreeMap<String, v1::Gap>,
    /// Cursors of rooms it left, for a resume.
    remembered: BTreeMap<String, v1::Cursor>,
    pub(crate) frozen_until: Tick,
    welcomed: bool,
    /// It has sent rubbish: what follows is its own fault.
    rude: bool,
    sent: u64,
    pub(crate) accepted: BTreeMap<(String, u64), Vec<u8>>,
}

const NONCE: [u8; 16] = [7; 16];

/// A new client connects.
pub(crate) fn spawn(world: &mut World) {
    let number = world.clients.len();
    let shard = world.rng.below(world.nodes.len() as u64) as usize;
    let variant = Variant::ALL[world.rng.below(Variant::ALL.len() as u64) as usize];
    let end = world.net.connect(shard);
    let opening = match variant {
        Variant::Tcp => {
            world.net.send(end, b"UPR1");
            None
        }
        _ => {
            let name = if variant.is_json() { "uproar.v1.json" } else { "uproar.v1.proto" };
            let request = upgrade_request("h", "/", Some(name), variant.is_deflated(), NONCE);
            world.net.send(end, &request);
            Some(Vec::new())
        }
    };
    world.clients.push(Client {
        end,
        open: true,
        variant,
        opening,
        decoder: ClientDecoder::new(variant, FRAME_BYTES_MAX),
        streams: BTreeMap::new(),
        asked: BTreeMap::new(),
        early_gaps: BTreeMap::new(),
        remembered: BTreeMap::new(),
        frozen_until: Tick(0),
        welcomed: false,
        rude: false,
        sent: 0,
        accepted: BTreeMap::new(),
    });
    say(world, number, &client_frame::Body::Connect(v1::Connect::default()));
    let room = ROOMS[world.rng.below(3) as usize];
    join(world, number, room);
}

fn say(world: &mut World, number: usize, body: &client_frame::Body) {
    let client = &world.clients[number];
    let mut bytes = Vec::new();
    encode_client(body, client.variant, [1, 2, 3, 4], &mut bytes);
    world.net.send(client.end, &bytes);
}

fn join(world: &mut World, number: usize, room: &str) {
    let client = &mut world.clients[number];
    if client.streams.contains_key(room) || client.asked.contains_key(room) {
        return;
    }
    let resume = client.remembered.get(room).copied();
    client.asked.insert(room.to_owned(), resume);
    let room = room.to_owned();
    say(world, number, &client_frame::Body::Join(v1::Join { room, resume }));
}

/// Some client does something.
pub(crate) fn act(world: &mut World) {
    let pace = world.pace;
    let total = pace.connect + pace.join + pace.leave + pace.publish + pace.like + pace.hang_up;
    let mut pick = world.rng.below(total + pace.ping);
    let open: Vec<usize> = (0..world.clients.len()).filter(|c| world.clients[*c].open).collect();
    let mut is = |part: u64| {
        let hit = pick < part;
        pick = pick.saturating_sub(part);
        if hit {
            pick = u64::MAX;
        }
        hit
    };
    if is(pace.connect) || open.is_empty() {
        if world.clients.len() < 60 {
            spawn(world);
        }
        return;
    }
    let number = open[world.rng.below(open.len() as u64) as usize];
    if world.rng.below(1000) < world.faults.reset {
        return break_off(world, number, 104);
    }
    if world.rng.below(1000) < world.faults.garbage {
        let junk: Vec<u8> = (0..world.rng.below(60)).map(|_| world.rng.next_u64() as u8).collect();
        world.clients[number].rude = true;
        let end = world.clients[number].end;
        return world.net.send(end, &junk);
    }
    if world.rng.below(1000) < world.faults.freeze {
        let until = world.now.tick.after_ms(world.rng.below(6_000));
        let client = &mut world.clients[number];
        client.frozen_until = until;
        return;
    }
    let room = ROOMS[world.rng.below(3) as usize];
    if is(pace.join) {
        join(world, number, room);
    } else if is(pace.leave) {
        let client = &mut world.clients[number];
        if let Some(stream) = client.streams.get(room) {
            let cursor = v1::Cursor { epoch: stream.epoch, seq: stream.seq };
            client.remembered.insert(room.to_owned(), cursor);
            let room = room.to_owned();
            say(world, number, &client_frame::Body::Leave(v1::Leave { room }));
        }
    } else if is(pace.publish) {
        publish(world, number, room, Class::Chat);
    } else if is(pace.like) {
        publish(world, number, room, Class::Like);
    } else if is(pace.hang_up) {
        hang_up(world, number);
    } else {
        say(world, number, &client_frame::Body::Ping(v1::Ping {}));
    }
}

fn publish(world: &mut World, number: usize, room: &str, class: Class) {
    let client = &mut world.clients[number];
    client.sent += 1;
    let id = mix(client.sent << 16 | number as u64).to_be_bytes().to_vec();
    let content = v1::publish::Content::Data(Bytes::from(id.repeat(1 + (id[0] % 40) as usize)));
    let body = v1::Publish {
        room: room.to_owned(),
        class: class.into(),
        client_msg_id: Bytes::from(id),
        content: (class != Class::Like).then_some(content),
        count: 3,
    };
    say(world, number, &client_frame::Body::Publish(body));
}

/// A client closes.
pub(crate) fn hang_up(world: &mut World, number: usize) {
    break_off(world, number, 0);
}

fn break_off(world: &mut World, number: usize, errno: i32) {
    let client = &mut world.clients[number];
    if client.open {
        client.open = false;
        world.net.hang_up(client.end, errno);
    }
}

/// Every client that is not frozen reads what is there.
pub(crate) fn read_all(world: &mut World) {
    for number in 0..world.clients.len() {
        let client = &mut world.clients[number];
        if !client.open || client.frozen_until > world.now.tick {
            continue;
        }
        match world.net.receive(client.end) {
            Some(bytes) if bytes.is_empty() => {}
            Some(bytes) => {
                for byte in &bytes {
                    world.trace = mix(world.trace ^ u64::from(*byte));
                }
                let (seed, client) = (world.seed, &mut world.clients[number]);
                // Who sends rubbish may be answered in another variant, or not at all.
                let broken = client.read(&bytes);
                if let (Err(broken), false) = (broken, client.rude) {
                    panic!("seed {seed}: client {number} ({:?}): {broken}", client.variant);
                }
            }
            None => {
                // The server has closed; the client closes too.
                hang_up(world, number);
            }
        }
    }
}

impl Client {
    fn read(&mut self, bytes: &[u8]) -> Result<(), String> {
        if let Some(opening) = &mut self.opening {
            opening.extend_from_slice(bytes);
            if self.rude {
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
                }
                Some(_) => None,
            };
            if let Some(body) = body {
                self.take(body)?;
            }
        }
    }

    fn take(&mut self, body: Body) -> Result<(), String> {
        match body {
            Body::Welcome(_) if self.welcomed => return Err("welcomed twice".into()),
            Body::Welcome(_) => self.welcomed = true,
            Body::Joined(joined) => self.joined(joined)?,
            Body::Batch(batch) => {
                let stream = self.streams.get_mut(&batch.room);
                let stream = stream.ok_or("a batch of a room it is not in")?;
                if batch.epoch != stream.epoch {
                    return Err("a batch of another epoch".into());
                }
                for message in batch.messages {
                    if message.seq != stream.seq + 1 {
                        return Err(format!("seq {} after {}", message.seq, stream.seq));
                    }
                    stream.seq = message.seq;
                }
            }
            Body::Gap(gap) => self.gap(gap)?,
            Body::Count(count) => {
                let stream = self.streams.get_mut(&count.room);
                let stream = stream.ok_or("a count of a room it is not in")?;
                let likes = count.likes.unwrap_or(stream.likes);
                if likes < stream.likes {
                    return Err(format!("likes went from {} to {likes}", stream.likes));
                }
                stream.likes = likes;
                stream.viewers = count.viewers.unwrap_or(stream.viewers);
            }
            Body::Verdicts(verdicts) => {
                for verdict in verdicts.verdicts {
                    if verdict.outcome() == Outcome::Accepted {
                        let key = (verdicts.room.clone(), verdict.seq);
                        let id = verdict.client_msg_id.to_vec();
                        if self.accepted.insert(key, id).is_some() {
                            return Err("two messages were accepted with one seq".into());
                        }
                    }
                }
            }
            Body::Left(left) => {
                self.streams.remove(&left.room).ok_or("left a room it was not in")?;
            }
            // About a publish or a leave; any other one about a room refuses a join.
            Body::Error(error) if error.code == Code::NotMember.number() => {}
            Body::Error(error) => {
                self.asked.remove(&error.room);
            }
            Body::Reconnect(_) | Body::Pong(_) => {}
        }
        Ok(())
    }

    fn gap(&mut self, gap: v1::Gap) -> Result<(), String> {
        let Some(stream) = self.streams.get_mut(&gap.room) else {
            // In front of the `joined` of a resume.
            self.early_gaps.insert(gap.room.clone(), gap);
            return Ok(());
        };
        if gap.from_seq != stream.seq + 1 || gap.to_seq < gap.from_seq {
            let (from, to) = (gap.from_seq, gap.to_seq);
            return Err(format!("a gap {from} to {to} after seq {}", stream.seq));
        }
        stream.seq = gap.to_seq;
        Ok(())
    }

    fn joined(&mut self, joined: v1::Joined) -> Result<(), String> {
        let asked = self.asked.remove(&joined.room).ok_or("joined without asking")?;
        let gap = self.early_gaps.remove(&joined.room);
        let first = joined.messages.first().map_or(joined.seq + 1, |m| m.seq);
        for pair in joined.messages.windows(2) {
            if pair[1].seq != pair[0].seq + 1 {
                return Err("a snapshot with a hole".into());
            }
        }
        if joined.messages.last().is_some_and(|m| m.seq != joined.seq) {
            return Err("a snapshot that does not reach its seq".into());
        }
        if let Some(cursor) = asked {
            let same = cursor.epoch == joined.epoch;
            match gap {
                None if !same => return Err("another epoch was not told".into()),
                None if cursor.seq < joined.seq && first != cursor.seq + 1 => {
                    return Err(format!("resumed at {} with {first}", cursor.seq));
                }
                Some(gap) if same && (gap.from_seq, gap.to_seq) != (cursor.seq + 1, first - 1) => {
                    return Err("a resume's gap is not what is missing".into());
                }
                _ => {}
            }
        }
        let Stream { viewers, likes, .. } = Stream::default();
        let stream = Stream {
            epoch: joined.epoch,
            seq: joined.seq,
            likes: likes.max(joined.likes),
            viewers: viewers.max(joined.viewers),
        };
        if self.streams.insert(joined.room, stream).is_some() {
            return Err("joined a room twice".into());
        }
        Ok(())
    }

    /// Whether it can be held to the promises: open, polite, reading.
    pub(crate) fn is_sound(&self) -> bool {
        self.open && !self.rude
    }
}
