//! Single promises about inboxes that open again, each a sentence: control could not be asked, lost
//! track of the node, or is asked about another login. Control is played by the test.

use super::inboxes::*;
use super::sentences::{HOST, JUDGE};
use super::*;
use uproar_proto::control::{Ask, Asked, Tell};
use uproar_proto::error::Code;
use uproar_proto::ids::McastId;
use uproar_proto::v1::client_frame::Body as Said;
use uproar_proto::v1::server_frame::Body;

/// A moment after which an inbox that could not be opened has asked again.
const AGAIN_MS: u64 = 1_100;

fn group() -> McastId {
    McastId::group(GROUP)
}

fn opens(asks: &[Ask]) -> usize {
    asks.iter().filter(|ask| matches!(ask.what, Asked::Open { .. })).count()
}

/// A send under the id that is this byte, said by a client.
fn send(world: &mut World, number: usize, id: u8) -> v1::Send {
    let client_msg_id = bytes::Bytes::from(vec![id; 16]);
    let send = v1::Send { client_msg_id, text: "x".into(), ..v1::Send::default() };
    crowd::say(world, number, &Said::Send(send.clone()));
    world.run_ms(5);
    send
}

/// The codes its sends were answered with, by id.
fn refused(world: &World, number: usize) -> Vec<(u8, u32)> {
    let inbox = world.clients[number].inbox.iter();
    let sent = inbox.filter_map(|body| match body {
        Body::Sent(sent) => Some((sent.client_msg_id[0], sent.code)),
        _ => None,
    });
    sent.collect()
}

#[test]
fn after_a_break_nobody_hears_a_group_until_control_has_named_it_again() {
    let mut world = world(1);
    let (stays, left) = (device(&mut world, 0, HOST), device(&mut world, 1, JUDGE));
    open_all(&mut world, &[member(0)]);
    push(&mut world, group(), 1);
    tell(&mut world, Tell::Anew { number: 1 });
    push(&mut world, group(), 2);
    push(&mut world, McastId::user("host"), 90);
    let asked = asks(&mut world);
    assert_eq!((opens(&asked), asked.len()), (2, 2));
    for ask in &asked {
        let groups = if *ask.user == *"host" { vec![member(0)] } else { vec![] };
        answer(&mut world, ask, Ok(groups));
    }
    push(&mut world, group(), 3);
    assert_eq!(heard(&world, stays), (vec![1, 90, 3], 1), "its own mcast was never left");
    assert_eq!(heard(&world, left), (vec![1], 1), "it learns by a sync that it is out");
    assert_eq!(world.figure(Figure::InboxesAnew), 2);
}

#[test]
fn the_same_break_is_told_twice_and_carried_out_once() {
    let mut world = world(2);
    device(&mut world, 0, HOST);
    open_all(&mut world, &[member(0)]);
    for (number, opened) in [(1, 1), (1, 0), (0, 0), (2, 1)] {
        tell(&mut world, Tell::Anew { number });
        assert_eq!(opens(&open_all(&mut world, &[member(0)])), opened, "{number}");
    }
}

/// A joining that was told before the break and is still on its way between two shards.
#[test]
fn a_joining_from_before_the_break_lets_nobody_in() {
    let mut world = world(3);
    let devices: Vec<usize> = (0..3).map(|shard| device(&mut world, shard, JUDGE)).collect();
    open_all(&mut world, &[]);
    world.mail.held = Some((|message| matches!(message, Message::Deliver { .. }), Vec::new()));
    tell(&mut world, Tell::Join { user: "judge".into(), membership: member(4) });
    tell(&mut world, Tell::Anew { number: 1 });
    assert_eq!(opens(&open_all(&mut world, &[])), 3);
    assert!(world.mail.let_go() >= 2, "shards other than the user's home");
    world.run_ms(5);
    push(&mut world, group(), 5);
    for number in devices {
        assert!(heard(&world, number).0.is_empty());
    }
}

