//! Bans and mutes that outlive their room, each promise a sentence.

use super::control;
use super::keeping::{self, Keeps, LONG_S};
use super::sentences::{HOST, chat, enter, home_and_other};
use super::*;
use crate::metrics::Figure;
use uproar_proto::control::{KeptQuestion, PenaltyKind};
use uproar_proto::error::Code;
use uproar_proto::ids::Epoch;

/// A room on three shards, with somebody who keeps what it decides and answers when it is told to.
fn world(seed: u64) -> World {
    let mut plan = World::seed(seed).shards(3);
    plan.keeps = Keeps { is_there: true, page: 500, ..Keeps::default() };
    plan.viewers(3)
}

/// What the room asks, and nobody has answered.
fn asked(world: &mut World) -> Vec<KeptQuestion> {
    std::mem::take(&mut world.keeper.questions)
}

/// The room ends, and another life of it begins with these two; what it asks.
fn anew(world: &mut World) -> (usize, usize, KeptQuestion) {
    control::close(world, "room");
    world.run_ms(50);
    asked(world);
    let (home, other) = home_and_other(world, "room");
    let guest = enter(world, home, None, "room");
    let host = enter(world, other, HOST, "room");
    world.run_ms(50);
    (guest, host, asked(world).remove(0))
}

fn is_member(world: &World, client: usize) -> bool {
    world.clients[client].streams.contains_key("room")
}

// S-71
#[test]
fn a_room_that_begins_is_told_whom_its_former_lives_have_banned_and_muted() {
    let mut world = world(61);
    control::kick(&mut world, "room", "host", LONG_S);
    control::mute(&mut world, "room", "judge", LONG_S);
    let (guest, host, question) = anew(&mut world);
    assert!(is_member(&world, host), "until the room is told, nothing is kept");
    keeping::answer(&mut world, &question);
    world.run_ms(50);
    assert!(!is_member(&world, host) && is_member(&world, guest));
    assert_eq!(world.clients[host].left_by, Some(Code::Banned.number()));
    assert_eq!(world.figure(Figure::KeptHeld), 2);
    let again = enter(&mut world, 0, HOST, "room");
    world.run_ms(50);
    assert_eq!(world.clients[again].refused_by, Some(Code::Banned.number()));
}

// S-71
#[test]
fn who_is_muted_is_muted_in_the_next_life_too_until_a_moderator_ends_it() {
    let mut world = world(62);
    control::mute(&mut world, "room", "host", LONG_S);
    let (_, host, question) = anew(&mut world);
    keeping::answer(&mut world, &question);
    world.run_ms(50);
    let id = chat(&mut world, host, "room");
    world.run_ms(1_000);
    assert_eq!(world.ledger.outcome(&id), Some(v1::Outcome::Refused));
    control::mute(&mut world, "room", "host", 0);
    let (_, host, question) = anew(&mut world);
    keeping::answer(&mut world, &question);
    let id = chat(&mut world, host, "room");
    world.run_ms(1_000);
    assert_eq!(world.ledger.outcome(&id), Some(v1::Outcome::Accepted));
    assert_eq!(world.figure(Figure::KeptHeld), 1);
}

// S-71
#[test]
fn what_this_life_decides_before_it_is_told_wins_over_what_is_kept() {
    let mut world = world(63);
    control::kick(&mut world, "room", "host", LONG_S);
    control::mute(&mut world, "room", "host", LONG_S);
    let (_, host, question) = anew(&mut world);
    // The answer is on its way, made before this.
    let kept = [(PenaltyKind::Ban, "host"), (PenaltyKind::Mute, "host")];
    let list = kept.map(|(kind, user)| uproar_proto::control::Penalty {
        kind,
        user: user.into(),
        until_ms: u64::MAX,
    });
    control::unban(&mut world, "room", "host");
    control::mute(&mut world, "room", "host", 0);
    world.run_ms(10);
    keeping::tell(&mut world, question.told(list.to_vec(), true));
    world.run_ms(50);
    assert!(is_member(&world, host));
    let id = chat(&mut world, host, "room");
    world.run_ms(1_000);
    assert_eq!(world.ledger.outcome(&id), Some(v1::Outcome::Accepted));
    assert_eq!(world.figure(Figure::KeptHeld), 0);
    // And it is what the next life is told.
    let (_, host, question) = anew(&mut world);
    keeping::answer(&mut world, &question);
    world.run_ms(50);
    assert!(is_member(&world, host));
}

#[test]
fn an_answer_for_another_life_of_the_room_is_not_looked_at() {
    let mut world = world(64);
    control::kick(&mut world, "room", "host", LONG_S);
    let (_, _, before) = anew(&mut world);
    let (_, host, question) = anew(&mut world);
    assert_ne!(before.epoch, question.epoch);
    keeping::answer(&mut world, &before);
    let other = KeptQuestion { epoch: Epoch(question.epoch.0 ^ 1), ..question.clone() };
    keeping::answer(&mut world, &other);
    world.run_ms(50);
    assert!(is_member(&world, host));
    keeping::answer(&mut world, &question);
    world.run_ms(50);
    assert!(!is_member(&world, host));
}

