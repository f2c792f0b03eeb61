//! `Home`: the one place that orders a room.
//!
//! Owns the room's sequence, its admission, its pending batch, its counters and its history.
//! Everything that all viewers must see alike is decided here, before a `seq` is given. Never
//! knows a connection; never reads a clock.

use super::admit::{Refusal, TokenBucket, Users};
use super::bans::Bans;
use super::books::Books;
use super::combos::{Combos, Folding};
use super::count::Counter;
use super::delay::Delay;
use super::former::Former;
use super::history::History;
use super::judge::{Fate, Judge, Judged};
use super::live::Live;
use super::polls::Polls;
use super::shed::{Sample, sample_key};
use super::unique::Unique;
use super::window::BatchWindow;
use super::{
    Admitted, Attached, Ballot, Batch, CLASSES, Candidate, Offer, Origin, Output, Sender, ShardId,
};
use crate::config::Rooms;
use crate::seam::{Now, Tick};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use uproar_proto::control::{
    AttributeChange, AttributesOutcome, BeforePublish, Content, Judgement, NewPoll, Pin, PollInfo,
    Question, Recall, RoomInfo, RoomSettings,
};
use uproar_proto::error::Code;
use uproar_proto::ids::{Epoch, RoomId, Seq};
use uproar_proto::v1::{self, Class, Outcome};

/// A window is decided this long after its end: by then what the shards held until its end is in.
const GRACE_US: u64 = 20_000;

/// A resync is tried again no sooner than this: the queue that was full needs time to drain.
const RESYNC_US: u64 = 100_000;

/// A viewer count that goes out alone costs a whole sweep: it waits until it has been 1/10 of the
/// time. With messages it goes at its own pace, since it costs nothing then.
const COUNT_SWEEPS: u64 = 10;

/// When a message may come again that its platform did not decide about.
const HOOK_AGAIN_MS: u32 = 1_000;

/// Gifts of one sender, each of another name, that wait for its pace. More are refused: all senders
/// share the room there is for them.
const PACED_OF_SENDER_MAX: usize = 2;

/// A recall or a pin waits for the window no longer than this: all screens have it within a second.
const URGENT_US: u64 = 250_000;

const CHAT: usize = Class::Chat as usize;
const SYSTEM: usize = Class::System as usize;
const LIKE: usize = Class::Like as usize;
const GIFT: usize = Class::Gift as usize;

/// A room's home.
pub struct Home {
    room: RoomId,
    settings: Arc<RoomSettings>,
    rules: Rooms,
    epoch: Epoch,
    /// The newest message's, and the newest that viewers have been sent.
    seq: u64,
    seq_shown: u64,
    seed: u64,
    shards: Vec<ShardId>,
    members: Vec<(ShardId, u64)>,
    bucket: TokenBucket,
    users: Users,
    /// Who may not enter; the shards with members see to it.
    pub bans: Bans,
    /// What former lives of the room have decided; the shard asks for it.
    pub former: Former,
    /// Number of the admission window under way, and what it has seen.
    window: u64,
    offered: u64,
    gifts: u64,
    /// The last window had to shed chat: nothing passes at once, everything is sampled. A burst
    /// that the bucket can pay for is no overload.
    overloaded: bool,
    /// Chat fell out of the pool before this window's end.
    fell_out: bool,
    /// Chat that waits for the window's end.
    pool: Sample,
    /// Gifts that wait for tokens; served before any chat.
    waiting_gifts: VecDeque<Candidate>,
    /// Admitted, waiting for the platform's word, where the room asks for it.
    judge: Judge,
    /// Gifts with a name whose users are ahead of their pace, by when they may go on: what their
    /// users give meanwhile is folded into them.
    paced_gifts: BTreeMap<(Tick, u64), Candidate>,
    paced_last: u64,
    combos: Combos,
    /// Admitted, waiting for the flush that gives them their seq.
    pending: Vec<Candidate>,
    flush_window: BatchWindow,
    last_flush: Option<Tick>,
    viewers: Counter,
    likes: Counter,
    delay: Delay,
    history: History,
    live: Live,
    unique: Unique,
    books: Books,
    /// A batch did not reach a shard: the next one says where the room stands.
    resync: bool,
    automatic: bool,
    empty_since: Tick,
}

