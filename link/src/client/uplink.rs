//! What of an engine waits for control, is on its way, and is owed an answer; and whether the way
//! is open. A state machine: time comes in, what is to be told and sent comes out.
//!
//! Owns the promise that each ask gets exactly one answer. Never opens a connection.

use crate::v1::{self, Told};
use crate::words::{
    from_ask, from_kept_question, from_lines, from_penalties, from_question, from_report,
    from_seen, to_tell,
};
use crate::{BATCH_ASKS_MAX, BATCH_BYTES_MAX, BATCHES_MAX, BEAT};
use bytes::Bytes;
use prost::Message as _;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};
use uproar_proto::control::{
    Ask, Asked, ConnectionId, Judgement, KeptQuestion, Lines, Penalties, Question, Report, Seen,
    Tell, refusal,
};
use uproar_proto::error::Code;
use uproar_proto::lanes::{Lanes, Stop};
use uproar_proto::v1::{Ping, Send, client_frame::Body};

/// Asks without an answer, of all connections of the node. Reached: `QUEUE_FULL`.
const OWED_MAX: usize = 65_536;
/// The longest wait for control's answer, which waits for the store. Reached: `STORE_DOWN`, though
/// it may come later.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Bytes of asks that wait to be sent. Reached: `QUEUE_FULL`.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// Users in notices of presence that wait to be sent. Reached: a notice is dropped; the shard says
/// again who is there.
const SEEN_USERS_MAX: usize = 65_536;
/// Bytes of archived lines that wait to be sent, also while control cannot be reached. Reached:
/// dropped; the archive sees the hole by seq.
const LINES_BYTES_MAX: usize = 16 << 20;
/// Bytes of bans and mutes that wait to be sent, also while control cannot be reached; about 60
/// each. Reached: dropped, and they end with their room's life.
const PENALTIES_BYTES_MAX: usize = 8 << 20;
/// Bytes of questions what is kept of a room that wait to be sent. Reached, or while control cannot
/// be reached: dropped; the room asks again.
const KEPT_BYTES_MAX: usize = 4 << 20;
/// Bytes of rooms' questions that wait to be sent. Reached: nobody is asked.
const QUESTIONS_BYTES_MAX: usize = 4 << 20;
/// Bytes of reports of quality that wait to be sent. Reached, or while control cannot be reached:
/// refused; the next report has the totals.
const REPORTS_BYTES_MAX: usize = 8 << 20;
/// Tries in a row that fail before the breaker opens: of the stream, or of one batch.
const TRIES_MAX: u32 = 3;
/// The stream is silent for this long: the breaker opens.
pub(super) const SILENT: Duration = BEAT.saturating_mul(3);
/// Control keeps what was not heard: it is told after this many words at the latest.
const HEARD_EVERY: u64 = 1_024;

/// See the module.
#[derive(Default)]
pub(super) struct Uplink {
    session: Option<Session>,
    stream_stands: bool,
    batches_stall: bool,
    /// Tries of hello and of the stream that have failed since it last stood.
    tries: u32,
    last_word: Option<Instant>,
    waiting: VecDeque<v1::Ask>,
    waiting_bytes: usize,
    seen: Vec<v1::Seen>,
    seen_users: usize,
    lines: VecDeque<v1::Lines>,
    lines_bytes: usize,
    penalties: VecDeque<v1::Penalties>,
    penalties_bytes: usize,
    kept: VecDeque<v1::KeptQuestion>,
    kept_bytes: usize,
    questions: VecDeque<v1::Question>,
    questions_bytes: usize,
    reports: VecDeque<v1::Report>,
    reports_bytes: usize,
    /// In the order they were asked.
    owed: BTreeMap<u64, Owed>,
    places: HashMap<(ConnectionId, u32), u64>,
    next_place: u64,
    lanes: Lanes,
}

