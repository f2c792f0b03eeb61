//! Webhooks from a send to a receiver: real requests, on every store there is.

use super::config::{EventType, WebhookSettings};
use super::{Entry, Webhooks, census};
use crate::config::GroupsConfig;
use crate::conversations::{Conversations, Rules};
use crate::groups::{Act, Joining};
use crate::guard::count;
use crate::listener::Listener;
use crate::quality::alarm::{Alarm, Rule, State};
use crate::relations::{Act as Relate, Policy, act};
use crate::store::outbox::{self, Waiting};
use crate::store::testing::{TestStore, on_both};
use crate::store::{Store, StoreError, users};
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use uproar_proto::control::{
    Ask, Asked, ConnectionId, Control as _, Engine, Sample, SampleValue, Tell,
};
use uproar_proto::error::Code;
use uproar_proto::v1::{self, Kind, client_frame, server_frame::Body};

/// One event as a receiver got it.
#[derive(Clone, Debug)]
struct Got {
    id: String,
    conv: String,
    seq: u64,
    event: Value,
}

/// A real receiver: what came, request by request, and what it answers.
struct Receiver {
    url: String,
    got: Mutex<Vec<Vec<Got>>>,
    /// By the events of a request: status and body.
    answer: Mutex<Answer>,
}

type Answer = Box<dyn FnMut(&[Got]) -> (StatusCode, String) + Send>;

impl Receiver {
    async fn start() -> Arc<Receiver> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let answer: Answer = Box::new(|_| (StatusCode::NO_CONTENT, String::new()));
        let (got, answer) = (Mutex::new(Vec::new()), Mutex::new(answer));
        let receiver = Arc::new(Receiver { url, got, answer });
        let shared = Arc::clone(&receiver);
        let take = move |headers: HeaderMap, body: String| {
            std::future::ready(shared.take(&headers, &body))
        };
        let router = axum::Router::new().route("/hook", axum::routing::post(take));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let router = hyper_util::service::TowerToHyperService::new(router.clone());
                let io = hyper_util::rt::TokioIo::new(stream);
                let http = hyper::server::conn::http1::Builder::new();
                tokio::spawn(http.serve_connection(io, router));
            }
        });
        receiver
    }

    fn take(&self, headers: &HeaderMap, body: &str) -> (StatusCode, String) {
        let body: Value = serde_json::from_str(body).unwrap();
        let got = |event: &Value| Got {
            id: event["id"].as_str().unwrap().to_owned(),
            conv: event["conversation"]["id"].as_str().unwrap_or_default().to_owned(),
            seq: event["message"]["seq"].as_u64().unwrap_or_default(),
            event: event.clone(),
        };
        let events: Vec<Got> = body["events"].as_array().unwrap().iter().map(got).collect();
        let ids: Vec<&str> = events.iter().map(|event| event.id.as_str()).collect();
        assert_eq!(headers["uproar-event-id"].to_str().unwrap(), ids.join(", "));
        let answer = (self.answer.lock().unwrap())(&events);
        self.got.lock().unwrap().push(events);
        answer
    }

    fn answers(&self, answer: impl FnMut(&[Got]) -> (StatusCode, String) + Send + 'static) {
        *self.answer.lock().unwrap() = Box::new(answer);
    }

    fn always(&self, status: StatusCode) {
        self.answers(move |_| (status, String::new()));
    }

    /// Everything that came, request after request.
    fn all(&self) -> Vec<Got> {
        self.got.lock().unwrap().iter().flatten().cloned().collect()
    }

    /// Each event by its id, as it first came.
    fn by_id(&self) -> BTreeMap<String, Got> {
        let mut by_id = BTreeMap::new();
        for got in self.all() {
            by_id.entry(got.id.clone()).or_insert(got);
        }
        by_id
    }
}

fn settings(receiver: &Receiver, more: &str) -> WebhookSettings {
    let url = &receiver.url;
    let secret = "0123456789abcdef";
    let text = format!("name = \"a\"\nurl = \"{url}\"\nsecret = \"{secret}\"\n{more}\n");
    toml::from_str(&text).unwrap()
}

const ALL: &str = "events = [\"message.after\", \"group.changed\"]";

