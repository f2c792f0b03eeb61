//! From the first byte to the last word: what a connection says, and how the shard answers.
//!
//! Owns the order of a session (opening, hello, token, live, closing) and the checks made where a
//! message arrives: permission, size, bans. What the room allows is the home's business.

use super::connections::{State, wrapping_ms};
use super::origin::device_key;
use super::slab::NONE;
use super::token::{EXPIRY_WARNING_S, GUEST_CLASSES, Session, Verified};
use super::{Check, Input, PendingCheck, Shard};
use crate::hash::{hash_bytes, mix};
use crate::metrics::Figure;
use crate::router::{Candidate, Gift, Origin, Sender};
use crate::seam::{Action, ConnSlot};
use std::net::IpAddr;
use std::sync::Arc;
use uproar_proto::control::{Content, is_gift_name};
use uproar_proto::error::Code;
use uproar_proto::names::GUEST;
use uproar_proto::v1::{self, Class, client_frame, server_frame::Body};
use uproar_proto::wire::opening::{Opening, http_refusal, open};
use uproar_proto::wire::proxy::{Proxied, parse};
use uproar_proto::wire::{
    Decoder, Incoming, Variant, close_frame, encode_server, error_body, pong_frame,
};

fn content_of(content: v1::publish::Content) -> Content {
    match content {
        v1::publish::Content::Text(text) => Content::Text(bytes::Bytes::from(text)),
        v1::publish::Content::Data(data) => Content::Data(data),
    }
}

/// Input is thrown away at most this long after the last words were sent: closing with unread
/// input would send RST and destroy the error frame.
pub(super) const DISCARD_MS: u32 = 1_000;
/// A PROXY header with all its TLVs; larger ones are refused.
const OPENING_BYTES_MAX: usize = 16 * 1024;
/// The longest device or agent name, bytes.
const NAME_BYTES_MAX: usize = uproar_proto::blocks::DEVICE_BYTES_MAX;

impl Shard {
    pub(super) fn accepted(&mut self, conn: ConnSlot, peer: IpAddr) {
        let proxied = self.config.proxy_from.contains(&peer);
        let state = if proxied { State::Proxied } else { State::Opening };
        self.conns.open(conn, state, self.now.tick);
        self.metrics.add(Figure::Accepted, 1);
        self.wheel.insert(conn, self.now.tick.after_ms(u64::from(self.config.handshake_ms_max)));
        if self.conns.used() > self.connections_max as usize {
            return self.end(conn, Code::ServerFull, None);
        }
        if self.draining {
            return self.end(conn, Code::Draining, None);
        }
        if !proxied {
            self.count_address(conn, peer);
        }
    }

    fn count_address(&mut self, conn: ConnSlot, peer: IpAddr) {
        self.conns.cold_mut(conn).set_address(peer);
        match self.addresses.enter(peer, self.now.tick) {
            Ok(number) => self.conns.cold_mut(conn).address = number,
            Err(number) => {
                self.conns.cold_mut(conn).address = number;
                self.end(conn, Code::AddressLimit, None);
            }
        }
    }

    pub(super) fn received(&mut self, conn: ConnSlot, bytes: &[u8]) {
        self.metrics.add(Figure::BytesIn, bytes.len() as u64);
        match self.conns.hot(conn).state {
            State::Proxied | State::Opening => self.opening(conn, bytes),
            State::Hello | State::Live => {
                let input = self.conns.cold(conn).input;
                if input == NONE {
                    let mut decoder = self.decoder(conn);
                    decoder.feed(bytes);
                    self.decode(conn, decoder);
                } else {
                    let mut decoder = self.take_decoder(conn);
                    decoder.feed(bytes);
                    self.decode(conn, decoder);
                }
            }
            State::Checking => {
                let mut decoder = self.take_decoder(conn);
                decoder.feed(bytes);
                if decoder.bytes_used() > 2 * self.config.frame_bytes_max as usize {
                    return self.end(conn, Code::Flooding, None);
                }
                self.keep_decoder(conn, decoder);
            }
            State::Free | State::Closing | State::Discarding | State::Closed => {}
        }
    }

    fn decoder(&self, conn: ConnSlot) -> Decoder {
        Decoder::new(self.conns.hot(conn).variant, self.config.frame_bytes_max as usize)
    }

