//! Who may not enter a room, with the devices and addresses that went with them.
//!
//! Owns the bans of one life of a room, their bound, and what shards with members are to know of
//! them. Users, devices and addresses are keys (seeded hashes) here; how one is made, and whose a
//! connection is, the shards know. Never reads a clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use uproar_proto::control::BanInfo;

/// Keys of which a shard is told, and until when each holds (wall clock, milliseconds; 0: it does
/// not any more).
pub type Changes = Vec<(u64, u64)>;

/// Devices and addresses of one user that are refused. More are left out, counted.
const ORIGINS_MAX: usize = 128;

/// A device or an address that came with a ban.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    pub key: u64,
    /// Or an address.
    pub is_device: bool,
}

#[derive(Debug)]
struct Ban {
    user: Arc<str>,
    key: u64,
    until_ms: u64,
    /// Until when each is refused: as long as the ban they came with.
    origins: Vec<(Origin, u64)>,
}

/// The bans of a room.
#[derive(Debug)]
pub struct Bans {
    /// By name of the user.
    bans: BTreeMap<Arc<str>, Ban>,
    keys_max: usize,
    dropped: u64,
}

impl Bans {
    /// None yet; at most `keys_max` users, devices and addresses in all. Full: the ban that ends
    /// first makes room.
    #[must_use]
    pub fn new(keys_max: u32) -> Bans {
        Bans { bans: BTreeMap::new(), keys_max: keys_max as usize, dropped: 0 }
    }

    /// A user is banned until then, in place of a ban it has. What shards are to know beside that.
    pub fn ban(&mut self, user: &str, key: u64, until_ms: u64, now_ms: u64) -> Changes {
        self.bans.retain(|_, ban| ban.until_ms > now_ms);
        let user: Arc<str> = Arc::from(user);
        let before = self.bans.remove(&user);
        let mut origins = before.map_or(Vec::new(), |ban| ban.origins);
        origins.retain(|(_, until)| *until > now_ms);
        // None is refused longer than the user it came with.
        origins.iter_mut().for_each(|(_, until)| *until = until_ms.min(*until));
        let keys: Vec<u64> = origins.iter().map(|(origin, _)| origin.key).collect();
        let mut changes = self.make_room(1 + origins.len());
        self.bans.insert(Arc::clone(&user), Ban { user, key, until_ms, origins });
        changes.extend(self.now(keys.into_iter()));
        changes
    }

    /// Where the connections of a user came from that was banned until then: refused as long. What
    /// shards are to know; nothing, where the user is not banned any more.
    pub fn found(&mut self, key: u64, until_ms: u64, origins: &[Origin]) -> Changes {
        let known = self.bans.values().find(|ban| ban.key == key);
        let Some(user) = known.map(|ban| Arc::clone(&ban.user)) else { return Changes::new() };
        let Some(mut ban) = self.bans.remove(&user) else { return Changes::new() };
        // The ban may be another one by now.
        let until_ms = until_ms.min(ban.until_ms);
        let origins_max = ORIGINS_MAX.min(self.keys_max - 1);
        for origin in origins {
            let known = ban.origins.iter().position(|(known, _)| known.key == origin.key);
            match known {
                Some(known) => ban.origins[known].1 = until_ms,
                None if ban.origins.len() < origins_max => ban.origins.push((*origin, until_ms)),
                None => self.dropped += 1,
            }
        }
        let mut changes = self.make_room(1 + ban.origins.len());
        self.bans.insert(user, ban);
        let keys = origins.iter().map(|origin| origin.key);
        changes.extend(self.now(keys));
        changes
    }

    /// A user's ban ends, with what came with it. What shards are to know; `None`: there is none.
    pub fn lift(&mut self, user: &str, now_ms: u64) -> Option<Changes> {
        let ban = self.bans.remove(user)?;
        let changes = self.now(ban.keys());
        (ban.until_ms > now_ms).then_some(changes)
    }

    /// Until when a user is banned; 0: it is not.
    #[must_use]
    pub fn until_ms_of(&self, user: &str) -> u64 {
        self.bans.get(user).map_or(0, |ban| ban.until_ms)
    }

    /// The same of whom the key alone is known; looks at all of them.
    #[must_use]
    pub fn until_ms(&self, key: u64) -> u64 {
        self.bans.values().find(|ban| ban.key == key).map_or(0, |ban| ban.until_ms)
    }

    /// All that a shard is to know.
    #[must_use]
    pub fn all(&mut self, now_ms: u64) -> Changes {
        self.bans.retain(|_, ban| ban.until_ms > now_ms);
        let mut all: Changes = self.bans.values().flat_map(Ban::until_each).collect();
        all.sort_unstable();
        // Of a key that came with several bans the last one to end stands last.
        all.reverse();
        all.dedup_by_key(|(key, _)| *key);
        all
    }

    /// Bans by name, at most `limit` of those behind `after`.
    #[must_use]
    pub fn page(&self, after: &str, limit: usize, now_ms: u64) -> Vec<BanInfo> {
        let behind = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
        let bans = self.bans.range::<str, _>(behind).map(|(_, ban)| ban);
        let count = |ban: &Ban, is_device: bool| {
            let holds =
                |(origin, until): &&(Origin, u64)| origin.is_device == is_device && *until > now_ms;
            ban.origins.iter().filter(holds).count() as u32
        };
        let info = |ban: &Ban| BanInfo {
            user: ban.user.to_string(),
            until_ms: ban.until_ms,
            devices: count(ban, true),
            addresses: count(ban, false),
        };
        bans.filter(|ban| ban.until_ms > now_ms).take(limit).map(info).collect()
    }

