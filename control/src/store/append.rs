//! Appends to conversations: the one transaction that gives a message its place.
//!
//! Owns the order inside it: lock the conversations, look for the sender's key, ask whether the
//! sender may, assign the seq, write. The look-up comes before the permission, so that a retry
//! after an unfriend is still answered with the old seq. One bad item never fails the others.

use super::conversations::Voice;
use super::{Dialect, StoreError, conversations, events, parts, parts_within};
use crate::relations::{Edge, Pair, Policy, check_write};
use sha2::{Digest, Sha256};
use sqlx::{AnyConnection, AssertSqlSafe};
use std::collections::{BTreeMap, BTreeSet};
use uproar_proto::error::Code;
use uproar_proto::v1::Kind;

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// To a user.
    Direct(i64),
    /// To a group, by its conversation.
    Group(i64),
}

/// A message to append, checked as far as it can be without the store.
#[derive(Clone, Debug)]
pub(crate) struct Append {
    pub(crate) sender: i64,
    pub(crate) target: Target,
    pub(crate) client_msg_id: u128,
    /// Of the decoded fields: tells a retry from another message with a used id.
    pub(crate) hash: i64,
    pub(crate) kind: Kind,
    /// What an event is about.
    pub(crate) target_seq: i64,
    /// The content as it is kept.
    pub(crate) body: Vec<u8>,
    /// Written for the sender by an operator: nobody asks whether the sender may, and it tells
    /// nothing of what the sender has read.
    pub(crate) by_operator: bool,
}

/// A place in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Appended {
    pub(crate) conv: i64,
    pub(crate) seq: i64,
    pub(crate) time_ms: i64,
    /// By an earlier try: nothing is to be pushed.
    pub(crate) before: bool,
    /// A group's: how far the sender had read before it wrote this, where others may know it.
    pub(crate) read_before: i64,
    /// Names the message, everywhere and for ever.
    pub(crate) msg_id: u64,
}

/// The name of a message: a hash of what makes it this one and no other, the key of its
/// idempotence. So it needs no column, a retry has the same, and it says nothing of an order.
pub(crate) fn msg_id(conv: i64, sender: i64, client_msg_id: u128) -> u64 {
    let mut hash = Sha256::new();
    hash.update(b"message");
    hash.update(conv.to_be_bytes());
    hash.update(sender.to_be_bytes());
    hash.update(client_msg_id.to_be_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash.finalize()[..8]);
    u64::from_be_bytes(first)
}

/// A conversation under the transaction's lock.
pub(super) struct Locked {
    head: i64,
    counted: i64,
    /// Content up to here is kept no longer.
    pub(super) floor: i64,
    fresh: bool,
}

/// Appends all of them in their order; each gets its place or the reason why it has none.
pub(crate) async fn append(
    conn: &mut AnyConnection,
    dialect: Dialect,
    policy: Policy,
    items: &[Append],
    now_ms: i64,
) -> Result<Vec<Result<Appended, Code>>, StoreError> {
    let mut batch = Batch::load(conn, dialect, items).await?;
    let mut answers = Vec::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        answers.push(batch.place(conn, policy, (at, item), now_ms).await?);
    }
    batch.written.flush(conn).await?;
    let fresh = batch.locked.iter().filter_map(|(conv, state)| {
        let state = state.as_ref().filter(|state| state.fresh)?;
        Some((*conv, state.head, state.counted))
    });
    update_heads(conn, &fresh.collect::<Vec<_>>(), now_ms).await?;
    let own: Vec<(i64, i64, i64)> =
        batch.written.own.iter().map(|((conv, user), seq)| (*conv, *user, *seq)).collect();
    update_own(conn, &own, now_ms).await?;
    Ok(answers)
}

