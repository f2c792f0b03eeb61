//! The filter as a whole: what hits, against a search that is too slow to be wrong.

use super::*;
use proptest::prelude::*;

fn filter(words: &[&str], regexes: &[&str]) -> Filter {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    Filter::compile(&List::new(owned(words), owned(regexes))).unwrap()
}

#[track_caller]
fn check(filter: &Filter, hits: &[&str], passes: &[&str]) {
    let mut scratch = Scratch::default();
    for text in hits {
        assert!(filter.is_hit(text, &mut scratch), "{text:?} hits");
    }
    for text in passes {
        assert!(!filter.is_hit(text, &mut scratch), "{text:?} passes");
    }
}

#[test]
fn a_word_of_characters_hits_whatever_is_between_them() {
    let filter = filter(&["加微信", "赌 博"], &[]);
    check(
        &filter,
        &["快加微信吧", "加 微 信", "加、微。信", "加\u{200b}微🙂信", "赌博", "赌  博", "网赌博彩"],
        &["", "加微", "加微x信", "微信加", "🙂🙂", "赌徒博弈"],
    );
}

#[test]
fn a_word_of_letters_hits_by_itself_and_spaced_out_and_not_in_a_longer_one() {
    let filter = filter(&["spam", "ass", "buy now", "assassin", "penis", "vx号", "sb"], &[]);
    check(
        &filter,
        &[
            "spam",
            "SPAM!",
            "ＳＰＡＭ",
            "(spam)",
            "加spam好",
            "s p a m",
            "s.p.a.m",
            "s . p-a  m",
            "sp.am",
            "sp*am",
            "s\u{200b}pam",
            "śpäm",
            "buy now",
            "buynow",
            "BUY-NOW",
            "b u y n o w",
            "an ass",
            "加vx号",
            "v x 号",
            "s b",
            "你sb啊",
            "$spam$",
        ],
        &[
            "spammer",
            "spam1",
            "antispam",
            "class",
            "passing",
            "as sassin",
            "pen is",
            "sp am",
            "spa m",
            "buyers now",
            "buy nowhere",
            "isbn",
            "is blue",
            "vx1号",
            "加avx号",
            "b uy now",
        ],
    );
}

#[test]
fn rules_see_what_stands_between_letters_and_no_case() {
    let filter = filter(&[], &[r"v[.\s]*x\s*[:：]?\s*\d{5,}", r"https?://", r"\p{Han}{3}号码"]);
    check(
        &filter,
        &["VX: 1234567", "ｖｘ：１２３４５６", "V.X 12345", "see HTTPS://X", "我的微信号码"],
        &["vx: 1234", "http : //", "号码"],
    );
    let look = filter.look("HTTPS://a.b VX12345");
    assert_eq!(look.regexes, [r"v[.\s]*x\s*[:：]?\s*\d{5,}", r"https?://"]);
    assert_eq!(
        (look.folded.as_str(), look.normal.as_str()),
        ("https://a.b vx12345", "httpsabvx12345")
    );
}

#[test]
fn traditional_and_simplified_characters_are_the_same() {
    let filter = filter(&["领红包", "頭髮"], &[r"加.*碼\d", "[一-龜]{3}灣", "^[幾后]$"]);
    check(&filter, &["領紅包", "領 红.包", "头发", "头髮", "頭發"], &["领包", "头", "髮"]);
    check(
        &filter,
        &["加個號碼1", "加个号码1", "去台灣湾", "去臺台湾", "几", "後"],
        &["加碼", "丸"],
    );
    assert_eq!(filter.look("领紅包 加码1").words, ["领红包"]);
    assert_eq!(filter.look("领紅包 加码1").regexes, [r"加.*碼\d"], "as it was written");
}

#[test]
fn a_look_tells_every_word_as_the_list_has_it() {
    let list = List::of_lines("Spam\nspam\ns-pam\n微信\n加微信", "");
    let filter = Filter::compile(&list).unwrap();
    let look = filter.look("ＳＰＡＭ 加 微信");
    assert_eq!(look.words, ["Spam", "s-pam", "spam", "加微信", "微信"]);
    assert_eq!(look.normal, "spam加微信");
    assert!(filter.look("class").words.is_empty());
}

