//! The state machine of two users, by itself and on every store there is.

use super::*;
use crate::store::accounts::NewUser;
use crate::store::testing::on_both;
use std::collections::BTreeSet;
use std::sync::Arc;

const NOW: i64 = 1_800_000_000_000;

async fn user(store: &Store, name: &str) -> i64 {
    let user = NewUser {
        id: crate::ids::random_id(),
        issuer: String::new(),
        name: name.into(),
        password_hash: None,
        created_ms: NOW,
    };
    users::insert(store, user).await.unwrap()
}

/// What one does, and the code it is refused with.
async fn does(store: &Store, user: i64, what: Act, peer: i64) -> Result<Pair, Code> {
    match act(store, user, peer, what, NOW).await {
        Ok(changed) => Ok(changed.after),
        Err(fault) => Err(fault.code().expect("no failure of the store")),
    }
}

async fn names(store: &Store, user: i64, kind: Kind) -> BTreeSet<String> {
    let page = list(store, user, kind, None, PAGE_MAX).await.unwrap();
    assert_eq!(page.count, i64::try_from(page.users.len()).unwrap(), "{kind:?}");
    page.users.into_iter().map(|listed| listed.name).collect()
}

async fn writes(store: &Store, from: i64, to: i64, policy: Policy) -> Result<(), Code> {
    if from == to {
        return Ok(());
    }
    let dialect = store.dialect();
    // As an append reads them: under the locks of its transaction.
    let edges = store.write(move |conn| {
        Box::pin(async move { rows::edges(conn, dialect, &[(from, to)]).await })
    });
    let edges = edges.await.unwrap();
    let edge = |user, peer| edges.get(&(user, peer)).copied().unwrap_or_default();
    check_write(Pair { own: edge(from, to), theirs: edge(to, from) }, policy)
}

const KINDS: [Kind; 6] =
    [Kind::Friends, Kind::Asked, Kind::Asking, Kind::Blocks, Kind::Follows, Kind::Followers];

/// Every pair that two users can reach, and a check of every step on the way.
fn reachable() -> Vec<Pair> {
    let mut found = vec![Pair::default()];
    let mut next = 0;
    while next < found.len() {
        let pair = found[next];
        next += 1;
        for act in Act::ALL {
            let now = Standing { pair, ..Standing::default() };
            let turned = Standing { pair: pair.turned(), ..Standing::default() };
            let theirs = act.rule()(&turned).map(Pair::turned);
            for after in [act.rule()(&now), theirs].into_iter().flatten() {
                if !found.contains(&after) {
                    found.push(after);
                }
            }
        }
    }
    found
}

#[test]
fn no_sequence_of_acts_reaches_a_state_that_contradicts_itself() {
    let found = reachable();
    assert_eq!(found.len(), 19, "none, friends and a request from either, by who follows; blocks");
    for pair in found {
        for (own, theirs) in [(pair.own, pair.theirs), (pair.theirs, pair.own)] {
            assert_eq!(own.has(Edge::FRIEND), theirs.has(Edge::FRIEND), "{pair:?}");
            assert_eq!(own.has(Edge::ASKED), theirs.has(Edge::ASKING), "{pair:?}");
            assert!(!(own.has(Edge::ASKED) && own.has(Edge::ASKING)), "{pair:?}");
            assert!(!(own.has(Edge::FRIEND) && own.0 & REQUEST != 0), "{pair:?}");
            if own.has(Edge::BLOCKS) {
                assert_eq!(own.0 & !Edge::BLOCKS, 0, "{pair:?}");
                assert_eq!(theirs.0 & !Edge::BLOCKS, 0, "{pair:?}");
            }
        }
    }
}

#[test]
fn every_act_done_twice_is_done_once() {
    for pair in reachable() {
        for act in Act::ALL {
            let Ok(once) = act.rule()(&Standing { pair, ..Standing::default() }) else { continue };
            let twice = act.rule()(&Standing { pair: once, ..Standing::default() });
            assert_eq!(twice, Ok(once), "{act:?} on {pair:?}");
        }
    }
}

#[test]
fn nobody_has_more_than_the_bounds() {
    let full = Counts {
        friends: FRIENDS_MAX,
        asked: REQUESTS_MAX,
        asking: REQUESTS_MAX,
        blocks: BLOCKS_MAX,
        follows: FOLLOWS_MAX,
        followers: i64::MAX,
    };
    let asking = Pair { own: Edge(Edge::ASKING), theirs: Edge(Edge::ASKED) };
    for (act, pair) in [
        (Act::Ask, Pair::default()),
        (Act::Ask, asking),
        (Act::Accept, asking),
        (Act::Block, Pair::default()),
        (Act::Follow, Pair::default()),
    ] {
        let now = Standing { pair, own: full, theirs: Counts::default() };
        assert_eq!(act.rule()(&now), Err(Code::LimitReached), "{act:?}");
    }
    for (act, pair) in [(Act::Ask, Pair::default()), (Act::Accept, asking)] {
        let now = Standing { pair, own: Counts::default(), theirs: full };
        assert_eq!(act.rule()(&now), Err(Code::LimitReached), "{act:?}");
    }
    let now = Standing { pair: Pair::default(), own: Counts::default(), theirs: full };
    follow(&now).unwrap();
}

