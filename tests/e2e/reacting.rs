//! Reactions and pins: told to who is there, found by who was not, and the name of the store.

use crate::On;
use crate::chat::{device, relate, text};
use crate::client::Client;
use crate::server::Server;
use crate::tokens::{config, plain};
use serde_json::{Value, json};
use uproar_proto::error::Code;
use uproar_proto::v1::{self, Kind, client_frame, server_frame::Body};

const THUMB: &str = "\u{1f44d}";

/// A server where alice and bob are friends and alice has written twice.
fn server(on: On) -> Server {
    let server = Server::start(on.io, &config());
    relate(&server, json!({"user": "alice", "peer": "bob", "friends": true}));
    let mut alice = device(&server, on.wire, "alice");
    assert_eq!(alice.is_stored(text("bob", 1, "one")), 1);
    assert_eq!(alice.is_stored(text("bob", 2, "two")), 2);
    server
}

fn react(conversation: &str, seq: u64, reaction: &str) -> v1::React {
    let (conversation, reaction) = (conversation.to_owned(), reaction.to_owned());
    v1::React { conversation, seq, reaction, remove: false }
}

/// A user's own request.
fn get(server: &Server, user: &str, path: &str) -> (u16, Value) {
    let header = format!("Authorization: Bearer {}\r\n", plain(user));
    let answer = server.request_as(&header, "GET", path, &Value::Null);
    (answer.status, answer.json())
}

impl Client {
    fn reacts(&mut self, react: v1::React) -> v1::Reacted {
        let is_of = |r: &v1::Reacted| (r.seq, r.remove) == (react.seq, react.remove);
        self.send(client_frame::Body::React(react.clone()));
        self.take("a reaction's answer", |body| match body {
            Body::Reacted(reacted) if is_of(reacted) => Some(reacted.clone()),
            _ => None,
        })
    }

    fn reacted(&mut self) -> v1::Reacted {
        self.take("what another device did", |body| match body {
            Body::Reacted(reacted) => Some(reacted.clone()),
            _ => None,
        })
    }

    /// The next event that tells what reactions a message has: its seq, target and counts.
    fn counted(&mut self) -> (u64, u64, Vec<(String, u32)>) {
        let event = self.take("an event about reactions", |body| match body {
            Body::Stored(stored) => {
                stored.messages.iter().find(|m| m.kind() == Kind::Reactions).cloned()
            }
            _ => None,
        });
        let counts = event.reactions.into_iter().map(|total| (total.reaction, total.count));
        (event.seq, event.target_seq, counts.collect())
    }
}

