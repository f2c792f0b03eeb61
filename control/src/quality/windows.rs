//! Windows of time: what was counted in 10 s, rolled up to a minute and to an hour.
//!
//! Owns the three levels, how a window closes into the next one, and the bounds: keys of a window,
//! memory of all, keys that one source opens. Time comes in as an argument and is the server's: a
//! client's clock decides nothing. What finds no room is counted in the `other` cell, or left out
//! and counted.

use super::cell::{CELL_BYTES_MAX, Cell};
use super::config::QualityConfig;
use super::report::{Key, Metric, TOTALS};
use super::sketch::{BUCKETS_MAX, Sketch};
use super::sources::{Openings, Source, Weights};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// A level: how long its windows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Level {
    Fine,
    Minute,
    Hour,
}

impl Level {
    /// From the finest on.
    pub(crate) const ALL: [Level; 3] = [Level::Fine, Level::Minute, Level::Hour];

    /// The length of a window, in milliseconds.
    pub(crate) fn span_ms(self) -> i64 {
        match self {
            Level::Fine => 10_000,
            Level::Minute => 60_000,
            Level::Hour => 3_600_000,
        }
    }

    /// Closed windows that stay in memory: 5 minutes, 2 hours, 2 days.
    fn kept_max(self) -> usize {
        match self {
            Level::Fine => 30,
            Level::Minute => 120,
            Level::Hour => 48,
        }
    }

    /// When the window begins that a moment is in.
    pub(crate) fn start_of(self, now_ms: i64) -> i64 {
        now_ms.div_euclid(self.span_ms()) * self.span_ms()
    }

    fn coarser(self) -> Option<Level> {
        match self {
            Level::Fine => Some(Level::Minute),
            Level::Minute => Some(Level::Hour),
            Level::Hour => None,
        }
    }
}

/// What is counted under one key.
#[derive(Debug)]
struct Slot {
    cell: Cell,
    /// What alarms look at; of fine windows.
    evidence: Option<Box<Cell>>,
    /// Who opened it.
    opener: Source,
}

impl Slot {
    fn bytes(&self) -> usize {
        self.cell.bytes() + self.evidence.as_ref().map_or(0, |evidence| evidence.bytes())
    }
}

/// What was counted in one stretch of time.
#[derive(Debug, Default)]
pub(crate) struct Window {
    pub(crate) start_ms: i64,
    slots: HashMap<Arc<Key>, Slot>,
    /// How many of them hold what found no cell of its own: one a side at most.
    others: usize,
    /// Memory of keys and cells.
    bytes: usize,
}

impl Window {
    /// Its cells; their order means nothing.
    pub(crate) fn cells(&self) -> impl Iterator<Item = (&Arc<Key>, &Cell)> {
        self.slots.iter().map(|(key, slot)| (key, &slot.cell))
    }
}

/// What was left out, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    /// Reports and cells that were counted as `other`.
    pub(crate) other: u64,
    /// Of these: because their source had opened as many keys as it may.
    pub(crate) source: u64,
    /// Reports that were not, or not whole, looked at by alarms: their source weighed enough.
    pub(crate) evidence: u64,
    /// Values for which there was no memory.
    pub(crate) values: u64,
    /// Closed windows that went before their time, for want of memory.
    pub(crate) windows: u64,
    /// Closed windows that were not stored: the store was away for too long.
    pub(crate) unstored: u64,
}

struct Lane {
    open: Window,
    /// Keys that each source opened in it.
    openings: Openings,
    /// The newest last.
    closed: VecDeque<Arc<Window>>,
}

/// All windows in memory.
pub(crate) struct Windows {
    keys_max: usize,
    bytes_max: usize,
    bytes_used: usize,
    lanes: [Lane; 3],
    weights: Weights,
    /// Closed, and to be stored; bounded as the closed ones of their level are.
    due: VecDeque<(Level, Arc<Window>)>,
    left: Left,
}

