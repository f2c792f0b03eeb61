//! The JSON form of frames, written out by hand from PROTOCOL.md: this side of the wire does not
//! use the server's own codec. What the document does not name is a failure here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use uproar_proto::v1::{self, client_frame, server_frame};

pub(crate) fn write(body: &client_frame::Body) -> String {
    let frame = match body {
        client_frame::Body::Connect(c) => {
            let mut fields = Map::new();
            put(&mut fields, "token", &c.token);
            put(&mut fields, "device", &c.device);
            put(&mut fields, "agent", &c.agent);
            if c.inbox {
                fields.insert("inbox".into(), true.into());
            }
            if !c.join.is_empty() {
                fields.insert("join".into(), c.join.iter().map(join).collect());
            }
            json!({"connect": fields})
        }
        client_frame::Body::Join(j) => json!({"join": join(j)}),
        client_frame::Body::Leave(l) => json!({"leave": {"room": l.room}}),
        client_frame::Body::Publish(p) => json!({"publish": publish(p)}),
        client_frame::Body::Ping(_) => json!({"ping": {}}),
        client_frame::Body::Send(s) => json!({"send": send(s)}),
        client_frame::Body::Sync(s) => json!({"sync": {"cursor": s.cursor, "limit": s.limit}}),
        client_frame::Body::Pull(p) => {
            json!({"pull": {"id": p.id, "ranges": p.ranges.iter().map(range).collect::<Value>()}})
        }
        client_frame::Body::Mark(m) => json!({"mark": {"marks": m.marks.iter().map(|m| json!({
            "conversation": m.conversation, "read_seq": m.read_seq,
            "delivered_seq": m.delivered_seq
        })).collect::<Value>()}}),
        client_frame::Body::Signal(s) => json!({"signal": {
            "conversation": s.conversation, "name": s.name, "data": STANDARD.encode(&s.data)
        }}),
        client_frame::Body::Watch(w) => json!({"watch": {"users": w.users}}),
        client_frame::Body::React(r) => json!({"react": {
            "conversation": r.conversation, "seq": r.seq, "reaction": r.reaction,
            "remove": r.remove
        }}),
        client_frame::Body::Vote(v) => {
            json!({"vote": {"room": v.room, "poll": v.poll, "option": v.option}})
        }
        client_frame::Body::Report(r) => {
            json!({"report": {"id": r.id, "reports": STANDARD.encode(&r.reports)}})
        }
        client_frame::Body::Renew(r) => json!({"renew": {"token": r.token}}),
    };
    frame.to_string()
}

fn send(send: &v1::Send) -> Value {
    let id = STANDARD.encode(&send.client_msg_id);
    let mut fields = json!({"conversation": send.conversation, "client_msg_id": id});
    let words = ["message", "recall", "edit", "pin", "unpin"];
    if send.kind != 0 {
        fields["kind"] = json!(words[usize::try_from(send.kind).expect("a kind")]);
    }
    if !send.text.is_empty() {
        fields["text"] = json!(send.text);
    }
    if !send.data.is_empty() {
        fields["data"] = json!(STANDARD.encode(&send.data));
    }
    if send.target_seq != 0 {
        fields["target_seq"] = json!(send.target_seq);
    }
    if let Some(file) = &send.file {
        fields["file"] = json!({"url": file.url, "bytes": file.bytes, "name": file.name});
    }
    fields
}

fn range(range: &v1::Range) -> Value {
    json!({
        "conversation": range.conversation, "from_seq": range.from_seq, "to_seq": range.to_seq
    })
}

fn put(fields: &mut Map<String, Value>, key: &str, text: &str) {
    if !text.is_empty() {
        fields.insert(key.into(), text.into());
    }
}

fn join(join: &v1::Join) -> Value {
    match &join.resume {
        None => json!({"room": join.room}),
        Some(cursor) => {
            let resume = json!({"epoch": format!("{:016x}", cursor.epoch), "seq": cursor.seq});
            json!({"room": join.room, "resume": resume})
        }
    }
}

