//! What the codec tests share: random frames of every kind, and the bytes of a stream fed in
//! pieces.
#![allow(dead_code, reason = "each test binary uses its part")]

use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use uproar_proto::error::Code;
use uproar_proto::v1::{self, client_frame, server_frame};
use uproar_proto::wire::{ClientDecoder, Decoder, Incoming, RawFrame, Variant, decode_server};

/// The bound the tests give to decoders where they do not test it.
pub(crate) const BYTES_MAX: usize = 64 * 1024;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        "[a-z0-9-]{1,12}",
        "\\PC{0,24}",
        // What JSON escapes, and what lies outside the first plane.
        Just("\"\\/\u{0}\n\u{2028}</script>\u{1f600}".to_owned()),
        Just("uproar ".repeat(40)),
    ]
}

fn data() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..3_u64, any::<u64>(), Just(u64::MAX)]
}

fn word(values: i32) -> impl Strategy<Value = i32> {
    prop_oneof![9 => 0..values, 1 => any::<i32>()]
}

fn join() -> impl Strategy<Value = v1::Join> {
    let cursor = (number(), number()).prop_map(|(epoch, seq)| v1::Cursor { epoch, seq });
    (text(), option::of(cursor)).prop_map(|(room, resume)| v1::Join { room, resume })
}

fn file() -> impl Strategy<Value = v1::File> {
    (text(), number(), data(), text(), text(), text()).prop_map(
        |(url, bytes, sha256, media_type, name, thumbnail_url)| v1::File {
            url,
            bytes,
            sha256,
            media_type,
            name,
            thumbnail_url,
        },
    )
}

fn send() -> impl Strategy<Value = v1::Send> {
    (text(), data(), word(6), text(), data(), option::of(file().prop_map(Box::new)), number())
        .prop_map(|(conversation, client_msg_id, kind, text, data, file, target_seq)| v1::Send {
            conversation,
            client_msg_id,
            kind,
            text,
            data,
            file,
            target_seq,
        })
}

fn react() -> impl Strategy<Value = v1::React> {
    (text(), number(), text(), any::<bool>()).prop_map(|(conversation, seq, reaction, remove)| {
        v1::React { conversation, seq, reaction, remove }
    })
}

fn range() -> impl Strategy<Value = v1::Range> {
    (text(), number(), number()).prop_map(|(conversation, from_seq, to_seq)| v1::Range {
        conversation,
        from_seq,
        to_seq,
    })
}

fn marked() -> impl Strategy<Value = v1::Marked> {
    (text(), number(), number()).prop_map(|(conversation, read_seq, delivered_seq)| v1::Marked {
        conversation,
        read_seq,
        delivered_seq,
    })
}

fn signal() -> impl Strategy<Value = v1::Signal> {
    (text(), text(), data(), text()).prop_map(|(conversation, name, data, user)| v1::Signal {
        conversation,
        name,
        data,
        user,
    })
}

fn reaction_count() -> impl Strategy<Value = v1::ReactionCount> {
    (text(), any::<u32>()).prop_map(|(reaction, count)| v1::ReactionCount { reaction, count })
}

fn relation() -> impl Strategy<Value = v1::RelationState> {
    (text(), any::<[bool; 5]>(), number()).prop_map(
        |(user, [friend, asked, asking, blocks, follows], changed_ms)| v1::RelationState {
            user,
            friend,
            asked,
            asking,
            blocks,
            follows,
            changed_ms,
        },
    )
}

fn settings() -> impl Strategy<Value = v1::Settings> {
    (any::<[bool; 2]>(), number()).prop_map(|([private_read, hide_last_seen], changed_ms)| {
        v1::Settings { private_read, hide_last_seen, changed_ms }
    })
}

