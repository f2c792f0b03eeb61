//! Rendezvous hashing (Thaler and Ravishankar 1996): every shard computes the same home for a
//! room without asking, and adding a shard moves only the rooms that shard wins.

use crate::hash::{hash_bytes, mix};
use crate::router::ShardId;
use uproar_proto::ids::RoomId;

/// The home of a room among `shards` shards. `seed` must be the same on all of them.
///
/// # Panics
/// Where `shards` is 0: a node has at least one.
#[must_use]
pub fn home_of(room: &RoomId, shards: u16, seed: u64) -> ShardId {
    home_of_name(room.as_str(), shards, seed)
}

/// The same for any mcast, by its name.
///
/// # Panics
/// Where `shards` is 0.
#[must_use]
pub fn home_of_name(name: &str, shards: u16, seed: u64) -> ShardId {
    assert!(shards > 0, "a node has at least one shard");
    let name = hash_bytes(seed, name.as_bytes());
    let best = (0..shards).max_by_key(|shard| mix(name ^ mix(u64::from(*shard) + 1)));
    ShardId(best.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(i: u32) -> RoomId {
        RoomId::new(&format!("room-{i}")).expect("a legal name")
    }

    #[test]
    fn homes_are_spread_evenly() {
        let mut rooms_by_shard = [0u32; 8];
        for i in 0..8_000 {
            rooms_by_shard[home_of(&room(i), 8, 1).0 as usize] += 1;
        }
        assert!(rooms_by_shard.iter().all(|n| (850..1150).contains(n)), "{rooms_by_shard:?}");
    }

    #[test]
    fn one_more_shard_moves_only_what_it_wins() {
        for i in 0..1_000 {
            let (before, after) = (home_of(&room(i), 4, 1), home_of(&room(i), 5, 1));
            assert!(before == after || after == ShardId(4), "room {i} moved between old shards");
        }
    }
}
