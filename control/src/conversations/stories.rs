//! What users see of reactions, events, cursors, relationships and settings, on every store.

use super::desk::{Desk, pushed_to, reaction, text};
use super::reacts::{EVENT_EVERY, Of, Pace};
use super::words;
use crate::groups::Act;
use crate::relations::{Act as Relate, Policy, part};
use crate::store::append::Target;
use crate::store::reactions::{React, react};
use crate::store::settings::{self, Wanted};
use crate::store::testing::{TestStore, on_both};
use crate::store::{Store, users};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use uproar_proto::control::{Ask, Asked, ConnectionId, Control as _, Tell};
use uproar_proto::error::Code;
use uproar_proto::ids::McastId;
use uproar_proto::v1::{self, Kind, client_frame::Body as Says, server_frame::Body};

const GROUP: i64 = 77;

fn event(conversation: &str, id: u128, kind: Kind, target_seq: u64, said: &str) -> v1::Send {
    v1::Send { kind: kind.into(), target_seq, ..text(conversation, id, said) }
}

/// Waits for an event about reactions to this message; the first one above `seq`.
async fn counted(desk: &Desk, target_seq: u64, seq: u64) -> v1::StoredMessage {
    desk.until(|tell| {
        let (Tell::Push { frame, .. } | Tell::PushAbout { frame, .. }) = tell else { return None };
        let Body::Stored(stored) = &**frame else { return None };
        let is_it = |m: &&v1::StoredMessage| {
            m.kind() == Kind::Reactions && m.target_seq == target_seq && m.seq > seq
        };
        stored.messages.iter().find(is_it).cloned()
    })
    .await
}

fn totals(message: &v1::StoredMessage) -> Vec<(&str, u32)> {
    message.reactions.iter().map(|total| (total.reaction.as_str(), total.count)).collect()
}

#[test]
fn a_reaction_is_stored_once_told_to_own_devices_and_counted_in_the_log() {
    on_both(|store| async move {
        let desk = Desk::new(&store);
        desk.friends("alice", "bob").await;
        desk.sends("alice", text("user:bob", 1, "one")).await.unwrap();
        desk.sends("alice", text("user:bob", 2, "two")).await.unwrap();
        let thumb = || reaction("user:alice", 1, "\u{1f44d}");
        desk.take_told().await;
        desk.reacts("bob", thumb()).await.unwrap();
        let own = desk.until(|tell| match tell {
            Tell::Push { mcast, frame } => match &**frame {
                Body::Reacted(reacted) => Some((mcast.clone(), reacted.clone())),
                _ => None,
            },
            _ => None,
        });
        let (to, told) = own.await;
        assert_eq!((to, &*told.conversation, told.seq), (McastId::user("bob"), "user:alice", 1));
        let first = counted(&desk, 1, 0).await;
        assert_eq!((first.seq, &*first.user, totals(&first)), (3, "bob", vec![("\u{1f44d}", 1)]));
        assert!(first.own_reactions.is_empty() && first.client_msg_id.is_empty());
        // Again: the same answer, and nothing new.
        desk.reacts("bob", thumb()).await.unwrap();
        desk.reacts("bob", reaction("user:alice", 1, "+1")).await.unwrap();
        desk.reacts("alice", reaction("user:bob", 1, "+1")).await.unwrap();
        let second = counted(&desk, 1, 3).await;
        assert_eq!((second.seq, totals(&second)), (4, vec![("\u{1f44d}", 1), ("+1", 2)]));
        let apart = second.time_ms - first.time_ms;
        assert!(apart >= EVENT_EVERY.as_millis() as u64, "{apart} ms between two events");
        // Neither counts as unread, nor says that bob has read anything.
        let state = desk.syncs("bob", "", 0).await.conversations.remove(0);
        assert_eq!((state.head_seq, state.read_seq, state.unread), (4, 0, 2));
        let seen = desk.pulls("bob", "user:alice").await;
        assert_eq!(totals(&seen[0]), [("\u{1f44d}", 1), ("+1", 2)]);
        assert_eq!(seen[0].own_reactions, ["+1", "\u{1f44d}"]);
        assert_eq!((totals(&seen[1]), totals(&seen[2])), (vec![], vec![]), "overtaken: blank");
        assert_eq!((totals(&seen[3]), seen[3].target_seq), (totals(&seen[0]), 1));
        assert_eq!(desk.pulls("alice", "user:bob").await[3].own_reactions, ["+1"]);
        // Taken back, by the one of the other one's it is not.
        let back = |who: &'static str| v1::React { remove: true, ..reaction(who, 1, "+1") };
        desk.reacts("bob", back("user:alice")).await.unwrap();
        desk.reacts("bob", back("user:alice")).await.unwrap();
        let third = counted(&desk, 1, 4).await;
        assert_eq!(totals(&third), [("\u{1f44d}", 1), ("+1", 1)]);
        // A recall takes all of them along, and what is gone takes none.
        desk.sends("alice", event("user:bob", 3, Kind::Recall, 1, "")).await.unwrap();
        assert_eq!(desk.reacts("bob", thumb()).await, Err(Code::NotFound));
        let rows = desk.rows().await;
        assert_eq!(
            (rows["reactions"], rows["reaction_heads"], rows["reaction_pending"]),
            (0, 0, 0)
        );
        let seen = desk.pulls("bob", "user:alice").await;
        assert!(seen[0].gone && seen.iter().all(|message| message.reactions.is_empty()));
    });
}

