//! What an account of this server follows, as its access token says it: the rooms whose owner it
//! follows, since when, and those in which it has a role, since ever.
//!
//! Owns how much of that a token holds. What is left out is as if it were not followed; who follows
//! whom, and who owns what, the store knows.

use crate::store::following::{Followed, rooms_of};
use crate::store::roles::are_given;
use crate::store::{Store, StoreError};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use uproar_proto::control::{Sample, SampleKind, SampleValue};
use uproar_proto::token::{FOLLOWS_BYTES_MAX, FOLLOWS_MAX};

/// Bytes that the rooms take in the claims: in base64, with what else an access token says, below
/// the 8 KiB that web servers allow one header. (A platform that mints tokens may say more.)
const ROOMS_BYTES_MAX: usize = 5_600;
/// Of a room's entry beside its name: quotes, colon, comma and ten digits.
const ENTRY_BYTES: usize = 14;
const _: () = assert!(ROOMS_BYTES_MAX <= FOLLOWS_BYTES_MAX);

/// See the module.
#[derive(Default)]
pub(crate) struct Following {
    /// Tokens that hold less than there was.
    cut: AtomicU64,
}

impl Following {
    /// The claim `follows` of a user's access token; `None`: nothing. One statement, or none where
    /// nobody has a role anywhere.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn claim(
        &self,
        store: &Store,
        user: i64,
        now_ms: i64,
    ) -> Result<Option<BTreeMap<String, u64>>, StoreError> {
        if !are_given(store, now_ms).await? {
            return Ok(None);
        }
        let mut conn = store.reader().await?;
        // One more tells whether anything is left out.
        let rooms = rooms_of(&mut conn, store.dialect(), user, FOLLOWS_MAX as i64 + 1).await?;
        let many = rooms.len();
        let follows = fitting(rooms);
        self.cut.fetch_add(u64::from(follows.len() < many), Relaxed);
        Ok((many > 0).then_some(follows))
    }

    /// Figures for `/metrics`.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        vec![Sample {
            name: "uproar_tokens_follows_cut_total",
            help: "access tokens that do not hold all rooms their user follows",
            kind: SampleKind::Counter,
            labels: Vec::new(),
            value: SampleValue::Number(self.cut.load(Relaxed) as f64),
        }]
    }
}

/// The first ones, as many as a token holds, in seconds.
fn fitting(rooms: Vec<Followed>) -> BTreeMap<String, u64> {
    let (mut follows, mut bytes) = (BTreeMap::new(), 0);
    for Followed { room, since_ms } in rooms.into_iter().take(FOLLOWS_MAX) {
        bytes += room.len() + ENTRY_BYTES;
        if bytes > ROOMS_BYTES_MAX {
            break;
        }
        follows.insert(room, u64::try_from(since_ms).unwrap_or(0) / 1000);
    }
    follows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::{AccessClaims, SigningKey, base64_text};
    use uproar_proto::token::{Claims, USER_BYTES_MAX};

    fn rooms(many: usize, name: impl Fn(usize) -> String) -> Vec<Followed> {
        let room = |at| Followed { room: name(at), since_ms: 1_800_000_000_999 };
        (0..many).map(room).collect()
    }

    #[test]
    fn a_token_holds_the_first_rooms_that_fit_and_is_never_longer_than_a_header() {
        assert!(fitting(Vec::new()).is_empty());
        let short = fitting(rooms(300, |at| format!("r{at:03}")));
        assert_eq!((short.len(), short.contains_key("r256")), (FOLLOWS_MAX, false));
        assert!(short.values().all(|since_s| *since_s == 1_800_000_000));
        let long = fitting(rooms(300, |at| format!("{at:064}")));
        assert_eq!(long.len(), ROOMS_BYTES_MAX / (64 + ENTRY_BYTES));
        assert!(long.contains_key(&format!("{:064}", 70)), "the first ones");
        for follows in [short, long] {
            let number = Some(i64::MAX.to_string());
            let claims = Claims {
                sub: "\\".repeat(USER_BYTES_MAX),
                exp: 4_000_000_000,
                follows: Some(follows),
                sid: number.clone(),
                ..Claims::default()
            };
            let key = SigningKey::hs256(&base64_text(&[7; 32])).unwrap();
            let token = key.mint_access(&AccessClaims { claims, uid: number }).unwrap();
            let header = "authorization: Bearer ".len() + token.len() + 2;
            assert!(header < 8_192, "{header}");
        }
    }
}
