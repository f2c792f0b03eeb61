//! What a room tells beside messages, each promise a sentence: recalls, attributes, the pinned
//! message, polls.

use super::control;
use super::crowd;
use super::sentences::{JUDGE, enter, home_and_other};
use super::*;
use crate::metrics::Figure;
use crate::shard::message::Message;
use bytes::Bytes;
use uproar_proto::control::{AttributeChange, Content, NewPoll, Pin, Recall};
use uproar_proto::error::Code;
use uproar_proto::v1::{Class, client_frame::Body};

fn say(world: &mut World, text: &str) {
    let text = Content::Text(Bytes::from(text.to_owned()));
    control::publish(world, "room", vec![(Class::System, text)]);
    world.run_ms(50);
}

fn set(key: &str, value: String) -> AttributeChange {
    AttributeChange { set: [(key.to_owned(), value)].into(), ..AttributeChange::default() }
}

fn stream(world: &World, client: usize) -> &client::Stream {
    &world.clients[client].streams["room"]
}

fn vote(world: &mut World, client: usize, option: u32) {
    let room = "room".to_owned();
    crowd::say(world, client, &Body::Vote(v1::Vote { room, poll: 1, option }));
}

fn poll(duration_s: u32) -> NewPoll {
    let options = vec!["red".into(), "blue".into()];
    NewPoll { question: "who wins?".into(), options, duration_s }
}

#[test]
fn a_recall_reaches_every_viewer_in_order_and_who_comes_later_sees_a_blank() {
    let mut world = World::seed(31).shards(3).viewers(30);
    (1..=4).for_each(|n| say(&mut world, &format!("line {n}")));
    control::pin(&mut world, "room", Some(Pin::Seq(2)));
    world.run_ms(300);
    assert!((0..30).all(|client| stream(&world, client).pinned.is_some()));
    control::recall(&mut world, "room", Recall::Seqs(vec![2, 4, 99]));
    world.run_ms(1_000);
    for client in 0..30 {
        let stream = stream(&world, client);
        assert!(stream.recalled.iter().eq(&[2, 4]), "client {client}: {:?}", stream.recalled);
        assert!(stream.pinned.is_none(), "what is recalled is not pinned");
    }
    let late = enter(&mut world, 1, None, "room");
    let late = &world.clients[late];
    assert_eq!((&late.snapshot[..], &late.blank[..]), (&[1, 2, 3, 4][..], &[2, 4][..]));
    // Who was away has them on its screen.
    let cursor = v1::Cursor { epoch: stream(&world, 0).epoch, seq: 3 };
    let joins = vec![v1::Join { room: "room".into(), resume: Some(cursor) }];
    let back = crowd::connect(&mut world, 2, Variant::Tcp, None, joins);
    world.run_ms(10);
    assert_eq!(world.clients[back].blank, [4]);
    assert!(stream(&world, back).recalled.iter().eq(&[2]), "up to its cursor");
}

#[test]
fn a_room_without_viewers_on_a_shard_shows_it_the_same_state_later() {
    let mut world = World::seed(32).shards(2).viewers(0);
    let (home, other) = home_and_other(&world, "room");
    let first = enter(&mut world, home, None, "room");
    for n in 0..20 {
        control::attributes(&mut world, "room", set("score", n.to_string()));
    }
    control::pin(&mut world, "room", Some(Pin::Text { user: "host".into(), text: "hi".into() }));
    control::open_poll(&mut world, "room", poll(60));
    world.run_ms(600);
    let late = enter(&mut world, other, None, "room");
    for client in [first, late] {
        let stream = stream(&world, client);
        assert_eq!((stream.attributes_version, stream.attributes["score"].as_str()), (20, "19"));
        assert_eq!(stream.pinned.as_ref().map(|m| (m.seq, m.user.as_str())), Some((0, "host")));
        assert_eq!(stream.polls[&1].question, "who wins?");
    }
    assert!(stream(&world, first).told <= 4, "merged: {}", stream(&world, first).told);
}

