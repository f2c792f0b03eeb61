//! What must hold. Checkers draw no randomness, so adding one changes no world.

use super::World;
use crate::router::CLASSES;
use crate::seam::Machine as _;
use std::collections::BTreeMap;

/// Bytes a world's shard may use: its tables, and what a few dozen small clients may owe.
const SHARD_BYTES_MAX: usize = 64 << 20;

/// After every turn.
pub(super) fn bounds(world: &World, number: usize) {
    let node = &world.nodes[number];
    let used = node.shard.frames().bytes_used();
    assert!(used <= SHARD_BYTES_MAX, "seed {}: frames hold {used} bytes", world.seed);
}

/// When faults are healed and nothing happens any more.
pub(super) fn at_rest(world: &World) {
    let seed = world.seed;
    let (books, pending) = (world.books(), world.pending());
    assert_eq!(pending, [0; CLASSES], "seed {seed}: something still waits");
    assert!(books.is_balanced(&pending), "seed {seed}: the books do not balance: {books:?}");
    let mut sum = [[0u64; CLASSES]; 4];
    for node in &world.nodes {
        for (total, row) in sum.iter_mut().zip(node.metrics.deliveries()) {
            for (t, n) in total.iter_mut().zip(row) {
                *t += n;
            }
        }
    }
    let [expected, sent, skipped, left] = sum;
    for class in 0..CLASSES {
        let known = sent[class] + skipped[class] + left[class];
        assert_eq!(expected[class], known, "seed {seed}: deliveries of class {class}: {sum:?}");
    }
    streams(world);
}

/// Every member that reads is at the head of its room, and all agree.
fn streams(world: &World) {
    let mut heads: BTreeMap<(&str, u64), u64> = BTreeMap::new();
    let mut members: BTreeMap<&str, u64> = BTreeMap::new();
    let sound = || world.clients.iter().filter(|c| c.is_sound());
    for (room, stream) in sound().flat_map(|c| &c.streams) {
        let head = heads.entry((room, stream.epoch)).or_default();
        *head = (*head).max(stream.seq);
    }
    for (room, stream) in sound().flat_map(|c| &c.streams) {
        let head = heads[&(room.as_str(), stream.epoch)];
        assert_eq!(stream.seq, head, "seed {}: a member of {room} is behind", world.seed);
    }
    for client in world.clients.iter().filter(|c| c.open) {
        for room in client.streams.keys() {
            *members.entry(room).or_default() += 1;
        }
    }
    let rude = world.clients.iter().any(|c| c.open && !c.is_sound());
    for (room, stream) in sound().flat_map(|c| &c.streams) {
        let real = members[room.as_str()];
        let told = stream.viewers;
        assert!(
            rude || told == real,
            "seed {}: {room} has {real} viewers, a member was told {told}",
            world.seed
        );
    }
}
