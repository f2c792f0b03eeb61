//! A disk with a real S3 server behind it, which keeps its objects in a folder.

use super::super::Danmaku;
use super::super::config::S3Config;
use super::super::testing::Folder;
use super::*;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use tokio::runtime::Runtime;
use uproar_proto::control::Lines;
use uproar_proto::ids::{Epoch, RoomId};
use uproar_proto::v1::{self, message::Content};

const BUCKET: &str = "archive";
const VALUE: &str = "room=stage/0000000000005-0000000000000007/000000.pb.zst";
const OF_IT: &str = "room=stage/0000000000005-0000000000000007/index.json";

/// A server that is away once it is dropped; its objects stay.
struct S3 {
    _runtime: Runtime,
}

impl S3 {
    fn start(objects: &Folder, address: SocketAddr) -> S3 {
        fs::create_dir_all(objects.path().join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(FileSystem::new(objects.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single("who", "a secret key"));
        let service = builder.build();
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind(address)).unwrap();
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let http = hyper::server::conn::http1::Builder::new();
                tokio::spawn(http.serve_connection(TokioIo::new(socket), service.clone()));
            }
        });
        S3 { _runtime: runtime }
    }
}

/// One that nothing listens on, now.
fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

fn config(disk: &Folder, address: SocketAddr) -> DanmakuConfig {
    let s3 = S3Config {
        bucket: BUCKET.into(),
        endpoint: format!("http://{address}"),
        access_key_id: "who".into(),
        secret_access_key: "a secret key".into(),
        timeout_s: 2,
        ..S3Config::default()
    };
    let folder = disk.path().join("danmaku");
    DanmakuConfig { folder, s3, segment_s: 1, ..DanmakuConfig::default() }
}

