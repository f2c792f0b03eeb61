//! What the kernel does only when something runs out: here the ring is tiny.

use super::*;
use crate::io::probe;
use bytes::Bytes;
use std::io::Write;
use std::net::{TcpListener, TcpStream};

/// A driver on a ring of 8 submissions, 16 completions and 4 buffers, with `count` connections;
/// the other ends come with it. `None`: no io_uring here.
fn tiny(count: u32, manual_read: bool) -> Option<(UringDriver, Vec<TcpStream>, OwnedFd)> {
    if let Err(why) = probe(crate::config::IoChoice::Uring) {
        eprintln!("not tested on io_uring: {why}");
        return None;
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let dial = Dial::new(vec![listener.local_addr().expect("an address")], 0);
    let wake = sys::eventfd().expect("an eventfd");
    let ring = Ring::new(8, 16, 4).expect("a ring");
    let counters = Arc::from([IoCounters::default()]);
    let mut driver = UringDriver::on(ring, None, dial, wake.as_raw_fd(), counters, 0);
    let (mut peers, mut connected) = (Vec::new(), 0);
    for conn in (0..count).map(ConnSlot) {
        let action = Action::Connect { conn, source: 0, target: 0, manual_read };
        perform(&mut driver, &Frames::default(), [action]);
        peers.push(listener.accept().expect("accepted").0);
    }
    while connected < count {
        let told = poll(&mut driver);
        connected +=
            told.list.iter().filter(|e| matches!(e, Event::Connected { errno: 0, .. })).count()
                as u32;
    }
    Some((driver, peers, wake))
}

fn perform(driver: &mut UringDriver, frames: &Frames, list: impl IntoIterator<Item = Action>) {
    let mut actions = Actions::new();
    for action in list {
        actions.push(action);
    }
    driver.perform(frames, &actions);
}

/// Polls for at most a tenth of a second.
fn poll(driver: &mut UringDriver) -> Events {
    let mut events = Events::default();
    driver.poll(Tick(sys::monotonic_us()).after_ms(5_000), &mut events);
    events
}

#[test]
fn a_receive_that_found_no_buffer_goes_on() {
    let Some((mut driver, mut peers, _wake)) = tiny(12, false) else { return };
    for (number, peer) in (0_u8..).zip(&mut peers) {
        let bytes: Vec<u8> = (0..40_000_u32).map(|at| at as u8 ^ number).collect();
        peer.write_all(&bytes).expect("it fits the socket");
    }
    let mut got = vec![Vec::new(); peers.len()];
    while got.iter().any(|bytes: &Vec<u8>| bytes.len() < 40_000) {
        let events = poll(&mut driver);
        assert!(!events.list.is_empty(), "bytes that are there are told");
        for event in &events.list {
            let Event::Received { conn, bytes } = event else {
                panic!("{event:?} was not expected")
            };
            got[conn.0 as usize].extend_from_slice(events.bytes_of(bytes));
        }
    }
    for (number, bytes) in (0_u8..).zip(got) {
        assert!(bytes.iter().zip(0_u32..).all(|(&byte, at)| byte == at as u8 ^ number));
    }
    assert!(driver.state.counters().figures().enobufs_rearms > 0, "four buffers ran out");
}

#[test]
fn every_short_send_is_told_by_the_next_poll_even_past_a_full_completion_queue() {
    let Some((mut driver, peers, _wake)) = tiny(100, true) else { return };
    let mut frames = Frames::default();
    let frame = frames.insert(Bytes::from(vec![7; 16 << 20]));
    for round in 0..3 {
        let sends = (0..100).map(ConnSlot).map(|conn| Action::Send { conn, frame, skip_bytes: 0 });
        perform(&mut driver, &frames, sends);
        let events = poll(&mut driver);
        let short = events.list.iter().map(|event| match event {
            Event::SendShort { conn, action, .. } => (conn.0, *action),
            other => panic!("{other:?} was not expected"),
        });
        let mut short: Vec<_> = short.collect();
        short.sort_unstable();
        assert_eq!(short, (0..100).map(|n| (n, n)).collect::<Vec<_>>(), "round {round}");
    }
    assert!(driver.state.counters().figures().overflows > 0, "sixteen completions overflowed");
    drop(peers);
}
