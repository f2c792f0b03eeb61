//! What a line weighs: which ones stay where there is no room for all.

use uproar_proto::v1::Class;

/// System lines and gifts: never left out for the others.
pub(super) fn is_high(class: Class) -> bool {
    matches!(class, Class::System | Class::Gift)
}

/// 0 to 10. A system line 10, a gift 9; a line of chat 5, less where it says little: 3 of up to two
/// characters, 2 where it is one character many times.
pub(super) fn weight(class: Class, text: Option<&str>) -> u32 {
    match (class, text) {
        (Class::System, _) => 10,
        (Class::Gift, _) => 9,
        (_, Some(text)) => {
            let first = text.chars().next();
            match text.chars().count() {
                0..=2 => 3,
                _ if text.chars().all(|c| Some(c) == first) => 2,
                _ => 5,
            }
        }
        _ => 5,
    }
}

/// Decides among lines of one weight: by chance, and always the same (splitmix64).
pub(super) fn luck(seq: u64) -> u64 {
    let mut x = seq.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_says_little_weighs_little() {
        assert_eq!(weight(Class::System, Some("")), 10);
        assert_eq!(weight(Class::Gift, None), 9);
        assert_eq!(weight(Class::Chat, None), 5);
        for (text, of) in [("what a goal", 5), ("6", 3), ("\u{54c8}\u{54c8}", 3), ("666666", 2)] {
            assert_eq!(weight(Class::Chat, Some(text)), of, "{text}");
        }
    }
}
