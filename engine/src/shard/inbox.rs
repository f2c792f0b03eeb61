//! Inboxes: connections that take part in stored conversations.
//!
//! Owns who has one, what it still waits for, and the hand-over between a connection's frames and
//! control. A frame about conversations is not understood here: it is passed to control, whose
//! answer is passed back, so a stored message costs the shard a copy each way. What is pushed
//! comes through the mcasts an inbox is in (see [`super::mcasts`]).
//!
//! An inbox opens in this order: the connection joins the user's mcast, whose home confirms the
//! route; control names the user's groups, the connection joins their mcasts, and once those routes
//! are confirmed its frames go to control. So a membership that begins or ends meanwhile is either
//! among the named ones or told along the user's mcast, whatever was committed before the first
//! sync is in that sync, and whatever was committed later is pushed. Where control could not be
//! asked, or lost track of this node, the inbox opens again (see [`super::reopen`]).

use super::Shard;
use super::connections::State;
use super::mcasts::Place;
use super::reopen::Late;
use super::slab::{NONE, Slab};
use super::token::login_key;
use crate::metrics::Figure;
use crate::seam::ConnSlot;
use std::sync::Arc;
use uproar_proto::control::{Ask, Asked, Closed, ConnectionId, Membership, refusal};
use uproar_proto::error::Code;
use uproar_proto::ids::McastId;
use uproar_proto::v1::{self, client_frame, server_frame::Body};
use uproar_proto::wire::{encode_server, error_body};

/// Frames a connection may send before its inbox is open. More: `QUEUE_FULL`.
const WAITING_MAX: usize = 64;
/// Requests of one connection that control has not answered. More: `QUEUE_FULL`.
const ASKED_MAX: u32 = 256;
/// A lost push makes many clients sync: they spread over this long.
pub(super) const RESYNC_SPREAD_MS: u32 = 1_000;

/// How far an inbox has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The home of the user's mcast was told.
    Joining,
    /// Control was asked for the user's groups.
    Asked,
    /// Control could not tell, for this reason. It is asked again.
    Late(Code),
    /// The homes of their mcasts were told.
    Routing,
    /// Its frames go to control.
    Open,
}

/// One connection's.
pub(super) struct Inbox {
    pub(super) conn: ConnSlot,
    pub(super) serial: u64,
    pub(super) user: Arc<str>,
    /// The login that minted its token, where it names one.
    pub(super) login: Option<Arc<str>>,
    pub(super) stage: Stage,
    /// It was open before: its frames go to control in every stage.
    pub(super) was_open: bool,
    /// Pushes may have passed it by: it is told to sync once it is open again.
    pub(super) missed: bool,
    /// Control was asked about another login than its token's now.
    pub(super) stale: bool,
    /// The mcasts it is in.
    pub(super) places: Vec<Place>,
    /// Of them, those whose route is not confirmed.
    pub(super) unrouted: u32,
    pub(super) waiting: Vec<client_frame::Body>,
    /// What it has asked so far.
    number: u32,
    /// Of its frames, those that control has not answered.
    asked: u32,
    /// A send that was refused for want of room: until it is sent again, those behind it are
    /// refused too, so that what was sent first is never stored last.
    awaited: Option<bytes::Bytes>,
    /// A push was dropped because the connection took nothing: it is told once it does.
    lost: bool,
    /// It has sent `watch`: control is told when it is gone.
    watches: bool,
}

/// All of a shard's.
#[derive(Default)]
pub(super) struct Inboxes {
    /// By the number in `Session::inbox`.
    pub(super) records: Slab<Inbox>,
    serial: u64,
    /// Whether there is a control to ask.
    pub(super) served: bool,
    /// Which life of its store control serves; 0: it has not told yet.
    pub(super) generation: u64,
    /// For control, in order.
    asks: Vec<Ask>,
    /// Those that open again.
    pub(super) late: Late,
    /// The number of the last `Tell::Anew`.
    pub(super) anew: u64,
}

impl Inboxes {
    /// Bytes of the table and of what its records own.
    pub(super) fn bytes_used(&self) -> usize {
        let owned = |inbox: &Inbox| inbox.places.capacity() * size_of::<Place>();
        let owned = self.records.iter().map(|(_, i)| owned(i)).sum::<usize>();
        self.records.bytes_used() + owned + self.late.bytes_used()
    }
}

