//! Connecting, greeting, losing and coming back.
//!
//! Owns the way from nothing to the room and every end of it. Never touches the stream of a room
//! that was joined.

use super::link::{Role, Stage};
use super::outgoing::Outgoing;
use super::{Common, Crowd};
use crate::dice::Dice;
use crate::outcome::blame;
use crate::plan::{Plan, Scenario};
use bytes::Bytes;
use std::cmp::Reverse;
use std::io;
use uproar_engine::seam::{Action, Actions, ConnSlot, Tick};
use uproar_proto::v1::{self, client_frame::Body};
use uproar_proto::wire::opening::{SUBPROTOCOL_JSON, SUBPROTOCOL_PROTO, TCP_MAGIC};
use uproar_proto::wire::{Variant, encode_client, upgrade_reply, upgrade_request};

/// Connects of one thread that are not in the room yet: enough to keep a server busy, few enough
/// that each is answered well before its deadline.
const UNDER_WAY_MAX: u32 = 256;
/// Connects begun in one turn: each is a few system calls, and answers wait meanwhile.
const CONNECTS_PER_TURN_MAX: usize = 64;
/// Connect, upgrade, greet and join; the server's own deadline for the first three is 5 s.
const HANDSHAKE_MS: u64 = 15_000;
/// Connects that fail in a row before a connection is given up (coming back is never given up).
const TRIES_MAX: u8 = 5;
/// Names this client in the server's logs.
const AGENT: &str = concat!("uproar-loadgen/", env!("CARGO_PKG_VERSION"));

/// Frames that many connections send. One mask serves them all: it hides nothing on loopback.
pub(super) fn common_frames(
    plan: &Plan,
    out: &mut Outgoing,
    dice: &mut Dice,
    nonce: [u8; 16],
) -> Common {
    let mask = mask(dice);
    let mut insert = |bytes: Vec<u8>| out.frames.insert(Bytes::from(bytes));
    let mut ping = Vec::new();
    encode_client(&Body::Ping(v1::Ping {}), plan.variant, mask, &mut ping);
    let upgrade = plan.variant.is_websocket().then(|| {
        let name = if plan.variant.is_json() { SUBPROTOCOL_JSON } else { SUBPROTOCOL_PROTO };
        upgrade_request(&plan.target.to_string(), "/", Some(name), false, nonce)
    });
    Common {
        ping: insert(ping),
        upgrade: upgrade.map(&mut insert),
        hello: insert(hello(plan, "", None, mask)),
    }
}

/// A mask for one frame.
pub(super) fn mask(dice: &mut Dice) -> [u8; 4] {
    ((dice.next() >> 32) as u32).to_be_bytes()
}

fn hello(plan: &Plan, token: &str, resume: Option<v1::Cursor>, mask: [u8; 4]) -> Vec<u8> {
    let mut bytes = Vec::new();
    if plan.variant == Variant::Tcp {
        bytes.extend_from_slice(&TCP_MAGIC);
    }
    let connect = v1::Connect {
        token: token.to_owned(),
        device: String::new(),
        join: vec![v1::Join { room: plan.room.to_string(), resume }],
        agent: AGENT.to_owned(),
        inbox: false,
    };
    encode_client(&Body::Connect(connect), plan.variant, mask, &mut bytes);
    bytes
}

impl Crowd {
    /// Whether a connect may begin, and when.
    pub(super) fn connect_due(&self) -> Tick {
        if self.under_way >= UNDER_WAY_MAX {
            return Tick::NEVER;
        }
        if !self.dial.is_empty() {
            return Tick(0);
        }
        if self.connecting && (self.fresh as usize) < self.links.len() {
            return self.ramp.due();
        }
        Tick::NEVER
    }

    /// Begins as many connects as may be.
    pub(super) fn connect_some(&mut self, actions: &mut Actions) {
        for _ in 0..CONNECTS_PER_TURN_MAX.min(actions.room()) {
            if self.connect_due() > self.now {
                break;
            }
            let conn = self.dial.pop_front().unwrap_or_else(|| {
                self.ramp.begin();
                self.fresh += 1;
                self.fresh - 1
            });
            self.under_way += 1;
            let role = self.role(conn);
            let link = &mut self.links[conn as usize];
            link.stage = Stage::Dialing;
            link.attempts += 1;
            link.reading = false;
            if !link.away {
                link.since = self.now;
            }
            self.deadlines.push_back((self.now.after_ms(HANDSHAKE_MS), conn, link.attempts));
            self.result.first_begun = self.result.first_begun.min(self.now);
            actions.push(Action::Connect {
                conn: ConnSlot(conn),
                source: self.plan.source(self.part.first + conn),
                target: 0,
                manual_read: role == Role::Frozen,
            });
        }
    }

