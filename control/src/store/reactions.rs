//! Rows of reactions, and what their messages' logs tell of them.
//!
//! A reaction is one row; the counts of a message stand in one row beside it, moved with the rows
//! under the lock of the conversation. The log tells the counts by an event that has no content of
//! its own: the newest one shows what stands, those before it are blank. Which messages have counts
//! that no event tells yet is kept, so that a crash loses none.

use super::append::{Append, Row, Target, append, lock};
use super::conversations::{self, Kept};
use super::{Dialect, StoreError, parts, users};
use crate::relations::{Edge, Pair, Policy, check_write};
use prost::Message as _;
use sqlx::{AnyConnection, AssertSqlSafe};
use std::collections::{BTreeMap, BTreeSet};
use uproar_proto::error::Code;
use uproar_proto::names;
use uproar_proto::v1::{self, Kind, ReactionCount};

/// Different reactions of one user to one message. More: `LIMIT_REACHED`.
const OWN_MAX: usize = 5;
/// Different reactions to one message. More: `LIMIT_REACHED`.
const KINDS_MAX: usize = 20;
/// Reactions to one message by all users: what a recall has to erase at once. More:
/// `LIMIT_REACHED`.
const ALL_MAX: u64 = 100_000;

/// A reaction that a user makes or takes back.
#[derive(Clone, Debug)]
pub(crate) struct React {
    pub(crate) conv: i64,
    pub(crate) user: i64,
    /// To whom the conversation is.
    pub(crate) target: Target,
    /// The message.
    pub(crate) seq: i64,
    pub(crate) reaction: String,
    pub(crate) remove: bool,
}

/// Conversation and message.
pub(crate) type Place = (i64, i64);

/// Makes and takes back reactions, in their order. By item: whether anything changed, or why not.
pub(crate) async fn react(
    conn: &mut AnyConnection,
    dialect: Dialect,
    policy: Policy,
    items: &[React],
    now_ms: i64,
) -> Result<Vec<Result<bool, Code>>, StoreError> {
    let mut batch = Batch::load(conn, dialect, items).await?;
    let answers = items.iter().map(|item| batch.place(policy, item, now_ms)).collect();
    batch.write(conn, dialect, now_ms).await?;
    Ok(answers)
}

/// What one transaction works on.
struct Batch {
    convs: BTreeMap<i64, Row>,
    /// Users that were erased since they were looked up. Read behind the locks: an erasure comes by
    /// with the same ones ([`forget`]), and leaves nothing that is written after it.
    erased: BTreeSet<i64>,
    edges: BTreeMap<(i64, i64), Edge>,
    voices: BTreeMap<(i64, i64), conversations::Voice>,
    /// What of a group a user may read, by (conversation, user): (since, until).
    spans: BTreeMap<(i64, i64), Vec<(i64, i64)>>,
    /// Messages that may be reacted to.
    messages: BTreeSet<Place>,
    /// By message and user: as it was, and as it is now.
    own: BTreeMap<(Place, i64), (BTreeSet<String>, BTreeSet<String>)>,
    heads: BTreeMap<Place, Head>,
}

/// The counts of one message.
#[derive(Clone, Debug, Default)]
struct Head {
    totals: Vec<ReactionCount>,
    /// Who changed them last, in this transaction.
    by: Option<i64>,
    is_new: bool,
}