impl Shard {
    /// Control is there, and takes what [`Shard::take_asks`] gives.
    pub fn serve_inboxes(&mut self) {
        self.inboxes.served = true;
    }

    /// What the last turn has to ask of control.
    pub fn take_asks(&mut self) -> Vec<Ask> {
        std::mem::take(&mut self.inboxes.asks)
    }

    /// Control's queue is full.
    pub fn refuse_ask(&mut self, ask: &Ask) {
        match &ask.what {
            Asked::Open { .. } => self.opened(ask.from, Err(Code::QueueFull)),
            Asked::Frame(body) => {
                if let Some(inbox) = self.inbox_of(ask.from) {
                    self.inboxes.records.get_mut(inbox).asked -= 1;
                    self.refuse_frame(ConnSlot(ask.from.conn), body, Code::QueueFull);
                }
            }
        }
    }

    /// The client has asked for its inbox in its first frame.
    pub(super) fn open_inbox(&mut self, conn: ConnSlot, login: Option<Arc<str>>) {
        let session = self.conns.cold(conn).session;
        if session == NONE || !self.inboxes.served {
            let code = if session == NONE { Code::InboxRequired } else { Code::NoStore };
            return self.reply(conn, &error_body(code));
        }
        self.inboxes.serial += 1;
        let serial = self.inboxes.serial;
        let user = self.sessions.get(session).user.clone();
        let inbox = Inbox {
            conn,
            serial,
            user: user.clone(),
            login,
            stage: Stage::Joining,
            was_open: false,
            missed: false,
            stale: false,
            places: Vec::new(),
            unrouted: 0,
            waiting: Vec::new(),
            number: 0,
            asked: 0,
            awaited: None,
            lost: false,
            watches: false,
        };
        let number = self.inboxes.records.insert(inbox);
        self.sessions.get_mut(session).inbox = number;
        self.join_mcast(conn, number, McastId::user(&user), 0);
        self.ask_if_joined(number);
    }

    /// Asks control, once what happens to the user's memberships from now on arrives here.
    fn ask_if_joined(&mut self, inbox: u32) {
        let record = self.inboxes.records.get(inbox);
        if record.stage == Stage::Joining && record.unrouted == 0 {
            self.ask_for_groups(inbox);
        }
    }

    /// Asks control which groups the user is in.
    pub(super) fn ask_for_groups(&mut self, inbox: u32) {
        let record = self.inboxes.records.get_mut(inbox);
        (record.stage, record.stale) = (Stage::Asked, false);
        let login = record.login.clone();
        self.ask(inbox, Asked::Open { login });
    }

    fn ask(&mut self, inbox: u32, what: Asked) {
        let from = self.connection_id(inbox);
        let record = self.inboxes.records.get_mut(inbox);
        record.number = record.number.wrapping_add(1);
        let (number, user) = (record.number, record.user.clone());
        self.inboxes.asks.push(Ask { from, number, user, what });
    }

    /// How control knows the connection of an inbox; the node is control's to say.
    fn connection_id(&self, inbox: u32) -> ConnectionId {
        let record = self.inboxes.records.get(inbox);
        let (conn, serial) = (record.conn.0, record.serial);
        ConnectionId { node: 0, shard: self.id.0, conn, serial }
    }

    /// The inbox of a connection, where it has one.
    pub(super) fn inbox_at(&self, conn: ConnSlot) -> Option<u32> {
        let session = self.conns.cold(conn).session;
        let inbox = (session != NONE).then(|| self.sessions.get(session).inbox)?;
        (inbox != NONE).then_some(inbox)
    }

    /// The inbox control speaks of, where that very connection still has it.
    fn inbox_of(&self, to: ConnectionId) -> Option<u32> {
        let conn = ConnSlot(to.conn);
        if to.conn as usize >= self.conns.slots() || self.conns.hot(conn).state != State::Live {
            return None;
        }
        self.inbox_at(conn).filter(|inbox| self.inboxes.records.get(*inbox).serial == to.serial)
    }

