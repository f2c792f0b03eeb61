//! Verifies tokens on the shard, without any call. Owns the node's own keys and the rules of the
//! claims; the keys of foreign issuers are shared with whoever fetches them. Expiry is compared by
//! the session, whose clock is the driver's.

use super::slab::NONE;
use crate::config::Tokens;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use std::num::NonZeroU8;
use std::sync::Arc;
use uproar_proto::error::Code;
use uproar_proto::issuers::Issuers;
use uproar_proto::names;
use uproar_proto::token::{Claims, USER_BYTES_MAX};
use uproar_proto::v1::Class;

/// The keys of a node.
pub struct Verifier {
    hs256: Option<DecodingKey>,
    eddsa: Option<DecodingKey>,
    issuers: Arc<Issuers>,
    guests: bool,
}

/// Who a connection is, where it is not a guest. About 64 bytes with a short name.
#[derive(Debug)]
pub struct Session {
    /// As shown to viewers.
    pub user: Arc<str>,
    /// Seeded hash of the name.
    pub key: u64,
    /// What the token says of rooms, where it does.
    pub rooms: Option<Box<OfRooms>>,
    /// Expiry, seconds since 1970.
    pub expires_s: u32,
    /// Number of its inbox, where it asked for one.
    pub inbox: u32,
    /// The login that minted the token, where it says.
    pub login: Option<LoginKey>,
    /// Bit `class as u8`: may publish it; and [`MODERATES`], [`WARNED`].
    flags: u8,
}

/// Of a session: may moderate.
const MODERATES: u8 = 1 << 6;
/// Of a session: it was told that its token ends soon.
const WARNED: u8 = 1 << 7;

/// Names a login: 56 bits of a seeded hash, of which the last is one. A million logins on a node
/// and a hundred that end each second meet a wrong one once in twenty years.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginKey([u8; 6], NonZeroU8);

/// What a token says of rooms.
#[derive(Debug, Default)]
pub struct OfRooms {
    /// Those it is good for; a trailing `*` matches any ending. `None`: all.
    pub entered: Option<Box<[Box<str>]>>,
    /// Those its user follows, ascending, and since when, seconds since 1970.
    pub followed: Box<[(Box<str>, u64)]>,
}

/// A token that was checked.
#[derive(Debug)]
pub struct Verified {
    /// Who its connection is.
    pub session: Session,
    /// The login that minted it, by name, for a connection that opens its inbox.
    pub login: Option<Arc<str>>,
}

/// A connection is told this many seconds before its token ends.
pub const EXPIRY_WARNING_S: u32 = 60;

/// What guests may publish.
pub const GUEST_CLASSES: u8 = 1 << Class::Chat as u8 | 1 << Class::Like as u8;

impl Verifier {
    /// Reads the keys.
    ///
    /// # Errors
    /// A sentence naming the key that cannot be used and what is expected.
    pub fn new(tokens: &Tokens) -> Result<Verifier, String> {
        let hs256 = match tokens.hs256_secret.as_str() {
            "" => None,
            secret => Some(DecodingKey::from_base64_secret(secret).map_err(|e| {
                format!(
                    "tokens.hs256_secret is not base64 ({e}); expected is base64 of 32 bytes or \
                     more"
                )
            })?),
        };
        let eddsa = match tokens.eddsa_public_key.as_str() {
            "" => None,
            pem => Some(DecodingKey::from_ed_pem(pem.as_bytes()).map_err(|e| {
                format!(
                    "tokens.eddsa_public_key cannot be read ({e}); expected is an Ed25519 public \
                     key in PEM"
                )
            })?),
        };
        let issuers = Issuers::new(&tokens.issuers).map_err(|e| format!("tokens.{e}"))?;
        let demo = hs256.is_none() && eddsa.is_none() && issuers.list().is_empty();
        let guests = tokens.guests.unwrap_or(demo);
        Ok(Verifier { hs256, eddsa, issuers: Arc::new(issuers), guests })
    }

    /// Foreign issuers, for whoever fetches their keys.
    #[must_use]
    pub fn issuers(&self) -> &Arc<Issuers> {
        &self.issuers
    }

