//! Bounded queues between threads, and one wake-up for a burst.
//!
//! Owns the queues, the sleeping flags and the eventfds. Never blocks: a full queue is the
//! sender's to deal with, in order.
//!
//! The wake-up protocol: a thread says that it sleeps, then looks at its queue once more; a sender
//! puts a message in, then looks whether the thread sleeps. With a full fence between the two
//! steps on both sides, one of them sees the other, so no message waits for an unrelated event.

use super::sys;
use crossbeam_queue::ArrayQueue;
use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

/// A thread's backlog for one target, as a multiple of the target's queue. Beyond: undeliverable.
const BACKLOG_QUEUES_MAX: usize = 4;

thread_local! {
    /// Which launch the calling thread belongs to; 0 for all other threads.
    static LAUNCH: Cell<u64> = const { Cell::new(0) };
}

static LAUNCHES: AtomicU64 = AtomicU64::new(1);

/// A word on a cache line of its own: senders write it while the owner works on its neighbours.
#[repr(align(128))]
struct Alone<T>(T);

struct Mailbox<T> {
    queue: ArrayQueue<T>,
    /// Set by the owner before it waits; whoever clears it owes the wake-up.
    sleeping: Alone<AtomicBool>,
    /// The owner is done for good: nothing will be taken out any more.
    closed: AtomicBool,
    eventfd: OwnedFd,
}

/// The mailboxes of all threads of one launch.
pub(super) struct Mailboxes<T> {
    boxes: Vec<Mailbox<T>>,
    launch: u64,
}

