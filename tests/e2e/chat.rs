//! Stored conversations: friends who write to each other, whoever is online.

use crate::client::Client;
use crate::crowds::narrow_socket;
use crate::server::Server;
use crate::tokens::{claims, config, hs256, plain, unix_ms, unix_s};
use crate::{On, Wire};
use serde_json::{Value, json};
use uproar_proto::error::Code;
use uproar_proto::v1::{self, Kind, client_frame, server_frame::Body};

/// A server with a store, and alice and bob who are friends; carol knows nobody.
fn server(on: On) -> Server {
    let server = on.server(&config());
    relate(&server, json!({"user": "alice", "peer": "bob", "friends": true}));
    server
}

pub(crate) fn relate(server: &Server, relation: Value) {
    let answer = server.request("PUT", "/v1/relations", &json!({"relations": [relation]}));
    assert_eq!(answer.status, 200, "{}", answer.body);
}

/// A user's device with its inbox.
pub(crate) fn device(server: &Server, wire: Wire, user: &str) -> Client {
    let mut client = Client::open(server, wire);
    let connect = v1::Connect { token: plain(user), inbox: true, ..v1::Connect::default() };
    client.send(client_frame::Body::Connect(connect));
    client.take("welcome", |body| matches!(body, Body::Welcome(_)).then_some(()));
    client
}

/// A message under the id that is this number.
pub(crate) fn text(to: &str, id: u128, text: &str) -> v1::Send {
    v1::Send {
        conversation: format!("user:{to}"),
        client_msg_id: id.to_be_bytes().to_vec().into(),
        text: text.into(),
        ..v1::Send::default()
    }
}

impl Client {
    pub(crate) fn sends(&mut self, send: v1::Send) -> v1::Sent {
        let id = send.client_msg_id.clone();
        self.send(client_frame::Body::Send(send));
        self.take("the acknowledgement", |body| match body {
            Body::Sent(sent) if sent.client_msg_id == id => Some(sent.clone()),
            _ => None,
        })
    }

    pub(crate) fn is_stored(&mut self, send: v1::Send) -> u64 {
        let sent = self.sends(send);
        assert_eq!((sent.code, sent.retry), (0, false), "{sent:?}");
        assert!(sent.generation != 0 && sent.time_ms != 0, "{sent:?}");
        sent.seq
    }

    pub(crate) fn is_told(&mut self, send: v1::Send, code: Code) {
        let sent = self.sends(send);
        assert_eq!((sent.code, sent.seq), (code.number(), 0), "{sent:?}");
    }

    /// The next pushed message.
    pub(crate) fn pushed(&mut self) -> (String, v1::StoredMessage) {
        let mut stored = self.take("a pushed message", |body| match body {
            Body::Stored(stored) => Some(stored.clone()),
            _ => None,
        });
        assert_eq!(stored.messages.len(), 1, "one was sent: {stored:?}");
        (stored.conversation, stored.messages.remove(0))
    }

    pub(crate) fn syncs(&mut self, cursor: &str) -> v1::Synced {
        self.send(client_frame::Body::Sync(v1::Sync { cursor: cursor.into(), limit: 0 }));
        self.take("the sync", |body| match body {
            Body::Synced(synced) => Some(synced.clone()),
            _ => None,
        })
    }

    pub(crate) fn pulls(
        &mut self,
        conversation: &str,
        from_seq: u64,
        to_seq: u64,
    ) -> Vec<v1::StoredMessage> {
        let range = v1::Range { conversation: conversation.into(), from_seq, to_seq };
        self.send(client_frame::Body::Pull(v1::Pull { id: 7, ranges: vec![range] }));
        let pulled = self.take("the pull", |body| match body {
            Body::Pulled(pulled) => Some(pulled.clone()),
            _ => None,
        });
        assert_eq!((pulled.id, pulled.rest.len()), (7, 0));
        pulled.parts.into_iter().flat_map(|part| part.messages).collect()
    }

    /// The error that is about no room and does not end the connection.
    pub(crate) fn error(&mut self) -> String {
        self.take("an error", |body| match body {
            Body::Error(error) => Some(error.name.clone()),
            _ => None,
        })
    }
}

