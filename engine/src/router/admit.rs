//! Who may speak how often: the room's token bucket, limits of users, slow mode, mutes.

use crate::Map;
use crate::hash::Seeded;
use crate::seam::{Now, Tick};
use uproar_proto::error::Code;

/// A token is a million of these: rates need no fractions.
const MICRO: u64 = 1_000_000;

/// Fills at `rate` tokens a second up to `capacity`. Microsecond ticks make a refill exact:
/// one microsecond brings `rate` micro-tokens.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    micro: u64,
    filled: Tick,
}

impl TokenBucket {
    /// A full bucket.
    #[must_use]
    pub fn full(capacity: u32, now: Tick) -> TokenBucket {
        TokenBucket { micro: u64::from(capacity) * MICRO, filled: now }
    }

    /// Adds what time brought.
    pub fn refill(&mut self, rate: u32, capacity: u32, now: Tick) {
        let gained = now.since_us(self.filled).saturating_mul(u64::from(rate));
        self.micro = self.micro.saturating_add(gained).min(u64::from(capacity) * MICRO);
        self.filled = self.filled.max(now);
    }

    /// Whole tokens there are.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.micro / MICRO
    }

    /// Millionths of tokens there are.
    #[must_use]
    pub fn micro(&self) -> u64 {
        self.micro
    }

    /// Takes one token; false where there is none.
    pub fn take(&mut self) -> bool {
        if self.micro < MICRO {
            return false;
        }
        self.micro -= MICRO;
        true
    }

    /// When the next whole token is there, at `rate`.
    #[must_use]
    pub fn next_token(&self, rate: u32) -> Tick {
        let missing = MICRO.saturating_sub(self.micro);
        Tick(self.filled.0 + missing.div_ceil(u64::from(rate.max(1))))
    }
}

/// Why a message is refused, and when to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: Code,
    pub retry_after_ms: u32,
}

#[derive(Clone, Copy, Debug)]
struct User {
    bucket: TokenBucket,
    last: Tick,
}

/// What a room remembers of the users who speak in it. Bounded: the longest idle is forgotten.
#[derive(Debug)]
pub struct Users {
    speaking: Map<u64, User>,
    /// Until when, wall clock.
    muted: Map<u64, u64>,
    users_max: usize,
}

impl Users {
    /// Remembers nobody yet.
    #[must_use]
    pub fn new(users_max: u32, seed: u64) -> Users {
        Users {
            speaking: Map::with_hasher(Seeded(seed)),
            muted: Map::with_hasher(Seeded(seed)),
            users_max: users_max as usize,
        }
    }

    /// Mutes a user until a wall-clock time; a time that is past ends a mute.
    pub fn mute(&mut self, user: u64, until_unix_ms: u64, now_unix_ms: u64) {
        self.muted.retain(|_, until| *until > now_unix_ms);
        if until_unix_ms <= now_unix_ms {
            self.muted.remove(&user);
        } else if self.muted.len() < self.users_max || self.muted.contains_key(&user) {
            self.muted.insert(user, until_unix_ms);
        } else if let Some(soonest) = self.muted.iter().min_by_key(|(_, until)| **until) {
            // Full: the mute that would end first makes room.
            let soonest = *soonest.0;
            self.muted.remove(&soonest);
            self.muted.insert(user, until_unix_ms);
        }
    }

    /// Whether a user is not muted.
    ///
    /// # Errors
    /// `MUTED`, with the time to wait.
    pub fn check_mute(&self, user: u64, now: Now) -> Result<(), Refusal> {
        match self.muted.get(&user) {
            Some(until) if *until > now.unix_ms => {
                let retry_after_ms = u32::try_from(until - now.unix_ms).unwrap_or(u32::MAX);
                Err(Refusal { code: Code::Muted, retry_after_ms })
            }
            _ => Ok(()),
        }
    }

