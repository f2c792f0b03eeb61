//! One change of a group, as one transaction.

use super::{Door, Entry, Group, Joining, Link, Member, Role, entry, may_moderate, need};
use crate::relations::{Edge, Pair, Policy, check_write};
use crate::store::append::{self, Append, Target, append};
use crate::store::{Dialect, StoreError, groups as rows, relations};
use prost::Message as _;
use sqlx::AnyConnection;
use std::collections::BTreeMap;
use uproar_proto::error::Code;
use uproar_proto::v1::{self, Kind};

/// Users a notice names; the others are counted.
const NAMED_MAX: usize = 20;
/// Requests that wait in one group.
const REQUESTS_MAX: i64 = 1_000;
/// Links of one group.
const LINKS_MAX: usize = 100;

/// A user by id and by name: the rules need the one, the log the other.
pub(crate) type User = (i64, String);

/// What somebody does to a group.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Makes it, with these members.
    Create {
        name: String,
        announcement: String,
        joining: Joining,
        members: Vec<User>,
    },
    /// Makes it, or adds to it, as a platform says: nobody is asked.
    Upsert {
        name: String,
        announcement: String,
        joining: Joining,
        members: Vec<User>,
    },
    Invite {
        users: Vec<User>,
    },
    /// Asks to be let in, perhaps with a link.
    Join {
        link: Option<String>,
        text: String,
    },
    /// A moderator lets somebody in who waits.
    Approve {
        user: User,
    },
    /// A moderator sends somebody away who waits, or who waits goes.
    Decline {
        user: User,
    },
    Leave,
    Remove {
        user: User,
    },
    SetRole {
        user: User,
        role: Role,
    },
    Mute {
        user: User,
        until_ms: i64,
    },
    /// Another member owns it from now on.
    Transfer {
        user: User,
    },
    /// Changes what is given.
    Set {
        name: Option<String>,
        announcement: Option<String>,
        joining: Option<Joining>,
        muted_all: Option<bool>,
    },
    /// Nobody is in it any more.
    End,
    MakeLink {
        link: Link,
    },
    EndLink {
        token: String,
    },
    /// An operator ends it, removes a member or hands it on: no membership is asked for.
    Operate(Operation),
}

/// What an operator may do to a group.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    End,
    /// An owner who is removed hands it on as one who leaves does.
    Remove(User),
    Transfer(User),
}

/// What may be at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) policy: Policy,
    pub(crate) members_max: i64,
    pub(crate) groups_per_user_max: i64,
}

/// A notice that was written to the log.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Noted {
    /// What it was written under.
    pub(crate) id: u128,
    pub(crate) seq: i64,
    pub(crate) time_ms: i64,
    pub(crate) msg_id: u64,
    pub(crate) notice: v1::Notice,
}

/// What became of it.
#[derive(Clone, Debug)]
pub(crate) struct Changed {
    /// As it is now.
    pub(crate) group: Group,
    /// Members from now on, and the seq above which they read.
    pub(crate) joined: Vec<(User, i64)>,
    /// Members no more, and the last seq they read.
    pub(crate) left: Vec<(User, i64)>,
    pub(crate) notices: Vec<Noted>,
    /// Who waits for a moderator.
    pub(crate) waiting: Vec<User>,
    /// Who was not let in, and why.
    pub(crate) refused: Vec<(User, Code)>,
}

/// A transaction at work.
struct Work<'c> {
    conn: &'c mut AnyConnection,
    dialect: Dialect,
    limits: Limits,
    actor: &'c User,
    now_ms: i64,
    /// Something was written: a refusal from here on undoes it.
    wrote: bool,
    done: Changed,
}

type Done = Result<Result<(), Code>, StoreError>;

