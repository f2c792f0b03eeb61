//! A crowd driven by hand: events in, actions out, no socket and no clock.

use super::*;
use crate::summary::tests::plan;
use std::sync::mpsc::{self, Receiver};
use uproar_proto::v1::{self, client_frame, server_frame::Body};
use uproar_proto::wire::{Decoder, Incoming, Variant, encode_server};

/// One thread's crowd, and the server's side of its connections.
struct World {
    crowd: Crowd,
    results: Receiver<Outcome>,
    now: Now,
    events: Events,
    actions: Actions,
    decoders: HashMap<u32, Decoder>,
}

impl World {
    fn new(words: &str) -> World {
        let plan = Arc::new(plan(&format!("{words} --threads 1")));
        let (sender, results) = mpsc::channel();
        let crowd = Crowd::new(plan, 0, Arc::default(), Arc::default(), sender);
        let now = Now { tick: Tick(1_000_000), unix_ms: 0, cpu_us: 0 };
        let (events, actions) = (Events::default(), Actions::new());
        World { crowd, results, now, events, actions, decoders: HashMap::new() }
    }

    /// One turn after `ms` milliseconds; the frames it sent.
    fn turn(&mut self, ms: u64, orders: &[Order]) -> Vec<(u32, client_frame::Body)> {
        self.now.tick = self.now.tick.after_ms(ms);
        self.actions.clear();
        let mut inbox = orders.to_vec();
        self.crowd.turn(self.now, &self.events, &mut inbox, &mut self.actions, &mut Vec::new());
        self.events.clear();
        let mut sent = Vec::new();
        for action in self.actions.as_slice() {
            let Action::Send { conn, frame, skip_bytes: 0 } = *action else { continue };
            let mut bytes = self.crowd.frames().get(frame);
            let decoder = self.decoders.entry(conn.0).or_insert_with(|| {
                bytes = bytes.strip_prefix(b"UPR1").expect("a connection opens with the magic");
                Decoder::new(Variant::Tcp, 1 << 20)
            });
            decoder.feed(bytes);
            while let Some(Incoming::Frame(frame)) = decoder.next().expect("valid frames") {
                sent.push((conn.0, frame));
            }
        }
        sent
    }

    fn connects(&self) -> Vec<u32> {
        let of = |a: &Action| match a {
            Action::Connect { conn, .. } => Some(conn.0),
            _ => None,
        };
        self.actions.as_slice().iter().filter_map(of).collect()
    }

    fn closes(&self) -> Vec<u32> {
        let of = |a: &Action| match a {
            Action::Close { conn } => Some(conn.0),
            _ => None,
        };
        self.actions.as_slice().iter().filter_map(of).collect()
    }

    fn event(&mut self, event: Event) {
        self.events.list.push(event);
    }

    fn say(&mut self, conn: u32, body: Body) {
        let mut bytes = Vec::new();
        encode_server(&body, Variant::Tcp, &mut bytes);
        self.events.push_received(ConnSlot(conn), &bytes);
    }

    fn welcome(&mut self, conn: u32) {
        self.say(conn, Body::Welcome(v1::Welcome { ping_every_s: 10, ..v1::Welcome::default() }));
        let joined =
            v1::Joined { room: "load".into(), epoch: 5, seq: 100, ..v1::Joined::default() };
        self.say(conn, Body::Joined(joined));
    }

    /// Brings everybody into the room.
    fn fill(&mut self) -> u32 {
        self.turn(0, &[Order::Connect]);
        let conns = self.connects();
        for &conn in &conns {
            self.event(Event::Connected { conn: ConnSlot(conn), errno: 0 });
        }
        let sent = self.turn(1, &[]);
        assert_eq!(sent.len(), conns.len(), "everybody greets");
        for &conn in &conns {
            self.welcome(conn);
        }
        self.turn(1, &[]);
        assert_eq!(self.crowd.beat().joined, conns.len() as u64);
        conns.len() as u32
    }

    fn result(&mut self) -> Outcome {
        self.turn(0, &[Order::Finish]);
        assert!(self.crowd.finished());
        self.results.try_recv().expect("a result")
    }

