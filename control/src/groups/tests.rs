//! Groups against a store: who may do what, what each may read, and receipts.

use super::change::{Act, Changed, Limits, User, change};
use super::{Door, Entry, Joining, Link, Role, entry, looks, may_moderate};
use crate::relations::{Act as Relate, Policy, act};
use crate::store::append::{Append, Appended, Target, append};
use crate::store::receipts::{Advance, Side, advance, counts};
use crate::store::settings::{self, Wanted};
use crate::store::testing::on_both;
use crate::store::{Store, StoreError, conversations, users};
use std::collections::BTreeMap;
use std::sync::Arc;
use uproar_proto::error::Code;
use uproar_proto::v1::Kind;

pub(super) const CONV: i64 = 77;

pub(super) async fn user(store: &Store, name: &'static str) -> User {
    let dialect = store.dialect();
    let id = store.write(move |conn| Box::pin(users::find_or_insert(conn, dialect, ("", name), 1)));
    (id.await.unwrap().unwrap(), name.to_owned())
}

async fn befriend(store: &Store, one: &User, other: &User) {
    act(store, one.0, other.0, Relate::Ask, 1).await.unwrap();
    act(store, other.0, one.0, Relate::Accept, 1).await.unwrap();
}

async fn tried(store: &Store, actor: &User, what: Act) -> Result<Changed, Code> {
    let dialect = store.dialect();
    let limits = Limits { policy: Policy::Friends, members_max: 4, groups_per_user_max: 2 };
    let by = Arc::new((actor.clone(), what));
    let done = store.write(move |conn| {
        let by = Arc::clone(&by);
        Box::pin(async move { change(conn, dialect, limits, (CONV, &by.0), &by.1, 100).await })
    });
    match done.await {
        Ok(done) => done,
        Err(StoreError::Refused(code)) => Err(code),
        Err(error) => panic!("{error}"),
    }
}

async fn done(store: &Store, actor: &User, what: Act) -> Changed {
    tried(store, actor, what).await.unwrap()
}

fn create(joining: Joining, members: &[&User]) -> Act {
    let members = members.iter().map(|user| (*user).clone()).collect();
    Act::Create { name: "Hikers".into(), announcement: String::new(), joining, members }
}

pub(super) async fn write(store: &Store, sender: &User, id: u128) -> Result<Appended, Code> {
    let item = Append {
        sender: sender.0,
        target: Target::Group(CONV),
        client_msg_id: id,
        hash: 1,
        kind: Kind::Message,
        target_seq: 0,
        body: b"x".to_vec(),
        by_operator: false,
    };
    let dialect = store.dialect();
    let items = Arc::new([item]);
    let placed = store.write(move |conn| {
        let items = Arc::clone(&items);
        Box::pin(async move { append(conn, dialect, Policy::Friends, &*items, 100).await })
    });
    placed.await.unwrap()[0]
}

async fn reads(store: &Store, user: &User) -> Vec<(i64, i64)> {
    let mut conn = store.reader().await.unwrap();
    conversations::readable(&mut conn, CONV, user.0).await.unwrap()
}

fn names(users: &[(User, i64)]) -> Vec<&str> {
    users.iter().map(|((_, name), _)| name.as_str()).collect()
}

#[test]
fn the_door_opens_as_the_group_says() {
    use Door::{Id, Invited, Link};
    let of = |joining| {
        [Invited(Role::Moderator), Invited(Role::Member), Link, Id].map(|door| entry(joining, door))
    };
    let (joins, waits) = (Ok(Entry::Joins), Ok(Entry::Waits));
    assert_eq!(of(Joining::Invite), [joins, joins, joins, Err(Code::Forbidden)]);
    assert_eq!(of(Joining::Approve), [joins, waits, waits, waits]);
    assert_eq!(of(Joining::Open), [joins; 4]);
}

#[test]
fn nobody_moderates_their_own_kind_or_those_above() {
    let all = [Role::Member, Role::Moderator, Role::Owner];
    for actor in all {
        for target in all {
            let may = actor != Role::Member && (actor as i64) > (target as i64);
            assert_eq!(may_moderate(actor, target).is_ok(), may, "{actor:?} {target:?}");
        }
    }
}

