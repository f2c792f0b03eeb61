//! Every kind of message between shards, lost to a full queue: what must come right all the same.

use super::sentences::{HOST, JUDGE, chat, enter, home_and_other, info};
use super::*;
use crate::shard::message::Message as M;
use uproar_proto::control::RoomSettings;
use uproar_proto::error::Code;
use uproar_proto::v1::{GapReason, Outcome};

/// Two shards and the host in a room at its home; the other shard's number.
fn world() -> (World, usize) {
    let mut world = World::seed(1).shards(2).start();
    let (home, other) = home_and_other(&world, "room");
    enter(&mut world, home, HOST, "room");
    (world, other)
}

/// The same with somebody in it on the other shard.
fn world_of_two() -> (World, usize, usize) {
    let (mut world, other) = world();
    let guest = enter(&mut world, other, JUDGE, "room");
    world.run_ms(3_000);
    (world, other, guest)
}

fn is_in(world: &World, number: usize) -> bool {
    world.clients[number].streams.contains_key("room")
}

#[test]
fn a_join_is_refused_where_the_home_cannot_be_asked_and_may_be_tried_again() {
    let (mut world, other) = world();
    world.mail.loss = Some((|m| matches!(m, M::Attach { .. }), 1));
    let guest = enter(&mut world, other, None, "room");
    assert_eq!(world.clients[guest].refused_by, Some(Code::QueueFull.number()));
    crowd::join(&mut world, guest, "room", None);
    world.run_ms(1);
    assert!(is_in(&world, guest));
    world.finish();
}

#[test]
fn a_join_is_answered_though_the_home_cannot_answer_at_once() {
    let (mut world, other) = world();
    world.mail.loss = Some((|m| matches!(m, M::Attached { .. }), 3));
    let guest = enter(&mut world, other, None, "room");
    assert!(!is_in(&world, guest));
    chat(&mut world, 0, "room");
    world.run_ms(100);
    assert_eq!(world.clients[guest].streams["room"].seq, 1, "it is where the room is now");
    world.finish();
}

#[test]
fn a_refusal_to_attach_arrives() {
    let mut world = World::seed(1).shards(2).rooms(|r| r.auto_create = false).start();
    let (_, other) = home_and_other(&world, "room");
    world.mail.loss = Some((|m| matches!(m, M::Attached { .. }), 3));
    let guest = enter(&mut world, other, None, "room");
    world.run_ms(100);
    assert_eq!(world.clients[guest].refused_by, Some(Code::RoomNotFound.number()));
    world.finish();
}

#[test]
fn a_home_learns_that_a_shard_has_nobody_left() {
    let (mut world, _, guest) = world_of_two();
    world.mail.loss = Some((|m| matches!(m, M::Detach { .. }), 3));
    crowd::leave(&mut world, guest, "room");
    world.run_ms(4_000);
    assert_eq!(world.mail.loss.map(|(_, left)| left), Some(0), "it was lost");
    assert_eq!(info(&mut world, "room").map(|info| info.shards), Some(1));
    world.finish();
}

#[test]
fn a_home_learns_it_though_somebody_tried_to_come_back() {
    let (mut world, other, guest) = world_of_two();
    world.mail.loss = Some((|m| matches!(m, M::Detach { .. } | M::Attach { .. }), 2));
    crowd::leave(&mut world, guest, "room");
    world.run_ms(10);
    while world.mail.loss.is_some_and(|(_, left)| left == 2) {
        world.pass(10_000);
        world.turn(other);
    }
    // In the very turn in which it would be told again.
    crowd::join(&mut world, guest, "room", None);
    world.pass(2_000);
    world.turn(other);
    assert_eq!(world.mail.loss.map(|(_, left)| left), Some(0), "both were lost");
    world.run_ms(1_000);
    assert_eq!(world.clients[guest].refused_by, Some(Code::QueueFull.number()));
    assert_eq!(info(&mut world, "room").map(|info| info.shards), Some(1));
    world.finish();
}

#[test]
fn a_count_that_was_lost_is_told_again() {
    let (mut world, other) = world();
    world.mail.loss = Some((|m| matches!(m, M::Members { .. }), 3));
    enter(&mut world, other, None, "room");
    world.run_ms(3_000);
    assert_eq!(info(&mut world, "room").map(|info| info.viewers), Some(2));
    world.finish();
}

#[test]
fn the_sender_of_a_lost_offer_is_refused() {
    let (mut world, other, guest) = world_of_two();
    world.mail.loss = Some((|m| matches!(m, M::Offer { .. }), 1));
    let id = chat(&mut world, guest, "room");
    world.turn(other);
    assert!(world.wants_turn(other), "what it has to say now does not wait for a deadline");
    world.run_ms(500);
    assert_eq!(world.ledger.outcome(&id), Some(Outcome::Refused));
    world.finish();
}

#[test]
fn a_lost_batch_is_told_as_a_gap() {
    let (mut world, _, guest) = world_of_two();
    world.mail.loss = Some((|m| matches!(m, M::Flush(_)), 3));
    chat(&mut world, 0, "room");
    world.run_ms(1_000);
    let stream = &world.clients[guest].streams["room"];
    assert_eq!((stream.seq, &stream.missed[..]), (1, &[(1, 1, GapReason::Lost)][..]));
    world.finish();
}

