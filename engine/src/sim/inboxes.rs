//! Single promises about inboxes, each a sentence: routes, pushes, memberships, and what happens
//! when a message between shards is lost. Control is played by the test.

use super::sentences::{HOST, JUDGE};
use super::*;
use crate::cluster::home::{home_of, home_of_name};
use uproar_proto::control::{Ask, Asked, Membership, Tell};
use uproar_proto::error::Code;
use uproar_proto::ids::McastId;
use uproar_proto::v1::client_frame::Body as Said;
use uproar_proto::v1::server_frame::Body;

pub(super) const GROUP: &str = "00000000deadbeef";

pub(super) fn world(seed: u64) -> World {
    let mut world = World::seed(seed).shards(3).viewers(0);
    world.nodes.iter_mut().for_each(|node| node.shard.serve_inboxes());
    world
}

/// A device with an inbox that is not open yet; its number.
pub(super) fn device(world: &mut World, shard: usize, account: Option<usize>) -> usize {
    let number = crowd::connect_to_inbox(world, shard, account);
    world.run_ms(5);
    number
}

pub(super) fn asks(world: &mut World) -> Vec<Ask> {
    world.nodes.iter_mut().flat_map(|node| node.shard.take_asks()).collect()
}

/// What control tells, to where the engine would hand it.
pub(super) fn tell(world: &mut World, tell: Tell) {
    let home = |world: &World, mcast: &McastId| {
        let config = &world.plan.config;
        usize::from(home_of_name(mcast.as_str(), world.plan.shards, config.seed).0)
    };
    let to = match &tell {
        Tell::Opened { to, .. } | Tell::Answer { to, .. } | Tell::Show { to, .. } => {
            vec![usize::from(to.shard)]
        }
        Tell::Push { mcast, .. } | Tell::PushAbout { mcast, .. } | Tell::Resync { mcast } => {
            vec![home(world, mcast)]
        }
        Tell::Join { user, .. } => vec![home(world, &McastId::user(user))],
        Tell::Leave { user, group, .. } => {
            vec![home(world, &McastId::user(user)), home(world, &McastId::group(group))]
        }
        Tell::Kept(kept) => {
            let config = &world.plan.config;
            vec![usize::from(home_of(&kept.room, world.plan.shards, config.seed).0)]
        }
        Tell::Judged { room, .. } => {
            let config = &world.plan.config;
            vec![usize::from(home_of(room, world.plan.shards, config.seed).0)]
        }
        Tell::Close { .. }
        | Tell::Generation(_)
        | Tell::Filter(_)
        | Tell::Blocks(_)
        | Tell::Anew { .. }
        | Tell::Announce { .. } => (0..world.nodes.len()).collect(),
    };
    for shard in to {
        assert!(world.mail.post(shard, Message::Tell(tell.clone())).is_ok(), "there is room");
    }
    world.run_ms(5);
}

/// Control's answer to who opens an inbox.
pub(super) fn answer(world: &mut World, ask: &Ask, groups: Result<Vec<Membership>, Code>) {
    tell(world, Tell::Opened { to: ask.from, number: ask.number, groups });
}

/// Answers every device that opens its inbox.
pub(super) fn open_all(world: &mut World, groups: &[Membership]) -> Vec<Ask> {
    let asks = asks(world);
    for ask in &asks {
        if matches!(ask.what, Asked::Open { .. }) {
            answer(world, ask, Ok(groups.to_vec()));
        }
    }
    asks
}

pub(super) fn push(world: &mut World, mcast: McastId, seq: u64) {
    let message = v1::StoredMessage { seq, ..v1::StoredMessage::default() };
    let stored = v1::Stored { conversation: "x".into(), messages: vec![message] };
    tell(world, Tell::Push { mcast, frame: Box::new(Body::Stored(stored)) });
}

/// The seqs a device was pushed, in order, and how often it was told to sync.
pub(super) fn heard(world: &World, number: usize) -> (Vec<u64>, usize) {
    let inbox = &world.clients[number].inbox;
    let seq = |body: &Body| match body {
        Body::Stored(stored) => Some(stored.messages[0].seq),
        _ => None,
    };
    let resyncs = inbox.iter().filter(|body| matches!(body, Body::Resync(_))).count();
    (inbox.iter().filter_map(seq).collect(), resyncs)
}

pub(super) fn member(since_seq: u64) -> Membership {
    Membership { group: GROUP.into(), since_seq }
}

#[test]
fn a_push_reaches_every_device_of_its_user_once_and_nobody_else() {
    let mut world = world(1);
    let host: Vec<usize> = (0..3).map(|shard| device(&mut world, shard, HOST)).collect();
    let judge = device(&mut world, 0, JUDGE);
    assert_eq!(open_all(&mut world, &[]).len(), 4);
    push(&mut world, McastId::user("host"), 1);
    push(&mut world, McastId::user("host"), 2);
    for device in host {
        assert_eq!(heard(&world, device), (vec![1, 2], 0));
    }
    assert_eq!(heard(&world, judge), (vec![], 0));
}