#[test]
fn a_member_reads_from_its_joining_to_its_leaving_and_no_further() {
    on_both(|store| async move {
        let (ann, bob, cleo) =
            (user(&store, "ann").await, user(&store, "bob").await, user(&store, "cleo").await);
        befriend(&store, &ann, &bob).await;
        befriend(&store, &bob, &cleo).await;
        let made = done(&store, &ann, create(Joining::Invite, &[&bob, &cleo])).await;
        assert_eq!(names(&made.joined), ["ann", "bob"]);
        assert_eq!(made.refused, [(cleo.clone(), Code::NotFriend)], "ann and cleo are no friends");
        assert_eq!(made.notices[0].notice.users, ["bob"]);
        assert_eq!(write(&store, &ann, 1).await.unwrap().seq, 2);
        assert_eq!(write(&store, &cleo, 2).await, Err(Code::NotMember));
        let invited =
            done(&store, &bob, Act::Invite { users: vec![cleo.clone(), ann.clone()] }).await;
        assert_eq!((names(&invited.joined), invited.notices[0].seq), (vec!["cleo"], 3));
        assert_eq!(invited.joined[0].1, 2, "it reads from its notice on");
        assert_eq!(write(&store, &cleo, 2).await.unwrap().seq, 4);
        let removed = done(&store, &ann, Act::Remove { user: cleo.clone() }).await;
        assert_eq!((names(&removed.left), removed.left[0].1), (vec!["cleo"], 5));
        assert_eq!(write(&store, &cleo, 3).await, Err(Code::NotMember));
        assert_eq!(write(&store, &cleo, 2).await.unwrap().seq, 4, "a retry has its place");
        assert_eq!(write(&store, &ann, 4).await.unwrap().seq, 6);
        assert_eq!(reads(&store, &cleo).await, [(3, 5)]);
        // It comes back, and what was written meanwhile is not its own.
        done(&store, &ann, Act::Remove { user: bob.clone() }).await;
        befriend(&store, &ann, &cleo).await;
        done(&store, &ann, Act::Invite { users: vec![cleo.clone()] }).await;
        assert_eq!(reads(&store, &cleo).await, [(3, 5), (8, 8)]);
        let mut conn = store.reader().await.unwrap();
        let synced = conversations::changed(&mut conn, cleo.0, 0, 0, 9).await.unwrap();
        assert_eq!((synced[0].floor, synced[0].head, synced[0].left), (7, 8, false));
        let bobs = conversations::changed(&mut conn, bob.0, 0, 0, 9).await.unwrap();
        assert_eq!((bobs[0].head, bobs[0].left, bobs[0].unread), (7, true, 3), "{bobs:?}");
    });
}

#[test]
fn only_who_may_changes_a_group_and_a_refusal_writes_nothing() {
    on_both(|store| async move {
        let (ann, bob, cleo) =
            (user(&store, "ann").await, user(&store, "bob").await, user(&store, "cleo").await);
        befriend(&store, &ann, &bob).await;
        befriend(&store, &ann, &cleo).await;
        done(&store, &ann, create(Joining::Invite, &[&bob, &cleo])).await;
        let all = |user: &User| {
            let (name, announcement) = (Some("Mine".into()), None);
            [
                Act::Set { name, announcement, joining: None, muted_all: None },
                Act::Remove { user: user.clone() },
                Act::Mute { user: user.clone(), until_ms: 900 },
                Act::SetRole { user: user.clone(), role: Role::Moderator },
                Act::Transfer { user: user.clone() },
                Act::End,
            ]
        };
        for act in all(&cleo) {
            assert_eq!(
                tried(&store, &bob, act.clone()).await.unwrap_err(),
                Code::Forbidden,
                "{act:?}"
            );
        }
        let seen = looks::seen(&store, ann.0, CONV).await.unwrap();
        assert_eq!((seen.group.head, seen.group.name.as_str()), (1, "Hikers"));
        // A moderator does the first three, on members.
        let moderate = Act::SetRole { user: bob.clone(), role: Role::Moderator };
        done(&store, &ann, moderate).await;
        for (at, act) in all(&cleo).into_iter().enumerate().rev() {
            let code = tried(&store, &bob, act).await.err();
            assert_eq!(code, (at > 2).then_some(Code::Forbidden), "{at}");
        }
        for act in all(&ann).into_iter().skip(1).take(2) {
            assert_eq!(tried(&store, &bob, act).await.unwrap_err(), Code::Forbidden);
        }
        assert_eq!(tried(&store, &cleo, Act::Leave).await.unwrap_err(), Code::NotMember);
        let nobody = (4, "nobody".to_owned());
        let gone = Act::Remove { user: nobody };
        assert_eq!(tried(&store, &ann, gone).await.unwrap_err(), Code::NotFound);
    });
}