fn tiers(config: &DanmakuConfig) -> Tiers {
    Tiers::start(config, Arc::default()).unwrap()
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is() {
        assert!(Instant::now() < end, "it never came to be that {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn nothing_waits(tiers: &Tiers) {
    until("nothing waits", || {
        let waiting = tiers.shared.waiting();
        waiting.names.is_empty() && waiting.under_way.is_empty()
    });
}

#[test]
fn what_is_written_goes_to_the_bucket_and_a_new_disk_finds_it_there() {
    let (objects, disk, address) = (Folder::new(), Folder::new(), free_address());
    let _s3 = S3::start(&objects, address);
    let first = tiers(&config(&disk, address));
    for value in ["one", "two"] {
        first.put(VALUE, value.as_bytes()).unwrap();
        first.put(OF_IT, b"{}").unwrap();
    }
    nothing_waits(&first);
    let object = |name: &str| objects.path().join(BUCKET).join("danmaku").join(name);
    assert_eq!(fs::read(object(VALUE)).unwrap(), b"two");
    assert_eq!(first.get(VALUE).unwrap().unwrap(), b"two");
    assert_eq!(first.shared.figures.fetches.load(Relaxed), 0, "the disk has a copy");

    let new_disk = Folder::new();
    let second = tiers(&config(&new_disk, address));
    assert_eq!(second.list("").unwrap(), ["room=stage"]);
    until("it is complete", || second.shared.is_complete.load(Relaxed));
    assert_eq!(second.list("room=stage").unwrap(), ["0000000000005-0000000000000007"]);
    let asked = second.shared.figures.fetches.load(Relaxed);
    assert_eq!(second.get(OF_IT).unwrap().unwrap(), b"{}");
    assert_eq!(second.get("room=none/0000000000005-0000000000000007/index.json").unwrap(), None);
    assert_eq!(second.shared.figures.fetches.load(Relaxed), asked, "every index is on the disk");
    assert_eq!(second.get(VALUE).unwrap().unwrap(), b"two");
    assert_eq!(second.shared.figures.fetches.load(Relaxed), asked + 1);

    second.remove("room=stage/0000000000005-0000000000000007").unwrap();
    assert!(!object(VALUE).exists() && !object(OF_IT).exists());
    assert_eq!(second.get(VALUE).unwrap(), None);
}

#[test]
fn a_bucket_that_is_away_delays_nothing_and_gets_all_of_it_later() {
    let (objects, disk, address) = (Folder::new(), Folder::new(), free_address());
    let config = config(&disk, address);
    let away = tiers(&config);
    away.put(VALUE, b"said while it was away").unwrap();
    until("a try has failed", || away.shared.figures.upload_failures.load(Relaxed) > 0);
    assert_eq!(away.get(VALUE).unwrap().unwrap(), b"said while it was away");
    drop(away);
    let again = tiers(&config);
    let _s3 = S3::start(&objects, address);
    nothing_waits(&again);
    let object = objects.path().join(BUCKET).join("danmaku").join(VALUE);
    assert_eq!(fs::read(object).unwrap(), b"said while it was away");
}

#[test]
fn the_disk_gives_up_copies_and_nothing_that_waits() {
    let (objects, disk, address) = (Folder::new(), Folder::new(), free_address());
    let mut config = config(&disk, address);
    config.disk_bytes_max = 1 << 20;
    let name =
        |number: u32| format!("room=stage/0000000000005-0000000000000007/{number:06}.pb.zst");
    let tiers = tiers(&config);
    let half = vec![7_u8; 512 << 10];
    tiers.put(&name(0), &half).unwrap();
    tiers.put(&name(1), &half).unwrap();
    assert!(tiers.put(&name(2), &half).is_err(), "all of it waits");
    let s3 = S3::start(&objects, address);
    nothing_waits(&tiers);
    tiers.put(&name(2), &half).unwrap();
    tiers.put(OF_IT, b"{}").unwrap();
    nothing_waits(&tiers);
    let on_disk: u64 = files(&config.folder).unwrap().iter().map(|file| file.bytes).sum();
    assert!(on_disk <= config.disk_bytes_max, "{on_disk}");
    for number in 0..3 {
        assert_eq!(tiers.get(&name(number)).unwrap().unwrap(), half, "{number}");
    }
    assert!(tiers.shared.figures.fetches.load(Relaxed) > 0);
    drop(s3);
    assert!(tiers.get(&name(0)).is_err(), "away is not the same as none");
}

#[test]
fn a_disk_from_before_is_carried_to_the_bucket() {
    let (objects, disk, address) = (Folder::new(), Folder::new(), free_address());
    let config = config(&disk, address);
    Disk::new(config.folder.clone()).put(VALUE, b"from before").unwrap();
    let _s3 = S3::start(&objects, address);
    let tiers = tiers(&config);
    nothing_waits(&tiers);
    let object = objects.path().join(BUCKET).join("danmaku").join(VALUE);
    assert_eq!(fs::read(object).unwrap(), b"from before");
    assert_eq!(tiers.get(VALUE).unwrap().unwrap(), b"from before");
}

/// Lines of a room that were said a second ago and more.
fn lines(room: &RoomId) -> Lines {
    let now_ms = super::super::now_ms();
    let message = |seq: u64| v1::Message {
        seq,
        user: "ann".into(),
        time_ms: now_ms - 10_000 + seq * 100,
        content: Some(Content::Text(format!("line {seq}"))),
        ..v1::Message::default()
    };
    let messages = (1..=20).map(message).collect();
    Lines {
        room: room.clone(),
        epoch: Epoch(9),
        messages,
        recalled: Vec::new(),
        recalled_of: Vec::new(),
    }
}

#[test]
fn another_server_replays_what_the_first_one_has_kept() {
    let (objects, disk, address) = (Folder::new(), Folder::new(), free_address());
    let _s3 = S3::start(&objects, address);
    let room = RoomId::new("stage").unwrap();
    let source = Source::room(&room);
    let first = Danmaku::start(config(&disk, address)).unwrap();
    first.lines(lines(&room));
    let closed = |danmaku: &Danmaku| {
        let all = danmaku.recordings(&source, None, 10).unwrap();
        let kept = all.first().map(|view| (view.recording, view.index.segments.clone()));
        kept.filter(|_| all[0].open.is_empty())
    };
    until("all is closed", || closed(&first).is_some_and(|(_, segments)| !segments.is_empty()));
    let figures = &first.shared.figures;
    until("nothing waits", || figures.upload_waiting.load(Relaxed) == 0);

    let new_disk = Folder::new();
    let second = Danmaku::start(config(&new_disk, address)).unwrap();
    let (recording, segments) = closed(&second).unwrap();
    assert_eq!(Some((recording, segments.clone())), closed(&first));
    let mut seqs = Vec::new();
    for number in segments.keys() {
        let view = second.segment(&source, recording, *number).unwrap().unwrap();
        seqs.extend(view.segment.lines.iter().map(|line| line.seq));
    }
    assert_eq!(seqs, (1..=20).collect::<Vec<u64>>());
}

#[test]
fn what_is_open_is_recalled_from_though_the_bucket_is_away() {
    let disk = Folder::new();
    let config = DanmakuConfig { segment_s: 360, ..config(&disk, free_address()) };
    let danmaku = Danmaku::start(config).unwrap();
    let room = RoomId::new("stage").unwrap();
    let seqs = || -> Vec<u64> {
        let desk = danmaku.shared.desk();
        let open = desk.open_places(&Source::room(&room), Some(9)).into_iter();
        let view = |place: super::super::place::Place| {
            desk.open_segment(&place.source, place.recording, place.number).unwrap()
        };
        open.flat_map(|place| view(place).segment.lines).map(|line| line.seq).collect()
    };
    danmaku.lines(lines(&room));
    until("all are in", || seqs().len() == 20);
    let (epoch, recalled) = (Epoch(9), vec![3, 4]);
    danmaku.lines(Lines {
        room: room.clone(),
        epoch,
        messages: Vec::new(),
        recalled,
        recalled_of: Vec::new(),
    });
    until("two are gone", || seqs().len() == 18 && !seqs().contains(&3));
}