    fn take_decoder(&mut self, conn: ConnSlot) -> Decoder {
        let number = std::mem::replace(&mut self.conns.cold_mut(conn).input, NONE);
        match (number != NONE).then(|| self.inputs.remove(number)) {
            Some(Input::Frames(decoder)) => *decoder,
            Some(Input::Opening(_)) | None => self.decoder(conn),
        }
    }

    fn keep_decoder(&mut self, conn: ConnSlot, decoder: Decoder) {
        if !decoder.is_idle() {
            let number = self.inputs.insert(Input::Frames(Box::new(decoder)));
            self.conns.cold_mut(conn).input = number;
        }
    }

    /// The bytes before the first frame: a PROXY header, `UPR1` or an upgrade request.
    fn opening(&mut self, conn: ConnSlot, bytes: &[u8]) {
        let number = std::mem::replace(&mut self.conns.cold_mut(conn).input, NONE);
        let mut whole = match (number != NONE).then(|| self.inputs.remove(number)) {
            Some(Input::Opening(start)) => start,
            _ => Vec::new(),
        };
        whole.extend_from_slice(bytes);
        let mut rest = &whole[..];
        if self.conns.hot(conn).state == State::Proxied {
            match parse(rest) {
                Proxied::NeedMore => return self.keep_opening(conn, whole),
                Proxied::Bad => return self.end(conn, Code::BadProxyHeader, None),
                Proxied::Header { consumed, source } => {
                    rest = &rest[consumed..];
                    self.conns.hot_mut(conn).state = State::Opening;
                    if let Some(source) = source {
                        self.count_address(conn, source);
                    }
                }
            }
        }
        if self.conns.hot(conn).state != State::Opening {
            return;
        }
        let consumed = match open(rest) {
            Opening::NeedMore => {
                let rest = rest.to_vec();
                return self.keep_opening(conn, rest);
            }
            Opening::Refused { reply, code } => {
                self.conns.hot_mut(conn).variant = Variant::Tcp;
                return self.end(conn, code, Some(reply));
            }
            Opening::Tcp { consumed } => {
                self.conns.hot_mut(conn).variant = Variant::Tcp;
                consumed
            }
            Opening::WebSocket { consumed, upgrade } => {
                let origins = &self.config.origins;
                let origin = upgrade.origin.as_ref();
                if !origins.is_empty() && origin.is_some_and(|o| !origins.contains(o)) {
                    let reply = http_refusal(403, Code::OriginRefused);
                    return self.end(conn, Code::OriginRefused, Some(reply));
                }
                self.conns.hot_mut(conn).variant = upgrade.variant;
                self.reply_bytes(conn, &upgrade.reply);
                consumed
            }
        };
        self.conns.hot_mut(conn).state = State::Hello;
        if consumed < rest.len() {
            let mut decoder = self.decoder(conn);
            decoder.feed(&rest[consumed..]);
            self.decode(conn, decoder);
        }
    }

    fn keep_opening(&mut self, conn: ConnSlot, bytes: Vec<u8>) {
        if bytes.len() > OPENING_BYTES_MAX {
            return self.end(conn, Code::BadHandshake, None);
        }
        let number = self.inputs.insert(Input::Opening(bytes));
        self.conns.cold_mut(conn).input = number;
    }

    /// Handles whole frames until the input or the session ends, or the token must be checked.
    fn decode(&mut self, conn: ConnSlot, mut decoder: Decoder) {
        self.conns.cold_mut(conn).since_ms = match self.conns.hot(conn).state {
            State::Live => wrapping_ms(self.now.tick),
            _ => self.conns.cold(conn).since_ms,
        };
        loop {
            match decoder.next() {
                Ok(Some(incoming)) => self.incoming(conn, incoming),
                Ok(None) => break,
                Err(code) => return self.end(conn, code, None),
            }
            match self.conns.hot(conn).state {
                State::Hello | State::Live => {}
                State::Checking => break,
                _ => return,
            }
        }
        self.keep_decoder(conn, decoder);
    }

