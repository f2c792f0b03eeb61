//! What a crowd's thread shows while it runs: the progress display and the phases read it.
//!
//! Owns words with one writer each. Never carries a result: those come once, whole, at the end.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! pulse {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// One thread's words.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub(crate) struct Pulse { $($(#[doc = $doc])* $name: AtomicU64,)* }

        /// Their values at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub(crate) struct Beat { $($(#[doc = $doc])* pub(crate) $name: u64,)* }

        impl Pulse {
            /// Shows new values.
            pub(crate) fn show(&self, beat: &Beat) {
                $(self.$name.store(beat.$name, Relaxed);)*
            }

            /// Reads them; each may be a turn old.
            pub(crate) fn read(&self) -> Beat {
                Beat { $($name: self.$name.load(Relaxed),)* }
            }
        }

        impl std::ops::Add for Beat {
            type Output = Beat;
            fn add(self, other: Beat) -> Beat {
                Beat { $($name: self.$name + other.$name,)* }
            }
        }
    };
}

pulse! {
    /// Connections that were in the room at least once.
    joined,
    /// Connections given up.
    failed,
    /// Connections lost since they joined; one that came back counts again when lost again.
    lost,
    /// Of the lost ones, those that are in the room again.
    back,
    /// Viewers whose deliveries count.
    counted,
    /// Measured deliveries.
    deliveries,
    /// Frames received.
    frames,
    /// Messages offered, warm-up included.
    offered,
    /// Those without a verdict yet, likes apart.
    unanswered,
    /// Measured messages that were admitted.
    accepted_measured,
    /// Likes offered, and the largest counter seen less the one before the first.
    likes_offered,
    /// See above.
    likes_counted,
    /// 1 once the last message was due.
    publishing_over,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_what_is_read_and_threads_add_up() {
        let pulse = Pulse::default();
        let beat = Beat { joined: 3, deliveries: 7, ..Beat::default() };
        pulse.show(&beat);
        assert_eq!(pulse.read(), beat);
        assert_eq!((beat + pulse.read()).deliveries, 14);
    }
}
