//! Mcasts of stored messages: `user:` and `group:`, who of this shard is in them, and which shards
//! have members of those whose home is here.
//!
//! Owns both tables and the messages that keep them in step. A home passes on what control pushes
//! to the shards that have members, in order; nothing is numbered, kept or limited here: the store
//! did that before. Live rooms have their own path (see [`super::rooms`]).

use super::Shard;
use super::inbox::RESYNC_SPREAD_MS;
use super::message::Message;
use super::slab::Slab;
use crate::Map;
use crate::cluster::home::home_of_name;
use crate::hash::Seeded;
use crate::router::ShardId;
use crate::seam::ConnSlot;
use std::sync::{Arc, OnceLock};
use uproar_proto::control::{Membership, Tell};
use uproar_proto::ids::McastId;
use uproar_proto::v1::server_frame::Body;
use uproar_proto::wire::{VARIANTS, Variant, encode_server};

/// Where a connection stands in a member list: which mcast, and its index there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) mcast: u32,
    index: u32,
    /// A group's seq at which this membership began.
    since_seq: u64,
}

/// An mcast with members on this shard.
struct Mcast {
    id: McastId,
    /// Tells the confirmation of this life of the record from an earlier one's.
    serial: u64,
    routed: bool,
    members: Vec<ConnSlot>,
}

/// What a home passes on to the members of an mcast.
pub enum Delivery {
    /// A frame, encoded once for all shards and each wire variant that has a member.
    Push(Box<Encoded>),
    /// The same about the message of this seq; members that cannot see it get the second one.
    PushAbout(u64, Box<[Encoded; 2]>),
    /// To `user:`: its connections join a group's mcast, unless their shard has begun anew since.
    Join { membership: Membership, anew: u64 },
    /// To `group:` and `user:`: a user's connections leave the group. Along the one it is in order
    /// with the group's pushes, along the other with the user's joins.
    Leave { user: String, group: McastId, seq: u64 },
    /// Something was lost: members sync.
    Resync,
}

/// A frame and its encodings.
pub struct Encoded {
    body: Body,
    variants: [OnceLock<Box<[u8]>>; VARIANTS],
}

impl Encoded {
    fn of(body: Body) -> Encoded {
        Encoded { body, variants: Default::default() }
    }

    fn bytes(&self, variant: Variant) -> &[u8] {
        self.variants[variant as usize].get_or_init(|| {
            let mut bytes = Vec::new();
            encode_server(&self.body, variant, &mut bytes);
            bytes.into_boxed_slice()
        })
    }
}

/// Both tables.
pub(super) struct Mcasts {
    by_name: Map<McastId, u32>,
    records: Slab<Mcast>,
    /// Of mcasts whose home is here: shards with members.
    routes: Map<McastId, Vec<ShardId>>,
    serial: u64,
}

impl Mcasts {
    pub(super) fn new(seed: u64) -> Mcasts {
        let map = || Map::with_hasher(Seeded(seed));
        Mcasts {
            by_name: map(),
            records: Slab::default(),
            routes: Map::with_hasher(Seeded(seed)),
            serial: 0,
        }
    }

    /// Some of the mcasts with members here, from a number on; and where to go on, if anywhere.
    pub(super) fn some_from(&self, at: u32, count: u32) -> (Vec<McastId>, Option<u32>) {
        let until = at.saturating_add(count);
        let held = (at..until).filter(|number| self.records.contains(*number));
        let ids = held.map(|number| self.records.get(number).id.clone()).collect();
        (ids, Some(until).filter(|until| *until < self.records.end()))
    }

    /// Mcasts with members here.
    pub(super) fn used(&self) -> usize {
        self.records.used()
    }

    /// Bytes of the tables, names included.
    pub(super) fn bytes_used(&self) -> usize {
        let lists: usize = self.records.iter().map(|(_, m)| m.members.capacity() * 4).sum();
        let named = self.by_name.capacity() + self.routes.capacity();
        self.records.bytes_used() + lists + named * size_of::<(McastId, u32)>()
    }
}

impl Shard {
    fn mcast_home(&self, id: &McastId) -> ShardId {
        home_of_name(id.as_str(), self.shards, self.seed)
    }

    /// A connection joins an mcast, unless it is in it; `since_seq` of a group's membership.
    pub(super) fn join_mcast(&mut self, conn: ConnSlot, inbox: u32, id: McastId, since_seq: u64) {
        let number = match self.mcasts.by_name.get(&id) {
            Some(number) => *number,
            None => self.open_mcast(id),
        };
        let places = &mut self.inboxes.records.get_mut(inbox).places;
        if let Some(place) = places.iter_mut().find(|place| place.mcast == number) {
            place.since_seq = place.since_seq.max(since_seq);
            return;
        }
        let mcast = self.mcasts.records.get_mut(number);
        let index = mcast.members.len() as u32;
        mcast.members.push(conn);
        let routed = mcast.routed;
        let inbox = self.inboxes.records.get_mut(inbox);
        inbox.places.push(Place { mcast: number, index, since_seq });
        inbox.unrouted += u32::from(!routed);
    }

