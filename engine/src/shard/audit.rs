//! What a shard owes at this very moment, for the simulator, which checks it after every turn.
//! (The exported figures follow twice a second.)

use super::Shard;
use crate::router::{Books, CLASSES};

impl Shard {
    /// The books of this shard as they stand now.
    #[must_use]
    pub fn books(&self) -> Books {
        let mut books = self.metrics.books();
        for (_, room) in self.rooms.slab.iter() {
            books = books.plus(&room.edge.books().since(&room.booked));
        }
        for (_, hosted) in self.homes.slab.iter() {
            books = books.plus(&hosted.home.books().since(&hosted.booked));
        }
        books
    }

    /// Rooms that are at home here and have not been told what is kept of them.
    #[must_use]
    pub fn asking(&self) -> usize {
        let homes = self.homes.slab.iter();
        homes.filter(|(_, hosted)| hosted.home.former.is_awaited()).count()
    }

    /// Messages that members here are still to be sent, by class.
    #[must_use]
    pub fn undelivered(&self) -> [u64; CLASSES] {
        let mut sum = [0; CLASSES];
        for (_, room) in self.rooms.slab.iter() {
            for (total, n) in sum.iter_mut().zip(room.ring.undelivered()) {
                *total += n;
            }
        }
        sum
    }
}
