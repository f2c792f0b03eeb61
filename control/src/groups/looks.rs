//! What members see of their groups.

use super::{Group, Link, Member, Role, need};
use crate::fault::Fault;
use crate::store::receipts::{self, Side};
use crate::store::{Store, groups as rows, users};
use std::collections::BTreeMap;
use uproar_proto::error::Code;

/// A group as one of its members sees it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) group: Group,
    pub(crate) owner: String,
    pub(crate) own: Member,
}

/// A group and the asker's place in it; `NOT_FOUND`, `NOT_MEMBER`.
pub(crate) async fn seen(store: &Store, me: i64, conv: i64) -> Result<Seen, Fault> {
    let mut conn = store.reader().await?;
    let group = rows::find(&mut conn, conv).await?.filter(|group| !group.ended);
    let group = group.ok_or(Code::NotFound)?;
    let own = rows::members(&mut conn, conv, &[me]).await?.remove(&me).ok_or(Code::NotMember)?;
    let owner = users::name(&mut conn, group.owner).await?.unwrap_or_default();
    Ok(Seen { group, owner, own })
}

/// A page of the groups a user is in, by id after `after`.
pub(crate) async fn all_of(
    store: &Store,
    me: i64,
    after: i64,
    limit: i64,
) -> Result<Vec<Seen>, Fault> {
    let mut conn = store.reader().await?;
    let mut all = Vec::new();
    for (conv, own) in rows::list_of(&mut conn, me, after, limit).await? {
        let Some(group) = rows::find(&mut conn, conv).await? else { continue };
        let owner = users::name(&mut conn, group.owner).await?.unwrap_or_default();
        all.push(Seen { group, owner, own });
    }
    Ok(all)
}

/// A page of the members, with their names.
pub(crate) async fn members(
    store: &Store,
    (me, conv): (i64, i64),
    after: i64,
    limit: i64,
) -> Result<Vec<(Member, String)>, Fault> {
    seen(store, me, conv).await?;
    Ok(rows::list_members(&mut *store.reader().await?, conv, after, limit).await?)
}

/// Who waits to be let in: a moderator asks.
pub(crate) async fn requests(
    store: &Store,
    (me, conv): (i64, i64),
    after: i64,
    limit: i64,
) -> Result<Vec<(i64, String, String, i64)>, Fault> {
    need(seen(store, me, conv).await?.own.role, Role::Moderator)?;
    Ok(rows::list_requests(&mut *store.reader().await?, conv, after, limit).await?)
}

/// The links of a group: a moderator asks.
pub(crate) async fn links(store: &Store, (me, conv): (i64, i64)) -> Result<Vec<Link>, Fault> {
    need(seen(store, me, conv).await?.own.role, Role::Moderator)?;
    Ok(rows::links(&mut *store.reader().await?, rows::LinksOf::Group(conv)).await?)
}

/// The group a link leads to, for whoever has it; `NOT_FOUND` where it leads nowhere (any more).
pub(crate) async fn behind(store: &Store, token: &str, now_ms: i64) -> Result<Group, Fault> {
    let mut conn = store.reader().await?;
    let links = rows::links(&mut conn, rows::LinksOf::Token(token)).await?;
    let link = links.first().filter(|link| link.is_good(now_ms)).ok_or(Code::NotFound)?;
    Ok(rows::find(&mut conn, link.conv).await?.filter(|g| !g.ended).ok_or(Code::NotFound)?)
}

/// The group a link leads or led to: whether it still opens the door is decided where one joins.
pub(crate) async fn linked(store: &Store, token: &str) -> Result<i64, Fault> {
    let links = rows::links(&mut *store.reader().await?, rows::LinksOf::Token(token)).await?;
    Ok(links.first().ok_or(Code::NotFound)?.conv)
}

/// The receipts of one message, a page of one side.
#[derive(Clone, Debug)]
pub(crate) struct Receipts {
    pub(crate) read: i64,
    pub(crate) unread: i64,
    pub(crate) users: Vec<(i64, String)>,
}

/// Who has read a message, or has not. Its sender asks, or a moderator.
pub(crate) async fn receipts(
    store: &Store,
    (me, conv, seq): (i64, i64, i64),
    side: Side,
    after: i64,
    limit: i64,
) -> Result<Receipts, Fault> {
    let own = seen(store, me, conv).await?.own;
    let mut conn = store.reader().await?;
    let sender = receipts::sender(&mut conn, conv, seq).await?;
    let sender = sender.filter(|_| seq > own.since).ok_or(Code::NotFound)?;
    if sender != me {
        need(own.role, Role::Moderator)?;
    }
    let about = (conv, seq, sender);
    Ok(Receipts {
        read: receipts::count(&mut conn, about, Side::Read).await?,
        unread: receipts::count(&mut conn, about, Side::Unread).await?,
        users: receipts::list(&mut conn, about, side, after, limit).await?,
    })
}

/// How many have read each of the asker's own messages above `above`, the oldest first.
pub(crate) async fn own_counts(
    store: &Store,
    (me, conv): (i64, i64),
    above: i64,
    limit: i64,
) -> Result<BTreeMap<i64, i64>, Fault> {
    seen(store, me, conv).await?;
    let mut conn = store.reader().await?;
    let seqs = receipts::sent_by(&mut conn, (conv, me), above, limit).await?;
    let messages: Vec<(i64, i64)> = seqs.into_iter().map(|seq| (seq, me)).collect();
    Ok(receipts::counts(&mut conn, conv, &messages).await?)
}
