//! What a home promises, as sentences; books, rates and reserves as properties.

use super::*;
use crate::config;
use crate::hash::mix;
use crate::router::Gift;
use crate::router::tests::candidate;
use bytes::Bytes;
use proptest::prelude::*;

fn now(us: u64) -> Now {
    Now { tick: Tick(us), unix_ms: 1_700_000_000_000 + us / 1000, cpu_us: 0 }
}

fn home(settings: RoomSettings, window: config::Window) -> Home {
    let rules = Rooms { window, ..Rooms::default() };
    let room = RoomId::new("r").expect("legal");
    Home::new(room, Arc::new(settings), &rules, Epoch(1), 7, Tick(0), true)
}

fn fixed(ms: u32) -> Home {
    let settings = RoomSettings { user_rate_per_s: 1_000, ..RoomSettings::default() };
    home(settings, config::Window::FixedMs(ms))
}

fn say(home: &mut Home, sender: u64, class: Class, at: u64, out: &mut Vec<Output>) {
    let candidates = vec![candidate(sender, class, at)];
    home.books.offered[class as usize] += 1;
    home.offer(Offer { candidates, ..Offer::default() }, now(at), out);
}

fn seqs(out: &[Output]) -> Vec<u64> {
    let flushed = |o: &Output| match o {
        Output::Flush(batch) => batch.messages.iter().map(|m| m.seq.0).collect(),
        _ => Vec::new(),
    };
    out.iter().flat_map(flushed).collect()
}

fn run_until(home: &mut Home, end: u64, out: &mut Vec<Output>) {
    let mut ticks = 0;
    while home.next_due().0 <= end {
        let at = home.next_due().0;
        home.tick(now(at.max(1)), out);
        ticks += 1;
        assert!(ticks < 100_000, "a tick at next_due makes progress");
    }
}

/// A gift with a name; its id says how many it stands for.
fn give(home: &mut Home, sender: u64, name: &str, count: u32, at: u64, out: &mut Vec<Output>) {
    let gift = Gift::new(Bytes::from(name.to_owned()), count, Tick(at));
    let client_msg_id = Bytes::copy_from_slice(&count.to_be_bytes());
    let of = candidate(sender, Class::Gift, at);
    let candidates = vec![Candidate { gift: Some(Box::new(gift)), client_msg_id, ..of }];
    home.books.offered[GIFT] += 1;
    home.offer(Offer { candidates, ..Offer::default() }, now(at), out);
}

/// How many gifts their senders were told to be in the room.
fn told_to_be_in(out: &[Output]) -> u64 {
    let told = |o: &Output| match o {
        Output::Verdict(verdict) => {
            let is_in = matches!(verdict.outcome, Outcome::Accepted | Outcome::Merged);
            let id = verdict.client_msg_id[..].try_into();
            if is_in { id.map_or(0, |id| u64::from(u32::from_be_bytes(id))) } else { 0 }
        }
        _ => 0,
    };
    out.iter().map(told).sum()
}

fn combos(out: &[Output]) -> Vec<v1::Combo> {
    let flushed = |o: &Output| match o {
        Output::Flush(batch) => {
            batch.messages.iter().filter_map(|m| m.combo.as_deref().cloned()).collect()
        }
        _ => Vec::new(),
    };
    out.iter().flat_map(flushed).collect()
}

/// How many gifts the room was shown.
fn counted_in_combos(out: &[Output]) -> u64 {
    combos(out).iter().map(|combo| combo.count).sum()
}