fn stored() -> impl Strategy<Value = v1::Stored> {
    let notice = (text(), vec(text(), 0..3), any::<u32>(), text(), number()).prop_map(
        |(what, users, more, text, until_ms)| v1::Notice { what, users, more, text, until_ms },
    );
    let rest = (any::<bool>(), number(), proptest::option::of(notice));
    let beside = (number(), vec(reaction_count(), 0..3), vec(text(), 0..2), number());
    let message = (send(), number(), text(), number(), rest, beside).prop_map(
        |(send, seq, user, time_ms, (gone, edited_seq, notice), beside)| v1::StoredMessage {
            seq,
            user,
            time_ms,
            client_msg_id: send.client_msg_id,
            kind: send.kind,
            text: send.text,
            data: send.data,
            file: send.file,
            target_seq: send.target_seq,
            gone,
            edited_seq,
            notice: notice.map(Box::new),
            msg_id: beside.0,
            reactions: beside.1,
            own_reactions: beside.2,
            pinned_seq: beside.3,
        },
    );
    (text(), vec(message, 0..3))
        .prop_map(|(conversation, messages)| v1::Stored { conversation, messages })
}

fn state() -> impl Strategy<Value = v1::ConversationState> {
    let numbers = (number(), number(), number(), number(), number(), number(), number());
    let group = (text(), any::<u32>(), text(), any::<bool>(), number()).prop_map(
        |(name, members, role, muted_all, muted_until_ms)| v1::GroupState {
            name,
            members,
            role,
            muted_all,
            muted_until_ms,
        },
    );
    let kept = (any::<[bool; 2]>(), vec(number(), 0..3));
    (text(), numbers, kept, proptest::option::of(group)).prop_map(
        |(
            conversation,
            (head_seq, floor_seq, read_seq, unread, peer_read_seq, d, c),
            ([left, silent], pinned),
            group,
        )| {
            v1::ConversationState {
                pinned,
                silent,
                group: group.map(Box::new),
                conversation,
                head_seq,
                floor_seq,
                read_seq,
                unread,
                peer_read_seq,
                peer_delivered_seq: d,
                left,
                changed_ms: c,
            }
        },
    )
}

/// What is told of others: receipts, presence, reactions, relationships; and settings.
fn told_body() -> impl Strategy<Value = server_frame::Body> {
    use server_frame::Body;
    let reacted = (react(), any::<u32>(), any::<bool>()).prop_map(|(react, code, retry)| {
        Body::Reacted(v1::Reacted {
            conversation: react.conversation,
            seq: react.seq,
            reaction: react.reaction,
            remove: react.remove,
            code,
            retry,
            retry_after_ms: code / 2,
        })
    });
    prop_oneof![
        (text(), vec((number(), any::<u32>()), 0..3)).prop_map(|(conversation, counts)| {
            let counts = counts.into_iter();
            let counts = counts.map(|(seq, readers)| v1::ReadCount { seq, readers }).collect();
            Body::Receipts(v1::Receipts { conversation, counts })
        }),
        vec((text(), any::<bool>(), number()), 0..3).prop_map(|users| {
            let one =
                |(user, online, last_seen_ms)| v1::UserPresence { user, online, last_seen_ms };
            Body::Presence(v1::Presence { users: users.into_iter().map(one).collect() })
        }),
        reacted,
        vec(relation(), 0..3).prop_map(|users| Body::Relations(v1::Relations { users })),
        settings().prop_map(Body::Settings),
    ]
}

/// Any frame about stored conversations, from the server.
fn stored_body() -> impl Strategy<Value = server_frame::Body> {
    use server_frame::Body;
    let user_cursor = (text(), number(), number()).prop_map(|(user, read_seq, delivered_seq)| {
        v1::UserCursor { user, read_seq, delivered_seq }
    });
    let others = (vec(relation(), 0..3), option::of(settings()));
    prop_oneof![
        (send(), number(), [number(), number()], any::<u32>(), any::<bool>()).prop_map(
            |(send, seq, [generation, msg_id], code, retry)| {
                Body::Sent(v1::Sent {
                    conversation: send.conversation,
                    client_msg_id: send.client_msg_id,
                    seq,
                    time_ms: seq / 2,
                    generation,
                    code,
                    retry,
                    retry_after_ms: code / 2,
                    text: send.text,
                    msg_id,
                })
            }
        ),
        stored().prop_map(Body::Stored),
        (number(), text(), any::<bool>(), vec(state(), 0..3), others, number()).prop_map(
            |(generation, cursor, done, conversations, (relations, settings), anew_ms)| {
                Body::Synced(v1::Synced {
                    generation,
                    cursor,
                    done,
                    conversations,
                    relations,
                    settings,
                    relations_anew_ms: anew_ms,
                })
            }
        ),
        (any::<u32>(), vec(stored(), 0..3), vec(range(), 0..3))
            .prop_map(|(id, parts, rest)| Body::Pulled(v1::Pulled { id, parts, rest })),
        (any::<u32>(), number()).prop_map(|(spread_ms, generation)| {
            Body::Resync(v1::Resync { spread_ms, generation })
        }),
        (text(), vec(user_cursor, 0..3))
            .prop_map(|(conversation, users)| Body::Cursors(v1::Cursors { conversation, users })),
        signal().prop_map(Body::Signal),
        number().prop_map(|expires_ms| Body::Renewed(v1::Renewed { expires_ms })),
        any::<u32>().prop_map(|in_ms| Body::Expiring(v1::Expiring { in_ms })),
        // One of ten at most: of more the macro makes what a panic may not be caught across.
        told_body(),
    ]
}

