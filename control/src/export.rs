//! What there is of one user, page by page: what a person may ask to be given.
//!
//! Owns what belongs to it: the account, its log-ins, what rooms hold against it, what it is to
//! others, the conversations it is or was in with its cursors, what it wrote anywhere, its
//! reactions, and what was written to it one-to-one. What others wrote in groups, and whom others
//! block, is theirs; events that tell counts of reactions are nobody's. No secret is in it. Each
//! page is read by itself, so an export of any length holds neither memory nor a connection of the
//! store; what is written meanwhile may be in it or not.

use crate::conversations::words;
use crate::groups::OPERATOR;
use crate::relations::{Edge, Kind};
use crate::search::{Hit, Place, hit};
use crate::store::accounts::{Session, sessions};
use crate::store::admin::{self as rows, Account, Stay};
use crate::store::bans::{self, Ban};
use crate::store::conversations::{self, GROUP};
use crate::store::relations::{self, Listed};
use crate::store::{Store, StoreError, penalties, reactions, users};
use std::sync::Arc;
use uproar_proto::control::{Penalty, PenaltyKind};

/// Entries of one page.
const PAGE: i64 = 200;
/// Requests to groups looked through at once.
const REQUESTS: i64 = 1_000;

/// A piece of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Piece {
    Account(Account, Option<Ban>),
    Session(Session),
    /// What a room holds against it.
    Penalty(String, Penalty),
    /// What the user is to another one: its name, the edge, when it changed.
    Relation(String, Edge, i64),
    Follower(Listed),
    /// A time in a conversation; one-to-one with whom.
    Stay(Stay, String),
    /// It waits to be let into this group: the text, when it asked.
    Request(i64, String, i64),
    Message(Box<Hit>),
    /// Its reactions to a message: where that stands, its seq.
    Reaction(Place, u64, Vec<String>),
}

/// Where an export is.
#[derive(Clone, Debug)]
enum At {
    Account,
    /// Behind this room and kind.
    Penalties(String, Option<PenaltyKind>),
    Relations(i64),
    Followers(i64),
    Stays(i64, i64),
    Requests(i64, i64),
    /// A conversation, and the last seq of it.
    Messages(i64, i64),
    End,
}

/// An export under way.
pub(crate) struct Export {
    store: Arc<Store>,
    account: Account,
    at: At,
}

impl Export {
    pub(crate) fn of(store: Arc<Store>, account: Account) -> Export {
        Export { store, account, at: At::Account }
    }

