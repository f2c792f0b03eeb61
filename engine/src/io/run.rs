//! The loop that joins a machine to a driver and to the other machines.
//!
//! Owns the order of a turn. Never looks into a message, an event or an action.

use super::counters::IoCounters;
use super::mailbox::{Mailboxes, Outgoing};
use crate::seam::{Actions, Driver, Events, Machine, Tick};

/// Messages a turn takes in: a few times a burst of flushes, and bounded so that sockets are
/// looked at in between. The rest waits for the next turn, which then comes at once.
const INBOX_MESSAGES_MAX: usize = 1024;

/// How soon messages that found a full queue are tried again.
const RETRY_MS: u64 = 1;

/// Runs a machine until it is done for good.
pub(super) fn run<M: Machine>(
    machine: &mut M,
    driver: &mut impl Driver,
    me: u16,
    boxes: &Mailboxes<M::Message>,
    threads: u16,
    counters: &IoCounters,
) {
    let mut events = Events::default();
    let mut actions = Actions::new();
    let (mut inbox, mut outbox) = (Vec::new(), Vec::new());
    let mut outgoing = Outgoing::new(threads);
    let mut last = Tick(0);
    while !machine.finished() {
        let mut until = machine.next_wakeup();
        if outgoing.waiting() {
            until = until.min(last.after_ms(RETRY_MS));
        }
        // Mail to oneself is in the inbox already; mail of others may come until the flag is up.
        if !inbox.is_empty() || (until > last && !boxes.before_sleep(me)) {
            until = Tick(0);
        }
        let now = driver.poll(until, &mut events);
        boxes.after_sleep(me);
        last = now.tick;
        counters.turns.add(1);
        counters.cpu_us.set(now.cpu_us);

        boxes.drain(me, &mut inbox, INBOX_MESSAGES_MAX);
        machine.turn(now, &events, &mut inbox, &mut actions, &mut outbox);

        let refused = |machine: &mut M, to, message| {
            counters.undeliverable.add(1);
            machine.undeliverable(to, message);
        };
        outgoing.retry(boxes, |to, message| refused(machine, to, message));
        for (to, message) in outbox.drain(..) {
            if to == me {
                inbox.push(message);
            } else if let Err(message) = outgoing.send(boxes, to, message) {
                refused(machine, to, message);
            }
        }
        outgoing.wake(boxes);

        driver.perform(machine.frames(), &actions);
        actions.clear();
    }
    boxes.close(me);
}
