//! Friends, blocks and followers: what two users may be to each other, and who may write to whom.
//!
//! Owns the rules, as pure functions over both directions of a pair; `store::relations` runs them
//! inside the transaction that writes. A block ends whatever else was between the two, in both
//! directions, and lifting it brings nothing back.

use crate::fault::Fault;
use crate::store::Store;
use crate::store::accounts as users;
use crate::store::relations::{self as rows, Changed, Listed, Rule};
use serde::{Deserialize, Serialize};
use uproar_proto::error::Code;
use uproar_proto::names;

/// Friends of one user.
pub(crate) const FRIENDS_MAX: i64 = 5_000;
/// Requests that one user has made, and requests that wait for one user's answer.
const REQUESTS_MAX: i64 = 1_000;
/// Users that one user follows.
const FOLLOWS_MAX: i64 = 10_000;
/// Users that one user blocks.
const BLOCKS_MAX: i64 = 10_000;
/// Entries on one page of a list.
pub(crate) const PAGE_MAX: u32 = 200;

/// Who may write to a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Friends.
    #[default]
    Friends,
    /// Everybody who is not blocked.
    Anyone,
    /// Friends, and two of whom one follows the other: a star can answer its followers.
    Followers,
}

/// What one user is to another, as bits: the row (user, peer) says it from the user's side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Edge(pub(crate) i64);

impl Edge {
    /// Friends; on both edges of a pair or on neither.
    pub(crate) const FRIEND: i64 = 1;
    /// The user asked the peer to be friends.
    pub(crate) const ASKED: i64 = 2;
    /// The peer asked the user: the other edge's `ASKED`, for the list.
    pub(crate) const ASKING: i64 = 4;
    /// The user blocks the peer.
    pub(crate) const BLOCKS: i64 = 8;
    /// The user follows the peer.
    pub(crate) const FOLLOWS: i64 = 16;

    pub(crate) fn has(self, bit: i64) -> bool {
        self.0 & bit != 0
    }

    fn with(self, bit: i64) -> Edge {
        Edge(self.0 | bit)
    }

    fn without(self, bits: i64) -> Edge {
        Edge(self.0 & !bits)
    }
}

/// Both directions between two users, from one's side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) own: Edge,
    pub(crate) theirs: Edge,
}

impl Pair {
    /// The same from the other's side.
    pub(crate) fn turned(self) -> Pair {
        Pair { own: self.theirs, theirs: self.own }
    }

    fn map(self, own: impl FnOnce(Edge) -> Edge, theirs: impl FnOnce(Edge) -> Edge) -> Pair {
        Pair { own: own(self.own), theirs: theirs(self.theirs) }
    }
}

/// How many edges of each kind a user has, or how many more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) friends: i64,
    /// Requests this user made.
    pub(crate) asked: i64,
    /// Requests that wait for this user.
    pub(crate) asking: i64,
    pub(crate) blocks: i64,
    pub(crate) follows: i64,
    pub(crate) followers: i64,
}

impl Counts {
    /// What a change of a pair adds to the counts of the one it is told from.
    pub(crate) fn moved(before: Pair, after: Pair) -> Counts {
        let own = |bit| i64::from(after.own.has(bit)) - i64::from(before.own.has(bit));
        let followed = |pair: Pair| i64::from(pair.theirs.has(Edge::FOLLOWS));
        Counts {
            friends: own(Edge::FRIEND),
            asked: own(Edge::ASKED),
            asking: own(Edge::ASKING),
            blocks: own(Edge::BLOCKS),
            follows: own(Edge::FOLLOWS),
            followers: followed(after) - followed(before),
        }
    }
}

/// What a rule knows: the pair, and how many each of the two has.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Standing {
    pub(crate) pair: Pair,
    pub(crate) own: Counts,
    pub(crate) theirs: Counts,
}

/// A list of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Friends,
    /// Whom the user asked.
    Asked,
    /// Who waits for the user's answer.
    Asking,
    Blocks,
    Follows,
    Followers,
}

impl Kind {
    /// The bit an edge of the list has.
    pub(crate) fn bit(self) -> i64 {
        match self {
            Kind::Friends => Edge::FRIEND,
            Kind::Asked => Edge::ASKED,
            Kind::Asking => Edge::ASKING,
            Kind::Blocks => Edge::BLOCKS,
            Kind::Follows | Kind::Followers => Edge::FOLLOWS,
        }
    }