/// An entry of a table beside the cell itself: a table that has just doubled has room for more
/// than twice of what it holds.
const ENTRY_BYTES: usize = (size_of::<(Arc<Key>, Slot)>() + 1) * 16 / 7 - size_of::<Cell>();
/// The most that alarms keep of a cell: totals, and the whole starts.
const EVIDENCE_BYTES_MAX: usize =
    size_of::<Cell>() + size_of::<(Metric, Sketch)>() + BUCKETS_MAX * 10;
/// Room for one more cell of any size, and for the two that hold what finds no other: these take
/// values whatever happens.
const RESERVE_BYTES: usize = 3 * (CELL_BYTES_MAX + EVIDENCE_BYTES_MAX);
/// Windows that may wait to be stored: two hours of minutes.
const DUE_MAX: usize = 122;

impl Windows {
    pub(crate) fn new(config: &QualityConfig, now_ms: i64) -> Windows {
        let lane = |level: Level| Lane {
            open: Window { start_ms: level.start_of(now_ms), ..Window::default() },
            openings: Openings::new(config.keys_per_address_max),
            closed: VecDeque::new(),
        };
        Windows {
            keys_max: config.keys_max as usize,
            bytes_max: config.memory_bytes_max(),
            bytes_used: 0,
            lanes: Level::ALL.map(lane),
            weights: Weights::new(config.alarm_samples_per_address_max),
            due: VecDeque::new(),
            left: Left::default(),
        }
    }

    /// Closes what is over at `now_ms`; a clock that was set back changes nothing. Whether a fine
    /// window was closed.
    pub(crate) fn advance(&mut self, now_ms: i64) -> bool {
        let mut closed = false;
        for level in Level::ALL {
            let start_ms = level.start_of(now_ms);
            if start_ms > self.lane(level).open.start_ms {
                self.close(level, start_ms);
                closed |= level == Level::Fine;
            }
        }
        closed
    }

    /// Closes everything, to be stored: the process ends.
    pub(crate) fn close_all(&mut self) {
        for level in Level::ALL {
            let next_ms = self.lane(level).open.start_ms + level.span_ms();
            self.close(level, next_ms);
        }
    }

    /// Counts a report's news under its key, in the open fine window.
    pub(crate) fn count(
        &mut self,
        (key, source): (&Key, Source),
        deltas: &[u64; TOTALS],
        is_new: bool,
        values: impl Iterator<Item = (Metric, u32)> + Clone,
    ) {
        let fits = self.fits(Level::Fine);
        let place = self.place(Level::Fine, (key, source), fits);
        let fits = fits || place.is_other();
        let lane = &mut self.lanes[Level::Fine as usize];
        let Some(slot) = lane.open.slots.get_mut(&place) else { return };
        let before = slot.bytes();
        let starts = values.clone().filter(|(metric, _)| *metric == Metric::Msd);
        let many = starts.clone().count() as u32; // as many as a report may bring
        let seen = self.weights.admit((source, key.side), deltas, is_new, many);
        self.left.evidence += u64::from(seen.is_cut);
        if let Some(evidence) = &mut slot.evidence {
            evidence.count(&seen.deltas, seen.is_new);
            let starts = starts.take(if fits { seen.starts as usize } else { 0 });
            starts.for_each(|(metric, value)| evidence.add(metric, value));
        }
        slot.cell.count(deltas, is_new);
        if fits {
            values.for_each(|(metric, value)| slot.cell.add(metric, value));
        } else {
            self.left.values += values.count() as u64;
        }
        let grown = slot.bytes() - before;
        lane.open.bytes += grown;
        self.bytes_used += grown;
    }