#[test]
fn a_thousand_taps_a_second_are_a_few_messages_and_every_one_is_in_the_total() {
    let mut home = home(RoomSettings::default(), config::Window::Adaptive);
    let mut out = Vec::new();
    home.attach(ShardId(0), now(0));
    home.sweep_took(ShardId(0), 10_000);
    for i in 0..10_000 {
        give(&mut home, 1, "rose", 1, 1_000 + i * 1_000, &mut out);
    }
    run_until(&mut home, 20_000_000, &mut out);
    let told = combos(&out);
    assert_eq!(told.last().map(|combo| combo.total), Some(10_000), "{:?}", home.books());
    assert!(told.iter().all(|combo| combo.combo == told[0].combo), "one line that counts up");
    // Its user's pace: ten at once, then five a second.
    assert!((50..=62).contains(&told.len()), "{} messages in ten seconds", told.len());
    assert_eq!(told_to_be_in(&out), 10_000);
    println!("one user, 1,000 gifts a second: {:.1} messages a second", told.len() as f64 / 10.0);
}

#[test]
fn who_gives_fast_pushes_nobody_elses_gift_out() {
    let mut home = home(RoomSettings::default(), config::Window::Adaptive);
    let mut out = Vec::new();
    home.attach(ShardId(0), now(0));
    for i in 0..10_000 {
        give(&mut home, 1, "rose", 1, 1_000 + i * 1_000, &mut out);
        if i % 100 == 0 {
            give(&mut home, 2 + i, "car", 1, 1_000 + i * 1_000, &mut out);
        }
    }
    run_until(&mut home, 20_000_000, &mut out);
    let cars = combos(&out).iter().filter(|combo| combo.gift == "car").count();
    assert_eq!((cars, counted_in_combos(&out)), (100, 10_100), "{:?}", home.books());
}

#[test]
fn gifts_of_a_thousand_users_are_counted_exactly_as_far_as_their_room_goes() {
    let settings = RoomSettings { rate_per_s: 200, ..RoomSettings::default() };
    let mut home = home(settings, config::Window::Adaptive);
    let mut out = Vec::new();
    home.attach(ShardId(0), now(0));
    for i in 0..10_000 {
        give(&mut home, i % 1_000, "rose", 1, 1_000 + i * 1_000, &mut out);
    }
    run_until(&mut home, 20_000_000, &mut out);
    let (told, shown) = (told_to_be_in(&out), combos(&out).len());
    assert_eq!(told, counted_in_combos(&out), "{:?}", home.books());
    assert!((2_000..=2_450).contains(&shown), "the room's rate: {shown}");
    println!("1,000 users: {shown} messages in ten seconds, {told} of 10,000 gifts in the totals");
}

#[test]
fn a_mute_and_the_end_of_a_room_leave_no_gift_in_doubt() {
    let mut home = fixed(500);
    let mut out = Vec::new();
    for i in 0..100 {
        give(&mut home, 1, "rose", 1, 1_000 + i, &mut out);
    }
    home.mute(mix(1), u64::MAX, now(2_000).unix_ms);
    give(&mut home, 1, "rose", 1, 3_000, &mut out);
    let refused = |o: &Output| match o {
        Output::Verdict(verdict) => verdict.code == Some(Code::Muted),
        _ => false,
    };
    assert_eq!(out.iter().filter(|o| refused(o)).count(), 1, "it is not folded any more");
    home.close(now(4_000), &mut out);
    assert_eq!((told_to_be_in(&out), counted_in_combos(&out)), (100, 100));
    assert!(home.books().is_balanced(&[0; CLASSES]), "{:?}", home.books());
}

#[test]
fn an_overloaded_room_is_flushed_when_its_windows_are_decided() {
    // Windows of 250 ms are decided 20 ms late; without overload a message waits up to 600 ms.
    let mut home = fixed(600);
    let mut out = Vec::new();
    for i in 0..3_000 {
        say(&mut home, i % 50, Class::Chat, i * 1_000 + 1, &mut out);
    }
    let flushed_at = |o: &Output| match o {
        Output::Flush(batch) => Some(batch.flushed.0),
        _ => None,
    };
    let flushes: Vec<u64> = out.iter().filter_map(flushed_at).collect();
    let late: Vec<u64> = flushes.iter().skip(2).map(|at| at % 250_000 / 1_000).collect();
    assert!(late.len() >= 4 && late.iter().all(|ms| (20..=22).contains(ms)), "{flushes:?}");
    let spaces: Vec<u64> = flushes.windows(2).skip(2).map(|f| (f[1] - f[0]) / 1_000).collect();
    assert!(spaces.iter().all(|ms| (499..=501).contains(ms)), "{spaces:?}");
}

