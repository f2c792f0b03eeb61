//! Appends to conversations: the one transaction that gives a message its place.
//!
//! Owns the order inside it: lock the conversations, look for the sender's key, ask whether the
//! sender may, assign the seq, write. The look-up comes before the permission, so that a retry
//! after an unfriend is still answered with the old seq. One bad item never fails the others.

use super::{Dialect, StoreError, conversations};
use sqlx::AnyConnection;
use std::collections::BTreeMap;
use uproar_proto::error::Code;
use uproar_proto::v1::Kind;

/// Who may write to whom where they are not in one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Friends alone.
    Friends,
    /// Everybody who is not blocked.
    Anyone,
}

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
}

/// A place in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Appended {
    pub(crate) conv: i64,
    pub(crate) seq: i64,
    pub(crate) time_ms: i64,
    /// By an earlier try: nothing is to be pushed.
    pub(crate) before: bool,
}

/// A conversation under the transaction's lock.
struct Locked {
    head: i64,
    counted: i64,
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
    let mut convs = Vec::with_capacity(items.len());
    for item in items {
        convs.push(match item.target {
            Target::Group(conv) => conv,
            Target::Direct(peer) => conversations::direct(conn, item.sender, peer).await?,
        });
    }
    // In the order of their ids, so that two transactions never wait for each other.
    let mut locked: BTreeMap<i64, Option<Locked>> = BTreeMap::new();
    for conv in convs.iter().copied().collect::<std::collections::BTreeSet<i64>>() {
        locked.insert(conv, lock(conn, dialect, conv).await?);
    }
    let mut answers = Vec::with_capacity(items.len());
    let mut written = Written::default();
    for (item, conv) in items.iter().zip(convs) {
        let earlier = written.find(conv, item).or(find(conn, conv, item).await?);
        if let Some((seq, time_ms, hash)) = earlier {
            let same = Appended { conv, seq, time_ms, before: true };
            answers.push(if hash == item.hash { Ok(same) } else { Err(Code::Conflict) });
            continue;
        }
        let place = locked.get_mut(&conv).ok_or_else(|| StoreError::Corrupt("a lock".into()))?;
        if let Err(code) = may_append(conn, dialect, policy, (item, conv, place), now_ms).await? {
            answers.push(Err(code));
            continue;
        }
        if place.is_none() {
            *place = Some(open_direct(conn, conv, item, now_ms).await?);
        }
        let Some(state) = place else { continue };
        let target = event_target(conn, conv, item, state, &written).await?;
        let target_time_ms = match target {
            Ok(time_ms) => time_ms,
            Err(code) => {
                answers.push(Err(code));
                continue;
            }
        };
        state.head += 1;
        state.counted += i64::from(item.kind == Kind::Message);
        state.fresh = true;
        let seq = state.head;
        if let Some(target_time_ms) = target_time_ms {
            // The rows it is about may be among those that wait to be written.
            written.flush(conn).await?;
            apply(conn, conv, item, seq, target_time_ms).await?;
        }
        let mut item = item.clone();
        if item.kind == Kind::Edit {
            // The new text stands in one place, the message's own: a recall finds it there.
            item.body = Vec::new();
        }
        written.rows.push(Row { conv, seq, n: state.counted, time_ms: now_ms, item });
        answers.push(Ok(Appended { conv, seq, time_ms: now_ms, before: false }));
    }
    written.flush(conn).await?;
    for (conv, state) in locked {
        if let Some(state) = state.filter(|state| state.fresh) {
            let update = sqlx::query(
                "UPDATE conversations SET head = ?, counted = ?, changed_ms = ? WHERE conv = ?",
            );
            let update = update.bind(state.head).bind(state.counted).bind(now_ms).bind(conv);
            update.execute(&mut *conn).await?;
        }
    }
    for ((conv, sender), seq) in written.own {
        // One's own message is read by oneself.
        let read = sqlx::query(
            "UPDATE memberships SET read_seq = ?, changed_ms = ?
                WHERE conv = ? AND user = ? AND until = 0 AND read_seq < ?",
        );
        let read = read.bind(seq).bind(now_ms).bind(conv).bind(sender).bind(seq);
        read.execute(&mut *conn).await?;
    }
    Ok(answers)
}

async fn lock(
    conn: &mut AnyConnection,
    dialect: Dialect,
    conv: i64,
) -> Result<Option<Locked>, StoreError> {
    let select = dialect.pick(
        "SELECT head, counted FROM conversations WHERE conv = ?",
        "SELECT head, counted FROM conversations WHERE conv = ? FOR UPDATE",
    );
    let row = sqlx::query_as::<_, (i64, i64)>(select).bind(conv).fetch_optional(conn).await?;
    Ok(row.map(|(head, counted)| Locked { head, counted, fresh: false }))
}

/// The place an earlier try was given: seq, time and hash.
async fn find(
    conn: &mut AnyConnection,
    conv: i64,
    item: &Append,
) -> Result<Option<(i64, i64, i64)>, StoreError> {
    let (high, low) = halves(item.client_msg_id);
    let row = sqlx::query_as::<_, (i64, i64, i64)>(
        "SELECT seq, time_ms, hash FROM message_index
            WHERE conv = ? AND sender = ? AND id_high = ? AND id_low = ?",
    );
    let row = row.bind(conv).bind(item.sender).bind(high).bind(low);
    Ok(row.fetch_optional(conn).await?)
}

