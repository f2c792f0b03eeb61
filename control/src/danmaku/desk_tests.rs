//! The desk on a real disk, with time as a value.

use super::super::clean;
use super::super::reads;
use super::super::shelf::Disk;
use super::super::testing::Folder;
use super::*;
use uproar_proto::ids::Epoch;
use uproar_proto::v1;

const BEGAN_MS: u64 = 1_764_131_378_000;
const EPOCH: u64 = 0xab;

fn config(folder: &Folder) -> DanmakuConfig {
    let folder = folder.path().join("kept");
    DanmakuConfig { folder, segment_s: 10, retry_s: 2, ..DanmakuConfig::default() }
}

fn desk(config: &DanmakuConfig) -> Desk {
    let shelf = Arc::new(Disk::new(config.folder.clone()));
    Desk::new(config.clone(), shelf, Arc::default())
}

/// Closes what is due, as the thread does it.
fn tick(desk: &mut Desk, now_ms: u64) {
    desk.flush();
    loop {
        let due = desk.due(now_ms);
        if due.is_empty() {
            return desk.settle(now_ms);
        }
        for mut closing in due {
            let written = closing.write(&*desk.shelf);
            desk.closed(closing, written, now_ms);
        }
    }
}

/// What files and folders below a folder take, but for open segments: whole blocks.
fn on_disk(folder: &std::path::Path) -> u64 {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let about = entry.metadata().unwrap();
        if entry.file_name() == "open" {
            continue;
        }
        bytes += if about.is_dir() {
            4_096 + on_disk(&entry.path())
        } else {
            about.len().next_multiple_of(4_096)
        };
    }
    bytes
}

#[test]
fn what_the_disk_gives_is_counted_and_bounded_and_not_what_is_in_it() {
    let folder = Folder::new();
    let mut desk = desk(&config(&folder));
    let kept = folder.path().join("kept");
    for n in 0..60 {
        let room = RoomId::new(&format!("room-{n}")).unwrap();
        desk.take(Lines { room, ..lines(vec![said(1, BEGAN_MS)]) }, BEGAN_MS);
    }
    let stored = |desk: &Desk| desk.figures.stored_bytes.load(Relaxed);
    tick(&mut desk, BEGAN_MS + 60_000);
    assert_eq!(stored(&desk), 60 * 16_384, "60 lines of a few bytes");
    // Another segment of one, and one that is written again, with more.
    let later = BEGAN_MS + 20_000;
    let more = (2..3_000).map(|seq| said(seq, if seq == 2 { BEGAN_MS } else { later })).collect();
    let room = RoomId::new("room-7").unwrap();
    desk.take(Lines { room, ..lines(more) }, BEGAN_MS + 60_000);
    tick(&mut desk, BEGAN_MS + 120_000);
    assert_eq!(stored(&desk), on_disk(&kept));
    assert!(stored(&desk) > 60 * 16_384 + 4_096, "{}", stored(&desk));
    let all = clean::walk(&*desk.shelf).unwrap();
    assert_eq!(all.iter().map(|old| old.bytes).sum::<u64>(), on_disk(&kept), "after a restart");
    let bytes_max = 32 * 16_384;
    let (_, for_room) = clean::choose(&all, BEGAN_MS, 0, bytes_max);
    for old in &all[..for_room] {
        assert!(desk.remove(&old.place).unwrap());
    }
    assert!(for_room >= 28 && on_disk(&kept) <= bytes_max, "{}", on_disk(&kept));
    assert_eq!(std::fs::read_dir(&kept).unwrap().count(), 61 - for_room, "and `open`");
}

fn room() -> Source {
    Source::room(&RoomId::new("stage").unwrap())
}

fn said(seq: u64, time_ms: u64) -> v1::Message {
    let text = format!("line {seq}");
    v1::Message {
        seq,
        class: Class::Chat.into(),
        user: if seq.is_multiple_of(2) { "even".into() } else { "odd".into() },
        time_ms,
        content: Some(message::Content::Text(text)),
        ..v1::Message::default()
    }
}

fn lines(messages: Vec<v1::Message>) -> Lines {
    Lines {
        room: RoomId::new("stage").unwrap(),
        epoch: Epoch(EPOCH),
        messages,
        recalled: Vec::new(),
        recalled_of: Vec::new(),
    }
}

