//! Single promises about rooms, each a sentence, over worlds where nothing happens by chance.

use super::control;
use super::crowd;
use super::*;
use crate::cluster::home::home_of;
use crate::config::{Rooms, Window};
use crate::metrics::Delivery;
use crate::router::CLASSES;
use bytes::Bytes;
use uproar_proto::control::{BanWith, Content, RoomInfo, RoomSettings};
use uproar_proto::error::Code;
use uproar_proto::ids::RoomId;
use uproar_proto::v1::{Class, Outcome, client_frame::Body};

/// The account that may speak in every class.
pub(super) const HOST: Option<usize> = Some(0);
/// One that may not, and is known by name.
pub(super) const JUDGE: Option<usize> = Some(1);
const GIFT: usize = Class::Gift as usize;
const LIKE: usize = Class::Like as usize;
const SYSTEM: usize = Class::System as usize;
const CHAT: usize = Class::Chat as usize;

/// Somebody comes into a room; its number.
pub(super) fn enter(world: &mut World, shard: usize, account: Option<usize>, room: &str) -> usize {
    let joins = vec![v1::Join { room: room.into(), resume: None }];
    let number = crowd::connect(world, shard, Variant::Tcp, account, joins);
    world.run_ms(1);
    number
}

pub(super) fn chat(world: &mut World, number: usize, room: &str) -> Vec<u8> {
    let words = Content::Text(Bytes::from_static(b"something to say, and some more of it"));
    crowd::publish(world, number, room, Class::Chat, words)
}

/// The shard that is a room's home, and another one.
pub(super) fn home_and_other(world: &World, room: &str) -> (usize, usize) {
    let room = RoomId::new(room).expect("a legal name");
    let home = usize::from(home_of(&room, world.plan.shards, world.plan.config.seed).0);
    (home, (home + 1) % world.nodes.len())
}

pub(super) fn info(world: &mut World, room: &str) -> Option<RoomInfo> {
    control::list(world).into_iter().find(|info| info.room == room)
}

fn speak(world: &mut World, number: usize, room: &str, class: Class) -> Vec<u8> {
    crowd::publish(world, number, room, class, Content::Text(Bytes::from_static(b"x")))
}

fn text(text: &str) -> Content {
    Content::Text(Bytes::from(text.to_owned()))
}

fn backend_says(world: &mut World, class: Class, messages: usize) {
    let said = (0..messages).map(|n| (class, text(&format!("{n} {}", "x".repeat(100)))));
    let room = world.plan.rooms[0].clone();
    control::publish(world, &room, said.collect());
}

/// The only room as a client knows it.
fn stream(world: &World, client: usize) -> &client::Stream {
    &world.clients[client].streams[&world.plan.rooms[0]]
}

#[test]
fn an_accepted_system_message_reaches_everybody_though_the_room_is_overloaded() {
    let mut world = World::seed(1).shards(2).rooms(|r| r.defaults.rate_per_s = 5).viewers(12);
    for _ in 0..20 {
        backend_says(&mut world, Class::Chat, 50);
        backend_says(&mut world, Class::System, 2);
        world.run_ms(100);
    }
    world.run_ms(3_000);
    let books = world.books();
    assert!(books.shed[CHAT] > 500, "the room must be overloaded: {books:?}");
    assert_eq!((books.offered[SYSTEM], books.admitted[SYSTEM]), (40, 40), "{books:?}");
    assert_eq!(world.ledger.systems().count(), 40, "each has its place in the order");
    for client in 0..12 {
        let stream = stream(&world, client);
        let admitted: u64 = books.admitted.iter().sum();
        assert_eq!((stream.received, stream.missed.len()), (admitted, 0), "client {client}");
    }
}

