//! What operators do, over real stores: users, bans, groups, messages, exports and erasures.

use crate::accounts::{World, access, unhurried};
use crate::client::{Answer, KEY};
use argon2::password_hash::PasswordHasher as _;
use argon2::{Algorithm, Argon2, Params, Version};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use uproar_proto::control::{Closed, Tell};
use uproar_proto::error::Code;
use uproar_proto::v1::{Kind, server_frame::Body};

impl World {
    /// A request of an operator that must succeed; its answer.
    fn operate(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.operator(method, path, body);
        assert!((200..300).contains(&answer.status), "{method} {path}: {}", answer.body);
        if answer.body.is_empty() { Value::Null } else { answer.json() }
    }

    fn operator(&self, method: &str, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.server.call(method, path, &body)
    }

    fn befriend(&self, user: &str, peer: &str) {
        let relation = json!({"user": user, "peer": peer, "friends": true});
        self.operate("PUT", "/v1/relations", &json!({"relations": [relation]}));
    }

    /// A group of a platform; its id.
    fn group(&self, key: &str, owner: &str, members: &[&str]) -> String {
        let group = json!({"key": key, "name": key, "owner": owner, "members": members});
        let made = self.operate("PUT", "/v1/groups", &json!({"groups": [group]}));
        made["groups"][0]["group"].as_str().unwrap().to_owned()
    }

    /// A token of the platform, which no log-in minted.
    fn minted(&self, user: &str) -> String {
        let minted = self.operate("POST", "/v1/tokens", &json!({"user": user}));
        minted["token"].as_str().unwrap().to_owned()
    }

    fn is_closed(&self, user: &str, code: Code) {
        let of_user = Closed::User(user.to_owned());
        self.server.engine.wait_for("that connections close", |tell| match tell {
            Tell::Close { of, code: why } if *of == of_user && *why == code => Some(()),
            _ => None,
        });
    }

    /// Erases a user and waits for the end; what it is called then.
    fn erase(&self, user: &str) -> String {
        self.operate("DELETE", &format!("/v1/admin/users/{user}"), &Value::Null);
        let begun = Instant::now();
        loop {
            let path = format!("/v1/admin/users/{user}/erasure");
            let now = self.operate("GET", &path, &Value::Null);
            if now["state"] == "done" {
                return now["user"].as_str().unwrap().to_owned();
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "never done: {now}");
            std::thread::sleep(Duration::from_millis(10)); // between two questions
        }
    }
}

fn names<'a>(page: &'a Value, list: &str, of: &str) -> Vec<&'a str> {
    page[list].as_array().unwrap().iter().map(|one| one[of].as_str().unwrap()).collect()
}

#[test]
fn users_are_listed_by_name_and_shown() {
    World::each(&unhurried(), |world| {
        world.enter("ann");
        world.befriend("ann", "anna");
        world.befriend("ann", "bob");
        world.befriend("an'; --", "zed@acme");
        world.group("hikers", "ann", &["bob"]);
        let page = world.operate("GET", "/v1/admin/users?prefix=an&limit=2", &Value::Null);
        assert_eq!(names(&page, "users", "user"), ["an'; --", "ann"]);
        let next = page["next"].as_str().unwrap();
        let path = format!("/v1/admin/users?prefix=an&limit=2&after={next}");
        let page = world.operate("GET", &path, &Value::Null);
        assert_eq!((names(&page, "users", "user"), page.get("next")), (vec!["anna"], None));
        let page = world.operate("GET", "/v1/admin/users?issuer=acme", &Value::Null);
        assert_eq!(names(&page, "users", "user"), ["zed@acme"]);
        let ann = world.operate("GET", "/v1/admin/users/ann", &Value::Null);
        let figures = ["friends", "groups", "conversations", "sessions", "followers", "blocks"];
        assert_eq!(figures.map(|name| ann[name].as_i64().unwrap()), [2, 1, 1, 1, 0, 0], "{ann}");
        assert_eq!((&ann["has_password"], &ann["erased"]), (&json!(true), &json!(false)));
        assert_eq!((ann.get("ban"), ann.get("online")), (None, None));
        world.operator("GET", "/v1/admin/users/nobody", &Value::Null).error(404, "NOT_FOUND");
        for wrong in ["limit=0", "limit=201", "offset=1"] {
            let path = format!("/v1/admin/users?{wrong}");
            world.operator("GET", &path, &Value::Null).error(400, "BAD_REQUEST");
        }
    });
}