    fn of(self, counts: &Counts) -> i64 {
        match self {
            Kind::Friends => counts.friends,
            Kind::Asked => counts.asked,
            Kind::Asking => counts.asking,
            Kind::Blocks => counts.blocks,
            Kind::Follows => counts.follows,
            Kind::Followers => counts.followers,
        }
    }
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) users: Vec<Listed>,
    /// Entries of the whole list.
    pub(crate) count: i64,
    /// The cursor of the next page; `None`: this is the last one.
    pub(crate) next: Option<i64>,
}

/// What a user can do about another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Asks to be friends; where the other one asked before, both are.
    Ask,
    /// Takes the other one's request; `NOT_FOUND` where there is none (any more).
    Accept,
    /// Ends a request between the two, whoever made it.
    Decline,
    /// Ends the friendship.
    Remove,
    Block,
    Unblock,
    Follow,
    Unfollow,
}

impl Act {
    /// Every act.
    #[cfg(test)]
    pub(crate) const ALL: [Act; 8] = [
        Act::Ask,
        Act::Accept,
        Act::Decline,
        Act::Remove,
        Act::Block,
        Act::Unblock,
        Act::Follow,
        Act::Unfollow,
    ];

    /// What it does.
    pub(crate) fn rule(self) -> Rule {
        match self {
            Act::Ask => ask,
            Act::Accept => accept,
            Act::Decline => decline,
            Act::Remove => remove,
            Act::Block => block,
            Act::Unblock => unblock,
            Act::Follow => follow,
            Act::Unfollow => unfollow,
        }
    }
}

const REQUEST: i64 = Edge::ASKED | Edge::ASKING;

fn ask(now: &Standing) -> Result<Pair, Code> {
    let pair = now.pair;
    check_blocks(pair)?;
    if pair.own.has(Edge::FRIEND) || pair.own.has(Edge::ASKED) {
        return Ok(pair);
    }
    if pair.own.has(Edge::ASKING) {
        return accept(now);
    }
    if now.own.asked >= REQUESTS_MAX || now.theirs.asking >= REQUESTS_MAX {
        return Err(Code::LimitReached);
    }
    Ok(pair.map(|own| own.with(Edge::ASKED), |theirs| theirs.with(Edge::ASKING)))
}

fn accept(now: &Standing) -> Result<Pair, Code> {
    let pair = now.pair;
    check_blocks(pair)?;
    if pair.own.has(Edge::FRIEND) {
        return Ok(pair);
    }
    if !pair.own.has(Edge::ASKING) {
        return Err(Code::NotFound);
    }
    if now.own.friends >= FRIENDS_MAX || now.theirs.friends >= FRIENDS_MAX {
        return Err(Code::LimitReached);
    }
    let befriend = |edge: Edge| edge.without(REQUEST).with(Edge::FRIEND);
    Ok(pair.map(befriend, befriend))
}

fn decline(now: &Standing) -> Result<Pair, Code> {
    Ok(now.pair.map(|own| own.without(REQUEST), |theirs| theirs.without(REQUEST)))
}

fn remove(now: &Standing) -> Result<Pair, Code> {
    Ok(now.pair.map(|own| own.without(Edge::FRIEND), |theirs| theirs.without(Edge::FRIEND)))
}

fn block(now: &Standing) -> Result<Pair, Code> {
    let pair = now.pair;
    if !pair.own.has(Edge::BLOCKS) && now.own.blocks >= BLOCKS_MAX {
        return Err(Code::LimitReached);
    }
    // The other one's block stays; all else between the two ends.
    Ok(pair.map(|_| Edge(Edge::BLOCKS), |theirs| Edge(theirs.0 & Edge::BLOCKS)))
}

fn unblock(now: &Standing) -> Result<Pair, Code> {
    Ok(now.pair.map(|own| own.without(Edge::BLOCKS), |theirs| theirs))
}

fn follow(now: &Standing) -> Result<Pair, Code> {
    let pair = now.pair;
    check_blocks(pair)?;
    if !pair.own.has(Edge::FOLLOWS) && now.own.follows >= FOLLOWS_MAX {
        return Err(Code::LimitReached);
    }
    Ok(pair.map(|own| own.with(Edge::FOLLOWS), |theirs| theirs))
}