/// Any frame about stored conversations, from a client.
fn conversation_body() -> impl Strategy<Value = client_frame::Body> {
    use client_frame::Body;
    prop_oneof![
        send().prop_map(Body::Send),
        (text(), any::<u32>()).prop_map(|(cursor, limit)| Body::Sync(v1::Sync { cursor, limit })),
        (any::<u32>(), vec(range(), 0..3))
            .prop_map(|(id, ranges)| Body::Pull(v1::Pull { id, ranges })),
        vec(marked(), 0..3).prop_map(|marks| Body::Mark(v1::Mark { marks })),
        signal().prop_map(Body::Signal),
        text().prop_map(|token| Body::Renew(v1::Renew { token })),
        vec(text(), 0..3).prop_map(|users| Body::Watch(v1::Watch { users })),
        react().prop_map(Body::React),
        (text(), any::<[u32; 2]>())
            .prop_map(|(room, [poll, option])| { Body::Vote(v1::Vote { room, poll, option }) }),
    ]
}

/// Any client frame.
pub(crate) fn client_body() -> impl Strategy<Value = client_frame::Body> {
    use client_frame::Body;
    let content = prop_oneof![
        text().prop_map(v1::publish::Content::Text),
        data().prop_map(v1::publish::Content::Data)
    ];
    prop_oneof![
        (text(), text(), vec(join(), 0..3), text(), any::<bool>()).prop_map(
            |(token, device, join, agent, inbox)| {
                Body::Connect(v1::Connect { token, device, join, agent, inbox })
            }
        ),
        conversation_body(),
        join().prop_map(Body::Join),
        text().prop_map(|room| Body::Leave(v1::Leave { room })),
        (text(), word(4), data(), any::<u32>(), text(), option::of(content)).prop_map(
            |(room, class, client_msg_id, count, gift, content)| {
                Body::Publish(v1::Publish { room, class, client_msg_id, count, gift, content })
            }
        ),
        (any::<u32>(), data()).prop_map(|(id, reports)| Body::Report(v1::Report { id, reports })),
        Just(Body::Ping(v1::Ping {})),
    ]
}

fn message() -> impl Strategy<Value = v1::Message> {
    let content = prop_oneof![
        text().prop_map(v1::message::Content::Text),
        data().prop_map(v1::message::Content::Data)
    ];
    let combo = (text(), [number(), number(), number()]).prop_map(|(gift, numbers)| {
        let [count, total, combo] = numbers;
        Box::new(v1::Combo { gift, count, total, combo })
    });
    let rest = (option::of(content), any::<bool>(), option::of(combo));
    (number(), word(4), text(), number(), data(), rest).prop_map(
        |(seq, class, user, time_ms, client_msg_id, (content, gone, combo))| v1::Message {
            seq,
            class,
            user,
            time_ms,
            client_msg_id,
            content,
            gone,
            combo,
        },
    )
}

fn poll() -> impl Strategy<Value = v1::Poll> {
    let counts = (vec(text(), 0..3), vec(number(), 0..3));
    (text(), any::<u32>(), text(), counts, number(), any::<bool>()).prop_map(
        |(room, poll, question, (options, votes), ends_ms, over)| v1::Poll {
            room,
            poll,
            question,
            options,
            ends_ms,
            votes,
            over,
        },
    )
}