/// A place in what control tells.
struct Session {
    name: u64,
    heard: u64,
    /// Of that, what control knows.
    said: u64,
    next_number: u64,
    in_flight: BTreeMap<u64, Batch>,
    last_batch: Instant,
}

/// A batch that control has not taken in yet.
struct Batch {
    body: Bytes,
    tries: u32,
    /// To be sent again where the batch goes on without what is asked.
    lines: Vec<v1::Lines>,
    penalties: Vec<v1::Penalties>,
}

/// An ask without an answer: as much of it as a refusal needs. `None`: it opens an inbox.
struct Owed {
    from: ConnectionId,
    number: u32,
    frame: Option<Body>,
    since: Instant,
}

impl Owed {
    fn of(ask: &Ask, since: Instant) -> Owed {
        let frame = match &ask.what {
            Asked::Open { .. } => None,
            Asked::Frame(Body::Send(send)) => Some(Body::Send(Send {
                conversation: send.conversation.clone(),
                client_msg_id: send.client_msg_id.clone(),
                ..Send::default()
            })),
            // The others are refused in one way.
            Asked::Frame(_) => Some(Body::Ping(Ping {})),
        };
        Owed { from: ask.from, number: ask.number, frame, since }
    }

    fn refused(&self, code: Code) -> Tell {
        let (to, number) = (self.from, self.number);
        match &self.frame {
            None => Tell::Opened { to, number, groups: Err(code) },
            Some(frame) => Tell::Answer { to, number, frames: vec![refusal(frame, code)] },
        }
    }

    /// What was sent before it has failed.
    fn stopped(&self, stop: Stop) -> Tell {
        let (to, number) = (self.from, self.number);
        let frames = self.frame.iter().map(|frame| stop.refusal(frame)).collect();
        Tell::Answer { to, number, frames }
    }

    fn send(&self) -> Option<&Send> {
        match &self.frame {
            Some(Body::Send(send)) => Some(send),
            _ => None,
        }
    }
}

impl Uplink {
    /// Where lanes that there is no room to remember are counted in `unremembered`.
    pub(super) fn counting(unremembered: Arc<AtomicU64>) -> Uplink {
        Uplink { lanes: Lanes::counting(unremembered), ..Uplink::default() }
    }

    /// Whether asks pass.
    pub(super) fn is_up(&self) -> bool {
        self.stream_stands && !self.batches_stall
    }

    /// Asks without an answer, and of them those that were not sent yet.
    pub(super) fn owed(&self) -> (usize, usize) {
        (self.owed.len(), self.waiting.len())
    }

    /// Takes an ask in.
    ///
    /// # Errors
    /// Its refusal, to be told.
    pub(super) fn ask(&mut self, ask: Ask, now: Instant) -> Result<(), Tell> {
        let owed = Owed::of(&ask, now);
        if let Some(send) = owed.send()
            && let Some(stop) = self.lanes.stops(ask.from, send, now)
        {
            return Err(owed.stopped(stop));
        }
        let code = if !self.is_up() {
            Some(Code::StoreDown)
        } else if self.owed.len() >= OWED_MAX || self.waiting_bytes >= WAITING_BYTES_MAX {
            Some(Code::QueueFull)
        } else {
            None
        };
        if let Some(code) = code {
            return Err(self.refuse(&owed, code, now));
        }
        self.places.insert((owed.from, owed.number), self.next_place);
        self.owed.insert(self.next_place, owed);
        self.next_place += 1;
        let ask = from_ask(ask);
        self.waiting_bytes += ask.encoded_len();
        self.waiting.push_back(ask);
        Ok(())
    }

    /// Whether control is to be told what was heard, before a beat is over.
    pub(super) fn heard_much(&self) -> bool {
        self.session.as_ref().is_some_and(|one| one.heard >= one.said + HEARD_EVERY)
    }

    /// Takes a notice of presence in; false: it was dropped.
    pub(super) fn seen(&mut self, seen: Seen) -> bool {
        let users = seen.users.len() + seen.ended.len();
        if !self.is_up() || self.seen_users + users > SEEN_USERS_MAX {
            return false;
        }
        self.seen_users += users;
        self.seen.push(from_seen(seen));
        true
    }