impl Home {
    /// A new life of a room. `automatic`: begun by a join, ends when it has been empty for long.
    #[must_use]
    pub fn new(
        room: RoomId,
        settings: Arc<RoomSettings>,
        rules: &Rooms,
        epoch: Epoch,
        seed: u64,
        now: Tick,
        automatic: bool,
    ) -> Home {
        // Two windows: what a shard holds until the end of one, and its way here.
        let grace_us = u64::from(rules.admission_ms) * 2_000 + GRACE_US;
        let polls = Polls::new(seed, rules.poll_voters_max, rules.poll_every_ms, grace_us);
        Home {
            bucket: TokenBucket::full(settings.rate_per_s, now),
            users: Users::new(rules.users_max, seed),
            pool: Sample::default(),
            flush_window: BatchWindow::new(rules),
            viewers: Counter::new(rules.count_every_ms),
            likes: Counter::new(rules.likes_every_ms),
            history: History::new(rules),
            live: Live::new(room.clone(), epoch, settings.attributes.clone(), polls),
            unique: Unique::new(seed),
            bans: Bans::new(rules.bans_max),
            former: Former::default(),
            rules: rules.clone(),
            room,
            settings,
            epoch,
            seq: 0,
            seq_shown: 0,
            delay: Delay::default(),
            seed,
            shards: Vec::new(),
            members: Vec::new(),
            window: 0,
            offered: 0,
            gifts: 0,
            overloaded: false,
            fell_out: false,
            waiting_gifts: VecDeque::new(),
            judge: Judge::default(),
            paced_gifts: BTreeMap::new(),
            paced_last: 0,
            combos: Combos::new(seed, rules.combo_ms, rules.combos_max, rules.combo_folds_max),
            pending: Vec::new(),
            last_flush: None,
            books: Books::default(),
            resync: false,
            automatic,
            empty_since: now,
        }
    }

    /// A shard has its first member: what it needs to serve joins by itself.
    pub fn attach(&mut self, shard: ShardId, now: Now) -> Attached {
        if !self.shards.contains(&shard) {
            self.shards.push(shard);
            // Somebody is there, or it would not ask; it tells how many soon.
            self.members(shard, 1);
        }
        Attached {
            epoch: self.epoch,
            seq: Seq(self.seq_shown),
            history: self.history.batches(),
            settings: self.settings.clone(),
            state: self.live.told().clone(),
            viewers: self.viewers.told(),
            likes: self.likes.told(),
            bans: self.bans.all(now.unix_ms),
        }
    }

    /// A shard has no member any more.
    pub fn detach(&mut self, shard: ShardId, now: Tick) {
        self.shards.retain(|s| *s != shard);
        self.members.retain(|(s, _)| *s != shard);
        self.flush_window.forget(shard);
        self.viewers.set(self.members.iter().map(|(_, n)| n).sum());
        if self.shards.is_empty() {
            self.empty_since = now;
        }
    }

    /// This life's name.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Shards with members.
    #[must_use]
    pub fn attached(&self) -> &[ShardId] {
        &self.shards
    }

    /// How many members a shard has.
    pub fn members(&mut self, shard: ShardId, count: u64) {
        if !self.shards.contains(&shard) {
            return;
        }
        match self.members.iter_mut().find(|(s, _)| *s == shard) {
            Some((_, n)) => *n = count,
            None => self.members.push((shard, count)),
        }
        self.viewers.set(self.members.iter().map(|(_, n)| n).sum());
    }

    /// A batch could not be handed to a shard: whatever it was, the next flush tells where the
    /// room stands, and the shard tells its members what they missed.
    pub fn resync(&mut self) {
        self.resync = true;
    }

    /// CPU time of one whole sweep on a shard.
    pub fn sweep_took(&mut self, shard: ShardId, cpu_us: u64) {
        if self.shards.contains(&shard) {
            self.flush_window.sweep_took(shard, cpu_us);
        }
    }

    /// What a shard's crowd, or a backend, wants to say.
    pub fn offer(&mut self, offer: Offer, now: Now, out: &mut Vec<Output>) {
        self.advance(now, out);
        self.books.merged[LIKE] += offer.like_frames;
        self.likes.add(offer.likes);
        for candidate in offer.candidates {
            if let Origin::Backend { .. } = candidate.origin {
                self.books.offered[candidate.class as usize] += candidate.offered();
            }
            self.consider(candidate, now, out);
        }
        self.flush_if_due(now, out);
    }

