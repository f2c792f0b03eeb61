//! What the clients of a world do: connect in every wire variant, sign in, join, speak, blunder,
//! leave, freeze, vanish, come back.

use super::World;
use super::client::{Client, NONCE};
use super::plan::SECRET;
use crate::hash::mix;
use crate::seam::Tick;
use bytes::Bytes;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use std::collections::BTreeMap;
use uproar_proto::control::Content;
use uproar_proto::token::Claims;
use uproar_proto::v1::{self, Class, client_frame::Body};
use uproar_proto::wire::{Variant, encode_client, upgrade_request};

/// Text that JSON must escape and UTF-8 writes in one to four bytes.
const TEXT: &str = "a\"\\\n\u{1}\u{e9}\u{20ac}\u{1f600}</script>";
/// Breaks of a connection: reset, timed out, broken pipe.
const ERRNOS: [i32; 3] = [104, 110, 32];

/// Somebody who can sign in.
pub(crate) struct Account {
    pub(crate) user: String,
    token: String,
}

/// Three accounts: who may everything, who moderates, and who may enter only one room, for a
/// short time.
pub(crate) fn accounts(unix_ms: u64) -> Vec<Account> {
    let all = ["chat", "like", "gift", "system"].map(String::from).to_vec();
    let until = unix_ms / 1000 + 3_000;
    let host = Claims { sub: "host".into(), exp: until, publish: Some(all), ..Claims::default() };
    let judge = Claims { sub: "judge".into(), exp: until, moderate: true, ..Claims::default() };
    let rooms = Some(vec!["a".into(), "room*".into()]);
    let exp = unix_ms / 1000 + 3;
    let visitor = Claims { sub: "visitor".into(), exp, rooms, ..Claims::default() };
    let key = EncodingKey::from_base64_secret(SECRET).expect("the secret is base64");
    let account = |claims: Claims| Account {
        token: encode(&Header::new(Algorithm::HS256), &claims, &key).expect("claims are JSON"),
        user: claims.sub,
    };
    [host, judge, visitor].map(account).into()
}

/// A new client connects to a shard, and does not wait for the answer to its opening.
pub(crate) fn connect(
    world: &mut World,
    shard: usize,
    variant: Variant,
    account: Option<usize>,
    joins: Vec<v1::Join>,
) -> usize {
    let (least, most) = world.plan.buffer_bytes;
    let buffer_bytes = least + world.rng.below(most - least + 1);
    let end = world.net.connect(shard, buffer_bytes as usize);
    let opening = match variant {
        Variant::Tcp => b"UPR1".to_vec(),
        _ => {
            let name = if variant.is_json() { "uproar.v1.json" } else { "uproar.v1.proto" };
            upgrade_request("h", "/", Some(name), variant.is_deflated(), NONCE)
        }
    };
    world.net.send(end, &opening);
    let mut client = Client::new(end, variant, world.now.tick);
    client.account = account;
    for join in &joins {
        client.asked.insert(join.room.clone(), join.resume);
    }
    client.told_as = world.told.then_some(world.clients.len());
    world.clients.push(client);
    let token = account.map_or(String::new(), |a| world.accounts[a].token.clone());
    let number = world.clients.len() - 1;
    let (device, agent) = (format!("d{}", number % 7), "sim".into());
    let connect = v1::Connect { token, join: joins, device, agent, inbox: false };
    say(world, number, &Body::Connect(connect));
    number
}

/// A signed-in client connects and asks for its inbox.
#[cfg(test)]
pub(crate) fn connect_to_inbox(world: &mut World, shard: usize, account: Option<usize>) -> usize {
    let end = world.net.connect(shard, world.plan.buffer_bytes.1 as usize);
    world.net.send(end, b"UPR1");
    let mut client = Client::new(end, Variant::Tcp, world.now.tick);
    client.has_inbox = true;
    world.clients.push(client);
    let number = world.clients.len() - 1;
    let token = account.map_or(String::new(), |a| world.accounts[a].token.clone());
    say(world, number, &Body::Connect(v1::Connect { token, inbox: true, ..Default::default() }));
    number
}

/// An account whose token was minted by a login; its number.
#[cfg(test)]
pub(crate) fn logged_in(world: &mut World, user: &str, login: &str) -> usize {
    let exp = world.now.unix_ms / 1000 + 3_000;
    let claims = Claims { sub: user.into(), exp, sid: Some(login.into()), ..Claims::default() };
    let key = EncodingKey::from_base64_secret(SECRET).expect("the secret is base64");
    let token = encode(&Header::new(Algorithm::HS256), &claims, &key).expect("claims are JSON");
    world.accounts.push(Account { user: user.into(), token });
    world.accounts.len() - 1
}