fn viewer_counts(out: &[Output]) -> Vec<u64> {
    let told = |o: &Output| match o {
        Output::Flush(batch) => batch.viewers,
        _ => None,
    };
    out.iter().filter_map(told).collect()
}

#[test]
fn a_count_alone_waits_ten_sweeps_and_rides_with_messages_before() {
    let mut home = fixed(0);
    let mut out = Vec::new();
    home.attach(ShardId(0), now(1));
    home.sweep_took(ShardId(0), 500_000);
    home.members(ShardId(0), 1);
    run_until(&mut home, 1_000, &mut out);
    assert_eq!(viewer_counts(&out), [1], "the first is told at once");
    home.members(ShardId(0), 2);
    run_until(&mut home, 4_900_000, &mut out);
    assert_eq!(viewer_counts(&out), [1], "every two seconds would take a quarter of a core");
    run_until(&mut home, 5_100_000, &mut out);
    assert_eq!(viewer_counts(&out), [1, 2]);
    home.members(ShardId(0), 3);
    say(&mut home, 1, Class::Chat, 7_200_000, &mut out);
    assert_eq!(viewer_counts(&out), [1, 2, 3], "with a message it costs nothing");
}

#[test]
fn a_quiet_room_flushes_at_once_and_a_busy_one_a_window_later() {
    let mut home = fixed(500);
    let mut out = Vec::new();
    say(&mut home, 1, Class::Chat, 1_000, &mut out);
    assert_eq!(seqs(&out), [1]);
    say(&mut home, 2, Class::Chat, 2_000, &mut out);
    say(&mut home, 3, Class::Chat, 3_000, &mut out);
    assert_eq!((seqs(&out), home.next_due()), (vec![1], Tick(270_000)));
    run_until(&mut home, 501_000, &mut out);
    assert_eq!(seqs(&out), [1, 2, 3]);
    run_until(&mut home, 10_000_000, &mut out);
    assert_eq!(home.next_due(), Tick::NEVER, "an idle room wants nothing");
}

#[test]
fn in_window_zero_every_message_is_its_own_batch() {
    let mut home = fixed(0);
    let mut out = Vec::new();
    for i in 0..5 {
        say(&mut home, i, Class::Chat, 1_000 + i, &mut out);
    }
    let batches = out.iter().filter(|o| matches!(o, Output::Flush(_))).count();
    assert_eq!((batches, seqs(&out)), (5, vec![1, 2, 3, 4, 5]));
}

#[test]
fn a_message_older_than_the_deadline_is_counted_and_not_sent() {
    let mut home = fixed(0);
    let mut out = Vec::new();
    let late = vec![candidate(1, Class::Chat, 0), candidate(2, Class::System, 0)];
    let offer = Offer { candidates: late, ..Offer::default() };
    home.offer(offer, now(2_500_000), &mut out);
    assert_eq!(home.books().expired[CHAT], 1);
    assert_eq!(seqs(&out), [1], "an accepted system message goes out however late");
}

#[test]
fn system_messages_beyond_their_bound_are_refused_with_a_retry_time() {
    let mut home = fixed(500);
    let mut out = Vec::new();
    for i in 0..200 {
        say(&mut home, i, Class::System, 1_000, &mut out);
    }
    let refused: Vec<u32> = out
        .iter()
        .filter_map(|o| match o {
            Output::Verdict(v) if v.outcome == Outcome::Refused => Some(v.retry_after_ms),
            _ => None,
        })
        .collect();
    run_until(&mut home, 2_000_000, &mut out);
    assert_eq!(refused.len() + seqs(&out).len(), 200);
    assert_eq!(seqs(&out).len(), 65, "the first at once, then as many as may wait");
    assert!(refused.iter().all(|ms| *ms > 0));
}

