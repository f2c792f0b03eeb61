//! Many values as few counts, from which any percentile is read to within one percent.
//!
//! DDSketch (arXiv 1908.10693): bucket `i` counts the values in `(γ^(i-1), γ^i]`, and whichever of
//! them is meant, `2γ^i/(γ+1)` is within one percent of it. Merging adds counts, so the sketch of
//! a whole is the merged sketches of its parts, in any order.

/// The relative error of a percentile.
pub(crate) const ERROR: f64 = 0.01;
/// `(1 + ERROR) / (1 - ERROR)`.
const GAMMA: f64 = (1.0 + ERROR) / (1.0 - ERROR);
/// The largest value, in whatever unit: 2.8 hours in milliseconds. Larger ones count as it.
pub(crate) const VALUE_MAX: u32 = 10_000_000;
/// Buckets of a sketch at most: `ln(VALUE_MAX) / ln(GAMMA)`, and the one of 1.
pub(crate) const BUCKETS_MAX: usize = 807;

/// A bucket that counts something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bucket {
    index: u16,
    count: u32,
}

/// Values, by how often each was there. Its size depends on their spread, not on their number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sketch {
    /// In the order of their index.
    buckets: Vec<Bucket>,
    /// Values of 0, which has no logarithm.
    zeros: u32,
    count: u64,
    sum: u64,
}

impl Sketch {
    /// Takes a value.
    pub(crate) fn add(&mut self, value: u32) {
        let value = value.min(VALUE_MAX);
        self.count += 1;
        self.sum += u64::from(value);
        match index_of(value) {
            None => self.zeros = self.zeros.saturating_add(1),
            Some(index) => self.put(Bucket { index, count: 1 }),
        }
    }

    /// Takes all values of another one.
    pub(crate) fn merge(&mut self, other: &Sketch) {
        self.count += other.count;
        self.sum += other.sum;
        self.zeros = self.zeros.saturating_add(other.zeros);
        other.buckets.iter().for_each(|bucket| self.put(*bucket));
    }

    fn put(&mut self, bucket: Bucket) {
        match self.buckets.binary_search_by_key(&bucket.index, |one| one.index) {
            Ok(at) => {
                let count = &mut self.buckets[at].count;
                *count = count.saturating_add(bucket.count);
            }
            Err(at) => {
                if self.buckets.len() == self.buckets.capacity() {
                    // A vector would double; thousands of sketches would be half empty.
                    self.buckets.reserve_exact((self.buckets.len() / 4).max(4));
                }
                self.buckets.insert(at, bucket);
            }
        }
    }

    /// The value that a share `q` (0 to 1) of the values is not above, to within one percent;
    /// `None`: there is no value.
    pub(crate) fn quantile(&self, q: f64) -> Option<f64> {
        let last = self.count.checked_sub(1)?;
        let rank = (q.clamp(0.0, 1.0) * last as f64).floor() as u64;
        let mut passed = u64::from(self.zeros);
        if rank < passed {
            return Some(0.0);
        }
        for bucket in &self.buckets {
            passed += u64::from(bucket.count);
            if rank < passed {
                return Some(value_of(bucket.index));
            }
        }
        self.buckets.last().map(|bucket| value_of(bucket.index))
    }

    /// How many values it holds.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Their mean, exactly; 0 where there is none.
    pub(crate) fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum as f64 / self.count as f64 }
    }

    /// Memory beside the sketch itself, in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<Bucket>()
    }

    /// As a row keeps it: sum, zeros, then index and count of each bucket.
    pub(crate) fn words(&self) -> Vec<u64> {
        let buckets = self.buckets.iter().flat_map(|b| [u64::from(b.index), u64::from(b.count)]);
        [self.sum, u64::from(self.zeros)].into_iter().chain(buckets).collect()
    }

    /// Back from a row; `None`: it is not what [`Sketch::words`] wrote.
    pub(crate) fn from_words(words: &[u64]) -> Option<Sketch> {
        let (&[sum, zeros], pairs) = words.split_first_chunk::<2>()?;
        let zeros = u32::try_from(zeros).ok()?;
        let mut sketch = Sketch { buckets: Vec::new(), zeros, count: u64::from(zeros), sum };
        if pairs.len() % 2 != 0 || pairs.len() / 2 > BUCKETS_MAX {
            return None;
        }
        for pair in pairs.chunks_exact(2) {
            let index = u16::try_from(pair[0]).ok().filter(|i| usize::from(*i) < BUCKETS_MAX)?;
            let count = u32::try_from(pair[1]).ok()?;
            sketch.count += u64::from(count);
            sketch.put(Bucket { index, count });
        }
        Some(sketch)
    }
}