/// What would become of these now, as far as that is seen without locks: whether it has its place
/// already, or why it would have none. What counts is decided by [`append`].
pub(crate) async fn look(
    conn: &mut AnyConnection,
    policy: Policy,
    items: &[Append],
    now_ms: i64,
) -> Result<Vec<Result<bool, Code>>, StoreError> {
    // Read as SQLite is: a lock would only keep writers waiting.
    let batch = Batch::load(conn, Dialect::Sqlite, items).await?;
    let seen = items.iter().zip(&batch.convs).map(|(item, conv)| {
        match batch.earlier.get(&item.key(*conv)) {
            Some((.., hash)) if *hash == item.hash => Ok(true),
            Some(_) => Err(Code::Conflict),
            None => batch.may_append(policy, item, *conv, now_ms).map(|()| false),
        }
    });
    Ok(seen.collect())
}

/// What one transaction works on: read at once for all its items.
struct Batch {
    /// By item.
    convs: Vec<i64>,
    locked: BTreeMap<i64, Option<Locked>>,
    /// Places that earlier transactions gave, by key.
    earlier: BTreeMap<Key, (i64, i64, i64)>,
    /// What users are to each other, by (user, peer).
    edges: BTreeMap<(i64, i64), Edge>,
    /// Members of groups, by (conversation, user).
    members: BTreeMap<(i64, i64), Voice>,
    written: Written,
}

/// Conversation, sender, the sender's id.
type Key = (i64, i64, u128);

impl Batch {
    async fn load(
        conn: &mut AnyConnection,
        dialect: Dialect,
        items: &[Append],
    ) -> Result<Batch, StoreError> {
        let mut convs: Vec<i64> = items
            .iter()
            .map(|item| match item.target {
                Target::Group(conv) => conv,
                Target::Direct(peer) => conversations::pair_id((item.sender, peer), 0),
            })
            .collect();
        let rows = lock(conn, dialect, &convs).await?;
        let mut locked: BTreeMap<i64, Option<Locked>> = BTreeMap::new();
        for (item, conv) in items.iter().zip(&mut convs) {
            let row = rows.get(conv);
            let expected = match item.target {
                Target::Group(_) => row.is_some_and(|row| row.kind == conversations::GROUP),
                Target::Direct(peer) => {
                    let pair = (item.sender.min(peer), item.sender.max(peer));
                    row.is_none_or(|row| row.users == pair)
                }
            };
            match (item.target, expected) {
                (_, true) => {
                    locked.entry(*conv).or_insert_with(|| row.map(Row::locked));
                }
                // A one-to-one conversation under a group's name is none.
                (Target::Group(_), false) => {
                    locked.insert(*conv, None);
                }
                // Another pair has the id: about once in as many pairs as there are ids.
                (Target::Direct(peer), false) => {
                    *conv = conversations::direct(conn, item.sender, peer).await?;
                    let row = lock(conn, dialect, &[*conv]).await?;
                    locked.entry(*conv).or_insert_with(|| row.get(conv).map(Row::locked));
                }
            }
        }
        let keys = items.iter().zip(&convs).map(|(item, conv)| item.key(*conv));
        let earlier = find(conn, &keys.collect::<Vec<Key>>()).await?;
        let (mut pairs, mut members) = (Vec::new(), Vec::new());
        for (item, conv) in items.iter().zip(&convs) {
            match item.target {
                Target::Direct(peer) => pairs.push((item.sender, peer)),
                Target::Group(_) => members.push((*conv, item.sender)),
            }
        }
        let edges = super::relations::edges(conn, dialect, &pairs).await?;
        let members = conversations::members(conn, &members).await?;
        Ok(Batch { convs, locked, earlier, edges, members, written: Written::default() })
    }

