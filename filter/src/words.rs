//! The words of a list: an automaton of most of them, and what has changed since it was made.
//!
//! Owns which words are looked for. An automaton of a hundred thousand takes a third of a second
//! to make, and a moderator who adds one word waits for it on every node: so few changes make a
//! small automaton beside the large one, which is gone through as well, and words of the large one
//! are passed over. What hits is the same as if all had been made anew.

use crate::automaton::{Automaton, Found};
use crate::fold;
use crate::list::Bad;
use std::cmp::Ordering;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

/// Words that may have changed since the large automaton was made. More: it is made anew.
pub(crate) const CHANGES_MAX: usize = 1_000;

/// All words of a list.
pub(crate) struct Words {
    whole: Arc<Automaton>,
    /// Bit n: word n of `whole` is passed over. Empty: none is.
    gone: Vec<u64>,
    /// What has come since, and words of `whole` with another spelling than they had.
    beside: Automaton,
}

/// How one list differs from another.
struct Difference<'l> {
    gone: HashSet<&'l str>,
    come: Vec<&'l str>,
}

impl Words {
    /// # Errors
    /// The first word that cannot be.
    pub(crate) fn compile(list: &[String]) -> Result<Words, Bad> {
        let whole = Arc::new(Automaton::compile(list.iter().map(String::as_str))?);
        Ok(Words { whole, gone: Vec::new(), beside: Automaton::default() })
    }

    /// Those of another list, which differs little as a rule; both are in order.
    ///
    /// # Errors
    /// The first word that cannot be.
    pub(crate) fn changed(&self, list: &[String]) -> Result<Words, Bad> {
        let Some(difference) = self.difference(list) else { return Words::compile(list) };
        // Words with the same letters are one: where a spelling comes or goes, all of them are
        // looked for beside.
        let (mut numbers, mut letters) = (BTreeSet::new(), String::new());
        for text in difference.gone.iter().chain(&difference.come) {
            fold::letters(text, &mut letters);
            numbers.extend(self.whole.number_of(&letters));
        }
        let mut beside = difference.come;
        let mut gone = vec![0; if numbers.is_empty() { 0 } else { self.whole.len().div_ceil(64) }];
        for number in numbers {
            gone[number as usize / 64] |= 1 << (number % 64);
            let forms = self.whole.forms(number);
            beside.extend(forms.filter(|form| !difference.gone.contains(form)));
        }
        beside.sort_unstable();
        let beside = Automaton::compile(beside.into_iter())?;
        Ok(Words { whole: Arc::clone(&self.whole), gone, beside })
    }

    /// How a list differs from that of the large automaton; `None`: by so much that another is
    /// made.
    fn difference<'l>(&'l self, list: &'l [String]) -> Option<Difference<'l>> {
        if list.is_empty() {
            return None;
        }
        let mut difference = Difference { gone: HashSet::new(), come: Vec::new() };
        let (mut before, mut now) = (self.whole.written(), list.iter().map(String::as_str));
        let (mut one, mut other) = (before.next(), now.next());
        loop {
            let order = match (one, other) {
                (None, None) => return Some(difference),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(one), Some(other)) => one.cmp(other),
            };
            if order.is_le() {
                if order.is_lt() {
                    difference.gone.extend(one);
                }
                one = before.next();
            }
            if order.is_ge() {
                if order.is_gt() {
                    difference.come.extend(other);
                }
                other = now.next();
            }
            if difference.gone.len() + difference.come.len() > CHANGES_MAX {
                return None;
            }
        }
    }

    fn is_gone(&self, number: u32) -> bool {
        let bits = self.gone.get(number as usize / 64);
        bits.is_some_and(|bits| bits >> (number % 64) & 1 == 1)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.beside.is_empty()
    }

    /// Whether a text hits; `letters` are its own, and may be written again.
    pub(crate) fn is_hit(&self, text: &str, letters: &mut String, gaps: &mut Vec<u8>) -> bool {
        let whole = self.whole.find(letters, |number| self.is_gone(number));
        if whole == Found::Word {
            return true;
        }
        match (whole, self.beside.find(letters, |_| false)) {
            (_, Found::Word) => true,
            (Found::Nothing, Found::Nothing) => false,
            _ => {
                fold::letters_and_gaps(text, letters, gaps);
                self.whole.any(letters, gaps, |number| !self.is_gone(number))
                    || self.beside.any(letters, gaps, |_| true)
            }
        }
    }

    /// All words that a text hits, as they were written, in order.
    pub(crate) fn all(&self, text: &str) -> Vec<String> {
        let (mut letters, mut gaps) = (String::new(), Vec::new());
        fold::letters_and_gaps(text, &mut letters, &mut gaps);
        let mut found = BTreeSet::new();
        let mut see = |automaton: &Automaton, is_gone: &dyn Fn(u32) -> bool| {
            automaton.any(&letters, &gaps, |number| {
                if !is_gone(number) {
                    found.extend(automaton.forms(number).map(str::to_owned));
                }
                false
            });
        };
        see(&self.whole, &|number| self.is_gone(number));
        see(&self.beside, &|_| false);
        found.into_iter().collect()
    }

    /// Whether both look into the same large automaton.
    #[cfg(test)]
    pub(crate) fn shares_with(&self, other: &Words) -> bool {
        Arc::ptr_eq(&self.whole, &other.whole)
    }

    pub(crate) fn bytes_used(&self) -> usize {
        let gone = self.gone.capacity() * size_of::<u64>();
        self.whole.bytes_used() + self.beside.bytes_used() + gone
    }
}
