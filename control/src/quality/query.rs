//! Questions: which cells, of which time, put together by what.
//!
//! Owns the grouping, bounded; where the cells come from (memory, the store) is for whoever asks.

use super::cell::Cell;
use super::report::{Dimension, Key};
use super::windows::Level;
use std::collections::BTreeMap;

/// Groups of one answer. More: the question is refused.
pub(crate) const GROUPS_MAX: usize = 2_000;
/// Windows of one question.
const WINDOWS_MAX: i64 = 10_000;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) level: Level,
    /// From the beginning of a window on, to before the beginning of another one.
    pub(crate) from_ms: i64,
    pub(crate) to_ms: i64,
    pub(crate) by: Vec<Dimension>,
    /// Each window by itself.
    pub(crate) by_time: bool,
    /// Only cells with these texts.
    pub(crate) filter: Vec<(Dimension, String)>,
}

impl Query {
    /// Widened to whole windows.
    ///
    /// # Errors
    /// The sentence to show, where it is not a time or too long a one.
    pub(crate) fn widened(mut self) -> Result<Query, String> {
        let (from_ms, to_ms, span_ms) = (self.from_ms, self.to_ms, self.level.span_ms());
        // A hundred years or so are enough: no sum below can overflow.
        let is_time = |ms: i64| (0..4_000_000_000_000).contains(&ms);
        if !is_time(from_ms) || !is_time(to_ms) || from_ms >= to_ms {
            return Err(format!(
                "from_unix_ms is {from_ms} and to_unix_ms is {to_ms}; allowed are milliseconds \
                 since 1970, the former before the latter"
            ));
        }
        self.from_ms = self.level.start_of(from_ms);
        self.to_ms = self.level.start_of(to_ms - 1) + span_ms;
        let windows = (self.to_ms - self.from_ms) / span_ms;
        if windows > WINDOWS_MAX {
            return Err(format!(
                "it asks for {windows} windows of {span_ms} ms; allowed are {WINDOWS_MAX}: ask for \
                 less time, or a longer step"
            ));
        }
        Ok(self)
    }

    /// Whether a cell of this key is asked for.
    pub(crate) fn wants(&self, key: &Key) -> bool {
        self.filter.iter().all(|(dimension, text)| key.text(*dimension) == text)
    }
}

/// The beginning of the group's window, or of the whole time; and its texts.
pub(crate) type Place = (i64, Vec<String>);

/// Cells, put together.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    pub(crate) cells: BTreeMap<Place, Cell>,
    /// There were more than may be.
    pub(crate) is_full: bool,
}

impl Groups {
    /// Adds a cell that the query wants.
    pub(crate) fn add(&mut self, query: &Query, start_ms: i64, key: &Key, cell: &Cell) {
        let texts = query.by.iter().map(|dimension| key.text(*dimension).to_owned()).collect();
        let place = (if query.by_time { start_ms } else { query.from_ms }, texts);
        if self.cells.len() >= GROUPS_MAX && !self.cells.contains_key(&place) {
            self.is_full = true;
            return;
        }
        self.cells.entry(place).or_default().merge(cell);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quality::report::tests::report;

    fn query(level: Level, from_ms: i64, to_ms: i64) -> Query {
        Query { level, from_ms, to_ms, by: vec![], by_time: false, filter: vec![] }
    }

    #[test]
    fn a_time_is_widened_to_whole_windows_and_bounded() {
        let asked = query(Level::Minute, 61_000, 120_001).widened().unwrap();
        assert_eq!((asked.from_ms, asked.to_ms), (60_000, 180_000));
        assert!(query(Level::Fine, 5, 5).widened().unwrap_err().contains("from_unix_ms is 5"));
        assert!(query(Level::Fine, i64::MIN, i64::MAX).widened().is_err());
        let long = query(Level::Fine, 0, 100_000_001).widened().unwrap_err();
        assert!(long.contains("10001 windows") && long.contains("longer step"), "{long}");
    }

    #[test]
    fn cells_are_put_together_by_what_is_asked_and_groups_are_bounded() {
        let (mut groups, key) = (Groups::default(), report("a", 1).key);
        let mut asked = query(Level::Fine, 0, 20_000);
        asked.by = vec![Dimension::Isp, Dimension::Side];
        let mut cell = Cell::default();
        cell.count(&[1; 12], true);
        groups.add(&asked, 0, &key, &cell);
        groups.add(&asked, 10_000, &key, &cell);
        let texts = vec!["isp-1".to_owned(), "play".to_owned()];
        assert_eq!(groups.cells[&(0, texts)].plays(), 2);
        asked.by_time = true;
        groups.add(&asked, 10_000, &key, &cell);
        assert_eq!((groups.cells.len(), groups.is_full), (2, false));
        for n in 0..=GROUPS_MAX {
            groups.add(&asked, 0, &Key { isp: n.to_string(), ..key.clone() }, &cell);
        }
        assert_eq!((groups.cells.len(), groups.is_full), (GROUPS_MAX, true));
        asked.filter = vec![(Dimension::Isp, "isp-2".to_owned())];
        assert!(!asked.wants(&key) && asked.wants(&Key { isp: "isp-2".into(), ..key }));
    }
}