#[test]
fn a_banned_user_is_out_until_the_ban_is_over() {
    World::each(&unhurried(), |world| {
        let session = world.enter("ann");
        let (ann, minted) = (access(&session).to_owned(), world.minted("ann"));
        let path = "/v1/admin/users/ann/ban";
        let ban = world.operate("PUT", path, &json!({"reason": "spam"}));
        assert_eq!((&ban["reason"], ban.get("until_unix_ms")), (&json!("spam"), None));
        world.is_closed("ann", Code::Banned);
        world.with_token(&ann, "GET", "/v1/friends", "").error(401, "SESSION_REVOKED");
        let refresh = json!({"refresh_token": session["refresh_token"]});
        world.open("POST", "/v1/sessions/refresh", &refresh).error(401, "SESSION_REVOKED");
        world.with_token(&minted, "GET", "/v1/friends", "").error(403, "BANNED");
        let log_in = json!({"user": "ann", "password": "correct horse"});
        world.open("POST", "/v1/sessions", &log_in).error(403, "BANNED");
        let wrong = json!({"user": "ann", "password": "wrong password"});
        world.open("POST", "/v1/sessions", &wrong).error(401, "WRONG_PASSWORD");
        world.operator("POST", "/v1/tokens", &json!({"user": "ann"})).error(403, "BANNED");
        let shown = world.operate("GET", "/v1/admin/users/ann", &Value::Null);
        assert_eq!((&shown["ban"]["reason"], &shown["sessions"]), (&json!("spam"), &json!(0)));
        world.operate("DELETE", path, &Value::Null);
        world.operate("DELETE", path, &Value::Null);
        world.log_in("ann", "correct horse");
        // One that ends by itself.
        let ban = world.operate("PUT", path, &json!({"ban_s": 4}));
        assert!(ban["until_unix_ms"].as_i64() > ban["made_unix_ms"].as_i64(), "{ban}");
        world.open("POST", "/v1/sessions", &log_in).error(403, "BANNED");
        let begun = Instant::now();
        while world.open("POST", "/v1/sessions", &log_in).status != 201 {
            assert!(begun.elapsed() < Duration::from_secs(20), "it ends by itself");
            std::thread::sleep(Duration::from_millis(50)); // time has to pass
        }
        for (body, what) in [
            (json!({"ban_s": 0}), "ban_s is 0"),
            (json!({"ban_s": 315_360_001}), "allowed is 1 to 315360000"),
            (json!({"reason": "x".repeat(257)}), "reason has 257 bytes"),
        ] {
            let text = world.operator("PUT", path, &body).error(400, "BAD_REQUEST");
            assert!(text.contains(what), "{text}");
        }
    });
}

#[test]
fn sessions_are_listed_and_all_of_them_revoked() {
    World::each(&unhurried(), |world| {
        let ann = world.enter("ann");
        world.log_in("ann", "correct horse");
        let path = "/v1/admin/users/ann/sessions";
        let listed = world.operate("GET", path, &Value::Null);
        assert_eq!(names(&listed, "sessions", "device"), ["phone", "phone"]);
        assert!(!listed.to_string().contains("token"), "{listed}");
        world.operate("DELETE", path, &Value::Null);
        world.is_closed("ann", Code::SessionRevoked);
        world.with_token(access(&ann), "GET", "/v1/friends", "").error(401, "SESSION_REVOKED");
        assert_eq!(world.operate("GET", path, &Value::Null)["sessions"], json!([]));
        world.log_in("ann", "correct horse");
    });
}

/// `correct horse`, as another platform kept it.
fn foreign_hash() -> String {
    let params = Params::new(128, 3, 2, None).unwrap();
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2.hash_password_with_salt(b"correct horse", &[7; 16]).unwrap().to_string()
}

