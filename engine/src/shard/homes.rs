//! Rooms whose home is this shard: carries what others send to the home, and what the home puts
//! out to where it belongs. The rules are the router's; nothing is decided here.

use super::Shard;
use super::message::{Gather, KickPart, Message};
use super::schedule::Schedule;
use super::slab::Slab;
use crate::hash::{Seeded, hash_bytes};
use crate::metrics::Figure;
use crate::router::bans::{Changes, Origin as From};
use crate::router::former::Former;
use crate::router::home::Home;
use crate::router::{Books, Candidate, Gift, Offer, Origin, Output, Sender, ShardId, Verdict};
use crate::seam::{Now, Tick};
use crate::{Map, hash};
use bytes::Bytes;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;
use uproar_proto::control::{BackendMessage, BanWith, Command, Kicked, Published, Reply};
use uproar_proto::control::{PenaltyKind, RoomInfo, RoomSettings, Which};
use uproar_proto::error::Code;
use uproar_proto::ids::{Epoch, RoomId, Seq};
use uproar_proto::v1::{Class, Outcome};

/// One room at home here.
pub(super) struct Hosted {
    pub(super) home: Home,
    pub(super) room: RoomId,
    pub(super) booked: Books,
}

/// A backend's request that waits for its verdicts.
struct Request {
    room: RoomId,
    outcomes: Vec<Option<Published>>,
    reply: Reply<Vec<Published>>,
}

/// All of a shard's.
pub(super) struct Homes {
    pub(super) by_name: Map<RoomId, u32>,
    pub(super) slab: Slab<Hosted>,
    pub(super) schedule: Schedule,
    requests: Map<u64, Request>,
    next_request: u64,
}

/// Requests of backends that may wait at once. More: `QUEUE_FULL`.
const REQUESTS_MAX: usize = 4096;

impl Homes {
    pub(super) fn new(seed: u64) -> Homes {
        Homes {
            by_name: Map::with_hasher(Seeded(seed)),
            slab: Slab::default(),
            schedule: Schedule::default(),
            requests: Map::with_hasher(Seeded(seed)),
            next_request: 0,
        }
    }
}

impl Shard {
    fn open_home(
        &mut self,
        room: &RoomId,
        settings: RoomSettings,
        automatic: bool,
    ) -> Result<u32, Code> {
        if self.homes.slab.used() >= self.config.rooms.rooms_per_shard_max as usize {
            return Err(Code::TooManyRooms);
        }
        let (epoch, seed) = (Epoch(self.rng.next_u64()), hash::mix(self.seed ^ 0xed6e));
        let rules = &self.config.rooms;
        let now = self.now.tick;
        let mut home =
            Home::new(room.clone(), Arc::new(settings), rules, epoch, seed, now, automatic);
        home.former = Former::new(self.keeping.is_kept());
        let hosted = Hosted { home, room: room.clone(), booked: Books::default() };
        let number = self.homes.slab.insert(hosted);
        self.homes.by_name.insert(room.clone(), number);
        self.metrics.set(Figure::Rooms, self.homes.slab.used() as u64);
        self.keep_of(number, epoch);
        Ok(number)
    }

    /// A shard has its first member of a room.
    pub(super) fn home_attach(&mut self, room: RoomId, shard: ShardId) {
        let known = self.homes.by_name.get(&room).copied().ok_or(Code::RoomNotFound);
        let number = match known {
            Err(_) if self.config.rooms.auto_create => {
                self.open_home(&room, self.config.rooms.defaults.clone(), true)
            }
            other => other,
        };
        let now = self.now;
        let answer = number.map(|n| Box::new(self.homes.slab.get_mut(n).home.attach(shard, now)));
        self.post(shard, Message::Attached { room, answer });
        if let Ok(number) = number {
            self.schedule_home(number);
        }
    }

    /// Something a shard tells a home.
    pub(super) fn home_told(&mut self, message: Message) {
        let now = self.now;
        let mut out = Vec::new();
        let (room, shard) = match &message {
            Message::Detach { room, shard }
            | Message::Members { room, shard, .. }
            | Message::SweepTook { room, shard, .. } => (room.clone(), *shard),
            Message::Offer { room, .. } => (room.clone(), self.id),
            _ => unreachable!("only what a shard tells a home comes here"),
        };
        let Some(number) = self.homes.by_name.get(&room).copied() else {
            if let Message::Offer { offer, .. } = message {
                self.refuse_offer(room, offer, Code::RoomClosed);
            }
            return;
        };
        let home = &mut self.homes.slab.get_mut(number).home;
        match message {
            Message::Detach { .. } => home.detach(shard, now.tick),
            Message::Members { count, .. } => home.members(shard, count),
            Message::SweepTook { cpu_us, .. } => home.sweep_took(shard, cpu_us),
            Message::Offer { offer, .. } => home.offer(offer, now, &mut out),
            _ => {}
        }
        self.carry_out(number, out);
    }

