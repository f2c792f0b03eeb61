//! What the machine gives this process: cores and descriptors.
//!
//! Owns the questions and the one change (the soft open-file limit). Never decides how many
//! threads there are.

use super::sys;

/// Cores this process may use, in ascending order: cpuset and affinity of the calling thread.
#[must_use]
pub fn cores_allowed() -> Vec<u16> {
    // A kernel with more cores than the call's set refuses; then nothing is known but core 0.
    sys::affinity().unwrap_or_else(|_| vec![0])
}

/// Raises the soft open-file limit to the hard one; returns (soft, hard) as they are then.
pub fn raise_open_file_limit() -> (u64, u64) {
    let Ok((soft, hard)) = sys::open_file_limit() else {
        return (1024, 1024);
    };
    if soft < hard && sys::set_open_file_limit(hard, hard).is_ok() {
        (hard, hard)
    } else {
        (soft, hard)
    }
}

/// Connections that fit under a soft open-file limit: 90 % of it, since SO_REUSEPORT does not
/// spread evenly and a descriptor is needed to refuse one politely; never below 1.
pub(super) fn connections_that_fit(soft: u64) -> u32 {
    u32::try_from((soft / 10).saturating_mul(9)).unwrap_or(u32::MAX).max(1)
}

/// Open-file limit of the moment, soft.
pub(super) fn open_files_soft() -> u64 {
    sys::open_file_limit().map_or(1024, |(soft, _)| soft)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn this_thread_may_use_a_core() {
        let cores = cores_allowed();
        assert!(!cores.is_empty());
        assert!(cores.is_sorted());
    }

    #[test]
    fn a_thread_stays_where_it_was_pinned() {
        let last = *cores_allowed().last().expect("a core");
        let pinned = thread::Builder::new()
            .spawn(move || {
                sys::pin(last).expect("an allowed core");
                cores_allowed()
            })
            .expect("a thread")
            .join()
            .expect("no panic");
        assert_eq!(pinned, [last]);
        assert!(sys::pin(u16::MAX).is_err(), "a core that cannot exist is an error");
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let (soft, hard) = raise_open_file_limit();
        assert_eq!(soft, hard);
        assert_eq!(open_files_soft(), soft);
    }

    #[test]
    fn a_tenth_of_the_descriptors_stays_free() {
        assert_eq!(connections_that_fit(20_000), 18_000);
        assert_eq!(connections_that_fit(0), 1);
        assert_eq!(connections_that_fit(u64::MAX), u32::MAX);
    }
}