#[test]
fn a_platform_brings_its_users_all_of_them_or_none() {
    World::each(&unhurried(), |world| {
        let take = |users: Value| world.operator("PUT", "/v1/users", &json!({"users": users}));
        let user = json!({"user": "ann", "password": "correct horse"});
        let taken = take(json!([user, {"user": "bob"}, {"user": "zed@acme"}, {"user": "ann"}]));
        assert_eq!(taken.status, 200, "{}", taken.body);
        let taken = taken.json();
        let created = |at: usize| taken["users"][at]["created"].clone();
        assert_eq!([0, 1, 2, 3].map(created), [true, true, true, false].map(Value::from));
        assert_eq!(taken["users"][0]["user_id"], taken["users"][3]["user_id"]);
        world.log_in("ann", "correct horse");
        // Whoever is here keeps its password, and gets one where it has none.
        let other = json!({"user": "ann", "password": "another password"});
        let hash = json!({"user": "bob", "password_hash": foreign_hash()});
        assert_eq!(take(json!([other, hash])).status, 200);
        world.log_in("ann", "correct horse");
        world.log_in("bob", "correct horse");
        world.erase("ann");
        for (bad, status, what) in [
            (json!({"user": ""}), 400, "users[1]: a user name of 0 bytes"),
            (json!({"user": "x\u{202e}"}), 400, "U+202E"),
            (json!({"user": "guest-1"}), 400, "guests are called so"),
            (json!({"user": "x", "password": "short"}), 400, "users[1]: a password of 5 bytes"),
            (json!({"user": "x", "password_hash": "$2b$12$x"}), 400, "PHC string"),
            (json!({"user": "x", "password": "12345678", "password_hash": "x"}), 400, "both"),
            (json!({"user": "x@acme", "password": "correct horse"}), 400, "other issuers"),
            (json!({"user": "x@erased"}), 400, "was erased"),
            (json!({"user": "ann"}), 409, "users[1]: this user was erased"),
        ] {
            let refused = take(json!([{"user": "nobody"}, bad]));
            let name = if status == 400 { "BAD_REQUEST" } else { "CONFLICT" };
            let text = refused.error(status, name);
            assert!(text.contains(what), "{text}");
        }
        let none = world.operator("GET", "/v1/admin/users/nobody", &Value::Null);
        none.error(404, "NOT_FOUND");
        let many: Vec<Value> = (0..1001).map(|n| json!({"user": format!("u{n}")})).collect();
        assert!(take(json!(many)).error(400, "BAD_REQUEST").contains("1001"));
        let with_password = |n| json!({"user": format!("u{n}"), "password": "correct horse"});
        let many: Vec<Value> = (0..101).map(with_password).collect();
        assert!(take(json!(many)).error(400, "BAD_REQUEST").contains("101 passwords"));
    });
}

#[test]
fn a_backends_key_replays_its_answer_and_does_not_set_again() {
    World::each(&unhurried(), |world| {
        let ask = |path: &str, key: &str, body: &Value| {
            let headers = format!(
                "Authorization: Bearer {KEY}\r\nContent-Type: application/json\r\n\
                 Idempotency-Key: {key}\r\n"
            );
            world.server.raw("PUT", path, &headers, &body.to_string())
        };
        let users = json!({"users": [{"user": "ann"}]});
        let first = ask("/v1/users", "k1", &users);
        assert_eq!(first.json()["users"][0]["created"], true, "{}", first.body);
        assert_eq!(ask("/v1/users", "k1", &users).body, first.body);
        let other = json!({"users": [{"user": "bob"}]});
        ask("/v1/users", "k1", &other).error(409, "CONFLICT");
        let friends = |friends: bool| {
            let relation = json!({"user": "ann", "peer": "bob", "friends": friends});
            json!({"relations": [relation]})
        };
        assert_eq!(ask("/v1/relations", "k1", &friends(true)).status, 200, "another route's key");
        assert_eq!(ask("/v1/relations", "k2", &friends(false)).status, 200);
        // The first one comes again, late: it is answered, and does not undo the second.
        assert_eq!(ask("/v1/relations", "k1", &friends(true)).status, 200);
        let ann = world.operate("GET", "/v1/admin/users/ann", &Value::Null);
        assert_eq!(ann["friends"], 0);
    });
}