#[test]
fn the_muted_do_not_write_and_moderators_write_while_all_are_muted() {
    on_both(|store| async move {
        let (ann, bob) = (user(&store, "ann").await, user(&store, "bob").await);
        befriend(&store, &ann, &bob).await;
        done(&store, &ann, create(Joining::Invite, &[&bob])).await;
        // Writes come at 100 ms.
        for (until_ms, expected) in [(101, Err(Code::Muted)), (100, Ok(())), (0, Ok(()))] {
            done(&store, &ann, Act::Mute { user: bob.clone(), until_ms }).await;
            let id = 10 + until_ms as u128;
            assert_eq!(write(&store, &bob, id).await.map(|_| ()), expected, "until {until_ms}");
        }
        let mute = |muted| Act::Set {
            name: None,
            announcement: None,
            joining: None,
            muted_all: Some(muted),
        };
        done(&store, &ann, mute(true)).await;
        assert_eq!(write(&store, &bob, 1).await, Err(Code::Muted));
        assert!(write(&store, &ann, 1).await.is_ok());
        done(&store, &ann, mute(false)).await;
        assert!(write(&store, &bob, 1).await.is_ok());
    });
}

#[test]
fn a_request_waits_for_a_moderator_and_a_link_ends() {
    on_both(|store| async move {
        let (ann, bob, cleo) =
            (user(&store, "ann").await, user(&store, "bob").await, user(&store, "cleo").await);
        done(&store, &ann, create(Joining::Approve, &[])).await;
        let ask = || Act::Join { link: None, text: "let me in".into() };
        let asked = done(&store, &bob, ask()).await;
        assert_eq!((asked.waiting, asked.joined.len()), (vec![bob.clone()], 0));
        assert_eq!(tried(&store, &bob, Act::Leave).await.unwrap_err(), Code::NotMember);
        let waiting = looks::requests(&store, (ann.0, CONV), 0, 9).await.unwrap();
        assert_eq!((waiting[0].0, waiting[0].2.as_str()), (bob.0, "let me in"));
        assert_eq!(
            names(&done(&store, &ann, Act::Approve { user: bob.clone() }).await.joined),
            ["bob"]
        );
        done(&store, &cleo, ask()).await;
        done(&store, &cleo, Act::Decline { user: cleo.clone() }).await;
        let late = Act::Approve { user: cleo.clone() };
        assert_eq!(tried(&store, &ann, late).await.unwrap_err(), Code::NotFound);
        let invite = Act::Set {
            name: None,
            announcement: None,
            joining: Some(Joining::Invite),
            muted_all: None,
        };
        done(&store, &ann, invite).await;
        assert_eq!(tried(&store, &cleo, ask()).await.unwrap_err(), Code::Forbidden);
        let link = |token: &str, expires_ms, uses_left| Act::MakeLink {
            link: Link { token: token.into(), conv: CONV, made_by: ann.0, expires_ms, uses_left },
        };
        assert_eq!(tried(&store, &bob, link("a", 900, 1)).await.unwrap_err(), Code::Forbidden);
        for (token, expires_ms) in [("late", 100), ("once", 900), ("ended", 900)] {
            done(&store, &ann, link(token, expires_ms, 1)).await;
        }
        done(&store, &ann, Act::EndLink { token: "ended".into() }).await;
        let by = |token: &str| Act::Join { link: Some(token.into()), text: String::new() };
        for bad in ["late", "ended", "no such"] {
            assert_eq!(tried(&store, &cleo, by(bad)).await.unwrap_err(), Code::NotFound, "{bad}");
        }
        assert_eq!(names(&done(&store, &cleo, by("once")).await.joined), ["cleo"]);
        done(&store, &cleo, Act::Leave).await;
        assert_eq!(tried(&store, &cleo, by("once")).await.unwrap_err(), Code::NotFound);
    });
}