    /// Takes lines of an archived room in; false: they were dropped.
    pub(super) fn lines(&mut self, lines: Lines) -> bool {
        let lines = from_lines(lines);
        let bytes = lines.encoded_len();
        if self.lines_bytes + bytes > LINES_BYTES_MAX {
            return false;
        }
        self.lines_bytes += bytes;
        self.lines.push_back(lines);
        true
    }

    /// Takes what a room has decided in; false: it was dropped.
    pub(super) fn penalties(&mut self, penalties: Penalties) -> bool {
        let penalties = from_penalties(penalties);
        let bytes = penalties.encoded_len();
        if self.penalties_bytes + bytes > PENALTIES_BYTES_MAX {
            return false;
        }
        self.penalties_bytes += bytes;
        self.penalties.push_back(penalties);
        true
    }

    /// Takes a question in what is kept of a room; false: it was dropped.
    pub(super) fn kept(&mut self, question: KeptQuestion) -> bool {
        if !self.is_up() || self.kept_bytes >= KEPT_BYTES_MAX {
            return false;
        }
        let question = from_kept_question(question);
        self.kept_bytes += question.encoded_len();
        self.kept.push_back(question);
        true
    }

    /// Takes a question of a room in.
    ///
    /// # Errors
    /// The answer to it, where nobody can be asked.
    pub(super) fn question(&mut self, question: Question) -> Result<(), Tell> {
        if !self.is_up() || self.questions_bytes >= QUESTIONS_BYTES_MAX {
            return Err(question.judged(Judgement::Undecided));
        }
        let question = from_question(question);
        self.questions_bytes += question.encoded_len();
        self.questions.push_back(question);
        Ok(())
    }

    /// Takes a report in; the code that it is refused with.
    pub(super) fn report(&mut self, report: Report) -> Result<(), Code> {
        if !self.is_up() {
            return Err(Code::StoreDown);
        }
        let report = from_report(report);
        let bytes = report.encoded_len();
        if self.reports_bytes + bytes > REPORTS_BYTES_MAX {
            return Err(Code::QueueFull);
        }
        self.reports_bytes += bytes;
        self.reports.push_back(report);
        Ok(())
    }

    /// Makes the next batch, where one is due and may go: its session and number.
    pub(super) fn next_batch(&mut self, now: Instant, load: v1::Load) -> Option<(u64, u64)> {
        let is_up = self.is_up();
        let session = self.session.as_mut()?;
        let is_due = !self.waiting.is_empty()
            || !self.seen.is_empty()
            || !self.lines.is_empty()
            || !self.penalties.is_empty()
            || !self.kept.is_empty()
            || !self.questions.is_empty()
            || !self.reports.is_empty()
            || session.heard >= session.said + HEARD_EVERY
            || now - session.last_batch >= BEAT;
        // Control keeps so many that arrive before an earlier one, and no more.
        let is_far = |(first, _): (&u64, _)| session.next_number >= first + BATCHES_MAX as u64;
        if !is_up || !is_due || session.in_flight.first_key_value().is_some_and(is_far) {
            return None;
        }
        let (mut asks, mut bytes) = (Vec::new(), 0);
        while asks.len() < BATCH_ASKS_MAX && bytes < BATCH_BYTES_MAX {
            let Some(ask) = self.waiting.pop_front() else { break };
            bytes += ask.encoded_len();
            asks.push(ask);
        }
        self.waiting_bytes -= bytes;
        self.seen_users = 0;
        let seen = std::mem::take(&mut self.seen);
        let questions = fill(&mut bytes, &mut self.questions, &mut self.questions_bytes);
        let penalties = fill(&mut bytes, &mut self.penalties, &mut self.penalties_bytes);
        // Behind them: where not all of them found room, nothing else does.
        let kept_questions = fill(&mut bytes, &mut self.kept, &mut self.kept_bytes);
        let lines = fill(&mut bytes, &mut self.lines, &mut self.lines_bytes);
        let reports = fill(&mut bytes, &mut self.reports, &mut self.reports_bytes);
        let session = self.session.as_mut()?;
        let (name, number, heard) = (session.name, session.next_number, session.heard);
        let load = Some(load);
        let batch = v1::Asks {
            session: name,
            number,
            heard,
            load,
            asks,
            seen,
            lines,
            questions,
            reports,
            penalties,
            kept_questions,
        };
        let body = batch.encode_to_vec().into();
        let v1::Asks { lines, penalties, .. } = batch;
        session.in_flight.insert(number, Batch { body, tries: 0, lines, penalties });
        (session.said, session.last_batch, session.next_number) = (heard, now, number + 1);
        Some((name, number))
    }

