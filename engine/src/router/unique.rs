//! Unique chat: a text that the room has just accepted is not accepted again.
//!
//! Owns the texts of the last seconds, as hashes of 8 bytes: 1 MiB a room at most, and nothing in
//! a room without the setting. Two texts with one hash (1 in 10^14 with the table full) are one
//! text to it. So are two that have the same letters and digits in the filter's one form, however
//! they are written: width, case, accents, what stands between. One without any (`!!!`) is compared
//! as it is. Never keeps a text.

use crate::Map;
use crate::hash::{Seeded, hash_bytes};
use crate::seam::Tick;
use std::collections::VecDeque;
use uproar_filter::fold::letters;
use uproar_proto::control::Content;

/// Texts a room remembers: an hour of 10 a second. Full: the oldest is forgotten.
const TEXTS_MAX: usize = 36_000;

/// See the module.
#[derive(Debug)]
pub struct Unique {
    seed: u64,
    /// Room for one text as it is compared.
    folded: String,
    last: Map<u64, Tick>,
    /// Hashes in the order they were heard; one that was heard again since is there twice.
    order: VecDeque<(Tick, u64)>,
}

impl Unique {
    /// Has heard nothing.
    #[must_use]
    pub fn new(seed: u64) -> Unique {
        let last = Map::with_hasher(Seeded(seed));
        Unique { seed, folded: String::new(), last, order: VecDeque::new() }
    }

    /// The hash of a text in its one form.
    fn hash(&mut self, text: &[u8]) -> u64 {
        self.folded.clear();
        if let Ok(text) = std::str::from_utf8(text) {
            letters(text, &mut self.folded);
        }
        let is_told_by_letters = !self.folded.is_empty();
        hash_bytes(self.seed, if is_told_by_letters { self.folded.as_bytes() } else { text })
    }

    /// Whether a text was heard within the last `unique_s` seconds (0: never asked), and for how
    /// many milliseconds it still counts as heard.
    #[must_use]
    pub fn heard_ms(&mut self, content: &Content, unique_s: u32, now: Tick) -> Option<u32> {
        let Content::Text(text) = content else { return None };
        if unique_s == 0 {
            return None;
        }
        let hash = self.hash(text);
        let since_us = now.since_us(*self.last.get(&hash)?);
        let left_us = (u64::from(unique_s) * 1_000_000).checked_sub(since_us)?;
        (left_us > 0).then(|| u32::try_from(left_us.div_ceil(1_000)).unwrap_or(u32::MAX))
    }

    /// A text that was accepted is shown to nobody after all.
    pub fn forget(&mut self, content: &Content) {
        let Content::Text(text) = content else { return };
        let hash = self.hash(text);
        self.last.remove(&hash);
    }

    /// A text was accepted.
    pub fn hear(&mut self, content: &Content, unique_s: u32, now: Tick) {
        if unique_s == 0 {
            self.last.clear();
            self.order.clear();
            return;
        }
        let Content::Text(text) = content else { return };
        let hash = self.hash(text);
        self.last.insert(hash, now);
        self.order.push_back((now, hash));
        let keep_us = u64::from(unique_s) * 1_000_000;
        while let Some((at, hash)) = self.order.front().copied() {
            if self.order.len() <= TEXTS_MAX && now.since_us(at) < keep_us {
                break;
            }
            self.order.pop_front();
            if self.last.get(&hash) == Some(&at) {
                self.last.remove(&hash);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn text(text: &str) -> Content {
        Content::Text(Bytes::from(text.to_owned()))
    }

    #[test]
    fn a_text_counts_as_heard_for_its_seconds_alone() {
        let mut unique = Unique::new(7);
        unique.hear(&text("666"), 10, Tick(0));
        assert_eq!(unique.heard_ms(&text("666"), 10, Tick(4_000_000)), Some(6_000));
        assert_eq!(unique.heard_ms(&text("667"), 10, Tick(4_000_000)), None);
        assert_eq!(unique.heard_ms(&text("666"), 10, Tick(10_000_000)), None);
        assert_eq!(unique.heard_ms(&text("666"), 0, Tick(1)), None, "the room does not mind");
        let data = Content::Data(Bytes::from_static(b"666"));
        assert_eq!(unique.heard_ms(&data, 10, Tick(1)), None, "data is not looked into");
    }

    #[test]
    fn however_it_is_written_a_text_is_the_same() {
        let mut unique = Unique::new(7);
        unique.hear(&text("Buy gold 66"), 10, Tick(0));
        for same in
            ["buy GOLD 66", "Ｂｕｙ ｇｏｌｄ ６６", "b.u.y g-o-l-d 6 6", "bu\u{200b}y göld66!!"]
        {
            assert!(unique.heard_ms(&text(same), 10, Tick(1)).is_some(), "{same}");
        }
        for other in ["buy gold 67", "buy old 66", ""] {
            assert!(unique.heard_ms(&text(other), 10, Tick(1)).is_none(), "{other}");
        }
        // Without a letter there is nothing to fold: each is what it is.
        unique.hear(&text("!!!"), 10, Tick(0));
        assert!(unique.heard_ms(&text("!!!"), 10, Tick(1)).is_some());
        assert!(unique.heard_ms(&text("???"), 10, Tick(1)).is_none());
    }

    #[test]
    fn what_it_remembers_is_bounded_and_let_go() {
        let mut unique = Unique::new(7);
        for n in 0..50_000u64 {
            unique.hear(&text(&n.to_string()), 3_600, Tick(n));
        }
        assert_eq!((unique.order.len(), unique.last.len()), (TEXTS_MAX, TEXTS_MAX));
        assert!(unique.heard_ms(&text("49999"), 3_600, Tick(50_000)).is_some());
        assert!(unique.heard_ms(&text("1"), 3_600, Tick(50_000)).is_none(), "the oldest went");
        unique.hear(&text("x"), 0, Tick(50_000));
        assert_eq!((unique.order.len(), unique.last.len()), (0, 0));
    }
}
