//! The board, with time as a value.

use super::board::{Board, DEBOUNCE_MS, LEASE_MS};
use std::sync::Arc;
use uproar_proto::control::{ConnectionId, Seen};

const ANN: ConnectionId = ConnectionId { node: 0, shard: 0, conn: 1, serial: 1 };

fn says(board: &mut Board, shard: u16, user: &str, is_here: bool, now_ms: i64) {
    let users = vec![(Arc::from(user), is_here)];
    board.seen(&Seen { node: 0, shard, users, ended: Vec::new() }, now_ms);
}

/// A board on which ann watches bob, and both are there.
fn watched() -> Board {
    let mut board = Board::default();
    says(&mut board, 0, "ann", true, 0);
    says(&mut board, 0, "bob", true, 0);
    let told = board.watch(ANN, &"ann".into(), [(Arc::from("bob"), false)]);
    assert!(told[0].online, "{told:?}");
    board.take_changes();
    board
}

/// What ann is told at a moment: bob's state, if it changed.
fn told(board: &mut Board, now_ms: i64) -> Option<(bool, u64)> {
    board.pass(now_ms);
    let changes = board.take_changes();
    changes.get(&ANN).map(|users| (users[0].online, users[0].last_seen_ms))
}

#[test]
fn who_goes_is_offline_after_the_debounce_and_since_it_went() {
    let mut board = watched();
    says(&mut board, 0, "bob", false, 1_000);
    assert_eq!(told(&mut board, 999 + DEBOUNCE_MS), None);
    assert_eq!(told(&mut board, 1_000 + DEBOUNCE_MS), Some((false, 1_000)));
    assert_eq!(told(&mut board, 2_000 + DEBOUNCE_MS), None, "told once");
    says(&mut board, 0, "bob", true, 9_000);
    assert_eq!(told(&mut board, 9_000), Some((true, 0)));
}

#[test]
fn a_reconnect_within_the_debounce_is_told_to_nobody() {
    let mut board = watched();
    says(&mut board, 0, "bob", false, 1_000);
    says(&mut board, 1, "bob", true, 4_000);
    assert_eq!(told(&mut board, 7_000), None);
    // Gone again: the debounce begins anew, the old one ends nothing.
    says(&mut board, 1, "bob", false, 8_000);
    assert_eq!(told(&mut board, 12_999), None);
    assert_eq!(told(&mut board, 13_000), Some((false, 8_000)));
}

#[test]
fn a_user_on_two_shards_is_online_until_both_have_lost_it() {
    let mut board = watched();
    says(&mut board, 1, "bob", true, 100);
    says(&mut board, 0, "bob", false, 200);
    assert_eq!(told(&mut board, 20_000), None);
    says(&mut board, 1, "bob", false, 21_000);
    assert_eq!(told(&mut board, 26_000), Some((false, 21_000)));
}

#[test]
fn a_lease_that_nobody_renews_ends() {
    let mut board = watched();
    says(&mut board, 0, "bob", true, 10_000);
    says(&mut board, 0, "ann", true, 10_000);
    assert_eq!(told(&mut board, 9_999 + LEASE_MS), None, "renewed");
    says(&mut board, 0, "ann", true, 39_000);
    let ended = told(&mut board, 15_000 + LEASE_MS);
    assert_eq!(ended, Some((false, 40_000)), "the node that had it is gone");
    // A word that was late, or lost and said again.
    says(&mut board, 0, "bob", true, 46_000);
    assert_eq!(told(&mut board, 46_000), Some((true, 0)));
}

#[test]
fn friends_who_part_are_told_nothing_of_each_other() {
    let mut board = watched();
    board.parted("bob", "ann");
    says(&mut board, 0, "bob", false, 1_000);
    assert_eq!(told(&mut board, 10_000), None);
}

#[test]
fn a_watch_ends_with_its_connection_and_with_its_user() {
    let mut board = watched();
    board.seen(&Seen { node: 0, shard: 0, users: Vec::new(), ended: vec![ANN] }, 0);
    assert_eq!(board.figures(), (2, 0));
    let mut board = watched();
    // The word of its end was lost.
    says(&mut board, 0, "ann", false, 0);
    board.pass(DEBOUNCE_MS);
    assert_eq!(board.figures(), (1, 0));
}

#[test]
fn a_new_watch_replaces_the_old_one_and_the_oldest_of_too_many_ends() {
    let mut board = watched();
    board.watch(ANN, &"ann".into(), [(Arc::from("cleo"), false)]);
    says(&mut board, 0, "bob", false, 0);
    assert_eq!(told(&mut board, DEBOUNCE_MS), None);
    for serial in 2..=17 {
        board.watch(ConnectionId { serial, ..ANN }, &"ann".into(), [(Arc::from("cleo"), false)]);
    }
    assert_eq!(board.figures().1, 16);
    says(&mut board, 0, "cleo", true, 6_000);
    assert_eq!(board.take_changes().len(), 16);
}

#[test]
fn who_hides_its_last_moment_is_seen_to_go_and_not_since_when() {
    let mut board = watched();
    board.hides("bob", true);
    says(&mut board, 0, "bob", false, 1_000);
    assert_eq!(told(&mut board, 9_000), Some((false, 0)));
    // Asked for anew: what the store says of it counts, and what it sets later.
    let states = board.watch(ANN, &"ann".into(), [(Arc::from("bob"), true)]);
    assert_eq!((states[0].online, states[0].last_seen_ms), (false, 0));
    let states = board.watch(ANN, &"ann".into(), [(Arc::from("bob"), false)]);
    assert_eq!(states[0].last_seen_ms, 1_000);
    board.hides("bob", true);
    says(&mut board, 0, "bob", true, 10_000);
    assert_eq!(told(&mut board, 10_000), Some((true, 0)));
    says(&mut board, 0, "bob", false, 11_000);
    board.hides("bob", false);
    assert_eq!(told(&mut board, 20_000), Some((false, 11_000)));
}