    fn incoming(&mut self, conn: ConnSlot, incoming: Incoming) {
        self.metrics.add(Figure::FramesIn, 1);
        if !self.count_frame(conn) {
            return self.end(conn, Code::Flooding, None);
        }
        let live = self.conns.hot(conn).state == State::Live;
        match incoming {
            Incoming::Frame(client_frame::Body::Connect(connect)) if !live => {
                self.connect(conn, connect);
            }
            Incoming::Frame(client_frame::Body::Connect(_)) => {
                self.end(conn, Code::ProtocolOrder, None); // S-1
            }
            Incoming::Frame(body) if live => self.request(conn, body),
            Incoming::Frame(_) => self.end(conn, Code::ProtocolOrder, None), // S-1
            Incoming::Unknown => self.metrics.add(Figure::FramesUnknown, 1),
            Incoming::Ping(payload) => {
                let mut pong = Vec::new();
                pong_frame(&payload, &mut pong);
                self.reply_bytes(conn, &pong);
            }
            Incoming::Pong => {}
            Incoming::Close { code } => {
                let mut frame = Vec::new();
                let variant = self.conns.hot(conn).variant;
                close_frame(variant, code.unwrap_or(1000), "", &mut frame);
                self.metrics.closed_by_peer(0);
                self.last_words(conn, &frame);
            }
        }
    }

    /// Counts a frame against the connection's own bound; false beyond it.
    fn count_frame(&mut self, conn: ConnSlot) -> bool {
        let window = (self.now.tick.0 / 2_000_000) as u16;
        let cold = self.conns.cold_mut(conn);
        if cold.frames_window != window {
            (cold.frames_window, cold.frames) = (window, 0);
        }
        cold.frames = cold.frames.saturating_add(1);
        u32::from(cold.frames) <= 2 * self.config.frames_per_s_max
    }

    fn connect(&mut self, conn: ConnSlot, connect: v1::Connect) {
        if connect.device.len() > NAME_BYTES_MAX || connect.agent.len() > NAME_BYTES_MAX {
            return self.end(conn, Code::BadFrame, None);
        }
        if !connect.device.is_empty() {
            self.conns.cold_mut(conn).device = device_key(self.seed, &connect.device);
        }
        if self.is_blocked(conn) {
            return self.end(conn, Code::Banned, None); // S-63
        }
        if connect.token.is_empty() {
            if !self.verifier.guests() {
                return self.end(conn, Code::TokenRequired, None); // S-2
            }
            return self.welcome(conn, connect, None); // S-3
        }
        let generation = self.conns.hot(conn).generation;
        self.conns.hot_mut(conn).state = State::Checking;
        self.checks.push_back(PendingCheck { conn, generation, what: Check::Connect(connect) });
    }

    /// Checks waiting tokens, within the budget of a turn.
    pub(super) fn check_tokens(&mut self) {
        for _ in 0..self.config.token_checks_per_turn_max {
            let Some(PendingCheck { conn, generation, what }) = self.checks.pop_front() else {
                break;
            };
            let hot = self.conns.hot(conn);
            let expected = match what {
                Check::Connect(_) => State::Checking,
                Check::Renew(_) => State::Live,
            };
            if hot.state != expected || hot.generation != generation {
                continue;
            }
            self.metrics.add(Figure::TokensChecked, 1);
            let token = match &what {
                Check::Connect(connect) => &connect.token,
                Check::Renew(token) => token,
            };
            let verified = self.verifier.verify(token, self.now.unix_ms, self.seed);
            match (verified, what) {
                (Err(code), Check::Connect(_)) => self.end(conn, code, None),
                (Ok(Verified { session, login }), Check::Connect(connect)) => {
                    self.session_bytes += session.bytes_owned();
                    let number = self.sessions.insert(session);
                    self.conns.cold_mut(conn).session = number;
                    self.welcome(conn, connect, login); // S-3
                    if self.conns.hot(conn).state == State::Live {
                        let decoder = self.take_decoder(conn);
                        self.decode(conn, decoder);
                    }
                }
                (verified, Check::Renew(_)) => self.renewed(conn, verified),
            }
        }
        self.metrics.set(Figure::TokensWaiting, self.checks.len() as u64);
    }

