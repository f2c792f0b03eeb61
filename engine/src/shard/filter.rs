//! Where a message is held against the list: on the shard that it reaches first, before it is
//! offered to the room's home, so that the cost is spread over the cores and a hit is kept nowhere.
//!
//! Owns the list that is in effect here and the room for one look. Which list that is, and what a
//! hit is, others say.

use super::Shard;
use crate::metrics::Figure;
use std::sync::Arc;
use uproar_filter::{Filter, Scratch};
use uproar_proto::control::Content;
use uproar_proto::v1::Class;

/// A list that is in effect.
pub struct Active {
    /// Which one; 0: there never was one.
    pub version: u64,
    pub(crate) filter: Filter,
}

/// See the module.
#[derive(Default)]
pub(super) struct Filtering {
    active: Option<Arc<Active>>,
    scratch: Scratch,
    hits: u64,
}

impl Filtering {
    /// Whether a message is to be refused; counted. What the platform itself says (`system`) and
    /// likes, which are only counted, are not looked at; data is looked at where it is text, and so
    /// is the name of a `gift`.
    pub(super) fn is_hit(
        &mut self,
        class: Class,
        content: Option<&Content>,
        gift: Option<&[u8]>,
    ) -> bool {
        let Some(active) = &self.active else { return false };
        if matches!(class, Class::System | Class::Like) {
            return false;
        }
        let content = content.map(|(Content::Text(bytes) | Content::Data(bytes))| &bytes[..]);
        let texts = content.into_iter().chain(gift).filter_map(|b| std::str::from_utf8(b).ok());
        let is_hit = texts.into_iter().any(|text| active.filter.is_hit(text, &mut self.scratch));
        self.hits += u64::from(is_hit);
        is_hit
    }

    /// Messages that hit so far.
    pub(super) fn hits(&self) -> u64 {
        self.hits
    }
}

impl Shard {
    /// Messages are held against this from now on.
    pub fn use_filter(&mut self, active: Arc<Active>) {
        self.metrics.set(Figure::FilterVersion, active.version);
        self.filtering.active = Some(active);
    }
}
