//! The pure parts: names, checks, cursors.

use super::words::{Named, Part, SyncCursor, append, group_id, is_reaction, pulled};
use crate::store::append::Target;
use crate::store::conversations::Kept;
use bytes::Bytes;
use uproar_proto::error::Code;
use uproar_proto::v1::{self, Kind};

#[test]
fn a_conversation_is_a_user_or_a_group() {
    assert_eq!(Named::parse("user:b"), Ok(Named::User("b")));
    assert_eq!(Named::parse("user:user:x"), Ok(Named::User("user:x")), "a name may look like one");
    assert_eq!(Named::parse(&format!("group:{}", group_id(77))), Ok(Named::Group(77)));
    let long = format!("user:{}", "x".repeat(65));
    let negative = "group:ffffffffffffffff";
    for bad in ["", "user:", "b", "group:77", "group:00000000000000AB", &long, negative] {
        assert_eq!(Named::parse(bad), Err(Code::BadConversation), "{bad}");
    }
}

fn send(text: &str) -> v1::Send {
    let client_msg_id = Bytes::from_static(&[7; 16]);
    v1::Send { client_msg_id, text: text.into(), ..v1::Send::default() }
}

#[test]
fn the_hash_is_of_the_content_alone() {
    let of = |send: &v1::Send| append(send, 1, Target::Direct(2), 100).unwrap().hash;
    let one = send("hello");
    let other_id = v1::Send { client_msg_id: Bytes::from_static(&[8; 16]), ..one.clone() };
    assert_eq!(of(&one), of(&v1::Send { conversation: "user:b".into(), ..other_id }));
    assert_ne!(of(&one), of(&send("hello!")));
    let as_data = v1::Send { text: String::new(), data: "hello".into(), ..one.clone() };
    assert_ne!(of(&one), of(&as_data));
}

#[test]
fn what_is_not_well_formed_is_told_before_the_store_is_asked() {
    let file = |url: &str, sha256: &'static [u8]| {
        let sha256 = Bytes::from_static(sha256);
        Some(Box::new(v1::File { url: url.into(), sha256, ..v1::File::default() }))
    };
    let of = |send: v1::Send| append(&send, 1, Target::Direct(2), 100).map(|item| item.kind);
    assert_eq!(of(send("hi")), Ok(Kind::Message));
    assert_eq!(of(v1::Send { file: file("https://a", &[1; 32]), ..send("") }), Ok(Kind::Message));
    for (code, bad) in [
        (Code::Empty, send("")),
        (Code::TooLarge, send(&"x".repeat(101))),
        (Code::TooLarge, v1::Send { file: file(&"x".repeat(1025), b""), ..send("") }),
        (Code::BadRequest, v1::Send { file: file("", b""), ..send("") }),
        (Code::BadRequest, v1::Send { file: file("https://a", &[1; 31]), ..send("") }),
        (Code::BadId, v1::Send { client_msg_id: Bytes::from_static(&[7; 17]), ..send("x") }),
        (Code::BadRequest, v1::Send { kind: 99, ..send("x") }),
        (Code::Forbidden, v1::Send { kind: Kind::Notice.into(), ..send("x") }),
        (Code::BadRequest, v1::Send { kind: Kind::Recall.into(), target_seq: 1, ..send("x") }),
        (Code::BadRequest, v1::Send { target_seq: 1, ..send("x") }),
        (Code::NotFound, v1::Send { kind: Kind::Pin.into(), target_seq: u64::MAX, ..send("") }),
    ] {
        assert_eq!(of(bad.clone()), Err(code), "{bad:?}");
    }
}

#[test]
fn a_kept_message_reads_back_and_a_recalled_one_is_gone() {
    let item = append(&send("hi"), 1, Target::Direct(2), 100).unwrap();
    let kept = Kept {
        seq: 3,
        sender: 1,
        client_msg_id: item.client_msg_id,
        time_ms: 5,
        kind: 0,
        target: 0,
        edited: 9,
        body: Some(item.body),
    };
    let own = pulled(&kept, "ann", true).unwrap();
    assert_eq!((own.text.as_str(), own.edited_seq, own.gone), ("hi", 9, false));
    assert_eq!(own.client_msg_id, send("").client_msg_id);
    assert!(pulled(&kept, "ann", false).unwrap().client_msg_id.is_empty());
    let recalled = pulled(&Kept { body: Some(Vec::new()), ..kept.clone() }, "ann", true).unwrap();
    assert_eq!((recalled.text.as_str(), recalled.gone, recalled.edited_seq), ("", true, 0));
    assert!(pulled(&Kept { body: None, ..kept.clone() }, "ann", true).unwrap().gone, "expired");
    assert!(pulled(&Kept { body: Some(vec![255]), ..kept }, "ann", true).is_err());
}

#[test]
fn a_sync_looks_back_a_little_and_goes_on_where_it_was() {
    let first = SyncCursor::parse("", 100_000).unwrap();
    let at = |since_ms, next_ms, part, after| SyncCursor { since_ms, next_ms, part, after };
    assert_eq!(first, at(0, 70_000, Part::Conversations, 0));
    assert!(first.is_first());
    // Pages of one sync keep its end, however long they take.
    let page = first.next_page(Part::Conversations, 77);
    let second = SyncCursor::parse(&page, 500_000).unwrap();
    assert_eq!(second, at(0, 70_000, Part::Conversations, 77));
    let third = SyncCursor::parse(&second.next_page(Part::Relations, 0), 500_000).unwrap();
    assert_eq!(third, at(0, 70_000, Part::Relations, 0));
    assert!(!second.is_first() && !third.is_first());
    let whole = SyncCursor::parse(&third.next_page(Part::Whole, 5), 500_000).unwrap();
    assert_eq!(whole, at(0, 70_000, Part::Whole, 5));
    let next = SyncCursor::parse(&third.next_sync(), 200_000).unwrap();
    assert_eq!(next, at(70_000, 170_000, Part::Conversations, 0));
    for bad in ["x", "1-2", "1-2-3-4", "1-2-3-r-r", "1-2-3-", "-1", "1--3", &"9".repeat(20)] {
        assert_eq!(SyncCursor::parse(bad, 1), None, "{bad}");
    }
}

#[test]
fn a_reaction_is_a_short_text_that_is_seen() {
    let flag = "\u{1f3f4}\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}";
    let family = "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}";
    let heart = "\u{2764}\u{fe0f}";
    let long = "x".repeat(48);
    for good in ["\u{1f44d}", "+1", ":party:", heart, family, flag, "\u{fdfa}", "e\u{301}", &long] {
        assert!(is_reaction(good), "{good:?}");
    }
    let long = "x".repeat(49);
    let hidden = ["\u{202e}x", "\u{200b}", "\u{200d}", "\u{fe0f}", "a\u{0}", "\u{feff}a", "\u{ad}"];
    for bad in ["", " ", "a b", "a ", "\n", "\t", &long].into_iter().chain(hidden) {
        assert!(!is_reaction(bad), "{bad:?}");
    }
}