    /// The room ended while an offer was on its way: the books still balance, the sender is told.
    pub(super) fn refuse_offer(&mut self, room: RoomId, offer: Offer, code: Code) {
        let mut books = Books::default();
        books.refused[Class::Like as usize] += offer.like_frames;
        let mut out = Vec::new();
        for candidate in offer.candidates {
            books.refused[candidate.class as usize] += candidate.offered();
            candidate.decide((Outcome::Refused, Seq(0)), Some(code), 0, &mut out);
        }
        self.metrics.book(&books);
        self.carry(room, &[], out);
    }

    /// Every home that is due gets its tick.
    pub(super) fn tick_homes(&mut self) {
        while let Some(number) = self.homes.schedule.pop(self.now.tick) {
            let mut out = Vec::new();
            let now = self.now;
            self.homes.slab.get_mut(number).home.tick(now, &mut out);
            self.carry_out(number, out);
        }
    }

    pub(super) fn carry_out(&mut self, number: u32, out: Vec<Output>) {
        if !out.is_empty() {
            self.archive(number, &out);
            let hosted = self.homes.slab.get(number);
            let window_us = hosted.home.window_us();
            let (room, shards) = (hosted.room.clone(), hosted.home.attached().to_vec());
            if out.iter().any(|o| matches!(o, Output::Flush(batch) if !batch.messages.is_empty())) {
                self.metrics.window.observe_us(window_us);
            }
            self.carry(room, &shards, out);
            let forgotten = self.homes.slab.get_mut(number).home.take_combos_forgotten();
            self.metrics.add(Figure::CombosForgotten, forgotten);
        }
        self.schedule_home(number);
    }

    fn carry(&mut self, room: RoomId, shards: &[ShardId], out: Vec<Output>) {
        let mut verdicts: Vec<(ShardId, Vec<Verdict>)> = Vec::new();
        for output in out {
            match output {
                Output::Flush(batch) => {
                    for shard in shards {
                        self.post(*shard, Message::Flush(batch.clone()));
                    }
                }
                Output::Held(batch) => {
                    for shard in shards {
                        self.post(*shard, Message::Held(batch.clone()));
                    }
                }
                Output::Question(question) => self.questions.put(question, &self.metrics),
                Output::Judged(fate, waited_us) => self.count_judged(fate, waited_us),
                Output::Verdict(verdict) => match verdict.origin {
                    Origin::Backend { request, index } => {
                        self.backend_verdict(request, index, &verdict)
                    }
                    Origin::Connection { shard, .. } => {
                        match verdicts.iter_mut().find(|(s, _)| *s == shard) {
                            Some((_, list)) => list.push(verdict),
                            None => verdicts.push((shard, vec![verdict])),
                        }
                    }
                },
            }
        }
        for (shard, verdicts) in verdicts {
            self.post(shard, Message::Verdicts { room: room.clone(), verdicts });
        }
    }

    /// A batch of a room at home here was lost on its way to a shard.
    pub(super) fn home_resync(&mut self, room: &RoomId) {
        if let Some(number) = self.homes.by_name.get(room).copied() {
            self.homes.slab.get_mut(number).home.resync();
            self.schedule_home(number);
        }
    }

    fn schedule_home(&mut self, number: u32) {
        let due = self.homes.slab.get(number).home.next_due();
        self.homes.schedule.set(number, due);
    }

