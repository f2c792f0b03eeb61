//! What the trait says, as the link's messages say it, and back. Pure.
//!
//! The node of a connection does not travel: an engine knows none, and control says which node a
//! message came from.

mod penalties;

use crate::v1::{self, ask, block, close, judged, tell};
use bytes::Bytes;
use std::net::IpAddr;
use std::sync::Arc;
use uproar_proto::blocks::{Block, BlockKind, BlockList};
use uproar_proto::control::{
    Ask, Asked, Closed, ConnectionId, FilterList, Judgement, Lines, Membership, Question, Report,
    Seen, Tell,
};
use uproar_proto::error::Code;
use uproar_proto::ids::{Epoch, McastId, RoomId};
use uproar_proto::v1::{ClientFrame, ServerFrame, server_frame::Body};

pub(crate) use penalties::{from_kept_question, from_penalties, to_kept_question, to_penalties};

/// What a message lacks or has too much of.
pub(crate) type Bad = &'static str;

fn connection(id: ConnectionId) -> v1::Connection {
    v1::Connection { shard: u32::from(id.shard), conn: id.conn, serial: id.serial }
}

fn connection_id(node: u16, connection: Option<v1::Connection>) -> Result<ConnectionId, Bad> {
    let v1::Connection { shard, conn, serial } = connection.ok_or("it names no connection")?;
    let shard = u16::try_from(shard).map_err(|_| "there is no such shard")?;
    Ok(ConnectionId { node, shard, conn, serial })
}

/// As it goes to control.
pub(crate) fn from_ask(ask: Ask) -> v1::Ask {
    let Ask { from, number, user, what } = ask;
    let what = match what {
        Asked::Open { login } => ask::What::Open(v1::Open { login: login.map(|l| l.to_string()) }),
        Asked::Frame(body) => ask::What::Frame(ClientFrame { body: Some(body) }),
    };
    v1::Ask { from: Some(connection(from)), number, user: user.to_string(), what: Some(what) }
}

/// As control takes it in from this node.
pub(crate) fn to_ask(node: u16, ask: v1::Ask) -> Result<Ask, Bad> {
    let v1::Ask { from, number, user, what } = ask;
    let what = match what.ok_or("an ask for nothing")? {
        ask::What::Open(v1::Open { login }) => Asked::Open { login: login.map(Arc::from) },
        ask::What::Frame(frame) => Asked::Frame(frame.body.ok_or("an unknown frame of a client")?),
    };
    Ok(Ask { from: connection_id(node, from)?, number, user: user.into(), what })
}

/// As it goes to control.
pub(crate) fn from_seen(seen: Seen) -> v1::Seen {
    let Seen { node: _, shard, users, ended } = seen;
    let user = |(user, online): (Arc<str>, bool)| v1::UserSeen { user: user.to_string(), online };
    v1::Seen {
        shard: u32::from(shard),
        users: users.into_iter().map(user).collect(),
        ended: ended.into_iter().map(connection).collect(),
    }
}

/// As control takes it in from this node.
pub(crate) fn to_seen(node: u16, seen: v1::Seen) -> Result<Seen, Bad> {
    let v1::Seen { shard, users, ended } = seen;
    let ended = ended.into_iter().map(|one| connection_id(node, Some(one)));
    Ok(Seen {
        node,
        shard: u16::try_from(shard).map_err(|_| "there is no such shard")?,
        users: users.into_iter().map(|seen| (Arc::from(seen.user), seen.online)).collect(),
        ended: ended.collect::<Result<_, _>>()?,
    })
}

/// As it goes to control.
pub(crate) fn from_lines(lines: Lines) -> v1::Lines {
    let Lines { room, epoch, messages, recalled, recalled_of } = lines;
    let room = room.as_str().to_owned();
    v1::Lines { room, epoch: epoch.0, messages, recalled, recalled_of }
}