fn unfollow(now: &Standing) -> Result<Pair, Code> {
    Ok(now.pair.map(|own| own.without(Edge::FOLLOWS), |theirs| theirs))
}

/// A platform says that two are friends: no request, no bound, and no block stands against it.
pub(crate) fn befriend(now: &Standing) -> Result<Pair, Code> {
    let friend = |edge: Edge| edge.without(REQUEST | Edge::BLOCKS).with(Edge::FRIEND);
    Ok(now.pair.map(friend, friend))
}

/// A platform says that two are no friends.
pub(crate) fn part(now: &Standing) -> Result<Pair, Code> {
    Ok(now
        .pair
        .map(|own| own.without(Edge::FRIEND | Edge::BLOCKS), |theirs| theirs.without(Edge::FRIEND)))
}

/// One of the two was erased: nothing is left between them.
pub(crate) fn forget(_: &Standing) -> Result<Pair, Code> {
    Ok(Pair::default())
}

fn check_blocks(pair: Pair) -> Result<(), Code> {
    let is_blocked = pair.own.has(Edge::BLOCKS) || pair.theirs.has(Edge::BLOCKS);
    if is_blocked { Err(Code::Blocked) } else { Ok(()) }
}

/// Whether one user may write to another, by both edges as the writer sees them.
pub(crate) fn check_write(pair: Pair, policy: Policy) -> Result<(), Code> {
    check_blocks(pair)?;
    let is_friend = pair.own.has(Edge::FRIEND);
    let follows = pair.own.has(Edge::FOLLOWS) || pair.theirs.has(Edge::FOLLOWS);
    match policy {
        Policy::Anyone => Ok(()),
        Policy::Friends if is_friend => Ok(()),
        Policy::Followers if is_friend || follows => Ok(()),
        Policy::Friends | Policy::Followers => Err(Code::NotFriend),
    }
}

/// Carries out what a user does about another one; what the two were, and are then.
pub(crate) async fn act(
    store: &Store,
    user: i64,
    peer: i64,
    act: Act,
    now_ms: i64,
) -> Result<Changed, Fault> {
    check_other(user, peer)?;
    Ok(rows::change(store, user, peer, now_ms, act.rule()).await??)
}

/// What two users are to each other, as the first one may know it: not whether the other blocks.
pub(crate) async fn between(store: &Store, user: i64, peer: i64) -> Result<Pair, Fault> {
    check_other(user, peer)?;
    Ok(rows::read(store, user, peer).await?)
}

fn check_other(user: i64, peer: i64) -> Result<(), Fault> {
    if user == peer {
        return Err(Fault::refused(Code::BadRequest, "nobody is anything to themselves"));
    }
    Ok(())
}

/// The id of the user of a name; `NOT_FOUND` where there is none.
pub(crate) async fn peer(store: &Store, wire: &str) -> Result<i64, Fault> {
    // A name that cannot be is not asked for: MySQL would find "a" for "a ".
    let (issuer, name) = names::split(wire);
    crate::accounts::check_name(name)?;
    let found = users::find(store, issuer, name).await?;
    let missing = || Fault::refused(Code::NotFound, "there is no user of this name");
    Ok(found.ok_or_else(missing)?.id)
}

/// A page of a user's list, by id, after the cursor `after`.
pub(crate) async fn list(
    store: &Store,
    user: i64,
    kind: Kind,
    after: Option<i64>,
    limit: u32,
) -> Result<Page, Fault> {
    if limit == 0 || limit > PAGE_MAX {
        let text = format!("limit is {limit}; allowed is 1 to {PAGE_MAX}");
        return Err(Fault::refused(Code::BadRequest, text));
    }
    let counts = rows::counts(store, user).await?;
    // One more than asked for tells whether there is a next page. Ids are positive.
    let after = after.unwrap_or(0);
    let mut users = rows::list(store, user, kind, after, i64::from(limit) + 1).await?;
    let more = users.len() > limit as usize;
    users.truncate(limit as usize);
    let next = users.last().filter(|_| more).map(|last| last.user);
    Ok(Page { users, count: kind.of(&counts), next })
}

#[cfg(test)]
mod tests;
