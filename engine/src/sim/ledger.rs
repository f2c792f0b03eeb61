//! The truth of a world: what was published, what homes gave a place in the order, what senders
//! were told. Taken from the messages between shards, which no client sees, and compared with what
//! every client gets.

use super::crowd::gift_of;
use crate::router::{Admitted, Batch};
use crate::seam::Tick;
use crate::shard::message::Message;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use uproar_proto::control::{BeforePublish, Content, Judgement, Question};
use uproar_proto::v1::{self, Class, Outcome};

/// A publish, by the id that no other has.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) room: String,
    pub(crate) class: Class,
    pub(crate) content: Content,
}

/// What a platform was asked about a message, and said.
struct Asked {
    until: Tick,
    judgement: Option<Judgement>,
}

/// One message in a room's order.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    id: Vec<u8>,
    user: String,
}

/// One life of a room.
#[derive(Default)]
struct Life {
    messages: BTreeMap<u64, Known>,
    recalled: BTreeSet<u64>,
    /// How many gifts each combo had when it was last heard of.
    combos: BTreeMap<u64, u64>,
}

impl Life {
    /// A message is heard first: its combo goes on where the one before has left off.
    fn check_combo(&mut self, message: &Admitted) {
        let gift = gift_of(&message.client_msg_id, message.class);
        let name = message.combo.as_ref().map(|combo| combo.gift.as_str());
        assert_eq!(name, gift.map(|(name, _)| name), "a gift has the name that it was given");
        let (Some(combo), Some((_, count))) = (&message.combo, gift) else { return };
        assert!(combo.count >= u64::from(count), "and as many of it");
        let before = self.combos.insert(combo.combo, combo.total).unwrap_or(0);
        // Of what nobody heard only so much is known.
        let is_all = self.messages.len() as u64 + 1 == message.seq.0;
        let is_exact = combo.total == before + combo.count;
        assert!(is_exact || (!is_all && combo.total > before), "{combo:?} after {before}");
    }
}

/// All of it.
#[derive(Default)]
pub(crate) struct Ledger {
    published: BTreeMap<Vec<u8>, Published>,
    lives: BTreeMap<(String, u64), Life>,
    /// Where each message stands: its epoch and seq.
    places: BTreeMap<Vec<u8>, (u64, u64)>,
    verdicts: BTreeMap<Vec<u8>, (Outcome, u64)>,
    /// As every room of the world is set.
    before_publish: BeforePublish,
    asked: BTreeMap<Vec<u8>, Asked>,
    /// Likes in offers that came back for want of room.
    pub(crate) likes_refused: u64,
    /// Gap frames and the messages they named, as clients got them; lost batches apart.
    pub(crate) gaps: u64,
    pub(crate) gap_messages: u64,
    pub(crate) gaps_lost: u64,
}

impl Ledger {
    /// Of a world whose rooms are set so.
    pub(crate) fn of(before_publish: BeforePublish) -> Ledger {
        Ledger { before_publish, ..Ledger::default() }
    }

    /// A home asks about a message; `is_lost`: it is told at once that nobody could be asked.
    pub(crate) fn asked(&mut self, question: &Question, now: Tick, is_lost: bool) {
        assert_eq!(question.message.seq, 0, "what is asked about has no place yet");
        let id = question.message.client_msg_id.to_vec();
        assert!(!self.places.contains_key(&id), "a message was ordered before it was asked about");
        let until = now.after_ms(u64::from(question.wait_ms));
        let judgement = is_lost.then_some(Judgement::Undecided);
        let old = self.asked.insert(id, Asked { until, judgement });
        assert!(old.is_none(), "a message is asked about once");
    }

    /// The platform says something, which may come too late.
    pub(crate) fn answered(&mut self, question: &Question, judgement: Judgement) {
        let asked = self.asked.get_mut(&question.message.client_msg_id[..]);
        asked.expect("only what was asked is answered").judgement = Some(judgement);
    }

    /// A message has got its place in the order: by right?
    fn passes(&mut self, message: &Admitted, now: Tick) {
        let is_asked = matches!(message.class, Class::Chat | Class::Gift)
            && self.before_publish != BeforePublish::Off
            && !matches!(&*message.user, "judge" | "backend");
        let Some(asked) = self.asked.get(&message.client_msg_id[..]) else {
            return assert!(!is_asked, "nobody was asked about a message of {}", message.user);
        };
        assert!(is_asked, "a platform was asked about a message of {}", message.user);
        let is_over = self.before_publish == BeforePublish::Open && asked.until <= now;
        let said = self.published.get_mut(&message.client_msg_id[..]).expect("it was published");
        match &asked.judgement {
            Some(Judgement::Allow) => {}
            Some(Judgement::Replace(text)) if !text.is_empty() => {
                let text = Content::Text(Bytes::from(text.clone()));
                if message.content == text {
                    said.content = text;
                } else {
                    assert_eq!(self.before_publish, BeforePublish::Open, "it is not replaced");
                }
            }
            Some(Judgement::Replace(_) | Judgement::Undecided) => {
                assert_eq!(self.before_publish, BeforePublish::Open, "nobody decided");
            }
            None | Some(Judgement::Refuse(..)) => {
                assert!(is_over, "shown before it was decided about, or though it was refused");
            }
        }
    }

    /// A client or a backend is about to say something.
    pub(crate) fn publish(&mut self, id: &[u8], room: &str, class: Class, content: Content) {
        let published = Published { room: room.to_owned(), class, content };
        let old = self.published.insert(id.to_vec(), published);
        assert!(old.is_none(), "a world's ids are unique");
    }