/// What a room tells beside messages.
fn live_body() -> impl Strategy<Value = server_frame::Body> {
    use server_frame::Body;
    let set = btree_map(text(), text(), 0..3);
    let versions = [number(), number()];
    prop_oneof![
        (text(), number(), vec(number(), 0..4), text(), number()).prop_map(
            |(room, epoch, seqs, user, up_to_seq)| {
                Body::Recalled(v1::Recalled { room, epoch, seqs, user, up_to_seq })
            }
        ),
        (text(), number(), versions, set, vec(text(), 0..3), any::<bool>()).prop_map(
            |(room, epoch, [version, from_version], set, removed, whole)| {
                let change =
                    v1::Attributes { room, epoch, version, from_version, set, removed, whole };
                Body::Attributes(change)
            }
        ),
        (text(), number(), option::of(message())).prop_map(|(room, epoch, message)| {
            let message = message.map(Box::new);
            Body::Pinned(v1::Pinned { room, epoch, message })
        }),
        poll().prop_map(Body::Poll),
        (text(), number(), vec(message(), 0..3))
            .prop_map(|(room, epoch, messages)| { Body::Held(v1::Held { room, epoch, messages }) }),
        (text(), number(), vec(text(), 0..3), any::<u32>()).prop_map(
            |(room, epoch, users, more)| Body::Entered(v1::Entered { room, epoch, users, more })
        ),
        message().prop_map(|message| {
            Body::Announced(v1::Announced { message: Some(Box::new(message)) })
        }),
        (any::<[u32; 5]>(), text()).prop_map(|([id, taken, repeated, next_ms, code], text)| {
            Body::Reported(v1::Reported { id, taken, repeated, next_ms, code, text })
        }),
        (text(), any::<[u32; 4]>()).prop_map(|(room, [poll, option, code, retry_after_ms])| {
            Body::Voted(v1::Voted { room, poll, option, code, retry_after_ms })
        }),
    ]
}

fn verdict() -> impl Strategy<Value = v1::Verdict> {
    (data(), word(5), number(), any::<u32>(), any::<u32>(), text()).prop_map(
        |(client_msg_id, outcome, seq, code, retry_after_ms, text)| v1::Verdict {
            client_msg_id,
            outcome,
            seq,
            code,
            retry_after_ms,
            text,
        },
    )
}

fn joined() -> impl Strategy<Value = v1::Joined> {
    let ids = (text(), number(), number());
    let held = (vec(message(), 0..4), btree_map(text(), text(), 0..3));
    let modes = (any::<u32>(), option::of(any::<u32>()));
    let counts = (number(), number(), any::<bool>(), modes);
    let live = (number(), vec(number(), 0..3), option::of(message()), vec(poll(), 0..2));
    (ids, held, counts, live).prop_map(
        |((room, epoch, seq), (messages, attributes), counts, live)| {
            let (viewers, likes, resumed, (slow_mode_s, followers_only_s)) = counts;
            let (attributes_version, recalled, pinned, polls) = live;
            let pinned = pinned.map(Box::new);
            v1::Joined {
                room,
                epoch,
                seq,
                messages,
                attributes,
                viewers,
                likes,
                resumed,
                slow_mode_s,
                followers_only_s,
                attributes_version,
                recalled,
                pinned,
                polls,
            }
        },
    )
}