    fn consider(&mut self, candidate: Candidate, now: Now, out: &mut Vec<Output>) {
        if candidate.content.len() > self.settings.payload_bytes_max as usize {
            return self.refuse(
                candidate,
                Refusal { code: Code::TooLarge, retry_after_ms: 0 },
                out,
            );
        }
        match candidate.class {
            Class::Like => {
                self.books.merged[LIKE] += 1;
                self.likes.add(1);
                candidate.decide((Outcome::Merged, Seq(0)), None, 0, out);
            }
            Class::System => {
                let waiting = self.pending.iter().filter(|c| c.class == Class::System).count();
                if waiting >= self.rules.system_messages_max as usize {
                    let retry_after_ms = (self.flush_window.us() / 1000).max(100) as u32;
                    let refusal = Refusal { code: Code::QueueFull, retry_after_ms };
                    return self.refuse(candidate, refusal, out);
                }
                self.pending.push(candidate);
            }
            Class::Gift => self.consider_gift(candidate, now, out),
            Class::Chat => self.consider_chat(candidate, now, out),
        }
    }

    fn consider_gift(&mut self, candidate: Candidate, now: Now, out: &mut Vec<Output>) {
        self.offered += 1;
        // A mute does not wait for the message that this one would be folded into.
        let is_named = candidate.gift.is_some() && !candidate.sender.exempt;
        if is_named && let Err(refusal) = self.users.check_mute(candidate.sender.key, now) {
            return self.refuse(candidate, refusal, out);
        }
        let mut candidate = match self.combos.fold(candidate) {
            Folding::Done => return,
            Folding::TooMany(candidate) => return self.shed(candidate, now, out),
            Folding::First(candidate) => candidate,
        };
        if self.waiting_gifts.len() as u64 >= self.waiting_gifts_max() {
            return self.shed(candidate, now, out);
        }
        self.combos.open(&mut candidate);
        self.waiting_gifts.push_back(candidate);
        self.serve_gifts(now, out);
    }

    /// What cannot be served within half the deadline at the full rate is shed at once.
    fn waiting_gifts_max(&self) -> u64 {
        (u64::from(self.settings.rate_per_s) * self.gift_wait_us() / 1_000_000).max(1)
    }

    fn consider_chat(&mut self, candidate: Candidate, now: Now, out: &mut Vec<Output>) {
        self.offered += 1;
        let rate = u64::from(self.settings.rate_per_s);
        // Half of the rate is kept for gifts until the window's end (in millionths of a token).
        let reserve = rate * self.admission_us() / 2;
        let hold = reserve.saturating_sub(self.gifts * 1_000_000);
        let free = self.bucket.micro().saturating_sub(hold) >= 1_000_000;
        if free && !self.overloaded && self.waiting_gifts.is_empty() {
            return self.admit_chat(candidate, now, out);
        }
        let key = sample_key(self.seed, self.window, candidate.sender.key);
        if let Some(fallen) = self.pool.insert(key, candidate, rate as usize) {
            self.fell_out = true;
            self.shed(fallen, now, out);
        }
    }

    fn admit_chat(&mut self, candidate: Candidate, now: Now, out: &mut Vec<Output>) {
        match self.allowed(&candidate, now) {
            Err(refusal) => self.refuse(candidate, refusal, out),
            Ok(()) => {
                self.bucket.take();
                self.pass(candidate, now, out);
            }
        }
    }

    fn allowed(&mut self, candidate: &Candidate, now: Now) -> Result<(), Refusal> {
        let settings = &self.settings;
        let unique_s = if candidate.class == Class::Chat { settings.unique_s } else { 0 };
        let Candidate { sender, content, .. } = candidate;
        if !sender.exempt {
            // Banned or muted since the shard let it through: it has waited somewhere.
            if let Some(refusal) = self.barred(candidate, now) {
                return Err(refusal);
            }
            if let Some(retry_after_ms) = self.unique.heard_ms(content, unique_s, now.tick) {
                return Err(Refusal { code: Code::Duplicate, retry_after_ms });
            }
            let slow_mode_s = settings.slow_mode_s_of(&sender.user);
            self.users.admit(sender.key, settings.user_rate_per_s, slow_mode_s, now)?;
        }
        if candidate.class == Class::Chat {
            self.unique.hear(content, unique_s, now.tick);
        }
        Ok(())
    }

    fn serve_gifts(&mut self, now: Now, out: &mut Vec<Output>) {
        while let Some(first) = self.paced_gifts.first_entry()
            && first.key().0 <= now.tick
        {
            self.waiting_gifts.push_front(first.remove());
        }
        while let Some(oldest) = self.waiting_gifts.front() {
            if now.tick.since_us(oldest.received) > self.gift_wait_us() {
                if let Some(late) = self.waiting_gifts.pop_front() {
                    self.shed(late, now, out);
                }
                continue;
            }
            if self.bucket.tokens() == 0 {
                break;
            }
            let Some(gift) = self.waiting_gifts.pop_front() else { break };
            match self.allowed(&gift, now) {
                Err(refusal) => self.pace_gift(gift, refusal, now, out),
                Ok(()) => {
                    self.bucket.take();
                    self.gifts += 1;
                    self.pass(gift, now, out);
                }
            }
        }
    }

