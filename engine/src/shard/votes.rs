//! Answers to polls, from the connections of this shard to the home and back.
//!
//! Owns ballots until they cross: many at once, at the end of a window, as likes do. Whether one
//! counts is the home's to say; the shard refuses at once what it knows to be no answer.

use super::Shard;
use super::message::Message;
use super::slab::NONE;
use crate::config::Rooms;
use crate::metrics::Figure;
use crate::router::{Ballot, ShardId};
use crate::seam::{ConnSlot, Tick};
use uproar_proto::error::Code;
use uproar_proto::ids::RoomId;
use uproar_proto::v1::{self, server_frame::Body};

/// Ballots that cross at once (256 KiB), whether or not their window has ended.
const BALLOTS_MAX: usize = 16 * 1024;
/// When a client may answer again that found a queue full.
const RETRY_MS: u32 = 250;

/// Ballots of one room that wait for the end of the window.
pub(super) struct Votes {
    window_us: u64,
    due: Tick,
    waiting: Vec<(u32, Ballot)>,
}

impl Votes {
    pub(super) fn new(rules: &Rooms) -> Votes {
        let window_us = u64::from(rules.admission_ms) * 1_000;
        Votes { window_us, due: Tick::NEVER, waiting: Vec::new() }
    }

    /// Takes one in; true where they are to cross now.
    fn add(&mut self, poll: u32, ballot: Ballot, now: Tick) -> bool {
        if self.waiting.is_empty() {
            self.due = Tick((now.0 / self.window_us + 1) * self.window_us);
        }
        self.waiting.push((poll, ballot));
        self.waiting.len() >= BALLOTS_MAX
    }

    /// When they are to cross; `NEVER` where there are none.
    pub(super) fn next_due(&self) -> Tick {
        self.due
    }

    /// All of them, by poll.
    pub(super) fn take(&mut self) -> Vec<(u32, Vec<Ballot>)> {
        self.due = Tick::NEVER;
        let mut polls: Vec<(u32, Vec<Ballot>)> = Vec::new();
        for (poll, ballot) in self.waiting.drain(..) {
            match polls.iter_mut().find(|(known, _)| *known == poll) {
                Some((_, ballots)) => ballots.push(ballot),
                None => polls.push((poll, vec![ballot])),
            }
        }
        polls
    }
}

impl Shard {
    /// A client answers a poll.
    pub(super) fn vote(&mut self, conn: ConnSlot, vote: &v1::Vote) {
        let number = self.rooms.by_name.get(vote.room.as_str()).copied();
        let mine = self.memberships_of(conn);
        let Some(number) = number.filter(|number| mine.iter().any(|m| m.room == *number)) else {
            return self.room_error(conn, &vote.room, Code::NotMember);
        };
        self.metrics.add(Figure::VotesIn, 1);
        let key = self.sender_key(conn);
        let guest = self.conns.cold(conn).session == NONE;
        let (now, generation) = (self.now, self.conns.hot(conn).generation);
        let is_banned = self.is_banned(conn, number);
        let room = self.rooms.slab.get_mut(number);
        let option = u8::try_from(vote.option).unwrap_or(u8::MAX);
        let refusal = match room.state.known_poll(vote.poll) {
            _ if guest && !room.settings.guests_publish => Some(Code::Forbidden),
            _ if is_banned => Some(Code::Banned),
            None => Some(Code::PollOver),
            Some(poll) if poll.over || poll.ends_ms <= now.unix_ms => Some(Code::PollOver),
            Some(poll) if usize::from(option) >= poll.votes.len() => Some(Code::BadRequest),
            Some(_) => None,
        };
        let ballot = Ballot { key, conn: conn.0, generation, option };
        if let Some(code) = refusal {
            let id = room.id.clone();
            self.metrics.add(Figure::VotesRefused, 1);
            return self.tell_vote(&id, vote.poll, (&ballot, vote.option), Some(code));
        }
        if room.votes.add(vote.poll, ballot, now.tick) {
            self.hand_votes(number);
        }
        self.schedule_room(number);
    }

    /// Hands to the home what has waited for its window.
    pub(super) fn hand_votes(&mut self, number: u32) {
        let room = self.rooms.slab.get_mut(number);
        let is_due = room.votes.next_due() <= self.now.tick;
        if !is_due && room.votes.waiting.len() < BALLOTS_MAX {
            return;
        }
        let (home, id, polls) = (room.home, room.id.clone(), room.votes.take());
        for (poll, ballots) in polls {
            self.post(home, Message::Votes { room: id.clone(), shard: self.id, poll, ballots });
        }
    }

    /// To a home: counts them, and says so.
    pub(super) fn home_votes(
        &mut self,
        room: RoomId,
        shard: ShardId,
        poll: u32,
        ballots: Vec<Ballot>,
    ) {
        let Some(number) = self.homes.by_name.get(&room).copied() else {
            self.metrics.add(Figure::VotesRefused, ballots.len() as u64);
            let all = (0..ballots.len() as u32).map(|place| (place, Code::RoomClosed)).collect();
            return self.post(shard, Message::Voted { room, poll, ballots, refused: all });
        };
        let (now, mut out) = (self.now, Vec::new());
        let home = &mut self.homes.slab.get_mut(number).home;
        let refused = home.count(poll, &ballots, now, &mut out);
        let counted = ballots.len() - refused.len();
        self.metrics.add(Figure::VotesCounted, counted as u64);
        // Here, and not where they are told: on its way there the word may be lost.
        self.metrics.add(Figure::VotesRefused, refused.len() as u64);
        self.carry_out(number, out);
        self.post(shard, Message::Voted { room, poll, ballots, refused });
    }

    /// The home has decided: every client is told.
    pub(super) fn voted(
        &mut self,
        room: &RoomId,
        poll: u32,
        ballots: &[Ballot],
        refused: &[(u32, Code)],
    ) {
        let mut refused = refused.iter().copied().peekable();
        for (place, ballot) in ballots.iter().enumerate() {
            let code = refused.next_if(|(at, _)| *at as usize == place).map(|(_, code)| code);
            self.tell_vote(room, poll, (ballot, ballot.option.into()), code);
        }
    }

    /// Refuses ballots that are not counted, for one reason.
    pub(super) fn refuse_votes(
        &mut self,
        room: &RoomId,
        poll: u32,
        ballots: &[Ballot],
        code: Code,
    ) {
        self.metrics.add(Figure::VotesRefused, ballots.len() as u64);
        for ballot in ballots {
            self.tell_vote(room, poll, (ballot, ballot.option.into()), Some(code));
        }
    }

    /// Tells a client what became of its answer: of `option`, as it was sent.
    fn tell_vote(
        &mut self,
        room: &RoomId,
        poll: u32,
        (ballot, option): (&Ballot, u32),
        code: Option<Code>,
    ) {
        let conn = ConnSlot(ballot.conn);
        if !self.conns.is_live(conn, ballot.generation) {
            return;
        }
        let voted = v1::Voted {
            room: room.to_string(),
            poll,
            option,
            code: code.map_or(0, Code::number),
            retry_after_ms: if code.is_some_and(Code::retry) { RETRY_MS } else { 0 },
        };
        self.reply(conn, &Body::Voted(voted));
    }
}