    /// Users, devices and addresses now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.bans.values().map(|ban| 1 + ban.origins.len()).sum()
    }

    /// Bans that made room before their time, and origins that found none, since this was asked
    /// last.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Ends bans, the one that ends first before the others, until so many keys fit.
    fn make_room(&mut self, keys: usize) -> Changes {
        let mut changes = Changes::new();
        while self.used() + keys > self.keys_max
            && let Some(soonest) = self.bans.values().min_by_key(|ban| ban.until_ms)
        {
            let user = Arc::clone(&soonest.user);
            if let Some(ban) = self.bans.remove(&user) {
                self.dropped += 1;
                changes.extend(self.now(ban.keys()));
            }
        }
        changes
    }

    /// Until when each of these keys is refused now.
    fn now(&self, keys: impl Iterator<Item = u64>) -> Changes {
        let mut now: BTreeMap<u64, u64> = keys.map(|key| (key, 0)).collect();
        for (key, until) in self.bans.values().flat_map(Ban::until_each) {
            if let Some(known) = now.get_mut(&key) {
                *known = until.max(*known);
            }
        }
        now.into_iter().collect()
    }
}

impl Ban {
    fn until_each(&self) -> impl Iterator<Item = (u64, u64)> {
        let origins = self.origins.iter().map(|(origin, until)| (origin.key, *until));
        [(self.key, self.until_ms)].into_iter().chain(origins)
    }

    fn keys(&self) -> impl Iterator<Item = u64> {
        self.until_each().map(|(key, _)| key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(key: u64) -> Origin {
        Origin { key, is_device: true }
    }

    fn address(key: u64) -> Origin {
        Origin { key, is_device: false }
    }

    #[test]
    fn what_came_with_a_ban_ends_with_it_but_for_what_another_ban_holds() {
        let mut bans = Bans::new(100);
        assert_eq!(bans.ban("ann", 1, 1_000, 0), []);
        assert_eq!(bans.found(1, 1_000, &[device(10), address(20)]), [(10, 1_000), (20, 1_000)]);
        bans.ban("bob", 2, 500, 0);
        assert_eq!(bans.found(2, 500, &[address(20)]), [(20, 1_000)], "the longer one counts");
        assert_eq!(bans.all(0), [(20, 1_000), (10, 1_000), (2, 500), (1, 1_000)]);
        assert_eq!(bans.lift("ann", 0), Some(vec![(1, 0), (10, 0), (20, 500)]));
        assert_eq!((bans.lift("ann", 0), bans.lift("bob", 500)), (None, None), "it is over");
        assert_eq!((bans.used(), bans.take_dropped()), (0, 0));
    }

    #[test]
    fn an_origin_is_refused_as_long_as_the_ban_it_came_with() {
        let mut bans = Bans::new(100);
        assert_eq!(bans.found(1, 1_000, &[address(20)]), [], "nobody is banned");
        bans.ban("ann", 1, 1_000, 0);
        bans.found(1, 1_000, &[address(20)]);
        assert_eq!(bans.ban("ann", 1, 9_000, 10), [(20, 1_000)]);
        assert_eq!(bans.all(10), [(20, 1_000), (1, 9_000)]);
        assert_eq!(bans.found(1, 1_000, &[address(30)]), [(30, 1_000)], "of the ban before");
        assert_eq!(bans.ban("ann", 1, 500, 10), [(20, 500), (30, 500)], "none outlasts its user");
        assert_eq!(bans.ban("ann", 1, 9_000, 500), [], "they are over");
        bans.found(1, 1_000, &[address(20)]);
        let ann = |devices, addresses| BanInfo {
            user: "ann".into(),
            until_ms: 9_000,
            devices,
            addresses,
        };
        assert_eq!(bans.page("", 9, 10), [ann(0, 1)]);
        assert_eq!(bans.page("", 9, 1_000), [ann(0, 0)]);
        assert_eq!((bans.page("ann", 9, 10), bans.page("", 9, 9_000)), (vec![], vec![]));
        bans.ban("ann", 1, 5_000, 10);
        assert_eq!(bans.found(1, 9_000, &[address(50)]), [(50, 5_000)], "a shorter one by now");
    }

    #[test]
    fn a_full_table_lets_go_of_the_ban_that_ends_first() {
        let mut bans = Bans::new(4);
        bans.ban("ann", 1, 300, 0);
        bans.ban("bob", 2, 200, 0);
        bans.found(2, 200, &[device(10)]);
        bans.ban("cid", 3, 400, 0);
        assert_eq!(bans.ban("dan", 4, 100, 0), [(2, 0), (10, 0)]);
        assert_eq!((bans.used(), bans.take_dropped()), (3, 1));
        let many: Vec<Origin> = (10..20).map(address).collect();
        bans.found(3, 400, &many);
        assert_eq!((bans.used(), bans.until_ms(3)), (4, 400), "its own others are left out");
        assert_eq!(bans.take_dropped(), 2 + 7, "two bans, and what was left out");
    }
}
