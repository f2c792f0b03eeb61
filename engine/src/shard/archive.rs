//! Rooms that are archived: what their homes admit is handed on, for whoever keeps it.
//!
//! Owns the choice of rooms and the hand-over of a turn. Never waits, and keeps nothing beyond the
//! turn: what finds no room is counted, and the room goes on.

use super::Shard;
use crate::metrics::Figure;
use crate::router::{Batch, Output};
use std::sync::Arc;
use uproar_proto::control::RoomSettings;

/// The attribute that keeps a room out of the archive, where its value is `off`.
const ATTRIBUTE: &str = uproar_proto::control::STEERING_ATTRIBUTES[0];

/// Recalls that wait for the way to the archive. More are lost with what they recall.
const RECALLS_MAX: usize = 1_024;

/// Of a shard.
#[derive(Default)]
pub(super) struct Archive {
    /// Whether anybody keeps lines.
    kept: bool,
    batches: Vec<Arc<Batch>>,
}

fn is_archived(settings: &RoomSettings) -> bool {
    settings.attributes.get(ATTRIBUTE).is_none_or(|value| value != "off")
}

/// What a batch recalls, and nothing else of it.
fn recalls_of(batch: &Batch) -> Arc<Batch> {
    let Batch { room, epoch, seq, flushed, .. } = batch;
    let empty = Batch::new(room.clone(), *epoch, Vec::new(), *seq, None, None, *flushed);
    Arc::new(empty.with(batch.notices.clone()))
}

impl Shard {
    /// Somebody takes what [`Shard::take_archived`] gives.
    pub fn archive_rooms(&mut self) {
        self.archive.kept = true;
    }

    /// What rooms with their home here have admitted in the last turn.
    pub fn take_archived(&mut self) -> Vec<Arc<Batch>> {
        std::mem::take(&mut self.archive.batches)
    }

    /// The way to the archive was full.
    pub fn archive_lost(&mut self, batch: &Batch) {
        self.metrics.add(Figure::ArchiveLost, batch.messages.len() as u64);
        // A recall goes again: what was said before it may have found room.
        if batch.recalls().next().is_some() && self.archive.batches.len() < RECALLS_MAX {
            self.archive.batches.push(recalls_of(batch));
        }
    }

    /// A home has put something out.
    pub(super) fn archive(&mut self, number: u32, out: &[Output]) {
        if !self.archive.kept {
            return;
        }
        let is_archived = is_archived(self.homes.slab.get(number).home.settings());
        let batches = out.iter().filter_map(|output| match output {
            Output::Flush(batch) => {
                let recalls = batch.recalls().next().is_some();
                if is_archived {
                    return (recalls || !batch.messages.is_empty()).then(|| Arc::clone(batch));
                }
                // What was kept before it was turned off is recalled all the same.
                recalls.then(|| recalls_of(batch))
            }
            _ => None,
        });
        self.archive.batches.extend(batches);
    }
}