    /// A gift that its user may not give now: one with a name waits, where it may be given in time,
    /// so that who taps fast is refused nothing.
    fn pace_gift(&mut self, gift: Candidate, refusal: Refusal, now: Now, out: &mut Vec<Output>) {
        let wait_us = u64::from(refusal.retry_after_ms) * 1_000;
        let in_time = now.tick.since_us(gift.received) + wait_us <= self.gift_wait_us();
        let is_pace = matches!(refusal.code, Code::SlowDown | Code::SlowMode);
        let of_sender = self.paced_gifts.values().filter(|one| one.sender.key == gift.sender.key);
        let has_room = of_sender.count() < PACED_OF_SENDER_MAX
            && (self.paced_gifts.len() as u64) < self.waiting_gifts_max();
        if gift.gift.is_none() || !is_pace || !in_time || !has_room {
            return self.refuse(gift, refusal, out);
        }
        self.paced_last += 1;
        self.paced_gifts.insert((Tick(now.tick.0 + wait_us), self.paced_last), gift);
    }

    /// Brings tokens and windows up to now.
    fn advance(&mut self, now: Now, out: &mut Vec<Output>) {
        let rate = self.settings.rate_per_s;
        self.bucket.refill(rate, rate, now.tick);
        self.release(now, out);
        self.serve_gifts(now, out);
        let window = now.tick.0.saturating_sub(GRACE_US) / self.admission_us();
        if window != self.window {
            self.close_window(now, out);
            self.window = window;
        }
    }

    /// The end of an admission window: what the reserve left goes to the sample of the chat.
    fn close_window(&mut self, now: Now, out: &mut Vec<Output>) {
        let shed_before = self.books.shed[CHAT];
        let mut chosen = Vec::new();
        for candidate in self.pool.take().collect::<Vec<_>>() {
            if self.bucket.tokens() == 0 {
                self.shed(candidate, now, out);
                continue;
            }
            match self.allowed(&candidate, now) {
                Err(refusal) => self.refuse(candidate, refusal, out),
                Ok(()) => {
                    self.bucket.take();
                    chosen.push(candidate);
                }
            }
        }
        chosen.sort_by_key(|c| c.received);
        chosen.into_iter().for_each(|candidate| self.pass(candidate, now, out));
        self.overloaded = self.fell_out || self.books.shed[CHAT] > shed_before;
        self.fell_out = false;
        (self.offered, self.gifts) = (0, 0);
    }

    /// An admitted message waits for its flush, or first for the platform's word.
    fn pass(&mut self, candidate: Candidate, now: Now, out: &mut Vec<Output>) {
        let is_asked = matches!(candidate.class, Class::Chat | Class::Gift)
            && matches!(candidate.origin, Origin::Connection { .. })
            && !candidate.sender.exempt;
        if !self.asks() || !is_asked {
            // S-61
            return self.pending.push(candidate);
        }
        // What a combo comes to is known once it has its place.
        let combo = candidate.gift.as_ref().map(|gift| gift.told(0, 0));
        let message = admitted(candidate.clone(), Seq(0), combo).wire();
        let number = self.judge.wait(candidate, now.tick);
        let (room, epoch, wait_ms) = (self.room.clone(), self.epoch, self.rules.before_publish_ms);
        out.push(Output::Question(Question { node: 0, room, epoch, number, wait_ms, message }));
    }

    fn asks(&self) -> bool {
        self.settings.before_publish != BeforePublish::Off
    }

    /// The platform's word about a message, or that there will be none; false: it is too late.
    pub fn judged(
        &mut self,
        number: u64,
        judgement: Judgement,
        now: Now,
        out: &mut Vec<Output>,
    ) -> bool {
        let is_waited_for = self.judge.answer(number, judgement);
        self.tick(now, out);
        is_waited_for
    }

    /// What was decided about, or has waited as long as it may, goes on.
    fn release(&mut self, now: Now, out: &mut Vec<Output>) {
        let wait_ms = self.rules.before_publish_ms;
        while let Some(judged) = self.judge.next(wait_ms, self.asks(), now.tick) {
            let waited_us = now.tick.since_us(judged.since);
            let fate = self.carry_out(judged, now, out);
            out.push(Output::Judged(fate, waited_us));
        }
    }

