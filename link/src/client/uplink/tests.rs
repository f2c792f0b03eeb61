//! The state machine, with time as a value; control is played by the test.

use super::*;
use crate::words::from_tell;
use uproar_proto::ids::McastId;
use uproar_proto::v1::{Sent, Sync, server_frame};

const ANN: ConnectionId = ConnectionId { node: 0, shard: 1, conn: 2, serial: 3 };
const BOB: ConnectionId = ConnectionId { serial: 4, ..ANN };

/// A machine whose stream stands, and the moment of that.
fn up() -> (Uplink, Instant) {
    let (mut link, now) = (Uplink::default(), Instant::now());
    assert_eq!(link.begin(77, now), []);
    link.stands(now);
    (link, now)
}

fn send(from: ConnectionId, number: u32, id: u8) -> Ask {
    let client_msg_id = Bytes::from(vec![id; 16]);
    let send = Send { conversation: "user:x".into(), client_msg_id, ..Send::default() };
    Ask { from, number, user: "u".into(), what: Asked::Frame(Body::Send(send)) }
}

fn sync(from: ConnectionId, number: u32) -> Ask {
    let what = Asked::Frame(Body::Sync(Sync::default()));
    Ask { from, number, user: "u".into(), what }
}

fn open(from: ConnectionId, number: u32) -> Ask {
    Ask { from, number, user: "u".into(), what: Asked::Open { login: None } }
}

