//! Who may not, what is not well-formed, and what only looks dangerous: each frame about
//! conversations, each of its fields, on every store. A refusal has its documented code, stores
//! nothing and pushes nothing.

use super::desk::{Desk, PAYLOAD_BYTES_MAX, code_of, reaction, text};
use crate::groups::{Act, Role};
use crate::relations::{Act as Relate, part};
use crate::store::testing::on_both;
use bytes::Bytes;
use uproar_proto::control::Tell;
use uproar_proto::error::Code;
use uproar_proto::ids::McastId;
use uproar_proto::v1::{self, Kind, client_frame::Body as Says, server_frame::Body};

const GROUP: i64 = 77;

/// What names, texts and files may hold to break a statement, a table or a screen.
const TRICKS: &[&str] = &[
    "'; DROP TABLE users; --",
    "' OR '1'='1",
    "\" OR \"\"=\"",
    "1; SELECT pg_sleep(9)",
    "%' UNION SELECT name FROM users /*",
    "%_\\%",
    "\\",
    "?",
    "${jndi:ldap://x}",
    "\u{0}",
    "a\u{0}b",
    "\u{202e}txet",
    "\u{fdfa}\u{fdfa}",
    "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}",
    "e\u{301}",
    "\u{e9}",
    "\u{feff}x",
    "\u{200b}",
    "\u{10ffff}",
    "\u{ffff}",
    "I\u{307}\u{df}\u{131}",
    " x ",
    "\r\n.\r\n",
];

/// alice and bob are friends and write; dave was a friend; alice blocks erin; frank blocks alice;
/// carol is a stranger. In the group of alice: bob, ivan who is muted, gina who left, hugo who was
/// removed.
async fn people(desk: &Desk) -> String {
    for friend in ["bob", "dave", "erin", "frank", "gina", "hugo", "ivan"] {
        desk.friends("alice", friend).await;
        desk.sends("alice", text(&format!("user:{friend}"), 1, "hello")).await.unwrap();
        desk.sends(friend, text("user:alice", 1, "hello")).await.unwrap();
    }
    desk.user("carol").await;
    desk.relate("alice", "dave", part).await;
    desk.relate("alice", "erin", Relate::Block.rule()).await;
    desk.relate("frank", "alice", Relate::Block.rule()).await;
    let group = desk.group(GROUP, &["alice", "bob", "gina", "hugo", "ivan"]).await;
    // By one alone: nobody's receipts are told later.
    desk.sends("alice", text(&group, 2, "hello all")).await.unwrap();
    desk.act(GROUP, "gina", Act::Leave).await;
    desk.act(GROUP, "alice", Act::Remove { user: desk.user("hugo").await }).await;
    let until_ms = desk.store.now_ms() + 3_600_000;
    desk.act(GROUP, "alice", Act::Mute { user: desk.user("ivan").await, until_ms }).await;
    group
}

fn pull(conversation: &str) -> Says {
    let range = v1::Range { conversation: conversation.into(), from_seq: 1, to_seq: 9 };
    Says::Pull(v1::Pull { id: 1, ranges: vec![range] })
}

fn mark(conversation: &str, read_seq: u64) -> Says {
    let conversation = conversation.to_owned();
    Says::Mark(v1::Mark { marks: vec![v1::Marked { conversation, read_seq, delivered_seq: 0 }] })
}

fn signal(conversation: &str) -> Says {
    let (conversation, name) = (conversation.into(), "typing".into());
    Says::Signal(v1::Signal { conversation, name, ..v1::Signal::default() })
}

/// What one says to others in a conversation.
fn said(conversation: &str) -> Vec<Says> {
    let event = |kind: Kind| {
        Says::Send(v1::Send { kind: kind.into(), target_seq: 1, ..text(conversation, 900, "") })
    };
    let edit =
        v1::Send { kind: Kind::Edit.into(), target_seq: 1, ..text(conversation, 900, "better") };
    let back = v1::React { remove: true, ..reaction(conversation, 1, "+1") };
    vec![
        Says::Send(text(conversation, 900, "hello")),
        Says::Send(edit),
        event(Kind::Recall),
        event(Kind::Pin),
        event(Kind::Unpin),
        Says::React(reaction(conversation, 1, "+1")),
        Says::React(back),
        signal(conversation),
    ]
}

