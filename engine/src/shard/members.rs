//! The dense list of a room's members on this shard.
//!
//! Owns (connection, cursor) triples packed in chunks, and the position of the sweep through
//! them. A leave moves the last member into the hole; the list tells its caller who moved, so
//! that a sweep neither skips nor repeats anybody. Never looks at a connection.

/// One member: 12 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its connection's slot.
    pub conn: u32,
    /// Number of the first chunk it was not sent yet; low bits of a 64-bit count.
    pub cursor: u32,
    /// The last seq it was sent or told missing; low bits of a 64-bit count.
    pub seq: u32,
}

const CHUNK: usize = 1024;

/// The list.
#[derive(Default)]
pub struct Members {
    chunks: Vec<Vec<Member>>,
    len: u32,
    /// The running sweep has visited every index below this.
    pub swept: u32,
}

/// What a removal did to the rest of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Who left.
    pub gone: Member,
    /// The member that is now at the hole's index, if another one moved there.
    pub moved: Option<Member>,
    /// True where the running sweep would now pass the moved member by: the caller sweeps it.
    pub unswept: bool,
}

impl Members {
    /// Appends one; its index.
    pub fn push(&mut self, member: Member) -> u32 {
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            // A small room's first chunk grows as needed; a large room's come whole.
            let capacity = if self.chunks.is_empty() { 4 } else { CHUNK };
            self.chunks.push(Vec::with_capacity(capacity));
        }
        if let Some(last) = self.chunks.last_mut() {
            last.push(member);
        }
        self.len += 1;
        self.len - 1
    }

    /// Takes one out and closes the hole with the last member.
    pub fn remove(&mut self, index: u32) -> Removed {
        assert!(index < self.len, "a membership's index is inside its list");
        let chunks = self.chunks.len();
        let last = self.chunks[chunks - 1].pop().expect("the last chunk holds somebody");
        if self.chunks[chunks - 1].is_empty() {
            self.chunks.pop();
        }
        self.len -= 1;
        let removed = if index == self.len {
            Removed { gone: last, moved: None, unswept: false }
        } else {
            let gone = std::mem::replace(self.get_mut(index), last);
            let unswept = index < self.swept && self.swept <= self.len;
            Removed { gone, moved: Some(last), unswept }
        };
        self.swept = self.swept.min(self.len);
        removed
    }

    /// Reads one.
    #[must_use]
    pub fn get(&self, index: u32) -> &Member {
        &self.chunks[index as usize / CHUNK][index as usize % CHUNK]
    }

    /// Changes one.
    pub fn get_mut(&mut self, index: u32) -> &mut Member {
        &mut self.chunks[index as usize / CHUNK][index as usize % CHUNK]
    }

    /// The members from `index` to the end of its chunk: what the sweep's inner loop walks.
    pub fn run_mut(&mut self, index: u32) -> &mut [Member] {
        match self.chunks.get_mut(index as usize / CHUNK) {
            Some(chunk) => &mut chunk[index as usize % CHUNK..],
            None => &mut [],
        }
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether there is nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.chunks.iter().flatten()
    }

    /// Bytes of the list.
    #[must_use]
    pub fn bytes_used(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.capacity() * size_of::<Member>()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn member(conn: u32) -> Member {
        Member { conn, cursor: 0, seq: 0 }
    }

    #[test]
    fn a_member_that_moves_behind_the_sweep_is_named() {
        let mut members = Members::default();
        for conn in 0..5 {
            members.push(member(conn));
        }
        members.swept = 3;
        let removed = members.remove(1);
        assert_eq!(removed.moved, Some(member(4)));
        assert!(removed.unswept, "member 4 was ahead of the sweep and is now behind it");
        let removed = members.remove(3);
        assert_eq!((removed.gone, removed.moved), (member(3), None));
        let removed = members.remove(0);
        assert_eq!(removed.moved, Some(member(2)));
        assert!(!removed.unswept, "member 2 was swept already");
    }

    proptest! {
        /// Joins and leaves at any point of a sweep: who was there all the time is visited, and
        /// nobody is visited twice.
        #[test]
        fn a_sweep_visits_everybody_once(
            start in 0u32..2_500,
            steps in prop::collection::vec((0u8..4, any::<u32>()), 0..300)
        ) {
            let mut members = Members::default();
            let mut stayed: BTreeSet<u32> = (0..start).collect();
            for conn in 0..start {
                members.push(member(conn));
            }
            let mut visited = Vec::new();
            let mut fresh = start;
            let target = |m: &Member| m.cursor == 0;
            for (what, pick) in steps {
                match what {
                    0 => {
                        members.push(Member { conn: fresh, cursor: 1, seq: 0 });
                        fresh += 1;
                    }
                    1 if !members.is_empty() => {
                        let removed = members.remove(pick % members.len());
                        stayed.remove(&removed.gone.conn);
                        if let Some(moved) = removed.moved
                            && removed.unswept
                            && target(&moved)
                        {
                            visited.push(moved.conn);
                            let index = (0..members.len())
                                .find(|i| members.get(*i).conn == moved.conn)
                                .expect("it moved inside the list");
                            members.get_mut(index).cursor = 1;
                        }
                    }
                    _ => {
                        for _ in 0..pick % 50 {
                            let at = members.swept;
                            if at < members.len() {
                                if target(members.get(at)) {
                                    visited.push(members.get(at).conn);
                                    members.get_mut(at).cursor = 1;
                                }
                                members.swept += 1;
                            }
                        }
                    }
                }
            }
            while members.swept < members.len() {
                let at = members.swept;
                if target(members.get(at)) {
                    visited.push(members.get(at).conn);
                }
                members.swept += 1;
            }
            let unique: BTreeSet<u32> = visited.iter().copied().collect();
            prop_assert_eq!(unique.len(), visited.len(), "somebody was visited twice");
            prop_assert!(stayed.is_subset(&unique), "somebody was passed by");
        }
    }
}
