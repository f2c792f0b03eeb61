//! The contract against frames and moments, by themselves.

use super::*;

fn message(seq: u64) -> v1::StoredMessage {
    v1::StoredMessage { seq, ..v1::StoredMessage::default() }
}

fn push(seqs: &[u64]) -> Body {
    let messages = seqs.iter().map(|seq| message(*seq)).collect();
    Body::Stored(v1::Stored { conversation: "user:b".into(), messages })
}

fn synced(head_seq: u64, generation: u64) -> Body {
    let conversation = "user:b".to_owned();
    let state = v1::ConversationState { conversation, head_seq, ..Default::default() };
    Body::Synced(v1::Synced {
        generation,
        cursor: "9".into(),
        done: true,
        conversations: vec![state],
        ..v1::Synced::default()
    })
}

fn seqs(said: &[Said]) -> Vec<u64> {
    let seq = |said: &Said| match said {
        Said::Message(_, message) => Some(message.seq),
        _ => None,
    };
    said.iter().filter_map(seq).collect()
}

fn pull_of(frames: &[client_frame::Body]) -> (u32, u64, u64) {
    match &but_marks(frames.to_vec())[..] {
        [client_frame::Body::Pull(p)] => (p.id, p.ranges[0].from_seq, p.ranges[0].to_seq),
        other => panic!("one pull: {other:?}"),
    }
}

fn welcome(generation: u64) -> Body {
    Body::Welcome(v1::Welcome { user: "a".into(), generation, ..v1::Welcome::default() })
}

/// It connects: what it says first.
fn connect(inbox: &mut Inbox, now_ms: u64) -> Vec<client_frame::Body> {
    assert_eq!(inbox.receive(&welcome(0), now_ms), []);
    inbox.due(now_ms)
}

/// A device that has synced an empty store.
fn device() -> Inbox {
    let mut inbox = Inbox::default();
    assert!(matches!(connect(&mut inbox, 0)[..], [client_frame::Body::Sync(_)]));
    assert_eq!(inbox.receive(&synced(0, 1), 0), [Said::CaughtUp]);
    inbox
}

/// What of these frames is no mark.
fn but_marks(mut frames: Vec<client_frame::Body>) -> Vec<client_frame::Body> {
    frames.retain(|frame| !matches!(frame, client_frame::Body::Mark(_)));
    frames
}

/// What the one mark among these frames says: read and delivered.
fn marked(frames: &[client_frame::Body]) -> Option<(u64, u64)> {
    let mark = |frame: &client_frame::Body| match frame {
        client_frame::Body::Mark(v1::Mark { marks }) => Some(marks.clone()),
        _ => None,
    };
    let marks = frames.iter().find_map(mark)?;
    let [one] = &marks[..] else { panic!("one conversation: {marks:?}") };
    assert_eq!(one.conversation, "user:b");
    Some((one.read_seq, one.delivered_seq))
}

fn cursors(user: &str, read_seq: u64, delivered_seq: u64) -> Body {
    let users = vec![v1::UserCursor { user: user.into(), read_seq, delivered_seq }];
    Body::Cursors(v1::Cursors { conversation: "user:b".into(), users })
}

#[test]
fn pushes_come_out_once_and_in_order() {
    let mut inbox = device();
    assert_eq!(seqs(&inbox.receive(&push(&[1, 2]), 0)), [1, 2]);
    assert!(seqs(&inbox.receive(&push(&[2, 4]), 0)).is_empty());
    assert_eq!(but_marks(inbox.due(AHEAD_MS - 1)), [], "the missing one may be on its way");
    assert_eq!(seqs(&inbox.receive(&push(&[3, 3]), 0)), [3, 4]);
    assert_eq!((inbox.duplicates(), inbox.last_seq("user:b")), (2, 4));
}

#[test]
fn what_stays_missing_is_pulled() {
    let mut inbox = device();
    inbox.receive(&push(&[1, 4]), 10);
    assert!(but_marks(inbox.due(10)).is_empty());
    assert_eq!(inbox.next_due_ms(), Some(10 + AHEAD_MS));
    let (id, from, to) = pull_of(&inbox.due(10 + AHEAD_MS));
    assert_eq!((from, to), (2, 3));
    assert_eq!(but_marks(inbox.due(9_999)), [], "one pull at a time");
    let Body::Stored(part) = push(&[2, 3]) else { unreachable!() };
    let pulled = Body::Pulled(v1::Pulled { id, parts: vec![part], rest: Vec::new() });
    assert_eq!(seqs(&inbox.receive(&pulled, 600)), [2, 3, 4]);
    assert!(inbox.is_whole());
}