    /// A new token in place of the connection's own. One that is no good changes nothing: the old
    /// one is good until it expires.
    fn renewed(&mut self, conn: ConnSlot, verified: Result<Verified, Code>) {
        let number = self.conns.cold(conn).session;
        let old = self.sessions.get_mut(number);
        let Verified { session: mut new, login } = match verified {
            Ok(new) if new.session.user == old.user => new,
            Ok(_) => return self.reply(conn, &error_body(Code::TokenInvalid)),
            Err(code) => return self.reply(conn, &error_body(code)),
        };
        let expires_ms = u64::from(new.expires_s) * 1000;
        self.session_bytes = self.session_bytes + new.bytes_owned() - old.bytes_owned();
        new.inbox = old.inbox;
        *old = new;
        self.login_renewed(conn, login);
        self.wheel.remove(conn);
        self.arm_idle(conn);
        self.reply(conn, &Body::Renewed(v1::Renewed { expires_ms }));
    }

    fn renew(&mut self, conn: ConnSlot, renew: v1::Renew) {
        if self.conns.cold(conn).session == NONE {
            return self.reply(conn, &error_body(Code::TokenRequired));
        }
        let generation = self.conns.hot(conn).generation;
        self.checks.push_back(PendingCheck { conn, generation, what: Check::Renew(renew.token) });
    }

    fn welcome(&mut self, conn: ConnSlot, connect: v1::Connect, login: Option<Arc<str>>) {
        self.conns.hot_mut(conn).state = State::Live;
        self.conns.cold_mut(conn).since_ms = wrapping_ms(self.now.tick);
        self.wheel.remove(conn);
        self.arm_idle(conn);
        self.metrics.add(Figure::Welcomed, 1);
        let session = self.rng.next_u64();
        let welcome = v1::Welcome {
            session: format!("{session:016x}"),
            user: self.user_of(conn).to_string(),
            guest: self.conns.cold(conn).session == NONE,
            ping_every_s: self.config.ping_every_s,
            server_time_ms: self.now.unix_ms,
            payload_bytes_max: self.config.payload_bytes_max,
            rooms_max: self.config.rooms_per_connection_max,
            generation: if connect.inbox { self.inboxes.generation } else { 0 },
        };
        self.reply(conn, &Body::Welcome(welcome));
        if connect.inbox {
            self.open_inbox(conn, login);
        }
        for join in connect.join {
            // What it is sent for one room may be more than it may owe: then it is gone.
            if self.conns.hot(conn).state != State::Live {
                break;
            }
            self.join(conn, &join.room, join.resume);
        }
    }

    /// Puts a live connection into the wheel: at its idle deadline, or when its token expires.
    pub(super) fn arm_idle(&mut self, conn: ConnSlot) {
        let cold = self.conns.cold(conn);
        let silent_ms = wrapping_ms(self.now.tick).wrapping_sub(cold.since_ms);
        let mut left_ms = u64::from(self.idle_ms().saturating_sub(silent_ms));
        if cold.session != NONE {
            let session = self.sessions.get(cold.session);
            let warn_s = if session.is_warned() { 0 } else { EXPIRY_WARNING_S };
            let due_ms = u64::from(session.expires_s.saturating_sub(warn_s)) * 1000;
            left_ms = left_ms.min(due_ms.saturating_sub(self.now.unix_ms));
        }
        self.wheel.insert(conn, self.now.tick.after_ms(left_ms));
    }

    /// Two missed heartbeats, each up to 20 % late.
    pub(super) fn idle_ms(&self) -> u32 {
        self.config.ping_every_s * 2_400
    }

    fn request(&mut self, conn: ConnSlot, body: client_frame::Body) {
        match body {
            client_frame::Body::Connect(_) => {}
            client_frame::Body::Join(join) => self.join(conn, &join.room, join.resume),
            client_frame::Body::Leave(leave) => self.leave(conn, &leave.room, None),
            client_frame::Body::Publish(publish) => self.publish(conn, publish),
            client_frame::Body::Renew(renew) => self.renew(conn, renew),
            client_frame::Body::Vote(vote) => self.vote(conn, &vote),
            client_frame::Body::Report(report) => self.hear_report(conn, report),
            body @ (client_frame::Body::Send(_)
            | client_frame::Body::Sync(_)
            | client_frame::Body::Pull(_)
            | client_frame::Body::Mark(_)
            | client_frame::Body::React(_)
            | client_frame::Body::Signal(_)
            | client_frame::Body::Watch(_)) => self.inbox_frame(conn, body),
            client_frame::Body::Ping(_) => self.reply(conn, &Body::Pong(v1::Pong {})), // S-4
        }
    }