impl Batch {
    async fn load(
        conn: &mut AnyConnection,
        dialect: Dialect,
        items: &[React],
    ) -> Result<Batch, StoreError> {
        let convs: Vec<i64> = items.iter().map(|item| item.conv).collect();
        let convs = lock(conn, dialect, &convs).await?;
        let (mut pairs, mut members) = (BTreeSet::new(), BTreeSet::new());
        let mut by = BTreeSet::new();
        for item in items {
            by.insert(item.user);
            match item.target {
                Target::Direct(peer) => pairs.insert((item.user, peer)),
                Target::Group(conv) => members.insert((conv, item.user)),
            };
        }
        let members: Vec<(i64, i64)> = members.into_iter().collect();
        let pairs: Vec<(i64, i64)> = pairs.into_iter().collect();
        let places: BTreeSet<Place> = items.iter().map(|item| (item.conv, item.seq)).collect();
        let places: Vec<Place> = places.into_iter().collect();
        let own: BTreeSet<(Place, i64)> =
            items.iter().map(|item| ((item.conv, item.seq), item.user)).collect();
        Ok(Batch {
            convs,
            erased: users::erased(conn, &by.into_iter().collect::<Vec<_>>()).await?,
            edges: super::relations::edges(conn, dialect, &pairs).await?,
            voices: conversations::members(conn, &members).await?,
            spans: spans(conn, &members).await?,
            messages: messages(conn, &places).await?,
            own: own_of(conn, &own.into_iter().collect::<Vec<_>>()).await?,
            heads: heads(conn, &places).await?,
        })
    }

    fn may_react(&self, policy: Policy, item: &React, now_ms: i64) -> Result<(), Code> {
        let row = self.convs.get(&item.conv);
        match item.target {
            Target::Direct(peer) => {
                if peer != item.user {
                    let edge =
                        |user, peer| self.edges.get(&(user, peer)).copied().unwrap_or_default();
                    let (own, theirs) = (edge(item.user, peer), edge(peer, item.user));
                    check_write(Pair { own, theirs }, policy)?;
                }
                if !row.is_some_and(|row| row.is_of(item.user, peer)) {
                    return Err(Code::NotFound);
                }
            }
            Target::Group(conv) => {
                if !row.is_some_and(Row::is_group) {
                    return Err(Code::NotFound);
                }
                let voice = self.voices.get(&(conv, item.user)).ok_or(Code::NotMember)?;
                if voice.is_muted(now_ms) {
                    return Err(Code::Muted);
                }
                let spans = self.spans.get(&(conv, item.user)).into_iter().flatten();
                let sees = |(since, until): &(i64, i64)| {
                    *since < item.seq && (*until == 0 || item.seq <= *until)
                };
                if !spans.into_iter().any(sees) {
                    return Err(Code::NotFound);
                }
            }
        }
        let floor = row.map_or(0, |row| row.locked().floor);
        let is_kept = item.seq > floor && self.messages.contains(&(item.conv, item.seq));
        if is_kept { Ok(()) } else { Err(Code::NotFound) }
    }

    fn place(&mut self, policy: Policy, item: &React, now_ms: i64) -> Result<bool, Code> {
        if self.erased.contains(&item.user) {
            return Err(Code::TokenInvalid);
        }
        let place = (item.conv, item.seq);
        let (_, own) = self.own.entry((place, item.user)).or_default();
        let is_there = own.contains(&item.reaction);
        // As with messages: whoever may do what by now, a retry has its answer.
        if is_there && !item.remove {
            return Ok(false);
        }
        self.may_react(policy, item, now_ms)?;
        if !is_there && item.remove {
            return Ok(false);
        }
        let head = self.heads.entry(place);
        let head = head.or_insert_with(|| Head { is_new: true, ..Head::default() });
        let (_, own) = self.own.entry((place, item.user)).or_default();
        if item.remove {
            own.remove(&item.reaction);
            head.count(&item.reaction, false);
        } else {
            let all: u64 = head.totals.iter().map(|total| u64::from(total.count)).sum();
            let is_known = head.totals.iter().any(|total| total.reaction == item.reaction);
            let is_full = head.totals.len() >= KINDS_MAX && !is_known;
            if own.len() >= OWN_MAX || is_full || all >= ALL_MAX {
                return Err(Code::LimitReached);
            }
            own.insert(item.reaction.clone());
            head.count(&item.reaction, true);
        }
        head.by = Some(item.user);
        Ok(true)
    }

