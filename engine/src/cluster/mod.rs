//! Who is home: which shard of the node orders a room. Pure placement, no membership, no I/O.

pub mod home;