/// The bucket of a value; `None`: it is 0.
fn index_of(value: u32) -> Option<u16> {
    if value == 0 {
        return None;
    }
    // At most 806: VALUE_MAX is the largest.
    Some((f64::from(value).ln() / GAMMA.ln()).ceil() as u16)
}

fn value_of(index: u16) -> f64 {
    2.0 * GAMMA.powi(i32::from(index)) / (GAMMA + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small generator: the same values at every run.
    fn values(seed: u64, many: usize, shape: impl Fn(u64) -> u32) -> Vec<u32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
            state >> 33
        };
        (0..many).map(|_| shape(next())).collect()
    }

    fn sketch(values: &[u32]) -> Sketch {
        let mut sketch = Sketch::default();
        values.iter().for_each(|value| sketch.add(*value));
        sketch
    }

    /// Uniform, long-tailed, two humps, small numbers with zeros, all the same.
    fn shapes() -> Vec<Vec<u32>> {
        vec![
            values(1, 100_000, |n| (n % 60_000) as u32),
            values(2, 100_000, |n| (50.0 / (1.0 - (n % 999_983) as f64 / 999_984.0)) as u32),
            values(3, 100_000, |n| if n % 10 == 0 { 9_000 + (n % 977) as u32 } else { 40 }),
            values(4, 100_000, |n| (n % 61) as u32),
            vec![30; 1_000],
            vec![VALUE_MAX, 1, 0],
        ]
    }

    #[test]
    fn percentiles_are_within_one_percent_of_the_exact_ones() {
        let mut worst: f64 = 0.0;
        for list in shapes() {
            let sketch = sketch(&list);
            let mut sorted: Vec<u32> = list.iter().map(|value| (*value).min(VALUE_MAX)).collect();
            sorted.sort_unstable();
            for q in [0.0, 0.5, 0.95, 0.99, 1.0] {
                let rank = (q * (sorted.len() - 1) as f64).floor() as usize;
                let (exact, told) = (f64::from(sorted[rank]), sketch.quantile(q).unwrap());
                if exact == 0.0 {
                    assert_eq!(told, 0.0);
                } else {
                    worst = worst.max((told - exact).abs() / exact);
                }
            }
            let mean = sorted.iter().map(|v| u64::from(*v)).sum::<u64>() as f64;
            assert!((sketch.mean() - mean / sorted.len() as f64).abs() < 1e-6);
        }
        println!("the worst relative error of p0, p50, p95, p99, p100 is {worst:.5}");
        assert!(worst <= ERROR + 1e-9, "{worst}");
    }

    #[test]
    fn merged_parts_are_the_whole_in_any_order() {
        for list in shapes() {
            let whole = sketch(&list);
            let (a, b) = list.split_at(list.len() / 3);
            let (a, b) = (sketch(a), sketch(b));
            let (mut ab, mut ba) = (a.clone(), b.clone());
            ab.merge(&b);
            ba.merge(&a);
            assert_eq!(ab, whole);
            assert_eq!(ba, whole);
        }
    }

    #[test]
    fn its_size_is_bounded_whatever_comes() {
        let mut sketch = sketch(&(0..1_000_000).map(|n| n * 11).collect::<Vec<u32>>());
        (0..20_000).for_each(|value| sketch.add(value));
        sketch.add(u32::MAX);
        assert!(sketch.buckets.len() <= BUCKETS_MAX, "{}", sketch.buckets.len());
        assert_eq!(index_of(VALUE_MAX).map(usize::from), Some(BUCKETS_MAX - 1));
        assert!(sketch.heap_bytes() <= (BUCKETS_MAX * 5 / 4) * size_of::<Bucket>());
    }

    #[test]
    fn a_row_gives_back_what_was_put_in_and_refuses_what_was_not() {
        for list in shapes() {
            let sketch = sketch(&list);
            assert_eq!(Sketch::from_words(&sketch.words()), Some(sketch));
        }
        for bad in [&[][..], &[1], &[1, 0, 5], &[1, 0, 5_000, 1], &[1, 0, 5, u64::MAX]] {
            assert_eq!(Sketch::from_words(bad), None, "{bad:?}");
        }
        assert_eq!(Sketch::default().quantile(0.5), None);
    }
}