pub(crate) fn friends_write_to_each_other_online_and_offline(on: On) {
    let server = server(on);
    let (mut phone, mut desk) =
        (device(&server, on.wire, "alice"), device(&server, on.wire, "alice"));
    // Whoever has synced once gets every later message pushed.
    assert_eq!(phone.syncs("").conversations, []);
    desk.syncs("");
    assert_eq!(phone.is_stored(text("bob", 1, "are you there? \u{1f44b}")), 1);
    let (conversation, own) = desk.pushed();
    assert_eq!((conversation.as_str(), own.user.as_str()), ("user:bob", "alice"));
    assert_eq!(own.client_msg_id, 1_u128.to_be_bytes().as_slice());
    // Bob comes later, and finds it without knowing its id.
    let mut bob = device(&server, on.wire, "bob");
    let synced = bob.syncs("");
    let state = &synced.conversations[0];
    assert_eq!((state.conversation.as_str(), state.head_seq, state.unread), ("user:alice", 1, 1));
    let missed = bob.pulls("user:alice", 1, state.head_seq);
    assert_eq!((missed[0].seq, missed[0].text.as_str()), (1, "are you there? \u{1f44b}"));
    assert!(missed[0].client_msg_id.is_empty(), "another one's id is nobody's business");
    assert_eq!(bob.is_stored(text("alice", 1, "yes")), 2);
    for device in [&mut phone, &mut desk] {
        let (conversation, message) = device.pushed();
        assert_eq!(
            (conversation.as_str(), message.seq),
            ("user:bob", if message.user == "bob" { 2 } else { 1 })
        );
    }
    // An edit and a recall are messages of the same row, and change what is pulled.
    let edit = v1::Send { kind: Kind::Edit.into(), target_seq: 1, ..text("bob", 2, "hello?") };
    assert_eq!(phone.is_stored(edit), 3);
    let recall = v1::Send { kind: Kind::Recall.into(), target_seq: 2, ..text("alice", 2, "") };
    assert_eq!(bob.is_stored(recall), 4);
    let all = bob.pulls("user:alice", 0, u64::MAX);
    assert_eq!((all[0].text.as_str(), all[0].edited_seq), ("hello?", 3));
    assert_eq!((all[1].text.as_str(), all[1].gone), ("", true));
    assert_eq!((all[3].kind(), all[3].target_seq), (Kind::Recall, 2));
    let states = bob.syncs(&synced.cursor).conversations;
    assert_eq!((states[0].head_seq, states[0].unread), (4, 0), "one's own is the newest");
}

pub(crate) fn a_retry_gets_the_same_answer_and_is_pushed_to_nobody_twice(on: On) {
    let server = server(on);
    let (mut alice, mut bob) = (device(&server, on.wire, "alice"), device(&server, on.wire, "bob"));
    bob.syncs("");
    let first = alice.sends(text("bob", 9, "once"));
    drop(alice);
    let mut alice = device(&server, on.wire, "alice");
    assert_eq!(alice.sends(text("bob", 9, "once")), first);
    alice.is_told(text("bob", 9, "another"), Code::Conflict);
    assert_eq!(alice.is_stored(text("bob", 10, "twice")), 2);
    assert_eq!((bob.pushed().1.seq, bob.pushed().1.seq), (1, 2));
    assert_eq!(bob.pulls("user:alice", 1, 9).len(), 2);
}