#[test]
fn a_crowd_that_reacts_at_once_is_as_many_rows_and_one_event_a_second() {
    on_both(|store| async move {
        let desk = Desk::new(&store);
        let names: Vec<String> = (0..400).map(|n| format!("fan{n}")).collect();
        for name in &names {
            desk.friends("star", name).await;
        }
        let members: Vec<&str> =
            std::iter::once("star").chain(names.iter().map(String::as_str)).collect();
        let group = desk.group(GROUP, &members).await;
        let seq = desk.sends("star", text(&group, 1, "hello")).await.unwrap();
        let begun = Instant::now();
        let desk = Arc::new(desk);
        let asks = names.iter().flat_map(|name| ["a", "b", "c"].map(|one| (name.clone(), one)));
        let asks: Vec<_> = asks
            .map(|(name, one)| {
                let (desk, react) = (Arc::clone(&desk), reaction(&group, seq, one));
                tokio::spawn(async move { desk.reacts(&name, react).await })
            })
            .collect();
        for ask in asks {
            ask.await.unwrap().unwrap();
        }
        let all = |tell: &Tell| match tell {
            Tell::PushAbout { frame, .. } => match &**frame {
                Body::Stored(stored) => Some(stored.messages[0].clone())
                    .filter(|m| m.reactions.iter().map(|t| t.count).sum::<u32>() == 1_200),
                _ => None,
            },
            _ => None,
        };
        let last = desk.until(all).await;
        assert_eq!(totals(&last).iter().map(|(_, count)| *count).collect::<Vec<_>>(), [400; 3]);
        assert_eq!(desk.rows().await["reactions"], 1_200);
        let events = desk.pulls("star", &group).await;
        let times: Vec<u64> =
            events.iter().filter(|m| m.kind() == Kind::Reactions).map(|m| m.time_ms).collect();
        let spaced = times.windows(2).all(|pair| pair[1] >= pair[0] + 1_000);
        assert!(spaced, "at most one in any second: {times:?}");
        let most = 1 + begun.elapsed().as_secs() as usize;
        assert!(times.len() <= most + 1, "{} events in {:?}", times.len(), begun.elapsed());
    });
}