/// A client goes on with the token of another account of its user.
#[cfg(test)]
pub(crate) fn renew(world: &mut World, number: usize, account: usize) {
    let token = world.accounts[account].token.clone();
    say(world, number, &Body::Renew(v1::Renew { token }));
}

/// A client sends a frame.
pub(crate) fn say(world: &mut World, number: usize, body: &Body) {
    let client = &world.clients[number];
    if world.told {
        println!("{:18} client {number} says {body:?}", "");
    }
    let mut bytes = Vec::new();
    encode_client(body, client.variant, [1, 2, 3, 4], &mut bytes);
    world.net.send(client.end, &bytes);
}

/// A client asks for a room, going on where it was if it was there before.
pub(crate) fn join(world: &mut World, number: usize, room: &str, resume: Option<v1::Cursor>) {
    let client = &mut world.clients[number];
    if client.streams.contains_key(room) || client.asked.contains_key(room) {
        return;
    }
    client.asked.insert(room.to_owned(), resume);
    say(world, number, &Body::Join(v1::Join { room: room.to_owned(), resume }));
}

/// A client leaves a room it is in.
pub(crate) fn leave(world: &mut World, number: usize, room: &str) {
    let client = &mut world.clients[number];
    if client.streams.contains_key(room) {
        client.leaving += 1;
        say(world, number, &Body::Leave(v1::Leave { room: room.to_owned() }));
    }
}

/// A client says something with an id that no other message has, and remembers that it waits for
/// a verdict; the id.
pub(crate) fn publish(
    world: &mut World,
    number: usize,
    room: &str,
    class: Class,
    content: Content,
) -> Vec<u8> {
    let id = world.fresh_id();
    let gift = gift_of(&id, class);
    world.ledger.publish(&id, room, class, content.clone());
    world.clients[number].unanswered.insert(id.clone(), room.to_owned());
    let content = match content {
        Content::Text(text) => {
            let text = String::from_utf8(text.to_vec()).expect("text is UTF-8");
            v1::publish::Content::Text(text)
        }
        Content::Data(data) => v1::publish::Content::Data(data),
    };
    let publish = v1::Publish {
        room: room.to_owned(),
        class: class.into(),
        client_msg_id: Bytes::from(id.clone()),
        content: Some(content),
        gift: gift.map_or(String::new(), |(name, _)| name.into()),
        count: gift.map_or(0, |(_, count)| count),
    };
    say(world, number, &Body::Publish(publish));
    id
}

/// The name that a gift has, and how many of it there are: half of them have none.
pub(crate) fn gift_of(id: &[u8], class: Class) -> Option<(&'static str, u32)> {
    let name = ["rose", "car"][usize::from(id[1] & 1)];
    (class == Class::Gift && id[0] & 1 == 0).then_some((name, 1 + u32::from(id[2] & 3)))
}

/// A client likes.
pub(crate) fn like(world: &mut World, number: usize, room: &str, count: u32) {
    let publish = v1::Publish {
        room: room.to_owned(),
        class: Class::Like.into(),
        count,
        ..v1::Publish::default()
    };
    world.clients[number].likes_said += 1;
    say(world, number, &Body::Publish(publish));
}

/// Content of any size a room may take, now and then more.
pub(crate) fn content(world: &mut World) -> Content {
    let most = u64::from(world.plan.config.rooms.defaults.payload_bytes_max);
    let over = if world.rng.below(40) == 0 { 2 } else { 1 };
    let length = 1 + (world.rng.below(most * over) >> world.rng.below(6)) as usize;
    if world.rng.below(2) == 0 {
        let mut text = TEXT.repeat(length / TEXT.len() + 1);
        text.truncate(text.floor_char_boundary(length.max(1)));
        return Content::Text(Bytes::from(text));
    }
    let seed = world.rng.next_u64();
    Content::Data((0..length).map(|i| mix(seed ^ i as u64) as u8).collect())
}

/// A client closes (`errno` 0) or breaks.
pub(crate) fn break_off(world: &mut World, number: usize, errno: i32) {
    let client = &mut world.clients[number];
    if client.open {
        client.open = false;
        world.net.end(client.end, errno, false);
    }
}

