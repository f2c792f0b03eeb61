//! Accounts and sessions on every store there is. Time is a number: no test sleeps.

use super::*;
use crate::relations;
use crate::store::roles::{self, Role};
use crate::store::testing::on_both;
use std::collections::BTreeSet;

const NOW: i64 = 1_800_000_000_000;
const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const GOOD: &str = "correct horse";

fn cheap() -> AccountSettings {
    AccountSettings { hash_memory_kib: 64, registration_open: true, ..AccountSettings::default() }
}

fn accounts(store: Arc<Store>) -> Accounts {
    accounts_with(store, cheap())
}

fn accounts_with(store: Arc<Store>, settings: AccountSettings) -> Accounts {
    let key = SigningKey::hs256(&crate::tokens::base64_text(&[7; 32])).unwrap();
    Accounts::new(store, Some(key), Arc::default(), settings).unwrap()
}

impl Accounts {
    async fn register(
        &self,
        name: &str,
        password: &str,
        from: IpAddr,
        now_ms: i64,
    ) -> Result<i64, Fault> {
        let ask = Register { name, password, from, key: None };
        let answer = |id: i64| Kept { status: 201, body: id.to_string() };
        let kept = self.register_once(ask, answer, now_ms).await?;
        Ok(kept.body.parse().unwrap())
    }

    async fn new_user(&self, name: &str) -> i64 {
        self.register(name, GOOD, HOME, NOW).await.unwrap()
    }

    async fn enter(&self, name: &str, password: &str, now_ms: i64) -> Result<Tokens, Fault> {
        let ask = LogIn { name, password, device: "phone", from: HOME };
        self.log_in(ask, now_ms).await.map(|(tokens, _)| tokens)
    }

    async fn fresh(&self, token: &str, now_ms: i64) -> Tokens {
        match self.refresh(token, now_ms).await.unwrap() {
            Refreshed::Tokens(tokens) => tokens,
            Refreshed::Reused(revoked) => panic!("{revoked:?}"),
        }
    }
}

/// The code of a refusal.
#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, Fault>) -> Code {
    answer.unwrap_err().code().expect("a refusal, no failure of the store")
}

#[test]
fn a_name_is_registered_once() {
    on_both(|store| async move {
        let accounts = accounts(store);
        let id = accounts.new_user("alice").await;
        let again = accounts.register("alice", "another password", HOME, NOW).await;
        assert_eq!(refused(again), Code::AlreadyExists);
        let tokens = accounts.enter("alice", GOOD, NOW).await.unwrap();
        assert_eq!((tokens.user, tokens.name.as_str()), (id, "alice"));
        let other = accounts.enter("alice", "another password", NOW).await;
        assert_eq!(refused(other), Code::WrongPassword);
    });
}

#[test]
fn two_who_register_one_name_at_once_are_not_both_told_yes() {
    on_both(|store| async move {
        let accounts = Arc::new(accounts(store));
        let tries: Vec<_> = (0..8)
            .map(|_| {
                let accounts = Arc::clone(&accounts);
                tokio::spawn(async move { accounts.register("alice", GOOD, HOME, NOW).await })
            })
            .collect();
        let mut made = 0;
        for one in tries {
            match one.await.unwrap() {
                Ok(_) => made += 1,
                Err(fault) => assert_eq!(fault.code(), Some(Code::AlreadyExists), "{fault:?}"),
            }
        }
        assert_eq!(made, 1);
    });
}