#[test]
fn likes_are_one_exact_counter() {
    let mut home = fixed(0);
    home.attach(ShardId(0), now(0));
    let mut out = Vec::new();
    for i in 0..400u64 {
        let offer = Offer { likes: 25, like_frames: 25, ..Offer::default() };
        home.offer(offer, now(i * 2_500), &mut out);
    }
    run_until(&mut home, 5_000_000, &mut out);
    let told: Vec<u64> = out
        .iter()
        .filter_map(|o| match o {
            Output::Flush(batch) => batch.likes,
            _ => None,
        })
        .collect();
    assert_eq!((told.len(), told.last()), (2, Some(&10_000)), "once a second: {told:?}");
}

#[test]
fn viewers_are_the_sum_of_the_shards() {
    let mut home = fixed(0);
    for shard in 0..3 {
        home.attach(ShardId(shard), now(0));
        home.members(ShardId(shard), 10);
    }
    home.detach(ShardId(1), Tick(0));
    assert_eq!(home.info().viewers, 20);
    let mut out = Vec::new();
    home.tick(now(1), &mut out);
    assert!(matches!(&out[0], Output::Flush(b) if b.viewers == Some(20)));
}

#[test]
fn a_closing_room_sends_what_it_admitted_and_refuses_the_rest() {
    let mut home = fixed(500);
    let mut out = Vec::new();
    for i in 0..100 {
        say(&mut home, i, Class::Chat, 1_000 + i, &mut out);
    }
    home.close(now(50_000), &mut out);
    assert!(home.books().is_balanced(&home.pending()) && home.pending() == [0; CLASSES]);
    assert_eq!(seqs(&out).len() as u64, home.books().admitted[CHAT]);
}

/// Two seconds of 200 msg/s from 100 senders; the admitted share of each sender.
fn admitted_by_sender(rates: &[u64], seconds: u64) -> Vec<u64> {
    let mut home = fixed(0);
    let mut wins = vec![0; rates.len()];
    for ms in 0..seconds * 1000 {
        let mut out = Vec::new();
        for (sender, rate) in rates.iter().enumerate() {
            if (ms * rate) / 1000 != ((ms + 1) * rate) / 1000 {
                say(&mut home, sender as u64, Class::Chat, ms * 1000 + sender as u64, &mut out);
            }
        }
        home.tick(now(ms * 1000 + 999), &mut out);
        for o in &out {
            if let Output::Flush(batch) = o {
                for m in &batch.messages {
                    let sender: usize = m.user.parse().expect("test senders are numbers");
                    wins[sender] += 1;
                }
            }
        }
    }
    wins
}