#[test]
fn a_room_that_is_not_told_asks_again_after_longer_and_longer_times() {
    let mut world = world(65);
    control::close(&mut world, "room");
    world.run_ms(50);
    asked(&mut world);
    enter(&mut world, 0, None, "room");
    world.run_ms(50);
    let first = asked(&mut world).remove(0);
    let mut waited = Vec::new();
    for number in first.number + 1..=first.number + 7 {
        let from = world.now.tick;
        while world.keeper.questions.is_empty() {
            world.run_ms(100);
        }
        assert_eq!(asked(&mut world)[0].number, number);
        waited.push((world.now.tick.since_us(from) + 500_000) / 1_000_000);
    }
    assert_eq!(waited, [1, 2, 4, 8, 16, 30, 30]);
    // A late answer to an earlier one is nobody's.
    keeping::answer(&mut world, &first);
    world.run_ms(30_000);
    let last = asked(&mut world).remove(0);
    keeping::answer(&mut world, &last);
    world.run_ms(70_000);
    assert_eq!(asked(&mut world), []);
}

#[test]
fn where_there_is_nobody_to_ask_nobody_is_asked() {
    let mut world = World::seed(66).shards(2).viewers(4);
    control::kick(&mut world, "room", "host", LONG_S);
    world.run_ms(2_000);
    assert_eq!(world.figure(Figure::KeptAsked), 0);
    assert_eq!(world.figure(Figure::PenaltiesTold), 0);
    assert!(world.nodes.iter_mut().all(|node| node.shard.take_penalties().is_empty()));
}

#[test]
fn a_guests_name_is_not_kept_for_it_is_anothers_later() {
    let mut world = world(67);
    control::kick(&mut world, "room", "guest-0123456789ab", LONG_S);
    control::kick(&mut world, "room", "guest-list", LONG_S);
    world.run_ms(50);
    assert_eq!(world.figure(Figure::PenaltiesTold), 1);
}

#[test]
fn what_is_kept_is_told_in_pages() {
    let mut world = world(68);
    world.plan.keeps.page = 2;
    for n in 0..5 {
        control::kick(&mut world, "room", &format!("u{n}"), LONG_S);
    }
    control::kick(&mut world, "room", "zoe", LONG_S);
    let (_, _, question) = anew(&mut world);
    keeping::answer(&mut world, &question);
    for told in [2, 4, 6] {
        world.run_ms(50);
        assert_eq!(world.figure(Figure::KeptHeld), told);
        keeping::answer_all(&mut world);
    }
    world.run_ms(5_000);
    assert_eq!((asked(&mut world), world.figure(Figure::KeptHeld)), (vec![], 6));
}

#[test]
fn a_crowd_of_rooms_asks_as_fast_as_it_is_answered() {
    let mut plan = World::seed(69).shards(2);
    plan.keeps = Keeps { is_there: true, page: 500, ..Keeps::default() };
    let mut world = plan.start();
    for n in 0..500 {
        control::create(&mut world, &format!("r{n}"), Default::default());
    }
    world.run_ms(50);
    assert_eq!(world.keeper.questions.len(), 64, "that is all that is kept of the questions");
    assert_eq!(world.figure(Figure::KeptAsked), 128, "of two shards");
    // Those that are lost, or that nobody answers, go to the end.
    let mut told = std::collections::BTreeSet::new();
    for _ in 0..2_000 {
        for question in asked(&mut world) {
            told.insert(question.room.clone());
            keeping::answer(&mut world, &question);
        }
        world.run_ms(10);
    }
    assert_eq!(told.len(), 500);
    assert!(world.nodes.iter().all(|node| node.shard.asking() == 0));
}

/// The world of a seed, but that rooms end and moderators decide far more often.
fn restless(seed: u64) -> World {
    let mut plan = Plan::drawn(seed);
    plan.keeps.is_there = true;
    (plan.habits.backend_room, plan.habits.backend_user) = (40, 40);
    // None has to make room for another.
    plan.config.rooms.bans_max = 10_000;
    World::new(plan)
}

// S-71
#[test]
fn worlds_whose_rooms_begin_anew_again_and_again_hold_what_was_decided() {
    let mut held = 0;
    for seed in 1..=300 {
        let mut world = restless(seed);
        world.run();
        held += world.figure(Figure::KeptHeld);
    }
    assert!(held > 1_000, "{held}");
    let (mut one, mut two) = (restless(7), restless(7));
    assert_eq!((one.run(), one.trace()), (two.run(), two.trace()));
}