#[test]
fn names_are_told_apart_byte_by_byte_and_tricks_in_them_do_nothing() {
    on_both(|store| async move {
        let settings = AccountSettings { address_burst: 1_000, ..cheap() };
        let accounts = accounts_with(store, settings);
        let names = [
            "alice",
            "Alice",
            "ALICE",
            "\u{c1}lice",
            "a\u{301}lice",
            "al ice",
            "ss",
            "\u{df}",
            "'; DROP TABLE users; --",
            "\" OR 1=1 --",
            "\\' OR ''='",
            "?",
            "%",
            "_",
            "a%",
            "NULL",
            "\u{1f469}\u{1f3fd}",
            "\u{4f60}\u{597d}",
            "\u{10fffd}",
            "i",
            "\u{131}",
            "\u{130}",
            "\\",
            "`",
            "/*",
            "${jndi}",
            "../..",
            "<script>",
        ];
        let mut ids = BTreeSet::new();
        for name in names {
            ids.insert(accounts.new_user(name).await);
        }
        assert_eq!(ids.len(), names.len());
        for name in names {
            let tokens = accounts.enter(name, GOOD, NOW).await.unwrap();
            assert_eq!(tokens.name, name);
            let caller = accounts.caller(&tokens.access, NOW).await.unwrap();
            assert_eq!((caller.user, caller.name.as_str()), (tokens.user, name));
        }
        let longest = "\u{1f469}".repeat(16);
        accounts.new_user(&longest).await;
        accounts.enter(&longest, GOOD, NOW).await.unwrap();
    });
}

#[test]
fn names_that_cannot_be_told_apart_by_eye_are_refused_everywhere() {
    on_both(|store| async move {
        let accounts = accounts(store);
        accounts.new_user("alice").await;
        let long = "x".repeat(65);
        let names = [
            "",
            " ",
            "alice ",
            " alice",
            "alice\u{a0}",
            "alice\u{200b}",
            "ali\u{200d}ce",
            "\u{202e}ecila",
            "alice\0",
            "a\nb",
            "a\tb",
            "\u{feff}alice",
            "al\u{ad}ice",
            &long,
        ];
        for name in names {
            let made = accounts.register(name, GOOD, HOME, NOW).await;
            assert_eq!(refused(made), Code::BadRequest, "{name:?}");
            assert_eq!(refused(accounts.enter(name, GOOD, NOW).await), Code::BadRequest);
        }
    });
}

#[test]
fn nobody_registers_under_a_name_that_looks_like_the_servers_own() {
    on_both(|store| async move {
        let accounts = accounts(store);
        for name in ["guest-1", "Guest-00ff", "guest-", "uproar", "UpRoar", "operator"] {
            let made = accounts.register(name, GOOD, HOME, NOW).await;
            assert_eq!(refused(made), Code::BadRequest, "{name:?}");
        }
        for name in ["guest", "guests-1", "operators", "uproarious"] {
            accounts.register(name, GOOD, HOME, NOW).await.unwrap();
        }
    });
}

#[test]
fn passwords_have_bounds_and_any_characters() {
    on_both(|store| async move {
        let accounts = accounts(store);
        for bad in ["", "1234567", &"x".repeat(257)] {
            let made = accounts.register("bob", bad, HOME, NOW).await;
            assert_eq!(refused(made), Code::BadRequest);
        }
        let odd = "\0'; \u{202e}\u{1f469} --";
        accounts.register("bob", odd, HOME, NOW).await.unwrap();
        accounts.enter("bob", odd, NOW).await.unwrap();
        for wrong in ["", "\0'; \u{202e}\u{1f469} -", &"x".repeat(100_000)] {
            assert_eq!(refused(accounts.enter("bob", wrong, NOW).await), Code::WrongPassword);
        }
    });
}