    /// The room of a name that a connection is in. Before the room's answer its rules are not known
    /// here, so nobody is in it yet.
    fn joined_room(&self, conn: ConnSlot, name: &str) -> Option<u32> {
        let number = *self.rooms.by_name.get(name)?;
        let is_member = self.memberships_of(conn).iter().any(|m| m.room == number);
        (is_member && self.rooms.slab.get(number).attached).then_some(number)
    }

    fn publish(&mut self, conn: ConnSlot, publish: v1::Publish) {
        let Some(number) = self.joined_room(conn, &publish.room) else {
            return self.room_error(conn, &publish.room, Code::NotMember); // S-19
        };
        let class = publish.class();
        let (classes, moderate) = self.permissions(conn);
        let (key, user) = (self.sender_key(conn), self.user_of(conn));
        let guest = self.conns.cold(conn).session == NONE;
        let banned = self.is_banned(conn, number);
        let held_back_ms = self.held_back_ms(conn, number);
        let content = publish.content.map(content_of);
        let bytes = content.as_ref().map_or(0, Content::len);
        let like = class == Class::Like; // S-18
        let too_many = like && publish.count > self.config.rooms.likes_per_frame_max;
        let gift = Some(publish.gift).filter(|name| !name.is_empty());
        let bad_gift = gift.as_ref().and_then(|name| self.refuse_gift(class, name, publish.count));
        let room = self.rooms.slab.get_mut(number);
        let settings = &room.settings;
        let name = gift.as_ref().map(String::as_bytes);
        let refusal = if classes & (1 << class as u8) == 0 || (guest && !settings.guests_publish) {
            Some(Code::Forbidden) // S-16
        } else if banned {
            Some(Code::Banned)
        } else if !like && !moderate && !settings.may_speak(&user) {
            Some(Code::RoomMuted) // S-54
        } else if class == Class::Chat && held_back_ms.is_some() {
            Some(Code::FollowersOnly) // S-64
        } else if !like && !(1..=16).contains(&publish.client_msg_id.len()) {
            // S-15
            Some(Code::BadId)
        } else if bad_gift.is_some() {
            bad_gift // S-66
        } else if !like && bytes == 0 && gift.is_none() {
            Some(Code::Empty)
        } else if bytes > settings.payload_bytes_max as usize {
            Some(Code::TooLarge)
        } else if too_many {
            Some(Code::SlowDown)
        } else if settings.filter && self.filtering.is_hit(class, content.as_ref(), name) {
            Some(Code::Filtered) // S-58
        } else {
            None
        };
        if let Some(code) = refusal {
            room.edge.refuse(class);
            if like {
                return; // likes get no verdict
            }
            let id = publish.client_msg_id.slice(..publish.client_msg_id.len().min(16));
            let wait_ms = held_back_ms.filter(|_| code == Code::FollowersOnly).unwrap_or(0);
            return self.refuse(conn, &publish.room, id, (code, wait_ms));
        }
        if like {
            let count = u64::from(publish.count.max(1));
            self.metrics.add(Figure::LikesIn, count);
            room.edge.like(count);
        } else {
            let content = content.unwrap_or(Content::Data(bytes::Bytes::new()));
            let gift = gift.map(|name| Gift::new(name.into(), publish.count, self.now.tick));
            let sender = Sender { key, user, exempt: moderate };
            let candidate = self.candidate(conn, class, sender, publish.client_msg_id, content);
            let candidate = Candidate { gift: gift.map(Box::new), ..candidate };
            self.offer_at_edge(number, candidate);
        }
        self.offer_up(number);
    }

    /// What a connection says now.
    fn candidate(
        &self,
        conn: ConnSlot,
        class: Class,
        sender: Sender,
        client_msg_id: bytes::Bytes,
        content: Content,
    ) -> Candidate {
        let generation = self.conns.hot(conn).generation;
        Candidate {
            class,
            sender,
            origin: Origin::Connection { shard: self.id, conn: conn.0, generation },
            client_msg_id,
            content,
            received: self.now.tick,
            received_unix_ms: self.now.unix_ms,
            gift: None,
        }
    }