    async fn write(
        self,
        conn: &mut AnyConnection,
        dialect: Dialect,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let (mut made, mut ended) = (Vec::new(), Vec::new());
        for ((place, user), (before, after)) in &self.own {
            made.extend(after.difference(before).map(|reaction| (*place, *user, reaction)));
            ended.extend(before.difference(after).map(|reaction| (*place, *user, reaction)));
        }
        for part in parts(&made) {
            let rows = vec!["(?, ?, ?, ?, ?)"; part.len()].join(", ");
            let insert =
                format!("INSERT INTO reactions (conv, seq, user, reaction, made_ms) VALUES {rows}");
            let mut query = sqlx::query(AssertSqlSafe(insert));
            for ((conv, seq), user, reaction) in part {
                query = query.bind(*conv).bind(*seq).bind(*user);
                query = query.bind(reaction.as_bytes().to_vec()).bind(now_ms);
            }
            query.execute(&mut *conn).await?;
        }
        for part in parts(&ended) {
            let one = "(conv = ? AND seq = ? AND user = ? AND reaction = ?)";
            let these = vec![one; part.len()].join(" OR ");
            let delete = format!("DELETE FROM reactions WHERE {these}");
            let mut query = sqlx::query(AssertSqlSafe(delete));
            for ((conv, seq), user, reaction) in part {
                query = query.bind(*conv).bind(*seq).bind(*user);
                query = query.bind(reaction.as_bytes().to_vec());
            }
            query.execute(&mut *conn).await?;
        }
        for (place, head) in &self.heads {
            if let Some(by) = head.by {
                head.write(conn, *place, by).await?;
                await_event(conn, dialect, *place).await?;
            }
        }
        Ok(())
    }
}

impl Head {
    fn count(&mut self, reaction: &str, more: bool) {
        let at = self.totals.iter().position(|total| total.reaction == reaction);
        match at {
            Some(at) if more => self.totals[at].count += 1,
            Some(at) if self.totals[at].count > 1 => self.totals[at].count -= 1,
            Some(at) => drop(self.totals.remove(at)),
            None => self.totals.push(ReactionCount { reaction: reaction.to_owned(), count: 1 }),
        }
    }

    async fn write(
        &self,
        conn: &mut AnyConnection,
        (conv, seq): Place,
        by: i64,
    ) -> Result<(), StoreError> {
        let kept = v1::StoredMessage { reactions: self.totals.clone(), ..Default::default() };
        let query = sqlx::query(if self.is_new {
            "INSERT INTO reaction_heads (totals, user, conv, seq, event) VALUES (?, ?, ?, ?, 0)"
        } else {
            "UPDATE reaction_heads SET totals = ?, user = ? WHERE conv = ? AND seq = ?"
        });
        let query = query.bind(kept.encode_to_vec()).bind(by).bind(conv).bind(seq);
        query.execute(conn).await?;
        Ok(())
    }
}

/// The counts of a message are to be told.
async fn await_event(
    conn: &mut AnyConnection,
    dialect: Dialect,
    (conv, seq): Place,
) -> Result<(), StoreError> {
    let insert = sqlx::query(dialect.pick(
        "INSERT INTO reaction_pending (conv, seq) VALUES (?, ?) ON CONFLICT (conv, seq) DO NOTHING",
        "INSERT INTO reaction_pending (conv, seq) VALUES (?, ?) ON DUPLICATE KEY UPDATE seq = seq",
    ));
    insert.bind(conv).bind(seq).execute(conn).await?;
    Ok(())
}