#[test]
fn a_request_is_made_taken_and_the_friendship_ended() {
    on_both(|store| async move {
        let (alice, bob) = (user(&store, "alice").await, user(&store, "bob").await);
        assert_eq!(does(&store, alice, Act::Accept, bob).await, Err(Code::NotFound));
        does(&store, alice, Act::Ask, bob).await.unwrap();
        assert_eq!(names(&store, alice, Kind::Asked).await, ["bob".into()].into());
        assert_eq!(names(&store, bob, Kind::Asking).await, ["alice".into()].into());
        let own = does(&store, alice, Act::Accept, bob).await;
        assert_eq!(own, Err(Code::NotFound), "nobody takes a request of their own");
        does(&store, bob, Act::Accept, alice).await.unwrap();
        for (one, other) in [(alice, "bob"), (bob, "alice")] {
            assert_eq!(names(&store, one, Kind::Friends).await, [other.into()].into());
            assert!(names(&store, one, Kind::Asked).await.is_empty());
            assert!(names(&store, one, Kind::Asking).await.is_empty());
        }
        does(&store, alice, Act::Remove, bob).await.unwrap();
        for one in [alice, bob] {
            assert!(names(&store, one, Kind::Friends).await.is_empty());
        }
        assert_eq!(writes(&store, bob, alice, Policy::Friends).await, Err(Code::NotFriend));
    });
}

#[test]
fn a_request_can_be_declined_and_withdrawn() {
    on_both(|store| async move {
        let (alice, bob) = (user(&store, "alice").await, user(&store, "bob").await);
        for (who_ends_it, peer) in [(alice, bob), (bob, alice)] {
            does(&store, alice, Act::Ask, bob).await.unwrap();
            does(&store, who_ends_it, Act::Decline, peer).await.unwrap();
            assert!(names(&store, alice, Kind::Asked).await.is_empty());
            assert!(names(&store, bob, Kind::Asking).await.is_empty());
            assert_eq!(does(&store, bob, Act::Accept, alice).await, Err(Code::NotFound));
        }
        let mut conn = store.reader().await.unwrap();
        let rows = sqlx::query_as::<_, (i64,)>("SELECT COUNT(*) FROM relations");
        assert_eq!(rows.fetch_one(&mut *conn).await.unwrap().0, 0, "nothing is left behind");
    });
}

#[test]
fn requests_that_cross_make_friends() {
    on_both(|store| async move {
        let (alice, bob) = (user(&store, "alice").await, user(&store, "bob").await);
        for _ in 0..20 {
            let ask = |from: i64, to: i64| {
                let store = Arc::clone(&store);
                tokio::spawn(async move { does(&store, from, Act::Ask, to).await })
            };
            let (one, other) = (ask(alice, bob), ask(bob, alice));
            one.await.unwrap().unwrap();
            other.await.unwrap().unwrap();
            assert_eq!(names(&store, alice, Kind::Friends).await, ["bob".into()].into());
            assert_eq!(names(&store, bob, Kind::Friends).await, ["alice".into()].into());
            does(&store, alice, Act::Remove, bob).await.unwrap();
        }
    });
}

#[test]
fn a_block_ends_everything_between_the_two_and_hides_it() {
    on_both(|store| async move {
        let (alice, bob) = (user(&store, "alice").await, user(&store, "bob").await);
        does(&store, alice, Act::Ask, bob).await.unwrap();
        does(&store, bob, Act::Ask, alice).await.unwrap();
        does(&store, alice, Act::Follow, bob).await.unwrap();
        does(&store, bob, Act::Follow, alice).await.unwrap();
        does(&store, alice, Act::Block, bob).await.unwrap();
        for kind in KINDS {
            assert!(names(&store, bob, kind).await.is_empty(), "{kind:?}");
            assert_eq!(names(&store, alice, kind).await.is_empty(), kind != Kind::Blocks);
        }
        for (one, other) in [(alice, bob), (bob, alice)] {
            for act in [Act::Ask, Act::Accept, Act::Follow] {
                assert_eq!(does(&store, one, act, other).await, Err(Code::Blocked), "{act:?}");
            }
            let written = writes(&store, one, other, Policy::Anyone).await;
            assert_eq!(written, Err(Code::Blocked));
        }
        does(&store, bob, Act::Unblock, alice).await.unwrap();
        assert_eq!(writes(&store, bob, alice, Policy::Anyone).await, Err(Code::Blocked));
        does(&store, alice, Act::Unblock, bob).await.unwrap();
        assert_eq!(writes(&store, bob, alice, Policy::Anyone).await, Ok(()));
        assert_eq!(writes(&store, bob, alice, Policy::Friends).await, Err(Code::NotFriend));
        does(&store, bob, Act::Ask, alice).await.unwrap();
    });
}

