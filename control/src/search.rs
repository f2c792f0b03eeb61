//! Messages of a time, for operators: of a conversation, or of what one user wrote.
//!
//! Owns the bounds. This is a scan along a conversation's own order, not an index of words: one
//! request looks at [`SCANNED_MAX`] messages, says how many it looked at, and where to go on.

use crate::conversations::words;
use crate::fault::Fault;
use crate::groups::OPERATOR;
use crate::store::admin::{self as rows, Span};
use crate::store::conversations::{self, GROUP, Kept};
use crate::store::{Store, StoreError, users};
use sqlx::AnyConnection;
use std::collections::BTreeMap;
use uproar_proto::error::Code;
use uproar_proto::v1;

/// Messages looked at in one request. Reached: the page ends, with a cursor.
pub(crate) const SCANNED_MAX: u32 = 2_000;
/// Messages read at once.
const WINDOW: i64 = 100;
/// Conversations of one user looked up at once.
const SPANS_AT_ONCE: i64 = 20;
/// Moments of one conversation may be out of order by seconds, where two processes share a store.
const SLACK_MS: i64 = 60_000;

/// Where to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// A conversation, perhaps for what one user wrote in it alone.
    In { conv: i64, sender: Option<i64> },
    /// What one user wrote, conversation by conversation.
    SentBy(i64),
}

/// What to look for.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    pub(crate) scope: Scope,
    /// From this moment on, up to that one, both included.
    pub(crate) from_ms: i64,
    pub(crate) to_ms: i64,
    pub(crate) newest_first: bool,
    /// A part of the text, in lower case; empty: any.
    pub(crate) contains: String,
    /// Where the page before ended.
    pub(crate) after: Option<(i64, i64)>,
    pub(crate) limit: usize,
}

/// Where a message stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a group, by its conversation.
    Group(i64),
    /// Between two users, by name.
    Pair([String; 2]),
}

/// A message that was found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Hit {
    pub(crate) place: Place,
    /// [`OPERATOR`]: an operator's notice.
    pub(crate) sender: i64,
    pub(crate) message: v1::StoredMessage,
}

/// A page.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub(crate) hits: Vec<Hit>,
    pub(crate) scanned: u32,
    /// Where to go on; `None`: all was looked at.
    pub(crate) next: Option<(i64, i64)>,
}

/// Looks; `NOT_FOUND` where there is no such conversation.
pub(crate) async fn search(store: &Store, search: &Search) -> Result<Found, Fault> {
    let mut conn = store.reader().await?;
    let mut found = Found::default();
    let mut after = search.after.map_or(-1, |(conv, _)| conv - 1);
    loop {
        let (spans, sender) = match search.scope {
            Scope::In { conv, sender } => {
                let span = rows::whole(&mut conn, conv).await?.ok_or(Code::NotFound)?;
                (vec![span], sender)
            }
            Scope::SentBy(user) => {
                let which = (after, search.from_ms);
                let spans = rows::of_user(&mut conn, user, which, SPANS_AT_ONCE).await?;
                (spans, Some(user))
            }
        };
        let Some(last) = spans.last() else { return Ok(found) };
        after = last.conv;
        for span in &spans {
            found.next = look(&mut conn, search, (*span, sender), &mut found).await?;
            if found.next.is_some() {
                return Ok(found);
            }
        }
        if let Scope::In { .. } = search.scope {
            return Ok(found);
        }
    }
}

/// Looks at one conversation; where to go on, if the page ends within.
async fn look(
    conn: &mut AnyConnection,
    search: &Search,
    (span, sender): (Span, Option<i64>),
    found: &mut Found,
) -> Result<Option<(i64, i64)>, StoreError> {
    let (mut low, mut high) = narrowed(conn, search, span, found).await?;
    if let Some((_, seq)) = search.after.filter(|(conv, _)| *conv == span.conv) {
        if search.newest_first {
            high = high.min(seq - 1);
        } else {
            low = low.max(seq + 1);
        }
    }
    while low <= high {
        let window = match search.newest_first {
            true => (low.max(high - WINDOW + 1), high),
            false => (low, high.min(low + WINDOW - 1)),
        };
        let mut kept = conversations::read(conn, span.conv, window, WINDOW).await?;
        if search.newest_first {
            kept.reverse();
        }
        for one in kept {
            found.scanned += 1;
            if matches(search, sender, &one)? {
                found.hits.push(hit(conn, span, &one).await?);
            }
            if found.hits.len() == search.limit || found.scanned >= SCANNED_MAX {
                return Ok(Some((span.conv, one.seq)));
            }
        }
        if search.newest_first {
            high = window.0 - 1;
        } else {
            low = window.1 + 1;
        }
    }
    Ok(None)
}

/// The part of a span that the time lets, a little more than exactly.
async fn narrowed(
    conn: &mut AnyConnection,
    search: &Search,
    span: Span,
    found: &mut Found,
) -> Result<(i64, i64), StoreError> {
    let (mut low, mut high) = (span.from, span.to);
    if search.from_ms > SLACK_MS {
        let (seq, looked) = rows::seq_at(conn, span, search.from_ms - SLACK_MS).await?;
        (low, found.scanned) = (seq, found.scanned + looked);
    }
    if let Some(beyond_ms) = search.to_ms.checked_add(SLACK_MS) {
        let (seq, looked) = rows::seq_at(conn, span, beyond_ms).await?;
        (high, found.scanned) = (seq - 1, found.scanned + looked);
    }
    Ok((low, high))
}

