//! Who is in a room: exact counts of connections, and a uniform sample of users.
//!
//! A bottom-k sample, as in `router/shed.rs`: every user has a random key, the same on all shards
//! and another one for each request, and the users with the smallest keys are the sample. So
//! samples of shards merge exactly, and a user with ten connections is no likelier than one with
//! one. Looks at every member of the room here: some nanoseconds each.

use super::Shard;
use super::message::{Gather, Message};
use super::slab::NONE;
use crate::hash::mix;
use crate::seam::ConnSlot;
use std::collections::BTreeMap;
use std::sync::Arc;
use uproar_proto::control::{Present, Reply};
use uproar_proto::ids::{Epoch, RoomId};

/// What one shard knows: connections, and users by key.
pub struct Part {
    connections: u64,
    users: BTreeMap<u64, Arc<str>>,
}

/// The part of a sample that has the smallest keys.
fn merged(parts: Vec<Part>, limit: usize) -> Present {
    let connections = parts.iter().map(|part| part.connections).sum();
    let users: BTreeMap<u64, Arc<str>> = parts.into_iter().flat_map(|part| part.users).collect();
    let users = users.into_values().take(limit).map(|user| user.to_string()).collect();
    Present { connections, users }
}

impl Shard {
    pub(super) fn home_members(&mut self, number: u32, limit: usize, reply: Reply<Present>) {
        let (room, epoch, shards) = self.hosted_by(number);
        if shards.is_empty() {
            return reply(Ok(Present { connections: 0, users: Vec::new() }));
        }
        let finish = Box::new(move |parts: Vec<Part>| reply(Ok(merged(parts, limit))));
        let gather = Arc::new(Gather::new(shards.len() as u32, finish));
        let salt = self.rng.next_u64();
        for shard in shards {
            let (room, gather) = (room.clone(), gather.clone());
            self.post(shard, Message::Sample { room, epoch, limit, salt, gather });
        }
    }

    /// The part of this shard.
    pub(super) fn sample_members(
        &self,
        id: &RoomId,
        epoch: Epoch,
        limit: usize,
        salt: u64,
    ) -> Part {
        let mut part = Part { connections: 0, users: BTreeMap::new() };
        let known = self.rooms.by_name.get(id).copied();
        let Some(number) = known.filter(|n| self.rooms.slab.get(*n).epoch == epoch) else {
            return part;
        };
        let room = self.rooms.slab.get(number);
        part.connections = u64::from(room.members.len());
        let mut chosen: BTreeMap<u64, ConnSlot> = BTreeMap::new();
        for conn in room.members.iter().map(|m| ConnSlot(m.conn)) {
            chosen.insert(mix(salt ^ self.place_key(conn)), conn);
            if chosen.len() > limit {
                chosen.pop_last();
            }
        }
        part.users = chosen.into_iter().map(|(key, conn)| (key, self.user_of(conn))).collect();
        part
    }

    /// Tells users apart; of a guest without making its name.
    fn place_key(&self, conn: ConnSlot) -> u64 {
        match self.conns.cold(conn).session {
            NONE => mix(self.seed ^ (u64::from(self.id.0) << 32 | u64::from(conn.0))),
            session => self.sessions.get(session).key,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_shards_merge_to_a_uniform_one_of_users() {
        let (users, rounds, limit) = (60u64, 4_000u64, 6);
        let mut seen = vec![0u64; users as usize];
        for salt in 0..rounds {
            // A third of the users is on both shards.
            let part = |mine: fn(u64) -> bool| {
                let keys = (0..users).filter(|user| mine(*user));
                let all =
                    keys.map(|user| (mix(mix(salt) ^ mix(user)), Arc::from(user.to_string())));
                let users: BTreeMap<u64, Arc<str>> = all.collect();
                Part { connections: users.len() as u64, users: users.into_iter().take(6).collect() }
            };
            let present = merged(vec![part(|u| u % 3 != 1), part(|u| u % 3 != 2)], limit);
            assert_eq!((present.connections, present.users.len()), (80, limit));
            for user in present.users {
                seen[user.parse::<usize>().expect("users are numbers")] += 1;
            }
        }
        // Expected 400 each; chi-square with 59 degrees of freedom stays below 99 with p > 0.999.
        let expected = (rounds * limit as u64 / users) as f64;
        let chi: f64 = seen.iter().map(|n| (*n as f64 - expected).powi(2) / expected).sum();
        assert!(chi < 99.0, "chi-square {chi}");
    }
}