#[test]
fn each_policy_lets_write_whom_it_says() {
    on_both(|store| async move {
        let star = user(&store, "star").await;
        let (fan, friend) = (user(&store, "fan").await, user(&store, "friend").await);
        let stranger = user(&store, "stranger").await;
        does(&store, fan, Act::Follow, star).await.unwrap();
        does(&store, friend, Act::Ask, star).await.unwrap();
        for policy in [Policy::Friends, Policy::Followers] {
            let early = writes(&store, friend, star, policy).await;
            assert_eq!(early, Err(Code::NotFriend), "a request opens nothing");
        }
        does(&store, star, Act::Accept, friend).await.unwrap();
        let no = Err(Code::NotFriend);
        for (one, by_policy) in [
            (friend, [Ok(()), Ok(()), Ok(())]),
            (fan, [no, Ok(()), Ok(())]),
            (stranger, [no, no, Ok(())]),
        ] {
            let policies = [Policy::Friends, Policy::Followers, Policy::Anyone];
            for (policy, allowed) in policies.into_iter().zip(by_policy) {
                assert_eq!(writes(&store, one, star, policy).await, allowed, "{policy:?}");
                assert_eq!(writes(&store, star, one, policy).await, allowed, "{policy:?} back");
            }
        }
        assert_eq!(writes(&store, star, star, Policy::Friends).await, Ok(()));
    });
}

#[test]
fn a_list_by_cursor_is_complete_while_it_changes() {
    on_both(|store| async move {
        let alice = user(&store, "alice").await;
        let mut friends = BTreeSet::new();
        for number in 0..500 {
            let friend = user(&store, &format!("friend {number}")).await;
            does(&store, friend, Act::Ask, alice).await.unwrap();
            does(&store, alice, Act::Ask, friend).await.unwrap();
            friends.insert(friend);
        }
        let (mut seen, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = list(&store, alice, Kind::Friends, after, 64).await.unwrap();
            assert!(page.users.len() <= 64);
            seen.extend(page.users.iter().map(|listed| listed.user));
            pages += 1;
            let Some(next) = page.next else { break };
            after = Some(next);
            // One that was shown goes: nobody else is skipped for it.
            does(&store, alice, Act::Remove, page.users[0].user).await.unwrap();
        }
        assert_eq!(pages, 8);
        assert_eq!(seen.len(), 500);
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), friends);
        let last = list(&store, alice, Kind::Friends, None, 1).await.unwrap();
        assert_eq!(last.count, 493);
        for bad in [0, PAGE_MAX + 1, u32::MAX] {
            let refused = list(&store, alice, Kind::Friends, None, bad).await.unwrap_err();
            assert_eq!(refused.code(), Some(Code::BadRequest));
        }
    });
}

#[test]
fn counts_stay_true_when_many_act_at_once() {
    on_both(|store| async move {
        let star = user(&store, "star").await;
        let tasks: Vec<_> = (0..40)
            .map(|number| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    let fan = user(&store, &format!("fan {number}")).await;
                    does(&store, fan, Act::Follow, star).await.unwrap();
                    does(&store, fan, Act::Follow, star).await.unwrap();
                    if number % 2 == 0 {
                        does(&store, fan, Act::Unfollow, star).await.unwrap();
                        does(&store, fan, Act::Unfollow, star).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(names(&store, star, Kind::Followers).await.len(), 20);
    });
}

#[test]
fn unknown_users_and_oneself_are_refused() {
    on_both(|store| async move {
        let alice = user(&store, "alice").await;
        assert_eq!(peer(&store, "alice").await.unwrap(), alice);
        for (name, code) in [
            ("nobody", Code::NotFound),
            ("Alice", Code::NotFound),
            ("' OR ''='", Code::NotFound),
            ("alice ", Code::BadRequest),
            ("", Code::BadRequest),
        ] {
            assert_eq!(peer(&store, name).await.unwrap_err().code(), Some(code), "{name}");
        }
        assert_eq!(does(&store, alice, Act::Ask, alice).await, Err(Code::BadRequest));
    });
}