pub(crate) fn who_may_not_write_is_told_why_and_nothing_is_stored(on: On) {
    let server = server(on);
    let (mut carol, mut bob) = (device(&server, on.wire, "carol"), device(&server, on.wire, "bob"));
    bob.syncs("");
    carol.is_told(text("bob", 1, "buy this"), Code::NotFriend);
    carol.is_told(text("nobody", 2, "hello"), Code::NotFound);
    relate(&server, json!({"user": "bob", "peer": "carol", "friends": true, "blocks": true}));
    carol.is_told(text("bob", 3, "buy this"), Code::Blocked);
    relate(&server, json!({"user": "bob", "peer": "carol", "friends": true}));
    for (code, send) in [
        (Code::BadConversation, v1::Send { conversation: "bob".into(), ..text("bob", 4, "x") }),
        (
            Code::BadConversation,
            v1::Send { conversation: "group:xyz".into(), ..text("bob", 4, "x") },
        ),
        (
            Code::NotFound,
            v1::Send { conversation: format!("group:{:016x}", 77), ..text("bob", 4, "x") },
        ),
        (Code::BadId, v1::Send { client_msg_id: vec![1; 15].into(), ..text("bob", 5, "x") }),
        (Code::Empty, text("bob", 6, "")),
        (Code::TooLarge, text("bob", 7, &"x".repeat(16_385))),
        (
            Code::NotFound,
            v1::Send { kind: Kind::Recall.into(), target_seq: 1, ..text("bob", 8, "") },
        ),
        (Code::BadRequest, v1::Send { target_seq: 1, ..text("bob", 9, "x") }),
    ] {
        carol.is_told(send, code);
    }
    let tricks = "'; DROP TABLE users; -- \u{0}\u{202e}\u{fdfa}%_\\";
    assert_eq!(carol.is_stored(text("bob", 10, tricks)), 1, "the first that is stored");
    assert_eq!(bob.pushed().1.text, tricks, "and the first that is pushed");
    assert_eq!(bob.pulls("user:carol", 1, 9)[0].text, tricks);
    // What is not hers is not hers to read.
    let range = v1::Range { conversation: "user:alice".into(), from_seq: 1, to_seq: 9 };
    carol.send(client_frame::Body::Pull(v1::Pull { id: 1, ranges: vec![range] }));
    assert_eq!(carol.error(), "NOT_MEMBER");
    carol.send(client_frame::Body::Sync(v1::Sync { cursor: "1-x".into(), limit: 0 }));
    assert_eq!(carol.error(), "BAD_REQUEST");
}

pub(crate) fn cursors_move_forward_and_are_shown(on: On) {
    let server = server(on);
    let (mut alice, mut bob) = (device(&server, on.wire, "alice"), device(&server, on.wire, "bob"));
    alice.syncs("");
    for id in 1..=3 {
        alice.is_stored(text("bob", id, "x"));
    }
    let mut mark = |read_seq, delivered_seq| {
        let conversation = "user:alice".to_owned();
        let marks = vec![v1::Marked { conversation, read_seq, delivered_seq }];
        bob.send(client_frame::Body::Mark(v1::Mark { marks }));
    };
    mark(1, 2);
    mark(1, 1);
    mark(3, 0);
    let mut seen = || {
        alice.take("cursors", |body| match body {
            Body::Cursors(cursors) => Some(cursors.clone()),
            _ => None,
        })
    };
    // Marks of one connection may be carried out side by side; they only move forward.
    let mut furthest = (0, 0);
    while furthest != (3, 3) {
        let cursors = seen();
        assert_eq!((cursors.conversation.as_str(), &*cursors.users[0].user), ("user:bob", "bob"));
        let user = &cursors.users[0];
        furthest = (furthest.0.max(user.read_seq), furthest.1.max(user.delivered_seq));
    }
    let state = &bob.syncs("").conversations[0];
    assert_eq!((state.read_seq, state.unread), (3, 0));
    let state = &alice.syncs("").conversations[0];
    assert_eq!((state.peer_read_seq, state.peer_delivered_seq), (3, 3));
    let marks =
        vec![v1::Marked { conversation: "user:alice".into(), read_seq: 4, delivered_seq: 0 }];
    bob.send(client_frame::Body::Mark(v1::Mark { marks }));
    assert_eq!(bob.error(), "BAD_REQUEST", "beyond the newest");
    let signal = v1::Signal {
        conversation: "user:bob".into(),
        name: "typing".into(),
        ..v1::Signal::default()
    };
    alice.send(client_frame::Body::Signal(signal));
    let signal = bob.take("a signal", |body| match body {
        Body::Signal(signal) => Some(signal.clone()),
        _ => None,
    });
    assert_eq!((signal.conversation.as_str(), signal.user.as_str()), ("user:alice", "alice"));
}