#[test]
fn frames_go_to_control_only_once_the_routes_stand() {
    let mut world = world(2);
    let number = device(&mut world, 1, HOST);
    crowd::say(&mut world, number, &Said::Sync(v1::Sync::default()));
    world.run_ms(5);
    let first = asks(&mut world);
    assert_eq!(first.len(), 1, "the sync waits: {first:?}");
    answer(&mut world, &first[0], Ok(vec![member(0)]));
    let second = asks(&mut world);
    assert!(matches!(second[..], [Ask { what: Asked::Frame(Said::Sync(_)), .. }]), "{second:?}");
    assert_eq!(second[0].from, first[0].from);
}

#[test]
fn who_has_left_a_group_is_pushed_nothing_after_it_and_a_later_membership_stays() {
    let mut world = world(3);
    let (stays, leaves) = (device(&mut world, 0, HOST), device(&mut world, 1, JUDGE));
    open_all(&mut world, &[member(0)]);
    let group = || McastId::group(GROUP);
    push(&mut world, group(), 1);
    let leave = |seq| Tell::Leave { user: "judge".into(), group: GROUP.into(), seq };
    tell(&mut world, leave(1));
    push(&mut world, group(), 2);
    assert_eq!(heard(&world, leaves).0, [1]);
    // It comes back; the word that it left before may arrive late.
    tell(&mut world, Tell::Join { user: "judge".into(), membership: member(2) });
    tell(&mut world, leave(1));
    push(&mut world, group(), 3);
    assert_eq!(heard(&world, leaves).0, [1, 3]);
    assert!(heard(&world, leaves).1 >= 1, "what came before the route stood is found by a sync");
    assert_eq!(heard(&world, stays), (vec![1, 2, 3], 0));
}

#[test]
fn a_membership_that_begins_while_an_inbox_opens_is_not_missed() {
    let mut world = world(6);
    let number = device(&mut world, 2, JUDGE);
    // Control has named no group yet; it becomes a member now, and the names come after.
    tell(&mut world, Tell::Join { user: "judge".into(), membership: member(4) });
    assert_eq!(open_all(&mut world, &[]).len(), 1);
    push(&mut world, McastId::group(GROUP), 5);
    assert_eq!(heard(&world, number).0, [5]);
}

#[test]
fn who_becomes_a_member_syncs_also_where_the_route_stands_already() {
    let mut world = world(7);
    let (member_before, joins) = (device(&mut world, 1, HOST), device(&mut world, 1, JUDGE));
    for ask in asks(&mut world) {
        let groups = if *ask.user == *"host" { vec![member(0)] } else { vec![] };
        answer(&mut world, &ask, Ok(groups));
    }
    tell(&mut world, Tell::Join { user: "judge".into(), membership: member(3) });
    assert_eq!(heard(&world, joins), (vec![], 1), "it learns from which seq on it reads");
    assert_eq!(heard(&world, member_before), (vec![], 0));
}

/// The n-th message of a kind between shards is lost: whatever it was, devices end up knowing.
#[test]
fn a_lost_message_between_shards_costs_a_sync_and_never_silence() {
    let kinds: [fn(&Message) -> bool; 3] = [
        |m| matches!(m, Message::Route { .. }),
        |m| matches!(m, Message::Routed { .. }),
        |m| matches!(m, Message::Deliver { .. }),
    ];
    for (kind, is_it) in kinds.into_iter().enumerate() {
        for seed in 0..6 {
            let mut world = world(100 + seed);
            world.mail.loss = Some((is_it, 1));
            let devices: Vec<usize> = (0..3).map(|s| device(&mut world, s, HOST)).collect();
            world.run_ms(20);
            open_all(&mut world, &[]);
            world.run_ms(20);
            let sync = Said::Sync(v1::Sync::default());
            devices.iter().for_each(|number| crowd::say(&mut world, *number, &sync));
            world.run_ms(20);
            assert_eq!(asks(&mut world).len(), 3, "kind {kind}: every inbox has opened");
            push(&mut world, McastId::user("host"), 1);
            world.run_ms(20);
            for number in devices {
                let (seqs, resyncs) = heard(&world, number);
                assert!(seqs == [1] || resyncs > 0, "kind {kind}, seed {seed}: {seqs:?}");
            }
        }
    }
}

#[test]
fn who_goes_leaves_no_route_and_no_memory_behind() {
    let mut world = world(5);
    let before: Vec<usize> = world.nodes.iter().map(|node| node.shard.bytes_used()).collect();
    let devices: Vec<usize> = (0..3).map(|shard| device(&mut world, shard, HOST)).collect();
    open_all(&mut world, &[member(0)]);
    for number in devices {
        crowd::break_off(&mut world, number, 104);
    }
    world.run_ms(50);
    push(&mut world, McastId::user("host"), 1);
    assert_eq!(world.figure(Figure::Pushed), 0);
    assert!(world.nodes.iter().all(|node| node.shard.connections_used() == 0));
    for (node, before) in world.nodes.iter().zip(before) {
        // Tables keep their first chunk for the next ones.
        assert!(node.shard.bytes_used() < before + 256 * 1024, "{}", node.shard.bytes_used());
    }
}

