//! Every frame, in every variant, cut at every point, comes out as it went in.

mod common;

use common::{BYTES_MAX, Sent, at_every_split, client_body, received, sent, server_body};
use proptest::prelude::*;
use uproar_proto::error::Code;
use uproar_proto::v1::{self, client_frame, server_frame};
use uproar_proto::wire::{
    Decoder, Incoming, RawFrame, Variant, close_frame, encode_client, encode_server, error_body,
    ping_frame, pong_frame,
};

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 60,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn client_frames_survive_every_variant_and_every_split(
        bodies in prop::collection::vec(client_body(), 1..3),
        mask in any::<[u8; 4]>(),
    ) {
        for variant in Variant::ALL {
            let mut bytes = Vec::new();
            for body in &bodies {
                encode_client(body, variant, mask, &mut bytes);
            }
            let expected: Vec<_> = bodies.iter().cloned().map(Incoming::Frame).collect();
            at_every_split(&bytes, |pieces| {
                let got = received(variant, BYTES_MAX, pieces);
                assert_eq!(got.as_ref(), Ok(&expected), "{variant:?}");
            });
        }
    }

    #[test]
    fn server_frames_survive_every_variant_and_every_split(
        bodies in prop::collection::vec(server_body(), 1..3),
    ) {
        for variant in Variant::ALL {
            let mut bytes = Vec::new();
            for body in &bodies {
                encode_server(body, variant, &mut bytes);
            }
            let expected: Vec<_> =
                bodies.iter().cloned().map(|b| Sent::Frame(Some(Box::new(b)))).collect();
            at_every_split(&bytes, |pieces| {
                assert_eq!(sent(variant, BYTES_MAX, pieces).as_ref(), Ok(&expected), "{variant:?}");
            });
        }
    }
}

fn publish(bytes: usize) -> client_frame::Body {
    client_frame::Body::Publish(v1::Publish {
        room: "r".to_owned(),
        content: Some(v1::publish::Content::Text("x".repeat(bytes))),
        ..v1::Publish::default()
    })
}

#[test]
fn a_frame_of_the_largest_size_passes_and_one_byte_more_does_not() {
    // W-5
    for variant in Variant::ALL {
        for text_bytes in [1, 100, 124, 126, 200, 65_530, 70_000] {
            let mut bytes = Vec::new();
            encode_client(&publish(text_bytes), variant, [1, 2, 3, 4], &mut bytes);
            // What the bound is on: the plain frame, as it is after inflating.
            let plain = match variant {
                Variant::WsProtoDeflate => Variant::WsProto,
                Variant::WsJsonDeflate => Variant::WsJson,
                other => other,
            };
            let mut plain_bytes = Vec::new();
            encode_client(&publish(text_bytes), plain, [0; 4], &mut plain_bytes);
            let header = match (variant, plain_bytes.len()) {
                (Variant::Tcp, n) => 1 + usize::from(n > 128) + usize::from(n > 16_385),
                (_, n) => 6 + if n > 65_549 { 8 } else { 2 * usize::from(n > 131) },
            };
            let frame_bytes = plain_bytes.len() - header;
            assert!(received(variant, frame_bytes, &[&bytes]).is_ok(), "{variant:?} {text_bytes}");
            let refused = received(variant, frame_bytes - 1, &[&bytes]);
            assert_eq!(refused, Err(Code::FrameTooLarge), "{variant:?} {text_bytes}");
        }
    }
}

#[test]
fn a_frame_that_is_too_large_is_refused_by_its_header_alone() {
    // W-5: 1,000,001 bytes announced, none of them sent.
    let masked = [0x82, 0xff, 0, 0, 0, 0, 0, 0x0f, 0x42, 0x41];
    for (variant, header) in [
        (Variant::Tcp, &[0xc1, 0x84, 0x3d][..]),
        (Variant::Tcp, &[0xff, 0xff, 0xff, 0xff]),
        (Variant::WsProto, &[&masked[..], &[0; 4]].concat()),
    ] {
        assert_eq!(received(variant, 1_000_000, &[header]), Err(Code::FrameTooLarge));
    }
}