fn publish(publish: &v1::Publish) -> Value {
    let class = match publish.class() {
        v1::Class::Chat => "chat",
        v1::Class::System => "system",
        v1::Class::Gift => "gift",
        v1::Class::Like => "like",
    };
    let id = STANDARD.encode(&publish.client_msg_id);
    let mut fields = json!({"room": publish.room, "class": class, "client_msg_id": id});
    match &publish.content {
        Some(v1::publish::Content::Text(text)) => fields["text"] = json!(text),
        Some(v1::publish::Content::Data(data)) => fields["data"] = json!(STANDARD.encode(data)),
        None => {}
    }
    if publish.count != 0 {
        fields["count"] = json!(publish.count);
    }
    if !publish.gift.is_empty() {
        fields["gift"] = json!(publish.gift);
    }
    fields
}

pub(crate) fn read(text: &str) -> server_frame::Body {
    let frame: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let frame = frame.as_object().unwrap_or_else(|| panic!("a frame is an object: {text}"));
    assert_eq!(frame.len(), 1, "a frame has one key: {text}");
    let (kind, fields) = frame.iter().next().expect("one key");
    let mut fields = Fields::of(fields);
    let body = body(kind, &mut fields);
    fields.finish(kind);
    body
}

fn body(kind: &str, f: &mut Fields) -> server_frame::Body {
    match kind {
        "welcome" => server_frame::Body::Welcome(v1::Welcome {
            session: f.text("session"),
            user: f.text("user"),
            guest: f.flag("guest"),
            ping_every_s: f.small("ping_every_s"),
            server_time_ms: f.number("server_time_ms"),
            payload_bytes_max: f.small("payload_bytes_max"),
            rooms_max: f.small("rooms_max"),
            generation: if f.has("generation") { f.hex("generation") } else { 0 },
        }),
        "joined" => server_frame::Body::Joined(v1::Joined {
            room: f.text("room"),
            epoch: f.epoch(),
            seq: f.number("seq"),
            messages: f.list("messages", message),
            attributes: attributes(&f.take("attributes")),
            viewers: f.number("viewers"),
            likes: f.number("likes"),
            resumed: f.flag("resumed"),
            slow_mode_s: f.maybe_number("slow_mode_s").map_or(0, small),
            followers_only_s: f.maybe_number("followers_only_s").map(small),
            attributes_version: f.maybe_number("attributes_version").unwrap_or_default(),
            recalled: f.maybe_list("recalled", number),
            pinned: f.has("pinned").then(|| Box::new(message(&f.take("pinned")))),
            polls: f.maybe_list("polls", |value| {
                let mut f = Fields::of(value);
                let poll = poll(&mut f);
                f.finish("poll");
                poll
            }),
        }),
        "batch" => server_frame::Body::Batch(v1::Batch {
            room: f.text("room"),
            epoch: f.epoch(),
            messages: f.list("messages", message),
        }),
        "verdicts" => server_frame::Body::Verdicts(v1::Verdicts {
            room: f.text("room"),
            verdicts: f.list("verdicts", verdict),
        }),
        "reported" => server_frame::Body::Reported(v1::Reported {
            id: f.small("id"),
            taken: f.small("taken"),
            repeated: f.small("repeated"),
            next_ms: f.small("next_ms"),
            code: f.maybe_number("code").map_or(0, small),
            text: f.maybe_text("text").unwrap_or_default(),
        }),
        "gap" => server_frame::Body::Gap(v1::Gap {
            room: f.text("room"),
            epoch: f.epoch(),
            from_seq: f.number("from_seq"),
            to_seq: f.number("to_seq"),
            reason: f.word("reason", &["slow", "history", "epoch", "lost"]),
        }),
        "count" => server_frame::Body::Count(v1::Count {
            room: f.text("room"),
            viewers: f.maybe_number("viewers"),
            likes: f.maybe_number("likes"),
        }),
        "error" => server_frame::Body::Error(v1::Error {
            code: f.small("code"),
            name: f.text("name"),
            text: f.text("text"),
            retry: f.flag("retry"),
            retry_after_ms: f.maybe_number("retry_after_ms").map_or(0, small),
            room: f.maybe_text("room").unwrap_or_default(),
            client_msg_id: f.maybe_bytes("client_msg_id").unwrap_or_default(),
        }),
        "reconnect" => server_frame::Body::Reconnect(v1::Reconnect {
            spread_ms: f.small("spread_ms"),
            to: f.maybe_text("to").unwrap_or_default(),
        }),
        "pong" => server_frame::Body::Pong(v1::Pong {}),
        "left" => server_frame::Body::Left(v1::Left {
            room: f.text("room"),
            code: f.maybe_number("code").map_or(0, small),
        }),
        "sent" => server_frame::Body::Sent(v1::Sent {
            conversation: f.text("conversation"),
            client_msg_id: f.maybe_bytes("client_msg_id").unwrap_or_default(),
            seq: f.maybe_number("seq").unwrap_or_default(),
            time_ms: f.maybe_number("time_ms").unwrap_or_default(),
            generation: f.hex("generation"),
            code: f.maybe_number("code").map_or(0, small),
            retry: f.maybe_flag("retry"),
            retry_after_ms: f.maybe_number("retry_after_ms").map_or(0, small),
            text: f.maybe_text("text").unwrap_or_default(),
            msg_id: if f.has("msg_id") { f.hex("msg_id") } else { 0 },
        }),
        "stored" => server_frame::Body::Stored(stored_fields(f)),
        "synced" => server_frame::Body::Synced(v1::Synced {
            generation: f.hex("generation"),
            cursor: f.text("cursor"),
            done: f.flag("done"),
            conversations: f.list("conversations", conversation),
            relations: if f.has("relations") { f.list("relations", relation) } else { Vec::new() },
            settings: f.has("settings").then(|| settings(&mut Fields::of(&f.take("settings")))),
            relations_anew_ms: f.maybe_number("relations_anew_ms").unwrap_or_default(),
        }),
        "pulled" => server_frame::Body::Pulled(v1::Pulled {
            id: f.small("id"),
            parts: f.list("parts", stored),
            rest: if f.has("rest") { f.list("rest", rest) } else { Vec::new() },
        }),
        "resync" => server_frame::Body::Resync(v1::Resync {
            spread_ms: f.small("spread_ms"),
            generation: f.hex("generation"),
        }),
        "cursors" => server_frame::Body::Cursors(v1::Cursors {
            conversation: f.text("conversation"),
            users: f.list("users", user_cursor),
        }),
        "signal" => server_frame::Body::Signal(v1::Signal {
            conversation: f.text("conversation"),
            name: f.text("name"),
            data: f.maybe_bytes("data").unwrap_or_default(),
            user: f.text("user"),
        }),
        "renewed" => {
            server_frame::Body::Renewed(v1::Renewed { expires_ms: f.number("expires_ms") })
        }
        "expiring" => server_frame::Body::Expiring(v1::Expiring { in_ms: f.small("in_ms") }),
        "receipts" => server_frame::Body::Receipts(v1::Receipts {
            conversation: f.text("conversation"),
            counts: f.list("counts", read_count),
        }),
        "presence" => {
            let users = f.list("users", user_presence);
            server_frame::Body::Presence(v1::Presence { users })
        }
        "reacted" => server_frame::Body::Reacted(v1::Reacted {
            conversation: f.text("conversation"),
            seq: f.number("seq"),
            reaction: f.text("reaction"),
            remove: f.maybe_flag("remove"),
            code: f.maybe_number("code").map_or(0, small),
            retry: f.maybe_flag("retry"),
            retry_after_ms: f.maybe_number("retry_after_ms").map_or(0, small),
        }),
        "relations" => {
            server_frame::Body::Relations(v1::Relations { users: f.list("users", relation) })
        }
        "settings" => server_frame::Body::Settings(settings(f)),
        "recalled" => server_frame::Body::Recalled(v1::Recalled {
            room: f.text("room"),
            epoch: f.epoch(),
            seqs: f.list("seqs", number),
            user: if f.has("user") { f.text("user") } else { String::new() },
            up_to_seq: f.maybe_number("up_to_seq").unwrap_or(0),
        }),
        "attributes" => server_frame::Body::Attributes(v1::Attributes {
            room: f.text("room"),
            epoch: f.epoch(),
            version: f.number("version"),
            from_version: f.number("from_version"),
            set: if f.has("set") { attributes(&f.take("set")) } else { Default::default() },
            removed: f.maybe_list("removed", |key| key.as_str().expect("a key").to_owned()),
            whole: f.maybe_flag("whole"),
        }),
        "pinned" => server_frame::Body::Pinned(v1::Pinned {
            room: f.text("room"),
            epoch: f.epoch(),
            message: f.has("message").then(|| Box::new(message(&f.take("message")))),
        }),
        "poll" => server_frame::Body::Poll(poll(f)),
        "held" => server_frame::Body::Held(v1::Held {
            room: f.text("room"),
            epoch: f.epoch(),
            messages: f.list("messages", message),
        }),
        "entered" => server_frame::Body::Entered(v1::Entered {
            room: f.text("room"),
            epoch: f.epoch(),
            users: f.list("users", |user| user.as_str().expect("a name").to_owned()),
            more: f.maybe_number("more").map_or(0, small),
        }),
        "announced" => server_frame::Body::Announced(v1::Announced {
            message: Some(Box::new(message(&f.take("message")))),
        }),
        "voted" => server_frame::Body::Voted(v1::Voted {
            room: f.text("room"),
            poll: f.small("poll"),
            option: f.small("option"),
            code: f.maybe_number("code").map_or(0, small),
            retry_after_ms: f.maybe_number("retry_after_ms").map_or(0, small),
        }),
        _ => panic!("a kind that PROTOCOL.md does not have: {kind}"),
    }
}