    /// A room has begun to live, and nobody may be in it yet.
    pub(crate) fn begins(&mut self, room: String, epoch: u64) {
        self.lives.entry((room, epoch)).or_default();
    }

    /// A message between shards, as it leaves its shard.
    pub(crate) fn overhear(&mut self, message: &Message, now: Tick) {
        match message {
            Message::Flush(batch) => self.batch(batch, now),
            Message::Held(batch) => batch.messages.iter().for_each(|m| self.passes(m, now)),
            Message::Attached { room, answer: Ok(state) } => {
                self.begins(room.to_string(), state.epoch.0);
                state.history.iter().for_each(|batch| self.batch(batch, now));
            }
            _ => {}
        }
    }

    fn batch(&mut self, batch: &Batch, now: Tick) {
        let (room, epoch) = (batch.room.to_string(), batch.epoch.0);
        for message in batch.messages.iter().filter(|message| !message.gone) {
            if !self.places.contains_key(&message.client_msg_id[..]) {
                self.passes(message, now);
            }
        }
        let life = self.lives.entry((room.clone(), epoch)).or_default();
        life.recalled.extend(batch.recalled());
        let mut seq = batch.seq_before();
        for message in &batch.messages {
            seq += 1;
            let id = message.client_msg_id.to_vec();
            assert_eq!(message.seq.0, seq, "a batch of {room} has contiguous seq");
            let said = self.published.get(&id).expect("what is admitted was published");
            assert_eq!(said.room, room, "a message stays in its room");
            if message.gone {
                // Recalled while the room had no member anywhere: nobody heard it.
                life.recalled.insert(seq);
            } else {
                assert_eq!((said.class, &said.content), (message.class, &message.content));
            }
            let known = Known { id: id.clone(), user: message.user.to_string() };
            if !life.messages.contains_key(&seq) && !message.gone {
                life.check_combo(message);
            }
            match life.messages.get(&seq) {
                Some(old) => assert_eq!(*old, known, "{room}: two messages with seq {seq}"),
                None => {
                    life.messages.insert(seq, known);
                    let old = self.places.insert(id, (epoch, seq));
                    assert!(old.is_none(), "{room}: a message was admitted twice, now as {seq}");
                }
            }
        }
    }

    /// A client got a message: it must be what the home ordered.
    pub(crate) fn received(&self, room: &str, epoch: u64, got: &v1::Message) -> Result<(), String> {
        let seq = got.seq;
        let life = self.lives.get(&(room.to_owned(), epoch));
        let known = life.and_then(|life| life.messages.get(&seq));
        let known = known.ok_or_else(|| format!("{room} never ordered seq {seq}"))?;
        if got.gone {
            let is_recalled = life.is_some_and(|life| life.recalled.contains(&seq));
            let is_blank = got.content.is_none() && is_recalled;
            return if is_blank { Ok(()) } else { Err(format!("seq {seq} is gone of itself")) };
        }
        let said = &self.published[&known.id];
        let content = match &got.content {
            Some(v1::message::Content::Text(text)) => Content::Text(Bytes::from(text.clone())),
            Some(v1::message::Content::Data(data)) => Content::Data(data.clone()),
            None => return Err(format!("seq {seq} of {room} came without content")),
        };
        let same = known.id == got.client_msg_id
            && known.user == got.user
            && said.class == got.class()
            && said.content == content;
        if same { Ok(()) } else { Err(format!("seq {seq} of {room} is not what was ordered")) }
    }

    /// A sender was told what became of a message.
    pub(crate) fn verdict(&mut self, id: &[u8], outcome: Outcome, seq: u64) -> Result<(), String> {
        if self.verdicts.insert(id.to_vec(), (outcome, seq)).is_some() {
            return Err("two verdicts on one message".into());
        }
        if (outcome == Outcome::Accepted) != (seq > 0) {
            return Err(format!("a verdict {outcome:?} with seq {seq}"));
        }
        Ok(())
    }

    /// What a sender was told of a message.
    pub(crate) fn outcome(&self, id: &[u8]) -> Option<Outcome> {
        self.verdicts.get(id).map(|(outcome, _)| *outcome)
    }

    /// Whether everything that senders were told is what happened.
    ///
    /// A room whose home has no member anywhere flushes to nobody, which cannot be overheard:
    /// there a seq is known from its verdict alone.
    pub(crate) fn check_verdicts(&self) {
        for (id, (outcome, seq)) in &self.verdicts {
            let said = &self.published[id];
            let class = said.class;
            match self.places.get(id) {
                Some((_, place)) => {
                    assert_eq!(*outcome, Outcome::Accepted, "an ordered {class:?} was {outcome:?}");
                    assert_eq!(place, seq, "a sender was told another seq");
                }
                None if *outcome == Outcome::Accepted => {
                    let mut lives = self.lives.iter().filter(|((room, _), _)| *room == said.room);
                    assert!(
                        lives.any(|(_, life)| !life.messages.contains_key(seq)),
                        "an accepted {class:?} is not in its room: another one has its seq {seq}"
                    );
                }
                None => {}
            }
        }
    }

    /// Accepted `system` messages of which somebody could know.
    pub(crate) fn systems(&self) -> impl Iterator<Item = (&str, u64, u64)> {
        self.places.iter().filter_map(|(id, (epoch, seq))| {
            let said = &self.published[id];
            (said.class == Class::System).then_some((said.room.as_str(), *epoch, *seq))
        })
    }
}