/// The code of a refusal.
fn code(tell: &Tell) -> u32 {
    match tell {
        Tell::Opened { groups: Err(code), .. } => code.number(),
        Tell::Answer { frames, .. } => match &frames[0] {
            server_frame::Body::Sent(sent) => sent.code,
            server_frame::Body::Error(error) => error.code,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// Whose ask it answers.
fn whose(tell: &Tell) -> (ConnectionId, u32) {
    match tell {
        Tell::Opened { to, number, .. } | Tell::Answer { to, number, .. } => (*to, *number),
        other => panic!("{other:?}"),
    }
}

fn told(seq: u64, tell: Tell) -> Told {
    let tell = from_tell(tell).unwrap().encode_to_vec();
    Told { seq, tell: tell.into() }
}

fn answer(to: ConnectionId, number: u32) -> Tell {
    let sent = server_frame::Body::Sent(Sent { seq: 9, ..Sent::default() });
    Tell::Answer { to, number, frames: vec![sent] }
}

/// The next batch, as control reads it.
fn batch(link: &mut Uplink, now: Instant) -> Option<v1::Asks> {
    let (session, number) = link.next_batch(now, v1::Load::default())?;
    let body = link.body(session, number).unwrap();
    Some(v1::Asks::decode(body).unwrap())
}

fn numbers(batch: &v1::Asks) -> Vec<u32> {
    batch.asks.iter().map(|ask| ask.number).collect()
}

#[test]
fn asks_go_in_their_order_in_numbered_batches() {
    let (mut link, now) = up();
    assert!(batch(&mut link, now).is_none(), "there is nothing to say");
    for number in 0..1_100 {
        link.ask(sync(ANN, number), now).unwrap();
    }
    let batches: Vec<v1::Asks> = std::iter::from_fn(|| batch(&mut link, now)).collect();
    let all: Vec<u32> = batches.iter().flat_map(numbers).collect();
    assert_eq!(all, (0..1_100).collect::<Vec<_>>());
    assert_eq!(
        batches.iter().map(|b| (b.session, b.number)).collect::<Vec<_>>(),
        [(77, 1), (77, 2), (77, 3)]
    );
    assert_eq!(batches[0].asks.len(), BATCH_ASKS_MAX);
}

#[test]
fn so_many_batches_are_under_way_and_no_more() {
    let (mut link, now) = up();
    for number in 0..6 {
        link.ask(sync(ANN, number), now).unwrap();
        assert_eq!(batch(&mut link, now).is_some(), number < 4);
    }
    link.taken(77, 2);
    assert!(batch(&mut link, now + BEAT).is_none(), "the first one is missing: no further ahead");
    link.taken(77, 1);
    let fifth = batch(&mut link, now).unwrap();
    assert_eq!((fifth.number, numbers(&fifth)), (5, vec![4, 5]), "what waited goes together");
    link.taken(77, 1);
    link.ask(sync(ANN, 6), now).unwrap();
    assert_eq!(batch(&mut link, now).unwrap().number, 6);
    assert!(batch(&mut link, now + BEAT).is_none(), "taken in once");
}

#[test]
fn a_large_ask_travels_alone() {
    let (mut link, now) = up();
    let mut large = send(ANN, 1, 1);
    if let Asked::Frame(Body::Send(send)) = &mut large.what {
        send.text = "x".repeat(BATCH_BYTES_MAX);
    }
    link.ask(large, now).unwrap();
    link.ask(sync(ANN, 2), now).unwrap();
    assert_eq!(numbers(&batch(&mut link, now).unwrap()), [1]);
    assert_eq!(numbers(&batch(&mut link, now).unwrap()), [2]);
}

#[test]
fn who_has_nothing_to_ask_says_once_a_beat_that_it_is_there_and_what_it_heard() {
    let (mut link, now) = up();
    let push = Tell::Resync { mcast: McastId::user("a") };
    assert_eq!(link.hear(told(1, push.clone())), Ok(Some(push.clone())));
    assert!(batch(&mut link, now + BEAT - Duration::from_millis(1)).is_none());
    let first = batch(&mut link, now + BEAT).unwrap();
    assert_eq!((first.heard, first.asks.len()), (1, 0));
    assert!(batch(&mut link, now + BEAT).is_none());
    for seq in 2..=HEARD_EVERY + 1 {
        link.hear(told(seq, push.clone())).unwrap();
    }
    assert_eq!(batch(&mut link, now + BEAT).unwrap().heard, HEARD_EVERY + 1, "control may forget");
}

#[test]
fn a_batch_that_failed_goes_again_as_it_was() {
    let (mut link, now) = up();
    link.ask(send(ANN, 1, 1), now).unwrap();
    let (session, number) = link.next_batch(now, v1::Load::default()).unwrap();
    let body = link.body(session, number);
    assert_eq!(link.batch_failed(session, number, now), (1, vec![]));
    assert_eq!(link.body(session, number), body);
    link.taken(session, number);
    assert_eq!(link.body(session, number), None);
    assert_eq!(link.batch_failed(session, number, now), (0, vec![]));
    assert!(link.is_up());
}

#[test]
fn each_ask_gets_one_answer() {
    let (mut link, now) = up();
    link.ask(open(ANN, 1), now).unwrap();
    link.ask(send(ANN, 2, 1), now).unwrap();
    link.ask(sync(BOB, 2), now).unwrap();
    assert_eq!(link.owed(), (3, 3));
    let opened = Tell::Opened { to: ANN, number: 1, groups: Ok(vec![]) };
    assert_eq!(link.hear(told(1, opened.clone())), Ok(Some(opened.clone())));
    assert_eq!(link.hear(told(2, answer(BOB, 2))), Ok(Some(answer(BOB, 2))));
    assert_eq!(link.hear(told(3, answer(BOB, 2))), Ok(None), "answered already");
    assert_eq!(link.hear(told(4, opened)), Ok(None));
    assert_eq!(link.hear(told(5, answer(ANN, 2))), Ok(Some(answer(ANN, 2))));
    assert_eq!(link.owed().0, 0);
}

#[test]
fn the_stream_has_no_holes() {
    let (mut link, _) = up();
    let push = Tell::Resync { mcast: McastId::user("a") };
    assert_eq!(link.hear(Told::default()), Ok(None), "a heartbeat");
    link.hear(told(1, push.clone())).unwrap();
    assert!(link.hear(told(3, push.clone())).unwrap_err().contains("3 after 1"));
    assert!(link.hear(told(1, push)).is_err());
    assert_eq!(link.place(), Some((77, 1)));
}

#[test]
fn three_failed_tries_open_the_breaker_and_everything_owed_is_refused_in_order() {
    let (mut link, now) = up();
    for ask in [open(BOB, 1), send(ANN, 1, 1), sync(ANN, 2), send(ANN, 3, 2)] {
        link.ask(ask, now).unwrap();
    }
    assert_eq!(link.broken(now), (1, vec![]));
    assert_eq!(link.broken(now), (2, vec![]));
    assert!(link.is_up(), "a short break is nobody's business");
    link.ask(sync(BOB, 2), now).unwrap();
    let (tries, refused) = link.broken(now);
    let down = Code::StoreDown.number();
    assert_eq!((tries, link.is_up()), (3, false));
    assert!(refused.iter().all(|tell| code(tell) == down), "{refused:?}");
    let all: Vec<_> = refused.iter().map(whose).collect();
    assert_eq!(all, [(BOB, 1), (ANN, 1), (ANN, 2), (ANN, 3), (BOB, 2)]);
    assert_eq!(code(&link.ask(sync(ANN, 4), now).unwrap_err()), down, "at once");
    assert_eq!(link.broken(now), (4, vec![]), "told once");
    assert_eq!(link.owed(), (0, 0));
}

#[test]
fn a_stream_that_is_silent_opens_the_breaker() {
    let (mut link, now) = up();
    link.word(now + BEAT);
    link.ask(sync(ANN, 1), now).unwrap();
    assert_eq!(link.broken(now + BEAT + SILENT).1.len(), 1);
    assert!(!link.is_up());
    link.stands(now + SILENT + BEAT);
    assert!(link.is_up());
}

#[test]
fn a_batch_that_fails_again_and_again_opens_the_breaker_and_its_success_closes_it() {
    let (mut link, now) = up();
    link.ask(send(ANN, 1, 1), now).unwrap();
    let (session, number) = link.next_batch(now, v1::Load::default()).unwrap();
    link.batch_failed(session, number, now);
    link.batch_failed(session, number, now);
    let (_, refused) = link.batch_failed(session, number, now);
    assert_eq!(refused.len(), 1);
    assert!(!link.is_up());
    // It was refused: where it has not arrived it is not carried out later.
    let body = v1::Asks::decode(link.body(session, number).unwrap()).unwrap();
    assert_eq!((body.number, body.asks.len()), (1, 0));
    assert_eq!(link.batch_failed(session, number, now), (4, vec![]));
    link.taken(session, number);
    assert!(link.is_up());
}

#[test]
fn nothing_passes_a_lane_until_the_first_that_was_refused_comes_again() {
    let (mut link, now) = up();
    link.ask(send(ANN, 1, 1), now).unwrap();
    for _ in 0..3 {
        link.broken(now);
    }
    let behind = code(&link.ask(send(ANN, 2, 2), now).unwrap_err());
    assert_eq!(behind, Code::SlowDown.number());
    link.stands(now);
    assert!(link.ask(send(ANN, 3, 2), now).is_err(), "it waits for the first");
    link.ask(send(BOB, 1, 2), now).expect("another connection is another lane");
    link.ask(sync(ANN, 4), now).expect("no send, no lane");
    link.ask(send(ANN, 5, 1), now).unwrap();
    link.ask(send(ANN, 6, 2), now).unwrap();
    let sent = batch(&mut link, now).unwrap();
    assert_eq!(numbers(&sent), [1, 4, 5, 6]);
}

#[test]
fn an_answer_that_comes_after_its_ask_was_refused_is_nobodys() {
    let (mut link, now) = up();
    link.ask(send(ANN, 1, 1), now).unwrap();
    batch(&mut link, now).unwrap();
    for _ in 0..3 {
        link.broken(now);
    }
    link.stands(now); // resumed
    link.ask(send(ANN, 2, 1), now).unwrap();
    assert_eq!(link.hear(told(1, answer(ANN, 1))), Ok(None));
    assert_eq!(link.hear(told(2, answer(ANN, 2))), Ok(Some(answer(ANN, 2))));
}

#[test]
fn what_control_does_not_answer_for_long_is_refused_and_its_lane_waits() {
    let (mut link, now) = up();
    link.ask(send(ANN, 1, 1), now).unwrap();
    link.ask(sync(BOB, 1), now + BEAT).unwrap();
    batch(&mut link, now).unwrap();
    assert_eq!(link.expire(now + ANSWER_MAX - Duration::from_millis(1)), []);
    let late: Vec<_> = link.expire(now + ANSWER_MAX).iter().map(|t| (whose(t), code(t))).collect();
    assert_eq!(late, [((ANN, 1), Code::StoreDown.number())]);
    assert!(link.ask(send(ANN, 2, 2), now + ANSWER_MAX).is_err());
    assert_eq!(link.hear(told(1, answer(ANN, 1))), Ok(None), "too late");
    assert_eq!(link.hear(told(2, answer(BOB, 1))), Ok(Some(answer(BOB, 1))));
    assert_eq!(link.expire(now + ANSWER_MAX * 2), []);
}

#[test]
fn a_new_session_refuses_what_is_owed_and_counts_anew() {
    let (mut link, now) = up();
    link.ask(send(ANN, 1, 1), now).unwrap();
    let (old, number) = link.next_batch(now, v1::Load::default()).unwrap();
    link.hear(told(1, Tell::Resync { mcast: McastId::user("a") })).unwrap();
    link.forget(old);
    assert_eq!(link.place(), None);
    let refused = link.begin(88, now);
    assert_eq!(refused.iter().map(whose).collect::<Vec<_>>(), [(ANN, 1)]);
    assert_eq!(link.place(), Some((88, 0)));
    assert_eq!(link.body(old, number), None, "nobody sends a batch of the old one");
    link.taken(old, number);
    link.ask(send(ANN, 2, 1), now).unwrap();
    let first = batch(&mut link, now).unwrap();
    assert_eq!((first.session, first.number, numbers(&first)), (88, 1, vec![2]));
    link.forget(old);
    assert_eq!(link.place(), Some((88, 0)), "not its own");
}

#[test]
fn more_than_may_wait_is_refused() {
    let (mut link, now) = up();
    for number in 0..OWED_MAX as u32 {
        link.ask(sync(ANN, number), now).unwrap();
    }
    let full = Code::QueueFull.number();
    assert_eq!(code(&link.ask(send(BOB, 1, 1), now).unwrap_err()), full);
    assert_eq!(code(&link.ask(open(BOB, 2), now).unwrap_err()), full);
    link.hear(told(1, answer(ANN, 0))).unwrap();
    assert_eq!(
        code(&link.ask(send(BOB, 3, 2), now).unwrap_err()),
        Code::SlowDown.number(),
        "its lane waits for the first"
    );
    link.ask(send(BOB, 4, 1), now).unwrap();
}

#[test]
fn bytes_that_wait_have_a_bound_too() {
    let (mut link, now) = up();
    let large = |number| {
        let mut ask = send(ConnectionId { serial: u64::from(number), ..ANN }, number, 1);
        if let Asked::Frame(Body::Send(send)) = &mut ask.what {
            send.text = "x".repeat(8 << 20);
        }
        ask
    };
    let taken = (0..20).take_while(|number| link.ask(large(*number), now).is_ok()).count();
    assert_eq!(taken, 8, "64 MiB");
    batch(&mut link, now).unwrap();
    link.ask(large(30), now).unwrap();
}

#[test]
fn presence_is_said_while_the_way_is_open_and_within_its_bound() {
    let (mut link, now) = up();
    let seen = |users: usize| {
        let users = (0..users).map(|n| (n.to_string().into(), true)).collect();
        Seen { users, ..Seen::default() }
    };
    assert!(link.seen(seen(SEEN_USERS_MAX)));
    assert!(!link.seen(seen(1)));
    assert_eq!(batch(&mut link, now).unwrap().seen[0].users.len(), SEEN_USERS_MAX);
    assert!(link.seen(seen(1)));
    (0..3).for_each(|_| drop(link.broken(now)));
    assert!(!link.seen(seen(1)));
    link.stands(now);
    assert!(batch(&mut link, now).is_none(), "what was old is said again by the shard");
}

#[test]
fn lines_of_rooms_go_again_after_a_break_in_their_order_and_are_bounded() {
    let (mut link, now) = up();
    let lines = |seq| {
        let message = uproar_proto::v1::Message { seq, ..Default::default() };
        let room = uproar_proto::ids::RoomId::new("stage").unwrap();
        Lines {
            room,
            epoch: uproar_proto::ids::Epoch(7),
            messages: vec![message],
            recalled: Vec::new(),
            recalled_of: Vec::new(),
        }
    };
    let seqs = |batch: v1::Asks| batch.lines.iter().map(|l| l.messages[0].seq).collect::<Vec<_>>();
    (1..=2).for_each(|seq| assert!(link.lines(lines(seq))));
    assert_eq!(seqs(batch(&mut link, now).unwrap()), [1, 2]);
    assert!(link.lines(lines(3)));
    assert_eq!(seqs(batch(&mut link, now).unwrap()), [3]);
    // Neither was taken in; what comes while nothing passes is kept too.
    let later = now + SILENT;
    link.broken(later);
    assert!(link.lines(lines(4)));
    link.begin(78, later);
    link.stands(later);
    assert_eq!(seqs(batch(&mut link, later).unwrap()), [1, 2, 3, 4]);
    link.taken(78, 1);
    link.forget(78);
    assert_eq!(link.lines_bytes, 0, "what was taken in goes once");
    let mut large = lines(5);
    large.messages[0].user = "x".repeat(LINES_BYTES_MAX / 4);
    let taken = (0..5).filter(|_| link.lines(large.clone())).count();
    assert_eq!(taken, 3);
}

#[test]
fn questions_of_rooms_are_asked_once_or_answered_here() {
    let (mut link, now) = up();
    let question = |number| {
        let message = uproar_proto::v1::Message { user: "x".repeat(1_000), ..Default::default() };
        let room = uproar_proto::ids::RoomId::new("stage").unwrap();
        let epoch = uproar_proto::ids::Epoch(7);
        Question { node: 0, room, epoch, number, wait_ms: 500, message }
    };
    let numbers = |batch: v1::Asks| batch.questions.iter().map(|q| q.number).collect::<Vec<_>>();
    (1..=2).for_each(|number| link.question(question(number)).unwrap());
    assert_eq!(numbers(batch(&mut link, now).unwrap()), [1, 2]);
    link.question(question(3)).unwrap();
    // As many as fit into a batch, and as many as may wait.
    let taken = (4..).take_while(|number| link.question(question(*number)).is_ok()).count();
    assert!((4_000..4_300).contains(&taken), "{taken}");
    let undecided = question(9).judged(Judgement::Undecided);
    assert_eq!(link.question(question(9)), Err(undecided.clone()));
    let first = numbers(batch(&mut link, now).unwrap());
    assert!(first[0] == 3 && first.len() < 1_100, "{}", first.len());
    link.question(question(5_000)).unwrap();
    // While nothing passes nobody is asked, and what has waited is not asked later.
    let later = now + SILENT;
    link.broken(later);
    assert_eq!(link.question(question(9)), Err(undecided));
    link.begin(78, later);
    link.stands(later);
    assert_eq!(batch(&mut link, later).map(numbers).unwrap_or_default(), [] as [u64; 0]);
    link.question(question(1)).unwrap();
    assert_eq!(numbers(batch(&mut link, later).unwrap()), [1]);
}

#[test]
fn reports_are_bounded_and_not_sent_again() {
    let (mut link, now) = up();
    let report = |bytes: usize| {
        let reports = Bytes::from(vec![0; bytes]);
        Report { from: ANN, user: None, address: None, id: 1, reports }
    };
    assert_eq!(link.report(report(10)), Ok(()));
    assert_eq!(batch(&mut link, now).unwrap().reports.len(), 1);
    let taken = (0..10).filter(|_| link.report(report(REPORTS_BYTES_MAX / 4)).is_ok()).count();
    assert_eq!((taken, link.report(report(REPORTS_BYTES_MAX / 4))), (3, Err(Code::QueueFull)));
    // What is on its way and what waits is lost with the link: the next ones have the totals.
    (0..3).for_each(|_| drop(link.broken(now)));
    assert_eq!(link.report(report(1)), Err(Code::StoreDown));
    assert_eq!((link.reports.len(), link.reports_bytes), (0, 0));
    link.begin(78, now);
    link.stands(now);
    assert!(batch(&mut link, now).is_none());
}

fn room() -> uproar_proto::ids::RoomId {
    uproar_proto::ids::RoomId::new("stage").unwrap()
}

fn ban(user: &str, until_ms: u64) -> Penalties {
    let kind = uproar_proto::control::PenaltyKind::Ban;
    let list = vec![uproar_proto::control::Penalty { kind, user: user.into(), until_ms }];
    Penalties { room: room(), list }
}

fn kept(number: u32) -> KeptQuestion {
    let epoch = uproar_proto::ids::Epoch(7);
    KeptQuestion { node: 0, room: room(), epoch, number, after: None }
}

#[test]
fn what_rooms_decide_goes_again_after_a_break_in_its_order_and_is_bounded() {
    let (mut link, now) = up();
    let untils = |batch: v1::Asks| {
        batch.penalties.iter().map(|one| one.list[0].until_ms).collect::<Vec<_>>()
    };
    (1..=2).for_each(|until_ms| assert!(link.penalties(ban("ann", until_ms))));
    assert_eq!(untils(batch(&mut link, now).unwrap()), [1, 2]);
    assert!(link.penalties(ban("ann", 3)));
    assert_eq!(untils(batch(&mut link, now).unwrap()), [3]);
    // Neither was taken in; what is decided while nothing passes is kept too.
    let later = now + SILENT;
    link.broken(later);
    assert!(link.penalties(ban("ann", 0)));
    link.begin(78, later);
    link.stands(later);
    assert_eq!(untils(batch(&mut link, later).unwrap()), [1, 2, 3, 0]);
    link.taken(78, 1);
    link.forget(78);
    assert_eq!(link.penalties_bytes, 0, "what was taken in goes once");
    let many = (0..u64::MAX).take_while(|n| link.penalties(ban(&"x".repeat(64), *n))).count();
    assert!((90_000..110_000).contains(&many), "{many}");
}

#[test]
fn a_room_asks_behind_what_is_to_be_kept_and_not_while_nobody_hears() {
    let (mut link, now) = up();
    assert!(link.kept(kept(1)));
    // More than one batch takes.
    let many = (0..20_000).filter(|n| link.penalties(ban(&"x".repeat(64), *n))).count();
    let (mut penalties, mut asked) = (0, Vec::new());
    let mut number = 0;
    while penalties < many || asked.is_empty() {
        let batch = batch(&mut link, now).unwrap();
        number += 1;
        link.taken(77, number);
        penalties += batch.penalties.len();
        asked.extend(batch.kept_questions.iter().map(|one| (one.number, penalties)));
    }
    assert_eq!(asked, [(1, many)], "in {number} batches");
    assert!(number > 1);
    assert!(link.kept(kept(2)));
    link.broken(now + SILENT);
    assert!(!link.kept(kept(3)), "the room asks again");
    link.begin(78, now + SILENT);
    link.stands(now + SILENT);
    let next = batch(&mut link, now + SILENT);
    assert!(next.is_none(), "nor is what was asked before: {next:?}");
}