#[test]
fn under_overload_the_fastest_typist_does_not_own_the_screen() {
    // One sender types 100 a second, fifty type 4 a second (one each window).
    let mut rates = vec![4; 51];
    rates[0] = 100;
    let wins = admitted_by_sender(&rates, 120);
    let average = wins[1..].iter().sum::<u64>() as f64 / 50.0;
    assert!(wins[0] as f64 <= average * 1.6, "fast {} against {average}", wins[0]);
    let total: u64 = wins.iter().sum();
    assert!((2_300..=2_440).contains(&total), "20 a second for 120 s: {total}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_books_balance_whatever_is_offered(
        steps in prop::collection::vec((0u64..8, 0usize..7, 0u64..40_000), 1..600),
        slow in 0u32..2,
        rate in 1u32..40,
        setting in 0usize..3,
    ) {
        let setting = [BeforePublish::Off, BeforePublish::Open, BeforePublish::Closed][setting];
        let settings = RoomSettings {
            before_publish: setting,
            slow_mode_s: slow,
            rate_per_s: rate,
            payload_bytes_max: 8,
            ..RoomSettings::default()
        };
        let mut home = home(settings, config::Window::Adaptive);
        home.attach(ShardId(0), now(0));
        let (mut at, mut out) = (0, Vec::new());
        for (sender, class, delta) in steps {
            at += delta;
            home.sweep_took(ShardId(0), delta);
            let names = ["", "", "", "", "rose", "car"];
            let (Some(name), Some(class)) = (names.get(class).copied(), [Class::Chat,
                Class::System, Class::Gift, Class::Like, Class::Gift, Class::Gift].get(class))
            else {
                home.judged(delta % 100, Judgement::Allow, now(at), &mut out);
                prop_assert!(home.books().is_balanced(&home.pending()));
                continue;
            };
            let class = *class;
            if class == Class::Gift && !name.is_empty() {
                give(&mut home, sender, name, 1 + (at % 3) as u32, at, &mut out);
            } else if class == Class::Like {
                home.books.offered[LIKE] += 1;
                let offer = Offer { likes: 3, like_frames: 1, ..Offer::default() };
                home.offer(offer, now(at), &mut out);
            } else {
                say(&mut home, sender, class, at, &mut out);
            }
            prop_assert!(home.books().is_balanced(&home.pending()));
        }
        run_until(&mut home, at + 20_000_000, &mut out);
        prop_assert_eq!(home.pending(), [0; CLASSES]);
        prop_assert!(home.books().is_balanced(&[0; CLASSES]));
        prop_assert_eq!(told_to_be_in(&out), counted_in_combos(&out), "every gift, and no other");
        let seqs = seqs(&out);
        prop_assert_eq!(&seqs, &(1..=seqs.len() as u64).collect::<Vec<_>>(), "contiguous");
    }

    #[test]
    fn a_room_admits_its_rate_and_one_second_of_burst(
        offered in 21u64..400, seconds in 3u64..12
    ) {
        let mut home = fixed(0);
        let mut out = Vec::new();
        for i in 0..offered * seconds {
            say(&mut home, i % 50, Class::Chat, i * 1_000_000 / offered, &mut out);
        }
        run_until(&mut home, seconds * 1_000_000, &mut out);
        let admitted = home.books().admitted[CHAT];
        prop_assert!(admitted <= 20 * (seconds + 1), "{admitted} in {seconds} s");
        prop_assert!(admitted >= 20 * seconds - 10, "{admitted} in {seconds} s");
    }

    #[test]
    fn a_reserved_gift_is_never_lost(burst in 1u64..11, flood in 0u64..30) {
        // Up to half of the rate as gifts, in one burst a second, under any flood of chat.
        let mut home = fixed(0);
        let mut out = Vec::new();
        for second in 0..20u64 {
            for ms in 0..1000u64 {
                let at = (second * 1000 + ms) * 1000;
                if ms == 500 {
                    for gift in 0..burst {
                        say(&mut home, 900 + gift, Class::Gift, at, &mut out);
                    }
                }
                if ms % 5 == 0 {
                    for chat in 0..flood {
                        say(&mut home, chat, Class::Chat, at, &mut out);
                    }
                }
                home.tick(now(at), &mut out);
            }
        }
        run_until(&mut home, 30_000_000, &mut out);
        let gift = Class::Gift as usize;
        prop_assert_eq!(home.books().admitted[gift], burst * 20);
    }
}

#[test]
fn what_is_of_the_spared_or_of_nobody_known_is_not_recalled() {
    let rules = config::Rooms { history_messages_max: 3, ..config::Rooms::default() };
    let settings = Arc::new(RoomSettings::default());
    let room = RoomId::new("room").unwrap();
    let mut home = Home::new(room, settings, &rules, Epoch(1), 7, Tick(0), false);
    let mut out = Vec::new();
    for sender in 0..5 {
        say(&mut home, sender, Class::Chat, sender * 1_000_000, &mut out);
    }
    run_until(&mut home, 10_000_000, &mut out);
    assert_eq!(seqs(&out), [1, 2, 3, 4, 5]);
    let mut recall = |seqs: &[u64], spared: &[&str]| {
        let spared = spared.iter().map(|name| (*name).to_owned()).collect();
        let what = Recall::SeqsBut { seqs: seqs.to_vec(), spared };
        home.recall(what, now(10_000_000), &mut out)
    };
    // Sender 4 said 5; the room does not remember whose 1 is.
    assert_eq!(recall(&[4, 5], &["4"]), Err(Code::Forbidden));
    assert_eq!(recall(&[1], &[]), Err(Code::Forbidden));
    assert_eq!(recall(&[4, 4, 99, 0], &["4"]), Ok(vec![4]), "what it has not had is left out");
    assert_eq!(recall(&[4, 5], &["0"]), Ok(vec![4, 5]), "what is gone has its author still");
}