    /// Gives one item its place, or tells why it has none.
    async fn place(
        &mut self,
        conn: &mut AnyConnection,
        policy: Policy,
        (at, item): (usize, &Append),
        now_ms: i64,
    ) -> Result<Result<Appended, Code>, StoreError> {
        let conv = self.convs[at];
        let key = item.key(conv);
        let known = self.written.places.get(&key).or(self.earlier.get(&key)).copied();
        if let Some((seq, time_ms, hash)) = known {
            let msg_id = msg_id(conv, item.sender, item.client_msg_id);
            let same = Appended { conv, seq, time_ms, before: true, read_before: seq, msg_id };
            return Ok(if hash == item.hash { Ok(same) } else { Err(Code::Conflict) });
        }
        if let Err(code) = self.may_append(policy, item, conv, now_ms) {
            return Ok(Err(code));
        }
        if self.locked.get(&conv).is_none_or(Option::is_none) {
            let opened = open_direct(conn, conv, item, now_ms).await?;
            self.locked.insert(conv, Some(opened));
        }
        let Some(Some(state)) = self.locked.get_mut(&conv) else {
            return Err(StoreError::Corrupt(format!("the conversation {conv} has no lock")));
        };
        let target_time_ms = match event_target(conn, conv, item, state, &self.written).await? {
            Ok(time_ms) => time_ms,
            Err(code) => return Ok(Err(code)),
        };
        if let Some(time_ms) = target_time_ms {
            // The row it is about may be among those that wait to be written.
            self.written.flush(conn).await?;
            let about = (time_ms, state.floor);
            if let Err(code) = events::check(conn, conv, item, about).await? {
                return Ok(Err(code));
            }
        }
        state.head += 1;
        state.counted += i64::from(item.kind == Kind::Message);
        state.fresh = true;
        let (seq, n) = (state.head, state.counted);
        if let Some(target_time_ms) = target_time_ms {
            apply(conn, conv, item, seq, target_time_ms).await?;
            events::apply(conn, conv, item, seq).await?;
        }
        self.written.add(Waiting { conv, seq, n, time_ms: now_ms, item: item.clone() });
        let member = self.members.get_mut(&(conv, item.sender));
        let read_before = member.map_or(seq, |member| member.reads(seq));
        let msg_id = msg_id(conv, item.sender, item.client_msg_id);
        Ok(Ok(Appended { conv, seq, time_ms: now_ms, before: false, read_before, msg_id }))
    }

    fn may_append(
        &self,
        policy: Policy,
        item: &Append,
        conv: i64,
        now_ms: i64,
    ) -> Result<(), Code> {
        match item.target {
            // The server's own words: what they tell was allowed.
            _ if item.kind == Kind::Reactions => Ok(()),
            Target::Direct(_) if item.by_operator => Ok(()),
            Target::Direct(peer) if peer == item.sender => Ok(()),
            Target::Direct(peer) => {
                let edge = |user, peer| self.edges.get(&(user, peer)).copied().unwrap_or_default();
                let (own, theirs) = (edge(item.sender, peer), edge(peer, item.sender));
                check_write(Pair { own, theirs }, policy)
            }
            Target::Group(_) if self.locked.get(&conv).is_none_or(Option::is_none) => {
                Err(Code::NotFound)
            }
            // The server's own words: what they tell was allowed.
            Target::Group(_) if item.kind == Kind::Notice || item.by_operator => Ok(()),
            Target::Group(_) => match self.members.get(&(conv, item.sender)) {
                None => Err(Code::NotMember),
                Some(member) if member.is_muted(now_ms) => Err(Code::Muted),
                Some(_) => Ok(()),
            },
        }
    }
}

impl Append {
    fn key(&self, conv: i64) -> Key {
        (conv, self.sender, self.client_msg_id)
    }
}

/// A conversation's row.
pub(super) struct Row {
    kind: i64,
    users: (i64, i64),
    head: i64,
    counted: i64,
    floor: i64,
}

impl Row {
    pub(super) fn locked(&self) -> Locked {
        Locked { head: self.head, counted: self.counted, floor: self.floor, fresh: false }
    }

    pub(super) fn is_group(&self) -> bool {
        self.kind == conversations::GROUP
    }

    /// Where a message of this user goes in it.
    pub(super) fn target(&self, conv: i64, from: i64) -> Target {
        let (one, other) = self.users;
        match self.is_group() {
            true => Target::Group(conv),
            false => Target::Direct(if one == from { other } else { one }),
        }
    }