/// Carries out `act` of `actor` on the group of `conv`. A refusal has written nothing.
pub(crate) async fn change(
    conn: &mut AnyConnection,
    dialect: Dialect,
    limits: Limits,
    (conv, actor): (i64, &User),
    act: &Act,
    now_ms: i64,
) -> Result<Result<Changed, Code>, StoreError> {
    let found = rows::locked(conn, dialect, conv).await?;
    let is_new = found.is_none();
    let group = match (found, act) {
        (Some(group), _) if group.ended => return Ok(Err(Code::NotFound)),
        (Some(group), _) => group,
        (None, Act::Create { .. } | Act::Upsert { .. }) => {
            let group = fresh(conv, actor.0, act, now_ms);
            rows::insert(conn, &group).await?;
            group
        }
        (None, _) => return Ok(Err(Code::NotFound)),
    };
    let done = Changed {
        group,
        joined: Vec::new(),
        left: Vec::new(),
        notices: Vec::new(),
        waiting: Vec::new(),
        refused: Vec::new(),
    };
    let mut work = Work { conn, dialect, limits, actor, now_ms, wrote: is_new, done };
    match work.run(act).await? {
        Ok(()) => {
            let Work { conn, done, .. } = work;
            rows::update(conn, &done.group).await?;
            Ok(Ok(done))
        }
        // Undoing costs the jobs that share the transaction theirs too, so only where it must be.
        Err(code) if work.wrote => Err(StoreError::Refused(code)),
        Err(code) => Ok(Err(code)),
    }
}

/// Whether what an earlier run of a change came to stands, by the id of its first notice. One
/// without a notice is not known, and may be made again: it comes to the same.
pub(crate) async fn stands(
    conn: &mut AnyConnection,
    dialect: Dialect,
    actor: i64,
    changed: &Changed,
) -> Result<bool, StoreError> {
    match changed.notices.first() {
        Some(noted) => append::stands(conn, dialect, (changed.group.conv, actor, noted.id)).await,
        None => Ok(false),
    }
}

fn fresh(conv: i64, owner: i64, act: &Act, now_ms: i64) -> Group {
    let (name, announcement, joining) = match act {
        Act::Create { name, announcement, joining, .. }
        | Act::Upsert { name, announcement, joining, .. } => (name, announcement, *joining),
        _ => (&String::new(), &String::new(), Joining::Invite),
    };
    Group {
        conv,
        name: name.clone(),
        announcement: announcement.clone(),
        joining,
        muted_all: false,
        size: 0,
        ended: false,
        created_ms: now_ms,
        owner,
        head: 0,
    }
}