    /// The next pieces, perhaps none; `None`: that was all.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Piece>>, StoreError> {
        let (pieces, at) = match self.at.clone() {
            At::Account => self.account().await?,
            At::Penalties(room, kind) => self.penalties(&room, kind).await?,
            At::Relations(after) => self.relations(after).await?,
            At::Followers(after) => self.followers(after).await?,
            At::Stays(conv, since) => self.stays(conv, since).await?,
            At::Requests(conv, user) => self.requests(conv, user).await?,
            At::Messages(conv, seq) => self.messages(conv, seq).await?,
            At::End => return Ok(None),
        };
        self.at = at;
        Ok(Some(pieces))
    }

    async fn account(&self) -> Result<(Vec<Piece>, At), StoreError> {
        let now_ms = self.store.now_ms();
        let ban = bans::find(&mut *self.store.reader().await?, self.account.id, now_ms).await?;
        let mut pieces = vec![Piece::Account(self.account.clone(), ban)];
        let sessions = sessions(&self.store, self.account.id).await?;
        pieces.extend(sessions.into_iter().map(Piece::Session));
        Ok((pieces, At::Penalties(String::new(), None)))
    }

    async fn penalties(
        &self,
        room: &str,
        kind: Option<PenaltyKind>,
    ) -> Result<(Vec<Piece>, At), StoreError> {
        let mut conn = self.store.reader().await?;
        let (name, now_ms) = (&self.account.name, crate::process::unix_ms());
        let held = penalties::of_user(&mut conn, name, (room, kind), now_ms, PAGE).await?;
        let next = held
            .last()
            .map_or(At::Relations(0), |(room, last)| At::Penalties(room.clone(), Some(last.kind)));
        Ok((held.into_iter().map(|(room, held)| Piece::Penalty(room, held)).collect(), next))
    }

    async fn relations(&self, after: i64) -> Result<(Vec<Piece>, At), StoreError> {
        let mut conn = self.store.reader().await?;
        let edges = rows::edges_of(&mut conn, self.account.id, after, PAGE).await?;
        let next = edges.last().map_or(At::Followers(0), |(peer, ..)| At::Relations(*peer));
        let piece = |(_, name, edge, at_ms)| Piece::Relation(name, edge, at_ms);
        Ok((edges.into_iter().map(piece).collect(), next))
    }

    async fn followers(&self, after: i64) -> Result<(Vec<Piece>, At), StoreError> {
        let (id, kind) = (self.account.id, Kind::Followers);
        let followers = relations::list(&self.store, id, kind, after, PAGE).await?;
        let next = followers.last().map_or(At::Stays(-1, 0), |last| At::Followers(last.user));
        Ok((followers.into_iter().map(Piece::Follower).collect(), next))
    }

    async fn stays(&self, conv: i64, since: i64) -> Result<(Vec<Piece>, At), StoreError> {
        let mut conn = self.store.reader().await?;
        let stays = rows::stays(&mut conn, self.account.id, (conv, since), PAGE).await?;
        let next =
            stays.last().map_or(At::Requests(-1, 0), |last| At::Stays(last.conv, last.since));
        let mut pieces = Vec::with_capacity(stays.len());
        for stay in stays {
            let (one, other) = stay.users;
            let peer = match stay.group {
                Some(_) => OPERATOR,
                None if one == self.account.id => other,
                None => one,
            };
            let peer = users::name(&mut conn, peer).await?.unwrap_or_default();
            pieces.push(Piece::Stay(stay, peer));
        }
        Ok((pieces, next))
    }

    async fn requests(&self, conv: i64, user: i64) -> Result<(Vec<Piece>, At), StoreError> {
        let mut conn = self.store.reader().await?;
        let requests = rows::requests(&mut conn, (conv, user), REQUESTS).await?;
        let last = requests.last().map(|(conv, user, ..)| At::Requests(*conv, *user));
        let own = requests.into_iter().filter(|(_, user, ..)| *user == self.account.id);
        let own = own.map(|(conv, _, text, asked_ms)| Piece::Request(conv, text, asked_ms));
        Ok((own.collect(), last.unwrap_or(At::Messages(-1, 0))))
    }

    async fn messages(&self, conv: i64, seq: i64) -> Result<(Vec<Piece>, At), StoreError> {
        let mut conn = self.store.reader().await?;
        let spans = rows::of_user(&mut conn, self.account.id, (conv - 1, 0), 1).await?;
        let Some(span) = spans.first().copied() else { return Ok((Vec::new(), At::End)) };
        let from = if span.conv == conv { span.from.max(seq + 1) } else { span.from };
        let kept = conversations::read(&mut conn, span.conv, (from, span.to), PAGE).await?;
        let next = match kept.last() {
            Some(last) => At::Messages(span.conv, last.seq),
            // On to the next conversation.
            None => At::Messages(span.conv + 1, 0),
        };
        let mut beside = reactions::beside(&mut conn, span.conv, self.account.id, &kept).await?;
        let mut pieces = Vec::new();
        for kept in kept.iter().filter(|kept| kept.kind != words::REACTIONS) {
            let own = beside.remove(&kept.seq).map(|beside| beside.own).unwrap_or_default();
            let is_shown = span.kind != GROUP || kept.sender == self.account.id;
            if !is_shown && own.is_empty() {
                continue;
            }
            let hit = hit(&mut conn, span, kept).await?;
            if !own.is_empty() {
                pieces.push(Piece::Reaction(hit.place.clone(), hit.message.seq, own));
            }
            if is_shown {
                pieces.push(Piece::Message(Box::new(hit)));
            }
        }
        Ok((pieces, next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::on_both;

    #[test]
    fn an_export_tells_in_which_rooms_the_user_is_banned_or_muted() {
        on_both(|store| async move {
            let until_ms = crate::process::unix_ms() + 60_000;
            let held = |n: i64, user: &str| {
                let kind = if n % 2 == 0 { PenaltyKind::Ban } else { PenaltyKind::Mute };
                ((format!("r{:03}", n / 2), kind, user.to_owned()), until_ms)
            };
            let decided: Vec<_> = (0..2 * PAGE + 1).map(|n| held(n, "ann")).collect();
            let others: Vec<_> = (0..3).map(|n| held(n, "bob")).collect();
            for part in [&decided, &others] {
                penalties::keep(&store, part[..].into(), 9, 1).await.unwrap();
            }
            let name = "ann".to_owned();
            let account =
                Account { id: 7, name, created_ms: 1, has_password: false, erased: false };
            let mut export = Export::of(Arc::clone(&store), account);
            let mut told = Vec::new();
            while let Some(pieces) = export.next().await.unwrap() {
                told.extend(pieces.into_iter().filter_map(|piece| match piece {
                    Piece::Penalty(room, held) => Some(((room, held.kind, held.user), until_ms)),
                    _ => None,
                }));
            }
            assert_eq!(told, decided);
        });
    }
}