#[test]
fn a_verdict_that_was_lost_is_told_later() {
    let (mut world, _, guest) = world_of_two();
    world.mail.loss = Some((|m| matches!(m, M::Verdicts { .. }), 3));
    let id = chat(&mut world, guest, "room");
    world.run_ms(1_000);
    assert_eq!(world.ledger.outcome(&id), Some(Outcome::Accepted));
    world.finish();
}

#[test]
fn a_lost_change_of_settings_holds_all_the_same() {
    let (mut world, other) = world();
    let guest = enter(&mut world, other, None, "room");
    world.mail.loss = Some((|m| matches!(m, M::Updated { .. }), 2));
    for guests_publish in [true, false] {
        let settings = RoomSettings { guests_publish, ..RoomSettings::default() };
        control::update(&mut world, "room", settings);
        world.run_ms(0);
    }
    world.run_ms(100);
    let id = chat(&mut world, guest, "room");
    world.run_ms(500);
    assert_eq!(world.ledger.outcome(&id), Some(Outcome::Refused), "the last change counts");
    world.finish();
}

#[test]
fn the_end_of_a_room_arrives() {
    let (mut world, _, guest) = world_of_two();
    world.mail.loss = Some((|m| matches!(m, M::Ended { .. }), 3));
    control::close(&mut world, "room");
    world.run_ms(100);
    assert_eq!(world.clients[guest].left_by, Some(Code::RoomClosed.number()));
    world.finish();
}

#[test]
fn an_end_that_comes_late_does_not_end_the_next_life() {
    let (mut world, _, guest) = world_of_two();
    world.mail.loss = Some((|m| matches!(m, M::Ended { .. }), u32::MAX));
    control::close(&mut world, "room");
    crowd::leave(&mut world, guest, "room");
    world.run_ms(4_000);
    crowd::join(&mut world, guest, "room", None);
    world.run_ms(10);
    world.mail.loss = None;
    world.run_ms(10);
    assert!(is_in(&world, guest) && world.clients[guest].left_by.is_none());
    world.finish();
}

#[test]
fn a_kick_that_was_lost_is_carried_out_and_answered() {
    for ban_s in [0, 60] {
        let (mut world, _, guest) = world_of_two();
        world.mail.loss = Some((|m| matches!(m, M::Kick { .. }), 3));
        control::kick(&mut world, "room", "judge", ban_s);
        world.run_ms(1);
        let (unanswered, _) = control::unanswered_and_closed(&world);
        assert_eq!(unanswered, 1, "it is answered when it is done");
        world.run_ms(100);
        let code = if ban_s > 0 { Code::Banned } else { Code::Kicked };
        assert_eq!(world.clients[guest].left_by, Some(code.number()));
        crowd::join(&mut world, guest, "room", None);
        world.run_ms(10);
        assert_eq!(is_in(&world, guest), ban_s == 0);
        world.finish();
    }
}

#[test]
fn a_ban_that_is_ended_while_its_kick_is_on_its_way_keeps_nobody_out() {
    let (mut world, _, guest) = world_of_two();
    world.mail.loss = Some((|m| matches!(m, M::Kick { .. }), u32::MAX));
    control::kick(&mut world, "room", "judge", 60);
    world.run_ms(1);
    control::unban(&mut world, "room", "judge");
    world.run_ms(10);
    world.mail.loss = None;
    world.run_ms(100);
    assert_eq!(world.clients[guest].left_by, Some(Code::Kicked.number()));
    crowd::join(&mut world, guest, "room", None);
    world.run_ms(10);
    assert!(is_in(&world, guest));
    world.finish();
}

#[test]
fn bans_that_were_lost_are_told_as_they_are_then() {
    let (mut world, _, guest) = world_of_two();
    control::kick(&mut world, "room", "judge", 60);
    world.run_ms(10);
    world.mail.loss = Some((|m| matches!(m, M::Bans { .. }), u32::MAX));
    control::unban(&mut world, "room", "judge");
    world.run_ms(10);
    crowd::join(&mut world, guest, "room", None);
    world.run_ms(10);
    assert!(!is_in(&world, guest), "its shard does not know yet");
    world.mail.loss = None;
    world.run_ms(100);
    crowd::join(&mut world, guest, "room", None);
    world.run_ms(10);
    assert!(is_in(&world, guest));
    world.finish();
}

#[test]
fn a_kick_that_comes_late_spares_who_is_in_the_next_life() {
    let (mut world, _, guest) = world_of_two();
    world.mail.loss = Some((|m| matches!(m, M::Kick { .. }), u32::MAX));
    control::kick(&mut world, "room", "judge", 60);
    world.run_ms(1);
    control::close(&mut world, "room");
    world.run_ms(10);
    crowd::join(&mut world, guest, "room", None);
    world.run_ms(10);
    world.mail.loss = None;
    world.run_ms(100);
    assert!(is_in(&world, guest), "bans end with the life of a room");
    world.finish();
}

#[test]
fn kicks_that_nobody_takes_are_answered_beyond_a_bound() {
    let (mut world, _, _) = world_of_two();
    world.mail.loss = Some((|m| matches!(m, M::Kick { .. }), u32::MAX));
    for _ in 0..20 {
        (0..1_000).for_each(|_| control::kick(&mut world, "room", "nobody", 0));
        world.run_ms(1);
    }
    let (unanswered, _) = control::unanswered_and_closed(&world);
    assert_eq!(unanswered, 16 * 1024, "so many are kept");
    world.mail.loss = None;
    world.finish();
}