pub(crate) fn a_reaction_reaches_everybody_and_who_was_away(on: On) {
    let server = server(on);
    let (mut alice, mut bob) = (device(&server, on.wire, "alice"), device(&server, on.wire, "bob"));
    let mut tablet = device(&server, on.wire, "bob");
    for client in [&mut alice, &mut bob, &mut tablet] {
        client.syncs("");
    }
    let answer = bob.reacts(react("user:alice", 1, THUMB));
    assert_eq!((answer.code, answer.seq, &*answer.reaction), (0, 1, THUMB));
    assert_eq!(tablet.reacted(), answer, "the user's other devices hear what it did");
    let thumbs = |n| vec![(THUMB.to_owned(), n)];
    assert_eq!(alice.counted(), (3, 1, thumbs(1)));
    assert_eq!(bob.counted(), (3, 1, thumbs(1)));
    alice.reacts(react("user:bob", 1, THUMB));
    assert_eq!(bob.counted(), (4, 1, thumbs(2)));
    // Who was away finds it in the log and at the message, its own marked.
    let mut later = device(&server, on.wire, "bob");
    let state = later.syncs("").conversations.remove(0);
    assert_eq!((state.head_seq, state.unread), (4, 2), "it does not count as unread");
    let all = later.pulls("user:alice", 1, 9);
    assert_eq!((all[0].reactions[0].count, all[0].own_reactions.clone()), (2, vec![THUMB.into()]));
    assert!(all[2].reactions.is_empty(), "the newer event tells");
    assert_eq!(all[3].reactions, all[0].reactions);
    let path = "/v1/conversations/user%3Abob/messages/1/reactions";
    let (status, page) = get(&server, "alice", path);
    assert_eq!(status, 200, "{page}");
    assert_eq!(page["totals"], json!([{"reaction": THUMB, "count": 2}]));
    assert_eq!(page["own"], json!([THUMB]));
    let users = page["users"].as_array().unwrap().iter();
    let mut names: Vec<&str> = users.map(|user| user["user"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["alice", "bob"]);
    let first = get(&server, "alice", &format!("{path}?limit=1")).1;
    let next = first["next"].as_str().expect("there is another one");
    let second = get(&server, "alice", &format!("{path}?limit=1&after={next}")).1;
    assert_eq!(second["users"].as_array().unwrap().len(), 1);
    assert_ne!(second["users"][0], first["users"][0]);
    assert_eq!(get(&server, "alice", &format!("{path}?reaction=x")).1["users"], json!([]));
    assert_eq!(get(&server, "carol", path).0, 403, "it is not hers to see");
    // Taken back.
    let back = v1::React { remove: true, ..react("user:alice", 1, THUMB) };
    assert!(bob.reacts(back).remove);
    assert_eq!(alice.counted().2, thumbs(2));
    assert_eq!(alice.counted(), (5, 1, thumbs(1)));
}

pub(crate) fn who_may_not_react_is_told_why(on: On) {
    let server = server(on);
    for user in ["carol", "dan"] {
        relate(&server, json!({"user": "alice", "peer": user, "friends": true}));
    }
    relate(&server, json!({"user": "alice", "peer": "carol", "friends": false}));
    relate(&server, json!({"user": "dan", "peer": "alice", "friends": true, "blocks": true}));
    let mut alice = device(&server, on.wire, "alice");
    alice.syncs("");
    for (user, code) in
        [("carol", Code::NotFriend), ("dan", Code::Blocked), ("eve", Code::NotFriend)]
    {
        let mut client = device(&server, on.wire, user);
        let answer = client.reacts(react("user:alice", 1, THUMB));
        assert_eq!((answer.code, answer.retry), (code.number(), false), "{user}");
    }
    let mut bob = device(&server, on.wire, "bob");
    for (code, wrong) in [
        (Code::NotFound, react("user:alice", 3, THUMB)),
        (Code::NotFound, react("user:nobody", 1, THUMB)),
        (Code::BadConversation, react("alice", 1, THUMB)),
        (Code::BadRequest, react("user:alice", 1, "")),
        (Code::BadRequest, react("user:alice", 1, "two words")),
        (Code::BadRequest, react("user:alice", 1, &"x".repeat(49))),
    ] {
        let shown = format!("{wrong:?}");
        assert_eq!(bob.reacts(wrong).code, code.number(), "{shown}");
    }
    assert_eq!(alice.pulls("user:bob", 1, 9).len(), 2, "nothing was stored");
    assert!(!alice.was_pushed(3), "and nothing pushed");
}

pub(crate) fn a_pin_stands_in_the_sync(on: On) {
    let server = server(on);
    let mut bob = device(&server, on.wire, "bob");
    let about =
        |kind: Kind, id| v1::Send { kind: kind.into(), target_seq: 1, ..text("alice", id, "") };
    assert_eq!(bob.is_stored(about(Kind::Pin, 1)), 3);
    assert_eq!(bob.syncs("").conversations[0].pinned, [1]);
    assert_eq!(bob.pulls("user:alice", 1, 1)[0].pinned_seq, 3);
    assert_eq!(bob.is_stored(about(Kind::Unpin, 2)), 4);
    bob.is_told(about(Kind::Unpin, 3), Code::NotFound);
    assert_eq!(bob.syncs("").conversations[0].pinned, [0; 0]);
    assert_eq!(bob.pulls("user:alice", 1, 1)[0].pinned_seq, 0);
}

pub(crate) fn a_store_is_named_everywhere(on: On) {
    let server = server(on);
    let mut bob = Client::open(&server, on.wire);
    let connect = v1::Connect { token: plain("bob"), inbox: true, ..v1::Connect::default() };
    bob.send(client_frame::Body::Connect(connect));
    let welcome = bob.take("welcome", |body| match body {
        Body::Welcome(welcome) => Some(welcome.clone()),
        _ => None,
    });
    assert_ne!(welcome.generation, 0);
    assert_eq!(bob.syncs("").generation, welcome.generation);
    bob.send(client_frame::Body::Send(text("alice", 1, "x")));
    let sent = bob.take("an acknowledgement", |body| match body {
        Body::Sent(sent) => Some(sent.clone()),
        _ => None,
    });
    assert_eq!(sent.generation, welcome.generation);
    assert_eq!(bob.pulls("user:alice", 3, 3)[0].msg_id, sent.msg_id);
    // Who has no inbox has no store.
    let mut viewer = Client::open(&server, on.wire);
    assert_eq!(viewer.hello(&plain("bob")).generation, 0);
}
