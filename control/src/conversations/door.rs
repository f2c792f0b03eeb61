//! The door: a send goes to its gate or its worker here, or is refused here for want of room.
//!
//! Owns the lanes of what was refused here. Queues empty all the time: without this, what was sent
//! behind a refused message, and is on its way already, would find room and be stored before it.
//! Never waits; called from the thread that relays what connections ask.

use super::Shared;
use super::send::{Passed, refused, stopped};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use uproar_proto::control::{Ask, Asked, Tell};
use uproar_proto::error::Code;
use uproar_proto::lanes::Lanes;
use uproar_proto::v1::client_frame;

/// See the module.
pub(super) struct Door(Mutex<Lanes>);

impl Door {
    pub(super) fn new(lanes: Lanes) -> Door {
        Door(Mutex::new(lanes))
    }
}

impl Shared {
    /// Puts a send where its turn comes: at the gate, or at its worker where nobody decides.
    ///
    /// # Errors
    /// Its refusal, to be told.
    pub(super) fn offer_send(&self, ask: &Ask) -> Result<(), Box<Tell>> {
        let Asked::Frame(client_frame::Body::Send(send)) = &ask.what else { return Ok(()) };
        let place = (ask.from, ask.number);
        // Held until it stands in its queue: what comes at the same time comes before or after.
        let mut lanes = self.door.0.lock().unwrap_or_else(PoisonError::into_inner);
        #[cfg(test)]
        crate::guard::trap("asks", &send.text);
        if let Some(stop) = lanes.stops(ask.from, send, Instant::now()) {
            return Err(Box::new(stopped(place, send.clone(), stop)));
        }
        let gate = self.gates.get().and_then(|gates| gates.of(&send.conversation));
        let offered = match gate {
            Some(queue) => queue.try_send(ask.clone()).map_err(|_| ()),
            None => self.to_worker(Passed { ask: ask.clone(), text: None }),
        };
        offered.map_err(|()| {
            lanes.breaks(ask.from, send, Instant::now());
            Box::new(refused(place, send.clone(), Code::QueueFull))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::desk::text;
    use super::super::gate::Gates;
    use super::super::send::{Job, Sends};
    use super::super::{Conversations, Rules};
    use super::*;
    use crate::config::GroupsConfig;
    use crate::listener::figure;
    use crate::relations::Policy;
    use crate::store::testing::TestStore;
    use crate::webhooks::Webhooks;
    use std::sync::Arc;
    use std::sync::atomic::Ordering;
    use tokio::sync::mpsc;
    use uproar_proto::control::{ConnectionId, Control as _};
    use uproar_proto::v1::server_frame::Body;

    /// Asks, and gives the code of its refusal; `None`: it was taken.
    fn ask(service: &Conversations, told: &mut mpsc::Receiver<Tell>, id: u128) -> Option<Code> {
        let from = ConnectionId { node: 0, shard: 0, conn: 1, serial: 1 };
        let what = Asked::Frame(client_frame::Body::Send(text("user:bob", id, "x")));
        service.ask(Ask { from, number: id as u32, user: "ann".into(), what });
        match told.try_recv() {
            Err(_) => None,
            Ok(Tell::Answer { to, number, frames }) => {
                assert_eq!((to, number), (from, id as u32));
                let [Body::Sent(sent)] = &frames[..] else { panic!("{frames:?}") };
                assert!(sent.retry && sent.client_msg_id == id.to_be_bytes().as_slice());
                Code::from_number(sent.code)
            }
            Ok(other) => panic!("{other:?}"),
        }
    }

    /// What a full queue refuses is not overtaken once the queue, of two places, has room.
    fn assert_in_order<T>(
        (service, told): (&Conversations, &mut mpsc::Receiver<Tell>),
        queue: &mut mpsc::Receiver<T>,
    ) {
        assert_eq!((ask(service, told, 1), ask(service, told, 2)), (None, None));
        assert_eq!(ask(service, told, 3), Some(Code::QueueFull));
        queue.try_recv().unwrap();
        assert_eq!(ask(service, told, 4), Some(Code::SlowDown), "it was sent behind the third");
        assert_eq!(ask(service, told, 3), None);
        queue.try_recv().unwrap();
        assert_eq!(ask(service, told, 4), None, "in order");
    }

    #[test]
    fn behind_what_found_no_room_nothing_passes_until_it_comes_again() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let test = TestStore::sqlite().await;
            let rules = Rules {
                policy: Policy::Anyone,
                payload_bytes_max: 100,
                groups: GroupsConfig::default(),
            };
            for is_gated in [false, true] {
                let store = Arc::clone(&test.store);
                let service = Conversations::new(store, rules, Webhooks::default());
                let (tells, mut told) = mpsc::channel(9);
                assert!(service.shared.tells.set(tells).is_ok());
                let (sends, mut jobs) = Sends::idle(2);
                assert!(service.shared.sends.set(sends).is_ok());
                let (gates, mut asks) = Gates::idle(2);
                let both = (&*service, &mut told);
                if is_gated {
                    assert!(service.shared.gates.set(gates).is_ok());
                    assert_in_order::<Ask>(both, &mut asks);
                } else {
                    assert_in_order::<Job>(both, &mut jobs);
                }
            }
            // What the lanes count is shown.
            let service = Conversations::new(Arc::clone(&test.store), rules, Webhooks::default());
            service.shared.unremembered.store(3, Ordering::Relaxed);
            assert_eq!(figure(&service.samples(), "uproar_lanes_unremembered_total"), 3.0);
            drop(service);
            test.end().await;
        });
    }
}