#[test]
fn groups_are_listed_shown_and_changed() {
    World::each(&unhurried(), |world| {
        let hikers = world.group("hikers", "ann", &["bob", "cleo"]);
        world.group("readers", "bob", &[]);
        world.group("runners", "cleo", &[]);
        let (mut found, mut path) = (Vec::new(), "/v1/admin/groups?limit=2".to_owned());
        loop {
            let page = world.operate("GET", &path, &Value::Null);
            found.extend(names(&page, "groups", "name").iter().map(|name| (*name).to_owned()));
            let Some(next) = page["next"].as_str() else { break };
            path = format!("/v1/admin/groups?limit=2&after={next}");
        }
        found.sort();
        assert_eq!(found, ["hikers", "readers", "runners"]);
        let path = format!("/v1/admin/groups/{hikers}");
        let seen = world.operate("GET", &path, &Value::Null);
        assert_eq!((&seen["owner"], &seen["members"]), (&json!("ann"), &json!(3)));
        let owner = world.operate("PUT", &format!("{path}/owner"), &json!({"user": "bob"}));
        assert_eq!(owner["owner"], "bob");
        world.operate("DELETE", &format!("{path}/members/bob"), &Value::Null);
        let gone = world.operator("DELETE", &format!("{path}/members/bob"), &Value::Null);
        gone.error(404, "NOT_FOUND");
        let members = world.operate("GET", &format!("{path}/members"), &Value::Null);
        assert_eq!(members["count"], 2);
        let mut who = names(&members, "members", "user");
        who.sort_unstable();
        assert_eq!(who, ["ann", "cleo"]);
        assert_eq!(world.operate("GET", &path, &Value::Null)["owner"], "ann", "who moderates");
        // Members hear of it, and of nobody who did it.
        let told = world.server.engine.wait_for("the notice", |tell| match tell {
            Tell::Push { frame, .. } => match &**frame {
                Body::Stored(stored) => stored.messages.iter().find_map(|message| {
                    let notice = message.notice.as_ref()?;
                    (notice.what == "removed").then(|| (message.user.clone(), notice.users.clone()))
                }),
                _ => None,
            },
            _ => None,
        });
        assert_eq!(told, (String::new(), vec!["bob".to_owned()]));
        world.operate("DELETE", &path, &Value::Null);
        world.operator("DELETE", &path, &Value::Null).error(404, "NOT_FOUND");
        let seen = world.operate("GET", &path, &Value::Null);
        assert_eq!((&seen["ended"], &seen["members"]), (&json!(true), &json!(0)));
        let ended = json!({"groups": [{"key": "hikers", "name": "x", "owner": "ann"}]});
        world.operator("PUT", "/v1/groups", &ended).error(404, "NOT_FOUND");
    });
}

