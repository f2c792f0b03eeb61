//! Groups as an app sees them. Who may do what is tested beside the rules, on every store; here it
//! is what goes over the wire. The server of these tests takes 5 members a group and 3 groups a
//! user.

use crate::accounts::{World, access};
use crate::client::Answer;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A world with people who are all friends of the first one.
struct People {
    world: World,
    tokens: Vec<(String, String)>,
}

impl People {
    fn new(names: &[&str]) -> People {
        let world = World::new();
        let enter = |name: &&str| ((*name).to_owned(), access(&world.enter(name)).to_owned());
        let people = People { tokens: names.iter().map(enter).collect(), world };
        for name in &names[1..] {
            let asked = people.ask(names[0], "PUT", &format!("/v1/friends/{name}"), &Value::Null);
            assert_eq!(asked.status, 200, "{}", asked.body);
            let path = format!("/v1/friend-requests/{}", names[0]);
            assert_eq!(people.ask(name, "PUT", &path, &Value::Null).status, 200);
        }
        people
    }

    fn ask(&self, who: &str, method: &str, path: &str, body: &Value) -> Answer {
        let (_, token) = self.tokens.iter().find(|(name, _)| name == who).unwrap();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.world.with_token(token, method, path, &body)
    }

    fn get(&self, who: &str, path: &str) -> Value {
        let answer = self.ask(who, "GET", path, &Value::Null);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.json()
    }

    /// A group of `who` with these members; its path.
    fn group(&self, who: &str, members: &[&str]) -> String {
        let made =
            self.ask(who, "POST", "/v1/groups", &json!({"name": "Hikers", "members": members}));
        assert_eq!(made.status, 201, "{}", made.body);
        format!("/v1/groups/{}", made.json()["group"].as_str().unwrap())
    }
}

fn list<'a>(page: &'a Value, key: &str, of: &str) -> Vec<&'a str> {
    page[key].as_array().unwrap().iter().map(|entry| entry[of].as_str().unwrap()).collect()
}

