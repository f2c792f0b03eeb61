//! How much one source may do in a window: keys it opens, and what it weighs in alarms.
//!
//! Owns who counts as one source, and fixed tables of what each has used. Two sources in one place
//! of a table share its bounds; nobody outside can tell which ones do. Never drops a report: what
//! is beyond a bound is counted as `other`, or everywhere but in alarms.

use super::report::{Side, TOTALS, Total};
use super::windows::Level;

/// Places of a table. With more sources than these, what alarms see is a fair sample of them.
const PLACES: usize = 65_536;
/// Frames a second of the fastest stream that one session may weigh.
const FRAMES_PER_S_MAX: u32 = 120;

/// Whoever reports come from: an address (of IPv6 its /64), or who it is where none is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    place: u32,
    /// A token names its user.
    is_named: bool,
}

impl Source {
    /// From a hash of who it is, which nobody outside can foresee.
    pub(crate) const fn of(hash: u64, is_named: bool) -> Source {
        Source { place: (hash % PLACES as u64) as u32, is_named }
    }
}

/// Keys that each source has opened in the window of one level (256 KiB).
pub(crate) struct Openings {
    keys_max: u32,
    used: Box<[u32]>,
}

impl Openings {
    pub(crate) fn new(keys_max: u32) -> Openings {
        Openings { keys_max, used: vec![0; PLACES].into_boxed_slice() }
    }

    /// Whether a source may open one more; it has then.
    pub(crate) fn take(&mut self, source: Source) -> bool {
        let used = &mut self.used[source.place as usize];
        let may = *used < self.keys_max;
        *used += u32::from(may);
        may
    }

    /// A window begins.
    pub(crate) fn clear(&mut self) {
        self.used.fill(0);
    }
}

/// What a source has brought to alarms in this window.
#[derive(Clone, Copy, Default)]
struct Used {
    sessions: u32,
    attempts: u32,
    starts: u32,
    time_ms: u32,
    frames: u32,
}

/// What of a report alarms may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Evidence {
    pub(crate) deltas: [u64; TOTALS],
    pub(crate) is_new: bool,
    /// How many of its whole starts.
    pub(crate) starts: u32,
    /// A bound left something out.
    pub(crate) is_cut: bool,
}

/// What each source weighs in this fine window (1.3 MiB).
pub(crate) struct Weights {
    samples_max: u32,
    used: Box<[Used]>,
}

impl Weights {
    /// `samples_max`: sessions of one source, and starts.
    pub(crate) fn new(samples_max: u32) -> Weights {
        Weights { samples_max, used: vec![Used::default(); PLACES].into_boxed_slice() }
    }

    /// What alarms may see of a report that brings `deltas` and so many whole `starts`. A source
    /// weighs as many sessions, each of a whole window, as it may have: of what is more, a part
    /// with the same shares counts.
    pub(crate) fn admit(
        &mut self,
        (source, side): (Source, Side),
        deltas: &[u64; TOTALS],
        is_new: bool,
        starts: u32,
    ) -> Evidence {
        let mut seen = Evidence { deltas: [0; TOTALS], is_new: false, starts: 0, is_cut: true };
        // Who pushes a room is somebody; its alarm needs one session only.
        if side == Side::Push && !source.is_named {
            return seen;
        }
        let used = &mut self.used[source.place as usize];
        let window_ms = Level::Fine.span_ms() as u32;
        let time_ms_max = self.samples_max * window_ms;
        let frames_max = self.samples_max * (window_ms / 1_000) * FRAMES_PER_S_MAX;
        let time = [Total::StallMs, Total::PlayedMs];
        let frames = [Total::FramesDropped, Total::Frames];
        let mut is_cut = share(&mut used.time_ms, time_ms_max, &time, deltas, &mut seen.deltas);
        is_cut |= share(&mut used.frames, frames_max, &frames, deltas, &mut seen.deltas);
        // A start that failed is an attempt.
        let mut starting = *deltas;
        let failures = deltas[Total::StartFailures as usize];
        let attempts = &mut starting[Total::Attempts as usize];
        *attempts = attempts.saturating_sub(failures);
        let attempts = [Total::StartFailures, Total::Attempts];
        let used_max = self.samples_max;
        is_cut |= share(&mut used.attempts, used_max, &attempts, &starting, &mut seen.deltas);
        seen.deltas[Total::Attempts as usize] += seen.deltas[Total::StartFailures as usize];
        let sessions = u32::from(is_new).min(used_max - used.sessions);
        used.sessions += sessions;
        seen.is_new = sessions > 0;
        seen.starts = starts.min(used_max - used.starts);
        used.starts += seen.starts;
        seen.is_cut = is_cut || seen.is_new != is_new || seen.starts != starts;
        seen
    }