    fn batch(&mut self, session: u64, number: u64) -> Option<&mut Batch> {
        let session = self.session.as_mut().filter(|one| one.name == session)?;
        session.in_flight.get_mut(&number)
    }

    /// The bytes of a batch that is still to be taken in.
    pub(super) fn body(&mut self, session: u64, number: u64) -> Option<Bytes> {
        self.batch(session, number).map(|batch| batch.body.clone())
    }

    /// Control has taken a batch in.
    pub(super) fn taken(&mut self, session: u64, number: u64) {
        if let Some(session) = self.session.as_mut().filter(|one| one.name == session)
            && session.in_flight.remove(&number).is_some()
        {
            self.batches_stall = false;
        }
    }

    /// A try to send a batch has failed: how often by now, and what is to be told.
    pub(super) fn batch_failed(
        &mut self,
        session: u64,
        number: u64,
        now: Instant,
    ) -> (u32, Vec<Tell>) {
        let Some(batch) = self.batch(session, number) else { return (0, Vec::new()) };
        batch.tries += 1;
        let tries = batch.tries;
        let was_up = self.is_up();
        self.batches_stall |= tries >= TRIES_MAX;
        (tries, if was_up && !self.is_up() { self.refuse_all(now) } else { Vec::new() })
    }

    /// Where to go on: session, and what was heard of it.
    pub(super) fn place(&self) -> Option<(u64, u64)> {
        self.session.as_ref().map(|session| (session.name, session.heard))
    }

    /// Control knows no such session.
    pub(super) fn forget(&mut self, session: u64) {
        if self.session.as_ref().is_some_and(|one| one.name == session) {
            self.keep_lines();
            self.session = None;
        }
    }

    /// A new session: what is owed from before, refused.
    pub(super) fn begin(&mut self, name: u64, now: Instant) -> Vec<Tell> {
        let refused = self.refuse_all(now);
        let in_flight = BTreeMap::new();
        let last_batch = now;
        self.session =
            Some(Session { name, heard: 0, said: 0, next_number: 1, in_flight, last_batch });
        self.batches_stall = false;
        refused
    }

    /// The stream stands.
    pub(super) fn stands(&mut self, now: Instant) {
        (self.stream_stands, self.tries, self.last_word) = (true, 0, Some(now));
    }

    /// Something came over the stream.
    pub(super) fn word(&mut self, now: Instant) {
        self.last_word = Some(now);
    }

    /// The stream has ended, or a try to make it stand has failed: how often by now, and what is to
    /// be told.
    pub(super) fn broken(&mut self, now: Instant) -> (u32, Vec<Tell>) {
        self.tries += 1;
        let is_silent = self.last_word.is_none_or(|last| now - last >= SILENT);
        let was_up = self.is_up();
        self.stream_stands &= self.tries < TRIES_MAX && !is_silent;
        (self.tries, if was_up && !self.is_up() { self.refuse_all(now) } else { Vec::new() })
    }