fn some_room(world: &mut World) -> String {
    let rooms = world.plan.rooms.len() as u64;
    world.plan.rooms[world.rng.below(rooms) as usize].clone()
}

/// Somebody new, with joins in the connect or after it, perhaps signed in.
fn arrive(world: &mut World) {
    if world.clients.len() >= world.plan.clients_max {
        return;
    }
    let shard = world.rng.below(world.nodes.len() as u64) as usize;
    let variant = Variant::ALL[world.rng.below(Variant::ALL.len() as u64) as usize];
    let pick = world.rng.below(2 * world.accounts.len() as u64) as usize;
    let account = (pick < world.accounts.len()).then_some(pick);
    let room = some_room(world);
    let rooms = match world.rng.below(4) {
        0 | 1 => Vec::new(),
        2 => vec![room.clone()],
        _ => world.plan.rooms.clone(),
    };
    let joins = rooms.into_iter().map(|room| v1::Join { room, resume: None }).collect();
    let number = connect(world, shard, variant, account, joins);
    join(world, number, &room, None);
}

/// Somebody whose connection has ended comes back, on any shard, with its cursors.
fn come_back(world: &mut World) {
    let gone = |c: &Client| !c.open && !c.cursors().is_empty();
    let Some(number) = world.clients.iter().position(gone) else { return };
    let cursors = world.clients[number].cursors();
    (world.clients[number].remembered, world.clients[number].streams) = Default::default();
    let shard = world.rng.below(world.nodes.len() as u64) as usize;
    let variant = Variant::ALL[world.rng.below(Variant::ALL.len() as u64) as usize];
    let joins = cursors.into_iter().map(|(room, c)| v1::Join { room, resume: Some(c) });
    connect(world, shard, variant, None, joins.collect());
}

/// Something that no proper client does.
fn blunder(world: &mut World, number: usize) {
    let room = some_room(world);
    match world.rng.below(6) {
        0 => {
            world.clients[number].rude = true;
            say(world, number, &Body::Connect(v1::Connect::default()));
        }
        1 => {
            // A room nobody may name.
            let bad = "no room".to_owned();
            if world.clients[number].asked.insert(bad.clone(), None).is_none() {
                say(world, number, &Body::Join(v1::Join { room: bad, resume: None }));
            }
        }
        2 => {
            let outside = !world.clients[number].streams.contains_key(&room)
                && !world.clients[number].asked.contains_key(&room);
            if outside {
                world.clients[number].leaving += 1;
                say(world, number, &Body::Leave(v1::Leave { room }));
            }
        }
        3 => {
            // A cursor from the future, or of another world.
            let epoch = world.clients[number].streams.get(&room).map_or(5, |s| s.epoch);
            if world.rng.below(2) == 0 {
                let resume = Some(v1::Cursor { epoch, seq: 1 << 40 });
                world.clients[number].rude = true;
                join(world, number, &room, resume);
            } else {
                join(world, number, &room, Some(v1::Cursor { epoch: 5, seq: 3 }));
            }
        }
        4 => {
            // Many questions, and no ear for the answers.
            let until = world.now.tick.after_ms(world.rng.below(4_000));
            (world.clients[number].deaf_until, world.clients[number].slow) = (until, true);
            for _ in 0..world.rng.below(400) {
                world.clients[number].leaving += 1;
                say(world, number, &Body::Leave(v1::Leave { room: "outside".into() }));
            }
        }
        _ => {
            world.clients[number].rude = true;
            let junk = (0..world.rng.below(60)).map(|_| world.rng.next_u64() as u8);
            let junk: Vec<u8> = junk.collect();
            let end = world.clients[number].end;
            world.net.send(end, &junk);
        }
    }
}

/// A fault of a client's own strikes it; true where one did.
fn suffers(world: &mut World, number: usize) -> bool {
    let faults = world.net.faults;
    let mut strikes = |thousandths| world.rng.below(1000) < thousandths;
    if strikes(faults.reset) {
        let errno = ERRNOS[world.rng.below(3) as usize];
        break_off(world, number, errno);
    } else if strikes(faults.half_close) {
        let end = world.clients[number].end;
        world.net.end(end, 0, true);
        // It may no longer speak, so nothing is promised to what it says.
        world.clients[number].rude = true;
    } else if strikes(faults.vanish) {
        world.clients[number].vanished = true;
    } else if strikes(faults.freeze) {
        let until = world.now.tick.after_ms(world.rng.below(4_000));
        (world.clients[number].frozen_until, world.clients[number].slow) = (until, true);
    } else if strikes(faults.garbage) {
        blunder(world, number);
    } else {
        return false;
    }
    true
}