/// All memberships of these (group, user): (since, until).
async fn spans(
    conn: &mut AnyConnection,
    members: &[(i64, i64)],
) -> Result<BTreeMap<(i64, i64), Vec<(i64, i64)>>, StoreError> {
    let mut found: BTreeMap<(i64, i64), Vec<(i64, i64)>> = BTreeMap::new();
    for part in parts(members) {
        let these = vec!["(conv = ? AND user = ?)"; part.len()].join(" OR ");
        let select = format!("SELECT conv, user, since, until FROM memberships WHERE {these}");
        let mut query = sqlx::query_as::<_, (i64, i64, i64, i64)>(AssertSqlSafe(select));
        for (conv, user) in part {
            query = query.bind(*conv).bind(*user);
        }
        for (conv, user, since, until) in query.fetch_all(&mut *conn).await? {
            found.entry((conv, user)).or_default().push((since, until));
        }
    }
    Ok(found)
}

/// Of these places those where a message stands that says something.
async fn messages(
    conn: &mut AnyConnection,
    places: &[Place],
) -> Result<BTreeSet<Place>, StoreError> {
    let mut found = BTreeSet::new();
    for part in parts(places) {
        let these = vec!["(i.conv = ? AND i.seq = ?)"; part.len()].join(" OR ");
        let select = format!(
            "SELECT i.conv, i.seq FROM message_index i JOIN message_content b
                ON b.conv = i.conv AND b.seq = i.seq AND b.time_ms = i.time_ms
                WHERE i.kind = ? AND LENGTH(b.body) > 0 AND ({these})"
        );
        let mut query = sqlx::query_as::<_, (i64, i64)>(AssertSqlSafe(select));
        query = query.bind(Kind::Message as i64);
        for (conv, seq) in part {
            query = query.bind(*conv).bind(*seq);
        }
        found.extend(query.fetch_all(&mut *conn).await?);
    }
    Ok(found)
}

type Own = BTreeMap<(Place, i64), (BTreeSet<String>, BTreeSet<String>)>;

/// The reactions of users to messages, twice: to be changed, and to be compared with.
async fn own_of(conn: &mut AnyConnection, of: &[(Place, i64)]) -> Result<Own, StoreError> {
    let mut found = Own::new();
    for part in parts(of) {
        let these = vec!["(conv = ? AND seq = ? AND user = ?)"; part.len()].join(" OR ");
        let select = format!("SELECT conv, seq, user, reaction FROM reactions WHERE {these}");
        let mut query = sqlx::query_as::<_, (i64, i64, i64, Vec<u8>)>(AssertSqlSafe(select));
        for ((conv, seq), user) in part {
            query = query.bind(*conv).bind(*seq).bind(*user);
        }
        for (conv, seq, user, reaction) in query.fetch_all(&mut *conn).await? {
            let (before, now) = found.entry(((conv, seq), user)).or_default();
            let reaction = text(reaction)?;
            now.insert(reaction.clone());
            before.insert(reaction);
        }
    }
    Ok(found)
}

async fn heads(
    conn: &mut AnyConnection,
    places: &[Place],
) -> Result<BTreeMap<Place, Head>, StoreError> {
    let mut found = BTreeMap::new();
    for part in parts(places) {
        let these = vec!["(conv = ? AND seq = ?)"; part.len()].join(" OR ");
        let select = format!("SELECT conv, seq, totals FROM reaction_heads WHERE {these}");
        let mut query = sqlx::query_as::<_, (i64, i64, Vec<u8>)>(AssertSqlSafe(select));
        for (conv, seq) in part {
            query = query.bind(*conv).bind(*seq);
        }
        for (conv, seq, kept) in query.fetch_all(&mut *conn).await? {
            found.insert((conv, seq), Head { totals: totals(&kept)?, ..Head::default() });
        }
    }
    Ok(found)
}

fn totals(kept: &[u8]) -> Result<Vec<ReactionCount>, StoreError> {
    let kept = v1::StoredMessage::decode(kept);
    Ok(kept.map_err(|error| StoreError::Corrupt(error.to_string()))?.reactions)
}

fn text(reaction: Vec<u8>) -> Result<String, StoreError> {
    let text = String::from_utf8(reaction);
    text.map_err(|_| StoreError::Corrupt("a reaction that is no text".into()))
}

