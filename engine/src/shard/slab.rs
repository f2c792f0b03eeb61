//! A table of things few connections have: numbered places, reused, grown by chunks, never moved.

/// No place.
pub const NONE: u32 = u32::MAX;

const CHUNK: usize = 256;

/// The table. A number is valid from `insert` to `remove`; using it otherwise panics.
pub struct Slab<T> {
    chunks: Vec<Vec<Option<T>>>,
    free: Vec<u32>,
    used: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab { chunks: Vec::new(), free: Vec::new(), used: 0 }
    }
}

impl<T> Slab<T> {
    /// Takes a thing in; its number.
    pub fn insert(&mut self, thing: T) -> u32 {
        self.used += 1;
        if let Some(number) = self.free.pop() {
            *self.place(number) = Some(thing);
            return number;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let chunks = self.chunks.len();
        let last = &mut self.chunks[chunks - 1];
        last.push(Some(thing));
        u32::try_from((chunks - 1) * CHUNK + last.len() - 1).expect("slabs are bounded by tables")
    }

    /// Takes a thing out.
    pub fn remove(&mut self, number: u32) -> T {
        let thing = self.place(number).take().expect("a number is removed once");
        self.free.push(number);
        self.used -= 1;
        if self.used == 0 {
            // Nothing points in: give a burst's memory back, keep what the next few need.
            self.chunks.truncate(1);
            self.chunks[0].clear();
            self.free = Vec::new();
        }
        thing
    }

    /// Whether a number holds a thing now (perhaps another one than before).
    #[must_use]
    pub fn contains(&self, number: u32) -> bool {
        let place = self.chunks.get(number as usize / CHUNK);
        place.and_then(|chunk| chunk.get(number as usize % CHUNK)).is_some_and(Option::is_some)
    }

    /// Reads a thing.
    #[must_use]
    pub fn get(&self, number: u32) -> &T {
        self.chunks[number as usize / CHUNK][number as usize % CHUNK]
            .as_ref()
            .expect("a number is valid until removed")
    }

    /// Changes a thing.
    pub fn get_mut(&mut self, number: u32) -> &mut T {
        self.place(number).as_mut().expect("a number is valid until removed")
    }

    /// Numbers and things, in order of number.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let places = self.chunks.iter().flatten().enumerate();
        places.filter_map(|(number, place)| Some((number as u32, place.as_ref()?)))
    }

    /// Above every number in use.
    #[must_use]
    pub fn end(&self) -> u32 {
        (self.chunks.len() * CHUNK) as u32
    }

    /// How many are in.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used
    }

    /// Bytes of the table itself, not of what its things own.
    #[must_use]
    pub fn bytes_used(&self) -> usize {
        self.chunks.len() * CHUNK * size_of::<Option<T>>() + self.free.capacity() * 4
    }

    fn place(&mut self, number: u32) -> &mut Option<T> {
        &mut self.chunks[number as usize / CHUNK][number as usize % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_reused_and_an_empty_slab_keeps_one_chunk() {
        let mut slab = Slab::default();
        let numbers: Vec<u32> = (0..600).map(|i| slab.insert(i)).collect();
        assert_eq!(*slab.get(numbers[599]), 599);
        assert_eq!(slab.remove(numbers[5]), 5);
        assert_eq!(slab.insert(9), numbers[5]);
        assert_eq!(slab.iter().map(|(_, v)| *v).sum::<i32>(), (0..600).sum::<i32>() - 5 + 9);
        for number in numbers {
            slab.remove(number);
        }
        assert_eq!((slab.used(), slab.bytes_used()), (0, CHUNK * size_of::<Option<i32>>()));
        assert_eq!(slab.insert(1), 0, "numbers begin anew");
    }
}
