//! Every table of the store, in the order it came to be. A migration that was released is never
//! changed: a new one follows it.
//!
//! Keys are random 64-bit numbers or hashes, so that no table grows at one hot end; text is
//! compared byte by byte; no foreign key ties one author's rows to another's.

mod accounts;
mod conversations;
mod facts;
mod relations;

use super::migrate::Migration;

/// All of them.
pub(super) fn all() -> impl Iterator<Item = &'static Migration> {
    facts::ALL.iter().chain(accounts::ALL).chain(relations::ALL).chain(conversations::ALL)
}