#[test]
fn messages_are_found_by_time_place_author_and_text() {
    World::each(&unhurried(), |world| {
        world.befriend("ann", "bob");
        let group = world.group("hikers", "ann", &["bob"]);
        let conversation = format!("group:{group}");
        for at in 1..=5 {
            world.server.says("ann", &conversation, &format!("Walk number {at}"));
            world.server.says("bob", &conversation, "yes");
        }
        world.server.says("ann", "user:bob", "between us");
        let search = |query: &str| {
            world.operate("GET", &format!("/v1/admin/messages?{query}"), &Value::Null)
        };
        let texts = |found: &Value| -> Vec<String> {
            let all = found["messages"].as_array().unwrap().iter();
            all.filter_map(|one| one["text"].as_str().map(str::to_owned)).collect()
        };
        let all = search(&format!("group={group}"));
        assert_eq!((all["scanned"].as_u64(), all.get("next")), (Some(11), None), "{all}");
        assert_eq!(texts(&all)[..2], ["yes", "Walk number 5"]);
        let old = search(&format!("group={group}&order=oldest&user=ann&contains=WALK%20N"));
        assert_eq!(texts(&old)[0], "Walk number 1");
        assert_eq!(texts(&old).len(), 5);
        assert_eq!(texts(&search("user=bob&peer=ann")), ["between us"]);
        assert_eq!(texts(&search("user=bob")).len(), 5);
        assert_eq!(texts(&search("user=ann&contains=us")), ["between us"]);
        // Page after page, nothing twice and nothing left out.
        for order in ["oldest", "newest"] {
            let (mut seqs, mut after) = (Vec::new(), String::new());
            loop {
                let page = search(&format!("group={group}&order={order}&limit=3{after}"));
                let found = names(&page, "messages", "seq");
                seqs.extend(found.iter().map(|seq| seq.parse::<u64>().unwrap()));
                let Some(next) = page["next"].as_str() else { break };
                after = format!("&after={next}");
            }
            if order == "newest" {
                seqs.reverse();
            }
            assert_eq!(seqs, (1..=11).collect::<Vec<u64>>());
        }
        let times: Vec<i64> = all["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["time_unix_ms"].as_i64().unwrap())
            .collect();
        let (last, first) = (times[0], times[times.len() - 1]);
        let count = |query: &str| {
            let found = search(&format!("group={group}&{query}"));
            found["messages"].as_array().unwrap().len()
        };
        assert_eq!(count(&format!("from_unix_ms={first}&to_unix_ms={last}")), 11);
        assert_eq!(count(&format!("to_unix_ms={}", first - 1)), 0);
        assert_eq!(count(&format!("from_unix_ms={}", last + 1)), 0);
        assert_eq!(count(&format!("from_unix_ms={}", last + 600_000)), 0);
        for bad in ["", "group=x", "peer=ann", "group=0&peer=a", "user=ann&limit=0", "user=ann&x=1"]
        {
            let path = format!("/v1/admin/messages?{bad}");
            world.operator("GET", &path, &Value::Null).error(400, "BAD_REQUEST");
        }
        let path = format!("/v1/admin/messages?group={group}&after=5-1");
        world.operator("GET", &path, &Value::Null).error(400, "BAD_REQUEST");
        world
            .operator("GET", "/v1/admin/messages?user=nobody", &Value::Null)
            .error(404, "NOT_FOUND");
    });
}

#[test]
fn an_operator_takes_a_message_back() {
    World::each(&unhurried(), |world| {
        world.befriend("ann", "bob");
        let seq = world.server.says("ann", "user:bob", "not nice").to_string();
        let recall = json!({"user": "bob", "peer": "ann", "seq": seq});
        let done = world.operate("POST", "/v1/admin/messages/recall", &recall);
        assert_eq!(done, json!({"recall_seq": "2"}));
        assert_eq!(world.operate("POST", "/v1/admin/messages/recall", &recall), json!({}));
        let pushed = world.server.engine.wait_for("the recall", |tell| match tell {
            Tell::Push { mcast, frame } if mcast.as_str() == "user:bob" => match &**frame {
                Body::Stored(stored) => stored.messages.iter().find_map(|message| {
                    let is = message.kind() == Kind::Recall;
                    is.then(|| (stored.conversation.clone(), message.user.clone()))
                }),
                _ => None,
            },
            _ => None,
        });
        assert_eq!(pushed, ("user:ann".to_owned(), "ann".to_owned()));
        let found = world.operate("GET", "/v1/admin/messages?user=ann&peer=bob", &Value::Null);
        let message = &found["messages"][1];
        assert_eq!((message.get("text"), &message["gone"]), (None, &json!(true)), "{found}");
        for (bad, status) in [
            (json!({"seq": "1"}), 400),
            (json!({"user": "ann", "peer": "bob", "seq": "0"}), 400),
            (json!({"user": "ann", "peer": "bob", "group": "x", "seq": "1"}), 400),
            (json!({"user": "ann", "peer": "bob", "seq": "9"}), 404),
            (json!({"group": "00000000deadbeef", "seq": "1"}), 404),
            (json!({"user": "ann", "peer": "nobody", "seq": "1"}), 404),
        ] {
            let refused = world.operator("POST", "/v1/admin/messages/recall", &bad);
            assert_eq!(refused.status, status, "{bad}: {}", refused.body);
        }
    });
}

#[test]
fn an_export_holds_what_is_the_users_and_says_when_it_is_whole() {
    World::each(&unhurried(), |world| {
        world.enter("ann");
        world.befriend("ann", "bob");
        let bob = world.minted("bob");
        assert_eq!(world.with_token(&bob, "PUT", "/v1/follows/ann", "").status, 200);
        let group = world.group("hikers", "bob", &["ann"]);
        let conversation = format!("group:{group}");
        for at in 0..250 {
            world.server.says("bob", &conversation, "theirs");
            if at % 50 == 0 {
                world.server.says("ann", &conversation, "mine");
            }
        }
        world.server.says("bob", "user:ann", "for her");
        world.server.says("ann", "user:bob", "by her");
        world.server.reacts("ann", &conversation, 2, "+1");
        world.server.reacts("bob", "user:ann", 1, "his");
        let answer = world.operator("GET", "/v1/admin/users/ann/export", &Value::Null);
        assert_eq!(answer.status, 200);
        assert!(answer.head.contains("content-type: application/x-ndjson"), "{}", answer.head);
        let lines: Vec<Value> =
            answer.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let of = |kind: &str| -> Vec<&Value> {
            lines.iter().filter(|line| line["type"] == kind).collect()
        };
        assert_eq!(lines[0]["user"], "ann");
        assert_eq!(lines.last().unwrap(), &json!({"type": "end", "lines": lines.len() - 1}));
        assert_eq!(of("session").len(), 1);
        assert_eq!((&of("relation")[0]["peer"], of("follower").len()), (&json!("bob"), 1));
        assert_eq!(of("group")[0]["name"], "hikers");
        assert_eq!(of("conversation")[0]["peer"], "bob");
        let mut texts: Vec<&str> =
            of("message").iter().filter_map(|line| line["message"]["text"].as_str()).collect();
        texts.sort_unstable();
        assert_eq!(texts, ["by her", "for her", "mine", "mine", "mine", "mine", "mine"]);
        let reaction = json!({"type": "reaction", "group": group, "seq": "2", "reactions": ["+1"]});
        assert_eq!(of("reaction"), [&reaction], "hers alone");
        let is_count = |line: &&&Value| line["message"]["kind"] == "reactions";
        assert_eq!(of("message").iter().filter(is_count).count(), 0, "nobody said those");
        for secret in ["argon2", "token"] {
            assert!(!answer.body.contains(secret), "{secret}");
        }
    });
}

#[test]
fn an_erased_user_is_nobody_and_stays_so() {
    World::each(&unhurried(), |world| {
        let session = world.enter("ann");
        let minted = world.minted("ann");
        world.befriend("ann", "bob");
        let group = world.group("hikers", "ann", &["bob"]);
        world.server.says("ann", &format!("group:{group}"), "mine");
        world.server.says("ann", "user:bob", "a secret");
        let begun = world.operator("DELETE", "/v1/admin/users/ann", &Value::Null);
        assert_eq!(begun.status, 202, "{}", begun.body);
        world.is_closed("ann", Code::SessionRevoked);
        let late = world.with_token(access(&session), "GET", "/v1/friends", "");
        late.error(401, "SESSION_REVOKED");
        let late = world.with_token(&minted, "GET", "/v1/friends", "");
        assert!(late.error(401, "TOKEN_INVALID").contains("erased"));
        let log_in = json!({"user": "ann", "password": "correct horse"});
        world.open("POST", "/v1/sessions", &log_in).error(401, "WRONG_PASSWORD");
        world.open("POST", "/v1/accounts", &log_in).error(409, "ALREADY_EXISTS");
        world.operator("POST", "/v1/tokens", &json!({"user": "ann"})).error(403, "FORBIDDEN");
        let called = world.erase("ann");
        assert!(called.ends_with("@erased") && called.len() == 39, "{called}");
        let again = world.operator("DELETE", "/v1/admin/users/ann", &Value::Null);
        assert_eq!((again.status, &again.json()["state"]), (200, &json!("done")));
        for name in ["ann", &called] {
            let shown = world.operate("GET", &format!("/v1/admin/users/{name}"), &Value::Null);
            assert_eq!((&shown["user"], &shown["erased"]), (&json!(called), &json!(true)));
            assert_eq!((&shown["friends"], &shown["groups"]), (&json!(0), &json!(0)));
        }
        let found = world.operate("GET", "/v1/admin/messages?user=ann", &Value::Null);
        let all = found["messages"].as_array().unwrap();
        assert!(!all.is_empty() && all.iter().all(|one| one.get("text").is_none()), "{found}");
        assert!(!found.to_string().contains("\"ann\""), "{found}");
        let seen = world.operate("GET", &format!("/v1/admin/groups/{group}"), &Value::Null);
        assert_eq!((&seen["owner"], &seen["members"]), (&json!("bob"), &json!(1)));
        for (method, path) in [
            ("PUT", "/v1/admin/users/ann/ban"),
            ("DELETE", "/v1/admin/users/ann/sessions"),
            ("GET", "/v1/admin/users/ann/export"),
            ("GET", "/v1/admin/users/bob/erasure"),
            ("DELETE", "/v1/admin/users/nobody"),
        ] {
            let body = if method == "PUT" { json!({}) } else { Value::Null };
            world.operator(method, path, &body).error(404, "NOT_FOUND");
        }
        let friends = json!({"relations": [{"user": "bob", "peer": "ann", "friends": true}]});
        world.operator("PUT", "/v1/relations", &friends).error(409, "CONFLICT");
        let bob = world.minted("bob");
        world.with_token(&bob, "PUT", "/v1/friends/ann", "").error(404, "NOT_FOUND");
    });
}

#[test]
fn whatever_an_operator_did_stands_in_the_audit_log() {
    World::each(&unhurried(), |world| {
        world.enter("ann");
        world.befriend("ann", "bob");
        let group = world.group("hikers", "ann", &["bob", "cleo"]);
        world.server.says("ann", &format!("group:{group}"), "mine");
        let of_group = format!("/v1/admin/groups/{group}");
        let find = format!("/v1/admin/messages?group={group}");
        for (method, path, body) in [
            ("PUT", "/v1/users", json!({"users": [{"user": "dan"}, {"user": "eve"}]})),
            ("PUT", "/v1/admin/users/bob/ban", json!({"ban_s": 60, "reason": "spam"})),
            ("DELETE", "/v1/admin/users/bob/ban", Value::Null),
            ("DELETE", "/v1/admin/users/ann/sessions", Value::Null),
            ("PUT", &format!("{of_group}/owner"), json!({"user": "bob"})),
            ("DELETE", &format!("{of_group}/members/cleo"), Value::Null),
            ("GET", &find, Value::Null),
            ("POST", "/v1/admin/messages/recall", json!({"group": group, "seq": "2"})),
            ("DELETE", &of_group, Value::Null),
            ("POST", "/v1/node/drain", Value::Null),
        ] {
            world.operate(method, path, &body);
        }
        let export = world.operator("GET", "/v1/admin/users/ann/export", &Value::Null);
        assert_eq!(export.status, 200);
        let called = world.erase("eve");
        let told = world.operate("GET", "/v1/audit", &Value::Null);
        let entries = told["entries"].as_array().unwrap();
        let word = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        let mut seen: Vec<String> = entries
            .iter()
            .map(|entry| format!("{} {}", word(entry, "what"), word(entry, "whom")))
            .collect();
        seen.sort();
        let erased = format!("user.erase {called}");
        assert_eq!(
            seen,
            [
                "group.end ",
                "group.remove cleo",
                "group.transfer bob",
                "messages.recall ",
                "messages.search ",
                "node.drain ",
                "user.ban bob",
                &erased,
                "user.export ann",
                "user.revoke ann",
                "user.take_over ",
                "user.unban bob",
            ]
        );
        let of = |what: &str| entries.iter().find(|entry| entry["what"] == what).unwrap();
        let ban = of("user.ban");
        assert_eq!(
            (word(ban, "detail"), word(ban, "reason")),
            ("seconds=60".into(), "spam".into())
        );
        assert_eq!((word(ban, "who"), word(ban, "from")), ("key".into(), "127.0.0.1".into()));
        assert_eq!(word(of("group.remove"), "detail"), format!("group:{group}"));
        assert!(!told.to_string().contains("\"eve\""), "{told}");
    });
}