#[test]
fn with_a_delay_moderators_see_at_once_and_viewers_what_is_left() {
    let settings = RoomSettings { delay_ms: 2_000, ..RoomSettings::default() };
    let mut home = home(settings, config::Window::FixedMs(0));
    home.attach(ShardId(0), now(1));
    let mut out = Vec::new();
    (0..3).for_each(|sender| say(&mut home, sender, Class::Chat, 1_000, &mut out));
    let held = |o: &Output| match o {
        Output::Held(batch) => batch.messages.len(),
        _ => 0,
    };
    assert_eq!((out.iter().map(held).sum::<usize>(), seqs(&out)), (3, vec![]));
    let accepted = |o: &&Output| matches!(o, Output::Verdict(v) if v.seq.0 > 0);
    assert_eq!(out.iter().filter(accepted).count(), 3, "senders do not wait");
    assert_eq!(home.attach(ShardId(1), now(2_000)).seq, Seq(0), "who joins has missed nothing");
    home.recall(Recall::Seqs(vec![2]), now(500_000), &mut out).unwrap();
    out.clear();
    run_until(&mut home, 2_000_999, &mut out);
    assert_eq!(seqs(&out), [] as [u64; 0]);
    run_until(&mut home, 2_001_000, &mut out);
    assert_eq!(seqs(&out), [1, 2, 3]);
    let gone = |o: &Output| match o {
        Output::Flush(batch) => batch.messages.iter().filter(|m| m.gone).map(|m| m.seq.0).collect(),
        _ => Vec::new(),
    };
    assert_eq!(out.iter().flat_map(gone).collect::<Vec<_>>(), [2]);
    assert_eq!(home.history.after(0).len(), 3);
    say(&mut home, 9, Class::Chat, 2_100_000, &mut out);
    out.clear();
    home.close(now(2_100_001), &mut out);
    assert_eq!(seqs(&out), [4], "a room that ends holds nothing back");
}

#[test]
fn a_user_is_recalled_also_where_the_room_has_forgotten_what_it_said() {
    let rules = Rooms { history_messages_max: 1, snapshot_messages_max: 1, ..Rooms::default() };
    let rules = Rooms { window: config::Window::FixedMs(0), ..rules };
    let (room, settings) = (RoomId::new("r").expect("legal"), Arc::default());
    let mut home = Home::new(room, settings, &rules, Epoch(1), 7, Tick(0), true);
    home.attach(ShardId(0), now(1));
    let mut out = Vec::new();
    (1..=3).for_each(|n| say(&mut home, 5, Class::Chat, n * 1_000_000, &mut out));
    say(&mut home, 6, Class::Chat, 4_000_000, &mut out);
    out.clear();
    let known = home.recall(Recall::User("5".into()), now(5_000_000), &mut out).unwrap();
    assert_eq!(known, [] as [u64; 0], "the history has the last one alone");
    let told = out.iter().find_map(|o| match o {
        Output::Flush(batch) => batch.recalls().next(),
        _ => None,
    });
    let told = told.expect("at once");
    assert_eq!((&*told.user, told.up_to_seq, &told.seqs[..]), ("5", 4, &[][..]));
}