/// As control takes it in.
pub(crate) fn to_lines(lines: v1::Lines) -> Result<Lines, Bad> {
    let v1::Lines { room, epoch, messages, recalled, recalled_of } = lines;
    let room = RoomId::new(&room).ok_or("a room of no such name")?;
    Ok(Lines { room, epoch: Epoch(epoch), messages, recalled, recalled_of })
}

/// As it goes to control.
pub(crate) fn from_question(question: Question) -> v1::Question {
    let Question { node: _, room, epoch, number, wait_ms, message } = question;
    let (room, message) = (room.as_str().to_owned(), Some(message));
    v1::Question { room, epoch: epoch.0, number, wait_ms, message }
}

/// As control takes it in from this node.
pub(crate) fn to_question(node: u16, question: v1::Question) -> Result<Question, Bad> {
    let v1::Question { room, epoch, number, wait_ms, message } = question;
    let room = RoomId::new(&room).ok_or("a room of no such name")?;
    let message = message.ok_or("a question about nothing")?;
    Ok(Question { node, room, epoch: Epoch(epoch), number, wait_ms, message })
}

fn from_judgement(judgement: Judgement) -> judged::Judgement {
    match judgement {
        Judgement::Allow => judged::Judgement::Allow(true),
        Judgement::Replace(text) => judged::Judgement::Replace(text),
        Judgement::Refuse(code, text) => {
            judged::Judgement::Refuse(v1::Refusal { code: code.number(), text })
        }
        Judgement::Undecided => judged::Judgement::Undecided(true),
    }
}

fn to_judgement(judgement: judged::Judgement) -> Result<Judgement, Bad> {
    Ok(match judgement {
        judged::Judgement::Allow(_) => Judgement::Allow,
        judged::Judgement::Replace(text) => Judgement::Replace(text),
        judged::Judgement::Refuse(v1::Refusal { code: why, text }) => {
            Judgement::Refuse(code(why)?, text)
        }
        judged::Judgement::Undecided(_) => Judgement::Undecided,
    })
}

/// As it goes to control.
pub(crate) fn from_report(report: Report) -> v1::Report {
    let Report { from, user, address, id, reports } = report;
    let address = match address {
        Some(IpAddr::V4(v4)) => Bytes::copy_from_slice(&v4.octets()),
        Some(IpAddr::V6(v6)) => Bytes::copy_from_slice(&v6.octets()),
        None => Bytes::new(),
    };
    let user = user.map(|user| user.to_string());
    v1::Report { from: Some(connection(from)), user, address, id, reports }
}

/// As control takes it in from this node.
pub(crate) fn to_report(node: u16, report: v1::Report) -> Result<Report, Bad> {
    let v1::Report { from, user, address, id, reports } = report;
    let v4 = || <[u8; 4]>::try_from(&address[..]).map(IpAddr::from);
    let v6 = || <[u8; 16]>::try_from(&address[..]).map(IpAddr::from);
    let known = || v4().or_else(|_| v6()).map_err(|_| "an address of no known length");
    let address = if address.is_empty() { None } else { Some(known()?) };
    Ok(Report { from: connection_id(node, from)?, user: user.map(Arc::from), address, id, reports })
}

fn frame(body: Body) -> ServerFrame {
    ServerFrame { body: Some(body) }
}

fn body(frame: Option<ServerFrame>) -> Result<Body, Bad> {
    frame.and_then(|frame| frame.body).ok_or("an unknown frame for a client")
}

fn membership(membership: Membership) -> v1::Membership {
    let Membership { group, since_seq } = membership;
    v1::Membership { group, since_seq }
}

fn to_membership(membership: v1::Membership) -> Membership {
    let v1::Membership { group, since_seq } = membership;
    Membership { group, since_seq }
}

fn code(number: u32) -> Result<Code, Bad> {
    Code::from_number(number).ok_or("an unknown code")
}

fn mcast(name: &str) -> Result<McastId, Bad> {
    McastId::named(name).ok_or("an unknown kind of mcast")
}