#[test]
fn a_sweep_never_starves_another_room() {
    let mut world = World::seed(2).rooms(|r| r.window = Window::FixedMs(0)).viewers(6_000);
    let joins = vec![v1::Join { room: "small".into(), resume: None }];
    let guest = crowd::connect(&mut world, 0, Variant::Tcp, None, joins);
    world.run_ms(3_000);
    backend_says(&mut world, Class::System, 1);
    world.turn(0);
    world.turn(0);
    let before = world.figure(Figure::SweepWrites);
    control::publish(&mut world, "small", vec![(Class::Chat, text("hello"))]);
    let mut turns = 0;
    while world.clients[guest].streams["small"].received == 0 {
        world.turn(0);
        crowd::read_all(&mut world);
        turns += 1;
        assert!(turns <= 3, "the small room waits for the sweep of the large one");
    }
    let swept = world.figure(Figure::SweepWrites) - before;
    let head = (0..6_000).filter(|c| stream(&world, *c).received == 1).count();
    assert!(head < 6_000 && swept > 0, "the large room's sweep was under way: {head} of 6,000");
    world.run_ms(1_000);
    assert!((0..6_000).all(|c| stream(&world, c).received == 1), "and it came to its end");
}

#[test]
fn a_room_whose_sweeps_never_rest_gets_a_longer_window() {
    let mut world = World::seed(11).rooms(|r| r.count_every_ms = 60_000).viewers(1);
    // A crowd of which no count has told what a sweep costs.
    for _ in 1..3_000 {
        let joins = vec![v1::Join { room: "room".into(), resume: None }];
        crowd::connect(&mut world, 0, Variant::Tcp, None, joins);
    }
    world.run_ms(1_000);
    let before = world.figure(Figure::Batches);
    for _ in 0..300 {
        // A sweep takes three turns and 21 ms; every turn brings a message and a millisecond.
        backend_says(&mut world, Class::System, 1);
        world.turn(0);
        crowd::read_all(&mut world);
        world.pass(1_000);
    }
    let batches = world.figure(Figure::Batches) - before;
    assert!(batches < 20, "{batches} batches in 300 ms: the window stayed at 0");
}

#[test]
fn a_frozen_viewer_is_told_its_gap_and_ends_at_the_head_and_nobody_else_misses_anything() {
    let mut world = World::seed(3).rooms(|r| r.deadline_ms = 500).buffers(2_048).viewers(10);
    world.clients[0].frozen_until = world.now.tick.after_ms(6_000);
    for _ in 0..50 {
        backend_says(&mut world, Class::Chat, 1);
        world.run_ms(100);
    }
    assert!(stream(&world, 0).received < 50 && stream(&world, 0).missed.is_empty());
    world.run_ms(6_000);
    let frozen = stream(&world, 0);
    let missed: u64 = frozen.missed.iter().map(|(from, to, _)| to - from + 1).sum();
    assert!(missed > 0 && frozen.seq == 50, "missed {missed}, at {}", frozen.seq);
    assert_eq!(frozen.received + missed, 50);
    assert_eq!(world.figure(Figure::GapMessages), missed, "counted as it was told");
    for client in 1..10 {
        assert_eq!((stream(&world, client).received, stream(&world, client).seq), (50, 50));
    }
}

#[test]
fn an_expired_message_is_counted_and_not_sent() {
    let window = |r: &mut crate::config::Rooms| {
        (r.deadline_ms, r.window) = (500, Window::FixedMs(400));
    };
    let mut world = World::seed(4).rooms(window).viewers(4);
    world.run_ms(2_000);
    backend_says(&mut world, Class::Chat, 1);
    world.run_ms(50);
    // Behind the first one, so these wait for the window's end; and the shard has no turn then.
    backend_says(&mut world, Class::Chat, 2);
    backend_says(&mut world, Class::System, 1);
    world.run_ms(1);
    world.pass(600_000);
    world.run_ms(3_000);
    let books = world.books();
    assert_eq!((books.admitted[CHAT], books.expired[CHAT]), (1, 2), "{books:?}");
    assert_eq!((books.admitted[SYSTEM], books.expired[SYSTEM]), (1, 0), "{books:?}");
    assert!((0..4).all(|c| stream(&world, c).received == 2));
}

