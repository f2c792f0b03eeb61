//! What the text filter costs by itself, on one core and without a server around it: lines as
//! people write them, against a list of 100,000 words, and against one that has just changed. CPU time of this thread is read, not wall
//! time, so a busy machine is slower by its caches alone.

use crate::bench::{Bench, Measured};
use serde_json::json;
use std::hint::black_box;
use std::io;
use uproar_benches::harness::report::{Line, Verdict};
use uproar_benches::harness::stats::{median, paired_ratio, spread};
use uproar_benches::sys::thread_cpu_ns;
use uproar_filter::{Filter, List, Scratch};

const WORDS: u64 = 100_000;
const LINES: usize = 100_000;
/// Words that come, and as many that go, without another automaton of all: half of what may.
const CHANGES: usize = 250;
/// Looks at all lines in one measurement.
const ROUNDS: usize = 10;
/// Messages a second on one core.
const AIM: f64 = 1_000_000.0;

/// Xorshift: the same words and lines in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    /// A character of 6,000, the common ones far more often: as text has them.
    fn character(&mut self) -> char {
        let part = (self.below(1 << 20) as f64 / f64::from(1 << 20)).powi(3);
        let number = ((part * 6_000.0) as u32 * 7_919) % 6_000;
        char::from_u32(0x4e00 + number).unwrap_or('一')
    }

    /// Three of four words are Chinese, of 3 to 6 characters; the others of 4 to 11 letters.
    fn word(&mut self) -> String {
        if self.below(4) == 0 {
            let letter = |dice: &mut Dice| char::from(b'a' + dice.below(26) as u8);
            (0..4 + self.below(8)).map(|_| letter(self)).collect()
        } else {
            (0..3 + self.below(4)).map(|_| self.character()).collect()
        }
    }

    /// Two of three lines are Chinese, with marks, numbers and wide letters among the characters.
    fn line(&mut self) -> String {
        const ENGLISH: [&str; 16] = [
            "haha", "nice", "wow", "go", "team", "the", "best", "this", "is", "so", "good", "lol",
            "love", "you", "what", "play",
        ];
        let length = 10 + self.below(21) as usize;
        let is_english = self.below(3) == 0;
        let mut line = String::new();
        while line.chars().count() < length {
            match self.below(20) {
                _ if is_english => {
                    line.push_str(ENGLISH[self.below(16) as usize]);
                    line.push(' ');
                }
                0 => line.push('，'),
                1 => line.push('！'),
                2 => line.push_str("666"),
                3 => line.push('Ａ'),
                _ => line.push(self.character()),
            }
        }
        line
    }
}

/// Messages a second of CPU time; and how many `look` found.
fn pace(lines: &[String], mut look: impl FnMut(&str) -> bool) -> (f64, u64) {
    let (begun, mut found) = (thread_cpu_ns(), 0);
    for _ in 0..ROUNDS {
        found += lines.iter().map(|line| u64::from(look(black_box(line)))).sum::<u64>();
    }
    let took_s = (thread_cpu_ns() - begun) as f64 / 1e9;
    ((lines.len() * ROUNDS) as f64 / took_s, found)
}

/// The row.
pub(crate) fn filter(bench: &Bench) -> io::Result<Measured> {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let list = List::new((0..WORDS).map(|_| dice.word()).collect(), Vec::new());
    let lines: Vec<String> = (0..LINES).map(|_| dice.line()).collect();
    let begun = thread_cpu_ns();
    let filter = Filter::compile(&list).map_err(|bad| io::Error::other(bad.to_string()))?;
    let rebuild_ms = (thread_cpu_ns() - begun) as f64 / 1e6;
    let mut words = list.words[CHANGES..].to_vec();
    words.extend((0..CHANGES).map(|_| dice.word()));
    let next = List::new(words, Vec::new());
    let begun = thread_cpu_ns();
    let changed = filter.changed(&next).map_err(|bad| io::Error::other(bad.to_string()))?;
    let change_ms = (thread_cpu_ns() - begun) as f64 / 1e6;
    let mut scratch = Scratch::default();
    let (mut without, mut with, mut share) = (Vec::new(), Vec::new(), 0.0);
    let mut beside = Vec::new();
    for _ in 0..bench.repeats {
        let mut copy = Vec::new();
        // What a shard does with a text anyway: it is checked, and copied into its frame.
        let (bare, _) = pace(&lines, |line| {
            copy.clear();
            copy.extend_from_slice(line.as_bytes());
            std::str::from_utf8(black_box(&copy)).is_err()
        });
        let (filtered, hits) = pace(&lines, |line| filter.is_hit(line, &mut scratch));
        share = hits as f64 / (LINES * ROUNDS) as f64;
        let (after, _) = pace(&lines, |line| changed.is_hit(line, &mut scratch));
        without.push(bare);
        with.push(filtered);
        beside.push(after);
    }
    let (ratio, ratio_spread) = paired_ratio(&with, &without);
    let (after, after_spread) = paired_ratio(&beside, &with);
    let (low, high) = spread(&with);
    let ns = 1e9 / median(&with);
    let mib = filter.bytes_used() as f64 / f64::from(1 << 20);
    let line = |what: String, aim: &str, measured: String| Line {
        what,
        aim: aim.to_owned(),
        measured,
        ratio: None,
        ratio_spread: None,
        verdict: Verdict::Open,
    };
    let words = list.words.len();
    let lines = vec![
        Line {
            ratio: Some(median(&with) / AIM),
            ratio_spread: Some((low / AIM, high / AIM)),
            verdict: Verdict::of(median(&with) >= AIM),
            ..line(
                format!("messages held against {words} words, 10 to 30 characters, by one core"),
                "at least 1,000,000 a second",
                format!("{:.0} a second, {ns:.0} ns each", median(&with)),
            )
        },
        Line {
            ratio: Some(ratio),
            ratio_spread: Some(ratio_spread),
            ..line(
                "the same loop with a copy and a check of UTF-8 in the filter's place".to_owned(),
                "reported",
                format!("{:.0} a second", median(&without)),
            )
        },
        line(
            format!("compiling {words} words"),
            "reported",
            format!("{rebuild_ms:.0} ms of CPU, {mib:.1} MiB kept"),
        ),
        Line {
            ratio: Some(after),
            ratio_spread: Some(after_spread),
            ..line(
                format!("the same messages once {CHANGES} words have gone and {CHANGES} come"),
                "reported",
                format!("{:.0} a second; ready in {change_ms:.1} ms of CPU", median(&beside)),
            )
        },
    ];
    let notes = vec![format!("{:.1} % of the lines hit a word", share * 100.0)];
    let raw = vec![json!({"without": without, "with": with, "rebuild_ms": rebuild_ms,
        "beside": beside, "change_ms": change_ms,
        "bytes": filter.bytes_used(), "hit_share": share})];
    Ok(Measured { lines, notes, raw })
}
