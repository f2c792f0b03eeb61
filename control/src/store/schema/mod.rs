//! Every table of the store, in the order it came to be. A migration that was released is never
//! changed: a new one follows it.
//!
//! Keys are random 64-bit numbers or hashes, so that no table grows at one hot end; text is
//! compared byte by byte; no foreign key ties one author's rows to another's.

mod accounts;
mod admin;
mod blocks;
mod conversations;
mod facts;
mod filter;
mod following;
mod groups;
mod idempotency;
mod moderation;
mod quality;
mod reactions;
mod relations;
mod settings;
mod webhooks;

use super::migrate::Migration;

/// The migration that makes the facts a store remembers about itself.
pub(super) const FACTS: &str = facts::ALL[0].name;

/// All of them.
pub(super) fn all() -> impl Iterator<Item = &'static Migration> {
    facts::ALL
        .iter()
        .chain(accounts::ALL)
        .chain(relations::ALL)
        .chain(conversations::ALL)
        .chain(groups::ALL)
        .chain(idempotency::ALL)
        .chain(admin::ALL)
        .chain(webhooks::ALL)
        .chain(reactions::ALL)
        .chain(settings::ALL)
        .chain(quality::ALL)
        .chain(filter::ALL)
        .chain(moderation::ALL)
        .chain(blocks::ALL)
        .chain(following::ALL)
}