    /// A request of control.
    pub(super) fn command(&mut self, command: Command) {
        match command {
            Command::Create { room, settings, reply } => {
                if self.homes.by_name.contains_key(&room) {
                    return reply(Err(Code::AlreadyExists));
                }
                let opened = self.open_home(&room, *settings, false);
                reply(opened.map(|number| self.homes.slab.get(number).home.info()));
            }
            Command::Get { room, reply } => {
                reply(self.hosted(&room).map(|n| self.homes.slab.get(n).home.info()));
            }
            Command::Update { room, settings, reply } => {
                let updated = self.hosted(&room).map(|number| {
                    let settings = Arc::from(settings);
                    self.homes.slab.get_mut(number).home.update(settings);
                    self.tell_updated(number);
                    self.schedule_home(number);
                    self.homes.slab.get(number).home.info()
                });
                reply(updated);
            }
            Command::Close { room, reply } => {
                reply(self.hosted(&room).map(|n| self.close_home(n, Code::RoomClosed)));
            }
            Command::Publish { room, messages, reply } => {
                self.backend_publish(room, messages, reply)
            }
            Command::Kick { room, user, ban_s, with, reply } => match self.hosted(&room) {
                Err(code) => reply(Err(code)),
                Ok(number) => self.home_kick(number, &user, (ban_s, with), reply),
            },
            Command::Unban { room, user, reply } => {
                reply(self.hosted(&room).map(|number| self.home_unban(number, &user)));
            }
            Command::Bans { room, after, limit, reply } => {
                self.live_command(&room, reply, |home, now, _| {
                    Ok(home.bans.page(&after, limit, now.unix_ms))
                });
            }
            Command::Mute { room, user, mute_s, reply } => {
                let now_ms = self.now.unix_ms;
                let until = now_ms + u64::from(mute_s) * 1000;
                let key = hash_bytes(self.seed, user.as_bytes());
                let muted = self.hosted(&room).map(|number| {
                    self.homes.slab.get_mut(number).home.mute(key, until, now_ms);
                    let until_ms = if mute_s > 0 { until } else { 0 };
                    self.decided(number, PenaltyKind::Mute, &user, until_ms);
                });
                reply(muted);
            }
            Command::Recall { room, what, reply } => {
                self.live_command(&room, reply, |home, now, out| home.recall(what, now, out));
            }
            Command::Members { room, limit, reply } => match self.hosted(&room) {
                Err(code) => reply(Err(code)),
                Ok(number) => self.home_members(number, limit, reply),
            },
            Command::Attributes { room, change, reply } => {
                self.live_command(&room, reply, |home, now, out| {
                    let outcome = home.change_attributes(change);
                    home.tick(now, out);
                    Ok(outcome)
                });
            }
            Command::Pin { room, pin, reply } => {
                self.live_command(&room, reply, |home, now, out| home.pin(pin, now, out));
            }
            Command::OpenPoll { room, poll, reply } => {
                self.live_command(&room, reply, |home, now, out| home.open_poll(poll, now, out));
            }
            Command::Poll { room, poll, end, reply } => {
                self.live_command(&room, reply, |home, now, out| {
                    home.poll(poll, end, now, out).ok_or(Code::NotFound)
                });
            }
        }
    }

    /// A request of control that a home answers by itself, and perhaps tells its viewers.
    fn live_command<T>(
        &mut self,
        room: &RoomId,
        reply: Reply<T>,
        ask: impl FnOnce(&mut Home, Now, &mut Vec<Output>) -> Result<T, Code>,
    ) {
        let number = match self.hosted(room) {
            Ok(number) => number,
            Err(code) => return reply(Err(code)),
        };
        let (now, mut out) = (self.now, Vec::new());
        let answer = ask(&mut self.homes.slab.get_mut(number).home, now, &mut out);
        self.carry_out(number, out);
        reply(answer);
    }

    fn hosted(&self, room: &RoomId) -> Result<u32, Code> {
        self.homes.by_name.get(room).copied().ok_or(Code::RoomNotFound)
    }

    fn tell_updated(&mut self, number: u32) {
        for shard in self.homes.slab.get(number).home.attached().to_vec() {
            self.tell_updated_to(number, shard);
        }
    }

    fn tell_updated_to(&mut self, number: u32, shard: ShardId) {
        let Hosted { home, room, .. } = self.homes.slab.get(number);
        let (room, settings) = (room.clone(), home.settings().clone());
        self.post(shard, Message::Updated { room, settings });
    }

    /// A shard has not learnt of the last change of a room that is at home here.
    pub(super) fn home_updated(&mut self, room: &RoomId, to: u16) {
        if let Ok(number) = self.hosted(room) {
            self.tell_updated_to(number, ShardId(to));
        }
    }

    /// A room at home here, its life, and the shards with members.
    pub(super) fn hosted_by(&self, number: u32) -> (RoomId, Epoch, Vec<ShardId>) {
        let Hosted { home, room, .. } = self.homes.slab.get(number);
        (room.clone(), home.epoch(), home.attached().to_vec())
    }