/// A process of control.
struct Process {
    store: Arc<Store>,
    conversations: Arc<Conversations>,
    told: Arc<Listener>,
}

fn process(store: &Arc<Store>, settings: &[WebhookSettings]) -> Process {
    let groups = GroupsConfig::default();
    let rules = Rules { policy: Policy::Friends, payload_bytes_max: 100, groups };
    let webhooks = Webhooks::new(settings).unwrap();
    let conversations = Conversations::new(Arc::clone(store), rules, webhooks);
    let told = Arc::new(Listener::default());
    conversations.serve(Arc::clone(&told) as Arc<dyn Engine>);
    Process { store: Arc::clone(store), conversations, told }
}

/// The same, where `process` is a variable.
fn restarted(store: &Arc<Store>, settings: &[WebhookSettings]) -> Process {
    process(store, settings)
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl Process {
    /// Sends without waiting for the answer.
    fn offer(&self, user: &str, send: v1::Send) {
        let from = ConnectionId { node: 0, shard: 0, conn: 1, serial: 1 };
        let what = Asked::Frame(client_frame::Body::Send(send));
        self.conversations.ask(Ask { from, number: 0, user: user.into(), what });
    }

    fn answer(&self, id: u128) -> Option<v1::Sent> {
        let id = id.to_be_bytes();
        let told = self.told.told();
        let frames = told.iter().filter_map(|tell| match tell {
            Tell::Answer { frames, .. } => Some(frames),
            _ => None,
        });
        frames.flatten().rev().find_map(|frame| match frame {
            Body::Sent(sent) if sent.client_msg_id == id.as_slice() => Some(sent.clone()),
            _ => None,
        })
    }

    async fn sends(&self, user: &str, send: v1::Send) -> v1::Sent {
        let mut id = [0; 16];
        id.copy_from_slice(&send.client_msg_id);
        let id = u128::from_be_bytes(id);
        self.told.told().clear();
        self.offer(user, send);
        until("an answer", || self.answer(id).is_some()).await;
        self.answer(id).unwrap()
    }

    async fn stores(&self, user: &str, send: v1::Send) -> u64 {
        let sent = self.sends(user, send).await;
        assert_eq!(sent.code, 0, "{sent:?}");
        sent.seq
    }

    fn figure(&self, name: &str, label: &str) -> f64 {
        let samples = self.conversations.samples();
        let fits = |sample: &&Sample| {
            sample.name == name
                && (label.is_empty() || sample.labels.iter().any(|(_, value)| value == label))
        };
        let values = samples.iter().filter(fits).map(|sample| match sample.value {
            SampleValue::Number(value) => value,
            SampleValue::Histogram { count, .. } => count as f64,
        });
        values.sum()
    }

    async fn waiting(&self) -> i64 {
        let mut conn = self.store.reader().await.unwrap();
        outbox::census(&mut conn).await.unwrap().iter().map(|(_, rows, _)| rows).sum()
    }

    async fn is_empty(&self) {
        self.holds(0).await;
    }

    /// Until so many rows are left: one goes after its event was counted as delivered.
    async fn holds(&self, rows: i64) {
        let end = Instant::now() + Duration::from_secs(30);
        while self.waiting().await != rows {
            assert!(Instant::now() < end, "the outbox never holds {rows}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn text(to: &str, id: u128, text: &str) -> v1::Send {
    v1::Send {
        conversation: to.into(),
        client_msg_id: id.to_be_bytes().to_vec().into(),
        text: text.into(),
        ..v1::Send::default()
    }
}

/// Ann, and two friends of hers.
async fn people(store: &Arc<Store>) -> [(i64, String); 3] {
    let dialect = store.dialect();
    let mut people = Vec::new();
    for name in ["ann", "bob", "cleo"] {
        let id = store
            .write(move |conn| Box::pin(users::find_or_insert(conn, dialect, ("", name), 1)))
            .await;
        people.push((id.unwrap().unwrap(), name.to_owned()));
    }
    let people: [(i64, String); 3] = people.try_into().unwrap();
    for friend in &people[1..] {
        act(store, people[0].0, friend.0, Relate::Ask, 1).await.unwrap();
        act(store, friend.0, people[0].0, Relate::Accept, 1).await.unwrap();
    }
    people
}

/// The first coming of each event is in the order of seq, conversation by conversation.
fn assert_in_order(all: &[Got]) {
    let mut newest: BTreeMap<&str, u64> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for got in all {
        if seen.insert(&got.id) {
            let before = newest.insert(&got.conv, got.seq).unwrap_or(0);
            assert!(got.seq > before, "{} came after {before}", got.seq);
        }
    }
}

#[test]
fn events_are_told_until_they_are_taken_in_the_order_of_their_conversation() {
    on_both(|store| async move {
        let people = people(&store).await;
        let receiver = Receiver::start().await;
        // The first four requests fail, and later ones whose first event comes for the first time.
        let (mut requests, mut seen) = (0, BTreeSet::new());
        receiver.answers(move |events| {
            requests += 1;
            let is_first = events[0].seq % 3 == 0 && seen.insert(events[0].id.clone());
            let fails = requests < 5 || is_first;
            let status = if fails { StatusCode::BAD_GATEWAY } else { StatusCode::OK };
            (status, String::new())
        });
        let more = format!("{ALL}\nevents_per_request_max = 4\nrequests_max = 3");
        let process = process(&store, &[settings(&receiver, &more)]);
        let create = Act::Create {
            name: "Hikers".into(),
            announcement: String::new(),
            joining: Joining::Invite,
            members: vec![people[1].clone()],
        };
        process.conversations.change(77, people[0].clone(), create).await.unwrap();
        let group = "group:000000000000004d";
        for id in 1..=20 {
            process.stores("ann", text("user:bob", id, "x")).await;
            process.stores("cleo", text("user:ann", id, "y")).await;
            process.stores("ann", text(group, id, "z")).await;
        }
        until("all are told", || receiver.by_id().len() == 61).await;
        process.is_empty().await;
        assert_in_order(&receiver.all());
        let of = |conv: &str| {
            let by_id = receiver.by_id();
            let mut seqs: Vec<u64> =
                by_id.values().filter(|got| got.conv == conv).map(|got| got.seq).collect();
            seqs.sort_unstable();
            seqs
        };
        assert_eq!(of("000000000000004d"), (1..=21).collect::<Vec<u64>>());
        let first = receiver.by_id().into_values().find(|got| got.seq == 1).unwrap();
        let is_notice = first.conv == "000000000000004d";
        assert_eq!(first.event["type"] == "group.changed", is_notice, "{first:?}");
        assert!(process.figure("uproar_webhook_retried_total", "") >= 4.0);
        assert!(process.figure("uproar_webhook_failed_total", "status") >= 4.0);
        until("all are counted", || process.figure("uproar_webhook_delivered_total", "") == 61.0)
            .await;
        until("none is left", || process.figure("uproar_webhook_waiting", "") == 0.0).await;
        process.conversations.end().await;
    });
}

#[test]
fn an_event_its_receiver_cannot_take_holds_up_its_own_conversation_alone() {
    on_both(|store| async move {
        people(&store).await;
        let receiver = Receiver::start().await;
        receiver.answers(|events| {
            let bad = events.iter().any(|got| got.event["message"]["text"] == "poison");
            let status = if bad { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
            (status, String::new())
        });
        let process = process(&store, &[settings(&receiver, ALL)]);
        process.stores("ann", text("user:bob", 1, "poison")).await;
        process.stores("ann", text("user:bob", 2, "behind it")).await;
        for id in 1..=50 {
            process.stores("ann", text("user:cleo", id, "x")).await;
        }
        let taken = || {
            let by_id = receiver.by_id();
            by_id.values().filter(|got| got.event["message"]["text"] == "x").count()
        };
        until("the others are told", || taken() == 50).await;
        until("and taken", || process.figure("uproar_webhook_delivered_total", "") == 50.0).await;
        process.holds(2).await;
        receiver.always(StatusCode::OK);
        process.is_empty().await;
        assert_in_order(&receiver.all());
        process.conversations.end().await;
    });
}

#[test]
fn what_was_recalled_before_it_was_told_says_nothing() {
    on_both(|store| async move {
        people(&store).await;
        let receiver = Receiver::start().await;
        receiver.always(StatusCode::SERVICE_UNAVAILABLE);
        // Nothing is told before the recall: the first process has no receiver that takes it.
        let first = process(&store, &[settings(&receiver, ALL)]);
        first.stores("ann", text("user:bob", 1, "a secret")).await;
        let recall =
            v1::Send { kind: Kind::Recall.into(), target_seq: 1, ..text("user:bob", 2, "") };
        first.stores("ann", recall).await;
        first.conversations.end().await;
        let before = receiver.all().len();
        receiver.always(StatusCode::OK);
        let second = process(&store, &[settings(&receiver, ALL)]);
        second.is_empty().await;
        let told: Vec<Got> = receiver.all().split_off(before);
        assert_eq!(told.len(), 2, "{told:?}");
        let (message, recall) = (&told[0].event["message"], &told[1].event["message"]);
        assert_eq!((&message["gone"], &message["text"]), (&json!(true), &Value::Null));
        assert_eq!((&recall["kind"], &recall["target_seq"]), (&json!("recall"), &json!(1)));
        second.conversations.end().await;
    });
}

#[test]
fn a_full_outbox_drops_what_comes_and_never_a_message() {
    on_both(|store| async move {
        people(&store).await;
        let receiver = Receiver::start().await;
        receiver.always(StatusCode::SERVICE_UNAVAILABLE);
        let more = format!("{ALL}\nwaiting_max = 3");
        let process = process(&store, &[settings(&receiver, &more)]);
        for id in 1..=5 {
            assert_eq!(u128::from(process.stores("ann", text("user:bob", id, "x")).await), id);
        }
        assert_eq!(process.waiting().await, 3);
        assert_eq!(process.figure("uproar_webhook_dropped_total", "full"), 2.0);
        receiver.always(StatusCode::OK);
        process.is_empty().await;
        until("there is room", || process.figure("uproar_webhook_waiting", "") == 0.0).await;
        process.stores("ann", text("user:bob", 6, "x")).await;
        process.is_empty().await;
        let seqs: BTreeSet<u64> = receiver.all().iter().map(|got| got.seq).collect();
        assert_eq!(seqs, [1, 2, 3, 6].into(), "the hole shows");
        process.conversations.end().await;
    });
}

#[test]
fn who_may_not_write_leaves_no_row_and_neither_does_a_retry() {
    on_both(|store| async move {
        people(&store).await;
        let receiver = Receiver::start().await;
        let process = process(&store, &[settings(&receiver, ALL)]);
        let refused = process.sends("bob", text("user:cleo", 1, "x")).await;
        assert_eq!(refused.code, Code::NotFriend.number());
        process.stores("ann", text("user:bob", 1, "x")).await;
        process.stores("ann", text("user:bob", 1, "x")).await;
        process.stores("ann", text("user:bob", 2, "x")).await;
        process.is_empty().await;
        let seqs: Vec<u64> = receiver.all().iter().map(|got| got.seq).collect();
        assert_eq!(seqs, [1, 2]);
        process.conversations.end().await;
    });
}

#[test]
fn what_was_rolled_back_is_told_to_nobody() {
    on_both(|store| async move {
        let people = people(&store).await;
        let receiver = Receiver::start().await;
        let process = process(&store, &[settings(&receiver, ALL)]);
        let webhooks = process.conversations.webhooks();
        let undone = store.write(move |conn| {
            let webhooks = Arc::clone(&webhooks);
            Box::pin(async move {
                let event = EventType::GroupChanged;
                let entry = Entry { conv: 77, seq: 1, is_group: true, event };
                let _kept = webhooks.keep(conn, &[entry], 1).await?;
                Err::<(), _>(StoreError::Refused(Code::LimitReached))
            })
        });
        assert!(matches!(undone.await, Err(StoreError::Refused(Code::LimitReached))));
        let leave = process.conversations.change(77, people[0].clone(), Act::Leave).await;
        assert!(leave.is_err(), "there is no such group");
        assert_eq!(process.waiting().await, 0);
        process.stores("ann", text("user:bob", 1, "x")).await;
        process.is_empty().await;
        assert_eq!(receiver.all().len(), 1);
        process.conversations.end().await;
    });
}

#[test]
fn a_webhook_hears_what_it_asked_for() {
    on_both(|store| async move {
        let people = people(&store).await;
        let receiver = Receiver::start().await;
        let direct = "events = [\"message.after\"]\nconversations = \"user\"";
        let changes = WebhookSettings {
            name: "b".into(),
            ..settings(&receiver, "events = [\"group.changed\"]")
        };
        let process = process(&store, &[settings(&receiver, direct), changes]);
        let create = Act::Create {
            name: "Hikers".into(),
            announcement: String::new(),
            joining: Joining::Invite,
            members: vec![people[1].clone()],
        };
        process.conversations.change(77, people[0].clone(), create).await.unwrap();
        process.stores("ann", text("group:000000000000004d", 1, "in the group")).await;
        process.stores("ann", text("user:bob", 1, "to bob")).await;
        let rename = Act::Set {
            name: Some("Walkers".into()),
            announcement: None,
            joining: None,
            muted_all: None,
        };
        process.conversations.change(77, people[0].clone(), rename).await.unwrap();
        process.is_empty().await;
        let mut told: Vec<(Value, u64)> =
            receiver.all().iter().map(|got| (got.event["type"].clone(), got.seq)).collect();
        told.sort_by_key(|(_, seq)| *seq);
        told.sort_by_key(|(event, _)| event.to_string());
        let changed = json!("group.changed");
        assert_eq!(told, [(changed.clone(), 1), (changed, 3), (json!("message.after"), 1)]);
        let message = receiver.all().into_iter().find(|got| got.event["type"] == "message.after");
        let event = message.unwrap().event;
        assert_eq!(event["conversation"]["users"], json!(["ann", "bob"]));
        assert_eq!(event["message"]["client_msg_id"], "AAAAAAAAAAAAAAAAAAAAAQ==");
        process.conversations.end().await;
    });
}

#[test]
fn alarms_of_the_quality_are_told_in_order_and_tried_again() {
    on_both(|store| async move {
        let receiver = Receiver::start().await;
        let wanted = settings(&receiver, "events = [\"quality.alarm\"]");
        let other = WebhookSettings { name: "b".into(), ..settings(&receiver, ALL) };
        let process = process(&store, &[wanted, other]);
        let mut failures = 1;
        receiver.answers(move |_| {
            failures -= 1;
            let status = if failures >= 0 { 500 } else { 204 };
            (StatusCode::from_u16(status).unwrap(), String::new())
        });
        let raised = Alarm {
            rule: Rule::StallRatio,
            state: State::Raised,
            cell: [("cdn", "a".to_owned()), ("isp", "b".to_owned())].into(),
            value: 0.05,
            line: 0.03,
            before: None,
            samples: 40,
            raised_ms: 7,
            cleared_ms: 0,
        };
        let cleared = Alarm { state: State::Cleared, cleared_ms: 9, ..raised.clone() };
        process.conversations.webhooks().alarms(&[raised, cleared]);
        until("three requests", || receiver.all().len() == 3).await;
        let all = receiver.all();
        assert_eq!((&all[0].id, &all[0].event), (&all[1].id, &all[1].event), "tried again");
        let alarm = |state: &str, cleared_ms: i64| {
            json!({"rule": "stall_ratio", "state": state, "cell": {"cdn": "a", "isp": "b"},
                "value": 0.05, "line": 0.03, "before": null, "samples": 40, "raised_ms": 7,
                "cleared_ms": cleared_ms})
        };
        assert_eq!(all[1].event["type"], "quality.alarm");
        assert_eq!(all[1].event["alarm"], alarm("raised", 0));
        assert_eq!(all[2].event["alarm"], alarm("cleared", 9));
        until("it is counted", || process.figure("uproar_webhook_delivered_total", "a") == 2.0)
            .await;
        assert_eq!(process.figure("uproar_webhook_dropped_total", "alarm"), 0.0);
        process.conversations.end().await;
    });
}

async fn put(store: &Arc<Store>, hook: &'static str, row: Waiting) {
    let put =
        store.write(move |conn| Box::pin(async move { outbox::insert(conn, hook, &[row]).await }));
    put.await.unwrap();
}

#[test]
fn what_has_waited_too_long_is_dropped_and_counted() {
    on_both(|store| async move {
        people(&store).await;
        let receiver = Receiver::start().await;
        receiver.always(StatusCode::SERVICE_UNAVAILABLE);
        let process = process(&store, &[settings(&receiver, ALL)]);
        process.stores("ann", text("user:bob", 1, "x")).await;
        let now_ms = store.now_ms();
        let day_ms = 86_400_000;
        let row =
            |conv, days: i64| Waiting { conv, seq: 1, event: 5, made_ms: now_ms - days * day_ms };
        put(&store, "a", row(-7, 4)).await;
        put(&store, "former", row(-7, 4)).await;
        put(&store, "former", row(-8, 2)).await;
        let hooks = process.conversations.webhooks().hooks.clone();
        let (ending, listening) = tokio::sync::watch::channel(false);
        let counting = tokio::spawn(census::work(hooks, Arc::clone(&store), listening));
        until("the old one is dropped", || {
            process.figure("uproar_webhook_dropped_total", "age") == 1.0
        })
        .await;
        ending.send_replace(true);
        counting.await.unwrap();
        let mut conn = store.reader().await.unwrap();
        let left = outbox::census(&mut conn).await.unwrap();
        let left: Vec<(&str, i64)> =
            left.iter().map(|(name, rows, _)| (name.as_str(), *rows)).collect();
        assert_eq!(left, [("a", 1), ("former", 1)]);
        drop(conn);
        // A row of what is not there any more is dropped once its turn comes.
        put(&store, "a", row(-9, 0)).await;
        process.conversations.end().await;
        receiver.always(StatusCode::OK);
        let again = restarted(&store, &[settings(&receiver, ALL)]);
        until("it is dropped", || {
            again.figure("uproar_webhook_dropped_total", "unreadable") == 1.0
        })
        .await;
        again.conversations.end().await;
    });
}

#[test]
fn of_several_processes_one_tells_and_another_takes_over() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let Some(test) = TestStore::mysql().await else { return };
        people(&test).await;
        let receiver = Receiver::start().await;
        let other = Store::open(&test.url, true).await.unwrap();
        let one = process(&test, &[settings(&receiver, ALL)]);
        until("the first one holds it", || {
            let conn = test.store.clone();
            futures_block(async move {
                outbox::lease(&mut conn.reader().await.unwrap(), "a").await.unwrap().is_some()
            })
        })
        .await;
        let two = process(&other, &[settings(&receiver, ALL)]);
        for id in 1..=20 {
            one.stores("ann", text("user:bob", id, "x")).await;
            two.stores("bob", text("user:ann", id, "y")).await;
        }
        one.is_empty().await;
        let seqs: Vec<u64> = receiver.all().iter().map(|got| got.seq).collect();
        assert_eq!(seqs, (1..=40).collect::<Vec<u64>>(), "each once, in order, by one of them");
        assert_eq!(two.figure("uproar_webhook_delivered_total", ""), 0.0);
        one.conversations.end().await;
        two.stores("bob", text("user:ann", 50, "z")).await;
        two.is_empty().await;
        assert_eq!(receiver.all().last().map(|got| got.seq), Some(41));
        until("the other one told it", || two.figure("uproar_webhook_delivered_total", "") == 1.0)
            .await;
        two.conversations.end().await;
        other.close().await;
        test.end().await;
    });
}

/// Waits inside a test's own thread of the runtime.
fn futures_block<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(future))
}

