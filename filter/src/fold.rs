//! One form for every way to write a letter.
//!
//! Owns which characters are letters, what stands between letters, and what is not seen at all.
//! Every character is folded by itself, so a text is folded in one pass, and what was folded stays
//! as it is when it is folded again.

use crate::han::simplified;
use std::sync::LazyLock;
use unicode_normalization::char::{decompose_compatible, is_combining_mark};

/// What stands between letters.
pub(crate) const MARK: u8 = 1;
pub(crate) const SPACE: u8 = 2;

/// A part of what a character folds to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// A letter or digit, in its one form.
    Letter(char),
    /// What parts letters, [`MARK`] or [`SPACE`], in its one form.
    Gap(u8, char),
}

/// Of the first 65,536 characters: a letter as it folds, or one of those below, which are no
/// letters themselves.
static TABLE: LazyLock<Box<[u16]>> = LazyLock::new(|| {
    let entry = |number: u32| match char::from_u32(number) {
        None => IS_MARK, // half of a pair, never in a text
        Some(c) => entry_of(c),
    };
    (0..=0xffff).map(entry).collect()
});

/// Makes the table now, where that holds nobody up: some milliseconds.
pub(crate) fn prepare() {
    LazyLock::force(&TABLE);
}

const IS_MARK: u16 = 0;
const IS_SPACE: u16 = 1;
const IS_NOTHING: u16 = 2;
/// Several parts, or a letter beyond the table.
const IS_LONG: u16 = 3;

fn entry_of(c: char) -> u16 {
    let mut parts = Vec::new();
    expand(c, &mut |part| parts.push(part));
    match parts[..] {
        [] => IS_NOTHING,
        [Part::Letter(letter)] => u16::try_from(u32::from(letter)).unwrap_or(IS_LONG),
        [Part::Gap(MARK, _)] => IS_MARK,
        [Part::Gap(..)] => IS_SPACE,
        _ => IS_LONG,
    }
}

/// Calls `each` with what a character folds to: nothing, one part, or several.
fn expand(c: char, each: &mut impl FnMut(Part)) {
    match c {
        // Characters of their own: taken apart, a syllable would begin with another one.
        '\u{ac00}'..='\u{d7a3}' => return each(Part::Letter(c)),
        // What tells か from が is the one mark that makes another letter.
        '\u{3099}' | '\u{309a}' => return each(Part::Letter(c)),
        // Letters in circles and squares that Unicode takes for pictures.
        '\u{1f150}'..='\u{1f169}' => return each(pictured(c, 0x1f150)),
        '\u{1f170}'..='\u{1f189}' => return each(pictured(c, 0x1f170)),
        '\u{1f1e6}'..='\u{1f1ff}' => return each(pictured(c, 0x1f1e6)),
        _ if is_invisible(c) || is_ornament(c) => return,
        _ => {}
    }
    for cased in c.to_uppercase().flat_map(char::to_lowercase) {
        decompose_compatible(cased, |one| match one {
            // It has another form still.
            _ if one != c && !is_settled(one) => expand(one, each),
            '\u{3099}' | '\u{309a}' => each(Part::Letter(one)),
            _ if is_invisible(one) || is_ornament(one) => {}
            _ if one.is_alphanumeric() => each(Part::Letter(simplified(one))),
            _ if is_combining_mark(one) => {}
            _ if one.is_whitespace() => each(Part::Gap(SPACE, one)),
            _ => each(Part::Gap(MARK, one)),
        });
    }
}

/// Whether a character is its own only form.
fn is_settled(c: char) -> bool {
    let mut cased = c.to_uppercase().flat_map(char::to_lowercase);
    let is_same = cased.next() == Some(c) && cased.next().is_none();
    let mut forms = 0;
    let mut is_whole = true;
    decompose_compatible(c, |one| {
        forms += 1;
        is_whole &= one == c;
    });
    is_same && is_whole && forms == 1
}

/// What shows nothing and parts nothing: zero-width characters, directions, variation selectors,
/// fillers.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// A letter that stands in a picture, of those that begin with A here.
fn pictured(c: char, first: u32) -> Part {
    Part::Letter(char::from_u32(u32::from(c) - first + u32::from('a')).unwrap_or(c))
}