fn stored_fields(f: &mut Fields) -> v1::Stored {
    v1::Stored {
        conversation: f.text("conversation"),
        messages: f.list("messages", stored_message),
    }
}

fn stored(value: &Value) -> v1::Stored {
    let mut f = Fields::of(value);
    let stored = stored_fields(&mut f);
    f.finish("stored");
    stored
}

fn stored_message(value: &Value) -> v1::StoredMessage {
    let mut f = Fields::of(value);
    let words = ["message", "recall", "edit", "pin", "unpin", "notice", "reactions"];
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let message = v1::StoredMessage {
        seq: f.number("seq"),
        user: f.text("user"),
        time_ms: f.number("time_ms"),
        client_msg_id: f.maybe_bytes("client_msg_id").unwrap_or_default(),
        kind: if f.has("kind") { f.word("kind", &words) } else { 0 },
        text: f.maybe_text("text").unwrap_or_default(),
        data: f.maybe_bytes("data").unwrap_or_default(),
        file: f.has("file").then(|| Box::new(file(&f.take("file")))),
        target_seq: f.maybe_number("target_seq").unwrap_or_default(),
        gone: f.maybe_flag("gone"),
        edited_seq: f.maybe_number("edited_seq").unwrap_or_default(),
        notice: f.has("notice").then(|| Box::new(notice(&f.take("notice")))),
        msg_id: if f.has("msg_id") { f.hex("msg_id") } else { 0 },
        reactions: if f.has("reactions") { f.list("reactions", total) } else { Vec::new() },
        own_reactions: if f.has("own_reactions") {
            f.list("own_reactions", text)
        } else {
            Vec::new()
        },
        pinned_seq: f.maybe_number("pinned_seq").unwrap_or_default(),
    };
    f.finish("a stored message");
    message
}