/// The answer that gives every event of a request the same decision.
fn decides(events: &[Got], decision: &Value) -> (StatusCode, String) {
    let answers = events.iter().map(|got| {
        let mut answer = decision.clone();
        answer["id"] = json!(got.id);
        answer
    });
    (StatusCode::OK, json!({"answers": answers.collect::<Vec<Value>>()}).to_string())
}

const DECIDES: &str = "events = [\"message.before\"]\non_failure = \"closed\"\ntimeout_ms = 10000";

#[test]
fn a_retry_of_what_is_stored_is_answered_without_asking() {
    on_both(|store| async move {
        people(&store).await;
        let receiver = Receiver::start().await;
        receiver.answers(|events| decides(events, &json!({"allow": true, "replace": "***"})));
        let process = process(&store, &[settings(&receiver, DECIDES)]);
        let first = process.sends("ann", text("user:bob", 1, "rude")).await;
        assert_eq!((first.seq, first.code), (1, 0));
        receiver.answers(|events| decides(events, &json!({"allow": false})));
        let asked = receiver.all().len();
        let again = process.sends("ann", text("user:bob", 1, "rude")).await;
        assert_eq!((again.seq, again.time_ms, again.code), (1, first.time_ms, 0));
        let other = process.sends("ann", text("user:bob", 1, "***")).await;
        assert_eq!(other.code, Code::Conflict.number(), "the hash is of what was sent");
        let stranger = process.sends("bob", text("user:cleo", 1, "x")).await;
        assert_eq!(stranger.code, Code::NotFriend.number());
        let nobody = process.sends("bob", text("user:zoe", 1, "x")).await;
        assert_eq!(nobody.code, Code::NotFound.number());
        let none = process.sends("ann", text("group:0000000000000001", 1, "x")).await;
        assert_eq!(none.code, Code::NotFound.number());
        assert_eq!(receiver.all().len(), asked, "nobody was asked about any of these");
        let refused = process.sends("ann", text("user:bob", 2, "x")).await;
        assert_eq!((refused.code, refused.seq), (Code::Refused.number(), 0));
        assert_eq!(receiver.all().len(), asked + 1);
        // A recall says nothing: it is not asked about.
        let recall =
            v1::Send { kind: Kind::Recall.into(), target_seq: 1, ..text("user:bob", 3, "") };
        assert_eq!(process.stores("ann", recall).await, 2);
        assert_eq!(receiver.all().len(), asked + 1);
        process.conversations.end().await;
    });
}

