//! One automaton of words, and where a word may stand.
//!
//! A text goes through the automaton once, whatever the number of words. Only where it has found
//! the letters of a word is looked at what stood between them. Never changes: [`super::words`]
//! says what is looked for beside it.

use crate::fold::{self, SPACE};
use crate::list::{Bad, WORD_CHARS_MAX, shown};
use daachorse::{CharwiseDoubleArrayAhoCorasick, CharwiseDoubleArrayAhoCorasickBuilder};
use std::collections::HashMap;

/// Words that are looked for together.
#[derive(Default)]
pub(crate) struct Automaton {
    /// `None`: there are none.
    built: Option<CharwiseDoubleArrayAhoCorasick<u32>>,
    words: Vec<Word>,
    written: Written,
}

/// Words as they were written, one after the other: an allocation for each would be three times
/// the bytes.
#[derive(Default)]
struct Written {
    text: String,
    ends: Vec<u32>,
}

/// What a text has of the words of an automaton, at the first look.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    /// The letters of a word: what stands between them decides.
    Letters,
    Word,
}

/// Words that fold to the same letters.
struct Word {
    /// Bit n: a space may stand before letter n.
    spaces: u64,
    /// It may stand anywhere, whatever is between its letters.
    is_free: bool,
    /// Their places among the words as they were written.
    first: u32,
    more: Vec<u32>,
}

impl Automaton {
    /// # Errors
    /// The first word that cannot be.
    pub(crate) fn compile<'l>(
        list: impl ExactSizeIterator<Item = &'l str>,
    ) -> Result<Automaton, Bad> {
        let (mut words, mut written) = (Vec::<Word>::new(), Written::default());
        let mut known: HashMap<String, u32> = HashMap::with_capacity(list.len());
        let (mut letters, mut gaps) = (String::new(), Vec::new());
        for (place, text) in (0..).zip(list) {
            written.push(text);
            fold::letters_and_gaps(text, &mut letters, &mut gaps);
            let chars = letters.chars().count();
            if chars == 0 {
                let why = "has no letter and no digit: symbols alone are a matter of regexes";
                return Err(Bad(format!("word {} {why}", shown(text))));
            }
            if chars > WORD_CHARS_MAX {
                let why = format!("folds to {chars} characters; allowed are {WORD_CHARS_MAX}");
                return Err(Bad(format!("word {} {why}", shown(text))));
            }
            let own = spaces(&letters, &gaps);
            if let Some(number) = known.get(letters.as_str()) {
                let word = &mut words[*number as usize];
                word.spaces |= own;
                word.more.push(place);
                continue;
            }
            let is_free = !letters.chars().any(fold::is_of_words);
            known.insert(letters.clone(), words.len() as u32);
            words.push(Word { spaces: own, is_free, first: place, more: Vec::new() });
        }
        let mut patterns: Vec<(&str, u32)> = known.iter().map(|(l, n)| (l.as_str(), *n)).collect();
        // The same automaton from the same list.
        patterns.sort_unstable();
        let built = match patterns.is_empty() {
            true => None,
            false => {
                let built = CharwiseDoubleArrayAhoCorasickBuilder::new();
                let built = built.build_with_values(patterns);
                // It holds four times the bytes that a list may have.
                Some(built.map_err(|e| Bad(format!("the words make no automaton: {e}")))?)
            }
        };
        words.shrink_to_fit();
        Ok(Automaton { built, words, written })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.built.is_none()
    }

    /// How many words there are, those that fold to the same letters as one.
    pub(crate) fn len(&self) -> usize {
        self.words.len()
    }

    /// The words as they were written, in the order they came.
    pub(crate) fn written(&self) -> impl Iterator<Item = &str> {
        (0..self.written.ends.len()).map(|place| self.written.get(place as u32))
    }

    /// How they are written that fold to the letters of one.
    pub(crate) fn forms(&self, number: u32) -> impl Iterator<Item = &str> {
        let word = &self.words[number as usize];
        let places = std::iter::once(&word.first).chain(&word.more);
        places.map(|place| self.written.get(*place))
    }

    /// The word of exactly these letters.
    pub(crate) fn number_of(&self, letters: &str) -> Option<u32> {
        let mut all = self.built.as_ref()?.find_overlapping_iter(letters);
        all.find(|m| m.start() == 0 && m.end() == letters.len()).map(|m| m.value())
    }

    /// A first look at the letters of a text, with no eye to the words that are `gone`.
    pub(crate) fn find(&self, letters: &str, gone: impl Fn(u32) -> bool) -> Found {
        let Some(built) = &self.built else { return Found::Nothing };
        match built.find_overlapping_iter(letters).find(|m| !gone(m.value())) {
            None => Found::Nothing,
            Some(m) if self.words[m.value() as usize].is_free => Found::Word,
            Some(_) => Found::Letters,
        }
    }

    /// The words that stand in a text, as `found` says of each until it says stop (`true`).
    pub(crate) fn any(
        &self,
        letters: &str,
        gaps: &[u8],
        mut found: impl FnMut(u32) -> bool,
    ) -> bool {
        let Some(built) = &self.built else { return false };
        built.find_overlapping_iter(letters).any(|m| {
            let word = &self.words[m.value() as usize];
            word.may_stand((m.start(), m.end()), letters, gaps) && found(m.value())
        })
    }

    pub(crate) fn bytes_used(&self) -> usize {
        let automaton = self.built.as_ref().map_or(0, |built| built.heap_bytes());
        let written =
            self.written.text.capacity() + self.written.ends.capacity() * size_of::<u32>();
        automaton + self.words.capacity() * size_of::<Word>() + written
    }
}

impl Written {
    fn push(&mut self, word: &str) {
        self.text.push_str(word);
        self.ends.push(self.text.len() as u32);
    }

    fn get(&self, place: u32) -> &str {
        let at = |place: usize| self.ends[place] as usize;
        let place = place as usize;
        let start = if place == 0 { 0 } else { at(place - 1) };
        &self.text[start..at(place)]
    }
}

impl Word {
    /// Whether the letters found here are this word (the module of the crate says when).
    fn may_stand(&self, (start, end): (usize, usize), letters: &str, gaps: &[u8]) -> bool {
        if self.is_free {
            return true;
        }
        let is_of_words = |c: Option<char>| c.is_some_and(fold::is_of_words);
        let inside = &letters[start..end];
        let before = letters[..start].chars().next_back();
        let after = letters[end..].chars().next();
        let goes_on = |gap: u8, one, other| gap == 0 && is_of_words(one) && is_of_words(other);
        if goes_on(gaps[start], before, inside.chars().next())
            || goes_on(gaps[end], inside.chars().next_back(), after)
        {
            return false;
        }
        let (mut pairs, mut parted, mut is_torn) = (0, 0, false);
        let mut last = None;
        for (number, (at, letter)) in inside.char_indices().enumerate() {
            if goes_on(0, last, Some(letter)) {
                let gap = gaps[start + at];
                pairs += 1;
                parted += u32::from(gap != 0);
                is_torn |= gap == SPACE && self.spaces & (1 << number) == 0;
            }
            last = Some(letter);
        }
        !is_torn || parted == pairs
    }
}

/// Before which letters of a word something stands.
fn spaces(letters: &str, gaps: &[u8]) -> u64 {
    let with_gap = |(number, (at, _)): (usize, (usize, char))| {
        if gaps[at] == 0 { 0 } else { 1 << number }
    };
    letters.char_indices().enumerate().map(with_gap).fold(0, |all, one| all | one)
}