    /// Control has named the user's groups.
    pub(super) fn opened(&mut self, to: ConnectionId, groups: Result<Vec<Membership>, Code>) {
        let Some(inbox) = self.inbox_of(to) else { return };
        let conn = ConnSlot(to.conn);
        match groups {
            Err(code) if code.retry() => self.open_late(inbox, code),
            _ if self.inboxes.records.get(inbox).stale => self.ask_for_groups(inbox),
            Err(code) => self.end(conn, code, None),
            Ok(groups) => {
                for Membership { group, since_seq } in groups {
                    self.join_mcast(conn, inbox, McastId::group(&group), since_seq);
                }
                self.inboxes.records.get_mut(inbox).stage = Stage::Routing;
                self.begin_if_routed(conn, inbox);
            }
        }
    }

    /// A route was confirmed.
    pub(super) fn route_confirmed(&mut self, conn: ConnSlot) {
        let Some(inbox) = self.inbox_at(conn) else { return };
        let record = self.inboxes.records.get_mut(inbox);
        record.unrouted -= 1;
        match record.stage {
            Stage::Joining => self.ask_if_joined(inbox),
            Stage::Asked | Stage::Late(_) => {}
            Stage::Routing => self.begin_if_routed(conn, inbox),
            // It became a member of a group meanwhile: what was pushed before the route stood is
            // found by a sync.
            Stage::Open => self.tell_resync(conn, 0),
        }
    }

    /// A membership has begun. Where a route is not confirmed yet, the confirmation tells.
    pub(super) fn sync_if_routed(&mut self, conn: ConnSlot, inbox: u32) {
        let record = self.inboxes.records.get_mut(inbox);
        if record.stage == Stage::Open && record.unrouted == 0 {
            self.tell_resync(conn, 0);
        } else if record.stage != Stage::Open {
            record.missed = record.was_open;
        }
    }

    fn begin_if_routed(&mut self, conn: ConnSlot, inbox: u32) {
        let record = self.inboxes.records.get_mut(inbox);
        if record.stage != Stage::Routing || record.unrouted > 0 {
            return;
        }
        record.stage = Stage::Open;
        let missed = std::mem::take(&mut record.missed);
        if !std::mem::replace(&mut record.was_open, true) {
            self.metrics.add(Figure::InboxesOpened, 1);
            for body in std::mem::take(&mut record.waiting) {
                self.forward(conn, inbox, body);
            }
        }
        if missed {
            self.tell_resync(conn, RESYNC_SPREAD_MS);
        }
    }

    /// A frame about conversations.
    pub(super) fn inbox_frame(&mut self, conn: ConnSlot, body: client_frame::Body) {
        let Some(inbox) = self.inbox_at(conn) else {
            let code = if self.inboxes.served { Code::InboxRequired } else { Code::NoStore };
            return self.refuse_frame(conn, &body, code);
        };
        if self.token_is_over(conn) {
            // The wheel is coarse: nothing is stored under a token that is over.
            return self.end(conn, Code::TokenExpired, None);
        }
        let record = self.inboxes.records.get_mut(inbox);
        if let (client_frame::Body::Send(send), Some(awaited)) = (&body, &record.awaited) {
            if send.client_msg_id != awaited {
                return self.refuse_frame(conn, &body, Code::QueueFull);
            }
            record.awaited = None;
        }
        match record.stage {
            _ if record.was_open => self.forward(conn, inbox, body),
            Stage::Late(code) => self.refuse_frame(conn, &body, code),
            _ if record.waiting.len() < WAITING_MAX => record.waiting.push(body),
            _ => self.refuse_frame(conn, &body, Code::QueueFull),
        }
    }

    fn forward(&mut self, conn: ConnSlot, inbox: u32, body: client_frame::Body) {
        let record = self.inboxes.records.get_mut(inbox);
        if record.asked >= ASKED_MAX {
            return self.refuse_frame(conn, &body, Code::QueueFull);
        }
        record.asked += 1;
        record.watches |= matches!(body, client_frame::Body::Watch(_));
        self.metrics.add(Figure::Asked, 1);
        self.ask(inbox, Asked::Frame(body));
    }