/// Takes back the reactions of a user that was erased to these messages of a conversation; whether
/// there were any: then counts are to be told.
pub(crate) async fn forget(
    conn: &mut AnyConnection,
    dialect: Dialect,
    (conv, user): (i64, i64),
    seqs: &[i64],
) -> Result<bool, StoreError> {
    // As whoever reacts: what is under way is written before this, or not at all.
    lock(conn, dialect, &[conv]).await?;
    let of: Vec<(Place, i64)> = seqs.iter().map(|seq| ((conv, *seq), user)).collect();
    let own = own_of(conn, &of).await?;
    let places: Vec<Place> = own.keys().map(|(place, _)| *place).collect();
    let mut heads = heads(conn, &places).await?;
    for ((place, _), (made, _)) in &own {
        let delete = sqlx::query("DELETE FROM reactions WHERE conv = ? AND seq = ? AND user = ?");
        delete.bind(conv).bind(place.1).bind(user).execute(&mut *conn).await?;
        if let Some(head) = heads.get_mut(place) {
            made.iter().for_each(|reaction| head.count(reaction, false));
            head.write(conn, *place, user).await?;
            await_event(conn, dialect, *place).await?;
        }
    }
    Ok(!own.is_empty())
}

/// Messages whose counts no event tells yet: what the last run left, or an erasure has changed.
pub(crate) async fn pending(conn: &mut AnyConnection) -> Result<Vec<Place>, StoreError> {
    Ok(sqlx::query_as("SELECT conv, seq FROM reaction_pending").fetch_all(conn).await?)
}

/// An event that tells the counts of a message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) conv: i64,
    pub(crate) target_seq: i64,
    pub(crate) seq: i64,
    pub(crate) time_ms: i64,
    pub(crate) msg_id: u64,
    /// Who changed them last.
    pub(crate) by: i64,
    pub(crate) totals: Vec<ReactionCount>,
}

/// Appends events that tell the counts of these messages, where that is still to be done.
pub(crate) async fn tell(
    conn: &mut AnyConnection,
    dialect: Dialect,
    policy: Policy,
    places: &[Place],
    now_ms: i64,
) -> Result<Vec<Event>, StoreError> {
    let convs: Vec<i64> = places.iter().map(|(conv, _)| *conv).collect();
    let rows = lock(conn, dialect, &convs).await?;
    let (mut items, mut told) = (Vec::new(), Vec::new());
    for place in places {
        let Some(row) = rows.get(&place.0) else { continue };
        if let Some((by, totals)) = untold(conn, *place).await? {
            items.push(event(*place, row.target(place.0, by), by));
            told.push((*place, by, totals));
        }
    }
    let answers = append(conn, dialect, policy, &items, now_ms).await?;
    let mut events = Vec::with_capacity(told.len());
    for ((place, by, totals), answer) in told.into_iter().zip(answers) {
        let (conv, target_seq) = place;
        end_wait(conn, place, answer.map_or(0, |placed| placed.seq)).await?;
        // Refused: there is nothing left that could be reacted to.
        if let Ok(placed) = answer {
            let (seq, time_ms, msg_id) = (placed.seq, placed.time_ms, placed.msg_id);
            events.push(Event { conv, target_seq, seq, time_ms, msg_id, by, totals });
        }
    }
    Ok(events)
}

/// The counts of a message that waits for its event, and who changed them last.
async fn untold(
    conn: &mut AnyConnection,
    (conv, seq): Place,
) -> Result<Option<(i64, Vec<ReactionCount>)>, StoreError> {
    let row = sqlx::query_as::<_, (i64, Vec<u8>)>(
        "SELECT h.user, h.totals FROM reaction_pending w JOIN reaction_heads h
            ON h.conv = w.conv AND h.seq = w.seq WHERE w.conv = ? AND w.seq = ?",
    );
    let row = row.bind(conv).bind(seq).fetch_optional(conn).await?;
    row.map(|(by, kept)| Ok((by, totals(&kept)?))).transpose()
}