/// Some client does something.
pub(crate) fn act(world: &mut World) {
    let h = world.plan.habits;
    let choices =
        [h.connect, h.burst, h.come_back, h.join, h.leave, h.publish, h.like, h.ping, h.hang_up];
    let mut pick = world.rng.below(choices.iter().sum::<u64>() + h.blunder);
    let mut choice = 0;
    while choice < choices.len() && pick >= choices[choice] {
        pick -= choices[choice];
        choice += 1;
    }
    match choice {
        0 => return arrive(world),
        1 => return (0..2 + world.rng.below(10)).for_each(|_| arrive(world)),
        2 => return come_back(world),
        _ => {}
    }
    let now = world.now.tick;
    let awake = |c: &Client| c.open && !c.vanished && c.frozen_until <= now;
    let awake: Vec<usize> =
        (0..world.clients.len()).filter(|c| awake(&world.clients[*c])).collect();
    if awake.is_empty() {
        return arrive(world);
    }
    let number = awake[world.rng.below(awake.len() as u64) as usize];
    if suffers(world, number) {
        return;
    }
    let room = some_room(world);
    let inside = world.clients[number].streams.contains_key(&room);
    match choice {
        3 => {
            let resume = world.clients[number].remembered.get(&room).copied();
            join(world, number, &room, resume);
        }
        4 => leave(world, number, &room),
        5 if inside => {
            let class = [Class::Chat, Class::Chat, Class::Gift, Class::System];
            let class = class[world.rng.below(4) as usize];
            let content = content(world);
            publish(world, number, &room, class, content);
        }
        6 if inside => {
            let count = world.rng.below(5) as u32;
            like(world, number, &room, count);
        }
        7 => say(world, number, &Body::Ping(v1::Ping {})),
        8 => break_off(world, number, 0),
        9 => blunder(world, number),
        _ => {}
    }
}

/// Every client that is awake reads what is there, keeps its heartbeat, and closes when the
/// server has.
pub(crate) fn read_all(world: &mut World) {
    for number in 0..world.clients.len() {
        let client = &world.clients[number];
        if !client.open || client.vanished || client.frozen_until > world.now.tick {
            continue;
        }
        let end = client.end;
        let mut bytes_max = usize::MAX;
        if client.deaf_until > world.now.tick {
            heartbeat(world, number);
            continue;
        }
        if world.rng.below(1000) < world.net.faults.read_partial {
            bytes_max = world.rng.below(2_000) as usize;
            world.clients[number].slow = true;
        }
        match world.net.read(end, bytes_max) {
            Some(bytes) => {
                for byte in &bytes {
                    world.trace = mix(world.trace ^ u64::from(*byte));
                }
                let client = &mut world.clients[number];
                let broken = client.read(&bytes, world.now.unix_ms, &mut world.ledger);
                // Who broke the rules may be answered in another variant, or not at all.
                if let (Err(broken), false) = (broken, client.rude) {
                    panic!("client {number} ({:?}): {broken}", client.variant);
                }
            }
            // The server has closed; the client closes too.
            None => break_off(world, number, 0),
        }
        heartbeat(world, number);
    }
}

/// Pings a little before it is due.
fn heartbeat(world: &mut World, number: usize) {
    let client = &mut world.clients[number];
    let every_us = u64::from(client.ping_every_s) * 800_000;
    if client.open && every_us > 0 && world.now.tick.since_us(client.pinged) >= every_us {
        client.pinged = world.now.tick;
        say(world, number, &Body::Ping(v1::Ping {}));
    }
}

/// When some client wants to ping.
pub(crate) fn next_ping(world: &World) -> Tick {
    let due = |c: &Client| {
        let every_ms = u64::from(c.ping_every_s) * 800;
        if c.open && !c.vanished && every_ms > 0 {
            c.pinged.after_ms(every_ms)
        } else {
            Tick::NEVER
        }
    };
    world.clients.iter().map(due).min().unwrap_or(Tick::NEVER)
}

/// Members of each room by what those know who are still there.
pub(crate) fn members(world: &World) -> BTreeMap<String, u64> {
    let mut members = BTreeMap::new();
    for client in world.clients.iter().filter(|c| c.is_sound()) {
        for room in client.streams.keys() {
            *members.entry(room.clone()).or_default() += 1;
        }
    }
    members
}
