//! Words and rules that messages are held against: a list in, a verdict on a text out.
//!
//! Owns what a text is reduced to ([`fold`], and for Chinese characters [`han`]), how words are
//! found ([`automaton`]), which of them are looked for ([`words`]), the regular expressions
//! ([`rules`]) and the bounds of a list ([`list`]). Pure: no clock, no thread, no socket. Never
//! knows who wrote a text, or what becomes of it.
//!
//! # What hits
//!
//! Of a word and of a text alike only letters and digits count, in one form: width, case, accents
//! and compatibility forms (`Ｓ`, `ⓢ`, `ﬁ`, `㈱`) are folded, a traditional Chinese character is
//! the simplified one (`領` is `领`), invisible characters are as if they were not there. A word
//! hits where its letters follow each other in the text, with two rules for scripts that are
//! written with spaces (Latin, Greek, Cyrillic, Arabic and the like):
//!
//! * At both ends of such a word a longer one must not go on: `ass` is not in `class`. Letters of
//!   other scripts end it as a space does: `加spam好` hits `spam`.
//! * Between its letters may stand punctuation and symbols (`s.p-am`, `sp*am`), and spaces where
//!   the word has them itself, or where something stands between all of its letters (`s p a m`).
//!   So `as sassin` is not `assassin`, and `pen is` is no word but two.
//!
//! Chinese, Japanese, Korean, Thai and the like have no such ends: a word of them hits anywhere,
//! whatever stands between its characters.
//!
//! A rule sees the text folded in the same way, but with what stands between its letters, and takes
//! no notice of case. Neither makes up for letters that only look alike (Cyrillic `а` in `spаm`):
//! folded, words of one language would be found in those of another.
#![forbid(unsafe_code)]

mod automaton;
pub mod fold;
mod han;
pub mod list;
mod rules;
mod words;

pub use list::{Bad, List};

use rules::Rules;
use std::sync::Arc;
use words::Words;

/// A list, ready to be asked. Shared between threads; never changes.
pub struct Filter {
    words: Words,
    rules: Arc<Rules>,
}

/// Room for one text at a time, used again for the next: a look allocates nothing once it has
/// grown.
#[derive(Default)]
pub struct Scratch {
    text: String,
    gaps: Vec<u8>,
}

/// What a text hits, for people who keep the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// What words were looked for in.
    pub normal: String,
    /// What rules were asked about.
    pub folded: String,
    /// Words as the list has them, in its order.
    pub words: Vec<String>,
    /// Rules as the list has them, in its order.
    pub regexes: Vec<String>,
}

impl Filter {
    /// Makes a list ready: some hundred milliseconds of CPU for a hundred thousand words, so never
    /// on a thread that others wait for.
    ///
    /// # Errors
    /// The first word or rule that cannot be, in words for whoever keeps the list.
    pub fn compile(list: &List) -> Result<Filter, Bad> {
        list.check()?;
        fold::prepare();
        let rules = Arc::new(Rules::compile(&list.regexes)?);
        Ok(Filter { words: Words::compile(&list.words)?, rules })
    }

    /// Makes another list ready: some milliseconds where up to a thousand words differ from the
    /// list that was compiled whole, else as long as that takes. What hits is the same either way.
    ///
    /// # Errors
    /// As [`Filter::compile`].
    pub fn changed(&self, list: &List) -> Result<Filter, Bad> {
        list.check()?;
        let rules = match self.rules.is_of(&list.regexes) {
            true => Arc::clone(&self.rules),
            false => Arc::new(Rules::compile(&list.regexes)?),
        };
        Ok(Filter { words: self.words.changed(&list.words)?, rules })
    }

    /// Whether nothing can hit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.is_empty() && self.rules.is_empty()
    }

    /// Whether a text hits a word or a rule: time linear in its length, whatever the list is.
    #[must_use]
    pub fn is_hit(&self, text: &str, scratch: &mut Scratch) -> bool {
        let Scratch { text: buffer, gaps } = scratch;
        if !self.words.is_empty() {
            fold::letters(text, buffer);
            if self.words.is_hit(text, buffer, gaps) {
                return true;
            }
        }
        if self.rules.is_empty() {
            return false;
        }
        fold::text(text, buffer);
        self.rules.is_hit(buffer)
    }

    /// Everything a text hits.
    #[must_use]
    pub fn look(&self, text: &str) -> Look {
        let mut look = Look::default();
        fold::letters(text, &mut look.normal);
        fold::text(text, &mut look.folded);
        look.words = self.words.all(text);
        look.regexes = self.rules.all(&look.folded);
        look
    }

    /// Bytes the automaton and its words hold, the rules left out.
    #[must_use]
    pub fn bytes_used(&self) -> usize {
        self.words.bytes_used()
    }
}

#[cfg(test)]
mod tests;
