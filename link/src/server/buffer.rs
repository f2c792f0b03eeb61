//! What was told to one node and is not known to be heard: where a broken stream goes on.
//!
//! A state machine. Owns the bound: a node that hears less than it is told, for long, begins anew.

use crate::frames;
use bytes::Bytes;
use std::collections::VecDeque;

/// Words that wait to be heard.
const WORDS_MAX: usize = 131_072;
/// Their bytes, shared with the buffers of other nodes.
const BYTES_MAX: usize = 64 << 20;
/// A chunk of the stream ends behind the word that makes it so long.
const CHUNK_BYTES: usize = 64 << 10;

/// More waits than may: its node begins anew.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Overrun;

/// See the module.
#[derive(Default)]
pub(super) struct Buffer {
    /// The seq of what was heard last.
    heard: u64,
    words: VecDeque<Bytes>,
    bytes: usize,
}

impl Buffer {
    /// Takes a word in.
    ///
    /// # Errors
    /// Where it would not be kept.
    pub(super) fn push(&mut self, word: Bytes) -> Result<(), Overrun> {
        if self.words.len() >= WORDS_MAX || self.bytes >= BYTES_MAX {
            return Err(Overrun);
        }
        self.bytes += word.len();
        self.words.push_back(word);
        Ok(())
    }

    /// The node has heard everything up to here.
    pub(super) fn heard(&mut self, seq: u64) {
        while self.heard < seq
            && let Some(word) = self.words.pop_front()
        {
            self.bytes -= word.len();
            self.heard += 1;
        }
    }

    /// Whether a stream can go on behind this.
    pub(super) fn resumes(&self, after: u64) -> bool {
        (self.heard..=self.heard + self.words.len() as u64).contains(&after)
    }

    /// The next chunk of a stream that has come to `after`, and how far it comes with it.
    pub(super) fn chunk(&self, after: u64) -> (Vec<u8>, u64) {
        let (mut chunk, mut seq) = (Vec::new(), after);
        // What was heard already is not said again.
        let skip = usize::try_from(after.saturating_sub(self.heard)).unwrap_or(usize::MAX);
        for word in self.words.iter().skip(skip) {
            seq += 1;
            frames::write(seq, word, &mut chunk);
            if chunk.len() >= CHUNK_BYTES {
                break;
            }
        }
        (chunk, seq)
    }

    /// Words that wait, and their bytes.
    pub(super) fn used(&self) -> (usize, usize) {
        (self.words.len(), self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::Reader;

    fn word(n: usize) -> Bytes {
        Bytes::from(n.to_string())
    }

    /// What a stream that goes on behind `after` brings.
    fn stream(buffer: &Buffer, mut after: u64) -> Vec<(u64, Bytes)> {
        let (mut reader, mut read) = (Reader::default(), Vec::new());
        loop {
            let (chunk, seq) = buffer.chunk(after);
            if chunk.is_empty() {
                return read;
            }
            after = seq;
            reader.feed(&chunk);
            while let Some(told) = reader.next().unwrap() {
                read.push((told.seq, told.tell));
            }
        }
    }

    #[test]
    fn a_stream_goes_on_behind_what_was_heard() {
        let mut buffer = Buffer::default();
        (1..=5).for_each(|n| buffer.push(word(n)).unwrap());
        let all: Vec<(u64, Bytes)> = (1..=5).map(|n| (n as u64, word(n))).collect();
        assert_eq!(stream(&buffer, 0), all);
        buffer.heard(2);
        assert!(!buffer.resumes(1), "it is kept no longer");
        assert!(buffer.resumes(2) && buffer.resumes(5) && !buffer.resumes(6));
        assert_eq!(stream(&buffer, 2), all[2..]);
        assert_eq!(stream(&buffer, 4), all[4..]);
        assert_eq!(stream(&buffer, 5), []);
        buffer.heard(1);
        buffer.heard(99);
        assert_eq!(buffer.used(), (0, 0));
        assert!(buffer.resumes(5) && !buffer.resumes(99), "nobody hears what was not said");
        buffer.push(word(6)).unwrap();
        assert_eq!(stream(&buffer, 5), [(6, word(6))]);
    }

    #[test]
    fn chunks_are_bounded_and_lose_nothing() {
        let mut buffer = Buffer::default();
        (0..100).for_each(|_| buffer.push(Bytes::from(vec![1; 10_000])).unwrap());
        let (chunk, seq) = buffer.chunk(0);
        assert!((CHUNK_BYTES..CHUNK_BYTES + 20_000).contains(&chunk.len()) && seq == 7);
        assert_eq!(stream(&buffer, 0).len(), 100);
    }

    #[test]
    fn more_than_may_wait_is_an_overrun() {
        let mut buffer = Buffer::default();
        (0..WORDS_MAX).for_each(|n| buffer.push(word(n)).unwrap());
        assert_eq!(buffer.push(word(0)), Err(Overrun));
        buffer.heard(1);
        assert_eq!(buffer.push(word(0)), Ok(()));
        let mut buffer = Buffer::default();
        (0..8).for_each(|_| buffer.push(Bytes::from(vec![1; 8 << 20])).unwrap());
        assert_eq!(buffer.push(word(0)), Err(Overrun));
    }
}