#[test]
fn a_group_without_its_owner_has_another_one_and_one_without_members_ends() {
    on_both(|store| async move {
        let (ann, bob, cleo) =
            (user(&store, "ann").await, user(&store, "bob").await, user(&store, "cleo").await);
        befriend(&store, &ann, &bob).await;
        befriend(&store, &ann, &cleo).await;
        done(&store, &ann, create(Joining::Invite, &[&bob, &cleo])).await;
        done(&store, &ann, Act::SetRole { user: cleo.clone(), role: Role::Moderator }).await;
        let left = done(&store, &ann, Act::Leave).await;
        assert_eq!((left.group.owner, left.group.size), (cleo.0, 2), "the moderator");
        done(&store, &cleo, Act::Transfer { user: bob.clone() }).await;
        assert_eq!(tried(&store, &cleo, Act::End).await.unwrap_err(), Code::Forbidden);
        done(&store, &cleo, Act::Leave).await;
        assert!(done(&store, &bob, Act::Leave).await.group.ended);
        assert_eq!(write(&store, &bob, 1).await, Err(Code::NotMember));
        assert_eq!(tried(&store, &bob, Act::Leave).await.unwrap_err(), Code::NotFound);
        assert!(!reads(&store, &bob).await.is_empty(), "what was written stays readable");
    });
}

#[test]
fn a_full_group_and_a_user_in_many_take_no_more() {
    on_both(|store| async move {
        let ann = user(&store, "ann").await;
        let mut friends = Vec::new();
        for name in ["b", "c", "d", "e"] {
            let friend = user(&store, name).await;
            befriend(&store, &ann, &friend).await;
            friends.push(friend);
        }
        let some: Vec<&User> = friends.iter().take(3).collect();
        done(&store, &ann, create(Joining::Open, &some)).await;
        let full = Act::Invite { users: vec![friends[3].clone()] };
        assert_eq!(tried(&store, &ann, full).await.unwrap_err(), Code::LimitReached);
        let join = Act::Join { link: None, text: String::new() };
        assert_eq!(tried(&store, &friends[3], join).await.unwrap_err(), Code::LimitReached);
    });
}

/// Who could read a message and who has, message by message: what the cursors must say.
#[derive(Default)]
struct Model {
    members: [bool; PEOPLE],
    /// The seq at which the present membership began, and how far it has read.
    since: [i64; PEOPLE],
    read: [i64; PEOPLE],
    /// Who reads in private now.
    private: [bool; PEOPLE],
    messages: BTreeMap<i64, Message>,
    head: i64,
}

/// One message of it.
struct Message {
    sender: usize,
    could: [bool; PEOPLE],
    has: [bool; PEOPLE],
    /// Whose reading others may know of.
    told: [bool; PEOPLE],
}

const PEOPLE: usize = 12;

impl Model {
    fn joins_or_leaves(&mut self, who: usize, joins: bool, head: i64) {
        (self.members[who], self.since[who], self.head) = (joins, head, head);
        self.read[who] = head - 1;
    }

    fn writes(&mut self, who: usize, seq: i64) {
        let message =
            Message { sender: who, could: self.members, has: <_>::default(), told: <_>::default() };
        self.messages.insert(seq, message);
        self.head = seq;
        self.reads(who, seq);
    }

    fn reads(&mut self, who: usize, up_to: i64) {
        if up_to <= self.read[who] {
            return;
        }
        self.read[who] = up_to;
        // What it read in an earlier membership stands, and no more is added to that.
        let since = self.since[who].min(up_to);
        for (_, message) in self.messages.range_mut(since..=up_to) {
            message.has[who] |= message.could[who];
            // What was read in private shows by what is read after it.
            message.told[who] |= message.has[who] && !self.private[who];
        }
    }

    fn sets(&mut self, who: usize, private: bool) {
        if self.private[who] && !private {
            self.messages.values_mut().for_each(|message| message.told[who] = false);
        }
        self.private[who] = private;
    }