    /// Whether a user may speak now, at `rate` messages a second and `slow_mode_s` seconds between
    /// two of them; counts it where it may.
    ///
    /// # Errors
    /// `MUTED`, `SLOW_MODE` or `SLOW_DOWN`, with the time to wait.
    pub fn admit(
        &mut self,
        user: u64,
        rate: u32,
        slow_mode_s: u32,
        now: Now,
    ) -> Result<(), Refusal> {
        self.check_mute(user, now)?;
        let burst = rate * 2;
        let known = self.speaking.get(&user).copied();
        let mut bucket = known.map_or(TokenBucket::full(burst, now.tick), |user| user.bucket);
        bucket.refill(rate, burst, now.tick);
        let slow_us = u64::from(slow_mode_s) * MICRO;
        if let Some(user) = known
            && now.tick.since_us(user.last) < slow_us
        {
            let wait_us = slow_us - now.tick.since_us(user.last);
            let retry_after_ms = u32::try_from(wait_us.div_ceil(1000)).unwrap_or(u32::MAX);
            return Err(Refusal { code: Code::SlowMode, retry_after_ms });
        }
        if !bucket.take() {
            let wait_us = bucket.next_token(rate).since_us(now.tick);
            let retry_after_ms = u32::try_from(wait_us.div_ceil(1000)).unwrap_or(u32::MAX);
            return Err(Refusal { code: Code::SlowDown, retry_after_ms });
        }
        if known.is_none() && self.speaking.len() >= self.users_max {
            self.forget(slow_us, now.tick);
        }
        self.speaking.insert(user, User { bucket, last: now.tick });
        Ok(())
    }

    /// What a user said last is as if it had not been: it may say it again at once.
    pub fn forgive(&mut self, user: u64) {
        if let Some(user) = self.speaking.get_mut(&user) {
            user.last = Tick(0);
        }
    }

    /// Makes room: everybody whose limits no longer say anything goes, at least the longest idle.
    fn forget(&mut self, slow_us: u64, now: Tick) {
        let keep_us = slow_us.max(2 * MICRO);
        self.speaking.retain(|_, user| now.since_us(user.last) < keep_us);
        if self.speaking.len() >= self.users_max
            && let Some(idle) = self.speaking.iter().min_by_key(|(_, user)| user.last)
        {
            let idle = *idle.0;
            self.speaking.remove(&idle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Now {
        Now { tick: Tick(ms * 1000), unix_ms: 1_000_000 + ms, cpu_us: 0 }
    }

    #[test]
    fn a_bucket_gives_its_burst_then_its_rate() {
        let mut bucket = TokenBucket::full(20, Tick(0));
        let taken = (0..100).filter(|_| bucket.take()).count();
        assert_eq!(taken, 20);
        assert_eq!(bucket.next_token(20), Tick(50_000));
        bucket.refill(20, 20, Tick(1_000_000));
        assert_eq!(bucket.tokens(), 20);
        bucket.refill(20, 20, Tick(0));
        assert_eq!(bucket.tokens(), 20, "time that goes back brings nothing and takes nothing");
    }

    #[test]
    fn slow_mode_tells_how_long_to_wait() {
        let mut users = Users::new(10, 1);
        assert_eq!(users.admit(1, 5, 10, at(0)), Ok(()));
        let refused = users.admit(1, 5, 10, at(4_000));
        assert_eq!(refused, Err(Refusal { code: Code::SlowMode, retry_after_ms: 6_000 }));
        assert_eq!(users.admit(2, 5, 10, at(4_000)), Ok(()));
        assert_eq!(users.admit(1, 5, 10, at(10_000)), Ok(()));
    }

    #[test]
    fn a_user_beyond_its_rate_is_told_to_slow_down() {
        let mut users = Users::new(10, 1);
        let ok = (0..10).filter(|_| users.admit(1, 2, 0, at(0)).is_ok()).count();
        assert_eq!(ok, 4, "twice the rate at once");
        let refused = users.admit(1, 2, 0, at(0));
        assert_eq!(refused, Err(Refusal { code: Code::SlowDown, retry_after_ms: 500 }));
    }

    #[test]
    fn a_mute_ends_by_the_wall_clock() {
        let mut users = Users::new(10, 1);
        users.mute(1, at(5_000).unix_ms, at(0).unix_ms);
        assert_eq!(users.admit(1, 5, 0, at(0)).map_err(|r| r.code), Err(Code::Muted));
        assert_eq!(users.admit(1, 5, 0, at(5_000)), Ok(()));
    }

    #[test]
    fn the_table_of_users_is_bounded() {
        let mut users = Users::new(16, 1);
        for user in 0..100 {
            assert_eq!(users.admit(user, 5, 1_000, at(user)), Ok(()));
            assert!(users.speaking.len() <= 16);
        }
        assert!(users.admit(99, 5, 1_000, at(200)).is_err(), "the newest is remembered");
    }
}
