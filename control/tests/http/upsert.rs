//! Relationships as a backend sets them, over a real store.

use crate::client::Server;

const PATH: &str = "/v1/relations";

#[test]
fn without_a_store_the_answer_says_how_to_get_one() {
    let text = Server::keyed().call("PUT", PATH, r#"{"relations":[]}"#).error(503, "NO_STORE");
    assert!(text.contains("store.url"), "{text}");
}

#[test]
fn all_of_them_stand_or_none() {
    let file = std::env::temp_dir().join(format!("uproar-relations-{}.db", std::process::id()));
    {
        let server = Server::storing(&format!("sqlite:{}", file.display()));
        let good = r#"{"user":"ann","peer":"bob","friends":true}"#;
        for (bad, what) in [
            (r#"{"user":"","peer":"bob"}"#, "relations[1].user has 0 bytes"),
            (r#"{"user":"ann","peer":"ann"}"#, "relations[1]: user and peer are one"),
            (r#"{"user":"ann"}"#, "missing field `peer`"),
            (r#"{"user":"ann","peer":"bob","love":true}"#, "unknown field `love`"),
        ] {
            let body = format!("{{\"relations\":[{good},{bad}]}}");
            let text = server.call("PUT", PATH, &body).error(400, "BAD_REQUEST");
            assert!(text.contains(what), "{text}");
        }
        let many = vec![good; 1001].join(",");
        let body = format!("{{\"relations\":[{many}]}}");
        assert!(server.call("PUT", PATH, &body).error(400, "BAD_REQUEST").contains("1000"));
        // Unusual names are names: bound, never read as SQL.
        let odd =
            r#"{"user":"'; DROP TABLE users; --","peer":"\u202e\ud83d\ude80%_","blocks":true}"#;
        let body = format!("{{\"relations\":[{good},{odd}]}}");
        for _ in 0..2 {
            let answer = server.call("PUT", PATH, &body);
            assert_eq!((answer.status, answer.json()["relations"].as_u64()), (200, Some(2)));
        }
    }
    for ending in ["", "-wal", "-shm", "-lock"] {
        let _ = std::fs::remove_file(format!("{}{ending}", file.display()));
    }
}
