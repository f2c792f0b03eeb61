//! The automaton of the words, and where a word may stand.
//!
//! A text goes through the automaton once, whatever the number of words. Only where it has found
//! the letters of a word is looked at what stood between them.

use crate::fold::{self, SPACE};
use crate::list::{Bad, WORD_CHARS_MAX, shown};
use daachorse::{CharwiseDoubleArrayAhoCorasick, CharwiseDoubleArrayAhoCorasickBuilder};
use std::collections::{BTreeSet, HashMap};

/// All words of a list.
pub(crate) struct Words {
    /// `None`: there are none.
    automaton: Option<CharwiseDoubleArrayAhoCorasick<u32>>,
    words: Vec<Word>,
}

/// Words that fold to the same letters.
struct Word {
    /// Bit n: a space may stand before letter n.
    spaces: u64,
    /// It may stand anywhere, whatever is between its letters.
    is_free: bool,
    /// Their places in the list.
    first: u32,
    more: Vec<u32>,
}

impl Words {
    pub(crate) fn compile(list: &[String]) -> Result<Words, Bad> {
        let mut words: Vec<Word> = Vec::with_capacity(list.len());
        let mut known: HashMap<String, u32> = HashMap::with_capacity(list.len());
        let (mut letters, mut gaps) = (String::new(), Vec::new());
        for (place, text) in (0..).zip(list) {
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
        let automaton = match patterns.is_empty() {
            true => None,
            false => {
                let built = CharwiseDoubleArrayAhoCorasickBuilder::new();
                let built = built.build_with_values(patterns);
                // It holds four times the bytes that a list may have.
                Some(built.map_err(|e| Bad(format!("the words make no automaton: {e}")))?)
            }
        };
        Ok(Words { automaton, words })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.automaton.is_none()
    }

    /// Whether a text hits; `letters` are its own, and may be written again.
    pub(crate) fn is_hit(&self, text: &str, letters: &mut String, gaps: &mut Vec<u8>) -> bool {
        let Some(automaton) = &self.automaton else { return false };
        let found = automaton.find_overlapping_iter(letters.as_str()).next();
        let Some(found) = found else { return false };
        if self.words[found.value() as usize].is_free {
            return true;
        }
        fold::letters_and_gaps(text, letters, gaps);
        let mut all = automaton.find_overlapping_iter(letters.as_str());
        all.any(|m| self.words[m.value() as usize].may_stand((m.start(), m.end()), letters, gaps))
    }

    /// Places of all words that a text hits.
    pub(crate) fn all(&self, text: &str, letters: &str) -> Vec<u32> {
        let Some(automaton) = &self.automaton else { return Vec::new() };
        let (mut same, mut gaps) = (String::new(), Vec::new());
        fold::letters_and_gaps(text, &mut same, &mut gaps);
        let mut found_words = BTreeSet::new();
        for found in automaton.find_overlapping_iter(letters) {
            let word = &self.words[found.value() as usize];
            if word.may_stand((found.start(), found.end()), letters, &gaps) {
                found_words.insert(found.value());
            }
        }
        let words = found_words.iter().map(|number| &self.words[*number as usize]);
        let mut hit: Vec<u32> = words
            .flat_map(|word| std::iter::once(&word.first).chain(&word.more))
            .copied()
            .collect();
        hit.sort_unstable();
        hit.dedup();
        hit
    }

    pub(crate) fn bytes_used(&self) -> usize {
        let automaton = self.automaton.as_ref().map_or(0, |automaton| automaton.heap_bytes());
        automaton + self.words.capacity() * size_of::<Word>()
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