#[test]
fn ten_thousand_who_react_within_a_second_are_one_event_a_second_and_an_exact_count() {
    const FANS: usize = 10_000;
    const KINDS: [&str; 3] = ["a", "b", "c"];
    on_both(|store| async move {
        let desk = Desk::new(&store);
        let fans = desk.crowd(GROUP, FANS).await;
        let group = words::with_group(GROUP);
        let seq = desk.sends(&fans[0].1, text(&group, 1, "hello")).await.unwrap();
        let begun = Instant::now();
        for (at, (_, name)) in fans.iter().enumerate() {
            let from = ConnectionId { node: 0, shard: 0, conn: 0, serial: 1_000 + at as u64 };
            let what = Asked::Frame(Says::React(reaction(&group, seq, KINDS[at % 3])));
            desk.conversations.ask(Ask { from, number: 0, user: name.as_str().into(), what });
        }
        // Looked at now and then: a look for each word that is told would be millions of looks.
        let events = || -> Vec<v1::StoredMessage> {
            let told = desk.told();
            let events = told.iter().filter_map(|tell| match tell {
                Tell::PushAbout { frame, .. } => match &**frame {
                    Body::Stored(stored) => Some(stored.messages.clone()),
                    _ => None,
                },
                _ => None,
            });
            events.flatten().filter(|m| m.kind() == Kind::Reactions).collect()
        };
        let all = |event: &v1::StoredMessage| totals(event).iter().map(|(_, n)| *n).sum::<u32>();
        while events().last().is_none_or(|last| all(last) < FANS as u32) {
            assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", events().last());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let took = begun.elapsed();
        let is_reacted = |tell: &&Tell| {
            let Tell::Answer { to, frames, .. } = tell else { return false };
            to.serial >= 1_000 && matches!(&frames[..], [Body::Reacted(told)] if told.code == 0)
        };
        assert_eq!(desk.told().iter().filter(is_reacted).count(), FANS, "none was refused");
        let events = events();
        let last = events.last().unwrap();
        assert_eq!(totals(last), [("a", 3_334), ("b", 3_333), ("c", 3_333)]);
        assert_eq!(desk.rows().await["reactions"], FANS as i64);
        let times: Vec<u64> = events.iter().map(|event| event.time_ms).collect();
        let spaced = times.windows(2).all(|pair| pair[1] >= pair[0] + 1_000);
        assert!(spaced, "at most one in any second: {times:?}");
        println!("{FANS} reactions: {} events, the last after {took:?}", events.len());
        // The counts stand: nothing is told after the last one.
        tokio::time::sleep(EVENT_EVERY + Duration::from_millis(300)).await;
        let (name, now) = (&fans[9_999].1, events.len());
        let pulled = desk.pulls(name, &group).await;
        assert_eq!(pulled.iter().filter(|m| m.kind() == Kind::Reactions).count(), now);
        let message = pulled.iter().find(|m| m.seq == seq).unwrap();
        assert_eq!(message.reactions, last.reactions);
        assert_eq!(message.own_reactions, ["a"]);
    });
}

#[test]
fn reactions_have_bounds_by_user_by_kind_and_none_counts_twice() {
    on_both(|store| async move {
        let desk = Desk::new(&store);
        let names: Vec<String> = (0..6).map(|n| format!("m{n}")).collect();
        for name in &names {
            desk.friends("star", name).await;
        }
        let members: Vec<&str> =
            std::iter::once("star").chain(names.iter().map(String::as_str)).collect();
        let group = desk.group(GROUP, &members).await;
        let seq = desk.sends("star", text(&group, 1, "hello")).await.unwrap();
        let one = |n: usize| reaction(&group, seq, &format!("r{n}"));
        for (at, name) in names.iter().enumerate().take(4) {
            for n in 0..5 {
                desk.reacts(name, one(5 * at + n)).await.unwrap();
            }
            assert_eq!(
                desk.reacts(name, one(99)).await,
                Err(Code::LimitReached),
                "five of one user"
            );
        }
        assert_eq!(desk.reacts("m4", one(20)).await, Err(Code::LimitReached), "twenty kinds");
        desk.reacts("m4", one(0)).await.unwrap();
        // Where the last one of a kind goes, there is room for another.
        desk.reacts("m1", v1::React { remove: true, ..one(7) }).await.unwrap();
        desk.reacts("m5", one(20)).await.unwrap();
        let seen = desk.pulls("star", &group).await;
        let message = seen.iter().find(|m| m.seq == seq).unwrap();
        assert_eq!((message.reactions.len(), message.own_reactions.len()), (20, 0));
        assert_eq!(totals(message)[0], ("r0", 2));
        assert_eq!(desk.rows().await["reactions"], 21);
    });
}

#[test]
fn what_is_about_a_message_below_a_floor_is_blank_and_cannot_be_caused() {
    on_both(|store| async move {
        let desk = Desk::new(&store);
        desk.friends("alice", "bob").await;
        desk.friends("alice", "cleo").await;
        let group = desk.group(GROUP, &["alice", "cleo"]).await;
        assert_eq!(desk.sends("alice", text(&group, 1, "old")).await, Ok(2));
        desk.act(GROUP, "alice", Act::Invite { users: vec![desk.user("bob").await] }).await;
        desk.take_told().await;
        assert_eq!(desk.sends("alice", event(&group, 2, Kind::Edit, 2, "secret")).await, Ok(4));
        assert_eq!(desk.sends("alice", text(&group, 3, "new")).await, Ok(5));
        let (edit, blank) = desk
            .until(|tell| match tell {
                Tell::PushAbout { target_seq: 2, frame, blank, .. } => {
                    Some((frame.clone(), blank.clone()))
                }
                _ => None,
            })
            .await;
        let first = |frame: Body| match frame {
            Body::Stored(mut stored) => stored.messages.remove(0),
            other => panic!("{other:?}"),
        };
        assert_eq!(first(*edit).text, "secret");
        let blank = first(*blank);
        assert_eq!((blank.seq, blank.target_seq, &*blank.text), (4, 2, ""));
        desk.reacts("cleo", reaction(&group, 2, "+1")).await.unwrap();
        let told = desk.until(|tell| match tell {
            Tell::PushAbout { target_seq: 2, frame, blank, .. } => match (&**frame, &**blank) {
                (Body::Stored(full), Body::Stored(blank)) if full.messages[0].seq == 6 => {
                    Some((full.messages[0].clone(), blank.messages[0].clone()))
                }
                _ => None,
            },
            _ => None,
        });
        let (full, blank) = told.await;
        assert_eq!((totals(&full), totals(&blank)), (vec![("+1", 1)], vec![]));
        // A pull shows the same; whoever was there sees it all.
        let texts = |messages: &[v1::StoredMessage]| {
            messages.iter().map(|m| (m.seq, m.text.clone(), m.reactions.len())).collect::<Vec<_>>()
        };
        let row = |seq, text: &str, reactions| (seq, text.to_owned(), reactions);
        let bobs = desk.pulls("bob", &group).await;
        assert_eq!(texts(&bobs), [row(3, "", 0), row(4, "", 0), row(5, "new", 0), row(6, "", 0)]);
        let cleos = desk.pulls("cleo", &group).await;
        let since = [row(2, "secret", 1), row(3, "", 0), row(4, "secret", 0), row(5, "new", 0)];
        assert_eq!(texts(&cleos[1..5]), since);
        assert_eq!(totals(&cleos[5]), [("+1", 1)]);
        // And bob can do nothing about it, as if it were not there.
        let react = desk.reacts("bob", reaction(&group, 2, "+1")).await;
        let pin = desk.sends("bob", event(&group, 1, Kind::Pin, 2, "")).await;
        assert_eq!((react, pin), (Err(Code::NotFound), Err(Code::NotFound)));
        desk.reacts("bob", reaction(&group, 5, "+1")).await.unwrap();
        // Who has left reads no event after it, and causes none.
        desk.act(GROUP, "cleo", Act::Leave).await;
        let react = v1::React { remove: true, ..reaction(&group, 2, "+1") };
        assert_eq!(desk.reacts("cleo", react).await, Err(Code::NotMember));
    });
}

#[test]
fn what_was_recalled_does_not_come_back() {
    on_both(|store| async move {
        let desk = Desk::new(&store);
        desk.friends("alice", "bob").await;
        desk.sends("alice", text("user:bob", 1, "oops")).await.unwrap();
        desk.sends("bob", event("user:alice", 1, Kind::Pin, 1, "")).await.unwrap();
        desk.sends("alice", event("user:bob", 2, Kind::Recall, 1, "")).await.unwrap();
        for (kind, said) in
            [(Kind::Edit, "again"), (Kind::Recall, ""), (Kind::Pin, ""), (Kind::Unpin, "")]
        {
            let sent = desk.sends("alice", event("user:bob", 9, kind, 1, said)).await;
            assert_eq!(sent, Err(Code::NotFound), "{kind:?}");
        }
        // The recall itself, sent again, has its place.
        let again = desk.sends("alice", event("user:bob", 2, Kind::Recall, 1, "")).await;
        assert_eq!(again, Ok(3));
        let seen = desk.pulls("bob", "user:alice").await;
        assert!(seen[0].gone && seen[0].text.is_empty() && seen[0].pinned_seq == 0);
    });
}

#[test]
fn a_pin_stands_at_its_message_and_in_the_sync_until_it_is_taken_off() {
    on_both(|store| async move {
        let desk = Desk::new(&store);
        desk.friends("alice", "bob").await;
        for id in 1..=52 {
            desk.sends("alice", text("user:bob", id, "x")).await.unwrap();
        }
        for seq in 1..=50 {
            let pin = event("user:alice", u128::from(seq), Kind::Pin, seq, "");
            desk.sends("bob", pin).await.unwrap();
        }
        let more = desk.sends("bob", event("user:alice", 51, Kind::Pin, 51, "")).await;
        assert_eq!(more, Err(Code::LimitReached));
        // Pinned again it is pinned by the newer event; taken off there is room.
        let again = desk.sends("alice", event("user:bob", 99, Kind::Pin, 7, "")).await.unwrap();
        desk.sends("alice", event("user:bob", 100, Kind::Unpin, 50, "")).await.unwrap();
        desk.sends("bob", event("user:alice", 52, Kind::Pin, 51, "")).await.unwrap();
        let seen = desk.pulls("bob", "user:alice").await;
        assert_eq!((seen[6].pinned_seq, seen[49].pinned_seq), (again, 0));
        let state = desk.syncs("bob", "", 0).await.conversations.remove(0);
        let expected: Vec<u64> = (1..=49).chain([51]).collect();
        assert_eq!((state.pinned, state.unread), (expected, 52 - 52), "bob has read: it pinned");
    });
}

#[test]
fn a_message_has_one_name_whichever_way_it_comes() {
    on_both(|store| async move {
        let desk = Desk::new(&store);
        desk.friends("alice", "bob").await;
        let send = || Says::Send(text("user:bob", 1, "hello"));
        let name = |frames: Vec<Body>| match &frames[..] {
            [Body::Sent(sent)] => sent.msg_id,
            other => panic!("{other:?}"),
        };
        let first = name(desk.ask("alice", send()).await);
        assert_ne!(first, 0);
        assert_eq!(name(desk.ask("alice", send()).await), first, "a retry has the same");
        let told = desk.take_told().await;
        for to in ["alice", "bob"] {
            let pushed = pushed_to(&told, &McastId::user(to));
            assert_eq!(pushed[0].1.msg_id, first);
        }
        assert_eq!(desk.pulls("bob", "user:alice").await[0].msg_id, first);
        // The same id of another sender, or in another conversation, is another message.
        desk.friends("alice", "cleo").await;
        let others = [
            name(desk.ask("bob", Says::Send(text("user:alice", 1, "hello"))).await),
            name(desk.ask("alice", Says::Send(text("user:cleo", 1, "hello"))).await),
        ];
        assert!(others[0] != first && others[1] != first && others[0] != others[1]);
    });
}

#[test]
fn counts_that_a_crash_left_untold_are_told_at_the_next_start() {
    on_both(|store| async move {
        {
            let desk = Desk::new(&store);
            desk.friends("alice", "bob").await;
            desk.sends("alice", text("user:bob", 1, "one")).await.unwrap();
        }
        let (alice, bob) = (id(&store, "alice").await, id(&store, "bob").await);
        let conv = {
            let mut conn = store.reader().await.unwrap();
            crate::store::conversations::direct(&mut conn, alice, bob).await.unwrap()
        };
        // As the worker does, and then nothing: no event was written.
        let item = React {
            conv,
            user: bob,
            target: Target::Direct(alice),
            seq: 1,
            reaction: "+1".into(),
            remove: false,
        };
        let (dialect, items) = (store.dialect(), Arc::new([item]));
        let done = store.write(move |conn| {
            let items = Arc::clone(&items);
            Box::pin(async move { react(conn, dialect, Policy::Friends, &*items, 9).await })
        });
        assert_eq!(done.await.unwrap(), [Ok(true)]);
        let desk = Desk::new(&store);
        let told = counted(&desk, 1, 0).await;
        assert_eq!((told.seq, &*told.user, totals(&told)), (2, "bob", vec![("+1", 1)]));
        let told = desk.until(|tell| match tell {
            Tell::Push { mcast, .. } if *mcast == McastId::user("bob") => Some(()),
            _ => None,
        });
        told.await;
        assert_eq!(desk.rows().await["reaction_pending"], 0);
    });
}

async fn id(store: &Store, name: &str) -> i64 {
    users::find(&mut store.reader().await.unwrap(), "", name).await.unwrap().unwrap().id
}

#[test]
fn who_was_away_for_longer_than_what_ended_is_kept_is_told_all_relations() {
    on_both(|store| async move {
        let desk = Desk::new(&store);
        for peer in ["bob", "cleo", "dan", "eve"] {
            desk.friends("alice", peer).await;
        }
        desk.relate("alice", "cleo", part).await;
        let day_ms = 86_400_000;
        let ago = |days: i64| (desk.store.now_ms() - days * day_ms).to_string();
        for known in [String::new(), ago(1), ago(89)] {
            let synced = desk.syncs("alice", &known, 0).await;
            let named = if known.is_empty() { 3 } else { 4 };
            assert_eq!((synced.relations.len(), synced.relations_anew_ms), (named, 0), "{known}");
        }
        // The first page tells that it is so, and all together name all, whatever the moments.
        let begun_ms = desk.store.now_ms() as u64;
        let mut page = desk.syncs("alice", &ago(91), 1).await;
        assert!((begun_ms - 30_000..=begun_ms).contains(&page.relations_anew_ms), "{page:?}");
        let mut named = page.relations.clone();
        while !page.done {
            page = desk.syncs("alice", &page.cursor, 1).await;
            assert_eq!(page.relations_anew_ms, 0, "once");
            named.extend(page.relations.clone());
        }
        named.sort_by(|one, other| one.user.cmp(&other.user));
        let named: Vec<(&str, bool)> = named.iter().map(|r| (&*r.user, r.friend)).collect();
        let all = [("bob", true), ("cleo", false), ("dan", true), ("eve", true)];
        assert_eq!(named, all, "what ended lately too: a device may have heard of it before");
        assert_eq!(desk.syncs("alice", &page.cursor, 0).await.relations_anew_ms, 0);
        // A device that rests in the middle of it for so long begins again.
        let rested = format!("{}-{}-{}-r", ago(91), ago(91), i64::MAX);
        let page = desk.syncs("alice", &rested, 0).await;
        assert_eq!((page.relations.len(), page.done), (4, true));
        assert!(page.relations_anew_ms > 0);
    });
}

#[test]
fn a_message_is_told_of_at_once_then_once_a_second_and_again_where_it_failed() {
    let mut pace = Pace::default();
    let (place, begun) = ((1, 2), Instant::now());
    let at = |ms: u64| begun + Duration::from_millis(ms);
    pace.changed(place, Of::Group, begun);
    assert_eq!(pace.next_due(), Some(begun));
    assert_eq!(pace.take_due(begun), [(place, Of::Group)]);
    pace.changed(place, Of::Group, at(10));
    assert_eq!((pace.next_due(), pace.take_due(at(10))), (None, vec![]), "one is on its way");
    pace.told(&[place], true, at(20));
    assert_eq!(pace.next_due(), Some(at(1_020)));
    assert_eq!(pace.take_due(at(1_019)), []);
    assert_eq!(pace.take_due(at(1_020)).len(), 1);
    pace.told(&[place], false, at(1_030));
    assert_eq!(pace.next_due(), Some(at(2_030)), "it failed");
    assert_eq!(pace.take_due(at(2_030)).len(), 1);
    pace.told(&[place], true, at(2_040));
    assert_eq!((pace.next_due(), pace.take_due(at(9_000))), (None, vec![]));
    pace.changed(place, Of::Group, at(9_001));
    assert_eq!(pace.next_due(), Some(at(9_001)), "it was quiet for long");
}

/// Cursors that were told, and to whom.
fn cursors_to(told: &[Tell]) -> Vec<(McastId, u64, u64)> {
    let mut cursors = Vec::new();
    for tell in told {
        let Tell::Push { mcast, frame } = tell else { continue };
        if let Body::Cursors(told) = &**frame {
            let user = &told.users[0];
            cursors.push((mcast.clone(), user.read_seq, user.delivered_seq));
        }
    }
    cursors
}

async fn set(desk: &Desk, user: &str, private: bool) {
    let (dialect, id, now_ms) =
        (desk.store.dialect(), desk.user(user).await.0, desk.store.now_ms());
    let wanted = Wanted { private_read: Some(private), ..Wanted::default() };
    let changed = desk.store.write(move |conn| {
        Box::pin(async move { settings::change(conn, dialect, id, wanted, now_ms).await })
    });
    desk.conversations.set(user, changed.await.unwrap()).await;
}

#[test]
fn what_is_read_in_private_is_told_to_own_devices_alone() {
    on_both(|store| async move {
        let desk = Desk::new(&store);
        desk.friends("alice", "bob").await;
        for id in 1..=4 {
            desk.sends("alice", text("user:bob", id, "x")).await.unwrap();
        }
        let (alice, bob) = (McastId::user("alice"), McastId::user("bob"));
        let peer = async || {
            let state = desk.syncs("alice", "", 0).await.conversations.remove(0);
            (state.peer_read_seq, state.peer_delivered_seq)
        };
        desk.take_told().await;
        assert_eq!(desk.marks("bob", "user:alice", 1).await, None);
        assert_eq!(
            cursors_to(&desk.take_told().await),
            [(bob.clone(), 1, 1), (alice.clone(), 1, 1)]
        );
        assert_eq!(peer().await, (1, 1));
        set(&desk, "bob", true).await;
        let told = desk.take_told().await;
        let settings = |tell: &Tell| match tell {
            Tell::Push { mcast, frame } if *mcast == bob => matches!(**frame, Body::Settings(s)
                if s.private_read && s.changed_ms > 0),
            _ => false,
        };
        assert!(matches!(&told[..], [one] if settings(one)), "{told:?}");
        // Read in private: its own devices know, and that it was delivered does not show it.
        assert_eq!(desk.marks("bob", "user:alice", 3).await, None);
        assert_eq!(
            cursors_to(&desk.take_told().await),
            [(bob.clone(), 3, 1), (alice.clone(), 0, 1)]
        );
        assert_eq!(peer().await, (0, 1));
        let own = desk.syncs("bob", "", 0).await;
        assert_eq!((own.conversations[0].read_seq, own.conversations[0].unread), (3, 1));
        assert!(own.settings.is_some_and(|settings| settings.private_read));
        // Once it is over, what was read in private stays so, until bob reads on.
        set(&desk, "bob", false).await;
        assert_eq!(peer().await, (0, 1));
        desk.take_told().await;
        assert_eq!(desk.marks("bob", "user:alice", 4).await, None);
        assert_eq!(cursors_to(&desk.take_told().await), [(bob, 4, 4), (alice, 4, 4)]);
        assert_eq!(peer().await, (4, 4));
        // Settings come with the sync after they changed, and not with the next.
        let since = own.cursor;
        assert!(desk.syncs("bob", &since, 0).await.settings.is_some());
        let later = (desk.store.now_ms() + 60_000).to_string();
        assert_eq!(desk.syncs("bob", &later, 0).await.settings, None);
        assert_eq!(desk.syncs("alice", "", 0).await.settings, None, "nothing was set");
    });
}

#[test]
fn where_one_blocks_the_other_neither_learns_how_far_the_other_reads() {
    on_both(|store| async move {
        let desk = Desk::new(&store);
        desk.friends("alice", "bob").await;
        for id in 1..=3 {
            desk.sends("alice", text("user:bob", id, "x")).await.unwrap();
        }
        desk.sends("bob", text("user:alice", 1, "y")).await.unwrap();
        desk.relate("bob", "alice", Relate::Block.rule()).await;
        desk.take_told().await;
        for (who, other) in [("alice", "bob"), ("bob", "alice")] {
            let conversation = format!("user:{other}");
            let state = desk.syncs(who, "", 0).await.conversations.remove(0);
            assert_eq!((state.peer_read_seq, state.peer_delivered_seq), (0, 0), "{who}");
            let delivered = v1::Marked { conversation, read_seq: 0, delivered_seq: 4 };
            desk.ask(who, Says::Mark(v1::Mark { marks: vec![delivered] })).await;
            let told = cursors_to(&desk.take_told().await);
            assert!(told.iter().all(|(to, ..)| *to == McastId::user(who)), "{told:?}");
            assert_eq!(told.len(), 1, "its own devices know");
        }
    });
}

#[test]
fn who_reads_in_private_counts_in_neither_list_and_wakes_no_sender() {
    on_both(|store| async move {
        let desk = Desk::new(&store);
        for name in ["bob", "cleo"] {
            desk.friends("alice", name).await;
        }
        let group = desk.group(GROUP, &["alice", "bob", "cleo"]).await;
        let seq = desk.sends("alice", text(&group, 1, "x")).await.unwrap();
        set(&desk, "bob", true).await;
        desk.take_told().await;
        assert_eq!(desk.marks("bob", &group, seq).await, None);
        desk.sends("bob", text(&group, 2, "y")).await.unwrap();
        assert_eq!(desk.marks("cleo", &group, seq).await, None);
        let counts = desk
            .until(|tell| match tell {
                Tell::Push { frame, .. } => match &**frame {
                    Body::Receipts(receipts) => Some(receipts.counts.clone()),
                    _ => None,
                },
                _ => None,
            })
            .await;
        assert_eq!(counts, [v1::ReadCount { seq, readers: 1 }], "cleo alone, and the first word");
        let about = (desk.user("alice").await.0, GROUP, seq as i64);
        let side = crate::store::receipts::Side::Unread;
        let seen = crate::groups::looks::receipts(&desk.store, about, side, 0, 9).await.unwrap();
        assert_eq!((seen.read, seen.unread, seen.users.len()), (1, 0, 0));
    });
}

/// What was told of relationships, and to whom.
fn relations_to(told: &[Tell]) -> Vec<(McastId, v1::RelationState)> {
    let mut relations = Vec::new();
    for tell in told {
        let Tell::Push { mcast, frame } = tell else { continue };
        if let Body::Relations(told) = &**frame {
            relations.extend(told.users.iter().map(|state| (mcast.clone(), state.clone())));
        }
    }
    relations
}

#[test]
fn relationships_are_told_as_they_change_and_by_the_sync_to_who_was_away() {
    on_both(|store| async move {
        let desk = Desk::new(&store);
        let (ann, bob) = (McastId::user("ann"), McastId::user("bob"));
        desk.relate("ann", "bob", Relate::Ask.rule()).await;
        let told = relations_to(&desk.take_told().await);
        assert_eq!(told.len(), 2);
        assert!(told[0].0 == ann && told[0].1.asked && told[0].1.user == "bob", "{told:?}");
        assert!(told[1].0 == bob && told[1].1.asking && told[1].1.user == "ann", "{told:?}");
        let away = desk.syncs("bob", "", 0).await;
        assert!(away.done && away.relations[0].asking, "{away:?}");
        desk.relate("ann", "bob", Relate::Ask.rule()).await;
        assert_eq!(relations_to(&desk.take_told().await), [], "it stayed as it was");
        desk.relate("bob", "ann", Relate::Accept.rule()).await;
        let told = relations_to(&desk.take_told().await);
        assert!(told.len() == 2 && told.iter().all(|(_, state)| state.friend), "{told:?}");
        desk.relate("ann", "bob", Relate::Follow.rule()).await;
        let told = relations_to(&desk.take_told().await);
        assert!(told.len() == 1 && told[0].0 == ann && told[0].1.follows, "{told:?}");
        // Bob blocks: ann is told that it is over, and not why.
        desk.relate("bob", "ann", Relate::Block.rule()).await;
        let told = relations_to(&desk.take_told().await);
        let of_ann = told.iter().find(|(to, _)| *to == ann).unwrap();
        let changed_ms = of_ann.1.changed_ms;
        let nothing =
            v1::RelationState { user: "bob".into(), changed_ms, ..v1::RelationState::default() };
        assert_eq!(of_ann.1, nothing);
        let cursor = desk.syncs("ann", "", 0).await;
        assert_eq!(cursor.relations, [], "a device that begins need not hear of what is over");
        // One that was away hears that it has ended, though nothing is left of it.
        let since = (changed_ms - 1).to_string();
        assert_eq!(desk.syncs("ann", &since, 0).await.relations, [nothing]);
        let theirs = desk.syncs("bob", &since, 0).await.relations;
        assert!(theirs.len() == 1 && theirs[0].blocks && !theirs[0].friend, "{theirs:?}");
        // And once they are friends again, that alone.
        desk.relate("bob", "ann", Relate::Unblock.rule()).await;
        desk.friends("ann", "bob").await;
        let again = desk.syncs("ann", &since, 0).await.relations;
        assert!(again.len() == 1 && again[0].friend, "{again:?}");
        desk.relate("ann", "bob", part).await;
    });
}

#[test]
fn a_sync_goes_through_conversations_and_relationships_page_by_page() {
    on_both(|store| async move {
        let desk = Desk::new(&store);
        let mut names: Vec<String> = (0..7).map(|n| format!("friend{n}")).collect();
        for name in &names {
            desk.friends("ann", name).await;
        }
        for name in &names[..3] {
            desk.sends("ann", text(&format!("user:{name}"), 1, "x")).await.unwrap();
        }
        set(&desk, "ann", true).await;
        for limit in [1, 2, 3, 4, 10, 11] {
            let (mut cursor, mut pages) = (String::new(), 0);
            let (mut conversations, mut relations, mut settings) = (Vec::new(), Vec::new(), 0);
            loop {
                let page = desk.syncs("ann", &cursor, limit).await;
                pages += 1;
                assert!(page.conversations.len() + page.relations.len() <= limit as usize);
                conversations.extend(page.conversations.into_iter().map(|c| c.conversation));
                relations.extend(page.relations.into_iter().map(|r| r.user));
                settings += u32::from(page.settings.is_some());
                cursor = page.cursor;
                if page.done {
                    break;
                }
            }
            conversations.sort();
            relations.sort();
            names.sort();
            assert_eq!(conversations, ["user:friend0", "user:friend1", "user:friend2"], "{limit}");
            assert_eq!((&relations, settings), (&names, 1), "{limit}");
            assert_eq!(pages, 10 / limit + 1, "{limit}");
            // The last cursor is for the next sync: now is within what it looks back.
            let next = desk.syncs("ann", &cursor, 0).await;
            assert_eq!((next.conversations.len(), next.relations.len()), (3, 7));
        }
    });
}

#[test]
fn a_silent_conversation_is_so_on_all_devices() {
    on_both(|store| async move {
        let desk = Desk::new(&store);
        desk.friends("alice", "bob").await;
        desk.sends("alice", text("user:bob", 1, "x")).await.unwrap();
        let group = desk.group(GROUP, &["alice", "bob"]).await;
        let (bob, now_ms) = (desk.user("bob").await.0, desk.store.now_ms());
        for (conv, expected) in [(GROUP, true), (GROUP + 1, false)] {
            let done = desk.store.write(move |conn| {
                Box::pin(async move {
                    crate::store::conversations::silence(conn, (conv, bob), true, now_ms).await
                })
            });
            assert_eq!(done.await.unwrap(), expected);
        }
        desk.conversations.silenced("bob").await;
        let resync = |tell: &Tell| match tell {
            Tell::Resync { mcast } => Some(mcast.clone()),
            _ => None,
        };
        assert_eq!(desk.until(resync).await, McastId::user("bob"));
        let silent = |synced: v1::Synced| {
            let states = synced.conversations.into_iter();
            states.filter(|state| state.silent).map(|state| state.conversation).collect::<Vec<_>>()
        };
        assert_eq!(silent(desk.syncs("bob", "", 0).await), [group]);
        assert_eq!(silent(desk.syncs("alice", "", 0).await), Vec::<String>::new());
    });
}

/// The store does not answer in time: the sender is told to try again, and its retry is stored
/// once, and pushed.
#[test]
fn a_send_that_waited_too_long_is_refused_and_stored_by_its_retry() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let test = TestStore::sqlite().await;
        let desk = Desk::new(&test);
        desk.friends("alice", "bob").await;
        desk.sends("alice", text("user:bob", 1, "x")).await.unwrap();
        desk.take_told().await;
        // Somebody else holds the file's write lock for longer than the store waits for it.
        let other = sqlx::AnyPool::connect(&test.url).await.unwrap();
        let mut conn = other.acquire().await.unwrap();
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *conn).await.unwrap();
        let holds = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(5_500)).await;
            sqlx::query("ROLLBACK").execute(&mut *conn).await.unwrap();
        });
        let send = text("user:bob", 2, "y");
        assert_eq!(desk.sends("alice", send.clone()).await, Err(Code::StoreDown));
        holds.await.unwrap();
        assert_eq!(desk.sends("alice", send).await, Ok(2));
        let pushed = desk.until(|tell| match tell {
            Tell::Push { mcast, frame } if *mcast == McastId::user("bob") => match &**frame {
                Body::Stored(stored) => Some(stored.messages[0].seq),
                _ => None,
            },
            _ => None,
        });
        assert_eq!(pushed.await, 2);
        assert_eq!(desk.pulls("bob", "user:alice").await.len(), 2);
        other.close().await;
        test.end().await;
    });
}