#[test]
fn a_backlog_is_pulled_at_once_and_a_new_generation_begins_anew() {
    let mut inbox = device();
    inbox.receive(&push(&[1]), 0);
    connect(&mut inbox, 100);
    inbox.receive(&synced(3, 1), 100);
    let (id, from, to) = pull_of(&inbox.due(100));
    assert_eq!((from, to), (2, 3));
    let Body::Stored(part) = push(&[2, 3]) else { unreachable!() };
    let pulled = Body::Pulled(v1::Pulled { id, parts: vec![part], rest: Vec::new() });
    let said = inbox.receive(&pulled, 100);
    assert_eq!((seqs(&said), said.last()), (vec![2, 3], Some(&Said::CaughtUp)));
    connect(&mut inbox, 200);
    assert_eq!(inbox.receive(&synced(1, 2), 200), [Said::Anew]);
    assert_eq!(inbox.last_seq("user:b"), 0);
    assert!(matches!(inbox.due(200)[..], [client_frame::Body::Sync(_)]));
}

#[test]
fn whatever_names_another_store_begins_anew_and_keeps_what_was_to_be_sent() {
    let resync = Body::Resync(v1::Resync { spread_ms: 1, generation: 2 });
    let sent = Body::Sent(v1::Sent { generation: 2, seq: 9, ..Default::default() });
    for word in [welcome(2), resync, sent, synced(0, 2)] {
        let mut inbox = device();
        inbox.receive(&push(&[1, 2]), 0);
        inbox.mark("user:b", 2, 0);
        inbox.send(send(1), 0);
        assert_eq!(inbox.receive(&word, 10), [Said::Anew], "{word:?}");
        assert_eq!((inbox.last_seq("user:b"), inbox.read_seq("user:b")), (0, 0));
        let again = client_frame::Body::Send(send(1));
        let sync = v1::Sync { cursor: String::new(), limit: 0 };
        assert_eq!(inbox.due(10), [client_frame::Body::Sync(sync), again], "{word:?}");
        let again = inbox.receive(&word, 11);
        assert!(!again.contains(&Said::Anew), "it is known now: {word:?}");
    }
}

#[test]
fn what_was_asked_of_the_store_before_says_nothing_of_the_new_one() {
    let stored = Body::Sent(v1::Sent { generation: 2, seq: 9, ..Default::default() });
    let resync = Body::Resync(v1::Resync { spread_ms: 1, generation: 2 });
    for word in [stored, resync] {
        let mut inbox = device();
        inbox.receive(&push(&[1, 3]), 0);
        let (pull, ..) = pull_of(&inbox.due(AHEAD_MS));
        let told = v1::Resync { spread_ms: 1, generation: 1 };
        inbox.receive(&Body::Resync(told), 600);
        let sync =
            |cursor: &str| [client_frame::Body::Sync(v1::Sync { cursor: cursor.into(), limit: 0 })];
        assert_eq!(but_marks(inbox.due(600)), sync("9"));
        assert_eq!(inbox.receive(&word, 610), [Said::Anew], "{word:?}");
        // A pull of before, and a sync on from the cursor of before, which names what is new alone.
        let Body::Stored(part) = push(&[2]) else { unreachable!() };
        let late = Body::Pulled(v1::Pulled { id: pull, parts: vec![part], rest: Vec::new() });
        assert_eq!(inbox.receive(&late, 620), [], "{word:?}");
        assert_eq!(inbox.due(620), [], "two syncs could be answered in any order");
        assert_eq!(inbox.receive(&synced(0, 2), 630), [], "it has not caught up by this");
        assert_eq!(inbox.due(630), sync(""), "from the beginning: {word:?}");
        assert_eq!(inbox.receive(&synced(0, 2), 640), [Said::CaughtUp]);
    }
}

#[test]
fn marks_are_gathered_and_told_twice_a_second_at_most() {
    let mut inbox = device();
    inbox.receive(&push(&[1, 2, 3]), 100);
    assert_eq!(marked(&inbox.due(100)), Some((0, 3)), "what arrived is told by itself");
    assert_eq!(marked(&inbox.mark("user:b", 1, 110)), None);
    assert_eq!(marked(&inbox.mark("user:b", 9, 120)), None, "and nothing that has not arrived");
    assert_eq!(inbox.read_seq("user:b"), 3);
    assert_eq!(inbox.next_due_ms(), Some(100 + MARK_EVERY_MS));
    assert_eq!(marked(&inbox.due(100 + MARK_EVERY_MS)), Some((3, 3)));
    assert_eq!(marked(&inbox.due(9_999)), None, "once");
    assert_eq!(marked(&inbox.mark("user:b", 2, 9_999)), None, "a lower one is none");
}

