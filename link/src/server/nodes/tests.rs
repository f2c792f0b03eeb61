//! Sessions, with time as a value.

use super::*;
use crate::frames::Reader;
use crate::v1::{self, Place, ask, penalty};
use crate::words::to_tell;
use uproar_proto::blocks::BlockList;
use uproar_proto::control::{Asked, ConnectionId, FilterList};
use uproar_proto::ids::McastId;

/// Writes down what it is asked.
#[derive(Default)]
struct Recorder {
    asks: Mutex<Vec<(u16, u32)>>,
    seen: Mutex<Vec<Seen>>,
    /// What is to be kept, by user, and what is asked of it, by number.
    kept: Mutex<Vec<String>>,
}

impl Control for Recorder {
    fn ask(&self, ask: Ask) {
        assert!(matches!(ask.what, Asked::Open { .. }));
        self.asks.lock().unwrap().push((ask.from.node, ask.number));
    }

    fn seen(&self, seen: Seen) {
        self.seen.lock().unwrap().push(seen);
    }

    fn penalties(&self, penalties: Penalties) {
        let users = penalties.list.into_iter().map(|one| one.user);
        self.kept.lock().unwrap().extend(users);
    }

    fn kept(&self, question: KeptQuestion) {
        self.kept.lock().unwrap().push(format!("{} of {}", question.number, question.node));
        assert_eq!(question.after, None);
    }
}

impl Recorder {
    fn asked(&self) -> Vec<(u16, u32)> {
        std::mem::take(&mut *self.asks.lock().unwrap())
    }
}

fn hello(instance: u64) -> Hello {
    Hello {
        version: VERSION,
        instance,
        address: format!("node-{instance}:7400"),
        http: format!("node-{instance}:7480"),
        load: Some(Load { connections: instance, connections_max: 100, closed: false }),
        ..Hello::default()
    }
}

fn at(instance: u64, session: u64, heard: u64) -> Hello {
    Hello { resume: Some(Place { session, heard }), ..hello(instance) }
}

/// A node that is linked and hears: its session and the number of its stream.
fn linked(nodes: &Nodes, instance: u64, now: Instant) -> (u64, u64) {
    let linked = nodes.hello(hello(instance), now).unwrap();
    assert!(!linked.resumed);
    (linked.session, nodes.open_stream(linked.session, 0, now).unwrap().0)
}

fn asks(session: u64, number: u64, asks: &[u32]) -> Asks {
    let ask = |number: &u32| v1::Ask {
        from: Some(v1::Connection::default()),
        number: *number,
        user: "u".into(),
        what: Some(ask::What::Open(v1::Open::default())),
    };
    Asks { session, number, asks: asks.iter().map(ask).collect(), ..Asks::default() }
}

/// The words a stream that has come to `after` brings, and how far.
fn heard(nodes: &Nodes, (session, stream): (u64, u64), after: u64) -> (Vec<Tell>, u64) {
    let Next::Chunk(chunk, seq) = nodes.next(session, stream, after) else {
        return (Vec::new(), after);
    };
    let mut reader = Reader::default();
    reader.feed(&chunk);
    let told = std::iter::from_fn(|| reader.next().unwrap());
    let tell = |told: v1::Told| to_tell(v1::Tell::decode(told.tell).unwrap()).unwrap();
    (told.map(tell).collect(), seq)
}

fn push(user: &str) -> Tell {
    Tell::Resync { mcast: McastId::user(user) }
}

fn answer(node: u16, number: u32) -> Tell {
    let to = ConnectionId { node, shard: 0, conn: 0, serial: 0 };
    Tell::Answer { to, number, frames: Vec::new() }
}