#[test]
fn a_group_from_its_making_to_its_end() {
    let people = People::new(&["ann", "bob", "cleo"]);
    let group = people.group("ann", &["bob"]);
    let seen = people.get("bob", &group);
    assert_eq!((&seen["role"], &seen["owner"]), (&"member".into(), &"ann".into()));
    assert_eq!(seen["conversation"], format!("group:{}", seen["group"].as_str().unwrap()));
    people.ask("cleo", "GET", &group, &Value::Null).error(403, "NOT_MEMBER");
    let invited = json!({"users": ["cleo", "bob", "nobody"]});
    let entered = people.ask("ann", "POST", &format!("{group}/members"), &invited).json();
    assert_eq!(entered["joined"], json!(["cleo"]));
    assert_eq!(entered["refused"][0]["user"], "nobody");
    assert_eq!(entered["refused"][0]["error"]["name"], "NOT_FOUND");
    let mut found = Vec::new();
    let mut path = format!("{group}/members?limit=2");
    loop {
        let page = people.get("cleo", &path);
        assert_eq!(page["count"], 3);
        found.extend(list(&page, "members", "user").iter().map(|user| (*user).to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("{group}/members?limit=2&after={next}");
    }
    found.sort();
    assert_eq!(found, ["ann", "bob", "cleo"]);
    let moderator = json!({"role": "moderator", "mute_s": 60});
    let changed = people.ask("ann", "PATCH", &format!("{group}/members/bob"), &moderator);
    assert_eq!(changed.status, 204, "{}", changed.body);
    let named = json!({"name": "Climbers", "announcement": "Sunday!", "muted_all": true});
    let named = people.ask("bob", "PATCH", &group, &named);
    assert_eq!((named.status, &named.json()["name"]), (200, &"Climbers".into()), "{}", named.body);
    people.ask("cleo", "PATCH", &group, &json!({"name": "x"})).error(403, "FORBIDDEN");
    let handed = people.ask("ann", "PUT", &format!("{group}/owner"), &json!({"user": "cleo"}));
    assert_eq!(handed.json()["owner"], "cleo", "{}", handed.body);
    let gone = people.ask("ann", "DELETE", &format!("{group}/members/ann"), &Value::Null);
    assert_eq!(gone.status, 204, "{}", gone.body);
    people.ask("ann", "GET", &group, &Value::Null).error(403, "NOT_MEMBER");
    let removed = people.ask("cleo", "DELETE", &format!("{group}/members/bob"), &Value::Null);
    assert_eq!(removed.status, 204, "{}", removed.body);
    assert_eq!(list(&people.get("cleo", "/v1/groups"), "groups", "name"), ["Climbers"]);
    assert_eq!(people.ask("cleo", "DELETE", &group, &Value::Null).status, 204);
    people.ask("cleo", "GET", &group, &Value::Null).error(404, "NOT_FOUND");
    assert_eq!(people.get("cleo", "/v1/groups")["groups"], json!([]));
}

#[test]
fn one_comes_in_by_a_link_or_after_a_word_of_a_moderator() {
    let people = People::new(&["ann", "bob", "cleo"]);
    let group = people.group("ann", &[]);
    let links = format!("{group}/links");
    let link = people.ask("ann", "POST", &links, &json!({"uses_max": 1})).json();
    let link = format!("/v1/group-links/{}", link["link"].as_str().unwrap());
    assert_eq!(people.get("bob", &link)["name"], "Hikers");
    people.ask("bob", "GET", &links, &Value::Null).error(403, "NOT_MEMBER");
    let entered = people.ask("bob", "POST", &link, &Value::Null);
    assert_eq!(entered.json()["joined"], json!(["bob"]), "{}", entered.body);
    people.ask("cleo", "POST", &link, &Value::Null).error(404, "NOT_FOUND");
    let link = people.ask("ann", "POST", &links, &json!({})).json();
    let ended = format!("{links}/{}", link["link"].as_str().unwrap());
    people.ask("bob", "DELETE", &ended, &Value::Null).error(403, "FORBIDDEN");
    assert_eq!(people.ask("ann", "DELETE", &ended, &Value::Null).status, 204);
    assert_eq!(people.get("ann", &links)["links"], json!([]), "the one that was used up went too");
    let requests = format!("{group}/requests");
    people.ask("cleo", "POST", &requests, &json!({})).error(403, "FORBIDDEN");
    people.ask("ann", "PATCH", &group, &json!({"joining": "approve"}));
    let asked = people.ask("cleo", "POST", &requests, &json!({"text": "it is me"})).json();
    assert_eq!((&asked["waiting"], &asked["joined"]), (&json!(["cleo"]), &json!([])));
    let waiting = people.get("ann", &requests);
    assert_eq!(list(&waiting, "requests", "text"), ["it is me"]);
    let let_in = people.ask("ann", "PUT", &format!("{requests}/cleo"), &Value::Null);
    assert_eq!(let_in.json()["joined"], json!(["cleo"]), "{}", let_in.body);
    people.ask("ann", "PUT", &format!("{requests}/dora"), &Value::Null).error(404, "NOT_FOUND");
    assert_eq!(people.ask("ann", "DELETE", &format!("{requests}/bob"), &Value::Null).status, 204);
}

#[test]
fn what_breaks_a_rule_says_which() {
    let people = People::new(&["ann", "bob"]);
    let group = people.group("ann", &["bob"]);
    let long = "x".repeat(129);
    for (method, path, body, what) in [
        ("POST", "/v1/groups".to_owned(), json!({"name": ""}), "name has 0 bytes"),
        ("POST", "/v1/groups".to_owned(), json!({"name": long}), "name has 129 bytes"),
        ("POST", "/v1/groups".to_owned(), json!({"name": "a", "joining": "no"}), "`approve`"),
        ("PATCH", group.clone(), json!({"announcement": "y".repeat(4097)}), "4096"),
        ("PATCH", "/v1/groups/zz".to_owned(), json!({}), "group is \"zz\""),
        ("PATCH", format!("{group}/members/bob"), json!({"mute_s": -1}), "mute_s is -1"),
        ("PATCH", format!("{group}/members/bob"), json!({"role": "owner"}), "`moderator`"),
        ("POST", format!("{group}/links"), json!({"ttl_s": 0}), "ttl_s is 0"),
        ("POST", format!("{group}/requests"), json!({"text": "z".repeat(257)}), "257 bytes"),
        ("GET", format!("{group}/members?limit=201"), Value::Null, "limit is 201"),
        ("GET", format!("{group}/members?after=x"), Value::Null, "after is not"),
        ("GET", format!("{group}/messages/0/receipts"), Value::Null, "seq is a number"),
    ] {
        let text = people.ask("ann", method, &path, &body).error(400, "BAD_REQUEST");
        assert!(text.contains(what), "{method} {path}: {text}");
    }
    people.ask("ann", "GET", "/v1/groups/00000000deadbeef", &Value::Null).error(404, "NOT_FOUND");
    people
        .ask("ann", "GET", &format!("{group}/messages/1/receipts"), &Value::Null)
        .error(404, "NOT_FOUND");
    // Names of any kind are names: bound, never read as SQL or as a pattern.
    for name in ["'; DROP TABLE users; --", "%", "\u{202e}\u{1f680}", "a "] {
        let invited = json!({"users": [name]});
        let entered = people.ask("ann", "POST", &format!("{group}/members"), &invited).json();
        assert_eq!(entered["refused"][0]["error"]["name"], "NOT_FOUND", "{name}");
        let named = people.ask("ann", "PATCH", &group, &json!({"name": name})).json();
        assert_eq!(named["name"], name);
    }
}

#[test]
fn a_platform_sets_its_groups_by_its_own_keys() {
    let world = World::new();
    let put = |groups: Value| {
        world.server.call("PUT", "/v1/groups", &json!({"groups": groups}).to_string())
    };
    let group = |members: &[&str]| {
        let group = json!({"key": "7", "name": "Staff", "owner": "boss", "members": members});
        json!([group])
    };
    let made = put(group(&["ann", "bob"])).json();
    let first = &made["groups"][0];
    let joined: BTreeSet<&str> =
        first["joined"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(joined, BTreeSet::from(["ann", "bob", "boss"]), "{made}");
    let again = put(group(&["ann", "cleo"])).json();
    let second = &again["groups"][0];
    assert_eq!((&second["joined"], &second["group"]), (&json!(["cleo"]), &first["group"]));
    put(group(&["d", "e"])).error(409, "LIMIT_REACHED");
    let text = put(json!([{"key": "", "name": "x", "owner": "boss"}])).error(400, "BAD_REQUEST");
    assert!(text.contains("groups[0].key has 0 bytes"), "{text}");
}

#[test]
fn a_group_that_is_asked_for_twice_under_one_key_is_one() {
    let people = People::new(&["ann", "bob"]);
    let make = |who: &str, key: &str, name: &str| {
        let (_, token) = people.tokens.iter().find(|(known, _)| known == who).unwrap();
        let headers = format!(
            "Authorization: Bearer {token}\r\nContent-Type: application/json\r\n\
             Idempotency-Key: {key}\r\n"
        );
        let body = json!({"name": name}).to_string();
        people.world.server.raw("POST", "/v1/groups", &headers, &body)
    };
    let first = make("ann", "k-1", "Hikers");
    let again = make("ann", "k-1", "Hikers");
    assert_eq!((first.status, &first.body), (201, &again.body));
    assert_eq!(again.status, 201);
    make("ann", "k-1", "Climbers").error(409, "CONFLICT");
    assert_ne!(make("bob", "k-1", "Hikers").body, first.body, "another caller's key is another");
    assert_eq!(people.get("ann", "/v1/groups")["groups"].as_array().unwrap().len(), 1);
    make("ann", "a b", "x").error(400, "BAD_REQUEST");
    // What was refused is not kept: the same request may succeed later.
    make("ann", "k-2", "").error(400, "BAD_REQUEST");
}