    /// Whether connections without a token are admitted.
    #[must_use]
    pub fn guests(&self) -> bool {
        self.guests
    }

    /// Checks a token's signature and claims. `unix_ms` is the wall clock; `seed` hashes the name.
    ///
    /// # Errors
    /// `TokenInvalid`, or `TokenExpired` where everything else is right.
    pub fn verify(&self, token: &str, unix_ms: u64, seed: u64) -> Result<Verified, Code> {
        if let Some(foreign) = self.issuers.verify(token) {
            return verified(foreign?, unix_ms, seed);
        }
        let header = decode_header(token).map_err(|_| Code::TokenInvalid)?;
        if header.crit.is_some() {
            return Err(Code::TokenInvalid); // RFC 7515, 4.1.11: none of them is understood here
        }
        let key = match header.alg {
            Algorithm::HS256 => self.hs256.as_ref(),
            Algorithm::EdDSA => self.eddsa.as_ref(),
            _ => None,
        };
        let mut rules = Validation::new(header.alg);
        // Expiry is compared here, with the driver's clock, not with one the library reads.
        rules.validate_exp = false;
        rules.required_spec_claims.clear();
        rules.validate_aud = false;
        let claims = decode::<Claims>(token, key.ok_or(Code::TokenInvalid)?, &rules)
            .map_err(|_| Code::TokenInvalid)?
            .claims;
        // A key of this node speaks for no user of another issuer.
        if !names::is_local(&claims.sub) {
            return Err(Code::TokenInvalid);
        }
        verified(claims, unix_ms, seed)
    }
}

fn verified(claims: Claims, unix_ms: u64, seed: u64) -> Result<Verified, Code> {
    let name = claims.sub.as_str();
    if name.is_empty() || name.len() > USER_BYTES_MAX || names::is_dots(name) {
        return Err(Code::TokenInvalid);
    }
    if claims.nbf.is_some_and(|nbf| nbf > unix_ms / 1000) {
        return Err(Code::TokenInvalid);
    }
    if claims.exp <= unix_ms / 1000 {
        return Err(Code::TokenExpired);
    }
    if claims.check_follows().is_err() {
        return Err(Code::TokenInvalid); // S-65
    }
    let classes = match claims.publish {
        None => GUEST_CLASSES,
        Some(names) => {
            let bit = |name: &String| match name.as_str() {
                "chat" => Ok(1 << Class::Chat as u8),
                "like" => Ok(1 << Class::Like as u8),
                "gift" => Ok(1 << Class::Gift as u8),
                "system" => Ok(1 << Class::System as u8),
                _ => Err(Code::TokenInvalid),
            };
            names.iter().map(bit).try_fold(0, |bits, bit| bit.map(|bit: u8| bits | bit))?
        }
    };
    let boxed = |rooms: Vec<String>| rooms.into_iter().map(String::into_boxed_str).collect();
    let follows = claims.follows.unwrap_or_default().into_iter();
    let followed: Box<_> = follows.map(|(room, since)| (room.into_boxed_str(), since)).collect();
    let rooms = OfRooms { entered: claims.rooms.map(boxed), followed };
    let says_of_rooms = rooms.entered.is_some() || !rooms.followed.is_empty();
    let ends_soon = claims.exp.saturating_sub(unix_ms / 1000) <= u64::from(EXPIRY_WARNING_S);
    let session = Session {
        key: crate::hash::hash_bytes(seed, claims.sub.as_bytes()),
        user: Arc::from(claims.sub),
        rooms: says_of_rooms.then(|| Box::new(rooms)),
        // A token good beyond the year 2106 is good until then.
        expires_s: u32::try_from(claims.exp).unwrap_or(u32::MAX),
        inbox: NONE,
        login: claims.sid.as_ref().map(|login| login_key(seed, login)),
        flags: classes
            | if claims.moderate { MODERATES } else { 0 }
            | if ends_soon { WARNED } else { 0 },
    };
    Ok(Verified { session, login: claims.sid.map(Arc::from) })
}

