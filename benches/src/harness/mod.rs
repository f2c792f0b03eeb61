//! Runs a row: starts servers and load as processes of their own, each on its core, in turns within
//! one run, and turns what they say into a ratio, a verdict and raw data that is kept.

pub mod child;
pub mod report;
pub mod stats;
pub mod uproar;