fn total(value: &Value) -> v1::ReactionCount {
    let mut f = Fields::of(value);
    let total = v1::ReactionCount { reaction: f.text("reaction"), count: f.small("count") };
    f.finish("a count of reactions");
    total
}

fn relation(value: &Value) -> v1::RelationState {
    let mut f = Fields::of(value);
    let relation = v1::RelationState {
        user: f.text("user"),
        friend: f.maybe_flag("friend"),
        asked: f.maybe_flag("asked"),
        asking: f.maybe_flag("asking"),
        blocks: f.maybe_flag("blocks"),
        follows: f.maybe_flag("follows"),
        changed_ms: f.number("changed_ms"),
    };
    f.finish("a relationship");
    relation
}

fn settings(f: &mut Fields) -> v1::Settings {
    v1::Settings {
        private_read: f.flag("private_read"),
        hide_last_seen: f.flag("hide_last_seen"),
        changed_ms: f.number("changed_ms"),
    }
}

fn notice(value: &Value) -> v1::Notice {
    let mut f = Fields::of(value);
    let name = |value: &Value| value.as_str().expect("a name").to_owned();
    let notice = v1::Notice {
        what: f.text("what"),
        users: if f.has("users") { f.list("users", name) } else { Vec::new() },
        more: f.maybe_number("more").unwrap_or_default() as u32,
        text: f.maybe_text("text").unwrap_or_default(),
        until_ms: f.maybe_number("until_ms").unwrap_or_default(),
    };
    f.finish("a notice");
    notice
}