#[test]
fn what_was_stored_while_it_was_asked_about_is_stored() {
    on_both(|store| async move {
        people(&store).await;
        let receiver = Receiver::start().await;
        let deciding = process(&store, &[settings(&receiver, DECIDES)]);
        // Another connection of the sender is faster: here, one that nobody is asked about.
        let faster = process(&store, &[]);
        let meanwhile = Arc::new(faster);
        let by = Arc::clone(&meanwhile);
        receiver.answers(move |events| {
            let by = Arc::clone(&by);
            futures_block(async move { by.stores("ann", text("user:bob", 1, "x")).await });
            decides(events, &json!({"allow": false}))
        });
        let sent = deciding.sends("ann", text("user:bob", 1, "x")).await;
        assert_eq!((sent.code, sent.seq), (0, 1));
        deciding.conversations.end().await;
    });
}

#[test]
fn a_decision_that_panics_is_none_and_its_lane_goes_on() {
    on_both(|store| async move {
        people(&store).await;
        let receiver = Receiver::start().await;
        receiver.answers(|events| decides(events, &json!({"allow": true})));
        let open = DECIDES.replace("closed", "open");
        let process = process(&store, &[settings(&receiver, &open)]);
        let bad = process.sends("ann", text("user:bob", 1, "panic in decision")).await;
        assert_eq!((bad.code, bad.retry), (Code::HookDown.number(), true), "a defect lets none by");
        let other = process.sends("ann", text("user:cleo", 1, "panic in gate")).await;
        assert_eq!((other.code, other.retry), (Code::StoreDown.number(), true));
        assert!(count("decision") > 0 && count("gate") > 0);
        let behind = process.sends("ann", text("user:bob", 2, "x")).await;
        assert_eq!(behind.code, Code::SlowDown.number());
        assert_eq!(process.stores("ann", text("user:bob", 1, "x")).await, 1);
        assert_eq!(process.stores("ann", text("user:bob", 2, "x")).await, 2);
        process.conversations.end().await;
    });
}