    fn carry_out(&mut self, judged: Judged, now: Now, out: &mut Vec<Output>) -> Fate {
        let Judged { mut candidate, judgement, .. } = judged;
        let bytes_max = self.settings.payload_bytes_max as usize;
        let fate = match judgement {
            Judgement::Allow => Fate::Allowed,
            Judgement::Replace(text) if (1..=bytes_max).contains(&text.len()) => {
                candidate.content = Content::Text(text.into());
                Fate::Replaced
            }
            Judgement::Refuse(code, text) => {
                // S-59
                self.shown_to_nobody(&candidate);
                let refusal = Refusal { code, retry_after_ms: 0 };
                self.refuse_saying(candidate, refusal, &text, out);
                return Fate::Refused;
            }
            // A text that nobody could have said here is no decision.
            Judgement::Replace(_) | Judgement::Undecided => match self.settings.before_publish {
                BeforePublish::Closed => {
                    // S-60: it comes again, and is neither a repetition then nor too soon.
                    self.shown_to_nobody(&candidate);
                    self.users.forgive(candidate.sender.key);
                    let (code, retry_after_ms) = (Code::HookDown, HOOK_AGAIN_MS);
                    self.refuse(candidate, Refusal { code, retry_after_ms }, out);
                    return Fate::Closed;
                }
                BeforePublish::Off | BeforePublish::Open => Fate::Open,
            },
        };
        match self.barred(&candidate, now) {
            Some(refusal) => {
                self.shown_to_nobody(&candidate);
                self.refuse(candidate, refusal, out);
            }
            None => {
                // The platform's time is not the room's: the deadline counts from here.
                candidate.received = now.tick;
                self.pending.push(candidate);
            }
        }
        fate
    }

    /// What was admitted is refused: the next one who says it repeats nobody.
    fn shown_to_nobody(&mut self, candidate: &Candidate) {
        if candidate.class == Class::Chat {
            self.unique.forget(&candidate.content);
        }
    }

    /// Why a sender may not speak any more that was admitted a moment ago.
    fn barred(&self, candidate: &Candidate, now: Now) -> Option<Refusal> {
        let Sender { key, user, .. } = &candidate.sender;
        if self.bans.until_ms_of(user) > now.unix_ms {
            return Some(Refusal { code: Code::Banned, retry_after_ms: 0 });
        }
        if !self.settings.may_speak(user) {
            return Some(Refusal { code: Code::RoomMuted, retry_after_ms: 0 });
        }
        self.users.check_mute(*key, now).err()
    }

    /// Closes windows, flushes, pushes counters: whatever is due.
    pub fn tick(&mut self, now: Now, out: &mut Vec<Output>) {
        self.advance(now, out);
        self.flush_if_due(now, out);
    }

    fn flush_if_due(&mut self, now: Now, out: &mut Vec<Output>) {
        if now.tick >= self.flush_due() {
            self.flush(now, out);
        }
    }

    /// When the next flush may be: a quiet room's at once, a busy one's a window after the last.
    fn flush_due(&self) -> Tick {
        let count_due = self.viewers.due_spaced(self.flush_window.sweep_us() * COUNT_SWEEPS);
        let counters = count_due.min(self.likes.due()).min(self.live.due());
        let counters = counters.min(self.delay.due(self.settings.delay_ms));
        let at_once = self.resync || !self.pending.is_empty();
        let wanted = if at_once { Tick(0) } else { counters };
        let mut space_us = if self.resync { RESYNC_US } else { 0 }.max(self.flush_window.us());
        if self.live.is_urgent() {
            space_us = space_us.min(URGENT_US);
        }
        let spaced = self.last_flush.map_or(Tick(0), |last| self.next_flush(last, space_us));
        wanted.max(spaced)
    }

    /// The flush after the one at `last`. Under overload it comes with the end of an admission
    /// window, so that what waited for the one does not wait for the other too.
    fn next_flush(&self, last: Tick, space_us: u64) -> Tick {
        let spaced = last.0 + space_us;
        let windows = space_us / self.admission_us();
        if !self.overloaded || windows == 0 {
            return Tick(spaced);
        }
        let decided = last.0.saturating_sub(GRACE_US) / self.admission_us() + windows;
        Tick(spaced.min(decided * self.admission_us() + GRACE_US))
    }