fn group_state(value: &Value) -> v1::GroupState {
    let mut f = Fields::of(value);
    let group = v1::GroupState {
        name: f.text("name"),
        members: f.small("members"),
        role: f.text("role"),
        muted_all: f.maybe_flag("muted_all"),
        muted_until_ms: f.maybe_number("muted_until_ms").unwrap_or_default(),
    };
    f.finish("a group");
    group
}

fn read_count(value: &Value) -> v1::ReadCount {
    let mut f = Fields::of(value);
    let count = v1::ReadCount { seq: f.number("seq"), readers: f.small("readers") };
    f.finish("a count of readers");
    count
}

fn user_presence(value: &Value) -> v1::UserPresence {
    let mut f = Fields::of(value);
    let presence = v1::UserPresence {
        user: f.text("user"),
        online: f.flag("online"),
        last_seen_ms: f.maybe_number("last_seen_ms").unwrap_or_default(),
    };
    f.finish("a user's presence");
    presence
}

fn file(value: &Value) -> v1::File {
    let mut f = Fields::of(value);
    let file = v1::File {
        url: f.text("url"),
        bytes: f.number("bytes"),
        sha256: f.maybe_bytes("sha256").unwrap_or_default(),
        media_type: f.maybe_text("media_type").unwrap_or_default(),
        name: f.maybe_text("name").unwrap_or_default(),
        thumbnail_url: f.maybe_text("thumbnail_url").unwrap_or_default(),
    };
    f.finish("file");
    file
}

fn conversation(value: &Value) -> v1::ConversationState {
    let mut f = Fields::of(value);
    let state = v1::ConversationState {
        conversation: f.text("conversation"),
        head_seq: f.number("head_seq"),
        floor_seq: f.number("floor_seq"),
        read_seq: f.number("read_seq"),
        unread: f.number("unread"),
        peer_read_seq: f.maybe_number("peer_read_seq").unwrap_or_default(),
        peer_delivered_seq: f.maybe_number("peer_delivered_seq").unwrap_or_default(),
        left: f.maybe_flag("left"),
        changed_ms: f.number("changed_ms"),
        group: f.has("group").then(|| Box::new(group_state(&f.take("group")))),
        pinned: if f.has("pinned") {
            f.list("pinned", |seq| seq.as_u64().expect("a seq"))
        } else {
            Vec::new()
        },
        silent: f.maybe_flag("silent"),
    };
    f.finish("conversation");
    state
}

fn rest(value: &Value) -> v1::Range {
    let mut f = Fields::of(value);
    let range = v1::Range {
        conversation: f.text("conversation"),
        from_seq: f.number("from_seq"),
        to_seq: f.number("to_seq"),
    };
    f.finish("range");
    range
}

fn user_cursor(value: &Value) -> v1::UserCursor {
    let mut f = Fields::of(value);
    let cursor = v1::UserCursor {
        user: f.text("user"),
        read_seq: f.number("read_seq"),
        delivered_seq: f.maybe_number("delivered_seq").unwrap_or_default(),
    };
    f.finish("cursor");
    cursor
}

fn message(value: &Value) -> v1::Message {
    let mut f = Fields::of(value);
    let text = f.maybe_text("text").map(v1::message::Content::Text);
    let data = f.maybe_bytes("data").map(v1::message::Content::Data);
    let gone = f.maybe_flag("gone");
    let contents = usize::from(text.is_some()) + usize::from(data.is_some());
    let combo = f.0.contains_key("combo").then(|| Box::new(combo(&f.take("combo"))));
    if combo.is_none() {
        assert_eq!(contents, usize::from(!gone), "content is one of two keys, or gone: {value}");
    }
    let message = v1::Message {
        seq: f.number("seq"),
        class: f.word("class", &["chat", "system", "gift", "like"]),
        user: f.text("user"),
        time_ms: f.number("time_ms"),
        client_msg_id: f.maybe_bytes("client_msg_id").unwrap_or_default(),
        content: text.or(data),
        gone,
        combo,
    };
    f.finish("message");
    message
}

fn combo(value: &Value) -> v1::Combo {
    let mut f = Fields::of(value);
    let combo = v1::Combo {
        gift: f.text("gift"),
        count: f.number("count"),
        total: f.number("total"),
        combo: f.number("combo"),
    };
    f.finish("combo");
    combo
}