/// Marks and signs that Unicode counts among the letters though a word is the same without them:
/// those above Latin and Cyrillic letters, the points of Hebrew, the vowels and the lengthening of
/// Arabic, modifier letters.
fn is_ornament(c: char) -> bool {
    matches!(
        c,
        '\u{2b9}'..='\u{2df}' | '\u{2e5}'..='\u{2ff}' | '\u{345}' | '\u{363}'..='\u{36f}'
            | '\u{591}'..='\u{5bd}' | '\u{5bf}' | '\u{5c1}' | '\u{5c2}' | '\u{5c4}' | '\u{5c5}'
            | '\u{5c7}' | '\u{610}'..='\u{61a}' | '\u{640}' | '\u{64b}'..='\u{65f}' | '\u{670}'
            | '\u{6d6}'..='\u{6dc}' | '\u{6df}'..='\u{6e4}' | '\u{6e7}' | '\u{6e8}'
            | '\u{6ea}'..='\u{6ed}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}'
            | '\u{2de0}'..='\u{2dff}'
    )
}

/// The characters of a text, without voice marks that stand behind no kana: they would be letters.
fn spelled(text: &str) -> impl Iterator<Item = char> + '_ {
    let is_kana = |c| matches!(c, '\u{3041}'..='\u{30ff}' | '\u{ff66}'..='\u{ff9d}');
    let mut before = '\0';
    text.chars().filter(move |c| {
        let is_voice = matches!(c, '\u{3099}'..='\u{309c}' | '\u{ff9e}' | '\u{ff9f}');
        let is_stray = is_voice && !is_kana(std::mem::replace(&mut before, *c));
        before = *c;
        !is_stray
    })
}

/// Calls `each` with every part of a text.
pub(crate) fn parts(text: &str, mut each: impl FnMut(Part)) {
    let table = &**TABLE;
    for c in spelled(text) {
        match table.get(c as usize).copied().unwrap_or(IS_LONG) {
            IS_NOTHING => {}
            IS_LONG | IS_MARK | IS_SPACE => expand(c, &mut each),
            letter => each(Part::Letter(char::from_u32(u32::from(letter)).unwrap_or(c))),
        }
    }
}

/// The letters of a text, and nothing else.
pub fn letters(text: &str, out: &mut String) {
    out.clear();
    let table = &**TABLE;
    for c in spelled(text) {
        match table.get(c as usize).copied().unwrap_or(IS_LONG) {
            IS_NOTHING | IS_MARK | IS_SPACE => {}
            IS_LONG => expand(c, &mut |part| {
                if let Part::Letter(letter) = part {
                    out.push(letter);
                }
            }),
            letter => out.push(char::from_u32(u32::from(letter)).unwrap_or(c)),
        }
    }
}

/// The same, and beside each byte where a letter begins what stands before it since the last one:
/// nothing (0), [`MARK`] or [`SPACE`]. One more at the end says what stands there.
pub(crate) fn letters_and_gaps(text: &str, out: &mut String, gaps: &mut Vec<u8>) {
    out.clear();
    gaps.clear();
    let mut gap = 0;
    parts(text, |part| match part {
        Part::Letter(letter) => {
            gaps.push(std::mem::take(&mut gap));
            out.push(letter);
            gaps.resize(out.len(), 0);
        }
        Part::Gap(kind, _) => gap = gap.max(kind),
    });
    gaps.push(gap);
}

/// A text with every letter in its one form, and what stands between them.
pub fn text(text: &str, out: &mut String) {
    out.clear();
    parts(text, |part| match part {
        Part::Letter(c) | Part::Gap(_, c) => out.push(c),
    });
}