    fn home_kick(
        &mut self,
        number: u32,
        user: &str,
        (ban_s, with): (u32, BanWith),
        reply: Reply<Kicked>,
    ) {
        let key = hash_bytes(self.seed, user.as_bytes());
        let (mut until_unix_ms, now_ms) = (0, self.now.unix_ms);
        if ban_s > 0 {
            until_unix_ms = now_ms + u64::from(ban_s) * 1000;
            let bans = &mut self.homes.slab.get_mut(number).home.bans;
            let changes = bans.ban(user, key, until_unix_ms, now_ms);
            self.tell_bans(number, changes);
            self.decided(number, PenaltyKind::Ban, user, until_unix_ms);
        }
        let (room, epoch, shards) = self.hosted_by(number);
        if shards.is_empty() {
            return reply(Ok(Kicked::default()));
        }
        let finish = Box::new(move |parts: Vec<KickPart>| reply(Ok(kicked(parts))));
        let gather = Arc::new(Gather::new(shards.len() as u32, finish));
        for shard in shards {
            let (room, gather) = (room.clone(), gather.clone());
            self.post(shard, Message::Kick { room, epoch, key, until_unix_ms, with, gather });
        }
    }

    /// Whether the user was banned; or may have been, as long as it is not known who is.
    fn home_unban(&mut self, number: u32, user: &str) -> bool {
        let now_ms = self.now.unix_ms;
        let home = &mut self.homes.slab.get_mut(number).home;
        let changes = home.bans.lift(user, now_ms);
        let was_banned = changes.is_some() || home.former.is_awaited();
        self.tell_bans(number, changes.unwrap_or_default());
        if was_banned {
            self.decided(number, PenaltyKind::Ban, user, 0);
        }
        was_banned
    }

    /// Where a user came from that was banned here: nobody else comes in from there.
    pub(super) fn home_found(
        &mut self,
        room: &RoomId,
        epoch: Epoch,
        (key, until_unix_ms): (u64, u64),
        origins: &[From],
    ) {
        let Ok(number) = self.hosted(room) else { return };
        let home = &mut self.homes.slab.get_mut(number).home;
        if home.epoch() == epoch {
            let changes = home.bans.found(key, until_unix_ms, origins);
            self.tell_bans(number, changes);
        }
    }

    fn tell_bans(&mut self, number: u32, changes: Changes) {
        let dropped = self.homes.slab.get_mut(number).home.bans.take_dropped();
        self.metrics.add(Figure::BansDropped, dropped);
        if changes.is_empty() {
            return;
        }
        let (room, epoch, shards) = self.hosted_by(number);
        for shard in shards {
            let (room, changes) = (room.clone(), changes.clone());
            self.post(shard, Message::Bans { room, epoch, whole: false, changes });
        }
    }

    /// A shard has not learnt of a change of who is banned: it is told all.
    pub(super) fn home_bans(&mut self, room: &RoomId, to: u16) {
        let Ok(number) = self.hosted(room) else { return };
        let now_ms = self.now.unix_ms;
        let home = &mut self.homes.slab.get_mut(number).home;
        let (epoch, changes) = (home.epoch(), home.bans.all(now_ms));
        let room = room.clone();
        self.post(ShardId(to), Message::Bans { room, epoch, whole: true, changes });
    }

    /// Until when a user is banned by now that was kicked with a ban until then: a kick that comes
    /// late must not bring back a ban that has been ended.
    pub(super) fn home_ban_until(
        &self,
        room: &RoomId,
        epoch: Epoch,
        key: u64,
        until_unix_ms: u64,
    ) -> u64 {
        match self.hosted(room).map(|number| &self.homes.slab.get(number).home) {
            Ok(home) if home.epoch() == epoch => home.bans.until_ms(key).min(until_unix_ms),
            _ => until_unix_ms,
        }
    }

    fn close_home(&mut self, number: u32, code: Code) {
        let mut out = Vec::new();
        let now = self.now;
        self.homes.slab.get_mut(number).home.close(now, &mut out);
        self.archive(number, &out);
        let Hosted { home, room, .. } = self.homes.slab.get(number);
        let (room, epoch, shards) = (room.clone(), home.epoch(), home.attached().to_vec());
        self.carry(room.clone(), &shards, out);
        for shard in shards {
            self.post(shard, Message::Ended { room: room.clone(), epoch, code });
        }
        self.book_home(number);
        self.homes.slab.remove(number);
        self.homes.by_name.remove(&room);
        self.keeping.ends(number);
        self.homes.schedule.set(number, Tick::NEVER);
        self.metrics.set(Figure::Rooms, self.homes.slab.used() as u64);
    }

    /// Twice a second: books, and rooms that began by a join and have been empty for long.
    pub(super) fn report_homes(&mut self) {
        let numbers: Vec<u32> = self.homes.slab.iter().map(|(number, _)| number).collect();
        for number in numbers {
            self.book_home(number);
            if self.homes.slab.get(number).home.expired_when_empty(self.now.tick) {
                self.close_home(number, Code::RoomClosed);
            }
        }
    }