fn poll(f: &mut Fields) -> v1::Poll {
    v1::Poll {
        room: f.text("room"),
        poll: f.small("poll"),
        question: f.maybe_text("question").unwrap_or_default(),
        options: f.maybe_list("options", |text| text.as_str().expect("an answer").to_owned()),
        ends_ms: f.number("ends_ms"),
        votes: f.list("votes", number),
        over: f.maybe_flag("over"),
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}

fn verdict(value: &Value) -> v1::Verdict {
    let mut f = Fields::of(value);
    let verdict = v1::Verdict {
        client_msg_id: f.maybe_bytes("client_msg_id").unwrap_or_default(),
        outcome: f.word("outcome", &["accepted", "merged", "shed", "refused", "expired"]),
        seq: f.maybe_number("seq").unwrap_or_default(),
        code: f.maybe_number("code").map_or(0, small),
        retry_after_ms: f.maybe_number("retry_after_ms").map_or(0, small),
        text: f.maybe_text("text").unwrap_or_default(),
    };
    f.finish("verdict");
    verdict
}

fn attributes(value: &Value) -> std::collections::BTreeMap<String, String> {
    let fields = value.as_object().expect("attributes are an object");
    let text = |v: &Value| v.as_str().expect("an attribute is a string").to_owned();
    fields.iter().map(|(key, value)| (key.clone(), text(value))).collect()
}

fn small(number: u64) -> u32 {
    u32::try_from(number).expect("32 bits")
}

/// The keys of an object, each to be taken once.
struct Fields(Map<String, Value>);

impl Fields {
    fn of(value: &Value) -> Fields {
        Fields(value.as_object().unwrap_or_else(|| panic!("not an object: {value}")).clone())
    }

    fn take(&mut self, key: &str) -> Value {
        self.0.remove(key).unwrap_or_else(|| panic!("{key} is missing: {:?}", self.0))
    }

    fn text(&mut self, key: &str) -> String {
        self.take(key).as_str().unwrap_or_else(|| panic!("{key} is not a string")).to_owned()
    }

    fn maybe_text(&mut self, key: &str) -> Option<String> {
        self.0.contains_key(key).then(|| self.text(key))
    }

    fn maybe_bytes(&mut self, key: &str) -> Option<bytes::Bytes> {
        let text = self.maybe_text(key)?;
        Some(STANDARD.decode(&text).unwrap_or_else(|e| panic!("{key}: {e}: {text}")).into())
    }

    fn number(&mut self, key: &str) -> u64 {
        self.take(key).as_u64().unwrap_or_else(|| panic!("{key} is not a number"))
    }

    fn maybe_number(&mut self, key: &str) -> Option<u64> {
        self.0.contains_key(key).then(|| self.number(key))
    }

    fn small(&mut self, key: &str) -> u32 {
        small(self.number(key))
    }

    fn flag(&mut self, key: &str) -> bool {
        self.take(key).as_bool().unwrap_or_else(|| panic!("{key} is not true or false"))
    }

    fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// A flag that is left out where it is false.
    fn maybe_flag(&mut self, key: &str) -> bool {
        self.has(key) && self.flag(key)
    }

    fn epoch(&mut self) -> u64 {
        self.hex("epoch")
    }

    fn hex(&mut self, key: &str) -> u64 {
        let text = self.text(key);
        assert_eq!(text.len(), 16, "{key} has 16 digits: {text}");
        u64::from_str_radix(&text, 16).expect("it is hexadecimal")
    }

    /// An enum: the number of its word.
    fn word(&mut self, key: &str, words: &[&str]) -> i32 {
        let word = self.text(key);
        let number = words.iter().position(|w| *w == word);
        number.and_then(|n| i32::try_from(n).ok()).unwrap_or_else(|| panic!("{key} is {word}"))
    }

    fn list<T>(&mut self, key: &str, read: fn(&Value) -> T) -> Vec<T> {
        let list = self.take(key);
        list.as_array().unwrap_or_else(|| panic!("{key} is not a list")).iter().map(read).collect()
    }

    /// A list that is left out where it is empty.
    fn maybe_list<T>(&mut self, key: &str, read: fn(&Value) -> T) -> Vec<T> {
        if self.has(key) { self.list(key, read) } else { Vec::new() }
    }

    fn finish(self, kind: &str) {
        assert!(self.0.is_empty(), "{kind} has keys PROTOCOL.md does not name: {:?}", self.0);
    }
}