    /// Whether it is the conversation of these two.
    pub(super) fn is_of(&self, one: i64, other: i64) -> bool {
        !self.is_group() && self.users == (one.min(other), one.max(other))
    }
}

/// Locks conversations, in the order of their ids, so that two transactions never wait for each
/// other.
pub(super) async fn lock(
    conn: &mut AnyConnection,
    dialect: Dialect,
    convs: &[i64],
) -> Result<BTreeMap<i64, Row>, StoreError> {
    let convs: Vec<i64> = convs.iter().copied().collect::<BTreeSet<i64>>().into_iter().collect();
    let mut rows = BTreeMap::new();
    for part in parts(&convs) {
        let marks = vec!["?"; part.len()].join(", ");
        let select = format!(
            "SELECT conv, kind, user_a, user_b, head, counted, floor FROM conversations
                WHERE conv IN ({marks}) ORDER BY conv {}",
            dialect.pick("", "FOR UPDATE")
        );
        let mut query =
            sqlx::query_as::<_, (i64, i64, i64, i64, i64, i64, i64)>(AssertSqlSafe(select));
        for conv in part {
            query = query.bind(*conv);
        }
        for (conv, kind, a, b, head, counted, floor) in query.fetch_all(&mut *conn).await? {
            rows.insert(conv, Row { kind, users: (a, b), head, counted, floor });
        }
    }
    Ok(rows)
}

/// Whether a message stands, by conversation, sender and the id it was written under. Waits for a
/// transaction that may be writing it.
pub(crate) async fn stands(
    conn: &mut AnyConnection,
    dialect: Dialect,
    key: (i64, i64, u128),
) -> Result<bool, StoreError> {
    lock(conn, dialect, &[key.0]).await?;
    Ok(!find(conn, &[key]).await?.is_empty())
}

/// The places earlier tries were given: seq, time and hash, by key.
async fn find(
    conn: &mut AnyConnection,
    keys: &[Key],
) -> Result<BTreeMap<Key, (i64, i64, i64)>, StoreError> {
    let mut found = BTreeMap::new();
    for part in parts(keys) {
        let one = "(conv = ? AND sender = ? AND id_high = ? AND id_low = ?)";
        let select = format!(
            "SELECT conv, sender, id_high, id_low, seq, time_ms, hash FROM message_index WHERE {}",
            vec![one; part.len()].join(" OR ")
        );
        let mut query =
            sqlx::query_as::<_, (i64, i64, i64, i64, i64, i64, i64)>(AssertSqlSafe(select));
        for (conv, sender, id) in part {
            let (high, low) = halves(*id);
            query = query.bind(*conv).bind(*sender).bind(high).bind(low);
        }
        for (conv, sender, high, low, seq, time_ms, hash) in query.fetch_all(&mut *conn).await? {
            let id = u128::from(high as u64) << 64 | u128::from(low as u64);
            found.insert((conv, sender, id), (seq, time_ms, hash));
        }
    }
    Ok(found)
}

/// A 128-bit id as two signed columns.
fn halves(id: u128) -> (i64, i64) {
    ((id >> 64) as i64, id as i64)
}

/// Newest seq and counted messages of conversations that grew.
async fn update_heads(
    conn: &mut AnyConnection,
    heads: &[(i64, i64, i64)],
    now_ms: i64,
) -> Result<(), StoreError> {
    for part in parts(heads) {
        let when = vec!["WHEN ? THEN ?"; part.len()].join(" ");
        let marks = vec!["?"; part.len()].join(", ");
        let update = format!(
            "UPDATE conversations SET head = CASE conv {when} ELSE head END,
                counted = CASE conv {when} ELSE counted END, changed_ms = ? WHERE conv IN ({marks})"
        );
        let mut query = sqlx::query(AssertSqlSafe(update));
        for (conv, head, _) in part {
            query = query.bind(*conv).bind(*head);
        }
        for (conv, _, counted) in part {
            query = query.bind(*conv).bind(*counted);
        }
        query = query.bind(now_ms);
        for (conv, ..) in part {
            query = query.bind(*conv);
        }
        query.execute(&mut *conn).await?;
    }
    Ok(())
}