    pub(super) fn refuse_frame(&mut self, conn: ConnSlot, body: &client_frame::Body, code: Code) {
        if self.conns.hot(conn).state != State::Live {
            return;
        }
        if let (client_frame::Body::Send(send), Some(inbox)) = (body, self.inbox_at(conn))
            && code.retry()
        {
            let record = self.inboxes.records.get_mut(inbox);
            record.awaited.get_or_insert_with(|| send.client_msg_id.clone());
        }
        self.reply(conn, &refusal(body, code));
    }

    /// Control's answer to one frame.
    pub(super) fn answered(&mut self, to: ConnectionId, frames: &[Body]) {
        let Some(inbox) = self.inbox_of(to) else { return };
        self.inboxes.records.get_mut(inbox).asked -= 1;
        let conn = ConnSlot(to.conn);
        for frame in frames {
            self.reply(conn, frame);
        }
    }

    /// What control shows one connection.
    pub(super) fn shown(&mut self, to: ConnectionId, frame: &Body) {
        if let Body::Reported(_) = frame {
            return self.reported(to, frame);
        }
        let Some(inbox) = self.inbox_of(to) else { return };
        let conn = ConnSlot(to.conn);
        let mut bytes = Vec::new();
        encode_server(frame, self.conns.hot(conn).variant, &mut bytes);
        self.push_bytes(conn, inbox, &bytes);
    }

    /// Hands a pushed frame to a connection, or remembers that it was dropped: a device that takes
    /// nothing is told to sync later, it does not lose its connection for what others wrote.
    pub(super) fn push_bytes(&mut self, conn: ConnSlot, inbox: u32, bytes: &[u8]) {
        let number = self.conns.cold(conn).outgoing;
        let owed = if number == NONE { 0 } else { self.lag.records.get(number).replies.len() };
        if owed > 0 && owed + bytes.len() > self.config.reply_bytes_max as usize / 2 {
            self.inboxes.records.get_mut(inbox).lost = true;
            self.metrics.add(Figure::PushesLost, 1);
            return;
        }
        self.metrics.add(Figure::Pushed, 1);
        self.reply_bytes(conn, bytes);
    }

    /// A connection has taken all it was owed.
    pub(super) fn tell_lost(&mut self, conn: ConnSlot) {
        if let Some(inbox) = self.inbox_at(conn)
            && std::mem::take(&mut self.inboxes.records.get_mut(inbox).lost)
        {
            self.tell_resync(conn, RESYNC_SPREAD_MS);
        }
    }

    /// Pushes were lost: the device is to sync.
    pub(super) fn tell_resync(&mut self, conn: ConnSlot, spread_ms: u32) {
        self.metrics.add(Figure::Resyncs, 1);
        let generation = self.inboxes.generation;
        self.reply(conn, &Body::Resync(v1::Resync { spread_ms, generation }));
    }

    /// The connection ends, or its session does.
    pub(super) fn leave_inbox(&mut self, conn: ConnSlot) {
        let Some(number) = self.inbox_at(conn) else { return };
        while let Some(place) = self.inboxes.records.get(number).places.last().copied() {
            self.leave_mcast(conn, number, place);
        }
        let from = self.connection_id(number);
        let record = self.inboxes.records.remove(number);
        if record.watches {
            self.note_ended(from);
        }
        let session = self.conns.cold(conn).session;
        self.sessions.get_mut(session).inbox = NONE;
    }

    /// Closes the connections of a user or of a login.
    pub(super) fn close_all_of(&mut self, of: &Closed, code: Code) {
        let login = match of {
            Closed::User(_) => None,
            Closed::Session(login) => Some(login_key(self.seed, login)),
        };
        for slot in 0..self.conns.slots() {
            let conn = ConnSlot(slot as u32);
            let session = self.conns.cold(conn).session;
            if session == NONE || self.conns.hot(conn).state != State::Live {
                continue;
            }
            let session = self.sessions.get(session);
            let is_meant = match of {
                Closed::User(user) => *session.user == **user,
                Closed::Session(_) => session.login == login,
            };
            if is_meant {
                self.end(conn, code, None);
            }
        }
    }
}
