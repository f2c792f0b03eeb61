//! The JSON form of frames: what `build.rs` puts on the generated types refers here.
//!
//! Owns the forms that differ from the Rust types: epochs as 16 hexadecimal digits, bytes as
//! base64, enums as lower-case words, content as one of two keys, a frame as an object with the
//! one key that names its kind. Never looks at a WebSocket.

use crate::error::Code;
use crate::v1::{self, client_frame, server_frame};
use bytes::Bytes;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::marker::PhantomData;

/// For `skip_serializing_if` (W-20).
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A frame's body as JSON, appended.
pub(crate) fn write<B: Serialize>(body: &B, out: &mut Vec<u8>) {
    serde_json::to_writer(out, body)
        .expect("frames have string keys only, and a Vec takes every byte");
}

/// An object. Derived readers would take an array of the fields in order as well: that order is
/// no part of the protocol.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Object<T>, D::Error> {
        struct OnlyObject<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for OnlyObject<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        d.deserialize_map(OnlyObject(PhantomData)).map(Object)
    }
}

/// A frame's value: there and `null` is malformed, unlike absent.
fn kind<'de, D: Deserializer<'de>, T: Deserialize<'de>>(d: D) -> Result<Option<T>, D::Error> {
    Object::deserialize(d).map(|object| Some(object.0))
}

/// A list of messages.
pub(crate) fn objects<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    d: D,
) -> Result<Vec<T>, D::Error> {
    let objects = Vec::<Object<T>>::deserialize(d)?;
    Ok(objects.into_iter().map(|object| object.0).collect())
}

/// A message or `null`.
pub(crate) fn object_or_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    d: D,
) -> Result<Option<T>, D::Error> {
    Ok(Option::<Object<T>>::deserialize(d)?.map(|object| object.0))
}

/// A key that is there but `null` is malformed, unlike one that is absent.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(d: D) -> Result<Option<T>, D::Error> {
    T::deserialize(d).map(Some)
}

macro_rules! frame_reader {
    ($read:ident, $body:ty, $frame:ident { $($key:ident: $variant:ident($message:ty),)* }) => {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct $frame {
            $(#[serde(deserialize_with = "kind")] $key: Option<$message>,)*
        }

        /// Reads one frame: `None` where it has no kind this version knows.
        ///
        /// # Errors
        /// `BadFrame` for anything that is not JSON, has a value of the wrong type, or names two
        /// kinds at once.
        pub(crate) fn $read(text: &str) -> Result<Option<$body>, Code> {
            let Object::<$frame>(frame) =
                serde_json::from_str(text).map_err(|_| Code::BadFrame)?;
            let mut body = None;
            $(if let Some(message) = frame.$key
                && body.replace(<$body>::$variant(message)).is_some()
            {
                return Err(Code::BadFrame); // W-13
            })*
            Ok(body)
        }
    };
}

frame_reader!(
    read_client,
    client_frame::Body,
    ClientFrameIn {
        connect: Connect(v1::Connect),
        join: Join(v1::Join),
        leave: Leave(v1::Leave),
        publish: Publish(v1::Publish),
        ping: Ping(v1::Ping),
        send: Send(v1::Send),
        sync: Sync(v1::Sync),
        pull: Pull(v1::Pull),
        mark: Mark(v1::Mark),
        signal: Signal(v1::Signal),
        renew: Renew(v1::Renew),
        watch: Watch(v1::Watch),
        react: React(v1::React),
        vote: Vote(v1::Vote),
        report: Report(v1::Report),
    }
);

frame_reader!(
    read_server,
    server_frame::Body,
    ServerFrameIn {
        welcome: Welcome(v1::Welcome),
        joined: Joined(v1::Joined),
        batch: Batch(v1::Batch),
        verdicts: Verdicts(v1::Verdicts),
        gap: Gap(v1::Gap),
        count: Count(v1::Count),
        error: Error(v1::Error),
        reconnect: Reconnect(v1::Reconnect),
        pong: Pong(v1::Pong),
        left: Left(v1::Left),
        sent: Sent(v1::Sent),
        stored: Stored(v1::Stored),
        synced: Synced(v1::Synced),
        pulled: Pulled(v1::Pulled),
        resync: Resync(v1::Resync),
        cursors: Cursors(v1::Cursors),
        signal: Signal(v1::Signal),
        renewed: Renewed(v1::Renewed),
        expiring: Expiring(v1::Expiring),
        receipts: Receipts(v1::Receipts),
        presence: Presence(v1::Presence),
        reacted: Reacted(v1::Reacted),
        relations: Relations(v1::Relations),
        settings: Settings(v1::Settings),
        recalled: Recalled(v1::Recalled),
        attributes: Attributes(v1::Attributes),
        pinned: Pinned(v1::Pinned),
        poll: Poll(v1::Poll),
        voted: Voted(v1::Voted),
        held: Held(v1::Held),
        entered: Entered(v1::Entered),
        announced: Announced(v1::Announced),
        reported: Reported(v1::Reported),
    }
);

/// W-14. Epochs: 16 hexadecimal digits, since a JSON number holds 53 bits in most readers.
pub(crate) mod epoch {
    use super::{Deserialize, Deserializer};
    use serde::{Serializer, de::Error as _};
    use std::borrow::Cow;

    pub(crate) fn serialize<S: Serializer>(epoch: &u64, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&format_args!("{epoch:016x}"))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
        let text = Cow::<str>::deserialize(d)?;
        let hex = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        if !hex {
            return Err(D::Error::custom("an epoch is 16 hexadecimal digits"));
        }
        u64::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}

/// W-15. Bytes: standard base64, written with padding, read with or without.
pub(crate) mod base64 {
    use super::{Bytes, Deserialize, Deserializer};
    use base64::Engine as _;
    use base64::alphabet::STANDARD;
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
    use serde::{Serializer, de::Error as _};
    use std::borrow::Cow;

    const ENGINE: GeneralPurpose = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );

    pub(crate) fn serialize<S: Serializer>(bytes: &Bytes, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&ENGINE.encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Bytes, D::Error> {
        let text = Cow::<str>::deserialize(d)?;
        ENGINE.decode(text.as_bytes()).map(Bytes::from).map_err(D::Error::custom)
    }
}

macro_rules! words {
    ($module:ident, $enum:ty, $($word:literal = $variant:ident),*) => {
        /// W-19. An enum as a lower-case word. A number stands for a value without a word, in both
        /// directions; a word this version does not know reads as -1, which is no value of the
        /// enum, as an unknown number is none in protobuf.
        pub(crate) mod $module {
            use serde::{Deserializer, Serializer, de::Visitor};
            use std::fmt;

            pub(crate) fn serialize<S: Serializer>(value: &i32, s: S) -> Result<S::Ok, S::Error> {
                match <$enum>::try_from(*value) {
                    $(Ok(<$enum>::$variant) => s.serialize_str($word),)*
                    Err(_) => s.serialize_i32(*value),
                }
            }

            struct Word;

            impl Visitor<'_> for Word {
                type Value = i32;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str(concat!("one of", $(" ", $word),*))
                }

                fn visit_str<E>(self, word: &str) -> Result<i32, E> {
                    Ok(match word {
                        $($word => <$enum>::$variant as i32,)*
                        _ => -1,
                    })
                }

                fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<i32, E> {
                    i32::try_from(number).map_err(E::custom)
                }

                fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<i32, E> {
                    i32::try_from(number).map_err(E::custom)
                }
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<i32, D::Error> {
                d.deserialize_any(Word)
            }
        }
    };
}