/// Names a login in [`Session::login`].
#[must_use]
pub fn login_key(seed: u64, login: &str) -> LoginKey {
    let [first, key @ .., _] = crate::hash::hash_bytes(seed, login.as_bytes()).to_le_bytes();
    LoginKey(key, NonZeroU8::MIN | first)
}

// What a signed-in viewer costs besides its connection, its name apart.
const _: () = assert!(size_of::<Session>() == 48);

impl Session {
    /// Bit `class as u8`: may publish it.
    #[must_use]
    pub fn classes(&self) -> u8 {
        self.flags & !(MODERATES | WARNED)
    }

    /// Whether it may moderate.
    #[must_use]
    pub fn moderates(&self) -> bool {
        self.flags & MODERATES != 0
    }

    /// Whether it was told that its token ends soon.
    #[must_use]
    pub fn is_warned(&self) -> bool {
        self.flags & WARNED != 0
    }

    /// It is told now.
    pub fn warn(&mut self) {
        self.flags |= WARNED;
    }

    /// Whether the token is good for a room.
    #[must_use]
    pub fn may_enter(&self, room: &str) -> bool {
        let matches = |pattern: &str| match pattern.strip_suffix('*') {
            Some(start) => room.starts_with(start),
            None => room == pattern,
        };
        let entered = self.rooms.as_ref().and_then(|rooms| rooms.entered.as_ref());
        entered.is_none_or(|rooms| rooms.iter().any(|pattern| matches(pattern)))
    }

    /// Since when its user follows a room, seconds since 1970; `None`: it does not.
    #[must_use]
    pub fn follows_since(&self, room: &str) -> Option<u64> {
        let followed = &self.rooms.as_ref()?.followed;
        let found = followed.binary_search_by(|(name, _)| (**name).cmp(room)).ok()?;
        Some(followed[found].1)
    }