#[test]
fn an_error_ends_the_stream_for_good() {
    // W-29
    let mut good = Vec::new();
    encode_client(&client_frame::Body::Ping(v1::Ping {}), Variant::Tcp, [0; 4], &mut good);
    let mut decoder = Decoder::new(Variant::Tcp, BYTES_MAX);
    decoder.feed(&[3, 0xff, 0xff, 0xff]);
    assert_eq!(decoder.next(), Err(Code::BadFrame));
    decoder.feed(&good);
    assert_eq!(decoder.next(), Err(Code::BadFrame));
    assert_eq!((decoder.bytes_used(), decoder.is_idle()), (0, false));
}

#[test]
fn unknown_kinds_and_fields_are_ignored() {
    // W-12: field 100 of a frame; a join with field 100; the same in JSON.
    let join = client_frame::Body::Join(v1::Join { room: "a".to_owned(), resume: None });
    let known = Ok(vec![Incoming::Frame(join)]);
    for (bytes, expected) in [
        (&[4, 0xa2, 0x06, 0x01, b'x'][..], Ok(vec![Incoming::Unknown])),
        (&[0], Ok(vec![Incoming::Unknown])),
        (&[9, 0x12, 0x07, 0x0a, 0x01, b'a', 0xa2, 0x06, 0x01, b'x'], known.clone()),
    ] {
        assert_eq!(received(Variant::Tcp, BYTES_MAX, &[bytes]), expected, "{bytes:02x?}");
    }
    for (json, expected) in [
        (r#"{"dance":{"with":["me"]}}"#, Ok(vec![Incoming::Unknown])),
        (r#"{}"#, Ok(vec![Incoming::Unknown])),
        (r#" {"join": {"room":"a", "mood":{"x":null}} , "v": 7} "#, known),
    ] {
        assert_eq!(json_received(json.as_bytes()), expected, "{json}");
    }
    let unknown =
        [0x81, 0x0c, b'{', b'"', b'd', b'a', b'n', b'c', b'e', b'"', b':', b'1', b'}', b' '];
    assert_eq!(sent(Variant::WsJson, BYTES_MAX, &[&unknown]), Ok(vec![Sent::Frame(None)]));
}

/// What a server makes of one JSON text message.
fn json_received(json: &[u8]) -> Result<Vec<Incoming>, Code> {
    let mut bytes = vec![0x81, 0xfe];
    bytes.extend_from_slice(&u16::try_from(json.len()).unwrap().to_be_bytes());
    if json.len() < 126 {
        bytes = vec![0x81, 0x80 | u8::try_from(json.len()).unwrap()];
    }
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(json);
    received(Variant::WsJson, BYTES_MAX, &[&bytes])
}

#[test]
fn json_that_is_not_a_frame_is_a_bad_frame() {
    for json in [
        "",
        "nonsense",
        "[]",
        "7",
        r#"{"join":{"room":"a"}"#,
        r#"{"join":null}"#,
        r#"{"join":["a"]}"#,
        r#"{"join":{"room":"a","resume":["00000000000000aa",1]}}"#,
        r#"{"connect":{"join":[["a"]]}}"#,
        r#"{"join":{"room":7}}"#,
        r#"{"join":{"room":"a","room":"b"}}"#,
        r#"{"join":{"room":"a"}} {}"#,
        r#"{"join":{"room":"a"},"leave":{"room":"a"}}"#, // W-13
        r#"{"publish":{"text":"a","data":"YQ=="}}"#,     // W-18
        r#"{"publish":{"data":"Y%=="}}"#,                // W-15
        r#"{"join":{"room":"a","resume":{"epoch":17,"seq":1}}}"#, // W-14
        r#"{"join":{"room":"a","resume":{"epoch":"+00000000000001f","seq":1}}}"#, // W-14
        r#"{"join":{"room":"a","resume":{"epoch":"1f","seq":1}}}"#, // W-14
        r#"{"join":{"room":"a","resume":{"seq":-1}}}"#,
        r#"{"join":{"room":"a","resume":{"seq":1.5}}}"#,
    ] {
        assert_eq!(json_received(json.as_bytes()), Err(Code::BadFrame), "{json}");
    }
    let deep = "[".repeat(100_000);
    let deep = format!("{{\"x\":{deep}}}");
    assert_eq!(json_received(&deep.as_bytes()[..60_000]), Err(Code::BadFrame));
}

#[test]
fn json_may_leave_out_what_is_default_and_padding() {
    // W-15, W-19, W-20
    let expected = v1::Publish {
        room: "a".to_owned(),
        class: v1::Class::Gift.into(),
        client_msg_id: bytes::Bytes::from_static(b"abcd"),
        count: 0,
        gift: String::new(),
        content: None,
    };
    for json in [
        r#"{"publish":{"room":"a","class":"gift","client_msg_id":"YWJjZA=="}}"#,
        r#"{"publish":{"class":2,"room":"a","client_msg_id":"YWJjZA"}}"#,
        r#"{"publish":{"class":"gift","room":"\u0061","client_msg_id":"YWJj\u005aA","count":0}}"#,
    ] {
        let body = client_frame::Body::Publish(expected.clone());
        assert_eq!(json_received(json.as_bytes()), Ok(vec![Incoming::Frame(body)]), "{json}");
    }
    let nothing = client_frame::Body::Publish(v1::Publish::default());
    assert_eq!(json_received(br#"{"publish":{}}"#), Ok(vec![Incoming::Frame(nothing)]));
}

#[test]
fn a_word_this_version_does_not_know_is_no_value_of_the_enum() {
    // W-19
    let got = json_received(br#"{"publish":{"class":"serenade"}}"#).unwrap();
    let Incoming::Frame(client_frame::Body::Publish(publish)) = &got[0] else {
        panic!("{got:?}");
    };
    assert!(v1::Class::try_from(publish.class).is_err());
}

/// The JSON a server frame is written as.
fn json_of(body: &server_frame::Body) -> String {
    let mut bytes = Vec::new();
    encode_server(body, Variant::WsJson, &mut bytes);
    let header = if bytes[1] == 126 { 4 } else { 2 };
    String::from_utf8(bytes.split_off(header)).unwrap()
}

#[test]
fn json_always_shows_what_a_reader_needs() {
    // W-20: defaults throughout.
    use server_frame::Body;
    let message = v1::Message::default();
    for (body, expected) in [
        (
            Body::Batch(v1::Batch { messages: vec![message], ..Default::default() }),
            concat!(
                r#"{"batch":{"room":"","epoch":"0000000000000000","messages":"#,
                r#"[{"seq":0,"class":"chat","user":"","time_ms":0}]}}"#
            ),
        ),
        (
            Body::Joined(v1::Joined::default()),
            concat!(
                r#"{"joined":{"room":"","epoch":"0000000000000000","seq":0,"messages":[],"#,
                r#""attributes":{},"viewers":0,"likes":0,"resumed":false}}"#
            ),
        ),
        (
            Body::Verdicts(v1::Verdicts {
                room: "a".to_owned(),
                verdicts: vec![v1::Verdict::default()],
            }),
            r#"{"verdicts":{"room":"a","verdicts":[{"client_msg_id":"","outcome":"accepted"}]}}"#,
        ),
        (
            Body::Gap(v1::Gap::default()),
            concat!(
                r#"{"gap":{"room":"","epoch":"0000000000000000","#,
                r#""from_seq":0,"to_seq":0,"reason":"slow"}}"#
            ),
        ),
        (Body::Count(v1::Count::default()), r#"{"count":{"room":""}}"#),
        (
            Body::Count(v1::Count { likes: Some(0), ..Default::default() }),
            r#"{"count":{"room":"","likes":0}}"#,
        ),
        (Body::Pong(v1::Pong {}), r#"{"pong":{}}"#),
        (Body::Left(v1::Left::default()), r#"{"left":{"room":""}}"#),
        (Body::Reconnect(v1::Reconnect::default()), r#"{"reconnect":{"spread_ms":0}}"#),
        (
            error_body(Code::Draining),
            concat!(
                r#"{"error":{"code":4003,"name":"DRAINING","#,
                r#""text":"the server is going away; reconnect after a random wait","retry":true}}"#
            ),
        ),
    ] {
        assert_eq!(json_of(&body), expected);
    }
}

#[test]
fn long_messages_are_compressed_and_short_ones_are_not() {
    // W-26
    for (text, compressed) in [("a".repeat(20), false), ("a".repeat(500), true)] {
        for variant in [Variant::WsProtoDeflate, Variant::WsJsonDeflate] {
            let mut bytes = Vec::new();
            let attributes = [("k".to_owned(), text.clone())].into();
            let joined = v1::Joined { attributes, ..Default::default() };
            encode_server(&server_frame::Body::Joined(joined), variant, &mut bytes);
            let long = compressed || variant.is_json(); // the JSON of an empty snapshot is long
            assert_eq!(bytes[0] & 0x40 != 0, long, "{variant:?} {}", text.len());
        }
    }
}

#[test]
fn noise_goes_uncompressed_since_deflate_would_lengthen_it() {
    // W-26
    let noise: Vec<u8> = (0..400_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761).rotate_left(i % 31) >> 13) as u8)
        .collect();
    let mut bytes = Vec::new();
    let publish = v1::Publish {
        content: Some(v1::publish::Content::Data(noise.into())),
        ..v1::Publish::default()
    };
    let body = client_frame::Body::Publish(publish);
    encode_client(&body, Variant::WsProtoDeflate, [7; 4], &mut bytes);
    assert_eq!(bytes[0], 0x82);
    assert_eq!(
        received(Variant::WsProtoDeflate, BYTES_MAX, &[&bytes]),
        Ok(vec![Incoming::Frame(body)])
    );
}

#[test]
fn a_decoder_is_idle_exactly_between_frames() {
    let mut bytes = Vec::new();
    encode_client(&publish(40), Variant::WsProto, [1; 4], &mut bytes);
    let mut decoder = Decoder::new(Variant::WsProto, BYTES_MAX);
    for (i, byte) in bytes.iter().enumerate() {
        assert_eq!(decoder.is_idle(), i == 0, "after {i} bytes");
        decoder.feed(&[*byte]);
        let whole = i + 1 == bytes.len();
        assert_eq!(decoder.next().unwrap().is_some(), whole);
    }
    assert!(decoder.is_idle());
    // A fragment alone is something kept, even an empty one.
    decoder.feed(&[0x02, 0x80, 0, 0, 0, 0]);
    assert_eq!(decoder.next(), Ok(None));
    assert!(!decoder.is_idle());
}

#[test]
fn control_frames_are_of_websocket_only() {
    let mut bytes = Vec::new();
    close_frame(Variant::Tcp, 1000, "bye", &mut bytes);
    assert!(bytes.is_empty());
    close_frame(Variant::WsJson, 1012, &"\u{fc}".repeat(100), &mut bytes);
    assert_eq!(bytes.len(), 2 + 2 + 122, "a reason is cut between characters");
    close_frame(Variant::WsJson, 1005, "not sent", &mut bytes);
    assert_eq!(bytes[126..], [0x88, 0]);
    bytes.truncate(0);
    ping_frame(b"p", &mut bytes);
    pong_frame(b"", &mut bytes);
    close_frame(Variant::WsProto, 1012, "later", &mut bytes);
    let all = vec![Sent::Ping(b"p".to_vec()), Sent::Pong, Sent::Close(Some(1012))];
    assert_eq!(sent(Variant::WsProto, BYTES_MAX, &[&bytes]), Ok(all));
}

#[test]
fn equal_frames_are_equal_bytes_and_are_handed_out_as_they_came() {
    let body = error_body(Code::Internal);
    let (mut once, mut twice) = (Vec::new(), Vec::new());
    encode_server(&body, Variant::WsJsonDeflate, &mut once);
    encode_server(&body, Variant::WsJsonDeflate, &mut twice);
    assert_eq!(once, twice);
    let mut decoder = uproar_proto::wire::ClientDecoder::new(Variant::WsJsonDeflate, BYTES_MAX);
    decoder.feed(&once);
    let Ok(Some(RawFrame::Message { payload, compressed })) = decoder.next_raw() else {
        panic!("one message");
    };
    assert_eq!((payload, compressed), (&once[2..], once[0] & 0x40 != 0));
}

#[test]
fn variants_have_their_place_in_tables() {
    for (i, variant) in Variant::ALL.into_iter().enumerate() {
        assert_eq!(variant.index(), i);
        assert_eq!(Variant::from_index(i), Some(variant));
        assert_eq!(variant.is_websocket(), i > 0);
    }
    assert_eq!(Variant::from_index(5), None);
}
