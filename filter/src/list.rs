//! A list as people keep it: its bounds, and how it changes.

use std::collections::HashSet;
use std::fmt;

/// Words of a list. More: refused.
pub const WORDS_MAX: usize = 200_000;
/// Characters of a word, as it is written and once it is folded. More: refused.
pub const WORD_CHARS_MAX: usize = 64;
/// Regular expressions of a list: each is asked about every message. More: refused.
pub const REGEXES_MAX: usize = 256;
/// Bytes of a regular expression. More: refused.
pub const REGEX_BYTES_MAX: usize = 512;
/// Bytes of a whole list, a byte for each end of a line included: 40 for each of the most words.
/// It goes to every node with each change. More: refused.
pub const LIST_BYTES_MAX: usize = 8 << 20;

/// What is wrong with a list, for whoever keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad(pub String);

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Words and regular expressions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// As they were written, in order, none twice.
    pub words: Vec<String>,
    /// In the order they came, none twice.
    pub regexes: Vec<String>,
}

/// What is to be different.
#[derive(Clone, Debug, Default)]
pub struct Change {
    pub add_words: Vec<String>,
    pub remove_words: Vec<String>,
    pub add_regexes: Vec<String>,
    pub remove_regexes: Vec<String>,
}

impl List {
    /// A list of these, brought into order.
    #[must_use]
    pub fn new(words: Vec<String>, regexes: Vec<String>) -> List {
        let mut list = List { words: words.iter().map(|word| trimmed(word)).collect(), regexes };
        list.words.sort_unstable();
        list.words.dedup();
        let mut seen = HashSet::new();
        list.regexes.retain(|regex| seen.insert(regex.clone()));
        list
    }

    /// Reads lines: one word each, and one regular expression each. Empty ones are passed over.
    #[must_use]
    pub fn of_lines(words: &str, regexes: &str) -> List {
        // A space is a part of a regular expression.
        let kept = regexes.lines().filter(|line| !line.trim().is_empty());
        List::new(lines(words), kept.map(str::to_owned).collect())
    }

    /// With a change made: what is added is there, what is removed is not, whatever was before.
    #[must_use]
    pub fn changed(mut self, change: Change) -> List {
        let gone: HashSet<String> = change.remove_words.iter().map(|word| trimmed(word)).collect();
        self.words.retain(|word| !gone.contains(word));
        let gone: HashSet<String> = change.remove_regexes.into_iter().collect();
        self.regexes.retain(|regex| !gone.contains(regex));
        self.words.extend(change.add_words);
        self.regexes.extend(change.add_regexes);
        List::new(self.words, self.regexes)
    }

    /// The words, one a line.
    #[must_use]
    pub fn words_lines(&self) -> String {
        self.words.join("\n")
    }

    /// The regular expressions, one a line.
    #[must_use]
    pub fn regexes_lines(&self) -> String {
        self.regexes.join("\n")
    }

    /// Its bytes, as its bound counts them.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.words.iter().chain(&self.regexes).map(|line| line.len() + 1).sum()
    }

    /// Holds it against its bounds.
    ///
    /// # Errors
    /// The first that it breaks.
    pub fn check(&self) -> Result<(), Bad> {
        let many = |what, is: usize, max: usize| {
            let text = format!("the list has {is} {what}; allowed are {max}");
            if is > max { Err(Bad(text)) } else { Ok(()) }
        };
        many("words", self.words.len(), WORDS_MAX)?;
        many("regexes", self.regexes.len(), REGEXES_MAX)?;
        many("bytes", self.bytes(), LIST_BYTES_MAX)?;
        for word in &self.words {
            let chars = word.chars().count();
            if chars == 0 || chars > WORD_CHARS_MAX {
                let allowed = format!("allowed are 1 to {WORD_CHARS_MAX}");
                return Err(Bad(format!("word {} has {chars} characters; {allowed}", shown(word))));
            }
        }
        for regex in &self.regexes {
            let bytes = regex.len();
            if bytes == 0 || bytes > REGEX_BYTES_MAX {
                let allowed = format!("allowed are 1 to {REGEX_BYTES_MAX}");
                return Err(Bad(format!("regex {} has {bytes} bytes; {allowed}", shown(regex))));
            }
        }
        match self.words.iter().chain(&self.regexes).find(|line| line.contains(['\n', '\r'])) {
            Some(line) => Err(Bad(format!("{} is more than one line", shown(line)))),
            None => Ok(()),
        }
    }
}

fn trimmed(word: &str) -> String {
    word.trim().to_owned()
}

fn lines(text: &str) -> Vec<String> {
    let text = text.trim_start_matches('\u{feff}');
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// A word or a rule in a sentence, whatever is in it.
pub(crate) fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(80).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &[&str], regexes: &[&str]) -> List {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        List::new(owned(words), owned(regexes))
    }

    #[test]
    fn lines_make_a_list_and_changes_are_made_once() {
        let one = List::of_lines("\u{feff}b\r\n\n a \nb\n", "x+\ny\nx+\n");
        assert_eq!(one, list(&["a", "b"], &["x+", "y"]));
        assert_eq!(List::of_lines(&one.words_lines(), &one.regexes_lines()), one);
        let change = || Change {
            add_words: vec!["c".into(), " a ".into()],
            remove_words: vec!["b".into(), "nobody".into()],
            add_regexes: vec!["z".into()],
            remove_regexes: vec!["x+".into()],
        };
        let other = one.changed(change());
        assert_eq!(other, list(&["a", "c"], &["y", "z"]));
        assert_eq!(other.clone().changed(change()), other);
    }

    #[test]
    fn what_is_beyond_a_bound_is_told() {
        let told = |list: List| list.check().unwrap_err().0;
        let long = "x".repeat(WORD_CHARS_MAX + 1);
        assert!(told(list(&[&long], &[])).contains("65 characters; allowed are 1 to 64"));
        let long = "x".repeat(REGEX_BYTES_MAX + 1);
        assert!(told(list(&[], &[&long])).contains("513 bytes; allowed are 1 to 512"));
        assert!(told(list(&["a\nb"], &[])).contains("more than one line"));
        let many = (0..=WORDS_MAX).map(|n| n.to_string()).collect();
        assert!(told(List::new(many, vec![])).contains("200001 words; allowed are 200000"));
        let many = (0..=REGEXES_MAX).map(|n| n.to_string()).collect();
        assert!(told(List::new(vec![], many)).contains("257 regexes; allowed are 256"));
        let wide = (0..150_000).map(|n| format!("{n:060}")).collect();
        assert!(told(List::new(wide, vec![])).contains("allowed are 8388608"));
        assert_eq!(list(&["a"], &["b"]).check(), Ok(()));
    }
}