    fn open_mcast(&mut self, id: McastId) -> u32 {
        self.mcasts.serial += 1;
        let serial = self.mcasts.serial;
        let mcast = Mcast { id: id.clone(), serial, routed: false, members: Vec::new() };
        let number = self.mcasts.records.insert(mcast);
        self.mcasts.by_name.insert(id.clone(), number);
        self.note_presence(&id, true);
        let home = self.mcast_home(&id);
        self.post(home, Message::Route { mcast: id, shard: self.id, serial: Some(serial) });
        number
    }

    /// A connection leaves an mcast; the last one takes the record with it.
    pub(super) fn leave_mcast(&mut self, conn: ConnSlot, inbox: u32, place: Place) {
        let mcast = self.mcasts.records.get_mut(place.mcast);
        let gone = mcast.members.swap_remove(place.index as usize);
        assert!(gone == conn, "a place and its member point at each other");
        let routed = mcast.routed;
        let moved = mcast.members.get(place.index as usize).copied();
        let empty = mcast.members.is_empty();
        let record = self.inboxes.records.get_mut(inbox);
        record.places.retain(|p| p.mcast != place.mcast);
        record.unrouted -= u32::from(!routed);
        if let Some(moved) = moved
            && let Some(other) = self.inbox_at(moved)
        {
            let places = &mut self.inboxes.records.get_mut(other).places;
            if let Some(theirs) = places.iter_mut().find(|p| p.mcast == place.mcast) {
                theirs.index = place.index;
            }
        }
        if empty {
            self.forget_mcast(place.mcast);
        }
    }

    /// Every connection leaves every group.
    pub(super) fn leave_groups(&mut self) {
        let inboxes: Vec<u32> = self.inboxes.records.iter().map(|(number, _)| number).collect();
        for number in inboxes {
            let inbox = self.inboxes.records.get_mut(number);
            inbox.places.retain(|place| !self.mcasts.records.get(place.mcast).id.is_group());
            let of = |place: &Place| u32::from(!self.mcasts.records.get(place.mcast).routed);
            inbox.unrouted = inbox.places.iter().map(of).sum();
        }
        let held = self.mcasts.records.iter().filter(|(_, mcast)| mcast.id.is_group());
        let groups: Vec<u32> = held.map(|(number, _)| number).collect();
        for number in groups {
            self.forget_mcast(number);
        }
    }

    /// The last member has left.
    fn forget_mcast(&mut self, number: u32) {
        let mcast = self.mcasts.records.remove(number);
        self.mcasts.by_name.remove(&mcast.id);
        self.note_presence(&mcast.id, false);
        let home = self.mcast_home(&mcast.id);
        self.post(home, Message::Route { mcast: mcast.id, shard: self.id, serial: None });
    }

    /// To a home: a shard has its first member (`serial` comes back in the confirmation) or its
    /// last one has left.
    pub(super) fn route(&mut self, id: McastId, shard: ShardId, serial: Option<u64>) {
        let shards = self.mcasts.routes.entry(id.clone()).or_default();
        shards.retain(|known| *known != shard);
        if let Some(serial) = serial {
            shards.push(shard);
            self.post(shard, Message::Routed { mcast: id, serial });
        } else if shards.is_empty() {
            self.mcasts.routes.remove(&id);
        }
    }

    /// Tells a home again how things are here now: what was told before did not reach it.
    pub(super) fn route_again(&mut self, id: McastId) {
        let here = self.mcasts.by_name.get(&id).copied();
        let serial = here.map(|number| self.mcasts.records.get(number).serial);
        let home = self.mcast_home(&id);
        self.post(home, Message::Route { mcast: id, shard: self.id, serial });
    }

    /// A home has confirmed a route.
    pub(super) fn routed(&mut self, id: &McastId, serial: u64) {
        let Some(number) = self.mcasts.by_name.get(id).copied() else { return };
        let mcast = self.mcasts.records.get_mut(number);
        if mcast.serial != serial || mcast.routed {
            return;
        }
        mcast.routed = true;
        for conn in mcast.members.clone() {
            self.route_confirmed(conn);
        }
    }