fn from_block(block: Block) -> v1::Block {
    let Block { kind, value, until_s } = block;
    let of = match kind {
        BlockKind::Device => block::Of::Device(value),
        BlockKind::Address => block::Of::Network(value),
    };
    v1::Block { of: Some(of), until_s }
}

fn to_block(block: v1::Block) -> Result<Block, Bad> {
    let v1::Block { of, until_s } = block;
    let (kind, value) = match of.ok_or("a block of nothing")? {
        block::Of::Device(device) => (BlockKind::Device, device),
        block::Of::Network(network) => (BlockKind::Address, network),
    };
    Ok(Block { kind, value, until_s })
}

/// As it goes to engines; `None`: it never leaves the engine's side.
pub(crate) fn from_tell(tell: Tell) -> Option<v1::Tell> {
    let what = match tell {
        Tell::Opened { to, number, groups } => {
            let (groups, code) = match groups {
                Ok(groups) => (groups.into_iter().map(membership).collect(), 0),
                Err(code) => (Vec::new(), code.number()),
            };
            tell::What::Opened(v1::Opened { to: Some(connection(to)), number, groups, code })
        }
        Tell::Answer { to, number, frames } => tell::What::Answer(v1::Answer {
            to: Some(connection(to)),
            number,
            frames: frames.into_iter().map(frame).collect(),
        }),
        Tell::Show { to, frame: body } => {
            let (to, frame) = (Some(connection(to)), Some(frame(*body)));
            tell::What::Show(v1::Show { to, frame })
        }
        Tell::Push { mcast, frame: body } => {
            let (mcast, frame) = (mcast.as_str().to_owned(), Some(frame(*body)));
            tell::What::Push(v1::Push { mcast, frame })
        }
        Tell::PushAbout { mcast, target_seq, frame: body, blank } => {
            let (mcast, blank) = (mcast.as_str().to_owned(), Some(frame(*blank)));
            let frame = Some(frame(*body));
            tell::What::PushAbout(v1::PushAbout { mcast, target_seq, frame, blank })
        }
        Tell::Generation(generation) => tell::What::Generation(generation),
        Tell::Filter(list) => {
            let FilterList { version, words, regexes } = Arc::unwrap_or_clone(list);
            tell::What::Filter(v1::Filter { version, words, regexes })
        }
        Tell::Blocks(list) => {
            let BlockList { version, blocks } = Arc::unwrap_or_clone(list);
            let blocks = blocks.into_iter().map(from_block).collect();
            tell::What::Blocks(v1::Blocks { version, blocks })
        }
        Tell::Announce { id, message } => {
            tell::What::Announce(v1::Announce { id, message: Some(*message) })
        }
        Tell::Join { user, membership: of } => {
            tell::What::Join(v1::Join { user, membership: Some(membership(of)) })
        }
        Tell::Leave { user, group, seq } => tell::What::Leave(v1::Leave { user, group, seq }),
        Tell::Resync { mcast } => {
            tell::What::Resync(v1::Resync { mcast: mcast.as_str().to_owned() })
        }
        Tell::Close { of, code } => {
            let of = match of {
                Closed::User(user) => close::Of::User(user),
                Closed::Session(login) => close::Of::Login(login),
            };
            tell::What::Close(v1::Close { of: Some(of), code: code.number() })
        }
        Tell::Kept(kept) => tell::What::Kept(penalties::from_kept(*kept)),
        Tell::Judged { node: _, room, epoch, number, judgement } => {
            let (room, judgement) = (room.as_str().to_owned(), Some(from_judgement(judgement)));
            tell::What::Judged(v1::Judged { room, epoch: epoch.0, number, judgement })
        }
        Tell::Anew { .. } => return None,
    };
    Some(v1::Tell { what: Some(what) })
}