#[test]
fn frames_go_on_while_an_inbox_opens_again() {
    let mut world = world(4);
    let number = device(&mut world, 0, HOST);
    open_all(&mut world, &[member(0)]);
    tell(&mut world, Tell::Anew { number: 1 });
    crowd::say(&mut world, number, &Said::Sync(v1::Sync::default()));
    world.run_ms(5);
    let asked = asks(&mut world);
    assert_eq!((opens(&asked), asked.len()), (1, 2));
    assert_ne!(asked[0].number, asked[1].number, "answers are told apart");
}

#[test]
fn who_cannot_be_opened_stays_and_asks_again() {
    let mut world = world(5);
    let number = device(&mut world, 0, HOST);
    let waits = send(&mut world, number, 1);
    let first = asks(&mut world);
    answer(&mut world, &first[0], Err(Code::StoreDown));
    let down = Code::StoreDown.number();
    assert_eq!(refused(&world, number), [(1, down)], "what waited is refused");
    send(&mut world, number, 2);
    let behind = Code::QueueFull.number();
    assert_eq!(refused(&world, number)[1..], [(2, behind)], "behind the first that failed");
    assert_eq!(asks(&mut world), []);
    // Rooms are open to it all the same.
    crowd::join(&mut world, number, "room", None);
    world.run_ms(AGAIN_MS);
    assert!(world.clients[number].streams.contains_key("room"));
    let second = asks(&mut world);
    assert_eq!((opens(&second), second.len()), (1, 1));
    answer(&mut world, &second[0], Ok(vec![]));
    crowd::say(&mut world, number, &Said::Send(waits.clone()));
    world.run_ms(5);
    let third = asks(&mut world);
    assert!(matches!(&third[..], [Ask { what: Asked::Frame(Said::Send(s)), .. }] if *s == waits));
    assert_eq!(heard(&world, number).1, 0, "its first sync finds everything");
}

#[test]
fn whose_login_has_ended_is_told_and_closed() {
    let mut world = world(6);
    let account = crowd::logged_in(&mut world, "host", "77");
    let number = device(&mut world, 0, Some(account));
    let first = asks(&mut world);
    assert_eq!(first[0].what, Asked::Open { login: Some("77".into()) });
    answer(&mut world, &first[0], Err(Code::SessionRevoked));
    assert_eq!(world.clients[number].ended_by, Some(Code::SessionRevoked.number()));
}

#[test]
fn a_token_of_another_login_is_asked_about_and_one_of_the_same_is_not() {
    let mut world = world(7);
    let [old, same, new] = ["1", "1", "2"].map(|login| crowd::logged_in(&mut world, "host", login));
    let number = device(&mut world, 0, Some(old));
    open_all(&mut world, &[member(0)]);
    crowd::renew(&mut world, number, same);
    world.run_ms(5);
    assert_eq!(asks(&mut world), []);
    crowd::renew(&mut world, number, new);
    world.run_ms(5);
    push(&mut world, group(), 1);
    let asked = asks(&mut world);
    assert_eq!(asked[0].what, Asked::Open { login: Some("2".into()) });
    // The third one comes while control thinks of the second.
    let third = crowd::logged_in(&mut world, "host", "3");
    crowd::renew(&mut world, number, third);
    world.run_ms(5);
    assert_eq!(asks(&mut world), []);
    answer(&mut world, &asked[0], Err(Code::SessionRevoked));
    let asked = asks(&mut world);
    assert_eq!(asked[0].what, Asked::Open { login: Some("3".into()) });
    answer(&mut world, &asked[0], Ok(vec![member(0)]));
    push(&mut world, group(), 2);
    assert_eq!(heard(&world, number), (vec![1, 2], 0), "nothing passed it by");
}