/// What the shards have said since of who is there.
pub(super) fn seen(world: &mut World) -> Vec<(String, bool)> {
    let said = world.nodes.iter_mut().filter_map(|node| node.shard.take_seen());
    said.flat_map(|seen| seen.users).map(|(user, online)| (user.to_string(), online)).collect()
}

#[test]
fn the_first_device_of_a_shard_comes_the_last_one_goes_and_those_between_say_nothing() {
    let mut world = world(11);
    let first = device(&mut world, 0, HOST);
    assert_eq!(seen(&mut world), [("host".into(), true)]);
    let second = device(&mut world, 0, HOST);
    crowd::break_off(&mut world, first, 104);
    world.run_ms(50);
    assert_eq!(seen(&mut world), []);
    crowd::break_off(&mut world, second, 104);
    world.run_ms(50);
    assert_eq!(seen(&mut world), [("host".into(), false)]);
}

#[test]
fn what_control_never_heard_is_said_again_within_ten_seconds() {
    let mut world = world(12);
    device(&mut world, 0, HOST);
    let judge = device(&mut world, 1, JUDGE);
    // Lost.
    seen(&mut world);
    crowd::break_off(&mut world, judge, 104);
    world.run_ms(50);
    seen(&mut world);
    world.run_ms(10_100);
    assert_eq!(seen(&mut world), [("host".into(), true)], "who has gone is not named");
    world.run_ms(10_000);
    assert_eq!(seen(&mut world), [("host".into(), true)], "and again: a lease is renewed");
}

#[test]
fn the_end_of_a_connection_that_watched_is_told_and_of_no_other() {
    let mut world = world(13);
    let (watches, other) = (device(&mut world, 0, HOST), device(&mut world, 0, JUDGE));
    let opened = open_all(&mut world, &[]);
    crowd::say(&mut world, watches, &Said::Watch(v1::Watch { users: vec!["judge".into()] }));
    world.run_ms(5);
    for number in [watches, other] {
        crowd::break_off(&mut world, number, 104);
    }
    world.run_ms(50);
    let said = world.nodes.iter_mut().filter_map(|node| node.shard.take_seen());
    let ended: Vec<_> = said.flat_map(|seen| seen.ended).collect();
    assert_eq!(ended, [opened[0].from]);
}

#[test]
fn what_is_about_a_message_below_a_floor_comes_without_its_content() {
    let mut world = world(14);
    let (old, new) = (device(&mut world, 0, HOST), device(&mut world, 1, JUDGE));
    for ask in asks(&mut world) {
        // Host reads from the first message on, judge from the sixth.
        let since_seq = if *ask.user == *"host" { 0 } else { 5 };
        let (to, number, groups) = (ask.from, ask.number, Ok(vec![member(since_seq)]));
        tell(&mut world, Tell::Opened { to, number, groups });
    }
    let frame = |seq| {
        let message = v1::StoredMessage { seq, ..v1::StoredMessage::default() };
        let stored = v1::Stored { conversation: "x".into(), messages: vec![message] };
        Box::new(Body::Stored(stored))
    };
    for target_seq in [5, 6] {
        let (frame, blank) = (frame(10 + target_seq), frame(20 + target_seq));
        let mcast = McastId::group(GROUP);
        tell(&mut world, Tell::PushAbout { mcast, target_seq, frame, blank });
    }
    assert_eq!(heard(&world, old).0, [15, 16]);
    assert_eq!(heard(&world, new).0, [25, 16]);
}

#[test]
fn a_welcome_names_the_store_to_who_asks_for_an_inbox_once_control_has_told() {
    let mut world = world(15);
    let early = device(&mut world, 0, HOST);
    tell(&mut world, Tell::Generation(77));
    let late: Vec<usize> = (0..3).map(|shard| device(&mut world, shard, HOST)).collect();
    let viewer = crowd::connect(&mut world, 0, Variant::Tcp, HOST, Vec::new());
    world.run_ms(5);
    let told = |number: usize| {
        let client = &world.clients[number];
        assert!(client.welcomed);
        client.generation
    };
    assert_eq!((told(early), told(viewer)), (0, 0));
    assert!(late.into_iter().all(|number| told(number) == 77));
}

#[test]
fn nothing_is_asked_under_a_token_that_is_over() {
    let mut world = world(16);
    let visitor = device(&mut world, 0, Some(2));
    open_all(&mut world, &[]);
    // The wall clock is set forward: no deadline has fired yet.
    world.now.unix_ms += 10_000;
    crowd::say(&mut world, visitor, &Said::Send(v1::Send::default()));
    world.run_ms(5);
    assert_eq!(asks(&mut world), []);
    assert_eq!(world.clients[visitor].ended_by, Some(Code::TokenExpired.number()));
}