/// Any server frame.
pub(crate) fn server_body() -> impl Strategy<Value = server_frame::Body> {
    use server_frame::Body;
    let times = (number(), number(), any::<[u32; 3]>());
    let welcome = (text(), text(), any::<bool>(), times).prop_map(
        |(session, user, guest, (server_time_ms, generation, numbers))| {
            let [ping_every_s, payload_bytes_max, rooms_max] = numbers;
            Body::Welcome(v1::Welcome {
                generation,
                session,
                user,
                guest,
                ping_every_s,
                server_time_ms,
                payload_bytes_max,
                rooms_max,
            })
        },
    );
    let gap = (text(), number(), number(), number(), word(4)).prop_map(
        |(room, epoch, from_seq, to_seq, reason)| {
            Body::Gap(v1::Gap { room, epoch, from_seq, to_seq, reason })
        },
    );
    let error = (any::<u32>(), text(), text(), any::<bool>(), any::<u32>(), text(), data())
        .prop_map(|(code, name, text, retry, retry_after_ms, room, client_msg_id)| {
            Body::Error(v1::Error { code, name, text, retry, retry_after_ms, room, client_msg_id })
        });
    prop_oneof![
        welcome,
        joined().prop_map(Body::Joined),
        (text(), number(), vec(message(), 0..4)).prop_map(|(room, epoch, messages)| {
            Body::Batch(v1::Batch { room, epoch, messages })
        }),
        (text(), vec(verdict(), 0..3))
            .prop_map(|(room, verdicts)| Body::Verdicts(v1::Verdicts { room, verdicts })),
        gap,
        (text(), option::of(number()), option::of(number()))
            .prop_map(|(room, viewers, likes)| { Body::Count(v1::Count { room, viewers, likes }) }),
        error,
        (any::<u32>(), text())
            .prop_map(|(spread_ms, to)| Body::Reconnect(v1::Reconnect { spread_ms, to })),
        prop_oneof![Just(Body::Pong(v1::Pong {})), stored_body(), live_body()],
        (text(), any::<u32>()).prop_map(|(room, code)| Body::Left(v1::Left { room, code })),
    ]
}

/// What a server makes of a client's bytes that come in these pieces. Between two pieces it holds
/// no more than it says.
pub(crate) fn received(
    variant: Variant,
    bytes_max: usize,
    pieces: &[&[u8]],
) -> Result<Vec<Incoming>, Code> {
    let mut decoder = Decoder::new(variant, bytes_max);
    let mut all = Vec::new();
    for piece in pieces {
        if decoder.is_idle() {
            decoder = Decoder::new(variant, bytes_max); // a server keeps none between frames
        }
        decoder.feed(piece);
        while let Some(incoming) = decoder.next()? {
            all.push(incoming);
        }
        assert!(decoder.bytes_used() <= bytes_max + 28, "{} bytes held", decoder.bytes_used());
    }
    Ok(all)
}

/// As [`received`], with one decoder throughout: what an ended one makes of what follows.
pub(crate) fn received_by_one(
    variant: Variant,
    bytes_max: usize,
    pieces: &[&[u8]],
) -> Result<Vec<Incoming>, Code> {
    let mut decoder = Decoder::new(variant, bytes_max);
    let mut all = Vec::new();
    for piece in pieces {
        decoder.feed(piece);
        while let Some(incoming) = decoder.next()? {
            all.push(incoming);
        }
    }
    Ok(all)
}

/// One thing a server sent, owned and decoded.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Sent {
    /// A frame; `None` for a kind this version does not know.
    Frame(Option<Box<server_frame::Body>>),
    /// A ping.
    Ping(Vec<u8>),
    /// A pong.
    Pong,
    /// A close.
    Close(Option<u16>),
}

/// What a client makes of a server's bytes that come in these pieces.
pub(crate) fn sent(
    variant: Variant,
    bytes_max: usize,
    pieces: &[&[u8]],
) -> Result<Vec<Sent>, Code> {
    let mut decoder = ClientDecoder::new(variant, bytes_max);
    let mut all = Vec::new();
    for piece in pieces {
        decoder.feed(piece);
        while let Some(frame) = decoder.next_raw()? {
            all.push(match frame {
                RawFrame::Message { payload, compressed } => {
                    let body = decode_server(variant, payload, compressed, bytes_max)?;
                    Sent::Frame(body.map(Box::new))
                }
                RawFrame::Ping(payload) => Sent::Ping(payload.to_vec()),
                RawFrame::Pong => Sent::Pong,
                RawFrame::Close { code } => Sent::Close(code),
            });
        }
        assert!(decoder.bytes_used() <= bytes_max + 28, "{} bytes held", decoder.bytes_used());
    }
    Ok(all)
}

/// Runs `check` on the bytes whole, byte by byte, and cut in two at every point.
pub(crate) fn at_every_split(bytes: &[u8], mut check: impl FnMut(&[&[u8]])) {
    check(&[bytes]);
    check(&bytes.chunks(1).collect::<Vec<_>>());
    for at in 1..bytes.len() {
        let (left, right) = bytes.split_at(at);
        check(&[left, right]);
    }
}