    /// What a frame of the stream says to the engine; `None`: nothing that it waits for.
    ///
    /// # Errors
    /// Why the stream cannot be gone on with.
    pub(super) fn hear(&mut self, told: Told) -> Result<Option<Tell>, String> {
        let Some(session) = &mut self.session else { return Err("it has no session".into()) };
        if told.seq == 0 {
            return Ok(None);
        }
        if told.seq != session.heard + 1 {
            let (seq, heard) = (told.seq, session.heard);
            return Err(format!("control told {seq} after {heard}"));
        }
        session.heard = told.seq;
        let tell = v1::Tell::decode(told.tell).map_err(|e| e.to_string())?;
        let tell = to_tell(tell)?;
        let answers = match &tell {
            Tell::Opened { to, number, .. } | Tell::Answer { to, number, .. } => (*to, *number),
            _ => return Ok(Some(tell)),
        };
        let place = self.places.remove(&answers);
        Ok(place.and_then(|place| self.owed.remove(&place)).map(|_| tell))
    }

    /// Lines of batches under way go again: control knows by seq what it has. So do bans and mutes:
    /// the last one about a user holds, however often they come.
    fn keep_lines(&mut self) {
        let Some(session) = &mut self.session else { return };
        for batch in session.in_flight.values_mut().rev() {
            for lines in batch.lines.drain(..).rev() {
                self.lines_bytes += lines.encoded_len();
                self.lines.push_front(lines);
            }
            for penalties in batch.penalties.drain(..).rev() {
                self.penalties_bytes += penalties.encoded_len();
                self.penalties.push_front(penalties);
            }
        }
    }

    /// Refuses everything that is owed, in the order it was asked. What is on its way goes on as an
    /// empty batch of its number, so that later ones are taken in: what was refused and has not
    /// arrived is not carried out later.
    fn refuse_all(&mut self, now: Instant) -> Vec<Tell> {
        self.waiting.clear();
        self.seen.clear();
        self.reports.clear();
        self.reports_bytes = 0;
        self.places.clear();
        // Their rooms ask again.
        self.kept.clear();
        self.kept_bytes = 0;
        // Their rooms wait no longer than they have said.
        self.questions.clear();
        (self.waiting_bytes, self.seen_users, self.questions_bytes) = (0, 0, 0);
        self.keep_lines();
        if let Some(session) = &mut self.session {
            let (name, heard) = (session.name, session.said);
            for (number, batch) in &mut session.in_flight {
                let number = *number;
                let empty = v1::Asks { session: name, number, heard, ..v1::Asks::default() };
                batch.body = empty.encode_to_vec().into();
            }
        }
        let owed = std::mem::take(&mut self.owed);
        owed.into_values().map(|owed| self.refuse(&owed, Code::StoreDown, now)).collect()
    }

    fn refuse(&mut self, owed: &Owed, code: Code, now: Instant) -> Tell {
        if let Some(send) = owed.send() {
            self.lanes.breaks(owed.from, send, now);
        }
        owed.refused(code)
    }

    /// Refuses what control has not answered for too long.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Tell> {
        let mut refused = Vec::new();
        while let Some(first) = self.owed.first_entry()
            && now - first.get().since >= ANSWER_MAX
        {
            let owed = first.remove();
            self.places.remove(&(owed.from, owed.number));
            refused.push(self.refuse(&owed, Code::StoreDown, now));
        }
        refused
    }
}

/// What of a queue goes into a batch that holds `bytes` already; both sums are brought up to date.
fn fill<M: prost::Message>(
    bytes: &mut usize,
    queue: &mut VecDeque<M>,
    queued_bytes: &mut usize,
) -> Vec<M> {
    let mut next = Vec::new();
    while *bytes < BATCH_BYTES_MAX
        && let Some(one) = queue.pop_front()
    {
        let of = one.encoded_len();
        *bytes += of;
        *queued_bytes -= of;
        next.push(one);
    }
    next
}

#[cfg(test)]
mod tests;