    /// The key of the cell that counts `key` in a level's open window; the cell is made where
    /// there is none, and `opener` may open one more.
    fn place(&mut self, level: Level, (key, opener): (&Key, Source), fits: bool) -> Arc<Key> {
        let keys_max = self.keys_max;
        let lane = &mut self.lanes[level as usize];
        if let Some((known, _)) = lane.open.slots.get_key_value(key) {
            return Arc::clone(known);
        }
        let is_other = key.is_other();
        let own = lane.open.slots.len() - lane.open.others;
        let has_room = is_other || (fits && own < keys_max);
        let may_open = is_other || (has_room && lane.openings.take(opener));
        let key = if may_open { key.clone() } else { Key::other(key.side) };
        self.left.other += u64::from(!may_open);
        self.left.source += u64::from(has_room && !may_open);
        if let Some((known, _)) = lane.open.slots.get_key_value(&key) {
            return Arc::clone(known);
        }
        let key = Arc::new(key);
        let evidence = (level == Level::Fine).then(Box::<Cell>::default);
        let slot = Slot { cell: Cell::default(), evidence, opener };
        let bytes = key.bytes() + ENTRY_BYTES + slot.bytes();
        lane.open.others += usize::from(key.is_other());
        lane.open.slots.insert(Arc::clone(&key), slot);
        lane.open.bytes += bytes;
        self.bytes_used += bytes;
        key
    }

    /// Closes a level's open window, and opens the one that begins at `next_ms`.
    fn close(&mut self, level: Level, next_ms: i64) {
        let next = Window { start_ms: next_ms, ..Window::default() };
        let lane = self.lane_mut(level);
        let window = std::mem::replace(&mut lane.open, next);
        lane.openings.clear();
        if level == Level::Fine {
            self.weights.clear();
        }
        if window.slots.is_empty() {
            return;
        }
        if let Some(coarser) = level.coarser() {
            let start_ms = coarser.start_of(window.start_ms);
            if start_ms > self.lane(coarser).open.start_ms {
                self.close(coarser, start_ms);
            }
            self.roll_up(coarser, &window);
        }
        let window = Arc::new(window);
        if level != Level::Fine {
            if self.due.len() >= DUE_MAX {
                self.due.pop_front();
                self.left.unstored += 1;
            }
            self.due.push_back((level, Arc::clone(&window)));
        }
        let lane = self.lane_mut(level);
        lane.closed.push_back(window);
        if lane.closed.len() > level.kept_max() {
            self.forget_oldest(level);
        }
    }

    fn roll_up(&mut self, level: Level, window: &Window) {
        for (key, Slot { cell, opener, .. }) in &window.slots {
            let fits = self.fits(level);
            let place = self.place(level, (key, *opener), fits);
            let fits = fits || place.is_other();
            let lane = &mut self.lanes[level as usize];
            let Some(into) = lane.open.slots.get_mut(&place) else { continue };
            let into = &mut into.cell;
            let before = into.bytes();
            if fits {
                into.merge(cell);
            } else {
                into.merge_totals(cell);
                self.left.values += cell.values();
            }
            let grown = into.bytes() - before;
            lane.open.bytes += grown;
            self.bytes_used += grown;
        }
    }

    /// Whether a level's open window may grow by one more cell. Each has a quarter of the memory,
    /// and so has the one that is being rolled up: no level starves another.
    fn fits(&mut self, level: Level) -> bool {
        self.make_room() && self.lane(level).open.bytes + RESERVE_BYTES <= self.bytes_max / 4
    }

    /// Whether one more cell of any size fits; the oldest windows go for it, the finest first.
    fn make_room(&mut self) -> bool {
        while self.bytes_used + RESERVE_BYTES > self.bytes_max {
            let lanes = self.lanes.iter();
            let Some(place) = lanes.map(|lane| lane.closed.len()).position(|many| many > 0) else {
                return false;
            };
            self.forget_oldest(Level::ALL[place]);
            self.left.windows += 1;
        }
        true
    }

    /// One that is still to be stored is given up too: its memory is what counts.
    fn forget_oldest(&mut self, level: Level) {
        let Some(window) = self.lane_mut(level).closed.pop_front() else { return };
        self.bytes_used -= window.bytes;
        let waiting = self.due.len();
        self.due.retain(|(_, due)| !Arc::ptr_eq(due, &window));
        self.left.unstored += (waiting - self.due.len()) as u64;
    }

