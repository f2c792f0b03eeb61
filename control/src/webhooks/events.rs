//! Events as their receivers read them, and how entries of the outbox become such.
//!
//! Owns the JSON. What an event says is read from the store when it is told, as a pull would show
//! it then: a message that was recalled meanwhile comes without what it said.

use super::config::EventType;
use crate::conversations::words;
use crate::groups::OPERATOR;
use crate::quality::alarm::Alarm;
use crate::store::conversations::{self as rows, DIRECT};
use crate::store::outbox::{self, Waiting};
use crate::store::{Store, StoreError, reactions, users};
use serde::Serialize;
use sqlx::AnyConnection;
use std::collections::BTreeMap;
use uproar_proto::v1::{self, Kind, StoredMessage, UserPresence};

/// Bytes of a request's events, after which no further one is put in.
const BODY_BYTES_MAX: usize = 1 << 20;

/// A conversation, for somebody who is not in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct About {
    kind: &'static str,
    /// A room's name, a group's id, or of what two users say to each other; empty where it is not
    /// known.
    #[serde(skip_serializing_if = "String::is_empty")]
    id: String,
    /// One-to-one: both, in the order of their names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    users: Vec<String>,
}

impl About {
    /// A live room, which is none.
    pub(crate) fn room(name: &str) -> About {
        About { kind: "room", id: name.to_owned(), users: Vec::new() }
    }

    /// The conversation of a group.
    pub(crate) fn group(conv: i64) -> About {
        About { kind: "group", id: words::group_id(conv), users: Vec::new() }
    }

    /// That of two users, which may not have begun.
    pub(crate) fn direct(one: &str, other: &str) -> About {
        let mut users = vec![one.to_owned(), other.to_owned()];
        users.sort_unstable();
        users.dedup();
        About { kind: "user", id: String::new(), users }
    }
}

/// What somebody said, wherever it was.
#[derive(Clone, Debug)]
pub(crate) enum Said {
    /// In a conversation.
    Stored(StoredMessage),
    /// In a live room.
    Live(v1::Message),
}

#[derive(Serialize)]
struct Shape<'a> {
    id: String,
    #[serde(rename = "type")]
    event: EventType,
    time_ms: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    conversation: Option<&'a About>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Message<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    users: Option<&'a [UserPresence]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alarm: Option<&'a Alarm>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Message<'a> {
    Stored(&'a StoredMessage),
    Live(&'a v1::Message),
}

impl<'a> Shape<'a> {
    /// What every event says.
    fn of((id, event): (i64, EventType), time_ms: i64) -> Shape<'a> {
        let (conversation, message, users, alarm) = (None, None, None, None);
        Shape { id: format!("{id:016x}"), event, time_ms, conversation, message, users, alarm }
    }
}

/// An event, written out.
pub(super) struct Event {
    pub(super) id: String,
    pub(super) event: EventType,
    pub(super) json: Vec<u8>,
}

impl Event {
    /// Of a message, stored or about to be.
    pub(super) fn of_message(
        what: (i64, EventType),
        time_ms: i64,
        about: &About,
        message: &StoredMessage,
    ) -> Event {
        let (conversation, message) = (Some(about), Some(Message::Stored(message)));
        Event::written(Shape { conversation, message, ..Shape::of(what, time_ms) })
    }

    /// Of what somebody wants to say.
    pub(super) fn of_question(id: i64, time_ms: i64, about: &About, said: &Said) -> Event {
        let (event, message) = match said {
            Said::Stored(message) => (EventType::MessageBefore, Message::Stored(message)),
            Said::Live(message) => (EventType::PublishBefore, Message::Live(message)),
        };
        let (conversation, message) = (Some(about), Some(message));
        Event::written(Shape { conversation, message, ..Shape::of((id, event), time_ms) })
    }

    /// Of users who came or went.
    pub(super) fn of_presence(id: i64, time_ms: i64, users: &[UserPresence]) -> Event {
        let users = Some(users);
        Event::written(Shape { users, ..Shape::of((id, EventType::Presence), time_ms) })
    }

    /// Of an alarm that was raised or cleared.
    pub(super) fn of_alarm(id: i64, time_ms: i64, alarm: &Alarm) -> Event {
        let alarm = Some(alarm);
        Event::written(Shape { alarm, ..Shape::of((id, EventType::QualityAlarm), time_ms) })
    }

    fn written(shape: Shape<'_>) -> Event {
        let json = serde_json::to_vec(&shape).expect("string keys, and a Vec takes every byte");
        Event { id: shape.id, event: shape.event, json }
    }
}

/// The body of a request.
pub(super) fn body(hook: &str, generation: i64, events: &[Event]) -> Vec<u8> {
    let bytes: usize = events.iter().map(|event| event.json.len() + 1).sum();
    let mut body = Vec::with_capacity(bytes + 128);
    // A webhook's name needs no escapes.
    let head = format!("{{\"hook\":\"{hook}\",\"generation\":\"{generation:016x}\",\"events\":[");
    body.extend_from_slice(head.as_bytes());
    for (at, event) in events.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&event.json);
    }
    body.extend_from_slice(b"]}");
    body
}

