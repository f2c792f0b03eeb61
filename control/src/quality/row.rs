//! A cell as the store keeps it: protobuf, by the numbers here, which are never reused.

use super::cell::Cell;
use super::report::{Metric, TOTALS};
use super::sketch::Sketch;
use prost::Message as _;

#[derive(Clone, PartialEq, prost::Message)]
struct CellRow {
    /// By their place; a newer program may add some.
    #[prost(uint64, repeated, tag = "1")]
    totals: Vec<u64>,
    #[prost(uint64, tag = "2")]
    plays: u64,
    #[prost(message, repeated, tag = "3")]
    sketches: Vec<SketchRow>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SketchRow {
    /// Its place among metrics.
    #[prost(uint32, tag = "1")]
    metric: u32,
    #[prost(uint64, repeated, tag = "2")]
    words: Vec<u64>,
}

/// The bytes of a row.
pub(crate) fn encode(cell: &Cell) -> Vec<u8> {
    let sketch = |(metric, sketch): &(Metric, Sketch)| SketchRow {
        metric: *metric as u32,
        words: sketch.words(),
    };
    let row = CellRow {
        totals: cell.totals().to_vec(),
        plays: cell.plays(),
        sketches: cell.sketches().iter().map(sketch).collect(),
    };
    row.encode_to_vec()
}

/// Back from a row; `None`: it is not what [`encode`] wrote. What a newer program added is left
/// out.
pub(crate) fn decode(bytes: &[u8]) -> Option<Cell> {
    let row = CellRow::decode(bytes).ok()?;
    let mut totals = [0; TOTALS];
    totals.iter_mut().zip(&row.totals).for_each(|(total, kept)| *total = *kept);
    let mut sketches = Vec::with_capacity(row.sketches.len());
    for SketchRow { metric, words } in &row.sketches {
        let sketch = Sketch::from_words(words)?;
        if let Some(metric) = Metric::ALL.get(*metric as usize) {
            sketches.push((*metric, sketch));
        }
    }
    Some(Cell::of(totals, row.plays, sketches))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_gives_back_the_cell_and_refuses_what_is_none() {
        let mut cell = Cell::default();
        cell.count(&std::array::from_fn(|at| at as u64 * 1_000), true);
        for (at, metric) in Metric::ALL.iter().enumerate() {
            (0..200).for_each(|n| cell.add(*metric, n * (at as u32 + 1)));
        }
        let bytes = encode(&cell);
        assert_eq!(decode(&bytes), Some(cell));
        assert_eq!(decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(decode(&[]), Some(Cell::default()));
    }
}