    /// Shows every cell of a level's open window, where it begins in `from_ms..to_ms`, with that
    /// beginning. What has not been rolled up yet is shown where it will be.
    pub(crate) fn visit_open(
        &self,
        level: Level,
        (from_ms, to_ms): (i64, i64),
        mut show: impl FnMut(i64, &Key, &Cell),
    ) {
        let finer = Level::ALL.into_iter().filter(|one| *one < level);
        for window in finer.chain([level]).map(|one| &self.lane(one).open) {
            let start_ms = level.start_of(window.start_ms);
            if (from_ms..to_ms).contains(&start_ms) {
                window.cells().for_each(|(key, cell)| show(start_ms, key, cell));
            }
        }
    }

    /// The closed windows of a level that begin in `from_ms..to_ms`: they do not change any more.
    pub(crate) fn closed(&self, level: Level, (from_ms, to_ms): (i64, i64)) -> Vec<Arc<Window>> {
        let is_in = |window: &&Arc<Window>| (from_ms..to_ms).contains(&window.start_ms);
        self.lane(level).closed.iter().filter(is_in).cloned().collect()
    }

    /// Shows the cells of the fine window that is open, and of the one just before it.
    pub(crate) fn visit_latest(&self, mut show: impl FnMut(&Key, &Cell)) {
        self.latest().flat_map(Window::cells).for_each(|(key, cell)| show(key, cell));
    }

    /// The same as alarms see it: no source weighs more than it may.
    pub(crate) fn visit_evidence(&self, mut show: impl FnMut(&Key, &Cell)) {
        for (key, slot) in self.latest().flat_map(|window| &window.slots) {
            if let Some(evidence) = &slot.evidence {
                show(key, evidence);
            }
        }
    }

    fn latest(&self) -> impl Iterator<Item = &Window> {
        let lane = self.lane(Level::Fine);
        let before_ms = lane.open.start_ms - Level::Fine.span_ms();
        let last = lane.closed.back().filter(move |window| window.start_ms == before_ms);
        last.map(|window| &**window).into_iter().chain([&lane.open])
    }

    /// From which moment on a level's windows are all in memory.
    pub(crate) fn begins_ms(&self, level: Level) -> i64 {
        let lane = self.lane(level);
        let oldest = lane.closed.front().map_or(lane.open.start_ms, |window| window.start_ms);
        let finer = Level::ALL.into_iter().filter(|one| *one < level);
        let finer = finer.map(|one| level.start_of(self.lane(one).open.start_ms));
        finer.fold(oldest, i64::min)
    }

    /// Windows that are to be stored, the oldest first; they stay until [`Windows::stored`].
    pub(crate) fn due(&self) -> Option<(Level, Arc<Window>)> {
        self.due.front().cloned()
    }

    /// A window is in the store.
    pub(crate) fn stored(&mut self, window: &Arc<Window>) {
        self.due.retain(|(_, due)| !Arc::ptr_eq(due, window));
    }