    /// Ends what has not come into the room in time.
    pub(super) fn check_deadlines(&mut self) {
        while let Some(&(at, conn, attempt)) = self.deadlines.front() {
            let link = &self.links[conn as usize];
            let current = link.attempts == attempt && link.stage.under_way();
            if current && at > self.now {
                break;
            }
            self.deadlines.pop_front();
            if current {
                let what = match link.stage {
                    Stage::Dialing => "no answer to the connect within 15 s",
                    Stage::Upgrading => "no answer to the upgrade within 15 s",
                    _ => "not in the room within 15 s",
                };
                self.end(conn, what);
            }
        }
    }

    /// When the next of them is due.
    pub(super) fn deadline_due(&self) -> Tick {
        self.deadlines.front().map_or(Tick::NEVER, |d| d.0)
    }

    pub(super) fn connected(&mut self, conn: u32, errno: i32) {
        if errno != 0 {
            let error = io::Error::from_raw_os_error(errno);
            let what = match errno {
                libc_errno::EADDRNOTAVAIL | libc_errno::EADDRINUSE => "ports",
                libc_errno::EMFILE | libc_errno::ENFILE => "open files",
                libc_errno::ENOBUFS | libc_errno::ENOMEM => "memory",
                _ => "",
            };
            if !what.is_empty() {
                blame(&mut self.result.exhausted, what);
            }
            // The driver closes it by itself.
            return self.ended(conn, &format!("connect: {error}"));
        }
        if self.role(conn) == Role::Frozen {
            self.to_read.push_back(conn);
        }
        match self.common.upgrade {
            Some(upgrade) => {
                self.links[conn as usize].stage = Stage::Upgrading;
                self.out.shared(conn, upgrade);
            }
            None => self.greet(conn),
        }
    }

    /// The answer to an upgrade, so far.
    pub(super) fn upgrading(&mut self, conn: u32, bytes: &[u8]) {
        let mut head = self.heads.remove(&conn).unwrap_or_default();
        head.extend_from_slice(bytes);
        match upgrade_reply(&head, self.nonce) {
            Ok(None) => {
                self.heads.insert(conn, head);
            }
            Ok(Some((consumed, variant))) if variant == self.plan.variant => {
                self.greet(conn);
                if consumed < head.len() {
                    self.received(conn, &head[consumed..]);
                }
            }
            Ok(Some((_, variant))) => {
                self.end(conn, &format!("the server chose {variant:?}, which was not asked for"));
            }
            Err(why) => self.end(conn, &why),
        }
    }

    fn greet(&mut self, conn: u32) {
        let role = self.role(conn);
        let comes_back = self.plan.scenario == Scenario::Storm;
        let link = &mut self.links[conn as usize];
        let resume = link.viewer.cursor().filter(|_| comes_back);
        link.stage = Stage::Greeting;
        link.viewer.join(resume.is_some());
        let number = self.part.first + conn;
        let token = match role {
            Role::Publisher => self.tokens.publisher(number),
            _ => self.tokens.viewer(number),
        };
        if token.is_empty() && resume.is_none() {
            self.out.shared(conn, self.common.hello);
        } else {
            let bytes = hello(&self.plan, token, resume, mask(&mut self.dice));
            self.out.own(conn, bytes);
        }
    }

    /// The connection is in the room.
    pub(super) fn arrived(&mut self, conn: u32) {
        let role = self.role(conn);
        let link = &mut self.links[conn as usize];
        if link.stage != Stage::Greeting {
            return;
        }
        self.under_way -= 1;
        self.reasons.remove(&conn);
        link.stage = Stage::Open;
        link.tries = 0;
        let took = self.now.since_us(link.since).max(1);
        if link.away {
            link.away = false;
            self.back += 1;
            self.result.away_us.saturating_record(took);
            self.result.last_back = self.now;
        } else {
            self.result.connect_us.saturating_record(took);
        }
        if !link.was_in {
            link.was_in = true;
            self.result.established += 1;
            self.result.viewers_established += u64::from(role == Role::Viewer);
            self.result.last_joined = self.now;
        }
    }