/// What of an outbox goes into one request.
#[derive(Default)]
pub(super) struct Loaded {
    /// In the order of conversation and seq, each with the entry it comes from.
    pub(super) events: Vec<(Waiting, Event)>,
    /// Entries that have waited too long.
    pub(super) old: Vec<Waiting>,
    /// Entries of what is not there any more.
    pub(super) unreadable: Vec<Waiting>,
    /// Conversations with more.
    pub(super) more: Vec<i64>,
}

/// Reads the oldest entries of these conversations (ascending), at most `limit`, and what they
/// tell of. Entries from before `old_ms` are not told any more.
pub(super) async fn load(
    store: &Store,
    hook: &str,
    convs: &[i64],
    (limit, old_ms): (usize, i64),
) -> Result<Loaded, StoreError> {
    let mut conn = store.reader().await?;
    let heads = outbox::heads(&mut conn, hook, convs, limit).await?;
    let mut loaded = Loaded::default();
    if heads.len() == limit {
        let last = heads.last().map_or(i64::MIN, |row| row.conv);
        loaded.more = convs.iter().copied().filter(|conv| *conv >= last).collect();
    }
    let mut reading = Reading { conn: &mut conn, names: BTreeMap::new() };
    let mut bytes = 0;
    let mut cut = None;
    for lane in heads.chunk_by(|one, next| one.conv == next.conv) {
        if cut.is_some() {
            loaded.more.push(lane[0].conv);
            continue;
        }
        let (old, lane): (Vec<Waiting>, Vec<Waiting>) =
            lane.iter().partition(|row| row.made_ms < old_ms);
        loaded.old.extend(old);
        for (row, event) in reading.lane(&lane).await? {
            match event {
                None => loaded.unreadable.push(row),
                Some(event) if bytes > 0 && bytes + event.json.len() > BODY_BYTES_MAX => {
                    cut = Some(row.conv);
                    break;
                }
                Some(event) => {
                    bytes += event.json.len();
                    loaded.events.push((row, event));
                }
            }
        }
        loaded.more.extend(cut);
    }
    Ok(loaded)
}

struct Reading<'c> {
    conn: &'c mut AnyConnection,
    names: BTreeMap<i64, String>,
}