    /// Bytes it owns beyond the record.
    #[must_use]
    pub fn bytes_owned(&self) -> usize {
        let rooms = self.rooms.as_ref().map_or(0, |rooms| {
            let entered = rooms.entered.iter().flatten().map(|room| room.len() + 16);
            let followed = rooms.followed.iter().map(|(room, _)| room.len() + 24);
            size_of::<OfRooms>() + entered.chain(followed).sum::<usize>()
        });
        self.user.len() + 16 + rooms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{EncodingKey, Header, encode};

    const SECRET: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

    fn verifier() -> Verifier {
        let tokens = Tokens { hs256_secret: SECRET.into(), ..Tokens::default() };
        Verifier::new(&tokens).expect("a good secret")
    }

    fn token(claims: &Claims, secret: &str) -> String {
        let key = EncodingKey::from_base64_secret(secret).expect("base64");
        encode(&Header::new(Algorithm::HS256), claims, &key).expect("encodes")
    }

    fn claims() -> Claims {
        Claims { sub: "alice".into(), exp: 100, ..Claims::default() }
    }

    #[test]
    fn a_good_token_makes_a_session_with_the_default_classes() {
        let Verified { session, login } =
            verifier().verify(&token(&claims(), SECRET), 99_000, 1).expect("good");
        assert_eq!((login, session.login), (None, None));
        assert_eq!((&*session.user, session.classes()), ("alice", GUEST_CLASSES));
        assert!(session.may_enter("anything"));
    }

    #[test]
    fn a_user_of_another_issuer_has_a_name_that_no_key_of_this_node_gives() {
        let theirs = "BBBBMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
        let acme = uproar_proto::issuers::IssuerSettings {
            name: "acme".into(),
            issuer: "https://acme".into(),
            audience: String::new(),
            algorithm: uproar_proto::issuers::Pinned::HS256,
            key: theirs.into(),
            jwks_url: String::new(),
        };
        let hs256_secret = SECRET.to_owned();
        let tokens = Tokens { hs256_secret, issuers: vec![acme], ..Tokens::default() };
        let verifier = Verifier::new(&tokens).expect("good keys");
        let sign = |iss: Option<&str>, sub: &str, secret: &str| {
            let mut claims = serde_json::json!({"sub": sub, "exp": 100});
            if let Some(iss) = iss {
                claims["iss"] = iss.into();
            }
            let key = EncodingKey::from_base64_secret(secret).expect("base64");
            encode(&Header::new(Algorithm::HS256), &claims, &key).expect("encodes")
        };
        let user =
            |token: String, ms| verifier.verify(&token, ms, 1).map(|v| v.session.user.to_string());
        let acme = Some("https://acme");
        assert_eq!(user(sign(acme, "bob", theirs), 1), Ok("bob@acme".into()));
        assert_eq!(user(sign(acme, "bob", theirs), 100_000), Err(Code::TokenExpired));
        assert_eq!(user(sign(acme, "bob", SECRET), 1), Err(Code::TokenInvalid));
        assert_eq!(user(sign(None, "bob", SECRET), 1), Ok("bob".into()));
        assert_eq!(user(sign(None, "bob@acme", SECRET), 1), Err(Code::TokenInvalid));
        assert_eq!(user(sign(None, "bob", theirs), 1), Err(Code::TokenInvalid));
    }

    #[test]
    fn expiry_is_told_apart_from_invalid() {
        let verify = |token: &str, ms| verifier().verify(token, ms, 1).err();
        assert_eq!(verify(&token(&claims(), SECRET), 100_000), Some(Code::TokenExpired));
        let other = "AAAAMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
        assert_eq!(verify(&token(&claims(), other), 1), Some(Code::TokenInvalid));
        assert_eq!(verify("not.a.token", 1), Some(Code::TokenInvalid));
        let early = Claims { nbf: Some(9), ..claims() };
        assert_eq!(verify(&token(&early, SECRET), 8_999), Some(Code::TokenInvalid));
        assert_eq!(verify(&token(&early, SECRET), 9_000), None);
        let mut header = Header::new(Algorithm::HS256);
        header.crit = Some(vec!["x".into()]);
        let key = EncodingKey::from_base64_secret(SECRET).expect("base64");
        let critical = encode(&header, &claims(), &key).expect("encodes");
        assert_eq!(verify(&critical, 1), Some(Code::TokenInvalid));
        for bad in ["", ".", ".."] {
            let nameless = Claims { sub: bad.into(), ..claims() };
            assert_eq!(verify(&token(&nameless, SECRET), 1), Some(Code::TokenInvalid), "{bad}");
        }
    }

    #[test]
    fn a_token_may_be_bound_to_rooms_and_classes() {
        let bound = Claims {
            rooms: Some(vec!["stage".into(), "vip-*".into()]),
            publish: Some(vec!["gift".into()]),
            ..claims()
        };
        let session = verifier().verify(&token(&bound, SECRET), 1, 1).expect("good").session;
        assert!(session.may_enter("stage") && session.may_enter("vip-7"));
        assert!(!session.may_enter("stage2") && !session.may_enter("vip"));
        assert_eq!(session.classes(), 1 << Class::Gift as u8);
        let follows = [("stage".to_owned(), 7), ("a".to_owned(), 3)].into();
        let follower = Claims { follows: Some(follows), ..claims() };
        let session = verifier().verify(&token(&follower, SECRET), 1, 1).expect("good").session;
        assert_eq!(
            ["a", "stage", "b"].map(|room| session.follows_since(room)),
            [Some(3), Some(7), None]
        );
        assert!(session.may_enter("b") && session.bytes_owned() > 80);
        let many = (0..257).map(|n| (format!("r{n}"), 1)).collect();
        let long = (0..200).map(|n| (format!("{n:064}"), 1)).collect();
        for bad in [many, long, [("a b".to_owned(), 1)].into()] {
            let claims = Claims { follows: Some(bad), ..claims() };
            let refused = verifier().verify(&token(&claims, SECRET), 1, 1).err();
            assert_eq!(refused, Some(Code::TokenInvalid));
        }
        let odd = Claims { publish: Some(vec!["shout".into()]), ..claims() };
        let refused = verifier().verify(&token(&odd, SECRET), 1, 1).err();
        assert_eq!(refused, Some(Code::TokenInvalid));
    }
}