#[test]
fn a_resume_on_another_shard_brings_what_was_missed_in_order_and_once() {
    let mut world = World::seed(5).shards(2).viewers(2);
    backend_says(&mut world, Class::System, 3);
    world.run_ms(1_000);
    let cursor = v1::Cursor { epoch: stream(&world, 0).epoch, seq: stream(&world, 0).seq };
    assert_eq!(cursor.seq, 3);
    crowd::break_off(&mut world, 0, 104);
    backend_says(&mut world, Class::System, 5);
    world.run_ms(1_000);
    let joins = vec![v1::Join { room: "room".into(), resume: Some(cursor) }];
    let back = crowd::connect(&mut world, 1, Variant::WsJson, None, joins);
    backend_says(&mut world, Class::System, 2);
    world.run_ms(1_000);
    // In the snapshot or behind it, wherever the join came in between.
    let snapshot = &world.clients[back].snapshot;
    assert_eq!(snapshot[..5], [4, 5, 6, 7, 8]);
    let stream = stream(&world, back);
    assert_eq!((stream.seq, stream.missed.len()), (10, 0));
    assert_eq!(snapshot.len() as u64 + stream.received, 7, "each of them once");
}

#[test]
fn who_never_reads_and_goes_on_asking_is_ended_and_alone() {
    let patient = |c: &mut crate::config::Config| {
        (c.reply_bytes_max, c.frames_per_s_max) = (4_096, 30_000);
    };
    let mut world = World::seed(6).config(patient).buffers(1_024).viewers(3);
    world.clients[0].frozen_until = world.now.tick.after_ms(60_000);
    for _ in 0..4_000 {
        crowd::say(&mut world, 0, &Body::Ping(v1::Ping {}));
    }
    world.run_ms(1_000);
    let closed: u64 = world.nodes.iter().map(|n| n.metrics.closes_by(Code::TooSlow)).sum();
    assert_eq!((closed, world.figure(Figure::Members)), (1, 2));
}

#[test]
fn likes_are_one_exact_counter_told_once_a_second() {
    let mut world = World::seed(7).shards(2).viewers(6);
    for _ in 0..100 {
        for client in 0..6 {
            crowd::like(&mut world, client, "room", 3);
        }
        world.run_ms(10);
    }
    world.run_ms(2_000);
    for client in 0..6 {
        assert_eq!(stream(&world, client).likes, 1_800);
        assert!(world.clients[client].like_counts <= 4, "{}", world.clients[client].like_counts);
    }
}

#[test]
fn a_draining_shard_ends_who_has_not_yet_said_who_it_is() {
    let mut world = World::seed(8).viewers(3);
    let silent = world.net.connect(0, 1_024);
    world.run_ms(10);
    world.drain();
    let ended: u64 = world.nodes.iter().map(|n| n.metrics.closes_by(Code::Draining)).sum();
    assert!(ended >= 1 && !world.net.is_served(silent), "ended {ended}");
}

#[test]
fn every_message_is_expected_and_sent_once_for_each_member() {
    let mut world = World::seed(9).shards(3).viewers(30);
    backend_says(&mut world, Class::System, 4);
    backend_says(&mut world, Class::Chat, 2);
    world.run_ms(2_000);
    let sum = |delivery: Delivery, class: usize| -> u64 {
        world.nodes.iter().map(|n| n.metrics.deliveries()[delivery as usize][class]).sum()
    };
    for (class, expected) in [(SYSTEM, 120), (CHAT, 60)] {
        assert_eq!(sum(Delivery::Expected, class), expected);
        assert_eq!(sum(Delivery::Sent, class), expected);
    }
}

#[test]
fn an_idle_guest_costs_the_shard_88_bytes() {
    let bytes = |viewers| {
        let mut world = World::seed(10).viewers(viewers);
        world.run_ms(3_000);
        world.nodes[0].shard.bytes_used()
    };
    // Whole chunks of 1024 connections: 64 in the table, 8 in the wheel, 12 in the member list.
    let slope = (bytes(5 * 1024) - bytes(1024)) / (4 * 1024);
    assert!(slope <= 88, "{slope} bytes");
}