/// Whether a letter belongs to a script that is written with spaces: Latin, Greek, Cyrillic,
/// Armenian, Hebrew, Arabic, those of India, Georgian, Cherokee; and digits.
pub(crate) fn is_of_words(letter: char) -> bool {
    matches!(
        letter,
        '\0'..='\u{dff}' | '\u{10a0}'..='\u{10ff}' | '\u{13a0}'..='\u{13ff}'
            | '\u{1c80}'..='\u{1fff}' | '\u{2c00}'..='\u{2dff}' | '\u{a640}'..='\u{a69f}'
            | '\u{a720}'..='\u{a7ff}' | '\u{ab30}'..='\u{abbf}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ornaments_and_pictures_of_letters_make_no_other_word() {
        let mut out = String::new();
        for (text, same) in [
            ("\u{643}\u{64e}\u{644}\u{652}\u{628}", "\u{643}\u{644}\u{628}"),
            ("\u{5e9}\u{5c1}\u{5b8}\u{5dc}\u{5d5}\u{5b9}\u{5dd}", "\u{5e9}\u{5dc}\u{5d5}\u{5dd}"),
            ("s\u{3099}p\u{3099}am", "spam"),
            ("sp\u{ff9e}am", "spam"),
            ("\u{52a0}\u{3099}\u{5fae}", "\u{52a0}\u{5fae}"),
            ("s\u{363}p\u{2de0}a\u{345}m", "spam"),
            ("s\u{640}p\u{640}a\u{640}m", "spam"),
            ("s\u{2bc}p\u{2d0}am", "spam"),
            ("\u{1f182}\u{1f17f}\u{1f170}\u{1f17c}", "spam"),
            ("\u{1f162}\u{1f15f}\u{1f150}\u{1f15c}", "spam"),
            ("\u{1f1f8}\u{1f1f5}\u{1f1e6}\u{1f1f2}", "spam"),
        ] {
            letters(text, &mut out);
            assert_eq!(out, same, "{text}");
        }
        // A voiced kana is another letter, however it is written.
        for text in ["\u{304c}", "\u{304b}\u{3099}", "\u{30ac}\u{30ac}"] {
            letters(text, &mut out);
            assert!(out.contains('\u{3099}'), "{text}");
        }
    }

    fn normal(text: &str) -> String {
        let mut out = String::new();
        letters(text, &mut out);
        out
    }

    #[test]
    fn width_case_accents_and_forms_make_no_difference() {
        for (text, is) in [
            ("ＡＢＣ１２３", "abc123"),
            ("ⓢⓟⓐⓜ ①", "spam1"),
            ("𝕊𝓹𝐚𝗺", "spam"),
            ("ﬁne ſtraße İı", "finestrasseii"),
            ("Ｃａｆé é", "cafee"),
            ("ｶﾞｽ ガス", "カ\u{3099}スカ\u{3099}ス"),
            ("加\u{200b}微\u{fe0f}信", "加微信"),
            ("加 微-信！。，🙂", "加微信"),
            ("㈱ ㎏ ½", "株kg12"),
            ("한국", "한국"),
            ("加薇信領紅包", "加薇信领红包"),
            ("發財 頭髮 乾淨 幹部 裡裏", "发财头发干净干部里里"),
        ] {
            assert_eq!(normal(text), is, "{text}");
        }
        let mut out = String::new();
        text("Ｂｕｙ　ＮＯＷ！ＷＷＷ．Ｘ．ＣＯＭ\u{200b}", &mut out);
        assert_eq!(out, "buy now!www.x.com");
    }

    #[test]
    fn whatever_a_character_folds_to_is_its_own_fold() {
        for c in (0..=0x10_ffff).filter_map(char::from_u32) {
            expand(c, &mut |part| {
                let (Part::Letter(one) | Part::Gap(_, one)) = part;
                let mut again = Vec::new();
                expand(one, &mut |part| again.push(part));
                assert_eq!(again, [part], "{c:?} {:x}", u32::from(c));
            });
            let mut one = String::new();
            letters(c.encode_utf8(&mut [0; 4]), &mut one);
            let mut slow = String::new();
            let add = |part| {
                if let Part::Letter(letter) = part {
                    slow.push(letter);
                }
            };
            let mut add = add;
            let alone = c.to_string();
            spelled(&alone).for_each(|c| expand(c, &mut add));
            assert_eq!(one, slow, "the table says what it was made from");
        }
    }
}