    /// Of a message: how many have read it, and how many members have not, as others may know it.
    fn sides(&self, seq: i64) -> (i64, i64) {
        let message = &self.messages[&seq];
        let others = (0..PEOPLE).filter(|who| *who != message.sender && !self.private[*who]);
        let reads = |who: &usize| message.has[*who] && message.told[*who];
        let misses =
            |who: &usize| self.members[*who] && self.since[*who] <= seq && self.read[*who] < seq;
        (others.clone().filter(reads).count() as i64, others.filter(misses).count() as i64)
    }

    /// Looks at all messages now; how many those are.
    async fn check(&self, store: &Store, all: &[User], step: usize) -> usize {
        let mut conn = store.reader().await.unwrap();
        let messages: Vec<(i64, i64)> =
            self.messages.iter().map(|(seq, message)| (*seq, all[message.sender].0)).collect();
        let counted = counts(&mut conn, CONV, &messages).await.unwrap();
        drop(conn);
        for (seq, sender) in messages {
            let (read, unread) = self.sides(seq);
            assert_eq!(counted[&seq], read, "seq {seq} after step {step}");
            if step % 100 != 99 {
                continue;
            }
            // A sender that has left, or wrote it in an earlier membership, is not told.
            for (side, many) in [(Side::Read, read), (Side::Unread, unread)] {
                if let Ok(seen) = looks::receipts(store, (sender, CONV, seq), side, 0, 99).await {
                    assert_eq!((seen.read, seen.unread), (read, unread), "seq {seq}, step {step}");
                    assert_eq!(seen.users.len() as i64, many);
                }
            }
        }
        self.messages.len()
    }
}

async fn set_private(store: &Store, user: i64, private: bool) {
    let (dialect, wanted) =
        (store.dialect(), Wanted { private_read: Some(private), ..Wanted::default() });
    let changed = store.write(move |conn| {
        Box::pin(async move { settings::change(conn, dialect, user, wanted, 100).await })
    });
    assert_eq!(changed.await.unwrap().private_read, private);
}

/// Joins, leaves, messages, reads and changes of who reads in private, at random.
#[test]
fn readers_equal_brute_force_whatever_happened_before() {
    on_both(|store| async move {
        let mut all = Vec::new();
        for name in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"] {
            all.push(user(&store, name).await);
        }
        let mut model = Model::default();
        let limits = Limits { policy: Policy::Anyone, members_max: 99, groups_per_user_max: 9 };
        let mut state = 11_u64;
        let mut below = |bound: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % bound
        };
        let dialect = store.dialect();
        let mut looks = 0;
        for step in 0..800 {
            let who = if step == 0 { 0 } else { below(PEOPLE) };
            let what = match below(10) {
                _ if step == 0 => Some(create(Joining::Open, &[])),
                0 if !model.members[who] => Some(Act::Join { link: None, text: String::new() }),
                1 if model.members[who] && who != 0 => Some(Act::Leave),
                _ => None,
            };
            if let Some(what) = what {
                let (joins, by) = (!matches!(what, Act::Leave), Arc::new((all[who].clone(), what)));
                let done = store.write(move |conn| {
                    let by = Arc::clone(&by);
                    Box::pin(async move {
                        change(conn, dialect, limits, (CONV, &by.0), &by.1, 100).await
                    })
                });
                model.joins_or_leaves(who, joins, done.await.unwrap().unwrap().group.head);
            } else if below(8) == 0 {
                let private = !model.private[who];
                set_private(&store, all[who].0, private).await;
                model.sets(who, private);
            } else if model.members[who] && below(2) == 0 {
                model.writes(who, write(&store, &all[who], step as u128).await.unwrap().seq);
            } else if model.members[who] {
                let read = 1 + below(model.head as usize) as i64;
                let item = Advance { conv: CONV, user: all[who].0, read, delivered: 0 };
                let moved = store.write(move |conn| {
                    Box::pin(async move { advance(conn, dialect, &[item], 100).await })
                });
                moved.await.unwrap()[0].unwrap();
                model.reads(who, read);
            }
            if step % 5 == 4 {
                looks += model.check(&store, &all, step).await;
            }
        }
        assert!(looks >= 10_000, "{looks} of (message, moment)");
    });
}