/// A room whose platform decides, and messages of different senders it was asked about.
fn asking(before_publish: BeforePublish, senders: u64, out: &mut Vec<Output>) -> Home {
    let settings = RoomSettings { before_publish, unique_s: 60, ..RoomSettings::default() };
    let mut home = home(settings, config::Window::FixedMs(0));
    home.attach(ShardId(0), now(1));
    (1..=senders).for_each(|sender| ask(&mut home, sender, &sender.to_string(), 1_000, out));
    home
}

fn ask(home: &mut Home, sender: u64, text: &str, at: u64, out: &mut Vec<Output>) {
    let content = Content::Text(text.to_owned().into());
    let candidates = vec![Candidate { content, ..candidate(sender, Class::Chat, at) }];
    home.books.offered[CHAT] += 1;
    home.offer(Offer { candidates, ..Offer::default() }, now(at), out);
}

fn verdicts(out: &[Output]) -> Vec<(Outcome, Option<Code>, u32, &str)> {
    let told = out.iter().filter_map(|o| match o {
        Output::Verdict(v) => Some((v.outcome, v.code, v.retry_after_ms, v.text.as_str())),
        _ => None,
    });
    told.collect()
}

fn texts(out: &[Output]) -> Vec<String> {
    let said = |o: &Output| match o {
        Output::Flush(batch) => batch.messages.iter().map(|m| m.content.clone()).collect(),
        _ => Vec::new(),
    };
    let text = |content: Content| match content {
        Content::Text(text) => String::from_utf8_lossy(&text).into_owned(),
        Content::Data(_) => "data".into(),
    };
    out.iter().flat_map(said).map(text).collect()
}

#[test]
fn a_platform_lets_pass_replaces_or_refuses_and_its_word_is_the_senders() {
    let mut out = Vec::new();
    let mut home = asking(BeforePublish::Closed, 5, &mut out);
    let questions = out.iter().filter(|o| matches!(o, Output::Question(_))).count();
    assert_eq!((questions, seqs(&out).len(), verdicts(&out).len()), (5, 0, 0));
    assert_eq!(home.pending()[CHAT], 5);
    out.clear();
    let refuse = Judgement::Refuse(Code::Muted, "calm down".into());
    let long = "x".repeat(5_000);
    let words = [Judgement::Allow, Judgement::Replace("*".into()), refuse, Judgement::Allow];
    for (number, word) in (1..).zip(words) {
        assert!(home.judged(number, word, now(2_000), &mut out));
    }
    assert!(home.judged(5, Judgement::Replace(long), now(2_000), &mut out));
    assert!(!home.judged(5, Judgement::Allow, now(2_000), &mut out));
    assert_eq!(texts(&out), ["1", "*", "4"]);
    assert_eq!(seqs(&out), [1, 2, 3], "what is refused takes no place");
    let refused = (Outcome::Refused, Some(Code::Muted), 0, "calm down");
    let undecided = (Outcome::Refused, Some(Code::HookDown), 1_000, "");
    let told = verdicts(&out);
    assert!(told.contains(&refused) && told.contains(&undecided), "{told:?}");
    assert!(home.books().is_balanced(&[0; CLASSES]) && home.pending() == [0; CLASSES]);
    // It is told to come again, and is no repetition then; what was shown is one.
    out.clear();
    ask(&mut home, 8, "5", 3_000_000, &mut out);
    ask(&mut home, 9, "1", 3_000_000, &mut out);
    assert!(matches!(out[0], Output::Question(_)));
    assert_eq!(verdicts(&out)[0].1, Some(Code::Duplicate));
}

#[test]
fn a_wait_for_the_platform_is_no_wait_for_the_room() {
    let mut out = Vec::new();
    let settings = RoomSettings { before_publish: BeforePublish::Open, ..RoomSettings::default() };
    let rules =
        Rooms { window: config::Window::FixedMs(0), before_publish_ms: 5_000, ..Rooms::default() };
    let room = RoomId::new("r").expect("legal");
    let mut home = Home::new(room, Arc::new(settings), &rules, Epoch(1), 7, Tick(0), true);
    ask(&mut home, 1, "x", 1_000, &mut out);
    run_until(&mut home, 5_000_999, &mut out);
    assert_eq!(seqs(&out), [] as [u64; 0]);
    assert!(!home.expired_when_empty(Tick(1_000_000_000)), "somebody waits");
    run_until(&mut home, 5_001_000, &mut out);
    assert_eq!((seqs(&out), home.books().expired[CHAT]), (vec![1], 0));
}