#[test]
fn what_cannot_be_compiled_is_told() {
    let told = |words: &str, regexes: &str| {
        Filter::compile(&List::of_lines(words, regexes)).map(|_| ()).unwrap_err().0
    };
    assert!(told("!!!", "").contains("\"!!!\" has no letter"), "{}", told("!!!", ""));
    assert!(told(&"\u{fdfa}".repeat(9), "").contains("folds to"));
    assert!(told("", "(a").contains("is no regular expression: unclosed group"));
    let large = told("", r"\w{4}");
    assert!(large.contains("more than 163840 bytes; repeat less, or name fewer"), "{large}");
    assert!(told("", r"a[a-z ]{1000}[0-9]").contains("compiles to more than"));
    let usual = [r"(v|微|wei|vx).{0,100}\d{5,}", r".{0,50}赌.{0,50}博.{0,50}", r"\d{11}"];
    Filter::compile(&List::new(vec![], usual.map(str::to_owned).to_vec())).unwrap();
    for all in ["a*", "", "(?:)", "^"] {
        if !all.is_empty() {
            assert!(told("", all).contains("every message"), "{all}");
        }
    }
    assert!(Filter::compile(&List::default()).unwrap().is_empty());
}

/// Where the letters of a word stand in those of a text, by looking at every place.
fn naive(words: &[String], text: &str) -> bool {
    let (mut letters, mut gaps) = (String::new(), Vec::new());
    fold::letters_and_gaps(text, &mut letters, &mut gaps);
    let text: Vec<(char, u8)> = letters.char_indices().map(|(at, c)| (c, gaps[at])).collect();
    let is_word = |place: usize| text.get(place).is_some_and(|(c, _)| fold::is_of_words(*c));
    let joined =
        |place: usize| place > 0 && is_word(place - 1) && is_word(place) && text[place].1 == 0;
    words.iter().any(|word| {
        let (mut letters, mut gaps) = (String::new(), Vec::new());
        fold::letters_and_gaps(word, &mut letters, &mut gaps);
        let word: Vec<(char, u8)> = letters.char_indices().map(|(at, c)| (c, gaps[at])).collect();
        (0..text.len()).any(|start| {
            let end = start + word.len();
            let fits = end <= text.len() && (0..word.len()).all(|n| text[start + n].0 == word[n].0);
            if !fits || joined(start) || joined(end) {
                return false;
            }
            let inner = |n: &usize| is_word(start + n - 1) && is_word(start + n);
            let pairs: Vec<usize> = (1..word.len()).filter(inner).collect();
            let is_kept = |n: &usize| text[start + n].1 != fold::SPACE || word[*n].1 != 0;
            pairs.iter().all(is_kept) || pairs.iter().all(|n| text[start + n].1 != 0)
        })
    })
}

/// Few letters of both kinds, and what may stand between them: so that words do hit.
fn texts(chars: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    let alphabet = prop::sample::select(vec!['a', 'b', 'Ａ', '微', '信', ' ', '.', '\u{200b}']);
    prop::collection::vec(alphabet, chars).prop_map(|chars| chars.into_iter().collect())
}

/// Lists of few words, of which many fold to the same letters.
fn lists() -> impl Strategy<Value = List> {
    let words = prop::collection::vec(texts(1..4), 0..8);
    let regexes = prop::collection::vec(prop::sample::select(vec!["a\\.b", "信$"]), 0..3);
    (words, regexes).prop_map(|(mut words, regexes)| {
        let mut normal = String::new();
        words.retain(|word| {
            fold::letters(word, &mut normal);
            !normal.is_empty()
        });
        List::new(words, regexes.into_iter().map(str::to_owned).collect())
    })
}