#[test]
fn an_unknown_name_is_refused_as_a_wrong_password_is() {
    on_both(|store| async move {
        let accounts = accounts(store);
        accounts.new_user("alice").await;
        let wrong = accounts.enter("alice", "wrong password", NOW).await.unwrap_err();
        let unknown = accounts.enter("nobody", "wrong password", NOW).await.unwrap_err();
        match (wrong, unknown) {
            (Fault::Refused(wrong), Fault::Refused(unknown)) => assert_eq!(wrong, unknown),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn an_access_token_is_good_until_it_expires_or_its_session_ends() {
    on_both(|store| async move {
        let accounts = accounts(store);
        accounts.new_user("alice").await;
        let tokens = accounts.enter("alice", GOOD, NOW).await.unwrap();
        let end_ms = NOW + 900_000;
        assert_eq!(tokens.access_expires_ms, end_ms);
        let caller = accounts.caller(&tokens.access, end_ms - 1).await.unwrap();
        assert_eq!(caller.session, Some(tokens.session));
        assert_eq!(refused(accounts.caller(&tokens.access, end_ms).await), Code::TokenExpired);
        assert_eq!(refused(accounts.caller("x.y.z", NOW).await), Code::TokenInvalid);
        let as_access = accounts.caller(&tokens.refresh, NOW).await;
        assert_eq!(refused(as_access), Code::TokenInvalid);
        let as_refresh = accounts.refresh(&tokens.access, NOW).await;
        assert_eq!(refused(as_refresh), Code::TokenInvalid);
        let ended = accounts.log_out(&caller, tokens.session).await.unwrap();
        assert_eq!(ended, [Revoked::Session(tokens.session)]);
        assert_eq!(refused(accounts.caller(&tokens.access, NOW).await), Code::SessionRevoked);
        assert_eq!(refused(accounts.refresh(&tokens.refresh, NOW).await), Code::SessionRevoked);
        assert_eq!(accounts.log_out(&caller, tokens.session).await.unwrap(), []);
    });
}

#[test]
fn a_refresh_token_is_replaced_at_every_use_and_stretches_the_session() {
    on_both(|store| async move {
        let accounts = accounts(store);
        accounts.new_user("alice").await;
        let mut tokens = accounts.enter("alice", GOOD, NOW).await.unwrap();
        let mut seen = BTreeSet::from([tokens.refresh.clone()]);
        let day_ms = 86_400_000;
        for day in 1..=40 {
            let next = accounts.fresh(&tokens.refresh, NOW + day * day_ms).await;
            assert_eq!((next.user, next.session), (tokens.user, tokens.session));
            assert!(seen.insert(next.refresh.clone()), "a refresh token was given twice");
            assert_eq!(next.refresh_expires_ms, NOW + (day + 30) * day_ms);
            tokens = next;
        }
        let late = accounts.refresh(&tokens.refresh, NOW + 70 * day_ms).await;
        assert_eq!(refused(late), Code::SessionRevoked, "unused for 30 days");
    });
}

#[test]
fn a_lost_answer_logs_nobody_out() {
    on_both(|store| async move {
        let accounts = accounts(Arc::clone(&store));
        accounts.new_user("alice").await;
        let first = accounts.enter("alice", GOOD, NOW).await.unwrap();
        let lost = accounts.fresh(&first.refresh, NOW).await;
        for later_ms in [0, 1, 59_999, 60_000] {
            let again = accounts.fresh(&first.refresh, NOW + later_ms).await;
            assert_eq!(again.refresh, lost.refresh, "the same successor");
        }
        // Another node, or this one after a restart, has the same key and tells the same.
        let restarted = accounts_with(store, cheap());
        let again = restarted.fresh(&first.refresh, NOW + 60_000).await;
        assert_eq!(again.refresh, lost.refresh);
        restarted.fresh(&again.refresh, NOW + 70_000).await;
    });
}

#[test]
fn a_refresh_token_used_again_ends_the_session() {
    on_both(|store| async move {
        let accounts = accounts(store);
        accounts.new_user("alice").await;
        let other = accounts.enter("alice", GOOD, NOW).await.unwrap();
        // After the minute; after the successor was used; the successor of a stolen one.
        for (wait_ms, uses) in [(60_001, 1), (10, 2), (10, 5)] {
            let first = accounts.enter("alice", GOOD, NOW).await.unwrap();
            let mut newest = first.clone();
            for _ in 0..uses {
                newest = accounts.fresh(&newest.refresh, NOW).await;
            }
            let reused = accounts.refresh(&first.refresh, NOW + wait_ms).await.unwrap();
            assert_eq!(reused, Refreshed::Reused(Revoked::Session(first.session)));
            let newest_too = accounts.refresh(&newest.refresh, NOW + wait_ms).await;
            assert_eq!(refused(newest_too), Code::SessionRevoked);
            assert_eq!(refused(accounts.caller(&newest.access, NOW).await), Code::SessionRevoked);
        }
        accounts.fresh(&other.refresh, NOW).await;
    });
}

#[test]
fn two_refreshes_at_once_get_the_same_successor() {
    on_both(|store| async move {
        let accounts = Arc::new(accounts(store));
        accounts.new_user("alice").await;
        let first = accounts.enter("alice", GOOD, NOW).await.unwrap();
        let tries: Vec<_> = (0..8)
            .map(|_| {
                let (accounts, token) = (Arc::clone(&accounts), first.refresh.clone());
                tokio::spawn(async move { accounts.fresh(&token, NOW).await.refresh })
            })
            .collect();
        let mut successors = BTreeSet::new();
        for one in tries {
            successors.insert(one.await.unwrap());
        }
        assert_eq!(successors.len(), 1);
    });
}

#[test]
fn a_made_up_refresh_token_ends_nobodys_session() {
    on_both(|store| async move {
        let accounts = accounts(store);
        accounts.new_user("alice").await;
        let real = accounts.enter("alice", GOOD, NOW).await.unwrap();
        let made_up = RefreshToken::first(real.user, real.session);
        let stranger = SigningKey::hs256(&crate::tokens::base64_text(&[8; 32])).unwrap();
        let refused_one = accounts.refresh(&made_up.text(&stranger).unwrap(), NOW).await;
        assert_eq!(refused(refused_one), Code::TokenInvalid);
        accounts.fresh(&real.refresh, NOW).await;
    });
}

#[test]
fn a_new_password_ends_the_other_sessions_and_no_one_elses() {
    on_both(|store| async move {
        let accounts = accounts(store);
        accounts.new_user("alice").await;
        accounts.new_user("bob").await;
        let here = accounts.enter("alice", GOOD, NOW).await.unwrap();
        let there = accounts.enter("alice", GOOD, NOW).await.unwrap();
        let bob = accounts.enter("bob", GOOD, NOW).await.unwrap();
        let me = accounts.caller(&here.access, NOW).await.unwrap();
        let wrong = accounts.change_password(&me, "wrong password", "new password", NOW).await;
        assert_eq!(refused(wrong), Code::WrongPassword);
        let short = accounts.change_password(&me, GOOD, "short", NOW).await;
        assert_eq!(refused(short), Code::BadRequest);
        accounts.caller(&there.access, NOW).await.unwrap();
        let ended = accounts.change_password(&me, GOOD, "new password", NOW).await.unwrap();
        assert_eq!(ended, [Revoked::Session(there.session)]);
        assert_eq!(refused(accounts.caller(&there.access, NOW).await), Code::SessionRevoked);
        assert_eq!(refused(accounts.refresh(&there.refresh, NOW).await), Code::SessionRevoked);
        accounts.fresh(&here.refresh, NOW).await;
        accounts.fresh(&bob.refresh, NOW).await;
        assert_eq!(refused(accounts.enter("alice", GOOD, NOW).await), Code::WrongPassword);
        accounts.enter("alice", "new password", NOW).await.unwrap();
    });
}

#[test]
fn a_log_in_that_meets_a_change_of_the_password_opens_nothing() {
    on_both(|store| async move {
        let accounts = accounts(Arc::clone(&store));
        let user = accounts.new_user("alice").await;
        let token = RefreshToken::first(user, random_id());
        let session = Session {
            user,
            id: token.session,
            device: String::new(),
            turn: 1,
            token_hash: token.hash(),
            turned_ms: NOW,
            created_ms: NOW,
            expires_ms: NOW + 1,
        };
        let opened = rows::open_session(&store, session, "the hash before".into(), 9).await;
        assert_eq!(opened.unwrap(), Opened::Changed);
        assert_eq!(rows::sessions(&store, user).await.unwrap(), []);
    });
}

#[test]
fn logging_out_everywhere_ends_every_session_of_the_user() {
    on_both(|store| async move {
        let accounts = accounts(store);
        accounts.new_user("alice").await;
        accounts.new_user("bob").await;
        let first = accounts.enter("alice", GOOD, NOW).await.unwrap();
        let second = accounts.enter("alice", GOOD, NOW).await.unwrap();
        let bob = accounts.enter("bob", GOOD, NOW).await.unwrap();
        let me = accounts.caller(&first.access, NOW).await.unwrap();
        let them = accounts.caller(&bob.access, NOW).await.unwrap();
        assert_eq!(accounts.log_out(&them, first.session).await.unwrap(), [], "not his to end");
        let ended = accounts.log_out_everywhere(&me).await.unwrap();
        assert_eq!(ended, [Revoked::User("alice".into())]);
        for tokens in [first, second] {
            assert_eq!(refused(accounts.caller(&tokens.access, NOW).await), Code::SessionRevoked);
        }
        accounts.caller(&bob.access, NOW).await.unwrap();
    });
}

#[test]
fn the_longest_unused_session_makes_room_for_a_new_one() {
    on_both(|store| async move {
        let accounts = accounts_with(store, AccountSettings { sessions_max: 3, ..cheap() });
        accounts.new_user("alice").await;
        let first = accounts.enter("alice", GOOD, NOW).await.unwrap();
        let second = accounts.enter("alice", GOOD, NOW + 1).await.unwrap();
        let third = accounts.enter("alice", GOOD, NOW + 2).await.unwrap();
        let first = accounts.fresh(&first.refresh, NOW + 3).await;
        let ask = LogIn { name: "alice", password: GOOD, device: "tv", from: HOME };
        let (fourth, ended) = accounts.log_in(ask, NOW + 4).await.unwrap();
        assert_eq!(ended, [Revoked::Session(second.session)]);
        let me = accounts.caller(&fourth.access, NOW + 5).await.unwrap();
        let devices = accounts.devices(&me, NOW + 5).await.unwrap();
        let ids: Vec<i64> = devices.iter().map(|session| session.id).collect();
        assert_eq!(ids, [fourth.session, first.session, third.session]);
        assert_eq!(devices[0].device, "tv");
    });
}

#[test]
fn guesses_are_slowed_down_by_account_and_by_address() {
    on_both(|store| async move {
        let settings = AccountSettings { account_burst: 3, address_burst: 5, ..cheap() };
        let accounts = accounts_with(store, settings);
        accounts.register("alice", GOOD, "192.0.2.9".parse().unwrap(), NOW).await.unwrap();
        for _ in 0..3 {
            let wrong = accounts.enter("alice", "wrong password", NOW).await;
            assert_eq!(refused(wrong), Code::WrongPassword);
        }
        let Err(Fault::Refused(slow)) = accounts.enter("alice", GOOD, NOW).await else {
            panic!("the fourth attempt passed");
        };
        assert_eq!((slow.code, slow.retry_after_ms), (Code::SlowDown, 10_000));
        // The fifth attempt of the address; the sixth is one too many, whatever the account.
        let other = accounts.enter("carol", GOOD, NOW).await;
        assert_eq!(refused(other), Code::WrongPassword);
        let Err(Fault::Refused(slow)) = accounts.enter("dave", GOOD, NOW).await else {
            panic!("the sixth attempt passed");
        };
        assert_eq!((slow.code, slow.retry_after_ms), (Code::SlowDown, 1_000));
        accounts.enter("alice", GOOD, NOW + 10_000).await.unwrap();
    });
}

#[test]
fn one_owner_of_addresses_has_one_bucket() {
    let same = |a: &str, b: &str| network(a.parse().unwrap()) == network(b.parse().unwrap());
    assert!(same("2001:db8::1", "2001:db8::ffff:1"));
    assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
    assert!(same("::ffff:192.0.2.1", "192.0.2.1"));
    assert!(!same("192.0.2.1", "192.0.2.2"));
}

#[test]
fn a_platforms_own_user_is_made_at_first_sight() {
    on_both(|store| async move {
        let accounts = accounts(store);
        let claims = Claims { sub: "zoe".into(), exp: 2_000_000_000, ..Claims::default() };
        let token = accounts.key().unwrap().mint(&claims).unwrap();
        let caller = accounts.caller(&token, NOW).await.unwrap();
        assert_eq!(accounts.caller(&token, NOW).await.unwrap(), caller);
        assert_eq!((caller.name.as_str(), caller.session), ("zoe", None));
        let taken = accounts.register("zoe", GOOD, HOME, NOW).await;
        assert_eq!(refused(taken), Code::AlreadyExists);
        assert_eq!(refused(accounts.enter("zoe", GOOD, NOW).await), Code::WrongPassword);
        let changed = accounts.change_password(&caller, GOOD, "new password", NOW).await;
        assert_eq!(refused(changed), Code::Forbidden);
    });
}

#[test]
fn a_closed_registration_makes_no_account() {
    on_both(|store| async move {
        let settings = AccountSettings { registration_open: false, ..cheap() };
        let accounts = accounts_with(store, settings);
        let made = accounts.register("alice", GOOD, HOME, NOW).await;
        assert_eq!(refused(made), Code::Forbidden);
    });
}

#[test]
fn a_setting_out_of_range_names_the_key_and_the_range() {
    let bad = AccountSettings { access_ttl_s: 1, ..cheap() };
    assert_eq!(bad.check().unwrap_err(), "access_ttl_s is 1; allowed is 10 to 86400");
    let bad = AccountSettings { refresh_ttl_s: 600, ..cheap() };
    assert!(bad.check().unwrap_err().contains("above access_ttl_s"));
    AccountSettings::default().check().unwrap();
}

/// Rules that take tokens of one other issuer, and a token of it.
fn with_issuer(store: Arc<Store>, key: Option<SigningKey>) -> (Accounts, String) {
    let settings = uproar_proto::issuers::IssuerSettings {
        name: "acme".into(),
        issuer: "https://acme".into(),
        audience: String::new(),
        algorithm: uproar_proto::issuers::Pinned::HS256,
        key: crate::tokens::base64_text(&[9; 32]),
        jwks_url: String::new(),
    };
    let issuers = Arc::new(Issuers::new(&[settings]).unwrap());
    let claims = serde_json::json!({
        "iss": "https://acme", "sub": "bob", "exp": NOW / 1000 + 60, "sid": "7", "uid": "7",
    });
    let theirs = jsonwebtoken::EncodingKey::from_secret(&[9; 32]);
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &theirs).unwrap();
    (Accounts::new(store, key, issuers, cheap()).unwrap(), token)
}

#[test]
fn an_identity_of_another_issuer_is_one_user_and_never_a_local_one() {
    on_both(|store| async move {
        let key = SigningKey::hs256(&crate::tokens::base64_text(&[7; 32])).unwrap();
        let (accounts, token) = with_issuer(store, Some(key));
        let local = accounts.new_user("bob").await;
        let first = accounts.caller(&token, NOW).await.unwrap();
        assert_eq!((first.name.as_str(), first.session), ("bob@acme", None));
        assert_ne!(first.user, local);
        assert_eq!(accounts.caller(&token, NOW + 1).await.unwrap(), first);
        let by_name = crate::relations::peer(&accounts.store, "bob@acme").await.unwrap();
        assert_eq!(by_name, first.user);
        assert_eq!(crate::relations::peer(&accounts.store, "bob").await.unwrap(), local);
        let mut conn = accounts.store.reader().await.unwrap();
        let told = crate::store::users::name(&mut conn, first.user).await.unwrap();
        assert_eq!(told.as_deref(), Some("bob@acme"));
        drop(conn);
        let late = accounts.caller(&token, NOW + 60_000).await.unwrap_err();
        assert_eq!(late.code(), Some(Code::TokenExpired));
        // Nobody makes that name here, neither by an account nor by this node's key.
        let taken = accounts.register("eve@acme", GOOD, HOME, NOW).await.unwrap_err();
        assert_eq!(taken.code(), Some(Code::BadRequest));
        let ours = jsonwebtoken::EncodingKey::from_secret(&[7; 32]);
        let claims = serde_json::json!({"sub": "bob@acme", "exp": NOW / 1000 + 60});
        let forged = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &ours);
        let refused = accounts.caller(&forged.unwrap(), NOW).await.unwrap_err();
        assert_eq!(refused.code(), Some(Code::TokenInvalid));
    });
}

#[test]
fn the_token_of_an_erased_user_is_refused_for_ever() {
    on_both(|store| async move {
        let (accounts, token) = with_issuer(store, None);
        let user = accounts.caller(&token, NOW).await.unwrap().user;
        let erase = accounts.store.write(move |conn| {
            Box::pin(async move {
                let erase = sqlx::query("UPDATE users SET erased = 1 WHERE id = ?");
                erase.bind(user).execute(conn).await?;
                Ok(())
            })
        });
        erase.await.unwrap();
        for _ in 0..2 {
            let refused = accounts.caller(&token, NOW).await.unwrap_err();
            assert_eq!(refused.code(), Some(Code::TokenInvalid));
        }
    });
}

#[test]
fn without_a_key_that_signs_nobody_logs_in() {
    on_both(|store| async move {
        let (accounts, _) = with_issuer(store, None);
        let refused = accounts.register("bob", GOOD, HOME, NOW).await.unwrap_err();
        assert_eq!(refused.code(), Some(Code::Forbidden));
        let refused = accounts.enter("bob", GOOD, NOW).await.unwrap_err();
        assert_eq!(refused.code(), Some(Code::Forbidden));
    });
}

#[test]
fn a_token_says_which_rooms_its_user_follows_since_the_last_refresh() {
    on_both(|store| async move {
        let accounts = accounts(Arc::clone(&store));
        let (ann, bob) = (accounts.new_user("ann").await, accounts.new_user("bob").await);
        let follows = |tokens: &Tokens| {
            let access = accounts.verify_own(&tokens.access).unwrap();
            access.claims.follows.map(|follows| follows.into_iter().collect::<Vec<_>>())
        };
        let act = async |act: relations::Act, at_ms| {
            relations::act(&store, ann, bob, act, at_ms).await.unwrap();
        };
        act(relations::Act::Follow, NOW).await;
        let first = accounts.enter("ann", GOOD, NOW + 1).await.unwrap();
        assert_eq!(follows(&first), None, "bob has no room");
        roles::set(&store, "stage", bob, Some(Role::Owner), |_| true).await.unwrap();
        let stage = Some(vec![("stage".to_owned(), NOW as u64 / 1000)]);
        let second = accounts.fresh(&first.refresh, NOW + 2).await;
        assert_eq!(follows(&second), stage);
        let again = accounts.fresh(&first.refresh, NOW + 3).await;
        assert_eq!(follows(&again), stage, "the answer may have been lost");
        assert_eq!(follows(&accounts.enter("ann", GOOD, NOW + 4).await.unwrap()), stage);
        let own = Some(vec![("stage".to_owned(), 0)]);
        assert_eq!(follows(&accounts.enter("bob", GOOD, NOW + 5).await.unwrap()), own);
        act(relations::Act::Unfollow, NOW + 6_000).await;
        let third = accounts.fresh(&second.refresh, NOW + 6_001).await;
        assert_eq!(follows(&third), None);
        act(relations::Act::Follow, NOW + 9_000).await;
        let fourth = accounts.fresh(&third.refresh, NOW + 9_001).await;
        assert_eq!(follows(&fourth), Some(vec![("stage".to_owned(), NOW as u64 / 1000 + 9)]));
    });
}