    /// What control has to tell.
    pub(super) fn told(&mut self, tell: Tell) {
        match tell {
            Tell::Opened { to, groups, .. } => self.opened(to, groups),
            Tell::Answer { to, frames, .. } => self.answered(to, &frames),
            Tell::Show { to, frame } => self.shown(to, &frame),
            Tell::Close { of, code } => self.close_all_of(&of, code),
            Tell::Generation(generation) => self.inboxes.generation = generation,
            Tell::Announce { id, message } => self.announce(id, message),
            Tell::Push { mcast, frame } => {
                self.pass_on(mcast, Delivery::Push(Box::new(Encoded::of(*frame))));
            }
            Tell::PushAbout { mcast, target_seq, frame, blank } => {
                let both = Box::new([Encoded::of(*frame), Encoded::of(*blank)]);
                self.pass_on(mcast, Delivery::PushAbout(target_seq, both));
            }
            Tell::Join { user, membership } => {
                let delivery = Delivery::Join { membership, anew: self.inboxes.anew };
                self.pass_on(McastId::user(&user), delivery);
            }
            Tell::Leave { user, group, seq } => {
                // One of them has its home here, perhaps both; leaving twice changes nothing.
                let (by_user, group) = (McastId::user(&user), McastId::group(&group));
                for id in [by_user, group.clone()] {
                    let (user, group) = (user.clone(), group.clone());
                    self.pass_on(id, Delivery::Leave { user, group, seq });
                }
            }
            Tell::Resync { mcast } => self.pass_on(mcast, Delivery::Resync),
            Tell::Judged { room, epoch, number, judgement, .. } => {
                self.home_judged(&room, epoch, number, judgement);
            }
            Tell::Kept(kept) => self.home_kept(*kept),
            Tell::Anew { number } => self.begin_anew(number),
            // Compiled first, beside the shards; what comes here is made of it.
            Tell::Filter(_) | Tell::Blocks(_) => {}
        }
    }

    /// A home hands a delivery to every shard with members.
    fn pass_on(&mut self, id: McastId, delivery: Delivery) {
        let Some(shards) = self.mcasts.routes.get(&id) else { return };
        let delivery = Arc::new(delivery);
        for shard in shards.clone() {
            let (mcast, delivery) = (id.clone(), Arc::clone(&delivery));
            self.post(shard, Message::Deliver { mcast, delivery });
        }
    }

    /// What a home passed on, to the members here.
    pub(super) fn deliver(&mut self, id: &McastId, delivery: &Delivery) {
        let Some(number) = self.mcasts.by_name.get(id).copied() else { return };
        // Who is served may leave by it, and the last one takes its place: by index, from the end.
        for at in (0..self.mcasts.records.get(number).members.len()).rev() {
            let conn = self.mcasts.records.get(number).members[at];
            let Some(inbox) = self.inbox_at(conn) else { continue };
            match delivery {
                Delivery::Push(encoded) => {
                    let bytes = encoded.bytes(self.conns.hot(conn).variant);
                    self.push_bytes(conn, inbox, bytes);
                }
                Delivery::PushAbout(target_seq, both) => {
                    let places = &self.inboxes.records.get(inbox).places;
                    let place = places.iter().find(|place| place.mcast == number);
                    let blank = place.is_some_and(|place| place.since_seq >= *target_seq);
                    let bytes = both[usize::from(blank)].bytes(self.conns.hot(conn).variant);
                    self.push_bytes(conn, inbox, bytes);
                }
                // The user may have left since, unheard; if not, control will name the group.
                Delivery::Join { anew, .. } if *anew < self.inboxes.anew => {}
                Delivery::Join { membership: Membership { group, since_seq }, .. } => {
                    self.join_mcast(conn, inbox, McastId::group(group), *since_seq);
                    // It learns by a sync what it is in now, and from which seq on.
                    self.sync_if_routed(conn, inbox);
                }
                Delivery::Leave { user, group, seq } => {
                    self.end_membership(conn, inbox, (user, group), *seq);
                }
                Delivery::Resync => self.tell_resync(conn, RESYNC_SPREAD_MS),
            }
        }
    }

    /// A connection of that user leaves the group, where its membership began before `seq`.
    fn end_membership(
        &mut self,
        conn: ConnSlot,
        inbox: u32,
        (user, group): (&str, &McastId),
        seq: u64,
    ) {
        let Some(number) = self.mcasts.by_name.get(group).copied() else { return };
        let record = self.inboxes.records.get(inbox);
        let place = record.places.iter().find(|place| place.mcast == number).copied();
        if let Some(place) = place.filter(|place| *record.user == *user && place.since_seq <= seq) {
            self.leave_mcast(conn, inbox, place);
        }
    }
}