#[test]
fn few_changes_make_no_large_automaton_and_many_do() {
    let many = |words: std::ops::Range<usize>| {
        List::new(words.map(|n| format!("word{n}")).collect(), Vec::new())
    };
    let most = words::CHANGES_MAX;
    let whole = Filter::compile(&many(0..5_000)).unwrap();
    let shares = |one: &Filter, other: &Filter| one.words.shares_with(&other.words);
    let few = whole.changed(&many(most / 2..5_000 + most / 2)).unwrap();
    assert!(shares(&whole, &few));
    check(&few, &[&format!("word{}", 5_000 + most / 2 - 1), "word600"], &["word0", "word6000"]);
    // What it differs by counts from the large one, not from the list before.
    let more = few.changed(&many(most / 2..5_001 + most / 2)).unwrap();
    assert!(!shares(&few, &more));
    check(&more, &[&format!("word{}", 5_000 + most / 2)], &["word0"]);
    let back = few.changed(&many(0..5_000)).unwrap();
    assert!(shares(&whole, &back));
    check(&back, &["word0", "word4999"], &["word5000"]);
    // One that is refused leaves what there was.
    assert!(few.changed(&List::of_lines("!!!", "")).is_err());
}

proptest! {
    #[test]
    fn a_list_that_has_changed_hits_what_one_made_anew_hits(
        lists in prop::collection::vec(lists(), 2..5),
        text in texts(0..16),
    ) {
        let mut filter = Filter::compile(&lists[0]).unwrap();
        for list in &lists[1..] {
            filter = filter.changed(list).unwrap();
            let anew = Filter::compile(list).unwrap();
            prop_assert_eq!(filter.look(&text), anew.look(&text));
            let mut scratch = Scratch::default();
            prop_assert_eq!(
                filter.is_hit(&text, &mut scratch),
                anew.is_hit(&text, &mut scratch)
            );
            prop_assert_eq!(filter.is_empty(), list.words.is_empty() && list.regexes.is_empty());
        }
    }

    #[test]
    fn the_automaton_finds_what_a_search_place_by_place_finds(
        words in prop::collection::vec(texts(1..5), 1..6),
        text in texts(0..16),
    ) {
        // Words that fold to the same letters share their spaces: told apart, they would not.
        let mut folds = std::collections::HashSet::new();
        let mut normal = String::new();
        let words: Vec<String> = words.into_iter().filter(|word| {
            fold::letters(word, &mut normal);
            !normal.is_empty() && folds.insert(normal.clone())
        }).collect();
        let list = List::new(words.clone(), vec![]);
        let filter = Filter::compile(&list).unwrap();
        let is_hit = filter.is_hit(&text, &mut Scratch::default());
        prop_assert_eq!(is_hit, naive(&words, &text));
        prop_assert_eq!(is_hit, !filter.look(&text).words.is_empty());
    }

    #[test]
    fn folding_is_done_once_and_separators_case_and_width_never_matter(
        text in "\\PC{0,12}",
        word in "[一-龥]{1,4}",
        between in prop::collection::vec("[ 　.,!·—🙂\u{200b}\u{fe0f}]{0,3}", 5),
    ) {
        let (mut once, mut twice) = (String::new(), String::new());
        fold::letters(&text, &mut once);
        fold::letters(&once, &mut twice);
        prop_assert_eq!(&once, &twice);
        fold::text(&text, &mut once);
        fold::text(&once, &mut twice);
        prop_assert_eq!(&once, &twice);
        fold::letters(&text.to_uppercase(), &mut once);
        fold::letters(&text, &mut twice);
        prop_assert_eq!(&once, &twice);
        let wide = |c: char| match c {
            '!'..='~' => char::from_u32(u32::from(c) + 0xfee0).unwrap(),
            c => c,
        };
        fold::letters(&text.chars().map(wide).collect::<String>(), &mut once);
        prop_assert_eq!(&once, &twice);
        let mut parted = between[0].clone();
        for (c, gap) in word.chars().zip(&between[1..]) {
            parted.push(c);
            parted.push_str(gap);
        }
        let filter = Filter::compile(&List { words: vec![word], regexes: vec![] }).unwrap();
        prop_assert!(filter.is_hit(&parted, &mut Scratch::default()), "{}", parted);
    }
}