#[test]
fn a_delivery_that_panics_holds_up_its_own_conversation_and_is_tried_again() {
    on_both(|store| async move {
        people(&store).await;
        let receiver = Receiver::start().await;
        let process = process(&store, &[settings(&receiver, ALL)]);
        process.stores("ann", text("user:bob", 1, "panic in delivery")).await;
        process.stores("ann", text("user:bob", 2, "behind it")).await;
        for id in 1..=20 {
            process.stores("ann", text("user:cleo", id, "x")).await;
        }
        until("the others are taken", || {
            process.figure("uproar_webhook_delivered_total", "") == 20.0
        })
        .await;
        process.holds(2).await;
        assert!(count("delivery") > 0);
        // What it cannot tell of is gone: the lane goes on.
        let recall =
            v1::Send { kind: Kind::Recall.into(), target_seq: 1, ..text("user:bob", 3, "") };
        process.stores("ann", recall).await;
        process.is_empty().await;
        assert_in_order(&receiver.all());
        assert_eq!(receiver.by_id().len(), 23);
        process.conversations.end().await;
    });
}

#[test]
fn every_entry_of_a_log_is_told_as_what_it_is() {
    on_both(|store| async move {
        people(&store).await;
        let receiver = Receiver::start().await;
        let all = "events = [\"message.after\", \"reactions.changed\"]";
        let some = Receiver::start().await;
        let plain =
            WebhookSettings { name: "b".into(), ..settings(&some, "events = [\"message.after\"]") };
        let process = process(&store, &[settings(&receiver, all), plain]);
        let event = |id, kind: Kind, said: &str| v1::Send {
            kind: kind.into(),
            target_seq: 1,
            ..text("user:bob", id, said)
        };
        process.stores("ann", text("user:bob", 1, "helo")).await;
        process.stores("ann", event(2, Kind::Edit, "hello")).await;
        process.stores("ann", event(3, Kind::Pin, "")).await;
        process.stores("ann", event(4, Kind::Unpin, "")).await;
        let react = v1::React {
            conversation: "user:ann".into(),
            seq: 1,
            reaction: "+1".into(),
            remove: false,
        };
        let from = ConnectionId { node: 0, shard: 0, conn: 1, serial: 2 };
        let what = Asked::Frame(client_frame::Body::React(react));
        process.conversations.ask(Ask { from, number: 0, user: "bob".into(), what });
        until("the counts are told", || receiver.by_id().len() == 5).await;
        let conv = i64::from_str_radix(&receiver.all()[0].conv, 16);
        let conv = conv
            .unwrap_or_else(|_| u64::from_str_radix(&receiver.all()[0].conv, 16).unwrap() as i64);
        process.conversations.recall(conv, 1).await.unwrap();
        process.is_empty().await;
        assert_in_order(&receiver.all());
        let of = |got: &Got| {
            let message = &got.event["message"];
            let kind = message["kind"].as_str().unwrap_or("message").to_owned();
            (got.seq, got.event["type"].as_str().unwrap().to_owned(), kind)
        };
        let told = |receiver: &Receiver| {
            let mut told: Vec<_> = receiver.by_id().values().map(of).collect();
            told.sort();
            told
        };
        let one = |seq, event: &str, kind: &str| (seq, event.to_owned(), kind.to_owned());
        let expected = [
            one(1, "message.after", "message"),
            one(2, "message.after", "edit"),
            one(3, "message.after", "pin"),
            one(4, "message.after", "unpin"),
            one(5, "reactions.changed", "reactions"),
            one(6, "message.after", "recall"),
        ];
        assert_eq!(told(&receiver), expected);
        let but_reactions: Vec<_> = expected.iter().filter(|one| one.0 != 5).cloned().collect();
        assert_eq!(told(&some), but_reactions, "who did not ask is not told of reactions");
        let counts = receiver.all().into_iter().find(|got| got.seq == 5).unwrap().event;
        let message = &counts["message"];
        assert_eq!(message["reactions"], json!([{"reaction": "+1", "count": 1}]), "{counts}");
        assert_eq!((&message["target_seq"], &message["user"]), (&json!(1), &json!("bob")));
        let recall = receiver.all().into_iter().find(|got| got.seq == 6).unwrap().event;
        assert_eq!(recall["message"]["user"], "ann", "an operator recalls for the author");
        process.conversations.end().await;
    });
}
