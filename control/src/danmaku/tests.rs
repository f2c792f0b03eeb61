//! Danmaku as the process runs it, with its threads and a real disk.

use super::testing::Folder;
use super::*;
use std::collections::BTreeSet;
use uproar_proto::ids::Epoch;
use uproar_proto::v1::{self, message::Content};

const ROOMS: u64 = 200;
const LINES: u64 = 30;

fn lines(room: u64, seq: u64) -> Lines {
    let message = v1::Message {
        seq,
        user: "ann".into(),
        time_ms: now_ms(),
        content: Some(Content::Text(format!("line {seq}"))),
        ..v1::Message::default()
    };
    let room = RoomId::new(&format!("room-{room}")).unwrap();
    Lines {
        room,
        epoch: Epoch(9),
        messages: vec![message],
        recalled: Vec::new(),
        recalled_of: Vec::new(),
    }
}

/// As after a restart: all rooms begin, and end their segments, in the same second.
#[test]
fn rooms_that_end_their_segments_together_lose_no_line() {
    let folder = Folder::new();
    let folder_of = folder.path().join("kept");
    let config = DanmakuConfig { folder: folder_of, segment_s: 1, ..DanmakuConfig::default() };
    let danmaku = Danmaku::start(config).unwrap();
    for seq in 1..=LINES {
        (0..ROOMS).for_each(|room| danmaku.lines(lines(room, seq)));
        std::thread::sleep(Duration::from_millis(100)); // a room's pace
    }
    let figures = &danmaku.shared.figures;
    let end = Instant::now() + Duration::from_secs(60);
    while figures.closed.load(Relaxed) < ROOMS || figures.open_segments.load(Relaxed) > 0 {
        assert!(Instant::now() < end, "segments are open for ever");
        std::thread::sleep(Duration::from_millis(50));
    }
    let room = |room: u64| Source::room(&RoomId::new(&format!("room-{room}")).unwrap());
    for number in 0..ROOMS {
        let of = danmaku.recordings(&room(number), None, 10).unwrap();
        let [RecordingView { recording, index, .. }] = &of[..] else { panic!("{}", of.len()) };
        assert_eq!(index.lines_lost, 0, "room {number}");
        let mut seqs = BTreeSet::new();
        for segment in index.segments.keys() {
            let view = danmaku.segment(&room(number), *recording, *segment).unwrap().unwrap();
            seqs.extend(view.segment.lines.iter().map(|line| line.seq));
        }
        assert_eq!(seqs, (1..=LINES).collect(), "room {number}");
    }
}

/// Of a user all is recalled that was said before, whatever segment it is in, and nothing after.
#[test]
fn what_a_user_had_said_is_recalled_and_nothing_after() {
    let folder = Folder::new();
    let folder_of = folder.path().join("kept");
    let config = DanmakuConfig { folder: folder_of, ..DanmakuConfig::default() };
    let danmaku = Danmaku::start(config).unwrap();
    (1..=3).for_each(|seq| danmaku.lines(lines(0, seq)));
    let of = v1::Recalled { user: "ann".into(), up_to_seq: 2, ..v1::Recalled::default() };
    danmaku.lines(Lines { messages: Vec::new(), recalled_of: vec![of], ..lines(0, 4) });
    danmaku.lines(lines(0, 4));
    let room = Source::room(&RoomId::new("room-0").unwrap());
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let of = danmaku.recordings(&room, None, 10).unwrap();
        let seqs: Vec<u64> = of
            .iter()
            .filter_map(|view| danmaku.segment(&room, view.recording, 0).unwrap())
            .flat_map(|view| view.segment.lines.into_iter().map(|line| line.seq))
            .collect();
        if seqs == [3, 4] {
            return;
        }
        assert!(Instant::now() < end, "{seqs:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
