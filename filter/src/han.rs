//! Traditional Chinese characters by the simplified one that stands for them.
//!
//! Owns the table, which is made from `han.txt` once. It is by character: where one simplified
//! character stands for several traditional ones all of them are one letter here, so a word is
//! found whichever of them it is written with, and now and then one that only looks the same.

use std::collections::HashMap;
use std::sync::LazyLock;

static SIMPLIFIED: LazyLock<HashMap<char, char>> = LazyLock::new(|| {
    let lines = include_str!("han.txt").lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.flat_map(|line| {
        let mut chars = line.chars();
        let simplified = chars.next();
        chars.filter_map(move |traditional| Some((traditional, simplified?)))
    });
    pairs.collect()
});

/// The simplified character for a traditional one, and every other character as it is.
pub(crate) fn simplified(c: char) -> char {
    // All of the table is of these blocks: no other letter is looked up.
    match c {
        '\u{3400}'..='\u{9fff}' | '\u{20000}'..='\u{3ffff}' => {
            SIMPLIFIED.get(&c).copied().unwrap_or(c)
        }
        _ => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_has_one_form_which_is_its_own() {
        assert_eq!(SIMPLIFIED.len(), 3_232);
        for (traditional, form) in SIMPLIFIED.iter() {
            assert_eq!(simplified(*traditional), *form, "{traditional} is outside of the blocks");
            assert_eq!(simplified(*form), *form, "{traditional}");
        }
    }
}