#[test]
fn both_balances_hold_in_each_class() {
    let rules = |r: &mut Rooms| {
        (r.defaults.rate_per_s, r.system_messages_max, r.deadline_ms) = (4, 2, 1_000);
    };
    let mut world = World::seed(6).shards(2).rooms(rules).buffers(600).viewers(10);
    let (home, other) = home_and_other(&world, "room");
    let host = enter(&mut world, other, HOST, "room");
    let frozen: Vec<usize> = (0..2).map(|_| enter(&mut world, home, None, "room")).collect();
    for number in &frozen {
        world.clients[*number].frozen_until = world.now.tick.after_ms(60_000);
    }
    for round in 0..40 {
        (0..10).for_each(|guest| drop(chat(&mut world, guest, "room")));
        if round % 10 == 0 {
            (0..12).for_each(|_| drop(speak(&mut world, host, "room", Class::Gift)));
        }
        (0..4).for_each(|_| drop(speak(&mut world, host, "room", Class::System)));
        speak(&mut world, 0, "room", Class::Gift); // a guest may not
        crowd::like(&mut world, 1, "room", 7);
        world.run_ms(100);
    }
    chat(&mut world, host, "room");
    world.turn(other);
    world.pass(2_000_000);
    speak(&mut world, host, "room", Class::System);
    world.run_ms(200);
    crowd::break_off(&mut world, frozen[0], 104);
    world.clients[frozen[1]].frozen_until = Tick(0);
    world.run_ms(5_000);

    let books = world.books();
    for class in 0..CLASSES {
        let decided = books.refused[class] + books.admitted[class] + books.merged[class];
        let decided = decided + books.shed[class] + books.expired[class];
        assert_eq!(books.offered[class], decided, "class {class}: {books:?}");
    }
    assert_eq!((books.offered[GIFT], books.offered[SYSTEM], books.offered[LIKE]), (88, 161, 40));
    assert_eq!((books.merged[LIKE], books.shed[SYSTEM]), (40, 0));
    let all = [books.refused[GIFT], books.admitted[GIFT], books.shed[GIFT], books.refused[SYSTEM]];
    assert!(all.iter().all(|n| *n > 0), "{books:?}");
    assert!(books.admitted[CHAT] > 0 && books.shed[CHAT] > 0 && books.expired[CHAT] > 0);
    for class in [CHAT, GIFT, SYSTEM] {
        let sum = |row: Delivery| -> u64 {
            world.nodes.iter().map(|n| n.metrics.deliveries()[row as usize][class]).sum()
        };
        let (sent, skipped, left) =
            (sum(Delivery::Sent), sum(Delivery::Skipped), sum(Delivery::Left));
        assert_eq!(books.admitted[class] * 13, sent + skipped + left, "class {class}");
        assert!(sent > 0 && skipped > 0, "class {class}: {sent} sent, {skipped} skipped");
    }
    let left = world.nodes.iter().map(|n| n.metrics.deliveries()[Delivery::Left as usize]);
    assert!(left.flatten().sum::<u64>() > 0, "somebody left before being served");
    world.finish();
}

#[test]
fn a_banned_user_is_out_everywhere_and_stays_out_until_the_ban_ends() {
    let mut world = World::seed(8).shards(2).viewers(2);
    let judges = [0, 1].map(|shard| enter(&mut world, shard, JUDGE, "room"));
    control::kick(&mut world, "room", "judge", 2);
    world.run_ms(10);
    for judge in judges {
        assert_eq!(world.clients[judge].left_by, Some(Code::Banned.number()));
        crowd::join(&mut world, judge, "room", None);
    }
    world.run_ms(10);
    for judge in judges {
        assert_eq!(world.clients[judge].refused_by, Some(Code::Banned.number()));
    }
    world.run_ms(2_000);
    for judge in judges {
        crowd::join(&mut world, judge, "room", None);
        world.run_ms(10);
        assert!(world.clients[judge].streams.contains_key("room"), "the ban is over");
    }
    world.finish();
}