/// Every kind of frame that names a conversation.
fn all_of(conversation: &str) -> Vec<Says> {
    let mut all = said(conversation);
    all.extend([pull(conversation), mark(conversation, 1)]);
    all
}

/// Asks, and holds the answer against the code; `None`: none of them.
async fn refused(desk: &Desk, user: &str, says: Says, code: Code) {
    let shown = format!("{user}: {says:?}");
    let frames = desk.ask(user, says).await;
    assert_eq!(code_of(&frames), Some(code), "{shown}: {frames:?}");
}

/// Waits until each worker has done what came before this.
async fn settled(desk: &Desk) {
    let with = ["bob", "carol", "dave", "erin", "frank"].map(|name| format!("user:{name}"));
    for conversation in with.iter().chain([&super::words::with_group(GROUP)]) {
        desk.ask("alice", Says::Send(text(conversation, 0, ""))).await;
    }
    desk.ask("alice", Says::React(reaction("user:bob", 0, ""))).await;
    desk.ask("alice", mark("user:bob", 0)).await;
}

/// That nothing was stored or pushed since, once everything that was asked is over.
async fn nothing_happened(desk: &Desk, rows: &std::collections::BTreeMap<String, i64>) {
    settled(desk).await;
    assert_eq!(desk.rows().await, *rows);
    let told = desk.take_told().await;
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn who_may_not_is_told_why_and_nothing_is_stored_or_pushed() {
    on_both(|store| async move {
        let desk = Desk::new(&store);
        let group = people(&desk).await;
        let rows = desk.rows().await;
        desk.take_told().await;
        for (who, code) in [
            ("carol", Code::NotFriend),
            ("dave", Code::NotFriend),
            ("erin", Code::Blocked),
            ("frank", Code::Blocked),
        ] {
            for says in said("user:alice") {
                refused(&desk, who, says, code).await;
            }
        }
        for who in ["erin", "frank"] {
            // And the other way round.
            for says in said(&format!("user:{who}")) {
                refused(&desk, "alice", says, Code::Blocked).await;
            }
        }
        refused(&desk, "carol", pull("user:alice"), Code::NotMember).await;
        refused(&desk, "carol", mark("user:alice", 1), Code::NotMember).await;
        for who in ["gina", "hugo", "carol"] {
            for says in said(&group) {
                refused(&desk, who, says, Code::NotMember).await;
            }
            refused(&desk, who, mark(&group, 1), Code::NotMember).await;
        }
        refused(&desk, "carol", pull(&group), Code::NotMember).await;
        for says in said(&group) {
            refused(&desk, "ivan", says, Code::Muted).await;
        }
        nothing_happened(&desk, &rows).await;
    });
}

#[test]
fn who_is_unknown_is_not_found_whatever_the_name_holds() {
    on_both(|store| async move {
        let desk = Desk::new(&store);
        people(&desk).await;
        let rows = desk.rows().await;
        desk.take_told().await;
        let longest = "x".repeat(64);
        let looks_like =
            ["Bob", "BOB", "bob ", " bob", "b\u{f6}b", "bob\u{0}", "bo\u{301}b", "\u{ff42}ob"];
        let names =
            TRICKS.iter().chain(&looks_like).copied().chain(["nobody", &*longest, "bob@acme"]);
        for name in names {
            for says in all_of(&format!("user:{name}")) {
                refused(&desk, "alice", says, Code::NotFound).await;
            }
        }
        let unknown = super::words::with_group(GROUP + 1);
        for says in said(&unknown) {
            let code =
                if matches!(says, Says::Signal(_)) { Code::NotMember } else { Code::NotFound };
            refused(&desk, "alice", says, code).await;
        }
        for says in [pull(&unknown), mark(&unknown, 1)] {
            refused(&desk, "alice", says, Code::NotMember).await;
        }
        let malformed = [
            "",
            "bob",
            "user:",
            "group:",
            "group:77",
            "User:bob",
            " user:bob",
            "group:000000000000004D",
            "group:' OR 1=1 --      ",
            "group:\u{0}00000000000004d",
            "group:ffffffffffffffff",
            &format!("user:{longest}x"),
            &format!("user:{}", "\u{1f600}".repeat(17)),
        ]
        .map(str::to_owned);
        for name in malformed {
            for says in all_of(&name) {
                refused(&desk, "alice", says, Code::BadConversation).await;
            }
        }
        nothing_happened(&desk, &rows).await;
    });
}

/// Sends of a friend that break a rule, one field each.
fn bad_sends() -> Vec<(Code, v1::Send)> {
    let good = || text("user:alice", 900, "x");
    let large = "x".repeat(PAYLOAD_BYTES_MAX + 1);
    let half = PAYLOAD_BYTES_MAX / 2 + 1;
    let file = |change: &dyn Fn(&mut v1::File)| {
        let mut file = v1::File { url: "https://a/b".into(), ..v1::File::default() };
        change(&mut file);
        v1::Send { text: String::new(), file: Some(Box::new(file)), ..good() }
    };
    let long = || "y".repeat(1_025);
    let id = |bytes: usize| v1::Send { client_msg_id: vec![7; bytes].into(), ..good() };
    let about = |kind: Kind, target_seq| v1::Send {
        kind: kind.into(),
        target_seq,
        ..text("user:alice", 900, if kind == Kind::Edit { "x" } else { "" })
    };
    let mut bad = vec![
        (Code::TooLarge, text("user:alice", 900, &large)),
        (Code::TooLarge, v1::Send { text: String::new(), data: large.clone().into(), ..good() }),
        (Code::TooLarge, v1::Send { text: "x".repeat(half), data: vec![0; half].into(), ..good() }),
        // Bytes count, not characters.
        (Code::TooLarge, text("user:alice", 900, &"\u{fdfa}".repeat(PAYLOAD_BYTES_MAX / 3 + 1))),
        (Code::TooLarge, file(&|file| file.url = long())),
        (Code::TooLarge, file(&|file| file.name = long())),
        (Code::TooLarge, file(&|file| file.media_type = long())),
        (Code::TooLarge, file(&|file| file.thumbnail_url = long())),
        (
            Code::TooLarge,
            file(&|file| {
                file.name = "n".repeat(1_000);
                file.thumbnail_url = "t".repeat(1_000);
            }),
        ),
        (Code::BadRequest, file(&|file| file.url.clear())),
        (Code::BadRequest, file(&|file| file.sha256 = vec![1; 31].into())),
        (Code::BadRequest, file(&|file| file.sha256 = vec![1; 33].into())),
        (Code::Empty, text("user:alice", 900, "")),
        (
            Code::Empty,
            v1::Send { kind: Kind::Edit.into(), target_seq: 1, ..text("user:alice", 900, "") },
        ),
        (Code::BadRequest, v1::Send { kind: 99, ..good() }),
        (Code::BadRequest, v1::Send { kind: -1, ..good() }),
        (Code::Forbidden, v1::Send { kind: Kind::Notice.into(), ..good() }),
        (Code::Forbidden, v1::Send { kind: Kind::Reactions.into(), target_seq: 1, ..good() }),
        (Code::BadRequest, v1::Send { target_seq: 1, ..good() }),
        (Code::BadRequest, v1::Send { kind: Kind::Recall.into(), target_seq: 1, ..good() }),
        (Code::BadRequest, v1::Send { kind: Kind::Pin.into(), target_seq: 1, ..good() }),
        (Code::Conflict, text("user:alice", 1, "another text under a used id")),
        // alice wrote it.
        (Code::Forbidden, about(Kind::Recall, 1)),
        (Code::Forbidden, about(Kind::Edit, 1)),
        (Code::NotFound, about(Kind::Unpin, 1)),
    ];
    bad.extend([0, 1, 15, 17, 64].map(|bytes| (Code::BadId, id(bytes))));
    for kind in [Kind::Recall, Kind::Edit, Kind::Pin, Kind::Unpin] {
        bad.extend([0, 3, 1 << 62, u64::MAX].map(|seq| (Code::NotFound, about(kind, seq))));
    }
    bad
}

#[test]
fn what_breaks_a_rule_is_told_which_and_nothing_is_stored_or_pushed() {
    on_both(|store| async move {
        let desk = Desk::new(&store);
        people(&desk).await;
        let rows = desk.rows().await;
        desk.take_told().await;
        for (code, send) in bad_sends() {
            refused(&desk, "bob", Says::Send(send), code).await;
        }
        let longest = "x".repeat(49);
        let unseen = ["", " ", "a b", "\u{0}", "\u{202e}", "\u{200b}", "\n", "\u{200d}", &longest];
        for bad in unseen {
            refused(&desk, "bob", Says::React(reaction("user:alice", 1, bad)), Code::BadRequest)
                .await;
        }
        for seq in [0, 3, 1 << 62, u64::MAX] {
            let react = reaction("user:alice", seq, "+1");
            refused(&desk, "bob", Says::React(react), Code::NotFound).await;
        }
        for seq in [3, 1 << 62, u64::MAX] {
            refused(&desk, "bob", mark("user:alice", seq), Code::BadRequest).await;
            let delivered =
                v1::Marked { delivered_seq: seq, conversation: "user:alice".into(), read_seq: 0 };
            let delivered = Says::Mark(v1::Mark { marks: vec![delivered] });
            refused(&desk, "bob", delivered, Code::BadRequest).await;
        }
        let one = v1::Marked { conversation: "user:alice".into(), ..v1::Marked::default() };
        refused(&desk, "bob", Says::Mark(v1::Mark { marks: vec![one; 129] }), Code::BadRequest)
            .await;
        let one = v1::Range { conversation: "user:alice".into(), from_seq: 1, to_seq: 1 };
        let pull = v1::Pull { id: 1, ranges: vec![one; 65] };
        refused(&desk, "bob", Says::Pull(pull), Code::BadRequest).await;
        let signals =
            [("", 0), (&*"n".repeat(65), 0), ("typing", 1_025)].map(|(name, bytes)| v1::Signal {
                conversation: "user:alice".into(),
                name: name.into(),
                data: vec![0; bytes].into(),
                ..v1::Signal::default()
            });
        for signal in signals {
            refused(&desk, "bob", Says::Signal(signal), Code::BadRequest).await;
        }
        let tricks = TRICKS.iter().filter(|trick| !trick.trim().is_empty());
        for cursor in tricks.chain(&["1-2", "1-2-3-x", "-1", "9999999999999999999"]) {
            let sync = v1::Sync { cursor: (*cursor).into(), limit: 0 };
            refused(&desk, "bob", Says::Sync(sync), Code::BadRequest).await;
        }
        let watch = v1::Watch { users: vec!["alice".into(); 1_001] };
        refused(&desk, "bob", Says::Watch(watch), Code::LimitReached).await;
        nothing_happened(&desk, &rows).await;
    });
}

/// Names of the signals that were pushed.
fn signals(told: &[Tell]) -> Vec<String> {
    let name = |tell: &Tell| match tell {
        Tell::Push { frame, .. } => match &**frame {
            Body::Signal(signal) => Some(signal.name.clone()),
            _ => None,
        },
        _ => None,
    };
    told.iter().filter_map(name).collect()
}

#[test]
fn what_only_looks_dangerous_is_stored_and_shown_as_it_is() {
    on_both(|store| async move {
        let desk = Desk::new(&store);
        people(&desk).await;
        let tables = desk.rows().await;
        desk.take_told().await;
        let mut expected = Vec::new();
        for (at, trick) in TRICKS.iter().enumerate() {
            let file = v1::File {
                url: format!("https://a/{trick}"),
                name: (*trick).into(),
                media_type: (*trick).into(),
                thumbnail_url: (*trick).into(),
                sha256: Bytes::from_static(&[b'\''; 32]),
                bytes: u64::MAX,
            };
            let mut id = trick.as_bytes().to_vec();
            id.resize(15, b'\'');
            id.push(at as u8);
            let send = v1::Send {
                client_msg_id: id.into(),
                data: trick.as_bytes().to_vec().into(),
                file: Some(Box::new(file)),
                ..text("user:alice", 0, trick)
            };
            desk.sends("bob", send.clone()).await.unwrap();
            expected.push((send.text, send.data, send.file));
            let signal = v1::Signal {
                conversation: "user:alice".into(),
                name: (*trick).into(),
                data: trick.as_bytes().to_vec().into(),
                ..v1::Signal::default()
            };
            assert_eq!(desk.ask("bob", Says::Signal(signal)).await, [], "{trick}");
        }
        settled(&desk).await;
        let told = desk.take_told().await;
        let content = |m: v1::StoredMessage| (m.text, m.data, m.file);
        let to_alice = super::desk::pushed_to(&told, &McastId::user("alice"));
        let pushed: Vec<_> = to_alice.into_iter().map(|(_, message)| content(message)).collect();
        assert_eq!(pushed, expected);
        let mut pulled: Vec<_> =
            desk.pulls("alice", "user:bob").await.into_iter().map(content).collect();
        assert_eq!(pulled.split_off(2), expected);
        assert_eq!(signals(&told), TRICKS);
        // Reactions: what is seen is taken, each as itself.
        for seen in ["'--", "\"", "%_", "\\", "?", "\u{fdfa}", "\u{e9}", "e\u{301}", "\u{10ffff}"] {
            desk.reacts("bob", reaction("user:alice", 2, seen)).await.unwrap();
            let back = v1::React { remove: true, ..reaction("user:alice", 2, seen) };
            desk.reacts("bob", back).await.unwrap();
        }
        let rows = desk.rows().await;
        let grown: Vec<&String> =
            rows.iter().filter(|(table, rows)| tables[*table] != **rows).map(|(t, _)| t).collect();
        let mut allowed = vec!["message_content", "message_index", "reaction_heads"];
        allowed.extend(
            grown.iter().filter(|t| *t.as_str() == *"reaction_pending").map(|t| t.as_str()),
        );
        assert_eq!(grown, allowed);
    });
}

#[test]
fn names_that_look_alike_are_different_users() {
    on_both(|store| async move {
        let desk = Desk::new(&store);
        let alike = [
            "alice",
            "Alice",
            "alice ",
            " alice",
            "\u{e1}lice",
            "a\u{301}lice",
            "alice\u{0}",
            "alice@acme",
            "alice@ACME",
            "\u{430}lice",
        ];
        for (at, name) in alike.iter().enumerate() {
            desk.friends(name, "hub").await;
            desk.sends(name, text("user:hub", 1, &at.to_string())).await.unwrap();
            desk.sends("hub", text(&format!("user:{name}"), 1, &format!("to {at}"))).await.unwrap();
        }
        let synced = desk.syncs("hub", "", 0).await;
        assert_eq!(
            (synced.conversations.len(), synced.relations.len()),
            (alike.len(), alike.len())
        );
        for (at, name) in alike.iter().enumerate() {
            let texts = |messages: Vec<v1::StoredMessage>| {
                messages.into_iter().map(|m| (m.user, m.text)).collect::<Vec<_>>()
            };
            let own = ((*name).to_owned(), at.to_string());
            let expected = [own, ("hub".to_owned(), format!("to {at}"))];
            assert_eq!(texts(desk.pulls(name, "user:hub").await), expected, "{name:?}");
            let conversation = format!("user:{name}");
            assert_eq!(texts(desk.pulls("hub", &conversation).await), expected, "{name:?}");
            assert!(synced.conversations.iter().any(|state| state.conversation == conversation));
            assert!(synced.relations.iter().any(|state| state.user == *name && state.friend));
        }
        // A member of one such name is no member by another.
        let group = desk.group(GROUP, &["hub", "alice"]).await;
        desk.sends("alice", text(&group, 9, "x")).await.unwrap();
        assert_eq!(desk.sends("Alice", text(&group, 9, "x")).await, Err(Code::NotMember));
        assert_eq!(desk.sends("alice ", text(&group, 9, "x")).await, Err(Code::NotMember));
        let role = Act::SetRole { user: desk.user("Alice").await, role: Role::Moderator };
        let hub = desk.user("hub").await;
        assert!(desk.conversations.change(GROUP, hub, role).await.is_err());
    });
}