    fn book_home(&mut self, number: u32) {
        let hosted = self.homes.slab.get_mut(number);
        let books = *hosted.home.books();
        self.metrics.book(&books.since(&hosted.booked));
        hosted.booked = books;
    }

    fn backend_publish(
        &mut self,
        room: RoomId,
        messages: Vec<BackendMessage>,
        reply: Reply<Vec<Published>>,
    ) {
        let number = match self.hosted(&room) {
            Ok(_) if self.homes.requests.len() >= REQUESTS_MAX => {
                return reply(Err(Code::QueueFull));
            }
            Ok(number) => number,
            Err(code) => return reply(Err(code)),
        };
        self.homes.next_request += 1;
        let request = self.homes.next_request;
        let outcomes = vec![None; messages.len()];
        if messages.is_empty() {
            return reply(Ok(Vec::new()));
        }
        self.homes.requests.insert(request, Request { room: room.clone(), outcomes, reply });
        let now = self.now;
        let mut out = Vec::new();
        let is_filtered = self.homes.slab.get(number).home.settings().filter;
        for (index, message) in messages.into_iter().enumerate() {
            let key = hash_bytes(self.seed, message.user.as_bytes());
            let sender = Sender { key, user: Arc::from(message.user), exempt: true };
            let candidate = Candidate {
                class: message.class,
                sender,
                origin: Origin::Backend { request, index: index as u32 },
                client_msg_id: message.client_msg_id,
                content: message.content,
                received: now.tick,
                received_unix_ms: now.unix_ms,
                gift: message.gift.map(|name| {
                    let name = Bytes::from(name);
                    Box::new(Gift::new(name, message.count, now.tick))
                }),
            };
            let offer = Offer { candidates: vec![candidate], ..Offer::default() };
            let Candidate { class, content, gift, .. } = &offer.candidates[0];
            let gift = gift.as_ref().map(|gift| &gift.name[..]);
            if is_filtered && self.filtering.is_hit(*class, Some(content), gift) {
                let mut books = Books::default();
                books.offered[*class as usize] = 1;
                self.metrics.book(&books);
                self.refuse_offer(room.clone(), offer, Code::Filtered);
                continue;
            }
            self.homes.slab.get_mut(number).home.offer(offer, now, &mut out);
        }
        self.carry_out(number, out);
    }

    fn backend_verdict(&mut self, request: u64, index: u32, verdict: &Verdict) {
        let Some(waiting) = self.homes.requests.get_mut(&request) else {
            return;
        };
        waiting.outcomes[index as usize] = Some(Published {
            outcome: verdict.outcome,
            seq: verdict.seq.0,
            code: verdict.code,
            retry_after_ms: verdict.retry_after_ms,
        });
        if waiting.outcomes.iter().all(Option::is_some)
            && let Some(done) = self.homes.requests.remove(&request)
        {
            tracing::trace!(room = %done.room, "a backend's request is decided");
            (done.reply)(Ok(done.outcomes.into_iter().flatten().collect()));
        }
    }

    /// Rooms at home here: of all of them the first `limit`, in no order. What is left over is not
    /// sorted: a shard may be home of a hundred thousand.
    pub(super) fn list_homes(&self, which: &Which, limit: usize) -> Vec<RoomInfo> {
        let all = self.homes.by_name.iter();
        let home = |number: u32| &self.homes.slab.get(number).home;
        // Rooms that come by name alone are all as busy as each other.
        let mut found: Vec<(Reverse<u64>, &RoomId, u32)> = match which {
            Which::After(after) => all
                .filter(|(name, _)| name.as_str() > after.as_str())
                .map(|(name, number)| (Reverse(0), name, *number))
                .collect(),
            Which::Busiest => all
                .map(|(name, number)| (Reverse(home(*number).viewers()), name, *number))
                .collect(),
        };
        if limit < found.len() {
            found.select_nth_unstable(limit);
            found.truncate(limit);
        }
        found.into_iter().map(|(.., number)| home(number).info()).collect()
    }
}

/// What a kick did on all shards.
fn kicked(parts: Vec<KickPart>) -> Kicked {
    let connections = parts.iter().map(|part| part.connections).sum();
    let origins = parts.into_iter().flat_map(|part| part.origins);
    let different: BTreeSet<(bool, u64)> = origins.map(|of| (of.is_device, of.key)).collect();
    let devices = different.iter().filter(|(is_device, _)| *is_device).count() as u32;
    Kicked { connections, devices, addresses: different.len() as u32 - devices }
}
