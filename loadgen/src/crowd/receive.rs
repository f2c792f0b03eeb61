//! What the server said, handed to whom it concerns.
//!
//! Owns the dispatch of frames. Never sends but what a frame demands at once (a pong).

use super::Crowd;
use super::link::{Role, Stage};
use crate::recent::Frame;
use crate::viewer::Place;
use std::rc::Rc;
use uproar_proto::error::Code;
use uproar_proto::v1::{self, server_frame::Body};

/// The table's word for a number.
pub(crate) fn code_name(number: u32) -> String {
    Code::from_number(number)
        .map_or_else(|| format!("code {number}"), |code| code.name().to_owned())
}

impl Crowd {
    /// Bytes of a connection.
    pub(super) fn received(&mut self, conn: u32, bytes: &[u8]) {
        let link = &mut self.links[conn as usize];
        link.reading = false;
        match link.stage {
            Stage::Upgrading => self.upgrading(conn, bytes),
            stage if stage.speaks() => self.frames_came(conn, bytes),
            // On its way out: nothing it says counts any more.
            _ => return,
        }
        if self.role(conn) == Role::Frozen && !self.frozen {
            self.to_read.push_back(conn);
        }
    }

    fn frames_came(&mut self, conn: u32, bytes: &[u8]) {
        let link = &mut self.links[conn as usize];
        let frames = match self.reader.read(bytes, &mut link.partial) {
            Ok(frames) => frames,
            Err(code) => {
                self.result.tally.unexpected(&format!("undecodable: {}", code.name()));
                return self.end(
                    conn,
                    &format!("the server sent what cannot be decoded: {}", code.name()),
                );
            }
        };
        for frame in frames.iter() {
            // An earlier frame may have ended it.
            if !self.links[conn as usize].stage.speaks() {
                return;
            }
            match frame {
                Frame::Batch(batch) => {
                    let fresh = batch.waiting.get() == 0;
                    let viewer = &mut self.links[conn as usize].viewer;
                    viewer.batch(batch, self.now, &mut self.result.tally);
                    if fresh && batch.waiting.get() > 0 {
                        self.touched.push(Rc::clone(batch));
                    }
                }
                Frame::Body(body) => self.body(conn, body),
                Frame::Ping(payload) => self.answer_ping(conn, payload),
                Frame::Close(code) => {
                    let code = code.map_or("without a code".to_owned(), |code| code.to_string());
                    self.reasons.entry(conn).or_insert_with(|| format!("WebSocket close {code}"));
                }
            }
        }
    }

    /// A WebSocket pong with a mask of zeros: the same bytes, which any server accepts.
    fn answer_ping(&mut self, conn: u32, payload: &[u8]) {
        let length = u8::try_from(payload.len()).unwrap_or(125);
        let mut pong = vec![0x8a, 0x80 | length, 0, 0, 0, 0];
        pong.extend_from_slice(payload);
        self.out.own(conn, pong);
    }

    fn body(&mut self, conn: u32, body: &Body) {
        match body {
            Body::Welcome(welcome) => self.welcome(conn, welcome),
            Body::Joined(joined) => self.joined(conn, joined),
            Body::Gap(gap) => self.links[conn as usize].viewer.gap(gap, &mut self.result.tally),
            Body::Count(count) => {
                if count.room == self.plan.room.as_str() {
                    self.likes = self.likes.max(count.likes);
                }
            }
            Body::Verdicts(verdicts) => {
                for verdict in &verdicts.verdicts {
                    self.publishers.verdict(verdict, self.now);
                }
            }
            Body::Error(error) => self.error(conn, error),
            Body::Reconnect(reconnect) => self.reconnect(conn, reconnect.spread_ms),
            Body::Pong(_) => {
                let link = &mut self.links[conn as usize];
                if std::mem::take(&mut link.awaits_pong) {
                    self.result.pongs += 1;
                } else {
                    self.result.tally.unexpected("pong without a ping");
                }
            }
            Body::Left(left) => self.left(conn, left),
            // The reader makes batches its own.
            Body::Batch(_) => {}
            // The token of a long run ends soon: the session ends with it, and that is counted.
            Body::Expiring(_) => {}
            // What the room shows beside its messages is whole in each: no account of it is kept.
            Body::Recalled(_)
            | Body::Attributes(_)
            | Body::Pinned(_)
            | Body::Poll(_)
            | Body::Entered(_)
            | Body::Announced(_) => {}
            // Nobody here has an inbox.
            _ => self.result.tally.unexpected("a frame about conversations"),
        }
    }

    fn welcome(&mut self, conn: u32, welcome: &v1::Welcome) {
        self.ping_every_s = welcome.ping_every_s;
        self.ping_later(conn);
    }

    fn joined(&mut self, conn: u32, joined: &v1::Joined) {
        let items = self.reader.items(joined.epoch, &joined.messages);
        let link = &mut self.links[conn as usize];
        link.viewer.joined(joined, &items, self.now, &mut self.result.tally);
        self.likes = self.likes.max(Some(joined.likes));
        if link.stage == Stage::Open {
            self.result.joins += 1;
            self.result.join_us.saturating_record(self.now.since_us(link.since).max(1));
        } else {
            self.arrived(conn);
        }
    }

    fn left(&mut self, conn: u32, left: &v1::Left) {
        let link = &mut self.links[conn as usize];
        if link.viewer.place == Place::Leaving && left.code == 0 {
            self.result.leaves += 1;
        } else {
            self.result.tally.unexpected(&format!("left: {}", code_name(left.code)));
        }
        link.viewer.out();
    }

    fn error(&mut self, conn: u32, error: &v1::Error) {
        *self.result.errors.entry(error.code).or_default() += 1;
        let name = code_name(error.code);
        if !error.client_msg_id.is_empty() {
            return self.publishers.refused(&error.client_msg_id, error.code);
        }
        let link = &mut self.links[conn as usize];
        if link.stage == Stage::Greeting && !error.retry && !link.away {
            link.tries = u8::MAX; // the same greeting would get the same answer
        }
        if link.stage == Stage::Greeting && !error.room.is_empty() {
            // The join was refused; the connection would stay, of no use.
            return self.end(conn, &format!("{name}: {}", error.text));
        }
        if link.viewer.place == Place::Joining {
            link.viewer.out();
        }
        // Where the connection ends now, this is why.
        self.reasons.insert(conn, name);
    }
}