#[test]
fn what_is_for_all_goes_to_all_and_an_answer_to_its_node() {
    let (nodes, now, control) = (Nodes::default(), Instant::now(), Recorder::default());
    let (one, two) = (linked(&nodes, 1, now), linked(&nodes, 2, now));
    nodes.asked(asks(one.0, 1, &[7]), &control, now).unwrap();
    nodes.asked(asks(two.0, 1, &[8]), &control, now).unwrap();
    let asked = control.asked();
    assert_eq!(asked.iter().map(|(_, number)| *number).collect::<Vec<_>>(), [7, 8]);
    for tell in [answer(asked[1].0, 8), push("a"), answer(asked[0].0, 7), answer(99, 1)] {
        nodes.tell(tell).unwrap();
    }
    assert_eq!(heard(&nodes, one, 0), (vec![push("a"), answer(0, 7)], 2));
    assert_eq!(heard(&nodes, two, 0), (vec![answer(0, 8), push("a")], 2));
    assert_eq!(heard(&nodes, two, 1), (vec![push("a")], 2));
    assert_eq!(nodes.figures.dropped.load(Relaxed), 1);
}

#[test]
fn batches_are_taken_in_once_and_in_their_order() {
    let (nodes, now, control) = (Nodes::default(), Instant::now(), Recorder::default());
    let (session, _) = linked(&nodes, 1, now);
    for (number, what) in [(2, &[3, 4][..]), (1, &[1, 2]), (1, &[1, 2]), (2, &[3, 4]), (3, &[5])] {
        nodes.asked(asks(session, number, what), &control, now).unwrap();
    }
    assert_eq!(control.asked().iter().map(|(_, n)| *n).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(nodes.figures.repeats.load(Relaxed), 2);
    let far = nodes.asked(asks(session, 99, &[]), &control, now);
    assert!(matches!(far, Err(Refused::Bad(_))), "{far:?}");
    assert_eq!(nodes.asked(asks(session + 1, 1, &[]), &control, now), Err(Refused::Gone));
    let nobodys = Asks { asks: vec![v1::Ask::default()], ..asks(session, 4, &[]) };
    assert!(matches!(nodes.asked(nobodys, &control, now), Err(Refused::Bad(_))));
}

#[test]
fn a_broken_stream_goes_on_where_it_was() {
    let (nodes, now, control) = (Nodes::default(), Instant::now(), Recorder::default());
    let one = linked(&nodes, 1, now);
    for user in ["a", "b", "c"] {
        nodes.tell(push(user)).unwrap();
    }
    let said = Asks { heard: 1, ..asks(one.0, 1, &[]) };
    nodes.asked(said, &control, now).unwrap();
    nodes.stream_ended(one.0, one.1);
    assert!(nodes.nodes()[0].closed, "nobody is sent to a node that hears nothing");
    assert!(matches!(nodes.next(one.0, one.1, 1), Next::Over));
    assert!(nodes.hello(at(1, one.0, 2), now).unwrap().resumed);
    let stream = nodes.open_stream(one.0, 2, now).unwrap().0;
    assert_eq!(heard(&nodes, (one.0, stream), 2), (vec![push("c")], 3));
    // The newest stream has the place of those before; the end of an old one is nothing to it.
    let newer = nodes.open_stream(one.0, 2, now).unwrap().0;
    assert!(matches!(nodes.next(one.0, stream, 2), Next::Over));
    nodes.stream_ended(one.0, stream);
    assert_eq!(heard(&nodes, (one.0, newer), 2).0, [push("c")]);
    assert!(!nodes.nodes()[0].closed);
}

#[test]
fn who_cannot_go_on_begins_anew_as_another_node() {
    let (nodes, now, control) = (Nodes::default(), Instant::now(), Recorder::default());
    let old = linked(&nodes, 1, now);
    nodes.asked(asks(old.0, 1, &[1]), &control, now).unwrap();
    let was = control.asked()[0].0;
    nodes.tell(push("a")).unwrap();
    for place in [at(1, old.0, 2), at(1, old.0 + 1, 0), at(1, 0, 0)] {
        let linked = nodes.hello(place, now).unwrap();
        assert!(!linked.resumed);
        assert!(matches!(nodes.open_stream(old.0, 0, now), Err(Refused::Gone)));
        nodes.asked(asks(linked.session, 1, &[1]), &control, now).unwrap();
        let (number, _) = control.asked()[0];
        assert_ne!(number, was);
        // What was still to be answered of the old one goes nowhere.
        nodes.tell(answer(was, 1)).unwrap();
        let stream = nodes.open_stream(linked.session, 0, now).unwrap().0;
        assert_eq!(heard(&nodes, (linked.session, stream), 0).0, []);
    }
    // Another process may not have it either.
    let place = nodes.hello(hello(1), now).unwrap().session;
    assert!(!nodes.hello(at(2, place, 0), now).unwrap().resumed);
}

#[test]
fn a_node_that_is_silent_for_too_long_has_gone() {
    let (nodes, now, control) = (Nodes::default(), Instant::now(), Recorder::default());
    let (one, two) = (linked(&nodes, 1, now), linked(&nodes, 2, now));
    let later = now + SILENT_MAX - Duration::from_millis(1);
    nodes.sweep(later);
    assert_eq!(nodes.nodes().len(), 2);
    nodes.asked(asks(two.0, 1, &[]), &control, later).unwrap();
    nodes.sweep(now + SILENT_MAX);
    assert!(matches!(nodes.next(one.0, one.1, 0), Next::Over));
    assert!(!nodes.hello(at(1, one.0, 0), now + SILENT_MAX).unwrap().resumed);
    assert!(nodes.hello(at(2, two.0, 0), now + SILENT_MAX).unwrap().resumed);
}

#[test]
fn a_node_that_hears_too_little_begins_anew_and_costs_the_others_nothing() {
    let (nodes, now, control) = (Nodes::default(), Instant::now(), Recorder::default());
    let (deaf, well) = (linked(&nodes, 1, now), linked(&nodes, 2, now));
    let mut number = 0;
    while matches!(nodes.next(deaf.0, deaf.1, 0), Next::Later | Next::Chunk(..)) {
        for _ in 0..1_000 {
            nodes.tell(push("a")).unwrap();
        }
        number += 1;
        let said = Asks { heard: number * 1_000, ..asks(well.0, number, &[]) };
        nodes.asked(said, &control, now).unwrap();
        assert!(number < 1_000, "its buffer has a bound");
    }
    assert!(matches!(nodes.next(well.0, well.1, number * 1_000), Next::Later));
    assert_eq!(nodes.figures.overruns.load(Relaxed), 1);
    assert!(!nodes.hello(at(1, deaf.0, 0), now).unwrap().resumed);
}

#[test]
fn another_version_is_refused_and_both_are_named() {
    let other = Hello { version: 1, build: "9.8.7".into(), ..Hello::default() };
    let Err(Refused::Version(text)) = Nodes::default().hello(other, Instant::now()) else {
        panic!("it is refused")
    };
    let ours = format!("version {VERSION}");
    for part in [ours.as_str(), "uproar 9.8.7", "version 1", BUILD] {
        assert!(text.contains(part), "{part:?} is missing in: {text}");
    }
}

#[test]
fn who_takes_the_place_of_a_process_that_died_has_it_alone() {
    let (nodes, now) = (Nodes::default(), Instant::now());
    let one = linked(&nodes, 1, now);
    let again = || Hello { address: "node-1:7400".into(), ..hello(5) };
    nodes.hello(again(), now).unwrap();
    assert_eq!(nodes.nodes().len(), 2, "the first one lives");
    nodes.stream_ended(one.0, one.1);
    nodes.hello(Hello { instance: 6, ..again() }, now).unwrap();
    assert_eq!(nodes.nodes().len(), 1);
}

#[test]
fn there_are_so_many_nodes_and_numbers_come_back_late() {
    let (nodes, now) = (Nodes::default(), Instant::now());
    for instance in 1..=NODES_MAX as u64 {
        nodes.hello(hello(instance), now).unwrap();
    }
    let full = nodes.hello(hello(5_000), now);
    assert!(matches!(full, Err(Refused::Unavailable(_))), "{full:?}");
    nodes.hello(hello(1), now).unwrap();
    let numbers: Vec<u16> = nodes.state().nodes.keys().copied().collect();
    assert_eq!((numbers[0], numbers[NODES_MAX - 1]), (2, NODES_MAX as u16 + 1));
    nodes.state().last = u16::MAX;
    nodes.hello(hello(2), now).unwrap();
    assert!(nodes.state().nodes.contains_key(&1), "0 is nobody's");
}

#[test]
fn an_end_takes_everybody_along() {
    let (nodes, now) = (Nodes::default(), Instant::now());
    let one = linked(&nodes, 1, now);
    assert!(nodes.ready());
    nodes.end();
    assert!(matches!(nodes.next(one.0, one.1, 0), Next::Over));
    assert!(!nodes.ready() && nodes.nodes().is_empty());
    assert!(matches!(nodes.hello(hello(1), now), Err(Refused::Unavailable(_))));
}

#[test]
fn load_is_what_an_engine_said_last() {
    let (nodes, now, control) = (Nodes::default(), Instant::now(), Recorder::default());
    let (session, _) = linked(&nodes, 1, now);
    let load = Load { connections: 40, connections_max: 50, closed: true };
    let said = Asks { load: Some(load), ..asks(session, 1, &[]) };
    nodes.asked(said, &control, now).unwrap();
    let (address, connections, connections_max) = ("node-1:7400".into(), 40, 50);
    let expected = NodeLoad { address, connections, connections_max, closed: true };
    assert_eq!(nodes.nodes(), [expected]);
    assert_eq!(nodes.rooms_at(), Some(vec!["node-1:7480".to_owned()]));
    assert_eq!((nodes.node().connections, nodes.node().connections_max), (40, 50));
}

#[test]
fn a_session_begins_with_what_was_told_last() {
    let (nodes, now) = (Nodes::default(), Instant::now());
    let list = |version| Tell::Filter(Arc::new(FilterList { version, ..FilterList::default() }));
    let blocks = |version| Tell::Blocks(Arc::new(BlockList { version, ..BlockList::default() }));
    for tell in [list(1), blocks(3), Tell::Generation(7), push("a"), list(2), blocks(4)] {
        nodes.tell(tell).unwrap();
    }
    let node = linked(&nodes, 1, now);
    assert_eq!(heard(&nodes, node, 0).0, [Tell::Generation(7), list(2), blocks(4)]);
}

#[test]
fn what_is_to_be_kept_is_told_before_what_is_asked_of_it_and_the_answer_goes_to_its_node() {
    let (nodes, now, control) = (Nodes::default(), Instant::now(), Recorder::default());
    let (one, two) = (linked(&nodes, 1, now), linked(&nodes, 2, now));
    let room = || "stage".to_owned();
    let ban = |user: &str| v1::Penalty { of: Some(penalty::Of::Ban(user.into())), until_ms: 9 };
    let penalties = vec![v1::Penalties { room: room(), list: vec![ban("ann"), ban("bob")] }];
    let kept_questions = vec![v1::KeptQuestion { room: room(), number: 5, ..Default::default() }];
    let batch = Asks { penalties, kept_questions, ..asks(two.0, 1, &[]) };
    nodes.asked(batch, &control, now).unwrap();
    let kept = control.kept.lock().unwrap().clone();
    assert_eq!(kept, ["ann", "bob", "5 of 2"]);
    let room = uproar_proto::ids::RoomId::new("stage").unwrap();
    let epoch = uproar_proto::ids::Epoch(0);
    let question = KeptQuestion { node: 2, room, epoch, number: 5, after: None };
    nodes.tell(question.told(Vec::new(), true)).unwrap();
    let at_node = KeptQuestion { node: 0, ..question };
    assert_eq!(heard(&nodes, one, 0).0, []);
    assert_eq!(heard(&nodes, two, 0).0, [at_node.told(Vec::new(), true)]);
    let nobody = vec![v1::Penalties { room: "a b".into(), list: Vec::new() }];
    let bad = Asks { penalties: nobody, ..asks(two.0, 2, &[]) };
    assert!(matches!(nodes.asked(bad, &control, now), Err(Refused::Bad(_))));
}