    /// Why gifts with this name are not taken; `None`: they are.
    fn refuse_gift(&self, class: Class, name: &str, count: u32) -> Option<Code> {
        if class != Class::Gift || !is_gift_name(name) {
            Some(Code::BadRequest)
        } else {
            (count > self.config.rooms.gifts_per_frame_max).then_some(Code::LimitReached)
        }
    }

    fn offer_at_edge(&mut self, room: u32, candidate: Candidate) {
        let mut verdicts = Vec::new();
        let room = self.rooms.slab.get_mut(room);
        room.edge.offer(candidate, self.now.tick, &mut verdicts);
        if !verdicts.is_empty() {
            let id = room.id.clone();
            self.take_verdicts(&id, verdicts);
        }
    }

    /// How long until a user follows a room for as long as one must to chat in it, milliseconds; 0:
    /// it does not follow it. `None`: it may chat.
    fn held_back_ms(&self, conn: ConnSlot, number: u32) -> Option<u32> {
        let room = self.rooms.slab.get(number);
        room.settings.followers_only_s?;
        let session = self.conns.cold(conn).session;
        let session = (session != NONE).then(|| self.sessions.get(session));
        if session.is_some_and(Session::moderates) {
            return None;
        }
        let since_s = session.and_then(|session| session.follows_since(room.id.as_str()));
        room.settings.may_chat(&self.user_of(conn), since_s, self.now.unix_ms).err()
    }

    fn refuse(
        &mut self,
        conn: ConnSlot,
        room: &str,
        client_msg_id: bytes::Bytes,
        (code, retry_after_ms): (Code, u32),
    ) {
        let verdict = v1::Verdict {
            client_msg_id,
            outcome: v1::Outcome::Refused.into(),
            code: code.number(),
            retry_after_ms,
            ..v1::Verdict::default()
        };
        let generation = self.conns.hot(conn).generation;
        self.verdicts.add(conn, generation, room, verdict);
    }

    fn permissions(&self, conn: ConnSlot) -> (u8, bool) {
        match self.conns.cold(conn).session {
            NONE => (GUEST_CLASSES, false),
            session => {
                let session: &Session = self.sessions.get(session);
                (session.classes(), session.moderates())
            }
        }
    }

    /// A guest's name is made from its place and generation, so it costs no memory.
    pub(super) fn user_of(&self, conn: ConnSlot) -> Arc<str> {
        match self.conns.cold(conn).session {
            NONE => {
                let place = u64::from(self.id.0) << 48
                    | u64::from(self.conns.hot(conn).generation) << 32
                    | u64::from(conn.0);
                Arc::from(format!("{GUEST}{:012x}", mix(place ^ self.seed) >> 16))
            }
            session => self.sessions.get(session).user.clone(),
        }
    }

    /// What stands for a user in tables and samples.
    pub(super) fn sender_key(&self, conn: ConnSlot) -> u64 {
        match self.conns.cold(conn).session {
            NONE => hash_bytes(self.seed, self.user_of(conn).as_bytes()),
            session => self.sessions.get(session).key,
        }
    }

    /// Ends a session for a reason: error frame, our side shut, input discarded, then closed.
    /// `instead`: bytes to send in place of an error frame (an HTTP reply).
    pub(super) fn end(&mut self, conn: ConnSlot, code: Code, instead: Option<Vec<u8>>) {
        let hot = *self.conns.hot(conn);
        if hot.state >= State::Closing || hot.state == State::Free {
            return;
        }
        self.metrics.closed(code);
        let words = instead.or_else(|| self.half_open_refusal(conn, code)).unwrap_or_else(|| {
            let mut words = Vec::new();
            encode_server(&error_body(code), hot.variant, &mut words);
            close_frame(hot.variant, code.websocket_close(), code.name(), &mut words);
            words
        });
        self.last_words(conn, &words); // S-22
    }

    /// What a client gets that has begun an HTTP request and not ended it (W-32).
    fn half_open_refusal(&self, conn: ConnSlot, code: Code) -> Option<Vec<u8>> {
        let input = self.conns.cold(conn).input;
        if self.conns.hot(conn).state != State::Opening || input == NONE {
            return None;
        }
        let Input::Opening(start) = self.inputs.get(input) else { return None };
        let status = if code == Code::HandshakeTimeout { 408 } else { 503 };
        let begun = start.len().min(4);
        (begun > 0 && start[..begun] == b"GET "[..begun]).then(|| http_refusal(status, code))
    }