pub(crate) fn an_inbox_needs_a_token_and_a_store(on: On) {
    let guests = format!("{}guests = true\n", config());
    let server = Server::start(on.io, &guests);
    let mut guest = Client::open(&server, on.wire);
    guest.send(client_frame::Body::Connect(v1::Connect { inbox: true, ..v1::Connect::default() }));
    assert_eq!(guest.error(), "INBOX_REQUIRED");
    guest.is_told(text("bob", 1, "hello"), Code::InboxRequired);
    guest.join("stage"); // and rooms are open to it all the same
    let mut viewer = Client::user(&server, on.wire, &plain("alice"));
    viewer.is_told(text("bob", 1, "hello"), Code::InboxRequired);
    let without = Server::start(on.io, &format!("{}[store]\nurl = \"\"\n", config()));
    let mut alice = device(&without, on.wire, "alice");
    assert_eq!(alice.error(), "NO_STORE");
    alice.is_told(text("bob", 1, "hello"), Code::NoStore);
    alice.join("stage");
}

pub(crate) fn a_token_is_renewed_in_place(on: On) {
    let server = server(on);
    let exp = unix_s() + 5;
    let brief = hs256(&claims("alice", json!({"exp": exp})));
    let mut alice = Client::open(&server, on.wire);
    alice.hello(&brief);
    let mut renew = |token: String| alice.send(client_frame::Body::Renew(v1::Renew { token }));
    renew(plain("bob"));
    renew("no token".into());
    renew(hs256(&claims("alice", json!({"exp": unix_s() + 600}))));
    assert_eq!((alice.error(), alice.error()), ("TOKEN_INVALID".into(), "TOKEN_INVALID".into()));
    let expires_ms = alice.take("renewed", |body| match body {
        Body::Renewed(renewed) => Some(renewed.expires_ms),
        _ => None,
    });
    assert!(expires_ms > (unix_s() + 500) * 1000);
    // The old one is over.
    std::thread::sleep(std::time::Duration::from_secs((exp + 1).saturating_sub(unix_s())));
    alice.ping();
    // One that ends within a minute is told of it.
    let soon = hs256(&claims("alice", json!({"exp": unix_s() + 62})));
    alice.send(client_frame::Body::Renew(v1::Renew { token: soon }));
    let in_ms = alice.take("a warning", |body| match body {
        Body::Expiring(expiring) => Some(expiring.in_ms),
        _ => None,
    });
    assert!((50_000..=60_000).contains(&in_ms), "{in_ms}");
}

