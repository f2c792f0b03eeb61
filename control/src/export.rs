//! What there is of one user, page by page: what a person may ask to be given.
//!
//! Owns what belongs to it: the account, its log-ins, what it is to others, the conversations it is
//! or was in with its cursors, what it wrote anywhere, its reactions, and what was written to it
//! one-to-one. What others wrote in groups, and whom others block, is theirs; events that tell
//! counts of reactions are nobody's. No secret is in it. Each page is read
//! by itself, so an export of any length holds neither memory nor a connection of the store; what
//! is written meanwhile may be in it or not.

use crate::conversations::words;
use crate::groups::OPERATOR;
use crate::relations::{Edge, Kind};
use crate::search::{Hit, Place, hit};
use crate::store::accounts::{Session, sessions};
use crate::store::admin::{self as rows, Account, Stay};
use crate::store::bans::{self, Ban};
use crate::store::conversations::{self, GROUP};
use crate::store::relations::{self, Listed};
use crate::store::{Store, StoreError, reactions, users};
use std::sync::Arc;

/// Entries of one page.
const PAGE: i64 = 200;
/// Requests to groups looked through at once.
const REQUESTS: i64 = 1_000;

/// A piece of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Piece {
    Account(Account, Option<Ban>),
    Session(Session),
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
#[derive(Clone, Copy, Debug)]
enum At {
    Account,
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
        let (pieces, at) = match self.at {
            At::Account => self.account().await?,
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
        Ok((pieces, At::Relations(0)))
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
