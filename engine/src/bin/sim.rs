//! Replays one seed of the simulator, or searches many.
fn main() {}