fn matches(search: &Search, sender: Option<i64>, kept: &Kept) -> Result<bool, StoreError> {
    let is_meant = (search.from_ms..=search.to_ms).contains(&kept.time_ms)
        && sender.is_none_or(|sender| sender == kept.sender);
    if !is_meant || search.contains.is_empty() {
        return Ok(is_meant);
    }
    let message = words::pulled(kept, "", false).map_err(StoreError::Corrupt)?;
    Ok(message.text.to_lowercase().contains(&search.contains))
}

/// A message as it is shown.
pub(crate) async fn hit(
    conn: &mut AnyConnection,
    span: Span,
    kept: &Kept,
) -> Result<Hit, StoreError> {
    let mut names: BTreeMap<i64, String> = BTreeMap::new();
    let place = match span.kind {
        GROUP => Place::Group(span.conv),
        _ => {
            for user in [span.users.0, span.users.1] {
                names.insert(user, name(conn, user).await?);
            }
            Place::Pair([span.users.0, span.users.1].map(|user| names[&user].clone()))
        }
    };
    let user = match names.remove(&kept.sender) {
        Some(name) => name,
        None => name(conn, kept.sender).await?,
    };
    let message = words::pulled(kept, &user, false).map_err(StoreError::Corrupt)?;
    Ok(Hit { place, sender: kept.sender, message })
}

async fn name(conn: &mut AnyConnection, user: i64) -> Result<String, StoreError> {
    if user == OPERATOR {
        return Ok(String::new());
    }
    let name = users::name(conn, user).await?;
    name.ok_or_else(|| StoreError::Corrupt(format!("there is no user {user}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relations::Policy;
    use crate::store::append::{Append, Target, append};
    use crate::store::testing::on_both;
    use prost::Message as _;
    use std::sync::Arc;
    use uproar_proto::v1::Kind;

    const MANY: i64 = 2_500;
    /// A message a second.
    const EVERY_MS: i64 = 1_000;
    const BEGIN_MS: i64 = 1_800_000_000_000;

    async fn user(store: &Store, name: &'static str) -> i64 {
        let dialect = store.dialect();
        let made = store
            .write(move |conn| Box::pin(users::find_or_insert(conn, dialect, ("", name), 1)))
            .await;
        made.unwrap().unwrap()
    }

    /// Writes `MANY` messages between two users, each the other one's turn.
    async fn talk(store: &Arc<Store>, one: i64, other: i64) -> i64 {
        for at in 0..MANY {
            let text = format!("number {at}");
            let body = v1::StoredMessage { text, ..v1::StoredMessage::default() };
            let (sender, peer) = if at % 2 == 0 { (one, other) } else { (other, one) };
            let item = Append {
                sender,
                target: Target::Direct(peer),
                client_msg_id: at as u128,
                hash: 1,
                kind: Kind::Message,
                target_seq: 0,
                body: body.encode_to_vec(),
                by_operator: false,
            };
            let (dialect, items) = (store.dialect(), Arc::new([item]));
            let placed = store.write(move |conn| {
                let items = Arc::clone(&items);
                let now_ms = BEGIN_MS + at * EVERY_MS;
                Box::pin(
                    async move { append(conn, dialect, Policy::Anyone, &*items, now_ms).await },
                )
            });
            placed.await.unwrap()[0].unwrap();
        }
        conversations::direct(&mut store.reader().await.unwrap(), one, other).await.unwrap()
    }

    #[test]
    fn a_page_ends_at_its_bound_and_the_next_goes_on_from_there() {
        on_both(|store| async move {
            let (ann, bob) = (user(&store, "ann").await, user(&store, "bob").await);
            let conv = talk(&store, ann, bob).await;
            let asked = Search {
                scope: Scope::In { conv, sender: None },
                from_ms: 0,
                to_ms: i64::MAX,
                newest_first: true,
                contains: "number 7".into(),
                after: None,
                limit: 10_000,
            };
            for newest_first in [true, false] {
                let mut asked = Search { newest_first, ..asked.clone() };
                let first = search(&store, &asked).await.unwrap();
                assert_eq!(first.scanned, SCANNED_MAX);
                asked.after = first.next;
                let rest = search(&store, &asked).await.unwrap();
                assert_eq!((rest.scanned, rest.next), (MANY as u32 - SCANNED_MAX, None));
                let many = first.hits.len() + rest.hits.len();
                assert_eq!(many, 111, "7, 70 to 79, 700 to 799");
            }
            // The beginning of a time is found, not walked to.
            let (from_ms, to_ms) = (BEGIN_MS + 1_200 * EVERY_MS, BEGIN_MS + 1_209 * EVERY_MS);
            let contains = String::new();
            let narrow = Search { from_ms, to_ms, contains, ..asked };
            let found = search(&store, &narrow).await.unwrap();
            let seqs: Vec<u64> = found.hits.iter().map(|hit| hit.message.seq).collect();
            assert_eq!(seqs, (1_201..=1_210).rev().collect::<Vec<u64>>());
            assert!(found.scanned < 200, "{}", found.scanned);
            let by_ann = Search { scope: Scope::SentBy(ann), ..narrow };
            let found = search(&store, &by_ann).await.unwrap();
            assert_eq!(found.hits.len(), 5);
            assert!(found.hits.iter().all(|hit| hit.sender == ann));
            let nowhere = Search { scope: Scope::In { conv: 5, sender: None }, ..by_ann };
            let refused = search(&store, &nowhere).await.unwrap_err();
            assert_eq!(refused.code(), Some(Code::NotFound));
        });
    }
}
