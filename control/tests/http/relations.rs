//! Friends, blocks and followers as an app sees them.

use crate::accounts::{World, access};
use serde_json::Value;
use std::collections::BTreeSet;

fn names(page: &Value) -> Vec<&str> {
    page["users"].as_array().unwrap().iter().map(|user| user["user"].as_str().unwrap()).collect()
}

#[test]
fn two_become_friends_and_see_each_other() {
    let world = World::new();
    let (alice, bob) = (world.enter("alice"), world.enter("b/o b"));
    let (alice, bob) = (access(&alice), access(&bob));
    let asked = world.with_token(alice, "PUT", "/v1/friends/b%2Fo%20b", "");
    assert_eq!(asked.status, 200, "{}", asked.body);
    assert_eq!((&asked.json()["asked"], &asked.json()["friend"]), (&true.into(), &false.into()));
    let waiting = world.with_token(bob, "GET", "/v1/friend-requests", "").json();
    assert_eq!(names(&waiting), ["alice"]);
    let made = world.with_token(alice, "GET", "/v1/friend-requests?direction=out", "").json();
    assert_eq!(names(&made), ["b/o b"]);
    let taken = world.with_token(bob, "PUT", "/v1/friend-requests/alice", "");
    assert_eq!((taken.status, &taken.json()["friend"]), (200, &true.into()));
    let friends = world.with_token(alice, "GET", "/v1/friends", "").json();
    assert_eq!((names(&friends), &friends["count"]), (vec!["b/o b"], &1.into()));
    for _ in 0..2 {
        assert_eq!(world.with_token(alice, "DELETE", "/v1/friends/b%2Fo%20b", "").status, 200);
    }
    assert_eq!(world.with_token(bob, "GET", "/v1/friends", "").json()["count"], 0);
    let none = world.with_token(bob, "PUT", "/v1/friend-requests/alice", "");
    none.error(404, "NOT_FOUND");
    let unknown = world.with_token(bob, "PUT", "/v1/friends/nobody", "");
    unknown.error(404, "NOT_FOUND");
}

#[test]
fn a_block_is_felt_by_the_other_and_shown_to_its_owner_alone() {
    let world = World::new();
    let (alice, bob) = (world.enter("alice"), world.enter("bob"));
    let (alice, bob) = (access(&alice), access(&bob));
    world.with_token(bob, "PUT", "/v1/follows/alice", "");
    let followers = world.with_token(alice, "GET", "/v1/followers", "").json();
    assert_eq!(names(&followers), ["bob"]);
    assert_eq!(world.with_token(alice, "PUT", "/v1/blocks/bob", "").status, 200);
    for path in ["/v1/friends/alice", "/v1/follows/alice"] {
        world.with_token(bob, "PUT", path, "").error(403, "BLOCKED");
    }
    assert_eq!(names(&world.with_token(alice, "GET", "/v1/blocks", "").json()), ["bob"]);
    let seen = world.with_token(bob, "GET", "/v1/friends/alice", "").json();
    let told = seen.as_object().unwrap().iter().filter(|(_, value)| **value == true);
    assert_eq!(told.count(), 0, "{seen}");
    for path in ["/v1/friends", "/v1/follows", "/v1/followers", "/v1/blocks"] {
        assert_eq!(world.with_token(bob, "GET", path, "").json()["count"], 0, "{path}");
    }
    assert_eq!(world.with_token(alice, "DELETE", "/v1/blocks/bob", "").status, 200);
    assert_eq!(world.with_token(bob, "PUT", "/v1/follows/alice", "").status, 200);
    assert_eq!(world.with_token(bob, "DELETE", "/v1/follows/alice", "").status, 200);
}

#[test]
fn pages_follow_each_other_to_the_end() {
    let world = World::new();
    let alice = world.enter("alice");
    let mut made = BTreeSet::new();
    for number in 0..7 {
        let name = format!("user{number}");
        world.enter(&name);
        let path = format!("/v1/follows/{name}");
        assert_eq!(world.with_token(access(&alice), "PUT", &path, "").status, 200);
        made.insert(name);
    }
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/follows?limit=3{after}");
        let page = world.with_token(access(&alice), "GET", &path, "").json();
        assert_eq!(page["count"], 7);
        seen.extend(names(&page).into_iter().map(str::to_owned));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(seen.len(), 7);
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), made);
}