/// One's own message is read by oneself: (conversation, user, seq), all newer than what was read.
async fn update_own(
    conn: &mut AnyConnection,
    own: &[(i64, i64, i64)],
    now_ms: i64,
) -> Result<(), StoreError> {
    for part in parts(own) {
        let when = vec!["WHEN conv = ? AND user = ? THEN ?"; part.len()].join(" ");
        let these = vec!["(conv = ? AND user = ? AND until = 0)"; part.len()].join(" OR ");
        let update = format!(
            "UPDATE memberships SET read_seq = CASE {when} ELSE read_seq END, changed_ms = ?
                WHERE {these}"
        );
        let mut query = sqlx::query(AssertSqlSafe(update));
        for (conv, user, seq) in part {
            query = query.bind(*conv).bind(*user).bind(*seq);
        }
        query = query.bind(now_ms);
        for (conv, user, _) in part {
            query = query.bind(*conv).bind(*user);
        }
        query.execute(&mut *conn).await?;
    }
    Ok(())
}

/// The first message between two users makes their conversation.
async fn open_direct(
    conn: &mut AnyConnection,
    conv: i64,
    item: &Append,
    now_ms: i64,
) -> Result<Locked, StoreError> {
    let Target::Direct(peer) = item.target else {
        return Err(StoreError::Corrupt("a group without its row".into()));
    };
    conversations::insert_direct(conn, conv, (item.sender, peer), now_ms).await?;
    Ok(Locked { head: 0, counted: 0, floor: 0, fresh: false })
}

/// When the message an event is about was written; `None` for what is no event.
async fn event_target(
    conn: &mut AnyConnection,
    conv: i64,
    item: &Append,
    state: &Locked,
    written: &Written,
) -> Result<Result<Option<i64>, Code>, StoreError> {
    if item.kind == Kind::Message || item.kind == Kind::Notice {
        return Ok(Ok(None));
    }
    if item.target_seq < 1 || item.target_seq > state.head {
        return Ok(Err(Code::NotFound));
    }
    let mut rows = written.waiting.iter();
    let waiting = rows.find(|r| r.conv == conv && r.seq == item.target_seq);
    let is_kept = waiting.is_some();
    let row = match waiting {
        Some(row) => Some((row.item.sender, row.item.kind as i64, row.time_ms)),
        None => {
            let row = sqlx::query_as::<_, (i64, i64, i64)>(
                "SELECT sender, kind, time_ms FROM message_index WHERE conv = ? AND seq = ?",
            );
            row.bind(conv).bind(item.target_seq).fetch_optional(&mut *conn).await?
        }
    };
    // What was taken back, perhaps not by its author, does not come back by an edit.
    if item.kind == Kind::Edit
        && !is_kept
        && let Some((.., time_ms)) = row
        && !says_something(conn, (conv, item.target_seq, time_ms)).await?
    {
        return Ok(Err(Code::NotFound));
    }
    Ok(match row {
        None => Err(Code::NotFound),
        Some((_, kind, _)) if kind != Kind::Message as i64 => Err(Code::NotFound),
        // Anybody may pin; what was written is its author's to take back or to change.
        Some((sender, _, _))
            if sender != item.sender && matches!(item.kind, Kind::Recall | Kind::Edit) =>
        {
            Err(Code::Forbidden)
        }
        Some((_, _, time_ms)) => Ok(Some(time_ms)),
    })
}

/// Whether a message has content: it was not recalled, and is kept.
async fn says_something(
    conn: &mut AnyConnection,
    (conv, seq, time_ms): (i64, i64, i64),
) -> Result<bool, StoreError> {
    let row = sqlx::query_as::<_, (i64,)>(
        "SELECT seq FROM message_content
            WHERE conv = ? AND seq = ? AND time_ms = ? AND LENGTH(body) > 0",
    );
    Ok(row.bind(conv).bind(seq).bind(time_ms).fetch_optional(conn).await?.is_some())
}