#[test]
fn a_room_that_asks_no_more_lets_out_what_waits_and_one_that_ends_refuses_it() {
    let mut out = Vec::new();
    let mut home = asking(BeforePublish::Closed, 2, &mut out);
    home.update(Arc::default());
    run_until(&mut home, 2_000, &mut out);
    assert_eq!(texts(&out), ["1", "2"]);
    let mut out = Vec::new();
    let mut home = asking(BeforePublish::Open, 2, &mut out);
    home.close(now(2_000), &mut out);
    let closed = (Outcome::Refused, Some(Code::RoomClosed), 0, "");
    assert_eq!((texts(&out), verdicts(&out)), (vec![], vec![closed; 2]));
    assert!(home.books().is_balanced(&[0; CLASSES]) && home.pending() == [0; CLASSES]);
}

#[test]
fn who_is_banned_while_its_words_wait_is_not_heard() {
    let mut out = Vec::new();
    let settings = RoomSettings { rate_per_s: 2, ..RoomSettings::default() };
    let mut home = home(settings, config::Window::FixedMs(0));
    home.attach(ShardId(0), now(1));
    (1..=9).for_each(|sender| say(&mut home, sender, Class::Chat, 1_000, &mut out));
    let waiting = home.pool.len();
    assert!(waiting > 0, "beyond the rate");
    (1..=9).for_each(|n: u64| {
        home.bans.ban(&n.to_string(), crate::hash::mix(n), u64::MAX, 0);
    });
    out.clear();
    run_until(&mut home, 3_000_000, &mut out);
    let banned = |v: &&(Outcome, Option<Code>, u32, &str)| v.1 == Some(Code::Banned);
    let told = verdicts(&out);
    assert!(told.iter().filter(banned).count() > 0, "{told:?}");
    assert!(!told.iter().any(|v| v.0 == Outcome::Accepted), "{told:?}");
}

#[test]
fn a_text_that_nobody_saw_may_be_said_again_however_it_is_written() {
    let mut out = Vec::new();
    let mut home = asking(BeforePublish::Closed, 0, &mut out);
    let again = |home: &mut Home, sender: u64, text: &str, at: u64| {
        let mut out = Vec::new();
        ask(home, sender, text, at, &mut out);
        out.iter()
            .filter_map(|o| match o {
                Output::Question(question) => Some(question.number),
                _ => None,
            })
            .next()
    };
    let first = again(&mut home, 1, "Hello World!", 1_000).expect("asked");
    assert_eq!(again(&mut home, 2, "hello  world", 2_000), None, "heard");
    home.judged(first, Judgement::Undecided, now(3_000), &mut out);
    let second = again(&mut home, 1, "Hello World!", 1_100_000).expect("S-60");
    let refuse = Judgement::Refuse(Code::Refused, String::new());
    home.judged(second, refuse, now(1_200_000), &mut out);
    assert!(again(&mut home, 3, "hello world", 1_300_000).is_some(), "shown to nobody");
}

#[test]
fn a_recall_of_a_user_is_told_also_with_all_the_rest() {
    let mut home = fixed(0);
    home.attach(ShardId(0), now(1));
    let mut out = Vec::new();
    say(&mut home, 5, Class::Chat, 1_000, &mut out);
    home.resync();
    out.clear();
    home.recall(Recall::User("5".into()), now(200_000), &mut out).unwrap();
    run_until(&mut home, 1_000_000, &mut out);
    let told = out.iter().any(|o| match o {
        Output::Flush(batch) => batch.recalls().any(|of| of.user == "5" && of.up_to_seq == 1),
        _ => false,
    });
    assert!(told);
}