    /// Memory of all windows, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes_used
    }

    /// Keys of the open fine window.
    pub(crate) fn keys(&self) -> usize {
        self.lane(Level::Fine).open.slots.len()
    }

    /// What was left out so far.
    pub(crate) fn left(&self) -> Left {
        self.left
    }

    fn lane(&self, level: Level) -> &Lane {
        &self.lanes[level as usize]
    }

    fn lane_mut(&mut self, level: Level) -> &mut Lane {
        &mut self.lanes[level as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quality::report::tests::report;
    use crate::quality::report::{OTHER, Side, Total};

    const NOW: i64 = 1_800_000_000_000;

    fn key(isp: &str) -> Key {
        Key { isp: isp.into(), ..report("a", 1).key }
    }

    fn source(n: u64) -> Source {
        Source::of(n, false)
    }

    fn stalls(many: u64) -> [u64; TOTALS] {
        let mut deltas = [0; TOTALS];
        deltas[Total::Stalls as usize] = many;
        deltas
    }

    /// Every cell of a level.
    fn visit(windows: &Windows, level: Level, mut show: impl FnMut(i64, &Key, &Cell)) {
        for window in windows.closed(level, (0, i64::MAX)) {
            window.cells().for_each(|(key, cell)| show(window.start_ms, key, cell));
        }
        windows.visit_open(level, (0, i64::MAX), show);
    }

    /// Resident memory that this process allocated, in bytes.
    fn resident() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1_024
    }

    /// Stalls and values that a level shows, by the beginning of their window.
    fn shown(windows: &Windows, level: Level) -> Vec<(i64, u64, u64)> {
        let mut by_start = std::collections::BTreeMap::<i64, (u64, u64)>::new();
        visit(windows, level, |start_ms, _, cell| {
            let one = by_start.entry(start_ms - NOW).or_default();
            one.0 += cell.total(Total::Stalls);
            one.1 += cell.values();
        });
        by_start
            .into_iter()
            .map(|(start_ms, (stalls, values))| (start_ms, stalls, values))
            .collect()
    }

    #[test]
    fn each_level_holds_everything_at_every_moment() {
        let mut windows = Windows::new(&QualityConfig::default(), NOW);
        let mut all = 0;
        // A report every 7 s for two hours and a half, from one of three ISPs.
        for n in 0..1_285 {
            let now_ms = NOW + n * 7_000;
            windows.advance(now_ms);
            let isp = format!("isp-{}", n % 3);
            let value = [(Metric::Rtt, n as u32)];
            windows.count((&key(&isp), source(0)), &stalls(1), true, value.into_iter());
            all += 1;
            let hours = shown(&windows, Level::Hour);
            assert_eq!(hours.iter().map(|(_, stalls, _)| stalls).sum::<u64>(), all);
            assert_eq!(hours.iter().map(|(.., values)| values).sum::<u64>(), all);
        }
        let minutes = shown(&windows, Level::Minute);
        assert_eq!(minutes.len(), 121, "120 closed and the open one");
        let whole = minutes.iter().rev().skip(1);
        assert!(whole.clone().all(|(_, stalls, _)| (8..=9).contains(stalls)), "{minutes:?}");
        assert_eq!(shown(&windows, Level::Fine).len(), 31);
        let hours = shown(&windows, Level::Hour);
        let starts: Vec<i64> = hours.iter().map(|(start_ms, ..)| *start_ms).collect();
        assert_eq!(starts, [0, 3_600_000, 7_200_000]);
        // Nobody stored a minute: those that went from memory are lost to the store.
        assert_eq!(windows.left(), Left { unstored: 29, ..Left::default() }, "{hours:?}");
    }

    #[test]
    fn a_pause_closes_every_level_and_a_clock_that_goes_back_none() {
        let mut windows = Windows::new(&QualityConfig::default(), NOW);
        windows.count((&key("a"), source(0)), &stalls(2), true, std::iter::empty());
        assert!(!windows.advance(NOW - 3_600_000));
        assert!(windows.advance(NOW + 50 * 3_600_000));
        assert_eq!(shown(&windows, Level::Hour), [(0, 2, 0)]);
        let due: Vec<Level> = std::iter::from_fn(|| {
            let (level, window) = windows.due()?;
            windows.stored(&window);
            Some(level)
        })
        .collect();
        assert_eq!(due, [Level::Minute, Level::Hour]);
    }

    #[test]
    fn keys_beyond_the_bound_are_counted_as_other_in_each_level() {
        let config = QualityConfig { keys_max: 10, ..QualityConfig::default() };
        let mut windows = Windows::new(&config, NOW);
        for n in 0..100 {
            let value = [(Metric::Rtt, 7)];
            let key = key(&format!("isp-{n}"));
            windows.count((&key, source(n)), &stalls(1), true, value.into_iter());
        }
        windows.advance(NOW + 60_000);
        for level in Level::ALL {
            let (mut keys, mut other, mut all) = (0, 0, 0);
            visit(&windows, level, |_, key, cell| {
                keys += 1;
                all += cell.values();
                other += if key.isp == OTHER { cell.total(Total::Stalls) } else { 0 };
            });
            assert_eq!((keys, other, all), (11, 90, 100), "{level:?}");
        }
        assert_eq!(windows.left().other, 90);
    }

    #[test]
    fn one_source_opens_few_keys_in_each_level_whatever_it_says() {
        let mut windows = Windows::new(&QualityConfig::default(), NOW);
        let values = || [(Metric::Rtt, 7)].into_iter();
        for n in 0..60_000_u64 {
            // A thousand made-up keys in each 10 s, for ten minutes; and one that is not.
            windows.advance(NOW + n as i64 * 10);
            let made_up = key(&format!("made-up-{n}"));
            windows.count((&made_up, source(1)), &stalls(1), true, values());
            if n % 1_000 == 999 {
                let late = key(&format!("late-{n}"));
                windows.count((&late, source(n)), &stalls(1), true, values());
            }
        }
        windows.advance(NOW + 3_600_000);
        for (level, own) in [(Level::Minute, 10 * (32 + 6)), (Level::Hour, 32 + 60)] {
            let (mut made_up, mut late, mut all) = (0, 0, 0);
            visit(&windows, level, |_, key, cell| {
                made_up += usize::from(key.isp.starts_with("made-up"));
                late += usize::from(key.isp.starts_with("late"));
                all += cell.values();
            });
            assert_eq!((made_up + late, late, all), (own, 60, 60_060), "{level:?}");
        }
        let left = windows.left();
        assert_eq!(left.source, left.other, "nobody else went without");
        assert!(left.source >= 58_080, "{left:?}");
    }

    #[test]
    fn a_million_distinct_keys_stay_within_the_memory_that_is_said() {
        let config =
            QualityConfig { keys_max: 100_000, memory_mib_max: 32, ..QualityConfig::default() };
        let before = resident();
        let mut windows = Windows::new(&config, NOW);
        let (mut most, mut most_resident) = (0, 0);
        for n in 0..1_000_000_i64 {
            // 200,000 keys in each 10 s.
            windows.advance(NOW + n / 20);
            let key = Key { room: format!("room-{n}"), ..key("a") };
            let values = [(Metric::Rtt, n as u32), (Metric::Br, n as u32), (Metric::Ltc, 1)];
            windows.count((&key, source(n as u64)), &stalls(1), true, values.into_iter());
            most = most.max(windows.bytes());
            if n % 50_000 == 0 {
                most_resident = most_resident.max(resident().saturating_sub(before));
            }
        }
        windows.advance(NOW + 60_000);
        let left = windows.left();
        let (mut counted, mut values) = (0, 0);
        visit(&windows, Level::Hour, |_, _, cell| {
            counted += cell.plays();
            values += cell.values();
        });
        let mut keys = 0;
        visit(&windows, Level::Minute, |_, _, _| keys += 1);
        println!("1,000,000 keys: at most {most} bytes of {}, {left:?}", 32 << 20);
        println!("(resident, with all that other tests do meanwhile: {most_resident} bytes)");
        assert!(most <= 32 << 20, "{most}");
        assert_eq!(counted, 1_000_000, "nothing is lost but what tells it apart");
        assert_eq!((values, left.values), (3_000_000, 0), "`other` holds values too");
        assert!(left.other > 500_000 && left.windows > 0 && keys > 5_000, "{left:?}, {keys}");
        assert!(most > 16 << 20, "the memory is used: {most}");
    }

    #[test]
    fn both_sides_have_an_other_of_their_own() {
        let config = QualityConfig { keys_max: 1, ..QualityConfig::default() };
        let mut windows = Windows::new(&config, NOW);
        for side in [Side::Play, Side::Push] {
            for isp in ["a", "b"] {
                let key = Key { side, ..key(isp) };
                windows.count((&key, source(0)), &stalls(1), true, std::iter::empty());
            }
        }
        let mut sides = Vec::new();
        visit(&windows, Level::Fine, |_, key, cell| {
            sides.push((key.side, key.isp.clone(), cell.plays()));
        });
        sides.sort();
        let (a, other) = ("a".to_owned(), OTHER.to_owned());
        let expected = [(Side::Play, a, 1), (Side::Play, other.clone(), 1), (Side::Push, other, 2)];
        assert_eq!(sides, expected);
    }
}