    /// Sends a published message back to everybody, and its verdict to its sender.
    fn deliver(&mut self, sender: u32, publish: &v1::Publish, seq: u64, to: u32) {
        let Some(v1::publish::Content::Text(text)) = publish.content.clone() else {
            panic!("chat is text")
        };
        let content = Some(v1::message::Content::Text(text));
        let message = v1::Message { seq, content, ..v1::Message::default() };
        let batch = v1::Batch { room: "load".into(), epoch: 5, messages: vec![message] };
        for conn in 0..to {
            self.say(conn, Body::Batch(batch.clone()));
        }
        let client_msg_id = publish.client_msg_id.clone();
        let verdict = v1::Verdict { client_msg_id, seq, ..v1::Verdict::default() };
        let verdicts = v1::Verdicts { room: "load".into(), verdicts: vec![verdict] };
        self.say(sender, Body::Verdicts(verdicts));
    }
}

#[test]
fn messages_are_due_by_the_clock_and_latency_counts_from_then() {
    let mut world =
        World::new("live --viewers 3 --publishers 2 --rate 10 --warmup 0s --duration 1s");
    let all = world.fill();
    world.turn(0, &[Order::Begin]);
    assert_eq!(world.turn(99, &[]).len(), 0, "not before the lead is over");
    // A stall of 250 ms: three messages were due meanwhile.
    let sent = world.turn(250, &[]);
    assert_eq!(sent.len(), 2, "one send a connection and turn");
    let mut published = sent;
    published.extend(world.turn(0, &[]));
    assert_eq!(published.len(), 3);
    for (place, (conn, frame)) in published.iter().enumerate() {
        let client_frame::Body::Publish(publish) = frame else { panic!("{frame:?}") };
        world.deliver(*conn, publish, 101 + place as u64, all);
    }
    world.turn(51, &[]);
    // Due at 100, 200 and 300 ms after the order, received at 400: 300, 200 and 100 ms late.
    let result = world.result();
    assert_eq!((result.counted, result.tally.deliveries), (3, 9));
    let ms = |share| result.tally.latency_at(share, 9).map(|us| (us as f64 / 1e3).round());
    assert_eq!((ms(0.01), ms(0.5), ms(1.0)), (Some(100.0), Some(200.0), Some(300.0)));
    assert_eq!(result.books.measured[0].accepted, 3);
    assert_eq!(result.sums.values().sum::<u64>(), 3);
    assert_eq!(result.decoded, 2 * 5 + 3 + 3, "greetings and verdicts each, batches once");
}

#[test]
fn a_lost_viewer_is_counted_and_what_it_missed_stays_expected() {
    let mut world = World::new("live --viewers 3 --publishers 1 --warmup 0s");
    world.fill();
    world.turn(0, &[Order::Begin]);
    world.event(Event::Eof { conn: ConnSlot(2), errno: 0 });
    world.turn(10, &[]);
    assert_eq!(world.closes(), [2]);
    world.event(Event::Closed { conn: ConnSlot(2) });
    world.turn(10_000, &[]);
    assert!(world.connects().is_empty(), "in a live room nobody comes back unseen");
    let result = world.result();
    assert_eq!((result.counted, result.lost, result.still_away), (3, 1, 1));
    assert_eq!(result.sums.values().sum::<u64>(), 2);
}

#[test]
fn a_refused_connect_is_tried_again_and_then_given_up() {
    let mut world = World::new("idle --viewers 1");
    world.turn(0, &[Order::Connect]);
    for attempt in 1..=5 {
        assert_eq!(world.connects(), [0], "attempt {attempt}");
        world.event(Event::Connected { conn: ConnSlot(0), errno: 111 });
        world.event(Event::Closed { conn: ConnSlot(0) });
        world.turn(1, &[]);
        assert!(world.connects().is_empty(), "not at once");
        world.turn(5_000, &[]);
    }
    assert!(world.connects().is_empty());
    assert_eq!(world.crowd.next_wakeup(), Tick::NEVER);
    let result = world.result();
    assert_eq!((result.failed, result.failures.values().sum::<u64>()), (1, 5));
    assert!(result.failures.keys().all(|why| why.contains("refused")), "{:?}", result.failures);
}