/// A 128-bit id as two signed columns.
fn halves(id: u128) -> (i64, i64) {
    ((id >> 64) as i64, id as i64)
}

async fn may_append(
    conn: &mut AnyConnection,
    dialect: Dialect,
    policy: Policy,
    (item, conv, place): (&Append, i64, &Option<Locked>),
    now_ms: i64,
) -> Result<Result<(), Code>, StoreError> {
    match item.target {
        Target::Direct(peer) if peer == item.sender => Ok(Ok(())),
        Target::Direct(peer) => {
            super::relations::may_write(conn, dialect, (item.sender, peer), policy).await
        }
        Target::Group(_) if place.is_none() => Ok(Err(Code::NotFound)),
        Target::Group(_) => {
            let row = sqlx::query_as::<_, (i64,)>(
                "SELECT muted_until_ms FROM memberships
                    WHERE conv = ? AND user = ? AND until = 0",
            );
            let row = row.bind(conv).bind(item.sender).fetch_optional(conn).await?;
            Ok(match row {
                None => Err(Code::NotMember),
                Some((muted_until_ms,)) if muted_until_ms > now_ms => Err(Code::Muted),
                Some(_) => Ok(()),
            })
        }
    }
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
    Ok(Locked { head: 0, counted: 0, fresh: false })
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
    let waiting = written.rows.iter().find(|r| r.conv == conv && r.seq == item.target_seq);
    let row = match waiting {
        Some(row) => Some((row.item.sender, row.item.kind as i64, row.time_ms)),
        None => {
            let row = sqlx::query_as::<_, (i64, i64, i64)>(
                "SELECT sender, kind, time_ms FROM message_index WHERE conv = ? AND seq = ?",
            );
            row.bind(conv).bind(item.target_seq).fetch_optional(conn).await?
        }
    };
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
        Kind::Message | Kind::Pin | Kind::Unpin | Kind::Notice => return Ok(()),
    };
    let update = sqlx::query(
        "UPDATE message_content SET body = ?, edited = ?
            WHERE conv = ? AND seq = ? AND time_ms = ?",
    );
    let update = update.bind(body.to_vec()).bind(seq).bind(conv).bind(item.target_seq);
    update.bind(target_time_ms).execute(conn).await?;
    Ok(())
}

struct Row {
    conv: i64,
    seq: i64,
    n: i64,
    time_ms: i64,
    item: Append,
}

/// What this transaction has given a place and not yet written, and who wrote last where.
#[derive(Default)]
struct Written {
    rows: Vec<Row>,
    done: BTreeMap<(i64, i64, u128), (i64, i64, i64)>,
    own: BTreeMap<(i64, i64), i64>,
}

/// Rows of one statement: few enough for every server's bound on arguments.
const ROWS_MAX: usize = 64;

const INDEX: &str = "INSERT INTO message_index
    (conv, seq, sender, id_high, id_low, hash, time_ms, n, kind, target) VALUES ";
const CONTENT: &str = "INSERT INTO message_content (conv, seq, time_ms, edited, body) VALUES ";

/// Statements for 64, 8 and 1 rows: any number of rows with few distinct statements to prepare.
fn statement(start: &str, columns: usize, rows: usize) -> String {
    let row = format!("({})", vec!["?"; columns].join(", "));
    format!("{start}{}", vec![row; rows].join(", "))
}

impl Written {
    /// An item of this very transaction with the same key.
    fn find(&self, conv: i64, item: &Append) -> Option<(i64, i64, i64)> {
        let key = (conv, item.sender, item.client_msg_id);
        let row =
            self.rows.iter().find(|row| (row.conv, row.item.sender, row.item.client_msg_id) == key);
        row.map(|row| (row.seq, row.time_ms, row.item.hash)).or(self.done.get(&key).copied())
    }

    async fn flush(&mut self, conn: &mut AnyConnection) -> Result<(), StoreError> {
        let rows = std::mem::take(&mut self.rows);
        let mut rest = &rows[..];
        while !rest.is_empty() {
            let size = [ROWS_MAX, 8, 1].into_iter().find(|size| *size <= rest.len()).unwrap_or(1);
            let (now, later) = rest.split_at(size);
            insert(conn, now).await?;
            rest = later;
        }
        for row in rows {
            let Append { sender, client_msg_id, hash, .. } = row.item;
            self.done.insert((row.conv, sender, client_msg_id), (row.seq, row.time_ms, hash));
            self.own.insert((row.conv, sender), row.seq);
        }
        Ok(())
    }
}

async fn insert(conn: &mut AnyConnection, rows: &[Row]) -> Result<(), StoreError> {
    let index = sqlx::AssertSqlSafe(statement(INDEX, 10, rows.len()));
    let mut query = sqlx::query(index);
    for Row { conv, seq, n, time_ms, item } in rows {
        let (high, low) = halves(item.client_msg_id);
        query = query.bind(*conv).bind(*seq).bind(item.sender).bind(high).bind(low);
        query = query.bind(item.hash).bind(*time_ms).bind(*n);
        query = query.bind(item.kind as i64).bind(item.target_seq);
    }
    query.execute(&mut *conn).await?;
    let content = sqlx::AssertSqlSafe(statement(CONTENT, 5, rows.len()));
    let mut query = sqlx::query(content);
    for Row { conv, seq, time_ms, item, .. } in rows {
        query = query.bind(*conv).bind(*seq).bind(*time_ms).bind(0_i64).bind(item.body.clone());
    }
    query.execute(conn).await?;
    Ok(())
}