#[test]
fn a_joining_while_an_inbox_opens_again_ends_in_a_sync() {
    let mut world = world(8);
    let [old, new] = ["1", "2"].map(|login| crowd::logged_in(&mut world, "host", login));
    let number = device(&mut world, 1, Some(old));
    open_all(&mut world, &[]);
    crowd::renew(&mut world, number, new);
    world.run_ms(5);
    let asked = asks(&mut world);
    tell(&mut world, Tell::Join { user: "host".into(), membership: member(3) });
    assert_eq!(heard(&world, number).1, 0);
    answer(&mut world, &asked[0], Ok(vec![member(3)]));
    push(&mut world, group(), 4);
    assert_eq!(heard(&world, number), (vec![4], 1));
}

#[test]
fn a_crowd_asks_again_in_slices() {
    let mut world = world(9);
    let devices: Vec<usize> = (0..100).map(|_| device(&mut world, 0, HOST)).collect();
    open_all(&mut world, &[member(0)]);
    for shard in 0..3 {
        let anew = Message::Tell(Tell::Anew { number: 1 });
        assert!(world.mail.post(shard, anew).is_ok(), "there is room");
    }
    let mut most = 0;
    let mut all = Vec::new();
    for _ in 0..100 {
        world.run_ms(1);
        let some = asks(&mut world);
        most = most.max(some.len());
        all.extend(some);
    }
    assert_eq!((opens(&all), most), (100, 32));
    for ask in &all {
        answer(&mut world, ask, Ok(vec![member(0)]));
    }
    push(&mut world, group(), 1);
    for number in devices {
        assert_eq!(heard(&world, number), (vec![1], 1));
    }
}

#[test]
fn after_a_break_control_is_told_anew_who_is_there() {
    let mut world = world(10);
    device(&mut world, 0, HOST);
    seen(&mut world);
    open_all(&mut world, &[]);
    tell(&mut world, Tell::Anew { number: 1 });
    assert_eq!(seen(&mut world), [("host".into(), true)]);
}

#[test]
fn who_goes_while_it_opens_again_leaves_nothing_behind() {
    let mut world = world(11);
    let devices: Vec<usize> = (0..3).map(|shard| device(&mut world, shard, HOST)).collect();
    open_all(&mut world, &[member(0)]);
    tell(&mut world, Tell::Anew { number: 1 });
    let asked = asks(&mut world);
    for number in &devices {
        crowd::break_off(&mut world, *number, 104);
    }
    world.run_ms(50);
    for ask in &asked {
        answer(&mut world, ask, Ok(vec![member(0)]));
    }
    push(&mut world, group(), 1);
    world.run_ms(AGAIN_MS);
    assert_eq!(asks(&mut world), []);
    assert_eq!(world.figure(Figure::Pushed), 0);
}

/// The n-th message of a kind between shards is lost while everybody opens again.
#[test]
fn a_message_lost_while_inboxes_open_again_costs_a_sync_and_never_silence() {
    let kinds: [fn(&Message) -> bool; 3] = [
        |m| matches!(m, Message::Route { serial: None, .. }),
        |m| matches!(m, Message::Route { serial: Some(_), .. }),
        |m| matches!(m, Message::Routed { .. }),
    ];
    for (kind, is_it) in kinds.into_iter().enumerate() {
        for seed in 0..6 {
            let mut world = world(200 + seed);
            let devices: Vec<usize> = (0..3).map(|s| device(&mut world, s, HOST)).collect();
            open_all(&mut world, &[member(0)]);
            world.mail.loss = Some((is_it, 2));
            tell(&mut world, Tell::Anew { number: 1 });
            world.run_ms(20);
            open_all(&mut world, &[member(0)]);
            world.run_ms(20);
            assert_eq!(world.mail.loss.map(|(_, left)| left), Some(0), "kind {kind}");
            push(&mut world, group(), 1);
            for number in devices {
                let (seqs, resyncs) = heard(&world, number);
                assert_eq!((&seqs[..], resyncs), (&[1][..], 1), "kind {kind}, seed {seed}");
            }
        }
    }
}
