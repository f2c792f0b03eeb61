//! What must hold: after every turn, when everything has come to rest, and when everybody has
//! left. Checkers draw no randomness, so adding one changes no world.

use super::World;
use super::client::{Client, Stream};
use super::{control, crowd};
use crate::hash::mix;
use crate::metrics::Figure;
use crate::router::{Books, CLASSES};
use crate::seam::{Action, Machine as _};
use crate::shard::frames::RING_BYTES_MAX;
use crate::shard::message::Message;
use std::collections::BTreeMap;
use uproar_proto::control::RoomInfo;
use uproar_proto::v1::{Class, GapReason};

/// Bytes of a shard's tables that nobody uses: first chunks of everything.
const TABLES_BYTES: usize = 2 << 20;
/// Frames of one room made for members that are behind: one of 64 KiB for each variant.
const JOINED_BYTES: usize = 5 * 64 * 1024;
/// Turns of a shard within a second in which nothing happens: reports, deadlines, stray wake-ups.
const IDLE_TURNS_MAX: u64 = 40;

/// After every turn.
pub(super) fn after_turn(world: &World, number: usize) {
    memory(world, number);
    let (books, mut pending) = (world.books(), pending(world));
    add(&mut pending, &world.mail.offers_on_their_way());
    balanced(&books, &pending);
    let mut waiting = [0; CLASSES];
    world.nodes.iter().for_each(|node| add(&mut waiting, &node.shard.undelivered()));
    let [expected, sent, skipped, left] = deliveries(world);
    for class in 0..CLASSES {
        let known = sent[class] + skipped[class] + left[class] + waiting[class];
        let sum = [expected[class], sent[class], skipped[class], left[class], waiting[class]];
        assert_eq!(
            expected[class], known,
            "deliveries (expected, sent, skipped, left, waiting) of class {class}: {sum:?}"
        );
    }
}

fn add(sum: &mut [u64; CLASSES], more: &[u64; CLASSES]) {
    sum.iter_mut().zip(more).for_each(|(total, n)| *total += n);
}

fn pending(world: &World) -> [u64; CLASSES] {
    let mut sum = [0; CLASSES];
    world.nodes.iter().for_each(|node| add(&mut sum, &node.shard.pending()));
    sum
}

fn deliveries(world: &World) -> [[u64; CLASSES]; 4] {
    let mut sum = [[0; CLASSES]; 4];
    for node in &world.nodes {
        sum.iter_mut().zip(node.metrics.deliveries()).for_each(|(row, more)| add(row, &more));
    }
    sum
}

fn balanced(books: &Books, pending: &[u64; CLASSES]) {
    assert!(books.is_balanced(pending), "the books: {books:?}, pending {pending:?}");
    let system = Class::System as usize;
    let lost = [books.shed[system], books.expired[system], books.merged[system]];
    assert_eq!(lost, [0; 3], "a system message is admitted or refused, never shed or expired");
}

/// A shard stays within what its configuration allows its connections and rooms.
fn memory(world: &World, number: usize) {
    let (shard, config) = (&world.nodes[number].shard, &world.plan.config);
    let rules = &config.rooms;
    let message = rules.defaults.payload_bytes_max as usize + 256;
    let history = rules.history_messages_max as usize * message;
    let a_room = RING_BYTES_MAX + JOINED_BYTES + 2 * history;
    // What it may leave unread, once as replies and once as the frame being sent, buffers grown
    // by doubling; what it has sent of a frame; the part of a frame it is sent.
    let a_connection =
        4 * (config.reply_bytes_max + config.frame_bytes_max) as usize + JOINED_BYTES / 5;
    let bound =
        TABLES_BYTES + shard.connections_used() * a_connection + world.plan.rooms.len() * a_room;
    let used = shard.bytes_used().max(shard.frames().bytes_used());
    assert!(used <= bound, "shard {number} uses {used} bytes, {bound} are allowed");
}

