//! Ids and moments, as the store keeps them.

/// A random positive 64-bit number: fits every database's signed integer, and is spread evenly, so
/// that no index grows at one end.
pub(crate) fn random_id() -> i64 {
    let mut bytes = [0; 8];
    // The system's generator: an id that can be guessed would be a door.
    getrandom::fill(&mut bytes).expect("the system's random numbers never end once they began");
    (i64::from_le_bytes(bytes) & i64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_are_positive_and_differ() {
        let ids: std::collections::BTreeSet<i64> = (0..1000).map(|_| super::random_id()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| *id > 0));
    }
}
