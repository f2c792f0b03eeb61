//! Coming back: what was missed arrives in order and once, or a gap says what is gone.

use crate::On;
use crate::client::Client;
use crate::server::Server;
use uproar_proto::v1::{self, Cursor, GapReason, server_frame::Body};

fn seqs(messages: &[v1::Message]) -> Vec<u64> {
    messages.iter().map(|m| m.seq).collect()
}

pub(crate) fn a_cursor_brings_what_was_missed_and_nothing_twice(on: On) {
    let server = Server::start(on.io, "[engine.rooms]\nsnapshot_messages_max = 2\n");
    let (mut client, joined) = Client::viewer(&server, on.wire, "stage");
    // Somebody else keeps the room alive meanwhile, on both shards as good as always.
    let _others: Vec<Client> =
        (0..4).map(|_| Client::viewer(&server, on.wire, "stage").0).collect();
    server.says("stage", "heard");
    let heard = client.messages("stage", 1).remove(0);
    drop(client);
    let missed: Vec<u64> = (0..6).map(|n| server.says("stage", &format!("missed {n}"))).collect();
    let cursor = Cursor { epoch: joined.epoch, seq: heard.seq };
    // Several come back with different cursors.
    let mut returned = Vec::new();
    for behind in [6, 3, 0] {
        let mut client = Client::guest(&server, on.wire);
        let seq = cursor.seq + 6 - behind as u64;
        client.ask_to_join("stage", Some(Cursor { seq, ..cursor }));
        let Body::Joined(back) = client.next() else { panic!("no gap: nothing is missing") };
        assert!(back.resumed, "{back:?}");
        assert_eq!(back.epoch, joined.epoch);
        let got = client.seqs_from(&back, behind);
        assert_eq!(got, missed[6 - behind..], "exactly what was missed");
        returned.push(client);
    }
    let next = server.says("stage", "and on it goes");
    for client in &mut returned {
        assert_eq!(next, client.messages("stage", 1)[0].seq);
    }
}

pub(crate) fn a_cursor_older_than_history_brings_a_gap(on: On) {
    let rooms = "[engine.rooms]\nhistory_messages_max = 5\nsnapshot_messages_max = 2\n";
    let server = Server::start(on.io, rooms);
    let (mut keeper, joined) = Client::viewer(&server, on.wire, "stage");
    let seqs_said: Vec<u64> = (0..20).map(|n| server.says("stage", &format!("{n}"))).collect();
    keeper.messages("stage", 20);
    let mut client = Client::guest(&server, on.wire);
    let cursor = Cursor { epoch: joined.epoch, seq: seqs_said[0] };
    client.ask_to_join("stage", Some(cursor));
    let Body::Gap(gap) = client.next() else { panic!("a gap comes first") };
    assert_eq!(
        (gap.reason(), gap.epoch, gap.room.as_str()),
        (GapReason::History, joined.epoch, "stage")
    );
    assert_eq!(gap.from_seq, seqs_said[1], "the first message it misses");
    let Body::Joined(back) = client.next() else { panic!("then joined") };
    assert!(!back.resumed);
    assert!(back.messages.len() >= 5, "at least the history it is promised: {back:?}");
    let expected: Vec<u64> = (gap.to_seq + 1..=seqs_said[19]).collect();
    assert_eq!(seqs(&back.messages), expected, "everything after the gap");
    assert_eq!(server.says("stage", "on"), client.messages("stage", 1)[0].seq);
    keeper.messages("stage", 1);
    // A cursor of the future is no cursor of this room's stream.
    let mut ahead = Client::guest(&server, on.wire);
    ahead.ask_to_join("stage", Some(Cursor { epoch: joined.epoch, seq: 1 << 40 }));
    let back = ahead.joined("stage");
    assert_eq!(back.seq, seqs_said[19] + 1);
    assert!(back.messages.is_empty() || back.messages.iter().all(|m| m.seq <= back.seq));
}

pub(crate) fn a_restart_is_another_epoch(on: On) {
    let mut server = Server::start_alone(on.io, "");
    let (mut client, joined) = Client::viewer(&server, on.wire, "stage");
    server.says("stage", "before the crash");
    let heard = client.messages("stage", 1).remove(0);
    server.kill();
    // The kernel closed the connection, or reset it: either way it is over.
    drop(client);
    let again = server.start_in_its_place();
    assert_eq!(again.clients, server.clients);
    let (_other, _) = Client::viewer(&again, on.wire, "stage");
    let seq = again.says("stage", "after it");
    let mut client = Client::guest(&again, on.wire);
    client.ask_to_join("stage", Some(Cursor { epoch: joined.epoch, seq: heard.seq }));
    let Body::Gap(gap) = client.next() else { panic!("a gap comes first") };
    assert_eq!(gap.reason(), GapReason::Epoch);
    assert_eq!((gap.from_seq, gap.to_seq), (0, 0), "what was missed is unknown");
    let Body::Joined(back) = client.next() else { panic!("then the snapshot") };
    assert!(!back.resumed && back.epoch != joined.epoch);
    assert_eq!(client.seqs_from(&back, 1), [seq]);
}