/// When faults are healed and everything had its time.
pub(super) fn at_rest(world: &mut World) {
    idle(world);
    let pending = pending(world);
    assert_eq!(pending, [0; CLASSES], "something still waits to be decided");
    assert_eq!(world.mail.offers_on_their_way(), [0; CLASSES]);
    let told = world.nodes.iter().fold(Books::default(), |sum, n| sum.plus(&n.metrics.books()));
    assert_eq!(told, world.books(), "the exported books lag behind");
    balanced(&told, &pending);
    let waiting: u64 = world.nodes.iter().flat_map(|n| n.shard.undelivered()).sum();
    assert_eq!(waiting, 0, "some members were never sent what their room has");

    let infos: BTreeMap<String, RoomInfo> =
        control::list(world).into_iter().map(|info| (info.room.clone(), info)).collect();
    let (unanswered, closed) = control::unanswered_and_closed(world);
    assert_eq!(unanswered, 0, "backends wait for answers");

    let members = crowd::members(world);
    for (number, client) in world.clients.iter().enumerate() {
        let served = world.net.is_served(client.end);
        assert!(served == (client.is_sound() && client.welcomed), "client {number} is half there");
        if !served {
            continue;
        }
        assert!(client.asked.is_empty(), "client {number} was never answered: {:?}", client.asked);
        let unanswered = client.unanswered.len() as u64 + client.leaving;
        let refused = client.not_member;
        assert!(
            unanswered <= refused && refused <= unanswered + client.likes_said,
            "client {number}: {unanswered} without an answer, {refused} errors without a cause"
        );
        for (room, stream) in &client.streams {
            let at = format!("client {number} in {room}");
            let info = infos.get(room).unwrap_or_else(|| panic!("{at}: there is no such room"));
            at_head(&at, stream, info, members[room]);
            if !client.slow && !world.net.is_hindered(client.end) && !world.was_late {
                healthy(world, &at, room, stream);
            }
        }
    }
    counters(world, &infos, closed);
    gaps(world);
    world.ledger.check_verdicts();
}

/// A second in which nobody does anything costs next to nothing.
fn idle(world: &mut World) {
    let before: Vec<u64> = world.nodes.iter().map(|n| n.turns).collect();
    world.run_ms(1_000);
    let allowed = IDLE_TURNS_MAX + 8 * world.clients.len() as u64;
    for (node, before) in world.nodes.iter().zip(before) {
        let turns = node.turns - before;
        assert!(turns <= allowed, "a shard with nothing to do had {turns} turns in a second");
    }
}

/// A member knows what its room's home knows.
fn at_head(at: &str, stream: &Stream, info: &RoomInfo, members: u64) {
    assert_eq!(format!("{:016x}", stream.epoch), info.epoch, "{at}: a stale epoch");
    assert_eq!(stream.seq, info.seq, "{at}: not at the head");
    assert_eq!(stream.likes, info.likes, "{at}: likes");
    assert_eq!(info.viewers, members, "{at}: viewers as the home has them and as there are");
    assert_eq!(stream.viewers, info.viewers, "{at}: viewers as told and as the home has them");
    let missed: u64 = stream.missed.iter().map(|(from, to, _)| to - from + 1).sum();
    let known = stream.joined_at + stream.received + missed;
    assert_eq!(stream.seq, known, "{at}: received and told missing");
}

/// A member that took everything at once, served in time, misses nothing but what was lost
/// between shards; above all no `system` message.
fn healthy(world: &World, at: &str, room: &str, stream: &Stream) {
    let lossless = world.figure(Figure::QueueDropped) == 0;
    for (from, to, reason) in &stream.missed {
        let excused = !lossless && *reason == GapReason::Lost;
        assert!(excused, "{at}: healthy, and misses {from} to {to} ({reason:?})");
    }
    let concerned = world.ledger.systems().filter(|(home, epoch, seq)| {
        let inside = (stream.joined_at + 1..=stream.seq).contains(seq);
        *home == room && *epoch == stream.epoch && inside
    });
    for (_, _, seq) in concerned.filter(|_| lossless) {
        let missed = stream.missed.iter().any(|(from, to, _)| (*from..=*to).contains(&seq));
        assert!(!missed, "{at}: healthy, and misses the system message {seq}");
    }
}

/// Counters agree wherever they are kept.
fn counters(world: &World, infos: &BTreeMap<String, RoomInfo>, closed: u64) {
    let members: u64 = crowd::members(world).values().sum();
    assert_eq!(world.figure(Figure::Members), members, "members as exported and as there are");
    let open = world.net.open() as u64;
    assert_eq!(world.figure(Figure::Connections), open, "connections as exported");
    let expires = u64::from(world.plan.config.rooms.empty_ms_max) < 10_000;
    if closed == 0 && !expires {
        let likes: u64 = infos.values().map(|info| info.likes).sum();
        let known = likes + world.ledger.likes_refused;
        assert_eq!(world.figure(Figure::LikesIn), known, "every like is counted once");
    }
}

/// Every gap that a client was told is counted; where nobody has gone, nothing else is.
fn gaps(world: &World) {
    let told = (world.ledger.gaps, world.ledger.gap_messages);
    let counted = (world.figure(Figure::Gaps), world.figure(Figure::GapMessages));
    assert!(told.0 <= counted.0 && told.1 <= counted.1, "gaps {told:?}, counted {counted:?}");
    let lost = world.figure(Figure::LostBatches);
    assert!(world.ledger.gaps_lost == 0 || lost > 0, "a lost batch was told and not counted");
    if world.clients.iter().all(Client::is_sound) && lost == 0 {
        assert_eq!(told, counted, "gaps as told and as counted");
    }
}