#[test]
fn what_the_server_may_not_have_is_marked_again_at_the_next_login() {
    let mut inbox = device();
    inbox.receive(&push(&[1, 2, 3]), 0);
    assert_eq!(marked(&inbox.mark("user:b", 2, 0)), Some((2, 3)));
    inbox.receive(&cursors("b", 3, 3), 5);
    assert!(!inbox.is_marked(), "those are another one's");
    inbox.receive(&cursors("a", 1, 3), 5);
    let first = connect(&mut inbox, 1_000);
    assert_eq!(marked(&first), None, "the sync may tell that it has them");
    inbox.receive(&synced(3, 1), 1_000);
    assert_eq!(marked(&inbox.due(1_000)), Some((2, 3)));
    inbox.receive(&cursors("a", 2, 3), 1_010);
    assert!(inbox.is_marked());
    connect(&mut inbox, 2_000);
    inbox.receive(&synced(3, 1), 2_000);
    assert_eq!(marked(&inbox.due(2_000)), None);
    // Read on another device meanwhile, and a mark that failed.
    inbox.receive(&push(&[4, 5]), 3_000);
    assert_eq!(marked(&inbox.mark("user:b", 5, 3_000)), Some((5, 5)));
    let busy = v1::Error { retry: true, retry_after_ms: 250, ..v1::Error::default() };
    inbox.receive(&Body::Error(busy), 3_010);
    assert!(matches!(inbox.due(3_260)[..], [client_frame::Body::Sync(_)]));
    inbox.receive(&synced(5, 1), 3_300);
    assert_eq!(marked(&inbox.due(3_500)), Some((5, 5)));
}

#[test]
fn nothing_is_marked_where_the_user_has_left() {
    let mut inbox = device();
    inbox.receive(&push(&[1, 2]), 0);
    connect(&mut inbox, 10);
    inbox.mark("user:b", 2, 10);
    let Body::Synced(mut left) = synced(2, 1) else { unreachable!() };
    left.conversations[0].left = true;
    inbox.receive(&Body::Synced(left), 20);
    assert_eq!((marked(&inbox.due(20)), inbox.is_marked()), (None, true));
}

fn reacted(reaction: &str, remove: bool, code: u32) -> v1::Reacted {
    let (conversation, reaction) = ("user:b".into(), reaction.into());
    let retry = code == 1004;
    v1::Reacted { conversation, seq: 1, reaction, remove, code, retry, retry_after_ms: 50 }
}

fn react(reaction: &str, remove: bool) -> v1::React {
    let (conversation, reaction) = ("user:b".into(), reaction.into());
    v1::React { conversation, seq: 1, reaction, remove }
}

#[test]
fn a_reaction_is_told_until_it_is_answered_and_the_last_word_counts() {
    let mut inbox = device();
    let add = || client_frame::Body::React(react("+1", false));
    let remove = || client_frame::Body::React(react("+1", true));
    assert_eq!(inbox.react(react("+1", false), 0), [add()]);
    assert_eq!(inbox.receive(&Body::Reacted(reacted("+1", false, 1004)), 10), []);
    assert_eq!((inbox.due(59), inbox.due(60)), (vec![], vec![add()]));
    // Taken back before it was answered: the old answer is not the new one's.
    assert_eq!(inbox.react(react("+1", true), 70), [remove()]);
    let old = reacted("+1", false, 0);
    assert_eq!(inbox.receive(&Body::Reacted(old.clone()), 80), [Said::Reacted(old)]);
    assert_eq!(inbox.unanswered_reactions(), 1);
    assert!(connect(&mut inbox, 100).contains(&remove()), "and on a new connection");
    assert_eq!(inbox.due(100 + ANSWER_MS - 1), []);
    assert_eq!(inbox.due(100 + ANSWER_MS), [remove()]);
    let refused = reacted("+1", true, 2021);
    assert_eq!(inbox.receive(&Body::Reacted(refused.clone()), 9_000), [Said::Reacted(refused)]);
    assert_eq!(inbox.unanswered_reactions(), 0);
}

#[test]
fn what_is_older_than_what_was_said_of_a_user_is_not_said() {
    let mut inbox = device();
    let of = |friend, changed_ms| v1::RelationState {
        user: "b".into(),
        friend,
        changed_ms,
        ..v1::RelationState::default()
    };
    let pushed = |state| Body::Relations(v1::Relations { users: vec![state] });
    assert_eq!(inbox.receive(&pushed(of(true, 7)), 0), [Said::Related(of(true, 7))]);
    let Body::Synced(late) = synced(0, 1) else { unreachable!() };
    let late = v1::Synced { relations: vec![of(false, 6)], ..late };
    assert_eq!(inbox.receive(&Body::Synced(late), 0), []);
    assert_eq!(inbox.receive(&pushed(of(false, 8)), 0), [Said::Related(of(false, 8))]);
    let settings = |changed_ms| v1::Settings { private_read: true, changed_ms, ..<_>::default() };
    let told = Body::Settings(settings(5));
    assert_eq!(inbox.receive(&told, 0), [Said::Settings(settings(5))]);
    assert_eq!(inbox.receive(&Body::Settings(settings(4)), 0), []);
}

