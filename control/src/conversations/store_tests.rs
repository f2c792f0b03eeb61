//! Sends through the workers against every store, with an engine that only listens.

use super::{Conversations, Rules};
use crate::config::GroupsConfig;
use crate::listener::Listener;
use crate::relations::Policy;
use crate::store::testing::on_both;
use crate::store::{Store, users};
use crate::webhooks::Webhooks;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use uproar_proto::control::{Ask, Asked, ConnectionId, Control as _, Engine, Tell};
use uproar_proto::error::Code;
use uproar_proto::v1::{self, client_frame, server_frame::Body};

/// Waits for the answers to so many sends: seq or code, by connection.
async fn answers(engine: &Listener, count: usize) -> BTreeMap<u32, Result<u64, u32>> {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let mut answers = BTreeMap::new();
        for tell in engine.told().iter() {
            let Tell::Answer { to, frames, .. } = tell else { continue };
            let [Body::Sent(sent)] = &frames[..] else { panic!("{frames:?}") };
            let result = if sent.code == 0 { Ok(sent.seq) } else { Err(sent.code) };
            assert_eq!(answers.insert(to.conn, result), None, "one answer for each");
        }
        if answers.len() == count {
            return answers;
        }
        assert!(Instant::now() < end, "{answers:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The database itself refuses this message, for a reason no rule knows.
async fn refuse(store: &Store, id: u64) {
    let trigger = match store.dialect() {
        crate::store::Dialect::Sqlite => format!(
            "CREATE TRIGGER bad BEFORE INSERT ON message_index WHEN NEW.id_low = {id}
                BEGIN SELECT RAISE(ABORT, 'bad'); END"
        ),
        crate::store::Dialect::Mysql => format!(
            "CREATE TRIGGER bad BEFORE INSERT ON message_index FOR EACH ROW
                IF NEW.id_low = {id} THEN SIGNAL SQLSTATE '45000'; END IF"
        ),
    };
    let made = store.write(move |conn| {
        let trigger = sqlx::AssertSqlSafe(trigger.clone());
        Box::pin(async move { Ok(sqlx::raw_sql(trigger).execute(conn).await.map(|_| ())?) })
    });
    made.await.unwrap();
}

#[test]
fn one_bad_send_never_fails_its_batch() {
    const MANY: u32 = 40;
    const BAD: u32 = 20;
    on_both(|store| async move {
        refuse(&store, u64::from(BAD)).await;
        let dialect = store.dialect();
        for name in ["ann", "bob"] {
            let user = store
                .write(move |conn| Box::pin(users::find_or_insert(conn, dialect, ("", name), 1)));
            user.await.unwrap().unwrap();
        }
        let rules = Rules {
            policy: Policy::Anyone,
            payload_bytes_max: 100,
            groups: GroupsConfig::default(),
        };
        let service = Conversations::new(Arc::clone(&store), rules, Webhooks::default());
        let engine = Arc::new(Listener::default());
        service.serve(Arc::clone(&engine) as Arc<dyn Engine>);
        // Each from a connection of its own; they come faster than they are stored.
        for conn in 0..MANY {
            let mut id = [0; 16];
            id[12..].copy_from_slice(&conn.to_be_bytes());
            let send = v1::Send {
                conversation: "user:bob".into(),
                client_msg_id: Bytes::copy_from_slice(&id),
                text: "hello".into(),
                ..v1::Send::default()
            };
            let from = ConnectionId { node: 0, shard: 0, conn, serial: u64::from(conn) };
            let what = Asked::Frame(client_frame::Body::Send(send));
            service.ask(Ask { from, number: 0, user: Arc::from("ann"), what });
        }
        let mut answers = answers(&engine, MANY as usize).await;
        assert_eq!(answers.remove(&BAD), Some(Err(Code::StoreDown.number())));
        let seqs: Vec<u64> = answers.into_values().map(Result::unwrap).collect();
        assert_eq!(seqs, (1..u64::from(MANY)).collect::<Vec<u64>>(), "in the order they came");
    });
}
