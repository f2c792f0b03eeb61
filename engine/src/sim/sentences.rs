//! Single promises about rooms, each a sentence, over worlds where nothing happens by chance.

use super::control;
use super::crowd;
use super::*;
use crate::config::Window;
use crate::metrics::Delivery;
use bytes::Bytes;
use uproar_proto::control::Content;
use uproar_proto::error::Code;
use uproar_proto::v1::{Class, client_frame::Body};

const SYSTEM: usize = Class::System as usize;
const CHAT: usize = Class::Chat as usize;

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
fn an_idle_guest_costs_the_shard_72_bytes() {
    let bytes = |viewers| {
        let mut world = World::seed(10).viewers(viewers);
        world.run_ms(3_000);
        world.nodes[0].shard.bytes_used()
    };
    // Whole chunks of 1024 connections: 48 in the table, 8 in the wheel, 12 in the member list.
    let slope = (bytes(5 * 1024) - bytes(1024)) / (4 * 1024);
    assert!(slope <= 72, "{slope} bytes");
}