fn recordings(desk: &Desk, before: Option<Recording>, limit: usize) -> Vec<RecordingView> {
    reads::recordings(&*desk.shelf, || desk, &room(), before, limit).unwrap()
}

fn view(desk: &Desk, recording: Recording, number: u32) -> Option<View> {
    reads::segment(&*desk.shelf, || desk, (&room(), recording, number)).unwrap()
}

/// The only recording of the room.
fn recording(desk: &Desk) -> RecordingView {
    let mut all = recordings(desk, None, 10);
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn seqs(desk: &Desk, number: u32) -> Vec<u64> {
    let view = view(desk, recording(desk).recording, number);
    view.map(|v| v.segment.lines.iter().map(|line| line.seq).collect()).unwrap_or_default()
}

fn version(desk: &Desk, number: u32) -> u32 {
    recording(desk).index.segments[&number].version
}

#[test]
fn a_replay_has_the_order_and_the_offsets_of_the_room() {
    let folder = Folder::new();
    let mut desk = desk(&config(&folder));
    // One a second; each third was received before the one before it, as a gift may be.
    let time = |seq: u64| BEGAN_MS + seq * 1_000 - if seq.is_multiple_of(3) { 1_200 } else { 0 };
    for seq in 1..=25 {
        desk.take(lines(vec![said(seq, time(seq))]), BEGAN_MS + seq * 1_000);
        desk.flush();
        tick(&mut desk, BEGAN_MS + seq * 1_000);
    }
    let start_ms = recording(&desk).recording.start_ms;
    let closed = |desk: &Desk| recording(desk).index.segments.keys().copied().collect::<Vec<_>>();
    assert_eq!(closed(&desk), [0, 1], "the third one is written to");
    tick(&mut desk, start_ms + 30_000 + GRACE_MS - 1);
    assert_eq!(closed(&desk), [0, 1]);
    tick(&mut desk, start_ms + 30_000 + GRACE_MS);
    assert_eq!(closed(&desk), [0, 1, 2], "closed within 5 s of its end");
    let mut all = Vec::new();
    for number in 0..3 {
        let view = view(&desk, recording(&desk).recording, number).unwrap();
        assert!(!view.is_open);
        let within = |line: &DanmakuLine| line.offset_ms / 10_000 == number;
        assert!(view.segment.lines.iter().all(within));
        all.extend(view.segment.lines);
    }
    all.sort_by_key(|line| line.seq);
    for (line, seq) in all.iter().zip(1..) {
        assert_eq!((line.seq, start_ms + u64::from(line.offset_ms)), (seq, time(seq)));
    }
    assert_eq!(all.len(), 25);
    assert!(std::fs::read_dir(desk.spools()).unwrap().next().is_none(), "nothing is left open");
}

#[test]
fn a_gift_is_kept_with_its_combo() {
    let folder = Folder::new();
    let mut desk = desk(&config(&folder));
    let combo = Some(Box::new(v1::Combo { gift: "rose".into(), count: 3, total: 9, combo: 2 }));
    let gift = v1::Message {
        class: Class::Gift.into(),
        combo: combo.clone(),
        content: None,
        ..said(1, BEGAN_MS)
    };
    desk.take(lines(vec![gift]), BEGAN_MS);
    desk.flush();
    let view = view(&desk, recording(&desk).recording, 0).unwrap();
    let line = &view.segment.lines[0];
    assert_eq!((&line.combo, &line.content, line.class()), (&combo, &None, Class::Gift));
}

#[test]
fn a_crash_takes_only_what_was_not_flushed() {
    let folder = Folder::new();
    let config = config(&folder);
    let mut before = desk(&config);
    before.take(lines((1..=5).map(|seq| said(seq, BEGAN_MS)).collect()), BEGAN_MS);
    before.flush();
    before.take(lines(vec![said(6, BEGAN_MS + 1)]), BEGAN_MS + 1);
    drop(before);
    let mut after = desk(&config);
    after.recover(BEGAN_MS + 500).unwrap();
    assert_eq!(seqs(&after, 0), [1, 2, 3, 4, 5]);
    // The engine goes on in the same life, and what comes once more is there once.
    after.take(lines(vec![said(5, BEGAN_MS), said(7, BEGAN_MS + 600)]), BEGAN_MS + 600);
    tick(&mut after, BEGAN_MS + 20_000);
    assert_eq!(seqs(&after, 0), [1, 2, 3, 4, 5, 7]);
    assert_eq!(recording(&after).index.lines_lost, 1, "the sixth, by its seq");
    // Once more: a process ended between the segment and its spool.
    let mut again = desk(&config);
    again.recover(BEGAN_MS + 21_000).unwrap();
    again.take(lines(vec![said(7, BEGAN_MS + 600), said(8, BEGAN_MS + 700)]), BEGAN_MS + 21_000);
    tick(&mut again, BEGAN_MS + 21_000 + AGAIN_MS);
    assert_eq!(seqs(&again, 0), [1, 2, 3, 4, 5, 7, 8], "a late line: the segment is written anew");
    assert_eq!((version(&again, 0), recording(&again).index.lines_lost), (2, 1));
}

#[test]
fn what_is_recalled_is_in_no_segment_and_a_closed_one_has_a_new_version() {
    let folder = Folder::new();
    let config = config(&folder);
    let mut desk = desk(&config);
    desk.take(lines((1..=6).map(|seq| said(seq, BEGAN_MS)).collect()), BEGAN_MS);
    tick(&mut desk, BEGAN_MS + 12_000);
    desk.take(lines((7..=9).map(|seq| said(seq, BEGAN_MS + 11_000)).collect()), BEGAN_MS + 12_000);
    desk.flush();
    let place = |number| {
        let recording = recording(&desk).recording;
        Place { source: room(), recording, number, length_ms: 10_000 }
    };
    let (closed, open) = (place(0), place(1));
    let line = Recalled::Line(3);
    assert_eq!(desk.recall(&closed, &line, BEGAN_MS).unwrap(), 1);
    assert_eq!(desk.recall(&closed, &line, BEGAN_MS).unwrap(), 0, "it is gone");
    assert_eq!(desk.recall(&closed, &Recalled::Line(30), BEGAN_MS).unwrap(), 0);
    assert_eq!((seqs(&desk, 0), version(&desk, 0)), (vec![1, 2, 4, 5, 6], 2));
    let user = Recalled::Of("even".into(), u64::MAX);
    assert_eq!(desk.recall(&closed, &Recalled::Of("even".into(), 4), BEGAN_MS).unwrap(), 2);
    assert_eq!(desk.recall(&closed, &user, BEGAN_MS).unwrap(), 1);
    assert_eq!(desk.recall(&open, &Recalled::Of("even".into(), 6), BEGAN_MS).unwrap(), 0);
    assert_eq!(desk.recall(&open, &user, BEGAN_MS).unwrap(), 1);
    assert_eq!((seqs(&desk, 0), version(&desk, 0)), (vec![1, 5], 4));
    assert_eq!(seqs(&desk, 1), [7, 9]);
    // It does not come back after a crash.
    drop(desk);
    let mut after =
        super::Desk::new(config.clone(), Arc::new(Disk::new(config.folder)), Arc::default());
    after.recover(BEGAN_MS + 13_000).unwrap();
    assert_eq!((seqs(&after, 0), seqs(&after, 1)), (vec![1, 5], vec![7, 9]));
}

#[test]
fn a_disk_that_takes_nothing_is_counted_and_one_that_comes_back_is_used() {
    let folder = Folder::new();
    let config = config(&folder);
    // Where the folder is to be stands a file: nothing can be written below it, by anybody.
    std::fs::write(&config.folder, "").unwrap();
    let mut desk = desk(&config);
    let count = |desk: &Desk, name: &str, label: &str| {
        let is = |s: &&uproar_proto::control::Sample| {
            s.name == name && (label.is_empty() || s.labels.iter().any(|(_, v)| v == label))
        };
        match desk.figures.samples().iter().find(is).unwrap().value {
            uproar_proto::control::SampleValue::Number(value) => value as u64,
            _ => unreachable!("it is a number"),
        }
    };
    desk.take(lines((1..=5).map(|seq| said(seq, BEGAN_MS)).collect()), BEGAN_MS);
    desk.flush();
    assert_eq!(count(&desk, "uproar_danmaku_failures_total", ""), 1);
    let of = desk.active.keys().next().unwrap().1;
    assert_eq!(view(&desk, of, 0).unwrap().segment.lines.len(), 5, "it is served from memory");
    for second in 13..=16 {
        tick(&mut desk, BEGAN_MS + second * 1_000);
    }
    assert_eq!(count(&desk, "uproar_danmaku_lost_total", "store"), 5, "after danmaku.retry_s");
    assert_eq!(desk.active[&(room(), of)].index.lines_lost, 5);
    assert_eq!((desk.open.len(), desk.open_bytes), (0, 0));
    desk.take(lines(vec![said(6, BEGAN_MS + 15_000)]), BEGAN_MS + 16_000);
    std::fs::remove_file(&config.folder).unwrap();
    desk.flush();
    tick(&mut desk, BEGAN_MS + 30_000);
    assert_eq!(seqs(&desk, 1), [6], "the disk is back");
    assert_eq!(recording(&desk).index.lines_lost, 5, "the index says what was lost");
}

#[test]
fn what_finds_no_room_is_counted() {
    let folder = Folder::new();
    let config = DanmakuConfig { open_segments_max: 1, open_bytes_max: 2_000, ..config(&folder) };
    let mut desk = desk(&config);
    let other = RoomId::new("other").unwrap();
    desk.take(lines((1..=3).map(|seq| said(seq, BEGAN_MS)).collect()), BEGAN_MS);
    let elsewhere = Lines { room: other, ..lines(vec![said(1, BEGAN_MS)]) };
    desk.take(elsewhere, BEGAN_MS);
    desk.take(lines(vec![said(9, BEGAN_MS)]), BEGAN_MS);
    desk.take(lines((10..=20).map(|seq| said(seq, BEGAN_MS)).collect()), BEGAN_MS);
    let kept = seqs(&desk, 0).len() as u64;
    assert!((5..=9).contains(&kept), "{kept}");
    assert_eq!(
        recording(&desk).index.lines_lost,
        20 - kept,
        "5 by seq, the others for want of room"
    );
    tick(&mut desk, BEGAN_MS + 12_000);
    assert_eq!((desk.open.len(), desk.open_bytes), (0, 0));
}

#[test]
fn a_day_is_a_recording() {
    let folder = Folder::new();
    let mut desk = desk(&config(&folder));
    desk.take(lines(vec![said(1, BEGAN_MS)]), BEGAN_MS);
    let later_ms = BEGAN_MS + RECORDING_MS_MAX - LEAD_MS;
    tick(&mut desk, later_ms);
    desk.take(lines(vec![said(2, later_ms - 1), said(3, later_ms)]), later_ms);
    desk.take(lines(vec![said(4, later_ms + 5)]), later_ms);
    let all = recordings(&desk, None, 10);
    let starts: Vec<u64> = all.iter().map(|view| view.recording.start_ms).collect();
    assert_eq!(starts, [later_ms, BEGAN_MS - LEAD_MS]);
    assert_eq!(recordings(&desk, Some(all[0].recording), 10).len(), 1);
    assert_eq!(recordings(&desk, None, 1).len(), 1);
}

#[test]
fn lines_of_a_video_come_in_any_order_and_at_any_time() {
    let folder = Folder::new();
    let config = config(&folder);
    let mut desk = desk(&config);
    let video = RoomId::new("v1").unwrap();
    let write = |desk: &mut Desk, offset_ms, now_ms| {
        desk.write(&video, "ann", "hello".into(), offset_ms, now_ms).unwrap()
    };
    let first = write(&mut desk, 5_000, BEGAN_MS);
    assert!(write(&mut desk, 1_000, BEGAN_MS) > first, "of one moment too");
    let offsets = |desk: &Desk| {
        let of = (&Source::video(&video), OF_VIDEO, 0);
        let view = reads::segment(&*desk.shelf, || desk, of).unwrap().unwrap();
        view.segment.lines.iter().map(|line| line.offset_ms).collect::<Vec<_>>()
    };
    assert_eq!(offsets(&desk), [1_000, 5_000], "it is seen at once");
    tick(&mut desk, BEGAN_MS + AGAIN_MS);
    assert!(desk.open.is_empty());
    write(&mut desk, 3_000, BEGAN_MS + 100_000);
    assert_eq!(offsets(&desk), [1_000, 3_000, 5_000]);
    tick(&mut desk, BEGAN_MS + 200_000);
    let source = Source::video(&video);
    let view = reads::recording(&*desk.shelf, || &desk, &source, OF_VIDEO).unwrap().unwrap();
    let entry = view.index.segments[&0];
    assert_eq!((entry.version, entry.lines, entry.seq_min), (2, 3, first));
}

#[test]
fn what_is_removed_is_gone_from_the_index_and_the_last_one_takes_its_recording_along() {
    let folder = Folder::new();
    let config = config(&folder);
    let mut desk = desk(&config);
    desk.take(lines(vec![said(1, BEGAN_MS), said(2, BEGAN_MS + 10_000)]), BEGAN_MS);
    tick(&mut desk, BEGAN_MS + 30_000);
    let all = super::super::clean::walk(&*desk.shelf).unwrap();
    assert_eq!(all.iter().map(|old| old.place.number).collect::<Vec<_>>(), [0, 1]);
    assert!(all.iter().all(|old| old.bytes > 0));
    assert!(desk.remove(&all[0].place).unwrap());
    assert_eq!((seqs(&desk, 0), seqs(&desk, 1)), (vec![], vec![2]));
    assert!(desk.remove(&all[1].place).unwrap());
    assert!(super::super::clean::walk(&*desk.shelf).unwrap().is_empty());
    assert!(!config.folder.join("room=stage").exists(), "an empty folder takes room too");
}

#[test]
fn what_comes_while_a_segment_is_written_is_written_again() {
    let folder = Folder::new();
    let mut desk = desk(&config(&folder));
    let end_ms = BEGAN_MS + 9_000;
    desk.take(lines(vec![said(1, BEGAN_MS), said(2, BEGAN_MS + 10)]), BEGAN_MS);
    let mut due = desk.due(end_ms + GRACE_MS + AGAIN_MS);
    assert_eq!(due.len(), 1);
    assert!(desk.due(end_ms + GRACE_MS + AGAIN_MS).is_empty(), "it is under way");
    // A late line, and a recall of one that is on its way to the shelf.
    desk.take(lines(vec![said(3, BEGAN_MS + 20)]), end_ms);
    let RecordingView { recording: of, index, .. } = recording(&desk);
    let place = Place { source: room(), recording: of, number: 0, length_ms: index.length_ms };
    assert_eq!(desk.recall(&place, &Recalled::Line(1), end_ms).unwrap(), 1);
    let mut closing = due.remove(0);
    let written = closing.write(&*desk.shelf);
    desk.closed(closing, written, end_ms);
    assert_eq!((seqs(&desk, 0), recording(&desk).open.len()), (vec![2, 3], 1));
    tick(&mut desk, end_ms + AGAIN_MS);
    assert!(recording(&desk).open.is_empty());
    assert_eq!((seqs(&desk, 0), version(&desk, 0)), (vec![2, 3], 2));
    // Nothing of the first version is left.
    let shelf = Disk::new(config(&folder).folder);
    let on_shelf = index::read_segment(&shelf, &room(), of, 0).unwrap().unwrap();
    assert_eq!(on_shelf.lines.iter().map(|line| line.seq).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn an_index_that_was_overtaken_is_written_again() {
    let folder = Folder::new();
    let mut desk = desk(&config(&folder));
    for seq in 1..=2 {
        desk.take(lines(vec![said(seq, BEGAN_MS + (seq - 1) * 10_000)]), BEGAN_MS);
    }
    let later_ms = BEGAN_MS + 60_000;
    let mut first = desk.due(later_ms);
    assert_eq!(first.len(), 1, "both segments share an index");
    let mut first = first.remove(0);
    let written = first.write(&*desk.shelf);
    desk.closed(first, written, later_ms);
    let mut second = desk.due(later_ms);
    let mut second = second.remove(0);
    // Between its copy of the index and its writing, the first one is recalled from.
    let RecordingView { recording: of, index, .. } = recording(&desk);
    let place = Place { source: room(), recording: of, number: 0, length_ms: index.length_ms };
    assert_eq!(desk.recall(&place, &Recalled::Line(1), later_ms).unwrap(), 1);
    let written = second.write(&*desk.shelf);
    desk.closed(second, written, later_ms);
    desk.settle(later_ms);
    let kept = Index::read(&*desk.shelf, &room(), of).unwrap().unwrap();
    let versions: Vec<u32> = kept.segments.values().map(|entry| entry.version).collect();
    assert_eq!(versions, [2, 1]);
}