#[test]
fn notices_that_were_lost_on_the_way_are_made_good() {
    let mut world = World::seed(33).shards(2).viewers(20);
    say(&mut world, "one");
    control::attributes(&mut world, "room", set("a", "1".into()));
    world.run_ms(500);
    // Nothing that the home sends comes through for a while.
    world.mail.loss = Some((|message| matches!(message, Message::Flush(_)), u32::MAX));
    control::attributes(&mut world, "room", set("a", "2".into()));
    control::recall(&mut world, "room", Recall::Seqs(vec![1]));
    control::pin(&mut world, "room", Some(Pin::Text { user: "host".into(), text: "hi".into() }));
    control::open_poll(&mut world, "room", poll(60));
    world.run_ms(1_000);
    world.mail.loss = None;
    world.run_ms(1_000);
    for client in 0..20 {
        let stream = stream(&world, client);
        assert_eq!((stream.attributes_version, stream.attributes["a"].as_str()), (2, "2"));
        assert!(stream.recalled.contains(&1) && stream.pinned.is_some(), "client {client}");
        assert_eq!(stream.polls[&1].options.len(), 2, "client {client}");
    }
}

#[test]
fn an_answer_counts_once_though_its_user_comes_by_every_shard() {
    let mut world = World::seed(34).shards(3).viewers(90);
    control::open_poll(&mut world, "room", poll(3));
    world.run_ms(300);
    (0..90).for_each(|client| vote(&mut world, client, client as u32 % 2));
    // One user, by three shards, each connection broken right behind its answer.
    for shard in 0..3 {
        let judge = enter(&mut world, shard, JUDGE, "room");
        vote(&mut world, judge, 1);
        vote(&mut world, judge, 0);
        world.run_ms(1);
        crowd::break_off(&mut world, judge, 0);
    }
    let last = enter(&mut world, 0, JUDGE, "room");
    vote(&mut world, last, 0);
    world.run_ms(700);
    let codes: Vec<u32> = world.clients[last].voted.iter().map(|voted| voted.code).collect();
    assert_eq!(codes, [Code::AlreadyVoted.number()]);
    world.run_ms(5_000);
    vote(&mut world, 0, 0);
    world.run_ms(10);
    for client in 0..90 {
        let poll = &stream(&world, client).polls[&1];
        assert_eq!((&poll.votes[..], poll.over), (&[45, 46][..], true), "client {client}");
        assert!(stream(&world, client).told <= 6, "at most once a second");
        let codes: Vec<u32> = world.clients[client].voted.iter().map(|v| v.code).collect();
        let late = Code::PollOver.number();
        assert_eq!(codes, if client == 0 { vec![0, late] } else { vec![0] });
    }
    let (votes, counted) = (world.figure(Figure::VotesIn), world.figure(Figure::VotesCounted));
    assert_eq!((votes, counted), (98, 91));
    assert_eq!(world.figure(Figure::VotesRefused), votes - counted, "each is accounted for");
}

#[test]
fn answers_that_find_a_queue_full_are_refused_and_count_when_given_again() {
    let mut world = World::seed(35).shards(2).viewers(20);
    control::open_poll(&mut world, "room", poll(30));
    world.run_ms(300);
    let (home, _) = home_and_other(&world, "room");
    world.mail.loss = Some((|message| matches!(message, Message::Votes { .. }), u32::MAX));
    (0..20).for_each(|client| vote(&mut world, client, 0));
    world.run_ms(400);
    world.mail.loss = None;
    let told = |world: &World, client: usize, code: u32| {
        world.clients[client].voted.last().is_some_and(|voted| voted.code == code)
    };
    let full = Code::QueueFull.number();
    let again: Vec<usize> = (0..20).filter(|client| told(&world, *client, full)).collect();
    assert!(!again.is_empty(), "votes cross to shard {home}");
    again.iter().for_each(|client| vote(&mut world, *client, 0));
    world.run_ms(2_000);
    assert!((0..20).all(|client| told(&world, client, 0)));
    assert_eq!(stream(&world, 0).polls[&1].votes, [20, 0]);
}
