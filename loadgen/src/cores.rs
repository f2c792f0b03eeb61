//! How busy this machine's cores are, from `/proc/stat`.
//!
//! Owns the reading of two moments. A thread's own CPU time leaves out what the kernel does for it
//! in interrupts, which on loopback is much of the work: where the tester has cores of its own,
//! they are what is judged.

/// Busy and total time of each core since boot, in the kernel's ticks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cores(Vec<(u16, u64, u64)>);

impl Cores {
    /// Now; empty where the kernel does not tell.
    pub(crate) fn now() -> Cores {
        std::fs::read_to_string("/proc/stat").map(|text| Cores::read(&text)).unwrap_or_default()
    }

    fn read(text: &str) -> Cores {
        let line = |line: &str| {
            let (name, figures) = line.strip_prefix("cpu")?.split_once(' ')?;
            let core = name.parse().ok()?; // the first line is the sum, without a number
            let ticks: Vec<u64> =
                figures.split_whitespace().take(8).filter_map(|n| n.parse().ok()).collect();
            let total: u64 = ticks.iter().sum();
            // user nice system idle iowait irq softirq steal
            let idle = ticks.get(3)? + ticks.get(4)?;
            Some((core, total - idle, total))
        };
        Cores(text.lines().filter_map(line).collect())
    }

    /// The largest busy share since `before` of the cores that `which` names (all where it is
    /// empty); `None` where it is not known.
    pub(crate) fn busiest_since(&self, before: &Cores, which: &[u16]) -> Option<f64> {
        let share = |(core, busy, total): &(u16, u64, u64)| {
            let (_, busy_before, total_before) = before.0.iter().find(|c| c.0 == *core)?;
            let total = total.checked_sub(*total_before).filter(|ticks| *ticks > 0)?;
            Some(busy.saturating_sub(*busy_before) as f64 / total as f64)
        };
        let named = self.0.iter().filter(|c| which.is_empty() || which.contains(&c.0));
        named.filter_map(share).reduce(f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_of_the_named_cores_is_told() {
        let before = Cores::read(
            "cpu  200 0 0 200 0 0 0 0 0 0\ncpu0 100 0 0 100 0 0 0 0 0 0\n\
             cpu1 100 0 0 100 0 0 0 0 0 0\nintr 5\n",
        );
        let after = Cores::read(
            "cpu  290 0 0 310 0 0 0 0 0 0\ncpu0 110 0 0 190 0 0 0 0 0 0\n\
             cpu1 140 20 10 110 10 5 5 0 0 0\nintr 6\n",
        );
        assert_eq!(after.busiest_since(&before, &[0]), Some(0.1));
        assert_eq!(after.busiest_since(&before, &[1]), Some(0.8));
        assert_eq!(after.busiest_since(&before, &[]), Some(0.8));
        assert_eq!(after.busiest_since(&before, &[7]), None);
        assert_eq!(before.busiest_since(&before, &[]), None, "no time has passed");
    }

    #[test]
    fn this_machine_has_cores() {
        assert!(!Cores::now().0.is_empty());
    }
}