    pub(super) fn eof(&mut self, conn: u32, errno: i32) {
        let why = match (self.reasons.remove(&conn), errno) {
            (Some(reason), _) => reason,
            (None, 0) => "closed by the server without a word".to_owned(),
            (None, errno) => io::Error::from_raw_os_error(errno).to_string(),
        };
        self.end(conn, &why);
    }

    /// Ends a connection: closes it, and works out what follows.
    pub(super) fn end(&mut self, conn: u32, why: &str) {
        let stage = self.links[conn as usize].stage;
        if stage.under_way() || stage == Stage::Open {
            self.to_close.push_back(conn);
            self.ended(conn, why);
        }
    }

    fn ended(&mut self, conn: u32, why: &str) {
        let role = self.role(conn);
        self.out.forget(conn);
        self.heads.remove(&conn);
        self.reasons.remove(&conn);
        let again_ms = self.again_ms(conn);
        let link = &mut self.links[conn as usize];
        link.partial = None;
        link.awaits_pong = false;
        link.viewer.out();
        let stage = std::mem::replace(&mut link.stage, Stage::Closing);
        let comes_back = self.plan.scenario == Scenario::Storm;
        if stage == Stage::Open {
            blame(&mut self.result.losses, why);
            self.result.lost += 1;
            self.result.first_lost = self.result.first_lost.min(self.now);
            link.away = true;
            link.since = self.now;
            link.again = if comes_back { self.now.after_ms(again_ms) } else { Tick::NEVER };
            if role == Role::Publisher {
                self.publishers.lost(conn);
            }
            return;
        }
        self.under_way -= 1;
        blame(&mut self.result.failures, why);
        link.tries = link.tries.saturating_add(1);
        if link.tries < TRIES_MAX || link.away {
            link.again = self.now.after_ms(again_ms);
        } else {
            link.again = Tick::NEVER;
            self.result.failed += 1;
        }
    }

    /// How long to wait before the next try: doubled each time up to about 3 s, and spread.
    fn again_ms(&mut self, conn: u32) -> u64 {
        let base = 100u64 << self.links[conn as usize].tries.min(5);
        base / 2 + self.dice.below(base)
    }

    /// The server asks to go and come back within `spread_ms`.
    pub(super) fn reconnect(&mut self, conn: u32, spread_ms: u32) {
        self.result.asked_to_reconnect += 1;
        let wait = self.dice.below(u64::from(spread_ms) + 1);
        self.end(conn, "the server asked to reconnect");
        let link = &mut self.links[conn as usize];
        if self.plan.scenario == Scenario::Storm && link.stage == Stage::Closing {
            link.again = self.now.after_ms(wait);
        }
    }

    /// A passer goes, to come back at once.
    pub(super) fn pass(&mut self, conn: u32) {
        self.result.passes_due += 1;
        let link = &mut self.links[conn as usize];
        if link.stage != Stage::Open {
            return;
        }
        self.result.passes += 1;
        link.stage = Stage::Closing;
        link.again = self.now;
        link.partial = None;
        link.awaits_pong = false;
        link.viewer.out();
        self.out.forget(conn);
        self.to_close.push_back(conn);
    }

    pub(super) fn closed(&mut self, conn: u32) {
        let link = &mut self.links[conn as usize];
        debug_assert_eq!(link.stage, Stage::Closing, "a connection closes after it ended");
        if link.again == Tick::NEVER {
            link.stage = Stage::Failed;
        } else {
            link.stage = Stage::Idle;
            self.again.push(Reverse((link.again, conn)));
        }
    }
}

/// Error numbers of Linux, the same on all its architectures that this runs on.
mod libc_errno {
    pub(super) const ENOMEM: i32 = 12;
    pub(super) const ENFILE: i32 = 23;
    pub(super) const EMFILE: i32 = 24;
    pub(super) const EADDRINUSE: i32 = 98;
    pub(super) const EADDRNOTAVAIL: i32 = 99;
    pub(super) const ENOBUFS: i32 = 105;
}