    fn last_words(&mut self, conn: ConnSlot, words: &[u8]) {
        self.leave_all(conn);
        self.reply_bytes(conn, words);
        if self.conns.hot(conn).state >= State::Closed {
            return;
        }
        self.conns.hot_mut(conn).state = State::Closing;
        self.conns.cold_mut(conn).since_ms = wrapping_ms(self.now.tick);
        self.wheel.remove(conn);
        self.wheel.insert(conn, self.now.tick.after_ms(u64::from(DISCARD_MS)));
    }

    /// The peer will send no more, or its socket failed.
    pub(super) fn peer_ended(&mut self, conn: ConnSlot, errno: i32) {
        let state = self.conns.hot(conn).state;
        self.conns.cold_mut(conn).eof = true;
        match state {
            State::Free | State::Closed => {}
            // Its last words are still on the way; they end in a close.
            State::Closing if errno == 0 => {}
            _ => {
                if state < State::Closing {
                    self.metrics.closed_by_peer(errno);
                }
                self.close_now(conn);
            }
        }
    }

    /// Gives a connection up at once; what it did not take is lost and counted.
    pub(super) fn close_now(&mut self, conn: ConnSlot) {
        if self.conns.hot(conn).state == State::Closed {
            return;
        }
        self.leave_all(conn);
        self.drop_outgoing(conn);
        self.conns.hot_mut(conn).state = State::Closed;
        self.wheel.remove(conn);
        self.act(Action::Close { conn });
    }

    /// The driver has given the slot back.
    pub(super) fn closed(&mut self, conn: ConnSlot) {
        if self.conns.hot(conn).state != State::Closed {
            // The driver may end a connection by itself only after `Eof`; be exact all the same.
            self.leave_all(conn);
            self.drop_outgoing(conn);
            self.wheel.remove(conn);
        }
        let cold = *self.conns.cold(conn);
        if cold.input != NONE {
            self.inputs.remove(cold.input);
        }
        if cold.session != NONE {
            self.session_bytes -= self.sessions.remove(cold.session).bytes_owned();
        }
        if cold.address != NONE {
            self.addresses.leave(cold.address);
        }
        self.conns.close(conn);
    }

    /// Deadlines that have come.
    pub(super) fn fire_deadlines(&mut self) {
        while let Some(conn) = self.wheel.fire(self.now.tick) {
            match self.conns.hot(conn).state {
                State::Free | State::Closed => {}
                State::Proxied | State::Opening | State::Hello | State::Checking => {
                    self.end(conn, Code::HandshakeTimeout, None); // S-1
                }
                State::Live => self.live_deadline(conn),
                State::Closing | State::Discarding => self.close_now(conn),
            }
        }
    }

    /// Whether the token a connection came with has expired.
    pub(super) fn token_is_over(&self, conn: ConnSlot) -> bool {
        let session = self.conns.cold(conn).session;
        session != NONE
            && u64::from(self.sessions.get(session).expires_s) * 1000 <= self.now.unix_ms
    }

    fn live_deadline(&mut self, conn: ConnSlot) {
        let cold = self.conns.cold(conn);
        let silent_ms = wrapping_ms(self.now.tick).wrapping_sub(cold.since_ms);
        if self.token_is_over(conn) {
            self.end(conn, Code::TokenExpired, None); // S-2
        } else if silent_ms >= self.idle_ms() {
            self.end(conn, Code::IdleTimeout, None); // S-4
        } else {
            self.warn_of_expiry(conn);
            self.arm_idle(conn);
        }
    }

    /// Tells a client once that its token ends soon.
    fn warn_of_expiry(&mut self, conn: ConnSlot) {
        let session = self.conns.cold(conn).session;
        if session == NONE || self.sessions.get(session).is_warned() {
            return;
        }
        let session = self.sessions.get_mut(session);
        let left_ms = (u64::from(session.expires_s) * 1000).saturating_sub(self.now.unix_ms);
        if left_ms <= u64::from(EXPIRY_WARNING_S) * 1000 {
            session.warn();
            self.reply(conn, &Body::Expiring(v1::Expiring { in_ms: left_ms as u32 }));
        }
    }
}