    /// A window begins.
    pub(crate) fn clear(&mut self) {
        self.used.fill(Used::default());
    }
}

/// Gives as much of two totals as there is room for, in their proportion; whether that was less
/// than all.
fn share(
    used: &mut u32,
    max: u32,
    totals: &[Total; 2],
    deltas: &[u64; TOTALS],
    seen: &mut [u64; TOTALS],
) -> bool {
    let [one, two] = totals.map(|total| deltas[total as usize]);
    let whole = one.saturating_add(two);
    let given = whole.min(u64::from(max - *used));
    if whole == 0 {
        return false;
    }
    let part = (u128::from(one) * u128::from(given) + u128::from(whole / 2)) / u128::from(whole);
    let part = (part as u64).min(given);
    seen[totals[0] as usize] = part;
    seen[totals[1] as usize] = given - part;
    *used += given as u32;
    given < whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deltas(of: &[(Total, u64)]) -> [u64; TOTALS] {
        let mut deltas = [0; TOTALS];
        of.iter().for_each(|(total, value)| deltas[*total as usize] = *value);
        deltas
    }

    #[test]
    fn a_source_opens_so_many_keys_a_window_and_another_as_many() {
        let mut openings = Openings::new(3);
        let (one, two) = (Source::of(1, false), Source::of(2, false));
        let took = |openings: &mut Openings, of| (0..5).filter(|_| openings.take(of)).count();
        assert_eq!((took(&mut openings, one), took(&mut openings, two)), (3, 3));
        openings.clear();
        assert_eq!(took(&mut openings, one), 3);
    }

    #[test]
    fn what_a_source_weighs_is_bounded_in_every_total_and_its_shares_stay() {
        let mut weights = Weights::new(5);
        let source = (Source::of(7, false), Side::Play);
        let claims = deltas(&[
            (Total::StallMs, 1 << 49),
            (Total::PlayedMs, 1 << 49),
            (Total::Attempts, 1_000),
            (Total::StartFailures, 900),
        ]);
        let seen = weights.admit(source, &claims, true, 200);
        let expected = deltas(&[
            (Total::StallMs, 25_000),
            (Total::PlayedMs, 25_000),
            (Total::Attempts, 5),
            (Total::StartFailures, 5),
        ]);
        let expected = Evidence { deltas: expected, is_new: true, starts: 5, is_cut: true };
        assert_eq!(seen, expected);
        let more = weights.admit(source, &claims, true, 1);
        assert_eq!((more.deltas, more.is_new, more.starts), ([0; TOTALS], true, 0));
        let sessions = (0..9).filter(|_| weights.admit(source, &claims, true, 0).is_new).count();
        assert_eq!(sessions, 3, "five in all");
        let honest = deltas(&[(Total::StallMs, 100), (Total::PlayedMs, 9_900)]);
        let other = weights.admit((Source::of(8, false), Side::Play), &honest, true, 1);
        assert_eq!((other.deltas, other.is_cut), (honest, false));
        weights.clear();
        assert!(!weights.admit(source, &honest, true, 1).is_cut);
    }

    #[test]
    fn what_a_guest_says_of_a_push_is_no_evidence() {
        let mut weights = Weights::new(5);
        let claims = deltas(&[(Total::Frames, 100), (Total::FramesDropped, 100)]);
        let mut seen = |is_named| {
            weights.admit((Source::of(7, is_named), Side::Push), &claims, true, 0).deltas
        };
        assert_eq!((seen(false), seen(true)), ([0; TOTALS], claims));
    }
}