pub(crate) fn nothing_is_stored_under_a_token_that_is_over(on: On) {
    let server = server(on);
    let exp = unix_s() + 5;
    let mut alice = Client::open(&server, on.wire);
    let token = hs256(&claims("alice", json!({"exp": exp})));
    let connect = v1::Connect { token, inbox: true, ..v1::Connect::default() };
    alice.send(client_frame::Body::Connect(connect));
    alice.take("welcome", |body| matches!(body, Body::Welcome(_)).then_some(()));
    // It goes on sending until it is told.
    let mut sent = 0;
    let told = loop {
        // None is on its way at the end itself: a send is let through by the shard and gets its
        // moment in control.
        let left_ms = (exp * 1_000).saturating_sub(unix_ms());
        if left_ms < 1_000 {
            std::thread::sleep(std::time::Duration::from_millis(left_ms + 5));
        }
        sent += 1;
        // By now the connection may have ended, which is told as well.
        let _ = alice.try_send(client_frame::Body::Send(text("bob", sent, "x")));
        let answer = alice.take("an answer", |body| match body {
            Body::Sent(sent) => Some(Ok(sent.seq)),
            Body::Error(error) => Some(Err(error.name.clone())),
            _ => None,
        });
        match answer {
            Ok(seq) => assert_eq!(u128::from(seq), sent),
            Err(name) => break name,
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    };
    assert_eq!(told, "TOKEN_EXPIRED");
    let mut bob = device(&server, on.wire, "bob");
    let stored = bob.pulls("user:alice", 1, 999);
    assert_eq!(stored.len() as u128, sent - 1, "the last one was not");
    let last_ms = stored.last().unwrap().time_ms;
    assert!(last_ms < exp * 1000, "{last_ms} is after the end of the token");
}

/// A device that reads none of its pushes delays nobody; once it reads again it is told that some
/// were lost, and finds them.
pub(crate) fn who_reads_no_pushes_delays_nobody(on: On) {
    let engine = "[engine]\nsend_buffer_bytes = 16384\nreply_bytes_max = 65536\n";
    let server = Server::start(on.io, &format!("{engine}frames_per_s_max = 30000\n{}", config()));
    relate(&server, json!({"user": "alice", "peer": "bob", "friends": true}));
    let mut sleeps = Client::over(narrow_socket(&server), on.wire, usize::MAX);
    let connect = v1::Connect { token: plain("bob"), inbox: true, ..v1::Connect::default() };
    sleeps.send(client_frame::Body::Connect(connect));
    sleeps.syncs("");
    let (mut wakes, mut alice) =
        (device(&server, on.wire, "bob"), device(&server, on.wire, "alice"));
    wakes.syncs("");
    let text_of = "x".repeat(8_000);
    for id in 1..=200_u64 {
        assert_eq!(alice.is_stored(text("bob", id.into(), &text_of)), id);
        assert_eq!(wakes.pushed().1.seq, id);
    }
    assert!(server.metric("uproar_pushes_lost_total", "") > 0.0, "more than it is owed");
    // What it was pushed is without a hole, and then it is told that there was more.
    let mut last = 0;
    loop {
        match sleeps.next() {
            Body::Stored(stored) => {
                for message in stored.messages {
                    assert_eq!(message.seq, last + 1);
                    last = message.seq;
                }
            }
            Body::Resync(_) => break,
            // That they are friends may be told late.
            other => assert!(matches!(other, Body::Welcome(_) | Body::Relations(_)), "{other:?}"),
        }
    }
    assert!(last < 200, "{last}");
    assert_eq!(sleeps.syncs("").conversations[0].head_seq, 200);
    while last < 200 {
        let to = (last + 4).min(200);
        let seqs: Vec<u64> =
            sleeps.pulls("user:alice", last + 1, to).iter().map(|m| m.seq).collect();
        assert_eq!(seqs, (last + 1..=to).collect::<Vec<u64>>());
        last = to;
    }
    assert_eq!(alice.is_stored(text("bob", 201, "awake?")), 201);
    assert_eq!((sleeps.pushed().1.seq, wakes.pushed().1.seq), (201, 201));
}

pub(crate) fn what_was_acknowledged_outlives_a_kill(on: On) {
    let folder =
        std::env::temp_dir().join(format!("uproar-e2e-{}-{:?}", std::process::id(), on.io));
    std::fs::create_dir_all(&folder).unwrap();
    let url = format!("{}[store]\nurl = \"sqlite:{}/chat.db\"\n", config(), folder.display());
    let mut server = Server::start_alone(on.io, &url);
    relate(&server, json!({"user": "alice", "peer": "bob", "friends": true}));
    let mut acknowledged = 0;
    for round in 0..5_u128 {
        let mut alice = device(&server, Wire::Tcp, "alice");
        // Some are answered, some are under way when it is killed.
        for i in 0..40 {
            alice.send(client_frame::Body::Send(text("bob", round * 40 + i + 1, &i.to_string())));
        }
        for i in 0..20_u128 {
            let id = (round * 40 + i + 1).to_be_bytes();
            let seq = alice.take("an acknowledgement", |body| match body {
                Body::Sent(sent) if sent.client_msg_id == id.as_slice() => Some(sent.seq),
                _ => None,
            });
            assert!(seq > acknowledged, "seqs rise: {seq} after {acknowledged}");
            acknowledged = seq;
        }
        server.kill();
        server = server.start_in_its_place();
        // The retries get their places: the old ones, or new ones behind them.
        let mut alice = device(&server, Wire::Tcp, "alice");
        for i in 0..40 {
            let seq = alice.is_stored(text("bob", round * 40 + i + 1, &i.to_string()));
            assert_eq!(u128::from(seq), round * 40 + i + 1, "each exactly once, in order");
        }
        acknowledged = u64::try_from(round * 40 + 40).unwrap();
    }
    let mut bob = device(&server, Wire::Tcp, "bob");
    let all = bob.pulls("user:alice", 1, 200);
    let seqs: Vec<u64> = all.iter().map(|m| m.seq).collect();
    assert_eq!(seqs, (1..=200).collect::<Vec<u64>>());
    drop(server);
    std::fs::remove_dir_all(&folder).unwrap();
}