    fn flush(&mut self, now: Now, out: &mut Vec<Output>) {
        let deadline_us = u64::from(self.rules.deadline_ms) * 1000;
        let age_us_max = deadline_us - self.flush_window.sweep_us().min(deadline_us / 2);
        let mut pending = std::mem::take(&mut self.pending);
        pending.sort_by_key(|c| c.received);
        let mut messages = Vec::with_capacity(pending.len());
        for mut candidate in pending {
            self.combos.close(&mut candidate);
            let late = now.tick.since_us(candidate.received) > age_us_max;
            if late && candidate.class != Class::System {
                self.books.expired[candidate.class as usize] += candidate.offered();
                candidate.decide((Outcome::Expired, Seq(0)), Some(Code::Expired), 0, out);
                continue;
            }
            self.seq += 1; // S-7
            self.books.admitted[candidate.class as usize] += 1;
            self.books.merged[candidate.class as usize] += candidate.offered() - 1;
            candidate.decide((Outcome::Accepted, Seq(self.seq)), None, 0, out); // S-67
            let combo = self.combos.count(&candidate);
            messages.push(admitted(candidate, Seq(self.seq), combo));
        }
        let messages = self.delayed(messages, now.tick, out);
        // S-12
        let (mut viewers, mut likes) = (self.viewers.take(now.tick), self.likes.take(now.tick));
        let resync = std::mem::take(&mut self.resync);
        let notices = self.live.take(now.tick, self.viewers.value(), resync);
        if resync {
            viewers = viewers.or(Some(self.viewers.told()));
            likes = likes.or(Some(self.likes.told()));
        }
        if messages.is_empty() && notices.is_empty() && viewers.is_none() && likes.is_none() {
            return;
        }
        let (room, seq, tick) = (self.room.clone(), Seq(self.seq_shown), now.tick);
        let batch = Batch::new(room, self.epoch, messages, seq, viewers, likes, tick);
        let batch = Arc::new(batch.with(notices));
        self.history.push(batch.clone(), tick);
        self.last_flush = Some(tick);
        self.flush_window.adapt();
        out.push(Output::Flush(batch));
    }

    /// What viewers are sent of what was admitted; with a delay some of it waits, and moderators
    /// are shown it now.
    fn delayed(
        &mut self,
        messages: Vec<Admitted>,
        now: Tick,
        out: &mut Vec<Output>,
    ) -> Vec<Admitted> {
        let delay_ms = self.settings.delay_ms;
        let shown = if delay_ms == 0 && self.delay.due(0) == Tick::NEVER {
            messages
        } else {
            if !messages.is_empty() {
                let (room, seq, held) = (self.room.clone(), Seq(self.seq), messages.clone());
                let batch = Batch::new(room, self.epoch, held, seq, None, None, now);
                out.push(Output::Held(Arc::new(batch)));
            }
            self.delay.hold(messages, now);
            self.delay.release(delay_ms, now)
        };
        self.seq_shown += shown.len() as u64;
        shown
    }

    /// When it wants a tick; `NEVER` where nothing waits.
    #[must_use]
    pub fn next_due(&self) -> Tick {
        let mut due = self.flush_due();
        if !self.pool.is_empty() || self.overloaded || self.offered > 0 {
            due = due.min(Tick((self.window + 1) * self.admission_us() + GRACE_US));
        }
        if let Some(((at, _), _)) = self.paced_gifts.first_key_value() {
            due = due.min(*at);
        }
        if let Some(oldest) = self.waiting_gifts.front() {
            let late = Tick(oldest.received.0 + self.gift_wait_us() + 1);
            due = due.min(self.bucket.next_token(self.settings.rate_per_s)).min(late);
        }
        due.min(self.judge.due(self.rules.before_publish_ms, self.asks()))
    }

    /// The room ends: what is admitted goes out, what waits is refused.
    pub fn close(&mut self, now: Now, out: &mut Vec<Output>) {
        Arc::make_mut(&mut self.settings).delay_ms = 0;
        self.flush(now, out);
        let refusal = Refusal { code: Code::RoomClosed, retry_after_ms: 0 };
        let paced = std::mem::take(&mut self.paced_gifts).into_values();
        let gifts = self.waiting_gifts.drain(..).chain(paced);
        let waiting = self.pool.take().chain(gifts).chain(self.judge.take());
        for candidate in waiting.collect::<Vec<_>>() {
            self.refuse(candidate, refusal, out);
        }
    }

    fn refuse(&mut self, candidate: Candidate, refusal: Refusal, out: &mut Vec<Output>) {
        self.refuse_saying(candidate, refusal, "", out);
    }