fn event((_, target_seq): Place, target: Target, by: i64) -> Append {
    let half = || u128::from(crate::ids::random_id() as u64);
    Append {
        sender: by,
        target,
        client_msg_id: half() << 64 | half(),
        hash: 0,
        kind: Kind::Reactions,
        target_seq,
        body: Vec::new(),
        by_operator: false,
    }
}

/// An event tells the counts of a message now; 0: none ever will.
async fn end_wait(
    conn: &mut AnyConnection,
    (conv, seq): Place,
    event: i64,
) -> Result<(), StoreError> {
    let update = sqlx::query("UPDATE reaction_heads SET event = ? WHERE conv = ? AND seq = ?");
    update.bind(event).bind(conv).bind(seq).execute(&mut *conn).await?;
    let delete = sqlx::query("DELETE FROM reaction_pending WHERE conv = ? AND seq = ?");
    delete.bind(conv).bind(seq).execute(conn).await?;
    Ok(())
}

/// What stands at a message beside its text, for a reader.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Beside {
    pub(crate) totals: Vec<ReactionCount>,
    pub(crate) own: Vec<String>,
    /// The seq of the event that pinned it; 0: it is not pinned.
    pub(crate) pinned: i64,
}

/// The same for messages and events that were read together, by their seq. An event has the counts
/// of its target, unless a newer one tells them.
pub(crate) async fn beside(
    conn: &mut AnyConnection,
    conv: i64,
    reader: i64,
    kept: &[Kept],
) -> Result<BTreeMap<i64, Beside>, StoreError> {
    let mut found: BTreeMap<i64, Beside> = BTreeMap::new();
    let (Some(first), Some(last)) = (kept.first(), kept.last()) else { return Ok(found) };
    // Of the range, and of what events in it are about.
    let is_event = |kept: &&Kept| kept.kind == Kind::Reactions as i64;
    let events: BTreeMap<i64, i64> =
        kept.iter().filter(is_event).map(|kept| (kept.seq, kept.target)).collect();
    let mut heads: BTreeMap<i64, (i64, Vec<u8>)> = BTreeMap::new();
    let rows = sqlx::query_as::<_, (i64, i64, Vec<u8>)>(
        "SELECT seq, event, totals FROM reaction_heads WHERE conv = ? AND seq >= ? AND seq <= ?",
    );
    let rows = rows.bind(conv).bind(first.seq).bind(last.seq).fetch_all(&mut *conn).await?;
    heads.extend(rows.into_iter().map(|(seq, event, totals)| (seq, (event, totals))));
    let missing: BTreeSet<i64> =
        events.values().copied().filter(|target| !heads.contains_key(target)).collect();
    for part in parts(&missing.into_iter().collect::<Vec<_>>()) {
        let marks = vec!["?"; part.len()].join(", ");
        let select = format!(
            "SELECT seq, event, totals FROM reaction_heads WHERE conv = ? AND seq IN ({marks})"
        );
        let mut query = sqlx::query_as::<_, (i64, i64, Vec<u8>)>(AssertSqlSafe(select)).bind(conv);
        for seq in part {
            query = query.bind(*seq);
        }
        let rows = query.fetch_all(&mut *conn).await?;
        heads.extend(rows.into_iter().map(|(seq, event, totals)| (seq, (event, totals))));
    }
    let reacted: Vec<i64> = heads.keys().copied().collect();
    let mut own = own_by(conn, conv, reader, &reacted).await?;
    for message in kept {
        let about = events.get(&message.seq).copied().unwrap_or(message.seq);
        let Some((event, counts)) = heads.get(&about) else { continue };
        if about == message.seq || *event == message.seq {
            let beside = found.entry(message.seq).or_default();
            beside.totals = totals(counts)?;
            beside.own = own.get_mut(&about).cloned().unwrap_or_default();
        }
    }
    let pins = sqlx::query_as::<_, (i64, i64)>(
        "SELECT seq, event FROM pins WHERE conv = ? AND seq >= ? AND seq <= ?",
    );
    let pins = pins.bind(conv).bind(first.seq).bind(last.seq).fetch_all(conn).await?;
    for (seq, event) in pins {
        found.entry(seq).or_default().pinned = event;
    }
    Ok(found)
}

