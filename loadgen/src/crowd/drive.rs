//! What is due by time alone: messages, joins and leaves, pings, freezing, coming back.
//!
//! Owns the clockwork of a turn. Everything here is an open loop: it is done when it is due, and
//! how late that was is recorded, since a tester that lags measures itself.

use super::Crowd;
use super::dial::mask;
use super::link::{Role, Stage};
use super::publish::{Due, write_id};
use super::wheel::Wheel;
use crate::payload::{self, Stamp};
use crate::viewer::Place;
use std::cmp::Reverse;
use uproar_engine::seam::Tick;
use uproar_proto::v1::{self, client_frame::Body, publish::Content};
use uproar_proto::wire::encode_client;

/// Where a server does not say how often to ping.
const PING_EVERY_S: u32 = 60;

impl Crowd {
    /// One turn's work by the clock.
    pub(super) fn drive(&mut self) {
        while let Some(due) = self.publishers.take(self.now) {
            self.note_lag(due.at);
            self.publish(&due);
        }
        while let Some((number, at)) = self.churn.take(self.now) {
            self.note_lag(at);
            self.churn(number);
        }
        while let Some((number, at)) = self.pass.take(self.now) {
            self.note_lag(at);
            let heads = &self.part.heads;
            let first = heads.total() - heads.passers;
            self.pass(first + (number % u64::from(heads.passers)) as u32);
        }
        while let Some(&Reverse((at, conn))) = self.again.peek()
            && at <= self.now
        {
            self.again.pop();
            self.dial.push_back(conn);
        }
        self.turn_wheel();
        self.freeze();
        self.check_deadlines();
    }

    /// When the next turn is wanted.
    pub(super) fn wakeup(&self) -> Tick {
        if self.out.waiting() || !self.to_close.is_empty() || !self.to_read.is_empty() {
            return Tick(0);
        }
        let again = self.again.peek().map_or(Tick::NEVER, |Reverse((at, _))| *at);
        let wheel = self.wheel.as_ref().map_or(Tick::NEVER, Wheel::due);
        [
            self.publishers.due(),
            self.churn.due(),
            self.pass.due(),
            self.connect_due(),
            self.deadline_due(),
            again,
            wheel,
        ]
        .into_iter()
        .min()
        .unwrap_or(Tick::NEVER)
    }

    fn note_lag(&mut self, due: Tick) {
        if self.measuring() {
            self.result.timer_lag_us.saturating_record(self.now.since_us(due).max(1));
        }
    }

    fn send(&mut self, conn: u32, body: Body) {
        let mut bytes = Vec::new();
        encode_client(&body, self.plan.variant, mask(&mut self.dice), &mut bytes);
        self.out.own(conn, bytes);
    }

    fn publish(&mut self, due: &Due) {
        let conn = due.publisher; // publishers are the first connections of the first thread
        let link = &self.links[conn as usize];
        if link.stage != Stage::Open || link.viewer.place != Place::In {
            self.publishers.books.unsent += 1;
            return;
        }
        let like = due.class == v1::Class::Like;
        let stamp = Stamp {
            run: self.plan.run,
            publisher: due.publisher,
            number: due.number,
            measured: due.measured,
            due: due.at,
        };
        let text = || Content::Text(payload::write(&stamp, self.plan.payload_bytes));
        let publish = v1::Publish {
            room: self.plan.room.to_string(),
            class: due.class as i32,
            client_msg_id: write_id(due.publisher, due.number).to_vec().into(),
            content: (!like).then(text),
            count: u32::from(like),
            ..v1::Publish::default()
        };
        self.send(conn, Body::Publish(publish));
        self.publishers.offered(due, self.now);
    }

    /// A churner that is in the room leaves it; one that is out joins it again, with its cursor, so
    /// that its stream can be checked across the absence.
    fn churn(&mut self, number: u64) {
        self.result.churn_due += 1;
        let heads = &self.part.heads;
        let first = heads.publishers + heads.viewers + heads.frozen;
        let conn = first + (number % u64::from(heads.churners)) as u32;
        let room = self.plan.room.to_string();
        let link = &mut self.links[conn as usize];
        match (link.stage, link.viewer.place) {
            (Stage::Open, Place::In) => {
                link.viewer.place = Place::Leaving;
                self.send(conn, Body::Leave(v1::Leave { room }));
            }
            (Stage::Open, Place::Out) => {
                let resume = link.viewer.cursor();
                link.viewer.join(resume.is_some());
                link.since = self.now;
                self.send(conn, Body::Join(v1::Join { room, resume }));
            }
            _ => self.result.churn_busy += 1,
        }
    }

    /// Sets a connection's next ping, 0.8 to 1.2 times the interval from now.
    pub(super) fn ping_later(&mut self, conn: u32) {
        let every_s = if self.ping_every_s == 0 { PING_EVERY_S } else { self.ping_every_s };
        let wait_us = (f64::from(every_s) * 1e6 * (0.8 + 0.4 * self.dice.share())) as u64;
        let now = self.now;
        let wheel = self.wheel.get_or_insert_with(|| Wheel::new(now));
        self.links[conn as usize].ping_step = wheel.put(conn, Tick(now.0 + wait_us));
    }

    fn turn_wheel(&mut self) {
        loop {
            let Some(wheel) = &mut self.wheel else { return };
            let at = wheel.due();
            let Some((step, due)) = wheel.take(self.now) else { return };
            self.note_lag(at);
            for conn in due {
                let link = &self.links[conn as usize];
                if link.ping_step == step && link.stage == Stage::Open {
                    self.ping(conn);
                }
            }
        }
    }

    fn ping(&mut self, conn: u32) {
        // One that does not read cannot see its pong.
        let hears = self.role(conn) != Role::Frozen;
        let link = &mut self.links[conn as usize];
        if link.awaits_pong && hears {
            self.result.pings_missed += 1;
        } else if !link.awaits_pong {
            link.awaits_pong = true;
            self.result.pings += 1;
            self.out.shared(conn, self.common.ping);
        }
        self.ping_later(conn);
    }

    /// Frozen viewers stop reading and go on again.
    fn freeze(&mut self) {
        let (Some((from, to)), Some(window)) = (self.plan.freeze_us(), self.window) else { return };
        let frozen = (window.measured.0 + from..window.measured.0 + to).contains(&self.now.0);
        if std::mem::replace(&mut self.frozen, frozen) && !frozen {
            let heads = &self.part.heads;
            let first = heads.publishers + heads.viewers;
            for conn in first..first + heads.frozen {
                if self.links[conn as usize].stage == Stage::Open {
                    self.to_read.push_back(conn);
                }
            }
        }
    }
}