words!(class, crate::v1::Class, "chat" = Chat, "system" = System, "gift" = Gift, "like" = Like);
words!(
    outcome,
    crate::v1::Outcome,
    "accepted" = Accepted,
    "merged" = Merged,
    "shed" = Shed,
    "refused" = Refused,
    "expired" = Expired
);
words!(
    reason,
    crate::v1::GapReason,
    "slow" = Slow,
    "history" = History,
    "epoch" = Epoch,
    "lost" = Lost
);

words!(
    kind_word,
    crate::v1::Kind,
    "message" = Message,
    "recall" = Recall,
    "edit" = Edit,
    "pin" = Pin,
    "unpin" = Unpin,
    "notice" = Notice,
    "reactions" = Reactions
);

/// Base64 that may be absent, for the two keys of content.
fn some_base64<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Bytes>, D::Error> {
    base64::deserialize(d).map(Some)
}

// W-18
const TWO_CONTENTS: &str = "a message has text or data, not both";

/// `Publish` as it is read: content is one of two keys.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct PublishIn {
    room: String,
    #[serde(with = "class")]
    class: i32,
    #[serde(with = "base64")]
    client_msg_id: Bytes,
    #[serde(deserialize_with = "present")]
    text: Option<String>,
    #[serde(deserialize_with = "some_base64")]
    data: Option<Bytes>,
    count: u32,
    gift: String,
}

impl TryFrom<PublishIn> for v1::Publish {
    type Error = &'static str;

    fn try_from(p: PublishIn) -> Result<v1::Publish, &'static str> {
        let content = match (p.text, p.data) {
            (None, None) => None,
            (Some(text), None) => Some(v1::publish::Content::Text(text)),
            (None, Some(data)) => Some(v1::publish::Content::Data(data)),
            (Some(_), Some(_)) => return Err(TWO_CONTENTS),
        };
        Ok(v1::Publish {
            room: p.room,
            class: p.class,
            client_msg_id: p.client_msg_id,
            count: p.count,
            gift: p.gift,
            content,
        })
    }
}

/// `Message` as it is read: content is one of two keys.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct MessageIn {
    seq: u64,
    #[serde(with = "class")]
    class: i32,
    user: String,
    time_ms: u64,
    #[serde(deserialize_with = "present")]
    text: Option<String>,
    #[serde(deserialize_with = "some_base64")]
    data: Option<Bytes>,
    #[serde(with = "base64")]
    client_msg_id: Bytes,
    gone: bool,
    #[serde(deserialize_with = "object_or_null")]
    combo: Option<v1::Combo>,
}

impl TryFrom<MessageIn> for v1::Message {
    type Error = &'static str;

    fn try_from(m: MessageIn) -> Result<v1::Message, &'static str> {
        let content = match (m.text, m.data) {
            (None, None) => None,
            (Some(text), None) => Some(v1::message::Content::Text(text)),
            (None, Some(data)) => Some(v1::message::Content::Data(data)),
            (Some(_), Some(_)) => return Err(TWO_CONTENTS),
        };
        Ok(v1::Message {
            seq: m.seq,
            class: m.class,
            user: m.user,
            time_ms: m.time_ms,
            client_msg_id: m.client_msg_id,
            gone: m.gone,
            combo: m.combo.map(Box::new),
            content,
        })
    }
}