#[test]
fn a_banned_users_device_and_address_are_refused_with_it_until_the_ban_is_ended() {
    let mut world = World::seed(11).shards(2).viewers(0);
    // Clients come from one of five addresses and seven devices, by number.
    let host = enter(&mut world, 0, HOST, "room");
    let others: Vec<usize> = (1..36).map(|n| enter(&mut world, n % 2, None, "room")).collect();
    let judge = (36..41).map(|n| enter(&mut world, n % 2, JUDGE, "room")).last().unwrap();
    assert_eq!((judge - host) % 5, 0);
    let with = BanWith { devices: true, addresses: true };
    control::kick_with(&mut world, "room", "host", 60, with);
    world.run_ms(20);
    assert_eq!(world.clients[host].left_by, Some(Code::Banned.number()));
    assert_eq!(world.clients[judge].left_by, None, "who moderates is not concerned");
    let is_meant =
        |other: usize| (other - host).is_multiple_of(5) || (other - host).is_multiple_of(7);
    for other in &others {
        let left_by = is_meant(*other).then(|| Code::Banned.number());
        assert_eq!(world.clients[*other].left_by, left_by, "{other}");
    }
    let meant: Vec<usize> = others.iter().copied().filter(|other| is_meant(*other)).collect();
    assert!(meant.len() > 5 && meant.len() < others.len() / 2);
    for other in &meant {
        crowd::join(&mut world, *other, "room", None);
    }
    world.run_ms(20);
    for other in &meant {
        assert_eq!(world.clients[*other].refused_by, Some(Code::Banned.number()));
    }
    control::unban(&mut world, "room", "host");
    world.run_ms(20);
    for other in meant.iter().chain([&host]) {
        crowd::join(&mut world, *other, "room", None);
        world.run_ms(5);
        assert!(world.clients[*other].streams.contains_key("room"), "{other} may again");
    }
    world.finish();
}

#[test]
fn who_may_not_owe_what_its_joins_bring_is_gone_and_in_no_room() {
    let rooms: Vec<String> = (0..12).map(|n| format!("room-{n}")).collect();
    let mut world = World::seed(9).config(|c| c.reply_bytes_max = 4_096).start();
    world.plan.rooms = rooms.clone();
    let escapes = Content::Text(Bytes::from("\u{1}".repeat(400)));
    let mut joins = Vec::new();
    for room in &rooms {
        let speaker = enter(&mut world, 0, HOST, room);
        crowd::publish(&mut world, speaker, room, Class::System, escapes.clone());
        let epoch = world.clients[speaker].streams[room].epoch;
        joins.push(v1::Join { room: room.clone(), resume: Some(v1::Cursor { epoch, seq: 0 }) });
    }
    world.run_ms(1_000);
    let greedy = crowd::connect(&mut world, 0, Variant::WsJson, None, joins);
    world.run_ms(1_000);
    assert!(!world.clients[greedy].welcomed && !world.clients[greedy].open);
    assert_eq!(world.nodes[0].metrics.closes_by(Code::TooSlow), 1);
    assert_eq!(world.figure(Figure::Members), 12);
    world.finish();
}

#[test]
fn settings_of_a_room_hold_on_every_shard() {
    let mut world = World::seed(10).shards(2).viewers(2);
    let quiet = RoomSettings { guests_publish: false, ..RoomSettings::default() };
    control::update(&mut world, "room", quiet);
    world.run_ms(10);
    for guest in 0..2 {
        let id = chat(&mut world, guest, "room");
        world.run_ms(500);
        assert_eq!(world.ledger.outcome(&id), Some(Outcome::Refused));
    }
    world.finish();
}