#[test]
fn whom_a_whole_list_does_not_name_is_over_once_it_is_done() {
    let mut inbox = device();
    let of = |user: &str, friend, changed_ms| v1::RelationState {
        user: user.into(),
        friend,
        changed_ms,
        ..v1::RelationState::default()
    };
    let pushed = |state| Body::Relations(v1::Relations { users: vec![state] });
    for state in [of("b", true, 7), of("c", true, 7), of("d", true, 7), of("e", true, 90)] {
        inbox.receive(&pushed(state), 0);
    }
    let page = |anew_ms, done, state| {
        let Body::Synced(page) = synced(0, 1) else { unreachable!() };
        let relations = vec![state];
        Body::Synced(v1::Synced { relations_anew_ms: anew_ms, done, relations, ..page })
    };
    let said = inbox.receive(&page(50, false, of("b", true, 7)), 0);
    assert_eq!(said, [Said::Related(of("b", true, 7))], "not before it is done");
    let said = inbox.receive(&page(0, true, of("d", true, 8)), 0);
    let over = Said::Related(of("c", false, 7));
    assert_eq!(said, [Said::Related(of("d", true, 8)), over], "e came while it went on");
    let said = inbox.receive(&page(0, true, of("d", true, 8)), 0);
    assert_eq!(said, [Said::Related(of("d", true, 8))], "the next one names what has changed");
}

fn send(id: u8) -> v1::Send {
    let client_msg_id = Bytes::copy_from_slice(&[id; 16]);
    v1::Send { conversation: "user:b".into(), client_msg_id, ..v1::Send::default() }
}

fn answer(id: u8, seq: u64, retry: bool) -> Body {
    Body::Sent(v1::Sent {
        conversation: "user:b".into(),
        client_msg_id: Bytes::copy_from_slice(&[id; 16]),
        seq,
        code: u32::from(seq == 0),
        retry,
        retry_after_ms: 50,
        ..v1::Sent::default()
    })
}

#[test]
fn a_failed_batch_is_sent_again_in_its_order_before_anything_new() {
    let mut inbox = device();
    assert_eq!(inbox.send(send(1), 0), [client_frame::Body::Send(send(1))]);
    assert_eq!(inbox.send(send(2), 0), [], "it waits for the batch under way");
    assert_eq!(inbox.receive(&answer(1, 0, true), 0), []);
    assert_eq!(inbox.due(49), []);
    let again: Vec<_> = [1, 2].map(|id| client_frame::Body::Send(send(id))).into();
    assert_eq!(inbox.due(50), again);
    let stored = inbox.receive(&answer(1, 7, false), 60);
    assert_eq!(stored, [Said::Stored("user:b".into(), send(1).client_msg_id, 7)]);
    let refused = inbox.receive(&answer(2, 0, false), 60);
    assert_eq!(refused, [Said::Refused("user:b".into(), send(2).client_msg_id, 1)]);
    assert_eq!((inbox.unanswered(), inbox.due(99_999)), (0, vec![]));
}

#[test]
fn an_answer_that_never_comes_is_asked_for_again() {
    let mut inbox = device();
    inbox.send(send(1), 0);
    assert_eq!(inbox.next_due_ms(), Some(ANSWER_MS));
    assert_eq!(inbox.due(ANSWER_MS), [client_frame::Body::Send(send(1))]);
    let frames = connect(&mut inbox, ANSWER_MS + 1);
    assert!(frames.contains(&client_frame::Body::Send(send(1))), "and on a new connection");
}

#[test]
fn what_a_pull_leaves_out_is_not_waited_for() {
    let mut inbox = device();
    inbox.receive(&push(&[1]), 0);
    connect(&mut inbox, 100);
    inbox.receive(&synced(9, 1), 100);
    let (id, ..) = pull_of(&inbox.due(100));
    // 2 to 4 are kept no longer, 7 to 9 did not fit.
    let Body::Stored(part) = push(&[5, 6]) else { unreachable!() };
    let rest = v1::Range { conversation: "user:b".into(), from_seq: 7, to_seq: 9 };
    let pulled = v1::Pulled { id, parts: vec![part], rest: vec![rest] };
    assert_eq!(seqs(&inbox.receive(&Body::Pulled(pulled), 100)), [5, 6]);
    let (id, from, to) = pull_of(&inbox.due(100));
    assert_eq!((from, to), (7, 9));
    let nothing = v1::Pulled { id, parts: Vec::new(), rest: Vec::new() };
    assert_eq!(inbox.receive(&Body::Pulled(nothing), 100), [Said::CaughtUp]);
    assert_eq!((inbox.last_seq("user:b"), but_marks(inbox.due(9_999))), (9, vec![]));
}