    fn refuse_saying(
        &mut self,
        mut candidate: Candidate,
        refusal: Refusal,
        text: &str,
        out: &mut Vec<Output>,
    ) {
        self.combos.close(&mut candidate);
        self.books.refused[candidate.class as usize] += candidate.offered();
        let Refusal { code, retry_after_ms } = refusal;
        let outcome = (Outcome::Refused, Seq(0));
        candidate.decide_saying(outcome, Some(code), retry_after_ms, text, out);
    }

    fn shed(&mut self, mut candidate: Candidate, now: Now, out: &mut Vec<Output>) {
        self.combos.close(&mut candidate);
        self.books.shed[candidate.class as usize] += candidate.offered();
        let retry_after_ms = until_window_end_ms(now.tick, self.admission_us());
        candidate.decide((Outcome::Shed, Seq(0)), Some(Code::RoomBusy), retry_after_ms, out);
    }

    fn admission_us(&self) -> u64 {
        u64::from(self.rules.admission_ms) * 1000
    }

    fn gift_wait_us(&self) -> u64 {
        u64::from(self.rules.deadline_ms) * 1000 / 2
    }

    /// Replaces the settings.
    pub fn update(&mut self, settings: Arc<RoomSettings>) {
        self.live.attributes.replace(settings.attributes.clone());
        self.settings = settings;
    }

    /// Changes some attributes.
    pub fn change_attributes(&mut self, change: AttributeChange) -> AttributesOutcome {
        let outcome = self.live.attributes.change(change);
        if let AttributesOutcome::Changed { attributes, .. } = &outcome {
            Arc::make_mut(&mut self.settings).attributes.clone_from(attributes);
        }
        outcome
    }

    /// Recalls messages, on every screen within a second and for good; their seqs.
    ///
    /// # Errors
    /// `FORBIDDEN`, as [`Recall::SeqsBut`] says; nothing was recalled.
    pub fn recall(
        &mut self,
        what: Recall,
        now: Now,
        out: &mut Vec<Output>,
    ) -> Result<Vec<u64>, Code> {
        // What was admitted has its place only after a flush. Without any a recall costs no send of
        // its own, however many are asked for.
        if !self.pending.is_empty() {
            self.flush(now, out);
        }
        let mut seqs = match what {
            Recall::Seqs(seqs) => seqs,
            Recall::SeqsBut { seqs, spared } => {
                if !self.may_recall(&seqs, &spared) {
                    return Err(Code::Forbidden);
                }
                seqs
            }
            Recall::User(user) => {
                let mut seqs = self.history.of_user(&user);
                seqs.extend(self.delay.of_user(&user));
                self.judge.recall(&user);
                if self.live.pinned().is_some_and(|pinned| pinned.user == user) {
                    self.live.pin(None);
                }
                self.live.recall_of(user, self.seq);
                seqs
            }
        };
        seqs.retain(|seq| self.has_had(*seq));
        seqs.sort_unstable();
        seqs.dedup();
        if !seqs.is_empty() {
            self.history.recall(&seqs);
            self.delay.recall(&seqs);
            self.live.recall(&seqs);
        }
        self.flush_if_due(now, out);
        Ok(seqs)
    }

    fn has_had(&self, seq: u64) -> bool {
        (1..=self.seq).contains(&seq)
    }

    /// Whether the room remembers all of these messages that it has had, and none is of one of
    /// these users.
    fn may_recall(&self, seqs: &[u64], spared: &BTreeSet<String>) -> bool {
        let had: BTreeSet<u64> = seqs.iter().copied().filter(|seq| self.has_had(*seq)).collect();
        let known = self.history.after(0).into_iter().chain(self.delay.messages());
        let free = known.filter(|m| had.contains(&m.seq.0) && !spared.contains(&*m.user));
        free.map(|message| message.seq).collect::<BTreeSet<Seq>>().len() == had.len()
    }

    /// Pins a message, or none.
    ///
    /// # Errors
    /// `NOT_FOUND` where the history has no such message.
    pub fn pin(&mut self, pin: Option<Pin>, now: Now, out: &mut Vec<Output>) -> Result<(), Code> {
        let message = match pin {
            None => None,
            Some(Pin::Text { user, text }) => Some(v1::Message {
                class: Class::System.into(),
                user,
                time_ms: now.unix_ms,
                content: Some(v1::message::Content::Text(text)),
                ..v1::Message::default()
            }),
            Some(Pin::Seq(seq)) => match self.history.get(seq) {
                Some(message) if !message.gone => Some(message.wire()),
                _ => return Err(Code::NotFound),
            },
        };
        self.live.pin(message);
        self.flush_if_due(now, out);
        Ok(())
    }