/// What an event does to the message it is about: a pull of it never shows what it was.
async fn apply(
    conn: &mut AnyConnection,
    conv: i64,
    item: &Append,
    seq: i64,
    target_time_ms: i64,
) -> Result<(), StoreError> {
    let body: &[u8] = match item.kind {
        Kind::Recall => &[],
        Kind::Edit => &item.body,
        Kind::Message | Kind::Pin | Kind::Unpin | Kind::Notice | Kind::Reactions => return Ok(()),
    };
    let update = sqlx::query(
        "UPDATE message_content SET body = ?, edited = ?
            WHERE conv = ? AND seq = ? AND time_ms = ?",
    );
    let update = update.bind(body.to_vec()).bind(seq).bind(conv).bind(item.target_seq);
    update.bind(target_time_ms).execute(conn).await?;
    Ok(())
}

/// A message that has its place and waits to be written.
struct Waiting {
    conv: i64,
    seq: i64,
    n: i64,
    time_ms: i64,
    item: Append,
}

/// What this transaction has given a place, and who wrote last where.
#[derive(Default)]
struct Written {
    waiting: Vec<Waiting>,
    places: BTreeMap<Key, (i64, i64, i64)>,
    own: BTreeMap<(i64, i64), i64>,
}

impl Written {
    fn add(&mut self, mut row: Waiting) {
        let place = (row.seq, row.time_ms, row.item.hash);
        self.places.insert(row.item.key(row.conv), place);
        // What one does to a group is no sign of having read it, nor what the server counts or an
        // operator takes back.
        let own = !matches!(row.item.kind, Kind::Notice | Kind::Reactions);
        if own && !row.item.by_operator {
            self.own.insert((row.conv, row.item.sender), row.seq);
        }
        if row.item.kind == Kind::Edit {
            // The new text stands in one place, the message's own: a recall finds it there.
            row.item.body = Vec::new();
        }
        self.waiting.push(row);
    }

    async fn flush(&mut self, conn: &mut AnyConnection) -> Result<(), StoreError> {
        let rows = std::mem::take(&mut self.waiting);
        for part in parts(&rows) {
            insert_index(conn, part).await?;
        }
        for part in parts_within(&rows, |row| row.item.body.len()) {
            insert_content(conn, part).await?;
        }
        Ok(())
    }
}

const INDEX: &str = "INSERT INTO message_index
    (conv, seq, sender, id_high, id_low, hash, time_ms, n, kind, target) VALUES ";
const CONTENT: &str = "INSERT INTO message_content (conv, seq, time_ms, edited, body) VALUES ";

/// Marks for `rows` rows of `columns` values.
fn values(rows: usize, columns: usize) -> String {
    let row = format!("({})", vec!["?"; columns].join(", "));
    vec![row; rows].join(", ")
}

async fn insert_index(conn: &mut AnyConnection, rows: &[Waiting]) -> Result<(), StoreError> {
    let mut query = sqlx::query(AssertSqlSafe(format!("{INDEX}{}", values(rows.len(), 10))));
    for Waiting { conv, seq, n, time_ms, item } in rows {
        let (high, low) = halves(item.client_msg_id);
        query = query.bind(*conv).bind(*seq).bind(item.sender).bind(high).bind(low);
        query = query.bind(item.hash).bind(*time_ms).bind(*n);
        query = query.bind(item.kind as i64).bind(item.target_seq);
    }
    query.execute(conn).await?;
    Ok(())
}

async fn insert_content(conn: &mut AnyConnection, rows: &[Waiting]) -> Result<(), StoreError> {
    let mut query = sqlx::query(AssertSqlSafe(format!("{CONTENT}{}", values(rows.len(), 5))));
    for Waiting { conv, seq, time_ms, item, .. } in rows {
        query = query.bind(*conv).bind(*seq).bind(*time_ms).bind(0_i64).bind(item.body.clone());
    }
    query.execute(conn).await?;
    Ok(())
}