#[test]
fn an_answer_that_never_comes_ends_the_attempt() {
    let mut world = World::new("idle --viewers 1");
    world.turn(0, &[Order::Connect]);
    world.event(Event::Connected { conn: ConnSlot(0), errno: 0 });
    world.turn(1, &[]);
    world.turn(14_998, &[]);
    assert!(world.closes().is_empty());
    world.turn(2, &[]);
    assert_eq!(world.closes(), [0]);
}

#[test]
fn an_exhausted_machine_is_named() {
    for (errno, what) in [(99, "ports"), (24, "open files"), (12, "memory")] {
        let mut world = World::new("idle --viewers 1");
        world.turn(0, &[Order::Connect]);
        world.event(Event::Connected { conn: ConnSlot(0), errno });
        world.event(Event::Closed { conn: ConnSlot(0) });
        world.turn(1, &[]);
        assert_eq!(world.result().exhausted.keys().collect::<Vec<_>>(), [what]);
    }
}

#[test]
fn a_greeting_that_is_refused_for_good_is_not_repeated() {
    let mut world = World::new("idle --viewers 1");
    world.turn(0, &[Order::Connect]);
    world.event(Event::Connected { conn: ConnSlot(0), errno: 0 });
    world.turn(1, &[]);
    let error = v1::Error { code: 2005, name: "TOKEN_REQUIRED".into(), ..v1::Error::default() };
    world.say(0, Body::Error(error));
    world.event(Event::Eof { conn: ConnSlot(0), errno: 0 });
    world.turn(1, &[]);
    world.event(Event::Closed { conn: ConnSlot(0) });
    world.turn(60_000, &[]);
    assert!(world.connects().is_empty());
    let result = world.result();
    assert_eq!(result.failures.keys().collect::<Vec<_>>(), ["TOKEN_REQUIRED"]);
    assert_eq!((result.failed, result.errors[&2005]), (1, 1));
}

#[test]
fn a_short_send_is_finished_before_anything_else_is_sent() {
    let mut world = World::new("live --viewers 1 --publishers 1 --rate 100 --warmup 0s");
    world.fill();
    world.turn(0, &[Order::Begin]);
    world.turn(100, &[]);
    let action = world.actions.as_slice().iter().position(|a| matches!(a, Action::Send { .. }));
    let action = action.expect("a publish") as u32;
    world.event(Event::SendShort { conn: ConnSlot(0), action, sent_bytes: 7 });
    world.turn(50, &[]);
    assert_eq!(world.actions.as_slice(), [Action::ArmWritable { conn: ConnSlot(0) }]);
    world.event(Event::Writable { conn: ConnSlot(0) });
    world.turn(0, &[]);
    let first = world.actions.as_slice()[0];
    assert!(matches!(first, Action::Send { skip_bytes: 7, .. }), "{first:?}");
}

#[test]
fn pings_are_spread_and_a_missing_pong_is_noticed() {
    let mut world = World::new("idle --viewers 50 --duration 60s");
    world.fill();
    world.turn(0, &[Order::Begin]);
    let mut sent_at = Vec::new();
    for step in 0..150 {
        for (conn, frame) in world.turn(100, &[]) {
            assert_eq!(frame, client_frame::Body::Ping(v1::Ping {}));
            sent_at.push((step, conn));
            if conn != 7 {
                world.say(conn, Body::Pong(v1::Pong {}));
            }
        }
    }
    let conns: std::collections::BTreeSet<u32> = sent_at.iter().map(|(_, conn)| *conn).collect();
    assert_eq!(conns.len(), 50, "everybody pings within 1.2 times the interval");
    assert!(sent_at.iter().all(|(step, _)| *step >= 78), "nobody before 0.8 times");
    for _ in 0..130 {
        world.turn(100, &[]);
    }
    assert!(world.result().pings_missed >= 1, "conn 7 was never answered");
}