/// A user's own reactions to messages of a conversation.
async fn own_by(
    conn: &mut AnyConnection,
    conv: i64,
    user: i64,
    seqs: &[i64],
) -> Result<BTreeMap<i64, Vec<String>>, StoreError> {
    let of: Vec<(Place, i64)> = seqs.iter().map(|seq| ((conv, *seq), user)).collect();
    let own = own_of(conn, &of).await?.into_iter();
    Ok(own.map(|(((_, seq), _), (now, _))| (seq, now.into_iter().collect())).collect())
}

/// The reactions to one message now, and which are the reader's own.
pub(crate) async fn of_message(
    conn: &mut AnyConnection,
    (conv, seq): Place,
    reader: i64,
) -> Result<Beside, StoreError> {
    let head = heads(conn, &[(conv, seq)]).await?.remove(&(conv, seq)).unwrap_or_default();
    let own = own_by(conn, conv, reader, &[seq]).await?.remove(&seq).unwrap_or_default();
    Ok(Beside { totals: head.totals, own, pinned: 0 })
}

/// Who reacted to a message, by user id after `after`: id, name, reactions. `only` one reaction.
pub(crate) async fn list(
    conn: &mut AnyConnection,
    (conv, seq): Place,
    only: Option<&str>,
    after: i64,
    limit: i64,
) -> Result<Vec<(i64, String, Vec<String>)>, StoreError> {
    // Rows of one user lie together: the page ends with the last whole user.
    let rows = sqlx::query_as::<_, (i64, String, String, Vec<u8>)>(
        "SELECT r.user, u.issuer, u.name, r.reaction
            FROM reactions r JOIN users u ON u.id = r.user
            WHERE r.conv = ? AND r.seq = ? AND r.user > ? AND (? = 0 OR r.reaction = ?)
            ORDER BY r.user, r.reaction LIMIT ?",
    );
    let rows = rows.bind(conv).bind(seq).bind(after).bind(i64::from(only.is_some()));
    let rows = rows.bind(only.unwrap_or_default().as_bytes().to_vec());
    let rows = rows.bind((limit + 1) * OWN_MAX as i64).fetch_all(conn).await?;
    let mut users: Vec<(i64, String, Vec<String>)> = Vec::new();
    for (user, issuer, name, reaction) in rows {
        if users.last().is_none_or(|last| last.0 != user) {
            users.push((user, names::join(&issuer, &name).into_owned(), Vec::new()));
        }
        if let Some(last) = users.last_mut() {
            last.2.push(text(reaction)?);
        }
    }
    users.truncate(usize::try_from(limit).unwrap_or_default());
    Ok(users)
}

/// Which messages of these conversations are pinned, by seq.
pub(crate) async fn pinned(
    conn: &mut AnyConnection,
    convs: &[i64],
) -> Result<BTreeMap<i64, Vec<i64>>, StoreError> {
    let mut found: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for part in parts(convs) {
        let marks = vec!["?"; part.len()].join(", ");
        let select =
            format!("SELECT conv, seq FROM pins WHERE conv IN ({marks}) ORDER BY conv, seq");
        let mut query = sqlx::query_as::<_, (i64, i64)>(AssertSqlSafe(select));
        for conv in part {
            query = query.bind(*conv);
        }
        for (conv, seq) in query.fetch_all(&mut *conn).await? {
            found.entry(conv).or_default().push(seq);
        }
    }
    Ok(found)
}
