//! Questions: which cells, of which time, put together by what.
//!
//! Owns the grouping, and what is counted together where there are too many groups; where the cells
//! come from (memory, the store) is for whoever asks.

use super::cell::Cell;
use super::report::{Dimension, Key, OTHER};
use super::windows::Level;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Groups of one answer. More: those with the fewest sessions are counted together, as `other`.
pub(crate) const GROUPS_MAX: usize = 2_000;
/// Windows of one question.
const WINDOWS_MAX: i64 = 10_000;
/// Windows of one answer that tells each by itself: so many groups may hold what has none.
const TIMES_MAX: i64 = 2_000;

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
        let max = if self.by_time { TIMES_MAX } else { WINDOWS_MAX };
        if windows > max {
            return Err(format!(
                "it asks for {windows} windows of {span_ms} ms; allowed are {max}: ask for \
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
    /// How many of them hold what has no group.
    others: usize,
    /// Groups that were too many, and are in `other`.
    pub(crate) in_other: u64,
}

impl Groups {
    /// Adds a cell that the query wants.
    pub(crate) fn add(&mut self, query: &Query, start_ms: i64, key: &Key, cell: &Cell) {
        let texts = query.by.iter().map(|dimension| key.text(*dimension).to_owned()).collect();
        let place = (if query.by_time { start_ms } else { query.from_ms }, texts);
        if let Some(known) = self.cells.get_mut(&place) {
            known.merge(cell);
            return;
        }
        // What goes has had a chance to become large.
        if self.cells.len() - self.others >= 2 * GROUPS_MAX {
            self.bound(query);
        }
        self.others += usize::from(other(query, &place) == place);
        self.cells.entry(place).or_default().merge(cell);
    }

    /// Leaves the groups with the most sessions, as many as an answer may have, and counts the rest
    /// together.
    pub(crate) fn bound(&mut self, query: &Query) {
        let own = self.cells.iter().filter(|(place, _)| other(query, place) != **place);
        let mut own: Vec<(Reverse<u64>, Place)> =
            own.map(|(place, cell)| (Reverse(cell.plays()), place.clone())).collect();
        own.sort_unstable();
        for (_, place) in own.drain(GROUPS_MAX.min(own.len())..) {
            let Some(cell) = self.cells.remove(&place) else { continue };
            let other = other(query, &place);
            self.others += usize::from(!self.cells.contains_key(&other));
            self.cells.entry(other).or_default().merge(&cell);
            self.in_other += 1;
        }
    }
}

/// The group of what has none: of each side and window its own.
fn other(query: &Query, (start_ms, texts): &Place) -> Place {
    let text = |(dimension, text): (&Dimension, &String)| match dimension {
        Dimension::Side => text.clone(),
        _ => OTHER.to_owned(),
    };
    (*start_ms, query.by.iter().zip(texts).map(text).collect())
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
        let by_time = Query { by_time: true, ..query(Level::Fine, 0, 20_000_001) };
        assert!(by_time.widened().unwrap_err().contains("allowed are 2000"));
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
        assert_eq!(groups.cells.len(), 2);
        groups.add(&asked, 10_000, &key, &cell);
        for n in 0..10 * GROUPS_MAX {
            groups.add(&asked, 0, &Key { isp: n.to_string(), ..key.clone() }, &cell);
            assert!(groups.cells.len() <= 2 * GROUPS_MAX + 1, "{}", groups.cells.len());
        }
        groups.bound(&asked);
        assert_eq!(groups.cells.len(), GROUPS_MAX + 1);
        let plays: u64 = groups.cells.values().map(Cell::plays).sum();
        assert_eq!(plays, 4 + 10 * GROUPS_MAX as u64, "nothing is lost but what tells it apart");
        let of = |isp: &str, at_ms| groups.cells[&(at_ms, vec![isp.into(), "play".into()])].plays();
        let in_other = 9 * GROUPS_MAX as u64 + 2;
        assert_eq!((of("isp-1", 0), of("isp-1", 10_000), of(OTHER, 0)), (2, 2, in_other));
        assert_eq!(groups.in_other, in_other);
        asked.filter = vec![(Dimension::Isp, "isp-2".to_owned())];
        assert!(!asked.wants(&key) && asked.wants(&Key { isp: "isp-2".into(), ..key }));
    }
}