/// As the engine is told.
pub(crate) fn to_tell(tell: v1::Tell) -> Result<Tell, Bad> {
    Ok(match tell.what.ok_or("an unknown kind of word")? {
        tell::What::Opened(v1::Opened { to, number, groups, code: 0 }) => {
            let groups = Ok(groups.into_iter().map(to_membership).collect());
            Tell::Opened { to: connection_id(0, to)?, number, groups }
        }
        tell::What::Opened(v1::Opened { to, number, code: why, .. }) => {
            Tell::Opened { to: connection_id(0, to)?, number, groups: Err(code(why)?) }
        }
        tell::What::Answer(v1::Answer { to, number, frames }) => {
            let frames = frames.into_iter().map(|frame| body(Some(frame)));
            let frames = frames.collect::<Result<_, _>>()?;
            Tell::Answer { to: connection_id(0, to)?, number, frames }
        }
        tell::What::Show(v1::Show { to, frame }) => {
            Tell::Show { to: connection_id(0, to)?, frame: Box::new(body(frame)?) }
        }
        tell::What::Push(v1::Push { mcast: name, frame }) => {
            Tell::Push { mcast: mcast(&name)?, frame: Box::new(body(frame)?) }
        }
        tell::What::PushAbout(v1::PushAbout { mcast: name, target_seq, frame, blank }) => {
            let (frame, blank) = (Box::new(body(frame)?), Box::new(body(blank)?));
            Tell::PushAbout { mcast: mcast(&name)?, target_seq, frame, blank }
        }
        tell::What::Generation(generation) => Tell::Generation(generation),
        tell::What::Filter(v1::Filter { version, words, regexes }) => {
            Tell::Filter(Arc::new(FilterList { version, words, regexes }))
        }
        tell::What::Blocks(v1::Blocks { version, blocks }) => {
            let blocks = blocks.into_iter().map(to_block).collect::<Result<_, _>>()?;
            Tell::Blocks(Arc::new(BlockList { version, blocks }))
        }
        tell::What::Announce(v1::Announce { id, message }) => {
            Tell::Announce { id, message: Box::new(message.ok_or("an announcement of nothing")?) }
        }
        tell::What::Kept(kept) => Tell::Kept(Box::new(penalties::to_kept(kept)?)),
        tell::What::Judged(v1::Judged { room, epoch, number, judgement }) => {
            let room = RoomId::new(&room).ok_or("a room of no such name")?;
            let judgement = to_judgement(judgement.ok_or("a judgement of no kind")?)?;
            Tell::Judged { node: 0, room, epoch: Epoch(epoch), number, judgement }
        }
        tell::What::Join(v1::Join { user, membership }) => {
            let membership = to_membership(membership.ok_or("a joining of nothing")?);
            Tell::Join { user, membership }
        }
        tell::What::Leave(v1::Leave { user, group, seq }) => Tell::Leave { user, group, seq },
        tell::What::Resync(v1::Resync { mcast: name }) => Tell::Resync { mcast: mcast(&name)? },
        tell::What::Close(v1::Close { of, code: why }) => {
            let of = match of.ok_or("a close of nobody")? {
                close::Of::User(user) => Closed::User(user),
                close::Of::Login(login) => Closed::Session(login),
            };
            Tell::Close { of, code: code(why)? }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;
    use uproar_proto::control::refusal;
    use uproar_proto::v1::{Send, Stored, StoredMessage, Sync, client_frame};

    const TO: ConnectionId = ConnectionId { node: 0, shard: 3, conn: u32::MAX, serial: u64::MAX };

    fn send() -> client_frame::Body {
        let client_msg_id = bytes::Bytes::from_static(&[7; 16]);
        let (conversation, text) = ("user:b".into(), "h\u{20ac}".into());
        client_frame::Body::Send(Send { conversation, client_msg_id, text, ..Send::default() })
    }

    /// One of each kind that control tells.
    pub(crate) fn tells() -> Vec<Tell> {
        let group = || Membership { group: "00000000deadbeef".into(), since_seq: 9 };
        let stored = || {
            let messages = vec![StoredMessage { seq: 4, user: "a".into(), ..Default::default() }];
            Box::new(Body::Stored(Stored { conversation: "user:a".into(), messages }))
        };
        let refused = refusal(&send(), Code::StoreDown);
        vec![
            Tell::Opened { to: TO, number: 1, groups: Ok(vec![group(), group()]) },
            Tell::Opened { to: TO, number: 2, groups: Ok(Vec::new()) },
            Tell::Opened { to: TO, number: 3, groups: Err(Code::SessionRevoked) },
            Tell::Answer { to: TO, number: 0, frames: Vec::new() },
            Tell::Answer { to: TO, number: u32::MAX, frames: vec![*stored(), refused] },
            Tell::Show { to: TO, frame: stored() },
            Tell::Push { mcast: McastId::user("a b"), frame: stored() },
            Tell::Push { mcast: McastId::group("x"), frame: stored() },
            Tell::PushAbout {
                mcast: McastId::group("x"),
                target_seq: 3,
                frame: stored(),
                blank: Box::new(Body::Stored(Stored::default())),
            },
            Tell::Generation(u64::MAX),
            Tell::Filter(Arc::new(FilterList {
                version: u64::MAX,
                words: "a\n\u{5fae}\u{4fe1}".into(),
                regexes: "b+".into(),
            })),
            Tell::Blocks(Arc::new(BlockList {
                version: 7,
                blocks: vec![
                    Block { kind: BlockKind::Device, value: "\u{5fae}".into(), until_s: u64::MAX },
                    Block { kind: BlockKind::Address, value: "10.0.0.0/8".into(), until_s: 0 },
                ],
            })),
            Tell::Announce { id: 7, message: Box::default() },
            judged(Judgement::Allow),
            judged(Judgement::Replace(String::new())),
            judged(Judgement::Refuse(Code::Muted, "calm down".into())),
            judged(Judgement::Undecided),
            penalties::tests::told(),
            Tell::Join { user: "a".into(), membership: group() },
            Tell::Leave { user: "a".into(), group: "x".into(), seq: 7 },
            Tell::Resync { mcast: McastId::user("user:a") },
            Tell::Close { of: Closed::User("a".into()), code: Code::Banned },
            Tell::Close { of: Closed::Session("-77".into()), code: Code::SessionRevoked },
        ]
    }

    #[test]
    fn what_is_told_arrives_as_it_was() {
        for tell in tells() {
            let sent = from_tell(tell.clone()).unwrap().encode_to_vec();
            let heard = to_tell(v1::Tell::decode(&sent[..]).unwrap());
            assert_eq!(heard, Ok(tell));
        }
        assert_eq!(from_tell(Tell::Anew { number: 1 }), None);
    }

    #[test]
    fn what_is_asked_arrives_as_it_was_and_names_its_node() {
        let sync = client_frame::Body::Sync(Sync { cursor: "1".into(), limit: 3 });
        for what in [
            Asked::Open { login: None },
            Asked::Open { login: Some("".into()) },
            Asked::Open { login: Some("77".into()) },
            Asked::Frame(send()),
            Asked::Frame(sync),
        ] {
            let ask = Ask { from: TO, number: 5, user: "ann".into(), what };
            let sent = from_ask(ask.clone()).encode_to_vec();
            let heard = to_ask(12, v1::Ask::decode(&sent[..]).unwrap());
            let from = ConnectionId { node: 12, ..TO };
            assert_eq!(heard, Ok(Ask { from, ..ask }));
        }
    }

    #[test]
    fn who_is_seen_arrives_as_it_was_and_names_its_node() {
        let users = vec![("ann".into(), true), ("bob".into(), false), ("ann".into(), false)];
        let seen = Seen { node: 0, shard: 2, users, ended: vec![TO, TO] };
        let sent = from_seen(seen.clone()).encode_to_vec();
        let heard = to_seen(7, v1::Seen::decode(&sent[..]).unwrap());
        let ended = vec![ConnectionId { node: 7, ..TO }; 2];
        assert_eq!(heard, Ok(Seen { node: 7, ended, ..seen }));
    }

    #[test]
    fn what_a_room_admitted_arrives_as_it_was() {
        let message =
            uproar_proto::v1::Message { seq: 9, user: "ann".into(), ..Default::default() };
        let room = RoomId::new("stage").unwrap();
        let of =
            uproar_proto::v1::Recalled { user: "bob".into(), up_to_seq: 8, ..Default::default() };
        let (messages, recalled, recalled_of) = (vec![message], vec![7], vec![of]);
        let lines = Lines { room, epoch: Epoch(u64::MAX), messages, recalled, recalled_of };
        let sent = from_lines(lines.clone()).encode_to_vec();
        assert_eq!(to_lines(v1::Lines::decode(&sent[..]).unwrap()), Ok(lines));
        assert!(to_lines(v1::Lines { room: "a b".into(), ..v1::Lines::default() }).is_err());
    }

    fn judged(judgement: Judgement) -> Tell {
        let room = RoomId::new("stage").unwrap();
        Tell::Judged { node: 0, room, epoch: Epoch(u64::MAX), number: 7, judgement }
    }

    #[test]
    fn what_a_room_asks_arrives_as_it_was_and_names_its_node() {
        let message = uproar_proto::v1::Message { user: "ann".into(), ..Default::default() };
        let (room, epoch) = (RoomId::new("stage").unwrap(), Epoch(u64::MAX));
        let question = Question { node: 0, room, epoch, number: 3, wait_ms: 500, message };
        let sent = from_question(question.clone()).encode_to_vec();
        let heard = to_question(12, v1::Question::decode(&sent[..]).unwrap());
        assert_eq!(heard, Ok(Question { node: 12, ..question }));
        assert!(to_question(1, v1::Question { room: "r".into(), ..Default::default() }).is_err());
    }

    #[test]
    fn a_report_arrives_with_its_address_and_from_its_node() {
        let from = ConnectionId { node: 9, shard: 1, conn: 2, serial: 255 };
        for (user, address) in [
            (None, None),
            (Some("ann".into()), Some("192.0.2.7".parse().unwrap())),
            (None, Some("2001:db8:1:2::".parse().unwrap())),
        ] {
            let reports = Bytes::from_static(b"unread");
            let report = Report { from, user, address, id: 7, reports };
            let sent = from_report(report.clone()).encode_to_vec();
            assert_eq!(to_report(9, v1::Report::decode(&sent[..]).unwrap()), Ok(report));
        }
        let from = Some(v1::Connection::default());
        let odd = v1::Report { from, address: Bytes::from_static(b"12345"), ..Default::default() };
        assert!(to_report(9, odd).is_err());
    }

    #[test]
    fn what_says_nothing_known_is_an_error_and_no_panic() {
        assert!(to_tell(v1::Tell { what: None }).is_err());
        assert!(to_ask(1, v1::Ask::default()).is_err());
        let open = ask::What::Open(v1::Open::default());
        assert!(to_ask(1, v1::Ask { what: Some(open), ..v1::Ask::default() }).is_err());
        let far = v1::Connection { shard: 70_000, ..v1::Connection::default() };
        assert!(connection_id(0, Some(far)).is_err());
        let resync = tell::What::Resync(v1::Resync { mcast: "room:x".into() });
        assert!(to_tell(v1::Tell { what: Some(resync) }).is_err());
        let close = v1::Close { of: Some(close::Of::User("a".into())), code: 9_999 };
        assert!(to_tell(v1::Tell { what: Some(tell::What::Close(close)) }).is_err());
        // Bytes of nobody in particular.
        let mut bytes = [0_u8; 64];
        for seed in 0..20_000_u64 {
            for (place, byte) in bytes.iter_mut().enumerate() {
                let mixed = (seed << 8 | place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                *byte = (mixed >> 40) as u8 & if seed % 2 == 0 { 0x2f } else { 0xff };
            }
            let length = (seed % 64) as usize;
            if let Ok(tell) = v1::Tell::decode(&bytes[..length]) {
                let _ = to_tell(tell);
            }
            if let Ok(ask) = v1::Ask::decode(&bytes[..length]) {
                let _ = to_ask(1, ask);
            }
        }
    }
}