impl Work<'_> {
    async fn run(&mut self, act: &Act) -> Done {
        if let Act::Create { members, .. } = act {
            return self.create(members).await;
        }
        if let Act::Upsert { name, announcement, joining, members } = act {
            let group = &mut self.done.group;
            (group.name, group.announcement) = (name.clone(), announcement.clone());
            group.joining = *joining;
            return self.upsert(members).await;
        }
        if let Act::Operate(operation) = act {
            return self.operate(operation).await;
        }
        let own = self.member(self.actor.0).await?;
        match (act, own) {
            (Act::Join { .. }, Some(_)) => return Ok(Ok(())),
            (Act::Join { link, text }, None) => return self.join(link.as_deref(), text).await,
            // Whoever waits may stop waiting.
            (Act::Decline { user }, None) if user.0 == self.actor.0 => {
                return self.decline(user).await;
            }
            (_, None) => return Ok(Err(Code::NotMember)),
            (_, Some(_)) => {}
        }
        let Some(own) = own else { return Ok(Err(Code::NotMember)) };
        match act {
            Act::Invite { users } => self.invite(own.role, users).await,
            Act::Approve { user } => self.approve(own.role, user).await,
            Act::Decline { user } => match need(own.role, Role::Moderator) {
                Ok(()) => self.decline(user).await,
                Err(code) => Ok(Err(code)),
            },
            Act::Leave => self.go(own, "left", self.actor.clone()).await,
            Act::Remove { user } => self.remove(own.role, user).await,
            Act::SetRole { user, role } => self.set_role(own.role, user, *role).await,
            Act::Mute { user, until_ms } => self.mute(own.role, user, *until_ms).await,
            Act::Transfer { user } => self.transfer(own, user).await,
            Act::Set { .. } => self.set(own.role, act).await,
            Act::End => self.end(own.role).await,
            Act::MakeLink { link } => self.make_link(own.role, link).await,
            Act::EndLink { token } => self.end_link(own.role, token).await,
            Act::Create { .. } | Act::Upsert { .. } | Act::Join { .. } | Act::Operate(_) => {
                Ok(Ok(()))
            }
        }
    }

    async fn operate(&mut self, operation: &Operation) -> Done {
        let user = match operation {
            Operation::End => return self.end(Role::Owner).await,
            Operation::Remove(user) | Operation::Transfer(user) => user,
        };
        let Some(member) = self.member(user.0).await? else { return Ok(Err(Code::NotFound)) };
        if let Operation::Remove(_) = operation {
            return self.go(member, "removed", user.clone()).await;
        }
        let owner = self.done.group.owner;
        match self.member(owner).await? {
            Some(owner) if owner.user == user.0 => Ok(Ok(())),
            Some(owner) => self.hand_on(owner, user).await,
            None => Err(StoreError::Corrupt(format!("a group of {owner}, who is not in it"))),
        }
    }

    async fn member(&mut self, user: i64) -> Result<Option<Member>, StoreError> {
        let conv = self.done.group.conv;
        Ok(rows::members(self.conn, conv, &[user]).await?.remove(&user))
    }

    /// Writes a notice to the log, by the actor.
    async fn note(&mut self, notice: v1::Notice) -> Result<i64, StoreError> {
        let kept = v1::StoredMessage {
            notice: Some(Box::new(notice.clone())),
            ..v1::StoredMessage::default()
        };
        let mut id = [0; 16];
        id[..8].copy_from_slice(&crate::ids::random_id().to_be_bytes());
        id[8..].copy_from_slice(&crate::ids::random_id().to_be_bytes());
        let id = u128::from_be_bytes(id);
        let item = Append {
            sender: self.actor.0,
            target: Target::Group(self.done.group.conv),
            client_msg_id: id,
            hash: 0,
            kind: Kind::Notice,
            target_seq: 0,
            body: kept.encode_to_vec(),
            by_operator: false,
        };
        self.wrote = true;
        let policy = self.limits.policy;
        let placed = append(self.conn, self.dialect, policy, &[item], self.now_ms).await?;
        let Some(Ok(place)) = placed.first() else {
            return Err(StoreError::Corrupt("a group without its conversation".into()));
        };
        let (seq, time_ms, msg_id) = (place.seq, place.time_ms, place.msg_id);
        self.done.group.head = seq;
        self.done.notices.push(Noted { id, seq, time_ms, msg_id, notice });
        Ok(seq)
    }

    /// Lets users in who may be; the notice says who.
    async fn let_in(&mut self, what: &str, users: Vec<(User, Role)>) -> Done {
        if users.is_empty() {
            return Ok(Ok(()));
        }
        let size = self.done.group.size + users.len() as i64;
        if size > self.limits.members_max {
            return Ok(Err(Code::LimitReached));
        }
        let names = users.iter().map(|((_, name), _)| name.clone());
        let mut notice = about(what, names.clone());
        if what == "created" {
            // The first one made it; the others were taken along.
            notice = about(what, names.skip(1));
            notice.text = self.done.group.name.clone();
        }
        let since = self.note(notice).await? - 1;
        let rows: Vec<(i64, Role)> = users.iter().map(|((id, _), role)| (*id, *role)).collect();
        let (conv, now_ms) = (self.done.group.conv, self.now_ms);
        rows::insert_members(self.conn, conv, &rows, since, now_ms).await?;
        let ids: Vec<i64> = rows.iter().map(|(id, _)| *id).collect();
        rows::delete_requests(self.conn, conv, &ids).await?;
        self.done.group.size = size;
        self.done.joined.extend(users.into_iter().map(|(user, _)| (user, since)));
        Ok(Ok(()))
    }

    /// Of these users those the actor may take along and who have room for one more group; the
    /// others are refused by name.
    async fn invited(&mut self, users: &[User]) -> Result<Vec<User>, StoreError> {
        let ids: Vec<i64> = users.iter().map(|(id, _)| *id).collect();
        let pairs: Vec<(i64, i64)> = ids.iter().map(|id| (self.actor.0, *id)).collect();
        let edges = relations::edges(self.conn, self.dialect, &pairs).await?;
        let members = rows::members(self.conn, self.done.group.conv, &ids).await?;
        let counts = rows::counts_of(self.conn, &ids).await?;
        let mut invited: BTreeMap<i64, User> = BTreeMap::new();
        for user in users {
            if members.contains_key(&user.0) || user.0 == self.actor.0 {
                continue;
            }
            let edge = |a, b| edges.get(&(a, b)).copied().unwrap_or(Edge(0));
            let pair = Pair { own: edge(self.actor.0, user.0), theirs: edge(user.0, self.actor.0) };
            let full = counts.get(&user.0).is_some_and(|n| *n >= self.limits.groups_per_user_max);
            match check_write(pair, self.limits.policy) {
                Err(code) => self.done.refused.push((user.clone(), code)),
                Ok(()) if full => self.done.refused.push((user.clone(), Code::LimitReached)),
                Ok(()) => {
                    invited.insert(user.0, user.clone());
                }
            }
        }
        Ok(invited.into_values().collect())
    }

    /// Whether the actor has room for one more group.
    async fn has_room(&mut self) -> Result<bool, StoreError> {
        let counts = rows::counts_of(self.conn, &[self.actor.0]).await?;
        let many = counts.get(&self.actor.0).copied().unwrap_or(0);
        Ok(many < self.limits.groups_per_user_max)
    }

    async fn create(&mut self, members: &[User]) -> Done {
        if !self.has_room().await? {
            return Ok(Err(Code::LimitReached));
        }
        let mut users = vec![(self.actor.clone(), Role::Owner)];
        let invited = self.invited(members).await?;
        users.extend(invited.into_iter().map(|user| (user, Role::Member)));
        self.let_in("created", users).await
    }

    async fn upsert(&mut self, members: &[User]) -> Done {
        let conv = self.done.group.conv;
        let mut all: BTreeMap<i64, User> = BTreeMap::new();
        all.extend(members.iter().map(|user| (user.0, user.clone())));
        all.insert(self.actor.0, self.actor.clone());
        let ids: Vec<i64> = all.keys().copied().collect();
        let known = rows::members(self.conn, conv, &ids).await?;
        let owner = self.done.group.owner;
        let role = |id| if id == owner { Role::Owner } else { Role::Member };
        let missing = all.into_values().filter(|(id, _)| !known.contains_key(id));
        let mut missing: Vec<(User, Role)> =
            missing.map(|user| (user.clone(), role(user.0))).collect();
        missing.sort_by_key(|(_, role)| std::cmp::Reverse(*role));
        let what = if self.done.group.head == 0 { "created" } else { "joined" };
        self.let_in(what, missing).await
    }

    async fn invite(&mut self, own: Role, users: &[User]) -> Done {
        let invited = self.invited(users).await?;
        match entry(self.done.group.joining, Door::Invited(own)) {
            Err(code) => Ok(Err(code)),
            Ok(Entry::Joins) => {
                let users = invited.into_iter().map(|user| (user, Role::Member)).collect();
                self.let_in("joined", users).await
            }
            Ok(Entry::Waits) => {
                for user in invited {
                    if let Err(code) = self.wait(&user, "").await? {
                        return Ok(Err(code));
                    }
                }
                Ok(Ok(()))
            }
        }
    }

    async fn join(&mut self, link: Option<&str>, text: &str) -> Done {
        let conv = self.done.group.conv;
        let door = match link {
            None => Door::Id,
            Some(token) => {
                let links = rows::links(self.conn, rows::LinksOf::Token(token)).await?;
                let good = |link: &Link| link.conv == conv && link.is_good(self.now_ms);
                if !links.first().is_some_and(good) {
                    return Ok(Err(Code::NotFound));
                }
                Door::Link
            }
        };
        if !self.has_room().await? {
            return Ok(Err(Code::LimitReached));
        }
        let user = self.actor.clone();
        let entered = match entry(self.done.group.joining, door) {
            Err(code) => return Ok(Err(code)),
            Ok(Entry::Joins) => self.let_in("joined", vec![(user, Role::Member)]).await?,
            Ok(Entry::Waits) => self.wait(&user, text).await?,
        };
        if let (Ok(()), Some(token)) = (entered, link) {
            rows::use_link(self.conn, token).await?;
        }
        Ok(entered)
    }

    async fn wait(&mut self, user: &User, text: &str) -> Done {
        let conv = self.done.group.conv;
        if rows::count_requests(self.conn, conv).await? >= REQUESTS_MAX {
            return Ok(Err(Code::LimitReached));
        }
        self.wrote = true;
        let who = (conv, user.0, self.actor.0);
        rows::put_request(self.conn, self.dialect, who, text, self.now_ms).await?;
        self.done.waiting.push(user.clone());
        Ok(Ok(()))
    }

    async fn approve(&mut self, own: Role, user: &User) -> Done {
        if let Err(code) = need(own, Role::Moderator) {
            return Ok(Err(code));
        }
        if self.member(user.0).await?.is_some() {
            return Ok(Ok(()));
        }
        let asked = rows::delete_requests(self.conn, self.done.group.conv, &[user.0]).await?;
        if asked == 0 {
            return Ok(Err(Code::NotFound));
        }
        self.wrote = true;
        self.let_in("joined", vec![(user.clone(), Role::Member)]).await
    }

    async fn decline(&mut self, user: &User) -> Done {
        rows::delete_requests(self.conn, self.done.group.conv, &[user.0]).await?;
        Ok(Ok(()))
    }

    /// A member goes; an owner hands the group on, and the last one ends it.
    async fn go(&mut self, own: Member, what: &str, user: User) -> Done {
        if own.role == Role::Owner {
            let conv = self.done.group.conv;
            let Some(heir) = rows::heir(self.conn, conv, user.0).await? else {
                return self.end(Role::Owner).await;
            };
            let name = crate::store::users::name(self.conn, heir).await?.unwrap_or_default();
            if let Err(code) = self.hand_on(own, &(heir, name)).await? {
                return Ok(Err(code));
            }
        }
        self.put_out(what, user).await
    }

    /// A member is none any more.
    async fn put_out(&mut self, what: &str, user: User) -> Done {
        let until = self.note(about(what, [user.1.clone()].into_iter())).await?;
        let (conv, now_ms) = (self.done.group.conv, self.now_ms);
        rows::end_memberships(self.conn, conv, Some(user.0), until, now_ms).await?;
        self.done.group.size -= 1;
        self.done.left.push((user, until));
        Ok(Ok(()))
    }

    /// The member an act is about, where the actor's role lets it.
    async fn target(&mut self, own: Role, user: &User) -> Result<Result<Member, Code>, StoreError> {
        let Some(target) = self.member(user.0).await? else { return Ok(Err(Code::NotFound)) };
        Ok(may_moderate(own, target.role).map(|()| target))
    }

    async fn remove(&mut self, own: Role, user: &User) -> Done {
        match self.target(own, user).await? {
            Ok(_) => self.put_out("removed", user.clone()).await,
            Err(code) => Ok(Err(code)),
        }
    }

    async fn set_role(&mut self, own: Role, user: &User, role: Role) -> Done {
        let target = match (need(own, Role::Owner), self.target(own, user).await?) {
            (Ok(()), Ok(target)) => target,
            (Err(code), _) | (_, Err(code)) => return Ok(Err(code)),
        };
        if role == Role::Owner {
            return Ok(Err(Code::BadRequest));
        }
        if target.role == role {
            return Ok(Ok(()));
        }
        let notice = about("role", [user.1.clone()].into_iter());
        self.note(v1::Notice { text: role.word().into(), ..notice }).await?;
        let (conv, now_ms) = (self.done.group.conv, self.now_ms);
        rows::update_member(self.conn, conv, &Member { role, ..target }, now_ms).await?;
        Ok(Ok(()))
    }

    async fn mute(&mut self, own: Role, user: &User, until_ms: i64) -> Done {
        let target = match self.target(own, user).await? {
            Ok(target) => target,
            Err(code) => return Ok(Err(code)),
        };
        let notice = about("muted", [user.1.clone()].into_iter());
        self.note(v1::Notice { until_ms: until_ms as u64, ..notice }).await?;
        let (conv, now_ms) = (self.done.group.conv, self.now_ms);
        let muted = Member { muted_until_ms: until_ms, ..target };
        rows::update_member(self.conn, conv, &muted, now_ms).await?;
        Ok(Ok(()))
    }

    async fn transfer(&mut self, own: Member, user: &User) -> Done {
        match (need(own.role, Role::Owner), self.member(user.0).await?) {
            (Err(code), _) => Ok(Err(code)),
            (_, None) => Ok(Err(Code::NotFound)),
            (_, Some(_)) if user.0 == own.user => Ok(Ok(())),
            (Ok(()), Some(_)) => self.hand_on(own, user).await,
        }
    }

    /// The group has another owner; the former one stays as a moderator.
    async fn hand_on(&mut self, own: Member, user: &User) -> Done {
        let Some(target) = self.member(user.0).await? else { return Ok(Err(Code::NotFound)) };
        self.note(about("owner", [user.1.clone()].into_iter())).await?;
        let (conv, now_ms) = (self.done.group.conv, self.now_ms);
        for (member, role) in [(own, Role::Moderator), (target, Role::Owner)] {
            rows::update_member(self.conn, conv, &Member { role, ..member }, now_ms).await?;
        }
        self.done.group.owner = user.0;
        Ok(Ok(()))
    }

    async fn set(&mut self, own: Role, act: &Act) -> Done {
        let Act::Set { name, announcement, joining, muted_all } = act else { return Ok(Ok(())) };
        if let Err(code) = need(own, Role::Moderator) {
            return Ok(Err(code));
        }
        let before = self.done.group.clone();
        let group = &mut self.done.group;
        group.joining = joining.unwrap_or(group.joining);
        group.muted_all = muted_all.unwrap_or(group.muted_all);
        group.name = name.clone().unwrap_or_else(|| group.name.clone());
        group.announcement = announcement.clone().unwrap_or_else(|| group.announcement.clone());
        let after = group.clone();
        let said = |what: &str, text: &str| v1::Notice {
            text: text.to_owned(),
            ..about(what, std::iter::empty())
        };
        if after.name != before.name {
            self.note(said("renamed", &after.name)).await?;
        }
        if after.announcement != before.announcement {
            self.note(said("announced", &after.announcement)).await?;
        }
        if after.joining != before.joining || after.muted_all != before.muted_all {
            let text = if after.muted_all { "muted" } else { "" };
            self.note(said("settings", text)).await?;
        }
        Ok(Ok(()))
    }

    async fn end(&mut self, own: Role) -> Done {
        if let Err(code) = need(own, Role::Owner) {
            return Ok(Err(code));
        }
        let until = self.note(about("ended", std::iter::empty())).await?;
        let (conv, now_ms) = (self.done.group.conv, self.now_ms);
        rows::end_memberships(self.conn, conv, None, until, now_ms).await?;
        rows::close_doors(self.conn, conv).await?;
        (self.done.group.ended, self.done.group.size) = (true, 0);
        Ok(Ok(()))
    }

    async fn make_link(&mut self, own: Role, link: &Link) -> Done {
        if let Err(code) = need(own, Role::Moderator) {
            return Ok(Err(code));
        }
        let links = rows::links(self.conn, rows::LinksOf::Group(link.conv)).await?;
        let (good, over): (Vec<_>, Vec<_>) = links.iter().partition(|l| l.is_good(self.now_ms));
        if good.len() >= LINKS_MAX {
            return Ok(Err(Code::LimitReached));
        }
        self.wrote = true;
        for link in over {
            rows::delete_link(self.conn, link.conv, &link.token).await?;
        }
        rows::insert_link(self.conn, link, self.now_ms).await?;
        Ok(Ok(()))
    }

    async fn end_link(&mut self, own: Role, token: &str) -> Done {
        if let Err(code) = need(own, Role::Moderator) {
            return Ok(Err(code));
        }
        let ended = rows::delete_link(self.conn, self.done.group.conv, token).await?;
        Ok(if ended == 0 { Err(Code::NotFound) } else { Ok(()) })
    }
}

fn about(what: &str, names: impl Iterator<Item = String>) -> v1::Notice {
    let mut names: Vec<String> = names.collect();
    let more = names.len().saturating_sub(NAMED_MAX);
    names.truncate(NAMED_MAX);
    let what = what.to_owned();
    v1::Notice { what, users: names, more: more as u32, text: String::new(), until_ms: 0 }
}
