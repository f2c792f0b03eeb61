//! The books: what became of every message that was offered, exactly and per class.

use super::CLASSES;

/// Counts since the beginning. An edge keeps what it decides, a home what it decides; together
/// `offered = refused + admitted + merged + shed + expired + pending`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Came in from a client or a backend.
    pub offered: [u64; CLASSES],
    /// Not valid now; the sender is told why.
    pub refused: [u64; CLASSES],
    /// Got a seq.
    pub admitted: [u64; CLASSES],
    /// Folded into a counter, or into a gift of the same combo.
    pub merged: [u64; CLASSES],
    /// Valid, but the room was too busy.
    pub shed: [u64; CLASSES],
    /// Admitted too late for its deadline, and not sent.
    pub expired: [u64; CLASSES],
}

impl Books {
    /// What was gained since an earlier state of the same books.
    #[must_use]
    pub fn since(&self, earlier: &Books) -> Books {
        let diff = |a: &[u64; CLASSES], b: &[u64; CLASSES]| std::array::from_fn(|i| a[i] - b[i]);
        Books {
            offered: diff(&self.offered, &earlier.offered),
            refused: diff(&self.refused, &earlier.refused),
            admitted: diff(&self.admitted, &earlier.admitted),
            merged: diff(&self.merged, &earlier.merged),
            shed: diff(&self.shed, &earlier.shed),
            expired: diff(&self.expired, &earlier.expired),
        }
    }

    /// The sum of two books.
    #[must_use]
    pub fn plus(&self, other: &Books) -> Books {
        let sum = |a: &[u64; CLASSES], b: &[u64; CLASSES]| std::array::from_fn(|i| a[i] + b[i]);
        Books {
            offered: sum(&self.offered, &other.offered),
            refused: sum(&self.refused, &other.refused),
            admitted: sum(&self.admitted, &other.admitted),
            merged: sum(&self.merged, &other.merged),
            shed: sum(&self.shed, &other.shed),
            expired: sum(&self.expired, &other.expired),
        }
    }

    /// Messages decided, by class.
    #[must_use]
    pub fn decided(&self) -> [u64; CLASSES] {
        std::array::from_fn(|i| {
            self.refused[i] + self.admitted[i] + self.merged[i] + self.shed[i] + self.expired[i]
        })
    }

    /// Whether every message offered is decided or pending, class by class.
    #[must_use]
    pub fn is_balanced(&self, pending: &[u64; CLASSES]) -> bool {
        let decided = self.decided();
        (0..CLASSES).all(|i| self.offered[i] == decided[i] + pending[i])
    }
}
