//! Receipts of groups, pushed: how many have read a sender's messages.
//!
//! Owns the pace. Cursors that passed are gathered by group; each [`PUSH_EVERY`] what they changed
//! is counted anew from the store and told to the senders concerned. Nothing is kept between two
//! looks but what has passed, so a restart loses no count: the next look counts all.

use super::{ANSWER_MAX, Shared, words};
use crate::groups::changed;
use crate::store::{StoreError, receipts as rows};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use uproar_proto::control::Tell;
use uproar_proto::ids::McastId;
use uproar_proto::v1::{self, server_frame::Body};

/// A sender is told of one group at most this often: twice in any second, also where one frame is
/// 0.4 s longer on its way than another; and the last count is there within a second.
const PUSH_EVERY: Duration = Duration::from_millis(700);
/// Of each sender its newest messages; older ones are asked for over HTTP.
const MESSAGES_PER_SENDER_MAX: usize = 100;
/// Messages looked at in one group at once, the newest. Counts of older ones are asked for.
const MESSAGES_MAX: i64 = 1_000;

/// Cursors that passed and were not counted yet.
#[derive(Default)]
pub(super) struct Receipts {
    /// By group: (old, new) of each.
    passed: Mutex<HashMap<i64, Vec<(i64, i64)>>>,
    waiting: Notify,
}

impl Receipts {
    /// A member of a group has read from the one seq to the other.
    pub(super) fn passed(&self, conv: i64, range: (i64, i64)) {
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        passed.entry(conv).or_default().push(range);
        self.waiting.notify_one();
    }

    fn take(&self) -> HashMap<i64, Vec<(i64, i64)>> {
        std::mem::take(&mut self.passed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Counts and tells until the process ends.
pub(super) async fn work(shared: Arc<Shared>) {
    loop {
        shared.receipts.waiting.notified().await;
        let begun = Instant::now();
        for (conv, ranges) in shared.receipts.take() {
            // The next cursor that passes has them counted again.
            match timeout(ANSWER_MAX, shared.count(conv, &ranges)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%error, "receipts of a group could not be counted");
                }
                Err(_) => tracing::warn!("receipts of a group could not be counted in time"),
            }
        }
        tokio::time::sleep_until(begun + PUSH_EVERY).await;
    }
}

impl Shared {
    async fn count(&self, conv: i64, ranges: &[(i64, i64)]) -> Result<(), StoreError> {
        let above = ranges.iter().map(|(old, _)| *old).min().unwrap_or(0);
        let to = ranges.iter().map(|(_, new)| *new).max().unwrap_or(0);
        let mut conn = self.store.reader().await?;
        let mut messages = rows::messages(&mut conn, conv, (above, to), MESSAGES_MAX).await?;
        messages.reverse();
        let seqs: Vec<i64> = messages.iter().map(|(seq, _)| *seq).collect();
        let seqs: BTreeSet<i64> = changed(&seqs, ranges).into_iter().collect();
        messages.retain(|(seq, _)| seqs.contains(seq));
        let counts = rows::counts(&mut conn, conv, &messages).await?;
        let mut told: BTreeMap<i64, Vec<v1::ReadCount>> = BTreeMap::new();
        for (seq, sender) in messages.iter().rev() {
            let Some(readers) = counts.get(seq) else { continue };
            let list = told.entry(*sender).or_default();
            if list.len() < MESSAGES_PER_SENDER_MAX {
                let readers = u32::try_from(*readers).unwrap_or_default();
                list.push(v1::ReadCount { seq: *seq as u64, readers });
            }
        }
        let conversation = words::with_group(conv);
        for (sender, mut counts) in told {
            counts.reverse();
            let mcast = McastId::user(&self.name_on(&mut conn, sender).await?);
            let receipts = v1::Receipts { conversation: conversation.clone(), counts };
            self.tell(Tell::Push { mcast, frame: Box::new(Body::Receipts(receipts)) }).await;
        }
        Ok(())
    }
}