#[test]
fn in_a_storm_everybody_comes_back_within_the_spread_and_with_a_cursor() {
    let mut world = World::new("storm --viewers 100 --publishers 1 --warmup 0s");
    let all = world.fill();
    world.turn(0, &[Order::Begin]);
    for conn in 0..all {
        let reconnect = v1::Reconnect { spread_ms: 5000, to: String::new() };
        world.say(conn, Body::Reconnect(reconnect));
    }
    world.turn(1, &[]);
    assert_eq!(world.closes().len() as u32, all);
    for conn in 0..all {
        world.event(Event::Closed { conn: ConnSlot(conn) });
    }
    let mut back = Vec::new();
    for tenth in 0..52u32 {
        world.turn(100, &[]);
        back.extend(world.connects().into_iter().map(|conn| (tenth, conn)));
    }
    assert_eq!(back.len() as u32, all, "within the spread");
    let early = back.iter().filter(|(tenth, _)| *tenth < 25).count();
    assert!((30..70).contains(&early), "uniformly: {early} of {all} in the first half");
    world.decoders.clear();
    world.event(Event::Connected { conn: ConnSlot(1), errno: 0 });
    let sent = world.turn(1, &[]);
    let hello = sent.iter().find_map(|(conn, frame)| match frame {
        client_frame::Body::Connect(connect) if *conn == 1 => Some(connect),
        _ => None,
    });
    let resume = hello.and_then(|connect| connect.join[0].resume);
    assert_eq!(resume, Some(v1::Cursor { epoch: 5, seq: 100 }));
}

#[test]
fn churners_leave_and_join_in_turn_and_wait_for_no_answer() {
    let words = "churn --viewers 1 --publishers 1 --joins-per-s 5 --churners 1 --connects-per-s 0";
    let mut world = World::new(&format!("{words} --rate 0.1 --warmup 0s"));
    world.fill();
    world.turn(0, &[Order::Begin]);
    let moves = |sent: Vec<(u32, client_frame::Body)>| -> Vec<client_frame::Body> {
        sent.into_iter().filter(|(conn, _)| *conn == 2).map(|(_, frame)| frame).collect()
    };
    let left = v1::Leave { room: "load".into() };
    assert_eq!(moves(world.turn(100, &[])), [client_frame::Body::Leave(left)]);
    assert!(moves(world.turn(100, &[])).is_empty(), "it waits for the answer, and that is counted");
    world.say(2, Body::Left(v1::Left { room: "load".into(), code: 0 }));
    let sent = moves(world.turn(100, &[]));
    let resume = Some(v1::Cursor { epoch: 5, seq: 100 });
    assert_eq!(sent, [client_frame::Body::Join(v1::Join { room: "load".into(), resume })]);
    let result = world.result();
    assert_eq!((result.leaves, result.churn_due, result.churn_busy), (1, 3, 1));
}

#[test]
fn a_frozen_viewer_reads_nothing_until_it_thaws() {
    let words = "slow --viewers 1 --publishers 1 --rate 0.1 --warmup 0s --duration 10s";
    let mut world = World::new(words);
    let reads = |world: &World| {
        let of = |a: &&Action| matches!(a, Action::Read { conn } if conn.0 == 2);
        world.actions.as_slice().iter().filter(of).count()
    };
    world.turn(0, &[Order::Connect]);
    let manual =
        |a: &Action| matches!(a, Action::Connect { conn, manual_read: true, .. } if conn.0 == 2);
    assert!(world.actions.as_slice().iter().any(manual), "only this one reads on request");
    for conn in 0..3 {
        world.event(Event::Connected { conn: ConnSlot(conn), errno: 0 });
    }
    world.turn(1, &[]);
    assert_eq!(reads(&world), 1);
    for conn in 0..3 {
        world.welcome(conn);
    }
    world.turn(1, &[Order::Begin]);
    assert_eq!(reads(&world), 1, "one after the other");
    world.turn(700, &[]);
    let count = Body::Count(v1::Count { room: "load".into(), viewers: Some(3), likes: None });
    world.say(2, count);
    world.turn(1, &[]);
    assert_eq!(reads(&world), 0, "frozen");
    for _ in 0..70 {
        world.turn(100, &[]);
        let now = world.now.tick;
        assert!(reads(&world) == 0 || now.0 > 1_000_000 + 7_400_000, "thawed at {now:?}");
    }
    let thawed: usize = (0..10)
        .map(|_| {
            world.turn(100, &[]);
            reads(&world)
        })
        .sum();
    assert!(thawed <= 1, "a read is asked for once");
    assert!(world.crowd.links[2].reading, "it reads again");
}