impl Reading<'_> {
    /// What entries of one conversation tell of; `None`: it is not there any more.
    async fn lane(
        &mut self,
        lane: &[Waiting],
    ) -> Result<Vec<(Waiting, Option<Event>)>, StoreError> {
        let Some(conv) = lane.first().map(|row| row.conv) else { return Ok(Vec::new()) };
        let about = self.about(conv).await?;
        let mut events = Vec::with_capacity(lane.len());
        for run in lane.chunk_by(|one, next| one.seq + 1 == next.seq) {
            let range = (run[0].seq, run[run.len() - 1].seq);
            let kept = rows::read(self.conn, conv, range, run.len() as i64).await?;
            // A backend is nobody in the conversation: it has no reactions of its own.
            let mut beside = reactions::beside(self.conn, conv, OPERATOR, &kept).await?;
            let mut kept = kept.into_iter().peekable();
            for row in run {
                let Some(kept) = kept.next_if(|kept| kept.seq == row.seq) else {
                    events.push((*row, None));
                    continue;
                };
                let sender = self.name(kept.sender).await?;
                // Its sender's own id is told too: a backend is no other user.
                let beside = beside.remove(&kept.seq);
                let message = words::pulled(&kept, &sender, true)
                    .map(|message| words::completed(message, conv, &kept, beside));
                let event = match (&about, message) {
                    (Some(about), Ok(message)) => Some(of_entry(row, about, &message)),
                    (_, Err(error)) => {
                        tracing::error!(error, conv, seq = row.seq, "an entry cannot be read");
                        None
                    }
                    (None, _) => None,
                };
                events.push((*row, event));
            }
        }
        Ok(events)
    }

    async fn about(&mut self, conv: i64) -> Result<Option<About>, StoreError> {
        let Some((kind, users)) = rows::parties(self.conn, conv).await? else { return Ok(None) };
        if kind != DIRECT {
            return Ok(Some(About::group(conv)));
        }
        let (one, other) = (self.name(users.0).await?, self.name(users.1).await?);
        Ok(Some(About { id: words::group_id(conv), ..About::direct(&one, &other) }))
    }

    async fn name(&mut self, user: i64) -> Result<String, StoreError> {
        if let Some(name) = self.names.get(&user) {
            return Ok(name.clone());
        }
        let name = users::name(self.conn, user).await?.unwrap_or_default();
        self.names.insert(user, name.clone());
        Ok(name)
    }
}

fn of_entry(row: &Waiting, about: &About, message: &StoredMessage) -> Event {
    let event = match message.kind() {
        Kind::Notice => EventType::GroupChanged,
        Kind::Reactions => EventType::ReactionsChanged,
        _ => EventType::MessageAfter,
    };
    Event::of_message((row.event, event), row.made_ms, about, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_json_with_what_they_are_about() {
        let message = StoredMessage {
            seq: 61,
            user: "bob".into(),
            time_ms: 5,
            text: "hi \"there\"".into(),
            data: vec![0xde, 0xad].into(),
            ..StoredMessage::default()
        };
        let about = About::direct("bob", "ann");
        let event = Event::of_message((255, EventType::MessageAfter), 6, &about, &message);
        let users = [UserPresence { user: "ann".into(), online: true, last_seen_ms: 0 }];
        let presence = Event::of_presence(1, 7, &users);
        let body = String::from_utf8(body("audit", 10, &[event, presence])).unwrap();
        assert_eq!(
            body,
            "{\"hook\":\"audit\",\"generation\":\"000000000000000a\",\"events\":[\
             {\"id\":\"00000000000000ff\",\"type\":\"message.after\",\"time_ms\":6,\
             \"conversation\":{\"kind\":\"user\",\"users\":[\"ann\",\"bob\"]},\
             \"message\":{\"seq\":61,\"user\":\"bob\",\"time_ms\":5,\
             \"text\":\"hi \\\"there\\\"\",\"data\":\"3q0=\"}},\
             {\"id\":\"0000000000000001\",\"type\":\"presence\",\"time_ms\":7,\
             \"users\":[{\"user\":\"ann\",\"online\":true}]}]}"
        );
    }

    #[test]
    fn what_one_says_to_oneself_has_one_user() {
        assert_eq!(About::direct("ann", "ann").users, ["ann"]);
    }
}