impl<T> Mailboxes<T> {
    pub(super) fn new(threads: u16, messages_max: usize) -> io::Result<Mailboxes<T>> {
        let boxes = (0..threads).map(|_| {
            Ok(Mailbox {
                queue: ArrayQueue::new(messages_max.max(1)),
                sleeping: Alone(AtomicBool::new(false)),
                closed: AtomicBool::new(false),
                eventfd: sys::eventfd()?,
            })
        });
        Ok(Mailboxes {
            boxes: boxes.collect::<io::Result<_>>()?,
            launch: LAUNCHES.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// Numbers of all eventfds: valid in every descriptor table of this launch.
    pub(super) fn eventfds(&self) -> Vec<RawFd> {
        self.boxes.iter().map(|b| b.eventfd.as_raw_fd()).collect()
    }

    /// Marks the calling thread as one of this launch, with a descriptor table of its own.
    pub(super) fn enter(&self) {
        LAUNCH.set(self.launch);
    }

    /// Puts a message in; the caller wakes the target afterwards, once for all it put in.
    fn push(&self, to: u16, message: T) -> Result<(), T> {
        let target = &self.boxes[usize::from(to)];
        if target.closed.load(Ordering::Acquire) {
            return Err(message);
        }
        target.queue.push(message)
    }

    /// Wakes the target if it sleeps. One caller of many writes the eventfd.
    fn wake(&self, to: u16) {
        let target = &self.boxes[usize::from(to)];
        // Between putting in and looking: the other half of `before_sleep`.
        fence(Ordering::SeqCst);
        if target.sleeping.0.load(Ordering::Relaxed)
            && target.sleeping.0.swap(false, Ordering::Relaxed)
        {
            let launch = LAUNCH.get();
            assert!(
                launch == 0 || launch == self.launch,
                "a thread of another launch has other descriptors and cannot wake this one"
            );
            sys::wake(target.eventfd.as_raw_fd());
        }
    }

    /// Says that thread `me` is about to wait. False: there is mail, so it must not.
    pub(super) fn before_sleep(&self, me: u16) -> bool {
        let own = &self.boxes[usize::from(me)];
        own.sleeping.0.store(true, Ordering::Relaxed);
        // Between saying and looking: the other half of `wake`.
        fence(Ordering::SeqCst);
        if own.queue.is_empty() {
            return true;
        }
        own.sleeping.0.store(false, Ordering::Relaxed);
        false
    }

    /// Says that thread `me` is up again.
    pub(super) fn after_sleep(&self, me: u16) {
        self.boxes[usize::from(me)].sleeping.0.store(false, Ordering::Relaxed);
    }

    /// Takes at most `messages_max` messages out of the mailbox of thread `me`.
    pub(super) fn drain(&self, me: u16, into: &mut Vec<T>, messages_max: usize) {
        let queue = &self.boxes[usize::from(me)].queue;
        for _ in 0..messages_max {
            match queue.pop() {
                Some(message) => into.push(message),
                None => return,
            }
        }
    }

    /// Thread `me` is done: later posts to it fail. What is in its mailbox is dropped with the
    /// launch, not here: a message may hold something that wakes a runtime when it is dropped.
    pub(super) fn close(&self, me: u16) {
        self.boxes[usize::from(me)].closed.store(true, Ordering::Release);
    }
}

/// Hands messages to the threads of one launch, from any thread that shares the descriptor table
/// `launch` was called on, and from the launch's own threads (see [`crate::io`] on tables).
pub struct Poster<T> {
    boxes: Arc<Mailboxes<T>>,
}

impl<T> Clone for Poster<T> {
    fn clone(&self) -> Poster<T> {
        Poster { boxes: Arc::clone(&self.boxes) }
    }
}

impl<T> Poster<T> {
    pub(super) fn new(boxes: Arc<Mailboxes<T>>) -> Poster<T> {
        Poster { boxes }
    }

    /// Hands `message` to thread `to` and wakes it if it sleeps.
    ///
    /// # Errors
    /// The message, where the thread's queue is full or the thread is done.
    ///
    /// # Panics
    /// Where `to` is not below the number of threads.
    pub fn post(&self, to: u16, message: T) -> Result<(), T> {
        self.boxes.push(to, message)?;
        self.boxes.wake(to);
        Ok(())
    }

    /// Whether a thread is done: it takes nothing any more.
    ///
    /// # Panics
    /// Where `of` is not below the number of threads.
    #[must_use]
    pub fn is_closed(&self, of: u16) -> bool {
        self.boxes.boxes[usize::from(of)].closed.load(Ordering::Acquire)
    }

    /// How many threads there are.
    #[must_use]
    pub fn threads(&self) -> u16 {
        u16::try_from(self.boxes.boxes.len()).unwrap_or(u16::MAX)
    }
}

/// What a thread wants to hand to others: straight into their queues, else kept in order.
pub(super) struct Outgoing<T> {
    backlog: Vec<VecDeque<T>>,
    /// Targets that got something since the last wake-up.
    touched: Vec<bool>,
    backlog_used: usize,
}

impl<T> Outgoing<T> {
    pub(super) fn new(threads: u16) -> Outgoing<T> {
        Outgoing {
            backlog: (0..threads).map(|_| VecDeque::new()).collect(),
            touched: vec![false; usize::from(threads)],
            backlog_used: 0,
        }
    }

    /// Whether messages are kept for a target whose queue was full.
    pub(super) fn waiting(&self) -> bool {
        self.backlog_used > 0
    }

    /// Hands over what was kept; a target that is done gets nothing any more, and its messages go
    /// to `refused`.
    pub(super) fn retry(&mut self, boxes: &Mailboxes<T>, mut refused: impl FnMut(u16, T)) {
        if self.backlog_used == 0 {
            return;
        }
        for (to, kept) in (0_u16..).zip(&mut self.backlog) {
            while let Some(message) = kept.pop_front() {
                self.backlog_used -= 1;
                let Err(message) = boxes.push(to, message) else {
                    self.touched[usize::from(to)] = true;
                    continue;
                };
                if boxes.boxes[usize::from(to)].closed.load(Ordering::Acquire) {
                    refused(to, message);
                    continue;
                }
                kept.push_front(message);
                self.backlog_used += 1;
                break;
            }
        }
    }

    /// Hands one message over, or keeps it behind those that wait already.
    ///
    /// # Errors
    /// The message, where the backlog is full or the target is done.
    pub(super) fn send(&mut self, boxes: &Mailboxes<T>, to: u16, message: T) -> Result<(), T> {
        let target = &boxes.boxes[usize::from(to)];
        let kept = &mut self.backlog[usize::from(to)];
        let message = if kept.is_empty() {
            match boxes.push(to, message) {
                Ok(()) => {
                    self.touched[usize::from(to)] = true;
                    return Ok(());
                }
                Err(message) => message,
            }
        } else {
            message
        };
        let full = kept.len() >= BACKLOG_QUEUES_MAX * target.queue.capacity();
        if full || target.closed.load(Ordering::Acquire) {
            return Err(message);
        }
        kept.push_back(message);
        self.backlog_used += 1;
        Ok(())
    }

    /// Wakes every target that got something: once, however much it was.
    pub(super) fn wake(&mut self, boxes: &Mailboxes<T>) {
        for (to, touched) in (0_u16..).zip(&mut self.touched) {
            if std::mem::take(touched) {
                boxes.wake(to);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn no_wake_up_is_lost_and_order_is_kept_under_stress() {
        const MESSAGES: u64 = 200_000;
        let boxes = Arc::new(Mailboxes::<u64>::new(1, 64).expect("an eventfd"));
        let senders: Vec<_> = (0..2_u64)
            .map(|sender| {
                let poster = Poster::new(Arc::clone(&boxes));
                thread::Builder::new()
                    .spawn(move || {
                        for n in 0..MESSAGES {
                            let mut message = sender << 32 | n;
                            while let Err(back) = poster.post(0, message) {
                                message = back;
                                thread::yield_now();
                            }
                        }
                    })
                    .expect("a thread")
            })
            .collect();

        let epoll = sys::epoll_create().expect("an epoll");
        let interest = (libc::EPOLLIN | libc::EPOLLET) as u32;
        let eventfd = boxes.boxes[0].eventfd.as_raw_fd();
        sys::epoll_control(&epoll, libc::EPOLL_CTL_ADD, eventfd, interest, 0).expect("watched");
        let (mut inbox, mut ready) = (Vec::new(), Vec::with_capacity(4));
        let (mut next, mut sleeps) = ([0_u64; 2], 0);
        while next.iter().sum::<u64>() < 2 * MESSAGES {
            if boxes.before_sleep(0) {
                sys::epoll_wait(&epoll, &mut ready, Some(5_000_000)).expect("a wait");
                assert!(
                    !ready.is_empty(),
                    "a sleeping thread is woken by the message it waits for"
                );
                sleeps += 1;
            }
            boxes.after_sleep(0);
            boxes.drain(0, &mut inbox, 16);
            for message in inbox.drain(..) {
                let sender = (message >> 32) as usize;
                assert_eq!(message & 0xffff_ffff, next[sender], "one sender's messages keep order");
                next[sender] += 1;
            }
        }
        assert!(sleeps > 0, "the stress reached the sleeping path");
        for sender in senders {
            sender.join().expect("a sender");
        }
    }

    #[test]
    fn what_does_not_fit_is_kept_in_order_and_bounded() {
        let boxes = Mailboxes::<u32>::new(2, 2).expect("eventfds");
        let mut outgoing = Outgoing::new(2);
        let kept = (0..100).take_while(|&n| outgoing.send(&boxes, 1, n).is_ok()).count();
        assert_eq!(kept, 2 + BACKLOG_QUEUES_MAX * 2, "the queue, then four times the queue");
        let (mut got, mut inbox) = (Vec::new(), Vec::new());
        while outgoing.waiting() || !boxes.boxes[1].queue.is_empty() {
            boxes.drain(1, &mut inbox, 1);
            got.append(&mut inbox);
            outgoing.retry(&boxes, |_, _| panic!("the target is not done"));
        }
        assert_eq!(got, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn a_message_to_a_thread_that_is_done_comes_back() {
        let boxes = Arc::new(Mailboxes::<u32>::new(2, 2).expect("eventfds"));
        let mut outgoing = Outgoing::new(2);
        for n in 0..3 {
            outgoing.send(&boxes, 1, n).expect("kept");
        }
        boxes.close(1);
        assert_eq!(outgoing.send(&boxes, 1, 9), Err(9));
        let mut refused = Vec::new();
        outgoing.retry(&boxes, |to, message| refused.push((to, message)));
        assert_eq!((refused, outgoing.waiting()), (vec![(1, 2)], false));
        assert_eq!(Poster::new(boxes).post(1, 7), Err(7));
    }
}
