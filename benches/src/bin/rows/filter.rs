//! What the text filter costs by itself, on one core and without a server around it: lines as
//! people write them, against a list of 100,000 words, and against one that has just changed. CPU
//! time of this thread is read, not wall time, so a busy machine is slower by its caches alone.

use crate::bench::{Bench, Measured};
use serde_json::json;
use std::hint::black_box;
use std::io;
use uproar_benches::harness::report::{Line, Verdict};
use uproar_benches::harness::stats::{median, paired_ratio, spread};
use uproar_benches::sys::thread_cpu_ns;
use uproar_filter::{Bad, Filter, List, Scratch};

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

/// The list as it was compiled whole, and as it is after a change; and what both took of CPU.
struct Ready {
    words: usize,
    whole: Filter,
    whole_ms: f64,
    changed: Filter,
    change_ms: f64,
}

fn ready(dice: &mut Dice) -> io::Result<Ready> {
    let timed = |make: &dyn Fn() -> Result<Filter, Bad>| {
        let begun = thread_cpu_ns();
        let filter = make().map_err(|bad| io::Error::other(bad.to_string()))?;
        Ok::<_, io::Error>((filter, (thread_cpu_ns() - begun) as f64 / 1e6))
    };
    let list = List::new((0..WORDS).map(|_| dice.word()).collect(), Vec::new());
    let mut words = list.words[CHANGES..].to_vec();
    words.extend((0..CHANGES).map(|_| dice.word()));
    let next = List::new(words, Vec::new());
    let (whole, whole_ms) = timed(&|| Filter::compile(&list))?;
    let (changed, change_ms) = timed(&|| whole.changed(&next))?;
    Ok(Ready { words: list.words.len(), whole, whole_ms, changed, change_ms })
}

/// Messages a second in each repetition.
#[derive(Default)]
struct Paces {
    without: Vec<f64>,
    with: Vec<f64>,
    changed: Vec<f64>,
    /// Of the lines, how many hit.
    share: f64,
}

/// The row.
pub(crate) fn filter(bench: &Bench) -> io::Result<Measured> {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let ready = ready(&mut dice)?;
    let lines: Vec<String> = (0..LINES).map(|_| dice.line()).collect();
    let (mut paces, mut scratch) = (Paces::default(), Scratch::default());
    for _ in 0..bench.repeats {
        let mut copy = Vec::new();
        // What a shard does with a text anyway: it is checked, and copied into its frame.
        let (bare, _) = pace(&lines, |line| {
            copy.clear();
            copy.extend_from_slice(line.as_bytes());
            std::str::from_utf8(black_box(&copy)).is_err()
        });
        let (filtered, hits) = pace(&lines, |line| ready.whole.is_hit(line, &mut scratch));
        let (changed, _) = pace(&lines, |line| ready.changed.is_hit(line, &mut scratch));
        paces.share = hits as f64 / (LINES * ROUNDS) as f64;
        paces.without.push(bare);
        paces.with.push(filtered);
        paces.changed.push(changed);
    }
    let notes = vec![format!("{:.1} % of the lines hit a word", paces.share * 100.0)];
    let raw = vec![json!({"without": paces.without, "with": paces.with,
        "changed": paces.changed, "rebuild_ms": ready.whole_ms, "change_ms": ready.change_ms,
        "bytes": ready.whole.bytes_used(), "hit_share": paces.share})];
    Ok(Measured { lines: told(&ready, &paces), notes, raw })
}

fn told(ready: &Ready, paces: &Paces) -> Vec<Line> {
    let (words, with) = (ready.words, median(&paces.with));
    let (low, high) = spread(&paces.with);
    let mib = ready.whole.bytes_used() as f64 / f64::from(1 << 20);
    let line = |what: String, aim: &str, measured: String| Line {
        what,
        aim: aim.to_owned(),
        measured,
        ratio: None,
        ratio_spread: None,
        verdict: Verdict::Open,
    };
    let beside = |what: String, measured: String, (ratio, spread): (f64, (f64, f64))| Line {
        ratio: Some(ratio),
        ratio_spread: Some(spread),
        ..line(what, "reported", measured)
    };
    vec![
        Line {
            ratio: Some(with / AIM),
            ratio_spread: Some((low / AIM, high / AIM)),
            verdict: Verdict::of(with >= AIM),
            ..line(
                format!("messages held against {words} words, 10 to 30 characters, by one core"),
                "at least 1,000,000 a second",
                format!("{with:.0} a second, {:.0} ns each", 1e9 / with),
            )
        },
        beside(
            "the same loop with a copy and a check of UTF-8 in the filter's place".to_owned(),
            format!("{:.0} a second", median(&paces.without)),
            paired_ratio(&paces.with, &paces.without),
        ),
        line(
            format!("compiling {words} words"),
            "reported",
            format!("{:.0} ms of CPU, {mib:.1} MiB kept", ready.whole_ms),
        ),
        beside(
            format!("the same messages once {CHANGES} words have gone and {CHANGES} come"),
            format!(
                "{:.0} a second; ready in {:.1} ms of CPU",
                median(&paces.changed),
                ready.change_ms
            ),
            paired_ratio(&paces.changed, &paces.with),
        ),
    ]
}