    /// Asks the room a question.
    ///
    /// # Errors
    /// `LIMIT_REACHED`
    pub fn open_poll(
        &mut self,
        poll: NewPoll,
        now: Now,
        out: &mut Vec<Output>,
    ) -> Result<PollInfo, Code> {
        let info = self.live.polls.open(poll, now)?;
        self.flush_if_due(now, out);
        Ok(info)
    }

    /// How a poll stands; `end`: it takes no more answers.
    pub fn poll(
        &mut self,
        poll: u32,
        end: bool,
        now: Now,
        out: &mut Vec<Output>,
    ) -> Option<PollInfo> {
        if end && self.live.polls.end(poll, now) {
            self.flush_if_due(now, out);
        }
        self.live.polls.get(poll).cloned()
    }

    /// Some have come in, named by random keys or not.
    pub fn entered(
        &mut self,
        users: Vec<(u64, Arc<str>)>,
        more: u32,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        self.live.entries.enter(users, more);
        self.flush_if_due(now, out);
    }

    /// Counts ballots of a poll; which of them were refused, by their place, and why.
    pub fn count(
        &mut self,
        poll: u32,
        ballots: &[Ballot],
        now: Now,
        out: &mut Vec<Output>,
    ) -> Vec<(u32, Code)> {
        let refused = self.live.polls.count(poll, ballots);
        self.flush_if_due(now, out);
        refused
    }

    /// The settings now.
    #[must_use]
    pub fn settings(&self) -> &Arc<RoomSettings> {
        &self.settings
    }

    /// A user may not speak until a wall-clock time (a past one ends it).
    pub fn mute(&mut self, user: u64, until_unix_ms: u64, now_unix_ms: u64) {
        self.users.mute(user, until_unix_ms, now_unix_ms);
    }

    /// Connections in the room, about a second old.
    #[must_use]
    pub fn viewers(&self) -> u64 {
        self.viewers.value()
    }

    /// What the room is now.
    #[must_use]
    pub fn info(&self) -> RoomInfo {
        RoomInfo {
            room: self.room.to_string(),
            settings: (*self.settings).clone(),
            epoch: format!("{:016x}", self.epoch.0),
            seq: self.seq,
            viewers: self.viewers.value(),
            likes: self.likes.value(),
            attributes_version: self.live.attributes.now().1,
            shards: self.shards.len() as u32,
        }
    }

    /// The home's part of the books.
    #[must_use]
    pub fn books(&self) -> &Books {
        &self.books
    }

    /// Messages that wait here, by class.
    #[must_use]
    pub fn pending(&self) -> [u64; CLASSES] {
        let mut pending = [0; CLASSES];
        pending[CHAT] = self.pool.len() as u64;
        let gifts = self.waiting_gifts.len() + self.paced_gifts.len();
        pending[GIFT] = gifts as u64 + self.combos.folded();
        for candidate in self.pending.iter().chain(self.judge.candidates()) {
            pending[candidate.class as usize] += 1;
        }
        debug_assert!(pending[SYSTEM] <= u64::from(self.rules.system_messages_max));
        pending
    }

    /// Whether a room begun by a join has been empty for so long that it ends.
    #[must_use]
    pub fn expired_when_empty(&self, now: Tick) -> bool {
        let empty_us_max = u64::from(self.rules.empty_ms_max) * 1000;
        self.automatic
            && self.shards.is_empty()
            && self.pending().iter().all(|n| *n == 0)
            && now.since_us(self.empty_since) >= empty_us_max
    }

    /// Combos forgotten before they were over, since this was asked last.
    pub fn take_combos_forgotten(&mut self) -> u64 {
        self.combos.take_forgotten()
    }

    /// The batch window now, microseconds.
    #[must_use]
    pub fn window_us(&self) -> u64 {
        self.flush_window.us()
    }
}

/// Milliseconds to the end of the admission window, at least 1.
#[must_use]
pub fn until_window_end_ms(now: Tick, admission_us: u64) -> u32 {
    u32::try_from((admission_us - now.0 % admission_us).div_ceil(1000)).unwrap_or(u32::MAX)
}

/// A candidate in its place.
fn admitted(candidate: Candidate, seq: Seq, combo: Option<Box<v1::Combo>>) -> Admitted {
    let Candidate { class, sender, content, client_msg_id, received, received_unix_ms, .. } =
        candidate;
    let (user, gone) = (sender.user, false);
    Admitted { seq, class, user, content, client_msg_id, received, received_unix_ms, gone, combo }
}

#[cfg(test)]
#[path = "home_tests.rs"]
mod home_tests;