/// When everybody has left.
pub(super) fn at_end(world: &mut World) {
    let [expected, sent, skipped, left] = deliveries(world);
    for class in 0..CLASSES {
        let known = sent[class] + skipped[class] + left[class];
        assert_eq!(expected[class], known, "deliveries of class {class}");
    }
    for (number, node) in world.nodes.iter().enumerate() {
        assert_eq!(node.shard.connections_used(), 0, "shard {number} has connections left");
        assert_eq!(node.shard.frames().used(), 0, "shard {number} has frames left");
        assert_eq!(node.shard.frames().bytes_used(), 0, "shard {number} has bytes of frames left");
    }
    assert_eq!(world.net.open(), 0, "descriptors are left open");
    assert_eq!(world.figure(Figure::Members), 0, "members are left");
    assert_eq!(world.figure(Figure::RoomsLocal), 0, "rooms are left where nobody is in them");
    let created = world.plan.habits.backend_room > 0;
    if !created && world.plan.config.rooms.empty_ms_max < 1_000 {
        assert_eq!(world.figure(Figure::Rooms), 0, "homes of empty rooms are left");
    }
}

/// A message in one line, for the trace.
pub(super) fn name(message: &Message) -> String {
    match message {
        Message::Attach { room, .. } => format!("attach {room}"),
        Message::Detach { room, .. } => format!("detach {room}"),
        Message::Members { room, count, .. } => format!("members {room} {count}"),
        Message::Offer { room, offer } => {
            format!("offer {room} {} and {} likes", offer.candidates.len(), offer.likes)
        }
        Message::Held(batch) => format!("held {} {}", batch.room, batch.messages.len()),
        Message::Sample { room, limit, .. } => format!("sample {room} {limit}"),
        Message::Entered { room, users, more } => format!("entered {room} {} {more}", users.len()),
        Message::Votes { room, poll, ballots, .. } => {
            format!("votes {room} {poll} {}", ballots.len())
        }
        Message::Voted { room, poll, ballots, .. } => {
            format!("voted {room} {poll} {}", ballots.len())
        }
        Message::SweepTook { room, cpu_us, .. } => format!("sweep took {room} {cpu_us} us"),
        Message::Command(_) => "command".into(),
        Message::List { .. } => "list".into(),
        Message::Attached { room, answer } => {
            let answer = answer.as_ref().map(|state| (state.epoch, state.seq, state.history.len()));
            format!("attached {room} {answer:?}")
        }
        Message::Flush(batch) => {
            let (from, to) = (batch.seq_before(), batch.seq.0);
            let counts = (batch.viewers, batch.likes);
            format!("flush {} ({from}, {to}] {counts:?}", batch.room)
        }
        Message::Verdicts { room, verdicts } => format!("verdicts {room} {}", verdicts.len()),
        Message::Updated { room, .. } => format!("updated {room}"),
        Message::Ended { room, code, .. } => format!("ended {room} {}", code.name()),
        Message::Kick { room, .. } => format!("kick {room}"),
        Message::Found { room, origins, .. } => format!("found {room} {}", origins.len()),
        Message::Bans { room, changes, .. } => format!("bans {room} {}", changes.len()),
        Message::Route { mcast, serial, .. } => format!("route {mcast:?} {serial:?}"),
        Message::Routed { mcast, .. } => format!("routed {mcast:?}"),
        Message::Deliver { mcast, .. } => format!("deliver {mcast:?}"),
        Message::Tell(tell) => format!("tell {tell:?}"),
        Message::Drain => "drain".into(),
        Message::DrainOver => "drain over".into(),
        Message::Filter(active) => format!("filter {}", active.version),
        Message::Blocks(active) => format!("blocks {}", active.version),
        Message::Stop => "stop".into(),
    }
}

/// An action as a number.
pub(super) fn digest(action: &Action) -> u64 {
    let (kind, conn, rest) = match *action {
        Action::Send { conn, frame, skip_bytes } => {
            (1, conn.0, u64::from(frame.0) << 32 | u64::from(skip_bytes))
        }
        Action::ArmWritable { conn } => (2, conn.0, 0),
        Action::ShutdownWrite { conn } => (3, conn.0, 0),
        Action::Close { conn } => (4, conn.0, 0),
        Action::StopAccepting => (5, 0, 0),
        Action::PauseAccepting => (6, 0, 0),
        Action::ResumeAccepting => (7, 0, 0),
        Action::Connect { .. } | Action::Read { .. } => (8, 0, 0),
    };
    mix(mix(u64::from(conn) << 8 | kind) ^ rest)
}
